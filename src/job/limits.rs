//! The limits of a job, and how their durations are written in records.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Expect, Language, Lock};

/// The limits of one job; every one can be set in `[defaults]`, per server and per entry.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Limits {
    /// Found later than this after due: `missed`. Zero: never late.
    #[serde(with = "duration_ms")]
    pub late_limit: Duration,
    /// From the first attempt.
    #[serde(with = "duration_ms")]
    pub give_up_after: Duration,
    /// From the acceptance.
    #[serde(with = "duration_ms")]
    pub prove_within: Duration,
    /// From due, while still alive.
    #[serde(with = "duration_ms")]
    pub overdue_after: Duration,
    /// From the answer to an end call, to the same instance.
    #[serde(with = "duration_ms")]
    pub resend_after: Duration,
    /// Whoever is live so long before due is ours; what starts later is the next class.
    #[serde(default = "pin_before", with = "duration_ms")]
    pub pin_before: Duration,
    /// After the end: end what is reopened for so long.
    #[serde(with = "duration_ms")]
    pub keep_closed: Duration,
    pub expect: Expect,
    /// Also close the room, right before the end call.
    #[serde(default)]
    pub lock: Lock,
    /// So long before due the people inside are told; longest first.
    #[serde(default, with = "durations_ms", skip_serializing_if = "Vec::is_empty")]
    pub warn: Vec<Duration>,
    /// What they are told; `None`: the text that adjourn has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub warn_text: Option<String>,
    /// In which language; `None`: in English.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub warn_language: Option<Language>,
    /// In total; `None`: without a limit.
    #[serde(default, with = "option_duration_ms", skip_serializing_if = "Option::is_none")]
    pub max_extension: Option<Duration>,
}

/// The least, and what older records stand for.
fn pin_before() -> Duration {
    Duration::from_secs(10)
}

impl Limits {
    /// In which language the people inside are told.
    pub fn language(&self) -> Language {
        self.warn_language.unwrap_or(Language::ENGLISH)
    }
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            late_limit: Duration::from_secs(24 * 3600),
            give_up_after: Duration::from_secs(24 * 3600),
            prove_within: Duration::from_secs(3600),
            overdue_after: Duration::from_secs(300),
            resend_after: Duration::from_secs(15),
            pin_before: pin_before(),
            keep_closed: Duration::ZERO,
            expect: Expect::Any,
            lock: Lock::No,
            warn: Vec::new(),
            warn_text: None,
            warn_language: None,
            max_extension: None,
        }
    }
}

/// Limits as somebody gave them: what is absent comes from the next level up.
///
/// The fingerprint of an idempotency key is made of them, and stays on disk. So a field that is added is left out while it
/// is absent, or the requests of earlier versions would be others.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize)]
pub struct LimitsPatch {
    pub late_limit: Option<Duration>,
    pub give_up_after: Option<Duration>,
    pub prove_within: Option<Duration>,
    pub overdue_after: Option<Duration>,
    pub resend_after: Option<Duration>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pin_before: Option<Duration>,
    pub keep_closed: Option<Duration>,
    pub expect: Option<Expect>,
    pub lock: Option<Lock>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub warn: Option<Vec<Duration>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub warn_text: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub warn_language: Option<Language>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_extension: Option<Duration>,
}

impl From<Limits> for LimitsPatch {
    fn from(limits: Limits) -> LimitsPatch {
        let Limits {
            late_limit,
            give_up_after,
            prove_within,
            overdue_after,
            resend_after,
            pin_before,
            keep_closed,
            expect,
            lock,
            warn,
            warn_text,
            warn_language,
            max_extension,
        } = limits;
        LimitsPatch {
            late_limit: Some(late_limit),
            give_up_after: Some(give_up_after),
            prove_within: Some(prove_within),
            overdue_after: Some(overdue_after),
            resend_after: Some(resend_after),
            pin_before: Some(pin_before),
            keep_closed: Some(keep_closed),
            expect: Some(expect),
            lock: Some(lock),
            warn: Some(warn),
            warn_text,
            warn_language,
            max_extension,
        }
    }
}

impl LimitsPatch {
    pub fn over(&self, base: &Limits) -> Limits {
        Limits {
            late_limit: self.late_limit.unwrap_or(base.late_limit),
            give_up_after: self.give_up_after.unwrap_or(base.give_up_after),
            prove_within: self.prove_within.unwrap_or(base.prove_within),
            overdue_after: self.overdue_after.unwrap_or(base.overdue_after),
            resend_after: self.resend_after.unwrap_or(base.resend_after),
            pin_before: self.pin_before.unwrap_or(base.pin_before),
            keep_closed: self.keep_closed.unwrap_or(base.keep_closed),
            expect: self.expect.unwrap_or(base.expect),
            lock: self.lock.unwrap_or(base.lock),
            warn: self.warn.clone().unwrap_or_else(|| base.warn.clone()),
            warn_text: self.warn_text.clone().or_else(|| base.warn_text.clone()),
            warn_language: self.warn_language.or(base.warn_language),
            max_extension: self.max_extension.or(base.max_extension),
        }
    }
}

/// Durations in records are whole milliseconds.
pub(crate) mod duration_ms {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serializer};

    pub fn serialize<S: Serializer>(d: &Duration, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_u64(u64::try_from(d.as_millis()).unwrap_or(u64::MAX))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Duration, D::Error> {
        u64::deserialize(d).map(Duration::from_millis)
    }
}

/// The same for one that may be absent.
pub(crate) mod option_duration_ms {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub fn serialize<S: Serializer>(d: &Option<Duration>, s: S) -> Result<S::Ok, S::Error> {
        d.map(|d| u64::try_from(d.as_millis()).unwrap_or(u64::MAX)).serialize(s)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Option<Duration>, D::Error> {
        Ok(Option::<u64>::deserialize(d)?.map(Duration::from_millis))
    }
}

/// The same for several.
mod durations_ms {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serializer};

    pub fn serialize<S: Serializer>(all: &[Duration], s: S) -> Result<S::Ok, S::Error> {
        s.collect_seq(all.iter().map(|d| u64::try_from(d.as_millis()).unwrap_or(u64::MAX)))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Vec<Duration>, D::Error> {
        Ok(Vec::<u64>::deserialize(d)?.into_iter().map(Duration::from_millis).collect())
    }
}
