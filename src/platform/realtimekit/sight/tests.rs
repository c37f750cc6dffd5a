use super::super::answer::Page;
use super::*;
use crate::job::{JobId, Verdict};

fn session(id: &str, meeting: &str, live: bool) -> Session {
    Session {
        id: id.into(),
        meeting: Some(meeting.to_owned()),
        live,
        title: String::new(),
        started_at: None,
        participants: None,
    }
}

/// A complete walk over these, or one that saw only them of many.
fn walk(rows: &[(&str, &str)], complete: bool) -> Walk {
    let rows: Vec<Session> = rows.iter().map(|(id, meeting)| session(id, meeting, true)).collect();
    let total = Some(rows.len() + usize::from(!complete));
    Walk::begin(Page { rows, unread: 0, total }).finish("events", Now::default())
}

fn target(purpose: Purpose, pinned: Option<&str>) -> Target {
    Target {
        job: JobId(uuid::Uuid::nil()),
        meeting: "m".into(),
        purpose,
        instance: pinned.map(InstanceId::from),
        pin: None,
        end_sent: false,
        accepted: false,
        ends_clean: true,
        since: None,
    }
}

/// What a simulated app says when it is asked; how the sighting looks in the end, and what was asked for it.
struct Says {
    active: Option<&'static str>,
    record: Option<bool>,
    exists: bool,
}

#[track_caller]
fn check(target: &Target, walk: Option<&Walk>, says: &Says, expected: &str) {
    check_round(target, walk, false, says, expected);
}

#[track_caller]
fn check_round(target: &Target, walk: Option<&Walk>, many_missing: bool, says: &Says, expected: &str) {
    let round = Round { walk, many_missing };
    let (mut heard, mut asked) = (Heard::default(), Vec::new());
    let missing = || Problem::Missing("404".to_owned());
    let sighting = loop {
        match sight(target, &round, &heard) {
            Ok(sighting) => break sighting,
            Err(question) => {
                asked.push(format!("{question:?} "));
                match question {
                    Question::Active => {
                        heard.active = Some(says.active.map(|id| session(id, "m", true)).ok_or_else(missing));
                    }
                    Question::Record => {
                        let id = target.instance.as_ref().unwrap().as_str();
                        heard.record =
                            Some(says.record.map(|live| session(id, "m", live)).ok_or_else(missing));
                    }
                    Question::Meeting => heard.meeting = Some(says.exists.then_some(()).ok_or_else(missing)),
                }
            }
        }
        assert!(asked.len() <= 3, "{asked:?}");
    };
    let shown = match sighting {
        Sighting::Live(instance) => format!("live {}", instance.id),
        Sighting::Over { next: Some(next) } => format!("over, next {}", next.id),
        Sighting::Over { next: None } => "over".to_owned(),
        Sighting::NotThere(_) => "not there".to_owned(),
        Sighting::Doubtful(_) => "doubtful".to_owned(),
        other => format!("{other:?}"),
    };
    assert_eq!(format!("{}-> {shown}", asked.concat()), expected);
}

const NOBODY: Says = Says { active: None, record: None, exists: true };

#[test]
fn a_meeting_of_which_nothing_is_known() {
    use Purpose::{After, Arm, BeforeEnd, Guard};
    let (some, none, gap) =
        (walk(&[("s", "m")], true), walk(&[("x", "y")], true), walk(&[("x", "y")], false));
    let active = Says { active: Some("s"), ..NOBODY };
    check(&target(Arm, None), Some(&some), &NOBODY, "-> live s");
    check(&target(Arm, None), Some(&none), &NOBODY, "-> not there");
    check(&target(Arm, None), Some(&gap), &active, "Active -> live s");
    check(&target(Arm, None), None, &active, "Active -> live s");
    check(&target(Arm, None), None, &NOBODY, "Active -> not there");
    check(&target(Guard, Some("s0")), Some(&none), &NOBODY, "-> not there");
    check(&target(After, Some("s0")), None, &active, "Active -> live s");
    // 404 and an empty listing say the same of a wrong meeting or app.
    let nowhere = Says { exists: false, ..NOBODY };
    check(&target(BeforeEnd, None), Some(&none), &NOBODY, "Meeting -> not there");
    check(&target(BeforeEnd, None), Some(&none), &nowhere, "Meeting -> doubtful");
    check(&target(BeforeEnd, None), None, &NOBODY, "Active Meeting -> not there");
    check(&target(BeforeEnd, None), None, &nowhere, "Active Meeting -> doubtful");
}

