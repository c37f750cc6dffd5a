//! Settings and schedule, applied: at the start, whenever the schedule file is read again, and as time goes on.
//!
//! ```text
//! ask -> make the plan -> read the jobs -> lock them -> one commit -> the new settings are true -> answer
//!        (both beside the loop)
//! ```
//!
//! All or nothing: what the plan submits, moves and cancels is one durable batch, and only when that is on disk do the new
//! settings count. Whatever is refused changes nothing, and the old schedule goes on.
//!
//! The loop goes on all the time, from the first second of a process on: a calendar that takes its time holds up the plan
//! and nothing else. A plan carries no jobs, only their ids and how far each had come; what it changes is taken from
//! memory, or read from the store and locked in the turn in which the answer comes. A job that the plan touches is locked from its commit to the answer, like one that a
//! person changes. If it was changed since it was read, the plan is made anew; if a write of its own is on its way, the
//! plan waits for that; neither for long. One plan at a time; the others wait.
//!
//! A server that still has open jobs cannot be taken away.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;

use super::api::{PlannedAction, PlannedChange, Refusal, RefusalKind, Reloaded};
use super::apply::Writes;
use super::beside::beside;
use super::core::{Core, Inner};
use super::load::Undecided;
use super::plan::{Input, Plan, Platforms, Step, Work, platforms, prepare};
use super::requests::{answer, refusal};
use crate::config::settings::Settings;
use crate::job::{BootMs, By, Now, Origin, ServerName};
use crate::schedule::Feeds;
use crate::schedule::rule::Watch;

/// So long a plan waits for jobs that are being written, or is made anew because they were changed; and so long deadlines
/// wait for the first plan.
const PATIENCE: Duration = Duration::from_secs(5);

pub(super) type Planned = Result<Outcome, Refusal>;

/// Reads the last good copies of the calendars; may take a while.
pub(super) type Kept = Box<dyn FnOnce() -> Feeds + Send>;

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
    pub purpose: Purpose,
    reply: Option<oneshot::Sender<Planned>>,
}

pub(super) enum Purpose {
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

    pub fn answer(self, planned: Planned) {
        if let Some(reply) = self.reply {
            answer(reply, planned);
        }
    }
}

/// The schedule being compared with the jobs, or applied; and what waits behind that.
#[derive(Default)]
pub(super) struct Plans {
    pub under_way: Option<Planning>,
    /// When to go on with it.
    pub step_at: Option<BootMs>,
    asked: VecDeque<Ask>,
    /// Set until the first plan of a process is applied or given up.
    pub undecided: Option<Undecided>,
    /// Servers that a plan on its way to disk takes away.
    pub leaving: BTreeSet<ServerName>,
    /// Why the schedule could not be compared or applied by itself, and when that is tried again.
    pub error: Option<String>,
    pub again: Option<BootMs>,
}

impl Plans {
    pub fn wake(&self) -> Option<BootMs> {
        let undecided = self.undecided.as_ref().and_then(Undecided::until);
        [self.step_at, self.again, undecided].into_iter().flatten().min()
    }
}

/// The one plan that is under way.
pub(super) struct Planning {
    pub ask: Ask,
    pub settings: Arc<Settings>,
    feeds: Arc<Feeds>,
    /// It is given up then; counts from when it was first made.
    pub until: Option<BootMs>,
    pub stage: Stage,
}

pub(super) enum Stage {
    Reading,
    Ready(Box<Plan>),
    /// Its jobs are being read.
    Fetching(Box<Plan>),
    Writing(Writes),
}

impl Core {
    /// The settings of a new process count at once; what its schedule wants follows as soon as it is durable. Nothing is
    /// read or worked out here: that is done beside the loop. `kept`: reads the last good copies of the calendars.
    pub(super) fn start_with(&mut self, settings: &Settings, kept: Option<Kept>) -> Result<(), Refusal> {
        let settings = Arc::new(settings.clone());
        let platforms = platforms(&self.plan_input(&settings, &self.feeds))?;
        for change in self.server_changes(&settings, &platforms) {
            tracing::info!("schedule: {change}");
        }
        self.unread_feeds = kept.as_ref().map(|_| Vec::new());
        self.configure(&settings, platforms);
        self.plans.undecided = Some(Undecided::new(self.now().boot + PATIENCE));
        let ask = Ask { purpose: Purpose::Start, reply: None };
        let (feeds, stage) = (self.feeds.clone(), Stage::Reading);
        let planning = Planning { ask, settings, feeds, until: None, stage };
        match kept {
            Some(kept) => {
                let inbox = self.inbox.clone();
                self.tasks.spawn(async move {
                    let feeds = beside(kept).await.unwrap_or_default();
                    // The engine is gone only when the daemon is.
                    let _ = inbox.send(Inner::KeptFeeds(feeds));
                });
            }
            None => self.read_plan(&planning),
        }
        self.plans.under_way = Some(planning);
        Ok(())
    }

    /// What the calendars last said is known: the first plan can be made, and whoever has asked is answered.
    pub(super) fn feeds_are_read(&mut self, kept: &Feeds) {
        self.feeds = self.used_feeds(Feeds::clone(&self.feeds).or(kept));
        for reply in self.unread_feeds.take().into_iter().flatten() {
            self.answer_current(reply);
        }
        if let Some(mut planning) = self.plans.under_way.take() {
            if matches!((&planning.ask.purpose, &planning.stage), (Purpose::Start, Stage::Reading)) {
                planning.feeds = self.feeds.clone();
                self.read_plan(&planning);
            }
            self.plans.under_way = Some(planning);
        }
        self.tick();
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

    pub(super) fn next_plan(&mut self) {
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
        let planning = Planning { ask, settings, feeds, until: None, stage: Stage::Reading };
        self.read_plan(&planning);
        self.plans.under_way = Some(planning);
    }

    /// Has the plan made beside the loop.
    pub(super) fn read_plan(&self, planning: &Planning) {
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
                if let Some(undecided) = &mut self.plans.undecided {
                    undecided.made(&plan);
                }
                planning.until.get_or_insert(self.now().boot + PATIENCE);
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
            let Work::Change { job, change, conflict, .. } = work else { return told };
            let conflict = match self.active.get(&job) {
                None => conflict,
                Some(active) => active.job.change(&change, By::Schedule, now).err().map(|it| it.what),
            };
            match conflict {
                None => told,
                Some(what) => refused(told, what),
            }
        };
        steps.into_iter().map(outcome).collect()
    }
}

pub(super) fn refused(told: PlannedChange, why: String) -> PlannedChange {
    PlannedChange { action: PlannedAction::Refuse, reason: why, ..told }
}
