//! A plan of the schedule, applied.
//!
//! ```text
//! read the jobs (beside the loop) -> lock them -> one commit -> the new settings are true -> answer
//! ```
//!
//! A plan carries no jobs, only their ids and how far each had come. What it changes is in memory, or is taken there from a
//! read of the store in the very turn in which that is answered; if anything has happened to it since the plan was made,
//! the plan is made anew.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::active::{Active, Writing, announce, notices, tell};
use super::api::{PlannedAction, PlannedChange, Refusal, RefusalKind, Reloaded};
use super::beside::beside;
use super::core::{Core, Inner};
use super::load::Fetched;
use super::plan::{Plan, Platforms, Step, Work, refuse_orphans, unreadable};
use super::reads::Ticket;
use super::reload::{Outcome, Planning, Purpose, Stage, refused};
use super::requests::refusal;
use crate::config::settings::Settings;
use crate::job::{By, Change, Event, Job, JobId, Now, ServerName, UtcMs};
use crate::schedule::Feeds;
use crate::store::{Change as Write, Store, StoreError, Stored};

/// A plan that could not be applied by itself is made again this much later.
const PLAN_RETRY: Duration = Duration::from_secs(30);
/// While a job of a plan is being written, it is looked at again this much later.
const LOOK_AGAIN: Duration = Duration::from_millis(50);
/// Changes that are told one by one in the log; of more, only how many.
const LOGGED: usize = 200;

/// Why a plan cannot be applied now.
enum Hindrance {
    /// A write of this job is on its way.
    Busy(JobId),
    /// It is not what was read any more.
    Changed(JobId),
}

/// What is on its way to disk.
#[derive(Default)]
pub(super) struct Writes {
    platforms: Platforms,
    told: Vec<PlannedChange>,
    new: Vec<Job>,
    /// In memory, and locked.
    changed: Vec<JobId>,
    /// Those of them that are in memory only for this.
    brought: BTreeSet<JobId>,
}

impl Core {
    /// Goes on with a plan that has been made: has the jobs read that it is about, unless they are in memory.
    pub(super) fn apply_plan(&mut self) {
        self.plans.step_at = None;
        if self.stopping {
            return;
        }
        let Some(mut planning) = self.plans.under_way.take() else { return };
        let plan = match std::mem::replace(&mut planning.stage, Stage::Reading) {
            Stage::Ready(plan) => plan,
            stage => {
                planning.stage = stage;
                self.plans.under_way = Some(planning);
                return;
            }
        };
        let leaving = self.leaving(&planning.settings);
        if let Some(server) = self.submitting.values().find(|server| leaving.contains(server)) {
            let why = format!("a job for {server} is being submitted");
            return self.plan_refused(planning, contended(&why));
        }
        let unknown: Vec<JobId> = changed(&plan).filter(|job| !self.active.contains_key(job)).collect();
        if unknown.is_empty() && leaving.is_empty() {
            return self.try_plan(planning, plan, Fetched::new());
        }
        // From here on nothing new comes to a server that goes, so what is read of it holds.
        self.plans.leaving = leaving;
        let ticket = self.reads.begin();
        let (store, inbox, settings) = (self.store.clone(), self.inbox.clone(), planning.settings.clone());
        self.tasks.spawn(async move {
            let fetched = beside(move || fetch(&*store, &unknown, &settings)).await;
            let fetched = fetched.unwrap_or_else(|| Err(unreadable(StoreError::Closed)));
            // The engine is gone only when the daemon is.
            let _ = inbox.send(Inner::PlanFetched { ticket, fetched });
        });
        planning.stage = Stage::Fetching(plan);
        self.plans.under_way = Some(planning);
    }

