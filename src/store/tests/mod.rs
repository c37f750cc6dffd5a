//! Helpers, and what the store promises while the disk is well.

mod compact;
mod damage;
mod faults;
mod journal;
mod model;

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::path::Path;
use std::process::Command;
use std::sync::mpsc::channel;

use uuid::Uuid;

use super::{Change, Checker, Counts, Filter, OpenError, Queue, Store, StoreError};
use crate::job::{
    BootMs, By, Fact, Job, JobId, Key, Limits, MeetingId, Now, Order, Origin, Outcome, ServerName, State,
    UtcMs,
};
use crate::platform::{Memory, NodeMemory};

pub(super) fn now(ms: i64) -> Now {
    Now { wall: UtcMs(ms), boot: BootMs(ms) }
}

/// UUIDv7 in shape: a later number is a newer job, and its last digits differ.
pub(super) fn id(n: u64) -> JobId {
    JobId(Uuid::from_u64_pair((n << 16) | 0x7000, 0x8000_0000_0000_0000 | n))
}

fn order(n: u64, due: i64) -> Order {
    Order {
        id: id(n),
        server: "campus".into(),
        meeting: "math".into(),
        only: None,
        key: None,
        limits: Limits::default(),
        at_most: None,
        max_duration: None,
        due: UtcMs(due),
        origin: Origin::Cli,
        by: By::Schedule,
    }
}

pub(super) fn job(n: u64, due: i64) -> Job {
    Job::submit(order(n, due), now(1))
}

fn keyed(n: u64, key: &str) -> Job {
    let key = Key { key: key.to_owned(), fingerprint: "f".to_owned() };
    Job::submit(Order { key: Some(key), ..order(n, 10) }, now(1))
}

fn moved(job: &Job, to: i64) -> Job {
    let mut job = job.clone();
    job.record(now(2), Fact::Moved { to: UtcMs(to), extension: false, by: By::Schedule });
    job
}

fn done(job: &Job, at: i64) -> Job {
    let mut job = job.clone();
    job.record(now(at), Fact::Concluded { outcome: Outcome::Cancelled, reason: "enough".into() });
    job
}

fn new(job: &Job) -> Change {
    Change::Put { job: Box::new(job.clone()), expected: None }
}

fn update(job: &Job, expected: u64) -> Change {
    Change::Put { job: Box::new(job.clone()), expected: Some(expected) }
}

pub(super) fn commit(queue: &Queue, batch: Vec<Change>) -> Result<(), StoreError> {
    let (send, receive) = channel();
    queue.commit(batch, Box::new(move |result| send.send(result).unwrap()));
    receive.recv().unwrap()
}

fn open(dir: &Path) -> Queue {
    Queue::open(dir, Checker::InProcess).unwrap()
}

fn ids(jobs: &[Job]) -> Vec<JobId> {
    jobs.iter().map(|job| job.id).collect()
}

/// Runs [`check_child`] in a process of its own.
pub(super) fn check_command(generation: &Path) -> std::io::Result<Command> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["--exact", "store::tests::check_child", "--nocapture"]);
    command.env(CHECKED, generation);
    Ok(command)
}

const CHECKED: &str = "ADJOURN_TEST_CHECKED";

/// By itself a test of an empty directory; started by [`check_command`], the check of the one that it names.
#[test]
#[expect(clippy::exit, reason = "the exit code is the answer")]
fn check_child() {
    if let Some(path) = std::env::var_os(CHECKED) {
        std::process::exit(i32::from(super::check::child(Path::new(&path))));
    }
    let empty = tempfile::tempdir().unwrap();
    let mut command = check_command(empty.path()).unwrap();
    assert!(super::check::asked(&mut command, false).status().unwrap().success());
}

#[test]
fn what_is_committed_is_there_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let memory =
        Memory { nodes: BTreeMap::from([(String::new(), NodeMemory::default())]), ..Memory::default() };
    let (one, two) = (keyed(1, "k"), job(2, 20));
    let queue = open(dir.path());
    let remember = Change::Remember { server: "campus".into(), memory: memory.clone() };
    commit(&queue, vec![new(&one), remember]).unwrap();
    commit(&queue, vec![new(&two)]).unwrap();
    drop(queue);

    let queue = Queue::open(dir.path(), Checker::TestChild).unwrap();
    assert_eq!(queue.get(one.id).unwrap(), Some(one.clone()));
    assert_eq!(queue.get(two.id).unwrap(), Some(two.clone()));
    assert_eq!(queue.get(id(3)).unwrap(), None);
    assert_eq!(queue.by_key(&one.server, "k").unwrap(), Some(one.id));
    assert_eq!(queue.memory(&"campus".into()).unwrap(), Some(memory));
    assert_eq!(queue.memory(&"other".into()).unwrap(), None);
    assert_eq!(queue.counts().unwrap()[&State::Waiting], 2);
    assert_eq!(queue.next_wake(UtcMs(11)).unwrap(), Some(UtcMs(20)));
}

