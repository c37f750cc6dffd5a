//! A reload: one plan, one commit, all or nothing.

use std::sync::atomic::{AtomicUsize, Ordering};

use super::super::core::Makers;
use super::super::reload::Kept;
use super::*;
use crate::schedule::{Entry, Feeds, Rule, Schedule};

mod calendars;

const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3600);

pub(super) fn entry(name: &str, at: UtcMs) -> Entry {
    Entry {
        identity: name.to_owned(),
        of: None,
        server: "campus".into(),
        meeting: format!("{name}-room").as_str().into(),
        instance: None,
        at,
        limits: Limits::default(),
    }
}

pub(super) fn settings(entries: &[Entry]) -> Settings {
    Settings {
        state_dir: "/nowhere".into(),
        retention: HOUR,
        socket: "/nowhere".into(),
        socket_mode: 0o600,
        socket_group: None,
        servers: BTreeMap::from([("campus".into(), server_settings(4))]),
        schedule: Arc::new(Schedule { entries: entries.to_vec(), ..Schedule::default() }),
    }
}

/// A running engine with a schedule.
pub(super) struct Planned {
    pub store: Arc<MemStore>,
    pub platform: Arc<Scripted>,
    /// Platforms built so far.
    built: Arc<AtomicUsize>,
    pub handle: Handle,
    shutdown: CancellationToken,
}

impl Drop for Planned {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}

/// On a store that may fail from the start.
fn start_on(store: Arc<MemStore>, entries: &[Entry]) -> Planned {
    start_as(store, &settings(entries))
}

pub(super) fn start_as(store: Arc<MemStore>, settings: &Settings) -> Planned {
    start_reading(store, settings, None)
}

/// `kept`: reads the last good copies of the calendars.
pub(super) fn start_reading(store: Arc<MemStore>, settings: &Settings, kept: Option<Kept>) -> Planned {
    let platform = Arc::new(Scripted::default());
    let (requests, receiver) = mpsc::channel(REQUESTS);
    let (inbox, inner) = mpsc::unbounded_channel();
    let (events, _) = broadcast::channel(EVENTS);
    let clock = Arc::new(SystemClock);
    let mut core = Core::new(Parts {
        clock: clock.clone(),
        store: store.clone(),
        state_dir: "/nowhere".into(),
        servers: BTreeMap::new(),
        events: events.clone(),
        inbox,
    });
    let built = Arc::new(AtomicUsize::new(0));
    let (counted, scripted) = (built.clone(), platform.clone());
    let build = move |_: &ServerName, _: &PlatformSettings, _| {
        counted.fetch_add(1, Ordering::Relaxed);
        Ok(scripted.clone() as Arc<dyn Platform>)
    };
    core.makers = Makers { build: Arc::new(build), ..Makers::default() };
    core.start_with(settings, kept).unwrap();
    let (shutdown, metrics) = (CancellationToken::new(), core.metrics.clone());
    tokio::spawn(core.run(receiver, inner, shutdown.clone()));
    let reread: Arc<Reread> = Arc::new(|| Err("line 3: this is no schedule".to_owned()));
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
    Planned { store, platform, built, handle, shutdown }
}

fn start(entries: &[Entry]) -> Planned {
    start_on(Arc::default(), entries)
}

impl Planned {
    async fn apply(&self, settings: Settings) -> Result<Reloaded, Refusal> {
        self.handle.apply(Arc::new(settings), Feeds::default()).await
    }

    async fn rehearse(&self, settings: Settings) -> Result<Reloaded, Refusal> {
        self.handle.rehearse(Arc::new(settings), Feeds::default()).await
    }

    pub fn jobs(&self) -> BTreeMap<String, Job> {
        let name = |job: &Job| match &job.origin {
            Origin::Schedule { name, .. } => name.clone(),
            other => other.to_string(),
        };
        self.store.select(|_| true).into_iter().map(|job| (name(&job), job)).collect()
    }

