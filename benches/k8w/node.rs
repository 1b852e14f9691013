//! The engine and the network of a node in this very process, without the API.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use k8w_networking::{Body, Network, Objects, PodIdentity, Tables};
use k8w_runtime::engine::{
    Artifact, ContainerId, ContainerSpec, Engine, EngineEvent, HttpSettings, Limits, Names, Preopen, Stats,
};
use k8w_runtime::wasm::{WasmConfig, WasmEngine};
use serde_json::json;
use tempfile::TempDir;
use tokio::sync::{Mutex, mpsc};

use crate::cluster::{BINARY, TIMEOUT};

const PORT: u16 = 8080;

pub struct Node {
    engine: WasmEngine,
    pub network: Arc<Network>,
    folder: TempDir,
    events: Mutex<mpsc::Receiver<EngineEvent>>,
    next: AtomicU16,
}

/// One container that runs.
pub struct Running {
    pub id: ContainerId,
    pub pod: PodIdentity,
}

impl Running {
    /// Where its server is.
    pub fn address(&self) -> SocketAddr {
        SocketAddr::new(self.pod.ip, PORT)
    }

    pub fn url(&self) -> String {
        format!("http://{}/", self.address())
    }
}

impl Node {
    /// As `k8w up` has them.
    pub fn start() -> Result<Node> {
        let folder = tempfile::Builder::new().prefix("k8w-bench-").tempdir()?;
        let network = Network::new(k8w_networking::Config {
            service_cidr: "10.96.0.0/16".parse()?,
            pod_cidrs: vec!["10.64.0.0/18".parse()?],
            wasm_cidr: Some("10.64.0.0/18".parse()?),
            cluster_domain: "cluster.local".to_owned(),
            node_name: "node".to_owned(),
            client_tls: None,
        });
        let (worker, wasi_p3) = (BINARY.into(), true);
        let config = WasmConfig { worker, wasi_p3, ..WasmConfig::new(folder.path().join("wasm")) };
        let (sender, events) = mpsc::channel(1_024);
        let engine = WasmEngine::new(config, network.clone(), sender)?;
        Ok(Node { engine, network, folder, events: Mutex::new(events), next: AtomicU16::new(2) })
    }

