//! Telling the people inside: what is sent, to whom, and what the answers say.

use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;
use crate::job::Mark;
use crate::platform::Telling;

const V3: &str = "<version>2.0</version><graphqlWebsocketUrl>w</graphqlWebsocketUrl>";
const TEXT: &str = "Ends in 10 minutes & a bit: \"schönen Abend\" +1";

fn warning(instance: Option<&str>) -> Warning {
    Warning {
        job: JobId(uuid::Uuid::nil()),
        mark: Mark { before: Duration::from_secs(600), due: UtcMs(WALL + 600_000) },
        meeting: "math 101".into(),
        instance: instance.map(Into::into),
        line: Arc::new(|| Ok(TEXT.to_owned())),
    }
}

fn info(breakouts: &[&str]) -> ResponseTemplate {
    let rooms: String = breakouts.iter().map(|id| format!("<breakout>{id}</breakout>")).collect();
    success(&format!("{}<breakoutRooms>{rooms}</breakoutRooms>", fields("math 101", "i-1")))
}

/// A meeting that is there, and this answer to every line.
async fn answering(answer: ResponseTemplate) -> Bed {
    let bed = Bed::new(Front::Direct).await;
    bed.on("getMeetingInfo", info(&[])).await;
    bed.on("sendChatMessage", answer).await;
    bed
}

#[track_caller]
fn said(request: &Request) -> (String, String, String) {
    let get = |name: &str| {
        let found = request.url.query_pairs().find(|(key, _)| key == name);
        found.unwrap_or_else(|| panic!("no {name}")).1.into_owned()
    };
    (get("meetingID"), get("message"), get("userName"))
}

#[tokio::test]
async fn the_line_is_signed_and_goes_to_the_meeting() {
    let bed = answering(success("")).await;
    let told = bed.platform().warn(&warning(None)).await;
    assert_eq!(told, Warned::Delivered { instance: Some("i-1".into()), also: 0 });
    let sent = bed.sent("sendChatMessage").await;
    assert_eq!(sent.len(), 1);
    assert_eq!(said(&sent[0]), ("math 101".to_owned(), TEXT.to_owned(), "adjourn".to_owned()));
    check_signature(&sent[0], SECRET);
}

#[tokio::test]
async fn where_instances_can_be_named_the_line_goes_to_the_instance() {
    let bed = answering(success("")).await;
    bed.on("", success(V3)).await;
    bed.on("isMeetingRunning", success("<running>false</running>")).await;
    let platform = bed.platform();
    platform.probe().await.unwrap();
    platform.warn(&warning(Some("i-1"))).await;
    assert_eq!(said(&bed.sent("sendChatMessage").await[0]).0, "i-1");
}

#[tokio::test]
async fn another_instance_or_another_meeting_is_not_told() {
    let bed = answering(success("")).await;
    assert_eq!(bed.platform().warn(&warning(Some("i-2"))).await, Warned::NotThere);
    let other = Warning { meeting: "i".into(), ..warning(None) };
    let told = bed.platform().warn(&other).await;
    assert!(
        matches!(&told, Warned::Failed { sent: false, why } if why.contains("another meeting")),
        "{told:?}"
    );
    assert_eq!(bed.sent("sendChatMessage").await.len(), 0);
}

#[tokio::test]
async fn every_breakout_room_gets_its_own_line() {
    let bed = Bed::new(Front::Direct).await;
    bed.on("getMeetingInfo", info(&["b-1", "b-2", "b-3"])).await;
    let to = |id: &str, answer| {
        Mock::given(path(format!("{API}/sendChatMessage")))
            .and(query_param("meetingID", id))
            .respond_with(answer)
    };
    bed.server.register(to("math 101", success(""))).await;
    bed.server.register(to("b-1", success(""))).await;
    bed.server.register(to("b-2", failed("meetingNotFound"))).await;
    bed.server.register(to("b-3", success(""))).await;
    let told = bed.platform().warn(&warning(None)).await;
    assert_eq!(told, Warned::Delivered { instance: Some("i-1".into()), also: 2 });
    assert_eq!(bed.sent("sendChatMessage").await.len(), 4);
}

#[tokio::test]
async fn people_in_breakout_rooms_alone_are_people_inside() {
    let bed = Bed::new(Front::Direct).await;
    bed.on("getMeetingInfo", info(&["b-1"])).await;
    let rooms = Mock::given(path(format!("{API}/sendChatMessage"))).and(query_param("meetingID", "b-1"));
    bed.server.register(rooms.respond_with(success(""))).await;
    bed.on("sendChatMessage", failed("meetingNotFound")).await;
    let told = bed.platform().warn(&warning(None)).await;
    assert_eq!(told, Warned::Delivered { instance: Some("i-1".into()), also: 1 });
}

