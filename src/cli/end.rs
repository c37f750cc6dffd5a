//! `adjourn end`.

use std::time::Duration;

use clap::builder::PossibleValuesParser;
use jiff::tz::TimeZone;
use serde_json::{Map, Value, json};
use tokio::time::timeout;

use super::client::{Client, typed};
use super::context::Context;
use super::failure::Failure;
use super::text::cut;
use super::{say, told, wait, when};
use crate::config::time::format_span;
use crate::control::wire::{JobAnswer, Meeting, Meetings};
use crate::exit::ExitCode;
use crate::job::{Language, UtcMs};

/// The question whether the meeting is live may delay the command by so much.
const LOOK_TIMEOUT: Duration = Duration::from_secs(5);
/// Columns that a meeting's name may take.
const NAME_COLUMNS: usize = 60;

/// End a meeting at a time
///
/// The deadline is safe with the daemon once this command returns. Times without a zone are those of the system's zone,
/// or of --timezone.
#[derive(clap::Args, Debug)]
#[command(group = clap::ArgGroup::new("when"))]
#[command(group = clap::ArgGroup::new("limit").args(["at", "in", "now", "max_duration"]).multiple(true).required(true))]
pub struct Args {
    /// The server, as the configuration names it
    #[arg(value_parser = clap::builder::NonEmptyStringValueParser::new())]
    server: String,
    /// The meeting, as the platform knows it
    #[arg(value_parser = clap::builder::NonEmptyStringValueParser::new())]
    meeting: String,
    /// At this time: 18:00, 6pm, "tomorrow 18:00", "Mon 18:00", +45m, "2026-12-01 18:00", RFC 3339, RFC 9557
    #[arg(long, value_name = "TIME", group = "when")]
    at: Option<String>,
    /// After so long: 45m, "1h 30m"
    #[arg(long, value_name = "DURATION", group = "when", value_parser = when::duration)]
    r#in: Option<Duration>,
    /// So long after the meeting started; before that the job waits for it. With --at or --in: whichever comes first
    #[arg(long, value_name = "DURATION", conflicts_with = "now", value_parser = when::duration)]
    max_duration: Option<Duration>,
    /// At once
    #[arg(long, group = "when")]
    now: bool,
    /// The zone of --at, such as Europe/Berlin
    #[arg(long, value_name = "ZONE", value_parser = when::time_zone)]
    timezone: Option<TimeZone>,
    /// An idempotency key: the same command with the same key makes one job only
    #[arg(long)]
    key: Option<String>,
    /// End this run of the meeting and no other
    #[arg(long, value_name = "ID")]
    instance: Option<String>,
    /// "live": a meeting that is absent at the deadline is an alarm
    #[arg(long, value_name = "WHAT", value_parser = ["any", "live"])]
    expect: Option<String>,
    /// Also close the room against whoever comes back, where the platform can
    #[arg(long, value_name = "HOW", value_parser = ["no", "reversible", "permanent"])]
    lock: Option<String>,
    /// Tell the people inside so long before the end, where the platform can: 10m,1m
    #[arg(long, value_name = "DURATION", value_parser = when::duration, value_delimiter = ',')]
    warn: Vec<Duration>,
    /// What they are told; {remaining} ({remaining:de} in German), {minutes}, {due} and {meeting} are filled in
    #[arg(long, value_name = "TEXT")]
    warn_text: Option<String>,
    /// In which language
    #[arg(long, value_name = "CODE", value_parser = PossibleValuesParser::new(Language::all().map(Language::as_str)))]
    warn_language: Option<String>,
    #[command(flatten)]
    limits: Limits,
    /// Show what would be submitted, and submit nothing
    #[arg(long, conflicts_with = "wait")]
    dry_run: bool,
    /// Wait for the outcome, which becomes the exit status
    #[arg(long)]
    wait: bool,
    /// Give the wait up after so long (exit status 75)
    #[arg(long, value_name = "DURATION", requires = "wait", value_parser = when::duration)]
    timeout: Option<Duration>,
    #[command(flatten)]
    kind: wait::Kind,
    /// Print the job as JSON
    #[arg(long)]
    json: bool,
}

