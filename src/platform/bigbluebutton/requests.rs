//! Requests: a query whose signed bytes are the sent bytes, and one endpoint that answers or says why not.

use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use reqwest::Method;
use secrecy::{ExposeSecret, SecretString};
use sha1::Digest;
use url::Url;

use super::answer::{self, Answer, Entry, Info, Listing};
use super::probe::Seen;
use super::{Algorithm, Clock, Front};
use crate::job::{MeetingId, Now, ServerClock, Sighting, StartRange};
use crate::platform::Fault;
use crate::platform::http::{self, ANSWER_LIMIT, HttpAnswer, HttpError, LISTING_LIMIT, Pace, Request, Skew};

/// Everything but RFC 3986's unreserved characters, so that no URL library finds anything left to normalise after signing.
const ENCODE: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');
/// Answers above this many bytes are parsed off the async threads, which have deadlines to keep.
const PARSE_INLINE: usize = 256 * 1024;

/// Who speaks in the chat.
const CHAT_NAME: &str = "adjourn";

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Call {
    End,
    GetMeetingInfo,
    GetMeetings,
    IsMeetingRunning,
    SendChatMessage,
}

impl Call {
    pub(super) fn name(self) -> &'static str {
        match self {
            Call::End => "end",
            Call::GetMeetingInfo => "getMeetingInfo",
            Call::GetMeetings => "getMeetings",
            Call::IsMeetingRunning => "isMeetingRunning",
            Call::SendChatMessage => "sendChatMessage",
        }
    }
}

impl Algorithm {
    pub(super) fn name(self) -> &'static str {
        match self {
            Algorithm::Sha1 => "sha1",
            Algorithm::Sha256 => "sha256",
            Algorithm::Sha384 => "sha384",
            Algorithm::Sha512 => "sha512",
        }
    }

    /// Lower-case hex of the plain hash (not an HMAC); the server tells the algorithm by its length.
    fn hex(self, input: &[u8]) -> String {
        match self {
            Algorithm::Sha1 => hex(&sha1::Sha1::digest(input)),
            Algorithm::Sha256 => hex(&sha2::Sha256::digest(input)),
            Algorithm::Sha384 => hex(&sha2::Sha384::digest(input)),
            Algorithm::Sha512 => hex(&sha2::Sha512::digest(input)),
        }
    }
}

/// Why a call gave no usable answer. No text carries a URL or anything of a body but sanitised keys.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Problem {
    /// The request certainly never left.
    NotSent(String),
    /// Sent, but neither the API nor anything else said what became of it. `status`: what stands before the API answered.
    Lost {
        why: String,
        status: Option<u16>,
    },
    Throttled {
        why: String,
        retry_after: Option<Duration>,
    },
    /// HTTP 200, but not a whole answer of the API, or one that says nothing.
    Unreadable(String),
    Misconfigured(String),
}

impl Problem {
    pub(super) fn why(&self) -> &str {
        match self {
            Problem::NotSent(why) | Problem::Unreadable(why) | Problem::Misconfigured(why) => why,
            Problem::Lost { why, .. } | Problem::Throttled { why, .. } => why,
        }
    }

    pub(super) fn sighting(&self) -> Sighting {
        match self {
            Problem::NotSent(why) | Problem::Lost { why, .. } | Problem::Throttled { why, .. } => {
                Sighting::Unreachable(why.clone())
            }
            Problem::Unreadable(why) => Sighting::Doubtful(why.clone()),
            Problem::Misconfigured(why) => Sighting::Misconfigured(why.clone()),
        }
    }

    pub(super) fn fault(&self) -> Fault {
        match self {
            Problem::Misconfigured(why) => Fault::Misconfigured(why.clone()),
            other => Fault::Unreachable(other.why().to_owned()),
        }
    }

    /// Nothing came from the API itself: a restart of the server may hide behind it.
    pub(super) fn is_outage(&self) -> bool {
        matches!(self, Problem::NotSent(_) | Problem::Lost { .. } | Problem::Throttled { .. })
    }
}

/// What an endpoint taught us since the start.
#[derive(Default)]
pub(super) struct Known {
    pub(super) seen: Option<Seen>,
    /// The last try of a probe.
    pub(super) tried: Option<Now>,
    /// An instance-aimed end was answered with HTTP 500, as before 2.6.
    pub(super) instances_refused: bool,
    skew: Skew,
    info_pace: Pace,
    listing_pace: Pace,
}

