//! This machine: the state directory, the disk under it, the clock, the control socket.

use std::fs;
use std::io::{self, Seek, SeekFrom, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use super::{Finding, space, sync};
use crate::clock::system_now;
use crate::config::Settings;
use crate::group;

/// Writes that are measured, and how large each is.
const WRITES: usize = 15;
const WRITE: [u8; 4096] = [0; 4096];
const HERE: &str = "here";

pub fn examine(settings: &Settings) -> Vec<Finding> {
    let mut findings = state_dir(&settings.state_dir);
    findings.push(clock());
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

/// What systemd says of it; there is no other place that all time services report to.
fn clock() -> Finding {
    let asked = Command::new("timedatectl")
        .args(["show", "--property=NTPSynchronized", "--value"])
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output();
    let said = asked.ok().map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned());
    synchronised(said.as_deref())
}

fn synchronised(said: Option<&str>) -> Finding {
    match said {
        Some("yes") => Finding::good(HERE, "clock", "synchronised"),
        Some("no") => {
            let hint = "deadlines fire by it: timedatectl set-ntp true, or install chrony";
            Finding::bad(HERE, "clock", "not synchronised", hint)
        }
        _ => {
            let now = system_now().wall;
            let hint = "compare it with another clock; timedatectl tells on machines with systemd";
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
    fn the_clock() {
        assert_eq!(synchronised(Some("yes")).grade, Grade::Good);
        assert_eq!(synchronised(Some("no")).grade, Grade::Bad);
        assert_eq!(synchronised(Some("")).grade, Grade::Note);
        assert_eq!(synchronised(None).grade, Grade::Note);
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
