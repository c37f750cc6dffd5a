use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use uuid::Uuid;
use wiremock::matchers::{body_partial_json, method, path};
use wiremock::{Mock, MockServer, Request, ResponseTemplate};

use super::seen::name;
use super::*;
use crate::job::{BootMs, Evidence, InstanceId, JobId, UtcMs};
use crate::platform::rest::Reply;

const START: Now = Now { wall: UtcMs(1_764_604_800_000), boot: BootMs(50_000) };

fn at(secs: i64) -> Now {
    Now { wall: UtcMs(START.wall.0 + secs * 1_000), boot: BootMs(START.boot.0 + secs * 1_000) }
}

fn reply(status: u16, json: Value) -> Reply {
    Reply { status, json: Ok(json), retry_after: None }
}

fn success(response: Value) -> Value {
    json!({ "janus": "success", "transaction": "t", "response": response })
}

fn error(code: i64, text: &str) -> Value {
    success(json!({ "videoroom": "event", "error_code": code, "error": text }))
}

fn read(json: Value) -> Answer {
    answer::read("lab", "the end call", &reply(200, json))
}

#[track_caller]
fn check_end(json: Value, expected: &str) {
    assert_eq!(answer::ended(read(json)).to_string(), expected);
}

#[test]
fn only_destroyed_is_accepted_and_every_error_is_read_though_it_comes_as_a_success() {
    check_end(success(json!({ "videoroom": "destroyed", "room": 4242 })), "accepted");
    check_end(
        error(426, "No such room (4242)"),
        "refused as if the meeting were gone: lab refused the end call: No such room (4242) (426)",
    );
    check_end(
        error(433, "Unauthorized (wrong secret)"),
        "refused, credentials: lab refused the end call: Unauthorized (wrong secret) (433): the room has another secret \
         than room-secret; it may be another room under the same id",
    );
    check_end(
        json!({ "janus": "error", "error": { "code": 403, "reason": "Unauthorized request" } }),
        "refused, credentials: lab refused the end call: Unauthorized request (403): compare admin-secret with janus.jcfg",
    );
    check_end(
        error(499, "\u{1b}[31mboom"),
        "refused as if the meeting were gone: lab refused the end call: [31mboom (499)",
    );
    check_end(
        success(json!({ "videoroom": "edited" })),
        "refused as if the meeting were gone: the room was not said to be destroyed",
    );
}

#[test]
fn what_is_not_janus_proves_nothing() {
    let page = Reply { status: 502, json: Err("<html>".to_owned()), retry_after: None };
    let lost = answer::ended(answer::read("lab", "the end call", &page));
    assert!(matches!(lost, EndAnswer::Unreachable { sent: true, .. }), "{lost:?}");
    for json in [json!({ "exists": false }), json!([]), json!({ "response": { "exists": false } })] {
        assert!(matches!(answer::presence(read(json)), Presence::Unknown(Sighting::Unreachable(_))));
    }
    let elsewhere = answer::read("lab", "x", &reply(404, success(json!({ "exists": false }))));
    assert!(matches!(answer::presence(elsewhere), Presence::Unknown(Sighting::Unreachable(_))));
    let silent = answer::presence(read(success(json!({ "videoroom": "success" }))));
    assert!(matches!(silent, Presence::Unknown(Sighting::Doubtful(_))));
}

#[test]
fn existence() {
    let exists = |yes: bool| success(json!({ "videoroom": "success", "room": 4242, "exists": yes }));
    assert_eq!(answer::presence(read(exists(true))), Presence::There { participants: None });
    assert_eq!(answer::presence(read(exists(false))), Presence::NotThere);
    let odd = answer::presence(read(error(430, "Invalid element type")));
    let Presence::Unknown(Sighting::Misconfigured(why)) = odd else { panic!("{odd:?}") };
    assert!(why.contains("string-ids"), "{why}");
}

#[test]
fn rooms_are_listed_by_number_or_by_name() {
    let list = json!([
        { "room": 4242, "description": "Lab", "num_participants": 3 },
        { "room": "exam" },
        { "room": null },
    ]);
    let rooms = answer::rooms(read(success(json!({ "videoroom": "success", "list": list })))).unwrap();
    let shown: Vec<_> = rooms.iter().map(|room| (room.id.as_str(), room.participants)).collect();
    assert_eq!(shown, [("4242", Some(3)), ("exam", None)]);
    assert!(answer::rooms(read(success(json!({})))).is_err(), "a list that is none is not an empty one");
}

