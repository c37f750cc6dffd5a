//! How the store and the daemon behave at the sizes that they are made for. Prints a table; run by hand.
//!
//! `cargo bench --bench scale -- waiting [JOBS]` (default 1,000,000) loads so many waiting jobs, then starts the real
//! daemon on them: how long until it is ready, and until the end call of a job that is due already reaches the sandbox;
//! resident memory; processor time over an idle minute; size on disk.
//!
//! `cargo bench --bench scale -- churn [JOBS] [LIVE]` (default 1,000,000 through a queue of 10,000) sends so many jobs
//! through the store: each is submitted, moved, claimed, done and forgotten. What does the directory grow to, against the
//! live data in it?

#![expect(clippy::print_stdout, reason = "figures are for reading")]

use std::collections::VecDeque;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use adjourn::clock::{system_now, wall_micros};
use adjourn::job::{By, Fact, Job, JobId, Limits, Now, Order, Origin, Outcome, UtcMs};
use adjourn::sandbox::{self, Asked, Call, NewMeeting, Sandbox};
use adjourn::store::{CHECK_ARG, Change, Checker, Queue, Store, StoreError, check_child_main};
use uuid::Uuid;

const LOAD_BATCH: u64 = 1_000;
/// Waiting jobs end over the month that begins tomorrow.
const DAY_MS: i64 = 86_400_000;
/// The job that is due already is this late.
const LATE: Duration = Duration::from_secs(5);
/// What is done about an ended meeting is over by then: the last look comes a minute after proof.
const SETTLE: Duration = Duration::from_secs(80);
const IDLE: Duration = Duration::from_secs(60);
const PATIENCE: Duration = Duration::from_secs(300);
/// Commits on their way at a time in the churn: what a busy daemon groups.
const IN_FLIGHT: usize = 32;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).filter(|arg| arg != "--bench").collect();
    let number = |n: usize, default: u64| args.get(n).map_or(default, |arg| arg.parse().expect("a number"));
    match args.first().map(String::as_str) {
        Some(CHECK_ARG) => return check_child_main(Path::new(&args[1])),
        Some("waiting") => waiting(number(1, 1_000_000)),
        Some("churn") => churn(number(1, 1_000_000), number(2, 10_000)),
        _ => println!("usage: cargo bench --bench scale -- (waiting [JOBS] | churn [JOBS] [LIVE])"),
    }
    ExitCode::SUCCESS
}

fn waiting(jobs: u64) {
    let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory");
    let state = directory.path().join("state");
    load(&state, jobs);
    let (_server, sandbox) = start_sandbox();
    let mut daemon = Daemon::start(directory.path(), &sandbox);
    println!("| ready after | {:.2?} |", daemon.wait_until_ready());
    let fired = wait_for_end(&sandbox);
    println!(
        "| a job due already: its end call after | {:.2} s |",
        micros_as_secs(fired - daemon.started_us)
    );
    println!(
        "| resident after the start, peak | {} MB, {} MB |",
        daemon.memory("VmRSS:"),
        daemon.memory("VmHWM:")
    );
    pause(SETTLE);
    let (before, begun) = (daemon.cpu_ticks(), now());
    pause(IDLE);
    let ticks = daemon.cpu_ticks() - before;
    let percent = ticks as f64 / begun.elapsed().as_secs_f64();
    println!("| processor over an idle minute | {percent:.3} % |");
    println!("| resident when idle, peak | {} MB, {} MB |", daemon.memory("VmRSS:"), daemon.memory("VmHWM:"));
    println!("| on disk | {} MB |", megabytes(size_of(&state)));
}

/// Fills the store in this process; what that takes is printed too.
fn load(state: &Path, jobs: u64) {
    let begun = now();
    let queue = Queue::open(state, Checker::Child).expect("a new store opens");
    let at = system_now();
    let (tomorrow, step) = (at.wall.0 + DAY_MS, 30 * DAY_MS / i64::try_from(jobs).expect("a number of jobs"));
    let due_of = |n: u64| UtcMs(tomorrow + i64::try_from(n).expect("small") * step);
    let mut inflight = InFlight::new(&queue);
    let late = Job::submit(order(jobs, "late", UtcMs(at.wall.0 - millis(LATE))), earlier(at));
    inflight.commit(vec![put(&late, None)]);
    for first in (0..jobs).step_by(usize::try_from(LOAD_BATCH).expect("small")) {
        let ids = first..(first + LOAD_BATCH).min(jobs);
        let new = |n| put(&Job::submit(order(n, &format!("meeting-{n}"), due_of(n)), earlier(at)), None);
        inflight.commit(ids.map(new).collect());
    }
    inflight.finish();
    println!("| {jobs} jobs loaded in | {:.1?} |", begun.elapsed());
    println!(
        "| resident after the load, peak | {} MB, {} MB |",
        memory("self", "VmRSS:"),
        memory("self", "VmHWM:")
    );
    println!("| live data | {} MB |", megabytes(queue.size().expect("a size").live));
    println!("| on disk after the load | {} MB |", megabytes(size_of(state)));
}