#[test]
fn batches_commit_and_answer_in_the_order_of_the_calls() {
    let dir = tempfile::tempdir().unwrap();
    let queue = open(dir.path());
    let (send, receive) = channel();
    let mut job = job(1, 10);
    for n in 0..200 {
        let expected = (n > 0).then_some(job.revision);
        if n > 0 {
            job = moved(&job, n);
        }
        let send = send.clone();
        let change = Change::Put { job: Box::new(job.clone()), expected };
        queue.commit(vec![change], Box::new(move |result| send.send((n, result.is_ok())).unwrap()));
    }
    drop(send);
    let answers: Vec<_> = receive.iter().collect();
    assert_eq!(answers, (0..200).map(|n| (n, true)).collect::<Vec<_>>());
    assert_eq!(queue.get(job.id).unwrap(), Some(job));
}

#[test]
fn a_batch_with_a_stale_revision_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let queue = open(dir.path());
    let one = job(1, 10);
    commit(&queue, vec![new(&one)]).unwrap();
    let check = |change: Change, expected: Option<u64>, found: Option<u64>| {
        let other = job(9, 5);
        match commit(&queue, vec![new(&other), change]) {
            Err(StoreError::Revision { expected: e, found: f, .. }) => assert_eq!((e, f), (expected, found)),
            other => panic!("{other:?}"),
        }
        assert_eq!(queue.get(other.id).unwrap(), None, "the rest of the batch was written");
    };
    check(new(&one), None, Some(1));
    check(update(&moved(&one, 20), 7), Some(7), Some(1));
    check(update(&job(2, 20), 1), Some(1), None);
    assert_eq!(queue.get(one.id).unwrap(), Some(one));
}

#[test]
fn a_batch_sees_its_own_changes_and_those_before_it() {
    let dir = tempfile::tempdir().unwrap();
    let queue = open(dir.path());
    let one = job(1, 10);
    let two = moved(&one, 20);
    commit(&queue, vec![new(&one), update(&two, one.revision), new(&job(2, 5))]).unwrap();
    assert_eq!(queue.get(one.id).unwrap(), Some(two));
    assert_eq!(queue.counts().unwrap()[&State::Waiting], 2);
    assert_eq!(ids(&queue.due_before(UtcMs(100), None, 9).unwrap()), [id(2), id(1)]);
}

#[test]
fn an_idempotency_key_belongs_to_one_job_of_a_server_until_that_is_forgotten() {
    let dir = tempfile::tempdir().unwrap();
    let queue = open(dir.path());
    let one = keyed(1, "k");
    commit(&queue, vec![new(&one)]).unwrap();
    let taken = commit(&queue, vec![new(&job(3, 1)), new(&keyed(2, "k"))]);
    assert!(matches!(taken, Err(StoreError::KeyTaken { id: holder, .. }) if holder == one.id), "{taken:?}");
    let same_batch = commit(&queue, vec![new(&keyed(4, "x")), new(&keyed(5, "x"))]);
    assert!(matches!(same_batch, Err(StoreError::KeyTaken { .. })), "{same_batch:?}");
    assert_eq!(queue.by_key(&one.server, "x").unwrap(), None);

    let mut elsewhere = keyed(6, "k");
    elsewhere.server = "other".into();
    commit(&queue, vec![new(&elsewhere)]).unwrap();
    let over = done(&one, 50);
    commit(&queue, vec![update(&over, one.revision)]).unwrap();
    assert_eq!(queue.by_key(&one.server, "k").unwrap(), Some(one.id), "kept while the done job is");
    commit(&queue, vec![Change::Remove(one.id), new(&keyed(7, "k"))]).unwrap();
    assert_eq!(queue.by_key(&one.server, "k").unwrap(), Some(id(7)));
    assert_eq!(queue.get(one.id).unwrap(), None);
}

