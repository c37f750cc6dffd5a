//! One generation of the queue: sled's files in one directory, and what readers may see of them.
//!
//! sled shows a batch to readers as soon as it is applied, which is before it is durable. So the writer first **masks**
//! the keys of a batch with the values they had, and takes the mask off when the sync has returned. A reader asks sled
//! first and looks at the mask afterwards: a value that sled gave is then either masked or durable. After a failed write
//! the mask stays for good, and with it the truth; the writer copies that truth into a fresh generation, and readers that
//! still hold this one go on seeing it.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::ops::Bound;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError, RwLock};
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use sled::IVec;

use super::disk::Blobs;
use super::keys::{self, Key};
use super::lock::sync_dir;

/// What sled may keep of the files in memory.
const CACHE_BYTES: u64 = 64 << 20;
/// A node of sixteen records that grows beyond a quarter of a segment moves into a file of its own, which costs two more
/// syncs. Records of a long story are 20 KB: sled's 512 KiB would be too small for sixteen of them.
const SEGMENT_BYTES: usize = 2 << 20;
/// A write leaves up to four things to free (its page, two notes about segments, an evicted page), a collection frees
/// 512 of them.
const WRITES_A_COLLECTION: usize = 128;
/// sled's threads let go of a closed file a moment later: tries, and the pause between them.
const LOCK_TRIES: u32 = 500;
const LOCK_PAUSE: Duration = Duration::from_millis(10);

type Entry = (IVec, IVec);
/// Keys with the values that readers see, or the absence.
pub(super) type Mask = BTreeMap<Key, Option<IVec>>;

pub(super) struct Generation {
    pub(super) dir: PathBuf,
    pub(super) db: sled::Db,
    /// sled's file, for the sync that sled itself does not make.
    pub(super) file: File,
    pub(super) blobs: Mutex<Blobs>,
    mask: RwLock<Mask>,
    /// Writes since it was opened.
    writes: AtomicUsize,
}

impl Generation {
    /// Opens what is there, or creates it. May panic on damaged files: see [`super::check`].
    pub(super) fn open(dir: &Path) -> sled::Result<Generation> {
        let config = sled::Config::new()
            .path(dir)
            .cache_capacity(CACHE_BYTES)
            .segment_size(SEGMENT_BYTES)
            .flush_every_ms(None);
        let mut tries = 0;
        let db = loop {
            match config.open() {
                Err(sled::Error::Io(e)) if lock_is_held(&e) && tries < LOCK_TRIES => tries += 1,
                opened => break opened?,
            }
            std::thread::sleep(LOCK_PAUSE);
        };
        let file = File::options().read(true).write(true).open(dir.join("db"))?;
        // sled makes neither the names of its files nor its settings durable.
        File::open(dir.join("conf"))?.sync_all()?;
        file.sync_all()?;
        sync_dir(dir)?;
        let blobs = Mutex::new(Blobs::new(dir.join("blobs")));
        Ok(Generation {
            dir: dir.to_owned(),
            db,
            file,
            blobs,
            mask: RwLock::default(),
            writes: AtomicUsize::new(0),
        })
    }

    /// Sled's own lock on its file, taken as sled takes it. Whoever changes the file behind sled's back holds it: the check of
    /// a daemon that has just been killed may still have the file open.
    pub(super) fn lock_out(file: &File) -> io::Result<SledLock<'_>> {
        lock_out(file, LOCK_TRIES)
    }

    /// Readers see these values, and not sled's, until [`unmask`](Generation::unmask).
    pub(super) fn mask(&self, old: Mask) {
        *self.mask.write().unwrap_or_else(PoisonError::into_inner) = old;
    }

    /// What was masked.
    pub(super) fn unmask(&self) -> Mask {
        std::mem::take(&mut *self.mask.write().unwrap_or_else(PoisonError::into_inner))
    }

    pub(super) fn masked(&self) -> Mask {
        self.mask.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn get(&self, key: &[u8]) -> sled::Result<Option<IVec>> {
        let value = self.db.get(key)?;
        let mask = self.mask.read().unwrap_or_else(PoisonError::into_inner);
        Ok(mask.get(key).cloned().unwrap_or(value))
    }

    /// The entries from `from` up to, not including, `to`.
    pub(super) fn scan(&self, from: Key, to: Key) -> Scan<'_> {
        Scan::new(self, from, to, Direction::Up)
    }

    /// The same, the last one first.
    pub(super) fn scan_down(&self, from: Key, to: Key) -> Scan<'_> {
        Scan::new(self, from, to, Direction::Down)
    }

    pub(super) fn scan_prefix(&self, prefix: &[u8]) -> Scan<'_> {
        self.scan(prefix.to_vec(), keys::after(prefix))
    }

    /// Frees what so many writes have left behind. Every write replaces a page in memory, and with the old one goes the
    /// claim on its place in the file; sled frees them 512 at a time, now and then when somebody reads. Writes alone
    /// outrun that: 15 KB of memory for every job of a bulk load.
    pub(super) fn collect(&self, writes: usize) {
        self.writes.fetch_add(writes, Ordering::Relaxed);
        for _ in 0..=writes / WRITES_A_COLLECTION {
            sled::pin().flush();
        }
    }

    /// How much there is to read back at the next opening.
    pub(super) fn writes(&self) -> usize {
        self.writes.load(Ordering::Relaxed)
    }

    /// Has sled met a failed write? It then refuses all further ones, and does not try again when it is dropped.
    pub(super) fn is_poisoned(&self) -> bool {
        self.db.context.global_error().is_err()
    }
}

