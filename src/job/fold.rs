//! The fold: how each fact changes a job. Nothing but [`Job::apply`] changes the durable part of a job.

use std::time::Duration;

use super::fact::{Entry, Fact, History, Purpose};
use super::model::{Calls, Guard, LastSeen, LeftAlone, Pin, Reopened, Sighted};
use super::step::ARM_LEAD;
use super::{
    Aim, By, CalledOff, EndAnswer, Instance, InstanceId, Job, Now, Order, Origin, Outcome, Run, State, UtcMs,
    Verdict, Warnings,
};

/// Sightings that a job keeps.
const SIGHTED: usize = 8;
/// Reopened instances that a job keeps.
const REOPENED: usize = 16;

impl Job {
    /// A new job: the fold starts here.
    pub fn submit(order: Order, now: Now) -> Job {
        let Order { id, server, meeting, only, key, limits, at_most, max_duration, due, origin, by } = order;
        let mut job = Job {
            id,
            server,
            meeting,
            key,
            limits,
            at_most,
            max_duration,
            revision: 0,
            origin,
            submitted: now,
            only,
            due,
            extended_from: None,
            awaits_start: max_duration.is_some(),
            asked_at: None,
            pin_decided: false,
            sighted: Vec::new(),
            state: State::Waiting,
            held_until: None,
            pin: None,
            last_seen: None,
            left_alone: None,
            look_age_ms: None,
            may_have_hit: Vec::new(),
            carried_by: None,
            carried_at: None,
            armed_at: None,
            claimed: None,
            began: None,
            calls: Calls::default(),
            ends: 0,
            looks: 0,
            end_sent_at: None,
            accepted_at: None,
            unproven: None,
            locked: false,
            seen_alive: false,
            ended_by_us: false,
            overdue: false,
            stubborn: false,
            held_past_due: false,
            alarm: None,
            guard: None,
            outcome: None,
            reason: String::new(),
            proven: None,
            concluded: None,
            after_look: false,
            reopened_at: None,
            reopened: Vec::new(),
            warnings: Warnings::default(),
            history: History::default(),
            run: Run::default(),
        };
        job.record(now, Fact::Submitted { due, by });
        job
    }

    /// Was it called off because what made it did not apply any more? A person who cancels is no such cause.
    pub fn called_off(&self) -> Option<CalledOff> {
        self.history.recent.iter().rev().find_map(|entry| match entry.fact {
            Fact::CalledOff { cause } => Some(cause),
            _ => None,
        })
    }

    /// How far it has come, counted in facts. Everything that happens to it counts; the revision tells only what people see.
    pub fn version(&self) -> usize {
        self.history.total()
    }

    /// Appends a fact and applies it.
    pub fn record(&mut self, at: Now, fact: Fact) {
        self.apply(at, &fact);
        self.history.push(Entry { at, fact });
    }

    /// The fold. Sets durable fields only.
    pub fn apply(&mut self, at: Now, fact: &Fact) {
        let leaves_guard = matches!(fact, Fact::Reopened { .. }) && self.state == State::Guarding;
        if fact.changes_revision() || leaves_guard {
            self.revision += 1;
        }
        match fact {
            Fact::Submitted { .. }
            | Fact::Started { .. }
            | Fact::Moved { .. }
            | Fact::Held { .. }
            | Fact::HeldPastDue
            | Fact::Released { .. } => {
                self.apply_change(at, fact);
            }
            Fact::Looked { purpose, took_ms, verdict } => {
                // What the answer shows may be as old as the question.
                self.apply_look(at, at.before(Duration::from_millis(*took_ms)), *purpose, verdict);
            }
            Fact::Pinned { pin } => self.apply_pin(at, pin),
            Fact::Listed => self.pin.iter_mut().for_each(|pin| pin.listed = true),
            Fact::PinDecided => self.pin_decided = true,
            Fact::Unproven { instance } => self.apply_unproven(instance),
            Fact::WarningClaimed(_) | Fact::WarningDue { .. } | Fact::WarningPutOff { .. } => {
                self.warnings.apply(at.wall, fact, self.due);
            }
            Fact::Claimed
            | Fact::EndSent { .. }
            | Fact::EndAnswered { .. }
            | Fact::AnswerLost
            | Fact::Carried { .. }
            | Fact::MayHaveHit { .. } => {
                self.apply_call(at, fact);
            }
            Fact::DueReached { .. } => {
                self.awaits_start = false;
                self.state = State::Ending;
                self.began = Some(at);
            }
            Fact::StillThere => self.state = State::Ending,
            Fact::Stubborn => self.stubborn = true,
            Fact::Overdue => self.overdue = true,
            Fact::Alarm { why } => self.alarm = Some(why.clone()),
            Fact::AlarmOver => self.alarm = None,
            Fact::Locked => self.locked = true,
            // Worth an event; they change nothing.
            Fact::ExpectedLive
            | Fact::CameBack { .. }
            | Fact::Blocked { .. }
            | Fact::LockFailed { .. }
            | Fact::RuleHit { .. }
            | Fact::CalledOff { .. } => {}
            Fact::LeftAlone { instance, started_at } => {
                self.left_alone = Some(LeftAlone { instance: instance.clone(), started_at: *started_at });
            }
            Fact::Guarding { .. }
            | Fact::Reopened { .. }
            | Fact::LeftOpen { .. }
            | Fact::Concluded { .. } => {
                self.apply_end(at, fact);
            }
            Fact::Restarted => self.rebase(at),
        }
    }

