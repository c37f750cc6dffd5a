//! [`Queue`]: the [`Store`] on this machine's disk. Opens, reads; the writing is [`super::writer`]'s.

use std::collections::HashSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::thread::JoinHandle;
use std::time::Duration;

use sled::IVec;

use super::check::Checker;
use super::compact::{Compacted, Size, When};
use super::disk::{Disk, RealDisk, plain};
use super::generation::Generation;
use super::journal::{self, Keeper, Limits};
use super::keys::{self, Key};
use super::lock::{self, Lock, failed};
use super::record::{self, Header, Totals};
use super::recover;
use super::scrub::{Condition, Progress, Scrub, Work};
use super::sum::Mark;
use super::writer::{Begin, Done, Live, MANY_WRITES, Request, Writer};
use super::{Change, Counts, Filter, Health, OpenError, Store, StoreError};
use crate::job::{Job, JobId, MeetingId, ServerName, State, UtcMs};
use crate::platform::Memory;

/// So many batches may wait for the disk.
const MAX_WAITING: usize = 8192;
/// The shortest end of an id that is looked up.
const MIN_SUFFIX: usize = 4;

/// How a queue is opened.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    pub checker: Checker,
    pub(super) limits: Limits,
}

impl Options {
    pub fn new(checker: Checker) -> Options {
        Options { checker, limits: Limits::default() }
    }

    /// Lines of the journal are kept so long, if there is room for them.
    #[must_use]
    pub fn retention(self, retention: Duration) -> Options {
        Options { limits: Limits { retention, ..self.limits }, ..self }
    }
}

/// The durable queue. Closes when it is dropped.
pub struct Queue {
    /// For errors.
    path: String,
    journal: PathBuf,
    live: Arc<Live>,
    condition: Arc<Mutex<Condition>>,
    scrub: Mutex<Option<Scrub>>,
    requests: RwLock<Option<SyncSender<Request>>>,
    writer: Mutex<Option<JoinHandle<()>>>,
    /// Last, so that it is released last.
    _lock: Lock,
}

impl Queue {
    /// Takes the state directory, creating it if there is none, checks what is in it and opens it.
    pub fn open(state_dir: &Path, checker: Checker) -> Result<Queue, OpenError> {
        Queue::with(state_dir, Options::new(checker))
    }

    /// The same with everything that may be chosen.
    pub fn with(state_dir: &Path, options: Options) -> Result<Queue, OpenError> {
        Queue::open_with(state_dir, options, Box::new(RealDisk))
    }

    pub(super) fn open_with(
        state_dir: &Path,
        options: Options,
        disk: Box<dyn Disk>,
    ) -> Result<Queue, OpenError> {
        let Prepared { mut writer, work, lock } = prepare(state_dir, options, disk)?;
        match writer.compact(When::Starting) {
            Ok(Compacted { before, after: Some(after), .. }) => {
                tracing::info!(before = before.disk, after = after.disk, "the queue was compacted");
            }
            Ok(Compacted { before, .. }) if before.pays_to_compact() => {
                let (disk, live) = (before.disk, before.live);
                tracing::warn!(
                    disk,
                    live,
                    "`adjourn compact` would make the queue much smaller, but takes a while"
                );
            }
            Ok(_) => {}
            Err(error) => tracing::warn!(%error, "the queue was not compacted, and stays as large as it is"),
        }
        let (live, condition) = (Arc::clone(&work.live), Arc::clone(&work.condition));
        let (queue, journal) = (work.queue.clone(), work.journal.clone());
        let failed = failed("cannot start the writer of", &queue);
        let scrub = Scrub::start(work).map_err(&failed)?;
        let (requests, waiting) = sync_channel(MAX_WAITING);
        let writer = spawn(writer, waiting).map_err(&failed)?;
        Ok(Queue {
            path: queue.display().to_string(),
            journal,
            live,
            condition,
            scrub: Mutex::new(Some(scrub)),
            requests: RwLock::new(Some(requests)),
            writer: Mutex::new(Some(writer)),
            _lock: lock,
        })
    }

