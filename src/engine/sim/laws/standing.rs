//! Recurring ends: every occurrence is one job, whatever happens to the process, and what a stop has let pass catches up
//! once.

use std::collections::{BTreeMap, BTreeSet};

use super::super::check::{Checker, Law, Track, Truth};
use super::super::clock::Ms;
use super::super::standing::{Repeat, Standing};
use super::rules::rule_of;
use crate::job::{By, Fact, Job, JobId, MeetingId, Origin, Outcome, State, UtcMs};

/// The first moments of a process: nothing waits for its first plan longer than 5 s.
const AT_START: i64 = 10_000;

/// A stretch of time in which an entry was in the file, word for word.
struct Stint {
    repeat: Repeat,
    from: UtcMs,
    over: bool,
    /// When it was first planned for.
    planned: Option<UtcMs>,
}

#[derive(Default)]
pub struct Keeper {
    /// Somebody sets the wall clock in this history: only what must never happen is checked.
    pub clock_is_set: bool,
    stints: Vec<Stint>,
    /// What the engine went by last, as far as it has said so.
    running: Standing,
    /// Reloads that nobody has answered.
    under_way: u32,
    /// Counts everything after which the engine may go by another file.
    turns: u64,
    /// The jobs that were made for one occurrence.
    born: BTreeMap<(String, MeetingId, UtcMs), Vec<JobId>>,
    /// Jobs for a time before this process began that had not been touched by then.
    late: BTreeMap<String, BTreeMap<JobId, UtcMs>>,
    caught_up: BTreeMap<String, JobId>,
    began: Option<UtcMs>,
    /// The machine slept in the first moments of this process: what waits for the first plan, which is 5 s at most, has
    /// waited its time when it wakes.
    slept_at_start: bool,
}

/// What a request to plan finds when it is sent.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Ticket(u64);

impl Keeper {
    /// Has the engine said that this is what it goes by?
    pub fn goes_by(&self, file: &Standing) -> bool {
        self.under_way == 0 && self.running == *file
    }

    fn current(&mut self, repeat: &Repeat) -> Option<&mut Stint> {
        self.stints.iter_mut().rev().find(|stint| stint.repeat == *repeat && !stint.over)
    }

    /// Does an entry that the engine may know give this occurrence?
    fn is_given(&self, of: &str, meeting: &MeetingId, at: UtcMs) -> bool {
        // An entry that is edited after a gap longer than `ahead` may catch up under its new meeting or times.
        let known_by = |at: UtcMs| self.stints.iter().any(|old| old.repeat.entry() == of && old.from < at);
        let gives = |stint: &&Stint| {
            stint.repeat.entry() == of
                && stint.repeat.meeting() == *meeting
                && stint.repeat.between(UtcMs(at.0 - 1), at).next().is_some()
                && (known_by(at) || self.clock_is_set)
        };
        let known =
            |stint: &Stint| !stint.over || self.under_way > 0 || self.running.repeats.contains(&stint.repeat);
        self.stints.iter().filter(gives).any(known)
    }
}

/// Not there any more because of the file, not because somebody said so.
fn is_withdrawn(job: &Job) -> bool {
    job.outcome == Some(Outcome::Cancelled) && job.ends == 0 && !job.sentence().contains("uid 1000")
}

fn occurrence(job: &Job) -> Option<(&str, UtcMs)> {
    match &job.origin {
        Origin::Schedule { of: Some(of), planned, .. } if rule_of(job).is_none() => Some((of, *planned)),
        _ => None,
    }
}

impl Checker {
    /// The file has changed.
    pub fn file_says(&mut self, standing: &Standing, wall: UtcMs, now: Ms) {
        self.rules_say(standing, now);
        let keeper = &mut self.keeper;
        keeper.turns += 1;
        for stint in &mut keeper.stints {
            stint.over |= !standing.repeats.contains(&stint.repeat);
        }
        for repeat in &standing.repeats {
            if keeper.current(repeat).is_some() {
                continue;
            }
            // The engine has never seen that it was gone for a while.
            let unseen = keeper.under_way == 0 && keeper.running.repeats.contains(repeat);
            let same = |stint: &&mut Stint| stint.repeat == *repeat;
            match keeper.stints.iter_mut().rev().find(same).filter(|_| unseen) {
                Some(stint) => stint.over = false,
                None => {
                    let stint = Stint { repeat: repeat.clone(), from: wall, over: false, planned: None };
                    keeper.stints.push(stint);
                }
            }
        }
    }

    pub fn reload_sent(&mut self) {
        self.keeper.turns += 1;
        self.keeper.under_way += 1;
    }

    /// `applied`: with this; otherwise nothing has changed.
    pub fn reload_answered(&mut self, applied: Option<&Standing>) {
        self.keeper.turns += 1;
        self.keeper.under_way = self.keeper.under_way.saturating_sub(1);
        if let Some(standing) = applied {
            self.keeper.running = standing.clone();
        }
    }

    /// A process begins, with this file and on this disk.
    pub fn standing_restarted(&mut self, file: &Standing, jobs: &BTreeMap<JobId, Job>, wall: UtcMs) {
        let keeper = &mut self.keeper;
        keeper.turns += 1;
        keeper.under_way = 0;
        keeper.running = file.clone();
        keeper.began = Some(wall);
        keeper.slept_at_start = false;
        keeper.caught_up.clear();
        keeper.late.clear();
        let untouched = |job: &&Job| job.state == State::Waiting && job.claimed.is_none();
        for job in jobs.values().filter(untouched).filter(|job| job.due <= wall) {
            if let Some((of, _)) = occurrence(job) {
                keeper.late.entry(of.to_owned()).or_default().insert(job.id, job.due);
            }
        }
    }

