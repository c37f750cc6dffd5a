use proptest::prelude::*;

use super::*;
use crate::job::{Now, UtcMs};

const T0: BootMs = BootMs(1_000_000);
const FIVE_MINUTES: Duration = Duration::from_secs(300);

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// Takes as many as there is room for; each is answered at once.
fn drain(budget: &mut Budget, kind: Kind, now: BootMs) -> usize {
    let mut taken = 0;
    while budget.take(kind, now).is_ok() {
        budget.answered(kind, now);
        taken += 1;
    }
    taken
}

#[test]
fn every_kind_has_its_share() {
    for (kind, most) in [(Kind::End, LIMIT), (Kind::Urgent, URGENT_LOOKS), (Kind::Other, OTHER_LOOKS)] {
        assert_eq!(drain(&mut Budget::default(), kind, T0), most, "{kind:?}");
    }
    let mut budget = Budget::default();
    assert_eq!(drain(&mut budget, Kind::Urgent, T0), URGENT_LOOKS);
    assert_eq!(drain(&mut budget, Kind::Other, T0), 0, "urgent looks count as looks");
    assert_eq!(drain(&mut budget, Kind::End, T0), LIMIT - URGENT_LOOKS);
}

#[test]
fn end_calls_are_let_go_only_as_long_as_looks_keep_their_part() {
    let mut budget = Budget::default();
    let mut ends = 0;
    while budget.end_at(0, T0).is_none() {
        budget.take(Kind::End, T0).unwrap();
        budget.answered(Kind::End, T0);
        ends += 1;
    }
    assert_eq!(ends, LIMIT - KEPT_FOR_LOOKS);
    assert_eq!(drain(&mut budget, Kind::Other, T0), KEPT_FOR_LOOKS);
    // Looks that were made before are that part.
    let mut budget = Budget::default();
    (0..KEPT_FOR_LOOKS).for_each(|_| budget.answered(Kind::Urgent, T0));
    (0..LIMIT - KEPT_FOR_LOOKS - 1).for_each(|_| budget.answered(Kind::End, T0));
    assert_eq!(budget.end_at(0, T0), None);
}

#[test]
fn calls_that_were_let_go_count_before_they_have_taken_their_room() {
    let mut budget = Budget::default();
    (0..LIMIT - KEPT_FOR_LOOKS - 3).for_each(|_| budget.answered(Kind::End, T0));
    assert_eq!(budget.end_at(2, T0), None);
    assert_eq!(budget.end_at(3, T0), Some(T0 + MOMENT), "three more would be one too many");
    budget.take(Kind::End, T0).unwrap();
    assert_eq!(budget.end_at(2, T0), None, "one of the two has taken its room");
}

#[test]
fn end_calls_that_wait_go_on_together() {
    let mut budget = Budget::default();
    for n in 0..1_000 {
        budget.answered(Kind::End, T0 + ms(n * 50));
    }
    let now = T0 + ms(60_000);
    assert_eq!(budget.end_at(0, now), Some(T0 + ms(BATCH as u64 * 50) + WINDOW), "room for a batch");
    assert_eq!(
        budget.end_at(0, T0 + WINDOW + ms(1)),
        Some(T0 + ms(BATCH as u64 * 50) + WINDOW),
        "as was said"
    );
    let slow: Vec<u64> = (0..1_000).map(|n| n * 290).collect();
    let mut budget = Budget::default();
    slow.iter().for_each(|at| budget.answered(Kind::End, T0 + ms(*at)));
    assert_eq!(budget.end_at(0, T0 + ms(290_000)), Some(T0 + WINDOW + BATCH_WAIT), "nor for ever");
}

#[test]
fn a_request_counts_from_its_sending_until_five_minutes_after_its_answer() {
    let mut budget = Budget::default();
    (0..LIMIT).for_each(|_| budget.take(Kind::End, T0).unwrap());
    assert_eq!(budget.take(Kind::End, T0 + ms(900_000)), Err(T0 + ms(900_000) + SOON), "no answer yet");
    budget.answered(Kind::End, T0 + ms(10_000));
    let left = T0 + ms(10_000) + WINDOW;
    assert_eq!(budget.take(Kind::End, T0 + ms(10_000)), Err(left));
    assert_eq!(budget.take(Kind::End, left), Ok(()));
}

