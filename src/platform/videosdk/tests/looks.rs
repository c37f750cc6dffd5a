//! Rounds of looks: which requests they make, and what they see.

use super::*;

#[tokio::test]
async fn one_listing_serves_many_targets_and_only_what_it_leaves_open_is_asked_for() {
    let bed = Bed::new(Version::V2).await;
    let mut sessions: Vec<Value> =
        (0..250).map(|n| v2(&format!("s{n}"), &format!("r{n}"), Value::Null)).collect();
    sessions.push(v2("gone", "r250", ended()));
    sessions.push(v2("first", "again", ended()));
    sessions.push(v2("second", "again", Value::Null));
    bed.holds(sessions).await;
    let targets = [
        target("r0"),
        pinned("r249", "s249"),
        pinned("r250", "gone"),
        pinned("again", "first"),
        target("nobody"),
        pinned("r1", "forgotten"),
    ];
    let round = bed.platform().look(&targets).await;
    let seen = ["live s0", "live s249", "over", "over, next second", "not there", "doubtful"];
    assert_eq!(told(&round), seen);
    assert_eq!((round.trouble.len(), round.listings.len()), (0, 0));
    assert_eq!(
        bed.calls().await,
        [
            "/v2/sessions/first",
            "/v2/sessions/forgotten",
            "/v2/sessions/gone",
            "/v2/sessions?customRoomId=nobody&status=ongoing&page=1&perPage=100",
            "/v2/sessions?roomId=nobody&status=ongoing&page=1&perPage=100",
            "/v2/sessions?roomId=r250&status=ongoing&page=1&perPage=100",
            "/v2/sessions?status=ongoing&page=1&perPage=100",
            "/v2/sessions?status=ongoing&page=2&perPage=100",
            "/v2/sessions?status=ongoing&page=3&perPage=100",
        ]
    );
    let Sighting::Live(instance) = &round.sightings[0] else { panic!() };
    assert_eq!((instance.started_at, instance.participants), (Some(UtcMs(WALL - 60_000)), Some(0)));
}

#[tokio::test]
async fn five_hundred_that_are_due_together_cost_the_pages_and_a_last_read_or_two_each() {
    let live = Bed::new(Version::V2).await;
    let session = |n: usize, end: Value| v2(&format!("s{n}"), &format!("r{n}"), end);
    live.holds((0..500).map(|n| session(n, Value::Null)).collect()).await;
    let unknown: Vec<Target> = (0..500).map(|n| target(&format!("r{n}"))).collect();
    let ours: Vec<Target> = (0..500).map(|n| pinned(&format!("r{n}"), &format!("s{n}"))).collect();
    let platform = live.platform();
    assert!(told(&platform.look(&unknown).await).iter().all(|seen| seen.starts_with("live")));
    assert!(told(&platform.look(&ours).await).iter().all(|seen| seen.starts_with("live")));
    assert_eq!(live.requests().await.len(), 5 + 5);

    let over = Bed::new(Version::V2).await;
    over.holds((0..500).map(|n| session(n, ended())).collect()).await;
    assert!(told(&over.platform().look(&ours).await).iter().all(|seen| seen == "over"));
    assert_eq!(over.requests().await.len(), 1 + 500);

    // On an account with much else, whose listing has several pages, its room is asked too.
    let busy = Bed::new(Version::V2).await;
    let others = (500..750).map(|n| session(n, Value::Null));
    busy.holds((0..500).map(|n| session(n, ended())).chain(others).collect()).await;
    assert!(told(&busy.platform().look(&ours).await).iter().all(|seen| seen == "over"));
    assert_eq!(busy.requests().await.len(), 3 + 500 + 500);
}

