//! The control socket as other programs use it, here with curl's manners over a plain Unix socket.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;

use serde_json::{Value, json};

use crate::harness::Bed;

/// One request; gives status, headers and body.
fn http(bed: &Bed, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> (u16, String, Value) {
    let mut stream = UnixStream::connect(bed.path("control.sock")).unwrap();
    let mut request = format!(
        "{method} {path} HTTP/1.1\r\nHost: adjourn\r\nConnection: close\r\nContent-Length: {}\r\n",
        body.len()
    );
    for (name, value) in headers {
        request.push_str(&format!("{name}: {value}\r\n"));
    }
    if !body.is_empty() {
        request.push_str("Content-Type: application/json\r\n");
    }
    request.push_str("\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    // A server that refuses a large body may stop reading it.
    let _ = stream.write_all(body.as_bytes());
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    let answer = String::from_utf8_lossy(&answer).into_owned();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    let status = head.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or(0);
    (status, head.to_owned(), serde_json::from_str(body).unwrap_or(Value::Null))
}

fn submit(bed: &Bed, key: &str, body: &Value) -> (u16, Value) {
    let (status, _, answer) = http(bed, "POST", "/v1/jobs", &[("Idempotency-Key", key)], &body.to_string());
    (status, answer)
}

#[test]
fn the_same_key_with_the_same_request_is_the_same_job_and_with_another_422() {
    let bed = Bed::start();
    let body = json!({"server": "campus", "meeting": "math-101", "in": "1h"});
    let (created, first) = submit(&bed, "booking-1", &body);
    let (again, second) = submit(&bed, "booking-1", &body);
    assert_eq!((created, again), (201, 200));
    assert_eq!(first["id"], second["id"]);
    let (status, problem) =
        submit(&bed, "booking-1", &json!({"server": "campus", "meeting": "other", "in": "1h"}));
    assert_eq!(status, 422, "{problem:#}");
    assert!(problem["detail"].is_string() && problem["hint"].is_string(), "{problem:#}");
}

#[test]
fn concurrent_submits_with_one_key_make_one_job() {
    let bed = Bed::start();
    let body = json!({"server": "campus", "meeting": "math-101", "in": "1h"});
    let ids: Vec<Value> = std::thread::scope(|scope| {
        let submits: Vec<_> =
            (0..8).map(|_| scope.spawn(|| submit(&bed, "booking-1", &body).1["id"].clone())).collect();
        submits.into_iter().map(|submit| submit.join().unwrap()).collect()
    });
    assert!(ids[0].is_string() && ids.iter().all(|id| *id == ids[0]), "{ids:?}");
    assert_eq!(bed.json(&["list"])["jobs"].as_array().unwrap().len(), 1);
}

#[test]
fn put_by_key_creates_and_then_moves() {
    let bed = Bed::start();
    let path = "/v1/jobs/by-key/campus/booking-2";
    let at = |year: u32| {
        json!({"server": "campus", "meeting": "math-101", "at": format!("{year}-01-01T00:00:00Z")})
            .to_string()
    };
    let (status, _, first) = http(&bed, "PUT", path, &[], &at(2098));
    assert_eq!(status, 201, "{first:#}");
    let (status, _, moved) = http(&bed, "PUT", path, &[], &at(2099));
    assert_eq!(status, 200, "{moved:#}");
    assert_eq!((&moved["id"], &moved["due"]), (&first["id"], &"2099-01-01T00:00:00.000Z".into()));
}

#[test]
fn if_match_guards_a_change() {
    let bed = Bed::start();
    let id = bed.end_in("math-101", "1h");
    let path = format!("/v1/jobs/{id}");
    let (_, head, job) = http(&bed, "GET", &path, &[], "");
    let revision = job["revision"].as_u64().unwrap();
    assert!(head.to_lowercase().contains(&format!("etag: \"{revision}\"")), "{head}");
    let stale = format!("\"{}\"", revision + 7);
    let (status, _, problem) = http(&bed, "DELETE", &path, &[("If-Match", &stale)], "");
    assert_eq!(status, 412, "{problem:#}");
    let current = format!("\"{revision}\"");
    let (status, _, job) = http(&bed, "DELETE", &path, &[("If-Match", &current)], "");
    assert_eq!((status, &job["outcome"]), (200, &"cancelled".into()), "{job:#}");
}

#[test]
fn bad_requests_are_problem_documents_that_change_nothing() {
    let bed = Bed::start();
    let cases = [
        (
            "POST",
            "/v1/jobs",
            json!({"server": "campus", "meeting": "m", "in": "1h", "wran": []}).to_string(),
            422,
        ),
        ("POST", "/v1/jobs", json!({"server": "nowhere", "meeting": "m", "in": "1h"}).to_string(), 422),
        (
            "POST",
            "/v1/jobs",
            json!({"server": "campus", "meeting": "m", "at": "2020-01-01T00:00:00Z"}).to_string(),
            422,
        ),
        ("POST", "/v1/jobs", "{not json".to_owned(), 400),
        ("GET", "/v1/jobs/deadbeef", String::new(), 404),
        ("GET", "/v1/nothing", String::new(), 404),
        ("PUT", "/v1/status", String::new(), 405),
    ];
    for (method, path, body, expected) in cases {
        let (status, head, problem) = http(&bed, method, path, &[], &body);
        assert!(
            status == expected || (expected == 422 && status == 400),
            "{method} {path}: {status} {problem:#}"
        );
        assert!(head.contains("application/problem+json"), "{method} {path}: {head}");
        assert!(problem["title"].is_string(), "{problem:#}");
    }
    assert!(bed.json(&["list"])["jobs"].as_array().unwrap().is_empty());
}

#[test]
fn a_body_of_one_mebibyte_and_a_byte_is_too_large() {
    let bed = Bed::start();
    let (status, _, _) = http(&bed, "POST", "/v1/jobs", &[], &"x".repeat(1024 * 1024 + 1));
    assert_eq!(status, 413);
    assert_eq!(bed.says(&["status"]).0, 0);
}

#[test]
fn the_history_names_who_asked() {
    let bed = Bed::start();
    let id = bed.end_in("math-101", "1h");
    let job = bed.show(&id);
    let first = job["history"][0]["text"].as_str().unwrap();
    assert!(
        first.contains(&format!("uid {}", rustix::process::getuid().as_raw())) && first.contains("pid"),
        "{first}"
    );
}
