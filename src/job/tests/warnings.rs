//! Telling the people inside: when, how often, and never at the cost of the end.

use std::time::Duration;

use super::super::*;
use super::sim::*;

fn marks(marks: &[Duration]) -> impl FnOnce(&mut Order) {
    let marks = marks.to_vec();
    |order| order.limits.warn = marks
}

/// Due in half an hour, with marks 10 m and 1 m.
fn waiting() -> Sim {
    Sim::submit_with(mins(30), marks(&[mins(10), mins(1)]))
}

fn delivered() -> Warned {
    Warned::Delivered { instance: Some("a".into()), also: 2 }
}

fn failed(sent: bool) -> Warned {
    Warned::Failed { why: "no answer".to_owned(), sent }
}

/// The warnings that left: so long before due, for this mark.
#[track_caller]
fn expect_warnings(sim: &Sim, expected: &[(Duration, Duration)]) {
    assert_eq!(sim.warnings, expected);
}

/// What was said of them: delivered or not.
fn said(sim: &Sim) -> Vec<bool> {
    let entries = sim.job.history.recent.iter();
    let said = entries.filter_map(|entry| match &entry.fact {
        Fact::WarningDue { delivered, .. } => Some(*delivered),
        _ => None,
    });
    said.collect()
}

/// Time passes; the lane has room at once, and every warning is answered so.
#[track_caller]
fn warn_for(sim: &mut Sim, by: Duration, answer: &Warned) {
    let mut left = by;
    loop {
        let wait = sim.to_wake().and_then(|wait| u64::try_from(wait).ok()).map_or(left, ms).min(left);
        sim.advance(wait);
        left -= wait;
        if sim.warning_queued {
            sim.warning_slot();
        }
        if sim.warning.is_some() {
            sim.warning_says(answer.clone());
        } else if left.is_zero() {
            return;
        }
    }
}

#[test]
fn every_mark_is_told_once_at_its_time() {
    let mut sim = waiting();
    let revision = sim.job.revision;
    assert_eq!(sim.to_wake(), Some(20 * 60_000));
    warn_for(&mut sim, mins(29) + secs(50), &delivered());
    expect_warnings(&sim, &[(mins(10), mins(10)), (mins(1), mins(1))]);
    assert_eq!((said(&sim), sim.facts("warning-claimed")), (vec![true, true], 2));
    assert_eq!(sim.job.revision, revision);
}

#[test]
fn without_marks_nobody_is_told() {
    let mut sim = Sim::submit_in(mins(30));
    sim.advance(mins(29));
    assert!(!sim.warning_queued);
    assert_eq!(sim.job.next_warning_at(sim.now.wall), None);
}

#[test]
fn of_several_marks_that_have_passed_only_the_shortest_counts() {
    let mut sim = Sim::submit_with(mins(4), marks(&[mins(10), mins(5), mins(1)]));
    sim.warning_slot();
    expect_warnings(&sim, &[(mins(4), mins(5))]);
    sim.warning_says(delivered());
    warn_for(&mut sim, mins(4) - secs(11), &delivered());
    expect_warnings(&sim, &[(mins(4), mins(5)), (mins(1), mins(1))]);
}

#[test]
fn the_mark_that_counts_is_the_one_when_the_lane_has_room() {
    let mut sim = waiting();
    sim.advance(mins(20));
    assert!(sim.warning_queued);
    sim.advance(mins(9) + secs(10));
    sim.warning_slot();
    expect_warnings(&sim, &[(secs(50), mins(1))]);
}

#[test]
fn ten_seconds_before_due_it_is_too_late() {
    for (to_due, told) in [(ms(10_001), 1), (secs(10), 0)] {
        let mut sim = Sim::submit_with(mins(5), marks(&[mins(1)]));
        sim.advance(mins(4));
        sim.advance(mins(1) - to_due);
        sim.warning_slot();
        assert_eq!(sim.warnings.len(), told, "{to_due:?}");
    }
    let sim = Sim::submit_with(secs(9), marks(&[mins(1)]));
    assert!(!sim.warning_queued);
}

