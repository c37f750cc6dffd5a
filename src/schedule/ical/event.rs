//! One event, as its text says it.

use calcard::common::PartialDateTime;
use calcard::icalendar::{
    ICalendar, ICalendarDuration, ICalendarEntry, ICalendarParameterName, ICalendarPeriod, ICalendarProperty,
    ICalendarStatus, ICalendarValue,
};
use jiff::SignedDuration;
use jiff::civil::DateTime;
use jiff::tz::{Offset, TimeZone};

use super::lines::{parts, with_quoted_zone};
use super::rule::Rule;
use super::split::Block;
use super::when::{Length, When};
use super::zones::{Whose, Zones};

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
    length: Option<Length>,
    /// The time of its end, where that floats as its start does: how long it lasts depends on where one is.
    floating_end: Option<When>,
    /// From its start to its end on the clock on the wall.
    pub wall: Option<SignedDuration>,
    pub rules: Vec<Rule>,
    /// EXRULE: what they hit does not take place.
    pub without: Vec<Rule>,
    pub more: Vec<(When, Option<Length>)>,
    pub except: Vec<When>,
    /// It stands for this occurrence of its series (and, if so marked, for all later ones).
    pub instead_of: Option<(When, Onwards)>,
    /// Its time zone has a name that means another zone as well.
    pub other_zone: Option<OtherZone>,
    /// How it is understood, where that is not what everybody would say.
    pub remarks: Vec<String>,
    /// `LOCATION`, `X-ROOM`, ...: what it says.
    properties: Vec<(String, String)>,
    /// Names of properties that are not UTF-8.
    guessed: Vec<String>,
}

