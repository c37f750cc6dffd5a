//! What the people inside are told: a template, and what it may hold.

use std::fmt;
use std::time::Duration;

use super::{MeetingId, UtcMs};

/// What is told where no text is configured.
pub const WARN_TEXT: &str = "This meeting will be ended in {remaining}.";
/// What platforms take, counted as they do: in UTF-16.
pub const WARN_TEXT_LENGTH: usize = 500;
/// What may stand in braces.
pub const PLACEHOLDERS: [&str; 3] = ["remaining", "due", "meeting"];
/// The longest that `{remaining}` and `{due}` come to.
const LONGEST_REMAINING: &str = "23 hours 59 minutes";
const LONGEST_DUE: &str = "2026-12-01 18:00 UTC+05:45";

/// Why a text cannot be told.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum TextError {
    #[error("there is no placeholder {{{0}}}")]
    Unknown(String),
    #[error("a brace is opened and not closed")]
    Unclosed,
    #[error("it holds a control character")]
    Control,
    #[error("it is empty")]
    Empty,
    #[error("it comes to {0} characters, more than {WARN_TEXT_LENGTH}")]
    TooLong(usize),
}

/// What stands in for the placeholders.
#[derive(Clone, Copy, Debug)]
pub struct Filling<'a> {
    pub remaining: &'a str,
    pub due: &'a str,
    pub meeting: &'a str,
}

/// The text with everything filled in.
pub fn expand(template: &str, with: &Filling<'_>) -> Result<String, TextError> {
    let mut text = String::with_capacity(template.len() + 32);
    let mut rest = template;
    while let Some((before, after)) = rest.split_once('{') {
        let (name, after) = after.split_once('}').ok_or(TextError::Unclosed)?;
        text.push_str(before);
        text.push_str(match name {
            "remaining" => with.remaining,
            "due" => with.due,
            "meeting" => with.meeting,
            unknown => return Err(TextError::Unknown(unknown.to_owned())),
        });
        rest = after;
    }
    text.push_str(rest);
    Ok(text)
}

/// Can it be told, whatever the time? `meeting`: the one that it is for, if that is known.
pub fn check_text(template: &str, meeting: Option<&MeetingId>) -> Result<(), TextError> {
    if template.chars().any(char::is_control) {
        return Err(TextError::Control);
    }
    let meeting = meeting.map_or("m", MeetingId::as_str);
    let text = expand(template, &Filling { remaining: LONGEST_REMAINING, due: LONGEST_DUE, meeting })?;
    match text.encode_utf16().count() {
        _ if text.trim().is_empty() => Err(TextError::Empty),
        length if length > WARN_TEXT_LENGTH => Err(TextError::TooLong(length)),
        _ => Ok(()),
    }
}

/// At most as long as platforms take.
pub fn cut(text: &str) -> String {
    let mut length = 0;
    let fits = |c: &char| {
        length += c.len_utf16();
        length <= WARN_TEXT_LENGTH
    };
    text.chars().take_while(fits).collect()
}

/// So long until the end, as people say it: to the minute, near the end to the second.
pub struct Remaining(Duration);

impl Remaining {
    pub fn until(due: UtcMs, now: UtcMs) -> Remaining {
        Remaining(Duration::from_millis(u64::try_from(due.ms_since(now)).unwrap_or(0)))
    }
}

impl fmt::Display for Remaining {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let secs = (self.0.as_millis() + 500) / 1_000;
        if secs < 90 && secs != 60 {
            return count(f, secs, "second");
        }
        let minutes = (secs + 30) / 60;
        let (hours, minutes) = (minutes / 60, minutes % 60);
        match (hours, minutes) {
            (0, minutes) => count(f, minutes, "minute"),
            (hours, 0) => count(f, hours, "hour"),
            (hours, minutes) => {
                count(f, hours, "hour")?;
                f.write_str(" ")?;
                count(f, minutes, "minute")
            }
        }
    }
}

fn count(f: &mut fmt::Formatter<'_>, n: u128, unit: &str) -> fmt::Result {
    write!(f, "{n} {unit}{}", if n == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(template: &str, expected: Result<(), &str>) {
        let found = check_text(template, Some(&"math-101".into())).map_err(|error| error.to_string());
        assert_eq!(found, expected.map_err(str::to_owned), "{template:?}");
    }

    #[test]
    fn texts_that_can_be_told_and_texts_that_cannot() {
        check(WARN_TEXT, Ok(()));
        check("{meeting} endet um {due}, in {remaining} }", Ok(()));
        check("in {remainig}", Err("there is no placeholder {remainig}"));
        check("in {remaining", Err("a brace is opened and not closed"));
        check("in\n{remaining}", Err("it holds a control character"));
        check(" ", Err("it is empty"));
        check("", Err("it is empty"));
        check(&"x".repeat(500), Ok(()));
        check(&"x".repeat(501), Err("it comes to 501 characters, more than 500"));
        check(&"\u{1f512}".repeat(251), Err("it comes to 502 characters, more than 500"));
        let nearly = format!("{}{{remaining}}", "x".repeat(482));
        check(&nearly, Err("it comes to 501 characters, more than 500"));
    }

    #[test]
    fn the_id_of_the_meeting_counts() {
        let template = format!("{}{{meeting}}", "x".repeat(490));
        assert_eq!(check_text(&template, None), Ok(()));
        assert_eq!(check_text(&template, Some(&"0123456789".into())), Ok(()));
        assert_eq!(check_text(&template, Some(&"0123456789a".into())), Err(TextError::TooLong(501)));
    }

    #[test]
    fn what_is_too_long_is_cut_between_characters() {
        let cut_of = |text: &str| cut(text).encode_utf16().count();
        assert_eq!(cut("short \u{1f512}"), "short \u{1f512}");
        assert_eq!(cut_of(&"x".repeat(600)), 500);
        assert_eq!(cut_of(&format!("x{}", "\u{1f512}".repeat(300))), 499);
    }

    #[test]
    fn everything_is_filled_in_and_nothing_twice() {
        let with = Filling { remaining: "10 minutes", due: "{meeting}", meeting: "m" };
        let text = expand("{meeting}: {remaining}, {due}{meeting}", &with);
        assert_eq!(text.as_deref(), Ok("m: 10 minutes, {meeting}m"));
    }

    #[test]
    fn the_time_that_remains_is_said_as_people_say_it() {
        let said = |ms: i64| Remaining::until(UtcMs(ms), UtcMs(0)).to_string();
        let all = [
            (599_800, "10 minutes"),
            (600_200, "10 minutes"),
            (59_900, "1 minute"),
            (60_000, "1 minute"),
            (61_000, "61 seconds"),
            (89_499, "89 seconds"),
            (90_000, "2 minutes"),
            (12_400, "12 seconds"),
            (1_000, "1 second"),
            (-5, "0 seconds"),
            (3_600_000, "1 hour"),
            (5_400_000, "1 hour 30 minutes"),
            (86_400_000, "24 hours"),
            (86_340_000, LONGEST_REMAINING),
        ];
        all.into_iter().for_each(|(ms, text)| assert_eq!(said(ms), text));
    }
}