/// sled's own lock on its file, while this lives.
#[derive(Debug)]
pub(super) struct SledLock<'a>(&'a File);

impl Drop for SledLock<'_> {
    /// See [`super::lock::Lock`].
    fn drop(&mut self) {
        let _closing_releases_it_too = flock(self.0, FlockOperation::Unlock);
    }
}

fn lock_out(file: &File, tries: u32) -> io::Result<SledLock<'_>> {
    let mut left = tries;
    loop {
        match flock(file, FlockOperation::NonBlockingLockExclusive) {
            Err(Errno::WOULDBLOCK) if left > 0 => left -= 1,
            locked => return Ok(locked.map(|()| SledLock(file))?),
        }
        std::thread::sleep(LOCK_PAUSE);
    }
}

/// sled's error for this is text only.
fn lock_is_held(error: &io::Error) -> bool {
    error.to_string().contains("could not acquire lock")
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Direction {
    Up,
    Down,
}

/// Merges what sled has with the mask, in key order.
pub(super) struct Scan<'a> {
    generation: &'a Generation,
    direction: Direction,
    tree: sled::Iter,
    /// What sled gave and the merge has not reached yet.
    ahead: Option<Entry>,
    ended: bool,
    /// The part that is still to come.
    low: Bound<Key>,
    high: Bound<Key>,
}

impl<'a> Scan<'a> {
    fn new(generation: &'a Generation, from: Key, to: Key, direction: Direction) -> Scan<'a> {
        let ended = from >= to;
        let to = if ended { from.clone() } else { to };
        let tree = generation.db.range(from.clone()..to.clone());
        Scan {
            generation,
            direction,
            tree,
            ahead: None,
            ended,
            low: Bound::Included(from),
            high: Bound::Excluded(to),
        }
    }

    fn look_ahead(&mut self) -> sled::Result<()> {
        if self.ahead.is_some() || self.ended {
            return Ok(());
        }
        let next = match self.direction {
            Direction::Up => self.tree.next(),
            Direction::Down => self.tree.next_back(),
        };
        self.ended = !matches!(next, Some(Ok(_)));
        self.ahead = next.transpose()?;
        Ok(())
    }

    /// The next masked key in what is still to come.
    fn masked(&self) -> Option<(Key, Option<IVec>)> {
        let mask = self.generation.mask.read().unwrap_or_else(PoisonError::into_inner);
        if mask.is_empty() {
            return None;
        }
        let mut rest = mask.range::<[u8], _>((borrow(&self.low), borrow(&self.high)));
        let next = match self.direction {
            Direction::Up => rest.next(),
            Direction::Down => rest.next_back(),
        };
        next.map(|(key, value)| (key.clone(), value.clone()))
    }

    fn advance_past(&mut self, key: &[u8]) {
        match self.direction {
            Direction::Up => self.low = Bound::Excluded(key.to_vec()),
            Direction::Down => self.high = Bound::Excluded(key.to_vec()),
        }
    }

    fn comes_first(&self, one: &[u8], other: &[u8]) -> bool {
        match self.direction {
            Direction::Up => one < other,
            Direction::Down => one > other,
        }
    }
}

impl Iterator for Scan<'_> {
    type Item = sled::Result<Entry>;

