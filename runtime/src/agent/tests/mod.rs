//! The agent's loop against a fake API and a fake engine.

mod commands;
mod fake_api;
mod lifecycle;
mod new_pods;
mod static_pods;

use std::collections::HashSet;
use std::convert::Infallible;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use expect_test::expect;
use http_body::Frame;
use http_body_util::BodyExt;
use k8w_kinds::node_stream::{Decoder, Message};
use k8w_networking::Network;
use k8w_storage::blob::BlobStore;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::sync::{Notify, Semaphore, mpsc};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::Node;
use crate::config::NodeConfig;
use crate::engine::{
    Artifact, AskError, Command, ContainerId, ContainerSpec, Engine, EngineError, EngineEvent, ExecError, ExitReason,
    Io, Limits, Output, Prepared, Question, RunsAs, Stats,
};
use crate::image::LocalImages;
use crate::image::garbage::Policy;
use crate::server::NodeService;
use fake_api::FakeApi;

const POD: &str = "/api/v1/namespaces/ns/pods/p";

/// Starts everything at once, and ends it when told to.
struct FakeEngine {
    events: mpsc::Sender<EngineEvent>,
    started: Mutex<Vec<ContainerSpec>>,
    resized: Mutex<Vec<Limits>>,
    /// What components say about themselves, if they do.
    answer: Mutex<Option<Result<(), String>>>,
    /// Whoever holds it keeps images from being compiled.
    compiler: Semaphore,
    /// Told when somebody runs the command `wait`, which ends when somebody opens the gate to it.
    waits: Notify,
    gate: Semaphore,
}

#[async_trait]
impl Engine for FakeEngine {
    async fn prepare(&self, artifact: &Artifact, _: &str) -> Result<Prepared, EngineError> {
        assert!(artifact.path.is_file());
        let _compiler = self.compiler.acquire().await.unwrap();
        let answers = self.answer.lock().unwrap().is_some();
        Ok(Prepared { digest: artifact.digest.clone(), runs_as: RunsAs::Http, answers })
    }

    async fn start(&self, spec: ContainerSpec) -> Result<(), EngineError> {
        let id = spec.id.clone();
        std::fs::write(&spec.log_path, "2024-01-01T00:00:00.000000000Z stdout F hello\n").unwrap();
        self.started.lock().unwrap().push(spec);
        self.events.send(EngineEvent::Started { id }).await.unwrap();
        Ok(())
    }

    async fn stop(&self, id: &ContainerId, _: Duration) {
        self.exit(id, 143).await;
    }

    async fn resize(&self, _: &ContainerId, limits: Limits) -> Result<(), EngineError> {
        self.resized.lock().unwrap().push(limits);
        match limits.memory_bytes {
            Some(0..1_024) => Err(EngineError::InvalidSpec("too little".to_owned())),
            _ => Ok(()),
        }
    }

    async fn keep_prepared(&self, _: &HashSet<String>) {}

    fn pod_cpu_nanos(&self, _: &str) -> u64 {
        0
    }

    fn forget_pod(&self, _: &str) {}

    async fn written_bytes(&self, _: &ContainerId) -> u64 {
        0
    }

    async fn stats(&self, _: &ContainerId) -> Option<Stats> {
        Some(Stats { memory_bytes: 1_024, ..Stats::default() })
    }

    /// Says its arguments on standard error, then repeats its input. There are `true`, `sleep`, which never wakes,
    /// `wait`, and no `sh`; everything else ends with 7.
    async fn exec(&self, _: &ContainerId, command: Command, io: Io) -> Result<i32, ExecError> {
        io.output.send(Output::Stderr(command.argv.join(" ").into())).await.unwrap();
        let mut stdin = io.stdin;
        while let Some(bytes) = async { stdin.as_mut()?.recv().await }.await {
            io.output.send(Output::Stdout(bytes)).await.unwrap();
        }
        match command.argv[0].as_str() {
            "sh" => Err(ExecError::NoShell("sh".to_owned())),
            "sleep" => std::future::pending().await,
            "wait" => {
                self.waits.notify_one();
                self.gate.acquire().await.unwrap().forget();
                Ok(0)
            }
            "true" => Ok(0),
            _ => Ok(7),
        }
    }

