//! The job: one deadline, and everything that is known about it.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::limits::option_duration_ms;
use super::{Entry, History, Limits, LiveMeeting, Lock, Now, Run, UtcMs, Warnings};

/// UUIDv7. People see, and may type, its last eight characters.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct JobId(pub Uuid);

impl JobId {
    pub fn short(&self) -> String {
        let whole = self.0.simple().to_string();
        whole[whole.len() - 8..].to_owned()
    }
}

impl fmt::Display for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for JobId {
    type Err = uuid::Error;
    fn from_str(s: &str) -> Result<JobId, uuid::Error> {
        Uuid::parse_str(s).map(JobId)
    }
}

macro_rules! name {
    ($(#[$doc:meta])* $t:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $t(pub String);

        impl $t {
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $t {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl From<&str> for $t {
            fn from(s: &str) -> $t {
                $t(s.to_owned())
            }
        }
    };
}
name!(
    /// The name of a configured server: `campus` in `[servers.campus]`.
    ServerName
);
name!(
    /// What people call the meeting: its id on the platform.
    MeetingId
);
name!(
    /// One run of a meeting. Taken only from answers, never guessed from the shape of an id.
    InstanceId
);

#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    Waiting,
    Held,
    Ending,
    Confirming,
    Guarding,
    Done,
}

impl State {
    pub const ALL: [State; 6] =
        [State::Waiting, State::Held, State::Ending, State::Confirming, State::Guarding, State::Done];

    pub fn as_str(self) -> &'static str {
        match self {
            State::Waiting => "waiting",
            State::Held => "held",
            State::Ending => "ending",
            State::Confirming => "confirming",
            State::Guarding => "guarding",
            State::Done => "done",
        }
    }
}

/// How a job ended. Exactly one per job.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// Seen alive, an end call accepted (or its answer lost), then proven gone.
    Ended,
    /// Seen alive, then proven gone, without a call of ours that could have done it.
    AlreadyOver,
    /// Not shown any more (or never) by a front whose word cannot tell whether it is over or was forgotten; no call of
    /// ours left, or each was answered as if it were gone.
    Vanished,
    /// Proven not there at the deadline, never seen alive.
    Absent,
    /// The only live instance is not ours to end.
    Superseded,
    Cancelled,
    /// Found later than `late-limit` after due.
    Missed,
    /// Nothing can prove that the meeting is over.
    Unconfirmed,
    /// Last seen alive when `give-up-after` ran out, or the platform refuses for good.
    Failed,
}

impl Outcome {
    /// In the order of their codes in the store, which never changes.
    pub const ALL: [Outcome; 9] = [
        Outcome::Ended,
        Outcome::AlreadyOver,
        Outcome::Absent,
        Outcome::Superseded,
        Outcome::Cancelled,
        Outcome::Missed,
        Outcome::Unconfirmed,
        Outcome::Failed,
        Outcome::Vanished,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            Outcome::Ended => "ended",
            Outcome::AlreadyOver => "already-over",
            Outcome::Vanished => "vanished",
            Outcome::Absent => "absent",
            Outcome::Superseded => "superseded",
            Outcome::Cancelled => "cancelled",
            Outcome::Missed => "missed",
            Outcome::Unconfirmed => "unconfirmed",
            Outcome::Failed => "failed",
        }
    }

    /// Nobody knows whether the meeting is over: it may be shown alive again.
    pub fn may_come_back(self) -> bool {
        matches!(self, Outcome::Vanished | Outcome::Unconfirmed)
    }

    /// These three say that the meeting is not there any more, and nothing else may.
    pub fn claims_gone(self) -> bool {
        matches!(self, Outcome::Ended | Outcome::AlreadyOver | Outcome::Absent)
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// Who asked for the job: `cli`, `api`, `schedule:NAME`, `rule:NAME` or `again:ID`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Origin {
    Cli,
    Api,
    /// An entry of the schedule file. `planned` is the time that the file gave, so that an edit of the file can be told
    /// from an extension by hand.
    Schedule {
        name: String,
        /// The standing entry that this is an occurrence of.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        of: Option<String>,
        planned: UtcMs,
    },
    /// `planned`: the time that the rule gave, so that a change of the rule can be told from an extension by hand.
    Rule {
        name: String,
        planned: UtcMs,
    },
    /// This job was done without proof, and its instance was shown alive again.
    Again {
        job: JobId,
    },
}

impl Origin {
    /// The name of the rule or of the entry that made the job.
    pub fn rule(&self) -> Option<&str> {
        match self {
            Origin::Rule { name, .. } => Some(name),
            Origin::Schedule { name, of, .. } => Some(of.as_ref().unwrap_or(name)),
            Origin::Cli | Origin::Api | Origin::Again { .. } => None,
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::Cli => f.write_str("cli"),
            Origin::Api => f.write_str("api"),
            Origin::Schedule { name, of, .. } => write!(f, "schedule:{}", of.as_ref().unwrap_or(name)),
            Origin::Rule { name, .. } => write!(f, "rule:{name}"),
            Origin::Again { job } => write!(f, "again:{job}"),
        }
    }
}

