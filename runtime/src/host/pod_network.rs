//! The network as one container has it: who it is to others, what names mean to it, and how many sockets it may have.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use k8w_networking::{Network, PodIdentity, Stream};

use crate::engine::Names;

/// What all instances of a container share of the network.
pub struct PodNetwork {
    pub network: Arc<Network>,
    pub pod: PodIdentity,
    pub names: Names,
    max_sockets: usize,
    sockets: AtomicUsize,
}

impl PodNetwork {
    /// A container's share, with at most `max_sockets` at a time.
    pub fn new(network: Arc<Network>, pod: PodIdentity, names: Names, max_sockets: usize) -> Self {
        Self { network, pod, names, max_sockets, sockets: AtomicUsize::new(0) }
    }

    /// Opens a byte stream as [`Network::connect`] does.
    ///
    /// # Errors
    /// Those of [`Network::connect`].
    pub async fn connect(&self, remote: SocketAddr) -> io::Result<Stream> {
        self.network.connect(Some(&self.pod), remote).await
    }

    /// Sockets there are.
    pub fn sockets(&self) -> usize {
        self.sockets.load(Ordering::Relaxed)
    }
}

/// One of the sockets that a container may have.
pub struct SocketPermit(Arc<PodNetwork>);

impl SocketPermit {
    /// `None` when it has them all.
    pub fn take(network: &Arc<PodNetwork>) -> Option<SocketPermit> {
        let permit = SocketPermit(network.clone());
        // Counted first, so that dropping the permit undoes it on both paths.
        let before = network.sockets.fetch_add(1, Ordering::Relaxed);
        (before < network.max_sockets).then_some(permit)
    }
}

impl Drop for SocketPermit {
    fn drop(&mut self) {
        self.0.sockets.fetch_sub(1, Ordering::Relaxed);
    }
}
