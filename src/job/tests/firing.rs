//! Arming, claiming, and the moment of the first end call: never early, never late for want of a look.

use super::super::step::{ARM_GOOD, CLAIM_LEAD, LOOK_FRESH};
use super::super::*;
use super::sim::*;

#[test]
fn an_armed_job_calls_at_due_without_a_look_in_between() {
    let mut sim = Sim::arming();
    sim.look_says(live("a"));
    sim.advance(ms(6_999));
    sim.expect_not_queued();
    sim.advance(ms(1));
    sim.expect_no_look();
    sim.slot();
    sim.expect_called("a");
    assert_eq!(sim.due_in(), 0);
    assert!(!sim.sent[0].resend);
}

#[test]
fn the_claim_is_made_a_quarter_of_a_second_before_due() {
    let mut sim = Sim::arming();
    sim.look_says(live("a"));
    sim.advance(secs(7) - CLAIM_LEAD - ms(1));
    assert_eq!(sim.job.claimed, None);
    sim.advance(ms(1));
    assert_eq!(sim.job.claimed, Some(sim.now));
    assert_eq!(sim.due_in(), 250);
}

#[test]
fn an_arm_is_good_for_fifteen_seconds_in_the_lane() {
    for (waited, good) in [(ARM_GOOD, true), (ARM_GOOD + ms(1), false)] {
        let mut sim = Sim::arming();
        sim.look_says(live("a"));
        sim.advance(waited);
        sim.slot();
        assert_eq!(sim.sent.len(), usize::from(good), "waited {waited:?}");
        if !good {
            sim.expect_look(Purpose::Last);
        }
    }
}

#[test]
fn without_a_good_arm_the_call_follows_a_look_within_two_seconds() {
    for (waited, good) in [(LOOK_FRESH, true), (LOOK_FRESH + ms(1), false)] {
        let mut sim = Sim::arming();
        sim.look_says(unreachable());
        sim.advance(secs(2));
        sim.look_says(unreachable());
        sim.advance(secs(5));
        sim.look_says(live("a"));
        sim.expect_queued();
        sim.advance(waited);
        sim.slot();
        assert_eq!(sim.sent.len(), usize::from(good), "waited {waited:?}");
    }
}

#[test]
fn a_failed_arm_is_tried_again_every_two_seconds_until_due() {
    let mut sim = Sim::arming();
    for verdict in [unreachable(), doubtful(), Verdict::Occupied] {
        sim.look_says(verdict);
        sim.advance(ms(1_999));
        sim.expect_no_look();
        sim.advance(ms(1));
        sim.expect_look(Purpose::Arm);
    }
    sim.look_says(live("a"));
    sim.advance(secs(1));
    sim.expect_queued();
}

#[test]
fn an_arm_that_found_nothing_looks_again_at_due() {
    let mut sim = Sim::arming();
    sim.look_says(gone());
    sim.advance(ms(6_999));
    sim.expect_no_look();
    sim.advance(ms(1));
    sim.expect_look(Purpose::BeforeEnd);
}

#[test]
fn an_arm_answered_after_due_is_the_look_before_the_call() {
    let mut sim = Sim::arming();
    sim.advance(secs(8));
    sim.expect_state(State::Ending);
    sim.expect_look(Purpose::Arm);
    sim.look_says(live("a"));
    sim.expect_queued();
}

#[test]
fn a_job_that_is_due_now_looks_first() {
    let mut sim = Sim::submit_in(secs(0));
    sim.expect_state(State::Ending);
    sim.expect_look(Purpose::BeforeEnd);
    sim.look_says(live("a"));
    sim.expect_queued();
    sim.slot();
    sim.expect_called("a");
}

#[test]
fn a_clock_set_back_while_the_call_waits_for_room_holds_the_call_back() {
    let mut sim = Sim::firing();
    sim.step_clock(-3600);
    sim.slot();
    sim.expect_calls(0);
    sim.advance(mins(59));
    sim.expect_calls(0);
    sim.advance(mins(1));
    assert_eq!(sim.due_in(), 0);
    sim.look_says(live("a"));
    sim.slot();
    sim.expect_calls(1);
}

#[test]
fn a_clock_set_back_between_retries_holds_the_next_call_back() {
    let mut sim = Sim::calling();
    sim.end_says(refused(false));
    sim.step_clock(-60);
    sim.advance(secs(59));
    sim.expect_not_queued();
    sim.advance(secs(1));
    sim.look_says(live("a"));
    sim.slot();
    sim.expect_calls(2);
}

#[test]
fn a_clock_set_back_after_a_failed_arm_arms_again_without_a_busy_loop() {
    for verdict in [unreachable(), gone(), misconfigured()] {
        let mut sim = Sim::arming();
        sim.look_says(verdict);
        sim.step_clock(-3600);
        sim.advance(mins(59));
        sim.expect_no_look();
        sim.advance(mins(1));
        sim.expect_look(Purpose::Arm);
    }
}

