//! `adjourn list`.

use clap::builder::PossibleValuesParser;
use serde_json::{Value, json};

use super::client::{Client, typed};
use super::context::Context;
use super::failure::Failure;
use super::say;
use super::table::{Cell, table};
use super::text::{clean, cut};
use super::when::{self, Toward};
use crate::control::MAX_PAGE;
use crate::control::wire::Page;
use crate::exit::ExitCode;
use crate::job::{JobView, Outcome, State};

/// Columns that a meeting's id may take.
const MEETING_COLUMNS: usize = 48;

/// List jobs: what ends next first, then what is done, newest first
#[derive(clap::Args, Debug)]
pub struct Args {
    /// Only jobs in these states
    #[arg(long, value_name = "STATE", value_delimiter = ',', value_parser = states())]
    state: Vec<String>,
    /// Only jobs on this server
    #[arg(long)]
    server: Option<String>,
    /// Only jobs of meetings that match: * is any text, ? any one character
    #[arg(long, value_name = "PATTERN")]
    r#match: Option<String>,
    /// Only jobs that came this way: cli, api, schedule:NAME, rule:NAME (with * and ?)
    #[arg(long, value_name = "ORIGIN")]
    origin: Option<String>,
    /// Only jobs with these outcomes
    #[arg(long, value_name = "OUTCOME", value_delimiter = ',', value_parser = outcomes())]
    outcome: Vec<String>,
    /// Only jobs due at or after this time, this day, or so long ago
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// Only jobs due before this time, this day, or so far ahead
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
    /// due: what ends next first; newest: the latest submission first
    #[arg(long, value_name = "ORDER", default_value = "due", value_parser = ["due", "newest"])]
    sort: String,
    /// At most so many jobs
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..))]
    limit: u32,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub async fn run(args: Args, cx: &mut Context) -> Result<ExitCode, Failure> {
    let query = query(&args, cx)?;
    let limit = usize::try_from(args.limit).unwrap_or(usize::MAX);
    let (jobs, next) = pages(&cx.client()?, query, limit).await?;
    if args.json {
        cx.out.json(&json!({ "jobs": jobs, "next": next }))?;
        return Ok(ExitCode::Done);
    }
    if jobs.is_empty() {
        cx.out.note("no such jobs");
        return Ok(ExitCode::Done);
    }
    let views = jobs.iter().map(typed).collect::<Result<Vec<JobView>, Failure>>()?;
    let table = render(cx, &views);
    cx.out.line(table)?;
    if next.is_some() {
        cx.out.note(format_args!("there are more; see them with --limit {}", args.limit.saturating_mul(10)));
    }
    Ok(ExitCode::Done)
}

