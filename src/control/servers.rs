//! The routes of servers and of the daemon itself.

use axum::Json;
use axum::extract::{ConnectInfo, State};
use axum::http::HeaderMap;
use axum::response::{IntoResponse, Response};

use super::App;
use super::body::{Extend, Nothing, Reload};
use super::extract::{Body, Segments, no_if_match};
use super::peer::Peer;
use super::problem::Problem;
use super::wire::{Extended, Meeting, Meetings, Refused, Unlocked};
use crate::job::{By, Change, Job, JobView, MeetingId, Origin, ServerName, UtcMs};

type Answer = Result<Response, Problem>;

/// `GET /v1/status`.
pub(super) async fn status(State(app): State<App>) -> Answer {
    Ok(Json(app.service.status().await?).into_response())
}

/// `POST /v1/reload`; with `"dry-run": true` only what it would do.
pub(super) async fn reload(State(app): State<App>, Body(body): Body<Reload>) -> Answer {
    let reloaded =
        if body.dry_run { app.service.would_reload().await? } else { app.service.reload().await? };
    Ok(Json(reloaded).into_response())
}

/// `GET /v1/servers/{name}/meetings`: what is live there, with its open deadlines.
pub(super) async fn meetings(State(app): State<App>, Segments(server): Segments<ServerName>) -> Answer {
    let live = app.service.meetings(&server).await?;
    let name = server.clone();
    let with_deadlines = app.scan(move |store| {
        let one = |live: crate::platform::LiveMeeting| {
            let jobs = store.of_meeting(&name, &live.meeting)?;
            Ok(Meeting::new(live, &jobs))
        };
        live.into_iter().map(one).collect()
    });
    Ok(Json(Meetings { server, meetings: with_deadlines.await? }).into_response())
}

/// `POST /v1/servers/{server}/meetings/{meeting}/extend`: all its open deadlines.
pub(super) async fn extend_meeting(
    State(app): State<App>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    Segments((server, meeting)): Segments<(ServerName, MeetingId)>,
    headers: HeaderMap,
    Body(body): Body<Extend>,
) -> Answer {
    no_if_match(&headers)?;
    let change = body.change(app.service.now())?;
    // In a task of its own: a client that leaves must not leave half of the deadlines behind.
    let work = async move { extend_all(&app, server, meeting, change, peer.into()).await };
    let answer = tokio::spawn(work).await;
    let extended = answer.map_err(|_| Problem::internal("the work on the meeting died"))??;
    Ok(Json(extended).into_response())
}

/// `POST /v1/servers/{server}/meetings/{meeting}/unlock`: undoes a reversible lock.
pub(super) async fn unlock_meeting(
    State(app): State<App>,
    Segments((server, meeting)): Segments<(ServerName, MeetingId)>,
    Body(Nothing {}): Body<Nothing>,
) -> Answer {
    app.service.unlock(&server, &meeting).await?;
    Ok(Json(Unlocked { server, meeting }).into_response())
}

/// Later occurrences of a recurring or calendar entry are for later classes, and stay. Refused as a whole only where no
/// deadline could be moved.
async fn extend_all(
    app: &App,
    server: ServerName,
    meeting: MeetingId,
    change: Change,
    by: By,
) -> Result<Extended, Problem> {
    let what = format!("{server}/{meeting}");
    let open = app.read(move |store| store.of_meeting(&server, &meeting)).await?;
    let Some(first) = open.first().map(|job| job.due) else {
        let hint = "submit one with `adjourn end`";
        return Err(Problem::not_found(format!("{what} has no open deadline"), hint));
    };
    let (open, later): (Vec<Job>, Vec<Job>) =
        open.into_iter().partition(|job| !is_for_later(job, first, &change));
    let later = later.iter().map(|job| JobView::new(job, app.service.now())).collect();
    let mut extended = Extended { jobs: Vec::new(), refused: Vec::new(), later };
    let mut first_refusal = None;
    for job in open {
        match app.service.change(job.id, None, change.clone(), by.clone()).await {
            Ok(receipt) => extended.jobs.push(JobView::new(&receipt.job, app.service.now())),
            Err(refusal) => {
                let problem = Problem::from(refusal);
                extended.refused.push(Refused {
                    id: job.id,
                    due: job.due,
                    state: job.state,
                    status: problem.status(),
                    detail: problem.detail().to_owned(),
                    hint: problem.hint().to_owned(),
                });
                first_refusal.get_or_insert(problem);
            }
        }
    }
    match first_refusal {
        Some(problem) if extended.jobs.is_empty() => Err(problem),
        _ => Ok(extended),
    }
}

/// An occurrence of a standing entry that does not end the meeting before the new time of its `first` deadline.
fn is_for_later(job: &Job, first: UtcMs, change: &Change) -> bool {
    let reach = match change {
        Change::Extend { by } if !first.is_never() => first + *by,
        Change::ExtendTo { until } => first.max(*until),
        _ => first,
    };
    let of_standing = matches!(&job.origin, Origin::Schedule { of: Some(_), .. });
    let shortened = matches!(change, Change::ExtendTo { until } if *until < job.due) && job.due > first;
    (of_standing && job.due > reach) || shortened
}
