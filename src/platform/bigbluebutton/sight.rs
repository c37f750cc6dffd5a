//! What was heard of one meeting in a round, made into one raw sighting. Pure.
//!
//! - Positive evidence wins: an answer that shows the pinned instance beats every one that does not.
//! - Absence comes only from a complete listing, or from getMeetingInfo's own not-found keys.
//! - A meeting whose breakout room is still listed is not over.
//! - Where an end call would name the meeting, the server must be seen to resolve that name to the instance that was seen.
//!   bbb-web takes a name first as a *prefix* of internal ids (`12`, `cafe`), a balancer may list what it no longer routes
//!   to: in such a case the look that precedes an end call is [`Sighting::Doubtful`], and no call follows.

use std::collections::BTreeMap;

use super::answer::{Entry, Info, Listing};
use super::requests::Problem;
use crate::job::{Evidence, Instance, InstanceId, Purpose, Sighting};
use crate::platform::Target;

/// Everything that a round heard of one target.
pub(super) struct Heard<'a> {
    /// `None`: not asked, or not answered yet.
    pub(super) listing: Option<&'a Result<Listing, Problem>>,
    pub(super) info: Option<&'a Result<Info, Problem>>,
    /// isMeetingRunning said `true`. That it said `false` proves nothing.
    pub(super) running: bool,
    /// The listings of the nodes that were asked.
    pub(super) nodes: &'a BTreeMap<String, Result<Listing, Problem>>,
    /// May an end call for an instance on this node (`None`: behind the front) name the instance?
    pub(super) names_instances: &'a dyn Fn(Option<&str>) -> bool,
    /// What it lists is so, also where getMeetingInfo denies it (a Scalelite, which forgets before it ends).
    pub(super) lists_truly: bool,
    /// Was this instance denied by getMeetingInfo before the listing was asked for?
    pub(super) is_stale: &'a dyn Fn(&InstanceId) -> bool,
}

impl<'a> Heard<'a> {
    fn listed(&self) -> Option<&'a Listing> {
        self.listing?.as_ref().ok()
    }
}

/// Does this look precede an end call?
pub(super) fn precedes_end(target: &Target) -> bool {
    matches!(target.purpose, Purpose::Pin | Purpose::Arm | Purpose::BeforeEnd | Purpose::Last)
}

/// Could the server take this name for the beginning of an internal id, which is 40 lower-case hex digits, `-`, digits?
pub(super) fn may_be_prefix(meeting: &str) -> bool {
    let (hash, rest) = meeting.split_at_checked(40).unwrap_or((meeting, ""));
    let hex = |c: char| c.is_ascii_digit() || ('a'..='f').contains(&c);
    let digits = rest.strip_prefix('-').unwrap_or(rest);
    let rest_fits = rest.is_empty() || (rest.starts_with('-') && digits.chars().all(|c| c.is_ascii_digit()));
    !meeting.is_empty() && hash.chars().all(hex) && rest_fits
}

/// Is neither the listing nor getMeetingInfo of any use?
pub(super) fn heard_nothing(heard: &Heard<'_>) -> bool {
    let info = matches!(heard.info, Some(Ok(Info::Live(_) | Info::NotFound)));
    heard.listed().is_none() && !info
}

pub(super) fn sight(target: &Target, heard: &Heard<'_>) -> Sighting {
    let sighting = whole(target, heard);
    if let (Sighting::NotThere(_), Some(room)) = (&sighting, open_breakout(target, heard)) {
        let room = room.internal.as_ref().map_or("without an id", |id| id.as_str());
        return Sighting::Doubtful(format!(
            "it is not there itself, but its breakout room {room} is still open"
        ));
    }
    let Sighting::Live(instance) = &sighting else { return sighting };
    if !precedes_end(target) || (heard.names_instances)(instance.node.as_deref()) {
        return sighting;
    }
    hazard(target, heard, instance).map_or(sighting, Sighting::Doubtful)
}

/// BBB: ending a meeting ends its breakout rooms, but later, and not always. While one is open, people are still in it.
fn open_breakout<'a>(target: &Target, heard: &Heard<'a>) -> Option<&'a Entry> {
    let pinned = target.instance.as_ref()?.as_str();
    let listings = heard.nodes.values().chain(heard.listing).filter_map(|listing| listing.as_ref().ok());
    listings.flat_map(|listing| &listing.entries).find(|entry| entry.parent.as_deref() == Some(pinned))
}

