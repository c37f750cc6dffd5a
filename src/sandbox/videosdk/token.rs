//! The token of a request: HS256, checked as the service documents it.
//!
//! Checked by a library and not by the platform's code, so that the two check each other.

use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation, decode, encode};
use serde::{Deserialize, Serialize};

use super::Settings;
use crate::job::UtcMs;
use crate::sandbox::sessions::Problem;

/// Of the API, and of the tokens that it takes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Version {
    V1,
    V2,
}

#[derive(Serialize, Deserialize)]
struct Claims {
    apikey: String,
    permissions: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    version: Option<u32>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    roles: Vec<String>,
    #[serde(default)]
    iat: i64,
    /// Seconds since the epoch.
    exp: i64,
}

/// 401 for a token that is not ours or is over, 403 for one that is not meant for this.
pub(super) fn check(
    token: Option<&str>,
    settings: &Settings,
    version: Version,
    now: UtcMs,
) -> Result<(), Problem> {
    let claims = token.and_then(|token| verified(token, &settings.secret));
    let valid = |claims: &Claims| claims.apikey == settings.api_key && now.0 < claims.exp * 1_000;
    let Some(claims) = claims.filter(valid) else {
        return Err(Problem::new(401, "invalid_token", "Token is invalid or expired."));
    };
    let allowed = claims.permissions.iter().any(|permission| permission == "allow_join");
    let meant = match version {
        Version::V1 => claims.version.is_none_or(|version| version == 1),
        Version::V2 => claims.version == Some(2) && claims.roles.iter().any(|role| role == "crawler"),
    };
    if allowed && meant { Ok(()) } else { Err(Problem::of_status(403)) }
}

/// The claims of a token with the right header and signature, whatever they say.
fn verified(token: &str, secret: &str) -> Option<Claims> {
    let mut validation = Validation::new(Algorithm::HS256);
    // The time is the world's, not this machine's.
    validation.validate_exp = false;
    validation.required_spec_claims.clear();
    let token = decode::<Claims>(token, &DecodingKey::from_secret(secret.as_bytes()), &validation).ok()?;
    (token.header.typ.as_deref() == Some("JWT")).then_some(token.claims)
}

impl Settings {
    /// A token as a customer's own tools make it, good for ten minutes.
    pub fn token(&self, version: Version, now: UtcMs) -> String {
        let iat = now.0.div_euclid(1_000);
        let claims = Claims {
            apikey: self.api_key.clone(),
            permissions: vec!["allow_join".to_owned(), "allow_mod".to_owned()],
            version: (version == Version::V2).then_some(2),
            roles: if version == Version::V2 { vec!["crawler".to_owned()] } else { Vec::new() },
            iat,
            exp: iat + 600,
        };
        let key = EncodingKey::from_secret(self.secret.as_bytes());
        encode(&Header::new(Algorithm::HS256), &claims, &key).expect("claims of texts and numbers are JSON")
    }
}
