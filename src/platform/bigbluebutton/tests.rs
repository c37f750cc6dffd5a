//! Against a server on loopback: what goes over the wire, and what comes of its answers.

use std::time::Duration;

use sha2::Digest;
use wiremock::matchers::{method, path, query_param, query_param_is_missing};
use wiremock::{Mock, MockServer, Request, ResponseTemplate};

use super::*;
use crate::job::{BootMs, Evidence, JobId, Purpose, Sighting, StartRange, UtcMs};

mod aim;
mod parts;
mod warn;

const SECRET: &str = "s3cr3t-of-the-server";
const PASSWORD: &str = "moderator's own";
const API: &str = "/bigbluebutton/api";
/// The clock in every test, ours and the server's.
const WALL: i64 = 1_762_418_977_000;
const DATE: &str = "Thu, 06 Nov 2025 08:49:37 GMT";

struct Bed {
    server: MockServer,
    settings: Settings,
}

impl Bed {
    async fn new(front: Front) -> Bed {
        let server = MockServer::start().await;
        let url = Url::parse(&format!("{}{API}/", server.uri())).unwrap();
        let settings = Settings {
            url,
            network: Network::default(),
            secret: SecretString::from(SECRET),
            checksum: Algorithm::Sha256,
            front,
            believe: Believe::Proof,
            instance_ids: None,
            nodes: Vec::new(),
        };
        Bed { server, settings }
    }

    fn with_node(mut self, name: &str, node: &Bed) -> Bed {
        let (url, secret) = (node.settings.url.clone(), SecretString::from("node-secret"));
        self.settings.nodes.push(NodeSettings {
            name: name.to_owned(),
            url,
            network: Network::default(),
            secret,
            checksum: Algorithm::Sha1,
        });
        self
    }

    fn platform(&self) -> BigBlueButton {
        let now = || Now { wall: UtcMs(WALL), boot: BootMs(5000) };
        let timeouts = Timeouts {
            connect: Duration::from_secs(2),
            total: Duration::from_millis(1_500),
            listing: Duration::from_millis(1_500),
        };
        let name = ServerName::from("campus");
        BigBlueButton::with_timeouts(&name, &self.settings, Arc::new(now), timeouts).unwrap()
    }

    async fn on(&self, call: &str, answer: ResponseTemplate) {
        let call = if call.is_empty() { format!("{API}/") } else { format!("{API}/{call}") };
        Mock::given(method("GET")).and(path(call)).respond_with(answer).mount(&self.server).await;
    }

    async fn lists(&self, meetings: &[(&str, &str)]) {
        let all: String = meetings.iter().map(|(id, internal)| meeting(id, internal)).collect();
        self.on("getMeetings", success(&format!("<meetings>{all}</meetings>"))).await;
    }

    async fn calls(&self) -> Vec<String> {
        let mut calls: Vec<String> = self.requests().await.iter().map(call_of).collect();
        calls.sort();
        calls
    }

    async fn requests(&self) -> Vec<Request> {
        self.server.received_requests().await.unwrap()
    }

    async fn sent(&self, call: &str) -> Vec<Request> {
        self.requests().await.into_iter().filter(|request| call_of(request) == call).collect()
    }
}

fn call_of(request: &Request) -> String {
    request.url.path().trim_start_matches(API).trim_matches('/').to_owned()
}

fn success(inner: &str) -> ResponseTemplate {
    xml(&format!("<response><returncode>SUCCESS</returncode>{inner}</response>"))
}

fn failed(key: &str) -> ResponseTemplate {
    xml(&format!("<response><returncode>FAILED</returncode><messageKey>{key}</messageKey></response>"))
}

fn xml(body: &str) -> ResponseTemplate {
    // Without it the mock tells the real date, and start times are not believed.
    ResponseTemplate::new(200).set_body_raw(body, "text/xml").insert_header("Date", DATE)
}

fn html(status: u16) -> ResponseTemplate {
    ResponseTemplate::new(status).set_body_raw("<!DOCTYPE html><html><body>404</body></html>", "text/html")
}

