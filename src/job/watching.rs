//! Weighing verdicts against the pin: whose instance is it, is it gone, and what is the outcome?

use std::time::Duration;

use super::step::{ARM_RETRY, Draft, Fresh, GUARD_EVERY, Last};
use super::{CalledOff, Expect, Fact, Instance, InstanceId, Job, Now, Outcome, Pin, Purpose, State, Verdict};

/// An instance first seen after due must have started at least this long before due to be ours.
pub const BELONGS_BEFORE_DUE: Duration = Duration::from_secs(2);

impl Draft {
    pub fn looked(&mut self, purpose: Purpose, sent: Now, received: Now, mut verdict: Verdict) {
        if self.job.state == State::Waiting && self.now.wall >= self.job.due {
            // Due has come since the last tick. The answer is weighed as what it is: one that came after due.
            self.reach_due();
        }
        self.job.run.looking = None;
        let wanted = match self.job.state {
            State::Held => false,
            State::Done => self.job.after_look && purpose == Purpose::After,
            _ => true,
        };
        if !wanted {
            return;
        }
        self.took = received.since(sent);
        self.shown_at = shown_at(&mut verdict);
        let took_ms = u64::try_from(self.took.as_millis()).unwrap_or(u64::MAX);
        self.note(Fact::Looked { purpose, took_ms, verdict: verdict.clone() });
        self.heard(&verdict);
        match self.job.state {
            State::Waiting => self.armed(verdict, received),
            State::Ending | State::Confirming => self.weigh(verdict, sent, received),
            State::Guarding => self.guarded(verdict, received),
            State::Done => self.last_look(verdict, received),
            State::Held => {}
        }
    }

    /// Keeps count of failures and of the configuration alarm.
    fn heard(&mut self, verdict: &Verdict) {
        match verdict {
            Verdict::Unreachable { .. } => self.job.run.misses += 1,
            Verdict::Misconfigured { .. } => {}
            _ => {
                self.job.run.misses = 0;
                if self.job.alarm.is_some() {
                    self.note(Fact::AlarmOver);
                }
            }
        }
    }

    /// A sighting before due: everything alive now is ours.
    fn armed(&mut self, verdict: Verdict, received: Now) {
        match verdict {
            Verdict::Live(seen) if self.job.belongs(&seen, received) => {
                if self.too_many(&seen) {
                    return;
                }
                self.pin(seen, received);
                self.job.run.next = None;
            }
            Verdict::Replaced { by, counts } if self.job.belongs(&by, received) => {
                let before = self.job.pin.as_ref().map(|pin| pin.instance.clone());
                self.pin(by, received);
                if let (false, Some(instance)) = (counts, before) {
                    self.note(Fact::Unproven { instance });
                }
                self.job.run.next = None;
            }
            Verdict::Misconfigured { why } => self.alarm(why),
            Verdict::Unreachable { .. } | Verdict::Doubtful { .. } | Verdict::Occupied => {
                self.job.run.next = Some(self.now.boot + ARM_RETRY);
            }
            // Not there (yet), or not the one that was asked for: the look at due will tell.
            Verdict::Live(_)
            | Verdict::Replaced { .. }
            | Verdict::Gone { .. }
            | Verdict::Vanished { .. }
            | Verdict::Hopeless { .. } => {
                self.job.run.fresh = None;
                self.job.run.next = Some(self.now.boot + self.job.to_due(self.now));
            }
        }
        self.waiting();
    }

    /// A sighting while ending or confirming.
    fn weigh(&mut self, verdict: Verdict, sent: Now, received: Now) {
        self.job.run.counted = false;
        match verdict {
            Verdict::Live(seen) => self.alive(seen, received),
            Verdict::Replaced { by, counts } => self.replaced(by, counts, sent, received),
            Verdict::Gone { needed } => {
                self.job.run.last = Last::Gone;
                if self.counts_as_proof(needed, sent, received) {
                    return self.proven_gone();
                }
                self.plan_look();
            }
            Verdict::Occupied => {
                self.job.run.tally = Default::default();
                self.unsure(
                    "somebody is in the meeting, but the server does not say in which instance".into(),
                );
            }
            Verdict::Doubtful { why } | Verdict::Unreachable { why } => self.unsure(why),
            Verdict::Hopeless { why } | Verdict::Vanished { why, .. } => {
                return self.conclude(Outcome::Unconfirmed, why);
            }
            Verdict::Misconfigured { why } => {
                self.job.run.last = Last::Unsure(why.clone());
                self.alarm(why);
            }
        }
        self.limits();
    }

