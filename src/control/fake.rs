//! A daemon without an engine: for the tests of the routes and of the command line.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::broadcast;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::engine::api::{
    Notice, PlannedAction, PlannedChange, Receipt, Refusal, RefusalKind, Reloaded, RuleHit, ServerStatus,
    Service, Standing, Status, StoreStatus, Submission, UnreadFeed, Unseen, When,
};
use crate::job::{
    BootMs, By, Change, Conflict, Fact, InstanceId, Job, JobId, JobView, Key, Limits, MeetingId, Now, Order,
    Origin, Outcome, ServerName, State, UtcMs,
};
use crate::metrics::Metrics;
use crate::platform::{LiveMeeting, Memory, Telling};
use crate::schedule::Schedule;
use crate::store::{self, Counts, Filter, Store, StoreError};

/// 2026-12-01T17:15:00+01:00.
pub(crate) const NOW: Now = Now { wall: UtcMs(1_796_141_700_000), boot: BootMs(5_000_000) };
pub(crate) const MINUTE: i64 = 60_000;

pub(crate) struct FakeStore {
    pub(crate) jobs: Mutex<Vec<Job>>,
    was_read: mpsc::Sender<()>,
    /// Hears of every read of one job.
    pub(crate) reads: Mutex<mpsc::Receiver<()>>,
}

pub(crate) struct FakeService {
    pub(crate) store: Arc<FakeStore>,
    pub(crate) events: broadcast::Sender<Arc<Notice>>,
    /// What the next submit or change is refused with.
    pub(crate) refuse: Mutex<Option<Refusal>>,
    /// Submissions that arrived.
    pub(crate) submissions: Mutex<Vec<Submission>>,
    pub(crate) changes: Mutex<Vec<(JobId, Change, By)>>,
    /// A `meetings` that never answers.
    pub(crate) hang: Mutex<bool>,
    pub(crate) unlocked: Mutex<Vec<MeetingId>>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) schedule: Mutex<Schedule>,
}

/// One entry is moved by an hour.
fn reloaded() -> Reloaded {
    let change = PlannedChange {
        action: PlannedAction::Move,
        name: "exam".to_owned(),
        server: "campus".into(),
        meeting: "math-101".into(),
        from: Some(NOW.wall + Duration::from_secs(2_700)),
        to: Some(NOW.wall + Duration::from_secs(6_300)),
        reason: "the file gives another time".to_owned(),
        job: Some(id(1)),
    };
    Reloaded { changes: vec![change], ..Reloaded::default() }
}

/// Ids in order of `n`, the last eight characters telling them apart.
pub(crate) fn id(n: u32) -> JobId {
    JobId(Uuid::from_u128(0x019a_0000_0000_7000_8000_0000_0000_0000 | u128::from(n)))
}

pub(crate) fn job(n: u32, meeting: &str, due_in: Duration) -> Job {
    let order = Order {
        id: id(n),
        server: "campus".into(),
        meeting: meeting.into(),
        only: None,
        key: None,
        limits: Limits::default(),
        at_most: None,
        max_duration: None,
        due: NOW.wall + due_in,
        origin: Origin::Api,
        by: By::Peer { uid: 1000, pid: None },
    };
    Job::submit(order, NOW)
}

pub(crate) fn concluded(mut job: Job, outcome: Outcome, reason: &str) -> Job {
    job.record(NOW, Fact::Concluded { outcome, reason: reason.to_owned() });
    job
}

impl FakeService {
    pub(crate) fn new(jobs: Vec<Job>) -> Arc<FakeService> {
        let (was_read, reads) = mpsc::channel();
        Arc::new(FakeService {
            store: Arc::new(FakeStore { jobs: Mutex::new(jobs), was_read, reads: Mutex::new(reads) }),
            events: broadcast::channel(4).0,
            refuse: Mutex::default(),
            submissions: Mutex::default(),
            changes: Mutex::default(),
            hang: Mutex::default(),
            unlocked: Mutex::default(),
            metrics: Arc::default(),
            schedule: Mutex::default(),
        })
    }

    pub(crate) fn refuse_next(&self, kind: RefusalKind, detail: &str, hint: &str) {
        *self.refuse.lock().unwrap() = Some(Refusal { kind, detail: detail.into(), hint: hint.into() });
    }

    /// Replaces the job and tells the listeners.
    pub(crate) fn publish(&self, job: Job, event: &str) {
        let view = JobView::new(&job, NOW);
        let mut jobs = self.store.jobs.lock().unwrap();
        jobs.retain(|other| other.id != job.id);
        jobs.push(job);
        drop(jobs);
        let text = format!("{event} happened");
        let server = view.server.clone();
        let at = NOW.wall.to_string();
        let _ = self.events.send(Arc::new(Notice {
            event: event.into(),
            text,
            at,
            server,
            job: Some(view),
            told: None,
        }));
    }

