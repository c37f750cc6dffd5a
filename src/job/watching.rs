//! Weighing verdicts against the pin: whose instance is it, is it gone, and what is the outcome?

use std::time::Duration;

use super::pinning::Asked;
use super::step::{ARM_RETRY, Draft, Effect, Fresh, GUARD_EVERY, Hopeless, Last};
use super::{
    BootMs, CalledOff, Expect, Fact, Instance, InstanceId, Job, Now, Origin, Outcome, Pin, Purpose,
    SIGHTING_GAP, State, Verdict,
};

/// That nothing can be proven is concluded only after it has been so, in good listings, for so long.
pub const HOPELESS_FOR: Duration = Duration::from_secs(60);
/// Looks in a row that let no call go, until that is said.
pub const UNCALLABLE_LOOKS: u32 = 3;
/// An instance that was seen so long before a call at the meeting may have been hit by it.
const HIT_WITHIN: Duration = Duration::from_secs(60);
/// Other instances of the meeting that are kept in mind.
const BESIDE: usize = 8;

impl Draft {
    pub fn looked(&mut self, purpose: Purpose, sent: Now, received: Now, mut verdict: Verdict) {
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
        (self.asked_at, self.shown_at) = asked_and_shown_at(&mut verdict);
        let look = Asked { sent, received };
        let took_ms = u64::try_from(self.took.as_millis()).unwrap_or(u64::MAX);
        self.note(Fact::Looked { purpose, took_ms, verdict: verdict.clone() });
        self.heard(&verdict);
        match self.job.state {
            // What was answered before due is taken in before due is noticed, so that no good arm is thrown away.
            State::Waiting if received.wall < self.job.due => self.armed(verdict, look, purpose),
            State::Waiting => {
                self.reach_due();
                if matches!(self.job.state, State::Ending) {
                    // Due asked for a look, and this is its answer.
                    self.job.run.looking = None;
                    self.effects.retain(|effect| !matches!(effect, Effect::Look(_)));
                    self.weigh(verdict, look, purpose);
                }
            }
            State::Ending | State::Confirming => self.weigh(verdict, look, purpose),
            State::Guarding => self.guarded(verdict, look),
            State::Done => self.after_look(&verdict),
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

    /// A sighting before due. What is pinned stays pinned, unless another one that belongs has taken its place.
    fn armed(&mut self, verdict: Verdict, look: Asked, purpose: Purpose) {
        self.job.run.last = Last::Nothing;
        match verdict {
            Verdict::Live(seen) if self.job.is_pinned(&seen.id) || self.job.belongs(&seen, look) => {
                if self.too_many(&seen) {
                    return;
                }
                let before = self.job.pin.as_ref().map(|pin| pin.instance.clone());
                let moves = before.filter(|instance| *instance != seen.id);
                self.pin(seen, look, purpose);
                if let Some(instance) = moves {
                    self.note(Fact::Unproven { instance });
                }
                self.job.run.last = Last::Alive;
                self.job.run.next = None;
            }
            Verdict::Replaced { by, counts } if self.job.belongs(&by, look) => {
                let before = self.job.pin.as_ref().map(|pin| pin.instance.clone());
                self.pin(by, look, purpose);
                if let (false, Some(instance)) = (counts, before) {
                    self.note(Fact::Unproven { instance });
                }
                self.job.run.last = Last::Alive;
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
                self.decide_the_pin(look);
                self.job.run.fresh = None;
                self.job.run.next = Some(self.now.boot + self.pause_before_due());
            }
        }
        self.waiting();
    }

    /// After a good look that found nobody: until the next one that is planned before due, or the one at due.
    fn pause_before_due(&self) -> Duration {
        let job = &self.job;
        let pin_look = job.awaits_pin().then(|| job.pin_look_at());
        let planned = [pin_look, Some(job.arm_at())].into_iter().flatten().filter(|at| *at > self.now.wall);
        let next = planned.min().unwrap_or(job.due);
        Duration::from_millis(u64::try_from(next.ms_since(self.now.wall)).unwrap_or(0))
    }

    /// A sighting while ending or confirming.
    fn weigh(&mut self, verdict: Verdict, look: Asked, purpose: Purpose) {
        self.job.run.counted = false;
        if matches!(verdict, Verdict::Gone { .. } | Verdict::Vanished { .. } | Verdict::Hopeless { .. }) {
            self.decide_the_pin(look);
        }
        let says_nothing = self.says_nothing_callable(&verdict);
        match verdict {
            Verdict::Live(seen) => self.alive(seen, look, purpose),
            Verdict::Replaced { by, counts } => self.replaced(by, counts, look, purpose),
            Verdict::Gone { needed } => {
                self.job.run.last = Last::Gone;
                if self.counts_as_proof(needed, look) {
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
            Verdict::Hopeless { why } => self.hopeless(why, false, false, look),
            Verdict::Vanished { why, believed } => self.hopeless(why, true, believed, look),
            Verdict::Misconfigured { why } => {
                self.job.run.last = Last::Unsure(why.clone());
                self.alarm(why);
            }
        }
        if self.job.is_done() {
            return;
        }
        if let Some(why) = says_nothing.filter(|_| self.job.state == State::Ending) {
            self.uncallable(why);
        }
        self.limits();
    }

    /// Why a look that an end call waits for lets none go, though it does not say that the meeting is over.
    fn says_nothing_callable(&self, verdict: &Verdict) -> Option<String> {
        match verdict {
            Verdict::Doubtful { why } => Some(why.clone()),
            Verdict::Occupied => Some("the server does not say which instance is live".to_owned()),
            Verdict::Replaced { by, counts: false } if self.job.pin.is_some() => {
                Some(format!("another instance ({}) is alive, and it is not known whether ours is", by.id))
            }
            _ => None,
        }
    }

    /// Looked, not over, and not callable: said after a few times, so that it is nobody's surprise a day later.
    fn uncallable(&mut self, why: String) {
        self.job.run.uncallable += 1;
        if self.job.run.uncallable == UNCALLABLE_LOOKS {
            self.note(Fact::Blocked { why });
        }
    }

    /// Not there, and nothing will ever prove it over: concluded only when it has been so for a while.
    fn hopeless(&mut self, why: String, vanished: bool, believed: bool, look: Asked) {
        let since = match &mut self.job.run.hopeless {
            Some(hopeless) => {
                hopeless.vanished = vanished;
                hopeless.since
            }
            none => none.insert(Hopeless { since: look.received.boot, vanished }).since,
        };
        self.job.run.last = Last::Unsure(why.clone());
        let waits = self.asked_before_the_last_answer(look) || self.job.run.calling.is_some();
        if !waits && look.received.boot >= since + HOPELESS_FOR {
            return self.conclude_hopeless(why, vanished, believed);
        }
        self.plan_look();
    }

    fn conclude_hopeless(&mut self, why: String, vanished: bool, believed: bool) {
        if believed && self.job.unproven.is_none() && !self.job.calls.unclean && !self.job.calls.lost {
            let (outcome, reason) = self.job.gone_outcome();
            return self.over(outcome, format!("{reason}, on the load balancer's word"));
        }
        if !(vanished && self.job.calls.found_nothing_to_end() && !self.job.ended_by_us) {
            return self.conclude(Outcome::Unconfirmed, why);
        }
        let seen = self.job.last_seen_words();
        self.over(Outcome::Vanished, format!("{seen}, then not shown any more: {why}"));
    }

    fn unsure(&mut self, why: String) {
        self.job.run.last = Last::Unsure(why);
        self.plan_look();
    }

    fn alive(&mut self, seen: Instance, look: Asked, purpose: Purpose) {
        self.job.run.tally = Default::default();
        if self.too_many(&seen) {
            return;
        }
        if self.job.is_pinned(&seen.id) {
            self.job.run.hopeless = None;
            self.pin(seen, look, purpose);
        } else if self.job.pin.is_some() {
            // A platform that cannot say `Replaced`: the pinned one was not shown, so nothing is proven about it.
            return self.replaced(seen, false, look, purpose);
        } else if self.job.belongs(&seen, look) {
            self.pin(seen, look, purpose);
        } else {
            return self.superseded(&seen);
        }
        self.job.run.last = Last::Alive;
        match self.job.state {
            State::Confirming if self.job.resend_at().is_some_and(|at| self.now.boot >= at) => {
                self.note(Fact::StillThere);
                self.attempt_what_was_seen();
            }
            State::Ending if self.may_call() => self.attempt_what_was_seen(),
            _ => self.plan_look(),
        }
    }

    /// Nothing of ours was ever seen, and what is live is not ours.
    fn superseded(&mut self, by: &Instance) {
        self.leave_alone(by);
        let reason = superseded(&self.job, by);
        self.conclude(Outcome::Superseded, reason);
    }

    fn leave_alone(&mut self, other: &Instance) {
        if self.job.left_alone.as_ref().is_none_or(|left| left.instance != other.id) {
            self.note(Fact::LeftAlone { instance: other.id.clone(), started_at: other.started_at });
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
    fn replaced(&mut self, by: Instance, counts: bool, look: Asked, purpose: Purpose) {
        if self.job.pin.is_none() {
            // Only a job with an explicit instance asks for one that it has not seen.
            return self.superseded(&by);
        }
        self.remember_beside(&by, look.received.boot);
        let ours = self.job.belongs(&by, look);
        let proven = counts && self.counts_as_proof(2, look);
        self.job.run.last = Last::Unsure(format!("another instance ({}) is alive in the meeting", by.id));
        if !ours && proven {
            self.leave_alone(&by);
            return self.proven_gone();
        }
        if !ours && !counts {
            // The next class. Nothing will prove ours over while it is all that is shown.
            let why = format!("instance {} is alive in its place, and nothing proves ours over", by.id);
            self.leave_alone(&by);
            // Where a call could name only the meeting, what stands there is a front whose silence does not tell.
            let by_front = self.job.run.hopeless_by_front() || self.job.aims_at_the_meeting();
            return self.hopeless(why, by_front, false, look);
        }
        if !(proven || (ours && !counts)) {
            return self.plan_look();
        }
        if proven && self.job.is_kept_closed_from(&by) {
            // Ours is proven gone: that comes first, and the next class is ended by `keep-closed`.
            self.job.run.beside.retain(|(instance, _)| *instance != by.id);
            self.proven_gone();
            return self.reopened(by, look);
        }
        let before = self.job.pin.as_ref().map(|pin| pin.instance.clone());
        self.pin(by, look, purpose);
        if let (false, Some(instance)) = (counts, before) {
            self.note(Fact::Unproven { instance });
        }
        self.job.run.last = Last::Alive;
        if self.job.state == State::Confirming {
            self.note(Fact::StillThere);
        }
        self.attempt_what_was_seen();
    }

    fn remember_beside(&mut self, other: &Instance, at: BootMs) {
        let beside = &mut self.job.run.beside;
        beside.retain(|(instance, _)| *instance != other.id);
        if beside.len() == BESIDE {
            beside.remove(0);
        }
        beside.push((other.id.clone(), at));
    }

    fn asked_before_the_last_answer(&self, look: Asked) -> bool {
        // A call that never left was answered, and the job may have been put off since.
        let after = [self.job.calls.last_answered, self.job.began].into_iter().flatten().map(|at| at.boot);
        after.max().is_some_and(|after| look.sent.boot < after)
    }

    /// Does this sighting complete the proof? Only what was asked after due, after the last end call was answered, and after
    /// the time that the platform needs until its word is good.
    fn counts_as_proof(&mut self, needed: u8, look: Asked) -> bool {
        let site = self.job.run.site.as_ref();
        let settle = site.map_or(Duration::ZERO, |site| site.settle);
        let apart = self.job.apart();
        // The acceptance of another job's call, which stands for this one, counts as well.
        let carried = self.job.carried_by.and(self.job.carried_at);
        let accepted = [self.job.calls.last_accepted, self.job.run.called_at, carried].into_iter().flatten();
        let settled = accepted.map(|at| at.boot).max().is_none_or(|at| look.sent.boot >= at + settle);
        let in_time = settled && !self.asked_before_the_last_answer(look) && self.job.run.calling.is_none();
        self.job.run.counted = in_time;
        in_time && self.job.run.tally.gone(look.sent.boot, look.received.boot, needed, apart)
    }

    fn proven_gone(&mut self) {
        if let Some(left) = &self.job.unproven {
            let why =
                format!("instance {left}, which another one replaced before due, was never proven gone");
            return self.conclude(Outcome::Unconfirmed, why);
        }
        let hit = self.job.may_have_been_hit();
        if !hit.is_empty() {
            self.note(Fact::MayHaveHit { instances: hit });
        }
        let (outcome, reason) = self.job.gone_outcome();
        self.over(outcome, reason);
    }

    /// The meeting is over as far as it goes; `keep-closed` goes on.
    fn over(&mut self, outcome: Outcome, reason: String) {
        let never_shown =
            outcome == Outcome::Absent || (outcome == Outcome::Vanished && !self.job.seen_alive);
        let by_rule = matches!(self.job.origin, Origin::Rule { .. });
        if never_shown && !by_rule && self.job.limits.expect == Expect::Live {
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

    fn guarded(&mut self, verdict: Verdict, look: Asked) {
        self.job.run.next = Some(self.now.boot + GUARD_EVERY);
        match verdict {
            Verdict::Live(seen) | Verdict::Replaced { by: seen, .. } => self.reopened(seen, look),
            Verdict::Misconfigured { why } => self.alarm(why),
            _ => {}
        }
    }

    /// The look a minute after the outcome. What was left alone then has not been opened since.
    fn after_look(&mut self, verdict: &Verdict) {
        let (Verdict::Live(seen) | Verdict::Replaced { by: seen, .. }) = verdict else { return };
        if self.job.outcome.is_some_and(Outcome::may_come_back) {
            // Once: what comes back again is a matter for a person.
            if self.job.is_pinned(&seen.id) && !matches!(self.job.origin, Origin::Again { .. }) {
                self.note(Fact::CameBack { instance: seen.id.clone() });
                self.effects.push(Effect::EndAgain);
            }
        } else if self.job.left_alone.as_ref().is_none_or(|left| left.instance != seen.id) {
            self.note(Fact::Reopened { instance: seen.id.clone() });
        }
    }

    /// The meeting was opened again under guard: it is ended too.
    fn reopened(&mut self, seen: Instance, look: Asked) {
        self.note(Fact::Reopened { instance: seen.id.clone() });
        self.pin(seen, look, Purpose::Guard);
        self.job.run.last = Last::Alive;
        self.attempt_what_was_seen();
    }

    /// Pins the instance (if it is not pinned already) and takes this look as a fresh one.
    fn pin(&mut self, seen: Instance, look: Asked, purpose: Purpose) {
        if !self.job.is_pinned(&seen.id) {
            let Instance { id, started_at, listed, node, .. } = seen.clone();
            let site = self.job.run.site.as_ref().map(|site| site.fingerprint.clone());
            let pin = Pin { instance: id, started_at, listed, node, site, last_live: look.sent };
            self.note(Fact::Pinned { pin });
            self.job.run.tally = Default::default();
            self.job.run.hopeless = None;
            self.job.run.refusals = 0;
            self.job.run.retry_at = None;
        }
        let armed = look.received.wall < self.job.due;
        let shown = self.shown_at.map_or(look.received.boot, |at| at.boot.min(look.received.boot));
        let asked = self.asked_at.map_or(look.sent.boot, |at| at.boot.max(look.sent.boot));
        self.job.run.fresh = Some(Fresh { instance: seen.id, asked, received: shown, armed, purpose });
    }
}

/// Taken out: they are about this look alone, and no part of the record.
fn asked_and_shown_at(verdict: &mut Verdict) -> (Option<Now>, Option<Now>) {
    match verdict {
        Verdict::Live(instance) | Verdict::Replaced { by: instance, .. } => {
            (instance.asked_at.take(), instance.shown_at.take())
        }
        _ => (None, None),
    }
}

impl Job {
    pub(super) fn is_pinned(&self, id: &InstanceId) -> bool {
        self.pin.as_ref().is_some_and(|pin| pin.instance == *id)
    }

    /// Two sightings of an absence are at least this far apart.
    pub(super) fn apart(&self) -> Duration {
        self.run.site.as_ref().map_or(SIGHTING_GAP, |site| site.apart.max(SIGHTING_GAP))
    }

    /// Instances that were seen within a minute before a call that could name only the meeting, and are not shown any more.
    fn may_have_been_hit(&self) -> Vec<InstanceId> {
        let (Some(_), Some(sent)) = (self.look_age_ms, self.calls.last_sent) else { return Vec::new() };
        // What is still shown was seen after the call, too.
        let shortly_before = |at: BootMs| at <= sent.boot && sent.boot.since(at) <= HIT_WITHIN;
        let beside = self.run.beside.iter().filter(|(_, at)| shortly_before(*at));
        beside.map(|(id, _)| id.clone()).collect()
    }

    /// When and with whom it was last seen, for a reason.
    fn last_seen_words(&self) -> String {
        let Some(seen) = self.last_seen.filter(|_| self.seen_alive) else { return "never shown".to_owned() };
        let when = |to_due: i64| {
            let time = humantime::format_duration(Duration::from_secs(to_due.unsigned_abs().div_ceil(1000)));
            if to_due > 0 { format!("{time} before due") } else { format!("{time} after due") }
        };
        match seen.participants {
            Some(0) => "empty when last seen".to_owned(),
            Some(1) => format!("1 person {}", when(self.due.ms_since(seen.at))),
            Some(people) => format!("{people} people {}", when(self.due.ms_since(seen.at))),
            None => format!("last seen {}", when(self.due.ms_since(seen.at))),
        }
    }

    /// The outcome of a job whose meeting is proven gone.
    fn gone_outcome(&self) -> (Outcome, String) {
        let instance = self.pin.as_ref().map_or("", |pin| pin.instance.as_str());
        if !self.seen_alive {
            (Outcome::Absent, "never seen alive, and proven not there at the deadline".to_owned())
        } else if self.accepted_at.is_some() {
            let how = self.how_aimed();
            (Outcome::Ended, format!("an end call was accepted{how}, and instance {instance} is proven gone"))
        } else if let Some(by) = self.carried_by.or(self.run.called_by).filter(|_| !self.ended_by_us) {
            (
                Outcome::Ended,
                format!("instance {instance} is proven gone, by the end call of job {}", by.short()),
            )
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

impl Job {
    /// How a call was aimed that could name only the meeting.
    fn how_aimed(&self) -> String {
        self.look_age_ms.map_or_else(String::new, |age| {
            let tenths = age.div_ceil(100);
            format!(" (aimed at the meeting, {}.{} s after it was seen)", tenths / 10, tenths % 10)
        })
    }
}

impl super::Run {
    /// What could be proven was last in doubt because of a front's silence.
    fn hopeless_by_front(&self) -> bool {
        self.hopeless.as_ref().is_some_and(|hopeless| hopeless.vanished)
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
