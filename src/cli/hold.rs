//! `adjourn hold`.

use std::time::Duration;

use reqwest::Method;
use serde_json::json;

use super::client::typed;
use super::context::Context;
use super::failure::Failure;
use super::when;
use crate::control::wire::JobAnswer;
use crate::exit::ExitCode;

/// Put a job aside until it is released
///
/// A held job whose time passes stays held; releasing it then needs --now or --until.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// The job: its whole id, or its last 8 characters
    id: String,
    /// Release it by itself after so long
    #[arg(long, value_name = "DURATION", value_parser = when::duration)]
    r#for: Option<Duration>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub async fn run(args: Args, cx: &mut Context) -> Result<ExitCode, Failure> {
    let body = match args.r#for {
        Some(wait) => json!({ "for": humantime::format_duration(wait).to_string() }),
        None => json!({}),
    };
    let answer = cx.client()?.send(Method::POST, &["jobs", &args.id, "hold"], &body).await?;
    if args.json {
        cx.out.json(&answer)?;
    } else {
        cx.report(&typed::<JobAnswer>(&answer)?)?;
    }
    Ok(ExitCode::Done)
}
