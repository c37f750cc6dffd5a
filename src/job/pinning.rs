//! Whose instance is it? What is live at the pin moment belongs to the deadline; what starts later is the next class.
//!
//! The **pin moment** is `pin-before` ahead of due, or the moment at which somebody asked for the end to be at once, if
//! that is later. An instance belongs if
//!
//! - it is the one that the job names (then nothing else does), or `keep-closed` is at work, or
//! - a look from before the pin moment showed it, or
//! - it started before the pin moment **beyond doubt** (see [`StartRange`](super::StartRange)), or
//! - the first good look of the pin moment showed it (asked within [`PIN_WINDOW`] and answered before due, unless the
//!   end was asked for at once), and it did not start beyond doubt later. Where the platform tells no starts, the first
//!   good look between pin moment and due decides.
//!
//! Deliberately absent: the shape of ids, and our own clock's opinion of a start that nothing corrects.

use std::time::Duration;

use super::step::Draft;
use super::{Fact, Instance, Job, Now, UtcMs};

/// The look that decides is asked within this of the pin moment.
pub const PIN_WINDOW: Duration = Duration::from_secs(10);

/// A due time that lies no further back than this was "now" when it was asked for.
const AT_ONCE: Duration = Duration::from_millis(500);

/// When a look was asked and answered.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asked {
    pub sent: Now,
    pub received: Now,
}

impl Job {
    /// Whoever is live then is ours.
    pub fn pin_moment(&self) -> UtcMs {
        let planned = self.due - self.limits.pin_before;
        // A deadline that the schedule file gave when it had passed already is not meant for whoever is live by now.
        let in_time = self.submitted.wall <= self.due + AT_ONCE;
        let submitted = if in_time { self.submitted.wall } else { planned };
        planned.max(submitted).max(self.asked_at.unwrap_or(planned))
    }

    /// The end was asked for at once: there is no time before due in which to look.
    fn is_at_once(&self) -> bool {
        self.pin_moment() >= self.due
    }

    /// Nobody is pinned, and the look of the pin moment has not decided that nobody is to be.
    pub(super) fn awaits_pin(&self) -> bool {
        self.pin.is_none() && !self.pin_decided && !self.due.is_never()
    }

    /// When the job must be in memory for its pin look, where that comes well before due.
    pub(super) fn pin_wake(&self) -> Option<UtcMs> {
        (self.awaits_pin() && self.limits.pin_before > PIN_WINDOW).then(|| self.pin_moment())
    }

    pub(super) fn belongs(&self, seen: &Instance, look: Asked) -> bool {
        if let Some(only) = &self.only {
            return *only == seen.id;
        }
        let kept_closed = !self.limits.keep_closed.is_zero() && look.received.wall >= self.due;
        self.guard.is_some()
            || kept_closed
            || self.belongs_beyond_doubt(seen)
            || (self.decides_the_pin(look, seen.start.is_some()) && !self.started_later(seen))
    }

    /// Is it ours by `keep-closed` alone, and the first of its kind?
    pub(super) fn is_kept_closed_from(&self, seen: &Instance) -> bool {
        self.guard.is_none()
            && self.only.is_none()
            && self.unproven.is_none()
            && !self.limits.keep_closed.is_zero()
            && !self.belongs_beyond_doubt(seen)
    }

    /// Seen before the pin moment, or started before it beyond doubt.
    fn belongs_beyond_doubt(&self, seen: &Instance) -> bool {
        let moment = self.pin_moment();
        let sighted = self.sighted.iter().any(|old| old.instance == seen.id && old.at < moment);
        sighted || seen.start.is_some_and(|start| start.precedes(moment))
    }

    fn started_later(&self, seen: &Instance) -> bool {
        seen.start.is_some_and(|start| start.follows(self.pin_moment()))
    }

    /// Is this the first good look of the pin moment? What it shows counts by the time of its answer; where starts are
    /// told it must have been asked soon after the moment.
    fn decides_the_pin(&self, look: Asked, tells_starts: bool) -> bool {
        let moment = self.pin_moment();
        let in_window = look.sent.wall <= moment + PIN_WINDOW;
        let before_due = look.received.wall < self.due;
        let in_time = if self.is_at_once() { in_window } else { before_due && (in_window || !tells_starts) };
        self.awaits_pin() && look.received.wall >= moment && in_time
    }
}

impl Draft {
    /// A good look of the pin moment has shown nobody who is ours: what appears from now on must have started before it.
    pub(super) fn decide_the_pin(&mut self, look: Asked) {
        if self.job.only.is_none() && self.job.decides_the_pin(look, false) {
            self.note(Fact::PinDecided);
        }
    }
}
