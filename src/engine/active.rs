//! One job in memory, and how it gets to disk.
//!
//! Two kinds of writes. What the engine itself learns (a look, a claim, an answer) is true at once and written behind:
//! one write in flight a job, the latest state next, again and again while the disk refuses. What a person asks for is
//! true only when it is durable: until its write is answered the job is locked, and whatever happens to it waits.

use std::collections::VecDeque;
use std::sync::Arc;

use tokio::sync::broadcast::Sender;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;
use tracing::Level;

use super::api::{Notice, Receipt, Refusal, Told};
use crate::job::{By, Change, Event, Fact, Job, JobView, Now, Outcome, UtcMs, Wake, Warning, recovered};
use crate::store::Stored;

pub(super) type Reply = oneshot::Sender<Result<Receipt, Refusal>>;

/// A person's change of a job.
#[derive(Debug)]
pub(super) struct ChangeRequest {
    pub if_match: Option<u64>,
    /// How far the job had come when this was decided on, if that matters.
    pub version: Option<usize>,
    pub change: Change,
    pub by: By,
    pub reply: Reply,
}

/// What waits for a locked job.
#[derive(Debug)]
pub(super) enum Deferred {
    Event(Event),
    Change(ChangeRequest),
}

/// The write in flight.
#[derive(Debug)]
pub(super) enum Writing {
    /// What the engine learned; the snapshot that is being written.
    Behind(Box<Job>),
    /// What a person asked for: becomes the job if, and only if, it is durable.
    Request { candidate: Box<Job>, reply: Reply },
    /// The same for what a plan of the schedule asks for, together with all its other changes.
    Plan(Box<Job>),
}

#[derive(Debug)]
pub(super) struct Active {
    pub job: Job,
    /// The revision in the store.
    pub stored: u64,
    /// Facts that are durable (and have gone out as events).
    pub published: usize,
    pub writing: Option<Writing>,
    /// When it was locked.
    locked: Option<UtcMs>,
    pub deferred: VecDeque<Deferred>,
    /// The lane had room while the job was locked.
    pub missed_slot: bool,
    pub missed_warning: bool,
    /// Where the job stands in the wake queues.
    pub wake: Wake,
    /// End calls that wait for their claim to be durable.
    pub claim_waiters: Vec<oneshot::Sender<()>>,
    /// Warnings that wait for theirs.
    pub warning_waiters: Vec<oneshot::Sender<()>>,
    /// Calls off the warning on its way, as far as it has not left.
    pub recall: CancellationToken,
}

impl Active {
    /// A job as the store has it. The only other way into memory is that of a new job whose write was just answered.
    pub fn stored(job: Stored) -> Active {
        Active::written(job.into_job())
    }

    /// A new job that has become durable a moment ago.
    pub fn written(job: Job) -> Active {
        Active {
            stored: job.revision,
            published: job.history.total(),
            job,
            writing: None,
            locked: None,
            deferred: VecDeque::new(),
            missed_slot: false,
            missed_warning: false,
            wake: Wake::default(),
            claim_waiters: Vec::new(),
            warning_waiters: Vec::new(),
            recall: CancellationToken::new(),
        }
    }

    /// As the store has it, with what an earlier process left behind noted, but not written.
    pub fn recovered(job: Stored, now: Now) -> Active {
        let mut active = Active::stored(job);
        active.job = recovered(active.job, now);
        active
    }

    /// A change by a person or by the schedule is on its way to disk.
    pub fn is_locked(&self) -> bool {
        matches!(self.writing, Some(Writing::Request { .. } | Writing::Plan(_)))
    }

    /// From now on, until that is written.
    pub fn lock(&mut self, writing: Writing, now: Now) {
        self.writing = Some(writing);
        self.locked = Some(now.wall);
    }

    /// The write has been answered. If the due of the job passed meanwhile, nobody was late.
    pub fn unlocked(&mut self, now: Now) {
        if self.is_locked() {
            return;
        }
        if self.locked.take().is_some_and(|since| (since..=now.wall).contains(&self.job.due)) {
            self.job.run.kept_waiting = true;
        }
    }

    /// Something has happened that is not on disk.
    pub fn is_dirty(&self) -> bool {
        self.job.history.total() > self.published
    }

    pub fn claim_is_durable(&self) -> bool {
        self.job.claimed.is_some() && !self.is_dirty()
    }

    /// Nothing keeps it in memory but its wake-up time.
    pub fn is_quiet(&self) -> bool {
        self.job.is_idle()
            && self.job.run.warning == Warning::Idle
            && self.writing.is_none()
            && !self.is_dirty()
            && self.deferred.is_empty()
    }

    pub fn is_warning(&self) -> bool {
        matches!(self.job.run.warning, Warning::Sending(_))
    }

    /// A change that was asked for has become durable.
    pub fn becomes(&mut self, candidate: Job) {
        self.stored = candidate.revision;
        self.job = candidate;
        self.recall_warning();
    }

