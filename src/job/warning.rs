//! Warnings: telling the people inside that the end comes.
//!
//! A mark is so long before due. When one is reached, the job asks for a place in the lane; when the lane has room, the
//! mark that counts *then* is claimed and sent. Each is sent at most once a due time; a new due time arms all of them
//! again. Of several that have passed only the shortest counts. Nothing that a warning meets changes the end: it has a
//! flag of its own, and neither looks nor calls ask for it.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::limits::{duration_ms, option_duration_ms};
use super::step::{Draft, Effect};
use super::{Fact, InstanceId, Job, Now, Outcome, State, UtcMs, Wake};

/// So close to due nobody is warned any more.
pub const WARN_LATEST: Duration = Duration::from_secs(10);
/// Where nobody is there yet, or the platform cannot be reached: again this much later ...
const WARN_AGAIN: Duration = Duration::from_secs(30);
/// ... or, before a long mark, so many times at most.
const TRIES_A_MARK: u32 = 120;

/// A mark before one due time: what a warning is sent, and answered, for.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Mark {
    #[serde(rename = "mark", with = "duration_ms")]
    pub before: Duration,
    pub due: UtcMs,
}

/// What has become of the warnings before this due time.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Warnings {
    /// This mark and all longer ones are done with.
    #[serde(default, with = "option_duration_ms", skip_serializing_if = "Option::is_none")]
    pub settled: Option<Duration>,
    /// The warning of this mark may have gone out; cleared by its answer.
    #[serde(default, with = "option_duration_ms", skip_serializing_if = "Option::is_none")]
    pub claimed: Option<Duration>,
    /// Of this mark it has been said that it could not be delivered yet.
    #[serde(default, with = "option_duration_ms", skip_serializing_if = "Option::is_none")]
    pub put_off: Option<Duration>,
    /// The last word on each mark of which there is one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub came: Vec<Came>,
    /// When this due time was given; `None`: with the submit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<UtcMs>,
}

/// What came of one mark. The history says it too, but drops its middle.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Came {
    #[serde(rename = "mark", with = "duration_ms")]
    pub before: Duration,
    pub at: UtcMs,
    pub delivered: bool,
    /// So many breakout rooms were told too.
    #[serde(default)]
    pub also: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
}

/// What came of a warning.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Warned {
    /// The platform took it; `also`: in so many breakout rooms too.
    Delivered { instance: Option<InstanceId>, also: usize },
    /// Nobody is there, or not in the instance that it was for.
    NotThere,
    /// The platform has no way to tell them.
    Unsupported(String),
    /// `sent`: it may have been shown all the same.
    Failed { why: String, sent: bool },
}

/// The warning under way. A restart forgets it, nothing else does.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Warning {
    #[default]
    Idle,
    /// It waits in the lane.
    Queued,
    Sending(Mark),
}

impl Warnings {
    pub fn are_untouched(&self) -> bool {
        *self == Warnings::default()
    }

    /// Before a due time that is given now.
    pub(super) fn anew(now: UtcMs) -> Warnings {
        Warnings { since: Some(now), ..Warnings::default() }
    }

    /// The fold; `due`: what the job is due at.
    pub(super) fn apply(&mut self, at: UtcMs, fact: &Fact, due: UtcMs) {
        self.keep_last_word(at, fact, due);
        match fact {
            Fact::WarningClaimed(mark) if mark.due == due => self.claimed = Some(mark.before),
            Fact::WarningPutOff { mark, .. } if mark.due == due => self.claimed = None,
            Fact::WarningDue { mark, again: true, .. } if mark.due == due => {
                self.claimed = None;
                self.put_off = Some(mark.before);
            }
            Fact::WarningDue { mark, .. } if mark.due == due => {
                self.settled = Some(mark.before);
                self.claimed = None;
                self.put_off = None;
            }
            // What was sent for an earlier due time says nothing about this one.
            _ => {}
        }
    }

    fn keep_last_word(&mut self, at: UtcMs, fact: &Fact, due: UtcMs) {
        let (mark, came) = match fact {
            Fact::WarningDue { mark, delivered, also, why, .. } => {
                let (before, delivered, also, why) = (mark.before, *delivered, *also, why.clone());
                (mark, Came { before, at, delivered, also, why })
            }
            // That it was called off, or came too early, is no word on a mark of which nothing was said before.
            Fact::WarningPutOff { mark, why } if self.put_off == Some(mark.before) => {
                let why = Some(why.clone());
                (mark, Came { before: mark.before, at, delivered: false, also: 0, why })
            }
            _ => return,
        };
        if mark.due == due {
            self.came.retain(|earlier| earlier.before != came.before);
            self.came.push(came);
        }
    }

    fn is_open(&self, mark: Duration) -> bool {
        self.settled.is_none_or(|settled| mark < settled)
    }
}

impl Draft {
    /// Asks for a place in the lane where a mark has been reached.
    pub fn warn(&mut self) {
        self.warning_too_late();
        if self.job.run.warning == Warning::Idle && self.job.warns_at(self.now) {
            self.job.run.warning = Warning::Queued;
            self.effects.push(Effect::QueueWarning);
        }
    }

