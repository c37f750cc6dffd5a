//! Named calendars: days and times that entries name in `only` and `except`.
//!
//! A calendar is everything that it lists: days, weekly windows, and the events of a feed. Where a feed has never been
//! read, nobody knows; then the end happens all the same, since a deadline missed costs money and people that were told
//! of an exception can extend. [`Days::unknown`] names such calendars, so that the doubt is shown.

use std::collections::BTreeMap;

use jiff::civil::{Date, DateTime, Weekday};
use jiff::tz::TimeZone;

use super::feed::{Feeds, Source};
use super::rule::Weekdays;
use crate::job::UtcMs;

/// `[calendars.*]`
pub type Calendars = BTreeMap<String, Calendar>;

/// One `[calendars.NAME]`.
#[derive(Clone, Debug, Default)]
pub struct Calendar {
    pub dates: Vec<DateRange>,
    pub weekly: Vec<Weekly>,
    pub source: Option<Source>,
    /// Where its days are meant; if not given, that of the entry that asks.
    pub timezone: Option<TimeZone>,
}

/// Days, the last one included.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DateRange {
    pub first: Date,
    pub last: Date,
}

/// A window of every week; it may reach into the next day.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Weekly {
    /// On which it begins.
    days: Weekdays,
    /// Minutes of the day; `to` may be 24:00, and the smaller one if it reaches into the next day.
    from: u16,
    to: u16,
}

/// Minutes of a day.
const DAY: u16 = 24 * 60;

/// Why a text is no day or window.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum CalendarError {
    #[error("{0:?} is not a day or a range of days")]
    Date(String),
    #[error("{0:?} ends before it begins")]
    Backwards(String),
    #[error("{0:?} is not a weekly window")]
    Weekly(String),
    #[error("{0:?} begins and ends at the same time")]
    Empty(String),
}

impl CalendarError {
    /// What to do.
    pub fn hint(&self) -> &'static str {
        match self {
            CalendarError::Date(_) => "write it like 2026-12-24 or 2026-12-27..2027-01-06",
            CalendarError::Backwards(_) => "the first day comes first",
            CalendarError::Weekly(_) => "write it like Sat, Mon-Fri 08:00-18:00 or Fri,Sat 22:00-06:00",
            CalendarError::Empty(_) => "leave the times out for the whole day",
        }
    }
}

impl DateRange {
    /// `2026-12-24` or `2026-12-27..2027-01-06`.
    pub fn parse(text: &str) -> Result<DateRange, CalendarError> {
        let day = |day: &str| -> Result<Date, CalendarError> {
            let day = day.trim();
            // jiff would also take a time of day and a zone.
            let plain = day.len() == 10 && day.bytes().all(|b| b.is_ascii_digit() || b == b'-');
            let read = plain.then(|| day.parse().ok()).flatten();
            read.ok_or_else(|| CalendarError::Date(text.to_owned()))
        };
        let (first, last) = match text.split_once("..") {
            Some((first, last)) => (day(first)?, day(last)?),
            None => (day(text)?, day(text)?),
        };
        if last < first {
            return Err(CalendarError::Backwards(text.to_owned()));
        }
        Ok(DateRange { first, last })
    }

    fn covers(&self, day: Date) -> bool {
        (self.first..=self.last).contains(&day)
    }
}

impl Weekly {
    /// `Sat`, `Mon-Fri 08:00-18:00`, `Fri,Sat 22:00-06:00`.
    pub fn parse(text: &str) -> Result<Weekly, CalendarError> {
        let odd = || CalendarError::Weekly(text.to_owned());
        let mut words = text.split_ascii_whitespace();
        let days = Weekdays::parse(words.next().ok_or_else(odd)?).ok_or_else(odd)?;
        let (from, to) = match words.next() {
            None => (0, DAY),
            Some(times) => {
                let (from, to) = times.split_once('-').ok_or_else(odd)?;
                (minutes(from).ok_or_else(odd)?, minutes(to).ok_or_else(odd)?)
            }
        };
        if words.next().is_some() || from == DAY {
            return Err(odd());
        }
        if from == to {
            return Err(CalendarError::Empty(text.to_owned()));
        }
        Ok(Weekly { days, from, to })
    }

    fn covers(&self, at: DateTime) -> bool {
        let minute = u16::from(at.hour().unsigned_abs()) * 60 + u16::from(at.minute().unsigned_abs());
        let on = |day: Weekday| self.days.has(day);
        let today = at.date().weekday();
        if self.from < self.to {
            return on(today) && (self.from..self.to).contains(&minute);
        }
        on(today) && minute >= self.from || on(today.previous()) && minute < self.to
    }
}

