//! From submit to the one outcome: what a whole life looks like, and what is never done twice.

use super::super::*;
use super::sim::*;

/// Ended, proven, done: the plain case.
fn ended() -> Sim {
    let mut sim = Sim::confirming();
    sim.next_look_says(gone());
    sim.next_look_says(gone());
    sim.expect_outcome(Outcome::Ended);
    sim
}

#[test]
fn the_plain_life_is_armed_claimed_called_accepted_and_proven() {
    let sim = ended();
    let names: Vec<&str> = sim.job.history.recent.iter().map(|entry| entry.fact.name()).collect();
    assert_eq!(
        names,
        [
            "submitted",
            "looked",
            "pinned",
            "claimed",
            "due-reached",
            "end-sent",
            "end-answered",
            "looked",
            "looked",
            "concluded"
        ]
    );
    assert_eq!((sim.job.ends, sim.job.looks), (1, 3));
    assert_eq!(sim.job.lateness_ms(), Some(0));
    assert_eq!(sim.job.accepted_at, Some(sim.job.due));
    assert_eq!(sim.job.proven.map(|at| at.wall), Some(sim.now.wall));
    assert!(sim.job.reason.contains("instance a"));
}

#[test]
fn the_first_arm_is_shown_as_the_time_of_arming() {
    let mut sim = Sim::arming();
    sim.look_says(live("a"));
    assert_eq!(sim.job.armed_at, Some(sim.now.wall));
    assert_eq!(JobView::new(&sim.job, sim.now).armed_at, Some(sim.now.wall));
}

#[test]
fn a_job_waits_for_its_arm_and_does_nothing_before() {
    let mut sim = Sim::submit_in(hours(24));
    let wait = sim.to_wake().expect("it waits");
    assert!((8_000..=10_000).contains(&(sim.due_in() - wait)), "armed {} ms before due", sim.due_in() - wait);
    sim.advance(hours(23));
    assert_eq!((sim.job.looks, sim.job.history.total()), (0, 1));
    assert_eq!(sim.job.index_wake(), Some(sim.job.due));
}

#[test]
fn a_meeting_that_ended_by_itself_before_due_was_already_over() {
    let mut sim = Sim::arming();
    sim.look_says(live("a"));
    sim.change(Change::Extend { by: mins(1) });
    sim.next_look_says(gone());
    sim.advance_to_due();
    sim.expect_look(Purpose::BeforeEnd);
    sim.look_says(gone());
    sim.next_look_says(gone());
    sim.expect_outcome(Outcome::AlreadyOver);
    sim.expect_calls(0);
}

#[test]
fn a_meeting_never_seen_alive_is_absent_after_two_looks_at_due() {
    let mut sim = Sim::arming();
    sim.look_says(gone());
    sim.advance(secs(7));
    sim.look_says(gone());
    sim.expect_state(State::Ending);
    sim.next_look_says(gone());
    sim.expect_outcome(Outcome::Absent);
    sim.expect_calls(0);
}

#[test]
fn a_refusal_for_good_is_failed() {
    let mut sim = Sim::calling();
    sim.end_says(refused(true));
    sim.expect_outcome(Outcome::Failed);
    assert!(sim.job.reason.contains("not now"));
}

#[test]
fn a_done_job_looks_once_more_after_a_minute_and_says_that_it_was_reopened() {
    let mut sim = ended();
    let (revision, reason) = (sim.job.revision, sim.job.reason.clone());
    sim.advance(secs(59));
    sim.expect_no_look();
    sim.advance(secs(1));
    sim.expect_look(Purpose::After);
    sim.look_says(live("b"));
    sim.expect_fact("reopened");
    assert_eq!(sim.job.reopened_at, Some(sim.now.wall));
    sim.expect_outcome(Outcome::Ended);
    assert_eq!((sim.job.revision, &sim.job.reason), (revision, &reason));
    sim.advance(hours(1));
    sim.expect_no_look();
    sim.expect_calls(1);
    assert_eq!(sim.to_wake(), None);
}

#[test]
fn one_failed_last_look_is_enough() {
    let mut sim = ended();
    sim.advance(mins(1));
    sim.look_says(unreachable());
    assert_eq!((sim.to_wake(), sim.job.index_wake(), sim.job.reopened_at), (None, None, None));
}

