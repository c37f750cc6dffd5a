//! The keys of a RealtimeKit app: on Cloudflare, and on the legacy host.

use url::Url;

use crate::config::diagnostics::Located;
use crate::config::document::Section;
use crate::config::file::{Secret, required_secret};
use crate::config::servers::Builder;
use crate::config::url::base;
use crate::platform::realtimekit::{Account, CLOUDFLARE, LEGACY, Settings};

/// Characters of an account, app or organization id. RealtimeKit: 32 hex digits, or a UUID.
const MAX_ID: usize = 64;

pub(in crate::config) struct File {
    url: Option<Located<String>>,
    account: Ids,
    secret: Option<Located<Secret>>,
}

enum Ids {
    Cloudflare { account_id: Option<Located<String>>, app_id: Option<Located<String>> },
    Legacy { organization_id: Option<Located<String>> },
}

pub(super) fn read(section: &mut Section<'_, '_>) -> File {
    File {
        url: section.get("url"),
        account: Ids::Cloudflare {
            account_id: section.required("account-id"),
            app_id: section.required("app-id"),
        },
        secret: required_secret(section, "token"),
    }
}

pub(super) fn read_legacy(section: &mut Section<'_, '_>) -> File {
    File {
        url: section.get("url"),
        account: Ids::Legacy { organization_id: section.required("organization-id") },
        secret: required_secret(section, "secret"),
    }
}

impl File {
    pub(super) fn settings(&self, builder: &mut Builder<'_>) -> Option<Settings> {
        let secret = builder.secret(self.secret.as_ref());
        let (default, account) = match &self.account {
            Ids::Cloudflare { account_id, app_id } => {
                let account_id = id("account-id", account_id.as_ref(), builder);
                let app_id = id("app-id", app_id.as_ref(), builder);
                let whole = (account_id, app_id, secret);
                let account = match whole {
                    (Some(account_id), Some(app_id), Some(token)) => {
                        Some(Account::Cloudflare { account_id, app_id, token })
                    }
                    _ => None,
                };
                (CLOUDFLARE, account)
            }
            Ids::Legacy { organization_id } => {
                let organization_id = id("organization-id", organization_id.as_ref(), builder);
                let account = organization_id
                    .zip(secret)
                    .map(|(organization_id, secret)| Account::Legacy { organization_id, secret });
                (LEGACY, account)
            }
        };
        let url = match &self.url {
            Some(given) => builder.url(Some(given), base, default),
            None => Some(Url::parse(default).expect("a constant that a test parses")),
        };
        Some(Settings { url: url?, network: builder.network.clone(), account: account? })
    }
}

/// An id that stands in the path of every call, or in front of a colon in the credential.
fn id(key: &str, given: Option<&Located<String>>, builder: &mut Builder<'_>) -> Option<String> {
    let Located { value, place } = given?;
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    if !value.is_empty() && value.len() <= MAX_ID && value.chars().all(plain) {
        return Some(value.clone());
    }
    let message = format!("{key} is no id: letters, digits, - and _, at most {MAX_ID}");
    builder.found.error(*place, message, "copy it from the dashboard");
    None
}