/// Who made a change: the peer of the control socket, the schedule file, or adjourn itself.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum By {
    Peer {
        uid: u32,
        pid: Option<i32>,
    },
    Schedule,
    /// adjourn itself, because a meeting came back.
    Daemon,
}

/// An idempotency key with the fingerprint of the request that first used it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Key {
    pub key: String,
    pub fingerprint: String,
}

/// `expect`: is a meeting that is absent at its deadline worth an alarm?
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Expect {
    #[default]
    Any,
    Live,
}

/// The instance that this deadline belongs to.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Pin {
    pub instance: InstanceId,
    #[serde(default)]
    pub started_at: Option<UtcMs>,
    /// A listing has shown it.
    pub listed: bool,
    #[serde(default)]
    pub node: Option<String>,
    /// Address and account of the server that showed it; `None`: pinned by an older version, as of the present address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub site: Option<String>,
    /// When the look was sent whose answer last showed it alive.
    pub last_live: Now,
}

impl Pin {
    /// As a complete listing showed it; `sent`: when that was asked for.
    pub fn of_listed(live: &LiveMeeting, sent: Now) -> Pin {
        let (instance, started_at) = (live.instance.clone(), live.started_at);
        Pin { instance, started_at, listed: true, node: None, site: None, last_live: sent }
    }
}

/// The end calls made at the pinned instance, and what came of them.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Calls {
    pub sent: u32,
    /// When the last call left.
    pub last_sent: Option<Now>,
    /// When the last call was answered (or was found to have lost its answer).
    pub last_answered: Option<Now>,
    /// How many were accepted.
    #[serde(default)]
    pub accepts: u32,
    /// First acceptance ...
    pub accepted: Option<Now>,
    /// ... and the latest.
    #[serde(default)]
    pub last_accepted: Option<Now>,
    /// How many could not leave the machine, and how many were answered as if the meeting were gone.
    #[serde(default)]
    pub never_left: u32,
    #[serde(default)]
    pub maybe_gone: u32,
    /// An answer was lost: the call may have taken effect.
    pub lost: bool,
    /// Some call was answered otherwise than with acceptance.
    pub unclean: bool,
}

impl Calls {
    pub fn may_have_ended(&self) -> bool {
        self.accepted.is_some() || self.lost
    }

    /// No call left the machine, or each that did was answered as if the meeting were gone already.
    pub fn found_nothing_to_end(&self) -> bool {
        !self.may_have_ended() && self.sent == self.never_left + self.maybe_gone
    }
}

/// When the pinned instance was last seen alive, and with how many people.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct LastSeen {
    pub at: UtcMs,
    pub participants: Option<u32>,
}

/// A live instance that was not ours to end.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct LeftAlone {
    pub instance: InstanceId,
    pub started_at: Option<UtcMs>,
}

/// An instance that was seen alive.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Sighted {
    pub instance: InstanceId,
    /// When that was first answered.
    pub at: UtcMs,
    /// When it was last asked for; what happened to the server since may have hidden it.
    pub last: Now,
}

/// `keep-closed` at work: what the outcome will be, and until when to go on looking.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Guard {
    pub outcome: Outcome,
    pub reason: String,
    pub began: Now,
    /// `None`: begun by an older version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub head: Option<Head>,
}

/// What the job said of itself when what its deadline meant was over. What is reopened afterwards changes none of it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Head {
    pub instance: Option<InstanceId>,
    pub end_sent_at: Option<UtcMs>,
    pub accepted_at: Option<UtcMs>,
    pub look_age_ms: Option<u64>,
}

/// An instance that was there after what the deadline meant was over.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Reopened {
    pub instance: InstanceId,
    /// When it was first seen.
    pub at: UtcMs,
    /// What became of it; `None`: nobody ended it, or not yet.
    #[serde(default)]
    pub outcome: Option<Outcome>,
    /// When that was known.
    #[serde(default)]
    pub over_at: Option<UtcMs>,
}

