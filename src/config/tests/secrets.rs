//! Where secrets come from, and where they must not go.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use proptest::prelude::*;
use secrecy::ExposeSecret;

use super::{CAMPUS, NOW, campus, check, check_campus, environment, load_one, settings, told, write};
use crate::config::{Environment, load};

#[test]
fn secrets_are_in_no_debug_output() {
    assert!(!format!("{:?}", settings(CAMPUS)).contains("hunter"));
    assert!(!format!("{:?}", load_one("[servers.x]\nsecret = \"hunter2\"")).contains("hunter"));
    assert!(!format!("{:?}", environment()).contains("hunter"));
}

#[test]
fn secrets_never_stand_in_the_file() {
    let with = |secret: &str| CAMPUS.replace("{ env = \"SECRET\" }", secret);
    let inline = "5:10 error: the secret of [servers.campus] stands in the file itself";
    check(&with("\"hunter2\""), &[inline]);
    check(&with("'''\nhunter2\n'''"), &[inline]);
    check(&with("[\"hunter2\"]"), &[inline]);
    let not_one =
        "5:10 error: the secret of [servers.campus] must name exactly one of credential, env and file";
    let unknown = "5:12 error: unknown key \"value\" in the secret of [servers.campus]";
    check(&with("{ value = \"hunter2\" }"), &[not_one, unknown]);
    check(&with("{ env = \"SECRET\", file = \"/x\" }"), &[not_one]);
    check(&with("{}"), &[not_one]);
    check(&with("{ env = \"hunter-2\" }"), &["5:10 error: env is not the name of an environment variable"]);
    check(&with("{ file = \"hunter2\" }"), &["5:10 error: the file of a secret must be an absolute path"]);
    check(&with("{ env = \"NONE\" } # hunter2"), &["5:10 error: the environment variable NONE is not set"]);
    check_campus(
        "securitySalt = \"hunter2\"",
        &["6:1 error: unknown key \"securitySalt\" in [servers.campus]"],
    );
}

#[test]
fn secrets_that_cannot_be_used() {
    let with = |secret: &str| CAMPUS.replace("{ env = \"SECRET\" }", secret);
    check(&with("{ env = \"NONE\" }"), &["5:10 error: the environment variable NONE is not set"]);
    check(
        &with("{ env = \"EMPTY\" }"),
        &["5:10 error: the secret in the environment variable EMPTY is empty"],
    );
    check(
        &with("{ env = \"LINES\" }"),
        &[
            "5:10 error: the secret in the environment variable LINES has more than one line, or control characters",
        ],
    );
    check(
        &with("{ file = \"/nonexistent/x\" }"),
        &["5:10 error: cannot read the secret in /nonexistent/x: No such file or directory (os error 2)"],
    );
    check(
        &with("{ file = \"/dev\" }"),
        &["5:10 error: cannot read the secret in /dev: it is not a regular file"],
    );
    check(&with("{ credential = \"../x\" }"), &["5:10 error: \"../x\" is not the name of a credential"]);
    check(
        &with("{ credential = \"x\" }"),
        &["5:10 error: there are no credentials here to take \"x\" from: CREDENTIALS_DIRECTORY is not set"],
    );
}

#[test]
fn secrets_from_files() {
    let directory =
        write(&[("exact", &"x".repeat(4096)), ("long", &"x".repeat(4097)), ("open", "hunter2\r\n")]);
    let path = |name: &str| directory.path().join(name);
    for (name, mode) in [("exact", 0o600), ("long", 0o600), ("open", 0o644)] {
        fs::set_permissions(path(name), fs::Permissions::from_mode(mode)).unwrap();
    }
    let with = |name: &str| CAMPUS.replace("env = \"SECRET\"", &format!("file = {:?}", path(name)));
    check(&with("exact"), &[]);
    let shown = path("long").display().to_string();
    check(&with("long"), &[&format!("5:10 error: the secret in the file {shown:?} is longer than 4 KiB")]);
    let shown = path("open").display().to_string();
    let note = format!("5:10 note: the secret in {shown} can be read by every user of this machine");
    check(&with("open"), &[&note]);
    assert_eq!(campus(&settings(&with("open"))).secret.expose_secret(), "hunter2");
}

#[test]
fn secrets_from_credentials() {
    let text = CAMPUS.replace("env = \"SECRET\"", "credential = \"campus\"");
    let directory = write(&[("campus", "hunter2\n"), ("one.toml", &text)]);
    let credentials = directory.path().display().to_string();
    let env = Environment::fixed([("CREDENTIALS_DIRECTORY", credentials.as_str())]);
    let loaded = load(&[directory.path().join("one.toml")], &env, NOW);
    assert_eq!(campus(&loaded.settings.unwrap()).secret.expose_secret(), "hunter2");
    fs::remove_file(directory.path().join("campus")).unwrap();
    let loaded = load(&[directory.path().join("one.toml")], &env, NOW);
    assert_eq!(
        told(&loaded, directory.path()),
        ["5:10 error: cannot read the credential campus: No such file or directory (os error 2)"]
    );
}

proptest! {
    /// However a file with secrets in it is broken, they are not shown.
    #[test]
    fn a_slip_of_the_keyboard_shows_no_secret(
        at in 0_usize..400,
        cut in 0_usize..3,
        put in "[\\[\\]{}=#\"',.\n \\\\ax]{0,2}",
    ) {
        const TEXT: &str = "[daemon]\nretention = \"9d\"\n[servers.a]\nplatform = \"bigbluebutton\"\n\
            url = \"https://h/api\"\nsecret = \"hunter2\"\nnodes = [{ url = \"x\", secret = 'hunter2' }]\n\
            sekret = \"\"\"\nhunter2\n\"\"\"\n[servers.b]\nplatform = \"x\"\nsecret.value = \"hunter2\"\n\
            [servers]\nc = { platform = \"x\", salt = \"hunter2\" }\n[[end]]\nserver = \"a\"\nmeeting = \"m\"\n";
        let at = at % TEXT.len();
        let broken = format!("{}{put}{}", &TEXT[..at], &TEXT[(at + cut).min(TEXT.len())..]);
        let loaded = load_one(&broken);
        let shown = loaded.diagnostics.render(false, 200);
        prop_assert!(loaded.settings.is_none());
        prop_assert!(!shown.contains("unte"), "{broken}\n-----\n{shown}");
    }
}
