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

/// What `show` says first of a job: instance, outcome, reason, and the times of the end and of the proof.
fn head(sim: &Sim) -> (Option<InstanceId>, Option<Outcome>, String, [Option<UtcMs>; 3]) {
    let view = JobView::new(&sim.job, sim.now);
    (view.instance, view.outcome, view.reason, [view.end_sent_at, view.accepted_at, view.proven_at])
}

/// What was reopened, and what became of it.
fn reopened(sim: &Sim) -> Vec<(&str, Option<Outcome>)> {
    sim.job.reopened.iter().map(|it| (it.instance.as_str(), it.outcome)).collect()
}

/// Instance `b` was opened under guard and is about to be ended.
fn opened_again(sim: &mut Sim) {
    sim.next_look_says(Verdict::Live(started("b", sim.now.wall + secs(5))));
    assert!(sim.job.sentence().contains("; opened again: "), "{}", sim.job.sentence());
    sim.turn(live("b"));
}

#[test]
fn the_first_proof_stays_in_the_head_and_what_is_reopened_stands_apart() {
    let mut sim = guarding();
    let (instance, outcome, reason, times) = head(&sim);
    assert_eq!((instance.as_ref().map(InstanceId::as_str), outcome), (Some("a"), Some(Outcome::Ended)));
    let first = (instance, outcome, reason.clone(), times);
    opened_again(&mut sim);
    assert_eq!(reopened(&sim), [("b", None)]);
    sim.end_says(EndAnswer::Accepted);
    sim.next_look_says(gone());
    sim.next_look_says(gone());
    assert_eq!(reopened(&sim), [("b", Some(Outcome::Ended))]);
    while !sim.job.is_done() {
        sim.next_look_or_end(gone());
    }
    let (instance, outcome, concluded, times) = head(&sim);
    assert_eq!((instance, outcome, format!("{concluded}; ends what is reopened"), times), first);
}

#[test]
fn what_was_absent_at_the_deadline_stays_absent_and_no_call_of_the_guard_is_late() {
    let mut sim = Sim::submit_with(secs(0), keep_closed);
    sim.look_says(gone());
    sim.next_look_says(gone());
    sim.next_look_says(Verdict::Live(started("b", sim.now.wall + secs(5))));
    sim.turn(live("b"));
    sim.end_says(EndAnswer::Accepted);
    sim.next_look_says(gone());
    sim.next_look_says(gone());
    let (instance, outcome, _, times) = head(&sim);
    assert_eq!((instance, outcome, &times[..2]), (None, Some(Outcome::Absent), &[None, None][..]));
    assert_eq!((sim.job.lateness_ms(), reopened(&sim)), (None, vec![("b", Some(Outcome::Ended))]));
}

#[test]
fn what_cannot_be_kept_closed_is_told_and_takes_nothing_from_the_proof() {
    let mut sim = guarding();
    let proven = sim.job.proven;
    opened_again(&mut sim);
    sim.end_says(refused(true));
    sim.expect_outcome(Outcome::Ended);
    sim.expect_fact("left-open");
    assert_eq!((sim.job.proven, reopened(&sim)), (proven, vec![("b", Some(Outcome::Failed))]));
    let reason = &sim.job.reason;
    assert!(reason.contains("instance a is proven gone; opened again since, and failed: "), "{reason}");
}

#[test]
fn a_reopened_instance_that_ends_by_itself_was_not_ended_by_the_earlier_call() {
    let mut sim = guarding();
    sim.next_look_says(Verdict::Live(started("b", sim.now.wall + secs(5))));
    sim.turn(gone());
    sim.next_look_says(gone());
    assert_eq!(reopened(&sim), [("b", Some(Outcome::AlreadyOver))]);
}

#[test]
fn what_was_called_before_the_guard_may_have_been_ended_by_that_call() {
    let mut sim = guarding();
    sim.next_look_says(live("a"));
    sim.turn(gone());
    sim.next_look_says(gone());
    assert_eq!(reopened(&sim), [("a", Some(Outcome::Ended))]);
}

#[test]
fn another_class_seen_with_the_proof_is_ended_under_guard_at_once() {
    let mut sim = Sim::confirming_with(keep_closed);
    let next = started("b", sim.now.wall + secs(1));
    sim.next_look_says(replaced(next.clone()));
    sim.next_look_says(replaced(next));
    assert_eq!(sim.pinned(), Some("b"));
    let (instance, outcome, ..) = head(&sim);
    assert_eq!((instance.as_ref().map(InstanceId::as_str), outcome), (Some("a"), Some(Outcome::Ended)));
    assert_eq!(reopened(&sim), [("b", None)]);
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
