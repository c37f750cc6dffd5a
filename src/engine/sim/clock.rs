//! Time in a simulation: it stands still while any task can run, and jumps to the next timer when none can.
//!
//! *True* time counts milliseconds since the start of the history and never goes back. Boottime is true time since the
//! last (re)boot; the wall clock is true time and whatever somebody set it to.

use std::collections::BTreeMap;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use async_trait::async_trait;

use crate::clock::{Alarm, Clock, Ring};
use crate::job::{BootMs, Now, UtcMs, Wake};

/// True time, in milliseconds.
pub type Ms = i64;

/// The wall clock at true time zero, 2026-03-01T09:00:00Z.
pub const EPOCH: i64 = 1_772_355_600_000;
/// Boottime at the start and after a reboot.
const BOOT: i64 = 30_000;
/// Rings of the alarm at one instant; more are a busy loop.
const RINGS_AT_ONCE: u32 = 500;
/// How long the engine may go by an old wall clock after a step.
const DISBELIEF: Ms = 301_000;

/// The clocks of the simulated machine, and everything that waits for them.
pub struct SimClock(Mutex<Inner>);

#[derive(Default)]
struct Inner {
    now: Ms,
    /// Every setting of the wall clock: from when, and how far off the truth.
    offsets: Vec<(Ms, i64)>,
    boot_origin: Ms,
    timers: BTreeMap<(Ms, u64), Waker>,
    timers_made: u64,
    sets: u64,
    alarm: Option<Waker>,
    rings: (Ms, u32),
    busy: bool,
    /// What a lying clock is ahead by.
    ahead: i64,
}

impl SimClock {
    /// `at_start`: what the wall clock is off by when the machine comes up.
    pub fn new(ahead: i64, at_start: i64) -> SimClock {
        let offsets = vec![(0, at_start)];
        SimClock(Mutex::new(Inner { offsets, boot_origin: -BOOT, ahead, ..Inner::default() }))
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap()
    }

    pub fn truth(&self) -> Ms {
        self.inner().now
    }

    pub fn wall(&self) -> UtcMs {
        let inner = self.inner();
        UtcMs(EPOCH + inner.now + inner.offset())
    }

    /// The least that a reading of the wall clock at this time may be taken for.
    pub fn wall_or_old_wall(&self, at: Ms) -> UtcMs {
        let inner = self.inner();
        let last = inner.offsets.partition_point(|(from, _)| *from <= at);
        let first = inner.offsets.partition_point(|(from, _)| *from < at - DISBELIEF);
        let least = inner.offsets[first.saturating_sub(1)..last].iter().map(|(_, offset)| *offset).min();
        UtcMs(EPOCH + at + least.unwrap_or(0))
    }

    /// When the wall clock, as it is set now, shows this.
    pub fn truth_of(&self, wall: UtcMs) -> Ms {
        wall.0 - EPOCH - self.inner().offset()
    }

    pub fn truth_of_boot(&self, boot: BootMs) -> Ms {
        boot.0 + self.inner().boot_origin
    }

    /// Where the alarm rang again and again while time stood still.
    pub fn is_busy_loop(&self) -> bool {
        self.inner().busy
    }

    pub fn step_wall(&self, by: i64) {
        let mut inner = self.inner();
        let (now, offset) = (inner.now, inner.offset() + by);
        inner.offsets.push((now, offset));
        inner.sets += 1;
        if let Some(alarm) = inner.alarm.take() {
            alarm.wake();
        }
    }

    /// Time passes and nothing runs.
    pub fn pass(&self, by: Ms) {
        self.inner().now += by;
    }

    /// A new process, perhaps on a machine that was started anew.
    pub fn restart(&self, reboot: bool) {
        let mut inner = self.inner();
        inner.timers.clear();
        inner.alarm = None;
        inner.rings = (inner.now, 0);
        if reboot {
            inner.boot_origin = inner.now - BOOT;
        }
    }

    /// Nothing can run: on to the next timer. Timers of one instant go off in a shuffled, repeatable order.
    pub fn idle(&self) {
        let mut inner = self.inner();
        if let Some(((at, _), waker)) = inner.timers.pop_first() {
            inner.now = inner.now.max(at);
            drop(inner);
            waker.wake();
        }
    }

