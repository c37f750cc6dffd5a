//! The store and its journal together: each repairs the other, and what neither can is not opened.

use std::fs;
use std::path::PathBuf;

use proptest::prelude::*;

use super::faults::copy_dir;
use super::*;
use crate::store::generation::Generation;
use crate::store::journal::verify;
use crate::store::record::{STORE_FORMAT, Totals, WITHOUT_JOURNAL};
use crate::store::sum::{Mark, Sum};
use crate::store::{Options, keys, recover};

/// The first format with a journal.
const WITH_JOURNAL: u32 = WITHOUT_JOURNAL + 1;

/// Segments of a few lines, and a checkpoint after a few of them.
fn small() -> Options {
    let mut options = Options::new(Checker::InProcess);
    options.limits.segment_bytes = 4_000;
    options.limits.checkpoint_bytes = 12_000;
    options
}

fn all(queue: &Queue) -> Vec<Job> {
    queue.page(&Filter::default(), None, usize::MAX).unwrap()
}

/// One keyed job, one that is done, one that is forgotten, and a memory.
fn filled(dir: &Path) -> Vec<Job> {
    let queue = open(dir);
    let (two, three) = (job(2, 20), job(3, 30));
    let remember = Change::Remember { server: "campus".into(), memory: Memory::default() };
    commit(&queue, vec![new(&keyed(1, "k")), new(&two), new(&three), remember]).unwrap();
    commit(&queue, vec![update(&done(&two, 50), two.revision)]).unwrap();
    commit(&queue, vec![update(&done(&three, 60), three.revision)]).unwrap();
    commit(&queue, vec![Change::Remove(three.id)]).unwrap();
    all(&queue)
}

#[track_caller]
fn check(dir: &Path, expected: &[Job], repaired: Option<&str>) {
    let queue = Queue::open(dir, Checker::TestChild).unwrap();
    let health = queue.health();
    match (repaired, &health.repaired) {
        (None, None) => {}
        (Some(why), Some(text)) => assert!(text.contains(why), "{text}"),
        other => panic!("{other:?}"),
    }
    assert_eq!(all(&queue), expected);
    assert_eq!(queue.by_key(&"campus".into(), "k").unwrap(), Some(id(1)));
    assert_eq!(queue.memory(&"campus".into()).unwrap(), Some(Memory::default()));
    let done = expected.iter().filter(|job| job.is_done()).count();
    assert_eq!(queue.counts().unwrap()[&State::Done], done as u64);
    assert_eq!(queue.done_before(UtcMs(i64::MAX), 9).unwrap().len(), done);
    let audit = verify(&dir.join("journal"), health.journal, None).unwrap();
    assert_eq!((audit.findings, audit.notes), (vec![], vec![]));
}

fn segment(dir: &Path) -> PathBuf {
    dir.join("journal/00000000000000000001.ndjson")
}

#[test]
fn a_lost_queue_comes_back_from_the_journal() {
    let dir = tempfile::tempdir().unwrap();
    let expected = filled(dir.path());
    fs::remove_dir_all(dir.path().join("queue")).unwrap();
    check(dir.path(), &expected, Some("there is a journal, and no queue"));
    check(dir.path(), &expected, None);
}

/// What sled does in silence to most damaged files: it opens with older contents.
#[test]
fn an_older_queue_takes_in_what_the_journal_has_more() {
    let (dir, older) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    drop(open(dir.path()));
    copy_dir(&dir.path().join("queue"), older.path());
    let expected = filled(dir.path());
    fs::remove_dir_all(dir.path().join("queue")).unwrap();
    copy_dir(older.path(), &dir.path().join("queue"));
    check(dir.path(), &expected, None);
    check(dir.path(), &expected, None);
}

