//! Every fault of the sandbox: never early, the right instance, no false `ended`.

use adjourn::sandbox::{
    Call, Fault, ForgetfulAnswer, Front, NewMeeting, Outage, Settings, UnknownAnswer, Version,
};
use serde_json::Value;

use crate::harness::{Bed, Plan, check_truth};

/// Runs one meeting with one fault to its outcome and checks it against the truth.
#[track_caller]
fn outcome_with(bed: &Bed, fault: Option<Fault>) -> Value {
    bed.create("math-101");
    if let Some(fault) = fault {
        bed.fault(fault, "math-101");
    }
    let id = bed.end_in("math-101", "1500ms");
    let job = bed.outcome(&id);
    check_truth(bed, &job);
    job
}

#[track_caller]
fn check(fault: Option<Fault>, outcome: &str) -> Value {
    let job = outcome_with(&Bed::start(), fault);
    assert_eq!(job["outcome"], outcome, "{job:#}");
    job
}

#[test]
fn a_plain_meeting_is_ended_on_time_and_proven_gone() {
    let bed = Bed::start();
    let job = outcome_with(&bed, None);
    assert_eq!(job["outcome"], "ended", "{job:#}");
    assert_eq!(job["ends"], 1);
    assert!(job["lateness_ms"].as_i64().unwrap() >= 0);
    let hits = bed.truth().instances("math-101")[0].hits.len();
    assert_eq!(hits, 1);
}

#[test]
fn a_slow_end_is_waited_for_and_not_claimed_before() {
    let job = check(Some(Fault::EndDelay { ms: 4_000 }), "ended");
    let sent: jiff::Timestamp = job["end_sent_at"].as_str().unwrap().parse().unwrap();
    let proven: jiff::Timestamp = job["proven_at"].as_str().unwrap().parse().unwrap();
    assert!(proven.duration_since(sent).as_millis() >= 4_000);
}

#[test]
fn a_swallowed_end_is_sent_again_to_the_same_instance() {
    let bed = Bed::start();
    bed.create("math-101");
    bed.sandbox.set_fault(Fault::Swallow.on_meeting("math-101").times(1)).unwrap();
    let id = bed.end_in("math-101", "1s");
    let job = bed.outcome(&id);
    check_truth(&bed, &job);
    assert_eq!((&job["outcome"], &job["ends"]), (&"ended".into(), &2.into()), "{job:#}");
}

#[test]
fn a_meeting_recreated_by_its_users_is_never_hit_and_is_reported() {
    let bed = Bed::start();
    let job = outcome_with(&bed, Some(Fault::Recreate { after_ms: 100, participants: 3 }));
    assert_eq!(job["outcome"], "ended", "{job:#}");
    assert_eq!(job["left_alone"]["instance"].as_str().map(str::is_empty), Some(false), "{job:#}");
    let truth = bed.truth();
    let instances = truth.instances("math-101");
    assert!(instances.len() >= 2, "it was opened again");
    assert!(instances[1].alive() && instances[1].hits.is_empty(), "{instances:?}");
}

#[test]
fn a_recreated_meeting_survives_where_only_the_meeting_can_be_named() {
    for version in [Version::V2_2, Version::V2_4, Version::V2_5, Version::V2_6] {
        let plan = Plan { settings: Settings { version, ..Settings::default() }, ..Plan::default() };
        let bed = plan.server("front = \"direct\"").start();
        let job = outcome_with(&bed, Some(Fault::Recreate { after_ms: 100, participants: 1 }));
        assert_eq!(job["outcome"], "ended", "{version:?}: {job:#}");
        let truth = bed.truth();
        assert!(truth.instances("math-101")[1].hits.is_empty(), "{version:?}");
    }
}

