//! What the simulation has found where the schedule meets the jobs: a plan that put an old copy of a job into memory, and
//! occurrences that were lost, came twice, or kept what an edit had changed. Each is what is left of the seeds that are
//! named with it.

use super::super::clock::Ms;
use super::super::plan::{Ask, DiskFault, Item, NetFault, Plan, Site};
use super::super::standing::{DAY, HOUR, MINUTE, Repeat, SECOND, Standing, ZONES};
use super::super::tests::expect_lawful;
use super::super::world::{Coming, Flavour};

const EVERY_3: fn() -> Vec<i64> = || (0..60).step_by(3).collect();
const EVERY_10: fn() -> Vec<i64> = || (0..60).step_by(10).collect();
const WARN: [Ms; 2] = [2 * MINUTE, 30 * SECOND];

fn plan(sites: &[(Flavour, usize)], items: Vec<Item>) -> Plan {
    let site = |&(flavour, rooms)| Site { flavour, rooms, max_concurrent: 8 };
    Plan { seed: 1, sites: sites.iter().map(site).collect(), items, crash_at: None }.sorted()
}

fn repeat(minutes: Vec<i64>, late_limit: Ms) -> Repeat {
    let zone = ZONES[0];
    let (hour, weekday, warn) = (None, None, Vec::new());
    Repeat { name: 0, site: 0, room: 0, minutes, second: 0, hour, weekday, zone, late_limit, warn }
}

fn says(at: Ms, repeat: Repeat, ahead: Ms, read: bool) -> Item {
    let standing = Standing { repeats: vec![repeat], rules: Vec::new(), exempt: Vec::new(), ahead };
    Item::Standing { at, standing, read }
}

fn alive(at: Ms, room: usize) -> Item {
    Item::World { at, site: 0, room, what: Coming::Start }
}

fn crash(at: Ms, away: Ms, reboot: bool) -> Item {
    Item::Crash { at, away, reboot, keep: 2 }
}

/// Seeds 12162, 16395, 58028, 71599 and 98493: the machine sleeps over the deadlines and wakes to a reload that moves and
/// removes them, while a write of one is on its way.
#[test]
fn a_reload_after_a_sleep_puts_no_old_copy_into_memory() {
    expect_lawful(&plan(
        &[(Flavour::Direct, 2)],
        vec![
            Item::Reload { at: 110_973, entries: vec![(0, 0, 0, 222_866), (1, 0, 1, 172_065)] },
            Item::Suspend { at: 192_340, pause: 50 * MINUTE },
            Item::Reload { at: 210_003, entries: vec![(0, 0, 0, 32_716)] },
            Item::World { at: 331_204, site: 0, room: 0, what: Coming::Replace },
        ],
    ));
    expect_lawful(&plan(
        &[(Flavour::Direct, 1)],
        vec![
            alive(7_091, 0),
            Item::Reload { at: 44_854, entries: vec![(0, 0, 0, 151_069)] },
            Item::Suspend { at: 140_000, pause: 11 * MINUTE },
            Item::Reload { at: 311_638, entries: vec![(0, 0, 0, 83_690), (1, 0, 0, 182_682)] },
            Item::StepWall { at: 349_709, by: 3 * HOUR },
        ],
    ));
}

/// Seed 61619: the same at a start, a long time after the deadline.
#[test]
fn a_reload_after_a_start_puts_no_old_copy_into_memory() {
    let other = Repeat { site: 1, ..repeat(vec![0, 15, 30, 45], 2 * MINUTE) };
    expect_lawful(&plan(
        &[(Flavour::Scalelite, 1), (Flavour::Vendor, 1)],
        vec![
            Item::Reload { at: 27_274, entries: vec![(0, 0, 0, 375_660)] },
            says(60_900, other, 10 * MINUTE, true),
            Item::Crash { at: 84_888, away: 4_000 * SECOND, reboot: false, keep: 0 },
            Item::Reload { at: 317_208, entries: vec![(0, 0, 0, 80_163)] },
            alive(479_999, 0),
        ],
    ));
}

/// Seed 105186: an expansion that wrote the old copy of an occurrence over the one that somebody had just put aside.
#[test]
fn an_expansion_writes_no_old_copy_over_a_hold() {
    let held = Repeat { name: 1, site: 1, zone: ZONES[1], ..repeat(vec![17, 28, 49], 2 * MINUTE) };
    let warned = Repeat { zone: ZONES[4], warn: WARN.to_vec(), ..repeat(vec![18, 25, 59], 5 * SECOND) };
    let standing =
        Standing { repeats: vec![warned, held], rules: Vec::new(), exempt: Vec::new(), ahead: 10 * MINUTE };
    let plan = plan(
        &[(Flavour::Balancer, 3), (Flavour::Vendor, 1)],
        vec![
            Item::Standing { at: 0, standing, read: true },
            Item::StepWall { at: 192_574, by: -90 * MINUTE },
            Item::ChangeNext { at: 1_968_000, name: 1, ask: Ask::Hold(Some(1_973_000)) },
            Item::Status { at: 2_100_000 },
        ],
    );
    // By how this seed's disk takes its time, a plan is made right when the held one passes its due.
    expect_lawful(&Plan { seed: 105_186, ..plan });
}