fn query(args: &Args, cx: &Context) -> Result<Vec<(&'static str, String)>, Failure> {
    let now = cx.now();
    let mut query = Vec::new();
    for (name, words) in [("state", &args.state), ("outcome", &args.outcome)] {
        if !words.is_empty() {
            query.push((name, words.join(",")));
        }
    }
    query.extend(args.server.iter().map(|server| ("server", server.clone())));
    query.extend(args.r#match.iter().map(|pattern| ("match", pattern.clone())));
    query.extend(args.origin.iter().map(|origin| ("origin", origin.clone())));
    query.push(("sort", args.sort.clone()));
    for (name, given, toward) in
        [("since", &args.since, Toward::Past), ("until", &args.until, Toward::Future)]
    {
        if let Some(text) = given {
            query.push((name, when::bound(text, &cx.zone, now, toward)?.to_string()));
        }
    }
    Ok(query)
}

/// The names of states and outcomes: for clap.
pub fn states() -> PossibleValuesParser {
    PossibleValuesParser::new(State::ALL.map(State::as_str))
}

fn outcomes() -> PossibleValuesParser {
    PossibleValuesParser::new(Outcome::ALL.map(Outcome::as_str))
}

/// Up to `limit` jobs, and the place to go on from.
pub async fn pages(
    client: &Client,
    query: Vec<(&'static str, String)>,
    limit: usize,
) -> Result<(Vec<Value>, Option<String>), Failure> {
    let mut jobs: Vec<Value> = Vec::new();
    let mut before: Option<String> = None;
    loop {
        let mut query = query.clone();
        query.push(("limit", (limit - jobs.len()).clamp(1, MAX_PAGE).to_string()));
        query.extend(before.take().map(|id| ("before", id)));
        let mut answer = client.get(&["jobs"], &query).await?;
        let page: Page = typed(&answer)?;
        if let Some(Value::Array(more)) = answer.get_mut("jobs").map(Value::take) {
            jobs.extend(more);
        }
        before = page.next;
        if before.is_none() || jobs.len() >= limit {
            return Ok((jobs, before));
        }
    }
}

fn render(cx: &Context, jobs: &[JobView]) -> String {
    let rows = jobs.iter().map(|job| row(cx, job)).collect();
    table(&cx.out, &["ID", "DUE", "", "MEETING", "STATE", "REASON"], rows)
}

fn row(cx: &Context, job: &JobView) -> Vec<Cell> {
    let state = match job.outcome {
        Some(outcome) => outcome.to_string(),
        None if job.overdue => format!("{} (overdue)", job.state),
        None => job.state.to_string(),
    };
    let due = match &job.max_duration {
        Some(limit) if job.due.is_never() => [format!("{} after start", clean(limit)), String::new()],
        _ => [say::absolute(job.due, &cx.zone, cx.now()), say::relative(job.due, cx.now())],
    };
    let [absolute, relative] = due;
    let meeting = cut(&say::meeting(job), MEETING_COLUMNS);
    vec![
        job.id.short().into(),
        absolute.into(),
        relative.into(),
        meeting.into(),
        Cell::toned(state, say::tone(job)),
        reason(job).into(),
    ]
}

fn reason(job: &JobView) -> String {
    let mut text = say::shortened(job.alarm.as_deref().unwrap_or(&job.reason));
    let extended = say::extension(job).filter(|_| job.extended_from.is_some() && job.outcome.is_none());
    if let Some(extended) = extended {
        text.push_str("; ");
        text.push_str(&extended);
    }
    if job.not_live_since.is_some() && job.outcome.is_none() {
        text.push_str("; what it is to end is not live any more");
    }
    text
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::cli::output::Output;
    use crate::control::fake::{NOW, concluded, job};
    use crate::job::Job;

    #[test]
    fn a_listing_is_clean_and_says_why() {
        let view = |job: &Job, reason: &str| JobView { reason: reason.into(), ..JobView::new(job, NOW) };
        let hour = Duration::from_secs(3600);
        let evil = concluded(job(3, "evil\u{1b}[2J\u{202e}name", hour), Outcome::Unconfirmed, "");
        let jobs = [
            view(&evil, "nothing can\nprove it"),
            JobView { not_live_since: Some(NOW.wall), ..view(&job(5, "math", hour), "waiting") },
            JobView { overdue: true, ..view(&job(2, "数学", hour * 26), "waiting") },
            JobView { alarm: Some("wrong secret".into()), ..view(&job(1, "math", hour / 2), "waiting") },
            JobView { extended_from: Some(NOW.wall), ..view(&job(4, "math", hour / 2), "waiting") },
        ];
        let cx = Context::test("/nowhere".into(), Output::captured(None).0);
        insta::assert_snapshot!(anstream::adapter::strip_str(&render(&cx, &jobs)).to_string(), @r"
        ID        DUE                                    MEETING                      STATE              REASON
        00000003  18:15:00 CET                 in 1h     campus/evil␛[2J\u{202e}name  unconfirmed        nothing can␊prove it
        00000005  18:15:00 CET                 in 1h     campus/math                  waiting            waiting; what it is to end is not live any more
        00000002  Wed 2026-12-02 19:15:00 CET  in 1d 2h  campus/数学                  waiting (overdue)  waiting
        00000001  17:45:00 CET                 in 30m    campus/math                  waiting            wrong secret
        00000004  17:45:00 CET                 in 30m    campus/math                  waiting            waiting; extended by 30m
        ");
    }
}