fn fields(id: &str, internal: &str) -> String {
    format!(
        "<meetingName>Room</meetingName><meetingID>{id}</meetingID><internalMeetingID>{internal}</internalMeetingID>\
         <createTime>{}</createTime><moderatorPW>{PASSWORD}</moderatorPW><participantCount>1,500</participantCount>",
        WALL - 60_000
    )
}

fn meeting(id: &str, internal: &str) -> String {
    format!("<meeting>{}</meeting>", fields(id, internal))
}

fn target(meeting: &str, purpose: Purpose) -> Target {
    Target {
        job: JobId(uuid::Uuid::nil()),
        meeting: MeetingId::from(meeting),
        purpose,
        instance: None,
        pin: None,
        end_sent: false,
        accepted: false,
        ends_clean: true,
        since: None,
    }
}

fn pin(instance: &str, node: Option<&str>) -> Pin {
    Pin {
        instance: instance.into(),
        started_at: None,
        listed: true,
        node: node.map(str::to_owned),
        site: None,
        last_live: Now::default(),
    }
}

fn pinned(meeting: &str, instance: &str, purpose: Purpose) -> Target {
    Target { instance: Some(instance.into()), pin: Some(pin(instance, None)), ..target(meeting, purpose) }
}

fn end_call(meeting: &str, pin: Pin, resend: bool) -> EndCall {
    EndCall { job: JobId(uuid::Uuid::nil()), meeting: meeting.into(), pin, attempt: 1, resend }
}

/// The checksum is over the bytes that were sent, and last.
#[track_caller]
fn check_signature(request: &Request, secret: &str) {
    let raw = request.url.query().unwrap();
    let (query, sum) = raw.rsplit_once("checksum=").unwrap();
    let input = format!("{}{}{secret}", call_of(request), query.trim_end_matches('&'));
    let expected: String = match sum.len() {
        40 => sha1::Sha1::digest(input.as_bytes()).iter().map(|b| format!("{b:02x}")).collect(),
        64 => sha2::Sha256::digest(input.as_bytes()).iter().map(|b| format!("{b:02x}")).collect(),
        other => panic!("a checksum of {other} digits"),
    };
    assert_eq!(sum, expected, "{raw}");
}

#[track_caller]
fn check_no_secret(text: &str) {
    for secret in [SECRET, PASSWORD, "moderator", "checksum=", "http://", "node-secret"] {
        assert!(!text.contains(secret), "{secret:?} in {text:?}");
    }
}

async fn look_one(platform: &BigBlueButton, target: Target) -> (Sighting, Round) {
    let round = platform.look(&[target]).await;
    (round.sightings[0].clone(), round)
}

#[tokio::test]
async fn one_listing_answers_all_targets() {
    let bed = Bed::new(Front::Direct).await;
    bed.lists(&[("math 101/ä", "i-1"), ("room-b", "i-2"), ("w", "i-3")]).await;
    let platform = bed.platform();
    platform.front.known().tried = Some(platform.now());
    platform.notes().shown_before.insert("i-3".into());
    let all = [
        target("math 101/ä", Purpose::Arm),
        target("room-b", Purpose::Arm),
        pinned("gone", "i-9", Purpose::Confirm),
    ];
    let round = platform.look(&all).await;
    assert_eq!(bed.calls().await, ["getMeetings"]);
    let Sighting::Live(instance) = &round.sightings[0] else { panic!("{:?}", round.sightings) };
    assert_eq!((instance.id.as_str(), instance.listed), ("i-1", true));
    assert_eq!((instance.started_at, instance.participants), (Some(UtcMs(WALL - 60_000)), Some(1500)));
    assert_eq!(round.sightings[2], Sighting::NotThere(Evidence { listing: true, info: false, node: false }));
    assert_eq!(round.listings[""], [InstanceId::from("i-3")], "what jobs are about is no witness");
    assert!(round.trouble.is_empty());
    check_signature(&bed.requests().await[0], SECRET);
}

