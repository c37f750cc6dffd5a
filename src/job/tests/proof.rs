//! After the call: looks, what they prove, re-sends, and when to stop.

use super::super::watching::HOPELESS_FOR;
use super::super::*;
use super::sim::*;

#[test]
fn looks_follow_the_answer_at_the_documented_offsets() {
    let mut sim = Sim::confirming_with(|order| order.limits.resend_after = hours(10));
    let answered = sim.now;
    let mut offsets = Vec::new();
    for _ in 0..6 {
        sim.wait_for_look();
        offsets.push(sim.now.since(answered).as_secs());
        sim.look_says(live("a"));
    }
    assert_eq!(offsets, [1, 3, 7, 12, 17, 22]);
}

#[test]
fn two_sightings_of_absence_two_seconds_apart_are_proof() {
    let mut sim = Sim::confirming();
    sim.advance(secs(1));
    sim.advance(ms(40));
    sim.look_says(gone());
    sim.expect_state(State::Confirming);
    sim.advance(ms(1_999));
    sim.expect_no_look();
    sim.advance(ms(1));
    sim.look_says(gone());
    sim.expect_outcome(Outcome::Ended);
}

#[test]
fn one_sighting_is_enough_where_the_platform_says_so() {
    let mut sim = Sim::confirming();
    sim.next_look_says(Verdict::Gone { needed: 1 });
    sim.expect_outcome(Outcome::Ended);
}

#[test]
fn a_live_or_occupied_sighting_starts_the_count_anew() {
    for verdict in [live("a"), Verdict::Occupied] {
        let mut sim = Sim::confirming();
        sim.next_look_says(gone());
        sim.next_look_says(verdict);
        sim.next_look_says(gone());
        sim.expect_state(State::Confirming);
        sim.next_look_says(gone());
        sim.expect_outcome(Outcome::Ended);
    }
}

#[test]
fn unreachable_and_doubtful_neither_count_nor_start_anew() {
    for verdict in [unreachable(), doubtful(), misconfigured()] {
        let mut sim = Sim::confirming();
        sim.next_look_says(gone());
        sim.next_look_says(verdict.clone());
        sim.expect_state(State::Confirming);
        sim.next_look_says(verdict);
        sim.expect_state(State::Confirming);
        sim.next_look_says(gone());
        sim.expect_outcome(Outcome::Ended);
    }
}

#[test]
fn a_sighting_asked_before_the_answer_does_not_count() {
    let mut sim = Sim::calling();
    let asked = sim.now;
    sim.advance(ms(10));
    sim.end_says(EndAnswer::Accepted);
    sim.advance(secs(1));
    sim.asked = Some((Purpose::Confirm, asked));
    sim.look_says(gone());
    sim.next_look_says(gone());
    sim.expect_state(State::Confirming);
    sim.next_look_says(gone());
    sim.expect_outcome(Outcome::Ended);
}

#[test]
fn a_sighting_asked_before_due_does_not_count() {
    let mut sim = Sim::arming();
    sim.advance(secs(8));
    sim.look_says(gone());
    sim.next_look_says(gone());
    sim.expect_state(State::Ending);
    sim.next_look_says(gone());
    sim.expect_outcome(Outcome::Absent);
}

#[test]
fn a_lost_answer_and_proof_of_absence_is_ended() {
    let mut sim = Sim::calling();
    sim.end_says(no_answer(true));
    sim.next_look_says(gone());
    sim.next_look_says(gone());
    sim.expect_outcome(Outcome::Ended);
    assert!(sim.job.reason.contains("lost"), "{}", sim.job.reason);
}

#[test]
fn a_call_that_never_left_cannot_have_ended_it() {
    let mut sim = Sim::calling();
    sim.end_says(no_answer(false));
    sim.next_look_says(gone());
    sim.next_look_says(gone());
    sim.expect_outcome(Outcome::AlreadyOver);
}

#[test]
fn an_accepted_end_that_had_no_effect_is_sent_again_after_fifteen_seconds() {
    let mut sim = Sim::confirming();
    for _ in 0..4 {
        sim.next_look_says(live("a"));
        sim.expect_calls(1);
    }
    sim.advance(ms(2_999));
    sim.expect_no_look();
    sim.next_look_says(live("a"));
    assert_eq!(sim.due_in(), -15_000);
    sim.expect_fact("still-there");
    sim.turn(live("a"));
    sim.expect_called("a");
    assert!(sim.sent[1].resend);
    sim.end_says(EndAnswer::Accepted);
    sim.expect_state(State::Confirming);
}

