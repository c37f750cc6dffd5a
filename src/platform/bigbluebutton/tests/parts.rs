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

/// A platform whose clock goes on by a millisecond whenever somebody looks at it: what was asked first is older.
fn ticking(bed: &Bed) -> BigBlueButton {
    let ticks = std::sync::atomic::AtomicI64::new(5_000);
    let now = move || {
        let boot = ticks.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        Now { wall: UtcMs(WALL), boot: BootMs(boot) }
    };
    let (connect, total) = (Duration::from_secs(2), Duration::from_secs(5));
    let timeouts = Timeouts { connect, total, listing: total };
    BigBlueButton::with_timeouts(&ServerName::from("campus"), &bed.settings, Arc::new(now), timeouts).unwrap()
}

fn has_trouble(parts: &[Part]) -> bool {
    parts.iter().any(|part| part.round.trouble.contains_key(""))
}

fn listing_of(parts: &[Part]) -> Option<&Part> {
    parts.iter().find(|part| part.round.listings.contains_key(""))
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

#[tokio::test]
async fn a_last_look_waits_for_no_node() {
    let node = Bed::new(Front::Direct).await;
    node.on("getMeetings", slow(success("<messageKey>noMeetings</messageKey>"))).await;
    let bed = Bed::new(Front::Balancer).await.with_node("n1", &node);
    bed.on("getMeetingInfo", success(&fields("m", "i"))).await;
    let platform = bed.platform();
    platform.front.known().tried = Some(platform.now());
    let arming = pinned("other", "o", Purpose::Arm);
    let parts = parts(&platform, &[pinned("m", "i", Purpose::Last), arming]).await;
    assert_eq!(parts[0].about, [0]);
    assert!(!parts[0].round.listings.contains_key("n1"));
}

/// The front has left it out; its node shows it.
#[tokio::test]
async fn what_a_node_held_is_over_when_the_node_says_so() {
    let node = Bed::new(Front::Direct).await;
    node.on("getMeetings", slow(success(&format!("<meetings>{}</meetings>", meeting("m", "i"))))).await;
    let bed = Bed::new(Front::Balancer).await.with_node("n1", &node);
    bed.lists(&[("w", "w")]).await;
    bed.on("getMeetingInfo", failed("notFound")).await;
    let mut held = pinned("m", "i", Purpose::Confirm);
    held.pin.as_mut().unwrap().node = Some("n1".to_owned());
    let (seen, _) = look_one(&bed.platform(), held).await;
    assert!(matches!(&seen, Sighting::Live(instance) if instance.node.as_deref() == Some("n1")), "{seen:?}");
}

/// Somebody else's listing of the same round may be an old one.
#[tokio::test]
async fn a_listing_says_nothing_in_a_last_look() {
    let bed = Bed::new(Front::Direct).await;
    bed.lists(&[("m", "i"), ("other", "o")]).await;
    bed.on("getMeetingInfo", slow(failed("notFound"))).await;
    let platform = bed.platform();
    let targets = [pinned("m", "i", Purpose::Last), pinned("other", "o", Purpose::Confirm)];
    let parts = parts(&platform, &targets).await;
    let last = parts.iter().find(|part| part.about == [0]).expect("handed on by itself");
    assert!(matches!(last.round.sightings[0], Sighting::NotThere(_)), "{last:?}");
}

#[tokio::test]
async fn a_listing_that_hangs_gets_company_before_an_end_call() {
    let bed = Bed::new(Front::Scalelite).await;
    let late = success(&format!("<meetings>{}</meetings>", meeting("m", "i")));
    bed.on("getMeetings", late.set_delay(Duration::from_secs(60))).await;
    bed.on("getMeetingInfo", success(&fields("m", "i"))).await;
    let parts = parts(&ticking(&bed), &[pinned("m", "i", Purpose::BeforeEnd)]).await;
    assert_eq!(parts[0].about, [0]);
    assert!(matches!(parts[0].round.sightings[0], Sighting::Live(_)), "{parts:?}");
    assert!(!parts[0].round.trouble.contains_key(""), "it was handed on before the listing failed");
}

#[tokio::test]
async fn on_a_direct_server_its_own_answer_is_enough_where_the_listing_does_not_come() {
    let bed = Bed::new(Front::Direct).await;
    let late = success("<messageKey>noMeetings</messageKey>").set_delay(Duration::from_secs(60));
    bed.on("getMeetings", late).await;
    bed.on("getMeetingInfo", failed("notFound")).await;
    let platform = ticking(&bed);
    let parts = parts(&platform, &[pinned("m", "i", Purpose::Confirm)]).await;
    assert_eq!(parts[0].about, [0]);
    assert!(matches!(parts[0].round.sightings[0], Sighting::NotThere(_)), "{parts:?}");
    assert!(!parts[0].round.trouble.contains_key(""), "it was handed on before the listing failed");
}

/// Evidence of an absence is as old as its oldest question, and a listing counts from when it was asked for.
#[tokio::test]
async fn what_is_handed_on_is_dated_by_its_questions() {
    let bed = Bed::new(Front::Direct).await;
    bed.lists(&[]).await;
    bed.on("getMeetingInfo", failed("notFound")).await;
    let gone = parts(&ticking(&bed), &[pinned("m", "i", Purpose::Confirm)]).await;
    let about = gone.iter().find(|part| part.about == [0]).expect("it is handed on");
    let listing = listing_of(&gone).expect("the listing is");
    assert_eq!(about.round.sent, listing.round.sent, "the listing was asked for first");

    let bed = Bed::new(Front::Direct).await;
    bed.lists(&[]).await;
    bed.on("getMeetingInfo", success(&fields("m", "i"))).await;
    let live = parts(&ticking(&bed), &[pinned("m", "i", Purpose::Confirm)]).await;
    let about = live.iter().find(|part| part.about == [0]).expect("it is handed on");
    let listing = listing_of(&live).expect("the listing is");
    assert!(listing.about.is_empty() && listing.round.sent.boot < about.round.sent.boot, "{live:?}");
    let Sighting::Live(instance) = &about.round.sightings[0] else { panic!("{about:?}") };
    let (asked, shown) = (instance.asked_at.unwrap(), instance.shown_at.unwrap());
    assert!(about.round.sent.boot == asked.boot && asked.boot < shown.boot, "{asked:?} {shown:?}");
}

#[tokio::test]
async fn an_error_beside_an_answer_is_trouble_and_too_many_questions_are_none() {
    let unwell = html(500);
    let too_many = ResponseTemplate::new(429);
    for (answer, trouble) in [(unwell, true), (too_many, false)] {
        let bed = Bed::new(Front::Direct).await;
        bed.lists(&[("w", "w")]).await;
        bed.on("getMeetingInfo", answer).await;
        let parts = parts(&bed.platform(), &[pinned("m", "i", Purpose::Confirm)]).await;
        assert_eq!(has_trouble(&parts), trouble, "{parts:?}");
    }
}

/// Everybody is handed on; the listing that comes a second later is no less worth knowing.
#[tokio::test]
async fn a_listing_that_comes_when_all_are_handed_on_feeds_the_memory() {
    let bed = Bed::new(Front::Balancer).await;
    bed.on("getMeetings", slow(success(&format!("<meetings>{}</meetings>", meeting("m", "i"))))).await;
    bed.on("getMeetingInfo", success(&fields("m", "i"))).await;
    let platform = bed.platform();
    platform.front.known().tried = Some(platform.now());
    let parts = parts(&platform, &[pinned("m", "i", Purpose::BeforeEnd)]).await;
    assert!(parts[0].round.listings.is_empty());
    assert!(listing_of(&parts).is_some());
}
