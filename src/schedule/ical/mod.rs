//! iCalendar (RFC 5545), from strangers.
//!
//! calcard reads content lines, values and RRULEs, finds the IANA name behind Outlook's zone names, and expands RRULEs:
//! of the crates there are it is the one that does all of that, is released often, forbids unsafe code, and serves a
//! public CalDAV server (`ical` is abandoned; `icalendar` refuses a whole feed for one odd line; `rrule` reads only
//! rules). What is done here is what it leaves open: one event at a time, so that an odd one spoils no other and memory
//! stays bounded; the newest word on each event; time zones and DST by jiff, as everywhere else in this program.
//!
//! | module | does |
//! |---|---|
//! | `split` | the events and time zones in a file, as text, with their lines |
//! | `event` | one event: its times, its length, what it says |
//! | `when` | times as events have them: in a zone, in UTC, floating, or whole days |
//! | `recur` | RRULE |
//! | `series` | all that is said about one UID, and its occurrences |
//!
//! Deliberately absent: EXRULE (deprecated), RSCALE, rules that repeat more often than daily, to-dos and journals.

mod event;
mod recur;
mod series;
mod split;
mod when;
mod zones;

pub use self::series::{Occurrence, Series};
pub use self::split::FeedError;
pub use self::when::Length;

use std::collections::BTreeSet;
use std::fmt;

/// Events of one feed.
pub const MAX_EVENTS: usize = 100_000;
/// Problems that are told in full.
const MAX_PROBLEMS: usize = 20;

/// What a feed says.
#[derive(Debug, Default)]
pub struct Contents {
    pub series: Vec<Series>,
    pub problems: Problems,
}

/// What was left out, and why; the rest of the feed is used.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Problems {
    pub first: Vec<Problem>,
    /// All of them.
    pub count: usize,
    /// The events that they are about: what is not found of those may still be there.
    pub uids: BTreeSet<String>,
    /// The same for any event: of one that was left out even its UID is not known.
    pub of_any: bool,
}

#[derive(Clone, PartialEq, Debug)]
pub struct Problem {
    /// Counted from 1; where the event begins.
    pub line: usize,
    pub what: String,
}

impl Problems {
    /// `uid`: of the event that was left out, where that is known.
    pub fn add(&mut self, line: usize, uid: Option<&str>, what: impl Into<String>) {
        self.count += 1;
        match uid {
            Some(uid) => _ = self.uids.insert(uid.to_owned()),
            None => self.of_any = true,
        }
        if self.first.len() < MAX_PROBLEMS {
            self.first.push(Problem { line, what: what.into() });
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {}", self.line, self.what)
    }
}

/// Reads a whole feed.
pub fn read(bytes: &[u8]) -> Result<Contents, FeedError> {
    let text = String::from_utf8_lossy(bytes);
    let found = split::split(&text)?;
    let zones = zones::Zones::new(found.zones.iter().map(|zone| zone.text.as_str()));
    let mut problems = Problems::default();
    let mut events = Vec::with_capacity(found.events.len());
    for block in &found.events {
        match event::read(block, &zones) {
            Ok(event) => events.push(event),
            Err(why) => problems.add(block.line, event::uid(block).as_deref(), why),
        }
    }
    Ok(Contents { series: series::gather(events), problems })
}
