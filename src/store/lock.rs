//! The state directory and who owns it.
//!
//! Ownership is an flock on `lock`, so that it ends with the process however that ends. The file holds the pid for people
//! and stays when the daemon stops: removing it would let two daemons lock two different files of that name.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::time::Duration;

use rustix::fs::{FlockOperation, OFlags, flock};
use rustix::io::Errno;
use rustix::process::{Pid, geteuid, test_kill_process};

use super::OpenError;

/// A daemon that was killed while it started a process leaves the lock with that one until it runs a program of its own,
/// which takes no more than moments: tries, and the pause between them.
const DEAD_TRIES: u32 = 200;
const DEAD_PAUSE: Duration = Duration::from_millis(10);
/// The bits of a mode that let somebody else than the owner write.
const OTHERS_WRITE: u32 = 0o022;

/// Held while the store is open.
#[derive(Debug)]
pub(super) struct Lock {
    file: File,
}

impl Drop for Lock {
    /// Closing alone would leave the lock to a process that is being started just now and has not closed its copy yet.
    fn drop(&mut self) {
        let _closing_releases_it_too = flock(&self.file, FlockOperation::Unlock);
    }
}

/// Creates the state directory if there is none, and takes it.
pub(super) fn take(dir: &Path) -> Result<Lock, OpenError> {
    take_patiently(dir, || std::thread::sleep(DEAD_PAUSE))
}

fn take_patiently(dir: &Path, mut pause: impl FnMut()) -> Result<Lock, OpenError> {
    create_dir(dir).map_err(failed("cannot use the state directory", dir))?;
    for place in [dir.to_owned(), dir.join("journal"), dir.join("queue")] {
        refuse_foreign(&place)?;
    }
    let path = dir.join("lock");
    let failed = failed("cannot lock the state directory with", &path);
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .custom_flags(no_follow())
        .open(&path)
        .map_err(&failed)?;
    let mut left = DEAD_TRIES;
    while let Err(e) = flock(&file, FlockOperation::NonBlockingLockExclusive) {
        if e != Errno::WOULDBLOCK {
            return Err(failed(e.into()));
        }
        let pid = holder(&mut file);
        if left == 0 || !pid.is_some_and(is_gone) {
            return Err(OpenError::Held { path: dir.display().to_string(), pid });
        }
        left -= 1;
        pause();
    }
    write_pid(&mut file).map_err(&failed)?;
    Ok(Lock { file })
}

/// Creates a directory that only we may enter, and its parents; durable.
pub(super) fn create_dir(dir: &Path) -> io::Result<()> {
    let missing: Vec<&Path> =
        dir.ancestors().take_while(|dir| !dir.as_os_str().is_empty() && !dir.is_dir()).collect();
    DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
    for created in missing {
        match created.parent().filter(|dir| !dir.as_os_str().is_empty()) {
            Some(parent) => sync_dir(parent)?,
            None => sync_dir(Path::new("."))?,
        }
    }
    Ok(())
}

/// Whoever may write to one of our directories chooses what we read and overwrite there. One that is not there will be ours.
fn refuse_foreign(dir: &Path) -> Result<(), OpenError> {
    let meta = match std::fs::symlink_metadata(dir) {
        Ok(meta) => meta,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(failed("cannot look at", dir)(error)),
    };
    // The state directory itself may be named by a link, which only whoever names it can place.
    let meta = if meta.is_symlink() { std::fs::metadata(dir).unwrap_or(meta) } else { meta };
    let (owner, me, mode) = (meta.uid(), geteuid().as_raw(), meta.mode() & 0o7777);
    let why = if owner != me {
        format!(
            "it belongs to the user {owner}, and this one is {me}; run adjourn as its owner, or give it to this user: chown -R {me} {}",
            dir.display()
        )
    } else if mode & OTHERS_WRITE != 0 {
        format!(
            "others may write to it (mode {mode:04o}), and so to what deadlines hang on; close it: chmod go-w {}",
            dir.display()
        )
    } else {
        return Ok(());
    };
    Err(OpenError::Foreign { path: dir.display().to_string(), why })
}

/// For files that somebody might have put a link in place of.
pub(super) fn no_follow() -> i32 {
    i32::try_from(OFlags::NOFOLLOW.bits()).expect("the kernel's flags are an int")
}

/// Makes what was created, renamed or removed in a directory durable.
pub(super) fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

pub(super) fn failed(what: &'static str, path: &Path) -> impl Fn(io::Error) -> OpenError + use<> {
    let path = path.display().to_string();
    move |source| OpenError::Io { what, path: path.clone(), source }
}

