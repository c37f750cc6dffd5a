//! The engine: takes jobs from the store when they are due soon, steps them, and does what they ask for.
//!
//! * `core`: the loop that owns every job in memory.
//! * `drain`: its end.
//! * `belief`: which wall clock is believed; `noted`: what the next start has to know for that.
//! * `small_file`: files that are replaced as a whole.
//! * `beside`: work that would hold the loop up.
//! * `load`: jobs from the store into memory; `reads`: what is read beside the loop, and what of it may be old.
//! * `active`: one job in memory and its way to disk; `outbox`: that way when it is crowded.
//! * `wakes`: when the jobs in memory want to be stepped.
//! * `lane`: one server's turns; pure.
//! * `server`: one server's memory, probes and calls; `looks`: its rounds and what their answers are worth; `callbook`: who
//!   called at which instance.
//! * `warnings`: telling the people inside.
//! * `watches`: what sweeps have seen, across a restart.
//! * `sweep`: what is live on a server, against the rules and the jobs that wait for a start; `weigh`: what a listing means.
//! * `requests`, `bulk`, `reload`: what people and the schedule file ask for; `plan`: the latter, made beside the loop;
//!   `apply`: and made true; `configure`: the servers that come and go with it.
//! * `again`: new deadlines for what came back.
//! * `api`, `handle`: the engine from outside.
//!
//! It decides nothing about a job: that is `job::step`. It knows no platform: that is `platform`.

mod active;
mod again;
pub mod api;
mod apply;
mod belief;
mod beside;
mod bulk;
mod callbook;
mod chorus;
mod configure;
mod core;
mod drain;
mod handle;
mod health;
mod lane;
mod load;
mod looks;
mod noted;
mod outbox;
mod plan;
mod reads;
mod reload;
mod requests;
mod server;
#[cfg(test)]
mod sim;
mod small_file;
mod sweep;
#[cfg(test)]
mod tests;
mod wakes;
mod warnings;
mod watches;
mod weigh;

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use tokio::sync::{broadcast, mpsc};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use self::beside::beside;
use self::core::{Core, Parts};
pub use self::handle::{Handle, ReadFeeds, Reread};
pub use self::plan::SCHEDULE_KEYS;
use self::plan::refuse_orphans;
pub use self::reload::Current;
pub(crate) use self::requests::due;
pub use self::sweep::RULE_KEYS;
use crate::clock::Clock;
use crate::config::settings::Settings;
use crate::schedule::Feeds;
use crate::store::Store;

/// Requests that wait for the engine; more wait in their clients.
const REQUESTS: usize = 256;
/// Events kept for a slow listener; a slower one is told that it missed some.
const EVENTS: usize = 4_096;

/// What the engine runs on.
pub struct Setup {
    pub clock: Arc<dyn Clock>,
    pub store: Arc<dyn Store>,
    pub state_dir: PathBuf,
    pub socket: PathBuf,
    pub reread: Arc<Reread>,
    /// Reads the last good copies of the calendars that the schedule refers to. It may take a while: nothing but the
    /// schedule's plan waits for it.
    pub kept_feeds: Box<dyn FnOnce() -> Feeds + Send>,
    pub read_feeds: Arc<ReadFeeds>,
}

/// Starts the engine with these settings. It recovers what is in the store, then submits what the schedule has new.
/// Must be called within a tokio runtime. Nothing of this takes long, whatever the schedule says: the plan and the
/// calendars come after it, beside the due loop.
pub async fn start(
    setup: Setup,
    settings: Settings,
    shutdown: CancellationToken,
) -> Result<(Handle, JoinHandle<io::Result<()>>), api::Refusal> {
    let Setup { clock, store, state_dir, socket, reread, kept_feeds, read_feeds } = setup;
    let (orphans, asked) = (store.clone(), settings.clone());
    beside(move || refuse_orphans(&*orphans, &asked)).await.unwrap_or(Ok(()))?;
    let (requests, receiver) = mpsc::channel(REQUESTS);
    let (inbox, inner) = mpsc::unbounded_channel();
    let (events, _) = broadcast::channel(EVENTS);
    let parts = Parts {
        clock: clock.clone(),
        store: store.clone(),
        state_dir: state_dir.clone(),
        servers: BTreeMap::new(),
        events: events.clone(),
        inbox,
    };
    let mut core = Core::new(parts);
    let metrics = core.metrics.clone();
    let kept = (!settings.schedule.sources().is_empty()).then_some(kept_feeds);
    core.recall_the_clock();
    core.load_watches();
    core.start_with(&settings, kept)?;
    let engine = tokio::spawn(core.run(receiver, inner, shutdown));
    let reloading = Arc::default();
    let lacks_feeds = Arc::default();
    let handle = Handle {
        requests,
        events,
        store,
        clock,
        metrics,
        reread,
        read_feeds,
        lacks_feeds,
        state_dir,
        socket,
        config: Arc::default(),
        reloading,
    };
    Ok((handle, engine))
}
