//! What the store promises while the disk fails, and how many syncs it takes while it does not.

use std::fs::File;
use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};

use super::super::disk::{Disk, RealDisk};
use super::super::generation::Generation;
use super::*;
use crate::store::Options;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Step {
    Room,
    Flush,
    /// The data is on its way, the sync says that it did not arrive.
    Sync,
    JournalRoom,
    /// Half of it is written.
    Append,
    /// The lines are on their way, the sync says that they did not arrive.
    JournalSync,
    /// The queue fails, and then the journal cannot be cut.
    Cut,
}

/// A real disk that fails where a test says so, and waits for the test where that wants it to.
#[derive(Clone, Default)]
pub(super) struct FaultyDisk {
    broken: Arc<Mutex<Option<Step>>>,
    room: Arc<Mutex<Option<u64>>>,
    syncs: Arc<AtomicUsize>,
    gate: Arc<Mutex<Option<Receiver<()>>>>,
}

impl FaultyDisk {
    pub(super) fn has_room(&self, bytes: Option<u64>) {
        *self.room.lock().unwrap() = bytes;
    }

    pub(super) fn breaks(&self, step: Option<Step>) {
        *self.broken.lock().unwrap() = step;
    }

    fn check(&self, step: Step) -> io::Result<()> {
        match *self.broken.lock().unwrap() {
            Some(broken) if broken == step || (broken, step) == (Step::Cut, Step::Sync) => {
                Err(io::Error::from_raw_os_error(28))
            }
            _ => Ok(()),
        }
    }
}

impl Disk for FaultyDisk {
    fn room(&mut self, generation: &Generation, wanted: u64) -> io::Result<u64> {
        self.check(Step::Room)?;
        let real = RealDisk.room(generation, wanted)?;
        Ok(self.room.lock().unwrap().unwrap_or(real))
    }

    fn flush(&mut self, generation: &Generation) -> io::Result<()> {
        self.check(Step::Flush)?;
        RealDisk.flush(generation)
    }

    fn sync(&mut self, generation: &Generation) -> io::Result<()> {
        let gate = self.gate.lock().unwrap().take();
        if let Some(gate) = gate {
            gate.recv().unwrap();
        }
        RealDisk.sync(generation)?;
        self.syncs.fetch_add(1, Ordering::Relaxed);
        self.check(Step::Sync)
    }

    fn journal_room(&mut self, segment: &File, end: u64, wanted: u64) -> io::Result<u64> {
        self.check(Step::JournalRoom)?;
        RealDisk.journal_room(segment, end, wanted)
    }

    fn append(&mut self, segment: &File, at: u64, lines: &[u8]) -> io::Result<()> {
        let failure = self.check(Step::Append);
        let written = if failure.is_err() { lines.len() / 2 } else { lines.len() };
        RealDisk.append(segment, at, &lines[..written])?;
        failure
    }

    fn sync_journal(&mut self, segment: &File) -> io::Result<()> {
        RealDisk.sync_journal(segment)?;
        self.check(Step::JournalSync)
    }

    fn cut(&mut self, segment: &File, len: u64) -> io::Result<()> {
        self.check(Step::Cut)?;
        RealDisk.cut(segment, len)
    }
}

const EVERY_STEP: [Step; 6] =
    [Step::Room, Step::Flush, Step::Sync, Step::Append, Step::JournalSync, Step::Cut];

pub(super) fn open_on(dir: &Path, disk: &FaultyDisk) -> Queue {
    Queue::open_with(dir, Options::new(Checker::InProcess), Box::new(disk.clone())).unwrap()
}

