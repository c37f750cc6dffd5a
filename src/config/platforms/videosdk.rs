//! The keys of a VideoSDK account, the same for both versions.

use secrecy::SecretString;

use crate::config::diagnostics::Located;
use crate::config::document::Section;
use crate::config::file::{Secret, optional_secret};
use crate::config::servers::Builder;
use crate::config::url::base;
use crate::platform::videosdk::{Credentials, Settings, URL, Version};

const HINT: &str = "write api-key and secret, from which tokens are made, or a ready-made token";

pub(in crate::config) struct File {
    version: Version,
    url: Option<Located<String>>,
    api_key: Option<Located<String>>,
    secret: Option<Located<Secret>>,
    token: Option<Located<Secret>>,
}

pub(super) fn read(section: &mut Section<'_, '_>, version: Version) -> File {
    one_way(section);
    File {
        version,
        url: section.get("url"),
        api_key: section.get("api-key"),
        secret: optional_secret(section, "secret"),
        token: optional_secret(section, "token"),
    }
}

/// Exactly one of the two ways to be known there. In a broken file what is missing may only be unreadable.
fn one_way(section: &mut Section<'_, '_>) {
    let [api_key, secret, token] = ["api-key", "secret", "token"].map(|key| section.has(key));
    let (title, place) = (&section.title, section.place);
    let message = match (api_key, secret, token) {
        (true, true, false) | (false, false, true) => return,
        (_, _, true) => {
            format!("{title} has a token, and {} besides", if api_key { "an api-key" } else { "a secret" })
        }
        _ if section.broken => return,
        (true, false, false) => format!("{title} has an api-key, but no secret"),
        (false, true, false) => format!("{title} has a secret, but no api-key"),
        (false, false, false) => format!("{title} has neither api-key and secret nor a token"),
    };
    section.found.error(place, message, HINT);
}

impl File {
    pub(super) fn settings(&self, builder: &mut Builder<'_>) -> Option<Settings> {
        let url = match &self.url {
            given @ Some(_) => builder.url(given.as_ref(), base, URL),
            None => base(URL).ok(),
        };
        let secret = builder.secret(self.secret.as_ref());
        let token = builder.secret(self.token.as_ref());
        let api_key = self.api_key.as_ref().and_then(|given| api_key(given, builder));
        let credentials = match (&self.token, api_key) {
            (Some(_), _) => Credentials::Token(token?),
            (None, api_key) => Credentials::Key { api_key: api_key?, secret: secret? },
        };
        Some(Settings { version: self.version, url: url?, network: builder.network.clone(), credentials })
    }
}

/// What is wrong with it is said without showing it.
fn api_key(given: &Located<String>, builder: &mut Builder<'_>) -> Option<SecretString> {
    if given.value.is_empty() || given.value.contains(|c: char| c.is_control() || c.is_whitespace()) {
        let message = "api-key is not one: it is empty, or there are spaces in it";
        builder.found.error(
            given.place,
            message,
            "it stands on the dashboard of VideoSDK, beside its secret",
        );
        return None;
    }
    Some(SecretString::from(given.value.as_str()))
}