/// So many lines are wanted, each by its number.
fn wanted(count: usize) -> Warning {
    let made = AtomicUsize::new(0);
    let line = move || match made.fetch_add(1, Ordering::Relaxed) {
        n if n < count => Ok(format!("line {n}")),
        _ => Err("called off".to_owned()),
    };
    Warning { line: Arc::new(line), ..warning(None) }
}

#[tokio::test]
async fn what_is_called_off_while_the_meeting_is_asked_for_does_not_leave() {
    let bed = answering(success("")).await;
    let told = bed.platform().warn(&wanted(0)).await;
    assert_eq!(told, Warned::Failed { why: "called off".to_owned(), sent: false });
    assert_eq!(bed.calls().await, ["getMeetingInfo"]);
}

#[tokio::test]
async fn every_few_breakout_rooms_it_is_asked_again_what_is_told() {
    let bed = Bed::new(Front::Direct).await;
    bed.on("getMeetingInfo", info(&["b-1", "b-2", "b-3", "b-4", "b-5"])).await;
    bed.on("sendChatMessage", success("")).await;
    let told = bed.platform().warn(&wanted(2)).await;
    assert_eq!(told, Warned::Delivered { instance: Some("i-1".into()), also: 4 });
    let texts: Vec<String> = bed.sent("sendChatMessage").await.iter().map(|sent| said(sent).1).collect();
    assert_eq!(texts, ["line 0", "line 1", "line 1", "line 1", "line 1"]);
}

#[tokio::test]
async fn not_more_breakout_rooms_than_are_kept_are_told() {
    let rooms: Vec<String> = (0..100).map(|n| format!("b-{n}")).collect();
    let rooms: Vec<&str> = rooms.iter().map(String::as_str).collect();
    let bed = Bed::new(Front::Direct).await;
    bed.on("getMeetingInfo", info(&rooms)).await;
    bed.on("sendChatMessage", success("")).await;
    let told = bed.platform().warn(&warning(None)).await;
    assert_eq!(told, Warned::Delivered { instance: Some("i-1".into()), also: 32 });
}

#[tokio::test]
async fn what_the_answers_say() {
    let told = async |answer| answering(answer).await.platform().warn(&warning(None)).await;
    assert_eq!(told(failed("meetingNotFound")).await, Warned::NotThere);
    for nothing in [failed("unsupportedRequest"), html(404), html(500)] {
        let told = told(nothing).await;
        assert!(matches!(&told, Warned::Unsupported(why) if why.contains("sendChatMessage")), "{told:?}");
    }
    for (answer, expected) in [
        (failed("validationError"), false),
        (ResponseTemplate::new(503), false),
        (ResponseTemplate::new(429), false),
        (failed("checksumError"), false),
        (html(502), true),
        (html(200), true),
        (success("").set_delay(Duration::from_secs(5)), true),
    ] {
        let told = told(answer).await;
        let Warned::Failed { why, sent } = &told else { panic!("{told:?}") };
        assert_eq!(*sent, expected, "{why}");
        check_no_secret(why);
    }
}

#[tokio::test]
async fn whether_it_is_possible_is_known_from_the_probe() {
    let bed = answering(success("")).await;
    bed.on("isMeetingRunning", success("<running>false</running>")).await;
    let platform = bed.platform();
    assert_eq!(platform.telling(), Telling::default(), "nothing is known yet");
    bed.on("", success(V3)).await;
    platform.probe().await.unwrap();
    assert_eq!(platform.telling(), Telling { possible: Some(true), why: None });
    let scalelite = Bed::new(Front::Scalelite).await.platform();
    assert_eq!(scalelite.telling(), Telling::impossible("Scalelite has no sendChatMessage".to_owned()));
}

#[tokio::test]
async fn a_missing_page_of_a_server_that_has_the_call_is_a_dead_backend() {
    let bed = answering(html(404)).await;
    bed.on("", success(V3)).await;
    bed.on("isMeetingRunning", success("<running>false</running>")).await;
    let platform = bed.platform();
    platform.probe().await.unwrap();
    let told = platform.warn(&warning(None)).await;
    assert!(matches!(told, Warned::Failed { sent: true, .. }), "{told:?}");
}

#[tokio::test]
async fn without_the_meeting_nothing_is_sent() {
    for (answer, there) in [(failed("notFound"), false), (html(502), true), (failed("internalError"), true)] {
        let bed = Bed::new(Front::Direct).await;
        bed.on("getMeetingInfo", answer).await;
        let told = bed.platform().warn(&warning(None)).await;
        match told {
            Warned::NotThere => assert!(!there),
            Warned::Failed { sent: false, why } => {
                assert!(there, "{why}");
                check_no_secret(&why);
            }
            other => panic!("{other:?}"),
        }
        assert_eq!(bed.calls().await, ["getMeetingInfo"]);
    }
}
