//! Servers: requests, streams both ways, failures, and stopping.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures::{SinkExt as _, StreamExt as _, poll};
use http_body::Frame;
use http_body_util::{BodyExt, BodyStream};
use k8w_networking::Stream;
use k8w_runtime::engine::{ContainerSpec, Engine, EngineEvent, ExitReason, HttpSettings};
use k8w_runtime::wasm::{TrapBurst, WasmConfig};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::node::{Node, channel_body, empty, full, probe, probe_p3, request, until};

pub const SERVER: &str = "10.64.0.2:8080";

async fn server(change: impl FnOnce(&mut WasmConfig)) -> Node {
    server_of(probe(), change).await
}

/// A node with the server of a guest.
pub async fn server_of(guest: &[u8], change: impl FnOnce(&mut WasmConfig)) -> Node {
    let node = Node::with(change);
    let spec = node.pod("server", guest).await;
    node.start(spec).await;
    node
}

#[tokio::test]
async fn a_server_answers_with_its_environment() {
    let node = Node::new();
    let mut spec = node.pod("server", probe()).await;
    spec.env = vec![("NAME".to_owned(), "value".to_owned())];
    let id = node.start(spec).await;
    assert_eq!(node.get(SERVER, "/env").await, (200, "NAME=value\n".to_owned()));
    assert_eq!(node.get(SERVER, "/log?a+line").await.0, 200);
    node.logged("server", "stdout F a+line").await;
    let stats = node.engine.stats(&id).await.unwrap();
    assert_eq!((stats.requests, stats.instances, stats.memory_bytes), (2, 0, 0), "an idle server has no instance");
    assert!(stats.cpu_usage_nanos > 0);
}

#[tokio::test]
async fn a_port_of_a_pod_has_one_server_until_that_ends() {
    let node = Node::new();
    let first = node.pod("server", probe()).await;
    let mut second = first.clone();
    second.id.container = "second".to_owned();
    second.env = vec![("NAME".to_owned(), "second".to_owned())];
    second.log_path = node.dir.path().join("second.log");
    let id = node.start(first).await;
    let error = node.engine.start(second.clone()).await.unwrap_err();
    let expected = "listen on port 8080: address already in use by container \"main\" (";
    assert!(error.to_string().starts_with(expected), "{error}");
    assert_eq!(node.get(SERVER, "/env").await, (200, String::new()), "the first has it still");
    node.engine.stop(&id, Duration::from_secs(600)).await;
    node.exit(&id).await;
    node.start(second).await;
    assert_eq!(node.get(SERVER, "/env").await.1, "NAME=second\n");
}

#[tokio::test]
async fn a_server_does_not_take_the_port_that_a_process_of_its_pod_listens_on() {
    let node = Node::new();
    let server = node.pod("server", probe()).await;
    let mut process = server.clone();
    process.id.container = "process".to_owned();
    process.log_path = node.dir.path().join("process.log");
    process.force_command = true;
    process.argv.extend(["listen", "0.0.0.0", "8080", "process", "1"].map(str::to_owned));
    let id = node.start(process).await;
    node.logged("process", "listening on 8080").await;
    let error = node.engine.start(server.clone()).await.unwrap_err();
    let expected = "listen on port 8080: address already in use by container \"process\" (";
    assert!(error.to_string().starts_with(expected), "{error}");
    let client = node.pod("client", probe()).await;
    node.start(client).await;
    let asked = node.get("10.64.0.3:8080", "/ask?10.64.0.2:8080").await;
    assert_eq!(asked, (200, "process heard hello".to_owned()), "it listens still");
    assert_eq!(node.exit(&id).await.0, 0);
    node.start(server).await;
    assert_eq!(node.get(SERVER, "/count").await.0, 200);
}

#[tokio::test]
async fn a_short_answer_has_a_length() {
    short_answers_have_a_length(probe()).await;
}

pub async fn short_answers_have_a_length(guest: &[u8]) {
    // On a busy machine a tick may come between a guest's head and its body, which then has no length.
    let node = server_of(guest, |config| config.guest.tick = Duration::from_secs(60)).await;
    let response = node.send(request("GET", &format!("http://{SERVER}/env"), empty())).await;
    assert_eq!(http_body::Body::size_hint(response.body()).exact(), Some(0));
    let response = node.send(request("GET", &format!("http://{SERVER}/count"), empty())).await;
    assert_eq!(http_body::Body::size_hint(response.body()).exact(), Some(1));
}

