//! A checkpoint: all jobs and memories in one file, so that what stands before it need not be kept.
//!
//! It is written beside the writer, from the generation that is in use: first comes the head that sled has durably
//! reached, then whatever the scan finds, which may be newer. That is enough: records are whole and the last one wins, so
//! that the lines after the head make it right. The file gets its name when it is whole and synced, is read back, and only
//! then do older segments go.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use serde::de::IgnoredAny;

use super::files::{self, Files, Lines, Numbered};
use super::line::{self, Bodies, Head};
use super::{Journal, Limits};
use crate::clock;
use crate::job::UtcMs;
use crate::store::disk::{free, plain};
use crate::store::generation::Generation;
use crate::store::lock::sync_dir;
use crate::store::sum::Mark;
use crate::store::{keys, record};

const ASIDE: &str = "checkpoint.new";
/// So many are kept, in case that the latest cannot be read some day.
const KEPT: usize = 2;
/// The disk is given so many bytes at a time, so that the writer's syncs do not wait for all of them.
const SLICE_BYTES: u64 = 1 << 20;
/// A checkpoint leaves so much of the disk to the writer.
const ROOM_LEFT: u64 = 64 << 20;

/// Durable when it returns. `stop` ends it early, with an error.
pub(in crate::store) fn write(dir: &Path, generation: &Generation, stop: &AtomicBool) -> io::Result<u64> {
    let aside = dir.join(ASIDE);
    let written = Head::reached(generation).and_then(|head| {
        let mut file = Checkpoint::begin(&aside, head)?;
        file.fill(generation, stop)?;
        let bytes = file.finish()?;
        fs::rename(&aside, files::checkpoint(dir, head.seq))?;
        sync_dir(dir)?;
        Ok(bytes)
    });
    if written.is_err() {
        let _the_next_one_overwrites_it = fs::remove_file(&aside);
    }
    written
}

impl Head {
    /// How far a generation has come; the origin if it has never heard of a journal.
    fn reached(generation: &Generation) -> io::Result<Head> {
        let mark = generation.get(keys::MARK).map_err(plain)?;
        let mark = mark.map(|record| Mark::decode(&record)).transpose();
        Ok(mark.map_err(io::Error::other)?.map_or(Head::ORIGIN, |mark| mark.head))
    }
}

struct Checkpoint {
    file: BufWriter<File>,
    at: UtcMs,
    chain: Head,
    bytes: u64,
    slice: u64,
    line: Vec<u8>,
}

impl Checkpoint {
    fn begin(path: &Path, head: Head) -> io::Result<Checkpoint> {
        use std::os::unix::fs::OpenOptionsExt;
        let file = File::options().write(true).create(true).truncate(true).mode(0o600).open(path)?;
        let (file, at) = (BufWriter::new(file), clock::system_now().wall);
        let mut checkpoint =
            Checkpoint { file, at, chain: Head::ORIGIN, bytes: 0, slice: 0, line: Vec::new() };
        checkpoint.add(&Bodies::checkpoint(head))?;
        Ok(checkpoint)
    }

    fn fill(&mut self, generation: &Generation, stop: &AtomicBool) -> io::Result<()> {
        for family in [keys::JOBS, keys::SERVERS] {
            for entry in generation.scan_prefix(family) {
                if stop.load(Ordering::Relaxed) {
                    return Err(io::Error::new(io::ErrorKind::Interrupted, "the store is being closed"));
                }
                let (key, value) = entry.map_err(plain)?;
                let damaged = || io::Error::other(format!("the record {} is damaged", keys::show(&key)));
                let json = record::json(&key, &value).ok_or_else(damaged)?;
                // Everything else has been checked when it was written; this is about one line, and about JSON.
                let _: IgnoredAny = serde_json::from_slice(json).map_err(|_| damaged())?;
                let mut body = Bodies::default();
                match keys::server_of_memory(&key) {
                    Some(server) => body.remember(&server, json),
                    None => body.put(json),
                }
                self.add(&body)?;
            }
        }
        Ok(())
    }