#[tokio::test]
async fn fewer_targets_than_pages_are_asked_for_one_by_one_until_that_is_old() {
    let bed = Bed::new(Version::V2).await;
    bed.holds((0..2_000).map(|n| v2(&format!("s{n}"), &format!("r{n}"), Value::Null)).collect()).await;
    let platform = bed.platform();
    let of =
        |count: usize| (0..count).map(|n| pinned(&format!("r{n}"), &format!("s{n}"))).collect::<Vec<_>>();
    for (at, count, requests) in
        [(0, 3, 20), (1_000, 3, 3), (2_000, 19, 19), (3_000, 20, 20), (62_999, 3, 3), (63_000, 3, 20)]
    {
        bed.boot.store(at, Ordering::Relaxed);
        let before = bed.requests().await.len();
        assert!(told(&platform.look(&of(count)).await).iter().all(|seen| seen.starts_with("live")));
        assert_eq!(bed.requests().await.len() - before, requests, "{count} targets at {at}");
    }
}

#[tokio::test]
async fn a_few_targets_are_asked_for_one_by_one() {
    let bed = Bed::new(Version::V2).await;
    let alias = json!({ "id": "s3", "roomId": "r3", "customRoomId": "booking", "end": null });
    bed.holds(vec![v2("s1", "r1", Value::Null), v2("s2", "r2", ended()), alias]).await;
    let platform = bed.platform();
    assert_eq!(told(&platform.look(&[target("r1"), pinned("r2", "s2")]).await), ["live s1", "over"]);
    assert_eq!(
        bed.calls().await,
        [
            "/v2/sessions/s2",
            "/v2/sessions?roomId=r1&status=ongoing&page=1&perPage=100",
            "/v2/sessions?roomId=r2&status=ongoing&page=1&perPage=100",
        ]
    );
    bed.server.reset().await;
    bed.holds(vec![v2("s1", "r1", Value::Null)]).await;
    assert_eq!(told(&platform.look(&[pinned("r1", "s1"), target("x")]).await), ["live s1", "not there"]);
    assert_eq!(
        bed.calls().await,
        [
            "/v2/sessions/s1",
            "/v2/sessions?customRoomId=x&status=ongoing&page=1&perPage=100",
            "/v2/sessions?roomId=x&status=ongoing&page=1&perPage=100",
        ]
    );
}

#[tokio::test]
async fn a_custom_room_id_is_said_to_be_one() {
    let alias = json!({ "id": "s", "roomId": "own-id", "customRoomId": "booking", "end": null });
    let bed = Bed::new(Version::V2).await;
    bed.holds(vec![alias]).await;
    for targets in [vec![target("booking")], vec![target("booking"), target("a"), target("b")]] {
        let round = bed.platform().look(&targets).await;
        let Sighting::Doubtful(why) = &round.sightings[0] else { panic!("{:?}", round.sightings) };
        assert!(why.contains("own-id"), "{why}");
    }
}

/// Serves two pages, whose totals are those of the walk that asks.
async fn walks(totals: &'static [(usize, usize)]) -> (Bed, Round) {
    let bed = Bed::new(Version::V2).await;
    let asked = AtomicI64::new(0);
    let answer = move |request: &Request| {
        if request.url.path() != "/v2/sessions" {
            return answer(404, json!({}));
        }
        if request.url.query().is_some_and(|query| query.contains("oomId=")) {
            return page(&json!([]), 1, 0, 0);
        }
        let first = request.url.query().unwrap().contains("page=1");
        let walk = asked.fetch_add(i64::from(first), Ordering::Relaxed) - i64::from(!first);
        let (one, two) = totals[usize::try_from(walk).unwrap()];
        match first {
            true => page(&json!([v2("s1", "r1", Value::Null)]), 1, 2, one),
            false => page(&json!([v2("s2", "r2", Value::Null)]), 2, 2, two),
        }
    };
    Mock::given(any()).respond_with(answer).mount(&bed.server).await;
    let targets = [target("r1"), target("r2"), pinned("r3", "s3")];
    let round = bed.platform().look(&targets).await;
    (bed, round)
}

#[tokio::test]
async fn a_listing_whose_total_moves_is_walked_again() {
    let (bed, round) = walks(&[(3, 2), (2, 2)]).await;
    assert_eq!(told(&round), ["live s1", "live s2", "doubtful"]);
    assert_eq!(bed.requests().await.len(), 4 + 1);
    let (bed, round) = walks(&[(3, 2), (9, 8), (5, 4), (2, 2)]).await;
    assert_eq!(told(&round), ["live s1", "live s2", "doubtful"]);
    assert_eq!(bed.requests().await.len(), 6 + 1, "three walks, then what it did not show");
}

