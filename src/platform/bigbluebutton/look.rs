//! One round of looks: usually a single getMeetings that answers every target.
//!
//! getMeetingInfo is asked besides, for so many meetings at most and a few at a time,
//! - before an end call by the meeting's name where the server or a balancer might take that name for another instance, and
//!   for a target that arms alone;
//! - where the listing does not show a meeting that nothing is known of yet (it may lag), leaves out what is needed, shows
//!   the name twice, or did not come.
//!
//! isMeetingRunning comes last and counts only as a yes. With nodes configured their listings say which node holds an
//! instance, and later whether it still does.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use futures_util::future::join_all;
use futures_util::stream::{self, StreamExt};

use super::answer::{Entry, Info, Listing};
use super::probe::lazily;
use super::requests::Problem;
use super::sight::{Heard, heard_nothing, may_be_prefix, precedes_end, sight};
use super::{BigBlueButton, Front};
use crate::job::{Instance, InstanceId, MeetingId, Now, Purpose, Sighting};
use crate::platform::{Round, Target};

/// getMeetingInfo (and isMeetingRunning) requests in one round, at most.
const SINGLE_LOOKS: usize = 64;
/// Of those at the same time.
const PARALLEL: usize = 8;
/// A round that arms has seconds: a listing slower than this is left for single looks.
const LISTING_WHEN_ARMING: Duration = Duration::from_secs(6);

type Listings = BTreeMap<String, Result<Listing, Problem>>;
type Infos = BTreeMap<MeetingId, Result<Info, Problem>>;

pub(super) async fn look(bbb: &BigBlueButton, targets: &[Target]) -> Round {
    let sent = bbb.now();
    if targets.is_empty() {
        return Round {
            sent,
            received: sent,
            sightings: Vec::new(),
            listings: BTreeMap::new(),
            trouble: BTreeMap::new(),
        };
    }
    let early = chosen(targets, |target| asks_early(bbb, target, targets.len()));
    let ((listing, listed_at), (mut infos, mut answered_at), nodes, ()) = tokio::join!(
        async { (bbb.front.listing(listing_timeout(bbb, targets)).await, bbb.now()) },
        ask_infos(bbb, early),
        ask_nodes(bbb, targets),
        probe_by_the_way(bbb),
    );
    let late =
        chosen(targets, |target| !infos.contains_key(&target.meeting) && asks_late(bbb, target, &listing));
    let room = SINGLE_LOOKS - infos.len();
    let (mut more, mut later) = ask_infos(bbb, late.into_iter().take(room).collect()).await;
    infos.append(&mut more);
    answered_at.append(&mut later);
    let running = ask_running(bbb, targets, &listing, &infos, &nodes).await;

    let names_instances = |node: Option<&str>| bbb.names_instances(node);
    let sightings: Vec<Sighting> = targets
        .iter()
        .map(|target| {
            let heard = Heard {
                listing: &listing,
                info: infos.get(&target.meeting),
                running: running.contains(&target.meeting),
                nodes: &nodes,
                names_instances: &names_instances,
            };
            let own = answered_at.get(&target.meeting).copied();
            shown_at(sight(target, &heard), own.unwrap_or(listed_at))
        })
        .collect();
    note(bbb, targets, &sightings, &listing, &infos, &nodes);
    let trouble = troubles(&listing, &infos, !running.is_empty(), &nodes);
    Round { sent, received: bbb.now(), sightings, listings: listings(bbb, &listing, &nodes), trouble }
}

/// Its own question, or the listing, was answered long before the round is over where another question hangs.
fn shown_at(sighting: Sighting, at: Now) -> Sighting {
    match sighting {
        Sighting::Live(instance) => Sighting::Live(Instance { shown_at: Some(at), ..instance }),
        other => other,
    }
}

fn listing_timeout(bbb: &BigBlueButton, targets: &[Target]) -> Duration {
    let arms = targets.iter().any(|target| target.purpose == Purpose::Arm);
    let whole = bbb.front.listing_timeout();
    if arms { whole.min(LISTING_WHEN_ARMING) } else { whole }
}

