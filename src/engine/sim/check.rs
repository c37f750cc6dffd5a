//! The judge of a history: holds what the engine does, and what it says, against the truth.
//!
//! It believes nothing that the job says of itself where the world can tell: the calls that left, the answers that came
//! back, what is on the disk. The numbers are those of the invariants; what comes after them is about standing entries.

mod rules;
mod standing;

use std::collections::{BTreeMap, VecDeque};

use self::rules::Sweeps;
use self::standing::Keeper;
use super::clock::{Ms, SimClock};
use super::plan::Ask;
use super::told::Told;
use super::world::World;
use crate::engine::api::{Receipt, Refusal};
use crate::job::{
    Aim, EndAnswer, Entry, Fact, InstanceId, Job, JobId, Outcome, Purpose, Run, Sighting, State, UtcMs,
};
use crate::platform::{EndCall, Target};

/// A call may follow its look by this much; the first, on-time one may follow its arm; and each may wait for its claim.
const LOOK_FRESH: Ms = 2_000;
const ARM_GOOD: Ms = 15_000;
const CLAIM_WAIT: Ms = 250;
/// Two sightings are a proof only so far apart.
const SIGHTING_GAP: Ms = 2_000;
/// An instance must have started so long before due to belong to it.
const BELONGS: Ms = 2_000;
/// Rounds of looks start at least so far apart, and so many may be on their way.
const ROUND_GAPS: [Ms; 2] = [200, 400];
const ROUNDS_AT_ONCE: u32 = 2;
/// End calls, and looks, for one job within a minute.
const CALLS_A_MINUTE: usize = 14;
const LOOKS_A_MINUTE: usize = 70;
/// So many of a record's entries are its first.
const KEEP_FIRST: usize = 16;
/// A job that a restart took up goes on looking at least so long before it says that nothing can be proven.
const TRIES_AFTER_RESTART: Ms = 30_000;

/// What a history must never show.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Law {
    Durable = 1,
    NeverEarly = 2,
    RightInstance = 3,
    NoFalseEnded = 4,
    OneEnd = 5,
    LastWord = 6,
    ComesBack = 7,
    Bounded = 8,
    Replays = 9,
    FullDisk = 12,
    /// Told once a mark and due time, not before it, and not when it is of no use any more.
    ToldOnce = 13,
    /// Recurring ends: every occurrence once.
    Standing = 14,
    /// Rules: only what they mean, and only once.
    Rule = 15,
}

#[derive(Clone, Debug)]
pub struct Violation {
    pub law: Law,
    pub at: Ms,
    pub what: String,
}

/// One answer about a job's meeting.
struct Seen {
    shown: Option<(InstanceId, Option<UtcMs>)>,
    people: Option<u32>,
    usable: bool,
    sent: Ms,
    answered: Ms,
    received: Ms,
}

/// One end call that left.
pub struct Call {
    pub at: Ms,
    epoch: u32,
    /// Absent while it is on its way.
    sent: Option<bool>,
    answered: Option<Ms>,
    claimed: bool,
}

/// What is known of one job.
pub struct Track {
    /// The fold of its facts, as far as they are durable.
    pub job: Job,
    pins: Vec<InstanceId>,
    seen: Vec<Seen>,
    pub calls: Vec<Call>,
    looks: VecDeque<Ms>,
    /// The revision that somebody was told of.
    told: u64,
    moved: Ms,
    /// When somebody last had it changed.
    pub changed: Ms,
    pub submitted: Ms,
    /// Changes that were refused because a call had been sent, and where none had been seen.
    refused: Vec<(Ms, String)>,
}

#[derive(Default)]
struct Load {
    last_round: [Option<Ms>; 2],
    /// Rounds that an end call waits for, and others.
    rounds: [u32; 2],
    ends: usize,
}

fn kept_closed(job: &Job) -> bool {
    job.guard.is_some() || !job.limits.keep_closed.is_zero()
}

/// Of the rounds that jobs share; `None`: the single look in an end call's turn.
fn kind_of_round(targets: &[Target]) -> Option<usize> {
    match targets.first()?.purpose {
        Purpose::Last => None,
        Purpose::Pin | Purpose::Arm | Purpose::BeforeEnd => Some(0),
        Purpose::Confirm | Purpose::Guard | Purpose::After => Some(1),
    }
}

