//! Load balancers: what they forget, and what their nodes still know.

use super::*;

#[test]
fn each_front_shows_itself_in_the_probe_or_does_not() {
    Stage::front(Front::Scalelite).raw("front", "", "").has("build", "1.6.0");
    let balancer = Stage::front(Front::Balancer).raw("front", "", "");
    assert!(!balancer.body().contains("build") && !balancer.body().contains("graphql"));
    let node = Stage::front(Front::Scalelite).raw("node1", "", "");
    assert!(node.body().contains("graphqlWebsocketUrl"));
}

#[test]
fn an_end_goes_through_to_the_node() {
    for front in [Front::Scalelite, Front::Balancer] {
        let mut stage = Stage::front(front);
        let internal_id = stage.meeting("m");
        stage.info("m").has("internalMeetingID", &internal_id);
        stage.list().has("internalMeetingID", &internal_id);
        stage.end("m").has("messageKey", "sentEndMeetingRequest");
        stage.info("m").failed("notFound");
        stage.wait(100);
        assert!(!stage.instance(&internal_id).alive());
        stage.list().has("messageKey", "noMeetings");
    }
}

#[test]
fn scalelite_says_not_found_of_a_zombie_that_its_listing_shows() {
    let mut stage = Stage::front(Front::Scalelite);
    let internal_id = stage.meeting("m");
    stage.fault(Fault::Zombie.on_server("node1"));
    stage.end("m").succeeded();
    stage.wait(60_000);
    stage.info("m").failed("notFound");
    stage.end("m").failed("notFound");
    stage.call("isMeetingRunning", "meetingID=m").has("running", "false");
    stage.list().has("internalMeetingID", &internal_id);
    assert_eq!(stage.effects(&internal_id), [Effect::Zombie], "the second end reached nothing");
}

#[test]
fn scalelite_forgets_even_where_the_node_cannot_be_reached() {
    let mut stage = Stage::front(Front::Scalelite);
    let internal_id = stage.meeting("m");
    stage.fault(Fault::Down { reset: true }.on_server("node1").for_ms(1_000));
    stage.end("m").failed("internalError");
    stage.list().has("messageKey", "noMeetings");
    stage.wait(1_000);
    stage.info("m").failed("notFound");
    stage.list().has("internalMeetingID", &internal_id);
    assert_eq!(stage.effects(&internal_id), []);
}

#[test]
fn scalelite_with_its_listing_switched_off() {
    let mut stage = Stage::front(Front::Scalelite);
    let internal_id = stage.meeting("m");
    stage.fault(Fault::ListingDisabled.on_server("front"));
    stage.list().has("messageKey", "noMeetings");
    stage.info("m").has("internalMeetingID", &internal_id);
    stage.call_at("node1", "getMeetings", "").has("internalMeetingID", &internal_id);
}

#[test]
fn the_other_balancer_hides_what_it_forgot() {
    let mut stage = Stage::front(Front::Balancer);
    let internal_id = stage.meeting("m");
    stage.fault(Fault::Zombie.everywhere());
    stage.end("m").succeeded();
    stage.info("m").failed("notFound");
    stage.list().has("messageKey", "noMeetings");
    let node = stage.call_at("node1", "getMeetingInfo", "meetingID=m");
    node.has("internalMeetingID", &internal_id);
    assert!(stage.instance(&internal_id).alive());
}

#[test]
fn the_other_balancer_forgets_a_node_after_one_failed_poll() {
    let mut stage = Stage::new(Settings { front: Front::Balancer, nodes: 2, ..Settings::default() });
    let away = stage.meeting("m");
    let new = NewMeeting { server: Some("node2".to_owned()), ..NewMeeting::new("n") };
    let kept = stage.world.create_meeting(&new, stage.now).unwrap();
    stage.fault(Fault::Html404.on_server("node1").for_ms(1_000));
    let listing = stage.list();
    listing.has("internalMeetingID", &kept);
    assert!(!listing.body().contains(&away));
    stage.wait(60_000);
    stage.info("m").failed("notFound");
    assert!(!stage.list().body().contains(&away), "also when the node is back");
    stage.call_at("node1", "getMeetings", "").has("internalMeetingID", &away);
}

