//! What is done now and then: forgetting done jobs when their retention is over.
//!
//! tokio-cron-scheduler keeps the rhythm, in UTC. It holds no deadline: a missed or a doubled tick only sweeps later or
//! finds nothing to do.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use tokio_cron_scheduler::{Job as Tick, JobScheduler};

use crate::clock::Clock;
use crate::store::{Change, Store};

/// Every hour, off the full hour, when meetings end.
const SWEEP: &str = "0 37 * * * *";
/// Jobs forgotten in one batch; between batches the writer serves others.
const SWEEP_BATCH: usize = 500;
/// Ticks that may wait; the library's own default loses some in bursts.
const CHANNEL: usize = 8_192;

/// Starts the scheduler; it runs until it is dropped or shut down.
pub async fn start(
    store: Arc<dyn Store>,
    clock: Arc<dyn Clock>,
    retention: Duration,
) -> anyhow::Result<JobScheduler> {
    let scheduler =
        JobScheduler::new_with_channel_size(CHANNEL).await.context("starting the housekeeping")?;
    let sweep = Tick::new_async(SWEEP, move |_, _| {
        let (store, clock) = (store.clone(), clock.clone());
        Box::pin(async move {
            let swept =
                tokio::task::spawn_blocking(move || sweep(store.as_ref(), clock.as_ref(), retention)).await;
            match swept {
                Ok(Ok(0)) => {}
                Ok(Ok(forgotten)) => {
                    tracing::info!(forgotten, "done jobs forgotten: their retention is over");
                }
                Ok(Err(error)) => {
                    tracing::warn!(%error, "done jobs could not be swept; trying again in an hour");
                }
                Err(error) => tracing::warn!(%error, "the sweep was interrupted"),
            }
        })
    });
    scheduler.add(sweep.context("planning the sweep")?).await.context("planning the sweep")?;
    scheduler.start().await.context("starting the housekeeping")?;
    Ok(scheduler)
}

/// Forgets what was done longer than `retention` ago. Blocks until it is durable; says how many there were.
pub fn sweep(
    store: &dyn Store,
    clock: &dyn Clock,
    retention: Duration,
) -> Result<usize, crate::store::StoreError> {
    let before = clock.now().wall - retention;
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
        told.recv().unwrap_or(Err(crate::store::StoreError::Closed))?;
    }
}