    fn finish(mut self) -> io::Result<u64> {
        let lines = self.chain.seq;
        self.add(&Bodies::end(lines))?;
        self.file.flush()?;
        self.file.get_ref().sync_all()?;
        Ok(self.bytes)
    }

    fn add(&mut self, body: &Bodies) -> io::Result<()> {
        self.line.clear();
        self.chain = body.write(&mut self.line, self.chain, 0, self.at);
        self.file.write_all(&self.line)?;
        self.bytes += self.line.len() as u64;
        self.slice += self.line.len() as u64;
        if self.slice >= SLICE_BYTES {
            self.slice = 0;
            self.file.flush()?;
            self.file.get_ref().sync_data()?;
            if free(self.file.get_ref())? < ROOM_LEFT {
                return Err(io::ErrorKind::StorageFull.into());
            }
        }
        Ok(())
    }
}

/// The head that a checkpoint follows, from its first line.
pub(super) fn head(path: &Path) -> io::Result<Option<Head>> {
    let mut lines = Lines::open(path)?;
    let Some(bytes) = lines.next()? else { return Ok(None) };
    Ok(line::read::<IgnoredAny, IgnoredAny>(bytes).ok().and_then(|line| line.checkpoint))
}

/// Reads a checkpoint to its end, and shows every line between the first and the last. `Err`: why it is not believed,
/// with the line.
pub(in crate::store) fn read(
    path: &Path,
    visit: &mut dyn FnMut(&[u8]) -> io::Result<()>,
) -> io::Result<Result<Head, (u64, String)>> {
    let mut lines = Lines::open(path)?;
    let (mut chain, mut of, mut ended) = (Head::ORIGIN, None, false);
    while let Some(bytes) = lines.next()? {
        let line = match line::read::<IgnoredAny, IgnoredAny>(bytes) {
            Ok(line) => line,
            Err(fault) => return Ok(Err((lines.number, fault.to_string()))),
        };
        let follows = line.prev == chain.hash && line.seq == chain.seq + 1 && !ended;
        let is_first = line.checkpoint.is_some();
        if !follows || is_first != of.is_none() || line.end.is_some_and(|lines| lines != chain.seq) {
            return Ok(Err((lines.number, "it does not follow the line before it".to_owned())));
        }
        chain = line.head();
        of = of.or(line.checkpoint);
        ended = line.end.is_some();
        if !is_first && !ended {
            visit(bytes)?;
        }
    }
    Ok(of.filter(|_| ended).ok_or((lines.number, "it has no end".to_owned())))
}

/// The latest checkpoint, if it cannot be read, and why. `stop` ends it early.
pub(in crate::store) fn damaged(dir: &Path, stop: &AtomicBool) -> io::Result<Option<(PathBuf, String)>> {
    let Some(latest) = files::list(dir)?.checkpoints.pop() else { return Ok(None) };
    let read = read(&latest.path, &mut |_| match stop.load(Ordering::Relaxed) {
        true => Err(io::ErrorKind::Interrupted.into()),
        false => Ok(()),
    });
    match read {
        // Another one may have taken its place.
        Err(e) if matches!(e.kind(), io::ErrorKind::Interrupted | io::ErrorKind::NotFound) => Ok(None),
        read => Ok(read?.err().map(|(line, why)| (latest.path, format!("line {line}: {why}")))),
    }
}

/// Writes checkpoints beside the writer, one at a time, and removes what they make superfluous.
pub(in crate::store) struct Keeper {
    dir: PathBuf,
    stop: Arc<AtomicBool>,
    /// Somebody has found that the latest one cannot be read.
    wanted: Arc<AtomicBool>,
    /// All records were found to be those that were written. Until then no checkpoint is taken from them: a rebuild would
    /// begin with it.
    trusted: Arc<AtomicBool>,
    running: Option<Running>,
    /// The next one is due when the journal has grown by so much.
    due: u64,
}

