//! Against a server on loopback: what goes over the wire, and what comes of its answers.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use secrecy::SecretString;
use serde_json::{Value, json};
use wiremock::matchers::{any, method, path};
use wiremock::{Mock, MockServer, Request, ResponseTemplate};

use super::*;
use crate::job::{BootMs, Evidence, JobId, Now, Purpose, Sighting, UtcMs, Verdict};

mod calls;
mod looks;

/// The clock in every test, ours and the server's.
const WALL: i64 = 1_762_418_977_000;
const DATE: &str = "Thu, 06 Nov 2025 08:49:37 GMT";
const API_KEY: &str = "0f1e-key";
const SECRET: &str = "s3cr3t-of-the-account";

struct Bed {
    server: MockServer,
    settings: Settings,
    /// Boottime; the wall clock stands still.
    boot: Arc<AtomicI64>,
}

impl Bed {
    async fn new(version: Version) -> Bed {
        let server = MockServer::start().await;
        let url = Url::parse(&format!("{}/", server.uri())).unwrap();
        let (api_key, secret) = (SecretString::from(API_KEY), SecretString::from(SECRET));
        let settings = Settings {
            version,
            url,
            network: Network::default(),
            credentials: Credentials::Key { api_key, secret },
        };
        Bed { server, settings, boot: Arc::default() }
    }

    async fn with_token(version: Version, token: &str) -> Bed {
        let mut bed = Bed::new(version).await;
        bed.settings.credentials = Credentials::Token(SecretString::from(token));
        bed
    }

    fn platform(&self) -> VideoSdk {
        let boot = self.boot.clone();
        let now = move || Now { wall: UtcMs(WALL), boot: BootMs(boot.load(Ordering::Relaxed)) };
        let timeouts = Timeouts { total: Duration::from_secs(5), ..Timeouts::default() };
        let name = ServerName::from("tutoring");
        VideoSdk::with_timeouts(&name, &self.settings, Arc::new(now), timeouts).unwrap()
    }

    async fn answers(&self, answer: ResponseTemplate) {
        Mock::given(any()).respond_with(answer).mount(&self.server).await;
    }

    async fn on(&self, verb: &str, at: &str, answer: ResponseTemplate) {
        Mock::given(method(verb)).and(path(at)).respond_with(answer).mount(&self.server).await;
    }

    /// Answers every GET out of these sessions, in pages, filtered as each version does it.
    async fn holds(&self, sessions: Vec<Value>) {
        let version = self.settings.version;
        let answer = move |request: &Request| shown(version, &sessions, request);
        Mock::given(method("GET")).respond_with(answer).mount(&self.server).await;
    }

    async fn requests(&self) -> Vec<Request> {
        self.server.received_requests().await.unwrap()
    }

    /// `/v2/sessions?page=1`, ..., sorted.
    async fn calls(&self) -> Vec<String> {
        let requests = self.requests().await;
        let mut calls: Vec<String> = requests.iter().map(call).collect();
        calls.sort();
        calls
    }
}

fn call(request: &Request) -> String {
    let query = request.url.query().map(|query| format!("?{query}"));
    request.url.path().to_owned() + &query.unwrap_or_default()
}

fn shown(version: Version, sessions: &[Value], request: &Request) -> ResponseTemplate {
    let at = request.url.path();
    let list = if version == Version::V1 { "/v1/meeting-sessions" } else { "/v2/sessions" };
    if let Some(id) = at.strip_prefix(list).and_then(|rest| rest.strip_prefix('/')) {
        let record = sessions.iter().find(|session| session["id"] == id);
        return record
            .map_or_else(|| answer(404, json!({ "message": "no such session" })), |one| answer(200, one));
    }
    assert_eq!(at, list);
    let asked = |key: &str| {
        request.url.query_pairs().find(|(name, _)| name == key).map(|(_, value)| value.into_owned())
    };
    let fits = |session: &&Value| {
        let is = |key: &str| asked(key).is_none_or(|value| session[key] == value.as_str());
        let live = asked("status").as_deref() != Some("ongoing") || session["end"].is_null();
        live && is("roomId") && is("meetingId") && is("customRoomId")
    };
    let all: Vec<&Value> = sessions.iter().filter(fits).collect();
    let number = |key: &str| asked(key).unwrap().parse::<usize>().unwrap();
    let data: Vec<&&Value> =
        all.chunks(number("perPage")).nth(number("page") - 1).into_iter().flatten().collect();
    page(&json!(data), number("page"), all.len().div_ceil(number("perPage")), all.len())
}

