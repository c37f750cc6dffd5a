//! The command line against a running daemon: an operator's first hour.

use std::process::Stdio;

use adjourn::sandbox::NewMeeting;

use crate::harness::{Bed, id_of};

#[test]
fn who_is_live_end_one_extend_it_and_see_what_happened() {
    let bed = Bed::start();
    bed.create_meeting(NewMeeting { participants: 7, ..NewMeeting::new("math-101") });
    bed.create("physics-1");
    let (code, live) = bed.says(&["meetings", "campus"]);
    assert_eq!(code, 0, "{live}");
    assert!(live.contains("math-101") && live.contains("physics-1") && live.contains('7'), "{live}");

    let (code, said) = bed.says(&["end", "campus", "math-101", "--in", "5m"]);
    assert_eq!(code, 0, "{said}");
    assert!(said.contains("campus/math-101") && said.contains("5m"), "{said}");
    let job = bed.json(&["list"])["jobs"][0].clone();
    let id = id_of(&job);
    let short = &id[id.len() - 8..];
    assert!(said.contains(short), "the id is named: {said}");

    let (code, said) = bed.says(&["extend", short, "10m"]);
    assert_eq!(code, 0, "{said}");
    let (code, story) = bed.says(&["show", short]);
    assert_eq!(code, 0);
    assert!(story.contains("submitted") && story.contains("moved"), "{story}");

    let (code, said) = bed.says(&["fire", short]);
    assert_eq!(code, 0, "{said}");
    assert_eq!(
        bed.says(&["wait", short, "--timeout", "30s"]).0,
        0,
        "whoever is live when it is fired is meant"
    );
}

#[test]
fn extend_by_meeting_moves_every_deadline_of_it() {
    let bed = Bed::start();
    bed.create("math-101");
    let first = bed.end_in("math-101", "1h");
    let (code, said) = bed.says(&["end", "campus", "math-101", "--in", "2h"]);
    assert_eq!(code, 0);
    assert!(said.contains(&first[first.len() - 8..]), "the other deadline is named: {said}");
    let before: Vec<String> = dues(&bed);
    assert_eq!(bed.says(&["extend", "campus", "math-101", "30m"]).0, 0);
    let after = dues(&bed);
    assert_eq!(after.len(), 2);
    assert!(before.iter().zip(&after).all(|(before, after)| before < after), "{before:?} {after:?}");
}

