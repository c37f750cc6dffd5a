use std::collections::BTreeMap;

use super::*;
use crate::job::{BootMs, JobId, MeetingId, Pin, Purpose, UtcMs};

fn at(seconds: i64) -> Now {
    Now { wall: UtcMs(1_000_000 + seconds * 1000), boot: BootMs(seconds * 1000) }
}

fn instance(id: &str) -> Instance {
    Instance {
        id: id.into(),
        started_at: None,
        start: None,
        participants: None,
        listed: true,
        node: None,
        shown_at: None,
        asked_at: None,
    }
}

/// A target whose instance `i` was pinned at second 0, listed, and ended with a clean call.
fn pinned() -> Target {
    let pin = Pin {
        instance: "i".into(),
        started_at: None,
        listed: true,
        node: None,
        site: None,
        last_live: at(0),
    };
    Target {
        job: JobId(uuid::Uuid::nil()),
        meeting: MeetingId::from("m"),
        purpose: Purpose::Confirm,
        instance: Some("i".into()),
        pin: Some(pin),
        end_sent: true,
        accepted: true,
        ends_clean: true,
        since: Some(at(0)),
    }
}

fn with_pin(change: impl FnOnce(&mut Pin)) -> Target {
    let mut target = pinned();
    change(target.pin.as_mut().unwrap());
    target
}

fn never_seen() -> Target {
    Target { instance: None, pin: None, end_sent: false, since: None, ..pinned() }
}

fn round(seconds: i64, sighting: Sighting, listings: &[(&str, &[&str])]) -> Round {
    let listings = listings
        .iter()
        .map(|(node, all)| ((*node).to_owned(), all.iter().map(|id| InstanceId::from(*id)).collect()));
    Round {
        sent: at(seconds),
        received: at(seconds),
        sightings: vec![sighting],
        listings: listings.collect(),
        trouble: BTreeMap::new(),
    }
}

fn absent(listing: bool, info: bool, node: bool) -> Sighting {
    Sighting::NotThere(Evidence { listing, info, node })
}

fn name(verdict: &Verdict) -> &'static str {
    match verdict {
        Verdict::Live(_) => "live",
        Verdict::Replaced { counts: true, .. } => "replaced, counts",
        Verdict::Replaced { counts: false, .. } => "replaced",
        Verdict::Occupied => "occupied",
        Verdict::Gone { needed: 2 } => "gone",
        Verdict::Gone { .. } => "gone, but not twice",
        Verdict::Doubtful { .. } => "doubtful",
        Verdict::Vanished { .. } => "vanished",
        Verdict::Hopeless { .. } => "hopeless",
        Verdict::Unreachable { .. } => "unreachable",
        Verdict::Misconfigured { .. } => "misconfigured",
    }
}

#[track_caller]
fn check(front: Front, target: &Target, sighting: &Sighting, expected: &str) {
    let round = round(5, sighting.clone(), &[]);
    let judged = judge("campus", front, &Memory::default(), &round, std::slice::from_ref(target));
    assert_eq!(name(&judged.verdicts[0]), expected, "{front:?} {sighting:?}");
    assert!(judged.alarms.is_empty());
}

const LISTING: (bool, bool, bool) = (true, false, false);
const INFO: (bool, bool, bool) = (false, true, false);
const BOTH: (bool, bool, bool) = (true, true, false);

#[track_caller]
fn table(target: &Target, rows: &[(Front, (bool, bool, bool), &str)]) {
    for (front, (listing, info, node), expected) in rows {
        check(*front, target, &absent(*listing, *info, *node), expected);
    }
}

#[test]
fn what_counts_for_a_pinned_instance() {
    let rows = [
        (Front::Direct, LISTING, "gone"),
        (Front::Direct, INFO, "gone"),
        (Front::Scalelite, LISTING, "gone"),
        (Front::Scalelite, INFO, "doubtful"),
        (Front::Balancer, LISTING, "gone"),
        (Front::Balancer, INFO, "doubtful"),
        (Front::Auto, LISTING, "gone"),
        (Front::Auto, INFO, "doubtful"),
    ];
    table(&pinned(), &rows);
}

