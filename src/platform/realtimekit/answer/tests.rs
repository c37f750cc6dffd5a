use serde_json::json;

use super::*;

const NAMES: Names<'_> =
    Names { server: "events", credential: "the token: it needs more", place: "app-id", secrets: &[] };

fn reply(status: u16, body: Value) -> Reply {
    Reply { status, json: Ok(body), retry_after: None }
}

fn own(code: u16) -> Value {
    json!({ "success": false, "error": { "code": code, "message": "words" } })
}

fn gateway(code: u32) -> Value {
    json!({ "success": false, "errors": [{ "code": code, "message": "words" }], "messages": [], "result": null })
}

/// What the end call's answer comes to, in one word.
fn end(reply: Result<Reply, NoReply>) -> &'static str {
    match map_end(open(&NAMES, "the end call", reply)) {
        EndAnswer::Accepted => "accepted",
        EndAnswer::MaybeGone { .. } => "maybe gone",
        EndAnswer::Refused { .. } => "refused",
        EndAnswer::Throttled { .. } => "throttled",
        EndAnswer::Misconfigured { .. } => "misconfigured",
        EndAnswer::Unreachable { sent: true, .. } => "lost",
        EndAnswer::Unreachable { sent: false, .. } => "not sent",
    }
}

/// And what a look makes of it.
fn look(reply: Reply) -> &'static str {
    match open(&NAMES, "a look", Ok(reply)).map_err(|problem| problem.sighting()) {
        Ok(_) => "usable",
        Err(Sighting::Doubtful(_)) => "doubtful",
        Err(Sighting::Unreachable(_)) => "unreachable",
        Err(Sighting::Misconfigured(_)) => "misconfigured",
        Err(other) => panic!("{other:?}"),
    }
}

#[track_caller]
fn check(status: u16, body: Value, expected_end: &str, expected_look: &str) {
    let both = (end(Ok(reply(status, body.clone()))), look(reply(status, body.clone())));
    assert_eq!(both, (expected_end, expected_look), "{status} {body}");
}

#[test]
fn success_is_accepted_and_nothing_else_is() {
    let kicked = json!({ "action": "kick", "kicked_participants_count": 3 });
    check(200, json!({ "success": true, "data": kicked }), "accepted", "usable");
    check(200, json!({ "success": true }), "accepted", "usable");
    check(200, json!({ "data": {} }), "maybe gone", "doubtful");
    check(200, json!({ "success": "true" }), "maybe gone", "doubtful");
    check(404, json!({ "success": true }), "maybe gone", "doubtful");
    check(302, json!({ "success": true }), "lost", "unreachable");
}

#[test]
fn a_failure_under_200_counts_by_its_code() {
    check(200, own(404), "maybe gone", "doubtful");
    check(200, own(401), "misconfigured", "misconfigured");
    check(200, own(403), "misconfigured", "misconfigured");
    check(200, own(429), "throttled", "unreachable");
    check(200, own(500), "lost", "unreachable");
    check(200, own(7), "maybe gone", "doubtful");
    check(200, json!({ "success": false }), "maybe gone", "doubtful");
}

#[test]
fn the_platforms_own_failures() {
    check(404, own(404), "maybe gone", "doubtful");
    check(400, own(400), "maybe gone", "doubtful");
    check(409, own(409), "maybe gone", "doubtful");
    check(422, json!({ "success": false, "message": "x" }), "maybe gone", "doubtful");
    check(401, own(401), "misconfigured", "misconfigured");
    check(403, own(403), "misconfigured", "misconfigured");
    check(429, own(429), "throttled", "unreachable");
    check(500, own(500), "lost", "unreachable");
}

#[test]
fn the_gateways_failures() {
    check(404, gateway(1), "lost", "unreachable");
    check(400, gateway(1), "lost", "unreachable");
    check(200, gateway(1), "lost", "unreachable");
    check(502, gateway(1), "lost", "unreachable");
    check(429, gateway(10_429), "throttled", "unreachable");
    check(403, gateway(10_000), "misconfigured", "misconfigured");
    check(400, gateway(6003), "misconfigured", "misconfigured");
    check(404, gateway(7003), "misconfigured", "misconfigured");
    // Its own trouble is no bad token.
    check(500, gateway(10_000), "lost", "unreachable");
    check(503, gateway(7003), "lost", "unreachable");
}

#[test]
fn what_is_no_json_says_nothing() {
    for (status, expected) in [
        (200, "lost"),
        (404, "lost"),
        (403, "lost"),
        (503, "lost"),
        (401, "misconfigured"),
        (429, "throttled"),
    ] {
        let html = Reply { status, json: Err("<html>".to_owned()), retry_after: None };
        assert_eq!(end(Ok(html)), expected, "{status}");
    }
    check(200, json!([1]), "lost", "unreachable");
    assert_eq!(end(Err(NoReply::NotSent("w".to_owned()))), "not sent");
    assert_eq!(end(Err(NoReply::Lost("w".to_owned()))), "lost");
    assert_eq!(end(Err(NoReply::TooLarge("w".to_owned()))), "lost");
}

