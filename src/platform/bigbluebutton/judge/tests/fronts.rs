//! What the word of a front is worth: trouble on the line, belief, nodes that are lost.

use super::*;

#[test]
fn trouble_on_the_line_spoils_the_word_of_a_front_unless_a_witness_mends_it() {
    for (before, after, expected) in [(&[][..], &["new"][..], "vanished"), (&["w"], &["w"], "gone")] {
        let mut watch = Watch::new(Front::Scalelite);
        watch.alive(0, before);
        watch.fails(3);
        assert_eq!(watch.denied(6, after), expected);
        assert_eq!(watch.denied(9, after), expected);
        // What is seen alive after the trouble is no longer touched by it.
        watch.alive(12, after);
        assert_eq!(watch.denied(15, after), "gone");
    }
}

#[test]
fn the_word_of_a_front_is_believed_where_the_operator_says_so_and_nothing_speaks_against_it() {
    let believed = |change: fn(&mut Watch), trouble: bool| {
        let mut watch = Watch { believe: Believe::Front, ..Watch::new(Front::Balancer) };
        watch.target = Target { end_sent: false, accepted: false, ..pinned() };
        change(&mut watch);
        watch.alive(0, &[]);
        if trouble {
            watch.fails(2);
        }
        let round = round(5, absent(true, true, false), &[("", &[])]);
        let place = Place { label: "campus", front: watch.front, believe: watch.believe };
        let judged = judge(place, &watch.memory, &round, std::slice::from_ref(&watch.target));
        match &judged.verdicts[0] {
            Verdict::Vanished { believed, .. } => *believed,
            other => panic!("{other:?}"),
        }
    };
    assert!(believed(|_| (), false));
    assert!(!believed(|watch| watch.believe = Believe::Proof, false));
    assert!(!believed(|watch| watch.target.ends_clean = false, false));
    assert!(!believed(|_| (), true));
}

#[test]
fn several_that_vanish_with_people_in_them_are_told_once_and_then_nothing_is_believed() {
    let mut watch = Watch { believe: Believe::Front, ..Watch::new(Front::Balancer) };
    watch.target = Target { end_sent: false, accepted: false, ..pinned() };
    let people = |shown: &[(&str, bool)]| -> BTreeMap<String, Vec<(InstanceId, bool)>> {
        let all = shown.iter().map(|(id, people)| (InstanceId::from(*id), *people)).collect();
        [(String::new(), all)].into()
    };
    let shown = people(&[("i", true), ("a", true), ("b", false), ("w", true)]);
    let alive = Round { shown, ..round(0, Sighting::Live(Instance::listed("i")), &[("", &["a", "b", "w"])]) };
    assert_eq!(watch.sees(&alive), "live");
    let gone = |seconds| Round {
        shown: people(&[("w", true)]),
        ..round(seconds, absent(true, true, false), &[("", &["w"])])
    };
    assert_eq!(watch.sees(&gone(5)), "vanished");
    assert_eq!(watch.sees(&gone(7)), "vanished");
    assert_eq!(watch.alarms, 1);
    let place = Place { label: "campus", front: Front::Balancer, believe: Believe::Front };
    let judged = judge(place, &watch.memory, &gone(9), std::slice::from_ref(&watch.target));
    assert!(matches!(judged.verdicts[0], Verdict::Vanished { believed: false, .. }));
    // One alone, and those that calls of ours have ended, are no gap.
    let mut quiet = Watch::new(Front::Balancer);
    let shown = people(&[("i", true), ("a", true), ("w", true)]);
    quiet.sees(&Round { shown, ..round(0, Sighting::Live(Instance::listed("i")), &[("", &["a", "w"])]) });
    assert_eq!((quiet.sees(&gone(5)), quiet.alarms), ("gone", 0));
}

#[test]
fn nothing_is_believed_over_a_time_that_the_memory_does_not_cover() {
    let mut watch = Watch { believe: Believe::Front, ..Watch::new(Front::Balancer) };
    watch.target = Target { end_sent: false, accepted: false, ..pinned() };
    let believed = |watch: &mut Watch, seconds| {
        let round = round(seconds, absent(true, true, false), &[("", &["w"])]);
        let place = Place { label: "campus", front: watch.front, believe: watch.believe };
        let judged = judge(place, &watch.memory, &round, std::slice::from_ref(&watch.target));
        watch.memory = judged.memory;
        matches!(judged.verdicts[0], Verdict::Vanished { believed: true, .. })
    };
    assert!(!believed(&mut watch, 3600), "the memory began an hour after it was last seen");
    watch.target.since = Some(at(3590));
    assert!(believed(&mut watch, 3602));
}

#[test]
fn only_what_balances_loses_a_node() {
    for (front, alarms) in [(Front::Direct, 0), (Front::PlugNmeet, 0), (Front::Scalelite, 1)] {
        let mut watch = Watch::new(front);
        let shown = |ids: &[&str]| -> BTreeMap<String, Vec<(InstanceId, bool)>> {
            [(String::new(), ids.iter().map(|id| (InstanceId::from(*id), true)).collect())].into()
        };
        let alive = round(0, Sighting::Live(Instance::listed("i")), &[("", &["a", "b", "w"])]);
        watch.sees(&Round { shown: shown(&["i", "a", "b", "w"]), ..alive });
        let later = round(5, Sighting::Live(Instance::listed("i")), &[("", &["w"])]);
        watch.sees(&Round { shown: shown(&["i", "w"]), ..later });
        assert_eq!(watch.alarms, alarms, "{front:?}");
    }
}