fn dues(bed: &Bed) -> Vec<String> {
    let list = bed.json(&["list"]);
    list["jobs"].as_array().unwrap().iter().map(|job| job["due"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn hold_release_and_cancel() {
    let bed = Bed::start();
    let id = bed.end_in("math-101", "1h");
    assert_eq!(bed.json(&["hold", &id])["state"], "held");
    assert_eq!(bed.json(&["release", &id])["state"], "waiting");
    assert_eq!(bed.json(&["cancel", &id])["outcome"], "cancelled");
    let (code, said) = bed.says(&["extend", &id, "5m"]);
    assert_eq!(code, 1, "{said}");
    assert!(said.contains("cancelled") && said.contains("adjourn show"), "{said}");
    assert_eq!(bed.says(&["wait", &id]).0, 1);
}

#[test]
fn wait_tells_by_its_exit_code() {
    let bed = Bed::start();
    let absent = bed.end_in("nobody-here", "200ms");
    assert_eq!(bed.says(&["wait", &absent, "--timeout", "30s"]).0, 1);
    assert_eq!(bed.says(&["wait", &absent, "--absent-ok"]).0, 0);
    let far = bed.end_in("math-101", "1h");
    assert_eq!(bed.says(&["wait", &far, "--timeout", "300ms"]).0, 75);
}

#[test]
fn end_now_and_wait_ends_a_meeting_that_has_been_there_for_a_while() {
    let bed = Bed::start();
    bed.create_meeting(NewMeeting { created_ago_ms: 600_000, ..NewMeeting::new("math-101") });
    let (code, said) = bed.says(&["end", "campus", "math-101", "--now", "--wait"]);
    assert_eq!(code, 0, "{said}");
    assert!(said.contains("ended"), "{said}");
    assert!(!bed.truth().instances("math-101")[0].alive());
}

#[test]
fn a_dry_run_submits_nothing() {
    let bed = Bed::start();
    let (code, said) = bed.says(&["end", "campus", "math-101", "--in", "5m", "--dry-run"]);
    assert_eq!(code, 0, "{said}");
    assert!(bed.json(&["list"])["jobs"].as_array().unwrap().is_empty());
}

#[test]
fn the_status_names_the_server_and_the_store() {
    let bed = Bed::start();
    bed.end_in("math-101", "1h");
    let status = bed.json(&["status"]);
    assert_eq!(status["jobs"]["waiting"], 1, "{status:#}");
    assert_eq!(status["servers"]["campus"]["platform"], "bigbluebutton");
    let (code, said) = bed.says(&["status"]);
    assert_eq!(code, 0);
    assert!(said.contains("campus"), "{said}");
}

#[test]
fn the_journal_is_checked_and_tells_with_a_daemon_and_without() {
    let mut bed = Bed::start();
    let id = bed.end_in("math-101", "1h");
    bed.says(&["extend", &id, "15m"]);
    let audit =
        |bed: &Bed, what: &[&str]| bed.says(&[&["audit"], what, &["--config", "schedule.toml"]].concat());
    for running in [true, false] {
        let (code, said) = audit(&bed, &["verify"]);
        assert!(code == 0 && said.contains("sound: lines 1 to "), "{running}: {said}");
        let (code, said) = audit(&bed, &["show", &id[id.len() - 8..]]);
        assert!(code == 0 && said.contains("submitted by uid") && said.contains("due moved to"), "{said}");
        if running {
            bed.stop_daemon();
        }
    }
    let journal = bed.path("state/journal/00000000000000000001.ndjson");
    let whole = std::fs::read_to_string(&journal).unwrap();
    let lines: Vec<&str> = whole.lines().collect();
    std::fs::write(&journal, format!("{}\n", lines[..lines.len() - 1].join("\n"))).unwrap();
    let (code, said) = audit(&bed, &["verify"]);
    assert!(code == 1 && said.contains("the tail was cut"), "{said}");
    assert_eq!(audit(&bed, &["show", "ffffffff"]).0, 1);
    assert_eq!(audit(&bed, &["show", "not-an-id"]).0, 2);
}

#[test]
fn a_broken_pipe_is_no_error() {
    let bed = Bed::start();
    for n in 0..50 {
        bed.end_in(&format!("meeting-{n}"), "1h");
    }
    let mut list = bed.command(&["list"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(list.stdout.take());
    let output = list.wait_with_output().unwrap();
    assert!(output.status.success(), "{output:?}");
    assert!(output.stderr.is_empty(), "{:?}", crate::harness::text(&output.stderr));
}

#[test]
fn completions_and_man_pages_come_from_the_program_itself() {
    let bed = crate::harness::Plan::default().lay();
    for shell in ["bash", "zsh", "fish"] {
        let (code, said) = bed.says(&["completions", shell]);
        assert_eq!(code, 0);
        assert!(said.contains("extend"), "{shell}");
    }
    let (code, said) = bed.says(&["man"]);
    assert_eq!(code, 0);
    assert!(said.contains(".TH"), "{said}");
}

#[test]
fn colours_go_where_they_are_asked_for() {
    let bed = crate::harness::Plan::default().lay();
    std::fs::write(bed.path("broken.toml"), "[servers.x\n").unwrap();
    for (color, coloured) in [("always", true), ("never", false), ("auto", false)] {
        let checked = bed.command(&["--color", color, "check", "broken.toml"]).output().unwrap();
        let said = crate::harness::text(&checked.stderr);
        assert_eq!(
            (checked.status.code(), said.contains("\u{1b}[")),
            (Some(78), coloured),
            "{color}: {said}"
        );
    }
}

#[test]
fn the_log_says_where_everything_is_and_when_it_is_over() {
    let mut bed = Bed::start();
    bed.end_in("math-101", "1h");
    bed.stop_daemon();
    bed.start_daemon();
    bed.stop_daemon();
    let log = bed.log();
    let ready = log.lines().rfind(|line| line.contains("ready")).unwrap();
    for part in ["config=", "state_dir=", "socket=", "servers=1", "open=1", "next="] {
        assert!(ready.contains(part), "{part}: {ready}");
    }
    assert_eq!(log.matches(" stopped").count(), 2, "{log}");
}

#[test]
fn logs_can_be_read_by_collectors() {
    for (format, part) in [
        ("json", "\"message\":\"ready\""),
        ("logfmt", " level=info msg=ready "),
        ("xml", "plain, json or logfmt"),
    ] {
        let mut bed = crate::harness::Plan::default().lay();
        bed.start_daemon_as(|mut command| {
            command.env("ADJOURN_LOG_FORMAT", format);
            command
        });
        bed.stop_daemon();
        assert!(bed.log().contains(part), "{format}: {}", bed.log());
    }
}
