//! The engine with a scripted platform and a store in memory that can be made to fail.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::api::*;
use super::core::{Core, Parts};
use super::server::Server;
use super::*;
use crate::clock::{Clock, SystemClock, system_now};
use crate::config::settings::{PlatformSettings, ServerSettings};
use crate::job::*;
use crate::platform::network::Network;
use crate::platform::{
    EndCall, Fault, Judgement, Listed, LiveMeeting, Memory, Platform, Probe, Round, Target, Telling, Warning,
    Work, bigbluebutton,
};
use crate::store::{Change as Write, Counts, Filter, StoreError};

mod bulk;
mod burst;
mod catch_up;
mod clock;
mod crowd;
mod plans;
mod put;
mod reload;
pub(super) mod still;
pub(super) mod sweep;
mod turns;
mod warnings;

type Done = Box<dyn FnOnce(Result<(), StoreError>) + Send>;

/// Batches that wait.
type Held = Vec<(Vec<Write>, Done)>;

/// A store that keeps records in memory; `failing` refuses every batch, `held` keeps them waiting.
#[derive(Default)]
struct MemStore {
    jobs: Mutex<BTreeMap<JobId, Job>>,
    failing: Mutex<bool>,
    commits: Mutex<usize>,
    held: Mutex<Option<Held>>,
}

impl MemStore {
    fn fail(&self, failing: bool) {
        *self.failing.lock().unwrap() = failing;
    }

    /// Batches wait from now on.
    fn hold(&self) {
        *self.held.lock().unwrap() = Some(Vec::new());
    }

    fn waiting(&self) -> usize {
        self.held.lock().unwrap().as_ref().map_or(0, Vec::len)
    }

    /// They are written (or, if it fails, refused), and wait no more.
    fn release(&self) {
        let held = self.held.lock().unwrap().take();
        for (batch, done) in held.into_iter().flatten() {
            self.commit(batch, done);
        }
    }

    fn revisions_follow(&self, batch: &[Write]) -> Result<(), StoreError> {
        let jobs = self.jobs.lock().unwrap();
        for change in batch {
            let Write::Put { job, expected } = change else { continue };
            let (id, expected, found) = (job.id, *expected, jobs.get(&job.id).map(|job| job.revision));
            if found != expected {
                return Err(StoreError::Revision { id, expected, found });
            }
        }
        Ok(())
    }

    fn keys_are_free(&self, batch: &[Write]) -> Result<(), StoreError> {
        for change in batch {
            if let Write::Put { job, .. } = change
                && let Some(Key { key, .. }) = &job.key
                && let Some(other) = self.by_key(&job.server, key)?
                && other != job.id
            {
                return Err(StoreError::KeyTaken { key: key.clone(), id: other });
            }
        }
        Ok(())
    }

    fn select(&self, keep: impl Fn(&Job) -> bool) -> Vec<Job> {
        self.jobs.lock().unwrap().values().filter(|job| keep(job)).cloned().collect()
    }
}

impl Store for MemStore {
    fn commit(&self, batch: Vec<Write>, done: Done) {
        if let Some(held) = &mut *self.held.lock().unwrap() {
            return held.push((batch, done));
        }
        if *self.failing.lock().unwrap() {
            return done(Err(StoreError::Io { path: "memory".into(), why: "no space left".into() }));
        }
        *self.commits.lock().unwrap() += 1;
        if let Err(error) = self.revisions_follow(&batch).and_then(|()| self.keys_are_free(&batch)) {
            return done(Err(error));
        }
        for change in batch {
            if let Write::Put { job, .. } = change {
                self.jobs.lock().unwrap().insert(job.id, *job);
            }
        }
        done(Ok(()));
    }

    fn get(&self, id: JobId) -> Result<Option<Job>, StoreError> {
        Ok(self.jobs.lock().unwrap().get(&id).cloned())
    }

    fn due_before(
        &self,
        before: UtcMs,
        after: Option<(UtcMs, JobId)>,
        limit: usize,
    ) -> Result<Vec<Job>, StoreError> {
        let mut due =
            self.select(|job| job.index_wake().is_some_and(|at| at < before && Some((at, job.id)) > after));
        due.sort_by_key(|job| (job.index_wake(), job.id));
        due.truncate(limit);
        Ok(due)
    }

    fn next_wake(&self, from: UtcMs) -> Result<Option<UtcMs>, StoreError> {
        Ok(self.select(|_| true).iter().filter_map(Job::index_wake).filter(|at| *at >= from).min())
    }

