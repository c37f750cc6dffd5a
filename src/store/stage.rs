//! From a caller's batch to the keys that it writes: every check is here, nothing here writes.
//!
//! A batch is checked against what is durable, what the batches before it in the same group will write, and its own
//! earlier changes. It goes into the group whole or not at all.

use std::collections::BTreeMap;
use std::io;

use sled::IVec;

use super::disk::plain;
use super::generation::{Generation, Mask};
use super::journal::Bodies;
use super::keys::{self, Key};
use super::record::{self, Header, Totals};
use super::{Change, StoreError};
use crate::job::{Job, JobId, ServerName, State};
use crate::platform::Memory;

/// What is to be written: a value, or nothing any more.
pub(super) type Writes = BTreeMap<Key, Option<Vec<u8>>>;

/// The batches that will be one.
pub(super) struct Group {
    pub(super) writes: Writes,
    pub(super) totals: Totals,
    /// What the journal says of it.
    pub(super) lines: Bodies,
    pub(super) changes: usize,
    /// Of keys and values.
    pub(super) bytes: usize,
}

impl Group {
    pub(super) fn new(totals: Totals) -> Group {
        Group { writes: Writes::new(), totals, lines: Bodies::default(), changes: 0, bytes: 0 }
    }

    /// What this batch would write after those in the group. `path` is for errors.
    pub(super) fn stage(
        &self,
        generation: &Generation,
        path: &str,
        batch: &[Change],
    ) -> Result<Staged, StoreError> {
        let mut stage = self.begin(generation, path);
        for change in batch {
            match change {
                Change::Put { job, expected } => stage.put(job, *expected)?,
                Change::Remove(id) => stage.remove(*id)?,
                Change::Remember { server, memory } => stage.remember(server, memory)?,
            }
        }
        Ok(stage.end())
    }

    /// The same for a change out of the journal: it was checked when it was made, and what it brings counts.
    pub(super) fn replay(
        &mut self,
        generation: &Generation,
        path: &str,
        change: &Change,
    ) -> Result<(), StoreError> {
        let mut stage = self.begin(generation, path);
        match change {
            Change::Put { job, .. } => stage.replace(job)?,
            Change::Remove(id) => stage.forget(*id)?,
            Change::Remember { server, memory } => stage.remember(server, memory)?,
        }
        let staged = stage.end();
        self.add(Staged { lines: Bodies::default(), ..staged }, 1);
        Ok(())
    }

    /// What stands at the keys that it writes.
    pub(super) fn old_values(&self, generation: &Generation) -> io::Result<Mask> {
        let old = self.writes.keys().map(|key| Ok((key.clone(), generation.get(key).map_err(plain)?)));
        old.collect()
    }

    /// For sled.
    pub(super) fn batch(&self) -> sled::Batch {
        let mut batch = sled::Batch::default();
        for (key, value) in &self.writes {
            match value {
                Some(value) => batch.insert(&key[..], &value[..]),
                None => batch.remove(&key[..]),
            }
        }
        batch
    }

    fn begin<'a>(&'a self, generation: &'a Generation, path: &'a str) -> Stage<'a> {
        let staged = Staged {
            writes: Writes::new(),
            totals: self.totals.clone(),
            lines: Bodies::default(),
            bytes: 0,
            new_jobs: false,
        };
        Stage { generation, path, group: &self.writes, staged }
    }

    pub(super) fn add(&mut self, staged: Staged, changes: usize) {
        self.writes.extend(staged.writes);
        self.lines.extend(&staged.lines);
        self.totals = staged.totals;
        self.bytes += staged.bytes;
        self.changes += changes;
    }

    /// Notes what all records will weigh when these are written. `old`: what is there now under the keys of the group.
    pub(super) fn weigh(&mut self, old: &Mask) {
        let weight = |key: &[u8], value: Option<usize>| match value {
            Some(value) if !key.starts_with(keys::META) => (key.len() + value) as u64,
            _ => 0,
        };
        let comes: u64 = self.writes.iter().map(|(key, new)| weight(key, new.as_ref().map(Vec::len))).sum();
        let goes: u64 = old.iter().map(|(key, old)| weight(key, old.as_ref().map(|value| value.len()))).sum();
        self.totals.live_bytes = (self.totals.live_bytes + comes).saturating_sub(goes);
        self.writes.insert(keys::COUNTS.to_vec(), Some(self.totals.encode()));
    }
}

/// A batch that has passed.
pub(super) struct Staged {
    writes: Writes,
    totals: Totals,
    pub(super) lines: Bodies,
    pub(super) bytes: usize,
    /// It brings jobs that were not there before.
    pub(super) new_jobs: bool,
}

struct Stage<'a> {
    generation: &'a Generation,
    path: &'a str,
    group: &'a Writes,
    staged: Staged,
}