/// Seed 5824: the job before had concluded in memory, and the disk did not know yet, when a plan asked how far its entry
/// had come.
#[test]
fn an_occurrence_behind_one_that_concluded_a_moment_ago_is_not_lost() {
    let quarters = || Repeat { warn: WARN.to_vec(), ..repeat(vec![16, 30, 46], 30 * MINUTE) };
    let other = Repeat { name: 1, room: 0, second: 59, ..repeat(EVERY_3(), DAY) };
    let both = |at, more: bool| {
        let repeats = if more { vec![quarters(), other.clone()] } else { vec![quarters()] };
        let standing = Standing { repeats, rules: Vec::new(), exempt: Vec::new(), ahead: 30 * MINUTE };
        Item::Standing { at, standing, read: true }
    };
    expect_lawful(&plan(
        &[(Flavour::Direct, 1)],
        vec![
            both(0, true),
            crash(76_129, 4_000 * SECOND, true),
            Item::Stop { at: 76_477, away: SECOND },
            Item::Suspend { at: 2_040_900, pause: 70 * MINUTE },
            both(2_043_000, false),
        ],
    ));
}

/// Seeds 76983, 123437, 18296 and 59192: the claim of a warning made the older of two late occurrences begin before the
/// plan could say that only the later one is caught up with.
#[test]
fn a_claimed_warning_does_not_make_an_entry_catch_up_twice() {
    let warned = || Repeat { warn: WARN.to_vec(), ..repeat(EVERY_3(), 30 * MINUTE) };
    expect_lawful(&plan(
        &[(Flavour::Balancer, 1)],
        vec![
            Item::Rejoin { site: 0, room: 0, after: 40 * SECOND, times: 40 },
            says(22_581, warned(), 30 * MINUTE, true),
            alive(480_001, 0),
            crash(1_320_001, 11 * MINUTE, false),
        ],
    ));
    expect_lawful(&plan(
        &[(Flavour::Scalelite, 1)],
        vec![
            says(0, warned(), 10 * MINUTE, true),
            Item::Rejoin { site: 0, room: 0, after: 40 * SECOND, times: 40 },
            alive(26_245, 0),
            Item::Net { from: 288_000, to: 378_000, site: 0, fault: NetFault::ChatHangs, percent: 100 },
            crash(348_889, 200 * SECOND, true),
        ],
    ));
}

/// Seed 64735: the file got another room while the disk could not be read, and the process died.
#[test]
fn a_late_occurrence_does_not_keep_its_old_meeting() {
    expect_lawful(&plan(
        &[(Flavour::Scalelite, 3)],
        vec![
            says(0, repeat(EVERY_10(), DAY), 10 * MINUTE, true),
            alive(30_480, 0),
            Item::Disk { from: 56_226, to: 86_226, fault: DiskFault::Unreadable },
            says(63_000, Repeat { room: 2, ..repeat(EVERY_10(), DAY) }, 10 * MINUTE, true),
            crash(86_225, 4_000 * SECOND, false),
        ],
    ));
}

/// Seed 92830: the same with another server, in a file that was read only at the next start.
#[test]
fn a_late_occurrence_does_not_keep_its_old_server() {
    let warned = |site| Repeat { site, warn: WARN.to_vec(), ..repeat(EVERY_3(), DAY) };
    expect_lawful(&plan(
        &[(Flavour::Direct, 1), (Flavour::Vendor, 1)],
        vec![
            says(0, warned(0), 10 * MINUTE, true),
            Item::Rejoin { site: 0, room: 0, after: 15 * SECOND, times: 40 },
            alive(479_999, 0),
            crash(1_431_000, 2 * MINUTE, true),
            says(1_439_750, warned(1), 10 * MINUTE, false),
            Item::Stop { at: 1_640_000, away: 4_200 * SECOND },
        ],
    ));
}

/// Seed 75630: cancelled by hand; then the entry got another room, and its first one back.
#[test]
fn what_was_cancelled_by_hand_does_not_come_back_with_an_edit_undone() {
    let there = || repeat(vec![0, 20, 40], 2 * MINUTE);
    expect_lawful(&plan(
        &[(Flavour::Direct, 2)],
        vec![
            says(0, there(), 30 * MINUTE, true),
            Item::ChangeNext { at: 50, name: 0, ask: Ask::Cancel },
            says(420_000, Repeat { room: 1, ..there() }, 30 * MINUTE, true),
            says(422_000, there(), 30 * MINUTE, true),
        ],
    ));
}

/// Seed 72465: an edit took back two of three occurrences and kept the one between them, which was then ended; and then three
/// days without the daemon.
#[test]
fn an_entry_that_was_edited_before_a_long_stop_catches_up() {
    let four = (0..60).step_by(4).collect();
    let twelve = (0..60).step_by(12).collect();
    let in_newfoundland = |minutes| Repeat { zone: ZONES[4], ..repeat(minutes, DAY) };
    expect_lawful(&plan(
        &[(Flavour::Balancer, 1)],
        vec![
            says(60_900, in_newfoundland(four), 10 * MINUTE, true),
            says(62_900, in_newfoundland(twelve), 10 * MINUTE, true),
            crash(471_000, 3 * DAY, false),
        ],
    ));
}
