//! How long does a reload take at the sizes that it is made for? The release binary, 20 servers that do not answer.
//!
//! `cargo bench --bench reload -- [DONE] [RULES]`: 9,000 entries with a time, 1,000 with `cron` and RULES (default 500) rules,
//! on a store that has DONE (default 90,000) jobs of recurring entries behind it: all new, the same again, a dry run, every time edited. Beside
//! each, the longest time that the engine took to answer a request meanwhile.

#![expect(clippy::print_stdout, reason = "the figures are the answer")]
#![expect(clippy::disallowed_methods, reason = "a benchmark measures real time")]

use std::fmt::Write as _;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use adjourn::clock::system_now;
use adjourn::job::{By, Fact, Job, JobId, Key, Limits, Now, Order, Origin, Outcome, UtcMs};
use adjourn::store::{CHECK_ARG, Change, Checker, Queue, Store, check_child_main};
use reqwest::Client;
use serde_json::{Value, json};
use uuid::Uuid;

const SERVERS: usize = 20;
const TIMED: usize = 9_000;
const RECURRING: usize = 1_000;
const BATCH: u64 = 1_000;
/// Between two looks at the engine.
const LOOK_EVERY: Duration = Duration::from_millis(2);

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).filter(|arg| arg != "--bench").collect();
    if args.first().is_some_and(|arg| arg == CHECK_ARG) {
        return check_child_main(Path::new(&args[1]));
    }
    let number = |n: usize, default| args.get(n).map_or(default, |arg| arg.parse().expect("a number"));
    let (done, rules) = (number(0, 90_000), number(1, 500));
    let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory");
    load(&directory.path().join("state"), done);
    write_schedule(directory.path(), None, 0);
    let mut daemon = start(directory.path());
    let socket = directory.path().join("control.sock");
    let client = Client::builder().unix_socket(socket).no_proxy().build().expect("a client");
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let runtime = runtime.expect("a runtime");
    println!(
        "{done} done jobs; {TIMED} entries with a time, {RECURRING} with cron, {rules} rules, {SERVERS} servers"
    );
    println!("| reload | took | changes | slowest answer of the engine meanwhile |");
    println!("|---|---|---|---|");
    let plain = json!({});
    let steps = [
        ("all new", Some(0), &plain),
        ("the same again", None, &plain),
        ("a dry run of that", None, &json!({"dry-run": true})),
        ("every time edited", Some(30), &plain),
        ("all gone", Some(-1), &plain),
    ];
    for (what, shift, body) in steps {
        match shift {
            Some(-1) => write_schedule(directory.path(), None, 0),
            Some(_) => write_schedule(directory.path(), shift, rules),
            None => {}
        }
        runtime.block_on(reload(&client, what, body));
    }
    daemon.kill().expect("the daemon runs");
    daemon.wait().expect("the daemon ends");
    ExitCode::SUCCESS
}

async fn reload(client: &Client, what: &str, body: &Value) {
    let looks = tokio::spawn(look_at_the_engine(client.clone()));
    let begun = Instant::now();
    let answer = client.post("http://adjourn/v1/reload").json(body).send().await.expect("an answer");
    assert!(answer.status().is_success(), "{}", answer.text().await.expect("a text"));
    let answer: Value = answer.json().await.expect("JSON");
    let took = begun.elapsed();
    looks.abort();
    // It ends only by that.
    let _ = looks.await;
    let slowest = Duration::from_micros(SLOWEST_US.load(Ordering::Relaxed));
    let changes = answer["changes"].as_array().map_or(0, Vec::len);
    println!("| {what} | {took:.2?} | {changes} | {slowest:.2?} |");
}

static SLOWEST_US: AtomicU64 = AtomicU64::new(0);

