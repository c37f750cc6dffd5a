//! A disk that takes its time, fills up, and loses on a crash whatever it has not answered for.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use tokio::sync::Notify;

use super::clock::Ms;
use super::plan::DiskFault;
use super::sim::{Quirk, Sim};
use crate::job::{Job, JobId, MeetingId, Run, ServerName, UtcMs, Warnings};
use crate::platform::Memory;
use crate::store::{Change, Counts, Filter, Store, StoreError};

type Done = Box<dyn FnOnce(Result<(), StoreError>) + Send>;

/// What is on the disk, and what is on its way there.
#[derive(Default)]
pub struct Disk {
    pub jobs: BTreeMap<JobId, Job>,
    memory: BTreeMap<ServerName, Memory>,
    pending: VecDeque<(Ms, Vec<Change>, Option<Done>)>,
    /// A disk that lies about what it has: what it takes back in a crash.
    taken_back: Vec<Job>,
    /// The last job that was to be written was.
    pub last_put_succeeded: bool,
    /// Jobs as they were before they were done: a disk that brings them back.
    pub undone: BTreeMap<JobId, Job>,
}

impl Disk {
    fn check(&self, batch: &[Change]) -> Result<(), StoreError> {
        for change in batch {
            let Change::Put { job, expected } = change else { continue };
            let found = self.jobs.get(&job.id).map(|job| job.revision);
            if found != *expected {
                return Err(StoreError::Revision { id: job.id, expected: *expected, found });
            }
            let key = job.key.as_ref().map(|key| key.key.as_str());
            let taken = key.and_then(|key| self.by_key(&job.server, key)).filter(|id| *id != job.id);
            if let (Some(key), Some(id)) = (key, taken) {
                return Err(StoreError::KeyTaken { key: key.to_owned(), id });
            }
        }
        Ok(())
    }

    fn by_key(&self, server: &ServerName, key: &str) -> Option<JobId> {
        let has = |job: &&Job| job.server == *server && job.key.as_ref().is_some_and(|it| it.key == key);
        self.jobs.values().find(has).map(|job| job.id)
    }

    fn apply(&mut self, batch: Vec<Change>) -> Vec<Job> {
        let mut put = Vec::new();
        for change in batch {
            match change {
                Change::Put { job, .. } => {
                    let job = Job { run: Run::default(), ..*job };
                    if let Some(before) = self.jobs.insert(job.id, job.clone())
                        && job.is_done()
                        && !before.is_done()
                    {
                        self.undone.insert(job.id, before);
                    }
                    put.push(job);
                }
                Change::Remove(id) => {
                    self.jobs.remove(&id);
                }
                Change::Remember { server, memory } => {
                    self.memory.insert(server, memory);
                }
            }
        }
        put
    }
}

/// With [`Quirk::HastyClaims`], written so much later than was said.
const HASTY: Ms = 400;

/// The store of one process.
pub struct SimStore {
    sim: Arc<Sim>,
    more: Arc<Notify>,
}

impl SimStore {
    /// Must be called within the runtime of the process.
    pub fn start(sim: &Arc<Sim>) -> Arc<SimStore> {
        let more = Arc::new(Notify::new());
        tokio::spawn(write(sim.clone(), more.clone()));
        Arc::new(SimStore { sim: sim.clone(), more })
    }

    fn read<T>(&self, read: impl FnOnce(&Disk) -> T) -> Result<T, StoreError> {
        if self.sim.disk_fault(DiskFault::Unreadable) {
            return Err(failed("Input/output error (os error 5)"));
        }
        Ok(read(&self.sim.disk.lock().unwrap()))
    }

    fn select(&self, keep: impl Fn(&Job) -> bool) -> Result<Vec<Job>, StoreError> {
        self.read(|disk| disk.jobs.values().filter(|job| keep(job)).cloned().collect())
    }
}

fn failed(why: &str) -> StoreError {
    StoreError::Io { path: "/simulated".to_owned(), why: why.to_owned() }
}

