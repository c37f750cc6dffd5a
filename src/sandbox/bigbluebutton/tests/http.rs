//! The same over real connections, through reqwest.

use std::io::{self, Write};
use std::sync::atomic::{AtomicI64, Ordering};

use reqwest::{Client, Method, Response, StatusCode};
use tokio::sync::{mpsc, oneshot};

use super::*;
use crate::sandbox::command;
use crate::sandbox::listening::STOP_TIME;

const PATIENCE: Duration = Duration::from_secs(20);

/// A sandbox with a clock that stands until it is moved.
struct Site {
    sandbox: Sandbox,
    clock: Arc<AtomicI64>,
    client: Client,
}

impl Site {
    async fn start() -> Site {
        Site::with(|_| {}).await
    }

    async fn with(change: impl FnOnce(&mut Options)) -> Site {
        let clock = Arc::new(AtomicI64::new(START * 1_000 + 3));
        let mut options = Options::new({
            let clock = Arc::clone(&clock);
            Arc::new(move || clock.load(Ordering::Relaxed))
        });
        change(&mut options);
        let client = Client::builder().no_proxy().timeout(PATIENCE).build().unwrap();
        Site { sandbox: Sandbox::start(options).await.unwrap(), clock, client }
    }

    fn wait(&self, ms: i64) {
        self.clock.fetch_add(ms * 1_000, Ordering::Relaxed);
    }

    fn url(&self, call: &str, query: &str) -> String {
        signed_url(&self.sandbox.url(), self.sandbox.secret(), call, query)
    }

    async fn try_get(&self, call: &str, query: &str) -> reqwest::Result<Response> {
        self.client.get(self.url(call, query)).send().await
    }

    async fn get(&self, call: &str, query: &str) -> String {
        let response = self.try_get(call, query).await.unwrap();
        assert_eq!(response.status(), StatusCode::OK);
        response.text().await.unwrap()
    }

    async fn control(&self, method: Method, route: &str, body: &str) -> (StatusCode, serde_json::Value) {
        let url = format!("{}{route}", self.sandbox.control_url());
        let request = self.client.request(method, url).header("content-type", "application/json");
        let response = request.body(body.to_owned()).send().await.unwrap();
        let status = response.status();
        let text = response.text().await.unwrap();
        (status, serde_json::from_str(&text).unwrap_or(serde_json::Value::String(text)))
    }
}

fn signed_url(base: &str, secret: &str, call: &str, query: &str) -> String {
    let checksum = Hash::Sha256.checksum(call, query, secret);
    let query = if query.is_empty() { String::new() } else { format!("{query}&") };
    format!("{base}{call}?{query}checksum={checksum}")
}

#[tokio::test]
async fn a_meeting_is_ended_over_http() {
    let site = Site::start().await;
    let internal_id = site.sandbox.create_meeting(&NewMeeting::new("a b&c")).unwrap();
    let info = site.get("getMeetingInfo", "meetingID=a+b%26c").await;
    assert!(info.contains(&internal_id) && info.contains("<meetingID>a b&amp;c</meetingID>"), "{info}");
    assert!(site.get("end", "meetingID=a%20b%26c").await.contains("sentEndMeetingRequest"));
    site.wait(100);
    assert!(site.get("getMeetings", "").await.contains("noMeetings"));
    let truth = site.sandbox.truth(&Asked::default());
    assert!(!truth.instance(&internal_id).unwrap().alive());
    let [hit] = truth.hits(&internal_id) else { panic!("{truth:?}") };
    assert_eq!(hit.request, 2);
    let record = truth.requests_of(Call::End).next().unwrap();
    assert_eq!((record.received_at, record.received_us), (UtcMs(START), START * 1_000 + 3));
    assert_eq!(site.sandbox.counters().of(Call::End), 1);
    site.sandbox.stop().await;
}