fn target(pin: Option<(&str, Now)>, end_sent: bool) -> Target {
    let pin = pin.map(|(instance, last_live)| Pin {
        instance: instance.into(),
        started_at: Some(START.wall),
        listed: false,
        node: None,
        site: None,
        last_live,
    });
    Target {
        job: JobId(Uuid::nil()),
        meeting: "4242".into(),
        purpose: Purpose::Confirm,
        instance: pin.as_ref().map(|pin| pin.instance.clone()),
        pin,
        end_sent,
        accepted: end_sent,
        ends_clean: true,
        since: None,
    }
}

const THERE: Presence = Presence::There { participants: None };

#[track_caller]
fn id(sighting: &Sighting) -> InstanceId {
    let (Sighting::Live(instance) | Sighting::Over { next: Some(instance) }) = sighting else {
        panic!("{sighting:?}")
    };
    instance.id.clone()
}

#[test]
fn an_instance_is_one_unbroken_row_of_sightings() {
    let mut seen = Seen::default();
    let unpinned = target(None, false);
    let first = id(&seen.sight(&unpinned, THERE, at(0)));
    assert_eq!(id(&seen.sight(&unpinned, THERE, at(300))), first, "the longest pause between looks");
    assert_ne!(id(&seen.sight(&unpinned, THERE, at(631))), first, "too long a gap");
    let third = id(&seen.sight(&unpinned, THERE, at(640)));
    assert_eq!(
        seen.sight(&unpinned, Presence::NotThere, at(650)),
        Sighting::NotThere(Evidence { info: true, ..Evidence::default() })
    );
    let fourth = seen.sight(&unpinned, THERE, at(651));
    assert_ne!(id(&fourth), third, "created again");
    let Sighting::Live(Instance { started_at, .. }) = fourth else { panic!() };
    assert_eq!(started_at, Some(at(651).wall), "not seen before: it counts as started now");
}

#[test]
fn what_could_not_be_seen_breaks_no_row() {
    let mut seen = Seen::default();
    let unpinned = target(None, false);
    let first = id(&seen.sight(&unpinned, THERE, at(0)));
    seen.sight(&unpinned, Presence::Unknown(Sighting::Unreachable("down".into())), at(20));
    assert_eq!(id(&seen.sight(&unpinned, THERE, at(40))), first);
}

#[test]
fn after_an_end_call_a_room_of_the_same_name_is_nobodys_until_it_was_gone() {
    let mut seen = Seen::default();
    let first = id(&seen.sight(&target(None, false), THERE, at(0)));
    let pinned = target(Some((first.as_str(), at(0))), true);
    seen.called(&"4242".into());
    assert!(matches!(seen.sight(&pinned, THERE, at(1)), Sighting::Doubtful(_)));
    seen.sight(&pinned, Presence::NotThere, at(3));
    let next = seen.sight(&pinned, THERE, at(4));
    assert_ne!(id(&next), first);
    let replaced = next.at_its_word(pinned.instance.as_ref());
    assert!(matches!(replaced, Verdict::Replaced { counts: false, .. }), "{replaced:?}");
}

/// Another job on the same room sees a new instance at once, and the first one's call does not hang over it.
#[test]
fn a_row_that_a_call_broke_is_no_obstacle_to_others() {
    let mut seen = Seen::default();
    let first = id(&seen.sight(&target(None, false), THERE, at(0)));
    seen.called(&"4242".into());
    assert_ne!(id(&seen.sight(&target(None, false), THERE, at(1))), first);
}

#[test]
fn after_a_restart_a_job_vouches_for_what_it_saw_a_moment_ago_unless_an_end_was_sent() {
    let pinned = |last_live, end_sent| target(Some(("4242@1", last_live)), end_sent);
    let sight = |target: &Target, now| Seen::default().sight(target, THERE, now);
    assert_eq!(id(&sight(&pinned(at(0), false), at(330))).as_str(), "4242@1");
    assert_ne!(id(&sight(&pinned(at(0), false), at(331))).as_str(), "4242@1");
    assert!(matches!(sight(&pinned(at(0), true), at(5)), Sighting::Doubtful(_)));
}

