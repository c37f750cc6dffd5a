//! `adjourn compact`: gives back the disk space that the queue does not need any more, while no daemon runs.

use std::io;
use std::path::PathBuf;

use serde::Serialize;

use super::check;
use super::context::Context;
use super::failure::Failure;
use super::text::clean;
use crate::clock;
use crate::config;
use crate::daemon::StartError;
use crate::exit::ExitCode;
use crate::store::{self, Checker, CompactError, Compacted, Size, When};

/// Give back the disk space that the queue does not need any more
///
/// The queue keeps the space of its largest moment until it is compacted. A daemon that starts does that by itself if its
/// files have 64 MiB or more and are 20 times as large as what is live in them; this does it at once, while no daemon
/// runs. It needs room for a copy of what is live.
#[derive(clap::Args, Clone, Debug)]
pub struct Args {
    /// The schedule file that says where the queue lives, or its directory [default: /etc/adjourn]
    #[arg(long, value_name = "PATH", env = "ADJOURN_CONFIG", value_delimiter = ':')]
    config: Vec<PathBuf>,
    /// Where the queue lives; no schedule file is read then
    #[arg(long, value_name = "DIR")]
    state_dir: Option<PathBuf>,
    /// Only if a daemon would do it at its start
    #[arg(long)]
    if_needed: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub fn run(args: Args, cx: &mut Context) -> Result<ExitCode, Failure> {
    let Args { config, state_dir, if_needed, json } = args;
    let state_dir = state_dir.map_or_else(|| configured(config), Ok)?;
    let when = if if_needed { When::ItPays } else { When::Always };
    let done = store::compact(&state_dir, Checker::Child, when).map_err(failure)?;
    if json {
        cx.out.json(&Answer::of(done))?;
    } else {
        if let Some(repaired) = &done.repaired {
            cx.out.note(clean(repaired));
        }
        cx.out.line(sentence(&done))?;
    }
    Ok(ExitCode::Done)
}

fn configured(paths: Vec<PathBuf>) -> Result<PathBuf, Failure> {
    let loaded =
        config::load(&check::paths_or_default(paths), &check::environment(true), clock::system_now().wall);
    match loaded.settings {
        Some(settings) => Ok(settings.state_dir),
        None => Err(Failure::new(ExitCode::Config, loaded.diagnostics.summary())
            .hint("see `adjourn check`, or name the directory with --state-dir")),
    }
}

fn failure(error: CompactError) -> Failure {
    let text = error.to_string();
    match error {
        CompactError::Open(error) => {
            if is_forbidden(&error) {
                return Failure::new(ExitCode::Permission, text)
                    .hint("run it as the daemon's user: sudo -u adjourn adjourn compact");
            }
            let held = matches!(error, store::OpenError::Held { .. });
            let failure = Failure::new(StartError::Store(error).exit_code(), text);
            if held {
                failure.hint("stop the daemon first; it compacts at its start by itself")
            } else {
                failure
            }
        }
        CompactError::Nothing(_) => Failure::new(ExitCode::Config, text)
            .hint("name the state directory with --state-dir, or the schedule file with --config"),
        CompactError::Failed { .. } => Failure::new(ExitCode::Temporary, text),
    }
}

/// The directory is another user's.
fn is_forbidden(error: &store::OpenError) -> bool {
    matches!(error, store::OpenError::Io { source, .. } if source.kind() == io::ErrorKind::PermissionDenied)
}

fn sentence(Compacted { before, after, .. }: &Compacted) -> String {
    let (disk, live) = (bytes(before.disk), bytes(before.live));
    match after {
        Some(after) => {
            format!("compacted: {disk} before, {} now, of which {live} are live data", bytes(after.disk))
        }
        None => format!("not needed: {disk} on the disk, of which {live} are live data"),
    }
}

/// For people: three digits or fewer.
fn bytes(n: u64) -> String {
    let mut n = (n, 0);
    let mut unit = "bytes";
    for larger in ["KiB", "MiB", "GiB", "TiB"] {
        if n.0 < 1_024 {
            break;
        }
        n = (n.0 / 1_024, n.0 % 1_024 * 10 / 1_024);
        unit = larger;
    }
    if n.0 < 10 && unit != "bytes" { format!("{}.{} {unit}", n.0, n.1) } else { format!("{} {unit}", n.0) }
}

#[derive(Serialize)]
struct Answer {
    compacted: bool,
    live_bytes: u64,
    bytes_before: u64,
    bytes_now: u64,
    repaired: Option<String>,
}

impl Answer {
    fn of(Compacted { before, after, repaired }: Compacted) -> Answer {
        let Size { disk, live } = before;
        let now = after.map_or(disk, |after| after.disk);
        Answer { compacted: after.is_some(), live_bytes: live, bytes_before: disk, bytes_now: now, repaired }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_short() {
        for (n, text) in [
            (0, "0 bytes"),
            (1_023, "1023 bytes"),
            (1_024, "1.0 KiB"),
            (1_536, "1.5 KiB"),
            (10 << 10, "10 KiB"),
            ((64 << 20) - 1, "63 MiB"),
            (2_300 << 20, "2.2 GiB"),
            (u64::MAX, "16777215 TiB"),
        ] {
            assert_eq!(bytes(n), text);
        }
    }

    #[test]
    fn it_says_what_was_gained_or_that_there_is_nothing_to_gain() {
        let before = Size { disk: 2_300 << 20, live: 90 << 20 };
        let after = Some(Size { disk: 150 << 20, ..before });
        let said = sentence(&Compacted { before, after, repaired: None });
        assert_eq!(said, "compacted: 2.2 GiB before, 150 MiB now, of which 90 MiB are live data");
        let said = sentence(&Compacted { before, after: None, repaired: None });
        assert_eq!(said, "not needed: 2.2 GiB on the disk, of which 90 MiB are live data");
    }
}
