//! The diagram in the module docs of `step`, held against the code.

use std::collections::BTreeSet;

use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::TestRunner;

use super::super::State;
use super::model_check::scenes;

const LIVES: u32 = 2_400;

type Edges = BTreeSet<(State, State)>;

/// The table under the diagram: "//! | `from` | `to`, `to` | ...".
fn documented() -> Edges {
    let rows = include_str!("../step.rs").lines().filter_map(|line| line.strip_prefix("//! | `"));
    let edges = rows.flat_map(|row| {
        let mut columns = row.split('|');
        let from = state(columns.next().expect("a state"));
        let to = columns.next().expect("states that may follow").split(',').map(state);
        to.map(move |to| (from, to)).collect::<Vec<_>>()
    });
    edges.collect()
}

#[track_caller]
fn state(name: &str) -> State {
    let name = name.trim().trim_matches('`');
    let known = State::ALL.into_iter().find(|state| state.as_str() == name);
    known.unwrap_or_else(|| panic!("no state is called {name:?}"))
}

#[test]
fn the_states_follow_each_other_as_the_diagram_says_and_in_no_other_way() {
    let mut runner = TestRunner::deterministic();
    let mut seen = Edges::new();
    for _ in 0..LIVES {
        let scene = scenes().new_tree(&mut runner).expect("a scene").current();
        seen.extend(scene.play_and_settle().edges);
    }
    let documented = documented();
    assert_eq!(
        seen.difference(&documented).collect::<Vec<_>>(),
        Vec::<&(State, State)>::new(),
        "not documented"
    );
    assert_eq!(
        documented.difference(&seen).collect::<Vec<_>>(),
        Vec::<&(State, State)>::new(),
        "never happens"
    );
}
