//! A server that answers about a meeting within T gets its end call within k·T of due, whatever its other answers or its
//! neighbours do; and where nothing is in the way at all, on time.

use super::super::check::{Checker, Law, Track};
use super::super::clock::Ms;
use super::super::faults::{Ail, Endpoint};
use super::super::plan::{DiskFault, Item, NetFault};
use super::super::sim::Sim;
use super::super::world::node_of;
use crate::job::{Outcome, State};

/// In a calm hour the first end call leaves this soon after due.
const ON_TIME: Ms = 600;
/// Where something else is slow, or gone: this soon ...
const NEVERTHELESS: Ms = 2_000;
/// ... and so many times what the server takes for an answer about the meeting.
const ANSWERS: Ms = 3;

/// How late may the first call be, and which law would a later one break? `None`: something was in its way.
pub fn allowance(sim: &Sim, aways: &[(Ms, Ms)], track: &Track) -> Option<(Law, Ms)> {
    let job = &track.job;
    if job.due.is_never() {
        return None;
    }
    let due = sim.clock.truth_of(job.due);
    let site = sim.site_of(&job.server);
    if aways.iter().any(|(from, to)| *from < due + 1_000_000 && *to > due - 700_000) {
        return None;
    }
    let (life, room) = {
        let world = sim.world.lock().unwrap();
        let (_, room) = world.room(&job.meeting)?;
        (world.lives(&job.meeting).iter().find(|life| life.shown_at(due)).cloned()?, room)
    };
    let named = job.only.as_ref().is_none_or(|only| *only == life.id);
    let settled = due - 20_000;
    if !named || life.started > settled || track.changed > settled || track.submitted > settled {
        return None;
    }
    if job.outcome == Some(Outcome::Cancelled) || job.state == State::Held || track.calls.len() > 20 {
        return None;
    }
    // Others that want the same place.
    let wanting = |item: &Item| match item {
        Item::Submit { .. } => 1,
        Item::Standing { standing, .. } => standing.repeats.len() + standing.rules.len(),
        _ => 0,
    };
    let crowd: usize = sim.plan.items.iter().map(wanting).sum();
    if crowd > sim.plan.sites[site].max_concurrent || sim.plan.crash_at.is_some() {
        return None;
    }
    let mut all = Calm::default();
    for item in &sim.plan.items {
        all.weigh(item, (site, room), due)?;
    }
    Some(match all {
        Calm { slow: Some(answer), .. } => (Law::CalledInTime, NEVERTHELESS + ANSWERS * answer),
        Calm { full: true, .. } => (Law::FullDisk, ON_TIME),
        _ => (Law::ComesBack, ON_TIME),
    })
}

impl Checker {
    /// Did another deadline of the same meeting call by then? One of them carries the calls for all.
    pub fn is_carried(&self, track: &Track, by: Ms) -> bool {
        let same = |other: &&Track| other.job.meeting == track.job.meeting && other.job.id != track.job.id;
        self.tracks.values().filter(same).any(|other| other.calls.iter().any(|call| call.at <= by))
    }
}

#[derive(Default)]
struct Calm {
    full: bool,
    /// Something ails, and an answer about the meeting takes so long.
    slow: Option<Ms>,
}

impl Calm {
    /// `None`: this was in the way.
    fn weigh(&mut self, item: &Item, (at, room): (usize, usize), due: Ms) -> Option<()> {
        let (from, to) = item.span();
        let (before, after) = match item {
            Item::Net { fault: NetFault::ChatHangs, .. } => return Some(()),
            Item::Net { site, fault, .. } if *site == at => match fault {
                NetFault::Late(by) | NetFault::Throttled(by) => (120_000 + by, 5_000),
                _ => (120_000, 5_000),
            },
            Item::Part { site, part, ail, .. } if *site == at => {
                return self.ails(*part, *ail, (from, to), due);
            }
            Item::Node { site, node, ail, .. } if *site == at => {
                let part = if *node == node_of(room) { Endpoint::Info } else { Endpoint::Listing };
                return self.ails(part, *ail, (from, to), due);
            }
            Item::Offline { .. } | Item::Lists { .. } | Item::Moves { .. } => (120_000, 5_000),
            Item::StepWall { .. } | Item::Suspend { .. } | Item::StartsAhead { .. } => return None,
            Item::Crash { .. } | Item::Stop { .. } => (700_000, 1_000_000),
            Item::Restart { site, .. } if *site == at => (120_000, 5_000),
            Item::Disk { fault: DiskFault::Unreadable, .. } => (700_000, 5_000),
            Item::Disk { fault: DiskFault::Full, .. } => {
                self.full |= from < due && to > due - 11_000;
                return Some(());
            }
            // A change that is on its way to a slow disk holds its job.
            Item::Disk { .. } => (60_000, 5_000),
            Item::Change { .. } | Item::ChangeNext { .. } | Item::Reload { .. } => (40_000, 5_000),
            // It may be read later, when the disk can be written again.
            Item::Standing { .. } => (400_000, 5_000),
            _ => return Some(()),
        };
        (from >= due + after || to <= due - before).then_some(())
    }

    /// One endpoint ails.
    fn ails(&mut self, part: Endpoint, ail: Ail, (from, to): (Ms, Ms), due: Ms) -> Option<()> {
        if from >= due + 5_000 || to <= due - 120_000 {
            return Some(());
        }
        let answer = match (part == Endpoint::Info, ail) {
            (true, Ail::Slow(by)) => by,
            (true, _) => return None,
            (false, _) => 0,
        };
        self.slow = Some(self.slow.unwrap_or(0).max(answer));
        Some(())
    }
}