#[derive(Default)]
pub struct Checker {
    pub violations: Vec<Violation>,
    pub tracks: BTreeMap<JobId, Track>,
    keys: BTreeMap<usize, JobId>,
    loads: BTreeMap<usize, Load>,
    epoch: u32,
    restarted: Ms,
    /// When no process was there: what was planned for a time may come much later.
    pub aways: Vec<(Ms, Ms)>,
    pub keeper: Keeper,
    sweeps: Sweeps,
    pub outcomes: BTreeMap<Outcome, u64>,
    pub told: Told,
}

/// Where the truth is found.
#[derive(Clone, Copy)]
pub struct Truth<'a> {
    pub clock: &'a SimClock,
    pub world: &'a World,
}

impl Checker {
    pub fn flag(&mut self, law: Law, at: Ms, what: impl Into<String>) {
        self.violations.push(Violation { law, at, what: what.into() });
    }

    /// A new process begins.
    pub fn restarted(&mut self, now: Ms) {
        self.epoch += 1;
        self.restarted = now;
        self.loads.clear();
        self.told.restarted();
        self.sweeps_restarted();
        for track in self.tracks.values_mut() {
            track.looks.clear();
            // Whether it was answered, nobody will ever know.
            track.calls.iter_mut().for_each(|call| call.sent = Some(call.sent.unwrap_or(true)));
        }
    }

    // What is on the disk.

    /// A record has become durable.
    pub fn durable(&mut self, job: &Job, truth: Truth<'_>) {
        let now = truth.clock.truth();
        let Some(track) = self.tracks.get_mut(&job.id) else {
            let track = Track {
                job: job.clone(),
                // A sweep has seen its instance before there was a job.
                pins: job.pin.iter().map(|pin| pin.instance.clone()).collect(),
                seen: Vec::new(),
                calls: Vec::new(),
                looks: VecDeque::new(),
                told: 0,
                moved: 0,
                changed: now,
                submitted: now,
                refused: Vec::new(),
            };
            self.tracks.insert(job.id, track);
            self.occurrence_born(job, now);
            self.rule_job_born(job, truth);
            return;
        };
        let recent = &job.history.recent;
        let grown = job.history.total().saturating_sub(track.job.history.total());
        let known = recent.len() - if job.history.left_out > 0 { KEEP_FIRST } else { 0 };
        if grown > known {
            // More has happened than a record keeps: the fold goes on from here.
            track.job = job.clone();
            return;
        }
        for entry in &recent[recent.len() - grown..] {
            self.fact(job.id, entry, truth);
        }
        let track = &self.tracks[&job.id];
        if track.job != (Job { run: Run::default(), ..job.clone() }) {
            self.flag(Law::Replays, now, format!("job {}: its facts do not give its record", job.id.short()));
        }
    }

    fn fact(&mut self, id: JobId, entry: &Entry, truth: Truth<'_>) {
        let at = truth.clock.truth_of_boot(entry.at.boot);
        let Some(track) = self.tracks.get_mut(&id) else { return };
        let (state, revision, was_done) = (track.job.state, track.job.revision, track.job.is_done());
        let before = Job { history: Default::default(), ..track.job.clone() };
        track.job.record(entry.at, entry.fact.clone());
        let after = &track.job;
        let mut broken = Vec::new();
        if after.state != state && after.revision == revision {
            broken.push((Law::LastWord, format!("{} to {} under one revision", state, after.state)));
        }
        match &entry.fact {
            Fact::Pinned { pin } => {
                track.pins.push(pin.instance.clone());
                if before.only.as_ref().is_some_and(|only| *only != pin.instance) {
                    broken.push((Law::RightInstance, format!("pinned {}, not the one named", pin.instance)));
                }
            }
            Fact::Moved { .. } | Fact::Held { .. } | Fact::Released { .. } => {
                if matches!(entry.fact, Fact::Moved { .. }) {
                    self.told.moved(id);
                }
                track.moved = at;
                track.changed = at;
            }
            Fact::EndSent { .. } if was_done => {
                broken.push((Law::OneEnd, "calls after its outcome".to_owned()));
            }
            // Under `keep-closed` everything live from due on is ours.
            Fact::EndSent { instance, .. }
                if !kept_closed(&before) && !track.belongs(instance, truth.clock) =>
            {
                broken.push((Law::RightInstance, format!("calls at {instance}, which is not its own")));
            }
            Fact::Guarding { outcome, .. } => {
                broken.extend(track.claims(*outcome, at, self.restarted, truth));
            }
            Fact::Concluded { outcome, reason } => {
                if was_done {
                    broken.push((Law::OneEnd, format!("a second outcome, {outcome}")));
                }
                if before.guard.is_none() {
                    broken.extend(track.claims(*outcome, at, self.restarted, truth));
                }
                let hasty = *outcome == Outcome::Unconfirmed
                    && reason.contains("within")
                    && self.epoch > 1
                    && track.submitted < self.restarted
                    && at - self.restarted < TRIES_AFTER_RESTART;
                if hasty {
                    broken.push((
                        Law::ComesBack,
                        format!("{} ms after a restart: {reason}", at - self.restarted),
                    ));
                }
                *self.outcomes.entry(*outcome).or_default() += 1;
            }
            _ => {}
        }
        broken.into_iter().for_each(|(law, what)| self.flag(law, at, format!("job {}: {what}", id.short())));
        self.occurrence_changed(id, &entry.fact, truth);
    }

