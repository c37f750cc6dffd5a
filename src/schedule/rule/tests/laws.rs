//! What holds for whatever rules, listings and gaps.

use proptest::prelude::*;

use super::*;

fn any_rule() -> impl Strategy<Value = Rule> {
    let duration = |max: u32| prop::option::of((1..max).prop_map(|n| n * MINUTE));
    let pattern = prop::sample::select(vec!["*", "a*", "b", "?1"]);
    let hour = prop::option::of((0i8..24).prop_map(|hour| Time::constant(hour, 0, 0, 0)));
    let name = prop::sample::select(vec!["one", "two"]);
    let times = (duration(90), duration(30), duration(30), prop::option::of(1u64..300));
    (name, pattern, times, hour.clone(), hour, 0u32..20, any::<bool>()).prop_map(
        |(name, pattern, (length, empty, alone, minutes), close, closed, delay, dry_run)| Rule {
            select: Select { matches: vec![pattern.to_owned()], ..Select::default() },
            max_duration: length,
            close_at: close,
            empty_for: empty,
            alone_for: alone,
            max_participant_minutes: minutes,
            closed: closed.map(|from| (from, Time::constant((from.hour() + 7) % 24, 0, 0, 0))),
            first_hit_delay: delay * MINUTE,
            dry_run,
            ..rule(name)
        },
    )
}

/// What one listing shows: for each of a few meetings, whether and with how many people.
fn any_listing() -> impl Strategy<Value = Vec<LiveMeeting>> {
    let people = prop::option::weighted(0.9, 0u32..3);
    let shown = prop::collection::vec(prop::option::weighted(0.9, people), 6);
    shown.prop_map(|shown| {
        let ids = ["a1", "a2", "b", "b1", "exempt", "room"];
        let seen = ids.iter().zip(shown).filter_map(|(id, people)| Some((*id, people?)));
        seen.map(|(id, people)| {
            let started = if id == "a2" { None } else { Some("05:00") };
            let breakout_of = (id == "room").then(|| "i-a1".to_owned());
            LiveMeeting { breakout_of, ..live(id, started, people) }
        })
        .collect()
    })
}

#[derive(Clone, Debug)]
struct Round {
    gap: u32,
    listing: Vec<LiveMeeting>,
    rules: Option<Vec<Rule>>,
    restart: bool,
}

fn any_round() -> impl Strategy<Value = Round> {
    let rules = prop::option::weighted(0.1, prop::collection::vec(any_rule(), 1..3));
    (1u32..8, any_listing(), rules, prop::bool::weighted(0.05))
        .prop_map(|(gap, listing, rules, restart)| Round { gap, listing, rules, restart })
}

fn unique(mut rules: Vec<Rule>) -> Vec<Rule> {
    rules.dedup_by(|a, b| a.name == b.name);
    rules
}

/// Of a key: what hit, without how often.
fn is_cause(hit: &Hit, cause: &str) -> bool {
    hit.identity.starts_with(&format!("{}/{cause}", hit.rule))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn sweeps(first in prop::collection::vec(any_rule(), 1..3), rounds in prop::collection::vec(any_round(), 1..60)) {
        let mut bed = Bed::new(&unique(first));
        let select = Select { matches: vec!["exem*".to_owned()], ..Select::default() };
        bed.exempt = vec![Exempt { server: None, meeting: None, select }];
        let mut now = Now { wall: at("06:00"), boot: BootMs(0) };
        let mut before: Vec<Hit> = Vec::new();
        for round in rounds {
            let time = round.gap * MINUTE;
            now = Now { wall: now.wall + time, boot: now.boot + time };
            let edited = round.rules.is_some();
            bed.rules = round.rules.map_or(bed.rules, unique);
            if round.restart {
                bed.watch = Watch::default();
            }
            // Within, a plan that was carried out asks for nothing more.
            bed.sweep_at(now, &round.listing);
            let hits = bed.last.hits.clone();
            for hit in &hits {
                let rule = bed.rules.iter().find(|rule| rule.name == hit.rule).unwrap();
                prop_assert!(hit.live.breakout_of.is_none(), "a breakout room: {hit:?}");
                prop_assert!(hit.live.meeting.as_str() != "exempt", "exempt: {hit:?}");
                prop_assert!(round.listing.contains(&hit.live), "not live: {hit:?}");
                let known = before.iter().find(|known| known.identity == hit.identity && known.dry_run == hit.dry_run);
                let occupied = round.listing.iter().any(|room| {
                    room.breakout_of.is_some() && hit.live.meeting.as_str() == "a1" && room.participants != Some(0)
                });
                if is_cause(hit, "empty-for") {
                    prop_assert!(hit.live.participants == Some(0) && !occupied && hit.at_most == Some(0), "{hit:?}");
                } else if is_cause(hit, "alone-for") {
                    prop_assert!(hit.live.participants == Some(1) && !occupied && hit.at_most == Some(1), "{hit:?}");
                } else {
                    prop_assert_eq!(hit.at_most, None);
                }
                if known.is_none() && !edited && !is_cause(hit, "empty-for") {
                    let known_beforehand = ["close-at", "closed", "max-duration"].into_iter().any(|of| is_cause(hit, of));
                    // What is over its time when it is first seen gets notice; what is not has its time.
                    let its_own = hit.earliest == hit.due || hit.earliest == UtcMs(i64::MIN);
                    let in_time = known_beforehand && its_own && hit.due > now.wall;
                    prop_assert!(in_time || hit.due >= now.wall + rule.first_hit_delay, "no notice: {hit:?}");
                }
                if let (Some(known), false, false) = (known, edited, round.restart) {
                    prop_assert_eq!(known.due, hit.due, "it moved by itself");
                }
            }
            let mut identities: Vec<(&str, bool)> =
                hits.iter().map(|hit| (hit.identity.as_str(), hit.dry_run)).collect();
            identities.sort_unstable();
            identities.dedup();
            prop_assert_eq!(identities.len(), hits.len(), "two hits are the same");
            check_jobs(&bed, &round.listing)?;
            before = hits;
        }
    }
}

/// An open job whose instance is live is one that a rule still wants; a job of a condition that has ceased is withdrawn.
fn check_jobs(bed: &Bed, listing: &[LiveMeeting]) -> Result<(), TestCaseError> {
    for job in bed.jobs.iter().filter(|job| !job.is_done()) {
        let Some(shown) = listing.iter().find(|live| Some(&live.instance) == job.only.as_ref()) else {
            continue;
        };
        let key = &job.key.as_ref().unwrap().key;
        let wanted = bed.last.hits.iter().any(|hit| !hit.dry_run && super::key(hit) == *key)
            || bed.last.kept.iter().any(|identity| format!("rule:{identity}") == *key);
        prop_assert!(wanted, "nobody wants {key}");
        prop_assert!(!key.contains("/empty-for=") || shown.participants == Some(0), "{key}: {shown:?}");
        prop_assert!(!key.contains("/alone-for=") || shown.participants == Some(1), "{key}: {shown:?}");
    }
    Ok(())
}
