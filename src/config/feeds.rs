//! What `check` says about feeds in files: whether they can be read, what is odd about them, and which events name no
//! meeting. Notes only: a calendar that somebody is just saving must not keep the daemon down, and the last good copy
//! counts meanwhile.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::calendars::GivenEnd;
use super::diagnostics::{Diagnostics, Place};
use super::merged::Merged;
use super::resolve::Resolved;
use super::time::years_after;
use crate::feeds::read_file;
use crate::job::UtcMs;
use crate::schedule::{Feed, Feeds, Schedule, Source, ends};

pub(super) fn remark(merged: &Merged, resolved: &Resolved, now: UtcMs, found: &mut Diagnostics) {
    let (schedule, sources) = (&resolved.settings.schedule, &resolved.feeds);
    remark_on_urls(sources, found);
    let mut feeds = Feeds::default();
    let mut read = BTreeSet::new();
    for (source, place) in sources {
        let Source::File(path) = source else { continue };
        if !read.insert(source) {
            continue;
        }
        let parsed = read_file(path).and_then(|bytes| Feed::parse(&bytes).map_err(|error| error.to_string()));
        match parsed {
            Ok(feed) => {
                if let Some(first) = feed.problems().first.first() {
                    let more = more(feed.problems().count);
                    let message = format!("{}: {first}{more}", path.display());
                    found.note(*place, message, "events that cannot be read are left out");
                }
                feeds.insert(source.clone(), Arc::new(feed));
            }
            Err(why) => {
                let hint = "until it is in order the daemon goes on with the last good copy, if it has one";
                found.note(*place, format!("{}: {why}", path.display()), hint);
            }
        }
    }
    remark_on_events(merged, schedule, &feeds, now, found);
}

fn remark_on_urls(sources: &[(Source, Place)], found: &mut Diagnostics) {
    let urls = sources.iter().filter(|(source, _)| matches!(source, Source::Url(_)));
    if let Some(place) = urls.map(|(_, place)| *place).min() {
        let message = "what stands behind a URL is not looked at here";
        found.note(place, message, "the daemon fetches it, and says in its log what it finds");
    }
}

/// Events of the coming year that end nothing.
fn remark_on_events(
    merged: &Merged,
    schedule: &Schedule,
    feeds: &Feeds,
    now: UtcMs,
    found: &mut Diagnostics,
) {
    for end in &schedule.calendar_ends {
        let place = merged.calendar_ends.iter().find(|given| given.is_named(&end.name));
        let Some(place) = place.and_then(GivenEnd::place_of_from) else { continue };
        let Some(coming) = ends(end, &schedule.calendars, feeds, now, years_after(now, 1)) else { continue };
        let Some(first) = coming.skipped.first.first() else { continue };
        let when = first.at.map_or_else(String::new, |at| format!(" ({at})"));
        let more = more(coming.skipped.count);
        let message = format!("an event ends no meeting: {:?}{when}: {}{more}", first.summary, first.reason);
        found.note(place, message, format!("{} events of the coming year do", coming.entries.len()));
    }
}

fn more(count: usize) -> String {
    match count {
        0 | 1 => String::new(),
        count => format!(" (and {} more)", count - 1),
    }
}
