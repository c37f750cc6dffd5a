use std::collections::BTreeMap;

use super::*;
use crate::job::{BootMs, JobId, MeetingId, Pin, Purpose, UtcMs};
use crate::platform::{LiveMeeting, NodeMemory};

mod fronts;
mod targets;

fn at(seconds: i64) -> Now {
    Now { wall: UtcMs(1_000_000 + seconds * 1000), boot: BootMs(seconds * 1000) }
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
    Target { instance: None, pin: None, end_sent: false, accepted: false, since: None, ..pinned() }
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
        shown: BTreeMap::new(),
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

/// Of a server that showed another meeting a moment ago.
fn with_witness() -> Memory {
    let known = NodeMemory {
        witnesses: vec!["w".into()],
        last_good: Some(at(0)),
        last_listing: Some(at(0)),
        ..NodeMemory::default()
    };
    Memory { nodes: [(String::new(), known)].into(), site: None }
}

#[track_caller]
fn check(front: Front, target: &Target, sighting: &Sighting, expected: &str) {
    let round = round(5, sighting.clone(), &[("", &["w"])]);
    let judged = weigh("campus", front, &with_witness(), &round, std::slice::from_ref(target));
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
        (Front::PlugNmeet, LISTING, "doubtful"),
        (Front::PlugNmeet, INFO, "doubtful"),
        (Front::PlugNmeet, BOTH, "gone"),
        (Front::Auto, LISTING, "gone"),
        (Front::Auto, INFO, "doubtful"),
    ];
    table(&pinned(), &rows);
}

#[test]
fn what_vanishes_without_an_accepted_end_call_of_ours_is_proven_only_directly() {
    let rows = [
        (Front::Direct, LISTING, "gone"),
        (Front::Direct, INFO, "gone"),
        (Front::Scalelite, BOTH, "vanished"),
        (Front::Scalelite, INFO, "doubtful"),
        (Front::Balancer, LISTING, "vanished"),
        (Front::PlugNmeet, BOTH, "vanished"),
        (Front::PlugNmeet, LISTING, "doubtful"),
        (Front::Auto, BOTH, "doubtful"),
    ];
    table(&Target { end_sent: false, accepted: false, ..pinned() }, &rows);
    // A call that was answered as if it were gone is no accepted one.
    table(&Target { accepted: false, ..pinned() }, &rows);
}

#[test]
fn what_counts_where_no_listing_ever_showed_it() {
    let target = with_pin(|pin| pin.listed = false);
    let rows = [
        (Front::Direct, LISTING, "doubtful"),
        (Front::Direct, INFO, "gone"),
        (Front::Scalelite, LISTING, "vanished"),
        (Front::Scalelite, INFO, "doubtful"),
        (Front::Balancer, BOTH, "vanished"),
        (Front::Auto, LISTING, "doubtful"),
    ];
    table(&target, &rows);
    let before_the_end = Target { end_sent: false, accepted: false, ..target };
    table(&before_the_end, &[(Front::Scalelite, BOTH, "vanished"), (Front::Balancer, BOTH, "vanished")]);
}

#[test]
fn what_counts_after_a_failed_or_lost_end_call() {
    let target = Target { ends_clean: false, ..pinned() };
    let rows = [
        (Front::Direct, LISTING, "gone"),
        (Front::Scalelite, LISTING, "vanished"),
        (Front::Balancer, LISTING, "vanished"),
        (Front::Balancer, BOTH, "vanished"),
        (Front::Balancer, INFO, "doubtful"),
        (Front::Auto, LISTING, "doubtful"),
    ];
    table(&target, &rows);
}

#[test]
fn what_counts_for_a_meeting_never_seen() {
    let rows = [
        (Front::Direct, LISTING, "doubtful"),
        (Front::Direct, INFO, "gone"),
        (Front::Scalelite, LISTING, "vanished"),
        (Front::Scalelite, INFO, "doubtful"),
        (Front::Scalelite, BOTH, "vanished"),
        (Front::Balancer, LISTING, "vanished"),
        (Front::Balancer, BOTH, "vanished"),
    ];
    table(&never_seen(), &rows);
}

#[test]
fn a_listing_that_shows_nobody_known_is_too_little_alone() {
    for front in [Front::Direct, Front::Scalelite, Front::Balancer] {
        for shown in [&[][..], &["new"]] {
            let seen = |info| {
                let round = round(5, absent(true, info, false), &[("", shown)]);
                let judged = weigh("campus", front, &Memory::default(), &round, &[pinned()]);
                name(&judged.verdicts[0])
            };
            assert_eq!((seen(false), seen(true)), ("doubtful", "gone"), "{front:?} {shown:?}");
        }
    }
}

