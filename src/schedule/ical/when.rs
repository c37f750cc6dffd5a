//! Times as events have them.

use jiff::civil::DateTime;
use jiff::tz::TimeZone;
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
