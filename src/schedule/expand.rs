//! The schedule as deadlines: what should be a job now.
//!
//! A standing entry is never expanded as a whole. What becomes a job is every occurrence within `ahead`, the next one
//! however far it is (so that there is always a durable job), and, of those that have passed within `late-limit`, the
//! latest (of which [`plan`](super::plan()) decides whether it is to be caught up with).

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::ends::add_ends;
use super::feed::Feeds;
use super::model::{Entry, Recurring, Schedule};
use super::recurrence::Recurrence;
use crate::job::UtcMs;

/// Occurrences of one entry that are looked at in one expansion: two days of an end every minute. Of an entry with more
/// of them less than `ahead` lies ahead; what is left out comes with a later expansion.
const MOST_EXAMINED: usize = 3_000;
/// What has passed is looked for in the last hour first, and then in ever more.
const FIRST_LOOK_BACK: Duration = Duration::from_secs(3600);

/// What should be a job now.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Expansion {
    pub entries: Vec<Entry>,
    /// The standing entries (recurring, calendar), and for which time all their occurrences are among `entries`.
    pub standing: BTreeMap<String, Window>,
    /// The recurring ones as the file has them: they tell whether a time outside the window is an occurrence, and of which
    /// meeting.
    pub recurring: BTreeMap<String, Recurring>,
    /// What nobody can say is unwanted though it is not among `entries`, since something in a feed cannot be read:
    /// identities, and their beginnings up to a `/` or `@`.
    pub doubted: BTreeSet<String>,
}

impl Expansion {
    pub fn doubts(&self, identity: &str) -> bool {
        if self.doubted.is_empty() {
            return false;
        }
        let parts = identity.match_indices(['/', '@']).filter_map(|(end, _)| identity.get(..end));
        parts.chain([identity]).any(|part| self.doubted.contains(part))
    }
}

/// After `from`, up to and including `until`.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Window {
    pub from: UtcMs,
    pub until: UtcMs,
}

impl Window {
    pub fn holds(&self, at: UtcMs) -> bool {
        self.from < at && at <= self.until
    }
}

pub fn expand(schedule: &Schedule, feeds: &Feeds, now: UtcMs) -> Expansion {
    let mut expansion = Expansion { entries: schedule.entries.clone(), ..Expansion::default() };
    for recurring in &schedule.recurring {
        let zone = recurring.recurrence.zone();
        let allows = |at| recurring.days.allows(&schedule.calendars, feeds, at, zone).is_ok();
        let window = occurrences(recurring, allows, now, schedule.ahead, &mut expansion.entries);
        expansion.doubted.extend(doubted(recurring, schedule, feeds, window));
        expansion.standing.insert(recurring.name.clone(), window);
        expansion.recurring.insert(recurring.name.clone(), recurring.clone());
    }
    add_ends(schedule, feeds, now, &mut expansion);
    expansion
}

/// One occurrence of a recurring entry. Its identity says what the clock on the wall shows then, which is unique: of a
/// time that exists twice only the first is ever an occurrence.
pub fn occurrence_entry(recurring: &Recurring, at: UtcMs) -> Entry {
    let civil = recurring.recurrence.civil(at);
    let time = civil.strftime(if civil.second() == 0 { "%Y-%m-%dT%H:%M" } else { "%Y-%m-%dT%H:%M:%S" });
    let Recurring { name, server, meeting, limits, .. } = recurring;
    Entry {
        identity: format!("{name}@{time}[{}]", recurring.recurrence.zone_name()),
        of: Some(name.clone()),
        server: server.clone(),
        meeting: meeting.clone(),
        instance: None,
        at,
        limits: limits.clone(),
    }
}

/// Adds what should be a job now of a recurring entry.
fn occurrences(
    recurring: &Recurring,
    allows: impl Fn(UtcMs) -> bool,
    now: UtcMs,
    ahead: Duration,
    entries: &mut Vec<Entry>,
) -> Window {
    let oldest = now - recurring.limits.late_limit;
    let passed = latest(&recurring.recurrence, &allows, oldest, now);
    entries.extend(passed.map(|at| occurrence_entry(recurring, at)));
    let horizon = now + ahead;
    let mut seen = None;
    let mut found = false;
    let mut whole = true;
    for (examined, next) in recurring.recurrence.between(now, UtcMs::MAX).enumerate() {
        let beyond = next.at > horizon;
        if (beyond && found) || examined == MOST_EXAMINED {
            whole = beyond;
            break;
        }
        seen = Some(next.at);
        if allows(next.at) {
            found = true;
            entries.push(occurrence_entry(recurring, next.at));
        }
    }
    let seen = seen.unwrap_or(horizon);
    let until = if whole { horizon.max(seen) } else { seen };
    Window { from: passed.unwrap_or(oldest), until }
}

