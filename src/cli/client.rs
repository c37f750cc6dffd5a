//! The client side of the control socket.

use std::error::Error;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use reqwest::{Body, Method, RequestBuilder, Response};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with, sockopt};
use rustix::process::geteuid;
use serde::de::DeserializeOwned;
use serde_json::Value;
use url::Url;

use super::failure::Failure;
use crate::control::wire::ProblemDocument;
use crate::control::{CLI_AGENT, KEEP_ALIVE, REQUEST_TIMEOUT};
use crate::exit::ExitCode;
use crate::group;

/// The daemon answers, or says that it cannot, within [`REQUEST_TIMEOUT`]; more than this and it hangs.
const PATIENCE: Duration = REQUEST_TIMEOUT.saturating_add(Duration::from_secs(5));

#[derive(Clone)]
pub struct Client {
    http: reqwest::Client,
    socket: PathBuf,
}

impl Client {
    pub fn new(socket: &Path) -> Result<Client, Failure> {
        refuse_stranger(socket)?;
        let http = reqwest::Client::builder()
            .unix_socket(socket)
            .http1_only()
            .no_proxy()
            .tls_certs_only([])
            .read_timeout(KEEP_ALIVE * 3)
            .user_agent(format!("{CLI_AGENT}{}", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|error| Failure::new(ExitCode::Temporary, format!("cannot start: {error}")))?;
        Ok(Client { http, socket: socket.to_owned() })
    }

    pub async fn get(&self, path: &[&str], query: &[(&str, String)]) -> Result<Value, Failure> {
        let mut url = url(path);
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        self.answer(self.http.get(url).timeout(PATIENCE)).await
    }

    pub async fn send(&self, method: Method, path: &[&str], body: &Value) -> Result<Value, Failure> {
        self.answer(self.http.request(method, url(path)).json(body).timeout(PATIENCE)).await
    }

    /// The same, if the job still has this revision.
    pub async fn send_if(
        &self,
        method: Method,
        path: &[&str],
        body: &Value,
        revision: u64,
    ) -> Result<Value, Failure> {
        let request = self.http.request(method, url(path)).header("if-match", format!("\"{revision}\""));
        self.answer(request.json(body).timeout(PATIENCE)).await
    }

    pub async fn submit(&self, body: &Value, key: Option<&str>) -> Result<Value, Failure> {
        let mut request = self.http.post(url(&["jobs"])).json(body).timeout(PATIENCE);
        if let Some(key) = key {
            request = request.header("idempotency-key", key);
        }
        self.answer(request).await
    }

    /// What the same submit would be answered; makes nothing.
    pub async fn would_submit(&self, body: &Value, key: Option<&str>) -> Result<Value, Failure> {
        let mut url = url(&["jobs"]);
        url.query_pairs_mut().append_pair("dry-run", "true");
        let mut request = self.http.post(url).json(body).timeout(PATIENCE);
        if let Some(key) = key {
            request = request.header("idempotency-key", key);
        }
        self.answer(request).await
    }

    /// The stream of events; silence for three keep-alives ends it.
    pub async fn events(&self, job: Option<&str>) -> Result<Response, Failure> {
        let mut url = url(&["events"]);
        if let Some(job) = job {
            url.query_pairs_mut().append_pair("job", job);
        }
        self.stream(self.http.get(url)).await
    }

    /// Jobs as lines; the end of the stream is the end of the jobs.
    pub async fn export(&self, query: &[(&str, String)]) -> Result<Response, Failure> {
        let mut url = url(&["jobs", "export"]);
        url.query_pairs_mut().extend_pairs(query);
        self.stream(self.http.get(url)).await
    }

    /// Lines as jobs: the answers come while the body is still being sent.
    pub async fn import(&self, body: Body, replace: bool) -> Result<Response, Failure> {
        let mut url = url(&["jobs", "import"]);
        if replace {
            url.query_pairs_mut().append_pair("replace", "true");
        }
        let request = self.http.post(url);
        self.stream(request.header("content-type", "application/x-ndjson").body(body)).await
    }

    async fn stream(&self, request: RequestBuilder) -> Result<Response, Failure> {
        let response = request.send().await.map_err(|error| self.unreachable(error))?;
        if response.status().is_success() { Ok(response) } else { Err(self.refusal(response).await) }
    }

    /// The stream, or the answer, broke off.
    pub fn unreachable(&self, error: reqwest::Error) -> Failure {
        let socket = self.socket.display();
        if error.is_timeout() {
            let what = format!("the daemon at {socket} does not answer");
            return Failure::new(ExitCode::Temporary, what)
                .hint("look into its log; `adjourn list` tells what it did");
        }
        match io_kind(&error) {
            Some(io::ErrorKind::PermissionDenied) => self.forbidden(),
            Some(io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) => {
                let what = format!("no daemon listens on {socket}");
                Failure::new(ExitCode::Unreachable, what).hint(
                    "start it with `systemctl start adjourn` or `adjourn daemon`, \
                     or name its socket with --socket or ADJOURN_SOCKET",
                )
            }
            _ => {
                let why = innermost(&error.without_url());
                let what = format!("the connection to the daemon at {socket} failed: {why}");
                Failure::new(ExitCode::Unreachable, what)
                    .hint("is it running? see `systemctl status adjourn`")
            }
        }
    }

    fn forbidden(&self) -> Failure {
        let what = format!("your user may not use the control socket {}", self.socket.display());
        let gid = std::fs::metadata(&self.socket).ok().map(|file| file.gid());
        Failure::new(ExitCode::Permission, what).hint(way_in(gid))
    }

    async fn answer(&self, request: RequestBuilder) -> Result<Value, Failure> {
        let response = request.send().await.map_err(|error| self.unreachable(error))?;
        if !response.status().is_success() {
            return Err(self.refusal(response).await);
        }
        let body = response.bytes().await.map_err(|error| self.unreachable(error))?;
        serde_json::from_slice(&body).map_err(|_| self.stranger())
    }

    async fn refusal(&self, response: Response) -> Failure {
        let status = response.status().as_u16();
        match response.json::<ProblemDocument>().await {
            Ok(problem) => Failure::refused(status, plain(&problem.detail)).hint(problem.hint),
            Err(_) => self.stranger(),
        }
    }

    fn stranger(&self) -> Failure {
        let what = format!("what answers on {} does not speak as adjourn does", self.socket.display());
        Failure::new(ExitCode::Refused, what).hint("is the daemon of the same version? see `adjourn status`")
    }
}

/// The detail of a refusal without the words of the protocol, which whoever typed a command has not spoken.
pub fn plain(detail: &str) -> &str {
    let of_request = ["the body: ", "the query: "];
    of_request.iter().find_map(|words| detail.strip_prefix(words)).unwrap_or(detail)
}

/// A socket on a path that others may write to could be anybody's, who would be told of deadlines and answer for them.
/// Whether somebody listens at all, the request itself finds out.
fn refuse_stranger(socket: &Path) -> Result<(), Failure> {
    let Some(uid) = listener(socket) else { return Ok(()) };
    let parent = socket.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let owner = std::fs::metadata(parent).map_or(0, |dir| dir.uid());
    if is_trusted(uid, geteuid().as_raw(), owner) {
        return Ok(());
    }
    let what = format!(
        "what listens on {} belongs to the user {uid}, who is neither you, nor root, nor the owner of its directory",
        socket.display()
    );
    Err(Failure::new(ExitCode::Permission, what)
        .hint("name the daemon's own socket with --socket or ADJOURN_SOCKET; it belongs into a directory of the daemon's user"))
}

fn is_trusted(uid: u32, me: u32, owner_of_directory: u32) -> bool {
    [0, me, owner_of_directory].contains(&uid)
}

/// The user who listens there, as the kernel knows.
fn listener(path: &Path) -> Option<u32> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None).ok()?;
    connect(&socket, &SocketAddrUnix::new(path).ok()?).ok()?;
    sockopt::socket_peercred(&socket).ok().map(|peer| peer.uid.as_raw())
}

