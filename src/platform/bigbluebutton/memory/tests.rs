use super::*;
use crate::job::UtcMs;
use crate::platform::Memory;

fn at(seconds: i64) -> Now {
    Now { wall: UtcMs(1_000_000 + seconds * 1000), boot: BootMs(seconds * 1000) }
}

fn ids(names: &[&str]) -> Vec<InstanceId> {
    names.iter().map(|name| InstanceId::from(*name)).collect()
}

/// A server as it is heard over time.
#[derive(Default)]
struct Server {
    known: NodeMemory,
}

impl Server {
    /// A server that showed these at second 0.
    fn with(names: &[&str]) -> Server {
        let mut server = Server::default();
        assert!(!server.lists(0, names));
        server
    }

    fn hears<'a>(&mut self, seconds: i64, change: impl FnOnce(&mut Heard<'a>)) -> bool {
        let mut heard = Heard {
            sent: at(seconds),
            received: at(seconds),
            direct: false,
            shown: None,
            called: BTreeSet::new(),
            troubled: false,
            usable: true,
            listing: None,
            own: BTreeSet::new(),
            alive: BTreeSet::new(),
            alive_since: None,
        };
        change(&mut heard);
        update(&mut self.known, &heard).lost
    }

    fn lists(&mut self, seconds: i64, names: &[&str]) -> bool {
        let all = ids(names);
        self.hears(seconds, |heard| heard.listing = Some(&all))
    }

    fn fails(&mut self, seconds: i64) {
        self.hears(seconds, |heard| {
            heard.troubled = true;
            heard.usable = false;
        });
    }

    #[track_caller]
    fn check(&self, since: i64, expected: &str) {
        let found = match standing(Some(&self.known), Some(at(since))) {
            Standing::Believed => "believed",
            Standing::NotYet(_) => "not yet",
            Standing::Never(_) => "never",
        };
        assert_eq!(found, expected, "{:?}", self.known);
    }
}

#[test]
fn a_quiet_server_is_believed() {
    let mut server = Server::with(&["a", "b"]);
    server.check(-10, "believed");
    assert!(!server.lists(5, &["b", "c"]));
    server.check(-10, "believed");
    assert_eq!(server.known.witnesses, ids(&["b", "c"]));
    assert_eq!(standing(None, Some(at(0))), Standing::Believed);
}

#[test]
fn a_witness_that_survives_an_outage_settles_it() {
    let mut server = Server::with(&["a", "b"]);
    server.fails(5);
    server.check(0, "not yet");
    server.fails(90);
    assert!(!server.lists(120, &["b", "new"]));
    server.check(0, "believed");
}

#[test]
fn a_short_outage_without_witnesses_is_harmless_and_a_long_one_is_not() {
    let mut server = Server::with(&[]);
    server.fails(5);
    assert!(!server.lists(19, &[]));
    server.check(0, "believed");
    server.fails(25);
    assert!(!server.lists(39, &[]));
    server.check(19, "never");
    server.check(40, "believed");
}

#[test]
fn witnesses_gone_after_an_outage_mean_a_lost_state_after_one_more_listing() {
    let mut server = Server::with(&["a", "b"]);
    server.fails(5);
    assert!(server.lists(10, &["c"]), "the alarm, once");
    server.check(0, "not yet");
    server.check(11, "believed");
    assert!(!server.lists(12, &["c"]));
    server.check(0, "never");
    assert!(!server.lists(14, &["c"]));
    server.check(0, "never");
    server.check(12, "believed");
}

#[test]
fn witnesses_gone_without_an_outage_mean_the_same() {
    let mut server = Server::with(&["a", "b"]);
    assert!(server.lists(3, &[]));
    server.check(0, "not yet");
    assert!(!server.lists(5, &[]));
    server.check(0, "never");
}

#[test]
fn a_witness_that_reappears_clears_the_mark() {
    let mut server = Server::with(&["a", "b"]);
    assert!(server.lists(3, &[]));
    assert!(!server.lists(5, &["a"]));
    server.check(0, "believed");
    assert_eq!(server.known.lost_state, None);
}

#[test]
fn a_time_without_looks_may_hide_a_restart() {
    let mut server = Server::with(&["a"]);
    assert!(!server.lists(3600, &["a", "b"]), "a survived");
    server.check(0, "believed");
    assert!(server.lists(7200, &["c"]));
    server.check(3600, "not yet");
    server.check(7201, "believed");

    let mut alone = Server::with(&[]);
    alone.lists(3600, &[]);
    alone.check(0, "believed");
}

