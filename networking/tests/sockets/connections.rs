//! How many connections requests may take, and what is left to others.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures::future::join_all;
use http::{Request, StatusCode};
use k8w_networking::{Network, PodListener, SendError};
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

#[tokio::test]
async fn a_pod_with_many_requests_to_a_silent_server_holds_up_nobody_else() {
    let network = network();
    let (server, mut connections) = silent(network.bind_tcp(&pod(2), 8080).await.unwrap());
    let listener = network.bind_tcp(&pod(3), 8080).await.unwrap();
    let answering = tokio::spawn(async move {
        while let Ok(incoming) = listener.accept().await {
            tokio::spawn(serve(incoming.stream, 0, |_, _| async { text(StatusCode::OK, "here") }));
        }
    });
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
    answering.abort();
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