    fn by_key(&self, _: &ServerName, key: &str) -> Result<Option<JobId>, StoreError> {
        Ok(self
            .select(|job| job.key.as_ref().is_some_and(|known| known.key == key))
            .first()
            .map(|job| job.id))
    }

    fn keys(&self, server: &ServerName, prefix: &str) -> Result<Vec<(String, JobId)>, StoreError> {
        let jobs = self.select(|job| job.server == *server).into_iter();
        let keys = jobs.filter_map(|job| Some((job.key?.key, job.id)));
        Ok(keys.filter(|(key, _)| key.starts_with(prefix)).collect())
    }

    fn open_servers(&self) -> Result<Vec<ServerName>, StoreError> {
        let mut servers: Vec<_> =
            self.select(|job| !job.is_done()).into_iter().map(|job| job.server).collect();
        servers.dedup();
        Ok(servers)
    }

    fn of_meeting(&self, _: &ServerName, meeting: &MeetingId) -> Result<Vec<Job>, StoreError> {
        Ok(self.select(|job| job.meeting == *meeting && !job.is_done()))
    }

    fn awaiting(&self, server: &ServerName, meeting: &MeetingId) -> Result<Vec<Job>, StoreError> {
        Ok(self.select(|job| {
            job.server == *server && job.meeting == *meeting && job.awaits_start && !job.is_done()
        }))
    }

    fn any_awaiting(&self, server: &ServerName) -> Result<bool, StoreError> {
        Ok(!self.select(|job| job.server == *server && job.awaits_start && !job.is_done()).is_empty())
    }

    fn page(&self, _: &Filter, _: Option<JobId>, _: usize) -> Result<Vec<Job>, StoreError> {
        Ok(self.select(|_| true))
    }

    fn by_suffix(&self, _: &str, _: usize) -> Result<Vec<JobId>, StoreError> {
        Ok(Vec::new())
    }

    fn done_before(&self, _: UtcMs, _: usize) -> Result<Vec<JobId>, StoreError> {
        Ok(Vec::new())
    }

    fn counts(&self) -> Result<Counts, StoreError> {
        Ok(Counts::new())
    }

    fn memory(&self, _: &ServerName) -> Result<Option<Memory>, StoreError> {
        Ok(None)
    }
}

/// One meeting that lives until it is ended. Counts what it hears.
#[derive(Default)]
struct Scripted {
    gone: Mutex<bool>,
    calls: Mutex<Vec<(UtcMs, u32)>>,
    looks: Mutex<u32>,
    hold_ends: Mutex<Option<Arc<tokio::sync::Semaphore>>>,
    /// It cannot say what is live.
    lists_nothing: Mutex<bool>,
    most_at_once: Mutex<(usize, usize)>,
    /// What a listing for people and rules shows, how many there were, and when the next may be.
    live: Mutex<Option<Vec<LiveMeeting>>>,
    listings: Mutex<u32>,
    /// A listing waits for this, and may lack something.
    hold_listings: Mutex<Option<Arc<tokio::sync::Semaphore>>>,
    partly: Mutex<bool>,
    ready: Mutex<Option<BootMs>>,
    probes: Mutex<u32>,
    skew_ms: Mutex<Option<i64>>,
    /// Warnings that have come in, what holds them up before they leave, and what was told.
    warnings: Mutex<u32>,
    hold_warnings: Mutex<Option<Arc<tokio::sync::Semaphore>>>,
    told: Mutex<Vec<String>>,
    cannot_warn: Mutex<bool>,
}

