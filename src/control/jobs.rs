//! The routes of jobs.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::{ConnectInfo, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Deserializer, de::Error};

use super::body::{Extend, Hold, Instant, Move, Nothing, Release, Submit};
use super::extract::{
    Body, Params, Segments, checked_key, idempotency_key, if_match, no_if_match, no_such_job,
};
use super::listing::{Place, Sort, Wanted};
use super::peer::Peer;
use super::problem::Problem;
use super::wire::{History, JobAnswer, Page};
use super::{App, DEFAULT_PAGE, MAX_PAGE, listing};
use crate::engine::api::{Receipt, Standing};
use crate::job::{Change, HistoryLine, Job, JobView, Origin, Outcome, ServerName, State as JobState};
use crate::platform::Telling;
use crate::store::Filter;

type Answer = Result<Response, Problem>;

#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) struct SubmitParams {
    /// Say what would be made, and make nothing.
    #[serde(default)]
    dry_run: bool,
}

/// `POST /v1/jobs`: 201 with a new job, 200 with the one that the idempotency key made before, or that `dry-run` would.
pub(super) async fn submit(
    State(app): State<App>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    Params(params): Params<SubmitParams>,
    headers: HeaderMap,
    Body(body): Body<Submit>,
) -> Answer {
    no_if_match(&headers)?;
    let key = idempotency_key(&headers)?;
    let submission = body.submission(None, key, origin(&headers), peer.into(), app.service.now())?;
    if params.dry_run {
        let Receipt { job, others, .. } = app.service.would_submit(submission).await?;
        return Ok(Json(app.answer(&job, &others).await).into_response());
    }
    let receipt = app.service.submit(submission).await?;
    Ok(receipt_answer(&app, &receipt).await)
}

