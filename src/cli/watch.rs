//! `adjourn watch`.

use super::context::Context;
use super::failure::Failure;
use super::follow::{Events, Heard, Patience};
use super::output::Tone;
use super::say;
use super::select::job_id;
use super::table::hanging;
use super::text::clean;
use crate::config::time::parse_at;
use crate::engine::api::Notice;
use crate::exit::ExitCode;

/// Show what happens, as it happens, until interrupted
#[derive(clap::Args, Debug)]
pub struct Args {
    /// Only this job: its whole id, or its last 8 characters
    #[arg(value_name = "ID", value_parser = job_id)]
    job: Option<String>,
    /// Print one JSON object a line
    #[arg(long)]
    json: bool,
}

pub async fn run(args: Args, cx: &mut Context) -> Result<ExitCode, Failure> {
    let client = cx.client()?;
    let job = args.job.as_deref();
    let mut events = Events::subscribe(&client, job).await?;
    loop {
        match follow(&mut events, cx, args.json).await {
            Err(failure) if !failure.is_away() => return Err(failure),
            Ok(()) | Err(_) => {
                cx.out.note("the daemon went away; what happens until it is back is not shown");
            }
        }
        let mut patience = Patience::new();
        events = loop {
            patience.pause().await;
            match Events::subscribe(&client, job).await {
                Ok(events) => break events,
                Err(failure) if failure.is_away() => {}
                Err(failure) => return Err(failure),
            }
        };
        cx.out.note("the daemon is back");
    }
}

/// Until the stream ends.
async fn follow(events: &mut Events, cx: &mut Context, json: bool) -> Result<(), Failure> {
    while let Some(heard) = events.next().await? {
        match heard {
            Heard::Lagged(missed) => {
                cx.out.note(format_args!("{missed} events came too fast and are not shown"));
            }
            Heard::Notice(notice) if json => cx.out.json_line(&notice)?,
            Heard::Notice(notice) => {
                let line = line(&notice, cx);
                cx.out.line(line)?;
                cx.out.flush()?;
            }
        }
    }
    Ok(())
}

/// `18:00:00.002  campus/math-101  1a2b3c4d  end-sent  the end call left`.
fn line(notice: &Notice, cx: &Context) -> String {
    let at = parse_at(&notice.at, None).map_or_else(|_| clean(&notice.at), |at| say::clock(at, &cx.zone));
    let (what, id) = match &notice.job {
        Some(job) => (say::meeting(job), job.id.short()),
        None => (clean(notice.server.as_str()), "-".to_owned()),
    };
    let event = clean(&notice.event);
    let tone = notice.job.as_ref().and_then(say::tone).filter(|_| notice.event != "held");
    let event = tone.map_or_else(|| event.clone(), |tone| tone.paint(&event));
    let head = format!("{}  {what}  {id}  {event}  ", Tone::Faint.paint(at));
    hanging(&cx.out, &head, &say::shortened(&notice.text))
}