#[async_trait]
impl Platform for Scripted {
    fn kind(&self) -> &'static str {
        "scripted"
    }

    async fn look(&self, targets: &[Target]) -> Round {
        *self.looks.lock().unwrap() += 1;
        let now = system_now();
        let live = |target: &Target| Instance {
            id: instance_of(&target.meeting),
            started_at: Some(UtcMs(1)),
            start: Some(StartRange::around(UtcMs(1))),
            participants: None,
            listed: true,
            node: None,
            shown_at: None,
            asked_at: None,
        };
        let gone = *self.gone.lock().unwrap();
        let seen = |target: &Target| match gone {
            true => Sighting::NotThere(Evidence { listing: true, ..Evidence::default() }),
            false => Sighting::Live(live(target)),
        };
        let sightings = targets.iter().map(seen).collect();
        Round {
            sent: now,
            received: now,
            sightings,
            listings: BTreeMap::new(),
            shown: BTreeMap::new(),
            trouble: BTreeMap::new(),
        }
    }

    fn aim(&self, _: &Pin) -> Aim {
        Aim::Instance
    }

    async fn end(&self, call: &EndCall) -> EndAnswer {
        self.calls.lock().unwrap().push((system_now().wall, call.attempt));
        {
            let mut at_once = self.most_at_once.lock().unwrap();
            at_once.0 += 1;
            at_once.1 = at_once.1.max(at_once.0);
        }
        let gate = self.hold_ends.lock().unwrap().clone();
        if let Some(gate) = gate {
            gate.acquire().await.unwrap().forget();
        }
        self.most_at_once.lock().unwrap().0 -= 1;
        *self.gone.lock().unwrap() = true;
        EndAnswer::Accepted
    }

    fn judge(&self, memory: &Memory, round: &Round, _: &[Target]) -> Judgement {
        let weigh = |sighting: &Sighting| match sighting {
            Sighting::Live(instance) => Verdict::Live(instance.clone()),
            _ => Verdict::Gone { needed: 2 },
        };
        let verdicts = round.sightings.iter().map(weigh).collect();
        Judgement { memory: memory.clone(), verdicts, alarms: Vec::new() }
    }

    async fn probe(&self) -> Result<Probe, Fault> {
        *self.probes.lock().unwrap() += 1;
        Ok(Probe { summary: "scripted".to_owned() })
    }

    fn clock_skew_ms(&self) -> Option<i64> {
        *self.skew_ms.lock().unwrap()
    }

    fn telling(&self) -> Telling {
        Telling::default()
    }

    async fn warn(&self, warning: &Warning) -> Warned {
        *self.warnings.lock().unwrap() += 1;
        let gate = self.hold_warnings.lock().unwrap().clone();
        if let Some(gate) = gate {
            gate.acquire().await.unwrap().forget();
        }
        if *self.cannot_warn.lock().unwrap() {
            return Warned::Unsupported("too old".to_owned());
        }
        match warning.line() {
            Ok(text) => {
                self.told.lock().unwrap().push(text);
                Warned::Delivered { instance: None, also: 0 }
            }
            Err(why) => Warned::Failed { why, sent: false },
        }
    }

    async fn meetings(&self) -> Result<Vec<LiveMeeting>, Fault> {
        if *self.lists_nothing.lock().unwrap() {
            return Err(Fault::Unreachable("connection refused".to_owned()));
        }
        *self.listings.lock().unwrap() += 1;
        let gate = self.hold_listings.lock().unwrap().clone();
        if let Some(gate) = gate {
            gate.acquire().await.unwrap().forget();
        }
        let live = self.live.lock().unwrap().clone();
        live.ok_or_else(|| Fault::Unreachable("down".to_owned()))
    }

    async fn listing(&self) -> Result<Listed, Fault> {
        let complete = !*self.partly.lock().unwrap();
        Ok(Listed { live: self.meetings().await?, complete })
    }

    fn ready(&self, work: Work) -> Option<BootMs> {
        matches!(work, Work::Looks { before_end: false }).then(|| *self.ready.lock().unwrap()).flatten()
    }
}

async fn until(what: &str, holds: impl AsyncFn() -> bool) {
    let wait = async {
        while !holds().await {
            SystemClock.sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), wait)
        .await
        .unwrap_or_else(|_| panic!("not in 20 s: {what}"));
}

/// A running engine, and everything to look at it.
struct Rig {
    store: Arc<MemStore>,
    platform: Arc<Scripted>,
    handle: Handle,
    shutdown: CancellationToken,
}

fn server_settings(max_concurrent: usize) -> ServerSettings {
    let platform = PlatformSettings::BigBlueButton(bigbluebutton::Settings {
        url: "http://127.0.0.1:1/bigbluebutton/api/".parse().unwrap(),
        network: Network::default(),
        secret: "unused".to_owned().into(),
        checksum: bigbluebutton::Algorithm::Sha256,
        front: bigbluebutton::Front::Direct,
        believe: bigbluebutton::Believe::Proof,
        instance_ids: None,
        nodes: Vec::new(),
    });
    ServerSettings { platform, limits: Limits::default(), max_concurrent }
}

fn start(max_concurrent: usize) -> Rig {
    start_with(max_concurrent, Arc::default(), Arc::default(), |_| {})
}

