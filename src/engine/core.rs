//! The engine's one loop. It owns every job that is due soon or at work, steps each with the pure heart, and carries out
//! the effects; everything slow (requests to platforms, writes) happens elsewhere and comes back as a message.
//!
//! Nothing polls: the loop sleeps until the earliest wake-up of a job, a lane or the store's next page of jobs, on an alarm
//! that also hears the clock being set.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{broadcast, mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::active::{Active, Deferred, Writing};
use super::api::{Notice, Refusal};
use super::belief::Trust;
use super::bulk::{BulkReply, Place};
use super::callbook::CallBook;
use super::chorus::Chorus;
use super::health::StoreHealth;
use super::lane::Urgency;
use super::load::{DueSoon, Fetched};
use super::outbox::Outbox;
use super::plan::Plan;
use super::reads::{Reads, Ticket};
use super::reload::{Current, Plans};
use super::requests::Request;
use super::server::Server;
use super::sweep::Sweeper;
use super::wakes::Wakes;
use super::weigh::{Found, RuleBook, Stock};
use crate::clock::Clock;
use crate::config::Settings;
use crate::config::settings::PlatformSettings;
use crate::job::{
    BootMs, Effect, EndAnswer, Event, InstanceId, Job, JobId, Mark, Now, ServerName, UtcMs, Wake, Warned,
    step,
};
use crate::metrics::Metrics;
use crate::platform::{self, Fault, Listed, Platform, Probe, Round, Target};
use crate::schedule::Feeds;
use crate::store::{Change, Store, StoreError};

/// Jobs due within this (or with a warning to send) are in memory, so that they fire on time even if the disk fails.
pub(super) const HORIZON: Duration = Duration::from_secs(600);
/// After a failed write the job is written again this much later.
pub(super) const WRITE_RETRY: Duration = Duration::from_secs(1);
/// Messages handled before the wake-ups are looked at again.
const BATCH: usize = 256;
/// What comes back from tasks and from the store's writer.
#[derive(Debug)]
pub(super) enum Inner {
    Committed {
        job: JobId,
        result: Result<(), StoreError>,
    },
    Submitted {
        job: Box<Job>,
        reply: super::active::Reply,
        result: Result<(), StoreError>,
    },
    SubmittedMany {
        places: Vec<Place>,
        reply: BulkReply,
        result: Result<(), StoreError>,
    },
    Round {
        server: ServerName,
        epoch: u32,
        targets: Vec<Target>,
        round: Round,
    },
    /// What a sweep has listed, for what is remembered of the server.
    Listed {
        server: ServerName,
        epoch: u32,
        listed: Arc<Listed>,
        sent: Now,
        received: Now,
    },
    RoundOver {
        server: ServerName,
        urgency: Urgency,
        took: Duration,
        answered: bool,
    },
    TurnOver {
        server: ServerName,
        took: Duration,
        answered: bool,
    },
    Answered {
        server: ServerName,
        job: JobId,
        instance: InstanceId,
        attempt: u32,
        answer: EndAnswer,
    },
    Locked {
        job: JobId,
        result: Result<(), String>,
    },
    Warned {
        server: ServerName,
        epoch: u32,
        job: JobId,
        mark: Mark,
        result: Warned,
    },
    Probed {
        server: ServerName,
        epoch: u32,
        result: Result<Probe, Fault>,
    },
    /// What is due soon, as the store has it.
    DueSoon {
        ticket: Ticket,
        read: DueSoon,
    },
    /// The last good copies of the calendars, read at the start.
    KeptFeeds(Feeds),
    /// What a plan has come to, the jobs that it is about, and what became of its commit.
    Planned(Result<Box<Plan>, Refusal>),
    PlanFetched {
        ticket: Ticket,
        fetched: Result<Fetched, Refusal>,
    },
    PlanWritten(Result<(), StoreError>),
    /// What is live on a server, held against its rules.
    Swept {
        server: ServerName,
        sent: Now,
        result: Result<Box<Found>, String>,
    },
    /// What the sweeps of a server have to know before the first.
    Stocked {
        server: ServerName,
        stock: Result<Stock, StoreError>,
    },
}