    fn unsure(&mut self, why: String) {
        self.job.run.last = Last::Unsure(why);
        self.plan_look();
    }

    fn alive(&mut self, seen: Instance, received: Now) {
        self.job.run.tally = Default::default();
        if self.too_many(&seen) {
            return;
        }
        if self.job.is_pinned(&seen.id) {
            self.pin(seen, received);
        } else if self.job.pin.is_some() {
            // A platform that cannot say `Replaced`: the pinned one was not shown, so nothing is proven about it.
            return self.replaced(seen, false, received, received);
        } else if self.job.belongs(&seen, received) {
            self.pin(seen, received);
        } else {
            let reason = superseded(&self.job, &seen);
            return self.conclude(Outcome::Superseded, reason);
        }
        self.job.run.last = Last::Alive;
        match self.job.state {
            State::Confirming if self.job.resend_at().is_some_and(|at| self.now.boot >= at) => {
                self.note(Fact::StillThere);
                self.attempt();
            }
            State::Ending if self.may_call() => self.attempt(),
            _ => self.plan_look(),
        }
    }

    /// Are more people inside than the rule that made the job allows for? Then it is called off, unless it is too late for
    /// that. Where nobody says how many there are, the rule stands.
    fn too_many(&mut self, seen: &Instance) -> bool {
        let (Some(most), Some(people)) = (self.job.at_most, seen.participants) else { return false };
        let ours = self.job.is_pinned(&seen.id) || self.job.only.as_ref() == Some(&seen.id);
        if people <= most || !ours || !self.job.unsent() || self.job.run.calling.is_some() {
            return false;
        }
        let inside = if people == 1 { "1 person is".to_owned() } else { format!("{people} people are") };
        let rule =
            self.job.origin.rule().map_or_else(|| "the limit".to_owned(), |name| format!("rule {name}"));
        self.note(Fact::CalledOff { cause: CalledOff::TooMany });
        self.conclude(Outcome::Cancelled, format!("{inside} inside: {rule} does not apply any more"));
        true
    }

    /// Another instance than ours is alive.
    fn replaced(&mut self, by: Instance, counts: bool, sent: Now, received: Now) {
        if self.job.pin.is_none() {
            // Only a job with an explicit instance asks for one that it has not seen.
            let reason = superseded(&self.job, &by);
            return self.conclude(Outcome::Superseded, reason);
        }
        self.job.run.last = Last::Unsure(format!("another instance ({}) is alive in the meeting", by.id));
        if !(counts && self.counts_as_proof(2, sent, received)) {
            return self.plan_look();
        }
        if self.job.belongs(&by, received) {
            self.pin(by, received);
            self.job.run.last = Last::Alive;
            if self.job.state == State::Confirming {
                self.note(Fact::StillThere);
            }
            return self.attempt();
        }
        self.proven_gone();
        self.reopened(by, received);
    }

    /// Does this sighting complete the proof? Only what was asked after due, and after the last end call was answered.
    fn counts_as_proof(&mut self, needed: u8, sent: Now, received: Now) -> bool {
        // A call that never left was answered, and the job may have been put off since.
        let after =
            [self.job.calls.last_answered, self.job.began].into_iter().flatten().map(|at| at.boot).max();
        let in_time = after.is_none_or(|after| sent.boot >= after) && self.job.run.calling.is_none();
        self.job.run.counted = in_time;
        in_time && self.job.run.tally.gone(sent.boot, received.boot, needed)
    }

    fn proven_gone(&mut self) {
        if let Some(left) = &self.job.unproven {
            let why =
                format!("instance {left}, which another one replaced before due, was never proven gone");
            return self.conclude(Outcome::Unconfirmed, why);
        }
        let (outcome, reason) = self.job.gone_outcome();
        if outcome == Outcome::Absent && self.job.limits.expect == Expect::Live {
            self.note(Fact::ExpectedLive);
        }
        let guards = !self.job.limits.keep_closed.is_zero() && self.job.only.is_none();
        if guards {
            self.note(Fact::Guarding { outcome, reason });
            self.job.run = self.job.run.start_over();
            self.job.run.next = Some(self.now.boot + GUARD_EVERY);
        } else {
            self.conclude(outcome, reason);
        }
    }

