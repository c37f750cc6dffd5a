//! The pure heart: a job, its life, and the decisions about it. Knows no clock, no I/O, no async.

mod change;
mod confirm;
mod ending;
mod fact;
mod fold;
mod limits;
mod model;
mod pinning;
mod retry;
mod sighting;
mod step;
mod story;
mod time;
mod told;
mod view;
mod wake;
mod warn_text;
mod warning;
mod watching;

pub use change::{Change, Conflict};
pub use confirm::SIGHTING_GAP;
pub use fact::{CalledOff, Entry, Fact, History, Purpose};
pub use limits::{Limits, LimitsPatch};
pub use model::{
    By, Calls, Expect, Guard, Head, InstanceId, Job, JobId, Key, LastSeen, LeftAlone, MeetingId, Order,
    Origin, Outcome, Pin, Reopened, ServerName, Sighted, State,
};
pub use sighting::{
    Aim, EndAnswer, Evidence, Instance, Knowledge, LiveMeeting, Lock, ServerClock, Sighting, Site,
    StartRange, Verdict,
};
pub use step::{CLAIM_LEAD, Effect, Event, LOCK_WAIT, Run, recovered, step};
pub use time::{BootMs, Now, UtcMs};
pub use told::MarkStory;
pub use view::{HistoryLine, JobView, LastSeenView, LeftAloneView, ReopenedView, WarningView};
pub(crate) use view::{rfc3339, rfc3339_option};
pub use wake::Wake;
pub use warn_text::{
    Filling, Language, PLACEHOLDERS, Remaining, TextError, WARN_TEXT_LENGTH, check_text, cut, expand,
    languages,
};
pub use warning::{Came, Mark, WARN_LATEST, Warned, Warning, Warnings};

#[cfg(test)]
mod tests;
