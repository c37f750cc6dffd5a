//! VideoSDK, v1 and v2.

use adjourn::sandbox::sessions::{Call, Fault};

use super::{
    Kind, Site, a_lock_goes_before_the_end, a_refused_token_is_an_alarm_and_other_servers_go_on,
    a_swallowed_end_is_repeated_at_the_same_session, a_zombie_is_never_claimed_to_be_over,
    ended_comes_after_the_real_end, it_ends_on_time_and_is_proven, many_are_due_together,
    who_comes_back_at_once_is_left_alone, without_proof_it_is_unconfirmed,
};

const BOTH: [Kind; 2] = [Kind::VideoSdk, Kind::VideoSdkV1];

#[test]
fn sessions_end_on_time_and_are_proven() {
    BOTH.into_iter().for_each(it_ends_on_time_and_is_proven);
}

#[test]
fn ended_is_said_after_the_end_only() {
    BOTH.into_iter().for_each(ended_comes_after_the_real_end);
}

#[test]
fn zombies_are_not_over() {
    BOTH.into_iter().for_each(a_zombie_is_never_claimed_to_be_over);
}

#[test]
fn a_new_session_in_the_same_room_survives() {
    BOTH.into_iter().for_each(who_comes_back_at_once_is_left_alone);
}

#[test]
fn a_swallowed_end_is_repeated() {
    BOTH.into_iter().for_each(a_swallowed_end_is_repeated_at_the_same_session);
}

#[test]
fn what_cannot_be_proven_is_unconfirmed() {
    BOTH.into_iter().for_each(without_proof_it_is_unconfirmed);
}

#[test]
fn nothing_live_in_the_room_is_no_proof() {
    for kind in BOTH {
        let site = Site::with(kind, "prove-within = \"5s\"");
        let session = site.create("maths");
        site.fault(Fault::RecordVanished.everywhere());
        let job = site.outcome_of("maths");
        assert_eq!(job["outcome"], "unconfirmed", "{kind:?}: {job:#}");
        assert!(!site.session(&session).alive());
    }
}

#[test]
fn a_token_that_is_refused_once_is_made_again() {
    let site = Site::start(Kind::VideoSdk);
    site.create("maths");
    let id = site.end_in("maths", "4s");
    // Two tokens of one second are the same token.
    site.wait_for("the first token is a second old", |truth| {
        truth.requests.first().is_some_and(|first| truth.now.ms_since(first.received_at) > 1_000)
    });
    site.fault(Fault::InvalidToken { always: false }.everywhere());
    let job = site.bed.outcome(&id);
    site.check(&job);
    assert_eq!(job["outcome"], "ended", "{job:#}");
    assert!(site.truth().requests.iter().any(|record| record.faults.iter().any(|f| f == "invalid-token")));
}

#[test]
fn a_room_that_is_deactivated_stays_closed() {
    a_lock_goes_before_the_end(Kind::VideoSdk, "permanent");
}

#[test]
fn a_refused_token_is_an_alarm() {
    BOTH.into_iter().for_each(a_refused_token_is_an_alarm_and_other_servers_go_on);
}

/// Proof is a session's own record: one each, once the listings no longer have it as live. Whoever is proven over while those
/// still have several pages also needs the listing of its own room.
#[test]
fn many_that_are_due_together_take_few_looks() {
    let counters = many_are_due_together(Kind::VideoSdk, 500);
    assert!(counters.of(Call::Session) <= 550 && counters.of(Call::Sessions) < 750, "{:?}", counters.calls);
}