#[test]
fn tries_that_were_refused_do_not_put_the_first_re_send_off() {
    let mut sim = Sim::calling();
    for _ in 0..3 {
        sim.end_says(refused(false));
        sim.is_seen_until_it_may_call("a");
        sim.turn(live("a"));
    }
    sim.end_says(EndAnswer::Accepted);
    let accepted = sim.now;
    sim.is_seen_until_it_may_call("a");
    assert_eq!(sim.now.since(accepted), secs(15));
}

#[test]
fn re_sends_come_further_apart_up_to_five_minutes() {
    let mut sim = Sim::confirming();
    let mut pauses = Vec::new();
    for _ in 0..7 {
        let answered = sim.now;
        sim.is_seen_until_it_may_call("a");
        pauses.push(sim.now.since(answered).as_secs());
        sim.turn(live("a"));
        sim.end_says(EndAnswer::Accepted);
    }
    assert_eq!(pauses, [15, 30, 60, 120, 240, 300, 300]);
}

#[test]
fn it_is_not_sent_again_while_nobody_has_seen_it_alive() {
    let mut sim = Sim::confirming();
    while sim.due_in() > -1_800_000 {
        sim.next_look_says(doubtful());
    }
    sim.expect_calls(1);
}

#[test]
fn still_alive_a_minute_after_acceptance_is_said_once() {
    let mut sim = Sim::confirming_with(|order| order.limits.resend_after = hours(1));
    while sim.due_in() > -180_000 {
        sim.next_look_says(live("a"));
    }
    assert_eq!((sim.facts("stubborn"), sim.job.stubborn), (1, true));
    assert!(sim.job.sentence().contains("still alive"));
}

#[test]
fn still_alive_five_minutes_past_due_is_overdue() {
    let mut sim = Sim::confirming_with(|order| order.limits.resend_after = hours(1));
    while sim.due_in() > -299_000 {
        sim.next_look_says(live("a"));
        assert!(!sim.job.overdue || sim.due_in() <= -300_000, "overdue at {}", sim.due_in());
    }
    sim.advance(secs(1));
    assert_eq!((sim.facts("overdue"), sim.job.overdue), (1, true));
    sim.advance(mins(10));
    assert_eq!(sim.facts("overdue"), 1);
}

#[test]
fn overdue_counts_from_due_also_when_the_job_was_found_late() {
    let mut sim = Sim::submit_in(secs(60));
    sim.stall(secs(60) + hours(1));
    sim.tick();
    sim.look_says(live("a"));
    sim.expect_fact("overdue");
}

#[test]
fn a_meeting_of_which_nobody_knows_is_overdue_once() {
    let mut sim = Sim::confirming();
    while sim.due_in() > -400_000 {
        sim.next_look_says(unreachable());
    }
    assert!(sim.job.overdue && sim.facts("overdue") == 1);
}

#[test]
fn unproven_for_an_hour_after_acceptance_is_unconfirmed() {
    let mut sim = Sim::confirming();
    while !sim.job.is_done() {
        sim.next_look_or_end(doubtful());
    }
    sim.expect_outcome(Outcome::Unconfirmed);
    assert!((-3_900_000..=-3_600_000).contains(&sim.due_in()), "{}", sim.due_in());
    assert!(sim.job.reason.contains("the listing is cut off"), "{}", sim.job.reason);
}

#[test]
fn the_hour_ends_on_time_even_if_no_look_is_due_then() {
    let mut sim = Sim::confirming_with(|order| order.limits.prove_within = secs(20));
    sim.next_look_says(unreachable());
    while sim.asked.is_none() && !sim.job.is_done() {
        sim.advance(ms(100));
    }
    sim.look_says(doubtful());
    sim.advance(secs(20));
    let _ = sim.asked.take();
    sim.expect_outcome(Outcome::Unconfirmed);
}

#[test]
fn a_lost_answer_that_nothing_explains_is_unconfirmed_within_the_hour() {
    let mut sim = Sim::calling();
    sim.end_says(no_answer(true));
    while !sim.job.is_done() {
        sim.next_look_or_end(doubtful());
    }
    sim.expect_outcome(Outcome::Unconfirmed);
    assert!(sim.job.reason.contains("lost"), "{}", sim.job.reason);
}