/// How to be let in to a socket of this group.
fn way_in(gid: Option<u32>) -> String {
    match gid {
        // Nobody should join root's group for this.
        None | Some(0) => {
            "use sudo, or have the socket given to a group of yours (`[control]` in the schedule file)"
                .to_owned()
        }
        Some(gid) => {
            let group = group::name_of(gid).unwrap_or_else(|| gid.to_string());
            format!("join its group: `sudo usermod -aG {group} $USER`, then log in again")
        }
    }
}

/// The part of an answer that is printed for people.
pub fn typed<T: DeserializeOwned>(answer: &Value) -> Result<T, Failure> {
    T::deserialize(answer).map_err(|error| {
        let what = format!("the daemon's answer is not understood: {error}");
        Failure::new(ExitCode::Refused, what)
            .hint("is the daemon of the same version? `--json` shows its answer")
    })
}

/// The host does not matter on a Unix socket. Segments are percent-encoded, slashes in meeting ids too.
fn url(path: &[&str]) -> Url {
    let mut url = Url::parse("http://adjourn/v1").expect("this is a URL");
    url.path_segments_mut().expect("http has a path").extend(path);
    url
}

fn io_kind(error: &reqwest::Error) -> Option<io::ErrorKind> {
    let mut source = error.source();
    while let Some(inner) = source {
        if let Some(io) = inner.downcast_ref::<io::Error>() {
            return Some(io.kind());
        }
        source = inner.source();
    }
    None
}

