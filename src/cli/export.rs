//! `adjourn export`.

use futures_util::StreamExt;

use super::context::Context;
use super::failure::Failure;
use super::list::states;
use crate::exit::ExitCode;
use crate::job::State;

/// Write deadlines as lines that `adjourn import` takes
///
/// Without options: those that are waiting or held. What stands in the schedule file is left out, for the file brings it
/// by itself. To move to another daemon: `adjourn export > deadlines.ndjson`, stop this daemon, and there
/// `adjourn import deadlines.ndjson`.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// Only jobs in these states
    #[arg(long, value_name = "STATE", value_delimiter = ',', conflicts_with = "open", value_parser = states())]
    state: Vec<String>,
    /// Only jobs on this server
    #[arg(long)]
    server: Option<String>,
    /// All that are not done, those at work too (whose time has passed: an import refuses them)
    #[arg(long)]
    open: bool,
    /// The deadlines of the schedule file too, with keys of their own instead of the file's
    #[arg(long)]
    with_schedule: bool,
}

pub async fn run(args: Args, cx: &mut Context) -> Result<ExitCode, Failure> {
    let client = cx.client()?;
    let mut lines = client.export(&query(args)).await?.bytes_stream();
    let mut count = 0;
    while let Some(chunk) = lines.next().await {
        let chunk = chunk.map_err(|error| {
            client.unreachable(error).hint("the export is not complete: see the daemon's log, then try again")
        })?;
        count += chunk.iter().filter(|byte| **byte == b'\n').count();
        cx.out.bytes(&chunk)?;
    }
    cx.out.flush()?;
    cx.out.note(format_args!("{count} deadlines exported"));
    Ok(ExitCode::Done)
}

fn query(args: Args) -> Vec<(&'static str, String)> {
    let open = State::ALL.iter().filter(|state| **state != State::Done).map(ToString::to_string);
    let states = if args.open { open.collect() } else { args.state };
    let mut query = Vec::new();
    if !states.is_empty() {
        query.push(("state", states.join(",")));
    }
    query.extend(args.server.map(|server| ("server", server)));
    if args.with_schedule {
        query.push(("schedule", "true".to_owned()));
    }
    query
}