/// The front and, where the instance's node is known, that node: it can tell what the front has forgotten.
fn whole(target: &Target, heard: &Heard<'_>) -> Sighting {
    let front = from_front(target, heard);
    if let Sighting::Live(instance) = &front
        && target.instance.as_ref().is_none_or(|id| *id == instance.id)
    {
        let node = holder(heard, instance).map(|(name, _)| name.to_owned()).or_else(|| pinned_node(target));
        return Sighting::Live(Instance { node, ..instance.clone() });
    }
    if let Some(held) = target.instance.as_ref().and_then(|id| {
        heard.nodes.iter().find_map(|(name, listing)| Some((name, listing.as_ref().ok()?.instance(id)?)))
    }) {
        let (name, entry) = held;
        return live(entry, heard).map_or(Sighting::Occupied, |instance| {
            Sighting::Live(Instance { node: Some(name.clone()), ..instance })
        });
    }
    // Another instance is alive at the front: `judge` sees from the round whether the node was asked.
    if matches!(front, Sighting::Live(_)) {
        return front;
    }
    match pinned_node(target).and_then(|name| heard.nodes.get(&name)) {
        Some(Ok(_)) => Sighting::NotThere(Evidence { listing: true, info: false, node: true }),
        // The front leaves out what stands on a node that it cannot reach: it is no substitute.
        Some(Err(problem)) => problem.sighting(),
        None => front,
    }
}

fn pinned_node(target: &Target) -> Option<String> {
    target.pin.as_ref().and_then(|pin| pin.node.clone())
}

fn holder<'a>(heard: &Heard<'a>, instance: &Instance) -> Option<(&'a str, &'a Entry)> {
    let mut listings = heard.nodes.iter().filter_map(|(name, listing)| Some((name, listing.as_ref().ok()?)));
    listings.find_map(|(name, listing)| Some((name.as_str(), listing.instance(&instance.id)?)))
}

fn from_front(target: &Target, heard: &Heard<'_>) -> Sighting {
    let listing = heard.listed();
    let by_listing = listing.and_then(|listing| {
        let pinned = target.instance.as_ref().and_then(|id| listing.instance(id));
        pinned.or_else(|| listing.meeting(target.meeting.as_str()))
    });
    let is_old = by_listing.and_then(|entry| entry.internal.as_ref()).is_some_and(|id| (heard.is_stale)(id));
    let (listing, by_listing) = if is_old { (None, None) } else { (listing, by_listing) };
    let by_info = info_entry(heard).filter(|entry| is_about(entry, target));
    let candidates = [by_listing, by_info];
    let mut found = candidates.into_iter().flatten();
    if let Some(pinned) = found.clone().find(|entry| is_pinned(entry, target)) {
        return live(pinned, heard).map_or(Sighting::Occupied, Sighting::Live);
    }
    // getMeetingInfo was asked for this one alone; a listing may be a cached one.
    if let Some(instance) = found.clone().rev().find_map(|entry| live(entry, heard)) {
        return Sighting::Live(instance);
    }
    if found.next().is_some() || (heard.running && heard_nothing(heard)) {
        return Sighting::Occupied;
    }
    let info = matches!(heard.info, Some(Ok(Info::NotFound)));
    if listing.is_some() || info {
        return Sighting::NotThere(Evidence { listing: listing.is_some(), info, node: false });
    }
    if is_old {
        let why = "the listing still shows what getMeetingInfo had denied before it was asked for: it is an old one";
        return Sighting::Doubtful(why.to_owned());
    }
    unusable(heard)
}

/// Neither listing nor info was of use: the most telling of the reasons.
fn unusable(heard: &Heard<'_>) -> Sighting {
    let info = match heard.info {
        None => None,
        Some(Err(problem)) => Some(problem.sighting()),
        Some(Ok(Info::Unclear(why))) => {
            Some(Sighting::Doubtful(format!("the answer to getMeetingInfo {why}")))
        }
        Some(Ok(_)) => {
            let why = "the server takes the meeting id for another meeting's, and lists nothing";
            Some(Sighting::Doubtful(why.to_owned()))
        }
    };
    let listing = heard.listing.and_then(|listing| listing.as_ref().err()).map(Problem::sighting);
    let rank = |sighting: &Sighting| match sighting {
        Sighting::Misconfigured(_) => 2,
        Sighting::Doubtful(_) => 1,
        _ => 0,
    };
    // Of equals the last: getMeetingInfo spoke of this meeting.
    let most_telling = [listing, info].into_iter().flatten().max_by_key(rank);
    most_telling.unwrap_or_else(|| Sighting::Doubtful("the server said nothing about it".to_owned()))
}