fn innermost(error: &reqwest::Error) -> String {
    let mut inner: &dyn Error = error;
    while let Some(source) = inner.source() {
        inner = source;
    }
    inner.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_with_slashes_stay_one_segment() {
        let url = url(&["servers", "campus", "meetings", "a/b ü?", "extend"]);
        assert_eq!(url.path(), "/v1/servers/campus/meetings/a%2Fb%20%C3%BC%3F/extend");
    }

    #[tokio::test]
    async fn an_absent_daemon_is_named_with_the_way_to_start_it() {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("control.sock");
        let failure = Client::new(&socket).unwrap().get(&["status"], &[]).await.unwrap_err();
        assert_eq!(failure.exit(), ExitCode::Unreachable);
        assert_eq!(failure.what(), format!("no daemon listens on {}", socket.display()));
        assert!(failure.next().contains("adjourn daemon") && failure.next().contains("--socket"));

        drop(std::os::unix::net::UnixListener::bind(&socket).unwrap());
        let failure = Client::new(&socket).unwrap().get(&["status"], &[]).await.unwrap_err();
        assert_eq!(failure.exit(), ExitCode::Unreachable);
    }

    #[test]
    fn only_root_oneself_and_the_owner_of_the_directory_are_talked_to() {
        assert!(is_trusted(0, 1_000, 1_001) && is_trusted(1_000, 1_000, 0) && is_trusted(991, 1_000, 991));
        // In /tmp, which is root's.
        assert!(!is_trusted(1_001, 1_000, 0) && !is_trusted(1_001, 0, 0));
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s");
        assert_eq!(listener(&path), None);
        let _listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
        assert_eq!(listener(&path), Some(geteuid().as_raw()));
        assert!(refuse_stranger(&path).is_ok());
    }

    #[test]
    fn a_forbidden_socket_names_the_group_to_join_unless_that_is_root() {
        assert!(way_in(None).contains("sudo"));
        assert!(!way_in(Some(0)).contains("usermod"));
        let daemon = group::name_of(1).expect("every system has a group 1");
        assert!(way_in(Some(1)).contains(&format!("usermod -aG {daemon} $USER")));
        assert!(way_in(Some(4_000_000)).contains("usermod -aG 4000000 $USER"));
    }

    #[tokio::test]
    async fn what_is_no_daemon_is_said_to_be_none() {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("control.sock");
        let listener = tokio::net::UnixListener::bind(&socket).unwrap();
        let routes = axum::Router::new().fallback(|| async { "hello" });
        let serving = tokio::spawn(async move { axum::serve(listener, routes).await });
        let failure = Client::new(&socket).unwrap().get(&["status"], &[]).await.unwrap_err();
        assert!(failure.what().contains("does not speak as adjourn does"), "{}", failure.what());
        serving.abort();
    }
}
