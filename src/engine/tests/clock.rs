//! Which wall clock is believed.

use std::path::Path;

use super::super::noted::{Noted, load, save};
use super::*;

/// Clocks that a test sets, and what the kernel says of them.
struct TestClock {
    now: Mutex<Now>,
    synchronised: Mutex<Option<bool>>,
}

impl Clock for TestClock {
    fn now(&self) -> Now {
        *self.now.lock().unwrap()
    }

    fn synchronised(&self) -> Option<bool> {
        *self.synchronised.lock().unwrap()
    }
}

const NOON: Now = Now { wall: UtcMs(1_800_000_000_000), boot: BootMs(1_000_000) };
const HOUR_MS: i64 = 3_600_000;

/// A core on a machine that has been up for so long, and its clock.
fn core_of(
    now: Now,
    synchronised: Option<bool>,
    state_dir: &Path,
    servers: &[Arc<Scripted>],
) -> (Core, Arc<TestClock>) {
    let clock = Arc::new(TestClock { now: Mutex::new(now), synchronised: Mutex::new(synchronised) });
    let (inbox, _inner) = mpsc::unbounded_channel();
    let (events, _) = broadcast::channel(1);
    let server =
        |platform: &Arc<Scripted>| Server::new(platform.clone(), &server_settings(1), Memory::default(), now);
    let named = servers.iter().enumerate();
    let servers =
        named.map(|(n, platform)| (format!("server-{n}").as_str().into(), server(platform))).collect();
    let parts = Parts {
        clock: clock.clone(),
        store: Arc::new(MemStore::default()),
        state_dir: state_dir.to_owned(),
        servers,
        events,
        inbox,
    };
    let mut core = Core::new(parts);
    core.recall_the_clock();
    (core, clock)
}

impl TestClock {
    /// So many seconds after `start`, with the wall clock stepped by so much since.
    fn set(&self, start: Now, step_ms: i64, elapsed_s: i64) {
        let wall = UtcMs(start.wall.0 + step_ms + elapsed_s * 1_000);
        *self.now.lock().unwrap() = Now { wall, boot: BootMs(start.boot.0 + elapsed_s * 1_000) };
    }
}

/// The machine's clock, which no time service keeps.
struct Unkept;

impl Clock for Unkept {
    fn now(&self) -> Now {
        system_now()
    }

    fn synchronised(&self) -> Option<bool> {
        Some(false)
    }
}

#[tokio::test]
async fn where_nobody_keeps_the_clock_the_start_is_at_once_and_status_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let unkept = |core: &mut Core| {
        core.clock = Arc::new(Unkept);
        core.state_dir = dir.path().to_owned();
        core.recall_the_clock();
    };
    let rig = start_with(4, Arc::default(), Arc::default(), unkept);
    let job = rig.handle.submit(submission(When::In(Duration::from_millis(1)))).await.unwrap().job;
    until("it was called", async || !rig.platform.calls.lock().unwrap().is_empty()).await;
    let status = rig.handle.status().await.unwrap();
    assert_eq!(status.clock, ClockStatus { synchronised: Some(false), doubt: None });
    let late = rig.platform.calls.lock().unwrap()[0].0.ms_since(job.due);
    assert!(late < 300_000, "it waited for a clock that nobody sets: {late} ms");
}

#[test]
fn a_step_of_hours_is_not_believed_for_five_minutes_and_never_fires_early() {
    let (mut core, clock) = core_of(NOON, None, Path::new("/nowhere"), &[]);
    let mut reads = |step_hours: i64, elapsed_s: i64| {
        clock.set(NOON, step_hours * HOUR_MS, elapsed_s);
        core.watch_the_clock();
        core.now().wall.ms_since(NOON.wall)
    };
    assert_eq!(reads(0, 1), 1_000);
    assert_eq!(reads(2, 2), 2_000, "set forward: the old time goes on");
    assert_eq!(reads(0, 3), 3_000, "and came back");
    assert_eq!(reads(-2, 4), -2 * HOUR_MS + 4_000, "nothing fires that the new time holds to be early");
    assert_eq!(reads(0, 5), 5_000);
    assert_eq!(reads(2, 6), 6_000);
    assert_eq!(reads(2, 305), 305_000);
    assert_eq!(reads(2, 306), 2 * HOUR_MS + 306_000, "believed after five minutes");
    assert_eq!(reads(2, 307), 2 * HOUR_MS + 307_000);
}

/// The machine has been up for 20 s, and its clock says so much more than when it was last noted.
const YOUNG: Now = Now { wall: UtcMs(NOON.wall.0 + 3 * HOUR_MS), boot: BootMs(20_000) };

/// A state directory in which the clock was noted at noon.
fn noted(synchronised: bool) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    save(dir.path(), Noted { at: NOON.wall, synchronised }).unwrap();
    dir
}

