//! A node's engine and network without an API server.

use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use http_body::Frame;
use http_body_util::{BodyExt, Full, StreamBody};
use k8w_networking::{Body, BodyError, Network, PodIdentity};
use k8w_runtime::engine::{
    Artifact, ContainerId, ContainerSpec, Engine, EngineError, EngineEvent, ExitReason, HttpSettings, Limits, Names,
    Prepared,
};
use k8w_runtime::wasm::{WasmConfig, WasmEngine};
use sha2::{Digest, Sha256};
use tokio::sync::{Mutex, mpsc};

/// Nothing here takes nearly as long, on the slowest machine.
const PATIENCE: Duration = Duration::from_secs(120);

pub struct Node {
    pub engine: WasmEngine,
    pub network: Arc<Network>,
    pub dir: tempfile::TempDir,
    events: Mutex<mpsc::Receiver<EngineEvent>>,
    next_ip: AtomicU8,
}

impl Node {
    pub fn new() -> Node {
        Node::with(|_| {})
    }

    pub fn with(change: impl FnOnce(&mut WasmConfig)) -> Node {
        let dir = tempfile::tempdir().unwrap();
        let network = Network::new(k8w_networking::Config {
            service_cidr: "10.96.0.0/16".parse().unwrap(),
            pod_cidrs: vec!["10.64.0.0/18".parse().unwrap()],
            wasm_cidr: Some("10.64.0.0/18".parse().unwrap()),
            cluster_domain: "cluster.local".to_owned(),
            node_name: "node".to_owned(),
            client_tls: None,
        });
        let mut config = WasmConfig::new(dir.path().join("wasm"));
        config.worker = example("compile-worker");
        // Tests of one process run at the same time, and each has a pool.
        config.pool.instances = 64;
        config.wasi_p3 = true;
        change(&mut config);
        let (sender, events) = mpsc::channel(64);
        let engine = WasmEngine::new(config, network.clone(), sender).unwrap();
        Node { engine, network, dir, events: Mutex::new(events), next_ip: AtomicU8::new(2) }
    }

    /// Prepares a file as the image of containers to come.
    pub async fn prepare(&self, wasm: &[u8]) -> Result<Prepared, EngineError> {
        let digest = format!("sha256:{}", hex(&Sha256::digest(wasm)));
        let path = self.dir.path().join(digest.replace(':', "-"));
        std::fs::write(&path, wasm).unwrap();
        self.engine.prepare(&Artifact { digest, path }, "default").await
    }

    /// A pod with one container of a guest.
    pub async fn pod(&self, name: &str, guest: &[u8]) -> ContainerSpec {
        let prepared = self.prepare(guest).await.unwrap();
        let ip = IpAddr::V4(Ipv4Addr::new(10, 64, 0, self.next_ip.fetch_add(1, Ordering::Relaxed)));
        ContainerSpec {
            id: ContainerId { pod_uid: format!("uid-{name}"), container: "main".to_owned(), attempt: 0 },
            pod: PodIdentity {
                namespace: "default".to_owned(),
                name: name.to_owned(),
                uid: format!("uid-{name}"),
                ip,
                service_account: "default".to_owned(),
            },
            container_name: "main".to_owned(),
            digest: prepared.digest,
            argv: vec!["guest".to_owned()],
            env: Vec::new(),
            preopens: Vec::new(),
            memory_volumes: Vec::new(),
            names: Names::default(),
            working_dir: None,
            http_port: Some(8080),
            http: HttpSettings::default(),
            limits: Limits::default(),
            log_path: self.dir.path().join(format!("{name}.log")),
            force_command: false,
            stdin: false,
            stdin_once: false,
            tty: false,
            shares_processes: false,
        }
    }

    /// Starts a container and waits for `Started`.
    pub async fn start(&self, spec: ContainerSpec) -> ContainerId {
        let id = spec.id.clone();
        self.engine.start(spec).await.unwrap();
        assert_eq!(self.event().await, EngineEvent::Started { id: id.clone() });
        id
    }

    /// A command of the guest, to its end: exit code, reason, message and what it wrote.
    pub async fn run(&self, mut spec: ContainerSpec, args: &[&str]) -> (i32, ExitReason, String, String) {
        spec.argv.extend(args.iter().map(|arg| (*arg).to_owned()));
        spec.force_command = true;
        let log = spec.log_path.clone();
        let id = self.start(spec).await;
        let (code, reason, message) = self.exit(&id).await;
        (code, reason, message, texts(&log))
    }

    pub async fn event(&self) -> EngineEvent {
        let mut events = self.events.lock().await;
        tokio::time::timeout(PATIENCE, events.recv()).await.expect("no event came").unwrap()
    }

    pub async fn exit(&self, expected: &ContainerId) -> (i32, ExitReason, String) {
        loop {
            match self.event().await {
                EngineEvent::Trapped { .. } => {}
                EngineEvent::Exited { id, exit_code, reason, message } if id == *expected => {
                    return (exit_code, reason, message);
                }
                other => panic!("{other:?} instead of the end of {expected}"),
            }
        }
    }

    /// Sends a request into the cluster's network from outside of any pod.
    pub async fn send(&self, request: http::Request<Body>) -> http::Response<Body> {
        let sent = self.network.send(None, request);
        tokio::time::timeout(PATIENCE, sent).await.expect("no answer came").unwrap()
    }

