//! Connections: how many, how idle, whose.

use std::collections::HashMap;
use std::future::{Future, Pending, pending};
use std::io;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::extract::ConnectInfo;
use axum::{Extension, Router};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Timeout, timeout};
use tokio_util::sync::CancellationToken;

use super::{FOR_ROOT, HEAD_TIMEOUT, IDLE_TIMEOUT, MAX_CONNECTIONS, MAX_OF_ONE_USER, SLOT_TIMEOUT};
use crate::job::By;

/// Clients that may wait for a slot; more are turned away at once.
const MAX_WAITING: usize = 1_024;
/// After no client could be accepted: the next try.
const ACCEPT_AGAIN: Duration = Duration::from_secs(1);

/// The process at the other end, as the kernel names it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Peer {
    uid: u32,
    pid: Option<i32>,
}

impl From<Peer> for By {
    fn from(peer: Peer) -> By {
        By::Peer { uid: peer.uid, pid: peer.pid }
    }
}

/// The places at the socket. Everybody has a share, so that no user keeps the others out, and root finds some always free.
#[derive(Debug)]
pub(super) struct Slots {
    all: Arc<Semaphore>,
    for_root: Arc<Semaphore>,
    by_uid: Mutex<HashMap<u32, Arc<Semaphore>>>,
    /// Clients that were accepted and have no slot yet.
    waiting: Arc<Semaphore>,
    /// How long one waits for a slot.
    patience: Duration,
}

/// A place at the socket, until it is dropped.
#[derive(Debug)]
pub(super) struct Slot {
    _own: OwnedSemaphorePermit,
    _of_all: OwnedSemaphorePermit,
}

impl Slots {
    pub(super) fn new() -> Slots {
        let slots = |count| Arc::new(Semaphore::new(count));
        Slots {
            all: slots(MAX_CONNECTIONS - FOR_ROOT),
            for_root: slots(FOR_ROOT),
            by_uid: Mutex::default(),
            waiting: slots(MAX_WAITING),
            patience: SLOT_TIMEOUT,
        }
    }

    /// `None`: too many wait already, or none became free in time.
    async fn slot(&self, uid: u32) -> Option<Slot> {
        let _waits = self.waiting.clone().try_acquire_owned().ok()?;
        let own = self
            .by_uid
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .entry(uid)
            .or_insert_with(|| Arc::new(Semaphore::new(MAX_OF_ONE_USER)))
            .clone();
        let slot = async {
            let own = own.acquire_owned().await.ok()?;
            if uid == 0
                && let Ok(reserved) = self.for_root.clone().try_acquire_owned()
            {
                return Some(Slot { _own: own, _of_all: reserved });
            }
            let of_all = self.all.clone().acquire_owned().await.ok()?;
            Some(Slot { _own: own, _of_all: of_all })
        };
        timeout(self.patience, slot).await.ok().flatten()
    }
}

/// Accepts the next client that the kernel can name.
pub(super) async fn accept(listener: &UnixListener) -> (UnixStream, Peer) {
    loop {
        let named = match listener.accept().await {
            Ok((stream, _)) => {
                stream.peer_cred().map(|who| (stream, Peer { uid: who.uid(), pid: who.pid() }))
            }
            Err(error) => {
                // Most often too many files are open, which does not change within moments.
                let _pause = timeout(ACCEPT_AGAIN, pending::<()>()).await;
                Err(error)
            }
        };
        match named {
            Ok(named) => return named,
            Err(error) => tracing::warn!(%error, "a client of the control socket is refused"),
        }
    }
}

