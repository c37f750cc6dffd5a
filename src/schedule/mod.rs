//! The schedule file as deadlines ([`expand()`]), and what they come to beside the jobs that there are ([`plan()`]). Pure.

mod calendar;
mod ends;
mod expand;
mod feed;
mod ical;
mod model;
mod overlap;
mod own;
mod plan;
pub mod preview;
mod recurrence;
pub mod rule;
mod weekday;

pub use self::calendar::{Calendar, CalendarError, Calendars, DateRange, Days, Weekly};
pub use self::ends::{Ends, Skip, Skipped, ends};
pub use self::expand::{Expansion, Window, expand, occurrence_entry};
pub use self::feed::{Feed, FeedUrl, Feeds, MAX_FEED, Source};
pub use self::ical::{FeedError, GivenZones, Problem, Problems, Remarks, iana as zone_named};
pub use self::model::{
    CalendarEnd, Entry, Exempt, FeedOptions, PropertyPattern, Recurring, Rule, Schedule, Select,
};
pub use self::overlap::{Overlap, busiest, overlaps};
pub use self::own::{Own, OwnEntries};
pub use self::plan::{Action, is_undecided, overtaken, plan, reached};
pub use self::recurrence::{Dst, DstNote, MAX_CRON, Occurrence, Recurrence, RecurrenceError};
pub use self::weekday::weekday;
