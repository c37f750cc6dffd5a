//! Which generation is in use: `queue/CURRENT` names it.
//!
//! The name is durable before the first file of the first generation exists, and a further generation is durable before
//! its name is. So without `CURRENT` there is no queue, and whatever generation it does not name may be removed.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use super::lock::{no_follow, sync_dir};

const NAME: &str = "CURRENT";
const ASIDE: &str = "CURRENT.new";

pub(super) fn dir_of(queue: &Path, generation: u64) -> PathBuf {
    queue.join(format!("{generation:06}"))
}

/// `None`: there is no such file. An error of kind `InvalidData`: it names nothing.
pub(super) fn read(queue: &Path) -> io::Result<Option<u64>> {
    // Whoever could put a link there must not choose what is read.
    let opened = File::options().read(true).custom_flags(no_follow()).open(queue.join(NAME));
    match opened.and_then(io::read_to_string) {
        Ok(text) => number(text.trim()).map(Some).ok_or_else(|| io::ErrorKind::InvalidData.into()),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(e),
    }
}

/// Durable when it returns.
pub(super) fn write(queue: &Path, generation: u64) -> io::Result<()> {
    let aside = queue.join(ASIDE);
    let mut file =
        File::options().write(true).create(true).truncate(true).custom_flags(no_follow()).open(&aside)?;
    writeln!(file, "{generation:06}")?;
    file.sync_all()?;
    fs::rename(&aside, queue.join(NAME))?;
    sync_dir(queue)
}

/// The generations that are there, in no order.
pub(super) fn list(queue: &Path) -> io::Result<Vec<u64>> {
    let names = queue.read_dir()?.map(|entry| entry.map(|e| e.file_name()));
    let names = names.collect::<io::Result<Vec<_>>>()?;
    Ok(names.iter().filter_map(|name| number(name.to_str()?)).collect())
}

/// Removes what an interrupted change of generation left behind.
pub(super) fn sweep(queue: &Path, current: u64) -> io::Result<()> {
    for other in list(queue)?.into_iter().filter(|&generation| generation != current) {
        fs::remove_dir_all(dir_of(queue, other))?;
    }
    match fs::remove_file(queue.join(ASIDE)) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
        _removed_or_not_there => Ok(()),
    }
}

fn number(name: &str) -> Option<u64> {
    let digits = name.len() >= 6 && name.bytes().all(|b| b.is_ascii_digit());
    digits.then(|| name.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_written_name_counts() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(read(dir.path()).unwrap(), None);
        for generation in [1, 2, 1_000_000] {
            write(dir.path(), generation).unwrap();
            assert_eq!(read(dir.path()).unwrap(), Some(generation));
        }
        assert!(!dir.path().join(ASIDE).exists());
        for nonsense in ["", "one", "../x", "-00001"] {
            fs::write(dir.path().join(NAME), nonsense).unwrap();
            assert_eq!(read(dir.path()).unwrap_err().kind(), io::ErrorKind::InvalidData, "{nonsense:?}");
        }
    }

    #[test]
    fn a_sweep_leaves_the_current_generation_and_what_is_not_ours() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["000001", "000002", "notes"] {
            fs::create_dir(dir.path().join(name)).unwrap();
        }
        fs::write(dir.path().join(ASIDE), "").unwrap();
        sweep(dir.path(), 2).unwrap();
        assert!(!dir.path().join(ASIDE).exists());
        assert_eq!(list(dir.path()).unwrap(), [2]);
        assert!(dir.path().join("notes").exists());
    }
}
