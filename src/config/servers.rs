//! Stage three for `[servers.*]`: URLs, secrets, and what the platforms offer.

use std::collections::BTreeMap;

use secrecy::SecretString;
use url::Url;

use super::diagnostics::{Diagnostics, Located, Place};
use super::document::did_you_mean;
use super::file;
use super::names;
use super::resolve::merge_limits;
use super::secret::{self, Environment};
use super::settings::{PlatformSettings, ServerSettings};
use super::url::{api_base, authority, is_in_clear};
use crate::job::{Limits, ServerName};
use crate::platform::bigbluebutton::{Algorithm, Front, NodeSettings, Settings};

/// End calls in flight at once.
const DEFAULT_MAX_CONCURRENT: usize = 16;
const MOST_CONCURRENT: i64 = 256;

const ALGORITHMS: [(&str, Algorithm); 4] = [
    ("sha1", Algorithm::Sha1),
    ("sha256", Algorithm::Sha256),
    ("sha384", Algorithm::Sha384),
    ("sha512", Algorithm::Sha512),
];
const FRONTS: [(&str, Front); 4] = [
    ("auto", Front::Auto),
    ("direct", Front::Direct),
    ("scalelite", Front::Scalelite),
    ("balancer", Front::Balancer),
];

/// What it takes to build the settings of a server.
pub(super) struct Builder<'a> {
    pub defaults: &'a Limits,
    pub env: &'a Environment,
    pub found: &'a mut Diagnostics,
}

impl Builder<'_> {
    /// `None` only if something was reported.
    pub fn server(&mut self, server: &file::Server) -> Option<(ServerName, ServerSettings)> {
        let name = names::server_name(&server.name.value).map_err(|error| {
            self.found.error(server.name.place, error.to_string(), "give the server another name");
        });
        let limits = merge_limits(&server.limits, self.defaults, self.found);
        let max_concurrent = self.max_concurrent(server.max_concurrent.as_ref());
        let platform = match server.platform.as_ref()? {
            file::Platform::BigBlueButton(bbb) => PlatformSettings::BigBlueButton(self.bigbluebutton(bbb)?),
        };
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

    fn bigbluebutton(&mut self, given: &file::BigBlueButton) -> Option<Settings> {
        let url = self.url(given.url.as_ref());
        let secret = self.secret(given.secret.as_ref());
        let checksum = self.choice("checksum", given.checksum.as_ref(), &ALGORITHMS).unwrap_or_default();
        let front = self.choice("front", given.front.as_ref(), &FRONTS).unwrap_or_default();
        let nodes = self.nodes(&given.nodes, checksum);
        if let (Front::Direct, Some(node)) = (front, given.nodes.first().and_then(|node| node.url.as_ref())) {
            let hint = "nodes are the servers behind a balancer: set front to scalelite, balancer or auto";
            self.found.note(
                node.place,
                "front = \"direct\" says that nothing stands in front of nodes",
                hint,
            );
        }
        Some(Settings {
            url: url?,
            secret: secret?,
            checksum,
            front,
            instance_ids: given.instance_ids.as_ref().map(|given| given.value),
            nodes,
        })
    }

    fn nodes(&mut self, given: &[file::Node], default: Algorithm) -> Vec<NodeSettings> {
        let mut seen: BTreeMap<Url, Place> = BTreeMap::new();
        let mut nodes: Vec<NodeSettings> = Vec::new();
        for node in given {
            let url = self.url(node.url.as_ref());
            let secret = self.secret(node.secret.as_ref());
            let checksum = self.choice("checksum", node.checksum.as_ref(), &ALGORITHMS).unwrap_or(default);
            let (Some(url), Some(given)) = (url, &node.url) else { continue };
            if let Some(first) = seen.insert(url.clone(), given.place) {
                let message = format!("this node is listed twice; first at {}", self.found.at(first));
                self.found.error(given.place, message, "keep one of the two");
            }
            let mut name = authority(&url);
            if nodes.iter().any(|known| known.name == name) {
                // Two nodes behind one host name differ in their paths.
                name.push_str(url.path());
            }
            nodes.extend(secret.map(|secret| NodeSettings { name, url, secret, checksum }));
        }
        nodes
    }

    fn url(&mut self, given: Option<&Located<String>>) -> Option<Url> {
        let Located { value, place } = given?;
        let url = match api_base(value) {
            Ok(url) => url,
            Err(error) => {
                if value.contains(['@', '?', '#']) {
                    // A password or a checksum may be in it.
                    self.found.mask(*place);
                }
                self.found.error(*place, error.to_string(), error.hint());
                return None;
            }
        };
        if is_in_clear(&url) {
            let message =
                "this server is called without encryption: passwords and checksums can be read on the way";
            self.found.note(*place, message, "use https://");
        }
        Some(url)
    }

    fn secret(&mut self, given: Option<&Located<file::Secret>>) -> Option<SecretString> {
        secret::load(given?, self.env, self.found)
    }

    /// `None` if it was not given, or not understood, which has then been reported.
    fn choice<T: Copy>(
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