/// `08:00` to `24:00`.
fn minutes(text: &str) -> Option<u16> {
    let (hour, minute) = text.split_once(':')?;
    let number = |digits: &str, longest: usize| -> Option<u16> {
        let plain = (1..=longest).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_digit());
        plain.then(|| digits.parse().ok())?
    };
    let (hour, minute) = (number(hour, 2)?, number(minute, 2).filter(|_| minute.len() == 2)?);
    (minute < 60 && hour * 60 + minute <= DAY).then_some(hour * 60 + minute)
}

/// Whether a calendar covers an instant.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Cover {
    Yes,
    No,
    /// Not as far as its feed can be read; an event was left out.
    Doubtful,
    /// Its feed has never been read, or has too many events to be known as a whole.
    Unknown,
}

impl Calendar {
    fn covers(&self, feeds: &Feeds, at: UtcMs, zone: &TimeZone) -> Cover {
        let zone = self.timezone.as_ref().unwrap_or(zone);
        let local = zone.to_datetime(at.timestamp());
        let listed = self.dates.iter().any(|range| range.covers(local.date()));
        if listed || self.weekly.iter().any(|window| window.covers(local)) {
            return Cover::Yes;
        }
        match self.source.as_ref().map(|source| feeds.get(source)) {
            Some(None) => Cover::Unknown,
            Some(Some(feed)) if feed.covers(at, zone) => Cover::Yes,
            Some(Some(feed)) if feed.is_cut(at, zone) => Cover::Unknown,
            Some(Some(feed)) if feed.has_doubts(at, zone) => Cover::Doubtful,
            _ => Cover::No,
        }
    }
}

/// `only` and `except`: names of calendars.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Days {
    /// If any are given, one of them must cover the time.
    pub only: Vec<String>,
    /// None of these may; they win.
    pub except: Vec<String>,
}

impl Days {
    /// May something end at this time? If not: why, such as `except holidays (2026-12-24)` or `not in term`.
    ///
    /// `zone` is that of the entry. A calendar that is not known, or whose feed has never been read or is not known as a
    /// whole, stops nothing.
    pub fn allows(
        &self,
        calendars: &Calendars,
        feeds: &Feeds,
        at: UtcMs,
        zone: &TimeZone,
    ) -> Result<(), String> {
        let cover = |name: &String| {
            calendars.get(name).map_or(Cover::Unknown, |calendar| calendar.covers(feeds, at, zone))
        };
        if let Some(name) = self.except.iter().find(|name| cover(name) == Cover::Yes) {
            let own = calendars.get(name).and_then(|calendar| calendar.timezone.as_ref());
            return Err(format!(
                "except {name} ({})",
                own.unwrap_or(zone).to_datetime(at.timestamp()).date()
            ));
        }
        match self.only.as_slice() {
            [] => Ok(()),
            names if names.iter().any(|name| matches!(cover(name), Cover::Yes | Cover::Unknown)) => Ok(()),
            [name] => Err(format!("not in {name}")),
            names => Err(format!("in none of {}", names.join(", "))),
        }
    }

    /// Might it be allowed if everything could be read? What is refused all the same is refused for certain.
    pub fn might_allow(&self, calendars: &Calendars, feeds: &Feeds, at: UtcMs, zone: &TimeZone) -> bool {
        let cover = |name: &String| {
            calendars.get(name).map_or(Cover::Unknown, |calendar| calendar.covers(feeds, at, zone))
        };
        let only = self.only.is_empty() || self.only.iter().any(|name| cover(name) != Cover::No);
        only && self.except.iter().all(|name| cover(name) != Cover::Yes)
    }

