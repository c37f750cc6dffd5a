//! The rhythm that tokio-cron-scheduler keeps in the daemon: here its ticks come late, twice, or not at all.

use std::sync::Arc;

use super::clock::Ms;
use super::plan::Item;
use super::sim::Sim;
use super::standing::{MINUTE, SECOND};
use crate::engine::Handle;

/// Between two expansions of the schedule, and between two sweeps of the rules, as the daemon has them.
const EXPAND: Ms = 5 * MINUTE;
const TICK: Ms = 5 * SECOND;

/// Ticks for as long as the process lives.
pub fn keep(sim: &Arc<Sim>, handle: &Handle) {
    tokio::spawn(expanding(sim.clone(), handle.clone()));
    tokio::spawn(ticking(sim.clone(), handle.clone()));
}

async fn expanding(sim: Arc<Sim>, handle: Handle) {
    sim.clock.wait(sim.chance(0, 2 * SECOND)).await;
    loop {
        expand(&sim, &handle).await;
        let pause = pause(&sim, EXPAND);
        next_tick(&sim, pause).await;
    }
}

/// The scheduler's ticks are times of the wall clock. Where that is set, the daemon builds the scheduler anew, and the next
/// tick comes a whole pause after the step: late, but not by hours.
async fn next_tick(sim: &Sim, pause: Ms) {
    let mut at = sim.clock.truth() + pause;
    for item in &sim.plan.items {
        if let Item::StepWall { at: step, .. } = item
            && (sim.clock.truth()..at).contains(step)
        {
            at = step + pause;
        }
    }
    let clock = sim.clock.clone();
    clock.until(at).await;
}

async fn ticking(sim: Arc<Sim>, handle: Handle) {
    loop {
        sim.clock.wait(pause(&sim, TICK)).await;
        if sim.effect() {
            handle.tick();
        }
    }
}

/// Until the next tick: mostly as it should be, until nothing goes wrong any more.
fn pause(sim: &Sim, regular: Ms) -> Ms {
    if sim.clock.truth() > sim.plan.quiet_from() {
        return regular;
    }
    match sim.chance(0, 12) {
        0 => 1,
        1 => regular * 6,
        2 => regular + sim.chance(0, regular),
        _ => regular,
    }
}

async fn expand(sim: &Arc<Sim>, handle: &Handle) {
    if !sim.effect() {
        return;
    }
    let (sent, ticket) = (sim.clock.wall(), sim.check.lock().unwrap().plan_sent());
    let answer = sim.answered("an expansion", handle.expand()).await;
    if !sim.effect() {
        return;
    }
    sim.say(|| format!("housekeeping: expands: {answer:?}"));
    if answer.is_ok() {
        let times = (sent, sim.clock.wall());
        let disk = sim.disk.lock().unwrap();
        sim.check.lock().unwrap().planned(ticket, times, &disk.jobs, sim.clock.truth());
    }
}
