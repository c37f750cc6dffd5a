//! Feeds over HTTPS: bounded in time, size and redirects; errors name no URL.

use std::time::Duration;

use reqwest::header::{
    ACCEPT, ETAG, HeaderMap, HeaderName, HeaderValue, IF_MODIFIED_SINCE, IF_NONE_MATCH, LAST_MODIFIED,
};
use reqwest::redirect::{Attempt, Policy};
use reqwest::{Client, StatusCode};
use url::Url;

use crate::platform::http::causes;
use crate::schedule::{FeedUrl, MAX_FEED};

/// Name resolution, TCP and TLS.
const CONNECT: Duration = Duration::from_secs(10);
/// From the start of the request to the last byte.
const TOTAL: Duration = Duration::from_secs(30);
/// One after the other.
const MAX_REDIRECTS: usize = 5;
/// Bytes of a validator that is sent back.
const MAX_VALIDATOR: usize = 1024;

/// What a server said about the version that it sent.
#[derive(Clone, Default)]
pub struct Validators {
    etag: Option<HeaderValue>,
    modified: Option<HeaderValue>,
}

pub enum Fetched {
    New(Vec<u8>, Validators),
    Unchanged,
}

pub struct Fetcher(Client);

impl Fetcher {
    pub fn new() -> Result<Fetcher, String> {
        let client = Client::builder()
            .user_agent(concat!("adjourn/", env!("CARGO_PKG_VERSION")))
            .redirect(Policy::custom(follow))
            .retry(reqwest::retry::never())
            .referer(false)
            .no_proxy()
            .connect_timeout(CONNECT)
            .timeout(TOTAL)
            .build();
        client.map(Fetcher).map_err(|error| format!("cannot set up HTTPS on this machine: {}", causes(error)))
    }

    /// `validators`: of the version that is there already.
    pub async fn fetch(&self, url: &FeedUrl, validators: &Validators) -> Result<Fetched, String> {
        let mut request = self.0.get(url.expose().clone()).header(ACCEPT, "text/calendar, */*;q=0.1");
        if let Some(etag) = &validators.etag {
            request = request.header(IF_NONE_MATCH, etag.clone());
        }
        if let Some(modified) = &validators.modified {
            request = request.header(IF_MODIFIED_SINCE, modified.clone());
        }
        let asked = validators.etag.is_some() || validators.modified.is_some();
        let mut response = request.send().await.map_err(why)?;
        match response.status() {
            StatusCode::NOT_MODIFIED if asked => return Ok(Fetched::Unchanged),
            StatusCode::OK => {}
            status => return Err(format!("its server answers {}", status.as_u16())),
        }
        let too_large = || format!("it is larger than {} MiB", MAX_FEED >> 20);
        if response.content_length().is_some_and(|length| length > MAX_FEED as u64) {
            return Err(too_large());
        }
        let validators = Validators::of(response.headers());
        let mut bytes = Vec::new();
        while let Some(piece) = response.chunk().await.map_err(why)? {
            if bytes.len() + piece.len() > MAX_FEED {
                return Err(too_large());
            }
            bytes.extend_from_slice(&piece);
        }
        Ok(Fetched::New(bytes, validators))
    }
}

impl Validators {
    fn of(headers: &HeaderMap) -> Validators {
        let short =
            |name: HeaderName| headers.get(name).filter(|value| value.len() <= MAX_VALIDATOR).cloned();
        Validators { etag: short(ETAG), modified: short(LAST_MODIFIED) }
    }
}

/// Redirects are followed to https only. What is configured in clear is on this machine, and may stay there.
fn follow(attempt: Attempt<'_>) -> reqwest::redirect::Action {
    if attempt.previous().len() > MAX_REDIRECTS {
        return attempt.error(format!("it redirects more than {MAX_REDIRECTS} times"));
    }
    let next = attempt.url();
    let stays = |url: &Url| url.scheme() == "http" && next.scheme() == "http" && url.host() == next.host();
    if next.scheme() == "https" || attempt.previous().iter().all(stays) {
        return attempt.follow();
    }
    attempt.error("it redirects to an address that is not https")
}

fn why(error: reqwest::Error) -> String {
    if error.is_timeout() {
        return "no answer in time".to_owned();
    }
    if error.is_redirect() {
        return causes(error);
    }
    let what = if error.is_connect() { "cannot connect" } else { "the answer broke off" };
    format!("{what}: {}", causes(error))
}