/// Why an end call by the meeting's name might hit something else than this instance.
fn hazard(target: &Target, heard: &Heard<'_>, instance: &Instance) -> Option<String> {
    let meeting = target.meeting.as_str();
    let prefix = may_be_prefix(meeting);
    if let Some(listing) = heard.listed()
        && prefix
        && let Some(other) = listing.entries.iter().find(|entry| is_prefix_of_other(meeting, entry, instance))
    {
        let other = other.internal.as_ref().map_or("", |id| id.as_str());
        return Some(format!(
            "the server may take the id {meeting:?} for the beginning of another meeting's internal id ({other}), and an \
             end call would hit that one: use a longer meeting id"
        ));
    }
    match heard.info {
        Some(Ok(Info::Live(entry))) if !is_about(entry, target) => Some(format!(
            "the server takes the id {meeting:?} for another meeting's, and an end call would hit that one: use a longer \
             meeting id"
        )),
        Some(Ok(Info::Live(entry))) => {
            let other = entry.internal.as_ref().filter(|id| **id != instance.id)?;
            Some(format!(
                "{} is alive, but getMeetingInfo shows {other}, and an end call would hit that one",
                instance.id
            ))
        }
        Some(Ok(Info::NotFound)) if !heard.lists_truly && instance.node.is_none() => Some(format!(
            "the listing shows {}, but getMeetingInfo does not find {meeting:?}: the listing may be an old one, and an end \
             call would hit whatever is opened meanwhile",
            instance.id
        )),
        Some(Ok(Info::Unclear(_)) | Err(_)) if prefix => Some(format!(
            "it could not be checked that the server takes the id {meeting:?} for this meeting and no other"
        )),
        Some(Ok(Info::Unclear(_)) | Err(_)) | None => beside(target, heard, instance).map(|other| {
            format!(
                "two are live under the name {meeting:?}, {} and {other}, and getMeetingInfo did not say which of them an end \
                 call would hit",
                instance.id
            )
        }),
        Some(Ok(Info::NotFound)) => None,
    }
}

/// Another live instance under the same name.
fn beside<'a>(target: &Target, heard: &Heard<'a>, instance: &Instance) -> Option<&'a InstanceId> {
    let named = heard.listed()?.entries.iter().filter(|entry| entry.is_called(target.meeting.as_str()));
    named.filter_map(|entry| entry.internal.as_ref()).find(|id| **id != instance.id)
}

fn is_prefix_of_other(meeting: &str, entry: &Entry, instance: &Instance) -> bool {
    let other = entry.internal.as_ref().filter(|id| **id != instance.id);
    other.is_some_and(|id| id.as_str().starts_with(meeting))
}

fn info_entry<'a>(heard: &Heard<'a>) -> Option<&'a Entry> {
    match heard.info {
        Some(Ok(Info::Live(entry))) => Some(entry),
        _ => None,
    }
}

/// Balancers rename meetings: the pinned instance is itself under any name.
fn is_about(entry: &Entry, target: &Target) -> bool {
    is_pinned(entry, target) || entry.is_called(target.meeting.as_str())
}

fn is_pinned(entry: &Entry, target: &Target) -> bool {
    entry.internal.is_some() && entry.internal == target.instance
}

/// `None`: the entry does not name its instance.
fn live(entry: &Entry, heard: &Heard<'_>) -> Option<Instance> {
    let id = entry.internal.clone()?;
    let listed = heard.listed().is_some_and(|listing| listing.instance(&id).is_some());
    Some(Instance {
        id,
        started_at: entry.started_at,
        start: entry.start,
        participants: people(entry, heard),
        listed,
        node: None,
        shown_at: None,
        asked_at: None,
    })
}

/// How many are inside, its breakout rooms included, where a listing shows these.
fn people(entry: &Entry, heard: &Heard<'_>) -> Option<u32> {
    let is_ours = |room: &&Entry| {
        let parent = room.parent.as_deref().filter(|_| room.breakout);
        parent.is_some_and(|of| {
            entry.is_called(of) || entry.internal.as_ref().is_some_and(|id| id.as_str() == of)
        })
    };
    // The front and a node may list the same rooms: those that show most people are believed.
    let listings = heard.nodes.values().chain(heard.listing).filter_map(|listing| listing.as_ref().ok());
    let sums = listings.map(|listing| {
        let rooms = listing.entries.iter().filter(is_ours);
        rooms.filter_map(|room| room.participants).fold(0, u32::saturating_add)
    });
    Some(entry.participants?.saturating_add(sums.max().unwrap_or(0)))
}

#[cfg(test)]
mod tests;
