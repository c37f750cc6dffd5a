//! The durable queue. The only place that knows sled.
//!
//! The engine needs little, and [`Store`] says just that: an atomic durable batch with expected revisions, the jobs due
//! before an instant in order, one job, pages of jobs. [`Queue`] is that store on one machine's disk:
//!
//! ```text
//! state directory/
//!   lock                  flock and pid of the daemon that owns all this; stays when it stops
//!   journal/...1.ndjson   every change, one line each; a segment is named by its first number
//!   journal/checkpoint-.. everything that is known at some number, so that older segments may go
//!   queue/CURRENT         names the generation in use; written aside, synced, renamed
//!   queue/000001/         that generation: sled's files
//!   set-aside/            what could not be trusted, by time and reason; the latest few
//! ```
//!
//! - **One writer** (`writer`): whatever waits becomes one group: checked, written to the journal and `fdatasync`ed, applied
//!   to sled as one batch, flushed, `fdatasync`ed, and only then answered. sled's own flush is no barrier on Linux.
//! - **Two copies that prove themselves.** sled opens some damaged files with older or mixed contents and says nothing. So
//!   each change goes to a hash-chained [`journal`] first, and each batch carries the journal's last line and a checksum of
//!   all records (`sum`). When the store opens, `recover` compares the two: sled behind the journal takes in the rest, and
//!   whichever cannot prove itself is set aside and made anew from the other, loudly. Records that are too many to be added
//!   up first are added up beside the running daemon (`scrub`).
//! - **Readers never wait for the writer and see only what is durable** (`generation`): keys that the writer is at work
//!   on are masked with their old values until the sync has returned. If it fails they stay masked, so that nothing
//!   refused ever shows.
//! - **A full disk is noticed before sled is touched** (`disk`): sled does not survive a failed write, so room is
//!   reserved ahead of it. What is queued already may use the last of it, new jobs may not.
//! - **After a failed write** the next commit copies what is durable into a fresh generation and goes on there.
//! - **Space** (`compact`): after a peak sled keeps the space; a start gives it back where that pays.
//! - **sled panics on some damaged files**, and the release profile aborts on panic, so a child process opens and checks
//!   the files first (`check`).
//!
//! # Formats
//!
//! The store has one format, a number in the queue (`meta/format`) and in each line of the journal (`v`). An older store
//! is taken over when it is opened: its records are read as they are, and only the number changes. A newer one is refused
//! with a sentence, and nothing of it is touched. So whoever goes back to an older adjourn needs the state directory as it
//! was before. A format only ever adds: a new field of a record has a default, a new state or outcome a new code. There is
//! one new format at most for all changes of one release.
//!
//! | queue | journal | what it added |
//! |---|---|---|
//! | 1 | none | |
//! | 2 | 1 | the journal, and the mark that tells how far the queue has come in it; the bytes that are live |
//! | 3 | 2 | the outcome `vanished`; in a job `pin-before`, where its instance was pinned, and what was left alone or last seen |
//!
//! `tests/fixtures/upgrade` holds stores that earlier versions left behind.
//!
//! # Size
//!
//! What sled 0.34 grows with, measured with jobs of 1 KB (figures in `benches/README.md`):
//!
//! - *Its page table* knows the place of every page and of every change since the page was last written whole: 17 MB for
//!   100,000 waiting jobs, in proportion for more. It is there from the opening on, whatever is read.
//! - *Its cache* of pages is bounded (`CACHE_BYTES`), but looked after only with every 64th access to each of its 256
//!   parts: up to 16,384 pages are in it uncounted.
//! - *What writes leave behind* is freed 512 things at a time, when somebody reads: a bulk load would outrun that by 15 KB
//!   a job. So the writer frees it after every group (`Generation::collect`).
//! - *Its log* is read back at an opening from where the last opening ended. So a store that has been written to much is
//!   opened once more when it is closed, and the daemon's start finds that done.
//! - *A batch* is bounded by the writer (`GROUP_BYTES`), and sled's own buffers to two segments.
//!
//! Deliberately absent: a cache of jobs (the engine holds what is due soon); a third copy, for when queue and journal are
//! damaged at once: then nothing opens, and nothing is touched.

