//! HTTP as every platform uses it: one client, bounded in time and size, whose errors never carry a URL.
//!
//! - Nothing is followed and nothing is repeated behind our back: a redirect would carry a signed URL to somebody else, and
//!   a repeated end call would be one that no history shows.
//! - No proxy from the environment: deadlines must not depend on who started the daemon, and a proxy would see signed URLs.
//!   Where one must be, the server's own block names it ([`Network`]).
//! - Connections that were idle for long are not reused: a server may just have closed them, and the request that finds
//!   out is lost at the worst moment.
//! - Bodies are read piece by piece and refused as soon as they exceed the bound.

use std::error::Error;
use std::time::{Duration, SystemTime};

use reqwest::Method;
use reqwest::header::{AUTHORIZATION, DATE, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER};
use secrecy::{ExposeSecret, SecretString};
use url::Url;

use super::network::Network;
use crate::job::UtcMs;

/// The longest answer that is read: a listing of everything on a server.
pub const LISTING_LIMIT: usize = 64 * 1024 * 1024;
/// The longest answer to any other request.
pub const ANSWER_LIMIT: usize = 8 * 1024 * 1024;
/// A `Retry-After` beyond this is cut: a mistyped header must not park a deadline for a week.
pub const MAX_RETRY_AFTER: Duration = Duration::from_secs(3600);
/// Idle connections are closed after this, before usual servers (60 to 75 s) do it.
const POOL_IDLE: Duration = Duration::from_secs(30);
/// The `Date` header counts whole seconds; a smaller skew is noise.
const MIN_SKEW_MS: i64 = 1000;
/// The longest error text, in characters.
const ERROR_TEXT: usize = 300;

/// How long a request may take.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Timeouts {
    /// Name resolution, TCP and TLS.
    pub connect: Duration,
    /// From the start of the request to the last byte of its answer.
    pub total: Duration,
    /// The same for a listing.
    pub listing: Duration,
}

impl Default for Timeouts {
    fn default() -> Timeouts {
        Timeouts {
            connect: Duration::from_secs(5),
            total: Duration::from_secs(15),
            listing: Duration::from_secs(30),
        }
    }
}

/// Why there is no answer. The texts name no URL.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum HttpError {
    /// The request certainly never left: no name, no connection, no TLS.
    #[error("cannot connect: {0}")]
    NotSent(String),
    /// The request may have arrived and taken effect.
    #[error("no answer: {0}")]
    Lost(String),
    #[error("the answer is larger than {limit} bytes and was refused")]
    TooLarge { limit: usize },
}

/// A whole answer. Has no `Debug`: bodies carry passwords.
pub struct HttpAnswer {
    pub status: u16,
    pub body: Vec<u8>,
    /// The server's clock, whole seconds.
    pub date: Option<SystemTime>,
    retry_after: Option<String>,
}

impl HttpAnswer {
    /// `Retry-After` in any form (seconds, HTTP date, ISO 8601), at most [`MAX_RETRY_AFTER`]. A date is read against the server's own clock where it
    /// tells it, against `wall` otherwise.
    pub fn retry_after(&self, wall: UtcMs) -> Option<Duration> {
        retry_after(self.retry_after.as_deref()?, self.date, wall)
    }
}

/// One request. Has no `Debug`: it carries what proves who we are.
pub struct Request {
    pub method: Method,
    pub url: Url,
    pub authorization: Option<HeaderValue>,
    pub json: Option<serde_json::Value>,
}

impl Request {
    pub fn new(method: Method, url: Url) -> Request {
        Request { method, url, authorization: None, json: None }
    }
}

/// The value of an `Authorization` header, kept out of every log. `None` if no header can carry these bytes.
pub fn authorization(value: &SecretString) -> Option<HeaderValue> {
    let mut header = HeaderValue::from_str(value.expose_secret()).ok()?;
    header.set_sensitive(true);
    Some(header)
}

#[derive(Clone)]
pub struct Client {
    inner: reqwest::Client,
    timeouts: Timeouts,
}

impl Client {
    /// Fails only where TLS cannot be set up on this machine.
    pub fn new(timeouts: Timeouts, network: &Network) -> Result<Client, String> {
        let builder = reqwest::Client::builder()
            .user_agent(concat!("adjourn/", env!("CARGO_PKG_VERSION")))
            .redirect(reqwest::redirect::Policy::none())
            .retry(reqwest::retry::never())
            .referer(false)
            .connect_timeout(timeouts.connect)
            .pool_idle_timeout(POOL_IDLE)
            .tcp_nodelay(true);
        let builder = network.apply(builder).map_err(|why| format!("cannot set up HTTPS: {why}"))?;
        let inner = builder
            .build()
            .map_err(|error| format!("cannot set up HTTPS on this machine: {}", causes(error)))?;
        Ok(Client { inner, timeouts })
    }

