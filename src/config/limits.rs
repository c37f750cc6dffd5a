//! Durations and the limits of jobs, with their bounds. The control socket asks here too.

use std::time::Duration;

use super::document::did_you_mean;
use super::time::{SpanError, format_span, parse_span};
use crate::job::{
    Expect, Language, LimitsPatch, Lock, MeetingId, PLACEHOLDERS, TextError, WARN_TEXT_LENGTH, check_text,
    languages,
};

const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(24 * 3600);

/// A duration that can be configured, and what is sane for it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Bound {
    pub key: &'static str,
    pub min: Duration,
    pub max: Duration,
}

/// So long after the start of its meeting a deadline may be due; of rules, entries and submits.
pub const MAX_DURATION: Bound = bound("max-duration", SECOND, days(30));
/// Bytes of an idempotency key.
pub const MAX_KEY_BYTES: usize = 128;

/// Zero: never late.
pub const LATE_LIMIT: Bound = bound("late-limit", Duration::ZERO, days(30));
pub const GIVE_UP_AFTER: Bound = bound("give-up-after", SECOND, days(30));
pub const PROVE_WITHIN: Bound = bound("prove-within", SECOND, days(7));
pub const OVERDUE_AFTER: Bound = bound("overdue-after", SECOND, days(7));
pub const RESEND_AFTER: Bound = bound("resend-after", Duration::from_millis(200), HOUR);
/// Whoever is live so long before due is ours.
pub const PIN_BEFORE: Bound = bound("pin-before", Duration::from_secs(10), HOUR);
/// Zero: a reopened meeting is left alone.
pub const KEEP_CLOSED: Bound = bound("keep-closed", Duration::ZERO, DAY);
/// In total. Zero: nobody extends it.
pub const MAX_EXTENSION: Bound = bound("max-extension", Duration::ZERO, days(30));
/// How long before its time an occurrence becomes a job.
pub const AHEAD: Bound = bound("ahead", HOUR, days(60));
/// Of feeds.
pub const REFRESH: Bound = bound("refresh", Duration::from_secs(60), DAY);
/// How long before due the people inside are told.
pub const WARN: Bound = bound("warn", Duration::from_secs(30), DAY);
/// Marks of one deadline.
pub const MOST_MARKS: usize = 8;
pub const RETENTION: Bound = bound("retention", Duration::from_secs(60), days(3650));

pub(super) const fn bound(key: &'static str, min: Duration, max: Duration) -> Bound {
    Bound { key, min, max }
}

const fn days(n: u64) -> Duration {
    Duration::from_secs(n * DAY.as_secs())
}