    /// The calendars whose feed has never been read, or is not known as a whole around `now`: what [`Days::allows`] says
    /// is a guess as far as they go.
    pub fn unknown<'a>(
        &'a self,
        calendars: &'a Calendars,
        feeds: &'a Feeds,
        now: UtcMs,
    ) -> impl Iterator<Item = &'a str> {
        let unread = move |name: &&String| {
            let source = calendars.get(*name).and_then(|calendar| calendar.source.as_ref());
            source.is_some_and(|source| feeds.get(source).is_none_or(|feed| feed.is_cut(now, &TimeZone::UTC)))
        };
        self.only.iter().chain(&self.except).filter(unread).map(String::as_str)
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;
    use std::sync::Arc;

    use super::super::feed::Feed;
    use super::*;

    fn at(text: &str) -> UtcMs {
        text.parse::<jiff::Zoned>().unwrap().timestamp().into()
    }

    fn days(only: &[&str], except: &[&str]) -> Days {
        let own = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        Days { only: own(only), except: own(except) }
    }

    fn calendars() -> Calendars {
        let dates = |ranges: &[&str]| ranges.iter().map(|range| DateRange::parse(range).unwrap()).collect();
        let weekly = |windows: &[&str]| windows.iter().map(|window| Weekly::parse(window).unwrap()).collect();
        let plain = Calendar::default;
        Calendars::from([
            (
                "holidays".into(),
                Calendar { dates: dates(&["2026-12-24", "2026-12-27..2027-01-06"]), ..plain() },
            ),
            ("term".into(), Calendar { dates: dates(&["2026-10-12..2027-02-05"]), ..plain() }),
            ("office".into(), Calendar { weekly: weekly(&["Mon-Fri 08:00-18:00", "Sat"]), ..plain() }),
            (
                "tokyo".into(),
                Calendar {
                    dates: dates(&["2026-12-24"]),
                    timezone: Some(TimeZone::get("Asia/Tokyo").unwrap()),
                    ..plain()
                },
            ),
            ("feed".into(), Calendar { source: Some(source()), ..plain() }),
        ])
    }

    fn source() -> Source {
        Source::File(PathBuf::from("/x.ics"))
    }

    /// Local times in Berlin.
    #[track_caller]
    fn check(days: &Days, feeds: &Feeds, local: &str, expected: &str) {
        let zone = TimeZone::get("Europe/Berlin").unwrap();
        let allowed = days.allows(&calendars(), feeds, at(&format!("{local}[Europe/Berlin]")), &zone);
        assert_eq!(allowed.map_or_else(|why| why, |()| "yes".to_owned()), expected, "{local}");
    }

    #[test]
    fn days_and_ranges() {
        let none = Feeds::default();
        let except = days(&[], &["holidays"]);
        check(&except, &none, "2026-12-23T23:59", "yes");
        check(&except, &none, "2026-12-24T00:00", "except holidays (2026-12-24)");
        check(&except, &none, "2026-12-24T23:59", "except holidays (2026-12-24)");
        check(&except, &none, "2026-12-25T00:00", "yes");
        check(&except, &none, "2027-01-06T23:59", "except holidays (2027-01-06)");
        check(&except, &none, "2027-01-07T00:00", "yes");
    }

    #[test]
    fn only_any_of_them_and_except_wins() {
        let none = Feeds::default();
        check(&days(&["term"], &[]), &none, "2026-10-11T12:00", "not in term");
        check(&days(&["term", "office"], &[]), &none, "2026-09-14T12:00", "yes");
        check(&days(&["term", "office"], &[]), &none, "2026-09-13T12:00", "in none of term, office");
        check(&days(&["term"], &["holidays"]), &none, "2026-12-24T12:00", "except holidays (2026-12-24)");
        check(&days(&[], &[]), &none, "2026-12-24T12:00", "yes");
    }

    #[test]
    fn weekly_windows() {
        let none = Feeds::default();
        let office = days(&["office"], &[]);
        // A Friday.
        check(&office, &none, "2026-12-04T07:59", "not in office");
        check(&office, &none, "2026-12-04T08:00", "yes");
        check(&office, &none, "2026-12-04T17:59", "yes");
        check(&office, &none, "2026-12-04T18:00", "not in office");
        check(&office, &none, "2026-12-05T23:59", "yes");
        check(&office, &none, "2026-12-06T12:00", "not in office");
    }

    #[test]
    fn a_window_over_midnight_belongs_to_the_day_on_which_it_begins() {
        let night = Weekly::parse("Fri,Sun 22:00-06:00").unwrap();
        let covered = |text: &str| night.covers(text.parse().unwrap());
        assert!(!covered("2026-12-04T21:59") && covered("2026-12-04T22:00"));
        assert!(covered("2026-12-05T05:59") && !covered("2026-12-05T06:00"));
        assert!(!covered("2026-12-05T22:00") && !covered("2026-12-06T05:00"));
        assert!(covered("2026-12-06T23:00") && covered("2026-12-07T00:00"));
    }

    #[test]
    fn a_calendar_of_another_zone() {
        let none = Feeds::default();
        let except = days(&[], &["tokyo"]);
        check(&except, &none, "2026-12-23T15:59", "yes");
        check(&except, &none, "2026-12-23T16:00", "except tokyo (2026-12-24)");
        check(&except, &none, "2026-12-24T16:00", "yes");
    }

    #[test]
    fn a_feed_that_was_never_read_stops_nothing_and_is_named() {
        let (none, all) = (Feeds::default(), calendars());
        for asked in [days(&["feed"], &[]), days(&[], &["feed"]), days(&["term", "feed"], &[])] {
            check(&asked, &none, "2026-08-01T12:00", "yes");
            assert_eq!(asked.unknown(&all, &none, at("2026-08-01T12:00[UTC]")).collect::<Vec<_>>(), ["feed"]);
        }
        let text =
            "BEGIN:VCALENDAR\nBEGIN:VEVENT\nUID:1\nDTSTART;VALUE=DATE:20260801\nEND:VEVENT\nEND:VCALENDAR";
        let read = Feeds::default().with(source(), Arc::new(Feed::parse(text.as_bytes()).unwrap()));
        check(&days(&["feed"], &[]), &read, "2026-08-01T12:00", "yes");
        check(&days(&["feed"], &[]), &read, "2026-08-02T12:00", "not in feed");
        check(&days(&[], &["feed"]), &read, "2026-08-01T12:00", "except feed (2026-08-01)");
        assert_eq!(days(&["feed"], &["feed"]).unknown(&all, &read, at("2026-08-01T12:00[UTC]")).count(), 0);
        // A name that is not configured: refused by the configuration, harmless here.
        check(&days(&["nowhere"], &["nowhere"]), &none, "2026-08-01T12:00", "yes");
    }

    #[test]
    fn an_event_that_cannot_be_read_makes_no_refusal_certain() {
        let event = |day: &str| format!("BEGIN:VEVENT\nUID:{day}\nDTSTART;VALUE=DATE:{day}\nEND:VEVENT\n");
        let text = |more: &str| format!("BEGIN:VCALENDAR\n{}{more}END:VCALENDAR", event("20260801"));
        let read =
            |text: &str| Feeds::default().with(source(), Arc::new(Feed::parse(text.as_bytes()).unwrap()));
        let zone = TimeZone::get("Europe/Berlin").unwrap();
        let day = at("2026-08-02T12:00[Europe/Berlin]");
        let (only, except) = (days(&["feed"], &[]), days(&["feed"], &["feed"]));
        let (good, odd) = (read(&text("")), read(&text(&event("soon"))));
        // What is allowed stays the same; that it is not known only keeps what there is.
        check(&only, &odd, "2026-08-02T12:00", "not in feed");
        assert!(!only.might_allow(&calendars(), &good, day, &zone));
        assert!(only.might_allow(&calendars(), &odd, day, &zone));
        let covered = at("2026-08-01T12:00[Europe/Berlin]");
        assert!(
            !except.might_allow(&calendars(), &odd, covered, &zone),
            "an exception that can be read is one"
        );
    }

    #[test]
    fn a_year_with_too_many_events_is_not_known() {
        let many: String = (0..520)
            .map(|n| format!("BEGIN:VEVENT\nUID:{n}\nDTSTART:20250101T0000{:02}Z\nDURATION:PT1S\nRRULE:FREQ=DAILY;BYHOUR=1,2,3\nEND:VEVENT\n", n % 60))
            .collect();
        let text = format!("BEGIN:VCALENDAR\n{many}END:VCALENDAR");
        let cut = Feeds::default().with(source(), Arc::new(Feed::parse(text.as_bytes()).unwrap()));
        let only = days(&["feed"], &[]);
        check(&only, &cut, "2026-08-01T12:00", "yes");
        let now = at("2026-08-01T12:00[UTC]");
        assert_eq!(only.unknown(&calendars(), &cut, now).collect::<Vec<_>>(), ["feed"]);
    }

    #[test]
    fn what_is_no_day_and_no_window() {
        let told =
            |result: Result<(), CalendarError>| result.map_or_else(|e| e.to_string(), |()| "ok".into());
        let date = |text: &str| told(DateRange::parse(text).map(drop));
        assert_eq!(date("2026-12-24 .. 2026-12-24"), "ok");
        assert_eq!(date("2026-02-29"), "\"2026-02-29\" is not a day or a range of days");
        assert_eq!(date("2026-12-24T10:00"), "\"2026-12-24T10:00\" is not a day or a range of days");
        assert_eq!(date("2026-12-24.."), "\"2026-12-24..\" is not a day or a range of days");
        assert_eq!(date("2026-12-25..2026-12-24"), "\"2026-12-25..2026-12-24\" ends before it begins");
        let weekly = |text: &str| told(Weekly::parse(text).map(drop));
        for good in ["sat", "Saturday", "Fri-Mon 8:00-24:00", "Mon,Wed-Thu 00:00-00:01"] {
            assert_eq!(weekly(good), "ok", "{good}");
        }
        for bad in
            ["", "08:00-18:00", "Mon 8-18", "Mon 08:00", "Mon 08:00-24:01", "Mon 24:00-06:00", "Mon 1 2"]
        {
            assert_eq!(weekly(bad), format!("{bad:?} is not a weekly window"));
        }
        assert_eq!(weekly("Mon 08:00-08:00"), "\"Mon 08:00-08:00\" begins and ends at the same time");
    }
}
