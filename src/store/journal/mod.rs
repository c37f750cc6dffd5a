//! The journal: every change, one line each, chained by hashes, on disk before sled hears of it.
//!
//! ```text
//! append, fdatasync ──▶ sled ──▶ answered
//!        │                └ refused: cut off, and a void takes the numbers
//!        └ failed: cut off, refused
//! ```
//!
//! - `line`: what one looks like. `files`: how they are named, and read. `walk`: follows the chain and tells a write that
//!   was cut off from damage. `checkpoint`: everything in one file, so that old segments may go. `survey`: what there is
//!   at the start. `audit`: what people ask of it.
//! - **Only whole groups count.** A group that a crash cut short was never acknowledged and is cut off at the next start.
//! - **Numbers are never used twice.** When sled refuses a group that the journal has taken, its lines are cut off, and a
//!   `void` line behind them accounts for their numbers, before the refusal goes out: sled may hold the group after a
//!   crash, and the journal then says that it must not. If even that cannot be written, no further group is taken until
//!   it can; a crash before then leaves open whether the refused group is there.
//! - **Nothing lands behind torn bytes**: lines are written at the offset where the last good one ends, never by append.

mod audit;
mod checkpoint;
mod files;
mod line;
mod survey;
mod walk;

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::disk::{Disk, give_back_room};
use super::lock::sync_dir;
use crate::job::UtcMs;

pub use audit::{Audit, Finding, Told, is_there, tell, verify};
pub(super) use checkpoint::{Keeper, damaged as damaged_checkpoint, write as write_checkpoint};
pub(super) use line::{Bodies, FORMAT};
pub use line::{Hash, Head};
pub(super) use survey::{Found, Sound, Survey, can_replay, replay, survey};
pub(super) use walk::Broken;
#[cfg(test)]
pub(super) use walk::{Tail, Walk};

/// Where it is, in the state directory.
pub const DIR: &str = "journal";
/// Room is reserved in steps of so many bytes.
const ROOM_STEP: u64 = 16 << 20;
/// A void always fits.
const ROOM_VOID: u64 = 4 << 10;

/// How large it may grow.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// A segment that has reached this is closed.
    pub(super) segment_bytes: u64,
    /// A checkpoint is written after so many bytes, or as many as the last checkpoint had, whichever is more. It bounds
    /// what a start has to read.
    pub(super) checkpoint_bytes: u64,
    /// Beyond this, segments that a checkpoint has made superfluous go before their retention is over.
    pub(super) total_bytes: u64,
    /// Lines are kept so long at least, within `total_bytes`.
    pub(super) retention: Duration,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            segment_bytes: 64 << 20,
            checkpoint_bytes: 128 << 20,
            total_bytes: 4 << 30,
            retention: Duration::from_secs(90 * 24 * 3600),
        }
    }
}

/// The end of the journal, where the one writer writes.
pub(super) struct Journal {
    dir: PathBuf,
    file: File,
    head: Head,
    /// The good bytes of the segment.
    len: u64,
    /// So far into the segment the disk has promised room.
    reserved: u64,
    /// The segment is closed at this length.
    full: u64,
    limits: Limits,
    /// How to take the last group back.
    last: Option<Undo>,
    /// What must be taken back before anything else is written.
    undo: Option<Undo>,
    /// Bytes since the last checkpoint.
    grown: u64,
    buffer: Vec<u8>,
}

#[derive(Clone, Copy)]
struct Undo {
    len: u64,
    head: Head,
    /// Numbers that sled may hold.
    taken: u64,
}

impl Journal {
    /// Goes on where a sound one ends, cutting off what is torn.
    pub(super) fn open(dir: &Path, sound: &Sound, limits: Limits) -> io::Result<Journal> {
        let Some(path) = &sound.last_segment else { return Journal::begin(dir, sound.walk.head, limits) };
        let (file, len) = (File::options().read(true).write(true).open(path)?, sound.walk.end);
        if file.metadata()?.len() > len {
            file.set_len(len)?;
        }
        // What was read back may not be on the disk yet.
        file.sync_all()?;
        sync_dir(dir)?;
        let mut journal = Journal::new(dir, file, sound.walk.head, limits);
        (journal.len, journal.reserved, journal.grown) = (len, len, sound.walk.bytes);
        Ok(journal)
    }

    /// Begins the first segment behind `head`.
    pub(super) fn begin(dir: &Path, head: Head, limits: Limits) -> io::Result<Journal> {
        Ok(Journal::new(dir, create(dir, head)?, head, limits))
    }

    fn new(dir: &Path, file: File, head: Head, limits: Limits) -> Journal {
        Journal {
            dir: dir.to_owned(),
            file,
            head,
            len: 0,
            reserved: 0,
            full: limits.segment_bytes,
            limits,
            last: None,
            undo: None,
            grown: 0,
            buffer: Vec::new(),
        }
    }