    fn apply_unproven(&mut self, instance: &InstanceId) {
        self.unproven = Some(instance.clone());
        let reopened = self.reopened.iter_mut().filter(|reopened| reopened.instance == *instance);
        reopened.for_each(|reopened| reopened.outcome = Some(Outcome::Unconfirmed));
    }

    fn apply_pin(&mut self, at: Now, pin: &Pin) {
        if self.guard.is_some() {
            self.keep_reopened(&pin.instance, at);
        }
        self.unproven = self.unproven.take().filter(|left| *left != pin.instance);
        self.ended_by_us |= self.calls.may_have_ended();
        self.calls = Calls::default();
        self.carried_by = None;
        self.stubborn = false;
        self.seen_alive = true;
        self.pin_decided = true;
        self.pin = Some(pin.clone());
        // A sweep may have seen it long before: that is no arm.
        if self.state == State::Waiting && at.wall >= self.due - ARM_LEAD {
            self.armed_at = Some(at.wall);
        }
    }

    fn apply_change(&mut self, at: Now, fact: &Fact) {
        match fact {
            Fact::Started { instance, due, .. } => {
                if self.due != *due {
                    self.extended_from = None;
                }
                self.due = *due;
                self.warnings.since = Some(at.wall);
                self.only = Some(instance.clone());
                self.awaits_start = false;
            }
            Fact::Moved { to, extension, by } => {
                if self.due != *to {
                    self.warnings = Warnings::anew(at.wall);
                }
                let planned = self.planned_due();
                // A time where there was none is a plan, not an extension of one.
                self.extended_from = (*extension && !planned.is_never()).then_some(planned);
                self.due = *to;
                // "Now", as a person means it; a time in the past that the schedule file gives is none.
                if *to <= at.wall && matches!(by, By::Peer { .. }) {
                    self.asked_at = Some(at.wall);
                    // Whoever is live now is meant, whatever an earlier moment had decided.
                    self.pin_decided = self.pin.is_some();
                }
                self.pin_anew(at);
                // A new plan counts for itself; one that is only pushed goes on waiting for the start.
                self.awaits_start &= *extension;
                if let (Origin::Schedule { planned, .. } | Origin::Rule { planned, .. }, By::Schedule) =
                    (&mut self.origin, by)
                {
                    *planned = *to;
                }
                // At work without a call of its own: it was moved in time, also where another job's call stood for it.
                if matches!(self.state, State::Ending | State::Confirming) {
                    self.state = State::Waiting;
                }
                self.carried_by = None;
                self.began = None;
                self.claimed = None;
                self.armed_at = None;
                self.held_past_due = false;
                self.overdue = false;
            }
            Fact::Held { until, .. } => {
                self.state = State::Held;
                self.carried_by = None;
                self.held_until = *until;
                self.held_past_due = false;
                self.began = None;
                self.claimed = None;
            }
            Fact::HeldPastDue => self.held_past_due = true,
            Fact::Released { .. } => {
                self.state = State::Waiting;
                self.held_until = None;
            }
            _ => {}
        }
    }

