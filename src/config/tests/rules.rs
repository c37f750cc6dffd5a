//! `[[rule]]`, `[[exempt]]`, and `[[end]]` with `max-duration`.

use jiff::civil::Time;

use super::*;
use crate::schedule::rule::{Weekdays, describe};
use crate::schedule::{Exempt, Rule, Select};

const JANUS: &str = r#"
[servers.rooms]
platform = "janus"
url = "http://127.0.0.1:7188/admin"
admin-secret = { env = "SECRET" }
"#;

/// The keys of a `[[rule]]` named `r` on campus, in lines 9 and on; it is not a dry run.
#[track_caller]
fn check_rule(keys: &str, expected: &[&str]) {
    check_campus(&format!("[[rule]]\nname = \"r\"\nserver = \"campus\"\n{keys}\ndry-run = false"), expected);
}

fn rules(text: &str) -> Vec<Rule> {
    settings(&format!("{CAMPUS}{text}")).schedule.rules.clone()
}

fn list(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|text| (*text).to_owned()).collect()
}

#[test]
fn little_given() {
    let all = rules("[[rule]]\nname = \"four-hours\"\nserver = \"campus\"\nmax-duration = \"4h\"");
    let [rule] = &all[..] else { panic!("{all:?}") };
    assert_eq!(describe(rule), "four-hours: whatever matches * on campus ends 4h after its start (dry run)");
    assert_eq!((rule.first_hit_delay, rule.every), (Duration::from_secs(600), Duration::from_secs(60)));
    assert_eq!((&rule.select, &rule.limits), (&Select::default(), &Limits::default()));
    assert_eq!(rule.weekdays, Weekdays::ALL);
}

#[test]
fn everything_given() {
    let text = r#"
        [defaults]
        prove-within = "20s"
        [[rule]]
        name = "all"
        server = "campus"
        match = ["math-*", "physics-*"]
        except-match = "*-exam"
        match-name = "*Lab*"
        match-meta = { "BBB-Origin" = "Moodle*" }
        max-duration = "4h"
        close-at = 22:30:00
        empty-for = "10m"
        alone-for = "30m"
        max-participant-minutes = 6000
        closed = "23:00-06:30"
        timezone = "Europe/Berlin"
        days = ["Mon-Fri", "Sun"]
        dry-run = false
        first-hit-delay = "0s"
        every = "10s"
        max-open = 70
        keep-closed = "1h"
        [[exempt]]
        server = "campus"
        match = "staff-*"
        [[exempt]]
        match-name = ["Exam *", "Viva *"]
        "#;
    let read = settings(&format!("{CAMPUS}{text}")).schedule;
    let [rule] = &read.rules[..] else { panic!("{:?}", read.rules) };
    assert_eq!(
        describe(rule),
        "all: whatever matches math-* or physics-* but not *-exam, is named *Lab*, has bbb-origin Moodle* on campus ends \
         4h after its start or at 22:30 Europe/Berlin or from 23:00 to 06:30 Europe/Berlin or when it is empty for 10m \
         or when one participant is alone for 30m or after 6000 participant minutes, on Mon-Fri, Sun"
    );
    assert_eq!((rule.first_hit_delay, rule.every), (Duration::ZERO, Duration::from_secs(10)));
    assert_eq!(rule.max_open, 70);
    let limits = Limits {
        prove_within: Duration::from_secs(20),
        keep_closed: Duration::from_secs(3600),
        ..Limits::default()
    };
    assert_eq!(rule.limits, limits);
    let by = |server: Option<&str>, select: Select| Exempt {
        server: server.map(ServerName::from),
        meeting: None,
        select,
    };
    let first = by(Some("campus"), Select { matches: list(&["staff-*"]), ..Select::default() });
    let second = by(None, Select { names: list(&["Exam *", "Viva *"]), ..Select::default() });
    assert_eq!(read.exempt, [first, second]);
}

#[test]
fn an_entry_with_a_length_is_a_rule_for_its_meeting() {
    let text = r#"
        [[end]]
        name = "office"
        server = "campus"
        meeting = "office*"
        max-duration = "1h"
        late-limit = "2h"
        [[end]]
        server = "campus"
        meeting = "office*"
        max-duration = "1h 30m"
        rules = false
        "#;
    let read = settings(&format!("{CAMPUS}{text}")).schedule;
    let told: Vec<String> = read.rules.iter().map(describe).collect();
    assert_eq!(
        told,
        [
            "office: office* on campus ends 1h after its start",
            "campus/office*+1h 30m: office* on campus ends 1h 30m after its start"
        ]
    );
    assert_eq!(read.rules[0].first_hit_delay, Duration::ZERO);
    assert_eq!(read.rules[0].limits.late_limit, Duration::from_secs(7200));
    let (server, meeting) = (Some(ServerName::from("campus")), Some(MeetingId::from("office*")));
    assert_eq!(read.exempt, [Exempt { server, meeting, select: Select::default() }]);
    assert_eq!(read.entries, []);
}