/// One API base with its secret: the front, or a node behind it.
pub(super) struct Endpoint {
    /// For people: `campus`, or `campus (node n1)`.
    pub(super) label: String,
    base: Url,
    secret: SecretString,
    algorithm: Algorithm,
    client: http::Client,
    clock: Clock,
    /// As configured; [`Front::Auto`]: as a probe sees it.
    front: Front,
    known: Mutex<Known>,
}

impl Endpoint {
    pub(super) fn new(
        label: String,
        base: Url,
        secret: SecretString,
        algorithm: Algorithm,
        client: http::Client,
        clock: Clock,
        front: Front,
    ) -> Endpoint {
        Endpoint { label, base, secret, algorithm, client, clock, front, known: Mutex::default() }
    }

    /// What stands there, as configured or as a probe saw it; [`Front::Auto`]: not known yet.
    pub(super) fn front(&self) -> Front {
        match self.front {
            Front::Auto => self.known().seen.as_ref().map_or(Front::Auto, |seen| seen.front),
            configured => configured,
        }
    }

    /// The clock by which starts are told: only a server that answers for itself tells the time of its own machine.
    fn server_clock(&self) -> ServerClock {
        match (self.front(), self.known().skew.ahead()) {
            (Front::Direct, Some(ms)) => ServerClock::Ahead(ms),
            _ => ServerClock::Unknown,
        }
    }

    /// So many milliseconds, where its starts are not believed because its clock is that far off.
    pub(super) fn clock_is_off(&self) -> Option<i64> {
        let ServerClock::Ahead(ms) = self.server_clock() else { return None };
        (Duration::from_millis(ms.unsigned_abs()) > StartRange::SKEW_MAX).then_some(ms)
    }

    /// How long answers about one meeting, and listings, took lately.
    pub(super) fn paces(&self) -> (Duration, Duration) {
        let known = self.known();
        (known.info_pace.lately(), known.listing_pace.lately())
    }

