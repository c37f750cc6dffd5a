//! Rules: standing limits on whatever runs on a server.
//!
//! A sweep applies them to one complete listing and says what they [hit](Hit); [`plan`] compares that with the jobs that
//! sweeps before it made, each for one instance. Both are pure. What a sweep must remember is in the [`Watch`].
//!
//! - Only what was observed counts: an unknown number of people is neither nobody nor one, and a gap between listings ends
//!   what was counted.
//! - A breakout room is never hit by itself. Who is in one is in the meeting that it belongs to.
//! - A hit is the same in every sweep as long as it lasts, also after a restart; one that was over and came again is
//!   another one, so that its job is another job.
//! - A hit that comes as a surprise gives `first-hit-delay` of notice, once.

mod closing;
mod describe;
mod glob;
mod plan;
mod renew;
mod sweep;
mod watch;

pub use closing::{Closing, Weekdays, closings, upcoming};
pub use describe::describe;
pub use plan::{Tally, cap, gone, is_from_sweep, key, plan};
pub use renew::{Standing, renew};
pub use sweep::{Allows, sweep};
pub use watch::Watch;

/// Does this glob (`*` is any text, `?` any one character) match the whole text?
pub fn matches(glob: &str, text: &str) -> bool {
    glob::Glob::new(glob).matches(text)
}

use std::collections::BTreeSet;

use crate::job::{JobId, Limits, LiveMeeting, UtcMs};

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
    /// What of the rule it is that hits.
    pub cause: String,
    /// How often it was over before; part of its identity.
    pub again: u32,
    pub live: LiveMeeting,
    pub due: UtcMs,
    /// A job that was planned between here and `due` is in order: the time of the rule itself, without the notice that
    /// people were given.
    pub earliest: UtcMs,
    /// One clause: `it ends 4h after its start`.
    pub reason: String,
    /// The end is called off where more people than this are inside.
    pub at_most: Option<u32>,
    pub limits: Limits,
}

/// What a sweep comes to.
#[derive(Clone, Debug, Default)]
pub struct Sweep {
    pub watch: Watch,
    /// All hits that apply now.
    pub hits: Vec<Hit>,
    /// Identities of hits that make no job any more, while a job that there is stays as it is: a closing that has passed,
    /// or what may have been counted before a restart.
    pub kept: BTreeSet<String>,
    /// So many hits, or meetings, were beyond what one sweep keeps apart, and are left alone.
    pub skipped: usize,
    /// Some of those may be hits that have a job: no job is known to be over.
    pub blind: bool,
    /// So many hits only report.
    pub dry: usize,
}

/// What to do about a hit, or about the job of one that is over.
#[derive(Clone, PartialEq, Debug)]
pub enum RuleAction {
    Submit(Box<Hit>),
    Move { job: JobId, to: UtcMs },
    Withdraw { job: JobId, reason: String },
}

#[cfg(test)]
mod tests;
