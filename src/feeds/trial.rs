//! A feed is read for the first time in a child process.
//!
//! What strangers wrote goes through a parser that strangers wrote, and in a release build a panic ends the process: one odd
//! event on somebody's server would stop every deadline here, again at each start. So before new bytes are parsed in the
//! daemon, this executable is run again with [`TRIAL_ARG`] and does exactly the same; if it does not come back well, in
//! time and within its memory, the daemon leaves the feed alone.

use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use rustix::process::{Resource, Rlimit, Signal, nice, set_parent_process_death_signal, setrlimit};

use crate::schedule::{Feed, FeedError, GivenZones, MAX_FEED, zone_named};

/// The hidden first argument; `main` hands those behind it to [`trial_child_main`]: the year, and then names of time zones
/// and what they mean, one after the other.
pub const TRIAL_ARG: &str = "__try-feed";

/// Until it is over, however busy the machine is.
const PATIENCE: Duration = Duration::from_secs(120);
/// Processor time of the child, in seconds. Ordinary feeds take milliseconds, 10,000 daily events about a second.
const PROCESSOR: u64 = 10;
/// Bytes of address space of the child.
const MEMORY: u64 = 2 << 30;

/// Who tries a feed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Trial {
    /// This executable, run again: one whose `main` knows [`TRIAL_ARG`].
    Child(PathBuf),
    /// Nobody. For tests, where panics unwind.
    Skip,
}

impl Trial {
    /// This very program.
    pub fn child() -> io::Result<Trial> {
        std::env::current_exe().map(Trial::Child)
    }

    /// Can these bytes be read, good or not, without harm? Blocks.
    pub(super) fn run(&self, bytes: &[u8], year: i16, zones: &GivenZones) -> Result<(), FeedError> {
        // A machine that cannot start a process has other troubles; then the copy that is there is good enough.
        if self.try_out(bytes, year, zones).unwrap_or(false) { Ok(()) } else { Err(FeedError::Harmful) }
    }

    /// The same. `Err`: it could not be tried. Blocks.
    pub(super) fn try_out(&self, bytes: &[u8], year: i16, zones: &GivenZones) -> io::Result<bool> {
        match self {
            Trial::Child(program) => survives(program, bytes, year, zones),
            Trial::Skip => Ok(true),
        }
    }
}

fn survives(program: &Path, bytes: &[u8], year: i16, zones: &GivenZones) -> io::Result<bool> {
    let mut command = Command::new(program);
    command.arg(TRIAL_ARG).arg(year.to_string()).env_clear();
    for (name, zone) in zones {
        command.arg(name).arg(zone.iana_name().unwrap_or_default());
    }
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = command.spawn()?;
    if let Some(mut input) = child.stdin.take() {
        // It reads everything before it does anything; one that is gone has failed, which its status says.
        let _ = input.write_all(bytes);
    }
    let (send, receive) = mpsc::channel();
    if let Some(mut output) = child.stdout.take() {
        let reader = std::thread::Builder::new().spawn(move || {
            // It says nothing: the end of its output is its own end.
            let _ = output.read(&mut [0]);
            let _ = send.send(());
        });
        if let Err(error) = reader {
            child.kill()?;
            child.wait()?;
            return Err(error);
        }
    }
    if receive.recv_timeout(PATIENCE).is_err() {
        child.kill()?;
    }
    Ok(child.wait()?.success())
}

/// The child's whole life: a feed on its standard input is parsed, and the years around the given one are worked out.
pub fn trial_child_main(args: &[String]) -> ExitCode {
    // Nobody waits for it when the daemon is gone.
    let _ = set_parent_process_death_signal(Some(Signal::KILL));
    for (resource, most) in [(Resource::As, MEMORY), (Resource::Cpu, PROCESSOR)] {
        // Without limits the patience remains.
        let _ = setrlimit(resource, Rlimit { current: Some(most), maximum: Some(most) });
    }
    let _ = nice(10);
    let mut bytes = Vec::new();
    let Some(year) = args.first().and_then(|year| year.parse().ok()) else { return ExitCode::FAILURE };
    let zones = args.get(1..).unwrap_or_default().chunks_exact(2);
    let zones = zones.filter_map(|pair| Some((pair.first()?.clone(), zone_named(pair.get(1)?)?)));
    if io::stdin().take(MAX_FEED as u64 + 1).read_to_end(&mut bytes).is_err() {
        return ExitCode::FAILURE;
    }
    // Whether it is good is for the daemon to find out, in the same way.
    let _ = read(&bytes, year, &zones.collect());
    ExitCode::SUCCESS
}

/// Parses a feed and works out the years around now: all that will ever be asked of it.
pub(super) fn read(bytes: &[u8], year: i16, zones: &GivenZones) -> Result<Feed, FeedError> {
    let feed = Feed::parse_with(bytes, zones)?;
    feed.keep_to(year);
    Ok(feed)
}
