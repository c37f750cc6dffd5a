//! `adjourn status`.

use super::client::typed;
use super::context::Context;
use super::failure::Failure;
use super::output::Tone;
use super::table::{Cell, hanging, table};
use super::text::clean;
use crate::config::time::parse_at;
use crate::engine::api::{ClockStatus, ServerStatus, Status, StoreStatus};
use crate::exit::ExitCode;

/// Show how the daemon and its servers are
#[derive(clap::Args, Debug)]
pub struct Args {
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub async fn run(args: Args, cx: &mut Context) -> Result<ExitCode, Failure> {
    let answer = cx.client()?.get(&["status"], &[]).await?;
    if args.json {
        cx.out.json(&answer)?;
        return Ok(ExitCode::Done);
    }
    let status: Status = typed(&answer)?;
    let since = instant(&status.started_at, cx);
    cx.out.line(format_args!("adjourn {}, pid {}, since {since}", clean(&status.version), status.pid))?;
    for (head, text) in lines(&status, cx) {
        let line = hanging(&cx.out, &format!("{head:<9} "), &text);
        cx.out.line(line)?;
    }
    if status.servers.is_empty() {
        cx.out.note("no servers are configured");
        return Ok(ExitCode::Done);
    }
    let rows = status.servers.iter().map(|(name, server)| row(name.as_str(), server)).collect();
    let table = table(&cx.out, &["SERVER", "PLATFORM", "REACHED", "ENDS", "LOOKS", "SUMMARY"], rows);
    cx.out.line("")?;
    cx.out.line(table)?;
    Ok(ExitCode::Done)
}

/// What is said before the servers, each behind its word.
fn lines(status: &Status, cx: &Context) -> Vec<(&'static str, String)> {
    let next = status.next_due.as_ref().map_or_else(|| "nothing is planned".to_owned(), |at| instant(at, cx));
    let mut lines = vec![("jobs", jobs(status)), ("next", next)];
    lines.extend(clock(&status.clock).map(|clock| ("clock", clock)));
    lines.push(("store", store(status)));
    if !status.store.hash.is_empty() {
        lines.push(("head", format!("{}:{}", status.store.sequence, clean(&status.store.hash))));
    }
    let marked = |tone: Tone, mark: &str, text: &str| format!("{} {}", tone.paint(mark), clean(text));
    let trouble = status.store.trouble.as_ref();
    lines.extend(trouble.map(|trouble| ("store", marked(Tone::Bad, "CANNOT BE TRUSTED:", trouble))));
    let repaired = status.store.repaired.as_ref();
    lines.extend(repaired.map(|repaired| ("store", marked(Tone::Doubtful, "repaired:", repaired))));
    // The whole of it is for `check` and `reload` to show.
    let refused = status.schedule_error.as_ref().and_then(|error| error.lines().next());
    lines.extend(refused.map(|error| ("schedule", marked(Tone::Bad, "refused:", error))));
    let held = status.feeds.iter().map(|held| ("feeds", marked(Tone::Doubtful, "not believed yet:", held)));
    lines.extend(held);
    lines
}

fn instant(text: &str, cx: &Context) -> String {
    parse_at(text, None).map_or_else(|_| clean(text), |at| cx.moment(at))
}

/// Nothing is said of a clock that is well.
fn clock(clock: &ClockStatus) -> Option<String> {
    match (&clock.doubt, clock.synchronised) {
        (Some(doubt), _) => Some(format!("{} {}", Tone::Bad.paint("NOT BELIEVED:"), clean(doubt))),
        (None, Some(false)) => Some(format!(
            "{} deadlines go by it all the same; is it right? see: adjourn doctor",
            Tone::Doubtful.paint("no time service keeps it:")
        )),
        (None, _) => None,
    }
}

fn jobs(status: &Status) -> String {
    let counts: Vec<String> = status.jobs.iter().map(|(state, n)| format!("{n} {state}")).collect();
    let counts = if counts.is_empty() { "none".to_owned() } else { counts.join(", ") };
    format!("{counts}; {} in memory", status.in_memory)
}

fn store(status: &Status) -> String {
    let path = clean(&status.store.path);
    match &status.store.error {
        Some(error) => {
            let behind = status.store.behind;
            format!("{path}: {} {} ({behind} changes not written)", Tone::Bad.paint("failing:"), clean(error))
        }
        None if status.store.hash.is_empty() => path,
        None => {
            let StoreStatus { queue_bytes, journal_bytes, sequence, .. } = &status.store;
            let (queue, journal) = (mebibytes(*queue_bytes), mebibytes(*journal_bytes));
            format!("{path}: queue {queue}, journal {journal} up to line {sequence}")
        }
    }
}

fn mebibytes(bytes: u64) -> String {
    const MIB: u64 = 1 << 20;
    format!("{}.{} MiB", bytes / MIB, bytes % MIB * 10 / MIB)
}

fn row(name: &str, server: &ServerStatus) -> Vec<Cell> {
    let (reached, tone) = match server.reachable {
        Some(true) => ("yes", Some(Tone::Good)),
        Some(false) => ("no", Some(Tone::Bad)),
        None => ("not yet", None),
    };
    let mut summary = match &server.alarm {
        Some(alarm) => format!("ALARM: {}", clean(alarm)),
        None => clean(&server.summary),
    };
    if let Some(why) = &server.no_warnings {
        summary.push_str(&format!("; nobody can be warned: {}", clean(why)));
    }
    vec![
        clean(name).into(),
        clean(&server.platform).into(),
        Cell::toned(reached, tone),
        format!(
            "{} sent, {} in flight, {} queued",
            server.ends_sent, server.ends_in_flight, server.ends_queued
        )
        .into(),
        format!("{} sent, {} queued", server.looks_sent, server.looks_queued).into(),
        Cell::toned(summary, server.alarm.as_ref().map(|_| Tone::Bad)),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_is_well_is_not_told() {
        let said = |synchronised, doubt: Option<&str>| {
            clock(&ClockStatus { synchronised, doubt: doubt.map(str::to_owned) }).unwrap_or_default()
        };
        assert_eq!((said(Some(true), None), said(None, None)), (String::new(), String::new()));
        assert!(said(Some(false), None).contains("no time service keeps it"));
        assert!(said(Some(true), Some("it was stepped")).contains("NOT BELIEVED"));
    }

    #[test]
    fn the_store_in_one_line() {
        let well = StoreStatus {
            path: "/s".into(),
            hash: "00".into(),
            sequence: 42,
            queue_bytes: 3 << 20,
            journal_bytes: (1 << 20) + (1 << 19),
            ..StoreStatus::default()
        };
        let mut status = Status { store: well, ..Status::default() };
        assert_eq!(store(&status), "/s: queue 3.0 MiB, journal 1.5 MiB up to line 42");
        status.store.error = Some("no space".into());
        assert!(store(&status).ends_with("no space (0 changes not written)"));
    }
}