/// The distinct meetings of the targets that are meant, at most [`SINGLE_LOOKS`].
fn chosen(targets: &[Target], meant: impl Fn(&Target) -> bool) -> BTreeSet<MeetingId> {
    let meetings = targets.iter().filter(|target| meant(target)).map(|target| target.meeting.clone());
    let distinct: BTreeSet<MeetingId> = meetings.collect();
    distinct.into_iter().take(SINGLE_LOOKS).collect()
}

/// Where it is clear beforehand that a listing will not do.
fn asks_early(bbb: &BigBlueButton, target: &Target, targets: usize) -> bool {
    if target.purpose == Purpose::Arm && targets == 1 {
        return true;
    }
    let node = target.pin.as_ref().and_then(|pin| pin.node.as_deref());
    if !precedes_end(target) || bbb.names_instances(node) {
        return false;
    }
    // The listing of an unknown balancer may be a cached one.
    may_be_prefix(target.meeting.as_str()) || matches!(bbb.front(), Front::Balancer | Front::Auto)
}

fn asks_late(bbb: &BigBlueButton, target: &Target, listing: &Result<Listing, Problem>) -> bool {
    let listing = match listing {
        Ok(listing) => listing,
        // The same server would give the same answer once more for each of them.
        Err(Problem::NotSent(_) | Problem::Misconfigured(_) | Problem::Throttled { .. }) => return false,
        Err(_) => return true,
    };
    let pinned = target.instance.as_ref().and_then(|id| listing.instance(id));
    let Some(entry) = pinned.or_else(|| listing.meeting(target.meeting.as_str())) else {
        let watching = matches!(target.purpose, Purpose::Guard | Purpose::After);
        return target.pin.is_none() && !(watching && bbb.front() == Front::Direct);
    };
    let Some(id) = &entry.internal else { return true };
    let password_missing = entry.password.is_none() && bbb.password(id).is_none();
    precedes_end(target) && (password_missing || listing.is_ambiguous(target.meeting.as_str()))
}

/// The answers, and when they came.
async fn ask_infos(bbb: &BigBlueButton, meetings: BTreeSet<MeetingId>) -> (Infos, BTreeMap<MeetingId, Now>) {
    let asked = stream::iter(meetings).map(|meeting| async move {
        let info = bbb.front.info(&meeting).await;
        ((meeting.clone(), info), (meeting, bbb.now()))
    });
    asked.buffer_unordered(PARALLEL).unzip().await
}

/// Before an end call all nodes, to learn which one holds the instance; afterwards that one.
async fn ask_nodes(bbb: &BigBlueButton, targets: &[Target]) -> Listings {
    let pinned: BTreeSet<&str> =
        targets.iter().filter_map(|target| target.pin.as_ref()?.node.as_deref()).collect();
    let unplaced = |target: &Target| target.pin.as_ref().is_some_and(|pin| pin.node.is_none());
    let all = targets.iter().any(|target| precedes_end(target) || unplaced(target));
    let asked = bbb.nodes.iter().filter(|(name, _)| all || pinned.contains(name.as_str()));
    let timeout = listing_timeout(bbb, targets);
    let answers = join_all(asked.map(|(name, node)| async move {
        let (listing, ()) = tokio::join!(node.listing(timeout), bbb.probe_node_by_the_way(node));
        (name.clone(), listing)
    }));
    answers.await.into_iter().collect()
}

async fn probe_by_the_way(bbb: &BigBlueButton) {
    if bbb.needs_probe() {
        lazily(&bbb.front).await;
    }
}

/// The meetings in which somebody is, of those that nothing else was heard of though the server answers.
async fn ask_running(
    bbb: &BigBlueButton,
    targets: &[Target],
    listing: &Result<Listing, Problem>,
    infos: &Infos,
    nodes: &Listings,
) -> BTreeSet<MeetingId> {
    let answers = |problem: &Problem| matches!(problem, Problem::Unreadable(_));
    let asked = chosen(targets, |target| {
        let info = infos.get(&target.meeting);
        let heard = Heard { listing, info, running: false, nodes, names_instances: &|_| false };
        let answers_info = info.is_some_and(|info| info.as_ref().err().is_none_or(answers));
        heard_nothing(&heard) && (answers_info || listing.as_ref().err().is_some_and(answers))
    });
    let asked = stream::iter(asked).map(|meeting| async move {
        let answer = bbb.front.running(meeting.as_str()).await;
        answer.is_ok_and(|answer| answer.success && answer.running == Some(true)).then_some(meeting)
    });
    asked.buffer_unordered(PARALLEL).filter_map(std::future::ready).collect().await
}

