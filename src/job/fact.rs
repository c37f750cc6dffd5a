//! The history: what happened to a job, one fact after another, and how each changes it.
//!
//! A job is the fold of its facts. Nothing but [`Job::apply`] changes the durable part of a job, so that a journal of
//! facts can rebuild it (invariant 9). The record keeps the first and the latest entries; the middle of a very long
//! history is counted, not kept.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::model::{Calls, Guard, LastSeen, LeftAlone, Pin, Sighted};
use super::step::ARM_LEAD;
use super::{
    Aim, By, EndAnswer, Instance, InstanceId, Job, JobId, Mark, Now, Order, Origin, Outcome, Run, State,
    UtcMs, Verdict, Warnings,
};

/// Entries that a record keeps: this many of the first ...
pub const KEEP_FIRST: usize = 16;
/// ... and this many of the latest.
pub const KEEP_LATEST: usize = 64;

/// Sightings that a job keeps.
const SIGHTED: usize = 8;

/// Why a look was made.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Purpose {
    /// At the pin moment, where that comes before the arm: whose meeting is it?
    Pin,
    /// Just before due: learn the instance, warm the connection.
    Arm,
    /// An end call may only follow a fresh look.
    BeforeEnd,
    /// In the end call's own turn, right before it, where the call can name only the meeting: a single question.
    Last,
    /// After an end call: is it over?
    Confirm,
    /// `keep-closed`: was it opened again?
    Guard,
    /// Once, a minute after proof: was it opened again?
    After,
}

/// Why the job of a rule was called off.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CalledOff {
    /// The sweep found the rule, or its condition, gone.
    Withdrawn,
    /// A look found more people inside than [`Job::at_most`].
    TooMany,
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(tag = "fact", rename_all = "kebab-case")]
pub enum Fact {
    Submitted {
        due: UtcMs,
        by: By,
    },
    /// Why a rule made the job.
    RuleHit {
        rule: String,
        reason: String,
    },
    /// The meeting that `max_duration` waited for is live: its time counts from this instance's start (or, where the
    /// platform does not tell that, from when it was seen), and it is the only one.
    Started {
        instance: InstanceId,
        started_at: Option<UtcMs>,
        due: UtcMs,
    },
    /// A new due time: extended, fired now, released to a time, or moved by an edit of the schedule file.
    Moved {
        to: UtcMs,
        /// The plan is as it was: `max-extension` counts from there.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        extension: bool,
        by: By,
    },
    Held {
        until: Option<UtcMs>,
        by: By,
    },
    HeldPastDue,
    /// `by` is absent where the time given with the hold ran out.
    Released {
        by: Option<By>,
    },
    Looked {
        purpose: Purpose,
        /// How long the look took.
        took_ms: u64,
        #[serde(flatten)]
        verdict: Verdict,
    },
    Pinned {
        pin: Pin,
    },
    /// A listing has shown the pinned instance.
    Listed,
    /// The first good look of the pin moment showed nobody who is ours.
    PinDecided,
    /// Another instance was pinned though nothing proves that this one is gone.
    Unproven {
        instance: InstanceId,
    },
    /// The warning of this mark may go out from now on.
    WarningClaimed(Mark),
    /// The people inside were told that the end comes, or were not.
    WarningDue {
        #[serde(flatten)]
        mark: Mark,
        delivered: bool,
        /// Not delivered yet: tried again.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        again: bool,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        instance: Option<InstanceId>,
        /// So many breakout rooms were told too.
        #[serde(default)]
        also: u32,
        /// Why not.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        why: Option<String>,
    },
    /// Still not delivered; that it could not be was said before.
    WarningPutOff {
        #[serde(flatten)]
        mark: Mark,
        why: String,
    },
    /// An end call may go out from now on.
    Claimed,
    DueReached {
        late_ms: i64,
    },
    EndSent {
        attempt: u32,
        aim: Aim,
        instance: InstanceId,
        looked_ms_ago: u64,
    },
    EndAnswered {
        attempt: u32,
        #[serde(flatten)]
        answer: EndAnswer,
    },
    /// The end call of another job stands for ours: it was made at this instance.
    Carried {
        by: JobId,
        instance: InstanceId,
    },
    /// Seen alive, or not ruled out, and yet no end call may leave.
    Blocked {
        why: String,
    },
    /// Instances that were seen shortly before a call that could name only the meeting, and were gone after it.
    MayHaveHit {
        instances: Vec<InstanceId>,
    },
    /// The pinned instance is shown alive again, though the job is done: a new deadline is made for it.
    CameBack {
        instance: InstanceId,
    },
    /// A live instance that is not ours was left alone.
    LeftAlone {
        instance: InstanceId,
        started_at: Option<UtcMs>,
    },
    /// The room was closed, so that nobody comes back.
    Locked,
    LockFailed {
        why: String,
    },
    /// A restart found a claim without an answer.
    AnswerLost,
    /// The same instance is alive though an end was accepted: send again.
    StillThere,
    /// Still alive long after acceptance.
    Stubborn,
    Overdue,
    Alarm {
        why: String,
    },
    AlarmOver,
    /// Absent, though `expect = "live"` says that it should not be.
    ExpectedLive,
    Guarding {
        outcome: Outcome,
        reason: String,
    },
    Reopened {
        instance: InstanceId,
    },
    /// Comes before the conclusion where no person cancelled the job: what made it does not apply any more.
    CalledOff {
        cause: CalledOff,
    },
    Concluded {
        outcome: Outcome,
        reason: String,
    },
    /// The daemon was started again.
    Restarted,
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Entry {
    #[serde(flatten)]
    pub at: Now,
    #[serde(flatten)]
    pub fact: Fact,
}

/// The bounded history of a record.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct History {
    /// The entries kept, oldest first.
    pub recent: Vec<Entry>,
    /// How many were left out after the first sixteen.
    #[serde(default)]
    pub left_out: u32,
}