    // What leaves, and what comes back.

    pub fn look_leaves(&mut self, site: usize, targets: &[Target], now: Ms) {
        let load = self.loads.entry(site).or_default();
        // A look in an end call's turn is bounded as the call is.
        let too_many = kind_of_round(targets).is_some_and(|kind| {
            load.rounds[kind] += 1;
            let too_soon =
                load.last_round[kind].replace(now).is_some_and(|last| now - last < ROUND_GAPS[kind]);
            too_soon || load.rounds[kind] > ROUNDS_AT_ONCE
        });
        if too_many {
            self.flag(Law::Bounded, now, format!("server {site}: too many rounds of looks"));
        }
        for target in targets {
            let Some(track) = self.tracks.get_mut(&target.job) else { continue };
            track.looks.push_back(now);
            while track.looks.front().is_some_and(|first| *first < now - 60_000) {
                track.looks.pop_front();
            }
            if track.looks.len() > LOOKS_A_MINUTE {
                self.flag(Law::Bounded, now, format!("job {}: looks without end", target.job.short()));
            }
        }
    }

    pub fn look_answered(&mut self, site: usize, targets: &[Target]) {
        let load = self.loads.entry(site).or_default();
        if let Some(kind) = kind_of_round(targets) {
            load.rounds[kind] = load.rounds[kind].saturating_sub(1);
        }
    }

    /// `times`: when the round left, when the server saw it, when its answer was there.
    pub fn looked(&mut self, targets: &[Target], sightings: &[Sighting], times: (Ms, Ms, Ms)) {
        let (sent, answered, received) = times;
        for (target, sighting) in targets.iter().zip(sightings) {
            let Some(track) = self.tracks.get_mut(&target.job) else { continue };
            let (shown, people, usable) = match sighting {
                Sighting::Live(seen) => (Some((seen.id.clone(), seen.started_at)), seen.participants, true),
                Sighting::NotThere(_) => (None, None, true),
                _ => (None, None, false),
            };
            track.seen.push(Seen { shown, people, usable, sent, answered, received });
        }
    }

    /// `stored` is the job as the disk has it.
    pub fn end_leaves(
        &mut self,
        site: usize,
        bound: usize,
        call: &EndCall,
        aim: Aim,
        stored: Option<&Job>,
        truth: Truth<'_>,
    ) {
        let now = truth.clock.truth();
        let load = self.loads.entry(site).or_default();
        load.ends += 1;
        let ends = load.ends;
        let (Some(stored), Some(track)) = (stored, self.tracks.get_mut(&call.job)) else {
            return self.flag(
                Law::Durable,
                now,
                format!("job {} is not on the disk, and calls", call.job.short()),
            );
        };
        let mut broken = Vec::new();
        if ends > bound {
            broken.push((Law::Bounded, format!("{ends} end calls at once on server {site}")));
        }
        let wall = truth.clock.wall();
        if wall < stored.due {
            broken.push((Law::NeverEarly, format!("calls {} ms before due", stored.due.ms_since(wall))));
        }
        let until = stored.held_until.filter(|until| *until < stored.due);
        if stored.state == State::Held && until.is_none_or(|until| until > wall) {
            broken.push((Law::LastWord, "calls although it is held".to_owned()));
        }
        if stored.is_done() && stored.ends < call.attempt {
            broken.push((Law::OneEnd, format!("calls although it is {:?}", stored.outcome)));
        }
        broken.extend(track.aimed_well(call, aim, stored, self.epoch, truth));
        let recent = track.calls.iter().filter(|call| call.epoch == self.epoch && call.at > now - 60_000);
        if recent.count() >= CALLS_A_MINUTE {
            broken.push((Law::Bounded, "end calls without end".to_owned()));
        }
        let claimed = stored.claimed.is_some() || stored.ends > 0;
        track.calls.push(Call { at: now, epoch: self.epoch, sent: None, answered: None, claimed });
        for (law, what) in broken {
            self.flag(law, now, format!("job {}: {what}", call.job.short()));
        }
        self.occurrence_calls(stored, now);
        self.rule_calls(stored, now);
    }

