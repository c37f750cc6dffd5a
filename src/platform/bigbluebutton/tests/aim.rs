//! What a probe finds out, what end calls name because of it, and where they go.

use super::*;

const V3: &str =
    "<version>2.0</version><bbbVersion>3.0.19</bbbVersion><graphqlWebsocketUrl>w</graphqlWebsocketUrl>";

#[tokio::test]
async fn a_probe_of_a_direct_3_0_lets_calls_name_the_instance() {
    let bed = Bed::new(Front::Auto).await;
    bed.on("", success(V3)).await;
    bed.on("isMeetingRunning", success("<running>false</running>")).await;
    bed.on("end", success("")).await;
    let platform = bed.platform();
    assert_eq!((platform.front(), platform.aim(&pin("i-1", None))), (Front::Auto, Aim::Meeting));
    let probe = platform.probe().await.unwrap();
    assert_eq!(probe.summary, "BigBlueButton 3.0.19; asked directly; end calls name the instance");
    assert_eq!((platform.front(), platform.aim(&pin("i-1", None))), (Front::Direct, Aim::Instance));
    platform.end(&end_call("m", pin("i-1", None), false)).await;
    assert!(bed.sent("end").await[0].url.query().unwrap().starts_with("meetingID=i-1&checksum="));
    assert_eq!(bed.sent("").await[0].url.query(), None, "the version is asked unsigned");
    check_signature(&bed.sent("isMeetingRunning").await[0], SECRET);
}

#[tokio::test]
async fn instance_ids_are_as_configured_only_where_nothing_stands_in_front() {
    for (front, configured, expected) in [
        (Front::Direct, Some(true), Aim::Instance),
        (Front::Direct, Some(false), Aim::Meeting),
        (Front::Direct, None, Aim::Instance),
        (Front::Scalelite, Some(true), Aim::Meeting),
        (Front::Balancer, Some(true), Aim::Meeting),
        (Front::Balancer, None, Aim::Meeting),
    ] {
        let mut bed = Bed::new(front).await;
        bed.settings.instance_ids = configured;
        bed.on("", success(V3)).await;
        bed.on("isMeetingRunning", success("<running>false</running>")).await;
        let platform = bed.platform();
        platform.probe().await.unwrap();
        assert_eq!(platform.aim(&pin("i", None)), expected, "{front:?} {configured:?}");
    }
}

#[tokio::test]
async fn a_server_before_2_6_breaks_on_an_internal_id_and_is_asked_by_name_from_then_on() {
    let mut bed = Bed::new(Front::Direct).await;
    bed.settings.instance_ids = Some(true);
    bed.on("end", html(500)).await;
    let platform = bed.platform();
    assert_eq!(platform.aim(&pin("i", None)), Aim::Instance);
    let ended = platform.end(&end_call("m", pin("i", None), false)).await;
    assert!(matches!(ended, EndAnswer::Unreachable { sent: true, .. }), "{ended:?}");
    assert_eq!(platform.aim(&pin("i", None)), Aim::Meeting);
}

#[tokio::test]
async fn a_base_that_tells_nothing_is_a_balancer_once_the_secret_is_proven() {
    let bed = Bed::new(Front::Auto).await;
    bed.on("", html(404)).await;
    bed.on("isMeetingRunning", failed("notFound")).await;
    let platform = bed.platform();
    let probe = platform.probe().await.unwrap();
    assert_eq!(probe.summary, "version not told; believed as a load balancer");
    assert_eq!(platform.front(), Front::Balancer);
}

#[tokio::test]
async fn a_look_probes_by_the_way_but_not_every_time() {
    let bed = Bed::new(Front::Auto).await;
    bed.lists(&[("m", "i")]).await;
    bed.on("getMeetingInfo", success(&fields("m", "i"))).await;
    bed.on("", html(502)).await;
    let platform = bed.platform();
    for _ in 0..3 {
        platform.look(&[target("m", Purpose::Guard)]).await;
    }
    assert_eq!(bed.sent("").await.len(), 1);
    assert_eq!(platform.front(), Front::Auto);

    let bed = Bed::new(Front::Auto).await;
    bed.lists(&[("m", "i")]).await;
    bed.on("", success("<version>2.0</version><build>1.6</build>")).await;
    let platform = bed.platform();
    platform.look(&[target("m", Purpose::Guard)]).await;
    assert_eq!(platform.front(), Front::Scalelite);
}

#[tokio::test]
async fn the_node_that_holds_the_instance_is_found_asked_and_called_again() {
    let node = Bed::new(Front::Direct).await;
    node.lists(&[("t-m", "i")]).await;
    node.on("end", success("")).await;
    let other = Bed::new(Front::Direct).await;
    other.on("getMeetings", html(502)).await;
    let bed = Bed::new(Front::Balancer).await.with_node("n1", &node).with_node("n2", &other);
    bed.lists(&[("m", "i")]).await;
    bed.on("getMeetingInfo", success(&fields("m", "i"))).await;
    bed.on("end", success("")).await;
    let platform = bed.platform();

    let (seen, round) = look_one(&platform, target("m", Purpose::Arm)).await;
    let Sighting::Live(instance) = seen else { panic!("{seen:?}") };
    assert_eq!((instance.node.as_deref(), instance.listed), (Some("n1"), true));
    assert!(round.trouble.contains_key("n2") && !round.trouble.contains_key(""));
    check_no_secret(&format!("{round:?}"));

    let held = pin("i", Some("n1"));
    assert_eq!(platform.aim(&held), Aim::Meeting);
    platform.end(&end_call("m", held.clone(), false)).await;
    assert_eq!((bed.sent("end").await.len(), node.sent("end").await.len()), (1, 0));
    platform.end(&end_call("m", held.clone(), true)).await;
    let resent = node.sent("end").await;
    assert_eq!((bed.sent("end").await.len(), resent.len()), (1, 1));
    assert!(resent[0].url.query().unwrap().starts_with("meetingID=t-m&"));
    check_signature(&resent[0], "node-secret");

    let confirm = Target { pin: Some(held), ..pinned("m", "i", Purpose::Confirm) };
    let before = other.requests().await.len();
    platform.look(&[confirm]).await;
    assert_eq!(other.requests().await.len(), before, "only the node that holds it");
}

#[tokio::test]
async fn a_node_of_3_0_is_called_by_instance() {
    let node = Bed::new(Front::Direct).await;
    node.lists(&[("m", "i")]).await;
    node.on("", success(V3)).await;
    node.on("end", success("")).await;
    let bed = Bed::new(Front::Balancer).await.with_node("n1", &node);
    bed.lists(&[("m", "i")]).await;
    let platform = bed.platform();
    platform.look(&[target("m", Purpose::Arm)]).await;
    let held = pin("i", Some("n1"));
    assert_eq!((platform.aim(&held), platform.aim(&pin("i", None))), (Aim::Instance, Aim::Meeting));
    assert_eq!(platform.end(&end_call("m", held, false)).await, EndAnswer::Accepted);
    let sent = node.sent("end").await;
    assert!(sent[0].url.query().unwrap().starts_with("meetingID=i&"));
    check_signature(&sent[0], "node-secret");
}
