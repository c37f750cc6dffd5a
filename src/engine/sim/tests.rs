//! Histories by the thousand, and the proof that the judge is awake.

use std::collections::BTreeMap;
use std::time::Duration;

use super::check::Law;
use super::faults::{Ail, Endpoint};
use super::plan::{Ask, Item, Only, Plan, SimOrder, SimWhen, Site};
use super::runner::run;
use super::shrink::{breaks, tell};
use super::sim::Quirk;
use super::standing::{HOUR, Limit, MINUTE, Repeat, SECOND, SimRule, Standing, ZONES};
use super::world::{Coming, Flavour};
use crate::job::{LimitsPatch, Outcome};

/// Seeds that a survey names for each law.
const SURVEYED: usize = 12;
/// Histories of a plain `cargo test`.
const SEEDS: u64 = 4_000;

pub fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name} is {text:?}")))
}

#[track_caller]
pub fn expect_lawful(plan: &Plan) -> super::runner::Report {
    let report = run(plan, Quirk::None, false);
    if let Some(first) = report.violations.first() {
        panic!("{}", tell(plan, Quirk::None, first.law));
    }
    report
}

#[test]
fn no_history_breaks_a_law() {
    if let Some(seed) = number("SIM_SEED") {
        let plan = Plan::generate(seed);
        expect_lawful(&plan);
        return print_story(&plan);
    }
    let from = number("SIM_FROM").unwrap_or(0);
    if number("SIM_SURVEY").is_some() {
        return survey(from, number("SIM_SEEDS").unwrap_or(SEEDS));
    }
    let (mut events, mut faults, mut told, mut outcomes) = (0, 0, 0, BTreeMap::new());
    let seeds = number("SIM_SEEDS").unwrap_or(SEEDS);
    for seed in from..from + seeds {
        let report = expect_lawful(&Plan::generate(seed));
        events += report.effects;
        faults += report.faults;
        told += report.told;
        for (outcome, count) in report.outcomes {
            *outcomes.entry(outcome).or_insert(0) += count;
        }
    }
    println!("{seeds} histories, {events} events, {faults} faults, {told} warnings; outcomes {outcomes:?}");
    if seeds >= SEEDS {
        assert_eq!(outcomes.len(), Outcome::ALL.len(), "every outcome is met: {outcomes:?}");
        assert!(told > seeds, "{told} warnings");
    }
}

/// Which laws are broken how often, and by which seeds; nothing is cut down, and nothing stops at the first.
fn survey(from: u64, seeds: u64) {
    let mut broken: BTreeMap<Law, Vec<(u64, String)>> = BTreeMap::new();
    for seed in from..from + seeds {
        let mut violations = run(&Plan::generate(seed), Quirk::None, false).violations;
        violations.dedup_by_key(|violation| violation.law);
        for violation in violations {
            let known = broken.entry(violation.law).or_default();
            if known.last().is_none_or(|(last, _)| *last != seed) {
                known.push((seed, violation.what));
            }
        }
    }
    for (law, found) in &broken {
        println!("{law:?}: {} of {seeds} histories", found.len());
        found.iter().take(SURVEYED).for_each(|(seed, what)| println!("    {seed}: {what}"));
    }
    assert!(broken.is_empty(), "{} laws are broken", broken.len());
}

fn print_story(plan: &Plan) {
    for line in run(plan, Quirk::None, true).story {
        println!("{line}");
    }
}

#[test]
fn the_same_seed_gives_the_same_history() {
    for seed in 0..60 {
        let plan = Plan::generate(seed);
        let (first, second) = (run(&plan, Quirk::None, true), run(&plan, Quirk::None, true));
        assert_eq!(first.story.join("\n"), second.story.join("\n"), "seed {seed}");
    }
}

/// One meeting, one job, a hold and an extension: short, so that it can be killed at every single effect.
fn script(flavour: Flavour) -> Plan {
    let order = SimOrder {
        site: 0,
        room: 0,
        when: SimWhen::At(30_000),
        only: Only::Any,
        limits: LimitsPatch { warn: Some(vec![Duration::from_secs(18)]), ..LimitsPatch::default() },
        keyed: true,
    };
    let items = vec![
        Item::World { at: 0, site: 0, room: 0, what: Coming::Start },
        Item::Rejoin { site: 0, room: 0, after: 3_000, times: 1 },
        Item::Submit { at: 1_000, slot: 0, order },
        Item::Change { at: 12_000, slot: 0, ask: Ask::Hold(None) },
        Item::Change { at: 14_000, slot: 0, ask: Ask::Release(None) },
        Item::Change { at: 29_500, slot: 0, ask: Ask::Extend(5_000) },
    ];
    let sites = vec![Site { flavour, rooms: 1, max_concurrent: 1 }];
    Plan { seed: 7, sites, items, crash_at: None }
}

#[test]
fn a_crash_at_every_effect_breaks_no_law() {
    for flavour in [Flavour::Vendor, Flavour::Direct, Flavour::Balancer, Flavour::Scalelite] {
        let whole = expect_lawful(&script(flavour)).effects;
        assert!(whole > 40, "{whole} effects");
        for effect in 1..=whole {
            expect_lawful(&Plan { crash_at: Some(effect), ..script(flavour) });
        }
    }
}

