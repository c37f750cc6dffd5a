//! Against a simulated app on loopback: what goes over the wire, and what comes of its answers.

pub mod app;
pub mod contract;

use std::sync::Arc;

use secrecy::SecretString;
use serde_json::json;
use wiremock::ResponseTemplate;

use self::app::{App, TOKEN, WALL, failure, gateway, html, ok, success};
use super::*;
use crate::job::{
    Evidence, Instance, InstanceId, JobId, Now, Purpose, ServerClock, Sighting, StartRange, UtcMs, Verdict,
};

fn target(meeting: &str, purpose: Purpose, pinned: Option<&str>) -> Target {
    Target {
        job: JobId(uuid::Uuid::nil()),
        meeting: meeting.into(),
        purpose,
        instance: pinned.map(InstanceId::from),
        pin: pinned.map(pin),
        end_sent: false,
        accepted: false,
        ends_clean: true,
        since: None,
    }
}

fn pin(id: &str) -> Pin {
    Pin {
        instance: id.into(),
        started_at: None,
        listed: true,
        node: None,
        site: None,
        last_live: Now::default(),
    }
}

fn call(meeting: &str) -> EndCall {
    EndCall {
        job: JobId(uuid::Uuid::nil()),
        meeting: meeting.into(),
        pin: pin("s"),
        attempt: 1,
        resend: false,
    }
}

async fn see(platform: &RealtimeKit, target: Target) -> Sighting {
    platform.look(&[target]).await.sightings.remove(0)
}

fn many(purpose: Purpose, count: usize) -> Vec<Target> {
    (0..count).map(|n| target(&format!("m-{n}"), purpose, Some(&format!("s-{n}")))).collect()
}

async fn crowd(count: usize) -> App {
    let app = App::new().await;
    (0..count).for_each(|n| app.live(&format!("m-{n}"), &format!("s-{n}")));
    app
}

#[track_caller]
fn check_no_secret(text: &str) {
    for secret in [TOKEN, "Bearer", "Basic", "b3JnOmN", "http://", "acc-1"] {
        assert!(!text.contains(secret), "{secret:?} in {text:?}");
    }
}

const UNLISTED: Evidence = Evidence { listing: false, info: true, node: false };

#[tokio::test]
async fn one_meeting_is_asked_for_by_itself() {
    let app = App::new().await;
    app.live("m 1/ä", "s");
    let platform = app.platform();
    let Sighting::Live(seen) = see(&platform, target("m 1/ä", Purpose::Arm, None)).await else {
        panic!("it is live")
    };
    let started_at = Some(UtcMs(WALL - 60_000));
    let expected = Instance {
        id: "s".into(),
        started_at,
        start: StartRange::told(UtcMs(WALL - 60_000), ServerClock::Unknown, UtcMs(WALL)).map(|told| told.1),
        participants: Some(3),
        listed: false,
        node: None,
        shown_at: Some(app.state().now),
        asked_at: None,
    };
    assert_eq!(seen, expected);
    assert_eq!(app.calls(), ["active-session"]);
    assert!(matches!(platform.end(&call("m 1/ä")).await, EndAnswer::Accepted));
    assert_eq!(app.calls(), ["kick-all"]);
    let over = see(&platform, target("m 1/ä", Purpose::Confirm, Some("s"))).await;
    assert_eq!(over, Sighting::Over { next: None });
    assert_eq!(app.calls(), ["session", "active-session"]);
    assert_eq!(platform.aim(&pin("s")), Aim::Meeting);
}

#[tokio::test]
async fn both_hosts_are_asked_the_same() {
    for app in [App::new().await, App::legacy().await] {
        app.live("m", "s");
        let platform = app.platform();
        assert!(matches!(see(&platform, target("m", Purpose::Arm, None)).await, Sighting::Live(_)));
        assert_eq!(platform.end(&call("m")).await, EndAnswer::Accepted);
        assert_eq!(platform.meetings().await.unwrap(), []);
        let kind = if app.legacy { "realtimekit-legacy" } else { "realtimekit" };
        assert_eq!(platform.kind(), kind);
    }
}

