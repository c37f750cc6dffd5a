//! Answers read: the envelope, sessions, pages, and what an answer to an end call means. Pure.
//!
//! | answer | what it says |
//! |---|---|
//! | 2xx with `"success": true` | taken; read on |
//! | 2xx without it | as its `error.code`, where that is an HTTP status; refused otherwise |
//! | 401, 403 | our configuration; nothing about the meeting |
//! | 404 in the platform's own form | missing, or a wrong meeting or app id |
//! | 429 | not processed, later |
//! | another 4xx in the platform's own form | refused, as one about an ended meeting might be |
//! | 5xx, HTML, half a document, the gateway's form (`errors`) | no usable answer: it may have taken effect |
//!
//! The gateway also says in its own form that it knows no such token, or no such account: that is our configuration.

use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;

use super::budget::PENALTY;
use crate::job::{EndAnswer, Instance, InstanceId, Sighting, UtcMs};
use crate::platform::Fault;
use crate::platform::rest::{NoReply, Reply, Told};

/// Cloudflare: the gateway's codes for a token that is malformed, unknown, or not allowed to do this.
const TOKEN_REFUSED: [u64; 6] = [6003, 6111, 9106, 9109, 10_000, 10_001];
/// Cloudflare: the gateway's codes for an address that leads nowhere (a wrong account or app id).
const NO_SUCH_ROUTE: [u64; 2] = [7000, 7003];
/// So many bytes of a secret at the end of a text are taken for its beginning.
const CUT_SECRET: usize = 6;
/// Where the words stand, in both forms.
const MESSAGES: [&str; 4] = ["/error/message", "/errors/0/message", "/message", "/error"];

/// Why an answer is of no use.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Problem {
    /// The request certainly never left.
    NotSent(String),
    /// It may have arrived and taken effect.
    Lost(String),
    /// There is no such thing: 404 in the platform's own words.
    Missing(String),
    Refused(String),
    Throttled {
        why: String,
        retry_after: Duration,
    },
    Misconfigured(String),
    /// Not asked: the request budget, or this round's share of it, is used up. To be asked again after so long.
    NotNow {
        why: String,
        pause: Duration,
    },
}

impl Problem {
    pub(super) fn why(&self) -> &str {
        match self {
            Problem::NotSent(why)
            | Problem::Lost(why)
            | Problem::Missing(why)
            | Problem::Refused(why)
            | Problem::Misconfigured(why)
            | Problem::Throttled { why, .. }
            | Problem::NotNow { why, .. } => why,
        }
    }

    /// Is the server in trouble?
    pub(super) fn is_outage(&self) -> bool {
        matches!(self, Problem::NotSent(_) | Problem::Lost(_))
    }

    pub(super) fn sighting(&self) -> Sighting {
        let why = self.why().to_owned();
        match self {
            Problem::NotSent(_) | Problem::Lost(_) | Problem::Throttled { .. } => Sighting::Unreachable(why),
            Problem::Missing(_) | Problem::Refused(_) | Problem::NotNow { .. } => Sighting::Doubtful(why),
            Problem::Misconfigured(_) => Sighting::Misconfigured(why),
        }
    }

    pub(super) fn fault(&self) -> Fault {
        match self {
            Problem::Missing(why) | Problem::Refused(why) | Problem::Misconfigured(why) => {
                Fault::Misconfigured(why.clone())
            }
            other => Fault::Unreachable(other.why().to_owned()),
        }
    }
}

/// The server and its credential, as errors name them.
pub(super) struct Names<'a> {
    pub(super) server: &'a str,
    /// What to look at when it is refused: `token (it needs ...)`.
    pub(super) credential: &'a str,
    /// What to look at when nothing is where we ask: `account-id and app-id`.
    pub(super) place: &'a str,
    /// What no text may repeat.
    pub(super) secrets: &'a [SecretString],
}

/// A stranger's text without what it may repeat of our secrets, also where it was cut off in the middle of one.
pub(super) fn struck(secrets: &[SecretString], text: &str) -> String {
    const STRUCK: &str = "***";
    let mut clean = text.to_owned();
    for secret in secrets.iter().map(ExposeSecret::expose_secret).filter(|secret| !secret.is_empty()) {
        clean = clean.replace(secret, STRUCK);
        let cut = secret.char_indices().map(|(at, _)| at).rev().take_while(|at| *at >= CUT_SECRET);
        let end = cut.map(|at| &secret[..at]).find(|start| clean.ends_with(start));
        if let Some(start) = end {
            clean.truncate(clean.len() - start.len());
            clean.push_str(STRUCK);
        }
    }
    clean
}