/// What the listing showed is as old as the listing, however long a later question takes.
#[tokio::test]
async fn a_sighting_is_as_old_as_the_answer_that_showed_it() {
    let bed = Bed::new(Front::Direct).await;
    bed.lists(&[("room-b", "i-2")]).await;
    bed.on("getMeetingInfo", failed("notFound")).await;
    // Every reading is a millisecond later than the one before.
    let readings = std::sync::atomic::AtomicI64::new(0);
    let clock = move || {
        let ms = readings.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        Now { wall: UtcMs(WALL + ms), boot: BootMs(ms) }
    };
    let platform = BigBlueButton::new(&"campus".into(), &bed.settings, Arc::new(clock)).unwrap();
    platform.front.known().tried = Some(platform.now());
    let round = platform.look(&[target("room-b", Purpose::Arm), target("late", Purpose::Arm)]).await;
    let Sighting::Live(instance) = &round.sightings[0] else { panic!("{:?}", round.sightings) };
    assert!(instance.shown_at.unwrap().boot < round.received.boot);
    let info = bed.sent("getMeetingInfo").await;
    assert_eq!(info.len(), 1, "the question about the other came after the listing");
}

#[tokio::test]
async fn a_lone_arm_asks_for_the_meeting_and_the_listing_and_learns_the_password() {
    let bed = Bed::new(Front::Direct).await;
    bed.lists(&[("math 101/ä", "i-1")]).await;
    bed.on("getMeetingInfo", success(&fields("math 101/ä", "i-1"))).await;
    bed.on("end", success("<messageKey>sentEndMeetingRequest</messageKey>")).await;
    let platform = bed.platform();
    let (seen, _) = look_one(&platform, target("math 101/ä", Purpose::Arm)).await;
    assert!(matches!(seen, Sighting::Live(instance) if instance.listed));
    assert_eq!(platform.end(&end_call("math 101/ä", pin("i-1", None), false)).await, EndAnswer::Accepted);
    let sent = bed.sent("end").await;
    let query = "meetingID=math%20101%2F%C3%A4&password=moderator%27s%20own&checksum=";
    assert!(sent[0].url.query().unwrap().starts_with(query), "{:?}", sent[0].url.query());
    assert!(!sent[0].headers.contains_key("accept-encoding"));
    assert!(sent[0].headers["user-agent"].to_str().unwrap().starts_with("adjourn/"));
    for request in bed.requests().await.iter().filter(|request| !call_of(request).is_empty()) {
        check_signature(request, SECRET);
    }
}

#[tokio::test]
async fn a_meeting_that_is_not_listed_is_asked_for_before_it_is_called_absent() {
    let bed = Bed::new(Front::Direct).await;
    bed.lists(&[]).await;
    bed.on("getMeetingInfo", failed("notFound")).await;
    let platform = bed.platform();
    let (seen, round) = look_one(&platform, target("m", Purpose::Confirm)).await;
    assert_eq!(seen, Sighting::NotThere(Evidence { listing: true, info: true, node: false }));
    assert!(round.listings[""].is_empty());
}

#[tokio::test]
async fn http_errors_and_html_are_never_an_absence() {
    for status in [301, 302, 400, 404, 429, 500, 502, 503, 504] {
        let bed = Bed::new(Front::Direct).await;
        bed.on("getMeetings", html(status)).await;
        bed.on("getMeetingInfo", html(status)).await;
        let (seen, round) = look_one(&bed.platform(), pinned("m", "i", Purpose::Confirm)).await;
        assert!(matches!(&seen, Sighting::Unreachable(why) if why.contains(&status.to_string())), "{seen:?}");
        assert!(round.trouble.contains_key("") && round.listings.is_empty());
        check_no_secret(&format!("{round:?}"));
    }
    let bed = Bed::new(Front::Direct).await;
    bed.on("getMeetings", html(200)).await;
    bed.on("getMeetingInfo", html(200)).await;
    let (seen, round) = look_one(&bed.platform(), pinned("m", "i", Purpose::Confirm)).await;
    assert!(matches!(seen, Sighting::Doubtful(_)), "{seen:?}");
    check_no_secret(&format!("{round:?}"));
}

