//! VTIMEZONE (RFC 5545, 3.6.5): a time zone that a feed brings along, evaluated.
//!
//! Each STANDARD and DAYLIGHT says when it begins, on the clock that was there before, how often that comes again, and what
//! the clock shows from then on. All that they ever begin is worked out up to [`LAST_YEAR`] and handed to jiff in the form
//! of the system's own zones (TZif), so that a zone of a feed is a zone like any other: with its gaps, and with its times
//! that exist twice.

use std::collections::BTreeMap;

use jiff::civil::{Date, DateTime};
use jiff::tz::{Offset, TimeZone};
use jiff::{SignedDuration, Timestamp, ToSpan};

use super::lines::{Parts, parts};
use super::rule::Rule;
use super::split::Block;
use super::when::digits;

/// Nothing of a feed is later (see `event`).
const LAST_YEAR: i16 = 2201;
/// Outlook's zones begin in 1601. What comes so early is left out.
const FIRST_YEAR: i16 = 1850;
/// Changes of one zone: two a year, from the first year to the last, and many more.
const MAX_CHANGES: usize = 4_000;

/// What a VTIMEZONE says, before it is worked out.
#[derive(Clone, Debug, Default)]
pub struct Definition {
    pub name: String,
    /// `X-LIC-LOCATION`: the IANA zone that it was made from.
    pub location: Option<String>,
    /// `X-MICROSOFT-CDO-TZID`: Exchange's number for the zone that it was made from.
    pub number: Option<String>,
    observances: Vec<Observance>,
    /// Something of it cannot be read: it is not the whole zone.
    odd: bool,
}

/// One STANDARD or DAYLIGHT.
#[derive(Clone, Debug, Default)]
struct Observance {
    /// On the clock that was there before.
    start: Option<DateTime>,
    from: Option<i32>,
    to: Option<i32>,
    rules: Vec<Rule>,
    more: Vec<DateTime>,
}

impl Definition {
    /// `None`: it has no name.
    pub fn read(block: &Block) -> Option<Definition> {
        let mut definition = Definition { odd: block.cut, ..Definition::default() };
        let mut name = None;
        let mut open: Option<Observance> = None;
        for line in &block.lines {
            let Some(parts) = parts(&line.text) else { continue };
            match (parts.name.as_str(), &mut open) {
                ("BEGIN", _) => open = Some(Observance::default()),
                ("END", _) => definition.observances.extend(open.take()),
                (_, Some(observance)) => definition.odd |= observance.add(&parts).is_none(),
                ("TZID", None) => name = Some(unescaped(parts.value)),
                ("X-LIC-LOCATION", None) => definition.location = Some(unescaped(parts.value)),
                ("X-MICROSOFT-CDO-TZID", None) => definition.number = Some(parts.value.to_owned()),
                _ => {}
            }
        }
        definition.name = name.filter(|name| !name.is_empty())?;
        Some(definition)
    }

    /// Does it say anything by itself?
    pub fn has_rules(&self) -> bool {
        !self.observances.is_empty()
    }

    /// The zone. `None`: what it says is not enough, or makes no sense.
    pub fn zone(&self) -> Option<TimeZone> {
        if self.odd {
            return None;
        }
        // By instant; the offset before, and the one from then on.
        let mut changes: BTreeMap<i64, (i32, i32)> = BTreeMap::new();
        for observance in &self.observances {
            for (at, from, to) in observance.changes()? {
                changes.insert(at, (from, to));
            }
        }
        let (_, (first, _)) = changes.first_key_value()?;
        let changes_of: Vec<(i64, i32)> = changes.iter().map(|(at, (_, to))| (*at, *to)).collect();
        if changes_of.len() > MAX_CHANGES {
            return None;
        }
        if changes_of.iter().all(|(_, to)| to == first) {
            return Some(TimeZone::fixed(Offset::from_seconds(*first).ok()?));
        }
        TimeZone::tzif(&self.name, &tzif(*first, &changes_of)?).ok()
    }
}

impl Observance {
    /// `None`: the line cannot be read.
    fn add(&mut self, line: &Parts<'_>) -> Option<()> {
        match line.name.as_str() {
            "DTSTART" => self.start = Some(digits(line.value)?.local),
            "TZOFFSETFROM" => self.from = Some(offset(line.value)?),
            "TZOFFSETTO" => self.to = Some(offset(line.value)?),
            "RRULE" => self.rules.push(Rule::parse(line.value).ok()?),
            "RDATE" => {
                for value in line.value.split(',').filter(|value| !value.trim().is_empty()) {
                    // Of a period its beginning.
                    self.more.push(digits(value.split('/').next().unwrap_or_default())?.local);
                }
            }
            _ => {}
        }
        Some(())
    }

