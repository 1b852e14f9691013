//! The ways in which pods talk to each other: servers that say who they are, and what a pod hears at an address.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::sync::Arc;

use http::{Request, Response, StatusCode};
use k8w_networking::{Network, PodIdentity, Refused, Registration, SendError, Stream};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_util::task::AbortOnDropHandle;

use crate::cases::{Way, without_client};
use crate::harness::*;
use crate::udp::received;

/// A pod's port, for as long as this lives.
pub enum Listening {
    Server(#[expect(dead_code, reason = "kept to be dropped")] AbortOnDropHandle<()>),
    Component(#[expect(dead_code, reason = "kept to be dropped")] Registration),
}

/// Has a pod listen at a port, and say a word to whoever comes: by TCP and UDP also to what address it says it.
pub async fn listen(network: &Arc<Network>, way: Way, pod: &PodIdentity, port: u16, word: &str) -> Listening {
    let word = word.to_owned();
    let server = match way {
        Way::Http => {
            let answer = Answer(move |_| {
                let word = word.clone();
                async move { Response::new(full(word)) }
            });
            return Listening::Component(network.bind_http(pod, port, Arc::new(answer)).unwrap());
        }
        Way::Tcp => {
            let listener = network.bind_tcp(pod, port).await.unwrap();
            tokio::spawn(async move {
                while let Ok(mut incoming) = listener.accept().await {
                    // A client that is gone has heard enough.
                    let _ = incoming.stream.write_all(said(&word, incoming.peer).as_bytes()).await;
                }
            })
        }
        Way::Udp => {
            let socket = network.bind_udp(pod, port).unwrap();
            tokio::spawn(async move {
                loop {
                    let peer = socket.receive().await.peer;
                    socket.send(said(&word, peer).into(), peer).expect("answers need no leave");
                }
            })
        }
    };
    Listening::Server(AbortOnDropHandle::new(server))
}

/// What a server says to a client at this address.
fn said(word: &str, client: SocketAddr) -> String {
    format!("{word} to {}", client.ip())
}

/// What a pod hears at an address; `None` when it is refused. That the server knows it by its own address is made sure of.
pub async fn hear(network: &Arc<Network>, way: Way, from: &PodIdentity, at: SocketAddr) -> Option<String> {
    let hearing = async {
        match way {
            Way::Tcp => match network.connect(Some(from), at).await {
                Ok(stream) => Some(hear_stream(way, stream, from.ip).await),
                Err(error) => refused(&error),
            },
            Way::Http => hear_of(network, from, &format!("http://{at}/")).await,
            Way::Udp => {
                let client = network.bind_udp(from, 0).unwrap();
                if let Err(error) = client.send("question".into(), at) {
                    return refused(&error);
                }
                let answer = received(&client).await;
                assert_eq!(answer.peer, at, "an answer comes from where the question went");
                Some(without_client(std::str::from_utf8(&answer.bytes).unwrap(), from.ip))
            }
        }
    };
    tokio::time::timeout(PATIENCE, hearing).await.unwrap_or_else(|_| panic!("{at} says nothing to {}", from.name))
}

/// What the component says that a pod calls by a URI; `None` when that is refused.
pub async fn hear_of(network: &Network, from: &PodIdentity, uri: &str) -> Option<String> {
    let request = Request::get(uri).body(full("")).unwrap();
    match network.send(Some(from), request).await {
        Ok(answer) => {
            let (status, text) = read(answer).await;
            assert_eq!(status, StatusCode::OK, "{text}");
            Some(text)
        }
        Err(SendError::Refused(Refused::NotAllowed(_) | Refused::NoEndpoints { .. } | Refused::NothingListens(_))) => {
            None
        }
        Err(SendError::Refused(Refused::SourceRanges { .. }) | SendError::NoSuchName(_)) => None,
        Err(error) => panic!("{uri}: {error}"),
    }
}

/// What is said over a stream to a client of this address.
pub async fn hear_stream(way: Way, mut stream: Stream, client: std::net::IpAddr) -> String {
    if way == Way::Http {
        let (status, text) = Client::over(stream).await.get("any", "/").await;
        assert_eq!(status, StatusCode::OK, "{text}");
        return text;
    }
    let mut text = String::new();
    stream.read_to_string(&mut text).await.unwrap();
    without_client(&text, client)
}

fn refused<T>(error: &std::io::Error) -> Option<T> {
    assert_eq!(error.kind(), ErrorKind::ConnectionRefused, "{error}");
    None
}
