//! How many requests of one sender may be on their way over connections at a time, so that none takes all connections with
//! requests to servers that are silent.

use std::collections::HashMap;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{Response, StatusCode};
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::About;
use crate::origin::Origin;
use crate::{Body as Sent, BodyError};

/// Requests of one pod, or of the node itself. Further ones wait for the end of one.
const MAX_OF_ONE: usize = 512;
/// Probes and hooks of one pod.
const MAX_ABOUT_ONE: usize = 64;
/// Requests of all clients outside together, by the ingress and the node's ports.
const MAX_OF_OUTSIDE: usize = 2048;

/// Whose requests are counted together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Sender {
    Node,
    /// The node, with what this pod asks of it.
    About(IpAddr),
    Pod(IpAddr),
    Outside,
}

impl Sender {
    fn of(origin: Origin<'_>, about: Option<About>) -> Self {
        match origin {
            Origin::Node => about.map_or(Self::Node, |About(pod)| Self::About(pod)),
            Origin::Pod(pod) => Self::Pod(pod.ip),
            Origin::Ingress(_) | Origin::Host(_) | Origin::Visitor(_) | Origin::Outside(_) => Self::Outside,
        }
    }

    fn most(self) -> usize {
        match self {
            Self::Node | Self::Pod(_) => MAX_OF_ONE,
            Self::About(_) => MAX_ABOUT_ONE,
            Self::Outside => MAX_OF_OUTSIDE,
        }
    }
}

/// What everybody has left who has a request on its way.
#[derive(Default)]
pub(super) struct Shares(Mutex<HashMap<Sender, Arc<Semaphore>>>);

impl Shares {
    /// Waits until another request may be on its way.
    pub async fn take(self: &Arc<Self>, origin: Origin<'_>, about: Option<About>) -> Arc<Share> {
        let sender = Sender::of(origin, about);
        let left = self.lock().entry(sender).or_insert_with(|| Arc::new(Semaphore::new(sender.most()))).clone();
        // First, so that whoever waits no more is forgotten as well.
        let share = Share { shares: self.clone(), sender, permit: Mutex::default() };
        // Nobody closes it.
        let permit = left.acquire_owned().await.ok();
        *share.permit.lock().unwrap_or_else(PoisonError::into_inner) = permit;
        Arc::new(share)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Sender, Arc<Semaphore>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One request that is on its way, until the last of these is gone: its body may be longer on its way than its answer.
pub(crate) struct Share {
    shares: Arc<Shares>,
    sender: Sender,
    permit: Mutex<Option<OwnedSemaphorePermit>>,
}

impl Share {
    /// The request is not on its way any more, whoever still has this.
    pub fn give_back(&self) {
        drop(self.permit.lock().unwrap_or_else(PoisonError::into_inner).take());
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.give_back();
        let mut shares = self.shares.lock();
        if shares.get(&self.sender).is_some_and(|left| Arc::strong_count(left) == 1) {
            shares.remove(&self.sender);
        }
    }
}

/// The body of a request that is on its way until all of it is sent, whatever was answered.
struct Leaving {
    body: Sent,
    _share: Arc<Share>,
}

/// A body that keeps a share, unless there is none to be sent.
pub(super) fn leaving(body: Sent, share: &Arc<Share>) -> Sent {
    if body.is_end_stream() { body } else { Leaving { body, _share: share.clone() }.boxed_unsync() }
}

impl Body for Leaving {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// The body of an answer, whose request is on its way until all of it has come in.
pub(crate) struct Arriving {
    body: Incoming,
    share: Option<Arc<Share>>,
}

impl Arriving {
    pub(super) fn of(answer: Response<Incoming>, share: Option<Arc<Share>>) -> Response<Arriving> {
        let has_all = answer.status() != StatusCode::SWITCHING_PROTOCOLS && answer.body().is_end_stream();
        answer.map(|body| Arriving { body, share: share.filter(|_| !has_all) })
    }

    /// What is to be kept for as long as a connection is used that has changed to another protocol.
    pub fn take_share(&mut self) -> Option<Arc<Share>> {
        self.share.take()
    }
}

impl Body for Arriving {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<hyper::Result<Frame<Bytes>>>> {
        let polled = Pin::new(&mut self.body).poll_frame(cx);
        let has_ended = matches!(polled, Poll::Ready(None | Some(Err(_))));
        if has_ended || (polled.is_ready() && self.body.is_end_stream()) {
            self.share = None;
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
    use super::*;

    #[tokio::test]
    async fn everybody_has_a_share_and_who_wants_nothing_more_is_forgotten() {
        let shares = Arc::new(Shares::default());
        let client = Origin::Ingress([192, 0, 2, 7].into());
        let mut taken = Vec::new();
        for _ in 0..MAX_OF_ONE {
            taken.push(shares.take(Origin::Node, None).await);
        }
        let mut waiting = Box::pin(shares.take(Origin::Node, None));
        assert!(futures::poll!(&mut waiting).is_pending());
        drop(shares.take(client, None).await);
        drop(shares.take(Origin::Node, Some(About([10, 64, 0, 2].into()))).await);
        assert!(!shares.lock().contains_key(&Sender::Outside));
        taken.pop();
        drop(waiting.await);
        let mut waiting = Box::pin(shares.take(Origin::Node, None));
        taken.push(shares.take(Origin::Node, None).await);
        assert!(futures::poll!(&mut waiting).is_pending());
        drop(taken);
        drop(waiting);
        assert!(shares.lock().is_empty());
    }
}
