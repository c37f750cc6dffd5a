//! What the schedule file asks for, in domain types.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::civil::Time;
use jiff::tz::TimeZone;
use regex::Regex;

use super::calendar::{Calendars, Days};
use super::feed::Source;
use super::ical::GivenZones;
use super::recurrence::Recurrence;
use super::rule::Weekdays;
use crate::job::{InstanceId, Limits, MeetingId, ServerName, UtcMs};

/// Everything in the schedule file that makes jobs.
#[derive(Clone, Default, Debug)]
pub struct Schedule {
    /// `[[end]]` with `at`.
    pub entries: Vec<Entry>,
    /// The zones in which these give their times, by identity, where they name one: only for people.
    pub zones: BTreeMap<String, TimeZone>,
    /// `[[end]]` with `cron`.
    pub recurring: Vec<Recurring>,
    /// `[[calendar-end]]`
    pub calendar_ends: Vec<CalendarEnd>,
    /// `[[rule]]`, and `[[end]]` with `max-duration`.
    pub rules: Vec<Rule>,
    /// `[[exempt]]`
    pub exempt: Vec<Exempt>,
    /// `[calendars.*]`
    pub calendars: Calendars,
    /// How feeds are read, where their entries say so.
    pub feed_options: BTreeMap<Source, FeedOptions>,
    /// How long before its time an occurrence becomes a job.
    pub ahead: Duration,
    /// How often feeds are read again.
    pub refresh: Duration,
}

impl Schedule {
    /// Every feed that something refers to, and what does: `calendars.holidays`, `calendar-end lectures`.
    pub fn sources(&self) -> BTreeMap<&Source, Vec<String>> {
        let mut sources: BTreeMap<&Source, Vec<String>> = BTreeMap::new();
        for (name, calendar) in &self.calendars {
            if let Some(source) = &calendar.source {
                sources.entry(source).or_default().push(format!("calendars.{name}"));
            }
        }
        for end in &self.calendar_ends {
            sources.entry(&end.source).or_default().push(format!("calendar-end {}", end.name));
        }
        sources
    }
}

impl Schedule {
    /// What its entries say about names of time zones in a feed.
    pub fn zones_of(&self, source: &Source) -> GivenZones {
        self.feed_options.get(source).map(|options| options.zones.clone()).unwrap_or_default()
    }

    /// Do all that use a feed take it at its word at once when it becomes empty or loses half of its events?
    pub fn accepts_empty(&self, source: &Source) -> bool {
        self.feed_options.get(source).is_some_and(|options| options.accept_empty)
    }

    /// It wants more as time goes on, without being edited.
    pub fn is_standing(&self) -> bool {
        !self.recurring.is_empty() || !self.calendar_ends.is_empty()
    }
}

/// How one feed is read: all that refers to it has to agree on it.
#[derive(Clone, Default, Debug)]
pub struct FeedOptions {
    /// What names of time zones in it mean.
    pub zones: GivenZones,
    /// It is taken at its word at once when it becomes empty or loses half of its events.
    pub accept_empty: bool,
}

/// One deadline that the schedule wants: an `[[end]]` with `at`, one occurrence of a recurring one, or one event of a
/// calendar.
#[derive(Clone, PartialEq, Debug)]
pub struct Entry {
    /// Identifies it across restarts and edits: its `name` (or server, meeting and time); for an occurrence, the name of
    /// the standing entry and which one it is.
    pub identity: String,
    /// The name of the standing entry (recurring, calendar) that this is an occurrence of.
    pub of: Option<String>,
    pub server: ServerName,
    pub meeting: MeetingId,
    pub instance: Option<InstanceId>,
    pub at: UtcMs,
    pub limits: Limits,
}

/// One `[[end]]` with `cron`.
#[derive(Clone, PartialEq, Debug)]
pub struct Recurring {
    /// Its `name`, or server, meeting and expression.
    pub name: String,
    pub server: ServerName,
    pub meeting: MeetingId,
    pub recurrence: Recurrence,
    pub days: Days,
    pub limits: Limits,
}

