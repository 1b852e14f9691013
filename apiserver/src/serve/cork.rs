//! Holds back what a connection writes until all that is ready was written, so that it leaves in few pieces.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker, ready};

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// How much is held at most; who writes more waits until it has left.
const HELD_BYTES: usize = 64 << 10;

/// A stream that flushes nothing by itself: what was written leaves by [`Cork::poll_release`]. Clones are the same stream.
pub struct Cork<S>(Arc<Mutex<Corked<S>>>);

/// The lock is never contended: one task writes and releases.
struct Corked<S> {
    stream: S,
    held: BytesMut,
    /// Who waits until all has left.
    blocked: Option<Waker>,
}

impl<S: AsyncWrite + Unpin> Cork<S> {
    pub fn new(stream: S) -> Self {
        Cork(Arc::new(Mutex::new(Corked { stream, held: BytesMut::new(), blocked: None })))
    }

    /// Writes all that is held. Says whether somebody waited for that, who is woken.
    ///
    /// # Errors
    /// The stream's: it is of no more use.
    pub fn poll_release(&self, context: &mut Context<'_>) -> Poll<io::Result<bool>> {
        let Corked { stream, held, blocked } = &mut *self.lock();
        let mut stream = Pin::new(stream);
        while !held.is_empty() {
            match ready!(stream.as_mut().poll_write(context, held))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                written => held.advance(written),
            }
        }
        ready!(stream.poll_flush(context))?;
        // A connection with nothing to say keeps no memory for it.
        *held = BytesMut::new();
        Poll::Ready(Ok(blocked.take().map(Waker::wake).is_some()))
    }
}

impl<S> Clone for Cork<S> {
    fn clone(&self) -> Self {
        Cork(self.0.clone())
    }
}

impl<S> Cork<S> {
    fn lock(&self) -> MutexGuard<'_, Corked<S>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<S> Corked<S> {
    /// Pending until [`Cork::poll_release`] has written everything, which alone waits for the stream.
    fn blocked<T>(&mut self, context: &Context<'_>) -> Poll<T> {
        self.blocked = Some(context.waker().clone());
        Poll::Pending
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Cork<S> {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.lock().stream).poll_read(context, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Cork<S> {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(context, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let mut corked = self.lock();
        let before = corked.held.len();
        if before >= HELD_BYTES {
            return corked.blocked(context);
        }
        let wanted: usize = slices.iter().map(|slice| slice.len()).sum();
        corked.held.reserve(wanted.min(HELD_BYTES - before));
        for slice in slices {
            let room = HELD_BYTES - corked.held.len();
            corked.held.extend_from_slice(&slice[..slice.len().min(room)]);
        }
        Poll::Ready(Ok(corked.held.len() - before))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut corked = self.lock();
        if !corked.held.is_empty() {
            return corked.blocked(context);
        }
        match Pin::new(&mut corked.stream).poll_shutdown(context) {
            // What is left to write, a release writes.
            Poll::Pending => corked.blocked(context),
            ready => ready,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt;
    use std::future::poll_fn;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

    async fn release(cork: &Cork<DuplexStream>) -> bool {
        poll_fn(|context| cork.poll_release(context)).await.unwrap()
    }

    #[tokio::test]
    async fn what_is_written_leaves_when_it_is_released() {
        let (near, mut far) = duplex(HELD_BYTES);
        let mut cork = Cork::new(near);
        cork.write_all(b"one, ").await.unwrap();
        let written = cork.write_vectored(&[IoSlice::new(b"two, "), IoSlice::new(b"three")]).await;
        assert_eq!(written.unwrap(), 10);
        cork.flush().await.unwrap();
        let mut bytes = [0; 15];
        assert!(far.read_exact(&mut bytes).now_or_never().is_none());
        assert!(!release(&cork).await);
        far.read_exact(&mut bytes[..]).await.unwrap();
    }

    #[tokio::test]
    async fn no_more_is_held_than_may_be() {
        let (near, mut far) = duplex(1);
        let cork = Cork::new(near);
        let mut writer = cork.clone();
        let mut writing = Box::pin(async move {
            writer.write_all(&[b'x'; HELD_BYTES + 1]).await.unwrap();
            writer.shutdown().await.unwrap();
        });
        assert!((&mut writing).now_or_never().is_none());
        assert!(poll_fn(|context| Poll::Ready(cork.poll_release(context).is_pending())).await);
        let mut bytes = Vec::new();
        // Whoever waits for room is let go on once all has left; its end, too.
        let releasing = async { while release(&cork).await && (&mut writing).now_or_never().is_none() {} };
        let ((), read) = tokio::join!(releasing, far.read_to_end(&mut bytes));
        assert_eq!(read.unwrap(), HELD_BYTES + 1);
    }
}
