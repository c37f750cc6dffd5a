//! Streams of jobs in both directions, and what is counted.

use std::sync::Arc;

use futures_util::stream;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use super::super::fake::NOW;
use super::*;

const IMPORT: &str = "http://adjourn/v1/jobs/import";

fn line(n: usize) -> String {
    json!({ "server": "campus", "meeting": format!("m{n}"), "in": "45m", "key": format!("k{n}") }).to_string()
        + "\n"
}

async fn answers(response: Response) -> Vec<Value> {
    assert_eq!(
        (response.status().as_u16(), &response.headers()["content-type"]),
        (200, &"application/x-ndjson".parse().unwrap())
    );
    let text = response.text().await.unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[tokio::test]
async fn an_answer_comes_while_the_body_is_still_open() {
    let daemon = start();
    let (send, body) = mpsc::channel::<Result<String, std::io::Error>>(1);
    let response = daemon
        .http
        .post(IMPORT)
        .body(reqwest::Body::wrap_stream(ReceiverStream::new(body)))
        .send()
        .await
        .unwrap();
    let mut chunks = response.bytes_stream();
    for n in 1..4 {
        // In two pieces, neither of them a line.
        let line = line(n);
        let (begin, end) = line.split_at(9);
        send.send(Ok(begin.to_owned())).await.unwrap();
        send.send(Ok(end.to_owned())).await.unwrap();
        let answer: Value = serde_json::from_slice(&chunks.next().await.unwrap().unwrap()).unwrap();
        assert_eq!(answer["line"], n);
        assert_eq!(answer["due"], (NOW.wall + Duration::from_secs(45 * 60)).to_string());
    }
    drop(send);
    assert!(chunks.next().await.is_none());
    assert_eq!(daemon.served.service.submissions.lock().unwrap().len(), 3);
}

#[tokio::test]
async fn every_line_has_one_answer_in_order_however_many_there_are() {
    let daemon = start();
    let mut body: Vec<String> = (1..=1_300).map(line).collect();
    body[4] = "\n".to_owned();
    body[700] = "{\"server\": \"campus\"}\n".to_owned();
    body[800] = line(1);
    let answers = answers(daemon.http.post(IMPORT).body(body.concat()).send().await.unwrap()).await;
    let numbers: Vec<u64> = answers.iter().map(|answer| answer["line"].as_u64().unwrap()).collect();
    assert_eq!(numbers, (1..=1_300).filter(|n| *n != 5).collect::<Vec<u64>>());
    let error = &answers[699]["error"];
    assert_eq!((&error["type"], &error["status"]), (&json!("urn:adjourn:problem:invalid"), &json!(422)));
    assert!(error["detail"].as_str().unwrap().starts_with("the line: missing field `meeting`"), "{error}");
    assert!(!error["hint"].as_str().unwrap().is_empty() && error["title"].is_string());
    assert_eq!((&answers[799]["existing"], &answers[799]["id"]), (&json!(true), &answers[0]["id"]));
    assert!(answers[0].get("existing").is_none() && answers[0].get("error").is_none());
    let submission = daemon.served.service.submissions.lock().unwrap()[0].clone();
    assert_eq!(submission.key.as_deref(), Some("k1"));
    assert!(matches!(submission.by, By::Peer { pid: Some(_), .. }));
    let (_, status) = daemon.get("/v1/status").await;
    assert_eq!(status["jobs"]["waiting"], 2 + 1_297);
}

#[tokio::test]
async fn a_line_that_was_cut_off_is_dropped_even_if_it_would_do() {
    let daemon = start();
    let cut = line(2);
    let broken = stream::iter([Ok(line(1)), Ok(cut.trim().to_owned()), Err(std::io::Error::other("gone"))]);
    let request = daemon.http.post(IMPORT).body(reqwest::Body::wrap_stream(broken));
    // The request, or its answer, fails: which of them, is a matter of time.
    if let Ok(response) = request.send().await {
        response.text().await.unwrap_err();
    }
    let (_, _) = daemon.get("/v1/status").await;
    let arrived = daemon.served.service.submissions.lock().unwrap().clone();
    assert!(arrived.iter().all(|submission| submission.meeting.as_str() == "m1"), "{arrived:?}");
}

#[tokio::test]
async fn when_the_daemon_stops_an_open_import_breaks_off() {
    let daemon = start();
    let (send, body) = mpsc::channel::<Result<String, std::io::Error>>(1);
    let response = daemon
        .http
        .post(IMPORT)
        .body(reqwest::Body::wrap_stream(ReceiverStream::new(body)))
        .send()
        .await
        .unwrap();
    let mut chunks = response.bytes_stream();
    send.send(Ok(line(1))).await.unwrap();
    chunks.next().await.unwrap().unwrap();
    daemon.served.shutdown.cancel();
    assert!(chunks.next().await.unwrap().is_err(), "no whole answer to half an import");
}

#[tokio::test]
async fn an_import_has_keys_of_its_own_and_a_submit_has_its_key_in_the_header() {
    let daemon = start();
    let headed = daemon.http.post(IMPORT).header("idempotency-key", "k").body(line(1)).send().await.unwrap();
    Peerless::check_problem(read(headed).await, 400, "bad-request", "no idempotency key");
    let mut body = submit_body();
    body["key"] = json!("k");
    Peerless::check_problem(daemon.post("/v1/jobs", body).await, 422, "invalid", "unknown field `key`");
    let mut body = submit_body();
    body["held-until"] = json!("2026-12-01T17:20:00+01:00");
    Peerless::check_problem(daemon.post("/v1/jobs", body.clone()).await, 422, "invalid", "without `held`");
    body["held"] = json!(true);
    assert_eq!(daemon.post("/v1/jobs", body).await.0, 201);
    let hold = daemon.served.service.submissions.lock().unwrap()[0].hold;
    assert_eq!(hold.unwrap().until, Some(UtcMs(NOW.wall.0 + 5 * MINUTE)));
}

#[tokio::test]
async fn no_more_imports_than_are_allowed() {
    let daemon = start();
    let mut open = Vec::new();
    for _ in 0..MAX_IMPORTS {
        let (send, body) = mpsc::channel::<Result<String, std::io::Error>>(1);
        let body = reqwest::Body::wrap_stream(ReceiverStream::new(body));
        open.push((send, daemon.http.post(IMPORT).body(body).send().await.unwrap()));
    }
    let refused = read(daemon.http.post(IMPORT).body(line(1)).send().await.unwrap()).await;
    Peerless::check_problem(refused, 503, "busy", "imports are at work");
}

#[tokio::test]
async fn an_export_goes_through_all_pages() {
    let many = (0..2_500).map(|n| job(n, &format!("m{n}"), HOUR)).collect();
    let served = Served::new(many);
    let http = Client::builder().unix_socket(served.socket.clone()).no_proxy().build().unwrap();
    let daemon = Peerless { served, http };
    let export = async |query: &str| {
        answers(daemon.http.get(format!("http://adjourn/v1/jobs/export{query}")).send().await.unwrap()).await
    };
    let lines = export("").await;
    let meetings: std::collections::BTreeSet<String> =
        lines.iter().map(|line| line["meeting"].to_string()).collect();
    assert_eq!((lines.len(), meetings.len()), (2_500, 2_500));
    assert!(export("?state=held").await.is_empty());
    Peerless::check_problem(
        daemon.get("/v1/jobs/export?state=odd").await,
        400,
        "bad-request",
        "\"odd\" is no state",
    );
}

#[tokio::test]
async fn requests_are_counted_by_their_route() {
    let daemon = start();
    daemon.get(&format!("/v1/jobs/{}", id(1))).await;
    daemon.get("/v1/jobs/ffffffff").await;
    daemon.get("/nothing").await;
    let text = daemon.http.get("http://adjourn/metrics").send().await.unwrap().text().await.unwrap();
    for line in [
        "adjourn_requests_total{method=\"GET\",route=\"/v1/jobs/{id}\",status=\"200\"} 1",
        "adjourn_requests_total{method=\"GET\",route=\"/v1/jobs/{id}\",status=\"404\"} 1",
        "adjourn_requests_total{method=\"GET\",route=\"other\",status=\"404\"} 1",
        "adjourn_jobs{state=\"waiting\"} 2",
        "adjourn_server_up{platform=\"bigbluebutton\",server=\"campus\"} 1",
    ] {
        assert!(text.lines().any(|known| known == line), "{line}\n{text}");
    }
}

#[tokio::test]
async fn events_that_a_slow_listener_misses_are_counted() {
    let daemon = start();
    let mut events = daemon.http.get("http://adjourn/v1/events").send().await.unwrap().bytes_stream();
    events.next().await.unwrap().unwrap();
    // More at once than are kept, on the one thread that also sends them on.
    for _ in 0..10 {
        daemon.served.service.publish(job(1, "math", HOUR), "submitted");
    }
    let mut heard = String::new();
    while !heard.contains("lagged") {
        heard.push_str(&String::from_utf8_lossy(&events.next().await.unwrap().unwrap()));
    }
    let metrics: Arc<Metrics> = daemon.served.service.metrics.clone();
    assert_eq!(metrics.events_dropped.get(), 6);
}

#[tokio::test]
async fn byte_order_marks_are_passed_over_and_utf_16_is_named() {
    let daemon = start();
    let wide: Vec<u8> = line(3).encode_utf16().flat_map(u16::to_be_bytes).collect();
    let body = [b"\xef\xbb\xbf", line(1).as_bytes(), b"\xef\xbb\xbf", line(2).as_bytes(), &wide].concat();
    let answers = answers(daemon.http.post(IMPORT).body(body).send().await.unwrap()).await;
    assert!(answers[0]["id"].is_string() && answers[1]["id"].is_string(), "{answers:?}");
    assert_eq!(answers[2]["error"]["detail"], "the line holds NUL bytes, as UTF-16 does");
    let wrong = answers_of(&daemon, "{\"server\": oops}\n").await;
    let detail = wrong[0]["error"]["detail"].as_str().unwrap();
    assert_eq!(detail, "the line is not JSON: expected value at column 12");
}

async fn answers_of(daemon: &Peerless, body: &str) -> Vec<Value> {
    answers(daemon.http.post(IMPORT).body(body.to_owned()).send().await.unwrap()).await
}

#[tokio::test]
async fn with_replace_a_key_moves_its_job() {
    let daemon = start();
    let at = |hour: u32, key: &str| {
        json!({ "server": "campus", "meeting": "m", "at": format!("2026-12-01T{hour}:00:00Z"), "key": key })
            .to_string()
    };
    let made = answers_of(&daemon, &at(18, "k")).await;
    let both = format!("{}\n{}\n", at(19, "k"), at(20, "new"));
    let request = daemon.http.post(format!("{IMPORT}?replace=true")).body(both.clone());
    let moved = answers(request.send().await.unwrap()).await;
    assert_eq!((&moved[0]["id"], &moved[0]["existing"]), (&made[0]["id"], &json!(true)));
    assert_eq!(moved[0]["due"], "2026-12-01T19:00:00.000Z");
    assert_eq!((&moved[1]["line"], &moved[1]["existing"]), (&json!(2), &Value::Null));
    let again = answers_of(&daemon, &both).await;
    assert!(again.iter().all(|answer| answer["existing"] == true), "{again:?}");
    let refused = read(daemon.http.post(format!("{IMPORT}?replase=true")).send().await.unwrap()).await;
    Peerless::check_problem(refused, 400, "bad-request", "unknown field `replase`");
}