#[tokio::test]
async fn a_truncated_listing_falls_back_to_single_looks() {
    let bed = Bed::new(Front::Direct).await;
    let cut = format!("<response><returncode>SUCCESS</returncode><meetings>{}<meeting>", meeting("x", "i-7"));
    bed.on("getMeetings", xml(&cut)).await;
    let there = Mock::given(path(format!("{API}/getMeetingInfo"))).and(query_param("meetingID", "there"));
    there.respond_with(success(&fields("there", "i-1"))).mount(&bed.server).await;
    bed.on("getMeetingInfo", failed("notFound")).await;
    let platform = bed.platform();
    let all = [pinned("there", "i-1", Purpose::Confirm), pinned("gone", "i-2", Purpose::Confirm)];
    let round = platform.look(&all).await;
    assert!(matches!(&round.sightings[0], Sighting::Live(instance) if !instance.listed));
    assert_eq!(round.sightings[1], Sighting::NotThere(Evidence { listing: false, info: true, node: false }));
    assert!(round.listings.is_empty() && round.trouble.is_empty());
}

#[tokio::test]
async fn is_meeting_running_is_the_last_resort_and_only_its_yes_counts() {
    for (running, expected) in [("true", true), ("false", false)] {
        let bed = Bed::new(Front::Direct).await;
        bed.on("getMeetings", xml("<response>")).await;
        bed.on("getMeetingInfo", failed("internalError")).await;
        bed.on("isMeetingRunning", success(&format!("<running>{running}</running>"))).await;
        let (seen, _) = look_one(&bed.platform(), pinned("m", "i", Purpose::Confirm)).await;
        assert_eq!(seen == Sighting::Occupied, expected, "{seen:?}");
        assert!(expected || matches!(seen, Sighting::Doubtful(_)), "{seen:?}");
    }
}

#[tokio::test]
async fn refused_checksums_are_our_configuration() {
    for answer in
        [failed("checksumError"), ResponseTemplate::new(401).set_body_string("Unauthorized"), html(403)]
    {
        let bed = Bed::new(Front::Direct).await;
        for call in ["getMeetings", "getMeetingInfo", "end", "isMeetingRunning"] {
            bed.on(call, answer.clone()).await;
        }
        let platform = bed.platform();
        let (seen, round) = look_one(&platform, pinned("m", "i", Purpose::Confirm)).await;
        let Sighting::Misconfigured(why) = seen else { panic!("{seen:?}") };
        assert!(
            why.contains("campus") && why.contains("sha256") && why.contains("bbb-conf --secret"),
            "{why}"
        );
        let ended = platform.end(&end_call("m", pin("i", None), false)).await;
        assert!(matches!(ended, EndAnswer::Misconfigured { .. }), "{ended:?}");
        let fault = platform.probe().await.unwrap_err();
        assert!(matches!(fault, Fault::Misconfigured(_)), "{fault:?}");
        assert!(matches!(platform.meetings().await, Err(Fault::Misconfigured(_))));
        check_no_secret(&format!("{round:?} {ended:?} {fault:?} {fault}"));
    }
}

#[tokio::test]
async fn a_server_that_is_down_was_never_reached() {
    let mut bed = Bed::new(Front::Direct).await;
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    bed.settings.url = Url::parse(&format!("http://{}{API}/", listener.local_addr().unwrap())).unwrap();
    drop(listener);
    let platform = bed.platform();
    let (seen, round) = look_one(&platform, pinned("m", "i", Purpose::Confirm)).await;
    assert!(matches!(&seen, Sighting::Unreachable(why) if why.contains("cannot connect")), "{seen:?}");
    let ended = platform.end(&end_call("m", pin("i", None), false)).await;
    assert!(matches!(ended, EndAnswer::Unreachable { sent: false, .. }), "{ended:?}");
    assert!(matches!(platform.probe().await, Err(Fault::Unreachable(_))));
    check_no_secret(&format!("{round:?} {ended:?}"));
}