#[test]
fn the_indexes_follow_the_job() {
    let dir = tempfile::tempdir().unwrap();
    let queue = open(dir.path());
    let one = job(1, 10);
    let of_meeting = || ids(&queue.of_meeting(&one.server, &one.meeting).unwrap());
    commit(&queue, vec![new(&one), new(&job(2, 15))]).unwrap();
    assert_eq!(of_meeting(), [id(1), id(2)]);

    let later = moved(&one, 20);
    commit(&queue, vec![update(&later, one.revision)]).unwrap();
    assert_eq!(of_meeting(), [id(2), id(1)], "in order of due");
    assert_eq!(queue.next_wake(UtcMs(0)).unwrap(), Some(UtcMs(15)));
    assert_eq!(ids(&queue.due_before(UtcMs(20), None, 9).unwrap()), [id(2)], "before, not at");

    let over = done(&later, 500);
    commit(&queue, vec![update(&over, later.revision)]).unwrap();
    assert_eq!(of_meeting(), [id(2)]);
    assert_eq!(queue.done_before(UtcMs(500), 9).unwrap(), []);
    assert_eq!(queue.done_before(UtcMs(501), 9).unwrap(), [id(1)]);
    assert_eq!(queue.of_meeting(&one.server, &MeetingId::from("mat")).unwrap(), []);

    commit(&queue, vec![Change::Remove(one.id), Change::Remove(id(77))]).unwrap();
    assert_eq!(queue.done_before(UtcMs(501), 9).unwrap(), []);
    assert_eq!(queue.by_suffix("00000001", 9).unwrap(), []);
    let not_done = commit(&queue, vec![Change::Remove(id(2))]);
    assert!(matches!(not_done, Err(StoreError::NotDone(job)) if job == id(2)), "{not_done:?}");
}

#[test]
fn jobs_that_wait_for_a_start_are_found_by_their_meeting_until_it_comes() {
    let dir = tempfile::tempdir().unwrap();
    let queue = open(dir.path());
    let hour = Some(std::time::Duration::from_secs(3600));
    let waiting = |n, due| Job::submit(Order { max_duration: hour, due, ..order(n, 0) }, now(1));
    // Alone, and together with a time of its own.
    let (alone, both) = (waiting(1, UtcMs::NEVER), waiting(2, UtcMs(15)));
    commit(&queue, vec![new(&alone), new(&both), new(&job(3, 15))]).unwrap();
    drop(queue);
    let queue = Queue::open(dir.path(), Checker::TestChild).unwrap();
    let awaiting = |meeting: &str| ids(&queue.awaiting(&"campus".into(), &meeting.into()).unwrap());
    assert_eq!(awaiting("math"), [id(1), id(2)]);
    assert_eq!(awaiting("mat"), []);
    assert!(queue.any_awaiting(&"campus".into()).unwrap());
    assert!(!queue.any_awaiting(&"camp".into()).unwrap());
    assert_eq!(queue.next_wake(UtcMs(16)).unwrap(), None, "there is no time to wake one at");

    let mut started = alone.clone();
    started.record(now(5), Fact::Started { instance: "i".into(), started_at: None, due: UtcMs(3_600_005) });
    commit(&queue, vec![update(&started, alone.revision)]).unwrap();
    assert_eq!(awaiting("math"), [id(2)]);
    assert_eq!(queue.next_wake(UtcMs(16)).unwrap(), Some(UtcMs(3_600_005)));
    commit(&queue, vec![update(&done(&both, 9), both.revision)]).unwrap();
    assert!(!queue.any_awaiting(&"campus".into()).unwrap());
}

#[test]
fn due_jobs_come_in_order_and_in_pages() {
    let dir = tempfile::tempdir().unwrap();
    let queue = open(dir.path());
    let dues = [30, -5, 10, 10, 40, 10];
    let batch = dues.iter().enumerate().map(|(n, due)| new(&job(n as u64, *due))).collect();
    commit(&queue, batch).unwrap();
    let mut after = None;
    let mut seen = Vec::new();
    loop {
        let page = queue.due_before(UtcMs(40), after, 2).unwrap();
        let Some(last) = page.last() else { break };
        after = Some((last.due, last.id));
        seen.extend(page.iter().map(|job| (job.due.0, job.id)));
        assert!(page.len() <= 2);
    }
    assert_eq!(seen, [(-5, id(1)), (10, id(2)), (10, id(3)), (10, id(5)), (30, id(0))]);
    assert_eq!(queue.due_before(UtcMs(10), Some((UtcMs(40), id(4))), 2).unwrap(), []);
    assert_eq!(queue.next_wake(UtcMs(41)).unwrap(), None);
}

