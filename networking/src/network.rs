//! The node's network as its pods and listeners see it: tables, every pod's own ports, and connections between them.

use std::collections::BTreeSet;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use ipnet::IpNet;
use tokio::net::TcpSocket;
use tokio::sync::watch;

use crate::attempts::Attempts;
use crate::balance::Affinities;
use crate::client::{Client, SendError};
use crate::dns::{self, Meaning};
use crate::endpoint::{Body, Endpoint, Handler, PodIdentity};
use crate::host_port::HostPorts;
use crate::listener::{PodListener, accept_queue};
use crate::origin::Origin;
use crate::peers::{self, Carries, Claim, Peer};
use crate::policy::{DNS, End, Part};
use crate::registry::{Owner, Registered, Registration, Registry};
use crate::service::{Protocol, ServicePort};
use crate::stream::Stream;
use crate::tables::Tables;
use crate::{open_files, reach, serve, udp};

/// How long dialling a remote endpoint may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long the tables may take to follow a pod that stopped.
const SETTLE_TIMEOUT: Duration = Duration::from_secs(2);
/// Where DNS listens (RFC 1035 §4.2).
pub(crate) const DNS_PORT: u16 = 53;
/// Ports given to `bind` with port 0 and to the near end of in-process connections (Linux's default local range).
pub(crate) const EPHEMERAL_PORTS: std::ops::Range<u16> = 32768..61000;

/// What the network must know about the cluster. It does not change while the process runs.
#[derive(Clone)]
pub struct Config {
    /// Addresses of Services.
    pub service_cidr: IpNet,
    /// Addresses of pods, on all nodes. Addresses in here that nothing listens on are refused, never dialled, unless a
    /// table names them as an endpoint.
    pub pod_cidrs: Vec<IpNet>,
    /// Addresses of this node's own wasm pods: what does not listen here listens nowhere.
    pub wasm_cidr: Option<IpNet>,
    /// `cluster.local` unless configured otherwise; no dot at either end.
    pub cluster_domain: String,
    /// This node's name, for `internalTrafficPolicy: Local`.
    pub node_name: String,
    /// How to speak TLS to foreign hosts. Without it `https` requests are refused.
    pub client_tls: Option<Arc<rustls::ClientConfig>>,
}

/// Why a connection is not made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// Nothing listens there.
    #[error("nothing listens on {0}")]
    NothingListens(SocketAddr),
    /// The node port was a Service's when the connection came in, and is none now.
    #[error("no service has node port {0}")]
    NoSuchNodePort(u16),
    /// Likewise the host port, of a pod.
    #[error("no pod has host port {0}")]
    NoSuchHostPort(u16),
    /// The Service exists and has no endpoint that is ready.
    #[error("service {service} has no ready endpoints")]
    NoEndpoints { service: String },
    /// The Service's endpoints are pods that have stopped listening, which the tables will know in a moment.
    #[error("service {service} has no ready endpoints")]
    Stopped { service: String },
    /// The Service's load balancer does not let the client in.
    #[error("the source ranges of service {service} do not hold the client")]
    SourceRanges { service: String },
    /// A NetworkPolicy of either end does not allow it.
    #[error("no NetworkPolicy allows a connection to {0}")]
    NotAllowed(SocketAddr),
}

impl From<Refused> for io::Error {
    fn from(refused: Refused) -> Self {
        io::Error::new(io::ErrorKind::ConnectionRefused, refused)
    }
}

/// The network of one node.
pub struct Network {
    config: Config,
    tables: ArcSwap<Tables>,
    registry: Arc<Registry>,
    udp_ports: udp::Ports,
    tunnels: udp::Tunnels,
    host_ports: HostPorts,
    peers: peers::Dialer,
    affinities: Affinities,
    client: Client,
    next_ephemeral_port: AtomicU16,
    changes: watch::Sender<()>,
    /// Every range of the cluster.
    cluster_ranges: Vec<IpNet>,
}