    fn next(&mut self) -> Option<sled::Result<Entry>> {
        loop {
            if let Err(e) = self.look_ahead() {
                return Some(Err(e));
            }
            // Only now: what sled gave was read before the mask is.
            let masked = self.masked();
            let tree_is_next = match (&self.ahead, &masked) {
                (None, None) => return None,
                (Some(_), None) => true,
                (None, Some(_)) => false,
                (Some((key, _)), Some((masked, _))) => self.comes_first(key, masked),
            };
            if tree_is_next {
                let entry = self.ahead.take()?;
                self.advance_past(&entry.0);
                return Some(Ok(entry));
            }
            let (key, value) = masked?;
            if self.ahead.as_ref().is_some_and(|(ahead, _)| *ahead == key) {
                self.ahead = None;
            }
            self.advance_past(&key);
            if let Some(value) = value {
                return Some(Ok((key.into(), value)));
            }
        }
    }
}

fn borrow(bound: &Bound<Key>) -> Bound<&[u8]> {
    match bound {
        Bound::Included(key) => Bound::Included(key),
        Bound::Excluded(key) => Bound::Excluded(key),
        Bound::Unbounded => Bound::Unbounded,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn generation(dir: &Path, keys: &[&str]) -> Generation {
        let generation = Generation::open(dir).unwrap();
        for key in keys {
            generation.db.insert(key, "tree").unwrap();
        }
        generation
    }

    fn mask(entries: &[(&str, Option<&str>)]) -> Mask {
        entries.iter().map(|(key, value)| (key.as_bytes().to_vec(), value.map(IVec::from))).collect()
    }

    fn keys(scan: Scan<'_>) -> String {
        let text = |bytes: IVec| String::from_utf8(bytes.to_vec()).unwrap();
        let shown = scan.map(|entry| {
            let (key, value) = entry.unwrap();
            format!("{}={}", text(key), text(value))
        });
        shown.collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn a_file_that_sled_has_open_is_nobody_elses() {
        let dir = tempfile::tempdir().unwrap();
        let generation = generation(dir.path(), &["a"]);
        let file = File::options().write(true).open(dir.path().join("db")).unwrap();
        assert_eq!(lock_out(&file, 2).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        drop(generation);
        let lock = Generation::lock_out(&file).unwrap();
        let other = File::open(dir.path().join("db")).unwrap();
        assert_eq!(lock_out(&other, 0).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        drop(lock);
        lock_out(&other, 0).unwrap();
    }

    #[test]
    fn readers_see_the_mask_instead_of_what_sled_has() {
        let dir = tempfile::tempdir().unwrap();
        let generation = generation(dir.path(), &["b", "c", "e"]);
        generation.mask(mask(&[
            ("a", Some("old")),
            ("b", Some("old")),
            ("c", None),
            ("d", None),
            ("f", Some("old")),
        ]));
        let range = || (b"a".to_vec(), b"z".to_vec());
        let (from, to) = range();
        assert_eq!(keys(generation.scan(from, to)), "a=old b=old e=tree f=old");
        let (from, to) = range();
        assert_eq!(keys(generation.scan_down(from, to)), "f=old e=tree b=old a=old");
        assert_eq!(keys(generation.scan(b"b".to_vec(), b"f".to_vec())), "b=old e=tree");
        assert_eq!(generation.get(b"c").unwrap(), None);
        assert_eq!(generation.get(b"f").unwrap(), Some("old".into()));
        generation.unmask();
        let (from, to) = range();
        assert_eq!(keys(generation.scan(from, to)), "b=tree c=tree e=tree");
    }

    #[test]
    fn a_mask_that_appears_in_the_middle_of_a_scan_counts_from_there() {
        let dir = tempfile::tempdir().unwrap();
        let generation = generation(dir.path(), &["a", "b", "c", "d"]);
        let mut scan = generation.scan(b"a".to_vec(), b"z".to_vec());
        assert_eq!(scan.next().unwrap().unwrap().0, "a");
        generation.mask(mask(&[("a", None), ("b", None), ("c", Some("old"))]));
        assert_eq!(keys(scan), "c=old d=tree");
    }

    #[test]
    fn an_empty_or_backward_range_is_empty() {
        let dir = tempfile::tempdir().unwrap();
        let generation = generation(dir.path(), &["a", "b"]);
        generation.mask(mask(&[("a", Some("old"))]));
        assert_eq!(keys(generation.scan(b"b".to_vec(), b"a".to_vec())), "");
        assert_eq!(keys(generation.scan_down(b"a".to_vec(), b"a".to_vec())), "");
    }
}