#[tokio::test]
async fn starts_are_believed_to_a_minute_whatever_a_machine_of_the_cloud_says_the_time_is() {
    let app = App::new().await;
    app.live("m", "s");
    // Our clock is half a minute ahead of the server's.
    app.state().now.wall = UtcMs(WALL + 30_000);
    let platform = app.platform();
    let Sighting::Live(seen) = see(&platform, target("m", Purpose::Arm, None)).await else { panic!() };
    let given = WALL - 60_000;
    let beyond_doubt = StartRange { earliest: UtcMs(given - 60_000), latest: UtcMs(given + 60_000) };
    assert_eq!((seen.started_at, seen.start), (Some(UtcMs(given)), Some(beyond_doubt)));
}

#[tokio::test]
async fn a_wrong_meeting_or_app_is_not_an_absence() {
    let app = App::new().await;
    app.state().meetings.insert("empty".to_owned());
    let platform = app.platform();
    let before = |meeting| target(meeting, Purpose::BeforeEnd, None);
    assert_eq!(see(&platform, before("empty")).await, Sighting::NotThere(UNLISTED));
    assert_eq!(app.calls(), ["active-session", "meeting"]);
    assert_eq!(see(&platform, before("empty")).await, Sighting::NotThere(UNLISTED));
    assert_eq!(app.calls(), ["active-session"], "that it exists is known");
    app.pass(KNOWN_FOR);
    app.state().meetings.remove("empty");
    assert!(matches!(see(&platform, before("empty")).await, Sighting::Doubtful(_)), "it may be deleted");
    app.state().meetings.insert("empty".to_owned());
    let Sighting::Doubtful(why) = see(&platform, before("typo")).await else { panic!("it proves nothing") };
    assert!(why.contains("wrong meeting id or app"), "{why}");
    // The same where a walk did not show it.
    let targets: Vec<Target> = (0..4).map(|n| before(["typo", "empty", "b", "c"][n])).collect();
    let seen = platform.look(&targets).await.sightings;
    assert!(matches!(&seen[0], Sighting::Doubtful(_)), "{seen:?}");
    assert_eq!(seen[1], Sighting::NotThere(Evidence { listing: true, info: false, node: false }));
}

#[tokio::test]
async fn five_hundred_are_armed_by_one_walk_and_confirmed_by_two() {
    let app = crowd(500).await;
    let platform = app.platform();
    let armed = platform.look(&many(Purpose::Arm, 500)).await;
    assert!(armed.sightings.iter().all(|seen| matches!(seen, Sighting::Live(_))));
    assert_eq!(app.calls(), ["sessions"; 5]);
    (0..500).for_each(|n| app.end(&format!("s-{n}")));
    let targets = many(Purpose::Confirm, 500);
    for _ in 0..2 {
        app.pass(Duration::from_secs(2));
        let round = platform.look(&targets).await;
        let judged = platform.judge(&Memory::default(), &round, &targets);
        assert!(judged.verdicts.iter().all(|verdict| *verdict == Verdict::Gone { needed: 2 }));
    }
    assert_eq!(app.calls(), ["sessions"; 2]);
}

#[tokio::test]
async fn a_few_that_are_missing_are_proven_by_their_records() {
    let app = crowd(300).await;
    (0..8).for_each(|n| app.end(&format!("s-{n}")));
    let platform = app.platform();
    let seen = platform.look(&many(Purpose::Confirm, 300)).await.sightings;
    assert!(seen[..8].iter().all(|seen| *seen == Sighting::Over { next: None }), "{:?}", &seen[..8]);
    assert!(seen[8..].iter().all(|seen| matches!(seen, Sighting::Live(_))));
    let calls = app.calls();
    assert_eq!(calls.iter().filter(|call| **call == "session").count(), 8, "{calls:?}");
}