    /// Every instant at which it begins, with the offset before and the one from then on.
    fn changes(&self) -> Option<Vec<(i64, i32, i32)>> {
        let (start, from, to) = (self.start?, self.from?, self.to?);
        let last = Date::new(LAST_YEAR, 12, 31).ok()?.at(0, 0, 0, 0);
        let mut times = vec![start];
        times.extend(&self.more);
        for rule in &self.rules {
            // An UNTIL in UTC, as they all should be, is meant on the clock that was there before.
            let rule =
                rule.clone().ending(|until| Offset::UTC.to_datetime(until).saturating_add(seconds(from)));
            times.extend(rule.times(start, last).ok()?);
        }
        let before = |time: DateTime| Some(instant(time, from)?.as_second());
        let late = times.iter().filter(|time| time.year() >= FIRST_YEAR).copied();
        let mut changes: Vec<(i64, i32, i32)> = Vec::new();
        for time in late {
            changes.push((before(time)?, from, to));
        }
        if changes.is_empty() {
            // It began before everything, and never again.
            changes.push((
                instant(Date::new(FIRST_YEAR, 1, 1).ok()?.at(0, 0, 0, 0), from)?.as_second(),
                from,
                to,
            ));
        }
        Some(changes)
    }
}

fn seconds(seconds: i32) -> SignedDuration {
    SignedDuration::from_secs(i64::from(seconds))
}

fn instant(local: DateTime, offset: i32) -> Option<Timestamp> {
    Offset::UTC.to_timestamp(local).ok()?.checked_sub(i64::from(offset).seconds()).ok()
}

/// `+0100`, `-023000`, in seconds.
fn offset(text: &str) -> Option<i32> {
    let (sign, digits) = match text.split_at_checked(1)? {
        ("+", digits) => (1, digits),
        ("-", digits) => (-1, digits),
        _ => return None,
    };
    let digits = digits.replace(':', "");
    if !matches!(digits.len(), 4 | 6) || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let part = |from: usize| digits.get(from..from + 2).map_or(Some(0), |part| part.parse::<i32>().ok());
    let (hours, minutes, seconds) = (part(0)?, part(2)?, part(4)?);
    (hours < 26 && minutes < 60 && seconds < 60).then_some(sign * (hours * 3600 + minutes * 60 + seconds))
}

/// Text without its backslashes.
pub fn unescaped(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut letters = text.chars();
    while let Some(c) = letters.next() {
        plain.extend(if c == '\\' { letters.next() } else { Some(c) });
    }
    plain
}

