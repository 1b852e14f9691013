//! A byte stream between two ends of a connection: a socket, or a pipe inside this process.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures::{StreamExt, stream};
use http::{HeaderMap, HeaderName, HeaderValue};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf, WriteHalf};
use tokio::net::TcpStream;
use tokio_util::io::ReaderStream;
use tracing::debug;

use crate::endpoint::Body;
use crate::pipe::{Link, Pipe};

/// Bytes of a body that are read at once.
const READ_BYTES: usize = 32 << 10;
/// The trailer of a body whose sender is gone: it does not listen, either.
const GONE: HeaderName = HeaderName::from_static("k8w-gone");
/// How long a body may go on whose receiver is gone, if it says nothing (Linux's `net.ipv4.tcp_fin_timeout`).
const LINGER: Duration = Duration::from_secs(60);

/// An established connection. Dropping it ends both directions.
#[derive(Debug)]
pub enum Stream {
    Tcp(TcpStream),
    /// Both ends are in this process; no socket exists.
    Pipe(Pipe),
}

/// Whoever reads at one end of a connection.
#[derive(Debug)]
pub struct Audience(Option<Link>);

impl Audience {
    /// Whether the other end is outside of this process, so that nobody knows who reads there.
    pub fn is_half(&self) -> bool {
        self.0.is_none()
    }

    /// Waits until nobody reads at either end: nothing that is still on its way will arrive. Never of a socket.
    pub fn unheard(&self) -> impl Future<Output = ()> + Send + use<> {
        let link = self.0.clone();
        async move {
            match link {
                Some(link) => link.unheard().await,
                None => std::future::pending().await,
            }
        }
    }
}

impl Drop for Audience {
    fn drop(&mut self) {
        if let Some(link) = &self.0 {
            link.hear_no_more();
        }
    }
}

impl Stream {
    /// Two connected ends inside this process.
    pub fn pipe() -> (Self, Self) {
        let (a, b) = Pipe::pair();
        (Self::Pipe(a), Self::Pipe(b))
    }

    fn link(&self) -> Option<Link> {
        match self {
            Self::Tcp(_) => None,
            Self::Pipe(pipe) => Some(pipe.link()),
        }
    }

    /// Waits until the other end is gone; of a socket's that is not known before it is written to.
    pub(crate) fn left(&self) -> impl Future<Output = ()> + use<> {
        let link = self.link();
        async move { left(link.as_ref()).await }
    }

    /// Who reads at this end: to be dropped with the last that does. May be taken once.
    pub fn audience(&self) -> Audience {
        Audience(self.link())
    }

    /// Breaks the connection off: the other end must not take what it has heard for everything.
    pub fn reset(self) {
        match self {
            Self::Tcp(socket) => reset(socket),
            Self::Pipe(pipe) => pipe.link().break_off(),
        }
    }

    /// What comes from the other end, as a body, and the way there. At the other side of a connection of bodies, ends are what
    /// they were here.
    pub fn split(self) -> (Body, Sink) {
        let link = self.link();
        let (read, half) = tokio::io::split(self);
        let frames =
            ReaderStream::with_capacity(read, READ_BYTES).map(|bytes| bytes.map(Frame::data).map_err(Into::into));
        let known = link.clone();
        let gone = stream::once(async move {
            let gone = HeaderMap::from_iter([(GONE, HeaderValue::from_static("true"))]);
            known.filter(Link::is_left).map(|_| Ok(Frame::trailers(gone)))
        });
        let frames = frames.chain(gone.filter_map(std::future::ready));
        (StreamBody::new(frames).boxed_unsync(), Sink { half, link })
    }
}

async fn left(link: Option<&Link>) {
    match link {
        Some(link) => link.left().await,
        None => std::future::pending().await,
    }
}

/// Ends a connection of the kernel's with a reset: in order, its client might take what it has for everything.
pub(crate) fn reset(socket: TcpStream) {
    if let Err(error) = socket.set_zero_linger() {
        debug!(%error, "closing the connection instead");
    }
}

/// The direction of a stream that leads to its other end.
pub struct Sink {
    half: WriteHalf<Stream>,
    /// Of a pipe. What leads to a socket ends in order, whatever comes.
    link: Option<Link>,
}

impl Sink {
    /// Sends what a body says, and how it ends.
    pub async fn take(self, body: impl http_body::Body<Data = Bytes> + Unpin) {
        let Self { half, link } = self;
        let nobody_is_there = async {
            left(link.as_ref()).await;
            tokio::time::sleep(LINGER).await;
        };
        tokio::select! {
            () = send(body, half, link.as_ref()) => {}
            () = nobody_is_there => {}
        }
    }
}

async fn send(mut body: impl http_body::Body<Data = Bytes> + Unpin, mut to: WriteHalf<Stream>, link: Option<&Link>) {
    while let Some(frame) = body.frame().await {
        match frame.map(Frame::into_data) {
            Ok(Ok(bytes)) => {
                if to.write_all(&bytes).await.is_err() {
                    return;
                }
            }
            Ok(Err(trailers)) => {
                if let (Some(link), Some(_)) = (link, trailers.trailers_ref().and_then(|all| all.get(GONE))) {
                    link.leave();
                }
            }
            Err(_) => {
                if let Some(link) = link {
                    link.break_off();
                }
                break;
            }
        }
    }
    let _ = to.shutdown().await;
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(s) => Pin::new(s).poll_read(cx, buf),
            Self::Pipe(s) => Pin::new(s).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(s) => Pin::new(s).poll_write(cx, buf),
            Self::Pipe(s) => Pin::new(s).poll_write(cx, buf),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(s) => Pin::new(s).poll_write_vectored(cx, bufs),
            Self::Pipe(s) => Pin::new(s).poll_write_vectored(cx, bufs),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Tcp(s) => s.is_write_vectored(),
            Self::Pipe(s) => s.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(s) => Pin::new(s).poll_flush(cx),
            Self::Pipe(s) => Pin::new(s).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(s) => Pin::new(s).poll_shutdown(cx),
            Self::Pipe(s) => Pin::new(s).poll_shutdown(cx),
        }
    }
}
