//! What is found late: the schedule is asked first, and of many occurrences one is caught up with.

use super::reload::{Planned, entry, settings, start_as, start_reading};
use super::*;
use crate::schedule::{Days, Dst, Entry, Feeds, Recurrence, Recurring, occurrence_entry};

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);

/// The job that an earlier process made of an entry.
fn job_of(entry: &Entry, ordinal: u128) -> Job {
    let submitted = Now { wall: entry.at - 48 * HOUR, boot: BootMs(0) };
    let Entry { identity, of, server, meeting, at, limits, .. } = entry.clone();
    let key = format!("schedule:{identity}\u{1f}{meeting}\u{1f}\u{1f}{}", at.0);
    Job::submit(
        Order {
            id: JobId(uuid::Uuid::from_u128(ordinal)),
            server,
            meeting,
            only: None,
            key: Some(Key { key, fingerprint: String::new() }),
            limits,
            at_most: None,
            max_duration: None,
            due: at,
            origin: Origin::Schedule { name: identity, of, planned: at },
            by: By::Schedule,
        },
        submitted,
    )
}

fn store_of(jobs: Vec<Job>) -> Arc<MemStore> {
    let store = MemStore::default();
    store.jobs.lock().unwrap().extend(jobs.into_iter().map(|job| (job.id, job)));
    Arc::new(store)
}

/// At this minute of every hour.
pub(super) fn hourly(minute: &str) -> Recurring {
    Recurring {
        name: "hourly".to_owned(),
        server: "campus".into(),
        meeting: "room".into(),
        recurrence: Recurrence::new(&format!("{minute} * * * *"), jiff::tz::TimeZone::UTC, Dst::Wall)
            .unwrap(),
        days: Days::default(),
        limits: Limits::default(),
    }
}

/// An entry for every hour, the last time half an hour ago, and its jobs of the last ten hours.
fn ten_hours_down() -> (Settings, Vec<Job>) {
    let last = UtcMs((system_now().wall - HOUR / 2).0 / 60_000 * 60_000);
    let minute = last.timestamp().strftime("%M").to_string();
    let recurring = hourly(&minute);
    let jobs = (0..10).map(|n| job_of(&occurrence_entry(&recurring, last - n * HOUR), 100 - u128::from(n)));
    let jobs = jobs.collect();
    let mut settings = settings(&[]);
    Arc::make_mut(&mut settings.schedule).recurring.push(recurring);
    (settings, jobs)
}

fn with_outcome(rig: &Planned, outcome: Outcome) -> usize {
    rig.store.select(|job| job.outcome == Some(outcome)).len()
}

