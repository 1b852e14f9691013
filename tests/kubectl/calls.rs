//! Calls of components to components by the name of a Service: they stream both ways, end with their client, and take no socket.

use std::convert::Infallible;
use std::net::TcpStream;
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use futures::SinkExt;
use futures::channel::mpsc::{self, Sender};
use http_body::Frame;
use http_body_util::{BodyExt, Empty, StreamBody};
use hyper::body::{Body, Incoming};
use hyper::client::conn::http2::{self, SendRequest};
use hyper::{HeaderMap, Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use k8w_testkit::{Kubectl, Process, TestCluster, eventually, is_by_tests_run, line, skipped};
use tempfile::TempDir;

use crate::{HELLO, guest, hello_pod, own_cluster, sockets};

/// How long a step may take.
const PATIENCE: Duration = Duration::from_secs(20);

type Piece = Result<Frame<Bytes>, Infallible>;
type Streamed = http_body_util::combinators::BoxBody<Bytes, Infallible>;

/// A cluster of its own with the pods `front` and `back`, which has a Service; and one connection to the ingress, which leads to
/// `front`.
struct Chain {
    cluster: TestCluster,
    kubectl: Kubectl,
    node: String,
    client: SendRequest<Streamed>,
}

impl Chain {
    /// `None` where nobody has built the guest that both run.
    async fn start(container: &str) -> Option<Self> {
        let probe = guest("probe.wasm")?;
        let (cluster, kubectl, node) = own_cluster(&[]);
        cluster.load_image(&probe, HELLO);
        for name in ["front", "back"] {
            kubectl.apply(&hello_pod(name, "", container));
            kubectl.ok(&["expose", "pod", name, "--port=80", "--target-port=8080"]);
        }
        kubectl.ok(&["wait", "--for=condition=Ready", "pod/front", "pod/back", "--timeout=60s"]);
        kubectl.ok(&["create", "ingress", "front", "--rule=front.test/*=front:80"]);
        eventually("both answer", || {
            match k8w_testkit::get(cluster.ingress_http(), "front.test", "/fetch?back/count")? {
                answer if answer.status == 200 && answer.body == "1" => Ok(()),
                answer => Err(format!("{answer:?}")),
            }
        });
        let stream = tokio::net::TcpStream::connect(cluster.ingress_http()).await.unwrap();
        let (client, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        Some(Self { cluster, kubectl, node, client })
    }

    async fn send(&mut self, request: Request<Streamed>) -> Response<Incoming> {
        self.client.ready().await.unwrap();
        tokio::time::timeout(PATIENCE, self.client.send_request(request)).await.expect("an answer begins").unwrap()
    }

    /// What `front` answers to a GET.
    async fn get(&mut self, path: &str) -> String {
        let request = Request::get(format!("http://front.test{path}")).body(Empty::new().boxed()).unwrap();
        let answer = self.send(request).await.into_body().collect();
        let answer = tokio::time::timeout(PATIENCE, answer).await.expect("an answer ends").unwrap();
        String::from_utf8_lossy(&answer.to_bytes()).into_owned()
    }

    /// A call of `front` to `back` that is under way.
    async fn call(&mut self, back: &str) -> Call {
        let (sender, pieces) = mpsc::channel::<Piece>(1);
        let request = Request::post(format!("http://front.test/forward?{back}/echo"));
        let response = self.send(request.body(BodyExt::boxed(StreamBody::new(pieces))).unwrap()).await;
        assert_eq!(response.status(), 200);
        Call { sender, answer: response.into_body() }
    }

    /// Live instances of a pod's component.
    fn instances(&self, pod: &str) -> String {
        let metrics = self.kubectl.ok(&["get", "--raw", &format!("/api/v1/nodes/{}/proxy/metrics", self.node)]);
        let labels = format!("{{container=\"hello\",namespace=\"t\",pod=\"{pod}\"}}");
        line(&metrics, &format!("k8w_container_instances{labels} ")).unwrap_or_default().to_owned()
    }

    fn have_instances(&self, expected: usize) {
        for pod in ["front", "back"] {
            eventually(&format!("{pod} has {expected} instances"), || match self.instances(pod) {
                found if found == expected.to_string() => Ok(()),
                found => Err(found),
            });
        }
    }
}

/// A request and its answer, both under way.
struct Call {
    sender: Sender<Piece>,
    answer: Incoming,
}

impl Call {
    async fn frame(&mut self) -> Option<Frame<Bytes>> {
        let frame = tokio::time::timeout(PATIENCE, self.answer.frame()).await.expect("the answer goes on");
        frame.map(Result::unwrap)
    }

    /// Sends a piece, and has it back before anything else is sent.
    async fn exchange(&mut self, piece: Bytes) {
        self.sender.send(Ok(Frame::data(piece.clone()))).await.unwrap();
        let mut heard = Vec::new();
        while heard.len() < piece.len() {
            heard.extend_from_slice(&self.frame().await.expect("there is more").into_data().expect("no trailers yet"));
        }
        assert_eq!(heard, piece);
    }

    /// Ends the request with trailers; those of the answer.
    async fn end(mut self, trailers: HeaderMap) -> HeaderMap {
        self.sender.send(Ok(Frame::trailers(trailers))).await.unwrap();
        drop(self.sender);
        self.sender = mpsc::channel(0).0;
        let last = self.frame().await.expect("there are trailers").into_trailers().expect("nothing else is left");
        assert!(self.frame().await.is_none() && self.answer.is_end_stream());
        last
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_by_a_services_name_streams_both_ways_with_trailers_and_takes_no_socket() {
    /// Calls at a time.
    const CALLS: usize = 30;
    let Some(mut chain) = Chain::start("").await else { return };
    let process = chain.cluster.process_id();
    let sum = HeaderMap::from_iter([("sum".parse().unwrap(), "200000".parse().unwrap())]);
    for back in ["back", "back.t.svc.cluster.local"] {
        let mut call = chain.call(back).await;
        for n in 0..20 {
            call.exchange(Bytes::from(vec![n; 10_000])).await;
        }
        assert_eq!(call.end(sum.clone()).await, sum);
    }
    chain.have_instances(0);

    let before = sockets::count(process);
    let mut calls = Vec::new();
    for _ in 0..CALLS {
        let mut call = chain.call("back").await;
        call.exchange(Bytes::from_static(b"first")).await;
        calls.push(call);
    }
    let during = sockets::count(process);
    assert!(during <= before, "{CALLS} calls under way took {before} to {during} sockets");
    let client = TcpStream::connect(chain.cluster.ingress_http()).unwrap();
    eventually("another client is a socket", || match sockets::count(process) {
        count if count > during => Ok(()),
        count => Err(count.to_string()),
    });
    drop(client);

    // Those whose client leaves end, and the others go on.
    chain.have_instances(CALLS);
    let mut stays = calls.pop().unwrap();
    drop(calls);
    chain.have_instances(1);
    stays.exchange(Bytes::from_static(b"second")).await;
    assert_eq!(stays.end(sum.clone()).await, sum);
    chain.have_instances(0);
}

/// System calls about sockets that a process makes from now on.
struct Trace {
    _strace: Process,
    folder: TempDir,
}

impl Trace {
    /// `None` on a machine that cannot tell.
    fn of(process: u32) -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str| folder.path().join(name);
        let calls = "trace=socket,socketpair,connect,bind,listen,accept,accept4";
        let (trace, process) = (file("trace").display().to_string(), process.to_string());
        let arguments = ["-f", "-e", calls, "-o", &trace, "-p", &process].map(str::to_owned);
        let found = std::process::Command::new("strace").arg("-V").output().is_ok_and(|shown| shown.status.success());
        let mut strace = found.then(|| Process::start("strace", &arguments, &file("stdout"), &file("stderr")).unwrap());
        let attached = strace.as_mut().is_some_and(|strace| {
            eventually("strace looks on", || match (line(&strace.stderr(), "strace: Process "), strace.ended()) {
                (None, None) => Err(strace.stderr()),
                (said, _) => Ok(said.is_some()),
            })
        });
        if !attached {
            let why = strace.map_or_else(|| "there is no strace".to_owned(), |strace| strace.stderr());
            assert!(!is_by_tests_run(), "{why}");
            skipped(&why);
            return None;
        }
        Some(Self { _strace: strace?, folder })
    }

    fn calls(&self) -> Vec<String> {
        let text = std::fs::read_to_string(self.folder.path().join("trace")).unwrap();
        text.lines().filter(|line| line.contains('(')).map(str::to_owned).collect()
    }
}

/// How often a log of a pod's, read as the file that it is, says this.
fn said(folder: &Path, pod: &str, words: &str) -> usize {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let of = |path: std::path::PathBuf| {
        if path.is_dir() {
            return said(&path, pod, words);
        }
        let is_log = path.extension().is_some_and(|extension| extension == "log");
        let is_pods = path.to_string_lossy().contains(&format!("t_{pod}_"));
        let text = if is_log && is_pods { std::fs::read_to_string(path).unwrap_or_default() } else { String::new() };
        text.matches(words).count()
    };
    entries.map(of).sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn neither_a_call_nor_a_probe_makes_a_socket() {
    let probe = "{httpGet: {port: 8080, path: '/log?probed'}, periodSeconds: 1}";
    let Some(mut chain) = Chain::start(&format!("readinessProbe: {probe}, livenessProbe: {probe}")).await else {
        return;
    };
    let logs = chain.cluster.data_dir().join("node");
    let probed = |pod: &str| said(&logs, pod, "probed");
    let begun = ["front", "back"]
        .map(|pod| eventually("probes", || Some(probed(pod)).filter(|n| *n > 0).ok_or(logs.display().to_string())));
    assert_eq!(chain.get("/fetch?back/count").await, "1");
    let Some(trace) = Trace::of(chain.cluster.process_id()) else { return };
    for _ in 0..20 {
        assert_eq!(chain.get("/fetch?back/count").await, "1");
    }
    for (pod, begun) in ["front", "back"].into_iter().zip(begun) {
        eventually(&format!("{pod} is probed"), || match probed(pod) {
            count if count >= begun + 4 => Ok(()),
            count => Err(format!("{count} times, {begun} before")),
        });
    }
    assert_eq!(trace.calls(), Vec::<String>::new());
    let _client = TcpStream::connect(chain.cluster.ingress_http()).unwrap();
    eventually("another client is told of", || match trace.calls() {
        calls if calls.iter().any(|call| call.contains("accept4(")) => Ok(()),
        calls => Err(format!("{calls:?}")),
    });
}
