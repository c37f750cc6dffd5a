//! What is done now and then: new occurrences of the schedule become jobs, calendars are read again, done jobs are forgotten
//! when their retention is over, and it is noticed when the store has become much larger than what is in it.
//!
//! tokio-cron-scheduler keeps the rhythm, in UTC. It holds no deadline: a missed or a doubled tick only comes later or
//! finds nothing to do. Its next ticks are instants of the wall clock, so a clock that is set back by an hour would keep it
//! silent for that hour: whenever the clock is set, it is made anew. What deadlines hang on more closely, the sweeps, has a
//! rhythm of its own in the engine.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Context;
use tokio::sync::Mutex;
use tokio::task::JoinHandle;
use tokio_cron_scheduler::{Job as Tick, JobScheduler};
use tokio_util::sync::CancellationToken;

use crate::clock::{Alarm, Clock, Ring};
use crate::engine::{Current, Handle};
use crate::feeds::Reader;
use crate::job::{BootMs, UtcMs, Wake};
use crate::schedule::{Feeds, Source};
use crate::store::{Change, Queue, Store, StoreError};

/// Occurrences become jobs days ahead: this need not be on time. Off the full minute, when meetings end.
const EXPAND: &str = "20 */5 * * * *";
/// Is it time to read the calendars again?
const FEEDS: &str = "50 * * * * *";
/// A tick that comes this early is on time.
const EARLY: Duration = Duration::from_secs(20);
/// Every hour, off the full hour.
const SWEEP: &str = "0 37 * * * *";
/// Every day, when few meetings end.
const SIZE: &str = "40 52 3 * * *";
/// Jobs forgotten in one batch; between batches the writer serves others.
const SWEEP_BATCH: usize = 500;
/// Ticks that may wait; the library's own default loses some in bursts.
const CHANNEL: usize = 8_192;
/// After a scheduler could not be made: the next try.
const MAKE_AGAIN: Duration = Duration::from_secs(60);

/// The housekeeping that runs.
pub struct Housekeeping {
    keeper: JoinHandle<()>,
    stop: CancellationToken,
}

impl Housekeeping {
    /// Nothing is begun any more; what is under way goes on beside the rest of a drain.
    pub async fn shutdown(self) {
        self.stop.cancel();
        // It only ends badly if one of the chores' schedulers does, which matters no more.
        let _ = self.keeper.await;
    }
}

/// Starts it.
pub async fn start(
    handle: Handle,
    store: Arc<Queue>,
    reader: Arc<Reader>,
    clock: Arc<dyn Clock>,
) -> anyhow::Result<Housekeeping> {
    let alarm = clock.alarm().context("starting the housekeeping")?;
    let rhythm = Rhythm { chores: chores(handle, store, reader) };
    let scheduler = rhythm.scheduler().await?;
    let stop = CancellationToken::new();
    let keeper = tokio::spawn(keep(rhythm, scheduler, alarm, clock, stop.clone()));
    Ok(Housekeeping { keeper, stop })
}

type Doing = Pin<Box<dyn Future<Output = ()> + Send>>;

/// One thing that is done now and then.
struct Chore {
    /// When, in UTC.
    cron: &'static str,
    what: &'static str,
    work: Arc<dyn Fn() -> Doing + Send + Sync>,
}

