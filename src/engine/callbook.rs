//! Who called at which instance, and what came of it; over all servers and all jobs. Pure.
//!
//! Three things depend on it: one deadline carries the calls for an instance, and the others on it send none; what a
//! balancer says after an end call that failed is no proof for any job; and an instance that was called at is no witness,
//! also not for another configured server that stands at the same host.

use std::collections::{HashMap, VecDeque};

use crate::job::{EndAnswer, InstanceId, JobId};

/// Instances that are kept in mind; the oldest make room.
const INSTANCES: usize = 4_096;

#[derive(Debug, Default)]
pub(super) struct CallBook {
    called: HashMap<InstanceId, Called>,
    /// In the order in which they were first called at.
    order: VecDeque<InstanceId>,
}

/// The end calls at one instance.
#[derive(Clone, Copy, Debug, Default)]
struct Called {
    in_flight: u32,
    /// One was answered otherwise than with acceptance, or its answer was lost.
    failed: bool,
    /// The job whose call left last, unless it never left.
    latest: Option<JobId>,
    accepted: Option<JobId>,
}

impl CallBook {
    pub fn sent(&mut self, instance: &InstanceId, job: JobId) {
        let called = self.entry(instance);
        called.in_flight += 1;
        called.latest = Some(job);
    }

    pub fn answered(&mut self, instance: &InstanceId, job: JobId, answer: &EndAnswer) {
        let Some(called) = self.called.get_mut(instance) else { return };
        called.in_flight = called.in_flight.saturating_sub(1);
        match answer {
            EndAnswer::Accepted => called.accepted = Some(job),
            EndAnswer::Unreachable { sent: false, .. } => {}
            _ => called.failed = true,
        }
    }

    /// What a job from before a restart had done.
    pub fn recovered(&mut self, instance: &InstanceId, job: JobId, accepted: bool, failed: bool) {
        let called = self.entry(instance);
        called.failed |= failed;
        if accepted {
            called.accepted = Some(job);
        }
    }

    /// Is some end call at it not answered, or was one not accepted?
    pub fn is_unsettled(&self, instance: &InstanceId) -> bool {
        self.called.get(instance).is_some_and(|called| called.failed || called.in_flight > 0)
    }

    pub fn has_failed(&self, instance: &InstanceId) -> bool {
        self.called.get(instance).is_some_and(|called| called.failed)
    }

    /// The job whose end call at it was accepted last.
    pub fn accepted_by(&self, instance: &InstanceId) -> Option<JobId> {
        self.called.get(instance).and_then(|called| called.accepted)
    }

    /// The job whose end call at it is under way or was accepted.
    pub fn carrier(&self, instance: &InstanceId) -> Option<JobId> {
        let called = self.called.get(instance)?;
        called.latest.filter(|_| called.in_flight > 0).or(called.accepted)
    }

    pub fn instances(&self) -> impl Iterator<Item = &InstanceId> + Clone {
        self.order.iter()
    }

    fn entry(&mut self, instance: &InstanceId) -> &mut Called {
        if !self.called.contains_key(instance) {
            if self.order.len() == INSTANCES
                && let Some(oldest) = self.order.pop_front()
            {
                self.called.remove(&oldest);
            }
            self.order.push_back(instance.clone());
        }
        self.called.entry(instance.clone()).or_default()
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    fn job(n: u128) -> JobId {
        JobId(Uuid::from_u128(n))
    }

    fn lost() -> EndAnswer {
        EndAnswer::Unreachable { why: "timed out".to_owned(), sent: true }
    }

    #[test]
    fn a_call_is_unsettled_until_it_is_accepted_and_stays_so_when_it_failed() {
        let (mut book, a) = (CallBook::default(), InstanceId::from("a"));
        assert!(!book.is_unsettled(&a));
        book.sent(&a, job(1));
        assert!(book.is_unsettled(&a) && !book.has_failed(&a));
        book.answered(&a, job(1), &EndAnswer::Accepted);
        assert!(!book.is_unsettled(&a));
        book.sent(&a, job(2));
        book.answered(&a, job(2), &lost());
        assert!(book.is_unsettled(&a) && book.has_failed(&a));
    }

    #[test]
    fn the_carrier_is_whose_call_is_under_way_or_was_accepted() {
        let (mut book, a) = (CallBook::default(), InstanceId::from("a"));
        assert_eq!(book.carrier(&a), None);
        book.sent(&a, job(1));
        assert_eq!((book.carrier(&a), book.accepted_by(&a)), (Some(job(1)), None));
        let never_left = EndAnswer::Unreachable { why: "refused".to_owned(), sent: false };
        book.answered(&a, job(1), &never_left);
        assert_eq!((book.carrier(&a), book.is_unsettled(&a)), (None, false), "the next one calls");
        book.sent(&a, job(2));
        book.answered(&a, job(2), &EndAnswer::Accepted);
        assert_eq!((book.carrier(&a), book.accepted_by(&a)), (Some(job(2)), Some(job(2))));
    }

    #[test]
    fn what_a_restart_finds_is_known_again() {
        let (mut book, a) = (CallBook::default(), InstanceId::from("a"));
        book.recovered(&a, job(1), true, true);
        assert_eq!((book.accepted_by(&a), book.has_failed(&a)), (Some(job(1)), true));
        assert_eq!(book.instances().collect::<Vec<_>>(), [&a]);
    }

    #[test]
    fn the_oldest_make_room() {
        let mut book = CallBook::default();
        for n in 0..=INSTANCES {
            book.sent(&InstanceId(n.to_string()), job(1));
        }
        assert_eq!((book.order.len(), book.called.len()), (INSTANCES, INSTANCES));
        assert!(!book.is_unsettled(&"0".into()) && book.is_unsettled(&"1".into()));
    }
}
