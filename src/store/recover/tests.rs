use super::super::journal::{Tail, Walk};
use super::*;

fn head(seq: u64) -> Head {
    Head { seq, ..Head::ORIGIN }
}

fn log(end: u64, sled: Found) -> Survey {
    let walk = Walk { head: head(end), end: 9, bytes: 9, tail: Tail::Clean };
    let checkpoint_bytes = u64::from(end > 0);
    Survey::Sound(Sound { walk, last_segment: None, sled, checkpoint_bytes })
}

/// Up to line 7, and half of a line behind it.
fn torn() -> Survey {
    let walk = Walk { head: head(7), end: 9, bytes: 9, tail: Tail::Torn(5) };
    let last_segment = Some("/s/journal/1.ndjson".into());
    Survey::Sound(Sound { walk, last_segment, sled: Found::No, checkpoint_bytes: 1 })
}

fn broken_log(reaches: u64) -> Survey {
    Survey::Damaged(Broken { why: "a line is edited".to_owned(), reaches })
}

#[test]
fn what_can_prove_itself_wins_and_where_nothing_can_nothing_opens() {
    let at = |seq| Sled::At { number: 1, head: head(seq), whole: true };
    let broken = |head| Sled::Broken { why: "torn pages".to_owned(), head };
    let without = Sled::WithoutJournal(1);
    let new_log = || log(0, Found::No);
    let cases = [
        (Sled::New, Survey::Absent, "Begin"),
        (Sled::New, new_log(), "Begin"),
        (Sled::New, log(7, Found::No), "Rebuild"),
        (Sled::New, torn(), "Refuse"),
        (Sled::New, broken_log(7), "Refuse"),
        (without.clone(), Survey::Absent, "Adopt"),
        (without.clone(), new_log(), "Adopt"),
        (without.clone(), log(7, Found::No), "Rebuild"),
        (without, broken_log(7), "Refuse"),
        (at(5), Survey::Absent, "Renew"),
        (at(5), log(7, Found::Held), "TakeIn"),
        (at(5), log(5, Found::Held), "TakeIn"),
        (at(5), log(7, Found::Refused), "Rebuild"),
        (at(5), log(7, Found::Older), "Rebuild"),
        (at(5), log(4, Found::No), "Renew"),
        (at(5), log(5, Found::No), "Renew"),
        (at(5), log(7, Found::No), "Refuse"),
        (at(5), broken_log(5), "Renew"),
        (at(5), broken_log(6), "Refuse"),
        (broken(None), log(7, Found::No), "Rebuild"),
        (broken(Some(head(7))), log(7, Found::Held), "Rebuild"),
        (broken(Some(head(8))), log(7, Found::No), "Refuse"),
        (broken(None), torn(), "Refuse"),
        (broken(Some(head(7))), torn(), "Rebuild"),
        (broken(None), Survey::Absent, "Refuse"),
        (broken(None), broken_log(7), "Refuse"),
    ];
    for (sled, survey, expected) in cases {
        let plan = format!("{:?}", decide(&sled, &survey));
        assert!(plan.starts_with(expected), "{sled:?}: {plan}, not {expected}");
    }
}
