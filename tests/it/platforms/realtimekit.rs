//! Cloudflare RealtimeKit, and the legacy API.

use adjourn::sandbox::sessions::{Call, Fault};

use super::{
    Kind, Site, a_lock_goes_before_the_end, a_refused_token_is_an_alarm_and_other_servers_go_on,
    a_swallowed_end_is_repeated_at_the_same_session, a_zombie_is_never_claimed_to_be_over,
    ended_comes_after_the_real_end, it_ends_on_time_and_is_proven, many_are_due_together,
    who_comes_back_at_once_is_left_alone, without_proof_it_is_unconfirmed,
};

const BOTH: [Kind; 2] = [Kind::RealtimeKit, Kind::Legacy];

#[test]
fn sessions_end_on_time_and_are_proven() {
    BOTH.into_iter().for_each(it_ends_on_time_and_is_proven);
}

#[test]
fn ended_is_said_after_the_end_only() {
    ended_comes_after_the_real_end(Kind::RealtimeKit);
}

#[test]
fn zombies_are_not_over() {
    a_zombie_is_never_claimed_to_be_over(Kind::RealtimeKit);
}

#[test]
fn a_new_session_of_the_same_meeting_survives() {
    who_comes_back_at_once_is_left_alone(Kind::RealtimeKit);
}

#[test]
fn a_swallowed_kick_is_repeated() {
    a_swallowed_end_is_repeated_at_the_same_session(Kind::RealtimeKit);
}

#[test]
fn a_ghost_is_kicked_again() {
    let site = Site::start(Kind::RealtimeKit);
    let session = site.create("maths");
    site.fault(Fault::Ghost.everywhere());
    let job = site.outcome_of("maths");
    assert_eq!((&job["outcome"], site.session(&session).hits.len()), (&"ended".into(), 2), "{job:#}");
}

#[test]
fn a_locked_meeting_stays_closed_until_it_is_unlocked() {
    a_lock_goes_before_the_end(Kind::RealtimeKit, "reversible");
}

#[test]
fn what_cannot_be_proven_is_unconfirmed() {
    without_proof_it_is_unconfirmed(Kind::RealtimeKit);
}

#[test]
fn a_refused_token_is_an_alarm() {
    BOTH.into_iter().for_each(a_refused_token_is_an_alarm_and_other_servers_go_on);
}

/// Two walks of the listing prove them all. After a start half of what a token may ask counts as used: 300 fit.
#[test]
fn many_that_are_due_together_take_few_looks() {
    let counters = many_are_due_together(Kind::RealtimeKit, 300);
    let single = counters.of(Call::Session) + counters.of(Call::ActiveSession) + counters.of(Call::Meeting);
    assert!(single < 100 && counters.of(Call::Sessions) < 150, "{:?}", counters.calls);
}