/// The zone that the name of an event's zone might mean, and does not.
#[derive(Clone, PartialEq, Debug)]
pub struct OtherZone {
    pub name: String,
    pub whose: Whose,
    pub zone: TimeZone,
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
        self.properties(name).next()
    }

    /// All values of a property, by its name in capitals.
    pub fn properties(&self, name: &str) -> impl Iterator<Item = &str> {
        self.properties.iter().filter(move |(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// Is a property, by its name in capitals, not UTF-8, so that what it says is a guess?
    pub fn is_guessed(&self, name: &str) -> bool {
        self.guessed.iter().any(|guessed| guessed == name)
    }

    /// How long it lasts. `here`: where floating times are meant.
    pub fn length(&self, here: &TimeZone) -> Option<Length> {
        let exact = self.floating_end.as_ref().and_then(|end| {
            let (from, to) = (self.start.instant(here)?, end.instant(here)?);
            Some(Length { days: 0, ms: to.as_millisecond().checked_sub(from.as_millisecond())?.max(0) })
        });
        exact.or(self.length)
    }

    pub fn repeats(&self) -> bool {
        !self.rules.is_empty() || !self.more.is_empty()
    }
}

/// Reads one event. `Err`: why it is left out.
pub fn read(block: &Block, zones: &Zones) -> Result<Event, String> {
    if block.cut {
        return Err("the event is too long to be read".to_owned());
    }
    if block.lines.iter().any(|line| changes_what_was_before(&line.text)) {
        return Err(
            "it changes all occurrences before one (RANGE=THISANDPRIOR), which is not done".to_owned()
        );
    }
    let mut draft = Draft::new(block, zones);
    for entry in entries(block).ok_or("the event cannot be read")? {
        draft.add(&entry)?;
    }
    for line in block.lines.iter().filter(|line| is_rule(&line.text)) {
        draft.rule(&line.text)?;
    }
    draft.finish()
}

/// The UID of an event that cannot be read.
pub fn uid(block: &Block) -> Option<String> {
    let entries = entries(block)?;
    let uid = entries.iter().rev().find(|entry| entry.name == ICalendarProperty::Uid)?;
    uid.values.first()?.as_text().filter(|uid| !uid.is_empty()).map(str::to_owned)
}

/// Its lines as calcard reads them, without its rules.
fn entries(block: &Block) -> Option<Vec<ICalendarEntry>> {
    let mut text = "BEGIN:VEVENT\r\n".to_owned();
    for line in block.lines.iter().filter(|line| !is_rule(&line.text)) {
        text.push_str(&with_quoted_zone(&line.text));
        text.push_str("\r\n");
    }
    text.push_str("END:VEVENT\r\n");
    let read = ICalendar::parse(&text).ok()?;
    Some(read.components.into_iter().next().map(|event| event.entries).unwrap_or_default())
}

fn name_of(line: &str) -> &str {
    line.split([':', ';']).next().unwrap_or_default().trim()
}

fn is_rule(line: &str) -> bool {
    ["RRULE", "EXRULE"].iter().any(|rule| name_of(line).eq_ignore_ascii_case(rule))
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
    rules: Vec<Rule>,
    without: Vec<Rule>,
    more: Vec<(When, Option<Length>)>,
    except: Vec<When>,
    instead_of: Option<(When, Onwards)>,
    other_zone: Option<OtherZone>,
    properties: Vec<(String, String)>,
    guessed: Vec<String>,
}

impl<'a> Draft<'a> {
    fn new(block: &Block, zones: &'a Zones) -> Draft<'a> {
        let guessed = block.lines.iter().filter(|line| !line.certain);
        Draft {
            line: block.line,
            zones,
            uid: None,
            sequence: 0,
            cancelled: block.cancels,
            start: None,
            end: None,
            duration: None,
            rules: Vec::new(),
            without: Vec::new(),
            more: Vec::new(),
            except: Vec::new(),
            instead_of: None,
            other_zone: None,
            properties: Vec::new(),
            guessed: guessed.map(|line| name_of(&line.text).to_ascii_uppercase()).collect(),
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
            (ICalendarProperty::Dtstart, _) => {
                self.start = Some(self.one("DTSTART", entry)?);
                self.other_zone = entry.tz_id().and_then(|name| other_zone(self.zones, name));
            }
            (ICalendarProperty::Dtend, _) => self.end = Some(self.one("DTEND", entry)?),
            (ICalendarProperty::Duration, _) => match first {
                Some(ICalendarValue::Duration(duration)) => self.duration = Some(length(duration)?),
                _ => return Err("its DURATION cannot be read".to_owned()),
            },
            (ICalendarProperty::Rdate, _) => self.rdate(entry)?,
            (ICalendarProperty::Exdate, _) => {
                for value in entry.values.iter().filter(|value| !is_empty(value)) {
                    self.except.push(self.when("EXDATE", entry, value)?);
                }
            }
            (ICalendarProperty::RecurrenceId, _) => {
                self.instead_of = Some((self.one("RECURRENCE-ID", entry)?, onwards(entry)));
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

    fn rule(&mut self, line: &str) -> Result<(), String> {
        let (name, value) = (name_of(line).to_ascii_uppercase(), parts(line).map(|parts| parts.value));
        let rule = Rule::parse(value.unwrap_or_default()).map_err(|why| format!("its {name} {why}"))?;
        if name == "RRULE" {
            self.rules.push(rule);
        } else {
            self.without.push(rule);
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
                let unknown = || {
                    let id = shortened(id);
                    format!(
                        "its time zone {id:?} is not known for certain (name it: zones = {{ {id:?} = \"Europe/Berlin\" }})"
                    )
                };
                Some(self.zones.get(id).ok_or_else(unknown)?.zone)
            }
            _ => None,
        };
        Ok(When { local, zone, all_day: given.hour.is_none() })
    }

    fn rdate(&mut self, entry: &ICalendarEntry) -> Result<(), String> {
        for value in entry.values.iter().filter(|value| !is_empty(value)) {
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
        let summary =
            self.properties.iter().find(|(name, _)| name == "SUMMARY").map(|(_, value)| value.as_str());
        // Every event must have a UID; what has none is known by what it is.
        let unnamed = || format!("{} {}", start.name(), summary.unwrap_or_default());
        let floats =
            |when: &&When| when.zone.is_none() && !when.all_day && !start.all_day && start.zone.is_none();
        let wall = match &self.end {
            Some(end) => end.in_zone(start.zone.as_ref()).map(|end| start.local.duration_until(end)),
            None => length.and_then(|length| Some(start.local.duration_until(start.local_end(length)?))),
        };
        Ok(Event {
            line: self.line,
            uid: self.uid.filter(|uid| !uid.is_empty()).unwrap_or_else(unnamed),
            sequence: self.sequence,
            cancelled: self.cancelled,
            length,
            floating_end: self.end.as_ref().filter(floats).cloned(),
            wall: wall.filter(|_| !start.all_day),
            remarks: remarks(&start, &self.rules),
            rules: self.rules,
            without: self.without,
            more: self.more,
            except: self.except,
            instead_of: self.instead_of,
            other_zone: self.other_zone,
            properties: self.properties,
            guessed: self.guessed,
            start,
        })
    }
}

fn remarks(start: &When, rules: &[Rule]) -> Vec<String> {
    let mut remarks = Vec::new();
    if !rules.is_empty() && rules.iter().all(|rule| rule.is_over_before(start.local)) {
        remarks.push("its RRULE ends before it begins: it never takes place".to_owned());
    } else if !rules.is_empty() && !rules.iter().any(|rule| rule.hits(start.local)) {
        let what = "its start is none of the times of its RRULE: it counts as one more of them";
        remarks.push(what.to_owned());
    }
    if rules.len() > 1 {
        remarks.push(format!("it has {} RRULEs: what any of them hits takes place", rules.len()));
    }
    remarks
}

fn other_zone(zones: &Zones, name: &str) -> Option<OtherZone> {
    let (whose, zone) = zones.get(name)?.other?;
    Some(OtherZone { name: shortened(name), whose, zone })
}

/// Some write a list of times that has nothing in it.
fn is_empty(value: &ICalendarValue) -> bool {
    value.as_text().is_some_and(|text| text.trim().is_empty())
}

fn onwards(entry: &ICalendarEntry) -> Onwards {
    if entry.has_parameter(&ICalendarParameterName::Range) { Onwards::AllLater } else { Onwards::OnlyThis }
}

/// RFC 2445 had a range that RFC 5545 dropped, and calcard drops it without a word.
fn changes_what_was_before(line: &str) -> bool {
    name_of(line).eq_ignore_ascii_case("RECURRENCE-ID")
        && line.to_ascii_uppercase().contains("RANGE=THISANDPRIOR")
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
mod tests;
