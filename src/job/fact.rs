//! The history: what happened to a job, one fact after another; how each changes it is told by `fold`.
//!
//! A job is the fold of its facts. Nothing but [`Job::apply`] changes the durable part of a job, so that a journal of
//! facts can rebuild it (invariant 9). The record keeps the first and the latest entries; the middle of a very long
//! history is counted, not kept.

use serde::{Deserialize, Serialize};

use super::model::Pin;
use super::{Aim, By, EndAnswer, InstanceId, JobId, Mark, Now, Outcome, UtcMs, Verdict};

/// Entries that a record keeps: this many of the first ...
pub const KEEP_FIRST: usize = 16;
/// ... and this many of the latest.
pub const KEEP_LATEST: usize = 64;

/// Why a look was made.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Purpose {
    /// At the pin moment, where that comes before the arm: whose meeting is it?
    Pin,
    /// Just before due: learn the instance, warm the connection.
    Arm,
    /// An end call may only follow a fresh look.
    BeforeEnd,
    /// In the end call's own turn, right before it, where the call can name only the meeting: a single question.
    Last,
    /// After an end call: is it over?
    Confirm,
    /// `keep-closed`: was it opened again?
    Guard,
    /// Once, a minute after proof: was it opened again?
    After,
}

/// Why the job of a rule was called off.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CalledOff {
    /// The sweep found the rule, or its condition, gone.
    Withdrawn,
    /// A look found more people inside than [`Job::at_most`](super::Job::at_most).
    TooMany,
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(tag = "fact", rename_all = "kebab-case")]
pub enum Fact {
    Submitted {
        due: UtcMs,
        by: By,
    },
    /// Why a rule made the job.
    RuleHit {
        rule: String,
        reason: String,
    },
    /// The meeting that `max_duration` waited for is live: its time counts from this instance's start (or, where the
    /// platform does not tell that, from when it was seen), and it is the only one.
    Started {
        instance: InstanceId,
        started_at: Option<UtcMs>,
        due: UtcMs,
    },
    /// A new due time: extended, fired now, released to a time, or moved by an edit of the schedule file.
    Moved {
        to: UtcMs,
        /// The plan is as it was: `max-extension` counts from there.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        extension: bool,
        by: By,
    },
    Held {
        until: Option<UtcMs>,
        by: By,
    },
    HeldPastDue,
    /// `by` is absent where the time given with the hold ran out.
    Released {
        by: Option<By>,
    },
    Looked {
        purpose: Purpose,
        /// How long the look took.
        took_ms: u64,
        #[serde(flatten)]
        verdict: Verdict,
    },
    Pinned {
        pin: Pin,
    },
    /// A listing has shown the pinned instance.
    Listed,
    /// The first good look of the pin moment showed nobody who is ours.
    PinDecided,
    /// Another instance was pinned though nothing proves that this one is gone.
    Unproven {
        instance: InstanceId,
    },
    /// The warning of this mark may go out from now on.
    WarningClaimed(Mark),
    /// The people inside were told that the end comes, or were not.
    WarningDue {
        #[serde(flatten)]
        mark: Mark,
        delivered: bool,
        /// Not delivered yet: tried again.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        again: bool,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        instance: Option<InstanceId>,
        /// So many breakout rooms were told too.
        #[serde(default)]
        also: u32,
        /// Why not.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        why: Option<String>,
    },
    /// Still not delivered; that it could not be was said before.
    WarningPutOff {
        #[serde(flatten)]
        mark: Mark,
        why: String,
    },
    /// An end call may go out from now on.
    Claimed,
    DueReached {
        late_ms: i64,
    },
    EndSent {
        attempt: u32,
        aim: Aim,
        instance: InstanceId,
        looked_ms_ago: u64,
    },
    EndAnswered {
        attempt: u32,
        #[serde(flatten)]
        answer: EndAnswer,
    },
    /// The end call of another job stands for ours: it was made at this instance.
    Carried {
        by: JobId,
        instance: InstanceId,
    },
    /// Seen alive, or not ruled out, and yet no end call may leave.
    Blocked {
        why: String,
    },
    /// Instances that were seen shortly before a call that could name only the meeting, and were gone after it.
    MayHaveHit {
        instances: Vec<InstanceId>,
    },
    /// The pinned instance is shown alive again, though the job is done: a new deadline is made for it.
    CameBack {
        instance: InstanceId,
    },
    /// A live instance that is not ours was left alone.
    LeftAlone {
        instance: InstanceId,
        started_at: Option<UtcMs>,
    },
    /// The room was closed, so that nobody comes back.
    Locked,
    LockFailed {
        why: String,
    },
    /// A restart found a claim without an answer.
    AnswerLost,
    /// The same instance is alive though an end was accepted: send again.
    StillThere,
    /// Still alive long after acceptance.
    Stubborn,
    Overdue,
    Alarm {
        why: String,
    },
    AlarmOver,
    /// Absent, though `expect = "live"` says that it should not be.
    ExpectedLive,
    Guarding {
        outcome: Outcome,
        reason: String,
    },
    Reopened {
        instance: InstanceId,
    },
    /// What was reopened under `keep-closed` came to this. What the deadline meant was proven before.
    LeftOpen {
        outcome: Outcome,
        reason: String,
    },
    /// Comes before the conclusion where no person cancelled the job: what made it does not apply any more.
    CalledOff {
        cause: CalledOff,
    },
    Concluded {
        outcome: Outcome,
        reason: String,
    },
    /// The daemon was started again.
    Restarted,
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Entry {
    #[serde(flatten)]
    pub at: Now,
    #[serde(flatten)]
    pub fact: Fact,
}

/// The bounded history of a record.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct History {
    /// The entries kept, oldest first.
    pub recent: Vec<Entry>,
    /// How many were left out after the first sixteen.
    #[serde(default)]
    pub left_out: u32,
}

