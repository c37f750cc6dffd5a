//! A store that an earlier version left behind, killed in the middle of its work, is taken over and finished.
//!
//! `tests/fixtures/upgrade/make.py` made the store. The test puts the clock to the moment at which that daemon was killed
//! (as `clock.rs` does), and simulates the same servers with the same runs of the same meetings; what became of them
//! meanwhile is the test's choice.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};

use adjourn::clock;
use adjourn::job::UtcMs;
use adjourn::sandbox::{Asked, Call, Front, NewMeeting, Options, Sandbox, Settings, TimeSource};
use serde::Deserialize;
use tokio::runtime::Runtime;

use crate::harness::{Bed, Plan};

/// The store of format 2.
const BEFORE: &str = "v2";
/// As the store has it; sled refuses files that were made with another one.
const SEGMENT_BYTES: usize = 2 << 20;
const SECOND_MS: i64 = 1_000;
const MINUTE_MS: i64 = 60 * SECOND_MS;
/// What was left for later is due so long after the moment of the kill.
const LATER_MS: i64 = 10 * MINUTE_MS;

/// What `make.py` wrote beside the store.
#[derive(Deserialize)]
struct Left {
    /// When the daemon was killed, milliseconds.
    moment: i64,
    meetings: BTreeMap<String, LeftMeeting>,
    jobs: BTreeMap<String, LeftJob>,
    /// The time of the entry `exam` in the schedule file.
    exam: String,
}

#[derive(Deserialize)]
struct LeftMeeting {
    instance: String,
    created_at: i64,
}

#[derive(Deserialize)]
struct LeftJob {
    id: String,
    state: String,
    /// Milliseconds.
    due: i64,
    outcome: Option<String>,
    reason: String,
    ends: u64,
}

fn fixture(name: &str) -> String {
    format!("{}/tests/fixtures/upgrade/{name}", env!("CARGO_MANIFEST_DIR"))
}

/// The servers of the fixture, at its moment, and its store.
struct World {
    left: Left,
    bed: Bed,
    pool: Sandbox,
    away: Sandbox,
    clock: Arc<Mutex<Shown>>,
    // Last: it serves the sandboxes above.
    _runtime: Runtime,
}

/// What clock the servers show.
enum Shown {
    Stopped { at_ms: i64 },
    Off { ms: i64 },
}

impl Shown {
    fn micros(&self) -> i64 {
        match self {
            Shown::Stopped { at_ms } => at_ms * 1_000,
            Shown::Off { ms } => clock::wall_micros() + ms * 1_000,
        }
    }
}

impl World {
    /// All is as it was at the moment of the kill, but for the meetings that are `over` by now.
    fn at_the_moment_of(name: &str, over: &[&str]) -> World {
        let left = std::fs::read_to_string(fixture(&format!("{name}.json"))).unwrap();
        let left: Left = serde_json::from_str(&left).unwrap();
        let clock = Arc::new(Mutex::new(Shown::Stopped { at_ms: left.moment }));
        let shown = clock.clone();
        let now: TimeSource = Arc::new(move || shown.lock().unwrap().micros());
        let bed = Plan { now: Some(now.clone()), ..Plan::default() }.lay();
        let runtime = Runtime::new().unwrap();
        let sandbox = |front| {
            let mut options = Options::new(now.clone());
            options.settings = Settings { front, ..Settings::default() };
            runtime.block_on(Sandbox::start(options)).unwrap()
        };
        let (pool, away) = (sandbox(Front::Scalelite), sandbox(Front::Direct));
        let world = World { left, bed, pool, away, clock, _runtime: runtime };
        for (meeting, run) in &world.left.meetings {
            let done = world.left.jobs[meeting].outcome.is_some();
            if !done && !over.contains(&meeting.as_str()) {
                let same = world.create(meeting, world.left.moment - run.created_at);
                assert_eq!(same, run.instance, "another run of {meeting}");
            }
        }
        world.create("unreachable", 10 * MINUTE_MS);
        world.write_schedule();
        unpack(&fixture(&format!("{name}.tar.gz")), world.bed.directory.path());
        world
    }

    fn sandbox(&self, meeting: &str) -> &Sandbox {
        match meeting {
            "unreachable" => &self.away,
            _ if meeting.starts_with("pool") => &self.pool,
            _ => &self.bed.sandbox,
        }
    }

    /// Gives the instance.
    fn create(&self, meeting: &str, ago_ms: i64) -> String {
        let created_ago_ms = ago_ms.try_into().unwrap();
        let new = NewMeeting { participants: 3, created_ago_ms, ..NewMeeting::new(meeting) };
        self.sandbox(meeting).create_meeting(&new).unwrap()
    }