/// The one writer.
async fn write(sim: Arc<Sim>, more: Arc<Notify>) {
    loop {
        let next = sim.disk.lock().unwrap().pending.front().map(|(at, ..)| *at);
        let Some(at) = next else {
            more.notified().await;
            continue;
        };
        sim.clock.until(at).await;
        if !sim.effect() {
            return std::future::pending().await;
        }
        let (result, done) = commit_next(&sim);
        if !sim.effect() {
            return std::future::pending().await;
        }
        if let Some(done) = done {
            done(result);
        }
    }
}

fn commit_next(sim: &Sim) -> (Result<(), StoreError>, Option<Done>) {
    let mut disk = sim.disk.lock().unwrap();
    let Some((_, batch, done)) = disk.pending.pop_front() else { return (Ok(()), None) };
    let full = sim.disk_fault(DiskFault::Full);
    let result = if full { Err(failed("No space left on device (os error 28)")) } else { disk.check(&batch) };
    if batch.iter().any(|change| matches!(change, Change::Put { .. })) {
        disk.last_put_succeeded = result.is_ok();
    }
    let mut put = if result.is_ok() { disk.apply(batch) } else { Vec::new() };
    // All of it is on the disk at once: what is withdrawn is not there beside what is new.
    put.sort_by_key(|job| !job.is_done());
    drop(disk);
    if let Err(error) = &result {
        sim.say(|| format!("disk: refuses: {error}"));
    }
    put.iter().for_each(|job| sim.durable(job));
    (result, done)
}

/// The process has died: of what was on its way, the first `keep` batches had reached the disk.
pub fn crash(sim: &Sim, keep: usize) {
    for _ in 0..keep {
        let (_, done) = commit_next(sim);
        drop(done);
    }
    let mut disk = sim.disk.lock().unwrap();
    let lost = std::mem::take(&mut disk.pending);
    for job in std::mem::take(&mut disk.taken_back) {
        disk.jobs.insert(job.id, job);
    }
    if sim.quirk == Quirk::ReviveDone {
        let undone = std::mem::take(&mut disk.undone);
        disk.jobs.extend(undone);
    }
    if sim.quirk == Quirk::ForgetsClaims {
        disk.jobs.values_mut().for_each(|job| job.warnings = Warnings::default());
    }
    drop(disk);
    // Callbacks own channels whose other ends may be dropped with them.
    drop(lost);
}

/// A process that ends by itself waits for its writes.
pub fn close(sim: &Sim) {
    let waiting = sim.disk.lock().unwrap().pending.len();
    crash(sim, waiting);
}

impl Store for SimStore {
    fn commit(&self, batch: Vec<Change>, done: Done) {
        if !self.sim.effect() {
            return;
        }
        let pause = self.sim.commit_pause();
        let mut disk = self.sim.disk.lock().unwrap();
        if self.sim.quirk == Quirk::EarlyAnswers {
            return lie(&self.sim, disk, batch, done);
        }
        if self.sim.quirk == Quirk::HastyClaims && batch.iter().any(claims) {
            hurry(&self.sim, disk, batch, done);
            return self.more.notify_one();
        }
        let last = disk.pending.back().map_or(0, |(at, ..)| *at);
        let at = last.max(self.sim.clock.truth() + pause);
        disk.pending.push_back((at, batch, Some(done)));
        drop(disk);
        self.more.notify_one();
    }

    fn get(&self, id: JobId) -> Result<Option<Job>, StoreError> {
        self.read(|disk| disk.jobs.get(&id).cloned())
    }

    fn due_before(
        &self,
        before: UtcMs,
        after: Option<(UtcMs, JobId)>,
        limit: usize,
    ) -> Result<Vec<Job>, StoreError> {
        let wanted = |at: UtcMs, job: &Job| at < before && Some((at, job.id)) > after;
        let mut due = self.select(|job| job.index_wake().is_some_and(|at| wanted(at, job)))?;
        due.sort_by_key(|job| (job.index_wake(), job.id));
        due.truncate(limit);
        Ok(due)
    }

    fn next_wake(&self, from: UtcMs) -> Result<Option<UtcMs>, StoreError> {
        self.read(|disk| disk.jobs.values().filter_map(Job::index_wake).filter(|at| *at >= from).min())
    }

