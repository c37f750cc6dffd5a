//! The routes, over a real socket.

use std::time::Duration;

use futures_util::StreamExt;
use reqwest::{Client, Method, Response};
use serde_json::{Value, json};

use super::fake::{FakeService, MINUTE, NOW, Served, concluded, id, job};
use super::*;
use crate::engine::api::{RefusalKind, When};
use crate::job::{By, Change, Job, Limits, Outcome, UtcMs};
use crate::schedule::{Entry, Schedule};

mod clients;
mod extend;
mod import;
mod list;

const HOUR: Duration = Duration::from_secs(3600);

struct Peerless {
    served: Served,
    http: Client,
}

/// Three jobs: two deadlines of one meeting, and a done one.
fn start() -> Peerless {
    let done = concluded(job(3, "old", HOUR), Outcome::Ended, "proven");
    let served = Served::new(vec![job(1, "math", HOUR), job(2, "math", 2 * HOUR), done]);
    let http = Client::builder().unix_socket(served.socket.clone()).no_proxy().build().unwrap();
    Peerless { served, http }
}

impl Peerless {
    async fn send(&self, method: Method, path: &str, body: Option<Value>) -> (u16, Value) {
        let mut request = self.http.request(method, format!("http://adjourn{path}"));
        if let Some(body) = body {
            request = request.body(body.to_string());
        }
        read(request.send().await.unwrap()).await
    }

    async fn get(&self, path: &str) -> (u16, Value) {
        self.send(Method::GET, path, None).await
    }

    async fn post(&self, path: &str, body: Value) -> (u16, Value) {
        self.send(Method::POST, path, Some(body)).await
    }

    /// Refused with this status, this kind of problem, and a detail that says this.
    #[track_caller]
    fn check_problem((status, body): (u16, Value), expected: u16, kind: &str, detail: &str) {
        assert_eq!(status, expected, "{body}");
        assert_eq!(body["status"], expected);
        assert_eq!(body["type"], format!("urn:adjourn:problem:{kind}"));
        assert!(body["detail"].as_str().unwrap().contains(detail), "{body}");
        assert!(!body["hint"].as_str().unwrap().is_empty(), "{body}");
        assert!(!body["title"].as_str().unwrap().contains('-'), "{body}");
    }
}

async fn read(response: Response) -> (u16, Value) {
    let status = response.status();
    if status.is_client_error() || status.is_server_error() {
        assert_eq!(response.headers()["content-type"], "application/problem+json");
    }
    (status.as_u16(), response.json().await.unwrap())
}

fn submit_body() -> Value {
    json!({ "server": "campus", "meeting": "physics", "in": "45m" })
}

#[tokio::test]
async fn submit_makes_a_job_and_says_where_it_is() {
    let daemon = start();
    let url = "http://adjourn/v1/jobs";
    let body = json!({ "server": "campus", "meeting": "math", "at": "2026-12-01T17:30:00+01:00",
        "late-limit": "1h 30m", "keep-closed": "10m", "expect": "live", "instance": "abc-1",
        "warn": ["1m", "10m"], "warn-text": "{meeting} ends in {remaining}", "warn-language": "de" });
    let response = daemon.http.post(url).body(body.to_string()).send().await.unwrap();
    assert_eq!(response.status(), 201);
    assert_eq!(response.headers()["etag"], "\"1\"");
    let location = response.headers()["location"].to_str().unwrap().to_owned();
    let (_, answer) = read(response).await;
    assert_eq!(location, format!("/v1/jobs/{}", answer["id"].as_str().unwrap()));
    assert_eq!(answer["due"], "2026-12-01T16:30:00.000Z");
    assert_eq!(answer["origin"], "api");
    let others: Vec<&Value> = answer["others"].as_array().unwrap().iter().map(|other| &other["id"]).collect();
    assert_eq!(others, [&json!(id(1)), &json!(id(2))]);

    let submission = daemon.served.service.submissions.lock().unwrap()[0].clone();
    assert_eq!(submission.limits.late_limit, Some(Duration::from_secs(5400)));
    assert_eq!(submission.limits.keep_closed, Some(Duration::from_secs(600)));
    assert_eq!(submission.limits.give_up_after, None);
    let marks = vec![Duration::from_secs(600), Duration::from_secs(60)];
    assert_eq!(submission.limits.warn, Some(marks), "longest first");
    assert_eq!(submission.limits.warn_text.as_deref(), Some("{meeting} ends in {remaining}"));
    assert_eq!(submission.limits.warn_language, "de".parse().ok());
    assert_eq!(answer["warn"], json!(["10m", "1m"]));
    let told = json!({ "mark": "10m", "told": null, "at": "2026-12-01T16:20:00.000Z", "why": null });
    assert_eq!(answer["warnings"][0], told);
    assert_eq!(answer["telling"], json!({ "possible": false, "why": "too old" }));
    assert_eq!(submission.only.unwrap().as_str(), "abc-1");
    let By::Peer { uid, pid } = submission.by else { panic!("{:?}", submission.by) };
    assert_eq!(uid, rustix::process::getuid().as_raw());
    assert_eq!(pid, Some(rustix::process::getpid().as_raw_nonzero().get()));
}

