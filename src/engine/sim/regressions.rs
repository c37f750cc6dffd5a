//! What the simulation has found in the engine, cut down.

mod schedule;

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
    // The other one made no call of its own that could have ended it: the front's silence is all it has.
    let unproven = [Outcome::Unconfirmed, Outcome::Vanished].map(|outcome| report.outcomes.get(&outcome));
    assert_eq!(unproven, [Some(&1), Some(&1)], "{:?}", report.outcomes);
}

/// Warnings that the engine waits for no longer were counted as under way by the judge (seed 5592).
#[test]
fn a_warning_that_is_given_up_makes_room_for_the_next() {
    let mut items = vec![alive()];
    for slot in 0..6 {
        let mut job = submit(1_000, slot, 300_000);
        if let Item::Submit { order, .. } = &mut job {
            order.limits.warn = Some(vec![std::time::Duration::from_secs(200)]);
        }
        items.push(job);
    }
    let (from, to, fault) = (95_000, 170_000, NetFault::Late(100_000));
    items.push(Item::Net { from, to, site: 0, fault, percent: 100 });
    let report = expect_lawful(&plan(Flavour::Direct, items));
    assert!(report.told >= 6, "{} warnings", report.told);
}

/// The decision was made on a fresh look; then the machine slept while the call waited for its claim.
#[test]
fn a_call_does_not_leave_on_a_look_from_before_a_suspend() {
    let guarded =
        LimitsPatch { keep_closed: Some(std::time::Duration::from_secs(120)), ..LimitsPatch::default() };
    let mut second = submit(220_444, 2, 221_444);
    if let Item::Submit { order, .. } = &mut second {
        order.limits = guarded;
    }
    expect_lawful(&plan(
        Flavour::Direct,
        vec![
            alive(),
            submit(29_499, 0, 221_444),
            second,
            Item::Crash { at: 221_444, away: 5_000, reboot: false, keep: 2 },
            Item::Disk { from: 221_499, to: 233_499, fault: DiskFault::Full },
            Item::Net { from: 225_276, to: 315_276, site: 0, fault: NetFault::NotNow, percent: 100 },
            Item::Suspend { at: 228_944, pause: 20_000 },
        ],
    ));
}
