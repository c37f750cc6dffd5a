//! `adjourn sandbox` for the platforms whose meetings run as sessions.

use std::future::Future;
use std::io::Write;

use super::control::ROUTES;
use super::{Answered, Api, NewMeeting, Options, Record, Sandbox};
use crate::sandbox::TimeSource;
use crate::sandbox::command::{self, Paper};

/// Starts it, introduces it, logs one line a request, and serves until `shutdown`. `block` is for the schedule file and
/// the shell.
pub(in crate::sandbox) async fn run<A: Api + Clone>(
    api: A,
    block: fn(&Sandbox<A>) -> Vec<String>,
    options: command::Options,
    now: TimeSource,
    paper: Paper<impl Write + Send + 'static>,
    shutdown: impl Future<Output = ()>,
) -> anyhow::Result<()> {
    let sandbox = Sandbox::start(Options {
        api,
        listen: options.listen,
        tls: options.tls(),
        now,
        observer: Some(paper.clone().observer(log_line)),
        log_capacity: 100_000,
    })
    .await?;
    for name in options.meetings() {
        sandbox.create_meeting(&NewMeeting::new(&name))?;
    }
    let mut lines = block(&sandbox);
    lines.extend([String::new(), format!("Control routes at {}:", sandbox.control_url())]);
    lines.extend(ROUTES.map(|route| format!("  {route}")));
    lines.extend([String::new(), String::new()]);
    paper.say(&lines.join("\n"));
    shutdown.await;
    sandbox.stop().await;
    Ok(())
}

/// One request: number, time, call, meeting, answer, faults.
fn log_line(record: &Record) -> String {
    let answer = match record.answer {
        Answered::Http(status) => format!("HTTP {status}"),
        Answered::Closed => "closed".to_owned(),
        Answered::Never => "no answer".to_owned(),
    };
    let meeting = record.meeting_id.as_deref().unwrap_or("-").escape_debug();
    let faults = match record.faults.as_slice() {
        [] => String::new(),
        names => format!("  [{}]", names.join(", ")),
    };
    let (n, at, call, line) = (record.n, record.received_at, record.call.name(), record.line.escape_debug());
    format!("{n:>5}  {at}  {call:<14} {meeting}  {answer}{faults}  {line}")
}
