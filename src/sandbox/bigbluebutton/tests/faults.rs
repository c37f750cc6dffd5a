//! One test a fault: what it does to the answers, and that the truth goes on beside it.

use super::*;

#[test]
fn end_delay() {
    let mut stage = Stage::version(Version::V3_0);
    let internal_id = stage.meeting("m");
    stage.fault(Fault::EndDelay { ms: 5_000 }.on_meeting("m"));
    stage.end("m").succeeded();
    stage.wait(4_999);
    stage.info("m").has("internalMeetingID", &internal_id);
    stage.wait(1);
    stage.info("m").failed("notFound");
    assert_eq!(stage.instance(&internal_id).ended_at, Some(UtcMs(START + 5_000)));
}

#[test]
fn zombie() {
    let mut stage = Stage::version(Version::V3_0);
    let internal_id = stage.meeting("m");
    stage.fault(Fault::Zombie.on_meeting("m"));
    for _ in 0..3 {
        stage.end("m").has("messageKey", "sentEndMeetingRequest");
        stage.wait(60_000);
        stage.info("m").has("internalMeetingID", &internal_id);
    }
    stage.end(&internal_id).succeeded();
    assert_eq!(stage.effects(&internal_id), [Effect::Zombie; 4], "by internal id too");
    assert!(stage.instance(&internal_id).alive());
}

#[test]
fn swallow_the_next_two() {
    let mut stage = Stage::version(Version::V3_0);
    let internal_id = stage.meeting("m");
    stage.fault(Fault::Swallow.on_meeting("m").times(2));
    for _ in 0..3 {
        stage.end("m").has("messageKey", "sentEndMeetingRequest");
        stage.wait(50);
    }
    stage.wait(50);
    assert_eq!(stage.effects(&internal_id), [Effect::Swallowed, Effect::Swallowed, Effect::Ends]);
    assert!(!stage.instance(&internal_id).alive());
}

#[test]
fn forgetful_with_each_answer() {
    for answer in [ForgetfulAnswer::Success, ForgetfulAnswer::Failed, ForgetfulAnswer::BadGateway] {
        let mut stage = Stage::version(Version::V3_0);
        let internal_id = stage.meeting("m");
        stage.fault(Fault::Forgetful { answer }.everywhere());
        let reply = stage.end("m");
        match answer {
            ForgetfulAnswer::Success => reply.has("messageKey", "sentEndMeetingRequest"),
            ForgetfulAnswer::Failed => reply.failed("internalError"),
            ForgetfulAnswer::BadGateway => reply.status(502),
        }
        stage.wait(10_000);
        stage.info("m").failed("notFound");
        stage.list().has("messageKey", "noMeetings");
        let instance = stage.instance(&internal_id);
        assert!(instance.alive() && !instance.visible, "it lives on");
        assert_eq!(stage.effects(&internal_id), [Effect::Forgotten]);
    }
}

#[test]
fn forget_without_any_call() {
    let mut stage = Stage::version(Version::V3_0);
    let (gone, kept) = (stage.meeting("m"), stage.meeting("n"));
    assert_eq!(stage.fault(Fault::Forget.on_meeting("m")), 0, "it has happened, nothing stands");
    stage.info("m").failed("notFound");
    stage.info("n").succeeded();
    assert!(stage.instance(&gone).alive() && stage.instance(&kept).visible);
    assert!(stage.truth().faults.is_empty());
}

#[test]
fn lost_state() {
    let mut stage = Stage::version(Version::V3_0);
    let instances = [stage.meeting("a"), stage.meeting("b")];
    stage.fault(Fault::LostState { outage_ms: 0, outage: Outage::default() }.everywhere());
    stage.list().has("messageKey", "noMeetings");
    stage.end("a").failed("notFound");
    for internal_id in &instances {
        assert!(stage.instance(internal_id).alive(), "people keep talking");
        assert_eq!(stage.effects(internal_id), [], "and end can do nothing");
    }
    let again = stage.meeting("a");
    stage.info("a").has("internalMeetingID", &again);
}

#[test]
fn lost_state_after_an_outage() {
    for (outage, status) in [(Outage::Html404, 404), (Outage::BadGateway, 502)] {
        let mut stage = Stage::version(Version::V3_0);
        let internal_id = stage.meeting("m");
        stage.fault(Fault::LostState { outage_ms: 90_000, outage }.everywhere());
        stage.list().status(status);
        stage.wait(89_999);
        stage.info("m").status(status);
        stage.wait(1);
        stage.info("m").failed("notFound");
        assert!(stage.instance(&internal_id).alive());
    }
    let mut stage = Stage::version(Version::V3_0);
    stage.fault(Fault::LostState { outage_ms: 10, outage: Outage::Down }.everywhere());
    assert_eq!(stage.list().fate, Fate::Close { reset: true });
}

