//! Settings and schedule, applied: at the start, whenever the schedule file is read again, and as time goes on.
//!
//! ```text
//! ask -> read (plan, beside the loop) -> lock the jobs -> one commit -> the new settings are true -> answer
//! ```
//!
//! All or nothing: what the plan submits, moves and cancels is one durable batch, and only when that is on disk do the new
//! settings count. Whatever is refused changes nothing, and the old schedule goes on.
//!
//! The loop goes on all the time. A job that the plan touches is locked from its commit to the answer, like one that a
//! person changes. If it was changed since it was read, the plan is made anew; if a write of its own is on its way, the
//! plan waits for that; neither for long. One plan at a time; the others wait.
//!
//! A server that still has open jobs cannot be taken away.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;

use super::active::{Active, Writing, announce, notices, tell};
use super::api::{PlannedAction, PlannedChange, Refusal, RefusalKind, Reloaded};
use super::beside::beside;
use super::core::{Core, Inner};
use super::load::{Hindrance, Undecided};
use super::plan::{Input, Plan, Platforms, Step, Work, prepare, refuse_orphans};
use super::requests::{answer, refusal};
use crate::config::settings::Settings;
use crate::job::{BootMs, By, Event, Job, JobId, Now, Origin, ServerName, UtcMs};
use crate::schedule::Feeds;
use crate::schedule::rule::Watch;
use crate::store::{Change as Write, StoreError};

/// A plan that could not be applied by itself is made again this much later.
const PLAN_RETRY: Duration = Duration::from_secs(30);
/// So long a plan waits for jobs that are being written, or is made anew because they were changed.
const PATIENCE: Duration = Duration::from_secs(5);
const LOOK_AGAIN: Duration = Duration::from_millis(50);
/// Changes that are told one by one in the log; of more, only how many.
const LOGGED: usize = 200;

pub(super) type Planned = Result<Outcome, Refusal>;

/// What a plan has come to.
pub(super) struct Outcome {
    pub reloaded: Reloaded,
    /// The servers of its settings.
    pub platforms: Platforms,
    pub feeds: Arc<Feeds>,
    /// What sweeps have seen so far.
    pub watches: BTreeMap<ServerName, Watch>,
}

impl std::fmt::Debug for Outcome {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.reloaded.fmt(f)
    }
}

/// What the engine works with at this moment.
#[derive(Clone, Debug)]
pub struct Current {
    pub settings: Arc<Settings>,
    pub feeds: Arc<Feeds>,
    /// With the wall clock that the engine believes.
    pub now: Now,
}

/// That the schedule be compared with the jobs.
pub(super) struct Ask {
    purpose: Purpose,
    reply: Option<oneshot::Sender<Planned>>,
}

enum Purpose {
    /// The first one of a process: its settings count already.
    Start,
    /// With calendars that were not known yet.
    Reload(Arc<Settings>, Arc<Feeds>),
    /// Only to be told.
    Rehearse(Arc<Settings>, Arc<Feeds>),
    /// Time has passed, or a calendar has changed.
    Expand,
}

impl Ask {
    pub fn reload(settings: Arc<Settings>, feeds: Arc<Feeds>, reply: oneshot::Sender<Planned>) -> Ask {
        Ask { purpose: Purpose::Reload(settings, feeds), reply: Some(reply) }
    }

    pub fn rehearse(settings: Arc<Settings>, feeds: Arc<Feeds>, reply: oneshot::Sender<Planned>) -> Ask {
        Ask { purpose: Purpose::Rehearse(settings, feeds), reply: Some(reply) }
    }

    pub fn expand(reply: Option<oneshot::Sender<Planned>>) -> Ask {
        Ask { purpose: Purpose::Expand, reply }
    }

    fn is_silent(&self) -> bool {
        self.reply.is_none()
    }

    fn answer(self, planned: Planned) {
        if let Some(reply) = self.reply {
            answer(reply, planned);
        }
    }
}

/// The schedule being compared with the jobs, or applied; and what waits behind that.
#[derive(Default)]
pub(super) struct Plans {
    under_way: Option<Planning>,
    /// When to go on with it.
    step_at: Option<BootMs>,
    asked: VecDeque<Ask>,
    /// Set until the first plan of a process is applied or given up.
    pub undecided: Option<Undecided>,
    /// Servers that a plan on its way to disk takes away.
    pub leaving: BTreeSet<ServerName>,
    /// Why the schedule could not be compared or applied by itself, and when that is tried again.
    pub error: Option<String>,
    again: Option<BootMs>,
}

impl Plans {
    pub fn wake(&self) -> Option<BootMs> {
        let undecided = self.undecided.as_ref().map(|undecided| undecided.until);
        [self.step_at, self.again, undecided].into_iter().flatten().min()
    }
}

/// The one plan that is under way.
struct Planning {
    ask: Ask,
    settings: Arc<Settings>,
    feeds: Arc<Feeds>,
    /// It is given up then.
    until: BootMs,
    stage: Stage,
}