/// What was said of the last warning.
fn last_word(sim: &Sim) -> String {
    let facts = sim.job.history.recent.iter().map(|entry| &entry.fact);
    let last = facts.rev().find(|fact| matches!(fact, Fact::WarningDue { .. }));
    last.map_or_else(String::new, Fact::to_string)
}

#[test]
fn what_finds_no_room_in_time_is_said_to_be_undelivered_once() {
    let mut sim = Sim::submit_with(mins(5), marks(&[mins(3), mins(1)]));
    sim.advance(mins(4));
    sim.advance(secs(50));
    sim.advance(secs(2));
    assert_eq!((said(&sim), sim.warning_queued), (vec![false], true));
    assert!(
        last_word(&sim).contains("(mark 1m) not delivered: there was no room or time"),
        "{}",
        last_word(&sim)
    );
    sim.warning_slot();
    sim.advance(secs(7));
    assert_eq!((said(&sim), sim.warnings.len()), (vec![false], 0));
    let mut sim = Sim::submit_with(mins(5), marks(&[mins(1)]));
    sim.advance(mins(4));
    sim.now = Now { wall: sim.job.due - secs(5), ..sim.now };
    sim.warning_slot();
    assert_eq!(said(&sim), [false]);
}

#[test]
fn who_comes_within_the_last_seconds_hears_that_nobody_was_told() {
    assert_eq!(said(&Sim::submit_with(secs(9), marks(&[mins(10), mins(1)]))), [false]);
    assert!(said(&Sim::submit_in(secs(9))).is_empty());
    let mut sim = waiting();
    sim.change(Change::Hold { until: None });
    sim.advance(mins(30) - secs(5));
    assert!(said(&sim).is_empty());
    sim.change(Change::Release { due: None });
    assert_eq!(said(&sim), [false]);
    let mut sim = waiting();
    sim.crash(mins(30) - secs(5));
    assert_eq!(said(&sim), [false]);
    sim.crash(secs(1));
    assert_eq!(said(&sim), [false], "once");
}

#[test]
fn what_was_said_before_is_not_said_again_at_the_end() {
    for answer in [delivered(), Warned::NotThere] {
        let mut sim = Sim::submit_with(mins(5), marks(&[secs(30)]));
        warn_for(&mut sim, mins(5) - secs(1), &answer);
        assert_eq!(said(&sim).len(), 1, "{answer:?}");
    }
}

#[test]
fn what_was_called_off_is_no_news_and_settles_nothing() {
    let called_off =
        || Warned::Failed { why: "the deadline was changed before it left".to_owned(), sent: false };
    let mut sim = waiting();
    sim.advance(mins(20));
    sim.warning_slot();
    sim.change(Change::Hold { until: None });
    sim.warning_says(called_off());
    assert_eq!((said(&sim), sim.facts("warning-put-off")), (vec![], 1));
    sim.change(Change::Release { due: None });
    sim.warning_slot();
    sim.change(Change::Extend { by: mins(1) });
    sim.warning_says(called_off());
    assert_eq!((said(&sim), sim.facts("warning-put-off")), (vec![], 2));
    warn_for(&mut sim, mins(2), &delivered());
    assert_eq!(said(&sim), [true]);
    let mut sim = waiting();
    sim.advance(mins(20));
    sim.warning_slot();
    sim.change(Change::Cancel);
    sim.warning_says(called_off());
    assert_eq!((said(&sim), sim.facts("warning-put-off")), (vec![], 1));
}

#[test]
fn an_extension_arms_all_marks_again() {
    let mut sim = waiting();
    warn_for(&mut sim, mins(29) + secs(30), &delivered());
    sim.change(Change::Extend { by: mins(20) });
    assert_eq!(sim.job.next_warning_at(sim.now.wall), Some(sim.job.due - mins(10)));
    warn_for(&mut sim, mins(20), &delivered());
    expect_warnings(&sim, &[mins(10), mins(1), mins(10), mins(1)].map(|mark| (mark, mark)));
}

#[test]
fn a_move_to_the_same_time_arms_nothing() {
    let mut sim = waiting();
    warn_for(&mut sim, mins(21), &delivered());
    sim.change(Change::Move { to: sim.job.due });
    warn_for(&mut sim, mins(1), &delivered());
    expect_warnings(&sim, &[(mins(10), mins(10))]);
}