struct Running {
    thread: JoinHandle<io::Result<u64>>,
    /// What the journal had grown by when it began.
    grown: u64,
}

impl Keeper {
    /// `latest`: bytes of the latest checkpoint.
    pub(in crate::store) fn new(dir: &Path, limits: Limits, latest: u64, trusted: bool) -> Keeper {
        let due = limits.checkpoint_bytes.max(latest);
        Keeper {
            dir: dir.to_owned(),
            stop: Arc::default(),
            wanted: Arc::default(),
            trusted: Arc::new(AtomicBool::new(trusted)),
            running: None,
            due,
        }
    }

    pub(in crate::store) fn trusted(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.trusted)
    }

    pub(in crate::store) fn wanted(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.wanted)
    }

    /// Begins a checkpoint if one is due, and takes note of one that has ended.
    pub(in crate::store) fn tend(&mut self, journal: &mut Journal, generation: &Arc<Generation>) {
        match self.running.take_if(|running| running.thread.is_finished()) {
            Some(Running { thread, grown }) => self.take_note(journal, thread, grown),
            None if self.running.is_some() => {}
            None if !self.trusted.load(Ordering::Relaxed) => {}
            None => {
                if journal.grown() >= self.due || self.wanted.swap(false, Ordering::Relaxed) {
                    self.begin(journal, generation);
                }
            }
        }
    }

    fn begin(&mut self, journal: &Journal, generation: &Arc<Generation>) {
        let (dir, stop, generation) = (self.dir.clone(), Arc::clone(&self.stop), Arc::clone(generation));
        let limits = journal.limits();
        let thread = std::thread::Builder::new()
            .name("adjourn-check".to_owned())
            .spawn(move || checkpoint_and_prune(&dir, generation, &stop, limits));
        match thread {
            Ok(thread) => self.running = Some(Running { thread, grown: journal.grown() }),
            Err(error) => self.put_off(journal, &error),
        }
    }

    fn take_note(&mut self, journal: &mut Journal, thread: JoinHandle<io::Result<u64>>, grown: u64) {
        match thread.join().unwrap_or_else(|_| Err(io::Error::other("it broke off"))) {
            Ok(bytes) => {
                journal.checkpointed(grown);
                self.due = journal.limits().checkpoint_bytes.max(bytes);
            }
            Err(error) => self.put_off(journal, &error),
        }
    }

    fn put_off(&mut self, journal: &Journal, error: &io::Error) {
        self.due = journal.grown() + journal.limits().segment_bytes;
        tracing::warn!(journal = %self.dir.display(), %error, "no checkpoint could be written: the journal grows on");
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(running) = self.running.take() {
            let _closing = running.thread.join();
        }
    }
}

fn checkpoint_and_prune(
    dir: &Path,
    generation: Arc<Generation>,
    stop: &AtomicBool,
    limits: Limits,
) -> io::Result<u64> {
    let bytes = write(dir, &generation, stop)?;
    // The writer may be waiting to let it go.
    drop(generation);
    let files = files::list(dir)?;
    let latest = files.checkpoints.last().ok_or(io::ErrorKind::NotFound)?;
    if let Err((line, why)) = read(&latest.path, &mut |_| Ok(()))? {
        return Err(io::Error::other(format!("{}:{line}: {why}", latest.path.display())));
    }
    prune(dir, &files, latest.number, limits, clock::system_now().wall)?;
    Ok(bytes)
}