enum Stage {
    Reading,
    Ready(Box<Plan>),
    Writing(Writes),
}

/// What is on its way to disk.
#[derive(Default)]
struct Writes {
    platforms: Platforms,
    told: Vec<PlannedChange>,
    new: Vec<Job>,
    /// In memory, and locked.
    changed: Vec<JobId>,
    /// Those of them that are in memory only for this.
    brought: BTreeSet<JobId>,
}

impl Core {
    /// The settings of a new process count at once; what its schedule wants follows as soon as it is durable.
    pub(super) fn start_with(&mut self, settings: &Settings) -> Result<(), Refusal> {
        let settings = Arc::new(settings.clone());
        let plan = prepare(&self.plan_input(&settings, &self.feeds))?;
        for change in self.server_changes(&settings, &plan.platforms) {
            tracing::info!("schedule: {change}");
        }
        self.configure(&settings, plan.platforms.clone());
        let until = self.now().boot + PATIENCE;
        self.plans.undecided = Some(Undecided::new(&plan, until));
        self.plans.under_way = Some(Planning {
            ask: Ask { purpose: Purpose::Start, reply: None },
            settings,
            feeds: self.feeds.clone(),
            until,
            stage: Stage::Ready(Box::new(plan)),
        });
        self.apply_plan();
        Ok(())
    }

    /// Without those that the settings in force do not use: one that comes back is read anew.
    pub(super) fn used_feeds(&self, feeds: Feeds) -> Arc<Feeds> {
        let settings = self.settings.as_ref();
        Arc::new(settings.map_or_else(Feeds::default, |settings| feeds.only_of(&settings.schedule.sources())))
    }

    pub(super) fn ask_plan(&mut self, ask: Ask) {
        // One that nobody waits for, and that has not begun, sees all that this one would see.
        if ask.is_silent() && self.plans.asked.iter().any(Ask::is_silent) {
            return;
        }
        self.plans.asked.push_back(ask);
        self.next_plan();
    }

    pub(super) fn go_on_planning(&mut self, now: BootMs) {
        if self.plans.again.is_some_and(|at| now >= at) {
            self.plans.again = None;
            self.ask_plan(Ask::expand(None));
        }
        if self.plans.step_at.is_some_and(|at| now >= at) {
            self.apply_plan();
        }
    }

    fn next_plan(&mut self) {
        if self.plans.under_way.is_some() || self.stopping {
            return;
        }
        let Some(ask) = self.plans.asked.pop_front() else { return };
        let (settings, feeds) = match &ask.purpose {
            Purpose::Reload(settings, more) | Purpose::Rehearse(settings, more) => {
                let feeds = Feeds::clone(more).or(&self.feeds);
                (Some(settings.clone()), Arc::new(feeds))
            }
            Purpose::Start | Purpose::Expand => (self.settings.clone(), self.feeds.clone()),
        };
        let Some(settings) = settings else {
            return ask.answer(Err(refusal(
                RefusalKind::Conflict,
                "there is no schedule yet",
                "reload the schedule first: adjourn reload",
            )));
        };
        let until = self.now().boot + PATIENCE;
        let planning = Planning { ask, settings, feeds, until, stage: Stage::Reading };
        self.read_plan(&planning);
        self.plans.under_way = Some(planning);
    }

    /// Has the plan made beside the loop.
    fn read_plan(&self, planning: &Planning) {
        let (input, inbox) = (self.plan_input(&planning.settings, &planning.feeds), self.inbox.clone());
        self.tasks.spawn(async move {
            let plan = beside(move || prepare(&input)).await.unwrap_or_else(|| {
                Err(refusal(RefusalKind::StoreFailed, "the schedule could not be compared", "see the log"))
            });
            // The engine is gone only when the daemon is.
            let _ = inbox.send(Inner::Planned(plan.map(Box::new)));
        });
    }

    fn plan_input(&self, settings: &Arc<Settings>, feeds: &Arc<Feeds>) -> Input {
        let configured = self.settings.iter().flat_map(|settings| &settings.servers);
        let running = configured.filter_map(|(name, server)| {
            let platform = self.servers.get(name)?.platform.clone();
            Some((name.clone(), (server.platform.clone(), platform)))
        });
        let ahead = self
            .active
            .values()
            .filter(|active| active.is_dirty() && matches!(active.job.origin, Origin::Schedule { .. }));
        Input {
            settings: settings.clone(),
            feeds: feeds.clone(),
            now: self.now(),
            store: self.store.clone(),
            clock: self.clock.clone(),
            build: self.makers.build.clone(),
            new_id: self.makers.new_id.clone(),
            running: running.collect(),
            ahead: ahead.map(|active| (active.job.id, active.job.clone())).collect::<HashMap<_, _>>(),
        }
    }

