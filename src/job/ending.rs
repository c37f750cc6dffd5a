//! Making end calls: when one may leave, and what its answer means.

use std::time::Duration;

use super::retry::{backoff, next_look, resend_delay};
use super::step::{Draft, Effect, Last, RESTART_GRACE, Run};
use super::{Aim, BootMs, EndAnswer, Fact, Job, JobId, Outcome, Purpose, Site, State};

/// A server that refuses our credentials is asked again this often.
pub const PROBE_EVERY: Duration = Duration::from_secs(60);
/// An end call that was put off by a server under too much load (HTTP 503) waits no longer than this, if looks are answered.
pub const UNAVAILABLE_AT_MOST: Duration = Duration::from_secs(60);
/// While an end call must wait, the meeting is looked at this often.
pub const LOOK_MEANWHILE: Duration = Duration::from_secs(30);
/// Alive this long after an acceptance: worth saying.
pub const STUBBORN_AFTER: Duration = Duration::from_secs(60);

impl Draft {
    /// A tick while ending or confirming.
    pub fn work(&mut self) {
        if self.limits() || !self.job.is_idle() || !self.pause_is_over() {
            return;
        }
        match self.job.state {
            State::Ending => self.attempt(),
            _ => self.look(Purpose::Confirm),
        }
    }

    /// Queues an end call if a good look allows one. If none does, a call that would be made all the same looks in its own
    /// turn; where it is not known yet whether there is anything to end, it looks together with others.
    pub fn attempt(&mut self) {
        if !self.job.is_idle() || self.now.wall < self.job.due {
            return;
        }
        if !self.may_call() {
            return self.look(Purpose::BeforeEnd);
        }
        if self.job.may_leave(self.now.boot) {
            if self.job.claimed.is_none() {
                self.note(Fact::Claimed);
            }
            return self.queue();
        }
        let shares = self.job.run.site.as_ref().is_none_or(|site| site.shares_last_look);
        // A single look that does not show it tells too little: the next one asks for the listing too.
        let alive = self.job.run.last == Last::Alive;
        if self.job.pin.is_some() && self.job.aims_at_the_meeting() && !shares && alive {
            return self.queue();
        }
        self.look(Purpose::BeforeEnd);
    }

    /// The pinned instance was seen alive just now. Where that look does not do for a call, the call's own turn brings one
    /// that does: looking together with others once more could go on for ever.
    pub fn attempt_what_was_seen(&mut self) {
        let idle = self.job.is_idle() && self.now.wall >= self.job.due;
        if idle && self.may_call() && !self.job.may_leave(self.now.boot) {
            return self.queue();
        }
        self.attempt();
    }

    fn queue(&mut self) {
        // A look that was made for this very call has had its turn, and waits for nobody.
        let next = self.job.run.fresh.as_ref().is_some_and(|fresh| fresh.purpose == Purpose::Last);
        self.job.run.next = None;
        self.job.run.queued = true;
        self.effects.push(Effect::QueueEnd { next });
    }

    /// The pause that a failed call asks for is over.
    pub fn may_call(&self) -> bool {
        self.job.run.retry_at.is_none_or(|at| self.now.boot >= at)
    }

    /// The lane has room: the last word. Sends if, and only if, everything still holds.
    pub fn slot(&mut self, site: Site, carrier: Option<JobId>) {
        let aim = site.aim;
        self.job.run.queued = false;
        // What was seen at another address says nothing about the one that the call would go to now.
        if self.job.run.site.as_ref().is_some_and(|old| old.fingerprint != site.fingerprint) {
            self.job.run.fresh = None;
        }
        self.job.run.site = Some(site);
        let idle = self.job.run.calling.is_none() && self.job.run.looking.is_none();
        if self.job.state == State::Waiting && idle && self.job.run.last_look_asked {
            // The turn is for the last look; the call has another one at due.
            return if self.job.may_leave_at_due(self.now) { self.waiting() } else { self.look_in_turn() };
        }
        if self.job.state != State::Ending || !idle || self.now.wall < self.job.due {
            return;
        }
        if let (Some(by), Some(pin)) = (carrier, &self.job.pin) {
            let instance = pin.instance.clone();
            self.note(Fact::Carried { by, instance });
            return self.plan_look();
        }
        if !self.may_call() {
            return self.attempt();
        }
        let (Some(pin), Some(fresh), true) =
            (&self.job.pin, &self.job.run.fresh, self.job.may_leave(self.now.boot))
        else {
            return self.look_in_turn();
        };
        let attempt = self.job.ends + 1;
        let seen_at = if aim == Aim::Meeting { fresh.asked } else { fresh.received };
        let looked_ms_ago = u64::try_from(self.now.boot.since(seen_at).as_millis()).unwrap_or(u64::MAX);
        let resend = self.job.calls.may_have_ended();
        let instance = pin.instance.clone();
        if self.job.claimed.is_none() {
            self.note(Fact::Claimed);
        }
        self.note(Fact::EndSent { attempt, aim, instance, looked_ms_ago });
        self.job.run.calling = Some(attempt);
        self.job.run.tally = Default::default();
        self.job.run.fresh = None;
        let lock = self.job.wants_lock();
        self.effects.push(Effect::Call { attempt, aim, resend, lock });
    }

