//! The base URL of an API, as people paste it.

use std::net::{Ipv4Addr, Ipv6Addr};

use url::{Host, Url};

/// Why a text is no base URL. Never repeats it: it may carry a password or a checksum.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum UrlError {
    #[error("url is not a URL: {0}")]
    Syntax(url::ParseError),
    #[error("url begins with {0}://, not https:// or http://")]
    Scheme(String),
    #[error("url contains a user name or a password")]
    UserInfo,
    #[error("url contains a query (what follows ?)")]
    Query,
    #[error("url contains a fragment (what follows #)")]
    Fragment,
    #[error("url has the path {0:?}, which is not the base of a BigBlueButton API")]
    Path(String),
}

impl UrlError {
    /// What to do.
    pub fn hint(&self, example: &str) -> String {
        match self {
            UrlError::UserInfo | UrlError::Query | UrlError::Fragment => "leave it out".to_owned(),
            _ => format!("write it like {example}"),
        }
    }
}

/// Reads the base URL of a BigBlueButton API and gives it the one form that the platform works with: it ends in `/api/`.
///
/// Accepted are `.../bigbluebutton/`, `.../bigbluebutton/api` and `.../bigbluebutton/api/`, and the base of a load
/// balancer under any path, as long as it ends in `/api`.
pub fn api_base(text: &str) -> Result<Url, UrlError> {
    let mut url = base(text)?;
    let path = url.path().trim_end_matches('/');
    let base = match path.rsplit('/').next() {
        Some("api") => format!("{path}/"),
        Some("bigbluebutton") => format!("{path}/api/"),
        _ => return Err(UrlError::Path(url.path().to_owned())),
    };
    url.set_path(&base);
    Ok(url)
}

/// Reads a base URL of any API. Its path ends in a slash, so that the paths of calls can be joined to it.
pub fn base(text: &str) -> Result<Url, UrlError> {
    let mut url = Url::parse(text.trim()).map_err(UrlError::Syntax)?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(UrlError::Scheme(url.scheme().to_owned()));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(UrlError::UserInfo);
    }
    if url.query().is_some() {
        return Err(UrlError::Query);
    }
    if url.fragment().is_some() {
        return Err(UrlError::Fragment);
    }
    let path = format!("{}/", url.path().trim_end_matches('/'));
    url.set_path(&path);
    Ok(url)
}

/// `true` if what is sent there can be read on the way: meeting ids, passwords, and checksums that can be replayed.
pub fn is_in_clear(url: &Url) -> bool {
    let loopback = match url.host() {
        Some(Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
        Some(Host::Ipv4(address)) => Ipv4Addr::is_loopback(&address),
        Some(Host::Ipv6(address)) => Ipv6Addr::is_loopback(&address),
        None => false,
    };
    url.scheme() == "http" && !loopback
}

/// Host, and port where one is given: the name of a node.
pub fn authority(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: &str) {
        let found = api_base(text).map_or_else(|error| error.to_string(), |url| url.to_string());
        assert_eq!(found, expected);
    }

    #[test]
    fn bases_that_people_paste() {
        check("https://h/bigbluebutton", "https://h/bigbluebutton/api/");
        check("https://h/bigbluebutton/", "https://h/bigbluebutton/api/");
        check("https://h/bigbluebutton/api", "https://h/bigbluebutton/api/");
        check(" https://h/bigbluebutton/api/ ", "https://h/bigbluebutton/api/");
        check("https://h:8443/b3lb/t/tenant/bbb/api", "https://h:8443/b3lb/t/tenant/bbb/api/");
        check("HTTP://H/api", "http://h/api/");
    }

    #[test]
    fn others() {
        check("h/bigbluebutton/api", "url is not a URL: relative URL without a base");
        check("ftp://h/bigbluebutton/api", "url begins with ftp://, not https:// or http://");
        check("https://u:hunter2@h/bigbluebutton/api", "url contains a user name or a password");
        check("https://h/bigbluebutton/api?checksum=1", "url contains a query (what follows ?)");
        check("https://h/bigbluebutton/api#x", "url contains a fragment (what follows #)");
        check("https://h", "url has the path \"/\", which is not the base of a BigBlueButton API");
        check(
            "https://h/bigbluebutton/api/getMeetings",
            "url has the path \"/bigbluebutton/api/getMeetings/\", which is not the base of a BigBlueButton API",
        );
    }

    #[test]
    fn in_clear() {
        let clear = |text: &str| is_in_clear(&Url::parse(text).unwrap());
        assert!(
            clear("http://bbb.example.org/") && clear("http://10.0.0.1/") && clear("http://notlocalhost/")
        );
        assert!(
            !clear("https://bbb.example.org/")
                && !clear("http://localhost/")
                && !clear("http://a.localhost/")
        );
        assert!(!clear("http://127.0.0.1:8090/") && !clear("http://[::1]:8090/"));
    }

    #[test]
    fn names_of_nodes() {
        let name = |text: &str| authority(&Url::parse(text).unwrap());
        assert_eq!(name("https://node1.example.org/bigbluebutton/api/"), "node1.example.org");
        assert_eq!(name("http://127.0.0.1:8090/api/"), "127.0.0.1:8090");
    }
}