/// Limits of this job; the defaults come from the schedule file.
#[derive(clap::Args, Debug)]
struct Limits {
    /// After the end, end what is reopened for so long
    #[arg(long, value_name = "DURATION", value_parser = when::duration)]
    keep_closed: Option<Duration>,
    /// Do nothing if the daemon finds the job later than this after its time (0s: nothing is done late)
    #[arg(long, value_name = "DURATION", value_parser = when::duration)]
    late_limit: Option<Duration>,
    /// Stop trying so long after the first attempt
    #[arg(long, value_name = "DURATION", value_parser = when::duration)]
    give_up_after: Option<Duration>,
    /// Stop looking for proof so long after the end was accepted
    #[arg(long, value_name = "DURATION", value_parser = when::duration)]
    prove_within: Option<Duration>,
    /// People may extend the deadline by so much in total (0s: not at all)
    #[arg(long, value_name = "DURATION", value_parser = when::duration)]
    max_extension: Option<Duration>,
}

pub async fn run(args: Args, cx: &mut Context) -> Result<ExitCode, Failure> {
    if let Some(zone) = &args.timezone {
        cx.zone = zone.clone();
    }
    let due = args.due(cx)?;
    let body = args.body(due);
    let client = cx.client()?;
    // The look goes its own way: a slow platform must not hold the submit up.
    let looking = tokio::spawn(look(client.clone(), args.server.clone(), args.meeting.clone()));
    if args.dry_run {
        // The daemon refuses what it would refuse.
        let would: JobAnswer = typed(&client.would_submit(&body, args.key.as_deref()).await?)?;
        let live = looking.await.unwrap_or_else(|_| Err(died()));
        return dry_run(&args, cx, &would, due, &body, live);
    }
    let mut answer = client.submit(&body, args.key.as_deref()).await?;
    let made: JobAnswer = typed(&answer)?;
    if !args.json {
        cx.report(&made)?;
        if let Some(sentence) = told::plan(&made, cx.now()) {
            cx.out.line(sentence)?;
        }
        cx.out.flush()?;
    }
    let live = looking.await.unwrap_or_else(|_| Err(died()));
    if !args.json {
        let sentence = live_sentence(&args, cx, &live);
        cx.out.line(sentence)?;
        cx.out.flush()?;
    }
    if args.wait {
        let id = made.job.id.to_string();
        let job = wait::until_over(cx, &id, args.kind.guarded, args.timeout).await?;
        return wait::report(cx, &job, args.kind, args.json);
    }
    if args.json {
        answer["meeting_live"] = json!(live.ok().map(|meeting| meeting.is_some()));
        cx.out.json(&answer)?;
    }
    Ok(ExitCode::Done)
}

impl Args {
    /// `None`: at once, by the daemon's clock, or after the meeting's start.
    fn due(&self, cx: &Context) -> Result<Option<UtcMs>, Failure> {
        let now = cx.now();
        match (&self.at, self.r#in) {
            (Some(at), _) => Ok(Some(when::deadline(at, &cx.zone, now)?)),
            (None, Some(wait)) => Ok(Some(now.wall + wait)),
            (None, None) => Ok(None),
        }
    }