#[test]
fn what_was_pinned_at_another_address_cannot_be_proven_over_here() {
    let memory = Memory { site: Some("here".to_owned()), ..with_witness() };
    for (site, expected) in [(Some("there"), "hopeless"), (Some("here"), "gone"), (None, "gone")] {
        let target = with_pin(|pin| pin.site = site.map(str::to_owned));
        let judged =
            weigh("campus", Front::Direct, &memory, &round(5, absent(true, true, false), &[]), &[target]);
        assert_eq!(name(&judged.verdicts[0]), expected, "{site:?}");
    }
    let elsewhere = memory.of_site("there");
    assert_eq!((elsewhere.nodes.len(), elsewhere.site.as_deref()), (0, Some("there")));
    assert_eq!(with_witness().of_site("here").nodes, with_witness().nodes);
}

#[test]
fn everything_else_passes_through() {
    let text = || "w".to_owned();
    for (sighting, expected) in [
        (Sighting::Live(Instance::listed("i")), "live"),
        (Sighting::Occupied, "occupied"),
        (Sighting::Doubtful(text()), "doubtful"),
        (Sighting::Unreachable(text()), "unreachable"),
        (Sighting::Misconfigured(text()), "misconfigured"),
    ] {
        check(Front::Direct, &pinned(), &sighting, expected);
    }
    check(Front::Balancer, &never_seen(), &Sighting::Live(Instance::listed("z")), "live");
}

#[test]
fn another_instance_counts_under_the_same_conditions() {
    let other = |listed| Sighting::Live(Instance { listed, ..Instance::listed("z") });
    let unlisted = with_pin(|pin| pin.listed = false);
    let unclean = Target { ends_clean: false, ..pinned() };
    check(Front::Direct, &pinned(), &other(false), "replaced, counts");
    check(Front::Direct, &unclean, &other(true), "replaced, counts");
    check(Front::Scalelite, &pinned(), &other(true), "replaced, counts");
    let not_called = Target { end_sent: false, accepted: false, ..pinned() };
    check(Front::Scalelite, &not_called, &other(true), "replaced");
    check(Front::Direct, &not_called, &other(true), "replaced, counts");
    check(Front::PlugNmeet, &pinned(), &other(true), "replaced");
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
    let other = Sighting::Live(Instance::listed("z"));
    let judged = |round: &Round| {
        let all = weigh("campus", Front::Balancer, &Memory::default(), round, std::slice::from_ref(&target));
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
    believe: Believe,
    target: Target,
    memory: Memory,
    alarms: usize,
}

impl Watch {
    fn new(front: Front) -> Watch {
        Watch { front, believe: Believe::Proof, target: pinned(), memory: Memory::default(), alarms: 0 }
    }

    fn sees(&mut self, round: &Round) -> &'static str {
        let place = Place { label: "campus", front: self.front, believe: self.believe };
        let judged = judge(place, &self.memory, round, std::slice::from_ref(&self.target));
        self.memory = judged.memory;
        self.alarms += judged.alarms.len();
        name(&judged.verdicts[0])
    }

    fn alive(&mut self, seconds: i64, listing: &[&str]) {
        let seen = self.sees(&round(seconds, Sighting::Live(Instance::listed("i")), &[("", listing)]));
        assert_eq!(seen, "live");
        self.target.since = Some(at(seconds));
    }

    fn absent(&mut self, seconds: i64, listing: &[&str]) -> &'static str {
        self.sees(&round(seconds, absent(true, false, false), &[("", listing)]))
    }

    /// Listing and getMeetingInfo say so.
    fn denied(&mut self, seconds: i64, listing: &[&str]) -> &'static str {
        self.sees(&round(seconds, absent(true, true, false), &[("", listing)]))
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
    assert_eq!(watch.denied(30, &[]), "doubtful");
    assert_eq!(watch.denied(32, &[]), "hopeless");
    assert_eq!(watch.alarms, 1);
}

#[test]
fn all_may_end_together_where_no_restart_fits_between_two_listings() {
    let mut watch = Watch::new(Front::Direct);
    watch.alive(0, &["w"]);
    assert_eq!(watch.absent(3, &[]), "doubtful", "a glitch of the listing would look the same");
    assert_eq!(watch.denied(5, &[]), "gone");
    assert_eq!(watch.alarms, 0);
    // A balancer's listing is of several servers, and may be a cached one.
    let mut watch = Watch::new(Front::Scalelite);
    watch.alive(0, &["w"]);
    assert_eq!(watch.denied(3, &[]), "doubtful");
    assert_eq!(watch.denied(5, &[]), "hopeless");
}

#[test]
fn a_listing_that_flickers_loses_nothing() {
    let mut watch = Watch::new(Front::Scalelite);
    watch.alive(0, &["w"]);
    assert_eq!(watch.denied(1, &[]), "doubtful");
    assert_eq!(watch.denied(3, &[]), "hopeless");
    assert_eq!(watch.denied(5, &["w"]), "gone");
}

