//! Several targets of one round, and the node that held one: what speaks for whom.

use super::*;

/// The front may just have left out what it cannot ask for.
#[test]
fn while_its_node_is_in_trouble_another_instance_proves_nothing() {
    let target = with_pin(|pin| pin.node = Some("n1".to_owned()));
    let mut down = round(5, Sighting::Live(Instance::listed("z")), &[("", &["w"])]);
    let judged = |round: &Round| {
        let all = weigh("campus", Front::Balancer, &with_witness(), round, std::slice::from_ref(&target));
        name(&all.verdicts[0])
    };
    assert_eq!(judged(&down), "replaced, counts");
    down.trouble.insert("n1".to_owned(), "down".to_owned());
    assert_eq!(judged(&down), "replaced");
}

/// What jobs are about ends with them: it testifies for no other job.
#[test]
fn a_target_is_no_witness_for_another() {
    let mut other = with_pin(|pin| pin.instance = "w".into());
    other.instance = Some("w".into());
    let mut both = round(5, absent(true, false, false), &[("", &["w"])]);
    both.sightings.push(Sighting::Live(Instance::listed("w")));
    let judged = weigh("campus", Front::Direct, &with_witness(), &both, &[pinned(), other]);
    assert_eq!(name(&judged.verdicts[0]), "doubtful");
}

#[test]
fn a_witness_that_has_become_a_target_is_missed_by_nobody() {
    let mut memory = with_witness();
    memory.nodes.get_mut("").unwrap().witnesses = vec!["i".into()];
    let round = round(5, absent(true, true, false), &[("", &[])]);
    let judged = weigh("campus", Front::Scalelite, &memory, &round, &[pinned()]);
    assert_eq!((name(&judged.verdicts[0]), judged.alarms.len()), ("gone", 0));
}

#[test]
fn who_is_alive_after_an_outage_speaks_for_the_others() {
    let mut watch = Watch::new(Front::Direct);
    watch.alive(0, &[]);
    watch.fails(3);
    let mut other = with_pin(|pin| pin.instance = "j".into());
    other.instance = Some("j".into());
    let mut both = round(60, absent(true, true, false), &[("", &[])]);
    both.sightings.push(Sighting::Live(Instance::listed("j")));
    let judged = weigh("campus", Front::Direct, &watch.memory, &both, &[watch.target, other]);
    assert_eq!(name(&judged.verdicts[0]), "gone");
}