#[test]
fn looks_rest_for_what_they_cost_and_longer_when_their_share_runs_low() {
    let mut budget = Budget::default();
    let round = |budget: &mut Budget, kind, now, cost: usize| {
        budget.begin_round(now);
        (0..cost).for_each(|_| {
            budget.take(kind, now).unwrap();
            budget.answered(kind, now);
        });
    };
    assert_eq!(budget.round_at(Kind::Other, 1, T0), None);
    round(&mut budget, Kind::Other, T0, 20);
    assert_eq!(budget.round_at(Kind::Other, 20, T0), Some(T0 + ms(2_000)));
    (0..7).for_each(|n| round(&mut budget, Kind::Other, T0 + ms(2_000 * n), 20));
    let now = T0 + ms(14_000);
    assert_eq!(budget.round_at(Kind::Other, 20, now), Some(T0 + ms(12_000) + 20 * LONG_REST));
    assert_eq!(budget.round_at(Kind::Urgent, 20, now), None, "end calls wait for these");
    assert!(!budget.affords(Kind::Other, 20, now) && budget.affords(Kind::Urgent, 20, now));
    // Asked again and again, in small rounds, nobody is blind for long, and end calls keep their room.
    let mut at = T0;
    let mut budget = Budget::default();
    for _ in 0..2_000 {
        let next = budget.round_at(Kind::Other, 1, at).unwrap_or(at);
        assert!(next.since(at) <= LONG_REST, "{:?}", next.since(at));
        at = next + ms(400);
        round(&mut budget, Kind::Other, at, 1);
        assert_eq!(budget.end_at(0, at), None);
    }
}

#[test]
fn while_the_server_refuses_everything_nothing_is_asked() {
    let mut budget = Budget::default();
    budget.pause(T0 + ms(30_000));
    budget.pause(T0 + ms(20_000));
    for kind in [Kind::End, Kind::Urgent, Kind::Other] {
        assert_eq!(budget.take(kind, T0), Err(T0 + ms(30_000)));
    }
    assert!(budget.end_at(0, T0).is_some_and(|at| at >= T0 + ms(30_000)));
    assert_eq!(budget.round_at(Kind::Urgent, 1, T0), Some(T0 + ms(30_000)));
    assert_eq!(budget.take(Kind::End, T0 + ms(30_000)), Ok(()));
}

#[test]
fn a_start_takes_half_of_the_window_to_be_used() {
    let mut budget = Budget::at_start(T0);
    assert_eq!(drain(&mut budget, Kind::End, T0), LIMIT - USED_AT_START);
    assert_eq!(drain(&mut budget, Kind::End, T0 + WINDOW), LIMIT);
    assert_eq!(drain(&mut Budget::at_start(T0), Kind::Other, T0), OTHER_LOOKS, "looks have their share");
}

#[test]
fn servers_with_the_same_token_share_its_budget_also_across_a_reload() {
    let clock: Clock = Arc::new(|| Now { wall: UtcMs(0), boot: T0 });
    let of = |token: &str| Purse::of(token, Arc::clone(&clock));
    let (first, second, other) = (of("budget-test-a"), of("budget-test-a"), of("budget-test-b"));
    let mut permits = Vec::new();
    while let Ok(permit) = first.take(Kind::End) {
        permits.push(permit);
    }
    assert!(second.take(Kind::End).is_err() && other.take(Kind::End).is_ok());
    // The new platforms are built before the old ones go.
    let reloaded = of("budget-test-a");
    drop((first, second, permits));
    assert!(reloaded.take(Kind::End).is_err());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever is asked, with answers that take their time: the server, which counts at some instant in between, never
    /// sees more than the limit in five minutes.
    #[test]
    fn no_window_ever_holds_more_than_the_limit(
        steps in prop::collection::vec((0_u8..3, 1_u64..400, 0_u64..4_000, 0_u64..20_000), 1..200),
    ) {
        let mut budget = Budget::default();
        let (mut now, mut seen) = (T0, Vec::new());
        let mut open: Vec<(BootMs, Kind)> = Vec::new();
        for (kind, many, took, pause) in steps {
            let kind = [Kind::End, Kind::Urgent, Kind::Other][usize::from(kind)];
            for n in 0..many {
                if budget.take(kind, now).is_err() {
                    break;
                }
                // The server counts it somewhere on the way.
                seen.push(now + ms(took * (n % 3) / 2));
                open.push((now + ms(took), kind));
            }
            now = now + ms(pause);
            open.sort_by_key(|(at, _)| *at);
            let answered = open.partition_point(|(at, _)| *at <= now);
            open.drain(..answered).for_each(|(at, kind)| budget.answered(kind, at));
        }
        seen.sort();
        for (n, at) in seen.iter().enumerate() {
            let one_too_many = seen.get(n + LIMIT).is_some_and(|last| last.since(*at) < FIVE_MINUTES);
            prop_assert!(!one_too_many);
        }
    }
}
