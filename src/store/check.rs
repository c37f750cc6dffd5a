//! The first look at the files, in a child process.
//!
//! sled panics on some damaged files, and a panic ends a release build. So before the daemon opens files that are there,
//! it runs itself again with [`CHECK_ARG`]: that process opens them, reads the records and says in one line what it
//! found. Whatever else becomes of it (a panic, a signal, no answer) means that the files are damaged. The child takes
//! sled's own lock only, never the daemon's, and is gone before the daemon opens the files itself.

use std::io::{self, Read, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use rustix::process::{Signal, set_parent_process_death_signal};

use super::disk::plain;
use super::generation::Generation;
use super::keys;
use super::record::{self, Header, STORE_FORMAT};
use super::stage::index_keys;
use super::{Counts, OpenError, current};

/// The hidden first argument; `main` hands the second one to [`check_child_main`] before it does anything else.
pub const CHECK_ARG: &str = "__check-store";

/// So many entries are read from either end of every family.
const SAMPLE: usize = 10_000;
/// Five million jobs take half a minute.
const CHILD_PATIENCE: Duration = Duration::from_secs(600);
const DAMAGED: u8 = 3;
const UNREADABLE: u8 = 4;

/// Who takes the first look.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Checker {
    /// This executable, run again. For everything whose `main` knows [`CHECK_ARG`].
    Child,
    /// This process. For tests, where panics unwind.
    InProcess,
    /// The test binary, run again.
    #[cfg(test)]
    TestChild,
}

/// The child's whole life. `generation` is the directory of sled's files.
pub fn check_child_main(generation: &Path) -> ExitCode {
    ExitCode::from(child(generation))
}

/// The last line that it prints is for the parent.
pub(super) fn child(generation: &Path) -> u8 {
    // The daemon holds the lock for us: nobody may look at these files when it is gone.
    let _best_effort = set_parent_process_death_signal(Some(Signal::KILL));
    let (code, why) = match inspect(generation) {
        Ok(()) => return 0,
        Err(Fault::Damaged(why)) => (DAMAGED, why),
        Err(Fault::Io(e)) => (UNREADABLE, e.to_string()),
    };
    let _who_does_not_listen_sees_the_code = writeln!(io::stdout(), "\n{why}");
    code
}

#[derive(Debug)]
pub(super) enum Fault {
    Damaged(String),
    Io(io::Error),
}

impl From<sled::Error> for Fault {
    fn from(error: sled::Error) -> Fault {
        match plain(error) {
            e if matches!(e.kind(), io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof) => {
                Fault::Damaged("a part of its files cannot be read back".to_owned())
            }
            e if e.kind() == io::ErrorKind::Other && e.raw_os_error().is_none() => {
                Fault::Damaged("its files do not fit together".to_owned())
            }
            e => Fault::Io(e),
        }
    }
}

impl Checker {
    /// Looks at `queue/<generation>`.
    pub(super) fn check(self, queue: &Path, number: u64) -> Result<(), OpenError> {
        let dir = current::dir_of(queue, number);
        let found = match self {
            Checker::Child => {
                std::env::current_exe().and_then(|exe| run(Command::new(exe).arg(CHECK_ARG).arg(&dir)))
            }
            Checker::InProcess => {
                Ok(catch_unwind(AssertUnwindSafe(|| inspect(&dir))).unwrap_or_else(|_| Err(crashed())))
            }
            #[cfg(test)]
            Checker::TestChild => super::tests::check_command(&dir).and_then(|mut command| run(&mut command)),
        };
        match found.map_err(super::lock::failed("cannot start the check of", &dir))? {
            Ok(()) => Ok(()),
            Err(Fault::Damaged(why)) => Err(damaged(queue, &why)),
            Err(Fault::Io(source)) => Err(super::lock::failed("cannot read the queue in", &dir)(source)),
        }
    }
}

/// The error with the way out.
pub(super) fn damaged(queue: &Path, why: &str) -> OpenError {
    let from = quoted(&queue.display().to_string());
    let to = quoted(&format!("{}.damaged", queue.display()));
    OpenError::Damaged {
        path: queue.display().to_string(),
        why: format!(
            "{why}; to start with an empty queue, move it aside with \"mv {from} {to}\": \
             the deadlines in it are lost unless they are submitted again"
        ),
    }
}

fn run(command: &mut Command) -> io::Result<Result<(), Fault>> {
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn()?;
    let mut answer = child.stdout.take().expect("stdout is piped");
    let (send, receive) = mpsc::channel();
    std::thread::spawn(move || {
        let mut text = String::new();
        let _a_broken_answer_is_no_answer = answer.by_ref().take(4096).read_to_string(&mut text);
        let _the_patience_is_over = send.send(text);
    });
    let Ok(text) = receive.recv_timeout(CHILD_PATIENCE) else {
        child.kill()?;
        child.wait()?;
        return Ok(Err(Fault::Damaged("reading its files back does not come to an end".to_owned())));
    };
    let text = text.lines().last().unwrap_or_default().to_owned();
    Ok(match child.wait()?.code() {
        Some(0) => Ok(()),
        Some(code) if code == i32::from(DAMAGED) => Err(Fault::Damaged(text)),
        Some(code) if code == i32::from(UNREADABLE) => Err(Fault::Io(io::Error::other(text))),
        _ => Err(crashed()),
    })
}

