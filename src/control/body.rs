//! The bodies of requests, checked: field by field on reading, as a whole on use.

use std::time::Duration;

use serde::{Deserialize, Deserializer, de::Error};

use super::extract::checked_key;
use super::problem::Problem;
use crate::config::limits::{self, Bound};
use crate::config::names::{self, MAX_MEETING_ID};
use crate::config::time::{parse_at, parse_span};
use crate::engine::api::{self, Submission, When};
use crate::job::{
    By, Change, Expect, InstanceId, Language, LimitsPatch, Lock, MeetingId, Now, Origin, ServerName, UtcMs,
};

/// An instant with its zone, as text.
#[derive(Clone, Copy, Debug)]
pub(super) struct Instant(pub UtcMs);

impl<'de> Deserialize<'de> for Instant {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Instant, D::Error> {
        let text = String::deserialize(d)?;
        parse_at(&text, None)
            .map(Instant)
            .map_err(|error| D::Error::custom(format!("{error}; {}", error.hint())))
    }
}

/// A duration as people write it: `90m`, `1h 30m`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Span(pub Duration);

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Span, D::Error> {
        let text = String::deserialize(d)?;
        parse_span(&text).map(Span).map_err(|why| D::Error::custom(format!("{why}; {}", why.hint())))
    }
}

/// `POST /v1/jobs`, and `PUT /v1/jobs/by-key/...`, where the path names the server.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(super) struct Submit {
    server: Option<ServerName>,
    meeting: MeetingId,
    at: Option<Instant>,
    r#in: Option<Span>,
    #[serde(default)]
    now: bool,
    max_duration: Option<Span>,
    instance: Option<InstanceId>,
    late_limit: Option<Span>,
    give_up_after: Option<Span>,
    prove_within: Option<Span>,
    overdue_after: Option<Span>,
    resend_after: Option<Span>,
    pin_before: Option<Span>,
    keep_closed: Option<Span>,
    max_extension: Option<Span>,
    expect: Option<Expect>,
    lock: Option<Lock>,
    warn: Option<Vec<Span>>,
    warn_text: Option<String>,
    warn_language: Option<Language>,
    #[serde(default)]
    held: bool,
    held_until: Option<Instant>,
    /// Only a line of an import has it here; elsewhere it is a header.
    key: Option<String>,
}

impl Submit {
    /// Without a `server` in the body, `in_path` names it; with both, they must agree.
    pub(super) fn submission(
        self,
        in_path: Option<ServerName>,
        key: Option<String>,
        origin: Origin,
        by: By,
        now: Now,
    ) -> Result<Submission, Problem> {
        if self.key.is_some() {
            return Err(Problem::invalid(
                "the body: unknown field `key`",
                "send the key as a header: Idempotency-Key",
            ));
        }
        let when = self.when(now)?;
        let max_duration = self.max_duration.map(|Span(limit)| limit);
        let limits = self.limits()?;
        let hold = self.hold()?;
        let server = match (self.server, in_path) {
            (Some(body), Some(path)) if body != path => {
                let detail = format!("the body: server: is {body}, but the path says {path}");
                return Err(Problem::invalid(detail, "leave it out of the body"));
            }
            (body, path) => body.or(path).ok_or_else(|| {
                Problem::invalid("the body: missing field `server`", "name a server of the configuration")
            })?,
        };
        validate(&server, &self.meeting)?;
        if let Some(instance) = &self.instance {
            check_id("instance", instance.as_str())?;
        }
        let (meeting, only) = (self.meeting, self.instance);
        Ok(Submission { server, meeting, when, max_duration, only, limits, key, hold, origin, by })
    }

    /// Takes the key out of a line of an import.
    pub(super) fn take_key(&mut self) -> Result<Option<String>, Problem> {
        self.key.take().map(|key| checked_key(&key)).transpose()
    }

    fn hold(&self) -> Result<Option<api::Hold>, Problem> {
        let until = self.held_until.map(|Instant(until)| in_range(until)).transpose()?;
        if until.is_some() && !self.held {
            return Err(Problem::invalid(
                "the body: `held-until` without `held`",
                "add \"held\": true, or leave it out",
            ));
        }
        Ok(self.held.then_some(api::Hold { until }))
    }

    fn when(&self, now: Now) -> Result<When, Problem> {
        if let Some(Span(limit)) = self.max_duration {
            if self.now {
                let detail = "the body: max-duration: excludes `now`";
                return Err(Problem::invalid(detail, "for instance \"max-duration\": \"4h\""));
            }
            within(limits::MAX_DURATION, limit)?;
        }
        match (self.at, self.r#in, self.now) {
            (Some(Instant(at)), None, false) => in_range(at).map(When::At),
            (None, Some(Span(wait)), false) => in_range(now.wall + wait).map(|_| When::In(wait)),
            (None, None, true) => Ok(When::Now),
            (None, None, false) if self.max_duration.is_some() => Ok(When::AfterStart),
            _ => Err(Problem::invalid(
                "the body: exactly one of `at`, `in`, `now` and `max-duration` must say when (or `max-duration` \
                 with one of the first two)",
                "for instance \"in\": \"45m\"",
            )),
        }
    }