#[test]
fn html_404_and_bad_gateway_have_no_effect() {
    for (fault, status) in [(Fault::Html404, 404), (Fault::BadGateway, 502)] {
        let mut stage = Stage::version(Version::V3_0);
        let internal_id = stage.meeting("m");
        stage.fault(fault.everywhere().times(2));
        let page = stage.end("m").page().clone();
        assert_eq!((page.status, page.content_type), (status, "text/html;charset=utf-8"));
        assert!(page.body.starts_with("<html>"));
        stage.raw("front", "", "").status(status);
        stage.info("m").succeeded();
        assert_eq!(stage.effects(&internal_id), []);
    }
}

#[test]
fn throttled_with_and_without_retry_after() {
    let mut stage = Stage::version(Version::V3_0);
    stage.fault(Fault::Throttled { status: 503, retry_after: None }.everywhere().times(1));
    stage.fault(Fault::Throttled { status: 429, retry_after: Some(7) }.everywhere().times(1));
    for (status, retry_after) in [(503, None), (429, Some(7))] {
        let page = stage.list().page().clone();
        assert_eq!((page.status, page.retry_after), (status, retry_after));
    }
    stage.list().succeeded();
    let nonsense = Fault::Throttled { status: 200, retry_after: None }.everywhere();
    assert_eq!(stage.world.set_fault(nonsense, stage.now), Err(Refusal::Value("status", "429 or 503")));
}

#[test]
fn slow_takes_effect_at_once_and_answers_late() {
    let mut stage = Stage::version(Version::V3_0);
    let internal_id = stage.meeting("m");
    stage.fault(Fault::Slow { ms: 1_500 }.everywhere());
    let reply = stage.end("m");
    assert_eq!(reply.delay, Duration::from_millis(1_500));
    reply.succeeded();
    assert_eq!(stage.effects(&internal_id), [Effect::Ends]);
    assert_eq!(stage.last().faults, ["slow"]);
}

#[test]
fn hang_and_down_have_no_effect() {
    let mut stage = Stage::version(Version::V3_0);
    let internal_id = stage.meeting("m");
    stage.fault(Fault::Hang.on_meeting("m").times(1));
    stage.fault(Fault::Down { reset: false }.everywhere().times(1));
    stage.fault(Fault::Down { reset: true }.everywhere().times(1));
    assert_eq!(stage.end("m").fate, Fate::Never);
    assert_eq!(stage.last().answer, Answered::Never);
    assert_eq!(stage.end("m").fate, Fate::Close { reset: false });
    assert_eq!(stage.end("m").fate, Fate::Close { reset: true });
    assert_eq!(stage.last().answer, Answered::Closed);
    assert_eq!(stage.effects(&internal_id), []);
    stage.end("m").succeeded();
}

#[test]
fn answer_lost_after_the_effect() {
    let mut stage = Stage::version(Version::V3_0);
    let internal_id = stage.meeting("m");
    stage.fault(Fault::AnswerLost.on_meeting("m"));
    stage.info("m").succeeded();
    assert_eq!(stage.end("m").fate, Fate::Close { reset: false });
    stage.wait(100);
    assert!(!stage.instance(&internal_id).alive());
    assert_eq!(stage.effects(&internal_id), [Effect::Ends]);
}

#[test]
fn truncated_listing_under_http_200() {
    let mut stage = Stage::version(Version::V3_0);
    stage.meeting("m");
    stage.fault(Fault::Truncated.everywhere());
    let page = stage.list().page().clone();
    assert_eq!(page.status, 200);
    assert!(page.body.contains("SUCCESS") && !well_formed(&page.body));
    stage.info("m").succeeded();
    stage.end("m").succeeded();
    stage.wait(100);
    assert!(!well_formed(&stage.list().page().body), "an empty listing as well");
}

#[test]
fn huge_listing() {
    let mut stage = Stage::version(Version::V3_0);
    stage.fault(Fault::Huge { mib: 40 }.everywhere());
    assert_eq!(stage.list().page().padding_mib, 40);
    assert_eq!(stage.info("m").page().padding_mib, 0);
}