/// Occurrences that `only` leaves out for want of an event that cannot be read: those that have a job keep it.
fn doubted(recurring: &Recurring, schedule: &Schedule, feeds: &Feeds, window: Window) -> Vec<String> {
    let Recurring { recurrence, days, .. } = recurring;
    if days.only.is_empty() {
        return Vec::new();
    }
    let (calendars, zone) = (&schedule.calendars, recurrence.zone());
    let doubtful = |at: &UtcMs| {
        days.allows(calendars, feeds, *at, zone).is_err() && days.might_allow(calendars, feeds, *at, zone)
    };
    let times = recurrence.between(window.from, window.until).map(|found| found.at).take(MOST_EXAMINED);
    times.filter(doubtful).map(|at| occurrence_entry(recurring, at).identity).collect()
}

/// The latest occurrence after `after`, up to and including `until`, that is allowed.
fn latest(
    recurrence: &Recurrence,
    allows: impl Fn(UtcMs) -> bool,
    after: UtcMs,
    until: UtcMs,
) -> Option<UtcMs> {
    let mut back = FIRST_LOOK_BACK;
    let mut to = until;
    while to > after {
        let from = after.max(until - back);
        let times = recurrence.between(from, to).map(|found| found.at);
        if let Some(last) = times.filter(|at| allows(*at)).last() {
            return Some(last);
        }
        (to, back) = (from, back * 24);
    }
    None
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use jiff::tz::TimeZone;

    use super::super::calendar::Days;
    use super::super::recurrence::Dst;
    use super::*;
    use crate::job::{Limits, MeetingId, ServerName};

    const HOUR: Duration = Duration::from_secs(3600);
    const DAY: Duration = Duration::from_secs(86_400);

    fn utc(text: &str) -> UtcMs {
        text.parse::<Timestamp>().unwrap().into()
    }

    fn recurring(cron: &str, zone: &str) -> Recurring {
        let zone = TimeZone::get(zone).unwrap();
        Recurring {
            name: "standup".to_owned(),
            server: ServerName::from("campus"),
            meeting: MeetingId::from("room"),
            recurrence: Recurrence::new(cron, zone, Dst::Wall).unwrap(),
            days: Days::default(),
            limits: Limits::default(),
        }
    }

    /// What follows the `@` of each identity, and the window.
    fn told(
        recurring: &Recurring,
        allows: impl Fn(UtcMs) -> bool,
        now: &str,
        ahead: Duration,
    ) -> (Vec<String>, [String; 2]) {
        let mut entries = Vec::new();
        let window = occurrences(recurring, allows, utc(now), ahead, &mut entries);
        let of = |entry: &Entry| entry.identity.strip_prefix("standup@").unwrap().to_owned();
        (entries.iter().map(of).collect(), [window.from, window.until].map(|at| at.to_string()))
    }

    #[test]
    fn everything_within_ahead_and_the_latest_that_has_passed() {
        let standup = recurring("15 10 * * Mon-Fri", "Europe/Berlin");
        let (names, window) = told(&standup, |_| true, "2026-11-24T09:15:00Z", 2 * DAY);
        assert_eq!(
            names,
            [
                "2026-11-24T10:15[Europe/Berlin]",
                "2026-11-25T10:15[Europe/Berlin]",
                "2026-11-26T10:15[Europe/Berlin]"
            ]
        );
        assert_eq!(window, ["2026-11-24T09:15:00.000Z", "2026-11-26T09:15:00.000Z"]);
    }

    #[test]
    fn the_next_one_however_far() {
        let yearly = recurring("30 0 12 29 2 *", "UTC");
        let (names, window) = told(&yearly, |_| true, "2026-11-24T00:00:00Z", 2 * DAY);
        assert_eq!(names, ["2028-02-29T12:00:30[UTC]"]);
        assert_eq!(window, ["2026-11-23T00:00:00.000Z", "2028-02-29T12:00:30.000Z"]);
    }

    #[test]
    fn what_is_excepted_is_left_out_and_the_next_allowed_one_is_found() {
        let daily = recurring("0 12 * * *", "UTC");
        let from = utc("2027-01-07T00:00:00Z");
        let (names, window) = told(&daily, |at| at > from, "2026-12-24T13:00:00Z", 2 * DAY);
        assert_eq!(names, ["2027-01-07T12:00[UTC]"]);
        assert_eq!(window[1], "2027-01-07T12:00:00.000Z");
        // Of the days that have passed the latest one that was allowed.
        let mut limits = daily.clone();
        limits.limits.late_limit = 10 * DAY;
        let (names, window) =
            told(&limits, |at| at < utc("2026-12-20T00:00:00Z"), "2026-12-24T13:00:00Z", HOUR);
        assert_eq!(names, ["2026-12-19T12:00[UTC]"]);
        assert_eq!(window[0], "2026-12-19T12:00:00.000Z");
    }

    #[test]
    fn never_late_means_nothing_that_has_passed() {
        let mut hourly = recurring("0 * * * *", "UTC");
        hourly.limits.late_limit = Duration::ZERO;
        let (names, _) = told(&hourly, |_| true, "2026-12-24T12:00:00Z", HOUR);
        assert_eq!(names, ["2026-12-24T13:00[UTC]"]);
    }

    #[test]
    fn what_never_comes_again_is_left_alone() {
        let past = recurring("0 0 12 1 1 * 2020", "UTC");
        let (names, window) = told(&past, |_| true, "2026-12-24T12:00:00Z", HOUR);
        assert_eq!((names.len(), window[1].as_str()), (0, "2026-12-24T13:00:00.000Z"));
    }

    #[test]
    fn an_end_every_minute_has_a_bound() {
        let every = recurring("* * * * *", "UTC");
        let (names, window) = told(&every, |_| true, "2026-12-01T00:00:00Z", 60 * DAY);
        assert_eq!(names.len(), MOST_EXAMINED + 1);
        assert_eq!(window, ["2026-12-01T00:00:00.000Z", "2026-12-03T02:00:00.000Z"]);
        // Nothing of it is allowed: nothing is searched for without end.
        let (names, window) = told(&every, |_| false, "2026-12-01T00:00:00Z", HOUR);
        assert_eq!((names.len(), window[1].as_str()), (0, "2026-12-03T02:00:00.000Z"));
    }

    #[test]
    fn every_identity_is_unique_on_days_with_a_change() {
        for (zone, now) in
            [("Europe/Berlin", "2027-10-30T12:00:00Z"), ("Europe/Berlin", "2027-03-27T12:00:00Z")]
        {
            let (names, _) = told(&recurring("*/5 * * * *", zone), |_| true, now, DAY);
            let mut unique = names.clone();
            unique.sort();
            unique.dedup();
            assert_eq!(unique.len(), names.len());
        }
    }

    #[test]
    fn what_only_leaves_out_for_want_of_an_event_is_in_doubt() {
        let source = super::super::Source::File("/term.ics".into());
        let calendar = super::super::Calendar { source: Some(source.clone()), ..Default::default() };
        let schedule = Schedule {
            recurring: vec![Recurring {
                days: Days { only: vec!["term".to_owned()], except: Vec::new() },
                ..recurring("0 12 * * *", "UTC")
            }],
            calendars: [("term".to_owned(), calendar)].into(),
            ahead: 2 * DAY,
            ..Schedule::default()
        };
        let expanded = |event: &str| {
            let text = format!("BEGIN:VCALENDAR\n{event}END:VCALENDAR");
            let feed = super::super::Feed::parse(text.as_bytes()).unwrap();
            let feeds = Feeds::default().with(source.clone(), std::sync::Arc::new(feed));
            expand(&schedule, &feeds, utc("2026-12-01T00:00:00Z"))
        };
        let odd = expanded("BEGIN:VEVENT\nUID:1\nDTSTART:soon\nEND:VEVENT\n");
        assert!(odd.entries.is_empty() && odd.doubts("standup@2026-12-02T12:00[UTC]"));
        assert!(!expanded("").doubts("standup@2026-12-02T12:00[UTC]"), "an empty term is one");
    }

    /// A yearly end, and a calendar in which every day is off: no year far away is worked out to find that out.
    #[test]
    fn a_calendar_is_not_asked_about_the_year_9999() {
        let source = super::super::Source::File("/off.ics".into());
        let calendar = super::super::Calendar { source: Some(source.clone()), ..Default::default() };
        let schedule = Schedule {
            recurring: vec![Recurring {
                days: Days { only: Vec::new(), except: vec!["off".to_owned()] },
                ..recurring("0 12 24 12 *", "UTC")
            }],
            calendars: [("off".to_owned(), calendar)].into(),
            ahead: 2 * DAY,
            ..Schedule::default()
        };
        let event = "BEGIN:VEVENT\nUID:1\nDTSTART;VALUE=DATE:20200101\nRRULE:FREQ=DAILY\nEND:VEVENT\n";
        let text = format!("BEGIN:VCALENDAR\n{event}END:VCALENDAR");
        let feed = super::super::Feed::parse(text.as_bytes()).unwrap();
        feed.keep_to(2026);
        let feeds = Feeds::default().with(source, std::sync::Arc::new(feed));
        let expansion = expand(&schedule, &feeds, utc("2026-12-01T00:00:00Z"));
        // The first one of which nothing is known; should it be off, its job goes when that is.
        let times: Vec<_> = expansion.entries.iter().map(|entry| entry.at).collect();
        assert_eq!(times, [utc("2029-12-24T12:00:00Z")]);
    }

    #[test]
    fn the_whole_schedule() {
        let schedule = Schedule {
            recurring: vec![recurring("0 12 * * *", "UTC")],
            ahead: 2 * DAY,
            ..Schedule::default()
        };
        let expansion = expand(&schedule, &Feeds::default(), utc("2026-12-01T00:00:00Z"));
        let all: Vec<_> = expansion.entries.iter().map(|entry| (entry.of.as_deref(), entry.at)).collect();
        let at = |text| (Some("standup"), utc(text));
        assert_eq!(all, [at("2026-11-30T12:00:00Z"), at("2026-12-01T12:00:00Z"), at("2026-12-02T12:00:00Z")]);
        assert!(expansion.standing.contains_key("standup") && expansion.recurring.contains_key("standup"));
    }
}
