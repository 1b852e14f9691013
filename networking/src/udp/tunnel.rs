//! The way of datagrams to a pod of another node: a stream for each client of an endpoint, on which every datagram has its
//! length in front.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::sync::{Semaphore, mpsc};
use tokio_util::task::AbortOnDropHandle;
use tracing::debug;

use super::flows::FLOW_TIMEOUT;
use super::{Datagram, Door};
use crate::network::{Network, Refused};
use crate::origin::Origin;
use crate::peers::{Claim, Peer};
use crate::service::Protocol;
use crate::stream::Stream;

/// Datagrams that wait for the stream in one direction; further ones are lost.
const QUEUED_DATAGRAMS: usize = 16;

/// Tunnels of this node at a time, so that connections have their streams whatever comes in; datagrams of further clients are
/// lost.
const MAX_TUNNELS: usize = 1_024;

/// How long after a tunnel was refused another may be asked for; datagrams are lost meanwhile.
const REFUSED_PAUSE: Duration = Duration::from_secs(1);

/// The places of a node's tunnels.
pub(crate) struct Tunnels(Semaphore);

impl Default for Tunnels {
    fn default() -> Self {
        Self(Semaphore::new(MAX_TUNNELS))
    }
}

/// One client's way to one endpoint. Dropping it ends it.
pub(super) struct Tunnel {
    datagrams: mpsc::Sender<Bytes>,
    _carrying: AbortOnDropHandle<()>,
}

impl Tunnel {
    /// One whose `answers` are handed over as they come.
    pub fn open(
        network: Arc<Network>,
        client: SocketAddr,
        claim: Claim,
        peer: Peer,
        answers: impl Fn(Bytes) + Send + Sync + 'static,
    ) -> Self {
        let (datagrams, waiting) = mpsc::channel(QUEUED_DATAGRAMS);
        let carrying = tokio::spawn(async move {
            let opened = async {
                let place = network.tunnels().0.try_acquire().map_err(io::Error::other)?;
                let stream = network.open_datagrams(claim, client.port(), &peer).await?;
                io::Result::Ok((place, stream))
            };
            let lost = |error| debug!(%client, address = %peer.address, %error, "datagrams to another node are lost");
            match opened.await {
                Ok((_place, stream)) => {
                    if let Err(error) = carry(stream, waiting, FLOW_TIMEOUT, answers).await {
                        lost(error);
                    }
                }
                Err(error) => {
                    lost(error);
                    tokio::time::sleep(REFUSED_PAUSE).await;
                    drop(waiting);
                }
            }
        });
        Self { datagrams, _carrying: AbortOnDropHandle::new(carrying) }
    }

    /// Sends a datagram, or loses it.
    pub fn send(&self, bytes: Bytes) {
        let _ = self.datagrams.try_send(bytes);
    }

    /// Whether another is to be opened for further datagrams.
    pub fn has_ended(&self) -> bool {
        self.datagrams.is_closed()
    }
}

/// Carries datagrams both ways, until the stream ends or nothing has been sent for as long as `silence`.
async fn carry(
    stream: Stream,
    mut out: mpsc::Receiver<Bytes>,
    silence: Duration,
    take: impl Fn(Bytes),
) -> io::Result<()> {
    let (mut read, mut write) = tokio::io::split(stream);
    let outwards = async {
        while let Ok(Some(bytes)) = tokio::time::timeout(silence, out.recv()).await {
            send(&mut write, &bytes).await?;
        }
        Ok(())
    };
    let inwards = async {
        loop {
            take(receive(&mut read).await?);
        }
    };
    tokio::select! {
        ended = outwards => ended,
        ended = inwards => ended,
    }
}

async fn send(stream: &mut WriteHalf<Stream>, bytes: &[u8]) -> io::Result<()> {
    let length = u16::try_from(bytes.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
    stream.write_all(&[&length.to_be_bytes(), bytes].concat()).await
}

async fn receive(stream: &mut ReadHalf<Stream>) -> io::Result<Bytes> {
    let mut bytes = vec![0; usize::from(stream.read_u16().await?)];
    stream.read_exact(&mut bytes).await?;
    Ok(bytes.into())
}

impl Network {
    /// The end of a tunnel to a port of this node's: what a client of another node sends is handed to it.
    ///
    /// # Errors
    /// When no pod has the port, or no policy lets the client send there.
    pub(crate) fn take_datagrams(
        self: &Arc<Self>,
        origin: Origin<'static>,
        client_port: u16,
        to: SocketAddr,
    ) -> Result<Stream, Refused> {
        let network = self.clone();
        let peer = SocketAddr::new(origin.seen_as(), client_port);
        let queue = move || {
            let queue = network.own_queue(to)?;
            let policies = &network.load_tables().policies;
            let is_allowed = policies.allows(origin.end(), queue.end(), to.port(), Protocol::Udp);
            is_allowed.then_some(queue).ok_or(Refused::NotAllowed(to))
        };
        queue()?;
        let (near, far) = Stream::pipe();
        let (answers, waiting) = mpsc::channel(QUEUED_DATAGRAMS);
        let door = Arc::new(Door::Tunnel(answers));
        tokio::spawn(async move {
            // Each is decided on: a pod may be replaced, and a policy change, while others are on their way.
            let take = |bytes| match queue() {
                Ok(queue) => queue.offer(Datagram { bytes, peer, door: Some(door.clone()) }),
                Err(error) => debug!(%peer, %error, "a datagram is lost"),
            };
            // A pod need not answer: the client's end says how long the tunnel lasts.
            if let Err(error) = carry(far, waiting, Duration::MAX, take).await {
                debug!(%peer, %error, "datagrams from another node have ended");
            }
        });
        Ok(near)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_end_that_says_nothing_ends_nothing() {
        let silence = Duration::from_millis(1);
        let (near, far) = Stream::pipe();
        let ((_far_sends, far_out), (near_sends, near_out)) = (mpsc::channel(1), mpsc::channel(1));
        let (heard, mut hears) = mpsc::channel(1);
        let take = move |bytes| drop(heard.try_send(bytes));
        let taking = tokio::spawn(carry(far, far_out, Duration::MAX, take));
        let sending = tokio::spawn(carry(near, near_out, silence * 10_000, |_| {}));
        tokio::time::sleep(silence * 10).await;
        near_sends.send(Bytes::from_static(b"after a while")).await.unwrap();
        assert_eq!(hears.recv().await.unwrap(), "after a while");
        drop(near_sends);
        sending.await.unwrap().unwrap();
        assert!(taking.await.unwrap().is_err(), "it ends with the other");
    }
}
