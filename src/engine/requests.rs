//! What people and the schedule file ask for. Nothing is acknowledged before it is durable.

use std::sync::Arc;

use sha2::{Digest, Sha256};
use tokio::sync::oneshot;
use uuid::{NoContext, Timestamp, Uuid};

use super::active::{Active, ChangeRequest, Deferred, Reply, Writing, announce, notices};
use super::api::{
    Hold, Receipt, Refusal, RefusalKind, ServerStatus, Standing, Status, StoreStatus, Submission, When,
};
use super::bulk::{BulkReply, Prepared};
use super::core::{Core, HORIZON, Inner};
use super::plan::SCHEDULE_KEYS;
use super::reload::{Ask, Current, Planned};
use super::server::Server;
use super::sweep::RULE_KEYS;
use crate::config::limits::{lock_fault, warn_text_fault};
use crate::config::settings::Settings;
use crate::job::{By, Change, Conflict, Event, Job, JobId, Key, Now, Order, ServerName, State, UtcMs};
use crate::platform::Platform;
use crate::schedule::{Feeds, Source};
use crate::store::{Change as Write, Store, StoreError, Stored};

/// A message to the engine, with the place for its answer.
#[derive(Debug)]
pub(super) enum Request {
    Submit(Submission, Reply),
    /// What a submit would come to; nothing is made.
    WouldSubmit(Submission, Reply),
    SubmitMany(Vec<Prepared>, BulkReply),
    Put(Submission, Reply),
    Change {
        id: JobId,
        if_match: Option<u64>,
        change: Change,
        by: By,
        reply: Reply,
    },
    Status(oneshot::Sender<Status>),
    Standing(oneshot::Sender<Standing>),
    Platform(ServerName, PlatformReply),
    /// These settings are to count, with these calendars beside those that are known.
    Reload(Arc<Settings>, Arc<Feeds>, oneshot::Sender<Planned>),
    /// What would that do?
    Rehearse(Arc<Settings>, Arc<Feeds>, oneshot::Sender<Planned>),
    ScheduleRefused(String),
    /// Compares the schedule with the jobs once more, as time has passed.
    Expand(oneshot::Sender<Planned>),
    /// New copies of the calendars.
    Feeds(Feeds, Vec<Source>),
    Current(oneshot::Sender<Option<Current>>),
    /// Sweeps whose turn has come begin now, and not when the loop wakes by itself.
    #[cfg(test)]
    Tick,
}

pub(super) struct PlatformReply(pub oneshot::Sender<Result<Arc<dyn Platform>, Refusal>>);

impl std::fmt::Debug for PlatformReply {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("PlatformReply")
    }
}

/// What a submission comes to.
enum Asked {
    Anew(Box<Job>),
    /// Its key has made this job before.
    Before(Box<Job>),
}

/// Whoever asked may have gone; what was done is done all the same.
pub(super) fn answer<T>(reply: oneshot::Sender<T>, answer: T) {
    let _ = reply.send(answer);
}

pub(super) fn refusal(kind: RefusalKind, detail: impl Into<String>, hint: impl Into<String>) -> Refusal {
    Refusal { kind, detail: detail.into(), hint: hint.into() }
}

impl Core {
    pub(super) fn request(&mut self, request: Request) {
        self.watch_the_clock();
        match request {
            Request::Submit(submission, reply) => self.submit(submission, reply),
            Request::WouldSubmit(submission, reply) => {
                let asked = self.asked(&submission).map(|asked| match asked {
                    Asked::Anew(job) => self.receipt(*job, true),
                    Asked::Before(job) => self.receipt(*job, false),
                });
                answer(reply, asked);
            }
            Request::SubmitMany(batch, reply) => self.submit_many(batch, reply),
            Request::Put(submission, reply) => self.put(submission, reply),
            Request::Change { id, if_match, change, by, reply } => {
                self.change(id, ChangeRequest { if_match, version: None, change, by, reply });
            }
            Request::Status(reply) => answer(reply, self.status()),
            Request::Standing(reply) => answer(reply, self.standing()),
            Request::Platform(name, PlatformReply(reply)) => {
                let found = self.servers.get(&name).map(|server| server.platform.clone());
                answer(reply, found.ok_or_else(|| self.unknown_server(&name, RefusalKind::NotFound)));
            }
            Request::Reload(settings, feeds, reply) => self.ask_plan(Ask::reload(settings, feeds, reply)),
            Request::Rehearse(settings, feeds, reply) => {
                self.ask_plan(Ask::rehearse(settings, feeds, reply));
            }
            Request::ScheduleRefused(why) => self.schedule_error = Some(why),
            Request::Expand(reply) => self.ask_plan(Ask::expand(Some(reply))),
            Request::Feeds(feeds, gone) => {
                let mut others = Feeds::clone(&self.feeds);
                gone.iter().for_each(|source| others.remove(source));
                // A reload may have brought others meanwhile.
                self.feeds = self.used_feeds(feeds.or(&others));
                self.ask_plan(Ask::expand(None));
            }
            Request::Current(reply) => match &mut self.unread_feeds {
                // Whoever reads calendars has to know which good copies there are.
                Some(waiting) => waiting.push(reply),
                None => self.answer_current(reply),
            },
            #[cfg(test)]
            Request::Tick => self.tick(),
        }
    }