mod aside;
mod check;
mod compact;
mod current;
mod disk;
mod generation;
pub mod journal;
mod keys;
mod lock;
mod queue;
mod record;
mod recover;
mod scrub;
mod stage;
mod sum;
#[cfg(test)]
mod tests;
mod writer;

pub use aside::aside;
pub use check::{CHECK_ARG, Checker, check_child_main};
pub use compact::{CompactError, Compacted, Size, When, compact};
pub use queue::{Options, Queue};
pub use recover::head_at_rest;

use crate::job::{Job, JobId, MeetingId, ServerName, State, UtcMs};
use crate::platform::Memory;

/// One change of a batch.
#[derive(Clone, Debug)]
pub enum Change {
    /// Writes a job if the stored revision is `expected` (`None`: there is no such job yet).
    Put { job: Box<Job>, expected: Option<u64> },
    /// Forgets a done job.
    Remove(JobId),
    /// What is remembered of a server.
    Remember { server: ServerName, memory: Memory },
}

/// A job as the store has it. Only a read of the store makes one, so nobody can pass off an older copy for it.
#[derive(Debug)]
pub struct Stored(Job);

impl Stored {
    pub fn into_job(self) -> Job {
        self.0
    }
}

impl std::ops::Deref for Stored {
    type Target = Job;

    fn deref(&self) -> &Job {
        &self.0
    }
}

/// Why a batch or a read failed. Nothing of a failed batch has been written.
#[derive(Clone, Debug, thiserror::Error)]
pub enum StoreError {
    #[error("job {id} has revision {found:?}, not {expected:?}")]
    Revision { id: JobId, expected: Option<u64>, found: Option<u64> },
    #[error("the idempotency key {key:?} is taken by job {id}")]
    KeyTaken { key: String, id: JobId },
    /// Only what is done may be forgotten.
    #[error("job {0} is not done and cannot be removed")]
    NotDone(JobId),
    /// Disk full, I/O error.
    #[error("the store at {path} cannot be written: {why}")]
    Io { path: String, why: String },
    #[error("record {key} in the store at {path} cannot be read: {why}")]
    Damaged { path: String, key: String, why: String },
    #[error("the store is closed")]
    Closed,
}

/// Why a store does not open.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Exit code 75.
    #[error("the state directory {path} is in use by another adjourn{}", pid_text(*.pid))]
    Held { path: String, pid: Option<u32> },
    /// Exit code 78.
    #[error("the store in {path} was written by a newer adjourn (format {found}, this one knows {known})")]
    Newer { path: String, found: u32, known: u32 },
    /// Exit code 78.
    #[error("the store in {path} is damaged and cannot be opened: {why}")]
    Damaged { path: String, why: String },
    /// Somebody else owns it or may write to it. Exit code 78.
    #[error("the directory {path} is not safe to use: {why}")]
    Foreign { path: String, why: String },
    /// Exit code 78.
    #[error("{what} {path}: {source}")]
    Io { what: &'static str, path: String, source: std::io::Error },
}

fn pid_text(pid: Option<u32>) -> String {
    pid.map_or(String::new(), |pid| format!(" (pid {pid})"))
}

/// Which jobs a page shows.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    pub states: Vec<State>,
    pub server: Option<ServerName>,
    pub outcomes: Vec<crate::job::Outcome>,
    /// Due at or after / before.
    pub since: Option<UtcMs>,
    pub until: Option<UtcMs>,
}

/// How many jobs are in each state.
pub type Counts = std::collections::BTreeMap<State, u64>;

/// How a store is, for people.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Health {
    /// How far the journal and the queue have durably come, together.
    pub journal: Option<journal::Head>,
    /// The store can no longer be trusted: why, and what to do.
    pub trouble: Option<String>,
    /// What had to be repaired when it was opened.
    pub repaired: Option<String>,
    pub queue_bytes: u64,
    pub journal_bytes: u64,
}

