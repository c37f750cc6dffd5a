//! `ca`, `proxy` and `proxy-secret` of a server, or of a node of it: how it is reached.

use std::fs::File;
use std::io::{self, Read};

use ::url::Url;

use super::diagnostics::Located;
use super::document::Section;
use super::file::{Secret, optional_secret};
use super::servers::Builder;
use super::url;
use crate::platform::PlatformSettings;
use crate::platform::network::{Network, Proxy, Trust};

/// Bytes of a file of certificates; a whole machine's authorities take about 250 KiB.
const MAX_CA: u64 = 1 << 20;
/// Takes away from a node the proxy that its server has.
const NO_PROXY: &str = "none";
const PROXY_EXAMPLE: &str = "http://proxy.example.org:3128";

#[derive(Default)]
pub(super) struct NetworkKeys {
    ca: Option<Located<String>>,
    proxy: Option<Located<String>>,
    proxy_secret: Option<Located<Secret>>,
}

pub(super) fn read(section: &mut Section<'_, '_>) -> NetworkKeys {
    NetworkKeys {
        ca: section.get("ca"),
        proxy: section.get("proxy"),
        proxy_secret: optional_secret(section, "proxy-secret"),
    }
}

impl Builder<'_> {
    /// What is not given is as `outer` has it. What is wrong is reported, and left out.
    pub(super) fn network(&mut self, given: &NetworkKeys, outer: &Network) -> Network {
        let trust = given.ca.as_ref().and_then(|ca| self.trust(ca)).or_else(|| outer.trust.clone());
        let proxy = match &given.proxy {
            None => outer.proxy.clone(),
            Some(given) if given.value == NO_PROXY => None,
            Some(proxy) => self.proxy(proxy, given.proxy_secret.as_ref()),
        };
        if let (None, Some(secret)) = (&given.proxy, &given.proxy_secret) {
            let hint = format!("add proxy = {PROXY_EXAMPLE:?}");
            self.found.error(secret.place, "there is a proxy-secret, and no proxy", hint);
        }
        Network { trust, proxy }
    }

    fn trust(&mut self, Located { value: path, place }: &Located<String>) -> Option<Trust> {
        if !path.starts_with('/') {
            let message = "ca must be the absolute path of a file";
            self.found.error(*place, message, "write ca = \"/etc/adjourn/NAME.pem\"");
            return None;
        }
        let trust = match contents(path) {
            Ok(pem) => Trust::from_pem(&pem),
            Err(error) => Err(format!("cannot be read: {error}")),
        };
        let hint = "it is PEM, readable by the daemon: the certificate of the authority, or the server's own";
        let trust = trust.map_err(|why| format!("the certificates in {path} {why}"));
        trust.map_err(|message| self.found.error(*place, message, hint)).ok()
    }

    fn proxy(
        &mut self,
        Located { value, place }: &Located<String>,
        secret: Option<&Located<Secret>>,
    ) -> Option<Proxy> {
        let url = match proxy_url(value) {
            Ok(url) => url,
            Err((message, hint)) => {
                if value.contains('@') {
                    // A password may be in it.
                    self.found.mask(*place);
                }
                self.found.error(*place, message, hint);
                return None;
            }
        };
        let Some(given) = secret else { return Proxy::new(url, None).ok() };
        let credentials = self.secret(secret)?;
        if super::secret::is_unread(&credentials) {
            return Proxy::new(url, None).ok();
        }
        let proxy = Proxy::new(url, Some(&credentials));
        let hint = "its content is USER:PASSWORD, as the proxy knows them";
        proxy.map_err(|why| self.found.error(given.place, format!("proxy-secret: {why}"), hint)).ok()
    }

    /// What serves only where calls are encrypted.
    pub(super) fn check_network(&mut self, given: &NetworkKeys, platform: &PlatformSettings) {
        let addresses = platform.addresses(&"".into());
        let clear = |used: fn(&Network) -> bool| {
            addresses.iter().any(|(_, url, network)| url.scheme() == "http" && used(network))
        };
        if let Some(proxy) = &given.proxy
            && clear(|network| network.proxy.is_some())
        {
            let message =
                "a proxy is only for https://, and this server, or a node of it, is called at http://";
            let hint =
                "what is not encrypted would pass the proxy in clear; proxy = \"none\" takes it from a node";
            self.found.error(proxy.place, message, hint);
        }
        if let Some(ca) = given.ca.as_ref().filter(|_| clear(|network| network.trust.is_some())) {
            let message = "ca says nothing for http://: no certificate is asked for there";
            self.found.note(ca.place, message, "use https://");
        }
    }
}

fn contents(path: &str) -> io::Result<Vec<u8>> {
    // Asked first: opening a pipe would block.
    if !std::fs::metadata(path)?.is_file() {
        return Err(io::Error::other("it is not a regular file"));
    }
    let mut pem = Vec::new();
    File::open(path)?.take(MAX_CA + 1).read_to_end(&mut pem)?;
    if pem.len() as u64 > MAX_CA {
        return Err(io::Error::other(format!("it is larger than {} MiB", MAX_CA >> 20)));
    }
    Ok(pem)
}

/// Host and port, and nothing else. The error never repeats the text.
fn proxy_url(text: &str) -> Result<Url, (String, String)> {
    let example = || format!("write it like {PROXY_EXAMPLE:?}");
    let url = url::base(text).map_err(|error| match error {
        url::UrlError::UserInfo => {
            let hint =
                "leave it out, and write proxy-secret = { file = \"/path\" }, whose content is USER:PASSWORD";
            ("the url of the proxy contains a user name or a password".to_owned(), hint.to_owned())
        }
        error => (format!("proxy: {error}"), example()),
    })?;
    if url.scheme() != "http" || url.path() != "/" {
        let message = "a proxy is named by http://, its host and its port, and nothing else";
        return Err((message.to_owned(), example()));
    }
    Ok(url)
}
