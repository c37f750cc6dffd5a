//! What a compaction promises: every record, byte for byte, whatever becomes of it on the way.

use std::fs::File;
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};

use proptest::prelude::{ProptestConfig, Strategy, prop_assert_eq, proptest};

use super::faults::{FaultyDisk, Step, assert_io, copy_dir, open_on};
use super::model::{self, Model};
use super::*;
use crate::store::compact::check_room;
use crate::store::disk::{Disk, RealDisk};
use crate::store::generation::Generation;
use crate::store::queue::prepare;
use crate::store::{CompactError, Compacted, Options, When, compact, current};

type Records = Vec<(Vec<u8>, Vec<u8>)>;

pub(super) fn records(queue: &Queue) -> Records {
    let generation = queue.generation().unwrap();
    let bytes = |entry: sled::Result<(sled::IVec, sled::IVec)>| entry.map(|(k, v)| (k.to_vec(), v.to_vec()));
    generation.scan(Vec::new(), vec![u8::MAX]).map(|entry| bytes(entry).unwrap()).collect()
}

/// A store with more records than two batches of the copy take; gives them.
fn filled(dir: &Path) -> Records {
    let queue = open(dir);
    let jobs: Vec<Job> = (0..60).map(|n| keyed(n, &format!("key {n}"))).collect();
    commit(&queue, jobs.iter().map(new).collect()).unwrap();
    let over = jobs.iter().step_by(3).map(|job| update(&done(job, 5), job.revision));
    commit(&queue, over.collect()).unwrap();
    assert!(queue.size().unwrap().live > 64 << 10);
    records(&queue)
}

/// As large on the disk as after a peak.
fn hollow(dir: &Path) {
    let number = current::read(&dir.join("queue")).unwrap().unwrap();
    let padding = current::dir_of(&dir.join("queue"), number).join("padding");
    File::create(padding).unwrap().set_len(1 << 30).unwrap();
}

/// One generation, nothing beside it, these records, and it can be written.
#[track_caller]
fn check_whole(dir: &Path, expected: &Records, what: &str) {
    let queue = open(dir);
    assert!(records(&queue) == *expected, "{what}: the records differ");
    let names = dir.join("queue").read_dir().unwrap().map(|entry| entry.unwrap().file_name());
    assert_eq!(names.count(), 2, "{what}: CURRENT and one generation");
    commit(&queue, vec![new(&job(9_999, 5))]).unwrap();
}

/// A real disk that does something before every step, and may fail one.
struct Steps<F> {
    before: F,
    n: usize,
}

impl<F: FnMut(usize) -> io::Result<()> + Send> Steps<F> {
    fn step(&mut self) -> io::Result<()> {
        self.n += 1;
        (self.before)(self.n - 1)
    }
}

impl<F: FnMut(usize) -> io::Result<()> + Send> Disk for Steps<F> {
    fn room(&mut self, generation: &Generation, wanted: u64) -> io::Result<u64> {
        self.step()?;
        RealDisk.room(generation, wanted)
    }

    fn flush(&mut self, generation: &Generation) -> io::Result<()> {
        self.step()?;
        RealDisk.flush(generation)
    }

    fn sync(&mut self, generation: &Generation) -> io::Result<()> {
        self.step()?;
        RealDisk.sync(generation)
    }

    /// Two steps: one before the name changes, one after it has.
    fn switch(&mut self, queue: &Path, number: u64) -> io::Result<()> {
        self.step()?;
        RealDisk.switch(queue, number)?;
        self.step()
    }
}

fn on(before: impl FnMut(usize) -> io::Result<()> + Send + 'static) -> Box<dyn Disk> {
    Box::new(Steps { before, n: 0 })
}

fn compact_on(dir: &Path, disk: Box<dyn Disk>) -> io::Result<Compacted> {
    prepare(dir, Options::new(Checker::InProcess), disk).unwrap().writer.compact(When::Always)
}

