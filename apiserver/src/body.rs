//! The one body type of requests and responses: bytes that are there already, or a stream of them.

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use http_body_util::BodyExt;
use http_body_util::combinators::UnsyncBoxBody;
use hyper::body::Incoming;
use std::pin::Pin;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

/// Why a streamed body broke off.
pub type BodyError = Box<dyn std::error::Error + Send + Sync>;

/// A request's or a response's body. Almost all of them are [`Body::Full`] and cost no allocation of their own.
#[derive(Default)]
pub enum Body {
    #[default]
    Empty,
    Full(Bytes),
    /// What a client sends over a socket, as hyper hands it over.
    Incoming(Incoming),
    /// The lock is never contended: it only makes the body shareable, which a request that is lent out needs.
    Stream(Mutex<UnsyncBoxBody<Bytes, BodyError>>),
}

impl Body {
    /// Any other body, boxed.
    pub fn stream<B>(body: B) -> Self
    where
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BodyError>,
    {
        if body.is_end_stream() {
            Body::Empty
        } else {
            Body::Stream(Mutex::new(body.map_err(Into::into).boxed_unsync()))
        }
    }
}

impl From<Bytes> for Body {
    fn from(bytes: Bytes) -> Self {
        Body::Full(bytes)
    }
}

impl From<Incoming> for Body {
    fn from(incoming: Incoming) -> Self {
        if http_body::Body::is_end_stream(&incoming) { Body::Empty } else { Body::Incoming(incoming) }
    }
}

impl From<Vec<u8>> for Body {
    fn from(bytes: Vec<u8>) -> Self {
        Body::Full(bytes.into())
    }
}

impl From<String> for Body {
    fn from(text: String) -> Self {
        Body::Full(text.into())
    }
}

impl From<&'static str> for Body {
    fn from(text: &'static str) -> Self {
        Body::Full(Bytes::from_static(text.as_bytes()))
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match &mut *self {
            Body::Empty => Poll::Ready(None),
            Body::Full(bytes) => {
                let bytes = std::mem::take(bytes);
                *self = Body::Empty;
                Poll::Ready((!bytes.is_empty()).then(|| Ok(Frame::data(bytes))))
            }
            Body::Incoming(incoming) => Pin::new(incoming).poll_frame(context).map_err(Into::into),
            Body::Stream(stream) => Pin::new(exclusive(stream)).poll_frame(context),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Body::Empty => true,
            Body::Full(bytes) => bytes.is_empty(),
            Body::Incoming(incoming) => incoming.is_end_stream(),
            Body::Stream(stream) => shared(stream).is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Body::Empty => SizeHint::with_exact(0),
            Body::Full(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Body::Incoming(incoming) => incoming.size_hint(),
            Body::Stream(stream) => shared(stream).size_hint(),
        }
    }
}

fn exclusive<T>(lock: &mut Mutex<T>) -> &mut T {
    lock.get_mut().unwrap_or_else(PoisonError::into_inner)
}

fn shared<T>(lock: &Mutex<T>) -> MutexGuard<'_, T> {
    lock.lock().unwrap_or_else(PoisonError::into_inner)
}