    pub fn end_answered(&mut self, site: usize, call: &EndCall, left: Ms, answer: &EndAnswer, now: Ms) {
        let load = self.loads.entry(site).or_default();
        load.ends = load.ends.saturating_sub(1);
        let Some(track) = self.tracks.get_mut(&call.job) else { return };
        if let Some(known) = track.calls.iter_mut().find(|known| known.at == left && known.sent.is_none()) {
            known.answered = Some(now);
            known.sent = Some(!matches!(answer, EndAnswer::Unreachable { sent: false, .. }));
        }
    }

    // What people are told.

    pub fn submitted(&mut self, slot: usize, receipt: &Receipt, keyed: bool, stored: Option<&Job>, now: Ms) {
        let id = receipt.job.id;
        if stored.is_none() {
            self.flag(Law::Durable, now, format!("job {}: acknowledged, and not on the disk", id.short()));
        }
        if keyed && *self.keys.entry(slot).or_insert(id) != id {
            self.flag(Law::LastWord, now, format!("job {}: a second job under one key", id.short()));
        }
        if let Some(track) = self.tracks.get_mut(&id) {
            track.told = track.told.max(receipt.job.revision);
        }
    }

    pub fn changed(&mut self, ask: Ask, receipt: &Receipt, stored: Option<&Job>, now: Ms) {
        let id = receipt.job.id;
        if stored.is_none_or(|stored| stored.revision < receipt.job.revision) {
            self.flag(
                Law::Durable,
                now,
                format!("job {}: {ask:?} acknowledged, and not on the disk", id.short()),
            );
        }
        let epoch = self.epoch;
        let Some(track) = self.tracks.get_mut(&id) else { return };
        track.told = track.told.max(receipt.job.revision);
        let gone_out =
            |call: &&Call| call.sent != Some(false) && (call.claimed || call.epoch == epoch) && call.at < now;
        let sent = track.calls.iter().find(gone_out).map(|call| call.at);
        if let (Some(sent), false) = (sent, ask == Ask::Cancel) {
            // The change was decided when it was asked for, before its write; no call leaves in between.
            self.flag(
                Law::LastWord,
                now,
                format!("job {}: {ask:?} succeeds, called at {sent} ms", id.short()),
            );
        }
    }

    pub fn refused(&mut self, ask: Ask, id: JobId, refusal: &Refusal, now: Ms) {
        let epoch = self.epoch;
        let Some(track) = self.tracks.get_mut(&id) else { return };
        let may_be = track.calls.iter().any(|call| call.sent != Some(false));
        // What a process from before knew, nobody can tell.
        let lost = track.job.calls.lost || refusal.detail.contains("before a restart") || epoch > 1;
        if refusal.detail.contains("was sent") && !may_be && !lost {
            track.refused.push((now, format!("job {}: {ask:?} refused: {refusal}", id.short())));
        }
    }

    /// A call that had been decided on may have waited a little for its claim.
    pub fn settle_refusals(&mut self) {
        let mut wrong = Vec::new();
        for track in self.tracks.values() {
            for (at, what) in &track.refused {
                let left = |call: &Call| call.at <= at + CLAIM_WAIT && call.sent != Some(false);
                if !track.calls.iter().any(left) {
                    wrong.push((*at, format!("{what}, and nothing was sent")));
                }
            }
        }
        wrong.into_iter().for_each(|(at, what)| self.flag(Law::LastWord, at, what));
    }

    /// After a crash: what somebody was told of is there.
    pub fn survived(&mut self, jobs: &BTreeMap<JobId, Job>, now: Ms) {
        let mut lost = Vec::new();
        for (id, track) in &self.tracks {
            let Some(job) = jobs.get(id) else {
                lost.push((Law::Durable, *id, "is gone".to_owned()));
                continue;
            };
            if job.revision < track.told {
                lost.push((
                    Law::Durable,
                    *id,
                    format!("went back from revision {} to {}", track.told, job.revision),
                ));
            }
            if track.job.is_done() && job.outcome != track.job.outcome {
                lost.push((Law::OneEnd, *id, format!("was {:?}, is {:?}", track.job.outcome, job.outcome)));
            }
        }
        for (law, id, what) in lost {
            self.flag(law, now, format!("job {} {what}", id.short()));
        }
    }
}

