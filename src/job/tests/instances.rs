//! Whose instance is it: belonging, pinning, retargeting, and leaving alone.

use std::time::Duration;

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

/// Whoever is live so long before due is ours.
const PIN_BEFORE: Duration = secs(10);

/// A start that is so long before due.
fn before_due(sim: &Sim, ms_before: i64) -> UtcMs {
    UtcMs(sim.job.due.0 - ms_before)
}

#[test]
fn the_first_good_look_of_the_pin_moment_decides_unless_the_start_is_beyond_doubt_later() {
    for (started_before_due, ours) in
        [(20_000, true), (10_000, true), (8_001, true), (8_000, false), (1_000, false)]
    {
        let mut sim = Sim::arming();
        let at = before_due(&sim, started_before_due);
        sim.look_says(Verdict::Live(started("a", at)));
        assert_eq!(sim.pinned().is_some(), ours, "started {started_before_due} ms before due");
        if ours {
            sim.advance_to_due();
            sim.slot();
            sim.expect_called("a");
        } else {
            sim.advance_to_due();
            sim.look_says(Verdict::Live(started("a", at)));
            sim.expect_outcome(Outcome::Superseded);
            sim.expect_calls(0);
        }
    }
}

#[test]
fn after_the_look_of_the_pin_moment_only_an_older_start_counts() {
    for (before_due_ms, ours) in [(12_000, true), (11_999, false), (2_000, false), (-3, false)] {
        let mut sim = due_unarmed(|_| {});
        let at = before_due(&sim, before_due_ms);
        sim.look_says(Verdict::Live(started("a", at)));
        assert_eq!(sim.pinned().is_some(), ours, "started {before_due_ms} ms before due");
        if !ours {
            sim.expect_outcome(Outcome::Superseded);
            let left = sim.job.left_alone.as_ref().expect("it is told");
            assert_eq!((left.instance.as_str(), left.started_at), ("a", Some(at)));
            sim.expect_fact("left-alone");
        }
    }
}

#[test]
fn a_pin_moment_of_an_hour_protects_a_class_that_opens_early() {
    let early = |order: &mut Order| order.limits.pin_before = mins(60);
    let mut sim = Sim::submit_with(hours(2), early);
    sim.advance(mins(61));
    sim.expect_look(Purpose::Pin);
    sim.look_says(live("a"));
    assert_eq!(sim.pinned(), Some("a"));
    // The next class opens twenty minutes before due, in the same room.
    sim.wait_for_look();
    sim.expect_look(Purpose::Arm);
    let next = started("b", before_due(&sim, 1_200_000));
    sim.look_says(replaced(next.clone()));
    assert_eq!(sim.pinned(), Some("a"));
    sim.advance_to_due();
    sim.look_says(replaced(next.clone()));
    sim.next_look_says(replaced(next));
    sim.expect_outcome(Outcome::AlreadyOver);
    sim.expect_calls(0);
    assert_eq!(sim.job.left_alone.as_ref().map(|left| left.instance.as_str()), Some("b"));
}

#[test]
fn where_nobody_was_at_the_pin_moment_the_next_class_is_nobodys() {
    let early = |order: &mut Order| order.limits.pin_before = mins(30);
    let mut sim = Sim::submit_with(hours(1), early);
    sim.advance(mins(31));
    sim.look_says(gone());
    sim.expect_fact("pin-decided");
    sim.wait_for_look();
    let next = started("b", before_due(&sim, 600_000));
    sim.look_says(Verdict::Live(next.clone()));
    sim.advance_to_due();
    sim.look_says(Verdict::Live(next));
    sim.expect_outcome(Outcome::Superseded);
    sim.expect_calls(0);
}

#[test]
fn a_start_that_nothing_corrects_counts_from_a_minute_on() {
    for (before_due_ms, ours) in [(70_000, true), (69_999, false)] {
        let mut sim = due_unarmed(|_| {});
        let at = before_due(&sim, before_due_ms);
        let told = StartRange::told(at, ServerClock::Unknown, sim.now.wall).map(|(_, start)| start);
        sim.look_says(Verdict::Live(Instance { start: told, ..started("a", at) }));
        assert_eq!(sim.pinned().is_some(), ours, "started {before_due_ms} ms before due");
    }
}

#[test]
fn what_was_seen_before_the_pin_moment_is_ours_whatever_its_start_says() {
    let mut sim = Sim::arming();
    let untold = Instance { start: None, ..instance("a") };
    sim.look_says(Verdict::Live(untold.clone()));
    // The new due has a pin moment of its own, still ahead.
    sim.change(Change::Extend { by: mins(5) });
    assert_eq!(sim.pinned(), None);
    sim.advance(mins(5));
    sim.look_says(unreachable());
    while sim.job.state == State::Waiting {
        sim.advance(secs(1));
        if sim.asked.is_some() {
            sim.look_says(unreachable());
        }
    }
    sim.next_look_says(Verdict::Live(untold));
    assert_eq!(sim.pinned(), Some("a"));
}

