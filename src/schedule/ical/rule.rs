//! RRULE and EXRULE (RFC 5545, 3.3.10): the times at which an event begins, on the clock of the event.
//!
//! A rule is worked out in local time without a zone, so that what the clocks do is decided by `When` alone, and only up to
//! the end of what is asked for. It goes through periods (days, weeks, months, years), of each of which it takes the days
//! that all its parts allow: the table of the RFC, read as a filter. Whether it says what RFC 5545 knows is decided when it
//! is read: a part that is not known would make another rule of it.
//!
//! Own code, since calcard refuses `BYDAY=-5TU`, skips words that it does not know, and takes `COUNT=0` for no count.

use jiff::civil::{Date, DateTime, Time, Weekday};
use jiff::{Span, Timestamp, ToSpan};

use super::when::digits;

/// Times of one rule from its start on, used or not.
const MAX_TIMES: usize = 100_000;
/// Times on one day: a rule that makes more is a mistake, and costs time.
const MAX_A_DAY: usize = 500;
/// Numbers in one part of a rule.
const MAX_LIST: usize = 400;

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Frequency {
    Daily,
    Weekly,
    Monthly,
    Yearly,
}

/// When a rule ends.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Until {
    Never,
    Count(u32),
    /// On the clock of the event, included.
    Local(DateTime),
    /// The same as an instant.
    Instant(Timestamp),
}

/// One rule.
#[derive(Clone, PartialEq, Debug)]
pub struct Rule {
    frequency: Frequency,
    interval: i32,
    until: Until,
    week_start: Weekday,
    months: Vec<i32>,
    weeks: Vec<i32>,
    year_days: Vec<i32>,
    month_days: Vec<i32>,
    /// Which one of its month or year (0: every one), and the weekday (Monday is 0).
    days: Vec<(i32, i8)>,
    hours: Vec<i32>,
    minutes: Vec<i32>,
    seconds: Vec<i32>,
    positions: Vec<i32>,
}

impl Rule {
    /// Reads the value of an RRULE. `Err`: why it cannot be worked out, as the rest of a sentence that begins with its name.
    pub fn parse(text: &str) -> Result<Rule, String> {
        let mut rule = Rule {
            frequency: Frequency::Daily,
            interval: 1,
            until: Until::Never,
            week_start: Weekday::Monday,
            months: Vec::new(),
            weeks: Vec::new(),
            year_days: Vec::new(),
            month_days: Vec::new(),
            days: Vec::new(),
            hours: Vec::new(),
            minutes: Vec::new(),
            seconds: Vec::new(),
            positions: Vec::new(),
        };
        let mut frequency = None;
        for part in text.split(';').map(str::trim).filter(|part| !part.is_empty()) {
            let (name, value) = part.split_once('=').ok_or_else(unreadable)?;
            let (name, value) = (name.trim().to_ascii_uppercase(), value.trim().to_ascii_uppercase());
            if name == "FREQ" {
                frequency = Some(frequency_of(&value)?);
            } else {
                rule.part(&name, &value)?;
            }
        }
        rule.frequency = frequency.ok_or_else(unreadable)?;
        rule.check()?;
        Ok(rule)
    }

    fn part(&mut self, name: &str, value: &str) -> Result<(), String> {
        match name {
            "INTERVAL" => self.interval = number(value, 1..=10_000)?,
            "COUNT" => {
                self.until = Until::Count(value.parse().ok().filter(|n| *n > 0).ok_or_else(unreadable)?);
            }
            "UNTIL" => self.until = until(value)?,
            "WKST" => self.week_start = weekday(value).ok_or_else(unreadable)?,
            "BYMONTH" => self.months = numbers(value, 1..=12)?,
            "BYWEEKNO" => self.weeks = signed(value, 53)?,
            "BYYEARDAY" => self.year_days = signed(value, 366)?,
            "BYMONTHDAY" => self.month_days = signed(value, 31)?,
            "BYDAY" => self.days = each(value, day)?,
            "BYHOUR" => self.hours = numbers(value, 0..=23)?,
            "BYMINUTE" => self.minutes = numbers(value, 0..=59)?,
            // Nothing here knows leap seconds.
            "BYSECOND" => {
                self.seconds = numbers(value, 0..=60)?.into_iter().map(|second| second.min(59)).collect();
            }
            "BYSETPOS" => self.positions = signed(value, 366)?,
            "RSCALE" if value == "GREGORIAN" => {}
            "RSCALE" | "SKIP" => return Err("counts by another calendar (RSCALE)".to_owned()),
            _ => return Err(unreadable()),
        }
        Ok(())
    }