#[test]
fn only_outcomes_that_claim_the_end_are_followed_by_a_last_look() {
    let mut sim = Sim::firing();
    sim.change(Change::Cancel);
    sim.expect_outcome(Outcome::Cancelled);
    assert_eq!(sim.to_wake(), None);
}

#[test]
fn a_done_job_ignores_late_answers_and_stray_room() {
    let mut sim = Sim::calling();
    sim.change(Change::Cancel);
    let done = sim.job.clone();
    sim.end_says(EndAnswer::Accepted);
    sim.queued = 1;
    sim.slot();
    sim.tick();
    assert_eq!(sim.job, done);
}

#[test]
fn an_answer_to_another_attempt_is_ignored() {
    let mut sim = Sim::calling();
    let before = sim.job.clone();
    sim.event(Event::Answered { attempt: 7, answer: EndAnswer::Accepted });
    assert_eq!(sim.job, before);
}

#[test]
fn a_record_survives_json_with_every_verdict_and_answer_in_its_history() {
    let why = || "because".to_owned();
    let verdicts = [
        live("a"),
        replaced(started("b", START.wall)),
        Verdict::Replaced { by: instance("c"), counts: false },
        Verdict::Occupied,
        gone(),
        doubtful(),
        Verdict::Hopeless { why: why() },
        unreachable(),
        misconfigured(),
    ];
    let answers = [
        EndAnswer::Accepted,
        maybe_gone(),
        refused(true),
        refused(false),
        EndAnswer::Throttled { why: why(), retry_after: Some(ms(1_500)), unavailable: false },
        EndAnswer::Throttled { why: why(), retry_after: None, unavailable: false },
        EndAnswer::Misconfigured { why: why() },
        no_answer(true),
        no_answer(false),
    ];
    let mut job = Sim::calling().job;
    job.run = Run::default();
    for verdict in verdicts {
        job.record(START, Fact::Looked { purpose: Purpose::Confirm, took_ms: 3, verdict });
    }
    for answer in answers {
        job.record(START, Fact::EndAnswered { attempt: 1, answer });
    }
    job.record(START, Fact::Released { by: None });
    job.record(START, Fact::Guarding { outcome: Outcome::Ended, reason: why() });
    let record = serde_json::to_string(&job).expect("a job is JSON");
    assert_eq!(serde_json::from_str::<Job>(&record).expect("and back"), job);
}

#[test]
fn a_very_long_history_is_counted_where_it_is_not_kept() {
    let mut sim = Sim::confirming_with(|order| order.limits.resend_after = hours(100));
    for _ in 0..200 {
        sim.next_look_says(live("a"));
    }
    assert_eq!(sim.job.history.recent.len(), 80);
    assert_eq!(sim.job.history.total(), 209);
    assert_eq!(sim.job.history.recent[0].fact.name(), "submitted");
    assert_eq!(sim.job.looks, 201);
}

#[test]
fn looks_and_arms_do_not_change_the_revision_but_what_people_do_does() {
    let mut sim = Sim::submit_in(mins(2));
    let at_first = sim.job.revision;
    sim.next_look_says(live("a"));
    assert_eq!(sim.job.revision, at_first);
    sim.change(Change::Extend { by: mins(1) });
    assert_eq!(sim.job.revision, at_first + 1);
    sim.change(Change::Hold { until: None });
    assert_eq!(sim.job.revision, at_first + 2);
}

#[test]
fn the_view_says_when_the_job_acts_next() {
    let sim = Sim::submit_in(mins(2));
    let next = JobView::new(&sim.job, sim.now).next_at.expect("it waits for its arm");
    assert!((8_000..=10_000).contains(&sim.job.due.ms_since(next)));
    let mut view = JobView::with_history(&sim.job, sim.now);
    assert_eq!(view.history.take().map(|lines| lines.len()), Some(1));
    let json = serde_json::to_value(&view).expect("a view is JSON");
    assert_eq!(json["due"], "2025-12-01T18:02:00.000Z");
    assert_eq!(json["state"], "waiting");
}
