//! Times as people type them: `18:00`, `2026-12-01 18:00`, RFC 3339, RFC 9557, `90m`.
//!
//! Nothing is guessed: a wall-clock time that does not exist, or exists twice, is an error that names the choices, and so
//! is a time that has passed.

use std::time::Duration;

use jiff::civil::{Date, DateTime, Time};
use jiff::tz::TimeZone;

use super::failure::Failure;
use super::say;
use crate::config::time::{TimeError, parse_at, parse_local};
use crate::job::{Now, UtcMs};
use crate::schedule::zone_named;

/// Why a text is no time for this purpose.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{what}")]
pub struct WhenError {
    pub what: String,
    pub hint: String,
}

impl From<WhenError> for Failure {
    fn from(error: WhenError) -> Failure {
        Failure::usage(error.what).hint(error.hint)
    }
}

/// Where a bare duration points.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Toward {
    Past,
    Future,
}

/// `--at`, `--until` of a deadline: an instant that has not passed.
pub fn deadline(text: &str, zone: &TimeZone, now: Now) -> Result<UtcMs, WhenError> {
    let at = instant(text, zone, now)?;
    if at < now.wall {
        let what = format!("{} has passed ({})", say::absolute(at, zone, now), say::relative(at, now));
        return Err(WhenError {
            what,
            hint: "give a time that lies ahead; `--now` means at once".to_owned(),
        });
    }
    Ok(at)
}

/// `--since`, `--until` of a listing: any instant, a day (its beginning), or a duration from now.
pub fn bound(text: &str, zone: &TimeZone, now: Now, toward: Toward) -> Result<UtcMs, WhenError> {
    if let Ok(distance) = humantime::parse_duration(text) {
        return Ok(match toward {
            Toward::Past => now.wall - distance,
            Toward::Future => now.wall + distance,
        });
    }
    match text.parse::<Date>() {
        Ok(day) if !text.contains(':') => local(day.to_datetime(Time::midnight()), zone),
        _ => instant(text, zone, now),
    }
}

/// `--in`, `--for`, `--timeout`: for clap.
pub fn duration(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text).map_err(|error| format!("{error}; write it as 90m or \"1h 30m\""))
}

/// `--timezone`: for clap.
pub fn time_zone(name: &str) -> Result<TimeZone, String> {
    zone_named(name).ok_or_else(|| "no such time zone; write it as Europe/Berlin".to_owned())
}

fn instant(text: &str, zone: &TimeZone, now: Now) -> Result<UtcMs, WhenError> {
    let text = text.trim();
    if let Some(time) = time_of_day(text) {
        let today = now.wall.timestamp().to_zoned(zone.clone()).date();
        return local(today.to_datetime(time), zone);
    }
    parse_at(text, Some(zone)).map_err(|error| explained(&error))
}

/// Only what looks like a clock face: the parser would also read `1800` as a time.
fn time_of_day(text: &str) -> Option<Time> {
    let clock_face = text.contains(':') && text.bytes().all(|b| b.is_ascii_digit() || b == b':' || b == b'.');
    let padded = if text.find(':') == Some(1) { format!("0{text}") } else { text.to_owned() };
    clock_face.then(|| padded.parse().ok()).flatten()
}

fn local(at: DateTime, zone: &TimeZone) -> Result<UtcMs, WhenError> {
    parse_local(at, zone).map_err(|error| explained(&error))
}