#[test]
fn what_counts_where_no_listing_ever_showed_it() {
    let target = with_pin(|pin| pin.listed = false);
    let rows = [
        (Front::Direct, LISTING, "gone"),
        (Front::Direct, INFO, "gone"),
        (Front::Scalelite, LISTING, "hopeless"),
        (Front::Scalelite, INFO, "doubtful"),
        (Front::Balancer, BOTH, "hopeless"),
        (Front::Auto, LISTING, "doubtful"),
    ];
    table(&target, &rows);
    let before_the_end = Target { end_sent: false, accepted: false, ..target };
    table(&before_the_end, &[(Front::Scalelite, BOTH, "doubtful"), (Front::Balancer, BOTH, "doubtful")]);
}

#[test]
fn what_counts_after_a_failed_or_lost_end_call() {
    let target = Target { ends_clean: false, ..pinned() };
    let rows = [
        (Front::Direct, LISTING, "gone"),
        (Front::Scalelite, LISTING, "gone"),
        (Front::Balancer, LISTING, "hopeless"),
        (Front::Balancer, BOTH, "hopeless"),
        (Front::Balancer, INFO, "doubtful"),
        (Front::Auto, LISTING, "doubtful"),
    ];
    table(&target, &rows);
}

#[test]
fn what_counts_for_a_meeting_never_seen() {
    let rows = [
        (Front::Direct, LISTING, "gone"),
        (Front::Direct, INFO, "gone"),
        (Front::Scalelite, LISTING, "doubtful"),
        (Front::Scalelite, INFO, "doubtful"),
        (Front::Scalelite, BOTH, "gone"),
        (Front::Balancer, LISTING, "doubtful"),
        (Front::Balancer, BOTH, "gone"),
    ];
    table(&never_seen(), &rows);
}

#[test]
fn everything_else_passes_through() {
    let text = || "w".to_owned();
    for (sighting, expected) in [
        (Sighting::Live(instance("i")), "live"),
        (Sighting::Occupied, "occupied"),
        (Sighting::Doubtful(text()), "doubtful"),
        (Sighting::Unreachable(text()), "unreachable"),
        (Sighting::Misconfigured(text()), "misconfigured"),
    ] {
        check(Front::Direct, &pinned(), &sighting, expected);
    }
    check(Front::Balancer, &never_seen(), &Sighting::Live(instance("z")), "live");
}

#[test]
fn another_instance_counts_under_the_same_conditions() {
    let other = |listed| Sighting::Live(Instance { listed, ..instance("z") });
    let unlisted = with_pin(|pin| pin.listed = false);
    let unclean = Target { ends_clean: false, ..pinned() };
    check(Front::Direct, &pinned(), &other(false), "replaced, counts");
    check(Front::Direct, &unclean, &other(true), "replaced, counts");
    check(Front::Scalelite, &pinned(), &other(true), "replaced, counts");
    check(Front::Scalelite, &pinned(), &other(false), "replaced");
    check(Front::Scalelite, &unlisted, &other(true), "replaced");
    check(Front::Balancer, &pinned(), &other(true), "replaced, counts");
    check(Front::Balancer, &unclean, &other(true), "replaced");
    check(Front::Auto, &pinned(), &other(false), "replaced");
    let only = Target { instance: Some("i".into()), ..never_seen() };
    check(Front::Direct, &only, &other(true), "replaced, counts");
    check(Front::Balancer, &only, &other(true), "replaced");
}

