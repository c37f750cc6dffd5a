//! Instants, durations and jobs in words.

use std::time::Duration;

use jiff::Zoned;
use jiff::tz::TimeZone;

use super::output::Tone;
use super::text::clean;
use crate::job::{JobView, Now, Outcome, State, UtcMs};

const MINUTE: u64 = 60;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;

/// `18:00:00 CET`; with the day unless that is today.
pub fn absolute(at: UtcMs, zone: &TimeZone, now: Now) -> String {
    let (at, today) = (zoned(at, zone), zoned(now.wall, zone).date());
    let format = if at.date() == today { "%H:%M:%S %Z" } else { "%a %Y-%m-%d %H:%M:%S %Z" };
    at.strftime(format).to_string()
}

/// `in 45m`, `3m ago`, `now`.
pub fn relative(at: UtcMs, now: Now) -> String {
    let ms = at.ms_since(now.wall);
    let distance = Duration::from_millis(ms.unsigned_abs());
    if distance < Duration::from_millis(500) {
        return "now".to_owned();
    }
    let distance = span(distance);
    if ms > 0 { format!("in {distance}") } else { format!("{distance} ago") }
}

/// When a deadline is due, as it goes after "ends ..." and "due ...": `at 18:00:00 CET, in 45m`, `4h after its start`.
pub fn due(at: UtcMs, max_duration: Option<&str>, zone: &TimeZone, now: Now) -> String {
    match max_duration {
        Some(limit) if at.is_never() => format!("{} after its start", clean(limit)),
        _ => format!("at {}", moment(at, zone, now)),
    }
}

/// `18:00:00 CET, in 45m`.
pub fn moment(at: UtcMs, zone: &TimeZone, now: Now) -> String {
    format!("{}, {}", absolute(at, zone, now), relative(at, now))
}

/// `2026-12-01 18:00:00.125 CET`: for the story of a job.
pub fn exact(at: UtcMs, zone: &TimeZone) -> String {
    zoned(at, zone).strftime("%Y-%m-%d %H:%M:%S%.3f %Z").to_string()
}

/// The time of day with milliseconds.
pub fn clock(at: UtcMs, zone: &TimeZone) -> String {
    zoned(at, zone).strftime("%H:%M:%S%.3f").to_string()
}

/// The two largest units, to the second: `2d 4h`, `1h 30m`, `59s`.
pub fn span(distance: Duration) -> String {
    let seconds = distance.as_millis().saturating_add(500) / 1000;
    let seconds = u64::try_from(seconds).unwrap_or(u64::MAX);
    let units = [(DAY, "d"), (HOUR, "h"), (MINUTE, "m"), (1, "s")];
    let largest = units.iter().position(|(unit, _)| seconds >= *unit).unwrap_or(units.len() - 1);
    let (unit, name) = units[largest];
    let first = format!("{}{name}", seconds / unit);
    match units.get(largest + 1) {
        Some((smaller, name)) if seconds % unit / smaller > 0 => {
            format!("{first} {}{name}", seconds % unit / smaller)
        }
        _ => first,
    }
}

/// What will become of a job, or what became of it, with the absolute and the relative time.
pub fn sentence(job: &JobView, zone: &TimeZone, now: Now) -> String {
    let (what, id) = (meeting(job), job.id.short());
    let limit = job.max_duration.as_deref();
    let due = due(job.due, limit, zone, now);
    match job.state {
        State::Waiting if job.due <= now.wall => format!("ends {what} now; job {id}"),
        State::Waiting => {
            let first = match limit {
                Some(limit) if job.awaits_start && !job.due.is_never() => {
                    format!(", or {} after its start if that comes first", clean(limit))
                }
                _ => String::new(),
            };
            format!("ends {what} {due}{first}; job {id}")
        }
        State::Held => {
            let until = match job.held_until {
                Some(until) => format!("until {}", moment(until, zone, now)),
                None => "until it is released".to_owned(),
            };
            let was = if job.due <= now.wall { "was" } else { "is" };
            format!("holds {what} {until} (it {was} due {due}); job {id}")
        }
        State::Ending | State::Confirming => format!("is ending {what}, due {due}; job {id}"),
        State::Guarding => format!("{what} is over and is kept closed; job {id}"),
        State::Done => {
            format!("{}: {what}, due {due}: {}; job {id}", painted_outcome(job), shortened(&job.reason))
        }
    }
}

/// `extended by 40m, 20m of 1h left`; nothing where there is neither an extension nor a limit.
pub fn extension(job: &JobView) -> Option<String> {
    let by = job.extended_from.map(|planned| job.due.ms_since(planned).unsigned_abs());
    let extended = by.map(|ms| format!("extended by {}", ms_span(ms)));
    let (extended, left) = (extended, extension_left(job));
    (extended.is_some() || left.is_some())
        .then(|| extended.into_iter().chain(left).collect::<Vec<String>>().join(", "))
}

/// `20m of 1h left`; nothing without a limit.
pub fn extension_left(job: &JobView) -> Option<String> {
    let (max, left) = (job.max_extension_ms?, job.extension_left_ms?);
    Some(format!("{} of {} left", ms_span(left), ms_span(max)))
}

fn ms_span(ms: u64) -> String {
    span(Duration::from_millis(ms))
}

/// The outcome, or the state while there is none.
pub fn outcome(job: &JobView) -> &'static str {
    job.outcome.map_or(job.state.as_str(), Outcome::as_str)
}

/// How the outcome, or the state of a job that has none, is to stand out.
pub fn tone(job: &JobView) -> Option<Tone> {
    match job.outcome {
        Some(outcome) => Some(tone_of(outcome)),
        None if job.overdue || job.alarm.is_some() => Some(Tone::Bad),
        None if job.state == State::Held => Some(Tone::Doubtful),
        None => None,
    }
}