#[test]
fn an_extension_into_the_window_tells_at_once() {
    let mut sim = waiting();
    warn_for(&mut sim, mins(29) + secs(30), &delivered());
    sim.change(Change::Extend { by: mins(5) });
    sim.warning_slot();
    assert_eq!(sim.warnings.last(), Some(&(mins(5) + secs(30), mins(10))));
}

#[test]
fn a_held_job_tells_nobody_and_a_released_one_at_once() {
    let mut sim = waiting();
    sim.change(Change::Hold { until: None });
    sim.advance(mins(25));
    assert!(!sim.warning_queued);
    sim.change(Change::Release { due: None });
    sim.warning_slot();
    expect_warnings(&sim, &[(mins(5), mins(10))]);
}

#[test]
fn a_job_held_while_its_warning_waits_for_room_sends_none() {
    let mut sim = waiting();
    sim.advance(mins(20));
    sim.change(Change::Hold { until: None });
    sim.warning_slot();
    expect_warnings(&sim, &[]);
    sim.change(Change::Release { due: None });
    sim.warning_slot();
    expect_warnings(&sim, &[(mins(10), mins(10))]);
}

#[test]
fn where_nobody_is_yet_it_is_said_once_and_tried_until_the_next_mark() {
    let mut sim = waiting();
    warn_for(&mut sim, mins(29) - secs(1), &Warned::NotThere);
    assert_eq!(sim.warnings.len(), 18, "every 30 s from 10 m to 1 m");
    assert!(sim.warnings.iter().all(|(_, mark)| *mark == mins(10)));
    assert_eq!(said(&sim), [false]);
    warn_for(&mut sim, secs(31), &Warned::NotThere);
    assert_eq!(said(&sim), [false, false], "the next mark has its own word");
    assert_eq!(sim.warnings.len(), 20);
}

#[test]
fn a_meeting_that_begins_inside_the_window_is_told() {
    let mut sim = waiting();
    warn_for(&mut sim, mins(22), &Warned::NotThere);
    warn_for(&mut sim, mins(7) - secs(1), &delivered());
    assert_eq!(said(&sim), [false, true]);
    let told_at = sim.warnings.last().expect("it was told").0;
    assert_eq!(told_at, mins(7) + secs(30));
}

#[test]
fn before_a_long_mark_the_tries_are_few() {
    let mut sim = Sim::submit_with(hours(30), marks(&[hours(24)]));
    warn_for(&mut sim, hours(30) - secs(11), &Warned::NotThere);
    assert!(sim.warnings.len() <= 121, "{}", sim.warnings.len());
}

#[test]
fn what_may_have_been_shown_is_never_sent_again_and_what_was_not_is() {
    let mut sim = waiting();
    warn_for(&mut sim, mins(28), &failed(true));
    assert_eq!((sim.warnings.len(), said(&sim)), (1, vec![false]));
    let mut sim = waiting();
    warn_for(&mut sim, mins(20), &failed(false));
    warn_for(&mut sim, mins(8), &delivered());
    assert_eq!((sim.warnings.len(), said(&sim)), (2, vec![false, true]));
}

#[test]
fn a_platform_that_cannot_is_asked_once_a_mark() {
    let mut sim = waiting();
    warn_for(&mut sim, mins(29) + secs(50), &Warned::Unsupported("too old".to_owned()));
    assert_eq!((sim.warnings.len(), said(&sim)), (2, vec![false, false]));
}

#[test]
fn the_pause_after_a_failure_does_not_hold_up_the_next_mark() {
    let mut sim = Sim::submit_with(mins(30), marks(&[secs(70), mins(1)]));
    sim.advance(mins(29) - secs(10));
    sim.warning_slot();
    sim.warning_says(Warned::NotThere);
    sim.advance(secs(10));
    sim.warning_slot();
    assert_eq!(sim.warnings.last(), Some(&(mins(1), mins(1))));
}