/// What the engine and the control socket need of a store.
pub trait Store: Send + Sync + 'static {
    /// Queues one atomic batch, without blocking. `done` is called, on the writer's thread, once it is durable or has
    /// failed; if it cannot even be queued (closed, or too many waiting), on the caller's, before this returns. It must
    /// not block. Batches commit in the order of these calls.
    fn commit(&self, batch: Vec<Change>, done: Box<dyn FnOnce(Result<(), StoreError>) + Send>);

    fn get(&self, id: JobId) -> Result<Option<Job>, StoreError>;
    /// Jobs whose [`Job::index_wake`] is before `before`, earliest first, after the place `after`. Like every list here it
    /// is no snapshot (a job that moves meanwhile may be missed), and it leaves out, and logs, a record that it cannot
    /// read: one bad record must not keep all others from firing.
    fn due_before(
        &self,
        before: UtcMs,
        after: Option<(UtcMs, JobId)>,
        limit: usize,
    ) -> Result<Vec<Job>, StoreError>;
    /// The same, to be made active.
    fn read_due(
        &self,
        before: UtcMs,
        after: Option<(UtcMs, JobId)>,
        limit: usize,
    ) -> Result<Vec<Stored>, StoreError> {
        Ok(self.due_before(before, after, limit)?.into_iter().map(Stored).collect())
    }
    /// The same of one job.
    fn read(&self, id: JobId) -> Result<Option<Stored>, StoreError> {
        Ok(self.get(id)?.map(Stored))
    }
    /// The earliest wake at or after `from`.
    fn next_wake(&self, from: UtcMs) -> Result<Option<UtcMs>, StoreError>;
    fn by_key(&self, server: &ServerName, key: &str) -> Result<Option<JobId>, StoreError>;
    /// The idempotency keys of a server that begin with `prefix`, and their jobs.
    fn keys(&self, server: &ServerName, prefix: &str) -> Result<Vec<(String, JobId)>, StoreError>;
    /// Those of them whose jobs are not done.
    fn open_keys(&self, server: &ServerName, prefix: &str) -> Result<Vec<(String, JobId)>, StoreError> {
        let mut open = Vec::new();
        for (key, id) in self.keys(server, prefix)? {
            if self.get(id)?.is_some_and(|job| !job.is_done()) {
                open.push((key, id));
            }
        }
        Ok(open)
    }
    /// The servers that have jobs which are not done.
    fn open_servers(&self) -> Result<Vec<ServerName>, StoreError>;
    /// The jobs of a meeting that are not done, in order of due.
    fn of_meeting(&self, server: &ServerName, meeting: &MeetingId) -> Result<Vec<Job>, StoreError>;
    /// The jobs of a meeting that wait for its start ([`Job::awaits_start`]).
    fn awaiting(&self, server: &ServerName, meeting: &MeetingId) -> Result<Vec<Job>, StoreError>;
    /// Is there such a job on this server?
    fn any_awaiting(&self, server: &ServerName) -> Result<bool, StoreError>;
    /// Up to `limit` jobs, newest first, that pass the filter, submitted before `before`.
    fn page(&self, filter: &Filter, before: Option<JobId>, limit: usize) -> Result<Vec<Job>, StoreError>;
    /// Jobs whose id ends with these (4 or more) hexadecimal digits; at most `limit`.
    fn by_suffix(&self, suffix: &str, limit: usize) -> Result<Vec<JobId>, StoreError>;
    /// Up to `limit` ids of jobs that were done (concluded) before this instant, earliest first.
    fn done_before(&self, before: UtcMs, limit: usize) -> Result<Vec<JobId>, StoreError>;
    fn counts(&self) -> Result<Counts, StoreError>;
    fn memory(&self, server: &ServerName) -> Result<Option<Memory>, StoreError>;
    /// Where a store has nothing to say of itself, it is well.
    fn health(&self) -> Health {
        Health::default()
    }
}
