//! Cuts a failing plan down: whatever can be left out while the same law is still broken is left out.

use super::check::Law;
use super::plan::Plan;
use super::runner::{Report, run};
use super::sim::Quirk;

/// Histories run for one shrinking.
const TRIES: usize = 600;
/// Effects of all of them: long histories are not cut down to the last.
const EFFECTS: u64 = 600_000;

pub fn shrink(plan: &Plan, quirk: Quirk, law: Law) -> Plan {
    let mut smallest = plan.clone();
    let (mut tries, mut effects) = (0, 0);
    let mut chunk = smallest.items.len().div_ceil(2).max(1);
    loop {
        let mut at = 0;
        let before = smallest.items.len();
        while at < smallest.items.len() && tries < TRIES && effects < EFFECTS {
            let mut candidate = smallest.clone();
            let end = (at + chunk).min(candidate.items.len());
            candidate.items.drain(at..end);
            tries += 1;
            let report = run(&candidate, quirk, false);
            effects += report.effects;
            if breaks(&report, law) {
                smallest = candidate;
            } else {
                at += chunk;
            }
        }
        if tries >= TRIES || effects >= EFFECTS || (chunk == 1 && smallest.items.len() == before) {
            return smallest;
        }
        chunk = (chunk / 2).max(1);
    }
}

pub fn breaks(report: &Report, law: Law) -> bool {
    report.violations.iter().any(|violation| violation.law == law)
}

/// What a person needs to understand a failure, and to see it again.
pub fn tell(plan: &Plan, quirk: Quirk, law: Law) -> String {
    let smallest = shrink(plan, quirk, law);
    let report = run(&smallest, quirk, true);
    let mut text =
        format!("seed {} breaks law {} ({law:?}); again with SIM_SEED={0}\n", plan.seed, law as u8);
    text += &format!("cut down from {} items to these:\n", plan.items.len());
    text += &smallest.sites.iter().map(|site| format!("  {site:?}\n")).collect::<String>();
    text += &smallest.items.iter().map(|item| format!("  {item:?}\n")).collect::<String>();
    text += "what happened (true time, wall clock):\n";
    text += &report.story.iter().map(|line| format!("  {line}\n")).collect::<String>();
    for violation in &report.violations {
        let at = violation.at as f64 / 1_000.0;
        text += &format!(
            "BROKEN at {at:.3} s: {} {:?}: {}\n",
            violation.law as u8, violation.law, violation.what
        );
    }
    text
}
