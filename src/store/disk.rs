//! Where the writer meets the disk: room before a batch, flush and sync after it.
//!
//! **Room.** sled does not survive a write that fails: it refuses every further one until it is opened anew. So the disk
//! space behind its file is reserved before it writes, and a full disk shows as a reservation that fails, with nothing
//! touched. Behind file systems that cannot reserve, what is free is asked instead.
//!
//! **Sync.** sled's flush ends in `sync_file_range`, which waits for pages but is no barrier for the drive's cache nor
//! for the file's size. `fdatasync` is. Nodes too large for the log go into files of their own under `blobs/`, which
//! sled does not sync at all.

use std::collections::HashSet;
use std::ffi::OsString;
use std::fs::{File, Metadata};
use std::future::Future;
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::{Arc, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::Thread;
use std::time::Duration;

use rustix::fs::{FallocateFlags, fallocate, fstatvfs};
use rustix::io::Errno;

use super::current;
use super::generation::Generation;
use super::lock::sync_dir;

/// After so long without an answer, ask whether sled has given up.
const PATIENCE: Duration = Duration::from_millis(250);

/// The steps at which a disk can fail the writer; tests fail them.
pub(super) trait Disk: Send {
    /// How many bytes sled can write now without running out of space, if possible at least `wanted`.
    fn room(&mut self, generation: &Generation, wanted: u64) -> io::Result<u64>;
    /// Everything applied so far is in sled's file.
    fn flush(&mut self, generation: &Generation) -> io::Result<()>;
    /// Everything in sled's file is on the disk.
    fn sync(&mut self, generation: &Generation) -> io::Result<()>;
    /// `queue/CURRENT` names this generation from now on, durably. After an error it may or may not.
    fn switch(&mut self, queue: &Path, number: u64) -> io::Result<()> {
        current::write(queue, number)
    }

    /// How many bytes can be written behind the first `end` of the journal's segment, if possible at least `wanted`.
    fn journal_room(&mut self, segment: &File, end: u64, wanted: u64) -> io::Result<u64> {
        reserve(segment, end, wanted, 0)
    }
    /// Writes lines of the journal.
    fn append(&mut self, segment: &File, at: u64, lines: &[u8]) -> io::Result<()> {
        segment.write_all_at(lines, at)
    }
    /// The journal's segment is on the disk, its length too.
    fn sync_journal(&mut self, segment: &File) -> io::Result<()> {
        segment.sync_data()
    }
    /// Takes back what was written behind `len`.
    fn cut(&mut self, segment: &File, len: u64) -> io::Result<()> {
        segment.set_len(len)
    }
    /// Asked before a new segment is begun.
    fn next_segment(&mut self) -> io::Result<()> {
        Ok(())
    }
}

pub(super) struct RealDisk;

impl Disk for RealDisk {
    fn room(&mut self, generation: &Generation, wanted: u64) -> io::Result<u64> {
        let reserved = reserved(&generation.file)?;
        if reserved >= wanted {
            return Ok(reserved);
        }
        let end = generation.file.metadata()?.len();
        reserve(&generation.file, end, wanted, reserved)
    }

    fn flush(&mut self, generation: &Generation) -> io::Result<()> {
        // A write of sled's that fails does not always wake those who wait for it; whoever asks anew does.
        let give_up = || {
            if generation.is_poisoned() {
                let _told_below = generation.db.flush();
            }
        };
        wait(generation.db.flush_async(), give_up).map(|_bytes| ()).map_err(plain)
    }

    fn sync(&mut self, generation: &Generation) -> io::Result<()> {
        generation.file.sync_data()?;
        let written = mtime(&generation.file.metadata()?);
        generation.blobs.lock().unwrap_or_else(PoisonError::into_inner).sync(written)
    }
}

/// Reserves `wanted` bytes behind `end`, or as much as there is; `reserved` are already.
fn reserve(file: &File, end: u64, wanted: u64, reserved: u64) -> io::Result<u64> {
    let mut ask = wanted;
    loop {
        match fallocate(file, FallocateFlags::KEEP_SIZE, end, ask) {
            Ok(()) => return Ok(ask.max(reserved)),
            // Take what there is: half the room may do for what is at hand.
            Err(Errno::NOSPC | Errno::DQUOT | Errno::FBIG) if ask / 2 > reserved => ask /= 2,
            Err(Errno::NOSPC | Errno::DQUOT | Errno::FBIG) => return Ok(reserved),
            Err(Errno::OPNOTSUPP | Errno::NOSYS) => return free(file),
            Err(Errno::INTR) => {}
            Err(e) => return Err(e.into()),
        }
    }
}

/// Gives the reserved room back: opening sled writes files beside its own, and may need it.
pub(super) fn give_back_room(file: &File) -> io::Result<()> {
    file.set_len(file.metadata()?.len())
}

/// sled's error as one of the system's.
pub(super) fn plain(error: sled::Error) -> io::Error {
    match error {
        // sled copies an error by turning it into debug text.
        sled::Error::Io(e) if e.raw_os_error().is_none() && e.kind() != io::ErrorKind::Other => {
            e.kind().into()
        }
        sled::Error::Io(e) => e,
        sled::Error::Corruption { .. } => io::Error::new(io::ErrorKind::InvalidData, "a page is corrupt"),
        _ => io::Error::other("sled has given up"),
    }
}

/// What is allocated beyond the end of the file.
fn reserved(file: &File) -> io::Result<u64> {
    const BLOCK: u64 = 512;
    let meta = file.metadata()?;
    Ok((meta.blocks() * BLOCK).saturating_sub(meta.len()))
}

/// What the file system has left for us.
pub(super) fn free(file: &File) -> io::Result<u64> {
    let fs = fstatvfs(file)?;
    Ok(fs.f_bavail.saturating_mul(fs.f_frsize))
}

/// Modification time: seconds and nanoseconds.
type Mtime = (i64, i64);

fn mtime(meta: &Metadata) -> Mtime {
    (meta.mtime(), meta.mtime_nsec())
}

/// The files that sled keeps beside its log. Almost always there are none.
pub(super) struct Blobs {
    dir: PathBuf,
    synced: HashSet<OsString>,
    /// When the directory last changed, if a later change is sure to show.
    seen: Option<Mtime>,
}

impl Blobs {
    pub(super) fn new(dir: PathBuf) -> Blobs {
        Blobs { dir, synced: HashSet::new(), seen: None }
    }

    /// Syncs every file that has come since the last time. `now` is the time of a write just made to the same file system.
    fn sync(&mut self, now: Mtime) -> io::Result<()> {
        let changed = mtime(&self.dir.metadata()?);
        if self.seen == Some(changed) {
            return Ok(());
        }
        let names: HashSet<OsString> =
            self.dir.read_dir()?.map(|entry| entry.map(|e| e.file_name())).collect::<io::Result<_>>()?;
        let new: Vec<&OsString> = names.difference(&self.synced).collect();
        for name in &new {
            match File::open(self.dir.join(name)).and_then(|file| file.sync_all()) {
                Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
                _synced_or_removed => {}
            }
        }
        if !new.is_empty() {
            sync_dir(&self.dir)?;
        }
        self.synced = names;
        // File times tick every few milliseconds: a change in the tick of the last one would not show.
        self.seen = (changed < now).then_some(changed);
        Ok(())
    }
}

/// Waits for a future of sled's; calls `impatient` now and then.
fn wait<T>(future: impl Future<Output = T>, impatient: impl Fn()) -> T {
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    let mut context = Context::from_waker(&waker);
    let mut future = pin!(future);
    loop {
        if let Poll::Ready(done) = future.as_mut().poll(&mut context) {
            return done;
        }
        std::thread::park_timeout(PATIENCE);
        impatient();
    }
}

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WANTED: u64 = 8 << 20;

    #[test]
    fn room_is_reserved_once_and_given_back() {
        let dir = tempfile::tempdir().unwrap();
        let generation = Generation::open(dir.path()).unwrap();
        let len = generation.file.metadata().unwrap().len();
        assert!(RealDisk.room(&generation, WANTED).unwrap() >= WANTED);
        assert_eq!(generation.file.metadata().unwrap().len(), len, "the file itself does not grow");
        if reserved(&generation.file).unwrap() < WANTED {
            return; // a file system that cannot reserve
        }
        give_back_room(&generation.file).unwrap();
        assert!(reserved(&generation.file).unwrap() < WANTED);
    }

    #[test]
    fn a_node_too_large_for_the_log_is_synced_too() {
        let dir = tempfile::tempdir().unwrap();
        let generation = Generation::open(dir.path()).unwrap();
        generation.db.insert("large", vec![7_u8; 3 << 20]).unwrap();
        RealDisk.flush(&generation).unwrap();
        RealDisk.sync(&generation).unwrap();
        let blobs = generation.blobs.lock().unwrap();
        assert_eq!(blobs.synced.len(), 1, "sled has moved the value into a file");
    }

    #[test]
    fn errors_are_words() {
        let copied = io::Error::new(io::ErrorKind::StorageFull, "Os { code: 28 }");
        assert_eq!(plain(sled::Error::Io(copied)).to_string(), "no storage space");
        let own = io::Error::from_raw_os_error(28);
        assert!(plain(sled::Error::Io(own)).to_string().starts_with("No space left"));
    }
}
