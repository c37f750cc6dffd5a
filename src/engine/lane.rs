//! One server's lane: who may call it, and when. Pure data; the engine does the calling.
//!
//! End calls have places of their own (`max-concurrent`), so that no look is ever in the way of a first end call; first
//! calls go before re-sends. A place is a turn: a call that can name only the meeting uses it for a look and the call.
//! Looks are gathered into rounds: whatever wants one when a round may start shares it, so that a server hears a few
//! listings, however many meetings it has. Looks that an end call depends on have rounds of their own: they never rest
//! because of what other looks took. Rounds are spaced, the more so while the server is down.

use std::collections::VecDeque;
use std::time::Duration;

use crate::job::{BootMs, JobId, Purpose};

/// Rounds of one urgency start at least this far apart: those that an end call waits for ...
const ROUND_GAP_BEFORE_END: Duration = Duration::from_millis(200);
/// ... and the others, which besides keep at least this many times as far apart as the last one took, so that a slow
/// server is busy with them half the time at most.
const ROUND_GAP: Duration = Duration::from_millis(400);
const ROUND_REST: u32 = 2;
/// Rounds of one urgency in flight at once: one, and one more where the first hangs.
const ROUNDS_AT_ONCE: usize = 2;
/// While a server is down: the pause before the next round doubles from the gap up to this.
const ROUND_GAP_LONGEST: Duration = Duration::from_secs(10);
/// Warnings in flight at once: they have places of their own, so that one that hangs is in nobody's way but theirs.
const WARNINGS_AT_ONCE: usize = 4;
/// Targets of one round; what is left over waits for the next.
const ROUND_TARGETS: usize = 2_000;

/// What waits for a look.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Urgency {
    /// An end call, or what belongs to a deadline.
    BeforeEnd,
    /// Proof, and what comes after it.
    Other,
}

impl Urgency {
    pub const ALL: [Urgency; 2] = [Urgency::BeforeEnd, Urgency::Other];

    fn of(purpose: Purpose) -> Urgency {
        match purpose {
            Purpose::Pin | Purpose::Arm | Purpose::BeforeEnd | Purpose::Last => Urgency::BeforeEnd,
            Purpose::Confirm | Purpose::Guard | Purpose::After => Urgency::Other,
        }
    }
}

#[derive(Debug, Default)]
pub struct Lane {
    max_concurrent: usize,
    first_ends: VecDeque<JobId>,
    resends: VecDeque<JobId>,
    ends_in_flight: usize,
    before_end: Rounds,
    other: Rounds,
    warnings: VecDeque<JobId>,
    warnings_in_flight: usize,
    /// Rounds that came back without an answer, in a row.
    failures: u32,
}

/// The rounds of one urgency.
#[derive(Debug, Default)]
struct Rounds {
    looks: VecDeque<(JobId, Purpose)>,
    in_flight: usize,
    next: Option<BootMs>,
}

impl Rounds {
    fn at(&self, now: BootMs) -> Option<BootMs> {
        let wanted = !self.looks.is_empty() && self.in_flight < ROUNDS_AT_ONCE;
        wanted.then(|| self.next.map_or(now, |at| at.max(now)))
    }
}

impl Lane {
    pub fn new(max_concurrent: usize) -> Lane {
        Lane { max_concurrent, ..Lane::default() }
    }

    pub fn set_max_concurrent(&mut self, max_concurrent: usize) {
        self.max_concurrent = max_concurrent;
    }

    /// `next`: before everybody else, since the look that this call follows has just been made for it.
    pub fn queue_end(&mut self, job: JobId, first: bool, next: bool) {
        let queue = if first || next { &mut self.first_ends } else { &mut self.resends };
        if next { queue.push_front(job) } else { queue.push_back(job) }
    }

    /// The next job whose turn it is. Every turn must be given back by [`Lane::end_answered`].
    pub fn next_end(&mut self) -> Option<JobId> {
        if self.ends_in_flight >= self.max_concurrent {
            return None;
        }
        let job = self.first_ends.pop_front().or_else(|| self.resends.pop_front())?;
        self.ends_in_flight += 1;
        Some(job)
    }

    /// An end call (or the look in its turn) was answered, or the job did not want it any more.
    pub fn end_answered(&mut self) {
        // The lane may be newer than the call: a server that was taken away and came back.
        self.ends_in_flight = self.ends_in_flight.saturating_sub(1);
    }

    /// Could an end call leave now, as far as the lane is concerned?
    pub fn wants_end(&self) -> bool {
        self.ends_queued() > 0 && self.ends_in_flight < self.max_concurrent
    }

    pub fn queue_warning(&mut self, job: JobId) {
        self.warnings.push_back(job);
    }