/// `PUT /v1/jobs/by-key/{server}/{key}`: the job of this key is made, or moved.
pub(super) async fn put(
    State(app): State<App>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    Segments((server, key)): Segments<(ServerName, String)>,
    headers: HeaderMap,
    Body(body): Body<Submit>,
) -> Answer {
    no_if_match(&headers)?;
    let key = checked_key(&key)?;
    if idempotency_key(&headers)?.is_some_and(|in_header| in_header != key) {
        return Err(Problem::bad_request(
            "the Idempotency-Key header and the key in the path differ",
            "leave the header out: the path names the key",
        ));
    }
    let submission =
        body.submission(Some(server), Some(key), origin(&headers), peer.into(), app.service.now())?;
    let receipt = app.service.put(submission).await?;
    Ok(receipt_answer(&app, &receipt).await)
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ListParams {
    #[serde(default, deserialize_with = "states")]
    state: Vec<JobState>,
    server: Option<ServerName>,
    #[serde(default, deserialize_with = "outcomes")]
    outcome: Vec<Outcome>,
    since: Option<Instant>,
    until: Option<Instant>,
    /// The whole id of a meeting.
    meeting: Option<String>,
    /// Globs of meetings and of origins.
    r#match: Option<String>,
    origin: Option<String>,
    #[serde(default)]
    sort: Sort,
    limit: Option<usize>,
    before: Option<Place>,
}

/// `GET /v1/jobs`: a page, newest first unless `sort` says otherwise.
pub(super) async fn list(State(app): State<App>, Params(params): Params<ListParams>) -> Answer {
    let limit = params.limit.unwrap_or(DEFAULT_PAGE);
    if !(1..=MAX_PAGE).contains(&limit) {
        let detail = format!("the query: limit: must be 1 to {MAX_PAGE}, not {limit}");
        return Err(Problem::bad_request(detail, "take the next page with before="));
    }
    let filter = Filter {
        states: params.state,
        server: params.server,
        outcomes: params.outcome,
        since: params.since.map(|Instant(at)| at),
        until: params.until.map(|Instant(at)| at),
    };
    let wanted = Wanted { filter, meeting: params.meeting, matches: params.r#match, origin: params.origin };
    let (sort, before, server) = (params.sort, params.before, wanted.filter.server.clone());
    let (jobs, next) = app.scan(move |store| listing::page(store, &wanted, sort, before, limit)).await?;
    if let Some(server) = server.filter(|_| jobs.is_empty()) {
        app.knows(&server).await?;
    }
    let now = app.service.now();
    let standing = app.standing_where(jobs.iter().any(awaits_its_run)).await;
    let gone = standing.map_or_else(BTreeMap::new, |standing| standing.gone);
    let view = |job: &Job| JobView { not_live_since: gone.get(&job.id).copied(), ..JobView::new(job, now) };
    let jobs = jobs.iter().map(view).collect();
    Ok(Json(Page { jobs, next: next.map(|place| place.to_string()) }).into_response())
}

/// `GET /v1/jobs/{id}`: the whole story.
pub(super) async fn show(State(app): State<App>, Segments(id): Segments<String>) -> Answer {
    let job = app.job(&id).await?;
    let (server, meeting) = (job.server.clone(), job.meeting.clone());
    let others = app.read(move |store| store.of_meeting(&server, &meeting)).await?;
    let standing = app.standing_where(tells(&job) || awaits_its_run(&job)).await;
    let telling = telling(standing.as_ref(), &job);
    let mut answer = JobAnswer { telling, ..JobAnswer::with_history(&job, &others, app.service.now()) };
    answer.job.not_live_since = standing.and_then(|standing| standing.gone.get(&job.id).copied());
    Ok((etag(job.revision), Json(answer)).into_response())
}

/// `GET /v1/jobs/{id}/history`.
pub(super) async fn history(State(app): State<App>, Segments(id): Segments<String>) -> Answer {
    let job = app.job(&id).await?;
    let history = job.history.recent.iter().map(HistoryLine::new).collect();
    let answer = History { id: job.id, left_out: job.history.left_out, history };
    Ok((etag(job.revision), Json(answer)).into_response())
}

/// `PATCH /v1/jobs/{id}`: a new time.
pub(super) async fn move_to(
    State(app): State<App>,
    peer: ConnectInfo<Peer>,
    Segments(id): Segments<String>,
    headers: HeaderMap,
    Body(body): Body<Move>,
) -> Answer {
    let change = body.change(app.service.now())?;
    app.change(&id, peer, &headers, change).await
}

/// `DELETE /v1/jobs/{id}`.
pub(super) async fn cancel(
    State(app): State<App>,
    peer: ConnectInfo<Peer>,
    Segments(id): Segments<String>,
    headers: HeaderMap,
) -> Answer {
    app.change(&id, peer, &headers, Change::Cancel).await
}

pub(super) async fn fire(
    State(app): State<App>,
    peer: ConnectInfo<Peer>,
    Segments(id): Segments<String>,
    headers: HeaderMap,
    Body(Nothing {}): Body<Nothing>,
) -> Answer {
    app.change(&id, peer, &headers, Change::Fire).await
}

pub(super) async fn hold(
    State(app): State<App>,
    peer: ConnectInfo<Peer>,
    Segments(id): Segments<String>,
    headers: HeaderMap,
    Body(body): Body<Hold>,
) -> Answer {
    let change = body.change(app.service.now())?;
    app.change(&id, peer, &headers, change).await
}

pub(super) async fn release(
    State(app): State<App>,
    peer: ConnectInfo<Peer>,
    Segments(id): Segments<String>,
    headers: HeaderMap,
    Body(body): Body<Release>,
) -> Answer {
    let change = body.change(app.service.now())?;
    app.change(&id, peer, &headers, change).await
}

pub(super) async fn extend(
    State(app): State<App>,
    peer: ConnectInfo<Peer>,
    Segments(id): Segments<String>,
    headers: HeaderMap,
    Body(body): Body<Extend>,
) -> Answer {
    let change = body.change(app.service.now())?;
    app.change(&id, peer, &headers, change).await
}

impl App {
    /// Refuses a server that is neither configured nor has jobs here (from when it was): its name is a slip.
    pub(super) async fn knows(&self, server: &ServerName) -> Result<(), Problem> {
        let servers = self.service.standing().await?.servers;
        if servers.contains(server) {
            return Ok(());
        }
        let filter = Filter { server: Some(server.clone()), ..Filter::default() };
        if !self.scan(move |store| store.page(&filter, None, 1)).await?.is_empty() {
            return Ok(());
        }
        let known: Vec<&str> = servers.iter().map(ServerName::as_str).collect();
        let hint = format!("the configuration names {}", known.join(", "));
        Err(Problem::not_found(format!("there is no server {server}"), hint))
    }

    async fn job(&self, given: &str) -> Result<Job, Problem> {
        let id = self.resolve(given).await?;
        self.read(move |store| store.get(id)).await?.ok_or_else(|| no_such_job(given))
    }

    /// What the daemon knows besides the store, asked only where it matters to an answer. What is accepted is not refused
    /// because this could not be found out.
    async fn standing_where(&self, matters: bool) -> Option<Standing> {
        if matters { self.service.standing().await.ok() } else { None }
    }

    async fn answer(&self, job: &Job, others: &[Job]) -> JobAnswer {
        let telling = telling(self.standing_where(tells(job)).await.as_ref(), job);
        JobAnswer { telling, ..JobAnswer::new(job, others, self.service.now()) }
    }

    async fn change(
        &self,
        given: &str,
        ConnectInfo(peer): ConnectInfo<Peer>,
        headers: &HeaderMap,
        change: Change,
    ) -> Answer {
        let if_match = if_match(headers)?;
        let id = self.resolve(given).await?;
        let receipt = self.service.change(id, if_match, change, peer.into()).await?;
        let answer = self.answer(&receipt.job, &receipt.others).await;
        Ok((etag(receipt.job.revision), Json(answer)).into_response())
    }
}

fn is_at_rest(job: &Job) -> bool {
    matches!(job.state, JobState::Waiting | JobState::Held)
}

/// Is there still something that the people inside are to be told?
fn tells(job: &Job) -> bool {
    is_at_rest(job) && !job.limits.warn.is_empty()
}

/// It waits for the time of one run, which may be gone by now.
fn awaits_its_run(job: &Job) -> bool {
    is_at_rest(job) && job.only.is_some()
}

/// Can the people inside be told what is still to be told?
fn telling(standing: Option<&Standing>, job: &Job) -> Option<Telling> {
    standing
        .filter(|_| tells(job))
        .map(|standing| standing.telling.get(&job.server).cloned().unwrap_or_default())
}

async fn receipt_answer(app: &App, receipt: &Receipt) -> Response {
    let job = &receipt.job;
    let status = if receipt.created { StatusCode::CREATED } else { StatusCode::OK };
    let location = HeaderValue::try_from(format!("/v1/jobs/{}", job.id)).expect("a UUID is printable");
    let answer = app.answer(job, &receipt.others).await;
    (status, [(header::LOCATION, location)], etag(job.revision), Json(answer)).into_response()
}

fn etag(revision: u64) -> [(HeaderName, HeaderValue); 1] {
    let value = HeaderValue::try_from(format!("\"{revision}\"")).expect("digits are printable");
    [(header::ETAG, value)]
}

/// Our own command line says who it is; whoever else comes is the API.
pub(super) fn origin(headers: &HeaderMap) -> Origin {
    let agent = headers.get(header::USER_AGENT).map(HeaderValue::as_bytes);
    match agent {
        Some(agent) if agent.starts_with(super::CLI_AGENT.as_bytes()) => Origin::Cli,
        _ => Origin::Api,
    }
}

pub(super) fn states<'de, D: Deserializer<'de>>(d: D) -> Result<Vec<JobState>, D::Error> {
    words(d, "state", &JobState::ALL.map(|state| (state.as_str(), state)))
}

fn outcomes<'de, D: Deserializer<'de>>(d: D) -> Result<Vec<Outcome>, D::Error> {
    words(d, "outcome", &Outcome::ALL.map(|outcome| (outcome.as_str(), outcome)))
}

/// Words with commas between them, each one of a known few.
fn words<'de, D: Deserializer<'de>, T: Copy>(
    d: D,
    what: &str,
    known: &[(&str, T)],
) -> Result<Vec<T>, D::Error> {
    let text = String::deserialize(d)?;
    let one = |word: &str| {
        let found = known.iter().find(|(name, _)| *name == word).map(|(_, value)| *value);
        found.ok_or_else(|| {
            let names: Vec<&str> = known.iter().map(|(name, _)| *name).collect();
            D::Error::custom(format!("{word:?} is no {what}; there are {}", names.join(", ")))
        })
    };
    text.split(',').map(str::trim).filter(|word| !word.is_empty()).map(one).collect()
}