#[test]
fn unknown_meetings_in_every_disguise() {
    let cases = [
        (UnknownAnswer::NotFound, "FAILED", "notFound"),
        (UnknownAnswer::InvalidPassword, "FAILED", "invalidPassword"),
        (UnknownAnswer::ValidationError, "FAILED", "validationError"),
        (UnknownAnswer::InvalidMeetingIdentifier, "ERROR", "invalidMeetingIdentifier"),
    ];
    for (answer, returncode, key) in cases {
        let mut stage = Stage::version(Version::V2_5);
        stage.fault(Fault::UnknownAs { answer }.everywhere());
        let end = stage.end("m");
        end.has("returncode", returncode);
        end.has("messageKey", key);
        let info = stage.info("m");
        info.has("messageKey", if key == "invalidPassword" { "notFound" } else { key });
        stage.meeting("m");
        stage.info("m").succeeded();
    }
}

#[test]
fn errors_as_a_list() {
    let mut stage = Stage::version(Version::V3_0);
    stage.fault(Fault::ErrorList.everywhere());
    let reply = stage.end("m");
    reply.has("returncode", "FAILED");
    reply.has("key", "notFound");
    assert!(reply.body().contains("<errors>\n<error>\n<key>") && !reply.body().contains("messageKey"));
}

#[test]
fn checksum_errors_as_plain_text_and_a_changed_secret() {
    let mut stage = Stage::version(Version::V3_0);
    stage.meeting("m");
    stage.fault(Fault::ChecksumError { plain_text: true, always: false }.everywhere());
    stage.info("m").succeeded();
    let page = stage.raw("front", "getMeetingInfo", "meetingID=m&checksum=00").page().clone();
    assert_eq!((page.status, page.content_type), (401, "text/plain;charset=utf-8"));
    stage.world.clear_faults(None);

    stage.fault(Fault::ChecksumError { plain_text: false, always: true }.everywhere());
    stage.info("m").failed("checksumError");
    stage.raw("front", "", "").succeeded();
    assert_eq!(stage.last().faults.len(), 0, "the probe carries no checksum");
}

#[test]
fn internal_ids_answered_with_500() {
    let mut stage = Stage::version(Version::V3_0);
    let internal_id = stage.meeting("m");
    stage.fault(Fault::InternalId500.everywhere());
    stage.end(&internal_id).status(500);
    stage.info(&internal_id).status(500);
    assert_eq!(stage.effects(&internal_id), []);
    stage.info("m").succeeded();
}

#[test]
fn re_creation_after_the_end() {
    let mut stage = Stage::version(Version::V3_0);
    let first = stage.meeting("m");
    stage.fault(Fault::Recreate { after_ms: 100, participants: 3 }.on_meeting("m").times(1));
    stage.end("m").succeeded();
    stage.wait(199);
    stage.info("m").failed("notFound");
    stage.wait(1);
    stage.info("m").has("participantCount", "3");
    let second = stage.last().instance.unwrap();
    assert_ne!(first, second);
    assert_eq!(stage.instance(&second).created_at, UtcMs(START + 200));
    stage.info(&first).failed("notFound");
    stage.end("m").succeeded();
    stage.wait(10_000);
    stage.info("m").failed("notFound");
    assert_eq!(stage.truth().instances("m").len(), 2, "once only");
}

#[test]
fn a_fault_that_ran_out_unseen_counted_while_it_stood() {
    let mut stage = Stage::version(Version::V3_0);
    stage.meeting("m");
    stage.fault(Fault::Recreate { after_ms: 100, participants: 1 }.everywhere().for_ms(1_000));
    stage.end("m").succeeded();
    stage.wait(60_000);
    assert_eq!(stage.truth().instances("m").len(), 2, "nobody looked in between");
    stage.end("m").succeeded();
    stage.wait(60_000);
    assert_eq!(stage.truth().instances("m").len(), 2);
}

#[test]
fn ends_by_itself() {
    let mut stage = Stage::version(Version::V3_0);
    let (ours, other) = (stage.meeting("m"), stage.meeting("n"));
    stage.fault(Fault::EndsItself { in_ms: 2_000 }.on_meeting("m"));
    stage.wait(5_000);
    let instance = stage.instance(&ours);
    assert_eq!((instance.ended_at, instance.ended_by), (Some(UtcMs(START + 2_000)), Some(EndedBy::Itself)));
    assert_eq!(instance.hits, []);
    assert!(stage.instance(&other).alive());
    stage.info("m").failed("notFound");
}

