//! `[[end]]` with `cron`.

use super::*;
use crate::schedule::Dst;

const STANDUP: &str = r#"
server = "campus"
meeting = "staff-standup"
timezone = "Europe/Berlin"
"#;

/// An entry whose own keys stand from line 11 on.
#[track_caller]
fn check_cron(keys: &str, expected: &[&str]) {
    check_end(&format!("{}{keys}", STANDUP.trim_start()), expected);
}

#[test]
fn a_recurring_entry() {
    let end = "[[end]]\nname = \"standup\"\ncron = \"0 15 10 * * Mon-Fri\"\nkeep-closed = \"1h\"\n";
    let read = settings(&format!("{CAMPUS}{end}dst = \"skip\"{STANDUP}[daemon]\nahead = \"3d\""));
    let [standup] = &read.schedule.recurring[..] else { panic!("{:?}", read.schedule) };
    assert_eq!((standup.name.as_str(), standup.meeting.as_str()), ("standup", "staff-standup"));
    assert_eq!(standup.recurrence.describe(), "0 15 10 * * Mon-Fri in Europe/Berlin");
    assert_eq!(standup.recurrence.dst(), Dst::Skip);
    assert_eq!(standup.limits.keep_closed, Duration::from_secs(3600));
    assert_eq!(read.schedule.ahead, Duration::from_secs(3 * 86_400));
    assert_eq!(read.schedule.entries, []);
    assert_eq!(settings(CAMPUS).schedule.ahead, Duration::from_secs(2 * 86_400));
}

#[test]
fn without_a_name_it_is_known_by_what_it_says() {
    let read = settings(&format!("{CAMPUS}[[end]]\ncron = \"15 10 * * *\"{STANDUP}"));
    assert_eq!(read.schedule.recurring[0].name, "campus/staff-standup@15 10 * * *");
    assert_eq!(read.schedule.recurring[0].recurrence.dst(), Dst::Wall);
    check_cron(
        "cron = \"15 10 * * *\"",
        &["6:1 note: this entry has no name: an edit of cron makes another entry of it"],
    );
}

#[test]
fn expressions() {
    let named = |cron: &str| format!("name = \"standup\"\ncron = \"{cron}\"");
    check_cron(&named("15 10 * * Mon-Fri"), &[]);
    check_cron(
        &named("15 25 * * *"),
        &["11:8 error: cron is \"15 25 * * *\", which is not a cron expression: number out of bounds"],
    );
    check_cron(&named("0 0 30 2 *"), &["11:8 error: cron is \"0 0 30 2 *\", which never comes"]);
    check_cron(
        &named("* * * * * *"),
        &["11:8 error: cron is \"* * * * * *\", which comes again within a minute"],
    );
    check_cron(
        &named("0 0 12 1 1 * 2020"),
        &["11:8 note: cron is \"0 0 12 1 1 * 2020\", which does not come any more"],
    );
}

#[test]
fn what_stands_beside_cron() {
    let cron = "name = \"standup\"\ncron = \"15 10 * * *\"\n";
    check_cron(
        &format!("{cron}at = \"2026-12-01T18:00:00Z\""),
        &["6:1 error: at and cron cannot stand in one [[end]]"],
    );
    check_cron(
        &format!("{cron}instance = \"i-1\""),
        &["12:12 error: instance cannot stand beside cron: every time it is another run that ends"],
    );
    check_cron(&format!("{cron}dst = \"wll\""), &["12:7 error: dst is \"wll\", not one of wall, skip"]);
    check_cron("at = \"2026-12-01T18:00:00\"\ndst = \"wall\"", &["11:7 error: dst counts only beside cron"]);
    check_cron(
        "at = \"2026-12-01T18:00:00\"\nexcept = \"holidays\"",
        &["11:10 error: except counts only beside cron"],
    );
    check_end(
        "name = \"standup\"\nserver = \"campus\"\nmeeting = \"math\"\ncron = \"15 10 * * *\"",
        &["6:1 error: [[end]] with cron has no timezone"],
    );
    check_end(
        "name = \"a\"\nserver = \"campus\"\nmeeting = \"math\"\ncron = \"15 10 * * *\"\ntimezone = \"Mars\"",
        &["11:12 error: \"Mars\" is not a known time zone"],
    );
}

#[test]
fn calendars_must_be_there() {
    let cron = "name = \"standup\"\ncron = \"15 10 * * *\"\n";
    check_cron(
        &format!("{cron}except = \"holidays\"\nonly = [\"term\", \"exams\"]"),
        &[
            "12:10 error: there is no calendar \"holidays\"",
            "13:9 error: there is no calendar \"term\"",
            "13:17 error: there is no calendar \"exams\"",
        ],
    );
    check_cron(
        &format!("{cron}only = [5]"),
        &["12:8 error: only must be a string or a list of strings, not an array"],
    );
}

#[test]
fn names_are_shared_with_other_entries() {
    let once = "[[end]]\nname = \"a\"\nserver = \"campus\"\nmeeting = \"m\"\nat = \"2026-12-01T18:00:00Z\"\n";
    let again = "[[end]]\nname = \"a\"\nserver = \"campus\"\nmeeting = \"m\"\ncron = \"0 9 * * *\"\ntimezone = \"UTC\"";
    check_files(
        &[("s.toml", &format!("{CAMPUS}{once}{again}"))],
        &["s.toml"],
        &["s.toml:12:8 error: the name \"a\" is taken by another entry; first at s.toml:7:8"],
    );
}

#[test]
fn how_far_ahead() {
    check_campus("[daemon]\nahead = \"59m\"", &["7:9 error: ahead is \"59m\", less than 1h"]);
    check_campus("[daemon]\nahead = \"61d\"", &["7:9 error: ahead is \"61d\", more than 60d"]);
    check_campus("[daemon]\nahead = \"60d\"", &[]);
}

#[test]
fn what_comes_again_sooner_than_its_limits_are_made_for_is_one_note() {
    let named = |cron: &str, more: &str| format!("name = \"standup\"\ncron = \"{cron}\"{more}");
    check_cron(&named("15 10 * * *", ""), &[]);
    let note = "10:8 note: \"standup\" comes again after 1h, sooner than its";
    check_cron(&named("15 * * * *", ""), &[&format!("{note} give-up-after = \"1d\"")]);
    check_cron(&named("15 * * * *", "\ngive-up-after = \"1h\""), &[]);
    let half = "10:8 note: \"standup\" comes again after 30m, sooner than its pin-before = \"1h\"";
    check_cron(&named("0,30 * * * *", "\npin-before = \"1h\""), &[half]);
}

#[test]
fn a_long_pin_time_protects_little_where_no_starts_are_told() {
    let janus = "[servers.rooms]\nplatform = \"janus\"\nurl = \"http://127.0.0.1:7188/admin\"\n\
                 admin-secret = { env = \"LOUD\" }\n";
    let note = "note: a pin-before above 10s protects little on rooms: Janus does not tell when a room began";
    check(&format!("{janus}pin-before = \"1m\"\n"), &[&format!("5:14 {note}")]);
    check(&format!("{janus}pin-before = \"10s\"\n"), &[]);
    let end = "[[end]]\nname = \"a\"\nserver = \"rooms\"\nmeeting = \"1\"\nat = \"2026-12-01T18:00:00Z\"\n";
    check(&format!("{janus}{end}pin-before = \"1m\"\n"), &[&format!("10:14 {note}")]);
}
