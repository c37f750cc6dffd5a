//! `adjourn sandbox`: a simulated platform as a program of its own.

use std::future::Future;
use std::io::Write;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use clap::{Args, ValueEnum};
use secrecy::SecretString;

use super::{Front, TimeSource, TlsFiles, Version, bigbluebutton, realtimekit, videosdk};

/// Meetings that `--meetings` may create.
const MAX_MEETINGS: u32 = 100_000;

/// Whose server is simulated.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, ValueEnum)]
pub enum Platform {
    #[default]
    #[value(name = "bigbluebutton")]
    BigBlueButton,
    /// v1 and v2 on one server
    #[value(name = "videosdk")]
    VideoSdk,
    /// Cloudflare's API and the legacy one of Dyte on one server
    #[value(name = "realtimekit")]
    RealtimeKit,
}

/// The arguments of `adjourn sandbox`. What does not apply to the platform is refused.
#[derive(Args, Clone, Debug)]
pub struct Options {
    /// Which platform to simulate
    #[arg(long, value_enum, default_value = "bigbluebutton")]
    pub platform: Platform,
    /// Where to listen; loopback only
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8099")]
    pub listen: SocketAddr,
    /// BigBlueButton's shared secret, or VideoSDK's; it guards nothing here
    #[arg(long)]
    pub secret: Option<SecretString>,
    /// VideoSDK: the API key that tokens must name
    #[arg(long, value_name = "KEY")]
    pub api_key: Option<String>,
    /// RealtimeKit: the API token; it guards nothing here
    #[arg(long)]
    pub token: Option<SecretString>,
    /// BigBlueButton: whose manners to show [default: 3.0]
    #[arg(long, value_enum, value_name = "VERSION")]
    pub version_flavour: Option<Version>,
    /// BigBlueButton: what the base URL reaches [default: direct]
    #[arg(long, value_enum)]
    pub front: Option<Front>,
    /// BigBlueButton: nodes behind the balancer [default: 1]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(1..=64))]
    pub nodes: Option<u8>,
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

impl Options {
    /// The first option that is given and does not apply to the platform: its name and whose it is.
    pub fn misfit(&self) -> Option<(&'static str, &'static str)> {
        use Platform::{BigBlueButton, RealtimeKit, VideoSdk};
        let options: [(&str, bool, &[Platform], &str); 6] = [
            ("--secret", self.secret.is_some(), &[BigBlueButton, VideoSdk], "bigbluebutton and videosdk"),
            ("--api-key", self.api_key.is_some(), &[VideoSdk], "videosdk"),
            ("--token", self.token.is_some(), &[RealtimeKit], "realtimekit"),
            ("--version-flavour", self.version_flavour.is_some(), &[BigBlueButton], "bigbluebutton"),
            ("--front", self.front.is_some(), &[BigBlueButton], "bigbluebutton"),
            ("--nodes", self.nodes.is_some(), &[BigBlueButton], "bigbluebutton"),
        ];
        let misfit = |(_, given, of, _): &&(_, bool, &[Platform], _)| *given && !of.contains(&self.platform);
        options.iter().find(misfit).map(|(name, _, _, whose)| (*name, *whose))
    }

    pub(super) fn tls(&self) -> Option<TlsFiles> {
        self.tls_cert.clone().zip(self.tls_key.clone()).map(|(cert, key)| TlsFiles { cert, key })
    }