#[tokio::test]
async fn our_command_line_is_an_origin_of_its_own() {
    let daemon = start();
    let request = daemon.http.post("http://adjourn/v1/jobs").header("user-agent", "adjourn-cli/9.9");
    let (_, answer) = read(request.body(submit_body().to_string()).send().await.unwrap()).await;
    assert_eq!(answer["origin"], "cli");
}

#[tokio::test]
async fn a_limit_alone_has_no_time_yet_and_says_so() {
    let daemon = start();
    let body = json!({ "server": "campus", "meeting": "m", "max-duration": "4h" });
    let (status, answer) = daemon.post("/v1/jobs", body).await;
    assert_eq!(status, 201);
    assert_eq!((&answer["due"], &answer["max_duration"]), (&Value::Null, &json!("4h")));
    assert_eq!(answer["awaits_start"], true);
    let first = answer["id"].clone();
    let both = json!({ "server": "campus", "meeting": "m", "max-duration": "4h", "in": "1h" });
    let (_, answer) = daemon.post("/v1/jobs", both).await;
    assert_eq!(answer["due"], "2026-12-01T17:15:00.000Z");
    assert_eq!(
        answer["others"],
        json!([{ "id": first, "due": null, "max_duration": "4h", "state": "waiting" }])
    );
    let submissions = daemon.served.service.submissions.lock().unwrap();
    assert_eq!((submissions[0].when, submissions[1].when), (When::AfterStart, When::In(HOUR)));
    assert!(submissions.iter().all(|one| one.max_duration == Some(4 * HOUR)));
}

#[tokio::test]
async fn a_wrong_submit_changes_nothing_and_names_the_field() {
    let daemon = start();
    let with = |name: &str, value: Value| {
        let mut body = submit_body();
        body[name] = value;
        body
    };
    for (body, detail) in [
        (with("colour", json!("red")), "unknown field `colour`"),
        (with("server", json!(5)), "server: invalid type: integer `5`"),
        (with("server", json!(null)), "missing field `server`"),
        (with("meeting", json!("")), "meeting: must be 1 to 256 bytes"),
        (with("meeting", json!("x".repeat(257))), "meeting: must be 1 to 256 bytes"),
        (with("meeting", json!("a\u{1b}[2J")), "meeting: must be 1 to 256 bytes without control"),
        (with("instance", json!("\n")), "instance: must be"),
        (with("in", json!("soon")), "in: \"soon\" is no duration"),
        (with("in", json!(45)), "in: invalid type: integer `45`"),
        (with("in", json!("9000y")), "\"y\" means years"),
        (with("now", json!(true)), "exactly one of `at`, `in`, `now` and `max-duration`"),
        (with("max-duration", json!("0s")), "max-duration is \"0s\", less than 1s"),
        (with("keep-closed", json!("25h")), "keep-closed is \"1day 1h\", more than 1d"),
        (with("give-up-after", json!("1ms")), "give-up-after is \"1ms\", less than 1s"),
        (with("max-duration", json!("10M")), "minutes are m: 10m"),
        (json!({ "server": "campus", "meeting": "m", "max-duration": "4h", "now": true }), "excludes `now`"),
        (with("late-limit", json!("-1s")), "late-limit: \"-1s\""),
        (with("expect", json!("dead")), "expect: unknown variant `dead`"),
        (with("warn", json!("10m")), "warn: invalid type"),
        (with("warn", json!(["soon"])), "\"soon\" is no duration"),
        (with("warn", json!(["5s"])), "a mark of warn is 5s"),
        (with("warn", json!(["1m", "60s"])), "warn has the mark 1m twice"),
        (with("warn-language", json!("DE")), "no words for the language \"DE\"; there are: en, de, es"),
        (with("warn-text", json!("in {remainng}")), "there is no placeholder {remainng}"),
        (with("warn-text", json!("x".repeat(501))), "it comes to 501 characters"),
        (with("warn-text", json!("a\u{1b}[2J")), "it holds a control character"),
        (json!({ "server": "campus", "meeting": "m" }), "exactly one of"),
        (json!({ "server": "campus", "in": "1m" }), "missing field `meeting`"),
        (
            json!({ "server": "campus", "meeting": "m", "at": "2026-12-01T18:00" }),
            "at: \"2026-12-01T18:00\" has neither an offset nor a time zone",
        ),
        (
            json!({ "server": "campus", "meeting": "m", "at": "2026-03-29T02:30[Europe/Berlin]" }),
            "does not exist",
        ),
        (json!([]), "the body: "),
    ] {
        Peerless::check_problem(daemon.post("/v1/jobs", body).await, 422, "invalid", detail);
    }
    assert!(daemon.served.service.submissions.lock().unwrap().is_empty());
}

