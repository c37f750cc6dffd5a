//! Shortages of the machine that pass: threads, memory, file descriptors, room on the disk. Who runs into one says so and
//! exits with 75, so that the next start tries again; 78 would tell systemd that no restart can help.

use std::fs::File;
use std::io;
use std::sync::mpsc;

use rustix::io::Errno;

/// What a start needs at once: threads of the runtime, of the store and of its check; files of all of them.
const THREADS: usize = 16;
const FILES: usize = 24;

/// The errors of the kernel that say no more than "not now".
const PASSING: [Errno; 5] = [Errno::AGAIN, Errno::NOMEM, Errno::MFILE, Errno::NFILE, Errno::IO];

/// Is this error one that a later try may be spared?
pub fn is_passing(error: &io::Error) -> bool {
    use io::ErrorKind::{Interrupted, OutOfMemory, QuotaExceeded, StorageFull};
    let kind = matches!(error.kind(), StorageFull | QuotaExceeded | Interrupted | OutOfMemory);
    kind || PASSING.iter().any(|errno| error.raw_os_error() == Some(errno.raw_os_error()))
}

/// The same of a text that quotes such an error. Many libraries keep nothing of it but its text, for which the standard
/// library has one form.
pub fn is_told_of(text: &str) -> bool {
    PASSING.iter().any(|errno| text.contains(&format!("(os error {})", errno.raw_os_error())))
}

/// Tries whether there are threads and files enough, before libraries that would panic without them are set to work.
pub fn none_for_a_start() -> io::Result<()> {
    none_for(THREADS, FILES)
}

fn none_for(threads: usize, files: usize) -> io::Result<()> {
    let _files = (0..files).map(|_| File::open("/dev/null")).collect::<io::Result<Vec<File>>>()?;
    let mut waiting = Vec::with_capacity(threads);
    for _ in 0..threads {
        let (release, released) = mpsc::channel::<()>();
        let thread = std::thread::Builder::new().spawn(move || {
            // Dropping the other end is what releases it.
            let _ = released.recv();
        })?;
        waiting.push((release, thread));
    }
    for (release, thread) in waiting {
        drop(release);
        let _it_does_nothing_that_could_fail = thread.join();
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_passes_is_told_from_what_stays() {
        let passing = |errno: Errno| {
            let error = io::Error::from_raw_os_error(errno.raw_os_error());
            assert_eq!(is_passing(&error), is_told_of(&format!("cannot set up HTTPS: x: {error}: y")));
            is_passing(&error)
        };
        for errno in PASSING {
            assert!(passing(errno), "{errno:?}");
        }
        assert!(!passing(Errno::NOENT) && !passing(Errno::ACCESS) && !passing(Errno::INVAL));
        assert!(is_passing(&io::Error::from_raw_os_error(Errno::NOSPC.raw_os_error())));
        assert!(!is_told_of("line 24: (os error 2)"));
    }

    #[test]
    fn a_machine_with_enough_is_not_short() {
        none_for_a_start().unwrap();
        assert!(is_passing(&none_for(0, 1 << 22).unwrap_err()));
    }
}
