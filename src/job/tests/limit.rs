//! What rules bring: deadlines that count from the start of a meeting, a limit on how many may be inside, withdrawals.

use super::super::*;
use super::sim::*;

/// A rule's job about instance `a`, which one person may be in.
fn alone(order: &mut Order) {
    order.only = Some("a".into());
    order.at_most = Some(1);
    order.origin = Origin::Rule { name: "left-alone".to_owned(), planned: order.due };
}

fn with(people: Option<u32>) -> Verdict {
    Verdict::Live(Instance { participants: people, ..instance("a") })
}

#[test]
fn more_people_than_the_rule_allows_for_call_it_off() {
    let mut arming = Sim::arming_with(alone);
    arming.look_says(with(Some(3)));
    arming.expect_outcome(Outcome::Cancelled);
    assert_eq!(arming.job.reason, "3 people are inside: rule left-alone does not apply any more");

    let mut late = Sim::arming_with(alone);
    late.advance(secs(8));
    late.look_says(with(Some(2)));
    late.expect_outcome(Outcome::Cancelled);
    late.expect_calls(0);
}

#[test]
fn one_person_or_nobody_knows_and_the_rule_stands() {
    for people in [Some(1), Some(0), None] {
        let mut sim = Sim::arming_with(alone);
        sim.look_says(with(people));
        sim.advance_to_due();
        sim.slot();
        sim.expect_called("a");
    }
}

#[test]
fn after_the_call_it_is_too_late_to_call_it_off() {
    let mut sim = Sim::arming_with(alone);
    sim.look_says(with(Some(1)));
    sim.advance_to_due();
    sim.slot();
    sim.end_says(EndAnswer::Accepted);
    sim.next_look_says(with(Some(5)));
    sim.expect_state(State::Confirming);
}

#[test]
fn without_such_a_limit_many_may_be_inside() {
    let mut sim = Sim::arming();
    sim.look_says(with(Some(300)));
    sim.expect_state(State::Waiting);
}

/// Waits for the start of its meeting, four hours before it ends.
fn awaiting() -> Sim {
    Sim::submit_with(secs(0), |order| {
        order.due = UtcMs::NEVER;
        order.max_duration = Some(hours(4));
    })
}

fn start_of(instance: &str, started_at: Option<UtcMs>, sent: Now) -> Change {
    let live = LiveMeeting {
        meeting: "math-101".into(),
        instance: instance.into(),
        name: String::new(),
        started_at,
        participants: None,
        meta: Default::default(),
        meta_cut: false,
        breakout_of: None,
    };
    Change::Start { live, sent }
}

#[test]
fn nobody_is_shown_a_time_before_there_is_one() {
    let sim = awaiting();
    assert_eq!((sim.job.wake(sim.now), sim.job.index_wake()), (Wake::default(), None));
    let view = serde_json::to_value(JobView::new(&sim.job, sim.now)).unwrap();
    assert_eq!((&view["due"], &view["max_duration"]), (&serde_json::Value::Null, &"4h".into()));
    assert_eq!(view["reason"], "waiting for the meeting to start; it ends 4h later");
    assert!(!view.to_string().contains("9999"), "{view}");
    let back: JobView = serde_json::from_value(view).unwrap();
    assert!(back.due.is_never() && back.awaits_start);
    let text = sim.job.history.recent[0].fact.to_string();
    assert!(!text.contains("9999"), "{text}");
}

#[test]
fn it_is_due_so_long_after_the_start_and_about_that_run_alone() {
    let mut sim = awaiting();
    let began = START.wall - hours(1);
    sim.change(start_of("a", Some(began), START));
    assert_eq!(sim.job.due, began + hours(4));
    assert_eq!((sim.job.only.as_ref(), sim.pinned()), (Some(&"a".into()), Some("a")));
    assert!(!sim.job.awaits_start && sim.job.armed_at.is_none());
    assert_eq!(sim.job.index_wake(), Some(sim.job.due));
    sim.expect_refused(start_of("b", Some(began), START), "does not wait");
    sim.change(Change::Extend { by: mins(30) });
    sim.advance(hours(3) + mins(30) - secs(5));
    sim.look_says(live("a"));
    sim.advance_to_due();
    sim.slot();
    sim.expect_called("a");
}

#[test]
fn what_has_run_too_long_already_ends_now() {
    let mut sim = awaiting();
    sim.change(start_of("a", Some(START.wall - hours(40)), START));
    assert_eq!(sim.job.due, sim.now.wall);
    sim.next_look_says(live("a"));
    sim.slot();
    sim.expect_called("a");
}

#[test]
fn an_unknown_or_a_future_start_counts_from_when_it_was_seen() {
    for told in [None, Some(START.wall + hours(9))] {
        let mut sim = awaiting();
        sim.advance(secs(10));
        let sent = sim.now;
        sim.advance(secs(2));
        sim.change(start_of("a", told, sent));
        assert_eq!(sim.job.due, sent.wall + hours(4));
    }
}

