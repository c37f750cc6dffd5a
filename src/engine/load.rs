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

#[cfg(test)]
mod tests {
    use super::super::tests::still::{job, pinned, put, still};
    use super::*;
    use crate::job::{EndAnswer, Fact, Outcome};
    use crate::schedule::{Feeds, Schedule};

    const MINUTE: Duration = Duration::from_secs(60);

    /// What the store says now of all that is due within an hour.
    fn read(core: &Core) -> DueSoon {
        due_soon(&*core.store, core.now().wall + 60 * MINUTE)
    }

    fn occurrence(n: u128, due: UtcMs) -> Job {
        let origin = Origin::Schedule { name: format!("daily@{n}"), of: Some("daily".into()), planned: due };
        job(n, due, origin)
    }

    #[tokio::test]
    async fn what_left_memory_during_a_read_is_read_once_more() {
        let (mut core, _inner) = still();
        let job = job(1, core.now().wall + MINUTE, Origin::Api);
        put(&core, &job);
        core.active.insert(job.id, Active::written(job.clone()));
        let ticket = core.reads.begin();
        let old = read(&core);
        core.forget(job.id);
        core.next_load = None;
        core.loaded(ticket, old);
        assert!(!core.active.contains_key(&job.id), "what was read may be older than what was acknowledged");
        assert_eq!(core.next_load, Some(UtcMs(0)));
        let ticket = core.reads.begin();
        let new = read(&core);
        core.loaded(ticket, new);
        assert!(core.active.contains_key(&job.id));
    }

    #[tokio::test]
    async fn a_job_whose_submit_is_not_answered_is_not_taken_up_from_the_disk() {
        let (mut core, _inner) = still();
        let job = job(1, core.now().wall + MINUTE, Origin::Api);
        put(&core, &job);
        core.submitting.insert(job.id, job.server.clone());
        let (ticket, page) = (core.reads.begin(), read(&core));
        core.loaded(ticket, page);
        assert!(core.active.is_empty());
    }

    #[tokio::test]
    async fn what_cannot_be_read_is_read_again_in_a_second() {
        let (mut core, _inner) = still();
        core.next_load = None;
        let ticket = core.reads.begin();
        core.loaded(ticket, DueSoon { jobs: Vec::new(), next: Err(StoreError::Closed) });
        let again = core.next_load().expect("it is read again").ms_since(core.now().wall);
        assert!((500..=1_000).contains(&again) && core.store_health.error().is_some(), "{again}");
        core.loading = true;
        assert_eq!(core.next_load(), None, "one read at a time");
    }

    /// Also a lost answer of an earlier process spoils the proof of every job on the instance.
    #[tokio::test]
    async fn what_an_earlier_process_called_at_is_known_to_all() {
        let now = crate::clock::system_now();
        let accepted = Fact::EndAnswered { attempt: 1, answer: EndAnswer::Accepted };
        for (fact, expected) in [(Fact::AnswerLost, (true, false)), (accepted, (false, true))] {
            let (mut core, _inner) = still();
            let mut job = pinned(1, now.wall - MINUTE);
            job.record(now, Fact::DueReached { late_ms: 0 });
            job.record(now, fact);
            put(&core, &job);
            let (ticket, page) = (core.reads.begin(), read(&core));
            core.loaded(ticket, page);
            let instance = "i".into();
            let known = (core.book.has_failed(&instance), core.book.accepted_by(&instance).is_some());
            assert_eq!(known, expected);
        }
    }

    #[tokio::test]
    async fn a_later_one_that_is_in_memory_stands_for_an_older_late_one() {
        let (mut core, _inner) = still();
        let (old, new) = (core.now().wall - 20 * MINUTE, core.now().wall - 10 * MINUTE);
        let (old, new) = (occurrence(1, old), occurrence(2, new));
        put(&core, &old);
        core.active.insert(new.id, Active::written(new));
        let (ticket, page) = (core.reads.begin(), read(&core));
        core.loaded(ticket, page);
        assert_eq!(core.active[&old.id].job.outcome, Some(Outcome::Missed));
    }

    #[test]
    fn what_the_first_plan_changes_waits_for_it_and_for_no_longer_than_that() {
        let now = crate::clock::system_now();
        let origin = Origin::Schedule { name: "exam".into(), of: None, planned: now.wall + MINUTE };
        let job = job(1, now.wall + MINUTE, origin);
        let entry = schedule::Entry {
            identity: "exam".into(),
            of: None,
            server: job.server.clone(),
            meeting: job.meeting.clone(),
            instance: None,
            at: job.due,
            limits: job.limits.clone(),
        };
        let (feeds, with) = (Feeds::default(), Schedule { entries: vec![entry], ..Schedule::default() });
        let entries = OwnEntries::new(&with, &feeds);
        let mut plan = Undecided::new(now.boot);
        assert!(!plan.concerns(&job, &entries, now));
        plan.touched.insert(job.id);
        assert!(plan.concerns(&job, &entries, now));
        plan.is_over = true;
        assert!(!plan.concerns(&job, &entries, now));
        let without = Schedule::default();
        assert!(plan.concerns(&job, &OwnEntries::new(&without, &feeds), now), "the file has dropped it");
    }
}
