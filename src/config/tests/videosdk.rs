//! The keys of a VideoSDK account.

use secrecy::ExposeSecret;

use super::{check, load_one, settings};
use crate::config::settings::PlatformSettings;
use crate::job::{Lock, ServerName};
use crate::platform::videosdk::{Credentials, Settings, Version};

fn account(keys: &str) -> String {
    format!("[servers.tutoring]\nplatform = \"videosdk\"\n{keys}\nkeep-closed = \"0s\"\n")
}

#[track_caller]
fn read(keys: &str, platform: &str) -> (Settings, Lock) {
    let text = account(keys).replace("\"videosdk\"", &format!("{platform:?}"));
    let all = settings(&text);
    let platform = &all.servers[&ServerName::from("tutoring")].platform;
    match platform {
        PlatformSettings::VideoSdk(settings) => (settings.clone(), platform.lock()),
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_account_with_a_key() {
    let (read, lock) = read("api-key = \"0f1e\"\nsecret = { env = \"SECRET\" }", "videosdk");
    assert_eq!((read.version, lock), (Version::V2, Lock::Permanent));
    assert_eq!(read.url.as_str(), "https://api.videosdk.live/");
    let Credentials::Key { api_key, secret } = &read.credentials else { panic!() };
    assert_eq!((api_key.expose_secret(), secret.expose_secret()), ("0f1e", "hunter2"));
    assert!(!format!("{read:?}").contains("0f1e"));
}

#[test]
fn an_account_with_a_token() {
    let (read, lock) = read("token.env = \"LOUD\"\nurl = \"http://127.0.0.1:8080/api\"", "videosdk-v1");
    assert_eq!((read.version, lock), (Version::V1, Lock::No));
    assert_eq!(read.url.as_str(), "http://127.0.0.1:8080/api/");
    let Credentials::Token(token) = &read.credentials else { panic!() };
    assert_eq!(token.expose_secret(), "hunter3");
}

#[test]
fn exactly_one_of_both_ways() {
    let check = |keys: &str, message: &str| {
        let expected = format!("1:10 error: [servers.tutoring] {message}");
        check(&account(keys), &[&expected]);
    };
    let secret = "secret = { env = \"SECRET\" }\n";
    let token = "token = { env = \"LOUD\" }\n";
    let key = "api-key = \"hunter4\"\n";
    check("", "has neither api-key and secret nor a token");
    check(key, "has an api-key, but no secret");
    check(secret, "has a secret, but no api-key");
    check(&format!("{token}{key}"), "has a token, and an api-key besides");
    check(&format!("{token}{key}{secret}"), "has a token, and an api-key besides");
    check(&format!("{token}{secret}"), "has a token, and a secret besides");
    let shown = load_one(&account("")).diagnostics.render(false, 100);
    assert!(
        shown.contains("write api-key and secret, from which tokens are made, or a ready-made token"),
        "{shown}"
    );
}

#[test]
fn what_cannot_be_a_key_a_token_or_an_address() {
    let secret = "\nsecret = { env = \"SECRET\" }";
    let odd = ["3:11 error: api-key is not one: it is empty, or there are spaces in it"];
    for key in ["", "hunter 4", "hunter4\\t"] {
        check(&account(&format!("api-key = \"{key}\"{secret}")), &odd);
    }
    check(
        &account(&format!("api-key = 4{secret}")),
        &["3:11 error: api-key must be a string, not an integer"],
    );
    check(
        &account("token = \"hunter4\""),
        &["3:9 error: the token of [servers.tutoring] stands in the file itself"],
    );
    check(
        &account("token = { env = \"LOUD\" }\nurl = \"https://u:hunter4@h\""),
        &["4:7 error: url contains a user name or a password"],
    );
    check(
        &account("token = { env = \"LOUD\" }\nchecksum = \"sha1\""),
        &["4:1 error: unknown key \"checksum\" in [servers.tutoring]"],
    );
}

#[test]
fn a_rejoin_is_a_new_session_and_keep_closed_is_recommended_once() {
    let keys = "api-key = \"0f1e\"\nsecret = { env = \"SECRET\" }";
    check(&account(keys), &[]);
    let without = account(keys).replace("keep-closed = \"0s\"\n", "");
    let note = "1:10 note: whoever comes back after an end is in a new session on tutoring";
    check(&without, &[note]);
    check(&format!("{without}[defaults]\nkeep-closed = \"10m\"\n"), &[]);
}
