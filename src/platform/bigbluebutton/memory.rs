//! What is remembered of one server (the front, or a node) between rounds: outages, witnesses, lost state. Pure.
//!
//! bbb-web holds its meetings in memory. When it restarts all of them vanish from its answers, while people go on talking
//! and `end` can do nothing. **Witnesses** are a few other live instances: while one of them is still shown, the server
//! has kept its memory.
//!
//! - An **outage** is open from the last usable answer before an error to the first usable one after it. A time of more
//!   than [`RESTART`] in which nobody looked is one as well, if there is a witness who can tell: a restart fits in, but
//!   nothing speaks for one. If another outage follows before the first is settled, they are one.
//! - An outage is **settled** by the first complete listing after it. A witness known before is still shown, or a pinned
//!   instance that was seen before it still lives: nothing was lost, it is forgotten. No witness was known: forgotten if
//!   it was shorter than [`RESTART`], otherwise nothing can be proven across it.
//! - **Lost state**: witnesses were known and all are gone at once. The mark is set (and an alarm raised if a target
//!   depends on it); for one more complete listing the outage stays open to a witness that reappears.
//! - A mark or an outage matters only to a target that was last seen alive before it ended.
//! - Witnesses are other people's meetings: no instance of a target, nothing that a job is about to end, no breakout
//!   rooms. Those known longest stay. One that vanishes while others remain has simply ended.
//!
//! Behind a balancer without nodes the witnesses are the balancer's: the restart of one node among many hides there.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::job::{BootMs, InstanceId, Now};
use crate::platform::{NodeMemory, Trouble};

/// bbb-web cannot be restarted in less.
pub(super) const RESTART: Duration = Duration::from_secs(20);
/// Witnesses remembered for a server.
pub(super) const WITNESSES: usize = 8;

/// What a round heard of one server.
pub(super) struct Heard<'a> {
    pub(super) sent: Now,
    pub(super) received: Now,
    /// A request failed in a way that a restart would explain.
    pub(super) troubled: bool,
    /// Some request was answered usably.
    pub(super) usable: bool,
    /// What a complete listing showed of possible witnesses.
    pub(super) listing: Option<&'a [InstanceId]>,
    /// Instances that targets of this round are about.
    pub(super) own: BTreeSet<&'a InstanceId>,
    /// Of these, the ones that this server showed alive.
    pub(super) alive: BTreeSet<&'a InstanceId>,
    /// The earliest time at which a pinned instance that is alive here had been seen alive before.
    pub(super) alive_since: Option<BootMs>,
}

impl Heard<'_> {
    fn shows(&self, id: &InstanceId) -> bool {
        self.alive.contains(id) || self.listing.is_some_and(|listing| listing.contains(id))
    }
}

/// Takes a round in. True: the mark of a lost state was set just now.
pub(super) fn update(known: &mut NodeMemory, heard: &Heard<'_>) -> bool {
    if !heard.troubled && !heard.usable {
        return false;
    }
    note_outage(known, heard);
    if !heard.usable {
        return false;
    }
    if let Some(outage) = &mut known.trouble {
        outage.ended.get_or_insert(heard.received);
    }
    // A later round was taken in already: what this one shows, or does not show yet, is old.
    if known.last_good.is_some_and(|last| heard.sent.boot < last.boot) {
        return false;
    }
    note_vanishing(known, heard);
    let lost = settle(known, heard);
    choose_witnesses(known, heard);
    known.last_good = Some(heard.received);
    lost
}

/// Opens or extends an outage; a long time without looks is one that is over already.
fn note_outage(known: &mut NodeMemory, heard: &Heard<'_>) {
    if heard.troubled {
        let began = known.last_good.unwrap_or(heard.sent);
        let witnesses = &known.witnesses;
        let outage =
            known.trouble.get_or_insert_with(|| Trouble { began, ended: None, witnesses: witnesses.clone() });
        outage.ended = None;
        return;
    }
    let Some(began) = known.last_good else { return };
    let can_tell = known.witnesses.iter().any(|id| !heard.own.contains(id));
    if known.trouble.is_none() && can_tell && heard.sent.since(began) > RESTART {
        let witnesses = known.witnesses.clone();
        known.trouble = Some(Trouble { began, ended: Some(heard.received), witnesses });
    }
}

/// All witnesses gone at once, without any trouble.
fn note_vanishing(known: &mut NodeMemory, heard: &Heard<'_>) {
    if known.trouble.is_some() || heard.listing.is_none() {
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
    let Some(outage) = &known.trouble else { return false };
    let Some(ended) = outage.ended else { return false };
    let marked = known.lost_state == Some(ended);
    let survived = outage.witnesses.iter().any(|id| heard.shows(id))
        || heard.alive_since.is_some_and(|since| since < ended.boot);
    if survived {
        if marked {
            known.lost_state = None;
        }
        known.trouble = None;
        return false;
    }
    // Jobs of ours may have ended a former witness: its absence says nothing.
    if outage.witnesses.iter().all(|id| heard.own.contains(id)) {
        if ended.since(outage.began) >= RESTART {
            known.lost_state = Some(ended);
        }
        known.trouble = None;
        return false;
    }
    if heard.listing.is_none() {
        return false;
    }
    if marked {
        known.trouble = None;
        return false;
    }
    known.lost_state = Some(ended);
    true
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

#[cfg(test)]
mod tests;
