//! What is remembered of the meetings on one server from one sweep to the next.
//!
//! Durations are measured on boottime: if the wall clock was stepped between two sweeps, everything that was noted by it
//! moves along. What was not watched does not count: after too long a gap nobody knows whether a room was empty all the
//! time.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Hit;
use crate::job::{InstanceId, LiveMeeting, MeetingId, Now, Pin, UtcMs};

const MINUTE: Duration = Duration::from_secs(60);
/// Instances on one server; of those beyond nothing is remembered, and no rule hits them.
pub(super) const MAX_WATCHED: usize = 50_000;
/// The two clocks never run quite alike; a larger difference is a step.
const STEP_MS: i64 = 2_000;
/// A platform's idea of a start moves by so much as its clock is measured anew.
const JITTER_MS: i64 = 5_000;
/// What no listing shows, while none is complete, is remembered for so long.
const UNSEEN: Duration = Duration::from_secs(3600);
/// Hits of one rule on one instance that are over, and of which it is remembered that they were.
const MAX_OVER: usize = 8;

/// What is remembered of the meetings on one server between sweeps. Bounded: what is no longer live is forgotten.
#[derive(Clone, Default, PartialEq, Debug, Serialize, Deserialize)]
#[serde(from = "Flat", into = "Flat")]
pub struct Watch {
    /// When the last listing came.
    pub(super) last: Option<Now>,
    pub(super) seen: BTreeMap<Run, Seen>,
}

/// One instance of a meeting.
pub(super) type Run = (MeetingId, InstanceId);

/// A map whose keys are pairs has no form in JSON.
#[derive(Serialize, Deserialize)]
struct Flat {
    last: Option<Now>,
    seen: Vec<(MeetingId, InstanceId, Seen)>,
}

impl From<Flat> for Watch {
    fn from(flat: Flat) -> Watch {
        let seen = flat.seen.into_iter().map(|(meeting, instance, seen)| ((meeting, instance), seen));
        Watch { last: flat.last, seen: seen.collect() }
    }
}

impl From<Watch> for Flat {
    fn from(watch: Watch) -> Flat {
        let seen = watch.seen.into_iter().map(|((meeting, instance), seen)| (meeting, instance, seen));
        Flat { last: watch.last, seen: seen.collect() }
    }
}

impl Watch {
    /// As read by a process that has restarted.
    #[must_use]
    pub fn rebased(mut self, now: Now) -> Watch {
        self.last = self.last.map(|last| last.rebased(now));
        self
    }

    /// When the last listing was asked for.
    pub fn last(&self) -> Option<Now> {
        self.last
    }

    /// What it showed.
    pub fn pins(&self, at: Now) -> impl Iterator<Item = (MeetingId, Pin)> {
        self.seen.iter().map(move |((meeting, instance), seen)| {
            let (instance, started_at) = (instance.clone(), Some(seen.start().0));
            (
                meeting.clone(),
                Pin { instance, started_at, listed: true, node: None, site: None, last_live: at },
            )
        })
    }

    /// A hit that has applied so many times before, by its jobs.
    pub(super) fn relive(&mut self, hit: &Hit) {
        let Some(note) = self.of(hit).and_then(|seen| seen.find(&Asked::about(hit))) else { return };
        note.again = note.again.max(hit.again);
    }

    /// A look has seen what no listing did: people came, and went again. What the hit counts begins now.
    pub(super) fn begin_anew(&mut self, hit: &Hit) {
        let Some(now) = self.last else { return };
        let Some(seen) = self.of(hit) else { return };
        for spell in [&mut seen.empty, &mut seen.alone].into_iter().flatten() {
            *spell = Spell { id: now.wall, since: now.wall };
        }
    }

    /// After a listing that may lack some: what it did not show may be live all the same. What was counted of it is kept for
    /// a while, but nothing is known of who is inside.
    pub fn keep_unseen(&mut self, before: &Watch) {
        let Some(now) = self.last else { return };
        let step = before.step(now);
        for (run, seen) in
            before.seen.iter().filter(|(run, _)| !self.seen.contains_key(*run)).collect::<Vec<_>>()
        {
            let mut seen = seen.clone();
            seen.shift(step);
            let since = *seen.unseen.get_or_insert(now.wall);
            if self.seen.len() < MAX_WATCHED && now.wall <= since + UNSEEN {
                (seen.people, seen.empty, seen.alone) = (None, None, None);
                self.seen.insert(run.clone(), seen);
            }
        }
    }