impl Network {
    pub fn new(config: Config) -> Arc<Self> {
        Arc::new_cyclic(|network| Self {
            client: Client::new(network.clone(), config.client_tls.clone()),
            cluster_ranges: std::iter::once(config.service_cidr).chain(config.pod_cidrs.iter().copied()).collect(),
            config,
            tables: ArcSwap::default(),
            registry: Registry::new(),
            udp_ports: udp::Ports::default(),
            tunnels: udp::Tunnels::default(),
            host_ports: HostPorts::default(),
            peers: peers::Dialer::default(),
            affinities: Affinities::default(),
            next_ephemeral_port: AtomicU16::new(EPHEMERAL_PORTS.start),
            changes: watch::Sender::default(),
        })
    }

    /// Says how this node shows itself to others. Until then pods of other nodes cannot be reached.
    pub fn connect_peers(&self, tls: Arc<rustls::ClientConfig>) {
        self.peers.speak(tls);
    }

    /// Replaces the tables. Connections and requests that have begun go on as decided. A node whose pods have addresses that
    /// are none of the cluster's is not believed.
    pub fn update(&self, mut tables: Tables) {
        tables.nodes.keep_within(&self.config.pod_cidrs);
        tables.certificates.keep_read(&self.tables.load().certificates);
        self.tables.store(Arc::new(tables));
        self.tell_changed();
    }

    pub(crate) fn tell_changed(&self) {
        self.changes.send_replace(());
    }

    /// Tells when the tables have been replaced, or the host ports of pods.
    pub fn changes(&self) -> watch::Receiver<()> {
        self.changes.subscribe()
    }

    /// The tables of this moment, for one decision: not to be held across a wait.
    pub(crate) fn load_tables(&self) -> arc_swap::Guard<Arc<Tables>> {
        self.tables.load()
    }

    pub(crate) fn client(&self) -> &Client {
        &self.client
    }

    pub(crate) fn udp_ports(&self) -> &udp::Ports {
        &self.udp_ports
    }

    pub(crate) fn host_ports(&self) -> &HostPorts {
        &self.host_ports
    }

    pub(crate) fn tunnels(&self) -> &udp::Tunnels {
        &self.tunnels
    }

    pub fn tables(&self) -> Arc<Tables> {
        self.tables.load_full()
    }

    /// What `name` means to a pod in `from_namespace`.
    pub fn lookup_host(&self, from_namespace: &str, name: &str) -> Meaning {
        self.tables.load().names.meaning(name, from_namespace, &self.config.cluster_domain)
    }

    /// Puts an HTTP handler at a pod's port. Errors: `AddrInUse`.
    pub fn bind_http(&self, pod: &PodIdentity, port: u16, handler: Arc<dyn Handler>) -> io::Result<Registration> {
        let registered = Registered::of_pod(pod, Endpoint::Local(handler));
        let claimed = self.registry.claim(SocketAddr::new(pod.ip, port), registered);
        claimed.ok_or_else(|| io::ErrorKind::AddrInUse.into())
    }

    /// Makes `advertised`, an address that the API server has in the cluster, stand for `actual`, where it really listens.
    pub fn register_api_server(&self, advertised: SocketAddr, actual: SocketAddr) -> Registration {
        self.registry.replace(advertised, Registered::api_server(actual))
    }

    /// Whether an address is one that the API server has in the cluster.
    pub(crate) fn is_api_server(&self, address: SocketAddr) -> bool {
        self.registry.get(address).is_some_and(|found| matches!(found.owner, Owner::ApiServer))
    }

    /// Says how pods know the API server by `https`. Until then they cannot.
    pub fn trust_cluster(&self, tls: Arc<rustls::ClientConfig>) {
        self.client.trust_cluster(tls);
    }

    /// Listens on a port of the pod's own address; port 0 picks a free one. Errors: `AddrInUse`.
    pub async fn bind_tcp(&self, pod: &PodIdentity, port: u16) -> io::Result<PodListener> {
        self.bind(pod, port, false)
    }