pub(super) struct Core {
    pub clock: Arc<dyn Clock>,
    pub store: Arc<dyn Store>,
    pub makers: Makers,
    pub state_dir: PathBuf,
    pub servers: BTreeMap<ServerName, Server>,
    pub sweepers: BTreeMap<ServerName, Sweeper>,
    /// End calls of all jobs at all instances.
    pub book: CallBook,
    /// When what they have seen was last written.
    pub watches_saved: Option<BootMs>,
    pub active: HashMap<JobId, Active>,
    pub events: broadcast::Sender<Arc<Notice>>,
    pub inbox: mpsc::UnboundedSender<Inner>,
    pub metrics: Arc<Metrics>,
    pub tasks: TaskTracker,
    pub started: Now,
    pub store_health: StoreHealth,
    pub schedule_error: Option<String>,
    /// Set by a drain: nothing new is started.
    pub stopping: bool,
    wakes: Wakes,
    /// Servers whose lane may have something to do.
    pub touched: BTreeSet<ServerName>,
    /// When the next page of jobs has to be read.
    pub next_load: Option<UtcMs>,
    /// It is being read.
    pub loading: bool,
    /// What waits for room on the way to the disk.
    pub outbox: Outbox,
    /// What the store is being asked beside the loop.
    pub reads: Reads,
    /// New jobs on their way to disk: durable any moment, but not acknowledged.
    pub submitting: BTreeMap<JobId, ServerName>,
    /// What the schedule file said last.
    pub settings: Option<Arc<Settings>>,
    /// The last good copy of every calendar that the schedule refers to.
    pub feeds: Arc<Feeds>,
    pub plans: Plans,
    /// Who asks what counts now, while the last good copies of the calendars are still being read.
    pub unread_feeds: Option<Vec<oneshot::Sender<Option<Current>>>>,
    /// Jobs whose last write failed, and when to try again.
    unwritten: BTreeSet<JobId>,
    write_again: Option<BootMs>,
    /// What is said in the log for many jobs at once.
    pub(super) chorus: Chorus,
    /// What is thought of the wall clock.
    pub trust: Trust,
}

pub(super) type NewId = dyn Fn(Now) -> JobId + Send + Sync;
pub(super) type Build =
    dyn Fn(&ServerName, &PlatformSettings, Arc<dyn Clock>) -> anyhow::Result<Arc<dyn Platform>> + Send + Sync;

/// Where new ids and platforms come from: chance and the network, unless a simulation puts something else here.
pub(super) struct Makers {
    pub new_id: Arc<NewId>,
    pub build: Arc<Build>,
    pub rules: RuleBook,
}

impl Default for Makers {
    fn default() -> Makers {
        Makers {
            new_id: Arc::new(super::requests::new_id),
            build: Arc::new(platform::build),
            rules: RuleBook::default(),
        }
    }
}

/// The parts that a [`Core`] is made of.
pub(super) struct Parts {
    pub clock: Arc<dyn Clock>,
    pub store: Arc<dyn Store>,
    pub state_dir: PathBuf,
    pub servers: BTreeMap<ServerName, Server>,
    pub events: broadcast::Sender<Arc<Notice>>,
    pub inbox: mpsc::UnboundedSender<Inner>,
}

impl Core {
    pub fn new(parts: Parts) -> Core {
        let Parts { clock, store, state_dir, servers, events, inbox } = parts;
        let now = clock.now();
        Core {
            clock,
            store,
            makers: Makers::default(),
            state_dir,
            servers,
            sweepers: BTreeMap::new(),
            book: CallBook::default(),
            watches_saved: None,
            active: HashMap::new(),
            events,
            inbox,
            metrics: Arc::default(),
            tasks: TaskTracker::new(),
            started: now,
            store_health: StoreHealth::default(),
            schedule_error: None,
            stopping: false,
            wakes: Wakes::default(),
            touched: BTreeSet::new(),
            next_load: Some(UtcMs(0)),
            loading: false,
            outbox: Outbox::default(),
            reads: Reads::default(),
            submitting: BTreeMap::new(),
            settings: None,
            feeds: Arc::default(),
            plans: Plans::default(),
            unread_feeds: None,
            unwritten: BTreeSet::new(),
            write_again: None,
            chorus: Chorus::default(),
            trust: Trust::new(now),
        }
    }

