//! Small files in the state directory that are replaced as a whole. They are opened without following links: whoever could
//! put one there must not choose what the daemon reads or overwrites.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use rustix::fs::OFlags;

/// Added to the name while the file is being written.
const ASIDE: &str = ".new";
/// The longest such file that is read.
const MAX_BYTES: u64 = 256 << 20;

pub(super) fn read(dir: &Path, name: &str) -> io::Result<Vec<u8>> {
    let file = OpenOptions::new().read(true).custom_flags(no_follow()).open(dir.join(name))?;
    let mut bytes = Vec::new();
    file.take(MAX_BYTES).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Whole or not at all, and durable.
pub(super) fn write(dir: &Path, name: &str, bytes: &[u8]) -> io::Result<()> {
    let aside = dir.join(format!("{name}{ASIDE}"));
    // What a crash, or somebody else, has left there is not written into.
    remove(dir, &format!("{name}{ASIDE}"))?;
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&aside)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&aside, dir.join(name))?;
    File::open(dir)?.sync_all()
}

pub(super) fn remove(dir: &Path, name: &str) -> io::Result<()> {
    match fs::remove_file(dir.join(name)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn no_follow() -> i32 {
    i32::try_from((OFlags::NOFOLLOW | OFlags::CLOEXEC).bits()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_are_neither_read_nor_written_through() {
        let dir = tempfile::tempdir().unwrap();
        let precious = dir.path().join("precious");
        fs::write(&precious, "precious").unwrap();
        std::os::unix::fs::symlink(&precious, dir.path().join("note")).unwrap();
        std::os::unix::fs::symlink(&precious, dir.path().join("note.new")).unwrap();
        assert!(read(dir.path(), "note").is_err());
        write(dir.path(), "note", b"new").unwrap();
        assert_eq!(read(dir.path(), "note").unwrap(), b"new");
        assert_eq!(fs::read_to_string(&precious).unwrap(), "precious");
        remove(dir.path(), "note").unwrap();
        remove(dir.path(), "note").unwrap();
        assert_eq!(read(dir.path(), "note").unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}