/// Green is proof; red needs somebody.
pub fn tone_of(outcome: Outcome) -> Tone {
    match outcome {
        Outcome::Ended | Outcome::AlreadyOver => Tone::Good,
        Outcome::Unconfirmed | Outcome::Failed | Outcome::Missed => Tone::Bad,
        Outcome::Absent | Outcome::Vanished | Outcome::Superseded => Tone::Doubtful,
        Outcome::Cancelled => Tone::Faint,
    }
}

/// The outcome in its colour.
pub fn painted_outcome(job: &JobView) -> String {
    tone(job).map_or_else(|| outcome(job).to_owned(), |tone| tone.paint(outcome(job)))
}

/// The text, cleaned, with the ids of instances cut to their last eight characters, as ids of jobs are: they tell two runs
/// of a meeting apart, and a sentence can be read. The whole ids are in `show` and in `--json`.
pub fn shortened(text: &str) -> String {
    const LONG: usize = 24;
    const KEPT: usize = 8;
    let text = clean(text);
    let of_id = |c: char| c.is_ascii_alphanumeric() || c == '-';
    let mut short = String::with_capacity(text.len());
    let mut rest = text.as_str();
    while let Some(begin) = rest.find(of_id) {
        short.push_str(&rest[..begin]);
        rest = &rest[begin..];
        let end = rest.find(|c| !of_id(c)).unwrap_or(rest.len());
        let (word, behind) = rest.split_at(end);
        let digits = word.bytes().filter(u8::is_ascii_digit).count();
        if word.len() >= LONG && digits >= KEPT && !word.ends_with('-') {
            short.push('…');
            short.push_str(&word[word.len() - KEPT..]);
        } else {
            short.push_str(word);
        }
        rest = behind;
    }
    short.push_str(rest);
    short
}

/// `10m, 5m and 1m`; `None`: there are none.
pub fn list(items: &[String]) -> Option<String> {
    let (last, others) = items.split_last()?;
    if others.is_empty() {
        return Some(clean(last));
    }
    Some(clean(&format!("{} and {last}", others.join(", "))))
}

/// `campus/math-101`, cleaned.
pub fn meeting(job: &JobView) -> String {
    format!("{}/{}", clean(job.server.as_str()), clean(job.meeting.as_str()))
}

fn zoned(at: UtcMs, zone: &TimeZone) -> Zoned {
    at.timestamp().to_zoned(zone.clone())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::fake::NOW;

    #[test]
    fn absolute_times_have_the_zone_and_the_day_where_it_matters() {
        let zone = TimeZone::get("Europe/Berlin").unwrap();
        let day = Duration::from_secs(DAY);
        assert_eq!(absolute(NOW.wall, &zone, NOW), "17:15:00 CET");
        assert_eq!(absolute(NOW.wall + day, &zone, NOW), "Wed 2026-12-02 17:15:00 CET");
        assert_eq!(absolute(NOW.wall - day * 150, &zone, NOW), "Sat 2026-07-04 18:15:00 CEST");
        assert_eq!(exact(UtcMs(NOW.wall.0 + 7), &zone), "2026-12-01 17:15:00.007 CET");
    }

    #[test]
    fn extensions_are_told_with_what_is_left() {
        let mut view = JobView::new(&crate::control::fake::job(1, "m", Duration::from_secs(HOUR)), NOW);
        assert_eq!((extension(&view), extension_left(&view)), (None, None));
        view.extended_from = Some(view.due - Duration::from_secs(40 * MINUTE));
        assert_eq!(extension(&view).as_deref(), Some("extended by 40m"));
        view.max_extension_ms = Some(HOUR * 1000);
        view.extension_left_ms = Some(20 * MINUTE * 1000);
        assert_eq!(extension(&view).as_deref(), Some("extended by 40m, 20m of 1h left"));
        view.extended_from = None;
        view.extension_left_ms = Some(0);
        assert_eq!(extension(&view).as_deref(), Some("0s of 1h left"));
    }

    #[test]
    fn instances_are_short_in_sentences_and_other_words_are_whole() {
        let bbb = "183f0bf3a0982a127bdb8161e0c44eb696b3e75c-1715262300000";
        assert_eq!(shortened(&format!("instance {bbb}, gone")), "instance …62300000, gone");
        assert_eq!(shortened("(019a0000-0000-7000-8000-000000000001)"), "(…00000001)");
        for whole in [
            "gone since 2026-12-01T17:00:00.002Z",
            "math-101-2026-12-01",
            "a-very-long-word-without-any-digits",
            "…",
        ] {
            assert_eq!(shortened(whole), whole);
        }
    }

    #[test]
    fn lists_end_in_and() {
        let said = |items: &[&str]| list(&items.iter().map(|&item| item.to_owned()).collect::<Vec<_>>());
        assert_eq!(said(&[]), None);
        assert_eq!(said(&["10m"]).as_deref(), Some("10m"));
        assert_eq!(said(&["1h", "10m", "1m"]).as_deref(), Some("1h, 10m and 1m"));
    }

    #[test]
    fn relative_times_keep_two_units() {
        let check = |ms: i64, expected: &str| {
            assert_eq!(relative(UtcMs(NOW.wall.0 + ms), NOW), expected);
        };
        check(0, "now");
        check(-499, "now");
        check(1_000, "in 1s");
        check(44 * 60_000 + 59_990, "in 45m");
        check(-90_000, "1m 30s ago");
        check(5_400_000, "in 1h 30m");
        check(3_600_000 + 20_000, "in 1h");
        check(2 * 86_400_000 + 4 * 3_600_000 + 59_000, "in 2d 4h");
        check(-1_400_000 * 86_400_000, "1400000d ago");
    }
}
