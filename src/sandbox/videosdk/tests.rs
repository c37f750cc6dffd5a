//! The façade on the pure world, then over HTTP.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use reqwest::{Client, StatusCode};

use super::*;
use crate::sandbox::reply::Fate;
use crate::sandbox::sessions::tests::{START, Stage};

fn stage(version: Version) -> Stage {
    let settings = Settings::default();
    let token = settings.token(version, START);
    Stage::new(settings, token)
}

fn end(stage: &mut Stage, room: &str, session: &str) -> (u16, Value) {
    let body = json!({ "roomId": room, "sessionId": session }).to_string();
    stage.post("/v2/sessions/end", &body)
}

fn live(stage: &mut Stage, room: &str) -> usize {
    let (status, body) = stage.get(&format!("/v2/sessions?roomId={room}&status=ongoing&perPage=1"));
    assert_eq!(status, 200, "{body}");
    body["data"].as_array().unwrap().len()
}

#[test]
fn an_accepted_end_is_an_acknowledgement_and_the_record_proves_it_later() {
    let mut stage = stage(Version::V2);
    let id = stage.meeting("abcd-efgh");
    assert_eq!(id.len(), 24);
    let (status, body) = end(&mut stage, "abcd-efgh", &id);
    assert_eq!((status, &body["end"], &body["status"]), (200, &Value::Null, &json!("ongoing")));
    stage.wait(100);
    let (_, body) = stage.get(&format!("/v2/sessions/{id}"));
    assert_eq!((&body["end"], &body["status"]), (&json!("2026-12-01T17:00:00.100Z"), &json!("ended")));
    assert_eq!((live(&mut stage, "abcd-efgh"), body["activeDuration"].clone()), (0, json!(0)));
    let session = stage.session(&id);
    assert_eq!(session.ended_by, Some(EndedBy::Request(1)));
    assert_eq!(session.hits, [Hit { request: 1, at: START, effect: Effect::Ends }]);
    let (status, body) = end(&mut stage, "abcd-efgh", &id);
    assert_eq!((status, &body["error"]), (406, &json!("fetch_error")));
    assert_eq!(stage.effects(&id), [Effect::Ends, Effect::AlreadyOver]);
    stage.fault(Fault::OverAs { status: 404 }.everywhere());
    assert_eq!(end(&mut stage, "abcd-efgh", &id).0, 404);
}

