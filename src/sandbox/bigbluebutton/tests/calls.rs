//! Every call on a healthy server, version by version.

use super::*;

const VERSIONS: [Version; 5] = [Version::V2_2, Version::V2_4, Version::V2_5, Version::V2_6, Version::V3_0];

#[test]
fn the_probe_needs_no_checksum_and_tells_3_0_apart() {
    for version in VERSIONS {
        let reply = Stage::version(version).raw("front", "", "");
        reply.has("version", "2.0");
        assert_eq!(reply.body().contains("graphqlWebsocketUrl"), version == Version::V3_0);
        assert!(!reply.body().contains("<build>"));
    }
}

#[test]
fn a_wrong_or_missing_checksum_is_refused() {
    let mut stage = Stage::new(Settings { hashes: vec![Hash::Sha256], ..Settings::default() });
    let internal_id = stage.meeting("m");
    stage.raw("front", "end", "meetingID=m").failed("checksumError");
    stage.raw("front", "end", &format!("meetingID=m&checksum={}", "0".repeat(64))).failed("checksumError");
    let sha1 = Hash::Sha1.checksum("end", "meetingID=m", DEMO_SECRET);
    stage.raw("front", "end", &format!("meetingID=m&checksum={sha1}")).failed("checksumError");
    assert_eq!(stage.effects(&internal_id), [], "an unsigned call reaches nothing");
    stage.end("m").succeeded();
}

#[test]
fn an_end_is_accepted_at_once_and_true_a_little_later() {
    let mut stage = Stage::version(Version::V3_0);
    let internal_id = stage.meeting("m");
    stage.end("m").has("messageKey", "sentEndMeetingRequest");
    let n = stage.last().n;
    stage.wait(99);
    stage.info("m").has("internalMeetingID", &internal_id);
    assert!(stage.instance(&internal_id).alive());
    stage.wait(1);
    stage.info("m").failed("notFound");
    stage.list().has("messageKey", "noMeetings");
    let instance = stage.instance(&internal_id);
    assert_eq!(instance.ended_at, Some(UtcMs(START + 100)));
    assert_eq!(instance.ended_by, Some(EndedBy::Request(n)));
    assert_eq!(instance.hits, [Hit { request: n, at: UtcMs(START), effect: Effect::Ends }]);
}

#[test]
fn the_end_has_its_exact_time_however_late_one_looks() {
    let mut stage = Stage::version(Version::V3_0);
    let internal_id = stage.meeting("m");
    stage.end("m").succeeded();
    stage.wait(3_600_000);
    assert_eq!(stage.instance(&internal_id).ended_at, Some(UtcMs(START + 100)));
}

#[test]
fn create_returns_the_dying_instance_until_it_is_gone() {
    let mut stage = Stage::version(Version::V3_0);
    let created = stage.call("create", "meetingID=m&name=Room&meta_bbb-origin=x&moderatorPW=mp");
    created.succeeded();
    let first = stage.last().instance.unwrap();
    created.has("internalMeetingID", &first);
    stage.call("create", "meetingID=m&name=Room").has("messageKey", "duplicateWarning");
    assert_eq!(stage.last().instance, Some(first.clone()), "idempotent");

    stage.end("m").succeeded();
    stage.wait(50);
    stage.call("create", "meetingID=m&name=Room").has("internalMeetingID", &first);
    stage.wait(50);
    stage.call("create", "meetingID=m&name=Room").succeeded();
    let second = stage.last().instance.unwrap();
    assert_ne!(first, second);
    assert!(stage.instance(&second).alive());
    assert_eq!(stage.effects(&second), [], "the end hit the first instance only");
}

#[test]
fn an_end_while_ending_changes_nothing() {
    let mut stage = Stage::version(Version::V3_0);
    let internal_id = stage.meeting("m");
    stage.end("m").succeeded();
    stage.wait(60);
    stage.end("m").succeeded();
    stage.wait(40);
    assert_eq!(stage.instance(&internal_id).ended_at, Some(UtcMs(START + 100)));
    assert_eq!(stage.effects(&internal_id), [Effect::Ends, Effect::AlreadyEnding]);
}

#[test]
fn an_unknown_meeting_at_end_depends_on_the_version() {
    for version in VERSIONS {
        let key = match version {
            Version::V2_2 | Version::V3_0 => "notFound",
            _ => "invalidPassword",
        };
        let mut stage = Stage::version(version);
        stage.end("nobody").failed(key);
        stage.info("nobody").failed("notFound");
        assert_eq!(stage.last().instance, None);
    }
}

