//! What is done now and then: new occurrences of the schedule become jobs, calendars are read again, servers that have
//! rules are swept, done jobs are forgotten when their retention is over, and it is noticed when the store has become much
//! larger than what is in it.
//!
//! tokio-cron-scheduler keeps the rhythm, in UTC. It holds no deadline: a missed or a doubled tick only comes later or
//! finds nothing to do.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Context;
use tokio::sync::Mutex;
use tokio_cron_scheduler::{Job as Tick, JobScheduler};

use crate::engine::{Current, Handle};
use crate::feeds::Reader;
use crate::job::UtcMs;
use crate::store::{Change, Queue, Store, StoreError};

/// Occurrences become jobs days ahead: this need not be on time. Off the full minute, when meetings end.
const EXPAND: &str = "20 */5 * * * *";
/// Calendars are read again. Events are rarely moved in the last minutes.
const FEEDS: &str = "50 */10 * * * *";
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
    let feeds = Arc::new(Refresh { handle: handle.clone(), reader, turn: Mutex::default() });
    let at_once = feeds.clone();
    tokio::spawn(async move { at_once.refresh().await });
    let refresh = Tick::new_async(FEEDS, move |_, _| {
        let feeds = feeds.clone();
        Box::pin(async move { feeds.refresh().await })
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
    turn: Mutex<()>,
}

impl Refresh {
    async fn refresh(&self) {
        // Where many do not answer, one takes minutes.
        let Ok(_turn) = self.turn.try_lock() else { return };
        let Ok(Current { settings, feeds, now }) = self.handle.current().await else { return };
        if settings.schedule.sources().is_empty() {
            return;
        }
        let (feeds, reports) = self.reader.refresh(&settings.schedule, &feeds, now.wall).await;
        for report in reports {
            if report.is_bad() {
                tracing::warn!("{report}");
            } else {
                tracing::info!("{report}");
            }
        }
        // The engine is gone only when the daemon is.
        let _ = self.handle.set_feeds(feeds).await;
    }
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