    pub(super) fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().expect("no holder of this lock can panic")
    }

    pub(super) fn now(&self) -> Now {
        (self.clock)()
    }

    pub(super) async fn end(
        &self,
        meeting: &str,
        password: Option<&SecretString>,
    ) -> Result<Answer, Problem> {
        let mut params = vec![("meetingID", meeting)];
        if let Some(password) = password {
            params.push(("password", password.expose_secret()));
        }
        self.call(Call::End, &params).await
    }

    pub(super) async fn info(&self, meeting: &MeetingId) -> Result<Info, Problem> {
        let begun = self.now();
        let answer = self.call(Call::GetMeetingInfo, &[("meetingID", meeting.as_str())]).await?;
        let took = self.now().since(begun);
        self.known().info_pace.note(took);
        Ok(match answer::info(answer) {
            Info::Live(entry) => Info::Live(Box::new(self.corrected(*entry))),
            other => other,
        })
    }

    /// A line in the public chat. POST is not taken.
    pub(super) async fn say(&self, meeting: &str, text: &str) -> Result<Answer, Problem> {
        let params = [("meetingID", meeting), ("message", text), ("userName", CHAT_NAME)];
        self.call(Call::SendChatMessage, &params).await
    }

    /// Everything on the server, within `deadline`.
    pub(super) async fn listing(&self, deadline: Duration) -> Result<Listing, Problem> {
        let begun = self.now();
        let answer = self.call_within(Call::GetMeetings, &[], deadline, LISTING_LIMIT).await?;
        let took = self.now().since(begun);
        self.known().listing_pace.note(took);
        let entries =
            answer::listing(answer).map_err(|why| self.unreadable(Call::GetMeetings.name(), &why))?;
        Ok(Listing::new(entries.into_iter().map(|entry| self.corrected(entry)).collect()))
    }

    pub(super) fn listing_timeout(&self) -> Duration {
        self.client.timeouts().listing
    }

    pub(super) async fn running(&self, meeting: &str) -> Result<Answer, Problem> {
        self.call(Call::IsMeetingRunning, &[("meetingID", meeting)]).await
    }

    /// The API base itself, unsigned: what answers there, and its version.
    pub(super) async fn version(&self, deadline: Duration) -> Result<Answer, Problem> {
        self.fetch("the API base", self.base.clone(), deadline, ANSWER_LIMIT).await
    }

    pub(super) fn total_timeout(&self) -> Duration {
        self.client.timeouts().total
    }

    async fn call(&self, call: Call, params: &[(&str, &str)]) -> Result<Answer, Problem> {
        self.call_within(call, params, self.client.timeouts().total, ANSWER_LIMIT).await
    }

    async fn call_within(
        &self,
        call: Call,
        params: &[(&str, &str)],
        deadline: Duration,
        limit: usize,
    ) -> Result<Answer, Problem> {
        let url = signed(&self.base, call, params, &self.secret, self.algorithm);
        let answer = self.fetch(call.name(), url, deadline, limit).await?;
        if answer.keys.iter().any(|key| key == "checksumError") {
            return Err(Problem::Misconfigured(self.refusal("checksumError")));
        }
        Ok(answer)
    }

    async fn fetch(&self, what: &str, url: Url, deadline: Duration, limit: usize) -> Result<Answer, Problem> {
        let mut head = None;
        let mut at_head = || head = Some(self.now());
        let request = Request::new(Method::GET, url);
        let got = self.client.send_noting(request, deadline, limit, &mut at_head).await;
        let got = got.map_err(|error| self.failed(what, &error))?;
        self.known().skew.note(&got, head.unwrap_or_else(|| self.now()).wall);
        if got.status != 200 {
            return Err(self.status(what, &got));
        }
        parse(got.body).await.map_err(|why| self.unreadable(what, &why))
    }

    fn failed(&self, what: &str, error: &HttpError) -> Problem {
        let why = format!("{}: {what}: {error}", self.label);
        match error {
            HttpError::NotSent(_) => Problem::NotSent(why),
            HttpError::Lost(_) => Problem::Lost { why, status: None },
            HttpError::TooLarge { .. } => Problem::Unreadable(why),
        }
    }

    /// The API itself always answers 200: any other status is a proxy's, a balancer's or a dying server's, and 404 says
    /// nothing about the meeting.
    fn status(&self, what: &str, got: &HttpAnswer) -> Problem {
        let status = got.status;
        let why = format!("{} answered {what} with HTTP {status}", self.label);
        match status {
            401 | 403 => Problem::Misconfigured(self.refusal(&format!("HTTP {status}"))),
            429 | 503 => Problem::Throttled { why, retry_after: got.retry_after(self.now().wall) },
            300..=399 => {
                let why = format!("{why}, a redirect, which is not followed: configure the final URL");
                Problem::Lost { why, status: Some(status) }
            }
            _ => Problem::Lost { why: format!("{why}, not from the API itself"), status: Some(status) },
        }
    }

    fn unreadable(&self, what: &str, why: &str) -> Problem {
        Problem::Unreadable(format!("{}: the answer to {what} {why}", self.label))
    }

    fn refusal(&self, how: &str) -> String {
        format!(
            "{} refuses our signature ({how}): compare the secret and the checksum algorithm (ours is {}) with \
             `bbb-conf --secret` on the server",
            self.label,
            self.algorithm.name()
        )
    }

    /// The server's clock minus ours, as its last answer told.
    pub(super) fn skew_ms(&self) -> Option<i64> {
        self.known().skew.ms()
    }

    /// What its start is worth.
    fn corrected(&self, mut entry: Entry) -> Entry {
        let answered = self.now().wall;
        let told = entry.started_at.and_then(|at| StartRange::told(at, self.server_clock(), answered));
        (entry.started_at, entry.start) = told.unzip();
        entry
    }
}

async fn parse(body: Vec<u8>) -> Result<Answer, String> {
    if body.len() <= PARSE_INLINE {
        return answer::parse(&body);
    }
    let parsed = tokio::task::spawn_blocking(move || answer::parse(&body)).await;
    parsed.unwrap_or_else(|_| Err("could not be parsed".to_owned()))
}

/// The signed URL: the checksum covers the very bytes that are sent, and goes last.
fn signed(
    base: &Url,
    call: Call,
    params: &[(&str, &str)],
    secret: &SecretString,
    algorithm: Algorithm,
) -> Url {
    let query = query(params);
    let checksum = checksum(call.name(), &query, secret, algorithm);
    let separator = if query.is_empty() { "" } else { "&" };
    let mut url = base.clone();
    url.set_path(&format!("{}/{}", base.path().trim_end_matches('/'), call.name()));
    url.set_query(Some(&format!("{query}{separator}checksum={checksum}")));
    url
}

