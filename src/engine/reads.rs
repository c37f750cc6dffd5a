//! Reads of the store that go on beside the loop, and what must not be believed of them.
//!
//! A job is made active only from what the store says. A read takes its time, and meanwhile a job may come into memory, be
//! changed there, be written and leave again: then what the read has brought is older than what was acknowledged, and
//! with it a cancelled job would fire. So every read knows which jobs have left memory since it began. What it says of
//! those is thrown away, and they are read once more; a job that is in memory is what memory says.

use std::collections::{BTreeMap, BTreeSet};

use crate::job::JobId;

/// One read under way.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct Ticket(u64);

#[derive(Default)]
pub(super) struct Reads {
    last: u64,
    /// By read: the jobs that have left memory since it began.
    left: BTreeMap<Ticket, BTreeSet<JobId>>,
}

impl Reads {
    pub fn begin(&mut self) -> Ticket {
        self.last += 1;
        let ticket = Ticket(self.last);
        self.left.insert(ticket, BTreeSet::new());
        ticket
    }

    /// This job is in memory no more.
    pub fn leaves(&mut self, job: JobId) {
        for left in self.left.values_mut() {
            left.insert(job);
        }
    }

    /// The read is over: the jobs of which it may say what is not so any more.
    pub fn end(&mut self, ticket: Ticket) -> BTreeSet<JobId> {
        self.left.remove(&ticket).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    #[test]
    fn a_read_knows_what_left_memory_while_it_lasted() {
        let [before, during, after] = [1, 2, 3].map(|n| JobId(Uuid::from_u128(n)));
        let mut reads = Reads::default();
        reads.leaves(before);
        let (first, second) = (reads.begin(), reads.begin());
        reads.leaves(during);
        assert_eq!(reads.end(first), [during].into());
        reads.leaves(after);
        assert_eq!(reads.end(second), [during, after].into());
        assert!(reads.end(second).is_empty());
    }
}