/// RFC 9110 6.4.1.
#[tokio::test]
async fn an_answer_that_has_no_body_has_none() {
    let node = server(|_| {}).await;
    for (status, said) in [(200, "200"), (404, "404"), (204, ""), (304, "")] {
        assert_eq!(node.get(SERVER, &format!("/status?{status}")).await, (status, said.to_owned()));
    }
}

#[tokio::test]
async fn configuration_is_the_environment() {
    let node = Node::new();
    let mut spec = node.pod("server", probe()).await;
    spec.env = vec![("db.host".to_owned(), "db".to_owned()), ("mode".to_owned(), "fast".to_owned())];
    node.start(spec).await;
    assert_eq!(node.get(SERVER, "/config?db.host").await.1, "Some(\"db\") of 2");
    assert_eq!(node.get(SERVER, "/config?none").await.1, "None of 2");
}

#[tokio::test]
async fn keys_and_values_outlive_the_request_within_the_memory_limit() {
    let node = Node::new();
    let mut spec = node.pod("server", probe()).await;
    spec.limits.memory_bytes = Some(16 << 20);
    let id = node.start(spec).await;
    let values = r#"[Some(("two", [50])), None] Some([50]) false ["times", "two"]"#;
    assert_eq!(node.get(SERVER, "/keyvalue?a").await.1, format!("1 {values}"));
    assert_eq!(node.get(SERVER, "/keyvalue?a").await.1, format!("2 {values}"));
    assert_eq!(node.get(SERVER, "/keyvalue?b").await.1, format!("1 {values}"));
    assert_eq!(node.get(SERVER, "/fill?4000000").await.1, "Ok(())");
    assert!(node.engine.stats(&id).await.unwrap().memory_bytes > 4_000_000, "what is kept counts as memory");
    let refused = node.get(SERVER, "/fill?7000000").await.1;
    assert!(refused.contains("memory limit leaves no room"), "{refused}");
}

#[tokio::test]
async fn messages_are_lines_of_the_log() {
    let node = server(|_| {}).await;
    assert_eq!(node.get(SERVER, "/say?hello").await.0, 200);
    node.logged("server", "stderr F WARN probe: hello\nstderr F INFO hello").await;
}

#[tokio::test]
async fn bodies_stream_both_ways_with_trailers() {
    let node = server(|_| {}).await;
    let (mut sender, body) = channel_body();
    let response = node.send(request("POST", &format!("http://{SERVER}/echo"), body)).await;
    let mut answer = BodyStream::new(response.into_body());
    for chunk in ["one", "two"] {
        sender.send(Ok(Frame::data(Bytes::from(chunk)))).await.unwrap();
        let echoed = answer.next().await.unwrap().unwrap().into_data().unwrap();
        assert_eq!(echoed, chunk, "each chunk comes back before the next is sent");
    }
    let trailers = http::HeaderMap::from_iter([(
        http::HeaderName::from_static("checksum"),
        http::HeaderValue::from_static("abc"),
    )]);
    sender.send(Ok(Frame::trailers(trailers.clone()))).await.unwrap();
    drop(sender);
    assert_eq!(answer.next().await.unwrap().unwrap().into_trailers().unwrap(), trailers);
    assert!(answer.next().await.is_none());
}

#[tokio::test]
async fn a_reader_that_stops_holds_the_guest_back_and_one_that_leaves_ends_it() {
    a_reader_stops_and_leaves(probe()).await;
}

/// The node is given back.
pub async fn a_reader_stops_and_leaves(guest: &[u8]) -> Node {
    let node = Node::new();
    let spec = node.pod("server", guest).await;
    let id = node.start(spec).await;
    let response = node.send(request("GET", &format!("http://{SERVER}/stream?1000"), empty())).await;
    let mut body = BodyStream::new(response.into_body());
    body.next().await.unwrap().unwrap();
    let stats = node.engine.stats(&id).await.unwrap();
    assert_eq!(stats.instances, 1);
    assert!(stats.memory_bytes < 16 << 20, "{stats:?}");
    drop(body);
    until(async || node.engine.stats(&id).await.unwrap().instances == 0).await;
    node
}

