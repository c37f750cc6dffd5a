//! Connections: plain or TLS, and able to break on order.
//!
//! A handler cannot drop a connection in axum; it can only answer. So the stream itself carries a switch: once it is
//! [severed](Cord::sever), the answer that hyper writes fails before a byte has left, and hyper closes the connection.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use anyhow::Context as _;
use axum::extract::connect_info::Connected;
use axum::serve::{IncomingStream, Listener};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

use super::pause;

const HANDSHAKE_TIME: Duration = Duration::from_secs(10);
/// Handshakes that are done and wait to be served.
const READY_CONNECTIONS: usize = 128;
/// After a failed accept (no file descriptors left), so that it is not tried in a hot loop.
const ACCEPT_AGAIN: Duration = Duration::from_millis(100);

/// Certificate chain and key, PEM.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TlsFiles {
    pub cert: PathBuf,
    pub key: PathBuf,
}

impl TlsFiles {
    pub(super) fn acceptor(&self) -> anyhow::Result<TlsAcceptor> {
        let chain = CertificateDer::pem_slice_iter(&read(&self.cert)?)
            .collect::<Result<Vec<_>, _>>()
            .with_context(|| format!("no usable certificate in {}", self.cert.display()))?;
        let key = PrivateKeyDer::from_pem_slice(&read(&self.key)?)
            .with_context(|| format!("no usable private key in {}", self.key.display()))?;
        let config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .context("no usable TLS version")?
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .context("the certificate and the key do not belong together")?;
        Ok(TlsAcceptor::from(Arc::new(config)))
    }
}

fn read(path: &Path) -> anyhow::Result<Vec<u8>> {
    std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))
}

/// The listening socket.
pub(super) struct Door {
    tcp: TcpListener,
    tls: Option<TlsAcceptor>,
    shaken: mpsc::Receiver<(Line, SocketAddr)>,
    hand_over: mpsc::Sender<(Line, SocketAddr)>,
}

impl Door {
    pub fn new(tcp: TcpListener, tls: Option<TlsAcceptor>) -> Door {
        let (hand_over, shaken) = mpsc::channel(READY_CONNECTIONS);
        Door { tcp, tls, shaken, hand_over }
    }

    /// A handshake must not hold up the next connection, so each has a task of its own.
    fn shake_hands(&self, acceptor: TlsAcceptor, tcp: TcpStream, from: SocketAddr) {
        let hand_over = self.hand_over.clone();
        tokio::spawn(async move {
            if let Ok(Ok(tls)) = tokio::time::timeout(HANDSHAKE_TIME, acceptor.accept(tcp)).await {
                // It fails only when the sandbox has stopped: the connection is dropped with it.
                let _ = hand_over.send((Line::new(Stream::Tls(Box::new(tls))), from)).await;
            }
        });
    }
}

impl Listener for Door {
    type Io = Line;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Line, SocketAddr) {
        loop {
            tokio::select! {
                accepted = self.tcp.accept() => match (accepted, &self.tls) {
                    (Ok((tcp, from)), acceptor) => {
                        // Answers are small and wait for nothing; a failure costs time only.
                        let _ = tcp.set_nodelay(true);
                        match acceptor {
                            Some(acceptor) => self.shake_hands(acceptor.clone(), tcp, from),
                            None => return (Line::new(Stream::Plain(tcp)), from),
                        }
                    }
                    (Err(_), _) => pause(ACCEPT_AGAIN).await,
                },
                Some(ready) = self.shaken.recv() => return ready,
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.tcp.local_addr()
    }
}

/// The switch of one connection, for its handlers.
#[derive(Clone, Debug)]
pub(super) struct Cord(Arc<AtomicU8>);

const WHOLE: u8 = 0;
const CLOSED: u8 = 1;
const RESET: u8 = 2;

impl Cord {
    /// From now on nothing can be written; `reset`: the peer gets an RST.
    pub fn sever(&self, reset: bool) {
        self.0.store(if reset { RESET } else { CLOSED }, Ordering::Release);
    }
}

impl Connected<IncomingStream<'_, Door>> for Cord {
    fn connect_info(stream: IncomingStream<'_, Door>) -> Cord {
        stream.io().cord.clone()
    }
}

enum Stream {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

/// One connection.
pub(super) struct Line {
    stream: Stream,
    cord: Cord,
}

impl Line {
    fn new(stream: Stream) -> Line {
        Line { stream, cord: Cord(Arc::new(AtomicU8::new(WHOLE))) }
    }

    fn tcp(&self) -> &TcpStream {
        match &self.stream {
            Stream::Plain(tcp) => tcp,
            Stream::Tls(tls) => tls.get_ref().0,
        }
    }

    fn severed(&self) -> Option<io::Error> {
        match self.cord.0.load(Ordering::Acquire) {
            WHOLE => None,
            CLOSED => Some(io::ErrorKind::BrokenPipe.into()),
            _ => {
                // Without a linger time the close that follows sends an RST; if this fails it is a FIN.
                let _ = self.tcp().set_zero_linger();
                Some(io::ErrorKind::ConnectionReset.into())
            }
        }
    }
}

impl AsyncRead for Line {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match &mut self.stream {
            Stream::Plain(tcp) => Pin::new(tcp).poll_read(cx, buf),
            Stream::Tls(tls) => Pin::new(tls).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Line {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        if let Some(error) = self.severed() {
            return Poll::Ready(Err(error));
        }
        match &mut self.stream {
            Stream::Plain(tcp) => Pin::new(tcp).poll_write(cx, buf),
            Stream::Tls(tls) => Pin::new(tls).poll_write(cx, buf),
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if let Some(error) = self.severed() {
            return Poll::Ready(Err(error));
        }
        match &mut self.stream {
            Stream::Plain(tcp) => Pin::new(tcp).poll_write_vectored(cx, bufs),
            Stream::Tls(tls) => Pin::new(tls).poll_write_vectored(cx, bufs),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match &self.stream {
            Stream::Plain(tcp) => tcp.is_write_vectored(),
            Stream::Tls(tls) => tls.is_write_vectored(),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.stream {
            Stream::Plain(tcp) => Pin::new(tcp).poll_flush(cx),
            Stream::Tls(tls) => Pin::new(tls).poll_flush(cx),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.severed().is_some() {
            return Poll::Ready(Ok(()));
        }
        match &mut self.stream {
            Stream::Plain(tcp) => Pin::new(tcp).poll_shutdown(cx),
            Stream::Tls(tls) => Pin::new(tls).poll_shutdown(cx),
        }
    }
}