#[tokio::test]
async fn an_answer_beyond_the_bound_is_doubtful() {
    let bed = Bed::new(Front::Direct).await;
    bed.on("getMeetings", html(404)).await;
    let padding = " ".repeat(crate::platform::http::ANSWER_LIMIT);
    bed.on("getMeetingInfo", success(&format!("{}{padding}", fields("m", "i")))).await;
    bed.on("isMeetingRunning", success("<running>false</running>")).await;
    let (seen, _) = look_one(&bed.platform(), pinned("m", "i", Purpose::Confirm)).await;
    assert!(matches!(&seen, Sighting::Doubtful(why) if why.contains("larger than")), "{seen:?}");
}

#[tokio::test]
async fn an_end_call_that_is_not_answered_may_have_worked() {
    let slow = success("").set_delay(Duration::from_secs(20));
    for answer in [slow, html(404), html(502), html(200), xml("<response><returncode>SUC")] {
        let bed = Bed::new(Front::Direct).await;
        bed.on("end", answer).await;
        let ended = bed.platform().end(&end_call("m", pin("i", None), false)).await;
        assert!(matches!(ended, EndAnswer::Unreachable { sent: true, .. }), "{ended:?}");
        check_no_secret(&format!("{ended:?}"));
        assert_eq!(bed.calls().await, ["end"], "nothing is repeated behind our back");
    }
}

#[tokio::test]
async fn an_end_call_is_not_redirected() {
    let there = Bed::new(Front::Direct).await;
    let bed = Bed::new(Front::Direct).await;
    bed.on("end", ResponseTemplate::new(302).insert_header("Location", there.settings.url.as_str())).await;
    let ended = bed.platform().end(&end_call("m", pin("i", None), false)).await;
    assert!(matches!(&ended, EndAnswer::Unreachable { why, .. } if why.contains("redirect")), "{ended:?}");
    assert!(there.requests().await.is_empty());
}

#[tokio::test]
async fn throttling_says_when_to_come_back() {
    let date = "Thu, 06 Nov 2025 08:50:37 GMT";
    for (header, expected) in [("7", Some(7)), (date, Some(60)), ("soon", None)] {
        for status in [429, 503] {
            let bed = Bed::new(Front::Direct).await;
            bed.on("end", html(status).insert_header("Retry-After", header).insert_header("Date", "x")).await;
            let ended = bed.platform().end(&end_call("m", pin("i", None), false)).await;
            let EndAnswer::Throttled { retry_after, .. } = &ended else { panic!("{ended:?}") };
            assert_eq!(*retry_after, expected.map(Duration::from_secs), "{header}");
        }
    }
}

#[tokio::test]
async fn unknown_meetings_and_refusals() {
    for (key, gone) in
        [("notFound", true), ("invalidPassword", true), ("validationError", true), ("x", false)]
    {
        let bed = Bed::new(Front::Direct).await;
        bed.on("end", failed(key)).await;
        let ended = bed.platform().end(&end_call("m", pin("i", None), false)).await;
        assert_eq!(matches!(ended, EndAnswer::MaybeGone { .. }), gone, "{ended:?}");
    }
}

#[tokio::test]
async fn a_short_hex_id_that_resolves_to_a_stranger_is_not_ended() {
    let bed = Bed::new(Front::Direct).await;
    bed.lists(&[("cafe", "0f-1"), ("other", "9a-1")]).await;
    bed.on("getMeetingInfo", success(&fields("other", "9a-1"))).await;
    let all = [target("cafe", Purpose::BeforeEnd), target("other", Purpose::BeforeEnd)];
    let round = bed.platform().look(&all).await;
    assert!(matches!(&round.sightings[0], Sighting::Doubtful(why) if why.contains("longer meeting id")));
    assert!(matches!(&round.sightings[1], Sighting::Live(_)));
    assert_eq!(bed.sent("getMeetingInfo").await.len(), 1, "only for the id that may be a prefix");
}