    pub(super) fn plan_fetched(&mut self, ticket: Ticket, fetched: Result<Fetched, Refusal>) {
        let left = self.reads.end(ticket);
        self.plans.leaving.clear();
        if self.stopping {
            return;
        }
        let Some(mut planning) = self.plans.under_way.take() else { return };
        let plan = match std::mem::replace(&mut planning.stage, Stage::Reading) {
            Stage::Fetching(plan) => plan,
            stage => {
                planning.stage = stage;
                self.plans.under_way = Some(planning);
                return;
            }
        };
        match fetched {
            Err(refusal) => self.plan_refused(planning, refusal),
            Ok(mut fetched) => {
                fetched.retain(|job, _| !left.contains(job));
                self.try_plan(planning, plan, fetched);
            }
        }
    }

    /// Applies a plan, if nothing stands against it in this very turn.
    fn try_plan(&mut self, mut planning: Planning, plan: Box<Plan>, fetched: Fetched) {
        let Some(hindrance) = self.hindrance(&plan, &fetched) else {
            let writes = Writes { platforms: plan.platforms, ..Writes::default() };
            return self.write_plan(planning, writes, plan.steps, fetched);
        };
        let (Hindrance::Busy(job) | Hindrance::Changed(job)) = hindrance;
        let now = self.now().boot;
        if planning.until.is_some_and(|until| now >= until) {
            return self.plan_refused(planning, contended(&format!("job {} is being changed", job.short())));
        }
        match hindrance {
            Hindrance::Changed(_) => self.read_plan(&planning),
            Hindrance::Busy(_) => {
                planning.stage = Stage::Ready(plan);
                self.plans.step_at = Some(now + LOOK_AGAIN);
            }
        }
        self.plans.under_way = Some(planning);
    }

    /// Whether something stands against a plan: each of its jobs must be what it was when the plan was made.
    fn hindrance(&self, plan: &Plan, fetched: &Fetched) -> Option<Hindrance> {
        plan.steps.iter().find_map(|step| {
            let Work::Change { job, version, .. } = &step.work else { return None };
            let found = match self.active.get(job) {
                Some(active) if active.writing.is_some() => return Some(Hindrance::Busy(*job)),
                Some(active) => Some(active.job.version()),
                None => fetched.get(job).map(|job| job.version()),
            };
            (found != Some(*version)).then_some(Hindrance::Changed(*job))
        })
    }

    /// The servers that these settings take away.
    fn leaving(&self, settings: &Settings) -> BTreeSet<ServerName> {
        let gone = self.servers.keys().filter(|name| !settings.servers.contains_key(*name));
        gone.cloned().collect()
    }

    fn write_plan(
        &mut self,
        mut planning: Planning,
        mut writes: Writes,
        steps: Vec<Step>,
        mut fetched: Fetched,
    ) {
        let now = self.now();
        let mut batch = Vec::new();
        for Step { mut told, work } in steps {
            match work {
                Work::Nothing => {}
                Work::Submit(job) => {
                    self.submitting.insert(job.id, job.server.clone());
                    batch.push(Write::Put { job: job.clone(), expected: None });
                    writes.new.push(*job);
                }
                Work::Change { job: id, change, .. } => {
                    if let Some(read) = fetched.remove(&id).filter(|_| !self.active.contains_key(&id)) {
                        writes.brought.insert(id);
                        self.active.insert(id, self.brought(read, now));
                        self.note_recovered(id);
                    }
                    match self.lock_for_plan(id, &change, now) {
                        Ok(put) => {
                            batch.push(put);
                            writes.changed.push(id);
                        }
                        Err(what) => told = refused(told, what),
                    }
                    self.settle(id);
                }
            }
            writes.told.push(told);
        }
        if batch.is_empty() {
            return self.plan_applied(planning, writes);
        }
        self.plans.leaving = self.leaving(&planning.settings);
        planning.stage = Stage::Writing(writes);
        self.plans.under_way = Some(planning);
        let (inbox, write) = (self.inbox.clone(), self.metrics.write());
        let done = move |result| {
            write.done();
            // The engine is gone only when the daemon is.
            let _ = inbox.send(Inner::PlanWritten(result));
        };
        self.write(batch, Box::new(done));
    }

