//! The requests of both versions, each signed as it leaves.
//!
//! | what | v1 | v2 |
//! |---|---|---|
//! | sessions | `GET v1/meeting-sessions` | `GET v2/sessions` |
//! | one session | `GET v1/meeting-sessions/{S}` | `GET v2/sessions/{S}` |
//! | end | `POST v1/meeting-sessions/{S}/end` | `POST v2/sessions/end`, room and session |
//! | close a room | none | `POST v2/rooms/deactivate` |
//!
//! A refused token (401) is replaced once, and the request repeated once: what was refused had no effect, so that also an
//! end call may be repeated. The answer's date has corrected the clock for the second one.
//! While the server has asked for a pause (429) nothing is read, but end calls leave: they have a pause of their own.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use reqwest::header::HeaderValue;
use serde_json::{Value, json};

use super::answer::{Page, Problem, Reader, Session};
use super::token::Tokens;
use super::{Settings, Version};
use crate::job::{BootMs, EndAnswer, InstanceId, MeetingId, Now, UtcMs};
use crate::platform::http::Timeouts;
use crate::platform::rest::{Ask, Clock, NoReply, Reply, Rest, Told};
use crate::platform::{EndCall, Fault};

/// Sessions a page. The vendor documents no largest number.
pub(super) const PER_PAGE: &str = "100";
/// Looks pause at most so long, whatever the server asks for: a deadline must not wait for an hour.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
const UNAUTHORIZED: u16 = 401;
const THROTTLED: u16 = 429;
const PAYMENT_REQUIRED: u16 = 402;

pub(super) struct Api {
    pub reader: Reader,
    pub(super) rest: Rest,
    tokens: Tokens,
    paused_until: Mutex<Option<BootMs>>,
}

