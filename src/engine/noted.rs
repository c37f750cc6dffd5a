//! What is written down about the wall clock: `clock.json` in the state directory. It says whether a time service kept the
//! clock, and when that was; the next start doubts a clock that has not been set yet only where one usually is.

use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::beside::beside;
use super::core::Core;
use super::small_file;
use crate::job::UtcMs;

pub(super) const NAME: &str = "clock.json";
const FORMAT: u32 = 1;

#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(super) struct Noted {
    #[serde(with = "crate::job::rfc3339")]
    pub at: UtcMs,
    pub synchronised: bool,
}

#[derive(Serialize, Deserialize)]
struct Saved {
    format: u32,
    #[serde(flatten)]
    noted: Noted,
}

/// What cannot be read is as if it were not there: the note holds firing back, and an unreadable one must not.
pub(super) fn load(dir: &Path) -> Option<Noted> {
    match read(dir) {
        Ok(noted) => Some(noted),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => {
            let path = dir.join(NAME);
            tracing::warn!(path = %path.display(), %error, "what was noted about the clock cannot be read; it is noted anew");
            None
        }
    }
}

fn read(dir: &Path) -> io::Result<Noted> {
    let saved: Saved = serde_json::from_slice(&small_file::read(dir, NAME)?)?;
    if saved.format != FORMAT {
        return Err(io::Error::other(format!("it has format {}, not {FORMAT}", saved.format)));
    }
    Ok(saved.noted)
}

pub(super) fn save(dir: &Path, noted: Noted) -> io::Result<()> {
    small_file::write(dir, NAME, &serde_json::to_vec(&Saved { format: FORMAT, noted })?)
}

impl Core {
    /// What goes wrong is told in the log, and tried again with the next note.
    pub(super) fn write_note(&self, noted: Noted) {
        let dir = self.state_dir.clone();
        let write = move || {
            if let Err(error) = save(&dir, noted) {
                tracing::warn!(%error, "what is known about the clock cannot be written to {}", dir.join(NAME).display());
            }
        };
        self.tasks.spawn(async { beside(write).await.unwrap_or_default() });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_noted_comes_back() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(load(dir.path()), None);
        for synchronised in [true, false] {
            let noted = Noted { at: UtcMs(1_800_000_000_123), synchronised };
            save(dir.path(), noted).unwrap();
            assert_eq!(load(dir.path()), Some(noted));
        }
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "nothing is left aside");
        for text in ["", "{}", r#"{"format":2,"at":"2027-01-01T00:00:00.000Z","synchronised":true}"#] {
            std::fs::write(dir.path().join(NAME), text).unwrap();
            assert_eq!(load(dir.path()), None, "{text}");
        }
    }
}