    fn refused(&self) -> Result<(), Refusal> {
        self.refuse.lock().unwrap().take().map_or(Ok(()), Err)
    }

    fn receipt(&self, job: Job, created: bool) -> Receipt {
        let mut others = self.store.of_meeting(&job.server, &job.meeting).unwrap();
        others.retain(|other| other.id != job.id);
        Receipt { job, created, others }
    }
}

#[async_trait]
impl Service for FakeService {
    async fn would_submit(&self, submission: Submission) -> Result<Receipt, Refusal> {
        self.meetings(&submission.server).await?;
        let before = self.store.jobs.lock().unwrap().clone();
        let receipt = self.submit(submission).await;
        *self.store.jobs.lock().unwrap() = before;
        self.submissions.lock().unwrap().pop();
        receipt
    }

    async fn submit(&self, submission: Submission) -> Result<Receipt, Refusal> {
        self.submissions.lock().unwrap().push(submission.clone());
        self.refused()?;
        if let Some(key) = &submission.key
            && let Some(known) = self.store.by_key(&submission.server, key).unwrap()
        {
            return Ok(self.receipt(self.store.get(known).unwrap().unwrap(), false));
        }
        let due = match submission.when {
            When::At(at) => at,
            When::In(wait) => NOW.wall + wait,
            When::Now => NOW.wall,
            When::AfterStart => UtcMs::NEVER,
        };
        let n = u32::try_from(self.store.jobs.lock().unwrap().len()).unwrap() + 100;
        let job = Job::submit(
            Order {
                id: id(n),
                server: submission.server,
                meeting: submission.meeting,
                only: submission.only,
                key: submission.key.map(|key| Key { key, fingerprint: String::new() }),
                limits: submission.limits.over(&Limits::default()),
                at_most: None,
                max_duration: submission.max_duration,
                due,
                origin: submission.origin,
                by: submission.by,
            },
            NOW,
        );
        self.store.jobs.lock().unwrap().push(job.clone());
        Ok(self.receipt(job, true))
    }

    async fn submit_many(&self, submissions: Vec<Submission>) -> Vec<Result<Receipt, Refusal>> {
        let mut answers = Vec::new();
        for submission in submissions {
            answers.push(self.submit(submission).await);
        }
        answers
    }

    async fn put(&self, submission: Submission) -> Result<Receipt, Refusal> {
        let known = self.store.by_key(&submission.server, submission.key.as_deref().unwrap_or_default());
        if let (Ok(Some(id)), When::At(to)) = (known, submission.when) {
            return self.change(id, None, Change::Move { to }, submission.by).await;
        }
        self.submit(submission).await
    }

    async fn change(
        &self,
        id: JobId,
        if_match: Option<u64>,
        change: Change,
        by: By,
    ) -> Result<Receipt, Refusal> {
        self.changes.lock().unwrap().push((id, change.clone(), by.clone()));
        self.refused()?;
        let refusal = |kind, detail: &str| Refusal { kind, detail: detail.into(), hint: "look again".into() };
        let mut jobs = self.store.jobs.lock().unwrap();
        let Some(job) = jobs.iter_mut().find(|job| job.id == id) else {
            return Err(refusal(RefusalKind::NotFound, "no such job"));
        };
        if if_match.is_some_and(|revision| revision != job.revision) {
            return Err(refusal(RefusalKind::StaleRevision, "the job has changed"));
        }
        match change {
            Change::Move { to } => job.record(NOW, Fact::Moved { to, extension: false, by }),
            change @ (Change::Extend { .. } | Change::ExtendTo { .. }) => {
                let in_the_way = |conflict: Conflict| Refusal {
                    kind: RefusalKind::Conflict,
                    detail: conflict.what,
                    hint: conflict.hint,
                };
                *job = job.change(&change, by, NOW).map_err(in_the_way)?;
            }
            Change::Hold { until } => job.record(NOW, Fact::Held { until, by }),
            Change::Release { due } => {
                if let Some(to) = due {
                    job.record(NOW, Fact::Moved { to, extension: false, by: by.clone() });
                }
                job.record(NOW, Fact::Released { by: Some(by) });
            }
            Change::Fire => job.record(NOW, Fact::Moved { to: NOW.wall, extension: false, by }),
            Change::Miss { reason } => {
                job.record(NOW, Fact::Concluded { outcome: Outcome::Missed, reason });
            }
            Change::Start { .. } => return Err(refusal(RefusalKind::Conflict, "nothing starts here")),
            Change::Withdraw { reason } => {
                job.record(NOW, Fact::Concluded { outcome: Outcome::Cancelled, reason });
            }
            Change::Cancel => {
                let reason = "cancelled by hand".to_owned();
                job.record(NOW, Fact::Concluded { outcome: Outcome::Cancelled, reason });
            }
        }
        let job = job.clone();
        drop(jobs);
        Ok(self.receipt(job, false))
    }

