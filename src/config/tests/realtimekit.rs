//! The keys of RealtimeKit apps, on Cloudflare and on the legacy host.

use secrecy::ExposeSecret;

use super::{check, settings};
use crate::config::settings::PlatformSettings;
use crate::job::{Lock, ServerName};
use crate::platform::realtimekit::{Account, CLOUDFLARE, LEGACY, Settings};

const EVENTS: &str = "[servers.events]\nplatform = \"realtimekit\"\naccount-id = \"0f1e\"\napp-id = \"c0-de\"\n\
                      token = { env = \"SECRET\" }\n";
const OLD: &str = "[servers.events]\nplatform = \"realtimekit-legacy\"\norganization-id = \"org\"\n\
                   secret = { env = \"SECRET\" }\n";

fn events(text: &str) -> Settings {
    match settings(text).servers.remove(&ServerName::from("events")).unwrap().platform {
        PlatformSettings::RealtimeKit(events) => events,
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_app_on_cloudflare() {
    let read = events(EVENTS);
    assert_eq!(read.url.as_str(), CLOUDFLARE);
    let Account::Cloudflare { account_id, app_id, token } = &read.account else { panic!("{read:?}") };
    assert_eq!((account_id.as_str(), app_id.as_str(), token.expose_secret()), ("0f1e", "c0-de", "hunter2"));
    assert!(!format!("{read:?}").contains("hunter2"));
    assert_eq!(PlatformSettings::RealtimeKit(read).lock(), Lock::Reversible);
    assert_eq!(
        events(&format!("{EVENTS}url = \"http://127.0.0.1:8/v4\"")).url.as_str(),
        "http://127.0.0.1:8/v4/"
    );
}

#[test]
fn an_app_on_the_legacy_host() {
    let read = events(OLD);
    assert_eq!(read.url.as_str(), LEGACY);
    let Account::Legacy { organization_id, secret } = &read.account else { panic!("{read:?}") };
    assert_eq!((organization_id.as_str(), secret.expose_secret()), ("org", "hunter2"));
    let other = events(&format!("{OLD}url = \"https://api.realtime.cloudflare.com/v2\""));
    assert_eq!(other.url.as_str(), "https://api.realtime.cloudflare.com/v2/");
}

#[test]
fn what_is_missing_or_wrong_is_said_at_once() {
    check(
        "[servers.x]\nplatform = \"realtimekit\"",
        &[
            "1:10 error: [servers.x] has no account-id",
            "1:10 error: [servers.x] has no app-id",
            "1:10 error: [servers.x] has no token",
        ],
    );
    check(
        "[servers.x]\nplatform = \"realtimekit-legacy\"\norganization-id = \"a:b\"\nsecret = { env = \"SECRET\" }",
        &["3:19 error: organization-id is no id: letters, digits, - and _, at most 64"],
    );
    check(
        &EVENTS.replace("0f1e", "../x").replace("c0-de", ""),
        &[
            "3:14 error: account-id is no id: letters, digits, - and _, at most 64",
            "4:10 error: app-id is no id: letters, digits, - and _, at most 64",
        ],
    );
    check(
        &EVENTS.replace("{ env = \"SECRET\" }", "\"hunter2\""),
        &["5:9 error: the token of [servers.events] stands in the file itself"],
    );
}
