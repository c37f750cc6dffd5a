//! What really happened, whatever the API said: what tests, the demo and benchmarks assert against.

use std::borrow::Cow;
use std::collections::{BTreeMap, VecDeque};

use serde::{Deserialize, Serialize};

use super::faults::ActiveFault;
use super::wire::Call;
use crate::job::UtcMs;

/// A snapshot of everything known.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Truth {
    pub now: UtcMs,
    /// By server, then by meeting.
    pub meetings: Vec<MeetingTruth>,
    pub faults: Vec<ActiveFault>,
    pub counters: Counters,
    /// The request log, oldest first.
    pub requests: Vec<Record>,
    /// Requests that the log no longer holds.
    pub requests_dropped: u64,
}

/// All runs of one meeting on one server.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct MeetingTruth {
    /// The server that really holds it: `front` for a server without a balancer, otherwise the node.
    pub server: String,
    pub meeting_id: String,
    /// In the order of their creation.
    pub instances: Vec<InstanceTruth>,
}

/// One run of a meeting.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct InstanceTruth {
    pub internal_id: String,
    pub created_at: UtcMs,
    /// People can no longer talk in it since then.
    pub ended_at: Option<UtcMs>,
    pub ended_by: Option<EndedBy>,
    pub participants: u32,
    /// Does the server that holds it still show it in its own answers?
    pub visible: bool,
    /// The end calls that the server took to mean this instance (bounded, the first ones are kept).
    pub hits: Vec<Hit>,
}

impl InstanceTruth {
    pub fn alive(&self) -> bool {
        self.ended_at.is_none()
    }
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EndedBy {
    /// The request with this number.
    Request(u64),
    /// Its parent meeting ended.
    Parent,
    /// Without any call.
    Itself,
}

/// One end call that the server took to mean an instance.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Hit {
    /// The number of the request.
    pub request: u64,
    pub at: UtcMs,
    pub effect: Effect,
}

/// What became of an end call that was aimed at an instance.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Effect {
    /// It ends the instance.
    Ends,
    /// An earlier one does already.
    AlreadyEnding,
    /// Accepted, and nothing happened: this one call was lost.
    Swallowed,
    /// Accepted, and nothing happened or ever will.
    Zombie,
    /// The server forgot the meeting and passed nothing on.
    Forgotten,
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
    pub server: String,
    pub call: Call,
    /// As given, before anything was looked up.
    pub meeting_id: Option<String>,
    /// The internal id of the instance that the server took the request to mean.
    pub instance: Option<String>,
    /// Names of the faults that changed something.
    pub faults: Vec<Cow<'static, str>>,
    pub answer: Answered,
    /// The line of a `sendChatMessage`.
    pub text: Option<String>,
}

/// What went back over the wire.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Answered {
    /// SUCCESS, with its `messageKey` if there is one.
    Success(Cow<'static, str>),
    /// Any other return code, with its key.
    Failed(Cow<'static, str>),
    /// Not an answer of the API: a page with this status.
    Http(u16),
    /// The connection was closed without an answer.
    Closed,
    /// The request is left hanging.
    Never,
}

/// How many requests came, by server and by call.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Counters {
    pub total: u64,
    pub servers: BTreeMap<String, BTreeMap<Call, u64>>,
}

impl Counters {
    /// Requests of this kind at all servers together.
    pub fn of(&self, call: Call) -> u64 {
        self.servers.values().filter_map(|calls| calls.get(&call)).sum()
    }

    fn count(&mut self, server: &str, call: Call) {
        self.total += 1;
        if let Some(calls) = self.servers.get_mut(server) {
            *calls.entry(call).or_default() += 1;
        } else {
            self.servers.insert(server.to_owned(), BTreeMap::from([(call, 1)]));
        }
    }
}

impl Truth {
    /// Every instance of this meeting on whatever server, in the order of creation.
    pub fn instances(&self, meeting: &str) -> Vec<&InstanceTruth> {
        let mut all: Vec<_> =
            self.meetings.iter().filter(|m| m.meeting_id == meeting).flat_map(|m| &m.instances).collect();
        all.sort_by_key(|i| i.created_at);
        all
    }

    pub fn instance(&self, internal_id: &str) -> Option<&InstanceTruth> {
        self.meetings.iter().flat_map(|m| &m.instances).find(|i| i.internal_id == internal_id)
    }

    /// The end calls that were taken to mean this instance; empty if it was never hit.
    pub fn hits(&self, internal_id: &str) -> &[Hit] {
        self.instance(internal_id).map_or(&[], |i| &i.hits)
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
        self.counters.count(&record.server, record.call);
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

#[cfg(test)]
mod tests {
    use super::*;

    fn record(n: u64, call: Call) -> Record {
        Record {
            n,
            received_at: UtcMs(n.cast_signed()),
            received_us: n.cast_signed() * 1_000,
            server: "front".to_owned(),
            call,
            meeting_id: Some("m".to_owned()),
            instance: None,
            faults: vec!["slow".into()],
            answer: Answered::Http(404),
            text: None,
        }
    }

    #[test]
    fn the_log_is_bounded_and_the_counters_are_not() {
        let mut log = Log::new(2);
        for call in [Call::End, Call::End, Call::GetMeetings] {
            let n = log.number();
            log.push(record(n, call));
        }
        let kept: Vec<u64> = log.select(&Asked::default()).iter().map(|r| r.n).collect();
        assert_eq!(kept, [2, 3]);
        assert_eq!(log.dropped(), 1);
        assert_eq!((log.counters().total, log.counters().of(Call::End)), (3, 2));
        let ends = Asked { call: Some(Call::End), ..Asked::default() };
        assert_eq!(log.select(&ends).len(), 1);
        assert_eq!(log.select(&Asked { since: 2, ..Asked::default() }).len(), 1);
        assert_eq!(log.select(&Asked { meeting: Some("x".to_owned()), ..Asked::default() }).len(), 0);
    }

    #[test]
    fn records_read_back_what_they_wrote() {
        let written = record(1, Call::GetMeetingInfo);
        let json = serde_json::to_string(&written).unwrap();
        assert!(json.contains(r#""call":"getMeetingInfo""#), "{json}");
        assert!(json.contains(r#""answer":{"http":404}"#), "{json}");
        assert_eq!(serde_json::from_str::<Record>(&json).unwrap(), written);
    }
}