    /// What RFC 5545 forbids has no meaning that everybody shares.
    fn check(&self) -> Result<(), String> {
        use Frequency::{Daily, Monthly, Weekly, Yearly};
        let forbidden = match self.frequency {
            Yearly => false,
            Monthly | Daily => !self.weeks.is_empty() || !self.year_days.is_empty(),
            Weekly => !self.weeks.is_empty() || !self.year_days.is_empty() || !self.month_days.is_empty(),
        };
        let a_day = [&self.hours, &self.minutes, &self.seconds].map(|list| list.len().max(1));
        if a_day.iter().product::<usize>() > MAX_A_DAY {
            return Err(format!("has more than {MAX_A_DAY} times a day"));
        }
        let nth = self.days.iter().any(|(which, _)| *which != 0);
        let nth_of_nothing = nth && (self.frequency < Monthly || !self.weeks.is_empty());
        let nth_of_a_month = self.frequency == Monthly && self.days.iter().any(|(which, _)| which.abs() > 5);
        if forbidden || nth_of_nothing || nth_of_a_month {
            return Err("makes no sense".to_owned());
        }
        Ok(())
    }

    /// With its end on the clock of the event: what was given as an instant is meant where `local` says.
    #[must_use]
    pub fn ending(mut self, local: impl FnOnce(Timestamp) -> DateTime) -> Rule {
        if let Until::Instant(at) = self.until {
            self.until = Until::Local(local(at));
        }
        self
    }

    /// The times from `start` to `last`, in order; `start` is one of them only if the rule hits it. `Err`: why the rule
    /// cannot be worked out. An end that is still an instant is meant in UTC.
    pub fn times(&self, start: DateTime, last: DateTime) -> Result<Vec<DateTime>, String> {
        let rule = self.with_what_its_start_says(start);
        let last = match rule.until {
            Until::Local(until) => last.min(until),
            Until::Instant(until) => last.min(jiff::tz::Offset::UTC.to_datetime(until)),
            Until::Never | Until::Count(_) => last,
        };
        let count = match rule.until {
            Until::Count(count) => usize::try_from(count).unwrap_or(usize::MAX),
            _ => usize::MAX,
        };
        let mut found = Vec::new();
        let mut period = Some(rule.period_of(start.date()));
        while let Some(first) = period.filter(|first| *first <= last.date()) {
            for time in rule.of_period(first) {
                if time < start {
                    continue;
                }
                if time > last || found.len() == count {
                    return Ok(found);
                }
                if found.len() == MAX_TIMES {
                    return Err(format!("has more than {MAX_TIMES} times before then"));
                }
                found.push(time);
            }
            period = first.checked_add(rule.step()).ok();
        }
        Ok(found)
    }

    /// Does the rule itself begin at `start`?
    pub fn hits(&self, start: DateTime) -> bool {
        self.times(start, start).is_ok_and(|times| !times.is_empty())
    }

    /// Is its end before `start`, so that it never takes place? An end that is an instant may be a day off.
    pub fn is_over_before(&self, start: DateTime) -> bool {
        match self.until {
            Until::Local(until) => until < start,
            Until::Instant(until) => jiff::tz::Offset::UTC.to_datetime(until).saturating_add(1.day()) < start,
            Until::Never | Until::Count(_) => false,
        }
    }