#[tokio::test]
async fn malformed_json_is_told_with_its_place() {
    let daemon = start();
    let request = daemon.http.post("http://adjourn/v1/jobs").body("{\n  \"server\": oops }");
    let (status, body) = read(request.send().await.unwrap()).await;
    assert_eq!((&body["line"], &body["column"]), (&json!(2), &json!(13)));
    Peerless::check_problem((status, body), 400, "bad-request", "line 2 column 13");
}

#[tokio::test]
async fn a_body_of_one_mebibyte_is_read_and_one_byte_more_is_not() {
    let daemon = start();
    let padded = |bytes: usize| {
        let mut body = submit_body().to_string();
        body.push_str(&" ".repeat(bytes - body.len()));
        daemon.http.post("http://adjourn/v1/jobs").body(body).send()
    };
    assert_eq!(padded(MAX_BODY_BYTES).await.unwrap().status(), 201);
    let refused = read(padded(MAX_BODY_BYTES + 1).await.unwrap()).await;
    Peerless::check_problem(refused, 413, "too-large", "1048576 bytes");
}

#[tokio::test]
async fn an_idempotency_key_answers_with_the_same_job() {
    let daemon = start();
    let send = |key: String| {
        let request = daemon.http.post("http://adjourn/v1/jobs").header("idempotency-key", key);
        request.body(submit_body().to_string()).send()
    };
    let (first, made) = read(send("k".repeat(128)).await.unwrap()).await;
    let (second, known) = read(send("k".repeat(128)).await.unwrap()).await;
    assert_eq!((first, second), (201, 200));
    assert_eq!(made["id"], known["id"]);
    for key in ["k".repeat(129), String::new(), "käse".to_owned()] {
        let refused = read(send(key).await.unwrap()).await;
        Peerless::check_problem(refused, 422, "invalid", "idempotency key must be 1 to 128 bytes");
    }
}

#[tokio::test]
async fn put_by_key_takes_the_server_from_the_path() {
    let daemon = start();
    let path = "/v1/jobs/by-key/campus/booking%2F77";
    let body = json!({ "meeting": "physics", "in": "1h" });
    let (status, _) = daemon.send(Method::PUT, path, Some(body.clone())).await;
    assert_eq!(status, 201);
    let (status, _) = daemon.send(Method::PUT, path, Some(body)).await;
    assert_eq!(status, 200);
    let submission = daemon.served.service.submissions.lock().unwrap()[0].clone();
    assert_eq!((submission.server.as_str(), submission.key.as_deref()), ("campus", Some("booking/77")));
    assert_eq!(submission.when, When::In(HOUR));
    let other = json!({ "server": "lab", "meeting": "physics", "in": "1h" });
    let refused = daemon.send(Method::PUT, path, Some(other)).await;
    Peerless::check_problem(refused, 422, "invalid", "server: is lab, but the path says campus");
}

