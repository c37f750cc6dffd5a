//! `GET /v1/jobs/export`: jobs as the lines that an import takes.
//!
//! Everything that a submit can say is written out, limits too, so that the other daemon's defaults change nothing. What
//! a job has learned (its instance, its looks) stays behind: the other daemon must see that for itself.

use std::borrow::Cow;

use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use serde::{Deserialize, Serialize};

use super::extract::Params;
use super::jobs::states;
use super::problem::Problem;
use super::{App, MAX_PAGE};
use crate::config::limits::{self, Bound};
use crate::config::time::format_span;
use crate::engine::{RULE_KEYS, SCHEDULE_KEYS};
use crate::job::{
    Expect, InstanceId, Job, JobId, Language, Lock, MeetingId, Origin, ServerName, State as JobState,
};
use crate::store::Filter;

/// A job that has no key of its own gets one, so that importing the same file again makes nothing twice.
const EXPORT_KEYS: &str = "export:";

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ExportParams {
    /// Without it: waiting and held.
    #[serde(default, deserialize_with = "states")]
    state: Vec<JobState>,
    server: Option<ServerName>,
    /// The jobs of the schedule file too, which the file brings by itself elsewhere.
    #[serde(default)]
    schedule: bool,
}

/// One line.
#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
struct Exported<'a> {
    server: &'a ServerName,
    meeting: &'a MeetingId,
    #[serde(skip_serializing_if = "Option::is_none")]
    at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_duration: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    instance: Option<&'a InstanceId>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    held: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    held_until: Option<String>,
    late_limit: String,
    give_up_after: String,
    prove_within: String,
    overdue_after: String,
    resend_after: String,
    pin_before: String,
    keep_closed: String,
    /// What is left of it: the time that is written out counts as planned elsewhere.
    #[serde(skip_serializing_if = "Option::is_none")]
    max_extension: Option<String>,
    expect: Expect,
    lock: Lock,
    warn: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    warn_text: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    warn_language: Option<Language>,
    key: Cow<'a, str>,
}

impl Exported<'_> {
    fn of(job: &Job) -> Exported<'_> {
        // Of a time when a submit could go further than a schedule file: the other daemon would refuse that.
        let limit = |bound: Bound, span| format_span(bound.nearest(span));
        let held = job.state == JobState::Held;
        let key = job.key.as_ref().map(|key| key.key.as_str());
        Exported {
            server: &job.server,
            meeting: &job.meeting,
            at: Some(job.due).filter(|due| !due.is_never()).map(|due| due.to_string()),
            max_duration: job
                .max_duration
                .filter(|_| job.awaits_start)
                .map(|span| limit(limits::MAX_DURATION, span)),
            instance: job.only.as_ref(),
            held,
            held_until: job.held_until.filter(|_| held).map(|until| until.to_string()),
            late_limit: limit(limits::LATE_LIMIT, job.limits.late_limit),
            give_up_after: limit(limits::GIVE_UP_AFTER, job.limits.give_up_after),
            prove_within: limit(limits::PROVE_WITHIN, job.limits.prove_within),
            overdue_after: limit(limits::OVERDUE_AFTER, job.limits.overdue_after),
            resend_after: limit(limits::RESEND_AFTER, job.limits.resend_after),
            pin_before: limit(limits::PIN_BEFORE, job.limits.pin_before),
            keep_closed: limit(limits::KEEP_CLOSED, job.limits.keep_closed),
            max_extension: job.extension_left().map(|span| limit(limits::MAX_EXTENSION, span)),
            expect: job.limits.expect,
            lock: job.limits.lock,
            warn: job.limits.warn.iter().copied().map(format_span).collect(),
            warn_text: job
                .limits
                .warn_text
                .as_deref()
                .or((!job.limits.warn.is_empty()).then(|| job.limits.language().text())),
            warn_language: job.limits.warn_language,
            key: key
                .filter(|key| !key.starts_with(SCHEDULE_KEYS) && !key.starts_with(RULE_KEYS))
                .map_or_else(|| Cow::Owned(format!("{EXPORT_KEYS}{}", job.id)), Cow::Borrowed),
        }
    }
}

/// A stream of pages, each read when the client has taken the one before.
pub(super) async fn export(
    State(app): State<App>,
    Params(params): Params<ExportParams>,
) -> Result<Response, Problem> {
    let ExportParams { mut state, server, schedule } = params;
    if state.is_empty() {
        state = vec![JobState::Waiting, JobState::Held];
    }
    if let Some(server) = &server {
        app.knows(server).await?;
    }
    let filter = Filter { states: state, server, ..Filter::default() };
    let pages = stream::unfold(Some(None), move |before: Option<Option<JobId>>| {
        let (app, filter) = (app.clone(), filter.clone());
        async move {
            let page = page(&app, filter, before?, schedule).await;
            let next = page.as_ref().ok().and_then(|(_, next)| *next).map(Some);
            Some((page.map(|(text, _)| text), next))
        }
    });
    let kind = [(header::CONTENT_TYPE, "application/x-ndjson")];
    Ok((kind, Body::from_stream(pages)).into_response())
}