    /// The next job whose warning may leave now. Every job taken must be given back by [`Lane::warning_answered`].
    pub fn next_warning(&mut self) -> Option<JobId> {
        if self.warnings_in_flight >= WARNINGS_AT_ONCE {
            return None;
        }
        let job = self.warnings.pop_front()?;
        self.warnings_in_flight += 1;
        Some(job)
    }

    /// A warning was answered, or the job did not want it any more.
    pub fn warning_answered(&mut self) {
        self.warnings_in_flight = self.warnings_in_flight.saturating_sub(1);
    }

    pub fn queue_look(&mut self, job: JobId, purpose: Purpose) {
        self.rounds_mut(Urgency::of(purpose)).looks.push_back((job, purpose));
    }

    /// When the next round may start; `None`: nobody wants a look, or too many rounds are in flight.
    pub fn round_at(&self, urgency: Urgency, now: BootMs) -> Option<BootMs> {
        self.rounds(urgency).at(now)
    }

    /// The looks of the round that starts now; empty if none may. A round must be given back by [`Lane::round_done`].
    pub fn start_round(&mut self, urgency: Urgency, now: BootMs) -> Vec<(JobId, Purpose)> {
        if self.round_at(urgency, now).is_none_or(|at| at > now) {
            return Vec::new();
        }
        let gap = match urgency {
            Urgency::BeforeEnd if self.failures == 0 => ROUND_GAP_BEFORE_END,
            _ => self.gap(),
        };
        let rounds = self.rounds_mut(urgency);
        rounds.in_flight += 1;
        rounds.next = Some(now + gap);
        let taken = rounds.looks.len().min(ROUND_TARGETS);
        rounds.looks.drain(..taken).collect()
    }

    pub fn round_done(&mut self, urgency: Urgency, now: BootMs, took: Duration, answered: bool) {
        self.failures = if answered { 0 } else { self.failures.saturating_add(1) };
        let rest = match urgency {
            _ if !answered => self.gap(),
            // What the server took for others, or for the round before, delays nothing that an end call waits for.
            Urgency::BeforeEnd => Duration::ZERO,
            Urgency::Other => took.saturating_mul(ROUND_REST - 1).min(ROUND_GAP_LONGEST),
        };
        let rounds = self.rounds_mut(urgency);
        rounds.in_flight = rounds.in_flight.saturating_sub(1);
        rounds.next = rounds.next.max(Some(now + rest));
    }

    fn rounds(&self, urgency: Urgency) -> &Rounds {
        match urgency {
            Urgency::BeforeEnd => &self.before_end,
            Urgency::Other => &self.other,
        }
    }

    fn rounds_mut(&mut self, urgency: Urgency) -> &mut Rounds {
        match urgency {
            Urgency::BeforeEnd => &mut self.before_end,
            Urgency::Other => &mut self.other,
        }
    }

    fn gap(&self) -> Duration {
        ROUND_GAP.saturating_mul(1 << self.failures.min(16)).min(ROUND_GAP_LONGEST)
    }

    pub fn ends_in_flight(&self) -> usize {
        self.ends_in_flight
    }

    pub fn ends_queued(&self) -> usize {
        self.first_ends.len() + self.resends.len()
    }

