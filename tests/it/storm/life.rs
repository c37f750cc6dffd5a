//! The daemon's process under a storm: started, perhaps not to the end, and cut off.

use std::os::unix::net::UnixDatagram;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, ExitStatus};
use std::time::Duration;

use adjourn::clock;
use adjourn::job::Now;
use rustix::process::{Pid, Signal, kill_process_group};

use crate::harness::{Bed, PATIENCE, text};

/// Between two looks at whether it has exited by itself.
const STEP: Duration = Duration::from_millis(50);

/// A daemon that was started.
pub struct Life {
    child: Child,
    notify: UnixDatagram,
}

/// How far a start came.
pub enum Start {
    Ready(Life),
    /// It was given no more time.
    Under(Life),
    /// It ended by itself.
    Ended(String),
}

impl Life {
    /// Starts the daemon and waits until it is ready, or for as long as it is given.
    pub fn start(bed: &Bed, within: Option<Duration>, prepare: impl FnOnce(&mut Command)) -> Start {
        let path = bed.path("notify.sock");
        // Left by an earlier start.
        let _ = std::fs::remove_file(&path);
        let notify = UnixDatagram::bind(&path).unwrap();
        notify.set_read_timeout(Some(STEP)).unwrap();
        let mut command = bed.daemon_command();
        command.env("NOTIFY_SOCKET", &path).env("ADJOURN_LOG", "adjourn=info").process_group(0);
        prepare(&mut command);
        let child = command.spawn().unwrap();
        Life { child, notify }.until(clock::system_now(), within, bed)
    }

    fn until(mut self, began: Now, within: Option<Duration>, bed: &Bed) -> Start {
        loop {
            let mut message = [0; 4096];
            let left = within.map(|within| within.saturating_sub(clock::system_now().since(began)));
            if left.is_some_and(|left| left.is_zero()) {
                return Start::Under(self);
            }
            self.notify.set_read_timeout(Some(left.unwrap_or(STEP).min(STEP))).unwrap();
            if let Ok(length) = self.notify.recv(&mut message)
                && text(&message[..length]).contains("READY=1")
            {
                return Start::Ready(self);
            }
            if let Some(status) = self.child.try_wait().unwrap() {
                return Start::Ended(format!("the daemon ended by itself: {status}"));
            }
            assert!(clock::system_now().since(began) < PATIENCE, "it did not get ready\n{}", bed.log());
        }
    }

    /// `kill -9` of the daemon alone. An exit before that is an error.
    pub fn kill(mut self) -> Result<(), String> {
        let early = self.child.try_wait().unwrap();
        self.child.kill().unwrap();
        self.reap(early)
    }

    /// The same of everything that it has started, too.
    pub fn kill_group(mut self) -> Result<(), String> {
        let early = self.child.try_wait().unwrap();
        if early.is_none() {
            kill_process_group(Pid::from_child(&self.child), Signal::KILL).unwrap();
        }
        self.reap(early)
    }

    fn reap(&mut self, early: Option<ExitStatus>) -> Result<(), String> {
        let status = self.child.wait().unwrap();
        if early.is_some() || status.signal() != Some(9) {
            return Err(format!("the daemon ended by itself: {status}"));
        }
        Ok(())
    }
}

impl Drop for Life {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
