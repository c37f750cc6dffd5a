//! Bad input gets an error that says what, where and what to do next; nothing changes.

use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::process::Stdio;

use adjourn::sandbox::Fault;

use crate::harness::{Bed, Plan, text};

/// A command line that must be refused: its exit code and what it must say.
#[track_caller]
fn refused(bed: &Bed, args: &[&str], code: i32, says: &[&str]) {
    let (got, said) = bed.says(args);
    assert_eq!(got, code, "{args:?}: {said}");
    for needle in says {
        assert!(said.contains(needle), "{args:?} does not say {needle:?}:\n{said}");
    }
    assert!(bed.json(&["list"])["jobs"].as_array().unwrap().is_empty(), "nothing was submitted");
}

#[test]
fn the_command_line_refuses_what_makes_no_sense() {
    let bed = Bed::start();
    refused(&bed, &["end", "nowhere", "math-101", "--in", "5m"], 1, &["nowhere", "campus"]);
    refused(&bed, &["end", "campus", "math-101", "--at", "2020-01-01T00:00:00Z"], 2, &["passed", "--now"]);
    refused(
        &bed,
        &["end", "campus", "math-101", "--at", "2027-03-28 02:30", "--timezone", "Europe/Berlin"],
        2,
        &["2027-03-28"],
    );
    refused(&bed, &["end", "campus", "math-101", "--in", "five minutes"], 2, &["five minutes"]);
    refused(&bed, &["end", "campus", "math-101"], 2, &["--in"]);
    refused(&bed, &["end", "campus", "bad\u{1b}[31mid", "--in", "5m"], 1, &["control character"]);
    refused(&bed, &["show", "00000000"], 1, &["00000000"]);
    refused(&bed, &["extend", "00000000", "5m"], 1, &["00000000"]);
    refused(&bed, &["meetings", "nowhere"], 1, &["nowhere"]);
}

#[test]
fn a_daemon_that_is_not_there_is_exit_69_with_the_socket_named() {
    let bed = Plan::default().lay();
    let (code, said) = bed.says(&["status"]);
    assert_eq!(code, 69, "{said}");
    assert!(said.contains("control.sock") && said.contains("adjourn daemon"), "{said}");
}

/// A daemon that must not start: its exit code and what it must say.
#[track_caller]
fn does_not_start(bed: &Bed, code: i32, says: &[&str]) {
    let output = bed.daemon_command().stderr(Stdio::piped()).output().unwrap();
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{said}");
    for needle in says {
        assert!(said.contains(needle), "it does not say {needle:?}:\n{said}");
    }
    assert!(!said.contains("panicked"), "{said}");
}

#[test]
fn a_broken_schedule_file_keeps_the_daemon_down_with_every_problem_named() {
    let bed = Plan::default().lay();
    bed.write_schedule(
        "cheksum = \"sha256\"",
        "[[end]]\nserver = \"elsewhere\"\nmeeting = \"m\"\nat = \"2027-03-28T02:30:00[Europe/Berlin]\"\n",
    );
    does_not_start(&bed, 78, &["schedule.toml:", "cheksum", "checksum", "elsewhere", "2027-03-28"]);
}

#[test]
fn a_secret_in_the_file_is_refused_and_not_shown() {
    let bed = Plan::default().lay();
    let file = std::fs::read_to_string(bed.schedule()).unwrap();
    let inline = file.replace("{ env = \"CAMPUS_SECRET\" }", "\"hunter2hunter2\"");
    std::fs::write(bed.schedule(), inline).unwrap();
    let output = bed.daemon_command().stderr(Stdio::piped()).output().unwrap();
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(78), "{said}");
    assert!(!said.contains("hunter2"), "{said}");
}

#[test]
fn an_unreadable_secret_file_is_named() {
    let bed = Plan::default().lay();
    let file = std::fs::read_to_string(bed.schedule()).unwrap();
    let elsewhere = file.replace("{ env = \"CAMPUS_SECRET\" }", "{ file = \"/nonexistent/campus\" }");
    std::fs::write(bed.schedule(), elsewhere).unwrap();
    does_not_start(&bed, 78, &["/nonexistent/campus"]);
}

#[test]
fn a_state_directory_that_cannot_be_used_is_named() {
    let bed = Plan::default().lay();
    std::fs::write(bed.path("state"), "a file, not a directory").unwrap();
    does_not_start(&bed, 78, &["state"]);
    std::fs::remove_file(bed.path("state")).unwrap();
    // Root writes everywhere, but not below a file.
    let file = std::fs::read_to_string(bed.schedule()).unwrap();
    let below = format!("{:?}", bed.path("schedule.toml/state"));
    std::fs::write(bed.schedule(), file.replace(&format!("{:?}", bed.path("state")), &below)).unwrap();
    does_not_start(&bed, 78, &["schedule.toml/state"]);
}

