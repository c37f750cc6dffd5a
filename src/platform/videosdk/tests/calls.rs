//! End calls, tokens, and what is for people.

use std::collections::BTreeMap;
use wiremock::matchers::header;

use super::*;

fn bodies(requests: &[Request]) -> Vec<&str> {
    requests.iter().map(|request| std::str::from_utf8(&request.body).unwrap()).collect()
}

fn token(request: &Request) -> &str {
    request.headers["authorization"].to_str().unwrap()
}

#[tokio::test]
async fn every_attempt_names_the_same_session() {
    let bed = Bed::new(Version::V2).await;
    // What the vendor's sample shows: still ongoing, and here even another one.
    bed.on("POST", "/v2/sessions/end", answer(200, v2("another", "r", Value::Null))).await;
    let platform = bed.platform();
    for attempt in [1, 2, 3] {
        assert_eq!(platform.end(&end_call("r", "s", attempt)).await, EndAnswer::Accepted);
    }
    let requests = bed.requests().await;
    assert_eq!(bodies(&requests), [r#"{"roomId":"r","sessionId":"s"}"#; 3]);
    assert!(token(&requests[0]).starts_with("eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9."));
    assert_eq!(platform.aim(&pin("s")), Aim::Instance);
}

#[tokio::test]
async fn v1_ends_by_path_without_a_body() {
    let bed = Bed::new(Version::V1).await;
    bed.on("POST", "/v1/meeting-sessions/s/end", answer(200, v1("s", "m", Value::Null))).await;
    assert_eq!(bed.platform().end(&end_call("m", "s", 1)).await, EndAnswer::Accepted);
    assert_eq!(bodies(&bed.requests().await), [""]);
}

#[tokio::test]
async fn hostile_ids_name_themselves_or_nothing() {
    let first = Bed::new(Version::V1).await;
    first.answers(answer(404, json!({}))).await;
    for id in ["", ".", ".."] {
        let ended = first.platform().end(&end_call("m", id, 1)).await;
        assert!(matches!(ended, EndAnswer::Unreachable { sent: false, .. }), "{id:?}: {ended:?}");
    }
    assert!(first.requests().await.is_empty());
    first.platform().end(&end_call("m", "../x y/end?a#b", 1)).await;
    first.platform().look(&[pinned("m&x=1 ", "../s")]).await;
    assert_eq!(
        first.calls().await,
        ["/v1/meeting-sessions/..%2Fs", "/v1/meeting-sessions/..%2Fx%20y%2Fend%3Fa%23b/end"]
    );

    let second = Bed::new(Version::V2).await;
    second.answers(answer(404, json!({}))).await;
    second.platform().end(&end_call("a\"/..", "..", 1)).await;
    let nothing = second.platform().end(&end_call("", "s", 1)).await;
    assert!(matches!(nothing, EndAnswer::Unreachable { sent: false, .. }));
    second.platform().look(&[target("m&x=1 ")]).await;
    let requests = second.requests().await;
    assert_eq!(bodies(&requests)[0], r#"{"roomId":"a\"/..","sessionId":".."}"#);
    assert_eq!(call(&requests[1]), "/v2/sessions?roomId=m%26x%3D1+&status=ongoing&page=1&perPage=100");
    assert_eq!(requests.len(), 2);
}

#[tokio::test]
async fn a_refused_token_is_replaced_once_by_one_of_the_servers_own_time() {
    let bed = Bed::new(Version::V2).await;
    let late = answer(401, json!({ "message": "invalid_token" }))
        .insert_header("Date", "Thu, 06 Nov 2025 09:49:37 GMT");
    Mock::given(any()).respond_with(late).up_to_n_times(1).mount(&bed.server).await;
    bed.answers(answer(200, json!({}))).await;
    assert_eq!(bed.platform().end(&end_call("r", "s", 1)).await, EndAnswer::Accepted);
    let requests = bed.requests().await;
    assert_eq!(bodies(&requests), [r#"{"roomId":"r","sessionId":"s"}"#; 2]);
    let issued = |request: &Request| {
        let mut validation = jsonwebtoken::Validation::new(jsonwebtoken::Algorithm::HS256);
        validation.validate_exp = false;
        let key = jsonwebtoken::DecodingKey::from_secret(SECRET.as_bytes());
        let claims = jsonwebtoken::decode::<Value>(token(request), &key, &validation).unwrap().claims;
        claims["iat"].as_i64().unwrap()
    };
    assert_eq!((issued(&requests[0]), issued(&requests[1])), (WALL / 1000, WALL / 1000 + 3600));
}

#[tokio::test]
async fn a_token_that_is_refused_twice_is_a_configuration_fault() {
    let bed = Bed::new(Version::V2).await;
    bed.answers(answer(401, json!({ "message": format!("{API_KEY} is unknown") }))).await;
    let platform = bed.platform();
    let ended = platform.end(&end_call("r", "s", 1)).await;
    let EndAnswer::Misconfigured { why } = ended else { panic!("{ended:?}") };
    assert!(why.starts_with("tutoring refuses the token made from api-key and secret"), "{why}");
    assert!(!why.contains(API_KEY) && !why.contains("eyJ"), "{why}");
    assert_eq!(bed.requests().await.len(), 2);
    assert!(matches!(platform.probe().await, Err(Fault::Misconfigured(_))));
}

#[tokio::test]
async fn a_ready_made_token_is_sent_bare_and_not_repeated() {
    // {"exp":1762418976}: a second ago.
    let expired = "eyJhbGciOiJIUzI1NiJ9.eyJleHAiOjE3NjI0MTg5NzZ9.c2ln";
    let bed = Bed::with_token(Version::V2, expired).await;
    let refuses = answer(401, json!("no"));
    Mock::given(header("authorization", expired)).respond_with(refuses).mount(&bed.server).await;
    let ended = bed.platform().end(&end_call("r", "s", 1)).await;
    let EndAnswer::Misconfigured { why } = ended else { panic!("{ended:?}") };
    assert!(why.contains("which expired at 2025-11-06T08:49:36.000Z") && !why.contains("eyJ"), "{why}");
    assert_eq!(bed.requests().await.len(), 1);
}

#[tokio::test]
async fn a_throttled_end_call_says_until_when() {
    for after in ["7", "Thu, 06 Nov 2025 08:49:44 GMT"] {
        let bed = Bed::new(Version::V2).await;
        bed.answers(answer(429, json!({ "error": "slow" })).insert_header("Retry-After", after)).await;
        let platform = bed.platform();
        for asked in [1, 2] {
            let ended = platform.end(&end_call("r", "s", asked)).await;
            let EndAnswer::Throttled { retry_after, .. } = ended else { panic!("{ended:?}") };
            assert_eq!(retry_after, Some(Duration::from_secs(7)), "{after}");
            assert_eq!(
                bed.requests().await.len(),
                usize::try_from(asked).unwrap(),
                "end calls do not pause here"
            );
        }
        platform.look(&[target("r")]).await;
        assert_eq!(bed.requests().await.len(), 2, "looks do");
    }
}

#[tokio::test]
async fn a_lost_answer_may_have_been_an_end_and_a_refused_connection_not() {
    let bed = Bed::new(Version::V2).await;
    bed.answers(answer(502, json!({}))).await;
    let ended = bed.platform().end(&end_call("r", "s", 1)).await;
    assert!(matches!(ended, EndAnswer::Unreachable { sent: true, .. }), "{ended:?}");
    let mut nobody = Bed::new(Version::V1).await;
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    nobody.settings.url = Url::parse(&format!("http://{}/", listener.local_addr().unwrap())).unwrap();
    drop(listener);
    let ended = nobody.platform().end(&end_call("r", "s", 1)).await;
    assert!(matches!(ended, EndAnswer::Unreachable { sent: false, .. }), "{ended:?}");
}

#[tokio::test]
async fn a_probe_says_which_version_and_how_much() {
    let bed = Bed::new(Version::V2).await;
    bed.holds(vec![v2("a", "r", Value::Null), v2("b", "r", ended())]).await;
    let probe = bed.platform().probe().await.unwrap();
    assert_eq!(probe.summary, "VideoSDK v2; 1 sessions live");
    assert_eq!(bed.calls().await, ["/v2/sessions?status=ongoing&page=1&perPage=1"]);

    let bed = Bed::with_token(Version::V1, "x.eyJleHAiOjE3NjI0MTg5NzZ9.x").await;
    bed.holds(vec![v1("a", "m", ended())]).await;
    let probe = bed.platform().probe().await.unwrap();
    assert_eq!(
        probe.summary,
        "VideoSDK v1; 1 sessions on record; its token expires at 2025-11-06T08:49:36.000Z"
    );
    assert_eq!(bed.calls().await, ["/v1/meeting-sessions?page=1&perPage=1"]);

    let bed = Bed::new(Version::V1).await;
    bed.answers(answer(403, json!({ "message": "role" }))).await;
    let Err(Fault::Misconfigured(why)) = bed.platform().probe().await else { panic!() };
    assert!(why.contains("videosdk-v1 needs a token without version and roles"), "{why}");
}

#[tokio::test]
async fn people_see_what_is_live() {
    for (version, sessions) in [
        (Version::V2, vec![v2("a", "r", Value::Null), v2("b", "q", ended()), json!({ "roomId": "x" })]),
        (Version::V1, vec![v1("a", "r", Value::Null), v1("b", "q", ended()), json!({ "id": "y" })]),
    ] {
        let bed = Bed::new(version).await;
        bed.holds(sessions).await;
        let listed = bed.platform().listing().await.unwrap();
        assert!(listed.complete);
        let expected = LiveMeeting {
            meeting: "r".into(),
            instance: "a".into(),
            name: String::new(),
            started_at: Some(UtcMs(WALL - 60_000)),
            participants: Some(0),
            meta: BTreeMap::new(),
            meta_cut: false,
            breakout_of: None,
        };
        assert_eq!(listed.live, [expected]);
    }
    let bed = Bed::new(Version::V1).await;
    bed.answers(page(&json!([v1("a", "r", Value::Null)]), 1, 1, 2)).await;
    let listed = bed.platform().listing().await.unwrap();
    assert_eq!((listed.live.len(), listed.complete), (1, false), "one is not shown");
    let bed = Bed::new(Version::V1).await;
    bed.answers(page(&json!([]), 1, 99, 9_900)).await;
    let fault = bed.platform().meetings().await.unwrap_err();
    assert!(fault.to_string().contains("99 pages"), "{fault}");
}

#[tokio::test]
async fn a_room_is_closed_for_good_or_it_is_said_why_not() {
    let close = async |answer: ResponseTemplate, disabled: bool| {
        let bed = Bed::new(Version::V2).await;
        bed.on("POST", "/v2/rooms/deactivate", answer).await;
        bed.on("GET", "/v2/rooms/r", super::answer(200, json!({ "disabled": disabled }))).await;
        let closed = bed.platform().close_room(&"r".into()).await.map_err(|fault| fault.to_string());
        let requests = bed.requests().await;
        assert_eq!(bodies(&requests)[0], r#"{"roomId":"r"}"#);
        closed.err()
    };
    assert_eq!(close(answer(200, json!({ "disabled": true })), false).await, None);
    assert_eq!(close(answer(400, json!({ "message": "is disabled" })), true).await, None);
    let still = close(answer(200, json!({ "disabled": false })), false).await.unwrap();
    assert!(still.contains("still open"), "{still}");
    let custom = close(answer(402, json!({ "message": "not found" })), false).await.unwrap();
    assert!(custom.contains("(not found)") && custom.contains("not by a custom one"), "{custom}");
    let forbidden = close(answer(403, json!({})), false).await.unwrap();
    assert!(forbidden.contains("role crawler"), "{forbidden}");

    let first = Bed::new(Version::V1).await;
    let fault = first.platform().close_room(&"r".into()).await.unwrap_err();
    assert_eq!(fault.to_string(), "rooms of videosdk-v1 cannot be locked");
    assert!(first.requests().await.is_empty());
}