fn write_pid(file: &mut File) -> io::Result<()> {
    file.set_len(0)?;
    file.seek(SeekFrom::Start(0))?;
    writeln!(file, "{}", std::process::id())
}

fn is_gone(pid: u32) -> bool {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
    pid.is_some_and(|pid| test_kill_process(pid) == Err(Errno::SRCH))
}

fn holder(file: &mut File) -> Option<u32> {
    let mut text = String::new();
    file.seek(SeekFrom::Start(0)).ok()?;
    file.take(32).read_to_string(&mut text).ok()?;
    text.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_second_owner_hears_who_is_the_first_and_the_file_stays() {
        let dir = tempfile::tempdir().unwrap();
        let state = dir.path().join("a/state");
        let lock = take(&state).unwrap();
        assert_eq!(state.metadata().unwrap().permissions().mode() & 0o777, 0o700);
        let error = take(&state).unwrap_err();
        assert!(
            matches!(&error, OpenError::Held { pid: Some(pid), .. } if *pid == std::process::id()),
            "{error}"
        );
        drop(lock);
        assert!(state.join("lock").exists());
        take(&state).unwrap();
    }

    /// The lock of a daemon that has died, and lives on in a process that it was starting.
    fn left_behind(dir: &Path) -> (u32, File) {
        let mut dead = std::process::Command::new("true").spawn().unwrap();
        dead.wait().unwrap();
        std::fs::write(dir.join("lock"), format!("{}\n", dead.id())).unwrap();
        let file = File::open(dir.join("lock")).unwrap();
        flock(&file, FlockOperation::NonBlockingLockExclusive).unwrap();
        (dead.id(), file)
    }

    #[test]
    fn the_lock_that_a_dead_owner_left_to_another_process_is_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let (_, file) = left_behind(dir.path());
        let (mut pauses, mut held) = (0, Some(file));
        let lock = take_patiently(dir.path(), || {
            pauses += 1;
            held.take_if(|_| pauses == 3);
        });
        lock.unwrap();
        assert_eq!(pauses, 3);
    }

    #[test]
    fn a_lock_that_a_dead_owner_has_left_for_good_is_not_waited_for_for_ever() {
        let dir = tempfile::tempdir().unwrap();
        let (dead, _held) = left_behind(dir.path());
        let mut pauses = 0;
        let error = take_patiently(dir.path(), || pauses += 1).unwrap_err();
        assert!(matches!(error, OpenError::Held { pid: Some(pid), .. } if pid == dead), "{error}");
        assert_eq!(pauses, DEAD_TRIES);
    }

    #[test]
    fn the_lock_of_a_living_owner_is_refused_at_once() {
        let dir = tempfile::tempdir().unwrap();
        let _lock = take(dir.path()).unwrap();
        let error = take_patiently(dir.path(), || panic!("nothing to wait for")).unwrap_err();
        assert!(matches!(error, OpenError::Held { .. }), "{error}");
    }

    #[test]
    fn what_others_may_write_to_is_refused_and_links_are_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        let state = dir.path().join("state");
        drop(take(&state).unwrap());
        for place in ["", "journal", "queue"].map(|name| state.join(name)) {
            create_dir(&place).unwrap();
            for mode in [0o770, 0o702] {
                std::fs::set_permissions(&place, std::fs::Permissions::from_mode(mode)).unwrap();
                let error = take(&state).unwrap_err();
                assert!(matches!(error, OpenError::Foreign { .. }), "{error}");
                assert!(error.to_string().contains("chmod go-w"), "{error}");
            }
            std::fs::set_permissions(&place, std::fs::Permissions::from_mode(0o750)).unwrap();
            drop(take(&state).unwrap());
        }
        let precious = dir.path().join("precious");
        std::fs::write(&precious, "precious").unwrap();
        std::fs::remove_file(state.join("lock")).unwrap();
        std::os::unix::fs::symlink(&precious, state.join("lock")).unwrap();
        assert!(matches!(take(&state).unwrap_err(), OpenError::Io { .. }));
        assert_eq!(std::fs::read_to_string(&precious).unwrap(), "precious");
    }

    #[test]
    fn a_file_in_the_way_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        std::fs::write(&file, "x").unwrap();
        for path in [file.clone(), file.join("below")] {
            let error = take(&path).unwrap_err();
            assert!(matches!(error, OpenError::Io { .. }));
            assert!(error.to_string().starts_with("cannot use the state directory /"), "{error}");
        }
    }
}