    pub fn looks_queued(&self) -> usize {
        self.before_end.looks.len() + self.other.looks.len()
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    fn id(n: u128) -> JobId {
        JobId(Uuid::from_u128(n))
    }

    #[test]
    fn first_ends_go_before_resends_and_no_more_than_allowed_are_in_flight() {
        let mut lane = Lane::new(2);
        lane.queue_end(id(1), false, false);
        lane.queue_end(id(2), true, false);
        lane.queue_end(id(3), true, false);
        assert_eq!((lane.next_end(), lane.next_end(), lane.next_end()), (Some(id(2)), Some(id(3)), None));
        lane.end_answered();
        assert_eq!(lane.next_end(), Some(id(1)));
    }

    #[test]
    fn what_was_just_looked_at_goes_first() {
        let mut lane = Lane::new(1);
        lane.queue_end(id(1), true, false);
        lane.queue_end(id(2), false, true);
        assert_eq!(lane.next_end(), Some(id(2)));
    }

    #[test]
    fn one_round_serves_all_that_wait_and_the_next_keeps_its_distance() {
        let (mut lane, arms) = (Lane::new(1), Urgency::BeforeEnd);
        let start = BootMs(1_000);
        assert_eq!(lane.round_at(arms, start), None);
        (0..500).for_each(|n| lane.queue_look(id(n), Purpose::Arm));
        assert_eq!(lane.round_at(arms, start), Some(start));
        assert_eq!(lane.start_round(arms, start).len(), 500);
        lane.queue_look(id(1), Purpose::BeforeEnd);
        assert!(lane.start_round(arms, start + Duration::from_millis(199)).is_empty());
        assert_eq!(lane.start_round(arms, start + Duration::from_millis(200)).len(), 1);
        lane.queue_look(id(2), Purpose::Pin);
        assert_eq!(lane.round_at(arms, start + Duration::from_secs(9)), None, "two hang already");
        lane.queue_look(id(3), Purpose::Confirm);
        assert_eq!(lane.start_round(Urgency::Other, start).len(), 1, "proof has rounds of its own");
    }

    #[test]
    fn what_an_end_call_waits_for_never_rests() {
        let (mut lane, arms) = (Lane::new(1), Urgency::BeforeEnd);
        lane.queue_look(id(1), Purpose::Arm);
        lane.start_round(arms, BootMs(0));
        lane.round_done(arms, BootMs(8_000), Duration::from_secs(8), true);
        lane.queue_look(id(2), Purpose::BeforeEnd);
        assert_eq!(lane.round_at(arms, BootMs(8_000)), Some(BootMs(8_000)));
    }

    #[test]
    fn a_few_warnings_are_in_flight_and_no_end_call_waits_for_one() {
        let mut lane = Lane::new(1);
        (0..6).for_each(|n| lane.queue_warning(id(n)));
        let taken: Vec<JobId> = std::iter::from_fn(|| lane.next_warning()).collect();
        assert_eq!(taken, (0..4).map(id).collect::<Vec<_>>());
        lane.queue_end(id(9), true, false);
        assert_eq!(lane.next_end(), Some(id(9)));
        assert_eq!(lane.next_warning(), None, "an end call's place is not theirs");
        lane.warning_answered();
        assert_eq!((lane.next_warning(), lane.next_warning()), (Some(id(4)), None));
    }

    #[test]
    fn it_knows_what_waits_for_room() {
        let mut lane = Lane::new(1);
        assert!(!lane.wants_end());
        lane.queue_end(id(1), true, false);
        lane.queue_end(id(2), true, false);
        assert!(lane.wants_end());
        lane.next_end();
        assert!(!lane.wants_end(), "one is under way");
        lane.end_answered();
        assert!(lane.wants_end());
    }

    #[test]
    fn a_slow_server_rests_and_a_dead_one_is_asked_less_and_less() {
        let (mut lane, proof) = (Lane::new(1), Urgency::Other);
        let mut now = BootMs(0);
        lane.queue_look(id(1), Purpose::Confirm);
        lane.start_round(proof, now);
        now = now + Duration::from_secs(3);
        lane.round_done(proof, now, Duration::from_secs(3), true);
        lane.queue_look(id(1), Purpose::Confirm);
        assert_eq!(lane.round_at(proof, now), Some(now + Duration::from_secs(3)));

        let mut pauses = Vec::new();
        for _ in 0..8 {
            now = lane.round_at(proof, now).unwrap();
            assert_eq!(lane.start_round(proof, now).len(), 1);
            lane.round_done(proof, now, Duration::ZERO, false);
            lane.queue_look(id(1), Purpose::Confirm);
            pauses.push(lane.round_at(proof, now).unwrap().since(now));
        }
        assert!(pauses.windows(2).all(|w| w[0] <= w[1]), "{pauses:?}");
        assert_eq!(pauses.last(), Some(&ROUND_GAP_LONGEST));
        lane.start_round(proof, now + Duration::from_secs(60));
        lane.round_done(proof, now + Duration::from_secs(60), Duration::ZERO, true);
        lane.queue_look(id(1), Purpose::Confirm);
        let answered = now + Duration::from_secs(60);
        assert!(
            lane.round_at(proof, answered).unwrap() > answered,
            "what was decided before the answer stands"
        );
        assert_eq!(lane.gap(), ROUND_GAP);
    }

    /// Also where a round hangs while another is wanted.
    #[test]
    fn a_dead_server_is_asked_less_and_less_before_an_end_too() {
        let (mut lane, arms) = (Lane::new(1), Urgency::BeforeEnd);
        let mut now = BootMs(0);
        for _ in 0..3 {
            lane.queue_look(id(1), Purpose::BeforeEnd);
            now = lane.round_at(arms, now).unwrap();
            lane.start_round(arms, now);
            lane.round_done(arms, now, Duration::ZERO, false);
        }
        lane.queue_look(id(1), Purpose::BeforeEnd);
        now = lane.round_at(arms, now).unwrap();
        lane.start_round(arms, now);
        lane.queue_look(id(2), Purpose::BeforeEnd);
        assert_eq!(lane.round_at(arms, now), Some(now + ROUND_GAP * 8));
    }
}
