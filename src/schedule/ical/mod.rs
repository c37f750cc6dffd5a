//! iCalendar (RFC 5545), from strangers.
//!
//! calcard reads properties and their values, and finds the IANA name behind Outlook's zone names: of the crates there are it
//! is the one that does that, is released often, forbids unsafe code, and serves a public CalDAV server (`ical` is
//! abandoned; `icalendar` refuses a whole feed for one odd line). What is done here is what it leaves open: lines that are
//! folded inside a character; one event at a time, so that an odd one spoils no other and memory stays bounded; the newest
//! word on each event; VTIMEZONE; recurrence rules; time zones and DST by jiff, as everywhere else in this program.
//!
//! What is not certain never becomes another time without a word. An event is left out with a *problem*, and deadlines that
//! it made before stay; or it counts, and a *remark* says how it is understood.
//!
//! | module | does |
//! |---|---|
//! | `lines` | content lines, from bytes |
//! | `split` | the events and time zones in a file, as text, with their lines |
//! | `vtimezone` | the time zones that a feed defines itself |
//! | `zones` | what a name of a time zone means |
//! | `when` | times as events have them: in a zone, in UTC, floating, or whole days |
//! | `rule` | RRULE and EXRULE |
//! | `event` | one event: its times, its length, what it says |
//! | `gather` | which events are words on one, and which are different ones |
//! | `series` | one event, and its occurrences |
//!
//! Deliberately absent: RSCALE, rules that repeat more often than daily, RANGE=THISANDPRIOR, to-dos and journals.

mod event;
mod gather;
mod lines;
mod rule;
mod series;
mod split;
mod vtimezone;
mod when;
mod zones;

pub use self::event::OtherZone;
pub use self::series::{Occurrence, Series};
pub use self::split::FeedError;
pub use self::when::Length;
pub use self::zones::{GivenZones, Whose, iana};

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
    pub remarks: Remarks,
}

/// How events are understood that others may understand in another way. Nothing is left out for it.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Remarks {
    pub first: Vec<Problem>,
    /// All of them.
    pub count: usize,
}

impl Remarks {
    pub fn add(&mut self, line: usize, what: impl Into<String>) {
        self.count += 1;
        if self.first.len() < MAX_PROBLEMS {
            self.first.push(Problem { line, what: what.into() });
        }
    }

    /// Adds those of another year; each is told once.
    pub fn extend(&mut self, other: &Remarks) {
        let untold = other.count - other.first.len();
        let new: Vec<Problem> =
            other.first.iter().filter(|remark| !self.first.contains(remark)).cloned().collect();
        self.count += new.len() + untold;
        let room = MAX_PROBLEMS.saturating_sub(self.first.len());
        self.first.extend(new.into_iter().take(room));
    }
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

/// Reads a whole feed. `given`: what names of time zones in it mean, as the entry says.
pub fn read(bytes: &[u8], given: &GivenZones) -> Result<Contents, FeedError> {
    let found = split::split(bytes)?;
    let zones = zones::Zones::new(&found.zones, given);
    let (mut problems, mut remarks) = (Problems::default(), Remarks::default());
    remark_on_bytes(&found.events, &mut remarks);
    let mut events = Vec::with_capacity(found.events.len());
    for block in &found.events {
        match event::read(block, &zones) {
            Ok(mut event) => {
                for remark in std::mem::take(&mut event.remarks) {
                    remarks.add(event.line, remark);
                }
                events.push(event);
            }
            Err(why) => problems.add(block.line, event::uid(block).as_deref(), why),
        }
    }
    Ok(Contents { series: gather::gather(events, &mut remarks), problems, remarks })
}

/// Of a feed that is not UTF-8 every line may be odd: that is one remark.
fn remark_on_bytes(events: &[split::Block], remarks: &mut Remarks) {
    let odd = |block: &&split::Block| block.lines.iter().any(|line| !line.certain);
    if let Some(first) = events.iter().find(odd) {
        let count = events.iter().filter(odd).count();
        let what = "it is not UTF-8, and is shown as Latin-1; no meeting is taken from what is not";
        remarks.add(
            first.line,
            if count > 1 {
                format!("{what} (the same in {} more events)", count - 1)
            } else {
                what.to_owned()
            },
        );
    }
}