#[tokio::test]
async fn refusals_have_their_status() {
    let daemon = start();
    for (kind, status, name) in [
        (RefusalKind::NotFound, 404, "not-found"),
        (RefusalKind::Invalid, 422, "invalid"),
        (RefusalKind::KeyReused, 422, "key-reused"),
        (RefusalKind::Conflict, 409, "conflict"),
        (RefusalKind::StaleRevision, 412, "stale-revision"),
        (RefusalKind::StoreFailed, 507, "store-failed"),
        (RefusalKind::Platform, 502, "platform"),
        (RefusalKind::Stopping, 503, "stopping"),
    ] {
        daemon.served.service.refuse_next(kind, "what happened", "what to do");
        Peerless::check_problem(daemon.post("/v1/jobs", submit_body()).await, status, name, "what happened");
    }
}

#[tokio::test]
async fn a_job_is_found_by_its_id_and_by_its_end() {
    let daemon = start();
    let whole = format!("/v1/jobs/{}", id(1));
    let (status, answer) = daemon.get(&whole).await;
    assert_eq!((status, &answer["history"][0]["event"]), (200, &json!("submitted")));
    assert_eq!(
        answer["others"],
        json!([{ "id": id(2), "due": "2026-12-01T18:15:00.000Z", "state": "waiting" }])
    );
    for path in [format!("/v1/jobs/{}", id(1).short()), whole.to_uppercase().replace("/V1/JOBS", "/v1/jobs")]
    {
        assert_eq!(daemon.get(&path).await.1["id"], json!(id(1)), "{path}");
    }
    let (_, history) = daemon.get(&format!("{whole}/history")).await;
    assert_eq!((&history["id"], &history["left_out"]), (&json!(id(1)), &json!(0)));
    Peerless::check_problem(daemon.get("/v1/jobs/ffffffff").await, 404, "not-found", "no job ffffffff");
    Peerless::check_problem(daemon.get("/v1/jobs/0000001").await, 422, "invalid", "is no job id");
    Peerless::check_problem(daemon.get("/v1/jobs/hello-hello").await, 422, "invalid", "is no job id");
}

#[tokio::test]
async fn an_ambiguous_id_names_the_candidates() {
    let twin = Job { id: crate::job::JobId(uuid::Uuid::from_u128(1)), ..job(1, "m", HOUR) };
    let daemon = start();
    daemon.served.service.store.jobs.lock().unwrap().push(twin.clone());
    let refused = daemon.send(Method::DELETE, "/v1/jobs/00000001", None).await;
    assert_eq!(refused.1["candidates"], json!([id(1), twin.id]));
    Peerless::check_problem(refused, 409, "ambiguous-id", "several jobs end in 00000001");
}

#[tokio::test]
async fn a_stale_if_match_is_refused_and_a_fresh_one_taken() {
    let daemon = start();
    let url = format!("http://adjourn/v1/jobs/{}/extend", id(1));
    let send = |if_match: &str| {
        let request = daemon.http.post(&url).header("if-match", if_match);
        request.body(json!({ "by": "10m" }).to_string()).send()
    };
    let response = send("\"1\"").await.unwrap();
    assert_eq!((response.status().as_u16(), response.headers()["etag"].to_str().unwrap()), (200, "\"2\""));
    let stale = read(send("\"1\"").await.unwrap()).await;
    Peerless::check_problem(stale, 412, "stale-revision", "has changed");
    let nonsense = read(send("1").await.unwrap()).await;
    Peerless::check_problem(nonsense, 400, "bad-request", "not a revision in quotes");
    assert_eq!(send("*").await.unwrap().status(), 200);
}

