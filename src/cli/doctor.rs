//! `adjourn doctor`.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::time::timeout;

use super::check;
use super::client::{Client, typed};
use super::context::Context;
use super::failure::Failure;
use super::output::Tone;
use super::table::wrapped;
use super::text::clean;
use crate::clock;
use crate::config::{self, Settings};
use crate::doctor::{self, Finding, Grade};
use crate::engine::api::Status;
use crate::exit::ExitCode;
use crate::job::ServerName;
use crate::schedule::busiest;

/// A daemon that hangs is not waited for.
const PATIENCE: Duration = Duration::from_secs(3);

/// Examine the configured servers and this machine, and say what to do
///
/// Names, connections, clocks, credentials and versions of the servers; the state directory, its disk, the clock and the
/// control socket here. Nothing is changed anywhere. The exit status is 1 if deadlines are in danger.
#[derive(clap::Args, Clone, Debug)]
pub struct Args {
    /// Only this server, as the configuration names it
    server: Option<String>,
    /// A schedule file, or a directory with schedule.toml and schedule.d/*.toml [default: what a running daemon reads, or
    /// /etc/adjourn]
    #[arg(long, value_name = "PATH", env = "ADJOURN_CONFIG", value_delimiter = ':')]
    config: Vec<PathBuf>,
    /// Read no secrets: try no credentials
    #[arg(long)]
    no_secrets: bool,
    /// Print the findings as JSON
    #[arg(long)]
    json: bool,
}

/// `socket` is what `--socket` or `ADJOURN_SOCKET` says, if they say anything.
pub async fn run(args: Args, socket: Option<PathBuf>, cx: &mut Context) -> Result<ExitCode, Failure> {
    let mut running = running(cx.client()).await;
    let its_own = running.iter().flat_map(|status| &status.config).map(PathBuf::from).collect();
    let paths = check::paths_or_default(if args.config.is_empty() { its_own } else { args.config });
    let loaded = config::load(&paths, &check::environment(args.no_secrets), clock::system_now().wall);
    let Some(mut settings) = loaded.settings else {
        cx.out.note(check::render(&loaded.diagnostics));
        return Ok(ExitCode::Config);
    };
    if let Some(socket) = socket {
        settings.socket = socket;
    } else if running.is_none() {
        running = self::running(Client::new(&settings.socket)).await;
    }
    if let Some(status) = &running {
        // It may have been started with another one than the file says.
        settings.state_dir = PathBuf::from(&status.store.path);
        settings.socket = PathBuf::from(&status.socket);
    }
    let mut findings = examine(&settings, &loaded.without_secrets, args.server.as_deref()).await?;
    findings.extend(running.filter(|_| args.server.is_none()).map(|status| daemon(&status)));
    if args.json {
        cx.out.json(&findings)?;
    } else {
        show(&findings, cx)?;
    }
    let in_danger = findings.iter().any(|finding| finding.grade == Grade::Bad);
    Ok(if in_danger { ExitCode::Refused } else { ExitCode::Done })
}

/// What a running daemon says of itself; `None`: there is none, or it does not let us ask.
async fn running(client: Result<Client, Failure>) -> Option<Status> {
    let client = client.ok()?;
    let answer = timeout(PATIENCE, client.get(&["status"], &[])).await.ok()?.ok()?;
    let status: Status = typed(&answer).ok()?;
    // An older one does not tell where it is.
    (!status.socket.is_empty()).then_some(status)
}

fn daemon(status: &Status) -> Finding {
    let Status { version, pid, config, store, .. } = status;
    let (config, state_dir) = (config.join(", "), &store.path);
    let text =
        format!("adjourn {version} runs (pid {pid}), reads {config}, and keeps its state in {state_dir}");
    Finding::good("here", "daemon", text)
}

async fn examine(
    settings: &Settings,
    without_secrets: &BTreeSet<ServerName>,
    only: Option<&str>,
) -> Result<Vec<Finding>, Failure> {
    let wanted: Vec<_> =
        settings.servers.iter().filter(|(name, _)| only.is_none_or(|only| name.as_str() == only)).collect();
    if let (Some(only), true) = (only, wanted.is_empty()) {
        let known: Vec<&str> = settings.servers.keys().map(ServerName::as_str).collect();
        let what = format!("there is no server {} in the schedule file", clean(only));
        return Err(Failure::new(ExitCode::Usage, what).hint(format!("there are: {}", known.join(", "))));
    }
    let now = clock::system_now().wall;
    let servers = wanted.into_iter().map(|(name, server)| {
        let jobs = busiest(&settings.schedule, name, now).map_or(0, |(_, jobs)| jobs);
        let with_secrets = !without_secrets.contains(name);
        doctor::server::examine(name, &server.platform, with_secrets, jobs, server.max_concurrent)
    });
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
        let said = format!("{}{}", clean(text), clean(&hint));
        // Behind the columns, or with a small indent where they leave too little room.
        let beside = 4 + 2 + width + 2 + 11 + 2;
        let columns = cx.out.width().map_or(usize::MAX, usize::from);
        let (indent, room) = match columns.saturating_sub(beside) {
            room if room >= 40 => (beside, room),
            _ => (6, columns.saturating_sub(6).max(1)),
        };
        let mut lines = wrapped(&said, room).into_iter();
        let first = if indent == beside { lines.next().unwrap_or_default() } else { String::new() };
        let line = format!("{grade}  {subject:<width$}  {what:<11}  {first}");
        cx.out.line(line.trim_end())?;
        for more in lines {
            cx.out.line(format_args!("{:indent$}{more}", ""))?;
        }
    }
    let bad = findings.iter().filter(|finding| finding.grade == Grade::Bad).count();
    match bad {
        0 => cx.out.line("\nready"),
        1 => cx.out.line("\n1 thing needs you"),
        n => cx.out.line(format_args!("\n{n} things need you")),
    }
}