    /// Runs until cancelled, then drains.
    pub async fn run(
        mut self,
        mut requests: mpsc::Receiver<Request>,
        mut inner: mpsc::UnboundedReceiver<Inner>,
        shutdown: CancellationToken,
    ) -> io::Result<()> {
        let alarm = self.clock.alarm()?;
        loop {
            self.turn();
            alarm.set(self.next_wake())?;
            // In this order: what has happened already before what is asked for anew, and always the same way.
            tokio::select! {
                biased;
                () = shutdown.cancelled() => break,
                Some(message) = inner.recv() => {
                    self.inner(message);
                    for _ in 1..BATCH {
                        let Ok(message) = inner.try_recv() else { break };
                        self.inner(message);
                    }
                }
                Some(request) = requests.recv() => {
                    self.request(request);
                    for _ in 1..BATCH {
                        let Ok(request) = requests.try_recv() else { break };
                        self.request(request);
                    }
                }
                ring = alarm.ring() => { ring?; }
            }
        }
        drop(requests);
        self.drain(inner).await;
        Ok(())
    }

    /// Everything that is due now: pages, jobs, lanes, writes.
    fn turn(&mut self) {
        self.watch_the_clock();
        self.note_the_clock();
        let now = self.now();
        self.stop_waiting_for_the_start(now.boot);
        if self.next_load().is_some_and(|at| now.wall >= at) {
            self.load(now);
        }
        for job in self.wakes.take_due(now) {
            self.step(job, Event::Tick);
        }
        self.tell_chorus();
        if self.write_again.is_some_and(|at| now.boot >= at) {
            self.write_unwritten();
        }
        self.go_on_planning(now.boot);
        if self.next_sweep().is_some_and(|at| now.boot >= at) {
            self.tick();
        }
        self.pump();
    }

    pub(super) fn write_unwritten(&mut self) {
        self.write_again = None;
        for job in std::mem::take(&mut self.unwritten) {
            self.settle(job);
        }
    }

    fn next_wake(&self) -> Wake {
        let now = self.now();
        let lanes = self.servers.values().filter_map(|server| server.wake(now.boot));
        let first = self.wakes.first();
        let clock = Some(self.trust.wake(now.boot));
        let boot =
            [first.boot, self.write_again, self.plans.wake(), self.next_sweep(), clock, self.chorus.wake()];
        let boot = boot.into_iter().flatten().chain(lanes).min();
        let wall = [first.wall, self.next_load()].into_iter().flatten().min();
        match self.trust.doubts() {
            // The timer knows only the clock that is not believed; the old time goes on by boottime.
            true => {
                let offset = now.wall.0 - now.boot.0;
                let wall = wall.map(|at| BootMs(at.0 - offset));
                Wake { wall: None, boot: [boot, wall].into_iter().flatten().min() }
            }
            false => Wake { wall, boot },
        }
    }

    /// Steps a job and carries out what it asks for. Gives back whether that takes up a turn in the lane: an end call, or
    /// the look right before one.
    pub fn step(&mut self, id: JobId, event: Event) -> bool {
        let now = self.now();
        let Some(active) = self.active.get_mut(&id) else { return false };
        if active.is_locked() {
            active.deferred.push_back(Deferred::Event(event));
            return false;
        }
        let (job, effects) = step(active.job.clone(), event, now);
        active.job = job;
        let takes_turn = |effect: &Effect| matches!(effect, Effect::Call { .. } | Effect::LookInTurn);
        let keeps_turn = effects.iter().any(takes_turn);
        for effect in effects {
            self.carry_out(id, effect);
        }
        self.settle(id);
        keeps_turn
    }