fn start_with(
    max_concurrent: usize,
    store: Arc<MemStore>,
    platform: Arc<Scripted>,
    adjust: impl FnOnce(&mut Core),
) -> Rig {
    let (requests, receiver) = mpsc::channel(REQUESTS);
    let (inbox, inner) = mpsc::unbounded_channel();
    let (events, _) = broadcast::channel(EVENTS);
    let clock = Arc::new(SystemClock);
    let server =
        Server::new(platform.clone(), &server_settings(max_concurrent), Memory::default(), system_now());
    let mut core = Core::new(Parts {
        clock: clock.clone(),
        store: store.clone(),
        state_dir: "/nowhere".into(),
        servers: BTreeMap::from([("campus".into(), server)]),
        events: events.clone(),
        inbox,
    });
    adjust(&mut core);
    let (shutdown, metrics) = (CancellationToken::new(), core.metrics.clone());
    tokio::spawn(core.run(receiver, inner, shutdown.clone()));
    let reread: Arc<Reread> = Arc::new(|| Err("no schedule here".to_owned()));
    let handle = Handle {
        requests,
        events,
        store: store.clone(),
        clock,
        metrics,
        reread,
        read_feeds: Arc::new(|_, _| Box::pin(async { Default::default() })),
        lacks_feeds: Arc::default(),
        state_dir: "/nowhere".into(),
        socket: "/nowhere".into(),
        config: Arc::default(),
        reloading: Arc::default(),
    };
    Rig { store, platform, handle, shutdown }
}

/// Every meeting has one run: `one`, or one that is named after it.
fn instance_of(meeting: &MeetingId) -> InstanceId {
    if meeting.as_str() == "math-101" { "one".into() } else { InstanceId(format!("run-of-{meeting}")) }
}

fn submission(when: When) -> Submission {
    Submission {
        server: "campus".into(),
        meeting: "math-101".into(),
        when,
        max_duration: None,
        only: None,
        limits: LimitsPatch::default(),
        key: None,
        hold: None,
        origin: Origin::Api,
        by: By::Peer { uid: 0, pid: None },
    }
}

impl Rig {
    /// Waits until an event of this name goes out for the job.
    async fn hears(
        &self,
        events: &mut broadcast::Receiver<Arc<Notice>>,
        event: &str,
        job: JobId,
    ) -> Arc<Notice> {
        let wait = async {
            loop {
                let notice = events.recv().await.unwrap();
                if notice.event == event && notice.job.as_ref().is_some_and(|view| view.id == job) {
                    return notice;
                }
            }
        };
        tokio::time::timeout(Duration::from_secs(20), wait)
            .await
            .unwrap_or_else(|_| panic!("no {event} in 20 s"))
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}

#[tokio::test]
async fn a_meeting_is_ended_at_due_and_proven_gone() {
    let rig = start(4);
    let mut events = rig.handle.events();
    let receipt = rig.handle.submit(submission(When::In(Duration::from_millis(700)))).await.unwrap();
    let done = rig.hears(&mut events, "concluded", receipt.job.id).await;
    let view = done.job.as_ref().unwrap();
    assert_eq!(view.outcome, Some(Outcome::Ended));
    let calls = rig.platform.calls.lock().unwrap().clone();
    assert_eq!(calls.len(), 1);
    assert!(calls[0].0 >= receipt.job.due, "never early");
}

#[tokio::test]
async fn a_full_disk_refuses_new_work_but_what_was_accepted_fires_and_is_written_later() {
    let rig = start(4);
    let mut events = rig.handle.events();
    let accepted = rig.handle.submit(submission(When::In(Duration::from_millis(500)))).await.unwrap().job;
    rig.store.fail(true);
    let refused = rig.handle.submit(submission(When::In(Duration::from_secs(60)))).await.unwrap_err();
    assert_eq!(refused.kind, RefusalKind::StoreFailed);
    let by = By::Peer { uid: 0, pid: None };
    let change = Change::Extend { by: Duration::from_secs(9) };
    let refused = rig.handle.change(accepted.id, None, change, by).await.unwrap_err();
    assert_eq!(refused.kind, RefusalKind::StoreFailed);
    while rig.platform.calls.lock().unwrap().is_empty() {
        tokio::task::yield_now().await;
    }
    assert!(rig.handle.status().await.unwrap().store.error.is_some());
    assert_eq!(
        rig.store.get(accepted.id).unwrap().unwrap().state,
        State::Waiting,
        "nothing reached the disk"
    );
    rig.store.fail(false);
    rig.hears(&mut events, "concluded", accepted.id).await;
    let stored = rig.store.get(accepted.id).unwrap().unwrap();
    assert_eq!((stored.outcome, stored.due), (Some(Outcome::Ended), accepted.due));
    assert!(rig.handle.status().await.unwrap().store.error.is_none());
}

#[tokio::test]
async fn no_more_end_calls_are_in_flight_than_allowed_and_all_get_their_turn() {
    let rig = start(3);
    let gate = Arc::new(tokio::sync::Semaphore::new(0));
    *rig.platform.hold_ends.lock().unwrap() = Some(gate.clone());
    let mut events = rig.handle.events();
    let mut jobs = Vec::new();
    for n in 0..10 {
        let meeting = MeetingId(format!("math-{n}"));
        let submission = Submission { meeting, ..submission(When::In(Duration::from_millis(600))) };
        jobs.push(rig.handle.submit(submission).await.unwrap().job.id);
    }
    let in_flight = async {
        while rig.handle.status().await.unwrap().servers[&ServerName::from("campus")].ends_in_flight < 3 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), in_flight).await.expect("three calls are in flight");
    gate.add_permits(100);
    for job in jobs {
        let stored = rig.store.get(job).unwrap().unwrap();
        if !stored.is_done() {
            rig.hears(&mut events, "concluded", job).await;
        }
    }
    assert_eq!(rig.platform.most_at_once.lock().unwrap().1, 3);
}

