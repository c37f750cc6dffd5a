//! The first look at the files, in a child process.
//!
//! sled panics on some damaged files, and a panic ends a release build. So before the daemon opens files that are there,
//! it runs itself again with [`CHECK_ARG`]: that process opens them, reads the records and says in one line what it
//! found. Whatever else becomes of it (a panic, a signal, no answer) means that the files are damaged. The child takes
//! sled's own lock only, never the daemon's, and is gone before the daemon opens the files itself.
//!
//! Up to [`WHOLE_JOBS`] jobs it also adds up the checksum of all records, which is what tells old or mixed contents that
//! sled takes for good. Of larger stores that is done beside the running daemon (`scrub`), unless the journal cannot
//! vouch for them: then it is done first.

use std::io::{self, Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::process::{Command, ExitCode, ExitStatus, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use rustix::process::{Pid, Signal, getppid, set_parent_process_death_signal};
use serde::{Deserialize, Serialize};

use super::disk::plain;
use super::generation::Generation;
use super::journal::Head;
use super::keys;
use super::record::{self, Header, STORE_FORMAT, Totals, WITHOUT_JOURNAL};
use super::stage::index_keys;
use super::sum::{Mark, Sum};
use super::{Counts, OpenError, current};
use crate::shortage;

/// The hidden first argument; `main` hands the second one to [`check_child_main`] before it does anything else.
pub const CHECK_ARG: &str = "__check-store";

/// The indexes and jobs of a store of so many jobs are looked at one by one ...
const FEW_JOBS: u64 = 20_000;
/// ... of a larger one, so many entries from either end of every family: deadlines wait for this.
const SAMPLE: usize = 1_000;
/// Up to so many jobs, all records are added up before the store opens: a second's work.
const WHOLE_JOBS: u64 = 100_000;
/// Set for a child that is to add them up however many there are.
const WHOLE: &str = "ADJOURN_CHECK_WHOLE";
/// The pid of whoever waits for the child.
const ASKED_BY: &str = "ADJOURN_CHECK_ASKED_BY";
/// Five million jobs take half a minute.
const CHILD_PATIENCE: Duration = Duration::from_secs(600);
/// Signals that somebody sends (a terminal, a service manager, a system out of memory); a panic aborts.
const FROM_OUTSIDE: [i32; 5] = [
    Signal::INT.as_raw(),
    Signal::TERM.as_raw(),
    Signal::HUP.as_raw(),
    Signal::QUIT.as_raw(),
    Signal::KILL.as_raw(),
];
const DAMAGED: u8 = 3;
const UNREADABLE: u8 = 4;
const ORPHANED: u8 = 5;

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
    // The daemon holds the lock for us: nobody may look at these files when it is gone. One that went before the signal
    // was asked for sends none, but is not our parent any more.
    let _best_effort = set_parent_process_death_signal(Some(Signal::KILL));
    let asked_by = std::env::var(ASKED_BY).ok().and_then(|pid| pid.parse().ok());
    if asked_by.is_none() || getppid().map(Pid::as_raw_pid) != asked_by {
        return ORPHANED;
    }
    let (mut found, whole) = (Found::default(), std::env::var_os(WHOLE).is_some());
    // sled panics without threads, which must not be taken for damage.
    let enough = shortage::none_for_a_start().map_err(Fault::Io);
    let (code, why, errno) = match enough.and_then(|()| inspect(generation, whole, &mut found)) {
        Ok(()) => (0, String::new(), None),
        Err(Fault::Damaged(why)) => (DAMAGED, why, None),
        Err(Fault::Io(e)) => (UNREADABLE, e.to_string(), e.raw_os_error()),
    };
    let answer = serde_json::to_string(&Answer { found, why, errno }).expect("it is JSON");
    let _who_does_not_listen_sees_the_code = writeln!(io::stdout(), "\n{answer}");
    code
}

/// What the child says to its parent.
#[derive(Serialize, Deserialize)]
struct Answer {
    found: Found,
    why: String,
    /// Of a fault of the disk: one that is full is no reason to give up.
    errno: Option<i32>,
}

#[derive(Debug)]
pub(super) enum Fault {
    Damaged(String),
    Io(io::Error),
}

/// What a look at the files found, as far as it came.
#[derive(Clone, Copy, Default, Debug, Serialize, Deserialize)]
pub(super) struct Found {
    pub(super) format: Option<u32>,
    /// How far the journal has been taken in.
    pub(super) head: Option<Head>,
    /// All records were added up, and are what they should be.
    pub(super) whole: bool,
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
    /// Looks at `queue/<generation>`; and says in one error why it cannot be used.
    pub(super) fn check(self, queue: &Path, number: u64) -> Result<(), OpenError> {
        match self.look(queue, number, false)? {
            (_, None) => Ok(()),
            (_, Some(why)) => Err(damaged(queue, &why)),
        }
    }

    /// What there is, and why it is damaged, if it is. `whole`: add up the checksum however many jobs there are.
    pub(super) fn look(
        self,
        queue: &Path,
        number: u64,
        whole: bool,
    ) -> Result<(Found, Option<String>), OpenError> {
        let dir = current::dir_of(queue, number);
        let looked = match self {
            Checker::Child => std::env::current_exe()
                .and_then(|exe| run(asked(Command::new(exe).arg(CHECK_ARG).arg(&dir), whole))),
            Checker::InProcess => {
                let mut found = Found::default();
                let look = AssertUnwindSafe(|| inspect(&dir, whole, &mut found));
                let fault = catch_unwind(look).unwrap_or_else(|_| Err(crashed())).err();
                Ok((found, fault))
            }
            #[cfg(test)]
            Checker::TestChild => {
                super::tests::check_command(&dir).and_then(|mut command| run(asked(&mut command, whole)))
            }
        };
        match looked.map_err(super::lock::failed("cannot start the check of", &dir))? {
            (found, None) => Ok((found, None)),
            (found, Some(Fault::Damaged(why))) => Ok((found, Some(why))),
            (_, Some(Fault::Io(source))) => {
                Err(super::lock::failed("cannot read the queue in", &dir)(source))
            }
        }
    }
}

pub(super) fn asked(command: &mut Command, whole: bool) -> &mut Command {
    command.env(ASKED_BY, std::process::id().to_string());
    if whole { command.env(WHOLE, "1") } else { command.env_remove(WHOLE) }
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

/// The same where the journal cannot help either.
pub(super) fn damaged_both(state_dir: &Path, why: &str) -> OpenError {
    let [queue, journal, aside] = ["queue", "journal", "damaged"].map(|name| state_dir.join(name));
    let [queue, journal, aside] = [queue, journal, aside].map(|path| quoted(&path.display().to_string()));
    OpenError::Damaged {
        path: state_dir.display().to_string(),
        why: format!(
            "{why}; restore it from a backup, or, to start with an empty queue, move it aside with \
             \"mkdir {aside} && mv {queue} {journal} {aside}\": the deadlines in it are lost unless they are submitted \
             again (\"adjourn audit\" still reads the journal there)"
        ),
    }
}

fn run(command: &mut Command) -> io::Result<(Found, Option<Fault>)> {
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn()?;
    let mut answer = child.stdout.take().expect("stdout is piped");
    let (send, receive) = mpsc::channel();
    let reader = std::thread::Builder::new().spawn(move || {
        let mut text = String::new();
        let _a_broken_answer_is_no_answer = answer.by_ref().take(4096).read_to_string(&mut text);
        let _the_patience_is_over = send.send(text);
    });
    if let Err(error) = reader {
        child.kill()?;
        child.wait()?;
        return Err(error);
    }
    let Ok(text) = receive.recv_timeout(CHILD_PATIENCE) else {
        child.kill()?;
        child.wait()?;
        let why = "reading its files back does not come to an end".to_owned();
        return Ok((Found::default(), Some(Fault::Damaged(why))));
    };
    let answer: Option<Answer> = text.lines().last().and_then(|answer| serde_json::from_str(answer).ok());
    Ok(verdict(child.wait()?, answer))
}

/// What the end of the child and its last line say about the files.
fn verdict(status: ExitStatus, answer: Option<Answer>) -> (Found, Option<Fault>) {
    if status.signal().is_some_and(|signal| FROM_OUTSIDE.contains(&signal)) {
        let why = format!("the check of its files was stopped ({status}); start again");
        return (Found::default(), Some(Fault::Io(io::Error::new(io::ErrorKind::Interrupted, why))));
    }
    match (status.code(), answer) {
        (Some(0), Some(Answer { found, .. })) => (found, None),
        (Some(code), Some(Answer { found, why, .. })) if code == i32::from(DAMAGED) => {
            (found, Some(Fault::Damaged(why)))
        }
        (Some(code), Some(Answer { found, why, errno })) if code == i32::from(UNREADABLE) => {
            let error = errno.map_or_else(|| io::Error::other(why), io::Error::from_raw_os_error);
            (found, Some(Fault::Io(error)))
        }
        _ => (Found::default(), Some(crashed())),
    }
}

fn crashed() -> Fault {
    Fault::Damaged("its files cannot be read back".to_owned())
}

/// Opens the files and reads records: all of them if they are few, else both ends of every family.
fn inspect(dir: &Path, whole: bool, found: &mut Found) -> Result<(), Fault> {
    let generation = Generation::open(dir)?;
    match generation.get(keys::FORMAT)?.map(|record| record::decode_format(&record)) {
        Some(Some(format)) => {
            found.format = Some(format);
            // A newer one is for whoever opens it to refuse.
            if format > STORE_FORMAT {
                return Ok(());
            }
        }
        Some(None) => return Err(bad(keys::FORMAT, "it is no number")),
        // The daemon was stopped before its very first write.
        None if generation.scan(Vec::new(), vec![u8::MAX]).next().is_none() => return Ok(()),
        None => return Err(bad(keys::FORMAT, "it is missing")),
    }
    let mark = generation.get(keys::MARK)?.map(|record| Mark::decode(&record)).transpose();
    let mark = mark.map_err(|why| bad(keys::MARK, &why))?;
    found.head = mark.map(|mark| mark.head);
    if mark.is_none() && found.format.is_some_and(|format| format > WITHOUT_JOURNAL) {
        return Err(bad(keys::MARK, "it is missing"));
    }
    let counts = stored_counts(&generation)?;
    let jobs = counts.values().fold(0, |all: u64, count| all.saturating_add(*count));
    let limit = if jobs > FEW_JOBS { SAMPLE } else { usize::MAX };
    check_indexes(&generation, limit)?;
    check_jobs(&generation, &counts, limit)?;
    sample(&generation, keys::SERVERS, limit, |key, value| {
        record::decode_memory(value).map_err(|why| bad(key, &why)).map(|_memory| ())
    })?;
    if let Some(mark) = mark.filter(|_| whole || jobs <= WHOLE_JOBS) {
        if Sum::of(&generation)? != mark.sum {
            return Err(Fault::Damaged("its records are not those that its checksum was made of".to_owned()));
        }
        found.whole = true;
    }
    Ok(())
}

/// Of states that jobs are in.
fn stored_counts(generation: &Generation) -> Result<Counts, Fault> {
    let stored = generation.get(keys::COUNTS)?.map(|record| Totals::decode(&record)).transpose();
    let mut stored = stored.map_err(|why| bad(keys::COUNTS, &why))?.unwrap_or_default().counts;
    stored.retain(|_, count| *count > 0);
    Ok(stored)
}

fn check_jobs(generation: &Generation, stored: &Counts, limit: usize) -> Result<(), Fault> {
    let mut counts = Counts::new();
    let whole = sample(generation, keys::JOBS, limit, |key, value| {
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
    if whole && *stored != counts {
        return Err(bad(keys::COUNTS, "the jobs are not as many as it says"));
    }
    Ok(())
}

fn check_indexes(generation: &Generation, limit: usize) -> Result<(), Fault> {
    let families =
        [keys::WAKES, keys::MEETINGS, keys::AWAITING, keys::DONE, keys::SUFFIXES, keys::IDEMPOTENCY];
    for family in families {
        sample(generation, family, limit, |key, value| {
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
    limit: usize,
    mut look: impl FnMut(&[u8], &[u8]) -> Result<(), Fault>,
) -> Result<bool, Fault> {
    let mut entries = generation.scan_prefix(family);
    for entry in entries.by_ref().take(limit) {
        let (key, value) = entry?;
        look(&key, &value)?;
    }
    if entries.next().is_none() {
        return Ok(true);
    }
    for entry in generation.scan_down(family.to_vec(), keys::after(family)).take(limit) {
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

    /// Somebody else ended it: that says nothing about the files. The signals are not really sent: a process whose parent
    /// ignores one (`nohup`, some CI runners) ignores it too, and would live.
    #[test]
    fn a_check_that_was_stopped_from_outside_is_no_damage() {
        let ended_by = |signal: i32| verdict(ExitStatus::from_raw(signal), None).1;
        for signal in FROM_OUTSIDE {
            let stopped = ended_by(signal);
            assert!(
                matches!(&stopped, Some(Fault::Io(e)) if e.kind() == io::ErrorKind::Interrupted),
                "{signal}: {stopped:?}"
            );
        }
        assert!(matches!(ended_by(Signal::ABORT.as_raw()), Some(Fault::Damaged(_))));
        // Nobody can ignore this one.
        let killed = run(Command::new("sh").args(["-c", "kill -KILL $$"])).unwrap().1;
        assert!(
            matches!(&killed, Some(Fault::Io(e)) if e.kind() == io::ErrorKind::Interrupted),
            "{killed:?}"
        );
    }

    /// As if the daemon that started it had gone, and another one had the files now.
    #[test]
    fn a_child_of_nobody_touches_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let stranger = |command: &mut Command| command.env(ASKED_BY, i32::MAX.to_string()).status().unwrap();
        let nobody = |command: &mut Command| command.env_remove(ASKED_BY).status().unwrap();
        for run in [stranger, nobody] {
            let mut command = crate::store::tests::check_command(dir.path()).unwrap();
            assert_eq!(run(asked(&mut command, false)).code(), Some(i32::from(ORPHANED)));
            assert_eq!(dir.path().read_dir().unwrap().count(), 0);
        }
    }
}