#[tokio::test]
async fn a_trap_is_an_error_of_its_request_alone() {
    let node = Node::new();
    let id = node.start(node.pod("server", probe()).await).await;
    assert_eq!(node.get(SERVER, "/trap").await, (500, "the component failed; its log says why\n".to_owned()));
    node.logged("server", "wasm backtrace").await;
    let message = "A request failed: wasm trap: wasm `unreachable` instruction executed".to_owned();
    assert_eq!(node.event().await, EngineEvent::Trapped { id: id.clone(), message });
    assert_eq!(node.get(SERVER, "/nothing").await, (500, "the component gave no response\n".to_owned()));
    let half = node.send(request("GET", &format!("http://{SERVER}/half"), empty())).await;
    assert!(half.into_body().collect().await.is_err(), "a body that was cut short does not look whole");
    assert_eq!(node.get(SERVER, "/count").await.0, 200);
    let stats = node.engine.stats(&id).await.unwrap();
    assert_eq!((stats.requests, stats.traps), (4, 2), "the second is counted, and not told so soon after the first");
}

#[tokio::test]
async fn an_answer_of_another_length_than_it_says_is_told_of() {
    answers_of_other_lengths(probe()).await;
}

pub async fn answers_of_other_lengths(guest: &[u8]) {
    let node = Node::new();
    let id = node.start(node.pod("server", guest).await).await;
    let answered = async |lengths: &str| {
        let response = node.send(request("GET", &format!("http://{SERVER}/length?{lengths}"), empty())).await;
        response.into_body().collect().await.map(|body| body.to_bytes().len())
    };
    assert_eq!(answered("5&5").await.unwrap(), 5);
    assert!(answered("5&3").await.is_err(), "it does not look whole");
    let short = "stderr F the component's answer ended after 3 of the 5 bytes that its content-length says";
    node.logged("server", short).await;
    assert!(answered("5&8").await.is_err(), "nor does one that is cut");
    let long = "stderr F the component's answer is longer than the 5 bytes that its content-length says";
    node.logged("server", long).await;
    let stats = node.engine.stats(&id).await.unwrap();
    assert_eq!((stats.requests, stats.traps), (3, 2));
    let head = node.send(request("HEAD", &format!("http://{SERVER}/length?5&0"), empty())).await;
    assert_eq!(head.headers()["content-length"], "5");
    assert!(head.into_body().collect().await.is_ok());
    assert_eq!(node.engine.stats(&id).await.unwrap().traps, 2, "of what has no body the length is that of another");
}

#[tokio::test]
async fn a_burst_of_traps_fails_the_container() {
    a_burst_of_traps(probe()).await;
}

pub async fn a_burst_of_traps(guest: &[u8]) {
    let node = Node::with(|config| config.http.trap_burst = TrapBurst { traps: 3, within: Duration::from_secs(3600) });
    let id = node.start(node.pod("server", guest).await).await;
    for path in ["/trap", "/count", "/trap"] {
        node.get(SERVER, path).await;
    }
    assert_eq!(node.get(SERVER, "/count").await.0, 200, "two traps are not three");
    node.get(SERVER, "/trap").await;
    let (code, reason, message) = node.exit(&id).await;
    assert_eq!((code, reason), (134, ExitReason::Error));
    let expected = "3 requests trapped within 3600s, the last with: error while executing at wasm backtrace:";
    assert!(message.starts_with(expected), "{message}");
    assert!(node.network.select(None, SERVER.parse().unwrap()).is_err(), "its port is closed");
}

#[tokio::test]
async fn a_request_that_takes_too_long_is_ended() {
    let node = server(|config| config.http.response = Duration::from_millis(50)).await;
    assert_eq!(node.get(SERVER, "/spin").await, (504, "the component did not answer in time\n".to_owned()));
    assert_eq!(node.get(SERVER, "/count").await.0, 200);
}

#[tokio::test]
async fn too_many_requests_at_once_are_refused() {
    let node = server(|config| config.http.concurrent = 1).await;
    let (_sender, body) = channel_body();
    let held = node.send(request("POST", &format!("http://{SERVER}/echo"), body)).await;
    assert_eq!(node.get(SERVER, "/count").await, (503, "too many requests at once\n".to_owned()));
    // One that waits has its turn as soon as there is one.
    let mut waits = pin!(node.get(SERVER, "/count"));
    assert!(poll!(&mut waits).is_pending());
    drop(held);
    assert_eq!(waits.await.0, 200);
}

