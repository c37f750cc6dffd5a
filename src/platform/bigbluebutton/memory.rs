//! What is remembered of one server (the front, or a node) between rounds: outages, witnesses, lost state. Pure.
//!
//! bbb-web holds its meetings in memory. When it restarts all of them vanish from its answers, while people go on talking
//! and `end` can do nothing. **Witnesses** are a few other live instances: while one of them is still shown, the server
//! has kept its memory. They testify only about the time since they were first seen.
//!
//! - An **outage** is open from the last usable answer before an error to the first usable one after it. A time of more
//!   than [`RESTART`] in which nobody looked is one as well, if there is a witness who can tell; if there is none, the
//!   memory does not **cover** that time. If another outage follows before the first is settled, they are one.
//! - An outage is **settled** by the first complete listing after it. A witness known before is still shown, or a pinned
//!   instance that was seen before it began still lives: nothing was lost, it is forgotten. No witness was known: forgotten
//!   if it was shorter than [`RESTART`], otherwise nothing can be proven across it. Unless a witness spoke for it the time
//!   stays **marred**: behind a balancer even a short trouble may have made it forget a node.
//! - **Lost state**: witnesses were known and all are gone at once. The mark is set (and an alarm raised if a target
//!   depends on it) and stays open to a witness that reappears: listings flicker. On a server that answers for itself two
//!   complete listings less than [`RESTART`] apart, from the sending of the first to the answer of the second, cannot hide
//!   a restart: then they simply ended together, as classes do at the full hour.
//! - A mark or an outage matters only to a target that was last seen alive before it ended.
//! - Witnesses are other people's meetings: no instance of a target, nothing that a job is about to end, no breakout
//!   rooms. Those known longest stay. One that vanishes while others remain has simply ended.
//! - A listing that was asked for before one that was taken in already changes nothing: what it shows is old.
//!
//! Behind a balancer without nodes the witnesses are the balancer's: the restart of one node among many hides there.
//! So it is noted when several instances with people in them are gone between two listings.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::job::{BootMs, InstanceId, Now};
use crate::platform::{NodeMemory, Trouble};

/// bbb-web cannot be restarted in less.
pub(super) const RESTART: Duration = Duration::from_secs(20);
/// Witnesses remembered for a server.
pub(super) const WITNESSES: usize = 8;
/// Instances with people in them that are remembered for a server.
const PEOPLED: usize = 256;
/// So many of them gone at once are no coincidence.
const SEVERAL: usize = 2;

/// What a round heard of one server.
pub(super) struct Heard<'a> {
    pub(super) sent: Now,
    pub(super) received: Now,
    /// It answers for itself: nothing in between forgets, leaves out or serves from a cache.
    pub(super) direct: bool,
    /// A request failed in a way that a restart would explain.
    pub(super) troubled: bool,
    /// Some request was answered usably.
    pub(super) usable: bool,
    /// What a complete listing showed of possible witnesses.
    pub(super) listing: Option<&'a [InstanceId]>,
    /// All that it showed, and whether people are inside.
    pub(super) shown: Option<&'a [(InstanceId, bool)]>,
    /// Instances that targets of this round are about.
    pub(super) own: BTreeSet<&'a InstanceId>,
    /// Of these, the ones that this server showed alive.
    pub(super) alive: BTreeSet<&'a InstanceId>,
    /// The earliest time at which a pinned instance that is alive here had been seen alive before.
    pub(super) alive_since: Option<BootMs>,
    /// Instances that calls of ours may have ended.
    pub(super) called: BTreeSet<&'a InstanceId>,
}

impl Heard<'_> {
    fn shows(&self, id: &InstanceId) -> bool {
        self.alive.contains(id)
            || self.listing.is_some_and(|listing| listing.contains(id))
            || self.shown.is_some_and(|shown| shown.iter().any(|(shown, _)| shown == id))
    }

    /// Was something that speaks for the time since `began` seen before it, and is it still alive?
    fn outlived(&self, began: Now, witnesses: &[InstanceId]) -> bool {
        witnesses.iter().any(|id| self.shows(id)) || self.alive_since.is_some_and(|since| since <= began.boot)
    }
}

