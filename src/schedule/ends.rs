//! `[[calendar-end]]`: events as deadlines. Each event that names a meeting ends it when the event ends.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::time::Duration;

use jiff::tz::TimeZone;
use sha2::{Digest, Sha256};

use super::calendar::Calendars;
use super::expand::{Expansion, Window};
use super::feed::Feeds;
use super::ical::{Length, Occurrence, Problems, Remarks};
use super::model::{CalendarEnd, Entry, Schedule};
use crate::job::{MeetingId, UtcMs};

/// Bytes of a meeting id.
const MAX_MEETING: usize = 256;
/// Bytes of a UID that stands in an identity as it is.
const MAX_UID: usize = 128;
/// Deadlines that one `[[calendar-end]]` makes at a time.
const MAX_ENTRIES: usize = 100_000;
/// Events that are named among what was skipped.
const MAX_SKIPPED: usize = 100;
/// Characters of a summary that are shown.
const MAX_SUMMARY: usize = 60;

/// What a feed comes to.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Ends {
    pub entries: Vec<Entry>,
    /// Events that end no meeting though they might be meant to.
    pub skipped: Skipped,
    /// Events that `only` or `except` takes out.
    pub excepted: Skipped,
    /// Of which deadlines it is not certain that they are gone, if they are not among the entries.
    pub doubts: Doubts,
    /// How events are understood that others may understand in another way.
    pub remarks: Remarks,
    /// How long the shortest of the events lasts that end a meeting.
    pub shortest: Option<Duration>,
    /// What the clocks do to some of the entries, by identity.
    pub clock_notes: BTreeMap<String, String>,
}

/// What could not be read may hide deadlines.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Doubts {
    /// Any.
    pub of_any: bool,
    /// Those with these identities, and those whose identities begin with one of them and `/` or `@`.
    pub of: BTreeSet<String>,
}

impl Doubts {
    fn add(&mut self, name: &str, problems: &Problems) {
        self.of_any |= problems.of_any;
        self.of.extend(problems.uids.iter().map(|uid| identity_of_event(name, uid)));
    }
}

#[derive(Clone, PartialEq, Debug, Default)]
pub struct Skipped {
    pub first: Vec<Skip>,
    /// All of them.
    pub count: usize,
}

/// One event that ends nothing.
#[derive(Clone, PartialEq, Debug)]
pub struct Skip {
    /// When it ends (begins, if it has no end); absent where that cannot be worked out.
    pub at: Option<UtcMs>,
    /// Its summary, shortened; written by strangers. Or the line on which it stands.
    pub summary: String,
    /// One clause: `it has no LOCATION`.
    pub reason: String,
    /// What `only` or `except` takes out.
    pub entry: Option<Box<Entry>>,
}

impl Skipped {
    fn add_problems(&mut self, problems: &Problems) {
        self.count += problems.count;
        for problem in &problems.first {
            if self.first.len() < MAX_SKIPPED {
                let summary = format!("line {}", problem.line);
                self.first.push(Skip { at: None, summary, reason: problem.what.clone(), entry: None });
            }
        }
    }

    fn add(&mut self, occurrence: &Occurrence, at: Option<UtcMs>, reason: String, entry: Option<Box<Entry>>) {
        self.count += 1;
        if self.first.len() < MAX_SKIPPED {
            let summary = occurrence.event.property("SUMMARY").unwrap_or(&occurrence.event.uid);
            let summary = summary.chars().take(MAX_SUMMARY).collect();
            self.first.push(Skip { at, summary, reason, entry });
        }
    }
}

/// The deadlines of one `[[calendar-end]]` after `after` and up to `until`. `None`: its feed has never been read, so that
/// nothing is known, least of all that an event is gone.
///
/// An entry is known by the name of the `[[calendar-end]]`, the UID of the event, which of its occurrences it is, and the
/// meeting: an event that moves keeps its entry; one that gets another room gives up one entry for another.
pub fn ends(
    end: &CalendarEnd,
    calendars: &Calendars,
    feeds: &Feeds,
    after: UtcMs,
    until: UtcMs,
) -> Option<Ends> {
    let feed = feeds.get(&end.source)?;
    let mut found = Ends { remarks: feed.remarks().clone(), ..Ends::default() };
    found.doubts.add(&end.name, feed.problems());
    let mut taken = BTreeMap::new();
    let year = |at: UtcMs| TimeZone::UTC.to_datetime(at.timestamp()).year();
    for number in year(after)..=year(until) {
        let known = feed.year(number, &end.zone());
        found.remarks.extend(&known.remarks);
        found.skipped.add_problems(&known.problems);
        found.doubts.add(&end.name, &known.problems);
        for occurrence in &known.occurrences {
            // A year also lists what touches it from the next one.
            let over = over(end, occurrence).filter(|at| after < *at && *at <= until && year(*at) == number);
            if let Some(at) = over {
                one(end, calendars, feeds, occurrence, at, &mut taken, &mut found);
            }
        }
    }
    Some(found)
}

/// When an occurrence ends; of one without an end, when it begins.
fn over(end: &CalendarEnd, occurrence: &Occurrence) -> Option<UtcMs> {
    occurrence.start.end(occurrence.length.unwrap_or_default(), &end.zone())
}

