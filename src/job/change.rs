//! What people may change, and until when.
//!
//! The last word wins: until an end call has been sent, extend, hold and cancel succeed, even past due. Afterwards extend
//! and hold are refused with the time of the sending; cancel stops further calls and says so.

use std::time::Duration;

use super::model::Pin;
use super::{By, CalledOff, Fact, Job, LiveMeeting, Now, Outcome, State, UtcMs};

/// The way of a request from its sender to the decision takes no longer than this.
const JUST_NOW: Duration = Duration::from_millis(500);

/// A change that a person, or the schedule file, asks for.
#[derive(Clone, PartialEq, Debug)]
pub enum Change {
    /// A new due time: a new plan, from which extensions count anew.
    Move {
        to: UtcMs,
    },
    /// The old due time, and so much more; within `max-extension`.
    Extend {
        by: Duration,
    },
    /// A later time for the same plan (an earlier one is no extension); within `max-extension`.
    ExtendTo {
        until: UtcMs,
    },
    /// Aside until released; `until`: back by itself, if its due has not passed by then.
    Hold {
        until: Option<UtcMs>,
    },
    /// Back to waiting; `due` is needed where the old one has passed. A later one is an extension.
    Release {
        due: Option<UtcMs>,
    },
    /// Due is now.
    Fire,
    Cancel,
    /// The meeting that `max_duration` waits for was seen live; `sent`: when that was asked.
    Start {
        live: LiveMeeting,
        sent: Now,
    },
    /// What a rule asked for does not apply any more.
    Withdraw {
        reason: String,
    },
    /// Found late, and a later deadline of the same entry stands for it.
    Miss {
        reason: String,
    },
}

/// Why a change was refused. The job is as it was.
#[derive(Clone, PartialEq, Debug, thiserror::Error)]
#[error("{what}")]
pub struct Conflict {
    pub what: String,
    pub hint: String,
}

/// Whole seconds; what is less than one to the millisecond.
fn words(time: Duration) -> String {
    let whole = Duration::from_secs(time.as_secs());
    humantime::format_duration(if whole.is_zero() { time } else { whole }).to_string()
}

fn conflict<T>(what: impl Into<String>, hint: impl Into<String>) -> Result<T, Conflict> {
    Err(Conflict { what: what.into(), hint: hint.into() })
}

impl Job {
    /// The job after a change, or why it cannot be. Requests in flight stay in flight; their answers will find a job
    /// that does not want them any more.
    pub fn change(&self, change: &Change, by: By, now: Now) -> Result<Job, Conflict> {
        let mut job = self.clone();
        if job.is_done() {
            let outcome = job.outcome.map_or("", Outcome::as_str);
            return conflict(
                format!("job {} is done ({outcome}) and cannot be changed", job.id.short()),
                format!("see what happened with: adjourn show {}", job.id.short()),
            );
        }
        match change {
            Change::Cancel => job.cancel(&by, now),
            Change::Move { to } => job.move_to(*to, false, by, now)?,
            Change::Extend { .. } if job.due.is_never() => return job.not_started(),
            Change::Extend { by: more } => job.move_to(job.due + *more, true, by, now)?,
            Change::ExtendTo { until } => job.move_to(*until, true, by, now)?,
            Change::Hold { until } => job.hold(*until, by, now)?,
            Change::Release { due } => job.release(*due, by, now)?,
            Change::Fire => job.fire(by, now)?,
            Change::Start { live, sent } => job.start(live, *sent, now)?,
            Change::Withdraw { reason } => job.withdraw(reason, now)?,
            Change::Miss { reason } => job.miss(reason, now)?,
        }
        Ok(job)
    }

    /// The due time as planned: that of the submit, or of the latest move that was no extension.
    pub fn planned_due(&self) -> UtcMs {
        self.extended_from.unwrap_or(self.due)
    }

    /// How far people have pushed the deadline.
    pub fn extended_by(&self) -> Duration {
        Duration::from_millis(u64::try_from(self.due.ms_since(self.planned_due())).unwrap_or(0))
    }

    /// How far they may push it still; `None`: without a limit.
    pub fn extension_left(&self) -> Option<Duration> {
        self.limits.max_extension.map(|max| max.saturating_sub(self.extended_by()))
    }

