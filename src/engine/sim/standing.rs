//! Standing entries and rules in a history, and, by plain arithmetic, what they ask for.
//!
//! Whether a cron expression is read rightly is tested elsewhere. Here its times are minutes of every hour in a zone whose
//! offset does not change while a history lasts, so that the judge can count them on its fingers.

use std::time::Duration;

use jiff::civil::Time;
use jiff::tz::TimeZone;

use super::clock::{EPOCH, Ms};
use super::runner::server;
use super::sim::Quirk;
use super::world::meeting_id;
use crate::job::{Limits, MeetingId, UtcMs};
use crate::schedule::rule::Weekdays;
use crate::schedule::{Days, Dst, Exempt, Recurrence, Recurring, Rule, Schedule, Select};

pub const SECOND: Ms = 1_000;
pub const MINUTE: Ms = 60 * SECOND;
pub const HOUR: Ms = 60 * MINUTE;
pub const DAY: Ms = 24 * HOUR;
/// The first day of 1970.
const THURSDAY: i64 = 4;

/// What the schedule file says besides the entries that have a time of their own.
#[derive(Clone, PartialEq, Default, Debug)]
pub struct Standing {
    pub repeats: Vec<Repeat>,
    pub rules: Vec<SimRule>,
    /// Rooms that no rule may hit.
    pub exempt: Vec<(usize, usize)>,
    /// How long before its time an occurrence becomes a job.
    pub ahead: Ms,
}

/// A recurring end: at these minutes of every hour, or of one hour, or of that on one day of the week.
#[derive(Clone, PartialEq, Debug)]
pub struct Repeat {
    pub name: usize,
    pub site: usize,
    pub room: usize,
    pub minutes: Vec<i64>,
    pub second: i64,
    pub hour: Option<i64>,
    /// Sunday is 0; only with an hour.
    pub weekday: Option<i64>,
    pub zone: Zone,
    pub late_limit: Ms,
    pub warn: Vec<Ms>,
}

/// A time zone, and its offset in minutes in the first days of March 2026.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Zone(pub &'static str, pub i64);

pub const ZONES: [Zone; 5] = [
    Zone("UTC", 0),
    Zone("Europe/Berlin", 60),
    Zone("Asia/Kolkata", 330),
    Zone("Asia/Kathmandu", 345),
    Zone("America/St_Johns", -210),
];

#[derive(Clone, PartialEq, Debug)]
pub struct SimRule {
    pub name: usize,
    pub site: usize,
    /// `None`: whatever runs there.
    pub room: Option<usize>,
    pub what: Limit,
    pub dry_run: bool,
    pub first_hit_delay: Ms,
    pub every: Ms,
}

#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Limit {
    MaxDuration(Ms),
    /// The same, from an `[[end]]` of its own.
    EntryMaxDuration(Ms),
    /// Between two times of the day, as true times of the first day.
    Closed(Ms, Ms),
    EmptyFor(Ms),
    AloneFor(Ms),
}

impl Standing {
    /// As an engine reads it that is dishonest in this way.
    pub fn seen_with(&self, quirk: Quirk) -> Standing {
        let mut seen = self.clone();
        match quirk {
            Quirk::LosesOccurrences => seen.repeats.iter_mut().for_each(|repeat| {
                repeat.minutes.pop();
            }),
            Quirk::TwoZones => {
                let same = self.repeats.iter().filter(|repeat| repeat.zone.0 == "Europe/Berlin");
                let same = same.map(|repeat| Repeat { zone: Zone("Europe/Paris", 60), ..repeat.clone() });
                seen.repeats.extend(same);
            }
            Quirk::NoExempt => seen.exempt.clear(),
            _ => {}
        }
        seen
    }

    /// As the daemon would have read it.
    pub fn schedule(&self) -> Schedule {
        Schedule {
            recurring: self.repeats.iter().map(Repeat::recurring).collect(),
            rules: self.rules.iter().map(SimRule::settings).collect(),
            exempt: self.exempt.iter().map(exempt).collect(),
            ahead: duration(self.ahead),
            ..Schedule::default()
        }
    }
}

impl Repeat {
    pub fn entry(&self) -> String {
        format!("standing-{}", self.name)
    }

    pub fn meeting(&self) -> MeetingId {
        meeting_id(self.site, self.room)
    }

    fn expression(&self) -> String {
        let minutes: Vec<String> = self.minutes.iter().map(i64::to_string).collect();
        let hour = self.hour.map_or("*".to_owned(), |hour| hour.to_string());
        let weekday = self.weekday.map_or("*".to_owned(), |day| day.to_string());
        format!("{} {} {hour} * * {weekday}", self.second, minutes.join(","))
    }

