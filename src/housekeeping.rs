//! What is done now and then: new occurrences of the schedule become jobs, done jobs are forgotten when their retention is
//! over, and it is noticed when the store has become much larger than what is in it.
//!
//! tokio-cron-scheduler keeps the rhythm, in UTC. It holds no deadline: a missed or a doubled tick only comes later or
//! finds nothing to do.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Context;
use tokio_cron_scheduler::{Job as Tick, JobScheduler};

use crate::engine::{Current, Handle};
use crate::job::UtcMs;
use crate::store::{Change, Queue, Store, StoreError};

/// Occurrences become jobs days ahead: this need not be on time. Off the full minute, when meetings end.
const EXPAND: &str = "20 */5 * * * *";
/// Every hour, off the full hour.
const SWEEP: &str = "0 37 * * * *";
/// Every day, when few meetings end.
const SIZE: &str = "40 52 3 * * *";
/// Jobs forgotten in one batch; between batches the writer serves others.
const SWEEP_BATCH: usize = 500;
/// Ticks that may wait; the library's own default loses some in bursts.
const CHANNEL: usize = 8_192;

/// Starts the scheduler; it runs until it is dropped or shut down.
pub async fn start(handle: Handle, store: Arc<Queue>) -> anyhow::Result<JobScheduler> {
    let scheduler =
        JobScheduler::new_with_channel_size(CHANNEL).await.context("starting the housekeeping")?;
    let expanding = handle.clone();
    let expand = Tick::new_async(EXPAND, move |_, _| {
        let handle = expanding.clone();
        Box::pin(async move { expand(&handle).await })
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
    for (tick, what) in [(expand, "the schedule"), (sweep, "the sweep"), (size, "the look at the store")] {
        let tick = tick.with_context(|| format!("planning {what}"))?;
        scheduler.add(tick).await.with_context(|| format!("planning {what}"))?;
    }
    scheduler.start().await.context("starting the housekeeping")?;
    Ok(scheduler)
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