    fn of(&mut self, hit: &Hit) -> Option<&mut Seen> {
        self.seen.get_mut(&(hit.live.meeting.clone(), hit.live.instance.clone()))
    }

    /// How long it was watched without a gap up to `now`; `None`: not at all.
    pub(super) fn watched(&self, now: Now, every: Duration) -> Option<Duration> {
        let elapsed = now.since(self.last?);
        (elapsed <= 3 * every + MINUTE).then_some(elapsed)
    }

    /// By how many milliseconds the wall clock was stepped since the last listing.
    pub(super) fn step(&self, now: Now) -> i64 {
        let Some(last) = self.last else { return 0 };
        let step = now.wall.ms_since(last.wall) - (now.boot.0 - last.boot.0);
        if step.abs() > STEP_MS { step } else { 0 }
    }
}

/// One instance that is live.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub(super) struct Seen {
    first: UtcMs,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    started: Option<UtcMs>,
    /// In the last listing, breakout rooms included.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    people: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub empty: Option<Spell>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alone: Option<Spell>,
    #[serde(default, skip_serializing_if = "is_zero")]
    participant_ms: u64,
    /// Since when only listings came that may lack it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    unseen: Option<UtcMs>,
    /// By rule.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    notes: BTreeMap<String, Vec<Note>>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_zero(n: &u64) -> bool {
    *n == 0
}

/// A condition that has held in every listing since.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
pub(super) struct Spell {
    /// When it was first seen, as the wall clock stood then: tells it from other ones.
    pub id: UtcMs,
    /// The same, as the wall clock stands now.
    pub since: UtcMs,
}

/// A hit, as it was first seen.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
struct Note {
    /// What of the rule it was that hit.
    cause: String,
    dry_run: bool,
    /// How often it was over and came again.
    again: u32,
    on: bool,
    /// By the rule alone.
    earliest: UtcMs,
    /// With the notice that people are given.
    due: UtcMs,
    /// In this sweep.
    #[serde(skip)]
    touched: bool,
}

/// A hit that the watch is asked about.
pub(super) struct Asked<'a> {
    pub rule: &'a str,
    pub cause: &'a str,
    pub dry_run: bool,
    pub earliest: UtcMs,
    /// How much notice a hit gives when it is first seen.
    pub notice: Duration,
}

impl<'a> Asked<'a> {
    fn about(hit: &'a Hit) -> Asked<'a> {
        let Hit { rule, cause, dry_run, earliest, .. } = hit;
        Asked { rule, cause, dry_run: *dry_run, earliest: *earliest, notice: Duration::ZERO }
    }
}

/// How many are inside, breakout rooms included.
#[derive(Clone, Copy, Default)]
pub(super) struct Crowd {
    /// `None`: the platform does not say.
    pub people: Option<u32>,
    /// In its breakout rooms, as far as is known.
    pub in_breakouts: u32,
    /// People are in a breakout room that might be one of its own.
    pub astray: bool,
}

impl Seen {
    pub fn new(now: Now) -> Seen {
        Seen {
            first: now.wall,
            started: None,
            people: None,
            empty: None,
            alone: None,
            participant_ms: 0,
            unseen: None,
            notes: BTreeMap::new(),
        }
    }

    /// Everything that was noted by the wall clock, after a step of it.
    pub fn shift(&mut self, step: i64) {
        let notes = self.notes.values_mut().flatten();
        let noted = notes.flat_map(|note| [&mut note.earliest, &mut note.due]);
        let spells = [&mut self.empty, &mut self.alone].into_iter().flatten().map(|spell| &mut spell.since);
        let own = [Some(&mut self.first), self.started.as_mut(), self.unseen.as_mut()].into_iter().flatten();
        for at in own.chain(spells).chain(noted) {
            at.0 = at.0.saturating_add(step);
        }
    }