/// The schedule file made it, and will elsewhere.
fn is_from_file(job: &Job) -> bool {
    matches!(job.origin, Origin::Schedule { .. } | Origin::Rule { .. })
}

/// The lines of one page, and where the next begins.
async fn page(
    app: &App,
    filter: Filter,
    before: Option<JobId>,
    schedule: bool,
) -> Result<(Bytes, Option<JobId>), axum::Error> {
    let jobs = app.scan(move |store| store.page(&filter, before, MAX_PAGE)).await;
    let jobs = jobs.map_err(|problem| {
        tracing::error!(why = problem.detail(), "an export breaks off");
        axum::Error::new(problem.detail().to_owned())
    })?;
    let next = jobs.last().filter(|_| jobs.len() == MAX_PAGE).map(|job| job.id);
    let wanted = jobs.iter().filter(|job| schedule || !is_from_file(job));
    Ok((Bytes::from(wanted.flat_map(line).collect::<Vec<u8>>()), next))
}

fn line(job: &Job) -> Vec<u8> {
    let mut line = serde_json::to_vec(&Exported::of(job)).expect("a line is plain data");
    line.push(b'\n');
    line
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::fake::{NOW, job};
    use super::super::import::read_text;
    use super::*;
    use crate::engine::api::{Hold, When};
    use crate::job::{Key, Limits};

    /// Everything that can be said of a job is said.
    fn full() -> Job {
        let mut full = job(1, "a \"b\"\\ü/\u{1f512}", Duration::from_secs(3600));
        full.only = Some("abc-1".into());
        full.key = Some(Key { key: "booking-1".to_owned(), fingerprint: String::new() });
        full.limits = Limits {
            late_limit: Duration::ZERO,
            give_up_after: Duration::from_secs(1),
            prove_within: Duration::from_millis(90_061_001),
            overdue_after: Duration::from_secs(6 * 24 * 3600 + 1),
            resend_after: Duration::from_millis(999),
            pin_before: Duration::from_secs(90),
            keep_closed: Duration::from_secs(600),
            max_extension: Some(Duration::from_secs(1800)),
            expect: Expect::Live,
            lock: Lock::Reversible,
            warn: vec![Duration::from_secs(600), Duration::from_millis(30_001)],
            warn_text: Some("{meeting}: \"{remaining}\"".to_owned()),
            warn_language: Some("de".parse().unwrap()),
        };
        full
    }

    #[test]
    fn a_line_says_all_that_a_submit_can_say() {
        let job = full();
        let read = read_text(&line(&job), NOW).unwrap();
        assert_eq!((&read.server, &read.meeting, &read.only), (&job.server, &job.meeting, &job.only));
        assert_eq!((read.when, read.hold), (When::At(job.due), None));
        assert_eq!(read.limits.over(&Limits::default()), job.limits);
        assert_eq!(read.key.as_deref(), Some("booking-1"));
    }

    #[test]
    fn limits_beyond_the_bounds_are_exported_so_that_they_can_be_imported() {
        let mut job = full();
        job.limits.overdue_after = Duration::from_secs(400 * 24 * 3600);
        job.limits.give_up_after = Duration::from_millis(1);
        let read = read_text(&line(&job), NOW).unwrap().limits;
        assert_eq!(read.overdue_after, Some(limits::OVERDUE_AFTER.max));
        assert_eq!(read.give_up_after, Some(limits::GIVE_UP_AFTER.min));
    }

    #[test]
    fn what_is_left_of_the_extension_goes_along() {
        let by = crate::job::By::Peer { uid: 1000, pid: None };
        let change = crate::job::Change::Extend { by: Duration::from_secs(600) };
        let extended = full().change(&change, by, NOW).unwrap();
        let read = read_text(&line(&extended), NOW).unwrap();
        assert_eq!(read.limits.max_extension, Some(Duration::from_secs(1200)));
    }

    #[test]
    fn the_text_that_this_daemon_would_tell_goes_along() {
        let mut job = full();
        job.limits.warn_text = None;
        let german = "Diese Sitzung wird in {remaining} beendet.";
        assert_eq!(read_text(&line(&job), NOW).unwrap().limits.warn_text.as_deref(), Some(german));
        job.limits.warn.clear();
        let read = read_text(&line(&job), NOW).unwrap();
        assert_eq!((read.limits.warn, read.limits.warn_text), (Some(Vec::new()), None));
    }

    #[test]
    fn a_hold_goes_along_and_a_key_that_is_not_its_own_is_made() {
        let mut job = full();
        job.state = JobState::Held;
        job.held_until = Some(job.due - Duration::from_secs(60));
        job.key = Some(Key { key: format!("{SCHEDULE_KEYS}exam"), fingerprint: String::new() });
        let read = read_text(&line(&job), NOW).unwrap();
        let made = Some(format!("export:{}", job.id));
        assert_eq!((read.hold, &read.key), (Some(Hold { until: job.held_until }), &made));
        job.key = None;
        assert_eq!(read_text(&line(&job), NOW).unwrap().key, made);
    }
}