#[test]
fn a_clock_set_forward_fires_at_once_after_a_fresh_look() {
    let mut sim = Sim::arming();
    sim.look_says(live("a"));
    sim.advance(secs(3));
    sim.step_clock(1800);
    sim.expect_not_queued();
    sim.expect_look(Purpose::BeforeEnd);
}

#[test]
fn an_arm_that_is_handled_late_is_not_on_time() {
    let mut sim = Sim::arming();
    let (purpose, sent) = sim.asked.take().expect("the arm's look");
    let received = sim.now;
    sim.stall(secs(10));
    let knows = sim.knows();
    sim.event(Event::Looked { purpose, sent, received, verdict: live("a"), knows });
    assert_eq!(sim.pinned(), Some("a"));
    sim.expect_not_queued();
    sim.expect_look(Purpose::BeforeEnd);
}

#[test]
fn a_job_found_late_looks_first_and_then_fires() {
    let mut sim = Sim::arming();
    sim.look_says(live("a"));
    sim.stall(hours(3));
    sim.tick();
    sim.expect_not_queued();
    sim.look_says(live("a"));
    sim.slot();
    sim.expect_called("a");
}

#[test]
fn found_later_than_the_late_limit_is_missed() {
    for (late, missed) in [(hours(24), false), (hours(24) + ms(1), true)] {
        let mut sim = Sim::submit_in(secs(60));
        sim.stall(secs(60) + late);
        sim.tick();
        assert_eq!(sim.job.outcome == Some(Outcome::Missed), missed, "{late:?} late");
        sim.expect_calls(0);
    }
}

#[test]
fn a_late_limit_of_nothing_forgives_a_busy_machine_and_no_more() {
    for (late, missed) in [(secs(2), false), (ms(2_001), true)] {
        let mut sim = Sim::submit_with(secs(60), |order| order.limits.late_limit = secs(0));
        sim.stall(secs(60) + late);
        sim.tick();
        assert_eq!(sim.job.outcome == Some(Outcome::Missed), missed, "{late:?} late");
    }
}

#[test]
fn a_job_found_in_time_is_never_missed_however_long_the_platform_is_away() {
    let mut sim = Sim::arming_with(|order| order.limits.late_limit = secs(0));
    for _ in 0..20 {
        sim.next_look_says(unreachable());
    }
    assert!(sim.due_in() < -60_000);
    sim.next_look_says(live("a"));
    sim.slot();
    sim.expect_called("a");
}

#[test]
fn waiting_in_the_lane_is_not_late() {
    let mut sim = Sim::firing_with(|order| order.limits.late_limit = secs(1));
    sim.advance(mins(3));
    sim.slot();
    sim.look_says(live("a"));
    sim.slot();
    sim.expect_called("a");
    assert_eq!(sim.job.lateness_ms(), Some(180_000));
}

#[test]
fn retries_back_off_from_half_a_second_to_a_minute_and_each_follows_a_look() {
    let mut sim = Sim::calling();
    let mut pauses = Vec::new();
    for _ in 0..12 {
        let answered = sim.now;
        sim.end_says(refused(false));
        sim.next_look_says(live("a"));
        sim.is_seen_until_it_may_call("a");
        sim.turn(live("a"));
        pauses.push(sim.now.since(answered).as_millis());
    }
    assert!((375..=500).contains(&pauses[0]), "{pauses:?}");
    assert!(pauses.iter().all(|pause| *pause <= 60_000) && pauses[11] >= 45_000, "{pauses:?}");
}

#[test]
fn a_throttled_call_waits_as_long_as_the_platform_asked() {
    let mut sim = Sim::calling();
    sim.end_says(EndAnswer::Throttled {
        why: "slow down".to_owned(),
        retry_after: Some(secs(30)),
        unavailable: false,
    });
    sim.advance(ms(29_999));
    sim.expect_no_look();
    sim.advance(ms(1));
    sim.look_says(live("a"));
    sim.slot();
    sim.expect_calls(2);
}

#[test]
fn room_left_over_from_before_a_change_does_not_cut_a_retry_short() {
    let mut sim = Sim::firing();
    sim.change(Change::Extend { by: mins(1) });
    sim.next_look_says(live("a"));
    sim.advance_to_due();
    sim.slot();
    sim.expect_calls(1);
    sim.end_says(maybe_gone());
    sim.look_says(live("a"));
    sim.slot();
    sim.expect_calls(1);
}

#[test]
fn a_call_that_may_have_found_nothing_is_followed_by_a_look_at_once() {
    let mut sim = Sim::calling();
    sim.end_says(maybe_gone());
    sim.expect_look(Purpose::BeforeEnd);
    sim.look_says(gone());
    sim.next_look_says(gone());
    sim.expect_outcome(Outcome::AlreadyOver);
}

#[test]
fn a_configuration_fault_is_an_alarm_and_the_job_goes_on_every_minute() {
    let mut sim = Sim::calling();
    sim.end_says(EndAnswer::Misconfigured { why: "checksumError".to_owned() });
    for _ in 0..3 {
        sim.expect_state(State::Ending);
        assert_eq!(sim.job.alarm.as_deref(), Some("checksumError"));
        assert!(sim.job.sentence().contains("checksumError"));
        sim.advance(ms(59_999));
        sim.expect_no_look();
        sim.advance(ms(1));
        sim.look_says(misconfigured());
    }
    assert_eq!(sim.facts("alarm"), 1);
    sim.advance(mins(1));
    sim.look_says(live("a"));
    assert_eq!((sim.job.alarm.as_deref(), sim.facts("alarm-over")), (None, 1));
    sim.slot();
    sim.end_says(EndAnswer::Accepted);
    sim.expect_state(State::Confirming);
}

