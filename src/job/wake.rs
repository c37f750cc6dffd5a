//! When a job wants to be stepped next.

use super::{BootMs, Job, Now, State, UtcMs};

/// The next wake-up: whichever of the two comes first.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Wake {
    pub wall: Option<UtcMs>,
    pub boot: Option<BootMs>,
}

impl Wake {
    /// Whichever comes first, on each clock.
    pub fn or(self, other: Wake) -> Wake {
        Wake {
            wall: [self.wall, other.wall].into_iter().flatten().min(),
            boot: [self.boot, other.boot].into_iter().flatten().min(),
        }
    }

    /// The earlier of the two as a wall-clock time.
    pub fn on_the_wall(&self, now: Now) -> Option<UtcMs> {
        let boot = self.boot.map(|at| now.wall + at.since(now.boot));
        [self.wall, boot].into_iter().flatten().min()
    }
}

impl Job {
    /// Computed from the job alone. A job that is not held, not done and not waiting for an answer, or for the start of its
    /// meeting, always has one.
    pub fn wake(&self, now: Now) -> Wake {
        let run = &self.run;
        match self.state {
            State::Waiting => self.wake_waiting(now),
            State::Held => Wake { wall: self.wake_held(), boot: None },
            State::Ending | State::Confirming => self.wake_at_work(now),
            State::Guarding => {
                let over = self.guard.as_ref().map(|guard| guard.began.boot + self.limits.keep_closed);
                let next = if run.looking.is_none() { Some(run.next.unwrap_or(now.boot)) } else { None };
                Wake { wall: None, boot: [over, next].into_iter().flatten().min() }
            }
            State::Done => Wake { wall: None, boot: self.after_look_at() },
        }
    }

    fn wake_waiting(&self, now: Now) -> Wake {
        if self.due.is_never() {
            return Wake::default();
        }
        let mut wake = Wake { wall: Some(self.due), boot: None };
        if self.may_leave_at_due(now) && self.claimed.is_none() {
            wake.wall = Some(self.claim_at());
        } else if self.is_idle() {
            wake = wake.or(self.wake_for_look(now));
        }
        wake.or(self.wake_for_warning(now))
    }

    /// When the next look before due is wanted, whichever that is. Before its time (the clock may have been set back) none
    /// is, whatever pause was planned.
    fn wake_for_look(&self, now: Now) -> Wake {
        if self.wants_pin_look(now) || self.wants_arm(now) {
            return Wake { wall: None, boot: Some(self.run.next.unwrap_or(now.boot)) };
        }
        if self.wants_last_look(now) {
            return Wake { wall: None, boot: Some(now.boot) };
        }
        let pin_look = self.awaits_pin().then(|| self.pin_look_at());
        let last_look = (!self.run.last_look_asked).then(|| self.last_look_at());
        let ahead = [pin_look, Some(self.arm_at()), last_look].into_iter().flatten();
        Wake { wall: ahead.filter(|at| *at > now.wall).min(), boot: None }
    }

    fn wake_held(&self) -> Option<UtcMs> {
        let at = self.release_at().unwrap_or(self.due);
        (!self.held_past_due && !at.is_never()).then_some(at)
    }

    fn wake_at_work(&self, now: Now) -> Wake {
        let idle = self.is_idle();
        let before_due = self.now_or_due(now);
        let next = if idle && before_due.is_none() { Some(self.run.next.unwrap_or(now.boot)) } else { None };
        let limits = [self.overdue_at(), self.stubborn_at(), self.prove_by(), self.give_up_at()];
        // A limit that has passed was weighed when it passed, and is again with every look.
        let limits = limits.into_iter().flatten().filter(|at| *at > now.boot);
        Wake { wall: before_due, boot: next.into_iter().chain(limits).min() }
    }

    /// The clock was stepped back behind due while an end call was wanted: wait for due again.
    fn now_or_due(&self, now: Now) -> Option<UtcMs> {
        (self.state == State::Ending && self.is_idle() && now.wall < self.due).then_some(self.due)
    }

    /// When the job must be in memory, as the store's index knows it; `None`: it has nothing to wait for. A job at work
    /// has the earliest key of all, so that a restart takes it up whatever the clock says.
    pub fn index_wake(&self) -> Option<UtcMs> {
        match self.state {
            State::Waiting => {
                let due = self.first_warning_at().or(Some(self.due)).filter(|at| !at.is_never());
                [due, self.pin_wake()].into_iter().flatten().min()
            }
            State::Held => self.wake_held(),
            State::Ending | State::Confirming | State::Guarding => Some(UtcMs(0)),
            State::Done => self.after_look_from().map(|at| at.wall + super::step::AFTER_LOOK),
        }
    }
}