/// Again and again: what only the engine's loop can answer.
async fn look_at_the_engine(client: Client) {
    SLOWEST_US.store(0, Ordering::Relaxed);
    loop {
        let begun = Instant::now();
        let answer = client.get("http://adjourn/v1/status").send().await.expect("an answer");
        answer.bytes().await.expect("a body");
        let took = u64::try_from(begun.elapsed().as_micros()).expect("short");
        SLOWEST_US.fetch_max(took, Ordering::Relaxed);
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// What recurring entries have left behind within the retention.
fn load(state: &Path, jobs: u64) {
    let queue = Queue::open(state, Checker::Child).expect("a new store opens");
    let now = system_now();
    for first in (0..jobs).step_by(usize::try_from(BATCH).expect("small")) {
        let (send, receive) = channel();
        let ids = first..(first + BATCH).min(jobs);
        let batch = ids.map(|n| Change::Put { job: Box::new(done(n, now)), expected: None }).collect();
        queue.commit(batch, Box::new(move |result| send.send(result).expect("somebody waits")));
        receive.recv().expect("every commit is answered").expect("a commit");
    }
}

/// The `n`th job: of one of the recurring entries, on one of the days before.
fn done(n: u64, now: Now) -> Job {
    let recurring = RECURRING as u64;
    let (entry, days_ago) = (n % recurring, n / recurring + 2);
    let due = UtcMs(now.wall.0 - i64::try_from(days_ago * 86_400_000).expect("small"));
    let at = Now { wall: due, ..now };
    let name = format!("recurring-{entry}@{}", due.timestamp().strftime("%Y-%m-%dT%H:%M[UTC]"));
    let meeting = format!("recurring-{entry}-room");
    let key = format!("schedule:{name}\u{1f}{meeting}\u{1f}\u{1f}{}", due.0);
    let mut job = Job::submit(
        Order {
            id: JobId(Uuid::from_u64_pair(
                (n << 16) | 0x7000,
                n.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 2 | 1 << 63,
            )),
            server: server(usize::try_from(entry).expect("small")).as_str().into(),
            meeting: meeting.as_str().into(),
            only: None,
            key: Some(Key { key, fingerprint: String::new() }),
            limits: Limits::default(),
            at_most: None,
            max_duration: None,
            due,
            origin: Origin::Schedule { name, of: Some(format!("recurring-{entry}")), planned: due },
            by: By::Schedule,
        },
        at,
    );
    job.record(at, Fact::Concluded { outcome: Outcome::Ended, reason: "proven gone".to_owned() });
    job
}

fn server(n: usize) -> String {
    format!("server-{}", n % SERVERS)
}

/// `second`: of all times; `None`: there are no entries.
fn write_schedule(directory: &Path, second: Option<i64>, rules: u64) {
    let mut text = format!(
        "[daemon]\nstate-dir = {:?}\n[control]\nsocket = {:?}\n",
        directory.join("state"),
        directory.join("control.sock"),
    );
    let add = |text: &mut String, more: std::fmt::Arguments<'_>| {
        text.write_fmt(more).expect("a string takes all");
    };
    for n in 0..SERVERS {
        add(
            &mut text,
            format_args!(
                "[servers.{}]\nplatform = \"bigbluebutton\"\nurl = \"http://127.0.0.1:1/bigbluebutton/api\"\n\
                 secret = {{ env = \"CAMPUS_SECRET\" }}\n",
                server(n)
            ),
        );
    }
    for n in 0..second.map_or(0, |_| TIMED) {
        let (server, month, day) = (server(n), n % 12 + 1, n % 28 + 1);
        let (minute, second) = (n % 60, second.unwrap_or(0));
        add(
            &mut text,
            format_args!(
                "[[end]]\nname = \"timed-{n}\"\nserver = \"{server}\"\nmeeting = \"timed-{n}-room\"\n\
                 at = 2098-{month:02}-{day:02}T18:{minute:02}:{second:02}Z\n"
            ),
        );
    }
    for n in 0..second.map_or(0, |_| RECURRING) {
        let (server, minute) = (server(n), n % 60);
        add(
            &mut text,
            format_args!(
                "[[end]]\nname = \"recurring-{n}\"\nserver = \"{server}\"\nmeeting = \"recurring-{n}-room\"\n\
                 cron = \"{minute} 18 * * *\"\ntimezone = \"Europe/Berlin\"\n"
            ),
        );
    }
    for n in 0..rules {
        let server = server(usize::try_from(n).expect("small"));
        add(
            &mut text,
            format_args!(
                "[[rule]]\nname = \"rule-{n}\"\nserver = \"{server}\"\nmatch = [\"room-{n}-*\"]\n\
                 max-duration = \"4h\"\n"
            ),
        );
    }
    std::fs::write(directory.join("schedule.toml"), text).expect("a schedule");
}

#[expect(clippy::zombie_processes, reason = "whoever starts it waits for it")]
fn start(directory: &Path) -> Child {
    let path = directory.join("notify.sock");
    let notify = UnixDatagram::bind(&path).expect("a socket");
    notify.set_read_timeout(Some(Duration::from_secs(60))).expect("a socket");
    let begun = Instant::now();
    let child = Command::new(env!("CARGO_BIN_EXE_adjourn"))
        .args([Path::new("daemon"), Path::new("--config"), &directory.join("schedule.toml")])
        .env("CAMPUS_SECRET", "never asked")
        .env("NOTIFY_SOCKET", &path)
        .env("ADJOURN_LOG", "error")
        .stdin(Stdio::null())
        .spawn()
        .expect("the daemon starts");
    let mut message = [0; 4096];
    loop {
        let length = notify.recv(&mut message).expect("the daemon gets ready");
        if String::from_utf8_lossy(&message[..length]).contains("READY=1") {
            println!("ready after {:.2?}", begun.elapsed());
            return child;
        }
    }
}
