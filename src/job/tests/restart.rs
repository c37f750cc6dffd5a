//! After a crash: what is forgotten, what is known, and what an unanswered claim means.

use super::super::*;
use super::sim::*;

#[test]
fn a_claim_without_an_answer_means_that_the_call_may_have_gone_out() {
    let mut sim = Sim::arming();
    sim.look_says(live("a"));
    sim.advance(ms(6_900));
    sim.expect_fact("claimed");
    sim.crash(secs(3));
    sim.expect_fact("answer-lost");
    sim.expect_look(Purpose::BeforeEnd);
    sim.look_says(gone());
    sim.next_look_says(gone());
    sim.expect_outcome(Outcome::Ended);
}

#[test]
fn a_call_under_way_at_the_crash_is_not_repeated_blindly() {
    let mut sim = Sim::calling();
    sim.crash(secs(1));
    sim.expect_not_queued();
    sim.expect_look(Purpose::BeforeEnd);
    sim.look_says(live("a"));
    sim.slot();
    sim.expect_called("a");
    assert!(sim.sent[1].resend);
}

#[test]
fn a_claim_before_due_was_never_sent() {
    let mut sim = Sim::arming();
    sim.look_says(live("a"));
    sim.advance(ms(6_800));
    sim.crash(ms(100));
    assert_eq!((sim.job.claimed, sim.facts("answer-lost")), (None, 0));
    sim.advance(ms(99));
    sim.expect_state(State::Waiting);
    sim.change(Change::Extend { by: mins(1) });
}

#[test]
fn without_a_claim_the_meeting_ended_by_itself() {
    let mut sim = Sim::arming();
    sim.look_says(live("a"));
    sim.crash(mins(1));
    sim.expect_look(Purpose::BeforeEnd);
    sim.look_says(gone());
    sim.next_look_says(gone());
    sim.expect_outcome(Outcome::AlreadyOver);
}

#[test]
fn counts_of_sightings_are_forgotten() {
    let mut sim = Sim::confirming();
    sim.next_look_says(gone());
    sim.crash(secs(5));
    sim.look_says(gone());
    sim.expect_state(State::Confirming);
    sim.next_look_says(gone());
    sim.expect_outcome(Outcome::Ended);
}

#[test]
fn a_good_arm_is_forgotten() {
    let mut sim = Sim::arming();
    sim.look_says(live("a"));
    sim.crash(secs(1));
    sim.expect_look(Purpose::Arm);
    sim.look_says(live("a"));
    sim.advance(secs(6));
    sim.expect_queued();
}

#[test]
fn found_late_at_a_start_it_looks_first_or_is_missed() {
    let mut sim = Sim::submit_in(mins(1));
    sim.crash(mins(3));
    sim.expect_look(Purpose::BeforeEnd);
    let mut sim = Sim::submit_with(mins(1), |order| order.limits.late_limit = secs(0));
    sim.crash(secs(61));
    sim.expect_outcome(Outcome::Missed);
    assert!(sim.job.reason.contains("nothing was sent"));
}

#[test]
fn what_may_have_been_sent_is_followed_however_late() {
    let tight = |order: &mut Order| order.limits.late_limit = secs(10);
    for mut sim in [Sim::calling_with(tight), Sim::confirming_with(tight)] {
        sim.crash(hours(2));
        sim.look_says(live("a"));
        assert!(!sim.job.is_done());
    }
}

#[test]
fn found_late_and_then_delayed_by_the_platform_it_is_not_missed() {
    let mut sim = Sim::submit_with(mins(1), |order| order.limits.late_limit = mins(10));
    sim.crash(mins(9));
    while sim.due_in() > -1_200_000 {
        sim.next_look_says(unreachable());
    }
    sim.next_look_says(live("a"));
    sim.slot();
    sim.expect_called("a");
}

#[test]
fn proof_after_a_long_absence_of_the_daemon_is_still_proof() {
    let mut sim = Sim::confirming();
    sim.crash(hours(3));
    sim.look_says(gone());
    sim.expect_state(State::Confirming);
    sim.next_look_says(gone());
    sim.expect_outcome(Outcome::Ended);
}

