//! Meetings and their sessions, as they really are.

use std::collections::{BTreeMap, HashMap};

use serde::{Deserialize, Serialize};

use super::Refusal;
use super::truth::{Effect, EndedBy, Hit, MeetingTruth, SessionTruth};
use crate::job::UtcMs;

/// Sessions that are kept, ended ones included.
const MAX_SESSIONS: usize = 1_000_000;
const MAX_ROOMS: usize = 1_000_000;
/// End calls kept per session; later ones are in the request log only.
const MAX_HITS: usize = 1_024;
/// Bytes of a meeting's id.
const MAX_MEETING_ID: usize = 1_024;

/// People who join a meeting; the first ones start a session.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct NewMeeting {
    pub meeting_id: String,
    /// The id that the customer gave the room (VideoSDK).
    pub custom_id: Option<String>,
    pub participants: u32,
    /// The session started so long before now.
    pub started_ago_ms: u32,
    /// The session stays live when nobody is in it.
    pub ghost: bool,
}

impl Default for NewMeeting {
    fn default() -> NewMeeting {
        NewMeeting {
            meeting_id: String::new(),
            custom_id: None,
            participants: 1,
            started_ago_ms: 0,
            ghost: false,
        }
    }
}

impl NewMeeting {
    /// With one person in it.
    pub fn new(meeting_id: &str) -> NewMeeting {
        NewMeeting { meeting_id: meeting_id.to_owned(), ..NewMeeting::default() }
    }
}

/// A meeting, which can run many times.
pub(in crate::sandbox) struct Room {
    pub id: String,
    pub custom_id: Option<String>,
    pub created_at: UtcMs,
    pub locked: bool,
    sessions: Vec<usize>,
}

/// One run of it.
pub(in crate::sandbox) struct Session {
    pub id: String,
    pub room: usize,
    pub started_at: UtcMs,
    pub participants: u32,
    /// Since when nobody has been in it.
    pub empty_since: Option<UtcMs>,
    pub ghost: bool,
    pub ending: bool,
    pub ended: Option<(UtcMs, EndedBy)>,
    hits: Vec<Hit>,
}

impl Session {
    pub fn hit(&mut self, request: u64, at: UtcMs, effect: Effect) {
        if self.hits.len() < MAX_HITS {
            self.hits.push(Hit { request, at, effect });
        }
    }

    /// Fills up or sends away until so many are in it.
    pub fn set_participants(&mut self, count: u32, now: UtcMs) {
        self.participants = count;
        self.empty_since = if count == 0 { self.empty_since.or(Some(now)) } else { None };
    }

    /// Is it live, as somebody sees it who is behind by so much?
    pub fn shown_live(&self, now: UtcMs, lag_ms: u32) -> bool {
        self.ended.as_ref().is_none_or(|(at, _)| now.ms_since(*at) < i64::from(lag_ms))
    }

    fn truth(&self) -> SessionTruth {
        let (ended_at, ended_by) = self.ended.clone().unzip();
        SessionTruth {
            id: self.id.clone(),
            started_at: self.started_at,
            ended_at,
            ended_by,
            participants: self.participants,
            ghost: self.ghost,
            hits: self.hits.clone(),
        }
    }
}

/// A room has at most one session that is not over.
#[derive(Default)]
pub(in crate::sandbox) struct Rooms {
    rooms: Vec<Room>,
    sessions: Vec<Session>,
    by_id: HashMap<String, usize>,
    by_session: HashMap<String, usize>,
}

impl Rooms {
    /// How many rooms there are.
    pub fn rooms(&self) -> usize {
        self.rooms.len()
    }

    pub fn room(&self, at: usize) -> &Room {
        &self.rooms[at]
    }

    pub fn room_mut(&mut self, at: usize) -> &mut Room {
        &mut self.rooms[at]
    }

    pub fn session(&self, at: usize) -> &Session {
        &self.sessions[at]
    }

    pub fn session_mut(&mut self, at: usize) -> &mut Session {
        &mut self.sessions[at]
    }

    pub fn find_room(&self, id: &str) -> Option<usize> {
        self.by_id.get(id).copied()
    }

    pub fn is_custom_id(&self, id: &str) -> bool {
        self.rooms.iter().any(|room| room.custom_id.as_deref() == Some(id))
    }

    pub fn find_session(&self, id: &str) -> Option<usize> {
        self.by_session.get(id).copied()
    }

    /// The session of a room that is not over.
    pub fn live_in(&self, room: usize) -> Option<usize> {
        self.rooms[room].sessions.last().copied().filter(|at| self.sessions[*at].ended.is_none())
    }

    /// The room's newest session, over or not.
    pub fn newest_in(&self, room: usize) -> Option<usize> {
        self.rooms[room].sessions.last().copied()
    }

    /// All sessions, in the order of their start.
    pub fn sessions(&self) -> impl DoubleEndedIterator<Item = (usize, &Session)> {
        self.sessions.iter().enumerate()
    }

    /// Finds a room or creates it.
    pub fn open_room(&mut self, id: &str, custom_id: Option<&str>, now: UtcMs) -> Result<usize, Refusal> {
        if id.is_empty() || id.len() > MAX_MEETING_ID {
            return Err(Refusal::Value("meeting_id", "1 to 1024 bytes"));
        }
        if let Some(at) = self.find_room(id) {
            return Ok(at);
        }
        if self.rooms.len() >= MAX_ROOMS {
            return Err(Refusal::TooMany("meetings", MAX_ROOMS));
        }
        let at = self.rooms.len();
        let custom_id = custom_id.map(str::to_owned);
        let room =
            Room { id: id.to_owned(), custom_id, created_at: now, locked: false, sessions: Vec::new() };
        self.rooms.push(room);
        self.by_id.insert(id.to_owned(), at);
        Ok(at)
    }

    /// Starts a session. The caller has made sure that none is live in the room. `id` names the nth session.
    pub fn start(
        &mut self,
        room: usize,
        new: &NewMeeting,
        now: UtcMs,
        id: impl Fn(usize) -> String,
    ) -> Result<usize, Refusal> {
        let at = self.sessions.len();
        if at >= MAX_SESSIONS {
            return Err(Refusal::TooMany("sessions", MAX_SESSIONS));
        }
        let mut session = Session {
            id: id(at),
            room,
            started_at: UtcMs(now.0 - i64::from(new.started_ago_ms)),
            participants: 0,
            empty_since: None,
            ghost: new.ghost,
            ending: false,
            ended: None,
            hits: Vec::new(),
        };
        session.set_participants(new.participants, now);
        self.by_session.insert(session.id.clone(), at);
        self.rooms[room].sessions.push(at);
        self.sessions.push(session);
        Ok(at)
    }

    pub fn truth(&self, meeting: Option<&str>) -> Vec<MeetingTruth> {
        let wanted = self.rooms.iter().filter(|room| meeting.is_none_or(|m| m == room.id));
        let by_id: BTreeMap<&str, MeetingTruth> = wanted
            .map(|room| {
                let sessions = room.sessions.iter().map(|at| self.sessions[*at].truth()).collect();
                let truth = MeetingTruth { meeting_id: room.id.clone(), locked: room.locked, sessions };
                (room.id.as_str(), truth)
            })
            .collect();
        by_id.into_values().collect()
    }
}
