//! A simulated BigBlueButton server on loopback, faults included.
//!
//! It answers as real servers do, also where that is inconvenient, and it keeps the truth beside what it answers: which
//! instance was hit by which request and when, and who is still talking. Tests assert against that truth.
//!
//! ```text
//!  GET /bigbluebutton/api/end ──▶ line ──▶ http ──▶ World::request ──▶ balancer ──▶ meeting_server
//!  POST /control/faults ───────▶ line ──▶ control ─▶ World::set_fault       │            │
//!                                                                        Records   Rooms (map, truth)
//! ```
//!
//! `World` is pure: no clock, no I/O, no async. Time is handed in, and what happens later is done when
//! it is next consulted. Around it: one mutex, [`Control`] (every control route as a method) and [`Sandbox`] (a running
//! listener).
//!
//! A direct server is named `front`. With a balancer the base URL reaches the balancer, which is `front` then, and the
//! nodes `node1`, `node2`, ... are served beside it under `/node1/bigbluebutton/api/`, so that `nodes` can be tried.
//!
//! Simplifications: breakout rooms are made through the control route, recordings and slides do not exist, a meeting that
//! nobody joins stays, `join` answers with XML and adds a person at once, a server that is down still accepts the
//! connection before it closes it.

mod answers;
mod balancer;
pub(super) mod command;
mod control;
mod faults;
mod http;
mod meeting_server;
mod rooms;
mod truth;
mod wire;
mod world;

#[cfg(test)]
mod tests;

use std::future::Future;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::Router;
use clap::ValueEnum;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::listening::{self, Listening};
use super::reply::Reply;
use super::{TimeSource, TlsFiles};
use crate::job::UtcMs;
use world::World;

pub use faults::{ActiveFault, Fault, FaultOrder, ForgetfulAnswer, Outage, UnknownAnswer};
pub use rooms::NewMeeting;
pub use truth::{
    Answered, Asked, Counters, Effect, EndedBy, Hit, InstanceTruth, MeetingTruth, Record, Truth,
};
pub use wire::{Call, Hash};

/// Of a sandbox that is told no other; it guards nothing.
pub const DEMO_SECRET: &str = "demo-secret-of-the-sandbox";
/// The same for the nodes behind a balancer.
pub const DEMO_NODE_SECRET: &str = "demo-secret-of-the-nodes";

/// Called for every request to the API, once its answer is decided.
pub type Observer = Arc<dyn Fn(&Record) + Send + Sync>;

/// Which server's manners are shown.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default, ValueEnum)]
pub enum Version {
    #[value(name = "2.2")]
    V2_2,
    #[value(name = "2.4")]
    V2_4,
    #[value(name = "2.5")]
    V2_5,
    #[value(name = "2.6")]
    V2_6,
    #[default]
    #[value(name = "3.0")]
    V3_0,
}

impl Version {
    /// As the probe says it.
    fn number(self) -> &'static str {
        match self {
            Version::V2_2 => "2.2.36",
            Version::V2_4 => "2.4.9",
            Version::V2_5 => "2.5.20",
            Version::V2_6 => "2.6.18",
            Version::V3_0 => "3.0.19",
        }
    }
}

/// What the base URL reaches.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, ValueEnum)]
pub enum Front {
    /// The meeting server itself.
    #[default]
    Direct,
    Scalelite,
    /// One that lists only what it remembers (bbblb).
    Balancer,
}

/// What the simulated servers are.
#[derive(Clone)]
pub struct Settings {
    pub version: Version,
    pub front: Front,
    pub secret: String,
    /// Of every node behind a balancer.
    pub node_secret: String,
    /// How many nodes there are behind a balancer.
    pub nodes: usize,
    /// The checksum algorithms that are accepted.
    pub hashes: Vec<Hash>,
    /// From an accepted end to the real one.
    pub end_delay_ms: u32,
    /// Requests kept in the log.
    pub log_capacity: usize,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            version: Version::default(),
            front: Front::default(),
            secret: DEMO_SECRET.to_owned(),
            node_secret: DEMO_NODE_SECRET.to_owned(),
            nodes: 1,
            hashes: Hash::ALL.to_vec(),
            end_delay_ms: 100,
            log_capacity: 100_000,
        }
    }
}

/// Everything that [`Sandbox::start`] needs.
#[derive(Clone)]
pub struct Options {
    pub settings: Settings,
    /// Loopback only.
    pub listen: SocketAddr,
    pub tls: Option<TlsFiles>,
    pub now: TimeSource,
    pub observer: Option<Observer>,
}

impl Options {
    /// A direct 3.0 server on a free port.
    pub fn new(now: TimeSource) -> Options {
        Options {
            settings: Settings::default(),
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            tls: None,
            now,
            observer: None,
        }
    }
}

/// Why a control order was refused.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Refusal {
    #[error(
        "there is no server '{0}' here; a direct server is 'front', the nodes of a balancer are 'node1', ..."
    )]
    Server(String),
    #[error("no instance of '{0}' is alive")]
    Meeting(String),
    #[error("{0} must be {1}")]
    Value(&'static str, &'static str),
    #[error("no more than {1} {0}")]
    TooMany(&'static str, usize),
}

/// The simulated servers, without a listener: every control route as a method. Clones share the same world.
#[derive(Clone)]
pub struct Control {
    shared: Arc<Shared>,
}

