//! `adjourn sandbox`: the simulated platform as a program of its own.

use std::sync::Arc;

use tokio::signal::unix::{SignalKind, signal};

use super::failure::Failure;
use crate::clock;
use crate::exit::ExitCode;
use crate::sandbox::command::{self, Options};

/// Serve a simulated meeting platform on this machine, for trying adjourn out
#[derive(clap::Args, Clone, Debug)]
pub struct Args {
    #[command(flatten)]
    options: Options,
}

pub fn run(args: Args) -> Result<ExitCode, Failure> {
    if let Some((option, whose)) = args.options.misfit() {
        let hint = "adjourn sandbox --help says what each option is for";
        return Err(Failure::usage(format!("{option} is an option of --platform {whose}")).hint(hint));
    }
    serve(args.options).map_err(|error| Failure::new(ExitCode::Refused, format!("{error:#}")))
}

fn serve(options: Options) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Runtime::new()?;
    runtime.block_on(async {
        let mut terminate = signal(SignalKind::terminate())?;
        let shutdown = async move {
            tokio::select! {
                _ = terminate.recv() => {}
                // An error means that Ctrl-C cannot be heard; SIGTERM still is.
                Ok(()) = tokio::signal::ctrl_c() => {}
            }
        };
        command::run(options, Arc::new(clock::wall_micros), std::io::stdout(), shutdown).await
    })?;
    Ok(ExitCode::Done)
}