#[test]
fn a_stubborn_meeting_that_is_gone_after_two_hours_is_ended_not_unconfirmed() {
    let mut sim = Sim::confirming();
    while sim.due_in() > -7_200_000 {
        match (sim.queued, sim.in_flight.len()) {
            (0, 0) => sim.next_look_says(live("a")),
            (0, _) => sim.end_says(EndAnswer::Accepted),
            _ => sim.slot(),
        }
    }
    while sim.job.state != State::Confirming {
        match sim.queued {
            0 => sim.end_says(EndAnswer::Accepted),
            _ => sim.slot(),
        }
    }
    sim.next_look_says(unreachable());
    sim.expect_state(State::Confirming);
    sim.next_look_says(gone());
    sim.expect_state(State::Confirming);
    sim.next_look_says(gone());
    sim.expect_outcome(Outcome::Ended);
}

#[test]
fn a_first_sighting_of_absence_past_the_hour_gets_its_second() {
    let mut sim = Sim::confirming();
    sim.wait_for_look();
    sim.advance(hours(2));
    assert!(!sim.job.is_done());
    sim.look_says(unreachable());
    sim.expect_outcome(Outcome::Unconfirmed);

    let mut sim = Sim::confirming();
    sim.wait_for_look();
    sim.advance(hours(2));
    let (purpose, _) = sim.asked.take().expect("a look");
    sim.asked = Some((purpose, sim.now));
    sim.look_says(gone());
    sim.expect_state(State::Confirming);
    sim.next_look_says(gone());
    sim.expect_outcome(Outcome::Ended);
}

#[test]
fn what_can_never_be_proven_is_unconfirmed_when_it_has_been_so_for_a_minute() {
    let mut sim = Sim::confirming();
    let accepted = sim.now;
    let hopeless = || Verdict::Hopeless { why: "the server lost its state".to_owned() };
    while !sim.job.is_done() {
        sim.next_look_says(hopeless());
    }
    let took = sim.now.since(accepted);
    assert!(took >= HOPELESS_FOR && took < HOPELESS_FOR + secs(30), "{took:?}");
    sim.expect_outcome(Outcome::Unconfirmed);
    assert!(sim.job.reason.contains("lost its state"));
}

#[test]
fn looks_at_an_unreachable_platform_back_off_to_a_minute() {
    let mut sim = Sim::confirming();
    let mut pauses = Vec::new();
    for _ in 0..12 {
        let before = sim.now;
        sim.next_look_says(unreachable());
        pauses.push(sim.now.since(before).as_millis());
    }
    assert!(pauses[1] <= 500 && pauses.iter().all(|pause| *pause <= 60_000), "{pauses:?}");
    assert!(pauses[11] >= 45_000, "{pauses:?}");
}

#[test]
fn a_configuration_fault_while_confirming_is_probed_every_minute() {
    let mut sim = Sim::confirming();
    sim.next_look_says(misconfigured());
    let before = sim.now;
    sim.wait_for_look();
    assert_eq!(sim.now.since(before), mins(1));
    sim.look_says(gone());
    sim.expect_fact("alarm-over");
    sim.next_look_says(gone());
    sim.expect_outcome(Outcome::Ended);
}

#[test]
fn a_meeting_that_was_expected_live_and_is_absent_is_an_alarm() {
    let mut sim = Sim::submit_with(secs(60), |order| order.limits.expect = Expect::Live);
    sim.next_look_says(gone());
    sim.next_look_says(gone());
    sim.next_look_says(gone());
    sim.expect_outcome(Outcome::Absent);
    sim.expect_fact("expected-live");
}

#[test]
fn a_second_sighting_that_does_not_count_is_not_asked_for_again_at_once() {
    let next_class = started("b", START.wall + mins(2));
    for unsure in [doubtful(), Verdict::Replaced { by: next_class, counts: false }] {
        let mut sim = Sim::confirming();
        sim.next_look_says(gone());
        sim.next_look_says(unsure.clone());
        let began = sim.now;
        let mut looks = 0;
        while sim.now.since(began) < mins(10) && !sim.job.is_done() {
            sim.next_look_or_end(unsure.clone());
            looks += 1;
        }
        assert!(looks < 30, "{looks} looks in ten minutes after {unsure:?}");
    }
}

// What a front's silence is worth.

fn vanished(believed: bool) -> Verdict {
    Verdict::Vanished { why: "the load balancer does not list it".to_owned(), believed }
}