#[tokio::test]
async fn where_many_are_missing_the_first_page_is_read_again() {
    let app = crowd(60).await;
    app.state().page_size = Some(20);
    (0..20).for_each(|n| app.end(&format!("s-{n}")));
    let platform = app.platform();
    let seen = platform.look(&many(Purpose::Confirm, 60)).await.sightings;
    assert!(seen[..20].iter().all(|seen| matches!(seen, Sighting::NotThere(_))), "{:?}", &seen[..20]);
    assert_eq!(app.calls(), ["sessions"; 3]);
}

#[tokio::test]
async fn pages_of_any_size_are_walked() {
    for (size, pages) in [(1, 7), (3, 3), (7, 1)] {
        let app = crowd(7).await;
        app.state().page_size = Some(size);
        let seen = app.platform().look(&many(Purpose::Arm, 7)).await.sightings;
        assert!(seen.iter().all(|seen| matches!(seen, Sighting::Live(_))), "{seen:?}");
        assert_eq!(app.calls(), vec!["sessions"; pages]);
    }
}

#[tokio::test]
async fn a_listing_that_moves_is_walked_three_times_and_proves_nothing() {
    let app = crowd(40).await;
    {
        let mut state = app.state();
        state.page_size = Some(10);
        state.restless = true;
    }
    let platform = app.platform();
    let seen = platform.look(&many(Purpose::Confirm, 40)).await.sightings;
    assert!(!seen.iter().any(|seen| matches!(seen, Sighting::NotThere(_))), "{seen:?}");
    let over = seen.iter().filter(|seen| matches!(seen, Sighting::Over { .. })).count();
    assert!(over > 0, "their records prove it: {seen:?}");
    let calls = app.calls();
    let pages = calls.iter().filter(|call| **call == "sessions").count();
    assert!((10..=12).contains(&pages), "{calls:?}");
}

#[tokio::test]
async fn a_listing_without_a_total_shows_but_does_not_prove() {
    let app = App::new().await;
    app.live("m-0", "s-0");
    let row = app.state().rows[0].json(BootMs(0));
    app.says("sessions", ok(success(json!({ "sessions": [row] }))));
    let seen = app.platform().look(&many(Purpose::Confirm, 3)).await.sightings;
    assert!(matches!(seen[0], Sighting::Live(_)), "{seen:?}");
    assert!(seen[1..].iter().all(|seen| matches!(seen, Sighting::Doubtful(_))), "{seen:?}");
}

#[tokio::test]
async fn a_row_that_cannot_be_read_fails_no_other() {
    let app = App::new().await;
    (0..2).for_each(|n| app.live(&format!("m-{n}"), &format!("s-{n}")));
    let row = app.state().rows[0].json(BootMs(0));
    let mut page = success(json!({ "sessions": [row, { "id": "x", "status": "WAITING" }] }));
    page["paging"] = json!({ "total_count": 2 });
    app.says("sessions", ok(page));
    let platform = app.platform();
    let seen = platform.look(&many(Purpose::Confirm, 3)).await.sightings;
    assert!(seen[..2].iter().all(|seen| matches!(seen, Sighting::Live(_))), "{seen:?}");
    assert!(matches!(seen[2], Sighting::Doubtful(_)), "no absence: {seen:?}");
    let listed = platform.listing().await.unwrap();
    assert_eq!((listed.live.len(), listed.complete), (1, false));
}

#[tokio::test]
async fn the_next_class_is_seen_as_the_next_one() {
    let app = App::new().await;
    app.live("m", "s");
    app.end("s");
    app.live("m", "t");
    let platform = app.platform();
    let confirm = target("m", Purpose::Confirm, Some("s"));
    let Sighting::Over { next: Some(next) } = see(&platform, confirm.clone()).await else { panic!() };
    assert_eq!(next.id.as_str(), "t");
    let seen = platform.look(&[confirm, target("x", Purpose::Arm, None)]).await;
    assert!(matches!(&seen.sightings[0], Sighting::Over { next: Some(_) }), "{:?}", seen.sightings);
}