    async fn ask(&self, _: &ContainerId, _: Question) -> Result<(), AskError> {
        self.answer.lock().unwrap().clone().unwrap().map_err(AskError::No)
    }

    async fn attach(&self, _: &ContainerId, io: Io) -> Result<(), ExecError> {
        io.output.send(Output::Stdout("attached".into())).await.unwrap();
        Ok(())
    }
}

impl FakeEngine {
    async fn exit(&self, id: &ContainerId, exit_code: i32) {
        self.exit_saying(id, exit_code, "").await;
    }

    async fn exit_saying(&self, id: &ContainerId, exit_code: i32, message: &str) {
        let (id, reason, message) = (id.clone(), ExitReason::Error, message.to_owned());
        self.events.send(EngineEvent::Exited { id, exit_code, reason, message }).await.unwrap();
    }

    fn last_started(&self) -> ContainerSpec {
        self.started.lock().unwrap().last().cloned().unwrap()
    }
}

/// A network that has seen nothing of its cluster yet.
pub fn network() -> Arc<Network> {
    Network::new(k8w_networking::Config {
        service_cidr: "10.96.0.0/16".parse().unwrap(),
        pod_cidrs: vec!["10.64.0.0/18".parse().unwrap()],
        wasm_cidr: Some("10.64.0.0/18".parse().unwrap()),
        cluster_domain: "cluster.local".to_owned(),
        node_name: "n".to_owned(),
        client_tls: None,
    })
}

/// A node on a fake API, with an image named `localhost/hello`.
struct TestNode {
    api: FakeApi,
    engine: Arc<FakeEngine>,
    service: NodeService,
    shutdown: CancellationToken,
    task: JoinHandle<()>,
    root: Arc<TempDir>,
}

impl TestNode {
    fn start() -> TestNode {
        TestNode::on(FakeApi::new(), Arc::new(tempfile::tempdir().unwrap()))
    }

    fn on(api: FakeApi, root: Arc<TempDir>) -> TestNode {
        let (events, receiver) = mpsc::channel(64);
        let engine = Arc::new(FakeEngine {
            events,
            started: Mutex::default(),
            resized: Mutex::default(),
            answer: Mutex::default(),
            compiler: Semaphore::new(1),
            waits: Notify::new(),
            gate: Semaphore::new(0),
        });
        let blobs = Arc::new(BlobStore::open(&root.path().join("images")).unwrap());
        let component = root.path().join("hello.wasm");
        std::fs::write(&component, b"\0asm").unwrap();
        LocalImages::new(blobs.clone()).load(&component, "localhost/hello").unwrap();
        let network = network();
        let config = NodeConfig {
            static_pod_path: Some(root.path().join("manifests")),
            // However full the disk of this machine is.
            image_gc: Policy { high_percent: 100, ..Policy::default() },
            ..NodeConfig::new("n", "10.0.0.1".parse().unwrap(), 10250, root.path())
        };
        let node = Node::new(config, api.client(), engine.clone(), receiver, blobs, network).unwrap();
        let service = node.service();
        let shutdown = CancellationToken::new();
        let until = shutdown.clone();
        let task = tokio::spawn(async move { node.run(until).await.unwrap() });
        TestNode { api, engine, service, shutdown, task, root }
    }

    async fn stop(self) -> (FakeApi, Arc<TempDir>) {
        self.shutdown.cancel();
        self.task.await.unwrap();
        (self.api, self.root)
    }

