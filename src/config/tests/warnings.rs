//! `warn` and `warn-text`.

use super::*;

const MEETING: &str = "server = \"campus\"\nmeeting = \"math-101\"\nat = \"2026-12-01T18:00:00Z\"\n";
const JANUS: &str = "[servers.rooms]\nplatform = \"janus\"\nurl = \"http://127.0.0.1:7188/admin\"\n\
    admin-secret = { env = \"LOUD\" }\n";

fn secs(marks: &[u64]) -> Vec<Duration> {
    marks.iter().copied().map(Duration::from_secs).collect()
}

#[test]
fn the_nearest_marks_count_longest_first() {
    let end = |keys: &str| format!("[[end]]\n{MEETING}{keys}\n");
    let text = format!(
        "{CAMPUS}warn = [\"1m\", \"10m\"]\n[defaults]\nwarn-text = \"ends in {{remaining}}\"\n{}{}",
        end("name = \"a\""),
        end("name = \"b\"\nwarn = []\nwarn-text = \"bye\""),
    );
    let read = settings(&text);
    let [a, b] = &read.schedule.entries[..] else { panic!("{:?}", read.schedule.entries) };
    assert_eq!(
        (&a.limits.warn, a.limits.warn_text.as_deref()),
        (&secs(&[600, 60]), Some("ends in {remaining}"))
    );
    assert_eq!((&b.limits.warn, b.limits.warn_text.as_deref()), (&secs(&[]), Some("bye")));
}

#[test]
fn marks_that_cannot_be() {
    check_end(
        &format!("{MEETING}warn = \"10m\""),
        &["10:8 error: warn must be a list of strings, not a string"],
    );
    check_end(&format!("{MEETING}warn = [10]"), &["10:9 error: warn must be a string, not an integer"]);
    check_end(
        &format!("{MEETING}warn = [\"10m\", \"29s\", \"25h\", \"x\"]"),
        &[
            "10:16 error: warn is \"29s\", less than 30s",
            "10:23 error: warn is \"25h\", more than 1d",
            "10:30 error: warn is \"x\", which is not a duration",
        ],
    );
    check_end(&format!("{MEETING}warn = [\"10m\", \"600s\"]"), &["10:8 error: warn has the mark 10m twice"]);
}

#[test]
fn texts_that_cannot_be_told() {
    check_end(
        &format!("{MEETING}warn-text = \"ends in {{remainig}}\""),
        &["10:13 error: warn-text: there is no placeholder {remainig}"],
    );
    check_end(
        &format!("{MEETING}warn-text = \"a\\tb\""),
        &["10:13 error: warn-text: it holds a control character"],
    );
    check_campus(
        &format!("warn-text = \"{}\"", "x".repeat(501)),
        &["6:13 error: warn-text: it comes to 501 characters, more than 500"],
    );
}

#[test]
fn a_text_of_the_server_must_have_room_for_the_meetings_id() {
    let long = format!("warn-text = \"{}{{meeting}}\"\n", "x".repeat(495));
    check_campus(&long, &[]);
    check_campus(
        &format!("{long}[[end]]\n{MEETING}"),
        &["9:11 error: warn-text: it comes to 503 characters, more than 500"],
    );
}

#[test]
fn a_language_is_one_of_those_that_there_are() {
    let end = |keys: &str| format!("[[end]]\n{MEETING}{keys}\n");
    let german = |text: &str| {
        settings(text).schedule.entries.clone().into_iter().map(|entry| entry.limits.warn_language)
    };
    let texts = [
        format!("{CAMPUS}[defaults]\nwarn-language = \"de\"\n{}", end("")),
        format!("{CAMPUS}warn-language = \"de\"\n[defaults]\nwarn-language = \"fr\"\n{}", end("")),
        format!("{CAMPUS}warn-language = \"fr\"\n{}", end("warn-language = \"de\"")),
    ];
    for text in texts {
        assert_eq!(german(&text).collect::<Vec<_>>(), ["de".parse().ok()], "{text}");
    }
    check_end(
        &format!("{MEETING}warn-language = \"DE\""),
        &["10:17 error: warn-language: there are no words for the language \"DE\""],
    );
    check_end(
        &format!("{MEETING}warn-text = \"{{remaining:xx}}\""),
        &["10:13 error: warn-text: there are no words for the language \"xx\""],
    );
}

#[test]
fn a_platform_that_cannot_warn_is_a_note() {
    let note = "nobody can be warned on rooms: its platform has no way to tell the people inside";
    check(&format!("{JANUS}warn = [\"10m\"]\n"), &[&format!("5:8 note: {note}")]);
    check(&format!("[defaults]\nwarn = [\"10m\"]\n{JANUS}"), &[&format!("3:10 note: {note}")]);
    let entry = "[[end]]\nserver = \"rooms\"\nmeeting = \"1234\"\nat = \"2026-12-01T18:00:00Z\"\n";
    check(&format!("{JANUS}{entry}warn = [\"10m\"]\n"), &[&format!("9:8 note: {note}")]);
    check(&format!("{JANUS}{entry}"), &[]);
    let rule = "[[rule]]\nname = \"r\"\nserver = \"rooms\"\nempty-for = \"10m\"\ndry-run = false\n";
    check(&format!("{JANUS}{rule}warn = [\"10m\"]\n"), &[&format!("10:8 note: {note}")]);
    check(&format!("{JANUS}{rule}"), &[]);
    let feed = "[[calendar-end]]\nname = \"f\"\nserver = \"rooms\"\nics = \"https://cal.example.org/f.ics\"\n\
        meeting = { from = \"LOCATION\" }\n";
    let unseen = "8:7 note: what stands behind a URL is not looked at here";
    check(&format!("{JANUS}{feed}warn = [\"10m\"]\n"), &[unseen, &format!("10:8 note: {note}")]);
    check(&format!("{JANUS}{feed}"), &[unseen]);
}

#[test]
fn two_files_may_not_both_say() {
    check_files(
        &[
            ("a.toml", "[defaults]\nwarn = [\"1m\"]\nwarn-text = \"x\"\n"),
            ("b.toml", "[defaults]\nwarn = []\nwarn-text = \"y\"\n"),
        ],
        &["a.toml", "b.toml"],
        &[
            "b.toml:2:8 error: warn is given twice; first at a.toml:2:8",
            "b.toml:3:13 error: warn-text is given twice; first at a.toml:3:13",
        ],
    );
}
