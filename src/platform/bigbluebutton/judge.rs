//! What a raw sighting is worth. Pure.
//!
//! | front | an absence counts when |
//! |---|---|
//! | direct | getMeetingInfo says so, or a complete listing that had shown the instance before |
//! | scalelite, another balancer | a complete listing says so that had shown the instance before, after an **accepted** end call of ours, none failed or lost, and no trouble on the line since the look that last saw it alive: balancers forget a meeting before they forward the `end`, and whole nodes after one failed poll |
//! | plugnmeet | the same, and getMeetingInfo says so too |
//! | not known yet | as a balancer, but nothing is given up |
//! | a node that held the instance | its complete listing shows it; the front is then asked for nothing more |
//!
//! Where the listing is the only evidence it must also show a witness: an empty or shrunken one may be a glitch.
//! What a front does not show, and what is no proof by this table, has **vanished** if a good listing says so: it is over by
//! itself or it was forgotten, the front's word cannot tell. The operator may take that word (`believe = "front"`), but
//! never after a failed or lost call, nor where the memory speaks against it.
//! A server that lost its state makes the verdict `Hopeless`; without a usable listing this time it is only `Doubtful`.
//! Another live instance counts as the pinned one being gone under the same conditions.
//! Every count needs two sightings. Over all this stand outages and witnesses: see [`memory`](super::memory).

use std::collections::BTreeSet;

use super::memory::{self, Heard, Standing};
use super::{Believe, Front};
use crate::job::{Evidence, Instance, InstanceId, Now, Purpose, Sighting, Verdict};
use crate::platform::{Judgement, Listed, Memory, Round, Target};

/// Sightings that make a proof.
const NEEDED: u8 = 2;
/// The name of the front among the nodes.
const FRONT: &str = "";

/// Where a round was heard.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place<'a> {
    /// The server's name, for people.
    pub(crate) label: &'a str,
    pub(crate) front: Front,
    pub(crate) believe: Believe,
}

/// [`judge`] at a place of which nothing is taken at its word.
#[cfg(test)]
pub(crate) fn weigh(
    label: &str,
    front: Front,
    memory: &Memory,
    round: &Round,
    targets: &[Target],
) -> Judgement {
    judge(Place { label, front, believe: Believe::Proof }, memory, round, targets)
}

pub(crate) fn judge(place: Place<'_>, memory: &Memory, round: &Round, targets: &[Target]) -> Judgement {
    let witnesses = memory.nodes.get(FRONT).map_or(&[][..], |known| &known.witnesses);
    let own: BTreeSet<&InstanceId> = targets.iter().filter_map(|target| target.instance.as_ref()).collect();
    let still_shown = |listing: &Vec<InstanceId>| {
        witnesses.iter().any(|witness| !own.contains(witness) && listing.contains(witness))
    };
    let testified = round.listings.get(FRONT).is_some_and(still_shown);
    let mut memory = memory.clone();
    let mut alarms = Vec::new();
    for node in nodes_heard(round, targets) {
        let known = memory.nodes.entry(node.to_owned()).or_default();
        let learnt = memory::update(known, &heard(place.front, node, round, targets));
        let name =
            if node == FRONT { place.label.to_owned() } else { format!("{} (node {node})", place.label) };
        if learnt.lost && depended_on(node, round, targets) {
            alarms.push(format!(
                "all meetings known on {name} vanished at once: it may have lost its state in a restart, while people are \
                 still connected"
            ));
        }
        alarms.extend(learnt.vanished.filter(|_| node == FRONT).and_then(|gone| place.lost_node(gone)));
    }
    let judge = Judge { place, memory: &memory, round, testified };
    let verdicts =
        targets.iter().zip(&round.sightings).map(|(target, seen)| judge.weigh(target, seen)).collect();
    Judgement { memory, verdicts, alarms }
}

/// Takes a listing in that was read outside of any round; `ours`: what jobs are about, which testifies for nobody.
pub(super) fn remember(
    place: Place<'_>,
    memory: &Memory,
    listed: &Listed,
    ours: impl Fn(&InstanceId) -> bool,
    sent: Now,
    received: Now,
) -> Judgement {
    let mut round = Round { sent, received, ..Round::default() };
    if listed.complete {
        let whole = || listed.live.iter().filter(|live| live.breakout_of.is_none());
        let others = whole().map(|live| live.instance.clone()).filter(|id| !ours(id));
        round.listings.insert(FRONT.to_owned(), others.collect());
        let shown = whole().map(|live| (live.instance.clone(), live.participants.is_some_and(|n| n > 0)));
        round.shown.insert(FRONT.to_owned(), shown.collect());
    }
    judge(place, memory, &round, &[])
}

impl Place<'_> {
    /// What an operator should hear when so many instances with people in them are gone at once; only a balancer has nodes.
    fn lost_node(&self, gone: usize) -> Option<String> {
        let balances = !matches!(self.front, Front::Direct | Front::PlugNmeet);
        balances.then(|| {
            format!(
                "{gone} meetings with people in them vanished from the listing of {} between two looks: the load balancer \
                 may have lost a node, and people may still be talking there (name the servers behind it as nodes)",
                self.label
            )
        })
    }
}

fn nodes_heard<'a>(round: &'a Round, targets: &[Target]) -> BTreeSet<&'a str> {
    let named = round.listings.keys().chain(round.trouble.keys()).map(String::as_str);
    let front = (!targets.is_empty()).then_some(FRONT);
    named.chain(front).collect()
}

