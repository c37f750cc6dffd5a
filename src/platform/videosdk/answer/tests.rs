use secrecy::SecretString;
use serde_json::json;

use super::*;
use crate::job::StartRange;

const NOW: UtcMs = UtcMs(1_800_000_000_000);

fn reader(version: Version, credentials: Credentials) -> Reader {
    Reader { label: "tutoring".to_owned(), version, credentials }
}

fn key() -> Credentials {
    Credentials::Key { api_key: SecretString::from("0f1e"), secret: SecretString::from("s") }
}

fn reply(status: u16, json: Result<Value, &str>) -> Reply {
    Reply { status, json: json.map_err(str::to_owned), retry_after: Some(Duration::from_secs(7)) }
}

fn answered(reply: Reply) -> EndAnswer {
    reader(Version::V2, key()).map_answer(Ok(reply), NOW)
}

#[test]
fn any_success_is_accepted_whatever_it_shows() {
    let still = json!({ "id": "s", "end": null, "status": "ongoing" });
    for body in [Ok(still), Ok(json!({})), Ok(json!("ended")), Ok(Value::Null), Err(""), Err("done")] {
        for status in [200, 201, 202, 204] {
            assert_eq!(answered(reply(status, body.clone())), EndAnswer::Accepted, "{status} {body:?}");
        }
    }
}

#[test]
fn any_refusal_means_look() {
    for status in [400, 402, 404, 405, 406, 409, 410, 422, 499] {
        for (body, told) in [
            (Ok(json!({ "message": "Failed to end session." })), " (Failed to end session.)"),
            (Ok(json!({ "error": "fetch_error", "statusCode": 406 })), " (fetch_error)"),
            (Ok(json!({ "msg": "gone" })), " (gone)"),
            (Ok(json!({ "statusMessage": "gone" })), " (gone)"),
            (Ok(json!({ "error": { "message": "gone" } })), " (gone)"),
            (Ok(json!("Session already\n\u{1b}[31mended")), " (Session already [31mended)"),
            (Ok(json!([])), ""),
            (Err("Failed to end session."), " (Failed to end session.)"),
            (Err(""), ""),
        ] {
            let why = format!("tutoring: the end call: HTTP {status}{told}");
            assert_eq!(answered(reply(status, body)), EndAnswer::MaybeGone { why });
        }
    }
}

#[test]
fn what_is_not_the_api_may_have_let_the_call_through() {
    for (status, body) in [
        (200, Err("<!doctype html><title>Welcome")),
        (403, Err("<html>blocked")),
        (404, Err("<html>")),
        (302, Err("")),
        (500, Ok(json!({ "message": "oops" }))),
        (502, Err("<html>bad gateway")),
        (503, Ok(json!({}))),
        (504, Err("")),
    ] {
        let answer = answered(reply(status, body));
        assert!(matches!(answer, EndAnswer::Unreachable { sent: true, .. }), "{status} {answer:?}");
    }
}

#[test]
fn no_reply_says_whether_it_was_sent() {
    let map = |none| reader(Version::V1, key()).map_answer(Err(none), NOW);
    let why = || "w".to_owned();
    assert_eq!(map(NoReply::NotSent(why())), EndAnswer::Unreachable { why: why(), sent: false });
    assert_eq!(map(NoReply::Lost(why())), EndAnswer::Unreachable { why: why(), sent: true });
    assert_eq!(map(NoReply::TooLarge(why())), EndAnswer::Unreachable { why: why(), sent: true });
}

#[test]
fn a_throttled_call_was_not_processed_whoever_says_so() {
    for body in [Ok(json!({ "message": "slow" })), Err("<html>429"), Err("")] {
        let answer = answered(reply(429, body));
        let EndAnswer::Throttled { retry_after, .. } = answer else { panic!("{answer:?}") };
        assert_eq!(retry_after, Some(Duration::from_secs(7)));
    }
}

#[track_caller]
fn check_misconfigured(status: u16, version: Version, credentials: Credentials, expected: &str) {
    let body = Ok(json!({ "message": "no eyJhbGciOiJI.x.y 0f1e" }));
    let answer = reader(version, credentials).map_answer(Ok(reply(status, body)), NOW);
    assert_eq!(answer, EndAnswer::Misconfigured { why: expected.to_owned() });
}

#[test]
fn what_is_wrong_with_the_credentials_is_said_without_showing_them() {
    check_misconfigured(
        401,
        Version::V2,
        key(),
        "tutoring refuses the token made from api-key and secret: HTTP 401 (no *** ***); check that it is of this account",
    );
    check_misconfigured(
        403,
        Version::V2,
        key(),
        "tutoring does not allow this with the token made from api-key and secret: HTTP 403 (no *** ***); platform videosdk \
         needs a token of version 2 with the role crawler",
    );
    // {"exp":1800000000} and {"exp":1800000001}
    let token = |payload| Credentials::Token(SecretString::from(format!("0f1e.{payload}.x")));
    check_misconfigured(
        401,
        Version::V1,
        token("eyJleHAiOjE4MDAwMDAwMDB9"),
        "tutoring refuses the configured token, which expired at 2027-01-15T08:00:00.000Z: HTTP 401 (no *** 0f1e); give it a \
         new one",
    );
    check_misconfigured(
        401,
        Version::V1,
        token("eyJleHAiOjE4MDAwMDAwMDF9"),
        "tutoring refuses the configured token: HTTP 401 (no *** 0f1e); check that it is of this account",
    );
    check_misconfigured(
        403,
        Version::V1,
        token("x"),
        "tutoring does not allow this with the configured token: HTTP 403 (no *** 0f1e); platform videosdk-v1 needs a token \
         without version and roles",
    );
}

