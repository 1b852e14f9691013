//! A connection inside this process. As of one of the kernel's, it is known how it ends: one direction in order, both because
//! the other end is gone, or broken off.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf};
use tokio_util::sync::CancellationToken;

/// Bytes that one direction holds before its writer waits.
const BUFFER_BYTES: usize = 64 * 1024;

/// One end. Dropping it ends both directions.
#[derive(Debug)]
pub struct Pipe {
    io: DuplexStream,
    link: Link,
}

/// What both ends know of their connection beside its bytes.
#[derive(Clone, Debug, Default)]
pub(crate) struct Link(Arc<State>);

#[derive(Debug, Default)]
struct State {
    is_broken: AtomicBool,
    left: CancellationToken,
    /// Ends that will not be read any more, though what was written there may still be on its way.
    deaf: AtomicU8,
    unheard: CancellationToken,
}

impl Link {
    /// From now on, no end of what is said is one in order.
    pub fn break_off(&self) {
        self.0.is_broken.store(true, Ordering::Release);
    }

    /// One end says no more and hears no more.
    pub fn leave(&self) {
        self.0.left.cancel();
    }

    pub fn is_left(&self) -> bool {
        self.0.left.is_cancelled()
    }

    /// One end, which may say more, hears no more. To be said once for each.
    pub fn hear_no_more(&self) {
        if self.0.deaf.fetch_add(1, Ordering::AcqRel) > 0 {
            self.0.unheard.cancel();
        }
    }

    /// Waits until neither end hears any more.
    pub async fn unheard(&self) {
        self.0.unheard.cancelled().await;
    }

    /// Waits until one end is gone, for who holds the other.
    pub async fn left(&self) {
        self.0.left.cancelled().await;
    }

    fn check_read(&self) -> io::Result<()> {
        match self.0.is_broken.load(Ordering::Acquire) {
            true => Err(io::ErrorKind::ConnectionReset.into()),
            false => Ok(()),
        }
    }

    fn check_write(&self) -> io::Result<()> {
        self.check_read()?;
        if self.is_left() { Err(io::ErrorKind::BrokenPipe.into()) } else { Ok(()) }
    }
}

impl Pipe {
    /// Two connected ends.
    pub(crate) fn pair() -> (Self, Self) {
        let (near, far) = tokio::io::duplex(BUFFER_BYTES);
        let link = Link::default();
        (Self { io: near, link: link.clone() }, Self { io: far, link })
    }

    pub(crate) fn link(&self) -> Link {
        self.link.clone()
    }
}

impl Drop for Pipe {
    fn drop(&mut self) {
        self.link.leave();
    }
}

impl AsyncRead for Pipe {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.io).poll_read(cx, buf))?;
        let is_end = buf.filled().len() == before && buf.remaining() > 0;
        Poll::Ready(if is_end { self.link.check_read() } else { Ok(()) })
    }
}

impl AsyncWrite for Pipe {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.link.check_write()?;
        Pin::new(&mut self.io).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.link.check_write()?;
        Pin::new(&mut self.io).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    #[tokio::test]
    async fn an_end_and_a_break_are_told_apart() {
        for breaks in [false, true] {
            let (mut near, mut far) = Pipe::pair();
            near.write_all(b"said").await.unwrap();
            if breaks {
                near.link().break_off();
            }
            drop(near);
            let mut heard = Vec::new();
            let ended = far.read_to_end(&mut heard).await.map_err(|error| error.kind());
            assert_eq!(ended.err(), breaks.then_some(io::ErrorKind::ConnectionReset));
            assert_eq!(heard, b"said", "what was said before is heard");
            let wrote = far.write_all(b"more").await.map_err(|error| error.kind());
            let expected = if breaks { io::ErrorKind::ConnectionReset } else { io::ErrorKind::BrokenPipe };
            assert_eq!(wrote, Err(expected));
        }
    }

    #[tokio::test]
    async fn an_end_that_says_no_more_still_listens_until_it_is_gone() {
        let (mut near, mut far) = Pipe::pair();
        near.shutdown().await.unwrap();
        assert_eq!(far.read(&mut [0; 1]).await.unwrap(), 0);
        far.write_all(b"answer").await.unwrap();
        assert!(!far.link().is_left());
        drop(near);
        far.link().left().await;
        assert_eq!(far.write_all(b"more").await.unwrap_err().kind(), io::ErrorKind::BrokenPipe);
    }
}
