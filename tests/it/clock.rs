//! The wall clock is stepped under the daemon, or the daemon is suspended: never early, never twice, never forgotten.
//!
//! Debug builds of the daemon read how far their wall clock is off from a file; the sandbox goes by the same file, so that
//! its truth speaks of the same time.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use adjourn::clock;
use adjourn::sandbox::NewMeeting;
use serde_json::Value;

use crate::harness::{Bed, Plan, check_truth};

const MINUTE_MS: i64 = 60_000;
const HOUR_MS: i64 = 60 * MINUTE_MS;

/// A bed whose wall clock can be stepped.
struct Stepped {
    bed: Bed,
    off_ms: Arc<Mutex<i64>>,
    file: PathBuf,
}

impl Stepped {
    fn start() -> Stepped {
        let off_ms = Arc::new(Mutex::new(0));
        let shown = off_ms.clone();
        let now = Arc::new(move || clock::wall_micros() + *shown.lock().unwrap() * 1_000);
        let mut bed = Plan { now: Some(now), ..Plan::default() }.lay();
        // A directory of its own: nothing else is renamed there.
        let directory = bed.path("clock");
        std::fs::create_dir(&directory).unwrap();
        let file = directory.join("off");
        bed.start_daemon_as(|mut daemon| {
            daemon.env("ADJOURN_TEST_CLOCK", &file);
            daemon
        });
        Stepped { bed, off_ms, file }
    }

    /// So far from the machine's clock, from now on.
    fn set(&self, off_ms: i64) {
        let mut shown = self.off_ms.lock().unwrap();
        let aside = self.file.with_extension("new");
        std::fs::write(&aside, off_ms.to_string()).unwrap();
        std::fs::rename(&aside, &self.file).unwrap();
        *shown = off_ms;
    }

    /// A meeting that began a minute ago.
    fn meeting(&self, meeting: &str) {
        self.bed.create_meeting(NewMeeting { created_ago_ms: 60_000, ..NewMeeting::new(meeting) });
    }

    /// A deadline for a new meeting.
    fn end_in(&self, meeting: &str, pause: &str) -> String {
        self.meeting(meeting);
        self.bed.end_in(meeting, pause)
    }

    #[track_caller]
    fn is_ended_once(&self, id: &str) -> Value {
        let job = self.bed.outcome(id);
        check_truth(&self.bed, &job);
        assert_eq!((&job["outcome"], &job["ends"]), (&"ended".into(), &1.into()), "{job:#}");
        let truth = self.bed.truth();
        let hits = truth.instances(job["meeting"].as_str().unwrap())[0].hits.len();
        assert_eq!(hits, 1, "{job:#}");
        job
    }

    #[track_caller]
    fn waits_unharmed(&self, id: &str) {
        let job = self.bed.show(id);
        assert_eq!(job["state"], "waiting", "{job:#}");
        let truth = self.bed.truth();
        assert!(truth.instances(job["meeting"].as_str().unwrap())[0].hits.is_empty(), "{job:#}");
    }
}

#[test]
fn a_step_forwards_past_due_fires_at_once_and_once() {
    let stepped = Stepped::start();
    let passed = stepped.end_in("passed", "30m");
    let ahead = stepped.end_in("ahead", "50m");
    stepped.set(31 * MINUTE_MS);
    let job = stepped.is_ended_once(&passed);
    // The step itself, and no waiting for a timer that was set for the old time.
    let late = job["lateness_ms"].as_i64().unwrap();
    assert!((MINUTE_MS..10 * MINUTE_MS).contains(&late), "{job:#}");
    stepped.waits_unharmed(&ahead);
}

#[test]
fn a_step_backwards_puts_due_off_by_as_much() {
    let stepped = Stepped::start();
    let put_off = stepped.end_in("put-off", "2s");
    stepped.set(-30 * MINUTE_MS);
    // When this one is over, the first one's old time has long passed.
    let witness = stepped.end_in("witness", "3s");
    stepped.is_ended_once(&witness);
    stepped.waits_unharmed(&put_off);
    stepped.set(0);
    stepped.is_ended_once(&put_off);
}