#[test]
fn a_reboot_keeps_the_elapsed_time() {
    let mut sim = Sim::confirming();
    sim.reboot(mins(30));
    while !sim.job.is_done() {
        sim.next_look_or_end(doubtful());
    }
    sim.expect_outcome(Outcome::Unconfirmed);
    assert!((-3_900_000..=-3_600_000).contains(&sim.due_in()), "{}", sim.due_in());
}

#[test]
fn a_reboot_keeps_the_time_of_the_last_sighting_of_a_job_that_waits_or_is_held() {
    for held in [false, true] {
        let mut sim = Sim::arming();
        // What the look showed may be as old as its question.
        let asked = sim.asked.expect("a look is under way").1;
        sim.look_says(live("a"));
        sim.change(Change::Extend { by: secs(2) });
        let ago = sim.now.since(asked);
        if held {
            sim.change(Change::Hold { until: None });
        }
        sim.reboot(hours(1));
        let seen = sim.job.pin.as_ref().expect("pinned").last_live;
        assert_eq!(sim.now.since(seen), ago + hours(1));
    }
}

#[test]
fn the_last_look_after_the_end_survives_a_reboot() {
    let mut sim = Sim::confirming();
    sim.next_look_says(gone());
    sim.next_look_says(gone());
    sim.reboot(secs(20));
    sim.advance(secs(39));
    sim.expect_no_look();
    sim.advance(secs(1));
    sim.expect_look(Purpose::After);
}

#[test]
fn a_possible_call_is_remembered_when_the_pin_moves() {
    let mut sim = Sim::arming();
    sim.look_says(live("a"));
    sim.advance(ms(6_900));
    sim.crash(secs(3));
    sim.look_says(replaced(instance("b")));
    sim.next_look_says(replaced(instance("b")));
    assert_eq!(sim.pinned(), Some("b"));
    sim.expect_refused(Change::Extend { by: mins(5) }, "before a restart");
    sim.change(Change::Cancel);
    assert!(sim.job.reason.contains("may have been sent"), "{}", sim.job.reason);
}

#[test]
fn a_crash_while_guarding_invents_no_lost_answer() {
    let mut sim = Sim::firing_with(|order| order.limits.keep_closed = hours(1));
    sim.advance(secs(20));
    sim.slot();
    sim.look_says(gone());
    sim.next_look_says(gone());
    sim.expect_state(State::Guarding);
    sim.crash(secs(5));
    assert_eq!(sim.facts("answer-lost"), 0);
    sim.expect_look(Purpose::Guard);
}

#[test]
fn a_job_that_waits_quietly_is_loaded_without_a_trace() {
    let mut sim = Sim::submit_in(hours(2));
    let before = sim.job.clone();
    sim.crash(hours(1));
    assert_eq!(sim.job, before);
}

#[test]
fn a_limit_that_ran_out_meanwhile_waits_for_a_few_looks() {
    let mut sim = Sim::confirming();
    sim.crash(hours(2));
    sim.look_says(unreachable());
    sim.expect_state(State::Confirming);
    sim.next_look_says(gone());
    sim.next_look_says(gone());
    sim.expect_outcome(Outcome::Ended);

    let mut sim = Sim::confirming();
    sim.crash(hours(2));
    let back = sim.now;
    while !sim.job.is_done() {
        sim.next_look_or_end(unreachable());
    }
    sim.expect_outcome(Outcome::Unconfirmed);
    assert!(sim.now.since(back) >= mins(1) && sim.now.since(back) < mins(3), "{:?}", sim.now.since(back));
}

/// Only what was never begun can be missed.
#[test]
fn a_job_at_work_is_not_missed_however_late_it_is_found_again() {
    for left in [false, true] {
        let mut sim = Sim::calling_with(|order| order.limits.late_limit = std::time::Duration::ZERO);
        sim.end_says(no_answer(left));
        sim.crash(mins(1));
        assert_eq!((sim.job.outcome, sim.job.state), (None, State::Ending), "left: {left}");
    }
}

