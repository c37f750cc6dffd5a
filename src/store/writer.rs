//! The one writer: whatever waits becomes one batch, durable before anybody is answered.
//!
//! ```text
//! take what waits -> stage (check) -> room -> journal -> mask -> apply -> flush -> fdatasync -> unmask -> answer
//! ```
//!
//! A failure before `mask` refuses and changes nothing: what the journal has taken of the group is cut off again. A
//! failure after it refuses the whole group and leaves the mask
//! on: what sled holds from then on takes no further write, may have lost pages that a failed sync reports only once, and
//! may or may not hold the group. The next commit first copies what is durable, which is what the mask shows, into a
//! fresh generation. Where sled itself has met the failure it may not even read any more (a node that was being split
//! stays half done), so it is opened anew for that, behind the same mask. The journal voids the group's numbers before
//! anybody hears of the refusal, so that a crash before that next commit does not bring the group back.

use std::io;
use std::path::PathBuf;
use std::sync::mpsc::Receiver;
use std::sync::{Arc, PoisonError, RwLock};

use super::check::Checker;
use super::compact::{self, Compacted, Size, When};
use super::disk::{Disk, free, plain};
use super::generation::{Generation, Mask};
use super::journal::{Journal, Keeper};
use super::keys;
use super::record::Totals;
use super::scrub::Progress;
use super::stage::{Group, Staged};
use super::sum::Mark;
use super::{Change, StoreError, current};
use crate::clock;

/// One sled batch takes at most so many changes and, rounded up to whole batches of callers, so many bytes.
const GROUP_CHANGES: usize = 4096;
const GROUP_BYTES: usize = 1 << 20;
/// sled rewrites nodes of sixteen records, splits them, moves them out of old segments, and pads segments.
pub(super) const ROOM_BASE: u64 = 8 << 20;
pub(super) const ROOM_PER_BYTE: u64 = 6;
/// The last of the disk is for what is queued already: new jobs must leave so much.
const ROOM_KEPT: u64 = 8 << 20;
/// What is reserved at a time.
const ROOM_WANTED: u64 = ROOM_BASE + ROOM_PER_BYTE * GROUP_BYTES as u64 + ROOM_KEPT;
/// The same two for the journal, which writes nothing beside its lines.
const JOURNAL_KEPT: u64 = 4 << 20;
const JOURNAL_WANTED: u64 = 2 * GROUP_BYTES as u64 + JOURNAL_KEPT;

/// So many writes take about half a second to read back.
pub(super) const MANY_WRITES: usize = 100_000;

pub(super) type Done = Box<dyn FnOnce(Result<(), StoreError>) + Send>;

/// A batch on its way.
pub(super) struct Request {
    pub(super) batch: Vec<Change>,
    pub(super) done: Done,
}

/// The generation that readers use; none for the moment in which it is opened anew, and after the end.
pub(super) struct Live(RwLock<Option<Arc<Generation>>>);

impl Live {
    pub(super) fn new(generation: Generation) -> Live {
        Live(RwLock::new(Some(Arc::new(generation))))
    }

    pub(super) fn get(&self) -> io::Result<Arc<Generation>> {
        let live = self.0.read().unwrap_or_else(PoisonError::into_inner);
        live.clone().ok_or_else(|| io::Error::other("it is not open now"))
    }

    fn set(&self, generation: Option<Arc<Generation>>) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = generation;
    }

    /// The end of it. sled notes what its log adds up to only when it opens, and reads back all that was written since:
    /// seconds for a million jobs. So after many writes it is opened once more now, and the next start need not wait.
    pub(super) fn rest(&self, many_writes: usize) {
        let live = self.0.write().unwrap_or_else(PoisonError::into_inner).take();
        // Somebody reads still, or a failed write has left it beyond use.
        let Some(live) = live.and_then(Arc::into_inner) else { return };
        if live.writes() < many_writes || live.is_poisoned() {
            return;
        }
        let dir = live.dir.clone();
        drop(live);
        if let Err(e) = Generation::open(&dir) {
            tracing::warn!(dir = %dir.display(), error = %plain(e), "the next start will take longer");
        }
    }
}

pub(super) struct Writer {
    live: Arc<Live>,
    disk: Box<dyn Disk>,
    journal: Journal,
    keeper: Keeper,
    progress: Arc<Progress>,
    totals: Totals,
    mark: Mark,
    /// `queue/`, and the same for errors.
    queue: PathBuf,
    path: String,
    checker: Checker,
    /// Of the live generation, and the last one that was tried.
    number: u64,
    last_number: u64,
    /// The last write failed: the live generation takes no more.
    failed: bool,
    /// What is masked in the live generation while it is not open.
    mask: Mask,
    /// Generations that readers may still hold.
    retired: Vec<Arc<Generation>>,
}

