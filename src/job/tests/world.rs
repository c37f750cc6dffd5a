//! A random world around one job: delivers whatever is outstanding in any order, loses the process and the latest
//! writes, sets clocks, and holds every step against the laws.

use std::collections::BTreeSet;

use super::super::*;
use super::laws::{Happening, Laws};
use super::sim::{START, peer, site};

/// More ticks than this at one instant are a busy loop.
const TICKS_AT_ONCE: u32 = 5;

/// A state of the job that a crash may bring back, and how much had been recorded by then.
struct Save {
    job: Job,
    facts: usize,
    happened: usize,
}

pub struct World {
    pub job: Job,
    pub now: Now,
    /// What end calls name at this server.
    pub aim: Aim,
    /// The look under way, and when it was sent.
    pub asked: Option<(Purpose, Now)>,
    pub queued: u32,
    pub in_flight: Vec<u32>,
    warning_queued: bool,
    /// The warning under way.
    warning: Option<Mark>,
    /// Every end call that ever left, and when.
    pub called: Vec<(Now, u32)>,
    pub laws: Laws,
    /// Every change of state that the facts made.
    pub edges: BTreeSet<(State, State)>,
    order: Order,
    facts: Vec<Entry>,
    folded: Job,
    saves: Vec<Save>,
}

impl World {
    pub fn new(order: Order, aim: Aim) -> World {
        let job = Job::submit(order.clone(), START);
        let mut world = World {
            folded: job.clone(),
            facts: job.history.recent.clone(),
            saves: vec![Save { job: job.clone(), facts: 1, happened: 0 }],
            job,
            order,
            now: START,
            aim,
            asked: None,
            queued: 0,
            in_flight: Vec::new(),
            warning_queued: false,
            warning: None,
            called: Vec::new(),
            laws: Laws::of(aim),
            edges: BTreeSet::new(),
        };
        world.event(Event::Tick);
        world
    }

    // Time.

    /// Time passes, and the job is stepped whenever it wants to be.
    pub fn pass(&mut self, mut left: i64) {
        let mut ticks = 0;
        while let Some(wait) = self.to_wake().filter(|wait| *wait <= left) {
            ticks = if wait == 0 { ticks + 1 } else { 1 };
            assert!(ticks <= TICKS_AT_ONCE, "a busy loop: {:?} of {:#?}", self.job.wake(self.now), self.job);
            left -= wait;
            self.stall(wait);
            self.event(Event::Tick);
        }
        self.stall(left);
    }

    pub fn stall(&mut self, ms: i64) {
        self.now.wall.0 += ms;
        self.now.boot.0 += ms;
    }

    pub fn step_clock(&mut self, ms: i64) {
        self.now.wall.0 += ms;
        self.event(Event::Tick);
    }

    pub fn to_wake(&self) -> Option<i64> {
        let wake = self.job.wake(self.now);
        let wall = wake.wall.map(|at| at.ms_since(self.now.wall));
        let boot = wake.boot.map(|at| at.0 - self.now.boot.0);
        [wall, boot].into_iter().flatten().min().map(|wait| wait.max(0))
    }

    // What happens.

    pub fn look_says(&mut self, verdict: Verdict, handled_after_ms: i64) {
        let Some((purpose, sent)) = self.asked.take() else { return };
        let waited = handled_after_ms.min(self.now.boot.0 - sent.boot.0).max(0);
        let received = Now { wall: UtcMs(self.now.wall.0 - waited), boot: BootMs(self.now.boot.0 - waited) };
        let knows = Box::new(Knowledge { site: site(self.aim), called_by: None });
        self.event(Event::Looked { purpose, sent, received, verdict, knows });
    }

    pub fn slot(&mut self) {
        if self.queued > 0 {
            self.queued -= 1;
            self.event(Event::Slot { site: site(self.aim), carrier: None });
        }
    }

    pub fn end_says(&mut self, answer: EndAnswer) {
        if !self.in_flight.is_empty() {
            let attempt = self.in_flight.remove(0);
            self.laws.answered(&answer);
            self.event(Event::Answered { attempt, answer });
        }
    }

    pub fn warning_slot(&mut self) {
        if std::mem::take(&mut self.warning_queued) {
            self.event(Event::WarningSlot);
        }
    }

    pub fn warning_says(&mut self, result: Warned) {
        if let Some(mark) = self.warning.take() {
            self.laws.warned(mark, &result);
            self.event(Event::Warned { mark, result });
        }
    }

    pub fn change(&mut self, change: &Change) {
        let result = self.job.change(change, peer(), self.now);
        self.laws.check_change(&self.job, change, self.now, &result);
        let Ok(changed) = result else { return };
        let before = std::mem::replace(&mut self.job, changed);
        self.record(&before, None);
        // A change is durable before it is acknowledged.
        self.forget_saves_before_last();
        self.event(Event::Tick);
    }