#[test]
fn a_new_due_so_near_that_its_pin_moment_has_passed_keeps_the_pin() {
    let mut sim = Sim::arming();
    sim.look_says(live("a"));
    sim.change(Change::Extend { by: secs(2) });
    assert_eq!(sim.pinned(), Some("a"));
}

#[test]
fn fire_takes_whoever_is_live_then() {
    let mut sim = Sim::submit_in(hours(1));
    sim.advance(mins(10));
    sim.change(Change::Fire);
    let just_now = started("a", sim.now.wall - secs(1));
    sim.look_says(Verdict::Live(just_now));
    assert_eq!(sim.pinned(), Some("a"));
}

#[test]
fn first_seen_after_due_without_a_start_it_is_left_alone() {
    let mut sim = due_unarmed(|_| {});
    sim.look_says(Verdict::Live(Instance { started_at: None, start: None, ..instance("a") }));
    sim.expect_outcome(Outcome::Superseded);
    assert!(sim.job.reason.contains("does not say when it started"));
    sim.expect_calls(0);
}

#[test]
fn without_starts_the_first_good_look_before_due_decides() {
    let untold = |id: &str| Verdict::Live(Instance { started_at: None, start: None, ..instance(id) });
    let early = |order: &mut Order| order.limits.pin_before = mins(10);
    let mut sim = Sim::submit_with(hours(1), early);
    sim.advance(mins(51));
    // Nobody answers at the pin moment; the arm is the first good look.
    while sim.now.wall < sim.job.arm_at() {
        if sim.asked.is_some() {
            sim.look_says(unreachable());
        }
        sim.advance(secs(1));
    }
    sim.look_says(untold("a"));
    assert_eq!(sim.pinned(), Some("a"));
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
    let (verdict, knows) = (Verdict::Live(started("b", at)), sim.knows());
    sim.event(Event::Looked { purpose, sent, received, verdict, knows });
    assert_eq!(sim.pinned(), None);
}

#[test]
fn an_answer_received_before_due_counts_as_such_even_if_it_is_handled_after() {
    let mut sim = Sim::arming();
    sim.advance(secs(6));
    let (purpose, sent) = sim.asked.take().expect("the arm's look");
    let received = sim.now;
    let at = before_due(&sim, i64::try_from(PIN_BEFORE.as_millis()).expect("short"));
    sim.stall(secs(2));
    let (verdict, knows) = (Verdict::Live(started("a", at)), sim.knows());
    sim.event(Event::Looked { purpose, sent, received, verdict, knows });
    assert_eq!(sim.pinned(), Some("a"));
    sim.tick();
    sim.slot();
    sim.expect_called("a");
}

#[test]
fn keep_closed_takes_what_opened_between_pin_moment_and_due() {
    let keep = |order: &mut Order| order.limits.keep_closed = mins(5);
    let mut sim = due_unarmed(keep);
    let at = before_due(&sim, 1_000);
    sim.look_says(Verdict::Live(started("b", at)));
    assert_eq!(sim.pinned(), Some("b"));
}