/// What was learnt just now that an operator should hear.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Learnt {
    /// The mark of a lost state was set.
    pub(super) lost: bool,
    /// Several instances with people in them are gone between two listings: so many.
    pub(super) vanished: Option<usize>,
}

/// Takes a round in.
pub(super) fn update(known: &mut NodeMemory, heard: &Heard<'_>) -> Learnt {
    if !heard.troubled && !heard.usable {
        return Learnt::default();
    }
    if *known == NodeMemory::default() {
        known.covers_from = Some(heard.sent);
    }
    note_outage(known, heard);
    if !heard.usable {
        return Learnt::default();
    }
    if let Some(outage) = &mut known.trouble {
        outage.ended.get_or_insert(heard.received);
    }
    let overtaken = match heard.listing {
        Some(_) => known.last_listing.is_some_and(|last| heard.sent.boot < last.boot),
        None => known.last_good.is_some_and(|last| heard.sent.boot < last.boot),
    };
    if overtaken {
        return Learnt::default();
    }
    note_vanishing(known, heard);
    let learnt = Learnt { lost: settle(known, heard), vanished: note_people(known, heard) };
    choose_witnesses(known, heard);
    known.last_good =
        Some(known.last_good.filter(|last| last.boot > heard.received.boot).unwrap_or(heard.received));
    if heard.listing.is_some() {
        known.last_listing = Some(heard.sent);
    }
    learnt
}

/// Opens or extends an outage; a long time without looks is one that is over already, where a witness can tell of it.
fn note_outage(known: &mut NodeMemory, heard: &Heard<'_>) {
    if heard.troubled {
        // What was lost before is lost; what comes now is another outage, with witnesses of its own.
        if let Some(marked) =
            known.trouble.take_if(|outage| known.lost_state.is_some() && outage.ended == known.lost_state)
        {
            known.lost = Some(marked);
        }
        let began = known.last_good.unwrap_or(heard.sent);
        let witnesses = &known.witnesses;
        let outage =
            known.trouble.get_or_insert_with(|| Trouble { began, ended: None, witnesses: witnesses.clone() });
        outage.ended = None;
        return;
    }
    let Some(began) = known.last_good else { return };
    if known.trouble.is_some() || heard.sent.since(began) <= RESTART {
        return;
    }
    if known.witnesses.iter().any(|id| !heard.own.contains(id)) {
        let witnesses = known.witnesses.clone();
        known.trouble = Some(Trouble { began, ended: Some(heard.received), witnesses });
    } else if !heard.outlived(began, &known.peopled) {
        known.unwatched = Some(heard.received);
    }
}

/// All witnesses gone at once, without any trouble.
fn note_vanishing(known: &mut NodeMemory, heard: &Heard<'_>) {
    if known.trouble.is_some() || heard.listing.is_none() {
        return;
    }
    let too_short = |last: Now| heard.received.since(last) < RESTART;
    if heard.direct && known.last_listing.is_some_and(too_short) {
        return;
    }
    let mut others = known.witnesses.iter().filter(|id| !heard.own.contains(id)).peekable();
    if others.peek().is_some() && !others.any(|id| heard.shows(id)) {
        let began = known.last_good.unwrap_or(heard.sent);
        let witnesses = known.witnesses.clone();
        known.trouble = Some(Trouble { began, ended: Some(heard.received), witnesses });
    }
}

/// Is an outage that is over proven harmless, or the opposite? True: the mark was set just now.
fn settle(known: &mut NodeMemory, heard: &Heard<'_>) -> bool {
    if let Some(lost) = known.lost.take_if(|lost| heard.outlived(lost.began, &lost.witnesses)) {
        clear_marks(known, lost.ended);
    }
    let Some(outage) = &known.trouble else { return false };
    let Some(ended) = outage.ended else { return false };
    let marked = known.lost_state == Some(ended);
    if heard.outlived(outage.began, &outage.witnesses) {
        known.trouble = None;
        clear_marks(known, Some(ended));
        return false;
    }
    // Jobs of ours may have ended a former witness: its absence says nothing.
    if outage.witnesses.iter().all(|id| heard.own.contains(id)) {
        if ended.since(outage.began) >= RESTART {
            known.lost_state = Some(ended);
        }
        known.marred = Some(ended);
        known.trouble = None;
        return false;
    }
    if heard.listing.is_none() {
        return false;
    }
    known.marred = Some(ended);
    if marked {
        known.lost = known.trouble.take();
        return false;
    }
    known.lost_state = Some(ended);
    true
}

