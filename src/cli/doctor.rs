//! `adjourn doctor`.

use std::path::PathBuf;

use futures_util::future::join_all;

use super::check;
use super::context::Context;
use super::failure::Failure;
use super::output::Tone;
use super::text::clean;
use crate::clock;
use crate::config::{self, Environment, Settings};
use crate::doctor::{self, Finding, Grade};
use crate::exit::ExitCode;

/// Examine the configured servers and this machine, and say what to do
///
/// Names, connections, clocks, credentials and versions of the servers; the state directory, its disk, the clock and the
/// control socket here. Nothing is changed anywhere. The exit status is 1 if deadlines are in danger.
#[derive(clap::Args, Clone, Debug)]
pub struct Args {
    /// Only this server, as the configuration names it
    server: Option<String>,
    /// A schedule file, or a directory with schedule.toml and schedule.d/*.toml [default: /etc/adjourn]
    #[arg(long, value_name = "PATH", env = "ADJOURN_CONFIG", value_delimiter = ':')]
    config: Vec<PathBuf>,
    /// Print the findings as JSON
    #[arg(long)]
    json: bool,
}

/// `socket` is what `--socket` or `ADJOURN_SOCKET` says, if they say anything.
pub async fn run(args: Args, socket: Option<PathBuf>, cx: &mut Context) -> Result<ExitCode, Failure> {
    let paths = check::paths_or_default(args.config);
    let loaded = config::load(&paths, &Environment::process(), clock::system_now().wall);
    let Some(mut settings) = loaded.settings else {
        cx.out.note(check::render(&loaded.diagnostics));
        return Ok(ExitCode::Config);
    };
    if let Some(socket) = socket {
        settings.socket = socket;
    }
    let findings = examine(&settings, args.server.as_deref()).await?;
    if args.json {
        cx.out.json(&findings)?;
    } else {
        show(&findings, cx)?;
    }
    let in_danger = findings.iter().any(|finding| finding.grade == Grade::Bad);
    Ok(if in_danger { ExitCode::Refused } else { ExitCode::Done })
}

async fn examine(settings: &Settings, only: Option<&str>) -> Result<Vec<Finding>, Failure> {
    let wanted: Vec<_> =
        settings.servers.iter().filter(|(name, _)| only.is_none_or(|only| name.as_str() == only)).collect();
    if let (Some(only), true) = (only, wanted.is_empty()) {
        let known: Vec<&str> = settings.servers.keys().map(crate::job::ServerName::as_str).collect();
        let what = format!("there is no server {} in the schedule file", clean(only));
        return Err(Failure::new(ExitCode::Usage, what).hint(format!("there are: {}", known.join(", "))));
    }
    let servers = wanted.into_iter().map(|(name, server)| doctor::server::examine(name, &server.platform));
    let mut findings: Vec<Finding> = join_all(servers).await.into_iter().flatten().collect();
    if only.is_none() {
        findings.append(&mut doctor::machine::examine(settings));
    }
    Ok(findings)
}

fn show(findings: &[Finding], cx: &mut Context) -> Result<(), Failure> {
    let width = findings.iter().map(|finding| finding.subject.len()).max().unwrap_or(0);
    for finding in findings {
        let Finding { subject, what, grade, text, hint } = finding;
        let tone = match grade {
            Grade::Good => Tone::Good,
            Grade::Note => Tone::Doubtful,
            Grade::Bad => Tone::Bad,
        };
        let grade = tone.paint(format_args!("{grade:<4}"));
        let hint = if hint.is_empty() { String::new() } else { format!("; {hint}") };
        cx.out.line(format_args!(
            "{grade}  {subject:<width$}  {what:<11}  {}{}",
            clean(text),
            clean(&hint)
        ))?;
    }
    let bad = findings.iter().filter(|finding| finding.grade == Grade::Bad).count();
    match bad {
        0 => cx.out.line("\nready"),
        1 => cx.out.line("\n1 thing needs you"),
        n => cx.out.line(format_args!("\n{n} things need you")),
    }
}