#[test]
fn errors_name_the_server_and_say_what_to_check() {
    let why =
        |status, body| open(&NAMES, "the end call", Ok(reply(status, body))).unwrap_err().why().to_owned();
    assert_eq!(why(403, own(403)), "events: the end call: HTTP 403: words: check the token: it needs more");
    assert_eq!(why(404, gateway(7003)), "events: the end call: HTTP 404: words: check app-id");
    assert_eq!(why(500, json!({})), "events: the end call: HTTP 500: without a reason");
}

#[test]
fn what_a_server_repeats_of_our_secrets_is_struck() {
    let secrets = ["Basic b3JnOnMzY3JldA==", "b3JnOnMzY3JldA==", "s3cret-of-ours"].map(SecretString::from);
    let said = |text: &str| struck(&secrets, text);
    assert_eq!(said("no Basic b3JnOnMzY3JldA== here"), "no *** here");
    assert_eq!(said("token b3JnOnMzY3JldA==, s3cret-of-ours"), "token ***, ***");
    assert_eq!(said("cut off: s3cret-of-"), "cut off: ***");
    assert_eq!(said("a word that ends in s3c"), "a word that ends in s3c");
    let body = json!({ "success": false, "error": { "code": 403, "message": "bad s3cret-of-ours" } });
    let names = Names { secrets: &secrets, ..NAMES };
    let problem = open(&names, "a look", Ok(reply(403, body))).unwrap_err();
    assert!(problem.why().starts_with("events: a look: HTTP 403: bad ***: check"), "{problem:?}");
}

#[test]
fn what_never_left_is_not_recorded_as_sent() {
    let not_now = Problem::NotNow { why: "w".to_owned(), pause: PENALTY };
    assert_eq!(map_end(Err(not_now)), EndAnswer::Unreachable { why: "w".to_owned(), sent: false });
}

#[test]
fn a_refusal_without_a_time_lasts_as_long_as_cloudflares_does() {
    let retry = |retry_after| {
        let reply = Reply { retry_after, ..reply(429, own(429)) };
        map_end(open(&NAMES, "the end call", Ok(reply)))
    };
    let after = |answer| match answer {
        EndAnswer::Throttled { retry_after, .. } => retry_after,
        other => panic!("{other:?}"),
    };
    assert_eq!(after(retry(None)), Some(PENALTY));
    assert_eq!(after(retry(Some(Duration::from_secs(7)))), Some(Duration::from_secs(7)));
}

#[test]
fn records_in_both_forms() {
    let session = json!({
        "id": "s", "associated_id": "m", "status": "LIVE", "started_at": "2026-11-21T10:00:00.250Z",
        "live_participants": 4, "meeting_display_name": "Mathematics"
    });
    let expected = Session {
        id: "s".into(),
        meeting: Some("m".to_owned()),
        live: true,
        title: "Mathematics".to_owned(),
        started_at: Some(UtcMs(1_795_255_200_250)),
        participants: Some(4),
    };
    assert_eq!(record(&json!({ "data": session })), Some(expected.clone()));
    assert_eq!(record(&json!({ "data": { "session": session } })), Some(expected));
}

#[test]
fn what_a_record_lacks_is_not_made_up() {
    let read = |data: Value| record(&json!({ "data": data }));
    let bare = read(json!({ "id": "s", "status": "ENDED", "created_at": "2026-11-21T10:00:00Z" })).unwrap();
    assert_eq!((bare.live, bare.meeting, bare.participants), (false, None, None));
    assert_eq!(bare.started_at, Some(UtcMs(1_795_255_200_000)), "a record without a start has its creation");
    assert_eq!(read(json!({ "id": "s" })), None);
    assert_eq!(read(json!({ "status": "LIVE" })), None);
    assert_eq!(read(json!({ "id": "", "status": "LIVE" })), None);
    assert_eq!(read(json!({ "id": "s", "status": "WAITING" })), None);
    assert_eq!(read(json!({ "id": "s", "status": "LIVE", "started_at": "soon" })).unwrap().started_at, None);
}

#[test]
fn rows_of_a_page_that_cannot_be_read_are_counted() {
    let row = json!({ "id": "s", "status": "LIVE" });
    let whole = json!({ "data": { "sessions": [row] }, "paging": { "total_count": 1 } });
    let read = page(&whole).unwrap();
    assert_eq!((read.rows.len(), read.unread, read.total), (1, 0, Some(1)));
    assert_eq!(page(&json!({ "data": { "sessions": [] } })).unwrap().total, None);
    let strange = json!({ "id": "t", "status": "WAITING" });
    let mixed =
        page(&json!({ "data": { "sessions": [{}, row, strange] }, "paging": { "total_count": 3 } })).unwrap();
    assert_eq!((mixed.rows.len(), mixed.unread, mixed.total), (1, 2, Some(3)));
    assert_eq!(page(&json!({ "data": [] })), None);
}