#[test]
fn a_store_that_neither_queue_nor_journal_can_restore_is_an_error_with_a_way_out_and_no_panic() {
    let mut bed = Bed::start();
    bed.end_in("math-101", "1h");
    assert_eq!(bed.stop_daemon(), Some(0));
    let journal = bed.path("state/journal/00000000000000000001.ndjson");
    let sound = std::fs::read(&journal).unwrap();
    let mut edited = sound.clone();
    edited[400] ^= 1;
    let queue = bed.path("state/queue");
    let current = std::fs::read_to_string(queue.join("CURRENT")).unwrap();
    let db = queue.join(current.trim()).join("db");
    let bytes = std::fs::read(&db).unwrap();
    std::fs::write(&db, vec![0x5a; bytes.len()]).unwrap();
    std::fs::write(&journal, edited).unwrap();
    let (code, said) = bed.says(&["audit", "verify", "--config", "schedule.toml"]);
    assert!(code == 1 && said.contains("00000000000000000001.ndjson:1: "), "{code}: {said}");
    does_not_start(&bed, 78, &["damaged", "state", "mv "]);

    // With a sound journal the same queue is rebuilt, and the job is there.
    std::fs::write(&journal, sound).unwrap();
    bed.start_daemon();
    assert_eq!(bed.json(&["list"])["jobs"].as_array().unwrap().len(), 1);
    let status = bed.json(&["status"]);
    let repaired = status["store"]["repaired"].as_str().unwrap_or_default();
    assert!(repaired.contains("set-aside"), "{status:#}");
    assert_eq!(bed.says(&["audit", "verify", "--config", "schedule.toml"]).0, 0);
}

#[test]
fn a_stale_socket_is_taken_over_and_a_live_one_is_not() {
    let mut bed = Plan::default().lay();
    drop(UnixListener::bind(bed.path("control.sock")).unwrap());
    bed.start_daemon();
    assert_eq!(bed.says(&["status"]).0, 0);

    // Another daemon, with a store of its own, wants the same socket.
    let file = std::fs::read_to_string(bed.schedule()).unwrap();
    let other = file.replace(&format!("{:?}", bed.path("state")), &format!("{:?}", bed.path("other-state")));
    std::fs::write(bed.schedule(), other).unwrap();
    does_not_start(&bed, 75, &["control.sock"]);
    assert_eq!(bed.says(&["status"]).0, 0, "the first one is still there");
}

#[test]
fn a_file_in_the_place_of_the_socket_is_not_removed() {
    let bed = Plan::default().lay();
    std::fs::write(bed.path("control.sock"), "precious").unwrap();
    does_not_start(&bed, 78, &["control.sock"]);
    assert_eq!(std::fs::read_to_string(bed.path("control.sock")).unwrap(), "precious");
}

#[test]
fn the_socket_has_the_mode_that_was_asked_for() {
    let bed = Bed::start();
    let mode = std::fs::metadata(bed.path("control.sock")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn names_from_strangers_cannot_play_with_the_terminal() {
    let bed = Bed::start();
    bed.sandbox.set_fault(Fault::NastyName.everywhere()).unwrap();
    bed.create("math-101");
    let (code, said) = bed.says(&["meetings", "campus"]);
    assert_eq!(code, 0, "{said}");
    assert!(said.contains("math-101"), "{said}");
    let bad = |c: char| {
        (c.is_control() && c != '\n')
            || ('\u{202a}'..='\u{202e}').contains(&c)
            || ('\u{2066}'..='\u{2069}').contains(&c)
    };
    assert!(!said.contains(bad), "{said:?}");
}

#[test]
fn a_time_in_the_past_in_the_file_is_a_note_not_an_error() {
    let bed = Plan::default().lay();
    bed.write_schedule(
        "",
        "[[end]]\nname = \"last-week\"\nserver = \"campus\"\nmeeting = \"m-1\"\nat = 2020-01-01T00:00:00Z\n",
    );
    let schedule = bed.schedule();
    let (code, said) = bed.says(&["check", schedule.to_str().unwrap()]);
    assert_eq!(code, 0, "{said}");
    assert!(said.contains("note") && said.contains("passed"), "{said}");
    let mut bed = bed;
    bed.start_daemon();
    assert!(bed.json(&["list"])["jobs"].as_array().unwrap().is_empty());
}

#[test]
fn a_room_of_janus_that_has_no_number_is_refused_at_once() {
    let bed = Plan {
        extra: "[servers.lab]\nplatform = \"janus\"\nurl = \"http://127.0.0.1:9/admin\"\n\
                admin-secret = { env = \"CAMPUS_SECRET\" }\n"
            .to_owned(),
        ..Plan::default()
    }
    .start();
    let (code, said) = bed.says(&["end", "lab", "physics", "--in", "1h"]);
    assert!(code == 1 && said.contains("rooms of this Janus have numbers"), "{code}: {said}");
    assert!(said.contains("string-ids = true"), "{said}");
    assert_eq!(bed.says(&["end", "lab", "4242", "--in", "1h"]).0, 0);
}
