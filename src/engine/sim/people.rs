//! What people ask for, and what they are told.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::clock::{EPOCH, Ms};
use super::plan::{Ask, Item, Only, SimOrder, SimWhen};
use super::runner::{Outside, server, settings};
use super::sim::Sim;
use super::world::meeting_id;
use crate::engine::Handle;
use crate::engine::api::{Refusal, RefusalKind, Service, Submission, When};
use crate::job::{By, Change, InstanceId, Origin, UtcMs};
use crate::schedule::Feeds;

/// Somebody whose keyed request was refused for the moment asks again this much later, so many times.
const ASK_AGAIN: Ms = 20_000;
const ASKED_AT_MOST: u32 = 12;

/// Does one item of the plan, in a task of its own.
pub fn act(sim: &Arc<Sim>, outside: &Arc<Mutex<Outside>>, handle: &Handle, at: usize) {
    let (sim, outside, handle) = (sim.clone(), outside.clone(), handle.clone());
    tokio::spawn(async move {
        match sim.plan.items[at].clone() {
            Item::Submit { slot, order, .. } => submit(&sim, &outside, &handle, at, slot, &order).await,
            Item::Change { slot, ask, .. } => change(&sim, &outside, &handle, slot, ask).await,
            Item::Reload { entries, .. } => {
                outside.lock().unwrap().entries.clone_from(&entries);
                sim.say(|| format!("people: the schedule file now says {entries:?}"));
                let applied = handle.apply(Arc::new(settings(&sim, &entries)), Feeds::default()).await;
                sim.say(|| format!("people: reload: {applied:?}"));
            }
            Item::Status { .. } => {
                // Only that it is answered, and changes nothing.
                let _ = handle.engine_status().await;
            }
            _ => {}
        }
    });
}

/// After a restart: whoever used a key and heard nothing asks again.
pub fn ask_again(sim: &Arc<Sim>, outside: &Arc<Mutex<Outside>>, handle: &Handle) {
    let unanswered = outside.lock().unwrap().unanswered.clone();
    unanswered.into_iter().for_each(|item| act(sim, outside, handle, item));
}

async fn submit(
    sim: &Arc<Sim>,
    outside: &Mutex<Outside>,
    handle: &Handle,
    item: usize,
    slot: usize,
    order: &SimOrder,
) {
    if order.keyed {
        outside.lock().unwrap().unanswered.insert(item);
    }
    let submission = submission(sim, slot, order);
    for _ in 0..ASKED_AT_MOST {
        sim.say(|| format!("people: submit for {} at {:?}", submission.meeting, submission.when));
        match handle.submit(submission.clone()).await {
            Ok(receipt) => {
                if !sim.effect() {
                    return;
                }
                sim.say(|| format!("people: it is job {}, due {}", receipt.job.id.short(), receipt.job.due));
                let stored = sim.stored(receipt.job.id);
                let now = sim.clock.truth();
                sim.check.lock().unwrap().submitted(slot, &receipt, order.keyed, stored.as_ref(), now);
                let mut outside = outside.lock().unwrap();
                outside.slots.insert(slot, receipt.job.id);
                outside.unanswered.remove(&item);
                return;
            }
            Err(refusal) => {
                told(sim, &refusal);
                let for_now = matches!(refusal.kind, RefusalKind::StoreFailed | RefusalKind::Stopping);
                if !order.keyed || !for_now {
                    outside.lock().unwrap().unanswered.remove(&item);
                    return;
                }
            }
        }
        sim.clock.wait(ASK_AGAIN).await;
    }
}

fn submission(sim: &Sim, slot: usize, order: &SimOrder) -> Submission {
    let SimOrder { site, room, when, only, limits, keyed } = order;
    let meeting = meeting_id(*site, *room);
    let shown = {
        let now = sim.advance();
        let world = sim.world.lock().unwrap();
        world.sites[*site][*room].shown(now).map(|life| life.id.clone())
    };
    Submission {
        server: server(*site),
        when: when_of(*when),
        max_duration: None,
        only: match only {
            Only::Any => None,
            Only::Current => shown,
            Only::Other => Some(InstanceId(format!("{meeting}-run2"))),
        },
        meeting,
        limits: limits.clone(),
        hold: None,
        key: keyed.then(|| format!("key-{slot}")),
        origin: Origin::Api,
        by: By::Peer { uid: 1000, pid: None },
    }
}

fn when_of(when: SimWhen) -> When {
    match when {
        SimWhen::At(at) => When::At(UtcMs(EPOCH + at)),
        SimWhen::In(pause) => When::In(duration(pause)),
        SimWhen::Now => When::Now,
    }
}

fn duration(ms: Ms) -> Duration {
    Duration::from_millis(ms.unsigned_abs())
}

async fn change(sim: &Arc<Sim>, outside: &Mutex<Outside>, handle: &Handle, slot: usize, ask: Ask) {
    let Some(id) = outside.lock().unwrap().slots.get(&slot).copied() else { return };
    let at = |at: Ms| UtcMs(EPOCH + at);
    let change = match ask {
        Ask::Extend(by) => Change::Extend { by: duration(by) },
        Ask::MoveTo(to) => Change::Move { to: at(to) },
        Ask::Hold(until) => Change::Hold { until: until.map(at) },
        Ask::Release(due) => Change::Release { due: due.map(at) },
        Ask::Fire => Change::Fire,
        Ask::Cancel => Change::Cancel,
    };
    sim.say(|| format!("people: {ask:?} of job {}", id.short()));
    let by = By::Peer { uid: 1000, pid: None };
    match handle.change(id, None, change, by).await {
        Ok(receipt) => {
            if !sim.effect() {
                return;
            }
            sim.say(|| {
                format!("people: done, job {} is {} until {}", id.short(), receipt.job.state, receipt.job.due)
            });
            let stored = sim.stored(id);
            sim.check.lock().unwrap().changed(ask, &receipt, stored.as_ref(), sim.clock.truth());
        }
        Err(refusal) => {
            told(sim, &refusal);
            if refusal.kind == RefusalKind::Conflict {
                sim.check.lock().unwrap().refused(ask, id, &refusal, sim.clock.truth());
            }
        }
    }
}

fn told(sim: &Sim, refusal: &Refusal) {
    sim.say(|| format!("people: refused: {refusal}"));
}