/// The zone in the form of RFC 8536, version 2, without a rule for what comes after the last change.
fn tzif(first: i32, changes: &[(i64, i32)]) -> Option<Vec<u8>> {
    let mut offsets = vec![first];
    for (_, to) in changes {
        if !offsets.contains(to) {
            offsets.push(*to);
        }
    }
    let header = |changes: usize, offsets: usize| -> Option<Vec<u8>> {
        let mut bytes = b"TZif2".to_vec();
        bytes.extend([0; 15]);
        // No indicators for UT and standard time, and no leap seconds.
        bytes.extend([0; 12]);
        for count in [changes, offsets, 1] {
            bytes.extend(u32::try_from(count).ok()?.to_be_bytes());
        }
        Some(bytes)
    };
    // The first part is for programs that know only 32 bits: one offset, and the empty name of it.
    let mut bytes = header(0, 1)?;
    bytes.extend([0; 7]);
    bytes.extend(header(changes.len(), offsets.len())?);
    for (at, _) in changes {
        bytes.extend(at.to_be_bytes());
    }
    for (_, to) in changes {
        bytes.push(u8::try_from(offsets.iter().position(|known| known == to)?).ok()?);
    }
    for offset in &offsets {
        bytes.extend(offset.to_be_bytes());
        // Not daylight saving time, and the name that begins at 0.
        bytes.extend([0, 0]);
    }
    bytes.push(0);
    bytes.extend(b"\n\n");
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::super::split::split;
    use super::*;

    fn definition(lines: &str) -> Definition {
        let text = format!("BEGIN:VCALENDAR\nBEGIN:VTIMEZONE\n{lines}\nEND:VTIMEZONE\nEND:VCALENDAR\n");
        Definition::read(&split(text.as_bytes()).unwrap().zones[0]).unwrap()
    }

    const OUTLOOK: &str = "TZID:Customized\nBEGIN:STANDARD\nDTSTART:16011028T030000\n\
        RRULE:FREQ=YEARLY;BYDAY=-1SU;BYMONTH=10\nTZOFFSETFROM:+0200\nTZOFFSETTO:+0100\nEND:STANDARD\n\
        BEGIN:DAYLIGHT\nDTSTART:16010325T020000\nRRULE:FREQ=YEARLY;BYDAY=-1SU;BYMONTH=3\nTZOFFSETFROM:+0100\n\
        TZOFFSETTO:+0200\nEND:DAYLIGHT";

    #[test]
    fn the_rules_of_europe_are_those_of_berlin_gaps_and_folds_included() {
        let (own, berlin) = (definition(OUTLOOK).zone().unwrap(), TimeZone::get("Europe/Berlin").unwrap());
        let mut local: DateTime = "1997-01-01T00:30".parse().unwrap();
        while local.year() < 2080 {
            let told = |zone: &TimeZone| zone.to_ambiguous_timestamp(local).offset();
            assert_eq!(told(&own), told(&berlin), "{local}");
            // Every hour of the day, and every weekday.
            local = local.checked_add(jiff::Span::new().hours(25)).unwrap();
        }
        for local in ["2026-03-29T02:30", "2026-10-25T02:30", "2199-10-27T02:30"] {
            let local: DateTime = local.parse().unwrap();
            assert_eq!(
                own.to_ambiguous_timestamp(local).offset(),
                berlin.to_ambiguous_timestamp(local).offset()
            );
        }
    }

    #[test]
    fn all_that_a_zone_may_be_made_of() {
        let at = |definition: &Definition, local: &str| {
            let zone = definition.zone().unwrap();
            zone.to_timestamp(local.parse().unwrap()).unwrap().to_string()
        };
        // Only one of the two, without a rule: what it always is.
        let fixed = definition(
            "TZID:x\nBEGIN:STANDARD\nDTSTART:16010101T000000\nTZOFFSETFROM:+0530\nTZOFFSETTO:+0530\nEND:STANDARD",
        );
        assert_eq!(at(&fixed, "2026-07-01T17:30"), "2026-07-01T12:00:00Z");
        // Dates, a rule that ends, and another one after it.
        let changed = definition(
            "TZID:x\nBEGIN:DAYLIGHT\nDTSTART:20200329T020000\nRRULE:FREQ=YEARLY;BYMONTH=3;BYDAY=-1SU;UNTIL=20210328T010000Z\n\
             RDATE:20220401T020000,20230401T020000\nTZOFFSETFROM:+0100\nTZOFFSETTO:+0200\nEND:DAYLIGHT\n\
             BEGIN:STANDARD\nDTSTART:20201025T030000\nRRULE:FREQ=YEARLY;BYMONTH=10;BYDAY=-1SU;COUNT=4\n\
             TZOFFSETFROM:+0200\nTZOFFSETTO:+0100\nEND:STANDARD",
        );
        for (local, instant) in [
            ("2019-07-01T12:00", "2019-07-01T11:00:00Z"),
            ("2021-03-28T12:00", "2021-03-28T10:00:00Z"),
            ("2022-03-28T12:00", "2022-03-28T11:00:00Z"),
            ("2022-04-01T12:00", "2022-04-01T10:00:00Z"),
            ("2023-12-01T12:00", "2023-12-01T11:00:00Z"),
            ("2026-07-01T12:00", "2026-07-01T11:00:00Z"),
        ] {
            assert_eq!(at(&changed, local), instant, "{local}");
        }
    }

    #[test]
    fn what_cannot_be_worked_out_is_no_zone() {
        assert!(definition("TZID:x").zone().is_none());
        for broken in [
            OUTLOOK.replace("TZOFFSETTO:+0100", "TZOFFSETTO:soon"),
            OUTLOOK.replace("TZOFFSETTO:+0100\n", ""),
            OUTLOOK.replace("DTSTART:16011028T030000\n", ""),
            OUTLOOK.replace("BYMONTH=10", "BYEASTER=1"),
        ] {
            assert!(definition(&broken).zone().is_none(), "{broken}");
        }
    }
}
