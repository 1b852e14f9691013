//! Limits of a container that no manifest sets (`docs/limits.md`), on a node as it is started: who wants more waits or is told so,
//! and neighbours do not feel it.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo};
use jiff::Timestamp;
use k8w_testkit::{Answer, eventually, get, get_ok};

use crate::{HELLO, guest, hello_pod, own_cluster, sandbox};

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(60);

#[test]
fn who_says_too_much_waits_and_loses_nothing_while_others_are_read() {
    /// Of a kilobyte each: more than may be said at once, and fewer than the files of a log keep.
    const LINES: usize = 40_000;
    /// What the rate makes of them at least: 24 MiB beyond those that may be said at once, at 8 MiB/s, in whole seconds.
    const SECONDS: i64 = 2;
    let t = sandbox();
    let Some(image) = t.probe_image() else { return };
    assert!(t.probe_pod("neighbour", "", ""));
    t.ends_by_itself("talks", "", &format!("{{name: main, image: '{image}', args: [lines, '{LINES}']}}"));
    let say = format!("/api/v1/namespaces/{}/pods/neighbour:8080/proxy/log?n=", t.namespace);
    for n in 0..5 {
        assert_eq!(t.kubectl.ok(&["get", "--raw", &format!("{say}{n}")]), "logged");
        eventually("the neighbour's line is in its log", || match t.kubectl.ok(&["logs", "neighbour", "--tail=1"]) {
            last if last == format!("n={n}\n") => Ok(()),
            last => Err(last),
        });
    }
    t.kubectl.ok(&["wait", "--for=jsonpath={.status.phase}=Succeeded", "pod/talks", "--timeout=90s"]);
    let log = t.kubectl.ok(&["logs", "talks"]);
    let numbers = log.lines().map(|line| line.split(' ').nth(1).unwrap().parse::<usize>().unwrap());
    assert!(numbers.eq(0..LINES), "all of {LINES} lines, in their order: {}", log.lines().count());
    let time = |field: &str| -> i64 {
        let path = format!("jsonpath={{.status.containerStatuses[0].state.terminated.{field}}}");
        t.kubectl.ok(&["get", "pod", "talks", "-o", &path]).parse::<Timestamp>().unwrap().as_second()
    };
    let taken = time("finishedAt") - time("startedAt");
    assert!(taken >= SECONDS, "it was held back: {taken} s");
}

/// A client with one connection to the ingress, on which many requests are under way.
async fn connect(address: SocketAddr) -> SendRequest<Empty<Bytes>> {
    let stream = tokio::net::TcpStream::connect(address).await.unwrap();
    let (sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    sender
}

async fn ask(mut client: SendRequest<Empty<Bytes>>, host: &str, path: &str) -> (u16, String) {
    let request = hyper::Request::get(format!("http://{host}{path}")).body(Empty::new()).unwrap();
    let answer = tokio::time::timeout(PATIENCE, client.send_request(request)).await.unwrap().unwrap();
    let status = answer.status().as_u16();
    let body = answer.into_body().collect().await.unwrap().to_bytes();
    (status, String::from_utf8_lossy(&body).into_owned())
}

/// A thousand requests that are not answered take a server's room; those beyond are told so at once.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_has_so_many_requests_at_a_time_and_refuses_more() {
    const CONNECTIONS: usize = 10;
    const REQUESTS: usize = 1_000;
    const MORE: usize = 20;
    let t = sandbox();
    if !t.probe_pod("crowded", "terminationGracePeriodSeconds: 1", "") {
        return;
    }
    t.kubectl.ok(&["expose", "pod", "crowded", "--port=80", "--target-port=8080"]);
    let host = format!("{}.test", t.namespace);
    t.kubectl.ok(&["create", "ingress", "crowded", "--class=k8w", &format!("--rule={host}/*=crowded:80")]);
    let ingress = t.cluster.ingress_http();
    let count = || get(ingress, &host, "/count");
    let is = |status: u16, body: &str| match count()? {
        Answer { status: s, body: b, .. } if (s, b.as_str()) == (status, body) => Ok(()),
        other => Err(format!("{other:?}")),
    };
    eventually("the ingress leads to it", || is(200, "1"));

    let (mut asked, mut refused) = (Vec::new(), Vec::new());
    for _ in 0..CONNECTIONS {
        let client = connect(ingress).await;
        for _ in 0..(REQUESTS + MORE) / CONNECTIONS {
            let (client, host) = (client.clone(), host.clone());
            asked.push(tokio::spawn(async move { ask(client, &host, "/wait").await }));
        }
    }
    eventually("those are refused that are too many", || {
        let (ended, waiting): (Vec<_>, Vec<_>) = asked.drain(..).partition(|request| request.is_finished());
        asked = waiting;
        refused.extend(ended);
        if refused.len() == MORE { Ok(()) } else { Err(format!("{} of {MORE}", refused.len())) }
    });
    let no_room = "too many requests at once\n";
    for request in refused {
        assert_eq!(request.await.unwrap(), (503, no_room.to_owned()));
    }
    is(503, no_room).unwrap();
    // Whose client is gone waits no longer.
    for request in asked.drain(..REQUESTS / CONNECTIONS) {
        request.abort();
    }
    eventually("there is room again", || is(200, "1"));
    let restarts =
        t.kubectl.ok(&["get", "pod", "crowded", "-o", "jsonpath={.status.containerStatuses[0].restartCount}"]);
    assert_eq!(restarts, "0");
    assert!(asked.iter().all(|request| !request.is_finished()), "the others wait");
    t.kubectl.ok(&["delete", "pod", "crowded", "--timeout=60s"]);
}