    pub(super) fn answer_current(&self, reply: oneshot::Sender<Option<Current>>) {
        let (now, feeds) = (self.now(), self.feeds.clone());
        let settings = self.settings.clone();
        answer(reply, settings.map(|settings| Current { settings, feeds, now }));
    }

    pub(super) fn submit(&mut self, submission: Submission, reply: Reply) {
        match self.asked(&submission) {
            Ok(Asked::Anew(job)) => self.write_new(*job, reply),
            Ok(Asked::Before(job)) => answer(reply, Ok(self.receipt(*job, false))),
            Err(refusal) => answer(reply, Err(refusal)),
        }
    }

    pub(super) fn write_new(&mut self, job: Job, reply: Reply) {
        let (inbox, write) = (self.inbox.clone(), self.metrics.write());
        let job = Box::new(job);
        self.submitting.insert(job.id, job.server.clone());
        let put = Write::Put { job: job.clone(), expected: None };
        let done = move |result| {
            write.done();
            let _ = inbox.send(Inner::Submitted { job, reply, result });
        };
        self.write(vec![put], Box::new(done));
    }

    fn asked(&self, submission: &Submission) -> Result<Asked, Refusal> {
        self.permit(submission)?;
        let key = key_of(submission);
        if let Some(key) = &key
            && let Some(job) = job_of_key(&*self.store, &submission.server, key)?
        {
            return Ok(Asked::Before(Box::new(job)));
        }
        self.new_job(submission, key).map(|job| Asked::Anew(Box::new(job)))
    }

    pub(super) fn permit(&self, submission: &Submission) -> Result<(), Refusal> {
        let Submission { server, key, by, .. } = submission;
        if !self.servers.contains_key(server) {
            return Err(self.unknown_server(server, RefusalKind::Invalid));
        }
        if self.plans.leaving.contains(server) {
            return Err(refusal(
                RefusalKind::Conflict,
                format!("server {server} is being taken out of the schedule"),
                "submit again in a moment, if it is still there",
            ));
        }
        if matches!(submission.when, When::In(_)) && self.trust.doubts_the_start() {
            return Err(refusal(
                RefusalKind::Conflict,
                "the clock of this machine has not been set since it started, so a time from now on cannot be worked out yet",
                "give the time of day instead (--at, \"at\"), or try again in 5 minutes; adjourn status says how the clock is",
            ));
        }
        let reserved = [SCHEDULE_KEYS, RULE_KEYS].into_iter().find(|reserved| {
            *by != By::Schedule && key.as_ref().is_some_and(|key| key.starts_with(reserved))
        });
        if let Some(reserved) = reserved {
            let detail = format!("idempotency keys that begin with {reserved:?} belong to the schedule file");
            return Err(refusal(RefusalKind::Invalid, detail, "use another key"));
        }
        Ok(())
    }

    /// The job that this submission makes, if nothing stands against it.
    pub(super) fn new_job(&self, submission: &Submission, key: Option<Key>) -> Result<Job, Refusal> {
        let Submission { server, meeting, max_duration, only, limits, hold, origin, by, .. } = submission;
        let Some(known) = self.servers.get(server) else {
            return Err(self.unknown_server(server, RefusalKind::Invalid));
        };
        if max_duration.is_some() && limits.keep_closed.is_some_and(|span| !span.is_zero()) {
            return Err(refusal(
                RefusalKind::Invalid,
                "keep-closed does not go with max-duration, which is about one run of the meeting",
                "leave one of the two out",
            ));
        }
        if let Some((detail, hint)) = known.platform.meeting_fault(meeting) {
            return Err(refusal(RefusalKind::Invalid, detail, hint));
        }
        let limits = limits.over(&known.limits);
        if let Some((detail, hint)) = lock_fault(server.as_str(), limits.lock, known.lock) {
            return Err(refusal(RefusalKind::Invalid, detail, hint));
        }
        // An entry of the schedule has been checked; what a text of the server's may do to it must cost no deadline.
        let told = limits.warn_text.as_ref().filter(|_| *by != By::Schedule);
        if let Some((detail, hint)) =
            told.and_then(|text| warn_text_fault(text, limits.language(), Some(meeting)))
        {
            return Err(refusal(RefusalKind::Invalid, detail, hint));
        }
        let now = self.now();
        let order = Order {
            id: (self.makers.new_id)(now),
            server: server.clone(),
            meeting: meeting.clone(),
            only: only.clone(),
            key,
            limits,
            at_most: None,
            max_duration: *max_duration,
            due: due(submission, now)?,
            origin: origin.clone(),
            by: by.clone(),
        };
        let job = Job::submit(order, now);
        match hold {
            None => Ok(job),
            Some(Hold { until }) => {
                job.change(&Change::Hold { until: *until }, by.clone(), now).map_err(in_the_way)
            }
        }
    }