#[tokio::test]
async fn a_ghost_stays_live_and_is_kicked_again() {
    let app = App::new().await;
    app.live("m", "ghost");
    let platform = app.platform();
    platform.close_room(&"m".into()).await.unwrap();
    assert_eq!(app.state().inactive.len(), 1);
    let seen = see(&platform, target("m", Purpose::Confirm, Some("ghost"))).await;
    assert!(matches!(seen, Sighting::Live(_)), "INACTIVE proves nothing: {seen:?}");
    assert_eq!(platform.end(&call("m")).await, EndAnswer::Accepted);
    assert_eq!(
        see(&platform, target("m", Purpose::Confirm, Some("ghost"))).await,
        Sighting::Over { next: None }
    );
}

#[tokio::test]
async fn rooms_are_closed_and_opened() {
    let app = App::new().await;
    app.state().meetings.insert("m".to_owned());
    let platform = app.platform();
    let room = MeetingId::from("m");
    for _ in 0..2 {
        platform.close_room(&room).await.unwrap();
        assert!(app.state().inactive.contains("m"));
    }
    platform.open_room(&room).await.unwrap();
    assert!(!app.state().inactive.contains("m"));
    let wrong = platform.close_room(&"typo".into()).await.unwrap_err();
    assert!(matches!(&wrong, Fault::Misconfigured(why) if why.contains("HTTP 404")), "{wrong}");
    app.says("lock", ok(success(json!({ "id": "m", "status": "ACTIVE" }))));
    assert!(platform.close_room(&room).await.is_err(), "it must say what was asked for");
}

#[tokio::test]
async fn failures_of_every_form_prove_nothing_and_show_no_secret() {
    let forms: [(ResponseTemplate, bool); 8] = [
        (failure(500, "internal"), true),
        (failure(404, "not found"), false),
        (failure(200, "nothing live"), false),
        (gateway(502, 1, "bad gateway"), true),
        (gateway(403, 10_000, "Authentication error"), false),
        (html(200), true),
        (html(404), true),
        (ResponseTemplate::new(200).set_body_raw("{\"success\":true,\"da", "application/json"), true),
    ];
    for (form, outage) in forms {
        let app = App::new().await;
        app.live("m", "s");
        for name in ["active-session", "session", "sessions", "meeting", "meetings", "kick-all", "lock"] {
            app.says(name, form.clone());
        }
        let platform = app.platform();
        let mut texts = Vec::new();
        for targets in [vec![target("m", Purpose::Confirm, Some("s"))], many(Purpose::BeforeEnd, 4)] {
            let round = platform.look(&targets).await;
            assert_eq!(round.trouble.contains_key(""), outage, "{:?}", round.sightings);
            let judged = platform.judge(&Memory::default(), &round, &targets);
            let proof =
                |verdict: &Verdict| matches!(verdict, Verdict::Gone { .. } | Verdict::Replaced { .. });
            assert!(!judged.verdicts.iter().any(proof), "{:?}", judged.verdicts);
            texts.push(format!("{:?} {:?}", round.sightings, round.trouble));
        }
        let answer = platform.end(&call("m")).await;
        assert_ne!(answer, EndAnswer::Accepted);
        texts.push(format!("{answer:?}"));
        texts.push(platform.probe().await.unwrap_err().to_string());
        texts.push(platform.meetings().await.unwrap_err().to_string());
        texts.push(platform.close_room(&"m".into()).await.unwrap_err().to_string());
        texts.iter().for_each(|text| check_no_secret(text));
        assert!(texts[3].starts_with("events: a probe:"), "{}", texts[3]);
    }
}

#[tokio::test]
async fn a_server_that_repeats_the_credential_puts_it_in_no_text() {
    for app in [App::new().await, App::legacy().await] {
        let header =
            if app.legacy { "Basic b3JnOmNmLXQwa2VuLW9mLXRoZS1hcHA=" } else { "Bearer cf-t0ken-of-the-app" };
        app.says("active-session", failure(403, &format!("no rights for {header}, {TOKEN}")));
        app.says("lock", ok(success(json!({ "id": "m", "status": TOKEN }))));
        let platform = app.platform();
        let seen = see(&platform, target("m", Purpose::Arm, None)).await;
        let locked = platform.close_room(&"m".into()).await.unwrap_err();
        check_no_secret(&format!("{seen:?} {locked}"));
        assert!(matches!(seen, Sighting::Misconfigured(why) if why.contains("no rights for ***, ***")));
    }
}