#[tokio::test]
async fn changes_reach_the_service() {
    let daemon = start();
    let path = format!("/v1/jobs/{}", id(1));
    let at = |minutes: i64| UtcMs(NOW.wall.0 + minutes * MINUTE);
    let text = |minutes: i64| at(minutes).to_string();
    let post = Method::POST;
    for (method, action, body, change) in [
        (Method::PATCH, "", json!({ "in": "20m" }), Change::Move { to: at(20) }),
        (Method::PATCH, "", json!({ "at": text(30) }), Change::Move { to: at(30) }),
        (post.clone(), "/extend", json!({ "by": "10m" }), Change::Extend { by: Duration::from_secs(600) }),
        (post.clone(), "/extend", json!({ "until": text(40) }), Change::ExtendTo { until: at(40) }),
        (post.clone(), "/hold", json!({}), Change::Hold { until: None }),
        (post.clone(), "/hold", json!({ "for": "5m" }), Change::Hold { until: Some(at(5)) }),
        (post.clone(), "/release", json!({}), Change::Release { due: None }),
        (post.clone(), "/release", json!({ "now": true }), Change::Release { due: Some(at(0)) }),
        (post.clone(), "/release", json!({ "at": text(9) }), Change::Release { due: Some(at(9)) }),
        (post.clone(), "/release", json!({ "until": text(9) }), Change::Release { due: Some(at(9)) }),
        (post.clone(), "/fire", json!({}), Change::Fire),
        (Method::DELETE, "", json!(null), Change::Cancel),
    ] {
        let (status, answer) = daemon.send(method, &format!("{path}{action}"), Some(body)).await;
        assert_eq!(status, 200, "{change:?}: {answer}");
        let (job, made, by) = daemon.served.service.changes.lock().unwrap().pop().unwrap();
        assert_eq!((job, made), (id(1), change));
        assert!(matches!(by, By::Peer { pid: Some(_), .. }));
    }
    let no_body = daemon.send(Method::POST, &format!("/v1/jobs/{}/hold", id(2)), None).await;
    assert_eq!((no_body.0, &no_body.1["state"]), (200, &json!("held")));
}

#[tokio::test]
async fn a_preview_joins_the_queue_and_the_schedule() {
    let daemon = start();
    let mut exam = entry("exam", 90);
    exam.limits.warn = vec![Duration::from_secs(600)];
    let at_work = {
        let mut job = job(7, "late", Duration::ZERO);
        job.record(NOW, crate::job::Fact::DueReached { late_ms: 0 });
        job
    };
    let far = job(8, "far", 8 * 24 * HOUR);
    daemon.served.service.store.jobs.lock().unwrap().extend([at_work, far]);
    let entries = vec![exam, entry("gone", -90)];
    *daemon.served.service.schedule.lock().unwrap() = Schedule { entries, ..Schedule::default() };
    let (status, answer) = daemon.get("/v1/preview").await;
    assert_eq!(status, 200, "{answer}");
    let items = answer["items"].as_array().unwrap();
    let told: Vec<Value> =
        items.iter().map(|item| json!([item["meeting"], item["kind"], item["state"]])).collect();
    let expected = [
        json!(["late", "job", "ending"]),
        json!(["math", "job", "waiting"]),
        json!(["exam", "planned", null]),
        json!(["math", "job", "waiting"]),
    ];
    assert_eq!(told, expected);
    assert_eq!(items[2]["warnings"], json!([UtcMs(NOW.wall.0 + 80 * MINUTE).to_string()]));
    let (_, longer) = daemon.get("/v1/preview?days=9&server=campus").await;
    assert_eq!(longer["items"].as_array().unwrap().len(), 5);

    for (query, status, kind, detail) in [
        ("days=0", 422, "invalid", "must be 1 to 366"),
        ("days=367", 422, "invalid", "must be 1 to 366"),
        ("server=lab", 404, "not-found", "no server lab"),
        ("until=tomorrow", 400, "bad-request", "until"),
    ] {
        let refused = daemon.get(&format!("/v1/preview?{query}")).await;
        Peerless::check_problem(refused, status, kind, detail);
    }
}

fn entry(name: &str, minutes: i64) -> Entry {
    Entry {
        identity: name.to_owned(),
        of: None,
        server: "campus".into(),
        meeting: name.into(),
        instance: None,
        at: UtcMs(NOW.wall.0 + minutes * MINUTE),
        limits: Limits::default(),
    }
}

#[tokio::test]
async fn wrong_changes_are_refused_before_the_service() {
    let daemon = start();
    let path = format!("/v1/jobs/{}", id(1));
    let past = UtcMs(NOW.wall.0 - MINUTE).to_string();
    for (method, action, body, detail) in [
        (Method::PATCH, "", json!({}), "exactly one of `at` and `in`"),
        (Method::PATCH, "", json!({ "at": past }), "has passed"),
        (Method::POST, "/extend", json!({ "by": "0s" }), "longer than 0s"),
        (Method::POST, "/extend", json!({ "until": past }), "has passed"),
        (Method::POST, "/extend", json!({ "by": "1m", "until": past }), "exactly one"),
        (Method::POST, "/release", json!({ "now": true, "until": past }), "exclude each other"),
        (Method::POST, "/hold", json!({ "until": past }), "unknown field `until`"),
        (Method::POST, "/fire", json!({ "now": true }), "unknown field `now`"),
    ] {
        let refused = daemon.send(method, &format!("{path}{action}"), Some(body)).await;
        Peerless::check_problem(refused, 422, "invalid", detail);
    }
    assert!(daemon.served.service.changes.lock().unwrap().is_empty());
}