    /// The lane has room: the last word.
    pub fn warning_slot(&mut self) {
        if self.job.run.warning != Warning::Queued {
            return;
        }
        self.job.run.warning = Warning::Idle;
        let Some(before) = self.job.mark_at(self.now.wall) else { return self.warning_too_late() };
        let mark = Mark { before, due: self.job.due };
        self.note(Fact::WarningClaimed(mark));
        self.job.run.warning = Warning::Sending(mark);
        self.job.run.warn_again = None;
        self.effects.push(Effect::Warn(mark));
    }

    /// So close to due nobody is told any more: of the mark that was still to be told, that is said.
    fn warning_too_late(&mut self) {
        let (wall, due) = (self.now.wall, self.job.due);
        let sending = matches!(self.job.run.warning, Warning::Sending(_));
        if sending || wall < due - WARN_LATEST || wall >= due {
            return;
        }
        let said = self.job.warnings.put_off;
        if let Some(before) = self.job.mark_passed(wall).filter(|before| said != Some(*before)) {
            let why = "there was no room or time for it before the end".to_owned();
            self.note(undelivered(Mark { before, due }, why, false));
        }
    }

    pub fn warned(&mut self, mark: Mark, result: Warned) {
        if self.job.run.warning != Warning::Sending(mark) {
            return;
        }
        self.job.run.warning = Warning::Idle;
        match result {
            Warned::Delivered { instance, also } => {
                let also = u32::try_from(also).unwrap_or(u32::MAX);
                self.note(Fact::WarningDue {
                    mark,
                    delivered: true,
                    again: false,
                    instance,
                    also,
                    why: None,
                });
            }
            Warned::NotThere => self.put_off(mark, "nobody is there yet".to_owned()),
            Warned::Failed { why, sent: false } => self.put_off(mark, why),
            Warned::Unsupported(why) | Warned::Failed { why, sent: true } => {
                self.note(undelivered(mark, why, false));
            }
        }
    }

    /// Not delivered, and tried again while this mark counts; that is said once a mark.
    fn put_off(&mut self, mark: Mark, why: String) {
        let again = self.job.due == mark.due && self.job.mark_at(self.now.wall) == Some(mark.before);
        // The clock was set back: its time is still to come.
        let early = self.now.wall < mark.due - mark.before;
        if again {
            let pause = WARN_AGAIN.max(mark.before / TRIES_A_MARK);
            self.job.run.warn_again = Some((mark.before, self.now.boot + pause));
        }
        let called_off = self.job.due != mark.due
            || self.job.state == State::Held
            || matches!(self.job.outcome, Some(Outcome::Cancelled | Outcome::Missed));
        let said = self.job.warnings.put_off == Some(mark.before);
        self.note(match early || called_off || again && said {
            true => Fact::WarningPutOff { mark, why },
            false => undelivered(mark, why, again),
        });
    }

    /// After a restart nobody knows what became of it: it is not sent a second time.
    pub fn warning_lost(&mut self) {
        let Some(before) = self.job.warnings.claimed else { return };
        let mark = Mark { before, due: self.job.due };
        let why = "the daemon was stopped while it was being sent".to_owned();
        self.note(undelivered(mark, why, false));
    }
}

fn undelivered(mark: Mark, why: String, again: bool) -> Fact {
    Fact::WarningDue { mark, delivered: false, again, instance: None, also: 0, why: Some(why) }
}

impl Job {
    /// The mark that counts now, if it is still to be sent.
    pub(super) fn mark_at(&self, wall: UtcMs) -> Option<Duration> {
        if wall < self.due - WARN_LATEST { self.mark_passed(wall) } else { None }
    }

    /// The same, whether or not there is time for it.
    fn mark_passed(&self, wall: UtcMs) -> Option<Duration> {
        if self.state != State::Waiting || !self.unsent() {
            return None;
        }
        let passed = self.limits.warn.iter().copied().filter(|mark| self.due - *mark <= wall);
        passed.min().filter(|mark| self.warnings.is_open(*mark))
    }

    /// The time of a mark that counts has come, and no pause after a failure stands against it.
    fn warns_at(&self, now: Now) -> bool {
        let Some(mark) = self.mark_at(now.wall) else { return false };
        self.run.warn_again.is_none_or(|(paused, at)| paused != mark || now.boot >= at)
    }

    /// Is what a warning of this mark says still so?
    pub fn still_warns(&self, mark: Mark) -> bool {
        self.state == State::Waiting && self.due == mark.due && self.unsent()
    }

    /// When the next warning wants its turn.
    pub(super) fn wake_for_warning(&self, now: Now) -> Wake {
        if self.state != State::Waiting || self.run.warning != Warning::Idle {
            return Wake::default();
        }
        let boot = self.mark_at(now.wall).map(|mark| match self.run.warn_again {
            Some((paused, at)) if paused == mark => at,
            _ => now.boot,
        });
        Wake { wall: self.next_warning_at(now.wall), boot }
    }

    /// When the next mark will be reached that is to be sent.
    pub fn next_warning_at(&self, wall: UtcMs) -> Option<UtcMs> {
        let open = self.open_marks().filter(|mark| self.due - *mark > wall);
        open.max().filter(|_| self.state == State::Waiting).map(|mark| self.due - mark)
    }

    /// When a waiting job must be in memory for its warnings, by the record alone.
    pub(super) fn first_warning_at(&self) -> Option<UtcMs> {
        self.open_marks().max().map(|mark| self.due - mark)
    }

    fn open_marks(&self) -> impl Iterator<Item = Duration> {
        self.limits.warn.iter().copied().filter(|mark| self.warnings.is_open(*mark))
    }
}
