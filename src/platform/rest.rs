//! JSON APIs with a token in the `Authorization` header, as far as they are alike: the request, the answer read as far as
//! it can be read, the server's clock. What an answer means is each platform's own.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use reqwest::Method;
use reqwest::header::HeaderValue;
use serde_json::Value;
use url::Url;

use super::Fault;
use super::http::{ANSWER_LIMIT, Client, HttpAnswer, HttpError, Pace, Request, Skew, Timeouts};
use super::network::Network;
use crate::job::{Now, ServerClock, Sighting, StartRange, UtcMs};

/// Answers above this many bytes are parsed off the async threads, which have deadlines to keep.
const PARSE_INLINE: usize = 256 * 1024;
/// So many characters of a stranger's text go into an error.
const TEXT: usize = 200;

pub type Clock = Arc<dyn Fn() -> Now + Send + Sync>;
/// What a told start is worth, see [`StartRange::told`].
pub type Told = Option<(UtcMs, StartRange)>;

/// One API with its address.
pub struct Rest {
    /// For people: the server's name in the configuration.
    pub label: String,
    base: Url,
    client: Client,
    clock: Clock,
    skew: Mutex<Skew>,
    pace: Mutex<Pace>,
}

/// One request. Has no `Debug`: it carries the token.
pub struct Ask<'a> {
    pub method: Method,
    /// What people call it in an error: `the end call`.
    pub what: &'a str,
    /// Below the base; each is percent-encoded.
    pub path: &'a [&'a str],
    pub query: &'a [(&'a str, &'a str)],
    pub json: Option<Value>,
    pub authorization: Option<HeaderValue>,
}

impl<'a> Ask<'a> {
    pub fn get(what: &'a str, path: &'a [&'a str], authorization: Option<HeaderValue>) -> Ask<'a> {
        Ask { method: Method::GET, what, path, query: &[], json: None, authorization }
    }

    pub fn post(what: &'a str, path: &'a [&'a str], authorization: Option<HeaderValue>) -> Ask<'a> {
        Ask { method: Method::POST, ..Ask::get(what, path, authorization) }
    }
}

/// What came back, whatever its status. Texts in it are a stranger's: take them through [`plain`].
#[derive(Clone, PartialEq, Debug)]
pub struct Reply {
    pub status: u16,
    /// `Err`: not JSON; what it begins with.
    pub json: Result<Value, String>,
    pub retry_after: Option<Duration>,
}

impl Reply {
    pub fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }

    /// The first of these JSON pointers that holds a text (or a number), otherwise what a body that is no JSON begins
    /// with; sanitised.
    pub fn message(&self, pointers: &[&str]) -> Option<String> {
        let text = match &self.json {
            Ok(Value::String(text)) => text.clone(),
            Ok(json) => pointers.iter().find_map(|pointer| scalar(json.pointer(pointer)?))?,
            Err(text) => text.clone(),
        };
        Some(plain(&text)).filter(|text| !text.is_empty())
    }
}

/// Why there is no reply at all. The texts name the server and the request, and no URL.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum NoReply {
    /// The request certainly never left.
    NotSent(String),
    /// It may have arrived and taken effect.
    Lost(String),
    /// It arrived; the answer was too large to be read.
    TooLarge(String),
}

impl NoReply {
    pub fn sighting(&self) -> Sighting {
        match self {
            NoReply::NotSent(why) | NoReply::Lost(why) => Sighting::Unreachable(why.clone()),
            NoReply::TooLarge(why) => Sighting::Doubtful(why.clone()),
        }
    }

    pub fn fault(&self) -> Fault {
        Fault::Unreachable(self.to_string())
    }

    /// May the request have taken effect?
    pub fn may_have_arrived(&self) -> bool {
        !matches!(self, NoReply::NotSent(_))
    }
}

impl fmt::Display for NoReply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            NoReply::NotSent(why) | NoReply::Lost(why) | NoReply::TooLarge(why) => f.write_str(why),
        }
    }
}

