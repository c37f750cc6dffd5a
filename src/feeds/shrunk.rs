//! A feed that shrinks suddenly is not believed at once.
//!
//! Calendar servers answer with a whole, valid and empty calendar while they are moved, repaired or out of sorts, and
//! export jobs are cut short in ways that leave a valid file. To cancel every deadline of a week for that would be the
//! opposite of safe. So a copy that lists nothing any more, or that lost half and at least [`MANY`] of the events of the
//! coming week, takes the place of the present one only if the feed still says so [`PATIENCE`] later. What is cancelled by
//! name (STATUS:CANCELLED) or moved is not lost.

use std::collections::BTreeSet;
use std::time::Duration;

use jiff::tz::TimeZone;

use crate::job::{BootMs, UtcMs};
use crate::schedule::Feed;

/// So long a feed has to stand by what it says.
const PATIENCE: Duration = Duration::from_secs(15 * 60);
/// Rhythms are not exact: a second look that comes so much too early is on time.
const EARLY: Duration = Duration::from_secs(20);
/// What is looked at.
const COMING: Duration = Duration::from_secs(7 * 24 * 3600);
/// Losses of fewer events are ordinary.
const MANY: usize = 5;

/// What is wrong with a newer copy beside the present one, as the rest of a sentence; `None`: nothing.
pub(super) fn suspicion(present: &Feed, newer: &Feed, now: UtcMs) -> Option<String> {
    if newer.is_empty() {
        return (!present.is_empty()).then(|| "lists no event any more".to_owned());
    }
    let coming = coming(present, now);
    let (all, known, cancelled) = (coming.len(), coming_of_years(newer, now), newer.cancelled());
    let is_lost = |event: &Coming| !known.has(event) && !cancelled.contains(event.uid.as_str());
    let lost = coming.iter().filter(|event| is_lost(event)).count();
    let too_many = lost >= MANY && 2 * lost >= all;
    too_many.then(|| format!("has lost {lost} of the {all} events of its coming seven days"))
}

/// Has a feed that says so since `since` said it long enough?
pub(super) fn is_believed(since: BootMs, now: BootMs) -> bool {
    since + PATIENCE <= now + EARLY
}

/// One event that takes place.
struct Coming {
    uid: String,
    id: Option<String>,
    start: String,
    place: String,
}

/// What a newer copy lists: an event is still there under its own name, or at its time and place under another one.
#[derive(Default)]
struct Known {
    names: BTreeSet<(String, Option<String>)>,
    places: BTreeSet<(String, String)>,
}

impl Known {
    fn has(&self, event: &Coming) -> bool {
        self.names.contains(&(event.uid.clone(), event.id.clone()))
            || self.places.contains(&(event.start.clone(), event.place.clone()))
    }
}

/// The events that end within the coming days; of what floats a few hours more or less.
fn coming(feed: &Feed, now: UtcMs) -> Vec<Coming> {
    let mut seen = BTreeSet::new();
    let mut coming = Vec::new();
    each(feed, now, |event, end| {
        let is_new = now < end
            && end <= now + COMING
            && seen.insert((event.uid.clone(), event.id.clone(), event.start.clone()));
        if is_new {
            coming.push(event);
        }
    });
    coming
}

fn coming_of_years(feed: &Feed, now: UtcMs) -> Known {
    let mut known = Known::default();
    each(feed, now, |event, _| {
        known.names.insert((event.uid.clone(), event.id.clone()));
        known.places.insert((event.start, event.place));
    });
    known
}

/// Every event of the year in which the coming days begin, and of the one in which they end.
fn each(feed: &Feed, now: UtcMs, mut take: impl FnMut(Coming, UtcMs)) {
    let here = TimeZone::UTC;
    let year = |at: UtcMs| here.to_datetime(at.timestamp()).year();
    for number in year(now)..=year(now + COMING) {
        for occurrence in &feed.year(number, &here).occurrences {
            let length = occurrence.length.unwrap_or_default();
            let Some(end) = occurrence.start.end(length, &here) else { continue };
            let event = Coming {
                uid: occurrence.event.uid.clone(),
                id: occurrence.id.clone(),
                start: occurrence.start.name(),
                place: occurrence.event.property("LOCATION").unwrap_or_default().to_owned(),
            };
            take(event, end);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: &str = "2026-12-01T00:00:00Z";

    fn feed(events: &[(usize, &str)]) -> Feed {
        let event = |(day, more): &(usize, &str)| {
            format!(
                "BEGIN:VEVENT\nUID:{day}\nLOCATION:room-{day}\nDTSTART:202612{day:02}T100000Z\nDURATION:PT1H\n{more}END:VEVENT\n"
            )
        };
        let events: String = events.iter().map(event).collect();
        Feed::parse(format!("BEGIN:VCALENDAR\n{events}END:VCALENDAR\n").as_bytes()).unwrap()
    }

    #[track_caller]
    fn check(present: &[(usize, &str)], newer: &[(usize, &str)], expected: Option<&str>) {
        let now = NOW.parse::<jiff::Timestamp>().unwrap().into();
        assert_eq!(suspicion(&feed(present), &feed(newer), now).as_deref(), expected);
    }

    #[test]
    fn half_and_at_least_five_of_the_coming_week_are_too_many() {
        let days = |days: std::ops::RangeInclusive<usize>| days.map(|day| (day, "")).collect::<Vec<_>>();
        let week = days(1..=7);
        check(&week, &week, None);
        check(&week, &[], Some("lists no event any more"));
        check(&[], &[], None);
        check(&week, &days(5..=7), None);
        check(&week, &days(6..=7), Some("has lost 5 of the 7 events of its coming seven days"));
        // What is later does not count.
        check(&days(20..=28), &days(20..=21), None);
        // What is cancelled by name has not vanished, nor what moved, nor what has another name.
        let cancelled: Vec<_> = (1..=7).map(|day| (day, "STATUS:CANCELLED\n")).collect();
        check(&week, &cancelled, None);
        let moved: Vec<_> = (1..=7).map(|day| (day, "DTSTART:20261220T100000Z\n")).collect();
        check(&week, &moved, None);
        let renamed: Vec<_> = (1..=7).map(|day| (day, "UID:other\n")).collect();
        check(&week, &renamed, None);
    }

    #[test]
    fn it_has_to_say_so_for_a_quarter_of_an_hour() {
        let minutes = |minutes: u64| BootMs(7) + Duration::from_secs(60 * minutes);
        assert!(!is_believed(BootMs(7), minutes(14)) && is_believed(BootMs(7), minutes(15)));
    }
}