struct Shared {
    world: Mutex<World>,
    now: TimeSource,
    observer: Option<Observer>,
    stopping: CancellationToken,
}

impl Control {
    pub fn new(settings: Settings, now: TimeSource, observer: Option<Observer>) -> Control {
        let world = Mutex::new(World::new(settings));
        Control { shared: Arc::new(Shared { world, now, observer, stopping: CancellationToken::new() }) }
    }

    /// Creates a meeting as its users' front-end would; gives its internal id. Idempotent: more people for one that is
    /// there.
    pub fn create_meeting(&self, new: &NewMeeting) -> Result<String, Refusal> {
        let now = self.now();
        self.world().create_meeting(new, now)
    }

    /// Fills a meeting up or sends people away.
    pub fn set_participants(&self, meeting: &str, count: u32) -> Result<(), Refusal> {
        let now = self.now();
        self.world().set_participants(meeting, count, now)
    }

    /// Ends a meeting without any call.
    pub fn end_meeting(&self, meeting: &str) -> Result<(), Refusal> {
        let now = self.now();
        self.world().end_meeting(meeting, now)
    }

    /// Sets a fault; gives its number, or 0 for one that has happened at once.
    pub fn set_fault(&self, order: FaultOrder) -> Result<u64, Refusal> {
        let now = self.now();
        self.world().set_fault(order, now)
    }

    /// Clears one fault, or all; says how many.
    pub fn clear_faults(&self, id: Option<u64>) -> usize {
        self.world().clear_faults(id)
    }

    pub fn faults(&self) -> Vec<ActiveFault> {
        let now = self.now();
        self.world().faults(now)
    }

    pub fn truth(&self, asked: &Asked) -> Truth {
        let now = self.now();
        self.world().truth(asked, now)
    }

    /// The part of the request log that is asked for, oldest first.
    pub fn requests(&self, asked: &Asked) -> Vec<Record> {
        self.world().requests(asked)
    }

    pub fn counters(&self) -> Counters {
        self.world().counters().clone()
    }

    fn server(&self, name: &str) -> Option<usize> {
        self.world().server(name)
    }

    fn request(&self, request: &world::Request<'_>) -> Reply {
        let at = UtcMs(request.received_us.div_euclid(1_000));
        let Some(observer) = &self.shared.observer else { return self.world().request(request, at) };
        let (reply, record) = {
            let mut world = self.world();
            (world.request(request, at), world.last_request().cloned())
        };
        // Without the lock: the observer may write to a slow terminal, or ask for the truth.
        record.as_ref().inspect(|record| observer(record));
        reply
    }

    fn now(&self) -> UtcMs {
        UtcMs(self.now_us().div_euclid(1_000))
    }

    fn now_us(&self) -> i64 {
        (self.shared.now)()
    }

    fn app(&self) -> Router {
        control::routes().fallback(http::api).with_state(self.clone())
    }

    /// A panic in another handler leaves a world that is still good enough to be asked.
    fn world(&self) -> MutexGuard<'_, World> {
        self.shared.world.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Serves the API and the control routes until `shutdown`; then requests in flight are answered or cut.
pub async fn serve(
    control: Control,
    listener: TcpListener,
    tls: Option<&TlsFiles>,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> anyhow::Result<()> {
    let stopping = control.shared.stopping.clone();
    listening::serve(control.app(), listener, tls, stopping, shutdown).await
}

/// A running sandbox. Dropping it stops it without waiting.
pub struct Sandbox {
    control: Control,
    listening: Listening,
    secret: String,
    node_secret: String,
}

impl Sandbox {
    /// Binds the address and serves from a task of its own.
    pub async fn start(options: Options) -> anyhow::Result<Sandbox> {
        let (secret, node_secret) = (options.settings.secret.clone(), options.settings.node_secret.clone());
        let control = Control::new(options.settings, options.now, options.observer);
        let stopping = control.shared.stopping.clone();
        let listening = Listening::start(control.app(), options.listen, options.tls, stopping).await?;
        Ok(Sandbox { control, listening, secret, node_secret })
    }

    /// The API base of the front: `http://127.0.0.1:PORT/bigbluebutton/api/`.
    pub fn url(&self) -> String {
        format!("{}/bigbluebutton/api/", self.listening.origin())
    }

    /// The API base of a node behind the balancer: `node1`, ...
    pub fn node_url(&self, node: &str) -> String {
        format!("{}/{node}/bigbluebutton/api/", self.listening.origin())
    }

    /// Where the control routes are: `http://127.0.0.1:PORT/control/`.
    pub fn control_url(&self) -> String {
        format!("{}/control/", self.listening.origin())
    }

    pub fn address(&self) -> SocketAddr {
        self.listening.address()
    }

    pub fn secret(&self) -> &str {
        &self.secret
    }

    pub fn node_secret(&self) -> &str {
        &self.node_secret
    }

    /// The control routes as methods.
    pub fn control(&self) -> &Control {
        &self.control
    }

    /// Stops serving. Requests that hang or are being slow are cut.
    pub async fn stop(self) {
        self.listening.stop().await;
    }
}

impl std::ops::Deref for Sandbox {
    type Target = Control;

    fn deref(&self) -> &Control {
        &self.control
    }
}
