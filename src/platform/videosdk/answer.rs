//! What answers mean: sessions, pages of sessions, and what an end call was told. Pure.
//!
//! An answer to an end call:
//!
//! | answer | what it says |
//! |---|---|
//! | 2xx, whatever is in it | accepted: the vendor's samples show the session ongoing right after |
//! | 401 (with a second token), 403 | our configuration; nothing about the session |
//! | 429 | not processed, later |
//! | any other 4xx | a session that is over is refused in one of these ways, nobody says in which: look |
//! | no connection | certainly not sent |
//! | 5xx, HTML, a redirect, no answer | may have taken effect |

use std::time::Duration;

use jiff::Timestamp;
use serde_json::Value;

use super::Version;
use super::token::Credentials;
use crate::job::{EndAnswer, Instance, InstanceId, MeetingId, UtcMs};
use crate::platform::Fault;
use crate::platform::rest::{NoReply, Reply, Told};

/// Where the API puts its texts.
const MESSAGES: [&str; 5] = ["/message", "/error", "/msg", "/statusMessage", "/error/message"];

/// Why there is no usable answer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Problem {
    /// `sent`: the request may have arrived.
    Unreachable {
        why: String,
        sent: bool,
    },
    Throttled {
        why: String,
        retry_after: Option<Duration>,
    },
    Misconfigured(String),
    /// The API itself says no. 402 and 404 are both used for what it does not find.
    Refused {
        why: String,
        status: u16,
    },
    /// An answer that says nothing.
    Unclear(String),
}

impl Problem {
    pub fn why(&self) -> &str {
        match self {
            Problem::Unreachable { why, .. }
            | Problem::Throttled { why, .. }
            | Problem::Refused { why, .. }
            | Problem::Misconfigured(why)
            | Problem::Unclear(why) => why,
        }
    }

    pub fn fault(self) -> Fault {
        match self {
            Problem::Misconfigured(why) => Fault::Misconfigured(why),
            other => Fault::Unreachable(other.why().to_owned()),
        }
    }
}

/// Whose answers are read; it is in every text.
pub(super) struct Reader {
    pub label: String,
    pub version: Version,
    pub credentials: Credentials,
}

impl Reader {
    /// The JSON of a good answer; `now` on our wall clock.
    pub fn read(&self, what: &str, reply: Result<Reply, NoReply>, now: UtcMs) -> Result<Value, Problem> {
        let reply = reply.map_err(|none| no_reply(&none))?;
        if let Some(problem) = self.problem(what, &reply, now) {
            return Err(problem);
        }
        reply.json.map_err(|_| Problem::Unclear(format!("{}: {what}: the answer is no JSON", self.label)))
    }

    pub fn map_answer(&self, reply: Result<Reply, NoReply>, now: UtcMs) -> EndAnswer {
        let reply = match reply {
            Ok(reply) => reply,
            Err(none) => {
                let sent = none.may_have_arrived();
                return EndAnswer::Unreachable { why: none.to_string(), sent };
            }
        };
        match self.problem("the end call", &reply, now) {
            None => EndAnswer::Accepted,
            Some(Problem::Unreachable { why, sent }) => EndAnswer::Unreachable { why, sent },
            Some(Problem::Throttled { why, retry_after }) => {
                EndAnswer::Throttled { why, retry_after, unavailable: false }
            }
            Some(Problem::Misconfigured(why)) => EndAnswer::Misconfigured { why },
            Some(Problem::Refused { why, .. } | Problem::Unclear(why)) => EndAnswer::MaybeGone { why },
        }
    }

    /// `None`: a 2xx of the API itself.
    fn problem(&self, what: &str, reply: &Reply, now: UtcMs) -> Option<Problem> {
        let told = self.told(reply);
        let why = format!("{}: {what}: {told}", self.label);
        Some(match reply.status {
            429 => Problem::Throttled { why, retry_after: reply.retry_after },
            // Something in between speaks, not the API.
            _ if is_html(reply) => Problem::Unreachable { why, sent: true },
            200..=299 => return None,
            401 => Problem::Misconfigured(self.unknown(&told, now)),
            403 => Problem::Misconfigured(self.forbidden(&told)),
            status @ 400..=499 => Problem::Refused { why, status },
            _ => Problem::Unreachable { why, sent: true },
        })
    }

    fn told(&self, reply: &Reply) -> String {
        let status = reply.status;
        match reply.message(&MESSAGES) {
            Some(message) => format!("HTTP {status} ({})", self.credentials.struck_from(&message)),
            None => format!("HTTP {status}"),
        }
    }