impl Chore {
    fn new<F>(cron: &'static str, what: &'static str, work: impl Fn() -> F + Send + Sync + 'static) -> Chore
    where
        F: Future<Output = ()> + Send + 'static,
    {
        Chore { cron, what, work: Arc::new(move || Box::pin(work())) }
    }
}

fn chores(handle: Handle, store: Arc<Queue>, reader: Arc<Reader>) -> Vec<Chore> {
    let feeds = Arc::new(Refresh { handle: handle.clone(), reader, last: Mutex::default() });
    let asked = feeds.clone();
    tokio::spawn(async move { asked.at_once().await });
    let expanding = handle.clone();
    let sweeping = store.clone();
    let told = Arc::new(AtomicBool::new(false));
    vec![
        Chore::new(EXPAND, "the schedule", move || {
            let handle = expanding.clone();
            async move { expand(&handle).await }
        }),
        Chore::new(FEEDS, "the calendars", move || {
            let feeds = feeds.clone();
            async move { feeds.if_due().await }
        }),
        Chore::new(SWEEP, "the sweep", move || {
            let (handle, store) = (handle.clone(), sweeping.clone());
            async move { forget_old(&handle, store).await }
        }),
        Chore::new(SIZE, "the look at the store", move || {
            let (store, told) = (store.clone(), told.clone());
            async move { look_at_size(store, &told).await }
        }),
    ]
}

/// What is done, and how often.
struct Rhythm {
    chores: Vec<Chore>,
}

impl Rhythm {
    /// A scheduler that runs until it is shut down.
    async fn scheduler(&self) -> anyhow::Result<JobScheduler> {
        let scheduler =
            JobScheduler::new_with_channel_size(CHANNEL).await.context("starting the housekeeping")?;
        for Chore { cron, what, work } in &self.chores {
            let work = work.clone();
            let tick = Tick::new_async(*cron, move |_, _| work());
            let tick = tick.with_context(|| format!("planning {what}"))?;
            scheduler.add(tick).await.with_context(|| format!("planning {what}"))?;
        }
        scheduler.start().await.context("starting the housekeeping")?;
        Ok(scheduler)
    }
}

/// Until it is told to stop: another scheduler whenever the wall clock is set.
async fn keep(
    rhythm: Rhythm,
    mut scheduler: JobScheduler,
    alarm: Box<dyn Alarm>,
    clock: Arc<dyn Clock>,
    stop: CancellationToken,
) {
    loop {
        tokio::select! {
            () = stop.cancelled() => break,
            () = clock_is_set(&*alarm, &*clock) => {}
        }
        shut_down(scheduler).await;
        scheduler = loop {
            match rhythm.scheduler().await {
                Ok(scheduler) => break scheduler,
                Err(error) => tracing::error!(
                    "the clock was set, and the housekeeping stands still: {error:#}; trying again in a minute"
                ),
            }
            tokio::select! {
                () = stop.cancelled() => return,
                () = clock.sleep(MAKE_AGAIN) => {}
            }
        };
    }
    shut_down(scheduler).await;
}

/// Ends when the wall clock is set.
async fn clock_is_set(alarm: &dyn Alarm, clock: &dyn Clock) {
    loop {
        let ring = match alarm.set(Wake::default()) {
            Ok(()) => alarm.ring().await,
            Err(error) => Err(error),
        };
        match ring {
            Ok(Ring::ClockSet) => return,
            Ok(Ring::Due) => {}
            Err(error) => {
                tracing::warn!(%error, "whether the clock is set cannot be heard; trying again in a minute");
                clock.sleep(MAKE_AGAIN).await;
            }
        }
    }
}

async fn shut_down(mut scheduler: JobScheduler) {
    if let Err(error) = scheduler.shutdown().await {
        tracing::debug!(%error, "the housekeeping did not stop");
    }
}

/// Calendars, read again one after the other.
struct Refresh {
    handle: Handle,
    reader: Arc<Reader>,
    /// When the last one began. Held while one is under way.
    last: Mutex<Option<BootMs>>,
}

impl Refresh {
    /// At the start, and after each reload that could not read all it needs.
    async fn at_once(&self) {
        loop {
            self.refresh(&mut *self.last.lock().await).await;
            if self.handle.lacks_feeds().await.is_none() {
                return;
            }
        }
    }

    async fn if_due(&self) {
        // Where many do not answer, one takes minutes.
        let Ok(mut last) = self.last.try_lock() else { return };
        let Ok(Current { settings, now, .. }) = self.handle.current().await else { return };
        if last.is_none_or(|last| is_due(last, settings.schedule.refresh, now.boot)) {
            self.refresh(&mut last).await;
        }
    }

