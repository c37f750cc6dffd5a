//! Recurrences: a cron expression, read on the clock on the wall of one time zone.
//!
//! croner walks the expression over civil times and never sees a time zone. Which instant a civil time means is decided
//! here, because on the days on which the clocks change that is a decision and not a calculation:
//!
//! | the civil time | `dst = "wall"` | `dst = "skip"` |
//! |---|---|---|
//! | exists once | then | then |
//! | exists twice | at the first | at the first |
//! | does not exist | where the gap ends | not at all |
//!
//! What lands on the same instant is one occurrence. So an hourly end comes once in the hour that exists twice, and a
//! whole day that a zone leaves out (Apia's 30 December 2011) comes down to one end at the following midnight.
//!
//! croner's grammar: 5 fields, or 6 with seconds first, or 7 with the year last; names of months and weekdays; `L`, `W`,
//! `MON#2`, `FRI#L`. A day of the month together with a weekday means either of the two, as in Vixie's cron; `+` before
//! the weekday means both at once.

use std::fmt;
use std::sync::Arc;

use croner::Cron;
use croner::errors::CronError;
use croner::parser::CronParser;
use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::{AmbiguousOffset, TimeZone};

use crate::job::UtcMs;

/// Bytes of an expression.
pub const MAX_CRON: usize = 256;
/// Two ends of one meeting that are closer than this make no sense.
const LEAST_SECONDS_APART: i64 = 60;
/// Expressions are tried out from here on. Of what comes once in 40 years the first is found as well.
const TRIED_FROM: DateTime = DateTime::constant(2000, 1, 1, 0, 0, 0, 0);

/// What becomes of a time that does not exist on the day on which the clocks go forward.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub enum Dst {
    /// It moves to where the gap ends.
    #[default]
    Wall,
    /// It does not fire.
    Skip,
}

impl Dst {
    pub const ALL: [(&'static str, Dst); 2] = [("wall", Dst::Wall), ("skip", Dst::Skip)];
}

/// A cron expression in a time zone. Cheap to clone.
#[derive(Clone)]
pub struct Recurrence {
    text: Arc<str>,
    cron: Arc<Cron>,
    zone: TimeZone,
    dst: Dst,
}

/// One time at which a recurrence fires.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Occurrence {
    pub at: UtcMs,
    /// Why it is not simply what the expression says.
    pub note: Option<DstNote>,
}

/// A clock on the wall that was not what the expression takes it for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum DstNote {
    /// The time does not exist; the gap ends at `moved`.
    Gap { wanted: DateTime, moved: DateTime },
    /// The time exists twice, and this is the first.
    Fold { wanted: DateTime },
}

/// Why a text is no recurrence.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum RecurrenceError {
    #[error("cron is {length} bytes long, more than {MAX_CRON}")]
    TooLong { length: usize },
    #[error("cron is {text:?}, which is not a cron expression: {why}")]
    Syntax { text: String, why: String },
    #[error("cron is {text:?}, which never comes")]
    Never { text: String },
    #[error("cron is {text:?}, which comes again within a minute")]
    TooOften { text: String },
}

impl RecurrenceError {
    /// What to do.
    pub fn hint(&self) -> &'static str {
        match self {
            RecurrenceError::TooLong { .. } => "make several entries of it",
            RecurrenceError::Syntax { .. } => {
                "write minute, hour, day, month, weekday (seconds before them if you like): \"15 10 * * Mon-Fri\""
            }
            RecurrenceError::Never { .. } => "is there such a day in that month?",
            RecurrenceError::TooOften { .. } => {
                "with six fields the first is the seconds: write one number there, mostly 0"
            }
        }
    }
}

impl Recurrence {
    /// Refuses what never comes, and what comes more often than every minute.
    pub fn new(cron: &str, zone: TimeZone, dst: Dst) -> Result<Recurrence, RecurrenceError> {
        if cron.len() > MAX_CRON {
            return Err(RecurrenceError::TooLong { length: cron.len() });
        }
        let text = || cron.to_owned();
        let syntax = |why: String| RecurrenceError::Syntax { text: text(), why };
        let parsed = CronParser::new().parse(cron).map_err(|error| syntax(own_words(&error)))?;
        let Ok(first) = parsed.find_next_occurrence(&TRIED_FROM, true) else {
            return Err(RecurrenceError::Never { text: text() });
        };
        // Only the field of the seconds can make two times come so close, and it is the same in every minute.
        if let Ok(second) = parsed.find_next_occurrence(&first, false)
            && second.duration_since(first).as_secs() < LEAST_SECONDS_APART
        {
            return Err(RecurrenceError::TooOften { text: text() });
        }
        Ok(Recurrence { text: cron.into(), cron: Arc::new(parsed), zone, dst })
    }

    /// The same expression in another zone, or with another choice.
    pub fn elsewhere(&self, zone: TimeZone, dst: Dst) -> Recurrence {
        Recurrence { zone, dst, ..self.clone() }
    }

    pub fn zone(&self) -> &TimeZone {
        &self.zone
    }

    /// The IANA name of the zone.
    pub fn zone_name(&self) -> &str {
        self.zone.iana_name().unwrap_or("local time")
    }

    pub fn dst(&self) -> Dst {
        self.dst
    }

