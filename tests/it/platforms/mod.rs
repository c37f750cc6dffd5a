//! The platforms whose meetings run as sessions: the same promises, on each of them.
//!
//! A [`Site`] is a bed with a second server in its schedule, `cloud`, beside the BigBlueButton of every bed.

mod realtimekit;
mod videosdk;

use std::any::Any;
use std::sync::Arc;
use std::time::Duration;

use adjourn::clock;
use adjourn::job::UtcMs;
use adjourn::sandbox::realtimekit as rtk;
use adjourn::sandbox::sessions::{
    Asked, Call, Control, Counters, Fault, FaultOrder, NewMeeting, SessionTruth, Truth,
};
use adjourn::sandbox::videosdk as sdk;
use serde_json::Value;
use tokio::runtime::Runtime;

use crate::harness::{Bed, PATIENCE, Plan, id_of};

/// What `platform` says in the schedule file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kind {
    VideoSdk,
    VideoSdkV1,
    RealtimeKit,
    Legacy,
}

struct Site {
    bed: Bed,
    cloud: Control,
    _server: Box<dyn Any>,
    runtime: Option<Runtime>,
}

impl Site {
    fn start(kind: Kind) -> Site {
        Site::with(kind, "")
    }

    /// `lines` are more keys of `[servers.cloud]`.
    fn with(kind: Kind, lines: &str) -> Site {
        let mut site = Site::lay(kind, lines, "");
        site.bed.start_daemon();
        site
    }

    /// Without a daemon; `extra` is the end of the schedule.
    fn lay(kind: Kind, lines: &str, extra: &str) -> Site {
        let bed = Plan::default().lay();
        let runtime = Runtime::new().unwrap();
        let (cloud, server, keys, secret) = runtime.block_on(serve(kind));
        let file = bed.path("cloud-secret");
        std::fs::write(&file, secret).unwrap();
        let keys = keys.replace("SECRET", &format!("{{ file = {file:?} }}"));
        let extra = format!("[servers.cloud]\n{keys}\n{lines}\n{extra}");
        bed.write_schedule("", &extra);
        Site { bed, cloud, _server: server, runtime: Some(runtime) }
    }

    /// A session that has been live for a minute: it belongs to the deadline also where nobody looked before due.
    fn create(&self, meeting: &str) -> String {
        let new = NewMeeting { participants: 2, started_ago_ms: 60_000, ..NewMeeting::new(meeting) };
        self.cloud.create_meeting(&new).unwrap()
    }

    fn fault(&self, order: FaultOrder) {
        self.cloud.set_fault(order).unwrap();
    }

    #[track_caller]
    fn end_in(&self, meeting: &str, pause: &str) -> String {
        id_of(&self.bed.json(&["end", "cloud", meeting, "--in", pause]))
    }

    /// One deadline of a meeting that is live, under these faults, to its outcome.
    #[track_caller]
    fn outcome_of(&self, meeting: &str) -> Value {
        let job = self.bed.outcome(&self.end_in(meeting, "1s"));
        self.check(&job);
        job
    }

    fn truth(&self) -> Truth {
        self.cloud.truth(&Asked::default())
    }

    fn session(&self, id: &str) -> SessionTruth {
        self.truth().session(id).expect("the sandbox knows the session").clone()
    }

    #[track_caller]
    fn wait_for(&self, what: &str, holds: impl Fn(&Truth) -> bool) {
        let start = clock::system_now();
        while !holds(&self.truth()) {
            let waited = clock::system_now().since(start);
            assert!(waited < PATIENCE, "waited in vain until {what}\n{}", self.bed.log());
            // The truth changes with time alone, too: there is no event to wait for.
            std::thread::park_timeout(Duration::from_millis(5));
        }
    }

