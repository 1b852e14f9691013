//! How many connections requests may take, and what is left to others.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use futures::future::join_all;
use http::{Request, StatusCode};
use k8w_networking::{About, Network, PodListener, SendError};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::watch;
use tokio_util::task::AbortOnDropHandle;

use crate::harness::*;

/// More than all that there can be.
const MANY: usize = 4200;

fn ask(network: &Network, from: u8, at: SocketAddr) -> impl Future<Output = Result<StatusCode, SendError>> {
    let request = Request::get(format!("http://{at}/")).body(full("")).unwrap();
    async move { Ok(read(network.send(Some(&pod(from)), request).await?).await.0) }
}

/// Takes connections and says nothing, until it is dropped; how many there are.
fn silent(listener: PodListener) -> (AbortOnDropHandle<()>, watch::Receiver<usize>) {
    let (count, counted) = watch::channel(0);
    let server = tokio::spawn(async move {
        let mut connections = Vec::new();
        while let Ok(incoming) = listener.accept().await {
            connections.push(incoming);
            count.send_replace(connections.len());
        }
    });
    (AbortOnDropHandle::new(server), counted)
}

/// Answers all requests, until it is dropped.
fn answering(listener: PodListener) -> AbortOnDropHandle<()> {
    let server = tokio::spawn(async move {
        while let Ok(incoming) = listener.accept().await {
            tokio::spawn(serve(incoming.stream, 0, |_, _| async { text(StatusCode::OK, "here") }));
        }
    });
    AbortOnDropHandle::new(server)
}

#[tokio::test]
async fn a_pod_with_many_requests_to_a_silent_server_holds_up_nobody_else() {
    let network = network();
    let (server, mut connections) = silent(network.bind_tcp(&pod(2), 8080).await.unwrap());
    let _answering = answering(network.bind_tcp(&pod(3), 8080).await.unwrap());
    let asking: Vec<_> = (0..MANY)
        .map(|_| {
            let network = network.clone();
            tokio::spawn(async move { ask(&network, 4, "10.64.0.2:8080".parse().unwrap()).await })
        })
        .collect();
    let all_it_may = connections.wait_for(|count| *count >= 512);
    tokio::time::timeout(PATIENCE, all_it_may).await.expect("requests are not sent").unwrap();
    for from in [5, 6] {
        let asked = ask(&network, from, "10.64.0.3:8080".parse().unwrap());
        let answered = tokio::time::timeout(PATIENCE, asked).await.expect("a neighbour is held up").unwrap();
        assert_eq!(answered, StatusCode::OK);
    }
    assert_eq!(*connections.borrow(), 512, "the others wait");
    drop(server);
    for ended in join_all(asking).await {
        assert!(ended.unwrap().is_err(), "the server is gone");
    }
}

/// Answers at once, and reads next to nothing of what it is asked, until it is dropped; how many connections there are.
fn hasty(listener: PodListener) -> (AbortOnDropHandle<()>, watch::Receiver<usize>) {
    let (count, counted) = watch::channel(0);
    let server = tokio::spawn(async move {
        let mut connections = Vec::new();
        while let Ok(mut incoming) = listener.accept().await {
            incoming.stream.read_exact(&mut [0; 10]).await.unwrap();
            incoming.stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await.unwrap();
            connections.push(incoming);
            count.send_replace(connections.len());
        }
    });
    (AbortOnDropHandle::new(server), counted)
}

