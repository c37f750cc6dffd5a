//! A disk that fails or is full: new work is refused with 507, accepted work fires, and all is well when the disk is.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use reqwest::Method;
use serde_json::{Value, json};
use tokio::runtime::Runtime;

use crate::harness::{Bed, Plan, check_truth, id_of};
use crate::storm::client::{Answer, Wire};

/// Submits without an acknowledgement, until the disk is so full that one is refused.
const MOST_SUBMITS: usize = 20_000;

/// Submits a far deadline; the status, and the job or the problem.
fn submit(bed: &Bed, runtime: &Runtime, meeting: &str) -> (u16, Value) {
    let _inside = runtime.enter();
    let wire = Wire::new(bed.socket());
    let body = json!({"server": "campus", "meeting": meeting, "in": "9h"});
    match runtime.block_on(wire.ask(Method::POST, "jobs", &body, None)) {
        Answer::Done(status, body) | Answer::Refused(status, body) => (status, body),
        Answer::Lost => panic!("no answer\n{}", bed.log()),
    }
}

/// A deadline whose call went out while the disk could not be written, now that it can be again.
fn is_ended_and_durable(bed: &mut Bed, id: &str) {
    let job = bed.outcome(id);
    check_truth(bed, &job);
    assert_eq!(job["outcome"], "ended", "{job:#}");
    bed.wait_for("everything is written", |_| bed.json(&["status"])["store"]["behind"] == 0);
    bed.kill_daemon();
    bed.start_daemon();
    assert_eq!(bed.show(id)["outcome"], "ended");
}

/// Every sync of the daemon fails from now on, until the tracer is stopped. `None`: it may not trace here.
fn fail_syncs(bed: &Bed) -> Option<Child> {
    let pid = bed.daemon_pid().to_string();
    let mut strace = Command::new("strace");
    strace.args(["-f", "-e", "trace=fdatasync,fsync", "-e", "inject=fdatasync,fsync:error=EIO", "-p", &pid]);
    let mut strace = strace.stdin(Stdio::null()).stderr(Stdio::piped()).spawn().ok()?;
    let mut said = BufReader::new(strace.stderr.take().unwrap());
    let mut line = String::new();
    said.read_line(&mut line).unwrap();
    if !line.contains("attached") {
        let _ = strace.wait();
        eprintln!("strace said: {line}");
        return None;
    }
    // What it says must be read, or it stops in the middle.
    std::thread::spawn(move || std::io::copy(&mut said, &mut std::io::sink()));
    Some(strace)
}

#[test]
fn syncs_that_fail_refuse_new_work_and_keep_no_accepted_work_from_firing() {
    let mut bed = Bed::start();
    let runtime = Runtime::new().unwrap();
    bed.create("math-101");
    let id = bed.end_in("math-101", "4s");
    let Some(mut strace) = fail_syncs(&bed) else { return eprintln!("left out: strace cannot trace here") };
    let (status, problem) = submit(&bed, &runtime, "refused-1");
    assert_eq!(status, 507, "{problem}");
    assert!(problem["hint"].is_string(), "{problem}");
    bed.wait_for("the accepted deadline fires", |truth| !truth.instances("math-101")[0].hits.is_empty());
    assert!(bed.json(&["status"])["store"]["error"].is_string());

    // SIGTERM lets it detach.
    let stopped = Command::new("kill").arg(strace.id().to_string()).status().unwrap();
    assert!(stopped.success());
    strace.wait().unwrap();
    bed.wait_for("new work is taken again", |_| submit(&bed, &runtime, "accepted").0 == 201);
    is_ended_and_durable(&mut bed, &id);
    let jobs = bed.json(&["list"])["jobs"].as_array().unwrap().clone();
    assert!(jobs.iter().all(|job| job["meeting"] != "refused-1"), "{jobs:#?}");
}

