//! The socket file: created with its mode, taken over when stale, left alone when it is somebody else's.

use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::UnixListener as StdListener;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, fchmod};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, connect, listen as start_listening,
    socket_with, sockopt,
};
use rustix::process::geteuid;
use tokio::net::UnixListener;

use crate::exit::ExitCode;
use crate::group;
use crate::shortage;

/// Bytes that the kernel has for the path of a socket, its closing zero not counted.
const MAX_PATH_BYTES: usize = 107;
/// Added to the path while the socket is being made.
const ASIDE: &str = ".new";
/// The one directory that is made if it is not there. Any other may be a typing error, which must leave nothing behind.
const OUR_DIR: &str = "/run/adjourn";
/// Clients that the kernel lets wait until they are accepted.
const BACKLOG: i32 = 1024;

/// Why there is no control socket.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    #[error(
        "another daemon{} already listens on {}; stop it, or give this one another socket",
        pid_text(*.pid),
        path.display()
    )]
    InUse { path: PathBuf, pid: Option<i32> },
    #[error("{} is there and is no socket; remove it, or name another path for the control socket", path.display())]
    NotASocket { path: PathBuf },
    #[error(
        "{} was left behind by the user {uid}, and this one may not remove it; remove it, or put the control socket \
         into a directory that is yours alone",
        path.display()
    )]
    Leftover { path: PathBuf, uid: u32 },
    #[error(
        "the path of the control socket {} is longer than {limit} bytes; name a shorter one",
        path.display()
    )]
    TooLong { path: PathBuf, limit: usize },
    #[error(
        "there is no group {group:?} on this machine for the control socket; create it, or give its number"
    )]
    NoGroup { group: String },
    #[error("{what} {}: {source}{hint}", path.display())]
    Io { what: &'static str, path: PathBuf, source: io::Error, hint: &'static str },
}

impl ListenError {
    pub fn exit(&self) -> ExitCode {
        match self {
            ListenError::InUse { .. } | ListenError::Leftover { .. } => ExitCode::Temporary,
            ListenError::Io { source, .. } if source.kind() == io::ErrorKind::PermissionDenied => {
                ExitCode::Permission
            }
            ListenError::Io { source, .. } if shortage::is_passing(source) => ExitCode::Temporary,
            _ => ExitCode::Config,
        }
    }
}

fn pid_text(pid: Option<i32>) -> String {
    pid.map_or(String::new(), |pid| format!(" (pid {pid})"))
}

/// Binds the control socket at `path` with this file mode and, if given, this group (a name or a number).
///
/// A socket file that nobody answers on is taken over. The socket is made under another name and renamed, so that it is
/// never open to more people than `mode` says. Must be called within a runtime.
pub fn listen(path: &Path, mode: u32, group: Option<&str>) -> Result<UnixListener, ListenError> {
    let mut aside = path.as_os_str().to_owned();
    aside.push(ASIDE);
    let aside = PathBuf::from(aside);
    if aside.as_os_str().as_bytes().len() > MAX_PATH_BYTES {
        let limit = MAX_PATH_BYTES - ASIDE.len();
        return Err(ListenError::TooLong { path: path.to_owned(), limit });
    }
    let gid = group.map(gid_of).transpose()?;
    check_place(path)?;
    check_place(&aside)?;
    remove_stale(&aside)?;
    let listener = bind_closed(&aside).map_err(|source| ListenError::Io {
        what: "cannot create the control socket",
        path: path.to_owned(),
        source,
        hint: "; may the daemon's user write to its directory?",
    })?;
    // The group first: the mode opens the socket to whatever group it has then.
    if let Some(gid) = gid {
        std::os::unix::fs::chown(&aside, None, Some(gid)).map_err(failed("cannot set the group of", path))?;
    }
    std::fs::set_permissions(&aside, std::fs::Permissions::from_mode(mode))
        .map_err(failed("cannot set the mode of", path))?;
    std::fs::rename(&aside, path).map_err(failed("cannot put the control socket at", path))?;
    listener.set_nonblocking(true).map_err(failed("cannot use", path))?;
    UnixListener::from_std(listener).map_err(failed("cannot use", path))
}

/// Listens on a socket file that is open to its owner alone from its first moment on, whatever the umask: Linux takes the
/// mode that the socket itself has when it is bound.
fn bind_closed(path: &Path) -> io::Result<StdListener> {
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    fchmod(&socket, Mode::RUSR | Mode::WUSR)?;
    bind(&socket, &SocketAddrUnix::new(path)?)?;
    start_listening(&socket, BACKLOG)?;
    Ok(StdListener::from(socket))
}

/// The socket file of a daemon, to be removed when it stops.
#[derive(Debug)]
pub struct SocketFile {
    path: PathBuf,
    /// Device and number: another daemon may have put its own there meanwhile.
    which: (u64, u64),
}

impl SocketFile {
    pub fn at(path: &Path) -> Option<SocketFile> {
        let file = std::fs::symlink_metadata(path).ok()?;
        Some(SocketFile { path: path.to_owned(), which: (file.dev(), file.ino()) })
    }

    pub fn remove(self) {
        if SocketFile::at(&self.path).is_some_and(|now| now.which == self.which)
            && let Err(error) = std::fs::remove_file(&self.path)
        {
            tracing::debug!(path = %self.path.display(), %error, "the control socket stays behind");
        }
    }
}

