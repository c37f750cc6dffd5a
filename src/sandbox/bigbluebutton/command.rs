//! `adjourn sandbox`: the simulated server as a program of its own.

use std::future::Future;
use std::io::Write;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use clap::Args;
use secrecy::{ExposeSecret, SecretString};

use super::control::ROUTES;
use super::{
    Answered, DEMO_NODE_SECRET, DEMO_SECRET, Front, NewMeeting, Observer, Record, Sandbox, Settings,
    TimeSource, TlsFiles, Version,
};

/// Meetings that `--meetings` may create.
const MAX_MEETINGS: u32 = 100_000;

/// The arguments of `adjourn sandbox`.
#[derive(Args, Clone, Debug)]
pub struct Options {
    /// Where to listen; loopback only
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8099")]
    pub listen: SocketAddr,
    /// The server's shared secret; it guards nothing here
    #[arg(long, default_value = DEMO_SECRET)]
    pub secret: SecretString,
    /// Whose manners to show
    #[arg(long, value_enum, value_name = "VERSION", default_value = "3.0")]
    pub version_flavour: Version,
    /// What the base URL reaches
    #[arg(long, value_enum, default_value = "direct")]
    pub front: Front,
    /// Nodes behind the balancer
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=64))]
    pub nodes: u8,
    /// Serve HTTPS with this certificate chain (PEM)
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    pub tls_cert: Option<PathBuf>,
    /// The key of the certificate (PEM)
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    pub tls_key: Option<PathBuf>,
    /// Create so many meetings at the start: meeting-1, meeting-2, ...
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = clap::value_parser!(u32).range(0..=MAX_MEETINGS as i64))]
    pub meetings: u32,
}

/// Starts the sandbox, says how to use it, logs one line a request to `out`, and serves until `shutdown`.
pub async fn run(
    options: Options,
    now: TimeSource,
    out: impl Write + Send + 'static,
    shutdown: impl Future<Output = ()>,
) -> anyhow::Result<()> {
    let out = Arc::new(Mutex::new(out));
    let sandbox = Sandbox::start(super::Options {
        settings: Settings {
            version: options.version_flavour,
            front: options.front,
            secret: options.secret.expose_secret().to_owned(),
            nodes: usize::from(options.nodes),
            ..Settings::default()
        },
        listen: options.listen,
        tls: options.tls_cert.zip(options.tls_key).map(|(cert, key)| TlsFiles { cert, key }),
        now,
        observer: Some(log_to(Arc::clone(&out))),
    })
    .await?;
    for n in 1..=options.meetings {
        sandbox.create_meeting(&NewMeeting::new(&format!("meeting-{n}")))?;
    }
    say(&out, &introduction(&sandbox, options.front, usize::from(options.nodes)));
    shutdown.await;
    sandbox.stop().await;
    Ok(())
}

/// A reader that went away (`| head`) is no error: the sandbox goes on serving.
fn say(out: &Mutex<impl Write>, text: &str) {
    let mut out = out.lock().unwrap_or_else(PoisonError::into_inner);
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

fn log_to(out: Arc<Mutex<impl Write + Send + 'static>>) -> Observer {
    Arc::new(move |record| say(&out, &(log_line(record) + "\n")))
}

/// One request: number, time, server, call, meeting, answer, faults.
fn log_line(record: &Record) -> String {
    let answer = match &record.answer {
        Answered::Success(key) if key.is_empty() => "SUCCESS".to_owned(),
        Answered::Success(key) => format!("SUCCESS {key}"),
        Answered::Failed(key) => format!("FAILED {key}"),
        Answered::Http(status) => format!("HTTP {status}"),
        Answered::Closed => "closed".to_owned(),
        Answered::Never => "no answer".to_owned(),
    };
    let meeting = record.meeting_id.as_deref().unwrap_or("-").escape_debug();
    let faults = match record.faults.as_slice() {
        [] => String::new(),
        names => format!("  [{}]", names.join(", ")),
    };
    let (n, at, call) = (record.n, record.received_at, record.call.name());
    format!("{n:>5}  {at}  {:<6} {call:<16} {meeting}  {answer}{faults}", record.server)
}

fn introduction(sandbox: &Sandbox, front: Front, nodes: usize) -> String {
    let mut lines = vec![
        format!("A simulated BigBlueButton server is at {}", sandbox.url()),
        format!("Its secret is {}", sandbox.secret()),
        String::new(),
        "For the schedule file:".to_owned(),
        String::new(),
        "[servers.sandbox]".to_owned(),
        "platform = \"bigbluebutton\"".to_owned(),
        format!("url      = \"{}\"", sandbox.url()),
        "secret   = { env = \"SANDBOX_SECRET\" }".to_owned(),
    ];
    if front != Front::Direct {
        for node in (1..=nodes).map(|n| format!("node{n}")) {
            lines.extend([
                String::new(),
                "[[servers.sandbox.nodes]]".to_owned(),
                format!("url    = \"{}\"", sandbox.node_url(&node)),
                "secret = { env = \"SANDBOX_NODE_SECRET\" }".to_owned(),
            ]);
        }
    }
    lines.extend([String::new(), format!("export SANDBOX_SECRET={}", shell_word(sandbox.secret()))]);
    if front != Front::Direct {
        lines.push(format!("export SANDBOX_NODE_SECRET={DEMO_NODE_SECRET}"));
    }
    lines.extend([String::new(), format!("Control routes at {}:", sandbox.control_url())]);
    lines.extend(ROUTES.map(|route| format!("  {route}")));
    lines.extend([String::new(), String::new()]);
    lines.join("\n")
}

fn shell_word(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}