/// What the disk holds before each step is what a process that is killed there leaves behind.
#[test]
fn a_compaction_killed_at_any_step_leaves_every_record() {
    let (dir, copies) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let expected = filled(dir.path());
    let (from, to) = (dir.path().to_owned(), copies.path().to_owned());
    let copy = move |n: usize| {
        copy_dir(&from, &to.join(n.to_string()));
        Ok(())
    };
    let done = compact_on(dir.path(), on(copy)).unwrap();
    assert!(done.after.unwrap().live == done.before.live && done.before.live > 0);
    let copies: Vec<PathBuf> = copies.path().read_dir().unwrap().map(|entry| entry.unwrap().path()).collect();
    assert!(copies.len() >= 8, "two batches, their flushes, the sync, the switch: {copies:?}");
    for copy in copies {
        std::fs::write(copy.join("queue/CURRENT.new"), "0000").unwrap();
        check_whole(&copy, &expected, &copy.display().to_string());
    }
    check_whole(dir.path(), &expected, "after it");
}

/// At the start of a daemon: it goes on with what it has, and what is written from then on is there afterwards.
#[test]
fn a_compaction_that_fails_at_any_step_keeps_nobody_from_working() {
    let original = tempfile::tempdir().unwrap();
    let expected = filled(original.path());
    let mut succeeded = false;
    for broken in 0.. {
        let dir = tempfile::tempdir().unwrap();
        copy_dir(original.path(), dir.path());
        hollow(dir.path());
        let fail = move |n: usize| if n == broken { Err(io::Error::from_raw_os_error(28)) } else { Ok(()) };
        let queue = Queue::open_with(dir.path(), Options::new(Checker::InProcess), on(fail)).unwrap();
        succeeded = queue.size().unwrap().disk < 1 << 30;
        assert!(records(&queue) == expected, "step {broken}");
        if commit(&queue, vec![new(&job(7_777, 5))]).is_err() {
            assert!(succeeded, "step {broken}: the failure was the compaction's");
            commit(&queue, vec![new(&job(7_777, 5))]).unwrap();
        }
        drop(queue);
        let queue = open_on(dir.path(), &FaultyDisk::default());
        assert!(queue.get(id(7_777)).unwrap().is_some(), "step {broken}");
        assert_eq!(records(&queue).len(), expected.len() + 4, "step {broken}: a job has four records");
        if succeeded {
            assert!(broken >= 8, "every step has failed once");
            break;
        }
    }
    assert!(succeeded);
}

#[test]
fn a_start_compacts_a_hollow_store_and_leaves_others_alone() {
    let dir = tempfile::tempdir().unwrap();
    let queue = open(dir.path());
    commit(&queue, vec![new(&keyed(1, "k")), new(&job(2, 20))]).unwrap();
    let expected = records(&queue);
    drop(queue);
    for (is_hollow, generation) in [(false, 1), (true, 2), (false, 2), (true, 3)] {
        if is_hollow {
            hollow(dir.path());
        }
        let queue = Queue::open(dir.path(), Checker::TestChild).unwrap();
        assert_eq!(records(&queue), expected);
        assert_eq!(current::list(&dir.path().join("queue")).unwrap(), [generation]);
        assert!(queue.size().unwrap().disk < 64 << 20);
    }
}

#[test]
fn without_room_for_the_copy_nothing_is_touched() {
    let dir = tempfile::tempdir().unwrap();
    let expected = filled(dir.path());
    let files = dir.path().join("queue/000001");
    let generation = Generation::open(&files).unwrap();
    let error = check_room(&generation, u64::MAX / 8).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::StorageFull);
    assert!(error.to_string().contains("MB are free"), "{error}");
    check_room(&generation, 0).unwrap();
    drop(generation);

    let disk = FaultyDisk::default();
    disk.has_room(Some(1 << 20));
    let error = compact_on(dir.path(), Box::new(disk)).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::StorageFull, "{error}");
    assert_eq!(current::list(&dir.path().join("queue")).unwrap(), [1]);
    check_whole(dir.path(), &expected, "after it");
}

