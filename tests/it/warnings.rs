//! Telling the people inside, as they and their administrators see it.

use std::io::{BufRead, BufReader};
use std::process::{Child, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::time::Duration;

use adjourn::clock;
use adjourn::job::UtcMs;
use adjourn::sandbox::{Asked, Call, Fault, NewMeeting, Record, Settings, Version};
use serde_json::Value;

use crate::harness::{Bed, PATIENCE, Plan, check_truth, id_of};

/// A warning of a healthy server leaves within this.
const PROMPT: i64 = 1_500;

/// The lines that the chats were sent, with those that were refused.
fn lines(bed: &Bed) -> Vec<Record> {
    let asked = Asked { call: Some(Call::SendChatMessage), ..Asked::default() };
    bed.sandbox.truth(&asked).requests
}

#[track_caller]
fn wait_for_lines(bed: &Bed, count: usize) -> Vec<Record> {
    bed.wait_for("the people are told", |_| lines(bed).len() >= count);
    lines(bed)
}

fn time(job: &Value, name: &str) -> UtcMs {
    let at: jiff::Timestamp = job[name].as_str().unwrap().parse().unwrap();
    UtcMs::from(at)
}

/// The sentences of these facts.
fn told(job: &Value, event: &str) -> Vec<String> {
    let history = job["history"].as_array().unwrap().iter();
    let wanted = history.filter(|line| line["event"] == event);
    wanted.map(|line| line["text"].as_str().unwrap().to_owned()).collect()
}

#[track_caller]
fn wait_for_fact(bed: &Bed, id: &str, event: &str, count: usize) -> Vec<String> {
    bed.wait_for(event, |_| told(&bed.show(id), event).len() >= count);
    told(&bed.show(id), event)
}

/// `adjourn watch --json`, read on the side.
struct Events {
    watch: Child,
    lines: Receiver<Value>,
}

impl Events {
    fn watch(bed: &Bed) -> Events {
        let mut watch = bed.command(&["watch", "--json"]).stdout(Stdio::piped()).spawn().unwrap();
        let reader = BufReader::new(watch.stdout.take().unwrap());
        let (send, lines) = mpsc::channel();
        std::thread::spawn(move || {
            for line in reader.lines().map_while(Result::ok) {
                let sent = send.send(serde_json::from_str(&line).unwrap());
                if sent.is_err() {
                    return;
                }
            }
        });
        Events { watch, lines }
    }

    /// Everything up to so many events of this name.
    fn until(mut self, name: &str, count: usize) -> Vec<Value> {
        let mut seen: Vec<Value> = Vec::new();
        while seen.iter().filter(|event| event["event"] == name).count() < count {
            seen.push(self.lines.recv_timeout(PATIENCE).unwrap_or_else(|_| panic!("{seen:#?}")));
        }
        self.watch.kill().unwrap();
        self.watch.wait().unwrap();
        seen
    }
}

#[test]
fn the_people_are_told_in_time_and_anew_after_an_extension() {
    let bed = Bed::start();
    bed.create("math-101");
    let (code, said) = bed.says(&[
        "end",
        "campus",
        "math-101",
        "--in",
        "32s",
        "--warn",
        "30s,1h",
        "--warn-text",
        "{meeting}: {remaining}",
        "--warn-language",
        "de",
    ]);
    // The hour has passed already, but half a minute has not: the longer mark is told at once.
    assert!(code == 0 && said.contains("the people inside are told 1h and 30s before"), "{said}");
    let id = id_of(&bed.json(&["list"])["jobs"][0]);
    let first = wait_for_lines(&bed, 1);
    assert_eq!(first[0].text.as_deref(), Some("math-101: 32 Sekunden"));
    let due = time(&bed.show(&id), "due");
    let second = wait_for_lines(&bed, 2);
    let late = second[1].received_at.ms_since(due - Duration::from_secs(30));
    assert!((0..PROMPT).contains(&late), "{late} ms");
    assert_eq!(second[1].text.as_deref(), Some("math-101: 30 Sekunden"));
    assert_eq!(
        wait_for_fact(&bed, &id, "warning-due", 2),
        ["warning (mark 1h) delivered", "warning (mark 30s) delivered"]
    );

    let revision = bed.show(&id)["revision"].clone();
    bed.json(&["extend", &id, "3s"]);
    let due = time(&bed.show(&id), "due");
    let third = wait_for_lines(&bed, 4);
    assert_eq!(third[3].text.as_deref(), Some("math-101: 30 Sekunden"));
    let late = third[3].received_at.ms_since(due - Duration::from_secs(30));
    assert!((0..PROMPT).contains(&late), "{late} ms");
    assert_eq!(bed.show(&id)["revision"].as_u64(), revision.as_u64().map(|n| n + 1));
    bed.json(&["cancel", &id]);
}

#[test]
fn breakout_rooms_are_told_too() {
    let bed = Bed::start();
    bed.create("math-101");
    bed.create_meeting(NewMeeting { parent: Some("math-101".to_owned()), ..NewMeeting::new("math-101-1") });
    let id = id_of(&bed.json(&["end", "campus", "math-101", "--in", "25s", "--warn", "30s"]));
    assert_eq!(
        wait_for_fact(&bed, &id, "warning-due", 1),
        ["warning (mark 30s) delivered, to 1 breakout room too"]
    );
    let rooms: Vec<_> = lines(&bed).into_iter().filter_map(|line| line.instance).collect();
    assert_eq!(rooms.len(), 2);
    assert_ne!(rooms[0], rooms[1]);
}

#[test]
fn a_server_that_cannot_is_asked_once_and_named_once() {
    let settings = Settings { version: Version::V2_6, ..Settings::default() };
    let bed = Plan { settings, ..Plan::default() }.start();
    let watch = Events::watch(&bed);
    for (meeting, possible) in [("math-101", Value::Null), ("math-102", false.into())] {
        bed.create(meeting);
        let made = bed.json(&["end", "campus", meeting, "--in", "25s", "--warn", "30s"]);
        assert_eq!(made["telling"]["possible"], possible, "known once it was tried: {made}");
        let id = id_of(&made);
        let said = wait_for_fact(&bed, &id, "warning-due", 1);
        assert!(said[0].contains("not delivered: campus has no sendChatMessage"), "{said:?}");
        let (_, shown) = bed.says(&["show", &id]);
        assert!(shown.contains("30s before: not told: campus has no sendChatMessage"), "{shown}");
    }
    assert_eq!(lines(&bed).len(), 1);
    let seen = watch.until("warning-due", 2);
    let told = |event: &&Value| event["event"] == "warning-due";
    for event in seen.iter().filter(told) {
        assert_eq!((&event["mark"], &event["delivered"]), (&"30s".into(), &false.into()), "{event}");
    }
    let named = seen.iter().filter(|event| event["event"] == "warnings-unsupported").count();
    assert_eq!(named, 1, "{seen:#?}");
    let (_, said) = bed.says(&["end", "campus", "math-103", "--in", "5m", "--warn", "1m"]);
    assert!(said.contains("nobody inside can be told 1m before: campus has no sendChatMessage"), "{said}");
    let (_, status) = bed.says(&["status"]);
    assert!(status.contains("nobody can be warned: campus has no sendChatMessage"), "{status}");
}

#[test]
fn a_chat_that_hangs_delays_no_end() {
    let bed = Bed::start();
    bed.create("math-101");
    bed.sandbox.set_fault(Fault::Hang.on_meeting("math-101").call(Call::SendChatMessage)).unwrap();
    let id = id_of(&bed.json(&["end", "campus", "math-101", "--in", "14s", "--warn", "30s"]));
    assert_eq!(wait_for_lines(&bed, 1).len(), 1);
    let job = bed.outcome(&id);
    check_truth(&bed, &job);
    assert_eq!((&job["outcome"], &job["ends"]), (&"ended".into(), &1.into()), "{job:#}");
    let hit = bed.truth().instances("math-101")[0].hits[0].at;
    let late = hit.ms_since(time(&job, "due"));
    assert!((0..500).contains(&late), "{late} ms");
    let said = wait_for_fact(&bed, &id, "warning-due", 1);
    assert!(said[0].contains("not delivered"), "{said:?}");
    assert_eq!(lines(&bed).len(), 1, "what may have been shown is not sent again");
}

#[test]
fn what_was_being_sent_at_a_crash_is_not_sent_again() {
    let mut bed = Bed::start();
    bed.create("math-101");
    bed.sandbox.set_fault(Fault::Hang.on_meeting("math-101").call(Call::SendChatMessage)).unwrap();
    let id = id_of(&bed.json(&["end", "campus", "math-101", "--in", "5m", "--warn", "10m,1m"]));
    wait_for_lines(&bed, 1);
    bed.kill_daemon();
    bed.start_daemon();
    let said = wait_for_fact(&bed, &id, "warning-due", 1);
    assert!(said[0].contains("the daemon was stopped while it was being sent"), "{said:?}");
    assert_eq!(lines(&bed).len(), 1);
}

#[test]
fn marks_of_the_schedule_file_are_kept_and_a_far_deadline_is_warned_of() {
    // Nearer to due than jobs are held in memory for, the first mark is 12 minutes before.
    let due = clock::system_now().wall + Duration::from_secs(12 * 60 + 4);
    let extra = format!(
        "[[end]]\nname = \"exam\"\nserver = \"campus\"\nmeeting = \"exam\"\nat = \"{due}\"\nwarn = [\"1m\", \"12m\"]\n"
    );
    let mut bed = Plan { extra, ..Plan::default() }.lay();
    bed.create("exam");
    bed.start_daemon();
    let line = wait_for_lines(&bed, 1).remove(0);
    assert_eq!(line.text.as_deref(), Some("This meeting will be ended in 12 minutes."));
    let late = line.received_at.ms_since(due - Duration::from_secs(12 * 60));
    assert!((0..PROMPT).contains(&late), "{late} ms");
    let (_, said) = bed.says(&["export", "--with-schedule"]);
    assert!(said.contains("\"warn\":[\"12m\",\"1m\"]"), "{said}");
}
