//! Stage three for `[servers.*]`: what all platforms need. The keys of each are in [`platforms`](super::platforms).

use std::collections::{BTreeMap, BTreeSet};

use secrecy::SecretString;
use url::Url;

use super::diagnostics::{Diagnostics, Located};
use super::document::did_you_mean;
use super::file;
use super::names;
use super::resolve::{check_lock, check_pin_before, check_warn, merge_limits};
use super::secret::{self, Environment};
use super::settings::ServerSettings;
use super::url::{UrlError, is_in_clear};
use crate::job::{Limits, ServerName};
use crate::platform::network::Network;

/// End calls in flight at once.
const DEFAULT_MAX_CONCURRENT: usize = 16;
const MOST_CONCURRENT: i64 = 256;

/// What it takes to build the settings of a server.
pub(super) struct Builder<'a> {
    pub defaults: &'a Limits,
    pub env: &'a Environment,
    pub found: &'a mut Diagnostics,
    /// How the server at hand is reached.
    pub network: Network,
    /// A secret of the server at hand was not read.
    pub unread: bool,
    /// Servers of which that is true.
    pub without_secrets: BTreeSet<ServerName>,
}

/// The same account at the same address twice: each would take what the other ends for a sign that the server has lost
/// its state.
pub(super) fn check_twins<'a>(
    given: impl Iterator<Item = &'a file::Server>,
    servers: &BTreeMap<ServerName, ServerSettings>,
    found: &mut Diagnostics,
) {
    let mut seen: Vec<(&Located<String>, &ServerSettings)> = Vec::new();
    for name in given.map(|server| &server.name) {
        let Some(settings) = servers.get(&ServerName::from(name.value.as_str())) else { continue };
        let twin = seen.iter().find(|(_, other)| other.platform.is_same_account(&settings.platform));
        if let Some((first, _)) = twin {
            let message = format!(
                "[servers.{}] is the same account at the same address as [servers.{}] at {}",
                name.value,
                first.value,
                found.at(first.place)
            );
            found.error(name.place, message, "keep one of the two, and name it in all entries");
        }
        seen.push((name, settings));
    }
}

impl Builder<'_> {
    /// `None` only if something was reported.
    pub fn server(&mut self, server: &file::Server) -> Option<(ServerName, ServerSettings)> {
        let name = names::server_name(&server.name.value).map_err(|error| {
            self.found.error(server.name.place, error.to_string(), "give the server another name");
        });
        let limits = merge_limits(&server.limits, self.defaults, self.found);
        let max_concurrent = self.max_concurrent(server.max_concurrent.as_ref());
        self.unread = false;
        self.network = self.network(&server.network, &Network::default());
        let platform = server.platform.as_ref()?.settings(self)?;
        self.check_network(&server.network, &platform);
        if self.unread {
            self.without_secrets.extend(name.as_ref().ok().cloned());
        }
        let place = server.limits.lock.as_ref().map_or(server.name.place, |lock| lock.place);
        check_lock(&server.name.value, &platform, &limits, place, self.found);
        let place = server.limits.warn.as_ref().map_or(server.name.place, |warn| warn.place);
        check_warn(&server.name.value, &platform, &limits, place, self.found);
        let place = server.limits.pin_before().map_or(server.name.place, |pin| pin.place);
        check_pin_before(&server.name.value, &platform, &limits, place, self.found);
        let thought_of = server.limits.keep_closed().is_some() || !limits.keep_closed.is_zero();
        if platform.rejoins_are_new() && !thought_of {
            let message =
                format!("whoever comes back after an end is in a new session on {}", server.name.value);
            self.found.note(
                server.name.place,
                message,
                "keep-closed = \"10m\" ends that too; \"0s\" says that it is not wanted",
            );
        }
        Some((name.ok()?, ServerSettings { platform, limits, max_concurrent }))
    }

    fn max_concurrent(&mut self, given: Option<&Located<i64>>) -> usize {
        let Some(Located { value, place }) = given else { return DEFAULT_MAX_CONCURRENT };
        match usize::try_from(*value) {
            Ok(n) if (1..=MOST_CONCURRENT).contains(value) => n,
            _ => {
                let message = format!("max-concurrent is {value}, not between 1 and {MOST_CONCURRENT}");
                self.found.error(*place, message, format!("the default is {DEFAULT_MAX_CONCURRENT}"));
                DEFAULT_MAX_CONCURRENT
            }
        }
    }

    /// An address as `parse` wants it; `example` shows people how.
    pub fn url(
        &mut self,
        given: Option<&Located<String>>,
        parse: fn(&str) -> Result<Url, UrlError>,
        example: &str,
    ) -> Option<Url> {
        let Located { value, place } = given?;
        let url = match parse(value) {
            Ok(url) => url,
            Err(error) => {
                if value.contains(['@', '?', '#']) {
                    // A password or a checksum may be in it.
                    self.found.mask(*place);
                }
                self.found.error(*place, error.to_string(), error.hint(example));
                return None;
            }
        };
        if is_in_clear(&url) {
            let message =
                "this server is called without encryption: what proves who we are can be read on the way";
            self.found.note(*place, message, "use https://");
        }
        Some(url)
    }

    pub fn secret(&mut self, given: Option<&Located<file::Secret>>) -> Option<SecretString> {
        let secret = secret::load(given?, self.env, self.found)?;
        self.unread |= secret::is_unread(&secret);
        Some(secret)
    }

    /// `None` if it was not given, or not understood, which has then been reported.
    pub fn choice<T: Copy>(
        &mut self,
        key: &str,
        given: Option<&Located<String>>,
        all: &[(&str, T)],
    ) -> Option<T> {
        let Located { value, place } = given?;
        if let Some((_, chosen)) = all.iter().find(|(name, _)| name == value) {
            return Some(*chosen);
        }
        let names: Vec<&str> = all.iter().map(|(name, _)| *name).collect();
        let message = format!("{key} is {value:?}, not one of {}", names.join(", "));
        self.found.error(*place, message, did_you_mean(value, &names));
        None
    }
}
