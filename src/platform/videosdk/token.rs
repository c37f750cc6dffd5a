//! What proves who we are: tokens minted here from an API key and its secret, or one that was given.
//!
//! HS256, header and claims byte for byte in the order of the vendor's documentation. So the text is built here, and only
//! signed by a library: those that build tokens put the fields of the header into an order of their own.
//!
//! A minted token is short-lived, and its age is measured on boottime: a step of our wall clock makes no token old or young.
//! Its times are those of the server's clock, as far as that is known.

use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit, Mac};
use reqwest::header::HeaderValue;
use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::Version;
use crate::job::{BootMs, UtcMs};
use crate::platform::http::authorization;
use crate::platform::same_secret;

/// How long a minted token is good for ...
const LIFE: Duration = Duration::from_secs(600);
/// ... and how long before its end it is replaced.
const RENEWED_BEFORE_END: Duration = Duration::from_secs(60);
const HEADER: &str = r#"{"alg":"HS256","typ":"JWT"}"#;

/// One of the two ways to be known there.
#[derive(Clone, Debug)]
pub enum Credentials {
    /// `api-key` and `secret`: tokens are minted.
    Key {
        /// No secret to the vendor, but shown nowhere.
        api_key: SecretString,
        secret: SecretString,
    },
    /// `token`: ready-made.
    Token(SecretString),
}

impl PartialEq for Credentials {
    fn eq(&self, other: &Credentials) -> bool {
        match (self, other) {
            (
                Credentials::Key { api_key, secret },
                Credentials::Key { api_key: other_key, secret: other_secret },
            ) => same_secret(api_key, other_key) && same_secret(secret, other_secret),
            (Credentials::Token(token), Credentials::Token(other)) => same_secret(token, other),
            _ => false,
        }
    }
}

/// Has no `Debug`: it holds tokens.
pub(super) struct Tokens {
    credentials: Credentials,
    version: Version,
    current: Mutex<Option<Minted>>,
}

struct Minted {
    header: HeaderValue,
    at: BootMs,
}

impl Tokens {
    /// `None` if the ready-made token cannot be sent at all.
    pub fn new(credentials: Credentials, version: Version) -> Option<Tokens> {
        if let Credentials::Token(token) = &credentials {
            authorization(token)?;
        }
        Some(Tokens { credentials, version, current: Mutex::default() })
    }

    /// The header of a request that leaves now; `theirs` is the wall clock of the server.
    pub fn header(&self, now: BootMs, theirs: UtcMs) -> Option<HeaderValue> {
        let (api_key, secret) = match &self.credentials {
            Credentials::Token(token) => return authorization(token),
            Credentials::Key { api_key, secret } => (api_key, secret),
        };
        let mut current = self.current();
        let old = |minted: &Minted| now.since(minted.at) >= LIFE - RENEWED_BEFORE_END;
        if let Some(minted) = current.as_ref().filter(|minted| !old(minted)) {
            return Some(minted.header.clone());
        }
        let header = authorization(&mint(self.version, api_key, secret, theirs))?;
        *current = Some(Minted { header: header.clone(), at: now });
        Some(header)
    }

    /// The server refuses the token of this header: the next one is another. False if there can be no other.
    pub fn refused(&self, header: &HeaderValue) -> bool {
        let mut current = self.current();
        // Others may have been refused at the same time, and have minted already.
        current.take_if(|minted| minted.header == *header);
        matches!(self.credentials, Credentials::Key { .. })
    }

    fn current(&self) -> MutexGuard<'_, Option<Minted>> {
        self.current.lock().expect("no holder of this lock can panic")
    }
}

