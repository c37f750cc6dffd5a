//! Rules.

use super::model::{Exempt, Rule};
use crate::job::{Job, JobId, LiveMeeting, Now, UtcMs};

/// What is remembered of the meetings on one server between sweeps.
#[derive(Clone, Default, Debug)]
pub struct Watch;

/// A rule applies to an instance: this should be a job.
#[derive(Clone, PartialEq, Debug)]
pub struct Hit {
    pub rule: String,
    /// The rule only reports.
    pub dry_run: bool,
    /// An `[[end]]` with `max-duration`: the job is the schedule's rather than a rule's.
    pub from_entry: bool,
    /// The same hit in every sweep, as long as it lasts.
    pub identity: String,
    pub live: LiveMeeting,
    pub due: UtcMs,
    /// One clause: `it has run for 4h`.
    pub reason: String,
    /// The end is called off where more people than this are inside.
    pub at_most: Option<u32>,
    pub limits: crate::job::Limits,
}

/// What a sweep comes to.
#[derive(Clone, Debug, Default)]
pub struct Sweep {
    pub watch: Watch,
    /// All hits that apply now.
    pub hits: Vec<Hit>,
}

/// What to do about a hit, or about the job of one that is over.
#[derive(Clone, PartialEq, Debug)]
pub enum RuleAction {
    Submit(Box<Hit>),
    Move { job: JobId, to: UtcMs },
    Withdraw { job: JobId, reason: String },
}

/// Applies the rules of one server to a complete listing of what is live there. Pure.
pub fn sweep(_rules: &[Rule], _exempt: &[Exempt], watch: &Watch, _live: &[LiveMeeting], _now: Now) -> Sweep {
    Sweep { watch: watch.clone(), hits: Vec::new() }
}

/// Compares the hits with the open jobs that rules made on this server. Pure.
pub fn plan(_hits: &[Hit], _open: &[Job], _live: &[LiveMeeting]) -> Vec<RuleAction> {
    Vec::new()
}