    /// Commits what is queued, then stops. Reads go on working, commits are refused.
    pub fn close(&self) {
        drop(self.requests.write().unwrap_or_else(PoisonError::into_inner).take());
        drop(self.scrub.lock().unwrap_or_else(PoisonError::into_inner).take());
        let writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner).take();
        // The last handle may go in an answer, that is on the writer's own thread, which then ends by itself.
        if let Some(writer) = writer.filter(|writer| writer.thread().id() != std::thread::current().id()) {
            let _a_panic_has_been_reported = writer.join();
        }
    }

    /// Closes, and sees to it that the next opening is quick, which may take some seconds. Reads fail from then on.
    pub fn end(&self) {
        self.close();
        self.live.rest(MANY_WRITES);
    }

    /// How large the store is now.
    pub fn size(&self) -> Result<Size, StoreError> {
        let live = self.totals()?.live_bytes;
        let io = |e: io::Error| StoreError::Io { path: self.path.clone(), why: e.to_string() };
        Size::of(&*self.generation()?, live).map_err(io)
    }

    fn totals(&self) -> Result<Totals, StoreError> {
        let Some(record) = self.read(keys::COUNTS)? else { return Ok(Totals::default()) };
        Totals::decode(&record).map_err(|why| self.damaged(keys::COUNTS, why))
    }

    pub(super) fn generation(&self) -> Result<Arc<Generation>, StoreError> {
        self.live.get().map_err(|e| StoreError::Io { path: self.path.clone(), why: e.to_string() })
    }

    fn read(&self, key: &[u8]) -> Result<Option<IVec>, StoreError> {
        self.generation()?.get(key).map_err(|e| read_error(&self.path, key, e))
    }

    /// The job, unless its record cannot be read: that is logged.
    fn readable(&self, generation: &Generation, id: JobId) -> Result<Option<(Header, Job)>, StoreError> {
        let key = keys::job(id);
        let record = generation.get(&key).map_err(|e| read_error(&self.path, &key, e))?;
        Ok(record.and_then(|record| self.read_record(&key, &record)))
    }

    fn read_record(&self, key: &[u8], record: &[u8]) -> Option<(Header, Job)> {
        let read = Header::read(record).and_then(|header| Ok((header, record::decode(record)?)));
        read.inspect_err(|why| tracing::error!("{}", self.damaged(key, why.clone()))).ok()
    }

    /// Newest first, straight through the records. What the header tells is not read from the JSON.
    fn page_of_all(
        &self,
        filter: &Filter,
        before: Option<JobId>,
        limit: usize,
    ) -> Result<Vec<Job>, StoreError> {
        let generation = self.generation()?;
        let end = before.map_or_else(|| keys::after(keys::JOBS), keys::job);
        let mut page = Vec::new();
        for entry in generation.scan_down(keys::JOBS.to_vec(), end) {
            if page.len() >= limit {
                break;
            }
            let (key, record) = entry.map_err(|e| read_error(&self.path, keys::JOBS, e))?;
            if Header::read(&record).is_ok_and(|header| !filter.may_pass(&header)) {
                continue;
            }
            page.extend(self.read_record(&key, &record).map(|(_, job)| job).filter(|job| filter.passes(job)));
        }
        Ok(page)
    }

    /// The same for a filter that wants no done jobs, where these are many: by way of the meetings.
    fn page_of_open(
        &self,
        filter: &Filter,
        before: Option<JobId>,
        limit: usize,
    ) -> Result<Vec<Job>, StoreError> {
        let generation = self.generation()?;
        let prefix = filter.server.as_ref().map_or_else(|| keys::MEETINGS.to_vec(), keys::of_server);
        let mut ids = self.ids(&generation, prefix.clone(), keys::after(&prefix), usize::MAX)?;
        ids.retain(|id| before.is_none_or(|before| *id < before));
        ids.sort_unstable_by(|a, b| b.cmp(a));
        let mut page = Vec::new();
        for id in ids {
            if page.len() >= limit {
                break;
            }
            page.extend(self.readable(&generation, id)?.map(|(_, job)| job).filter(|job| filter.passes(job)));
        }
        Ok(page)
    }

    /// The ids at the end of up to `limit` index keys.
    fn ids(
        &self,
        generation: &Generation,
        from: Key,
        to: Key,
        limit: usize,
    ) -> Result<Vec<JobId>, StoreError> {
        let mut ids = Vec::new();
        for entry in generation.scan(from, to).take(limit) {
            let (key, _) = entry.map_err(|e| read_error(&self.path, b"of an index", e))?;
            let id = keys::id_at_end(&key).ok_or_else(|| self.damaged(&key, "it holds no id".to_owned()))?;
            ids.push(id);
        }
        Ok(ids)
    }

    fn damaged(&self, key: &[u8], why: String) -> StoreError {
        StoreError::Damaged { path: self.path.clone(), key: keys::show(key), why }
    }
}