#[test]
fn nobody_vouches_for_a_room_that_was_gone_in_between() {
    let pinned = |instance: &str| target(Some((instance, at(0))), false);
    let mut seen = Seen::default();
    let first = id(&seen.sight(&target(None, false), THERE, at(0)));
    seen.sight(&pinned(first.as_str()), Presence::NotThere, at(1));
    assert_ne!(id(&seen.sight(&pinned(first.as_str()), THERE, at(2))), first);
    // Right after a restart.
    let mut seen = Seen::default();
    seen.sight(&pinned("4242@1"), Presence::NotThere, at(1));
    assert_ne!(id(&seen.sight(&pinned("4242@1"), THERE, at(2))).as_str(), "4242@1");
}

fn pinned_by_a_sweep(instance: &InstanceId, last_live: Now, purpose: Purpose) -> Target {
    let target = target(Some((instance.as_str(), last_live)), false);
    let pin = target.pin.clone().map(|pin| Pin { started_at: None, listed: true, ..pin });
    Target { pin, purpose, ..target }
}

fn list(seen: &mut Seen, shown: &[&str], now: Now) -> Vec<InstanceId> {
    let rooms: Vec<MeetingId> = shown.iter().map(|room| (*room).into()).collect();
    let instances = rooms.iter().map(|room| seen.note(room, None, now).id).collect();
    seen.listed(&rooms.iter().collect(), now);
    instances
}

/// A rule, or the start of a meeting, made a job for this instance alone, and then nobody looked for hours.
#[test]
fn what_nobody_looked_at_since_a_sweep_is_the_same_room_when_it_is_armed() {
    for restarted in [false, true] {
        let mut seen = Seen::default();
        let first = list(&mut seen, &["4242"], at(0)).remove(0);
        if restarted {
            seen = Seen::default();
        }
        let arm = pinned_by_a_sweep(&first, at(0), Purpose::Arm);
        assert_eq!(id(&seen.sight(&arm, THERE, at(9_000))), first, "restarted: {restarted}");
        let later = Target { purpose: Purpose::BeforeEnd, ..arm.clone() };
        assert_eq!(id(&seen.sight(&later, THERE, at(9_020))), first, "and stays it after due");
        seen.called(&"4242".into());
        let called = Target { end_sent: true, accepted: true, purpose: Purpose::Confirm, ..arm };
        assert!(matches!(seen.sight(&called, THERE, at(9_021)), Sighting::Doubtful(_)));
    }
    // Not if it was not armed: what is there after due may be another one.
    let mut seen = Seen::default();
    let first = list(&mut seen, &["4242"], at(0)).remove(0);
    let late = pinned_by_a_sweep(&first, at(0), Purpose::BeforeEnd);
    assert_ne!(id(&seen.sight(&late, THERE, at(9_000))), first);
}

#[test]
fn a_room_that_a_list_has_not_shown_in_between_is_another_one() {
    let mut seen = Seen::default();
    let first = list(&mut seen, &["4242"], at(0)).remove(0);
    list(&mut seen, &[], at(60));
    let second = list(&mut seen, &["4242"], at(120)).remove(0);
    assert_ne!(second, first);
    for now in [at(130), at(9_000)] {
        let arm = pinned_by_a_sweep(&first, at(0), Purpose::Arm);
        assert_ne!(id(&seen.sight(&arm, THERE, now)), first);
    }
    let arm = pinned_by_a_sweep(&second, at(120), Purpose::Arm);
    assert_eq!(id(&seen.sight(&arm, THERE, at(9_010))), second);
}

#[test]
fn a_room_that_was_seen_gone_and_is_there_again_proves_the_one_before_over() {
    let mut seen = Seen::default();
    let first = list(&mut seen, &["4242"], at(0)).remove(0);
    let arm = pinned_by_a_sweep(&first, at(0), Purpose::Arm);
    seen.sight(&arm, Presence::NotThere, at(60));
    let again = seen.sight(&arm, THERE, at(120));
    assert!(matches!(again.at_its_word(Some(&first)), Verdict::Replaced { counts: true, .. }), "{again:?}");
}

