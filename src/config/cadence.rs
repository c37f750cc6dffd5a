//! A remark on recurring entries that come sooner again than their limits are made for. One an entry, of what matters most.

use std::collections::BTreeMap;
use std::time::Duration;

use super::diagnostics::{Diagnostics, Place};
use super::limits::short;
use crate::job::UtcMs;
use crate::schedule::{Recurring, Schedule};

/// Occurrences of an entry that are looked at.
const LOOKED_AT: usize = 16;
/// On the day on which the clocks go forward, what comes every day comes an hour sooner.
const SUMMER_TIME: Duration = Duration::from_secs(3600);

/// `places`: where each entry stands.
pub(super) fn remark(
    schedule: &Schedule,
    places: &BTreeMap<String, Place>,
    now: UtcMs,
    found: &mut Diagnostics,
) {
    for entry in &schedule.recurring {
        let (Some(place), Some(gap)) = (places.get(&entry.name), shortest_gap(entry, now)) else { continue };
        let (name, limits) = (&entry.name, &entry.limits);
        let comes = format!("{name:?} comes again after {}", short(gap));
        if gap < limits.pin_before {
            let message = format!("{comes}, sooner than its pin-before = {:?}", short(limits.pin_before));
            found.note(
                *place,
                message,
                "make pin-before shorter than the shortest meeting: what is live then is ended",
            );
        } else if gap + SUMMER_TIME < limits.give_up_after {
            let message =
                format!("{comes}, sooner than its give-up-after = {:?}", short(limits.give_up_after));
            let hint = "one that cannot be ended is still at work when the next is due; a shorter give-up-after ends that";
            found.note(*place, message, hint);
        }
    }
}

fn shortest_gap(entry: &Recurring, now: UtcMs) -> Option<Duration> {
    let times: Vec<UtcMs> =
        entry.recurrence.between(now, UtcMs::MAX).take(LOOKED_AT).map(|occurrence| occurrence.at).collect();
    let gaps = times.windows(2).map(|pair| pair[1].ms_since(pair[0]).unsigned_abs());
    gaps.min().map(Duration::from_millis)
}