#[test]
fn a_reload_that_cannot_be_written_changes_nothing() {
    let entry = |name: &str, at: &str| {
        format!("[[end]]\nname = \"{name}\"\nserver = \"campus\"\nmeeting = \"{name}\"\nat = {at}\n")
    };
    let both = entry("exam", "2099-01-01T10:00:00Z") + &entry("lecture", "2099-01-02T10:00:00Z");
    let mut bed = Plan { extra: both.clone(), ..Plan::default() }.start();
    bed.wait_for("both are there", |_| bed.json(&["list"])["jobs"].as_array().unwrap().len() == 2);
    let before = bed.json(&["list"]);
    let Some(mut strace) = fail_syncs(&bed) else { return eprintln!("left out: strace cannot trace here") };
    let edited = entry("exam", "2099-01-01T11:00:00Z") + &entry("seminar", "2099-01-03T10:00:00Z");
    bed.write_schedule("max-concurrent = 3", &edited);
    let (code, said) = bed.says(&["reload"]);
    assert!(code != 0 && said.contains("cannot be written"), "{code}: {said}");
    assert_eq!(bed.json(&["list"]), before);
    assert!(bed.json(&["status"])["schedule_error"].is_string());
    bed.signal("-HUP");
    bed.wait_for("the log says so", |_| bed.log().matches("the schedule was NOT applied").count() == 2);
    let stopped = Command::new("kill").arg(strace.id().to_string()).status().unwrap();
    assert!(stopped.success());
    strace.wait().unwrap();

    assert_eq!(bed.says(&["reload"]).1.lines().count(), 4, "the server, and three entries");
    assert!(bed.json(&["status"])["schedule_error"].is_null());
    bed.kill_daemon();
    bed.start_daemon();
    let jobs = bed.json(&["list", "--state", "waiting"])["jobs"].as_array().unwrap().clone();
    let dues: Vec<&Value> = jobs.iter().map(|job| &job["due"]).collect();
    assert_eq!(dues, ["2099-01-01T11:00:00.000Z", "2099-01-03T10:00:00.000Z"]);
}

/// The daemon's state directory becomes a small file system of its own, in a mount namespace of its own.
fn start_on_a_small_disk(bed: &mut Bed) -> bool {
    std::fs::create_dir_all(bed.path("state")).unwrap();
    let tried = Command::new("unshare").args(["-m", "mount", "-t", "tmpfs", "none", "/mnt"]).output();
    if !tried.is_ok_and(|output| output.status.success()) {
        return false;
    }
    let mount = format!("mount -t tmpfs -o size=48m,mode=700 none {:?} && exec \"$@\"", bed.path("state"));
    bed.start_daemon_as(|daemon| {
        crate::harness::under("unshare", &["-m", "sh", "-c", &mount, "sh"], &daemon)
    });
    true
}

#[test]
fn a_full_disk_refuses_new_work_and_keeps_no_accepted_work_from_firing() {
    let mut bed = Plan::default().lay();
    if !start_on_a_small_disk(&mut bed) {
        return eprintln!("left out: no file system can be mounted here");
    }
    let runtime = Runtime::new().unwrap();
    // The mount is seen only from inside.
    let filler = format!("/proc/{}/root{}", bed.daemon_pid(), bed.path("state/filler").display());
    fill(Path::new(&filler));
    let refused = (0..MOST_SUBMITS).map(|n| submit(&bed, &runtime, &format!("{n}-{}", "x".repeat(180))));
    let (status, problem) = refused.into_iter().find(|(status, _)| *status != 201).expect("it is never full");
    assert_eq!(status, 507, "{problem}");

    std::fs::remove_file(&filler).unwrap();
    bed.create("math-101");
    let id = id_of(&bed.json(&["end", "campus", "math-101", "--in", "6s"]));
    fill(Path::new(&filler));
    bed.wait_for("the accepted deadline fires", |truth| !truth.instances("math-101")[0].hits.is_empty());
    std::fs::remove_file(&filler).unwrap();
    bed.wait_for("new work is taken again", |_| submit(&bed, &runtime, "accepted").0 == 201);
    let job = bed.outcome(&id);
    check_truth(&bed, &job);
    assert_eq!(job["outcome"], "ended", "{job:#}");
    assert_eq!(bed.stop_daemon(), Some(0));
}

/// To the last byte.
fn fill(path: &Path) {
    let mut file = std::fs::File::create(path).unwrap();
    for size in [1 << 20, 4096] {
        let block = vec![7; size];
        while file.write_all(&block).is_ok() {}
    }
}