impl Rest {
    /// `base` ends in a slash. Fails only where HTTPS cannot be set up on this machine.
    pub fn new(
        label: String,
        base: Url,
        network: &Network,
        timeouts: Timeouts,
        clock: Clock,
    ) -> Result<Rest, Fault> {
        let client = Client::new(timeouts, network).map_err(Fault::Misconfigured)?;
        Ok(Rest { label, base, client, clock, skew: Mutex::default(), pace: Mutex::default() })
    }

    pub fn now(&self) -> Now {
        (self.clock)()
    }

    /// Of the last answer that told the time.
    pub fn skew(&self) -> Skew {
        *self.skew.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What a start that the server told is worth: many machines answer for a cloud, and the `Date` of one corrects none of
    /// the others.
    pub fn told(&self, at: UtcMs) -> Told {
        StartRange::told(at, ServerClock::Unknown, self.now().wall)
    }

    /// How long an answer took lately.
    pub fn answer_time(&self) -> Duration {
        self.pace.lock().unwrap_or_else(PoisonError::into_inner).lately()
    }

    /// An instant of ours, on the server's clock.
    pub fn theirs(&self, at: UtcMs) -> UtcMs {
        self.skew().theirs(at)
    }

    pub async fn send(&self, ask: Ask<'_>) -> Result<Reply, NoReply> {
        let Ask { method, what, path, query, json, authorization } = ask;
        // URLs swallow these: the request would be about something else.
        if path.iter().any(|segment| matches!(*segment, "" | "." | "..")) {
            return Err(NoReply::NotSent(format!(
                "{}: {what}: an id such as {path:?} fits in no path",
                self.label
            )));
        }
        let request = Request { method, url: self.url(path, query), authorization, json };
        let deadline = self.client.timeouts().total;
        let (begun, mut head) = (self.now(), None);
        let mut at_head = || head = Some(self.now());
        let sent = self.client.send_noting(request, deadline, ANSWER_LIMIT, &mut at_head).await;
        let answer = sent.map_err(|error| self.no_reply(what, &error))?;
        let now = self.now();
        let wall = head.unwrap_or(now).wall;
        self.skew.lock().unwrap_or_else(PoisonError::into_inner).note(&answer, wall);
        self.pace.lock().unwrap_or_else(PoisonError::into_inner).note(now.since(begun));
        let retry_after = answer.retry_after(wall);
        let HttpAnswer { status, body, .. } = answer;
        Ok(Reply { status, json: parse(body).await, retry_after })
    }

    fn url(&self, path: &[&str], query: &[(&str, &str)]) -> Url {
        let mut url = self.base.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().extend(path);
        }
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        url
    }

    fn no_reply(&self, what: &str, error: &HttpError) -> NoReply {
        let why = format!("{}: {what}: {error}", self.label);
        match error {
            HttpError::NotSent(_) => NoReply::NotSent(why),
            HttpError::Lost(_) => NoReply::Lost(why),
            HttpError::TooLarge { .. } => NoReply::TooLarge(why),
        }
    }
}

async fn parse(body: Vec<u8>) -> Result<Value, String> {
    let read = |body: &[u8]| {
        serde_json::from_slice(body)
            .map_err(|_| plain(&String::from_utf8_lossy(&body[..body.len().min(4 * TEXT)])))
    };
    if body.len() <= PARSE_INLINE {
        return read(&body);
    }
    let parsed = tokio::task::spawn_blocking(move || read(&body)).await;
    parsed.unwrap_or_else(|_| Err("could not be parsed".to_owned()))
}

