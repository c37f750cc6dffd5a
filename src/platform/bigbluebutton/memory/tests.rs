use super::*;
use crate::job::UtcMs;

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
            troubled: false,
            usable: true,
            listing: None,
            own: BTreeSet::new(),
            alive: BTreeSet::new(),
            alive_since: None,
        };
        change(&mut heard);
        update(&mut self.known, &heard)
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
