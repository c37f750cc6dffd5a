//! `adjourn completions`.

use clap::CommandFactory;
use clap_complete::Shell;

use super::Cli;
use super::context::Context;
use super::failure::Failure;
use crate::exit::ExitCode;

/// Print the completions for a shell
#[derive(clap::Args, Debug)]
pub struct Args {
    #[arg(value_enum)]
    shell: Shell,
}

pub fn run(args: &Args, cx: &mut Context) -> Result<ExitCode, Failure> {
    // Into memory first: the generator panics when its writer fails.
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "adjourn", &mut script);
    cx.out.bytes(&script)?;
    Ok(ExitCode::Done)
}
