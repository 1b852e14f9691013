//! A request that can be had back, body and all, where no connection was made for it.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use bytes::Bytes;
use http::Request;
use http::request::Parts;
use http_body::{Frame, SizeHint};
use http_body_util::BodyExt;

use crate::endpoint::{Body, BodyError};

/// What of a request is kept while it is sent.
pub(super) struct Kept {
    head: Parts,
    body: Arc<Mutex<Option<Body>>>,
}

impl Kept {
    /// The request to be sent, and what is kept of it.
    pub fn of(request: Request<Body>) -> (Request<Body>, Kept) {
        let (head, body) = request.into_parts();
        let body = Arc::new(Mutex::new(Some(body)));
        let lent = Lent { kept: body.clone(), read: None }.boxed_unsync();
        (Request::from_parts(head.clone(), lent), Kept { head, body })
    }

    /// The request as it was; `None` when somebody has read of its body.
    pub fn unread(self) -> Option<Request<Body>> {
        let body = self.body.lock().unwrap_or_else(PoisonError::into_inner).take()?;
        Some(Request::from_parts(self.head, body))
    }
}

/// A body that is another's until it is read.
struct Lent {
    kept: Arc<Mutex<Option<Body>>>,
    read: Option<Body>,
}

impl Lent {
    fn ask<T>(&self, ask: impl FnOnce(&Body) -> T) -> Option<T> {
        match &self.read {
            Some(body) => Some(ask(body)),
            None => self.kept.lock().unwrap_or_else(PoisonError::into_inner).as_ref().map(ask),
        }
    }
}

impl http_body::Body for Lent {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = &mut *self;
        if this.read.is_none() {
            this.read = this.kept.lock().unwrap_or_else(PoisonError::into_inner).take();
        }
        match &mut this.read {
            Some(body) => Pin::new(body).poll_frame(cx),
            None => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.ask(http_body::Body::is_end_stream).unwrap_or(true)
    }

    fn size_hint(&self) -> SizeHint {
        self.ask(http_body::Body::size_hint).unwrap_or_else(|| SizeHint::with_exact(0))
    }
}

#[cfg(test)]
mod tests {
    use http_body::Body as _;
    use http_body_util::Full;

    use super::*;

    fn request() -> Request<Body> {
        let body = Full::new(Bytes::from_static(b"body")).map_err(|never| match never {}).boxed_unsync();
        Request::post("http://web/path").header("host", "web").body(body).unwrap()
    }

    #[tokio::test]
    async fn what_nobody_has_read_can_be_had_back() {
        let (lent, kept) = Kept::of(request());
        assert_eq!((lent.body().size_hint().exact(), lent.body().is_end_stream()), (Some(4), false));
        drop(lent);
        let again = kept.unread().unwrap();
        assert_eq!((again.uri().path(), &again.headers()["host"]), ("/path", &http::HeaderValue::from_static("web")));
        assert_eq!(again.into_body().collect().await.unwrap().to_bytes(), "body");
    }

    #[tokio::test]
    async fn what_somebody_has_read_of_is_gone() {
        let (lent, kept) = Kept::of(request());
        let mut body = lent.into_body();
        assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), "body");
        assert!(body.is_end_stream());
        assert!(kept.unread().is_none());
    }
}
