//! The invariants, told a second time and in another way: from what happened, not from what the job keeps of it.

use std::time::Duration;

use super::super::*;

/// What happened to a job, in order.
#[derive(Clone, PartialEq, Debug)]
pub enum Happening {
    /// A look was answered; `guarded`: `keep-closed` was at work.
    Looked {
        purpose: Purpose,
        /// The pin moment, as it was then.
        moment: UtcMs,
        sent: Now,
        received: Now,
        verdict: Verdict,
        guarded: bool,
    },
    /// To a time that lay ahead: whatever had been seen by then was seen before due.
    Moved,
    Due {
        at: Now,
        late_ms: i64,
    },
    Pinned,
    Called,
    Answered {
        at: Now,
    },
    AnswerLost,
    Restarted,
    Over(Outcome),
}

/// What has been seen, and what the world knows better than the job.
#[derive(Default)]
pub struct Laws {
    /// What end calls name.
    aim: Option<Aim>,
    /// Forgotten with the writes that a crash loses.
    pub happened: Vec<Happening>,
    /// End calls that ever left.
    pub calls: u32,
    /// Of these, the ones that could not leave the machine.
    never_left: u32,
    /// One of them may have ended a meeting.
    may_have_ended: bool,
    /// The shortest mark before this due time of which the people may have been told, or never can be.
    told: Option<Duration>,
    /// What the warning under way speaks of; nothing once there is a new due time.
    warning_due: Option<UtcMs>,
}

impl Laws {
    pub fn of(aim: Aim) -> Laws {
        Laws { aim: Some(aim), ..Laws::default() }
    }

    pub fn so_far(&self) -> usize {
        self.happened.len()
    }

    pub fn crash(&mut self, kept: usize, in_flight: &[u32], warning: Option<Mark>) {
        // The claim was durable before it was sent: nobody sends it again.
        let counts = warning.filter(|mark| self.warning_due == Some(mark.due));
        self.told = counts.map(|mark| mark.before).or(self.told);
        self.may_have_ended |= !in_flight.is_empty();
        self.happened.truncate(kept);
        self.happened.push(Happening::Restarted);
    }

    pub fn answered(&mut self, answer: &EndAnswer) {
        self.never_left += u32::from(matches!(answer, EndAnswer::Unreachable { sent: false, .. }));
        self.may_have_ended |=
            matches!(answer, EndAnswer::Accepted | EndAnswer::Unreachable { sent: true, .. });
    }

    pub fn new_due(&mut self) {
        self.told = None;
        self.warning_due = None;
    }

    pub fn warned(&mut self, mark: Mark, result: &Warned) {
        let again = matches!(result, Warned::NotThere | Warned::Failed { sent: false, .. });
        if !again && self.warning_due == Some(mark.due) {
            self.told = Some(mark.before);
        }
    }

    /// May the people be told this now?
    fn check_warning(&mut self, before: &Job, job: &Job, mark: Mark, now: Now) {
        assert_eq!((job.state, mark.due), (State::Waiting, job.due));
        assert_eq!(self.calls, self.never_left, "a warning after an end call");
        assert!(now.wall >= job.due - mark.before, "before its mark");
        assert!(now.wall < job.due - WARN_LATEST, "too late to be of use");
        assert!(self.told.is_none_or(|told| mark.before < told), "{mark:?}, but {:?} were told", self.told);
        let shorter = job.limits.warn.iter().any(|m| *m < mark.before && now.wall >= job.due - *m);
        assert!(!shorter, "a shorter mark has passed");
        assert_eq!(job.revision, before.revision);
        self.warning_due = Some(mark.due);
    }

    /// Before the facts of a step are taken down.
    pub fn happened(&mut self, before: &Job, event: &Event) {
        if let Event::Looked { purpose, sent, received, verdict, .. } = event {
            let (purpose, sent, received, verdict) = (*purpose, *sent, *received, verdict.clone());
            let (guarded, moment) = (before.guard.is_some(), pin_moment(before));
            self.happened.push(Happening::Looked { purpose, moment, sent, received, verdict, guarded });
        }
    }