    /// Likewise on the pod's loopback address: only the pod itself can connect.
    pub async fn bind_tcp_loopback(&self, pod: &PodIdentity, port: u16) -> io::Result<PodListener> {
        self.bind(pod, port, true)
    }

    /// Listens at an address of a part of k8w, where nobody else does. Errors: `AddrInUse`.
    pub(crate) fn listen_as(&self, part: &'static Part, address: SocketAddr) -> io::Result<PodListener> {
        let (queue, connections) = accept_queue(address, false);
        let registered = Registered::of_part(part, Endpoint::Listener(queue.clone()));
        let registration = self.registry.claim(address, registered).ok_or(io::ErrorKind::AddrInUse)?;
        Ok(PodListener::new(queue, connections, registration))
    }

    fn bind(&self, pod: &PodIdentity, port: u16, private: bool) -> io::Result<PodListener> {
        let claim = |port| {
            let address = SocketAddr::new(pod.ip, port);
            let (queue, connections) = accept_queue(address, private);
            let registered = Registered::of_pod(pod, Endpoint::Listener(queue.clone()));
            let registration = self.registry.claim(address, registered)?;
            Some(PodListener::new(queue, connections, registration))
        };
        let listener = match port {
            0 => EPHEMERAL_PORTS.clone().find_map(|_| claim(self.ephemeral_port())),
            port => claim(port),
        };
        listener.ok_or_else(|| io::ErrorKind::AddrInUse.into())
    }

    /// Whether a pod may ask the node's resolver for names outside of the cluster: as it might ask cluster DNS.
    pub fn may_resolve(&self, pod: &PodIdentity) -> bool {
        let resolver = End::Part(&DNS, self.dns_address());
        let policies = &self.tables.load().policies;
        let may = |protocol| policies.allows(End::Pod(pod), resolver, DNS_PORT, protocol);
        may(Protocol::Udp) || may(Protocol::Tcp)
    }

    /// The address of cluster DNS: the tenth of the Services' range, by custom.
    fn dns_address(&self) -> IpAddr {
        let range = self.config.service_cidr;
        range.hosts().nth(9).unwrap_or_else(|| range.addr())
    }

    /// Where cluster DNS listens.
    pub fn dns_server(&self) -> SocketAddr {
        SocketAddr::new(self.dns_address(), DNS_PORT)
    }

    /// Whether a complete name is one that the cluster's DNS alone knows.
    pub fn is_cluster_name(&self, name: &str) -> bool {
        let name = name.trim_end_matches('.').to_ascii_lowercase();
        dns::is_below(&name, &self.config.cluster_domain)
    }

    /// The DNS suffix of the cluster.
    pub fn cluster_domain(&self) -> &str {
        &self.config.cluster_domain
    }

    /// Where a connection to `dst` goes. Foreign addresses are themselves; an address of the cluster that nothing stands
    /// behind is refused, so that it never leaves this process, and so is what a NetworkPolicy does not allow.
    pub fn select(&self, from: Option<&PodIdentity>, dst: SocketAddr) -> Result<Endpoint, Refused> {
        self.select_from(from.into(), dst, &Attempts::default())
    }

    /// Likewise for any client, after what it has tried.
    pub(crate) fn select_from(
        &self,
        origin: Origin<'_>,
        dst: SocketAddr,
        attempts: &Attempts,
    ) -> Result<Endpoint, Refused> {
        let from = match origin {
            Origin::Pod(pod) => Some(pod),
            _ => None,
        };
        let dst = reach::as_seen_by(from, dst);
        if attempts.contain(dst) {
            return Err(Refused::NothingListens(dst));
        }
        match self.registry.get(dst) {
            Some(found) if found.admits(from.map(|pod| pod.ip)) => return self.admit(origin, dst, found),
            Some(_) => return Err(Refused::NothingListens(dst)),
            None => {}
        }
        if let Some(port) = self.tables.load().virtual_port(dst, Protocol::Tcp) {
            return self.select_another(port, origin, attempts);
        }
        if let Some(peer) = self.peer_at(dst) {
            return self.admit(origin, dst, Registered::of_peer(peer));
        }
        if !self.may_leave(from, dst) {
            return Err(Refused::NothingListens(dst));
        }
        self.admit(origin, dst, Registered::elsewhere(dst))
    }