    async fn status(&self) -> Result<Status, Refusal> {
        let campus = ServerStatus {
            platform: "bigbluebutton".into(),
            summary: "BigBlueButton 3.0".into(),
            reachable: Some(true),
            ..ServerStatus::default()
        };
        Ok(Status {
            version: "0.1.0".into(),
            pid: 4711,
            started_at: NOW.wall.to_string(),
            jobs: self.store.counts().unwrap(),
            servers: [("campus".into(), campus)].into(),
            store: StoreStatus { path: "/var/lib/adjourn/queue".into(), ..StoreStatus::default() },
            ..Status::default()
        })
    }

    async fn standing(&self) -> Result<Standing, Refusal> {
        let schedule = Arc::new(self.schedule.lock().unwrap().clone());
        let telling = [("campus".into(), Telling::impossible("too old".to_owned()))].into();
        Ok(Standing { schedule, servers: vec!["campus".into()], telling, ..Standing::default() })
    }

    async fn unlock(&self, server: &ServerName, meeting: &MeetingId) -> Result<(), Refusal> {
        self.meetings(server).await?;
        self.unlocked.lock().unwrap().push(meeting.clone());
        Ok(())
    }

    async fn meetings(&self, server: &ServerName) -> Result<Vec<LiveMeeting>, Refusal> {
        if server.as_str() != "campus" {
            return Err(Refusal {
                kind: RefusalKind::NotFound,
                detail: format!("there is no server {server}"),
                hint: "the configuration names campus".into(),
            });
        }
        let hang = *self.hang.lock().unwrap();
        if hang {
            std::future::pending::<()>().await;
        }
        Ok(vec![LiveMeeting {
            meeting: "math/101 ü".into(),
            instance: InstanceId("abc-1".into()),
            name: "Mathematics\u{202e} 101\n".into(),
            started_at: Some(NOW.wall - Duration::from_secs(600)),
            participants: Some(23),
            meta: BTreeMap::new(),
            meta_cut: false,
            breakout_of: None,
        }])
    }

    async fn reload(&self) -> Result<Reloaded, Refusal> {
        self.refused()?;
        Ok(Reloaded { applied: true, ..reloaded() })
    }

    async fn would_reload(&self) -> Result<Reloaded, Refusal> {
        self.refused()?;
        let hit = RuleHit {
            rule: "four hours".to_owned(),
            dry_run: true,
            server: "campus".into(),
            meeting: "all-day".into(),
            instance: "i-1".into(),
            name: "All \u{1b}[31mday".to_owned(),
            due: self.now().wall + Duration::from_secs(600),
            reason: "it has run for 5h".to_owned(),
        };
        let unseen = Unseen { server: "events".into(), why: "no answer within 6 s".to_owned() };
        let unread = UnreadFeed {
            source: "calendar.example.org".to_owned(),
            used_by: vec!["calendars.holidays".to_owned()],
            why: "its server answers 500".to_owned(),
            known: false,
        };
        Ok(Reloaded { rules: vec![hit], unseen: vec![unseen], unread: vec![unread], ..reloaded() })
    }

    fn metrics(&self) -> Arc<Metrics> {
        self.metrics.clone()
    }

    fn events(&self) -> broadcast::Receiver<Arc<Notice>> {
        self.events.subscribe()
    }

    fn store(&self) -> Arc<dyn Store> {
        self.store.clone()
    }

    fn now(&self) -> Now {
        NOW
    }
}

impl FakeStore {
    fn matching(&self, pick: impl Fn(&Job) -> bool) -> Vec<Job> {
        self.jobs.lock().unwrap().iter().filter(|job| pick(job)).cloned().collect()
    }
}

impl Store for FakeStore {
    fn commit(&self, _batch: Vec<store::Change>, done: Box<dyn FnOnce(Result<(), StoreError>) + Send>) {
        done(Err(StoreError::Closed));
    }

    fn get(&self, id: JobId) -> Result<Option<Job>, StoreError> {
        let job = self.matching(|job| job.id == id).pop();
        let _ = self.was_read.send(());
        Ok(job)
    }

    fn due_before(
        &self,
        before: UtcMs,
        after: Option<(UtcMs, JobId)>,
        limit: usize,
    ) -> Result<Vec<Job>, StoreError> {
        let mut jobs = self.matching(|job| job.index_wake().is_some_and(|wake| wake < before));
        jobs.sort_by_key(|job| (job.index_wake(), job.id));
        jobs.retain(|job| after.is_none_or(|after| (job.index_wake().unwrap(), job.id) > after));
        jobs.truncate(limit);
        Ok(jobs)
    }