#[test]
fn the_password_is_required_then_optional_then_ignored() {
    for version in VERSIONS {
        let with = |password: &str| {
            let mut stage = Stage::version(version);
            let new = NewMeeting { moderator_pw: Some("mp".to_owned()), ..NewMeeting::new("m") };
            stage.world.create_meeting(&new, stage.now).unwrap();
            stage.call("end", &format!("meetingID=m{password}"))
        };
        with("&password=mp").succeeded();
        match version {
            Version::V3_0 => with("&password=wrong").succeeded(),
            _ => with("&password=wrong").failed("invalidPassword"),
        }
        match version {
            Version::V2_2 | Version::V2_4 => with("").failed("missingParamPassword"),
            _ => with("").succeeded(),
        }
    }
}

#[test]
fn internal_ids_work_from_2_6_on_and_break_before() {
    for version in VERSIONS {
        let mut stage = Stage::version(version);
        let internal_id = stage.meeting("m");
        let info = stage.info(&internal_id);
        if version < Version::V2_6 {
            info.status(500);
            stage.end(&internal_id).status(500);
            assert_eq!(stage.effects(&internal_id), []);
        } else {
            info.has("meetingID", "m");
            stage.end(&internal_id).succeeded();
            assert_eq!(stage.effects(&internal_id), [Effect::Ends]);
            stage.wait(100);
            stage.info(&internal_id).failed("notFound");
        }
    }
}

#[test]
fn an_end_by_internal_id_never_reaches_the_next_instance() {
    let mut stage = Stage::version(Version::V3_0);
    let first = stage.meeting("m");
    stage.end(&first).succeeded();
    stage.wait(100);
    let second = stage.meeting("m");
    stage.end(&first).failed("notFound");
    assert_eq!(stage.effects(&second), []);
    stage.end("m").succeeded();
    assert_eq!(stage.effects(&second), [Effect::Ends], "by meetingID it does");
}

#[test]
fn a_short_hexadecimal_meeting_id_means_a_stranger() {
    let mut stage = Stage::version(Version::V3_0);
    let stranger = stage.meeting("room-1");
    let short = &stranger[..2];
    let info = stage.info(short);
    info.has("meetingID", "room-1");
    assert_eq!(stage.last().meeting_id.as_deref(), Some(short));
    assert_eq!(stage.last().instance, Some(stranger.clone()));
    let own = stage.meeting(short);
    stage.end(short).succeeded();
    assert_eq!(stage.effects(&stranger), [Effect::Ends], "even where a meeting of that id exists");
    assert_eq!(stage.effects(&own), []);
}

#[test]
fn the_listing_shows_every_meeting_with_its_people() {
    let mut stage = Stage::version(Version::V3_0);
    let name = Some("<script>&".to_owned());
    let new = NewMeeting { participants: 2, name, ..NewMeeting::new("a") };
    let first = stage.world.create_meeting(&new, stage.now).unwrap();
    let second = stage.meeting("b");
    let listing = stage.list();
    listing.succeeded();
    listing.has("meetingName", "&lt;script&gt;&amp;");
    listing.has("internalMeetingID", &first);
    listing.has("internalMeetingID", &second);
    listing.has("participantCount", "2");
    assert_eq!(listing.body().matches("<attendee>").count(), 3);
    listing.has("createTime", &START.to_string());
    listing.has("startTime", &(START + 50).to_string());
    listing.has("endTime", "0");
}

#[test]
fn running_proves_presence_and_not_running_proves_nothing() {
    let mut stage = Stage::version(Version::V3_0);
    stage.call("isMeetingRunning", "meetingID=m").has("running", "false");
    let internal_id = stage.meeting("m");
    stage.call("isMeetingRunning", "meetingID=m").has("running", "true");
    stage.world.set_participants("m", 0, stage.now).unwrap();
    stage.wait(59_000);
    stage.call("isMeetingRunning", "meetingID=m").has("running", "true");
    stage.wait(1_000);
    stage.call("isMeetingRunning", "meetingID=m").has("running", "false");
    stage.info("m").has("endTime", &START.to_string());
    assert!(stage.instance(&internal_id).alive(), "an end time is no end");
    stage.call("join", "meetingID=m&fullName=Ann").has("messageKey", "successfullyJoined");
    stage.info("m").has("endTime", "0");
    stage.info("m").has("fullName", "Ann");
}

