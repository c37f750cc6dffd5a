//! Compaction: everything live is copied into a fresh generation, and the old one is removed.
//!
//! Under churn sled reuses its space: the file levels off at about ten times the live data. After a peak it never
//! shrinks: what a million jobs took stays taken when a thousand are left. So an opening compacts, if that pays
//! ([`Size::pays_to_compact`]); nothing does while the daemon runs.
//!
//! ```text
//! room? -> copy in batches (room, apply, flush each) -> flush -> sync -> CURRENT aside, synced, renamed -> old one removed
//! ```
//!
//! The copy is that of the writer's recovery after a failed write. Whatever stops it before the rename leaves the old
//! generation in use, with nothing in it touched; the next opening sweeps what was copied. Memory is bounded by one
//! batch and two of sled's caches. All records are copied as they are, whatever family they are of.

use std::io;
use std::path::Path;
use std::sync::{Arc, PoisonError};

use super::disk::{Disk, RealDisk, free, plain};
use super::generation::Generation;
use super::lock::create_dir;
use super::queue::{Options, prepare};
use super::writer::{MANY_WRITES, ROOM_BASE, ROOM_PER_BYTE, let_go};
use super::{Checker, OpenError, journal};

/// A store of fewer bytes is never worth it ...
const LEAST_BYTES: u64 = 64 << 20;
/// ... nor is one that is smaller than so many times its live data: churn alone makes it eleven times.
const TIMES_LIVE: u64 = 20;
/// A start, when nothing fires, copies no more live data than this: deadlines wait meanwhile. `adjourn compact` does.
const MOST_AT_START: u64 = 64 << 20;
/// A copy goes in batches of so many bytes. Tests see several with little data.
const COPY_BYTES: usize = if cfg!(test) { 32 << 10 } else { 4 << 20 };
/// What a fresh copy takes, against its live data: sled writes a page anew with every few records that it gets.
const COPY_GROWS: u64 = 4;

/// How large a store is, in bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Size {
    /// Its files.
    pub disk: u64,
    /// The keys and values in them that are live.
    pub live: u64,
}

impl Size {
    /// Is there so much to be gained?
    pub fn pays_to_compact(self) -> bool {
        self.disk >= LEAST_BYTES && self.disk / TIMES_LIVE >= self.live
    }

    pub(super) fn of(generation: &Generation, live: u64) -> io::Result<Size> {
        Ok(Size { disk: bytes_in(&generation.dir)?, live })
    }
}

/// When to compact.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum When {
    /// At the start of a daemon: if it pays and does not take long.
    Starting,
    ItPays,
    Always,
}

impl When {
    pub(super) fn wants(self, size: Size) -> bool {
        match self {
            When::Starting => size.pays_to_compact() && size.live <= MOST_AT_START,
            When::ItPays => size.pays_to_compact(),
            When::Always => true,
        }
    }
}

/// What became of it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Compacted {
    pub before: Size,
    /// `None`: it did not pay.
    pub after: Option<Size>,
    /// What had to be repaired first, as at any opening.
    pub repaired: Option<String>,
}

/// Why a store was not compacted. It is as it was.
#[derive(Debug, thiserror::Error)]
pub enum CompactError {
    #[error(transparent)]
    Open(#[from] OpenError),
    #[error("there is no queue in {0}")]
    Nothing(String),
    #[error("the queue in {path} was not compacted, and stays as it is: {source}")]
    Failed { path: String, source: io::Error },
}

/// Compacts the store of a state directory that no daemon uses.
pub fn compact(state_dir: &Path, checker: Checker, when: When) -> Result<Compacted, CompactError> {
    if !["queue", journal::DIR].iter().any(|name| state_dir.join(name).is_dir()) {
        return Err(CompactError::Nothing(state_dir.display().to_string()));
    }
    let mut prepared = prepare(state_dir, Options::new(checker), Box::new(RealDisk))?;
    let path = prepared.work.queue.display().to_string();
    let done = prepared.writer.compact(when).map_err(|source| CompactError::Failed { path, source })?;
    drop(prepared.writer);
    prepared.work.live.rest(MANY_WRITES);
    let condition = prepared.work.condition.lock().unwrap_or_else(PoisonError::into_inner);
    Ok(Compacted { repaired: condition.repaired.clone(), ..done })
}

/// Is there room for a copy of so much live data?
pub(super) fn check_room(generation: &Generation, live: u64) -> io::Result<()> {
    let (needed, free) = (ROOM_BASE + COPY_GROWS * live, free(&generation.file)?);
    if free >= needed {
        return Ok(());
    }
    let why = format!("the copy needs about {} MB, and {} MB are free", needed >> 20, free >> 20);
    Err(io::Error::new(io::ErrorKind::StorageFull, why))
}

/// Everything that readers of `from` see, durable in a new directory.
pub(super) fn copy(disk: &mut dyn Disk, from: &Generation, dir: &Path) -> io::Result<Generation> {
    create_dir(dir)?;
    let to = Generation::open(dir).map_err(plain)?;
    let copied = copy_entries(disk, from, &to).and_then(|()| disk.flush(&to));
    match copied.and_then(|()| disk.sync(&to)) {
        Ok(()) => Ok(to),
        Err(e) => {
            let_go(&Arc::new(to));
            Err(e)
        }
    }
}

fn copy_entries(disk: &mut dyn Disk, from: &Generation, to: &Generation) -> io::Result<()> {
    let mut batch = sled::Batch::default();
    let (mut bytes, mut count) = (0, 0);
    for entry in from.scan(Vec::new(), vec![u8::MAX]) {
        let (key, value) = entry.map_err(plain)?;
        bytes += key.len() + value.len();
        batch.insert(key, value);
        count += 1;
        if bytes >= COPY_BYTES {
            apply(disk, to, std::mem::take(&mut batch), bytes)?;
            to.collect(count);
            (bytes, count) = (0, 0);
        }
    }
    apply(disk, to, batch, bytes)
}

fn apply(disk: &mut dyn Disk, to: &Generation, batch: sled::Batch, bytes: usize) -> io::Result<()> {
    let needed = ROOM_BASE + ROOM_PER_BYTE * bytes as u64;
    if disk.room(to, needed)? < needed {
        return Err(io::ErrorKind::StorageFull.into());
    }
    to.db.apply_batch(batch).map_err(plain)?;
    disk.flush(to)
}

fn bytes_in(dir: &Path) -> io::Result<u64> {
    let mut bytes = 0;
    for entry in dir.read_dir()? {
        let entry = entry?;
        match entry.metadata() {
            Ok(meta) if meta.is_dir() => bytes += bytes_in(&entry.path())?,
            Ok(meta) => bytes += meta.len(),
            // sled removes files of its own.
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            Err(e) => return Err(e),
        }
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_large_and_hollow_store_is_worth_it() {
        const MB: u64 = 1 << 20;
        for (disk, live, pays) in [
            (0, 0, false),
            (64 * MB - 1, 0, false),
            (64 * MB, 0, true),
            (64 * MB, 3 * MB, true),
            (64 * MB, 4 * MB, false),
            (1_280 * MB, 64 * MB, true),
            (2_200 * MB, 110 * MB, true),
            (2_200 * MB, 111 * MB, false),
            (2_200 * MB, 200 * MB, false),
            (u64::MAX, u64::MAX, false),
        ] {
            let size = Size { disk, live };
            assert_eq!(When::ItPays.wants(size), pays, "{size:?}");
            assert_eq!(When::Starting.wants(size), pays && live <= 64 * MB, "{size:?}");
            assert!(When::Always.wants(size));
        }
    }
}