#[track_caller]
pub(super) fn assert_io(result: Result<(), StoreError>) {
    match result {
        Err(StoreError::Io { why, .. }) => assert!(why.contains("space"), "{why}"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_failed_write_never_shows_and_the_next_one_works() {
    for step in EVERY_STEP {
        let dir = tempfile::tempdir().unwrap();
        let disk = FaultyDisk::default();
        let queue = open_on(dir.path(), &disk);
        let one = keyed(1, "k");
        commit(&queue, vec![new(&one)]).unwrap();
        let check_untouched = || {
            assert_eq!(queue.get(one.id).unwrap().as_ref(), Some(&one), "{step:?}");
            assert_eq!(queue.get(id(2)).unwrap(), None, "{step:?}");
            assert_eq!(queue.by_key(&one.server, "other").unwrap(), None);
            assert_eq!(ids(&queue.due_before(UtcMs(1000), None, 9).unwrap()), [one.id]);
            assert_eq!(ids(&queue.of_meeting(&one.server, &one.meeting).unwrap()), [one.id]);
            assert_eq!(ids(&queue.page(&Filter::default(), None, 9).unwrap()), [one.id]);
            assert_eq!(queue.counts().unwrap()[&State::Waiting], 1);
            assert_eq!(queue.by_suffix("00000002", 9).unwrap(), []);
        };
        disk.breaks(Some(step));
        let later = moved(&one, 500);
        for _ in 0..3 {
            assert_io(commit(&queue, vec![update(&later, one.revision), new(&keyed(2, "other"))]));
            check_untouched();
        }
        disk.breaks(None);
        commit(&queue, vec![new(&keyed(2, "other"))]).unwrap();
        commit(&queue, vec![update(&later, one.revision)]).unwrap();
        let expected = queue.page(&Filter::default(), None, 9).unwrap();
        assert_eq!(expected, [keyed(2, "other"), later]);
        drop(queue);

        let queue = Queue::open(dir.path(), Checker::TestChild).unwrap();
        assert_eq!(queue.page(&Filter::default(), None, 9).unwrap(), expected, "{step:?}");
        assert_eq!(queue.counts().unwrap()[&State::Waiting], 2);
    }
}

#[test]
fn after_a_failed_write_there_is_one_generation_and_it_is_the_next() {
    let dir = tempfile::tempdir().unwrap();
    let disk = FaultyDisk::default();
    let queue = open_on(dir.path(), &disk);
    commit(&queue, vec![new(&job(1, 1))]).unwrap();
    disk.breaks(Some(Step::Sync));
    assert_io(commit(&queue, vec![new(&job(2, 1))]));
    assert_io(commit(&queue, vec![new(&job(2, 1))]));
    disk.breaks(None);
    commit(&queue, vec![new(&job(2, 1))]).unwrap();
    let generations = super::super::current::list(&dir.path().join("queue")).unwrap();
    assert_eq!(generations.len(), 1);
    assert!(generations[0] > 1);
}

/// A reader that began before the failure goes on seeing the truth.
#[test]
fn a_batch_shows_only_when_it_is_durable() {
    let dir = tempfile::tempdir().unwrap();
    let disk = FaultyDisk::default();
    let queue = open_on(dir.path(), &disk);
    let one = job(1, 10);
    commit(&queue, vec![new(&one)]).unwrap();
    let (go, gate) = channel();
    *disk.gate.lock().unwrap() = Some(gate);
    let (send, receive) = channel();
    let later = moved(&one, 99);
    let batch = vec![update(&later, one.revision), new(&job(2, 5))];
    queue.commit(batch, Box::new(move |result| send.send(result).unwrap()));
    // The writer takes the gate away when it has applied and flushed the batch.
    while disk.gate.lock().unwrap().is_some() {
        std::thread::yield_now();
    }
    assert_eq!(queue.get(one.id).unwrap(), Some(one.clone()));
    assert_eq!(ids(&queue.due_before(UtcMs(1000), None, 9).unwrap()), [one.id]);
    assert_eq!(queue.next_wake(UtcMs(0)).unwrap(), Some(UtcMs(10)));
    go.send(()).unwrap();
    receive.recv().unwrap().unwrap();
    assert_eq!(queue.get(one.id).unwrap(), Some(later));
    assert_eq!(ids(&queue.due_before(UtcMs(1000), None, 9).unwrap()), [id(2), one.id]);
}

#[test]
fn what_waits_becomes_one_group_with_one_sync_and_the_bad_ones_are_left_out() {
    const CLIENTS: u64 = 64;
    let dir = tempfile::tempdir().unwrap();
    let disk = FaultyDisk::default();
    let queue = open_on(dir.path(), &disk);
    let (go, gate) = channel();
    *disk.gate.lock().unwrap() = Some(gate);
    let (send, receive) = channel();
    let submit = |n: u64, change: Change| {
        let send = send.clone();
        queue.commit(vec![change], Box::new(move |result| send.send((n, result)).unwrap()));
    };
    submit(0, new(&job(0, 1)));
    while disk.gate.lock().unwrap().is_some() {
        std::thread::yield_now();
    }
    let before = disk.syncs.load(Ordering::Relaxed);
    for n in 1..=CLIENTS {
        // Every fourth wants the key that the second got in the same group, or a job that is not there.
        let change = match n % 4 {
            2 => new(&keyed(n, "wanted")),
            3 => update(&job(n, 1), 5),
            _ => new(&job(n, 1)),
        };
        submit(n, change);
    }
    go.send(()).unwrap();
    for n in 0..=CLIENTS {
        let (answered, result) = receive.recv().unwrap();
        assert_eq!(answered, n, "in the order of the calls");
        match n % 4 {
            2 if n > 2 => {
                assert!(matches!(result, Err(StoreError::KeyTaken { id: holder, .. }) if holder == id(2)));
            }
            3 => assert!(matches!(result, Err(StoreError::Revision { found: None, .. }))),
            _ => result.unwrap(),
        }
    }
    assert_eq!(disk.syncs.load(Ordering::Relaxed) - before, 2, "the gated group, and one for all the others");
    let left = 1 + CLIENTS / 2 + 1;
    assert_eq!(queue.counts().unwrap()[&State::Waiting], left);
}

#[test]
fn an_io_failure_fails_every_batch_of_its_group() {
    let dir = tempfile::tempdir().unwrap();
    let disk = FaultyDisk::default();
    let queue = open_on(dir.path(), &disk);
    let (go, gate) = channel();
    *disk.gate.lock().unwrap() = Some(gate);
    let (send, receive) = channel();
    let submit = |n: u64| {
        let send = send.clone();
        queue.commit(vec![new(&job(n % 9, 1))], Box::new(move |result| send.send(result).unwrap()));
    };
    submit(0);
    while disk.gate.lock().unwrap().is_some() {
        std::thread::yield_now();
    }
    disk.breaks(Some(Step::Flush));
    (1..10).for_each(submit);
    go.send(()).unwrap();
    drop(send);
    let answers: Vec<_> = receive.iter().collect();
    answers[0].clone().unwrap();
    for answer in &answers[1..] {
        assert_io(answer.clone());
    }
    assert_eq!(queue.counts().unwrap()[&State::Waiting], 1);
}

#[test]
fn the_last_of_the_disk_is_kept_for_what_is_queued_already() {
    let dir = tempfile::tempdir().unwrap();
    let disk = FaultyDisk::default();
    let queue = open_on(dir.path(), &disk);
    let one = job(1, 10);
    commit(&queue, vec![new(&one)]).unwrap();
    *disk.room.lock().unwrap() = Some(9 << 20);
    assert_io(commit(&queue, vec![new(&job(2, 10))]));
    let over = done(&one, 20);
    commit(&queue, vec![update(&over, one.revision)]).unwrap();
    *disk.room.lock().unwrap() = Some(1 << 20);
    assert_io(commit(&queue, vec![Change::Remove(one.id)]));
    *disk.room.lock().unwrap() = None;
    commit(&queue, vec![new(&job(2, 10))]).unwrap();
    let generations = super::super::current::list(&dir.path().join("queue")).unwrap();
    assert_eq!(generations, [1], "nothing had been touched, so nothing had to be copied");
}

/// A machine that stops between the failed write and the next commit.
#[test]
fn a_crash_after_a_failed_write_loses_nothing_acknowledged() {
    let dir = tempfile::tempdir().unwrap();
    let disk = FaultyDisk::default();
    let queue = open_on(dir.path(), &disk);
    commit(&queue, vec![new(&job(1, 1))]).unwrap();
    for step in [Step::Flush, Step::Sync, Step::Append, Step::JournalSync] {
        let copy = tempfile::tempdir().unwrap();
        disk.breaks(Some(step));
        assert_io(commit(&queue, vec![new(&job(2, 1)), new(&job(3, 1))]));
        copy_dir(dir.path(), copy.path());
        let after = Queue::open(copy.path(), Checker::TestChild).unwrap();
        assert_eq!(after.page(&Filter::default(), None, 9).unwrap(), [job(1, 1)], "{step:?}");
        drop(after);
        let again = Queue::open(copy.path(), Checker::TestChild).unwrap();
        assert_eq!(again.health().repaired, None, "{step:?}: once is enough");
    }
}

/// The journal says that the numbers were refused, also after the disk did not let it say so at once.
#[test]
fn nothing_is_taken_until_the_journal_has_been_cut() {
    let dir = tempfile::tempdir().unwrap();
    let disk = FaultyDisk::default();
    let queue = open_on(dir.path(), &disk);
    commit(&queue, vec![new(&job(1, 1))]).unwrap();
    disk.breaks(Some(Step::Cut));
    assert_io(commit(&queue, vec![new(&job(2, 1)), new(&job(3, 1))]));
    assert_io(commit(&queue, vec![new(&job(4, 1))]));
    disk.breaks(None);
    commit(&queue, vec![new(&job(5, 1))]).unwrap();
    let head = queue.health().journal.unwrap();
    // One, two refused, their void, and the last.
    assert_eq!(head.seq, 5);
    drop(queue);
    let audit = crate::store::journal::verify(&dir.path().join("journal"), Some(head), None).unwrap();
    assert_eq!(audit.findings, []);
}

#[test]
fn a_journal_without_room_refuses_and_recovers() {
    let dir = tempfile::tempdir().unwrap();
    let disk = FaultyDisk::default();
    disk.breaks(Some(Step::JournalRoom));
    let queue = open_on(dir.path(), &disk);
    assert_io(commit(&queue, vec![new(&job(1, 1))]));
    disk.breaks(None);
    commit(&queue, vec![new(&job(1, 1))]).unwrap();
}

/// sled itself meets the failed write here: it may grow its file no further, in a process whose limit on file sizes is
/// low, and later is not.
#[test]
fn the_next_commit_works_after_sled_has_given_up() {
    for kib in [2500, 4097, 5000] {
        let dir = tempfile::tempdir().unwrap();
        let script = format!("trap '' XFSZ; ulimit -S -f {}; exec \"$0\" \"$@\"", kib * 2);
        let mut command = Command::new("sh");
        command.args(["-c", &script]).arg(std::env::current_exe().unwrap());
        command.args(["--exact", "store::tests::faults::limited_child", "--nocapture"]);
        let output = command.env(LIMITED, dir.path()).output().unwrap();
        assert!(output.status.success(), "{kib} KiB: {}", String::from_utf8_lossy(&output.stderr));
        let queue = Queue::open(dir.path(), Checker::TestChild).unwrap();
        let (all, last) = (queue.page(&Filter::default(), None, usize::MAX).unwrap(), id(1_000_000));
        assert_eq!(all[0].id, last);
        assert_eq!(queue.counts().unwrap()[&State::Waiting], all.len() as u64);
    }
}

const LIMITED: &str = "ADJOURN_TEST_LIMITED";

/// By itself a test that such batches are accepted; started by the test above, what happens at the limit.
#[test]
fn limited_child() {
    let unlimited = tempfile::tempdir().unwrap();
    let limited = std::env::var_os(LIMITED);
    let queue = open(limited.as_ref().map_or(unlimited.path(), Path::new));
    let batch = |n: u64| (n * 20..(n + 1) * 20).map(|n| new(&job(n, n.cast_signed()))).collect();
    if limited.is_none() {
        return commit(&queue, batch(0)).unwrap();
    }
    let accepted = (0..1000).take_while(|n| commit(&queue, batch(*n)).is_ok()).count() as u64;
    assert!((1..1000).contains(&accepted), "the limit was not met: {accepted}");
    assert!(queue.generation().unwrap().is_poisoned());
    assert!(commit(&queue, batch(accepted)).is_err());
    let limit = rustix::process::getrlimit(rustix::process::Resource::Fsize);
    let limit = rustix::process::Rlimit { current: limit.maximum, ..limit };
    rustix::process::setrlimit(rustix::process::Resource::Fsize, limit).unwrap();

    commit(&queue, vec![new(&job(1_000_000, 5))]).unwrap();
    let mut expected: Vec<JobId> = (0..accepted * 20).map(id).collect();
    expected.push(id(1_000_000));
    expected.reverse();
    assert_eq!(ids(&queue.page(&Filter::default(), None, usize::MAX).unwrap()), expected);
    assert_eq!(queue.due_before(UtcMs(i64::MAX), None, usize::MAX).unwrap().len(), expected.len());
    commit(&queue, vec![new(&job(999_999, 5))]).unwrap();
}

pub(super) fn copy_dir(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in from.read_dir().unwrap() {
        let entry = entry.unwrap();
        if entry.file_type().unwrap().is_dir() {
            copy_dir(&entry.path(), &to.join(entry.file_name()));
        } else {
            std::fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
        }
    }
}
