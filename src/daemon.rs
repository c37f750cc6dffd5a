//! The daemon from start to drain. `adjourn daemon` and `adjourn demo` both run this.

use std::io;
use std::os::unix::net::UnixListener as StdListener;
use std::sync::Arc;
use std::time::Duration;

use rustix::io::Errno;
use tokio::net::UnixListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::clock::{SystemClock, system_now};
use crate::config::settings::Settings;
use crate::control::{self, ListenError};
use crate::engine::api::{Refusal, RefusalKind};
use crate::engine::{self, Handle, ReadFeeds, Reread, Setup};
use crate::exit::ExitCode;
use crate::feeds::{Reader, Trial};
use crate::housekeeping;
use crate::schedule::Feeds;
use crate::store::{self, Checker, OpenError, Queue};
use crate::systemd;

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
            // A full or failing disk may recover; a restart tries again.
            StartError::Store(OpenError::Io { source, .. }) if is_passing(source) => ExitCode::Temporary,
            StartError::Schedule(refusal) if refusal.kind == RefusalKind::StoreFailed => ExitCode::Temporary,
            StartError::Socket(error) => error.exit(),
            _ => ExitCode::Config,
        }
    }
}

fn is_passing(error: &io::Error) -> bool {
    let full = matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded);
    let stopped = error.kind() == io::ErrorKind::Interrupted;
    full || stopped || error.raw_os_error() == Some(Errno::IO.raw_os_error())
}

/// A daemon that runs.
pub struct Daemon {
    pub handle: Handle,
    shutdown: CancellationToken,
    engine: JoinHandle<io::Result<()>>,
    control: JoinHandle<()>,
    store: Arc<Queue>,
    housekeeping: tokio_cron_scheduler::JobScheduler,
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
        let listener = listen(&settings, inherited)?;
        let trial = Trial::child().map_err(anyhow::Error::from)?;
        let reader = Reader::new(&settings.state_dir, trial).map_err(anyhow::Error::msg)?;
        let reader = Arc::new(reader);
        let setup = Setup {
            clock: clock.clone(),
            store: store.clone(),
            state_dir: settings.state_dir.clone(),
            socket: settings.socket.clone(),
            reread,
            feeds: kept_feeds(reader.clone(), &settings).await?,
            read_feeds: read_feeds(reader.clone()),
        };
        let (mut handle, engine) =
            engine::start(setup, settings, shutdown.clone()).map_err(StartError::Schedule)?;
        handle.config = config.into();
        let housekeeping = housekeeping::start(handle.clone(), store.clone(), reader).await?;
        let control = tokio::spawn(control::serve(listener, Arc::new(handle.clone()), shutdown.clone()));
        tokio::spawn(systemd::keep_status(handle.clone(), shutdown.clone()));
        systemd::ready();
        Ok(Daemon { handle, shutdown, engine, control, store, housekeeping })
    }

    /// Resolves if the engine has ended by itself, which only a failing kernel timer makes it do.
    pub async fn failed(&mut self) -> io::Error {
        match (&mut self.engine).await {
            Ok(Err(error)) => error,
            Ok(Ok(())) => io::Error::other("the engine ended unasked"),
            Err(error) => io::Error::other(error),
        }
    }

    /// Stops: no new work, answers under way are waited for (bounded), everything known is written.
    pub async fn drain(mut self) {
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
        if let Err(error) = self.housekeeping.shutdown().await {
            tracing::debug!(%error, "the housekeeping did not stop");
        }
        let store = self.store;
        if tokio::task::spawn_blocking(move || store.end()).await.is_err() {
            tracing::error!("the store was not closed cleanly");
        }
    }
}

/// What the feeds of the schedule last said, before anything has been read anew.
async fn kept_feeds(reader: Arc<Reader>, settings: &Settings) -> anyhow::Result<Arc<Feeds>> {
    let (schedule, now) = (settings.schedule.clone(), system_now().wall);
    let kept = tokio::task::spawn_blocking(move || reader.load_kept(&schedule, now)).await;
    Ok(Arc::new(kept?))
}

fn read_feeds(reader: Arc<Reader>) -> Arc<ReadFeeds> {
    Arc::new(move |settings, known| {
        let reader = reader.clone();
        Box::pin(async move { reader.for_reload(&settings.schedule, &known, system_now().wall).await })
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
