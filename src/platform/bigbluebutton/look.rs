//! What a round of looks asks, and what it notes down for later. The round itself, answer by answer, is in
//! [`round`](super::round).
//!
//! Usually a single getMeetings answers every target. getMeetingInfo is asked besides, for so many meetings at most and a
//! few at a time,
//! - before an end call by the meeting's name where the server or a balancer might take that name for another instance, and
//!   for a target that arms alone;
//! - where the listing does not show a meeting that nothing is known of yet (it may lag), leaves out what is needed, shows
//!   the name twice, shows nobody who was there before (it may be a glitch), or does not come in time.
//!
//! The last look before an end call that can name only the meeting is getMeetingInfo alone: it is quick, it is no cached
//! listing, and it says which instance the name means.
//! isMeetingRunning comes last and counts only as a yes. With nodes configured their listings say which node holds an
//! instance, and later whether it still does.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::time::Duration;

use super::answer::{Entry, Info, Listing};
use super::requests::Problem;
use super::sight::{Heard, heard_nothing, may_be_prefix, precedes_end};
use super::{BigBlueButton, Front};
use crate::job::{InstanceId, MeetingId, Now, Purpose, Sighting};
use crate::platform::Target;

/// getMeetingInfo (and isMeetingRunning) requests in one round, at most.
pub(super) const SINGLE_LOOKS: usize = 64;
/// A round that arms has seconds: a listing slower than this is left for single looks.
const LISTING_WHEN_ARMING: Duration = Duration::from_secs(6);
/// A node that is slower than this holds no end call up.
const NODE_BEFORE_END: Duration = Duration::from_millis(1_500);

pub(super) type Listings = BTreeMap<String, Result<Listing, Problem>>;

/// An answer, or why there is none.
pub(super) struct Answered<T> {
    /// When the question was sent, and when this came.
    pub(super) asked: Now,
    pub(super) at: Now,
    pub(super) is: Result<T, Problem>,
}

pub(super) type Infos = BTreeMap<MeetingId, Answered<Info>>;

/// A last look, in the turn of its own end call?
pub(super) fn is_last(target: &Target) -> bool {
    target.purpose == Purpose::Last
}

/// Does the answer matter only later?
pub(super) fn arms(target: &Target) -> bool {
    matches!(target.purpose, Purpose::Pin | Purpose::Arm)
}

pub(super) fn listing_timeout(bbb: &BigBlueButton, targets: &[Target]) -> Duration {
    let whole = bbb.front.listing_timeout();
    if targets.iter().any(arms) { whole.min(LISTING_WHEN_ARMING) } else { whole }
}

pub(super) fn node_timeout(bbb: &BigBlueButton, targets: &[Target]) -> Duration {
    let whole = listing_timeout(bbb, targets);
    if targets.iter().any(precedes_end) { whole.min(NODE_BEFORE_END) } else { whole }
}

/// Where it is clear beforehand that a listing will not do.
pub(super) fn asks_early(bbb: &BigBlueButton, target: &Target, targets: usize) -> bool {
    if is_last(target) || (arms(target) && targets == 1) {
        return true;
    }
    let node = target.pin.as_ref().and_then(|pin| pin.node.as_deref());
    if !precedes_end(target) || bbb.names_instances(node) {
        return false;
    }
    // The listing of an unknown balancer may be a cached one.
    may_be_prefix(target.meeting.as_str()) || !bbb.shares_last_look()
}

/// `known`: who was shown by an earlier listing.
pub(super) fn asks_late(
    bbb: &BigBlueButton,
    target: &Target,
    listing: &Result<Listing, Problem>,
    known: &HashSet<InstanceId>,
) -> bool {
    let listing = match listing {
        Ok(listing) => listing,
        // The same server would give the same answer once more for each of them.
        Err(Problem::NotSent(_) | Problem::Misconfigured(_) | Problem::Throttled { .. }) => return false,
        Err(_) => return true,
    };
    let pinned = target.instance.as_ref().and_then(|id| listing.instance(id));
    let Some(entry) = pinned.or_else(|| listing.meeting(target.meeting.as_str())) else {
        let watching = matches!(target.purpose, Purpose::Guard | Purpose::After);
        let Some(pin) = &target.pin else { return !(watching && bbb.front() == Front::Direct) };
        // A listing proves nothing alone that never showed it, or that shows nobody who was there before.
        let witnessed = || listing.entries.iter().any(|entry| is_witness(bbb, entry, known));
        return !watching && (bbb.front() == Front::PlugNmeet || !pin.listed || !witnessed());
    };
    let Some(id) = &entry.internal else { return true };
    let password_missing = entry.password.is_none() && bbb.password(id).is_none();
    precedes_end(target) && (password_missing || listing.is_ambiguous(target.meeting.as_str()))
}

fn is_witness(bbb: &BigBlueButton, entry: &Entry, known: &HashSet<InstanceId>) -> bool {
    let id = entry.internal.as_ref().filter(|id| known.contains(*id));
    !entry.breakout && id.is_some_and(|id| !bbb.notes().ours.has(id))
}

