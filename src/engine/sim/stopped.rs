//! A daemon that was stopped for three days: each entry behaves as its late-limit says, nothing comes twice, and nothing
//! comes all at once.

use fastrand::Rng;

use super::clock::{EPOCH, Ms};
use super::plan::{Item, Plan, Site};
use super::runner::Report;
use super::standing::{DAY, HOUR, MINUTE, Repeat, SECOND, Standing, ZONES};
use super::tests::expect_lawful;
use super::world::{Coming, Flavour};
use crate::job::{Job, Origin, Outcome, UtcMs};

/// Of a plain `cargo test`; `SIM_STOPPED=n` runs so many.
const SEEDS: u64 = 2;
const ENTRIES: usize = 200;
const SERVERS: usize = 3;
const ROOMS: usize = ENTRIES.div_ceil(SERVERS);
/// All that is late has been called so soon after the start, one server's lane being as narrow as it may be.
const CAUGHT_UP: Ms = 2 * MINUTE;
/// What happens once the daemon is back.
const AFTERWARDS: Ms = 10 * MINUTE;

struct Stopped {
    plan: Plan,
    standing: Standing,
    from: UtcMs,
    to: UtcMs,
}

fn stopped(seed: u64) -> Stopped {
    let mut rng = Rng::with_seed(seed);
    let flavours = [Flavour::Vendor, Flavour::Direct, Flavour::Balancer, Flavour::Scalelite];
    let site = |rng: &mut Rng| Site {
        flavour: flavours[rng.usize(0..flavours.len())],
        rooms: ROOMS,
        max_concurrent: [1, 4, 16][rng.usize(0..3)],
    };
    let sites = (0..SERVERS).map(|_| site(&mut rng)).collect();
    // In one of them more than one occurrence of an entry was a job before the stop, and is not too late after it.
    let (ahead, away) = [(HOUR, 3 * DAY), (12 * HOUR, 9 * HOUR), (6 * HOUR, 3 * DAY), (24 * HOUR, 3 * DAY)]
        [usize::try_from(seed % 4).unwrap()];
    let repeats = (0..ENTRIES).map(|name| repeat(&mut rng, name)).collect();
    let standing = Standing { repeats, ahead, ..Standing::default() };
    // Not on a full minute: nothing is under way.
    let at = rng.i64(1..20) * MINUTE + 40 * SECOND;
    let away = away + rng.i64(-120..120) * MINUTE;
    let mut items = vec![Item::Standing { at: 0, standing: standing.clone(), read: true }];
    for site in 0..SERVERS {
        for room in 0..ROOMS {
            items.push(Item::World { at: 0, site, room, what: Coming::Start });
            items.push(Item::Rejoin { site, room, after: 20 * SECOND, times: 100 });
        }
    }
    items.push(match rng.u32(0..3) {
        0 => Item::Crash { at, away, reboot: true, keep: 0 },
        _ => Item::Stop { at, away },
    });
    items.push(Item::Status { at: at + away + AFTERWARDS });
    let plan = Plan { seed, sites, items, crash_at: None }.sorted();
    Stopped { plan, standing, from: UtcMs(EPOCH + at), to: UtcMs(EPOCH + at + away) }
}

/// Each in a room of its own, so that none is in the way of another.
fn repeat(rng: &mut Rng, name: usize) -> Repeat {
    let minutes = vec![rng.i64(0..30), rng.i64(30..60)];
    let hour = rng.i64(0..24);
    let (minutes, hour, weekday) = match name % 4 {
        0 => (minutes, None, None),
        1 => (minutes[..1].to_vec(), None, None),
        2 => (minutes[..1].to_vec(), Some(hour), None),
        _ => (minutes[..1].to_vec(), Some(hour), Some(rng.i64(0..7))),
    };
    // The clocks of St. John's change within a week.
    let zones = if weekday.is_some() { &ZONES[..4] } else { &ZONES[..] };
    Repeat {
        name,
        site: name % SERVERS,
        room: name / SERVERS,
        minutes,
        second: 0,
        hour,
        weekday,
        zone: zones[rng.usize(0..zones.len())],
        late_limit: [0, HOUR, DAY][rng.usize(0..3)],
        warn: Vec::new(),
    }
}

/// What must have become of the latest occurrence of the time away, and when: the others are left out.
#[track_caller]
fn expect_as_late_limit_says(stopped: &Stopped, report: &Report, repeat: &Repeat) -> bool {
    let of =
        |job: &&Job| matches!(&job.origin, Origin::Schedule { of: Some(of), .. } if *of == repeat.entry());
    let planned = |job: &Job| match &job.origin {
        Origin::Schedule { planned, .. } => *planned,
        _ => job.due,
    };
    let away = stopped.from..=stopped.to;
    let seed = stopped.plan.seed;
    let missed: Vec<&Job> =
        report.jobs.iter().filter(of).filter(|job| away.contains(&planned(job))).collect();
    let called: Vec<&&Job> = missed.iter().filter(|job| job.end_sent_at.is_some()).collect();
    for job in &missed {
        let expected = job.outcome == Some(Outcome::Missed) || job.end_sent_at.is_some();
        assert!(expected, "seed {seed}, {repeat:?}: {}", job.sentence());
    }
    let last = repeat.last_until(stopped.to).filter(|at| *at > stopped.from);
    let in_time = last.filter(|at| at.0 + repeat.late_limit >= stopped.to.0);
    let Some(at) = in_time else {
        assert!(called.is_empty(), "seed {seed}, {repeat:?}: too late for {last:?}, and called");
        return false;
    };
    let [job] = called.as_slice() else { panic!("seed {seed}, {repeat:?}: {} calls for {at}", called.len()) };
    assert_eq!((planned(job), job.outcome), (at, Some(Outcome::Ended)), "seed {seed}, {repeat:?}");
    let late = job.end_sent_at.map_or(0, |sent| sent.ms_since(stopped.to));
    assert!((0..CAUGHT_UP).contains(&late), "seed {seed}, {repeat:?}: caught up {late} ms after the start");
    true
}

#[test]
fn a_daemon_that_was_stopped_for_three_days() {
    let (mut caught_up, mut left_out) = (0, 0);
    let seeds = super::tests::number("SIM_STOPPED").unwrap_or(SEEDS);
    for seed in 0..seeds {
        let stopped = stopped(seed);
        let report = expect_lawful(&stopped.plan);
        for repeat in &stopped.standing.repeats {
            let caught = expect_as_late_limit_says(&stopped, &report, repeat);
            caught_up += u64::from(caught);
            left_out += u64::from(!caught);
        }
    }
    println!("{caught_up} entries catch up, {left_out} are left out");
    assert!(caught_up > 50 * seeds && left_out > 50 * seeds);
}
