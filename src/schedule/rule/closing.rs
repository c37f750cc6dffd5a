//! When a rule closes: `close-at` and `closed`, as instants.
//!
//! Local times keep their place on the clock when the clocks change: one that does not exist moves to the end of the gap,
//! one that exists twice is the first of the two.

use std::fmt;

use jiff::civil::{Date, Time, Weekday};
use jiff::tz::{AmbiguousOffset, TimeZone};

use super::super::model::Rule;
use super::super::weekday::weekday;
use crate::job::UtcMs;

/// Closings that have passed are looked back at for so many days: their jobs may still be at work.
const DAYS_BACK: i64 = 7;

/// Days of the week.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Weekdays(u8);

const NAMES: [&str; 7] = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"];

impl Weekdays {
    pub const ALL: Weekdays = Weekdays(0x7f);
    pub const NONE: Weekdays = Weekdays(0);

    /// `Mon`, `Mon-Fri`, over the weekend `Sat-Mon`, and several with commas between them. `None`: it is none of these.
    pub fn parse(text: &str) -> Option<Weekdays> {
        let mut days = Weekdays::NONE;
        for part in text.split(',') {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let (mut at, last) = (weekday(first)?, weekday(last)?);
            days = days.and(Weekdays::one(at));
            while at != last {
                at = at.next();
                days = days.and(Weekdays::one(at));
            }
        }
        Some(days)
    }

    fn one(day: Weekday) -> Weekdays {
        Weekdays(1 << day.to_monday_zero_offset())
    }

    pub fn and(self, other: Weekdays) -> Weekdays {
        Weekdays(self.0 | other.0)
    }

    pub fn has(self, day: Weekday) -> bool {
        self.0 & (1 << day.to_monday_zero_offset()) != 0
    }
}

impl Default for Weekdays {
    fn default() -> Weekdays {
        Weekdays::ALL
    }
}

/// `Mon-Fri`, `Mon, Wed`.
impl fmt::Display for Weekdays {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut runs: Vec<(usize, usize)> = Vec::new();
        for day in (0..NAMES.len()).filter(|day| self.0 & (1 << day) != 0) {
            match runs.last_mut() {
                Some((_, last)) if *last + 1 == day => *last = day,
                _ => runs.push((day, day)),
            }
        }
        let name = |(first, last): (usize, usize)| match last - first {
            0 => NAMES[first].to_owned(),
            1 => format!("{}, {}", NAMES[first], NAMES[last]),
            _ => format!("{}-{}", NAMES[first], NAMES[last]),
        };
        f.write_str(&runs.into_iter().map(name).collect::<Vec<String>>().join(", "))
    }
}

/// One closing of a rule.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Closing {
    /// The local day on which it begins.
    pub day: Date,
    pub from: UtcMs,
    /// When it opens again; `None` for `close-at`, which is a moment.
    pub until: Option<UtcMs>,
}

/// The closings of a week back and of the days after `now`, earliest first: those of `close-at`, and those of `closed`.
pub fn closings(rule: &Rule, now: UtcMs) -> (Vec<Closing>, Vec<Closing>) {
    let today = now.timestamp().to_zoned(rule.timezone.clone()).date();
    // Two days ahead: on the way there the clocks, or the date line, may move.
    let days = (-DAYS_BACK..=2).filter_map(|n| today.checked_add(jiff::Span::new().days(n)).ok());
    let days: Vec<Date> = days.filter(|day| rule.weekdays.has(day.weekday())).collect();
    let moments = rule.close_at.map(|time| days.iter().filter_map(|day| moment(*day, time, rule)).collect());
    let windows = rule.closed.map(|hours| days.iter().filter_map(|day| window(*day, hours, rule)).collect());
    (moments.unwrap_or_default(), windows.unwrap_or_default())
}

