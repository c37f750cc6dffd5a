//! A remark on guards (`keep-closed`) that reach into the time of another entry on the same meeting.

use std::collections::BTreeMap;

use super::diagnostics::{Diagnostics, Place};
use super::limits::short;
use crate::job::UtcMs;
use crate::schedule::{Overlap, Schedule, overlaps};

/// Overlaps that are named; a pattern of entries may have very many.
const MAX_NAMED: usize = 20;

/// `places`: where each entry stands.
pub(super) fn remark(
    schedule: &Schedule,
    places: &BTreeMap<String, Place>,
    now: UtcMs,
    found: &mut Diagnostics,
) {
    let all = overlaps(schedule, now);
    for overlap in all.iter().take(MAX_NAMED) {
        let Overlap { name, at, keep_closed, next, next_at } = overlap;
        let Some(place) = places.get(name) else { continue };
        let whose = if name == next {
            format!("its own next time, {next_at}")
        } else {
            let there =
                places.get(next).map_or_else(String::new, |place| format!(" at {}", found.at(*place)));
            format!("the time of {next:?}{there}, due {next_at}")
        };
        let message = format!(
            "keep-closed = {:?} of {name:?}, due {at}, reaches into {whose}: what is opened for that is ended",
            short(*keep_closed)
        );
        found.note(*place, message, "shorten keep-closed, so that it is over when the next class begins");
    }
    if all.len() > MAX_NAMED {
        let message = format!(
            "keep-closed reaches into the time of other entries {} more times",
            all.len() - MAX_NAMED
        );
        found.general_note(message, "");
    }
}
