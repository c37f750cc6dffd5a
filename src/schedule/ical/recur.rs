//! RRULE: the times at which an event begins, on the clock of the event.
//!
//! The rule is worked out in local time without a zone, so that what the clocks do is decided by `When` alone, and only up to
//! the end of what is asked for.

use calcard::common::timezone::Tz;
use calcard::icalendar::{
    ICalendar, ICalendarComponent, ICalendarComponentType, ICalendarEntry, ICalendarProperty,
    ICalendarRecurrenceRule, ICalendarValue,
};
use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;

use super::event::partial;

/// Times of one rule from its start on, used or not.
const MAX_TIMES: usize = 100_000;

/// The times from `start` to `last`, in order. `Err`: why the rule cannot be worked out.
pub fn times(
    rule: &ICalendarRecurrenceRule,
    start: DateTime,
    last: DateTime,
) -> Result<Vec<DateTime>, String> {
    let mut rule = rule.clone();
    // Compared as numbers: both have all their parts.
    let last = partial(last);
    if rule.until.as_ref().is_none_or(|until| *until > last) {
        rule.until = Some(last);
    }
    if rule.until.as_ref().is_some_and(|until| *until < partial(start)) {
        return Ok(Vec::new());
    }
    let value = |name, value| ICalendarEntry { name, params: Vec::new(), values: vec![value] };
    let event = ICalendarComponent {
        component_type: ICalendarComponentType::VEvent,
        entries: vec![
            value(ICalendarProperty::Dtstart, ICalendarValue::PartialDateTime(Box::new(partial(start)))),
            value(ICalendarProperty::Rrule, ICalendarValue::RecurrenceRule(Box::new(rule))),
        ],
        component_ids: Vec::new(),
    };
    let expanded = ICalendar { components: vec![event] }.expand_dates(Tz::Floating, MAX_TIMES);
    if !expanded.errors.is_empty() {
        return Err("its RRULE makes no sense".to_owned());
    }
    if expanded.events.len() >= MAX_TIMES {
        return Err(format!("its RRULE has more than {MAX_TIMES} times before then"));
    }
    let local = |ms| Timestamp::from_millisecond(ms).map(|at| TimeZone::UTC.to_datetime(at)).ok();
    Ok(expanded.events.iter().filter_map(|event| local(event.start.timestamp_millis())).collect())
}