    /// Look and call follow each other in one turn, so that no other question comes between them.
    fn look_in_turn(&mut self) {
        self.job.run.last_look_asked = true;
        self.job.run.looking = Some(Purpose::Last);
        self.effects.push(Effect::LookInTurn);
    }

    pub fn locked(&mut self, result: Result<(), String>) {
        self.note(match result {
            Ok(()) => Fact::Locked,
            Err(why) => Fact::LockFailed { why },
        });
    }

    pub fn answered(&mut self, attempt: u32, answer: EndAnswer) {
        if self.job.run.calling != Some(attempt) {
            return;
        }
        self.job.run.calling = None;
        self.note(Fact::EndAnswered { attempt, answer: answer.clone() });
        if self.job.alarm.is_some() && authentic(&answer) {
            self.note(Fact::AlarmOver);
        }
        match answer {
            EndAnswer::Accepted => {
                self.job.run.refusals = 0;
                self.job.run.retry_at = None;
                self.plan_look();
            }
            EndAnswer::MaybeGone { .. } => {
                self.retry_later(None);
                self.look(Purpose::BeforeEnd);
            }
            EndAnswer::Refused { why, permanent: true } => {
                self.conclude(Outcome::Failed, format!("the platform refuses to end it: {why}"));
            }
            EndAnswer::Refused { .. } => self.retry_later(None),
            EndAnswer::Throttled { retry_after, unavailable, .. } => {
                // A server that says when it will be back, and answers a look a minute later, is back.
                let longest = if unavailable { UNAVAILABLE_AT_MOST } else { Duration::MAX };
                self.retry_later(retry_after.map(|pause| pause.min(longest)));
            }
            EndAnswer::Misconfigured { why } => {
                self.alarm(why);
                self.job.run.retry_at = self.job.run.next;
            }
            EndAnswer::Unreachable { .. } => self.retry_later(None),
        }
    }

    /// Plans the next attempt, by back-off or as the platform asked.
    fn retry_later(&mut self, at_least: Option<Duration>) {
        self.job.run.refusals += 1;
        let pause = backoff(self.job.id, self.job.run.refusals).max(at_least.unwrap_or_default());
        self.job.run.retry_at = Some(self.now.boot + pause);
        self.job.run.next = self.job.run.retry_at.min(Some(self.now.boot + LOOK_MEANWHILE));
    }

    /// A configuration fault is an alarm, not an outcome.
    pub fn alarm(&mut self, why: String) {
        if self.job.alarm.as_ref() != Some(&why) {
            self.note(Fact::Alarm { why });
        }
        self.job.run.next = Some(self.now.boot + PROBE_EVERY);
    }

    /// Plans the next look of a job at work: sooner when one more sighting would be proof, later after failures.
    pub fn plan_look(&mut self) {
        let (job, now) = (&self.job, self.now.boot);
        let run = &job.run;
        let since = job.calls.last_answered.or(job.began).map_or(now, |at| at.boot);
        let mut next = match (run.misses, run.tally.earliest_next(job.apart())) {
            (0, Some(earliest)) if earliest > now => earliest,
            // The second sighting that was asked for did not count; the next is no more urgent than any.
            (0, _) => next_look(since, now),
            (misses, _) => now + backoff(job.id, misses),
        };
        if let (State::Confirming, Some(resend_at)) = (job.state, job.resend_at())
            && resend_at > now
        {
            next = next.min(resend_at);
        }
        if let (State::Ending, Some(retry_at)) = (job.state, run.retry_at)
            && run.last == Last::Alive
        {
            // However long the platform wants to be left alone by end calls: looks go on, and limits with them.
            next = retry_at.max(now).min(now + LOOK_MEANWHILE);
        }
        self.job.run.next = Some(next);
    }

    /// The limits of a job at work. True: it is concluded.
    pub fn limits(&mut self) -> bool {
        let now = self.now;
        // Alive or unknown: whoever must know by then is told, also where no look was ever answered.
        if !self.job.overdue
            && self.job.overdue_at().is_some_and(|at| now.boot >= at)
            && !self.job.run.counted
        {
            self.note(Fact::Overdue);
        }
        let job = &self.job;
        let last = job.run.last.clone();
        if last == Last::Nothing || job.run.counted {
            return false;
        }
        if last == Last::Alive && !job.stubborn && job.stubborn_at().is_some_and(|at| now.boot >= at) {
            self.note(Fact::Stubborn);
        }
        let job = &self.job;
        if last != Last::Alive && job.prove_by().is_some_and(|at| now.boot >= at) {
            let limit = humantime::format_duration(job.limits.prove_within);
            let reason = format!(
                "an end call {}, but nothing proved it over within {limit}{}",
                job.sent_how(),
                because(&last)
            );
            self.conclude(Outcome::Unconfirmed, reason);
            return true;
        }
        // A configuration fault is an alarm, not an outcome: somebody will mend it, and then the job goes on.
        let at_fault = job.alarm.is_some();
        if job.give_up_at().is_some_and(|at| now.boot >= at) && job.run.calling.is_none() && !at_fault {
            self.give_up(&last);
            return true;
        }
        false
    }