/// As at any opening, what the journal has more is taken in, and what is damaged is made anew.
#[test]
fn a_store_that_needs_repair_is_repaired_first() {
    let (dir, older) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    filled(dir.path());
    copy_dir(&dir.path().join("queue"), &older.path().join("queue"));
    commit(&open(dir.path()), vec![new(&job(7_777, 5))]).unwrap();
    let expected = records(&open(dir.path()));
    let queue = dir.path().join("queue");

    std::fs::remove_dir_all(&queue).unwrap();
    copy_dir(&older.path().join("queue"), &queue);
    let done = compact(dir.path(), Checker::InProcess, When::Always).unwrap();
    assert_eq!(done.repaired, None);
    assert!(records(&open(dir.path())) == expected, "behind its journal");

    std::fs::write(queue.join("CURRENT"), "nonsense").unwrap();
    let done = compact(dir.path(), Checker::InProcess, When::Always).unwrap();
    assert!(done.repaired.unwrap().contains("rebuilt from its journal"));
    assert!(records(&open(dir.path())) == expected, "damaged");

    std::fs::remove_dir_all(&queue).unwrap();
    assert!(compact(dir.path(), Checker::InProcess, When::Always).unwrap().repaired.is_some());
    check_whole(dir.path(), &expected, "lost");
}

#[test]
fn a_store_in_use_is_not_compacted_and_none_is_made() {
    let dir = tempfile::tempdir().unwrap();
    let queue = open(dir.path());
    let error = compact(dir.path(), Checker::InProcess, When::Always).unwrap_err();
    let pid = std::process::id();
    assert!(
        matches!(error, CompactError::Open(OpenError::Held { pid: Some(holder), .. }) if holder == pid),
        "{error}"
    );
    drop(queue);
    let done = compact(dir.path(), Checker::InProcess, When::ItPays).unwrap();
    assert_eq!(done.after, None);
    let done = compact(dir.path(), Checker::InProcess, When::Always).unwrap();
    assert!(done.after.is_some());

    let nothing = dir.path().join("nothing");
    let error = compact(&nothing, Checker::InProcess, When::Always).unwrap_err();
    assert!(matches!(error, CompactError::Nothing(_)), "{error}");
    assert!(!nothing.exists());
}

/// The copy after a failed write is made while others read: they see every job, before, during and after it.
#[test]
fn readers_see_every_job_while_a_generation_is_copied() {
    const JOBS: u64 = 300;
    let dir = tempfile::tempdir().unwrap();
    let disk = FaultyDisk::default();
    let queue = open_on(dir.path(), &disk);
    commit(&queue, (0..JOBS).map(|n| new(&job(n, n.cast_signed()))).collect()).unwrap();
    let expected: Vec<JobId> = (0..JOBS).map(id).collect();
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let read = || {
            let mut rounds = 0;
            while !stop.load(Ordering::Relaxed) {
                assert_eq!(ids(&queue.due_before(UtcMs(300), None, 999).unwrap()), expected);
                assert_eq!(queue.get(id(rounds % JOBS)).unwrap().unwrap().id, id(rounds % JOBS));
                rounds += 1;
            }
            rounds
        };
        let readers = [scope.spawn(read), scope.spawn(read)];
        for round in 0..5 {
            disk.breaks(Some(Step::Sync));
            assert_io(commit(&queue, vec![new(&job(1_000 + round, 5_000))]));
            disk.breaks(None);
            commit(&queue, vec![new(&job(1_000 + round, 5_000))]).unwrap();
        }
        stop.store(true, Ordering::Relaxed);
        for reader in readers {
            assert!(reader.join().unwrap() > 0);
        }
    });
    assert_eq!(queue.counts().unwrap()[&State::Waiting], JOBS + 5);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_record_is_copied_byte_for_byte(
        steps in proptest::collection::vec(model::step(), 1..40),
        again in (0..2_usize).prop_map(|n| n + 1),
    ) {
        let dir = tempfile::tempdir().unwrap();
        let mut queue = open(dir.path());
        let mut known = Model::new();
        for step in &steps {
            let mut next = known.clone();
            let change = model::change(&known, step);
            if model::apply(&mut next, &change) {
                commit(&queue, vec![change]).unwrap();
                known = next;
            }
        }
        let before = records(&queue);
        for _ in 0..again {
            drop(queue);
            compact(dir.path(), Checker::InProcess, When::Always).unwrap();
            queue = open(dir.path());
            prop_assert_eq!(&records(&queue), &before);
        }
        model::check_all(&queue, &known);
    }
}