#[tokio::test]
async fn a_moving_listing_that_shows_all_targets_is_not_walked_again() {
    let bed = Bed::new(Version::V2).await;
    // It never shows as many as it says.
    let live = json!([v2("s1", "r1", Value::Null), v2("s2", "r2", Value::Null), v2("s3", "r3", Value::Null)]);
    bed.answers(page(&live, 1, 1, 7)).await;
    let round = bed.platform().look(&[target("r1"), target("r2"), pinned("r3", "s3")]).await;
    assert_eq!(told(&round), ["live s1", "live s2", "live s3"]);
    assert_eq!(bed.requests().await.len(), 1);
}

#[tokio::test]
async fn what_a_moving_listing_does_not_show_is_asked_for_by_room() {
    let bed = Bed::new(Version::V2).await;
    let over = v2("s", "r", ended());
    let answer = move |request: &Request| match (request.url.path(), request.url.query().unwrap_or_default())
    {
        ("/v2/sessions/s", _) => answer(200, &over),
        (_, query) if query.contains("oomId=") => page(&json!([]), 1, 0, 0),
        // It never shows as many as it says.
        _ => page(&json!([]), 1, 1, 7),
    };
    Mock::given(any()).respond_with(answer).mount(&bed.server).await;
    let round = bed.platform().look(&[target("a"), target("b"), pinned("r", "s")]).await;
    assert_eq!(told(&round), ["not there", "not there", "over"]);
    assert_eq!(bed.requests().await.len(), 3 + 1 + 3 + 2, "walks, a record, rooms, custom ids");
}

#[tokio::test]
async fn a_listing_that_is_too_long_is_not_read_to_its_end() {
    let bed = Bed::new(Version::V2).await;
    let answer = |request: &Request| match request.url.query().unwrap_or_default() {
        query if query.contains("roomId=r") => page(&json!([v2("s", "r", Value::Null)]), 1, 1, 1),
        query if query.contains("oomId=") => page(&json!([]), 1, 0, 0),
        _ => page(&json!([]), 1, 51, 5_001),
    };
    Mock::given(any()).respond_with(answer).mount(&bed.server).await;
    let round = bed.platform().look(&[target("a"), target("b"), target("r")]).await;
    assert_eq!(told(&round), ["not there", "not there", "live s"]);
    assert_eq!(bed.requests().await.len(), 1 + 3 + 2);
}

#[tokio::test]
async fn v1_reads_records_and_walks_rooms() {
    let bed = Bed::new(Version::V1).await;
    let mut sessions: Vec<Value> = (0..150).map(|n| v1(&format!("old{n}"), "daily", ended())).collect();
    sessions.push(v1("now", "daily", Value::Null));
    sessions.push(v1("solo", "once", Value::Null));
    sessions.push(v1("done", "over", ended()));
    bed.holds(sessions).await;
    let targets = [
        target("daily"),
        pinned("once", "solo"),
        pinned("over", "done"),
        pinned("daily", "old3"),
        pinned("over", "forgotten"),
        target("nobody"),
    ];
    let round = bed.platform().look(&targets).await;
    assert_eq!(told(&round), ["live now", "live solo", "over", "over, next now", "doubtful", "not there"]);
    assert_eq!(
        bed.calls().await,
        [
            "/v1/meeting-sessions/done",
            "/v1/meeting-sessions/forgotten",
            "/v1/meeting-sessions/old3",
            "/v1/meeting-sessions/solo",
            "/v1/meeting-sessions?meetingId=daily&page=1&perPage=100",
            "/v1/meeting-sessions?meetingId=daily&page=2&perPage=100",
            "/v1/meeting-sessions?meetingId=nobody&page=1&perPage=100",
            "/v1/meeting-sessions?meetingId=over&page=1&perPage=100",
        ]
    );
}