/// Why a text is no duration, or not one for this key.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum DurationError {
    #[error("{key} is {}", said(why))]
    Syntax { key: &'static str, why: SpanError },
    #[error("{key} is {text:?}, less than {}", short(*min))]
    TooShort { key: &'static str, text: String, min: Duration },
    #[error("{key} is {text:?}, more than {}", short(*max))]
    TooLong { key: &'static str, text: String, max: Duration },
}

impl DurationError {
    /// In the words of whoever wrote it.
    fn worded(self, written: &str) -> DurationError {
        let text = written.to_owned();
        match self {
            DurationError::TooShort { key, min, .. } => DurationError::TooShort { key, text, min },
            DurationError::TooLong { key, max, .. } => DurationError::TooLong { key, text, max },
            syntax @ DurationError::Syntax { .. } => syntax,
        }
    }
}

fn said(why: &SpanError) -> String {
    match why {
        SpanError::Syntax(text) => format!("{text:?}, which is not a duration"),
        SpanError::Calendar { text, unit, meaning } => {
            format!("{text:?}, and {unit:?} means {meaning}, which have no fixed length")
        }
    }
}

impl DurationError {
    /// What to do.
    pub fn hint(&self) -> String {
        match self {
            DurationError::Syntax { why, .. } => why.hint(),
            DurationError::TooShort { min, .. } => {
                format!("give {} or more", short(*min))
            }
            DurationError::TooLong { max, .. } => {
                format!("give {} or less", short(*max))
            }
        }
    }
}

impl Bound {
    /// Reads a duration such as `90m` or `1h 30m`; kept to the millisecond, as records do.
    pub fn parse(&self, text: &str) -> Result<Duration, DurationError> {
        let key = self.key;
        let read = parse_span(text).map_err(|why| DurationError::Syntax { key, why })?;
        self.check(read).map_err(|error| error.worded(text))
    }

    /// The nearest duration that is allowed.
    pub fn nearest(&self, span: Duration) -> Duration {
        span.clamp(self.min, self.max)
    }

    /// The same of a duration that has been read; kept to the millisecond.
    pub fn check(&self, read: Duration) -> Result<Duration, DurationError> {
        let Bound { key, min, max } = *self;
        let text = || format_span(read);
        if read < min {
            return Err(DurationError::TooShort { key, text: text(), min });
        }
        if read > max {
            return Err(DurationError::TooLong { key, text: text(), max });
        }
        // Within `max` milliseconds fit in 64 bits.
        Ok(Duration::from_millis(u64::try_from(read.as_millis()).unwrap_or(u64::MAX)))
    }
}

/// `30d`, `1h`, `200ms`: a bound in its largest whole unit.
pub(super) fn short(duration: Duration) -> String {
    let ms = duration.as_millis();
    let units = [(86_400_000, "d"), (3_600_000, "h"), (60_000, "m"), (1000, "s")];
    match units.iter().find(|(unit, _)| ms > 0 && ms.is_multiple_of(*unit)) {
        Some((unit, name)) => format!("{}{name}", ms / unit),
        None => format!("{ms}ms"),
    }
}

/// The limits that are durations, each with its place in a patch.
pub const ALL: [Bound; 8] = [
    LATE_LIMIT,
    GIVE_UP_AFTER,
    PROVE_WITHIN,
    OVERDUE_AFTER,
    RESEND_AFTER,
    PIN_BEFORE,
    KEEP_CLOSED,
    MAX_EXTENSION,
];

/// Sets one limit by its key. Unknown keys are the caller's to refuse: `None`.
pub fn set(patch: &mut LimitsPatch, key: &str, text: &str) -> Option<Result<(), DurationError>> {
    let bound = ALL.iter().find(|bound| bound.key == key)?;
    let slot = match bound.key {
        "late-limit" => &mut patch.late_limit,
        "give-up-after" => &mut patch.give_up_after,
        "prove-within" => &mut patch.prove_within,
        "overdue-after" => &mut patch.overdue_after,
        "resend-after" => &mut patch.resend_after,
        "pin-before" => &mut patch.pin_before,
        "keep-closed" => &mut patch.keep_closed,
        _ => &mut patch.max_extension,
    };
    Some(bound.parse(text).map(|duration| *slot = Some(duration)))
}

/// `no`, `reversible` or `permanent`.
pub fn lock(text: &str) -> Option<Lock> {
    match text {
        "no" => Some(Lock::No),
        "reversible" => Some(Lock::Reversible),
        "permanent" => Some(Lock::Permanent),
        _ => None,
    }
}

/// Why rooms of a server cannot be closed as asked, and what to do; `offered`: how its platform closes them.
pub fn lock_fault(server: &str, asked: Lock, offered: Lock) -> Option<(String, String)> {
    if asked == Lock::No || asked == offered {
        return None;
    }
    let message = format!("lock = \"{asked}\" is not possible on {server}");
    let hint = match offered {
        Lock::No => "its platform has no way to close a room: set lock = \"no\" there".to_owned(),
        offered => format!("its platform offers \"{offered}\""),
    };
    Some((message, hint))
}

/// The marks of `warn`, longest first, or why they cannot be, and what to do.
pub fn warn_marks(mut marks: Vec<Duration>) -> Result<Vec<Duration>, (String, String)> {
    let within = |mark: &&Duration| **mark < WARN.min || **mark > WARN.max;
    if let Some(odd) = marks.iter().find(within) {
        let message = format!("a mark of warn is {}", format_span(*odd));
        return Err((message, format!("give {} to {}", short(WARN.min), short(WARN.max))));
    }
    if marks.len() > MOST_MARKS {
        let message = format!("warn has {} marks, more than {MOST_MARKS}", marks.len());
        return Err((message, "leave some out".to_owned()));
    }
    marks.sort_unstable_by(|a, b| b.cmp(a));
    match marks.windows(2).find(|pair| pair[0] == pair[1]) {
        Some(pair) => {
            let message = format!("warn has the mark {} twice", format_span(pair[0]));
            Err((message, "keep one of the two".to_owned()))
        }
        None => Ok(marks),
    }
}

/// Why the people inside cannot be told this, and what to do. `meeting`: the one that it is for, if that is known.
pub fn warn_text_fault(
    text: &str,
    language: Language,
    meeting: Option<&MeetingId>,
) -> Option<(String, String)> {
    let error = check_text(text, language, meeting).err()?;
    let known = PLACEHOLDERS.map(|name| format!("{{{name}}}")).join(", ");
    let hint = match &error {
        TextError::Unknown(name) => match did_you_mean(name, &PLACEHOLDERS) {
            none if none.is_empty() => format!("there are: {known}"),
            near => format!("{near} There are: {known}"),
        },
        TextError::Language(_) => format!("there are: {}", languages()),
        TextError::Unclosed => format!("braces are for placeholders: {known}"),
        TextError::Control => "write it as one line".to_owned(),
        TextError::Empty => "leave it out: there is a text for that".to_owned(),
        TextError::TooLong(_) => format!(
            "shorten it: with everything filled in it may have {WARN_TEXT_LENGTH} (characters beyond U+FFFF count twice)"
        ),
    };
    Some((format!("warn-text: {error}"), hint))
}

/// `any` or `live`.
pub fn expect(text: &str) -> Option<Expect> {
    match text {
        "any" => Some(Expect::Any),
        "live" => Some(Expect::Live),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(bound: Bound, text: &str, expected: &str) {
        let found = match bound.parse(text) {
            Ok(read) => humantime::format_duration(read).to_string(),
            Err(error) => error.to_string(),
        };
        assert_eq!(found, expected);
    }

    #[test]
    fn durations() {
        check(RETENTION, "90m", "1h 30m");
        check(RETENTION, " 1h 30m ", "1h 30m");
        check(LATE_LIMIT, "0s", "0s");
        check(RESEND_AFTER, "200ms", "200ms");
        check(RESEND_AFTER, "200ms 700us", "200ms");
        check(RETENTION, "", "retention is \"\", which is not a duration");
        check(RETENTION, "90", "retention is \"90\", which is not a duration");
        check(RETENTION, "-5m", "retention is \"-5m\", which is not a duration");
        let months = "retention is \"3M\", and \"M\" means months, which have no fixed length";
        check(RETENTION, "3M", months);
    }

    #[test]
    fn bounds() {
        check(RESEND_AFTER, "199ms", "resend-after is \"199ms\", less than 200ms");
        check(RESEND_AFTER, "61m", "resend-after is \"61m\", more than 1h");
        check(PROVE_WITHIN, "0s", "prove-within is \"0s\", less than 1s");
        check(GIVE_UP_AFTER, "1ms", "give-up-after is \"1ms\", less than 1s");
        check(KEEP_CLOSED, "25h", "keep-closed is \"25h\", more than 1d");
        check(MAX_EXTENSION, "0s", "0s");
        check(MAX_EXTENSION, "31d", "max-extension is \"31d\", more than 30d");
        check(LATE_LIMIT, "365000d", "late-limit is \"365000d\", more than 30d");
        let endless = "overdue-after is \"99999999999999999999d\", which is not a duration";
        check(OVERDUE_AFTER, "99999999999999999999d", endless);
    }

    #[test]
    fn marks() {
        let marks = |texts: &[&str]| {
            let read = texts.iter().map(|text| humantime::parse_duration(text).unwrap()).collect();
            warn_marks(read).map(|marks| marks.iter().map(Duration::as_secs).collect::<Vec<_>>())
        };
        assert_eq!(marks(&[]), Ok(vec![]));
        assert_eq!(marks(&["1m", "1d", "30s"]), Ok(vec![86_400, 60, 30]));
        let fault = |texts: &[&str]| marks(texts).map_err(|(message, _)| message);
        assert_eq!(fault(&["1m", "60s"]), Err("warn has the mark 1m twice".to_owned()));
        assert_eq!(fault(&["29s"]), Err("a mark of warn is 29s".to_owned()));
        assert_eq!(fault(&["25h"]), Err("a mark of warn is 1day 1h".to_owned()));
        let nine = ["1m", "2m", "3m", "4m", "5m", "6m", "7m", "8m", "9m"];
        assert_eq!(fault(&nine), Err("warn has 9 marks, more than 8".to_owned()));
        assert!(marks(&nine[1..]).is_ok());
    }

    #[test]
    fn a_misspelt_placeholder_is_suggested() {
        let (message, hint) = warn_text_fault("ends in {remainig}", Language::ENGLISH, None).unwrap();
        assert_eq!(message, "warn-text: there is no placeholder {remainig}");
        assert_eq!(hint, "did you mean \"remaining\"? There are: {remaining}, {minutes}, {due}, {meeting}");
    }

    #[test]
    fn every_limit_can_be_set_by_its_key() {
        let mut patch = LimitsPatch::default();
        for bound in ALL {
            assert_eq!(set(&mut patch, bound.key, "15s"), Some(Ok(())), "{}", bound.key);
        }
        let fifteen = Some(Duration::from_secs(15));
        let LimitsPatch {
            late_limit,
            give_up_after,
            prove_within,
            overdue_after,
            resend_after,
            pin_before,
            keep_closed,
            max_extension,
            ..
        } = patch;
        let all = [
            late_limit,
            give_up_after,
            prove_within,
            overdue_after,
            resend_after,
            pin_before,
            keep_closed,
            max_extension,
        ];
        assert_eq!(all, [fifteen; ALL.len()]);
        assert_eq!(set(&mut LimitsPatch::default(), "warn", "5s"), None);
    }
}