impl Track {
    /// Does this instance belong to the deadline, from what was seen alone?
    fn belongs(&self, id: &InstanceId, clock: &SimClock) -> bool {
        if let Some(only) = &self.job.only {
            return only == id;
        }
        let due = self.job.due;
        let seen = self.seen.iter().filter(|seen| seen.shown.as_ref().is_some_and(|(shown, _)| shown == id));
        seen.into_iter().any(|seen| {
            let before = clock.wall_or_old_wall(seen.received) < due || seen.received <= self.moved;
            let started = seen.shown.as_ref().and_then(|(_, started)| *started);
            // Whoever asks for the end at once means whoever is live then.
            let moment = self.job.pin_moment();
            let at_once = moment >= due && clock.wall_or_old_wall(seen.sent).0 <= moment.0 + 10_000;
            before || at_once || started.is_some_and(|at| at.0 + BELONGS <= due.0)
        })
    }

    /// The last usable look showed another instance than the pinned one.
    pub fn sees_another(&self) -> bool {
        let last = self.seen.iter().rev().find(|seen| seen.usable).and_then(|seen| seen.shown.as_ref());
        last.is_some_and(|(shown, _)| self.pins.last().is_some_and(|pin| pin != shown))
    }

    fn aimed_well(
        &self,
        call: &EndCall,
        aim: Aim,
        stored: &Job,
        epoch: u32,
        truth: Truth<'_>,
    ) -> Vec<(Law, String)> {
        let now = truth.clock.truth();
        let instance = &call.pin.instance;
        let mut broken = Vec::new();
        let mut wrong = |what: String| broken.push((Law::RightInstance, what));
        if truth.world.life(&call.meeting, instance).is_none() {
            wrong(format!("calls at {instance}, which never was in {}", call.meeting));
        }
        let may_guard = !stored.limits.keep_closed.is_zero() && stored.only.is_none();
        if !may_guard && !self.belongs(instance, truth.clock) {
            wrong(format!("calls at {instance}, which does not belong"));
        }
        if aim == Aim::Instance {
            return broken;
        }
        let last = self.seen.iter().rev().find(|seen| seen.usable);
        let Some(last) = last.filter(|seen| seen.shown.as_ref().is_some_and(|(shown, _)| shown == instance))
        else {
            wrong(format!("calls at the meeting though the last look did not show {instance}"));
            return broken;
        };
        let first = !self.calls.iter().any(|call| call.epoch == epoch && call.sent != Some(false));
        let armed = first && truth.clock.wall_or_old_wall(last.received) < stored.due;
        let good_for = CLAIM_WAIT + if armed { ARM_GOOD } else { LOOK_FRESH };
        if now - last.received > good_for {
            wrong(format!("calls at the meeting {} ms after the look", now - last.received));
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

    /// May it be said, at this time, that the meeting is over?
    fn claims(&self, outcome: Outcome, at: Ms, restarted: Ms, truth: Truth<'_>) -> Vec<(Law, String)> {
        let mut broken = Vec::new();
        if !outcome.claims_gone() {
            return broken;
        }
        let mut wrong = |what: String| broken.push((Law::NoFalseEnded, what));
        for pin in &self.pins {
            let life = truth.world.life(&self.job.meeting, pin);
            if life.is_some_and(|life| life.alive_at(at) && !life.is_forgiven(self.job.id, restarted)) {
                wrong(format!("is called {outcome}, and {pin} is alive"));
            }
        }
        let Some((one_before, last)) = self.proof(at, restarted) else {
            wrong(format!("is called {outcome} without two sightings of its absence, two seconds apart"));
            return broken;
        };
        for life in truth.world.lives(&self.job.meeting) {
            let shown = life.started <= one_before.answered && life.shown_at(last.answered);
            let told = last.shown.as_ref().and_then(|(_, started)| *started);
            let ours = match &self.job.only {
                Some(only) => *only == life.id,
                None => {
                    let moment = self.job.pin_moment();
                    outcome == Outcome::Absent || told.is_some_and(|at| at.0 + BELONGS <= moment.0)
                }
            };
            if shown && ours {
                wrong(format!("is called {outcome}, and {} of the same meeting is alive", life.id));
            }
        }
        broken
    }
}