impl Credentials {
    /// What people call them.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Credentials::Key { .. } => "the token made from api-key and secret",
            Credentials::Token(_) => "the configured token",
        }
    }

    /// When the ready-made token ends, as it says itself; nothing is verified.
    pub(super) fn expires(&self) -> Option<UtcMs> {
        let Credentials::Token(token) = self else { return None };
        said_by(token)?.get("exp")?.as_i64()?.checked_mul(1000).map(UtcMs)
    }

    /// What stands for the API key where it may not be shown; `None`: a ready-made token does not say it.
    pub(in crate::platform) fn key_hash(&self) -> Option<String> {
        let hash = |key: &str| {
            let hash = Sha256::digest(format!("adjourn fingerprint {key}"));
            hash.iter().take(8).map(|byte| format!("{byte:02x}")).collect()
        };
        match self {
            Credentials::Key { api_key, .. } => Some(hash(api_key.expose_secret())),
            Credentials::Token(token) => said_by(token)?.get("apikey")?.as_str().map(hash),
        }
    }

    /// A stranger's text without what it may repeat of our credentials.
    pub(super) fn struck_from(&self, text: &str) -> String {
        const STRUCK: &str = "***";
        let known = match self {
            Credentials::Key { api_key, .. } => api_key,
            Credentials::Token(token) => token,
        };
        let text = text.replace(known.expose_secret(), STRUCK);
        let mut clean = String::new();
        let mut rest = text.as_str();
        // Every token begins with these letters, as its header begins with `{"`.
        while let Some(at) = rest.find("eyJ") {
            let of_a_token = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
            let end = rest[at..].find(|c| !of_a_token(c)).map_or(rest.len(), |length| at + length);
            clean.push_str(&rest[..at]);
            clean.push_str(STRUCK);
            rest = &rest[end..];
        }
        clean + rest
    }
}

/// What a token says of itself; nothing is verified.
fn said_by(token: &SecretString) -> Option<Value> {
    let payload = token.expose_secret().split('.').nth(1)?;
    let claims = URL_SAFE_NO_PAD.decode(payload.trim_end_matches('=')).ok()?;
    serde_json::from_slice(&claims).ok()
}

fn mint(version: Version, api_key: &SecretString, secret: &SecretString, issued: UtcMs) -> SecretString {
    let issued = issued.0.div_euclid(1000);
    let expires = issued + LIFE.as_secs().cast_signed();
    let claims = claims(version, api_key.expose_secret(), issued, expires);
    let signed = format!("{}.{}", URL_SAFE_NO_PAD.encode(HEADER), URL_SAFE_NO_PAD.encode(claims));
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.expose_secret().as_bytes())
        .expect("HMAC takes keys of any length");
    mac.update(signed.as_bytes());
    let signature = URL_SAFE_NO_PAD.encode(mac.finalize().into_bytes());
    SecretString::from(format!("{signed}.{signature}"))
}

/// The order is that of the documentation.
fn claims(version: Version, api_key: &str, issued: i64, expires: i64) -> String {
    let api_key = Value::from(api_key);
    let crawler = match version {
        Version::V1 => "",
        Version::V2 => r#""version":2,"roles":["crawler"],"#,
    };
    format!(
        r#"{{"apikey":{api_key},"permissions":["allow_join","allow_mod"],{crawler}"iat":{issued},"exp":{expires}}}"#
    )
}

