//! `adjourn cancel`.

use reqwest::Method;
use serde_json::json;

use super::client::typed;
use super::context::Context;
use super::failure::Failure;
use super::say;
use super::text::clean;
use crate::control::wire::JobAnswer;
use crate::exit::ExitCode;

/// Drop a deadline: the meeting is not ended by it
#[derive(clap::Args, Debug)]
pub struct Args {
    /// The job: its whole id, or its last 8 characters
    id: String,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub async fn run(args: Args, cx: &mut Context) -> Result<ExitCode, Failure> {
    let answer = cx.client()?.send(Method::DELETE, &["jobs", &args.id], &json!({})).await?;
    if args.json {
        cx.out.json(&answer)?;
        return Ok(ExitCode::Done);
    }
    let answer: JobAnswer = typed(&answer)?;
    let job = &answer.job;
    let (what, due, id) = (say::meeting(job), cx.due(job.due, job.max_duration.as_deref()), job.id.short());
    let verb = say::outcome(job);
    cx.out.line(format_args!("{verb} {what}, due {due}: {}; job {id}", clean(&job.reason)))?;
    cx.others(&answer)?;
    Ok(ExitCode::Done)
}