    fn carry_out(&mut self, id: JobId, effect: Effect) {
        let job = &self.active[&id].job;
        let name = job.server.clone();
        let first = job.ends == 0;
        let Some(server) = self.servers.get_mut(&name) else {
            tracing::error!(server = %name, job = %id.short(), "the job's server is not configured any more");
            return;
        };
        match effect {
            Effect::Look(purpose) => server.lane.queue_look(id, purpose),
            Effect::QueueEnd { next } => server.lane.queue_end(id, first, next),
            Effect::LookInTurn => self.look_in_turn(id),
            Effect::EndAgain => self.end_again(id),
            Effect::Call { attempt, aim, resend, lock } => self.call(id, attempt, aim, resend, lock),
            Effect::QueueWarning => server.lane.queue_warning(id),
            Effect::Warn(mark) => self.warn(id, mark),
        }
        self.touched.insert(name);
    }

    /// After every change of a job in memory: write it if need be, note when it wakes, let it go if nothing keeps it.
    pub fn settle(&mut self, id: JobId) {
        let now = self.now();
        let Some(active) = self.active.get_mut(&id) else { return };
        active.recall_warning();
        let new = if active.is_locked() { Wake::default() } else { active.job.wake(now) };
        let old = std::mem::replace(&mut active.wake, new);
        self.wakes.remove(id, old);
        let unwritten = active.is_dirty() && active.writing.is_none() && !self.unwritten.contains(&id);
        if unwritten && self.outbox.is_full() {
            self.outbox.line_up(id);
        } else if unwritten {
            let snapshot = Box::new(active.job.clone());
            let put = Change::Put { job: snapshot.clone(), expected: Some(active.stored) };
            active.writing = Some(Writing::Behind(snapshot));
            self.commit(id, put);
        }
        let active = &self.active[&id];
        if active.is_quiet() && !active.job.index_wake().is_some_and(|at| self.is_near(at)) {
            let wake = active.job.index_wake();
            self.let_go(id);
            return self.load_later(wake);
        }
        self.wakes.insert(id, new);
    }

    pub fn commit(&mut self, job: JobId, change: Change) {
        let (inbox, write) = (self.inbox.clone(), self.metrics.write());
        let done = move |result| {
            write.done();
            // The engine is gone only when the daemon is.
            let _ = inbox.send(Inner::Committed { job, result });
        };
        self.write(vec![change], Box::new(done));
    }

    pub(super) fn inner(&mut self, message: Inner) {
        self.watch_the_clock();
        match message {
            Inner::Committed { job, result } => self.committed(job, result),
            Inner::Submitted { job, reply, result } => self.submitted(*job, reply, result),
            Inner::SubmittedMany { places, reply, result } => self.submitted_many(places, reply, result),
            Inner::Round { server, epoch, targets, round } => {
                self.part_answered(&server, epoch, &targets, &round);
            }
            Inner::Listed { server, epoch, listed, sent, received } => {
                self.remember_listing(&server, epoch, &listed, sent, received);
            }
            Inner::RoundOver { server, urgency, took, answered } => {
                self.round_over(&server, urgency, took, answered);
            }
            Inner::TurnOver { server, took, answered } => self.turn_over(&server, took, answered),
            Inner::Answered { server, job, instance, attempt, answer } => {
                if let Some(known) = self.servers.get_mut(&server) {
                    known.lane.end_answered();
                    let now = self.clock.now();
                    self.book.answered(&instance, job, &answer, now);
                    self.metrics.end_answered(known.platform.kind(), &server, &answer);
                }
                self.step(job, Event::Answered { attempt, answer });
                self.touched.insert(server);
            }
            Inner::Locked { job, result } => {
                self.step(job, Event::Locked(result));
            }
            Inner::Warned { server, epoch, job, mark, result } => {
                self.warned(&server, epoch, job, mark, result);
            }
            Inner::Probed { server, epoch, result } => self.probed(&server, epoch, result),
            Inner::DueSoon { ticket, read } => self.loaded(ticket, read),
            Inner::KeptFeeds(feeds) => self.feeds_are_read(&feeds),
            Inner::Planned(plan) => self.planned(plan),
            Inner::PlanFetched { ticket, fetched } => self.plan_fetched(ticket, fetched),
            Inner::PlanWritten(result) => self.plan_written(result),
            Inner::Swept { server, sent, result } => self.swept(&server, sent, result),
            Inner::Stocked { server, stock } => self.stocked(&server, stock),
        }
        self.send_what_waits();
    }

