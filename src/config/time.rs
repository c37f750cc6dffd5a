//! Instants as people write them: RFC 3339, RFC 9557, or a local time with a zone.
//!
//! A deadline is never guessed. A local time that does not exist, or exists twice, on a day when the clocks change is
//! an error that names the instants there are to choose from.

use std::time::Duration;

use jiff::civil::DateTime;
use jiff::fmt::temporal::{Pieces, PiecesOffset};
use jiff::tz::{AmbiguousOffset, Offset, TimeZone};
use jiff::{Timestamp, ToSpan};

use crate::job::UtcMs;
use crate::schedule::zone_named;

/// Why a text is no instant.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum TimeError {
    #[error("{0:?} is not a time")]
    Syntax(String),
    #[error("{0:?} is a relative time")]
    Relative(String),
    #[error("{0:?} is a date without a time of day")]
    DateOnly(String),
    #[error("{0:?} has neither an offset nor a time zone")]
    NoZone(String),
    #[error("{name:?} is not a known time zone")]
    UnknownZone { name: String },
    #[error("{text:?} gives the offset {given}, but {zone} has {actual} then")]
    OffsetConflict { text: String, zone: String, given: String, actual: String },
    #[error("{text:?} does not exist in {zone}: the clocks go forward and the gap ends at {end}")]
    Gap { text: String, zone: String, end: String },
    #[error("{text:?} exists twice in {zone}: {earlier} and {later}")]
    Fold { text: String, zone: String, earlier: String, later: String },
    #[error("{0:?} is out of range")]
    Range(String),
}

impl TimeError {
    /// What to do.
    pub fn hint(&self) -> String {
        match self {
            TimeError::Syntax(_) | TimeError::Range(_) => {
                "write it like 2026-12-01T18:00:00+01:00 or 2026-12-01T18:00:00[Europe/Berlin]".to_owned()
            }
            TimeError::Relative(_) => {
                "a file holds absolute times only; on the command line a duration is given with --in".to_owned()
            }
            TimeError::DateOnly(text) => format!("write {text}T18:00:00 and a time zone"),
            TimeError::NoZone(text) => format!(
                "write {text}+01:00 or {text}[Europe/Berlin], or add timezone = \"Europe/Berlin\" in a file"
            ),
            TimeError::UnknownZone { .. } => {
                "give an IANA name such as Europe/Berlin; the system's time zone data (tzdata) must be installed"
                    .to_owned()
            }
            TimeError::OffsetConflict { .. } => "leave out the offset or the time zone".to_owned(),
            TimeError::Gap { end, .. } => format!("write {end}, or a time before the gap"),
            TimeError::Fold { earlier, later, .. } => format!("write {earlier} or {later}"),
        }
    }
}

/// Why a text is no duration.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum SpanError {
    #[error("{0:?} is no duration")]
    Syntax(String),
    #[error("{text:?} is no duration: {unit:?} means {meaning}, which have no fixed length")]
    Calendar { text: String, unit: String, meaning: &'static str },
}

impl SpanError {
    /// What to do.
    pub fn hint(&self) -> String {
        match self {
            SpanError::Calendar { unit, .. } if unit == "M" => {
                "minutes are m: 10m; for months give days: 30d".to_owned()
            }
            SpanError::Calendar { meaning, .. } => {
                let days = if *meaning == "months" { 30 } else { 365 };
                format!("give days: {days}d")
            }
            SpanError::Syntax(_) => "write it like 90m, \"1h 30m\" or 2d".to_owned(),
        }
    }
}

/// Units that a calendar defines, which the reader of durations would take at an average.
const CALENDAR_UNITS: [(&str, &str); 6] = [
    ("M", "months"),
    ("month", "months"),
    ("months", "months"),
    ("y", "years"),
    ("year", "years"),
    ("years", "years"),
];

