//! The engine: takes jobs from the store when they are due soon, steps them, and does what they ask for.
//!
//! * `core`: the loop that owns every job in memory.
//! * `belief`: which wall clock is believed.
//! * `beside`: work that would hold the loop up.
//! * `load`: jobs from the store into memory.
//! * `active`: one job in memory and its way to disk.
//! * `wakes`: when the jobs in memory want to be stepped.
//! * `lane`: one server's turns; pure.
//! * `server`: one server's memory, probes and calls; `looks`: its rounds and what their answers are worth; `callbook`: who
//!   called at which instance.
//! * `warnings`: telling the people inside.
//! * `watches`: what sweeps have seen, across a restart.
//! * `sweep`: what is live on a server, against the rules and the jobs that wait for a start.
//! * `requests`, `bulk`, `reload`: what people and the schedule file ask for; `plan`: the latter beside the loop;
//!   `configure`: the servers that come and go with it.
//! * `api`, `handle`: the engine from outside.
//!
//! It decides nothing about a job: that is `job::step`. It knows no platform: that is `platform`.

mod active;
pub mod api;
mod belief;
mod beside;
mod bulk;
mod callbook;
mod configure;
mod core;
mod handle;
mod lane;
mod load;
mod looks;
mod plan;
mod reload;
mod requests;
mod server;
#[cfg(test)]
mod sim;
mod sweep;
#[cfg(test)]
mod tests;
mod wakes;
mod warnings;
mod watches;

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use tokio::sync::{broadcast, mpsc};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use self::core::{Core, Parts};
pub use self::handle::{Handle, ReadFeeds, Reread};
pub use self::plan::SCHEDULE_KEYS;
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
    /// The last good copies of the calendars that the schedule refers to.
    pub feeds: Arc<Feeds>,
    pub read_feeds: Arc<ReadFeeds>,
}

/// Starts the engine with these settings. It recovers what is in the store, then submits what the schedule has new.
/// Must be called within a tokio runtime.
pub fn start(
    setup: Setup,
    settings: Settings,
    shutdown: CancellationToken,
) -> Result<(Handle, JoinHandle<io::Result<()>>), api::Refusal> {
    let Setup { clock, store, state_dir, socket, reread, feeds, read_feeds } = setup;
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
    core.feeds = feeds;
    core.load_watches();
    core.start_with(&settings)?;
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
