//! `keep-closed`: after the end, what is reopened is ended too.

use super::super::*;
use super::sim::*;

fn keep_closed(order: &mut Order) {
    order.limits.keep_closed = mins(10);
}

/// Proven over, and on guard.
fn guarding() -> Sim {
    let mut sim = Sim::confirming_with(keep_closed);
    sim.next_look_says(gone());
    sim.next_look_says(gone());
    sim.expect_state(State::Guarding);
    sim
}

#[test]
fn a_guard_looks_every_fifteen_seconds_and_ends_with_its_time() {
    let mut sim = guarding();
    let began = sim.now;
    for n in 1..=39 {
        sim.wait_for_look();
        sim.expect_look(Purpose::Guard);
        assert_eq!(sim.now.since(began), secs(15 * n));
        sim.look_says(gone());
    }
    sim.advance(secs(15));
    sim.expect_outcome(Outcome::Ended);
    assert_eq!(sim.now.since(began), mins(10));
    assert_eq!((sim.to_wake(), sim.job.after_look), (None, false));
}

#[test]
fn what_is_reopened_is_pinned_ended_and_proven_and_the_guard_goes_on() {
    let mut sim = guarding();
    let began = sim.now;
    let next = started("b", sim.now.wall + secs(5));
    sim.next_look_says(Verdict::Live(next));
    sim.expect_fact("reopened");
    sim.expect_state(State::Ending);
    sim.turn(live("b"));
    sim.expect_called("b");
    assert!(!sim.sent[1].resend);
    sim.end_says(EndAnswer::Accepted);
    sim.next_look_says(gone());
    sim.next_look_says(gone());
    sim.expect_state(State::Guarding);
    while !sim.job.is_done() {
        sim.next_look_or_end(gone());
    }
    sim.expect_outcome(Outcome::Ended);
    assert_eq!(sim.now.since(began), mins(10));
}

#[test]
fn another_class_seen_with_the_proof_is_ended_under_guard_at_once() {
    let mut sim = Sim::confirming_with(keep_closed);
    let next = started("b", sim.now.wall + secs(1));
    sim.next_look_says(replaced(next.clone()));
    sim.next_look_says(replaced(next));
    assert_eq!(sim.pinned(), Some("b"));
    sim.turn(live("b"));
    sim.expect_called("b");
}

#[test]
fn a_guard_follows_an_absence_too() {
    let mut sim = Sim::submit_with(secs(0), keep_closed);
    sim.look_says(gone());
    sim.next_look_says(gone());
    sim.expect_state(State::Guarding);
    sim.advance(mins(10));
    let _ = sim.asked.take();
    sim.expect_outcome(Outcome::Absent);
}

#[test]
fn no_guard_follows_a_refusal() {
    let mut sim = Sim::calling_with(keep_closed);
    sim.end_says(refused(true));
    sim.expect_outcome(Outcome::Failed);
}

#[test]
fn an_explicit_instance_is_not_guarded() {
    let mut sim = Sim::confirming_with(|order| {
        keep_closed(order);
        order.only = Some("a".into());
    });
    sim.next_look_says(gone());
    sim.next_look_says(gone());
    sim.expect_outcome(Outcome::Ended);
}

#[test]
fn a_guard_survives_a_restart_with_its_time() {
    let mut sim = guarding();
    sim.reboot(mins(4));
    sim.expect_look(Purpose::Guard);
    sim.look_says(gone());
    sim.advance(mins(6) - ms(1));
    let _ = sim.asked.take();
    sim.expect_state(State::Guarding);
    sim.advance(ms(1));
    sim.expect_outcome(Outcome::Ended);
}

#[test]
fn a_cancelled_guard_keeps_the_outcome_that_was_proven() {
    let mut sim = guarding();
    sim.change(Change::Cancel);
    sim.expect_outcome(Outcome::Ended);
    assert!(sim.job.reason.contains("guarding cancelled"));
}

#[test]
fn a_guarded_job_cannot_be_moved_or_held() {
    let mut sim = guarding();
    sim.expect_refused(Change::Extend { by: mins(5) }, "was sent");
    sim.expect_refused(Change::Hold { until: None }, "was sent");
}

#[test]
fn a_guard_that_the_server_refuses_raises_the_alarm() {
    let mut sim = guarding();
    sim.next_look_says(misconfigured());
    assert_eq!(sim.job.alarm.as_deref(), Some("checksumError"));
    let before = sim.now;
    sim.wait_for_look();
    assert_eq!(sim.now.since(before), mins(1));
    sim.look_says(gone());
    assert_eq!(sim.job.alarm, None);
}

#[test]
fn an_unreachable_platform_does_not_end_the_guard() {
    let mut sim = guarding();
    for _ in 0..10 {
        sim.next_look_says(unreachable());
    }
    sim.expect_state(State::Guarding);
}

#[test]
fn what_is_reopened_gets_a_new_revision() {
    let mut sim = guarding();
    let on_guard = sim.job.revision;
    sim.next_look_says(Verdict::Live(started("b", sim.now.wall + secs(5))));
    sim.expect_state(State::Ending);
    assert!(sim.job.revision > on_guard, "the state has changed: {}", sim.job.revision);
}

/// Calls from before the proof are no calls at what is alive after it.
#[test]
fn what_is_alive_after_its_proof_is_called_at_anew() {
    let mut sim = guarding();
    sim.next_look_says(live("a"));
    sim.turn(live("a"));
    sim.expect_called("a");
    assert!(!sim.sent[1].resend);
}

#[test]
fn under_keep_closed_too_nobody_who_came_after_the_pin_moment_is_pinned_before_due() {
    let mut sim = Sim::arming_with(keep_closed);
    let at = sim.job.due - secs(8);
    sim.look_says(Verdict::Live(started("b", at)));
    assert_eq!(sim.pinned(), None);
    sim.advance_to_due();
    sim.next_look_says(Verdict::Live(started("b", at)));
    assert_eq!(sim.pinned(), Some("b"));
}
