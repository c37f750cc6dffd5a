//! What the people inside are told: a template, what it may hold, and in which language.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};

use super::{MeetingId, UtcMs};

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
    /// That of a `{remaining}` that names none.
    pub language: Language,
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
        match name {
            "remaining" => text.push_str(&with.remaining.said(with.language)),
            "minutes" => text.push_str(&with.remaining.minutes().to_string()),
            "due" => text.push_str(with.due),
            "meeting" => text.push_str(with.meeting),
            _ => match name.strip_prefix("remaining:") {
                Some(language) => text.push_str(&with.remaining.said(language.parse()?)),
                None => return Err(TextError::Unknown(name.to_owned())),
            },
        }
        rest = after;
    }
    text.push_str(rest);
    Ok(text)
}

/// Can it be told, whatever the time? `meeting`: the one that it is for, if that is known.
pub fn check_text(template: &str, language: Language, meeting: Option<&MeetingId>) -> Result<(), TextError> {
    if template.chars().any(char::is_control) {
        return Err(TextError::Control);
    }
    let meeting = meeting.map_or("m", MeetingId::as_str);
    let with = Filling { remaining: LONGEST_REMAINING, language, due: LONGEST_DUE, meeting };
    let text = expand(template, &with)?;
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

/// A language that people can be told in, by its ISO 639-1 code: `de`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Language(&'static str);

/// What is said in a language. A language counts in three forms: one, a few, many. Most know two, and say "many" of a few.
struct Words {
    language: Language,
    /// What is told where no text is configured.
    text: &'static str,
    seconds: [&'static str; 3],
    minutes: [&'static str; 3],
    hours: [&'static str; 3],
    form: fn(u128) -> usize,
}

/// All languages; another one is another entry here. Cases are those that follow "in", "dans", "za".
static LANGUAGES: [Words; 8] = [
    two_forms(
        Language::ENGLISH,
        "This meeting will be ended in {remaining}.",
        [["second", "seconds"], ["minute", "minutes"], ["hour", "hours"]],
    ),
    two_forms(
        Language("de"),
        "Diese Sitzung wird in {remaining} beendet.",
        [["Sekunde", "Sekunden"], ["Minute", "Minuten"], ["Stunde", "Stunden"]],
    ),
    two_forms(
        Language("es"),
        "Esta reunión terminará en {remaining}.",
        [["segundo", "segundos"], ["minuto", "minutos"], ["hora", "horas"]],
    ),
    Words {
        form: |n| if n < 2 { 0 } else { 2 },
        ..two_forms(
            Language("fr"),
            "Cette réunion prendra fin dans {remaining}.",
            [["seconde", "secondes"], ["minute", "minutes"], ["heure", "heures"]],
        )
    },
    two_forms(
        Language("it"),
        "Questa riunione terminerà tra {remaining}.",
        [["secondo", "secondi"], ["minuto", "minuti"], ["ora", "ore"]],
    ),
    two_forms(
        Language("nl"),
        "Deze vergadering wordt over {remaining} beëindigd.",
        [["seconde", "seconden"], ["minuut", "minuten"], ["uur", "uur"]],
    ),
    Words {
        language: Language("pl"),
        text: "To spotkanie zakończy się za {remaining}.",
        seconds: ["sekundę", "sekundy", "sekund"],
        minutes: ["minutę", "minuty", "minut"],
        hours: ["godzinę", "godziny", "godzin"],
        form: |n| match (n, n % 10, n % 100) {
            (1, _, _) => 0,
            (_, 2..=4, last_two) if !matches!(last_two, 12..=14) => 1,
            _ => 2,
        },
    },
    two_forms(
        Language("pt"),
        "Esta reunião terminará em {remaining}.",
        [["segundo", "segundos"], ["minuto", "minutos"], ["hora", "horas"]],
    ),
];

const fn two_forms(language: Language, text: &'static str, units: [[&'static str; 2]; 3]) -> Words {
    let [[second, seconds], [minute, minutes], [hour, hours]] = units;
    Words {
        language,
        text,
        seconds: [second, seconds, seconds],
        minutes: [minute, minutes, minutes],
        hours: [hour, hours, hours],
        form: |n| if n == 1 { 0 } else { 2 },
    }
}

impl Language {
    pub const ENGLISH: Language = Language("en");

    /// All that there are.
    pub fn all() -> impl Iterator<Item = Language> {
        LANGUAGES.iter().map(|words| words.language)
    }

    pub fn as_str(self) -> &'static str {
        self.0
    }

    /// What is told where no text is configured.
    pub fn text(self) -> &'static str {
        self.words().text
    }

    fn words(self) -> &'static Words {
        LANGUAGES.iter().find(|words| words.language == self).expect("every language is one of the table")
    }
}