/// Before an end call all nodes, to learn which one holds the instance; afterwards that one, and for a last look too.
pub(super) fn asked_nodes(bbb: &BigBlueButton, targets: &[Target]) -> BTreeSet<String> {
    let pinned: BTreeSet<&str> =
        targets.iter().filter_map(|target| target.pin.as_ref()?.node.as_deref()).collect();
    let unplaced = |target: &Target| target.pin.as_ref().is_some_and(|pin| pin.node.is_none());
    let all = |target: &Target| !is_last(target) && (precedes_end(target) || unplaced(target));
    let all = targets.iter().any(all);
    bbb.nodes.keys().filter(|name| all || pinned.contains(name.as_str())).cloned().collect()
}

/// Is somebody perhaps in a meeting of which nothing else was heard, though the server answers?
pub(super) fn asks_running(heard: &Heard<'_>) -> bool {
    let answers = |problem: &Problem| matches!(problem, Problem::Unreadable(_));
    let answers_info = heard.info.is_some_and(|info| info.as_ref().err().is_none_or(answers));
    let answers_listing = heard.listing.is_some_and(|listing| listing.as_ref().err().is_some_and(answers));
    heard_nothing(heard) && (answers_info || answers_listing)
}

/// Before anything is asked: whose end says nothing about the server.
pub(super) fn note_targets(bbb: &BigBlueButton, targets: &[Target]) {
    let mut notes = bbb.notes();
    for id in targets.iter().filter_map(|target| target.instance.as_ref()) {
        notes.ours.put(id.clone(), ());
    }
}

/// What end calls need later.
pub(super) fn note(
    bbb: &BigBlueButton,
    sighting: &Sighting,
    listing: Option<&Result<Listing, Problem>>,
    info: Option<&Answered<Info>>,
    nodes: &Listings,
) {
    let Sighting::Live(instance) = sighting else { return };
    let mut notes = bbb.notes();
    notes.ours.put(instance.id.clone(), ());
    let node = instance.node.as_ref().and_then(|name| Some((name, nodes.get(name)?.as_ref().ok()?)));
    let on_node = node.and_then(|(name, listing)| Some((name, listing.instance(&instance.id)?)));
    if let Some((name, entry)) = on_node
        && let Some(meeting) = &entry.meeting
    {
        notes.on_nodes.put((name.clone(), instance.id.clone()), MeetingId(meeting.clone()));
    }
    let by_listing = listing.and_then(|listing| listing.as_ref().ok()?.instance(&instance.id));
    let by_info = match info.map(|info| &info.is) {
        Some(Ok(Info::Live(entry))) if entry.internal.as_ref() == Some(&instance.id) => Some(&**entry),
        _ => None,
    };
    let entries = [by_info, by_listing, on_node.map(|(_, entry)| entry)];
    if let Some(password) = entries.into_iter().flatten().find_map(|entry| entry.password.clone()) {
        notes.passwords.put(instance.id.clone(), password);
    }
}

/// A listing that was asked for after getMeetingInfo had denied an instance, and still shows it, is a cached one.
pub(super) fn note_listing(bbb: &BigBlueButton, listing: &Listing, asked: Now) {
    let mut notes = bbb.notes();
    let ids =
        || listing.entries.iter().filter(|entry| !entry.breakout).filter_map(|entry| entry.internal.clone());
    let stale = |id: InstanceId| notes.denied.get(&id).is_some_and(|at| at.boot <= asked.boot);
    notes.caught_stale |= ids().any(stale);
    notes.shown_before = ids().collect();
}

/// Whom the listing of this round shows under a name that getMeetingInfo says is nobody's, or another one's. Not on a
/// Scalelite: that forgets first what it is about to end, and its listing is the truth.
pub(super) fn note_denials(
    bbb: &BigBlueButton,
    meeting: &MeetingId,
    info: &Answered<Info>,
    listing: Option<&Listing>,
) {
    let means = match &info.is {
        Ok(Info::NotFound) => None,
        Ok(Info::Live(entry)) if entry.is_called(meeting.as_str()) => entry.internal.as_ref(),
        _ => return,
    };
    let mut notes = bbb.notes();
    if let Some(id) = means {
        notes.denied.forget(id);
    }
    if bbb.front() == Front::Scalelite {
        return;
    }
    let named = listing.into_iter().flat_map(|listing| &listing.entries);
    let others =
        named.filter(|entry| entry.is_called(meeting.as_str())).filter_map(|entry| entry.internal.as_ref());
    for id in others.filter(|id| Some(*id) != means) {
        if !notes.denied.has(id) {
            notes.denied.put(id.clone(), info.at);
        }
    }
}

/// The instances that a listing showed and that may testify for the server: breakout rooms go with their meeting, and what
/// some job is about to end will vanish by our own doing.
pub(super) fn witnesses(bbb: &BigBlueButton, listing: &Listing) -> Vec<InstanceId> {
    let notes = bbb.notes();
    let shown =
        listing.entries.iter().filter(|entry| !entry.breakout).filter_map(|entry| entry.internal.clone());
    shown.filter(|id| !notes.ours.has(id)).collect()
}

/// All that a listing showed but for breakout rooms, and whether people are inside.
pub(super) fn shown(listing: &Listing) -> Vec<(InstanceId, bool)> {
    let whole = listing.entries.iter().filter(|entry| !entry.breakout);
    let people = |entry: &Entry| entry.participants.is_some_and(|people| people > 0);
    whole.filter_map(|entry| Some((entry.internal.clone()?, people(entry)))).collect()
}
