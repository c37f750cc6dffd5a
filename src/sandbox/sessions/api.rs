//! What a façade is to the world: it reads requests, admits them, and answers in its own manner.

use serde_json::Value;

use super::limiter::Rate;
use super::truth::Call;
use super::world::{Visit, World};
use crate::job::UtcMs;

/// One platform's API. Pure, like the world.
pub trait Api: Send + Sync + 'static {
    fn ways(&self) -> Ways;

    /// The id of the nth session of this service.
    fn session_id(&self, meeting: &str, n: usize) -> String;

    /// What a request is for; its paths and ids are read and nothing is looked up.
    fn asks(&self, request: &Request<'_>) -> Asks;

    /// May whoever sent this do that? `now` is the service's own clock.
    fn admit(&self, request: &Request<'_>, now: UtcMs) -> Result<(), Problem>;

    fn answer(&self, world: &mut World, visit: &mut Visit, request: &Request<'_>) -> Result<Value, Problem>;

    /// An error as this API writes it.
    fn problem(&self, problem: &Problem) -> Value;

    /// The prefix of the base URL.
    fn base(&self) -> &str;
}

/// How the service behaves where no fault stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Ways {
    /// From an accepted end to the real one.
    pub end_delay_ms: u32,
    /// A session that everybody has left stays live for so long.
    pub keep_alive_ms: u32,
    pub rate: Option<Rate>,
}

/// One request as it came in.
pub struct Request<'a> {
    pub method: &'a str,
    /// Path and query, as on the wire.
    pub target: &'a str,
    pub authorization: Option<&'a str>,
    pub body: &'a [u8],
    /// Microseconds since the epoch.
    pub received_us: i64,
}

impl Request<'_> {
    pub fn path(&self) -> &str {
        self.target.split_once('?').map_or(self.target, |(path, _)| path)
    }

    /// The decoded segments below a prefix of the path; `None` elsewhere.
    pub fn below(&self, prefix: &str) -> Option<Vec<String>> {
        let rest = self.path().strip_prefix(prefix)?.strip_prefix('/')?;
        Some(rest.split('/').map(decoded).collect())
    }

    /// A parameter of the query, if it is there and not empty.
    pub fn parameter(&self, name: &str) -> Option<String> {
        let (_, query) = self.target.split_once('?')?;
        let mut pairs = url::form_urlencoded::parse(query.as_bytes());
        pairs.find(|(key, value)| key == name && !value.is_empty()).map(|(_, value)| value.into_owned())
    }

    /// A text in a JSON body.
    pub fn field(&self, name: &str) -> Option<String> {
        let body: Value = serde_json::from_slice(self.body).ok()?;
        body.get(name)?.as_str().map(str::to_owned)
    }

    /// A whole number in the query; `Err` for anything else that is given.
    pub fn number(&self, name: &str, default: usize) -> Result<usize, Problem> {
        match self.parameter(name).map(|text| text.parse()) {
            None => Ok(default),
            Some(Ok(number)) => Ok(number),
            Some(Err(_)) => Err(Problem::new(422, "invalid_object", format!("{name} must be a number."))),
        }
    }
}

fn decoded(segment: &str) -> String {
    percent_encoding::percent_decode_str(segment).decode_utf8_lossy().into_owned()
}

/// What a request is for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Asks {
    pub call: Call,
    /// As given; where only a session is named, the world adds the meeting that it belongs to.
    pub meeting: Option<String>,
    pub session: Option<String>,
}

impl Asks {
    pub fn nothing() -> Asks {
        Asks { call: Call::Unknown, meeting: None, session: None }
    }
}

/// The page of a listing that is asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Page {
    /// Counted from 0.
    pub index: usize,
    pub size: usize,
    /// Larger ones are cut to this.
    pub largest: usize,
    pub oldest_first: bool,
}

/// Why a request is refused.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Problem {
    pub status: u16,
    pub code: &'static str,
    pub message: String,
    /// Seconds.
    pub retry_after: Option<u32>,
}

impl Problem {
    pub fn new(status: u16, code: &'static str, message: impl Into<String>) -> Problem {
        Problem { status, code, message: message.into(), retry_after: None }
    }

    pub fn not_found(what: &str) -> Problem {
        Problem::new(404, "resource_not_found", format!("{what} not found"))
    }

    pub fn too_many(retry_after: Option<u32>) -> Problem {
        Problem { retry_after, ..Problem::new(429, "too_many_requests", "Too many requests.") }
    }

    /// As VideoSDK's documentation words them.
    pub fn of_status(status: u16) -> Problem {
        let (code, message) = match status {
            400 => ("invalid_params", "Invalid parameters."),
            401 => ("invalid_token", "Token is invalid or expired."),
            402 => ("not_found", "Not found."),
            403 => ("forbidden", "You don't have permission to access this resource."),
            404 => ("resource_not_found", "Not found."),
            406 => ("fetch_error", "Failed to end session."),
            422 => ("invalid_object", "Invalid object."),
            429 => ("too_many_requests", "Too many requests."),
            _ => ("error", "Something went wrong."),
        };
        Problem::new(status, code, message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_read_as_it_is_on_the_wire() {
        let request = Request {
            method: "GET",
            target: "/v2/sessions/a%2Fb?roomId=x%26y&page=&perPage=z",
            authorization: None,
            body: br#"{"status":"INACTIVE","n":1}"#,
            received_us: 0,
        };
        assert_eq!(request.below("/v2").unwrap(), ["sessions", "a/b"]);
        assert_eq!(request.below("/v3"), None);
        assert_eq!(request.parameter("roomId").as_deref(), Some("x&y"));
        assert_eq!(request.number("page", 1), Ok(1), "empty is not given");
        assert_eq!(request.number("perPage", 1).unwrap_err().status, 422);
        assert_eq!((request.field("status").as_deref(), request.field("n")), (Some("INACTIVE"), None));
    }
}
