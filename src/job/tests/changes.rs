//! Last word wins: until an end call was sent everything may change, afterwards only a cancel is heard.

use super::super::*;
use super::sim::*;

#[test]
fn extended_before_due_it_never_fires_at_the_old_time() {
    let mut sim = Sim::arming();
    sim.look_says(live("a"));
    let old = sim.job.due;
    sim.change(Change::Extend { by: mins(5) });
    assert_eq!(sim.job.due, old + mins(5));
    sim.advance(mins(4));
    sim.expect_not_queued();
    sim.next_look_says(live("a"));
    sim.advance_to_due();
    sim.slot();
    assert_eq!(sim.sent[0].at.wall, old + mins(5));
}

#[test]
fn even_past_due_the_last_word_wins_while_the_call_waits_for_room() {
    let changes = [
        Change::Extend { by: mins(5) },
        Change::Move { to: START.wall + mins(9) },
        Change::Hold { until: None },
        Change::Cancel,
    ];
    for change in changes {
        let mut sim = Sim::firing();
        sim.advance(secs(3));
        sim.change(change.clone());
        sim.slot();
        assert_eq!(sim.sent, [], "{change:?}");
        assert!(matches!(sim.job.state, State::Waiting | State::Held | State::Done), "{change:?}");
    }
}

#[test]
fn even_past_due_the_last_word_wins_while_the_look_is_under_way() {
    let mut sim = Sim::arming();
    sim.advance(secs(8));
    sim.expect_state(State::Ending);
    sim.change(Change::Extend { by: mins(5) });
    sim.expect_state(State::Waiting);
    sim.look_says(live("a"));
    sim.expect_not_queued();
    assert_eq!(sim.pinned(), Some("a"));
    sim.advance(mins(4) + secs(45));
    sim.expect_not_queued();
    sim.next_look_says(live("a"));
    sim.advance_to_due();
    sim.expect_queued();
}

#[test]
fn a_time_that_has_passed_is_refused() {
    let mut sim = Sim::submit_in(mins(2));
    let now = sim.now.wall;
    sim.expect_refused(Change::Move { to: now }, "already passed");
    sim.expect_refused(Change::Move { to: now - secs(1) }, "already passed");
    sim.change(Change::Hold { until: None });
    sim.expect_refused(Change::Release { due: Some(now - secs(1)) }, "already passed");
}

#[test]
fn a_time_beyond_the_calendar_is_refused() {
    let mut sim = Sim::submit_in(mins(2));
    sim.expect_refused(Change::Extend { by: std::time::Duration::MAX }, "too far");
    sim.expect_refused(Change::Move { to: UtcMs(i64::MAX) }, "too far");
}

#[test]
fn after_the_sending_extend_and_hold_are_refused_with_its_time() {
    for mut sim in [Sim::calling(), Sim::confirming()] {
        let sent = sim.sent[0].at.wall.to_string();
        sim.expect_refused(Change::Extend { by: mins(5) }, &sent);
        sim.expect_refused(Change::Move { to: sim.job.due + hours(1) }, &sent);
        sim.expect_refused(Change::Hold { until: None }, &sent);
        sim.expect_refused(Change::Fire, &sent);
    }
}

#[test]
fn after_the_sending_cancel_stops_further_calls_and_says_so() {
    let mut sim = Sim::calling();
    sim.end_says(refused(false));
    sim.change(Change::Cancel);
    sim.expect_outcome(Outcome::Cancelled);
    assert!(sim.job.reason.contains("after an end call was sent"), "{}", sim.job.reason);
    sim.advance(hours(1));
    sim.expect_calls(1);
}

#[test]
fn cancelled_before_the_sending_says_who() {
    let mut sim = Sim::submit_in(mins(2));
    sim.change(Change::Cancel);
    sim.expect_outcome(Outcome::Cancelled);
    assert!(sim.job.reason.contains("uid 1000"));
    sim.advance(mins(5));
    sim.expect_no_look();
}