/// A lost answer stays lost over a restart: as unclean as one that never came, and as pressing.
#[test]
fn an_answer_lost_over_a_restart_is_unclean_and_starts_the_time_to_prove_in() {
    let mut sim = Sim::calling();
    sim.crash(secs(1));
    assert!(sim.job.calls.lost && sim.job.calls.unclean && sim.job.ended_by_us);
    while !sim.job.is_done() {
        sim.next_look_or_end(doubtful());
    }
    sim.expect_outcome(Outcome::Unconfirmed);
    assert!((-3_900_000..=-3_600_000).contains(&sim.due_in()), "{}", sim.due_in());
    assert!(sim.job.reason.contains("lost"), "{}", sim.job.reason);
}

/// What is decided about a job before it does anything knows that a call may have gone out.
#[test]
fn a_claimed_job_is_at_work_as_soon_as_it_is_recovered() {
    let mut sim = Sim::arming();
    sim.look_says(live("a"));
    sim.advance(ms(6_900));
    sim.stall(secs(5));
    let found = recovered(sim.job.clone(), sim.now);
    assert_eq!((found.state, found.unsent()), (State::Ending, false));
}

/// By that clock due may have come, and the call with it.
#[test]
fn a_claim_that_lies_ahead_of_the_clock_is_not_forgotten() {
    let mut sim = Sim::arming();
    sim.look_says(live("a"));
    sim.advance(ms(6_800));
    sim.now.wall = sim.now.wall - hours(1);
    sim.crash(secs(3));
    sim.expect_fact("answer-lost");
}

/// Every boottime that a job keeps is as long ago by the new one as by the clock.
#[track_caller]
fn expect_rebased(sim: &Sim) {
    let job = &sim.job;
    let stamps = [
        ("began", job.began),
        ("carried", job.carried_at),
        ("proven", job.proven),
        ("concluded", job.concluded),
        ("last live", job.pin.as_ref().map(|pin| pin.last_live)),
        ("guard", job.guard.as_ref().map(|guard| guard.began)),
        ("sighted", job.sighted.first().map(|seen| seen.last)),
        ("last sent", job.calls.last_sent),
        ("last answered", job.calls.last_answered),
        ("accepted", job.calls.accepted),
        ("last accepted", job.calls.last_accepted),
    ];
    for (name, at) in stamps {
        let Some(at) = at else { continue };
        assert_eq!(sim.now.boot.0 - at.boot.0, sim.now.wall.ms_since(at.wall), "{name}");
    }
}

#[test]
fn a_reboot_makes_no_stamp_meaningless() {
    let mut confirming = Sim::calling();
    confirming.end_says(EndAnswer::Accepted);
    while confirming.sent.len() < 2 {
        confirming.next_look_says(live("a"));
        if confirming.queued > 0 {
            confirming.turn(live("a"));
        }
    }
    confirming.end_says(EndAnswer::Accepted);
    assert_ne!(confirming.job.calls.last_accepted, confirming.job.calls.accepted);
    let mut guarding = Sim::confirming_with(|order| order.limits.keep_closed = hours(1));
    guarding.next_look_says(gone());
    guarding.next_look_says(gone());
    guarding.expect_state(State::Guarding);
    let mut unsure = Sim::calling();
    unsure.end_says(no_answer(true));
    while !unsure.job.is_done() {
        unsure.next_look_or_end(Verdict::Hopeless { why: "it lost its state".to_owned() });
    }
    assert!(unsure.job.after_look);
    let mut sighted = Sim::arming();
    sighted.look_says(live("a"));
    sighted.change(Change::Extend { by: hours(1) });
    assert!(sighted.job.pin.is_none() && sighted.job.sighted.len() == 1);
    for mut sim in [confirming, guarding, unsure, sighted] {
        sim.reboot(secs(20));
        expect_rebased(&sim);
    }
}

#[test]
fn a_reboot_puts_overdue_off_by_nothing() {
    let mut sim = Sim::calling();
    sim.reboot(secs(5));
    while !sim.job.overdue {
        assert!(sim.due_in() > -400_000, "{}", sim.due_in());
        sim.next_look_says(doubtful());
    }
}