#[test]
fn entries_that_no_rule_hits() {
    let end = "[[end]]\nserver = \"campus\"\nmeeting = \"math\"\nat = \"2026-12-01T18:00:00Z\"\nrules = ";
    assert_eq!(settings(&format!("{CAMPUS}{end}false")).schedule.exempt.len(), 1);
    assert_eq!(settings(&format!("{CAMPUS}{end}true")).schedule.exempt, []);
}

#[test]
fn lengths_of_entries() {
    let end = |rest: &str| format!("server = \"campus\"\nmeeting = \"math\"\n{rest}");
    check_end(&end("max-duration = \"0s\""), &["9:16 error: max-duration is \"0s\", less than 1s"]);
    check_end(
        &end("max-duration = \"1h\"\nat = \"2026-12-01T18:00:00Z\""),
        &["6:1 error: at and max-duration cannot stand in one [[end]]"],
    );
    check_end(
        &end("max-duration = \"1h\"\ninstance = \"i-1\""),
        &["10:12 error: instance cannot stand beside max-duration: it counts for whatever runs there"],
    );
    check_end(
        &end("max-duration = \"1h\"\ntimezone = \"Europe/Berlin\""),
        &["10:12 note: timezone has no effect beside max-duration"],
    );
    let twice = end(
        "max-duration = \"1h\"\n[[end]]\nserver = \"campus\"\nmeeting = \"math\"\nmax-duration = \"60m\"",
    );
    check_files(
        &[("s.toml", &format!("{CAMPUS}[[end]]\n{twice}"))],
        &["s.toml"],
        &["s.toml:10:1 error: another entry ends \"math\" after the same time; first at s.toml:6:1"],
    );
}

#[test]
fn a_rule_reports_until_it_is_told_otherwise() {
    let rule =
        |rest: &str| format!("[[rule]]\nname = \"r\"\nserver = \"campus\"\nmax-duration = \"4h\"\n{rest}");
    check_campus(&rule(""), &["6:1 note: this rule only reports, it ends nothing"]);
    check_campus(&rule("dry-run = true"), &["10:11 note: this rule only reports, it ends nothing"]);
    check_campus(&rule("dry-run = false"), &[]);
}

#[test]
fn what_a_rule_needs() {
    check_campus(
        "[[rule]]\ndry-run = false",
        &[
            "6:1 error: [[rule]] has no name",
            "6:1 error: [[rule]] has no server",
            "6:1 error: [[rule]] has no condition",
        ],
    );
    check_rule("", &["6:1 error: [[rule]] has no condition"]);
    check_rule(
        "max-durations = \"4h\"",
        &["6:1 error: [[rule]] has no condition", "9:1 error: unknown key \"max-durations\" in [[rule]]"],
    );
    check_campus(
        "[[rule]]\nname = \"\"\nserver = \"library\"\nmax-duration = \"4h\"\ndry-run = false",
        &["7:8 error: the name is empty", "8:10 error: there is no server \"library\""],
    );
    check_rule("close-at = \"22:00\"", &["9:12 error: close-at is local time, but [[rule]] has no timezone"]);
    check_rule(
        "max-duration = \"1h\"\ndays = \"Mon\"",
        &["10:8 error: days is local time, but [[rule]] has no timezone"],
    );
    check_rule(
        "max-duration = \"1h\"\ntimezone = \"Europe/Berln\"",
        &["10:12 error: \"Europe/Berln\" is not a known time zone"],
    );
    check_campus("[[exempt]]", &["6:1 error: [[exempt]] says of no meeting that it is exempt"]);
    check_campus(
        "[[exempt]]\nserver = \"library\"\nmatch = \"*\"",
        &["7:10 error: there is no server \"library\""],
    );
}

#[test]
fn calendars_of_rules() {
    check_rule(
        "max-duration = \"4h\"\ntimezone = \"Europe/Berlin\"\nonly = \"term\"\nexcept = [\"holidays\", \"term\"]",
        &[
            "11:8 error: there is no calendar \"term\"",
            "12:11 error: there is no calendar \"holidays\"",
            "12:23 error: there is no calendar \"term\"",
        ],
    );
}

#[test]
fn names_are_unique_among_entries_and_rules() {
    let rule = "[[rule]]\nname = \"r\"\nserver = \"campus\"\nmax-duration = \"4h\"\ndry-run = false\n";
    let end = "[[end]]\nname = \"r\"\nserver = \"campus\"\nmeeting = \"m\"\nat = \"2026-12-01T18:00:00Z\"\n";
    for (first, second, reported, taken) in [(rule, rule, 12, 7), (end, rule, 12, 7), (rule, end, 7, 12)] {
        let told = format!(
            "s.toml:{reported}:8 error: the name \"r\" is taken by another entry; first at s.toml:{taken}:8"
        );
        check_files(&[("s.toml", &format!("{CAMPUS}{first}{second}"))], &["s.toml"], &[&told]);
    }
}