fn explained(error: &TimeError) -> WhenError {
    let hint = match error {
        TimeError::Gap { .. } | TimeError::Fold { .. } => {
            return WhenError { what: error.to_string(), hint: error.hint() };
        }
        TimeError::DateOnly(_) => "add the time of day: \"2026-12-01 18:00\"",
        _ => {
            "a time is 18:00 (today), \"2026-12-01 18:00\", or 2026-12-01T18:00:00+01:00; a duration goes with --in"
        }
    };
    WhenError { what: error.to_string(), hint: hint.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::fake::NOW;

    fn berlin() -> TimeZone {
        TimeZone::get("Europe/Berlin").unwrap()
    }

    #[track_caller]
    fn check(text: &str, expected: Result<&str, &str>) {
        check_at(text, NOW, expected);
    }

    #[track_caller]
    fn check_at(text: &str, now: Now, expected: Result<&str, &str>) {
        match (deadline(text, &berlin(), now), expected) {
            (Ok(at), Ok(expected)) => assert_eq!(at.to_string(), expected, "{text}"),
            (Err(error), Err(part)) => {
                assert!(error.what.contains(part), "{text}: {error}");
                assert!(!error.hint.is_empty());
            }
            (got, _) => panic!("{text}: {got:?}, expected {expected:?}"),
        }
    }

    fn on(text: &str) -> Now {
        Now { wall: parse_at(text, None).unwrap(), ..NOW }
    }

    #[test]
    fn reads_every_documented_form() {
        // It is 17:15 in Berlin.
        check("18:00", Ok("2026-12-01T17:00:00.000Z"));
        check("18:00:30", Ok("2026-12-01T17:00:30.000Z"));
        check_at("9:05", on("2026-12-01T00:00:00Z"), Ok("2026-12-01T08:05:00.000Z"));
        check("2026-12-01 18:00", Ok("2026-12-01T17:00:00.000Z"));
        check("2026-12-02T18:00", Ok("2026-12-02T17:00:00.000Z"));
        check("2026-12-01T18:00:00-05:00", Ok("2026-12-01T23:00:00.000Z"));
        check("2026-12-01T18:00Z", Ok("2026-12-01T18:00:00.000Z"));
        check("2026-12-01T13:00[America/New_York]", Ok("2026-12-01T18:00:00.000Z"));
    }

    #[test]
    fn today_is_that_of_the_zone() {
        // 23:30 UTC on the first is 00:30 on the second in Berlin.
        check_at("18:00", on("2026-12-01T23:30:00Z"), Ok("2026-12-02T17:00:00.000Z"));
    }

    #[test]
    fn what_has_passed_is_an_error() {
        check("17:00", Err("17:00:00 CET has passed (15m ago)"));
        check("2026-11-30 18:00", Err("Mon 2026-11-30 18:00:00 CET has passed"));
        check("2026-12-01T17:14:59.999+01:00", Err("has passed"));
        check("2026-12-01T17:15:00+01:00", Ok("2026-12-01T16:15:00.000Z"));
    }

    #[test]
    fn nonsense_is_an_error() {
        for text in ["", "soon", "1800", "25:00", "18", "18:00 Uhr", "2026-13-01 18:00", "12:00:00:00"] {
            check(text, Err("is not a time"));
        }
        check("45m", Err("is a relative time"));
        check("2026-12-02", Err("without a time of day"));
    }

    #[test]
    fn a_time_that_the_clocks_skip_or_repeat_is_an_error_with_the_choices() {
        let spring = on("2026-03-29T00:00:00Z");
        check_at(
            "02:30",
            spring,
            Err(
                "does not exist in Europe/Berlin: the clocks go forward and the gap ends at 2026-03-29T03:00:00+02:00",
            ),
        );
        check_at("2026-03-29 01:59:59", spring, Ok("2026-03-29T00:59:59.000Z"));
        check_at("2026-03-29 03:00", spring, Ok("2026-03-29T01:00:00.000Z"));
        let autumn = on("2026-10-24T22:00:00Z");
        check_at(
            "02:30",
            autumn,
            Err("exists twice in Europe/Berlin: 2026-10-25T02:30:00+02:00 and 2026-10-25T02:30:00+01:00"),
        );
        check_at("2026-10-25T02:30+02:00", autumn, Ok("2026-10-25T00:30:00.000Z"));
        check_at("2026-10-25 03:00", autumn, Ok("2026-10-25T02:00:00.000Z"));
    }

    #[test]
    fn bounds_of_a_listing_may_lie_anywhere() {
        let zone = berlin();
        let check = |text, toward, expected: &str| {
            assert_eq!(bound(text, &zone, NOW, toward).unwrap().to_string(), expected, "{text}");
        };
        check("2h", Toward::Past, "2026-12-01T14:15:00.000Z");
        check("2h", Toward::Future, "2026-12-01T18:15:00.000Z");
        check("2026-11-30", Toward::Past, "2026-11-29T23:00:00.000Z");
        check("2026-11-30 12:00", Toward::Past, "2026-11-30T11:00:00.000Z");
        check("12:00", Toward::Past, "2026-12-01T11:00:00.000Z");
        assert!(bound("last week", &zone, NOW, Toward::Past).is_err());
    }

    #[test]
    fn durations_and_zones_for_clap() {
        assert_eq!(duration("1h 30m"), Ok(Duration::from_secs(5400)));
        assert!(duration("90").unwrap_err().contains("write it as 90m"));
        assert!(time_zone("Europe/Berlin").is_ok());
        assert!(time_zone("Mars/Olympus").is_err());
    }
}