#[test]
fn counts_follow_every_change() {
    let dir = tempfile::tempdir().unwrap();
    let queue = open(dir.path());
    let counts = || -> Counts { queue.counts().unwrap().into_iter().filter(|(_, n)| *n > 0).collect() };
    assert_eq!(counts(), Counts::new());
    let one = job(1, 10);
    let mut held = one.clone();
    held.record(now(3), Fact::Held { until: None, by: By::Schedule });
    commit(&queue, vec![new(&one), new(&job(2, 10))]).unwrap();
    commit(&queue, vec![update(&held, one.revision)]).unwrap();
    assert_eq!(counts(), Counts::from([(State::Waiting, 1), (State::Held, 1)]));
    let over = done(&held, 9);
    commit(&queue, vec![update(&over, held.revision)]).unwrap();
    assert_eq!(counts(), Counts::from([(State::Waiting, 1), (State::Done, 1)]));
    commit(&queue, vec![Change::Remove(one.id)]).unwrap();
    assert_eq!(counts(), Counts::from([(State::Waiting, 1)]));
}

/// Every filter, by both ways through the store: with few done jobs and with many.
#[test]
fn pages_are_newest_first_and_filtered() {
    for finished in [1, 40] {
        let dir = tempfile::tempdir().unwrap();
        let queue = open(dir.path());
        let mut jobs: Vec<Job> = (0..10).map(|n| job(n, n.cast_signed() * 10)).collect();
        jobs[3].server = "other".into();
        jobs.extend((10..10 + finished).map(|n| done(&job(n, 5), 60)));
        commit(&queue, jobs.iter().map(new).collect()).unwrap();
        let check = |filter: Filter, wanted: &dyn Fn(&Job) -> bool| {
            let mut expected: Vec<JobId> = jobs.iter().filter(|job| wanted(job)).map(|job| job.id).collect();
            expected.reverse();
            let (mut seen, mut before) = (Vec::<JobId>::new(), None);
            while let Some(last) = {
                let page = ids(&queue.page(&filter, before, 3).unwrap());
                assert!(page.len() <= 3);
                seen.extend(&page);
                page.last().copied()
            } {
                before = Some(last);
            }
            assert_eq!(seen, expected, "{filter:?}");
        };
        let any = Filter::default;
        let waiting = || Filter { states: vec![State::Waiting, State::Held], ..any() };
        check(any(), &|_| true);
        check(waiting(), &|job| job.state == State::Waiting);
        check(Filter { server: Some("other".into()), ..waiting() }, &|job| job.server == "other".into());
        check(Filter { server: Some("campus".into()), ..any() }, &|job| job.server == "campus".into());
        check(Filter { outcomes: vec![Outcome::Cancelled], ..any() }, &|job| job.is_done());
        check(Filter { outcomes: vec![Outcome::Ended], ..any() }, &|_| false);
        let window = Filter { since: Some(UtcMs(20)), until: Some(UtcMs(50)), ..waiting() };
        check(window, &|job| (20..50).contains(&job.due.0));
    }
}

#[test]
fn ids_are_found_by_their_end() {
    let dir = tempfile::tempdir().unwrap();
    let queue = open(dir.path());
    commit(&queue, [0x1_abcd, 0x2_abcd, 0xabce].map(|n| new(&job(n, 1))).to_vec()).unwrap();
    let found = |suffix: &str, limit: usize| queue.by_suffix(suffix, limit).unwrap();
    assert_eq!(found("2abcd", 9), [id(0x2_abcd)]);
    assert_eq!(found("2ABCD", 9), [id(0x2_abcd)]);
    assert_eq!(found("abcd", 9).len(), 2);
    assert_eq!(found("abcd", 1).len(), 1);
    assert_eq!(found(&id(0xabce).to_string(), 9), [id(0xabce)]);
    for nothing in ["bcd", "", "abcx", "ffff", "ä12345"] {
        assert_eq!(found(nothing, 9), [], "{nothing}");
    }
}

#[test]
fn a_second_opener_hears_who_holds_the_store() {
    let dir = tempfile::tempdir().unwrap();
    let queue = open(dir.path());
    let error = refusal(dir.path());
    assert!(matches!(error, OpenError::Held { pid: Some(pid), .. } if pid == std::process::id()), "{error}");
    drop(queue);
    open(dir.path());
}

