//! HTTP/1.1 and JSON on a Unix socket, so that `curl --unix-socket` and every language can talk to the daemon.
//!
//! This module knows HTTP, and nothing of how a deadline is kept: it turns requests into calls of
//! [`Service`] and answers into documents. Who may connect is decided by the mode and the
//! group of the socket; who did connect (`SO_PEERCRED`) is written into the history of what they change.
//!
//! | file | owns |
//! |---|---|
//! | `listen` | the socket file: stale, live, somebody else's |
//! | `peer` | connections: how many, how idle, whose |
//! | `extract`, `body`, `lines` | what comes in, checked |
//! | `jobs`, `import`, `export`, `preview`, `servers`, `events`, `metrics` | the routes |
//! | `listing` | which jobs a list shows, in which order |
//! | `wire` | what goes out; the command line reads it with the same types |
//! | `problem` | every refusal, as RFC 9457 documents with a hint |
//!
//! Bounds, all of them named: connections, event streams, imports and scans of the store at once, bytes of a body (of a
//! line, where the body is a stream), seconds of a request, seconds of the drain. A request that is cut off may have taken effect; the idempotency key tells.
//! Deliberately absent: authentication beyond the socket's, TLS, TCP.

mod body;
mod events;
mod export;
mod extract;
mod import;
mod jobs;
mod lines;
mod listen;
mod listing;
mod metrics;
mod peer;
mod preview;
mod problem;
mod servers;
pub mod wire;

#[cfg(test)]
pub(crate) mod fake;
#[cfg(test)]
mod tests;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::extract::{DefaultBodyLimit, MatchedPath, Request, State};
use axum::http::Method;
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post, put};
use tokio::net::UnixListener;
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::engine::api::Service;
use crate::metrics::Metrics;
use crate::store::{Store, StoreError};

pub use import::{Checked, check_line};
pub use lines::MAX_LINE_BYTES;
pub use listen::{ListenError, SocketFile, listen};
pub use preview::{DEFAULT_PREVIEW_DAYS, MAX_PREVIEW_DAYS, of_files as preview_of_files};

use peer::Slots;
use problem::{Problem, Said};

/// Clients connected at once ...
pub const MAX_CONNECTIONS: usize = 256;
/// ... of which one user may have so many ...
pub const MAX_OF_ONE_USER: usize = 96;
/// ... and so many are kept for root.
pub const FOR_ROOT: usize = 32;
/// A client waits for a slot, and a slot for the whole head of a request, no longer than this.
pub const SLOT_TIMEOUT: Duration = Duration::from_secs(10);
pub const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// Of the clients, event streams: some connections must remain for short requests.
pub const MAX_EVENT_STREAMS: usize = 48;
/// Imports at once.
pub const MAX_IMPORTS: usize = 8;
/// Reads of the store at once that may go through many jobs.
pub const MAX_SCANS: usize = 4;
/// Bytes of a request's body.
pub const MAX_BODY_BYTES: usize = 1024 * 1024;
/// From the head of a request to the head of its answer.
pub const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
/// A connection on which nothing moves for so long is closed.
pub const IDLE_TIMEOUT: Duration = Duration::from_secs(60);
/// An event stream says something at least so often. Well below [`IDLE_TIMEOUT`].
pub const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// Requests at work get so long when the daemon stops.
pub const DRAIN: Duration = Duration::from_secs(5);
/// Jobs on one page.
pub const MAX_PAGE: usize = 1000;
pub const DEFAULT_PAGE: usize = 100;
/// Refusals that are told in the log within a minute.
pub const MOST_REFUSALS: u32 = 30;
/// Jobs named in the answer to an ambiguous id.
pub const MAX_CANDIDATES: usize = 10;
/// How the `User-Agent` of our own command line begins.
pub const CLI_AGENT: &str = "adjourn-cli/";

/// Serves until `shutdown`, then lets requests at work finish for at most [`DRAIN`]. Event streams end at once.
pub async fn serve(listener: UnixListener, service: Arc<dyn Service>, shutdown: CancellationToken) {
    serve_within(listener, service, shutdown, REQUEST_TIMEOUT, DRAIN).await;
}

async fn serve_within(
    listener: UnixListener,
    service: Arc<dyn Service>,
    shutdown: CancellationToken,
    request: Duration,
    drain: Duration,
) {
    let routes = router(App::new(service, shutdown.clone()), request);
    let (slots, clients, cut) = (Arc::new(Slots::new()), TaskTracker::new(), CancellationToken::new());
    loop {
        let (stream, peer) = tokio::select! {
            () = shutdown.cancelled() => break,
            accepted = peer::accept(&listener) => accepted,
        };
        let (slots, routes) = (slots.clone(), routes.clone());
        let (shutdown, cut) = (shutdown.clone(), cut.clone());
        clients.spawn(async move { peer::serve(stream, peer, &slots, routes, shutdown, cut).await });
    }
    drop(listener);
    clients.close();
    if timeout(drain, clients.wait()).await.is_err() {
        tracing::warn!(
            "control requests still at work after {} are cut off",
            humantime::format_duration(drain)
        );
        cut.cancel();
    }
}

/// What every handler shares.
#[derive(Clone)]
struct App {
    service: Arc<dyn Service>,
    scans: Arc<Semaphore>,
    streams: Arc<Semaphore>,
    imports: Arc<Semaphore>,
    shutdown: CancellationToken,
    /// How long a body may take to come.
    body_wait: Duration,
}