#[tokio::test]
async fn a_wrong_token_is_said_with_the_permission_that_it_needs() {
    let app = App::new().await;
    let account = Account::Cloudflare {
        account_id: "acc-1".to_owned(),
        app_id: "app-1".to_owned(),
        token: SecretString::from("another-token"),
    };
    let settings = Settings { account, ..app.settings() };
    let now = app.state().now;
    let name = ServerName::from("events");
    let platform = RealtimeKit::new(&name, &settings, Arc::new(move || now)).unwrap();
    let fault = platform.probe().await.unwrap_err();
    let Fault::Misconfigured(why) = &fault else { panic!("{fault:?}") };
    assert!(why.contains("events: a probe: HTTP 401") && why.contains("Realtime or Realtime Admin"), "{why}");
    assert!(!why.contains("another-token"));
    assert!(matches!(see(&platform, target("m", Purpose::Arm, None)).await, Sighting::Misconfigured(_)));
    assert!(matches!(platform.end(&call("m")).await, EndAnswer::Misconfigured { .. }));
}

#[tokio::test]
async fn after_a_429_nothing_is_asked_until_the_time_that_it_names() {
    let app = crowd(3).await;
    app.says("kick-all", failure(429, "slow down").insert_header("retry-after", "40"));
    let platform = app.platform();
    let EndAnswer::Throttled { retry_after, .. } = platform.end(&call("m-0")).await else { panic!() };
    assert_eq!(retry_after, Some(Duration::from_secs(40)));
    app.state().scripted.clear();
    app.calls();
    let until = Some(app.state().now.boot + Duration::from_secs(40));
    assert_eq!(platform.ready(Work::Looks { before_end: true }), until);
    assert!(platform.ready(Work::End { under_way: 0 }) >= until);
    let answer = platform.end(&call("m-0")).await;
    let EndAnswer::Unreachable { sent: false, why } = answer else { panic!("{answer:?}") };
    assert!(why.contains("again in 41s"), "{why}");
    for targets in [many(Purpose::Arm, 1), many(Purpose::Confirm, 3)] {
        let round = platform.look(&targets).await;
        assert!(round.sightings.iter().all(|seen| matches!(seen, Sighting::Doubtful(_))), "{round:?}");
        assert!(round.trouble.is_empty(), "the server is well");
    }
    assert!(matches!(platform.probe().await, Err(Fault::Unreachable(_))));
    assert_eq!(app.calls(), [""; 0]);
    app.pass(Duration::from_secs(51));
    assert_eq!(platform.ready(Work::End { under_way: 0 }), None);
    assert_eq!(platform.end(&call("m-0")).await, EndAnswer::Accepted);
}

#[tokio::test]
async fn a_429_to_a_look_pauses_the_end_calls_of_the_same_token() {
    let app = App::new().await;
    app.live("m", "s");
    app.says("active-session", failure(429, "slow down"));
    let platform = app.platform();
    assert!(matches!(see(&platform, target("m", Purpose::Arm, None)).await, Sighting::Unreachable(_)));
    let after = platform.ready(Work::End { under_way: 0 }).map(|at| at.since(app.state().now.boot));
    assert!(after >= Some(Duration::from_secs(300)), "{after:?}");
}

#[tokio::test]
async fn no_more_single_questions_than_a_round_may_ask() {
    let app = App::new().await;
    let platform = app.platform();
    let targets: Vec<Target> =
        (0..100).map(|n| target(&format!("m-{n}"), Purpose::BeforeEnd, None)).collect();
    let round = platform.look(&targets).await;
    assert!(round.sightings.iter().all(|seen| matches!(seen, Sighting::Doubtful(_))));
    assert_eq!(app.calls().len(), 33, "one page and 32 questions");
}

