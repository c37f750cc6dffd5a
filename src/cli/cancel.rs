//! `adjourn cancel`.

use reqwest::Method;
use serde_json::json;

use super::context::Context;
use super::failure::Failure;
use super::say;
use super::select::{Deed, OPEN, Selection};
use crate::control::wire::JobAnswer;
use crate::exit::ExitCode;

const CANCEL: Deed =
    Deed { verb: "cancel", past: "cancelled", states: OPEN, method: Method::DELETE, path: None };

/// Drop a deadline: the meeting is not ended by it
#[derive(clap::Args, Debug)]
pub struct Args {
    #[command(flatten)]
    which: Selection,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub async fn run(args: Args, cx: &mut Context) -> Result<ExitCode, Failure> {
    args.which.change(&CANCEL, &json!({}), args.json, cx, tell).await
}

fn tell(answer: &JobAnswer, cx: &mut Context) -> Result<(), Failure> {
    let job = &answer.job;
    let (what, due, id) = (say::meeting(job), cx.due(job.due, job.max_duration.as_deref()), job.id.short());
    let verb = say::painted_outcome(job);
    cx.out.line(format_args!("{verb} {what}, due {due}: {}; job {id}", say::shortened(&job.reason)))?;
    cx.others(answer)
}
