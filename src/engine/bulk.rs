//! Many submissions at once: one commit, one answer.
//!
//! The loop must not stand still for them. Fingerprints are made and keys looked up by whoever asks ([`prepare`]), only
//! what is due soon is taken into memory, and the events of the rest, which may be many, are sent by a task. They do not
//! go to the log one by one.
//!
//! A key that somebody else is writing at the same moment is met only when the store refuses the commit. Then the keys are
//! looked up again, here, and what is still new is committed anew.

use std::collections::{HashMap, HashSet};

use tokio::sync::oneshot;

use super::active::{notices, tell};
use super::api::{Receipt, Refusal, RefusalKind, Submission};
use super::core::{Core, Inner};
use super::requests::{answer, job_of_key, key_of, key_reused, refusal};
use crate::job::{Job, Key, ServerName};
use crate::store::{Change as Write, Store, StoreError};

pub(super) type BulkReply = oneshot::Sender<Vec<Result<Receipt, Refusal>>>;

/// A submission whose key, if it has one, has been looked up.
#[derive(Debug)]
pub(super) struct Prepared {
    submission: Submission,
    key: Option<Key>,
    known: Result<Option<Job>, Refusal>,
}

/// What has become of one submission, in its place.
#[derive(Debug)]
pub(super) enum Place {
    New(Box<Job>),
    /// Its key has made this job before.
    Known(Box<Job>),
    /// The same request with the same key as in that place.
    SameAs(usize),
    Refused(Refusal),
}

/// What needs no engine. Reads the store, so not for an async thread.
pub(super) fn prepare(store: &dyn Store, submissions: Vec<Submission>) -> Vec<Prepared> {
    let one = |submission: Submission| {
        let key = key_of(&submission);
        let known = match &key {
            Some(key) => job_of_key(store, &submission.server, key),
            None => Ok(None),
        };
        Prepared { submission, key, known }
    };
    submissions.into_iter().map(one).collect()
}

impl Core {
    pub(super) fn submit_many(&mut self, batch: Vec<Prepared>, reply: BulkReply) {
        let mut places: Vec<Place> = Vec::with_capacity(batch.len());
        let mut keys = HashMap::new();
        for prepared in batch {
            let place = self.place(prepared, &places, &mut keys);
            places.push(place.unwrap_or_else(Place::Refused));
        }
        self.write_many(places, reply);
    }

    fn place(
        &self,
        prepared: Prepared,
        before: &[Place],
        keys: &mut HashMap<(ServerName, String), usize>,
    ) -> Result<Place, Refusal> {
        let Prepared { submission, key, known } = prepared;
        self.permit(&submission)?;
        if let Some(job) = known? {
            return Ok(Place::Known(Box::new(job)));
        }
        let name = key.as_ref().map(|key| (submission.server.clone(), key.key.clone()));
        if let (Some(key), Some(name)) = (&key, &name)
            && let Some(&first) = keys.get(name)
            && let Some(Place::New(twin)) = before.get(first)
        {
            let same = twin.key.as_ref().is_some_and(|known| known.fingerprint == key.fingerprint);
            return if same { Ok(Place::SameAs(first)) } else { Err(key_reused(key, twin.id)) };
        }
        let job = self.new_job(&submission, key)?;
        keys.extend(name.map(|name| (name, before.len())));
        Ok(Place::New(Box::new(job)))
    }

    fn write_many(&mut self, places: Vec<Place>, reply: BulkReply) {
        let mut batch = Vec::new();
        for job in new_jobs(&places) {
            self.submitting.insert(job.id, job.server.clone());
            batch.push(Write::Put { job: Box::new(job.clone()), expected: None });
        }
        if batch.is_empty() {
            return answer(reply, receipts(places));
        }
        let (inbox, write) = (self.inbox.clone(), self.metrics.write());
        let done = move |result| {
            write.done();
            // The engine is gone only when the daemon is.
            let _ = inbox.send(Inner::SubmittedMany { places, reply, result });
        };
        self.write(batch, Box::new(done));
    }

    pub(super) fn submitted_many(
        &mut self,
        mut places: Vec<Place>,
        reply: BulkReply,
        result: Result<(), StoreError>,
    ) {
        for job in new_jobs(&places) {
            self.submitting.remove(&job.id);
        }
        match result {
            Ok(()) => self.take_up_many(places, reply),
            Err(StoreError::KeyTaken { key, .. }) => {
                self.look_up_again(&mut places, &key);
                self.write_many(places, reply);
            }
            Err(error) => {
                let refused = self.cannot_write(error);
                for place in &mut places {
                    if let Place::New(_) = place {
                        *place = Place::Refused(refused.clone());
                    }
                }
                answer(reply, receipts(places));
            }
        }
    }

    /// Somebody was faster with some of the keys. At least one place is settled by this, so it does not go on for ever.
    fn look_up_again(&self, places: &mut [Place], taken: &str) {
        let mut settled = false;
        for place in places.iter_mut() {
            let Place::New(job) = &*place else { continue };
            let Some(key) = &job.key else { continue };
            let now = match job_of_key(&*self.store, &job.server, key) {
                Ok(Some(known)) => Place::Known(Box::new(known)),
                Ok(None) => continue,
                Err(refusal) => Place::Refused(refusal),
            };
            *place = now;
            settled = true;
        }
        if settled {
            return;
        }
        for place in places {
            if let Place::New(job) = &*place
                && job.key.as_ref().is_some_and(|key| key.key == taken)
            {
                let gone = refusal(RefusalKind::StoreFailed, "the key's job is gone", "try again");
                *place = Place::Refused(gone);
            }
        }
    }

    /// They are durable: what is due soon into memory, then the events and the answer.
    fn take_up_many(&mut self, places: Vec<Place>, reply: BulkReply) {
        let now = self.now();
        let mut far = HashSet::new();
        for job in new_jobs(&places) {
            if job.index_wake().is_some_and(|wake| self.is_near(wake)) {
                tell(&self.events, notices(job, 0, job.history.total(), now));
            } else {
                far.insert(job.id);
            }
            self.take_up(job);
        }
        tracing::debug!(jobs = new_jobs(&places).count(), "submitted together");
        let events = self.events.clone();
        self.tasks.spawn(async move {
            for job in new_jobs(&places).filter(|job| far.contains(&job.id)) {
                tell(&events, notices(job, 0, job.history.total(), now));
            }
            answer(reply, receipts(places));
        });
    }
}

fn new_jobs(places: &[Place]) -> impl Iterator<Item = &Job> {
    places.iter().filter_map(|place| match place {
        Place::New(job) => Some(&**job),
        _ => None,
    })
}

fn receipts(places: Vec<Place>) -> Vec<Result<Receipt, Refusal>> {
    let receipt = |job: &Job, created| Ok(Receipt { job: job.clone(), created, others: Vec::new() });
    let one = |place: &Place| match place {
        Place::New(job) => receipt(job, true),
        Place::Known(job) => receipt(job, false),
        Place::Refused(refusal) => Err(refusal.clone()),
        Place::SameAs(first) => match &places[*first] {
            Place::New(job) | Place::Known(job) => receipt(job, false),
            Place::Refused(refusal) => Err(refusal.clone()),
            Place::SameAs(_) => Err(refusal(RefusalKind::StoreFailed, "the key's job is gone", "try again")),
        },
    };
    places.iter().map(one).collect()
}