#[test]
fn a_restart_sends_no_second_time_what_may_have_left() {
    let mut sim = waiting();
    sim.advance(mins(20));
    sim.warning_slot();
    sim.crash(secs(5));
    assert_eq!(said(&sim), [false]);
    assert!(!sim.warning_queued);
    let last = sim.job.last_entry().map(|entry| entry.fact.to_string());
    assert!(last.as_ref().is_some_and(|text| text.contains("stopped while it was being sent")), "{last:?}");
    warn_for(&mut sim, mins(9), &delivered());
    assert_eq!(said(&sim), [false, true]);
}

#[test]
fn a_restart_inside_the_window_tells_at_once_what_was_not_told() {
    let mut sim = waiting();
    sim.crash(mins(23));
    sim.warning_slot();
    expect_warnings(&sim, &[(mins(7), mins(10))]);
    let mut sim = waiting();
    warn_for(&mut sim, mins(21), &delivered());
    sim.crash(mins(2));
    assert!(!sim.warning_queued, "told before");
}

#[test]
fn an_answer_to_a_warning_of_an_earlier_due_time_settles_nothing() {
    let mut sim = waiting();
    sim.advance(mins(20));
    sim.warning_slot();
    sim.change(Change::Extend { by: mins(1) });
    sim.warning_says(delivered());
    assert_eq!((said(&sim), sim.job.warnings.settled), (vec![true], None));
    warn_for(&mut sim, mins(1), &delivered());
    expect_warnings(&sim, &[(mins(10), mins(10)), (mins(10), mins(10))]);
}

#[test]
fn a_warning_that_hangs_is_in_nobodys_way() {
    let mut sim = Sim::submit_with(secs(90), marks(&[mins(1)]));
    sim.advance(secs(30));
    sim.warning_slot();
    sim.advance(secs(53));
    sim.look_says(live("a"));
    sim.advance(secs(7));
    sim.slot();
    sim.expect_called("a");
    assert_eq!(sim.due_in(), 0);
    sim.end_says(EndAnswer::Accepted);
    sim.next_look_says(gone());
    sim.next_look_says(gone());
    sim.expect_outcome(Outcome::Ended);
    sim.warning_says(failed(true));
    assert_eq!(said(&sim), [false]);
    sim.expect_outcome(Outcome::Ended);
}

#[test]
fn after_an_end_call_nobody_is_warned() {
    let mut sim = Sim::calling_with(marks(&[secs(30)]));
    sim.step_clock(-20);
    sim.warning_queued = false;
    sim.tick();
    assert!(!sim.warning_queued);
}

#[test]
fn a_clock_set_back_repeats_no_warning() {
    let mut sim = waiting();
    warn_for(&mut sim, mins(21), &delivered());
    sim.step_clock(-600);
    warn_for(&mut sim, mins(17), &delivered());
    expect_warnings(&sim, &[(mins(10), mins(10))]);
}

#[test]
fn a_clock_set_back_before_it_could_be_told_leaves_its_time_to_come() {
    let mut sim = waiting();
    sim.advance(mins(20));
    sim.warning_slot();
    sim.step_clock(-600);
    sim.warning_says(failed(false));
    assert_eq!((said(&sim), sim.facts("warning-put-off")), (vec![], 1));
    warn_for(&mut sim, mins(11), &delivered());
    assert_eq!(said(&sim), [true]);
    assert_eq!(sim.warnings.last(), Some(&(mins(10), mins(10))));
}

#[test]
fn a_job_is_in_memory_before_its_first_mark() {
    let mut sim = waiting();
    assert_eq!(sim.job.index_wake(), Some(sim.job.due - mins(10)));
    warn_for(&mut sim, mins(20), &delivered());
    assert_eq!(sim.job.index_wake(), Some(sim.job.due - mins(1)));
    warn_for(&mut sim, mins(9), &delivered());
    assert_eq!(sim.job.index_wake(), Some(sim.job.due));
}

#[test]
fn a_record_from_before_there_were_warnings_is_read() {
    let sim = Sim::submit_in(mins(5));
    let record = serde_json::to_value(&sim.job).expect("a job is JSON");
    assert_eq!(record.get("warnings"), None, "and what is new costs an old job nothing");
    let read: Job = serde_json::from_value(record).expect("and back");
    assert!(read.warnings.are_untouched());
}