    pub fn noted(&mut self, entry: &Entry) {
        self.happened.push(match &entry.fact {
            Fact::Moved { .. } => Happening::Moved,
            Fact::DueReached { late_ms } => Happening::Due { at: entry.at, late_ms: *late_ms },
            Fact::Pinned { .. } => Happening::Pinned,
            Fact::EndSent { .. } => Happening::Called,
            Fact::EndAnswered { .. } => Happening::Answered { at: entry.at },
            Fact::AnswerLost => Happening::AnswerLost,
            Fact::Concluded { outcome, .. } => Happening::Over(*outcome),
            _ => return,
        });
    }

    /// Ours whatever any look decided: started before the pin moment, or seen before it.
    pub fn belongs_beyond_doubt(&self, job: &Job, instance: &Instance) -> bool {
        let moment = pin_moment(job);
        let started = instance.started_at.is_some_and(|at| at.0 + 2_000 <= moment.0);
        let seen_before = self.happened.iter().any(|happening| match happening {
            Happening::Looked { received, verdict, .. } => {
                received.wall < moment && shown(verdict).is_some_and(|seen| seen.id == instance.id)
            }
            _ => false,
        });
        started || seen_before
    }

    /// Which instances belong to the deadline, from the sightings alone: seen before the pin moment, started before it, or
    /// shown by a look of the pin moment without having started later.
    pub fn belongs(&self, job: &Job, instance: &Instance) -> bool {
        let id = &instance.id;
        if let Some(only) = &job.only {
            return only == id;
        }
        let moment = pin_moment(job);
        let before = |at: UtcMs| at.0 + 2_000 <= moment.0;
        if job.guard.is_some() || instance.started_at.is_some_and(before) {
            return true;
        }
        self.happened.iter().any(|happening| {
            let Happening::Looked { moment: then, sent, received, verdict, guarded, .. } = happening else {
                return false;
            };
            let Some(seen) = shown(verdict).filter(|seen| seen.id == *id) else { return false };
            let kept_closed = !job.limits.keep_closed.is_zero() && received.wall >= job.due;
            let later = seen.started_at.is_some_and(|at| at.0 - 2_000 >= then.0);
            // What a moment that has passed decided stays decided when due is moved by less than that moment.
            let at_the_moment = received.wall >= *then && sent.wall.0 <= then.0 + 10_000 && !later;
            let starts_untold = seen.start.is_none() && received.wall >= *then;
            let counted_then =
                (at_the_moment || starts_untold) && (*then >= moment || received.wall <= moment);
            *guarded || kept_closed || received.wall < moment || at_the_moment || counted_then
        })
    }

    // Invariants 2, 3 and 5: may this leave?

    pub fn check_effect(&mut self, before: &Job, job: &Job, effect: &Effect, now: Now) {
        assert!(job.state != State::Held, "a held job asks for nothing: {effect:?}");
        if job.is_done() {
            let last = matches!(effect, Effect::Look(Purpose::After) | Effect::EndAgain);
            assert!(job.state != before.state || last, "done: {effect:?}");
        }
        if let Effect::Warn(mark) = effect {
            self.check_warning(before, job, *mark, now);
        }
        if let Effect::Call { .. } = effect {
            assert!(now.wall >= job.due, "never early: {} ms before due", job.due.ms_since(now.wall));
            assert!(!job.is_done(), "a done job calls nobody");
            let pin = job.pin.as_ref().expect("a call has a pinned instance");
            let seen = self.last_shown(&pin.instance).expect("what is pinned was shown");
            assert!(self.belongs(job, &seen), "{} is not ours: {:#?}", pin.instance, self.happened);
            let pin = &pin.instance;
            assert!(
                self.seen_in_time(before, job, pin, now),
                "no look saw {pin} in time: {:#?}",
                self.happened
            );
            self.calls += 1;
        }
    }

    fn last_shown(&self, id: &InstanceId) -> Option<Instance> {
        self.happened.iter().rev().find_map(|happening| match happening {
            Happening::Looked { verdict, .. } => shown(verdict).filter(|seen| seen.id == *id).cloned(),
            _ => None,
        })
    }

