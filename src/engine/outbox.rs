//! The way to the disk: so many batches at once and no more. What is too much waits here, in order, rather than being
//! refused: twelve thousand jobs that are due at one instant have something to write all at once, and nothing is wrong.
//!
//! What the engine learns of a job is written behind. While there is no room such a job only stands in line, so that
//! whatever else it learns meanwhile goes out in one write with it.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::core::Core;
use crate::job::JobId;
use crate::store::{Change, StoreError};

/// Batches on their way. The store makes one of as many as wait, and itself refuses more than 8,192.
pub(super) const AT_ONCE: usize = 2_048;

type Done = Box<dyn FnOnce(Result<(), StoreError>) + Send>;

#[derive(Default)]
pub(super) struct Outbox {
    on_the_way: Arc<AtomicUsize>,
    /// What people and the schedule ask for.
    asked: VecDeque<(Vec<Change>, Done)>,
    /// Jobs that have something to be written behind.
    behind: VecDeque<JobId>,
    in_line: HashSet<JobId>,
}

impl Outbox {
    /// Nobody waits for room here.
    pub fn is_empty(&self) -> bool {
        self.asked.is_empty() && self.behind.is_empty()
    }

    pub fn is_full(&self) -> bool {
        self.on_the_way.load(Ordering::Acquire) >= AT_ONCE
    }

    /// The job is written when there is room.
    pub fn line_up(&mut self, job: JobId) {
        if self.in_line.insert(job) {
            self.behind.push_back(job);
        }
    }
}

impl Core {
    /// Writes a batch, now or when there is room. Batches go in the order of these calls.
    pub(super) fn write(&mut self, batch: Vec<Change>, done: Done) {
        if self.outbox.is_full() || !self.outbox.asked.is_empty() {
            self.outbox.asked.push_back((batch, done));
        } else {
            self.send(batch, done);
        }
    }

    fn send(&self, batch: Vec<Change>, done: Done) {
        let on_the_way = self.outbox.on_the_way.clone();
        on_the_way.fetch_add(1, Ordering::AcqRel);
        let done = move |result| {
            // First, so that whoever hears of it finds the room.
            on_the_way.fetch_sub(1, Ordering::AcqRel);
            done(result);
        };
        self.store.commit(batch, Box::new(done));
    }

    /// Sends what waits, as far as there is room: first what somebody waits for.
    pub(super) fn send_what_waits(&mut self) {
        while !self.outbox.is_full() {
            if let Some((batch, done)) = self.outbox.asked.pop_front() {
                self.send(batch, done);
            } else if let Some(job) = self.outbox.behind.pop_front() {
                self.outbox.in_line.remove(&job);
                self.settle(job);
            } else {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::super::active::Active;
    use super::super::tests::still::{pinned, still};
    use super::*;

    /// So many batches are on their way.
    fn on_the_way(core: &Core, batches: usize) {
        core.outbox.on_the_way.store(batches, Ordering::Release);
    }

    #[tokio::test]
    async fn batches_go_in_the_order_in_which_they_were_asked_for() {
        let (mut core, _inner) = still();
        let written = Arc::new(Mutex::new(Vec::new()));
        let done = |n: u32| -> Done {
            let written = written.clone();
            Box::new(move |_| written.lock().unwrap().push(n))
        };
        on_the_way(&core, AT_ONCE);
        core.write(Vec::new(), done(1));
        assert!(written.lock().unwrap().is_empty(), "there is no room");
        on_the_way(&core, AT_ONCE - 1);
        core.write(Vec::new(), done(2));
        assert!(written.lock().unwrap().is_empty(), "another one was first");
        core.send_what_waits();
        assert_eq!(*written.lock().unwrap(), [1, 2]);
        assert!(core.outbox.is_empty());
    }

    #[tokio::test]
    async fn a_job_stands_in_line_once_and_may_do_so_again() {
        let (mut core, _inner) = still();
        let job = pinned(1, crate::job::UtcMs::NEVER);
        core.active.insert(job.id, Active::written(job.clone()));
        for _ in 0..2 {
            on_the_way(&core, AT_ONCE);
            core.outbox.line_up(job.id);
            core.outbox.line_up(job.id);
            assert_eq!(core.outbox.behind.len(), 1);
            on_the_way(&core, 0);
            core.send_what_waits();
            assert!(core.outbox.is_empty());
        }
    }
}