/// Removes segments that lie before the checkpoint, and are older than their retention or too much for the disk. The one
/// being written never goes.
fn prune(dir: &Path, files: &Files, checkpoint: u64, limits: Limits, now: UtcMs) -> io::Result<()> {
    let mut left = files.bytes();
    let mut gone = 0;
    for pair in files.segments.windows(2) {
        let covered = pair[1].number <= checkpoint + 1;
        if !covered || (left <= limits.total_bytes && !is_before(&pair[1], now - limits.retention)?) {
            break;
        }
        fs::remove_file(&pair[0].path)?;
        left -= pair[0].bytes;
        gone += 1;
    }
    let first = files.segments.get(gone).map_or(u64::MAX, |segment| segment.number);
    let spare = files.checkpoints.len().saturating_sub(KEPT);
    for (n, old) in files.checkpoints.iter().enumerate() {
        // Without the lines behind it, it is of no use.
        if old.number != checkpoint && (n < spare || old.number + 1 < first) {
            fs::remove_file(&old.path)?;
        }
    }
    sync_dir(dir)?;
    tracing::info!(journal = %dir.display(), checkpoint, segments_removed = gone, "checkpoint written");
    Ok(())
}

/// Was the first line of this segment, and so everything before it, written before this instant?
fn is_before(segment: &Numbered, instant: UtcMs) -> io::Result<bool> {
    let mut lines = Lines::open(&segment.path)?;
    let Some(bytes) = lines.next()? else { return Ok(false) };
    let at = line::read::<IgnoredAny, IgnoredAny>(bytes).ok().and_then(|line| line.at());
    Ok(at.is_some_and(|at| at < instant))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::store::tests::id;

    const DAY: i64 = 24 * 3_600_000;

    /// Segments of ten lines each, one a day.
    fn segments(dir: &Path, count: u64) {
        let mut head = Head::ORIGIN;
        for day in 0..count {
            let (path, mut bytes) = (files::segment(dir, head.seq + 1), Vec::new());
            for _ in 0..10 {
                let mut body = Bodies::default();
                body.remove(id(1));
                head = body.write(&mut bytes, head, 0, UtcMs(day.cast_signed() * DAY));
            }
            fs::write(path, bytes).unwrap();
        }
    }

    fn pruned(count: u64, checkpoints: &[u64], at: u64, limits: Limits, now: i64) -> (Vec<u64>, Vec<u64>) {
        let dir = tempfile::tempdir().unwrap();
        segments(dir.path(), count);
        for number in checkpoints {
            fs::write(files::checkpoint(dir.path(), *number), "x").unwrap();
        }
        let there = files::list(dir.path()).unwrap();
        prune(dir.path(), &there, at, limits, UtcMs(now)).unwrap();
        let left = files::list(dir.path()).unwrap();
        let numbers = |files: Vec<Numbered>| files.iter().map(|file| file.number).collect();
        (numbers(left.segments), numbers(left.checkpoints))
    }

    #[test]
    fn a_segment_goes_when_it_is_both_covered_and_old() {
        let keep = |days: u64| Limits { retention: Duration::from_secs(days * 86_400), ..Limits::default() };
        // Five segments of days 0 to 4; now is day 4.
        assert_eq!(pruned(5, &[30], 30, keep(2), 4 * DAY + 1).0, [21, 31, 41], "old");
        assert_eq!(pruned(5, &[15], 15, keep(0), 9 * DAY).0, [11, 21, 31, 41], "covered");
        assert_eq!(pruned(5, &[50], 50, keep(0), 9 * DAY).0, [41], "the last one stays");
        assert_eq!(pruned(5, &[50], 50, keep(9), 4 * DAY).0.len(), 5);
    }

    #[test]
    fn the_bound_on_bytes_comes_before_retention_but_not_before_a_checkpoint() {
        let bound = Limits { total_bytes: 1, ..Limits::default() };
        assert_eq!(pruned(5, &[35], 35, bound, 0).0, [31, 41]);
    }

    #[test]
    fn two_checkpoints_are_kept_and_none_without_its_lines() {
        assert_eq!(pruned(3, &[0, 5, 12, 25], 25, Limits::default(), 0).1, [12, 25]);
        let bound = Limits { total_bytes: 1, ..Limits::default() };
        assert_eq!(pruned(3, &[5, 25], 25, bound, 0).1, [25]);
    }
}