    /// The latest thing that was learnt about the meeting is that this instance was alive, recently enough.
    fn seen_in_time(&self, before: &Job, job: &Job, pin: &InstanceId, now: Now) -> bool {
        let since_restart = self.happened.rsplit(|happening| *happening == Happening::Restarted).next();
        for happening in since_restart.into_iter().flatten().rev() {
            let Happening::Looked { purpose, sent, received, verdict, .. } = happening else { continue };
            match shown(verdict) {
                Some(seen) if seen.id == *pin && self.aim == Some(Aim::Meeting) => {
                    let own = matches!(purpose, Purpose::BeforeEnd | Purpose::Last);
                    let (asked, answered) = (now.boot.0 - sent.boot.0, now.boot.0 - received.boot.0);
                    return own && (asked <= 2_000 || answered <= 500);
                }
                Some(seen) if seen.id == *pin => {
                    let first =
                        before.end_sent_at.is_none() && received.wall < job.due && self.reached_on_time();
                    let good_for = if first { 15_000 } else { 2_000 };
                    return now.boot.0 - received.boot.0 <= good_for;
                }
                Some(_) => return false,
                None if matches!(
                    verdict,
                    Verdict::Gone { .. } | Verdict::Vanished { .. } | Verdict::Hopeless { .. }
                ) =>
                {
                    return false;
                }
                None => {}
            }
        }
        false
    }

    fn reached_on_time(&self) -> bool {
        let due = self.happened.iter().rev().find_map(|happening| match happening {
            Happening::Due { late_ms, .. } => Some(*late_ms),
            _ => None,
        });
        due.is_some_and(|late_ms| late_ms <= 2_000)
    }

    // Invariants 4 and 5: may this be said?

    /// `event` is absent where a person made the change.
    pub fn check_fact(&self, before: &Job, event: Option<&Event>, entry: &Entry) {
        match &entry.fact {
            Fact::Guarding { outcome, .. } => self.check_claim(event, *outcome),
            Fact::Concluded { outcome, .. } => {
                let over = self.happened.iter().any(|happening| matches!(happening, Happening::Over(_)));
                assert!(!over, "one outcome: {:#?}", self.happened);
                self.check_outcome(before, event, *outcome, entry.at);
            }
            _ => {}
        }
    }

    fn check_outcome(&self, before: &Job, event: Option<&Event>, outcome: Outcome, now: Now) {
        match (&before.guard, event) {
            // What was proven before the guard began holds, whatever became of what was reopened.
            (Some(guard), event) => {
                assert_eq!(outcome, guard.outcome);
                let over = now.boot >= guard.began.boot + before.limits.keep_closed;
                let on_guard = before.state == State::Guarding && event == Some(&Event::Tick);
                assert!(over || !on_guard, "the guard ends early");
            }
            (None, None) => assert_eq!(outcome, Outcome::Cancelled),
            _ if outcome.claims_gone() => self.check_claim(event, outcome),
            _ if outcome == Outcome::Missed => {
                assert_eq!(self.calls, self.never_left, "missed, but something was sent");
            }
            _ => {}
        }
    }

    /// A front's silence is told only after a minute of it, and only where no call of ours may have had an effect.
    fn check_silence(&self) {
        let silent = self.happened.iter().filter_map(|happening| match happening {
            Happening::Looked { received, verdict: Verdict::Vanished { .. }, .. } => Some(received.boot.0),
            _ => None,
        });
        let since_restart = self.happened.iter().rposition(|happening| *happening == Happening::Restarted);
        let looks: Vec<i64> = silent.collect();
        let (first, last) = (looks.first().copied().unwrap_or(0), looks.last().copied().unwrap_or(0));
        let long = since_restart.is_some() || last - first >= 60_000;
        assert!(looks.len() >= 2 && long, "vanished after {} ms: {:#?}", last - first, self.happened);
        assert!(!self.may_have_ended, "vanished, but we may have ended it");
    }

    fn check_claim(&self, event: Option<&Event>, outcome: Outcome) {
        assert!(matches!(event, Some(Event::Looked { .. })), "{outcome} without a look: {event:?}");
        if outcome == Outcome::Vanished {
            return self.check_silence();
        }
        assert!(self.is_proven(), "{outcome} without proof: {:#?}", self.happened);
        let seen = self.happened.contains(&Happening::Pinned);
        let lost = self.happened.contains(&Happening::AnswerLost);
        match outcome {
            Outcome::Absent => assert!(!seen, "absent, but it was seen alive"),
            Outcome::AlreadyOver => {
                assert!(seen && !self.may_have_ended, "already over, but we may have ended it");
            }
            Outcome::Ended => assert!(seen && (self.may_have_ended || lost), "ended, but by whom?"),
            _ => panic!("{outcome} claims nothing"),
        }
    }

