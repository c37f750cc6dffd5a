//! `adjourn sandbox --platform bigbluebutton`.

use std::future::Future;
use std::io::Write;

use secrecy::ExposeSecret;

use super::control::ROUTES;
use super::{Answered, DEMO_NODE_SECRET, DEMO_SECRET, Front, NewMeeting, Record, Sandbox, Settings};
use crate::sandbox::TimeSource;
use crate::sandbox::command::{Options, Paper, shell_word};

/// Starts it, introduces it, logs one line a request, and serves until `shutdown`.
pub(in crate::sandbox) async fn run(
    options: Options,
    now: TimeSource,
    paper: Paper<impl Write + Send + 'static>,
    shutdown: impl Future<Output = ()>,
) -> anyhow::Result<()> {
    let front = options.front.unwrap_or_default();
    let nodes = usize::from(options.nodes.unwrap_or(1));
    let secret = options.secret.as_ref().map_or(DEMO_SECRET, |secret| secret.expose_secret());
    let settings = Settings {
        version: options.version_flavour.unwrap_or_default(),
        front,
        secret: secret.to_owned(),
        nodes,
        ..Settings::default()
    };
    let sandbox = Sandbox::start(super::Options {
        settings,
        listen: options.listen,
        tls: options.tls(),
        now,
        observer: Some(paper.clone().observer(log_line)),
    })
    .await?;
    for name in options.meetings() {
        sandbox.create_meeting(&NewMeeting::new(&name))?;
    }
    paper.say(&introduction(&sandbox, front, nodes));
    shutdown.await;
    sandbox.stop().await;
    Ok(())
}

/// One request: number, time, server, call, meeting, answer, faults.
fn log_line(record: &Record) -> String {
    let answer = match &record.answer {
        Answered::Success(key) if key.is_empty() => "SUCCESS".to_owned(),
        Answered::Success(key) => format!("SUCCESS {key}"),
        Answered::Failed(key) => format!("FAILED {key}"),
        Answered::Http(status) => format!("HTTP {status}"),
        Answered::Closed => "closed".to_owned(),
        Answered::Never => "no answer".to_owned(),
    };
    let meeting = record.meeting_id.as_deref().unwrap_or("-").escape_debug();
    let faults = match record.faults.as_slice() {
        [] => String::new(),
        names => format!("  [{}]", names.join(", ")),
    };
    let (n, at, call) = (record.n, record.received_at, record.call.name());
    format!("{n:>5}  {at}  {:<6} {call:<16} {meeting}  {answer}{faults}", record.server)
}

fn introduction(sandbox: &Sandbox, front: Front, nodes: usize) -> String {
    let mut lines = vec![
        format!("A simulated BigBlueButton server is at {}", sandbox.url()),
        format!("Its secret is {}", sandbox.secret()),
        String::new(),
        "For the schedule file:".to_owned(),
        String::new(),
        "[servers.sandbox]".to_owned(),
        "platform = \"bigbluebutton\"".to_owned(),
        format!("url      = \"{}\"", sandbox.url()),
        "secret   = { env = \"SANDBOX_SECRET\" }".to_owned(),
    ];
    if front != Front::Direct {
        for node in (1..=nodes).map(|n| format!("node{n}")) {
            lines.extend([
                String::new(),
                "[[servers.sandbox.nodes]]".to_owned(),
                format!("url    = \"{}\"", sandbox.node_url(&node)),
                "secret = { env = \"SANDBOX_NODE_SECRET\" }".to_owned(),
            ]);
        }
    }
    lines.extend([String::new(), format!("export SANDBOX_SECRET={}", shell_word(sandbox.secret()))]);
    if front != Front::Direct {
        lines.push(format!("export SANDBOX_NODE_SECRET={DEMO_NODE_SECRET}"));
    }
    lines.extend([String::new(), format!("Control routes at {}:", sandbox.control_url())]);
    lines.extend(ROUTES.map(|route| format!("  {route}")));
    lines.extend([String::new(), String::new()]);
    lines.join("\n")
}
