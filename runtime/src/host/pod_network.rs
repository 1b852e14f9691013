//! The network as one container has it: who it is to others, what names mean to it, and how many sockets it may have.

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use k8w_networking::{Network, Open, OpenConnections, PodIdentity, PodListener, Stream};

use crate::engine::Names;

/// What all instances of a container share of the network.
pub struct PodNetwork {
    pub network: Arc<Network>,
    pub pod: PodIdentity,
    pub names: Names,
    /// What the pod itself is called, as in its `/etc/hosts`.
    pub own_names: Vec<String>,
    max_sockets: usize,
    sockets: AtomicUsize,
    ports: Mutex<Vec<Port>>,
}

/// A port that a container listens on, or did: its connections may outlive it.
#[derive(Clone)]
struct Port {
    listener: Weak<PodListener>,
    open: OpenConnections,
}

impl PodNetwork {
    /// A container's share, with at most `max_sockets` at a time.
    pub fn new(network: Arc<Network>, pod: PodIdentity, names: Names, max_sockets: usize) -> Self {
        let (own, domain) = names.hostname.of_pod(&pod.name, &pod.namespace, network.cluster_domain());
        let own_names = domain.map(|domain| format!("{own}.{domain}")).into_iter().chain([own]).collect();
        Self { network, pod, names, own_names, max_sockets, sockets: AtomicUsize::new(0), ports: Mutex::default() }
    }

    /// Opens a byte stream as [`Network::connect`] does.
    ///
    /// # Errors
    /// Those of [`Network::connect`].
    pub async fn connect(&self, remote: SocketAddr) -> io::Result<Stream> {
        self.network.connect(Some(&self.pod), remote).await
    }

    /// Remembers a port that the container listens on, and forgets those that nothing is left of.
    pub fn listens(&self, listener: &Arc<PodListener>) {
        let mut ports = self.ports();
        ports.retain(|port| port.listener.strong_count() > 0 || !port.open.is_none());
        ports.push(Port { listener: Arc::downgrade(listener), open: listener.open_connections() });
    }

    /// Whether the container listens on a port of TCP.
    pub fn listens_on(&self, number: u16) -> bool {
        let is_at = |listener: Arc<PodListener>| listener.local_addr().port() == number;
        self.ports().iter().any(|port| port.listener.upgrade().is_some_and(is_at))
    }

    /// Refuses whoever connects from now on. What is returned waits for the end of the connections that came in before.
    pub fn drain(&self) -> impl Future<Output = ()> + Send + use<> {
        let ports = self.ports().clone();
        for listener in ports.iter().filter_map(|port| port.listener.upgrade()) {
            listener.close();
        }
        async move {
            for port in ports {
                port.open.none().await;
            }
        }
    }

    fn ports(&self) -> MutexGuard<'_, Vec<Port>> {
        self.ports.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sockets there are.
    pub fn sockets(&self) -> usize {
        self.sockets.load(Ordering::Relaxed)
    }
}

/// One of the sockets that a container may have.
pub struct SocketPermit {
    network: Arc<PodNetwork>,
    /// Of a connection that came in.
    _open: Option<Open>,
}

impl SocketPermit {
    /// `None` when it has them all.
    pub fn take(network: &Arc<PodNetwork>) -> Option<SocketPermit> {
        SocketPermit::of(network, None)
    }

    /// Likewise for a connection that came in, which is open as long as the permit is there.
    pub fn take_for(network: &Arc<PodNetwork>, open: Open) -> Option<SocketPermit> {
        SocketPermit::of(network, Some(open))
    }

    fn of(network: &Arc<PodNetwork>, open: Option<Open>) -> Option<SocketPermit> {
        let permit = SocketPermit { network: network.clone(), _open: open };
        // Counted first, so that dropping the permit undoes it on both paths.
        let before = network.sockets.fetch_add(1, Ordering::Relaxed);
        (before < network.max_sockets).then_some(permit)
    }
}

impl Drop for SocketPermit {
    fn drop(&mut self) {
        self.network.sockets.fetch_sub(1, Ordering::Relaxed);
    }
}
