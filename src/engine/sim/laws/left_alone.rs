//! What goes on running when a job is done is named there, and is not the job's own.

use super::super::check::{Law, Track, Truth};
use super::super::clock::Ms;
use crate::job::{Fact, InstanceId, Outcome};

impl Track {
    /// A job has come to its outcome. `set`: the wall clock is set in this history, and the pin moment is anybody's guess.
    pub fn left_alone(
        &self,
        outcome: Outcome,
        reason: &str,
        (at, restarted): (Ms, Ms),
        set: bool,
        truth: Truth<'_>,
    ) -> Vec<(Law, String)> {
        let mut broken = Vec::new();
        let tells = !matches!(outcome, Outcome::Cancelled | Outcome::Missed);
        let seen = || self.seen.iter().rev().filter(|seen| seen.received <= at);
        // Where the last answer said nothing, nobody knows what runs there.
        let last = seen().find(|seen| seen.sent >= restarted);
        let shown = last.and_then(|last| last.shown.as_ref()).map(|(id, _)| id);
        let other = shown.filter(|id| self.pins.last() != Some(id) && tells);
        if let Some(other) = other.filter(|other| !self.is_named(other, reason)) {
            broken.push((Law::LeftAlone, format!("is called {outcome}, and nobody is told of {other}")));
        }
        if outcome != Outcome::Superseded || set {
            return broken;
        }
        let moment = self.pin_moment(truth);
        let ours = seen().filter_map(|seen| {
            let (id, start) = seen.shown.as_ref()?;
            let before =
                seen.received < moment || start.is_some_and(|start| start.precedes(self.job.pin_moment()));
            let named = self.job.only.as_ref().is_none_or(|only| only == id);
            let life = truth.world.life(&self.job.meeting, id)?;
            (before && named && life.alive_at(at)).then_some(id)
        });
        if let Some(id) = ours.into_iter().next() {
            broken.push((Law::LeftAlone, format!("is called {outcome}, and {id} is its own")));
        }
        broken
    }

    fn is_named(&self, id: &InstanceId, reason: &str) -> bool {
        let names = |fact: &Fact| match fact {
            Fact::Reopened { instance } => instance == id,
            _ => false,
        };
        self.job.left_alone.as_ref().is_some_and(|left| left.instance == *id)
            || reason.contains(id.as_str())
            || self.job.history.recent.iter().any(|entry| names(&entry.fact))
    }
}