#[test]
fn the_pin_moves_to_another_belonging_instance_only_when_the_first_is_proven_gone() {
    let mut sim = Sim::confirming();
    sim.next_look_says(replaced(instance("b")));
    assert_eq!(sim.pinned(), Some("a"));
    sim.next_look_says(replaced(instance("b")));
    assert_eq!(sim.pinned(), Some("b"));
    sim.expect_state(State::Ending);
    sim.turn(live("b"));
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
fn the_next_class_that_proves_nothing_is_never_called_at_and_keeps_nobody_waiting() {
    let mut sim = Sim::confirming();
    let began = sim.now;
    let next = started("b", sim.job.due + secs(1));
    while !sim.job.is_done() {
        sim.next_look_or_end(Verdict::Replaced { by: next.clone(), counts: false });
    }
    sim.expect_outcome(Outcome::Unconfirmed);
    sim.expect_calls(1);
    assert!(sim.now.since(began) < mins(2), "{:?}", sim.now.since(began));
    assert_eq!(sim.job.left_alone.as_ref().map(|left| left.instance.as_str()), Some("b"));
}

#[test]
fn a_second_instance_that_belongs_is_ended_and_the_first_is_not_said_to_be_over() {
    let mut sim = Sim::confirming();
    sim.next_look_says(Verdict::Replaced { by: instance("b"), counts: false });
    assert_eq!(sim.pinned(), Some("b"));
    sim.turn(live("b"));
    sim.expect_called("b");
    sim.end_says(EndAnswer::Accepted);
    sim.next_look_says(gone());
    sim.next_look_says(gone());
    sim.expect_outcome(Outcome::Unconfirmed);
    assert!(sim.job.reason.contains("instance a"), "{}", sim.job.reason);
}

#[test]
fn a_live_answer_that_names_another_than_the_pinned_one_proves_nothing() {
    let mut sim = Sim::confirming();
    let next = Verdict::Live(started("b", sim.job.due + secs(1)));
    (0..3).for_each(|_| sim.next_look_says(next.clone()));
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
    assert_eq!((sim.pinned(), sim.job.reopened_at), (Some("a"), None));
    assert_eq!(sim.job.left_alone.as_ref().map(|left| left.instance.as_str()), Some("b"));
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

/// Pinned, then put off a little; at the new time another instance of those that belong has taken its place.
fn replaced_before_due(counts: bool) -> Sim {
    let mut sim = Sim::arming();
    sim.look_says(live("a"));
    sim.change(Change::Extend { by: secs(2) });
    sim.expect_look(Purpose::Arm);
    sim.look_says(Verdict::Replaced { by: instance("b"), counts });
    sim.advance_to_due();
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

#[test]
fn an_early_look_that_finds_nobody_does_not_keep_the_pin_moment_from_its_own() {
    let mut sim = Sim::submit_in(mins(2));
    sim.site.answer_time = secs(8);
    // Asked once, so that the arm is known to need its time; then moved.
    sim.advance(mins(2) - secs(6));
    sim.look_says(gone());
    sim.change(Change::Extend { by: mins(5) });
    sim.wait_for_look();
    assert!(sim.due_in() > 10_000, "the arm comes earlier on a slow server: {}", sim.due_in());
    sim.look_says(gone());
    sim.wait_for_look();
    assert!(sim.due_in() <= 10_000 && sim.due_in() > 0, "{}", sim.due_in());
    let untold = Instance { started_at: None, start: None, ..instance("a") };
    sim.look_says(Verdict::Live(untold));
    assert_eq!(sim.pinned(), Some("a"));
}

#[test]
fn fire_means_whoever_is_live_then_also_where_the_pin_moment_had_found_nobody() {
    let early = |order: &mut Order| order.limits.pin_before = mins(60);
    let mut sim = Sim::submit_with(hours(2), early);
    sim.advance(mins(61));
    sim.look_says(gone());
    sim.advance(mins(20));
    sim.change(Change::Fire);
    let opened = started("b", sim.now.wall - mins(1));
    sim.look_says(Verdict::Live(Instance { start: None, ..opened }));
    assert_eq!(sim.pinned(), Some("b"));
}

#[test]
fn a_listing_that_comes_late_is_noted_once() {
    let mut sim = Sim::arming();
    sim.look_says(Verdict::Live(Instance { listed: false, ..instance("a") }));
    sim.event(Event::Listed);
    sim.event(Event::Listed);
    assert_eq!((sim.job.pin.as_ref().map(|pin| pin.listed), sim.facts("listed")), (Some(true), 1));
}

fn untold(id: &str) -> Verdict {
    Verdict::Live(Instance { started_at: None, start: None, ..instance(id) })
}

#[test]
fn asked_for_now_the_first_good_look_decides_and_nobody_who_comes_after_it() {
    let mut sim = Sim::submit_in(secs(0));
    sim.look_says(gone());
    assert!(sim.job.pin_decided);
    sim.next_look_says(untold("b"));
    sim.expect_outcome(Outcome::Superseded);
}

#[test]
fn asked_for_now_what_the_first_answer_shows_much_later_is_not_ours_without_a_start() {
    let mut sim = Sim::submit_in(secs(0));
    while sim.due_in() > -11_000 {
        sim.next_look_says(unreachable());
    }
    sim.wait_for_look();
    sim.look_says(untold("b"));
    sim.expect_outcome(Outcome::Superseded);
}

#[test]
fn a_pin_look_that_is_answered_after_due_decides_nothing() {
    let mut sim = Sim::arming();
    sim.advance(secs(8));
    sim.look_says(untold("b"));
    sim.expect_outcome(Outcome::Superseded);
    sim.expect_calls(0);
}

/// A time in the past that the schedule file gives is not meant for whoever is live by now.
#[test]
fn a_past_time_of_the_file_takes_nobody_who_came_since() {
    let mut sim = Sim::submit_with(secs(0), |order| order.due = START.wall - hours(1));
    sim.look_says(Verdict::Live(started("b", START.wall - mins(30))));
    sim.expect_outcome(Outcome::Superseded);
}

/// Moved to an earlier time, a deadline asks anew who was there before *its* pin moment.
#[test]
fn a_sighting_from_after_the_new_pin_moment_is_none() {
    let mut sim = Sim::arming();
    let at = sim.now.wall - secs(2);
    let next = started("a", at);
    sim.look_says(Verdict::Live(Instance { start: None, ..next.clone() }));
    assert_eq!(sim.pinned(), Some("a"));
    sim.change(Change::Extend { by: hours(1) });
    assert_eq!(sim.pinned(), None);
    sim.change(Change::Move { to: sim.now.wall + secs(3) });
    sim.advance(secs(1));
    while sim.asked.is_none() {
        sim.advance(ms(100));
    }
    sim.look_says(Verdict::Live(next));
    assert_eq!(sim.pinned(), None);
}

/// Each instance's calls are its own.
#[test]
fn the_first_call_at_the_next_one_that_is_ours_is_no_re_send() {
    let mut sim = Sim::confirming();
    sim.next_look_says(replaced(instance("b")));
    sim.next_look_says(replaced(instance("b")));
    sim.turn(live("b"));
    sim.expect_called("b");
    assert!(!sim.sent[1].resend);
    assert_eq!((sim.job.calls.sent, sim.job.calls.accepts), (1, 0));
}