    fn unknown(&self, told: &str, now: UtcMs) -> String {
        let (label, name) = (&self.label, self.credentials.name());
        match self.credentials.expires() {
            Some(end) if end <= now => {
                format!("{label} refuses {name}, which expired at {end}: {told}; give it a new one")
            }
            _ => format!("{label} refuses {name}: {told}; check that it is of this account"),
        }
    }

    fn forbidden(&self, told: &str) -> String {
        let (label, name) = (&self.label, self.credentials.name());
        let wanted = match self.version {
            Version::V1 => "platform videosdk-v1 needs a token without version and roles",
            Version::V2 => "platform videosdk needs a token of version 2 with the role crawler",
        };
        format!("{label} does not allow this with {name}: {told}; {wanted}")
    }
}

fn no_reply(none: &NoReply) -> Problem {
    match none {
        NoReply::TooLarge(why) => Problem::Unclear(why.clone()),
        NoReply::NotSent(why) | NoReply::Lost(why) => {
            Problem::Unreachable { why: why.clone(), sent: none.may_have_arrived() }
        }
    }
}

fn is_html(reply: &Reply) -> bool {
    matches!(&reply.json, Err(text) if text.trim_start().starts_with('<'))
}

/// A session, as a record or a listing shows it. Texts are a stranger's.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Session {
    pub id: Option<InstanceId>,
    /// v2: `roomId`, v1: `meetingId`.
    pub room: Option<String>,
    pub custom_room: Option<String>,
    /// On the server's clock; `None` also where what it says is no time.
    pub started_at: Option<UtcMs>,
    pub participants: Option<u32>,
    /// The terminal record: `end` is set or `status` is `ended`. Nothing else says so, least of all a status that nobody
    /// has documented.
    pub over: bool,
}

impl Session {
    pub fn read(json: &Value) -> Session {
        let text = |key: &str| json.get(key).and_then(Value::as_str).filter(|text| !text.is_empty());
        Session {
            id: text("id").map(InstanceId::from),
            room: text("roomId").or_else(|| text("meetingId")).map(str::to_owned),
            custom_room: text("customRoomId").map(str::to_owned),
            started_at: text("start").and_then(|at| at.parse::<Timestamp>().ok()).map(UtcMs::from),
            participants: json.get("participants").and_then(present),
            over: json.get("end").is_some_and(is_set) || text("status") == Some("ended"),
        }
    }

    pub fn is_in(&self, meeting: &MeetingId) -> bool {
        self.room.as_deref() == Some(meeting.as_str())
    }

    /// The session as jobs know it; `None` without an id that calls can carry.
    pub fn instance(&self, listed: bool, told: impl Fn(UtcMs) -> Told) -> Option<Instance> {
        let id = self.id.clone().filter(is_usable)?;
        let (started_at, start) = self.started_at.and_then(told).unzip();
        let participants = self.participants;
        Some(Instance {
            id,
            started_at,
            start,
            participants,
            listed,
            node: None,
            shown_at: None,
            asked_at: None,
        })
    }
}

/// Can it stand in a path? URLs swallow the others.
pub(super) fn is_usable(id: &InstanceId) -> bool {
    !matches!(id.as_str(), "" | "." | "..")
}

/// Something that tells an end: `null`, an empty text, 0 and false tell none.
fn is_set(end: &Value) -> bool {
    match end {
        Value::String(text) => !text.trim().is_empty(),
        Value::Number(number) => number.as_f64().is_some_and(|at| at > 0.0),
        _ => false,
    }
}

/// Everybody who was ever there is listed; who is still there has a stay without an end.
fn present(participants: &Value) -> Option<u32> {
    let stays = |person: &Value| person.get("timelog").and_then(Value::as_array).cloned().unwrap_or_default();
    let is_there = |person: &&Value| stays(person).iter().any(|stay| !stay.get("end").is_some_and(is_set));
    u32::try_from(participants.as_array()?.iter().filter(is_there).count()).ok()
}

/// One page of a listing.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Page {
    pub sessions: Vec<Session>,
    /// Which page this is, if it says so; the first is 1.
    pub number: Option<u64>,
    pub last: u64,
    pub total: u64,
}

impl Page {
    /// `Err`: what is missing.
    pub fn read(json: &Value) -> Result<Page, &'static str> {
        let data = json.get("data").and_then(Value::as_array).ok_or("the listing has no data")?;
        let number = |key: &str| count(json.get("pageInfo")?.get(key)?);
        Ok(Page {
            sessions: data.iter().map(Session::read).collect(),
            number: number("currentPage"),
            last: number("lastPage").ok_or("the listing does not say how many pages it has")?,
            total: number("total").ok_or("the listing does not say how many sessions it has")?,
        })
    }
}

fn count(value: &Value) -> Option<u64> {
    value.as_u64().or_else(|| value.as_str()?.parse().ok())
}

#[cfg(test)]
mod tests;