    fn guarded(&mut self, verdict: Verdict, received: Now) {
        self.job.run.next = Some(self.now.boot + GUARD_EVERY);
        match verdict {
            Verdict::Live(seen) | Verdict::Replaced { by: seen, .. } => self.reopened(seen, received),
            Verdict::Misconfigured { why } => self.alarm(why),
            _ => {}
        }
    }

    fn last_look(&mut self, verdict: Verdict, received: Now) {
        if let Verdict::Live(seen) | Verdict::Replaced { by: seen, .. } = verdict {
            self.reopened(seen, received);
        }
    }

    /// The meeting was opened again: worth saying, and under guard worth ending.
    fn reopened(&mut self, seen: Instance, received: Now) {
        self.note(Fact::Reopened { instance: seen.id.clone() });
        if self.job.state == State::Ending {
            self.pin(seen, received);
            self.job.run.last = Last::Alive;
            self.attempt();
        }
    }

    /// Pins the instance (if it is not pinned already) and takes this look as a fresh one.
    fn pin(&mut self, seen: Instance, received: Now) {
        if !self.job.is_pinned(&seen.id) {
            let Instance { id, started_at, listed, node, .. } = seen.clone();
            let last_live = received.before(self.took);
            let pin = Pin { instance: id, started_at, listed, node, site: None, last_live };
            self.note(Fact::Pinned { pin });
            self.job.run.tally = Default::default();
            self.job.run.refusals = 0;
            self.job.run.retry_at = None;
        }
        let armed = received.wall < self.job.due;
        let shown = self.shown_at.map_or(received.boot, |at| at.boot.min(received.boot));
        self.job.run.fresh = Some(Fresh { instance: seen.id, received: shown, armed });
    }
}

/// Taken out: it is about this look alone, and no part of the record.
fn shown_at(verdict: &mut Verdict) -> Option<Now> {
    match verdict {
        Verdict::Live(instance) | Verdict::Replaced { by: instance, .. } => instance.shown_at.take(),
        _ => None,
    }
}

impl Job {
    pub(super) fn is_pinned(&self, id: &InstanceId) -> bool {
        self.pin.as_ref().is_some_and(|pin| pin.instance == *id)
    }

    /// Which instances belong to a deadline: all that started before due. Seen alive before due on our clock: ours,
    /// whatever its timestamps say. Otherwise its start must precede due by 2 s. Under guard everything is ours. An explicit
    /// `--instance` job takes that one, which must have been running to be named, and no other.
    pub(super) fn belongs(&self, seen: &Instance, received: Now) -> bool {
        if let Some(only) = &self.only {
            return *only == seen.id;
        }
        let started_before = seen.started_at.is_some_and(|at| at <= self.due - BELONGS_BEFORE_DUE);
        self.guard.is_some() || received.wall < self.due || started_before
    }

    fn to_due(&self, now: Now) -> Duration {
        Duration::from_millis(u64::try_from(self.due.ms_since(now.wall)).unwrap_or(0))
    }

    /// The outcome of a job whose meeting is proven gone.
    fn gone_outcome(&self) -> (Outcome, String) {
        let instance = self.pin.as_ref().map_or("", |pin| pin.instance.as_str());
        if !self.seen_alive {
            (Outcome::Absent, "never seen alive, and proven not there at the deadline".to_owned())
        } else if self.accepted_at.is_some() {
            (Outcome::Ended, format!("an end call was accepted, and instance {instance} is proven gone"))
        } else if self.ended_by_us {
            (
                Outcome::Ended,
                format!("instance {instance} is proven gone; the answer to an end call was lost"),
            )
        } else {
            (
                Outcome::AlreadyOver,
                format!("instance {instance} was over without a call of ours that could have done it"),
            )
        }
    }
}

fn superseded(job: &Job, seen: &Instance) -> String {
    match (&job.only, seen.started_at) {
        (Some(only), _) => format!("only instance {} is alive, not {only}: left alone", seen.id),
        (None, Some(at)) => format!(
            "the live instance {} started at {at}, too late to belong to this deadline: left alone",
            seen.id
        ),
        (None, None) => format!(
            "the live instance {} was not seen before due and does not say when it started: left alone",
            seen.id
        ),
    }
}