/// One `[[calendar-end]]`: the events of a feed end meetings.
#[derive(Clone, Debug)]
pub struct CalendarEnd {
    pub name: String,
    pub server: ServerName,
    pub source: Source,
    /// Where in an event the meeting id stands: `LOCATION`, `URL`, `SUMMARY`, `DESCRIPTION`, `CONFERENCE`, `UID` or an
    /// `X-` property.
    pub property: String,
    /// Its group `meeting` (or first group, or whole match) is the meeting id; `None`: the whole value is.
    pub pattern: Option<Regex>,
    /// Events of which this property matches end nothing.
    pub skip: Option<PropertyPattern>,
    /// For floating times and whole days, and for the days of `days`.
    pub timezone: Option<TimeZone>,
    pub days: Days,
    pub limits: Limits,
}

/// What a property of an event is to match.
#[derive(Clone, Debug)]
pub struct PropertyPattern {
    /// In capitals, as in [`CalendarEnd::property`].
    pub property: String,
    pub pattern: Regex,
}

impl CalendarEnd {
    /// Where floating times are meant.
    pub fn zone(&self) -> TimeZone {
        self.timezone.clone().unwrap_or(TimeZone::UTC)
    }
}

/// One `[[rule]]`: a standing limit on whatever runs on a server.
#[derive(Clone, Debug)]
pub struct Rule {
    pub name: String,
    pub server: ServerName,
    /// Exactly this meeting: an `[[end]]` with `max-duration`, whose jobs are the schedule's.
    pub meeting: Option<MeetingId>,
    pub select: Select,
    pub max_duration: Option<Duration>,
    /// Local time of day.
    pub close_at: Option<Time>,
    pub empty_for: Option<Duration>,
    pub alone_for: Option<Duration>,
    pub max_participant_minutes: Option<u64>,
    /// From, to; the second may be the smaller one (over midnight), or the same (a whole day).
    pub closed: Option<(Time, Time)>,
    pub timezone: TimeZone,
    /// Local days on which something may be ended; for `closed`, on which it begins.
    pub weekdays: Weekdays,
    pub days: Days,
    /// Reports only.
    pub dry_run: bool,
    pub first_hit_delay: Duration,
    pub every: Duration,
    /// Deadlines that it may have open at once, and make in an hour.
    pub max_open: usize,
    pub limits: Limits,
}

impl Rule {
    /// More than the largest server has meetings; less than would be felt by its disk.
    pub const DEFAULT_MAX_OPEN: usize = 5_000;
    /// Between two listings of its server.
    pub const DEFAULT_EVERY: Duration = Duration::from_secs(60);

    /// In earnest, for all meetings of the server, without notice; it still lacks a condition.
    pub fn bare(name: impl Into<String>, server: ServerName) -> Rule {
        Rule {
            name: name.into(),
            server,
            meeting: None,
            select: Select::default(),
            max_duration: None,
            close_at: None,
            empty_for: None,
            alone_for: None,
            max_participant_minutes: None,
            closed: None,
            timezone: TimeZone::UTC,
            weekdays: Weekdays::ALL,
            days: Days::default(),
            dry_run: false,
            first_hit_delay: Duration::ZERO,
            every: Rule::DEFAULT_EVERY,
            max_open: Rule::DEFAULT_MAX_OPEN,
            limits: Limits::default(),
        }
    }
}

/// Which meetings are meant. Globs: `*` and `?`.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Select {
    pub matches: Vec<String>,
    pub except: Vec<String>,
    pub names: Vec<String>,
    /// Metadata as the platform tells it: key and glob.
    pub meta: BTreeMap<String, String>,
}

/// One `[[exempt]]`, or an `[[end]]` with `rules = false`: no rule hits these meetings.
#[derive(Clone, PartialEq, Debug)]
pub struct Exempt {
    /// `None`: every server.
    pub server: Option<ServerName>,
    /// Exactly this meeting.
    pub meeting: Option<MeetingId>,
    pub select: Select,
}