    async fn refresh(&self, last: &mut Option<BootMs>) {
        let Ok(before) = self.handle.current().await else { return };
        *last = Some(before.now.boot);
        let schedule = &before.settings.schedule;
        let (read, reports) = self.reader.refresh(schedule, &before.feeds, before.now).await;
        for report in reports {
            if report.is_bad() {
                tracing::warn!("{report}");
            } else {
                tracing::info!("{report}");
            }
        }
        // A reload may have come meanwhile: its word is newer, and what it has read must stay.
        let Ok(now) = self.handle.current().await else { return };
        if !schedule.sources().is_empty() {
            let sources: Vec<&Source> = schedule.sources().into_keys().collect();
            let (feeds, gone) = merge(&sources, &before.feeds, read, &now.feeds);
            // The engine is gone only when the daemon is.
            let _ = self.handle.set_feeds(feeds, gone).await;
        }
        self.reader.forget_others(&now.settings.schedule).await;
    }
}

fn is_due(last: BootMs, refresh: Duration, now: BootMs) -> bool {
    last + refresh <= now + EARLY
}

/// What was read of these sources, and which of them are known no more; without those that somebody else has read
/// meanwhile.
fn merge(sources: &[&Source], before: &Feeds, read: Feeds, now: &Feeds) -> (Feeds, Vec<Source>) {
    let (mut feeds, mut gone) = (read, Vec::new());
    for source in sources {
        let untouched = match (before.get(source), now.get(source)) {
            (Some(before), Some(now)) => Arc::ptr_eq(before, now),
            (before, now) => before.is_none() && now.is_none(),
        };
        if !untouched {
            feeds.remove(source);
        } else if feeds.get(source).is_none() {
            gone.push((*source).clone());
        }
    }
    (feeds, gone)
}

/// What fails is logged, shown by `status` and tried again by the engine.
async fn expand(handle: &Handle) {
    let Ok(Current { settings, .. }) = handle.current().await else { return };
    if settings.schedule.is_standing() {
        let _ = handle.expand().await;
    }
}

async fn forget_old(handle: &Handle, store: Arc<Queue>) {
    let Ok(Current { settings, now, .. }) = handle.current().await else { return };
    let before = now.wall - settings.retention;
    match tokio::task::spawn_blocking(move || sweep(&*store, before)).await {
        Ok(Ok(0)) => {}
        Ok(Ok(forgotten)) => tracing::info!(forgotten, "done jobs forgotten: their retention is over"),
        Ok(Err(error)) => tracing::warn!(%error, "done jobs could not be swept; trying again in an hour"),
        Err(error) => tracing::warn!(%error, "the sweep was interrupted"),
    }
}

/// Said once, as long as it stays so.
async fn look_at_size(store: Arc<Queue>, told: &AtomicBool) {
    let Ok(Ok(size)) = tokio::task::spawn_blocking(move || store.size()).await else { return };
    let pays = size.pays_to_compact();
    if pays && !told.load(Ordering::Relaxed) {
        tracing::warn!(
            disk = size.disk,
            live = size.live,
            "the queue has become much larger than what is in it: the next start, or `adjourn compact`, makes it small"
        );
    }
    told.store(pays, Ordering::Relaxed);
}

/// Forgets what was done before this instant. Blocks until it is durable; says how many there were.
pub fn sweep(store: &dyn Store, before: UtcMs) -> Result<usize, StoreError> {
    let mut forgotten = 0;
    let mut last = Vec::new();
    loop {
        let ids = store.done_before(before, SWEEP_BATCH)?;
        // The same page again: something is there that cannot be removed. The log of the store names it.
        if ids.is_empty() || ids == last {
            return Ok(forgotten);
        }
        last.clone_from(&ids);
        forgotten += ids.len();
        let (tell, told) = std::sync::mpsc::channel();
        let batch = ids.into_iter().map(Change::Remove).collect();
        store.commit(
            batch,
            Box::new(move |result| {
                // The receiver waits just below.
                let _ = tell.send(result);
            }),
        );
        told.recv().unwrap_or(Err(StoreError::Closed))?;
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::atomic::AtomicUsize;

    use async_trait::async_trait;
    use tokio::sync::Notify;

    use super::*;
    use crate::clock::SystemClock;
    use crate::schedule::Feed;

    /// Rings when a test says so.
    struct Bell(Arc<Notify>);

    #[async_trait]
    impl Alarm for Bell {
        fn set(&self, _: Wake) -> io::Result<()> {
            Ok(())
        }

        async fn ring(&self) -> io::Result<Ring> {
            self.0.notified().await;
            Ok(Ring::ClockSet)
        }
    }

    /// The first scheduler here has no ticks at all, as one has none for an hour when the clock was set back by an hour.
    #[tokio::test]
    async fn the_rhythm_begins_anew_when_the_clock_is_set() {
        let (ticks, bell, stop) =
            (Arc::new(AtomicUsize::new(0)), Arc::new(Notify::new()), CancellationToken::new());
        let (counted, told) = (ticks.clone(), Arc::new(Notify::new()));
        let tell = told.clone();
        let chore = Chore::new("* * * * * *", "the count", move || {
            counted.fetch_add(1, Ordering::Relaxed);
            tell.notify_one();
            std::future::ready(())
        });
        let silent = JobScheduler::new().await.unwrap();
        let keeper = tokio::spawn(keep(
            Rhythm { chores: vec![chore] },
            silent,
            Box::new(Bell(bell.clone())),
            Arc::new(SystemClock),
            stop.clone(),
        ));
        for _ in 0..2 {
            bell.notify_one();
            let ticked = tokio::time::timeout(Duration::from_secs(20), told.notified()).await;
            assert!(ticked.is_ok(), "no tick after the clock was set");
        }
        stop.cancel();
        keeper.await.unwrap();
    }

    #[test]
    fn calendars_are_read_again_as_often_as_they_should_be() {
        let minute = Duration::from_secs(60);
        let due = |after: Duration, refresh| is_due(BootMs(7), refresh, BootMs(7) + after);
        assert!(!due(14 * minute, 15 * minute) && due(15 * minute, 15 * minute));
        // Ticks are not exact.
        assert!(due(minute - Duration::from_millis(300), minute) && !due(minute / 2, minute));
        assert!(!due(23 * 60 * minute, 24 * 60 * minute));
    }

    #[test]
    fn what_a_reload_has_read_meanwhile_is_newer() {
        let feed = || Arc::new(Feed::parse(b"BEGIN:VCALENDAR\nEND:VCALENDAR").unwrap());
        let [a, b, c] = ["/a.ics", "/b.ics", "/c.ics"].map(|path| Source::File(path.into()));
        let before = Feeds::default().with(a.clone(), feed()).with(b.clone(), feed()).with(c.clone(), feed());
        let now = before.clone().with(b.clone(), feed());
        let read = Feeds::default().with(a.clone(), feed()).with(b.clone(), feed());
        let (feeds, gone) = merge(&[&a, &b, &c], &before, read, &now);
        assert!(feeds.get(&a).is_some() && feeds.get(&b).is_none(), "{feeds:?}");
        assert_eq!(gone, [c]);
    }
}