fn scalar(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

/// A stranger's text for an error: one line, bounded, without control characters.
pub fn plain(text: &str) -> String {
    let words: Vec<&str> = text.split_whitespace().collect();
    words.join(" ").chars().filter(|c| !c.is_control()).take(TEXT).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use wiremock::matchers::any;
    use wiremock::{Mock, MockServer, ResponseTemplate};

    use super::*;
    use crate::job::BootMs;

    async fn ask(answer: ResponseTemplate, ask: Ask<'_>) -> (Reply, Vec<wiremock::Request>, Skew) {
        let server = MockServer::start().await;
        Mock::given(any()).respond_with(answer).mount(&server).await;
        let clock: Clock = Arc::new(|| Now { wall: UtcMs(784_111_777_000), boot: BootMs(0) });
        let base = Url::parse(&format!("{}/v2/", server.uri())).unwrap();
        let rest =
            Rest::new("tutoring".to_owned(), base, &Network::default(), Timeouts::default(), clock).unwrap();
        let reply = rest.send(ask).await.unwrap();
        (reply, server.received_requests().await.unwrap(), rest.skew())
    }

    #[tokio::test]
    async fn paths_and_queries_are_encoded_whatever_is_in_them() {
        let path = ["sessions", "a/../b?c#d"];
        let query = [("roomId", "x&y=z")];
        let answer = ResponseTemplate::new(200).set_body_json(json!({ "data": [] }));
        let (reply, requests, _) =
            ask(answer, Ask { query: &query, ..Ask::get("a look", &path, None) }).await;
        assert_eq!(requests[0].url.path(), "/v2/sessions/a%2F..%2Fb%3Fc%23d");
        assert_eq!(requests[0].url.query(), Some("roomId=x%26y%3Dz"));
        assert_eq!(reply.json, Ok(json!({ "data": [] })));
    }

    #[tokio::test]
    async fn whatever_comes_back_is_a_reply() {
        let answer = ResponseTemplate::new(429)
            .set_body_string("<html>\n  slow\u{1b}[31m down</html>")
            .insert_header("Retry-After", "7")
            .insert_header("Date", "Sun, 06 Nov 1994 08:49:39 GMT");
        let (reply, _, skew) = ask(answer, Ask::post("the end call", &["end"], None)).await;
        assert_eq!((reply.status, reply.retry_after), (429, Some(Duration::from_secs(7))));
        assert_eq!(reply.message(&["/message"]).as_deref(), Some("<html> slow[31m down</html>"));
        assert_eq!(skew.ms(), Some(2_500));
    }

    #[tokio::test]
    async fn an_id_that_a_path_would_swallow_is_never_sent() {
        let clock: Clock = Arc::new(|| Now { wall: UtcMs(0), boot: BootMs(0) });
        let base = Url::parse("http://127.0.0.1:9/v2/").unwrap();
        let rest =
            Rest::new("tutoring".to_owned(), base, &Network::default(), Timeouts::default(), clock).unwrap();
        for id in ["", ".", ".."] {
            let none =
                rest.send(Ask::post("the end call", &["sessions", id, "end"], None)).await.unwrap_err();
            assert!(none.to_string().contains("fits in no path"), "{none}");
        }
    }

    #[test]
    fn the_message_is_wherever_it_is() {
        let reply = |json| Reply { status: 400, json: Ok(json), retry_after: None };
        let message = |json| reply(json).message(&["/message", "/error/message", "/errors/0/code"]);
        assert_eq!(message(json!({ "message": "no" })).as_deref(), Some("no"));
        assert_eq!(message(json!({ "error": { "message": "no" } })).as_deref(), Some("no"));
        assert_eq!(message(json!({ "errors": [{ "code": 10000 }] })).as_deref(), Some("10000"));
        assert_eq!(message(json!("no")).as_deref(), Some("no"));
        assert_eq!(message(json!({ "success": false })), None);
    }

    #[tokio::test]
    async fn no_reply_says_whether_it_may_have_arrived_and_names_no_url() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let base = Url::parse(&format!("http://{}/hush/", listener.local_addr().unwrap())).unwrap();
        drop(listener);
        let clock: Clock = Arc::new(|| Now { wall: UtcMs(0), boot: BootMs(0) });
        let rest =
            Rest::new("tutoring".to_owned(), base, &Network::default(), Timeouts::default(), clock).unwrap();
        let none = rest.send(Ask::get("a look", &["hush"], None)).await.unwrap_err();
        assert!(!none.may_have_arrived(), "{none:?}");
        let said = none.to_string();
        assert!(said.starts_with("tutoring: a look: cannot connect") && !said.contains("hush"), "{said}");
    }
}
