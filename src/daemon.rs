//! The daemon from start to drain. `adjourn daemon` and `adjourn demo` both run this.

use std::io;
use std::os::unix::net::UnixListener as StdListener;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::UnixListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::clock::{SystemClock, system_now};
use crate::config::settings::Settings;
use crate::control::{self, ListenError, SocketFile};
use crate::engine::api::{Refusal, RefusalKind};
use crate::engine::{self, Handle, ReadFeeds, Reread, Setup};
use crate::exit::ExitCode;
use crate::feeds::{Reader, Trial};
use crate::housekeeping::{self, Housekeeping};
use crate::schedule::Feeds;
use crate::store::{self, Checker, OpenError, Queue, Store};
use crate::{shortage, systemd};

/// How long clients may take to hear their last answers.
const DRAIN_CLIENTS: Duration = Duration::from_secs(6);

/// Why a daemon did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error(transparent)]
    Store(#[from] OpenError),
    #[error(transparent)]
    Socket(#[from] ListenError),
    #[error("{} ({})", .0.detail, .0.hint)]
    Schedule(Refusal),
    #[error("{0:#}")]
    Other(#[from] anyhow::Error),
}

impl StartError {
    pub fn exit_code(&self) -> ExitCode {
        match self {
            StartError::Store(OpenError::Held { .. }) | StartError::Other(_) => ExitCode::Temporary,
            // A full or failing disk may recover; a restart tries again. So may a machine that is short of something.
            StartError::Store(OpenError::Io { source, .. }) if shortage::is_passing(source) => {
                ExitCode::Temporary
            }
            StartError::Schedule(refusal) if shortage::is_told_of(&refusal.detail) => ExitCode::Temporary,
            StartError::Schedule(refusal) if refusal.kind == RefusalKind::StoreFailed => ExitCode::Temporary,
            StartError::Socket(error) => error.exit(),
            _ => ExitCode::Config,
        }
    }
}

/// A daemon that runs.
pub struct Daemon {
    pub handle: Handle,
    shutdown: CancellationToken,
    engine: JoinHandle<io::Result<()>>,
    control: JoinHandle<()>,
    /// `None`: systemd made it, and removes it.
    socket: Option<SocketFile>,
    store: Arc<Queue>,
    housekeeping: Housekeeping,
}

/// What a daemon is started with.
pub struct Options {
    pub settings: Settings,
    /// Reads the schedule files anew, for a reload.
    pub reread: Arc<Reread>,
    /// How the store is checked before it is opened.
    pub checker: Checker,
    /// Where the settings were read, for people.
    pub config: Vec<String>,
    /// A socket that systemd opened for us.
    pub inherited: Option<StdListener>,
}

impl Daemon {
    pub async fn start(options: Options) -> Result<Daemon, StartError> {
        let Options { settings, reread, checker, config, inherited } = options;
        let clock = Arc::new(SystemClock);
        let shutdown = CancellationToken::new();
        let store = open_store(&settings, checker).await?;
        let is_ours = inherited.is_none();
        let listener = listen(&settings, inherited)?;
        let socket = is_ours.then(|| SocketFile::at(&settings.socket)).flatten();
        let trial = Trial::child().map_err(anyhow::Error::from)?;
        let reader = Reader::new(&settings.state_dir, trial).map_err(anyhow::Error::msg)?;
        let reader = Arc::new(reader);
        let setup = Setup {
            clock: clock.clone(),
            store: store.clone(),
            state_dir: settings.state_dir.clone(),
            socket: settings.socket.clone(),
            reread,
            kept_feeds: kept_feeds(reader.clone(), &settings),
            read_feeds: read_feeds(reader.clone()),
        };
        let (mut handle, engine) =
            engine::start(setup, settings, shutdown.clone()).await.map_err(StartError::Schedule)?;
        handle.config = config.into();
        let housekeeping = housekeeping::start(handle.clone(), store.clone(), reader, clock).await?;
        let control = tokio::spawn(control::serve(listener, Arc::new(handle.clone()), shutdown.clone()));
        tokio::spawn(systemd::keep_status(handle.clone(), shutdown.clone()));
        systemd::ready();
        Ok(Daemon { handle, shutdown, engine, control, socket, store, housekeeping })
    }

    /// Resolves if the engine has ended by itself, which only a failing kernel timer makes it do.
    pub async fn failed(&mut self) -> io::Error {
        match (&mut self.engine).await {
            Ok(Err(error)) => error,
            Ok(Ok(())) => io::Error::other("the engine ended unasked"),
            Err(error) => io::Error::other(error),
        }
    }

    /// The last line of the journal and its hash, `SEQ:HASH`: noted in a log elsewhere it shows whether somebody has put
    /// back an older state directory.
    pub fn journal_head(&self) -> Option<String> {
        head_of(&self.store)
    }

    /// Stops: no new work, answers under way are waited for (bounded), everything known is written. Returns the last
    /// [`Daemon::journal_head`].
    pub async fn drain(mut self) -> Option<String> {
        systemd::stopping();
        self.shutdown.cancel();
        if !self.engine.is_finished()
            && let Ok(Err(error)) = (&mut self.engine).await
        {
            tracing::error!(%error, "the engine ended badly");
        }
        if tokio::time::timeout(DRAIN_CLIENTS, &mut self.control).await.is_err() {
            tracing::warn!("some clients did not take their last answer in time");
        }
        if let Some(socket) = self.socket {
            socket.remove();
        }
        self.housekeeping.shutdown().await;
        let store = self.store;
        let ended = tokio::task::spawn_blocking(move || {
            store.close();
            // Once it has ended, nothing can be read.
            let head = head_of(&store);
            store.end();
            head
        });
        ended.await.unwrap_or_else(|_| {
            tracing::error!("the store was not closed cleanly");
            None
        })
    }
}

fn head_of(store: &Queue) -> Option<String> {
    store.health().journal.map(|head| head.to_string())
}

/// What the feeds of the schedule last said, before anything has been read anew.
fn kept_feeds(reader: Arc<Reader>, settings: &Settings) -> Box<dyn FnOnce() -> Feeds + Send> {
    let schedule = settings.schedule.clone();
    Box::new(move || reader.load_kept(&schedule, system_now().wall))
}

fn read_feeds(reader: Arc<Reader>) -> Arc<ReadFeeds> {
    Arc::new(move |settings, known| {
        let reader = reader.clone();
        Box::pin(async move { reader.for_reload(&settings.schedule, &known, system_now()).await })
    })
}

async fn open_store(settings: &Settings, checker: Checker) -> Result<Arc<Queue>, StartError> {
    let dir = settings.state_dir.clone();
    let options = store::Options::new(checker).retention(settings.retention);
    let opened = tokio::task::spawn_blocking(move || Queue::with(&dir, options)).await;
    Ok(Arc::new(opened.map_err(anyhow::Error::from)??))
}

fn listen(settings: &Settings, inherited: Option<StdListener>) -> Result<UnixListener, StartError> {
    match inherited {
        Some(listener) => {
            listener.set_nonblocking(true).map_err(anyhow::Error::from)?;
            Ok(UnixListener::from_std(listener).map_err(anyhow::Error::from)?)
        }
        None => {
            Ok(control::listen(&settings.socket, settings.socket_mode, settings.socket_group.as_deref())?)
        }
    }
}