#[test]
fn a_newer_format_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    drop(open(dir.path()));
    let files = dir.path().join("queue/000001");
    let generation = super::generation::Generation::open(&files).unwrap();
    generation.db.insert(super::keys::FORMAT, 4_u32.to_be_bytes().to_vec()).unwrap();
    drop(generation);
    let error = Queue::open(dir.path(), Checker::TestChild).err().unwrap();
    assert!(matches!(error, OpenError::Newer { found: 4, known: 3, .. }), "{error}");
    assert!(error.to_string().contains("newer adjourn"));
}

#[test]
fn after_close_reads_work_and_commits_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let queue = open(dir.path());
    let (send, receive) = channel();
    for n in 0..50 {
        let send = send.clone();
        queue.commit(vec![new(&job(n, 1))], Box::new(move |result| send.send(result.is_ok()).unwrap()));
    }
    queue.close();
    drop(send);
    assert_eq!(receive.iter().filter(|ok| *ok).count(), 50, "what was queued is committed first");
    assert!(matches!(commit(&queue, vec![new(&job(99, 1))]), Err(StoreError::Closed)));
    assert!(queue.get(id(49)).unwrap().is_some());
    queue.close();
}

#[test]
fn the_last_handle_may_go_in_an_answer() {
    let dir = tempfile::tempdir().unwrap();
    let queue = std::sync::Arc::new(open(dir.path()));
    let (send, receive) = channel();
    let own = std::sync::Arc::clone(&queue);
    let (go, gone) = channel::<()>();
    let answer = move |result: Result<(), StoreError>| {
        gone.recv().unwrap_err();
        drop(own);
        send.send(result.is_ok()).unwrap();
    };
    queue.commit(vec![new(&job(1, 1))], Box::new(answer));
    drop(queue);
    drop(go);
    assert!(receive.recv().unwrap());
}

#[test]
fn names_of_any_characters_stay_apart() {
    let dir = tempfile::tempdir().unwrap();
    let queue = open(dir.path());
    let names = ["a", "a/b", "ä\u{202e}", "a b", "", "\u{10ffff}", "a\u{ff}"];
    let mut n = 0;
    for server in names {
        for meeting in names {
            n += 1;
            let order = Order { server: server.into(), meeting: meeting.into(), ..order(n, 1) };
            commit(&queue, vec![new(&Job::submit(order, now(1)))]).unwrap();
        }
    }
    n = 0;
    for server in names.map(ServerName::from) {
        for meeting in names.map(MeetingId::from) {
            n += 1;
            assert_eq!(ids(&queue.of_meeting(&server, &meeting).unwrap()), [id(n)], "{server:?} {meeting:?}");
        }
    }
}

fn refusal(dir: &Path) -> OpenError {
    Queue::open(dir, Checker::InProcess).err().expect("it opened")
}

fn assert_same<T: PartialEq + Debug>(real: Result<T, StoreError>, model: T) {
    assert_eq!(real.unwrap(), model);
}

#[test]
fn keys_of_open_jobs_are_found_however_many_are_done() {
    let dir = tempfile::tempdir().unwrap();
    let queue = open(dir.path());
    let jobs: Vec<Job> = (1..=6).map(|n| keyed(n, &format!("schedule:{n}"))).collect();
    commit(&queue, jobs.iter().map(new).collect()).unwrap();
    let server = ServerName::from("campus");
    let found = || {
        let keys = queue.open_keys(&server, "schedule:").unwrap();
        keys.into_iter()
            .map(|(key, id)| (key.trim_start_matches("schedule:").to_owned(), id))
            .collect::<Vec<_>>()
    };
    let expected = |left: &[u64]| left.iter().map(|n| (n.to_string(), id(*n))).collect::<Vec<_>>();
    assert_eq!(found(), expected(&[1, 2, 3, 4, 5, 6]));
    commit(&queue, vec![new(&keyed(7, "other"))]).unwrap();
    for (n, left) in [(2, &[1, 3, 4, 5, 6][..]), (5, &[1, 3, 4, 6]), (1, &[3, 4, 6]), (3, &[4, 6])] {
        let open = &jobs[n - 1];
        commit(&queue, vec![update(&done(open, 5), open.revision)]).unwrap();
        assert_eq!(found(), expected(left));
    }
    assert_eq!(queue.open_keys(&server, "other").unwrap(), [("other".to_owned(), id(7))]);
}
