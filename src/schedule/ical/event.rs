//! One event, as its text says it.

use calcard::common::{CalendarScale, PartialDateTime};
use calcard::icalendar::{
    ICalendar, ICalendarDuration, ICalendarEntry, ICalendarFrequency, ICalendarParameterName,
    ICalendarPeriod, ICalendarProperty, ICalendarRecurrenceRule, ICalendarStatus, ICalendarValue,
};
use jiff::SignedDuration;
use jiff::civil::DateTime;
use jiff::tz::{Offset, TimeZone};

use super::split::Block;
use super::when::{Length, When};
use super::zones::Zones;

/// An event that is longer is a mistake.
const MAX_DAYS: i32 = 5 * 366;
/// Years that events may begin in: others are mistakes, and cost time.
const YEARS: std::ops::RangeInclusive<u16> = 1900..=2200;

/// One VEVENT.
#[derive(Clone, Debug)]
pub struct Event {
    pub line: usize,
    pub uid: String,
    /// The highest is the newest word.
    pub sequence: i64,
    pub cancelled: bool,
    pub start: When,
    /// `None`: it has no end of its own.
    pub length: Option<Length>,
    /// Its UNTIL is local time, as `start` is.
    pub rule: Option<Box<ICalendarRecurrenceRule>>,
    pub more: Vec<(When, Option<Length>)>,
    pub except: Vec<When>,
    /// It stands for this occurrence of its series (and, if so marked, for all later ones).
    pub instead_of: Option<(When, Onwards)>,
    /// `LOCATION`, `X-ROOM`, ...: what it says.
    properties: Vec<(String, String)>,
}

/// What a change of one occurrence stands for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Onwards {
    OnlyThis,
    /// RANGE=THISANDFUTURE
    AllLater,
}