/// Whenever it is noticed, after due too: the job comes to an outcome, and the room that is there is not touched.
#[test]
fn a_room_that_a_list_missed_and_is_there_again_proves_the_one_before_over() {
    let mut seen = Seen::default();
    let first = list(&mut seen, &["4242"], at(0)).remove(0);
    list(&mut seen, &[], at(60));
    list(&mut seen, &["4242"], at(120));
    for purpose in [Purpose::Arm, Purpose::BeforeEnd, Purpose::Last, Purpose::Confirm] {
        let again = seen.sight(&pinned_by_a_sweep(&first, at(0), purpose), THERE, at(130));
        let verdict = again.at_its_word(Some(&first));
        assert!(matches!(verdict, Verdict::Replaced { counts: true, .. }), "{purpose:?}: {verdict:?}");
    }
    // A private room is in no list: that it is missed says nothing.
    let mut pinned = pinned_by_a_sweep(&first, at(0), Purpose::BeforeEnd);
    pinned.pin.as_mut().unwrap().listed = false;
    let again = seen.sight(&pinned, THERE, at(130));
    assert!(matches!(again.at_its_word(Some(&first)), Verdict::Replaced { counts: false, .. }), "{again:?}");
}

#[test]
fn rooms_with_numbers_are_called_by_numbers() {
    let settings = |string_ids| Settings {
        url: Url::parse("http://127.0.0.1:7188/admin/").unwrap(),
        network: Network::default(),
        admin_secret: SecretString::from("hush-admin"),
        room_secret: None,
        string_ids,
    };
    for good in ["4242", "0"] {
        assert_eq!(settings(false).meeting_fault(&good.into()), None);
    }
    for bad in ["physics", "007", "-1", "4242 ", "18446744073709551616"] {
        let (what, hint) = settings(false).meeting_fault(&bad.into()).unwrap();
        assert!(what.contains("have numbers") && hint.contains("string-ids"), "{what}: {hint}");
        assert_eq!(settings(true).meeting_fault(&bad.into()), None);
    }
}

#[test]
fn a_restart_goes_on_where_the_last_sweep_was() {
    let pin = |room: &str| Pin {
        instance: name(&room.into(), START),
        started_at: Some(START.wall),
        listed: true,
        node: None,
        site: None,
        last_live: at(600),
    };
    let recalled = || {
        let mut seen = Seen::default();
        seen.recall(&mut [("4242".into(), pin("4242"))].into_iter(), at(600));
        seen
    };
    assert_eq!(list(&mut recalled(), &["4242"], at(660)), [name(&"4242".into(), START)]);
    // Too long ago for a sweep, but not for a job that was made then.
    let mut late = recalled();
    assert_ne!(list(&mut late, &["4242"], at(9_000)), [name(&"4242".into(), START)]);
    let arm = pinned_by_a_sweep(&name(&"4242".into(), START), at(0), Purpose::Arm);
    assert_eq!(id(&late.sight(&arm, THERE, at(9_010))), name(&"4242".into(), START));
    // What the last sweep did not show any more is another one, for the job that knew it.
    let mut seen = Seen::default();
    seen.recall(&mut std::iter::empty(), at(600));
    list(&mut seen, &["4242"], at(660));
    assert_ne!(id(&seen.sight(&arm, THERE, at(9_010))), name(&"4242".into(), START));
    let mut gone = recalled();
    list(&mut gone, &[], at(660));
    list(&mut gone, &["4242"], at(720));
    assert_ne!(id(&gone.sight(&arm, THERE, at(9_010))), name(&"4242".into(), START));
}

/// A job that was extended or held is armed again, perhaps hours after the first time.
#[tokio::test]
async fn a_room_that_is_armed_anew_counts_as_the_one_before_and_after_due_it_does_not() {
    let janus = janus(&MockServer::start().await, false);
    let pinned = target(Some(("4242@1", at(0))), false);
    let sighting = Seen::default().sight(&pinned, THERE, at(600));
    assert_ne!(id(&sighting).as_str(), "4242@1");
    let round = Round {
        sent: at(600),
        received: at(600),
        sightings: vec![sighting],
        listings: BTreeMap::new(),
        shown: BTreeMap::new(),
        trouble: BTreeMap::new(),
    };
    for (purpose, expected) in [(Purpose::Arm, true), (Purpose::BeforeEnd, false), (Purpose::Confirm, false)]
    {
        let target = Target { purpose, ..pinned.clone() };
        let verdicts = janus.judge(&Memory::default(), &round, &[target]).verdicts;
        assert!(
            matches!(verdicts[0], Verdict::Replaced { counts, .. } if counts == expected),
            "{verdicts:?}"
        );
    }
}