#[test]
fn a_pinned_instance_that_still_lives_is_as_good_as_a_witness() {
    let mut server = Server::with(&["a"]);
    server.fails(5);
    let pin = InstanceId::from("p");
    let none = ids(&[]);
    server.hears(60, |heard| {
        heard.listing = Some(&none);
        heard.own = BTreeSet::from([&pin]);
        heard.alive = BTreeSet::from([&pin]);
        heard.alive_since = Some(at(0).boot);
    });
    server.check(0, "believed");
}

#[test]
fn an_instance_pinned_after_the_outage_proves_nothing_about_it() {
    let mut server = Server::with(&["a"]);
    server.fails(5);
    server.hears(60, |_| {});
    let pin = InstanceId::from("p");
    let none = ids(&[]);
    server.hears(65, |heard| {
        heard.listing = Some(&none);
        heard.own = BTreeSet::from([&pin]);
        heard.alive = BTreeSet::from([&pin]);
        heard.alive_since = Some(at(61).boot);
    });
    server.check(0, "not yet");
}

#[test]
fn an_outage_waits_for_a_complete_listing() {
    let mut server = Server::with(&["a"]);
    server.fails(2);
    server.hears(4, |_| {});
    server.check(0, "not yet");
    server.hears(6, |_| {});
    server.check(0, "not yet");
    server.lists(8, &["a"]);
    server.check(0, "believed");
}

#[test]
fn two_outages_without_a_listing_between_are_one() {
    let mut server = Server::with(&["a"]);
    server.fails(2);
    server.hears(4, |_| {});
    server.fails(6);
    let outage = server.known.trouble.clone().unwrap();
    assert_eq!((outage.began, outage.ended, outage.witnesses), (at(0), None, ids(&["a"])));
    server.lists(8, &["x"]);
    server.check(0, "not yet");
}

#[test]
fn an_unprovable_outage_is_not_forgotten_over_the_next() {
    let mut server = Server::with(&[]);
    server.fails(5);
    server.lists(60, &["w"]);
    server.check(0, "never");
    server.fails(62);
    server.lists(65, &["w"]);
    server.check(0, "never");
    server.check(61, "believed");
}

#[test]
fn trouble_and_an_answer_in_one_round_are_an_outage_that_is_over() {
    let mut server = Server::with(&["a"]);
    let none = ids(&["x"]);
    server.hears(10, |heard| {
        heard.troubled = true;
        heard.listing = Some(&none);
    });
    server.check(0, "not yet");
    server.lists(12, &["x"]);
    server.check(0, "never");
}

#[test]
fn what_targets_are_about_is_no_witness_and_its_end_no_lost_state() {
    let mut server = Server::with(&["a"]);
    let (a, all) = (InstanceId::from("a"), ids(&["a", "b"]));
    server.hears(2, |heard| {
        heard.listing = Some(&all);
        heard.own = BTreeSet::from([&a]);
        heard.alive = BTreeSet::from([&a]);
    });
    assert_eq!(server.known.witnesses, ids(&["b"]));

    let mut server = Server::with(&["a"]);
    let none = ids(&[]);
    let lost = server.hears(2, |heard| {
        heard.listing = Some(&none);
        heard.own = BTreeSet::from([&a]);
    });
    assert!(!lost);
    server.check(0, "believed");
}

#[test]
fn witnesses_are_bounded_and_those_known_longest_stay() {
    let names: Vec<String> = (0..20).map(|n| format!("m{n:02}")).collect();
    let all: Vec<&str> = names.iter().map(String::as_str).collect();
    let mut server = Server::with(&all[5..]);
    assert_eq!(server.known.witnesses, ids(&all[5..13]));
    server.lists(2, &all[..12]);
    assert_eq!(server.known.witnesses, ids(&[&all[5..12], &all[..1]].concat()));
}

#[test]
fn a_round_that_was_overtaken_changes_no_witness() {
    let mut server = Server::with(&["a"]);
    server.lists(10, &["a", "b"]);
    let old = ids(&["z"]);
    let lost = server.hears(11, |heard| {
        heard.sent = at(9);
        heard.listing = Some(&old);
    });
    assert!(!lost);
    assert_eq!(server.known.witnesses, ids(&["a", "b"]));
    server.check(0, "believed");
}

#[test]
fn nothing_heard_is_nothing_learnt() {
    let mut server = Server::with(&["a"]);
    let before = server.known.clone();
    server.hears(500, |heard| heard.usable = false);
    assert_eq!(server.known, before);
}

#[test]
fn a_witness_that_reappears_late_clears_the_mark_too() {
    let mut server = Server::with(&["a", "b"]);
    assert!(server.lists(3, &[]));
    server.lists(5, &[]);
    server.lists(7, &["new"]);
    server.check(0, "never");
    server.lists(9, &["a", "new"]);
    server.check(0, "believed");
    assert_eq!((&server.known.lost, server.known.marred), (&None, None));
}

