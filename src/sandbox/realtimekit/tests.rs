//! The façade on the pure world, then over HTTP.

use std::sync::Arc;

use reqwest::Client;

use super::*;
use crate::sandbox::reply::Fate;
use crate::sandbox::sessions::tests::{START, Stage};

const APP: &str = "/client/v4/accounts/0123456789abcdef0123456789abcdef/realtime/kit/demo-app";

fn stage() -> Stage {
    Stage::new(Settings::default(), format!("Bearer {DEMO_TOKEN}"))
}

fn get(stage: &mut Stage, path: &str) -> (u16, Value) {
    stage.get(&format!("{APP}{path}"))
}

fn kick(stage: &mut Stage, meeting: &str) -> (u16, Value) {
    stage.post(&format!("{APP}/meetings/{meeting}/active-session/kick-all"), "")
}

fn live(stage: &mut Stage) -> Value {
    get(stage, "/sessions?status=LIVE").1["paging"]["total_count"].clone()
}

#[test]
fn a_meeting_is_found_kicked_and_proven() {
    let mut stage = stage();
    let id = stage.meeting("m");
    assert!(id.parse::<uuid::Uuid>().is_ok(), "{id}");
    let (status, body) = get(&mut stage, "/meetings/m/active-session");
    assert_eq!((status, &body["data"]["id"], &body["data"]["status"]), (200, &json!(id), &json!("LIVE")));
    let (status, body) = kick(&mut stage, "m");
    assert_eq!((status, &body["success"]), (200, &json!(true)));
    assert_eq!(body["data"]["kicked_participants_count"], 1);
    stage.wait(100);
    let (_, body) = get(&mut stage, &format!("/sessions/{id}"));
    assert_eq!((&body["data"]["status"], live(&mut stage)), (&json!("ENDED"), json!(0)));
    assert_eq!(body["data"]["ended_at"], "2026-12-01T17:00:00.100Z");
    let (status, body) = kick(&mut stage, "m");
    assert_eq!((status, &body["success"], &body["error"]["code"]), (404, &json!(false), &json!(404)));
    assert_eq!(get(&mut stage, "/meetings/m/active-session").0, 404, "nothing is live");
    assert_eq!(get(&mut stage, "/meetings/m").0, 200, "and the meeting is there");
    assert_eq!(stage.session(&id).ended_by, Some(EndedBy::Request(2)));
}

#[test]
fn a_wrong_id_answers_as_nothing_live_does() {
    let mut stage = stage();
    stage.meeting("m");
    for path in ["/meetings/n", "/meetings/n/active-session", "/sessions/n", "/nothing"] {
        assert_eq!(get(&mut stage, path).0, 404, "{path}");
    }
    for (path, status) in [
        ("/client/v4/accounts/0123456789abcdef0123456789abcdef/realtime/kit/other/meetings/m", 404),
        ("/client/v4/accounts/other/realtime/kit/demo-app/meetings/m", 403),
        ("/v2/meetings/m", 401),
    ] {
        assert_eq!(stage.get(path).0, status, "{path}");
    }
    stage.authorization = "Bearer another".to_owned();
    assert_eq!(get(&mut stage, "/meetings/m").0, 401);
}

#[test]
fn the_legacy_api_has_the_same_calls_and_its_own_credentials() {
    // base64 of demo-organization:demo-key-of-the-sandbox
    let basic = "Basic ZGVtby1vcmdhbml6YXRpb246ZGVtby1rZXktb2YtdGhlLXNhbmRib3g=".to_owned();
    let mut stage = Stage::new(Settings::default(), basic);
    stage.meeting("m");
    assert_eq!(stage.get("/v2/meetings/m/active-session").0, 200);
    assert_eq!(stage.post("/v2/meetings/m/active-session/kick-all", "").0, 200);
    assert_eq!(get(&mut stage, "/meetings/m").0, 401, "not on the other API");
}