#[tokio::test]
async fn meetings_come_with_their_deadlines() {
    let daemon = start();
    daemon.served.service.store.jobs.lock().unwrap().push(job(7, "math/101 ü", HOUR));
    let (status, answer) = daemon.get("/v1/servers/campus/meetings").await;
    assert_eq!(status, 200);
    let meeting = &answer["meetings"][0];
    assert_eq!(meeting["started_at"], "2026-12-01T16:05:00.000Z");
    assert_eq!(
        meeting["deadlines"],
        json!([{ "id": id(7), "due": "2026-12-01T17:15:00.000Z", "state": "waiting" }])
    );
    Peerless::check_problem(daemon.get("/v1/servers/lab/meetings").await, 404, "not-found", "no server lab");
}

#[tokio::test]
async fn a_room_is_unlocked() {
    let daemon = start();
    let (status, answer) = daemon.post("/v1/servers/campus/meetings/a%2Fb/unlock", json!({})).await;
    assert_eq!((status, &answer), (200, &json!({ "server": "campus", "meeting": "a/b" })));
    assert_eq!(*daemon.served.service.unlocked.lock().unwrap(), ["a/b".into()]);
    let refused = daemon.post("/v1/servers/lab/meetings/a/unlock", json!({})).await;
    Peerless::check_problem(refused, 404, "not-found", "no server lab");
}

#[tokio::test]
async fn what_is_not_there_is_a_problem_document_too() {
    let daemon = start();
    Peerless::check_problem(daemon.get("/v2/jobs").await, 404, "not-found", "nothing at /v2/jobs");
    let wrong = daemon.http.delete("http://adjourn/v1/status").send().await.unwrap();
    assert_eq!(wrong.headers()["allow"], "GET,HEAD");
    Peerless::check_problem(read(wrong).await, 405, "method-not-allowed", "DELETE is not possible");
    let utf8 = daemon.get("/v1/servers/%ff/meetings").await;
    Peerless::check_problem(utf8, 400, "bad-request", "UTF-8");
}

#[tokio::test]
async fn status_and_reload() {
    let daemon = start();
    let (_, status) = daemon.get("/v1/status").await;
    assert_eq!((&status["jobs"]["waiting"], &status["pid"]), (&json!(2), &json!(4711)));
    let (_, reloaded) = daemon.send(Method::POST, "/v1/reload", None).await;
    assert_eq!((&reloaded["applied"], &reloaded["changes"][0]["action"]), (&json!(true), &json!("move")));
    let (_, rehearsed) = daemon.send(Method::POST, "/v1/reload", Some(json!({"dry-run": true}))).await;
    assert_eq!((&rehearsed["applied"], &rehearsed["changes"]), (&json!(false), &reloaded["changes"]));
    let (status, _) = daemon.send(Method::POST, "/v1/reload", Some(json!({"dry": true}))).await;
    assert_eq!(status, 422);
}

/// Reads the stream until the text has come.
async fn read_until(
    body: &mut (impl futures_util::Stream<Item = reqwest::Result<axum::body::Bytes>> + Unpin),
    text: &str,
) -> String {
    let mut got = String::new();
    while !got.contains(text) {
        let chunk = body.next().await.unwrap_or_else(|| panic!("the stream ended after {got}"));
        got.push_str(&String::from_utf8_lossy(&chunk.unwrap()));
    }
    got
}

async fn subscribe(daemon: &Peerless, query: &str) -> Response {
    let response = daemon.http.get(format!("http://adjourn/v1/events{query}")).send().await.unwrap();
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    response
}

#[tokio::test]
async fn events_say_hello_and_then_everything() {
    let daemon = start();
    let mut body = subscribe(&daemon, "").await.bytes_stream();
    read_until(&mut body, "event: hello\n").await;
    daemon.served.service.publish(job(1, "math", HOUR), "moved");
    let got = read_until(&mut body, "\n\n").await;
    assert!(got.starts_with("event: moved\ndata: {"), "{got}");
}

