//! The body of a guest's response, which keeps the guest running while it is read.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};

use bytes::{Buf as _, Bytes};
use http_body::{Body, Frame, SizeHint};
use k8w_networking::BodyError;
use wasmtime_wasi_http::p2::body::HyperOutgoingBody;

use super::guest::Guest;
use super::serve::Server;

/// Frames of a guest. Polling it polls the guest; dropping it before its end ends the guest.
pub struct GuestBody {
    body: HyperOutgoingBody,
    /// `None` when the guest has returned.
    guest: Option<Guest<()>>,
    server: Arc<Server>,
    /// The whole body, when the guest had returned with no more than one chunk by the time of the head: then its length
    /// is known, and a server writes head and body at once.
    whole: Option<Bytes>,
    ended: bool,
    failed: bool,
}

impl GuestBody {
    /// `error` is that of a guest which already ended. With `head_only` nobody reads the body.
    pub fn new(
        body: HyperOutgoingBody,
        guest: Option<Guest<()>>,
        error: Option<wasmtime::Error>,
        server: Arc<Server>,
        head_only: bool,
    ) -> GuestBody {
        let mut this = GuestBody { body, guest, server, whole: None, ended: head_only, failed: false };
        if let Some(error) = error {
            this.fail(&error);
        }
        if this.guest.is_none() && !this.failed && !head_only {
            this.look_ahead();
        }
        this
    }

    fn look_ahead(&mut self) {
        let mut cx = Context::from_waker(Waker::noop());
        let mut next = || Pin::new(&mut self.body).poll_frame(&mut cx);
        match next() {
            Poll::Ready(None) => self.ended = true,
            Poll::Ready(Some(Ok(frame))) => {
                let Ok(chunk) = frame.into_data() else { return };
                self.ended = matches!(next(), Poll::Ready(None));
                self.whole = Some(chunk);
            }
            _ => {}
        }
    }

    fn fail(&mut self, error: &wasmtime::Error) {
        self.failed = true;
        self.server.failed(error);
    }

    /// Runs the guest; it may have something to say or be done.
    fn poll_guest(&mut self, cx: &mut Context<'_>) {
        if let Some(guest) = &mut self.guest
            && let Poll::Ready(ended) = Pin::new(guest).poll(cx)
        {
            self.guest = None;
            if let Err(error) = ended {
                self.fail(&error);
            }
        }
    }
}

impl Body for GuestBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if let Some(chunk) = self.whole.take() {
            return Poll::Ready(Some(Ok(Frame::data(chunk))));
        }
        if self.ended {
            return Poll::Ready(None);
        }
        self.poll_guest(cx);
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        if frame.is_none() {
            self.ended = true;
            // A guest that trapped ends its body as one that finished does; the reader must be able to tell.
            if self.failed {
                return Poll::Ready(Some(Err("the component failed".into())));
            }
        }
        Poll::Ready(frame.map(|frame| frame.map_err(BodyError::from)))
    }

    fn is_end_stream(&self) -> bool {
        self.ended && self.whole.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        match (&self.whole, self.ended) {
            (Some(chunk), true) => SizeHint::with_exact(chunk.remaining() as u64),
            (None, true) => SizeHint::with_exact(0),
            _ => self.body.size_hint(),
        }
    }
}

impl Drop for GuestBody {
    /// A guest may go on for a while after its response is complete; one whose reader left may not.
    fn drop(&mut self) {
        if !self.ended && self.guest.is_some() {
            // A reader that knows the length stops before it sees the end.
            let mut cx = Context::from_waker(Waker::noop());
            self.ended = matches!(Pin::new(&mut self.body).poll_frame(&mut cx), Poll::Ready(None));
        }
        let (Some(guest), true) = (self.guest.take(), self.ended) else { return };
        let server = self.server.clone();
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move {
                let limit = server.container.http.after_response;
                if let Ok(Err(error)) = tokio::time::timeout(limit, guest).await {
                    server.failed(&error);
                }
            });
        }
    }
}