/// The same answer until the job is done; how long that took after the first.
fn always(sim: &mut Sim, verdict: &Verdict) -> std::time::Duration {
    sim.next_look_or_end(verdict.clone());
    let first = sim.now;
    while !sim.job.is_done() {
        sim.next_look_or_end(verdict.clone());
    }
    sim.now.since(first)
}

#[test]
fn silence_of_a_front_without_a_call_of_ours_is_vanished_and_tells_who_was_inside() {
    let mut sim = Sim::arming();
    sim.look_says(live("a"));
    sim.now.wall = sim.now.wall + secs(0);
    sim.advance(secs(7));
    sim.slot();
    sim.end_says(maybe_gone());
    let took = always(&mut sim, &vanished(false));
    assert!(took >= HOPELESS_FOR, "{took:?}");
    sim.expect_outcome(Outcome::Vanished);
    assert!(sim.job.reason.starts_with("3 people 7s before due"), "{}", sim.job.reason);
}

#[test]
fn never_shown_is_vanished_too_and_an_alarm_where_it_was_expected() {
    let mut sim = Sim::arming_with(|order| order.limits.expect = Expect::Live);
    sim.look_says(vanished(false));
    always(&mut sim, &vanished(false));
    sim.expect_outcome(Outcome::Vanished);
    assert!(sim.job.reason.starts_with("never shown"), "{}", sim.job.reason);
    sim.expect_fact("expected-live");
}

#[test]
fn silence_after_a_call_that_may_have_had_an_effect_is_unconfirmed() {
    for answer in [no_answer(true), refused(false)] {
        let mut sim = Sim::calling();
        sim.end_says(answer);
        always(&mut sim, &vanished(false));
        sim.expect_outcome(Outcome::Unconfirmed);
    }
}

#[test]
fn a_believed_front_is_taken_at_its_word_and_the_reason_says_so() {
    let mut sim = Sim::arming();
    sim.look_says(live("a"));
    sim.advance(secs(7));
    sim.slot();
    sim.end_says(maybe_gone());
    always(&mut sim, &vanished(true));
    // A call that was answered as if it were gone was no failure, but it was not accepted either.
    sim.expect_outcome(Outcome::Vanished);

    let mut quiet = Sim::arming();
    quiet.look_says(live("a"));
    quiet.advance(secs(7));
    quiet.advance(secs(16));
    quiet.slot();
    let took = always(&mut quiet, &vanished(true));
    assert!(took >= HOPELESS_FOR, "{took:?}");
    quiet.expect_outcome(Outcome::AlreadyOver);
    assert!(quiet.job.reason.ends_with("on the load balancer's word"), "{}", quiet.job.reason);
}

#[test]
fn seen_again_within_the_minute_it_is_alive_and_is_ended() {
    let mut sim = Sim::calling();
    sim.end_says(maybe_gone());
    for _ in 0..4 {
        sim.next_look_says(vanished(false));
    }
    sim.next_look_says(live("a"));
    sim.is_seen_until_it_may_call("a");
    sim.turn(live("a"));
    sim.expect_calls(2);
}

#[test]
fn proof_waits_until_the_platform_has_settled() {
    let mut sim = Sim::arming();
    sim.site.settle = secs(12);
    sim.site.apart = secs(5);
    sim.look_says(live("a"));
    sim.advance(secs(7));
    sim.slot();
    sim.end_says(EndAnswer::Accepted);
    let accepted = sim.now;
    while !sim.job.is_done() {
        sim.next_look_says(gone());
    }
    assert!(sim.now.since(accepted) >= secs(17), "{:?}", sim.now.since(accepted));
    sim.expect_outcome(Outcome::Ended);
}

#[test]
fn what_vanished_and_is_shown_again_a_minute_later_gets_a_new_deadline_once() {
    let mut sim = Sim::arming();
    sim.look_says(live("a"));
    sim.advance(secs(7));
    sim.slot();
    sim.end_says(maybe_gone());
    always(&mut sim, &vanished(false));
    sim.expect_outcome(Outcome::Vanished);
    let done = sim.now;
    sim.wait_for_look();
    sim.expect_look(Purpose::After);
    assert_eq!(sim.now.since(done), mins(1));
    sim.look_says(live("a"));
    assert_eq!((sim.facts("came-back"), sim.again), (1, 1));
    sim.advance(hours(1));
    assert_eq!(sim.again, 1);
}