    fn create(&self, spec: Value) {
        let metadata = json!({ "name": "p", "namespace": "ns", "uid": "u", "generation": 1 });
        let pod = json!({ "apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec, "status": {} });
        self.api.put(POD, pod);
    }

    /// Waits until another pod is Ready: what happened before has been seen by the node.
    async fn catches_up(&self) {
        const OTHER: &str = "/api/v1/namespaces/ns/pods/other";
        let metadata = json!({ "name": "other", "namespace": "ns", "uid": "other" });
        let pod = json!({ "apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": simple(), "status": {} });
        self.api.put(OTHER, pod);
        self.api.wait(OTHER, |pod| condition(pod, "Ready")).await;
    }

    /// Asks for the pod's deletion within this grace.
    fn delete(&self, grace_seconds: u64) {
        let mut pod = self.api.get(POD).unwrap();
        pod["metadata"]["deletionTimestamp"] = json!("2024-01-01T00:00:00Z");
        pod["metadata"]["deletionGracePeriodSeconds"] = json!(grace_seconds);
        self.api.put(POD, pod);
    }

    async fn logs(&self, query: &str) -> (u16, String) {
        let uri = format!("/containerLogs/ns/p/c?{query}");
        let answer = self.service.handle(http::Request::get(uri).body(http_body_util::Empty::new()).unwrap()).await;
        let status = answer.status().as_u16();
        let body = answer.into_body().collect().await.unwrap().to_bytes();
        (status, String::from_utf8(body.to_vec()).unwrap())
    }
}

fn simple() -> Value {
    json!({ "nodeName": "n", "serviceAccountName": "sa", "containers": [{ "name": "c", "image": "localhost/hello",
        "ports": [{ "containerPort": 8000 }], "env": [{ "name": "A", "value": "x" }] }] })
}

fn condition(pod: &Value, type_: &str) -> bool {
    let mut conditions = pod["status"]["conditions"].as_array().into_iter().flatten();
    conditions.any(|condition| condition["type"] == type_ && condition["status"] == "True")
}

#[tokio::test]
async fn a_pod_lives_and_is_deleted() {
    let node = TestNode::start();
    node.create(simple());
    let pod = node.api.wait(POD, |pod| condition(pod, "Ready")).await;
    assert_eq!((&pod["status"]["phase"], &pod["status"]["podIP"]), (&json!("Running"), &json!("10.64.0.2")));
    let spec = node.engine.last_started();
    assert_eq!((spec.http_port, spec.pod.service_account.as_str()), (Some(8_000), "sa"));
    assert!(spec.env.contains(&("A".to_owned(), "x".to_owned())));
    assert_eq!(node.logs("").await, (200, "hello\n".to_owned()));

    node.delete(30);
    node.api.wait(POD, Value::is_null).await;
    assert_eq!(node.logs("").await.0, 404);
    let (api, root) = node.stop().await;
    expect!["Starting NodeHasSufficientMemory NodeHasNoDiskPressure NodeHasSufficientPID NodeReady Pulled Created Started Killing"]
        .assert_eq(&api.events().join(" "));
    assert!(!root.path().join("pods/u").exists());
}

#[tokio::test]
async fn a_crash_is_restarted_with_its_log_kept() {
    let node = TestNode::start();
    node.create(simple());
    node.api.wait(POD, |pod| condition(pod, "Ready")).await;
    node.engine.exit(&node.engine.last_started().id, 1).await;
    let restarted = |pod: &Value| pod["status"]["containerStatuses"][0]["restartCount"] == 1 && condition(pod, "Ready");
    let pod = node.api.wait(POD, restarted).await;
    assert_eq!(pod["status"]["containerStatuses"][0]["lastState"]["terminated"]["exitCode"], 1);
    assert_eq!(node.logs("previous=true").await, (200, "hello\n".to_owned()));
    node.stop().await;
}

#[tokio::test]
async fn what_a_pod_misses_is_named_and_awaited() {
    let node = TestNode::start();
    let mut spec = simple();
    spec["containers"][0]["envFrom"] = json!([{ "configMapRef": { "name": "cfg" } }]);
    spec["containers"][0]["volumeMounts"] = json!([{ "name": "v", "mountPath": "/v" }]);
    spec["volumes"] = json!([{ "name": "v", "projected": { "sources": [
        { "serviceAccountToken": { "path": "token" } },
        { "configMap": { "name": "cfg", "optional": true } } ] } }]);
    node.create(spec);
    let waiting = |pod: &Value| pod["status"]["containerStatuses"][0]["state"]["waiting"].clone();
    let pod = node.api.wait(POD, |pod| waiting(pod)["reason"] == "CreateContainerConfigError").await;
    assert_eq!(waiting(&pod)["message"], "configmap \"cfg\" not found");
    let log = node.logs("").await;
    let why = "container \"c\" in pod \"p\" is waiting to start: CreateContainerConfigError";
    assert_eq!(log, (400, why.to_owned()));

    let config = |value: &str| json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": "cfg", "namespace": "ns" }, "data": { "k": value } });
    node.api.put("/api/v1/namespaces/ns/configmaps/cfg", config("one"));
    node.api.wait(POD, |pod| condition(pod, "Ready")).await;
    let spec = node.engine.last_started();
    assert!(spec.env.contains(&("k".to_owned(), "one".to_owned())));
    let volume = &spec.preopens[0].host_dir;
    assert!(std::fs::read_to_string(volume.join("token")).unwrap().starts_with("token-"));
    node.stop().await;
}

#[tokio::test]
async fn what_wasm_cannot_have_is_refused_by_name() {
    let node = TestNode::start();
    let mut spec = simple();
    spec["hostPID"] = json!(true);
    node.create(spec);
    let waiting = |pod: &Value| pod["status"]["containerStatuses"][0]["state"]["waiting"].clone();
    let pod = node.api.wait(POD, |pod| waiting(pod)["message"].is_string()).await;
    assert_eq!(waiting(&pod)["message"], "wasm pods do not support spec.hostPID");
    node.stop().await;
}

#[tokio::test]
async fn pods_come_back_after_a_restart() {
    let node = TestNode::start();
    node.create(simple());
    node.api.wait(POD, |pod| condition(pod, "Ready")).await;
    let (api, root) = node.stop().await;
    let node = TestNode::on(api, root);
    let restarted = |pod: &Value| pod["status"]["containerStatuses"][0]["restartCount"] == 1 && condition(pod, "Ready");
    let pod = node.api.wait(POD, restarted).await;
    assert_eq!(pod["status"]["podIP"], "10.64.0.2");
    node.stop().await;
}

#[tokio::test]
async fn commands_talk_in_both_bodies_of_a_request() {
    let node = TestNode::start();
    node.create(simple());
    node.api.wait(POD, |pod| condition(pod, "Ready")).await;
    let ask = async |path: &str, said: Vec<Message>| {
        // The body stays open: its end would mean that the client is gone.
        let (client, heard) = mpsc::channel::<Result<Frame<Bytes>, Infallible>>(8);
        for message in said {
            client.send(Ok(Frame::data(message.encode()))).await.unwrap();
        }
        let body = http_body_util::StreamBody::new(tokio_stream::wrappers::ReceiverStream::new(heard));
        let answer = node.service.handle(http::Request::post(path).body(body).unwrap()).await;
        let (parts, body) = answer.into_parts();
        (parts.status.as_u16(), body.collect().await.unwrap().to_bytes())
    };
    let messages = |bytes: &[u8]| {
        let mut decoder = Decoder::default();
        decoder.push(bytes);
        std::iter::from_fn(move || decoder.pop().unwrap()).collect::<Vec<_>>()
    };
    let query = "command=a&command=b%20c&stdin=true&stdout=true&stderr=true";
    let said = vec![Message::Stdin("in".into()), Message::StdinEnd];
    let (_, heard) = ask(&format!("/exec/ns/p/c?{query}"), said).await;
    let expected = [Message::Stderr("a b c".into()), Message::Stdout("in".into()), Message::Exit(7)];
    assert_eq!(messages(&heard), expected);
    let (_, heard) = ask("/exec/ns/p/c?command=sh&stdout=true", vec![]).await;
    assert_eq!(messages(&heard), [Message::Failed("exec: \"sh\": there is no shell in a wasm pod".to_owned())]);
    let (_, heard) = ask("/attach/ns/p/c?stdout=true", vec![]).await;
    assert_eq!(messages(&heard), [Message::Stdout("attached".into()), Message::Exit(0)]);
    let missing = ask("/exec/ns/p/other?command=a&stdout=true", vec![]).await;
    assert_eq!(missing, (404, Bytes::from_static(b"container not found (\"other\")")));
    let closed = ask("/portForward/ns/p?port=1", vec![]).await;
    assert_eq!(closed.0, 500);
    node.stop().await;
}
