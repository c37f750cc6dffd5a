//! What is done now and then: new occurrences of the schedule become jobs, calendars are read again, servers that have
//! rules are swept, done jobs are forgotten when their retention is over, and it is noticed when the store has become much
//! larger than what is in it.
//!
//! tokio-cron-scheduler keeps the rhythm, in UTC. It holds no deadline: a missed or a doubled tick only comes later or
//! finds nothing to do.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Context;
use tokio::sync::Mutex;
use tokio_cron_scheduler::{Job as Tick, JobScheduler};

use crate::engine::{Current, Handle};
use crate::feeds::Reader;
use crate::job::{BootMs, UtcMs};
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
/// The engine's rhythm: which server is swept when, it decides itself.
const TICK: &str = "*/5 * * * * *";
/// Jobs forgotten in one batch; between batches the writer serves others.
const SWEEP_BATCH: usize = 500;
/// Ticks that may wait; the library's own default loses some in bursts.
const CHANNEL: usize = 8_192;

/// Starts the scheduler; it runs until it is dropped or shut down.
pub async fn start(handle: Handle, store: Arc<Queue>, reader: Arc<Reader>) -> anyhow::Result<JobScheduler> {
    let scheduler =
        JobScheduler::new_with_channel_size(CHANNEL).await.context("starting the housekeeping")?;
    let (expanding, ticking) = (handle.clone(), handle.clone());
    let expand = Tick::new_async(EXPAND, move |_, _| {
        let handle = expanding.clone();
        Box::pin(async move { expand(&handle).await })
    });
    let feeds = Arc::new(Refresh { handle: handle.clone(), reader, last: Mutex::default() });
    let asked = feeds.clone();
    tokio::spawn(async move { asked.at_once().await });
    let refresh = Tick::new_async(FEEDS, move |_, _| {
        let feeds = feeds.clone();
        Box::pin(async move { feeds.if_due().await })
    });
    let sweeping = store.clone();
    let sweep = Tick::new_async(SWEEP, move |_, _| {
        let (handle, store) = (handle.clone(), sweeping.clone());
        Box::pin(async move { forget_old(&handle, store).await })
    });
    let told = Arc::new(AtomicBool::new(false));
    let size = Tick::new_async(SIZE, move |_, _| {
        let (store, told) = (store.clone(), told.clone());
        Box::pin(async move { look_at_size(store, &told).await })
    });
    let tick = Tick::new(TICK, move |_, _| ticking.tick());
    let ticks = [
        (tick, "the ticks"),
        (expand, "the schedule"),
        (refresh, "the calendars"),
        (sweep, "the sweep"),
        (size, "the look at the store"),
    ];
    for (tick, what) in ticks {
        let tick = tick.with_context(|| format!("planning {what}"))?;
        scheduler.add(tick).await.with_context(|| format!("planning {what}"))?;
    }
    scheduler.start().await.context("starting the housekeeping")?;
    Ok(scheduler)
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
    use super::*;
    use crate::schedule::Feed;

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