impl App {
    fn new(service: Arc<dyn Service>, shutdown: CancellationToken) -> App {
        let scans = Arc::new(Semaphore::new(MAX_SCANS));
        let streams = Arc::new(Semaphore::new(MAX_EVENT_STREAMS));
        let imports = Arc::new(Semaphore::new(MAX_IMPORTS));
        App { service, scans, streams, imports, shutdown, body_wait: body_wait(REQUEST_TIMEOUT) }
    }

    /// A read of a few records, off the async threads: the store may go to the disk.
    async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&dyn Store) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, Problem> {
        let store = self.service.store();
        let answer = tokio::task::spawn_blocking(move || read(&*store)).await;
        answer.map_err(|_| Problem::internal("the reader of the store died"))?.map_err(Problem::from)
    }

    /// A read that may go through all jobs: few of these at once, also when their clients have left.
    async fn scan<T: Send + 'static>(
        &self,
        scan: impl FnOnce(&dyn Store) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, Problem> {
        let permit = self.scans.clone().acquire_owned().await.expect("nobody closes this semaphore");
        self.read(move |store| {
            let _held = permit;
            scan(store)
        })
        .await
    }
}

/// A little less than the whole request, so that whoever sent half a body hears that, and not that the daemon gave no answer.
fn body_wait(bound: Duration) -> Duration {
    bound * 9 / 10
}

fn router(app: App, bound: Duration) -> Router {
    let app = App { body_wait: body_wait(bound), ..app };
    Router::new()
        .route("/v1/status", get(servers::status))
        .route("/v1/reload", post(servers::reload))
        .route("/v1/servers/{server}/meetings", get(servers::meetings))
        .route("/v1/servers/{server}/meetings/{meeting}/extend", post(servers::extend_meeting))
        .route("/v1/servers/{server}/meetings/{meeting}/unlock", post(servers::unlock_meeting))
        .route("/v1/jobs", get(jobs::list).post(jobs::submit))
        .route("/v1/jobs/by-key/{server}/{key}", put(jobs::put))
        .route("/v1/jobs/export", get(export::export))
        .route("/v1/jobs/import", post(import::import))
        .route("/v1/jobs/{id}", get(jobs::show).patch(jobs::move_to).delete(jobs::cancel))
        .route("/v1/jobs/{id}/history", get(jobs::history))
        .route("/v1/jobs/{id}/fire", post(jobs::fire))
        .route("/v1/jobs/{id}/hold", post(jobs::hold))
        .route("/v1/jobs/{id}/release", post(jobs::release))
        .route("/v1/jobs/{id}/extend", post(jobs::extend))
        .route("/v1/preview", get(preview::preview))
        .route("/v1/events", get(events::events))
        .route("/metrics", get(metrics::metrics))
        .fallback(problem::no_such_route)
        .method_not_allowed_fallback(problem::wrong_method)
        .layer(DefaultBodyLimit::max(MAX_BODY_BYTES))
        .layer(middleware::from_fn_with_state(Watch::new(bound, app.service.clone()), in_time))
        .with_state(app)
}

/// What is seen to with every request.
#[derive(Clone)]
struct Watch {
    bound: Duration,
    metrics: Arc<Metrics>,
    service: Arc<dyn Service>,
    /// The minute at hand, and how many refusals of it there were.
    refused: Arc<Mutex<(i64, u32)>>,
}

impl Watch {
    fn new(bound: Duration, service: Arc<dyn Service>) -> Watch {
        Watch { bound, metrics: service.metrics(), service, refused: Arc::default() }
    }

    /// An operator sees what was not taken: a booking system that is refused loses deadlines. One that asks again and again
    /// does not fill the log.
    fn refused(&self, what: &str, status: u16, why: &str) {
        let minute = self.service.now().wall.0 / 60_000;
        match nth(&mut self.refused.lock().unwrap_or_else(PoisonError::into_inner), minute) {
            1..MOST_REFUSALS => tracing::warn!(what, status, "refused: {why}"),
            MOST_REFUSALS => {
                tracing::warn!(what, status, "refused: {why}; more refusals within this minute are not told");
            }
            _ => {}
        }
    }
}

/// The how manyth of its minute this one is.
fn nth(counted: &mut (i64, u32), minute: i64) -> u32 {
    if counted.0 != minute {
        *counted = (minute, 0);
    }
    counted.1 = counted.1.saturating_add(1);
    counted.1
}

/// Answers within the bound. The body of an event stream comes after its head and is not timed.
async fn in_time(State(watch): State<Watch>, request: Request, next: Next) -> Response {
    let bound = watch.bound;
    let what = format!("{} {}", request.method(), request.uri().path());
    let method = request.method().clone();
    let route = request.extensions().get::<MatchedPath>().cloned();
    let answer = timeout(bound, next.run(request)).await;
    let answer = answer.unwrap_or_else(|_| Problem::timed_out(bound).into_response());
    watch.metrics.request(&method, route.as_ref().map(MatchedPath::as_str), answer.status());
    let status = answer.status().as_u16();
    if let Some(Said(why)) = answer.extensions().get().filter(|_| method != Method::GET) {
        watch.refused(&what, status, why);
    }
    tracing::debug!(what, status, "control request");
    answer
}