#[test]
fn a_lost_cut_or_edited_journal_is_begun_anew_from_the_queue() {
    let damages: [(Harm<'_>, &str); 4] = [
        (&|dir| fs::remove_dir_all(dir.join("journal")).unwrap(), "it is not there"),
        (&|dir| cut(&segment(dir), 1), "it ends at line 6"),
        (&|dir| cut(&segment(dir), 2_000), "it ends at line"),
        (&|dir| edit(&segment(dir), 300), "ndjson:1: it does not fit its own hash"),
    ];
    for (damage, why) in damages {
        let dir = tempfile::tempdir().unwrap();
        let expected = filled(dir.path());
        damage(dir.path());
        check(dir.path(), &expected, Some(why));
        check(dir.path(), &expected, None);
        fs::remove_dir_all(dir.path().join("queue")).unwrap();
        check(dir.path(), &expected, Some("and no queue"));
    }
}

/// Something done to a state directory.
type Harm<'a> = &'a dyn Fn(&Path);

fn cut(path: &Path, bytes: u64) {
    let file = fs::File::options().write(true).open(path).unwrap();
    file.set_len(file.metadata().unwrap().len() - bytes).unwrap();
}

fn edit(path: &Path, at: usize) {
    let mut bytes = fs::read(path).unwrap();
    bytes[at] ^= 1;
    fs::write(path, bytes).unwrap();
}

#[test]
fn a_last_write_that_was_cut_off_is_removed() {
    let dir = tempfile::tempdir().unwrap();
    let expected = filled(dir.path());
    let whole = fs::read(segment(dir.path())).unwrap();
    fs::write(segment(dir.path()), [&whole[..], &whole[..700]].concat()).unwrap();
    check(dir.path(), &expected, None);
    assert_eq!(fs::read(segment(dir.path())).unwrap(), whole);
}

#[test]
fn what_neither_can_prove_is_not_opened_and_not_touched() {
    let gone: Harm<'_> = &|dir| fs::remove_dir_all(dir.join("journal")).unwrap();
    let empty: Harm<'_> = &|dir| fs::remove_file(segment(dir)).unwrap();
    let damage = [gone, empty, &|dir| edit(&segment(dir), 300)];
    for damage in damage {
        let dir = tempfile::tempdir().unwrap();
        filled(dir.path());
        damage(dir.path());
        fs::write(dir.path().join("queue/CURRENT"), "x").unwrap();
        let there = |name: &str| dir.path().join(name).exists();
        let before = there("journal");
        let error = refusal(dir.path());
        assert!(matches!(error, OpenError::Damaged { .. }), "{error}");
        assert!(error.to_string().contains("move it aside with \"mkdir "), "{error}");
        assert!(there("queue/000001") && there("journal") == before && !there("set-aside"), "{error}");
    }
}

/// A queue whose head can still be read, though a record cannot, and a journal that ends before it.
#[test]
fn a_journal_that_is_known_to_be_too_short_rebuilds_nothing() {
    let dir = tempfile::tempdir().unwrap();
    filled(dir.path());
    cut(&segment(dir.path()), 1);
    let generation = Generation::open(&dir.path().join("queue/000001")).unwrap();
    generation.db.insert(keys::job(id(1)), "garbage").unwrap();
    drop(generation);
    let error = refusal(dir.path());
    assert!(error.to_string().contains("ends at line 6, where the queue had come to 7"), "{error}");
}

/// As a version left it that counted jobs and not bytes. Gives the bytes.
fn forget_bytes(generation: &Generation) -> u64 {
    let totals = generation.get(keys::COUNTS).unwrap().unwrap();
    generation.db.insert(keys::COUNTS, &totals[..totals.len() - 8]).unwrap();
    Totals::decode(&totals).unwrap().live_bytes
}

#[test]
fn a_store_that_did_not_count_its_bytes_does_from_then_on() {
    let dir = tempfile::tempdir().unwrap();
    let expected = filled(dir.path());
    let generation = Generation::open(&dir.path().join("queue/000001")).unwrap();
    let live = forget_bytes(&generation);
    let mark = Mark::decode(&generation.get(keys::MARK).unwrap().unwrap()).unwrap();
    let mark = Mark { sum: Sum::of(&generation).unwrap(), ..mark };
    generation.db.insert(keys::MARK, mark.encode()).unwrap();
    drop(generation);
    check(dir.path(), &expected, None);
    assert_eq!(open(dir.path()).size().unwrap().live, live);
    check(dir.path(), &expected, None);
}

#[test]
fn a_store_without_a_journal_is_adopted() {
    let dir = tempfile::tempdir().unwrap();
    let expected = filled(dir.path());
    fs::remove_dir_all(dir.path().join("journal")).unwrap();
    let generation = Generation::open(&dir.path().join("queue/000001")).unwrap();
    generation.db.remove(keys::MARK).unwrap();
    generation.db.insert(keys::FORMAT, WITHOUT_JOURNAL.to_be_bytes().to_vec()).unwrap();
    let live = forget_bytes(&generation);
    drop(generation);
    check(dir.path(), &expected, None);
    check(dir.path(), &expected, None);
    assert_eq!(open(dir.path()).size().unwrap().live, live);
    fs::remove_dir_all(dir.path().join("queue")).unwrap();
    check(dir.path(), &expected, Some("and no queue"));
}

#[test]
fn a_store_of_the_format_before_is_taken_over_once() {
    let dir = tempfile::tempdir().unwrap();
    let expected = filled(dir.path());
    let files = dir.path().join("queue/000001");
    let generation = Generation::open(&files).unwrap();
    generation.db.insert(keys::FORMAT, WITH_JOURNAL.to_be_bytes().to_vec()).unwrap();
    let mark = Mark::decode(&generation.get(keys::MARK).unwrap().unwrap()).unwrap();
    let mark = Mark { sum: Sum::of(&generation).unwrap(), ..mark };
    generation.db.insert(keys::MARK, mark.encode()).unwrap();
    drop(generation);
    check(dir.path(), &expected, None);
    let generation = Generation::open(&files).unwrap();
    let format = generation.get(keys::FORMAT).unwrap().unwrap();
    assert_eq!(format.to_vec(), STORE_FORMAT.to_be_bytes());
    drop(generation);
    // Its checksum is right, or this would rebuild it.
    check(dir.path(), &expected, None);
}

#[test]
fn a_queue_that_was_found_wrong_while_it_was_in_use_is_rebuilt_at_the_next_start() {
    let dir = tempfile::tempdir().unwrap();
    let expected = filled(dir.path());
    recover::distrust(&dir.path().join("queue"), "its records were found wrong").unwrap();
    check(dir.path(), &expected, Some("its records were found wrong"));
    check(dir.path(), &expected, None);
}

/// Commits until checkpoints have made old segments go; then everything comes back from what is left.
#[test]
fn checkpoints_bound_the_journal_and_lose_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let mut options = small();
    options.limits.retention = std::time::Duration::ZERO;
    let queue = Queue::with(dir.path(), options).unwrap();
    let remember = Change::Remember { server: "campus".into(), memory: Memory::default() };
    commit(&queue, vec![new(&keyed(1, "k")), new(&done(&job(2, 1), 5)), remember]).unwrap();
    let mut last = job(3, 0);
    commit(&queue, vec![new(&last)]).unwrap();
    // Time is what the checkpoint's thread needs; it is passed with further commits.
    let mut due = 0;
    while segment(dir.path()).exists() {
        due += 1;
        let next = moved(&last, due);
        commit(&queue, vec![update(&next, last.revision)]).unwrap();
        last = next;
        assert!(due < 20_000, "the first segment never goes");
    }
    let expected = all(&queue);
    let head = queue.health().journal;
    drop(queue);
    assert_eq!(verify(&dir.path().join("journal"), head, None).unwrap().findings, []);
    fs::remove_dir_all(dir.path().join("queue")).unwrap();
    check(dir.path(), &expected, Some("and no queue"));
}

