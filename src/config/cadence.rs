//! A remark on entries that come sooner again, or last shorter, than their limits are made for. One an entry, of what matters
//! most.

use std::collections::BTreeMap;
use std::time::Duration;

use super::diagnostics::{Diagnostics, Place};
use super::limits::short;
use crate::job::{Limits, MeetingId, UtcMs};
use crate::schedule::{Ends, Recurring, Schedule};

/// Occurrences of an entry that are looked at.
const LOOKED_AT: usize = 16;
/// On the day on which the clocks go forward, what comes every day comes an hour sooner.
const SUMMER_TIME: Duration = Duration::from_secs(3600);

/// On recurring entries. `places`: where each of them stands.
pub(super) fn remark(
    schedule: &Schedule,
    places: &BTreeMap<String, Place>,
    now: UtcMs,
    found: &mut Diagnostics,
) {
    for entry in &schedule.recurring {
        let Some(place) = places.get(&entry.name) else { continue };
        remark_on_one(&entry.name, None, shortest_gap(entry, now), &entry.limits, *place, found);
    }
}

/// On the events of a feed.
pub(super) fn remark_on_events(
    name: &str,
    coming: &Ends,
    limits: &Limits,
    place: Place,
    found: &mut Diagnostics,
) {
    let mut times: BTreeMap<&MeetingId, Vec<UtcMs>> = BTreeMap::new();
    for entry in &coming.entries {
        times.entry(&entry.meeting).or_default().push(entry.at);
    }
    let gaps = times.into_values().filter_map(|mut times| {
        times.sort_unstable();
        times.dedup();
        shortest(&times)
    });
    remark_on_one(name, coming.shortest, gaps.min(), limits, place, found);
}

/// `lasts`: how long the shortest meeting does, where that is known. `gap`: between two of one meeting.
fn remark_on_one(
    name: &str,
    lasts: Option<Duration>,
    gap: Option<Duration>,
    limits: &Limits,
    place: Place,
    found: &mut Diagnostics,
) {
    let pin_before = limits.pin_before;
    let hint = "make pin-before shorter than the shortest meeting: who is live then is taken for its people";
    if let Some(lasts) = lasts.filter(|lasts| *lasts < pin_before) {
        let (lasts, pin) = (short(lasts), short(pin_before));
        let message = format!("{name:?} has an event of {lasts}, shorter than its pin-before = {pin:?}");
        return found.note(place, message, hint);
    }
    let Some(gap) = gap else { return };
    let comes = format!("{name:?} comes again after {}", short(gap));
    if gap < pin_before {
        let message = format!("{comes}, sooner than its pin-before = {:?}", short(pin_before));
        found.note(place, message, hint);
    } else if gap + SUMMER_TIME < limits.give_up_after {
        let message = format!("{comes}, sooner than its give-up-after = {:?}", short(limits.give_up_after));
        let hint = "one that cannot be ended is still at work when the next is due; a shorter give-up-after ends that";
        found.note(place, message, hint);
    }
}

fn shortest_gap(entry: &Recurring, now: UtcMs) -> Option<Duration> {
    let times: Vec<UtcMs> =
        entry.recurrence.between(now, UtcMs::MAX).take(LOOKED_AT).map(|occurrence| occurrence.at).collect();
    shortest(&times)
}

/// The shortest time between two that follow each other.
fn shortest(times: &[UtcMs]) -> Option<Duration> {
    let gaps = times.windows(2).map(|pair| pair[1].ms_since(pair[0]).unsigned_abs());
    gaps.min().map(Duration::from_millis)
}