/// A recurring end, a rule and warnings, on a server that people come back to.
fn standing_script() -> Plan {
    let (minutes, zone) = ((0..60).step_by(3).collect(), ZONES[0]);
    let repeat = Repeat {
        name: 0,
        site: 0,
        room: 0,
        minutes,
        second: 0,
        hour: None,
        weekday: None,
        zone,
        late_limit: HOUR,
        warn: vec![30 * SECOND],
    };
    let rule = SimRule {
        name: 0,
        site: 0,
        room: Some(1),
        what: Limit::MaxDuration(2 * MINUTE),
        dry_run: false,
        first_hit_delay: 0,
        every: 30 * SECOND,
    };
    let standing =
        Standing { repeats: vec![repeat], rules: vec![rule], exempt: Vec::new(), ahead: 10 * MINUTE };
    let items = vec![
        Item::World { at: 0, site: 0, room: 0, what: Coming::Start },
        Item::World { at: 0, site: 0, room: 1, what: Coming::Start },
        Item::Rejoin { site: 0, room: 0, after: 40 * SECOND, times: 9 },
        Item::Rejoin { site: 0, room: 1, after: 10 * SECOND, times: 9 },
        Item::Standing { at: 1_000, standing, read: true },
        Item::Stop { at: 4 * MINUTE, away: 10 * MINUTE },
        Item::Status { at: 16 * MINUTE },
    ];
    let sites = vec![Site { flavour: Flavour::Direct, rooms: 2, max_concurrent: 2 }];
    Plan { seed: 11, sites, items, crash_at: None }
}

#[test]
fn a_crash_at_many_effects_of_a_standing_schedule_breaks_no_law() {
    let whole = expect_lawful(&standing_script());
    assert!(whole.outcomes.get(&Outcome::Ended).is_some_and(|ended| *ended > 8), "{:?}", whole.outcomes);
    for effect in (1..=whole.effects).step_by(11) {
        expect_lawful(&Plan { crash_at: Some(effect), ..standing_script() });
    }
}

/// The simulation misbehaves in one way; the judge must say so, under this law.
#[track_caller]
fn expect_caught(quirk: Quirk, law: Law) {
    let caught = (0..400).find(|seed| breaks(&run(&Plan::generate(*seed), quirk, false), law));
    let Some(seed) = caught else { panic!("{quirk:?} is not caught under {law:?}") };
    println!("{quirk:?} is caught by seed {seed}");
    let story = tell(&Plan::generate(seed), quirk, law);
    assert!(story.contains(&format!("{} {law:?}", law as u8)), "{story}");
}

#[test]
fn a_disk_that_answers_too_early_is_caught() {
    expect_caught(Quirk::EarlyAnswers, Law::Durable);
}

#[test]
fn a_clock_that_is_fast_is_caught() {
    expect_caught(Quirk::FastClock, Law::NeverEarly);
}

#[test]
fn a_platform_that_passes_off_old_looks_is_caught() {
    expect_caught(Quirk::StaleLooks, Law::SeenFirst);
}

#[test]
fn a_claim_that_is_written_after_its_call_is_caught() {
    expect_caught(Quirk::HastyClaims, Law::ClaimedFirst);
}

#[test]
fn starts_that_are_told_too_early_are_caught() {
    expect_caught(Quirk::OldStarts, Law::NextClass);
}

#[test]
fn a_judge_that_trusts_a_balancer_is_caught() {
    expect_caught(Quirk::TrustsFronts, Law::TrulyGone);
}

#[test]
fn something_left_alone_that_nobody_is_told_of_is_caught() {
    expect_caught(Quirk::Silent, Law::LeftAlone);
}

/// The listing hangs, single looks are answered at once: the call leaves in time, unless looks take long for no reason.
#[test]
fn looks_that_are_slow_for_no_reason_are_caught() {
    let order = SimOrder {
        site: 0,
        room: 0,
        when: SimWhen::At(60_000),
        only: Only::Any,
        limits: LimitsPatch::default(),
        keyed: false,
    };
    let (from, to, part, ail) = (40_000, 90_000, Endpoint::Listing, Ail::Hangs);
    let items = vec![
        Item::World { at: 0, site: 0, room: 0, what: Coming::Start },
        Item::Submit { at: 1_000, slot: 0, order },
        Item::Part { from, to, site: 0, part, ail },
    ];
    let sites = vec![Site { flavour: Flavour::Balancer, rooms: 1, max_concurrent: 8 }];
    let plan = Plan { seed: 5, sites, items, crash_at: None };
    expect_lawful(&plan);
    assert!(breaks(&run(&plan, Quirk::SlowLooks, false), Law::CalledInTime));
}

#[test]
fn a_judge_without_proof_is_caught() {
    expect_caught(Quirk::HastyJudge, Law::NoFalseEnded);
}

#[test]
fn a_disk_that_loses_the_claims_of_warnings_is_caught() {
    expect_caught(Quirk::ForgetsClaims, Law::ToldOnce);
}

#[test]
fn a_disk_that_revives_what_is_done_is_caught() {
    expect_caught(Quirk::ReviveDone, Law::OneEnd);
}

#[test]
fn an_occurrence_that_is_lost_is_caught() {
    expect_caught(Quirk::LosesOccurrences, Law::Standing);
}

#[test]
fn an_occurrence_that_is_submitted_twice_is_caught() {
    expect_caught(Quirk::TwoZones, Law::Standing);
}

#[test]
fn everything_caught_up_with_after_a_stop_is_caught() {
    expect_caught(Quirk::HidesLate, Law::Standing);
}

#[test]
fn a_rule_that_hits_what_is_exempt_is_caught() {
    expect_caught(Quirk::NoExempt, Law::Rule);
}

#[test]
fn a_rule_that_hits_the_wrong_instance_is_caught() {
    expect_caught(Quirk::WrongRoom, Law::Rule);
}