    /// A job that comes into memory for a plan. One that is near was about to be read: what an earlier process left behind,
    /// a call or a warning that may have gone out, is noted first, but nothing is done about it.
    fn brought(&self, read: Stored, now: Now) -> Active {
        match read.index_wake() {
            Some(wake) if self.is_near(wake) => Active::recovered(read, now),
            _ => Active::stored(read),
        }
    }

    /// The write that makes this change true; until it is answered the job is locked. `Err`: why it cannot be made.
    fn lock_for_plan(&mut self, id: JobId, change: &Change, now: Now) -> Result<Write, String> {
        let active = self.active.get_mut(&id).ok_or("its job has just ended")?;
        let candidate = active.job.change(change, By::Schedule, now).map_err(|conflict| conflict.what)?;
        let candidate = Box::new(candidate);
        let put = Write::Put { job: candidate.clone(), expected: Some(active.stored) };
        active.lock(Writing::Plan(candidate), now);
        Ok(put)
    }

    pub(super) fn plan_written(&mut self, result: Result<(), StoreError>) {
        let Some(mut planning) = self.plans.under_way.take() else { return };
        let Stage::Writing(writes) = planning.stage else { return self.plans.under_way = Some(planning) };
        planning.stage = Stage::Reading;
        self.plans.leaving.clear();
        for job in &writes.new {
            self.submitting.remove(&job.id);
        }
        match result {
            Ok(()) => {
                self.store_health.wrote();
                self.plan_applied(planning, writes);
            }
            Err(error) => {
                let raced = matches!(error, StoreError::Revision { .. } | StoreError::KeyTaken { .. });
                let in_time = planning.until.is_none_or(|until| self.now().boot < until);
                let again = raced && in_time && !self.stopping;
                self.give_up(writes);
                if again {
                    self.read_plan(&planning);
                    self.plans.under_way = Some(planning);
                    return;
                }
                let refusal = if raced { contended(&error.to_string()) } else { self.cannot_write(error) };
                self.plan_refused(planning, refusal);
            }
        }
    }

    /// The jobs of a plan that could not be written are what they were. Those that nobody had read yet will be.
    fn give_up(&mut self, writes: Writes) {
        for id in writes.changed {
            let Some(active) = self.active.get_mut(&id) else { continue };
            active.writing = None;
            if writes.brought.contains(&id) && active.deferred.is_empty() {
                self.forget(id);
                self.next_load = Some(UtcMs(0));
            } else {
                self.unlock(id);
            }
        }
    }

    /// It is durable: now it is true.
    fn plan_applied(&mut self, planning: Planning, writes: Writes) {
        self.start_is_decided();
        let Planning { ask, settings, .. } = planning;
        let Writes { platforms, told, new, changed, brought: _ } = writes;
        let now = self.now();
        let mut told_to_all = Vec::new();
        for id in &changed {
            let Some(active) = self.active.get_mut(id) else { continue };
            if let Some(Writing::Plan(candidate)) = active.writing.take() {
                active.becomes(*candidate);
                active.unlocked(now);
                told_to_all.extend(active.publish(active.job.history.total(), now));
            }
        }
        self.count_outcomes(&told_to_all);
        if told_to_all.len() > LOGGED {
            tell(&self.events, told_to_all);
        } else {
            announce(&self.events, told_to_all);
        }
        let mut servers = Vec::new();
        if let Purpose::Reload(_, more) = &ask.purpose {
            servers = self.server_changes(&settings, &platforms);
            self.configure(&settings, platforms.clone());
            self.feeds = self.used_feeds(Feeds::clone(more).or(&self.feeds));
            self.schedule_error = None;
        }
        self.plans.error = None;
        self.plans.again = None;
        self.take_up_planned(new, now);
        for id in changed {
            self.step(id, Event::Tick);
            self.unlock(id);
        }
        let reloaded = Reloaded { applied: true, servers, changes: told, ..Reloaded::default() };
        log(&ask.purpose, &reloaded);
        let (feeds, watches) = (self.feeds.clone(), BTreeMap::new());
        ask.answer(Ok(Outcome { reloaded, platforms, feeds, watches }));
        self.next_plan();
    }

