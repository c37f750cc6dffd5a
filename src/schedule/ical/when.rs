//! Times as events have them.

use jiff::civil::DateTime;
use jiff::tz::{AmbiguousOffset, TimeZone};
use jiff::{SignedDuration, Timestamp};

use crate::job::UtcMs;

/// A time: in a zone (UTC is one), floating, or a whole day.
#[derive(Clone, PartialEq, Debug)]
pub struct When {
    /// Midnight for a whole day.
    pub local: DateTime,
    /// `None`: wherever one is.
    pub zone: Option<TimeZone>,
    pub all_day: bool,
}

/// From the start of an event to its end.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Length {
    /// Days on the calendar, whatever the clocks do.
    pub days: i32,
    /// And this much.
    pub ms: i64,
}

impl When {
    /// The instant; floating times are meant in `here`. A time that does not exist is as much later as the gap is long, of
    /// a time that exists twice the first is meant (RFC 5545, 3.3.5).
    pub fn instant(&self, here: &TimeZone) -> Option<Timestamp> {
        resolve(self.local, self.zone.as_ref().unwrap_or(here))
    }

    /// The clock on the wall of `zone` then; that of a floating time as it is.
    pub fn in_zone(&self, zone: Option<&TimeZone>) -> Option<DateTime> {
        match (&self.zone, zone) {
            (Some(own), Some(zone)) => Some(zone.to_datetime(resolve(self.local, own)?)),
            _ => Some(self.local),
        }
    }

    /// The clock on the wall of an event that begins at `start` then: a floating time is meant on that clock. An instant
    /// beside a floating start is read where floating times are meant, which is `here`.
    pub fn on_clock_of(&self, start: &When, here: &TimeZone) -> Option<DateTime> {
        self.in_zone(Some(start.zone.as_ref().unwrap_or(here)))
    }

    /// What is odd about this time on its own clock, if it does not exist or exists twice.
    pub fn oddity(&self, here: &TimeZone) -> Option<String> {
        let zone = self.zone.as_ref().unwrap_or(here);
        let time = |local: DateTime| {
            local.strftime(if local.second() == 0 { "%H:%M" } else { "%H:%M:%S" }).to_string()
        };
        let ambiguous = zone.to_ambiguous_timestamp(self.local);
        match ambiguous.offset() {
            AmbiguousOffset::Unambiguous { .. } => None,
            AmbiguousOffset::Fold { .. } => Some(format!("{} exists twice: the first", time(self.local))),
            AmbiguousOffset::Gap { .. } => {
                let moved = zone.to_datetime(ambiguous.compatible().ok()?);
                Some(format!("{} does not exist on that day: moved to {}", time(self.local), time(moved)))
            }
        }
    }

    /// The instant at which what begins now is over.
    pub fn end(&self, length: Length, here: &TimeZone) -> Option<UtcMs> {
        let last = self.local.checked_add(jiff::Span::new().try_days(length.days).ok()?).ok()?;
        let end = resolve(last, self.zone.as_ref().unwrap_or(here))?;
        Some(end.checked_add(SignedDuration::from_millis(length.ms)).ok()?.into())
    }

    /// The same on the clock of the event itself.
    pub fn local_end(&self, length: Length) -> Option<DateTime> {
        let last = self.local.checked_add(jiff::Span::new().try_days(length.days).ok()?).ok()?;
        last.checked_add(SignedDuration::from_millis(length.ms)).ok()
    }

    /// As a RECURRENCE-ID names it: `20261124T170000Z`, `20261124T180000` if floating, `20261124`.
    pub fn name(&self) -> String {
        let instant = self.zone.as_ref().and_then(|zone| resolve(self.local, zone));
        match instant {
            _ if self.all_day => self.local.strftime("%Y%m%d").to_string(),
            Some(instant) => instant.strftime("%Y%m%dT%H%M%SZ").to_string(),
            None => self.local.strftime("%Y%m%dT%H%M%S").to_string(),
        }
    }
}

/// A time as it is written: `20261201`, `20261201T170000`, `20261201T170000Z`.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Digits {
    pub local: DateTime,
    pub has_time: bool,
    pub utc: bool,
}

