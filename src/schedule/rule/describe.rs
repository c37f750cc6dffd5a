//! What a rule does, in a sentence.

use std::time::Duration;

use jiff::civil::Time;
use jiff::tz::TimeZone;

use super::super::model::{Rule, Select};
use super::closing::Weekdays;

/// `four-hours: whatever matches * on campus ends 4h after its start (dry run)`.
pub fn describe(rule: &Rule) -> String {
    let what = match &rule.meeting {
        Some(meeting) => meeting.to_string(),
        None => format!("whatever {}", selected(&rule.select)),
    };
    let mut ends: Vec<String> = Vec::new();
    ends.extend(rule.max_duration.map(|length| format!("{} after its start", span(length))));
    ends.extend(rule.close_at.map(|at| format!("at {}", clock(at, &rule.timezone))));
    ends.extend(rule.closed.map(|window| hours(window, &rule.timezone)));
    ends.extend(rule.empty_for.map(|time| format!("when it is empty for {}", span(time))));
    ends.extend(rule.alone_for.map(|time| format!("when one participant is alone for {}", span(time))));
    ends.extend(rule.max_participant_minutes.map(|most| format!("after {most} participant minutes")));
    let mut days = String::new();
    if rule.weekdays != Weekdays::ALL {
        days.push_str(&format!(", on {}", rule.weekdays));
    }
    if !rule.days.only.is_empty() {
        days.push_str(&format!(", only {}", rule.days.only.join(", ")));
    }
    if !rule.days.except.is_empty() {
        days.push_str(&format!(", except {}", rule.days.except.join(", ")));
    }
    let dry_run = if rule.dry_run { " (dry run)" } else { "" };
    format!("{}: {what} on {} ends {}{days}{dry_run}", rule.name, rule.server, ends.join(" or "))
}

/// `matches math-* but not math-exam, is named *`
fn selected(select: &Select) -> String {
    let id = if select.matches.is_empty() { "*".to_owned() } else { select.matches.join(" or ") };
    let mut told = format!("matches {id}");
    if !select.except.is_empty() {
        told = format!("{told} but not {}", select.except.join(" or "));
    }
    if !select.names.is_empty() {
        told = format!("{told}, is named {}", select.names.join(" or "));
    }
    for (key, glob) in &select.meta {
        told = format!("{told}, has {key} {glob}");
    }
    told
}

pub(super) fn span(duration: Duration) -> String {
    humantime::format_duration(duration).to_string()
}

/// `22:00 Europe/Berlin`
pub(super) fn clock(at: Time, zone: &TimeZone) -> String {
    format!("{} {}", time_of_day(at), zone.iana_name().unwrap_or("UTC"))
}

/// `from 22:00 to 06:00 Europe/Berlin`
pub(super) fn hours((from, until): (Time, Time), zone: &TimeZone) -> String {
    format!("from {} to {}", time_of_day(from), clock(until, zone))
}

fn time_of_day(at: Time) -> String {
    let seconds = if at.second() == 0 { "%H:%M" } else { "%H:%M:%S" };
    at.strftime(seconds).to_string()
}