/// What a writer goes on from.
pub(super) struct Begin {
    pub(super) live: Arc<Live>,
    pub(super) disk: Box<dyn Disk>,
    pub(super) journal: Journal,
    pub(super) keeper: Keeper,
    pub(super) progress: Arc<Progress>,
    pub(super) totals: Totals,
    pub(super) mark: Mark,
    pub(super) queue: PathBuf,
    pub(super) number: u64,
    pub(super) checker: Checker,
}

/// What a group may still take, in bytes.
struct Room {
    queue: u64,
    journal: u64,
}

impl Writer {
    pub(super) fn new(begin: Begin) -> Writer {
        let Begin { live, disk, journal, keeper, progress, totals, mark, queue, number, checker } = begin;
        Writer {
            live,
            disk,
            journal,
            keeper,
            progress,
            totals,
            mark,
            path: queue.display().to_string(),
            queue,
            checker,
            number,
            last_number: number,
            failed: false,
            mask: Mask::new(),
            retired: Vec::new(),
        }
    }

    /// Until every sender is gone and everything queued is answered.
    pub(super) fn run(mut self, requests: &Receiver<Request>) {
        while let Ok(first) = requests.recv() {
            self.commit(first, requests);
        }
    }

    /// Commits one group: the first request, and those that wait behind it.
    fn commit(&mut self, first: Request, requests: &Receiver<Request>) {
        self.release_retired();
        let mut room = self.ready();
        let mut group = Group::new(self.totals.clone());
        let mut answers = Vec::new();
        let mut next = Some(first);
        while let Some(Request { batch, done }) = next {
            let staged = match &mut room {
                Ok(room) => self.stage(&mut group, &batch, room),
                Err(e) => Err(self.io_error(e)),
            };
            answers.push((done, staged));
            let full = group.changes >= GROUP_CHANGES || group.bytes >= GROUP_BYTES;
            next = if full || answers.len() >= GROUP_CHANGES { None } else { requests.try_recv().ok() };
        }
        let writes = group.writes.len();
        let written = if group.writes.is_empty() { Ok(()) } else { self.write(group) };
        let failure = written.err().map(|e| self.io_error(&e));
        for (done, staged) in answers {
            done(failure.clone().map_or(staged, Err));
        }
        // Nobody waits for this.
        if let Ok(live) = self.live.get() {
            live.collect(writes);
        }
    }

    /// Everything is in order for a group; so much room there is for it.
    fn ready(&mut self) -> io::Result<Room> {
        self.journal.settle(&mut *self.disk, clock::system_now().wall)?;
        self.recovered()?;
        let live = self.live.get()?;
        self.keeper.tend(&mut self.journal, &live);
        let journal = self.journal.room(&mut *self.disk, JOURNAL_WANTED)?;
        Ok(Room { journal, queue: self.disk.room(&live, ROOM_WANTED)? })
    }

    fn stage(&mut self, group: &mut Group, batch: &[Change], room: &mut Room) -> Result<(), StoreError> {
        let live = self.live.get().map_err(|e| self.io_error(&e))?;
        let staged = group.stage(&live, &self.path, batch)?;
        let needed = room_needed(group, &staged);
        if needed.queue > room.queue && needed.queue > ROOM_WANTED {
            room.queue = self.disk.room(&live, needed.queue).map_err(|e| self.io_error(&e))?;
        }
        if needed.journal > room.journal && needed.journal > JOURNAL_WANTED {
            let journal = self.journal.room(&mut *self.disk, needed.journal);
            room.journal = journal.map_err(|e| self.io_error(&e))?;
        }
        if needed.queue > room.queue || needed.journal > room.journal {
            return Err(self.io_error(&io::ErrorKind::StorageFull.into()));
        }
        group.add(staged, batch.len());
        Ok(())
    }

    fn write(&mut self, mut group: Group) -> io::Result<()> {
        let generation = self.live.get()?;
        let mut old = group.old_values(&generation)?;
        group.weigh(&old);
        let at = clock::system_now().wall;
        let head = self.journal.append(&mut *self.disk, &group.lines, at)?;
        let mark = Mark { head, sum: self.mark.sum.after(&old, &group.writes) };
        let totals = std::mem::take(&mut group.totals);
        old.insert(keys::MARK.to_vec(), Some(self.mark.encode().into()));
        generation.mask(old);
        group.writes.insert(keys::MARK.to_vec(), Some(mark.encode()));
        if let Err(e) = self.make_durable(&generation, group.batch()) {
            tracing::error!(queue = self.path, error = %e, "the queue cannot be written");
            self.failed = true;
            self.journal.take_back(&mut *self.disk, at);
            return Err(e);
        }
        self.progress.follow(&generation, &group.writes);
        (self.totals, self.mark) = (totals, mark);
        Ok(())
    }

    fn make_durable(&mut self, generation: &Generation, batch: sled::Batch) -> io::Result<()> {
        generation.db.apply_batch(batch).map_err(plain)?;
        self.disk.flush(generation)?;
        self.disk.sync(generation)
    }