fn query(params: &[(&str, &str)]) -> String {
    let pairs: Vec<String> =
        params.iter().map(|(name, value)| format!("{name}={}", utf8_percent_encode(value, ENCODE))).collect();
    pairs.join("&")
}

fn checksum(call: &str, query: &str, secret: &SecretString, algorithm: Algorithm) -> String {
    let input = SecretString::from(format!("{call}{query}{}", secret.expose_secret()));
    algorithm.hex(input.expose_secret().as_bytes())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECRET: &str = "639259d4-9dd8-4b25-bf01-95f9567eaf4b";

    #[track_caller]
    fn check(call: &str, query: &str, algorithm: Algorithm, expected: &str) {
        assert_eq!(checksum(call, query, &SecretString::from(SECRET), algorithm), expected);
    }

    #[test]
    fn checksums_equal_the_published_vectors() {
        let create = "name=Test+Meeting&meetingID=abc123&attendeePW=111222&moderatorPW=333444";
        check("create", create, Algorithm::Sha1, "1fcbb0c4fc1f039f73aa6d697d2db9ba7f803f17");
        let end = "meetingID=test01&password=mp";
        check("end", end, Algorithm::Sha1, "b0d70d9a5e879889a216d7b2248ef593958b7a23");
        let sha256 = "48cf7c4e249e8735d4052b834570279bea9385d6447be499aa55bd1e3edb6608";
        check("end", end, Algorithm::Sha256, sha256);
        check("getMeetings", "", Algorithm::Sha1, "2027baa7771026e9e93392f55031535d1444c41f");
        let sha256 = "a5370c5f3d97d56d53b435684cdbc429c2898a3bf9f435518b4279e1e0dbfc8c";
        check("getMeetings", "", Algorithm::Sha256, sha256);
    }

    /// FIPS 180 gives no vector for our input; the well-known ones of the empty string and `abc` hold the long hashes.
    #[test]
    fn the_long_algorithms_are_the_plain_hashes() {
        let sha384 = Algorithm::Sha384.hex(b"abc");
        assert!(sha384.starts_with("cb00753f45a35e8bb5a03d699ac65007272c32ab0eded1631a8b605a43ff5bed"));
        assert_eq!(sha384.len(), 96);
        let sha512 = Algorithm::Sha512.hex(b"abc");
        assert!(sha512.starts_with("ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a"));
        assert_eq!(sha512.len(), 128);
    }

    #[test]
    fn the_checksum_goes_last_and_an_empty_query_has_no_ampersand() {
        let base = Url::parse("https://h/bigbluebutton/api/").unwrap();
        let secret = SecretString::from(SECRET);
        let url = signed(&base, Call::GetMeetings, &[], &secret, Algorithm::Sha1);
        let expected =
            "https://h/bigbluebutton/api/getMeetings?checksum=2027baa7771026e9e93392f55031535d1444c41f";
        assert_eq!(url.as_str(), expected);
        let params = [("meetingID", "test01"), ("password", "mp")];
        let url = signed(&base, Call::End, &params, &secret, Algorithm::Sha1);
        let query = "meetingID=test01&password=mp&checksum=b0d70d9a5e879889a216d7b2248ef593958b7a23";
        assert_eq!(url.query(), Some(query));
    }

    proptest! {
        /// The url crate must find nothing to change after signing.
        #[test]
        fn what_is_signed_is_what_is_sent(meeting in ".{0,40}", password in ".{0,20}") {
            let base = Url::parse("https://h/bigbluebutton/api/").unwrap();
            let secret = SecretString::from(SECRET);
            let params = [("meetingID", meeting.as_str()), ("password", password.as_str())];
            let url = signed(&base, Call::End, &params, &secret, Algorithm::Sha256);
            let sent = Url::parse(url.as_str()).unwrap();
            let (raw, sum) = sent.query().unwrap().rsplit_once("&checksum=").unwrap();
            prop_assert_eq!(raw, query(&params));
            prop_assert_eq!(sum, checksum("end", raw, &secret, Algorithm::Sha256));
            let read: Vec<(String, String)> = sent.query_pairs().into_owned().collect();
            prop_assert_eq!(&read[0].1, &meeting);
            prop_assert_eq!(&read[1].1, &password);
        }
    }
}
