use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use http::{Request, StatusCode};
use k8w_networking::node_port::{self, PortOwner};
use k8w_networking::{HostPort, Network, Protocol, ingress};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::harness::*;

const LOCALHOST: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// Serves node ports on loopback; failures arrive on the channel.
pub fn start(network: &Arc<Network>) -> (mpsc::UnboundedReceiver<(String, SocketAddr)>, DropGuard) {
    let (failures, receiver) = mpsc::unbounded_channel();
    let stop = CancellationToken::new();
    let failed = move |port: node_port::Unavailable<'_>| {
        let owner = match port.owner {
            PortOwner::Service(name) => name.to_string(),
            PortOwner::Pod(pod) => pod.name.clone(),
        };
        failures.send((owner, port.address)).unwrap();
    };
    tokio::spawn(node_port::serve(network.clone(), vec![LOCALHOST], failed, stop.clone()));
    (receiver, stop.drop_guard())
}

/// A port that is free now.
pub async fn free_port() -> u16 {
    TcpListener::bind((LOCALHOST, 0)).await.unwrap().local_addr().unwrap().port()
}

/// Connects as soon as somebody listens.
pub async fn connect(port: u16) -> TcpStream {
    connect_at(LOCALHOST, port).await
}

async fn connect_at(ip: IpAddr, port: u16) -> TcpStream {
    let connected = async {
        loop {
            match TcpStream::connect((ip, port)).await {
                Ok(socket) => return socket,
                Err(_) => tokio::time::sleep(Duration::from_millis(5)).await,
            }
        }
    };
    tokio::time::timeout(PATIENCE, connected).await.expect("nobody listens on the node port")
}

async fn closes(port: u16) {
    let closed = async {
        while TcpStream::connect((LOCALHOST, port)).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, closed).await.expect("the node port stays open");
}

/// Conformance: "Scheduling, HostPort matching and HostIP and Protocol not-matching".
#[tokio::test]
async fn a_pods_host_port_is_its_own_at_each_address_and_protocol() {
    let network = network();
    let (mut failures, _stop) = start(&network);
    let port = free_port().await;
    let (_, _a) = describing(&network, &pod(2));
    let (_, _b) = describing(&network, &pod(3));
    let host = |last: u8| HostPort { protocol: Protocol::Tcp, port, ip: Some([127, 0, 0, last].into()) };
    let first = network.register_host_port(host(1), &pod(2), 8080);
    let _second = network.register_host_port(host(2), &pod(3), 8080);
    let says =
        async |last: u8| Client::over(connect_at([127, 0, 0, last].into(), port).await).await.get("any", "/").await.1;
    assert!(says(1).await.starts_with("pod-2:"));
    assert!(says(2).await.starts_with("pod-3:"));

    let replaced = network.register_host_port(host(1), &pod(3), 8080);
    drop(first);
    assert!(says(1).await.starts_with("pod-3:"), "what the earlier pod gives back is not the later one's");
    drop(replaced);
    closes(port).await;

    let _taken = TcpListener::bind((LOCALHOST, port)).await.unwrap();
    let _third = network.register_host_port(host(1), &pod(2), 8080);
    assert_eq!(failures.recv().await.unwrap(), ("pod-2".to_owned(), SocketAddr::new(LOCALHOST, port)));
}

#[tokio::test]
async fn components_are_served_on_the_port_and_balanced_by_request() {
    let network = network();
    let (_failures, _stop) = start(&network);
    let port = free_port().await;
    let (a, _a) = describing(&network, &pod(2));
    let (b, registration_of_b) = describing(&network, &pod(3));
    network.update(Cluster::default().service("web", "10.96.0.9", Some(port), &[a, b]).tables());
    let mut client = Client::over(connect(port).await).await;
    let mut seen = std::collections::BTreeSet::new();
    for _ in 0..100 {
        let (status, answer) = client.get("any", "/").await;
        assert_eq!(status, StatusCode::OK);
        assert!(!answer.contains("x-forwarded"), "{answer}");
        seen.insert(answer.split(':').next().unwrap().to_owned());
    }
    assert_eq!(seen.len(), 2);
    // On the same connection, after one of the two is gone without the tables knowing it yet.
    drop(registration_of_b);
    for _ in 0..20 {
        let (status, answer) = client.get("any", "/").await;
        assert!(status == StatusCode::OK && answer.starts_with("pod-2:"), "{status} {answer}");
    }
    network.update(Cluster::default().tables());
    closes(port).await;
}

