//! A connection of HTTP/2 with all of its streams in one task, so that what many streams have to say leaves together.
//!
//! ```text
//! watch cache  ──> stream ─┐
//! watch cache  ──> stream ─┼─> connection ──> Cork ──> TLS ──> socket
//! handler task ──> stream ─┘
//! ```
//!
//! hyper would give each stream a task, and h2 flushes after each frame of some length: a change that 200 watches of one
//! connection see would be 200 wake-ups, 200 records of TLS and as many system calls. Here streams that were woken run one
//! after another, then the connection, which was woken behind them, makes frames of what they gave it, and then all of it is
//! released at once.
//!
//! Streams only pass answers on. What makes the answers has tasks of its own.

use std::future::{Future, poll_fn};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;

use futures::future::{BoxFuture, FutureExt};
use futures::stream::{FuturesUnordered, StreamExt};
use hyper::rt::Executor;
use tokio::io::AsyncWrite;

use super::cork::Cork;
use crate::body::BodyError;

/// A stream, which ends with nothing; or the connection, and how it ended.
type Part<'a> = BoxFuture<'a, Option<hyper::Result<()>>>;

/// The streams that the connection has opened and that do not run yet.
#[derive(Clone, Default)]
pub struct Streams(Arc<Mutex<Vec<Part<'static>>>>);

impl<F> Executor<F> for Streams
where
    F: Future<Output = ()> + Send + 'static,
{
    fn execute(&self, stream: F) {
        let stream = stream.map(|()| None).boxed();
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(stream);
    }
}

impl Streams {
    /// Runs `connection`, whose executor this is and which writes to `cork`, and its streams until the connection ends.
    ///
    /// # Errors
    /// The connection's.
    pub async fn run<C, S>(self, connection: C, cork: Cork<S>) -> Result<(), BodyError>
    where
        C: Future<Output = hyper::Result<()>> + Send,
        S: AsyncWrite + Unpin,
    {
        let mut parts: FuturesUnordered<Part<'_>> = FuturesUnordered::new();
        parts.push(connection.map(Some).boxed());
        poll_fn(|context| {
            loop {
                match parts.poll_next_unpin(context) {
                    Poll::Ready(Some(Some(ended))) => return Poll::Ready(ended.map_err(Into::into)),
                    Poll::Ready(Some(None)) => continue,
                    Poll::Ready(None) | Poll::Pending => {}
                }
                let opened = std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner));
                if !opened.is_empty() {
                    parts.extend(opened);
                    continue;
                }
                match cork.poll_release(context) {
                    // The connection has more to write.
                    Poll::Ready(Ok(true)) => {}
                    Poll::Ready(Ok(false)) | Poll::Pending => return Poll::Pending,
                    Poll::Ready(Err(error)) => return Poll::Ready(Err(error.into())),
                }
            }
        })
        .await
    }
}
