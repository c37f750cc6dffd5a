//! What systemd does to the daemon.

use adjourn::sandbox::{Call, Fault};

use crate::harness::Bed;

#[test]
fn sigterm_waits_for_the_answer_under_way_and_exits_0() {
    let mut bed = Bed::start();
    bed.create("math-101");
    bed.sandbox.set_fault(Fault::Slow { ms: 1_500 }.on_meeting("math-101").call(Call::End)).unwrap();
    let id = bed.end_in("math-101", "700ms");
    bed.wait_for("the end call has arrived", |truth| truth.requests_of(Call::End).count() == 1);
    assert_eq!(bed.stop_daemon(), Some(0));
    bed.start_daemon();
    let job = bed.outcome(&id);
    assert_eq!((&job["outcome"], &job["ends"]), (&"ended".into(), &1.into()), "{job:#}");
    let lost = job["history"].as_array().unwrap().iter().any(|line| line["event"] == "answer-lost");
    assert!(!lost, "the answer was recorded before the exit: {job:#}");
}

#[test]
fn a_second_sigterm_exits_at_once() {
    let mut bed = Bed::start();
    bed.create("math-101");
    bed.sandbox.set_fault(Fault::Hang.on_meeting("math-101").call(Call::End)).unwrap();
    bed.end_in("math-101", "700ms");
    bed.wait_for("the end call has arrived", |truth| truth.requests_of(Call::End).count() == 1);
    bed.signal("-TERM");
    bed.wait_for("the first is heard", |_| bed.log().contains("stopping"));
    bed.signal("-TERM");
    assert_eq!(bed.wait_for_exit(), Some(75), "a drain that was waited for ends with 0");
}

#[test]
fn sighup_reads_the_schedule_again_and_a_broken_one_changes_nothing() {
    let bed = Bed::start();
    bed.create("math-101");
    let entry =
        "[[end]]\nname = \"exam\"\nserver = \"campus\"\nmeeting = \"math-101\"\nat = 2099-01-01T10:00:00Z\n";
    bed.write_schedule("", entry);
    bed.signal("-HUP");
    bed.wait_for("the entry is there", |_| bed.json(&["list"])["jobs"].as_array().unwrap().len() == 1);
    let job = bed.json(&["list"])["jobs"][0].clone();
    assert_eq!((&job["origin"], &job["due"]), (&"schedule:exam".into(), &"2099-01-01T10:00:00.000Z".into()));

    bed.write_schedule("", "[[end]]\nname = \"exam\"\nsrever = \"campus\"\n");
    bed.signal("-HUP");
    bed.wait_for("the broken file is reported", |_| bed.json(&["status"])["schedule_error"].is_string());
    assert_eq!(bed.json(&["list"])["jobs"][0], job);

    bed.write_schedule("", &entry.replace("2099-01-01", "2099-02-02"));
    bed.signal("-HUP");
    bed.wait_for("the edit has moved it", |_| {
        bed.json(&["list"])["jobs"][0]["due"] == "2099-02-02T10:00:00.000Z"
    });
    assert!(bed.json(&["status"])["schedule_error"].is_null());

    bed.write_schedule("", "");
    bed.signal("-HUP");
    bed.wait_for("the entry is gone", |_| bed.json(&["list"])["jobs"][0]["outcome"] == "cancelled");
}