    /// What a rule does not say is taken from its start.
    fn with_what_its_start_says(&self, start: DateTime) -> Rule {
        let mut rule = self.clone();
        let days = rule.weeks.is_empty() && rule.year_days.is_empty() && rule.month_days.is_empty();
        match rule.frequency {
            Frequency::Daily => {}
            Frequency::Weekly if rule.days.is_empty() => {
                rule.days = vec![(0, start.weekday().to_monday_zero_offset())];
            }
            Frequency::Yearly if !rule.weeks.is_empty() && rule.days.is_empty() => {
                rule.days = vec![(0, start.weekday().to_monday_zero_offset())];
            }
            Frequency::Monthly | Frequency::Yearly if days && rule.days.is_empty() => {
                rule.month_days = vec![i32::from(start.day())];
                if rule.frequency == Frequency::Yearly && rule.months.is_empty() {
                    rule.months = vec![i32::from(start.month())];
                }
            }
            _ => {}
        }
        let or = |list: &mut Vec<i32>, own: i8| {
            if list.is_empty() {
                list.push(i32::from(own));
            }
        };
        or(&mut rule.hours, start.hour());
        or(&mut rule.minutes, start.minute());
        or(&mut rule.seconds, start.second());
        rule
    }

    /// The first day of the period in which a day lies.
    fn period_of(&self, day: Date) -> Date {
        match self.frequency {
            Frequency::Daily => day,
            Frequency::Weekly => first_of_week(day, self.week_start),
            Frequency::Monthly => day.first_of_month(),
            Frequency::Yearly => day.first_of_year(),
        }
    }

    fn step(&self) -> Span {
        match self.frequency {
            Frequency::Daily => self.interval.days(),
            Frequency::Weekly => self.interval.weeks(),
            Frequency::Monthly => self.interval.months(),
            Frequency::Yearly => self.interval.years(),
        }
    }

    /// The times of the period that begins on `first`, in order.
    fn of_period(&self, first: Date) -> Vec<DateTime> {
        let mut times = Vec::new();
        for day in self.days_of_period(first) {
            for hour in &self.hours {
                for minute in &self.minutes {
                    times.extend(
                        self.seconds
                            .iter()
                            .filter_map(|second| Some(day.to_datetime(time(*hour, *minute, *second)?))),
                    );
                }
            }
        }
        if self.positions.is_empty() {
            return times;
        }
        let all = i32::try_from(times.len()).unwrap_or(i32::MAX);
        let places = self.positions.iter().map(|place| if *place > 0 { place - 1 } else { all + place });
        let mut places: Vec<i32> = places.collect();
        places.sort_unstable();
        places.dedup();
        places.into_iter().filter_map(|place| times.get(usize::try_from(place).ok()?).copied()).collect()
    }

    fn days_of_period(&self, first: Date) -> Vec<Date> {
        let next = match self.frequency {
            Frequency::Daily => first.checked_add(1.day()),
            Frequency::Weekly => first.checked_add(1.week()),
            Frequency::Monthly => first.checked_add(1.month()),
            Frequency::Yearly => first.checked_add(1.year()),
        };
        let end = next.unwrap_or(Date::MAX);
        let mut days = Vec::new();
        let mut day = first;
        while day < end {
            // Most rules of a year are about one month of it.
            if !self.months.is_empty() && !self.months.contains(&i32::from(day.month())) {
                let Ok(next) = day.last_of_month().tomorrow() else { break };
                day = next;
                continue;
            }
            if self.allows(day) {
                days.push(day);
            }
            let Ok(next) = day.tomorrow() else { break };
            day = next;
        }
        days
    }

    /// Is it one of its days, in a month that is one of its months?
    fn allows(&self, day: Date) -> bool {
        let in_month = (i32::from(day.day()), i32::from(day.days_in_month()));
        let in_year = (i32::from(day.day_of_year()), i32::from(day.days_in_year()));
        (self.month_days.is_empty() || listed(&self.month_days, in_month))
            && (self.year_days.is_empty() || listed(&self.year_days, in_year))
            && (self.weeks.is_empty() || listed(&self.weeks, week(day, self.week_start)))
            && (self.days.is_empty() || self.is_weekday(day, in_month, in_year))
    }

    fn is_weekday(&self, day: Date, in_month: (i32, i32), in_year: (i32, i32)) -> bool {
        let of_month = self.frequency == Frequency::Monthly || !self.months.is_empty();
        let (at, all) = if of_month { in_month } else { in_year };
        let (from_start, from_end) = ((at - 1) / 7 + 1, -((all - at) / 7 + 1));
        let fits = |which: i32| which == 0 || which == from_start || which == from_end;
        let own = day.weekday().to_monday_zero_offset();
        self.days.iter().any(|(which, weekday)| own == *weekday && fits(*which))
    }
}