#[tokio::test]
async fn the_checksum_is_over_the_bytes_on_the_wire() {
    let site = Site::start().await;
    let url = site.url("getMeetingInfo", "meetingID=a%20b").replace("a%20b", "a+b");
    let answer = site.client.get(url).send().await.unwrap().text().await.unwrap();
    assert!(answer.contains("checksumError"), "{answer}");
}

#[tokio::test]
async fn the_probe_is_at_both_forms_of_the_base() {
    let site = Site::start().await;
    for base in [site.sandbox.url(), site.sandbox.url().trim_end_matches('/').to_owned()] {
        let response = site.client.get(base).send().await.unwrap();
        assert_eq!(response.headers()["content-type"], "text/xml;charset=utf-8");
        assert!(response.text().await.unwrap().contains("graphqlWebsocketUrl"));
    }
    let elsewhere = format!("http://{}/bigbluebutton/", site.sandbox.address());
    assert_eq!(site.client.get(elsewhere).send().await.unwrap().status(), StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn only_create_may_be_posted() {
    let site = Site::start().await;
    let ended = site.client.post(site.url("end", "meetingID=m")).send().await.unwrap();
    assert_eq!(ended.status(), StatusCode::METHOD_NOT_ALLOWED);
    assert_eq!(ended.headers()["allow"], "GET");
    let created =
        site.client.post(site.url("create", "meetingID=m")).body("<modules/>").send().await.unwrap();
    assert!(created.text().await.unwrap().contains("SUCCESS"));
    let (base, form) = site.url("create", "meetingID=form").split_once('?').map(owned).unwrap();
    let created = site.client.post(base).body(form).send().await.unwrap();
    assert!(created.text().await.unwrap().contains("<meetingID>form</meetingID>"));
}

fn owned((a, b): (&str, &str)) -> (String, String) {
    (a.to_owned(), b.to_owned())
}

#[tokio::test]
async fn the_date_is_the_servers_own() {
    let site = Site::start().await;
    site.sandbox.set_fault(Fault::ClockSkew { ms: 3_600_000 }.everywhere()).unwrap();
    let response = site.try_get("getMeetings", "").await.unwrap();
    assert_eq!(response.headers()["date"], "Tue, 01 Dec 2026 18:00:00 GMT");
}

#[tokio::test]
async fn throttling_carries_its_header() {
    let site = Site::start().await;
    site.sandbox.set_fault(Fault::Throttled { status: 429, retry_after: Some(9) }.everywhere()).unwrap();
    let response = site.try_get("getMeetings", "").await.unwrap();
    assert_eq!(response.status(), StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(response.headers()["retry-after"], "9");
}

#[tokio::test]
async fn a_closed_connection_is_an_error_and_not_an_answer() {
    let site = Site::start().await;
    let internal_id = site.sandbox.create_meeting(&NewMeeting::new("m")).unwrap();
    for reset in [false, true] {
        site.sandbox.set_fault(Fault::Down { reset }.everywhere().times(1)).unwrap();
        let error = site.try_get("end", "meetingID=m").await.unwrap_err();
        assert!(!error.is_timeout(), "{error:?}");
    }
    assert!(site.sandbox.truth(&Asked::default()).hits(&internal_id).is_empty());
    site.sandbox.set_fault(Fault::AnswerLost.everywhere().times(1)).unwrap();
    let error = site.try_get("end", "meetingID=m").await.unwrap_err();
    assert!(!error.is_timeout(), "{error:?}");
    assert_eq!(site.sandbox.truth(&Asked::default()).hits(&internal_id).len(), 1);
    assert_eq!(site.sandbox.counters().of(Call::End), 3, "each was sent once");
}

#[tokio::test]
async fn a_reset_is_a_reset_on_the_wire() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    let site = Site::start().await;
    for reset in [false, true] {
        site.sandbox.set_fault(Fault::Down { reset }.everywhere().times(1)).unwrap();
        let mut tcp = tokio::net::TcpStream::connect(site.sandbox.address()).await.unwrap();
        tcp.write_all(b"GET /bigbluebutton/api/ HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
        let mut answer = Vec::new();
        let read = tcp.read_to_end(&mut answer).await;
        assert!(answer.is_empty(), "{answer:?}");
        match reset {
            true => assert_eq!(read.unwrap_err().kind(), io::ErrorKind::ConnectionReset),
            false => assert_eq!(read.unwrap(), 0),
        }
    }
}

#[tokio::test]
async fn slow_answers_come_late_and_hanging_ones_never() {
    let (seen, mut arrived) = mpsc::unbounded_channel();
    let site = Site::with(|options| {
        options.observer = Some(Arc::new(move |record: &Record| {
            let _ = seen.send(record.answer.clone());
        }));
    })
    .await;
    let internal_id = site.sandbox.create_meeting(&NewMeeting::new("m")).unwrap();
    // What the server has decided is known before anybody could have waited for it.
    for (fault, hits) in [(Fault::Hang, 0), (Fault::Slow { ms: 60_000 }, 1)] {
        site.sandbox.set_fault(fault.clone().everywhere().times(1)).unwrap();
        let waiting = tokio::spawn(site.client.get(site.url("end", "meetingID=m")).send());
        let answer = arrived.recv().await.unwrap();
        assert_eq!(answer == Answered::Never, hits == 0, "{fault:?}: {answer:?}");
        assert_eq!(site.sandbox.truth(&Asked::default()).hits(&internal_id).len(), hits, "{fault:?}");
        assert!(!waiting.is_finished(), "{fault:?}");
        waiting.abort();
    }
    site.sandbox.set_fault(Fault::Slow { ms: 20 }.everywhere().times(1)).unwrap();
    assert!(site.get("getMeetings", "").await.contains("SUCCESS"));
}

#[tokio::test]
async fn stopping_waits_for_nothing_that_hangs() {
    let (seen, mut arrived) = mpsc::unbounded_channel();
    let site = Site::with(|options| {
        options.observer = Some(Arc::new(move |record: &Record| {
            let _ = seen.send(record.answer.clone());
        }));
    })
    .await;
    site.sandbox.set_fault(Fault::Hang.everywhere()).unwrap();
    let waiting = tokio::spawn(site.client.get(site.url("getMeetings", "")).send());
    assert_eq!(arrived.recv().await, Some(Answered::Never));
    tokio::time::timeout(STOP_TIME / 2, site.sandbox.stop()).await.expect("stopped in time");
    assert!(!waiting.await.unwrap().unwrap_err().is_timeout());
}

#[tokio::test]
async fn a_huge_answer_is_well_formed_and_has_no_length() {
    let site = Site::start().await;
    site.sandbox.create_meeting(&NewMeeting::new("m")).unwrap();
    site.sandbox.set_fault(Fault::Huge { mib: 3 }.everywhere()).unwrap();
    let response = site.try_get("getMeetings", "").await.unwrap();
    assert_eq!(response.content_length(), None);
    let body = response.text().await.unwrap();
    assert!(body.len() > 3 * 1024 * 1024 && well_formed(&body));
    assert!(body.contains("<meetingID>m</meetingID>"));
}

#[tokio::test]
async fn nodes_are_served_beside_their_balancer() {
    let site = Site::with(|options| options.settings.front = Front::Balancer).await;
    let internal_id = site.sandbox.create_meeting(&NewMeeting::new("m")).unwrap();
    let base = site.sandbox.node_url("node1");
    let url = signed_url(&base, site.sandbox.node_secret(), "getMeetings", "");
    let listing = site.client.get(url).send().await.unwrap().text().await.unwrap();
    assert!(listing.contains(&internal_id));
    assert_eq!(site.sandbox.counters().servers["node1"][&Call::GetMeetings], 1);
}

#[tokio::test]
async fn every_control_route_does_what_its_method_does() {
    let site = Site::start().await;
    let (status, created) = site.control(Method::POST, "meetings", r#"{"meeting_id":"m"}"#).await;
    assert_eq!(status, StatusCode::CREATED);
    let internal_id = created["internal_id"].as_str().unwrap().to_owned();
    let body = r#"{"meeting_id":"m","participants":7}"#;
    assert_eq!(site.control(Method::PATCH, "meetings", body).await.0, StatusCode::NO_CONTENT);
    assert!(site.get("getMeetingInfo", "meetingID=m").await.contains("<participantCount>7<"));

    let (status, fault) = site.control(Method::PUT, "faults", r#"{"fault":"zombie","meeting":"m"}"#).await;
    assert_eq!((status, &fault["id"]), (StatusCode::CREATED, &1.into()));
    let (_, standing) = site.control(Method::GET, "faults", "").await;
    assert_eq!(standing[0]["order"]["fault"], "zombie");
    assert!(site.get("end", "meetingID=m").await.contains("SUCCESS"));
    let (_, cleared) = site.control(Method::DELETE, "faults?id=1", "").await;
    assert_eq!(cleared["cleared"], 1);

    let (_, truth) = site.control(Method::GET, "truth?meeting=m", "").await;
    let truth: Truth = serde_json::from_value(truth).unwrap();
    assert_eq!(truth.hits(&internal_id)[0].effect, Effect::Zombie);
    assert_eq!(truth, site.sandbox.truth(&Asked { meeting: Some("m".to_owned()), ..Asked::default() }));
    let (_, ends) = site.control(Method::GET, "requests?call=end&since=1", "").await;
    assert_eq!(ends.as_array().unwrap().len(), 1);
    let (_, counters) = site.control(Method::GET, "counters", "").await;
    assert_eq!(counters["servers"]["front"]["getMeetingInfo"], 1);

    assert_eq!(site.control(Method::DELETE, "meetings?meeting=m", "").await.0, StatusCode::NO_CONTENT);
    assert!(!site.sandbox.truth(&Asked::default()).instance(&internal_id).unwrap().alive());
}

#[tokio::test]
async fn bad_orders_change_nothing_and_say_why() {
    let site = Site::start().await;
    let cases = [
        (Method::POST, "faults", r#"{"fault":"zombie","metting":"m"}"#, 422, "metting"),
        (Method::POST, "faults", r#"{"fault":"zomby"}"#, 422, "zomby"),
        (Method::POST, "faults", r#"{"fault":"zombie","server":"node7"}"#, 404, "node7"),
        (Method::POST, "faults", "{", 400, "JSON"),
        (Method::POST, "meetings", r#"{"name":"nameless"}"#, 422, "meeting_id"),
        (Method::PATCH, "meetings", r#"{"meeting_id":"m","participants":1}"#, 404, "alive"),
        (Method::DELETE, "meetings?meeting=m", "", 404, "alive"),
        (Method::GET, "truth?who=m", "", 400, "who"),
    ];
    for (method, route, body, status, word) in cases {
        let (got, answer) = site.control(method, route, body).await;
        assert_eq!(got.as_u16(), status, "{route} {body}: {answer}");
        assert!(answer.to_string().contains(word), "{word:?} in {answer}");
    }
    assert!(site.sandbox.faults().is_empty());
    assert!(site.sandbox.truth(&Asked::default()).meetings.is_empty());
}

#[tokio::test]
async fn https_with_a_certificate_of_its_own() {
    let folder = tempfile::tempdir().unwrap();
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned(), "127.0.0.1".to_owned()]).unwrap();
    let files = TlsFiles { cert: folder.path().join("cert.pem"), key: folder.path().join("key.pem") };
    std::fs::write(&files.cert, made.cert.pem()).unwrap();
    std::fs::write(&files.key, made.signing_key.serialize_pem()).unwrap();
    let site = Site::with(|options| options.tls = Some(files.clone())).await;
    assert!(site.sandbox.url().starts_with("https://"));
    // A client that says nothing must not hold up the next one.
    let _silent = tokio::net::TcpStream::connect(site.sandbox.address()).await.unwrap();
    let root = reqwest::Certificate::from_pem(made.cert.pem().as_bytes()).unwrap();
    let builder = Client::builder().no_proxy().timeout(PATIENCE).tls_certs_only([root]);
    let client = builder.build().unwrap();
    let answer = client.get(site.url("getMeetings", "")).send().await.unwrap().text().await.unwrap();
    assert!(answer.contains("noMeetings"));
    site.sandbox.set_fault(Fault::Down { reset: true }.everywhere()).unwrap();
    assert!(!client.get(site.url("getMeetings", "")).send().await.unwrap_err().is_timeout());

    let options =
        Options { tls: Some(TlsFiles { key: files.cert.clone(), ..files }), ..Options::new(Arc::new(|| 0)) };
    let error = Sandbox::start(options).await.err().expect("a certificate is no key");
    assert!(error.to_string().contains("no usable private key in"), "{error}");
}

#[tokio::test]
async fn loopback_only_and_one_at_a_port() {
    let everywhere = SocketAddr::from(([0, 0, 0, 0], 0));
    let options = Options { listen: everywhere, ..Options::new(Arc::new(|| 0)) };
    let error = Sandbox::start(options).await.err().expect("not loopback");
    assert!(error.to_string().contains("loopback only"), "{error}");
    let site = Site::start().await;
    let options = Options { listen: site.sandbox.address(), ..Options::new(Arc::new(|| 0)) };
    let error = Sandbox::start(options).await.err().expect("in use");
    assert!(error.to_string().contains("is in use"), "{error}");
}

/// Hands on what is written, piece by piece.
struct Pieces(mpsc::UnboundedSender<String>);

impl Write for Pieces {
    fn write(&mut self, piece: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(piece).into_owned();
        self.0.send(text).map_err(|_| io::ErrorKind::BrokenPipe)?;
        Ok(piece.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn the_command_introduces_itself_and_logs_requests() {
    #[derive(clap::Parser)]
    struct Line {
        #[command(flatten)]
        options: command::Options,
    }
    let line =
        ["sandbox", "--listen", "127.0.0.1:0", "--front", "scalelite", "--nodes", "2", "--meetings", "3"];
    let Line { options } = clap::Parser::parse_from(line);
    let (pieces, mut written) = mpsc::unbounded_channel();
    let (stop, stopped) = oneshot::channel::<()>();
    let shutdown = async { drop(stopped.await) };
    let running = tokio::spawn(command::run(options, Arc::new(|| START * 1_000), Pieces(pieces), shutdown));
    let introduction = written.recv().await.unwrap();
    let base = introduction.lines().next().unwrap().split_once(" at ").unwrap().1.to_owned();
    assert!(introduction.contains(&format!("url      = \"{base}\"")), "{introduction}");
    let block: String = introduction
        .lines()
        .skip_while(|l| !l.starts_with("[servers"))
        .map(|l| l.to_owned() + "\n")
        .take_while(|l| !l.starts_with("export"))
        .collect();
    let block: toml::Table = block.parse().expect("the server block is TOML");
    assert_eq!(block["servers"]["sandbox"]["nodes"].as_array().unwrap().len(), 2);
    assert!(introduction.contains("/control/truth"));

    let url = signed_url(&base, DEMO_SECRET, "getMeetings", "");
    let listing =
        Client::builder().no_proxy().build().unwrap().get(url).send().await.unwrap().text().await.unwrap();
    assert_eq!(listing.matches("<meeting>").count(), 3);
    let logged = written.recv().await.unwrap();
    assert!(logged.contains("2026-12-01T17:00:00.000Z  front  getMeetings"), "{logged}");
    assert!(!logged.contains("checksum"), "{logged}");
    stop.send(()).unwrap();
    running.await.unwrap().unwrap();
}
