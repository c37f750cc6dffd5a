//! The one clock. Everything else that wants the time asks here; clippy forbids the other ways.
//!
//! The wall clock decides only whether due is reached. The due loop sleeps on a `CLOCK_REALTIME` timerfd that is cancelled
//! when the clock is set, so that a step or a resume wakes it at once; everything else is measured on `CLOCK_BOOTTIME`,
//! which counts suspended time and is never set. Nothing computes `due - now` once and sleeps that long.
//!
//! Whether the wall clock can be right at all, the kernel knows ([`Clock::synchronised`]).
//!
//! In debug builds a test may step the wall clock of the process (`stepped`).

#[cfg(debug_assertions)]
#[path = "clock/stepped.rs"]
mod steps;
#[cfg(not(debug_assertions))]
#[path = "clock/unstepped.rs"]
mod steps;

mod kernel;

use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;

use async_trait::async_trait;
use rustix::io::Errno;
use rustix::time::{
    ClockId, DynamicClockId, Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec,
    clock_gettime, clock_gettime_dynamic, timerfd_create, timerfd_settime,
};
use tokio::io::unix::AsyncFd;

use crate::job::{BootMs, Now, UtcMs, Wake};

/// Both clocks, now, in whole milliseconds rounded down: never ahead of the true time, so never early.
pub fn system_now() -> Now {
    let boot =
        clock_gettime_dynamic(DynamicClockId::Boottime).unwrap_or_else(|_| clock_gettime(ClockId::Monotonic));
    let wall = millis(clock_gettime(ClockId::Realtime)) + steps::offset_ms();
    Now { wall: UtcMs(wall), boot: BootMs(millis(boot)) }
}

/// The wall clock in microseconds, for measurements.
pub fn wall_micros() -> i64 {
    let at = clock_gettime(ClockId::Realtime);
    at.tv_sec * 1_000_000 + at.tv_nsec / 1_000 + steps::offset_ms() * 1_000
}

/// Boottime in microseconds, for measurements.
pub fn boot_micros() -> i64 {
    let at =
        clock_gettime_dynamic(DynamicClockId::Boottime).unwrap_or_else(|_| clock_gettime(ClockId::Monotonic));
    at.tv_sec * 1_000_000 + at.tv_nsec / 1_000
}

fn millis(at: Timespec) -> i64 {
    at.tv_sec * 1_000 + at.tv_nsec / 1_000_000
}

/// Where the engine reads the time, and waits for it. What is not overridden is the machine's own.
#[async_trait]
pub trait Clock: Send + Sync + 'static {
    fn now(&self) -> Now;

    /// Does a time service keep the wall clock? `None`: that cannot be found out here.
    fn synchronised(&self) -> Option<bool> {
        kernel::is_synchronised()
    }

    /// Must be called within a tokio runtime.
    fn alarm(&self) -> io::Result<Box<dyn Alarm>> {
        Ok(Box::new(TimerAlarm::new()?))
    }

    /// For bounds on waiting, never for what is due.
    async fn sleep(&self, pause: Duration) {
        let endless = tokio::time::timeout(pause, std::future::pending::<()>());
        // It only ever ends by the time.
        let _ = endless.await;
    }
}

/// The machine's own clocks.
#[derive(Clone, Copy, Debug)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Now {
        system_now()
    }
}

/// Why an [`Alarm`] rang.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ring {
    /// A time that it was set to has come.
    Due,
    /// The wall clock was set, or the machine resumed: look at everything again.
    ClockSet,
}

/// Wakes the due loop. It has to be set again after every ring.
#[async_trait]
pub trait Alarm: Send + Sync {
    /// Sets the times of both clocks. Without a time on the wall it still hears of clock steps.
    fn set(&self, wake: Wake) -> io::Result<()>;

    async fn ring(&self) -> io::Result<Ring>;
}

