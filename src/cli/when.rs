//! Times as people type them: `18:00`, `6pm`, `tomorrow 18:00`, `Mon 18:00`, `+15m`, `2026-12-01 18:00`, RFC 3339, RFC 9557.
//!
//! Nothing is guessed: a wall-clock time that does not exist, or exists twice, is an error that names the choices, and so
//! is a time that has passed.

use std::time::Duration;

use jiff::ToSpan;
use jiff::civil::{Date, DateTime, Time};
use jiff::tz::TimeZone;

use super::failure::Failure;
use super::say;
use crate::config::time::{TimeError, parse_at, parse_local, parse_span};
use crate::job::{Now, UtcMs};
use crate::schedule::{weekday, zone_named};

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
        return Err(WhenError { what, hint: instead(text, zone, now) });
    }
    Ok(at)
}

/// What whoever gave a time that has passed may have meant.
fn instead(text: &str, zone: &TimeZone, now: Now) -> String {
    let tomorrow = format!("tomorrow {}", text.trim());
    match (time_of_day(text.trim()), instant(&tomorrow, zone, now)) {
        (Some(_), Ok(at)) => {
            let at = say::moment(at, zone, now);
            format!("for {at}, give \"{tomorrow}\"")
        }
        _ => "give a time that lies ahead, or end it at once: --now".to_owned(),
    }
}

/// `--since`, `--until` of a listing: any instant, a day (its beginning), or a duration from now.
pub fn bound(text: &str, zone: &TimeZone, now: Now, toward: Toward) -> Result<UtcMs, WhenError> {
    if let Ok(distance) = parse_span(text) {
        return Ok(match toward {
            Toward::Past => now.wall - distance,
            Toward::Future => now.wall + distance,
        });
    }
    let today = now.wall.timestamp().to_zoned(zone.clone()).date();
    let day = match text {
        "today" => Ok(today),
        "yesterday" => Ok(today.yesterday().unwrap_or(today)),
        _ => text.parse::<Date>(),
    };
    match day {
        Ok(day) if !text.contains(':') => local(day.to_datetime(Time::midnight()), zone),
        _ => instant(text, zone, now),
    }
}

/// `--in`, `--for`, `--timeout`: for clap.
pub fn duration(text: &str) -> Result<Duration, String> {
    parse_span(text).map_err(|why| format!("{why}; {}", why.hint()))
}

/// `--timezone`: for clap.
pub fn time_zone(name: &str) -> Result<TimeZone, String> {
    zone_named(name).ok_or_else(|| "no such time zone; write it as Europe/Berlin".to_owned())
}

fn instant(text: &str, zone: &TimeZone, now: Now) -> Result<UtcMs, WhenError> {
    let text = text.trim();
    if let Some(distance) = text.strip_prefix('+') {
        return parse_span(distance)
            .map(|distance| now.wall + distance)
            .map_err(|why| WhenError { what: why.to_string(), hint: why.hint() });
    }
    let here = now.wall.timestamp().to_zoned(zone.clone()).datetime();
    if let Some(time) = time_of_day(text) {
        return local(here.date().to_datetime(time), zone);
    }
    if let Some((day, time)) = text.split_once(char::is_whitespace)
        && let Some(time) = time_of_day(time.trim())
        && let Some(at) = on_day(&day.to_lowercase(), time, here)
    {
        return local(at, zone);
    }
    parse_at(text, Some(zone)).map_err(|error| explained(&error))
}

/// `today`, `tomorrow`, or the next day of that name: today's only as long as the time is ahead.
fn on_day(day: &str, time: Time, here: DateTime) -> Option<DateTime> {
    let date = match day {
        "today" => here.date(),
        "tomorrow" => here.date().tomorrow().ok()?,
        name => {
            let weekday = weekday(name)?;
            let ahead = i64::from(here.date().weekday().until(weekday));
            let days = if ahead == 0 && time < here.time() { 7 } else { ahead };
            here.date().checked_add(days.days()).ok()?
        }
    };
    Some(date.to_datetime(time))
}

/// `6pm`, `6:30 pm`, `12am`; 12am is midnight.
fn half_day(text: &str) -> Option<Time> {
    let text = text.to_lowercase();
    let (clock, noon) = match (text.strip_suffix("am"), text.strip_suffix("pm")) {
        (Some(clock), _) => (clock, 0),
        (_, Some(clock)) => (clock, 12),
        _ => return None,
    };
    let (hour, minute) = clock.trim().split_once(':').unwrap_or((clock.trim(), "00"));
    let digits =
        |part: &str| part.bytes().all(|b| b.is_ascii_digit()).then(|| part.parse::<i8>().ok()).flatten();
    let hour = digits(hour).filter(|hour| (1..=12).contains(hour))?;
    Time::new(hour % 12 + noon, digits(minute).filter(|_| minute.len() == 2)?, 0, 0).ok()
}

/// Only what looks like a clock face, or ends in am or pm: the parser would also read `1800` as a time.
fn time_of_day(text: &str) -> Option<Time> {
    if let Some(time) = half_day(text) {
        return Some(time);
    }
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
            "a time is 18:00, 6pm, \"tomorrow 18:00\", \"Mon 18:00\", +45m, \"2026-12-01 18:00\", or \
             2026-12-01T18:00:00+01:00"
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
    fn reads_the_words_of_people() {
        // It is a Tuesday.
        check("6pm", Ok("2026-12-01T17:00:00.000Z"));
        check("6:30 PM", Ok("2026-12-01T17:30:00.000Z"));
        check("tomorrow 12am", Ok("2026-12-01T23:00:00.000Z"));
        check("tomorrow 12:05pm", Ok("2026-12-02T11:05:00.000Z"));
        check("tomorrow 18:00", Ok("2026-12-02T17:00:00.000Z"));
        check("today  18:00", Ok("2026-12-01T17:00:00.000Z"));
        check("Tue 18:00", Ok("2026-12-01T17:00:00.000Z"));
        check("tue 17:00", Ok("2026-12-08T16:00:00.000Z"));
        check("Monday 8:15", Ok("2026-12-07T07:15:00.000Z"));
        check("wed 6am", Ok("2026-12-02T05:00:00.000Z"));
        check("+15m", Ok("2026-12-01T16:30:00.000Z"));
        check("+1h 30m", Ok("2026-12-01T17:45:00.000Z"));
        check("+10M", Err("means months"));
        for text in
            ["13pm", "0am", "6:5pm", "pm", "mo 18:00", "Mon", "tomorrow", "tomorrow 18", "yesterday 18:00"]
        {
            assert!(deadline(text, &berlin(), NOW).is_err(), "{text}");
        }
        let error = deadline("17:00", &berlin(), NOW).unwrap_err();
        assert_eq!(error.hint, "for Wed 2026-12-02 17:00:00 CET, in 23h 45m, give \"tomorrow 17:00\"");
        let error = deadline("2026-11-30 18:00", &berlin(), NOW).unwrap_err();
        assert_eq!(error.hint, "give a time that lies ahead, or end it at once: --now");
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
        assert!(duration("90").unwrap_err().contains("write it like 90m"));
        assert!(duration("10M").unwrap_err().contains("minutes are m: 10m"));
        assert!(time_zone("Europe/Berlin").is_ok());
        assert!(time_zone("Mars/Olympus").is_err());
    }
}