/// Reads a duration such as `90m` or `1h 30m`. Months and years are refused: nobody who writes `10M` means ten months, and
/// a deadline is not to be half a day off.
pub fn parse_span(text: &str) -> Result<Duration, SpanError> {
    let text = text.trim();
    let units = text.split(|c: char| !c.is_ascii_alphabetic());
    let calendar = units.flat_map(|word| CALENDAR_UNITS.iter().find(|(unit, _)| *unit == word)).next();
    match (humantime::parse_duration(text), calendar) {
        (Ok(_), Some((unit, meaning))) => {
            Err(SpanError::Calendar { text: text.to_owned(), unit: (*unit).to_owned(), meaning })
        }
        (Ok(span), None) => Ok(span),
        (Err(_), _) => Err(SpanError::Syntax(text.to_owned())),
    }
}

/// Writes a duration as [`parse_span`] reads it: days are the largest unit.
pub fn format_span(span: Duration) -> String {
    const DAY: u64 = 24 * 3600;
    let days = span.as_secs() / DAY;
    let rest = span - Duration::from_secs(days * DAY);
    let named = format!("{days}day{}", if days == 1 { "" } else { "s" });
    match (days, rest.is_zero()) {
        (0, _) => humantime::format_duration(rest).to_string(),
        (_, true) => named,
        (_, false) => format!("{named} {}", humantime::format_duration(rest)),
    }
}

/// Reads an instant: RFC 3339 with an offset, RFC 9557 with a zone in brackets, or a local time in `default_zone`.
/// Files have no default zone unless they name one; the command line has the system's.
///
/// Fractions of a millisecond are rounded up: never early.
pub fn parse_at(text: &str, default_zone: Option<&TimeZone>) -> Result<UtcMs, TimeError> {
    let text = text.trim();
    let own = || text.to_owned();
    let Ok(pieces) = Pieces::parse(text) else {
        return Err(if is_relative(text) { TimeError::Relative(own()) } else { TimeError::Syntax(own()) });
    };
    let Some(time) = pieces.time() else { return Err(TimeError::DateOnly(own())) };
    let local = pieces.date().to_datetime(time);
    let zone = match pieces.time_zone_annotation() {
        None => None,
        Some(annotation) => {
            let unknown = |_| TimeError::UnknownZone { name: annotated(text) };
            Some(annotation.to_time_zone().map_err(unknown)?)
        }
    };
    match (pieces.offset(), zone) {
        (Some(offset), None) => {
            offset.to_numeric_offset().to_timestamp(local).map_err(|_| TimeError::Range(own()))
        }
        (Some(offset), Some(zone)) => checked(text, local, offset, &zone),
        (None, Some(zone)) => at_offset(text, local, &zone),
        (None, None) => match default_zone {
            Some(zone) => at_offset(text, local, zone),
            None => Err(TimeError::NoZone(own())),
        },
    }
    .map(ceiling)
}

/// A zone by its IANA name: as this machine has it, or else as it was built in.
pub fn parse_zone(name: &str) -> Result<TimeZone, TimeError> {
    zone_named(name).ok_or_else(|| TimeError::UnknownZone { name: name.to_owned() })
}

/// `true` if the text itself says where on Earth it is meant.
pub(super) fn has_zone(text: &str) -> bool {
    Pieces::parse(text.trim())
        .is_ok_and(|pieces| pieces.offset().is_some() || pieces.time_zone_annotation().is_some())
}

/// The zone that the text itself names: in brackets, and not only as an offset.
pub(super) fn zone_in(text: &str) -> Option<TimeZone> {
    let pieces = Pieces::parse(text.trim()).ok()?;
    let zone = pieces.time_zone_annotation()?.to_time_zone().ok()?;
    zone.iana_name().is_some().then_some(zone)
}

fn is_relative(text: &str) -> bool {
    let text = text.trim_start_matches(['+', '-']).trim_start_matches("in ");
    ["now", "today", "tomorrow"].iter().any(|word| text.starts_with(word))
        || humantime::parse_duration(text).is_ok()
}

/// What stands in the first brackets.
fn annotated(text: &str) -> String {
    let inner = text.split_once('[').map_or(text, |(_, rest)| rest);
    inner.split(']').next().unwrap_or(inner).to_owned()
}