    pub fn timeouts(&self) -> Timeouts {
        self.timeouts
    }

    /// GET, whole body, at most `limit` bytes within `deadline`.
    pub async fn get(&self, url: Url, deadline: Duration, limit: usize) -> Result<HttpAnswer, HttpError> {
        self.send(Request::new(Method::GET, url), deadline, limit).await
    }

    /// Any request, whole answer, at most `limit` bytes within `deadline`.
    pub async fn send(
        &self,
        request: Request,
        deadline: Duration,
        limit: usize,
    ) -> Result<HttpAnswer, HttpError> {
        self.send_noting(request, deadline, limit, &mut || ()).await
    }

    /// The same; `at_head` is called once the head of the answer is there. Its `Date` is as old as that moment, and not as
    /// a body that takes its time.
    pub async fn send_noting(
        &self,
        request: Request,
        deadline: Duration,
        limit: usize,
        at_head: &mut (dyn FnMut() + Send),
    ) -> Result<HttpAnswer, HttpError> {
        let Request { method, url, authorization, json } = request;
        let mut builder = self.inner.request(method, url).timeout(deadline);
        if let Some(authorization) = authorization {
            builder = builder.header(AUTHORIZATION, authorization);
        }
        if let Some(json) = &json {
            builder = builder.json(json);
        }
        let mut response = builder.send().await.map_err(classify)?;
        at_head();
        let announced = response.content_length().and_then(|length| usize::try_from(length).ok());
        if announced.is_some_and(|length| length > limit) {
            return Err(HttpError::TooLarge { limit });
        }
        let mut body = Vec::with_capacity(announced.unwrap_or(0));
        while let Some(piece) = response.chunk().await.map_err(classify)? {
            if body.len() + piece.len() > limit {
                return Err(HttpError::TooLarge { limit });
            }
            body.extend_from_slice(&piece);
        }
        let date = header(response.headers(), &DATE).and_then(|date| httpdate::parse_http_date(&date).ok());
        let retry_after = header(response.headers(), &RETRY_AFTER);
        Ok(HttpAnswer { status: response.status().as_u16(), body, date, retry_after })
    }
}

fn header(headers: &HeaderMap, name: &HeaderName) -> Option<String> {
    headers.get(name)?.to_str().ok().map(str::to_owned)
}

fn retry_after(value: &str, date: Option<SystemTime>, wall: UtcMs) -> Option<Duration> {
    let value = value.trim();
    if let Ok(seconds) = value.parse::<u64>() {
        return Some(Duration::from_secs(seconds).min(MAX_RETRY_AFTER));
    }
    let until = match httpdate::parse_http_date(value) {
        Ok(date) => unix_ms(date)?,
        // Against the standard, and seen all the same.
        Err(_) => UtcMs::from(value.parse::<jiff::Timestamp>().ok()?),
    };
    let from = date.and_then(unix_ms).unwrap_or(wall);
    let wait = u64::try_from(until.ms_since(from)).unwrap_or(0);
    Some(Duration::from_millis(wait).min(MAX_RETRY_AFTER))
}

/// The server's clock minus ours, as its answers tell.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Skew(Option<i64>);

impl Skew {
    /// What an answer's `Date` header says, received at `wall`; nothing is forgotten where there is none.
    pub fn note(&mut self, answer: &HttpAnswer, wall: UtcMs) {
        let Some(date) = answer.date.and_then(unix_ms) else { return };
        // Half a second: the header cuts the fraction off.
        self.0 = Some(date.0 + 500 - wall.0);
    }

    /// Milliseconds; `None`: no answer has told yet.
    pub fn ms(self) -> Option<i64> {
        self.0
    }

    /// An instant of ours, on the server's clock.
    pub fn theirs(self, at: UtcMs) -> UtcMs {
        UtcMs(at.0 + self.worth_correcting())
    }

    /// What corrects the instants that the server tells: a skew below what the header can show is none. `None`: no answer
    /// has told yet.
    pub fn ahead(self) -> Option<i64> {
        self.0.map(|_| self.worth_correcting())
    }

    fn worth_correcting(self) -> i64 {
        self.0.filter(|skew| skew.abs() > MIN_SKEW_MS).unwrap_or(0)
    }
}

/// How long answers took lately: the longest of them, forgotten little by little.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Pace(Duration);

impl Pace {
    pub fn note(&mut self, took: Duration) {
        self.0 = took.max(self.0 * 3 / 4);
    }

    pub fn lately(self) -> Duration {
        self.0
    }
}

/// A `Date` header as our instants are.
pub fn unix_ms(at: SystemTime) -> Option<UtcMs> {
    let since = at.duration_since(SystemTime::UNIX_EPOCH).ok()?;
    i64::try_from(since.as_millis()).ok().map(UtcMs)
}