    /// After a failed write: goes on in a fresh generation.
    fn recovered(&mut self) -> io::Result<()> {
        if !self.failed {
            return Ok(());
        }
        let old = self.readable()?;
        self.renew(&old)?;
        self.retired.push(old);
        self.failed = false;
        tracing::warn!(queue = self.path, generation = self.number, "the queue can be written again");
        Ok(())
    }

    /// Goes on in a fresh generation that takes only the room it needs. To be called before there are readers.
    pub(super) fn compact(&mut self, when: When) -> io::Result<Compacted> {
        let old = self.live.get()?;
        let before = Size::of(&old, self.totals.live_bytes)?;
        if !when.wants(before) {
            return Ok(Compacted { before, after: None, repaired: None });
        }
        compact::check_room(&old, before.live)?;
        self.renew(&old)?;
        let after = Size::of(&*self.live.get()?, before.live)?;
        Ok(Compacted { before, after: Some(after), repaired: None })
    }

    /// Copies what readers see into the next generation, and names that one. The old one's directory is gone then.
    fn renew(&mut self, old: &Generation) -> io::Result<()> {
        self.last_number += 1;
        let dir = current::dir_of(&self.queue, self.last_number);
        let fresh = match compact::copy(&mut *self.disk, old, &dir) {
            Ok(fresh) => fresh,
            Err(e) => {
                let _the_next_open_sweeps = std::fs::remove_dir_all(&dir);
                return Err(e);
            }
        };
        if let Err(e) = self.disk.switch(&self.queue, self.last_number) {
            // The name may have changed all the same, so the copy stays, and nothing may be written beside it.
            self.failed = true;
            let_go(&Arc::new(fresh));
            return Err(e);
        }
        self.number = self.last_number;
        self.live.set(Some(Arc::new(fresh)));
        if let Err(e) = current::sweep(&self.queue, self.number) {
            tracing::warn!(queue = self.path, error = %e, "an old generation stays until the next start");
        }
        Ok(())
    }

    /// The live generation, opened anew if sled has given up on it.
    fn readable(&mut self) -> io::Result<Arc<Generation>> {
        if let Ok(live) = self.live.get() {
            if !live.is_poisoned() {
                return Ok(live);
            }
            // While there is no room, what it can still read is better than nothing.
            if free(&live.file)? < ROOM_BASE {
                return Err(io::ErrorKind::StorageFull.into());
            }
            self.mask = live.masked();
            self.live.set(None);
        }
        self.checker.check(&self.queue, self.number).map_err(io::Error::other)?;
        let live = Generation::open(&current::dir_of(&self.queue, self.number)).map_err(plain)?;
        live.mask(self.mask.clone());
        let live = Arc::new(live);
        self.live.set(Some(Arc::clone(&live)));
        Ok(live)
    }

    fn release_retired(&mut self) {
        for generation in std::mem::take(&mut self.retired) {
            if Arc::strong_count(&generation) > 1 {
                self.retired.push(generation);
                continue;
            }
            // Its directory is gone: this frees the space even where the file has to stay open.
            let _is_no_longer_read = generation.file.set_len(0);
            let_go(&generation);
        }
    }

    fn io_error(&self, e: &io::Error) -> StoreError {
        StoreError::Io { path: self.path.clone(), why: e.to_string() }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        if let (true, Ok(live)) = (self.failed, self.live.get()) {
            let_go(&live);
        }
        for generation in &self.retired {
            let_go(generation);
        }
    }
}

fn room_needed(group: &Group, staged: &Staged) -> Room {
    let bytes = (group.bytes + staged.bytes) as u64;
    let (kept, journal_kept) = if staged.new_jobs { (ROOM_KEPT, JOURNAL_KEPT) } else { (0, 0) };
    Room {
        queue: ROOM_BASE + ROOM_PER_BYTE * bytes + kept,
        journal: group.lines.room() + staged.lines.room() + journal_kept,
    }
}

/// After a failed write. sled flushes and syncs when it is dropped, which may wait for ever or panic, unless it has
/// noticed the failure itself. So where it has not, this keeps it from ever being dropped.
pub(super) fn let_go(generation: &Arc<Generation>) {
    if !generation.is_poisoned() {
        std::mem::forget(Arc::clone(generation));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn after_many_writes_the_next_opening_has_nothing_to_read_back() {
        let dir = tempfile::tempdir().unwrap();
        let snapshots = || {
            let names = dir.path().read_dir().unwrap().map(|entry| entry.unwrap().file_name());
            names.filter(|name| name.to_string_lossy().starts_with("snap.")).collect::<Vec<_>>()
        };
        let rest = |writes, many| {
            let generation = Generation::open(dir.path()).unwrap();
            generation.db.insert("key", vec![7; writes]).unwrap();
            generation.collect(writes);
            let before = snapshots();
            Live::new(generation).rest(many);
            assert_eq!(snapshots() != before, writes >= many);
            let again = Generation::open(dir.path()).unwrap();
            assert_eq!(again.get(b"key").unwrap().unwrap().len(), writes);
        };
        rest(9, 10);
        rest(10, 10);
    }
}
