//! Jobs from the store into memory, when they are due soon.
//!
//! ```text
//! ask (`load`) -> read beside the loop (`due_soon`) -> into memory, unless something newer is known (`loaded`)
//! ```
//!
//! After a start the schedule has its say first, as far as that is quick: a job of an entry that was taken out of the file
//! meanwhile, or says something else now, waits for the first plan; and so does an occurrence that was found late, since of
//! many only the latest is caught up with. Not for long: after five seconds a deadline comes before a plan. Only what the
//! file has dropped goes on waiting, until a plan has cancelled it. Everything else is taken up at once.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::active::Active;
use super::apply::changed;
use super::beside::beside;
use super::core::{Core, HORIZON, Inner, WRITE_RETRY};
use super::plan::Plan;
use super::reads::Ticket;
use crate::job::{BootMs, By, Change, Event, Job, JobId, Now, Origin, UtcMs};
use crate::schedule::{self, Own, OwnEntries};
use crate::store::{Store, StoreError, Stored};

/// Jobs read from the store in one go.
const PAGE: usize = 1_000;

/// The first plan of a process, as long as nothing has come of it.
pub(super) struct Undecided {
    /// The jobs that it changes, as soon as it is made.
    touched: BTreeSet<JobId>,
    /// Only what the file has dropped waits for it any longer then.
    until: BootMs,
    is_over: bool,
}

impl Undecided {
    pub fn new(until: BootMs) -> Undecided {
        Undecided { touched: BTreeSet::new(), until, is_over: false }
    }

    /// When somebody waits for it no longer.
    pub fn until(&self) -> Option<BootMs> {
        (!self.is_over).then_some(self.until)
    }

    pub fn made(&mut self, plan: &Plan) {
        self.touched = changed(plan).collect();
    }

    /// What has begun goes on, whatever the plan says.
    fn concerns(&self, job: &Job, entries: &OwnEntries<'_>, now: Now) -> bool {
        if !schedule::is_undecided(job) {
            return false;
        }
        let own = entries.say(job);
        if self.is_over {
            return own == Own::Gone;
        }
        let is_occurrence = matches!(job.origin, Origin::Schedule { of: Some(_), .. });
        own != Own::Stands || self.touched.contains(&job.id) || (is_occurrence && job.due <= now.wall)
    }
}

/// What the store says of the near future.
#[derive(Debug)]
pub(super) struct DueSoon {
    jobs: Vec<Stored>,
    /// When the next one after those has to be in memory; or why not all could be read.
    next: Result<Option<UtcMs>, StoreError>,
}

/// Reads the store, so not for an async thread.
fn due_soon(store: &dyn Store, until: UtcMs) -> DueSoon {
    let mut jobs: Vec<Stored> = Vec::new();
    loop {
        let after = jobs.last().and_then(|job| Some((job.index_wake()?, job.id)));
        match store.read_due(until, after, PAGE) {
            Err(error) => return DueSoon { jobs, next: Err(error) },
            Ok(page) => {
                let full = page.len() == PAGE;
                jobs.extend(page);
                if !full {
                    return DueSoon { jobs, next: store.next_wake(until) };
                }
            }
        }
    }
}

impl Core {
    /// Has the jobs read that are due within the horizon.
    pub(super) fn load(&mut self, now: Now) {
        // One millisecond more: a job whose time to be read is now is read now.
        let until = now.wall + HORIZON + Duration::from_millis(1);
        (self.loading, self.next_load) = (true, None);
        let ticket = self.reads.begin();
        let (store, inbox) = (self.store.clone(), self.inbox.clone());
        self.tasks.spawn(async move {
            let read = beside(move || due_soon(&*store, until)).await;
            let interrupted = || DueSoon { jobs: Vec::new(), next: Err(StoreError::Closed) };
            // The engine is gone only when the daemon is.
            let _ = inbox.send(Inner::DueSoon { ticket, read: read.unwrap_or_else(interrupted) });
        });
    }

    /// When the store has to be asked again. Not while it is.
    pub(super) fn next_load(&self) -> Option<UtcMs> {
        self.next_load.filter(|_| !self.loading)
    }