    /// No end call has gone out, nor may have. One that could not leave the machine has not gone out.
    pub fn unsent(&self) -> bool {
        self.end_sent_at.is_none() && !self.calls.lost && !self.ended_by_us && self.guard.is_none()
    }

    /// Cancelled by the schedule file before anything was sent: it comes back when the file wants it again.
    pub fn was_withdrawn(&self) -> bool {
        self.outcome == Some(Outcome::Cancelled) && self.reason == cancelled_by(&By::Schedule)
    }

    fn require_unsent(&self, verb: &str) -> Result<(), Conflict> {
        if self.unsent() {
            return Ok(());
        }
        let sent = self.end_sent_at.map_or("before a restart".to_owned(), |at| format!("at {at}"));
        conflict(
            format!("job {} cannot be {verb}: its end call was sent {sent}", self.id.short()),
            format!(
                "follow it with: adjourn wait {0}; stop further calls with: adjourn cancel {0}",
                self.id.short()
            ),
        )
    }

    fn move_to(&mut self, to: UtcMs, extension: bool, by: By, now: Now) -> Result<(), Conflict> {
        self.require_unsent(if extension { "extended" } else { "moved" })?;
        self.require_ahead(to, now.wall + Duration::from_millis(1))?;
        if extension {
            self.require_within_limit(to, now)?;
        }
        self.record(now, Fact::Moved { to, extension, by });
        self.start_over();
        Ok(())
    }

    /// A due time from `earliest` on, and one that a calendar can show.
    fn require_ahead(&self, to: UtcMs, earliest: UtcMs) -> Result<(), Conflict> {
        let id = self.id.short();
        if to < earliest {
            return conflict(
                format!("the new due time {to} of job {id} has already passed"),
                format!("give a time with --until, or end the meeting now: adjourn fire {id}"),
            );
        }
        if to > UtcMs::MAX {
            return conflict(
                format!("the new due time of job {id} is too far away, after {}", UtcMs::MAX),
                format!("give an earlier time: adjourn extend {id} --until TIME"),
            );
        }
        Ok(())
    }

    /// No later than `max-extension` allows. What ends at once is never too late.
    fn require_within_limit(&self, to: UtcMs, now: Now) -> Result<(), Conflict> {
        let Some(max) = self.limits.max_extension else { return Ok(()) };
        let latest = self.planned_due() + max;
        if to <= latest.max(self.due).max(now.wall) {
            return Ok(());
        }
        let (id, max, used) = (self.id.short(), words(max), words(self.extended_by()));
        let anew = "a new plan is made by who owns the deadline, in the schedule file or with PATCH";
        if latest <= now.wall.max(self.due) {
            return conflict(
                format!("job {id} may not be extended any more: max-extension is {max}, {used} are used"),
                format!("{anew}; to end the meeting at once: adjourn fire {id}"),
            );
        }
        let left = words(self.extension_left().unwrap_or_default());
        conflict(
            format!("job {id} may be extended by {left} more: max-extension is {max}, {used} are used"),
            format!("extend it by the rest: adjourn extend {id} --until {latest}; {anew}"),
        )
    }

    fn hold(&mut self, until: Option<UtcMs>, by: By, now: Now) -> Result<(), Conflict> {
        self.require_unsent("held")?;
        self.record(now, Fact::Held { until, by });
        self.start_over();
        Ok(())
    }

    fn release(&mut self, due: Option<UtcMs>, by: By, now: Now) -> Result<(), Conflict> {
        let id = self.id.short();
        if self.state != State::Held {
            return conflict(
                format!("job {id} is not held, it is {}", self.state),
                format!("see it with: adjourn show {id}"),
            );
        }
        // "Now" was a moment ago when it was asked for.
        let just_now = |at: UtcMs| if at >= now.wall - JUST_NOW { at.max(now.wall) } else { at };
        let to = due.map_or(self.due, just_now);
        if to.is_never() {
            self.record(now, Fact::Released { by: Some(by) });
            self.start_over();
            return Ok(());
        }
        if due.is_none() && to <= now.wall {
            return conflict(
                format!("the due time {to} of job {id} passed while it was held"),
                format!("say when: adjourn release {id} --now, or adjourn release {id} --until TIME"),
            );
        }
        self.require_ahead(to, now.wall)?;
        self.require_within_limit(to, now)?;
        self.record(now, Fact::Released { by: Some(by.clone()) });
        if to != self.due {
            self.record(now, Fact::Moved { to, extension: true, by });
        }
        self.start_over();
        Ok(())
    }