impl Stage<'_> {
    fn end(self) -> Staged {
        let mut staged = self.staged;
        staged.writes.insert(keys::COUNTS.to_vec(), Some(staged.totals.encode()));
        staged.bytes =
            staged.writes.iter().map(|(key, value)| key.len() + value.as_ref().map_or(0, Vec::len)).sum();
        staged
    }

    fn put(&mut self, job: &Job, expected: Option<u64>) -> Result<(), StoreError> {
        let id = job.id;
        let key = keys::job(id);
        let old = self.header(&key)?;
        let found = old.as_ref().map(|header| header.revision);
        if found != expected {
            return Err(StoreError::Revision { id, expected, found });
        }
        self.claim_key(job)?;
        self.write(job, key, old)
    }

    /// As [`put`](Stage::put), whatever there is.
    fn replace(&mut self, job: &Job) -> Result<(), StoreError> {
        let key = keys::job(job.id);
        let old = self.header(&key)?;
        if let Some(held) = &job.key {
            self.set(keys::idempotency(&job.server, &held.key), job.id.0.as_bytes().to_vec());
        }
        self.write(job, key, old)
    }

    fn write(&mut self, job: &Job, key: Key, old: Option<Header>) -> Result<(), StoreError> {
        let id = job.id;
        let new = Header::of(job, old.as_ref());
        let record = record::encode(job, &new).map_err(|why| self.damaged(&key, why))?;
        self.staged.lines.put(record::json(&key, &record).expect("it was just encoded"));
        self.set(key, record);
        if old.is_none() {
            self.set(keys::suffix(id), Vec::new());
            self.staged.new_jobs = true;
        }
        self.count(old.as_ref().map(|header| header.state), Some(job.state));
        self.reindex(job, old.as_ref(), Some(&new));
        Ok(())
    }

    fn remove(&mut self, id: JobId) -> Result<(), StoreError> {
        let old = self.header(&keys::job(id))?;
        if old.is_some_and(|old| old.state != State::Done) {
            return Err(StoreError::NotDone(id));
        }
        self.forget(id)
    }

    fn forget(&mut self, id: JobId) -> Result<(), StoreError> {
        let key = keys::job(id);
        let Some(bytes) = self.get(&key)? else { return Ok(()) };
        self.staged.lines.remove(id);
        let old = Header::read(&bytes).map_err(|why| self.damaged(&key, why))?;
        let job = record::decode(&bytes).map_err(|why| self.damaged(&key, why))?;
        if let Some(held) = &job.key {
            let claim = keys::idempotency(&job.server, &held.key);
            if self.holder(&claim)? == Some(id) {
                self.delete(claim);
            }
        }
        self.delete(key);
        self.delete(keys::suffix(id));
        self.count(Some(old.state), None);
        self.reindex(&job, Some(&old), None);
        Ok(())
    }

    fn remember(&mut self, server: &ServerName, memory: &Memory) -> Result<(), StoreError> {
        let key = keys::memory(server);
        let record = record::encode_memory(memory).map_err(|why| self.damaged(&key, why))?;
        self.staged.lines.remember(server, record::json(&key, &record).expect("it was just encoded"));
        self.set(key, record);
        Ok(())
    }

    fn claim_key(&mut self, job: &Job) -> Result<(), StoreError> {
        let Some(wanted) = &job.key else { return Ok(()) };
        let claim = keys::idempotency(&job.server, &wanted.key);
        match self.holder(&claim)? {
            Some(id) if id == job.id => {}
            Some(id) => return Err(StoreError::KeyTaken { key: wanted.key.clone(), id }),
            None => self.set(claim, job.id.0.as_bytes().to_vec()),
        }
        Ok(())
    }

    /// Index keys that stay the same are not written again.
    fn reindex(&mut self, job: &Job, old: Option<&Header>, new: Option<&Header>) {
        let old = old.map_or([None, None, None, None], |header| index_keys(job, header));
        let new = new.map_or([None, None, None, None], |header| index_keys(job, header));
        for (old, new) in old.into_iter().zip(new) {
            if old == new {
                continue;
            }
            if let Some(key) = old {
                self.delete(key);
            }
            if let Some(key) = new {
                self.set(key, Vec::new());
            }
        }
    }

    fn count(&mut self, from: Option<State>, to: Option<State>) {
        let counts = &mut self.staged.totals.counts;
        if let Some(from) = from {
            let count = counts.entry(from).or_default();
            *count = count.saturating_sub(1);
        }
        if let Some(to) = to {
            *counts.entry(to).or_default() += 1;
        }
    }

    fn header(&self, key: &[u8]) -> Result<Option<Header>, StoreError> {
        let header = self.get(key)?.map(|bytes| Header::read(&bytes)).transpose();
        header.map_err(|why| self.damaged(key, why))
    }

    fn holder(&self, claim: &[u8]) -> Result<Option<JobId>, StoreError> {
        let Some(bytes) = self.get(claim)? else { return Ok(None) };
        keys::id_at_end(&bytes).map(Some).ok_or_else(|| self.damaged(claim, "it holds no id".to_owned()))
    }

    fn get(&self, key: &[u8]) -> Result<Option<IVec>, StoreError> {
        if let Some(written) = self.staged.writes.get(key).or_else(|| self.group.get(key)) {
            return Ok(written.as_deref().map(IVec::from));
        }
        self.generation.get(key).map_err(|e| super::queue::read_error(self.path, key, e))
    }

    fn set(&mut self, key: Key, value: Vec<u8>) {
        self.staged.writes.insert(key, Some(value));
    }

    fn delete(&mut self, key: Key) {
        self.staged.writes.insert(key, None);
    }

    fn damaged(&self, key: &[u8], why: String) -> StoreError {
        StoreError::Damaged { path: self.path.to_owned(), key: keys::show(key), why }
    }
}

/// The keys under which a job with this header is found: by wake, by meeting, by the start it waits for, by conclusion.
pub(super) fn index_keys(job: &Job, header: &Header) -> [Option<Key>; 4] {
    let open = header.state != State::Done;
    [
        header.wake.map(|wake| keys::wake(wake, job.id)),
        open.then(|| keys::meeting(&job.server, &job.meeting, header.due, job.id)),
        header.awaits_start.then(|| keys::awaiting(&job.server, &job.meeting, job.id)),
        header.done.map(|done| keys::done(done, job.id)),
    ]
}
