//! `adjourn audit verify` over what an operator may find: an older copy put back, a journal set aside, no journal at all.

use crate::harness::{Bed, copy};

const VERIFY: [&str; 4] = ["audit", "verify", "--config", "schedule.toml"];

fn verify(bed: &Bed, more: &[&str]) -> (i32, String) {
    bed.says(&[&VERIFY, more].concat())
}

fn head(bed: &Bed) -> String {
    let store = &bed.json(&["status"])["store"];
    format!("{}:{}", store["sequence"], store["hash"].as_str().unwrap())
}

#[test]
fn an_older_state_directory_is_noticed_by_a_head_that_was_noted_elsewhere() {
    let mut bed = Bed::start();
    bed.end_in("math-101", "1h");
    let early = head(&bed);
    assert!(bed.says(&["status"]).1.contains(&format!("head      {early}")));
    assert_eq!(bed.stop_daemon(), Some(0));
    copy(&bed.path("state"), &bed.path("kept"));

    bed.start_daemon();
    bed.end_in("physics-7", "1h");
    let late = head(&bed);
    assert_eq!(bed.stop_daemon(), Some(0));
    for noted in [&early, &late] {
        assert!(bed.log().contains(noted.as_str()), "not in the log: {noted}\n{}", bed.log());
        let (code, said) = verify(&bed, &["--head", noted]);
        assert!(code == 0 && said.contains("sound") && said.contains(&late), "{code}: {said}");
    }

    std::fs::remove_dir_all(bed.path("state")).unwrap();
    copy(&bed.path("kept"), &bed.path("state"));
    assert_eq!(verify(&bed, &[]).0, 0, "by itself an older copy is whole");
    assert_eq!(verify(&bed, &["--head", &early]).0, 0);
    let (code, said) = verify(&bed, &["--head", &late]);
    assert!(code == 1 && said.contains("rolled back to an older copy"), "{code}: {said}");
    assert_eq!(verify(&bed, &["--head", "12"]).0, 2);
}

#[test]
fn a_journal_that_was_set_aside_stays_a_fault_and_its_own_faults_are_named() {
    let mut bed = Bed::start();
    bed.end_in("math-101", "1h");
    assert_eq!(bed.stop_daemon(), Some(0));
    let journal = bed.path("state/journal/00000000000000000001.ndjson");
    let mut edited = std::fs::read(&journal).unwrap();
    edited[400] ^= 1;
    std::fs::write(&journal, edited).unwrap();
    bed.start_daemon();
    let (code, said) = verify(&bed, &[]);
    assert!(code == 1 && said.contains("NOT whole") && said.contains("this journal was set aside"), "{said}");
    assert!(said.contains("00000000000000000001.ndjson:1: it does not fit its own hash"), "{said}");
    let (code, json) = verify(&bed, &["--json"]);
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!((code, &json["sound"], json["set_aside"].as_array().unwrap().len()), (1, &false.into(), 1));

    std::fs::rename(bed.path("state/set-aside"), bed.path("evidence")).unwrap();
    let (code, said) = verify(&bed, &[]);
    assert!(code == 0 && said.contains("sound"), "{said}");
}

#[test]
fn where_there_is_no_journal_nothing_is_called_sound() {
    let bed = Bed::start();
    bed.end_in("math-101", "1h");
    std::fs::create_dir(bed.path("empty")).unwrap();
    let state = bed.path("state");
    for (dir, hint) in [
        (bed.path("empty"), "--state-dir"),
        (bed.path("nowhere"), "--state-dir"),
        (state.join("journal"), "not journal/ itself"),
    ] {
        let (code, said) = bed.says(&["audit", "verify", "--state-dir", dir.to_str().unwrap()]);
        assert!(
            code == 78 && said.contains("there is no journal in") && said.contains(hint),
            "{code}: {said}"
        );
        assert!(!said.contains("sound"), "{said}");
    }
}
