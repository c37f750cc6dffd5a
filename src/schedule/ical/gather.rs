//! Events sorted into series: which of them are words on one event, and which are different events.
//!
//! A UID should stand for one event, and where it does, the newest word on it counts: the highest SEQUENCE, of equal ones
//! the last in the file. But some programs write `UID:None` into every event, or the code of a course into all its
//! lectures. So two words with one UID are about one event only if they agree on enough of it:
//!
//! | they have the same | with another SEQUENCE | with the same SEQUENCE |
//! |---|---|---|
//! | start, title and room | one event | one event, the last counts |
//! | start, and title or room | one event | different events |
//! | title and room | one event, unless the UID is shared | different events |
//! | nothing of this | different events | different events |
//!
//! A UID is shared if some of its events have the same SEQUENCE and begin at different times. What is cancelled cancels
//! what begins at the same time in the same room (or says no room), and nothing else. Different events all count, and that
//! is remarked upon.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::civil::DateTime;
use jiff::tz::TimeZone;

use super::Remarks;
use super::event::Event;
use super::series::Series;

/// Characters of a UID that are shown.
const MAX_SHOWN: usize = 40;

/// Sorts events into series.
pub fn gather(events: Vec<Event>, remarks: &mut Remarks) -> Vec<Series> {
    let mut groups: Vec<Vec<Event>> = Vec::new();
    let mut known: BTreeMap<String, usize> = BTreeMap::new();
    for event in events {
        let next = groups.len();
        let at = *known.entry(event.uid.clone()).or_insert(next);
        if at == next {
            groups.push(Vec::new());
        }
        if let Some(group) = groups.get_mut(at) {
            group.push(event);
        }
    }
    groups.into_iter().flat_map(|group| of_one_uid(group, remarks)).collect()
}

fn of_one_uid(events: Vec<Event>, remarks: &mut Remarks) -> Vec<Series> {
    let (changes, masters): (Vec<Event>, Vec<Event>) =
        events.into_iter().partition(|event| event.instead_of.is_some());
    let masters = newest(masters, remarks);
    let shares_uid = masters.len() > 1;
    if let (true, Some(first)) = (shares_uid, masters.first()) {
        let uid: String = first.uid.chars().take(MAX_SHOWN).collect();
        let what = format!("{} different events have the UID {uid:?}: all of them count", masters.len());
        remarks.add(first.line, what);
    }
    let mut series: Vec<Series> = masters
        .into_iter()
        .map(|master| Series { master: Some(Arc::new(master)), instead: Vec::new(), shares_uid })
        .collect();
    let mut orphans = Vec::new();
    for change in newest_changes(changes) {
        let at = if shares_uid { series.iter().position(|series| has(series, &change)) } else { Some(0) };
        match at.and_then(|at| series.get_mut(at)) {
            Some(series) => series.instead.push(Arc::new(change)),
            None => orphans.push(Arc::new(change)),
        }
    }
    if !orphans.is_empty() {
        series.push(Series { master: None, instead: orphans, shares_uid });
    }
    series
}

/// Of several words on one occurrence the newest.
fn newest_changes(changes: Vec<Event>) -> impl Iterator<Item = Event> {
    let mut newest: BTreeMap<String, Event> = BTreeMap::new();
    for change in changes {
        let Some(name) = change.instead_of.as_ref().map(|(occurrence, _)| occurrence.name()) else {
            continue;
        };
        if newest.get(&name).is_none_or(|known| known.sequence <= change.sequence) {
            newest.insert(name, change);
        }
    }
    newest.into_values()
}

/// Is the occurrence that a change is about one of this series?
fn has(series: &Series, change: &Event) -> bool {
    let Some((meant, _)) = &change.instead_of else { return false };
    let last = meant.local.checked_add(jiff::Span::new().days(2)).unwrap_or(DateTime::MAX);
    let name = meant.name();
    let found = series.occurrences(last, &TimeZone::UTC).unwrap_or_default();
    found.iter().any(|occurrence| occurrence.id.as_ref() == Some(&name))
}

/// What an event is recognised by.
struct Features {
    start: String,
    title: String,
    room: String,
}