#[test]
fn a_ghost_needs_a_second_kick() {
    let mut stage = stage();
    let id = stage.meeting("m");
    stage.fault(Fault::Ghost.on_meeting("m"));
    assert_eq!(kick(&mut stage, "m").0, 200);
    stage.wait(86_400_000);
    let session = stage.session(&id);
    assert!(session.alive() && session.ghost && session.participants == 0);
    assert_eq!((live(&mut stage), kick(&mut stage, "m").0), (json!(1), 200));
    stage.wait(100);
    assert_eq!((live(&mut stage), stage.effects(&id)), (json!(0), vec![Effect::LeftGhost, Effect::Ends]));

    let new = NewMeeting { participants: 0, ghost: true, ..NewMeeting::new("old") };
    stage.world.create_meeting(&new, stage.now).unwrap();
    stage.wait(86_400_000);
    assert_eq!(live(&mut stage), 1, "billed for weeks");
}

#[test]
fn an_empty_session_stays_live_for_a_while_unless_somebody_comes_back() {
    let mut stage = stage();
    let id = stage.meeting("m");
    stage.world.set_participants("m", 0, stage.now).unwrap();
    stage.wait(59_999);
    assert_eq!(get(&mut stage, "/meetings/m/active-session").1["data"]["live_participants"], 0);
    stage.world.set_participants("m", 1, stage.now).unwrap();
    stage.wait(60_000);
    assert!(stage.session(&id).alive(), "somebody came back");
    stage.fault(Fault::KeepAlive { ms: 600_000 }.everywhere());
    stage.world.set_participants("m", 0, stage.now).unwrap();
    let emptied = stage.now;
    stage.wait(700_000);
    assert_eq!(stage.session(&id).ended_at, Some(UtcMs(emptied.0 + 600_000)));
    assert_eq!(stage.session(&id).ended_by, Some(EndedBy::Itself));
}