#[tokio::test]
async fn a_server_in_trouble_is_asked_no_more_in_that_round_and_said_to_be() {
    let targets: Vec<Target> = (0..20).map(|n| pinned(&format!("r{n}"), &format!("s{n}"))).collect();
    for (status, seen, most) in
        [(500, "unreachable", 12), (503, "unreachable", 12), (401, "misconfigured", 3)]
    {
        let bed = Bed::new(Version::V2).await;
        bed.answers(answer(status, json!({ "error": "oops" }))).await;
        let round = bed.platform().look(&targets).await;
        assert_eq!(told(&round), vec![seen; 20], "{status}");
        assert!(round.trouble[""].contains("oops"), "{:?}", round.trouble);
        let asked = bed.requests().await.len();
        assert!(asked <= most, "{status}: {asked} requests");
    }
    let html = Bed::new(Version::V1).await;
    html.answers(ResponseTemplate::new(200).set_body_raw("<!doctype html>Sign in", "text/html")).await;
    let round = html.platform().look(&targets[..1]).await;
    assert_eq!((told(&round), round.trouble.len()), (vec!["unreachable".to_owned()], 1));
}

#[tokio::test]
async fn nobody_at_home_is_no_absence() {
    let mut bed = Bed::new(Version::V2).await;
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    bed.settings.url = Url::parse(&format!("http://{}/", listener.local_addr().unwrap())).unwrap();
    drop(listener);
    for targets in [vec![target("a")], vec![target("a"), target("b"), pinned("c", "s")]] {
        let round = bed.platform().look(&targets).await;
        assert!(told(&round).iter().all(|seen| seen == "unreachable"), "{round:?}");
        assert!(round.trouble[""].contains("cannot connect") && !round.trouble[""].contains("http"));
    }
}

#[tokio::test]
async fn one_session_that_cannot_be_read_holds_up_no_other() {
    let bed = Bed::new(Version::V1).await;
    bed.on("GET", "/v1/meeting-sessions/broken", answer(500, json!({}))).await;
    bed.on("GET", "/v1/meeting-sessions/s", answer(200, v1("s", "r", Value::Null))).await;
    let round = bed.platform().look(&[pinned("q", "broken"), pinned("r", "s")]).await;
    assert_eq!((told(&round), round.trouble.len()), (vec!["unreachable".to_owned(), "live s".to_owned()], 0));
}

#[tokio::test]
async fn while_the_server_wants_a_pause_nothing_is_read() {
    let bed = Bed::new(Version::V2).await;
    bed.answers(answer(429, json!({ "message": "slow down" })).insert_header("Retry-After", "7")).await;
    let platform = bed.platform();
    for at in [0, 6_999] {
        bed.boot.store(at, Ordering::Relaxed);
        let round = platform.look(&[target("r")]).await;
        assert_eq!((told(&round), round.trouble.len()), (vec!["unreachable".to_owned()], 1));
        assert_eq!(bed.requests().await.len(), 1);
    }
    bed.boot.store(7_000, Ordering::Relaxed);
    platform.look(&[target("r")]).await;
    assert_eq!(bed.requests().await.len(), 2);
}

#[tokio::test]
async fn records_and_listings_that_make_no_sense_prove_nothing() {
    for body in [json!({ "id": "other", "end": ended() }), json!({}), json!([]), json!("over"), Value::Null] {
        let bed = Bed::new(Version::V2).await;
        bed.answers(answer(200, &body)).await;
        let round = bed.platform().look(&[pinned("r", "s"), target("q")]).await;
        assert_eq!(told(&round), ["doubtful", "doubtful"], "{body}");
    }
    let bed = Bed::new(Version::V2).await;
    bed.on("GET", "/v2/sessions/s", answer(404, json!({ "error": "resource_not_found" }))).await;
    bed.answers(answer(200, json!({ "data": [] }))).await;
    let round = bed.platform().look(&[pinned("r", "s"), target("q")]).await;
    assert_eq!((told(&round), round.trouble.len()), (vec!["doubtful".to_owned(); 2], 0));
}