#[test]
fn a_look_wants_json() {
    let read = |reply| reader(Version::V2, key()).read("a look", Ok(reply), NOW);
    assert_eq!(read(reply(200, Ok(json!({ "a": 1 })))), Ok(json!({ "a": 1 })));
    assert!(matches!(read(reply(200, Err("text"))), Err(Problem::Unclear(_))));
    assert!(matches!(read(reply(200, Err("<html>"))), Err(Problem::Unreachable { sent: true, .. })));
    assert!(matches!(read(reply(402, Ok(json!({})))), Err(Problem::Refused { status: 402, .. })));
}

#[track_caller]
fn check_over(record: Value, over: bool) {
    assert_eq!(Session::read(&record).over, over, "{record}");
}

#[test]
fn only_an_end_or_the_status_ended_is_an_end() {
    check_over(json!({ "end": null, "status": "ongoing", "activeDuration": 7 }), false);
    check_over(json!({ "end": null, "activeDuration": 0 }), false);
    check_over(json!({}), false);
    check_over(json!({ "end": "" }), false);
    check_over(json!({ "end": false }), false);
    check_over(json!({ "end": null, "status": "completed" }), false);
    check_over(json!({ "end": null, "status": "Ended?" }), false);
    check_over(json!({ "end": null, "status": 3 }), false);
    check_over(json!({ "end": "2022-02-22T07:58:11.505Z", "status": "completed" }), true);
    check_over(json!({ "end": "Invalid date" }), true);
    check_over(json!({ "end": 1_645_516_691_505_i64 }), true);
    check_over(json!({ "end": null, "status": "ended" }), true);
}

#[test]
fn a_session_is_read_as_far_as_it_can_be() {
    let participants = json!([
        { "name": "gone", "timelog": [{ "start": "x", "end": "2022-02-22T07:58:11.505Z" }] },
        { "name": "back", "timelog": [{ "end": "2022-02-22T07:58:11.505Z" }, { "start": "x", "end": null }] },
        { "name": "odd" },
        7,
    ]);
    let whole = json!({ "id": "s1", "roomId": "r", "customRoomId": "c", "start": "2022-02-22T07:57:11.505Z",
        "end": null, "participants": participants });
    assert_eq!(
        Session::read(&whole),
        Session {
            id: Some(InstanceId::from("s1")),
            room: Some("r".to_owned()),
            custom_room: Some("c".to_owned()),
            started_at: Some(UtcMs(1_645_516_631_505)),
            participants: Some(1),
            over: false,
        }
    );
    let v1 = json!({ "id": "", "meetingId": "m", "start": "Invalid date", "participants": null });
    assert_eq!(Session::read(&v1), Session { room: Some("m".to_owned()), ..Session::default() });
    for odd in [json!(null), json!("s"), json!([]), json!({ "id": 7, "start": 7, "roomId": {} })] {
        assert_eq!(Session::read(&odd), Session::default(), "{odd}");
    }
}

#[test]
fn ids_that_no_call_can_carry_are_no_instances() {
    let instance = |id: &str| Session::read(&json!({ "id": id })).instance(false, |_| None);
    for id in ["", ".", ".."] {
        assert_eq!(instance(id), None, "{id:?}");
    }
    for id in ["a/../b", " ", "...", "ä"] {
        assert_eq!(instance(id).map(|instance| instance.id), Some(InstanceId::from(id)));
    }
    let started = Session::read(&json!({ "id": "s", "start": "1970-01-01T00:00:09Z" }));
    let instance = started.instance(true, |at| Some((at, StartRange::around(at)))).unwrap();
    assert_eq!((instance.started_at, instance.listed), (Some(UtcMs(9000)), true));
    assert_eq!(instance.start, Some(StartRange::around(UtcMs(9000))));
}

#[test]
fn a_page_says_where_it_stands() {
    let page = |info: Value| Page::read(&json!({ "data": [{ "id": "s" }, 7], "pageInfo": info }));
    let good = page(json!({ "currentPage": 1, "perPage": 2, "lastPage": 5, "total": 10 })).unwrap();
    assert_eq!((good.number, good.last, good.total, good.sessions.len()), (Some(1), 5, 10, 2));
    let texts = page(json!({ "lastPage": "5", "total": "10" })).unwrap();
    assert_eq!((texts.number, texts.last, texts.total), (None, 5, 10));
    assert!(page(json!({ "total": 10 })).is_err() && page(json!({ "lastPage": -1, "total": 1 })).is_err());
    assert!(page(json!({ "lastPage": 1 })).is_err() && page(json!(null)).is_err());
    assert!(Page::read(&json!([])).is_err() && Page::read(&json!({ "data": {} })).is_err());
}