    /// Where a connection to a pod of this node goes that comes from another node, or by a port of this one.
    pub(crate) fn select_own(&self, origin: Origin<'_>, dst: SocketAddr) -> Result<Endpoint, Refused> {
        let found = self.registry.get(dst).filter(|found| found.is_pods() && found.admits(None));
        self.admit(origin, dst, found.ok_or(Refused::NothingListens(dst))?)
    }

    /// Which endpoint of a Service's port a client gets: the one it had, or any other that still listens.
    pub fn select_of(&self, port: &ServicePort, origin: Origin<'_>) -> Result<Endpoint, Refused> {
        self.select_another(port, origin, &Attempts::default())
    }

    /// Likewise, and none that it has tried.
    pub(crate) fn select_another(
        &self,
        port: &ServicePort,
        origin: Origin<'_>,
        attempts: &Attempts,
    ) -> Result<Endpoint, Refused> {
        if !port.admits(origin) {
            return Err(Refused::SourceRanges { service: port.service.to_string() });
        }
        let untried = |address: SocketAddr| !attempts.contain(address);
        let find = |address| Some((address, self.registered_at(address).filter(|_| untried(address))?));
        let (address, found) = self.choose(port, origin, find).ok_or_else(|| {
            let service = port.service.to_string();
            let is_pods = |address: &SocketAddr| self.is_own(address.ip()) || self.peer_at(*address).is_some();
            match port.endpoints(origin).iter().any(is_pods) {
                true => Refused::Stopped { service },
                false => Refused::NoEndpoints { service },
            }
        })?;
        // As with packets, the choice comes first: a policy that does not allow it leaves no other.
        self.admit(origin, address, found)
    }

    /// Lets a client have what stands at an address, if the policies of both ends do.
    fn admit(&self, origin: Origin<'_>, at: SocketAddr, found: Registered) -> Result<Endpoint, Refused> {
        let tables = self.tables.load();
        let may = |address: SocketAddr| {
            let to = found.owner.end(address.ip());
            tables.policies.allows(origin.end(), to, address.port(), Protocol::Tcp)
        };
        // Policies know the API server by its Service's endpoints, wherever this node reaches it.
        let service = match found.owner {
            Owner::ApiServer => tables.virtual_port(at, Protocol::Tcp),
            _ => None,
        };
        let allowed = match (service, &found.endpoint) {
            (Some(port), _) if !port.cluster.is_empty() => port.cluster.iter().any(|shown| may(*shown)),
            (Some(_), Endpoint::Remote(actual)) => may(*actual),
            _ => may(at),
        };
        if allowed { Ok(found.endpoint) } else { Err(Refused::NotAllowed(at)) }
    }

    /// Which endpoint of a Service's port a client gets, as [`Network::select_of`] has it; `find` says what is there.
    pub(crate) fn choose<T>(
        &self,
        port: &ServicePort,
        origin: Origin<'_>,
        find: impl Fn(SocketAddr) -> Option<T>,
    ) -> Option<T> {
        let now = Instant::now();
        let known = self.affinities.get(port, origin, now);
        let mut candidates = known.into_iter().chain(port.candidates(origin, rand::random::<u32>() as usize));
        let (address, found) = candidates.find_map(|address| Some((address, find(address)?)))?;
        self.affinities.set(port, origin, address, now);
        Some(found)
    }