impl Store for Queue {
    fn commit(&self, batch: Vec<Change>, done: Done) {
        let requests = self.requests.read().unwrap_or_else(PoisonError::into_inner).clone();
        let Some(requests) = requests else { return done(Err(StoreError::Closed)) };
        match requests.try_send(Request { batch, done }) {
            Ok(()) => {}
            Err(TrySendError::Full(request)) => {
                let why = format!("{MAX_WAITING} changes are waiting for the disk already");
                (request.done)(Err(StoreError::Io { path: self.path.clone(), why }));
            }
            Err(TrySendError::Disconnected(request)) => (request.done)(Err(StoreError::Closed)),
        }
    }

    fn get(&self, id: JobId) -> Result<Option<Job>, StoreError> {
        let key = keys::job(id);
        let Some(record) = self.read(&key)? else { return Ok(None) };
        record::decode(&record).map(Some).map_err(|why| self.damaged(&key, why))
    }

    fn due_before(
        &self,
        before: UtcMs,
        after: Option<(UtcMs, JobId)>,
        limit: usize,
    ) -> Result<Vec<Job>, StoreError> {
        let generation = self.generation()?;
        let from = after.map_or_else(|| keys::WAKES.to_vec(), |(wake, id)| next(keys::wake(wake, id)));
        let mut due = Vec::new();
        for entry in generation.scan(from, keys::wake_from(before)) {
            if due.len() >= limit {
                break;
            }
            let (key, _) = entry.map_err(|e| read_error(&self.path, keys::WAKES, e))?;
            let id = keys::id_at_end(&key).ok_or_else(|| self.damaged(&key, "it holds no id".to_owned()))?;
            // It may have moved since its key was read.
            let job =
                self.readable(&generation, id)?.filter(|(header, _)| header.wake == keys::instant_of(&key));
            due.extend(job.map(|(_, job)| job));
        }
        Ok(due)
    }

    fn next_wake(&self, from: UtcMs) -> Result<Option<UtcMs>, StoreError> {
        let generation = self.generation()?;
        let first = generation.scan(keys::wake_from(from), keys::after(keys::WAKES)).next();
        let first = first.transpose().map_err(|e| read_error(&self.path, keys::WAKES, e))?;
        Ok(first.and_then(|(key, _)| keys::instant_of(&key)))
    }

    fn by_key(&self, server: &ServerName, key: &str) -> Result<Option<JobId>, StoreError> {
        let claim = keys::idempotency(server, key);
        let Some(bytes) = self.read(&claim)? else { return Ok(None) };
        keys::id_at_end(&bytes).map(Some).ok_or_else(|| self.damaged(&claim, "it holds no id".to_owned()))
    }

    fn keys(&self, server: &ServerName, prefix: &str) -> Result<Vec<(String, JobId)>, StoreError> {
        let generation = self.generation()?;
        let start = keys::idempotency(server, "").len();
        let mut found = Vec::new();
        for entry in generation.scan_prefix(&keys::idempotency(server, prefix)) {
            let (key, id) = entry.map_err(|e| read_error(&self.path, keys::IDEMPOTENCY, e))?;
            let id = keys::id_at_end(&id).ok_or_else(|| self.damaged(&key, "it holds no id".to_owned()))?;
            found.push((String::from_utf8_lossy(&key[start..]).into_owned(), id));
        }
        Ok(found)
    }