#[test]
fn a_damaged_checkpoint_is_noticed_and_replaced() {
    let dir = tempfile::tempdir().unwrap();
    let filled = filled(dir.path());
    fs::remove_dir_all(dir.path().join("journal")).unwrap();
    check(dir.path(), &filled, Some("it is not there"));
    let checkpoint = dir.path().join("journal/checkpoint-00000000000000000007.ndjson");
    edit(&checkpoint, 500);
    let queue = open(dir.path());
    let mut last = job(9, 0);
    commit(&queue, vec![new(&last)]).unwrap();
    let mut due = 0;
    while !verify(&dir.path().join("journal"), None, None).unwrap().findings.is_empty() {
        due += 1;
        let next = moved(&last, due);
        commit(&queue, vec![update(&next, last.revision)]).unwrap();
        last = next;
        assert!(due < 5_000, "the damaged checkpoint is never replaced");
    }
    let expected = all(&queue);
    drop(queue);
    fs::remove_dir_all(dir.path().join("queue")).unwrap();
    let queue = open(dir.path());
    assert_eq!(all(&queue), expected);
}

#[derive(Clone, Debug)]
enum Damage {
    Flip { at: f64, bit: u8 },
    Cut { at: f64 },
    Fill { at: f64, bytes: usize },
    Remove,
}