#[tokio::test]
async fn instances_are_reused_only_as_often_as_configured() {
    instances_are_reused(probe()).await;
}

pub async fn instances_are_reused(guest: &[u8]) {
    let node = server_of(guest, |_| {}).await;
    for _ in 0..3 {
        assert_eq!(node.get(SERVER, "/count").await.1, "1", "by default every request has its own instance");
    }
    let node = server_of(guest, |config| {
        config.http.instance_reuse = 2;
        config.http.idle_instance = Duration::from_secs(3600);
    })
    .await;
    let mut seen = Vec::new();
    for _ in 0..4 {
        seen.push(node.get(SERVER, "/count").await.1);
    }
    assert_eq!(seen, ["1", "2", "1", "2"]);
}

/// What a pod says itself goes before what the node has; of requests at a time, whatever is less.
#[tokio::test]
async fn a_pod_says_how_its_server_is_called() {
    let of_node = |config: &mut WasmConfig| {
        config.http.idle_instance = Duration::from_secs(3600);
        config.http.concurrent = 2;
    };
    let settings = |concurrent| HttpSettings {
        instance_reuse: Some(3),
        trap_burst: Some(TrapBurst { traps: 2, within: Duration::from_secs(3600) }),
        concurrent: Some(concurrent),
    };
    for (asked, at_once) in [(1, 1), (1_000, 2)] {
        let node = Node::with(of_node);
        let mut spec = node.pod("server", probe()).await;
        spec.http = settings(asked);
        let id = node.start(spec).await;
        let mut seen = Vec::new();
        for _ in 0..4 {
            seen.push(node.get(SERVER, "/count").await.1);
        }
        assert_eq!(seen, ["1", "2", "3", "1"]);
        let mut held = Vec::new();
        for _ in 0..at_once {
            let (sender, body) = channel_body();
            let answer = node.send(request("POST", &format!("http://{SERVER}/echo"), body)).await;
            held.push((sender, answer));
        }
        assert_eq!(node.get(SERVER, "/count").await.0, 503, "{asked} were asked for");
        drop(held);
        until(async || node.get(SERVER, "/count").await.0 == 200).await;
        for _ in 0..2 {
            node.get(SERVER, "/trap").await;
        }
        let (_, _, message) = node.exit(&id).await;
        assert!(message.starts_with("2 requests trapped within 3600s, the last with: "), "{message}");
    }
}

#[tokio::test]
async fn stopping_lets_requests_end_and_refuses_new_ones() {
    let node = Node::new();
    let spec = node.pod("server", probe()).await;
    let id = node.start(spec).await;
    let (sender, body) = channel_body();
    let held = node.send(request("POST", &format!("http://{SERVER}/echo"), body)).await;
    node.engine.stop(&id, Duration::from_secs(3600)).await;
    let refused = node.network.send(None, request("GET", &format!("http://{SERVER}/count"), empty())).await;
    assert!(refused.is_err(), "the port is closed at once");
    drop(sender);
    assert_eq!(held.into_body().collect().await.unwrap().to_bytes(), "");
    assert_eq!(node.exit(&id).await, (0, ExitReason::Completed, String::new()));
}

#[tokio::test]
async fn a_request_that_outlasts_the_grace_is_interrupted() {
    let node = Node::new();
    let spec = node.pod("server", probe()).await;
    let id = node.start(spec).await;
    let (_sender, body) = channel_body();
    let held = node.send(request("POST", &format!("http://{SERVER}/echo"), body)).await;
    node.engine.stop(&id, Duration::from_millis(1)).await;
    assert_eq!(node.exit(&id).await, (137, ExitReason::Error, String::new()));
    assert!(held.into_body().collect().await.is_err());
}