impl Event {
    /// The value of a property, by its name in capitals.
    pub fn property(&self, name: &str) -> Option<&str> {
        if name == "UID" {
            return Some(&self.uid);
        }
        self.properties.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

/// Reads one event. `Err`: why it is left out.
pub fn read(block: &Block, zones: &Zones) -> Result<Event, String> {
    if block.cut {
        return Err("the event is too long to be read".to_owned());
    }
    let Ok(read) = ICalendar::parse(&block.text) else { return Err("the event cannot be read".to_owned()) };
    let entries = read.components.into_iter().next().map(|event| event.entries).unwrap_or_default();
    let mut draft = Draft { zones, ..Draft::new(block) };
    for entry in &entries {
        draft.add(entry)?;
    }
    draft.finish()
}

/// The UID of an event that cannot be read.
pub fn uid(block: &Block) -> Option<String> {
    let read = ICalendar::parse(&block.text).ok()?;
    let entries = &read.components.first()?.entries;
    let uid = entries.iter().rev().find(|entry| entry.name == ICalendarProperty::Uid)?;
    uid.values.first()?.as_text().filter(|uid| !uid.is_empty()).map(str::to_owned)
}

/// An event while it is read.
struct Draft<'a> {
    line: usize,
    zones: &'a Zones,
    uid: Option<String>,
    sequence: i64,
    cancelled: bool,
    start: Option<When>,
    end: Option<When>,
    duration: Option<Length>,
    rule: Option<Box<ICalendarRecurrenceRule>>,
    more: Vec<(When, Option<Length>)>,
    except: Vec<When>,
    instead_of: Option<(When, Onwards)>,
    properties: Vec<(String, String)>,
}

static NO_ZONES: std::sync::LazyLock<Zones> = std::sync::LazyLock::new(Zones::default);

impl Draft<'_> {
    fn new(block: &Block) -> Draft<'static> {
        Draft {
            line: block.line,
            zones: &NO_ZONES,
            uid: None,
            sequence: 0,
            cancelled: block.cancels,
            start: None,
            end: None,
            duration: None,
            rule: None,
            more: Vec::new(),
            except: Vec::new(),
            instead_of: None,
            properties: Vec::new(),
        }
    }

    fn add(&mut self, entry: &ICalendarEntry) -> Result<(), String> {
        let first = entry.values.first();
        match (&entry.name, first) {
            (ICalendarProperty::Uid, Some(value)) => self.uid = value.as_text().map(str::to_owned),
            (ICalendarProperty::Sequence, Some(value)) => self.sequence = value.as_integer().unwrap_or(0),
            (ICalendarProperty::Status, Some(value)) => {
                self.cancelled |= matches!(value, ICalendarValue::Status(ICalendarStatus::Cancelled));
            }
            (ICalendarProperty::Dtstart, _) => self.start = Some(self.one("DTSTART", entry)?),
            (ICalendarProperty::Dtend, _) => self.end = Some(self.one("DTEND", entry)?),
            (ICalendarProperty::Duration, _) => match first {
                Some(ICalendarValue::Duration(duration)) => self.duration = Some(length(duration)?),
                _ => return Err("its DURATION cannot be read".to_owned()),
            },
            (ICalendarProperty::Rrule, _) => match first {
                Some(ICalendarValue::RecurrenceRule(rule)) => self.rule = Some(rule.clone()),
                _ => return Err("its RRULE cannot be read".to_owned()),
            },
            (ICalendarProperty::Rdate, _) => self.rdate(entry)?,
            (ICalendarProperty::Exdate, _) => {
                for value in &entry.values {
                    self.except.push(self.when("EXDATE", entry, value)?);
                }
            }
            (ICalendarProperty::RecurrenceId, _) => {
                let later = entry.has_parameter(&ICalendarParameterName::Range);
                let onwards = if later { Onwards::AllLater } else { Onwards::OnlyThis };
                self.instead_of = Some((self.one("RECURRENCE-ID", entry)?, onwards));
            }
            (name, Some(_)) => {
                let texts: Vec<&str> = entry.values.iter().filter_map(ICalendarValue::as_text).collect();
                let name = name.as_str().to_ascii_uppercase();
                self.properties.push((name, texts.join(",").trim().to_owned()));
            }
            _ => {}
        }
        Ok(())
    }

    fn one(&self, name: &str, entry: &ICalendarEntry) -> Result<When, String> {
        let value = entry.values.first().ok_or_else(|| format!("its {name} is empty"))?;
        self.when(name, entry, value)
    }

    fn when(&self, name: &str, entry: &ICalendarEntry, value: &ICalendarValue) -> Result<When, String> {
        let odd = || format!("its {name} is no time");
        let Some(given) = value.as_partial_date_time() else { return Err(odd()) };
        let local = local(given).ok_or_else(odd)?;
        let zone = match (fixed(given), entry.tz_id()) {
            (Some(fixed), _) => Some(fixed),
            (None, Some(id)) if given.hour.is_some() => {
                let unknown = || format!("its time zone {:?} is not known", shortened(id));
                Some(self.zones.get(id).ok_or_else(unknown)?)
            }
            _ => None,
        };
        Ok(When { local, zone, all_day: given.hour.is_none() })
    }

    fn rdate(&mut self, entry: &ICalendarEntry) -> Result<(), String> {
        for value in &entry.values {
            let ICalendarValue::Period(period) = value else {
                self.more.push((self.when("RDATE", entry, value)?, None));
                continue;
            };
            let own = |at: &PartialDateTime| ICalendarValue::PartialDateTime(Box::new(at.clone()));
            self.more.push(match period {
                ICalendarPeriod::Range { start, end } => {
                    let start = self.when("RDATE", entry, &own(start))?;
                    let length = between(&start, &self.when("RDATE", entry, &own(end))?)?;
                    (start, Some(length))
                }
                ICalendarPeriod::Duration { start, duration } => {
                    (self.when("RDATE", entry, &own(start))?, Some(length(duration)?))
                }
            });
        }
        Ok(())
    }

    fn finish(self) -> Result<Event, String> {
        let start = match (&self.start, &self.instead_of) {
            (Some(start), _) => start.clone(),
            (None, Some((occurrence, _))) => occurrence.clone(),
            (None, None) => return Err("it has no DTSTART".to_owned()),
        };
        let length = match (&self.end, self.duration) {
            (Some(end), _) => Some(between(&start, end)?),
            (None, Some(duration)) => Some(duration),
            (None, None) => start.all_day.then_some(Length { days: 1, ms: 0 }),
        };
        let rule = self.rule.map(|rule| checked(rule, &start)).transpose()?;
        let summary =
            self.properties.iter().find(|(name, _)| name == "SUMMARY").map(|(_, value)| value.as_str());
        // Every event must have a UID; what has none is known by what it is.
        let unnamed = || format!("{} {}", start.name(), summary.unwrap_or_default());
        Ok(Event {
            line: self.line,
            uid: self.uid.filter(|uid| !uid.is_empty()).unwrap_or_else(unnamed),
            sequence: self.sequence,
            cancelled: self.cancelled,
            length,
            rule,
            more: self.more,
            except: self.except,
            instead_of: self.instead_of,
            properties: self.properties,
            start,
        })
    }
}

