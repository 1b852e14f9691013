//! A limit of time in which nothing happens: it begins anew whenever a body moves.

use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use http_body::{Body, Frame, SizeHint};
use tokio::time::Instant;

/// When something happened last.
#[derive(Clone)]
pub(crate) struct Progress(Arc<Mutex<Instant>>);

impl Progress {
    pub fn begin() -> Self {
        Self(Arc::new(Mutex::new(Instant::now())))
    }

    /// A body whose frames are progress.
    pub fn of<B>(&self, body: B) -> Moving<B> {
        Moving { body, progress: self.clone() }
    }

    /// What comes of `work`; `None` when nothing has happened for so long before it ended.
    pub async fn within<T>(&self, limit: Duration, work: impl Future<Output = T>) -> Option<T> {
        let mut work = pin!(work);
        loop {
            let last = self.last();
            match tokio::time::timeout_at(last + limit, &mut work).await {
                Ok(done) => return Some(done),
                Err(_) if self.last() > last => {}
                Err(_) => return None,
            }
        }
    }

    fn last(&self) -> Instant {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn make(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }
}

/// See [`Progress::of`].
pub(crate) struct Moving<B> {
    body: B,
    progress: Progress,
}

impl<B: Body + Unpin> Body for Moving<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        let polled = Pin::new(&mut self.body).poll_frame(cx);
        if polled.is_ready() {
            self.progress.make();
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use http_body_util::{BodyExt, StreamBody};

    use super::*;

    /// So many frames, one after so long each.
    fn frames(count: u32, pause: Duration) -> impl Body<Data = Bytes, Error = std::convert::Infallible> + Unpin {
        let frames = futures::stream::unfold(0, move |sent| async move {
            tokio::time::sleep(pause).await;
            (sent < count).then(|| (Ok(Frame::data(Bytes::from_static(b"x"))), sent + 1))
        });
        StreamBody::new(Box::pin(frames))
    }

    #[tokio::test]
    async fn a_body_that_moves_may_take_longer_than_the_limit() {
        let progress = Progress::begin();
        let body = progress.of(frames(15, Duration::from_millis(200)));
        let read = async { body.collect().await.unwrap().to_bytes().len() };
        assert_eq!(progress.within(Duration::from_secs(2), read).await, Some(15));
    }

    #[tokio::test]
    async fn silence_ends_it() {
        let limit = Duration::from_millis(50);
        let progress = Progress::begin();
        let body = progress.of(frames(1, Duration::from_secs(3_600)));
        assert!(progress.within(limit, body.collect()).await.is_none());
        // And so does an answer that does not begin, once the body is there.
        let progress = Progress::begin();
        let body = progress.of(frames(1, Duration::from_millis(1)));
        let answer = async {
            body.collect().await.unwrap();
            std::future::pending::<()>().await;
        };
        assert_eq!(progress.within(limit, answer).await, None);
    }
}
