//! Damaged files: never a panic that escapes; either the store opens and can be read, or it says what to do.

use std::fs;
use std::path::PathBuf;

use super::faults::copy_dir;
use super::*;
use crate::store::generation::Generation;

/// A store of some hundred jobs, some done, some removed.
fn filled(dir: &Path) {
    let queue = open(dir);
    for round in 0..10 {
        let jobs: Vec<Job> = (0..30).map(|n| job(round * 30 + n, 1000 + n.cast_signed())).collect();
        commit(&queue, jobs.iter().map(new).collect()).unwrap();
        let over = jobs.iter().step_by(3).map(|job| update(&done(job, 5), job.revision));
        commit(&queue, over.collect()).unwrap();
        commit(&queue, jobs.iter().step_by(6).map(|job| Change::Remove(job.id)).collect()).unwrap();
    }
}

fn files(dir: &Path) -> PathBuf {
    dir.join("queue/000001")
}

/// Opens a damaged copy through a child process, and reads whatever opens.
#[track_caller]
fn check(dir: &Path, what: &str) -> bool {
    match Queue::open(dir, Checker::TestChild) {
        Ok(queue) => {
            let page = queue.page(&Filter::default(), None, usize::MAX);
            let due = queue.due_before(UtcMs(i64::MAX), None, usize::MAX);
            assert!(page.is_ok() && due.is_ok(), "{what}: {page:?} {due:?}");
            commit(&queue, vec![new(&job(9999, 5))]).unwrap();
            false
        }
        Err(error @ OpenError::Damaged { .. }) => {
            let text = error.to_string();
            assert!(text.contains("move it aside with \"mv "), "{what}: {text}");
            assert!(!text.contains("panicked") && !text.contains("src/"), "{what}: {text}");
            assert_eq!(text.lines().count(), 1, "{what}: {text}");
            true
        }
        Err(other) => panic!("{what}: {other}"),
    }
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
/// is reported. Only the journal can tell the first.
#[test]
fn flipped_bits_in_every_region_are_survived_or_reported() {
    let dir = tempfile::tempdir().unwrap();
    filled(dir.path());
    flip_bits(dir.path());
    // Opened once more, so that sled has written its snapshot.
    drop(open(dir.path()));
    assert!(flip_bits(dir.path()) > 0, "not one of the flips was noticed");
}

fn flip_bits(dir: &Path) -> usize {
    let written = fs::read(files(dir).join("db")).unwrap().iter().rposition(|b| *b != 0).unwrap();
    let at = (0..20).map(|part| part * written / 20 + part);
    at.filter(|&at| {
        let copy = damaged_copy(dir, |bytes| bytes[at] ^= 0x40);
        check(copy.path(), &format!("bit flipped at {at} of {written}"))
    })
    .count()
}

#[test]
fn truncated_and_overwritten_files_are_survived_or_reported() {
    let dir = tempfile::tempdir().unwrap();
    filled(dir.path());
    let len = fs::metadata(files(dir.path()).join("db")).unwrap().len();
    let len = usize::try_from(len).unwrap();
    for keep in [0, 1, 19, 4096, len / 3, len / 2, len - 1] {
        let copy = damaged_copy(dir.path(), |bytes| bytes.truncate(keep));
        check(copy.path(), &format!("truncated to {keep} of {len}"));
    }
    for (from, to) in [(0, 64), (0, len / 2), (len / 4, len / 2)] {
        let copy = damaged_copy(dir.path(), |bytes| bytes[from..to].fill(0xa5));
        check(copy.path(), &format!("garbage from {from} to {to}"));
    }
}

#[test]
fn damaged_side_files_are_survived_or_reported() {
    let dir = tempfile::tempdir().unwrap();
    filled(dir.path());
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
            check(copy.path(), &format!("{:?} damaged ({n})", entry.file_name()));
        }
    }
}

#[test]
fn a_record_that_cannot_be_read_is_reported() {
    let dir = tempfile::tempdir().unwrap();
    filled(dir.path());
    let check = |damage: &dyn Fn(&sled::Db), why: &str| {
        let copy = tempfile::tempdir().unwrap();
        copy_dir(dir.path(), copy.path());
        let generation = Generation::open(&files(copy.path())).unwrap();
        damage(&generation.db);
        drop(generation);
        let error = Queue::open(copy.path(), Checker::InProcess).err().expect("it opened");
        assert!(error.to_string().contains(why), "{error}");
    };
    let record = super::super::keys::job(id(1));
    check(&|db| drop(db.insert(&record, &b"\x01nonsense"[..]).unwrap()), "cut short");
    check(&|db| drop(db.remove(&record).unwrap()), "its job is missing");
    check(&|db| drop(db.insert("c/counts", vec![0; 48]).unwrap()), "not as many");
    check(&|db| drop(db.remove("meta/format").unwrap()), "meta/format");
    let wake = super::super::keys::wake(UtcMs(1001), id(1));
    check(&|db| drop(db.remove(&wake).unwrap()), "an index does not know it");
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
fn a_missing_or_wrong_name_of_the_generation_is_reported() {
    let dir = tempfile::tempdir().unwrap();
    let queue = open(dir.path());
    commit(&queue, vec![new(&job(1, 1))]).unwrap();
    drop(queue);
    let current = dir.path().join("queue/CURRENT");
    for (text, why) in
        [(Some("000007"), "CURRENT names 000007"), (Some("x"), "no directory"), (None, "not there")]
    {
        match text {
            Some(text) => fs::write(&current, text).unwrap(),
            None => fs::remove_file(&current).unwrap(),
        }
        let error = refusal(dir.path());
        assert!(matches!(error, OpenError::Damaged { .. }) && error.to_string().contains(why), "{error}");
    }
    fs::write(&current, "000001\n").unwrap();
    open(dir.path());
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
fn files_that_sled_takes_for_new_ones_are_reported() {
    let dir = tempfile::tempdir().unwrap();
    let queue = open(dir.path());
    commit(&queue, vec![new(&job(1, 5))]).unwrap();
    drop(queue);
    let db = dir.path().join("queue/000001/db");
    let length = fs::metadata(&db).unwrap().len();
    fs::write(&db, vec![0x5a; usize::try_from(length).unwrap()]).unwrap();
    let error =
        Queue::open(dir.path(), Checker::TestChild).err().expect("an empty queue is not what was left");
    assert!(matches!(error, OpenError::Damaged { .. }), "{error}");
}