/// Nothing there, or a socket that nobody answers on.
fn check_place(path: &Path) -> Result<(), ListenError> {
    match std::fs::symlink_metadata(path) {
        Ok(file) if file.file_type().is_socket() => refuse_live(path),
        Ok(_) => Err(ListenError::NotASocket { path: path.to_owned() }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => have_parent(path),
        Err(error) => Err(failed("cannot look at", path)(error)),
    }
}

/// Connecting tells a live socket from a stale file. It must not block: a daemon with a full backlog is alive.
fn refuse_live(path: &Path) -> Result<(), ListenError> {
    let probe = || {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
        connect(&socket, &SocketAddrUnix::new(path)?)?;
        Ok(sockopt::socket_peercred(&socket).ok().map(|peer| peer.pid.as_raw_nonzero().get()))
    };
    match probe() {
        Ok(pid) => Err(ListenError::InUse { path: path.to_owned(), pid }),
        Err(Errno::AGAIN) => Err(ListenError::InUse { path: path.to_owned(), pid: None }),
        Err(Errno::CONNREFUSED | Errno::NOENT) => Ok(()),
        Err(error) => Err(failed("cannot tell whether a daemon listens on", path)(error.into())),
    }
}

fn have_parent(path: &Path) -> Result<(), ListenError> {
    let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty() && !parent.exists())
    else {
        return Ok(());
    };
    let made = match parent == Path::new(OUR_DIR) {
        true => std::fs::DirBuilder::new().mode(0o755).create(parent),
        false => Err(io::ErrorKind::NotFound.into()),
    };
    made.map_err(|source| ListenError::Io {
        what: "there is no directory for the control socket at",
        path: parent.to_owned(),
        source,
        hint: "; create it for the daemon's user, or set RuntimeDirectory=adjourn in its unit",
    })
}

fn remove_stale(path: &Path) -> Result<(), ListenError> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            let uid = std::fs::symlink_metadata(path).map_or(0, |file| file.uid());
            if uid == geteuid().as_raw() {
                return Err(failed("cannot remove", path)(error));
            }
            Err(ListenError::Leftover { path: path.to_owned(), uid })
        }
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed("cannot remove", path)(error)),
        _ => Ok(()),
    }
}

fn failed(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> ListenError {
    let path = path.to_owned();
    move |source| ListenError::Io { what, path, source, hint: "" }
}

fn gid_of(group: &str) -> Result<u32, ListenError> {
    group::gid_of(group).ok_or_else(|| ListenError::NoGroup { group: group.to_owned() })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;

    #[tokio::test]
    async fn a_live_socket_is_refused_with_its_pid_and_a_stale_one_taken_over() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("control.sock");
        let first = listen(&path, 0o660, None).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o777, 0o660);

        let refused = listen(&path, 0o660, None).unwrap_err();
        assert_eq!(refused.exit(), ExitCode::Temporary);
        assert!(refused.to_string().contains(&format!("(pid {})", std::process::id())), "{refused}");

        drop(first);
        assert!(path.exists(), "the file is stale now");
        let _second = listen(&path, 0o600, None).unwrap();
        tokio::net::UnixStream::connect(&path).await.unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
    }

    #[tokio::test]
    async fn what_is_no_socket_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notes.txt");
        std::fs::write(&path, "precious").unwrap();
        let refused = listen(&path, 0o660, None).unwrap_err();
        assert_eq!(refused.exit(), ExitCode::Config);
        assert!(refused.to_string().contains("is no socket"), "{refused}");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "precious");
    }

    #[test]
    fn a_socket_is_open_to_nobody_else_from_its_first_moment_on() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s");
        let _listener = bind_closed(&path).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        std::os::unix::net::UnixStream::connect(&path).unwrap();
    }

    #[tokio::test]
    async fn a_daemon_removes_its_own_socket_file_and_no_other() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s");
        let first = listen(&path, 0o600, None).unwrap();
        let of_first = SocketFile::at(&path).unwrap();
        drop(first);
        let _second = listen(&path, 0o600, None).unwrap();
        of_first.remove();
        assert!(path.exists());
        SocketFile::at(&path).unwrap().remove();
        assert!(!path.exists());
    }

    #[test]
    fn somebody_elses_leftover_is_named_and_tried_again() {
        let error = ListenError::Leftover { path: "/run/a.new".into(), uid: 7 };
        assert_eq!(error.exit(), ExitCode::Temporary);
        assert!(error.to_string().starts_with("/run/a.new was left behind by the user 7"), "{error}");
    }

    #[tokio::test]
    async fn a_typing_error_makes_no_directory_and_long_paths_and_unknown_groups_are_errors() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("run/adjourn/control.sock");
        let error = listen(&path, 0o660, None).unwrap_err();
        assert!(error.to_string().contains("there is no directory for the control socket"), "{error}");
        assert_eq!((error.exit(), dir.path().join("run").exists()), (ExitCode::Config, false));

        let long = dir.path().join("x".repeat(120));
        assert!(matches!(listen(&long, 0o660, None), Err(ListenError::TooLong { limit: 103, .. })));
        let group = Some("no-such-group-here");
        assert!(matches!(listen(&dir.path().join("s"), 0o660, group), Err(ListenError::NoGroup { .. })));
    }
}