    pub(super) fn submitted(&mut self, job: Job, reply: Reply, result: Result<(), StoreError>) {
        self.submitting.remove(&job.id);
        match result {
            Ok(()) => {
                self.store_health.wrote();
                let now = self.now();
                announce(&self.events, notices(&job, 0, job.history.total(), now));
                self.take_up(&job);
                answer(reply, Ok(self.receipt(job, true)));
            }
            Err(StoreError::KeyTaken { .. }) => {
                // Somebody was faster with the same key: the request is answered like a later one.
                let key = job.key.clone().expect("only a key can be taken");
                let known = job_of_key(&*self.store, &job.server, &key).and_then(|known| {
                    known.ok_or_else(|| {
                        refusal(RefusalKind::StoreFailed, "the key's job is gone", "try again")
                    })
                });
                answer(reply, known.map(|known| self.receipt(known, false)));
            }
            Err(error) => answer(reply, Err(self.cannot_write(error))),
        }
    }

    pub(super) fn cannot_write(&mut self, error: StoreError) -> Refusal {
        if self.store_health.not_written(&error) {
            tracing::error!(%error, "the disk takes no changes: new work is refused until it does, accepted deadlines still fire");
        }
        store_failed(error)
    }

    /// A job that has just been written: into memory if it is due soon.
    pub(super) fn take_up(&mut self, job: &Job) {
        let id = job.id;
        self.note_new(job);
        if self.active.contains_key(&id) {
            // A change was faster: it has read this very record.
            return;
        }
        match job.index_wake() {
            Some(wake) if self.is_near(wake) => {
                let mut active = Active::written(job.clone());
                // What came in time is not late because the disk is slow.
                active.job.run.kept_waiting = job.due >= job.submitted.wall;
                self.active.insert(id, active);
                self.step(id, Event::Tick);
            }
            wake => self.load_later(wake),
        }
    }

    fn put(&mut self, submission: Submission, reply: Reply) {
        let key = submission.key.clone().unwrap_or_default();
        let found = self.store.by_key(&submission.server, &key).and_then(|id| match id {
            Some(id) => self.store.get(id),
            None => Ok(None),
        });
        let job = match found {
            Ok(Some(job)) => job,
            Ok(None) => return self.submit(submission, reply),
            Err(error) => return answer(reply, Err(store_failed(error))),
        };
        if job.meeting != submission.meeting {
            let detail = format!("the key {key:?} belongs to meeting {}", job.meeting);
            return answer(
                reply,
                Err(refusal(RefusalKind::KeyReused, detail, "use one key for one meeting's deadline")),
            );
        }
        let pending =
            self.active.get(&job.id).is_some_and(|active| active.is_locked() || !active.deferred.is_empty());
        match due(&submission, self.now()) {
            Ok(to) if submission.max_duration.is_some() => {
                let same = submission.max_duration == job.max_duration && to == job.due && !job.is_done();
                answer(reply, if same { Ok(self.receipt(job, false)) } else { Err(cannot_wait(&job)) });
            }
            // An extended one is planned anew, be it at the same time.
            Ok(to) if to == job.due && job.extended_from.is_none() && !job.is_done() && !pending => {
                answer(reply, Ok(self.receipt(job, false)));
            }
            Ok(to) => {
                let (change, by) = (Change::Move { to }, submission.by);
                self.change(job.id, ChangeRequest { if_match: None, version: None, change, by, reply });
            }
            Err(refusal) => answer(reply, Err(refusal)),
        }
    }

