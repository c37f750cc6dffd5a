//! Rounds answer by answer: who is handed on when, and what a last look asks.

use std::sync::Mutex;

use super::*;
use crate::platform::Part;

/// The parts of a round, in the order in which they were handed on.
async fn parts(platform: &BigBlueButton, targets: &[Target]) -> Vec<Part> {
    let parts = Mutex::new(Vec::new());
    platform.look_in_parts(targets, &|part| parts.lock().unwrap().push(part)).await;
    let parts = parts.into_inner().unwrap();
    let mut about: Vec<usize> = parts.iter().flat_map(|part: &Part| part.about.clone()).collect();
    about.sort_unstable();
    assert_eq!(about, (0..targets.len()).collect::<Vec<_>>(), "every target is handed on exactly once");
    assert!(parts.iter().all(|part| part.about.len() == part.round.sightings.len()));
    parts
}

fn slow(answer: ResponseTemplate) -> ResponseTemplate {
    answer.set_delay(Duration::from_millis(1_200))
}

#[tokio::test]
async fn a_last_look_asks_for_its_one_meeting_and_nothing_else() {
    for front in [Front::Scalelite, Front::Balancer, Front::Direct, Front::Auto] {
        let bed = Bed::new(front).await;
        bed.lists(&[("m", "old")]).await;
        bed.on("getMeetingInfo", success(&fields("m", "i"))).await;
        let platform = bed.platform();
        let parts = parts(&platform, &[pinned("m", "i", Purpose::Last)]).await;
        assert_eq!(bed.calls().await, ["getMeetingInfo"], "{front:?}");
        let Sighting::Live(instance) = &parts[0].round.sightings[0] else { panic!("{parts:?}") };
        assert_eq!(instance.id.as_str(), "i");
    }
}

#[tokio::test]
async fn a_slow_listing_holds_up_no_target_whose_own_answer_is_there() {
    let bed = Bed::new(Front::Balancer).await;
    bed.on("getMeetings", slow(success(&format!("<meetings>{}</meetings>", meeting("m", "i"))))).await;
    bed.on("getMeetingInfo", success(&fields("m", "i"))).await;
    let platform = bed.platform();
    platform.front.known().tried = Some(platform.now());
    let targets = [pinned("m", "i", Purpose::BeforeEnd), pinned("gone", "g", Purpose::Confirm)];
    let parts = parts(&platform, &targets).await;
    assert_eq!(parts[0].about, [0]);
    assert!(parts[0].round.listings.is_empty(), "it was handed on before the listing came");
    assert!(matches!(parts[0].round.sightings[0], Sighting::Live(_)));
    assert!(
        parts[1..].iter().any(|part| part.round.listings.contains_key("")),
        "the listing feeds the memory"
    );
}

#[tokio::test]
async fn a_node_that_hangs_holds_up_nobody_who_is_placed() {
    let node = Bed::new(Front::Direct).await;
    node.on("getMeetings", slow(success("<messageKey>noMeetings</messageKey>"))).await;
    let bed = Bed::new(Front::Balancer).await.with_node("n1", &node);
    bed.lists(&[("m", "i")]).await;
    bed.on("getMeetingInfo", success(&fields("m", "i"))).await;
    let platform = bed.platform();
    platform.front.known().tried = Some(platform.now());
    let mut placed = pinned("m", "i", Purpose::BeforeEnd);
    placed.pin.as_mut().unwrap().node = Some("n1".to_owned());
    let parts = parts(&platform, &[placed]).await;
    assert_eq!(parts[0].about, [0]);
    assert!(!parts[0].round.listings.contains_key("n1"));
}

#[tokio::test]
async fn a_listing_that_shows_what_was_denied_before_is_an_old_one() {
    let bed = Bed::new(Front::Balancer).await;
    bed.lists(&[("m", "i")]).await;
    bed.on("getMeetingInfo", failed("notFound")).await;
    let platform = bed.platform();
    platform.front.known().tried = Some(platform.now());
    let before = pinned("m", "i", Purpose::BeforeEnd);
    let (seen, _) = look_one(&platform, before.clone()).await;
    assert!(matches!(&seen, Sighting::Doubtful(why) if why.contains("old one")), "{seen:?}");
    let (seen, _) = look_one(&platform, pinned("m", "i", Purpose::Confirm)).await;
    assert!(matches!(&seen, Sighting::Doubtful(why) if why.contains("old one")), "{seen:?}");
    assert!(platform.notes().caught_stale);
    assert!(!platform.site(None).shares_last_look);
}

#[tokio::test]
async fn of_two_live_ones_under_a_name_only_the_one_that_the_name_means_is_ended() {
    for (means, callable) in [("i", true), ("other", false)] {
        let bed = Bed::new(Front::Scalelite).await;
        bed.lists(&[("m", "i"), ("m", "other")]).await;
        bed.on("getMeetingInfo", success(&fields("m", means))).await;
        let platform = bed.platform();
        let (seen, _) = look_one(&platform, pinned("m", "i", Purpose::BeforeEnd)).await;
        assert_eq!(matches!(seen, Sighting::Live(_)), callable, "{seen:?}");
    }
}

#[tokio::test]
async fn what_the_heart_has_to_know_of_each_front() {
    for (front, shares, settle) in [
        (Front::Direct, true, 0),
        (Front::Scalelite, true, 0),
        (Front::Balancer, false, 0),
        (Front::PlugNmeet, false, 12),
        (Front::Auto, false, 0),
    ] {
        let site = Bed::new(front).await.platform().site(None);
        assert_eq!((site.shares_last_look, site.settle), (shares, Duration::from_secs(settle)), "{front:?}");
        assert_eq!(site.apart, Duration::from_secs(2));
    }
}

#[test]
fn the_fingerprint_is_the_address_and_nothing_that_people_write_differently() {
    let of = |url: &str| fingerprint(&Url::parse(url).unwrap());
    for url in ["https://H/bigbluebutton/api/", "https://h:443/bigbluebutton/api", "https://h/bigbluebutton/"]
    {
        assert_eq!(of(url), "bigbluebutton https://h/bigbluebutton", "{url}");
    }
    assert_ne!(of("https://h/a/api/"), of("https://h/b/api/"));
    assert_ne!(of("https://h:8443/bigbluebutton/api/"), of("https://h/bigbluebutton/api/"));
}