#[test]
fn the_next_class_in_the_same_room_is_left_alone() {
    let bed = Bed::start();
    bed.create("math-101");
    bed.fault(Fault::EndsItself { in_ms: 600 }, "math-101");
    bed.fault(Fault::Recreate { after_ms: 1_500, participants: 5 }, "math-101");
    let id = bed.end_in("math-101", "1s");
    let job = bed.outcome(&id);
    check_truth(&bed, &job);
    assert!(matches!(job["outcome"].as_str(), Some("already-over" | "superseded")), "{job:#}");
    assert!(bed.truth().instances("math-101").iter().all(|instance| instance.hits.is_empty()));
}

#[test]
fn a_meeting_that_ended_by_itself_is_already_over() {
    let job = check(Some(Fault::EndsItself { in_ms: 700 }), "already-over");
    assert!(job["accepted_at"].is_null(), "the call that left on time met nobody: {job:#}");
}

#[test]
fn a_meeting_that_never_was_is_absent() {
    let bed = Bed::start();
    let id = bed.end_in("nobody-here", "500ms");
    let job = bed.outcome(&id);
    assert_eq!((&job["outcome"], &job["ends"]), (&"absent".into(), &0.into()), "{job:#}");
}

#[test]
fn a_zombie_is_never_claimed_to_be_over() {
    let bed = Plan::default().server("give-up-after = \"6s\"").start();
    let job = outcome_with(&bed, Some(Fault::Zombie));
    assert_eq!(job["outcome"], "failed", "{job:#}");
    assert!(job["ends"].as_u64().unwrap() >= 2, "{job:#}");
}

#[test]
fn a_balancer_that_forgets_proves_nothing() {
    for answer in [ForgetfulAnswer::Failed, ForgetfulAnswer::BadGateway] {
        let bed = Plan::behind(Front::Balancer).start();
        let job = outcome_with(&bed, Some(Fault::Forgetful { answer }));
        assert_eq!(job["outcome"], "unconfirmed", "{answer:?}: {job:#}");
        assert!(bed.truth().instances("math-101")[0].alive());
    }
}

#[test]
fn a_forgetful_end_of_scalelite_without_a_listing_is_unconfirmed() {
    let bed = Plan::behind(Front::Scalelite).start();
    bed.sandbox.set_fault(Fault::ListingDisabled.everywhere()).unwrap();
    let job = outcome_with(&bed, Some(Fault::Zombie));
    assert_eq!(job["outcome"], "unconfirmed", "{job:#}");
    assert!(bed.truth().instances("math-101")[0].alive());
}

#[test]
fn behind_scalelite_and_behind_a_balancer_a_plain_meeting_is_ended() {
    for front in [Front::Scalelite, Front::Balancer] {
        let bed = Plan::behind(front).start();
        let job = outcome_with(&bed, None);
        assert_eq!(job["outcome"], "ended", "{front:?}: {job:#}");
    }
}

#[test]
fn nodes_prove_what_their_balancer_cannot() {
    let bed = Plan::behind(Front::Balancer).lay();
    let node = bed.sandbox.node_url("node1");
    let nodes =
        format!("[[servers.campus.nodes]]\nurl = {node:?}\nsecret = {{ file = {:?} }}", bed.path("node"));
    std::fs::write(bed.path("node"), bed.sandbox.node_secret()).unwrap();
    bed.write_schedule(&nodes, "");
    let mut bed = bed;
    bed.start_daemon();
    let forgets = Fault::Forgetful { answer: ForgetfulAnswer::BadGateway };
    bed.sandbox.set_fault(forgets.on_server("front")).unwrap();
    let job = outcome_with(&bed, None);
    assert_eq!(job["outcome"], "ended", "{job:#}");
}

#[test]
fn a_server_that_loses_its_state_during_confirmation_has_not_ended_anything() {
    let bed = Bed::start();
    for witness in ["history", "physics", "latin"] {
        bed.create(witness);
    }
    bed.create("math-101");
    bed.fault(Fault::Zombie, "math-101");
    let id = bed.end_in("math-101", "1s");
    bed.wait_for("the end call has arrived", |truth| !truth.instances("math-101")[0].hits.is_empty());
    bed.sandbox
        .set_fault(Fault::LostState { outage_ms: 1_500, outage: Outage::Html404 }.everywhere())
        .unwrap();
    let job = bed.outcome(&id);
    check_truth(&bed, &job);
    assert_eq!(job["outcome"], "unconfirmed", "{job:#}");
}

