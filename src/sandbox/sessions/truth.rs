//! What really happened, whatever the API said: what tests, the demo and benchmarks assert against.

use std::borrow::Cow;
use std::collections::{BTreeMap, VecDeque};

use serde::{Deserialize, Serialize};

use super::faults::ActiveFault;
use crate::job::UtcMs;

/// A snapshot of everything known.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Truth {
    pub now: UtcMs,
    /// By id.
    pub meetings: Vec<MeetingTruth>,
    pub faults: Vec<ActiveFault>,
    pub counters: Counters,
    /// The request log, oldest first.
    pub requests: Vec<Record>,
    /// Requests that the log no longer holds.
    pub requests_dropped: u64,
}

/// One meeting (room) with all its sessions.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct MeetingTruth {
    pub meeting_id: String,
    /// Deactivated: nobody can join any more.
    pub locked: bool,
    /// In the order of their start.
    pub sessions: Vec<SessionTruth>,
}

/// One run of a meeting.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct SessionTruth {
    pub id: String,
    pub started_at: UtcMs,
    /// It is no longer live, and no longer billed, since then.
    pub ended_at: Option<UtcMs>,
    pub ended_by: Option<EndedBy>,
    pub participants: u32,
    /// It stays live although nobody is in it.
    pub ghost: bool,
    /// The end calls that were taken to mean this session (bounded, the first ones are kept).
    pub hits: Vec<Hit>,
}

impl SessionTruth {
    pub fn alive(&self) -> bool {
        self.ended_at.is_none()
    }
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EndedBy {
    /// The request with this number.
    Request(u64),
    /// Without any call.
    Itself,
}

/// One end call that was taken to mean a session.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Hit {
    /// The number of the request.
    pub request: u64,
    pub at: UtcMs,
    pub effect: Effect,
}

/// What became of an end call that was aimed at a session.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Effect {
    /// It ends the session.
    Ends,
    /// An earlier one does already.
    AlreadyEnding,
    /// The session was over.
    AlreadyOver,
    /// Accepted, and nothing happened: this one call was lost.
    Swallowed,
    /// Accepted, and nothing happened or ever will.
    Zombie,
    /// Everybody was sent away and the session stays live.
    LeftGhost,
}

/// What a request is for, whatever its path.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Call {
    /// Ends a session, or whatever is live in a meeting.
    End,
    /// The record of one session.
    Session,
    /// A listing of sessions.
    Sessions,
    /// The live session of a meeting.
    ActiveSession,
    /// The meeting (room) itself.
    Meeting,
    /// A listing of meetings (rooms).
    Meetings,
    /// Locks a meeting, or opens it again.
    Lock,
    /// Nothing that this sandbox knows.
    Unknown,
}

impl Call {
    pub fn name(self) -> &'static str {
        match self {
            Call::End => "end",
            Call::Session => "session",
            Call::Sessions => "sessions",
            Call::ActiveSession => "active-session",
            Call::Meeting => "meeting",
            Call::Meetings => "meetings",
            Call::Lock => "lock",
            Call::Unknown => "unknown",
        }
    }
}

/// One request to the API.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Record {
    /// Counted from 1.
    pub n: u64,
    /// Taken before anything else was done.
    pub received_at: UtcMs,
    /// The same instant in microseconds since the epoch.
    pub received_us: i64,
    pub call: Call,
    /// Method, path and query, as on the wire.
    pub line: String,
    /// The meeting that it was about.
    pub meeting_id: Option<String>,
    /// The session that it named, or was taken to mean.
    pub session: Option<String>,
    /// Names of the faults that changed something.
    pub faults: Vec<Cow<'static, str>>,
    pub answer: Answered,
}

/// What went back over the wire.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Answered {
    Http(u16),
    /// The connection was closed without an answer.
    Closed,
    /// The request is left hanging.
    Never,
}

/// How many requests came, by call.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Counters {
    pub total: u64,
    pub calls: BTreeMap<Call, u64>,
}

impl Counters {
    pub fn of(&self, call: Call) -> u64 {
        self.calls.get(&call).copied().unwrap_or(0)
    }

    fn count(&mut self, call: Call) {
        self.total += 1;
        *self.calls.entry(call).or_default() += 1;
    }
}

impl Truth {
    /// Every session of this meeting, in the order of their start.
    pub fn sessions(&self, meeting: &str) -> &[SessionTruth] {
        self.meetings.iter().find(|m| m.meeting_id == meeting).map_or(&[], |m| &m.sessions)
    }

    pub fn session(&self, id: &str) -> Option<&SessionTruth> {
        self.meetings.iter().flat_map(|m| &m.sessions).find(|s| s.id == id)
    }

    /// The end calls that were taken to mean this session; empty if it was never hit.
    pub fn hits(&self, id: &str) -> &[Hit] {
        self.session(id).map_or(&[], |s| &s.hits)
    }

    /// The requests of one kind, oldest first.
    pub fn requests_of(&self, call: Call) -> impl Iterator<Item = &Record> {
        self.requests.iter().filter(move |r| r.call == call)
    }
}

/// Which part of the truth is asked for.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Asked {
    /// Only this meeting.
    pub meeting: Option<String>,
    /// Only requests after this number.
    pub since: u64,
    /// Only requests of this kind.
    pub call: Option<Call>,
}

impl Asked {
    fn wants(&self, record: &Record) -> bool {
        record.n > self.since
            && self.call.is_none_or(|call| call == record.call)
            && self.meeting.as_ref().is_none_or(|m| record.meeting_id.as_ref() == Some(m))
    }
}

/// The bounded log of requests.
pub(super) struct Log {
    records: VecDeque<Record>,
    capacity: usize,
    next: u64,
    counters: Counters,
}

impl Log {
    pub fn new(capacity: usize) -> Log {
        Log { records: VecDeque::new(), capacity: capacity.max(1), next: 1, counters: Counters::default() }
    }

    /// The number of the next request.
    pub fn number(&mut self) -> u64 {
        self.next += 1;
        self.next - 1
    }

    pub fn push(&mut self, record: Record) {
        self.counters.count(record.call);
        if self.records.len() == self.capacity {
            self.records.pop_front();
        }
        self.records.push_back(record);
    }

    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    pub fn dropped(&self) -> u64 {
        self.counters.total - self.records.len() as u64
    }

    pub fn select(&self, asked: &Asked) -> Vec<Record> {
        self.records.iter().filter(|r| asked.wants(r)).cloned().collect()
    }

    pub fn last(&self) -> Option<&Record> {
        self.records.back()
    }
}