    /// Takes in what a listing says. `watched`: how long ago the one before was, unless that is too long ago.
    pub fn look(&mut self, live: &LiveMeeting, crowd: Crowd, watched: Option<Duration>, now: Now) {
        match live.started_at.filter(|at| at.0 > 0) {
            Some(at) if self.started.is_none_or(|known| at.ms_since(known).abs() > JITTER_MS) => {
                // Nothing can have started after it was seen.
                self.started = Some(at.min(self.first));
            }
            _ => {}
        }
        if let (Some(before), Some(people), Some(elapsed)) = (self.people, crowd.people, watched) {
            let elapsed = u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX);
            let added = elapsed.saturating_mul(u64::from(before.min(people)));
            self.participant_ms = self.participant_ms.saturating_add(added);
        }
        (self.people, self.unseen) = (crowd.people, None);
        let empty = crowd.people == Some(0) && !crowd.astray;
        let alone = crowd.people == Some(1) && crowd.in_breakouts == 0 && !crowd.astray;
        for (spell, holds) in [(&mut self.empty, empty), (&mut self.alone, alone)] {
            let unbroken = spell.filter(|_| watched.is_some());
            *spell = holds.then(|| unbroken.unwrap_or(Spell { id: now.wall, since: now.wall }));
        }
        for note in self.notes.values_mut().flatten() {
            note.touched = false;
        }
    }

    /// When it started; `false`: the platform does not say, this is when it was first seen.
    pub fn start(&self) -> (UtcMs, bool) {
        self.started.map_or((self.first, false), |at| (at, true))
    }

    pub fn participant_minutes(&self) -> u64 {
        self.participant_ms / 60_000
    }

    /// How often a hit was over, if it was seen before; it is not over yet.
    pub fn known(&mut self, asked: &Asked<'_>) -> u32 {
        self.find(asked).map_or(0, |note| {
            note.touched = true;
            note.again
        })
    }

    /// When a hit is due, and how often it was over before. It is noted when it is first seen, and keeps its time unless
    /// the rule's own changes; an edit never makes it nearer than the notice. `None`: it would be due at `until` or later.
    pub fn note(&mut self, asked: &Asked<'_>, until: UtcMs, now: UtcMs) -> Option<(UtcMs, u32)> {
        let soonest = now + asked.notice;
        let first_seen = asked.earliest.max(soonest);
        if let Some(note) = self.find(asked) {
            if !note.on {
                note.again += 1;
                note.due = first_seen;
            } else if note.earliest != asked.earliest {
                note.due = asked.earliest.max(note.due.min(soonest.max(now + LEAST_AHEAD)));
            }
            (note.earliest, note.on, note.touched) = (asked.earliest, true, note.due < until);
            return note.touched.then_some((note.due, note.again));
        }
        if first_seen >= until {
            return None;
        }
        let Asked { rule, cause, dry_run, earliest, .. } = *asked;
        let (cause, due) = (cause.to_owned(), first_seen);
        let note = Note { cause, dry_run, again: 0, on: true, earliest, due, touched: true };
        match self.notes.get_mut(rule) {
            Some(notes) => notes.push(note),
            None => drop(self.notes.insert(rule.to_owned(), vec![note])),
        }
        Some((due, 0))
    }

    fn find(&mut self, asked: &Asked<'_>) -> Option<&mut Note> {
        let notes = self.notes.get_mut(asked.rule)?;
        notes.iter_mut().find(|note| note.dry_run == asked.dry_run && note.cause == asked.cause)
    }

    /// After all rules: what did not hit this time is over.
    pub fn settle(&mut self) {
        for notes in self.notes.values_mut() {
            for note in notes.iter_mut() {
                note.on = note.touched;
            }
            let over = notes.iter().filter(|note| !note.on).count();
            let mut too_many = over.saturating_sub(MAX_OVER);
            notes.retain(|note| {
                let forgotten = !note.on && too_many > 0;
                too_many -= usize::from(forgotten);
                !forgotten
            });
        }
    }
}

/// A job that an edit moves to a time that has passed is moved so far ahead.
const LEAST_AHEAD: Duration = Duration::from_secs(5);
