//! `lock`: the room is closed right before the end call, once, and never at the end's expense.

use super::super::step::{ARM_GOOD, LOCK_WAIT, LOOK_FRESH};
use super::super::*;
use super::sim::*;

fn locking(order: &mut Order) {
    order.limits.lock = Lock::Reversible;
}

/// The answer to the call is lost, and the same instance is called at again. Which calls locked the room first?
fn locks_of_two_calls(mut sim: Sim) -> (Sim, [bool; 2]) {
    sim.end_says(no_answer(true));
    while sim.sent.len() < 2 {
        sim.next_look_says(live("a"));
        sim.slot();
    }
    let locks = [sim.sent[0].lock, sim.sent[1].lock];
    (sim, locks)
}

#[test]
fn a_room_is_locked_once() {
    let mut sim = Sim::calling_with(locking);
    sim.event(Event::Locked(Ok(())));
    let (sim, locks) = locks_of_two_calls(sim);
    assert_eq!(locks, [true, false]);
    assert!(sim.job.locked);
    sim.expect_fact("locked");
}

#[test]
fn a_lock_that_failed_is_tried_with_the_next_call_and_said() {
    let mut sim = Sim::calling_with(locking);
    sim.event(Event::Locked(Err("no answer".into())));
    let (sim, locks) = locks_of_two_calls(sim);
    assert_eq!(locks, [true, true]);
    assert!(!sim.job.locked);
    sim.expect_fact("lock-failed");
}

#[test]
fn without_lock_nothing_is_locked() {
    let sim = Sim::calling_with(|_| {});
    assert!(!sim.sent[0].lock);
}

/// The call waits for the lock, so the look before it must be fresh for that long.
#[test]
fn a_look_is_fresh_also_after_the_wait_for_the_lock() {
    for (waited, good) in [(ARM_GOOD - LOCK_WAIT, true), (ARM_GOOD - LOCK_WAIT + ms(1), false)] {
        let mut sim = Sim::arming_with(locking);
        sim.look_says(live("a"));
        sim.advance(waited);
        sim.slot();
        assert_eq!(sim.sent.len(), usize::from(good), "waited {waited:?}");
    }
    assert!(LOCK_WAIT < LOOK_FRESH);
}

/// A lock's answer that comes after the outcome is still written down, and changes nothing else.
#[test]
fn a_late_answer_to_the_lock_disturbs_nothing() {
    let mut sim = Sim::calling_with(locking);
    sim.end_says(refused(true));
    let before = (sim.job.state, sim.job.outcome, sim.job.revision);
    sim.event(Event::Locked(Ok(())));
    assert_eq!((sim.job.state, sim.job.outcome, sim.job.revision), before);
}