#[test]
fn a_pinned_session_by_itself() {
    use Purpose::{BeforeEnd, Confirm};
    let (before, confirm) = (target(BeforeEnd, Some("s")), target(Confirm, Some("s")));
    let says = |active, record| Says { active, record, exists: true };
    check(&before, None, &says(Some("s"), None), "Active -> live s");
    check(&before, None, &says(None, Some(false)), "Active Record -> over");
    check(&before, None, &says(None, Some(true)), "Active Record -> live s");
    check(&before, None, &says(Some("t"), Some(false)), "Active Record -> over, next t");
    check(&before, None, &says(Some("t"), Some(true)), "Active Record -> doubtful");
    // A repeated call would hit whatever is active: a ghost alone is called at again, the next class is not.
    check(&confirm, None, &says(None, Some(true)), "Record Active -> live s");
    check(&confirm, None, &says(Some("s"), Some(true)), "Record Active -> live s");
    check(&confirm, None, &says(Some("t"), Some(true)), "Record Active -> doubtful");
    check(&confirm, None, &says(None, Some(false)), "Record Active -> over");
    check(&confirm, None, &says(Some("t"), Some(false)), "Record Active -> over, next t");
    check(&confirm, None, &says(Some("s"), Some(false)), "Record Active -> live s");
    check(&confirm, None, &says(None, None), "Record -> doubtful");
}

#[test]
fn a_pinned_session_in_a_walk() {
    use Purpose::{BeforeEnd, Confirm};
    let (before, confirm) = (target(BeforeEnd, Some("s")), target(Confirm, Some("s")));
    let says = |active, record| Says { active, record, exists: true };
    let (shown, gone, other) =
        (walk(&[("s", "m")], true), walk(&[("x", "y")], true), walk(&[("t", "m")], true));
    let two = walk(&[("s", "m"), ("t", "m")], true);
    check(&before, Some(&shown), &NOBODY, "-> live s");
    check(&before, Some(&walk(&[("s", "m")], false)), &NOBODY, "-> live s");
    check(&confirm, Some(&shown), &says(Some("t"), None), "-> live s");
    check(&confirm, Some(&two), &says(Some("s"), None), "Active -> live s");
    check(&confirm, Some(&two), &says(Some("t"), None), "Active -> doubtful");
    check(&before, Some(&two), &says(Some("s"), None), "Active -> live s");
    check(&before, Some(&two), &says(Some("t"), None), "Active -> doubtful");
    check(&confirm, Some(&gone), &says(None, Some(false)), "Record -> over");
    check(&confirm, Some(&gone), &says(None, Some(true)), "Record Active -> live s");
    check(&confirm, Some(&gone), &says(Some("t"), Some(true)), "Record Active -> doubtful");
    check(&confirm, Some(&gone), &says(None, None), "Record -> not there");
    check(&confirm, Some(&other), &says(None, Some(false)), "Record -> over, next t");
    check(&confirm, Some(&other), &says(None, None), "Record -> live t");
    // Many are missing: the walk itself is the evidence, unless it has a gap or shows another session.
    check_round(&confirm, Some(&gone), true, &NOBODY, "-> not there");
    check_round(&confirm, Some(&walk(&[], false)), true, &says(None, Some(false)), "Record Active -> over");
    check_round(&confirm, Some(&other), true, &says(None, Some(false)), "Record -> over, next t");
}

#[test]
fn of_several_that_follow_the_earliest_is_next_and_only_if_it_is_active() {
    let at = |id, started| Session { started_at: Some(UtcMs(started)), ..session(id, "m", true) };
    let walk = Walk::begin(Page { unread: 0, rows: vec![at("u", 2_000), at("t", 1_000)], total: Some(2) });
    let walk = walk.finish("events", Now::default());
    let says = |active| Says { active: Some(active), record: Some(false), exists: true };
    for purpose in [Purpose::BeforeEnd, Purpose::Confirm] {
        let pinned = target(purpose, Some("s"));
        check(&pinned, Some(&walk), &says("t"), "Record Active -> over, next t");
        check(&pinned, Some(&walk), &says("u"), "Record Active -> doubtful");
    }
    check(&target(Purpose::Guard, Some("s")), Some(&walk), &NOBODY, "-> live t");
    // Of which nothing is known: an old ghost must not keep the active one from its end.
    check(&target(Purpose::BeforeEnd, None), Some(&walk), &says("u"), "Active -> live u");
}

#[test]
fn a_session_of_another_meeting_is_not_ended_through_this_one() {
    let strange = walk(&[("s", "elsewhere")], true);
    let says = |active| Says { active, record: None, exists: true };
    let before = target(Purpose::BeforeEnd, Some("s"));
    check(&before, Some(&strange), &says(None), "Active -> doubtful");
    check(&before, Some(&strange), &says(Some("t")), "Active -> doubtful");
    // Meetings have more than one name; the active session decides.
    check(&before, Some(&strange), &says(Some("s")), "Active -> live s");
}