#[test]
fn broken_answers_are_never_read_as_absence() {
    let faults = [
        Fault::Html404,
        Fault::BadGateway,
        Fault::Throttled { status: 503, retry_after: Some(1) },
        Fault::Throttled { status: 429, retry_after: None },
        Fault::Down { reset: true },
        Fault::Truncated,
    ];
    for fault in faults {
        let bed = Bed::start();
        bed.create("math-101");
        bed.fault(Fault::Zombie, "math-101");
        let id = bed.end_in("math-101", "1s");
        bed.wait_for("the end call has arrived", |truth| !truth.instances("math-101")[0].hits.is_empty());
        bed.sandbox.set_fault(fault.clone().everywhere().for_ms(5_000)).unwrap();
        bed.wait_for("the fault is over", |truth| truth.faults.len() == 1);
        let job = bed.show(&id);
        assert!(matches!(job["state"].as_str(), Some("ending" | "confirming")), "{fault:?}: {job:#}");
    }
}

#[test]
fn a_server_that_is_down_at_due_is_asked_until_it_is_back() {
    let bed = Bed::start();
    bed.create("math-101");
    bed.sandbox.set_fault(Fault::Down { reset: true }.everywhere().for_ms(4_000)).unwrap();
    let id = bed.end_in("math-101", "500ms");
    let job = bed.outcome(&id);
    check_truth(&bed, &job);
    // Too young to belong to the deadline by its start alone, and never seen before due.
    assert_eq!(job["outcome"], "superseded", "{job:#}");

    bed.create_meeting(NewMeeting { created_ago_ms: 60_000, ..NewMeeting::new("physics-1") });
    bed.sandbox.set_fault(Fault::Down { reset: true }.everywhere().for_ms(4_000)).unwrap();
    let id = bed.end_in("physics-1", "500ms");
    let job = bed.outcome(&id);
    check_truth(&bed, &job);
    assert_eq!(job["outcome"], "ended", "{job:#}");
}

#[test]
fn a_lost_answer_is_followed_by_a_look_not_by_a_blind_retry() {
    let bed = Bed::start();
    bed.create("math-101");
    bed.sandbox.set_fault(Fault::AnswerLost.on_meeting("math-101").times(1)).unwrap();
    let id = bed.end_in("math-101", "1s");
    let job = bed.outcome(&id);
    check_truth(&bed, &job);
    assert_eq!((&job["outcome"], &job["ends"]), (&"ended".into(), &1.into()), "{job:#}");
}

#[test]
fn whatever_an_unknown_meeting_is_answered_with_a_look_decides() {
    for answer in [
        UnknownAnswer::InvalidPassword,
        UnknownAnswer::ValidationError,
        UnknownAnswer::InvalidMeetingIdentifier,
    ] {
        let bed = Bed::start();
        bed.sandbox.set_fault(Fault::UnknownAs { answer }.everywhere()).unwrap();
        let job = outcome_with(&bed, None);
        assert_eq!(job["outcome"], "ended", "{answer:?}: {job:#}");
    }
}

#[test]
fn decoys_locale_numbers_and_nasty_names_confuse_nobody() {
    for fault in [
        Fault::DecoyMetadata,
        Fault::LocaleNumbers { separator: '.', times: true },
        Fault::NastyName,
        Fault::ErrorList,
        Fault::Slow { ms: 300 },
        Fault::ClockSkew { ms: 90_000 },
        Fault::ClockSkew { ms: -90_000 },
    ] {
        let bed = Bed::start();
        bed.sandbox.set_fault(fault.clone().everywhere()).unwrap();
        let job = outcome_with(&bed, None);
        assert_eq!(job["outcome"], "ended", "{fault:?}: {job:#}");
    }
}

