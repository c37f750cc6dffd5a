//! What `check` says about feeds in files: whether they can be read, what is odd about them, and which events name no
//! meeting. Notes only: a calendar that somebody is just saving must not keep the daemon down, and the last good copy
//! counts meanwhile.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::cadence;
use super::calendars::GivenEnd;
use super::diagnostics::{Diagnostics, Place};
use super::merged::Merged;
use super::resolve::Resolved;
use super::time::years_after;
use crate::feeds::read_file;
use crate::job::UtcMs;
use crate::schedule::{CalendarEnd, Ends, Feed, Feeds, Problem, Schedule, Source, ends};

/// Remarks of one kind on one feed.
const MOST_TOLD: usize = 5;

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
        let zones = schedule.zones_of(source);
        let parsed = read_file(path)
            .and_then(|bytes| Feed::parse_with(&bytes, &zones).map_err(|error| error.to_string()));
        match parsed {
            Ok(feed) => {
                let problems = feed.problems();
                for (message, more) in told(&problems.first, problems.count) {
                    let message = format!("{}: {message}{more}", path.display());
                    found.note(*place, message, "events that cannot be read are left out");
                }
                for (message, more) in told(&feed.remarks().first, feed.remarks().count) {
                    let message = format!("{}: {message}{more}", path.display());
                    found.note(*place, message, "it counts; adjourn preview shows what it comes to");
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
        remark_on_clocks(end, &coming, feeds, place, found);
        cadence::remark_on_events(&end.name, &coming, &end.limits, place, found);
        let Some(first) = coming.skipped.first.first() else { continue };
        let when = first.at.map_or_else(String::new, |at| format!(" ({at})"));
        let more = more(coming.skipped.count);
        let message = format!("an event ends no meeting: {:?}{when}: {}{more}", first.summary, first.reason);
        found.note(place, message, format!("{} events of the coming year do", coming.entries.len()));
    }
}

/// What the clocks do to events of the coming year, and time zones that are not what their names say.
fn remark_on_clocks(end: &CalendarEnd, coming: &Ends, feeds: &Feeds, place: Place, found: &mut Diagnostics) {
    let of_feed = feeds.get(&end.source).map(|feed| feed.remarks().first.clone()).unwrap_or_default();
    let own: Vec<Problem> =
        coming.remarks.first.iter().filter(|remark| !of_feed.contains(remark)).cloned().collect();
    for (message, more) in told(&own, own.len()) {
        found.note(place, format!("{message}{more}"), "it counts; adjourn preview shows what it comes to");
    }
    let noted =
        coming.entries.iter().filter_map(|entry| Some((entry, coming.clock_notes.get(&entry.identity)?)));
    if let Some((entry, note)) = noted.min_by_key(|(entry, _)| entry.at) {
        let (at, more) = (entry.at, more(coming.clock_notes.len()));
        let message = format!("the event that ends {} ({at}): {note}{more}", entry.meeting);
        found.note(place, message, "adjourn preview shows each of them");
    }
}

/// The first few, the last of them with how many there are beyond.
fn told(first: &[Problem], count: usize) -> Vec<(String, String)> {
    let shown = first.len().min(MOST_TOLD);
    let tell = |(at, problem): (usize, &Problem)| {
        let more = if at + 1 == shown { more(count + 1 - shown) } else { String::new() };
        (problem.to_string(), more)
    };
    first.iter().take(shown).enumerate().map(tell).collect()
}

fn more(count: usize) -> String {
    match count {
        0 | 1 => String::new(),
        count => format!(" (and {} more)", count - 1),
    }
}
