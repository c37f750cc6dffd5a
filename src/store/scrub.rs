//! The check that goes on beside a running store: adds up all records of a large one, and reads the latest checkpoint.
//!
//! The sum is taken slice by slice while the writer writes. What it changes behind the place that the scan has reached, it
//! passes on here in the same moment in which readers begin to see it; so at the end the sum is that of this very moment,
//! and so is the mark that it is compared with.

use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use super::disk::plain;
use super::generation::Generation;
use super::keys::{self, Key};
use super::stage::Writes;
use super::sum::{Mark, Sum};
use super::writer::Live;
use super::{journal, recover};
use crate::clock;

/// Records in a slice: the writer waits for one at most.
const SLICE: usize = 256;

/// What is known to be wrong, or was put right at the start. Shared by all who find out.
#[derive(Default)]
pub(super) struct Condition {
    pub(super) trouble: Option<String>,
    pub(super) repaired: Option<String>,
}

/// How far the scan has come; nothing when none is under way.
#[derive(Default)]
pub(super) struct Progress(Mutex<Option<Added>>);

#[derive(Default)]
struct Added {
    /// Everything up to here is in the sum.
    up_to: Key,
    sum: Sum,
}

impl Progress {
    /// Shows these writes to readers, and takes them into the sum.
    pub(super) fn follow(&self, generation: &Generation, new: &Writes) {
        let mut added = self.lock();
        let old = generation.unmask();
        let Some(added) = added.as_mut() else { return };
        for (key, value) in old.range(..=added.up_to.clone()) {
            added.sum.subtract(key, value.as_deref());
            added.sum.add(key, new.get(key).and_then(|value| value.as_deref()));
        }
    }

    /// Adds the next slice. At the end: do the records fit the mark?
    fn step(&self, generation: &Generation) -> io::Result<Option<bool>> {
        let mut progress = self.lock();
        let added = progress.get_or_insert_default();
        let mut from = added.up_to.clone();
        if !from.is_empty() {
            from.push(0);
        }
        let mut taken = 0;
        for entry in generation.scan(from, vec![u8::MAX]).take(SLICE) {
            let (key, value) = entry.map_err(plain)?;
            added.sum.add(&key, Some(&value));
            added.up_to = key.to_vec();
            taken += 1;
        }
        if taken == SLICE {
            return Ok(None);
        }
        let mark = generation.get(keys::MARK).map_err(plain)?;
        let fits = mark.and_then(|mark| Mark::decode(&mark).ok()).is_some_and(|mark| mark.sum == added.sum);
        *progress = None;
        Ok(Some(fits))
    }

    fn lock(&self) -> MutexGuard<'_, Option<Added>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The thread; ends when it is dropped.
pub(super) struct Scrub {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

/// What it needs.
pub(super) struct Work {
    pub(super) live: Arc<Live>,
    pub(super) progress: Arc<Progress>,
    pub(super) condition: Arc<Mutex<Condition>>,
    pub(super) queue: PathBuf,
    pub(super) journal: PathBuf,
    /// Records need not be added up.
    pub(super) verified: bool,
    /// Set if the latest checkpoint must be replaced.
    pub(super) wanted: Arc<AtomicBool>,
    /// Set once all records are known to be right.
    pub(super) trusted: Arc<AtomicBool>,
}

impl Scrub {
    pub(super) fn start(work: Work) -> io::Result<Scrub> {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::Builder::new().name("adjourn-scrub".to_owned());
        let thread = thread.spawn(move || {
            if let Err(error) = work.run(&stopped) {
                tracing::warn!(queue = %work.queue.display(), %error, "the check of all records broke off");
            }
        })?;
        Ok(Scrub { stop, thread: Some(thread) })
    }
}

impl Drop for Scrub {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _a_panic_has_been_reported = thread.join();
        }
    }
}

impl Work {
    fn run(&self, stop: &AtomicBool) -> io::Result<()> {
        if !self.verified {
            self.add_up(stop)?;
            if !self.trusted.load(Ordering::Relaxed) {
                return Ok(());
            }
        }
        if let Some((path, why)) = journal::damaged_checkpoint(&self.journal, stop)? {
            tracing::error!(path = %path.display(), why, "the latest checkpoint is damaged: writing another");
            // Kept, but no longer taken for one.
            std::fs::rename(&path, path.with_extension("damaged"))?;
            self.wanted.store(true, Ordering::Relaxed);
        }
        Ok(())
    }

