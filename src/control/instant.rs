//! Instants as people and programs write them: RFC 3339 and RFC 9557.

use std::fmt::Write;

use jiff::Timestamp;
use jiff::civil::{DateTime, Time};
use jiff::fmt::temporal::{DateTimeParser, Pieces};
use jiff::tz::{AmbiguousOffset, Disambiguation, OffsetConflict, TimeZone};

use crate::job::UtcMs;

static PARSER: DateTimeParser =
    DateTimeParser::new().offset_conflict(OffsetConflict::Reject).disambiguation(Disambiguation::Reject);

/// Why a text is no instant.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum InstantError {
    #[error("{text:?} is no time; write it as 2026-12-01T18:00:00+01:00 or 2026-12-01T18:00[Europe/Berlin]")]
    Malformed { text: String },
    #[error("{text:?} has a date but no time of day")]
    NoTime { text: String },
    /// A wall-clock time that could be anywhere.
    #[error(
        "{text:?} has no time zone; write it with an offset (2026-12-01T18:00:00+01:00) or a zone ([Europe/Berlin])"
    )]
    NoZone { text: String, local: DateTime },
    #[error("{local} does not exist in {zone}, where the clocks go forward over it; choose {choices}")]
    Gap { local: DateTime, zone: String, choices: String },
    #[error("{local} exists twice in {zone}, where the clocks go back; choose {choices}")]
    Fold { local: DateTime, zone: String, choices: String },
    /// The offset and the zone contradict each other, the zone is unknown, the time is out of range.
    #[error("{text:?} is no time: {why}")]
    Invalid { text: String, why: String },
}

/// Reads an instant that says where it is. What is finer than a millisecond is rounded up: never early.
pub fn parse_instant(text: &str) -> Result<UtcMs, InstantError> {
    let text = text.trim();
    let malformed = || InstantError::Malformed { text: text.to_owned() };
    let pieces = Pieces::parse(text).map_err(|_| malformed())?;
    if pieces.time().is_none() {
        return Err(InstantError::NoTime { text: text.to_owned() });
    }
    let invalid =
        |error: jiff::Error| InstantError::Invalid { text: text.to_owned(), why: error.to_string() };
    match (pieces.offset().is_some(), pieces.to_time_zone().map_err(invalid)?) {
        (true, None) => PARSER.parse_timestamp(text).map(round_up).map_err(invalid),
        (true, Some(_)) => PARSER.parse_zoned(text).map(|at| round_up(at.timestamp())).map_err(invalid),
        (false, Some(zone)) => resolve_local(local(&pieces), &zone),
        (false, None) => Err(InstantError::NoZone { text: text.to_owned(), local: local(&pieces) }),
    }
}

/// The instant of a wall-clock time in a zone; an error that names the choices where there is none, or there are two.
pub fn resolve_local(local: DateTime, zone: &TimeZone) -> Result<UtcMs, InstantError> {
    let at = zone.to_ambiguous_timestamp(local);
    let choices = || {
        let (early, late) = (at.earlier(), at.later());
        let mut text = String::new();
        for choice in [early, late].into_iter().flatten() {
            let joint = if text.is_empty() { "" } else { " or " };
            let shown = choice.to_zoned(zone.clone()).strftime("%Y-%m-%dT%H:%M:%S%:z").to_string();
            let _ = write!(text, "{joint}{shown}");
        }
        text
    };
    let name = zone.iana_name().unwrap_or("this time zone").to_owned();
    match at.offset() {
        AmbiguousOffset::Gap { .. } => Err(InstantError::Gap { local, zone: name, choices: choices() }),
        AmbiguousOffset::Fold { .. } => Err(InstantError::Fold { local, zone: name, choices: choices() }),
        AmbiguousOffset::Unambiguous { .. } => at
            .unambiguous()
            .map(round_up)
            .map_err(|error| InstantError::Invalid { text: local.to_string(), why: error.to_string() }),
    }
}

fn local(pieces: &Pieces<'_>) -> DateTime {
    pieces.date().to_datetime(pieces.time().unwrap_or(Time::midnight()))
}

fn round_up(at: Timestamp) -> UtcMs {
    let ms = at.as_millisecond();
    let finer = Timestamp::from_millisecond(ms).is_ok_and(|whole| whole < at);
    UtcMs(ms + i64::from(finer))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: Result<&str, &str>) {
        match (parse_instant(text), expected) {
            (Ok(at), Ok(expected)) => assert_eq!(at.to_string(), expected, "{text}"),
            (Err(error), Err(part)) => assert!(error.to_string().contains(part), "{text}: {error}"),
            (got, _) => panic!("{text}: {got:?}, expected {expected:?}"),
        }
    }

    #[test]
    fn reads_instants_that_say_where_they_are() {
        check("2026-12-01T18:00:00+01:00", Ok("2026-12-01T17:00:00.000Z"));
        check(" 2026-12-01T18:00Z ", Ok("2026-12-01T18:00:00.000Z"));
        check("2026-12-01 18:00:00.25-05:00", Ok("2026-12-01T23:00:00.250Z"));
        check("2026-12-01T18:00[Europe/Berlin]", Ok("2026-12-01T17:00:00.000Z"));
        check("2026-12-01T18:00+01:00[Europe/Berlin]", Ok("2026-12-01T17:00:00.000Z"));
        check("2026-12-01T17:00Z[Europe/Berlin]", Ok("2026-12-01T17:00:00.000Z"));
    }

    #[test]
    fn never_early_by_rounding() {
        check("2026-12-01T18:00:00.0001Z", Ok("2026-12-01T18:00:00.001Z"));
        check("1969-12-31T23:59:59.9991Z", Ok("1970-01-01T00:00:00.000Z"));
        check("1969-12-31T23:59:59.9985Z", Ok("1969-12-31T23:59:59.999Z"));
    }

    #[test]
    fn refuses_what_could_be_several_instants_or_none() {
        check("2026-12-01T18:00", Err("has no time zone"));
        check("2026-12-01", Err("no time of day"));
        check("tomorrow", Err("is no time"));
        check("", Err("is no time"));
        check("2026-12-01T18:00+05:00[Europe/Berlin]", Err("is no time"));
        check("2026-12-01T18:00[Mars/Olympus]", Err("Mars/Olympus"));
        check("2026-02-30T18:00Z", Err("is no time"));
        check(
            "2026-03-29T02:30[Europe/Berlin]",
            Err("does not exist in Europe/Berlin, where the clocks go forward over it; \
                 choose 2026-03-29T01:30:00+01:00 or 2026-03-29T03:30:00+02:00"),
        );
        check(
            "2026-10-25T02:30[Europe/Berlin]",
            Err("choose 2026-10-25T02:30:00+02:00 or 2026-10-25T02:30:00+01:00"),
        );
        check("2026-10-25T02:30+01:00[Europe/Berlin]", Ok("2026-10-25T01:30:00.000Z"));
    }
}
