//! How fast the store makes changes durable, against what the disk can do at all.
//!
//! `cargo bench --bench store` prints durable commits a second and how long one takes, for 1, 16 and 256 clients that
//! each wait for their answer, and the same for a bare `fdatasync` of the same bytes in the same run.
//! `cargo bench --bench store -- large 1000000` fills a store with so many jobs, opens it again and reads from it.

#![expect(clippy::print_stdout, reason = "figures are for reading")]

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::process::ExitCode;
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use adjourn::job::{BootMs, By, Job, JobId, Limits, Now, Order, Origin, UtcMs};
use adjourn::store::{CHECK_ARG, Change, Checker, Filter, Queue, Store, StoreError, check_child_main};
use uuid::Uuid;

/// (clients, commits of each)
const LOADS: [(u64, u64); 3] = [(1, 4_000), (16, 1_000), (256, 100)];
const RAW_WRITES: usize = 4_000;
const FILL_BATCH: u64 = 1_000;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).filter(|arg| arg != "--bench").collect();
    match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [CHECK_ARG, path] => return check_child_main(Path::new(path)),
        ["large", jobs] => large(jobs.parse().expect("a number of jobs")),
        _ => small(),
    }
    ExitCode::SUCCESS
}

fn small() {
    let bytes = serde_json::to_vec(&job(0)).expect("a job is JSON").len();
    println!("a job of {bytes} bytes");
    let raw = raw_syncs(bytes);
    for (clients, each) in LOADS {
        let store = commits(clients, each);
        println!("{clients:>4} clients: {store}, {:.2} x the bare sync", store.rate() / raw.rate());
    }
}

fn commits(clients: u64, each: u64) -> Figures {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory");
    let queue = Queue::open(dir.path(), Checker::Child).expect("a new store opens");
    let begun = now();
    let mut took: Vec<Duration> = std::thread::scope(|scope| {
        let client = |client: u64| {
            let queue = &queue;
            scope.spawn(move || {
                (0..each).map(|n| timed(|| submit(queue, client * each + n))).collect::<Vec<_>>()
            })
        };
        let running: Vec<_> = (0..clients).map(client).collect();
        running.into_iter().flat_map(|client| client.join().expect("a client")).collect()
    });
    took.sort_unstable();
    Figures { took, whole: begun.elapsed() }
}

fn raw_syncs(bytes: usize) -> Figures {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory");
    let mut file = File::create(dir.path().join("raw")).expect("a file");
    let record = vec![b'x'; bytes];
    let begun = now();
    let write = |_| {
        timed(|| {
            file.write_all(&record).expect("a write");
            file.sync_data().expect("a sync");
        })
    };
    let mut took: Vec<Duration> = (0..RAW_WRITES).map(write).collect();
    took.sort_unstable();
    let figures = Figures { took, whole: begun.elapsed() };
    println!("bare fdatasync: {figures}");
    figures
}

fn large(jobs: u64) {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory");
    let queue = Queue::open(dir.path(), Checker::Child).expect("a new store opens");
    let fill = timed(|| {
        for first in (0..jobs).step_by(usize::try_from(FILL_BATCH).expect("small")) {
            let batch = (first..(first + FILL_BATCH).min(jobs)).map(|n| new(job(n))).collect();
            commit(&queue, batch).expect("a commit");
        }
    });
    println!("{jobs} jobs: filled in {fill:.1?}");
    println!("closed in {:.1?}", timed(|| drop(queue)));
    let mut queue = None;
    println!("opened in {:.1?}", timed(|| queue = Queue::open(dir.path(), Checker::Child).ok()));
    let queue = queue.expect("the store opens");
    let last = id(jobs - 1);
    println!("next wake in {:.1?}", timed(|| drop(queue.next_wake(UtcMs(0)))));
    println!("100 due in {:.1?}", timed(|| drop(queue.due_before(UtcMs::MAX, None, 100))));
    println!("by suffix in {:.1?}", timed(|| drop(queue.by_suffix(&last.short(), 2))));
    println!("a page in {:.1?}", timed(|| drop(queue.page(&Filter::default(), None, 100))));
    println!("a commit in {:.1?}", timed(|| submit(&queue, jobs)));
    println!("{} MB resident", resident_kib() / 1024);
}

/// Sorted, and the time from the first to the last.
struct Figures {
    took: Vec<Duration>,
    whole: Duration,
}

impl Figures {
    fn rate(&self) -> f64 {
        self.took.len() as f64 / self.whole.as_secs_f64()
    }
}

impl std::fmt::Display for Figures {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let at = |percent: usize| self.took[self.took.len() * percent / 100];
        write!(f, "{:>6.0}/s, p50 {:.0?}, p99 {:.0?}", self.rate(), at(50), at(99))
    }
}

fn submit(queue: &Queue, n: u64) {
    commit(queue, vec![new(job(n))]).expect("a commit");
}

fn commit(queue: &Queue, batch: Vec<Change>) -> Result<(), StoreError> {
    let (send, receive) = channel();
    queue.commit(batch, Box::new(move |result| send.send(result).expect("somebody waits")));
    receive.recv().expect("every commit is answered")
}

fn new(job: Job) -> Change {
    Change::Put { job: Box::new(job), expected: None }
}

fn job(n: u64) -> Job {
    let order = Order {
        id: id(n),
        server: "campus".into(),
        meeting: format!("meeting-{n}").as_str().into(),
        only: None,
        key: None,
        limits: Limits::default(),
        at_most: None,
        max_duration: None,
        due: UtcMs(1_800_000_000_000 + i64::try_from(n).expect("small") * 7),
        origin: Origin::Api,
        by: By::Peer { uid: 1000, pid: Some(4242) },
    };
    Job::submit(order, Now { wall: UtcMs(1_764_612_000_005), boot: BootMs(900_000) })
}

/// Like a UUIDv7: time in front, noise behind.
fn id(n: u64) -> JobId {
    JobId(Uuid::from_u64_pair((n << 16) | 0x7000, n.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 2 | 1 << 63))
}

fn timed(work: impl FnOnce()) -> Duration {
    let begun = now();
    work();
    begun.elapsed()
}

#[expect(clippy::disallowed_methods, reason = "a benchmark measures real time")]
fn now() -> Instant {
    Instant::now()
}

fn resident_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|rest| rest.trim().trim_end_matches(" kB").parse().ok()).unwrap_or(0)
}