// Over the wire.

fn settings(server: &MockServer, string_ids: bool) -> Settings {
    Settings {
        url: Url::parse(&format!("{}/admin/", server.uri())).unwrap(),
        network: Network::default(),
        admin_secret: SecretString::from("hush-admin"),
        room_secret: Some(SecretString::from("hush-room")),
        string_ids,
    }
}

fn janus(server: &MockServer, string_ids: bool) -> Janus {
    Janus::new(&"lab".into(), &settings(server, string_ids), Arc::new(|| START)).unwrap()
}

async fn answers(server: &MockServer, request: Value, answer: Value) {
    Mock::given(method("POST"))
        .and(path("/admin"))
        .and(body_partial_json(
            json!({ "janus": "message_plugin", "admin_secret": "hush-admin", "request": request }),
        ))
        .respond_with(ResponseTemplate::new(200).set_body_json(success(answer)))
        .mount(server)
        .await;
}

#[tokio::test]
async fn one_list_answers_all_and_only_what_it_does_not_show_is_asked_for() {
    let server = MockServer::start().await;
    let list: Vec<Value> = (0..500).map(|room| json!({ "room": room, "num_participants": 2 })).collect();
    answers(&server, json!({ "request": "list" }), json!({ "videoroom": "success", "list": list })).await;
    answers(&server, json!({ "request": "exists", "room": 500 }), json!({ "exists": true })).await;
    answers(&server, json!({ "request": "exists", "room": 501 }), json!({ "exists": false })).await;
    let janus = janus(&server, false);
    let targets = rooms(502);
    let round = janus.look(&targets).await;
    assert_eq!(server.received_requests().await.unwrap().len(), 3);
    assert!(matches!(&round.sightings[499], Sighting::Live(Instance { participants: Some(2), .. })));
    assert!(matches!(&round.sightings[500], Sighting::Live(_)), "a private room");
    assert!(matches!(&round.sightings[501], Sighting::NotThere(_)));
    assert!(round.trouble.is_empty());
}

/// The mock's clock moves on with every request: a sighting is as old as the answer that showed it.
#[tokio::test]
async fn what_the_list_showed_is_older_than_what_was_asked_for_afterwards() {
    let server = MockServer::start().await;
    let list = json!([{ "room": 1 }]);
    let boot = Arc::new(AtomicI64::new(START.boot.0));
    let answer = |response: Value| {
        let boot = boot.clone();
        move |_: &Request| {
            boot.fetch_add(1_000, Ordering::Relaxed);
            ResponseTemplate::new(200).set_body_json(success(response.clone()))
        }
    };
    for (request, response) in [("list", json!({ "list": list })), ("exists", json!({ "exists": true }))] {
        let body = body_partial_json(json!({ "request": { "request": request } }));
        Mock::given(body).respond_with(answer(response)).mount(&server).await;
    }
    let now = boot.clone();
    let now = move || Now { wall: START.wall, boot: BootMs(now.load(Ordering::Relaxed)) };
    let janus = Janus::new(&"lab".into(), &settings(&server, false), Arc::new(now)).unwrap();
    let of = |room: &str| Target { meeting: room.into(), ..target(None, false) };
    let round = janus.look(&[of("1"), of("2")]).await;
    let shown = round.sightings.iter().map(|sighting| match sighting {
        Sighting::Live(Instance { shown_at: Some(at), .. }) => at.boot.0 - START.boot.0,
        other => panic!("{other:?}"),
    });
    assert_eq!(shown.collect::<Vec<_>>(), [1_000, 2_000]);
}

