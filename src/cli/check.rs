//! `adjourn check`: the start-up code, without the start. Reports every problem at once.

use std::path::PathBuf;

use super::context::Context;
use super::failure::Failure;
use crate::clock;
use crate::config::{self, DEFAULT_PATH, Diagnostics, Environment, Secrets};
use crate::exit::ExitCode;

/// Width of a line where nobody says how wide the terminal is.
const PLAIN_WIDTH: usize = 140;

/// Read the schedule files as the daemon would, and report every problem at once
///
/// A secret that only the daemon may read is a note: everything else is checked without it.
#[derive(clap::Args, Clone, Debug)]
pub struct Args {
    /// Schedule files, or directories with schedule.toml and schedule.d/*.toml [default: /etc/adjourn]
    #[arg(value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Read no secrets: check everything else
    #[arg(long)]
    no_secrets: bool,
    /// Print the findings as JSON
    #[arg(long)]
    json: bool,
}

/// How a command that only looks reads secrets: where it may. The daemon's are often not for whoever runs it.
pub fn environment(no_secrets: bool) -> Environment {
    Environment::for_a_look(if no_secrets { Secrets::Unread } else { Secrets::IfReadable })
}

pub fn run(args: &Args, cx: &mut Context) -> Result<ExitCode, Failure> {
    let paths = paths_or_default(args.files.clone());
    let loaded = config::check(&paths, &environment(args.no_secrets), clock::system_now().wall);
    let found = &loaded.diagnostics;
    if args.json {
        cx.out.json(&found.items())?;
    } else {
        if !found.is_empty() {
            cx.out.note(render(found));
        }
        cx.out.line(conclusion(&loaded))?;
    }
    Ok(if loaded.settings.is_some() { ExitCode::Done } else { ExitCode::Config })
}

pub fn paths_or_default(paths: Vec<PathBuf>) -> Vec<PathBuf> {
    if paths.is_empty() { vec![PathBuf::from(DEFAULT_PATH)] } else { paths }
}

/// All findings, in colours that the output takes out where they are not wanted.
pub fn render(found: &Diagnostics) -> String {
    found.render(true, PLAIN_WIDTH)
}

fn conclusion(loaded: &config::Loaded) -> String {
    match &loaded.settings {
        Some(settings) => format!(
            "good: {}, {}{}{}{}; {}",
            count(settings.servers.len(), "server"),
            count(settings.schedule.entries.len(), "deadline"),
            recurring(settings.schedule.recurring.len()),
            if_any(settings.schedule.calendar_ends.len(), "calendar"),
            if_any(settings.schedule.rules.len(), "rule"),
            loaded.diagnostics.summary(),
        ),
        None => loaded.diagnostics.summary(),
    }
}

/// Nothing, where there are none.
fn recurring(n: usize) -> String {
    if n == 0 { String::new() } else { format!(", {n} recurring") }
}

fn if_any(n: usize, what: &str) -> String {
    if n == 0 { String::new() } else { format!(", {}", count(n, what)) }
}

fn count(n: usize, what: &str) -> String {
    format!("{n} {what}{}", if n == 1 { "" } else { "s" })
}
