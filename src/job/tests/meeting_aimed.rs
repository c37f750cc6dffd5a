//! Calls that can name only the meeting, calls that another deadline's stands for, and what puts a call off.

use super::super::step::ARM_GOOD;
use super::super::*;
use super::sim::*;

/// The call names only the meeting, and looks there take so long.
fn meeting_aimed(adjust: impl FnOnce(&mut Sim)) -> Sim {
    let mut sim = Sim::arming();
    sim.site = site(Aim::Meeting);
    adjust(&mut sim);
    sim.look_says(live("a"));
    sim
}

#[test]
fn a_call_at_the_meeting_follows_a_last_look_a_quarter_of_a_second_before_due() {
    let mut sim = meeting_aimed(|_| {});
    sim.advance(ms(6_749));
    sim.expect_no_look();
    sim.advance(ms(1));
    sim.expect_look(Purpose::BeforeEnd);
    assert_eq!(sim.job.claimed, None, "nothing is claimed before the last look allows the call");
    sim.advance(ms(10));
    sim.look_says(live("a"));
    assert!(sim.job.claimed.is_some());
    sim.advance_to_due();
    sim.slot();
    sim.expect_called("a");
    assert_eq!((sim.due_in(), sim.job.look_age_ms), (0, Some(250)));
}

#[test]
fn a_slow_server_is_asked_earlier_and_the_call_leaves_with_the_answer() {
    let mut sim = meeting_aimed(|sim| sim.site.answer_time = secs(3));
    sim.advance(ms(7_000 - 1_750));
    sim.expect_look(Purpose::BeforeEnd);
    sim.advance(secs(3));
    assert_eq!(sim.due_in(), -1_250);
    sim.look_says(live("a"));
    sim.slot();
    sim.expect_called("a");
}

#[test]
fn a_next_class_that_opened_before_the_last_look_is_never_called_at() {
    let mut sim = meeting_aimed(|_| {});
    sim.advance(ms(6_750));
    let next = started("b", sim.now.wall - ms(100));
    sim.look_says(replaced(next.clone()));
    sim.advance_to_due();
    sim.expect_not_queued();
    sim.next_look_says(replaced(next.clone()));
    sim.next_look_says(replaced(next));
    sim.expect_outcome(Outcome::AlreadyOver);
    sim.expect_calls(0);
    assert_eq!(sim.job.left_alone.as_ref().map(|left| left.instance.as_str()), Some("b"));
}

#[test]
fn where_the_listing_may_be_old_the_meeting_alone_is_asked_in_the_calls_own_turn() {
    let mut sim = meeting_aimed(|sim| sim.site.shares_last_look = false);
    sim.advance(ms(6_750));
    sim.expect_queued();
    sim.slot();
    sim.expect_look(Purpose::Last);
    sim.look_says(live("a"));
    sim.expect_calls(0);
    sim.advance_to_due();
    sim.slot();
    sim.expect_called("a");
    assert_eq!(sim.due_in(), 0);
}

#[test]
fn a_turn_that_comes_too_late_for_the_last_look_begins_with_another() {
    let mut sim = meeting_aimed(|_| {});
    sim.advance(ms(6_750));
    sim.look_says(live("a"));
    sim.advance(secs(5));
    sim.slot();
    sim.expect_look(Purpose::Last);
    sim.expect_calls(0);
    sim.advance(ms(40));
    sim.look_says(live("a"));
    sim.slot();
    sim.expect_called("a");
    assert_eq!(sim.job.look_age_ms, Some(40));
}

#[test]
fn a_call_at_the_meeting_never_follows_the_arm_or_a_look_for_proof() {
    let mut sim = meeting_aimed(|_| {});
    sim.advance(ms(6_750));
    sim.look_says(live("a"));
    sim.advance_to_due();
    sim.slot();
    sim.end_says(EndAnswer::Accepted);
    sim.is_seen_until_it_may_call("a");
    sim.slot();
    // The listing may be an old one: the next class has opened meanwhile.
    sim.expect_look(Purpose::Last);
    let next = started("b", sim.job.due + secs(5));
    sim.look_says(replaced(next));
    sim.expect_calls(1);
}