    /// Bytes since the last checkpoint began.
    pub(super) fn grown(&self) -> u64 {
        self.grown
    }

    pub(super) fn checkpointed(&mut self, bytes: u64) {
        self.grown = self.grown.saturating_sub(bytes);
    }

    pub(super) fn limits(&self) -> Limits {
        self.limits
    }

    /// How many bytes of lines can be written now without running out of space, if possible at least `wanted`. Begins a
    /// new segment if the last one is full.
    pub(super) fn room(&mut self, disk: &mut dyn Disk, wanted: u64) -> io::Result<u64> {
        if self.len >= self.full
            && let Err(error) = self.rotate(disk)
        {
            tracing::warn!(journal = %self.dir.display(), %error, "no new segment can be begun: the old one grows on");
            self.full = self.len + self.limits.segment_bytes;
        }
        let wanted = wanted + ROOM_VOID;
        let left = self.reserved.saturating_sub(self.len);
        if left >= wanted {
            return Ok(left - ROOM_VOID);
        }
        let step = wanted.max(ROOM_STEP);
        let room = disk.journal_room(&self.file, self.len, step)?;
        self.reserved = self.len + room.min(step);
        Ok(room.saturating_sub(ROOM_VOID))
    }

    /// Durable when it returns. After an error nothing of the group is there.
    pub(super) fn append(&mut self, disk: &mut dyn Disk, group: &Bodies, at: UtcMs) -> io::Result<Head> {
        self.last = None;
        if group.len() == 0 {
            return Ok(self.head);
        }
        self.buffer.clear();
        let head = group.write(&mut self.buffer, self.head, 0, at);
        let undo = Undo { len: self.len, head: self.head, taken: head.seq - self.head.seq };
        let written = disk.append(&self.file, self.len, &self.buffer);
        if let Err(e) = written.and_then(|()| disk.sync_journal(&self.file)) {
            self.undo = Some(Undo { taken: 0, ..undo });
            self.settle_or_say(disk, at);
            return Err(e);
        }
        self.last = Some(undo);
        self.advance(head, self.buffer.len() as u64);
        Ok(head)
    }

    /// The group that was appended last was refused.
    pub(super) fn take_back(&mut self, disk: &mut dyn Disk, at: UtcMs) {
        self.undo = self.last.take();
        self.settle_or_say(disk, at);
    }

    /// Takes back what has to be; nothing is written before that.
    pub(super) fn settle(&mut self, disk: &mut dyn Disk, at: UtcMs) -> io::Result<()> {
        let Some(undo) = self.undo else { return Ok(()) };
        disk.cut(&self.file, undo.len)?;
        (self.len, self.head, self.reserved) = (undo.len, undo.head, undo.len);
        self.buffer.clear();
        let mut head = undo.head;
        if undo.taken > 0 {
            head = Bodies::void(undo.taken).write(&mut self.buffer, undo.head, undo.taken, at);
            disk.append(&self.file, undo.len, &self.buffer)?;
        }
        disk.sync_journal(&self.file)?;
        self.undo = None;
        self.advance(head, self.buffer.len() as u64);
        Ok(())
    }

    fn settle_or_say(&mut self, disk: &mut dyn Disk, at: UtcMs) {
        if let Err(error) = self.settle(disk, at) {
            tracing::error!(
                journal = %self.dir.display(), %error,
                "a refused change cannot be taken out of the journal yet; nothing more is written until it can"
            );
        }
    }

    fn advance(&mut self, head: Head, bytes: u64) {
        self.head = head;
        self.len += bytes;
        self.grown += bytes;
    }

    fn rotate(&mut self, disk: &mut dyn Disk) -> io::Result<()> {
        disk.next_segment()?;
        let file = create(&self.dir, self.head)?;
        if let Err(error) = give_back_room(&self.file) {
            tracing::debug!(%error, "a closed segment keeps its room");
        }
        (self.file, self.len, self.reserved, self.full) = (file, 0, 0, self.limits.segment_bytes);
        self.last = None;
        Ok(())
    }
}

impl Drop for Journal {
    fn drop(&mut self) {
        let _it_is_reserved_again_at_the_next_start = give_back_room(&self.file);
    }
}

/// The segment after `head`, durable by name. One of that name can only be empty.
fn create(dir: &Path, head: Head) -> io::Result<File> {
    use std::os::unix::fs::OpenOptionsExt;
    let path = files::segment(dir, head.seq + 1);
    let file = File::options().read(true).write(true).create(true).truncate(true).mode(0o600).open(&path)?;
    if let Err(error) = file.sync_all().and_then(|()| sync_dir(dir)) {
        // The segment before goes on: an empty one of that name would contradict it.
        let _the_first_error_tells_more = std::fs::remove_file(&path);
        return Err(error);
    }
    Ok(file)
}

/// Bytes of all its files.
pub(super) fn bytes(dir: &Path) -> io::Result<u64> {
    Ok(files::list(dir)?.bytes())
}