    /// What is due soon into memory; the events of many, made beside the loop, do not go to the log one by one.
    fn take_up_planned(&mut self, new: Vec<Job>, now: Now) {
        for job in &new {
            self.take_up(job);
        }
        if new.len() <= LOGGED {
            return new
                .iter()
                .for_each(|job| announce(&self.events, notices(job, 0, job.history.total(), now)));
        }
        let events = self.events.clone();
        self.tasks.spawn(async move {
            for job in &new {
                tell(&events, notices(job, 0, job.history.total(), now));
            }
        });
    }

    /// Nothing has changed.
    pub(super) fn plan_refused(&mut self, planning: Planning, refusal: Refusal) {
        if matches!(planning.ask.purpose, Purpose::Start) {
            self.give_up_waiting();
        }
        match planning.ask.purpose {
            Purpose::Rehearse(..) => {}
            Purpose::Reload(..) => self.schedule_error = Some(refusal.detail.clone()),
            Purpose::Start | Purpose::Expand => {
                if self.plans.error.is_none() {
                    tracing::error!(
                        "the schedule could not be applied, and is tried again and again: {refusal} ({})",
                        refusal.hint
                    );
                }
                self.plans.error = Some(refusal.detail.clone());
                self.plans.again.get_or_insert(self.now().boot + PLAN_RETRY);
            }
        }
        planning.ask.answer(Err(refusal));
        self.next_plan();
    }
}

/// The jobs that a plan changes.
pub(super) fn changed(plan: &Plan) -> impl Iterator<Item = JobId> {
    plan.steps.iter().filter_map(|step| match &step.work {
        Work::Change { job, .. } => Some(*job),
        Work::Nothing | Work::Submit(_) => None,
    })
}

/// Reads the jobs of a plan, and whether others stand against it. Not for an async thread.
fn fetch(store: &dyn Store, jobs: &[JobId], settings: &Settings) -> Result<Fetched, Refusal> {
    refuse_orphans(store, settings)?;
    let mut fetched = Fetched::new();
    for id in jobs {
        fetched.extend(store.read(*id).map_err(unreadable)?.map(|job| (*id, job)));
    }
    Ok(fetched)
}

fn contended(why: &str) -> Refusal {
    refusal(
        RefusalKind::Conflict,
        format!("{why} at this moment, so the schedule was not applied"),
        "nothing was changed; try again: adjourn reload",
    )
}

/// A reload tells everything, the passing of time only what it did.
fn log(purpose: &Purpose, reloaded: &Reloaded) {
    let expands = matches!(purpose, Purpose::Expand);
    if reloaded.is_nothing() && matches!(purpose, Purpose::Reload(..)) {
        tracing::info!("schedule: nothing has changed");
    }
    for change in &reloaded.servers {
        tracing::info!("schedule: {change}");
    }
    let quiet = [PlannedAction::Keep, PlannedAction::Skip, PlannedAction::Refuse];
    let told = reloaded.changes.iter().filter(|change| !expands || !quiet.contains(&change.action));
    for (n, change) in told.enumerate() {
        let sentence = || change.sentence(|at| at.to_string());
        match change.action {
            _ if n == LOGGED => {
                tracing::info!(
                    "schedule: {} changes in all; see them with: adjourn list",
                    reloaded.changes.len()
                );
                break;
            }
            PlannedAction::Refuse => tracing::warn!("schedule: {}", sentence()),
            _ => tracing::info!("schedule: {}", sentence()),
        }
    }
}
