//! `max-extension`: how far people may push a deadline in total, counted from what was planned.

use super::super::*;
use super::sim::*;

/// Due in 5 minutes, to be pushed by an hour at most.
fn limited() -> Sim {
    Sim::submit_with(mins(5), |order| order.limits.max_extension = Some(hours(1)))
}

#[test]
fn extensions_add_up_and_the_refusal_says_how_much_is_left() {
    let mut sim = limited();
    let planned = sim.job.due;
    sim.change(Change::Extend { by: mins(30) });
    sim.change(Change::ExtendTo { until: planned + mins(40) });
    assert_eq!((sim.job.extension_left(), sim.job.planned_due()), (Some(mins(20)), planned));
    let refused = "may be extended by 20m more: max-extension is 1h, 40m are used";
    sim.expect_refused(Change::Extend { by: mins(21) }, refused);
    sim.expect_refused(Change::ExtendTo { until: planned + mins(61) }, refused);
    assert_eq!(sim.job.due, planned + mins(40));
    sim.change(Change::Extend { by: mins(20) });
    let refused = "may not be extended any more: max-extension is 1h, 1h are used";
    sim.expect_refused(Change::Extend { by: std::time::Duration::from_millis(1) }, refused);
}

#[test]
fn the_hint_names_the_latest_time_there_is() {
    let sim = limited();
    let change = Change::Extend { by: hours(2) };
    let refused = sim.job.change(&change, peer(), sim.now).unwrap_err();
    let latest = sim.job.due + hours(1);
    assert!(refused.hint.contains(&format!("--until {latest};")), "{}", refused.hint);
    let changed = sim.job.change(&Change::ExtendTo { until: latest }, peer(), sim.now).unwrap();
    assert_eq!(changed.extension_left(), Some(secs(0)));
}

#[test]
fn a_new_plan_counts_anew_whoever_makes_it() {
    let mut sim = limited();
    sim.change(Change::Extend { by: hours(1) });
    let to = sim.job.due + hours(5);
    sim.change(Change::Move { to });
    assert_eq!((sim.job.extension_left(), sim.job.extended_from), (Some(hours(1)), None));
    sim.change(Change::Extend { by: hours(1) });
    sim.job = sim.job.change(&Change::Move { to }, By::Schedule, sim.now).expect("allowed");
    assert_eq!((sim.job.extension_left(), sim.job.due), (Some(hours(1)), to));
}

#[test]
fn an_earlier_time_uses_nothing_up_and_gives_nothing() {
    let mut sim = limited();
    let planned = sim.job.due;
    sim.change(Change::ExtendTo { until: planned - mins(2) });
    assert_eq!((sim.job.extension_left(), sim.job.planned_due()), (Some(hours(1)), planned));
    sim.expect_refused(Change::Extend { by: mins(63) }, "max-extension is 1h, 0s are used");
    sim.change(Change::Extend { by: mins(62) });
}

#[test]
fn zero_allows_none_and_without_a_limit_there_is_none() {
    let mut sim = Sim::submit_with(mins(5), |order| order.limits.max_extension = Some(secs(0)));
    sim.expect_refused(Change::Extend { by: secs(1) }, "may not be extended any more");
    let mut sim = Sim::submit_in(mins(5));
    assert_eq!(sim.job.extension_left(), None);
    sim.change(Change::Extend { by: hours(1000) });
}

#[test]
fn a_hold_is_no_way_around_the_limit_and_ending_at_once_is_always_allowed() {
    let mut sim = limited();
    let planned = sim.job.due;
    sim.change(Change::Hold { until: None });
    sim.expect_refused(Change::Release { due: Some(planned + hours(2)) }, "max-extension is 1h");
    sim.expect_refused(Change::Extend { by: hours(2) }, "max-extension is 1h");
    sim.change(Change::Extend { by: mins(10) });
    sim.expect_state(State::Held);
    sim.advance(hours(3));
    let later = Change::Release { due: Some(sim.now.wall + mins(1)) };
    sim.expect_refused(later, "may not be extended any more: max-extension is 1h, 10m are used");
    sim.change(Change::Release { due: Some(sim.now.wall) });
    assert_eq!(sim.due_in(), 0);
}

#[test]
fn released_now_is_now_also_when_the_request_took_a_moment() {
    let mut sim = limited();
    sim.change(Change::Hold { until: None });
    sim.advance(mins(10));
    let asked = sim.now.wall - std::time::Duration::from_millis(3);
    sim.change(Change::Release { due: Some(asked) });
    assert_eq!(sim.job.due, sim.now.wall);
}

#[test]
fn a_record_from_before_the_limit_counts_from_its_due() {
    let sim = limited();
    let mut record = serde_json::to_value(&sim.job).unwrap();
    record.as_object_mut().unwrap().remove("extended_from").expect("it is there");
    let job: Job = serde_json::from_value(record).unwrap();
    assert_eq!((job.planned_due(), job.extension_left()), (sim.job.due, Some(hours(1))));
    let old: Fact = serde_json::from_str(r#"{"fact":"moved","to":5,"by":"schedule"}"#).unwrap();
    assert_eq!(old, Fact::Moved { to: UtcMs(5), extension: false, by: By::Schedule });
}