/// What end calls need later, and which instances are some job's.
fn note(
    bbb: &BigBlueButton,
    targets: &[Target],
    sightings: &[Sighting],
    listing: &Result<Listing, Problem>,
    infos: &Infos,
    nodes: &Listings,
) {
    let mut notes = bbb.notes();
    for (target, sighting) in targets.iter().zip(sightings) {
        if let Some(id) = &target.instance {
            notes.ours.put(id.clone(), ());
        }
        let Sighting::Live(instance) = sighting else { continue };
        notes.ours.put(instance.id.clone(), ());
        let node = instance.node.as_ref().and_then(|name| Some((name, nodes.get(name)?.as_ref().ok()?)));
        let on_node = node.and_then(|(name, listing)| Some((name, listing.instance(&instance.id)?)));
        if let Some((name, entry)) = on_node
            && let Some(meeting) = &entry.meeting
        {
            notes.on_nodes.put((name.clone(), instance.id.clone()), MeetingId(meeting.clone()));
        }
        let by_listing = listing.as_ref().ok().and_then(|listing| listing.instance(&instance.id));
        let by_info = match infos.get(&target.meeting) {
            Some(Ok(Info::Live(entry))) if entry.internal.as_ref() == Some(&instance.id) => Some(&**entry),
            _ => None,
        };
        let entries = [by_info, by_listing, on_node.map(|(_, entry)| entry)];
        if let Some(password) = entries.into_iter().flatten().find_map(|entry| entry.password.clone()) {
            notes.passwords.put(instance.id.clone(), password);
        }
    }
}

/// The instances that a listing showed and that may testify for the server: breakout rooms go with their meeting, and what
/// some job is about to end will vanish by our own doing.
fn listings(
    bbb: &BigBlueButton,
    front: &Result<Listing, Problem>,
    nodes: &Listings,
) -> BTreeMap<String, Vec<InstanceId>> {
    let notes = bbb.notes();
    let front = front.as_ref().ok().map(|listing| (String::new(), listing));
    let nodes = nodes.iter().filter_map(|(name, listing)| Some((name.clone(), listing.as_ref().ok()?)));
    let testifies = |entry: &&Entry| !entry.breakout;
    front
        .into_iter()
        .chain(nodes)
        .map(|(name, listing)| {
            let shown = listing.entries.iter().filter(testifies).filter_map(|entry| entry.internal.clone());
            (name, shown.filter(|id| !notes.ours.has(id)).collect())
        })
        .collect()
}

/// Any sign of an outage counts, also where a later request of the same round was answered: a restart may lie between.
fn troubles(
    listing: &Result<Listing, Problem>,
    infos: &Infos,
    running: bool,
    nodes: &Listings,
) -> BTreeMap<String, String> {
    let mut problems =
        listing.as_ref().err().into_iter().chain(infos.values().filter_map(|info| info.as_ref().err()));
    let heard_info = infos.values().any(|info| matches!(info, Ok(Info::Live(_) | Info::NotFound)));
    let usable = listing.is_ok() || heard_info || running;
    let first = problems.clone().next();
    let outage = problems.find(|problem| match problem {
        // Our own single looks may have been too many.
        Problem::Throttled { .. } => !usable,
        other => other.is_outage(),
    });
    let front = outage.or(first.filter(|_| !usable)).map(|problem| (String::new(), problem.why().to_owned()));
    let nodes = nodes
        .iter()
        .filter_map(|(name, listing)| Some((name.clone(), listing.as_ref().err()?.why().to_owned())));
    front.into_iter().chain(nodes).collect()
}