    /// Failed is what was last seen alive; whatever nobody knows is unconfirmed.
    fn give_up(&mut self, last: &Last) {
        let job = &self.job;
        let limit = humantime::format_duration(job.limits.give_up_after);
        let vanished = job.run.hopeless.as_ref().is_some_and(|hopeless| hopeless.vanished);
        let (outcome, reason) = if *last == Last::Alive {
            let failure = job.last_failure().map_or(String::new(), |why| format!("; last: {why}"));
            (Outcome::Failed, format!("still alive {limit} after the first attempt{failure}"))
        } else if vanished && job.calls.found_nothing_to_end() && !job.ended_by_us {
            (Outcome::Vanished, format!("given up after {limit}{}", because(last)))
        } else {
            (Outcome::Unconfirmed, format!("given up after {limit}: nothing proved it over{}", because(last)))
        };
        self.conclude(outcome, reason);
    }
}

impl Job {
    /// Nothing is under way for it.
    pub fn is_idle(&self) -> bool {
        let Run { looking, queued, calling, .. } = &self.run;
        looking.is_none() && !queued && calling.is_none()
    }

    /// Why the last end call did not get through, if the one before this moment failed.
    pub(super) fn last_failure(&self) -> Option<String> {
        self.history.recent.iter().rev().find_map(|entry| match &entry.fact {
            Fact::EndAnswered { answer: EndAnswer::Accepted, .. } => Some(None),
            Fact::EndAnswered { answer, .. } => Some(Some(answer.to_string())),
            _ => None,
        })?
    }

    /// When the last call may be repeated, if it was accepted and the instance is still there. One that another job's call
    /// stands for asks again as late: by then that job may have been cancelled.
    pub(super) fn resend_at(&self) -> Option<BootMs> {
        if self.carried_by.is_some() {
            return Some(self.carried_at.or(self.began)?.boot + self.limits.resend_after);
        }
        let answered = self.calls.last_answered.filter(|_| self.calls.accepted.is_some())?;
        let settle = self.run.site.as_ref().map_or(Duration::ZERO, |site| site.settle);
        Some(answered.boot + resend_delay(self.limits.resend_after.max(settle), self.calls.accepts))
    }

    /// Counts from due, also for a job that was found late; under guard from the reopening.
    pub(super) fn overdue_at(&self) -> Option<BootMs> {
        let began = self.began?;
        let late = if self.guard.is_none() { self.late_by(began) } else { Duration::ZERO };
        Some(began.boot + self.limits.overdue_after.saturating_sub(late))
    }

    pub(super) fn stubborn_at(&self) -> Option<BootMs> {
        Some(self.calls.accepted?.boot + STUBBORN_AFTER)
    }

    pub(super) fn give_up_at(&self) -> Option<BootMs> {
        Some(self.not_right_after_restart(self.began?.boot + self.limits.give_up_after))
    }

    /// While nobody was there nothing could be done: that time alone ends no job.
    fn not_right_after_restart(&self, limit: BootMs) -> BootMs {
        self.run.taken_up.map_or(limit, |taken_up| limit.max(taken_up + RESTART_GRACE))
    }

    /// Counts from the acceptance (or the lost answer). As long as the instance is seen alive there is nothing to prove.
    pub(super) fn prove_by(&self) -> Option<BootMs> {
        let lost = self.calls.last_answered.filter(|_| self.calls.lost);
        let from = self.calls.accepted.or(lost)?.boot;
        let last_live = self.pin.as_ref().map_or(from, |pin| pin.last_live.boot);
        Some(self.not_right_after_restart(from.max(last_live) + self.limits.prove_within))
    }

    pub(super) fn sent_how(&self) -> &'static str {
        if self.calls.accepted.is_some() {
            "was accepted"
        } else {
            "may have taken effect (its answer was lost)"
        }
    }
}

/// The platform itself answered, and knew us.
fn authentic(answer: &EndAnswer) -> bool {
    !matches!(
        answer,
        EndAnswer::Misconfigured { .. } | EndAnswer::Unreachable { .. } | EndAnswer::Throttled { .. }
    )
}

fn because(last: &Last) -> String {
    match last {
        Last::Unsure(why) => format!(": {why}"),
        _ => String::new(),
    }
}
