//! `adjourn daemon`: reads the schedule, starts, waits for signals, drains.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anstream::adapter::strip_str;
use anyhow::Context;
use listenfd::ListenFd;
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::check;
use super::context::Context as Cx;
use super::failure::Failure;
use crate::clock;
use crate::config::{self, Environment, Settings};
use crate::daemon::{Daemon, Options};
use crate::engine::api::Service;
use crate::exit::ExitCode;
use crate::job::State;
use crate::store::Checker;
use crate::{shortage, systemd, telemetry};

/// Run the daemon
#[derive(clap::Args, Clone, Debug)]
pub struct Args {
    /// A schedule file, or a directory with schedule.toml and schedule.d/*.toml [default: /etc/adjourn]
    #[arg(long, value_name = "PATH", env = "ADJOURN_CONFIG", value_delimiter = ':')]
    config: Vec<PathBuf>,
    /// Where the queue lives, instead of what the schedule file says
    #[arg(long, value_name = "DIR")]
    state_dir: Option<PathBuf>,
}

/// Where the settings come from, at the start and at every reload.
#[derive(Clone, Debug)]
struct Source {
    paths: Vec<PathBuf>,
    state_dir: Option<PathBuf>,
    socket: Option<PathBuf>,
}

/// `socket` is what `--socket` or `ADJOURN_SOCKET` says, if they say anything.
pub fn run(args: Args, socket: Option<PathBuf>, cx: &mut Cx) -> Result<ExitCode, Failure> {
    telemetry::init(cx.out.color().of(&std::io::stderr()));
    let source = Source { paths: check::paths_or_default(args.config), state_dir: args.state_dir, socket };
    let settings = match source.read() {
        Ok(settings) => settings,
        Err(complaint) => {
            let passes = shortage::is_told_of(&complaint);
            cx.out.note(complaint);
            // A file that could not be read just now may well be right.
            return Ok(if passes { ExitCode::Temporary } else { ExitCode::Config });
        }
    };
    run_to_the_end(settings, source, cx)
        .map_err(|error| Failure::new(ExitCode::Temporary, format!("{error:#}")))
}

fn run_to_the_end(settings: Settings, source: Source, cx: &mut Cx) -> anyhow::Result<ExitCode> {
    shortage::none_for_a_start().context("this machine has too few threads or files left for a start")?;
    let runtime = tokio::runtime::Runtime::new().context("starting the runtime")?;
    let code = runtime.block_on(serve(settings, source, cx))?;
    // What still runs now (a name look-up, say) must not keep the process.
    runtime.shutdown_background();
    Ok(code)
}

async fn serve(settings: Settings, source: Source, cx: &mut Cx) -> anyhow::Result<ExitCode> {
    let mut terminate = signal(SignalKind::terminate()).context("listening for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("listening for SIGINT")?;
    let hangup = signal(SignalKind::hangup()).context("listening for SIGHUP")?;
    let config = source.paths.iter().map(|path| absolute(path).display().to_string()).collect();
    let options = Options {
        settings,
        config,
        reread: Arc::new(move || source.read().map_err(|complaint| strip_str(&complaint).to_string())),
        checker: Checker::Child,
        inherited: ListenFd::from_env().take_unix_listener(0).context("the socket that was handed over")?,
    };
    // A store that takes its time to open must not keep a signal waiting; nothing has been begun yet.
    let started = tokio::select! {
        biased;
        started = Daemon::start(options) => started,
        _ = terminate.recv() => return Ok(stopped_early()),
        _ = interrupt.recv() => return Ok(stopped_early()),
    };
    let mut daemon = match started {
        Ok(daemon) => daemon,
        Err(error) => {
            cx.out.failure(&Failure::new(error.exit_code(), error.to_string()));
            return Ok(error.exit_code());
        }
    };
    tell_the_start(&daemon).await;
    let reloads = tokio::spawn(reload_on(hangup, daemon.handle.clone()));
    let code = tokio::select! {
        _ = terminate.recv() => ExitCode::Done,
        _ = interrupt.recv() => ExitCode::Done,
        error = daemon.failed() => {
            tracing::error!(%error, "the engine failed; the next start takes everything up again");
            ExitCode::Refused
        }
    };
    reloads.abort();
    tracing::info!("stopping");
    tokio::select! {
        head = daemon.drain() => {
            tracing::info!(head, "stopped");
            Ok(code)
        }
        _ = terminate.recv() => Ok(at_once()),
        _ = interrupt.recv() => Ok(at_once()),
    }
}

fn stopped_early() -> ExitCode {
    tracing::info!("asked to stop before everything was ready: stopping");
    ExitCode::Done
}

fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}

/// One line from which an operator sees that this is the right daemon.
async fn tell_the_start(daemon: &Daemon) {
    let version = env!("CARGO_PKG_VERSION");
    let Ok(status) = daemon.handle.status().await else {
        tracing::info!(version, "ready");
        return;
    };
    let open: u64 = status.jobs.iter().filter(|(state, _)| **state != State::Done).map(|(_, n)| n).sum();
    let next = status.next_due.as_deref().unwrap_or("nothing is planned");
    let (config, socket, servers) = (status.config.join(":"), &status.socket, status.servers.len());
    let head = daemon.journal_head();
    tracing::info!(
        version,
        config,
        state_dir = status.store.path,
        socket,
        servers,
        open,
        next,
        head,
        "ready"
    );
}

/// A second signal: no more waiting. What was under way is looked at first after the next start.
fn at_once() -> ExitCode {
    tracing::warn!("asked a second time to stop: stopping at once");
    ExitCode::Temporary
}

async fn reload_on(mut hangup: Signal, handle: crate::engine::Handle) {
    while hangup.recv().await.is_some() {
        systemd::reloading();
        // A refusal has been logged.
        if let Ok(reloaded) = handle.reload().await {
            tracing::info!(changes = reloaded.changes.len(), "the schedule was read again");
        }
        systemd::ready();
    }
}

impl Source {
    /// The settings, or everything that is wrong with them as `check` would print it.
    fn read(&self) -> Result<Settings, String> {
        let loaded = config::load(&self.paths, &Environment::process(), clock::system_now().wall);
        let complaint = check::render(&loaded.diagnostics);
        let Some(mut settings) = loaded.settings else { return Err(complaint) };
        if !loaded.diagnostics.is_empty() {
            tracing::info!("the schedule file has notes:\n{}", strip_str(&complaint));
        }
        if let Some(state_dir) = &self.state_dir {
            settings.state_dir =
                std::path::absolute(state_dir).map_err(|error| format!("--state-dir: {error}"))?;
        }
        if let Some(socket) = &self.socket {
            settings.socket = std::path::absolute(socket).map_err(|error| format!("--socket: {error}"))?;
        }
        Ok(settings)
    }
}
