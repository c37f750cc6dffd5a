//! `GET /v1/preview`: what will end when.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use serde::Deserialize;

use super::App;
use super::extract::Params;
use super::problem::Problem;
use crate::engine::SCHEDULE_KEYS;
use crate::job::{Job, JobId, ServerName, UtcMs};
use crate::schedule::preview::{self, MAX_ITEMS, Open, Preview, Span};
use crate::schedule::{Entry, Feeds, Schedule};
use crate::store::{Store, StoreError};

/// Days that a preview shows unless it is told otherwise, and at most.
pub const DEFAULT_PREVIEW_DAYS: u32 = 7;
pub const MAX_PREVIEW_DAYS: u32 = 366;
/// Jobs that are read for one preview, those of other servers included.
const MAX_READ: usize = 200_000;
/// Jobs read at once.
const READ: usize = 1000;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PreviewParams {
    days: Option<u32>,
    server: Option<ServerName>,
}

pub(super) async fn preview(
    State(app): State<App>,
    Params(PreviewParams { days, server }): Params<PreviewParams>,
) -> Result<Response, Problem> {
    let days = days.unwrap_or(DEFAULT_PREVIEW_DAYS);
    if !(1..=MAX_PREVIEW_DAYS).contains(&days) {
        let detail = format!("days: must be 1 to {MAX_PREVIEW_DAYS}, not {days}");
        return Err(Problem::invalid(detail, "for instance /v1/preview?days=7"));
    }
    let standing = app.service.standing().await?;
    if let Some(server) = server.as_ref().filter(|server| !standing.servers.contains(server)) {
        let known: Vec<&str> = standing.servers.iter().map(ServerName::as_str).collect();
        let hint = format!("the configuration names {}", known.join(", "));
        return Err(Problem::not_found(format!("there is no server {server}"), hint));
    }
    let span = span(app.service.now().wall, days, server);
    let gone: BTreeSet<JobId> = standing.gone.into_keys().collect();
    let (schedule, feeds) = (standing.schedule, standing.feeds);
    let seen = app.scan(move |store| of_the_store(store, &schedule, &feeds, &span, gone)).await?;
    Ok(Json(seen).into_response())
}

/// Without a queue: what these files would do.
pub fn of_files(
    schedule: &Schedule,
    feeds: &Feeds,
    now: UtcMs,
    days: u32,
    server: Option<ServerName>,
) -> Preview {
    let known = |_: &Entry| Ok::<Option<Job>, Infallible>(None);
    let Ok(seen) = preview::preview(schedule, feeds, &span(now, days, server), Open::default(), known);
    seen
}

fn span(now: UtcMs, days: u32, server: Option<ServerName>) -> Span {
    Span { now, until: (now + Duration::from_secs(u64::from(days) * 24 * 3600)).min(UtcMs::MAX), server }
}

fn of_the_store(
    store: &dyn Store,
    schedule: &Schedule,
    feeds: &Feeds,
    span: &Span,
    gone: BTreeSet<JobId>,
) -> Result<Preview, StoreError> {
    let open = Open { gone, ..open(store, span)? };
    preview::preview(schedule, feeds, span, open, |entry| job_of(store, entry))
}

/// The open jobs with something to do within the span, in the order in which they wake.
fn open(store: &dyn Store, span: &Span) -> Result<Open, StoreError> {
    let mut open = Open::default();
    let mut after: Option<(UtcMs, JobId)> = None;
    let mut read = 0;
    loop {
        let page = store.due_before(UtcMs(span.until.0 + 1), after, READ)?;
        let last = page.last().and_then(|job| Some((job.index_wake()?, job.id)));
        let (count, whole) = (page.len(), page.len() < READ);
        read += count;
        let asked = |job: &Job| span.server.as_ref().is_none_or(|server| job.server == *server);
        open.jobs.extend(page.into_iter().filter(|job| !job.is_done() && asked(job)));
        // Jobs at work wake first, all of them at once.
        let room = open.jobs.len() <= MAX_ITEMS || last.is_some_and(|(wake, _)| wake <= span.now);
        match last {
            Some(last) if !whole && room && read < MAX_READ => after = Some(last),
            Some((wake, _)) if !whole => {
                // Nothing that is due before the last one's wake can be missing; what wakes with it may be.
                open.complete_until = Some(UtcMs(wake.0 - 1));
                return Ok(open);
            }
            _ => return Ok(open),
        }
    }
}

/// The job that an entry was made into: the open one, or the latest done one.
fn job_of(store: &dyn Store, entry: &Entry) -> Result<Option<Job>, StoreError> {
    let prefix = format!("{SCHEDULE_KEYS}{}\u{1f}", entry.identity);
    let mut found: Option<Job> = None;
    for (_, id) in store.keys(&entry.server, &prefix)? {
        let Some(job) = store.get(id)? else { continue };
        let better =
            found.as_ref().is_none_or(|known| (!job.is_done(), job.id) > (!known.is_done(), known.id));
        // Under the same name for another meeting: not this one.
        if better && job.meeting == entry.meeting {
            found = Some(job);
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::super::fake::{FakeService, NOW, job};
    use super::*;
    use crate::job::Fact;

    const MINUTE: Duration = Duration::from_secs(60);

    /// So many at work, and so many that are due a minute after each other.
    fn queue(at_work: u32, waiting: u32) -> Vec<Job> {
        let mut jobs: Vec<Job> = (0..at_work + waiting)
            .map(|n| job(n, "math", MINUTE * n.saturating_sub(at_work).saturating_add(1)))
            .collect();
        for job in jobs.iter_mut().take(at_work as usize) {
            job.record(NOW, Fact::DueReached { late_ms: 0 });
        }
        jobs
    }

    fn look(jobs: Vec<Job>) -> Preview {
        let store = FakeService::new(jobs).store.clone();
        let span = span(NOW.wall, 30, None);
        of_the_store(&*store, &Schedule::default(), &Feeds::default(), &span, BTreeSet::new()).unwrap()
    }

    #[test]
    fn all_pages_of_the_queue_are_read() {
        let seen = look(queue(1500, 1200));
        assert_eq!((seen.items.len(), seen.complete_until), (2700, seen.until));
    }

    #[test]
    fn a_longer_queue_is_cut_where_it_is_complete() {
        let seen = look(queue(20, 11_500));
        let last = seen.items.last().unwrap().due;
        assert_eq!((seen.items.len(), last), (MAX_ITEMS, NOW.wall + MINUTE * 9_980));
        assert!(seen.complete_until >= last && seen.complete_until < last + MINUTE);
    }
}