fn page(data: &Value, number: usize, last: usize, total: usize) -> ResponseTemplate {
    let info = json!({ "currentPage": number, "perPage": 100, "lastPage": last, "total": total });
    answer(200, json!({ "pageInfo": info, "data": data }))
}

fn answer(status: u16, body: impl serde::Serialize) -> ResponseTemplate {
    // Without it the mock tells the real date, and start times are corrected for that.
    ResponseTemplate::new(status).set_body_json(body).insert_header("Date", DATE)
}

fn v2(id: &str, room: &str, end: Value) -> Value {
    let status = if end.is_null() { "ongoing" } else { "ended" };
    json!({ "id": id, "roomId": room, "start": "2025-11-06T08:48:37.000Z", "end": end, "status": status,
        "participants": [] })
}

fn v1(id: &str, meeting: &str, end: Value) -> Value {
    json!({ "id": id, "meetingId": meeting, "start": "2025-11-06T08:48:37.000Z", "end": end, "participants": [] })
}

fn ended() -> Value {
    json!("2025-11-06T08:49:30.000Z")
}

fn target(meeting: &str) -> Target {
    Target {
        job: JobId(uuid::Uuid::nil()),
        meeting: MeetingId::from(meeting),
        purpose: Purpose::Confirm,
        instance: None,
        pin: None,
        end_sent: false,
        accepted: false,
        ends_clean: true,
        since: None,
    }
}

fn pin(session: &str) -> Pin {
    Pin {
        instance: session.into(),
        started_at: None,
        listed: true,
        node: None,
        site: None,
        last_live: Now::default(),
    }
}

fn pinned(meeting: &str, session: &str) -> Target {
    Target { instance: Some(session.into()), pin: Some(pin(session)), ..target(meeting) }
}

fn end_call(meeting: &str, session: &str, attempt: u32) -> EndCall {
    let job = JobId(uuid::Uuid::nil());
    EndCall { job, meeting: meeting.into(), pin: pin(session), attempt, resend: attempt > 1 }
}

/// What is live, by session; otherwise what else was seen.
fn told(round: &Round) -> Vec<String> {
    let tell = |sighting: &Sighting| match sighting {
        Sighting::Live(instance) => format!("live {}", instance.id),
        Sighting::Occupied => "occupied".to_owned(),
        Sighting::NotThere(_) => "not there".to_owned(),
        Sighting::Over { next: None } => "over".to_owned(),
        Sighting::Over { next: Some(next) } => format!("over, next {}", next.id),
        Sighting::Doubtful(_) => "doubtful".to_owned(),
        Sighting::Unreachable(_) => "unreachable".to_owned(),
        Sighting::Misconfigured(_) => "misconfigured".to_owned(),
    };
    round.sightings.iter().map(tell).collect()
}

#[tokio::test]
async fn sightings_are_taken_at_their_word_and_nothing_is_remembered() {
    let bed = Bed::new(Version::V2).await;
    let platform = bed.platform();
    let targets = [pinned("a", "s"), target("b")];
    let round = Round {
        sent: Now::default(),
        received: Now::default(),
        sightings: vec![Sighting::Over { next: None }, Sighting::NotThere(Evidence::default())],
        shown: Default::default(),
        listings: Default::default(),
        trouble: Default::default(),
    };
    let memory = Memory { nodes: [("x".to_owned(), Default::default())].into(), ..Memory::default() };
    let judgement = platform.judge(&memory, &round, &targets);
    assert_eq!(judgement.verdicts, [Verdict::Gone { needed: 1 }, Verdict::Gone { needed: 2 }]);
    assert_eq!((judgement.memory, judgement.alarms.len()), (memory, 0));
}
