//! Who called at which instance, and what came of it; over all servers and all jobs. Pure.
//!
//! Three things depend on it: one deadline carries the calls for an instance, and the others on it send none; what a
//! balancer says after an end call that failed is no proof for any job; and an instance that was called at is no witness,
//! also not for another configured server that stands at the same host.

use std::collections::{HashMap, VecDeque};

use crate::job::{EndAnswer, InstanceId, JobId, Now};

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
    accepted: Option<(JobId, Now)>,
    /// The answer to this job's call was lost: it may have ended the instance.
    lost: Option<(JobId, Now)>,
}

impl CallBook {
    pub fn sent(&mut self, instance: &InstanceId, job: JobId) {
        let called = self.entry(instance);
        called.in_flight += 1;
        called.latest = Some(job);
    }

    pub fn answered(&mut self, instance: &InstanceId, job: JobId, answer: &EndAnswer, now: Now) {
        let Some(called) = self.called.get_mut(instance) else { return };
        called.in_flight = called.in_flight.saturating_sub(1);
        match answer {
            EndAnswer::Accepted => called.accepted = Some((job, now)),
            EndAnswer::Unreachable { sent: false, .. } => {}
            EndAnswer::Unreachable { sent: true, .. } => {
                called.lost = Some((job, now));
                called.failed = true;
            }
            _ => called.failed = true,
        }
    }

    /// What a job from before a restart had done.
    pub fn recovered(&mut self, instance: &InstanceId, job: JobId, accepted: Option<Now>, failed: bool) {
        let called = self.entry(instance);
        called.failed |= failed;
        if let Some(at) = accepted {
            called.accepted = Some((job, at));
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
        self.called.get(instance).and_then(|called| called.accepted).map(|(job, _)| job)
    }

    /// The job whose end call may have ended it, and when its answer came or was lost.
    pub fn may_have_been_ended_by(&self, instance: &InstanceId) -> Option<(JobId, Now)> {
        self.called.get(instance).and_then(|called| called.accepted.or(called.lost))
    }

    /// Is a call of another job than this one under way there?
    pub fn is_being_called_by_another(&self, instance: &InstanceId, job: JobId) -> bool {
        self.called.get(instance).is_some_and(|called| called.in_flight > 0 && called.latest != Some(job))
    }

    /// The job whose end call at it is under way or was accepted.
    pub fn carrier(&self, instance: &InstanceId) -> Option<JobId> {
        let called = self.called.get(instance)?;
        called.latest.filter(|_| called.in_flight > 0).or(called.accepted.map(|(job, _)| job))
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

    fn now() -> Now {
        Now::default()
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
        book.answered(&a, job(1), &EndAnswer::Accepted, now());
        assert!(!book.is_unsettled(&a));
        book.sent(&a, job(2));
        book.answered(&a, job(2), &lost(), now());
        assert!(book.is_unsettled(&a) && book.has_failed(&a));
    }

    #[test]
    fn the_carrier_is_whose_call_is_under_way_or_was_accepted() {
        let (mut book, a) = (CallBook::default(), InstanceId::from("a"));
        assert_eq!(book.carrier(&a), None);
        book.sent(&a, job(1));
        assert_eq!((book.carrier(&a), book.accepted_by(&a)), (Some(job(1)), None));
        let never_left = EndAnswer::Unreachable { why: "refused".to_owned(), sent: false };
        book.answered(&a, job(1), &never_left, now());
        assert_eq!((book.carrier(&a), book.is_unsettled(&a)), (None, false), "the next one calls");
        book.sent(&a, job(2));
        book.answered(&a, job(2), &EndAnswer::Accepted, now());
        assert_eq!((book.carrier(&a), book.accepted_by(&a)), (Some(job(2)), Some(job(2))));
    }

    #[test]
    fn what_a_restart_finds_is_known_again() {
        let (mut book, a) = (CallBook::default(), InstanceId::from("a"));
        book.recovered(&a, job(1), Some(now()), true);
        assert_eq!((book.accepted_by(&a), book.has_failed(&a)), (Some(job(1)), true));
        assert_eq!(book.instances().collect::<Vec<_>>(), [&a]);
    }

    #[test]
    fn a_call_whose_answer_was_lost_may_have_ended_it_and_one_under_way_may_do_so_yet() {
        let (mut book, a) = (CallBook::default(), InstanceId::from("a"));
        book.sent(&a, job(1));
        assert!(book.is_being_called_by_another(&a, job(2)) && !book.is_being_called_by_another(&a, job(1)));
        book.answered(&a, job(1), &lost(), now());
        assert_eq!(book.may_have_been_ended_by(&a), Some((job(1), now())));
        assert!(!book.is_being_called_by_another(&a, job(2)) && book.accepted_by(&a).is_none());
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