impl History {
    /// How many facts there have been, those left out included.
    pub fn total(&self) -> usize {
        self.recent.len() + self.left_out as usize
    }

    /// The entries kept, each with its place in the whole story.
    pub fn placed(&self) -> impl Iterator<Item = (usize, &Entry)> {
        let skipped = |n| if n < KEEP_FIRST { 0 } else { self.left_out as usize };
        self.recent.iter().enumerate().map(move |(n, entry)| (n + skipped(n), entry))
    }

    pub(super) fn push(&mut self, entry: Entry) {
        self.recent.push(entry);
        if self.recent.len() > KEEP_FIRST + KEEP_LATEST {
            self.recent.remove(KEEP_FIRST);
            self.left_out += 1;
        }
    }
}

impl Fact {
    /// Changes by people and changes of state count; arms, looks and notes do not.
    pub(super) fn changes_revision(&self) -> bool {
        !matches!(
            self,
            Fact::Looked { .. }
                | Fact::Pinned { .. }
                | Fact::Listed
                | Fact::PinDecided
                | Fact::CameBack { .. }
                | Fact::Unproven { .. }
                | Fact::Blocked { .. }
                | Fact::MayHaveHit { .. }
                | Fact::LeftAlone { .. }
                | Fact::WarningClaimed(_)
                | Fact::WarningDue { .. }
                | Fact::WarningPutOff { .. }
                | Fact::Claimed
                | Fact::Locked
                | Fact::LockFailed { .. }
                | Fact::HeldPastDue
                | Fact::Stubborn
                | Fact::Overdue
                | Fact::Alarm { .. }
                | Fact::AlarmOver
                | Fact::ExpectedLive
                | Fact::RuleHit { .. }
                | Fact::CalledOff { .. }
                | Fact::Reopened { .. } // but see `apply`
                | Fact::LeftOpen { .. }
                | Fact::Restarted
        )
    }

    /// Does it go out as an event? Looks are too many, and what a warning waits for is no news.
    pub fn is_event(&self) -> bool {
        !matches!(
            self,
            Fact::Looked { .. }
                | Fact::Listed
                | Fact::PinDecided
                | Fact::WarningClaimed(_)
                | Fact::WarningPutOff { .. }
                | Fact::CalledOff { .. } // the conclusion says why
        )
    }

    /// The name under which the fact goes out as an event.
    pub fn name(&self) -> &'static str {
        match self {
            Fact::Submitted { .. } => "submitted",
            Fact::RuleHit { .. } => "rule-hit",
            Fact::Started { .. } => "started",
            Fact::Moved { .. } => "moved",
            Fact::Held { .. } => "held",
            Fact::HeldPastDue => "held-past-due",
            Fact::Released { .. } => "released",
            Fact::Looked { .. } => "looked",
            Fact::Pinned { .. } => "pinned",
            Fact::Listed => "listed",
            Fact::PinDecided => "pin-decided",
            Fact::Unproven { .. } => "unproven",
            Fact::Carried { .. } => "carried",
            Fact::Blocked { .. } => "blocked",
            Fact::CameBack { .. } => "came-back",
            Fact::MayHaveHit { .. } => "may-have-hit",
            Fact::LeftAlone { .. } => "left-alone",
            Fact::WarningClaimed(_) => "warning-claimed",
            Fact::WarningDue { .. } => "warning-due",
            Fact::WarningPutOff { .. } => "warning-put-off",
            Fact::Claimed => "claimed",
            Fact::DueReached { .. } => "due-reached",
            Fact::EndSent { .. } => "end-sent",
            Fact::EndAnswered { .. } => "end-answered",
            Fact::Locked => "locked",
            Fact::LockFailed { .. } => "lock-failed",
            Fact::AnswerLost => "answer-lost",
            Fact::StillThere => "still-there",
            Fact::Stubborn => "stubborn",
            Fact::Overdue => "overdue",
            Fact::Alarm { .. } => "alarm",
            Fact::AlarmOver => "alarm-over",
            Fact::ExpectedLive => "expected-live",
            Fact::Guarding { .. } => "guarding",
            Fact::Reopened { .. } => "reopened",
            Fact::LeftOpen { .. } => "left-open",
            Fact::CalledOff { .. } => "called-off",
            Fact::Concluded { .. } => "concluded",
            Fact::Restarted => "restarted",
        }
    }
}