#[test]
fn breakouts_stay() {
    let mut stage = Stage::version(Version::V3_0);
    stage.meeting("m");
    let new = NewMeeting { parent: Some("m".to_owned()), ..NewMeeting::new("m-1") };
    let room = stage.world.create_meeting(&new, stage.now).unwrap();
    stage.fault(Fault::BreakoutsStay.on_meeting("m"));
    stage.end("m").succeeded();
    stage.wait(60_000);
    assert!(stage.instance(&room).alive());
    stage.info(&room).has("isBreakout", "true");
}

#[test]
fn clock_skew_in_the_date_and_in_what_is_created() {
    let mut stage = Stage::version(Version::V3_0);
    stage.fault(Fault::ClockSkew { ms: -90_000 }.everywhere());
    let internal_id = stage.meeting("m");
    let info = stage.info("m");
    assert_eq!(info.date, UtcMs(START - 90_000));
    info.has("createTime", &(START - 90_000).to_string());
    assert!(internal_id.ends_with(&(START - 90_000).to_string()));
    assert_eq!(stage.instance(&internal_id).created_at, UtcMs(START), "the truth has the right time");
}

#[test]
fn listing_switched_off() {
    let mut stage = Stage::version(Version::V3_0);
    stage.meeting("m");
    stage.fault(Fault::ListingDisabled.everywhere());
    stage.list().has("messageKey", "noMeetings");
    stage.list().succeeded();
    stage.info("m").succeeded();
}

#[test]
fn decoys_in_the_metadata() {
    let mut stage = Stage::version(Version::V3_0);
    let internal_id = stage.meeting("m");
    stage.fault(Fault::DecoyMetadata.on_meeting("m"));
    for reply in [stage.info("m"), stage.list()] {
        reply.has("running", "true");
        reply.has("internalMeetingID", &internal_id);
        let (_, metadata) = reply.body().split_once("<metadata>").unwrap();
        for decoy in ["<running>false<", "<returncode>FAILED<", "<messageKey>notFound<", "<meetingID>decoy<"]
        {
            assert!(metadata.contains(decoy), "{decoy}");
        }
    }
}

#[test]
fn numbers_as_a_locale_writes_them() {
    let mut stage = Stage::version(Version::V3_0);
    let new = NewMeeting { participants: 1_500, ..NewMeeting::new("m") };
    stage.world.create_meeting(&new, stage.now).unwrap();
    stage.fault(Fault::LocaleNumbers { separator: '.', times: true }.everywhere());
    let listing = stage.list();
    listing.has("participantCount", "1.500");
    listing.has("createTime", "1.796.144.400.000");
    listing.has("internalMeetingID", &stage.truth().instances("m")[0].internal_id);
}

#[test]
fn names_that_attack_a_terminal() {
    let mut stage = Stage::version(Version::V3_0);
    stage.meeting("m");
    stage.fault(Fault::NastyName.on_meeting("m"));
    let info = stage.info("m");
    for evil in ['\u{7}', '\u{1b}', '\u{202e}', '\u{200b}', '\n'] {
        let (_, name) = info.body().split_once("<meetingName>").unwrap();
        let (name, _) = name.split_once("</meetingName>").unwrap();
        assert!(name.contains(evil), "{evil:?}");
    }
    info.has("meetingID", "m");
}

#[test]
fn another_meeting_id_in_the_answer() {
    let mut stage = Stage::version(Version::V3_0);
    let internal_id = stage.meeting("m");
    stage.fault(Fault::WrongMeetingId { meeting_id: "stranger".to_owned() }.on_meeting("m"));
    stage.info("m").has("meetingID", "stranger");
    assert_eq!(stage.last().instance, Some(internal_id));
}

#[test]
fn a_fault_of_one_meeting_leaves_the_others_alone_and_runs_out() {
    let mut stage = Stage::version(Version::V3_0);
    let internal_id = stage.meeting("m");
    stage.meeting("n");
    stage.fault(Fault::Html404.on_meeting("m").for_ms(1_000));
    stage.info("n").succeeded();
    stage.list().succeeded();
    stage.info("m").status(404);
    stage.info(&internal_id).status(404);
    stage.wait(1_000);
    stage.info("m").succeeded();
    let unknown = Fault::Zombie.on_server("node9");
    assert_eq!(stage.world.set_fault(unknown, stage.now), Err(Refusal::Server("node9".to_owned())));
}