fn heard<'a>(front: Front, node: &str, round: &'a Round, targets: &'a [Target]) -> Heard<'a> {
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
    let called =
        targets.iter().filter(|target| target.end_sent).filter_map(|target| target.instance.as_ref());
    Heard {
        sent: round.sent,
        received: round.received,
        // A node answers for itself.
        direct: node != FRONT || front == Front::Direct,
        shown: round.shown.get(node).map(Vec::as_slice),
        called: called.collect(),
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
    Vanished { why: String, believed: bool },
}

struct Judge<'a> {
    place: Place<'a>,
    memory: &'a Memory,
    round: &'a Round,
    /// The front's listing of this round shows somebody who was known there before.
    testified: bool,
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
                Worth::Vanished { why, believed } => Verdict::Vanished { why, believed },
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
            _ => Evidence { listing: by.listed, info: self.place.front == Front::Direct, node: false },
        };
        matches!(self.absence(target, evidence), Worth::Counts)
    }

    fn absence(&self, target: &Target, evidence: Evidence) -> Worth {
        let elsewhere = |site: &String| self.memory.site.as_ref().is_some_and(|here| here != site);
        if target.pin.as_ref().and_then(|pin| pin.site.as_ref()).is_some_and(elsewhere) {
            let why = "it was seen alive at another address, and nothing here can prove it over";
            return Worth::Hopeless(why.to_owned());
        }
        let node = match (&target.pin, evidence.node) {
            (Some(pin), true) => pin.node.as_deref().unwrap_or(FRONT),
            _ => FRONT,
        };
        let doubtful = |why: &str| Worth::Doubtful(format!("not there, but {why}"));
        if let Some(why) = self.says_nothing(evidence) {
            return doubtful(why);
        }
        let known = self.memory.nodes.get(node);
        match memory::standing(known, since(target)) {
            Standing::Believed => {}
            Standing::NotYet(why) => return Worth::Doubtful(why),
            Standing::Never(why) => return Worth::Hopeless(why),
        }
        if let Some(why) = self.stands_alone(target, evidence) {
            return doubtful(why);
        }
        let last_live = target.pin.as_ref().and(since(target));
        let uncovered = last_live.and_then(|since| memory::uncovered(known, since));
        if evidence.node || self.place.front == Front::Direct {
            // A call of ours that was accepted explains it without a restart.
            return uncovered.filter(|_| !target.accepted).map_or(Worth::Counts, Worth::Hopeless);
        }
        self.word_of_front(target, last_live, uncovered)
    }

    /// Why the evidence is none.
    fn says_nothing(&self, evidence: Evidence) -> Option<&'static str> {
        match self.place.front {
            _ if evidence.listing => None,
            Front::Direct if evidence.info => None,
            Front::Direct => Some("nothing usable says so"),
            _ => Some("a load balancer's word on one meeting proves nothing without its listing"),
        }
    }

    /// Why the listing, where it is the only evidence, is too little.
    fn stands_alone(&self, target: &Target, evidence: Evidence) -> Option<&'static str> {
        let direct = self.place.front == Front::Direct;
        // Under guard only something alive matters.
        if evidence.node || evidence.info || matches!(target.purpose, Purpose::Guard | Purpose::After) {
            return None;
        }
        if self.place.front == Front::PlugNmeet {
            return Some("only the listing says so, and getMeetingInfo has to say so too");
        }
        if direct && !target.pin.as_ref().is_some_and(|pin| pin.listed) {
            return Some("only a listing says so that never showed it: getMeetingInfo has to say so too");
        }
        (!self.testified).then_some(
            "only the listing says so, and it shows no other meeting that was known before: getMeetingInfo has to say so too",
        )
    }

    /// A good listing of a front does not show it.
    fn word_of_front(&self, target: &Target, last_live: Option<Now>, uncovered: Option<String>) -> Worth {
        let known = self.memory.nodes.get(FRONT);
        let marred = last_live.is_some_and(|since| memory::is_marred(known, since));
        let why = match &target.pin {
            _ if !target.ends_clean => {
                "an end call through the load balancer failed or its answer was lost: it may have forgotten a meeting that \
                 still lives"
            }
            None => "the load balancer never showed it, which is no proof that it is not there",
            Some(pin) if !pin.listed => {
                "the load balancer's listing had never shown it, so its absence there proves nothing"
            }
            Some(_) if marred => {
                "there was trouble on the line since it was last seen alive: the load balancer may have forgotten it"
            }
            Some(_) if !target.accepted => {
                "it is over by itself or the load balancer has forgotten it: its word cannot tell"
            }
            Some(_) => return Worth::Counts,
        };
        if self.place.front == Front::Auto {
            return Worth::Doubtful(format!(
                "not there, but it is not known yet what stands in front ({why})"
            ));
        }
        let gap = since(target).is_some_and(|since| memory::have_vanished(known, since));
        let believed = self.place.believe == Believe::Front
            && target.ends_clean
            && !marred
            && uncovered.is_none()
            && !gap;
        let way_out = "nodes, the servers behind it, would give proof; so would front = \"direct\" if nothing stands before \
                       the server";
        Worth::Vanished { why: format!("{why} ({way_out})"), believed }
    }
}

#[cfg(test)]
mod tests;