/// Is a place, one of so many, in a list that counts from the start, or backwards from the end?
fn listed(list: &[i32], (at, all): (i32, i32)) -> bool {
    list.contains(&at) || list.contains(&(at - all - 1))
}

/// Which week of its year a day lies in, and how many that year has: the first has at least four days in it.
fn week(day: Date, week_start: Weekday) -> (i32, i32) {
    let middle = |day: Date| first_of_week(day, week_start).saturating_add(3.days());
    let number = |middle: Date| (i32::from(middle.day_of_year()) - 1) / 7 + 1;
    let own = middle(day);
    // The 28th of December always lies in the last one.
    let last = own.last_of_year().saturating_sub(3.days());
    (number(own), number(middle(last)))
}

fn first_of_week(day: Date, week_start: Weekday) -> Date {
    day.saturating_sub(i64::from(week_start.until(day.weekday())).days())
}

fn time(hour: i32, minute: i32, second: i32) -> Option<Time> {
    let part = |part: i32| i8::try_from(part).ok();
    Time::new(part(hour)?, part(minute)?, part(second)?, 0).ok()
}

// Reading.

fn unreadable() -> String {
    "cannot be read".to_owned()
}

fn frequency_of(value: &str) -> Result<Frequency, String> {
    match value {
        "DAILY" => Ok(Frequency::Daily),
        "WEEKLY" => Ok(Frequency::Weekly),
        "MONTHLY" => Ok(Frequency::Monthly),
        "YEARLY" => Ok(Frequency::Yearly),
        "HOURLY" | "MINUTELY" | "SECONDLY" => Err("repeats more often than daily".to_owned()),
        _ => Err(unreadable()),
    }
}

/// A day is meant to its end.
fn until(value: &str) -> Result<Until, String> {
    let odd = || "ends at an UNTIL that is no time".to_owned();
    let given = digits(value).ok_or_else(odd)?;
    let last_second = given.local.date().at(23, 59, 59, 0);
    Ok(match (given.has_time, given.utc) {
        (false, _) => Until::Local(last_second),
        (true, false) => Until::Local(given.local),
        // Some write the last second that there is, which is beyond what jiff knows.
        (true, true) => {
            Until::Instant(jiff::tz::Offset::UTC.to_timestamp(given.local).unwrap_or(Timestamp::MAX))
        }
    })
}

fn number(value: &str, range: std::ops::RangeInclusive<i32>) -> Result<i32, String> {
    value.parse().ok().filter(|number| range.contains(number)).ok_or_else(unreadable)
}

fn numbers(value: &str, range: std::ops::RangeInclusive<i32>) -> Result<Vec<i32>, String> {
    each(value, |one| number(one, range.clone()).ok())
}

/// Counted from the start, or backwards from the end; never 0.
fn signed(value: &str, most: i32) -> Result<Vec<i32>, String> {
    each(value, |one| number(one, -most..=most).ok().filter(|number| *number != 0))
}

/// Sorted, each one once.
fn each<T: Ord>(value: &str, read: impl Fn(&str) -> Option<T>) -> Result<Vec<T>, String> {
    let mut list = Vec::new();
    for one in value.split(',').map(str::trim).filter(|one| !one.is_empty()) {
        if list.len() == MAX_LIST {
            return Err(unreadable());
        }
        list.push(read(one).ok_or_else(unreadable)?);
    }
    list.sort_unstable();
    list.dedup();
    Ok(list)
}

fn weekday(value: &str) -> Option<Weekday> {
    Some(match value {
        "MO" => Weekday::Monday,
        "TU" => Weekday::Tuesday,
        "WE" => Weekday::Wednesday,
        "TH" => Weekday::Thursday,
        "FR" => Weekday::Friday,
        "SA" => Weekday::Saturday,
        "SU" => Weekday::Sunday,
        _ => return None,
    })
}

/// `TU`, `2TU`, `-5TU`
fn day(value: &str) -> Option<(i32, i8)> {
    let (which, name) = value.split_at_checked(value.len().checked_sub(2)?)?;
    let which = match which.trim() {
        "" => 0,
        which => number(which, -53..=53).ok().filter(|which| *which != 0)?,
    };
    Some((which, weekday(name)?.to_monday_zero_offset()))
}

#[cfg(test)]
mod tests;