    /// The process dies with all requests; the latest writes that nobody waited for may be lost with it.
    pub fn crash(&mut self, lost_writes: usize, away_ms: i64, reboot: bool) {
        self.stall(away_ms);
        let kept = self.saves.len().saturating_sub(lost_writes).max(1);
        self.saves.truncate(kept);
        let save = self.saves.last().expect("at least one is kept");
        let restored = round_trip(&save.job);
        self.facts.truncate(save.facts);
        self.laws.crash(save.happened, &self.in_flight, self.warning.take());
        if restored.claimed.is_some() && self.laws.calls > 0 {
            // Out of bounds: a clock that is set back behind due between a call and the crash.
            self.now.wall = self.now.wall.max(restored.due);
        }
        if reboot {
            self.now.boot = BootMs(30_000);
        }
        self.job = restored;
        self.folded = Job::submit(self.order.clone(), START);
        for entry in &self.facts[1..] {
            self.folded.record(entry.at, entry.fact.clone());
        }
        assert_eq!(self.folded, self.job, "the history replays after a crash");
        (self.asked, self.queued, self.warning_queued) = (None, 0, false);
        self.in_flight.clear();
        self.event(Event::Loaded);
    }

    fn event(&mut self, event: Event) {
        let (job, effects) = step(self.job.clone(), event.clone(), self.now);
        let before = std::mem::replace(&mut self.job, job);
        self.laws.happened(&before, &event);
        self.record(&before, Some(&event));
        for effect in effects {
            self.laws.check_effect(&before, &self.job, &effect, self.now);
            match effect {
                Effect::Look(purpose) => {
                    assert!(self.asked.is_none(), "one look at a time");
                    self.asked = Some((purpose, self.now));
                }
                Effect::EndAgain => {}
                Effect::QueueEnd { .. } => self.queued += 1,
                Effect::LookInTurn => {
                    assert!(self.asked.is_none(), "one look at a time");
                    self.asked = Some((Purpose::Last, self.now));
                }
                Effect::Call { attempt, .. } => {
                    self.in_flight.push(attempt);
                    self.called.push((self.now, attempt));
                }
                Effect::QueueWarning => {
                    assert!(!self.warning_queued && self.warning.is_none(), "one warning at a time");
                    self.warning_queued = true;
                }
                Effect::Warn(mark) => self.warning = Some(mark),
            }
        }
    }

    /// Takes the new facts down, folds them, and keeps what a crash could bring back.
    fn record(&mut self, before: &Job, event: Option<&Event>) {
        let grown = self.job.history.total() - before.history.total();
        let recent = &self.job.history.recent;
        let new = recent[recent.len() - grown..].to_vec();
        for entry in &new {
            let from = self.folded.state;
            if matches!(entry.fact, Fact::Moved { to, .. } if to != self.folded.due) {
                self.laws.new_due();
            }
            self.folded.record(entry.at, entry.fact.clone());
            if from != self.folded.state {
                self.edges.insert((from, self.folded.state));
            }
            self.laws.check_fact(before, event, entry);
            self.laws.noted(entry);
        }
        self.facts.extend_from_slice(&new);
        let durable = Job { run: Run::default(), ..self.job.clone() };
        assert_eq!(self.folded, durable, "folding the history gives the job");
        if grown > 0 {
            self.saves.push(Save { job: durable, facts: self.facts.len(), happened: self.laws.so_far() });
        }
        if new.iter().any(|entry| matches!(entry.fact, Fact::Claimed | Fact::WarningClaimed(_))) {
            // A call, and a warning, waits for its claim to be durable.
            self.forget_saves_before_last();
        }
    }

    fn forget_saves_before_last(&mut self) {
        self.saves.drain(..self.saves.len() - 1);
    }

    /// Between events: a job that waits for nothing has a wake-up, not too far off, and its record survives JSON.
    pub fn check_rest(&self) {
        let durable = Job { run: Run::default(), ..self.job.clone() };
        assert_eq!(round_trip(&self.job), durable);
        let waits_for_us = self.asked.is_some() || self.queued > 0 || !self.in_flight.is_empty();
        if waits_for_us || matches!(self.job.state, State::Held | State::Done) {
            return;
        }
        let wait = self.to_wake().unwrap_or_else(|| panic!("no wake-up: {:#?}", self.job));
        let bound = self.job.due.ms_since(self.now.wall).max(0) + 301_000;
        assert!(wait <= bound, "wakes in {wait} ms only: {:#?}", self.job);
    }

    /// Would everybody agree that this instance is the job's to end?
    pub fn is_ours(&self, instance: &Instance) -> bool {
        match (&self.job.only, &self.job.pin) {
            (Some(only), _) => *only == instance.id,
            (None, Some(pin)) if pin.instance == instance.id => true,
            _ => self.laws.belongs_beyond_doubt(&self.job, instance),
        }
    }

    /// Everything that was recorded but what tells of warnings.
    pub fn facts_of_the_end(&self) -> Vec<&Entry> {
        let warning = |fact: &Fact| {
            matches!(fact, Fact::WarningClaimed(_) | Fact::WarningDue { .. } | Fact::WarningPutOff { .. })
        };
        self.facts.iter().filter(|entry| !warning(&entry.fact)).collect()
    }

    pub fn happened(&self) -> &[Happening] {
        &self.laws.happened
    }
}

fn round_trip(job: &Job) -> Job {
    let record = serde_json::to_string(job).expect("a job is JSON");
    serde_json::from_str(&record).expect("and back")
}