/// Could the request have reached the server? Only a failed connect (name, TCP, TLS) is a sure no.
fn classify(error: reqwest::Error) -> HttpError {
    if error.is_connect() || error.is_builder() {
        return HttpError::NotSent(causes(error));
    }
    if error.is_timeout() {
        return HttpError::Lost("timed out".to_owned());
    }
    HttpError::Lost(causes(error))
}

/// What lies beneath: reqwest's own text says little and prints the URL.
pub fn causes(error: reqwest::Error) -> String {
    let error = error.without_url();
    let mut texts: Vec<String> = Vec::new();
    let mut next: Option<&(dyn Error + 'static)> = error.source();
    while let Some(cause) = next {
        let text = cause.to_string();
        // Wrappers repeat what they wrap.
        if texts.last().is_none_or(|last| !last.contains(&text)) {
            texts.push(text);
        }
        next = cause.source();
    }
    if texts.is_empty() {
        texts.push(error.to_string());
    }
    texts.join(": ").chars().filter(|c| !c.is_control()).take(ERROR_TEXT).collect()
}

#[cfg(test)]
mod tests {
    use wiremock::matchers::any;
    use wiremock::{Mock, MockServer, ResponseTemplate};

    use super::*;

    fn client() -> Client {
        Client::new(Timeouts::default(), &Network::default()).expect("TLS works in tests")
    }

    async fn get(url: &str, limit: usize) -> Result<HttpAnswer, HttpError> {
        get_within(url, Timeouts::default().total, limit).await
    }

    async fn get_within(url: &str, deadline: Duration, limit: usize) -> Result<HttpAnswer, HttpError> {
        client().get(Url::parse(url).unwrap(), deadline, limit).await
    }

    async fn serve(answer: ResponseTemplate) -> MockServer {
        let server = MockServer::start().await;
        Mock::given(any()).respond_with(answer).mount(&server).await;
        server
    }

    #[tokio::test]
    async fn a_refused_connection_was_certainly_not_sent_and_the_error_names_no_url() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        drop(listener);
        let error = get(&format!("http://127.0.0.1:{port}/end?checksum=c0ffee"), 10).await.err().unwrap();
        assert!(matches!(error, HttpError::NotSent(_)), "{error:?}");
        assert!(!format!("{error} {error:?}").contains("c0ffee"));
    }

    #[tokio::test]
    async fn a_broken_tls_handshake_was_certainly_not_sent() {
        let server = serve(ResponseTemplate::new(200)).await;
        let url = server.uri().replace("http://", "https://");
        let error = get(&format!("{url}/end?checksum=c0ffee"), 10).await.err().unwrap();
        assert!(matches!(error, HttpError::NotSent(_)), "{error:?}");
    }

    #[tokio::test]
    async fn a_time_out_may_have_been_sent_and_names_no_url() {
        let server = serve(ResponseTemplate::new(200).set_delay(Duration::from_secs(20))).await;
        let url = format!("{}/end?checksum=c0ffee", server.uri());
        let error = get_within(&url, Duration::from_millis(300), 10).await.err().unwrap();
        assert_eq!(error, HttpError::Lost("timed out".to_owned()));
    }

    #[tokio::test]
    async fn a_connection_that_breaks_after_the_request_may_have_been_sent() {
        use tokio::io::AsyncReadExt;
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/end?checksum=c0ffee", listener.local_addr().unwrap());
        let peer = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            stream.read(&mut [0; 1024]).await.unwrap()
        });
        let error = get(&url, 10).await.err().unwrap();
        assert!(peer.await.unwrap() > 0);
        assert!(matches!(error, HttpError::Lost(_)), "{error:?}");
        assert!(!format!("{error} {error:?}").contains("c0ffee"));
    }

    #[tokio::test]
    async fn a_huge_answer_is_refused() {
        let server = serve(ResponseTemplate::new(200).set_body_bytes(vec![b'x'; 11])).await;
        assert_eq!(get(&server.uri(), 10).await.err(), Some(HttpError::TooLarge { limit: 10 }));
        assert_eq!(get(&server.uri(), 11).await.ok().map(|answer| answer.body.len()), Some(11));
    }

    #[tokio::test]
    async fn an_endless_answer_without_a_length_is_refused_while_it_streams() {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        let peer = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            assert!(stream.read(&mut [0; 1024]).await.unwrap() > 0);
            let head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
            stream.write_all(head).await.unwrap();
            while stream.write_all(b"4\r\nxxxx\r\n").await.is_ok() {}
        });
        assert_eq!(get(&url, 1000).await.err(), Some(HttpError::TooLarge { limit: 1000 }));
        peer.await.unwrap();
    }

    #[tokio::test]
    async fn a_redirect_is_an_answer_and_is_not_followed() {
        let there = serve(ResponseTemplate::new(200)).await;
        let here = serve(ResponseTemplate::new(302).insert_header("Location", there.uri().as_str())).await;
        assert_eq!(get(&here.uri(), 10).await.ok().map(|answer| answer.status), Some(302));
        assert!(there.received_requests().await.unwrap().is_empty());
    }

    #[tokio::test]
    async fn a_request_carries_its_method_its_authorization_and_its_body() {
        let server = serve(ResponseTemplate::new(200)).await;
        let request = Request {
            authorization: authorization(&SecretString::from("token")),
            json: Some(serde_json::json!({ "roomId": "r" })),
            ..Request::new(Method::POST, Url::parse(&server.uri()).unwrap())
        };
        let client = client();
        client.send(request, client.timeouts().total, 10).await.map_err(|e| e.to_string()).err();
        let got = &server.received_requests().await.unwrap()[0];
        assert_eq!((got.method.as_str(), got.headers["authorization"].to_str().unwrap()), ("POST", "token"));
        assert_eq!(got.body, br#"{"roomId":"r"}"#);
    }

    #[test]
    fn no_header_carries_a_line_break() {
        assert_eq!(authorization(&SecretString::from("a\nb")), None);
        assert!(!format!("{:?}", authorization(&SecretString::from("hush"))).contains("hush"));
    }

    #[test]
    fn a_skew_of_more_than_a_second_is_corrected() {
        let answer = |secs| HttpAnswer {
            status: 200,
            body: Vec::new(),
            date: Some(SystemTime::UNIX_EPOCH + Duration::from_secs(secs)),
            retry_after: None,
        };
        let mut skew = Skew::default();
        assert_eq!((skew.ms(), skew.ahead(), skew.theirs(UtcMs(7))), (None, None, UtcMs(7)));
        skew.note(&answer(100), UtcMs(100_900));
        assert_eq!((skew.ms(), skew.ahead(), skew.theirs(UtcMs(7))), (Some(-400), Some(0), UtcMs(7)));
        skew.note(&answer(160), UtcMs(100_500));
        assert_eq!(skew.ahead(), Some(60_000));
        assert_eq!(skew.theirs(UtcMs(100_000)), UtcMs(160_000));
    }

    #[tokio::test]
    async fn the_head_is_told_before_a_body_that_takes_its_time() {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = Url::parse(&format!("http://{}/", listener.local_addr().unwrap())).unwrap();
        let (seen, head_seen) = tokio::sync::oneshot::channel::<()>();
        let peer = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            assert!(stream.read(&mut [0; 1024]).await.unwrap() > 0);
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n").await.unwrap();
            // The body waits for the head to have been told.
            head_seen.await.unwrap();
            stream.write_all(b"ok").await.unwrap();
        });
        let mut seen = Some(seen);
        let mut at_head = || seen.take().map_or((), |seen| seen.send(()).unwrap_or(()));
        let request = Request::new(Method::GET, url);
        let total = Timeouts::default().total;
        let answer = client().send_noting(request, total, 10, &mut at_head).await;
        assert_eq!(answer.ok().map(|answer| answer.body), Some(b"ok".to_vec()));
        peer.await.unwrap();
    }

    #[test]
    fn a_slow_answer_is_forgotten_little_by_little() {
        let mut pace = Pace::default();
        for (took, lately) in [(400, 400), (0, 300), (0, 225), (1000, 1000)] {
            pace.note(Duration::from_millis(took));
            assert_eq!(pace.lately(), Duration::from_millis(lately));
        }
    }

    #[test]
    fn retry_after_is_read_in_all_forms_and_bounded() {
        let wall = UtcMs(784_111_777_000);
        let date = httpdate::parse_http_date("Sun, 06 Nov 1994 08:49:30 GMT").ok();
        let s = |secs| Some(Duration::from_secs(secs));
        assert_eq!(retry_after("7", None, wall), s(7));
        assert_eq!(retry_after("Sun, 06 Nov 1994 08:49:40 GMT", None, wall), s(3));
        assert_eq!(retry_after("Sun, 06 Nov 1994 08:49:40 GMT", date, UtcMs(0)), s(10));
        assert_eq!(retry_after("Sun, 06 Nov 1994 08:49:40 GMT", None, UtcMs(wall.0 * 2)), s(0));
        assert_eq!(retry_after("99999999", None, wall), Some(MAX_RETRY_AFTER));
        assert_eq!(retry_after("1994-11-06T08:49:40Z", None, wall), s(3));
        assert_eq!(
            retry_after("1994-11-06T09:49:40.5+01:00", date, UtcMs(0)),
            Some(Duration::from_millis(10_500))
        );
        assert_eq!(retry_after(" 3 ", None, wall), s(3));
        assert_eq!(retry_after("soon", None, wall), None);
    }
}