    /// The file that the store was made with, but for the addresses.
    fn write_schedule(&self) {
        let server = |name: &str, url: &str| {
            format!(
                "[servers.{name}]\nplatform = \"bigbluebutton\"\nurl = {url:?}\nsecret = {{ env = \"CAMPUS_SECRET\" }}\n"
            )
        };
        let servers = server("pool", &self.pool.url()) + &server("away", &self.away.url());
        let exam = &self.left.exam;
        let extra = format!(
            "{servers}\
             [[end]]\nname = \"exam\"\nserver = \"campus\"\nmeeting = \"exam\"\nat = {exam:?}\n\
             [[rule]]\nname = \"long-rooms\"\nserver = \"campus\"\nmatch = \"rule-*\"\nmax-duration = \"4h\"\n\
             dry-run = false\n"
        );
        self.bed.write_schedule("", &extra);
    }

    /// The clock of servers and daemon goes on, so long after the moment.
    fn set_clock(&self, after_ms: i64) {
        let directory = self.bed.path("clock");
        std::fs::create_dir_all(&directory).unwrap();
        let off = self.left.moment + after_ms - clock::wall_micros() / 1_000;
        let aside = directory.join("off.new");
        std::fs::write(&aside, off.to_string()).unwrap();
        std::fs::rename(&aside, directory.join("off")).unwrap();
        *self.clock.lock().unwrap() = Shown::Off { ms: off };
    }

    fn start_daemon(&mut self) {
        let off = self.bed.path("clock/off");
        self.bed.start_daemon_as(|mut daemon| {
            daemon.env("ADJOURN_TEST_CLOCK", off);
            daemon
        });
    }

    fn id(&self, job: &str) -> String {
        self.left.jobs[job].id.clone()
    }

    fn state(&self) -> PathBuf {
        self.bed.path("state")
    }

    /// The end calls that this version made at any run of the meeting.
    fn calls(&self, meeting: &str) -> usize {
        let truth = self.sandbox(meeting).truth(&Asked::default());
        truth.instances(meeting).iter().map(|run| run.hits.len()).sum()
    }

    /// Waits for the outcome.
    #[track_caller]
    fn comes_to(&self, job: &str, outcome: &str, calls: usize) {
        self.comes_to_any(job, &[outcome], calls);
    }

    #[track_caller]
    fn comes_to_any(&self, job: &str, outcomes: &[&str], calls: usize) {
        let shown = self.bed.outcome(&self.id(job));
        assert!(outcomes.iter().any(|outcome| shown["outcome"] == *outcome), "{job}: {shown:#}");
        assert_eq!(self.calls(job), calls, "end calls at {job}: {shown:#}");
        let before = self.left.jobs[job].ends;
        assert!(shown["ends"].as_u64().unwrap() >= before + calls as u64, "{job}: {shown:#}");
    }
}

/// As a restored backup, but with the owner who runs this.
fn unpack(archive: &str, into: &Path) {
    std::fs::create_dir(into.join("state")).unwrap();
    let mut tar = Command::new("tar");
    tar.args(["--no-same-owner", "-xzf", archive, "-C"]).arg(into);
    assert!(tar.status().unwrap().success(), "tar could not unpack {archive}");
}

/// Meetings that went away between the kill and the start.
const OVER: [&str; 5] =
    ["armed-next-class", "claimed-took-effect", "confirming-gone", "guarding", "pool-forgotten"];

#[test]
fn a_store_of_the_version_before_is_taken_over_and_finished() {
    let mut world = World::at_the_moment_of(BEFORE, &OVER);
    world.set_clock(SECOND_MS);
    world.create("not-begun", 31 * MINUTE_MS);
    // Their users have opened them again. The one deadline is done, the other one keeps its meeting closed.
    world.create("ended", 0);
    world.create("guarding", 0);
    world.start_daemon();
    what_was_done_is_as_it_was(&world);
    world.bed.json(&["release", &world.id("held")]);
    world.bed.json(&["release", &world.id("held-past-due"), "--now"]);

    let armed = UtcMs(world.left.jobs["armed"].due);
    world.bed.wait_for("what was armed is due", |truth| truth.now > armed);
    world.create("armed-next-class", 0);
    what_was_at_work_is_finished(&world);
    what_was_left_for_later_ends_then(&world);
    the_guard_ends_with_its_time(&mut world);
    nothing_acted_twice(&world);
}

#[track_caller]
fn what_was_done_is_as_it_was(world: &World) {
    for (name, job) in world.left.jobs.iter().filter(|(_, job)| job.outcome.is_some()) {
        let shown = world.bed.show(&job.id);
        let found = (shown["state"].as_str(), shown["outcome"].as_str(), shown["reason"].as_str());
        let wanted = (Some(job.state.as_str()), job.outcome.as_deref(), Some(job.reason.as_str()));
        assert_eq!(found, wanted, "{name}: {shown:#}");
    }
    let same = world.bed.json(&["end", "campus", "ended", "--in", "5s", "--key", "booking-4711"]);
    assert_eq!(same["id"], world.id("ended"), "the key is known: {same:#}");
}