/// The kernel's timers.
#[derive(Debug)]
pub struct TimerAlarm {
    wall: AsyncFd<OwnedFd>,
    boot: AsyncFd<OwnedFd>,
    steps: steps::Steps,
}

impl TimerAlarm {
    /// Must be called within a tokio runtime.
    pub fn new() -> io::Result<TimerAlarm> {
        let timer = |clock| {
            let fd = timerfd_create(clock, TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC)?;
            #[expect(
                deprecated,
                reason = "its successor is unsafe; an OwnedFd that never leaves keeps the promise"
            )]
            AsyncFd::new(fd)
        };
        let (wall, boot) = (timer(TimerfdClockId::Realtime)?, timer(TimerfdClockId::Boottime)?);
        Ok(TimerAlarm { wall, boot, steps: steps::Steps::new()? })
    }
}

#[async_trait]
impl Alarm for TimerAlarm {
    fn set(&self, wake: Wake) -> io::Result<()> {
        let wall = wake.wall.unwrap_or(UtcMs::MAX).0 - steps::offset_ms();
        let flags = TimerfdTimerFlags::ABSTIME | TimerfdTimerFlags::CANCEL_ON_SET;
        set_timer(&self.wall, flags, wall)?;
        set_timer(&self.boot, TimerfdTimerFlags::ABSTIME, wake.boot.map_or(i64::MAX / 2_000_000, |at| at.0))
    }

    async fn ring(&self) -> io::Result<Ring> {
        tokio::select! {
            ring = expired(&self.wall) => ring,
            ring = expired(&self.boot) => ring,
            step = self.steps.step() => step.map(|()| Ring::ClockSet),
        }
    }
}

fn set_timer(timer: &AsyncFd<OwnedFd>, flags: TimerfdTimerFlags, at_ms: i64) -> io::Result<()> {
    // A value of zero would disarm the timer; anything past rings at once.
    let at_ms = at_ms.max(1);
    let value = Timespec { tv_sec: at_ms / 1_000, tv_nsec: at_ms % 1_000 * 1_000_000 };
    let interval = Timespec { tv_sec: 0, tv_nsec: 0 };
    match timerfd_settime(timer, flags, &Itimerspec { it_interval: interval, it_value: value }) {
        // The clock was set since the last call. The timer is armed all the same, at the right absolute time.
        Ok(_) | Err(Errno::CANCELED) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

async fn expired(timer: &AsyncFd<OwnedFd>) -> io::Result<Ring> {
    loop {
        let mut ready = timer.readable().await?;
        let read = ready.try_io(|timer| {
            let mut expirations = [0_u8; 8];
            rustix::io::read(timer, &mut expirations).map_err(io::Error::from)
        });
        match read {
            Ok(Ok(_)) => return Ok(Ring::Due),
            Ok(Err(error)) if error.raw_os_error() == Some(Errno::CANCELED.raw_os_error()) => {
                return Ok(Ring::ClockSet);
            }
            Ok(Err(error)) => return Err(error),
            Err(_would_block) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn rings_at_the_time_on_the_wall_and_never_before() {
        let alarm = TimerAlarm::new().unwrap();
        let at = system_now().wall + Duration::from_millis(30);
        alarm.set(Wake { wall: Some(at), boot: None }).unwrap();
        assert_eq!(alarm.ring().await.unwrap(), Ring::Due);
        assert!(system_now().wall >= at);
    }

    #[tokio::test]
    async fn rings_on_boottime_and_at_once_for_the_past() {
        let alarm = TimerAlarm::new().unwrap();
        let at = system_now().boot + Duration::from_millis(30);
        alarm.set(Wake { wall: None, boot: Some(at) }).unwrap();
        assert_eq!(alarm.ring().await.unwrap(), Ring::Due);
        assert!(system_now().boot >= at);
        alarm.set(Wake { wall: Some(UtcMs(0)), boot: None }).unwrap();
        assert_eq!(alarm.ring().await.unwrap(), Ring::Due);
    }
}
