//! `ca` and `proxy`: how a server is reached; and what its meetings may be called.

use std::fs;

use tempfile::TempDir;

use super::{CAMPUS, campus, check, check_campus, settings};

/// A directory with a self-signed certificate, and its path.
fn certificate() -> (TempDir, String) {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("campus.pem");
    let made = rcgen::generate_simple_self_signed(["bbb.example.org".to_owned()]).unwrap();
    fs::write(&path, made.cert.pem()).unwrap();
    let path = path.display().to_string();
    (dir, path)
}

const NODE: &str =
    "[[servers.campus.nodes]]\nurl = \"https://n1/bigbluebutton/api\"\nsecret = { env = \"SECRET\" }\n";

#[test]
fn nodes_are_reached_as_their_server_unless_they_say_otherwise() {
    let (_dir, path) = certificate();
    let here = format!("{CAMPUS}ca = {path:?}\nproxy = \"http://proxy.example.org:3128\"\n");
    let read = settings(&format!("{here}{NODE}"));
    let server = campus(&read);
    assert!(server.network.trust.is_some());
    let proxy = server.network.proxy.as_ref().unwrap();
    assert_eq!(proxy.url.as_str(), "http://proxy.example.org:3128/");
    assert_eq!(server.nodes[0].network, server.network);
    let read = settings(&format!("{here}{NODE}proxy = \"none\"\n"));
    let server = campus(&read);
    assert!(server.nodes[0].network.proxy.is_none());
    assert_eq!(server.nodes[0].network.trust, server.network.trust);
    assert_eq!(campus(&settings(CAMPUS)).network, Default::default());
}

#[test]
fn a_file_that_holds_no_certificates_is_an_error() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("x.pem").display().to_string();
    let said = |why: &str| format!("6:6 error: the certificates in {path} {why}");
    check_campus(
        &format!("ca = {path:?}"),
        &[&said("cannot be read: No such file or directory (os error 2)")],
    );
    fs::write(&path, "hello").unwrap();
    check_campus(&format!("ca = {path:?}"), &[&said("are none: it has no -----BEGIN CERTIFICATE-----")]);
    check_campus("ca = \"x.pem\"", &["6:6 error: ca must be the absolute path of a file"]);
}

#[test]
fn a_proxy_is_a_host_and_a_port_and_its_credentials_stand_elsewhere() {
    let plain = "6:9 error: a proxy is named by http://, its host and its port, and nothing else";
    check_campus("proxy = \"https://proxy.example.org\"", &[plain]);
    check_campus("proxy = \"http://proxy.example.org/path\"", &[plain]);
    check_campus(
        "proxy = \"http://user:hunter2@proxy.example.org:3128\"",
        &["6:9 error: the url of the proxy contains a user name or a password"],
    );
    check_campus(
        "proxy-secret = { env = \"SECRET\" }",
        &["6:16 error: there is a proxy-secret, and no proxy"],
    );
    check_campus(
        "proxy = \"http://proxy.example.org:3128\"\nproxy-secret = { env = \"SECRET\" }",
        &["7:16 error: proxy-secret: it is not of the form user:password"],
    );
    check_campus(
        "proxy = \"http://proxy.example.org:3128\"\nproxy-secret = \"user:hunter2\"",
        &["7:16 error: the proxy-secret of [servers.campus] stands in the file itself"],
    );
}

/// What goes through a proxy in clear could be read there, checksums that can be replayed included.
#[test]
fn nothing_goes_through_a_proxy_in_clear() {
    let local = CAMPUS.replace("https://h/", "http://127.0.0.1/");
    let wrong = "a proxy is only for https://, and this server, or a node of it, is called at http://";
    check(&format!("{local}proxy = \"http://proxy.example.org:3128\""), &[&format!("6:9 error: {wrong}")]);
    let (_dir, path) = certificate();
    let note = "6:6 note: ca says nothing for http://: no certificate is asked for there";
    check(&format!("{local}ca = {path:?}"), &[note]);
}

#[test]
fn a_room_of_janus_with_a_name_is_an_error_unless_its_rooms_have_names() {
    let janus = "[servers.lab]\nplatform = \"janus\"\nurl = \"http://127.0.0.1:7188/admin\"\n\
                 admin-secret = { env = \"SECRET\" }\n";
    let end = "[[end]]\nserver = \"lab\"\nmeeting = \"physics\"\nat = \"2026-12-01T18:00:00Z\"";
    let error = "7:11 error: rooms of this Janus have numbers, and \"physics\" is none";
    check(&format!("{janus}{end}"), &[error]);
    check(&format!("{janus}string-ids = true\n{end}"), &[]);
}