    /// A new due makes a new pin moment. While that is still ahead nothing is decided: what was pinned is what was seen.
    fn pin_anew(&mut self, at: Now) {
        if self.pin_moment() <= at.wall || self.only.is_some() {
            return;
        }
        if let Some(pin) = self.pin.take() {
            self.keep_sighting(&pin.instance, pin.last_live.wall, pin.last_live);
        }
        self.pin_decided = false;
        self.unproven = None;
    }

    fn keep_sighting(&mut self, instance: &InstanceId, at: UtcMs, last: Now) {
        if let Some(seen) = self.sighted.iter_mut().find(|seen| seen.instance == *instance) {
            seen.last = last;
            return;
        }
        if self.sighted.len() == SIGHTED {
            self.sighted.remove(0);
        }
        self.sighted.push(Sighted { instance: instance.clone(), at, last });
    }

    fn apply_look(&mut self, at: Now, sent: Now, purpose: Purpose, verdict: &Verdict) {
        self.looks += 1;
        self.after_look &= purpose != Purpose::After;
        if let Verdict::Live(seen) | Verdict::Replaced { by: seen, .. } = verdict {
            self.apply_sighting(at, sent, seen);
        }
        let (Verdict::Live(seen), Some(pin)) = (verdict, &mut self.pin) else { return };
        if seen.id != pin.instance {
            return;
        }
        pin.last_live = sent;
        pin.listed |= seen.listed;
        if seen.node.is_some() {
            pin.node.clone_from(&seen.node);
        }
        if purpose == Purpose::Arm {
            self.armed_at = Some(at.wall);
        }
    }

    /// Before the pin moment a sighting is worth keeping: whoever was there then is ours.
    fn apply_sighting(&mut self, at: Now, sent: Now, seen: &Instance) {
        if at.wall < self.pin_moment() {
            self.keep_sighting(&seen.id, at.wall, sent);
        }
        // What is about to be pinned by this look counts too: the pin follows it.
        if self.pin.as_ref().is_none_or(|pin| pin.instance == seen.id) {
            self.last_seen = Some(LastSeen { at: at.wall, participants: seen.participants });
        }
    }

    fn apply_call(&mut self, at: Now, fact: &Fact) {
        match fact {
            Fact::Claimed => self.claimed = Some(at),
            Fact::Carried { by, .. } => {
                self.carried_by = Some(*by);
                self.carried_at = Some(at);
                self.claimed = None;
                self.state = State::Confirming;
            }
            Fact::MayHaveHit { instances } => self.may_have_hit.clone_from(instances),
            Fact::EndSent { aim, looked_ms_ago, .. } => {
                self.carried_by = None;
                if *aim == Aim::Meeting {
                    self.look_age_ms = Some(*looked_ms_ago);
                }
                self.claimed.get_or_insert(at);
                self.ends += 1;
                self.calls.sent += 1;
                self.calls.last_sent = Some(at);
                self.end_sent_at.get_or_insert(at.wall);
            }
            Fact::EndAnswered { answer, .. } => {
                self.claimed = None;
                let never_left = matches!(answer, EndAnswer::Unreachable { sent: false, .. });
                self.calls.never_left += u32::from(never_left);
                self.calls.maybe_gone += u32::from(matches!(answer, EndAnswer::MaybeGone { .. }));
                if never_left && self.end_sent_at == self.calls.last_sent.map(|sent| sent.wall) {
                    // It was the first, and nobody has heard it.
                    self.end_sent_at = None;
                }
                self.calls.unclean |= !matches!(answer, EndAnswer::Accepted) && !never_left;
                self.calls.lost |= matches!(answer, EndAnswer::Unreachable { sent: true, .. });
                self.calls.last_answered = Some(at);
                if matches!(answer, EndAnswer::Accepted) {
                    self.calls.accepted.get_or_insert(at);
                    self.calls.last_accepted = Some(at);
                    self.calls.accepts += 1;
                    self.accepted_at.get_or_insert(at.wall);
                    self.state = State::Confirming;
                }
                self.ended_by_us |= answer.may_have_ended();
            }
            Fact::AnswerLost => {
                self.claimed = None;
                self.calls.lost = true;
                self.calls.unclean = true;
                self.calls.last_answered = Some(at);
                self.ended_by_us |= self.pin.is_some();
            }
            _ => {}
        }
    }