    fn next_wake(&self, _from: UtcMs) -> Result<Option<UtcMs>, StoreError> {
        Ok(None)
    }

    fn by_key(&self, server: &ServerName, key: &str) -> Result<Option<JobId>, StoreError> {
        let mine =
            |job: &Job| job.server == *server && job.key.as_ref().is_some_and(|known| known.key == key);
        Ok(self.matching(mine).pop().map(|job| job.id))
    }

    fn keys(&self, _: &ServerName, _: &str) -> Result<Vec<(String, JobId)>, StoreError> {
        Ok(Vec::new())
    }

    fn open_servers(&self) -> Result<Vec<ServerName>, StoreError> {
        Ok(Vec::new())
    }

    fn of_meeting(&self, server: &ServerName, meeting: &MeetingId) -> Result<Vec<Job>, StoreError> {
        let mut jobs =
            self.matching(|job| job.server == *server && job.meeting == *meeting && job.state != State::Done);
        jobs.sort_by_key(|job| job.due);
        Ok(jobs)
    }

    fn awaiting(&self, server: &ServerName, meeting: &MeetingId) -> Result<Vec<Job>, StoreError> {
        Ok(self.matching(|job| {
            job.server == *server && job.meeting == *meeting && job.awaits_start && !job.is_done()
        }))
    }

    fn any_awaiting(&self, server: &ServerName) -> Result<bool, StoreError> {
        Ok(!self.matching(|job| job.server == *server && job.awaits_start && !job.is_done()).is_empty())
    }

    fn page(&self, filter: &Filter, before: Option<JobId>, limit: usize) -> Result<Vec<Job>, StoreError> {
        let mut jobs = self.matching(|job| {
            (filter.states.is_empty() || filter.states.contains(&job.state))
                && filter.server.as_ref().is_none_or(|server| job.server == *server)
                && (filter.outcomes.is_empty() || job.outcome.is_some_and(|o| filter.outcomes.contains(&o)))
                && filter.since.is_none_or(|since| job.due >= since)
                && filter.until.is_none_or(|until| job.due < until)
                && before.is_none_or(|before| job.id < before)
        });
        jobs.sort_by_key(|job| std::cmp::Reverse(job.id));
        jobs.truncate(limit);
        Ok(jobs)
    }

    fn by_suffix(&self, suffix: &str, limit: usize) -> Result<Vec<JobId>, StoreError> {
        let ends = |job: &Job| job.id.0.simple().to_string().ends_with(suffix);
        Ok(self.matching(ends).into_iter().map(|job| job.id).take(limit).collect())
    }

    fn done_before(&self, _before: UtcMs, _limit: usize) -> Result<Vec<JobId>, StoreError> {
        Ok(Vec::new())
    }

    fn counts(&self) -> Result<Counts, StoreError> {
        let mut counts = Counts::new();
        for job in self.jobs.lock().unwrap().iter() {
            *counts.entry(job.state).or_default() += 1;
        }
        Ok(counts)
    }

    fn memory(&self, _server: &ServerName) -> Result<Option<Memory>, StoreError> {
        Ok(None)
    }
}

/// A control socket with this service behind it, for as long as the value lives.
pub(crate) struct Served {
    pub(crate) socket: std::path::PathBuf,
    pub(crate) service: Arc<FakeService>,
    pub(crate) shutdown: CancellationToken,
    pub(crate) serving: tokio::task::JoinHandle<()>,
    _dir: tempfile::TempDir,
}

impl Served {
    /// Must be called within a runtime.
    pub(crate) fn new(jobs: Vec<Job>) -> Served {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("control.sock");
        let service = FakeService::new(jobs);
        let shutdown = CancellationToken::new();
        let listener = super::listen(&socket, 0o600, None).unwrap();
        let serving = tokio::spawn(super::serve(listener, service.clone(), shutdown.clone()));
        Served { socket, service, shutdown, serving, _dir: dir }
    }

    /// The daemon stops, `meanwhile` happens, and another one takes its place on the same socket.
    pub(crate) async fn restart(&mut self, meanwhile: impl FnOnce(&FakeService)) {
        self.shutdown.cancel();
        (&mut self.serving).await.unwrap();
        meanwhile(&self.service);
        self.shutdown = CancellationToken::new();
        let listener = super::listen(&self.socket, 0o600, None).unwrap();
        self.serving = tokio::spawn(super::serve(listener, self.service.clone(), self.shutdown.clone()));
    }
}
