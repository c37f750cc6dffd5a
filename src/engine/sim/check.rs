//! The judge of a history: holds what the engine does, and what it says, against the truth.
//!
//! It believes nothing that the job says of itself where the world can tell: the calls that left, the answers that came
//! back, what is on the disk. The numbers are those of the invariants; what comes after them is about standing entries.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use super::clock::{Ms, SimClock};
use super::laws::rules::Sweeps;
use super::laws::standing::Keeper;
use super::laws::told::Told;
use super::plan::Ask;
use super::rounds::precedes_end;
use super::world::World;
use crate::engine::api::{Receipt, Refusal};
use crate::job::{
    Aim, EndAnswer, Entry, Fact, InstanceId, Job, JobId, Outcome, Purpose, Run, Sighting, StartRange, State,
};
use crate::platform::{EndCall, Target};

/// A call that was decided on may wait for its claim.
const CLAIM_WAIT: Ms = 250;
/// The look that decides whose instance it is is asked so long after the pin moment at most.
const PIN_WINDOW: Duration = Duration::from_secs(10);
/// Rounds of looks start at least so far apart, by urgency, and so many may be on their way.
const ROUND_GAPS: [Ms; 2] = [400, 200];
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
    /// Whoever answers about a meeting in time gets its end call in time.
    CalledInTime = 16,
    /// A call at a meeting follows a look of its own, in time.
    SeenFirst = 17,
    /// A call follows its claim.
    ClaimedFirst = 18,
    /// The next class goes on.
    NextClass = 19,
    /// What is called over is over.
    TrulyGone = 20,
    /// What is left alone is told.
    LeftAlone = 21,
}

#[derive(Clone, Debug)]
pub struct Violation {
    pub law: Law,
    pub at: Ms,
    pub what: String,
}

/// One answer about a job's meeting.
pub struct Seen {
    pub shown: Option<(InstanceId, Option<StartRange>)>,
    pub people: Option<u32>,
    pub usable: bool,
    /// Asked for the sake of an end call.
    pub before_end: bool,
    pub sent: Ms,
    pub answered: Ms,
    pub received: Ms,
}

/// One end call that left.
pub struct Call {
    pub at: Ms,
    epoch: u32,
    /// Absent while it is on its way.
    pub sent: Option<bool>,
    pub answered: Option<Ms>,
    claimed: bool,
}

/// What is known of one job.
pub struct Track {
    /// The fold of its facts, as far as they are durable.
    pub job: Job,
    pub pins: Vec<InstanceId>,
    pub seen: Vec<Seen>,
    pub calls: Vec<Call>,
    looks: VecDeque<Ms>,
    /// The revision that somebody was told of.
    told: u64,
    /// When its due time, or whether it counts, was last changed.
    pub moved: Ms,
    /// When somebody last had it changed.
    pub changed: Ms,
    pub submitted: Ms,
    /// Changes that were refused because a call had been sent, and where none had been seen.
    refused: Vec<(Ms, String)>,
}

#[derive(Default)]
struct Load {
    /// By urgency: those that an end call waits for come second.
    rounds: [Rounds; 2],
    ends: usize,
}

#[derive(Default)]
struct Rounds {
    last: Option<Ms>,
    under_way: u32,
}