fn one(
    end: &CalendarEnd,
    calendars: &Calendars,
    feeds: &Feeds,
    occurrence: &Occurrence,
    at: UtcMs,
    taken: &mut BTreeMap<String, u32>,
    found: &mut Ends,
) {
    let mut skip = |reason: String| found.skipped.add(occurrence, Some(at), reason, None);
    let event = &occurrence.event;
    if let Some(skipped) = end
        .skip
        .as_ref()
        .filter(|skip| event.properties(&skip.property).any(|value| skip.pattern.is_match(value)))
    {
        let reason = format!("skip matches its {}", skipped.property);
        return found.excepted.add(occurrence, Some(at), reason, None);
    }
    if event.is_guessed(&end.property) {
        // What it named when it could be read is not gone.
        found.doubts.of.insert(identity_of_event(&end.name, &event.uid));
        return skip(format!("its {} is not UTF-8, and what it says is not certain", end.property));
    }
    let meeting = match meeting(end, occurrence) {
        Ok(meeting) => meeting,
        Err(reason) => return skip(reason),
    };
    if occurrence.length.unwrap_or_default() == Length::default() {
        return skip("it has no end".to_owned());
    }
    if occurrence.start.zone.is_none() && end.timezone.is_none() {
        return skip("its time has no zone: give the [[calendar-end]] a timezone".to_owned());
    }
    // What ends at midnight belongs to the day before.
    let last = UtcMs(at.0 - 1);
    if let Err(reason) = end.days.allows(calendars, feeds, last, &end.zone()) {
        if end.days.might_allow(calendars, feeds, last, &end.zone()) {
            found.doubts.of.insert(identity(&end.name, occurrence, &meeting));
        }
        let entry = entry(end, identity(&end.name, occurrence, &meeting), meeting, at);
        return found.excepted.add(occurrence, Some(at), reason, Some(Box::new(entry)));
    }
    if found.entries.len() == MAX_ENTRIES {
        found.doubts.of_any = true;
        return skip(format!("there are more than {MAX_ENTRIES} at a time"));
    }
    if let Some(began) = occurrence.start.end(Length::default(), &end.zone()) {
        let length = Duration::from_millis(at.ms_since(began).unsigned_abs());
        found.shortest = Some(found.shortest.map_or(length, |known| known.min(length)));
    }
    let identity = own_identity(identity(&end.name, occurrence, &meeting), taken);
    if let Some(note) = occurrence.clock_note(&end.zone()) {
        found.clock_notes.insert(identity.clone(), note);
    }
    found.entries.push(entry(end, identity, meeting, at));
}

fn entry(end: &CalendarEnd, identity: String, meeting: MeetingId, at: UtcMs) -> Entry {
    Entry {
        identity,
        of: Some(end.name.clone()),
        server: end.server.clone(),
        meeting,
        instance: None,
        at,
        limits: end.limits.clone(),
    }
}

/// Different events may have one UID, one start and one meeting: the second one of them is numbered, and so on.
fn own_identity(identity: String, taken: &mut BTreeMap<String, u32>) -> String {
    let number = taken.entry(identity.clone()).and_modify(|number| *number += 1).or_insert(1);
    if *number == 1 { identity } else { format!("{identity}@{number}") }
}

/// The meeting that an event is about. `Err`: why there is none.
fn meeting(end: &CalendarEnd, occurrence: &Occurrence) -> Result<MeetingId, String> {
    let property = &end.property;
    let value = occurrence.event.property(property).filter(|value| !value.is_empty());
    let value = value.ok_or_else(|| format!("it has no {property}"))?;
    let id = match &end.pattern {
        None => Some(value),
        Some(pattern) => pattern.captures(value).and_then(|found| {
            let group = found.name("meeting").or_else(|| found.get(1)).or_else(|| found.get(0));
            group.map(|group| group.as_str())
        }),
    };
    let id = id.map(str::trim).filter(|id| !id.is_empty());
    let id = id.ok_or_else(|| format!("its {property} names no meeting"))?;
    if id.len() > MAX_MEETING {
        return Err(format!("its {property} is longer than a meeting id can be"));
    }
    if id.chars().any(char::is_control) {
        return Err(format!("its {property} has more than one line, or control characters"));
    }
    Ok(MeetingId(id.to_owned()))
}

/// The deadlines of all `[[calendar-end]]` around `now`, each with the time for which they are complete.
pub fn add_ends(schedule: &Schedule, feeds: &Feeds, now: UtcMs, expansion: &mut Expansion) {
    for end in &schedule.calendar_ends {
        let from = now - end.limits.late_limit;
        let until = now + schedule.ahead;
        let Some(found) = ends(end, &schedule.calendars, feeds, from, until) else {
            // Nothing is known of it: what became a job from an earlier copy stays.
            expansion.standing.insert(end.name.clone(), Window { from: now, until: now });
            continue;
        };
        expansion.entries.extend(found.entries);
        // One event that cannot be read any more is not one that is gone.
        let window = match found.doubts.of_any {
            true => Window { from: now, until: now },
            false => Window { from, until },
        };
        expansion.standing.insert(end.name.clone(), window);
        expansion.doubted.extend(found.doubts.of);
    }
}

/// The common beginning of the identities of all its occurrences.
fn identity_of_event(name: &str, uid: &str) -> String {
    let mut identity = format!("{name}/");
    if uid.len() <= MAX_UID && !uid.chars().any(char::is_control) {
        // What stands between the parts must not stand in one: no two events may be taken for each other.
        identity.push_str(&uid.replace('%', "%25").replace('/', "%2F").replace('@', "%40"));
    } else {
        // Still the same for the same UID.
        for byte in Sha256::digest(uid.as_bytes()).iter().take(16) {
            // Writing to a string cannot fail.
            let _ = write!(identity, "{byte:02x}");
        }
    }
    identity
}

fn identity(name: &str, occurrence: &Occurrence, meeting: &MeetingId) -> String {
    let mut identity = identity_of_event(name, &occurrence.event.uid);
    if let Some(id) = &occurrence.id {
        identity.push('/');
        identity.push_str(id);
    }
    identity.push('@');
    identity.push_str(meeting.as_str());
    identity
}