    fn commits(&self) -> usize {
        *self.store.commits.lock().unwrap()
    }

    async fn schedule_error(&self) -> Option<String> {
        self.handle.status().await.unwrap().schedule_error
    }

    pub async fn until(&self, what: &str, holds: impl Fn(&Planned) -> bool) {
        let wait = async {
            while !holds(self) {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(20 * SECOND, wait).await.unwrap_or_else(|_| panic!("not in 20 s: {what}"));
    }
}

/// `add a, move b`
fn told(reloaded: &Reloaded) -> Vec<String> {
    let tell = |change: &PlannedChange| format!("{:?} {}", change.action, change.name).to_lowercase();
    reloaded.changes.iter().map(tell).collect()
}

#[tokio::test]
async fn a_reload_is_one_commit_and_the_same_again_is_none() {
    let now = system_now().wall;
    let rig = start(&[entry("a", now + HOUR), entry("b", now + HOUR)]);
    rig.until("both are there", |rig| rig.jobs().len() == 2).await;
    let before = rig.commits();
    assert_eq!(before, 1, "the start is one commit, too");
    let next = settings(&[entry("b", now + 2 * HOUR), entry("c", now + HOUR)]);
    let reloaded = rig.apply(next.clone()).await.unwrap();
    assert!(reloaded.applied);
    assert_eq!(told(&reloaded), ["move b", "add c", "remove a"]);
    assert_eq!(rig.commits(), before + 1);
    let jobs = rig.jobs();
    assert_eq!(jobs["a"].outcome, Some(Outcome::Cancelled));
    assert_eq!((jobs["b"].due, jobs["c"].due), (now + 2 * HOUR, now + HOUR));

    let again = rig.apply(next).await.unwrap();
    assert!(again.is_nothing() && again.changes.is_empty(), "{again:?}");
    assert!(rig.handle.expand().await.unwrap().is_nothing());
    assert_eq!(rig.commits(), before + 1);
}

#[tokio::test]
async fn a_refused_commit_changes_nothing_at_all() {
    let now = system_now().wall;
    let rig = start(&[entry("a", now + HOUR), entry("b", now + HOUR)]);
    rig.until("both are there", |rig| rig.jobs().len() == 2).await;
    let before = rig.jobs();
    let mut next = settings(&[entry("a", now + 2 * HOUR), entry("c", now + HOUR)]);
    next.servers.insert("events".into(), server_settings(1));
    rig.store.fail(true);
    let refused = rig.apply(next.clone()).await.unwrap_err();
    assert_eq!(refused.kind, RefusalKind::StoreFailed);
    assert_eq!(rig.jobs(), before);
    assert!(rig.schedule_error().await.unwrap().contains("no space left"));
    let settings = rig.handle.current().await.unwrap().settings;
    assert_eq!((settings.servers.len(), settings.schedule.entries[0].at), (1, now + HOUR));
    assert!(!rig.handle.status().await.unwrap().servers.contains_key(&ServerName::from("events")));

    rig.store.fail(false);
    let by = By::Peer { uid: 0, pid: None };
    rig.handle.change(before["a"].id, None, Change::Extend { by: SECOND }, by).await.expect("unlocked");
    let reloaded = rig.apply(next).await.unwrap();
    assert_eq!(told(&reloaded), ["move a", "add c", "remove b"]);
    assert!(rig.schedule_error().await.is_none());
    assert!(rig.handle.status().await.unwrap().servers.contains_key(&ServerName::from("events")));
}

#[tokio::test]
async fn a_rehearsal_says_the_same_and_changes_nothing() {
    let now = system_now().wall;
    let rig = start(&[entry("a", now + HOUR), entry("b", now + HOUR)]);
    rig.until("both are there", |rig| rig.jobs().len() == 2).await;
    let (before, commits) = (rig.jobs(), rig.commits());
    let mut next = settings(&[entry("a", now + 2 * HOUR), entry("c", now + HOUR)]);
    next.servers.insert("events".into(), server_settings(1));
    let rehearsed = rig.rehearse(next.clone()).await.unwrap();
    assert!(!rehearsed.applied);
    assert_eq!((rig.jobs(), rig.commits()), (before, commits));
    assert_eq!(rig.handle.current().await.unwrap().settings.servers.len(), 1);
    let reloaded = rig.apply(next).await.unwrap();
    let without_ids = |reloaded: &Reloaded| {
        let changes = reloaded.changes.iter().cloned();
        changes.map(|change| PlannedChange { job: None, ..change }).collect::<Vec<_>>()
    };
    assert_eq!(without_ids(&rehearsed), without_ids(&reloaded));
    assert_eq!(rehearsed.servers, reloaded.servers);
    assert_eq!(reloaded.servers[0].to_string(), "server events added (scripted)");
}

#[tokio::test]
async fn an_extension_by_hand_stays_until_the_file_says_otherwise() {
    let now = system_now().wall;
    let rig = start(&[entry("a", now + HOUR)]);
    rig.until("it is there", |rig| rig.jobs().len() == 1).await;
    let by = By::Peer { uid: 0, pid: None };
    let id = rig.jobs()["a"].id;
    rig.handle.change(id, None, Change::Extend { by: HOUR }, by).await.unwrap();
    let kept = rig.apply(settings(&[entry("a", now + HOUR)])).await.unwrap();
    assert!(kept.is_nothing());
    let sentence = kept.changes[0].sentence(|at| at.ms_since(now).to_string());
    assert_eq!(sentence, "a: a-room on campus stays at 7200000, extended by hand");
    let moved = rig.apply(settings(&[entry("a", now + 3 * HOUR)])).await.unwrap();
    let sentence = moved.changes[0].sentence(|at| at.ms_since(now).to_string());
    assert_eq!(
        sentence,
        "a: a-room on campus moved from 7200000 to 10800000, the file gives another time; it had been extended by hand"
    );
    assert_eq!(rig.jobs()["a"].due, now + 3 * HOUR);
}

#[tokio::test]
async fn what_changes_for_all_occurrences_is_told_and_what_was_done_by_hand_is_not_lost_silently() {
    let hourly = |minute: u8, keep_closed| {
        let mut settings = settings(&[]);
        let mut recurring = catch_up::hourly(&minute.to_string());
        recurring.limits.keep_closed = keep_closed;
        Arc::make_mut(&mut settings.schedule).ahead = 2 * HOUR;
        Arc::make_mut(&mut settings.schedule).recurring.push(recurring);
        settings
    };
    let rig = start_as(Arc::default(), &hourly(10, Duration::ZERO));
    rig.until("they are there", |rig| !rig.jobs().is_empty()).await;
    let told_now = rig.rehearse(hourly(10, HOUR)).await.unwrap().changes;
    let sentences: Vec<String> = told_now.iter().map(|change| change.sentence(|at| at.to_string())).collect();
    let limits = "hourly: room on campus nothing done, its limits changed; they count for new jobs only";
    assert_eq!(sentences, [limits]);

    let by = || By::Peer { uid: 0, pid: None };
    let held = rig.jobs().into_values().next_back().unwrap();
    let extend = Change::Extend { by: SECOND };
    let extended = rig.handle.change(held.id, None, extend, by()).await.unwrap().job;
    rig.handle.change(held.id, None, Change::Hold { until: None }, by()).await.unwrap();
    let edited = rig.apply(hourly(40, Duration::ZERO)).await.unwrap().changes;
    let gone = edited.iter().find(|change| change.job == Some(held.id)).unwrap();
    assert_eq!(
        gone.reason,
        format!(
            "its entry does not want it any more; it had been extended to {} by hand; it was held, which does not go for \
             other deadlines of hourly",
            extended.due
        )
    );
}

/// No plan with both could ever be written, as both would want one key.
#[tokio::test]
async fn of_two_entries_of_one_name_the_first_counts() {
    let now = system_now().wall;
    let (first, second) = (entry("a", now + HOUR), entry("a", now + 2 * HOUR));
    let rig = start(&[]);
    let next = settings(&[first.clone(), second, entry("b", now + HOUR)]);
    assert_eq!(told(&rig.apply(next).await.unwrap()), ["add a", "add b", "refuse a"]);
    assert_eq!((rig.jobs().len(), rig.jobs()["a"].due), (2, first.at));
}

#[tokio::test]
async fn of_two_reloads_the_one_that_read_last_counts() {
    let now = system_now().wall;
    let rig = start(&[]);
    let read = Arc::new(AtomicUsize::new(0));
    let counted = read.clone();
    let mut handle = rig.handle.clone();
    handle.reread = Arc::new(move || match counted.fetch_add(1, Ordering::SeqCst) {
        0 => {
            // The old file, read slowly.
            std::thread::sleep(SECOND / 2);
            Ok(settings(&[entry("old", now + HOUR)]))
        }
        _ => Ok(settings(&[entry("new", now + HOUR)])),
    });
    let first = tokio::spawn({
        let handle = handle.clone();
        async move { handle.reload().await }
    });
    rig.until("the first reads", |_| read.load(Ordering::SeqCst) == 1).await;
    handle.reload().await.unwrap();
    first.await.unwrap().unwrap();
    let open: Vec<String> =
        rig.store.select(|job| !job.is_done()).iter().map(|job| job.origin.to_string()).collect();
    assert_eq!(open, ["schedule:new"]);
}

/// From the commit to its answer nobody knows which deadline counts: nothing fires.
#[tokio::test]
async fn a_job_does_not_fire_on_the_deadline_that_a_plan_moves() {
    for refused in [false, true] {
        let due = system_now().wall + Duration::from_millis(2_500);
        let rig = start(&[entry("a", due)]);
        rig.until("it is there", |rig| rig.jobs().len() == 1).await;
        rig.until("its instance is known", |rig| rig.jobs()["a"].armed_at.is_some()).await;
        rig.store.hold();
        let later = settings(&[entry("a", due + HOUR)]);
        let handle = rig.handle.clone();
        let reload = tokio::spawn(async move { handle.apply(Arc::new(later), Feeds::default()).await });
        rig.until("the commit waits", |rig| rig.store.waiting() > 0).await;
        rig.until("due has passed", |_| system_now().wall > due + SECOND / 2).await;
        assert!(rig.platform.calls.lock().unwrap().is_empty());
        rig.store.fail(refused);
        rig.store.release();
        let reloaded = reload.await.unwrap();
        if refused {
            assert_eq!(reloaded.unwrap_err().kind, RefusalKind::StoreFailed);
            rig.until("it fires", |rig| !rig.platform.calls.lock().unwrap().is_empty()).await;
        } else {
            assert_eq!(told(&reloaded.unwrap()), ["move a"]);
            assert_eq!(rig.jobs()["a"].due, due + HOUR);
            assert!(rig.platform.calls.lock().unwrap().is_empty());
        }
    }
}

#[tokio::test]
async fn a_plan_waits_for_a_change_that_is_on_its_way_but_not_for_ever() {
    let now = system_now().wall;
    let rig = start(&[entry("a", now + HOUR)]);
    rig.until("it is there", |rig| rig.jobs().len() == 1).await;
    let id = rig.jobs()["a"].id;
    let extend = |handle: Handle| async move {
        let by = By::Peer { uid: 0, pid: None };
        handle.change(id, None, Change::Extend { by: SECOND }, by).await
    };
    let moved = settings(&[entry("a", now + 2 * HOUR)]);
    let held_up = |patient: bool| {
        let (handle, other, moved) = (rig.handle.clone(), rig.handle.clone(), moved.clone());
        rig.store.hold();
        let extended = tokio::spawn(extend(handle));
        let rig = &rig;
        async move {
            rig.until("the change waits", |rig| rig.store.waiting() == 1).await;
            let mut reload =
                tokio::spawn(async move { other.apply(Arc::new(moved), Feeds::default()).await });
            let early = tokio::time::timeout(SECOND / 2, &mut reload).await;
            assert!(early.is_err(), "it waits for the change");
            if patient {
                rig.store.release();
            }
            let reloaded = reload.await.unwrap();
            if !patient {
                rig.store.release();
            }
            extended.await.unwrap().expect("the extension");
            reloaded
        }
    };
    let refused = held_up(false).await.unwrap_err();
    assert_eq!(refused.kind, RefusalKind::Conflict, "{refused:?}");
    assert_eq!(rig.jobs()["a"].due, now + HOUR + SECOND);
    let reloaded = held_up(true).await.unwrap();
    assert_eq!(told(&reloaded), ["move a"]);
    assert_eq!(rig.jobs()["a"].due, now + 2 * HOUR);
}

#[tokio::test]
async fn a_platform_whose_settings_are_the_same_stays() {
    let rig = start(&[]);
    let built = || rig.built.load(Ordering::Relaxed);
    assert_eq!(built(), 1);
    let mut next = settings(&[]);
    let server = next.servers.get_mut(&ServerName::from("campus")).unwrap();
    server.max_concurrent = 9;
    let reloaded = rig.apply(next.clone()).await.unwrap();
    assert_eq!((reloaded.servers[0].action, built()), (ServerAction::Changed, 1));
    let PlatformSettings::BigBlueButton(server) =
        &mut next.servers.get_mut(&ServerName::from("campus")).unwrap().platform
    else {
        panic!("it is one")
    };
    server.secret = "another".to_owned().into();
    let reloaded = rig.apply(next).await.unwrap();
    assert_eq!((reloaded.servers[0].action, built()), (ServerAction::Changed, 2));
}

#[tokio::test]
async fn a_start_on_a_full_disk_goes_on_and_catches_up() {
    let store = Arc::new(MemStore::default());
    store.fail(true);
    let rig = start_on(store, &[entry("a", system_now().wall + HOUR)]);
    while rig.schedule_error().await.is_none() {}
    assert!(rig.jobs().is_empty());
    let broken = rig.handle.reload().await.unwrap_err();
    assert!(broken.detail.contains("line 3"), "{broken:?}");
    rig.store.fail(false);
    rig.handle.expand().await.unwrap();
    assert_eq!(rig.jobs().len(), 1);
    let error = rig.schedule_error().await.expect("the file is still broken");
    assert!(error.contains("line 3"), "{error}");
}

#[tokio::test]
async fn a_server_with_open_jobs_stays() {
    let now = system_now().wall;
    let rig = start(&[entry("a", now + HOUR)]);
    rig.until("it is there", |rig| rig.jobs().len() == 1).await;
    let mut next = settings(&[]);
    next.servers = BTreeMap::from([("events".into(), server_settings(1))]);
    for refused in [rig.rehearse(next.clone()).await, rig.apply(next.clone()).await] {
        assert!(refused.unwrap_err().detail.contains("open jobs on campus"));
    }
    rig.apply(settings(&[])).await.unwrap();
    let reloaded = rig.apply(next).await.unwrap();
    let servers: Vec<String> = reloaded.servers.iter().map(ToString::to_string).collect();
    assert_eq!(servers, ["server campus removed", "server events added (scripted)"]);
}

#[tokio::test]
async fn a_deadline_that_had_its_job_gets_no_other_one() {
    let now = system_now().wall;
    let first = entry("a", now + HOUR);
    let other = Entry { meeting: "other".into(), ..first.clone() };
    let rig = start(std::slice::from_ref(&first));
    rig.until("it is there", |rig| rig.jobs().len() == 1).await;
    let cancel = |job: JobId| {
        let by = By::Peer { uid: 0, pid: None };
        rig.handle.change(job, None, Change::Cancel, by)
    };
    let submitted = rig.jobs()["a"].submitted.wall;
    cancel(rig.jobs()["a"].id).await.unwrap();
    // Which job of a name is its latest is told by their ids, and those of one millisecond are in no order.
    rig.until("the next job has a later id", |_| system_now().wall > submitted).await;
    let added = rig.apply(settings(&[other])).await.unwrap();
    assert_eq!(told(&added), ["add a"]);
    cancel(added.changes[0].job.unwrap()).await.unwrap();
    let back = rig.apply(settings(&[first])).await.unwrap();
    assert_eq!(told(&back), ["skip a"]);
    assert!(back.changes[0].reason.contains("give the entry a new name"), "{back:?}");
}

/// Its jobs come and go with the sweeps, and have keys of their own.
#[tokio::test]
async fn the_job_of_an_entry_with_a_max_duration_is_no_orphan() {
    let rig = start(&[]);
    let mut with_rule = settings(&[]);
    Arc::make_mut(&mut with_rule.schedule).rules.push(rule(Some("math-101".into())));
    rig.apply(with_rule.clone()).await.unwrap();
    let due = system_now().wall + HOUR;
    let origin = Origin::Schedule { name: "long@i-1".to_owned(), of: Some("long".to_owned()), planned: due };
    let key = Some("rule:long@i-1".to_owned());
    let job = Submission { key, origin, by: By::Schedule, ..submission(When::At(due)) };
    rig.handle.submit(job).await.unwrap();
    assert!(rig.apply(with_rule).await.unwrap().is_nothing());
}

#[tokio::test]
async fn a_rehearsal_says_which_servers_could_not_be_asked_about_their_rules() {
    let rig = start(&[]);
    *rig.platform.lists_nothing.lock().unwrap() = true;
    assert!(rig.rehearse(settings(&[])).await.unwrap().unseen.is_empty(), "it has no rules");
    let mut with_rule = settings(&[]);
    Arc::make_mut(&mut with_rule.schedule).rules.push(rule(None));
    let rehearsed = rig.rehearse(with_rule).await.unwrap();
    let unseen = Unseen { server: "campus".into(), why: "connection refused".to_owned() };
    assert_eq!(rehearsed.unseen, [unseen]);
}

fn rule(meeting: Option<MeetingId>) -> Rule {
    Rule { meeting, max_duration: Some(HOUR), every: SECOND, ..Rule::bare("long", "campus".into()) }
}

#[tokio::test]
async fn a_reload_forgets_that_nobody_could_be_warned() {
    let engine = start(&[]);
    let no_warnings = async || {
        engine.handle.status().await.unwrap().servers[&ServerName::from("campus")].no_warnings.clone()
    };
    let limits = LimitsPatch { warn: Some(vec![HOUR]), ..LimitsPatch::default() };
    let warned_of = || Submission { limits: limits.clone(), ..submission(When::In(300 * SECOND)) };
    *engine.platform.cannot_warn.lock().unwrap() = true;
    engine.handle.submit(warned_of()).await.unwrap();
    until("it is known", async || no_warnings().await.is_some()).await;
    until("it was probed", async || *engine.platform.probes.lock().unwrap() == 1).await;
    engine.handle.expand().await.unwrap();
    assert_eq!(no_warnings().await.as_deref(), Some("too old"));
    *engine.platform.cannot_warn.lock().unwrap() = false;
    engine.apply(settings(&[])).await.unwrap();
    assert_eq!((no_warnings().await, engine.built.load(Ordering::Relaxed)), (None, 1));
    until("it is probed anew", async || *engine.platform.probes.lock().unwrap() == 2).await;
    engine.handle.submit(warned_of()).await.unwrap();
    until("the people are told", async || engine.platform.told.lock().unwrap().len() == 1).await;
}