    /// The last look completes the proof: as many sightings as it asks for, each sent at least 2 s after the one before
    /// was received, all requested after due and after the last answer, nothing alive and no call in between.
    fn is_proven(&self) -> bool {
        // What counts was requested after these, all since the last restart.
        let after = self.happened.iter().rev().take_while(|happening| **happening != Happening::Restarted);
        let after = after.filter_map(|happening| match happening {
            Happening::Answered { at } | Happening::Due { at, .. } => Some(at.boot),
            _ => None,
        });
        let after = after.max();
        if !self.happened.iter().any(|happening| matches!(happening, Happening::Due { .. })) {
            return false;
        }
        let mut later: Option<(u8, BootMs)> = None;
        for happening in self.happened.iter().rev() {
            match happening {
                Happening::Looked { sent, received, verdict, .. } => {
                    let Some(needed) = needed(verdict) else {
                        if matches!(verdict, Verdict::Live(_) | Verdict::Occupied) {
                            return false;
                        }
                        continue;
                    };
                    let asked_in_time = after.is_none_or(|after| sent.boot >= after);
                    match later {
                        None if !asked_in_time => return false,
                        None if needed == 1 => return true,
                        None => later = Some((needed, sent.boot)),
                        Some((2, sent_later)) => {
                            if asked_in_time && sent_later.0 - received.boot.0 >= 2_000 {
                                return true;
                            }
                        }
                        Some((more, _)) => panic!("no platform asks for {more}"),
                    }
                }
                Happening::Over(_) | Happening::Moved | Happening::Due { .. } | Happening::AnswerLost => {}
                Happening::Pinned | Happening::Called | Happening::Answered { .. } | Happening::Restarted => {
                    return false;
                }
            }
        }
        false
    }

    // Invariant 6: the last word.

    pub fn check_change(&self, job: &Job, change: &Change, now: Now, result: &Result<Job, Conflict>) {
        let lost = self.happened.contains(&Happening::AnswerLost);
        let sent = self.calls > self.never_left || lost || job.guard.is_some();
        match (change, result) {
            (Change::Cancel, _) => assert_eq!(result.is_ok(), !job.is_done(), "cancel"),
            (_, Ok(changed)) => {
                assert!(!sent && !job.is_done(), "{change:?} after a call");
                check_extension(job, change, now, changed);
            }
            (Change::Hold { .. }, Err(why)) => assert!(sent || job.is_done(), "hold: {why}"),
            (Change::Move { to }, Err(why)) => {
                assert!(sent || job.is_done() || *to <= now.wall, "move: {why}");
            }
            (Change::Extend { by }, Err(why)) => {
                let too_far = job.extension_left().is_some_and(|left| left < *by);
                assert!(sent || job.is_done() || job.due + *by <= now.wall || too_far, "extend: {why}");
            }
            (_, Err(_)) => {}
        }
    }
}

/// Nothing but a new plan takes a deadline further than `max-extension` from the plan, except to end at once.
fn check_extension(job: &Job, change: &Change, now: Now, changed: &Job) {
    let planned = job.planned_due();
    match change {
        Change::Move { to } => assert_eq!((changed.planned_due(), changed.due), (*to, *to), "a new plan"),
        Change::Extend { .. } | Change::ExtendTo { .. } | Change::Release { .. } => {
            assert_eq!(changed.planned_due(), planned, "{change:?}: the plan stays");
            let latest = job.limits.max_extension.map_or(UtcMs::MAX, |max| planned + max);
            assert!(changed.due <= latest.max(job.due).max(now.wall), "{change:?}: {}", changed.due);
        }
        _ => {}
    }
}

/// Told once more: so long before due, or when the end was asked for, if that is later.
fn pin_moment(job: &Job) -> UtcMs {
    let planned = job.due.0 - i64::try_from(job.limits.pin_before.as_millis()).unwrap_or(0);
    let submitted = Some(job.submitted.wall.0).filter(|at| *at <= job.due.0 + 500);
    UtcMs(planned.max(submitted.unwrap_or(planned)).max(job.asked_at.map_or(planned, |at| at.0)))
}

fn shown(verdict: &Verdict) -> Option<&Instance> {
    match verdict {
        Verdict::Live(seen) | Verdict::Replaced { by: seen, .. } => Some(seen),
        _ => None,
    }
}

fn needed(verdict: &Verdict) -> Option<u8> {
    match verdict {
        Verdict::Gone { needed } => Some(*needed),
        Verdict::Replaced { counts: true, .. } => Some(2),
        _ => None,
    }
}