    fn committed(&mut self, id: JobId, result: Result<(), StoreError>) {
        let now = self.now();
        let Some(active) = self.active.get_mut(&id) else { return };
        match (active.writing.take(), result) {
            (Some(Writing::Behind(snapshot)), Ok(())) => {
                active.stored = snapshot.revision;
                let notices = active.publish(snapshot.history.total(), now);
                if snapshot.claimed.is_some() {
                    active.wake_claim_waiters();
                }
                if snapshot.warnings.claimed.is_some() {
                    active.wake_warning_waiters();
                }
                self.count_outcomes(&notices);
                self.announce_in_chorus(notices);
                self.store_health.wrote();
            }
            (Some(Writing::Behind(_)), Err(StoreError::Revision { found: None, .. }))
                if active.job.is_done() =>
            {
                // Its retention ran out meanwhile: there is nothing left to write.
                return self.forget(id);
            }
            (Some(Writing::Behind(_)), Err(error)) => {
                if self.store_health.not_written(&error) {
                    tracing::error!(%error, "a change could not be written; it is kept in memory and written again until it can be");
                }
                self.unwritten.insert(id);
                self.write_again.get_or_insert(now.boot + WRITE_RETRY);
            }
            (Some(Writing::Request { candidate, reply }), result) => {
                self.request_committed(id, *candidate, reply, result);
            }
            // A plan's write is answered for all its jobs at once.
            (writing @ Some(Writing::Plan(_)), _) => active.writing = writing,
            (None, _) => {}
        }
        self.unlock(id);
    }

    pub fn count_outcomes(&self, notices: &[Notice]) {
        for view in notices.iter().filter(|notice| notice.event == "concluded").filter_map(|n| n.job.as_ref())
        {
            if let (Some(outcome), Some(server)) = (view.outcome, self.servers.get(&view.server)) {
                self.metrics.concluded(server.platform.kind(), &view.server, outcome);
            }
        }
    }

    /// Drops a job from memory, whatever it waits for.
    pub fn forget(&mut self, id: JobId) {
        let Some(active) = self.let_go(id) else { return };
        self.wakes.remove(id, active.wake);
        self.unwritten.remove(&id);
    }

    /// Hands on what has waited for a write; stops when that starts another one that locks.
    pub fn unlock(&mut self, id: JobId) {
        let now = self.now();
        if let Some(active) = self.active.get_mut(&id) {
            active.unlocked(now);
        }
        self.queue_what_was_missed(id);
        self.settle(id);
        while let Some(active) = self.active.get_mut(&id) {
            let change_must_wait = active.writing.is_some();
            match active.deferred.front() {
                Some(Deferred::Change(_)) if change_must_wait => return,
                Some(Deferred::Event(_)) if active.is_locked() => return,
                None => return,
                Some(_) => {}
            }
            match active.deferred.pop_front() {
                Some(Deferred::Event(event)) => {
                    self.step(id, event);
                }
                Some(Deferred::Change(change)) => self.change(id, change),
                None => return,
            }
        }
    }

    /// Lets every lane that was touched do what it can.
    fn pump(&mut self) {
        let now = self.now().boot;
        let ready = self.servers.iter().filter(|(_, server)| server.wake(now).is_some_and(|at| at <= now));
        let mut touched: BTreeSet<ServerName> = ready.map(|(name, _)| name.clone()).collect();
        touched.append(&mut self.touched);
        if self.stopping {
            return;
        }
        while let Some(name) = touched.pop_first() {
            self.pump_ends(&name);
            self.pump_looks(&name);
            self.pump_warnings(&name);
            self.pump_probe(&name);
            touched.append(&mut self.touched);
        }
    }
}
