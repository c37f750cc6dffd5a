//! `adjourn compact`: a queue that was large gives its space back, and the daemon finds every job again.

use std::path::Path;
use std::sync::mpsc::channel;

use adjourn::job::{BootMs, By, Fact, Job, JobId, Limits, Now, Order, Origin, Outcome, UtcMs};
use adjourn::store::{Change, Checker, Queue, Store};
use serde_json::Value;

use crate::harness::{Bed, Plan};

const PEAK: u64 = 2_000;
const LEFT: u64 = 7;

/// A queue that once held many jobs, and now these few.
fn after_a_peak(state: &Path) {
    // A new store has no files that would have to be looked at first.
    let queue = Queue::open(state, Checker::InProcess).unwrap();
    let commit = |batch: Vec<Change>| {
        let (send, receive) = channel();
        queue.commit(batch, Box::new(move |result| send.send(result).unwrap()));
        receive.recv().unwrap().unwrap();
    };
    let jobs: Vec<Job> = (0..PEAK).map(job).collect();
    let put = |job: &Job, expected| Change::Put { job: Box::new(job.clone()), expected };
    for jobs in jobs.chunks(500) {
        commit(jobs.iter().map(|job| put(job, None)).collect());
    }
    let gone = jobs.iter().skip(usize::try_from(LEFT).unwrap());
    let gone: Vec<&Job> = gone.collect();
    for jobs in gone.chunks(500) {
        let over = jobs.iter().map(|job| {
            let mut over = (*job).clone();
            over.record(now(), Fact::Concluded { outcome: Outcome::Cancelled, reason: "enough".into() });
            put(&over, Some(job.revision))
        });
        commit(over.collect());
        commit(jobs.iter().map(|job| Change::Remove(job.id)).collect());
    }
}

fn job(n: u64) -> Job {
    let order = Order {
        id: JobId(uuid::Uuid::from_u64_pair((n << 16) | 0x7000, 0x8000_0000_0000_0000 | n)),
        server: "campus".into(),
        meeting: format!("meeting-{n}").as_str().into(),
        only: None,
        key: None,
        limits: Limits::default(),
        at_most: None,
        max_duration: None,
        due: UtcMs(now().wall.0 + 86_400_000),
        origin: Origin::Cli,
        by: By::Schedule,
    };
    Job::submit(order, now())
}

fn now() -> Now {
    Now { boot: BootMs(0), ..adjourn::clock::system_now() }
}

#[test]
fn a_peak_is_given_back_and_every_job_is_still_there() {
    let mut bed = Plan::default().lay();
    let state = bed.path("state");
    after_a_peak(&state);

    let (code, said) = bed.says(&["compact", "--state-dir", "state", "--if-needed"]);
    assert_eq!(code, 0, "{said}");
    assert!(said.starts_with("not needed: "), "{said}");

    let schedule = bed.schedule();
    let answer = bed.json(&["compact", "--config", schedule.to_str().unwrap()]);
    let of = |key: &str| answer[key].as_u64().unwrap();
    assert_eq!(answer["compacted"], Value::Bool(true));
    assert!(of("bytes_now") < of("bytes_before"), "{answer}");
    assert!((1..of("bytes_now")).contains(&of("live_bytes")), "{answer}");

    let (code, said) = bed.says(&["compact", "--state-dir", "state"]);
    assert_eq!(code, 0, "{said}");
    assert!(said.starts_with("compacted: ") && said.contains("iB before, "), "{said}");

    bed.start_daemon();
    let jobs = bed.json(&["list"]);
    let meetings: Vec<&str> =
        jobs["jobs"].as_array().unwrap().iter().map(|job| job["meeting"].as_str().unwrap()).collect();
    assert_eq!(meetings.len() as u64, LEFT, "{jobs}");
    for n in 0..LEFT {
        assert!(meetings.contains(&format!("meeting-{n}").as_str()), "{jobs}");
    }
}

#[test]
fn a_running_daemon_is_not_disturbed() {
    let bed = Bed::start();
    let (code, said) = bed.says(&["compact", "--state-dir", "state"]);
    assert_eq!(code, 75, "{said}");
    assert!(said.contains(&format!("pid {}", bed.daemon_pid())), "{said}");
    assert!(said.contains("stop the daemon first"), "{said}");
    bed.end_in("math-101", "1h");
}

#[test]
fn where_there_is_no_queue_none_is_made() {
    let bed = Plan::default().lay();
    let (code, said) = bed.says(&["compact", "--state-dir", "elsewhere"]);
    assert_eq!(code, 78, "{said}");
    assert!(said.contains("there is no queue in elsewhere"), "{said}");
    assert!(!bed.path("elsewhere").exists());

    let (code, said) = bed.says(&["compact", "--config", "nowhere.toml"]);
    assert_eq!(code, 78, "{said}");
    assert!(said.contains("--state-dir"), "{said}");
}