#[cfg(test)]
mod tests {
    use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode};

    use super::*;

    const WALL: UtcMs = UtcMs(1_800_000_000_999);
    const SECRET: &str = "s3cr3t-of-the-account";

    fn key() -> Credentials {
        Credentials::Key { api_key: SecretString::from("0f1e-key"), secret: SecretString::from(SECRET) }
    }

    fn minted(version: Version) -> String {
        let tokens = Tokens::new(key(), version).unwrap();
        tokens.header(BootMs(0), WALL).unwrap().to_str().unwrap().to_owned()
    }

    fn part(token: &str, index: usize) -> String {
        let part = token.split('.').nth(index).unwrap();
        String::from_utf8(URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap()
    }

    /// Another implementation believes it.
    #[track_caller]
    fn verify(token: &str, secret: &str) -> Result<Value, jsonwebtoken::errors::Error> {
        let mut validation = Validation::new(Algorithm::HS256);
        // The clock of the test is not that of the machine.
        validation.validate_exp = false;
        let key = DecodingKey::from_secret(secret.as_bytes());
        decode::<Value>(token, &key, &validation).map(|verified| verified.claims)
    }

    #[test]
    fn every_byte_is_as_documented() {
        let v2 = minted(Version::V2);
        assert_eq!(part(&v2, 0), r#"{"alg":"HS256","typ":"JWT"}"#);
        assert_eq!(
            part(&v2, 1),
            r#"{"apikey":"0f1e-key","permissions":["allow_join","allow_mod"],"version":2,"roles":["crawler"],"iat":1800000000,"exp":1800000600}"#
        );
        assert_eq!(
            part(&minted(Version::V1), 1),
            r#"{"apikey":"0f1e-key","permissions":["allow_join","allow_mod"],"iat":1800000000,"exp":1800000600}"#
        );
        assert!(!v2.contains('='));
    }

    #[test]
    fn another_implementation_verifies_the_signature() {
        for version in [Version::V1, Version::V2] {
            let token = minted(version);
            assert_eq!(verify(&token, SECRET).unwrap()["exp"], 1_800_000_600);
            assert!(verify(&token, "another secret").is_err());
        }
    }

    #[test]
    fn a_hostile_key_stays_within_its_quotes() {
        let claims = claims(Version::V2, "k\",\"exp\":9,\"x\":\"ä\\", 1, 2);
        let read: Value = serde_json::from_str(&claims).unwrap();
        assert_eq!(
            (read["apikey"].as_str(), read["exp"].as_i64()),
            (Some("k\",\"exp\":9,\"x\":\"ä\\"), Some(2))
        );
    }

    #[test]
    fn a_token_is_used_until_a_minute_before_its_end() {
        let tokens = Tokens::new(key(), Version::V2).unwrap();
        let at = |seconds: i64| tokens.header(BootMs(seconds * 1000), UtcMs(seconds * 1000)).unwrap();
        let first = at(0);
        assert_eq!(at(539), first);
        let second = at(540);
        assert_ne!(second, first);
        assert_eq!(part(second.to_str().unwrap(), 1).matches("\"iat\":540,\"exp\":1140").count(), 1);
        assert_eq!(at(1079), second);
    }

    #[test]
    fn a_refused_token_is_not_used_again_and_its_successor_not_thrown_away_with_it() {
        let tokens = Tokens::new(key(), Version::V2).unwrap();
        let at = |seconds: i64| tokens.header(BootMs(0), UtcMs(seconds * 1000)).unwrap();
        let first = at(1);
        assert!(tokens.refused(&first));
        let second = at(2);
        assert_ne!(first, second);
        assert!(tokens.refused(&first));
        assert_eq!(at(3), second);
    }

    #[test]
    fn a_ready_made_token_is_sent_as_it_is_and_there_is_no_other() {
        let token = minted(Version::V2);
        let ready = Credentials::Token(SecretString::from(token.as_str()));
        assert_eq!(ready.expires(), Some(UtcMs(1_800_000_600_000)));
        let tokens = Tokens::new(ready, Version::V2).unwrap();
        let header = tokens.header(BootMs(0), WALL).unwrap();
        assert_eq!(header.to_str().unwrap(), token);
        assert!(!tokens.refused(&header));
        assert!(Tokens::new(Credentials::Token(SecretString::from("a\nb")), Version::V2).is_none());
    }

    #[test]
    fn what_is_no_token_has_no_end() {
        let padded = format!("x.{}==.y", URL_SAFE_NO_PAD.encode(r#"{"exp":7}"#));
        for (token, end) in [
            (padded.as_str(), Some(UtcMs(7000))),
            ("opaque", None),
            ("a.!.c", None),
            ("a.e30.c", None),
            ("", None),
        ] {
            assert_eq!(Credentials::Token(SecretString::from(token)).expires(), end, "{token}");
        }
        assert_eq!(key().expires(), None);
    }

    #[test]
    fn texts_that_repeat_our_credentials_are_struck() {
        let token = minted(Version::V2);
        assert_eq!(key().struck_from(&format!("bad \"{token}\" of 0f1e-key!")), "bad \"***\" of ***!");
        assert_eq!(key().struck_from(&format!("cut {}", &token[..20])), "cut ***");
        let opaque = Credentials::Token(SecretString::from("opaque"));
        assert_eq!(opaque.struck_from("bad opaque token"), "bad *** token");
        assert!(!format!("{:?} {opaque:?}", key()).contains("0f1e"));
    }
}
