//! What `show` says of each mark: was it told, and if not, why?

use super::super::*;
use super::sim::*;

/// Due so long from now, with marks 10 m and 1 m.
fn due_in(to_due: std::time::Duration) -> Sim {
    Sim::submit_with(to_due, |order| order.limits.warn = vec![mins(10), mins(1)])
}

/// The warning that waits for room leaves, and is answered so.
fn answered(sim: &mut Sim, answer: Warned) {
    sim.warning_slot();
    sim.warning_says(answer);
}

fn delivered() -> Warned {
    Warned::Delivered { instance: Some("a".into()), also: 2 }
}

/// One line a mark: `told`, `not told: why`, or `to come`.
#[track_caller]
fn check(sim: &Sim, expected: &[&str]) {
    let stories = sim.job.mark_stories(sim.now.wall).into_iter().map(|story| {
        let why = story.why.map_or_else(String::new, |why| format!(": {why}"));
        match story.told {
            Some(true) => format!("told, and {} rooms", story.also),
            Some(false) => format!("not told{why}"),
            None if story.at.is_some() => format!("to come{why}"),
            None => format!("not yet{why}"),
        }
    });
    assert_eq!(stories.collect::<Vec<_>>(), expected);
}

#[test]
fn what_was_told_and_what_is_to_come() {
    let mut sim = due_in(mins(30));
    check(&sim, &["to come", "to come"]);
    sim.advance(mins(20));
    check(&sim, &["not yet", "to come"]);
    answered(&mut sim, delivered());
    check(&sim, &["told, and 2 rooms", "to come"]);
    sim.change(Change::Extend { by: mins(20) });
    check(&sim, &["to come", "to come"]);
}

#[test]
fn the_last_word_on_a_mark_counts() {
    let mut sim = due_in(mins(30));
    sim.advance(mins(20));
    answered(&mut sim, Warned::NotThere);
    check(&sim, &["to come: nobody is there yet", "to come"]);
    sim.advance(secs(30));
    answered(&mut sim, Warned::Failed { why: "campus does not answer".to_owned(), sent: false });
    check(&sim, &["to come: campus does not answer", "to come"]);
    sim.advance(mins(8) + secs(30));
    answered(&mut sim, Warned::Unsupported("too old".to_owned()));
    check(&sim, &["not told: campus does not answer", "not told: too old"]);
}

#[test]
fn what_had_passed_before_the_submit() {
    let mut sim = due_in(mins(1));
    answered(&mut sim, delivered());
    let passed = "not told: its time had passed when the deadline was set; the mark 1m stood for it";
    check(&sim, &[passed, "told, and 2 rooms"]);
    let mut sim = due_in(secs(0));
    sim.advance(secs(1));
    let passed = "not told: its time had passed when the deadline was set";
    check(&sim, &[passed, passed]);
    let mut sim = due_in(mins(30));
    sim.change(Change::Fire);
    check(&sim, &[passed, passed]);
}

#[test]
fn what_came_to_an_end_before() {
    let mut sim = due_in(mins(30));
    sim.advance(mins(20));
    answered(&mut sim, delivered());
    sim.change(Change::Cancel);
    check(&sim, &["told, and 2 rooms", "not told: the deadline was cancelled before"]);
    let mut sim = due_in(mins(30));
    sim.change(Change::Withdraw { reason: "the rule is gone".to_owned() });
    let withdrawn = "not told: the deadline was withdrawn before";
    check(&sim, &[withdrawn, withdrawn]);
    let mut sim = due_in(mins(30));
    sim.change(Change::Hold { until: None });
    check(&sim, &["not yet: the deadline is held", "not yet: the deadline is held"]);
}

#[test]
fn what_nobody_was_at_work_for() {
    let mut sim = due_in(mins(30));
    sim.crash(mins(31));
    let away = "not told: adjourn was not at work at its time, or the deadline was held";
    check(&sim, &[away, away]);
}
