//! `adjourn release`.

use reqwest::Method;
use serde_json::json;

use super::client::typed;
use super::context::Context;
use super::failure::Failure;
use super::when;
use crate::control::wire::JobAnswer;
use crate::exit::ExitCode;

/// Let a held job go on
#[derive(clap::Args, Debug)]
pub struct Args {
    /// The job: its whole id, or its last 8 characters
    id: String,
    /// End the meeting at once
    #[arg(long, conflicts_with = "until")]
    now: bool,
    /// A new time: 18:00 (today), "2026-12-01 18:00", RFC 3339
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
    let answer = cx.client()?.send(Method::POST, &["jobs", &args.id, "release"], &body).await?;
    if args.json {
        cx.out.json(&answer)?;
    } else {
        cx.report(&typed::<JobAnswer>(&answer)?)?;
    }
    Ok(ExitCode::Done)
}