/// Its requests are answered, and what they have to say is not on its way.
#[tokio::test]
async fn a_pod_whose_server_reads_nothing_holds_up_nobody_else() {
    let network = network();
    let (_server, mut connections) = hasty(network.bind_tcp(&pod(2), 8080).await.unwrap());
    let _answering = answering(network.bind_tcp(&pod(3), 8080).await.unwrap());
    // More than fits into the buffers of both sides.
    let said = Bytes::from(vec![b'x'; 1 << 20]);
    let _asking: Vec<_> = (0..MANY)
        .map(|_| {
            let request = Request::post("http://10.64.0.2:8080/").body(full(said.clone())).unwrap();
            let network = network.clone();
            let asked = async move { network.send(Some(&pod(4)), request).await.map(|answer| answer.status()) };
            AbortOnDropHandle::new(tokio::spawn(asked))
        })
        .collect();
    // Those that could be kept for other requests, and its share.
    let all_it_may = connections.wait_for(|count| *count >= 1024 + 512);
    tokio::time::timeout(PATIENCE, all_it_may).await.expect("requests are not sent").unwrap();
    for from in [5, 6] {
        let asked = ask(&network, from, "10.64.0.3:8080".parse().unwrap());
        let answered = tokio::time::timeout(PATIENCE, asked).await.expect("a neighbour is held up").unwrap();
        assert_eq!(answered, StatusCode::OK);
    }
    assert_eq!(*connections.borrow(), 1024 + 512, "the others wait");
}

#[tokio::test]
async fn many_pods_and_their_probes_hold_up_nobody_else_together() {
    let network = network();
    let (server, mut connections) = silent(network.bind_tcp(&pod(2), 8080).await.unwrap());
    let _answering = answering(network.bind_tcp(&pod(3), 8080).await.unwrap());
    let silent_one: SocketAddr = "10.64.0.2:8080".parse().unwrap();
    let answering_one: SocketAddr = "10.64.0.3:8080".parse().unwrap();
    // As many requests of pods as there are connections, and as many about pods.
    let of_pods = (0..8).flat_map(|from| (0..512).map(move |_| Some(from)));
    let about_pods = (0..64).flat_map(|about| (0..64).map(move |_| (None, about)));
    let greedy: Vec<_> = of_pods.map(|from| (from, 0)).chain(about_pods).collect();
    let ask_as = |(from, about): (Option<u8>, u8), at: SocketAddr| {
        let (network, mut request) = (network.clone(), Request::get(format!("http://{at}/")).body(full("")).unwrap());
        request.extensions_mut().insert(About(pod(10 + about).ip));
        async move {
            let from = from.map(|from| pod(10 + from));
            Ok::<_, SendError>(read(network.send(from.as_ref(), request).await?).await.0)
        }
    };
    let asking: Vec<_> = greedy.into_iter().map(|who| tokio::spawn(ask_as(who, silent_one))).collect();
    let all_they_may = connections.wait_for(|count| *count >= 2048);
    tokio::time::timeout(PATIENCE, all_they_may).await.expect("requests are not sent").unwrap();
    for neighbour in 100..200 {
        for who in [(Some(neighbour), 0), (None, neighbour)] {
            let asked = tokio::time::timeout(PATIENCE, ask_as(who, answering_one));
            let answered = asked.await.expect("a neighbour is held up").unwrap();
            assert_eq!(answered, StatusCode::OK);
        }
    }
    assert!(*connections.borrow() < MANY, "the others wait");
    drop(server);
    for ended in join_all(asking).await {
        assert!(ended.unwrap().is_err(), "the server is gone");
    }
}

#[tokio::test]
async fn connections_that_nobody_uses_leave_room() {
    let network = network();
    let open = Arc::new(AtomicUsize::new(0));
    let mut servers = Vec::new();
    for port in 1..=1200 {
        let (listener, open) = (network.bind_tcp(&pod(2), port).await.unwrap(), open.clone());
        let server = tokio::spawn(async move {
            while let Ok(incoming) = listener.accept().await {
                let open = open.clone();
                tokio::spawn(async move {
                    open.fetch_add(1, Ordering::SeqCst);
                    serve(incoming.stream, 0, |_, _| async { text(StatusCode::OK, "here") }).await;
                    open.fetch_sub(1, Ordering::SeqCst);
                });
            }
        });
        servers.push(AbortOnDropHandle::new(server));
    }
    for port in 1..=1200 {
        let answered = ask(&network, 4, SocketAddr::new(pod(2).ip, port)).await;
        assert_eq!(answered.unwrap(), StatusCode::OK);
    }
    let ended = async {
        while open.load(Ordering::SeqCst) != 1024 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, ended).await.expect("more are kept, or fewer");
}