/// Which sessions a listing is asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Which<'a> {
    /// v2: everything that is live; v1, which has no such filter: everything there ever was.
    All,
    /// Of one room; v2: those that are live.
    Room(&'a MeetingId),
    /// v2: those that are live in the room with this custom id.
    CustomRoom(&'a MeetingId),
}

impl Api {
    pub fn new(label: &str, settings: &Settings, timeouts: Timeouts, clock: Clock) -> Result<Api, Fault> {
        let Settings { version, url, network, credentials } = settings;
        let unsendable = || Fault::Misconfigured(format!("{label}: no request can carry its token"));
        let tokens = Tokens::new(credentials.clone(), *version).ok_or_else(unsendable)?;
        let reader = Reader { label: label.to_owned(), version: *version, credentials: credentials.clone() };
        let rest = Rest::new(label.to_owned(), url.clone(), network, timeouts, clock)?;
        Ok(Api { reader, rest, tokens, paused_until: Mutex::default() })
    }

    pub fn now(&self) -> Now {
        self.rest.now()
    }

    /// What a start that the server told is worth.
    pub fn told(&self, at: UtcMs) -> Told {
        self.rest.told(at)
    }

    fn version(&self) -> Version {
        self.reader.version
    }

    /// One page, the first is 1.
    pub async fn page(&self, which: Which<'_>, number: u64, per_page: &str) -> Result<Page, Problem> {
        let number = number.to_string();
        let mut query = Vec::new();
        match (which, self.version()) {
            (Which::All, _) => {}
            (Which::Room(room), Version::V1) => query.push(("meetingId", room.as_str())),
            (Which::Room(room), Version::V2) => query.push(("roomId", room.as_str())),
            (Which::CustomRoom(room), _) => query.push(("customRoomId", room.as_str())),
        }
        if self.version() == Version::V2 {
            query.push(("status", "ongoing"));
        }
        query.extend([("page", number.as_str()), ("perPage", per_page)]);
        let json = self.get("the listing of sessions", self.sessions(), &query).await?;
        Page::read(&json).map_err(|why| Problem::Unclear(format!("{}: {why}", self.reader.label)))
    }

    /// The platform's record of one session, over or not.
    pub async fn session(&self, id: &InstanceId) -> Result<Session, Problem> {
        let path = [self.sessions(), &[id.as_str()]].concat();
        let record = Session::read(&self.get("the record of the session", &path, &[]).await?);
        if record.id.as_ref() != Some(id) {
            let why = format!("{}: asked for session {id}, it answered with another one", self.reader.label);
            return Err(Problem::Unclear(why));
        }
        Ok(record)
    }

    /// Names the session, and in v2 also the room: without a session whatever is live there by then would end.
    pub async fn end(&self, call: &EndCall) -> EndAnswer {
        let (room, session) = (call.meeting.as_str(), call.pin.instance.as_str());
        if room.is_empty() || session.is_empty() {
            let why = format!("{}: the end call: an empty id names nothing", self.reader.label);
            return EndAnswer::Unreachable { why, sent: false };
        }
        let v1 = ["v1", "meeting-sessions", session, "end"];
        let ask = match self.version() {
            Version::V1 => Ask::post("the end call", &v1, None),
            Version::V2 => Ask {
                json: Some(json!({ "roomId": room, "sessionId": session })),
                ..Ask::post("the end call", &["v2", "sessions", "end"], None)
            },
        };
        let reply = self.send(ask).await;
        self.reader.map_answer(reply, self.now().wall)
    }

    /// Closes a room for good.
    pub async fn deactivate(&self, room: &MeetingId) -> Result<(), Fault> {
        let what = "closing the room";
        let body = json!({ "roomId": room.as_str() });
        let ask = Ask { json: Some(body), ..Ask::post(what, &["v2", "rooms", "deactivate"], None) };
        let reply = self.send(ask).await;
        let label = &self.reader.label;
        match self.reader.read(what, reply, self.now().wall) {
            Ok(answer) if answer.get("disabled") == Some(&Value::Bool(false)) => {
                Err(Fault::Unreachable(format!("{label}: {what}: accepted, but {room} is still open")))
            }
            Ok(_) => Ok(()),
            Err(Problem::Refused { .. }) if self.is_closed(room).await => Ok(()),
            Err(Problem::Refused { why, status: PAYMENT_REQUIRED }) => Err(Fault::Misconfigured(format!(
                "{why}; VideoSDK closes a room only by its own id, not by a custom one: name the meeting by its room id"
            ))),
            Err(problem) => Err(problem.fault()),
        }
    }

    /// A room that is closed already may refuse to be closed again.
    async fn is_closed(&self, room: &MeetingId) -> bool {
        let record = self.get("the record of the room", &["v2", "rooms", room.as_str()], &[]).await;
        record.is_ok_and(|room| room.get("disabled") == Some(&Value::Bool(true)))
    }

    fn sessions(&self) -> &'static [&'static str] {
        match self.version() {
            Version::V1 => &["v1", "meeting-sessions"],
            Version::V2 => &["v2", "sessions"],
        }
    }

    async fn get(&self, what: &str, path: &[&str], query: &[(&str, &str)]) -> Result<Value, Problem> {
        if let Some(left) = self.pause_left() {
            let why = format!("{}: {what}: not asked, the server wants a pause", self.reader.label);
            return Err(Problem::Throttled { why, retry_after: Some(left) });
        }
        let reply = self.send(Ask { query, ..Ask::get(what, path, None) }).await;
        self.reader.read(what, reply, self.now().wall)
    }

    async fn send(&self, ask: Ask<'_>) -> Result<Reply, NoReply> {
        let signed = |token: &HeaderValue| Ask {
            method: ask.method.clone(),
            json: ask.json.clone(),
            authorization: Some(token.clone()),
            ..ask
        };
        let token = self.token()?;
        let mut reply = self.rest.send(signed(&token)).await?;
        if reply.status == UNAUTHORIZED && self.tokens.refused(&token) {
            reply = self.rest.send(signed(&self.token()?)).await?;
        }
        if let (THROTTLED, Some(pause)) = (reply.status, reply.retry_after) {
            let until = self.now().boot + pause.min(LONGEST_PAUSE);
            *self.paused_until.lock().unwrap_or_else(PoisonError::into_inner) = Some(until);
        }
        Ok(reply)
    }

    fn token(&self) -> Result<HeaderValue, NoReply> {
        let now = self.now();
        let token = self.tokens.header(now.boot, self.rest.theirs(now.wall));
        token
            .ok_or_else(|| NoReply::NotSent(format!("{}: no request can carry its token", self.reader.label)))
    }

    fn pause_left(&self) -> Option<Duration> {
        let until = (*self.paused_until.lock().unwrap_or_else(PoisonError::into_inner))?;
        Some(until.since(self.now().boot)).filter(|left| !left.is_zero())
    }
}