#[test]
fn its_node_proves_what_the_balancer_cannot() {
    let mut target = with_pin(|pin| {
        pin.listed = false;
        pin.node = Some("n1".to_owned());
    });
    target.ends_clean = false;
    check(Front::Balancer, &target, &absent(true, false, true), "gone");
    let other = Sighting::Live(instance("z"));
    let judged = |round: &Round| {
        let all = judge("campus", Front::Balancer, &Memory::default(), round, std::slice::from_ref(&target));
        name(&all.verdicts[0])
    };
    assert_eq!(judged(&round(5, other.clone(), &[("", &[]), ("n1", &[])])), "replaced, counts");
    let mut unreachable = round(5, other, &[("", &[])]);
    unreachable.trouble.insert("n1".to_owned(), "down".to_owned());
    assert_eq!(judged(&unreachable), "replaced");
}

/// A server watched by one job.
struct Watch {
    front: Front,
    target: Target,
    memory: Memory,
    alarms: usize,
}

impl Watch {
    fn new(front: Front) -> Watch {
        Watch { front, target: pinned(), memory: Memory::default(), alarms: 0 }
    }

    fn sees(&mut self, round: &Round) -> &'static str {
        let judged = judge("campus", self.front, &self.memory, round, std::slice::from_ref(&self.target));
        self.memory = judged.memory;
        self.alarms += judged.alarms.len();
        name(&judged.verdicts[0])
    }

    fn alive(&mut self, seconds: i64, listing: &[&str]) {
        let seen = self.sees(&round(seconds, Sighting::Live(instance("i")), &[("", listing)]));
        assert_eq!(seen, "live");
        self.target.since = Some(at(seconds));
    }

    fn absent(&mut self, seconds: i64, listing: &[&str]) -> &'static str {
        self.sees(&round(seconds, absent(true, false, false), &[("", listing)]))
    }

    fn fails(&mut self, seconds: i64) {
        let mut failed = round(seconds, Sighting::Unreachable("down".to_owned()), &[]);
        failed.trouble.insert(String::new(), "down".to_owned());
        assert_eq!(self.sees(&failed), "unreachable");
    }
}

#[test]
fn an_ordinary_end_is_proven() {
    let mut watch = Watch::new(Front::Direct);
    watch.alive(0, &["w"]);
    assert_eq!(watch.absent(11, &["w"]), "gone");
    assert_eq!(watch.absent(13, &["w"]), "gone");
    assert_eq!(watch.alarms, 0);
}

#[test]
fn a_restart_during_confirmation_is_no_end() {
    let mut watch = Watch::new(Front::Direct);
    watch.alive(0, &["w", "x"]);
    watch.fails(3);
    watch.fails(60);
    assert_eq!(watch.absent(90, &[]), "doubtful");
    assert_eq!(watch.alarms, 1);
    assert_eq!(watch.absent(92, &["new"]), "hopeless");
    assert_eq!(watch.absent(94, &["new"]), "hopeless");
    assert_eq!(watch.alarms, 1);
}

#[test]
fn a_restart_that_nobody_noticed_is_no_end() {
    let mut watch = Watch::new(Front::Direct);
    watch.alive(0, &["w"]);
    assert_eq!(watch.absent(3, &[]), "doubtful");
    assert_eq!(watch.absent(5, &[]), "hopeless");
    assert_eq!(watch.alarms, 1);
}

#[test]
fn a_restart_with_the_users_back_in_a_new_instance_is_no_end() {
    let mut watch = Watch::new(Front::Direct);
    watch.alive(0, &["w"]);
    watch.fails(5);
    let back = Sighting::Live(instance("z"));
    assert_eq!(watch.sees(&round(60, back.clone(), &[("", &[])])), "replaced");
    assert_eq!(watch.sees(&round(62, back, &[("", &[])])), "replaced");
}

#[test]
fn an_outage_that_a_witness_survived_is_no_obstacle() {
    let mut watch = Watch::new(Front::Direct);
    watch.alive(0, &["w", "x"]);
    watch.fails(3);
    assert_eq!(watch.absent(60, &["x"]), "gone");
    assert_eq!(watch.absent(62, &["x"]), "gone");
}

