//! What is called over is over, and was proven to be: by two sightings, or by a front's word that the reason names.

use super::super::check::{Law, Seen, Track, Truth};
use super::super::clock::Ms;
use super::super::world::Life;
use crate::job::Outcome;

/// Two sightings are a proof only so far apart.
const SIGHTING_GAP: Ms = 2_000;
/// An instance that started so long before the pin moment belongs to it, whatever a look takes.
const BELONGS: Ms = 2_000;
/// What the reason says where nothing but the front's word is behind it.
const WORD: &str = "word";

impl Track {
    /// May it be said, at this time, that the meeting is over?
    pub fn claims(
        &self,
        outcome: Outcome,
        reason: &str,
        (at, restarted): (Ms, Ms),
        truth: Truth<'_>,
    ) -> Vec<(Law, String)> {
        let mut broken = Vec::new();
        let elsewhere = outcome == Outcome::Absent && truth.world.moves;
        if !matches!(outcome, Outcome::Ended | Outcome::AlreadyOver | Outcome::Absent) || elsewhere {
            return broken;
        }
        if !reason.contains(WORD) {
            broken.extend(self.alive_all_the_same(outcome, at, restarted, truth));
        }
        let mut wrong = |what: String| broken.push((Law::NoFalseEnded, what));
        let Some((one_before, last)) = self.proof(at, restarted) else {
            wrong(format!("is called {outcome} without two sightings of its absence, two seconds apart"));
            return broken;
        };
        for life in truth.world.lives(&self.job.meeting) {
            let shown = life.started <= one_before.answered && life.shown_at(last.answered);
            let told = last.shown.as_ref().and_then(|(_, start)| *start);
            let moment = self.job.pin_moment();
            let ours = match &self.job.only {
                Some(only) => *only == life.id,
                None => outcome == Outcome::Absent || told.is_some_and(|start| start.precedes(moment)),
            };
            if shown && ours {
                wrong(format!("is called {outcome}, and {} of the same meeting is alive", life.id));
            }
        }
        broken
    }

    /// Nobody sees into the nodes but the judge: what a front has forgotten goes on.
    fn alive_all_the_same(
        &self,
        outcome: Outcome,
        at: Ms,
        restarted: Ms,
        truth: Truth<'_>,
    ) -> Vec<(Law, String)> {
        let mut broken = Vec::new();
        for pin in &self.pins {
            let life = truth.world.life(&self.job.meeting, pin);
            if life.is_some_and(|life| life.alive_at(at) && !life.is_forgiven(self.job.id, restarted)) {
                broken.push((Law::TrulyGone, format!("is called {outcome}, and {pin} is alive")));
            }
        }
        let forgotten = |life: &&Life| {
            let named = self.job.only.as_ref().is_none_or(|only| *only == life.id);
            let ours = named && life.started + BELONGS <= self.pin_moment(truth);
            ours && life.alive_at(at) && !life.by_restart && !life.is_forgiven(self.job.id, restarted)
        };
        let lives = truth.world.lives(&self.job.meeting);
        if outcome == Outcome::Absent
            && let Some(life) = lives.iter().find(forgotten)
        {
            let what = format!("is called {outcome}, and {} is alive, whoever knows of it", life.id);
            broken.push((Law::TrulyGone, what));
        }
        broken
    }

    /// Two sightings that did not show the pinned instance, two seconds apart, asked for after the last end call was
    /// answered and by the process that says so.
    fn proof(&self, at: Ms, restarted: Ms) -> Option<(&Seen, &Seen)> {
        let pin = self.pins.last();
        let answered = self.calls.iter().filter_map(|call| call.answered).filter(|answered| *answered <= at);
        let answered = answered.max().unwrap_or(0);
        let since = answered.max(restarted);
        let shows = |seen: &Seen| pin.is_some() && seen.shown.as_ref().map(|(shown, _)| shown) == pin;
        let usable = self.seen.iter().rev().filter(|seen| seen.usable && seen.received <= at);
        let absent: Vec<&Seen> =
            usable.take_while(|seen| !shows(seen)).filter(|seen| seen.sent >= since).collect();
        let last = *absent.first()?;
        let one_before = absent.iter().find(|seen| last.sent >= seen.received + SIGHTING_GAP)?;
        Some((one_before, last))
    }
}