/// The closings that begin after `after`, up to and including `until`, earliest first.
pub fn upcoming(rule: &Rule, after: UtcMs, until: UtcMs) -> impl Iterator<Item = Closing> + '_ {
    let day_of = |at: UtcMs| at.timestamp().to_zoned(rule.timezone.clone()).date();
    let (first, last) = (day_of(after), day_of(until));
    // The first one of a day that the clocks move may begin on the day after.
    let days = first.yesterday().unwrap_or(first).series(jiff::Span::new().days(1));
    let days = days.take_while(move |day| *day <= last).filter(|day| rule.weekdays.has(day.weekday()));
    let of_day = |day: Date| {
        let moment = rule.close_at.and_then(|time| moment(day, time, rule));
        let window = rule.closed.and_then(|hours| window(day, hours, rule));
        let mut both: Vec<Closing> = moment.into_iter().chain(window).collect();
        both.sort_by_key(|closing| closing.from);
        both
    };
    days.flat_map(of_day).filter(move |closing| after < closing.from && closing.from <= until)
}

fn moment(day: Date, time: Time, rule: &Rule) -> Option<Closing> {
    Some(Closing { day, from: instant(day, time, &rule.timezone)?, until: None })
}

/// `None` also where the clocks jump over the whole of it.
fn window(day: Date, (from, until): (Time, Time), rule: &Rule) -> Option<Closing> {
    let last = if until > from { day } else { day.tomorrow().ok()? };
    let from = instant(day, from, &rule.timezone)?;
    let until = instant(last, until, &rule.timezone)?;
    (until > from).then_some(Closing { day, from, until: Some(until) })
}

fn instant(day: Date, time: Time, zone: &TimeZone) -> Option<UtcMs> {
    let local = day.to_datetime(time);
    let at = match zone.to_ambiguous_timestamp(local).offset() {
        AmbiguousOffset::Unambiguous { offset } | AmbiguousOffset::Fold { before: offset, .. } => {
            offset.to_timestamp(local).ok()?
        }
        AmbiguousOffset::Gap { after, .. } => {
            // Read with the offset after the gap, the time lies just before the transition.
            let just_before = after.to_timestamp(local).ok()?;
            zone.following(just_before).next()?.timestamp()
        }
    };
    Some(UtcMs::from(at))
}

#[cfg(test)]
mod tests {
    use super::super::tests::rule;
    use super::*;

    #[track_caller]
    fn check(rule: &Rule, now: &str, expected: &[&str]) {
        let now = UtcMs::from(now.parse::<jiff::Timestamp>().unwrap());
        let (moments, windows) = closings(rule, now);
        let tell = |closing: &Closing| match closing.until {
            None => format!("{} {:.0}", closing.day, closing.from.timestamp()),
            Some(until) => {
                format!("{} {:.0} {:.0}", closing.day, closing.from.timestamp(), until.timestamp())
            }
        };
        // Those around now; the others are told by `tell` in the same way.
        let near = |closing: &&Closing| closing.from.ms_since(now).abs() < 36 * 3_600_000;
        let told: Vec<String> = moments.iter().chain(&windows).filter(near).map(tell).collect();
        assert_eq!(told, expected);
    }

    fn time(text: &str) -> Time {
        text.parse().unwrap()
    }

    fn close_at(at: &str, zone: &str) -> Rule {
        Rule { close_at: Some(time(at)), timezone: TimeZone::get(zone).unwrap(), ..rule("r") }
    }

    #[test]
    fn upcoming_ones_in_order() {
        let check = |rule: &Rule, from: &str, until: &str, expected: &[&str]| {
            let at = |text: &str| UtcMs::from(text.parse::<jiff::Timestamp>().unwrap());
            let found: Vec<String> =
                upcoming(rule, at(from), at(until)).map(|closing| closing.from.to_string()).collect();
            assert_eq!(found, expected);
        };
        let mut rule = closed("20:00", "06:00", "Europe/Berlin");
        rule.close_at = Some(time("12:00"));
        rule.weekdays = Weekdays::parse("Sat-Sun").unwrap();
        check(
            &rule,
            "2026-10-23T00:00:00Z",
            "2026-10-25T19:00:00Z",
            &[
                "2026-10-24T10:00:00.000Z",
                "2026-10-24T18:00:00.000Z",
                "2026-10-25T11:00:00.000Z",
                "2026-10-25T19:00:00.000Z",
            ],
        );
        check(&rule, "2026-10-24T10:00:00Z", "2026-10-24T17:59:59Z", &[]);
        let neither = Rule { timezone: TimeZone::UTC, ..super::super::tests::rule("r") };
        check(&neither, "2026-10-24T10:00:00Z", "2027-10-24T17:59:59Z", &[]);
    }

