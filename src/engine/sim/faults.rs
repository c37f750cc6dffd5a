//! What becomes of single questions: to one endpoint of a server, about what stands on one node; and servers that are not
//! what they seem (old listings, clocks that are off, two at one address).

use std::sync::atomic::Ordering;

use super::clock::Ms;
use super::plan::Item;
use super::sim::Sim;
use crate::job::{MeetingId, ServerClock, StartRange, UtcMs};

/// A kind of request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Endpoint {
    Listing,
    /// The single look at one meeting.
    Info,
    End,
    Probe,
}

/// What is the matter with it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ail {
    Slow(Ms),
    /// There is never an answer.
    Hangs,
    /// The connection is lost: before anything takes effect.
    Lost,
}

/// What a front lists.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Shows {
    /// What was so when it was asked last, at most so long ago.
    Old(Ms),
    /// Nothing at all.
    Nothing,
}

impl Sim {
    fn happening<T>(&self, of: impl Fn(&Item) -> Option<T>) -> Option<T> {
        let now = self.clock.truth();
        let active = |item: &&Item| {
            let (from, to) = item.span();
            from <= now && now < to
        };
        let found = self.plan.items.iter().filter(active).find_map(of);
        self.faults.fetch_add(u64::from(found.is_some()), Ordering::Relaxed);
        found
    }

    /// What ails this endpoint just now.
    pub fn ail(&self, at: usize, wanted: Endpoint) -> Option<Ail> {
        self.happening(|item| match item {
            Item::Part { site, part, ail, .. } if *site == at && *part == wanted => Some(*ail),
            _ => None,
        })
    }

    pub fn node_ail(&self, at: usize, wanted: usize) -> Option<Ail> {
        self.happening(|item| match item {
            Item::Node { site, node, ail, .. } if *site == at && *node == wanted => Some(*ail),
            _ => None,
        })
    }

    pub fn lists(&self, at: usize) -> Option<Shows> {
        self.happening(|item| match item {
            Item::Lists { site, shows, .. } if *site == at => Some(*shows),
            _ => None,
        })
    }

    /// Does the front leave out, at this time, what is on this node?
    pub fn is_hidden(&self, host: usize, on: usize, when: Ms) -> bool {
        self.plan.items.iter().any(|item| {
            matches!(item, Item::Offline { site, node, from, to }
                if *site == host && *node == on && (*from..*to).contains(&when))
        })
    }

    pub fn has_nodes(&self, at: usize) -> bool {
        self.plan.items.iter().any(|item| matches!(item, Item::Nodes { site } if *site == at))
    }

    /// Where the meetings of a server are.
    pub fn home(&self, at: usize) -> usize {
        let twin = |item: &Item| match item {
            Item::Twin { site, of } if *site == at => Some(*of),
            _ => None,
        };
        self.plan.items.iter().find_map(twin).unwrap_or(at)
    }

    /// How a meeting is called that people have a deadline for.
    pub fn meeting(&self, site: usize, room: usize) -> MeetingId {
        let home = self.home(site);
        super::world::meeting_id(home, room % self.plan.sites[home].rooms)
    }

    /// How far the server's clock, and what its header says of it, are off the true time.
    pub fn skew(&self, at: usize) -> (Ms, Ms) {
        let skew = self.happening(|item| match item {
            Item::Skew { site, starts, header, .. } if *site == at => Some((*starts, *header)),
            _ => None,
        });
        skew.unwrap_or((0, 0))
    }

    /// What a server says about the start of an instance, and what that is worth.
    pub fn told_start(&self, at: usize, started: Ms, direct: bool) -> Option<(UtcMs, StartRange)> {
        let (starts, header) = self.skew(at);
        let wall = self.clock.wall();
        let ours = wall.0 - super::clock::EPOCH - self.clock.truth();
        let seconds =
            self.plan.items.iter().any(|item| matches!(item, Item::Seconds { site } if *site == at));
        let given = super::clock::EPOCH + started + starts;
        let given = UtcMs(if seconds { given / 1_000 } else { given });
        let ahead = header - ours;
        if u128::from(ahead.unsigned_abs()) > StartRange::SKEW_MAX.as_millis() {
            return None;
        }
        let clock = if direct { ServerClock::Ahead(ahead) } else { ServerClock::Unknown };
        StartRange::told(given, clock, wall)
    }
}
