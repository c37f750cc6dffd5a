//! The socket file: created with its mode, taken over when stale, left alone when it is somebody else's.

use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with, sockopt};
use tokio::net::UnixListener;

use crate::exit::ExitCode;
use crate::group;

/// Bytes that the kernel has for the path of a socket, its closing zero not counted.
const MAX_PATH_BYTES: usize = 107;
/// Added to the path while the socket is being made.
const ASIDE: &str = ".new";

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
            ListenError::InUse { .. } => ExitCode::Temporary,
            ListenError::Io { source, .. } if source.kind() == io::ErrorKind::PermissionDenied => {
                ExitCode::Permission
            }
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
    let listener = std::os::unix::net::UnixListener::bind(&aside).map_err(|source| ListenError::Io {
        what: "cannot create the control socket",
        path: path.to_owned(),
        source,
        hint: "; may the daemon's user write to its directory?",
    })?;
    std::fs::set_permissions(&aside, std::fs::Permissions::from_mode(mode))
        .map_err(failed("cannot set the mode of", path))?;
    if let Some(gid) = gid {
        std::os::unix::fs::chown(&aside, None, Some(gid)).map_err(failed("cannot set the group of", path))?;
    }
    std::fs::rename(&aside, path).map_err(failed("cannot put the control socket at", path))?;
    listener.set_nonblocking(true).map_err(failed("cannot use", path))?;
    UnixListener::from_std(listener).map_err(failed("cannot use", path))
}

/// Nothing there, or a socket that nobody answers on.
fn check_place(path: &Path) -> Result<(), ListenError> {
    match std::fs::symlink_metadata(path) {
        Ok(file) if file.file_type().is_socket() => refuse_live(path),
        Ok(_) => Err(ListenError::NotASocket { path: path.to_owned() }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => make_parent(path),
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

fn make_parent(path: &Path) -> Result<(), ListenError> {
    let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty() && !parent.exists())
    else {
        return Ok(());
    };
    let made = std::fs::DirBuilder::new().recursive(true).mode(0o755).create(parent);
    made.map_err(|source| ListenError::Io {
        what: "cannot create the directory of the control socket",
        path: parent.to_owned(),
        source,
        hint: "; create it for the daemon's user, or set RuntimeDirectory=adjourn in its unit",
    })
}

fn remove_stale(path: &Path) -> Result<(), ListenError> {
    match std::fs::remove_file(path) {
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

    #[tokio::test]
    async fn the_directory_is_made_and_long_paths_and_unknown_groups_are_errors() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("run/adjourn/control.sock");
        let _listener = listen(&path, 0o660, None).unwrap();
        assert_eq!(path.parent().unwrap().metadata().unwrap().mode() & 0o777, 0o755);

        let long = dir.path().join("x".repeat(120));
        assert!(matches!(listen(&long, 0o660, None), Err(ListenError::TooLong { limit: 103, .. })));
        let group = Some("no-such-group-here");
        assert!(matches!(listen(&dir.path().join("s"), 0o660, group), Err(ListenError::NoGroup { .. })));
    }
}
