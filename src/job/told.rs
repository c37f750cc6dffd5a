//! Was it told? What has become of each mark of `warn`, and where nobody was told, why.

use std::time::Duration;

use super::{CalledOff, Job, Outcome, State, UtcMs, WARN_LATEST};

/// What has become of one mark.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MarkStory {
    /// So long before due.
    pub before: Duration,
    /// Were the people inside told? `None`: that is still to come.
    pub told: Option<bool>,
    /// When that was settled, or is to be tried.
    pub at: Option<UtcMs>,
    /// So many breakout rooms were told too.
    pub also: u32,
    /// Why nobody was told, or not yet.
    pub why: Option<String>,
}

impl Job {
    /// The story of each mark, longest first.
    pub fn mark_stories(&self, wall: UtcMs) -> Vec<MarkStory> {
        self.limits.warn.iter().map(|before| self.mark_story(*before, wall)).collect()
    }

    fn mark_story(&self, before: Duration, wall: UtcMs) -> MarkStory {
        let story = |told, at, why| MarkStory { before, told, at, also: 0, why };
        let warnings = &self.warnings;
        if let Some(came) = warnings.came.iter().find(|came| came.before == before) {
            let again = !came.delivered && self.mark_at(wall) == Some(before);
            let told = (!again).then_some(came.delivered);
            return MarkStory { before, told, at: Some(came.at), also: came.also, why: came.why.clone() };
        }
        if warnings.settled.is_some_and(|settled| before >= settled) {
            let shorter = warnings.settled.unwrap_or_default();
            let shorter = humantime::format_duration(shorter);
            let why = format!("{}; the mark {shorter} stood for it", self.passed_by(before));
            return story(Some(false), None, Some(why));
        }
        match self.state {
            State::Waiting => story(None, Some(self.due - before).filter(|at| *at > wall), None),
            State::Held => story(None, None, Some("the deadline is held".to_owned())),
            _ => story(Some(false), None, Some(self.never_told(before))),
        }
    }

    /// Why the time of a mark passed without a try.
    fn passed_by(&self, before: Duration) -> &'static str {
        let since = self.warnings.since.unwrap_or(self.submitted.wall);
        match self.due - before <= since {
            true => "its time had passed when the deadline was set",
            false => "adjourn was not at work at its time, or the deadline was held",
        }
    }

    /// Why a mark was never tried, though the deadline does not wait any more.
    fn never_told(&self, before: Duration) -> String {
        let concluded = self.concluded.map_or(UtcMs::NEVER, |at| at.wall);
        let early = concluded < self.due - before.max(WARN_LATEST);
        match self.outcome {
            Some(Outcome::Cancelled) if self.called_off() == Some(CalledOff::Withdrawn) => {
                "the deadline was withdrawn before".to_owned()
            }
            Some(Outcome::Cancelled) => "the deadline was cancelled before".to_owned(),
            Some(outcome) if early => format!("the deadline came to its outcome before: {outcome}"),
            _ => self.passed_by(before).to_owned(),
        }
    }
}
