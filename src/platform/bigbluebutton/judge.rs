//! What a raw sighting is worth. Pure.
//!
//! | front | an absence counts when |
//! |---|---|
//! | direct | a complete listing or getMeetingInfo shows it |
//! | scalelite | a complete listing shows it that had shown the instance before: Scalelite forgets a meeting before it forwards the `end`, so getMeetingInfo says not found even while it lives |
//! | balancer | the same, and every end call was answered with acceptance: after a failed or lost answer bbblb has forgotten a meeting that may live |
//! | not known yet | as a balancer, but nothing is given up |
//! | a node that held the instance | its complete listing shows it; the front is then asked for nothing more |
//!
//! Behind a balancer or a Scalelite a meeting that was never pinned counts as not there only if listing and
//! getMeetingInfo say so in the same round.
//! Where a listing can never count any more (it never showed the instance, an end call went wrong, the server lost its
//! state) the verdict is `Hopeless`; without a usable listing this time only `Doubtful`.
//! Another live instance counts as the pinned one being gone under the same conditions.
//! Every count needs two sightings. Over all this stand outages and witnesses: see [`memory`](super::memory).

use std::collections::BTreeSet;

use super::Front;
use super::memory::{self, Heard, Standing};
use crate::job::{Evidence, Instance, InstanceId, Now, Sighting, Verdict};
use crate::platform::{Judgement, Memory, Round, Target};

/// Sightings that make a proof.
const NEEDED: u8 = 2;
/// The name of the front among the nodes.
const FRONT: &str = "";

pub(crate) fn judge(
    label: &str,
    front: Front,
    memory: &Memory,
    round: &Round,
    targets: &[Target],
) -> Judgement {
    let mut memory = memory.clone();
    let mut alarms = Vec::new();
    for node in nodes_heard(round, targets) {
        let known = memory.nodes.entry(node.to_owned()).or_default();
        let lost = memory::update(known, &heard(node, round, targets));
        if lost && depended_on(node, round, targets) {
            let place = if node == FRONT { label.to_owned() } else { format!("{label} (node {node})") };
            alarms.push(format!(
                "all meetings known on {place} vanished at once: it may have lost its state in a restart, while people \
                 are still connected"
            ));
        }
    }
    let judge = Judge { front, memory: &memory, round };
    let verdicts =
        targets.iter().zip(&round.sightings).map(|(target, seen)| judge.weigh(target, seen)).collect();
    Judgement { memory, verdicts, alarms }
}

fn nodes_heard<'a>(round: &'a Round, targets: &[Target]) -> BTreeSet<&'a str> {
    let named = round.listings.keys().chain(round.trouble.keys()).map(String::as_str);
    let front = (!targets.is_empty()).then_some(FRONT);
    named.chain(front).collect()
}

fn heard<'a>(node: &str, round: &'a Round, targets: &'a [Target]) -> Heard<'a> {
    let listing = round.listings.get(node).map(Vec::as_slice);
    let from_front = |seen: &Sighting| match seen {
        Sighting::Live(instance) => instance.listed || instance.node.is_none(),
        Sighting::NotThere(evidence) => !evidence.node,
        Sighting::Occupied => true,
        _ => false,
    };
    let usable = listing.is_some() || (node == FRONT && round.sightings.iter().any(from_front));
    let shown: Vec<(&Target, &Instance)> = pairs(targets, round)
        .filter_map(|(target, seen)| shown_by(node, seen).map(|it| (target, it)))
        .collect();
    let own = targets.iter().filter_map(|target| target.instance.as_ref());
    let alive: BTreeSet<&InstanceId> = shown.iter().map(|(_, instance)| &instance.id).collect();
    let pinned = shown
        .iter()
        .filter(|(target, instance)| target.pin.as_ref().is_some_and(|pin| pin.instance == instance.id));
    Heard {
        sent: round.sent,
        received: round.received,
        troubled: round.trouble.contains_key(node),
        usable,
        listing,
        own: own.chain(alive.iter().copied()).collect(),
        alive_since: pinned.filter_map(|(target, _)| since(target)).map(|since| since.boot).min(),
        alive,
    }
}

fn pairs<'a>(targets: &'a [Target], round: &'a Round) -> impl Iterator<Item = (&'a Target, &'a Sighting)> {
    targets.iter().zip(&round.sightings)
}

/// The instance that this very server showed.
fn shown_by<'a>(node: &str, seen: &'a Sighting) -> Option<&'a Instance> {
    let Sighting::Live(instance) = seen else { return None };
    let shown = if node == FRONT {
        instance.listed || instance.node.is_none()
    } else {
        instance.node.as_deref() == Some(node)
    };
    shown.then_some(instance)
}