    fn add_up(&self, stop: &AtomicBool) -> io::Result<()> {
        while !stop.load(Ordering::Relaxed) {
            let live = self.live.get()?;
            match self.progress.step(&live)? {
                None => std::thread::yield_now(),
                Some(true) => {
                    tracing::info!(queue = %self.queue.display(), "all records fit their checksum");
                    self.trusted.store(true, Ordering::Relaxed);
                    return Ok(());
                }
                Some(false) => return self.tell(),
            }
        }
        Ok(())
    }

    fn tell(&self) -> io::Result<()> {
        let at = clock::system_now().wall;
        let why = format!("its records were found at {at} not to be those that its checksum was made of");
        tracing::error!(
            queue = %self.queue.display(),
            "the queue cannot be trusted: {why}; restart the daemon, which then rebuilds it from its journal"
        );
        let mut condition = self.condition.lock().unwrap_or_else(PoisonError::into_inner);
        condition.trouble = Some(format!("{why}; the next start rebuilds it from its journal"));
        drop(condition);
        recover::distrust(&self.queue, &why)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::generation::Mask;

    fn generation(dir: &std::path::Path, records: usize) -> (Generation, Sum) {
        let generation = Generation::open(dir).unwrap();
        for n in 0..records {
            generation.db.insert(format!("j/{n:06}"), format!("value {n}").into_bytes()).unwrap();
        }
        let sum = Sum::of(&generation).unwrap();
        set_mark(&generation, sum);
        (generation, sum)
    }

    fn set_mark(generation: &Generation, sum: Sum) {
        let mark = Mark { head: journal::Head::ORIGIN, sum };
        generation.db.insert(keys::MARK, mark.encode()).unwrap();
    }

    #[test]
    fn what_is_written_meanwhile_is_followed_on_both_sides_of_the_scan() {
        let dir = tempfile::tempdir().unwrap();
        let (generation, mut sum) = generation(dir.path(), 5 * SLICE);
        let progress = Progress::default();
        let mut steps = 0;
        let fits = loop {
            if let Some(fits) = progress.step(&generation).unwrap() {
                break fits;
            }
            steps += 1;
            let (behind, ahead) = (format!("j/{steps:06}"), format!("j/{:06}", 5 * SLICE - steps));
            let writes: Writes = [
                (behind.clone(), Some(b"changed".to_vec())),
                (ahead, None),
                (format!("j/{steps:06}x"), Some(b"new".to_vec())),
            ]
            .map(|(key, value)| (key.into_bytes(), value))
            .into();
            let old: Mask = writes.keys().map(|key| (key.clone(), generation.get(key).unwrap())).collect();
            sum = sum.after(&old, &writes);
            generation.mask(old);
            for (key, value) in &writes {
                match value {
                    Some(value) => generation.db.insert(key, value.clone()).unwrap(),
                    None => generation.db.remove(key).unwrap(),
                };
            }
            set_mark(&generation, sum);
            progress.follow(&generation, &writes);
        };
        assert!(fits && steps >= 3, "{steps}");
    }

    #[test]
    fn a_record_that_changed_by_itself_is_noticed() {
        let dir = tempfile::tempdir().unwrap();
        let (generation, _) = generation(dir.path(), 2 * SLICE + 7);
        generation.db.insert("j/000300", "rot").unwrap();
        let progress = Progress::default();
        let fits = loop {
            if let Some(fits) = progress.step(&generation).unwrap() {
                break fits;
            }
        };
        assert!(!fits);
    }

    fn work(dir: &std::path::Path, generation: Generation) -> Work {
        Work {
            live: Arc::new(Live::new(generation)),
            progress: Arc::default(),
            condition: Arc::default(),
            queue: dir.to_owned(),
            journal: dir.join("journal"),
            verified: false,
            wanted: Arc::default(),
            trusted: Arc::default(),
        }
    }

    #[test]
    fn a_store_that_cannot_be_trusted_is_told_and_remembered() {
        for sound in [true, false] {
            let dir = tempfile::tempdir().unwrap();
            let (generation, _) = generation(&dir.path().join("000001"), SLICE + 1);
            if !sound {
                generation.db.remove("j/000002").unwrap();
            }
            let work = work(dir.path(), generation);
            work.run(&AtomicBool::new(false)).unwrap();
            let trouble = work.condition.lock().unwrap().trouble.clone();
            assert_eq!(trouble.is_none(), sound, "{trouble:?}");
            assert_eq!(work.trusted.load(Ordering::Relaxed), sound, "a checkpoint may be taken from it");
            assert_eq!(dir.path().join("DISTRUSTED").exists(), !sound);
        }
    }
}