#[test]
fn internal_ids_that_the_server_cannot_take_are_given_up_for_the_meeting_id() {
    let bed = Plan::default().server("instance-ids = true").start();
    bed.sandbox.set_fault(Fault::InternalId500.everywhere()).unwrap();
    let job = outcome_with(&bed, None);
    assert_eq!(job["outcome"], "ended", "{job:#}");
}

#[test]
fn a_strangers_meeting_is_not_hit_through_the_prefix_hazard() {
    let bed = Plan::default().server("instance-ids = false\ngive-up-after = \"5s\"").start();
    let stranger = bed.create("somebody-elses-meeting");
    let prefix = &stranger[..4];
    let id = bed.end_in(prefix, "700ms");
    let job = bed.outcome(&id);
    assert_ne!(job["outcome"], "ended", "{job:#}");
    assert!(bed.instance(&stranger).hits.is_empty(), "{job:#}");
}

#[test]
fn a_wrong_checksum_is_an_alarm_and_not_an_outcome() {
    let bed = Bed::start();
    bed.create("math-101");
    bed.sandbox.set_fault(Fault::ChecksumError { plain_text: false, always: true }.everywhere()).unwrap();
    let id = bed.end_in("math-101", "500ms");
    bed.wait_for("the daemon has looked", |truth| truth.requests_of(Call::GetMeetings).count() > 1);
    bed.wait_for("and looked at due", |_| bed.show(&id)["alarm"].is_string());
    let job = bed.show(&id);
    assert_eq!(job["outcome"], Value::Null, "{job:#}");
    assert!(job["alarm"].as_str().unwrap().contains("secret"), "{job:#}");
    assert!(
        !bed.log().contains(bed.sandbox.secret()) && !bed.log().contains("checksum="),
        "no secret in the log"
    );
}

#[test]
fn keep_closed_ends_what_is_reopened() {
    let bed = Plan::default().server("keep-closed = \"18s\"").start();
    bed.create("math-101");
    bed.sandbox
        .set_fault(Fault::Recreate { after_ms: 100, participants: 1 }.on_meeting("math-101").times(1))
        .unwrap();
    let id = bed.end_in("math-101", "1s");
    let (code, said) = bed.says(&["wait", &id, "--guarded", "--timeout", "60s"]);
    assert_eq!(code, 0, "{said}");
    let truth = bed.truth();
    let instances = truth.instances("math-101");
    assert!(instances.len() == 2 && instances.iter().all(|instance| !instance.alive()), "{instances:?}");
    // What the deadline meant stands first; what was reopened stands apart.
    let job = bed.show(&id);
    let [first, second] = [0, 1].map(|n| Value::from(instances[n].internal_id.as_str()));
    assert_eq!((&job["instance"], &job["outcome"]), (&first, &"ended".into()), "{job:#}");
    let again = job["reopened"].as_array().unwrap();
    assert_eq!((again.len(), &again[0]["instance"], &again[0]["outcome"]), (1, &second, &"ended".into()));
    let at = |time: &Value| time.as_str().unwrap().to_owned();
    assert!(at(&job["proven_at"]) <= at(&again[0]["at"]), "{job:#}");
    let (_, shown) = bed.says(&["show", &id]);
    assert!(shown.contains(&format!(" as {}, ended at ", second.as_str().unwrap())), "{shown}");
}

#[test]
fn a_meeting_is_over_when_its_breakout_rooms_are() {
    for stay in [false, true] {
        let bed = Plan::default().server("prove-within = \"6s\"").start();
        bed.create("math-101");
        bed.create_meeting(NewMeeting {
            parent: Some("math-101".to_owned()),
            ..NewMeeting::new("math-101-room-1")
        });
        if stay {
            bed.fault(Fault::BreakoutsStay, "math-101");
        }
        let id = bed.end_in("math-101", "1s");
        let job = bed.outcome(&id);
        check_truth(&bed, &job);
        assert_eq!(job["outcome"], if stay { "unconfirmed" } else { "ended" }, "{job:#}");
        assert_eq!(bed.truth().instances("math-101-room-1")[0].alive(), stay);
        assert_eq!(job["reason"].as_str().unwrap().contains("breakout"), stay, "{job:#}");
    }
}