async fn one_is_caught_up_with(rig: &Planned) {
    let latest = |rig: &Planned| rig.jobs().into_values().rfind(|job| job.due < system_now().wall).unwrap();
    rig.until("it is caught up with", |rig| latest(rig).is_done()).await;
    rig.until("the others are not", |rig| with_outcome(rig, Outcome::Missed) == 9).await;
    assert_ne!(latest(rig).outcome, Some(Outcome::Missed));
    assert_eq!(rig.platform.calls.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn after_ten_hours_one_of_ten_occurrences_is_caught_up_with() {
    let (settings, jobs) = ten_hours_down();
    one_is_caught_up_with(&start_as(store_of(jobs), &settings)).await;
}

/// The plan of the start has to wait for what a crash left behind; so does everything that it may decide about.
#[tokio::test]
async fn a_plan_that_is_held_up_is_waited_for() {
    let (settings, mut jobs) = ten_hours_down();
    let mut claimed = job_of(&entry("a-claimed", system_now().wall - MINUTE), 1);
    claimed.record(Now { wall: claimed.due, boot: BootMs(0) }, Fact::Claimed);
    jobs.insert(0, claimed);
    one_is_caught_up_with(&start_as(store_of(jobs), &settings)).await;
}

#[tokio::test]
async fn on_a_full_disk_the_latest_is_caught_up_with_all_the_same() {
    let (settings, jobs) = ten_hours_down();
    let store = store_of(jobs);
    store.fail(true);
    let rig = start_as(store, &settings);
    rig.until("it is ended", |rig| *rig.platform.gone.lock().unwrap()).await;
    assert_eq!(with_outcome(&rig, Outcome::Missed), 0, "nothing can be written");
    rig.store.fail(false);
    one_is_caught_up_with(&rig).await;
}

#[tokio::test]
async fn an_entry_that_was_moved_or_removed_meanwhile_does_not_fire_at_its_old_time() {
    let now = system_now();
    for armed in [false, true] {
        let (moved, removed) = (entry("moved", now.wall - MINUTE), entry("removed", now.wall - MINUTE));
        let mut jobs = vec![job_of(&moved, 1), job_of(&removed, 2)];
        for job in jobs.iter_mut().filter(|_| armed) {
            let live = LiveMeeting {
                meta_cut: false,
                meeting: job.meeting.clone(),
                instance: "one".into(),
                name: String::new(),
                started_at: None,
                participants: None,
                meta: BTreeMap::new(),
                breakout_of: None,
            };
            job.record(now, Fact::Pinned { pin: Pin::of_listed(&live, now) });
        }
        let later = Entry { at: now.wall + HOUR, ..moved };
        let rig = start_as(store_of(jobs), &settings(&[later]));
        rig.until("one is cancelled", |rig| rig.jobs()["removed"].is_done()).await;
        SystemClock.sleep(SECOND / 2).await;
        let jobs = rig.jobs();
        assert_eq!(jobs["removed"].outcome, Some(Outcome::Cancelled));
        assert_eq!((jobs["moved"].due, jobs["moved"].state), (now.wall + HOUR, State::Waiting));
        assert_eq!((*rig.platform.looks.lock().unwrap(), rig.platform.calls.lock().unwrap().len()), (0, 0));
    }
}

/// A deadline comes before a plan: what cannot be changed durably is as it was.
#[tokio::test]
async fn an_edit_that_cannot_be_written_leaves_the_old_deadline() {
    let now = system_now().wall;
    let store = store_of(vec![job_of(&entry("a", now - MINUTE), 1)]);
    store.fail(true);
    let rig = start_as(store, &settings(&[entry("a", now + HOUR)]));
    rig.until("it fires", |rig| rig.platform.calls.lock().unwrap().len() == 1).await;
}

/// The first plan waits for the calendars, and nothing else does: but what the file has dropped must not fire, however long
/// that takes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_calendar_holds_up_a_deadline() {
    let now = system_now().wall;
    let (stays, dropped) = (entry("stays", now + 2 * SECOND), entry("dropped", now + SECOND));
    let store = store_of(vec![job_of(&stays, 1), job_of(&dropped, 2)]);
    let (read, reading) = std::sync::mpsc::channel::<()>();
    let kept = move || {
        let _ = reading.recv();
        Feeds::default()
    };
    let rig = start_reading(store, &settings(&[stays]), Some(Box::new(kept)));
    until("it is ended", async || rig.jobs()["stays"].outcome == Some(Outcome::Ended)).await;
    SystemClock.sleep(5 * SECOND).await;
    let jobs = rig.jobs();
    assert_eq!((jobs["dropped"].state, jobs["dropped"].looks), (State::Waiting, 0));
    drop(read);
    until("it is cancelled", async || rig.jobs()["dropped"].outcome == Some(Outcome::Cancelled)).await;
    let calls = rig.platform.calls.lock().unwrap().len();
    assert_eq!(calls, 1);
}

#[tokio::test]
async fn waiting_for_a_write_is_not_being_late() {
    let rig = start(4);
    let mut events = rig.handle.events();
    let strict = LimitsPatch { late_limit: Some(Duration::ZERO), ..LimitsPatch::default() };
    let strictly = |when| Submission { limits: strict.clone(), ..submission(when) };
    let first = rig.handle.submit(strictly(When::In(SECOND))).await.unwrap().job.id;
    rig.store.hold();
    let (extending, submitting) = (rig.handle.clone(), rig.handle.clone());
    let by = By::Peer { uid: 0, pid: None };
    let change = Change::Extend { by: SECOND / 10 };
    let extended = tokio::spawn(async move { extending.change(first, None, change, by).await });
    let now = strictly(When::Now);
    let submitted = tokio::spawn(async move { submitting.submit(now).await });
    SystemClock.sleep(4 * SECOND).await;
    rig.store.release();
    extended.await.unwrap().unwrap();
    let second = submitted.await.unwrap().unwrap().job.id;
    let mut outcomes = BTreeMap::new();
    while outcomes.len() < 2 {
        let notice = tokio::time::timeout(20 * SECOND, events.recv()).await.unwrap().unwrap();
        if let (Some(view), "concluded") = (&notice.job, notice.event.as_str()) {
            outcomes.insert(view.id, view.outcome);
        }
    }
    assert_ne!(outcomes[&first], Some(Outcome::Missed));
    assert_ne!(outcomes[&second], Some(Outcome::Missed));
}
