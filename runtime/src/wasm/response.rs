//! The body of a guest's response, while the guest may still run.

use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt;
use k8w_networking::BodyError;
use wasmtime_wasi::runtime::{AbortOnDropJoinHandle, poll_noop, spawn};
use wasmtime_wasi_http::WasiBody;

use super::guest::Guest;
use super::serve::Turn;

/// Frames that a guest can write while nobody reads: what its channel holds (two chunks), and trailers.
const MAX_FRAMES_AHEAD: usize = 3;

/// Frames of a guest, which writes no further ahead than its channel allows. Dropping it before its end ends the guest.
pub struct GuestBody {
    body: WasiBody,
    /// `None` when the guest had returned by the time of the head.
    guest: Option<AbortOnDropJoinHandle<()>>,
    turn: Arc<Turn>,
    /// What the guest had written by the time of the head. When that is all of it, its length is known, and a server
    /// writes head and body at once.
    ahead: [Option<Result<Frame<Bytes>, BodyError>>; MAX_FRAMES_AHEAD],
    ended: bool,
}

impl GuestBody {
    /// A guest that still runs goes on in a task of its own: it may have to read its request to the end before its
    /// client begins to read the response. With `head_only` nobody reads the body.
    pub fn new(body: WasiBody, mut guest: Option<Guest<()>>, turn: Arc<Turn>, head_only: bool) -> GuestBody {
        let mut this =
            GuestBody { body, guest: None, turn, ahead: [const { None }; MAX_FRAMES_AHEAD], ended: head_only };
        if !head_only {
            this.look_ahead();
        }
        // A guest of WASI 0.3 is told of each piece that was taken, and writes on.
        while !this.ended && guest.is_some() {
            this.run_on(&mut guest);
            if !this.look_ahead() {
                break;
            }
        }
        // One whose body has been taken whole has often nothing left to do.
        if this.ended {
            this.run_on(&mut guest);
        }
        let Some(mut guest) = guest else { return this };
        let turn = this.turn.clone();
        this.guest = Some(spawn(async move {
            // By reference: a guest that was ended keeps its streams until that has been reported.
            if let Err(error) = (&mut guest).await {
                turn.report(&error);
            }
        }));
        this
    }

    /// Lets a guest run until it waits, and reports how it ended if it did.
    fn run_on(&self, guest: &mut Option<Guest<()>>) {
        if let Some(returned) = guest.as_mut().and_then(|running| poll_noop(Pin::new(running))) {
            *guest = None;
            if let Err(error) = returned {
                self.turn.report(&error);
            }
        }
    }

    /// Takes what the guest has written, as far as there is room; true when that was anything.
    fn look_ahead(&mut self) -> bool {
        let mut any = false;
        for slot in self.ahead.iter_mut().filter(|slot| slot.is_none()) {
            match poll_noop(pin!(self.body.frame())) {
                Some(Some(frame)) => *slot = Some(frame.map_err(BodyError::from)),
                Some(None) => {
                    self.ended = !self.turn.has_failed();
                    break;
                }
                None => break,
            }
            any = true;
        }
        any
    }

    /// Whether the guest finished its body. One that trapped ends its body in the same way as one that finished does.
    fn end(&mut self) -> Option<Result<Frame<Bytes>, BodyError>> {
        self.ended = true;
        self.turn.has_failed().then(|| Err("the component failed".into()))
    }
}

impl Body for GuestBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if let Some(frame) = self.ahead.iter_mut().find_map(Option::take) {
            return Poll::Ready(Some(frame));
        }
        if self.ended {
            return Poll::Ready(None);
        }
        Poll::Ready(match ready!(Pin::new(&mut self.body).poll_frame(cx)) {
            Some(frame) => Some(frame.map_err(BodyError::from)),
            None => self.end(),
        })
    }

    fn is_end_stream(&self) -> bool {
        self.ended && self.ahead.iter().all(Option::is_none)
    }

    fn size_hint(&self) -> SizeHint {
        let mut length_bytes = 0;
        for frame in self.ahead.iter().flatten() {
            match frame.as_ref().ok().and_then(Frame::data_ref) {
                Some(chunk) => length_bytes += chunk.len() as u64,
                // With a length, HTTP/1.1 would have no place for trailers, nor for an error.
                None => return SizeHint::default(),
            }
        }
        if self.ended { SizeHint::with_exact(length_bytes) } else { self.body.size_hint() }
    }
}

impl Drop for GuestBody {
    /// A guest may go on for a while after its response is complete; one whose client left may not.
    fn drop(&mut self) {
        let Some(guest) = self.guest.take() else { return };
        if !self.ended {
            // A reader that knows the length stops before it sees the end.
            self.ended = matches!(poll_noop(pin!(self.body.frame())), Some(None));
        }
        if self.ended
            && let Ok(runtime) = tokio::runtime::Handle::try_current()
        {
            let limit = self.turn.server.container.http.after_response;
            runtime.spawn(async move { tokio::time::timeout(limit, guest).await });
        }
    }
}