fn churn(jobs: u64, live: u64) {
    let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory");
    let queue = Queue::open(directory.path(), Checker::Child).expect("a new store opens");
    let mut inflight = InFlight::new(&queue);
    let mut window = Window::new(live);
    let begun = now();
    println!("| jobs | jobs/s | live MB | disk MB | disk / live | resident MB |");
    println!("|---|---|---|---|---|---|");
    for n in 0..jobs {
        inflight.commit(window.turn(n));
        if (n + 1) % (jobs / 20).max(1) == 0 {
            let rate = (n + 1) as f64 / begun.elapsed().as_secs_f64();
            let size = queue.size().expect("a size");
            let (live, disk, resident) = (size.live, size.disk, memory("self", "VmRSS:"));
            let ratio = disk as f64 / live as f64;
            println!(
                "| {} | {rate:.0} | {} | {} | {ratio:.1} | {resident} |",
                n + 1,
                megabytes(live),
                megabytes(disk)
            );
        }
    }
    inflight.finish();
}

/// The jobs that are there, oldest first, each with its age: young ones wait, older ones are done.
struct Window {
    jobs: VecDeque<Job>,
    live: u64,
}

impl Window {
    fn new(live: u64) -> Window {
        Window { jobs: VecDeque::new(), live }
    }

    /// One job comes; the ones that have reached the ages for it are moved, claimed, done, forgotten.
    fn turn(&mut self, n: u64) -> Vec<Change> {
        let at = system_now();
        let job = Job::submit(order(n, &format!("meeting-{n}"), at.wall + Duration::from_secs(3600)), at);
        let mut batch = vec![put(&job, None)];
        self.jobs.push_back(job);
        let moved =
            Fact::Moved { to: at.wall + Duration::from_secs(7200), extension: false, by: By::Schedule };
        let concluded =
            Fact::Concluded { outcome: Outcome::Ended, reason: "proven gone by two sightings".to_owned() };
        for (tenths, fact) in [(1, moved), (4, Fact::Claimed), (5, concluded)] {
            let age = usize::try_from(self.live * tenths / 10).expect("small");
            let Some(place) = self.jobs.len().checked_sub(age + 1) else { continue };
            let job = &mut self.jobs[place];
            let before = job.revision;
            job.record(at, fact);
            batch.push(put(job, Some(before)));
        }
        if self.jobs.len() as u64 > self.live {
            batch.extend(self.jobs.pop_front().map(|job| Change::Remove(job.id)));
        }
        batch
    }
}

/// Commits under way, bounded.
struct InFlight<'a> {
    queue: &'a Queue,
    answers: VecDeque<Receiver<Result<(), StoreError>>>,
}

impl InFlight<'_> {
    fn new(queue: &Queue) -> InFlight<'_> {
        InFlight { queue, answers: VecDeque::new() }
    }

    fn commit(&mut self, batch: Vec<Change>) {
        let (send, receive) = channel();
        self.queue.commit(batch, Box::new(move |result| send.send(result).expect("somebody waits")));
        self.answers.push_back(receive);
        while self.answers.len() > IN_FLIGHT {
            self.wait_for_one();
        }
    }

    fn wait_for_one(&mut self) {
        let Some(answer) = self.answers.pop_front() else { return };
        answer.recv().expect("every commit is answered").expect("a commit");
    }

    fn finish(mut self) {
        while !self.answers.is_empty() {
            self.wait_for_one();
        }
    }
}

/// The real program, as systemd would start it.
struct Daemon {
    child: Child,
    started: Instant,
    started_us: i64,
    notify: UnixDatagram,
}

impl Daemon {
    fn start(directory: &Path, sandbox: &Sandbox) -> Daemon {
        let schedule = write_schedule(directory, sandbox);
        let path = directory.join("notify.sock");
        let notify = UnixDatagram::bind(&path).expect("a socket");
        notify.set_read_timeout(Some(PATIENCE)).expect("a socket");
        let (started, started_us) = (now(), wall_micros());
        let child = Command::new(env!("CARGO_BIN_EXE_adjourn"))
            .args([Path::new("daemon"), Path::new("--config"), &schedule])
            .env("SCALE_SECRET", sandbox.secret())
            .env("NOTIFY_SOCKET", &path)
            .env("ADJOURN_LOG", "warn")
            .stdin(Stdio::null())
            .spawn()
            .expect("the daemon starts");
        Daemon { child, started, started_us, notify }
    }

