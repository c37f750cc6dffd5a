//! All that is said about one UID: the event, and what stands instead of some of its occurrences.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::civil::{Date, DateTime};
use jiff::tz::TimeZone;

use super::event::{Event, Onwards};
use super::rule::Rule;
use super::when::{Length, When};

/// One event with its occurrences; the newest word on each.
#[derive(Debug)]
pub struct Series {
    /// Absent where only single occurrences are listed (an invitation to one of them).
    pub(super) master: Option<Arc<Event>>,
    pub(super) instead: Vec<Arc<Event>>,
    /// Other events have the same UID: each occurrence needs a name, even the only one.
    pub(super) shares_uid: bool,
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

impl Occurrence {
    /// What the clocks do to it: where it begins or ends at a time that does not exist or exists twice, or ends at another
    /// time of day than its DTEND says, since the hours of what repeats are exact (RFC 5545, 3.8.5.3).
    pub fn clock_note(&self, here: &TimeZone) -> Option<String> {
        if self.start.all_day {
            return None;
        }
        if let Some(odd) = self.start.oddity(here) {
            return Some(format!("it begins at a time that the clocks change: {odd}"));
        }
        let length = self.length?;
        if self.event.length(here) != self.length {
            return None;
        }
        let zone = self.start.zone.as_ref().unwrap_or(here);
        let said = self.start.local.checked_add(self.event.wall?).ok()?;
        let is = zone.to_datetime(self.start.end(length, here)?.timestamp());
        if said != is {
            let time = |local: DateTime| local.strftime("%H:%M").to_string();
            return Some(format!(
                "it ends at {} and not at {}, since the clocks change and its hours are exact",
                time(is),
                time(said)
            ));
        }
        let end = When { local: said, ..self.start.clone() };
        Some(format!("it ends at a time that the clocks change: {}", end.oddity(here)?))
    }
}

impl Series {
    pub fn uid(&self) -> Option<&str> {
        self.master.iter().chain(&self.instead).next().map(|event| event.uid.as_str())
    }

    pub fn events(&self) -> impl Iterator<Item = &Event> {
        self.master.iter().chain(&self.instead).map(AsRef::as_ref)
    }

    /// The occurrences that begin up to `last`, a local time; `here` is where floating times are meant. `Err`: where it
    /// stands, and why it cannot be worked out.
    pub fn occurrences(&self, last: DateTime, here: &TimeZone) -> Result<Vec<Occurrence>, (usize, String)> {
        let mut found = Vec::new();
        let later = self.master.as_ref().map(|master| Later::new(self, master, here));
        if let (Some(master), Some(later)) = (&self.master, &later)
            && !master.cancelled
        {
            self.regular(master, later, last, here, &mut found).map_err(|why| (master.line, why))?;
        }
        // Cancelled as a whole is cancelled whatever a single one says.
        let gone = self.master.as_ref().is_some_and(|master| master.cancelled);
        for event in self.instead.iter().filter(|event| !gone && !event.cancelled) {
            let Some((meant, _)) = &event.instead_of else { continue };
            let outdated = self.master.as_ref().zip(later.as_ref()).is_some_and(|(master, later)| {
                is_excepted_since(master, event, here) || later.cancels(event, meant, master, here)
            });
            if outdated {
                continue;
            }
            found.push(Occurrence {
                event: event.clone(),
                id: Some(meant.name()),
                start: event.start.clone(),
                length: event.length(here),
            });
        }
        Ok(found)
    }