impl Features {
    fn of(event: &Event) -> Features {
        let all = |names: &[&str]| {
            let values = names.iter().map(|name| event.properties(name).collect::<Vec<_>>().join(" "));
            values.collect::<Vec<_>>().join(" ").trim().to_owned()
        };
        Features {
            start: event.start.name(),
            title: all(&["SUMMARY"]),
            room: all(&["LOCATION", "URL", "CONFERENCE"]),
        }
    }
}

/// The newest word on each of the events that have one UID, in the order of the file.
fn newest(events: Vec<Event>, remarks: &mut Remarks) -> Vec<Event> {
    if events.len() < 2 {
        return events;
    }
    let features: Vec<Features> = events.iter().map(Features::of).collect();
    let mut gone: BTreeSet<usize> = BTreeSet::new();
    let mut buckets: BTreeMap<[&str; 3], Vec<usize>> = BTreeMap::new();
    for (at, Features { start, title, room }) in features.iter().enumerate() {
        for key in [["start, title", start, title], ["start, room", start, room]] {
            buckets.entry(key).or_default().push(at);
        }
        if !is_cancelled(&events, at) {
            buckets.entry(["title, room", title, room]).or_default().push(at);
        }
    }
    for (key, bucket) in &buckets {
        let sequence = |at: usize| events.get(at).map_or(0, |event| event.sequence);
        let Some(newest) = bucket.iter().map(|at| sequence(*at)).max() else { continue };
        let begin_together = key[0] != "title, room";
        if !begin_together && is_shared(bucket, &events, &features) {
            continue;
        }
        for old in bucket.iter().filter(|at| sequence(**at) < newest) {
            if gone.insert(*old)
                && !begin_together
                && let Some(event) = events.get(*old)
            {
                remarks
                    .add(event.line, "a newer word on it (SEQUENCE) is in the same feed, and counts instead");
            }
        }
    }
    // Of equal words the last.
    let mut last: BTreeMap<(&str, &str, &str, i64), usize> = BTreeMap::new();
    for (at, (event, Features { start, title, room })) in events.iter().zip(&features).enumerate() {
        gone.extend(last.insert((start, title, room, event.sequence), at));
    }
    gone.extend(cancelled(&events, &features));
    let all = events.into_iter().enumerate();
    all.filter(|(at, _)| !gone.contains(at)).map(|(_, event)| event).collect()
}

fn is_cancelled(events: &[Event], at: usize) -> bool {
    events.get(at).is_some_and(|event| event.cancelled)
}

/// Do some of these events have the same SEQUENCE and begin at different times?
fn is_shared(bucket: &[usize], events: &[Event], features: &[Features]) -> bool {
    let mut starts: BTreeMap<i64, &str> = BTreeMap::new();
    bucket.iter().any(|at| {
        let (Some(event), Some(features)) = (events.get(*at), features.get(*at)) else { return false };
        *starts.entry(event.sequence).or_insert(&features.start) != features.start
    })
}

/// What is cancelled by another word: it begins at the same time in the same room, and is no newer.
fn cancelled(events: &[Event], features: &[Features]) -> Vec<usize> {
    let mut by_start: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    for (at, features) in features.iter().enumerate().filter(|(at, _)| is_cancelled(events, *at)) {
        by_start.entry(&features.start).or_default().push(at);
    }
    let is_cancelled_by = |at: usize, by: usize| -> Option<bool> {
        let (event, own) = (events.get(at)?, features.get(at)?);
        let (cancel, other) = (events.get(by)?, features.get(by)?);
        let newer = (cancel.sequence, by) > (event.sequence, at);
        Some(newer && (other.room.is_empty() || other.room == own.room))
    };
    let live = (0..events.len()).filter(|at| !is_cancelled(events, *at));
    let cancelled = live.filter(|at| {
        let cancels = features.get(*at).and_then(|own| by_start.get(own.start.as_str()));
        cancels.is_some_and(|cancels| cancels.iter().any(|by| is_cancelled_by(*at, *by) == Some(true)))
    });
    cancelled.collect()
}
