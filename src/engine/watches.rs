//! What sweeps have seen, kept across a restart: `watch.json` in the state directory. It is an aid, not a record: what
//! cannot be read is begun anew, and costs a rule the time that it had counted.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::task::JoinHandle;

use super::beside::beside;
use super::core::Core;
use super::small_file;
use crate::job::ServerName;
use crate::schedule::rule::Watch;

const NAME: &str = "watch.json";
const FORMAT: u32 = 1;
/// Written at most this often, and when the daemon stops.
const SAVE_EVERY: Duration = Duration::from_secs(60);

type Watches = BTreeMap<ServerName, Watch>;

#[derive(Serialize, Deserialize)]
struct Saved {
    format: u32,
    servers: Watches,
}

impl Core {
    /// Before the first settings are applied, which drop what no rule asks for.
    pub(super) fn load_watches(&mut self) {
        let now = self.now();
        match load(&self.state_dir) {
            Ok(watches) => {
                self.watches_saved = Some(now.boot);
                for (name, watch) in watches {
                    self.sweepers.entry(name).or_default().watch = watch.rebased(now);
                }
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => {
                let path = self.state_dir.join(NAME);
                tracing::warn!(path = %path.display(), %error, "what rules have counted cannot be read; they begin anew");
            }
        }
    }

    /// After sweeps, when it is time again.
    pub(super) fn save_watches_now_and_then(&mut self) {
        let now = self.now().boot;
        if self.watches_saved.is_some_and(|at| now < at + SAVE_EVERY) {
            return;
        }
        self.watches_saved = Some(now);
        self.save_watches();
    }

    /// What goes wrong is told in the log.
    pub(super) fn save_watches(&self) -> JoinHandle<()> {
        let seen = self.sweepers.iter().filter(|(_, sweeper)| sweeper.watch != Watch::default());
        let watches: Watches = seen.map(|(name, sweeper)| (name.clone(), sweeper.watch.clone())).collect();
        let dir = self.state_dir.clone();
        let write = move || {
            let saved = if watches.is_empty() { small_file::remove(&dir, NAME) } else { save(&dir, watches) };
            if let Err(error) = saved {
                tracing::warn!(%error, "what rules have counted cannot be written to {}", dir.join(NAME).display());
            }
        };
        self.tasks.spawn(async { beside(write).await.unwrap_or_default() })
    }
}

fn load(dir: &Path) -> io::Result<Watches> {
    let saved: Saved = serde_json::from_slice(&small_file::read(dir, NAME)?)?;
    if saved.format != FORMAT {
        return Err(io::Error::other(format!("it has format {}, not {FORMAT}", saved.format)));
    }
    Ok(saved.servers)
}

fn save(dir: &Path, servers: Watches) -> io::Result<()> {
    small_file::write(dir, NAME, &serde_json::to_vec(&Saved { format: FORMAT, servers })?)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn what_was_seen_comes_back_and_nothing_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(load(dir.path()).unwrap_err().kind(), io::ErrorKind::NotFound);
        let watches = Watches::from([("campus".into(), Watch::default()), ("lab".into(), Watch::default())]);
        save(dir.path(), watches.clone()).unwrap();
        save(dir.path(), watches.clone()).unwrap();
        assert_eq!(load(dir.path()).unwrap(), watches);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "nothing is left aside");
        small_file::remove(dir.path(), NAME).unwrap();
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn what_is_damaged_or_newer_is_not_read() {
        let dir = tempfile::tempdir().unwrap();
        for text in ["", "{", r#"{"format":2,"servers":{}}"#] {
            fs::write(dir.path().join(NAME), text).unwrap();
            assert!(load(dir.path()).is_err(), "{text}");
        }
    }
}