/// The outage that ended then has lost nothing.
fn clear_marks(known: &mut NodeMemory, ended: Option<Now>) {
    for mark in [&mut known.lost_state, &mut known.marred] {
        if *mark == ended {
            *mark = None;
        }
    }
}

/// So many instances with people in them, several at once, are not shown any more.
fn note_people(known: &mut NodeMemory, heard: &Heard<'_>) -> Option<usize> {
    let all: BTreeSet<&InstanceId> = heard.shown?.iter().map(|(id, _)| id).collect();
    let is_gone = |id: &&InstanceId| !all.contains(id) && !heard.called.contains(id);
    let gone = known.peopled.iter().filter(is_gone).count();
    let peopled = heard.shown?.iter().filter(|(_, people)| *people);
    known.peopled = peopled.map(|(id, _)| id.clone()).take(PEOPLED).collect();
    if gone < SEVERAL {
        return None;
    }
    known.vanished = Some(heard.received);
    Some(gone)
}

fn choose_witnesses(known: &mut NodeMemory, heard: &Heard<'_>) {
    known.witnesses.retain(|id| !heard.own.contains(id));
    let Some(listing) = heard.listing else { return };
    known.witnesses.retain(|id| listing.contains(id));
    for id in listing {
        if known.witnesses.len() >= WITNESSES {
            break;
        }
        if !known.witnesses.contains(id) && !heard.own.contains(id) {
            known.witnesses.push(id.clone());
        }
    }
}

/// Can an absence on this server be believed, of an instance last seen alive at `since`?
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Standing {
    Believed,
    NotYet(String),
    Never(String),
}

pub(super) fn standing(known: Option<&NodeMemory>, since: Option<Now>) -> Standing {
    let (Some(known), Some(since)) = (known, since) else { return Standing::Believed };
    let before = |mark: &Now| since.boot < mark.boot;
    if let Some(outage) = &known.trouble {
        match &outage.ended {
            None => {
                return Standing::NotYet(
                    "not there, but the server is in trouble at the same time".to_owned(),
                );
            }
            Some(ended) if known.lost_state == Some(*ended) && before(ended) => {
                let why = "not there, but all other meetings vanished with it: the server may have been restarted; \
                           looking once more";
                return Standing::NotYet(why.to_owned());
            }
            Some(ended) if before(ended) => {
                let why = "not there, but no complete listing has shown yet that the server kept its meetings over an \
                           outage";
                return Standing::NotYet(why.to_owned());
            }
            Some(_) => {}
        }
    }
    if known.lost_state.as_ref().is_some_and(before) {
        let why = "the server lost its state or may have (no meeting known before is still shown), so its absence \
                   proves nothing: people may still be in it";
        return Standing::Never(why.to_owned());
    }
    Standing::Believed
}

/// Why the memory cannot speak for all the time since an instance was last seen alive; `None`: it can.
pub(super) fn uncovered(known: Option<&NodeMemory>, since: Now) -> Option<String> {
    let known = known?;
    let not_yet_remembered = known.covers_from.is_some_and(|from| from.since(since) >= RESTART);
    let nobody_looked = known.unwatched.is_some_and(|until| since.boot < until.boot);
    (not_yet_remembered || nobody_looked).then(|| {
        "nobody looked for so long since it was last seen alive that the server may have been restarted in between, and no \
         other meeting that was known before can tell"
            .to_owned()
    })
}

/// Was there trouble on the line since then that no witness was seen to survive?
pub(super) fn is_marred(known: Option<&NodeMemory>, since: Now) -> bool {
    known.and_then(|known| known.marred).is_some_and(|ended| since.boot < ended.boot)
}

/// Were several instances with people in them gone at once since then?
pub(super) fn have_vanished(known: Option<&NodeMemory>, since: Now) -> bool {
    known.and_then(|known| known.vanished).is_some_and(|at| since.boot < at.boot)
}

#[cfg(test)]
mod tests;