/// Serves a client until it leaves. After `shutdown` what it has asked is still answered, until `cut`.
pub(super) async fn serve(
    stream: UnixStream,
    peer: Peer,
    slots: &Slots,
    routes: Router,
    shutdown: CancellationToken,
    cut: CancellationToken,
) {
    let slot = tokio::select! {
        slot = slots.slot(peer.uid) => slot,
        () = shutdown.cancelled() => return,
    };
    let Some(slot) = slot else {
        tracing::warn!(
            uid = peer.uid,
            "a client of the control socket is turned away: too many are connected"
        );
        return turn_away(&stream);
    };
    let routes = TowerToHyperService::new(routes.layer(Extension(ConnectInfo(peer))));
    // A client may shut its writing side as soon as it has asked, as socat and nc do, and still wants its answer.
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT).half_close(true);
    let connection = Connection::new(stream, IDLE_TIMEOUT, slot);
    let mut served = pin!(http.serve_connection(TokioIo::new(connection), routes));
    let result = tokio::select! {
        result = &mut served => result,
        () = shutdown.cancelled() => {
            served.as_mut().graceful_shutdown();
            tokio::select! {
                result = served => result,
                () = cut.cancelled() => return,
            }
        }
    };
    if let Err(error) = result {
        tracing::debug!(%error, "a client of the control socket left badly");
    }
}

/// Says so as far as the socket takes it at once: whoever is one too many is not waited for.
fn turn_away(stream: &UnixStream) {
    let body = serde_json::json!({
        "type": "urn:adjourn:problem:busy",
        "title": "Busy",
        "status": 503,
        "detail": "too many clients are connected to the control socket",
        "hint": "try again in a moment",
    })
    .to_string();
    let head =
        "HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/problem+json\r\nconnection: close";
    let answer = format!("{head}\r\ncontent-length: {}\r\n\r\n{body}", body.len());
    // It is one too many either way.
    let _ = stream.try_write(answer.as_bytes());
}

/// A client. Reading fails once nothing has moved for the idle time: a client that hangs must not keep its slot.
pub(super) struct Connection {
    stream: UnixStream,
    idle_after: Duration,
    idle: Pin<Box<Timeout<Pending<()>>>>,
    _slot: Slot,
}

impl Connection {
    fn new(stream: UnixStream, idle_after: Duration, slot: Slot) -> Connection {
        Connection { stream, idle_after, idle: Box::pin(timeout(idle_after, pending())), _slot: slot }
    }

    fn moved(&mut self) {
        self.idle = Box::pin(timeout(self.idle_after, pending()));
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if let Poll::Ready(read) = Pin::new(&mut self.stream).poll_read(cx, buf) {
            self.moved();
            return Poll::Ready(read);
        }
        self.idle.as_mut().poll(cx).map(|_| Err(io::ErrorKind::TimedOut.into()))
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let wrote = Pin::new(&mut self.stream).poll_write(cx, buf);
        if wrote.is_ready() {
            self.moved();
        }
        wrote
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt;

    use super::*;

    #[tokio::test]
    async fn an_idle_client_loses_its_slot() {
        let (_client, stream) = UnixStream::pair().unwrap();
        let slots = Slots::new();
        let slot = slots.slot(7).await.unwrap();
        let free = slots.all.available_permits();
        let mut connection = Connection::new(stream, Duration::from_millis(20), slot);
        let error = connection.read_u8().await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        drop(connection);
        assert_eq!(slots.all.available_permits(), free + 1);
    }

    #[tokio::test]
    async fn no_user_keeps_the_others_out_and_root_always_gets_in() {
        let slots = Slots { patience: Duration::from_millis(1), ..Slots::new() };
        let mut held = Vec::new();
        for _ in 0..MAX_OF_ONE_USER {
            held.push(slots.slot(7).await.unwrap());
        }
        assert!(slots.slot(7).await.is_none(), "its share is used up");
        for uid in [8, 9, 10, 11] {
            for _ in 0..MAX_OF_ONE_USER {
                held.extend(slots.slot(uid).await);
            }
        }
        assert!(slots.slot(12).await.is_none(), "all are used up");
        assert_eq!(held.len(), MAX_CONNECTIONS - FOR_ROOT);
        assert!(slots.slot(0).await.is_some());
        held.truncate(1);
        assert!(slots.slot(12).await.is_some() && slots.slot(7).await.is_some());
    }
}
