//! `adjourn meetings`.

use super::client::typed;
use super::context::Context;
use super::failure::Failure;
use super::say;
use super::table::table;
use super::text::{clean, cut};
use crate::control::wire::{Meeting, Meetings};
use crate::exit::ExitCode;

/// Columns that a meeting's name may take.
const NAME_COLUMNS: usize = 40;

/// Show what is live on a server now, and until when
#[derive(clap::Args, Debug)]
pub struct Args {
    /// The server, as the configuration names it
    #[arg(value_parser = clap::builder::NonEmptyStringValueParser::new())]
    server: String,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub async fn run(args: Args, cx: &mut Context) -> Result<ExitCode, Failure> {
    let answer = cx.client()?.get(&["servers", &args.server, "meetings"], &[]).await?;
    if args.json {
        cx.out.json(&answer)?;
        return Ok(ExitCode::Done);
    }
    let live: Meetings = typed(&answer)?;
    if live.meetings.is_empty() {
        cx.out.note(format_args!("nothing is live on {}", clean(&args.server)));
        return Ok(ExitCode::Done);
    }
    let header = ["MEETING", "NAME", "STARTED", "PEOPLE", "ENDS"];
    let rows = live.meetings.iter().map(|meeting| row(cx, meeting)).collect();
    let table = table(&cx.out, &header, rows);
    cx.out.line(table)?;
    Ok(ExitCode::Done)
}

/// A breakout room says so: whoever ends its parent ends it too.
fn name(meeting: &Meeting) -> String {
    let name = cut(&meeting.name, NAME_COLUMNS);
    if meeting.breakout_of.is_some() { format!("{name} (breakout room)") } else { name }
}

fn row(cx: &Context, meeting: &Meeting) -> Vec<String> {
    let ends: Vec<String> = meeting.deadlines.iter().map(|deadline| cx.deadline(deadline)).collect();
    vec![
        clean(meeting.meeting.as_str()),
        name(meeting),
        meeting.started_at.map_or_else(|| "?".to_owned(), |at| say::relative(at, cx.now())),
        meeting.participants.map_or_else(|| "?".to_owned(), |people| people.to_string()),
        if ends.is_empty() { "no deadline".to_owned() } else { ends.join("; ") },
    ]
}