/// Offset and zone must agree: which of the two was meant cannot be known.
fn checked(
    text: &str,
    local: DateTime,
    offset: PiecesOffset,
    zone: &TimeZone,
) -> Result<Timestamp, TimeError> {
    let given = offset.to_numeric_offset();
    let at = given.to_timestamp(local).map_err(|_| TimeError::Range(text.to_owned()))?;
    let actual = zone.to_offset(at);
    // `Z` beside a zone says no more than that the time is given in UTC (RFC 9557, 2.2).
    if actual == given || matches!(offset, PiecesOffset::Zulu) {
        return Ok(at);
    }
    Err(TimeError::OffsetConflict {
        text: text.to_owned(),
        zone: zone_name(zone),
        given: given.to_string(),
        actual: actual.to_string(),
    })
}

/// The instant of a local time in a zone; an error that names the choices where there is none, or there are two.
pub fn parse_local(local: DateTime, zone: &TimeZone) -> Result<UtcMs, TimeError> {
    at_offset(&local.to_string(), local, zone).map(ceiling)
}

fn at_offset(text: &str, local: DateTime, zone: &TimeZone) -> Result<Timestamp, TimeError> {
    let out_of_range = |_| TimeError::Range(text.to_owned());
    let instant = |offset: Offset| offset.to_timestamp(local).map_err(out_of_range);
    match zone.to_ambiguous_timestamp(local).offset() {
        AmbiguousOffset::Unambiguous { offset } => instant(offset),
        AmbiguousOffset::Gap { after, .. } => {
            // Read with the offset after the gap, the time lies just before the transition.
            let just_before = instant(after)?;
            let end = zone.following(just_before).next().map_or(just_before, |step| step.timestamp());
            Err(TimeError::Gap { text: text.to_owned(), zone: zone_name(zone), end: show(end, zone) })
        }
        AmbiguousOffset::Fold { before, after } => Err(TimeError::Fold {
            text: text.to_owned(),
            zone: zone_name(zone),
            earlier: show(instant(before)?, zone),
            later: show(instant(after)?, zone),
        }),
    }
}

fn show(at: Timestamp, zone: &TimeZone) -> String {
    at.to_zoned(zone.clone()).strftime("%Y-%m-%dT%H:%M:%S%:z").to_string()
}

fn zone_name(zone: &TimeZone) -> String {
    zone.iana_name().unwrap_or("the local time zone").to_owned()
}

fn ceiling(at: Timestamp) -> UtcMs {
    let floor = UtcMs::from(at);
    let whole = at.subsec_nanosecond() % 1_000_000 == 0;
    // Before 1970 truncation already rounds up.
    if whole || at < Timestamp::UNIX_EPOCH { floor } else { UtcMs(floor.0 + 1) }
}

