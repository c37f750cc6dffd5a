//! `keep-closed` that reaches into the time of another entry.

use super::*;

/// Entries for one room from line 6 on, six lines each.
fn entries(given: &[(&str, &str, &str)]) -> String {
    let one = |(name, hour, keep_closed): &(&str, &str, &str)| {
        format!(
            "[[end]]\nname = \"{name}\"\nserver = \"campus\"\nmeeting = \"room\"\nat = \"2026-12-01T{hour}:00:00Z\"\n\
             keep-closed = \"{keep_closed}\"\n"
        )
    };
    format!("{CAMPUS}{}", given.iter().map(one).collect::<String>())
}

#[track_caller]
fn check_entries(given: &[(&str, &str, &str)], expected: &[&str]) {
    check_files(&[("one.toml", &entries(given))], &["one.toml"], expected);
}

#[test]
fn a_guard_that_lasts_into_the_next_class_is_remarked_on_with_both_places() {
    check_entries(
        &[("next", "12", "0s"), ("first", "10", "2h")],
        &[
            "13:8 note: keep-closed = \"2h\" of \"first\", due 2026-12-01T10:00:00.000Z, reaches into the time of \
             \"next\" at one.toml:7:8, due 2026-12-01T12:00:00.000Z: what is opened for that is ended",
        ],
    );
    check_entries(&[("next", "12", "0s"), ("first", "10", "1h 59m")], &[]);
}

#[test]
fn very_many_of_them_are_counted() {
    let names: Vec<(String, String)> = (0..22).map(|n| (format!("e{n}"), format!("{n:02}"))).collect();
    let given: Vec<(&str, &str, &str)> =
        names.iter().map(|(name, hour)| (name.as_str(), hour.as_str(), "1h")).collect();
    let loaded = load_one(&entries(&given));
    let told = told(&loaded, Path::new(""));
    assert_eq!(told.len(), 21, "{told:#?}");
    let more = "keep-closed reaches into the time of other entries 1 more times";
    assert!(told.iter().any(|line| line.contains(more)), "{told:#?}");
}