#[test]
fn a_configuration_fault_before_due_does_not_delay_the_look_at_due() {
    let mut sim = Sim::arming();
    sim.look_says(misconfigured());
    sim.expect_fact("alarm");
    sim.advance(secs(7));
    sim.expect_look(Purpose::BeforeEnd);
}

#[test]
fn giving_up_counts_from_the_first_attempt_and_says_what_was_last_known() {
    let give_up = |order: &mut Order| order.limits.give_up_after = mins(10);
    let mut alive = Sim::calling_with(give_up);
    alive.end_says(EndAnswer::Accepted);
    while !alive.job.is_done() && alive.due_in() > -700_000 {
        match (alive.queued, alive.in_flight.len()) {
            (0, 0) => alive.next_look_or_end(live("a")),
            (0, _) => alive.end_says(EndAnswer::Accepted),
            _ => alive.turn(live("a")),
        }
    }
    alive.expect_outcome(Outcome::Failed);
    assert_eq!(alive.due_in(), -600_000);

    let mut never_reached = Sim::arming_with(give_up);
    while !never_reached.job.is_done() {
        never_reached.next_look_or_end(unreachable());
    }
    never_reached.expect_outcome(Outcome::Unconfirmed);
    assert!(never_reached.due_in() <= -600_000);

    let mut no_call = Sim::calling_with(give_up);
    no_call.end_says(no_answer(false));
    while !no_call.job.is_done() {
        no_call.next_look_or_end(unreachable());
    }
    no_call.expect_outcome(Outcome::Unconfirmed);
    assert!(no_call.job.reason.contains("connection refused"), "{}", no_call.job.reason);
}

/// Other questions of the same round took long: what was seen at its beginning is as old as it is.
#[test]
fn a_look_is_as_fresh_as_the_answer_that_showed_the_instance() {
    for (earlier, good) in [(LOOK_FRESH, true), (LOOK_FRESH + ms(1), false)] {
        let mut sim = Sim::arming();
        sim.look_says(unreachable());
        sim.advance(secs(7));
        let shown_at = Some(sim.now.before(earlier));
        sim.look_says(Verdict::Live(Instance { shown_at, ..instance("a") }));
        if good {
            sim.slot();
        }
        assert_eq!(sim.sent.len(), usize::from(good), "shown {earlier:?} earlier");
        assert!(!format!("{:?}", sim.job.history).contains("shown_at: Some"), "no part of the record");
    }
}

/// The claim is on its way to disk while the call waits for room.
#[test]
fn a_call_that_waits_for_room_is_claimed() {
    let mut sim = Sim::submit_in(secs(0));
    sim.look_says(live("a"));
    sim.expect_queued();
    assert!(sim.job.claimed.is_some());
}

#[test]
fn a_re_send_never_follows_a_look_that_was_made_for_a_proof() {
    let mut sim = Sim::confirming();
    sim.is_seen_until_it_may_call("a");
    sim.slot();
    sim.expect_look(Purpose::Last);
    sim.expect_calls(1);
}

/// The daemon was asleep over the pin moment: what it sees much later says nothing about who was there then.
#[test]
fn the_pin_look_is_made_within_ten_seconds_or_not_at_all() {
    let mut sim = Sim::submit_with(hours(2), |order| order.limits.pin_before = hours(1));
    sim.stall(hours(1) + mins(5));
    sim.tick();
    sim.expect_no_look();
}

#[test]
fn jobs_of_one_due_on_one_server_look_together() {
    let (one, mut other) = (Sim::submit_in(hours(1)).job, Sim::submit_in(hours(1)).job);
    other.id = JobId(uuid::Uuid::from_u128(99));
    assert_eq!((one.arm_at(), one.pin_look_at()), (other.arm_at(), other.pin_look_at()));
}

/// What an answer of many meetings shows was true when it was shown, not when the last of them came in.
#[test]
fn an_arm_is_as_old_as_the_answer_that_showed_it() {
    let mut sim = Sim::arming();
    let shown = sim.now;
    sim.advance(secs(5));
    sim.look_says(Verdict::Live(Instance { shown_at: Some(shown), ..instance("a") }));
    sim.advance(ARM_GOOD - secs(4));
    sim.slot();
    sim.expect_look(Purpose::Last);
    sim.expect_calls(0);
}

#[test]
fn a_call_under_way_is_not_given_up() {
    let mut sim = Sim::calling_with(|order| order.limits.give_up_after = secs(30));
    sim.advance(mins(2));
    sim.tick();
    assert_eq!(sim.job.outcome, None);
    sim.end_says(EndAnswer::Accepted);
    sim.expect_state(State::Confirming);
}