#[test]
fn a_walk_of_several_pages_needs_the_meetings_own_answer() {
    use Purpose::{Arm, BeforeEnd, Confirm, Guard};
    let page = |id| Page { unread: 0, total: Some(2), rows: vec![session(id, id, true)] };
    let mut walk = Walk::begin(page("x"));
    walk.add(Ok(page("y")));
    let walk = walk.finish("events", Now::default());
    assert!(walk.is_complete() && walk.pages == 2);
    let says = |active, record| Says { active, record, exists: true };
    let nowhere = Says { exists: false, ..NOBODY };
    let confirm = target(Confirm, Some("s"));
    check(&target(Arm, None), Some(&walk), &NOBODY, "-> not there");
    check(&target(Guard, Some("s")), Some(&walk), &NOBODY, "-> not there");
    check(&target(BeforeEnd, None), Some(&walk), &NOBODY, "Active Meeting -> not there");
    check(&target(BeforeEnd, None), Some(&walk), &says(Some("t"), None), "Active -> live t");
    check(&confirm, Some(&walk), &says(None, Some(false)), "Record Active -> over");
    check(&confirm, Some(&walk), &says(Some("t"), Some(false)), "Record Active -> over, next t");
    check(&confirm, Some(&walk), &says(None, None), "Record Active Meeting -> not there");
    check(&confirm, Some(&walk), &nowhere, "Record Active Meeting -> doubtful");
    check(&confirm, Some(&walk), &says(Some("s"), None), "Record Active -> live s");
    // Too many are missing for that: the first page was read again.
    check_round(&confirm, Some(&walk), true, &NOBODY, "-> not there");
    check_round(&target(BeforeEnd, None), Some(&walk), true, &NOBODY, "Meeting -> not there");
}

#[test]
fn a_live_session_without_a_meeting_forbids_to_say_that_nothing_is_listed() {
    use Purpose::{BeforeEnd, Confirm};
    let walk = |ids: &[&str]| {
        let row = |id: &&str| Session { meeting: None, ..session(id, "m", true) };
        let rows: Vec<Session> = ids.iter().map(row).collect();
        Walk::begin(Page { unread: 0, total: Some(rows.len()), rows }).finish("events", Now::default())
    };
    let (one, two) = (walk(&["s"]), walk(&["s", "t"]));
    let says = |active, record| Says { active, record, exists: true };
    check(&target(BeforeEnd, None), Some(&one), &says(Some("s"), None), "Active -> live s");
    check(&target(BeforeEnd, None), Some(&one), &says(None, None), "Active Meeting -> not there");
    check(&target(Confirm, Some("x")), Some(&one), &says(None, None), "Record -> doubtful");
    check_round(
        &target(Confirm, Some("x")),
        Some(&one),
        true,
        &says(None, Some(false)),
        "Record Active -> over",
    );
    check(
        &target(Confirm, Some("x")),
        Some(&one),
        &says(Some("s"), Some(false)),
        "Record Active -> over, next s",
    );
    check(&target(Confirm, Some("s")), Some(&one), &NOBODY, "-> live s");
    check(&target(Confirm, Some("s")), Some(&two), &says(Some("t"), None), "Active -> doubtful");
}

#[test]
fn what_is_shown_is_as_old_as_the_answer_that_showed_it() {
    let at = |boot| Now { boot: crate::job::BootMs(boot), ..Now::default() };
    let mut listing = walk(&[("s", "m")], true);
    listing.shown_at = Some(at(1));
    let heard = Heard {
        active: Some(Ok(session("t", "m", true))),
        record: Some(Ok(session("s", "m", false))),
        shown_at: Some(at(2)),
        ..Heard::default()
    };
    let shown = |pinned, walk| match sight(
        &target(Purpose::Confirm, pinned),
        &Round { walk, many_missing: false },
        &heard,
    ) {
        Ok(Sighting::Live(instance) | Sighting::Over { next: Some(instance) }) => instance.shown_at,
        other => panic!("{other:?}"),
    };
    assert_eq!(shown(Some("s"), Some(&listing)), Some(at(1)));
    assert_eq!(shown(Some("s"), None), Some(at(2)));
    assert_eq!(shown(None, None), Some(at(2)));
}

#[test]
fn what_was_not_asked_is_in_doubt() {
    let not_now = || Problem::NotNow { why: "later".to_owned(), pause: std::time::Duration::ZERO };
    let round = Round { walk: None, many_missing: false };
    let heard = Heard {
        active: Some(Err(not_now())),
        record: Some(Ok(session("s", "m", false))),
        meeting: Some(Err(not_now())),
        ..Heard::default()
    };
    for purpose in [Purpose::Arm, Purpose::BeforeEnd, Purpose::Confirm] {
        for pinned in [None, Some("s")] {
            let seen = sight(&target(purpose, pinned), &round, &heard).unwrap();
            let verdict = seen.at_its_word(pinned.map(InstanceId::from).as_ref());
            assert!(matches!(verdict, Verdict::Doubtful { .. }), "{purpose:?} {pinned:?}: {verdict:?}");
        }
    }
}

#[test]
fn a_record_of_something_else_proves_nothing() {
    let round = Round { walk: None, many_missing: false };
    let heard = Heard { record: Some(Ok(session("t", "m", false))), ..Heard::default() };
    let seen = sight(&target(Purpose::Confirm, Some("s")), &round, &heard).unwrap();
    assert!(matches!(seen, Sighting::Doubtful(_)), "{seen:?}");
}
