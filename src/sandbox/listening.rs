//! A listener that serves from a task of its own.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, bail};
use axum::Router;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::line::{Cord, Door, TlsFiles};

/// How long connections may take to end after [`Listening::stop`].
pub(super) const STOP_TIME: Duration = Duration::from_secs(2);

/// Serves `app` until `shutdown`; then requests in flight are answered or, by way of `stopping`, cut.
pub(super) async fn serve(
    app: Router,
    listener: TcpListener,
    tls: Option<&TlsFiles>,
    stopping: CancellationToken,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> anyhow::Result<()> {
    let tls = tls.map(TlsFiles::acceptor).transpose()?;
    let stop = async move {
        shutdown.await;
        stopping.cancel();
    };
    let app = app.into_make_service_with_connect_info::<Cord>();
    axum::serve(Door::new(listener, tls), app)
        .with_graceful_shutdown(stop)
        .await
        .context("the sandbox stopped")
}

/// Dropping it stops it without waiting.
pub(super) struct Listening {
    address: SocketAddr,
    scheme: &'static str,
    stop: CancellationToken,
    task: JoinHandle<anyhow::Result<()>>,
}

impl Listening {
    /// Binds the address and serves; `stopping` is cancelled when that ends.
    pub async fn start(
        app: Router,
        listen: SocketAddr,
        tls: Option<TlsFiles>,
        stopping: CancellationToken,
    ) -> anyhow::Result<Listening> {
        let listener = bind(listen).await?;
        let address = listener.local_addr().context("the listening socket has no address")?;
        // Tried here, so that a bad certificate is an error of the start.
        tls.as_ref().map(TlsFiles::acceptor).transpose()?;
        let scheme = if tls.is_some() { "https" } else { "http" };
        let stop = CancellationToken::new();
        let stopped = stop.clone().cancelled_owned();
        let task = tokio::spawn(async move { serve(app, listener, tls.as_ref(), stopping, stopped).await });
        Ok(Listening { address, scheme, stop, task })
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// `http://127.0.0.1:PORT`
    pub fn origin(&self) -> String {
        format!("{}://{}", self.scheme, self.address)
    }

    /// Stops serving. Requests that hang or are being slow are cut.
    pub async fn stop(mut self) {
        self.stop.cancel();
        if tokio::time::timeout(STOP_TIME, &mut self.task).await.is_err() {
            self.task.abort();
        }
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// The sandbox has no access control of its own: it is reachable from this machine only.
async fn bind(listen: SocketAddr) -> anyhow::Result<TcpListener> {
    if !listen.ip().is_loopback() {
        bail!("refused to listen on {listen}: the sandbox serves loopback only; take 127.0.0.1 or [::1]");
    }
    let busy = |error: &io::Error| error.kind() == io::ErrorKind::AddrInUse;
    TcpListener::bind(listen).await.map_err(|error| match busy(&error) {
        true => anyhow::anyhow!("{listen} is in use; choose another port with --listen"),
        false => anyhow::Error::new(error).context(format!("cannot listen on {listen}")),
    })
}
