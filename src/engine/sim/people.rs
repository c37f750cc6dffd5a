//! What people ask for, and what they are told.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::clock::{EPOCH, Ms};
use super::plan::{Ask, Item, Only, SimOrder, SimWhen};
use super::runner::{Outside, server, settings};
use super::sim::Sim;
use crate::engine::Handle;
use crate::engine::api::{Refusal, RefusalKind, Service, Submission, When};
use crate::job::{By, Change, InstanceId, Job, JobId, Origin, State, UtcMs};
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
                outside.lock().unwrap().file.entries.clone_from(&entries);
                sim.say(|| format!("people: the schedule file now says {entries:?}"));
                let _ = reload(&sim, &outside, &handle).await;
            }
            Item::Standing { standing, read, .. } => {
                outside.lock().unwrap().file.standing = standing.clone();
                sim.say(|| format!("people: the schedule file now says {standing:?}"));
                sim.check.lock().unwrap().file_says(&standing, sim.clock.wall(), sim.clock.truth());
                if read {
                    let _ = reload(&sim, &outside, &handle).await;
                }
            }
            Item::Moves { site, to, .. } => {
                outside.lock().unwrap().file.moved.insert(site, to);
                sim.say(|| format!("people: server {site} is now at the url of server {to}"));
                let _ = reload(&sim, &outside, &handle).await;
            }
            Item::ChangeNext { name, ask, .. } => change_next(&sim, &handle, name, ask).await,
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
    let meeting = sim.meeting(*site, *room);
    let shown = {
        let now = sim.advance();
        let world = sim.world.lock().unwrap();
        let (host, room) = world.room(&meeting).expect("it is somewhere");
        world.sites[host][room].shown(now).map(|life| life.id.clone())
    };
    Submission {
        server: server(*site),
        when: when_of(*when),
        max_duration: match when {
            SimWhen::AfterStart(length) => Some(duration(*length)),
            _ => None,
        },
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
        SimWhen::AfterStart(_) => When::AfterStart,
    }
}

fn duration(ms: Ms) -> Duration {
    Duration::from_millis(ms.unsigned_abs())
}

/// Has the schedule file read again, more than once if need be. False: it was refused to the last.
pub async fn reload(sim: &Arc<Sim>, outside: &Mutex<Outside>, handle: &Handle) -> bool {
    // Where there is nothing but entries with a time, a file that was refused is left at that.
    let tries = if sim.plan.has_standing() { ASKED_AT_MOST } else { 1 };
    for _ in 0..tries {
        let file = outside.lock().unwrap().file.clone();
        sim.check.lock().unwrap().reload_sent();
        let answer =
            sim.answered("a reload", handle.apply(Arc::new(settings(sim, &file)), Feeds::default())).await;
        if !sim.effect() {
            return true;
        }
        sim.say(|| format!("people: reload: {answer:?}"));
        let applied = answer.is_ok().then_some(&file.standing);
        sim.check.lock().unwrap().reload_answered(applied);
        let Err(refusal) = answer else { return true };
        if !matches!(refusal.kind, RefusalKind::StoreFailed | RefusalKind::Conflict) {
            return false;
        }
        sim.clock.wait(ASK_AGAIN).await;
    }
    false
}

/// Somebody who has seen in a list what ends next changes that.
async fn change_next(sim: &Arc<Sim>, handle: &Handle, name: usize, ask: Ask) {
    let entry = format!("standing-{name}");
    let of_entry = |job: &&Job| {
        let of = matches!(&job.origin, Origin::Schedule { of: Some(of), .. } if *of == entry);
        of && job.state == State::Waiting
    };
    let next = {
        let disk = sim.disk.lock().unwrap();
        disk.jobs.values().filter(of_entry).min_by_key(|job| job.due).map(|job| job.id)
    };
    if let Some(id) = next {
        change_job(sim, handle, id, ask).await;
    }
}

async fn change(sim: &Arc<Sim>, outside: &Mutex<Outside>, handle: &Handle, slot: usize, ask: Ask) {
    let id = outside.lock().unwrap().slots.get(&slot).copied();
    if let Some(id) = id {
        change_job(sim, handle, id, ask).await;
    }
}

async fn change_job(sim: &Arc<Sim>, handle: &Handle, id: JobId, ask: Ask) {
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