#[test]
fn a_done_job_cannot_be_changed() {
    let mut sim = Sim::submit_in(mins(2));
    sim.change(Change::Cancel);
    let changes = [
        Change::Cancel,
        Change::Fire,
        Change::Hold { until: None },
        Change::Release { due: None },
        Change::Extend { by: mins(5) },
    ];
    for change in changes {
        sim.expect_refused(change, "is done (cancelled)");
    }
}

#[test]
fn a_held_job_that_passes_its_due_stays_held_until_released_with_a_time() {
    let mut sim = Sim::submit_in(mins(2));
    sim.change(Change::Hold { until: None });
    sim.advance(mins(10));
    sim.expect_state(State::Held);
    assert_eq!((sim.facts("held-past-due"), sim.to_wake(), sim.job.index_wake()), (1, None, None));
    sim.expect_refused(Change::Release { due: None }, "passed while it was held");
    sim.change(Change::Release { due: Some(sim.now.wall + mins(1)) });
    sim.expect_state(State::Waiting);
    sim.next_look_says(live("a"));
    sim.advance_to_due();
    sim.slot();
    sim.expect_called("a");
    assert_eq!(sim.due_in(), 0);
}

#[test]
fn a_held_job_past_its_due_can_be_fired_or_released_now() {
    for release in [false, true] {
        let mut sim = Sim::submit_in(mins(2));
        sim.change(Change::Hold { until: None });
        sim.advance(hours(30));
        let now = sim.now.wall;
        sim.change(if release { Change::Release { due: Some(now) } } else { Change::Fire });
        assert_eq!(sim.job.due, now);
        sim.look_says(live("a"));
        sim.slot();
        sim.expect_called("a");
    }
}

#[test]
fn released_in_time_it_fires_at_its_old_due() {
    let mut sim = Sim::submit_in(mins(2));
    sim.change(Change::Hold { until: None });
    sim.advance(mins(1));
    sim.change(Change::Release { due: None });
    sim.next_look_says(live("a"));
    sim.advance_to_due();
    sim.slot();
    assert_eq!(sim.sent[0].at.wall, START.wall + mins(2));
}

#[test]
fn a_hold_with_an_end_comes_back_by_itself() {
    let mut sim = Sim::submit_in(mins(10));
    sim.change(Change::Hold { until: Some(START.wall + mins(4)) });
    assert_eq!(sim.job.index_wake(), Some(START.wall + mins(4)));
    sim.advance(mins(4));
    sim.expect_state(State::Waiting);
    sim.expect_fact("released");
    sim.next_look_says(live("a"));
    sim.advance_to_due();
    sim.expect_queued();
}

#[test]
fn a_hold_that_ends_after_due_does_not_come_back_by_itself() {
    let mut sim = Sim::submit_in(mins(2));
    sim.change(Change::Hold { until: Some(START.wall + mins(4)) });
    sim.advance(mins(10));
    sim.expect_state(State::Held);
    sim.expect_fact("held-past-due");
}

#[test]
fn a_hold_that_ended_before_due_while_nobody_was_awake_is_over() {
    let mut sim = Sim::submit_in(mins(10));
    sim.change(Change::Hold { until: Some(START.wall + mins(4)) });
    sim.crash(mins(20));
    sim.expect_state(State::Ending);
    assert_eq!(sim.facts("held-past-due"), 0);
    sim.look_says(live("a"));
    sim.slot();
    sim.expect_called("a");
}

#[test]
fn a_held_job_asks_for_nothing_and_ignores_the_look_that_was_under_way() {
    let mut sim = Sim::arming();
    sim.change(Change::Hold { until: None });
    let looks = sim.job.looks;
    sim.look_says(live("a"));
    assert_eq!((sim.job.looks, sim.pinned()), (looks, None));
    sim.expect_state(State::Held);
    sim.change(Change::Release { due: None });
    sim.expect_look(Purpose::Arm);
}

#[test]
fn only_a_held_job_can_be_released() {
    Sim::submit_in(mins(2)).expect_refused(Change::Release { due: None }, "not held");
    Sim::firing().expect_refused(Change::Release { due: None }, "not held");
}