    fn apply_end(&mut self, at: Now, fact: &Fact) {
        match fact {
            Fact::Guarding { outcome, reason } => {
                self.state = State::Guarding;
                self.claimed = None;
                self.proven.get_or_insert(at);
                self.reopened_is_over(*outcome, at);
                self.calls = Calls::default();
                // The first proof is of what the deadline meant. Later ones are of what was reopened.
                let head = Some(self.head());
                let guard = Guard { outcome: *outcome, reason: reason.clone(), began: at, head };
                self.reason.clone_from(&self.guard.get_or_insert(guard).reason);
            }
            Fact::LeftOpen { outcome, .. } => self.reopened_is_over(*outcome, at),
            Fact::Reopened { instance } => {
                self.reopened_at.get_or_insert(at.wall);
                self.keep_reopened(instance, at);
                self.after_look = false;
                if self.state == State::Guarding {
                    self.state = State::Ending;
                    self.began = Some(at);
                }
            }
            Fact::Concluded { outcome, reason } => {
                self.state = State::Done;
                self.outcome = Some(*outcome);
                self.concluded = Some(at);
                self.reason.clone_from(reason);
                self.alarm = None;
                self.claimed = None;
                if outcome.claims_gone() {
                    self.proven.get_or_insert(at);
                }
                let open = self.guard.is_none() && self.reopened_at.is_none();
                let unsure = outcome.may_come_back() && self.pin.is_some();
                self.after_look = (outcome.claims_gone() || unsure) && open;
            }
            _ => {}
        }
    }

    fn keep_reopened(&mut self, instance: &InstanceId, at: Now) {
        if self.reopened.last().is_some_and(|last| last.instance == *instance) {
            return;
        }
        if self.reopened.len() == REOPENED {
            self.reopened.remove(0);
        }
        // Another one in its place was proof, unless the next fact says otherwise.
        self.reopened_is_over(Outcome::Ended, at);
        let (instance, at) = (instance.clone(), at.wall);
        self.reopened.push(Reopened { instance, at, outcome: None, over_at: None });
    }

    /// Of what was reopened only its own calls count, unless it is what had been called before.
    fn reopened_is_over(&mut self, outcome: Outcome, at: Now) {
        let called = self.calls.may_have_ended() || self.carried_by.is_some();
        let first = self.head().instance;
        for reopened in self.reopened.iter_mut().filter(|reopened| reopened.outcome.is_none()) {
            let by_itself =
                outcome == Outcome::Ended && !called && first.as_ref() != Some(&reopened.instance);
            reopened.outcome = Some(if by_itself { Outcome::AlreadyOver } else { outcome });
            reopened.over_at = Some(at.wall);
        }
    }

    fn rebase(&mut self, now: Now) {
        let claimed_ahead = self.claimed.is_some_and(|claimed| claimed.wall > now.wall);
        if self.state == State::Waiting && now.wall < self.due && !claimed_ahead {
            // No call leaves before due: what was claimed has not been sent. But a claim that lies ahead was made by a
            // clock that has been set back since, and by that clock due may have come.
            self.claimed = None;
        }
        self.sighted.iter_mut().for_each(|seen| seen.last = seen.last.rebased(now));
        let calls = &mut self.calls;
        let stamps = [
            self.began.as_mut(),
            self.claimed.as_mut(),
            self.carried_at.as_mut(),
            self.proven.as_mut(),
            self.concluded.as_mut(),
            self.pin.as_mut().map(|pin| &mut pin.last_live),
            self.guard.as_mut().map(|guard| &mut guard.began),
            calls.last_sent.as_mut(),
            calls.last_answered.as_mut(),
            calls.accepted.as_mut(),
            calls.last_accepted.as_mut(),
        ];
        for stamp in stamps.into_iter().flatten() {
            *stamp = stamp.rebased(now);
        }
    }
}