/// `limits.memory` of a server: a request waits for what others have of it, and is told so when they keep it.
#[test]
fn a_request_that_finds_the_memory_used_up_is_refused_and_the_next_one_is_not() {
    let t = sandbox();
    if !t.probe_pod("full", "", "resources: {limits: {memory: 24Mi}}") {
        return;
    }
    let host = t.expose("pod", "full");
    let ingress = t.cluster.ingress_http();
    let hog = || get(ingress, &host, "/hog?18").unwrap();
    assert_eq!(hog().body, (18 << 20).to_string() + " bytes");
    // One that makes its answer of pieces of 1 MiB, and waits for a client that does not read.
    let mut held: Vec<TcpStream> = Vec::new();
    for _ in 0..4 {
        let mut client = TcpStream::connect(ingress).unwrap();
        client.set_read_timeout(Some(PATIENCE)).unwrap();
        write!(client, "GET /stream?1000 HTTP/1.1\r\nhost: {host}\r\n\r\n").unwrap();
        client.read_exact(&mut [0; 12]).unwrap();
        held.push(client);
    }
    let refused = hog();
    assert_eq!((refused.status, refused.body.as_str()), (503, "the component has no room for this request now\n"));
    drop(held);
    eventually("there is room again", || get_ok(ingress, &host, "/hog?18"));
    let restarts = t.kubectl.ok(&["get", "pod", "full", "-o", "jsonpath={.status.containerStatuses[0].restartCount}"]);
    assert_eq!(restarts, "0", "who alone needs no more than there is is no reason to end");
}

/// Bodies are passed on piece by piece: neither the component nor the node has room for all of one that nobody reads.
#[test]
fn a_body_that_nobody_reads_is_held_back_and_comes_whole_in_the_end() {
    const MIB: usize = 1 << 20;
    const BODY_BYTES: usize = 128 * MIB;
    /// A few pieces at each step, in both directions, and what a busy node takes beside that.
    const ROOM_KIB: u64 = 48 << 10;
    let Some(probe) = guest("probe.wasm") else { return };
    let (cluster, kubectl, _) = own_cluster(&[]);
    cluster.load_image(&probe, HELLO);
    kubectl.apply(&hello_pod("echo", "", "resources: {limits: {memory: 8Mi}}"));
    kubectl.ok(&["wait", "--for=condition=Ready", "pod/echo", "--timeout=60s"]);
    kubectl.ok(&["expose", "pod", "echo", "--port=80", "--target-port=8080"]);
    kubectl.ok(&["create", "ingress", "echo", "--class=k8w", "--rule=echo.test/*=echo:80"]);
    let ingress = cluster.ingress_http();
    eventually("the ingress answers", || get_ok(ingress, "echo.test", "/count"));
    let most_kib = || -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", cluster.process_id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
        line.split_whitespace().next().unwrap().parse().unwrap()
    };
    let before = most_kib();

    let mut client = TcpStream::connect(ingress).unwrap();
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut sender = client.try_clone().unwrap();
    let sending = std::thread::spawn(move || {
        write!(sender, "POST /echo HTTP/1.1\r\nhost: echo.test\r\ncontent-length: {BODY_BYTES}\r\n\r\n").unwrap();
        let piece = vec![b'x'; MIB];
        for _ in 0..BODY_BYTES / MIB {
            sender.write_all(&piece).unwrap();
        }
    });
    // It has begun, and goes on for as long as there is room anywhere.
    client.read_exact(&mut [0; 12]).unwrap();
    for _ in 0..100 {
        assert_eq!(get(ingress, "echo.test", "/count").unwrap().body, "1", "others are answered meanwhile");
    }
    assert!(!sending.is_finished(), "the sender is held back");
    let (mut came, mut piece) = (0, vec![0; MIB]);
    while came < BODY_BYTES {
        let read = client.read(&mut piece).unwrap();
        assert!(read > 0, "the answer ends after {came} bytes");
        came += piece[..read].iter().filter(|byte| **byte == b'x').count();
    }
    sending.join().unwrap();
    let grown = most_kib() - before;
    assert!(grown < ROOM_KIB, "the node took {grown} KiB for a body of {} KiB", BODY_BYTES >> 10);
    let restarts = kubectl.ok(&["get", "pod", "echo", "-o", "jsonpath={.status.containerStatuses[0].restartCount}"]);
    assert_eq!(restarts, "0");
}
