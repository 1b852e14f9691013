//! Servers: requests, streams both ways, failures, and stopping.

use std::time::Duration;

use bytes::Bytes;
use futures::{SinkExt as _, StreamExt as _};
use http_body::Frame;
use http_body_util::{BodyExt, BodyStream};
use k8w_runtime::engine::{Engine, ExitReason, Preopen};
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;

use crate::http::{
    SERVER, a_burst_of_traps, a_reader_stops_and_leaves, answers_of_other_lengths, instances_are_reused, server_of,
    short_answers_have_a_length,
};
use crate::limits;
use crate::node::{Node, channel_body, empty, probe_p3, request, until};

async fn server() -> Node {
    server_of(probe_p3(), |_| {}).await
}

#[tokio::test]
async fn a_server_answers_with_its_environment() {
    let node = Node::new();
    let volume = node.dir.path().join("volume");
    std::fs::create_dir_all(&volume).unwrap();
    std::fs::write(volume.join("file"), vec![b'x'; 300_000]).unwrap();
    mkfifo(&volume.join("pipe"), Mode::S_IRWXU).unwrap();
    let mut spec = node.pod("server", probe_p3()).await;
    spec.env = vec![("NAME".to_owned(), "value".to_owned())];
    spec.preopens = vec![Preopen { host_dir: volume, guest_path: "/data".to_owned(), read_only: true, sub_path: None }];
    let id = node.start(spec).await;
    assert_eq!(node.get(SERVER, "/env").await, (200, "NAME=value\npreopen /data ro\n".to_owned()));
    assert_eq!(node.get(SERVER, "/about").await.1, format!("Some(Scheme::Http) Some({SERVER:?})"));
    assert_eq!(node.get(SERVER, "/file?file").await, (200, "x".repeat(300_000)), "a stream of the host as a body");
    for refused in ["../file", "pipe"] {
        assert_eq!(node.get(SERVER, &format!("/file?{refused}")).await.1, "ErrorCode::NotPermitted", "{refused}");
    }
    assert_eq!(node.get(SERVER, "/log?a+line").await.0, 200);
    assert_eq!(node.get(SERVER, "/later?another").await, (200, "soon".to_owned()));
    node.logged("server", "stdout F a+line").await;
    node.logged("server", "stdout F another").await;
    until(async || node.engine.stats(&id).await.unwrap().instances == 0).await;
    assert_eq!(node.engine.stats(&id).await.unwrap().memory_bytes, 0, "an idle server has no instance");
}

#[tokio::test]
async fn a_short_answer_has_a_length() {
    short_answers_have_a_length(probe_p3()).await;
}

/// A body that goes through the guest piece by piece, and one that it gives back as it is.
#[tokio::test]
async fn bodies_stream_both_ways_with_trailers() {
    bodies_stream("copy").await;
    bodies_stream("echo").await;
}

async fn bodies_stream(path: &str) {
    let node = server().await;
    let (mut sender, body) = channel_body();
    let response = node.send(request("POST", &format!("http://{SERVER}/{path}"), body)).await;
    let mut answer = BodyStream::new(response.into_body());
    // At once: what is given back as it is is read when its client reads.
    for chunk in ["one", "two"] {
        let (sent, echoed) = futures::join!(sender.send(Ok(Frame::data(Bytes::from(chunk)))), answer.next());
        sent.unwrap();
        let echoed = echoed.unwrap().unwrap().into_data().unwrap();
        assert_eq!(echoed, chunk, "each chunk comes back before the next is sent");
    }
    let name = http::HeaderName::from_static("checksum");
    let trailers = http::HeaderMap::from_iter([(name, http::HeaderValue::from_static("abc"))]);
    let (sent, last) = futures::join!(sender.send(Ok(Frame::trailers(trailers.clone()))), answer.next());
    sent.unwrap();
    assert_eq!(last.unwrap().unwrap().into_trailers().unwrap(), trailers, "{path}");
    drop(sender);
    assert!(answer.next().await.is_none());
}

#[tokio::test]
async fn a_reader_that_stops_holds_the_guest_back_and_one_that_leaves_ends_it() {
    let node = a_reader_stops_and_leaves(probe_p3()).await;
    let whole = node.send(request("GET", &format!("http://{SERVER}/stream?100"), empty())).await;
    assert_eq!(whole.into_body().collect().await.unwrap().to_bytes().len(), 100 * (64 << 10));
}

#[tokio::test]
async fn a_trap_is_an_error_of_its_request_alone() {
    let node = server().await;
    assert_eq!(node.get(SERVER, "/trap").await, (500, "the component failed; its log says why\n".to_owned()));
    node.logged("server", "wasm backtrace").await;
    assert_eq!(node.get(SERVER, "/error").await, (500, "the component answered with an error\n".to_owned()));
    node.logged("server", "answered with an error (its own, or that of a request that it made): ").await;
    let half = node.send(request("GET", &format!("http://{SERVER}/half"), empty())).await;
    assert!(half.into_body().collect().await.is_err(), "a body that was cut short does not look whole");
    assert_eq!(node.get(SERVER, "/count").await, (200, "1".to_owned()));
}

#[tokio::test]
async fn an_answer_of_another_length_than_it_says_is_told_of() {
    answers_of_other_lengths(probe_p3()).await;
}

#[tokio::test]
async fn a_burst_of_traps_fails_the_container() {
    a_burst_of_traps(probe_p3()).await;
}

#[tokio::test]
async fn a_request_that_takes_too_long_is_ended() {
    let node = Node::with(|config| config.http.response = Duration::from_millis(50));
    let id = node.start(node.pod("server", probe_p3()).await).await;
    for path in ["/spin", "/wait"] {
        assert_eq!(node.get(SERVER, path).await, (504, "the component did not answer in time\n".to_owned()), "{path}");
    }
    until(async || node.engine.stats(&id).await.unwrap().instances == 0).await;
    assert_eq!(node.get(SERVER, "/count").await.0, 200);
}

#[tokio::test]
async fn instances_are_reused_only_as_often_as_configured() {
    instances_are_reused(probe_p3()).await;
}

#[tokio::test]
async fn a_request_that_alone_exceeds_the_memory_limit_kills_its_server() {
    limits::a_request_exceeds_the_memory_limit(probe_p3()).await;
}

#[tokio::test]
async fn a_request_that_outlasts_the_grace_is_interrupted() {
    let node = Node::new();
    let id = node.start(node.pod("server", probe_p3()).await).await;
    let (_sender, body) = channel_body();
    let held = node.send(request("POST", &format!("http://{SERVER}/copy"), body)).await;
    node.engine.stop(&id, Duration::from_millis(1)).await;
    assert_eq!(node.exit(&id).await, (137, ExitReason::Error, String::new()));
    assert!(held.into_body().collect().await.is_err());
}
