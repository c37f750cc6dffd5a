//! `GET /v1/events`: what happens, as it happens (server-sent events).
//!
//! The first event is `hello`: from then on nothing is missed, so a client that subscribes first and then reads the job
//! knows all of it. A client that reads too slowly gets `lagged` with the number of events it lost, and should read
//! again. Every other event has the name of the fact and carries a [`Notice`].

use std::convert::Infallible;
use std::future::ready;
use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::stream::{StreamExt, once};
use serde::Deserialize;
use serde_json::json;
use tokio_stream::wrappers::BroadcastStream;
use tokio_stream::wrappers::errors::BroadcastStreamRecvError;

use super::extract::Params;
use super::problem::Problem;
use super::{App, KEEP_ALIVE, MAX_EVENT_STREAMS};
use crate::engine::api::Notice;
use crate::job::JobId;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct EventParams {
    /// Only what happens to this job.
    job: Option<String>,
}

pub(super) async fn events(
    State(app): State<App>,
    Params(params): Params<EventParams>,
) -> Result<Response, Problem> {
    let Ok(slot) = app.streams.clone().try_acquire_owned() else {
        let detail = format!("{MAX_EVENT_STREAMS} clients follow the events already");
        let hint = "close one, or ask for the job instead";
        return Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, "busy", detail, hint));
    };
    let notices = BroadcastStream::new(app.service.events());
    let job = match params.job {
        Some(given) => Some(app.resolve(&given).await?),
        None => None,
    };
    let hello = Event::default().event("hello").data(
        json!({ "version": env!("CARGO_PKG_VERSION"), "at": app.service.now().wall.to_string() }).to_string(),
    );
    let metrics = app.service.metrics();
    let shutdown = app.shutdown.clone().cancelled_owned();
    let stream = once(ready(hello))
        .chain(notices.filter_map(move |notice| {
            if let Err(BroadcastStreamRecvError::Lagged(missed)) = &notice {
                metrics.events_dropped.inc_by(*missed);
            }
            ready(event(notice, job))
        }))
        .take_until(shutdown)
        .map(move |event| {
            let _held = &slot;
            Ok::<Event, Infallible>(event)
        });
    Ok(Sse::new(stream).keep_alive(KeepAlive::new().interval(KEEP_ALIVE)).into_response())
}

/// `None`: not for this client.
fn event(notice: Result<Arc<Notice>, BroadcastStreamRecvError>, job: Option<JobId>) -> Option<Event> {
    let notice = match notice {
        Ok(notice) => notice,
        Err(BroadcastStreamRecvError::Lagged(missed)) => {
            return Some(Event::default().event("lagged").data(json!({ "missed": missed }).to_string()));
        }
    };
    if job.is_some_and(|id| notice.job.as_ref().is_none_or(|view| view.id != id)) {
        return None;
    }
    let data = serde_json::to_string(&*notice).ok()?;
    // A name with a line break in it would end the field (and axum panics on it).
    let name: String = notice.event.chars().filter(|c| !c.is_control()).collect();
    Some(Event::default().event(name).data(data))
}