impl FromStr for Language {
    type Err = TextError;

    /// Its code; the error does not say which there are, see [`languages`].
    fn from_str(code: &str) -> Result<Language, TextError> {
        let found = Language::all().find(|language| language.0 == code);
        found.ok_or_else(|| TextError::Language(code.to_owned()))
    }
}

impl Serialize for Language {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(self.0)
    }
}

impl<'de> Deserialize<'de> for Language {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Language, D::Error> {
        let code = String::deserialize(d)?;
        code.parse().map_err(|error| D::Error::custom(format!("{error}; there are: {}", languages())))
    }
}

impl fmt::Display for Language {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

/// The languages that there are: `en, de, es, ...`.
pub fn languages() -> String {
    Language::all().map(Language::as_str).collect::<Vec<_>>().join(", ")
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

    fn said(self, language: Language) -> String {
        let words = language.words();
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
        let found = check_text(template, Language::ENGLISH, Some(&"math-101".into()))
            .map_err(|error| error.to_string());
        assert_eq!(found, expected.map_err(str::to_owned), "{template:?}");
    }

    #[test]
    fn texts_that_can_be_told_and_texts_that_cannot() {
        Language::all().for_each(|language| check(language.text(), Ok(())));
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
        assert_eq!(check_text(&template, Language::ENGLISH, None), Ok(()));
        assert_eq!(check_text(&template, Language::ENGLISH, Some(&"0123456789".into())), Ok(()));
        assert_eq!(
            check_text(&template, Language::ENGLISH, Some(&"0123456789a".into())),
            Err(TextError::TooLong(501))
        );
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
        let with = Filling { remaining, language: Language::ENGLISH, due: "{meeting}", meeting: "m" };
        let text = expand("{meeting}: {remaining} ({minutes} min), {due}{meeting}", &with);
        assert_eq!(text.as_deref(), Ok("m: 10 minutes (10 min), {meeting}m"));
    }

    #[test]
    fn the_time_that_remains_is_said_as_people_say_it() {
        let said = |ms: i64| Remaining::until(UtcMs(ms), UtcMs(0)).said(Language::ENGLISH);
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
            expand(template, &Filling { remaining, language: Language::ENGLISH, due: "", meeting: "" })
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

    #[test]
    fn a_language_counts_for_what_names_none() {
        let remaining = Remaining(Duration::from_secs(600));
        let told = |language: &str, template: Option<&str>| {
            let language: Language = language.parse().unwrap();
            let with = Filling { remaining, language, due: "", meeting: "m" };
            expand(template.unwrap_or(language.text()), &with).unwrap()
        };
        assert_eq!(told("de", None), "Diese Sitzung wird in 10 Minuten beendet.");
        assert_eq!(told("pl", None), "To spotkanie zakończy się za 10 minut.");
        assert_eq!(told("de", Some("{remaining}, {remaining:fr}")), "10 Minuten, 10 minutes");
        let read = serde_json::from_str::<Language>("\"xx\"").unwrap_err().to_string();
        let why = "there are no words for the language \"xx\"; there are: en, de, es, fr, it, nl, pl, pt";
        assert_eq!(read, why);
        assert_eq!(serde_json::to_string(&Language::ENGLISH).unwrap(), "\"en\"");
    }
}