    /// What the people inside are being told must not go by a deadline that is none any more.
    pub fn recall_warning(&self) {
        if let Warning::Sending(mark) = self.job.run.warning
            && !self.job.still_warns(mark)
        {
            self.recall.cancel();
        }
    }

    pub fn wake_warning_waiters(&mut self) {
        for waiter in self.warning_waiters.drain(..) {
            // The warning may have left without waiting any longer.
            let _ = waiter.send(());
        }
    }

    /// Takes the facts that have become durable, as events.
    pub fn publish(&mut self, durable: usize, now: Now) -> Vec<Notice> {
        let from = self.published;
        self.published = from.max(durable);
        notices(&self.job, from, self.published, now)
    }

    pub fn wake_claim_waiters(&mut self) {
        for waiter in self.claim_waiters.drain(..) {
            // The call may have left without waiting any longer.
            let _ = waiter.send(());
        }
    }
}

/// The facts `from..to` of a job as events.
pub(super) fn notices(job: &Job, from: usize, to: usize, now: Now) -> Vec<Notice> {
    let total = job.history.total();
    let fresh = job.history.recent.iter().rev().skip(total - to).take(to - from);
    let mut notices: Vec<Notice> = fresh
        .filter(|entry| entry.fact.is_event())
        .map(|entry| Notice {
            event: entry.fact.name().to_owned(),
            text: entry.fact.to_string(),
            at: entry.at.wall.to_string(),
            server: job.server.clone(),
            job: Some(JobView::new(job, now)),
            told: told(&entry.fact),
        })
        .collect();
    notices.reverse();
    notices
}

fn told(fact: &Fact) -> Option<Told> {
    let Fact::WarningDue { mark, delivered, .. } = fact else { return None };
    Some(Told { mark: humantime::format_duration(mark.before).to_string(), delivered: *delivered })
}

/// Sends events to whoever listens, and to the log.
pub(super) fn announce(events: &Sender<Arc<Notice>>, notices: Vec<Notice>) {
    notices.iter().for_each(log);
    tell(events, notices);
}

/// Sends events to whoever listens.
pub(super) fn tell(events: &Sender<Arc<Notice>>, notices: Vec<Notice>) {
    for notice in notices {
        // Nobody listening is fine.
        let _ = events.send(Arc::new(notice));
    }
}

/// Sends an event to the log.
pub(super) fn log(notice: &Notice) {
    let Notice { event, text, server, job, .. } = notice;
    let (id, meeting) =
        job.as_ref().map_or((String::new(), ""), |job| (job.id.short(), job.meeting.as_str()));
    match level(event, job.as_ref().and_then(|job| job.outcome)) {
        Level::ERROR => tracing::error!(%server, meeting, job = id, event, "{text}"),
        Level::WARN => tracing::warn!(%server, meeting, job = id, event, "{text}"),
        Level::INFO => tracing::info!(%server, meeting, job = id, event, "{text}"),
        _ => tracing::debug!(%server, meeting, job = id, event, "{text}"),
    }
}

/// How loud an event is in the log. A meeting that goes as planned is one line, its conclusion; what people change is
/// told too; every other step is for those who look for it.
fn level(event: &str, outcome: Option<Outcome>) -> Level {
    match event {
        "concluded" => match outcome {
            Some(Outcome::Failed | Outcome::Missed) => Level::ERROR,
            Some(Outcome::Unconfirmed | Outcome::Superseded) => Level::WARN,
            _ => Level::INFO,
        },
        "alarm"
        | "server-alarm"
        | "expected-live"
        | "overdue"
        | "stubborn"
        | "held-past-due"
        | "lock-failed"
        | "came-back"
        | "left-open"
        | "warnings-unsupported" => Level::WARN,
        "moved" | "held" | "released" | "alarm-over" | "reopened" | "guarding" | "rule-hit"
        | "rule-would-hit" => Level::INFO,
        _ => Level::DEBUG,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_went_wrong_is_louder_than_what_went_well() {
        let concluded = |outcome| level("concluded", Some(outcome));
        assert_eq!([Outcome::Failed, Outcome::Missed].map(concluded), [Level::ERROR; 2]);
        assert_eq!([Outcome::Unconfirmed, Outcome::Superseded].map(concluded), [Level::WARN; 2]);
        let well = [Outcome::Ended, Outcome::AlreadyOver, Outcome::Absent, Outcome::Cancelled];
        assert_eq!(well.map(concluded), [Level::INFO; 4]);
        let steps = ["submitted", "due-reached", "end-sent", "end-answered", "pinned", "warning-due"];
        assert_eq!(steps.map(|step| level(step, None)), [Level::DEBUG; 6]);
        assert_eq!(level("overdue", None), Level::WARN);
        assert_eq!(level("moved", None), Level::INFO);
    }
}