#[tokio::test]
async fn events_of_one_job_leave_out_the_others() {
    let daemon = start();
    let mut body = subscribe(&daemon, "?job=00000002").await.bytes_stream();
    read_until(&mut body, "hello").await;
    daemon.served.service.publish(job(1, "math", HOUR), "held");
    daemon.served.service.publish(job(2, "math", HOUR), "moved");
    let got = read_until(&mut body, "\n\n").await;
    assert!(got.contains("event: moved") && !got.contains("event: held"), "{got}");
    Peerless::check_problem(daemon.get("/v1/events?job=ffffffff").await, 404, "not-found", "no job ffffffff");
}

#[tokio::test]
async fn a_slow_reader_is_told_what_it_lost() {
    let daemon = start();
    let mut body = subscribe(&daemon, "").await.bytes_stream();
    read_until(&mut body, "hello").await;
    // The runtime of the test has one thread: nothing is read in between, and the channel keeps four.
    for _ in 0..10 {
        daemon.served.service.publish(job(1, "math", HOUR), "moved");
    }
    let got = read_until(&mut body, "lagged").await;
    assert!(got.contains("event: lagged"), "{got}");
}

#[tokio::test]
async fn event_streams_leave_room_for_requests_and_end_with_the_daemon() {
    let mut daemon = start();
    let mut streams = Vec::new();
    for _ in 0..MAX_EVENT_STREAMS {
        streams.push(subscribe(&daemon, "").await.bytes_stream());
    }
    Peerless::check_problem(daemon.get("/v1/events").await, 503, "busy", "48 clients");
    assert_eq!(daemon.get("/v1/status").await.0, 200);
    daemon.served.shutdown.cancel();
    for stream in &mut streams {
        while stream.next().await.is_some() {}
    }
    (&mut daemon.served.serving).await.unwrap();
}

/// A daemon that hangs on `meetings`, with short bounds.
fn hanging(request: Duration, drain: Duration) -> (Client, CancellationToken, tokio::task::JoinHandle<()>) {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("control.sock");
    let service = FakeService::new(Vec::new());
    *service.hang.lock().unwrap() = true;
    let shutdown = CancellationToken::new();
    let listener = listen(&socket, 0o600, None).unwrap();
    let http = Client::builder().unix_socket(socket).no_proxy().build().unwrap();
    let serving = serve_within(listener, service, shutdown.clone(), request, drain);
    let serving = tokio::spawn(async move {
        serving.await;
        drop(dir);
    });
    (http, shutdown, serving)
}

#[tokio::test]
async fn a_request_that_hangs_is_cut_off() {
    let (http, _shutdown, _serving) = hanging(Duration::from_millis(20), DRAIN);
    let answer = read(http.get("http://adjourn/v1/servers/campus/meetings").send().await.unwrap()).await;
    Peerless::check_problem(answer, 504, "timed-out", "within 20ms");
}

/// That is the client's fault, and nothing can have happened: the daemon does not say that it had no answer.
#[tokio::test]
async fn half_a_body_is_told_from_a_request_that_hangs() {
    let (http, _shutdown, _serving) = hanging(Duration::from_millis(500), DRAIN);
    let first = futures_util::stream::iter([Ok::<_, std::io::Error>("{\"server\":")]);
    let half = first.chain(futures_util::stream::pending());
    let body = reqwest::Body::wrap_stream(half);
    let answer = read(http.post("http://adjourn/v1/jobs").body(body).send().await.unwrap()).await;
    Peerless::check_problem(answer, 408, "body-late", "nothing was done");
}

#[tokio::test]
async fn the_drain_is_bounded() {
    let (http, shutdown, serving) = hanging(HOUR, Duration::from_millis(20));
    let hello = http.get("http://adjourn/v1/events").send().await.unwrap();
    let request = tokio::spawn(http.get("http://adjourn/v1/servers/campus/meetings").send());
    // The stream is alive, so the daemon serves; the drain begins with a request at work.
    assert_eq!(hello.status(), 200);
    assert_eq!(http.get("http://adjourn/v1/status").send().await.unwrap().status(), 200);
    assert!(!request.is_finished());
    shutdown.cancel();
    timeout(Duration::from_secs(20), serving).await.expect("serve returns after the drain").unwrap();
}

#[test]
fn refusals_are_counted_anew_every_minute() {
    let mut counted = (0, 0);
    assert_eq!([7, 7, 7, 8, 8].map(|minute| nth(&mut counted, minute)), [1, 2, 3, 1, 2]);
}
