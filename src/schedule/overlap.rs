//! `keep-closed` against the next class: a guard ends whatever is opened in its meeting, and does not know that another
//! entry of the schedule expects a class there.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::feed::Feeds;
use super::model::Schedule;
use crate::job::{MeetingId, ServerName, UtcMs};

/// Recurring entries are looked at for so long.
const LOOK_AHEAD: Duration = Duration::from_secs(14 * 24 * 3600);
/// Occurrences of one entry that are looked at.
const MAX_OCCURRENCES: usize = 2_000;

/// What is opened after `at` for the entry `next` would be ended by the guard of the entry `name`.
#[derive(Clone, PartialEq, Debug)]
pub struct Overlap {
    pub name: String,
    pub at: UtcMs,
    pub keep_closed: Duration,
    pub next: String,
    pub next_at: UtcMs,
}

/// One time at which an entry ends its meeting; zero: nothing is guarded then.
struct End<'a> {
    at: UtcMs,
    name: &'a str,
    keep_closed: Duration,
}

/// The first overlap of each pair of entries; an entry may be in its own way. Those of calendars and rules are not known
/// beforehand. Of `except` and `only` counts what is known without feeds.
pub fn overlaps(schedule: &Schedule, now: UtcMs) -> Vec<Overlap> {
    let mut pairs: BTreeSet<(&str, &str)> = BTreeSet::new();
    let mut found = Vec::new();
    for ends in by_meeting(schedule, now).values_mut() {
        if ends.iter().all(|end| end.keep_closed.is_zero()) {
            continue;
        }
        ends.sort_by_key(|end| end.at);
        for (n, end) in ends.iter().enumerate() {
            // The same instant twice: both end the same class.
            let Some(next) = ends[n..].iter().find(|other| other.at > end.at) else { break };
            if next.at <= end.at + end.keep_closed && pairs.insert((end.name, next.name)) {
                found.push(Overlap {
                    name: end.name.to_owned(),
                    at: end.at,
                    keep_closed: end.keep_closed,
                    next: next.name.to_owned(),
                    next_at: next.at,
                });
            }
        }
    }
    found
}

/// The instant at which most deadlines of a server are due, and how many; `None`: there are none.
pub fn busiest(schedule: &Schedule, server: &ServerName, now: UtcMs) -> Option<(UtcMs, usize)> {
    let mut due: BTreeMap<UtcMs, usize> = BTreeMap::new();
    let of_server = by_meeting(schedule, now).into_iter().filter(|((of, _), _)| *of == server);
    // Several entries that end one meeting at one time make one call.
    for (_, ends) in of_server {
        let times: BTreeSet<UtcMs> = ends.iter().map(|end| end.at).filter(|at| *at > now).collect();
        times.into_iter().for_each(|at| *due.entry(at).or_default() += 1);
    }
    due.into_iter().rev().max_by_key(|(_, jobs)| *jobs)
}

type ByMeeting<'a> = BTreeMap<(&'a ServerName, &'a MeetingId), Vec<End<'a>>>;

fn by_meeting(schedule: &Schedule, now: UtcMs) -> ByMeeting<'_> {
    let mut meetings: ByMeeting<'_> = BTreeMap::new();
    for entry in schedule.entries.iter().filter(|entry| entry.at + entry.limits.keep_closed > now) {
        // What names its instance is not guarded.
        let guards = entry.instance.is_none();
        let keep_closed = if guards { entry.limits.keep_closed } else { Duration::ZERO };
        let end = End { at: entry.at, name: &entry.identity, keep_closed };
        meetings.entry((&entry.server, &entry.meeting)).or_default().push(end);
    }
    let feeds = Feeds::default();
    for entry in &schedule.recurring {
        let zone = entry.recurrence.zone();
        let times = entry.recurrence.between(now, now + LOOK_AHEAD).take(MAX_OCCURRENCES);
        let ends = times.map(|occurrence| occurrence.at).filter(|at| {
            let allowed = entry.days.allows(&schedule.calendars, &feeds, *at, zone);
            allowed.is_ok()
        });
        let ends = ends.map(|at| End { at, name: &entry.name, keep_closed: entry.limits.keep_closed });
        meetings.entry((&entry.server, &entry.meeting)).or_default().extend(ends);
    }
    meetings
}

#[cfg(test)]
mod tests {
    use jiff::tz::TimeZone;

    use super::super::calendar::{Calendar, DateRange, Days};
    use super::super::model::{Entry, Recurring};
    use super::super::recurrence::{Dst, Recurrence};
    use super::*;
    use crate::job::Limits;

    const HOUR: Duration = Duration::from_secs(3600);
    /// 2026-11-23T00:00:00Z, a Monday.
    const NOW: UtcMs = UtcMs(1_795_392_000_000);

    fn guarded(hours: u32) -> Limits {
        Limits { keep_closed: hours * HOUR, ..Limits::default() }
    }

    fn entry(name: &str, hours: u32, limits: Limits) -> Entry {
        Entry {
            identity: name.to_owned(),
            of: None,
            server: "campus".into(),
            meeting: "room-1".into(),
            instance: None,
            at: NOW + hours * HOUR,
            limits,
        }
    }

