//! Every problem that a configuration can have, told in one line each: `LINE:COLUMN severity: message`.

mod calendars;
mod files;
mod network;
mod overlap;
mod realtimekit;
mod recurring;
mod rules;
mod secrets;
mod videosdk;
mod warnings;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use secrecy::ExposeSecret;
use tempfile::TempDir;

use super::settings::PlatformSettings;
use super::*;
use crate::job::{Expect, Limits, MeetingId, ServerName};
use crate::platform::bigbluebutton::{self, Algorithm, Front};

/// 2026-11-01T00:00:00Z
const NOW: UtcMs = UtcMs(1_793_491_200_000);
const CAMPUS: &str = r#"
[servers.campus]
platform = "bigbluebutton"
url = "https://h/bigbluebutton/"
secret = { env = "SECRET" }
"#;

fn environment() -> Environment {
    Environment::fixed([("SECRET", "hunter2\n"), ("EMPTY", "\n"), ("LINES", "a\nb"), ("LOUD", "hunter3")])
}

fn write(files: &[(&str, &str)]) -> TempDir {
    let directory = TempDir::new().unwrap();
    for (name, text) in files {
        let path = directory.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    directory
}

fn load_one(text: &str) -> Loaded {
    let directory = write(&[("one.toml", text)]);
    super::check(&[directory.path().join("one.toml")], &environment(), NOW)
}

fn told(loaded: &Loaded, directory: &Path) -> Vec<String> {
    let prefix = directory.join("").display().to_string();
    let tell = |item: Item| {
        let file = item.file.filter(|file| !file.ends_with("/one.toml")).map(|file| file + ":");
        let place = match (item.line, item.column) {
            (Some(line), Some(column)) => format!("{}{line}:{column} ", file.unwrap_or_default()),
            _ => file.map_or_else(String::new, |file| file + " "),
        };
        let severity = if item.severity == Severity::Error { "error" } else { "note" };
        let line = format!("{place}{severity}: {}", item.message);
        if prefix.is_empty() { line } else { line.replace(&prefix, "") }
    };
    loaded.diagnostics.items().into_iter().map(tell).collect()
}

#[track_caller]
fn check(text: &str, expected: &[&str]) {
    let loaded = load_one(text);
    assert_eq!(told(&loaded, Path::new("")), expected);
    assert_eq!(loaded.settings.is_some(), loaded.diagnostics.errors() == 0);
    let shown = loaded.diagnostics.render(false, 100);
    assert!(!shown.contains("hunter"), "a secret is shown:\n{shown}");
}

/// With a server `campus` in lines 2 to 5.
#[track_caller]
fn check_campus(text: &str, expected: &[&str]) {
    check(&format!("{CAMPUS}{text}"), expected);
}

/// The keys of an `[[end]]`, in lines 7 and on.
#[track_caller]
fn check_end(keys: &str, expected: &[&str]) {
    check_campus(&format!("[[end]]\n{keys}"), expected);
}

#[track_caller]
fn check_files(files: &[(&str, &str)], paths: &[&str], expected: &[&str]) -> Option<Settings> {
    let directory = write(files);
    let paths: Vec<PathBuf> = paths.iter().map(|path| directory.path().join(path)).collect();
    let loaded = load(&paths, &environment(), NOW);
    assert_eq!(told(&loaded, directory.path()), expected);
    loaded.settings
}

fn settings(text: &str) -> Settings {
    let loaded = load_one(text);
    loaded.settings.unwrap_or_else(|| panic!("{}", loaded.diagnostics.render(false, 100)))
}

fn campus(settings: &Settings) -> &bigbluebutton::Settings {
    match &settings.servers[&ServerName::from("campus")].platform {
        PlatformSettings::BigBlueButton(campus) => campus,
        other => panic!("{other:?}"),
    }
}

#[test]
fn nothing_given_means_the_defaults() {
    let read = settings(CAMPUS);
    assert_eq!(read.state_dir, Path::new("/var/lib/adjourn"));
    assert_eq!(read.retention, Duration::from_secs(90 * 86_400));
    assert_eq!(read.socket, Path::new("/run/adjourn/control.sock"));
    assert_eq!((read.socket_mode, &read.socket_group), (0o660, &None));
    assert_eq!(read.schedule.entries, []);
    let server = &read.servers[&ServerName::from("campus")];
    assert_eq!((server.max_concurrent, &server.limits), (16, &Limits::default()));
    let campus = campus(&read);
    assert_eq!(campus.url.as_str(), "https://h/bigbluebutton/api/");
    assert_eq!(campus.secret.expose_secret(), "hunter2");
    assert_eq!((campus.checksum, campus.front, campus.instance_ids), (Algorithm::Sha256, Front::Auto, None));
    assert!(campus.nodes.is_empty());
}

#[test]
fn everything_given() {
    let read = settings(
        r#"
        [daemon]
        state-dir = "/s"
        retention = "7d"
        [control]
        socket = "/r/c.sock"
        mode = "0600"
        group = "lecturers"
        [defaults]
        keep-closed = "1h"
        [servers.campus]
        platform = "bigbluebutton"
        url = "http://127.0.0.1:8090/bigbluebutton/api"
        secret.env = "SECRET"
        checksum = "sha512"
        front = "balancer"
        instance-ids = true
        max-concurrent = 256
        prove-within = "20s"
        expect = "live"
        [[servers.campus.nodes]]
        url = "http://127.0.0.1:8091/a/api"
        secret = { env = "LOUD" }
        [[servers.campus.nodes]]
        url = "http://127.0.0.1:8091/b/api"
        secret = { env = "SECRET" }
        checksum = "sha1"
        [[end]]
        name = "math"
        server = "campus"
        meeting = "math-101"
        instance = "abc-1"
        at = "2026-12-01T18:00:00+01:00"
        prove-within = "30s"
        late-limit = "0s"
        "#,
    );
    assert_eq!((read.state_dir.as_path(), read.socket.as_path()), (Path::new("/s"), Path::new("/r/c.sock")));
    assert_eq!((read.socket_mode, read.socket_group.as_deref()), (0o600, Some("lecturers")));
    let server = &read.servers[&ServerName::from("campus")];
    let from_defaults = Limits { keep_closed: Duration::from_secs(3600), ..Limits::default() };
    let limits = Limits { prove_within: Duration::from_secs(20), expect: Expect::Live, ..from_defaults };
    assert_eq!((&server.limits, server.max_concurrent), (&limits, 256));
    let campus = campus(&read);
    assert_eq!((campus.checksum, campus.front), (Algorithm::Sha512, Front::Balancer));
    assert_eq!(campus.instance_ids, Some(true));
    let nodes: Vec<_> = campus.nodes.iter().map(|n| (n.name.as_str(), n.url.path(), n.checksum)).collect();
    let first = ("127.0.0.1:8091", "/a/api/", Algorithm::Sha512);
    assert_eq!(nodes, [first, ("127.0.0.1:8091/b/api/", "/b/api/", Algorithm::Sha1)]);
    assert_eq!(campus.nodes[0].secret.expose_secret(), "hunter3");
    let [entry] = &read.schedule.entries[..] else { panic!("{:?}", read.schedule.entries) };
    assert_eq!(
        (entry.identity.as_str(), entry.at.to_string().as_str()),
        ("math", "2026-12-01T17:00:00.000Z")
    );
    assert_eq!(entry.instance.as_ref().map(crate::job::InstanceId::as_str), Some("abc-1"));
    let own = Limits { prove_within: Duration::from_secs(30), late_limit: Duration::ZERO, ..limits };
    assert_eq!(entry.limits, own);
}

#[test]
fn an_entry_without_a_name_is_known_by_what_it_says() {
    let end = "[[end]]\nserver = \"campus\"\nmeeting = \"a b\"\nat = 2026-12-01T18:00:00\ntimezone = \"Europe/Berlin\"";
    let read = settings(&format!("{CAMPUS}{end}"));
    assert_eq!(read.schedule.entries[0].identity, "campus/a b@2026-12-01T17:00:00.000Z");
    assert_eq!(read.schedule.entries[0].meeting, MeetingId::from("a b"));
}

#[test]
fn typos_are_unknown_keys() {
    check_campus("[daemn]\n", &["6:2 error: unknown key \"daemn\" in the file"]);
    check_campus("[daemon]\nretension = \"9d\"\n", &["7:1 error: unknown key \"retension\" in [daemon]"]);
    check_campus("shecksum = \"sha1\"", &["6:1 error: unknown key \"shecksum\" in [servers.campus]"]);
    check_campus("[defaults]\nwarning = []", &["7:1 error: unknown key \"warning\" in [defaults]"]);
    check_campus("[[rules]]\nname = \"x\"", &["6:3 error: unknown key \"rules\" in the file"]);
    check_end(
        "server = \"campus\"\nmeeting = \"math\"\nat = \"2026-12-01T18:00:00Z\"\nkron = \"0 0 * * *\"",
        &["10:1 error: unknown key \"kron\" in [[end]]"],
    );
    check_campus(
        "[[servers.campus.nodes]]\nurl = \"https://n/api\"\nsecret = { env = \"SECRET\" }\nfront = \"direct\"",
        &["9:1 error: unknown key \"front\" in [[servers.campus.nodes]]"],
    );
}

#[test]
fn hints_name_what_was_meant() {
    let hint = |text: &str| load_one(text).diagnostics.items().pop().and_then(|item| item.hint);
    let of = |text: &str| Some(text.to_owned());
    assert_eq!(hint("[daemon]\nretension = 1"), of("did you mean \"retention\"?"));
    assert_eq!(hint("[daemon]\nwarn = 1"), of("known here: state-dir, retention, ahead, refresh"));
    assert_eq!(hint("[servers.x]\nplatform = \"bigbluebuton\""), of("did you mean \"bigbluebutton\"?"));
    let end = "[[end]]\nname = \"x\"\nmeeting = \"math\"\nat = \"2026-12-01T18:00:00Z\"\nserver = ";
    assert_eq!(hint(&format!("{CAMPUS}{end}\"campsu\"")), of("did you mean \"campus\"?"));
    assert_eq!(hint(&format!("{end}\"campus\"")), of("add [servers.campus]"));
}

#[test]
fn wrong_types() {
    check_campus("[daemon]\nretention = 90", &["7:13 error: retention must be a string, not an integer"]);
    check_campus("max-concurrent = \"8\"", &["6:18 error: max-concurrent must be an integer, not a string"]);
    check_campus("instance-ids = 1", &["6:16 error: instance-ids must be true or false, not an integer"]);
    check_campus("nodes = true", &["6:9 error: nodes must be a list of tables, not a boolean"]);
    check_campus("nodes = [1]", &["6:10 error: nodes must be a table, not an integer"]);
    check_campus("[end]\nserver = \"campus\"", &["6:1 error: end must be a list of tables, not a table"]);
    check_campus("[daemon]\nretention = '''1d\n2d'''", &["7:13 error: retention must be on one line"]);
    check_campus("[servers.campus]", &["6:10 error: this is not TOML: duplicate key"]);
    check("servers.campus = 5", &["1:9 error: servers.campus must be a table, not an integer"]);
}

#[test]
fn everything_is_reported_in_one_run() {
    check(
        r#"[daemon]
retention = "forever"
state-dir = 5
color = "blue"
[control]
mode = "999"
[servers.campus]
platform = "bigbluebutton"
url = "https://h"
secret = { env = "NONE" }
[[end]]
meeting = ""
server = "campus"
at = "10m"
late-limit = "1000d"
"#,
        &[
            "2:13 error: retention is \"forever\", which is not a duration",
            "3:13 error: state-dir must be a string, not an integer",
            "4:1 error: unknown key \"color\" in [daemon]",
            "6:8 error: mode is \"999\", not an octal file mode",
            "9:7 error: url has the path \"/\", which is not the base of a BigBlueButton API",
            "10:10 error: the environment variable NONE is not set",
            "12:11 error: the meeting id is empty",
            "14:6 error: \"10m\" is a relative time",
            "15:14 error: late-limit is \"1000d\", more than 30d",
        ],
    );
}

#[test]
fn broken_syntax_hides_no_other_problem_and_invents_none() {
    check_end(
        "server = \"campus\nmeeting = \"math\"\nat = \"soon\"\n[[end]]\nserver = \"library\"\nmeeting =\nat = = 1\n[[ed]]\n",
        &[
            "7:17 error: this is not TOML: invalid basic string, expected `\"`",
            "9:6 error: \"soon\" is not a time",
            "12:10 error: this is not TOML: string values must be quoted, expected literal string",
            "13:6 error: this is not TOML: extra `=`, expected nothing",
            "14:3 error: unknown key \"ed\" in the file",
        ],
    );
    let open_bracket = format!("{CAMPUS}nodes = [\n{}", "x = 1\n".repeat(20));
    assert_eq!(load_one(&open_bracket).diagnostics.errors(), 8);
}

#[test]
fn platforms() {
    check("[servers.x]\nurl = \"\"", &["1:10 error: [servers.x] has no platform"]);
    check(
        "[servers.x]\nplatform = \"zoom\"\napi-key = \"hunter2\"",
        &[
            "2:12 error: unknown platform \"zoom\"; known: bigbluebutton, janus, realtimekit, realtimekit-legacy, videosdk, videosdk-v1",
        ],
    );
    check(
        "[servers.x]\nplatform = \"bigbluebutton\"",
        &["1:10 error: [servers.x] has no url", "1:10 error: [servers.x] has no secret"],
    );
}

#[test]
fn one_account_at_one_address_is_one_server() {
    let other = |url: &str, secret: &str| {
        format!(
            "{CAMPUS}[servers.twin]\nplatform = \"bigbluebutton\"\nurl = \"{url}\"\nsecret = {{ env = \"{secret}\" }}\n"
        )
    };
    let place = CAMPUS.lines().count() + 1;
    let twin = format!(
        "{place}:10 error: [servers.twin] is the same account at the same address as [servers.campus]"
    );
    for url in ["https://h/bigbluebutton", "https://H:443/bigbluebutton/api/", "https://h/bigbluebutton/api"]
    {
        let loaded = load_one(&other(url, "SECRET"));
        assert!(
            loaded.diagnostics.render(false, 400).contains("is the same account at the same address"),
            "{url} {twin}"
        );
    }
    assert_eq!(load_one(&other("https://h/bigbluebutton", "LOUD")).diagnostics.errors(), 0, "two tenants");
    assert_eq!(load_one(&other("https://h:8443/bigbluebutton", "SECRET")).diagnostics.errors(), 0);
}

#[test]
fn a_balancer_without_its_nodes_is_worth_a_note() {
    for (keys, notes) in [
        ("front = \"scalelite\"", 1),
        ("front = \"balancer\"", 1),
        ("front = \"direct\"", 0),
        ("front = \"direct\"\nbelieve = \"front\"", 1),
        ("front = \"plugnmeet\"\nbelieve = \"proof\"", 0),
    ] {
        let loaded = load_one(&format!("{CAMPUS}{keys}\n"));
        assert_eq!((loaded.diagnostics.errors(), loaded.diagnostics.notes()), (0, notes), "{keys}");
    }
}

#[test]
fn servers() {
    check_campus(
        "checksum = \"md5\"",
        &["6:12 error: checksum is \"md5\", not one of sha1, sha256, sha384, sha512"],
    );
    check_campus(
        "front = \"nginx\"",
        &["6:9 error: front is \"nginx\", not one of auto, direct, scalelite, balancer, plugnmeet"],
    );
    check_campus("max-concurrent = 0", &["6:18 error: max-concurrent is 0, not between 1 and 256"]);
    check_campus("max-concurrent = 257", &["6:18 error: max-concurrent is 257, not between 1 and 256"]);
    check_campus("max-concurrent = 1", &[]);
    check_campus("prove-within = \"0s\"", &["6:16 error: prove-within is \"0s\", less than 1s"]);
    check_campus(
        "lock = \"always\"",
        &["6:8 error: lock is \"always\", not one of no, reversible, permanent"],
    );
    check_campus("lock = \"permanent\"", &["6:8 error: lock = \"permanent\" is not possible on campus"]);
    check_campus("lock = \"no\"", &[]);
    check_campus("expect = \"maybe\"", &["6:10 error: expect is \"maybe\", not one of any, live"]);
    check(
        &CAMPUS.replace("campus", "Campus"),
        &["2:10 error: a server name consists of a-z, 0-9, _ and -, not 'C'"],
    );
    check("", &["note: no server is configured: no meeting can be ended"]);
}

#[test]
fn urls() {
    let with = |url: &str| CAMPUS.replace("https://h/bigbluebutton/", url);
    check(
        &with("http://bbb.example.org/bigbluebutton/"),
        &[
            "4:7 note: this server is called without encryption: what proves who we are can be read on the way",
        ],
    );
    check(&with("http://localhost/bigbluebutton/"), &[]);
    check(&with("https://u:hunter2@h/api"), &["4:7 error: url contains a user name or a password"]);
    check(&with("https://h/api?x=hunter2"), &["4:7 error: url contains a query (what follows ?)"]);
    check(&with("bbb.example.org"), &["4:7 error: url is not a URL: relative URL without a base"]);
}

#[test]
fn nodes() {
    let node = |url: &str| {
        format!("[[servers.campus.nodes]]\nurl = \"https://{url}/api\"\nsecret = {{ env = \"SECRET\" }}\n")
    };
    check_files(
        &[("s.toml", &format!("{CAMPUS}{}{}", node("a"), node("a")))],
        &["s.toml"],
        &["s.toml:10:7 error: this node is listed twice; first at s.toml:7:7"],
    );
    check_campus(
        &format!("front = \"direct\"\n{}", node("a")),
        &["8:7 note: front = \"direct\" says that nothing stands in front of nodes"],
    );
    check_campus(
        "[[servers.campus.nodes]]",
        &[
            "6:1 error: [[servers.campus.nodes]] has no url",
            "6:1 error: [[servers.campus.nodes]] has no secret",
        ],
    );
}

#[test]
fn the_control_socket() {
    check_campus("[control]\nmode = \"0o640\"", &[]);
    check_campus("[control]\nmode = \"+60\"", &["7:8 error: mode is \"+60\", not an octal file mode"]);
    check_campus("[control]\nmode = \"1777\"", &["7:8 error: mode is \"1777\", not an octal file mode"]);
    check_campus(
        "[control]\nmode = \"0666\"",
        &["7:8 note: every user of this machine may end meetings through the socket"],
    );
    check_campus(
        "[control]\ngroup = \"a b\"",
        &["7:9 error: group is \"a b\", which cannot be a group's name"],
    );
    check_campus("[control]\nsocket = \"c.sock\"", &["7:10 error: socket must be an absolute path"]);
    let path = |length: usize| format!("[control]\nsocket = \"/{}\"", "x".repeat(length - 1));
    check_campus(&path(107), &[]);
    check_campus(&path(108), &["7:10 error: the path of the socket is 108 bytes long, more than 107"]);
}

#[test]
fn times() {
    let end = |rest: &str| format!("server = \"campus\"\nmeeting = \"math\"\n{rest}");
    let no_zone = "9:6 error: \"2026-12-01T18:00:00\" has neither an offset nor a time zone";
    check_end(&end("at = \"2026-12-01T18:00:00\""), &[no_zone]);
    check_end(&end("at = 2026-12-01T18:00:00"), &[no_zone]);
    check_end(&end("at = 2026-12-01T18:00:00Z"), &[]);
    check_end(&end("at = \"in 10 minutes\""), &["9:6 error: \"in 10 minutes\" is a relative time"]);
    check_end(&end("at = 5"), &["9:6 error: at must be a time, not an integer"]);
    check_end(&end(""), &["6:1 error: [[end]] has none of at, cron, max-duration"]);
    check_end(
        &end("at = \"2026-12-01T18:00:00\"\ntimezone = \"Europe/Berln\""),
        &["10:12 error: \"Europe/Berln\" is not a known time zone"],
    );
    check_end(
        &end("at = \"2026-12-01T18:00:00Z\"\ntimezone = \"Europe/Berlin\""),
        &["10:12 note: timezone has no effect: at itself says where it is meant"],
    );
    check_end(
        &end("at = \"2027-03-28T02:30:00\"\ntimezone = \"Europe/Berlin\""),
        &[
            "9:6 error: \"2027-03-28T02:30:00\" does not exist in Europe/Berlin: the clocks go forward and the gap ends \
           at 2027-03-28T03:00:00+02:00",
        ],
    );
    check_end(
        &end("at = \"2027-10-31T02:30:00[Europe/Berlin]\""),
        &["9:6 error: \"2027-10-31T02:30:00[Europe/Berlin]\" exists twice in Europe/Berlin: \
           2027-10-31T02:30:00+02:00 and 2027-10-31T02:30:00+01:00"],
    );
}

#[test]
fn times_that_have_passed_are_notes() {
    let end = |at: &str| format!("server = \"campus\"\nmeeting = \"math\"\nat = \"{at}\"");
    check_end(
        &end("2026-10-31T12:00:00Z"),
        &["9:6 note: 2026-10-31T12:00:00.000Z has passed: a new entry ends its meeting at once"],
    );
    check_end(
        &end("2026-10-20T12:00:00Z"),
        &[
            "9:6 note: 2026-10-20T12:00:00.000Z has passed, by more than late-limit: a new entry is not submitted",
        ],
    );
    // Never late: nothing that has passed is in time.
    check_end(
        &format!("{}\nlate-limit = \"0s\"", end("2026-10-31T12:00:00Z")),
        &[
            "9:6 note: 2026-10-31T12:00:00.000Z has passed, by more than late-limit: a new entry is not submitted",
        ],
    );
    check_end(
        &end("2206-12-01T18:00:00Z"),
        &["9:6 note: 2206-12-01T18:00:00.000Z is more than 5 years ahead"],
    );
}

#[test]
fn meetings_and_names() {
    let end = |keys: &str| format!("{keys}\nserver = \"campus\"\nat = \"2026-12-01T18:00:00Z\"");
    check_end(
        &end("meeting = \"cafe\""),
        &["7:11 note: BigBlueButton may take the short meeting id \"cafe\" for another meeting"],
    );
    check_end(
        &end("meeting = \"a\\u001b[2J\""),
        &["7:11 error: the meeting id contains a control character"],
    );
    check_end(&end("meeting = \"m\"\ninstance = \"\""), &["8:12 error: the instance id is empty"]);
    check_end(&end("meeting = \"m\"\nname = \"\""), &["8:8 error: the name is empty"]);
    check_end(
        "server = \"library\"\nmeeting = \"m\"\nat = \"2026-12-01T18:00:00Z\"",
        &["7:10 error: there is no server \"library\""],
    );
}
