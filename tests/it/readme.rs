//! The console blocks of the README are run, word for word.

use adjourn::sandbox::NewMeeting;

use crate::harness::{Bed, Plan};

#[test]
fn what_the_readme_shows_is_what_happens() {
    let bed = Bed::start();
    let old = |meeting: &str, participants| NewMeeting {
        created_ago_ms: 3_600_000,
        participants,
        ..NewMeeting::new(meeting)
    };
    bed.create_meeting(NewMeeting { name: Some("Mathematics 101".to_owned()), ..old("math-101", 24) });
    bed.create_meeting(NewMeeting { name: Some("Staff meeting".to_owned()), ..old("staff", 3) });
    trycmd::TestCases::new()
        .register_bin("adjourn", std::path::Path::new(env!("CARGO_BIN_EXE_adjourn")))
        .env("ADJOURN_SOCKET", bed.path("control.sock").to_str().unwrap())
        .env("CAMPUS_SECRET", "for the check of the example")
        .env("TZ", "UTC")
        .env("COLUMNS", "120")
        .case("README.md")
        .run();
}

#[test]
fn the_example_passes_its_own_check() {
    let bed = Plan::default().lay();
    let example = concat!(env!("CARGO_MANIFEST_DIR"), "/schedule.example.toml");
    let (code, said) = bed.says(&["check", example]);
    assert_eq!(code, 0, "{said}");
    assert!(said.contains("good"), "{said}");
}

#[test]
fn the_demo_comes_out_right() {
    let bed = Plan::default().lay();
    let (code, said) = bed.says(&["demo"]);
    assert_eq!(code, 0, "{said}");
    assert!(said.contains("every outcome is the right one"), "{said}");
}