#[test]
fn nobody_joins_what_is_ending_or_unknown() {
    let mut stage = Stage::version(Version::V3_0);
    stage.call("join", "meetingID=m&fullName=Ann").failed("invalidMeetingIdentifier");
    stage.meeting("m");
    stage.end("m").succeeded();
    stage.call("join", "meetingID=m&fullName=Ann").failed("meetingForciblyEnded");
}

#[test]
fn chat_lines_need_3_0_people_and_1_to_500_characters() {
    let say =
        |stage: &mut Stage, text: &str| stage.call("sendChatMessage", &format!("meetingID=m&message={text}"));
    let mut old = Stage::version(Version::V2_6);
    old.meeting("m");
    say(&mut old, "hello").status(404);

    let mut stage = Stage::version(Version::V3_0);
    say(&mut stage, "hello").failed("meetingNotFound");
    stage.meeting("m");
    say(&mut stage, "ends+in+5+minutes").succeeded();
    assert_eq!(stage.last().text.as_deref(), Some("ends in 5 minutes"));
    say(&mut stage, &"%C3%A4".repeat(500)).succeeded();
    say(&mut stage, &"%C3%A4".repeat(501)).failed("validationError");
    say(&mut stage, "").failed("validationError");
    stage.world.set_participants("m", 0, stage.now).unwrap();
    say(&mut stage, "hello").failed("meetingNotFound");
}

#[test]
fn a_duration_ends_the_meeting_by_itself() {
    let mut stage = Stage::version(Version::V3_0);
    stage.call("create", "meetingID=m&duration=2").has("duration", "2");
    let internal_id = stage.last().instance.unwrap();
    stage.wait(119_999);
    assert!(stage.instance(&internal_id).alive());
    stage.wait(1);
    let instance = stage.instance(&internal_id);
    assert_eq!(instance.ended_at, Some(UtcMs(START + 120_000)));
    assert_eq!(instance.ended_by, Some(EndedBy::Itself));
}

#[test]
fn breakout_rooms_end_after_their_parent() {
    let mut stage = Stage::version(Version::V3_0);
    let parent = stage.meeting("m");
    let new = NewMeeting { parent: Some("m".to_owned()), ..NewMeeting::new("m-1") };
    let room = stage.world.create_meeting(&new, stage.now).unwrap();
    stage.info("m").has("breakout", &room);
    stage.info("m-1").has("isBreakout", "true");
    stage.info("m-1").has("parentMeetingID", &parent);
    stage.end("m").succeeded();
    stage.wait(599);
    assert!(!stage.instance(&parent).alive() && stage.instance(&room).alive());
    stage.wait(1);
    assert_eq!(stage.instance(&room).ended_by, Some(EndedBy::Parent));
}

#[test]
fn what_is_missing_or_unknown_is_refused() {
    let mut stage = Stage::version(Version::V2_2);
    stage.call("end", "").failed("missingParamMeetingID");
    stage.call("getMeetingInfo", "meetingID=").failed("missingParamMeetingID");
    stage.call("deleteEverything", "").failed("unsupportedRequest");
    Stage::version(Version::V3_0).call("create", "").failed("validationError");
    assert_eq!(
        stage.world.end_meeting("m", UtcMs(START)),
        Err(Refusal::Meeting("m".to_owned())),
        "nothing to end"
    );
    let orphan = NewMeeting { parent: Some("m".to_owned()), ..NewMeeting::new("m-1") };
    assert_eq!(stage.world.create_meeting(&orphan, stage.now), Err(Refusal::Meeting("m".to_owned())));
    let nameless = NewMeeting::new("");
    assert!(matches!(stage.world.create_meeting(&nameless, stage.now), Err(Refusal::Value("meeting_id", _))));
}

#[test]
fn the_log_says_when_each_request_came() {
    let mut stage = Stage::version(Version::V3_0);
    stage.meeting("m");
    stage.wait(5);
    stage.end("m").succeeded();
    let record = stage.last();
    assert_eq!((record.n, record.received_at), (1, UtcMs(START + 5)));
    assert_eq!(record.received_us, (START + 5) * 1_000 + 7);
    assert_eq!((record.server.as_str(), record.call), ("front", Call::End));
    assert_eq!(record.answer, Answered::Success("sentEndMeetingRequest".into()));
    let again = stage.meeting("again");
    let ago = NewMeeting { created_ago_ms: 60_000, ..NewMeeting::new("ago") };
    let ago = stage.world.create_meeting(&ago, stage.now).unwrap();
    assert!(again.ends_with(&(START + 5).to_string()));
    assert!(ago.ends_with(&(START + 5 - 60_000).to_string()));
}
