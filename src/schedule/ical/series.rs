//! All that is said about one UID: the event, and what stands instead of some of its occurrences.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::civil::{Date, DateTime};

use super::event::{Event, Onwards};
use super::recur;
use super::when::{Length, When};

/// One event with its occurrences; the newest word on each.
#[derive(Debug)]
pub struct Series {
    /// Absent where only single occurrences are listed (an invitation to one of them).
    master: Option<Arc<Event>>,
    instead: Vec<Arc<Event>>,
}

/// One occurrence of an event.
#[derive(Clone, Debug)]
pub struct Occurrence {
    pub event: Arc<Event>,
    /// Which one it is, by the time at which it was first meant to begin; `None` for an event that happens once.
    pub id: Option<String>,
    pub start: When,
    pub length: Option<Length>,
}

/// Sorts events into series. Of several with the same UID (and the same occurrence) the highest SEQUENCE counts, of equal
/// ones the last in the file.
pub fn gather(events: Vec<Event>) -> Vec<Series> {
    let mut series: Vec<(Option<Event>, BTreeMap<String, Event>)> = Vec::new();
    let mut known: BTreeMap<String, usize> = BTreeMap::new();
    for event in events {
        let next = series.len();
        let at = *known.entry(event.uid.clone()).or_insert(next);
        if at == next {
            series.push((None, BTreeMap::new()));
        }
        let Some((master, instead)) = series.get_mut(at) else { continue };
        match &event.instead_of {
            None if master.as_ref().is_some_and(|known| known.sequence > event.sequence) => {}
            None => *master = Some(event),
            Some((occurrence, _)) => {
                let name = occurrence.name();
                if instead.get(&name).is_none_or(|known| known.sequence <= event.sequence) {
                    instead.insert(name, event);
                }
            }
        }
    }
    let finish = |(master, instead): (Option<Event>, BTreeMap<String, Event>)| Series {
        master: master.map(Arc::new),
        instead: instead.into_values().map(Arc::new).collect(),
    };
    series.into_iter().map(finish).collect()
}

impl Series {
    pub fn uid(&self) -> Option<&str> {
        self.master.iter().chain(&self.instead).next().map(|event| event.uid.as_str())
    }

    /// The occurrences that begin up to `last`, a local time. `Err`: where it stands, and why it cannot be worked out.
    pub fn occurrences(&self, last: DateTime) -> Result<Vec<Occurrence>, (usize, String)> {
        let mut found = Vec::new();
        if let Some(master) = self.master.as_ref().filter(|master| !master.cancelled) {
            self.regular(master, last, &mut found).map_err(|why| (master.line, why))?;
        }
        // Cancelled as a whole is cancelled whatever a single one says.
        let gone = self.master.as_ref().is_some_and(|master| master.cancelled);
        for event in self.instead.iter().filter(|event| !gone && !event.cancelled) {
            let Some((meant, _)) = &event.instead_of else { continue };
            found.push(Occurrence {
                event: event.clone(),
                id: Some(meant.name()),
                start: event.start.clone(),
                length: event.length,
            });
        }
        Ok(found)
    }

    fn regular(
        &self,
        master: &Arc<Event>,
        last: DateTime,
        found: &mut Vec<Occurrence>,
    ) -> Result<(), String> {
        let replaced = Replaced::new(self, master);
        if master.rule.is_none() && master.more.is_empty() {
            let start = master.start.clone();
            if !replaced.contains(&start) {
                found.push(Occurrence { event: master.clone(), id: None, start, length: master.length });
            }
            return Ok(());
        }
        let later = Later::new(self, master);
        let mut seen = BTreeSet::new();
        let times = match &master.rule {
            Some(rule) => recur::times(rule, master.start.local, last)?,
            None => vec![master.start.local],
        };
        let regular = times.into_iter().map(|local| (When { local, ..master.start.clone() }, master.length));
        let more = master.more.iter().map(|(when, length)| (when.clone(), length.or(master.length)));
        for (meant, length) in regular.chain(more) {
            if replaced.contains(&meant) || !seen.insert(meant.name()) {
                continue;
            }
            let id = Some(meant.name());
            found.push(match later.at(&meant) {
                None => Occurrence { event: master.clone(), id, start: meant, length },
                Some(change) => {
                    let Some(start) = change.shift(&meant) else { continue };
                    Occurrence { event: change.event.clone(), id, start, length: change.event.length }
                }
            });
        }
        Ok(())
    }
}

/// The occurrences of an event that do not happen as the rule says.
struct Replaced {
    days: BTreeSet<Date>,
    /// On the clock of the event.
    times: BTreeSet<DateTime>,
    start: When,
}

impl Replaced {
    fn new(series: &Series, master: &Event) -> Replaced {
        let start = master.start.clone();
        let mut replaced = Replaced { days: BTreeSet::new(), times: BTreeSet::new(), start };
        let instead = series.instead.iter().filter_map(|event| event.instead_of.as_ref());
        for when in master.except.iter().chain(instead.map(|(when, _)| when)) {
            let Some(local) = when.in_zone(master.start.zone.as_ref()) else { continue };
            if when.all_day {
                replaced.days.insert(local.date());
            } else {
                replaced.times.insert(local);
            }
        }
        replaced
    }

    fn contains(&self, meant: &When) -> bool {
        let local = meant.in_zone(self.start.zone.as_ref()).unwrap_or(meant.local);
        let day = local.date();
        self.days.contains(&day)
            || self.times.contains(&local)
            // Some list whole days with a time.
            || self.start.all_day && self.times.iter().any(|time| time.date() == day)
    }
}

/// What holds for all later occurrences, by when it begins to hold.
struct Later(BTreeMap<DateTime, Change>);

struct Change {
    event: Arc<Event>,
    /// From when it was meant to when it is.
    from: DateTime,
}

impl Later {
    fn new(series: &Series, master: &Event) -> Later {
        let mut later = BTreeMap::new();
        for event in series.instead.iter().filter(|event| !event.cancelled) {
            let Some((meant, Onwards::AllLater)) = &event.instead_of else { continue };
            let Some(from) = meant.in_zone(master.start.zone.as_ref()) else { continue };
            later.insert(from, Change { event: event.clone(), from });
        }
        Later(later)
    }

    fn at(&self, meant: &When) -> Option<&Change> {
        self.0.range(..meant.local).next_back().map(|(_, change)| change)
    }
}

impl Change {
    fn shift(&self, meant: &When) -> Option<When> {
        let start = &self.event.start;
        let moved = self.from.duration_until(start.in_zone(meant.zone.as_ref())?);
        Some(When { local: meant.local.checked_add(moved).ok()?, ..meant.clone() })
    }
}
