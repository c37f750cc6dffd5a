//! Whose instance is it: belonging, pinning, retargeting, and leaving alone.

use super::super::watching::BELONGS_BEFORE_DUE;
use super::super::*;
use super::sim::*;

/// At due, nothing is pinned, and a look is under way.
fn due_unarmed(adjust: impl FnOnce(&mut Order)) -> Sim {
    let mut sim = Sim::arming_with(adjust);
    sim.look_says(gone());
    sim.advance(secs(7));
    sim.expect_look(Purpose::BeforeEnd);
    sim
}

#[test]
fn seen_alive_before_due_it_is_ours_whatever_its_timestamps_say() {
    let mut sim = Sim::arming();
    let due = sim.job.due;
    sim.look_says(Verdict::Live(started("a", due + hours(1))));
    sim.advance(secs(7));
    sim.slot();
    sim.expect_called("a");
}

#[test]
fn first_seen_after_due_it_is_ours_if_it_started_two_seconds_before_due() {
    let after = BELONGS_BEFORE_DUE - ms(1);
    for (before_due, ours) in [(BELONGS_BEFORE_DUE, true), (after, false)] {
        let mut sim = due_unarmed(|_| {});
        let at = sim.job.due - before_due;
        sim.look_says(Verdict::Live(started("a", at)));
        assert_eq!(sim.pinned().is_some(), ours, "started {before_due:?} before due");
        if !ours {
            sim.expect_outcome(Outcome::Superseded);
        }
    }
}

#[test]
fn first_seen_after_due_without_a_start_it_is_left_alone() {
    let mut sim = due_unarmed(|_| {});
    sim.look_says(Verdict::Live(Instance { started_at: None, ..instance("a") }));
    sim.expect_outcome(Outcome::Superseded);
    assert!(sim.job.reason.contains("does not say when it started"));
    sim.expect_calls(0);
}

#[test]
fn a_look_sent_before_due_but_answered_after_does_not_make_the_next_class_ours() {
    let mut sim = Sim::arming();
    sim.stall(ms(7_010));
    let at = sim.job.due + ms(3);
    // The answer is handled before the tick that notices due.
    sim.look_says(Verdict::Live(started("b", at)));
    sim.expect_outcome(Outcome::Superseded);
    sim.expect_calls(0);
}

#[test]
fn an_answer_received_after_due_stays_so_when_the_clock_is_set_back() {
    let mut sim = Sim::arming();
    sim.stall(ms(7_010));
    let (received, at) = (sim.now, sim.job.due + ms(3));
    sim.now.wall = sim.now.wall - secs(5);
    let (purpose, sent) = sim.asked.take().expect("the arm's look");
    sim.event(Event::Looked { purpose, sent, received, verdict: Verdict::Live(started("b", at)) });
    assert_eq!(sim.pinned(), None);
}

#[test]
fn an_answer_received_before_due_counts_as_such_even_if_it_is_handled_after() {
    let mut sim = Sim::arming();
    sim.advance(secs(6));
    let (purpose, sent) = sim.asked.take().expect("the arm's look");
    let received = sim.now;
    let at = sim.job.due + hours(1);
    sim.advance(secs(2));
    sim.event(Event::Looked { purpose, sent, received, verdict: Verdict::Live(started("a", at)) });
    assert_eq!(sim.pinned(), Some("a"));
    sim.slot();
    sim.expect_called("a");
}

#[test]
fn the_pin_moves_to_another_belonging_instance_only_when_the_first_is_proven_gone() {
    let mut sim = Sim::confirming();
    sim.next_look_says(replaced(instance("b")));
    assert_eq!(sim.pinned(), Some("a"));
    sim.next_look_says(replaced(instance("b")));
    assert_eq!(sim.pinned(), Some("b"));
    sim.expect_state(State::Ending);
    sim.slot();
    sim.expect_called("b");
    sim.end_says(EndAnswer::Accepted);
    sim.next_look_says(gone());
    sim.next_look_says(gone());
    sim.expect_outcome(Outcome::Ended);
}

#[test]
fn what_proved_the_one_gone_proves_nothing_about_the_next() {
    let mut sim = Sim::confirming();
    sim.next_look_says(replaced(instance("b")));
    sim.next_look_says(replaced(instance("b")));
    sim.advance(secs(3));
    // Too late for that look: look again.
    sim.slot();
    sim.look_says(gone());
    sim.expect_state(State::Ending);
    sim.next_look_says(gone());
    sim.expect_outcome(Outcome::Ended);
}

#[test]
fn another_instance_that_proves_nothing_is_never_called_at() {
    let mut sim = Sim::confirming();
    for _ in 0..20 {
        sim.next_look_says(Verdict::Replaced { by: instance("b"), counts: false });
    }
    assert_eq!(sim.pinned(), Some("a"));
    sim.expect_calls(1);
    while !sim.job.is_done() {
        sim.next_look_or_end(Verdict::Replaced { by: instance("b"), counts: false });
    }
    sim.expect_outcome(Outcome::Unconfirmed);
}

