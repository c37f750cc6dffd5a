//! What goes out, and what the command line reads: one set of types for both sides.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::config::time::format_span;
use crate::engine::api::Receipt;
pub use crate::engine::api::{
    PlannedAction, PlannedChange, Reloaded, RuleHit, ServerAction, ServerChange, UnreadFeed, Unseen,
};
use crate::job::{HistoryLine, InstanceId, Job, JobId, JobView, MeetingId, Now, ServerName, State, UtcMs};
use crate::platform::{LiveMeeting, Telling};

/// A job as the answer to a read or a change of it.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct JobAnswer {
    #[serde(flatten)]
    pub job: JobView,
    /// Other open deadlines of the same meeting, earliest first.
    #[serde(default)]
    pub others: Vec<Deadline>,
    /// Entries that the bounded history has dropped from its middle.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub history_left_out: u32,
    /// Can the people inside be told? Absent where nobody is to be told any more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub telling: Option<Telling>,
}

fn is_zero(n: &u32) -> bool {
    *n == 0
}

impl JobAnswer {
    pub(super) fn new(job: &Job, others: &[Job], now: Now) -> JobAnswer {
        let others = others.iter().filter(|other| other.id != job.id).map(Deadline::of).collect();
        JobAnswer { job: JobView::new(job, now), others, history_left_out: 0, telling: None }
    }

    /// With the whole story.
    pub(super) fn with_history(job: &Job, others: &[Job], now: Now) -> JobAnswer {
        JobAnswer {
            job: JobView::with_history(job, now),
            history_left_out: job.history.left_out,
            ..JobAnswer::new(job, others, now)
        }
    }
}

/// A deadline in a few words.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Deadline {
    pub id: JobId,
    /// `null` while only the start of the meeting will tell.
    #[serde(with = "crate::job::rfc3339")]
    pub due: UtcMs,
    /// So long after the start of the meeting.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_duration: Option<String>,
    pub state: State,
}

impl Deadline {
    pub(super) fn of(job: &Job) -> Deadline {
        let max_duration = job.max_duration.map(format_span);
        Deadline { id: job.id, due: job.due, max_duration, state: job.state }
    }
}

#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Page {
    pub jobs: Vec<JobView>,
    /// Pass it as `before` for the next page; absent on the last one.
    pub next: Option<String>,
}

#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct History {
    pub id: JobId,
    pub left_out: u32,
    pub history: Vec<HistoryLine>,
}

/// The answer to one line of an import: a job, or an error.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct Imported {
    /// From 1.
    pub line: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<JobId>,
    #[serde(default, with = "crate::job::rfc3339_option", skip_serializing_if = "Option::is_none")]
    pub due: Option<UtcMs>,
    /// The key had made this job before.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub existing: bool,
    /// A problem document.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<Value>,
}

impl Imported {
    pub(super) fn accepted(line: u64, receipt: &Receipt) -> Imported {
        let Receipt { job, created, .. } = receipt;
        Imported { line, id: Some(job.id), due: Some(job.due), existing: !created, error: None }
    }

    pub(super) fn refused(line: u64, problem: Value) -> Imported {
        Imported { line, error: Some(problem), ..Imported::default() }
    }
}

/// What is live on a server now.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Meetings {
    pub server: ServerName,
    pub meetings: Vec<Meeting>,
}

#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Meeting {
    pub meeting: MeetingId,
    pub instance: InstanceId,
    /// From strangers: sanitise before showing.
    pub name: String,
    #[serde(with = "crate::job::rfc3339_option")]
    pub started_at: Option<UtcMs>,
    pub participants: Option<u32>,
    /// A breakout room: what it belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub breakout_of: Option<String>,
    /// Its open deadlines, earliest first.
    pub deadlines: Vec<Deadline>,
}

impl Meeting {
    /// The metadata stays here: it is for rules, and may hold callbacks with tokens.
    pub(super) fn new(live: LiveMeeting, jobs: &[Job]) -> Meeting {
        let LiveMeeting {
            meeting,
            instance,
            name,
            started_at,
            participants,
            breakout_of,
            meta: _,
            meta_cut: _,
        } = live;
        let deadlines = jobs.iter().map(Deadline::of).collect();
        Meeting { meeting, instance, name, started_at, participants, breakout_of, deadlines }
    }
}

/// What became of the deadlines of a meeting that were extended together. One that may not be (held by its limit, sent
/// already) keeps none of the others back: at the last minute half an answer is worth more than none.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Extended {
    pub jobs: Vec<JobView>,
    pub refused: Vec<Refused>,
    /// Due after the new time, and left alone: later occurrences of recurring and calendar entries, and what a new time
    /// would only bring nearer.
    #[serde(default)]
    pub later: Vec<JobView>,
}

#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Refused {
    pub id: JobId,
    /// It stays due then.
    #[serde(with = "crate::job::rfc3339")]
    pub due: UtcMs,
    pub state: State,
    pub status: u16,
    pub detail: String,
    pub hint: String,
}

#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Unlocked {
    pub server: ServerName,
    pub meeting: MeetingId,
}

/// A refusal, as the command line reads it.
#[derive(Clone, PartialEq, Debug, Deserialize)]
pub struct ProblemDocument {
    pub detail: String,
    #[serde(default)]
    pub hint: String,
}
