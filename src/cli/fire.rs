//! `adjourn fire`.

use reqwest::Method;
use serde_json::json;

use super::client::typed;
use super::context::Context;
use super::failure::Failure;
use super::select::job_id;
use crate::control::wire::JobAnswer;
use crate::exit::ExitCode;

/// End the meeting of a job at once, whatever its time
#[derive(clap::Args, Debug)]
pub struct Args {
    /// The job: its whole id, or its last 8 characters
    #[arg(value_parser = job_id)]
    id: String,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub async fn run(args: Args, cx: &mut Context) -> Result<ExitCode, Failure> {
    let answer = cx.client()?.send(Method::POST, &["jobs", &args.id, "fire"], &json!({})).await?;
    if args.json {
        cx.out.json(&answer)?;
    } else {
        let answer: JobAnswer = typed(&answer)?;
        let due = cx.moment(answer.job.due);
        cx.report(&answer)?;
        cx.out.note(format_args!("due at {due}; `adjourn wait {}` tells how it ends", answer.job.id.short()));
    }
    Ok(ExitCode::Done)
}