    /// What stands behind an endpoint's address. A pod of this node that has stopped listening is none.
    fn registered_at(&self, address: SocketAddr) -> Option<Registered> {
        match self.registry.get(address) {
            Some(found) => found.admits(None).then_some(found),
            None if self.is_taken(address, Protocol::Tcp) => None,
            None => Some(self.peer_at(address).map_or_else(|| Registered::elsewhere(address), Registered::of_peer)),
        }
    }

    /// The pod of another node that has such an address.
    pub(crate) fn peer_at(&self, address: SocketAddr) -> Option<Peer> {
        let node = self.tables.load().nodes.of(address.ip()).filter(|_| !self.is_own(address.ip())).cloned()?;
        Some(Peer { node, address })
    }

    /// Whether an endpoint's address cannot be one: it is a pod's of this node, or itself stands for a Service, to which it
    /// would lead in a circle.
    pub(crate) fn is_taken(&self, address: SocketAddr, protocol: Protocol) -> bool {
        let is_service = self.config.service_cidr.contains(&address.ip());
        self.is_own(address.ip()) || is_service || self.tables.load().virtual_port(address, protocol).is_some()
    }

    /// What stands behind an endpoint's address, for a connection that was decided on already.
    pub(crate) fn endpoint_at(&self, address: SocketAddr) -> Option<Endpoint> {
        self.registered_at(address).map(|found| found.endpoint)
    }

    /// Opens a byte stream to `dst`, through Services and to pods of any node. A [`Handler`] is served over a pipe.
    /// Errors: `ConnectionRefused`, `TimedOut`, and what dialling gives.
    pub async fn connect(&self, from: Option<&PodIdentity>, dst: SocketAddr) -> io::Result<Stream> {
        let origin = from.into();
        self.reach(|attempts| self.select_from(origin, dst, attempts), |endpoint| self.open(origin, endpoint)).await
    }

    /// Opens what `select` decides on. What cannot be reached is tried no more, and another decided on.
    pub(crate) async fn reach<T, F>(
        &self,
        select: impl Fn(&Attempts) -> Result<Endpoint, Refused>,
        open: impl Fn(Endpoint) -> F,
    ) -> io::Result<T>
    where
        F: Future<Output = io::Result<T>>,
    {
        let (mut attempts, mut failed) = (Attempts::default(), None);
        loop {
            let endpoint = match self.settle(|| select(&attempts)).await {
                Ok(endpoint) => endpoint,
                Err(refused) => return Err(failed.unwrap_or_else(|| refused.into())),
            };
            let address = endpoint.address();
            match open(endpoint).await {
                Err(error) if address.is_some_and(|at| attempts.go_on_after(at, &error)) => failed = Some(error),
                opened => return opened,
            }
        }
    }

    /// Waits a moment for the tables where they name nothing but endpoints that have stopped: a pod may stop as soon as
    /// its successor is ready, before the tables know of that one.
    pub(crate) async fn settle<T>(&self, select: impl Fn() -> Result<T, Refused>) -> Result<T, Refused> {
        match select() {
            Err(Refused::Stopped { .. }) => {}
            decided => return decided,
        }
        let mut changes = self.changes();
        let deadline = tokio::time::Instant::now() + SETTLE_TIMEOUT;
        loop {
            match select() {
                stopped @ Err(Refused::Stopped { .. }) => {
                    let changed = tokio::time::timeout_at(deadline, changes.changed()).await;
                    if !matches!(changed, Ok(Ok(()))) {
                        return stopped;
                    }
                }
                decided => return decided,
            }
        }
    }

