//! Damaged sled files: never a panic that escapes, and never anything lost. The journal has it all.

use std::fs;
use std::path::PathBuf;

use super::faults::copy_dir;
use super::*;
use crate::store::generation::Generation;

/// A store of some hundred jobs, some done, some removed. What is left of them, newest first.
fn filled(dir: &Path) -> Vec<Job> {
    let queue = open(dir);
    for round in 0..10 {
        let jobs: Vec<Job> = (0..30).map(|n| job(round * 30 + n, 1000 + n.cast_signed())).collect();
        commit(&queue, jobs.iter().map(new).collect()).unwrap();
        let over = jobs.iter().step_by(3).map(|job| update(&done(job, 5), job.revision));
        commit(&queue, over.collect()).unwrap();
        commit(&queue, jobs.iter().step_by(6).map(|job| Change::Remove(job.id)).collect()).unwrap();
    }
    queue.page(&Filter::default(), None, usize::MAX).unwrap()
}

fn files(dir: &Path) -> PathBuf {
    dir.join("queue/000001")
}

/// Opens a damaged copy through a child process: everything is there. Had it to be repaired?
#[track_caller]
fn check(dir: &Path, what: &str, expected: &[Job]) -> bool {
    let queue = Queue::open(dir, Checker::TestChild).unwrap_or_else(|error| panic!("{what}: {error}"));
    let (all, due) = (Filter::default(), UtcMs(i64::MAX));
    assert!(queue.page(&all, None, usize::MAX).unwrap() == expected, "{what}: something is lost");
    let waiting = expected.iter().filter(|job| job.index_wake().is_some()).count();
    assert_eq!(queue.due_before(due, None, usize::MAX).unwrap().len(), waiting, "{what}");
    commit(&queue, vec![new(&job(9999, 5))]).unwrap();
    let repaired = queue.health().repaired;
    if let Some(text) = &repaired {
        assert!(!text.contains("panicked") && !text.contains("src/"), "{what}: {text}");
        assert_eq!(text.lines().count(), 1, "{what}: {text}");
        let aside = dir.join("set-aside").read_dir().unwrap().count();
        assert_eq!(aside, 1, "{what}");
    }
    repaired.is_some()
}

fn damaged_copy(original: &Path, damage: impl FnOnce(&mut Vec<u8>)) -> tempfile::TempDir {
    let copy = tempfile::tempdir().unwrap();
    copy_dir(original, copy.path());
    let db = files(copy.path()).join("db");
    let mut bytes = fs::read(&db).unwrap();
    damage(&mut bytes);
    fs::write(&db, bytes).unwrap();
    copy
}

/// sled takes a bad message at the end of its log for a torn write and opens without it; one that its snapshot points to
/// it reports.
#[test]
fn flipped_bits_in_every_region_lose_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let expected = filled(dir.path());
    flip_bits(dir.path(), &expected);
    // Opened once more, so that sled has written its snapshot.
    drop(open(dir.path()));
    assert!(flip_bits(dir.path(), &expected) > 0, "not one of the flips was noticed");
}

fn flip_bits(dir: &Path, expected: &[Job]) -> usize {
    let written = fs::read(files(dir).join("db")).unwrap().iter().rposition(|b| *b != 0).unwrap();
    let at = (0..20).map(|part| part * written / 20 + part);
    at.filter(|&at| {
        let copy = damaged_copy(dir, |bytes| bytes[at] ^= 0x40);
        check(copy.path(), &format!("bit flipped at {at} of {written}"), expected)
    })
    .count()
}

#[test]
fn truncated_and_overwritten_files_lose_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let expected = filled(dir.path());
    let len = fs::metadata(files(dir.path()).join("db")).unwrap().len();
    let len = usize::try_from(len).unwrap();
    for keep in [0, 1, 19, 4096, len / 3, len / 2, len - 1] {
        let copy = damaged_copy(dir.path(), |bytes| bytes.truncate(keep));
        check(copy.path(), &format!("truncated to {keep} of {len}"), &expected);
    }
    for (from, to) in [(0, 64), (0, len / 2), (len / 4, len / 2)] {
        let copy = damaged_copy(dir.path(), |bytes| bytes[from..to].fill(0xa5));
        check(copy.path(), &format!("garbage from {from} to {to}"), &expected);
    }
}