/// The instant so many years after `now`, for the note on far-away times.
pub(super) fn years_after(now: UtcMs, years: i64) -> UtcMs {
    now.timestamp().checked_add((years * 366 * 24).hours()).map_or(UtcMs::MAX, UtcMs::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, zone: Option<&str>, expected: &str) {
        let zone = zone.map(|name| parse_zone(name).unwrap());
        let found = match parse_at(text, zone.as_ref()) {
            Ok(at) => at.to_string(),
            Err(error) => error.to_string(),
        };
        assert_eq!(found, expected);
    }

    #[test]
    fn instants() {
        check("2026-12-01T18:00:00+01:00", None, "2026-12-01T17:00:00.000Z");
        check("2026-12-01T18:00:00Z", None, "2026-12-01T18:00:00.000Z");
        check("2026-12-01 18:00+01:00", None, "2026-12-01T17:00:00.000Z");
        check("2026-12-01T18:00:00[Europe/Berlin]", None, "2026-12-01T17:00:00.000Z");
        check("2026-07-01T18:00:00+02:00[Europe/Berlin]", None, "2026-07-01T16:00:00.000Z");
        check("2026-07-01T16:00:00Z[Europe/Berlin]", None, "2026-07-01T16:00:00.000Z");
        check("2026-12-01T18:00:00", Some("Europe/Berlin"), "2026-12-01T17:00:00.000Z");
        check(" 2026-12-01T18:00 ", Some("America/New_York"), "2026-12-01T23:00:00.000Z");
        check("2026-12-01T18:00:00+01:00", Some("America/New_York"), "2026-12-01T17:00:00.000Z");
        check("2026-12-01T18:00:00.000001Z", None, "2026-12-01T18:00:00.001Z");
    }

    #[test]
    fn durations_without_months_and_years() {
        assert_eq!(parse_span(" 1h 30m "), Ok(Duration::from_secs(5_400)));
        assert_eq!(parse_span("2weeks 1ms"), Ok(Duration::from_millis(1_209_600_001)));
        for (secs, text) in
            [(0, "0s"), (5_400, "1h 30m"), (86_400, "1day"), (90 * 86_400 + 61, "90days 1m 1s")]
        {
            let span = Duration::from_secs(secs);
            assert_eq!((format_span(span).as_str(), parse_span(text)), (text, Ok(span)));
        }
        assert_eq!(parse_span(&format_span(Duration::MAX)), Ok(Duration::MAX));
        let check = |text: &str, error: &str, hint: &str| {
            let found = parse_span(text).unwrap_err();
            assert_eq!((found.to_string().as_str(), found.hint().as_str()), (error, hint));
        };
        check(
            "10M",
            "\"10M\" is no duration: \"M\" means months, which have no fixed length",
            "minutes are m: 10m; for months give days: 30d",
        );
        check(
            "1h 2y",
            "\"1h 2y\" is no duration: \"y\" means years, which have no fixed length",
            "give days: 365d",
        );
        check(
            "1month",
            "\"1month\" is no duration: \"month\" means months, which have no fixed length",
            "give days: 30d",
        );
        check("90", "\"90\" is no duration", "write it like 90m, \"1h 30m\" or 2d");
    }

    #[test]
    fn not_instants() {
        check("", None, "\"\" is not a time");
        check("18:00", None, "\"18:00\" is not a time");
        check("2026-13-01T18:00:00Z", None, "\"2026-13-01T18:00:00Z\" is not a time");
        check("90m", None, "\"90m\" is a relative time");
        check("+1h 30m", None, "\"+1h 30m\" is a relative time");
        check("in 10 minutes", None, "\"in 10 minutes\" is a relative time");
        check("tomorrow 18:00", None, "\"tomorrow 18:00\" is a relative time");
        check("2026-12-01", Some("Europe/Berlin"), "\"2026-12-01\" is a date without a time of day");
        check("2026-12-01T18:00:00", None, "\"2026-12-01T18:00:00\" has neither an offset nor a time zone");
        check("2026-12-01T18:00:00[Europe/Berln]", None, "\"Europe/Berln\" is not a known time zone");
        check(
            "2026-07-01T18:00:00+01:00[Europe/Berlin]",
            None,
            "\"2026-07-01T18:00:00+01:00[Europe/Berlin]\" gives the offset +01, but Europe/Berlin has +02 then",
        );
    }

    #[test]
    fn days_on_which_the_clocks_change() {
        check(
            "2026-03-29T02:30:00[Europe/Berlin]",
            None,
            "\"2026-03-29T02:30:00[Europe/Berlin]\" does not exist in Europe/Berlin: the clocks go forward and the \
             gap ends at 2026-03-29T03:00:00+02:00",
        );
        check(
            "2026-10-25T02:30:00",
            Some("Europe/Berlin"),
            "\"2026-10-25T02:30:00\" exists twice in Europe/Berlin: 2026-10-25T02:30:00+02:00 and \
             2026-10-25T02:30:00+01:00",
        );
        check("2026-10-25T02:30:00+01:00[Europe/Berlin]", None, "2026-10-25T01:30:00.000Z");
        check("2026-03-29T03:00:00", Some("Europe/Berlin"), "2026-03-29T01:00:00.000Z");
    }

    #[test]
    fn what_the_hint_of_an_ambiguous_time_names_is_accepted() {
        let zone = parse_zone("America/New_York").unwrap();
        let Err(TimeError::Fold { earlier, later, .. }) = parse_at("2026-11-01T01:30:00", Some(&zone)) else {
            panic!("not a fold");
        };
        let (earlier, later) = (parse_at(&earlier, None).unwrap(), parse_at(&later, None).unwrap());
        assert_eq!(later.ms_since(earlier), 3_600_000);
    }
}
