//! The sandbox's own routes, JSON both ways: what a test does in the process, from outside.
//!
//! | route | does |
//! |---|---|
//! | `POST` or `PUT /control/meetings` | people join one: [`NewMeeting`](super::NewMeeting) |
//! | `PATCH /control/meetings` | `{"meeting_id", "participants"}` |
//! | `DELETE /control/meetings?meeting=M` | its session ends by itself, now |
//! | `GET /control/faults` | what stands |
//! | `POST` or `PUT /control/faults` | sets one: [`FaultOrder`](super::FaultOrder) |
//! | `DELETE /control/faults[?id=N]` | clears one, or all |
//! | `GET /control/truth[?meeting=M&since=N&call=C]` | [`Truth`](super::Truth) |
//! | `GET /control/requests[?..]` | its request log alone |
//! | `GET /control/counters` | how many requests came |

use axum::Router;
use axum::extract::{Json, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use serde::{Deserialize, Serialize};

use super::{ActiveFault, Asked, Control, Counters, FaultOrder, NewMeeting, Record, Refusal, Truth};

/// The routes, for people.
pub(in crate::sandbox) const ROUTES: [&str; 9] = [
    "POST   /control/meetings   {\"meeting_id\":\"m\",\"participants\":3}",
    "PATCH  /control/meetings   {\"meeting_id\":\"m\",\"participants\":0}",
    "DELETE /control/meetings?meeting=m",
    "POST   /control/faults     {\"fault\":\"zombie\",\"meeting\":\"m\",\"times\":1}",
    "GET    /control/faults",
    "DELETE /control/faults",
    "GET    /control/truth?meeting=m",
    "GET    /control/requests?call=end",
    "GET    /control/counters",
];

pub(super) fn routes() -> Router<Control> {
    let meetings = post(create).put(create).patch(change).delete(end);
    let faults = get(faults).post(set).put(set).delete(clear);
    Router::new()
        .route("/control/meetings", meetings)
        .route("/control/faults", faults)
        .route("/control/truth", get(truth))
        .route("/control/requests", get(requests))
        .route("/control/counters", get(counters))
}

#[derive(Serialize)]
struct Created {
    meeting_id: String,
    session_id: String,
}

async fn create(
    State(control): State<Control>,
    Json(new): Json<NewMeeting>,
) -> Result<(StatusCode, Json<Created>), Refusal> {
    let session_id = control.create_meeting(&new)?;
    Ok((StatusCode::CREATED, Json(Created { meeting_id: new.meeting_id, session_id })))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Change {
    meeting_id: String,
    participants: u32,
}

async fn change(State(control): State<Control>, Json(change): Json<Change>) -> Result<StatusCode, Refusal> {
    control.set_participants(&change.meeting_id, change.participants)?;
    Ok(StatusCode::NO_CONTENT)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Which {
    meeting: String,
}

async fn end(State(control): State<Control>, Query(which): Query<Which>) -> Result<StatusCode, Refusal> {
    control.end_meeting(&which.meeting)?;
    Ok(StatusCode::NO_CONTENT)
}

async fn faults(State(control): State<Control>) -> Json<Vec<ActiveFault>> {
    Json(control.faults())
}

#[derive(Serialize)]
struct FaultId {
    id: u64,
}

async fn set(
    State(control): State<Control>,
    Json(order): Json<FaultOrder>,
) -> Result<(StatusCode, Json<FaultId>), Refusal> {
    let id = control.set_fault(order)?;
    Ok((StatusCode::CREATED, Json(FaultId { id })))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WhichFault {
    id: Option<u64>,
}

#[derive(Serialize)]
struct Cleared {
    cleared: usize,
}

async fn clear(State(control): State<Control>, Query(which): Query<WhichFault>) -> Json<Cleared> {
    Json(Cleared { cleared: control.clear_faults(which.id) })
}

async fn truth(State(control): State<Control>, Query(asked): Query<Asked>) -> Json<Truth> {
    Json(control.truth(&asked))
}

async fn requests(State(control): State<Control>, Query(asked): Query<Asked>) -> Json<Vec<Record>> {
    Json(control.requests(&asked))
}

async fn counters(State(control): State<Control>) -> Json<Counters> {
    Json(control.counters())
}

#[derive(Serialize)]
struct Problem {
    error: String,
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let status = match self {
            Refusal::Meeting(_) => StatusCode::NOT_FOUND,
            Refusal::Locked(_) => StatusCode::CONFLICT,
            Refusal::Value(..) => StatusCode::UNPROCESSABLE_ENTITY,
            Refusal::TooMany(..) => StatusCode::INSUFFICIENT_STORAGE,
        };
        (status, Json(Problem { error: self.to_string() })).into_response()
    }
}