#[test]
fn an_outage_after_a_lost_state_has_witnesses_of_its_own() {
    let mut server = Server::with(&["a"]);
    assert!(server.lists(3, &["new"]));
    server.fails(5);
    assert!(!server.lists(9, &["new"]));
    server.check(0, "never");
    server.check(4, "believed");
}

#[test]
fn two_listings_of_a_direct_server_that_are_close_together_cannot_hide_a_restart() {
    for (seconds, lost) in [(19, false), (21, true)] {
        let mut server = Server::with(&["a", "b"]);
        let none = ids(&[]);
        let found = server.hears(seconds, |heard| {
            heard.direct = true;
            heard.listing = Some(&none);
        });
        assert_eq!(found, lost, "{seconds}");
    }
}

#[test]
fn what_was_pinned_in_an_outage_cannot_testify_about_its_beginning() {
    let mut server = Server::with(&["a"]);
    server.fails(5);
    server.fails(50);
    let pin = InstanceId::from("p");
    let none = ids(&[]);
    server.hears(60, |heard| {
        heard.listing = Some(&none);
        heard.own = BTreeSet::from([&pin]);
        heard.alive = BTreeSet::from([&pin]);
        heard.alive_since = Some(at(30).boot);
    });
    server.check(0, "not yet");
}

#[test]
fn a_slow_listing_is_taken_in_after_quicker_answers_of_its_round() {
    let mut server = Server::with(&["a"]);
    server.hears(12, |_| {});
    let listing = ids(&["a", "b"]);
    server.hears(14, |heard| {
        heard.sent = at(11);
        heard.listing = Some(&listing);
    });
    assert_eq!(server.known.witnesses, ids(&["a", "b"]));
    assert_eq!(server.known.last_listing, Some(at(11)));
}

#[test]
fn what_is_remembered_is_put_on_the_clock_of_the_next_boot() {
    let mut server = Server::with(&["a"]);
    assert!(server.lists(3, &["new"]));
    server.lists(5, &["new"]);
    server.fails(7);
    server.known.unwatched = Some(at(1));
    server.known.vanished = Some(at(2));
    let memory = Memory { nodes: [(String::new(), server.known)].into(), site: None };
    let rebooted = Now { wall: at(100).wall, boot: BootMs(7) };
    let known = memory.rebased(rebooted).nodes.remove("").unwrap();
    let (trouble, lost) = (known.trouble.unwrap(), known.lost.unwrap());
    let marks = [known.last_good, known.lost_state, known.covers_from, known.unwatched, known.marred];
    let more = [known.last_listing, known.vanished, Some(trouble.began), Some(lost.began), lost.ended];
    let ages: Vec<u64> =
        marks.into_iter().chain(more).map(|at| rebooted.since(at.unwrap()).as_secs()).collect();
    assert_eq!(ages, [95, 97, 100, 99, 97, 95, 98, 95, 100, 97]);
}

#[test]
fn a_memory_of_an_older_version_is_read() {
    let old = r#"{"nodes":{"":{"witnesses":["a"],"last_good":null,"trouble":null,"lost_state":null}}}"#;
    let memory: Memory = serde_json::from_str(old).unwrap();
    assert_eq!(memory.nodes[""].witnesses, ids(&["a"]));
    assert_eq!(uncovered(memory.nodes.get(""), at(-1000)), None);
}

/// Nobody is left who could tell whether the server was restarted meanwhile.
#[test]
fn a_gap_whose_only_witnesses_are_targets_now_is_not_covered() {
    let mut server = Server::with(&["a"]);
    let (a, none) = (InstanceId::from("a"), ids(&[]));
    server.hears(3600, |heard| {
        heard.listing = Some(&none);
        heard.own = BTreeSet::from([&a]);
    });
    assert!(uncovered(Some(&server.known), at(0)).is_some());
    assert_eq!(uncovered(Some(&server.known), at(3600)), None);
    server.check(0, "believed");
}

#[test]
fn an_outage_whose_only_witness_is_a_target_now_is_as_one_without() {
    let mut server = Server::with(&["a"]);
    server.fails(5);
    let (a, none) = (InstanceId::from("a"), ids(&[]));
    let lost = server.hears(10, |heard| {
        heard.listing = Some(&none);
        heard.own = BTreeSet::from([&a]);
    });
    assert!(!lost);
    server.check(0, "believed");
    assert!(is_marred(Some(&server.known), at(0)));
}

#[test]
fn several_that_vanished_say_nothing_about_who_was_seen_after_that() {
    let known = NodeMemory { vanished: Some(at(5)), ..NodeMemory::default() };
    assert!(have_vanished(Some(&known), at(4)) && !have_vanished(Some(&known), at(5)));
}