#[test]
fn what_is_looked_at_but_lets_no_call_go_is_said_and_overdue() {
    let mut sim = meeting_aimed(|_| {});
    sim.advance(ms(6_750));
    while sim.due_in() > -320_000 {
        sim.next_look_or_end(doubtful());
    }
    assert_eq!(sim.facts("blocked"), 1);
    assert!(sim.job.overdue);
    sim.expect_calls(0);
}

#[test]
fn the_call_of_another_deadline_stands_for_this_one() {
    let mut sim = Sim::firing();
    let other = JobId(uuid::Uuid::from_u128(99));
    sim.queued = 0;
    sim.event(Event::Slot { site: sim.site.clone(), carrier: Some(other) });
    sim.expect_state(State::Confirming);
    sim.expect_calls(0);
    sim.next_look_says(gone());
    sim.next_look_says(gone());
    sim.expect_outcome(Outcome::Ended);
    assert!(
        sim.job.reason.contains(&format!("by the end call of job {}", other.short())),
        "{}",
        sim.job.reason
    );
}

#[test]
fn when_the_other_deadline_does_not_call_any_more_this_one_does() {
    let mut sim = Sim::firing();
    sim.queued = 0;
    sim.event(Event::Slot { site: sim.site.clone(), carrier: Some(JobId(uuid::Uuid::from_u128(99))) });
    sim.is_seen_until_it_may_call("a");
    assert!(sim.due_in() >= -16_000, "{}", sim.due_in());
    sim.turn(live("a"));
    sim.expect_called("a");
}

#[test]
fn retry_after_an_hour_parks_the_calls_and_not_the_looks() {
    let mut sim = Sim::calling_with(|order| order.limits.give_up_after = mins(10));
    let retry_after = Some(hours(1));
    sim.end_says(EndAnswer::Throttled { why: "too many".to_owned(), retry_after, unavailable: false });
    let mut looks = 0;
    while !sim.job.is_done() {
        sim.next_look_or_end(live("a"));
        looks += 1;
    }
    sim.expect_calls(1);
    assert!(looks >= 10, "{looks}");
    assert!(sim.job.overdue);
    sim.expect_outcome(Outcome::Failed);
    assert!(sim.job.reason.contains("too many"), "{}", sim.job.reason);
}

#[test]
fn a_server_that_was_overloaded_is_tried_again_after_a_minute_whatever_it_asked_for() {
    let mut sim = Sim::calling();
    let retry_after = Some(hours(24));
    sim.end_says(EndAnswer::Throttled { why: "HTTP 503".to_owned(), retry_after, unavailable: true });
    sim.is_seen_until_it_may_call("a");
    assert!((-62_000..=-59_000).contains(&sim.due_in()), "{}", sim.due_in());
}

#[test]
fn a_dead_server_past_due_is_overdue_and_the_reason_names_the_failure() {
    let mut sim = Sim::arming();
    while sim.due_in() > -310_000 {
        sim.next_look_says(unreachable());
    }
    assert!(sim.job.overdue);
    assert!(sim.job.sentence().contains("connection refused"), "{}", sim.job.sentence());
}

#[test]
fn a_configuration_fault_outlasts_give_up_after() {
    let mut sim = Sim::arming_with(|order| order.limits.give_up_after = mins(10));
    while sim.due_in() > -1_800_000 {
        sim.next_look_says(misconfigured());
    }
    assert_eq!((sim.job.state, sim.job.alarm.is_some()), (State::Ending, true));
}

fn carried() -> Sim {
    let mut sim = Sim::firing();
    sim.queued = 0;
    sim.event(Event::Slot { site: sim.site.clone(), carrier: Some(JobId(uuid::Uuid::from_u128(99))) });
    sim
}

#[test]
fn a_reboot_does_not_keep_a_carried_job_from_calling() {
    let mut sim = carried();
    sim.reboot(secs(5));
    sim.is_seen_until_it_may_call("a");
    assert!(sim.due_in() >= -60_000, "{}", sim.due_in());
}

#[test]
fn a_carried_job_can_be_moved_and_held_and_forgets_the_other_call() {
    for change in [Change::Extend { by: mins(30) }, Change::Hold { until: None }] {
        let mut sim = carried();
        sim.change(change);
        assert!(matches!(sim.job.state, State::Waiting | State::Held), "{}", sim.job.state);
        assert_eq!((sim.job.carried_by, sim.job.outcome), (None, None));
    }
}