/// One deadline: end this meeting at this time.
///
/// What stands above `revision` never changes after the submit; what stands below it is the fold of the history
/// (invariant 9), except `run`, which a restart forgets.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Job {
    pub id: JobId,
    pub server: ServerName,
    pub meeting: MeetingId,
    pub key: Option<Key>,
    pub limits: Limits,
    /// Called off where a look shows more people than this in the pinned instance before an end call was sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at_most: Option<u32>,
    /// Due so long after the start of the meeting, or at its other time if that comes first.
    #[serde(default, with = "option_duration_ms", skip_serializing_if = "Option::is_none")]
    pub max_duration: Option<Duration>,

    /// Counts changes by people and of state; arms and looks leave it alone.
    pub revision: u64,
    pub origin: Origin,
    pub submitted: Now,
    /// This instance and no other: named with the submit, or the one whose start `max_duration` counts from.
    #[serde(default)]
    pub only: Option<InstanceId>,
    /// [`UtcMs::NEVER`] while only the start of the meeting will tell.
    pub due: UtcMs,
    /// The due time as planned, where people have extended it.
    #[serde(default)]
    pub extended_from: Option<UtcMs>,
    /// `max_duration` waits for the meeting to be seen live.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub awaits_start: bool,
    /// When somebody asked for the end to be at once (`fire`, `release --now`): the pin moment is no earlier.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub asked_at: Option<UtcMs>,
    /// The first good look of the pin moment was answered: what is not pinned by then must have started before it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub pin_decided: bool,
    /// Instances that were seen alive, each with its first sighting; the oldest make room.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sighted: Vec<Sighted>,
    pub state: State,
    #[serde(default)]
    pub held_until: Option<UtcMs>,
    #[serde(default)]
    pub pin: Option<Pin>,
    /// An instance that was pinned before, and of which nothing proves that it is gone.
    #[serde(default)]
    pub unproven: Option<InstanceId>,
    /// When the pinned instance was last seen alive.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_seen: Option<LastSeen>,
    /// A live instance that was left alone at the end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub left_alone: Option<LeftAlone>,
    /// How old the last look was when a call left that could name only the meeting: the window in which another run of
    /// the meeting could have opened unseen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub look_age_ms: Option<u64>,
    /// Instances that were seen within a minute before such a call and were gone after it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub may_have_hit: Vec<InstanceId>,
    /// The job whose end call stands for ours: it was made at the same instance.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub carried_by: Option<JobId>,
    /// Since when.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub carried_at: Option<Now>,
    #[serde(default)]
    pub armed_at: Option<UtcMs>,
    /// An end call may have gone out; cleared by its answer.
    #[serde(default)]
    pub claimed: Option<Now>,
    /// When due was reached and work began.
    #[serde(default)]
    pub began: Option<Now>,
    #[serde(default)]
    pub calls: Calls,
    /// End calls and looks over the job's whole life.
    pub ends: u32,
    pub looks: u32,
    #[serde(default)]
    pub end_sent_at: Option<UtcMs>,
    #[serde(default)]
    pub accepted_at: Option<UtcMs>,
    /// The platform has closed the room.
    #[serde(default)]
    pub locked: bool,
    /// Some belonging instance was seen alive.
    pub seen_alive: bool,
    /// A call of ours may have ended an instance that belonged.
    pub ended_by_us: bool,
    #[serde(default)]
    pub overdue: bool,
    /// Still alive long after an acceptance.
    #[serde(default)]
    pub stubborn: bool,
    #[serde(default)]
    pub held_past_due: bool,
    /// The configuration fault that keeps the job from going on.
    #[serde(default)]
    pub alarm: Option<String>,
    #[serde(default)]
    pub guard: Option<Guard>,
    #[serde(default)]
    pub outcome: Option<Outcome>,
    #[serde(default)]
    pub reason: String,
    #[serde(default)]
    pub proven: Option<Now>,
    /// When it came to its outcome.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub concluded: Option<Now>,
    /// The one look after proof that tells whether the meeting was reopened is still to come.
    #[serde(default)]
    pub after_look: bool,
    #[serde(default)]
    pub reopened_at: Option<UtcMs>,
    /// What was there since, the latest of it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub reopened: Vec<Reopened>,
    #[serde(default, skip_serializing_if = "Warnings::are_untouched")]
    pub warnings: Warnings,
    pub history: History,
    #[serde(skip)]
    pub run: Run,
}

/// What a submit asks for, defaults merged in.
#[derive(Clone, PartialEq, Debug)]
pub struct Order {
    pub id: JobId,
    pub server: ServerName,
    pub meeting: MeetingId,
    pub only: Option<InstanceId>,
    pub key: Option<Key>,
    pub limits: Limits,
    pub at_most: Option<u32>,
    pub max_duration: Option<Duration>,
    /// [`UtcMs::NEVER`]: `max_duration` alone will tell.
    pub due: UtcMs,
    pub origin: Origin,
    pub by: By,
}

impl Job {
    pub fn is_done(&self) -> bool {
        self.state == State::Done
    }

    pub fn last_entry(&self) -> Option<&Entry> {
        self.history.recent.last()
    }

    /// The room is to be closed before the next end call.
    pub fn wants_lock(&self) -> bool {
        self.limits.lock != Lock::No && !self.locked
    }

    /// When anything of ours was last seen alive; `None`: never.
    pub fn last_live(&self) -> Option<Now> {
        let sighted = self.sighted.iter().map(|seen| seen.last).max_by_key(|last| last.boot);
        self.pin.as_ref().map(|pin| pin.last_live).or(sighted)
    }

    /// When the first end call left, relative to due.
    pub fn lateness_ms(&self) -> Option<i64> {
        self.head().end_sent_at.map(|sent| sent.ms_since(self.due))
    }

    /// What the deadline meant, as it stands, or as it stood when that was over.
    pub fn head(&self) -> Head {
        self.guard.as_ref().and_then(|guard| guard.head.clone()).unwrap_or_else(|| Head {
            instance: self.pin.as_ref().map(|pin| pin.instance.clone()).or_else(|| self.only.clone()),
            end_sent_at: self.end_sent_at,
            accepted_at: self.accepted_at,
            look_age_ms: self.look_age_ms,
        })
    }
}