#[test]
fn a_forgetful_front_passes_nothing_on() {
    for front in [Front::Scalelite, Front::Balancer] {
        let mut stage = Stage::front(front);
        let internal_id = stage.meeting("m");
        stage.fault(Fault::Forgetful { answer: ForgetfulAnswer::Success }.on_meeting("m").times(1));
        stage.end("m").has("messageKey", "sentEndMeetingRequest");
        stage.info("m").failed("notFound");
        stage.wait(60_000);
        assert!(stage.instance(&internal_id).alive() && stage.instance(&internal_id).visible);
        assert_eq!(stage.effects(&internal_id), [Effect::Forgotten]);
        stage.call_at("node1", "end", "meetingID=m").succeeded();
        stage.wait(100);
        assert!(!stage.instance(&internal_id).alive(), "the node itself still can");
    }
}

#[test]
fn a_front_that_forgets_by_itself() {
    let mut stage = Stage::front(Front::Balancer);
    let internal_id = stage.meeting("m");
    stage.fault(Fault::Forget.on_meeting("m"));
    stage.info("m").failed("notFound");
    stage.list().has("messageKey", "noMeetings");
    assert!(stage.instance(&internal_id).visible, "the node shows it");
}

#[test]
fn a_node_that_lost_its_state() {
    let mut stage = Stage::front(Front::Scalelite);
    let internal_id = stage.meeting("m");
    stage.fault(Fault::LostState { outage_ms: 0, outage: Outage::default() }.everywhere());
    stage.list().has("messageKey", "noMeetings");
    stage.info("m").failed("notFound");
    assert!(stage.instance(&internal_id).alive());
}

#[test]
fn an_answer_lost_on_the_way_back_is_a_failure_at_the_front() {
    let mut stage = Stage::front(Front::Balancer);
    let internal_id = stage.meeting("m");
    stage.fault(Fault::AnswerLost.on_server("node1"));
    stage.end("m").failed("internalError");
    stage.wait(100);
    assert!(!stage.instance(&internal_id).alive());
}

#[test]
fn fronts_know_no_internal_ids_and_scalelite_no_chat() {
    for front in [Front::Scalelite, Front::Balancer] {
        let mut stage = Stage::front(front);
        let internal_id = stage.meeting("m");
        stage.info(&internal_id).failed("notFound");
        stage.end(&internal_id).failed("notFound");
        assert_eq!(stage.effects(&internal_id), []);
        stage.call_at("node1", "getMeetingInfo", &format!("meetingID={internal_id}")).has("meetingID", "m");
        let chat = stage.call("sendChatMessage", "meetingID=m&message=hello");
        match front {
            Front::Scalelite => chat.failed("unsupportedRequest"),
            _ => chat.succeeded(),
        }
        stage.end("").failed("missingParamMeetingID");
    }
}

#[test]
fn users_come_back_through_the_front() {
    let mut stage = Stage::front(Front::Balancer);
    let first = stage.meeting("m");
    stage.fault(Fault::Recreate { after_ms: 100, participants: 1 }.everywhere());
    stage.end("m").succeeded();
    stage.wait(200);
    stage.info("m").succeeded();
    let second = stage.last().instance.unwrap();
    assert_ne!(first, second);
    stage.list().has("internalMeetingID", &second);
    stage.call("create", "meetingID=m").has("internalMeetingID", &second);
}

#[test]
fn creating_through_the_front_is_remembered_and_on_the_node_is_not() {
    let mut stage = Stage::front(Front::Balancer);
    stage.call("create", "meetingID=m").succeeded();
    stage.info("m").succeeded();
    stage.call_at("node1", "create", "meetingID=n").succeeded();
    stage.info("n").failed("notFound");
    assert!(!stage.list().body().contains("<meetingID>n<"));
    let scalelite = &mut Stage::front(Front::Scalelite);
    scalelite.call_at("node1", "create", "meetingID=n").succeeded();
    scalelite.list().has("meetingID", "n");
}

#[test]
fn the_secrets_of_front_and_node_are_not_the_same() {
    let mut stage = Stage::front(Front::Scalelite);
    stage.meeting("m");
    let checksum = Hash::Sha256.checksum("end", "meetingID=m", DEMO_SECRET);
    stage.raw("node1", "end", &format!("meetingID=m&checksum={checksum}")).failed("checksumError");
}