    /// After the first, up to and including the second.
    pub fn between(&self, after: UtcMs, until: UtcMs) -> impl Iterator<Item = UtcMs> {
        let local = |at: UtcMs| at.0 + self.zone.1 * MINUTE;
        let step = if self.hour.is_some() { DAY } else { HOUR };
        let steps = local(after).div_euclid(step)..=local(until).div_euclid(step);
        let is_day =
            |at: Ms| self.weekday.is_none_or(|day| (at.div_euclid(DAY) + THURSDAY).rem_euclid(7) == day);
        let starts = steps.map(move |n| n * step).filter(move |at| is_day(*at));
        let from = self.second * SECOND - self.zone.1 * MINUTE + self.hour.unwrap_or(0) * HOUR;
        let all = starts.flat_map(move |at| self.minutes.iter().map(move |m| UtcMs(at + from + m * MINUTE)));
        all.filter(move |at| (after.0 + 1..=until.0).contains(&at.0))
    }

    pub fn next_after(&self, at: UtcMs) -> Option<UtcMs> {
        self.between(at, UtcMs(at.0 + self.longest())).next()
    }

    /// The last one that is not after this.
    pub fn last_until(&self, at: UtcMs) -> Option<UtcMs> {
        self.between(UtcMs(at.0 - self.longest()), at).last()
    }

    /// In so much time there is one.
    fn longest(&self) -> Ms {
        match (self.hour, self.weekday) {
            (_, Some(_)) => 8 * DAY,
            (Some(_), None) => 2 * DAY,
            (None, None) => 2 * HOUR,
        }
    }

    fn recurring(&self) -> Recurring {
        let zone = TimeZone::get(self.zone.0).unwrap();
        Recurring {
            name: self.entry(),
            server: server(self.site),
            meeting: self.meeting(),
            recurrence: Recurrence::new(&self.expression(), zone, Dst::Wall).unwrap(),
            days: Days::default(),
            limits: Limits {
                late_limit: duration(self.late_limit),
                warn: self.warn.iter().copied().map(duration).collect(),
                ..Limits::default()
            },
        }
    }
}

impl SimRule {
    pub fn rule(&self) -> String {
        format!("rule-{}", self.name)
    }

    pub fn matches(&self, site: usize, room: usize) -> bool {
        self.site == site && self.room.is_none_or(|only| only == room)
    }

    fn settings(&self) -> Rule {
        let meeting = self.room.map(|room| meeting_id(self.site, room));
        let (all, only) = ("*".to_owned(), meeting.as_ref().map(ToString::to_string));
        let limit = |wanted: Option<Ms>| wanted.map(duration);
        let (mut max, mut closed, mut empty, mut alone, mut entry) = (None, None, None, None, false);
        match self.what {
            Limit::MaxDuration(length) => max = Some(length),
            Limit::EntryMaxDuration(length) => (max, entry) = (Some(length), true),
            Limit::Closed(from, to) => closed = Some((time_of_day(from), time_of_day(to))),
            Limit::EmptyFor(length) => empty = Some(length),
            Limit::AloneFor(length) => alone = Some(length),
        }
        Rule {
            name: self.rule(),
            server: server(self.site),
            meeting: meeting.filter(|_| entry),
            select: Select { matches: vec![only.unwrap_or(all)], ..Select::default() },
            max_duration: limit(max),
            close_at: None,
            empty_for: limit(empty),
            alone_for: limit(alone),
            max_participant_minutes: None,
            closed,
            timezone: TimeZone::UTC,
            weekdays: Weekdays::ALL,
            days: Days::default(),
            dry_run: self.dry_run,
            first_hit_delay: duration(self.first_hit_delay),
            every: duration(self.every),
            max_open: Rule::DEFAULT_MAX_OPEN,
            limits: Limits::default(),
        }
    }
}

fn exempt((site, room): &(usize, usize)) -> Exempt {
    let matches = vec![meeting_id(*site, *room).to_string()];
    Exempt { server: Some(server(*site)), meeting: None, select: Select { matches, ..Select::default() } }
}

/// When the wall clock shows this on any day, if nobody sets it.
fn time_of_day(at: Ms) -> Time {
    UtcMs(EPOCH + at).timestamp().to_zoned(TimeZone::UTC).time()
}

pub fn duration(ms: Ms) -> Duration {
    Duration::from_millis(ms.unsigned_abs())
}