#[test]
fn damaged_side_files_lose_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let expected = filled(dir.path());
    // Opened once more, so that sled has written its snapshot.
    drop(open(dir.path()));
    let names = files(dir.path()).read_dir().unwrap().map(|entry| entry.unwrap());
    let side: Vec<_> =
        names.filter(|entry| entry.file_type().unwrap().is_file() && entry.file_name() != "db").collect();
    assert!(side.len() >= 2, "conf and a snapshot: {side:?}");
    for entry in side {
        let garbage: [&dyn Fn(Vec<u8>) -> Vec<u8>; 3] =
            [&|bytes| bytes[..bytes.len() / 2].to_vec(), &|_| b"garbage".to_vec(), &|mut bytes| {
                let middle = bytes.len() / 2;
                bytes[middle] ^= 1;
                bytes
            }];
        for (n, damage) in garbage.iter().enumerate() {
            let copy = tempfile::tempdir().unwrap();
            copy_dir(dir.path(), copy.path());
            let path = files(copy.path()).join(entry.file_name());
            fs::write(&path, damage(fs::read(&path).unwrap())).unwrap();
            check(copy.path(), &format!("{:?} damaged ({n})", entry.file_name()), &expected);
        }
    }
}

#[test]
fn a_record_that_is_not_what_was_written_is_noticed() {
    let dir = tempfile::tempdir().unwrap();
    let expected = filled(dir.path());
    let check = |damage: &dyn Fn(&sled::Db), why: &str| {
        let copy = tempfile::tempdir().unwrap();
        copy_dir(dir.path(), copy.path());
        let generation = Generation::open(&files(copy.path())).unwrap();
        damage(&generation.db);
        drop(generation);
        let queue = Queue::open(copy.path(), Checker::InProcess).unwrap();
        let repaired = queue.health().repaired.expect("it was not noticed");
        assert!(repaired.contains(why), "{repaired}");
        assert!(queue.page(&Filter::default(), None, usize::MAX).unwrap() == expected, "{why}");
    };
    let record = super::super::keys::job(id(1));
    check(&|db| drop(db.insert(&record, &b"\x01nonsense"[..]).unwrap()), "cut short");
    check(&|db| drop(db.remove(&record).unwrap()), "its job is missing");
    check(&|db| drop(db.insert("c/counts", vec![0; 56]).unwrap()), "not as many");
    check(&|db| drop(db.remove("meta/format").unwrap()), "meta/format");
    check(&|db| drop(db.remove("meta/journal").unwrap()), "meta/journal");
    let wake = super::super::keys::wake(UtcMs(1001), id(1));
    check(&|db| drop(db.remove(&wake).unwrap()), "an index does not know it");
    // A record of the right shape, with a bit of its JSON changed.
    let changed = |db: &sled::Db| {
        let mut bytes = db.get(&record).unwrap().unwrap().to_vec();
        let at = bytes.windows(6).position(|text| text == b"campus").unwrap();
        bytes[at] = b'k';
        db.insert(super::super::keys::job(id(1)), bytes).unwrap();
    };
    check(&changed, "an index does not know it");
    check(&|db| drop(db.insert("s/campus", &b"\x01{\"nodes\":{}}"[..]).unwrap()), "its checksum");
}

/// What is damaged behind the back of a running store is an error or left out, and logged.
#[test]
fn one_bad_record_does_not_hide_the_others() {
    let dir = tempfile::tempdir().unwrap();
    let queue = open(dir.path());
    commit(&queue, vec![new(&job(1, 1)), new(&job(2, 2)), new(&job(3, 3))]).unwrap();
    queue.generation().unwrap().db.insert(super::super::keys::job(id(2)), "garbage").unwrap();
    assert_eq!(ids(&queue.due_before(UtcMs(9), None, 9).unwrap()), [id(1), id(3)]);
    assert_eq!(ids(&queue.page(&Filter::default(), None, 9).unwrap()), [id(3), id(1)]);
    assert!(matches!(queue.get(id(2)), Err(StoreError::Damaged { key, .. }) if key.contains("of job")));
}