/// A rule that can be worked out, its UNTIL on the clock of the start.
fn checked(
    mut rule: Box<ICalendarRecurrenceRule>,
    start: &When,
) -> Result<Box<ICalendarRecurrenceRule>, String> {
    if rule.freq > ICalendarFrequency::Daily {
        return Err("its RRULE repeats more often than daily".to_owned());
    }
    if !matches!(rule.rscale, None | Some(CalendarScale::Gregorian)) || rule.skip.is_some() {
        return Err("its RRULE counts by another calendar (RSCALE)".to_owned());
    }
    if let Some(until) = &rule.until {
        let odd = || "the UNTIL of its RRULE is no time".to_owned();
        let mut given = local(until).ok_or_else(odd)?;
        if until.hour.is_none() {
            given = given.date().at(23, 59, 59, 0);
        } else if let Some(zone) = fixed(until) {
            let until = When { local: given, zone: Some(zone), all_day: false };
            given = until.in_zone(start.zone.as_ref()).ok_or_else(odd)?;
        }
        rule.until = Some(partial(given));
    }
    Ok(rule)
}

/// Hours are exact, as RFC 5545 (3.8.5.3) has it: a repeated event lasts as long when the clocks change.
fn between(start: &When, end: &When) -> Result<Length, String> {
    let odd = || "its end is out of range".to_owned();
    let length = if start.all_day && end.all_day {
        let days = start.local.date().until(end.local.date()).map_err(|_| odd())?.get_days();
        // Some write the same day twice for a day.
        Length { days: if days == 0 { 1 } else { days }, ms: 0 }
    } else {
        // Where one of the two floats, it is meant where the other one is.
        let here = start.zone.clone().or_else(|| end.zone.clone()).unwrap_or(TimeZone::UTC);
        let (from, to) = (start.instant(&here).ok_or_else(odd)?, end.instant(&here).ok_or_else(odd)?);
        Length { days: 0, ms: to.as_millisecond() - from.as_millisecond() }
    };
    sane(length)
}

fn length(given: &ICalendarDuration) -> Result<Length, String> {
    let odd = || "its DURATION is out of range".to_owned();
    let days = given.weeks.checked_mul(7).and_then(|days| days.checked_add(given.days)).ok_or_else(odd)?;
    let ms =
        (i64::from(given.hours) * 3600 + i64::from(given.minutes) * 60 + i64::from(given.seconds)) * 1000;
    if given.neg && !given.is_empty() {
        return Err("it ends before it begins".to_owned());
    }
    sane(Length { days: i32::try_from(days).map_err(|_| odd())?, ms })
}

fn sane(length: Length) -> Result<Length, String> {
    if length.days < 0 || length.ms < 0 {
        return Err("it ends before it begins".to_owned());
    }
    let longest = SignedDuration::from_hours(24 * i64::from(MAX_DAYS)).as_millis();
    if length.days > MAX_DAYS || i128::from(length.ms) > longest {
        return Err(format!("it is longer than {MAX_DAYS} days"));
    }
    Ok(length)
}

fn local(given: &PartialDateTime) -> Option<DateTime> {
    let year = given.year.filter(|year| YEARS.contains(year))?;
    let part = |part: Option<u8>| i8::try_from(part.unwrap_or(0)).ok();
    // jiff knows no leap seconds.
    let second = part(given.second)?.min(59);
    DateTime::new(
        i16::try_from(year).ok()?,
        part(given.month)?,
        part(given.day)?,
        part(given.hour)?,
        part(given.minute)?,
        second,
        0,
    )
    .ok()
}

pub(super) fn partial(local: DateTime) -> PartialDateTime {
    let part = |part: i8| Some(part.unsigned_abs());
    PartialDateTime {
        year: Some(local.year().unsigned_abs()),
        month: part(local.month()),
        day: part(local.day()),
        hour: part(local.hour()),
        minute: part(local.minute()),
        second: part(local.second()),
        ..PartialDateTime::default()
    }
}