#[test]
fn nothing_is_proven_over_a_time_in_which_nobody_looked() {
    let mut watch = Watch::new(Front::Direct);
    watch.target = Target { end_sent: false, accepted: false, ..pinned() };
    watch.alive(0, &[]);
    assert_eq!(watch.denied(60, &[]), "hopeless");
    // Where a call of ours was accepted there is another reason for it to be gone.
    watch.target.accepted = true;
    assert_eq!(watch.denied(62, &[]), "gone");
    // A witness who was known before can tell.
    let mut watch = Watch::new(Front::Direct);
    watch.target = Target { end_sent: false, accepted: false, ..pinned() };
    watch.alive(0, &["w"]);
    assert_eq!(watch.absent(60, &["w"]), "gone");
}

#[test]
fn a_memory_that_began_later_cannot_speak_for_the_time_before() {
    let mut watch = Watch::new(Front::Direct);
    watch.target = Target { end_sent: false, accepted: false, ..pinned() };
    assert_eq!(watch.denied(3600, &["w"]), "hopeless");
    watch.target.since = Some(at(3590));
    assert_eq!(watch.denied(3602, &["w"]), "gone");
}

#[test]
fn a_sweep_makes_witnesses_and_a_lost_state_after_it_is_noticed() {
    let live = |id: &str| LiveMeeting {
        meeting: id.into(),
        instance: id.into(),
        name: String::new(),
        started_at: None,
        participants: Some(3),
        meta: BTreeMap::new(),
        meta_cut: false,
        breakout_of: None,
    };
    let place = Place { label: "campus", front: Front::Direct, believe: Believe::Proof };
    let ours = |id: &InstanceId| id.as_str() == "i";
    let mut watch = Watch::new(Front::Direct);
    watch.target = Target { end_sent: false, accepted: false, ..pinned() };
    for sweep in 0..60 {
        let listed = Listed { live: vec![live("i"), live("w")], complete: true };
        let at = at(sweep * 60);
        watch.memory = remember(place, &watch.memory, &listed, ours, at, at).memory;
    }
    assert_eq!(watch.memory.nodes[""].witnesses, [InstanceId::from("w")]);
    let mut restarted =
        Watch { memory: watch.memory.clone(), target: watch.target.clone(), ..Watch::new(Front::Direct) };
    assert_eq!(watch.absent(3600, &["w"]), "gone");
    assert_eq!(restarted.denied(3600, &["new"]), "doubtful");
    assert_eq!(restarted.denied(3602, &["new"]), "hopeless");
    // One that is not whole says nothing.
    let part = Listed { live: Vec::new(), complete: false };
    assert_eq!(remember(place, &watch.memory, &part, ours, at(3610), at(3610)).memory, watch.memory);
}

#[test]
fn what_we_called_at_is_no_witness_of_any_kind() {
    let mut watch = Watch::new(Front::Direct);
    watch.alive(0, &["w"]);
    watch.fails(3);
    watch.memory.forget_witnesses(&[InstanceId::from("w")]);
    let known = &watch.memory.nodes[""];
    assert!(
        known.witnesses.is_empty()
            && known.trouble.as_ref().is_some_and(|outage| outage.witnesses.is_empty())
    );
    assert_eq!(watch.denied(6, &[]), "gone", "it ended by our doing");
}

#[test]
fn a_restart_with_the_users_back_in_a_new_instance_is_no_end() {
    let mut watch = Watch::new(Front::Direct);
    watch.alive(0, &["w"]);
    watch.fails(5);
    let back = Sighting::Live(Instance::listed("z"));
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
    assert_eq!(watch.denied(15, &[]), "gone");
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
    assert_eq!(watch.denied(94, &[]), "gone");
    watch.target.since = Some(at(94));
    assert_eq!(watch.denied(96, &[]), "gone");
}

#[test]
fn an_emptying_server_without_a_waiting_job_raises_no_alarm() {
    let mut watch = Watch::new(Front::Direct);
    watch.target = never_seen();
    assert_eq!(watch.denied(0, &["w"]), "gone");
    watch.target.since = None;
    assert_eq!(watch.denied(2, &[]), "gone");
    assert_eq!(watch.alarms, 0);
}

#[test]
fn an_outage_of_its_node_matters_and_one_of_the_front_does_not() {
    let mut watch = Watch::new(Front::Balancer);
    watch.target = with_pin(|pin| pin.node = Some("n1".to_owned()));
    let held = Instance { node: Some("n1".to_owned()), ..Instance::listed("i") };
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
    let once = weigh("campus", Front::Direct, &Memory::default(), &round, &[pinned()]);
    assert_eq!(once, weigh("campus", Front::Direct, &Memory::default(), &round, &[pinned()]));
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