#[test]
fn inactive_keeps_people_out_and_drops_those_inside_or_not() {
    for drops in [false, true] {
        let mut stage = stage();
        let id = stage.meeting("m");
        if drops {
            stage.fault(Fault::LockDrops.everywhere());
        }
        let inactive = stage.send("PATCH", &format!("{APP}/meetings/m"), r#"{"status":"INACTIVE"}"#).read();
        assert_eq!((inactive.0, &inactive.1["data"]["status"]), (200, &json!("INACTIVE")));
        assert_eq!(stage.session(&id).participants, u32::from(!drops));
        stage.wait(60_000);
        assert_eq!(stage.session(&id).alive(), !drops, "dropped and empty, it goes after its keep-alive");
        kick(&mut stage, "m");
        stage.fault(Fault::Recreate { after_ms: 10, participants: 1 }.everywhere());
        stage.wait(1_000);
        assert_eq!(stage.truth().sessions("m").len(), 1, "nobody can join");
        let active = stage.send("PATCH", &format!("{APP}/meetings/m"), r#"{"status":"ACTIVE"}"#).read();
        assert_eq!(active.1["data"]["status"], "ACTIVE");
        stage.meeting("m");
        assert_eq!(stage.send("PATCH", &format!("{APP}/meetings/m"), r#"{"status":"x"}"#).read().0, 422);
    }
}

#[test]
fn requests_are_read_strictly() {
    let mut stage = stage();
    stage.meeting("m");
    let kick_all = format!("{APP}/meetings/m/active-session/kick-all");
    assert_eq!(stage.post(&kick_all, "{}").0, 415);
    for path in
        ["/sessions?status=live", "/sessions?sort_by=x", "/sessions?sort_order=x", "/sessions?page_no=x"]
    {
        assert_eq!(get(&mut stage, path).0, 422, "{path}");
    }
    assert_eq!(live(&mut stage), 1, "nothing of this ended anything");
}

#[test]
fn a_listing_is_paged_filtered_and_ordered() {
    let mut stage = stage();
    for n in 0..3 {
        stage.meeting(&format!("m{n}"));
    }
    stage.world.end_meeting("m1", stage.now).unwrap();
    let names = |body: &Value| -> Vec<String> {
        let sessions = body["data"]["sessions"].as_array().unwrap().iter();
        sessions.map(|session| session["associated_id"].as_str().unwrap().to_owned()).collect()
    };
    let (_, body) = get(&mut stage, "/sessions?status=LIVE&page_no=2&per_page=1");
    assert_eq!(names(&body), ["m0"]);
    assert_eq!(body["paging"], json!({ "total_count": 2, "start_offset": 2, "end_offset": 2 }));
    let (_, body) = get(&mut stage, "/sessions?sort_by=createdAt&sort_order=ASC");
    assert_eq!(names(&body), ["m0", "m1", "m2"]);
    assert_eq!(names(&get(&mut stage, "/sessions?associated_id=m2").1), ["m2"]);
    assert_eq!(names(&get(&mut stage, "/sessions?status=ENDED").1), ["m1"]);
    let (_, body) = get(&mut stage, "/meetings?per_page=2");
    assert_eq!((body["data"].as_array().unwrap().len(), &body["paging"]["total_count"]), (2, &json!(3)));
}

#[test]
fn too_many_requests_are_refused_for_five_minutes() {
    let mut stage = stage();
    stage.meeting("m");
    for _ in 0..1_200 {
        assert_eq!(get(&mut stage, "/meetings/m").0, 200);
    }
    stage.wait(1_500);
    let Fate::Answer(page) = stage.send("GET", &format!("{APP}/meetings/m"), "").fate else { panic!() };
    assert_eq!((page.status, page.retry_after), (429, Some(300)));
    stage.wait(298_600);
    assert_eq!(kick(&mut stage, "m").0, 429, "everything, although the window has moved on");
    stage.wait(1_400);
    assert_eq!(kick(&mut stage, "m").0, 200);
}

#[test]
fn errors_come_in_the_gateways_form_too_and_a_success_can_be_none() {
    let mut stage = stage();
    let id = stage.meeting("m");
    stage.fault(Fault::ErrorForm { form: ErrorForm::V4 }.everywhere().times(1));
    stage.fault(Fault::Refused { status: 403 }.everywhere().times(1));
    let (status, body) = kick(&mut stage, "m");
    assert_eq!((status, &body["success"], &body["errors"][0]["code"]), (403, &json!(false), &json!(10_403)));
    stage.fault(Fault::FalseSuccess.everywhere().times(1));
    let (status, body) = kick(&mut stage, "m");
    assert_eq!((status, &body["success"]), (200, &json!(false)));
    assert!(body["error"]["message"].is_string() && stage.effects(&id).is_empty(), "{body}");
}

#[tokio::test]
async fn over_http_both_apis_answer() {
    let options = Options::new(Arc::new(|| START.0 * 1_000));
    let sandbox = Sandbox::start(options).await.unwrap();
    sandbox.create_meeting(&NewMeeting::new("m")).unwrap();
    let client = Client::builder().no_proxy().build().unwrap();
    let Settings { account_id, app_id, token, organization_id, api_key, .. } = sandbox.settings();
    let url = format!("{}/accounts/{account_id}/realtime/kit/{app_id}/meetings/m", sandbox.url());
    let meeting: Value = client.get(url).bearer_auth(token).send().await.unwrap().json().await.unwrap();
    assert_eq!(meeting["data"]["status"], "ACTIVE");
    let url = format!("{}/meetings/m/active-session/kick-all", sandbox.legacy_url());
    let kicked = client.post(url).basic_auth(organization_id, Some(api_key)).send().await.unwrap();
    assert_eq!(kicked.json::<Value>().await.unwrap()["data"]["kicked_participants_count"], 1);
    assert_eq!(sandbox.counters().of(Call::End), 1);
    assert_eq!(sandbox.requests(&Asked::default())[1].line, "POST /v2/meetings/m/active-session/kick-all");
    sandbox.stop().await;
}