#[test]
fn a_long_outage_without_witnesses_leaves_nothing_to_prove_with() {
    let mut watch = Watch::new(Front::Direct);
    watch.alive(0, &[]);
    watch.fails(3);
    assert_eq!(watch.absent(25, &[]), "hopeless");
    assert_eq!(watch.alarms, 0);
    let mut watch = Watch::new(Front::Direct);
    watch.alive(0, &[]);
    watch.fails(3);
    assert_eq!(watch.absent(15, &[]), "gone");
}

#[test]
fn an_outage_by_single_looks_alone_waits_for_a_listing() {
    let mut watch = Watch::new(Front::Direct);
    watch.alive(0, &["w"]);
    watch.fails(3);
    assert_eq!(watch.sees(&round(6, absent(false, true, false), &[])), "doubtful");
    assert_eq!(watch.absent(8, &["w"]), "gone");
}

#[test]
fn a_job_that_began_after_the_restart_is_not_concerned() {
    let mut watch = Watch::new(Front::Direct);
    watch.alive(0, &["w"]);
    watch.fails(5);
    assert_eq!(watch.absent(90, &[]), "doubtful");
    assert_eq!(watch.absent(92, &[]), "hopeless");
    watch.target = Target { since: None, ..never_seen() };
    assert_eq!(watch.absent(94, &[]), "gone");
    watch.target.since = Some(at(94));
    assert_eq!(watch.absent(96, &[]), "gone");
}

#[test]
fn an_emptying_server_without_a_waiting_job_raises_no_alarm() {
    let mut watch = Watch::new(Front::Direct);
    watch.target = never_seen();
    assert_eq!(watch.absent(0, &["w"]), "gone");
    watch.target.since = None;
    assert_eq!(watch.absent(2, &[]), "gone");
    assert_eq!(watch.alarms, 0);
}

#[test]
fn an_outage_of_its_node_matters_and_one_of_the_front_does_not() {
    let mut watch = Watch::new(Front::Balancer);
    watch.target = with_pin(|pin| pin.node = Some("n1".to_owned()));
    let held = Instance { node: Some("n1".to_owned()), ..instance("i") };
    let gone = || absent(true, false, true);
    assert_eq!(watch.sees(&round(0, Sighting::Live(held), &[("", &["w"]), ("n1", &["w"])])), "live");
    let mut front_down = round(3, gone(), &[("n1", &["w"])]);
    front_down.trouble.insert(String::new(), "down".to_owned());
    assert_eq!(watch.sees(&front_down), "gone");
    let mut node_down = round(5, Sighting::Unreachable("down".to_owned()), &[("", &["w"])]);
    node_down.trouble.insert("n1".to_owned(), "down".to_owned());
    assert_eq!(watch.sees(&node_down), "unreachable");
    assert_eq!(watch.sees(&round(60, gone(), &[("", &["w"]), ("n1", &[])])), "doubtful");
    assert_eq!(watch.sees(&round(62, gone(), &[("", &["w"]), ("n1", &[])])), "hopeless");
    assert_eq!(watch.alarms, 1);
}

#[test]
fn judging_again_gives_the_same() {
    let round = round(5, absent(true, false, false), &[("", &["w"])]);
    let once = judge("campus", Front::Direct, &Memory::default(), &round, &[pinned()]);
    assert_eq!(once, judge("campus", Front::Direct, &Memory::default(), &round, &[pinned()]));
    assert_eq!(once.memory.nodes[""].witnesses, [InstanceId::from("w")]);
}

#[test]
fn memory_outlives_a_reboot() {
    let mut watch = Watch::new(Front::Direct);
    watch.alive(0, &["w"]);
    watch.fails(3);
    let text = serde_json::to_string(&watch.memory).unwrap();
    let memory: Memory = serde_json::from_str(&text).unwrap();
    assert_eq!(memory, watch.memory);
    let rebooted = Now { wall: at(60).wall, boot: BootMs(7) };
    let memory = memory.rebased(rebooted);
    let outage = memory.nodes[""].trouble.clone().unwrap();
    assert_eq!(rebooted.since(outage.began), std::time::Duration::from_secs(60));
}