    pub(super) fn loaded(&mut self, ticket: Ticket, read: DueSoon) {
        self.loading = false;
        let left = self.reads.end(ticket);
        if self.stopping {
            return;
        }
        let now = self.now();
        let mut late = Vec::new();
        for job in self.unknown(read.jobs, &left, now) {
            match schedule::is_undecided(&job) && job.due < now.wall {
                true => late.push(job),
                false => self.adopt(job),
            }
        }
        self.adopt_late(late, now);
        match read.next {
            Ok(wake) => {
                self.store_health.has_read();
                self.load_later(wake);
            }
            Err(error) => {
                if self.store_health.not_read(&error) {
                    tracing::error!(%error, "due jobs cannot be read; tried again every second until they can be");
                }
                self.load_later(Some(now.wall + WRITE_RETRY + HORIZON));
            }
        }
    }

    /// Those of which nothing newer is known, and that need not wait.
    fn unknown(&mut self, jobs: Vec<Stored>, left: &BTreeSet<JobId>, now: Now) -> Vec<Stored> {
        let stale = jobs.iter().any(|job| left.contains(&job.id) && !self.active.contains_key(&job.id));
        let settings = self.settings.clone().filter(|_| self.plans.undecided.is_some());
        let feeds = self.feeds.clone();
        let entries = settings.as_ref().map(|settings| OwnEntries::new(&settings.schedule, &feeds));
        let undecided = self.plans.undecided.as_ref().zip(entries.as_ref());
        let waits = |job: &Job| undecided.is_some_and(|(plan, entries)| plan.concerns(job, entries, now));
        let mut unknown = jobs;
        unknown.retain(|job| {
            // A new job is taken up when its submit is answered.
            let known = self.active.contains_key(&job.id) || self.submitting.contains_key(&job.id);
            !known && !left.contains(&job.id) && !waits(job)
        });
        if stale {
            self.next_load = Some(UtcMs(0));
        }
        unknown
    }

    /// Of those that were found late, only the latest of an entry is caught up with.
    fn adopt_late(&mut self, late: Vec<Stored>, now: Now) {
        if late.is_empty() {
            return;
        }
        let here = self.active.values().filter(|active| !active.is_locked()).map(|active| &active.job);
        let mut overtaken = schedule::overtaken(late.iter().map(|job| &**job).chain(here), now.wall);
        for job in late {
            if overtaken.contains_key(&job.id) {
                self.active.insert(job.id, Active::recovered(job, now));
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
                    self.step(id, Event::Tick);
                }
            }
        }
    }

    /// The plan of the start is applied: what waited for it is read now.
    pub(super) fn start_is_decided(&mut self) {
        if self.plans.undecided.take().is_some() {
            self.next_load = Some(UtcMs(0));
        }
    }

    /// The plan of the start has come to nothing, or takes too long: a deadline comes before a plan.
    pub(super) fn give_up_waiting(&mut self) {
        if let Some(undecided) = &mut self.plans.undecided
            && !std::mem::replace(&mut undecided.is_over, true)
        {
            self.next_load = Some(UtcMs(0));
        }
    }

    pub(super) fn stop_waiting_for_the_start(&mut self, now: BootMs) {
        let until = self.plans.undecided.as_ref().and_then(Undecided::until);
        if until.is_some_and(|until| now >= until) {
            self.give_up_waiting();
        }
    }

    /// Takes a job from the store into memory.
    pub(super) fn adopt(&mut self, job: Stored) {
        let id = job.id;
        self.active.insert(id, Active::stored(job));
        self.step(id, Event::Loaded);
        self.note_recovered(id);
    }

    /// What an earlier process may have called at counts for all jobs.
    pub(super) fn note_recovered(&mut self, id: JobId) {
        if let Some(Active { job, .. }) = self.active.get(&id)
            && let Some(pin) = &job.pin
            && (job.calls.unclean || job.calls.accepted.is_some())
        {
            let accepted = job.calls.last_accepted.or(job.calls.accepted);
            self.book.recovered(&pin.instance, id, accepted, job.calls.unclean);
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

    /// Drops a job from memory. What the store is being asked about it now may be older than what was written of it.
    pub(super) fn let_go(&mut self, id: JobId) -> Option<Active> {
        self.reads.leaves(id);
        self.active.remove(&id)
    }
}

/// Jobs that a plan is about and that were not in memory, as they were read for it.
pub(super) type Fetched = BTreeMap<JobId, Stored>;