fn what_was_at_work_is_finished(world: &World) {
    world.comes_to("claimed-not-sent", "ended", 1);
    world.comes_to("claimed-no-effect", "ended", 1);
    world.comes_to("claimed-took-effect", "ended", 0);
    world.comes_to("ending-line-cut", "ended", 1);
    // Nobody can tell whether the server has lost its state: no other meeting was seen on it before.
    world.comes_to_any("unreachable", &["ended", "unconfirmed"], 1);
    world.comes_to("confirming-gone", "ended", 0);
    world.comes_to("confirming-alive", "ended", 1);
    world.comes_to("pool-confirming", "ended", 1);
    // Whether the call before the kill was the one that ended it, a balancer cannot tell.
    world.comes_to_any("pool-claimed", &["ended", "unconfirmed"], 1);
    world.comes_to("armed", "ended", 1);
    world.comes_to("armed-next-class", "already-over", 0);
    world.comes_to("pool-armed", "ended", 1);
    world.comes_to("held-past-due", "ended", 1);
    // Its start tells when it is due: that was while the daemon was down.
    world.comes_to("not-begun", "ended", 1);
}

fn what_was_left_for_later_ends_then(world: &World) {
    let later = ["waiting", "warned", "long", "held", "exam", "rule-1"];
    for name in later {
        let job = world.bed.show(&world.id(name));
        assert_eq!((&job["state"], world.calls(name)), (&"waiting".into(), 0), "{name}: {job:#}");
    }
    world.set_clock(LATER_MS);
    for name in later {
        world.comes_to(name, "ended", 1);
    }
    world.comes_to_any("pool-forgotten", &["already-over", "vanished"], 0);
    let told = world.sandbox("warned").truth(&Asked::default());
    assert_eq!(told.counters.of(Call::SendChatMessage), 0, "the people were told before");
}

/// The length of a guard is counted on a clock that no step moves, and worked out anew at a start.
fn the_guard_ends_with_its_time(world: &mut World) {
    let guarding = world.id("guarding");
    world.bed.wait_for("the reopened meeting is closed", |truth| {
        truth.instances("guarding").iter().all(|run| !run.alive())
    });
    world.bed.kill_daemon();
    world.start_daemon();
    world.comes_to("guarding", "ended", 1);
    assert_eq!(world.bed.show(&guarding)["state"], "done");
}

fn nothing_acted_twice(world: &World) {
    let quiet = ["ended", "already-over", "absent", "cancelled", "pool-ended", "pool-forgotten"];
    for name in quiet {
        assert_eq!(world.calls(name), 0, "end calls at {name}");
    }
    let status = world.bed.json(&["status"]);
    assert!(status["store"]["repaired"].is_null(), "{status:#}");
    let (code, said) = world.bed.says(&["audit", "verify", "--config", "schedule.toml"]);
    assert_eq!(code, 0, "{said}");
}

/// Each of the two copies brings the other one back, also when both are of the format before.
#[test]
fn half_a_store_of_the_version_before_is_enough() {
    for lost in ["queue", "journal"] {
        let mut world = World::at_the_moment_of(BEFORE, &[]);
        std::fs::remove_dir_all(world.state().join(lost)).unwrap();
        world.set_clock(SECOND_MS);
        world.start_daemon();
        what_was_done_is_as_it_was(&world);
        let repaired = &world.bed.json(&["status"])["store"]["repaired"];
        assert!(repaired.as_str().unwrap().contains(lost), "{repaired}");
        for (name, job) in world.left.jobs.iter().filter(|(_, job)| job.state == "held") {
            let shown = world.bed.show(&job.id);
            assert_eq!((&shown["state"], shown["meeting"].as_str()), (&"held".into(), Some(name.as_str())));
        }
    }
}

#[test]
fn a_store_of_a_newer_version_is_refused_in_a_sentence() {
    let mut world = World::at_the_moment_of(BEFORE, &[]);
    let queue = world.state().join("queue/000001");
    let db = sled::Config::new().path(queue).segment_size(SEGMENT_BYTES).open().unwrap();
    db.insert("meta/format", 99_u32.to_be_bytes().to_vec()).unwrap();
    drop(db);
    let code = world.bed.try_start_daemon(|daemon| daemon);
    assert_eq!(code, Err(Some(78)), "{}", world.bed.log());
    let said = world.bed.log();
    assert!(said.contains("was written by a newer adjourn (format 99, this one knows "), "{said}");
    let untouched = std::fs::read_to_string(world.state().join("queue/CURRENT")).unwrap();
    assert_eq!(untouched.trim(), "000001");
    assert!(!world.state().join("set-aside").exists(), "{said}");
}
