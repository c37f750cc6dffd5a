//! `adjourn release`.

use reqwest::Method;
use serde_json::json;

use super::context::Context;
use super::failure::Failure;
use super::select::{Deed, Selection};
use super::when;
use crate::control::wire::JobAnswer;
use crate::exit::ExitCode;
use crate::job::State;

const RELEASE: Deed = Deed {
    verb: "release",
    past: "released",
    states: &[State::Held],
    method: Method::POST,
    path: Some("release"),
};

/// Let a held job go on
#[derive(clap::Args, Debug)]
pub struct Args {
    #[command(flatten)]
    which: Selection,
    /// End the meeting at once
    #[arg(long, conflicts_with = "until")]
    now: bool,
    /// A new time: 18:00, 6pm, "tomorrow 18:00", "Mon 18:00", +15m (from now), "2026-12-01 18:00", RFC 3339
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub async fn run(args: Args, cx: &mut Context) -> Result<ExitCode, Failure> {
    let body = match &args.until {
        Some(until) => json!({ "until": when::deadline(until, &cx.zone, cx.now())?.to_string() }),
        None if args.now => json!({ "now": true }),
        None => json!({}),
    };
    let tell = |answer: &JobAnswer, cx: &mut Context| cx.report(answer);
    args.which.change(&RELEASE, &body, args.json, cx, tell).await
}