#[test]
fn values_of_rules() {
    check_rule("max-duration = \"31d\"", &["9:16 error: max-duration is \"31d\", more than 30d"]);
    check_rule("empty-for = \"soon\"", &["9:13 error: empty-for is \"soon\", which is not a duration"]);
    check_rule("alone-for = \"0s\"", &["9:13 error: alone-for is \"0s\", less than 1s"]);
    check_rule(
        "max-participant-minutes = 0",
        &["9:27 error: max-participant-minutes is 0, not between 1 and 100000000"],
    );
    check_rule(
        "max-duration = \"1h\"\nmax-open = 0",
        &["10:12 error: max-open is 0, not between 1 and 100000"],
    );
    check_rule("max-duration = \"1h\"\nevery = \"9s\"", &["10:9 error: every is \"9s\", less than 10s"]);
    check_rule("max-duration = \"1h\"\nevery = \"61m\"", &["10:9 error: every is \"61m\", more than 1h"]);
    check_rule(
        "max-duration = \"1h\"\nfirst-hit-delay = \"2d\"",
        &["10:19 error: first-hit-delay is \"2d\", more than 1d"],
    );
    check_rule(
        "max-duration = \"1h\"\nmatch = 5",
        &["10:9 error: match must be a string or a list of strings, not an integer"],
    );
    check_rule("max-duration = \"1h\"\nmatch = []", &["10:9 error: an empty list matches nothing"]);
    check_rule(
        "max-duration = \"1h\"\nmatch = [\"a\", \"\"]",
        &["10:9 error: \"\" is no glob of 1 to 256 bytes without control characters"],
    );
    check_rule(
        "max-duration = \"1h\"\nmatch-meta = { origin = 5 }",
        &["10:14 error: match-meta must be a table of strings, not a table"],
    );
    check_rule(
        "max-duration = \"1h\"\nlock = \"permanent\"",
        &["10:8 error: lock = \"permanent\" is not possible on campus"],
    );
}

#[test]
fn times_of_day() {
    let zone = "\ntimezone = \"Europe/Berlin\"";
    for close in ["22:00", "00:00", "23:59:59"] {
        check_rule(&format!("close-at = \"{close}\"{zone}"), &[]);
    }
    for close in ["24:00", "22", "7:00", "22:60", "22:00:00:00", "+1:00", "10pm"] {
        let error = format!("9:12 error: close-at is \"{close}\", which is not a time of day");
        check_rule(&format!("close-at = \"{close}\"{zone}"), &[&error]);
    }
    let hours = |text: &str| {
        let text = format!("[[rule]]\nname = \"r\"\nserver = \"campus\"\nclosed = \"{text}\"{zone}");
        rules(&text)[0].closed.unwrap()
    };
    let time = |hour| Time::constant(hour, 0, 0, 0);
    assert_eq!(hours("22:00-06:00"), (time(22), time(6)));
    assert_eq!(hours("00:00-24:00"), (time(0), time(0)));
    assert_eq!(hours("08:00 - 24:00"), (time(8), time(0)));
    check_rule(
        &format!("closed = \"22:00-22:00\"{zone}"),
        &["9:10 error: closed is \"22:00-22:00\", which is no time at all"],
    );
    for closed in ["22:00", "24:00-06:00", "22:00-", "a-b"] {
        let error = format!("9:10 error: closed is \"{closed}\", which is not a time of day to another");
        check_rule(&format!("closed = \"{closed}\"{zone}"), &[&error]);
    }
    check_rule(
        &format!("max-duration = \"1h\"\ndays = [\"Mon\", \"Tusday\"]{zone}"),
        &["10:8 error: days has \"Tusday\", which is not a day of the week, or one to another"],
    );
    check_rule(
        &format!("max-duration = \"1h\"\ndays = []{zone}"),
        &["10:8 error: days is empty: the rule would never apply"],
    );
}

#[test]
fn what_a_platform_does_not_tell() {
    let rule =
        |keys: &str| format!("{JANUS}[[rule]]\nname = \"r\"\nserver = \"rooms\"\ndry-run = false\n{keys}");
    check(&rule("empty-for = \"10m\"\nalone-for = \"10m\"\nevery = \"5m\""), &[]);
    check(
        &rule("empty-for = \"10m\"\nevery = \"6m\""),
        &[
            "11:9 error: this server does not tell one run of a meeting from the next: not looked at for more than 5m, it \
           counts as another one, and what a rule has counted begins anew",
        ],
    );
    check(
        &rule("max-duration = \"1h\"\nmatch-meta = { origin = \"x\" }"),
        &[
            "10:16 note: this server does not tell when a meeting started",
            "11:14 note: match-meta matches nothing: this server tells no metadata",
        ],
    );
    let events = r#"
[servers.events]
platform = "realtimekit"
account-id = "023e105f4ecef8ad9ca31a8372d0c353"
app-id = "8bd1d3a2-5f35-4f0b-9b4e-6d6f1d1f2a10"
token = { env = "SECRET" }
keep-closed = "0s"
[[rule]]
name = "r"
server = "events"
dry-run = false
empty-for = "10m"
"#;
    check(
        events,
        &["12:13 note: empty-for may never apply: the server does not always tell how many are inside"],
    );
}
