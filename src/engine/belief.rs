//! Which wall clock is believed: a step of it by more than an hour is more likely a fault than the truth.

use std::time::Duration;

use super::core::Core;
use crate::job::{Now, UtcMs};

/// A clock step of more than this holds firing back ...
const SUSPICIOUS_STEP: Duration = Duration::from_secs(3600);
/// ... for this long, unless the clock comes back.
const HOLD_BACK: Duration = Duration::from_secs(300);

/// Which of the two is believed now. A task that needs the time takes it along.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Belief {
    /// Wall minus boottime before a step that is not believed (yet).
    old: Option<i64>,
}

impl Belief {
    pub fn of(self, at: Now) -> Now {
        match self.old {
            Some(offset) => Now { wall: at.wall.min(UtcMs(at.boot.0 + offset)), ..at },
            None => at,
        }
    }
}

impl Core {
    /// The time as jobs see it. While a step is not believed, that is the earlier of the old time, going on, and the new
    /// one: nothing fires that either of them holds to be early.
    pub fn now(&self) -> Now {
        self.believed(self.clock.now())
    }

    /// A reading of the clocks, with the wall clock that is believed now.
    pub fn believed(&self, at: Now) -> Now {
        self.belief().of(at)
    }

    pub fn belief(&self) -> Belief {
        Belief { old: self.held_back.map(|_| self.offset) }
    }

    /// A step of the wall clock by more than an hour is more likely a fault than the truth: firing waits a little for the
    /// clock to come back, and says so.
    pub fn watch_the_clock(&mut self) {
        let now = self.clock.now();
        let offset = now.wall.0 - now.boot.0;
        let step_ms = offset - self.offset;
        let suspicious = step_ms.unsigned_abs() > SUSPICIOUS_STEP.as_secs() * 1_000;
        match self.held_back {
            None if suspicious => {
                tracing::error!(
                    step_ms,
                    "the wall clock was stepped by more than an hour: the old time goes on for 5 minutes, or until it comes back"
                );
                self.held_back = Some(now.boot + HOLD_BACK);
            }
            Some(until) if suspicious && now.boot < until => {}
            Some(_) => {
                tracing::warn!(step_ms, "the wall clock is believed again");
                self.held_back = None;
                self.offset = offset;
            }
            None => self.offset = offset,
        }
    }
}