    fn fire(&mut self, by: By, now: Now) -> Result<(), Conflict> {
        self.require_unsent("fired")?;
        match self.state {
            State::Held => self.record(now, Fact::Released { by: Some(by.clone()) }),
            State::Waiting => {}
            _ => {
                let id = self.id.short();
                return conflict(
                    format!("job {id} is due already and at work"),
                    format!("follow it with: adjourn wait {id}"),
                );
            }
        }
        self.record(now, Fact::Moved { to: now.wall, extension: false, by });
        self.start_over();
        Ok(())
    }

    fn not_started<T>(&self) -> Result<T, Conflict> {
        let id = self.id.short();
        conflict(
            format!("job {id} has no time yet that could be extended: its meeting has not started"),
            format!("give a time: adjourn extend {id} --until TIME"),
        )
    }

    /// The time counts from the start of this instance. A limit that has passed already is due now, and not late.
    fn start(&mut self, live: &LiveMeeting, sent: Now, now: Now) -> Result<(), Conflict> {
        let id = self.id.short();
        let waits = self.awaits_start && matches!(self.state, State::Waiting | State::Held);
        let Some(limit) = self.max_duration.filter(|_| waits) else {
            return conflict(
                format!("job {id} does not wait for the start of its meeting"),
                format!("see it with: adjourn show {id}"),
            );
        };
        let is_ours =
            live.meeting == self.meeting && self.only.as_ref().is_none_or(|id| *id == live.instance);
        if !is_ours {
            return conflict(
                format!("job {id} waits for another meeting than instance {}", live.instance),
                format!("see it with: adjourn show {id}"),
            );
        }
        let since = live.started_at.map_or(sent.wall, |at| at.min(sent.wall));
        let due = (since + limit).max(now.wall).min(self.due);
        self.record(now, Fact::Started { instance: live.instance.clone(), started_at: live.started_at, due });
        if self.pin.as_ref().is_none_or(|pin| pin.instance != live.instance) {
            self.record(now, Fact::Pinned { pin: Pin::of_listed(live, sent) });
        }
        self.start_over();
        Ok(())
    }

    fn withdraw(&mut self, reason: &str, now: Now) -> Result<(), Conflict> {
        self.require_unsent("withdrawn")?;
        self.record(now, Fact::CalledOff { cause: CalledOff::Withdrawn });
        self.record(now, Fact::Concluded { outcome: Outcome::Cancelled, reason: reason.to_owned() });
        self.start_over();
        Ok(())
    }

    fn miss(&mut self, reason: &str, now: Now) -> Result<(), Conflict> {
        self.require_unsent("given up as missed")?;
        let outcome = Outcome::Missed;
        self.record(now, Fact::Concluded { outcome, reason: reason.to_owned() });
        self.start_over();
        Ok(())
    }

    fn cancel(&mut self, by: &By, now: Now) {
        let (outcome, reason) = match (&self.guard, self.end_sent_at) {
            (Some(guard), _) => (guard.outcome, format!("{}; guarding cancelled by {by}", guard.reason)),
            (None, Some(sent)) => (
                Outcome::Cancelled,
                format!(
                    "cancelled by {by} after an end call was sent at {sent}: its effect was not followed"
                ),
            ),
            (None, None) if !self.unsent() => (
                Outcome::Cancelled,
                format!(
                    "cancelled by {by} after an end call may have been sent: its effect was not followed"
                ),
            ),
            (None, None) => (Outcome::Cancelled, cancelled_by(by)),
        };
        self.record(now, Fact::Concluded { outcome, reason });
        self.start_over();
    }

    /// Forgets what was going on, except what is still to be answered.
    fn start_over(&mut self) {
        self.run = self.run.start_over();
    }
}

fn cancelled_by(by: &By) -> String {
    format!("cancelled by {by}")
}
