//! More than one sweep keeps apart, and less than there is.

use super::*;

fn many(count: usize) -> Vec<LiveMeeting> {
    (0..count).map(|n| live(&format!("m{n}"), Some("09:00"), Some(3))).collect()
}

#[test]
fn what_is_left_out_is_not_known_to_be_over() {
    let rules = [max_duration(4 * HOUR)];
    let now = Now { wall: at("09:01"), boot: BootMs(0) };
    let mut all = many(1);
    let first = sweep(&rules, &[], &|_, _, _| true, &Watch::default(), &all, now);
    let job = submitted(&first.hits[0], JobId(Uuid::nil()), now);
    let none = Sweep::default();
    assert_eq!(plan(&none, slice::from_ref(&job), &all).len(), 1, "withdrawn");
    all.splice(0..0, (0..50_000).map(|n| live(&format!("n{n}"), Some("09:00"), Some(3))));
    let crowded = sweep(&rules, &[], &|_, _, _| true, &Watch::default(), &all, now);
    assert_eq!((crowded.hits.len(), crowded.skipped), (50_000, 1));
    let actions = plan(&crowded, &[job], &all);
    assert!(actions.iter().all(|action| matches!(action, RuleAction::Submit(_))));
}

#[test]
fn rules_that_only_report_take_no_place_from_the_others() {
    let dry = |name: &str| Rule { max_duration: Some(HOUR), dry_run: true, ..rule(name) };
    let rules = [dry("a"), dry("b"), dry("c"), max_duration(4 * HOUR)];
    let now = Now { wall: at("09:01"), boot: BootMs(0) };
    let swept = sweep(&rules, &[], &|_, _, _| true, &Watch::default(), &many(40_000), now);
    assert_eq!((swept.hits.len(), swept.dry, swept.skipped, swept.blind), (140_000, 100_000, 20_000, false));
}

#[test]
fn many_rules_on_one_server_make_no_more_than_one_may() {
    let named = |n: usize| Rule { max_duration: Some(HOUR), ..rule(&format!("r{n}")) };
    let now = Now { wall: at("09:01"), boot: BootMs(0) };
    let left_out = |rules: &[Rule], made: &Tally| {
        let swept = sweep(rules, &[], &|_, _, _| true, &Watch::default(), &many(2_000), now);
        let mut actions = plan(&swept, &[], &many(2_000));
        let hits = actions.len();
        let left_out: usize = cap(&mut actions, &[], made, rules).values().sum();
        assert_eq!(actions.len() + left_out, hits);
        (actions.len(), left_out)
    };
    let rules: Vec<Rule> = (0..4).map(named).collect();
    assert_eq!(left_out(&rules, &Tally::new()), (5_000, 3_000));
    let made = Tally::from([("gone".to_owned(), 4_990)]);
    assert_eq!(left_out(&rules, &made), (10, 7_990));
    let wider: Vec<Rule> = rules.into_iter().map(|rule| Rule { max_open: 6_000, ..rule }).collect();
    assert_eq!(left_out(&wider, &Tally::new()), (6_000, 2_000));
}

#[test]
fn what_a_partial_listing_does_not_show_is_kept_for_a_while_and_nobody_knows_who_is_inside() {
    let rules = [Rule { empty_for: Some(30 * MINUTE), ..max_duration(4 * HOUR) }];
    let at = |minute: i64| Now {
        wall: at("09:00") + MINUTE * u32::try_from(minute).unwrap(),
        boot: BootMs(minute * 60_000),
    };
    let look = |watch: &Watch, live: &[LiveMeeting], minute| {
        sweep(&rules, &[], &|_, _, _| true, watch, live, at(minute))
    };
    let room = [live("math", None, Some(0))];
    let unseen = |minutes: i64| {
        let mut watch = look(&Watch::default(), &room, 0).watch;
        for minute in 1..minutes {
            let swept = look(&watch, &[], minute);
            watch = {
                let mut next = swept.watch;
                next.keep_unseen(&watch);
                next
            };
        }
        look(&watch, &room, minutes).hits
    };
    let due = |minutes| unseen(minutes).iter().map(|hit| hit.due).collect::<Vec<_>>();
    assert_eq!(due(25), [at(240).wall], "as first seen, and not empty all the time");
    assert_eq!(due(70), [at(70 + 240).wall], "forgotten after an hour");
}
