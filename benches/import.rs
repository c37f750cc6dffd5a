//! How fast do deadlines come in? The release binary, its control socket, a schedule without a server that answers.
//!
//! `cargo bench --bench import -- [LINES]` (default 200,000): durable lines a second of one import, and submits a second
//! of 16 clients; beside it, in the same run, the same bytes written to a file and fdatasync'ed batch by batch.

#![expect(clippy::print_stdout, reason = "the figures are the answer")]
#![expect(clippy::disallowed_methods, reason = "a benchmark measures real time")]

use std::fmt::Write as _;
use std::fs::File;
use std::io::Write;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use reqwest::Client;

/// As the daemon gathers them.
const BATCH_LINES: usize = 512;
const CLIENTS: usize = 16;
const SUBMITS_EACH: usize = 1_000;

fn main() {
    let lines = std::env::args().find_map(|arg| arg.parse().ok()).unwrap_or(200_000);
    let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory");
    let body = body(lines);
    println!("{lines} lines of {} bytes", body.len() / lines);
    let raw = raw(directory.path(), &body);
    println!("bare write and fdatasync of {BATCH_LINES} lines at a time: {raw:.0} lines/s");
    let mut daemon = start(directory.path());
    let socket = directory.path().join("control.sock");
    let client = Client::builder().unix_socket(socket).no_proxy().build().expect("a client");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let rate = runtime.block_on(import(&client, body.clone(), lines));
    println!("import: {rate:.0} durable lines/s, {:.2} x the bare sync", rate / raw);
    let rate = runtime.block_on(import(&client, body, lines));
    println!("the same import again: {rate:.0} known lines/s");
    runtime.block_on(submits(&client));
    println!("{} MB resident", resident_kib(&daemon) / 1024);
    daemon.kill().expect("the daemon runs");
    daemon.wait().expect("the daemon ends");
}

fn body(lines: usize) -> String {
    let mut body = String::new();
    for n in 0..lines {
        writeln!(
            body,
            "{{\"server\":\"campus\",\"meeting\":\"course-{n}\",\"at\":\"2098-{:02}-{:02}T18:00:00Z\",\"key\":\"booking-{n}\"}}",
            n % 12 + 1,
            n % 28 + 1,
        )
        .expect("a string takes all");
    }
    body
}

/// Lines a second.
fn raw(directory: &Path, body: &str) -> f64 {
    let mut file = File::create(directory.join("raw")).expect("a file");
    let lines: Vec<&str> = body.split_inclusive('\n').collect();
    let begun = Instant::now();
    for batch in lines.chunks(BATCH_LINES) {
        file.write_all(batch.concat().as_bytes()).expect("a write");
        file.sync_data().expect("a sync");
    }
    lines.len() as f64 / begun.elapsed().as_secs_f64()
}

fn start(directory: &Path) -> Child {
    let schedule = directory.join("schedule.toml");
    let text = format!(
        "[daemon]\nstate-dir = {:?}\n[control]\nsocket = {:?}\n[servers.campus]\nplatform = \"bigbluebutton\"\n\
         url = \"http://127.0.0.1:1/bigbluebutton/api\"\nsecret = {{ env = \"CAMPUS_SECRET\" }}\n",
        directory.join("state"),
        directory.join("control.sock"),
    );
    std::fs::write(&schedule, text).expect("a schedule");
    let notify = UnixDatagram::bind(directory.join("notify.sock")).expect("a socket");
    let log = File::create(directory.join("daemon.log")).expect("a log");
    let daemon = Command::new(env!("CARGO_BIN_EXE_adjourn"))
        .args(["daemon", "--config"])
        .arg(&schedule)
        .env("CAMPUS_SECRET", "unused")
        .env("NOTIFY_SOCKET", directory.join("notify.sock"))
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()
        .expect("the daemon starts");
    let mut message = [0; 4096];
    let mut length = 0;
    while !String::from_utf8_lossy(&message[..length]).contains("READY=1") {
        length = notify.recv(&mut message).expect("the daemon says when it is ready");
    }
    // Kept open: later messages must not fail.
    std::mem::forget(notify);
    daemon
}

/// Answered lines a second.
async fn import(client: &Client, body: String, lines: usize) -> f64 {
    let begun = Instant::now();
    let answer = client.post("http://adjourn/v1/jobs/import").body(body).send().await.expect("an answer");
    let mut answered = 0;
    let mut chunks = answer.bytes_stream();
    let mut text = Vec::new();
    while let Some(chunk) = chunks.next().await {
        text.extend_from_slice(&chunk.expect("the whole answer"));
    }
    let took = begun.elapsed();
    for line in text.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
        let line: serde_json::Value = serde_json::from_slice(line).expect("an answer is JSON");
        assert!(line["id"].is_string(), "{line}");
        answered += 1;
    }
    assert_eq!(answered, lines);
    lines as f64 / took.as_secs_f64()
}

async fn submits(client: &Client) {
    let begun = Instant::now();
    let one = async |n: usize| {
        let mut took = Vec::new();
        for m in 0..SUBMITS_EACH {
            let body = format!("{{\"server\":\"campus\",\"meeting\":\"single-{n}-{m}\",\"in\":\"9000h\"}}");
            let begun = Instant::now();
            let answer = client.post("http://adjourn/v1/jobs").body(body).send().await.expect("an answer");
            assert_eq!(answer.status(), 201);
            answer.bytes().await.expect("the whole answer");
            took.push(begun.elapsed());
        }
        took
    };
    let all = futures_util::future::join_all((0..CLIENTS).map(one)).await;
    let whole = begun.elapsed();
    let mut took: Vec<Duration> = all.into_iter().flatten().collect();
    took.sort_unstable();
    let at = |percent: usize| took[took.len() * percent / 100];
    println!(
        "{CLIENTS} clients: {:.0} durable submits/s, p50 {:.1?}, p99 {:.1?}",
        took.len() as f64 / whole.as_secs_f64(),
        at(50),
        at(99)
    );
}

fn resident_kib(daemon: &Child) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", daemon.id())).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|rest| rest.trim().trim_end_matches(" kB").parse().ok()).unwrap_or(0)
}