#[tokio::test]
async fn with_too_many_for_one_round_each_has_its_turn() {
    let app = App::new().await;
    let targets: Vec<Target> = (0..80).map(|n| target(&format!("m-{n}"), Purpose::BeforeEnd, None)).collect();
    app.state().meetings.extend(targets.iter().map(|target| target.meeting.to_string()));
    let platform = app.platform();
    let mut seen = std::collections::BTreeSet::new();
    for _ in 0..3 {
        let round = platform.look(&targets).await;
        let clear = |seen: &Sighting| matches!(seen, Sighting::NotThere(_));
        seen.extend((0..targets.len()).filter(|at| clear(&round.sightings[*at])));
        app.pass(KNOWN_FOR);
    }
    assert_eq!(seen.len(), targets.len(), "{seen:?}");
}

#[tokio::test]
async fn where_the_listing_fails_the_meetings_are_asked_themselves() {
    let app = crowd(40).await;
    app.end("s-1");
    app.says("sessions", html(502));
    let platform = app.platform();
    let round = platform.look(&many(Purpose::Confirm, 3)).await;
    assert!(matches!(round.sightings[0], Sighting::Live(_)), "{round:?}");
    assert_eq!(round.sightings[1], Sighting::Over { next: None });
    assert!(round.trouble.is_empty(), "the server answers");
    app.calls();
    let round = platform.look(&many(Purpose::Confirm, 40)).await;
    assert_eq!(app.calls().len(), 33, "one page and 32 questions");
    let unreachable = round.sightings.iter().filter(|seen| matches!(seen, Sighting::Unreachable(_)));
    assert!(unreachable.count() >= 20, "{round:?}");
    // What everybody would hear is asked once.
    app.state().scripted.clear();
    app.says("sessions", failure(403, "no"));
    platform.look(&many(Purpose::Confirm, 3)).await;
    assert_eq!(app.calls(), ["sessions"]);
}

#[tokio::test]
async fn a_server_that_answers_nothing_is_not_asked_for_everything() {
    let app = crowd(40).await;
    ["sessions", "session", "active-session"].iter().for_each(|call| app.says(call, html(502)));
    let round = app.platform().look(&many(Purpose::Confirm, 40)).await;
    assert!(round.sightings.iter().all(|seen| matches!(seen, Sighting::Unreachable(_))), "{round:?}");
    assert!(round.trouble.contains_key(""));
    let calls = app.calls().len();
    assert!(calls <= 1 + 4 + 8, "{calls}");
}

#[tokio::test]
async fn a_probe_asks_for_one_meeting() {
    let app = crowd(3).await;
    let summary = app.platform().probe().await.unwrap().summary;
    assert_eq!(summary, "Cloudflare RealtimeKit; 3 meetings; end calls name the meeting");
    assert_eq!(app.calls(), ["meetings"]);
}

#[tokio::test]
async fn live_meetings_are_listed_for_people() {
    let app = crowd(3).await;
    app.end("s-1");
    let listed = app.platform().listing().await.unwrap();
    assert!(listed.complete);
    let mut meetings = listed.live;
    meetings.sort_by(|a, b| a.meeting.cmp(&b.meeting));
    let shown: Vec<(&str, &str, &str)> = meetings
        .iter()
        .map(|live| (live.meeting.as_str(), live.instance.as_str(), live.name.as_str()))
        .collect();
    assert_eq!(shown, [("m-0", "s-0", "Room m-0"), ("m-2", "s-2", "Room m-2")]);
    assert_eq!(meetings[0].started_at, Some(UtcMs(WALL - 60_000)));
}

#[test]
fn the_default_addresses_are_what_the_calls_are_joined_to() {
    let base = |url: &str, account| {
        Settings { url: url.parse().unwrap(), network: Network::default(), account }.base().to_string()
    };
    let token = || SecretString::from("t");
    let account =
        |id: &str| Account::Cloudflare { account_id: id.into(), app_id: "app".into(), token: token() };
    assert_eq!(
        base(CLOUDFLARE, account("a")),
        "https://api.cloudflare.com/client/v4/accounts/a/realtime/kit/app/"
    );
    let legacy = Account::Legacy { organization_id: "o".into(), secret: token() };
    assert_eq!(base(LEGACY, legacy), LEGACY);
}
