//! `adjourn hold`.

use std::time::Duration;

use reqwest::Method;
use serde_json::json;

use super::context::Context;
use super::failure::Failure;
use super::select::{Deed, Selection};
use super::when;
use crate::config::time::format_span;
use crate::control::wire::JobAnswer;
use crate::exit::ExitCode;
use crate::job::State;

const HOLD: Deed =
    Deed { verb: "hold", past: "held", states: &[State::Waiting], method: Method::POST, path: Some("hold") };

/// Put a job aside until it is released
///
/// A held job whose time passes stays held; releasing it then needs --now or --until.
#[derive(clap::Args, Debug)]
pub struct Args {
    #[command(flatten)]
    which: Selection,
    /// Release it by itself after so long
    #[arg(long, value_name = "DURATION", value_parser = when::duration)]
    r#for: Option<Duration>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub async fn run(args: Args, cx: &mut Context) -> Result<ExitCode, Failure> {
    let body = match args.r#for {
        Some(wait) => json!({ "for": format_span(wait) }),
        None => json!({}),
    };
    let tell = |answer: &JobAnswer, cx: &mut Context| cx.report(answer);
    args.which.change(&HOLD, &body, args.json, cx, tell).await
}