#[test]
fn a_live_answer_that_names_another_than_the_pinned_one_proves_nothing() {
    let mut sim = Sim::confirming();
    sim.next_look_says(live("b"));
    sim.next_look_says(live("b"));
    sim.next_look_says(live("b"));
    assert_eq!((sim.pinned(), sim.job.outcome), (Some("a"), None));
    sim.expect_calls(1);
}

#[test]
fn the_next_class_survives_the_proof_that_ours_is_gone() {
    let mut sim = Sim::confirming();
    let next_class = started("b", sim.job.due + secs(1));
    sim.next_look_says(replaced(next_class.clone()));
    sim.next_look_says(replaced(next_class));
    sim.expect_outcome(Outcome::Ended);
    sim.expect_calls(1);
    assert_eq!((sim.pinned(), sim.job.reopened_at), (Some("a"), Some(sim.now.wall)));
    sim.advance(hours(1));
    sim.expect_calls(1);
}

#[test]
fn an_explicit_instance_never_retargets() {
    let only = |order: &mut Order| order.only = Some("a".into());
    let mut sim = Sim::confirming_with(only);
    sim.next_look_says(replaced(instance("b")));
    sim.next_look_says(replaced(instance("b")));
    sim.expect_outcome(Outcome::Ended);
    sim.expect_calls(1);

    for verdict in [live("b"), replaced(instance("b"))] {
        let mut never_seen = Sim::arming_with(only);
        never_seen.look_says(verdict.clone());
        assert_eq!(never_seen.pinned(), None);
        never_seen.advance(secs(7));
        never_seen.look_says(verdict);
        never_seen.expect_outcome(Outcome::Superseded);
        assert!(never_seen.job.reason.contains("not a"), "{}", never_seen.job.reason);
    }
}

#[test]
fn an_explicit_instance_belongs_because_it_was_named() {
    let mut sim = due_unarmed(|order| order.only = Some("a".into()));
    let at = sim.job.due - ms(500);
    sim.look_says(Verdict::Live(started("a", at)));
    assert_eq!(sim.pinned(), Some("a"));
    sim.slot();
    sim.expect_called("a");
}

#[test]
fn an_instance_that_took_over_before_due_is_armed_instead() {
    let mut sim = Sim::arming();
    sim.look_says(live("a"));
    sim.change(Change::Extend { by: hours(1) });
    sim.next_look_says(replaced(instance("b")));
    assert_eq!(sim.pinned(), Some("b"));
    sim.advance_to_due();
    sim.slot();
    sim.expect_called("b");
}

#[test]
fn somebody_inside_an_unnamed_instance_allows_no_call() {
    let mut sim = due_unarmed(|_| {});
    for _ in 0..10 {
        sim.look_says(Verdict::Occupied);
        sim.expect_not_queued();
        sim.wait_for_look();
    }
    sim.expect_calls(0);
}

#[test]
fn a_pin_learns_from_later_looks() {
    let mut sim = Sim::arming();
    sim.look_says(Verdict::Live(Instance { listed: false, ..instance("a") }));
    assert_eq!(sim.job.pin.as_ref().map(|pin| pin.listed), Some(false));
    sim.change(Change::Extend { by: mins(1) });
    sim.next_look_says(Verdict::Live(Instance { node: Some("node1".to_owned()), ..instance("a") }));
    let pin = sim.job.pin.as_ref().expect("pinned");
    assert_eq!((pin.listed, pin.node.as_deref(), pin.last_live), (true, Some("node1"), sim.now));
}

/// Pinned, then put off; at the new time another instance has taken its place.
fn replaced_before_due(counts: bool) -> Sim {
    let mut sim = Sim::arming();
    sim.look_says(live("a"));
    sim.change(Change::Extend { by: secs(60) });
    sim.advance(secs(60));
    sim.expect_look(Purpose::Arm);
    sim.look_says(Verdict::Replaced { by: instance("b"), counts });
    sim.advance(secs(7));
    sim.slot();
    sim.expect_called("b");
    sim.end_says(EndAnswer::Accepted);
    sim
}

#[test]
fn what_vanished_before_due_without_proof_is_not_said_to_be_over() {
    for (counts, outcome) in [(true, Outcome::Ended), (false, Outcome::Unconfirmed)] {
        let mut sim = replaced_before_due(counts);
        sim.next_look_says(gone());
        sim.next_look_says(gone());
        sim.expect_outcome(outcome);
        assert_eq!(sim.job.reason.contains("instance a"), !counts, "{}", sim.job.reason);
    }
}

#[test]
fn what_comes_back_is_no_longer_in_doubt() {
    let mut sim = replaced_before_due(false);
    sim.next_look_says(Verdict::Replaced { by: instance("a"), counts: true });
    sim.next_look_says(Verdict::Replaced { by: instance("a"), counts: true });
    assert_eq!((sim.pinned(), &sim.job.unproven), (Some("a"), &None));
}