    /// The expression as it was written.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// For people: `15 10 * * Mon-Fri in Europe/Berlin`.
    pub fn describe(&self) -> String {
        format!("{} in {}", self.text, self.zone_name())
    }

    /// What fires after `after`, up to and including `until`, in order. Nothing is worked out before it is asked for.
    pub fn between(&self, after: UtcMs, until: UtcMs) -> impl Iterator<Item = Occurrence> + '_ {
        let [civil, last] = [after, until].map(|at| self.civil(at));
        Occurrences { recurrence: self, civil: Some(civil), after, until, last }
    }

    pub fn next_after(&self, after: UtcMs) -> Option<Occurrence> {
        self.between(after, UtcMs::MAX).next()
    }

    pub fn fires_at(&self, at: UtcMs) -> bool {
        self.between(UtcMs(at.0.saturating_sub(1)), at).next().is_some()
    }

    /// What the clock on the wall shows.
    pub fn civil(&self, at: UtcMs) -> DateTime {
        self.zone.to_datetime(at.timestamp())
    }

    /// When a civil time of the expression fires; `None`: not at all.
    fn instant(&self, wanted: DateTime) -> Option<Occurrence> {
        match self.zone.to_ambiguous_timestamp(wanted).offset() {
            AmbiguousOffset::Unambiguous { offset } => {
                Some(Occurrence { at: offset.to_timestamp(wanted).ok()?.into(), note: None })
            }
            AmbiguousOffset::Fold { before, .. } => Some(Occurrence {
                at: before.to_timestamp(wanted).ok()?.into(),
                note: Some(DstNote::Fold { wanted }),
            }),
            AmbiguousOffset::Gap { .. } if self.dst == Dst::Skip => None,
            AmbiguousOffset::Gap { after, .. } => {
                // Read with the offset after the gap, the time lies just before the transition.
                let just_before = after.to_timestamp(wanted).ok()?;
                self.end_of_gap(wanted, just_before)
            }
        }
    }

    fn end_of_gap(&self, wanted: DateTime, just_before: Timestamp) -> Option<Occurrence> {
        let end = self.zone.following(just_before).next()?.timestamp();
        let moved = self.zone.to_datetime(end);
        // What the expression asks for anyway has not been moved there.
        let natural = self.cron.is_time_matching(&moved).unwrap_or(false);
        let note = (!natural).then_some(DstNote::Gap { wanted, moved });
        Some(Occurrence { at: end.into(), note })
    }
}

impl PartialEq for Recurrence {
    fn eq(&self, other: &Recurrence) -> bool {
        (&self.text, &self.zone, self.dst) == (&other.text, &other.zone, other.dst)
    }
}

impl fmt::Debug for Recurrence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Recurrence({}, {:?})", self.describe(), self.dst)
    }
}

struct Occurrences<'a> {
    recurrence: &'a Recurrence,
    /// The civil time that was looked at last; `None`: there is nothing more.
    civil: Option<DateTime>,
    /// The last one that was given.
    after: UtcMs,
    until: UtcMs,
    /// What the clock on the wall shows at `until`.
    last: DateTime,
}

impl Iterator for Occurrences<'_> {
    type Item = Occurrence;

    fn next(&mut self) -> Option<Occurrence> {
        loop {
            // Taken, so that whatever ends the loop ends the iterator.
            let civil = self.civil.take()?;
            let wanted = self.recurrence.cron.find_next_occurrence(&civil, false).ok()?;
            match self.recurrence.instant(wanted) {
                Some(found) if found.at > self.until => return None,
                Some(found) if found.at > self.after => {
                    self.civil = Some(wanted);
                    self.after = found.at;
                    return Some(found);
                }
                // Inside a gap, or in the second half of a time that exists twice.
                Some(_) => self.civil = Some(wanted),
                // In a gap that counts for nothing; it may be the last thing before `until`, or lie after it.
                None if wanted > self.last => return None,
                None => self.civil = Some(wanted),
            }
        }
    }
}

/// `02:30 does not exist on that day: moved to 03:00`
impl fmt::Display for DstNote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DstNote::Gap { wanted, moved } if wanted.date() == moved.date() => {
                write!(f, "{} does not exist on that day: moved to {}", time(*wanted), time(*moved))
            }
            DstNote::Gap { wanted, moved } => write!(
                f,
                "{} {} does not exist: moved to {} {}",
                wanted.date(),
                time(*wanted),
                moved.date(),
                time(*moved)
            ),
            DstNote::Fold { wanted } => write!(f, "{} exists twice: the first", time(*wanted)),
        }
    }
}

/// `18:00`; with seconds only where there are some.
fn time(civil: DateTime) -> impl fmt::Display {
    civil.strftime(if civil.second() == 0 { "%H:%M" } else { "%H:%M:%S" })
}

/// croner's errors as the second half of a sentence.
fn own_words(error: &CronError) -> String {
    let (CronError::InvalidPattern(why) | CronError::IllegalCharacters(why) | CronError::ComponentError(why)) =
        error
    else {
        return "it is empty".to_owned();
    };
    let mut letters = why.trim_end_matches('.').chars();
    letters.next().map_or_else(String::new, |first| first.to_lowercase().chain(letters).collect())
}

#[cfg(test)]
mod tests;