#[tokio::test]
async fn the_last_word_before_the_sending_wins() {
    let rig = start(1);
    let mut events = rig.handle.events();
    let job = rig.handle.submit(submission(When::In(Duration::from_millis(400)))).await.unwrap().job;
    let by = By::Peer { uid: 0, pid: None };
    let moved = rig
        .handle
        .change(job.id, None, Change::Extend { by: Duration::from_millis(500) }, by.clone())
        .await
        .unwrap();
    assert_eq!(moved.job.due, job.due + Duration::from_millis(500));
    rig.hears(&mut events, "end-sent", job.id).await;
    assert!(rig.platform.calls.lock().unwrap()[0].0 >= moved.job.due);
    let refused = rig.handle.change(job.id, None, Change::Hold { until: None }, by).await.unwrap_err();
    assert_eq!(refused.kind, RefusalKind::Conflict);
    assert!(refused.detail.contains("sent at"), "{refused}");
}

#[tokio::test]
async fn a_stale_if_match_changes_nothing() {
    let rig = start(1);
    let job = rig.handle.submit(submission(When::In(Duration::from_secs(60)))).await.unwrap().job;
    let by = By::Peer { uid: 0, pid: None };
    let refused =
        rig.handle.change(job.id, Some(job.revision + 1), Change::Cancel, by.clone()).await.unwrap_err();
    assert_eq!(refused.kind, RefusalKind::StaleRevision);
    let done = rig.handle.change(job.id, Some(job.revision), Change::Cancel, by).await.unwrap().job;
    assert_eq!(done.outcome, Some(Outcome::Cancelled));
}

#[tokio::test]
async fn the_same_key_gives_the_same_job_and_another_request_is_refused() {
    let rig = start(1);
    let keyed =
        |secs| Submission { key: Some("k".to_owned()), ..submission(When::In(Duration::from_secs(secs))) };
    let first = rig.handle.submit(keyed(60)).await.unwrap();
    let again = rig.handle.submit(keyed(60)).await.unwrap();
    assert!(first.created && !again.created);
    assert_eq!(first.job.id, again.job.id);
    assert_eq!(rig.handle.submit(keyed(61)).await.unwrap_err().kind, RefusalKind::KeyReused);
    let moved = rig.handle.put(keyed(120)).await.unwrap();
    assert_eq!(moved.job.id, first.job.id);
    assert!(moved.job.due > first.job.due);
}

#[tokio::test]
async fn past_times_and_unknown_servers_are_refused_with_a_hint() {
    let rig = start(1);
    let past = rig.handle.submit(submission(When::At(UtcMs(1)))).await.unwrap_err();
    assert!(past.detail.contains("has passed") && past.hint.contains("--now"), "{past:?}");
    let elsewhere = Submission { server: "elsewhere".into(), ..submission(When::Now) };
    let unknown = rig.handle.submit(elsewhere).await.unwrap_err();
    assert!(unknown.detail.contains("elsewhere") && unknown.hint.contains("campus"), "{unknown:?}");
}

#[tokio::test]
async fn keys_of_the_schedule_file_are_its_own() {
    let rig = start(1);
    let stolen = Submission { key: Some("schedule:exam".to_owned()), ..submission(When::Now) };
    assert_eq!(rig.handle.submit(stolen).await.unwrap_err().kind, RefusalKind::Invalid);
}