/// The claim is made, the alarm is set, perhaps the call leaves this moment: whatever arrives was not early.
#[test]
fn steps_backwards_just_before_due_never_make_it_early() {
    let stepped = Stepped::start();
    for (n, ahead_ms) in [400, 250, 100, 40, 15, 5, 1].into_iter().enumerate() {
        let meeting = format!("meeting-{n}");
        let id = stepped.end_in(&meeting, "1200ms");
        let due: jiff::Timestamp = stepped.bed.show(&id)["due"].as_str().unwrap().parse().unwrap();
        stepped.bed.wait_for("it is almost due", |truth| truth.now.0 >= due.as_millisecond() - ahead_ms);
        let (before, off) = (stepped.bed.truth().now.0, *stepped.off_ms.lock().unwrap());
        stepped.set(off - 3_000);
        let job = stepped.bed.outcome(&id);
        // A call that was decided on just before the step, and stopped on its way out, is counted and made again.
        let stopped = job["history"].to_string().matches("the clock was set back before due").count();
        // The sandbox goes by the same clock: what it accepted just before the step takes effect when that time has come
        // again. Until then the meeting is alive, and is called at once more.
        let again = job["history"].to_string().matches("\"still-there\"").count();
        let ends = serde_json::json!(1 + stopped + again);
        assert_eq!((&job["outcome"], &job["ends"]), (&"ended".into(), &ends), "{job:#}");
        let truth = stepped.bed.truth();
        let hits = &truth.instances(&meeting)[0].hits;
        assert_eq!(hits.len(), 1 + again, "{job:#}");
        for hit in hits {
            // It may have been on its way when the clock was set.
            let was_on_its_way =
                hit.at.0 + 3_000 < before + 1_000 && hit.at.0 + 3_000 >= due.as_millisecond();
            assert!(hit.at.0 >= due.as_millisecond() || was_on_its_way, "{hit:?} {job:#}");
        }
    }
}

#[test]
fn a_step_of_hours_forwards_is_not_believed_at_once_and_says_so() {
    let stepped = Stepped::start();
    let far = stepped.end_in("far", "2h");
    let near = stepped.end_in("near", "3s");
    stepped.set(3 * HOUR_MS);
    stepped
        .bed
        .wait_for("the step is noticed", |_| stepped.bed.log().contains("stepped by more than an hour"));
    // The old time goes on.
    stepped.is_ended_once(&near);
    stepped.waits_unharmed(&far);
    stepped.set(0);
    stepped
        .bed
        .wait_for("it has come back", |_| stepped.bed.log().contains("the wall clock is believed again"));
    let after = stepped.end_in("after", "1s");
    stepped.is_ended_once(&after);
    stepped.waits_unharmed(&far);
}

#[test]
fn a_step_of_hours_backwards_fires_nothing_early_and_nothing_is_lost() {
    let stepped = Stepped::start();
    let put_off = stepped.end_in("put-off", "2s");
    stepped.set(-3 * HOUR_MS);
    let witness = stepped.end_in("witness", "3s");
    stepped.is_ended_once(&witness);
    stepped.waits_unharmed(&put_off);
    stepped.set(0);
    stepped.is_ended_once(&put_off);
}

#[test]
fn suspended_over_its_deadline_it_fires_late_and_right() {
    let bed = Bed::start();
    bed.create_meeting(NewMeeting { created_ago_ms: 60_000, ..NewMeeting::new("math-101") });
    let id = bed.end_in("math-101", "1s");
    let until = bed.truth().now + Duration::from_millis(2_500);
    bed.signal("-STOP");
    bed.wait_for("due has passed", |truth| truth.now > until);
    assert!(bed.truth().instances("math-101")[0].alive());
    bed.signal("-CONT");
    let job = bed.outcome(&id);
    check_truth(&bed, &job);
    assert_eq!((&job["outcome"], &job["ends"]), (&"ended".into(), &1.into()), "{job:#}");
    assert!(job["lateness_ms"].as_i64().unwrap() >= 1_000, "{job:#}");
}