/// The envelope. `what` was asked for.
pub(super) fn open(names: &Names<'_>, what: &str, reply: Result<Reply, NoReply>) -> Result<Value, Problem> {
    let reply = reply.map_err(|none| match none {
        NoReply::NotSent(why) => Problem::NotSent(why),
        NoReply::Lost(why) | NoReply::TooLarge(why) => Problem::Lost(why),
    })?;
    let said = reply.message(&MESSAGES).unwrap_or_else(|| "without a reason".to_owned());
    let said = struck(names.secrets, &said);
    let why = format!("{}: {what}: HTTP {}: {said}", names.server, reply.status);
    let retry_after = reply.retry_after;
    let body = match reply.json {
        Ok(body) if body.is_object() => body,
        _ => return Err(unreadable(names, reply.status, why, retry_after)),
    };
    let success = body.get("success").and_then(Value::as_bool) == Some(true);
    let taken = (200..300).contains(&reply.status);
    if taken && success {
        return Ok(body);
    }
    let own = body.pointer("/error/code").and_then(Value::as_u64);
    let gateway = body.pointer("/errors/0/code").and_then(Value::as_u64);
    let status = match own {
        Some(code) if taken => code,
        _ => u64::from(reply.status),
    };
    let lost = gateway.is_some() && own.is_none();
    Err(match (status, gateway) {
        (429, _) => throttled(why, retry_after),
        (401 | 403, _) => credential_refused(names, &why),
        // A gateway in trouble says many things: what it says under a 5xx is about itself, not about the token.
        (500..=599, _) => Problem::Lost(why),
        (_, Some(code)) if TOKEN_REFUSED.contains(&code) => credential_refused(names, &why),
        (_, Some(code)) if NO_SUCH_ROUTE.contains(&code) => {
            Problem::Misconfigured(format!("{why}: check {}", names.place))
        }
        (404, _) if !lost => Problem::Missing(why),
        (400..=499, _) if !lost => Problem::Refused(why),
        (_, None) if taken && !(500..=599).contains(&status) => Problem::Refused(why),
        _ => Problem::Lost(why),
    })
}

/// No JSON object: what answers is not the platform itself.
fn unreadable(names: &Names<'_>, status: u16, why: String, retry_after: Option<Duration>) -> Problem {
    match status {
        429 => throttled(why, retry_after),
        401 => credential_refused(names, &why),
        _ => Problem::Lost(why),
    }
}

fn throttled(why: String, retry_after: Option<Duration>) -> Problem {
    Problem::Throttled { why, retry_after: retry_after.unwrap_or(PENALTY) }
}

fn credential_refused(names: &Names<'_>, why: &str) -> Problem {
    Problem::Misconfigured(format!("{why}: check {}", names.credential))
}

pub(super) fn map_end(answer: Result<Value, Problem>) -> EndAnswer {
    match answer {
        Ok(_) => EndAnswer::Accepted,
        Err(Problem::Missing(why) | Problem::Refused(why)) => EndAnswer::MaybeGone { why },
        // Its room in the budget comes with its turn; what never left is no refusal by the server.
        Err(Problem::NotSent(why) | Problem::NotNow { why, .. }) => {
            EndAnswer::Unreachable { why, sent: false }
        }
        Err(Problem::Lost(why)) => EndAnswer::Unreachable { why, sent: true },
        Err(Problem::Misconfigured(why)) => EndAnswer::Misconfigured { why },
        Err(Problem::Throttled { why, retry_after }) => {
            EndAnswer::Throttled { why, retry_after: Some(retry_after), unavailable: false }
        }
    }
}

/// One session, as a listing or its own record shows it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Session {
    pub(super) id: InstanceId,
    /// `associated_id`; a record without it is taken to be about the meeting that was asked for.
    pub(super) meeting: Option<String>,
    pub(super) live: bool,
    pub(super) title: String,
    /// On the server's clock.
    pub(super) started_at: Option<UtcMs>,
    pub(super) participants: Option<u32>,
}

impl Session {
    /// `None`: without an id or a status that is known nothing can be concluded from it.
    fn read(value: &Value) -> Option<Session> {
        let text = |key: &str| value.get(key).and_then(Value::as_str).filter(|text| !text.is_empty());
        let live = match text("status")? {
            "LIVE" => true,
            "ENDED" => false,
            _ => return None,
        };
        let started = text("started_at").or_else(|| text("created_at"));
        let people = value.get("live_participants").and_then(Value::as_u64);
        Some(Session {
            id: text("id")?.into(),
            meeting: text("associated_id").map(str::to_owned),
            live,
            title: text("meeting_display_name").unwrap_or_default().to_owned(),
            started_at: started.and_then(|at| Some(UtcMs::from(at.parse::<jiff::Timestamp>().ok()?))),
            participants: people.and_then(|people| u32::try_from(people).ok()),
        })
    }

    /// `told`: what a start is worth.
    pub(super) fn instance(&self, listed: bool, told: impl Fn(UtcMs) -> Told) -> Instance {
        let (started_at, start) = self.started_at.and_then(told).unzip();
        Instance {
            id: self.id.clone(),
            started_at,
            start,
            participants: self.participants,
            listed,
            node: None,
            shown_at: None,
            asked_at: None,
        }
    }
}

/// The one session that a record is about. RealtimeKit: in `data`, or in `data.session`; both are documented.
pub(super) fn record(body: &Value) -> Option<Session> {
    let data = body.get("data")?;
    Session::read(data.get("session").filter(|session| session.is_object()).unwrap_or(data))
}

/// One page of a listing.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Page {
    pub(super) rows: Vec<Session>,
    /// Rows that [`Session`] cannot be read from: about them nothing is known, about the others everything.
    pub(super) unread: usize,
    /// Rows in the whole listing; `None`: not told.
    pub(super) total: Option<usize>,
}

/// `None`: it is no page.
pub(super) fn page(body: &Value) -> Option<Page> {
    let rows = body.pointer("/data/sessions")?.as_array()?;
    let read: Vec<Session> = rows.iter().filter_map(Session::read).collect();
    let total = body.pointer("/paging/total_count").and_then(Value::as_u64);
    let unread = rows.len() - read.len();
    Some(Page { rows: read, unread, total: total.and_then(|total| usize::try_from(total).ok()) })
}

#[cfg(test)]
mod tests;