    /// GETs a path of a container's server: status and text.
    pub async fn get(&self, address: &str, path: &str) -> (u16, String) {
        let response = self.send(request("GET", &format!("http://{address}{path}"), empty())).await;
        let status = response.status().as_u16();
        let body = response.into_body().collect().await.expect("the body is whole").to_bytes();
        (status, String::from_utf8(body.to_vec()).unwrap())
    }

    /// Waits until a file of the container's log says something.
    pub async fn logged(&self, name: &str, text: &str) {
        let path = self.dir.path().join(format!("{name}.log"));
        until(async || texts(&path).contains(text)).await;
    }
}

/// Waits for a condition, with patience.
pub async fn until(condition: impl AsyncFn() -> bool) {
    let mut every = tokio::time::interval(Duration::from_millis(5));
    let reached = async {
        while !condition().await {
            every.tick().await;
        }
    };
    tokio::time::timeout(PATIENCE, reached).await.expect("the condition was never met");
}

/// The lines of a log file without times.
pub fn texts(path: &Path) -> String {
    let log = std::fs::read_to_string(path).unwrap_or_default();
    let lines = log.lines().map(|line| line.split_once(' ').expect("a CRI log line").1);
    lines.map(|line| format!("{line}\n")).collect()
}

pub fn request(method: &str, uri: &str, body: Body) -> http::Request<Body> {
    http::Request::builder().method(method).uri(uri).body(body).unwrap()
}

pub fn empty() -> Body {
    full("")
}

pub fn full(text: &'static str) -> Body {
    Full::new(Bytes::from_static(text.as_bytes())).map_err(|never| match never {}).boxed_unsync()
}

/// A body whose frames the test sends one by one.
pub fn channel_body() -> (futures::channel::mpsc::Sender<Result<Frame<Bytes>, BodyError>>, Body) {
    let (sender, receiver) = futures::channel::mpsc::channel(0);
    (sender, StreamBody::new(receiver).boxed_unsync())
}

pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// An example program of this package, which Cargo builds before its tests.
fn example(name: &str) -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let path = test.parent().and_then(Path::parent).unwrap().join("examples").join(name);
    assert!(path.exists(), "{} is not built: run `cargo test -p k8w-runtime`", path.display());
    path
}

/// Names the file of a probe that was built before, for a test that runs in a process of its own.
pub const BUILT_PROBE: &str = "K8W_BUILT_PROBE";
pub const BUILT_PROBE_P3: &str = "K8W_BUILT_PROBE_P3";

/// The guest that does what a test asks for; an http server and a command.
pub fn probe() -> &'static [u8] {
    static PROBE: OnceLock<Vec<u8>> = OnceLock::new();
    PROBE.get_or_init(|| match std::env::var_os(BUILT_PROBE) {
        Some(path) => std::fs::read(path).unwrap(),
        None => build("probe"),
    })
}

/// The same of WASI 0.3.
pub fn probe_p3() -> &'static [u8] {
    static PROBE: OnceLock<Vec<u8>> = OnceLock::new();
    PROBE.get_or_init(|| match std::env::var_os(BUILT_PROBE_P3) {
        Some(path) => std::fs::read(path).unwrap(),
        None => build("probe-p3"),
    })
}

/// A core module: a preview 1 command.
pub fn preview1() -> &'static [u8] {
    static PREVIEW1: OnceLock<Vec<u8>> = OnceLock::new();
    PREVIEW1.get_or_init(|| build("preview1"))
}

/// Commands that try to get out of their volume: a core module of preview 1, which the host adapts, and components of WASI 0.2
/// and 0.3, which call the host themselves.
pub fn hostile() -> &'static [(&'static str, Vec<u8>)] {
    static HOSTILE: OnceLock<Vec<(&str, Vec<u8>)>> = OnceLock::new();
    HOSTILE.get_or_init(|| ["hostile", "hostile-p2", "hostile-p3"].map(|name| (name, build(name))).into())
}

/// Builds a program beside the guests that runs on the host.
pub fn program(name: &str) -> PathBuf {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/guests").join(name).join("Cargo.toml");
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).join("../guests");
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo
        .args(["build", "--quiet", "--release", "--locked", "--manifest-path"])
        .arg(manifest)
        .arg("--target-dir")
        .arg(&target);
    let built = cargo.output().unwrap();
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
    target.join("release").join(name)
}

/// A command that does nothing, with so many instances of a core module beside its own that has `definitions`.
pub fn made_of(modules: usize, definitions: &str) -> Vec<u8> {
    let instances = "(core instance (instantiate $part))".repeat(modules);
    let text = format!(
        r#"(component
            (core module $part {definitions})
            {instances}
            (core module $main (func (export "run") (result i32) i32.const 0))
            (core instance $main (instantiate $main))
            (func $run (result (result)) (canon lift (core func $main "run")))
            (instance $command (export "run" (func $run)))
            (export "wasi:cli/run@0.2.0" (instance $command)))"#
    );
    wat::parse_str(text).unwrap()
}

fn build(guest: &str) -> Vec<u8> {
    let guests = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/guests");
    let out = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{guest}-{}.wasm", std::process::id()));
    let built = Command::new(guests.join("build")).arg(guests.join(guest)).arg(&out).env("CORE", "1").output().unwrap();
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
    let wasm = std::fs::read(&out).unwrap();
    std::fs::remove_file(out).unwrap();
    wasm
}
