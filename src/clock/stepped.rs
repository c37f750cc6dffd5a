//! A wall clock that tests can step, in debug builds only: release builds know nothing of the variable.
//!
//! The file that [`VARIABLE`] names holds the milliseconds by which the wall clock is off; it is replaced by renaming
//! another one over it, as CLOCK_REALTIME is set in one moment. Boottime is never touched.

use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use rustix::fs::inotify;
use rustix::io::Errno;
use tokio::io::unix::AsyncFd;

pub const VARIABLE: &str = "ADJOURN_TEST_CLOCK";

fn file() -> Option<&'static Path> {
    static FILE: OnceLock<Option<PathBuf>> = OnceLock::new();
    FILE.get_or_init(|| std::env::var_os(VARIABLE).map(PathBuf::from)).as_deref()
}

/// What has to be added to the machine's wall clock.
pub(super) fn offset_ms() -> i64 {
    let Some(file) = file() else { return 0 };
    let text = std::fs::read_to_string(file).unwrap_or_default();
    text.trim().parse().unwrap_or(0)
}

/// Hears of steps, as a timer with `TFD_TIMER_CANCEL_ON_SET` does of real ones.
#[derive(Debug)]
pub(super) struct Steps(Option<AsyncFd<OwnedFd>>);

impl Steps {
    pub fn new() -> io::Result<Steps> {
        let Some(directory) = file().and_then(Path::parent) else { return Ok(Steps(None)) };
        let fd = inotify::init(inotify::CreateFlags::NONBLOCK | inotify::CreateFlags::CLOEXEC)?;
        inotify::add_watch(&fd, directory, inotify::WatchFlags::MOVED_TO)?;
        #[expect(
            deprecated,
            reason = "its successor is unsafe; an OwnedFd that never leaves keeps the promise"
        )]
        Ok(Steps(Some(AsyncFd::new(fd)?)))
    }

    pub async fn step(&self) -> io::Result<()> {
        let Some(watch) = &self.0 else { return std::future::pending().await };
        loop {
            let mut ready = watch.readable().await?;
            let read = ready.try_io(|watch| {
                let mut events = [0_u8; 4_096];
                match rustix::io::read(watch, &mut events) {
                    Err(Errno::INTR) => Ok(0),
                    read => read.map_err(io::Error::from),
                }
            });
            match read {
                Ok(Ok(_)) => return Ok(()),
                Ok(Err(error)) => return Err(error),
                Err(_would_block) => {}
            }
        }
    }
}
