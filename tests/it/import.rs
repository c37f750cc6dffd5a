//! Deadlines by the thousand: in, out, and counted.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Output, Stdio};

use serde_json::{Value, json};

use crate::harness::{Bed, id_of, text};

fn write(bed: &Bed, name: &str, lines: &[String]) -> PathBuf {
    let path = bed.path(name);
    std::fs::write(&path, lines.join("\n") + "\n").unwrap();
    path
}

fn keyed(n: usize) -> String {
    json!({"server": "campus", "meeting": format!("course-{n}"), "at": "2098-01-01T00:00:00Z", "key": format!("booking-{n}")})
        .to_string()
}

fn import(bed: &Bed, file: &str) -> Output {
    bed.run(&["import", file])
}

/// The lines of an export, in an order of their own.
fn exported(bed: &Bed, args: &[&str]) -> BTreeSet<String> {
    let output = bed.run(&[&["export"], args].concat());
    assert!(output.status.success(), "{output:?}");
    text(&output.stdout).lines().map(ToOwned::to_owned).collect()
}

#[test]
fn twenty_thousand_lines_a_kill_in_the_middle_and_every_line_is_one_job() {
    const LINES: usize = 20_000;
    let mut bed = Bed::start();
    let lines: Vec<String> = (0..LINES).map(keyed).collect();
    let file = write(&bed, "term.ndjson", &lines);
    let file = file.to_str().unwrap();
    let mut first = bed
        .command(&["import", file, "--json"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut answers = BufReader::new(first.stdout.take().unwrap());
    let mut promised = BTreeMap::new();
    let mut note = |line: &str| {
        let answer: Value = serde_json::from_str(line).unwrap();
        promised.insert(answer["line"].as_u64().unwrap(), id_of(&answer));
    };
    for _ in 0..LINES / 10 {
        let mut line = String::new();
        answers.read_line(&mut line).unwrap();
        note(&line);
    }
    bed.kill_daemon();
    answers.lines().for_each(|line| note(&line.unwrap()));
    let output = first.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(69), "{}", text(&output.stderr));
    assert!(text(&output.stderr).contains("import the same file again"), "{}", text(&output.stderr));
    assert!(promised.len() < LINES, "the kill came too late");

    bed.start_daemon();
    let again = bed.run(&["import", file, "--json"]);
    assert!(again.status.success(), "{}", text(&again.stderr));
    let mut ids = BTreeSet::new();
    for line in text(&again.stdout).lines() {
        let answer: Value = serde_json::from_str(line).unwrap();
        let id = id_of(&answer);
        if let Some(before) = promised.get(&answer["line"].as_u64().unwrap()) {
            assert_eq!(
                (*before == id, &answer["existing"]),
                (true, &json!(true)),
                "what was answered is durable"
            );
        }
        ids.insert(id);
    }
    assert_eq!(ids.len(), LINES);
    assert_eq!(bed.json(&["status"])["jobs"]["waiting"], LINES);
    let said = text(&import(&bed, file).stdout);
    assert_eq!(said, format!("0 accepted, {LINES} existing, 0 refused\n"));
}

#[test]
fn a_bad_line_is_named_and_stops_no_other() {
    let bed = Bed::start();
    let lines = [
        keyed(1),
        "{not json".to_owned(),
        json!({"server": "nowhere", "meeting": "m", "in": "1h"}).to_string(),
        String::new(),
        json!({"server": "campus", "meeting": "m", "at": "2020-01-01T00:00:00Z"}).to_string(),
        json!({"server": "campus", "meeting": "m", "in": "1h", "colour": "red"}).to_string(),
        json!({"server": "campus", "meeting": "m", "in": "1h", "key": "schedule:exam"}).to_string(),
        json!({"server": "campus", "meeting": "other", "in": "1h", "key": "booking-1"}).to_string(),
        keyed(1),
        json!({"server": "campus", "meeting": "x".repeat(70_000), "in": "1h"}).to_string(),
        json!({"server": "campus", "meeting": "last", "in": "1h"}).to_string(),
    ];
    let file = write(&bed, "mixed.ndjson", &lines);
    let output = import(&bed, file.to_str().unwrap());
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    assert_eq!((output.status.code(), &*out), (Some(1), "2 accepted, 1 existing, 7 refused\n"), "{err}");
    for (line, part) in [
        (2, "the line is not JSON"),
        (3, "no server \"nowhere\""),
        (5, "has passed"),
        (6, "unknown field `colour`"),
        (7, "belong to the schedule file"),
        (8, "belongs to job"),
        (10, "longer than 65536 bytes"),
    ] {
        let said = err.lines().find(|said| said.starts_with(&format!("line {line}: ")));
        assert!(said.is_some_and(|said| said.contains(part) && said.ends_with(')')), "{line}: {part}\n{err}");
    }
    assert_eq!(bed.json(&["status"])["jobs"]["waiting"], 2);
}

#[test]
fn a_dry_run_needs_no_daemon_and_submits_nothing() {
    let bed = crate::harness::Plan::default().lay();
    let bad = json!({"server": "campus", "meeting": "m", "at": "2098-01-01T00:00"}).to_string();
    let file = write(
        &bed,
        "term.ndjson",
        &[keyed(1), json!({"server": "a", "meeting": "m", "in": "1h"}).to_string(), bad],
    );
    let (code, said) = bed.says(&["import", "--dry-run", file.to_str().unwrap()]);
    assert_eq!(code, 1, "{said}");
    assert!(said.contains("2 lines are good, 1 are not"), "{said}");
    assert!(said.contains("line 3:") && said.contains("has neither an offset nor a time zone"), "{said}");
    assert!(said.contains("1 lines have no key"), "{said}");
    assert_eq!(bed.says(&["import", file.to_str().unwrap()]).0, 69);
    assert_eq!(bed.says(&["import", "no-such-file"]).0, 2);
}

#[test]
fn what_one_daemon_exports_another_imports_and_exports_the_same() {
    let (from, to) = (Bed::start(), Bed::start());
    for args in [
        vec![
            "math",
            "--at",
            "2098-01-01T00:00:00.123Z",
            "--key",
            "k 1",
            "--instance",
            "abc-1",
            "--expect",
            "live",
        ],
        vec!["math", "--in", "2h", "--late-limit", "0s", "--keep-closed", "10m", "--prove-within", "90m"],
        vec!["ünïcode \"7\"", "--in", "3h", "--give-up-after", "26h"],
        vec!["held", "--in", "4h"],
        vec!["held for a while", "--in", "5h"],
    ] {
        assert_eq!(from.says(&[&["end", "campus"], &args[..]].concat()).0, 0);
    }
    let jobs = from.json(&["list"])["jobs"].clone();
    for (meeting, more) in [("held", vec![]), ("held for a while", vec!["--for", "1h"])] {
        let job = jobs.as_array().unwrap().iter().find(|job| job["meeting"] == meeting).unwrap();
        assert_eq!(from.says(&[&["hold", &id_of(job)], &more[..]].concat()).0, 0);
    }
    from.says(&["end", "campus", "over", "--in", "200ms", "--wait"]);
    let lines = exported(&from, &[]);
    assert_eq!(lines.len(), 5, "{lines:?}");

    let mut import = to.command(&["import"]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let all: Vec<String> = lines.iter().cloned().collect();
    import.stdin.take().unwrap().write_all(all.join("\n").as_bytes()).unwrap();
    let output = import.wait_with_output().unwrap();
    assert_eq!(text(&output.stdout), "5 accepted, 0 existing, 0 refused\n");
    assert_eq!(exported(&to, &[]), lines);
    let states = |bed: &Bed| {
        let list = bed.json(&["list", "--state", "waiting,held"]);
        let job = |job: &Value| {
            ["server", "meeting", "instance", "due", "state", "held_until"].map(|name| job[name].to_string())
        };
        list["jobs"].as_array().unwrap().iter().map(job).collect::<BTreeSet<_>>()
    };
    assert_eq!(states(&to), states(&from));
    assert_eq!(exported(&to, &["--state", "held"]).len(), 2);
    let (code, said) = to.says(&["export", "--server", "elsewhere"]);
    assert!(code == 1 && said.contains("there is no server elsewhere"), "a typo is no success: {said}");
}

#[test]
fn what_is_imported_to_be_due_soon_is_ended_in_time() {
    let bed = Bed::start();
    let mut lines: Vec<String> = (0..600).map(keyed).collect();
    bed.create("math-101");
    lines.push(json!({"server": "campus", "meeting": "math-101", "in": "700ms", "key": "soon"}).to_string());
    let file = write(&bed, "term.ndjson", &lines);
    assert!(import(&bed, file.to_str().unwrap()).status.success());
    let soon = bed.json(&["list", "--until", "1h"])["jobs"][0].clone();
    let job = bed.outcome(&id_of(&soon));
    crate::harness::check_truth(&bed, &job);
    assert_eq!(job["outcome"], "ended", "{job:#}");
    let scrape = scrape(&bed);
    let has = |line: &str| scrape.lines().any(|known| known.starts_with(line));
    assert!(
        has("adjourn_outcomes_total{platform=\"bigbluebutton\",server=\"campus\",outcome=\"ended\"} 1"),
        "{scrape}"
    );
    assert!(
        has("adjourn_lateness_seconds_count{platform=\"bigbluebutton\",server=\"campus\"} 1"),
        "{scrape}"
    );
    assert!(has("adjourn_import_lines_total{result=\"accepted\"} 601"), "{scrape}");
    assert!(has("adjourn_jobs{state=\"waiting\"} 600"), "{scrape}");
    assert!(
        has("adjourn_requests_total{method=\"POST\",route=\"/v1/jobs/import\",status=\"200\"} 1"),
        "{scrape}"
    );
    assert!(!scrape.contains("math-101") && !scrape.contains(bed.sandbox.secret()), "{scrape}");
}

fn scrape(bed: &Bed) -> String {
    let mut stream = UnixStream::connect(bed.path("control.sock")).unwrap();
    write!(stream, "GET /metrics HTTP/1.1\r\nHost: adjourn\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(
        answer.contains("application/openmetrics-text") && answer.trim_end().ends_with("# EOF"),
        "{answer}"
    );
    answer
}