    pub(super) fn planned(&mut self, plan: Result<Box<Plan>, Refusal>) {
        let Some(mut planning) = self.plans.under_way.take() else { return };
        match plan {
            Err(refusal) => self.plan_refused(planning, refusal),
            Ok(plan) if matches!(planning.ask.purpose, Purpose::Rehearse(..)) => {
                let told = self.rehearse(plan.steps);
                let servers = self.server_changes(&planning.settings, &plan.platforms);
                let reloaded = Reloaded { applied: false, servers, changes: told, ..Reloaded::default() };
                planning.ask.answer(Ok(Outcome {
                    reloaded,
                    platforms: plan.platforms,
                    feeds: planning.feeds,
                    watches: self.watches(),
                }));
                self.next_plan();
            }
            Ok(plan) => {
                if self.plans.undecided.is_some() {
                    self.plans.undecided = Some(Undecided::new(&plan, planning.until));
                }
                planning.stage = Stage::Ready(plan);
                self.plans.under_way = Some(planning);
                self.apply_plan();
            }
        }
    }

    /// What would come of these steps now.
    fn rehearse(&self, steps: Vec<Step>) -> Vec<PlannedChange> {
        let now = self.now();
        let outcome = |Step { told, work }: Step| {
            let Work::Change(read, change) = work else { return told };
            let job = self.active.get(&read.id).map_or(&*read, |active| &active.job);
            match job.change(&change, By::Schedule, now) {
                Ok(_) => told,
                Err(conflict) => refused(told, conflict.what),
            }
        };
        steps.into_iter().map(outcome).collect()
    }

    /// Goes on with a plan that has been made, if nothing stands against it now.
    fn apply_plan(&mut self) {
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
        if let Err(refusal) = self.refuse_new_orphans(&planning.settings) {
            return self.plan_refused(planning, refusal);
        }
        let Some(hindrance) = self.hindrance(&plan) else {
            let writes = Writes { platforms: plan.platforms, ..Writes::default() };
            return self.write_plan(planning, writes, plan.steps);
        };
        let (Hindrance::Busy(job) | Hindrance::Changed(job)) = hindrance;
        let now = self.now().boot;
        if now >= planning.until {
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

    /// Jobs may have come since the plan was made.
    fn refuse_new_orphans(&self, settings: &Settings) -> Result<(), Refusal> {
        let leaving = self.servers.keys().filter(|name| !settings.servers.contains_key(*name));
        let leaving: BTreeSet<&ServerName> = leaving.collect();
        if leaving.is_empty() {
            return Ok(());
        }
        if let Some(server) = self.submitting.values().find(|server| leaving.contains(server)) {
            return Err(contended(&format!("a job for {server} is being submitted")));
        }
        refuse_orphans(&*self.store, settings)
    }

    fn write_plan(&mut self, mut planning: Planning, mut writes: Writes, steps: Vec<Step>) {
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
                Work::Change(read, change) => {
                    let id = read.id;
                    let near = read.index_wake().is_some_and(|wake| self.is_near(wake));
                    let active = self.active.entry(id).or_insert_with(|| {
                        writes.brought.insert(id);
                        // A near one would be in memory, had this process read it before.
                        if near { Active::recovered(*read, now) } else { Active::new(*read) }
                    });
                    match active.job.change(&change, By::Schedule, now) {
                        Ok(candidate) => {
                            let candidate = Box::new(candidate);
                            batch.push(Write::Put { job: candidate.clone(), expected: Some(active.stored) });
                            active.lock(Writing::Plan(candidate), now);
                            writes.changed.push(id);
                        }
                        Err(conflict) => told = refused(told, conflict.what),
                    }
                    self.settle(id);
                }
            }
            writes.told.push(told);
        }
        if batch.is_empty() {
            return self.plan_applied(planning, writes);
        }
        self.plans.leaving = self
            .servers
            .keys()
            .filter(|name| !planning.settings.servers.contains_key(*name))
            .cloned()
            .collect();
        planning.stage = Stage::Writing(writes);
        self.plans.under_way = Some(planning);
        let (inbox, write) = (self.inbox.clone(), self.metrics.write());
        let done = move |result| {
            write.done();
            // The engine is gone only when the daemon is.
            let _ = inbox.send(Inner::PlanWritten(result));
        };
        self.store.commit(batch, Box::new(done));
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
                self.store_error = None;
                self.plan_applied(planning, writes);
            }
            Err(error) => {
                let raced = matches!(error, StoreError::Revision { .. } | StoreError::KeyTaken { .. });
                let again = raced && self.now().boot < planning.until && !self.stopping;
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
    fn plan_refused(&mut self, planning: Planning, refusal: Refusal) {
        if matches!(planning.ask.purpose, Purpose::Start) {
            self.start_is_decided();
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

fn refused(told: PlannedChange, why: String) -> PlannedChange {
    PlannedChange { action: PlannedAction::Refuse, reason: why, ..told }
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