    /// Changes a job: at once in a candidate, for real when that is durable.
    pub(super) fn change(&mut self, id: JobId, request: ChangeRequest) {
        if !self.active.contains_key(&id) {
            match self.store.read(id) {
                Ok(Some(job)) => self.adopt_for_change(job),
                Ok(None) => {
                    let gone = refusal(
                        RefusalKind::NotFound,
                        format!("there is no job {id}"),
                        "list them with: adjourn list",
                    );
                    return answer(request.reply, Err(gone));
                }
                Err(error) => return answer(request.reply, Err(store_failed(error))),
            }
        }
        let now = self.now();
        let Some(active) = self.active.get_mut(&id) else {
            let gone = refusal(
                RefusalKind::Conflict,
                format!("job {id} has just ended"),
                "see it with: adjourn list",
            );
            return answer(request.reply, Err(gone));
        };
        if active.writing.is_some() {
            active.deferred.push_back(Deferred::Change(request));
            return;
        }
        let ChangeRequest { if_match, version, change, by, reply } = request;
        let changed = match if_match {
            _ if version.is_some_and(|version| version != active.job.version()) => {
                Err(overtaken(&active.job))
            }
            Some(expected) if expected != active.job.revision => Err(stale(&active.job, expected)),
            _ => active.job.change(&change, by, now).map_err(in_the_way),
        };
        match changed {
            Ok(candidate) => {
                let candidate = Box::new(candidate);
                let put = Write::Put { job: candidate.clone(), expected: Some(active.stored) };
                active.lock(Writing::Request { candidate, reply }, now);
                self.commit(id, put);
            }
            Err(refusal) => answer(reply, Err(refusal)),
        }
        self.settle(id);
    }

    /// A job far from due is in memory only while it is changed. One that is near was not read yet: it is taken up first,
    /// so that what a crash left behind is known before anything is changed.
    fn adopt_for_change(&mut self, job: Stored) {
        match job.index_wake() {
            Some(wake) if !job.is_done() && self.is_near(wake) => self.adopt(job),
            _ => {
                self.active.insert(job.id, Active::stored(job));
            }
        }
    }

    pub(super) fn request_committed(
        &mut self,
        id: JobId,
        candidate: Job,
        reply: Reply,
        result: Result<(), StoreError>,
    ) {
        let now = self.now();
        if let Err(error) = result {
            let refusal = self.cannot_write(error);
            return answer(reply, Err(refusal));
        }
        self.store_health.wrote();
        let Some(active) = self.active.get_mut(&id) else { return };
        active.becomes(candidate);
        active.unlocked(now);
        let notices = active.publish(active.job.history.total(), now);
        let job = active.job.clone();
        self.count_outcomes(&notices);
        announce(&self.events, notices);
        let receipt = self.receipt(job, false);
        answer(reply, Ok(receipt));
        self.step(id, Event::Tick);
    }

    /// The other open deadlines of the meeting are named with every answer.
    fn receipt(&self, job: Job, created: bool) -> Receipt {
        let others = self.store.of_meeting(&job.server, &job.meeting).unwrap_or_default();
        let others = others.into_iter().filter(|other| other.id != job.id).collect();
        Receipt { job, created, others }
    }

    pub(super) fn unknown_server(&self, name: &ServerName, kind: RefusalKind) -> Refusal {
        let known: Vec<&str> = self.servers.keys().map(ServerName::as_str).collect();
        let hint = match known.as_slice() {
            [] => "no server is configured; add [servers.NAME] to the schedule file and reload".to_owned(),
            known => format!("configured servers: {}", known.join(", ")),
        };
        refusal(kind, format!("there is no server {:?}", name.as_str()), hint)
    }

    fn standing(&self) -> Standing {
        Standing {
            schedule: self.settings.as_ref().map(|settings| settings.schedule.clone()).unwrap_or_default(),
            feeds: self.feeds.clone(),
            servers: self.servers.keys().cloned().collect(),
            telling: self.servers.iter().map(|(name, server)| (name.clone(), server.telling())).collect(),
            gone: self.sweepers.values().flat_map(|sweeper| sweeper.gone.clone()).collect(),
        }
    }

    fn server_status(&self, name: &ServerName, server: &Server) -> ServerStatus {
        let mut status = server.status();
        if let Some(sweeper) = self.sweepers.get(name) {
            sweeper.note(&mut status);
        }
        status
    }

