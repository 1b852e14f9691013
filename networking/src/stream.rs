//! A byte stream between two ends of a connection: a socket, or a pipe inside this process.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures::StreamExt;
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, DuplexStream, ReadBuf, ReadHalf, WriteHalf};
use tokio::net::TcpStream;
use tokio_util::io::ReaderStream;

use crate::endpoint::Body;

/// Bytes that one direction of an in-process connection holds before its writer waits.
const PIPE_BUFFER_BYTES: usize = 64 * 1024;
/// Bytes of a body that are read at once.
const READ_BYTES: usize = 32 << 10;

/// An established connection. Dropping it closes both directions.
#[derive(Debug)]
pub enum Stream {
    Tcp(TcpStream),
    /// Both ends are in this process; no socket exists.
    Pipe(DuplexStream),
}

impl Stream {
    /// Two connected ends inside this process.
    pub fn pipe() -> (Self, Self) {
        let (a, b) = tokio::io::duplex(PIPE_BUFFER_BYTES);
        (Self::Pipe(a), Self::Pipe(b))
    }
}

/// What a stream says, as a body.
pub fn to_body(stream: ReadHalf<Stream>) -> Body {
    let frames =
        ReaderStream::with_capacity(stream, READ_BYTES).map(|bytes| bytes.map(Frame::data).map_err(Into::into));
    StreamBody::new(frames).boxed_unsync()
}

/// Says to a stream what a body does, and that it has ended.
pub async fn from_body(mut body: impl http_body::Body<Data = Bytes> + Unpin, mut stream: WriteHalf<Stream>) {
    while let Some(Ok(frame)) = body.frame().await {
        if let Ok(bytes) = frame.into_data()
            && stream.write_all(&bytes).await.is_err()
        {
            return;
        }
    }
    let _ = stream.shutdown().await;
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
