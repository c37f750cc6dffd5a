//! Which wall clock is believed.

use super::*;

/// A clock that a test sets.
struct TestClock(Mutex<Now>);

impl Clock for TestClock {
    fn now(&self) -> Now {
        *self.0.lock().unwrap()
    }
}

#[test]
fn a_step_of_hours_is_not_believed_for_five_minutes_and_never_fires_early() {
    let noon = Now { wall: UtcMs(1_800_000_000_000), boot: BootMs(1_000_000) };
    let clock = Arc::new(TestClock(Mutex::new(noon)));
    let (inbox, _inner) = mpsc::unbounded_channel();
    let (events, _) = broadcast::channel(1);
    let store = Arc::new(MemStore::default());
    let parts = Parts {
        clock: clock.clone(),
        store,
        state_dir: "/nowhere".into(),
        servers: BTreeMap::new(),
        events,
        inbox,
    };
    let mut core = Core::new(parts);
    let mut reads = |step_hours: i64, elapsed_s: i64| {
        let wall = UtcMs(noon.wall.0 + step_hours * 3_600_000 + elapsed_s * 1_000);
        *clock.0.lock().unwrap() = Now { wall, boot: BootMs(noon.boot.0 + elapsed_s * 1_000) };
        core.watch_the_clock();
        core.now().wall.ms_since(noon.wall)
    };
    assert_eq!(reads(0, 1), 1_000);
    assert_eq!(reads(2, 2), 2_000, "set forward: the old time goes on");
    assert_eq!(reads(0, 3), 3_000, "and came back");
    assert_eq!(
        reads(-2, 4),
        -2 * 3_600_000 + 4_000,
        "set back: nothing fires that the new time holds to be early"
    );
    assert_eq!(reads(0, 5), 5_000);
    assert_eq!(reads(2, 6), 6_000);
    assert_eq!(reads(2, 305), 305_000);
    assert_eq!(reads(2, 306), 2 * 3_600_000 + 306_000, "believed after five minutes");
    assert_eq!(reads(2, 307), 2 * 3_600_000 + 307_000);
}
