//! `adjourn extend`.

use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};

use super::client::typed;
use super::context::Context;
use super::failure::Failure;
use super::output::Tone;
use super::select::job_id;
use super::text::clean;
use super::{say, when};
use crate::config::time::format_span;
use crate::control::wire::{Extended, JobAnswer, Refused};
use crate::exit::ExitCode;
use crate::job::State;

/// Move a deadline, or all open deadlines of a meeting, later
///
/// A duration counts from the time at which the deadline is due now. Later occurrences of recurring and calendar entries are
/// for later classes, and stay. Where max-extension limits how far a deadline may be
/// pushed in total, the answer says how much is left. Of a meeting's deadlines those that may be extended are; the exit
/// status is 1 if one stays as it was.
#[derive(clap::Args, Debug)]
#[command(override_usage = "adjourn extend ID (DURATION | --until TIME)\n       \
                            adjourn extend SERVER MEETING (DURATION | --until TIME)")]
pub struct Args {
    /// ID or SERVER MEETING, then DURATION unless --until is given
    #[arg(required = true, num_args = 1..=3, value_name = "ARG")]
    args: Vec<String>,
    /// The new time: 18:00, 6pm, "tomorrow 18:00", "Mon 18:00", +15m (from now), "2026-12-01 18:00", RFC 3339
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

const HINT: &str = "`adjourn extend 1a2b3c4d 10m`, `adjourn extend campus math-101 --until 18:30`";

#[derive(Clone, PartialEq, Eq, Debug)]
enum What {
    Job(String),
    Meeting { server: String, meeting: String },
}

pub async fn run(args: Args, cx: &mut Context) -> Result<ExitCode, Failure> {
    let (what, by) = split(args.args, args.until.is_some())?;
    let body = match (by, &args.until) {
        (Some(by), _) => json!({ "by": format_span(by) }),
        (None, Some(until)) => json!({ "until": when::deadline(until, &cx.zone, cx.now())?.to_string() }),
        (None, None) => return Err(how()),
    };
    match what {
        What::Job(id) => {
            let answer = cx.client()?.send(Method::POST, &["jobs", &id, "extend"], &body).await?;
            one(cx, &answer, args.json)
        }
        What::Meeting { server, meeting } => {
            let path = ["servers", &server, "meetings", &meeting, "extend"];
            let answer = cx.client()?.send(Method::POST, &path, &body).await?;
            all(cx, &answer, args.json)
        }
    }
}

/// `ID D`, `ID` with `--until`, `SERVER MEETING D`, `SERVER MEETING` with `--until`.
fn split(mut args: Vec<String>, until: bool) -> Result<(What, Option<Duration>), Failure> {
    let by = match args.len() {
        2 | 3 if !until => args.pop(),
        1 | 2 if until => None,
        _ => return Err(how()),
    };
    let by = by.map(|text| when::duration(&text).map_err(|why| wrong_duration(&text, &why))).transpose()?;
    let mut args = args.into_iter();
    match (args.next(), args.next()) {
        (Some(server), Some(meeting)) => Ok((What::Meeting { server, meeting }, by)),
        (Some(id), None) => match job_id(&id) {
            Ok(id) => Ok((What::Job(id), by)),
            Err(why) => Err(Failure::usage(format!("{id:?} is no job id: {why}")).hint(HINT)),
        },
        (None, _) => Err(how()),
    }
}

fn how() -> Failure {
    Failure::usage("extend takes a job or a meeting, and either a duration or --until").hint(HINT)
}

fn wrong_duration(text: &str, why: &str) -> Failure {
    Failure::usage(format!("{text:?} is no duration: {why}"))
        .hint("to extend SERVER MEETING, put the duration behind them")
}

fn one(cx: &mut Context, answer: &Value, json: bool) -> Result<ExitCode, Failure> {
    if json {
        cx.out.json(answer)?;
        return Ok(ExitCode::Done);
    }
    let answer: JobAnswer = typed(answer)?;
    cx.report(&answer)?;
    if let Some(extension) = say::extension(&answer.job) {
        cx.out.line(extension)?;
    }
    Ok(ExitCode::Done)
}

fn all(cx: &mut Context, answer: &Value, json: bool) -> Result<ExitCode, Failure> {
    let extended: Extended = typed(answer)?;
    let code = if extended.refused.is_empty() { ExitCode::Done } else { ExitCode::Refused };
    if json {
        cx.out.json(answer)?;
        return Ok(code);
    }
    for job in &extended.jobs {
        let left = say::extension_left(job).map_or_else(String::new, |left| format!("; {left}"));
        let sentence = cx.sentence(job);
        cx.out.line(format_args!("{sentence}{left}"))?;
    }
    for refused in &extended.refused {
        let (label, id) = (Tone::Bad.paint("not extended:"), refused.id.short());
        cx.out.note(format_args!("{label} job {id}: {}", clean(&refused.detail)));
        let stays = format!("stays due at {} ({})", cx.moment(refused.due), refused.state);
        cx.out.note(format_args!("job {id} {stays}"));
    }
    for job in &extended.later {
        let stays = format!("job {} stays: it is for later, {}", job.id.short(), cx.moment(job.due));
        cx.out.note(stays);
    }
    if let Some(first) = first_kept(&extended) {
        let due = cx.moment(first.due);
        cx.out.note(format_args!("the earliest deadline counts: the meeting still ends at {due}"));
    }
    Ok(code)
}

/// A deadline that was not moved and will end the meeting before any that was.
fn first_kept(extended: &Extended) -> Option<&Refused> {
    let kept = extended.refused.iter().filter(|refused| refused.state == State::Waiting);
    let first = kept.min_by_key(|refused| refused.due)?;
    extended.jobs.iter().all(|job| first.due < job.due).then_some(first)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(args: &[&str], until: bool, expected: Option<(What, Option<u64>)>) {
        let got = split(args.iter().map(|&arg| arg.to_owned()).collect(), until);
        let expected = expected.map(|(what, minutes)| (what, minutes.map(|m| Duration::from_secs(60 * m))));
        match (got, expected) {
            (Err(failure), None) => assert_eq!(failure.exit(), ExitCode::Usage),
            (got, expected) => assert_eq!(got.ok(), expected, "{args:?}"),
        }
    }

    #[test]
    fn tells_a_job_from_a_meeting() {
        let job = || What::Job("1a2b3c4d".into());
        let meeting = || What::Meeting { server: "campus".into(), meeting: "math".into() };
        check(&["1a2b3c4d", "10m"], false, Some((job(), Some(10))));
        check(&["1a2b3c4d"], true, Some((job(), None)));
        check(&["campus", "math", "10m"], false, Some((meeting(), Some(10))));
        check(&["campus", "math"], true, Some((meeting(), None)));
        check(&["1a2b3c4d"], false, None);
        check(&["campus", "math"], false, None);
        check(&["campus", "math", "10m"], true, None);
        check(&["campus", "math", "10m", "x"], false, None);
    }
}
