//! `adjourn unlock`.

use reqwest::Method;
use serde_json::json;

use super::client::typed;
use super::context::Context;
use super::failure::Failure;
use super::text::clean;
use crate::control::wire::Unlocked;
use crate::exit::ExitCode;

/// Open a room again that was closed with its end (lock = "reversible")
#[derive(clap::Args, Debug)]
pub struct Args {
    /// The server, as the configuration names it
    #[arg(value_parser = clap::builder::NonEmptyStringValueParser::new())]
    server: String,
    /// The meeting, as the platform names it
    #[arg(value_parser = clap::builder::NonEmptyStringValueParser::new())]
    meeting: String,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub async fn run(args: Args, cx: &mut Context) -> Result<ExitCode, Failure> {
    let path = ["servers", &args.server, "meetings", &args.meeting, "unlock"];
    let answer = cx.client()?.send(Method::POST, &path, &json!({})).await?;
    if args.json {
        cx.out.json(&answer)?;
    } else {
        let Unlocked { server, meeting } = typed(&answer)?;
        cx.out.line(format_args!("{}/{} is open again", clean(server.as_str()), clean(meeting.as_str())))?;
    }
    Ok(ExitCode::Done)
}
