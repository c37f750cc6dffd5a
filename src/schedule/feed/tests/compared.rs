//! 1,000 files against what `tests/fixtures/icalendar/make.py` worked out with another library.

use std::fmt::Write;

use serde::Deserialize;

use super::*;

#[derive(Deserialize)]
struct Expected {
    /// "|" between its lines.
    ics: String,
    count: usize,
    sha256: String,
    first: Option<(i64, String)>,
    last: Option<(i64, String)>,
}

#[test]
fn a_thousand_files_come_to_what_another_library_makes_of_them() {
    let all = include_str!("../../../../tests/fixtures/icalendar/expected.ndjson");
    let mut wrong = Vec::new();
    for (number, line) in all.lines().enumerate() {
        let expected: Expected = serde_json::from_str(line).unwrap();
        let text =
            format!("BEGIN:VCALENDAR\nVERSION:2.0\n{}\nEND:VCALENDAR\n", expected.ics.replace('|', "\n"));
        let found =
            ends_of(&lectures(), &Calendars::new(), &text, ("2026-11-01T00:00:00Z", "2027-11-01T00:00:00Z"));
        let mut found: Vec<(i64, String)> =
            found.entries.into_iter().map(|entry| (entry.at.0, entry.meeting.0)).collect();
        found.sort();
        let mut told = String::new();
        for (at, room) in &found {
            writeln!(told, "{at} {room}").unwrap();
        }
        let digest: String = Sha256::digest(&told).iter().map(|byte| format!("{byte:02x}")).collect();
        let ours = (found.len(), found.first(), found.last());
        if digest != expected.sha256 {
            let theirs = (expected.count, expected.first.as_ref(), expected.last.as_ref());
            wrong.push(format!("line {}: {ours:?}, not {theirs:?}", number + 1));
        }
    }
    assert_eq!(all.lines().count(), 1_000);
    assert!(wrong.is_empty(), "{} differ:\n{}", wrong.len(), wrong.join("\n"));
}