#[test]
fn whichever_comes_first() {
    let both = || Sim::submit_with(hours(2), |order| order.max_duration = Some(hours(4)));
    let mut late_start = both();
    late_start.change(start_of("a", Some(START.wall - mins(1)), START));
    assert_eq!(late_start.job.due, START.wall + hours(2));
    let mut early_start = both();
    early_start.change(start_of("a", Some(START.wall - hours(3)), START));
    assert_eq!(early_start.job.due, START.wall + hours(1));
    let mut never_live = both();
    never_live.advance(hours(2) + secs(1));
    assert!(!never_live.job.awaits_start);
    never_live.expect_refused(start_of("a", None, START), "does not wait");
}

#[test]
fn before_the_start_it_can_be_held_moved_and_cancelled_but_not_extended() {
    let mut sim = awaiting();
    sim.expect_refused(Change::Extend { by: mins(5) }, "no time yet");
    sim.change(Change::Hold { until: None });
    assert_eq!(sim.job.index_wake(), None);
    sim.change(Change::Release { due: None });
    sim.expect_state(State::Waiting);
    sim.change(Change::Hold { until: None });
    sim.change(start_of("a", Some(START.wall), START));
    sim.expect_state(State::Held);
    assert_eq!(sim.job.due, START.wall + hours(4));

    let mut moved = awaiting();
    moved.change(Change::Move { to: START.wall + mins(9) });
    moved.expect_refused(start_of("a", None, START), "does not wait");
    let mut cancelled = awaiting();
    cancelled.change(Change::Cancel);
    cancelled.expect_outcome(Outcome::Cancelled);
}

#[test]
fn an_extension_does_not_do_away_with_the_limit_from_the_start() {
    let both = || Sim::submit_with(hours(2), |order| order.max_duration = Some(hours(1)));
    let mut early = both();
    early.change(Change::Extend { by: hours(3) });
    assert!(early.job.awaits_start);
    early.change(start_of("a", Some(START.wall), START));
    assert_eq!((early.job.due, early.job.extended_from), (START.wall + hours(1), None));

    let mut late = both();
    late.change(Change::Extend { by: mins(10) });
    late.advance(hours(2));
    late.change(start_of("a", Some(late.now.wall), late.now));
    let planned = START.wall + hours(2);
    assert_eq!((late.job.due, late.job.extended_from), (planned + mins(10), Some(planned)));
}

#[test]
fn the_first_time_that_is_given_is_the_plan_that_extensions_count_from() {
    let mut sim = Sim::submit_with(secs(0), |order| {
        (order.due, order.max_duration) = (UtcMs::NEVER, Some(hours(4)));
        order.limits.max_extension = Some(mins(30));
    });
    let until = START.wall + hours(6);
    sim.change(Change::ExtendTo { until });
    assert_eq!((sim.job.planned_due(), sim.job.extended_from), (until, None));
    sim.expect_refused(Change::Extend { by: mins(31) }, "may be extended by 30m more");
    sim.change(start_of("a", Some(START.wall), START));
    assert_eq!(sim.job.due, START.wall + hours(4), "the limit counts still");
    sim.expect_refused(Change::Extend { by: mins(31) }, "may be extended by 30m more");
}

#[test]
fn only_the_run_that_was_named_starts_it() {
    let mut sim = Sim::submit_with(secs(0), |order| {
        (order.due, order.max_duration, order.only) = (UtcMs::NEVER, Some(hours(4)), Some("a".into()));
    });
    sim.expect_refused(start_of("b", None, START), "another meeting than instance b");
    sim.change(start_of("a", None, START));
    assert_eq!(sim.job.due, START.wall + hours(4));
}

#[test]
fn a_rule_withdraws_until_a_call_was_sent() {
    let withdraw = || Change::Withdraw { reason: "people came back".to_owned() };
    let mut sim = Sim::firing_with(alone_with_three);
    sim.change(withdraw());
    sim.expect_outcome(Outcome::Cancelled);
    assert_eq!(sim.job.reason, "people came back");
    let mut sim = Sim::calling_with(alone_with_three);
    sim.expect_refused(withdraw(), "was sent");
}

fn alone_with_three(order: &mut Order) {
    alone(order);
    order.at_most = Some(3);
}

#[test]
fn a_move_by_the_rule_is_told_from_one_by_hand() {
    let mut sim = Sim::arming_with(alone);
    let planned = |sim: &Sim| match &sim.job.origin {
        Origin::Rule { planned, .. } => *planned,
        other => panic!("{other}"),
    };
    let first = sim.job.due;
    sim.change(Change::Extend { by: mins(5) });
    assert_eq!(planned(&sim), first);
    let to = first + mins(7);
    sim.job = sim.job.change(&Change::Move { to }, By::Schedule, sim.now).unwrap();
    assert_eq!(planned(&sim), to);
}