    fn status(&self) -> Status {
        let now = self.now();
        let near = self
            .active
            .values()
            .filter(|active| active.job.state == State::Waiting && !active.job.due.is_never())
            .map(|active| active.job.next_warning_at(now.wall).unwrap_or(active.job.due))
            .min();
        // A job may be in memory for its first warning, and its deadline be further away than that of one that is not.
        let far = self.store.next_wake(now.wall + HORIZON).ok().flatten();
        let next_due = [near, far].into_iter().flatten().min();
        Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            started_at: self.started.wall.to_string(),
            jobs: self.store.counts().unwrap_or_default(),
            in_memory: self.active.len(),
            overdue: self
                .active
                .values()
                .filter(|active| active.job.overdue && !active.job.is_done())
                .count(),
            next_due: next_due.map(|at| at.to_string()),
            servers: self
                .servers
                .iter()
                .map(|(name, server)| (name.clone(), self.server_status(name, server)))
                .collect(),
            clock: self.clock_status(),
            store: StoreStatus {
                path: self.state_dir.display().to_string(),
                error: self.store_health.error(),
                behind: self.active.values().filter(|active| active.is_dirty()).count(),
                ..StoreStatus::default()
            },
            schedule_error: self.schedule_error.clone().or_else(|| self.plans.error.clone()),
            feeds: self.feeds.held().map(|(source, why)| format!("the feed {source} {why}")).collect(),
            ..Status::default()
        }
    }
}

/// The instant that a submission asks for. Only the schedule file may name one that has passed, and a hold that does not
/// end before it.
pub(crate) fn due(submission: &Submission, now: Now) -> Result<UtcMs, Refusal> {
    let at = match submission.when {
        When::Now => return Ok(now.wall),
        When::AfterStart => return Ok(UtcMs::NEVER),
        When::In(pause) => return Ok(now.wall + pause),
        When::At(at) => at,
    };
    let held = submission.hold.is_some_and(|hold| hold.until.is_none_or(|until| until >= at));
    if at > now.wall || held || submission.by == By::Schedule {
        return Ok(at);
    }
    Err(refusal(
        RefusalKind::Invalid,
        format!("the time {at} has passed"),
        "give a time to come, or end the meeting now with --now (\"now\": true)",
    ))
}

pub(super) fn key_of(submission: &Submission) -> Option<Key> {
    let key = submission.key.clone()?;
    Some(Key { key, fingerprint: fingerprint(submission) })
}

/// The job that this request has made before, if it has.
pub(super) fn job_of_key(store: &dyn Store, server: &ServerName, key: &Key) -> Result<Option<Job>, Refusal> {
    let Some(id) = store.by_key(server, &key.key).map_err(store_failed)? else { return Ok(None) };
    let Some(job) = store.get(id).map_err(store_failed)? else { return Ok(None) };
    if job.key.as_ref().is_some_and(|known| known.fingerprint == key.fingerprint) {
        return Ok(Some(job));
    }
    Err(key_reused(key, id))
}

pub(super) fn key_reused(key: &Key, id: JobId) -> Refusal {
    refusal(
        RefusalKind::KeyReused,
        format!(
            "the idempotency key {:?} belongs to job {}, which another request made",
            key.key,
            id.short()
        ),
        format!("use a new key, or change that job: adjourn show {}", id.short()),
    )
}

pub(super) fn new_id(now: Now) -> JobId {
    let ms = u64::try_from(now.wall.0).unwrap_or(0);
    let nanos = u32::try_from(ms % 1_000).unwrap_or(0) * 1_000_000;
    JobId(Uuid::new_v7(Timestamp::from_unix(NoContext, ms / 1_000, nanos)))
}

/// The same request, word for word, has the same fingerprint.
fn fingerprint(submission: &Submission) -> String {
    let text = serde_json::to_vec(submission).expect("a submission is plain data");
    Sha256::digest(&text).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn stale(job: &Job, expected: u64) -> Refusal {
    refusal(
        RefusalKind::StaleRevision,
        format!("job {} has revision {}, not {expected}", job.id.short(), job.revision),
        format!("read it again: adjourn show {}", job.id.short()),
    )
}

fn overtaken(job: &Job) -> Refusal {
    let detail = format!("more has happened to job {} since it was read", job.id.short());
    refusal(RefusalKind::Conflict, detail, "it is read again with the next sweep")
}

fn cannot_wait(job: &Job) -> Refusal {
    refusal(
        RefusalKind::Conflict,
        format!("job {} of this key cannot be given another max-duration", job.id.short()),
        "use another key, or cancel that job first",
    )
}

fn in_the_way(conflict: Conflict) -> Refusal {
    refusal(RefusalKind::Conflict, conflict.what, conflict.hint)
}

fn store_failed(error: StoreError) -> Refusal {
    refusal(
        RefusalKind::StoreFailed,
        error.to_string(),
        "nothing was changed; free space on that disk (or see the daemon's log), then try again; accepted deadlines still fire",
    )
}
