//! Jobs from the store into memory, when they are due soon.
//!
//! Some are found late: by a daemon that was down, or on a machine that slept. What is to become of them the schedule says
//! first: its entry may be gone or moved meanwhile, and of many occurrences of one entry only the latest is caught up with.
//! So none of them is taken up while the first plan of a process is undecided, which takes as long as one write; and if
//! that plan comes to nothing, a deadline comes before a plan.

use std::collections::BTreeSet;
use std::time::Duration;

use super::active::Active;
use super::core::{Core, HORIZON, WRITE_RETRY};
use super::plan::{Plan, Work};
use crate::job::{BootMs, By, Change, Event, Job, JobId, Now, Origin, State, UtcMs};
use crate::schedule;

/// Jobs read from the store in one go.
const PAGE: usize = 1_000;

/// The first plan of a process, as long as nothing has come of it.
pub(super) struct Undecided {
    /// The jobs that it changes.
    pub touched: BTreeSet<JobId>,
    /// Nothing waits for it any longer then.
    pub until: BootMs,
}

impl Undecided {
    pub fn new(plan: &Plan, until: BootMs) -> Undecided {
        let changes = plan.steps.iter().filter_map(|step| match &step.work {
            Work::Change(job, _) => Some(job.id),
            Work::Nothing | Work::Submit(_) => None,
        });
        Undecided { touched: changes.collect(), until }
    }

    /// What has begun goes on, whatever the plan says.
    fn concerns(&self, job: &Job, now: Now) -> bool {
        let scheduled = matches!(job.origin, Origin::Schedule { .. }) && schedule::is_undecided(job);
        scheduled && (job.due <= now.wall || self.touched.contains(&job.id))
    }
}

/// Why a plan cannot be applied now.
pub(super) enum Hindrance {
    /// A write of this job is on its way.
    Busy(JobId),
    /// It is not what was read any more.
    Changed(JobId),
}

impl Core {
    /// Reads the jobs that are due within the horizon.
    pub(super) fn load(&mut self, now: Now) {
        // One millisecond more: a job whose time to be read is now is read now.
        let until = now.wall + HORIZON + Duration::from_millis(1);
        let (mut after, mut late) = (None, Vec::new());
        loop {
            let page = match self.store.due_before(until, after, PAGE) {
                Ok(page) => page,
                Err(error) => {
                    tracing::error!(%error, "due jobs cannot be read; trying again in a second");
                    (self.store_error, self.unreadable) = (Some(error.to_string()), true);
                    self.adopt_late(late, now);
                    self.next_load = Some(now.wall + WRITE_RETRY);
                    return;
                }
            };
            let full = page.len() == PAGE;
            after = page.last().and_then(|job| Some((job.index_wake()?, job.id)));
            for job in page {
                // A new job is taken up when its submit is answered.
                let known = self.active.contains_key(&job.id) || self.submitting.contains_key(&job.id);
                let undecided = self.plans.undecided.as_ref();
                if known || undecided.is_some_and(|plan| plan.concerns(&job, now)) {
                    continue;
                }
                match schedule::is_undecided(&job) && job.due < now.wall {
                    true => late.push(job),
                    false => self.adopt(job),
                }
            }
            if !full {
                break;
            }
        }
        self.adopt_late(late, now);
        self.next_load = match self.store.next_wake(until) {
            Ok(wake) => {
                if std::mem::take(&mut self.unreadable) {
                    self.store_error = None;
                }
                wake.map(|at| at - HORIZON)
            }
            Err(error) => {
                (self.store_error, self.unreadable) = (Some(error.to_string()), true);
                Some(now.wall + WRITE_RETRY)
            }
        };
    }

    /// Of those that were found late, only the latest of an entry is caught up with.
    fn adopt_late(&mut self, late: Vec<Job>, now: Now) {
        if late.is_empty() {
            return;
        }
        let here = self.active.values().filter(|active| !active.is_locked()).map(|active| &active.job);
        let mut overtaken = schedule::overtaken(late.iter().chain(here), now.wall);
        for job in late {
            if overtaken.contains_key(&job.id) {
                self.active.insert(job.id, Active::new(job));
            } else {
                self.adopt(job);
            }
        }
        while let Some((id, reason)) = overtaken.pop_first() {
            let Some(active) = self.active.get_mut(&id) else { continue };
            match active.job.change(&Change::Miss { reason }, By::Schedule, now) {
                Ok(missed) => {
                    active.job = missed;
                    self.settle(id);
                }
                Err(_) => {
                    self.step(id, Event::Loaded);
                }
            }
        }
    }

    /// The plan of the start is applied, or has come to nothing: what waited for it is read now.
    pub(super) fn start_is_decided(&mut self) {
        if self.plans.undecided.take().is_some() {
            self.next_load = Some(UtcMs(0));
        }
    }

    pub(super) fn stop_waiting_for_the_start(&mut self, now: BootMs) {
        if self.plans.undecided.as_ref().is_some_and(|undecided| now >= undecided.until) {
            self.start_is_decided();
        }
    }

    /// Takes a job from the store into memory.
    pub(super) fn adopt(&mut self, job: Job) {
        let id = job.id;
        self.active.insert(id, Active::new(job));
        self.step(id, Event::Loaded);
        if let Some(Active { job, .. }) = self.active.get(&id)
            && let Some(pin) = &job.pin
            && (job.calls.unclean || job.calls.accepted.is_some())
        {
            self.book.recovered(&pin.instance, id, job.calls.accepted.is_some(), job.calls.unclean);
        }
    }

    /// A job that has just been written and need not be in memory now.
    pub(super) fn load_later(&mut self, wake: Option<UtcMs>) {
        let at = wake.map(|at| at - HORIZON);
        self.next_load = [self.next_load, at].into_iter().flatten().min();
    }

    pub(super) fn is_near(&self, wake: UtcMs) -> bool {
        wake <= self.now().wall + HORIZON
    }

    /// Whether something stands against a plan, in memory or in what a crash has left behind.
    pub(super) fn hindrance(&mut self, plan: &Plan) -> Option<Hindrance> {
        for step in &plan.steps {
            let Work::Change(read, _) = &step.work else { continue };
            let id = read.id;
            let near = read.index_wake().is_some_and(|wake| self.is_near(wake));
            if near && !self.active.contains_key(&id) && !is_untouched(read) {
                // It was about to be read: a call or a warning that may have gone out is known before anything is changed.
                match self.store.get(id) {
                    Ok(Some(job)) if !job.is_done() => self.adopt(job),
                    _ => return Some(Hindrance::Changed(id)),
                }
            }
            match self.active.get(&id) {
                Some(active) if active.writing.is_some() => return Some(Hindrance::Busy(id)),
                Some(active) if active.job.revision != read.revision => {
                    return Some(Hindrance::Changed(id));
                }
                _ => {}
            }
        }
        None
    }
}

/// Nothing that concerns others has been begun for it: neither a call nor a warning.
fn is_untouched(job: &Job) -> bool {
    matches!(job.state, State::Waiting | State::Held)
        && schedule::is_undecided(job)
        && job.warnings.claimed.is_none()
}