    fn limits(&self) -> Result<LimitsPatch, Problem> {
        let span =
            |bound: Bound, given: Option<Span>| given.map(|Span(read)| within(bound, read)).transpose();
        let fault = |(detail, hint): (String, String)| Problem::invalid(format!("the body: {detail}"), hint);
        let marks = self.warn.as_ref().map(|marks| marks.iter().map(|Span(mark)| *mark).collect());
        let warn = marks.map(limits::warn_marks).transpose().map_err(fault)?;
        let told = self.warn_text.as_ref();
        let language = self.warn_language.unwrap_or(Language::ENGLISH);
        if let Some(why) = told.and_then(|text| limits::warn_text_fault(text, language, Some(&self.meeting)))
        {
            return Err(fault(why));
        }
        Ok(LimitsPatch {
            late_limit: span(limits::LATE_LIMIT, self.late_limit)?,
            give_up_after: span(limits::GIVE_UP_AFTER, self.give_up_after)?,
            prove_within: span(limits::PROVE_WITHIN, self.prove_within)?,
            overdue_after: span(limits::OVERDUE_AFTER, self.overdue_after)?,
            resend_after: span(limits::RESEND_AFTER, self.resend_after)?,
            pin_before: span(limits::PIN_BEFORE, self.pin_before)?,
            keep_closed: span(limits::KEEP_CLOSED, self.keep_closed)?,
            expect: self.expect,
            lock: self.lock,
            warn,
            warn_text: self.warn_text.clone(),
            warn_language: self.warn_language,
            max_extension: span(limits::MAX_EXTENSION, self.max_extension)?,
        })
    }
}

/// `PATCH /v1/jobs/{id}`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Move {
    at: Option<Instant>,
    r#in: Option<Span>,
}

impl Move {
    pub(super) fn change(self, now: Now) -> Result<Change, Problem> {
        match (self.at, self.r#in) {
            (Some(Instant(at)), None) => future("at", at, now).map(|to| Change::Move { to }),
            (None, Some(Span(wait))) => in_range(now.wall + wait).map(|to| Change::Move { to }),
            _ => Err(Problem::invalid(
                "the body: exactly one of `at` and `in` must say the new time",
                "for instance \"in\": \"45m\"",
            )),
        }
    }
}

/// `POST .../extend`, of a job or of a meeting.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Extend {
    by: Option<Span>,
    until: Option<Instant>,
}

impl Extend {
    pub(super) fn change(self, now: Now) -> Result<Change, Problem> {
        match (self.by, self.until) {
            (Some(Span(by)), None) if by.is_zero() => {
                Err(Problem::invalid("the body: by: must be longer than 0s", "for instance \"by\": \"10m\""))
            }
            (Some(Span(by)), None) => in_range(now.wall + by).map(|_| Change::Extend { by }),
            (None, Some(Instant(until))) => {
                future("until", until, now).map(|until| Change::ExtendTo { until })
            }
            _ => Err(Problem::invalid(
                "the body: exactly one of `by` and `until` must say how far",
                "for instance \"by\": \"10m\"",
            )),
        }
    }
}

/// `POST .../hold`; without `for`, until it is released.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Hold {
    r#for: Option<Span>,
}

impl Hold {
    pub(super) fn change(self, now: Now) -> Result<Change, Problem> {
        let until = self.r#for.map(|Span(wait)| in_range(now.wall + wait)).transpose()?;
        Ok(Change::Hold { until })
    }
}

/// `POST .../release`: to the old time, now, or to a new one.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Release {
    #[serde(default)]
    now: bool,
    #[serde(alias = "at")]
    until: Option<Instant>,
}

impl Release {
    pub(super) fn change(self, now: Now) -> Result<Change, Problem> {
        let due = match (self.now, self.until) {
            (true, None) => Some(now.wall),
            (false, Some(Instant(until))) => Some(future("until", until, now)?),
            (false, None) => None,
            (true, Some(_)) => {
                return Err(Problem::invalid(
                    "the body: `now` and `until` exclude each other",
                    "leave one out",
                ));
            }
        };
        Ok(Change::Release { due })
    }
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(super) struct Reload {
    #[serde(default)]
    pub dry_run: bool,
}

/// `fire` and `unlock` take no arguments.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Nothing {}

/// The names in a request: are they such as a server and a meeting can have?
pub(super) fn validate(server: &ServerName, meeting: &MeetingId) -> Result<(), Problem> {
    check_id("server", server.as_str())?;
    check_id("meeting", meeting.as_str())
}

fn check_id(field: &str, id: &str) -> Result<(), Problem> {
    // Server and instance ids are refused by the same rule; which servers there are, the engine knows.
    if names::meeting_id(id).is_err() {
        let detail = format!(
            "the body: {field}: must be 1 to {MAX_MEETING_ID} bytes without control characters, not {id:?}"
        );
        return Err(Problem::invalid(detail, "give the id as the platform knows it"));
    }
    Ok(())
}

fn future(field: &str, at: UtcMs, now: Now) -> Result<UtcMs, Problem> {
    if at < now.wall {
        let detail = format!("the body: {field}: {at} has passed");
        return Err(Problem::invalid(detail, "to end it at once, fire it"));
    }
    in_range(at)
}

/// The bounds that a schedule file has too.
fn within(bound: Bound, read: Duration) -> Result<Duration, Problem> {
    bound.check(read).map_err(|error| Problem::invalid(format!("the body: {error}"), error.hint()))
}

fn in_range(at: UtcMs) -> Result<UtcMs, Problem> {
    if at > UtcMs::MAX {
        return Err(Problem::invalid(
            "the body: the time lies too far ahead",
            "give a time before the year 9999",
        ));
    }
    Ok(at)
}
