//! `adjourn man`.

use std::path::PathBuf;

use clap::CommandFactory;

use super::Cli;
use super::context::Context;
use super::failure::Failure;
use crate::exit::ExitCode;

/// Print the manual page, or write those of all commands
#[derive(clap::Args, Debug)]
pub struct Args {
    /// Write adjourn.1 and one page a command into this directory
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
}

pub fn run(args: &Args, cx: &mut Context) -> Result<ExitCode, Failure> {
    let Some(dir) = &args.dir else {
        let mut page = Vec::new();
        clap_mangen::Man::new(Cli::command()).render(&mut page)?;
        cx.out.bytes(&page)?;
        return Ok(ExitCode::Done);
    };
    let written = std::fs::create_dir_all(dir).and_then(|()| clap_mangen::generate_to(Cli::command(), dir));
    written.map_err(|error| {
        let what = format!("cannot write the manual pages into {}: {error}", dir.display());
        Failure::new(ExitCode::Refused, what).hint("name a directory that you may write to")
    })?;
    Ok(ExitCode::Done)
}