    pub fn plan_sent(&self) -> Ticket {
        Ticket(self.keeper.turns)
    }

    /// The engine says that everything that should be a job is one. It was asked and has answered at these times.
    pub fn planned(
        &mut self,
        ticket: Ticket,
        (sent, answered): (UtcMs, UtcMs),
        jobs: &BTreeMap<JobId, Job>,
        now: Ms,
    ) {
        let keeper = &mut self.keeper;
        if Ticket(keeper.turns) != ticket || keeper.under_way > 0 || keeper.clock_is_set {
            return;
        }
        let mut have: BTreeSet<(&str, &MeetingId, UtcMs)> = BTreeSet::new();
        for job in jobs.values().filter(|job| !is_withdrawn(job)) {
            if let Some((of, planned)) = occurrence(job) {
                have.insert((of, &job.meeting, planned));
            }
        }
        let mut missing = Vec::new();
        let Standing { repeats, ahead, .. } = keeper.running.clone();
        for repeat in &repeats {
            let (entry, meeting) = (repeat.entry(), repeat.meeting());
            let Some(stint) = keeper.current(repeat) else { continue };
            let has = |at: UtcMs| have.contains(&(entry.as_str(), &meeting, at));
            let ahead = UtcMs(sent.0 + ahead);
            for at in repeat.between(answered, ahead).chain(repeat.next_after(answered)) {
                if !has(at) {
                    missing.push(format!("{entry}: no job for {at}"));
                }
            }
            let last = repeat.last_until(sent).filter(|_| repeat.between(sent, answered).next().is_none());
            let in_time = |at: &UtcMs| {
                stint.planned.is_some_and(|planned| planned < *at)
                    && at.0 + repeat.late_limit > answered.0
                    && !has(*at)
            };
            if let Some(at) = last.filter(in_time) {
                missing.push(format!("{entry}: nothing catches up for {at}"));
            }
            stint.planned.get_or_insert(answered);
        }
        missing.into_iter().for_each(|what| self.flag(Law::Standing, now, what));
    }

    /// A job is on the disk for the first time.
    pub(in crate::engine::sim) fn occurrence_born(&mut self, job: &Job, now: Ms) {
        let Some((of, at)) = occurrence(job) else { return };
        let key = (of.to_owned(), job.meeting.clone(), at);
        let others = self.keeper.born.entry(key).or_default();
        let over = |id: &JobId| self.tracks.get(id).is_some_and(|track| is_withdrawn(&track.job));
        let second = others.iter().any(|other| !over(other));
        others.push(job.id);
        if second {
            self.flag(Law::Standing, now, format!("job {}: a second one for {of} at {at}", job.id.short()));
        }
        if !self.keeper.is_given(of, &job.meeting, at) {
            let what = format!("job {}: nothing in the file asks for {of} at {at}", job.id.short());
            self.flag(Law::Standing, now, what);
        }
        if self.keeper.began.is_some_and(|began| at <= began) {
            self.keeper.late.entry(of.to_owned()).or_default().insert(job.id, job.due);
        }
    }

    /// Something about a job has changed: is it the file that has it moved or cancelled, and why?
    pub(in crate::engine::sim) fn occurrence_changed(&mut self, id: JobId, fact: &Fact, truth: Truth<'_>) {
        self.limit_started(id, fact, truth);
        let now = truth.clock.truth();
        let Some(Track { job, .. }) = self.tracks.get(&id) else { return };
        let how = match fact {
            Fact::Moved { by: By::Schedule, .. } => "moved",
            Fact::Concluded { .. } if is_withdrawn(job) => "cancelled",
            _ => return,
        };
        let Some((of, at)) = occurrence(job) else { return };
        let keeper = &self.keeper;
        let wanted = keeper.under_way == 0
            && keeper.stints.iter().any(|stint| {
                !stint.over
                    && keeper.running.repeats.contains(&stint.repeat)
                    && stint.repeat.entry() == of
                    && stint.repeat.meeting() == job.meeting
                    && stint.repeat.between(UtcMs(at.0 - 1), at).next().is_some()
            });
        if wanted {
            let what = format!("job {}: {how}, though {of} has not changed", id.short());
            self.flag(Law::Standing, now, what);
        }
    }

    /// The machine falls asleep.
    pub(in crate::engine::sim) fn sleeps(&mut self, wall: UtcMs) {
        self.keeper.slept_at_start |= self.keeper.began.is_some_and(|began| wall.0 - began.0 < AT_START);
    }

    /// An end call leaves.
    pub(in crate::engine::sim) fn occurrence_calls(&mut self, job: &Job, now: Ms) {
        let Some((of, _)) = occurrence(job) else { return };
        let keeper = &mut self.keeper;
        let (Some(late), Some(began)) = (keeper.late.get(of), keeper.began) else { return };
        let Some(due) = late.get(&job.id).filter(|due| **due == job.due) else { return };
        if keeper.clock_is_set || keeper.slept_at_start {
            return;
        }
        let mut broken = Vec::new();
        let first = *keeper.caught_up.entry(of.to_owned()).or_insert(job.id);
        if first != job.id {
            broken.push(format!("{of} catches up twice, with job {} as well", first.short()));
        }
        if let Some(later) = late.values().find(|at| *at > due) {
            broken.push(format!("{of} catches up for {due}, not for {later}"));
        }
        if *due + job.limits.late_limit < began {
            broken.push(format!("{of} at {due} is beyond its late-limit"));
        }
        for what in broken {
            self.flag(Law::Standing, now, format!("job {}: {what}", job.id.short()));
        }
    }
}