    fn closed(from: &str, until: &str, zone: &str) -> Rule {
        let hours = Some((time(from), time(until)));
        Rule { closed: hours, timezone: TimeZone::get(zone).unwrap(), ..rule("r") }
    }

    #[test]
    fn the_clocks_change() {
        let berlin = close_at("02:30", "Europe/Berlin");
        check(
            &berlin,
            "2026-03-29T00:00:00Z",
            &[
                "2026-03-28 2026-03-28T01:30:00Z",
                "2026-03-29 2026-03-29T01:00:00Z",
                "2026-03-30 2026-03-30T00:30:00Z",
            ],
        );
        check(
            &berlin,
            "2026-10-25T00:00:00Z",
            &[
                "2026-10-24 2026-10-24T00:30:00Z",
                "2026-10-25 2026-10-25T00:30:00Z",
                "2026-10-26 2026-10-26T01:30:00Z",
            ],
        );
        check(
            &close_at("02:15", "Australia/Lord_Howe"),
            "2026-10-03T15:00:00Z",
            &[
                "2026-10-03 2026-10-02T15:45:00Z",
                "2026-10-04 2026-10-03T15:30:00Z",
                "2026-10-05 2026-10-04T15:15:00Z",
            ],
        );
    }

    #[test]
    fn a_day_that_does_not_exist_closes_at_its_end() {
        let apia = close_at("22:00", "Pacific/Apia");
        let all: Vec<String> =
            closings(&apia, UtcMs::from("2011-12-30T09:00:00Z".parse::<jiff::Timestamp>().unwrap()))
                .0
                .iter()
                .map(|closing| format!("{} {:.0}", closing.day, closing.from.timestamp()))
                .collect();
        let missing = all.iter().find(|closing| closing.starts_with("2011-12-30")).unwrap();
        assert_eq!(missing, "2011-12-30 2011-12-30T10:00:00Z");
    }

    #[test]
    fn windows() {
        check(
            &closed("22:00", "06:00", "Europe/Berlin"),
            "2026-10-24T22:00:00Z",
            &[
                "2026-10-23 2026-10-23T20:00:00Z 2026-10-24T04:00:00Z",
                "2026-10-24 2026-10-24T20:00:00Z 2026-10-25T05:00:00Z",
                "2026-10-25 2026-10-25T21:00:00Z 2026-10-26T05:00:00Z",
            ],
        );
        let whole_day = Rule { weekdays: Weekdays::parse("Sun").unwrap(), ..closed("00:00", "00:00", "UTC") };
        check(&whole_day, "2026-11-01T12:00:00Z", &["2026-11-01 2026-11-01T00:00:00Z 2026-11-02T00:00:00Z"]);
        // The clocks jump over it.
        let night = closed("02:10", "02:50", "Europe/Berlin");
        let (_, all) = closings(&night, UtcMs(1_774_746_000_000));
        assert!(
            !all.is_empty() && all.iter().all(|window| window.day.to_string() != "2026-03-29"),
            "{all:?}"
        );
    }

    #[test]
    fn days_of_the_week() {
        for (text, expected) in [
            ("Mon", "Mon"),
            ("monday-Friday", "Mon-Fri"),
            ("Mon,Wed", "Mon, Wed"),
            ("Sat-Mon", "Mon, Sat, Sun"),
            ("Sun-Sat", "Mon-Sun"),
        ] {
            assert_eq!(Weekdays::parse(text).unwrap().to_string(), expected);
        }
        for text in ["", "Mo", "Mon-", "Mon-Fri-Sun", "Montag"] {
            assert_eq!(Weekdays::parse(text), None, "{text}");
        }
        let days = Weekdays::parse("Fri").unwrap().and(Weekdays::parse("Mon").unwrap());
        assert_eq!(days.to_string(), "Mon, Fri");
        assert!(days.has(Weekday::Friday) && !days.has(Weekday::Sunday));
        assert_eq!(Weekdays::parse("Mon-Sun"), Some(Weekdays::ALL));
    }
}
