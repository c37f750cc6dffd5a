//! `adjourn wait`.

use std::time::Duration;

use reqwest::Method;
use serde_json::Value;
use tokio::time::timeout;

use super::client::{Client, typed};
use super::context::Context;
use super::failure::Failure;
use super::follow::{Events, Heard, Patience};
use super::select::{Deed, OPEN, Picked, Selection};
use super::{say, when};
use crate::exit::ExitCode;
use crate::job::{JobView, State};

const WAIT: Deed = Deed { verb: "wait", past: "waited for", states: OPEN, method: Method::GET, path: None };

/// Wait until a job is done; the exit status tells its outcome
///
/// Of several jobs (SERVER MEETING, or --match and the like) those that are open now are waited for, and the exit status is
/// that of the worst outcome; with --json each is one line.
/// With keep-closed the wait is over once the meeting is proven over and guarding begins. If the daemon restarts
/// meanwhile, the wait goes on.
#[derive(clap::Args, Debug)]
pub struct Args {
    #[command(flatten)]
    which: Selection,
    /// Give up after so long (exit status 75)
    #[arg(long, value_name = "DURATION", value_parser = when::duration)]
    timeout: Option<Duration>,
    #[command(flatten)]
    kind: Kind,
    /// Print the job as JSON
    #[arg(long)]
    json: bool,
}

/// What counts as an answer; `end --wait` has the same.
#[derive(clap::Args, Clone, Copy, Debug, Default)]
pub struct Kind {
    /// A meeting that never took place is fine (exit status 0), and so is one that vanished with nobody in it
    #[arg(long)]
    pub absent_ok: bool,
    /// Wait also while the meeting is kept closed
    #[arg(long)]
    pub guarded: bool,
}

pub async fn run(args: Args, cx: &mut Context) -> Result<ExitCode, Failure> {
    let client = cx.client()?;
    match args.which.pick(&client, &WAIT).await? {
        Picked::One(id) => {
            let job = until_over(cx, &id, args.kind.guarded, args.timeout).await?;
            report(cx, &job, args.kind, args.json)
        }
        Picked::Many(jobs) => {
            let count = jobs.len();
            let waiting = until_all_over(cx, jobs, &args);
            let Some(bound) = args.timeout else { return waiting.await };
            timeout(bound, waiting).await.unwrap_or_else(|_| {
                let what = format!("not all of {count} jobs are done after {}", say::span(bound));
                Err(Failure::new(ExitCode::Temporary, what).hint("see `adjourn list`, or wait again"))
            })
        }
    }
}

/// One after the other, what ends next first; the exit status is that of the worst outcome.
async fn until_all_over(cx: &mut Context, jobs: Vec<JobView>, args: &Args) -> Result<ExitCode, Failure> {
    let mut worst = ExitCode::Done;
    for job in jobs {
        let job = until_over(cx, &job.id.to_string(), args.kind.guarded, None).await?;
        let code = if args.json {
            cx.out.json_line(&job)?;
            code_of(&job, args.kind)
        } else {
            report(cx, &job, args.kind, false)?
        };
        cx.out.flush()?;
        worst = if code as u8 > worst as u8 { code } else { worst };
    }
    Ok(worst)
}

/// The job once it is over. Subscribes first and reads the job then, so that nothing is missed in between.
pub async fn until_over(
    cx: &mut Context,
    id: &str,
    guarded: bool,
    bound: Option<Duration>,
) -> Result<JobView, Failure> {
    let client = cx.client()?;
    let waiting = wait(cx, &client, id, guarded);
    let Some(bound) = bound else { return waiting.await };
    timeout(bound, waiting).await.unwrap_or_else(|_| {
        let what = format!("the job is not done after {}", say::span(bound));
        Err(Failure::new(ExitCode::Temporary, what).hint(format!("see `adjourn show {id}`, or wait again")))
    })
}

/// Prints the outcome and turns it into the exit status.
pub fn report(cx: &mut Context, job: &JobView, kind: Kind, json: bool) -> Result<ExitCode, Failure> {
    if json {
        cx.out.json(job)?;
    } else {
        cx.out.line(story(job))?;
        if let Some(told) = left_alone(job) {
            cx.out.note(told);
        }
    }
    Ok(code_of(job, kind))
}

fn code_of(job: &JobView, kind: Kind) -> ExitCode {
    let nobody = job.last_seen.as_ref().is_none_or(|seen| seen.participants == Some(0));
    let code = job.outcome.map(|outcome| ExitCode::of_outcome(outcome, kind.absent_ok, nobody));
    code.unwrap_or(ExitCode::Done)
}

async fn wait(cx: &mut Context, client: &Client, id: &str, guarded: bool) -> Result<JobView, Failure> {
    let mut patience = Patience::new();
    let mut met = false;
    let mut told = false;
    loop {
        match listen(client, id, guarded, &mut met).await {
            Ok(Some(job)) => return Ok(job),
            // Never met: no daemon to wait for.
            Err(failure) if !met || !failure.is_away() => return Err(failure),
            Ok(None) | Err(_) => {}
        }
        if !told {
            cx.out.note("the daemon went away; waiting for it to come back");
            told = true;
        }
        patience.pause().await;
    }
}

/// `None`: the stream has ended before the job.
async fn listen(
    client: &Client,
    id: &str,
    guarded: bool,
    met: &mut bool,
) -> Result<Option<JobView>, Failure> {
    let mut events = Events::subscribe(client, Some(id)).await?;
    *met = true;
    let mut job = read(client, id).await?;
    loop {
        if is_over(&job, guarded) {
            return Ok(Some(job));
        }
        job = match events.next().await? {
            None => return Ok(None),
            Some(Heard::Lagged(_)) => read(client, id).await?,
            Some(Heard::Notice(notice)) => notice.job.unwrap_or(job),
        };
    }
}

async fn read(client: &Client, id: &str) -> Result<JobView, Failure> {
    let answer: Value = client.get(&["jobs", id], &[]).await?;
    typed(&answer)
}

fn is_over(job: &JobView, guarded: bool) -> bool {
    job.state == State::Done || (job.state == State::Guarding && !guarded)
}

/// What is live there now and was not this deadline's to end: people may wonder why it goes on.
fn left_alone(job: &JobView) -> Option<String> {
    let left = job.left_alone.as_ref()?;
    let started = left.started_at.map_or_else(String::new, |at| format!(", which started at {at}"));
    Some(format!(
        "left alone: {} of {}{started}: it is not this deadline's; keep-closed would end it too",
        say::shortened(left.instance.as_str()),
        say::meeting(job)
    ))
}

/// `ended campus/math-101: gone since ...; the end was sent 2 ms after due, proof came 3.1 s after that`.
fn story(job: &JobView) -> String {
    let mut story = format!("{} {}", say::painted_outcome(job), say::meeting(job));
    if !job.reason.is_empty() {
        story.push_str(": ");
        story.push_str(&say::shortened(&job.reason));
    }
    if let Some(late) = job.lateness_ms {
        story.push_str(&format!("; the end was sent {late} ms after due"));
    }
    if let (Some(sent), Some(proven)) = (job.end_sent_at, job.proven_at) {
        let ms = proven.ms_since(sent);
        story.push_str(&format!(", proof came {}.{} s later", ms / 1000, ms % 1000 / 100));
    }
    story.push_str(&format!("; job {}", job.id.short()));
    story
}