    /// After a while most jobs are done: no record of theirs is read. Where fewer have such keys than are open, the headers
    /// of those are. One that cannot be read counts as open: whoever asks for it will hear.
    fn open_keys(&self, server: &ServerName, prefix: &str) -> Result<Vec<(String, JobId)>, StoreError> {
        let mut keys = self.keys(server, prefix)?;
        let open =
            self.counts()?.iter().filter(|(state, _)| **state != State::Done).map(|(_, n)| *n).sum::<u64>();
        let mut still = HashSet::new();
        if u64::try_from(keys.len()).is_ok_and(|keys| keys > open) {
            let of_server = keys::of_server(server);
            let end = keys::after(&of_server);
            still.extend(self.ids(&*self.generation()?, of_server, end, usize::MAX)?);
        } else {
            for (_, id) in &keys {
                let Some(record) = self.read(&keys::job(*id))? else { continue };
                if Header::read(&record).map_or(State::Waiting, |header| header.state) != State::Done {
                    still.insert(*id);
                }
            }
        }
        keys.retain(|(_, id)| still.contains(id));
        Ok(keys)
    }

    /// One look-up a server: from each one's first open job straight to the next server's.
    fn open_servers(&self) -> Result<Vec<ServerName>, StoreError> {
        let generation = self.generation()?;
        let (mut from, end) = (keys::MEETINGS.to_vec(), keys::after(keys::MEETINGS));
        let mut servers = Vec::new();
        while let Some(entry) = generation.scan(from, end.clone()).next() {
            let (key, _) = entry.map_err(|e| read_error(&self.path, keys::MEETINGS, e))?;
            let server =
                keys::server_of(&key).ok_or_else(|| self.damaged(&key, "it names no server".to_owned()))?;
            from = keys::after(&keys::of_server(&server));
            servers.push(server);
        }
        Ok(servers)
    }

    fn of_meeting(&self, server: &ServerName, meeting: &MeetingId) -> Result<Vec<Job>, StoreError> {
        let generation = self.generation()?;
        let prefix = keys::of_meeting(server, meeting);
        let mut jobs = Vec::new();
        for id in self.ids(&generation, prefix.clone(), keys::after(&prefix), usize::MAX)? {
            jobs.extend(self.readable(&generation, id)?.map(|(_, job)| job).filter(|job| !job.is_done()));
        }
        Ok(jobs)
    }

    fn awaiting(&self, server: &ServerName, meeting: &MeetingId) -> Result<Vec<Job>, StoreError> {
        let generation = self.generation()?;
        let prefix = keys::awaiting_meeting(server, meeting);
        let mut jobs = Vec::new();
        for id in self.ids(&generation, prefix.clone(), keys::after(&prefix), usize::MAX)? {
            jobs.extend(self.readable(&generation, id)?.map(|(_, job)| job).filter(|job| job.awaits_start));
        }
        Ok(jobs)
    }

    fn any_awaiting(&self, server: &ServerName) -> Result<bool, StoreError> {
        let generation = self.generation()?;
        let prefix = keys::awaiting_on(server);
        let first = generation.scan(prefix.clone(), keys::after(&prefix)).next();
        Ok(first.transpose().map_err(|e| read_error(&self.path, keys::AWAITING, e))?.is_some())
    }

    /// Reads through the records until the page is full, so a filter that almost nothing passes reads all of them; what
    /// is kept in memory is one page (or the ids of all open jobs, where these are asked for and are the fewer).
    fn page(&self, filter: &Filter, before: Option<JobId>, limit: usize) -> Result<Vec<Job>, StoreError> {
        let only_open = !filter.states.is_empty() && !filter.states.contains(&State::Done);
        if only_open {
            let counts = self.counts()?;
            let done = counts.get(&State::Done).copied().unwrap_or(0);
            if done > counts.values().sum::<u64>() / 2 {
                return self.page_of_open(filter, before, limit);
            }
        }
        self.page_of_all(filter, before, limit)
    }

