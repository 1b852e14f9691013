//! The body of a guest's response, while the guest may still run.

use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt;
use k8w_networking::BodyError;
use wasmtime_wasi::runtime::{AbortOnDropJoinHandle, poll_noop, spawn};
use wasmtime_wasi_http::{Error, WasiBody};

use super::guest::Guest;
use super::serve::Turn;

/// Frames that a guest can write while nobody reads: what its channel holds (two chunks), and trailers.
const MAX_FRAMES_AHEAD: usize = 3;

/// What is said of a body that ends with the error of the protocol: both look the same.
const UNFINISHED: &str = ": it did not finish its body, or passed on an answer to a request of its own that broke off";

/// Frames of a guest, which writes no further ahead than its channel allows. Dropping it before its end ends the guest.
pub struct GuestBody {
    body: WasiBody,
    /// `None` when the guest had returned by the time of the head.
    guest: Option<AbortOnDropJoinHandle<()>>,
    turn: Arc<Turn>,
    /// What the guest had written by the time of the head. When that is all of it, its length is known, and a server
    /// writes head and body at once.
    ahead: [Option<Result<Frame<Bytes>, BodyError>>; MAX_FRAMES_AHEAD],
    length: Length,
    /// What is wrong with its length has been told.
    told: bool,
    ended: bool,
}

/// How long a body is so far, and what its head has said that it would be.
#[derive(Debug)]
struct Length {
    said_bytes: Option<u64>,
    sent_bytes: u64,
}

impl Length {
    /// Takes note of what comes of a body; `None` is its end. Answers with what is wrong with it, if anything is.
    fn note(&mut self, came: Option<&Result<Frame<Bytes>, Error>>) -> Option<String> {
        if let Some(Ok(frame)) = came {
            self.sent_bytes += frame.data_ref().map_or(0, |chunk| chunk.len() as u64);
        }
        let sent_bytes = match came {
            // What it wanted to send.
            Some(Err(Error::HttpResponseBodySize(Some(tried_bytes)))) => self.sent_bytes.max(*tried_bytes),
            _ => self.sent_bytes,
        };
        let is_over = match came {
            Some(Ok(frame)) => frame.is_trailers(),
            None | Some(Err(Error::HttpResponseBodySize(_) | Error::HttpProtocolError)) => true,
            // It has its body from somebody else, who broke off.
            Some(Err(_)) => return None,
        };
        let is_protocol_error = matches!(came, Some(Err(Error::HttpProtocolError)));
        let why = if is_protocol_error { UNFINISHED } else { "" };
        match self.said_bytes {
            Some(said) if sent_bytes > said => {
                Some(format!("the component's answer is longer than the {said} bytes that its content-length says"))
            }
            Some(said) if is_over && sent_bytes < said => Some(format!(
                "the component's answer ended after {sent_bytes} of the {said} bytes that its content-length says{why}"
            )),
            None if matches!(came, Some(Err(_))) => {
                Some(format!("the component's answer broke off after {sent_bytes} bytes{why}"))
            }
            _ => None,
        }
    }
}

impl GuestBody {
    /// A guest that still runs goes on in a task of its own: it may have to read its request to the end before its
    /// client begins to read the response. With `head_only` nobody reads the body. `said_bytes` is what its head says.
    pub fn new(
        body: WasiBody,
        mut guest: Option<Guest<()>>,
        turn: Arc<Turn>,
        head_only: bool,
        said_bytes: Option<u64>,
    ) -> GuestBody {
        let mut this = GuestBody {
            body,
            guest: None,
            turn,
            ahead: [const { None }; MAX_FRAMES_AHEAD],
            length: Length { said_bytes, sent_bytes: 0 },
            told: false,
            ended: head_only,
        };
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
        while !self.ended
            && let Some(free) = self.ahead.iter().position(Option::is_none)
            && let Some(came) = poll_noop(pin!(self.body.frame()))
        {
            any |= came.is_some();
            self.ahead[free] = self.take(came);
        }
        any
    }

    /// Passes on what comes of the body. One that trapped ends its body in the same way as one that finished does; its client
    /// is to see that it broke off. One that did not send what it said is told so in its log, as nobody else could tell.
    fn take(&mut self, came: Option<Result<Frame<Bytes>, Error>>) -> Option<Result<Frame<Bytes>, BodyError>> {
        self.ended |= came.is_none();
        if self.turn.has_failed() {
            return came.map(|frame| frame.map_err(BodyError::from)).or(Some(Err("the component failed".into())));
        }
        let wrong = self.length.note(came.as_ref());
        if let Some(wrong) = wrong.as_deref().filter(|_| !self.told) {
            self.told = true;
            self.turn.server.misanswered(wrong);
        }
        came.map(|frame| frame.map_err(BodyError::from)).or(wrong.map(|wrong| Err(wrong.into())))
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
        let came = ready!(Pin::new(&mut self.body).poll_frame(cx));
        Poll::Ready(self.take(came))
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
        // A reader that knows the length stops before it sees the end.
        if !self.ended
            && let Some(came) = poll_noop(pin!(self.body.frame()))
        {
            self.take(came);
        }
        if let Some(guest) = self.guest.take()
            && self.ended
            && let Ok(runtime) = tokio::runtime::Handle::try_current()
        {
            let limit = self.turn.server.container.http.after_response;
            runtime.spawn(async move { tokio::time::timeout(limit, guest).await });
        }
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;

    /// What is said of a body that came in these pieces, and ended so.
    fn said(said_bytes: Option<u64>, pieces: &[usize], end: Option<Error>) -> String {
        let mut length = Length { said_bytes, sent_bytes: 0 };
        let mut frames: Vec<_> = pieces.iter().map(|length| Some(Ok(Frame::data(vec![0; *length].into())))).collect();
        frames.push(end.map(Err));
        frames.iter().filter_map(|came| length.note(came.as_ref())).next().unwrap_or_default()
    }

    #[test]
    fn a_body_is_as_long_as_its_head_says() {
        for fine in [
            said(None, &[3, 4], None),
            said(Some(7), &[3, 4], None),
            said(Some(0), &[], None),
            said(Some(7), &[3], Some(Error::ConnectionTerminated)),
        ] {
            assert_eq!(fine, "");
        }
        let short = expect!["the component's answer ended after 3 of the 7 bytes that its content-length says"];
        short.assert_eq(&said(Some(7), &[3], None));
        short.assert_eq(&said(Some(7), &[3], Some(Error::HttpResponseBodySize(Some(3)))));
        let long = expect!["the component's answer is longer than the 7 bytes that its content-length says"];
        long.assert_eq(&said(Some(7), &[3, 5], None));
        long.assert_eq(&said(Some(7), &[3], Some(Error::HttpResponseBodySize(Some(9)))));
        // A component that leaves its body unfinished, or passes on that somebody else did.
        let unfinished = |known| said(known, &[3], Some(Error::HttpProtocolError));
        expect!["the component's answer broke off after 3 bytes: it did not finish its body, or passed on an answer to a request of its own that broke off"].assert_eq(&unfinished(None));
        expect!["the component's answer ended after 3 of the 7 bytes that its content-length says: it did not finish its body, or passed on an answer to a request of its own that broke off"].assert_eq(&unfinished(Some(7)));
    }
}