    fn wait_until_ready(&mut self) -> Duration {
        let mut message = [0; 4096];
        loop {
            let length = self.notify.recv(&mut message).expect("the daemon gets ready");
            if String::from_utf8_lossy(&message[..length]).contains("READY=1") {
                return self.started.elapsed();
            }
        }
    }

    fn memory(&self, what: &str) -> u64 {
        memory(&self.child.id().to_string(), what)
    }

    /// Hundredths of a second in the program and in the kernel for it.
    fn cpu_ticks(&self) -> u64 {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id())).expect("it runs");
        let fields = stat.rsplit_once(')').expect("the name is in brackets").1.split_whitespace();
        // Fields 14 and 15 of proc_pid_stat(5); the first here is the third there.
        fields.skip(11).take(2).filter_map(|field| field.parse::<u64>().ok()).sum()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.child.kill().and_then(|()| self.child.wait()).expect("the daemon can be stopped");
    }
}

fn write_schedule(directory: &Path, sandbox: &Sandbox) -> PathBuf {
    let path = directory.join("schedule.toml");
    let text = format!(
        "[daemon]\nstate-dir = {:?}\n[control]\nsocket = {:?}\nmode = \"0600\"\n[servers.campus]\n\
         platform = \"bigbluebutton\"\nurl = {:?}\nsecret = {{ env = \"SCALE_SECRET\" }}\n",
        directory.join("state"),
        directory.join("control.sock"),
        sandbox.url(),
    );
    std::fs::write(&path, text).expect("a schedule file");
    path
}

fn start_sandbox() -> (tokio::runtime::Runtime, Sandbox) {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .expect("a runtime");
    let sandbox = runtime
        .block_on(Sandbox::start(sandbox::Options::new(Arc::new(wall_micros))))
        .expect("the sandbox starts");
    let meeting = NewMeeting { created_ago_ms: 3_600_000, ..NewMeeting::new("late") };
    sandbox.create_meeting(&meeting).expect("a new meeting");
    (runtime, sandbox)
}

/// When the first end call reached the sandbox, in microseconds of the wall clock.
fn wait_for_end(sandbox: &Sandbox) -> i64 {
    let begun = now();
    loop {
        let ends = sandbox.requests(&Asked { call: Some(Call::End), ..Asked::default() });
        if let Some(end) = ends.first() {
            return end.received_us;
        }
        assert!(begun.elapsed() < PATIENCE, "the end call did not come");
        pause(Duration::from_millis(5));
    }
}

fn put(job: &Job, expected: Option<u64>) -> Change {
    Change::Put { job: Box::new(job.clone()), expected }
}

fn order(n: u64, meeting: &str, due: UtcMs) -> Order {
    Order {
        id: id(n),
        server: "campus".into(),
        meeting: meeting.into(),
        only: None,
        key: None,
        limits: Limits::default(),
        at_most: None,
        max_duration: None,
        due,
        origin: Origin::Api,
        by: By::Peer { uid: 1000, pid: Some(4242) },
    }
}

/// Like a UUIDv7: time in front, noise behind.
fn id(n: u64) -> JobId {
    JobId(Uuid::from_u64_pair((n << 16) | 0x7000, n.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 2 | 1 << 63))
}

/// An hour ago: the late job was submitted in time.
fn earlier(at: Now) -> Now {
    Now { wall: at.wall - Duration::from_secs(3600), ..at }
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).expect("short")
}

fn micros_as_secs(us: i64) -> f64 {
    us as f64 / 1_000_000.0
}

fn megabytes(bytes: u64) -> u64 {
    bytes >> 20
}

/// What the files in a directory take on the disk.
fn size_of(directory: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt;
    let Ok(entries) = directory.read_dir() else { return 0 };
    let size = |entry: std::fs::DirEntry| match entry.metadata() {
        Ok(meta) if meta.is_dir() => size_of(&entry.path()),
        // A file that has gone meanwhile has no size.
        meta => meta.map_or(0, |meta| meta.blocks() * 512),
    };
    entries.flatten().map(size).sum()
}

/// In MB.
fn memory(pid: &str, what: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(what));
    line.and_then(|rest| rest.trim().trim_end_matches(" kB").parse::<u64>().ok()).unwrap_or(0) >> 10
}

fn pause(duration: Duration) {
    std::thread::park_timeout(duration);
}

#[expect(clippy::disallowed_methods, reason = "a benchmark measures real time")]
fn now() -> Instant {
    Instant::now()
}