#[test]
fn an_end_without_a_session_hits_whatever_is_live_by_then() {
    let mut stage = stage(Version::V2);
    stage.fault(Fault::Recreate { after_ms: 1_000, participants: 2 }.on_meeting("r").times(1));
    let first = stage.meeting("r");
    end(&mut stage, "r", &first);
    stage.wait(2_000);
    let second = stage.truth().sessions("r")[1].clone();
    assert_eq!((second.started_at, second.participants), (UtcMs(START.0 + 1_100), 2));
    assert_eq!(end(&mut stage, "r", &first).0, 406, "a retry that names the session");
    assert!(stage.effects(&second.id).is_empty());
    assert_eq!(stage.post("/v2/sessions/end", r#"{"roomId":"r"}"#).0, 200);
    assert_eq!(stage.effects(&second.id), [Effect::Ends]);
    assert_eq!(stage.world.last_request().unwrap().session.as_deref(), Some(second.id.as_str()));
}

#[test]
fn ids_that_do_not_fit_are_refused() {
    let mut stage = stage(Version::V2);
    let id = stage.meeting("r");
    stage.meeting("s");
    for (room, session, status) in [("s", id.as_str(), 400), ("t", &id, 402), ("r", "0123", 404)] {
        assert_eq!(end(&mut stage, room, session).0, status, "{room} {session}");
    }
    assert_eq!(stage.post("/v2/sessions/end", &format!(r#"{{"sessionId":"{id}"}}"#)).0, 400);
    assert_eq!(stage.get("/v2/sessions/0123").0, 404);
    assert_eq!(stage.get("/v2/rooms/t").0, 402);
    assert_eq!(stage.get("/v2/nothing").0, 404);
    assert!(stage.effects(&id).is_empty());
}

#[test]
fn v1_has_its_own_routes_and_no_status() {
    let mut stage = stage(Version::V1);
    let id = stage.meeting("r");
    let (status, body) = stage.post(&format!("/v1/meeting-sessions/{id}/end"), "");
    assert_eq!((status, &body["end"], body.get("status")), (200, &Value::Null, None), "{body}");
    stage.wait(100);
    stage.meeting("r");
    let (_, body) = stage.get("/v1/meeting-sessions?meetingId=r&page=2&perPage=1");
    assert_eq!(body["pageInfo"], json!({ "currentPage": 2, "perPage": 1, "lastPage": 2, "total": 2 }));
    assert_eq!(body["data"][0]["id"], json!(id), "the newest comes first");
    assert_eq!(stage.get(&format!("/v1/meeting-sessions/{id}")).1["meetingId"], "r");
    stage.fault(Fault::OldestFirst.everywhere());
    let (_, body) = stage.get("/v1/meeting-sessions?meetingId=r&perPage=1");
    assert_eq!(body["data"][0]["id"], json!(id));
}

#[test]
fn tokens_are_verified() {
    let settings = Settings::default();
    let stranger = Settings { secret: "another".to_owned(), ..Settings::default() };
    let other = Settings { api_key: "another".to_owned(), ..Settings::default() };
    let right = settings.token(Version::V2, START);
    let before = UtcMs(START.0 - 600_000);
    let cases = [
        (right.clone(), 200),
        (settings.token(Version::V1, START), 403),
        (stranger.token(Version::V2, START), 401),
        (other.token(Version::V2, START), 401),
        (settings.token(Version::V2, before), 401),
        (settings.token(Version::V2, UtcMs(before.0 + 1_000)), 200),
        (format!("Bearer {right}"), 401),
        (String::new(), 401),
    ];
    for (token, status) in cases {
        let mut stage = Stage::new(settings.clone(), token.clone());
        assert_eq!(stage.get("/v2/sessions").0, status, "{token}");
    }
    let mut stage = Stage::new(settings.clone(), right);
    assert_eq!(stage.get("/v1/meeting-sessions").0, 403, "a token of v2");
    stage.wait(600_000);
    assert_eq!(stage.get("/v2/sessions").0, 401, "over");
}

#[test]
fn a_token_is_refused_until_the_next_one_is_made() {
    let mut stage = stage(Version::V2);
    stage.fault(Fault::InvalidToken { always: false }.everywhere());
    for _ in 0..2 {
        assert_eq!(stage.get("/v2/sessions").0, 401);
    }
    stage.authorization = Settings::default().token(Version::V2, UtcMs(START.0 + 1_000));
    assert_eq!(stage.get("/v2/sessions").0, 200);
}

#[test]
fn errors_are_said_in_every_form() {
    let text = "Failed to end session.";
    let forms = [
        (ErrorForm::Message, json!({ "message": text })),
        (ErrorForm::Error, json!({ "error": text })),
        (ErrorForm::Msg, json!({ "msg": text })),
        (ErrorForm::StatusMessage, json!({ "statusMessage": text })),
        (ErrorForm::String, json!(text)),
        (ErrorForm::Text, Value::Null),
        (ErrorForm::Html, Value::Null),
    ];
    for (form, body) in forms {
        let mut stage = stage(Version::V2);
        let id = stage.meeting("r");
        stage.fault(Fault::Refused { status: 406 }.everywhere());
        stage.fault(Fault::ErrorForm { form }.everywhere());
        assert_eq!(end(&mut stage, "r", &id), (406, body), "{form:?}");
        assert!(stage.effects(&id).is_empty());
    }
}

#[test]
fn a_listing_can_shrink_between_its_pages() {
    let mut stage = stage(Version::V2);
    for n in 0..5 {
        stage.meeting(&format!("r{n}"));
    }
    stage.fault(Fault::ShrinkingListing { drop: 2 }.everywhere().times(1));
    let (_, first) = stage.get("/v2/sessions?status=ongoing&perPage=2");
    let (_, second) = stage.get("/v2/sessions?status=ongoing&perPage=2&page=2");
    assert_eq!((&first["pageInfo"]["total"], &second["pageInfo"]["total"]), (&json!(5), &json!(3)));
    let rooms = |page: &Value| [page["data"][0]["roomId"].clone(), page["data"][1]["roomId"].clone()];
    assert_eq!(rooms(&first), ["r4", "r3"]);
    assert_eq!(rooms(&second), [json!("r0"), Value::Null], "r2 and r1 were skipped");
}

#[test]
fn pages_are_cut_or_refused_and_a_wrong_status_is_refused() {
    let mut stage = stage(Version::V2);
    assert_eq!(stage.get("/v2/sessions?perPage=1000").1["pageInfo"]["perPage"], 100);
    stage.fault(Fault::PageLimit { max: 50, refuse: true }.everywhere());
    assert_eq!(stage.get("/v2/sessions?perPage=51").0, 422);
    assert_eq!(stage.get("/v2/sessions?perPage=50").0, 200);
    assert_eq!(stage.get("/v2/sessions?status=LIVE").0, 422);
    assert_eq!(stage.get("/v2/sessions?page=x").0, 422);
}

#[test]
fn a_listing_and_a_record_can_be_behind() {
    for (fault, listed, recorded) in
        [(Fault::StaleListing { ms: 1_000 }, 1, "ended"), (Fault::StaleRecord { ms: 1_000 }, 0, "ongoing")]
    {
        let mut stage = stage(Version::V2);
        let id = stage.meeting("r");
        stage.fault(fault.clone().on_meeting("r"));
        stage.world.end_meeting("r", stage.now).unwrap();
        stage.wait(999);
        assert_eq!(live(&mut stage, "r"), listed, "{fault:?}");
        assert_eq!(stage.get(&format!("/v2/sessions/{id}")).1["status"], recorded, "{fault:?}");
        stage.wait(1);
        assert_eq!(live(&mut stage, "r"), 0);
        assert_eq!(stage.get(&format!("/v2/sessions/{id}")).1["status"], "ended");
    }
}

#[test]
fn a_record_can_vanish_and_times_can_be_nonsense() {
    let mut stage = stage(Version::V2);
    let id = stage.meeting("r");
    stage.fault(Fault::BadTimes { text: "Invalid date".to_owned() }.everywhere());
    stage.fault(Fault::RecordVanished.everywhere());
    let (_, body) = stage.get(&format!("/v2/sessions/{id}"));
    assert_eq!((&body["start"], &body["end"]), (&json!("Invalid date"), &Value::Null));
    stage.world.end_meeting("r", stage.now).unwrap();
    assert_eq!(stage.get(&format!("/v2/sessions/{id}")).0, 404);
    assert_eq!(stage.get("/v2/sessions").1["data"], json!([]));
}

#[test]
fn accepted_ends_can_come_to_nothing_or_come_late() {
    for (fault, effect) in [(Fault::Swallow, Effect::Swallowed), (Fault::Zombie, Effect::Zombie)] {
        let mut stage = stage(Version::V2);
        let id = stage.meeting("r");
        stage.fault(fault.on_meeting("r").times(1));
        assert_eq!(end(&mut stage, "r", &id).0, 200);
        stage.wait(60_000);
        assert!(stage.session(&id).alive());
        assert_eq!(stage.effects(&id), [effect]);
    }
    let mut stage = stage(Version::V2);
    let id = stage.meeting("r");
    stage.fault(Fault::EndsLate { ms: 5_000 }.everywhere());
    end(&mut stage, "r", &id);
    stage.wait(4_999);
    assert_eq!(end(&mut stage, "r", &id).0, 200);
    assert_eq!(stage.effects(&id), [Effect::Ends, Effect::AlreadyEnding]);
    stage.wait(1);
    assert_eq!(stage.session(&id).ended_at, Some(UtcMs(START.0 + 5_000)));
}

#[test]
fn a_success_can_be_a_lie_and_an_answer_can_get_lost() {
    let mut stage = stage(Version::V2);
    let id = stage.meeting("r");
    stage.fault(Fault::FalseSuccess.everywhere().times(1));
    let (status, body) = end(&mut stage, "r", &id);
    assert_eq!((status, &body["success"]), (200, &json!(false)));
    assert!(stage.effects(&id).is_empty());
    stage.fault(Fault::AnswerLost.everywhere());
    let reply = stage.send("POST", "/v2/sessions/end", r#"{"roomId":"r"}"#);
    assert_eq!(reply.fate, Fate::Close { reset: false });
    assert_eq!(stage.effects(&id), [Effect::Ends]);
}

#[test]
fn a_room_is_closed_for_good_and_only_by_its_own_id() {
    let mut stage = stage(Version::V2);
    let new = NewMeeting { custom_id: Some("maths".to_owned()), ..NewMeeting::new("r") };
    let id = stage.world.create_meeting(&new, stage.now).unwrap();
    assert_eq!(stage.post("/v2/rooms/deactivate", r#"{"roomId":"maths"}"#).0, 402);
    let (status, body) = stage.post("/v2/rooms/deactivate", r#"{"roomId":"r"}"#);
    assert_eq!((status, &body["disabled"]), (200, &json!(true)));
    assert!(stage.session(&id).alive(), "who is in stays in");
    stage.world.end_meeting("r", stage.now).unwrap();
    let refused = stage.world.create_meeting(&new, stage.now).unwrap_err();
    assert_eq!(refused, Refusal::Locked("r".to_owned()));
    assert_eq!(stage.get("/v2/rooms/r").1["disabled"], true);
    assert_eq!(stage.get("/v2/rooms").1["pageInfo"]["total"], 1);
}

#[test]
fn a_clock_can_be_off_and_tokens_are_measured_by_it() {
    let mut stage = stage(Version::V2);
    let id = stage.meeting("r");
    stage.fault(Fault::ClockSkew { ms: -90_000 }.everywhere());
    let reply = stage.send("GET", &format!("/v2/sessions/{id}"), "");
    assert_eq!(reply.date, UtcMs(START.0 - 90_000));
    assert_eq!(reply.read().1["start"], "2026-12-01T16:58:30.000Z");
    stage.wait(650_000);
    assert_eq!(stage.get("/v2/sessions").0, 200, "good for another 40 s, there");
}

#[test]
fn throttling_is_said_in_seconds_or_as_a_date() {
    let mut stage = stage(Version::V2);
    for (http_date, seconds, date) in [(false, Some(7), None), (true, None, Some(UtcMs(START.0 + 7_000)))] {
        stage.fault(Fault::Throttled { retry_after: Some(7), http_date }.everywhere().times(1));
        let Fate::Answer(page) = stage.send("GET", "/v2/sessions", "").fate else { panic!("no answer") };
        assert_eq!((page.status, page.retry_after, page.retry_at), (429, seconds, date));
    }
}

/// A sandbox with a clock that stands until it is moved.
async fn site() -> (Sandbox, Arc<AtomicI64>, Client) {
    let clock = Arc::new(AtomicI64::new(START.0 * 1_000));
    let options = Options::new({
        let clock = Arc::clone(&clock);
        Arc::new(move || clock.load(Ordering::Relaxed))
    });
    let client = Client::builder().no_proxy().build().unwrap();
    (Sandbox::start(options).await.unwrap(), clock, client)
}

#[tokio::test]
async fn over_http_a_session_is_found_ended_and_proven() {
    let (sandbox, clock, client) = site().await;
    let id = sandbox.create_meeting(&NewMeeting::new("r")).unwrap();
    let token = sandbox.settings().token(Version::V2, START);
    let url = |path: &str| format!("{}{path}", sandbox.url());
    let body = json!({ "roomId": "r", "sessionId": id });
    let asked = client.post(url("/v2/sessions/end")).header("authorization", &token).json(&body);
    let answer: Value = asked.send().await.unwrap().json().await.unwrap();
    assert_eq!(answer["status"], "ongoing", "{answer}");
    clock.fetch_add(100_000, Ordering::Relaxed);
    let look = client.get(url(&format!("/v2/sessions/{id}"))).header("authorization", &token);
    let look = look.send().await.unwrap();
    assert_eq!(look.headers()["date"], "Tue, 01 Dec 2026 17:00:00 GMT");
    assert_eq!(look.json::<Value>().await.unwrap()["status"], "ended");
    assert_eq!(sandbox.counters().of(Call::End), 1);
    sandbox.stop().await;
}

#[tokio::test]
async fn over_http_the_control_routes_and_the_line_work() {
    let (sandbox, _, client) = site().await;
    let control = |route: &str| format!("{}{route}", sandbox.control_url());
    let made = client.post(control("meetings")).json(&json!({ "meeting_id": "r" })).send().await.unwrap();
    assert_eq!(made.status(), StatusCode::CREATED);
    let made: Value = made.json().await.unwrap();
    let order = json!({ "fault": { "throttled": { "retry_after": 7, "http_date": true } }, "times": 1 });
    let set = client.put(control("faults")).json(&order).send().await.unwrap();
    assert_eq!(set.status(), StatusCode::CREATED);
    let throttled = client.get(format!("{}/v2/sessions", sandbox.url())).send().await.unwrap();
    assert_eq!(throttled.status(), StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(throttled.headers()["retry-after"], "Tue, 01 Dec 2026 17:00:07 GMT");
    sandbox.set_fault(Fault::Down { reset: true }.everywhere().times(1)).unwrap();
    assert!(client.get(format!("{}/v2/sessions", sandbox.url())).send().await.is_err());
    let truth: Truth = client.get(control("truth?meeting=r")).send().await.unwrap().json().await.unwrap();
    assert!(truth.session(made["session_id"].as_str().unwrap()).unwrap().alive());
    let typo = json!({ "fault": "zombie", "metting": "m" });
    let refused = client.post(control("faults")).json(&typo).send().await.unwrap();
    assert_eq!(refused.status(), StatusCode::UNPROCESSABLE_ENTITY);
    let gone = client.delete(control("meetings?meeting=nobody")).send().await.unwrap();
    assert_eq!(gone.status(), StatusCode::NOT_FOUND);
}