fn crashed() -> Fault {
    Fault::Damaged("its files cannot be read back".to_owned())
}

/// Opens the files and reads records: all of them if they are few, else a sample of every family.
pub(super) fn inspect(dir: &Path) -> Result<(), Fault> {
    let generation = Generation::open(dir)?;
    match generation.get(keys::FORMAT)?.map(|record| record::decode_format(&record)) {
        // A newer one is for whoever opens it to refuse.
        Some(Some(format)) if format != STORE_FORMAT => return Ok(()),
        Some(Some(_)) => {}
        Some(None) => return Err(bad(keys::FORMAT, "it is no number")),
        // The daemon was stopped before its very first write.
        None if generation.scan(Vec::new(), vec![u8::MAX]).next().is_none() => return Ok(()),
        None => return Err(bad(keys::FORMAT, "it is missing")),
    }
    check_indexes(&generation)?;
    check_jobs(&generation)?;
    sample(&generation, keys::SERVERS, |key, value| {
        record::decode_memory(value).map_err(|why| bad(key, &why)).map(|_memory| ())
    })?;
    Ok(())
}

fn check_jobs(generation: &Generation) -> Result<(), Fault> {
    let mut counts = Counts::new();
    let whole = sample(generation, keys::JOBS, |key, value| {
        let header = Header::read(value).map_err(|why| bad(key, &why))?;
        let job = record::decode(value).map_err(|why| bad(key, &why))?;
        if keys::job(job.id) != key || job.state != header.state || job.revision != header.revision {
            return Err(bad(key, "it contradicts itself"));
        }
        let claim = job.key.as_ref().map(|held| keys::idempotency(&job.server, &held.key));
        let expected = index_keys(&job, &header).into_iter().chain([claim, Some(keys::suffix(job.id))]);
        for index in expected.flatten() {
            if generation.get(&index)?.is_none() {
                return Err(bad(key, "an index does not know it"));
            }
        }
        *counts.entry(header.state).or_default() += 1;
        Ok(())
    })?;
    let stored = generation.get(keys::COUNTS)?.map(|record| record::decode_counts(&record)).transpose();
    let mut stored = stored.map_err(|why| bad(keys::COUNTS, &why))?.unwrap_or_default();
    stored.retain(|_, count| *count > 0);
    if whole && stored != counts {
        return Err(bad(keys::COUNTS, "the jobs are not as many as it says"));
    }
    Ok(())
}

fn check_indexes(generation: &Generation) -> Result<(), Fault> {
    for family in [keys::WAKES, keys::MEETINGS, keys::DONE, keys::SUFFIXES, keys::IDEMPOTENCY] {
        sample(generation, family, |key, value| {
            let id = match family {
                keys::SUFFIXES => keys::id_backwards(key),
                keys::IDEMPOTENCY => keys::id_at_end(value),
                _ => keys::id_at_end(key),
            };
            match id {
                Some(id) if generation.get(&keys::job(id))?.is_some() => Ok(()),
                _ => Err(bad(key, "its job is missing")),
            }
        })?;
    }
    Ok(())
}

/// Was that all of them?
fn sample(
    generation: &Generation,
    family: &[u8],
    mut look: impl FnMut(&[u8], &[u8]) -> Result<(), Fault>,
) -> Result<bool, Fault> {
    let mut entries = generation.scan_prefix(family);
    for entry in entries.by_ref().take(2 * SAMPLE) {
        let (key, value) = entry?;
        look(&key, &value)?;
    }
    if entries.next().is_none() {
        return Ok(true);
    }
    for entry in generation.scan_down(family.to_vec(), keys::after(family)).take(SAMPLE) {
        let (key, value) = entry?;
        look(&key, &value)?;
    }
    Ok(false)
}

fn bad(key: &[u8], why: &str) -> Fault {
    Fault::Damaged(format!("the record {} cannot be used: {why}", keys::show(key)))
}

/// As a shell reads it.
fn quoted(path: &str) -> String {
    let plain = path.bytes().all(|b| b.is_ascii_alphanumeric() || b"/._-+".contains(&b));
    if plain { path.to_owned() } else { format!("'{}'", path.replace('\'', r"'\''")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_way_out_can_be_pasted() {
        assert_eq!(quoted("/var/lib/adjourn/queue"), "/var/lib/adjourn/queue");
        assert_eq!(quoted("/tmp/it's $HOME"), r"'/tmp/it'\''s $HOME'");
        let error = damaged(Path::new("/s/queue"), "why").to_string();
        assert!(error.contains("\"mv /s/queue /s/queue.damaged\""), "{error}");
    }
}