/// Reads a time as it is written.
pub fn digits(text: &str) -> Option<Digits> {
    let text = text.trim().to_ascii_uppercase();
    let (text, utc) = text.strip_suffix('Z').map_or((text.as_str(), false), |text| (text, true));
    let (date, time) = text.split_once('T').map_or((text, None), |(date, time)| (date, Some(time)));
    let number = |digits: &str, from: usize, to: usize| -> Option<i16> {
        digits.get(from..to).filter(|part| part.bytes().all(|b| b.is_ascii_digit()))?.parse().ok()
    };
    let part = |digits: &str, from: usize| i8::try_from(number(digits, from, from + 2)?).ok();
    if date.len() != 8 || time.is_some_and(|time| time.len() != 6) {
        return None;
    }
    let time = match time {
        // jiff knows no leap seconds.
        Some(time) => {
            jiff::civil::Time::new(part(time, 0)?, part(time, 2)?, part(time, 4)?.min(59), 0).ok()?
        }
        None => jiff::civil::Time::midnight(),
    };
    let date = jiff::civil::Date::new(number(date, 0, 4)?, part(date, 4)?, part(date, 6)?).ok()?;
    Some(Digits { local: date.to_datetime(time), has_time: text.contains('T'), utc })
}

fn resolve(local: DateTime, zone: &TimeZone) -> Option<Timestamp> {
    zone.to_ambiguous_timestamp(local).compatible().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn when(local: &str, zone: Option<&str>) -> When {
        let zone = zone.map(|zone| TimeZone::get(zone).unwrap());
        When { local: local.parse().unwrap(), zone, all_day: false }
    }

    #[track_caller]
    fn check(when: &When, length: Length, end: &str) {
        let here = TimeZone::get("America/New_York").unwrap();
        assert_eq!(when.end(length, &here).unwrap().to_string(), end);
    }

    #[test]
    fn ends() {
        let hour = Length { days: 0, ms: 3_600_000 };
        check(&when("2026-12-01T18:00", Some("Europe/Berlin")), hour, "2026-12-01T18:00:00.000Z");
        check(&when("2026-12-01T18:00", Some("UTC")), hour, "2026-12-01T19:00:00.000Z");
        check(&when("2026-12-01T18:00", None), hour, "2026-12-02T00:00:00.000Z");
    }

    #[test]
    fn days_are_nominal_and_hours_are_exact_when_the_clocks_change() {
        // Berlin, 29 March 2026: 02:00 to 03:00 does not exist.
        let evening = when("2026-03-28T22:00", Some("Europe/Berlin"));
        check(&evening, Length { days: 0, ms: 8 * 3_600_000 }, "2026-03-29T05:00:00.000Z");
        check(&evening, Length { days: 1, ms: 0 }, "2026-03-29T20:00:00.000Z");
        check(
            &when("2026-03-29T02:30", Some("Europe/Berlin")),
            Length::default(),
            "2026-03-29T01:30:00.000Z",
        );
        // 25 October 2026: 02:30 exists twice.
        check(
            &when("2026-10-25T02:30", Some("Europe/Berlin")),
            Length::default(),
            "2026-10-25T00:30:00.000Z",
        );
    }

    #[test]
    fn names() {
        assert_eq!(when("2026-12-01T18:00", Some("Europe/Berlin")).name(), "20261201T170000Z");
        assert_eq!(when("2026-12-01T18:00", None).name(), "20261201T180000");
        let day = When { all_day: true, ..when("2026-12-01T00:00", None) };
        assert_eq!(day.name(), "20261201");
    }

    #[test]
    fn the_ends_of_time() {
        let last = when("9999-12-31T23:59", None);
        assert_eq!(last.end(Length { days: 3, ms: 0 }, &TimeZone::UTC), None);
        assert_eq!(last.end(Length { days: i32::MAX, ms: 0 }, &TimeZone::UTC), None);
        assert_eq!(last.local_end(Length { days: 0, ms: i64::MAX }), None);
    }
}