#[test]
fn only_a_young_machine_whose_clock_is_usually_kept_and_is_not_yet_waits() {
    let old = Now { boot: BootMs(300_000), ..YOUNG };
    let (kept, loose, none) = (noted(true), noted(false), tempfile::tempdir().unwrap());
    let waits = |now, synchronised, dir: &tempfile::TempDir| {
        let (mut core, _) = core_of(now, synchronised, dir.path(), &[]);
        core.watch_the_clock();
        assert_eq!(core.trust.doubts_the_start(), core.clock_status().doubt.is_some());
        core.now().wall < now.wall
    };
    assert!(waits(YOUNG, Some(false), &kept));
    // As in every container: nothing has ever been kept there.
    assert!(!waits(YOUNG, Some(false), &loose));
    assert!(!waits(YOUNG, Some(false), &none));
    assert!(!waits(YOUNG, Some(true), &kept));
    assert!(!waits(YOUNG, None, &kept));
    assert!(!waits(old, Some(false), &kept));
}

#[test]
fn a_clock_ahead_at_start_fires_nothing_until_a_time_service_has_set_it() {
    let dir = noted(true);
    let (mut core, clock) = core_of(YOUNG, Some(false), dir.path(), &[]);
    let mut reads = |step_ms: i64, elapsed_s: i64, synchronised| {
        clock.set(YOUNG, step_ms, elapsed_s);
        *clock.synchronised.lock().unwrap() = Some(synchronised);
        core.watch_the_clock();
        core.now().wall.ms_since(NOON.wall)
    };
    assert_eq!(reads(0, 0, false), 0, "time goes on from the last that was surely right");
    assert_eq!(reads(0, 40, false), 40_000);
    assert_eq!(reads(-30 * 60_000, 41, false), 41_000, "a step alone proves nothing");
    assert_eq!(reads(-3 * HOUR_MS + 90_000, 50, true), 140_000, "set right");
    assert_eq!(reads(-3 * HOUR_MS + 90_000, 51, false), 141_000, "and that stays so");
}

#[test]
fn a_clock_that_is_never_set_is_believed_after_five_minutes() {
    let dir = noted(true);
    let (mut core, clock) = core_of(YOUNG, Some(false), dir.path(), &[]);
    clock.set(YOUNG, 0, 299);
    core.watch_the_clock();
    assert!(
        core.trust.doubts_the_start()
            && core.trust.wake(clock.now().boot) <= YOUNG.boot + Duration::from_secs(300)
    );
    clock.set(YOUNG, 0, 300);
    core.watch_the_clock();
    assert_eq!(core.now().wall, clock.now().wall);
}

#[test]
fn two_servers_that_agree_are_believed_and_one_where_there_is_but_one() {
    let dir = noted(true);
    let believes = |skews: &[Option<i64>], step_ms| {
        let server =
            |skew: &Option<i64>| Arc::new(Scripted { skew_ms: Mutex::new(*skew), ..Scripted::default() });
        let servers: Vec<_> = skews.iter().map(server).collect();
        let (mut core, clock) = core_of(YOUNG, Some(false), dir.path(), &servers);
        clock.set(YOUNG, step_ms, 2);
        core.watch_the_clock();
        !core.trust.doubts()
    };
    assert!(believes(&[Some(60_000)], 0) && believes(&[Some(-60_000), Some(0)], 0));
    assert!(believes(&[Some(500), Some(-3 * HOUR_MS), Some(0)], 0));
    assert!(!believes(&[], 0) && !believes(&[None], 0) && !believes(&[Some(60_001)], 0));
    assert!(!believes(&[Some(0), None], 0) && !believes(&[Some(0), Some(-3 * HOUR_MS)], 0));
    // They spoke of the clock as it was before.
    assert!(!believes(&[Some(0)], 2 * HOUR_MS));
}

#[test]
fn a_time_from_now_on_is_refused_while_nobody_knows_what_now_is() {
    let dir = noted(true);
    let (mut core, clock) = core_of(YOUNG, Some(false), dir.path(), &[Arc::default()]);
    let ask = |when| Submission { server: "server-0".into(), ..submission(when) };
    let pause = When::In(Duration::from_secs(5_400));
    assert_eq!(core.permit(&ask(pause)).unwrap_err().kind, RefusalKind::Conflict);
    assert!(core.permit(&ask(When::Now)).is_ok() && core.permit(&ask(When::At(YOUNG.wall))).is_ok());
    *clock.synchronised.lock().unwrap() = Some(true);
    core.watch_the_clock();
    assert!(core.permit(&ask(pause)).is_ok());
}

#[tokio::test]
async fn what_is_known_of_the_clock_is_noted_when_it_changes_and_not_while_it_is_doubted() {
    let dir = noted(true);
    let (mut core, clock) = core_of(YOUNG, Some(false), dir.path(), &[]);
    let mut says = async |elapsed_s: i64, synchronised| {
        clock.set(YOUNG, 0, elapsed_s);
        *clock.synchronised.lock().unwrap() = Some(synchronised);
        core.watch_the_clock();
        core.note_the_clock();
        core.tasks.close();
        core.tasks.wait().await;
        core.tasks.reopen();
        let noted = load(dir.path()).unwrap();
        (noted.at.ms_since(YOUNG.wall) / 1_000, noted.synchronised)
    };
    let before = (-3 * HOUR_MS / 1_000, true);
    assert_eq!(says(10, false).await, before, "doubted: a start just after this one doubts it too");
    assert_eq!(says(300, false).await, (300, false));
    assert_eq!(says(310, true).await, (300, false), "not looked at again yet");
    assert_eq!(says(400, true).await, (400, true));
    assert_eq!(says(500, true).await, (400, true));
    assert_eq!(says(4_000, true).await, (4_000, true), "renewed");
}
