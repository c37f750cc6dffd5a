//! What the simulation has found in the engine, cut down.

use super::clock::Ms;
use super::plan::{Ask, DiskFault, Item, NetFault, Only, Plan, SimOrder, SimWhen, Site};
use super::tests::expect_lawful;
use super::world::{Coming, Flavour};
use crate::job::{LimitsPatch, Outcome};

fn submit(at: Ms, slot: usize, due: Ms) -> Item {
    let limits = LimitsPatch::default();
    let order = SimOrder { site: 0, room: 0, when: SimWhen::At(due), only: Only::Any, limits, keyed: false };
    Item::Submit { at, slot, order }
}

fn plan(flavour: Flavour, items: Vec<Item>) -> Plan {
    let sites = vec![Site { flavour, rooms: 1, max_concurrent: 8 }];
    Plan { seed: 1, sites, items, crash_at: None }.sorted()
}

fn alive() -> Item {
    Item::World { at: 0, site: 0, room: 0, what: Coming::Start }
}

#[test]
fn a_job_that_is_read_at_its_very_moment_is_no_busy_loop() {
    let report = expect_lawful(&plan(Flavour::Direct, vec![alive(), submit(1_000, 0, 1_000_000)]));
    assert_eq!(report.outcomes.get(&Outcome::Ended), Some(&1));
}

#[test]
fn what_is_written_after_a_full_disk_clears_the_error() {
    expect_lawful(&plan(
        Flavour::Direct,
        vec![
            Item::Disk { from: 0, to: 5_000, fault: DiskFault::Full },
            submit(1_000, 0, 30_000_000),
            submit(10_000, 1, 36_000_000),
            Item::Change { at: 12_000, slot: 1, ask: Ask::Hold(None) },
        ],
    ));
}

#[test]
fn the_failed_call_of_one_job_spoils_the_proof_of_another() {
    let report = expect_lawful(&plan(
        Flavour::Balancer,
        vec![
            alive(),
            submit(1_000, 0, 54_103),
            submit(1_000, 1, 60_000),
            Item::Net { from: 54_000, to: 54_400, site: 0, fault: NetFault::LostBefore, percent: 100 },
            Item::Change { at: 54_104, slot: 1, ask: Ask::Fire },
        ],
    ));
    assert_eq!(report.outcomes.get(&Outcome::Unconfirmed), Some(&2), "{:?}", report.outcomes);
}