    /// Runs a component, changed from a container that nothing is said of.
    pub async fn run(&self, wasm: &[u8], change: impl FnOnce(&mut ContainerSpec)) -> Result<Running> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let [high, low] = number.to_be_bytes();
        let name = format!("pod-{number}");
        // Any name that the content alone decides serves as its digest.
        let digest = format!("sha256:{:064x}", hash(wasm));
        let path = self.folder.path().join(&name);
        std::fs::write(&path, wasm)?;
        let prepared = self.engine.prepare(&Artifact { digest, path }, "default").await?;
        let pod = PodIdentity {
            namespace: "default".to_owned(),
            name: name.clone(),
            uid: name.clone(),
            ip: IpAddr::V4(Ipv4Addr::new(10, 64, high, low)),
            service_account: "default".to_owned(),
        };
        let id = ContainerId { pod_uid: name.clone(), container: "main".to_owned(), attempt: 0 };
        let mut spec = ContainerSpec {
            id,
            pod,
            container_name: "main".to_owned(),
            digest: prepared.digest,
            argv: vec!["guest".to_owned()],
            env: Vec::new(),
            preopens: Vec::new(),
            memory_volumes: Vec::new(),
            names: Names::default(),
            working_dir: None,
            http_port: Some(PORT),
            http: HttpSettings::default(),
            limits: Limits::default(),
            log_path: self.folder.path().join(format!("{name}.log")),
            force_command: false,
            stdin: false,
            stdin_once: false,
            tty: false,
            shares_processes: false,
        };
        change(&mut spec);
        let (id, pod) = (spec.id.clone(), spec.pod.clone());
        self.engine.start(spec).await?;
        match self.event().await? {
            EngineEvent::Started { .. } => Ok(Running { id, pod }),
            EngineEvent::Trapped { message, .. } | EngineEvent::Exited { message, .. } => {
                bail!("{name} ended at once: {message}")
            }
        }
    }

    async fn event(&self) -> Result<EngineEvent> {
        let event = tokio::time::timeout(TIMEOUT, self.events.lock().await.recv()).await;
        event.context("no event came")?.context("the engine is gone")
    }

    pub async fn stop(&self, running: &Running) -> Result<()> {
        self.engine.stop(&running.id, Duration::ZERO).await;
        self.event().await?;
        Ok(())
    }

    pub async fn stats(&self, running: &Running) -> Result<Stats> {
        self.engine.stats(&running.id).await.context("the container has ended")
    }

    /// A directory as a mount of a container.
    pub fn mount(&self, name: &str) -> Result<Preopen> {
        let host_dir = self.folder.path().join(name);
        std::fs::create_dir_all(&host_dir)?;
        Ok(Preopen { host_dir, guest_path: format!("/{name}"), read_only: false, sub_path: None })
    }

    /// Makes a server the one endpoint of the Service `hello`.
    pub fn expose(&self, server: &Running) -> Result<&'static str> {
        self.services(&[("hello", server.address())])?;
        Ok("http://hello/")
    }

    /// Makes these the Services that there are, each with the one endpoint.
    pub fn services(&self, endpoints: &[(&str, SocketAddr)]) -> Result<()> {
        let (mut services, mut slices) = (Vec::new(), Vec::new());
        for (number, (name, endpoint)) in endpoints.iter().enumerate() {
            let service = json!({
                "metadata": { "namespace": "default", "name": name },
                "spec": { "clusterIPs": [format!("10.96.0.{}", 7 + number)], "ports": [{ "port": 80 }] },
            });
            let slice = json!({
                "metadata": {
                    "namespace": "default", "name": name, "labels": { "kubernetes.io/service-name": name },
                },
                "addressType": "IPv4",
                "endpoints": [{ "addresses": [endpoint.ip()], "conditions": { "ready": true } }],
                "ports": [{ "port": endpoint.port() }],
            });
            services.push(Arc::new(serde_json::from_value(service)?));
            slices.push(Arc::new(serde_json::from_value(slice)?));
        }
        let objects = Objects { services: &services, endpoint_slices: &slices, ..Objects::default() };
        self.network.update(Tables::build(&objects, "node"));
        Ok(())
    }

    /// What a command prints, from its start to its end, which is to be a good one. It asks for a processor: one that never pauses
    /// would have what nobody else wants.
    pub async fn printed(&self, wasm: &[u8], arguments: &[&str]) -> Result<String> {
        let running = self
            .run(wasm, |spec| {
                spec.argv.extend(arguments.iter().map(|argument| (*argument).to_owned()));
                spec.force_command = true;
                spec.limits.cpu_request_millis = Some(1_000);
            })
            .await?;
        let EngineEvent::Exited { exit_code: 0, .. } = self.event().await? else {
            bail!("{arguments:?} failed: {}", self.log(&running)?);
        };
        self.log(&running)
    }

    /// What a container has said, without what the format of logs adds.
    fn log(&self, running: &Running) -> Result<String> {
        let log = std::fs::read_to_string(self.folder.path().join(format!("{}.log", running.pod.name)))?;
        Ok(log.lines().filter_map(|line| line.splitn(4, ' ').nth(3)).map(|said| said.to_owned() + "\n").collect())
    }
}

/// Sends a request from a pod, and reads the whole answer, which is to be a 200.
pub async fn get(network: &Network, from: Option<&PodIdentity>, url: &str) -> Result<()> {
    let body: Body = Empty::<Bytes>::new().map_err(|never| match never {}).boxed_unsync();
    let answer = network.send(from, http::Request::get(url).body(body)?).await?;
    let status = answer.status();
    answer.into_body().collect().await.map_err(|error| anyhow::anyhow!("no whole answer: {error}"))?;
    if status.is_success() { Ok(()) } else { bail!("{url} answers {status}") }
}

fn hash(bytes: &[u8]) -> u64 {
    use std::hash::{DefaultHasher, Hash, Hasher};
    let mut hasher = DefaultHasher::new();
    bytes.hash(&mut hasher);
    hasher.finish()
}
