//! Several files together, and the one that we ship.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use tempfile::TempDir;

use super::{CAMPUS, NOW, campus, check_files, environment, told, write};
use crate::config::platforms::SECRET_KEYS;
use crate::config::{
    self, DEFAULT_AHEAD, DEFAULT_REFRESH, DEFAULT_RETENTION, DEFAULT_SOCKET, DEFAULT_SOCKET_MODE,
    DEFAULT_STATE_DIR, Environment, limits, load, mask,
};
use crate::job::Limits;
use crate::schedule::Dst;

const MATH: &str =
    "[[end]]\nname = \"math\"\nserver = \"campus\"\nmeeting = \"m\"\nat = \"2026-12-01T18:00:00Z\"\n";

#[test]
fn duplicates_name_both_places() {
    let nameless = MATH.replace("name = \"math\"\n", "");
    check_files(
        &[("s.toml", &format!("{CAMPUS}{MATH}{MATH}{nameless}{nameless}"))],
        &["s.toml"],
        &[
            "s.toml:12:8 error: the name \"math\" is taken by another entry; first at s.toml:7:8",
            "s.toml:20:1 error: another entry ends \"m\" at the same time; first at s.toml:16:1",
        ],
    );
    let two = "[daemon]\nretention = \"9d\"\n[defaults]\nexpect = \"any\"\nlate-limit = \"1h\"\n";
    let again = format!("{CAMPUS}{two}{MATH}");
    check_files(
        &[("schedule.toml", &again), ("schedule.d/b.toml", &again)],
        &["schedule.toml"],
        &[
            "schedule.d/b.toml:2:10 error: the server \"campus\" is configured twice; first at schedule.toml:2:10",
            "schedule.d/b.toml:7:13 error: retention is given twice; first at schedule.toml:7:13",
            "schedule.d/b.toml:9:10 error: expect is given twice; first at schedule.toml:9:10",
            "schedule.d/b.toml:10:14 error: late-limit is given twice; first at schedule.toml:10:14",
            "schedule.d/b.toml:12:8 error: the name \"math\" is taken by another entry; first at schedule.toml:12:8",
        ],
    );
}

#[test]
fn files_of_a_directory_in_name_order() {
    let named = |name: &str| MATH.replace("math", name);
    let files = [
        ("schedule.toml", CAMPUS),
        ("schedule.d/20.toml", &named("b")),
        ("schedule.d/10.toml", &named("a")),
        ("schedule.d/.30.toml", "broken"),
        ("schedule.d/40.toml~", "broken"),
        ("other.toml", "broken"),
    ];
    for paths in [&["."][..], &["schedule.toml"], &[".", "schedule.toml", "schedule.d/10.toml"]] {
        let read = check_files(&files, paths, &[]).unwrap();
        let names: Vec<&str> = read.schedule.entries.iter().map(|entry| entry.identity.as_str()).collect();
        assert_eq!(names, ["a", "b"], "{paths:?}");
    }
    // Any other file stands for itself.
    check_files(&[("x.toml", CAMPUS), ("schedule.d/10.toml", "broken")], &["x.toml"], &[]);
}

#[test]
fn files_that_cannot_be_read() {
    let missing =
        |file: &str| format!("{file}: error: cannot read {file}: No such file or directory (os error 2)");
    check_files(&[], &["no.toml"], &[&missing("no.toml")]);
    check_files(&[], &["."], &[&missing("./schedule.toml")]);
    // What cannot be read makes nothing else wrong.
    check_files(&[("x.toml", MATH)], &["no.toml", "x.toml"], &[&missing("no.toml")]);
    let directory = write(&[]);
    let path = directory.path().join("latin1.toml");
    fs::write(&path, b"a = 1\n# \xe4\n").unwrap();
    let loaded = load(&[path], &environment(), NOW);
    assert_eq!(
        told(&loaded, directory.path()),
        ["latin1.toml: error: cannot read latin1.toml: it is not UTF-8 text (line 2)"]
    );
}

/// The rule of the example only reports: the file is a beginning for real ones.
const RULE_NOTE: &str = "note: this rule only reports, it ends nothing";
const EXAMPLE: &str = include_str!("../../../schedule.example.toml");

fn without_places(told: &[String]) -> Vec<&str> {
    told.iter().map(|line| line.split_once(' ').unwrap().1).collect()
}

#[test]
fn the_example_is_valid() {
    let directory = write(&[("schedule.toml", EXAMPLE)]);
    let env = Environment::fixed([("CAMPUS_SECRET", "x")]);
    let loaded = load(&[directory.path().to_owned()], &env, NOW);
    assert_eq!(without_places(&told(&loaded, directory.path())), [RULE_NOTE]);
    let schedule = loaded.settings.unwrap().schedule;
    assert_eq!((schedule.entries.len(), schedule.recurring.len()), (2, 1));
    assert_eq!((schedule.rules.len(), schedule.exempt.len()), (2, 2));
}