    fn by_suffix(&self, suffix: &str, limit: usize) -> Result<Vec<JobId>, StoreError> {
        let digits: String = suffix.chars().filter(|c| *c != '-').map(|c| c.to_ascii_lowercase()).collect();
        if digits.len() < MIN_SUFFIX || !digits.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Ok(Vec::new());
        }
        let generation = self.generation()?;
        let mut ids = Vec::new();
        for entry in generation.scan_prefix(&keys::ending(&digits)).take(limit) {
            let (key, _) = entry.map_err(|e| read_error(&self.path, keys::SUFFIXES, e))?;
            ids.extend(keys::id_backwards(&key));
        }
        Ok(ids)
    }

    fn done_before(&self, before: UtcMs, limit: usize) -> Result<Vec<JobId>, StoreError> {
        self.ids(&*self.generation()?, keys::DONE.to_vec(), keys::done_from(before), limit)
    }

    fn counts(&self) -> Result<Counts, StoreError> {
        Ok(self.totals()?.counts)
    }

    fn health(&self) -> Health {
        let mark = self.read(keys::MARK).ok().flatten().and_then(|mark| Mark::decode(&mark).ok());
        let queue = self
            .generation()
            .and_then(|live| live.db.size_on_disk().map_err(|e| read_error(&self.path, keys::MARK, e)));
        let condition = self.condition.lock().unwrap_or_else(PoisonError::into_inner);
        Health {
            journal: mark.map(|mark| mark.head),
            trouble: condition.trouble.clone(),
            repaired: condition.repaired.clone(),
            queue_bytes: queue.unwrap_or(0),
            journal_bytes: journal::bytes(&self.journal).unwrap_or(0),
        }
    }

    fn memory(&self, server: &ServerName) -> Result<Option<Memory>, StoreError> {
        let key = keys::memory(server);
        let Some(record) = self.read(&key)? else { return Ok(None) };
        record::decode_memory(&record).map(Some).map_err(|why| self.damaged(&key, why))
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        self.end();
    }
}

impl Filter {
    /// As far as the header of a record tells.
    fn may_pass(&self, header: &Header) -> bool {
        (self.states.is_empty() || self.states.contains(&header.state))
            && (self.outcomes.is_empty()
                || header.outcome.is_some_and(|outcome| self.outcomes.contains(&outcome)))
            && self.since.is_none_or(|since| header.due >= since)
            && self.until.is_none_or(|until| header.due < until)
    }

    fn passes(&self, job: &Job) -> bool {
        self.may_pass(&Header::of(job, None))
            && self.server.as_ref().is_none_or(|server| *server == job.server)
    }
}

pub(super) fn read_error(path: &str, key: &[u8], error: sled::Error) -> StoreError {
    match plain(error) {
        e if e.kind() == io::ErrorKind::InvalidData => {
            StoreError::Damaged { path: path.to_owned(), key: keys::show(key), why: e.to_string() }
        }
        e => StoreError::Io { path: path.to_owned(), why: e.to_string() },
    }
}

/// A store that is checked and open, and has no readers yet.
pub(super) struct Prepared {
    pub(super) writer: Writer,
    /// For the check beside the running store.
    pub(super) work: Work,
    /// Last, so that it is released last.
    pub(super) lock: Lock,
}

pub(super) fn prepare(
    state_dir: &Path,
    options: Options,
    disk: Box<dyn Disk>,
) -> Result<Prepared, OpenError> {
    let lock = lock::take(state_dir)?;
    let (queue, journal) = (state_dir.join("queue"), state_dir.join(journal::DIR));
    let opened = recover::open(state_dir, options.checker, options.limits)?;
    let keeper = Keeper::new(&journal, options.limits, opened.checkpoint_bytes, opened.verified);
    let condition = Condition { repaired: opened.repaired, trouble: None };
    let work = Work {
        live: Arc::new(Live::new(opened.generation)),
        progress: Arc::<Progress>::default(),
        condition: Arc::new(Mutex::new(condition)),
        queue: queue.clone(),
        journal,
        verified: opened.verified,
        wanted: keeper.wanted(),
        trusted: keeper.trusted(),
    };
    let begin = Begin {
        live: Arc::clone(&work.live),
        disk,
        journal: opened.journal,
        keeper,
        progress: Arc::clone(&work.progress),
        totals: opened.totals,
        mark: opened.mark,
        queue,
        number: opened.number,
        checker: options.checker,
    };
    Ok(Prepared { writer: Writer::new(begin), work, lock })
}

fn spawn(writer: Writer, requests: Receiver<Request>) -> io::Result<JoinHandle<()>> {
    std::thread::Builder::new().name("adjourn-store".to_owned()).spawn(move || writer.run(&requests))
}

/// The key right behind this one.
fn next(mut key: Key) -> Key {
    key.push(0);
    key
}
