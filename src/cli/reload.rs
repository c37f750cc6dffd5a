//! `adjourn reload`.

use reqwest::Method;
use serde_json::json;

use super::client::typed;
use super::context::Context;
use super::failure::Failure;
use super::text::clean;
use crate::control::wire::Reloaded;
use crate::exit::ExitCode;

/// Have the daemon read its schedule file again
///
/// A file with an error changes nothing.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub async fn run(args: Args, cx: &mut Context) -> Result<ExitCode, Failure> {
    let answer = cx.client()?.send(Method::POST, &["reload"], &json!({})).await?;
    if args.json {
        cx.out.json(&answer)?;
        return Ok(ExitCode::Done);
    }
    let reloaded: Reloaded = typed(&answer)?;
    if reloaded.changes.is_empty() {
        cx.out.line("nothing has changed")?;
    }
    for change in &reloaded.changes {
        cx.out.line(clean(change))?;
    }
    Ok(ExitCode::Done)
}