    /// The invariants that can be checked from outside, for one job.
    #[track_caller]
    fn check(&self, job: &Value) {
        let at = |key: &str| job[key].as_str().map(|at| UtcMs::from(at.parse::<jiff::Timestamp>().unwrap()));
        let due = at("due").unwrap();
        let over = matches!(job["outcome"].as_str(), Some("ended" | "already-over" | "absent"));
        for session in self.truth().sessions(job["meeting"].as_str().unwrap()) {
            assert!(session.hits.iter().all(|hit| hit.at >= due), "ended early: {session:?}\n{job:#}");
            if session.started_at >= due {
                assert!(session.hits.is_empty(), "the next class was hit: {session:?}\n{job:#}");
            } else if over {
                let ended = session.ended_at.unwrap_or_else(|| panic!("{session:?} is live\n{job:#}"));
                assert!(Some(ended) <= at("proven_at"), "proven before it was over: {session:?}\n{job:#}");
            }
        }
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// The server, the keys of its table, and what belongs in the place of SECRET.
async fn serve(kind: Kind) -> (Control, Box<dyn Any>, String, String) {
    match kind {
        Kind::VideoSdk | Kind::VideoSdkV1 => {
            let server = sdk::Sandbox::start(sdk::Options::new(Arc::new(clock::wall_micros))).await.unwrap();
            let sdk::Settings { api_key, secret, .. } = server.settings().clone();
            let platform = if kind == Kind::VideoSdk { "videosdk" } else { "videosdk-v1" };
            let url = server.url();
            let keys =
                format!("platform = {platform:?}\nurl = {url:?}\napi-key = {api_key:?}\nsecret = SECRET");
            (server.control().clone(), Box::new(server), keys, secret)
        }
        Kind::RealtimeKit | Kind::Legacy => {
            let server = rtk::Sandbox::start(rtk::Options::new(Arc::new(clock::wall_micros))).await.unwrap();
            let settings = server.settings().clone();
            let rtk::Settings { account_id, app_id, organization_id, .. } = &settings;
            let (keys, secret) = match kind {
                Kind::RealtimeKit => (
                    format!(
                        "platform = \"realtimekit\"\nurl = {:?}\naccount-id = {account_id:?}\napp-id = {app_id:?}\ntoken = SECRET",
                        server.url()
                    ),
                    settings.token,
                ),
                _ => (
                    format!(
                        "platform = \"realtimekit-legacy\"\nurl = {:?}\norganization-id = {organization_id:?}\nsecret = SECRET",
                        server.legacy_url()
                    ),
                    settings.api_key,
                ),
            };
            (server.control().clone(), Box::new(server), keys, secret)
        }
    }
}

fn it_ends_on_time_and_is_proven(kind: Kind) {
    let site = Site::start(kind);
    let session = site.create("maths");
    let job = site.outcome_of("maths");
    assert_eq!(job["outcome"], "ended", "{kind:?}: {job:#}");
    assert_eq!(job["instance"], Value::from(session.as_str()));
    assert_eq!(site.session(&session).hits.len(), 1, "{job:#}");
}

/// The room is closed right before the end, and nobody comes back.
fn a_lock_goes_before_the_end(kind: Kind, lock: &str) {
    let site = Site::with(kind, &format!("lock = {lock:?}\n"));
    site.create("maths");
    site.fault(Fault::Recreate { after_ms: 50, participants: 2 }.everywhere());
    let job = site.outcome_of("maths");
    assert_eq!(job["outcome"], "ended", "{kind:?}: {job:#}");
    let truth = site.truth();
    assert!(truth.meetings.iter().any(|meeting| meeting.locked), "{truth:?}");
    assert_eq!(truth.sessions("maths").len(), 1, "nobody came back: {truth:?}");
    let first = |call: Call| truth.requests.iter().find(|record| record.call == call).map(|record| record.n);
    assert!(first(Call::Lock) < first(Call::End), "{truth:?}");
    let (code, said) = site.bed.says(&["unlock", "cloud", "maths"]);
    assert_eq!(code == 0, lock == "reversible", "{said}");
    assert_eq!(site.truth().meetings.iter().any(|meeting| meeting.locked), lock != "reversible");
}

fn ended_comes_after_the_real_end(kind: Kind) {
    let site = Site::start(kind);
    site.create("maths");
    site.fault(Fault::EndsLate { ms: 4_000 }.everywhere());
    let job = site.outcome_of("maths");
    assert_eq!(job["outcome"], "ended", "{kind:?}: {job:#}");
}

fn a_zombie_is_never_claimed_to_be_over(kind: Kind) {
    let site = Site::with(kind, "give-up-after = \"6s\"");
    let session = site.create("maths");
    site.fault(Fault::Zombie.everywhere());
    let job = site.outcome_of("maths");
    assert_eq!(job["outcome"], "failed", "{kind:?}: {job:#}");
    assert!(site.session(&session).hits.len() >= 2, "it was tried again: {job:#}");
}

fn who_comes_back_at_once_is_left_alone(kind: Kind) {
    for lost in [false, true] {
        let site = Site::start(kind);
        let first = site.create("maths");
        site.fault(Fault::Recreate { after_ms: 50, participants: 2 }.on_meeting("maths").times(1));
        if lost {
            site.fault(Fault::AnswerLost.everywhere().times(1));
        }
        let job = site.outcome_of("maths");
        assert_eq!(job["outcome"], "ended", "{kind:?}, answer lost {lost}: {job:#}");
        assert_eq!(site.session(&first).hits.len(), 1, "{job:#}");
        let truth = site.truth();
        let [_, second] = truth.sessions("maths") else { panic!("{truth:?}") };
        assert!(second.alive() && second.hits.is_empty(), "{kind:?}, answer lost {lost}: {second:?}");
    }
}

fn a_swallowed_end_is_repeated_at_the_same_session(kind: Kind) {
    let site = Site::start(kind);
    let session = site.create("maths");
    site.fault(Fault::Swallow.everywhere().times(1));
    let job = site.outcome_of("maths");
    assert_eq!(
        (&job["outcome"], site.session(&session).hits.len()),
        (&"ended".into(), 2),
        "{kind:?}: {job:#}"
    );
}

fn without_proof_it_is_unconfirmed(kind: Kind) {
    let site = Site::with(kind, "prove-within = \"5s\"");
    let session = site.create("maths");
    let id = site.end_in("maths", "1s");
    site.wait_for("the end call has arrived", |truth| !truth.hits(&session).is_empty());
    for call in [Call::Session, Call::Sessions, Call::ActiveSession] {
        site.fault(Fault::Refused { status: 500 }.everywhere().call(call));
    }
    let job = site.bed.outcome(&id);
    site.check(&job);
    assert_eq!(job["outcome"], "unconfirmed", "{kind:?}: {job:#}");
}

/// A token that is refused for good: an alarm here, and the other server's meetings end on time.
fn a_refused_token_is_an_alarm_and_other_servers_go_on(kind: Kind) {
    let site = Site::start(kind);
    site.create("maths");
    let internal = site.bed.create("physics");
    let id = site.end_in("maths", "4s");
    site.wait_for("it was looked at", |truth| truth.requests.iter().any(|r| r.session.is_some()));
    site.fault(Fault::InvalidToken { always: true }.everywhere());
    let other = site.bed.outcome(&site.bed.end_in("physics", "1s"));
    assert_eq!(other["outcome"], "ended", "{other:#}");
    assert!(!site.bed.instance(&internal).alive());
    site.wait_for("the alarm", |_| site.bed.show(&id)["alarm"].is_string());
    let job = site.bed.show(&id);
    assert_eq!(job["outcome"], Value::Null, "{kind:?}: {job:#}");
}

/// So many are due at one instant, and all are proven. Gives the requests that this took: one end call each.
fn many_are_due_together(kind: Kind, many: u64) -> Counters {
    let due = clock::system_now().wall + Duration::from_secs(20);
    let entries: String = (0..many)
        .map(|n| format!("[[end]]\nserver = \"cloud\"\nmeeting = \"class-{n}\"\nat = \"{due}\"\n"))
        .collect();
    let mut site = Site::lay(kind, "max-concurrent = 64", &entries);
    for n in 0..many {
        site.create(&format!("class-{n}"));
    }
    site.bed.start_daemon();
    site.wait_for("all are over", |truth| {
        truth.meetings.iter().all(|meeting| meeting.sessions.iter().all(|session| !session.alive()))
    });
    let ended = || site.bed.json(&["list", "--outcome", "ended", "--limit", "1000"]);
    site.wait_for("all are proven", |_| ended()["jobs"].as_array().unwrap().len() as u64 == many);
    let counters = site.cloud.counters();
    assert_eq!(counters.of(Call::End), many, "{kind:?}: {:?}", counters.calls);
    counters
}