    /// Opens a byte stream to an endpoint already selected.
    pub async fn open(&self, origin: Origin<'_>, endpoint: Endpoint) -> io::Result<Stream> {
        match endpoint {
            Endpoint::Local(handler) => {
                let accepted = handler.accept().ok_or(io::ErrorKind::ConnectionRefused)?;
                let (near, far) = Stream::pipe();
                tokio::spawn(serve::handler(far, handler, accepted));
                Ok(near)
            }
            Endpoint::Listener(queue) => {
                let (near, far) = Stream::pipe();
                let peer = SocketAddr::new(origin.seen_as(), self.ephemeral_port());
                queue.hand_over(far, peer).await?;
                Ok(near)
            }
            Endpoint::Peer(peer) => self.peers.open(Claim::of(origin), &peer, Carries::Bytes).await,
            Endpoint::Remote(address) => {
                let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
                if let Origin::Pod(_) = origin {
                    open_files::check_room(&socket)?;
                }
                let stream = tokio::time::timeout(CONNECT_TIMEOUT, socket.connect(address)).await??;
                stream.set_nodelay(true)?;
                Ok(Stream::Tcp(stream))
            }
        }
    }

    /// Opens the way of a client's datagrams to a pod of another node. Errors: as [`Network::open`].
    pub(crate) async fn open_datagrams(&self, claim: Claim, from: u16, peer: &Peer) -> io::Result<Stream> {
        self.peers.open(claim, peer, Carries::Datagrams { from }).await
    }

    /// Sends an HTTP request to where its URI points: called in process when that is a component of this node, over a
    /// pooled connection otherwise.
    pub async fn send(
        &self,
        from: Option<&PodIdentity>,
        request: http::Request<Body>,
    ) -> Result<http::Response<Body>, SendError> {
        self.client.send(self, from, request).await
    }

    /// The ranges in which what does not listen here listens nowhere: those of this node's pods and of Services.
    pub(crate) fn own_ranges(&self) -> impl Iterator<Item = IpNet> {
        self.config.wasm_cidr.into_iter().chain([self.config.service_cidr])
    }

    /// Every range of the cluster.
    pub(crate) fn cluster_ranges(&self) -> &[IpNet] {
        &self.cluster_ranges
    }

    /// Every address and port in this process, or of a Service, that a client finds somebody behind.
    pub(crate) fn listening(&self, protocol: Protocol) -> BTreeSet<SocketAddr> {
        let registered = match protocol {
            Protocol::Tcp => self.registry.addresses(),
            Protocol::Udp => self.udp_ports.addresses(),
            Protocol::Sctp => Vec::new(),
        };
        let ours = |address: &SocketAddr| self.own_ranges().any(|range| range.contains(&address.ip()));
        let mut addresses: BTreeSet<SocketAddr> = registered.into_iter().filter(ours).collect();
        addresses.extend(self.tables.load().virtual_addresses(protocol));
        addresses
    }

    /// The addresses outside of the cluster's ranges that stand for Services.
    pub(crate) fn outside_addresses(&self) -> BTreeSet<IpAddr> {
        let mut addresses = self.tables.load().outside_addresses();
        addresses.retain(|ip| !self.is_cluster_address(*ip));
        addresses
    }

    /// Tells when something in this process has begun or stopped to listen.
    pub(crate) fn port_changes(&self) -> [watch::Receiver<()>; 2] {
        [self.registry.changes(), self.udp_ports.changes()]
    }

    /// Whether an address belongs to the cluster's own ranges.
    pub fn is_cluster_address(&self, ip: IpAddr) -> bool {
        self.cluster_ranges.iter().any(|range| range.contains(&ip))
    }

    /// Whether an address is one of this node's own pods': what does not listen here listens nowhere.
    pub(crate) fn is_own(&self, ip: IpAddr) -> bool {
        self.config.wasm_cidr.is_some_and(|range| range.contains(&ip))
    }

    /// Whether what nothing in this process stands for may be reached outside.
    pub(crate) fn may_leave(&self, from: Option<&PodIdentity>, dst: SocketAddr) -> bool {
        reach::may_leave(from, dst, &self.cluster_ranges)
    }

    pub(crate) fn ephemeral_port(&self) -> u16 {
        let next = |port: u16| if port + 1 < EPHEMERAL_PORTS.end { port + 1 } else { EPHEMERAL_PORTS.start };
        match self.next_ephemeral_port.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |p| Some(next(p))) {
            Ok(port) | Err(port) => port,
        }
    }
}
