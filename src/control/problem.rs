//! Refusals as RFC 9457 problem documents: what, where, and what to do.

use std::time::Duration;

use axum::extract::Request;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Map, Value, json};

use super::MAX_BODY_BYTES;
use crate::engine::api::{Refusal, RefusalKind};
use crate::store::StoreError;

/// One refusal. Nothing has changed, unless the status is 504.
#[derive(Debug)]
pub(super) struct Problem {
    status: StatusCode,
    /// The last part of the `type`: what a program branches on.
    kind: &'static str,
    detail: String,
    hint: String,
    extra: Map<String, Value>,
}

/// What a refusal says, for the log.
#[derive(Clone, Debug)]
pub(super) struct Said(pub String);

impl Problem {
    pub(super) fn new(
        status: StatusCode,
        kind: &'static str,
        detail: impl Into<String>,
        hint: impl Into<String>,
    ) -> Problem {
        Problem { status, kind, detail: detail.into(), hint: hint.into(), extra: Map::new() }
    }

    pub(super) fn with(mut self, name: &str, value: impl Into<Value>) -> Problem {
        self.extra.insert(name.to_owned(), value.into());
        self
    }

    /// The request itself is wrong: 400.
    pub(super) fn bad_request(detail: impl Into<String>, hint: impl Into<String>) -> Problem {
        Problem::new(StatusCode::BAD_REQUEST, "bad-request", detail, hint)
    }

    /// Understood, but cannot be: 422.
    pub(super) fn invalid(detail: impl Into<String>, hint: impl Into<String>) -> Problem {
        Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid", detail, hint)
    }

    pub(super) fn not_found(detail: impl Into<String>, hint: impl Into<String>) -> Problem {
        Problem::new(StatusCode::NOT_FOUND, "not-found", detail, hint)
    }

    pub(super) fn internal(detail: impl Into<String>) -> Problem {
        let hint = "this is a fault of the daemon: look into its log";
        Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", detail, hint)
    }

    pub(super) fn timed_out(bound: Duration) -> Problem {
        let detail = format!("no answer within {bound:?}");
        let hint = "what was asked for may still happen: look with `adjourn list`, \
                    or send it again with the same idempotency key";
        Problem::new(StatusCode::GATEWAY_TIMEOUT, "timed-out", detail, hint)
    }

    /// The client's fault, and nothing was done.
    pub(super) fn body_late(bound: Duration) -> Problem {
        let detail = format!("the body was not there as a whole within {bound:?}: nothing was done");
        let hint = "send all of it at once; Content-Length says how many bytes are waited for";
        Problem::new(StatusCode::REQUEST_TIMEOUT, "body-late", detail, hint)
    }

    pub(super) fn too_large() -> Problem {
        let detail = format!("the body is larger than {MAX_BODY_BYTES} bytes");
        Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "too-large", detail, "send one job a request")
    }

    pub(super) fn status(&self) -> u16 {
        self.status.as_u16()
    }

    pub(super) fn detail(&self) -> &str {
        &self.detail
    }

    pub(super) fn hint(&self) -> &str {
        &self.hint
    }
}

impl Problem {
    /// The refusal of a line of an import, which is read as bodies are.
    pub(super) fn of_a_line(self) -> Problem {
        let Problem { mut detail, mut extra, .. } = self;
        if let Some(rest) = detail.strip_prefix("the body") {
            detail = format!("the line{rest}");
        }
        detail = detail.replace(" at line 1 column ", " at column ");
        // Where in the text of the one line, that is: always 1, and beside the number of the line misleading.
        extra.remove("line");
        Problem { detail, extra, ..self }
    }

    /// The RFC 9457 document.
    pub(super) fn document(self) -> Value {
        let mut body = json!({
            "type": format!("urn:adjourn:problem:{}", self.kind),
            "title": title(self.kind),
            "status": self.status.as_u16(),
            "detail": self.detail,
            "hint": self.hint,
        });
        if let Value::Object(fields) = &mut body {
            fields.extend(self.extra);
        }
        body
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let (status, said) = (self.status, Said(self.detail.clone()));
        let kind = [(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"))];
        let mut answer = (status, kind, self.document().to_string()).into_response();
        answer.extensions_mut().insert(said);
        answer
    }
}

/// `stale-revision` as `Stale revision`.
fn title(kind: &str) -> String {
    let mut chars = kind.chars();
    let first = chars.next().map(|c| c.to_ascii_uppercase());
    first.into_iter().chain(chars.map(|c| if c == '-' { ' ' } else { c })).collect()
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Problem {
        let (status, kind) = match refusal.kind {
            RefusalKind::NotFound => (StatusCode::NOT_FOUND, "not-found"),
            RefusalKind::Invalid => (StatusCode::UNPROCESSABLE_ENTITY, "invalid"),
            RefusalKind::KeyReused => (StatusCode::UNPROCESSABLE_ENTITY, "key-reused"),
            RefusalKind::Conflict => (StatusCode::CONFLICT, "conflict"),
            RefusalKind::StaleRevision => (StatusCode::PRECONDITION_FAILED, "stale-revision"),
            RefusalKind::StoreFailed => (StatusCode::INSUFFICIENT_STORAGE, "store-failed"),
            RefusalKind::Platform => (StatusCode::BAD_GATEWAY, "platform"),
            RefusalKind::Stopping => (StatusCode::SERVICE_UNAVAILABLE, "stopping"),
        };
        Problem::new(status, kind, refusal.detail, refusal.hint)
    }
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Problem {
        let detail = error.to_string();
        match error {
            StoreError::Closed => Problem::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "stopping",
                detail,
                "the daemon is stopping: ask again once it is back",
            ),
            StoreError::Io { .. } => Problem::new(
                StatusCode::INSUFFICIENT_STORAGE,
                "store-failed",
                detail,
                "make room on the disk of the state directory; the daemon goes on by itself",
            ),
            StoreError::Revision { .. }
            | StoreError::KeyTaken { .. }
            | StoreError::NotDone(_)
            | StoreError::Damaged { .. } => Problem::internal(detail),
        }
    }
}

pub(super) async fn no_such_route(request: Request) -> Problem {
    let detail = format!("there is nothing at {}", request.uri().path());
    Problem::not_found(detail, "the routes begin with /v1: /v1/status, /v1/jobs, /v1/servers, /v1/events")
}

pub(super) async fn wrong_method(request: Request) -> Problem {
    let detail = format!("{} is not possible at {}", request.method(), request.uri().path());
    let hint = "the Allow header names what is";
    Problem::new(StatusCode::METHOD_NOT_ALLOWED, "method-not-allowed", detail, hint)
}