#[derive(Default)]
pub struct Checker {
    pub violations: Vec<Violation>,
    pub tracks: BTreeMap<JobId, Track>,
    keys: BTreeMap<usize, JobId>,
    loads: BTreeMap<usize, Load>,
    epoch: u32,
    pub restarted: Ms,
    /// When no process was there: what was planned for a time may come much later.
    pub aways: Vec<(Ms, Ms)>,
    pub keeper: Keeper,
    pub sweeps: Sweeps,
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
        let set = self.keeper.clock_is_set;
        let at = truth.clock.truth_of_boot(entry.at.boot);
        let Some(track) = self.tracks.get_mut(&id) else { return };
        let (state, revision, was_done) = (track.job.state, track.job.revision, track.job.is_done());
        let before = Job { history: Default::default(), ..track.job.clone() };
        track.job.record(entry.at, entry.fact.clone());
        if before.pin.is_some() && track.job.pin.is_none() {
            // A new pin moment: whose instance it is is decided anew.
            track.pins.clear();
        }
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
            Fact::EndSent { instance, .. }
                if !keeps_closed(&before) && !track.belongs(instance, truth.clock) =>
            {
                broken.push((Law::RightInstance, format!("calls at {instance}, which is not its own")));
            }
            Fact::Guarding { outcome, reason } => {
                broken.extend(track.claims(*outcome, reason, (at, self.restarted), truth));
            }
            Fact::Concluded { outcome, reason } => {
                if was_done {
                    broken.push((Law::OneEnd, format!("a second outcome, {outcome}")));
                }
                if before.guard.is_none() {
                    broken.extend(track.claims(*outcome, reason, (at, self.restarted), truth));
                }
                let hasty = self.epoch > 1 && is_hasty(*outcome, reason, at - self.restarted);
                if hasty && track.submitted < self.restarted {
                    let after = at - self.restarted;
                    broken.push((Law::ComesBack, format!("{after} ms after a restart: {reason}")));
                }
                broken.extend(track.left_alone(*outcome, reason, (at, self.restarted), set, truth));
                *self.outcomes.entry(*outcome).or_default() += 1;
            }
            _ => {}
        }
        broken.into_iter().for_each(|(law, what)| self.flag(law, at, format!("job {}: {what}", id.short())));
        self.occurrence_changed(id, &entry.fact, truth);
    }

    // What leaves, and what comes back.

    pub fn look_leaves(&mut self, site: usize, targets: &[Target], now: Ms) {
        if !in_its_turn(targets) {
            let urgency = urgency(targets);
            let rounds = &mut self.loads.entry(site).or_default().rounds[urgency];
            rounds.under_way += 1;
            let too_soon = rounds.last.replace(now).is_some_and(|last| now - last < ROUND_GAPS[urgency]);
            let too_many = rounds.under_way > ROUNDS_AT_ONCE;
            if too_soon || too_many {
                self.flag(Law::Bounded, now, format!("server {site}: too many rounds of looks"));
            }
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
        if in_its_turn(targets) {
            return;
        }
        let rounds = &mut self.loads.entry(site).or_default().rounds[urgency(targets)];
        rounds.under_way = rounds.under_way.saturating_sub(1);
    }

    /// `times`: when the question left, when the server saw it, when its answer was there.
    pub fn looked(&mut self, target: &Target, sighting: &Sighting, times: (Ms, Ms, Ms)) {
        let (sent, answered, received) = times;
        let Some(track) = self.tracks.get_mut(&target.job) else { return };
        let (shown, people, usable) = match sighting {
            Sighting::Live(seen) => (Some((seen.id.clone(), seen.start)), seen.participants, true),
            Sighting::NotThere(_) => (None, None, true),
            _ => (None, None, false),
        };
        let before_end = precedes_end(target.purpose);
        track.seen.push(Seen { shown, people, usable, before_end, sent, answered, received });
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
        broken.extend(track.aimed_well(call, aim, stored, truth));
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
            let start = seen.shown.as_ref().and_then(|(_, start)| *start);
            let moment = self.job.pin_moment();
            let decides = clock.wall_or_old_wall(seen.sent) <= moment + PIN_WINDOW;
            before || decides || start.is_some_and(|start| start.precedes(moment))
        })
    }

    /// The last usable look showed another instance than the pinned one.
    pub fn sees_another(&self) -> bool {
        let last = self.seen.iter().rev().find(|seen| seen.usable).and_then(|seen| seen.shown.as_ref());
        last.is_some_and(|(shown, _)| self.pins.last().is_some_and(|pin| pin != shown))
    }

    fn aimed_well(&self, call: &EndCall, aim: Aim, stored: &Job, truth: Truth<'_>) -> Vec<(Law, String)> {
        let now = truth.clock.truth();
        let instance = &call.pin.instance;
        let mut broken = Vec::new();
        let mut wrong = |what: String| broken.push((Law::RightInstance, what));
        if truth.world.life(&call.meeting, instance).is_none() {
            wrong(format!("calls at {instance}, which never was in {}", call.meeting));
        }
        if !keeps_closed(stored) && !self.belongs(instance, truth.clock) {
            wrong(format!("calls at {instance}, which does not belong"));
        }
        if aim == Aim::Meeting
            && let Err(what) = self.seen_first(instance, now)
        {
            broken.push((Law::SeenFirst, what));
        }
        broken
    }
}

/// Whatever is live after due is this deadline's.
pub fn keeps_closed(job: &Job) -> bool {
    !job.limits.keep_closed.is_zero() && job.only.is_none()
}

/// A last look is asked in the turn of its end call, not in a round.
fn in_its_turn(targets: &[Target]) -> bool {
    targets.iter().all(|target| target.purpose == Purpose::Last)
}

fn urgency(targets: &[Target]) -> usize {
    usize::from(targets.iter().any(|target| precedes_end(target.purpose)))
}

/// Is it called unprovable before a new process has tried for a while?
fn is_hasty(outcome: Outcome, reason: &str, after_restart: Ms) -> bool {
    outcome == Outcome::Unconfirmed && reason.contains("within") && after_restart < TRIES_AFTER_RESTART
}