#[test]
fn a_carried_job_waits_until_the_platform_has_settled_after_the_other_call() {
    let mut sim = Sim::firing();
    sim.site.settle = secs(12);
    sim.queued = 0;
    sim.event(Event::Slot { site: sim.site.clone(), carrier: Some(JobId(uuid::Uuid::from_u128(99))) });
    let carried = sim.now;
    while !sim.job.is_done() {
        sim.next_look_says(gone());
    }
    assert!(sim.now.since(carried) >= secs(12), "{:?}", sim.now.since(carried));
}

#[test]
fn what_was_seen_at_another_address_lets_no_call_go_to_this_one() {
    let mut sim = meeting_aimed(|_| {});
    sim.advance(ms(6_750));
    sim.look_says(live("a"));
    sim.site.fingerprint = "https://other.example.org".to_owned();
    sim.advance_to_due();
    sim.slot();
    sim.expect_calls(0);
    sim.expect_look(Purpose::Last);
}

#[test]
fn a_listing_that_may_be_old_lets_no_call_go_also_when_it_was_asked_for_the_call() {
    let mut sim = Sim::arming();
    sim.site = site(Aim::Meeting);
    sim.site.shares_last_look = false;
    sim.look_says(unreachable());
    while sim.due_in() > 0 {
        sim.advance(secs(1));
        if sim.asked.is_some() {
            sim.look_says(unreachable());
        }
    }
    // The old listing still shows the run that has just ended.
    sim.next_look_says(live("a"));
    sim.slot();
    sim.expect_look(Purpose::Last);
    sim.expect_calls(0);
    sim.look_says(replaced(started("b", sim.job.due + secs(1))));
    sim.expect_calls(0);
}

#[test]
fn what_a_front_shows_no_more_when_the_next_class_is_there_has_vanished_if_nothing_of_ours_left() {
    let mut sim = meeting_aimed(|_| {});
    sim.advance(ms(6_750));
    let next = Verdict::Replaced { by: started("b", sim.now.wall - ms(500)), counts: false };
    sim.look_says(next.clone());
    while !sim.job.is_done() {
        sim.next_look_or_end(next.clone());
    }
    sim.expect_outcome(Outcome::Vanished);
    sim.expect_calls(0);
    assert_eq!(sim.job.left_alone.as_ref().map(|left| left.instance.as_str()), Some("b"));
}

/// Two seconds count from the question, half a second from the answer, and the time until the claim is durable is part of
/// both.
#[test]
fn a_last_look_is_good_for_two_seconds_from_its_question_less_the_time_to_the_sending() {
    for (waited, good) in [(1_000, true), (1_001, false)] {
        let mut sim = meeting_aimed(|_| {});
        sim.advance(ms(6_750));
        sim.advance(ms(750));
        sim.look_says(live("a"));
        sim.expect_queued();
        sim.advance(ms(waited));
        sim.slot();
        assert_eq!(sim.sent.len(), usize::from(good), "{waited}");
    }
}

#[test]
fn a_slow_last_look_is_good_for_half_a_second_from_its_answer_less_the_same() {
    for (waited, good) in [(250, true), (251, false)] {
        let mut sim = meeting_aimed(|_| {});
        sim.advance(ms(6_750));
        sim.advance(secs(5));
        sim.look_says(live("a"));
        sim.advance(ms(waited));
        sim.slot();
        assert_eq!(sim.sent.len(), usize::from(good), "{waited}");
    }
}

#[test]
fn a_slow_server_is_asked_a_second_and_three_quarters_before_due_and_no_earlier() {
    let mut sim = meeting_aimed(|sim| sim.site.answer_time = secs(3));
    sim.advance(ms(7_000 - 1_751));
    sim.expect_no_look();
    sim.advance(ms(1));
    sim.expect_look(Purpose::BeforeEnd);
}

/// The question about this meeting may have been asked well after the round began.
#[test]
fn a_look_is_as_old_as_the_question_that_showed_it() {
    let mut sim = meeting_aimed(|_| {});
    sim.advance(ms(6_750));
    sim.advance(ms(1_500));
    let asked = sim.now;
    sim.advance(ms(100));
    sim.look_says(Verdict::Live(Instance { asked_at: Some(asked), ..instance("a") }));
    sim.advance(ms(600));
    sim.slot();
    sim.expect_called("a");
    assert_eq!(sim.job.look_age_ms, Some(700));
}