/// There a Service is TCP: who asks waits for as long as it likes, however short the ingress's patience is.
#[tokio::test]
async fn the_ingress_alone_has_a_limit_of_time() {
    let network = network();
    let (_failures, _stop) = start(&network);
    let port = free_port().await;
    let (asked, may_answer) = (Arc::new(Semaphore::new(0)), Arc::new(Semaphore::new(0)));
    let slow = Answer({
        let (asked, may_answer) = (asked.clone(), may_answer.clone());
        move |_| {
            let (asked, may_answer) = (asked.clone(), may_answer.clone());
            async move {
                asked.add_permits(1);
                may_answer.acquire().await.unwrap().forget();
                text(StatusCode::OK, "at last")
            }
        }
    });
    let registration = network.bind_http(&pod(2), 8080, Arc::new(slow)).unwrap();
    let cluster = Cluster::default().service("slow", "10.96.0.9", Some(port), &[registration.address()]);
    network.update(cluster.ingress("slow", "slow").tables());
    let listener = TcpListener::bind((LOCALHOST, 0)).await.unwrap();
    let (at, stop) = (listener.local_addr().unwrap(), CancellationToken::new());
    let _stop_ingress = stop.clone().drop_guard();
    let config = ingress::Config { response_timeout: Duration::from_millis(50), ..Default::default() };
    tokio::spawn(ingress::serve(network.clone(), config, Some(listener), None, stop));

    let by_node_port = async { Client::over(connect(port).await).await.get("slow", "/").await };
    let by_cluster_ip = async {
        let stream = network.connect(Some(&pod(7)), "10.96.0.9:80".parse().unwrap()).await.unwrap();
        Client::over(stream).await.get("slow", "/").await
    };
    let by_request = async {
        let request = Request::get("http://slow/").body(full("")).unwrap();
        read(network.send(Some(&pod(7)), request).await.unwrap()).await
    };
    let given_up = async {
        // All the others ask by then, and longer than the ingress waits.
        asked.acquire_many(3).await.unwrap().forget();
        let answer = Client::connect(at).await.get("slow", "/").await;
        may_answer.add_permits(3);
        answer
    };
    let (port, ip, request, given_up) = tokio::join!(by_node_port, by_cluster_ip, by_request, given_up);
    assert_eq!(given_up.0, StatusCode::GATEWAY_TIMEOUT);
    for answer in [port, ip, request] {
        assert_eq!(answer, (StatusCode::OK, "at last".to_owned()));
    }
}

#[tokio::test]
async fn a_listening_pod_gets_the_connection_itself() {
    let network = network();
    let (_failures, _stop) = start(&network);
    let port = free_port().await;
    let listener = network.bind_tcp(&pod(2), 5432).await.unwrap();
    network.update(Cluster::default().service("db", "10.96.0.9", Some(port), &[listener.local_addr()]).tables());
    let mut client = connect(port).await;
    client.write_all(b"ping").await.unwrap();
    let mut incoming = tokio::time::timeout(PATIENCE, listener.accept()).await.unwrap().unwrap();
    assert_eq!(incoming.peer, client.local_addr().unwrap());
    assert!(matches!(incoming.stream, k8w_networking::Stream::Tcp(_)));
    let mut bytes = [0; 4];
    incoming.stream.read_exact(&mut bytes).await.unwrap();
    incoming.stream.write_all(b"pong").await.unwrap();
    drop(incoming);
    let mut answer = String::new();
    client.read_to_string(&mut answer).await.unwrap();
    assert_eq!((&bytes[..], answer.as_str()), (&b"ping"[..], "pong"));
}

#[tokio::test]
async fn bytes_are_relayed_to_what_listens_elsewhere() {
    let network = network();
    let (_failures, _stop) = start(&network);
    let port = free_port().await;
    let backend = TcpListener::bind((LOCALHOST, 0)).await.unwrap();
    let address = backend.local_addr().unwrap();
    network.update(Cluster::default().service("db", "10.96.0.9", Some(port), &[address]).tables());
    let mut client = connect(port).await;
    let (mut server, _) = backend.accept().await.unwrap();
    // The client is done sending, and still gets an answer.
    client.write_all(b"ping").await.unwrap();
    client.shutdown().await.unwrap();
    let mut asked = String::new();
    server.read_to_string(&mut asked).await.unwrap();
    server.write_all(b"pong").await.unwrap();
    drop(server);
    let mut answer = String::new();
    client.read_to_string(&mut answer).await.unwrap();
    assert_eq!((asked.as_str(), answer.as_str()), ("ping", "pong"));
}

#[tokio::test]
async fn a_port_in_use_is_reported_and_taken_when_it_is_free() {
    let network = network();
    let (mut failures, _stop) = start(&network);
    let other = TcpListener::bind((LOCALHOST, 0)).await.unwrap();
    let (taken, free) = (other.local_addr().unwrap().port(), free_port().await);
    let (a, _a) = describing(&network, &pod(2));
    let cluster = Cluster::default().service("taken", "10.96.0.9", Some(taken), &[a]).service(
        "free",
        "10.96.0.8",
        Some(free),
        &[a],
    );
    network.update(cluster.tables());
    let failed = tokio::time::timeout(PATIENCE, failures.recv()).await.unwrap();
    assert_eq!(failed, Some(("default/taken".to_owned(), SocketAddr::new(LOCALHOST, taken))));
    assert_eq!(Client::over(connect(free).await).await.get("any", "/").await.0, StatusCode::OK);
    drop(other);
    // Any change of the tables is an occasion to try again.
    network.update(cluster.tables());
    assert_eq!(Client::over(connect(taken).await).await.get("any", "/").await.0, StatusCode::OK);
}
