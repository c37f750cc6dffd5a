//! The command line: one file a subcommand.
//!
//! Every command that concerns the queue is a client of the daemon's control socket (`client`, `follow`), prints what it
//! did with the absolute and the relative time (`say`), and never prints a string of a platform or a user uncleaned
//! (`text`). Answers go to stdout, remarks to stderr; a refusal is one sentence, a hint and an exit code (`failure`). Times
//! that people type are read in one place (`when`).

mod audit;
mod cancel;
mod check;
mod client;
mod compact;
mod completions;
mod context;
mod daemon;
mod demo;
mod doctor;
mod end;
mod export;
mod extend;
mod failure;
mod fire;
mod follow;
mod hold;
mod import;
mod list;
mod man;
mod meetings;
mod output;
mod preview;
mod release;
mod reload;
mod report;
mod sandbox;
mod say;
mod select;
mod show;
mod sse;
mod status;
mod table;
mod text;
mod told;
mod unlock;
mod wait;
mod watch;
mod when;

#[cfg(test)]
mod tests;

use std::future::Future;
use std::path::PathBuf;

use clap::{Parser, Subcommand};

use crate::exit::ExitCode;
use context::Context;
use output::Color;

pub use failure::Failure;
pub use text::clean;

/// Where the daemon listens unless it is told otherwise.
pub const DEFAULT_SOCKET: &str = "/run/adjourn/control.sock";

const AFTER_HELP: &str = "\
Exit status:
  0   done; for `wait`: the meeting is over
  1   refused, or another outcome
  2   wrong usage
  3   unconfirmed, or vanished: nothing can prove that the meeting is over
  4   failed: the meeting was last seen alive
  69  the daemon cannot be reached
  75  temporary: try again (a wait timed out, the store is held or full)
  77  no permission
  78  wrong configuration";

/// Ends online meetings on time, and proves that they ended
#[derive(Parser, Debug)]
#[command(name = "adjourn", version, after_help = AFTER_HELP)]
struct Cli {
    /// The control socket of the daemon [default: /run/adjourn/control.sock]
    #[arg(long, global = true, value_name = "PATH", env = "ADJOURN_SOCKET")]
    #[arg(help_heading = "Global options")]
    socket: Option<PathBuf>,

    /// When to colour: auto is on a terminal, unless NO_COLOR is set
    #[arg(long, global = true, value_enum, value_name = "WHEN", default_value_t)]
    #[arg(help_heading = "Global options")]
    color: Color,

    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    Daemon(daemon::Args),
    Audit(audit::Args),
    Check(check::Args),
    Demo(demo::Args),
    Doctor(doctor::Args),
    Sandbox(sandbox::Args),
    Meetings(meetings::Args),
    End(Box<end::Args>),
    List(list::Args),
    Preview(preview::Args),
    Show(show::Args),
    Extend(extend::Args),
    Hold(hold::Args),
    Release(release::Args),
    Fire(fire::Args),
    Cancel(cancel::Args),
    Unlock(unlock::Args),
    Import(import::Args),
    Export(export::Args),
    Wait(wait::Args),
    Watch(watch::Args),
    Status(status::Args),
    Report(report::Args),
    Reload(reload::Args),
    Compact(compact::Args),
    Completions(completions::Args),
    Man(man::Args),
}

/// Reads the command line and does what it says.
pub fn run() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version come this way too; that nobody reads them is no error.
            let _ = error.print();
            return if error.use_stderr() { ExitCode::Usage } else { ExitCode::Done };
        }
    };
    let socket = cli.socket.clone().unwrap_or_else(|| DEFAULT_SOCKET.into());
    let mut cx = Context::standard(socket, cli.color);
    let result = dispatch(cli.command, cli.socket, &mut cx).and_then(|code| cx.out.flush().map(|()| code));
    result.unwrap_or_else(|failure| {
        cx.out.failure(&failure);
        failure.exit()
    })
}

/// `socket` is what `--socket` or `ADJOURN_SOCKET` says, if they say anything: the daemon has its own from the schedule.
fn dispatch(command: Command, socket: Option<PathBuf>, cx: &mut Context) -> Result<ExitCode, Failure> {
    match command {
        Command::Daemon(args) => daemon::run(args, socket, cx),
        Command::Audit(args) => block_on(audit::run(args, cx)),
        Command::Check(args) => check::run(&args, cx),
        Command::Demo(args) => demo::run(args, cx),
        Command::Doctor(args) => block_on(doctor::run(args, socket, cx)),
        Command::Sandbox(args) => sandbox::run(args),
        Command::Meetings(args) => block_on(meetings::run(args, cx)),
        Command::End(args) => block_on(end::run(*args, cx)),
        Command::List(args) => block_on(list::run(args, cx)),
        Command::Preview(args) => block_on(preview::run(args, cx)),
        Command::Show(args) => block_on(show::run(args, cx)),
        Command::Extend(args) => block_on(extend::run(args, cx)),
        Command::Hold(args) => block_on(hold::run(args, cx)),
        Command::Release(args) => block_on(release::run(args, cx)),
        Command::Fire(args) => block_on(fire::run(args, cx)),
        Command::Cancel(args) => block_on(cancel::run(args, cx)),
        Command::Unlock(args) => block_on(unlock::run(args, cx)),
        Command::Import(args) => block_on(import::run(args, cx)),
        Command::Export(args) => block_on(export::run(args, cx)),
        Command::Wait(args) => block_on(wait::run(args, cx)),
        Command::Watch(args) => block_on(watch::run(args, cx)),
        Command::Status(args) => block_on(status::run(args, cx)),
        Command::Report(args) => block_on(report::run(args, cx)),
        Command::Reload(args) => block_on(reload::run(args, cx)),
        Command::Compact(args) => compact::run(args, cx),
        Command::Completions(args) => completions::run(&args, cx),
        Command::Man(args) => man::run(&args, cx),
    }
}

fn block_on<T>(work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::new(ExitCode::Temporary, format!("cannot start: {error}")))?;
    runtime.block_on(work)
}
