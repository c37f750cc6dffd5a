//! `adjourn doctor` against a sandbox that is well, and one that is not.

use adjourn::sandbox::Fault;
use serde_json::Value;

use crate::harness::{Bed, Plan, text};

/// Runs `doctor campus`; gives its exit code and the findings as `what grade`.
fn doctor(bed: &Bed) -> (i32, Vec<String>, Value) {
    let schedule = bed.schedule();
    let args = ["doctor", "campus", "--json", "--config", schedule.to_str().unwrap()];
    let output = bed.run(&args);
    let findings: Value =
        serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", text(&output.stderr)));
    let short = |finding: &Value| {
        format!("{} {}", finding["what"].as_str().unwrap(), finding["grade"].as_str().unwrap())
    };
    let shown = findings.as_array().unwrap().iter().map(short).collect();
    (output.status.code().unwrap(), shown, findings)
}

#[test]
fn a_server_that_is_well() {
    let bed = Plan::default().lay();
    let (code, found, findings) = doctor(&bed);
    assert_eq!(
        found,
        ["name good", "connection good", "clock good", "round trip good", "credentials good"],
        "{findings:#}"
    );
    assert_eq!(code, 0);
    let said = findings.to_string();
    assert!(said.contains("BigBlueButton 3.0.19") && said.contains("NOT encrypted"), "{said}");
    assert_eq!(bed.truth().counters.of(adjourn::sandbox::Call::End), 0);
    let schedule = bed.schedule();
    let (_, lines) = bed.says(&["doctor", "--config", schedule.to_str().unwrap()]);
    assert!(lines.lines().any(|line| line.starts_with("good  campus  credentials")), "{lines}");
    for what in ["state-dir", "clock", "socket"] {
        assert!(lines.lines().any(|line| line[6..].starts_with("here") && line.contains(what)), "{lines}");
    }
}

#[test]
fn what_is_wrong_is_named_with_what_to_do() {
    let bed = Plan::default().lay();
    let wrong = Fault::ChecksumError { plain_text: false, always: true };
    bed.sandbox.set_fault(wrong.everywhere()).unwrap();
    bed.sandbox.set_fault(Fault::ClockSkew { ms: 150_000 }.everywhere()).unwrap();
    let (code, found, findings) = doctor(&bed);
    assert_eq!(code, 1);
    assert_eq!(
        found,
        ["name good", "connection good", "clock bad", "round trip good", "credentials bad"],
        "{findings:#}"
    );
    let said = findings.to_string();
    assert!(said.contains("ahead of ours") && said.contains("bbb-conf --secret"), "{said}");
    assert!(!said.contains(bed.sandbox.secret()), "{said}");
}

#[test]
fn what_cannot_be_reached_is_said_and_nothing_more_is_tried() {
    let bed = Plan::default().lay();
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = silent.local_addr().unwrap().port();
    drop(silent);
    let schedule = std::fs::read_to_string(bed.schedule()).unwrap();
    let elsewhere = schedule.replace(&bed.sandbox.address().to_string(), &format!("127.0.0.1:{port}"));
    std::fs::write(bed.schedule(), elsewhere).unwrap();
    let (code, found, findings) = doctor(&bed);
    assert_eq!((code, found), (1, vec!["name good".to_owned(), "connection bad".to_owned()]), "{findings:#}");
    let (code, said) = bed.says(&["doctor", "lab", "--config", bed.schedule().to_str().unwrap()]);
    assert_eq!(code, 2, "{said}");
    assert!(said.contains("there are: campus"), "{said}");
}