#[tokio::test]
async fn start_times_are_on_our_clock() {
    let bed = Bed::new(Front::Direct).await;
    let all = success(&format!("<meetings>{}</meetings>", meeting("m", "i")));
    // The server is half a minute ahead.
    bed.on("getMeetings", all.insert_header("Date", "Thu, 06 Nov 2025 08:50:07 GMT")).await;
    let (seen, _) = look_one(&bed.platform(), target("m", Purpose::Guard)).await;
    let Sighting::Live(instance) = seen else { panic!("{seen:?}") };
    let (given, corrected) = (WALL - 60_000, WALL - 90_500);
    assert_eq!(instance.started_at, Some(UtcMs(corrected)));
    let beyond_doubt = StartRange { earliest: UtcMs(corrected - 2_000), latest: UtcMs(given + 2_000) };
    assert_eq!(instance.start, Some(beyond_doubt));
}

#[tokio::test]
async fn a_balancers_clock_corrects_no_other_machines_starts() {
    for front in [Front::Balancer, Front::Scalelite, Front::PlugNmeet, Front::Auto] {
        let bed = Bed::new(front).await;
        let all = success(&format!("<meetings>{}</meetings>", meeting("m", "i")));
        bed.on("getMeetings", all.insert_header("Date", "Thu, 06 Nov 2025 08:50:07 GMT")).await;
        let (seen, _) = look_one(&bed.platform(), target("m", Purpose::Guard)).await;
        let Sighting::Live(instance) = seen else { panic!("{seen:?}") };
        let given = WALL - 60_000;
        assert_eq!(instance.started_at, Some(UtcMs(given)), "{front:?}");
        let beyond_doubt = StartRange { earliest: UtcMs(given - 60_000), latest: UtcMs(given + 60_000) };
        assert_eq!(instance.start, Some(beyond_doubt), "{front:?}");
    }
}

#[tokio::test]
async fn the_starts_of_a_server_whose_clock_is_far_off_say_nothing_and_an_alarm_says_so_once() {
    let bed = Bed::new(Front::Direct).await;
    let all = success(&format!("<meetings>{}</meetings>", meeting("m", "i")));
    bed.on("getMeetings", all.insert_header("Date", "Thu, 06 Nov 2025 10:49:37 GMT")).await;
    let platform = bed.platform();
    let wanted = [target("m", Purpose::Guard)];
    let round = platform.look(&wanted).await;
    let Sighting::Live(instance) = &round.sightings[0] else { panic!("{round:?}") };
    assert_eq!((instance.started_at, instance.start), (None, None));
    assert_eq!(platform.meetings().await.unwrap()[0].started_at, None, "rules count from the first sighting");
    let judged = platform.judge(&Memory::default(), &round, &wanted);
    assert!(judged.alarms.iter().any(|alarm| alarm.contains("2h ahead")), "{:?}", judged.alarms);
    assert!(platform.judge(&judged.memory, &round, &wanted).alarms.is_empty());
}

#[tokio::test]
async fn a_start_in_seconds_says_nothing() {
    let bed = Bed::new(Front::Direct).await;
    let seconds = fields("m", "i").replace(&(WALL - 60_000).to_string(), &(WALL / 1000 - 60).to_string());
    bed.on("getMeetings", success(&format!("<meetings><meeting>{seconds}</meeting></meetings>"))).await;
    let (seen, _) = look_one(&bed.platform(), target("m", Purpose::Guard)).await;
    let Sighting::Live(instance) = seen else { panic!("{seen:?}") };
    assert_eq!((instance.started_at, instance.start), (None, None));
}

#[tokio::test]
async fn single_looks_are_bounded() {
    let bed = Bed::new(Front::Balancer).await;
    bed.lists(&[]).await;
    bed.on("getMeetingInfo", failed("notFound")).await;
    let all: Vec<Target> = (0..200).map(|n| target(&format!("m{n}"), Purpose::BeforeEnd)).collect();
    let round = bed.platform().look(&all).await;
    assert_eq!(bed.sent("getMeetingInfo").await.len(), 64);
    assert_eq!(round.sightings.len(), 200);
}

