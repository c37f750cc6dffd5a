//! The configuration: TOML in three stages, and everything that is wrong with it.
//!
//! 1. `file`: exactly what each file says, key by key, with places; types are checked.
//! 2. `merged`: all files as one; what two of them give is an error that names both places.
//! 3. `resolve` and `servers` into [`settings`]: domain types only.
//!
//! No stage stops at a problem. Each reports into one [`Diagnostics`] and goes on with what is left, so that
//! `adjourn check`, a start and a reload name every problem of every file in one run; they are the same code. What has
//! errors never becomes [`Settings`].
//!
//! Secrets are fetched here, from where the files say that they are. A secret that somebody wrote into a file is shown
//! in no diagnostic (`mask`).
//!
//! Deliberately absent: defaults that depend on the machine, includes, environment variables inside values, relative
//! times.

mod cadence;
mod calendars;
mod diagnostics;
mod document;
mod feed_options;
mod feeds;
mod file;
mod files;
pub mod limits;
mod mask;
mod merged;
pub mod names;
mod network;
mod overlap;
mod platforms;
mod recurring;
mod resolve;
mod rules;
mod secret;
mod servers;
pub mod settings;
pub mod time;
mod url;

use std::collections::BTreeSet;
use std::path::PathBuf;

pub use diagnostics::{Diagnostics, Item, Severity};
pub use resolve::{
    DEFAULT_AHEAD, DEFAULT_REFRESH, DEFAULT_RETENTION, DEFAULT_SOCKET, DEFAULT_SOCKET_MODE, DEFAULT_STATE_DIR,
};
pub use secret::{Environment, Secrets};
pub use settings::Settings;
pub use url::{UrlError, api_base};

use crate::job::{ServerName, UtcMs};

/// What is read when no path is given.
pub const DEFAULT_PATH: &str = "/etc/adjourn";

/// What became of the files.
#[derive(Debug)]
pub struct Loaded {
    /// Present exactly if there was no error; notes do not count.
    pub settings: Option<Settings>,
    pub diagnostics: Diagnostics,
    /// Servers whose secrets were not read, which only a look can do without.
    pub without_secrets: BTreeSet<ServerName>,
}

/// Reads, merges and checks the configuration: the code behind the start, a reload, and `adjourn check`.
///
/// Each path is a file or a directory. A directory stands for `schedule.toml` and `schedule.d/*.toml` in it, in name
/// order. A file named `schedule.toml` brings the `schedule.d/*.toml` beside it; a file of any other name stands for
/// itself. `now` decides only whether a time has passed, which is a note.
pub fn load(paths: &[PathBuf], env: &Environment, now: UtcMs) -> Loaded {
    read(paths, env, now, |_, _, _| {})
}

/// The same, and a look at the feeds that lie in files: what the daemon leaves to its [`feeds`](crate::feeds), so that
/// nothing that strangers wrote can keep it from starting.
pub fn check(paths: &[PathBuf], env: &Environment, now: UtcMs) -> Loaded {
    read(paths, env, now, |merged, resolved, found| feeds::remark(merged, resolved, now, found))
}

fn read(
    paths: &[PathBuf],
    env: &Environment,
    now: UtcMs,
    look: impl FnOnce(&merged::Merged, &resolve::Resolved, &mut Diagnostics),
) -> Loaded {
    let mut found = Diagnostics::default();
    let files = files::read_all(paths, &mut found);
    let files = files.into_iter().map(|file| file::read(file, &mut found)).collect();
    let mut merged = merged::merge(files, &mut found);
    // What could not be read may hold what the rest refers to.
    merged.broken |= found.unreadable();
    let resolved = resolve::resolve(&merged, env, now, &mut found);
    look(&merged, &resolved, &mut found);
    let resolve::Resolved { settings, without_secrets, .. } = resolved;
    Loaded { settings: (found.errors() == 0).then_some(settings), diagnostics: found, without_secrets }
}

#[cfg(test)]
mod tests;
