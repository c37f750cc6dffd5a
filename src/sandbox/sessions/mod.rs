//! Simulated services whose meetings run as sessions: one pure world, and a façade for each platform's API.
//!
//! It answers as the services do, also where that is inconvenient, and it keeps the truth beside what it answers: which
//! session was hit by which request and when, and what is still live. Tests assert against that truth.
//!
//! ```text
//!  POST /v2/sessions/end ──▶ line ──▶ http ──▶ World::request ──▶ Api::answer (videosdk, realtimekit)
//!  POST /control/faults ───▶ line ──▶ control ─▶ World::set_fault       │
//!                                                                   Rooms (truth)
//! ```
//!
//! [`World`] is pure: no clock, no I/O, no async. Time is handed in, and what happens later is done when it is next
//! consulted. Around it: one mutex, [`Control`] (every control route as a method) and [`Sandbox`] (a running listener).
//!
//! Simplifications: people have no names of their own, recordings, chats and webhooks do not exist, a meeting's id is
//! whatever it is created with, a service that is down still accepts the connection before it closes it.

mod api;
pub(super) mod command;
mod control;
mod faults;
mod http;
mod limiter;
mod rooms;
mod truth;
mod world;

#[cfg(test)]
pub(super) mod tests;

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::Router;
use tokio_util::sync::CancellationToken;

use super::listening::Listening;
use super::reply::Reply;
use super::{TimeSource, TlsFiles};
use crate::job::UtcMs;

pub use api::{Api, Asks, Page, Problem, Request, Ways};
pub use faults::{ActiveFault, ErrorForm, Fault, FaultOrder};
pub use limiter::Rate;
pub use rooms::NewMeeting;
pub use truth::{
    Answered, Asked, Call, Counters, Effect, EndedBy, Hit, MeetingTruth, Record, SessionTruth, Truth,
};
pub(super) use world::Listed;
pub use world::{Visit, World};

/// People in one session.
const MAX_PARTICIPANTS: u32 = 20_000;

/// Called for every request to the API, once its answer is decided.
pub type Observer = Arc<dyn Fn(&Record) + Send + Sync>;

/// Everything that [`Sandbox::start`] needs.
#[derive(Clone)]
pub struct Options<A> {
    pub api: A,
    /// Loopback only.
    pub listen: SocketAddr,
    pub tls: Option<TlsFiles>,
    pub now: TimeSource,
    pub observer: Option<Observer>,
    /// Requests kept in the log.
    pub log_capacity: usize,
}

impl<A: Default> Options<A> {
    /// The platform as it comes, on a free port.
    pub fn new(now: TimeSource) -> Options<A> {
        Options {
            api: A::default(),
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            tls: None,
            now,
            observer: None,
            log_capacity: 100_000,
        }
    }
}

/// Why a control order was refused.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Refusal {
    #[error("no session of '{0}' is live")]
    Meeting(String),
    #[error("'{0}' is locked: nobody can join")]
    Locked(String),
    #[error("{0} must be {1}")]
    Value(&'static str, &'static str),
    #[error("no more than {1} {0}")]
    TooMany(&'static str, usize),
}

/// The simulated service, without a listener: every control route as a method. Clones share the same world.
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
    pub fn new(world: World, now: TimeSource, observer: Option<Observer>) -> Control {
        let world = Mutex::new(world);
        Control { shared: Arc::new(Shared { world, now, observer, stopping: CancellationToken::new() }) }
    }

    /// People join a meeting, the first ones start a session; gives its id.
    pub fn create_meeting(&self, new: &NewMeeting) -> Result<String, Refusal> {
        let now = self.now();
        self.world().create_meeting(new, now)
    }

    /// A meeting that nobody has joined yet.
    pub fn create_room(&self, meeting: &str) -> Result<(), Refusal> {
        let now = self.now();
        self.world().create_room(meeting, now)
    }

    /// Fills a live session up or sends people away.
    pub fn set_participants(&self, meeting: &str, count: u32) -> Result<(), Refusal> {
        let now = self.now();
        self.world().set_participants(meeting, count, now)
    }

    /// Ends the live session of a meeting without any call.
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

    fn app(&self) -> Router {
        control::routes().fallback(http::api).with_state(self.clone())
    }

    fn request(&self, request: &Request<'_>) -> Reply {
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

    /// A panic in another handler leaves a world that is still good enough to be asked.
    fn world(&self) -> MutexGuard<'_, World> {
        self.shared.world.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A running sandbox. Dropping it stops it without waiting.
pub struct Sandbox<A> {
    api: A,
    control: Control,
    listening: Listening,
}

impl<A: Api + Clone> Sandbox<A> {
    /// Binds the address and serves from a task of its own.
    pub async fn start(options: Options<A>) -> anyhow::Result<Sandbox<A>> {
        let world = World::new(Arc::new(options.api.clone()), options.log_capacity);
        let control = Control::new(world, options.now, options.observer);
        let stopping = control.shared.stopping.clone();
        let listening = Listening::start(control.app(), options.listen, options.tls, stopping).await?;
        Ok(Sandbox { api: options.api, control, listening })
    }

    /// What the platform's `url` is to be.
    pub fn url(&self) -> String {
        format!("{}{}", self.listening.origin(), self.api.base())
    }

    /// `http://127.0.0.1:PORT`
    pub fn origin(&self) -> String {
        self.listening.origin()
    }

    /// Where the control routes are: `http://127.0.0.1:PORT/control/`.
    pub fn control_url(&self) -> String {
        format!("{}/control/", self.listening.origin())
    }

    pub fn address(&self) -> SocketAddr {
        self.listening.address()
    }

    /// The settings, credentials among them.
    pub fn settings(&self) -> &A {
        &self.api
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

impl<A> std::ops::Deref for Sandbox<A> {
    type Target = Control;

    fn deref(&self) -> &Control {
        &self.control
    }
}