/// The offset that is part of a value: `Z`, in practice.
fn fixed(given: &PartialDateTime) -> Option<TimeZone> {
    let seconds = i32::from(given.tz_hour?) * 3600 + i32::from(given.tz_minute.unwrap_or(0)) * 60;
    if seconds == 0 {
        return Some(TimeZone::UTC);
    }
    let signed = if given.tz_minus { -seconds } else { seconds };
    Offset::from_seconds(signed).ok().map(TimeZone::fixed)
}

fn shortened(text: &str) -> String {
    text.chars().take(60).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block(lines: &str) -> Block {
        let text = format!("BEGIN:VEVENT\r\n{}\r\nEND:VEVENT\r\n", lines.replace('\n', "\r\n"));
        Block { line: 1, text, ..Block::default() }
    }

    fn event(lines: &str) -> Event {
        read(&block(lines), &Zones::default()).unwrap()
    }

    /// Start and end, seen from New York.
    #[track_caller]
    fn check_times(lines: &str, start: &str, end: &str) {
        let event = event(lines);
        let here = TimeZone::get("America/New_York").unwrap();
        let told = |at: Option<crate::job::UtcMs>| at.map_or("none".to_owned(), |at| at.to_string());
        let ends = event.length.and_then(|length| event.start.end(length, &here));
        assert_eq!(told(event.start.instant(&here).map(Into::into)), start);
        assert_eq!(told(ends), end);
    }

    #[track_caller]
    fn check_refused(lines: &str, why: &str) {
        assert_eq!(read(&block(lines), &Zones::default()).map(drop), Err(why.to_owned()));
    }

    #[test]
    fn ends_in_all_their_forms() {
        check_times(
            "DTSTART;TZID=Europe/Berlin:20261201T170000\nDTEND;TZID=Europe/Berlin:20261201T180000",
            "2026-12-01T16:00:00.000Z",
            "2026-12-01T17:00:00.000Z",
        );
        check_times(
            "DTSTART:20261201T170000Z\nDURATION:PT1H30M",
            "2026-12-01T17:00:00.000Z",
            "2026-12-01T18:30:00.000Z",
        );
        check_times(
            "DTSTART;TZID=W. Europe Standard Time:20261201T170000\nDTEND:20261201T170000Z",
            "2026-12-01T16:00:00.000Z",
            "2026-12-01T17:00:00.000Z",
        );
        check_times(
            "DTSTART;TZID=\"Tokyo Standard Time\":20261201T170000\nDURATION:P1W",
            "2026-12-01T08:00:00.000Z",
            "2026-12-08T08:00:00.000Z",
        );
        // Floating, and whole days: where one is.
        check_times(
            "DTSTART:20261201T170000\nDTEND:20261201T180000",
            "2026-12-01T22:00:00.000Z",
            "2026-12-01T23:00:00.000Z",
        );
        check_times(
            "DTSTART;VALUE=DATE:20261201\nDTEND;VALUE=DATE:20261203",
            "2026-12-01T05:00:00.000Z",
            "2026-12-03T05:00:00.000Z",
        );
        check_times("DTSTART;VALUE=DATE:20261201", "2026-12-01T05:00:00.000Z", "2026-12-02T05:00:00.000Z");
        check_times("DTSTART:20261201T170000Z", "2026-12-01T17:00:00.000Z", "none");
    }

    #[test]
    fn what_it_says() {
        let event = event(
            "UID:a@b\nSEQUENCE:3\nSTATUS:CONFIRMED\nDTSTART:20261201T170000Z\nSUMMARY:Physics\\, part 2\\; with tea\n\
             LOCATION;LANGUAGE=en:https://bbb.example.org/rooms/phy\n sics-2\nDESCRIPTION:one\\ntwo \n three\n\
             URL:https://example.org/a?b=c;d\nX-Room-Id:r-7",
        );
        assert_eq!((event.uid.as_str(), event.sequence, event.cancelled), ("a@b", 3, false));
        assert_eq!(event.property("SUMMARY"), Some("Physics, part 2; with tea"));
        assert_eq!(event.property("LOCATION"), Some("https://bbb.example.org/rooms/physics-2"));
        assert_eq!(event.property("DESCRIPTION"), Some("one\ntwo three"));
        assert_eq!(event.property("URL"), Some("https://example.org/a?b=c;d"));
        assert_eq!(event.property("X-ROOM-ID"), Some("r-7"));
        assert_eq!(event.property("UID"), Some("a@b"));
        assert_eq!(event.property("CONFERENCE"), None);
    }

    #[test]
    fn without_a_uid_it_is_known_by_what_it_is() {
        assert_eq!(event("DTSTART:20261201T170000Z\nSUMMARY:Tea").uid, "20261201T170000Z Tea");
    }

    #[test]
    fn cancelled() {
        assert!(event("DTSTART:20261201T170000Z\nSTATUS:CANCELLED").cancelled);
        let whole = Block { cancels: true, ..block("UID:1\nDTSTART:20261201T170000Z") };
        assert!(read(&whole, &Zones::default()).unwrap().cancelled);
    }

    #[test]
    fn what_is_left_out() {
        check_refused("UID:1", "it has no DTSTART");
        check_refused("DTSTART:tomorrow", "its DTSTART is no time");
        check_refused("DTSTART:20260230T100000Z", "its DTSTART is no time");
        check_refused("DTSTART:00010101T000000Z", "its DTSTART is no time");
        check_refused(
            "DTSTART;TZID=Customized Time Zone:20261201T170000",
            "its time zone \"Customized Time Zone\" is not known",
        );
        check_refused("DTSTART:20261201T170000Z\nDTEND:20261201T160000Z", "it ends before it begins");
        check_refused("DTSTART:20261201T170000Z\nDURATION:-PT1H", "it ends before it begins");
        check_refused("DTSTART:20261201T170000Z\nDURATION:P9999D", "it is longer than 1830 days");
        check_refused("DTSTART:20261201T170000Z\nDTEND:21261201T160000Z", "it is longer than 1830 days");
        check_refused("DTSTART:20261201T170000Z\nDURATION:soon", "its DURATION cannot be read");
        check_refused("DTSTART:20261201T170000Z\nRRULE:FREQ=OFTEN", "its RRULE cannot be read");
        check_refused(
            "DTSTART:20261201T170000Z\nRRULE:FREQ=HOURLY",
            "its RRULE repeats more often than daily",
        );
        check_refused(
            "DTSTART:20261201T170000Z\nRRULE:RSCALE=HEBREW;FREQ=YEARLY",
            "its RRULE counts by another calendar (RSCALE)",
        );
        let cut = Block { cut: true, ..block("DTSTART:20261201T170000Z") };
        assert_eq!(read(&cut, &Zones::default()).map(drop), Err("the event is too long to be read".into()));
    }

    #[test]
    fn the_until_of_a_rule_is_on_the_clock_of_its_start() {
        let until = |start: &str, until: &str| {
            let event = event(&format!("DTSTART{start}\nRRULE:FREQ=DAILY;UNTIL={until}"));
            local(event.rule.unwrap().until.as_ref().unwrap()).unwrap().to_string()
        };
        let berlin = ";TZID=Europe/Berlin:20261101T180000";
        assert_eq!(until(berlin, "20261105T170000Z"), "2026-11-05T18:00:00");
        assert_eq!(until(berlin, "20261105"), "2026-11-05T23:59:59");
        assert_eq!(until(berlin, "20261105T180000"), "2026-11-05T18:00:00");
        assert_eq!(until(";VALUE=DATE:20261101", "20261105"), "2026-11-05T23:59:59");
        assert_eq!(until(":20261101T180000", "20261105T170000Z"), "2026-11-05T17:00:00");
    }

    #[test]
    fn dates_besides_the_rule() {
        let event = event(
            "DTSTART:20261201T170000Z\nDURATION:PT1H\nRDATE:20261203T170000Z,20261204T170000Z\n\
             RDATE;VALUE=PERIOD:20261205T170000Z/PT2H,20261206T170000Z/20261206T200000Z\n\
             EXDATE;TZID=Europe/Berlin:20261203T180000\n",
        );
        let lengths: Vec<_> = event.more.iter().map(|(_, length)| length.map(|length| length.ms)).collect();
        assert_eq!(lengths, [None, None, Some(7_200_000), Some(10_800_000)]);
        assert_eq!(event.except[0].name(), "20261203T170000Z");
    }
}