/// Is some target's absence in this round in doubt because of this node?
fn depended_on(node: &str, round: &Round, targets: &[Target]) -> bool {
    pairs(targets, round).any(|(target, seen)| {
        let absent = match seen {
            Sighting::NotThere(evidence) => evidence.node == (node != FRONT),
            Sighting::Live(instance) => target.instance.as_ref().is_some_and(|id| *id != instance.id),
            _ => false,
        };
        absent && since(target).is_some_and(|since| since.boot < round.received.boot)
    })
}

fn since(target: &Target) -> Option<Now> {
    target.since.or_else(|| target.pin.as_ref().map(|pin| pin.last_live))
}

/// What an absence amounts to.
enum Worth {
    Counts,
    Doubtful(String),
    Hopeless(String),
}

struct Judge<'a> {
    front: Front,
    memory: &'a Memory,
    round: &'a Round,
}

impl Judge<'_> {
    fn weigh(&self, target: &Target, seen: &Sighting) -> Verdict {
        match seen {
            Sighting::Live(by) if target.instance.as_ref().is_some_and(|id| *id != by.id) => {
                Verdict::Replaced { by: by.clone(), counts: self.replaced_counts(target, by) }
            }
            Sighting::NotThere(evidence) => match self.absence(target, *evidence) {
                Worth::Counts => Verdict::Gone { needed: NEEDED },
                Worth::Doubtful(why) => Verdict::Doubtful { why },
                Worth::Hopeless(why) => Verdict::Hopeless { why },
            },
            other => other.at_its_word(target.instance.as_ref()),
        }
    }

    /// The round shows another instance, and does not show ours: is ours gone?
    fn replaced_counts(&self, target: &Target, by: &Instance) -> bool {
        let node = target.pin.as_ref().and_then(|pin| pin.node.as_deref());
        let evidence = match node {
            // The node that held it cannot be asked just now, and the front may have left it out.
            Some(node) if self.round.trouble.contains_key(node) => return false,
            Some(node) if self.round.listings.contains_key(node) => {
                Evidence { listing: true, info: false, node: true }
            }
            // Direct: one server, one map; whatever showed another instance also shows that ours is gone.
            _ => Evidence { listing: by.listed, info: self.front == Front::Direct, node: false },
        };
        matches!(self.absence(target, evidence), Worth::Counts)
    }

    fn absence(&self, target: &Target, evidence: Evidence) -> Worth {
        let node = match (&target.pin, evidence.node) {
            (Some(pin), true) => pin.node.as_deref().unwrap_or(FRONT),
            _ => FRONT,
        };
        let by_front = if evidence.node { Worth::Counts } else { self.by_front(target, evidence) };
        let Worth::Counts = by_front else { return by_front };
        match memory::standing(self.memory.nodes.get(node), since(target)) {
            Standing::Believed => Worth::Counts,
            Standing::NotYet(why) => Worth::Doubtful(why),
            Standing::Never(why) => Worth::Hopeless(why),
        }
    }

    fn by_front(&self, target: &Target, evidence: Evidence) -> Worth {
        let both = evidence.listing && evidence.info;
        let hopeless = |why: &str| match self.front {
            Front::Auto => {
                Worth::Doubtful(format!("not there, but it is not known yet what stands in front ({why})"))
            }
            _ => Worth::Hopeless(why.to_owned()),
        };
        let doubtful = |why: &str| Worth::Doubtful(format!("not there, but {why}"));
        match (self.front, &target.pin) {
            (Front::Direct, _) if evidence.listing || evidence.info => Worth::Counts,
            (Front::Direct, _) => doubtful("nothing usable says so"),
            _ if !evidence.listing => {
                doubtful("a load balancer's word on one meeting proves nothing without its listing")
            }
            (Front::Balancer | Front::Auto, _) if !target.ends_clean => hopeless(
                "an end call through the load balancer failed or its answer was lost: it may have forgotten a meeting that \
                 still lives, so nothing that it says can prove it over (name the servers behind it as nodes)",
            ),
            (_, None) if both => Worth::Counts,
            (_, None) => doubtful("only one of listing and getMeetingInfo says so"),
            (_, Some(pin)) if pin.listed => Worth::Counts,
            (_, Some(_)) if target.end_sent => hopeless(
                "the load balancer's listing had never shown it before the end call, so its absence there proves nothing",
            ),
            (_, Some(_)) => doubtful("the load balancer's listing has never shown it"),
        }
    }
}

#[cfg(test)]
mod tests;