#[tokio::test]
async fn a_round_asks_for_so_many_rooms_and_the_next_one_for_others() {
    let server = MockServer::start().await;
    answers(&server, json!({ "request": "list" }), json!({ "list": [] })).await;
    answers(&server, json!({ "request": "exists" }), json!({ "exists": true })).await;
    let janus = janus(&server, false);
    let targets = rooms(400);
    let mut seen: Vec<bool> = vec![false; targets.len()];
    for _ in 0..2 {
        let round = janus.look(&targets).await;
        let live = round.sightings.iter().map(|sighting| matches!(sighting, Sighting::Live(_)));
        let live: Vec<bool> = live.collect();
        assert_eq!(live.iter().filter(|live| **live).count(), 256);
        assert!(round.sightings.iter().all(|s| matches!(s, Sighting::Live(_) | Sighting::Doubtful(_))));
        seen.iter_mut().zip(live).for_each(|(seen, live)| *seen |= live);
    }
    assert!(seen.into_iter().all(|seen| seen));
    assert_eq!(server.received_requests().await.unwrap().len(), 2 * (1 + 256));

    let mut hurried = targets;
    hurried[7].purpose = Purpose::BeforeEnd;
    janus.look(&hurried).await;
    assert_eq!(server.received_requests().await.unwrap().len(), 2 * (1 + 256) + 1 + 64);
}

#[tokio::test]
async fn a_round_whose_questions_go_without_an_answer_is_broken_off() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = Url::parse(&format!("http://{}/admin/", listener.local_addr().unwrap())).unwrap();
    let asked = Arc::new(AtomicI64::new(0));
    let count = asked.clone();
    std::thread::spawn(move || {
        for connection in listener.incoming() {
            count.fetch_add(1, Ordering::Relaxed);
            drop(connection);
        }
    });
    let settings = Settings { url, ..settings(&MockServer::start().await, false) };
    let janus = Janus::new(&"lab".into(), &settings, Arc::new(|| START)).unwrap();
    let targets = rooms(100);
    let mut heard = single::Heard::new();
    let why = janus.ask_singles(&targets, &mut heard).await.unwrap();
    assert!(why.contains("lab") && !why.contains("hush"), "{why}");
    let unreachable = |presence: &Presence| matches!(presence, Presence::Unknown(Sighting::Unreachable(_)));
    assert!(targets.iter().all(|target| unreachable(&heard[&target.meeting].0)));
    assert!(asked.load(Ordering::Relaxed) < 50, "{asked:?}");
}

fn rooms(count: u32) -> Vec<Target> {
    let room = |room: u32| Target { meeting: MeetingId(room.to_string()), ..target(None, false) };
    (0..count).map(room).collect()
}

#[tokio::test]
async fn a_call_names_the_room_and_its_secret_and_an_id_that_fits_no_room_is_never_sent() {
    let server = MockServer::start().await;
    let destroy = json!({ "request": "destroy", "room": 4242, "secret": "hush-room" });
    answers(&server, destroy, json!({ "videoroom": "destroyed" })).await;
    let janus = janus(&server, false);
    let pin = target(Some(("4242@1", START)), false).pin.unwrap();
    let call = |meeting: &str| EndCall {
        job: JobId(Uuid::nil()),
        meeting: meeting.into(),
        pin: pin.clone(),
        attempt: 1,
        resend: false,
    };
    assert_eq!(janus.end(&call("4242")).await, EndAnswer::Accepted);
    for id in ["04242", "exam", "-1", "4242 "] {
        let EndAnswer::Misconfigured { why } = janus.end(&call(id)).await else { panic!("{id}") };
        assert!(why.contains("string-ids = true") && !why.contains("hush"), "{why}");
    }
    assert_eq!(server.received_requests().await.unwrap().len(), 1);
}

#[tokio::test]
async fn rooms_with_names_are_locked_and_unlocked() {
    let server = MockServer::start().await;
    for action in ["enable", "disable"] {
        let request =
            json!({ "request": "allowed", "action": action, "room": "4242", "secret": "hush-room" });
        answers(&server, request, json!({ "videoroom": "success", "allowed": [] })).await;
    }
    let janus = janus(&server, true);
    assert_eq!(janus.close_room(&"4242".into()).await, Ok(()));
    assert_eq!(janus.open_room(&"4242".into()).await, Ok(()));
    assert!(janus.close_room(&"other".into()).await.is_err(), "nobody answers for it");
}

#[tokio::test]
async fn a_server_that_is_away_is_trouble_and_no_absence() {
    let server = MockServer::start().await;
    let janus = janus(&server, false);
    drop(server);
    let round = janus.look(&[target(None, false)]).await;
    assert!(matches!(&round.sightings[0], Sighting::Unreachable(_)), "{round:?}");
    assert!(round.trouble.contains_key(""));
    assert!(matches!(janus.probe().await, Err(Fault::Unreachable(why)) if !why.contains("hush")));
}