#[test]
fn another_class_a_minute_after_is_no_comeback() {
    let mut sim = Sim::calling();
    sim.end_says(no_answer(true));
    always(&mut sim, &vanished(false));
    sim.expect_outcome(Outcome::Unconfirmed);
    let at = sim.now.wall;
    sim.next_look_says(replaced(started("b", at)));
    assert_eq!((sim.facts("came-back"), sim.again, sim.job.reopened_at), (0, 0, None));
}

#[test]
fn a_believed_front_says_nothing_about_an_instance_that_was_never_proven_gone() {
    let mut sim = Sim::arming();
    sim.look_says(live("a"));
    sim.change(Change::Extend { by: secs(2) });
    sim.look_says(Verdict::Replaced { by: instance("b"), counts: false });
    sim.advance_to_due();
    sim.slot();
    sim.end_says(EndAnswer::Accepted);
    always(&mut sim, &vanished(true));
    sim.expect_outcome(Outcome::Unconfirmed);
}

#[test]
fn what_cannot_be_known_any_more_is_not_hidden_by_a_sighting_that_counted() {
    let mut sim = Sim::confirming();
    sim.next_look_says(gone());
    while !sim.job.is_done() {
        sim.next_look_or_end(doubtful());
    }
    sim.expect_outcome(Outcome::Unconfirmed);
    assert!((-3_900_000..=-3_600_000).contains(&sim.due_in()), "{}", sim.due_in());
}

#[test]
fn given_up_in_a_fronts_silence_after_a_lost_answer_it_is_unconfirmed() {
    let mut sim = Sim::calling_with(|order| order.limits.give_up_after = secs(30));
    sim.end_says(no_answer(true));
    always(&mut sim, &vanished(false));
    sim.expect_outcome(Outcome::Unconfirmed);
    assert!(sim.job.reason.starts_with("given up"), "{}", sim.job.reason);
}

#[test]
fn a_re_send_waits_until_the_platform_has_settled() {
    let mut sim = Sim::arming();
    sim.site.settle = secs(40);
    sim.look_says(live("a"));
    sim.advance(secs(7));
    sim.slot();
    sim.end_says(EndAnswer::Accepted);
    let accepted = sim.now;
    sim.is_seen_until_it_may_call("a");
    assert_eq!(sim.now.since(accepted), secs(40));
}

#[test]
fn the_minute_of_silence_begins_anew_with_a_sighting() {
    let mut sim = Sim::calling();
    sim.end_says(maybe_gone());
    let began = sim.now;
    while sim.now.since(began) < secs(40) {
        sim.next_look_says(vanished(false));
    }
    sim.is_seen_until_it_may_call("a");
    sim.turn(live("a"));
    sim.end_says(maybe_gone());
    let took = always(&mut sim, &vanished(false));
    assert!(took >= HOPELESS_FOR, "{took:?}");
}

#[test]
fn what_came_back_once_and_vanishes_again_is_a_matter_for_a_person() {
    let mut sim = Sim::arming_with(|order| {
        order.origin = Origin::Again { job: JobId(uuid::Uuid::from_u128(99)) };
    });
    sim.look_says(live("a"));
    sim.advance(secs(7));
    sim.slot();
    sim.end_says(maybe_gone());
    always(&mut sim, &vanished(false));
    sim.expect_outcome(Outcome::Vanished);
    sim.wait_for_look();
    sim.look_says(live("a"));
    assert_eq!((sim.facts("came-back"), sim.again), (0, 0));
}

#[test]
fn a_call_that_never_left_is_as_clean_as_none() {
    let mut sim = Sim::calling();
    sim.end_says(no_answer(false));
    assert!(!sim.job.calls.unclean);
}

/// What was shown was true when it was asked; what happened to the server since may have hidden it.
#[test]
fn last_seen_alive_is_when_that_was_asked_and_only_of_the_pinned_one() {
    let mut sim = Sim::confirming();
    sim.wait_for_look();
    let asked = sim.now;
    sim.stall(secs(2));
    sim.look_says(live("a"));
    let seen = |sim: &Sim| sim.job.pin.as_ref().map(|pin| pin.last_live);
    assert_eq!(seen(&sim), Some(asked));
    sim.next_look_says(Verdict::Live(started("b", sim.job.due + secs(1))));
    assert_eq!(seen(&sim), Some(asked));
}
