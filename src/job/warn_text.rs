//! What the people inside are told: a template, and what it may hold.

use std::time::Duration;

use super::{MeetingId, UtcMs};

/// What is told where no text is configured.
pub const WARN_TEXT: &str = "This meeting will be ended in {remaining}.";
/// What platforms take, counted as they do: in UTF-16.
pub const WARN_TEXT_LENGTH: usize = 500;
/// What may stand in braces.
pub const PLACEHOLDERS: [&str; 4] = ["remaining", "minutes", "due", "meeting"];
/// The longest that `{remaining}` and `{due}` come to.
const LONGEST_REMAINING: Remaining = Remaining(Duration::from_secs(23 * 3_600 + 59 * 60));
const LONGEST_DUE: &str = "2026-12-01 18:00 UTC+05:45";

/// Why a text cannot be told.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum TextError {
    #[error("there is no placeholder {{{0}}}")]
    Unknown(String),
    #[error("there are no words for the language {0:?}")]
    Language(String),
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
    pub remaining: Remaining,
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
        match name.split_once(':').unwrap_or((name, ENGLISH)) {
            ("remaining", language) => {
                let words = words(language).ok_or_else(|| TextError::Language(language.to_owned()))?;
                text.push_str(&with.remaining.said(words));
            }
            ("minutes", ENGLISH) => text.push_str(&with.remaining.minutes().to_string()),
            ("due", ENGLISH) => text.push_str(with.due),
            ("meeting", ENGLISH) => text.push_str(with.meeting),
            _ => return Err(TextError::Unknown(name.to_owned())),
        }
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
#[derive(Clone, Copy, Debug)]
pub struct Remaining(Duration);

/// How a language counts: one, a few, many. Most know two forms, and say "many" of a few.
struct Words {
    language: &'static str,
    seconds: [&'static str; 3],
    minutes: [&'static str; 3],
    hours: [&'static str; 3],
    form: fn(u128) -> usize,
}

const ENGLISH: &str = "en";

/// The languages of `{remaining:de}`. Another one is another line; cases are those that follow "in", "dans", "za".
const LANGUAGES: [Words; 8] = [
    two_forms(ENGLISH, ["second", "seconds"], ["minute", "minutes"], ["hour", "hours"]),
    two_forms("de", ["Sekunde", "Sekunden"], ["Minute", "Minuten"], ["Stunde", "Stunden"]),
    two_forms("es", ["segundo", "segundos"], ["minuto", "minutos"], ["hora", "horas"]),
    Words {
        form: |n| if n < 2 { 0 } else { 2 },
        ..two_forms("fr", ["seconde", "secondes"], ["minute", "minutes"], ["heure", "heures"])
    },
    two_forms("it", ["secondo", "secondi"], ["minuto", "minuti"], ["ora", "ore"]),
    two_forms("nl", ["seconde", "seconden"], ["minuut", "minuten"], ["uur", "uur"]),
    Words {
        language: "pl",
        seconds: ["sekundę", "sekundy", "sekund"],
        minutes: ["minutę", "minuty", "minut"],
        hours: ["godzinę", "godziny", "godzin"],
        form: |n| match (n, n % 10, n % 100) {
            (1, _, _) => 0,
            (_, 2..=4, last_two) if !matches!(last_two, 12..=14) => 1,
            _ => 2,
        },
    },
    two_forms("pt", ["segundo", "segundos"], ["minuto", "minutos"], ["hora", "horas"]),
];

const fn two_forms(
    language: &'static str,
    seconds: [&'static str; 2],
    minutes: [&'static str; 2],
    hours: [&'static str; 2],
) -> Words {
    let [second, seconds] = seconds;
    let [minute, minutes] = minutes;
    let [hour, hours] = hours;
    Words {
        language,
        seconds: [second, seconds, seconds],
        minutes: [minute, minutes, minutes],
        hours: [hour, hours, hours],
        form: |n| if n == 1 { 0 } else { 2 },
    }
}

fn words(language: &str) -> Option<&'static Words> {
    const ALL: &[Words] = &LANGUAGES;
    ALL.iter().find(|words| words.language == language)
}

/// The languages that there are: `en, de, es, ...`.
pub fn languages() -> String {
    LANGUAGES.map(|words| words.language).join(", ")
}

impl Remaining {
    pub fn until(due: UtcMs, now: UtcMs) -> Remaining {
        Remaining(Duration::from_millis(u64::try_from(due.ms_since(now)).unwrap_or(0)))
    }
}

impl Remaining {
    /// Whole minutes, never fewer than one: for "in {minutes} min".
    fn minutes(self) -> u128 {
        ((self.seconds() + 30) / 60).max(1)
    }

    fn seconds(self) -> u128 {
        (self.0.as_millis() + 500) / 1_000
    }

    fn said(self, words: &Words) -> String {
        let count = |n: u128, forms: &[&str; 3]| format!("{n} {}", forms[(words.form)(n)]);
        let secs = self.seconds();
        if secs < 90 && secs != 60 {
            return count(secs, &words.seconds);
        }
        let minutes = (secs + 30) / 60;
        match (minutes / 60, minutes % 60) {
            (0, minutes) => count(minutes, &words.minutes),
            (hours, 0) => count(hours, &words.hours),
            (hours, minutes) => format!("{} {}", count(hours, &words.hours), count(minutes, &words.minutes)),
        }
    }
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
        let remaining = Remaining(Duration::from_secs(600));
        let with = Filling { remaining, due: "{meeting}", meeting: "m" };
        let text = expand("{meeting}: {remaining} ({minutes} min), {due}{meeting}", &with);
        assert_eq!(text.as_deref(), Ok("m: 10 minutes (10 min), {meeting}m"));
    }

    #[test]
    fn the_time_that_remains_is_said_as_people_say_it() {
        let said = |ms: i64| Remaining::until(UtcMs(ms), UtcMs(0)).said(words(ENGLISH).unwrap());
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
            (86_340_000, "23 hours 59 minutes"),
        ];
        all.into_iter().for_each(|(ms, text)| assert_eq!(said(ms), text));
    }

    #[test]
    fn the_time_that_remains_is_said_in_many_languages() {
        let said = |template: &str, minutes: u64| {
            let remaining = Remaining(Duration::from_secs(60 * minutes));
            expand(template, &Filling { remaining, due: "", meeting: "" })
        };
        for (template, minutes, text) in [
            ("in {remaining:de}", 90, "in 1 Stunde 30 Minuten"),
            ("dans {remaining:fr}", 1, "dans 1 minute"),
            ("en {remaining:es}", 120, "en 2 horas"),
            ("tra {remaining:it}", 61, "tra 1 ora 1 minuto"),
            ("over {remaining:nl}", 300, "over 5 uur"),
            ("za {remaining:pl}", 1, "za 1 minutę"),
            ("za {remaining:pl}", 3, "za 3 minuty"),
            ("za {remaining:pl}", 12, "za 12 minut"),
            ("za {remaining:pl}", 22, "za 22 minuty"),
            ("em {remaining:pt}", 10, "em 10 minutos"),
            ("in {remaining:en}", 10, "in 10 minutes"),
        ] {
            assert_eq!(said(template, minutes).as_deref(), Ok(text));
        }
        assert_eq!(said("{remaining:xx}", 1), Err(TextError::Language("xx".to_owned())));
        assert_eq!(said("{due:de}", 1), Err(TextError::Unknown("due:de".to_owned())));
        assert_eq!(said("{minutes}", 0).as_deref(), Ok("1"));
        assert_eq!(languages(), "en, de, es, fr, it, nl, pl, pt");
    }
}