/// A turn of its own is for what would be called at; what was not shown is asked about together with the listing.
#[test]
fn what_the_last_look_did_not_show_is_looked_for_with_others() {
    let mut sim = meeting_aimed(|sim| sim.site.shares_last_look = false);
    sim.advance(ms(6_750));
    sim.slot();
    sim.look_says(gone());
    sim.advance_to_due();
    sim.expect_not_queued();
    sim.expect_look(Purpose::BeforeEnd);
}

/// A meeting-aimed call that left so long after another instance had been seen.
fn called_beside(counts: bool, pause: std::time::Duration) -> Sim {
    let mut sim = meeting_aimed(|_| {});
    sim.advance(ms(6_750));
    sim.look_says(doubtful());
    sim.advance_to_due();
    sim.next_look_says(Verdict::Replaced { by: started("b", sim.job.due - secs(1)), counts });
    let seen = sim.now;
    while sim.now.since(seen) < pause {
        sim.next_look_says(doubtful());
    }
    sim.is_seen_until_it_may_call("a");
    sim.turn(live("a"));
    sim.expect_called("a");
    sim.end_says(EndAnswer::Accepted);
    sim
}

fn hit(sim: &Sim) -> Vec<&str> {
    sim.job.may_have_hit.iter().map(InstanceId::as_str).collect()
}

#[test]
fn what_was_seen_shortly_before_a_call_at_the_meeting_and_is_gone_may_have_been_hit() {
    for (pause, expected) in [(secs(10), &["b"][..]), (secs(70), &[])] {
        let mut sim = called_beside(true, pause);
        sim.next_look_says(gone());
        sim.next_look_says(gone());
        sim.expect_outcome(Outcome::Ended);
        assert_eq!(hit(&sim), expected, "{pause:?}");
    }
}

/// It was to be left alone, and said to be; then a call left that may have meant it.
#[test]
fn what_was_left_alone_before_a_call_at_the_meeting_may_have_been_hit_too() {
    let mut sim = called_beside(false, secs(1));
    assert!(sim.job.left_alone.is_some());
    sim.next_look_says(gone());
    sim.next_look_says(gone());
    assert_eq!(hit(&sim), ["b"]);
}

#[test]
fn what_is_still_shown_was_not_hit() {
    let mut sim = called_beside(true, secs(1));
    let next = started("b", sim.job.due - secs(1));
    sim.next_look_says(replaced(next.clone()));
    sim.next_look_says(replaced(next));
    sim.expect_outcome(Outcome::Ended);
    assert_eq!((hit(&sim), sim.job.left_alone.is_some()), (vec![], true));
}

#[test]
fn the_next_class_that_was_left_alone_has_not_been_reopened() {
    let mut sim = Sim::confirming();
    let next = started("b", sim.job.due + secs(1));
    sim.next_look_says(replaced(next.clone()));
    sim.next_look_says(replaced(next.clone()));
    sim.expect_outcome(Outcome::Ended);
    sim.wait_for_look();
    sim.expect_look(Purpose::After);
    sim.look_says(replaced(next));
    assert_eq!((sim.facts("reopened"), sim.job.reopened_at), (0, None));
}

/// The other job's call is told with each look: its acceptance starts the platform's time, too.
#[test]
fn proof_waits_until_the_platform_has_settled_after_a_call_of_another_job() {
    let mut sim = Sim::arming();
    sim.site.settle = secs(12);
    sim.look_says(live("a"));
    sim.advance(secs(7) + ARM_GOOD + ms(1));
    sim.slot();
    let accepted = sim.now;
    while !sim.job.is_done() {
        sim.wait_for_look();
        let (purpose, sent) = sim.asked.take().expect("a look is under way");
        let mut knows = sim.knows();
        knows.called_by = Some((JobId(uuid::Uuid::from_u128(99)), accepted));
        sim.event(Event::Looked { purpose, sent, received: sim.now, verdict: gone(), knows });
    }
    sim.expect_outcome(Outcome::Ended);
    assert!(sim.now.since(accepted) >= secs(12), "{:?}", sim.now.since(accepted));
}

/// Its call never left: nothing of it may have had an effect.
#[test]
fn a_carried_job_has_no_claim() {
    let mut sim = carried();
    assert_eq!(sim.job.claimed, None);
    sim.crash(secs(1));
    assert_eq!((sim.facts("answer-lost"), sim.job.ended_by_us), (0, false));
}