impl History {
    /// How many facts there have been, those left out included.
    pub fn total(&self) -> usize {
        self.recent.len() + self.left_out as usize
    }

    /// The entries kept, each with its place in the whole story.
    pub fn placed(&self) -> impl Iterator<Item = (usize, &Entry)> {
        let skipped = |n| if n < KEEP_FIRST { 0 } else { self.left_out as usize };
        self.recent.iter().enumerate().map(move |(n, entry)| (n + skipped(n), entry))
    }

    fn push(&mut self, entry: Entry) {
        self.recent.push(entry);
        if self.recent.len() > KEEP_FIRST + KEEP_LATEST {
            self.recent.remove(KEEP_FIRST);
            self.left_out += 1;
        }
    }
}

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
            Fact::Listed => {
                if let Some(pin) = &mut self.pin {
                    pin.listed = true;
                }
            }
            Fact::PinDecided => self.pin_decided = true,
            Fact::Unproven { instance } => self.unproven = Some(instance.clone()),
            Fact::WarningClaimed(_) | Fact::WarningDue { .. } | Fact::WarningPutOff { .. } => {
                self.warnings.apply(fact, self.due);
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
            Fact::Guarding { .. } | Fact::Reopened { .. } | Fact::Concluded { .. } => {
                self.apply_end(at, fact);
            }
            Fact::Restarted => self.rebase(at),
        }
    }

    fn apply_pin(&mut self, at: Now, pin: &Pin) {
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
                self.only = Some(instance.clone());
                self.awaits_start = false;
            }
            Fact::Moved { to, extension, by } => {
                if self.due != *to {
                    self.warnings = Warnings::default();
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
                self.proven = Some(at);
                self.calls = Calls::default();
                self.reason.clone_from(reason);
                let began = self.guard.as_ref().map_or(at, |guard| guard.began);
                self.guard = Some(Guard { outcome: *outcome, reason: reason.clone(), began });
            }
            Fact::Reopened { .. } => {
                self.reopened_at.get_or_insert(at.wall);
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

impl Fact {
    /// Changes by people and changes of state count; arms, looks and notes do not.
    fn changes_revision(&self) -> bool {
        !matches!(
            self,
            Fact::Looked { .. }
                | Fact::Pinned { .. }
                | Fact::Listed
                | Fact::PinDecided
                | Fact::CameBack { .. }
                | Fact::Unproven { .. }
                | Fact::Blocked { .. }
                | Fact::MayHaveHit { .. }
                | Fact::LeftAlone { .. }
                | Fact::WarningClaimed(_)
                | Fact::WarningDue { .. }
                | Fact::WarningPutOff { .. }
                | Fact::Claimed
                | Fact::Locked
                | Fact::LockFailed { .. }
                | Fact::HeldPastDue
                | Fact::Stubborn
                | Fact::Overdue
                | Fact::Alarm { .. }
                | Fact::AlarmOver
                | Fact::ExpectedLive
                | Fact::RuleHit { .. }
                | Fact::CalledOff { .. }
                | Fact::Reopened { .. } // but see `apply`
                | Fact::Restarted
        )
    }

    /// Does it go out as an event? Looks are too many, and what a warning waits for is no news.
    pub fn is_event(&self) -> bool {
        !matches!(
            self,
            Fact::Looked { .. }
                | Fact::Listed
                | Fact::PinDecided
                | Fact::WarningClaimed(_)
                | Fact::WarningPutOff { .. }
                | Fact::CalledOff { .. } // the conclusion says why
        )
    }

    /// The name under which the fact goes out as an event.
    pub fn name(&self) -> &'static str {
        match self {
            Fact::Submitted { .. } => "submitted",
            Fact::RuleHit { .. } => "rule-hit",
            Fact::Started { .. } => "started",
            Fact::Moved { .. } => "moved",
            Fact::Held { .. } => "held",
            Fact::HeldPastDue => "held-past-due",
            Fact::Released { .. } => "released",
            Fact::Looked { .. } => "looked",
            Fact::Pinned { .. } => "pinned",
            Fact::Listed => "listed",
            Fact::PinDecided => "pin-decided",
            Fact::Unproven { .. } => "unproven",
            Fact::Carried { .. } => "carried",
            Fact::Blocked { .. } => "blocked",
            Fact::CameBack { .. } => "came-back",
            Fact::MayHaveHit { .. } => "may-have-hit",
            Fact::LeftAlone { .. } => "left-alone",
            Fact::WarningClaimed(_) => "warning-claimed",
            Fact::WarningDue { .. } => "warning-due",
            Fact::WarningPutOff { .. } => "warning-put-off",
            Fact::Claimed => "claimed",
            Fact::DueReached { .. } => "due-reached",
            Fact::EndSent { .. } => "end-sent",
            Fact::EndAnswered { .. } => "end-answered",
            Fact::Locked => "locked",
            Fact::LockFailed { .. } => "lock-failed",
            Fact::AnswerLost => "answer-lost",
            Fact::StillThere => "still-there",
            Fact::Stubborn => "stubborn",
            Fact::Overdue => "overdue",
            Fact::Alarm { .. } => "alarm",
            Fact::AlarmOver => "alarm-over",
            Fact::ExpectedLive => "expected-live",
            Fact::Guarding { .. } => "guarding",
            Fact::Reopened { .. } => "reopened",
            Fact::CalledOff { .. } => "called-off",
            Fact::Concluded { .. } => "concluded",
            Fact::Restarted => "restarted",
        }
    }
}
