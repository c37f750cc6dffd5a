//! When the jobs in memory want to be stepped next, earliest first, on both clocks.

use std::collections::BTreeSet;

use crate::job::{BootMs, JobId, Now, UtcMs, Wake};

#[derive(Debug, Default)]
pub(super) struct Wakes {
    wall: BTreeSet<(UtcMs, JobId)>,
    boot: BTreeSet<(BootMs, JobId)>,
}

impl Wakes {
    pub fn insert(&mut self, job: JobId, wake: Wake) {
        self.wall.extend(wake.wall.map(|at| (at, job)));
        self.boot.extend(wake.boot.map(|at| (at, job)));
    }

    /// `wake` is what the job was inserted with.
    pub fn remove(&mut self, job: JobId, wake: Wake) {
        if let Some(at) = wake.wall {
            self.wall.remove(&(at, job));
        }
        if let Some(at) = wake.boot {
            self.boot.remove(&(at, job));
        }
    }

    /// The earliest time on either clock.
    pub fn first(&self) -> Wake {
        Wake { wall: self.wall.first().map(|(at, _)| *at), boot: self.boot.first().map(|(at, _)| *at) }
    }

    /// Takes out what is due by now on either clock; a job's other time stays until it is removed.
    pub fn take_due(&mut self, now: Now) -> Vec<JobId> {
        let mut due = Vec::new();
        while let Some(&(at, job)) = self.wall.first()
            && at <= now.wall
        {
            self.wall.pop_first();
            due.push(job);
        }
        while let Some(&(at, job)) = self.boot.first()
            && at <= now.boot
        {
            self.boot.pop_first();
            due.push(job);
        }
        due
    }
}
