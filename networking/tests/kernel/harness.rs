//! A network with its kernel's side, and clients of it.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4, TcpStream};
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::future::BoxFuture;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use k8w_networking::kernel::{Error, Kernel};
use k8w_networking::{Body, Config, Handler, Network, PodIdentity};
pub use k8w_testkit::output;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// Longest that anything may take to happen.
pub const PATIENCE: Duration = Duration::from_secs(20);
/// What this machine comes from when it asks for an address of the cluster.
pub const HOST: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 64, 0, 1));

pub fn block_on<T>(test: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(test)
}

pub fn network() -> Arc<Network> {
    let range = |range: &str| range.parse().unwrap();
    Network::new(Config {
        service_cidr: range("10.96.0.0/16"),
        pod_cidrs: vec![range("10.64.0.0/18"), range("10.244.0.0/16")],
        wasm_cidr: Some(range("10.64.0.0/18")),
        cluster_domain: "cluster.local".into(),
        node_name: "here".into(),
        client_tls: None,
    })
}

/// The pod at 10.64.`high`.`low`.
pub fn pod_at(high: u8, low: u8) -> PodIdentity {
    let ip = IpAddr::V4(Ipv4Addr::new(10, 64, high, low));
    let name = format!("pod-{high}-{low}");
    PodIdentity { namespace: "default".into(), uid: name.clone(), name, ip, service_account: "default".into() }
}

pub fn pod(low: u8) -> PodIdentity {
    pod_at(0, low)
}

/// A kernel's side that is served.
pub struct Served {
    stop: CancellationToken,
    serving: JoinHandle<Result<(), Error>>,
}

impl Served {
    pub async fn start(network: &Arc<Network>) -> Self {
        let stop = CancellationToken::new();
        let kernel = Kernel::open(network.clone()).await.unwrap();
        Self { serving: tokio::spawn(kernel.serve(stop.clone())), stop }
    }

    pub async fn stop(self) {
        self.stop.cancel();
        tokio::time::timeout(PATIENCE, self.serving).await.unwrap().unwrap().unwrap();
    }

    /// As if the process was killed: nothing is removed.
    pub async fn kill(self) {
        self.serving.abort();
        let _ = self.serving.await;
    }
}

/// Answers every request with one word.
pub struct Hello;

impl Handler for Hello {
    fn call(&self, _: Request<Body>) -> BoxFuture<'static, Response<Body>> {
        let body = Full::new(Bytes::from_static(b"hello")).map_err(|never| match never {}).boxed_unsync();
        Box::pin(async { Response::new(body) })
    }
}

/// Accepts on a pod's port for as long as the listener lives, and tells each client its own address.
pub async fn tell_peers(network: &Network, pod: &PodIdentity, port: u16) -> JoinHandle<()> {
    let listener = network.bind_tcp(pod, port).await.unwrap();
    tokio::spawn(async move {
        while let Ok(incoming) = listener.accept().await {
            let peer = incoming.peer.ip().to_string();
            tokio::spawn(async move { say(incoming.stream, &peer).await });
        }
    })
}

/// Says one word to whoever has asked something: who is not listened to does not hear the end.
pub async fn say(mut stream: impl AsyncRead + AsyncWrite + Unpin, word: &str) {
    if stream.read(&mut [0; 1024]).await.is_ok() {
        let _ = stream.write_all(word.as_bytes()).await;
        let _ = stream.shutdown().await;
    }
}

pub fn at(address: &str) -> SocketAddr {
    address.parse().unwrap()
}

/// All that is said on a connection after `GET /`. Blocks.
pub fn hear(address: SocketAddr) -> std::io::Result<String> {
    read(TcpStream::connect_timeout(&address, PATIENCE)?)
}

/// Likewise from one of this namespace's own addresses.
pub fn hear_from(source: Ipv4Addr, address: SocketAddr) -> std::io::Result<String> {
    use nix::sys::socket::{AddressFamily, SockFlag, SockType, SockaddrIn, bind, connect, socket};
    let SocketAddr::V4(address) = address else { panic!("{address}") };
    let socket = socket(AddressFamily::Inet, SockType::Stream, SockFlag::empty(), None)?;
    bind(socket.as_raw_fd(), &SockaddrIn::from(SocketAddrV4::new(source, 0)))?;
    connect(socket.as_raw_fd(), &SockaddrIn::from(address))?;
    read(socket.into())
}

fn read(mut stream: TcpStream) -> std::io::Result<String> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(b"GET / HTTP/1.1\r\nhost: any\r\nconnection: close\r\n\r\n")?;
    let mut said = Vec::new();
    match stream.read_to_end(&mut said) {
        // Whoever does not read what was sent ends with a reset, after what it said.
        Err(error) if said.is_empty() => return Err(error),
        _ => {}
    }
    Ok(String::from_utf8_lossy(&said).into_owned())
}

/// Likewise without being in the way of anything else.
pub async fn ask(address: &str) -> std::io::Result<String> {
    let address = at(address);
    tokio::task::spawn_blocking(move || hear(address)).await.unwrap()
}

/// What is said as soon as the port is open.
pub async fn once_open(address: &str) -> String {
    let begun = Instant::now();
    loop {
        match ask(address).await {
            Ok(said) => return said,
            Err(error) => assert!(begun.elapsed() < PATIENCE, "{address} does not open: {error}"),
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

pub async fn closes(address: &str) {
    let begun = Instant::now();
    while ask(address).await.is_ok() {
        assert!(begun.elapsed() < PATIENCE, "{address} stays open");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Whether our table is there, and how many routes of ours.
pub fn ours() -> (bool, usize) {
    let routes = output("ip", &["route", "show", "table", "all", "proto", "107"]);
    (output("nft", &["list", "tables"]).contains("table ip k8w"), routes.lines().count())
}

/// Waits until table and routes are there again.
pub async fn are_whole(whole: (bool, usize)) {
    let begun = Instant::now();
    while ours() != whole {
        assert!(begun.elapsed() < PATIENCE, "what was removed is not put back");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}