    pub fn until(self: &Arc<SimClock>, at: Ms) -> Timer {
        Timer { clock: self.clone(), at, key: None }
    }

    pub fn wait(self: &Arc<SimClock>, pause: Ms) -> Timer {
        self.until(self.truth() + pause)
    }
}

impl Inner {
    fn offset(&self) -> i64 {
        self.offsets.last().map_or(0, |(_, offset)| *offset)
    }

    fn when(&self, wake: Wake) -> Option<Ms> {
        let wall = wake.wall.map(|at| at.0 - EPOCH - self.offset() - self.ahead);
        let boot = wake.boot.map(|at| at.0 + self.boot_origin);
        [wall, boot].into_iter().flatten().min()
    }

    /// Not more than the alarm of a machine that gets anything done.
    fn may_ring(&mut self) -> bool {
        let rings = if self.rings.0 == self.now { self.rings.1 + 1 } else { 1 };
        self.rings = (self.now, rings);
        self.busy |= rings > RINGS_AT_ONCE;
        !self.busy
    }
}

/// Ends at a true time.
pub struct Timer {
    clock: Arc<SimClock>,
    at: Ms,
    key: Option<(Ms, u64)>,
}

impl Future for Timer {
    type Output = ();

    fn poll(mut self: Pin<&mut Timer>, cx: &mut Context<'_>) -> Poll<()> {
        let clock = self.clock.clone();
        let mut inner = clock.inner();
        if inner.now >= self.at {
            return Poll::Ready(());
        }
        let key = self.key.unwrap_or_else(|| {
            inner.timers_made += 1;
            (self.at, inner.timers_made.wrapping_mul(0x9e37_79b9_7f4a_7c15))
        });
        self.key = Some(key);
        inner.timers.insert(key, cx.waker().clone());
        Poll::Pending
    }
}

impl Drop for Timer {
    fn drop(&mut self) {
        if let Some(key) = self.key {
            let gone = self.clock.inner().timers.remove(&key);
            // A waker may own what drops more timers.
            drop(gone);
        }
    }
}

/// The clocks as a process sees them.
pub struct MachineClock(pub Arc<SimClock>);

#[async_trait]
impl Clock for MachineClock {
    fn now(&self) -> Now {
        let inner = self.0.inner();
        Now {
            wall: UtcMs(EPOCH + inner.now + inner.offset() + inner.ahead),
            boot: BootMs(inner.now - inner.boot_origin),
        }
    }

    /// What the machine under the simulation knows must not make two runs of one history differ.
    fn synchronised(&self) -> Option<bool> {
        None
    }

    fn alarm(&self) -> io::Result<Box<dyn Alarm>> {
        let set_to = Mutex::new((Wake::default(), 0));
        Ok(Box::new(SimAlarm { clock: self.0.clone(), set_to }))
    }

    async fn sleep(&self, pause: Duration) {
        self.0.wait(i64::try_from(pause.as_millis()).unwrap_or(i64::MAX / 4)).await;
    }
}

struct SimAlarm {
    clock: Arc<SimClock>,
    /// And how often the clock had been set by then.
    set_to: Mutex<(Wake, u64)>,
}

#[async_trait]
impl Alarm for SimAlarm {
    fn set(&self, wake: Wake) -> io::Result<()> {
        *self.set_to.lock().unwrap() = (wake, self.clock.inner().sets);
        Ok(())
    }

    async fn ring(&self) -> io::Result<Ring> {
        let mut timer: Option<Timer> = None;
        std::future::poll_fn(|cx| {
            let (wake, sets) = *self.set_to.lock().unwrap();
            let at = {
                let mut inner = self.clock.inner();
                if inner.sets != sets {
                    return Poll::Ready(Ok(Ring::ClockSet));
                }
                let at = inner.when(wake);
                if at.is_some_and(|at| at <= inner.now) {
                    return if inner.may_ring() { Poll::Ready(Ok(Ring::Due)) } else { Poll::Pending };
                }
                inner.alarm = Some(cx.waker().clone());
                at
            };
            timer = at.map(|at| self.clock.until(at));
            match timer.as_mut().map(|timer| Pin::new(timer).poll(cx)) {
                Some(Poll::Ready(())) => Poll::Ready(Ok(Ring::Due)),
                _ => Poll::Pending,
            }
        })
        .await
    }
}