    fn regular(
        &self,
        master: &Arc<Event>,
        later: &Later,
        last: DateTime,
        here: &TimeZone,
        found: &mut Vec<Occurrence>,
    ) -> Result<(), String> {
        let replaced = Replaced::new(self, master, here);
        let length = master.length(here);
        if !master.repeats() {
            let start = master.start.clone();
            if !replaced.contains(&start, here) {
                let id = self.shares_uid.then(|| start.name());
                found.push(Occurrence { event: master.clone(), id, start, length });
            }
            return Ok(());
        }
        let mut seen = BTreeSet::new();
        let times = times(master, last, here)?;
        let regular = times.into_iter().map(|local| (When { local, ..master.start.clone() }, length));
        let more = master.more.iter().map(|(when, own)| (when.clone(), own.or(length)));
        for (meant, length) in regular.chain(more) {
            if replaced.contains(&meant, here) || !seen.insert(meant.name()) {
                continue;
            }
            let id = Some(meant.name());
            found.push(match later.at(&meant, master, here) {
                None => Occurrence { event: master.clone(), id, start: meant, length },
                Some(change) if change.event.cancelled => continue,
                Some(change) => {
                    let Some(start) = change.shift(&meant, here) else { continue };
                    Occurrence { event: change.event.clone(), id, start, length: change.event.length(here) }
                }
            });
        }
        Ok(())
    }
}

/// The times that the rules of an event make, and its start: on its own clock, in order, without those of EXRULE.
fn times(event: &Event, last: DateTime, here: &TimeZone) -> Result<BTreeSet<DateTime>, String> {
    let start = event.start.local;
    let zone = event.start.zone.as_ref().unwrap_or(here);
    let all = |rules: &[Rule], name: &str| -> Result<BTreeSet<DateTime>, String> {
        let mut all = BTreeSet::new();
        for rule in rules {
            let rule = rule.clone().ending(|until| zone.to_datetime(until));
            all.extend(rule.times(start, last).map_err(|why| format!("its {name} {why}"))?);
        }
        Ok(all)
    };
    let mut times = all(&event.rules, "RRULE")?;
    let is_over = !event.rules.is_empty() && event.rules.iter().all(|rule| rule.is_over_before(start));
    if !is_over && start <= last {
        // It counts whether its rules hit it or not.
        times.insert(start);
    }
    for excepted in all(&event.without, "EXRULE")? {
        times.remove(&excepted);
    }
    Ok(times)
}

/// Has the series taken out (EXDATE) what an older word on this occurrence changes?
fn is_excepted_since(master: &Event, change: &Event, here: &TimeZone) -> bool {
    let Some((meant, _)) = &change.instead_of else { return false };
    if master.sequence <= change.sequence {
        return false;
    }
    let mut replaced = Replaced::none(master);
    master.except.iter().for_each(|when| replaced.add(when, here));
    // On the clock of the series, as its own times are.
    let local = meant.on_clock_of(&master.start, here);
    local.is_some_and(|local| replaced.contains(&When { local, ..master.start.clone() }, here))
}

/// The occurrences of an event that do not happen as the rule says.
struct Replaced {
    days: BTreeSet<Date>,
    /// On the clock of the event.
    times: BTreeSet<DateTime>,
    start: When,
}

impl Replaced {
    fn none(master: &Event) -> Replaced {
        Replaced { days: BTreeSet::new(), times: BTreeSet::new(), start: master.start.clone() }
    }

    fn new(series: &Series, master: &Event, here: &TimeZone) -> Replaced {
        let mut replaced = Replaced::none(master);
        let instead = series.instead.iter().filter_map(|event| event.instead_of.as_ref());
        for when in master.except.iter().chain(instead.map(|(when, _)| when)) {
            replaced.add(when, here);
        }
        replaced
    }

    fn add(&mut self, when: &When, here: &TimeZone) {
        let Some(local) = when.on_clock_of(&self.start, here) else { return };
        if when.all_day {
            self.days.insert(local.date());
        } else {
            self.times.insert(local);
        }
    }

    fn contains(&self, meant: &When, here: &TimeZone) -> bool {
        let local = meant.on_clock_of(&self.start, here).unwrap_or(meant.local);
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
    fn new(series: &Series, master: &Event, here: &TimeZone) -> Later {
        let mut later = BTreeMap::new();
        for event in &series.instead {
            let Some((meant, Onwards::AllLater)) = &event.instead_of else { continue };
            let Some(from) = meant.on_clock_of(&master.start, here) else { continue };
            later.insert(from, Change { event: event.clone(), from });
        }
        Later(later)
    }

    fn at(&self, meant: &When, master: &Event, here: &TimeZone) -> Option<&Change> {
        let local = meant.on_clock_of(&master.start, here)?;
        self.0.range(..local).next_back().map(|(_, change)| change)
    }

    /// Are all occurrences from an earlier one on cancelled, by a word that is not older than this change of one of them?
    fn cancels(&self, event: &Event, meant: &When, master: &Event, here: &TimeZone) -> bool {
        self.at(meant, master, here)
            .is_some_and(|change| change.event.cancelled && change.event.sequence >= event.sequence)
    }
}

impl Change {
    fn shift(&self, meant: &When, here: &TimeZone) -> Option<When> {
        let moved = self.from.duration_until(self.event.start.on_clock_of(meant, here)?);
        Some(When { local: meant.local.checked_add(moved).ok()?, ..meant.clone() })
    }
}