/// A directory with this schedule, and the files that the example names.
fn laid_out(text: &str) -> TempDir {
    let authority = rcgen::generate_simple_self_signed(["bbb.example.org".to_owned()]).unwrap();
    let directory = write(&[("node1", "x"), ("proxy", "user:password"), ("ca.pem", &authority.cert.pem())]);
    let here = |name: &str| directory.path().join(name).display().to_string();
    let text = text.replace("/etc/adjourn/campus-ca.pem", &here("ca.pem"));
    let text = text.replace("/etc/adjourn/proxy", &here("proxy"));
    fs::write(here("schedule.toml"), text).unwrap();
    fs::set_permissions(here("proxy"), fs::Permissions::from_mode(0o600)).unwrap();
    directory
}

/// What stands in its comments is valid too, every key is there, and the defaults that it names are the defaults.
#[test]
fn the_example_is_complete() {
    let hidden = || SECRET_KEYS.into_iter().chain(["api-key", "ics"]);
    let is_key = |key: &str| mask::is_shown(key) || hidden().any(|hidden| hidden == key);
    let is_toml = |line: &&str| {
        (line.starts_with("[[") || line.starts_with("[servers.") || line.starts_with("[calendars."))
            && line.ends_with(']')
            || line.split_once('=').is_some_and(|(key, _)| is_key(key.trim()))
    };
    let lines: Vec<&str> =
        EXAMPLE.lines().map(|line| line.strip_prefix("# ").filter(is_toml).unwrap_or(line)).collect();
    // That there is no such group here is a note of its own.
    let text = lines.join("\n").replace("group = \"adjourn\"", "group = \"0\"");
    let directory = laid_out(&text);
    let credentials = directory.path().display().to_string();
    let env = Environment::fixed([
        ("CAMPUS_SECRET", "x"),
        ("CREDENTIALS_DIRECTORY", &credentials),
        ("JANUS_ADMIN_SECRET", "x"),
        ("JANUS_ROOM_SECRET", "x"),
        ("VIDEOSDK_SECRET", "x"),
        ("VIDEOSDK_TOKEN", "x"),
        ("REALTIMEKIT_TOKEN", "x"),
        ("DYTE_API_KEY", "x"),
        ("LECTURES_URL", "https://calendar.example.org/lectures.ics"),
    ]);
    let loaded = load(&[directory.path().to_owned()], &env, NOW);
    let rejoin = |server| format!("note: whoever comes back after an end is in a new session on {server}");
    let rejoins = ["tutoring", "archive", "events", "dyte"].map(rejoin);
    let with_rejoins = |others: &[&str]| -> Vec<String> {
        rejoins.iter().cloned().chain(others.iter().map(|other| (*other).to_owned())).collect()
    };
    assert_eq!(without_places(&told(&loaded, directory.path())), with_rejoins(&[RULE_NOTE]));
    let looked = config::check(&[directory.path().to_owned()], &env, NOW);
    let told = told(&looked, directory.path());
    let unseen = "note: what stands behind a URL is not looked at here";
    assert_eq!(without_places(&told), with_rejoins(&[unseen, RULE_NOTE]));
    let read = loaded.settings.unwrap();
    assert_eq!(campus(&read).nodes.len(), 1);
    assert_eq!(
        read.schedule.entries[0].limits,
        // The one that has no default that could be written.
        Limits {
            prove_within: Duration::from_secs(1800),
            max_extension: Some(Duration::from_secs(3600)),
            ..Limits::default()
        }
    );
    assert_eq!(
        (read.schedule.ahead, read.schedule.recurring[0].recurrence.dst()),
        (DEFAULT_AHEAD, Dst::Wall)
    );
    assert_eq!((read.retention, read.socket_mode), (DEFAULT_RETENTION, DEFAULT_SOCKET_MODE));
    assert_eq!(
        (read.state_dir.to_str(), read.socket.to_str()),
        (Some(DEFAULT_STATE_DIR), Some(DEFAULT_SOCKET))
    );
    assert_eq!(read.servers.len(), 6);
    assert_eq!((read.schedule.calendars.len(), read.schedule.calendar_ends.len()), (3, 1));
    assert_eq!(read.schedule.refresh, DEFAULT_REFRESH);
    for key in mask::SHOWN.into_iter().chain(hidden()).chain(limits::ALL.map(|bound| bound.key)) {
        assert!(lines.iter().any(|line| line.contains(&format!("{key} "))), "{key} is missing");
    }
}
