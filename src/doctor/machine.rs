//! This machine: the state directory, the disk under it, the clock, the control socket.

use std::fs;
use std::io::{self, Seek, SeekFrom, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use super::{Finding, space, sync};
use crate::clock::{Clock, SystemClock};
use crate::config::Settings;
use crate::group;

/// Writes that are measured, and how large each is.
const WRITES: usize = 15;
const WRITE: [u8; 4096] = [0; 4096];
const HERE: &str = "here";

pub fn examine(settings: &Settings) -> Vec<Finding> {
    let mut findings = state_dir(&settings.state_dir);
    findings.push(clock(SystemClock.synchronised()));
    findings.push(socket(&settings.socket));
    findings
}

fn state_dir(path: &Path) -> Vec<Finding> {
    let shown = path.display();
    let hint = "the daemon creates it if it may; as a service: StateDirectory=adjourn";
    let probe = match tempfile::tempfile_in(path) {
        Ok(probe) => probe,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return vec![Finding::note(HERE, "state-dir", format!("{shown} is not there yet"), hint)];
        }
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            let text = format!("{shown} cannot be written by this user, so the disk is not measured");
            return vec![Finding::note(HERE, "state-dir", text, "run doctor as the user of the daemon")];
        }
        Err(error) => {
            let text = format!("{shown} cannot be written: {error}");
            return vec![Finding::bad(
                HERE,
                "state-dir",
                text,
                "correct state-dir, or what is wrong with its disk",
            )];
        }
    };
    let mut findings = vec![Finding::good(HERE, "state-dir", format!("{shown} can be written"))];
    findings.push(match rustix::fs::fstatvfs(&probe) {
        Ok(stat) => space(stat.f_bavail.saturating_mul(stat.f_frsize)),
        Err(error) => Finding::note(HERE, "disk", format!("its free space is not known: {error}"), "df"),
    });
    findings.push(match median_sync(probe) {
        Ok(took) => sync(took),
        Err(error) => Finding::bad(
            HERE,
            "fdatasync",
            format!("a write to {shown} failed: {error}"),
            "look at the disk (dmesg)",
        ),
    });
    findings
}

fn median_sync(mut file: fs::File) -> io::Result<Duration> {
    let mut times = Vec::with_capacity(WRITES);
    for _ in 0..WRITES {
        let began = crate::clock::wall_micros();
        file.seek(SeekFrom::Start(0))?;
        file.write_all(&WRITE)?;
        file.sync_data()?;
        times.push(crate::clock::wall_micros() - began);
    }
    times.sort_unstable();
    Ok(Duration::from_micros(u64::try_from(times[WRITES / 2]).unwrap_or(0)))
}

/// Whether a time service keeps it: `None` where the kernel does not say. No fault by itself, because containers and bare
/// virtual machines often go without and are right; that a clock *is* wrong, the servers' clocks tell.
fn clock(synchronised: Option<bool>) -> Finding {
    match synchronised {
        Some(true) => Finding::good(HERE, "clock", "a time service keeps it"),
        Some(false) => {
            let hint = "deadlines fire by it: timedatectl set-ntp true, or install chrony; in a container, on its host";
            Finding::note(HERE, "clock", "no time service keeps it", hint)
        }
        None => {
            let now = SystemClock.now().wall;
            let hint = "compare it with another clock; the kernel does not say here whether it is kept";
            Finding::note(HERE, "clock", format!("whether {now} is right is not known"), hint)
        }
    }
}

fn socket(path: &Path) -> Finding {
    let shown = path.display();
    let start = "start the daemon: systemctl start adjourn, or adjourn daemon";
    let Ok(file) = fs::metadata(path) else {
        return Finding::note(HERE, "socket", format!("{shown} is not there: no daemon runs"), start);
    };
    let group = group::name_of(file.gid()).unwrap_or_else(|| file.gid().to_string());
    let access = format!("mode {:04o}, group {group}", file.permissions().mode() & 0o7777);
    match UnixStream::connect(path) {
        Ok(_) => Finding::good(HERE, "socket", format!("{shown} is open to this user ({access})")),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            let hint = format!("join its group: sudo usermod -aG {group} $USER, then log in again");
            Finding::note(HERE, "socket", format!("{shown} is not open to this user ({access})"), &hint)
        }
        Err(error) => Finding::note(HERE, "socket", format!("nobody listens on {shown}: {error}"), start),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::Grade;

    #[track_caller]
    fn grades(findings: &[Finding], expected: &[(&str, Grade)]) {
        let found: Vec<_> = findings.iter().map(|finding| (finding.what, finding.grade)).collect();
        assert_eq!(found, expected, "{findings:#?}");
    }

    #[test]
    fn a_directory_that_is_not_there_yet_is_no_fault() {
        let dir = tempfile::tempdir().unwrap();
        grades(&state_dir(&dir.path().join("none")), &[("state-dir", Grade::Note)]);
        let file = dir.path().join("file");
        fs::write(&file, "").unwrap();
        grades(&state_dir(&file), &[("state-dir", Grade::Bad)]);
        let findings = state_dir(dir.path());
        assert_eq!(
            findings.iter().map(|finding| finding.what).collect::<Vec<_>>(),
            ["state-dir", "disk", "fdatasync"]
        );
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "nothing is left behind");
    }

    #[test]
    fn a_clock_that_nobody_keeps_is_told_and_no_fault() {
        assert_eq!(clock(Some(true)).grade, Grade::Good);
        assert_eq!(clock(Some(false)).grade, Grade::Note);
        assert_eq!(clock(None).grade, Grade::Note);
    }

    #[test]
    fn sockets() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s");
        assert_eq!(socket(&path).grade, Grade::Note);
        let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
        assert_eq!(socket(&path).grade, Grade::Good);
        drop(listener);
        let dead = socket(&path);
        assert_eq!(dead.grade, Grade::Note);
        assert!(dead.text.starts_with("nobody listens on "), "{dead:?}");
    }
}
