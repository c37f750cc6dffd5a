//! Copies on disk.

use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use crate::schedule::{MAX_FEED, Source};

/// Below the state directory.
const DIR: &str = "feeds";
/// Only the daemon: feeds name people and rooms.
const MODE: u32 = 0o600;

/// The bytes of a feed in a file. `Err`: why not; does not name the file. Blocks.
pub fn read_file(path: &Path) -> Result<Vec<u8>, String> {
    let read = || -> io::Result<Vec<u8>> {
        // Asked first: opening a pipe would block.
        if !fs::metadata(path)?.is_file() {
            return Err(io::Error::other("it is not a regular file"));
        }
        let mut bytes = Vec::new();
        File::open(path)?.take(MAX_FEED as u64 + 1).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    read().map_err(|error| error.to_string())
}

/// Durable when it returns; never half a copy.
pub(super) fn keep(state_dir: &Path, source: &Source, bytes: &[u8]) -> io::Result<()> {
    let dir = state_dir.join(DIR);
    fs::create_dir_all(&dir)?;
    let path = path(state_dir, source);
    let aside = path.with_extension("new");
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(MODE).open(&aside)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&aside, &path)?;
    File::open(&dir)?.sync_all()
}

/// Removes the copies of everything else.
pub(super) fn forget_others(state_dir: &Path, used: &[Source]) -> io::Result<()> {
    let used: BTreeSet<PathBuf> = used.iter().map(|source| path(state_dir, source)).collect();
    let entries = match fs::read_dir(state_dir.join(DIR)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries?,
    };
    for entry in entries {
        let path = entry?.path();
        if !used.contains(&path) && path.extension().is_some_and(|end| end == "ics" || end == "new") {
            fs::remove_file(path)?;
        }
    }
    Ok(())
}

/// Named by a digest: a URL is a secret.
pub(super) fn path(state_dir: &Path, source: &Source) -> PathBuf {
    let mut digest = Sha256::new();
    match source {
        Source::File(path) => {
            digest.update(b"file ");
            digest.update(path.as_os_str().as_encoded_bytes());
        }
        Source::Url(url) => {
            digest.update(b"url ");
            digest.update(url.expose().as_str().as_bytes());
        }
    }
    let mut name: String = digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    name.push_str(".ics");
    state_dir.join(DIR).join(name)
}