    /// The names of the meetings that are there from the start.
    pub(super) fn meetings(&self) -> impl Iterator<Item = String> + use<> {
        (1..=self.meetings).map(|n| format!("meeting-{n}"))
    }
}

/// Starts the sandbox, says how to use it, logs one line a request to `out`, and serves until `shutdown`.
pub async fn run(
    options: Options,
    now: TimeSource,
    out: impl Write + Send + 'static,
    shutdown: impl Future<Output = ()>,
) -> anyhow::Result<()> {
    let paper = Paper(Arc::new(Mutex::new(out)));
    match options.platform {
        Platform::BigBlueButton => bigbluebutton::command::run(options, now, paper, shutdown).await,
        Platform::VideoSdk => videosdk::command::run(options, now, paper, shutdown).await,
        Platform::RealtimeKit => realtimekit::command::run(options, now, paper, shutdown).await,
    }
}

/// Where the introduction and the log of requests go.
pub(super) struct Paper<W>(Arc<Mutex<W>>);

impl<W> Clone for Paper<W> {
    fn clone(&self) -> Paper<W> {
        Paper(Arc::clone(&self.0))
    }
}

impl<W: Write + Send + 'static> Paper<W> {
    /// A reader that went away (`| head`) is no error: the sandbox goes on serving.
    pub fn say(&self, text: &str) {
        let mut out = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    }

    /// Writes one line a request.
    pub fn observer<R: 'static>(self, line: fn(&R) -> String) -> Arc<dyn Fn(&R) + Send + Sync> {
        Arc::new(move |record| self.say(&(line(record) + "\n")))
    }
}

pub(super) fn shell_word(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use std::io;

    use clap::Parser;
    use tokio::sync::{mpsc, oneshot};

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        options: Options,
    }

    #[test]
    fn options_of_another_platform_are_no_options() {
        let misfit = |line: &str| {
            let words = ["sandbox"].into_iter().chain(line.split(' '));
            Line::try_parse_from(words).unwrap().options.misfit()
        };
        assert_eq!(misfit("--platform videosdk --api-key k --secret s"), None);
        assert_eq!(misfit("--platform realtimekit --token t --meetings 3"), None);
        assert_eq!(misfit("--front scalelite --nodes 2 --secret s"), None);
        let cases = [
            ("--platform videosdk --front direct", ("--front", "bigbluebutton")),
            ("--platform realtimekit --secret s", ("--secret", "bigbluebutton and videosdk")),
            ("--platform realtimekit --nodes 1", ("--nodes", "bigbluebutton")),
            ("--token t", ("--token", "realtimekit")),
            ("--api-key k", ("--api-key", "videosdk")),
        ];
        for (line, wanted) in cases {
            assert_eq!(misfit(line), Some(wanted), "{line}");
        }
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
    async fn each_introduces_itself_with_a_block_that_can_be_pasted_and_logs_requests() {
        for (platform, keys) in [
            ("videosdk", &["url", "api-key", "secret"][..]),
            ("realtimekit", &["url", "account-id", "app-id", "token"]),
        ] {
            let line = ["sandbox", "--platform", platform, "--listen", "127.0.0.1:0", "--meetings", "2"];
            let Line { options } = Line::parse_from(line);
            let (pieces, mut written) = mpsc::unbounded_channel();
            let (stop, stopped) = oneshot::channel::<()>();
            let shutdown = async { drop(stopped.await) };
            let running = tokio::spawn(run(options, Arc::new(|| 0), Pieces(pieces), shutdown));
            let introduction = written.recv().await.unwrap();
            let block = introduction.lines().skip_while(|line| !line.starts_with("[servers"));
            let block: Vec<&str> = block.take_while(|line| !line.is_empty()).collect();
            let block: toml::Table = block.join("\n").parse().expect("the server block is TOML");
            let server = &block["servers"]["sandbox"];
            assert_eq!(server["platform"].as_str(), Some(platform));
            assert!(keys.iter().all(|key| server.get(*key).is_some()), "{introduction}");
            assert!(introduction.contains("/control/truth"));

            let url = format!("{}/nothing", server["url"].as_str().unwrap());
            let client = reqwest::Client::builder().no_proxy().build().unwrap();
            let answer = client.get(url).header("authorization", "s3cret").send().await.unwrap();
            assert!(answer.status().is_client_error());
            let logged = written.recv().await.unwrap();
            assert!(logged.contains("GET /") && !logged.contains("s3cret"), "{logged}");
            stop.send(()).unwrap();
            running.await.unwrap().unwrap();
        }
    }
}
