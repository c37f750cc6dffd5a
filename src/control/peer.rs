//! Connections: how many, how idle, whose.

use std::future::{Future, Pending, pending};
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::extract::connect_info::Connected;
use axum::serve::{IncomingStream, Listener};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Timeout, timeout};

use super::{IDLE_TIMEOUT, MAX_CONNECTIONS};
use crate::job::By;

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

impl Connected<IncomingStream<'_, Bounded>> for Peer {
    fn connect_info(stream: IncomingStream<'_, Bounded>) -> Peer {
        stream.io().peer
    }
}

/// Accepts while fewer than [`MAX_CONNECTIONS`] clients are connected.
pub(super) struct Bounded {
    listener: UnixListener,
    slots: Arc<Semaphore>,
}

impl Bounded {
    pub(super) fn new(listener: UnixListener) -> Bounded {
        Bounded { listener, slots: Arc::new(Semaphore::new(MAX_CONNECTIONS)) }
    }
}

impl Listener for Bounded {
    type Io = Connection;
    type Addr = ();

    async fn accept(&mut self) -> (Connection, ()) {
        let slot = self.slots.clone().acquire_owned().await.expect("nobody closes this semaphore");
        loop {
            let (stream, _) = Listener::accept(&mut self.listener).await;
            match stream.peer_cred() {
                Ok(who) => {
                    let peer = Peer { uid: who.uid(), pid: who.pid() };
                    return (Connection::new(stream, peer, IDLE_TIMEOUT, slot), ());
                }
                Err(error) => {
                    tracing::warn!(%error, "a client of the control socket that cannot be named is refused");
                }
            }
        }
    }

    fn local_addr(&self) -> io::Result<()> {
        Ok(())
    }
}

/// A client. Reading fails once nothing has moved for the idle time: a client that hangs must not keep its slot.
pub(super) struct Connection {
    stream: UnixStream,
    peer: Peer,
    idle_after: Duration,
    idle: Pin<Box<Timeout<Pending<()>>>>,
    _slot: OwnedSemaphorePermit,
}

impl Connection {
    fn new(stream: UnixStream, peer: Peer, idle_after: Duration, slot: OwnedSemaphorePermit) -> Connection {
        Connection { stream, peer, idle_after, idle: Box::pin(timeout(idle_after, pending())), _slot: slot }
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
        let slots = Arc::new(Semaphore::new(1));
        let slot = slots.clone().try_acquire_owned().unwrap();
        let peer = Peer { uid: 0, pid: None };
        let mut connection = Connection::new(stream, peer, Duration::from_millis(20), slot);
        let error = connection.read_u8().await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        drop(connection);
        assert_eq!(slots.available_permits(), 1);
    }
}
