//! No instance that was born after the pin moment is ended, unless it opened when the last look had been answered.

use super::super::check::{Checker, Law, Track, Truth, keeps_closed};
use super::super::clock::Ms;
use crate::job::{InstanceId, Job};
use crate::platform::EndCall;

/// The look that pins is sent so long after the pin moment at most, and what opens meanwhile may be taken for ours where
/// nothing tells starts beyond doubt; and its answer takes a while.
const PIN_LOOK: Ms = 10_000 + 2_000;

impl Checker {
    /// An end call takes effect on this instance.
    pub fn hits(&mut self, call: &EndCall, id: &InstanceId, stored: Option<&Job>, truth: Truth<'_>) {
        let now = truth.clock.truth();
        let (Some(track), Some(job)) = (self.tracks.get(&call.job), stored) else { return };
        let Some(life) = truth.world.life(&call.meeting, id) else { return };
        if keeps_closed(job) || job.only.as_ref() == Some(id) {
            return;
        }
        let mut what = None;
        if *id != call.pin.instance {
            let looked = track.looked(&call.pin.instance);
            if life.started <= looked {
                what = Some(format!("ends {id}, meant was {}", call.pin.instance));
            }
        } else if !self.keeper.clock_is_set {
            let pin_moment = track.pin_moment(truth);
            if life.started > pin_moment + PIN_LOOK {
                let after = life.started - pin_moment;
                what = Some(format!("ends {id}, which opened {after} ms after the pin moment"));
            }
        }
        if let Some(what) = what {
            self.flag(Law::NextClass, now, format!("job {}: {what}", call.job.short()));
        }
    }
}

impl Track {
    /// When the last question was seen by the server whose answer showed this instance.
    fn looked(&self, id: &InstanceId) -> Ms {
        let shows = |shown: &(InstanceId, _)| shown.0 == *id;
        let mut shown = self.seen.iter().rev().filter(|seen| seen.shown.as_ref().is_some_and(shows));
        shown.next().map_or(Ms::MIN, |seen| seen.answered)
    }

    /// Whoever is live then is ours. Where people have changed the deadline since, from then on.
    pub fn pin_moment(&self, truth: Truth<'_>) -> Ms {
        let planned = truth.clock.truth_of(self.job.due - self.job.limits.pin_before);
        planned.max(self.submitted).max(self.moved)
    }
}