fn damage() -> impl Strategy<Value = Damage> {
    let at = 0.0..1.0_f64;
    prop_oneof![
        3 => (at.clone(), 0..8_u8).prop_map(|(at, bit)| Damage::Flip { at, bit }),
        2 => at.clone().prop_map(|at| Damage::Cut { at }),
        1 => (at, 1..4096_usize).prop_map(|(at, bytes)| Damage::Fill { at, bytes }),
        1 => Just(Damage::Remove),
    ]
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a place in a file of a few megabytes"
)]
fn inflict(damage: &Damage, path: &Path) {
    let mut bytes = fs::read(path).unwrap();
    // sled's file ends in zeros that it does not use.
    let used = bytes.iter().rposition(|b| *b != 0).map_or(0, |last| last + 1);
    let place = |at: f64| ((used as f64 * at) as usize).min(used.saturating_sub(1));
    match *damage {
        Damage::Remove => return fs::remove_file(path).unwrap(),
        _ if used == 0 => {}
        Damage::Flip { at, bit } => bytes[place(at)] ^= 1 << bit,
        Damage::Cut { at } => bytes.truncate(place(at)),
        Damage::Fill { at, bytes: len } => {
            let end = (place(at) + len).min(bytes.len());
            bytes[place(at)..end].fill(0xa5);
        }
    }
    fs::write(path, bytes).unwrap();
}

/// Every file of the store, in order.
fn files(dir: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in dir.read_dir().unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(self::files(&path));
        } else if path.file_name().unwrap() != "lock" {
            files.push(path);
        }
    }
    files.sort();
    files
}

/// Some history, closed and opened in between. What is acknowledged at its end.
fn live(dir: &Path, steps: &[(u64, i64, bool)]) -> Vec<Job> {
    let mut queue = Queue::with(dir, small()).unwrap();
    for (n, due, reopen) in steps {
        let change = match queue.get(id(*n)).unwrap() {
            None => new(&job(*n, *due)),
            Some(old) if old.is_done() => Change::Remove(old.id),
            Some(old) if due % 3 == 0 => update(&done(&old, *due), old.revision),
            Some(old) => update(&moved(&old, *due), old.revision),
        };
        commit(&queue, vec![change, new(&job(1_000 + n, *due))])
            .or_else(|_| {
                let (n, due) = (2_000 + queue.counts().unwrap().values().sum::<u64>(), *due);
                commit(&queue, vec![new(&job(n, due))])
            })
            .unwrap();
        if *reopen {
            drop(queue);
            queue = Queue::with(dir, small()).unwrap();
        }
    }
    all(&queue)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever happens to one file, nothing acknowledged is lost and nothing else is there.
    #[test]
    fn damage_to_any_one_file_loses_nothing(
        steps in proptest::collection::vec((0..8_u64, 0..50_i64, proptest::bool::weighted(0.1)), 1..60),
        which in 0.0..1.0_f64,
        damage in damage(),
    ) {
        let dir = tempfile::tempdir().unwrap();
        let expected = live(dir.path(), &steps);
        let files = files(dir.path());
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "an index")]
        let path = &files[(files.len() as f64 * which) as usize];
        inflict(&damage, path);
        for round in 0..2 {
            let queue = Queue::open(dir.path(), Checker::TestChild);
            let queue = queue.unwrap_or_else(|error| panic!("{damage:?} on {}: {error}", path.display()));
            prop_assert_eq!(&all(&queue), &expected, "{:?} on {}, opening {}", damage, path.display(), round);
        }
    }

    /// Damage to several files may be more than can be repaired, but it is never a panic, and what opens is a store.
    #[test]
    fn damage_to_several_files_is_repaired_or_told(
        steps in proptest::collection::vec((0..8_u64, 0..50_i64, proptest::bool::weighted(0.1)), 1..40),
        damages in proptest::collection::vec((0.0..1.0_f64, damage()), 2..4),
    ) {
        let dir = tempfile::tempdir().unwrap();
        live(dir.path(), &steps);
        for (which, damage) in &damages {
            let files = files(dir.path());
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "an index")]
            let path = &files[(files.len() as f64 * which) as usize];
            inflict(damage, path);
        }
        match Queue::open(dir.path(), Checker::TestChild) {
            Ok(queue) => {
                let before = all(&queue).len();
                commit(&queue, vec![new(&job(9_999, 5))]).unwrap();
                prop_assert_eq!(all(&queue).len(), before + 1);
            }
            Err(OpenError::Damaged { why, .. }) => {
                prop_assert!(!why.contains("panicked") && !why.contains("src/"), "{}", why);
            }
            Err(other) => panic!("{other}"),
        }
    }
}
