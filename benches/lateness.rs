//! How late does an end call reach the server? Deadlines spread over a minute against the sandbox on loopback; lateness is
//! from due to the moment when the sandbox began to handle the request, in microseconds.
//!
//! `cargo bench --bench lateness -- [JOBS] [SECONDS]` (default 1000 jobs over 60 s).

#![expect(clippy::print_stdout, reason = "the figures are the answer")]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use adjourn::clock::{system_now, wall_micros};
use adjourn::config::settings::{PlatformSettings, ServerSettings, Settings};
use adjourn::daemon::{Daemon, Options};
use adjourn::engine::api::{Service, Submission, When};
use adjourn::job::{By, Limits, LimitsPatch, Origin, UtcMs};
use adjourn::platform::bigbluebutton;
use adjourn::platform::network::Network;
use adjourn::sandbox::{self, Asked, Call, NewMeeting, Sandbox};
use adjourn::store::Checker;

/// The first deadline is this far away, so that every job is armed.
const LEAD: Duration = Duration::from_secs(12);

fn main() {
    let numbers: Vec<u64> = std::env::args().filter_map(|arg| arg.parse().ok()).collect();
    let (jobs, seconds) = (numbers.first().copied().unwrap_or(1_000), numbers.get(1).copied().unwrap_or(60));
    // The sandbox has a runtime of its own, as a server would.
    let server = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .expect("a runtime");
    let sandbox = server
        .block_on(Sandbox::start(sandbox::Options::new(Arc::new(wall_micros))))
        .expect("the sandbox starts");
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(measure(&sandbox, jobs, seconds));
}

async fn measure(sandbox: &Sandbox, jobs: u64, seconds: u64) {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let daemon = start(sandbox, directory.path()).await;
    let start = system_now().wall + LEAD;
    let mut due_of = BTreeMap::new();
    for n in 0..jobs {
        let meeting = format!("meeting-{n}");
        sandbox.create_meeting(&NewMeeting::new(&meeting)).expect("a new meeting");
        let due = start + Duration::from_millis(seconds * 1_000 * n / jobs);
        daemon.handle.submit(submission(&meeting, due)).await.expect("a deadline");
        due_of.insert(meeting, due);
    }
    let last = start + Duration::from_secs(seconds + 8);
    while system_now().wall < last {
        let pause = Duration::from_millis(u64::try_from(last.ms_since(system_now().wall)).unwrap_or(0));
        // Nothing ever arrives: the end of the wait is all there is to hear.
        let _ = tokio::time::timeout(pause, std::future::pending::<()>()).await;
    }
    let ends = sandbox.requests(&Asked { call: Some(Call::End), ..Asked::default() });
    let mut late: Vec<i64> = ends
        .iter()
        .filter_map(|record| {
            let truth = sandbox.truth(&Asked { since: u64::MAX, ..Asked::default() });
            let instance = record.instance.as_ref()?;
            let meeting =
                truth.meetings.iter().find(|m| m.instances.iter().any(|i| i.internal_id == *instance))?;
            Some(record.received_us - due_of[&meeting.meeting_id].0 * 1_000)
        })
        .collect();
    let early = late.iter().filter(|us| **us < 0).count();
    print(&format!("due to received, {} of {jobs} end calls, {early} early", late.len()), &mut late);
    let mut bare = bare_requests(sandbox).await;
    print("of that, a bare request on a warm connection to the sandbox", &mut bare);
    let counters = sandbox.counters();
    println!(
        "requests: {} end, {} getMeetings, {} getMeetingInfo, {} in all",
        counters.of(Call::End),
        counters.of(Call::GetMeetings),
        counters.of(Call::GetMeetingInfo),
        counters.total
    );
    daemon.drain().await;
}

async fn start(sandbox: &Sandbox, directory: &std::path::Path) -> Daemon {
    let platform = PlatformSettings::BigBlueButton(bigbluebutton::Settings {
        url: sandbox.url().parse().expect("the sandbox's address"),
        network: Network::default(),
        secret: sandbox.secret().to_owned().into(),
        checksum: bigbluebutton::Algorithm::Sha256,
        front: bigbluebutton::Front::Auto,
        believe: bigbluebutton::Believe::Proof,
        instance_ids: None,
        nodes: Vec::new(),
    });
    let server = ServerSettings { platform, limits: Limits::default(), max_concurrent: 16 };
    let settings = Settings {
        state_dir: directory.join("state"),
        retention: Duration::from_secs(3600),
        socket: directory.join("control.sock"),
        socket_mode: 0o600,
        socket_group: None,
        servers: BTreeMap::from([("campus".into(), server)]),
        schedule: Arc::default(),
    };
    let reread = Arc::new(|| Err("no schedule file".to_owned()));
    let options = Options { settings, reread, checker: Checker::Child, config: Vec::new(), inherited: None };
    Daemon::start(options).await.expect("the daemon starts")
}

fn submission(meeting: &str, due: UtcMs) -> Submission {
    Submission {
        server: "campus".into(),
        meeting: meeting.into(),
        when: When::At(due),
        max_duration: None,
        only: None,
        limits: LimitsPatch::default(),
        key: None,
        hold: None,
        origin: Origin::Api,
        by: By::Peer { uid: 0, pid: None },
    }
}

/// From just before a request is sent to the moment when the sandbox handles it.
async fn bare_requests(sandbox: &Sandbox) -> Vec<i64> {
    let client = reqwest::Client::new();
    let mut took = Vec::new();
    for _ in 0..500 {
        let since = sandbox.requests(&Asked::default()).last().map_or(0, |record| record.n);
        let sent = wall_micros();
        let answer = client.get(sandbox.url()).send().await.expect("the sandbox answers");
        answer.bytes().await.expect("the sandbox answers");
        let records = sandbox.requests(&Asked { since, ..Asked::default() });
        took.extend(records.iter().map(|record| record.received_us - sent));
    }
    took
}

fn print(what: &str, us: &mut [i64]) {
    us.sort_unstable();
    let at = |percent: usize| us.get(us.len().saturating_sub(1) * percent / 100).copied().unwrap_or(0);
    let ms = |us: i64| us as f64 / 1_000.0;
    println!("{what}: p50 {:.2} ms, p99 {:.2} ms, max {:.2} ms", ms(at(50)), ms(at(99)), ms(at(100)));
}