    fn body(&self, due: Option<UtcMs>) -> Value {
        let mut body = Map::new();
        body.insert("server".to_owned(), json!(self.server));
        body.insert("meeting".to_owned(), json!(self.meeting));
        match (self.r#in, due) {
            (Some(wait), _) => body.insert("in".to_owned(), duration(wait)),
            (None, Some(due)) => body.insert("at".to_owned(), json!(due.to_string())),
            (None, None) if self.max_duration.is_some() => None,
            (None, None) => body.insert("now".to_owned(), json!(true)),
        };
        if let Some(limit) = self.max_duration {
            body.insert("max-duration".to_owned(), duration(limit));
        }
        let limits = &self.limits;
        let optional = [
            ("instance", self.instance.as_ref().map(|id| json!(id))),
            ("expect", self.expect.as_ref().map(|what| json!(what))),
            ("lock", self.lock.as_ref().map(|how| json!(how))),
            ("warn", (!self.warn.is_empty()).then(|| self.warn.iter().copied().map(duration).collect())),
            ("warn-text", self.warn_text.as_ref().map(|text| json!(text))),
            ("warn-language", self.warn_language.as_ref().map(|language| json!(language))),
            ("keep-closed", limits.keep_closed.map(duration)),
            ("late-limit", limits.late_limit.map(duration)),
            ("give-up-after", limits.give_up_after.map(duration)),
            ("prove-within", limits.prove_within.map(duration)),
            ("max-extension", limits.max_extension.map(duration)),
        ];
        body.extend(optional.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))));
        Value::Object(body)
    }
}

fn duration(duration: Duration) -> Value {
    json!(format_span(duration))
}

/// Is the meeting live now?
async fn look(client: Client, server: String, meeting: String) -> Result<Option<Meeting>, Failure> {
    let path = ["servers", &server, "meetings"];
    let answer = timeout(LOOK_TIMEOUT, client.get(&path, &[])).await.map_err(|_| {
        let what = format!("no answer within {}", say::span(LOOK_TIMEOUT));
        Failure::new(ExitCode::Temporary, what)
    })??;
    let live: Meetings = typed(&answer)?;
    Ok(live.meetings.into_iter().find(|live| live.meeting.as_str() == meeting))
}

fn died() -> Failure {
    Failure::new(ExitCode::Temporary, "the question went wrong")
}

fn live_sentence(args: &Args, cx: &Context, live: &Result<Option<Meeting>, Failure>) -> String {
    let what = super::clean(&format!("{}/{}", args.server, args.meeting));
    match live {
        Ok(Some(meeting)) => {
            let mut text = format!("{what} is live now: \"{}\"", cut(&meeting.name, NAME_COLUMNS));
            if let Some(people) = meeting.participants {
                text.push_str(&format!(", {people} participants"));
            }
            if let Some(since) = meeting.started_at {
                text.push_str(&format!(", since {}", cx.moment(since)));
            }
            text
        }
        Ok(None) => format!("{what} is not live now"),
        Err(failure) => format!("could not look whether {what} is live: {}", super::clean(failure.what())),
    }
}

fn dry_run(
    args: &Args,
    cx: &mut Context,
    would: &JobAnswer,
    due: Option<UtcMs>,
    body: &Value,
    live: Result<Option<Meeting>, Failure>,
) -> Result<ExitCode, Failure> {
    if args.json {
        let meeting = live.as_ref().ok().map(Option::is_some);
        let due = due.map(|due| due.to_string());
        let all =
            json!({ "dry_run": true, "request": body, "due": due, "key": args.key, "meeting_live": meeting });
        cx.out.json(&all)?;
        return Ok(ExitCode::Done);
    }
    let what = super::clean(&format!("{}/{}", args.server, args.meeting));
    let limit = args.max_duration.map(|limit| format!("{} after its start", format_span(limit)));
    let at = match (due, limit) {
        (Some(due), None) => format!("at {}", cx.moment(due)),
        (Some(due), Some(limit)) => format!("at {}, or {limit} if that comes first", cx.moment(due)),
        (None, Some(limit)) => limit,
        (None, None) => "now".to_owned(),
    };
    cx.out.line(format_args!("would end {what} {at}; nothing was submitted"))?;
    let sentence = live_sentence(args, cx, &live);
    cx.out.line(sentence)?;
    cx.others(would)?;
    if let Some(sentence) = told::plan(would, cx.now()) {
        cx.out.line(sentence)?;
    }
    cx.out.line(super::clean(&body.to_string()))?;
    Ok(ExitCode::Done)
}