#[tokio::test]
async fn a_large_listing_is_read_whole_and_off_the_async_threads() {
    let bed = Bed::new(Front::Direct).await;
    let ids: Vec<(String, String)> = (0..2000).map(|n| (format!("m{n}"), format!("i{n}"))).collect();
    let all: Vec<(&str, &str)> = ids.iter().map(|(id, internal)| (id.as_str(), internal.as_str())).collect();
    bed.lists(&all).await;
    let (seen, round) = look_one(&bed.platform(), target("m1999", Purpose::Guard)).await;
    assert!(matches!(seen, Sighting::Live(instance) if instance.id.as_str() == "i1999"));
    assert_eq!(round.listings[""].len(), 1999);
}

#[tokio::test]
async fn breakout_rooms_are_no_witnesses() {
    let bed = Bed::new(Front::Direct).await;
    let room = format!("<meeting>{}<isBreakout>true</isBreakout></meeting>", fields("b", "i-2"));
    bed.on("getMeetings", success(&format!("<meetings>{room}{}</meetings>", meeting("w", "i-3")))).await;
    let (_, round) = look_one(&bed.platform(), pinned("m", "i-1", Purpose::Confirm)).await;
    assert_eq!(round.listings[""], [InstanceId::from("i-3")]);
}

#[tokio::test]
async fn nobody_to_look_at_is_no_request() {
    let bed = Bed::new(Front::Direct).await;
    let round = bed.platform().look(&[]).await;
    assert!(round.sightings.is_empty() && bed.requests().await.is_empty());
}

#[tokio::test]
async fn meetings_are_listed_for_people() {
    let bed = Bed::new(Front::Direct).await;
    bed.lists(&[("m", "i")]).await;
    let no_query = Mock::given(query_param_is_missing("checksum")).respond_with(html(500));
    no_query.expect(0).mount(&bed.server).await;
    let live = bed.platform().meetings().await.unwrap();
    assert_eq!(live.len(), 1);
    assert_eq!((live[0].name.as_str(), live[0].participants), ("Room", Some(1500)));
    check_no_secret(&format!("{live:?}"));
}

#[tokio::test]
async fn rules_hear_of_metadata_and_of_breakout_rooms() {
    let bed = Bed::new(Front::Direct).await;
    let main = format!("{}<metadata><bbb-origin>Moodle</bbb-origin></metadata>", fields("m", "i"));
    let room =
        format!("{}<isBreakout>true</isBreakout><parentMeetingID>i</parentMeetingID>", fields("r", "j"));
    let orphan = format!("{}<isBreakout>true</isBreakout>", fields("o", "k"));
    let meetings: String =
        [main, room, orphan].iter().map(|one| format!("<meeting>{one}</meeting>")).collect();
    bed.on("getMeetings", success(&format!("<meetings>{meetings}</meetings>"))).await;
    let live = bed.platform().meetings().await.unwrap();
    assert_eq!(live[0].meta["bbb-origin"], "Moodle");
    let breakouts: Vec<Option<&str>> = live.iter().map(|live| live.breakout_of.as_deref()).collect();
    assert_eq!(breakouts, [None, Some("i"), Some("")], "one does not say whose");
}

#[test]
fn settings_show_no_secret() {
    let secret = SecretString::from(SECRET);
    let url = Url::parse("https://h/bigbluebutton/api/").unwrap();
    let node = NodeSettings {
        name: "n1".to_owned(),
        url: url.clone(),
        network: Network::default(),
        secret: SecretString::from("node-secret"),
        checksum: Algorithm::Sha1,
    };
    let settings = Settings {
        url,
        network: Network::default(),
        secret,
        checksum: Algorithm::Sha256,
        front: Front::Auto,
        believe: Believe::Proof,
        instance_ids: None,
        nodes: vec![node],
    };
    check_no_secret(&format!("{settings:?}"));
}