/// Whoever has a connection is about to ask: a server that stops meanwhile answers once, and then ends all connections.
#[tokio::test]
async fn who_has_connected_is_answered_before_a_server_stops() {
    let node = Node::new();
    let id = node.start(node.pod("server", probe()).await).await;
    let ask = async |stream: &mut Stream| {
        stream.write_all(b"GET /count HTTP/1.1\r\nhost: server\r\n\r\n").await.unwrap();
        let mut answer = [0; 15];
        stream.read_exact(&mut answer).await.unwrap();
        assert_eq!(&answer, b"HTTP/1.1 200 OK");
    };
    let connect = async || node.network.connect(None, SERVER.parse().unwrap()).await;
    let (mut new, mut used) = (connect().await.unwrap(), connect().await.unwrap());
    ask(&mut used).await;
    node.engine.stop(&id, Duration::from_secs(3600)).await;
    assert!(connect().await.is_err(), "it takes no connections any more");
    ask(&mut new).await;
    for mut stream in [new, used] {
        stream.read_to_end(&mut Vec::new()).await.unwrap();
    }
    assert_eq!(node.exit(&id).await, (0, ExitReason::Completed, String::new()));
}

#[tokio::test]
async fn a_grace_can_be_shortened_while_it_runs() {
    let node = Node::new();
    let spec = node.pod("server", probe()).await;
    let id = node.start(spec).await;
    let (_sender, body) = channel_body();
    let held = node.send(request("POST", &format!("http://{SERVER}/echo"), body)).await;
    node.engine.stop(&id, Duration::from_secs(600)).await;
    node.engine.stop(&id, Duration::from_millis(1)).await;
    node.engine.stop(&id, Duration::from_secs(600)).await;
    assert_eq!(node.exit(&id).await.0, 137);
    assert!(held.into_body().collect().await.is_err());
}

/// What it copies takes it long enough to be taken to the threads of those that run long.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_ran_long_and_failed_says_why() {
    let node = server(|_| {}).await;
    for _ in 0..5 {
        let (status, text) = node.get(SERVER, "/fill?33554432").await;
        assert_eq!((status, text.as_str()), (500, "the component failed; its log says why\n"));
    }
    node.logged("server", "fuel").await;
}

#[tokio::test]
async fn a_request_without_a_host_is_the_clients_mistake() {
    let node = server(|_| {}).await;
    let endpoint = node.network.select(None, SERVER.parse().unwrap()).unwrap();
    let k8w_networking::Endpoint::Local(handler) = endpoint else { panic!("{endpoint:?}") };
    assert_eq!(handler.call(request("GET", "/count", full(""))).await.status(), 400);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_attempt_takes_the_port_over_and_no_request_fails() {
    let node = Arc::new(Node::new());
    let old = node.pod("server", probe()).await;
    let mut new = ContainerSpec { digest: node.prepare(probe_p3()).await.unwrap().digest, ..old.clone() };
    new.id.attempt = 1;
    new.log_path = node.dir.path().join("successor.log");
    let old = node.start(old).await;
    let (mut sender, body) = channel_body();
    let held = node.send(request("POST", &format!("http://{SERVER}/echo"), body)).await;
    let (stop, ended) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let clients: Vec<_> = (0..4)
        .map(|_| {
            let (node, stop, ended) = (node.clone(), stop.clone(), ended.clone());
            tokio::spawn(async move {
                while !stop.load(Ordering::Relaxed) {
                    assert_eq!(node.get(SERVER, "/count").await, (200, "1".to_owned()));
                    ended.fetch_add(1, Ordering::Relaxed);
                }
            })
        })
        .collect();
    let more = async |count: usize| {
        let before = ended.load(Ordering::Relaxed);
        until(async || ended.load(Ordering::Relaxed) >= before + count).await;
    };
    more(50).await;
    let new = node.start(new).await;
    assert!(node.get(SERVER, "/about").await.1.contains("Scheme::Http"), "only the new one knows this");
    node.engine.stop(&old, Duration::from_secs(3600)).await;
    more(50).await;
    sender.send(Ok(Frame::data(Bytes::from_static(b"still there")))).await.unwrap();
    drop(sender);
    assert_eq!(held.into_body().collect().await.unwrap().to_bytes(), "still there", "the old one ends what it has");
    assert_eq!(node.exit(&old).await, (0, ExitReason::Completed, String::new()));
    more(50).await;
    stop.store(true, Ordering::Relaxed);
    for client in clients {
        client.await.unwrap();
    }
    node.engine.stop(&new, Duration::ZERO).await;
    node.exit(&new).await;
    assert!(node.network.select(None, SERVER.parse().unwrap()).is_err(), "the port goes with its last holder");
}
