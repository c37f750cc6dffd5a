//! `kill -9` at any moment: every job still gets its right outcome.

use std::time::Duration;

use adjourn::sandbox::Fault;

use crate::harness::{Bed, check_truth};

/// Twenty kills, spread over the life of a job: before the arm, around the claim, the call, the proof.
#[test]
fn every_job_gets_its_right_outcome_through_twenty_kills() {
    let mut bed = Bed::start();
    for round in 0..20_u32 {
        let (plain, swallowed) = (format!("plain-{round}"), format!("swallowed-{round}"));
        bed.create(&plain);
        bed.create(&swallowed);
        bed.sandbox.set_fault(Fault::Swallow.on_meeting(&swallowed).times(1)).unwrap();
        let jobs = [bed.end_in(&plain, "700ms"), bed.end_in(&swallowed, "700ms")];
        // Not a wait for something: the moment of the kill, another one in every round.
        std::thread::park_timeout(Duration::from_millis(u64::from(fastrand::u32(0..2_200))));
        bed.kill_daemon();
        bed.start_daemon();
        for id in jobs {
            let job = bed.outcome(&id);
            check_truth(&bed, &job);
            // Killed before it was seen alive, and too young to belong by its start: then it must be left alone.
            let left_alone = job["outcome"] == "superseded" && job["ends"] == 0;
            assert!(job["outcome"] == "ended" || left_alone, "round {round}: {job:#}");
        }
    }
}

#[test]
fn what_was_due_while_the_daemon_was_down_is_looked_at_first() {
    let mut bed = Bed::start();
    let internal = bed.create_meeting(adjourn::sandbox::NewMeeting {
        created_ago_ms: 60_000,
        ..adjourn::sandbox::NewMeeting::new("math-101")
    });
    let id = bed.end_in("math-101", "1s");
    bed.kill_daemon();
    let due = bed.truth().now + Duration::from_secs(1);
    bed.wait_for("due has passed", |truth| truth.now > due);
    let requests = bed.truth().requests.len();
    bed.start_daemon();
    let job = bed.outcome(&id);
    check_truth(&bed, &job);
    assert_eq!(job["outcome"], "ended", "{job:#}");
    let hit = bed.instance(&internal).hits[0].request;
    let looked = bed
        .truth()
        .requests
        .iter()
        .skip(requests)
        .any(|record| record.n < hit && record.call != adjourn::sandbox::Call::End);
    assert!(looked, "a look comes before the call");
}

#[test]
fn late_limit_zero_means_never_late() {
    let mut bed = Bed::start();
    bed.create("math-101");
    let id = crate::harness::id_of(&bed.json(&[
        "end",
        "campus",
        "math-101",
        "--in",
        "700ms",
        "--late-limit",
        "0s",
    ]));
    bed.kill_daemon();
    let due = bed.truth().now + Duration::from_secs(1);
    bed.wait_for("due has passed", |truth| truth.now > due);
    bed.start_daemon();
    let job = bed.outcome(&id);
    assert_eq!((&job["outcome"], &job["ends"]), (&"missed".into(), &0.into()), "{job:#}");
}

#[test]
fn a_second_daemon_on_the_same_store_exits_75_and_names_the_first() {
    let bed = Bed::start();
    let output = bed.daemon_command().stderr(std::process::Stdio::piped()).output().unwrap();
    let said = crate::harness::text(&output.stderr);
    assert_eq!(output.status.code(), Some(75), "{said}");
    assert!(said.contains(&bed.daemon_pid().to_string()), "{said}");
    assert!(bed.json(&["status"])["store"]["error"].is_null(), "the first goes on");
}

/// The file stays when the daemon is killed; what counts is whether anybody holds it.
#[test]
fn the_lock_of_a_dead_daemon_is_taken_over() {
    let mut bed = Bed::start();
    let id = bed.end_in("math-101", "9h");
    let dead = bed.daemon_pid();
    bed.kill_daemon();
    assert_eq!(lock_of(&bed), dead.to_string());
    bed.start_daemon();
    assert_eq!(lock_of(&bed), bed.daemon_pid().to_string());
    assert_eq!(bed.show(&id)["state"], "waiting");
}

/// Many at once on the store of a dead one: one wins, the others name it and touch nothing.
#[test]
fn of_many_daemons_at_once_one_gets_the_store() {
    let mut bed = Bed::start();
    let id = bed.end_in("math-101", "9h");
    bed.kill_daemon();
    let mut all: Vec<_> =
        (0..4).map(|_| bed.daemon_command().stderr(std::process::Stdio::piped()).spawn().unwrap()).collect();
    bed.wait_for("all but one have given up", |_| {
        all.iter_mut().filter_map(|daemon| daemon.try_wait().unwrap()).count() == 3
    });
    let winner = all.iter().position(|daemon| daemon.id().to_string() == lock_of(&bed)).unwrap();
    let mut winner = all.swap_remove(winner);
    for loser in all {
        let output = loser.wait_with_output().unwrap();
        let said = crate::harness::text(&output.stderr);
        assert_eq!(output.status.code(), Some(75), "{said}");
        assert!(said.contains("in use by another adjourn"), "{said}");
    }
    bed.wait_for("the winner answers", |_| bed.says(&["status"]).0 == 0);
    assert_eq!(bed.show(&id)["state"], "waiting");
    winner.kill().unwrap();
    winner.wait().unwrap();
}

fn lock_of(bed: &Bed) -> String {
    std::fs::read_to_string(bed.path("state/lock")).unwrap().trim().to_owned()
}
