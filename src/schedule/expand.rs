//! The schedule as deadlines: what should be a job now.

use std::collections::BTreeMap;

use super::feed::Feeds;
use super::model::{Entry, Schedule};
use crate::job::UtcMs;

/// What should be a job now.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Expansion {
    pub entries: Vec<Entry>,
    /// The standing entries (recurring, calendar), and for which time all their occurrences are among `entries`.
    pub standing: BTreeMap<String, Window>,
}

/// After `from`, up to and including `until`.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Window {
    pub from: UtcMs,
    pub until: UtcMs,
}

pub fn expand(schedule: &Schedule, _feeds: &Feeds, _now: UtcMs) -> Expansion {
    Expansion { entries: schedule.entries.clone(), standing: BTreeMap::new() }
}
