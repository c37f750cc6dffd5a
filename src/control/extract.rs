//! What comes with a request: path, query, headers and body, every refusal of them a problem document.

use std::error::Error;

use axum::Json;
use axum::body::Bytes;
use axum::extract::{FromRequest, FromRequestParts, Path, Query, Request};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode, header};
use serde::de::{DeserializeOwned, IgnoredAny};
use tokio::time::timeout;

use super::problem::Problem;
use super::{App, MAX_CANDIDATES};
use crate::config::limits::MAX_KEY_BYTES;
use crate::job::JobId;

/// The characters of an id that people must give at least: its last ones.
const MIN_SUFFIX: usize = 8;
/// Characters of a whole id without its hyphens.
const WHOLE_ID: usize = 32;

/// The variable segments of the path, percent-decoded.
pub(super) struct Segments<T>(pub T);

impl<T: DeserializeOwned + Send> FromRequestParts<App> for Segments<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Segments<T>, Problem> {
        let Path(segments) = Path::from_request_parts(parts, app).await.map_err(|rejection| {
            Problem::bad_request(rejection.body_text(), "percent-encode the names in the path as UTF-8")
        })?;
        Ok(Segments(segments))
    }
}

/// The query string.
pub(super) struct Params<T>(pub T);

impl<T: DeserializeOwned> FromRequestParts<App> for Params<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Params<T>, Problem> {
        let Query(params) = Query::from_request_parts(parts, app).await.map_err(|rejection| {
            let hint = "percent-encode the values of the query (a + in a time is %2B)";
            Problem::bad_request(format!("the query: {}", cause(&rejection)), hint)
        })?;
        Ok(Params(params))
    }
}

/// A JSON body; an empty one is `{}`.
pub(super) struct Body<T>(pub T);

impl<T: DeserializeOwned> FromRequest<App> for Body<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, app: &App) -> Result<Body<T>, Problem> {
        let bytes = timeout(app.body_wait, Bytes::from_request(request, app)).await;
        let bytes =
            bytes.map_err(|_| Problem::body_late(app.body_wait))?.map_err(|rejection| {
                match rejection.status() {
                    StatusCode::PAYLOAD_TOO_LARGE => Problem::too_large(),
                    _ => Problem::bad_request(cause(&rejection), "send the whole body"),
                }
            })?;
        parse(if bytes.trim_ascii().is_empty() { b"{}" } else { &bytes }).map(Body)
    }
}

/// Malformed JSON is told with its place, a wrong field with its name.
pub(super) fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Problem> {
    if let Err(error) = serde_json::from_slice::<IgnoredAny>(bytes) {
        return Err(Problem::bad_request(format!("the body is not JSON: {error}"), "send one JSON object")
            .with("line", error.line())
            .with("column", error.column()));
    }
    let Json(body) = Json::from_bytes(bytes).map_err(|rejection| {
        Problem::invalid(format!("the body: {}", cause(&rejection)), "correct the field that is named")
    })?;
    Ok(body)
}

/// The rejections of axum say what they are first; their source says what is wrong.
fn cause(rejection: &dyn Error) -> String {
    rejection.source().map_or_else(|| rejection.to_string(), ToString::to_string)
}

/// `Idempotency-Key`, if there is one.
pub(super) fn idempotency_key(headers: &HeaderMap) -> Result<Option<String>, Problem> {
    let Some(value) = headers.get("idempotency-key") else { return Ok(None) };
    checked_key(&String::from_utf8_lossy(value.as_bytes())).map(Some)
}

/// A key: printable ASCII, bounded.
pub(super) fn checked_key(key: &str) -> Result<String, Problem> {
    let printable = key.bytes().all(|byte| (b' '..=b'~').contains(&byte));
    if key.is_empty() || key.len() > MAX_KEY_BYTES || !printable {
        let detail =
            format!("the idempotency key must be 1 to {MAX_KEY_BYTES} bytes of printable ASCII, not {key:?}");
        return Err(Problem::invalid(detail, "a UUID, or the id of the booking, makes a good key"));
    }
    Ok(key.to_owned())
}

/// `If-Match: "<revision>"`; `*` asks for nothing.
pub(super) fn if_match(headers: &HeaderMap) -> Result<Option<u64>, Problem> {
    let Some(value) = headers.get(header::IF_MATCH) else { return Ok(None) };
    let text = String::from_utf8_lossy(value.as_bytes());
    if text.trim() == "*" {
        return Ok(None);
    }
    let quoted = text.trim().strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
    let revision = quoted.and_then(|digits| digits.parse().ok());
    revision.map(Some).ok_or_else(|| {
        let detail = format!("If-Match is {text:?}, not a revision in quotes");
        Problem::bad_request(detail, "send the ETag of the job as it came: If-Match: \"3\"")
    })
}

/// For what has no single revision: an `If-Match` that were ignored would promise too much.
pub(super) fn no_if_match(headers: &HeaderMap) -> Result<(), Problem> {
    if headers.contains_key(header::IF_MATCH) {
        return Err(Problem::bad_request("If-Match has no meaning here", "change the job by its id"));
    }
    Ok(())
}

impl App {
    /// The job that a whole id, or its last eight or more characters, stands for.
    pub(super) async fn resolve(&self, given: &str) -> Result<JobId, Problem> {
        let id: String = given.chars().filter(|c| *c != '-').map(|c| c.to_ascii_lowercase()).collect();
        let hexadecimal = id.bytes().all(|byte| byte.is_ascii_hexdigit());
        if !hexadecimal || !(MIN_SUFFIX..=WHOLE_ID).contains(&id.len()) {
            let detail = format!("{given:?} is no job id");
            return Err(Problem::invalid(detail, "give the whole id, or its last 8 characters"));
        }
        if let (WHOLE_ID, Ok(id)) = (id.len(), id.parse()) {
            return Ok(id);
        }
        let suffix = id.clone();
        let found = self.scan(move |store| store.by_suffix(&suffix, MAX_CANDIDATES)).await?;
        match found[..] {
            [] => Err(no_such_job(given)),
            [only] => Ok(only),
            _ => Err(ambiguous(given, &found)),
        }
    }
}

pub(super) fn no_such_job(given: impl std::fmt::Display) -> Problem {
    Problem::not_found(format!("there is no job {given}"), "see `adjourn list`")
}

fn ambiguous(given: &str, found: &[JobId]) -> Problem {
    let candidates: Vec<String> = found.iter().map(JobId::to_string).collect();
    let detail = format!("several jobs end in {given}: {}", candidates.join(", "));
    Problem::new(StatusCode::CONFLICT, "ambiguous-id", detail, "give more characters of the id")
        .with("candidates", candidates)
}