    fn by_key(&self, server: &ServerName, key: &str) -> Result<Option<JobId>, StoreError> {
        self.read(|disk| disk.by_key(server, key))
    }

    fn keys(&self, server: &ServerName, prefix: &str) -> Result<Vec<(String, JobId)>, StoreError> {
        let jobs = self.select(|job| job.server == *server)?;
        let keys = jobs.into_iter().filter_map(|job| Some((job.key?.key, job.id)));
        Ok(keys.filter(|(key, _)| key.starts_with(prefix)).collect())
    }

    fn open_keys(&self, server: &ServerName, prefix: &str) -> Result<Vec<(String, JobId)>, StoreError> {
        let (hides, wall) = (self.sim.quirk == Quirk::HidesLate, self.sim.clock.wall());
        let open = |job: &Job| job.server == *server && !job.is_done() && !(hides && job.due < wall);
        let keys = self.select(open)?.into_iter().filter_map(|job| Some((job.key?.key, job.id)));
        Ok(keys.filter(|(key, _)| key.starts_with(prefix)).collect())
    }

    fn open_servers(&self) -> Result<Vec<ServerName>, StoreError> {
        let open = self.select(|job| !job.is_done())?;
        Ok(open
            .into_iter()
            .map(|job| job.server)
            .collect::<std::collections::BTreeSet<_>>()
            .into_iter()
            .collect())
    }

    fn of_meeting(&self, server: &ServerName, meeting: &MeetingId) -> Result<Vec<Job>, StoreError> {
        self.select(|job| job.server == *server && job.meeting == *meeting && !job.is_done())
    }

    fn awaiting(&self, server: &ServerName, meeting: &MeetingId) -> Result<Vec<Job>, StoreError> {
        self.select(|job| {
            job.server == *server && job.meeting == *meeting && job.awaits_start && !job.is_done()
        })
    }

    fn any_awaiting(&self, server: &ServerName) -> Result<bool, StoreError> {
        Ok(!self.select(|job| job.server == *server && job.awaits_start && !job.is_done())?.is_empty())
    }

    fn page(&self, _: &Filter, _: Option<JobId>, _: usize) -> Result<Vec<Job>, StoreError> {
        self.select(|_| true)
    }

    fn by_suffix(&self, _: &str, _: usize) -> Result<Vec<JobId>, StoreError> {
        Ok(Vec::new())
    }

    fn done_before(&self, _: UtcMs, _: usize) -> Result<Vec<JobId>, StoreError> {
        Ok(Vec::new())
    }

    fn counts(&self) -> Result<Counts, StoreError> {
        Ok(Counts::new())
    }

    fn memory(&self, server: &ServerName) -> Result<Option<Memory>, StoreError> {
        self.read(|disk| disk.memory.get(server).cloned())
    }
}

fn claims(change: &Change) -> bool {
    matches!(change, Change::Put { job, .. } if job.claimed.is_some())
}

/// Says yes to a claim at once, and writes it when the call has left.
fn hurry(sim: &Arc<Sim>, mut disk: std::sync::MutexGuard<'_, Disk>, batch: Vec<Change>, done: Done) {
    let last = disk.pending.back().map_or(0, |(at, ..)| *at);
    disk.pending.push_back((last.max(sim.clock.truth() + HASTY), batch, None));
    drop(disk);
    done(Ok(()));
}

/// Says yes at once, and has nothing after a crash.
fn lie(sim: &Sim, mut disk: std::sync::MutexGuard<'_, Disk>, batch: Vec<Change>, done: Done) {
    let result = disk.check(&batch);
    let mut put = Vec::new();
    if result.is_ok() {
        for change in &batch {
            if let Change::Put { job, .. } = change
                && let Some(before) = disk.jobs.get(&job.id).cloned()
            {
                disk.taken_back.insert(0, before);
            }
        }
        put = disk.apply(batch);
    }
    drop(disk);
    put.iter().for_each(|job| sim.durable(job));
    done(result);
}