#[test]
fn a_missing_or_wrong_name_of_the_generation_is_repaired() {
    for (text, why) in
        [(Some("000007"), "CURRENT names 000007"), (Some("x"), "no directory"), (None, "and no queue")]
    {
        let dir = tempfile::tempdir().unwrap();
        commit(&open(dir.path()), vec![new(&job(1, 1))]).unwrap();
        let current = dir.path().join("queue/CURRENT");
        match text {
            Some(text) => fs::write(&current, text).unwrap(),
            None => fs::remove_file(&current).unwrap(),
        }
        let queue = open(dir.path());
        assert_eq!(queue.page(&Filter::default(), None, 9).unwrap(), [job(1, 1)]);
        let repaired = queue.health().repaired.unwrap();
        assert!(repaired.contains(why), "{repaired}");
    }
}

/// A daemon that is stopped in its very first second: before each of the steps that make a new queue.
#[test]
fn a_first_start_may_be_cut_short_anywhere() {
    let cut: [fn(&Path); 4] = [
        |queue| fs::create_dir_all(queue).unwrap(),
        |queue| fs::create_dir_all(queue.join("000001")).unwrap(),
        |queue| {
            fs::create_dir_all(queue.join("000001")).unwrap();
            drop(Generation::open(&queue.join("000001")).unwrap());
        },
        |queue| {
            drop(open(queue.parent().unwrap()));
            fs::remove_file(queue.join("CURRENT")).unwrap();
        },
    ];
    for cut in cut {
        let dir = tempfile::tempdir().unwrap();
        cut(&dir.path().join("queue"));
        let queue = Queue::open(dir.path(), Checker::TestChild).unwrap();
        commit(&queue, vec![new(&job(1, 1))]).unwrap();
        drop(queue);
        assert!(open(dir.path()).get(id(1)).unwrap().is_some());
    }
}

#[test]
fn files_that_sled_takes_for_new_ones_are_rebuilt() {
    let dir = tempfile::tempdir().unwrap();
    commit(&open(dir.path()), vec![new(&job(1, 5))]).unwrap();
    let copy = damaged_copy(dir.path(), |bytes| bytes.fill(0x5a));
    assert!(check(copy.path(), "nothing but noise", &[job(1, 5)]));
}

/// A copy whose queue is known to be wrong.
fn distrusted_copy(original: &Path) -> tempfile::TempDir {
    let copy = tempfile::tempdir().unwrap();
    copy_dir(original, copy.path());
    super::super::recover::distrust(&copy.path().join("queue"), "it was found wrong").unwrap();
    copy
}

/// As a power cut may leave it: the old queue is set aside, the new one is not in its place yet.
#[test]
fn a_rebuild_that_was_cut_short_at_its_end_is_ended() {
    let dir = tempfile::tempdir().unwrap();
    let expected = filled(dir.path());
    let copy = distrusted_copy(dir.path());
    let beside = copy.path().join("queue-rebuilt");
    assert!(check(copy.path(), "distrusted", &expected), "it was not rebuilt");
    let rebuilt = open(copy.path()).page(&Filter::default(), None, usize::MAX).unwrap();

    fs::rename(copy.path().join("queue"), &beside).unwrap();
    let queue = Queue::open(copy.path(), Checker::TestChild).unwrap();
    assert_eq!(queue.page(&Filter::default(), None, usize::MAX).unwrap(), rebuilt);
    assert_eq!(queue.health().repaired, None);
    assert!(!beside.exists());
}

/// What has been rebuilt so far is worth nothing, and must not push the original out of what is set aside.
#[test]
fn a_rebuild_that_was_cut_short_before_begins_again() {
    let dir = tempfile::tempdir().unwrap();
    let expected = filled(dir.path());
    let copy = distrusted_copy(dir.path());
    let beside = copy.path().join("queue-rebuilt");
    copy_dir(&copy.path().join("queue/000001"), &beside.join("000001"));
    fs::write(beside.join("000001/db"), "half of it").unwrap();
    assert!(check(copy.path(), "cut short", &expected), "it was not rebuilt");
    assert!(!beside.exists());
}