    fn recurring(name: &str, cron: &str, limits: Limits) -> Recurring {
        Recurring {
            name: name.to_owned(),
            server: "campus".into(),
            meeting: "room-1".into(),
            recurrence: Recurrence::new(cron, TimeZone::UTC, Dst::Wall).unwrap(),
            days: Days::default(),
            limits,
        }
    }

    #[track_caller]
    fn check(schedule: &Schedule, expected: &[&str]) {
        let tell = |found: &Overlap| {
            format!(
                "{} {:.0} reaches {} {:.0}",
                found.name,
                found.at.timestamp(),
                found.next,
                found.next_at.timestamp()
            )
        };
        assert_eq!(overlaps(schedule, NOW).iter().map(tell).collect::<Vec<String>>(), expected);
    }

    fn once(entries: Vec<Entry>) -> Schedule {
        Schedule { entries, ..Schedule::default() }
    }

    #[test]
    fn the_busiest_instant_of_a_server() {
        let entry = |name: &str, meeting: &str, hours: u32| Entry {
            identity: name.to_owned(),
            of: None,
            server: "campus".into(),
            meeting: meeting.into(),
            instance: None,
            at: NOW + hours * HOUR,
            limits: Limits::default(),
        };
        let entries = vec![entry("a", "m", 1), entry("b", "m", 2), entry("c", "m", 2), entry("d", "n", 2)];
        let schedule = Schedule { entries, ..Schedule::default() };
        assert_eq!(busiest(&schedule, &"campus".into(), NOW), Some((NOW + 2 * HOUR, 2)));
        assert_eq!(busiest(&schedule, &"lab".into(), NOW), None);
    }

    #[test]
    fn a_guard_that_lasts_into_the_time_of_another_entry() {
        let later = entry("later", 3, Limits::default());
        let reaches = "first 2026-11-23T01:00:00Z reaches later 2026-11-23T03:00:00Z";
        check(&once(vec![later.clone(), entry("first", 1, guarded(2))]), &[reaches]);
        check(&once(vec![later.clone(), entry("first", 1, guarded(1))]), &[]);
        check(&once(vec![later.clone(), entry("first", 1, Limits::default())]), &[]);
        // The one that comes later may guard as long as it likes, and so may two that end together.
        check(&once(vec![entry("first", 1, Limits::default()), entry("last", 3, guarded(9))]), &[]);
        check(&once(vec![entry("a", 1, guarded(1)), entry("b", 1, guarded(1))]), &[]);

        let elsewhere = Entry { meeting: "room-2".into(), ..later.clone() };
        let other_server = Entry { server: "lab".into(), ..later.clone() };
        check(&once(vec![entry("first", 1, guarded(9)), elsewhere, other_server]), &[]);
        let named = Entry { instance: Some("i-1".into()), ..entry("first", 1, guarded(9)) };
        check(&once(vec![named, later]), &[]);
    }

    #[test]
    fn what_is_over_is_in_nobodys_way() {
        let mut over = entry("over", 0, guarded(2));
        over.at = NOW - HOUR;
        let soon = Entry { at: NOW + HOUR / 2, ..entry("soon", 0, Limits::default()) };
        let reaches = "over 2026-11-22T23:00:00Z reaches soon 2026-11-23T00:30:00Z";
        check(&once(vec![over.clone(), soon.clone()]), &[reaches]);
        over.at = NOW - 2 * HOUR;
        check(&once(vec![over, soon]), &[]);
    }

    #[test]
    fn recurring_entries_are_looked_at_for_two_weeks_and_told_once() {
        let daily = recurring("daily", "0 10 * * *", guarded(3));
        let fridays = recurring("fridays", "0 12 * * Fri", Limits::default());
        let far = entry("far", 20 * 24 + 11, Limits::default());
        let schedule =
            Schedule { recurring: vec![daily.clone(), fridays], entries: vec![far], ..Schedule::default() };
        check(&schedule, &["daily 2026-11-27T10:00:00Z reaches fridays 2026-11-27T12:00:00Z"]);
        let hourly = recurring("hourly", "0 * * * *", guarded(1));
        let schedule = Schedule { recurring: vec![hourly], ..Schedule::default() };
        check(&schedule, &["hourly 2026-11-23T01:00:00Z reaches hourly 2026-11-23T02:00:00Z"]);
    }

    #[test]
    fn an_occurrence_that_a_calendar_excludes_is_in_nobodys_way() {
        let mut daily = recurring("daily", "0 10 27 * *", guarded(3));
        daily.days.except = vec!["holidays".to_owned()];
        let dates = vec![DateRange::parse("2026-11-27").unwrap()];
        let schedule = Schedule {
            recurring: vec![daily, recurring("fridays", "0 12 * * Fri", Limits::default())],
            calendars: [("holidays".to_owned(), Calendar { dates, ..Calendar::default() })].into(),
            ..Schedule::default()
        };
        check(&schedule, &[]);
    }
}