#[test]
fn a_held_job_can_be_extended_and_stays_held() {
    let mut sim = Sim::submit_in(mins(2));
    sim.change(Change::Hold { until: None });
    sim.change(Change::Extend { by: mins(5) });
    sim.expect_state(State::Held);
    sim.advance(mins(6));
    assert_eq!(sim.facts("held-past-due"), 0);
    sim.advance(mins(1));
    assert_eq!(sim.facts("held-past-due"), 1);
    sim.change(Change::Extend { by: mins(5) });
    assert!(!sim.job.held_past_due);
}

#[test]
fn fired_by_hand_it_is_due_now_and_looks_first() {
    let mut sim = Sim::submit_in(hours(5));
    sim.advance(mins(1));
    sim.change(Change::Fire);
    assert_eq!(sim.due_in(), 0);
    sim.expect_look(Purpose::BeforeEnd);
    sim.look_says(live("a"));
    sim.slot();
    sim.expect_called("a");
    assert_eq!(sim.job.lateness_ms(), Some(0));
}

#[test]
fn a_job_at_work_cannot_be_fired_again() {
    Sim::firing().expect_refused(Change::Fire, "at work");
}

#[test]
fn an_edit_of_the_file_moves_the_planned_time_too_and_a_hand_does_not() {
    let planned = START.wall + mins(5);
    let origin = Origin::Schedule { name: "math-101".to_owned(), of: None, planned };
    let mut sim = Sim::submit_with(mins(5), |order| order.origin = origin.clone());
    sim.change(Change::Extend { by: mins(5) });
    assert_eq!(sim.job.origin, origin);
    let to = START.wall + mins(30);
    sim.job = sim.job.change(&Change::Move { to }, By::Schedule, sim.now).expect("allowed");
    assert_eq!(sim.job.origin, Origin::Schedule { name: "math-101".to_owned(), of: None, planned: to });
}

#[test]
fn new_settings_end_the_pause_of_a_configuration_fault_and_no_other() {
    let mut sim = Sim::confirming();
    sim.next_look_says(misconfigured());
    sim.expect_no_look();
    sim.event(Event::Reconfigured);
    sim.expect_look(Purpose::Confirm);

    let mut sim = Sim::confirming();
    sim.next_look_says(live("a"));
    sim.event(Event::Reconfigured);
    sim.expect_no_look();
}

#[test]
fn a_call_that_never_left_is_no_last_word() {
    let changes = [Change::Extend { by: mins(5) }, Change::Hold { until: None }];
    for change in changes {
        let mut sim = Sim::calling();
        sim.expect_refused(change.clone(), "was sent at");
        sim.end_says(no_answer(false));
        sim.change(change);
        assert_eq!(sim.job.end_sent_at, None);
    }
    let mut sim = Sim::calling();
    sim.end_says(no_answer(false));
    sim.change(Change::Extend { by: mins(5) });
    sim.advance(mins(4) + secs(45));
    sim.next_look_says(live("a"));
    sim.expect_no_look();
    sim.advance_to_due();
    sim.slot();
    sim.expect_called("a");
    assert_eq!(sim.job.lateness_ms(), Some(0));
    sim.end_says(no_answer(true));
    sim.expect_refused(Change::Extend { by: mins(5) }, "was sent at");
}

/// A claim is about one due: what has been put off was not called at.
#[test]
fn a_claim_does_not_outlive_what_puts_the_deadline_off() {
    for change in [Change::Extend { by: mins(5) }, Change::Hold { until: None }] {
        let mut sim = Sim::arming();
        sim.look_says(live("a"));
        sim.advance(ms(6_800));
        assert!(sim.job.claimed.is_some());
        sim.change(change.clone());
        assert_eq!(sim.job.claimed, None, "{change:?}");
        sim.crash(secs(3));
        assert_eq!(sim.facts("answer-lost"), 0, "{change:?}");
    }
}
