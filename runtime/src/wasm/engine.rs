//! Starts, stops and reports containers: the [`Engine`] of this node.

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, Weak};
use std::time::Duration;

use async_trait::async_trait;
use k8w_networking::{Network, Registration};
use k8w_storage::tree;
use k8w_storage::volume::memory::Meter;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::compile::{self, Code};
use super::components::{Components, Loaded};
use super::config::WasmConfig;
use super::container::{Container, Counters};
use super::cpu::{CpuAccount, Quota, Used};
use super::exec;
use super::log_writer::LogWriter;
use super::logs::Log;
use super::memory::{Budget, Measure};
use super::outcome::Outcome;
use super::pool::{self, Instances};
use super::preopens::{self, Preopens};
use super::runners::Runners;
use super::serve::{Door, News, Server};
use super::slots::{NoSlot, PodSlots, Slots};
use super::stdio::Stdio;
use super::ticker::Ticker;
use super::{command, written};
use crate::engine::{
    Artifact, AskError, Command, ContainerId, ContainerSpec, Engine, EngineError, EngineEvent, ExecError, Io, Limits,
    MemoryVolume, Prepared, Question, RunsAs, Stats, Writers,
};
use crate::host;
use crate::host::filesystem::open_files::OpenFiles;
use crate::host::keyvalue::Buckets;
use crate::host::pod_network::PodNetwork;

/// Port of an http component whose container names none.
const DEFAULT_HTTP_PORT: u16 = 8080;

/// How often volumes in memory are looked at that a container may write to.
const VOLUMES_MEASURED_EVERY: Duration = Duration::from_millis(100);

/// Runs components with wasmtime. One per node.
pub struct WasmEngine(Arc<Inner>);

struct Inner {
    config: WasmConfig,
    components: Components,
    network: Arc<Network>,
    events: mpsc::Sender<EngineEvent>,
    ticker: Arc<Ticker>,
    runners: Arc<Runners>,
    log_writer: LogWriter,
    instances: Instances,
    slots: Arc<Slots>,
    running: Mutex<HashMap<ContainerId, Running>>,
    /// What whole pods have, from their first container on.
    pods: Mutex<HashMap<String, PodEntry>>,
}

/// What the containers of a pod share.
struct PodShares {
    memory: Arc<Budget>,
    cpu: Arc<Quota>,
    slots: Arc<PodSlots>,
}

/// The same as long as one of them is there, and what has been used by all of them, those that have ended included.
struct PodEntry {
    memory: Weak<Budget>,
    cpu: Weak<Quota>,
    slots: Weak<PodSlots>,
    cpu_used: Arc<Used>,
}

impl PodEntry {
    fn shares(&self) -> Option<PodShares> {
        let PodEntry { memory, cpu, slots, .. } = self;
        Some(PodShares { memory: memory.upgrade()?, cpu: cpu.upgrade()?, slots: slots.upgrade()? })
    }
}

/// A container between `Started` and `Exited`. Taking it out of the table is the right to report its end.
struct Running {
    container: Arc<Container>,
    digest: String,
    kind: Kind,
}

enum Kind {
    /// Without a port once another attempt has it, or it is to stop.
    Http {
        server: Arc<Server>,
        port: Option<Port>,
    },
    Command,
}

/// The container of a pod that listens on a port.
fn listens_on(port: u16, pod_uid: &str, running: &HashMap<ContainerId, Running>) -> Option<String> {
    let listens = |running: &Running| match &running.kind {
        Kind::Http { port: own, .. } => own.as_ref().is_some_and(|own| own.number == port),
        Kind::Command => running.container.network.listens_on(port),
    };
    running.iter().find(|(id, running)| id.pod_uid == pod_uid && listens(running)).map(|(id, _)| id.container.clone())
}

/// A pod's port. Dropping it closes it.
struct Port {
    number: u16,
    door: Arc<Door>,
    _registration: Registration,
}

impl WasmEngine {
    /// Makes the engine of a node. `events` gets what happens to containers, in order for each of them.
    ///
    /// # Errors
    /// When the engine's directory cannot be used, or wasmtime cannot run on this machine.
    pub fn new(
        config: WasmConfig,
        network: Arc<Network>,
        events: mpsc::Sender<EngineEvent>,
    ) -> Result<WasmEngine, EngineError> {
        let internal = |error: &dyn std::fmt::Display| EngineError::Internal(error.to_string());
        let code = Code::here(&config.pool, config.wasi_p3);
        let pool = pool::engine(&config.pool, &code).map_err(|error| internal(&format!("{error:#}")))?;
        let instances = pool.instances;
        let linker = host::linker(&pool.engine).map_err(|error| internal(&format!("{error:#}")))?;
        let runners = Arc::new(Runners::start(compile::available_cpus()).map_err(|error| internal(&error))?);
        let ticker = Ticker::start(pool.engine.weak(), config.guest.tick, runners.clone());
        let ticker = ticker.map_err(|error| internal(&error))?;
        let log_writer = LogWriter::start().map_err(|error| internal(&error))?;
        let views = config.data_dir.join("views");
        tree::remove(&views).map_err(|error| internal(&error))?;
        let components =
            Components::open(pool.engine, linker, code, config.clone()).map_err(|error| internal(&error))?;
        Ok(WasmEngine(Arc::new(Inner {
            config,
            components,
            network,
            events,
            ticker: Arc::new(ticker),
            runners,
            log_writer,
            instances,
            slots: Slots::new(instances.count),
            running: Mutex::default(),
            pods: Mutex::default(),
        })))
    }

    /// How many instances can be alive at a time, of all pods together.
    pub fn instances(&self) -> Instances {
        self.0.instances
    }
}

/// How many bytes lie in volumes; `None` without any.
fn measure<'a>(volumes: impl Iterator<Item = &'a MemoryVolume>) -> Option<Measure> {
    let meter = |volume: &MemoryVolume| {
        let opened = Meter::open(&volume.dir);
        opened.inspect_err(|error| tracing::warn!(dir = %volume.dir.display(), %error, "a volume is not measured")).ok()
    };
    let meters: Vec<Meter> = volumes.filter_map(meter).collect();
    (!meters.is_empty()).then(|| -> Measure { Box::new(move || meters.iter().map(Meter::used_bytes).sum()) })
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

#[async_trait]
impl Engine for WasmEngine {
    async fn prepare(&self, artifact: &Artifact, owner: &str) -> Result<Prepared, EngineError> {
        let loaded = self.0.components.prepare(artifact, owner).await?;
        let answers = loaded.answers.is_some();
        Ok(Prepared { digest: artifact.digest.clone(), runs_as: loaded.runs_as, answers })
    }

    async fn start(&self, spec: ContainerSpec) -> Result<(), EngineError> {
        let loaded = self.0.components.get(&spec.digest).await?;
        self.0.start(&loaded, spec).await
    }

    async fn stop(&self, id: &ContainerId, grace: Duration) {
        self.0.stop(id, grace);
    }

    async fn resize(&self, id: &ContainerId, limits: Limits) -> Result<(), EngineError> {
        let Ok((container, _)) = self.0.running(id) else { return Ok(()) };
        let below = |what: String, limit: u64, used: u64| {
            let why = format!("attempting to set {what} memory limit ({limit}) below current usage ({used})");
            EngineError::InvalidSpec(why)
        };
        let pod = limits.pod_memory_bytes.unwrap_or(u64::MAX);
        if let Some(budget) = container.memory.parent() {
            budget.set_limit(pod).map_err(|used| below("pod".to_owned(), pod, used))?;
        }
        let own = limits.memory_bytes.unwrap_or(container.limits.memory_bytes);
        let set = container.memory.set_limit(own);
        set.map_err(|used| below(format!("container \"{}\"", id.container), own, used))?;
        container.cpu.set(limits.cpu_millis, limits.cpu_request_millis);
        container.cpu.set_pod(limits.pod_cpu_millis);
        Ok(())
    }

    async fn keep_prepared(&self, digests: &HashSet<String>) {
        match self.0.components.keep(digests).await {
            Ok(removed) if removed > 0 => tracing::info!(removed, "removed machine code of images that are gone"),
            Ok(_) => {}
            Err(error) => tracing::warn!(%error, "machine code of images that are gone could not be removed"),
        }
    }

    async fn stats(&self, id: &ContainerId) -> Option<Stats> {
        lock(&self.0.running).get(id).map(|running| running.container.stats())
    }

    fn pod_cpu_nanos(&self, pod_uid: &str) -> u64 {
        lock(&self.0.pods).get(pod_uid).map_or(0, |entry| entry.cpu_used.nanos())
    }

    fn forget_pod(&self, pod_uid: &str) {
        lock(&self.0.pods).remove(pod_uid);
    }

    async fn written_bytes(&self, id: &ContainerId) -> u64 {
        let views = self.0.views(id);
        tokio::task::spawn_blocking(move || written::bytes(&views)).await.unwrap_or(0)
    }

    async fn exec(&self, id: &ContainerId, command: Command, io: Io) -> Result<i32, ExecError> {
        let (container, digest) = self.0.running(id)?;
        let processes = self.0.processes(&container);
        exec::run(&self.0.components, &self.0.config, container, processes, &digest, command, io).await
    }

    async fn ask(&self, id: &ContainerId, question: Question) -> Result<(), AskError> {
        let unanswered = |error: &dyn std::fmt::Display| AskError::Unanswered(error.to_string());
        let (container, digest) = self.0.running(id).map_err(|error| unanswered(&error))?;
        let loaded = self.0.components.get(&digest).await.map_err(|error| unanswered(&error))?;
        let answers = loaded.answers.as_ref().ok_or_else(|| unanswered(&"the component does not answer for itself"))?;
        answers.ask(container, question).await
    }

    async fn attach(&self, id: &ContainerId, io: Io) -> Result<(), ExecError> {
        let (container, _) = self.0.running(id)?;
        exec::attach(&container, io).await;
        Ok(())
    }
}

impl Inner {
    async fn start(self: &Arc<Self>, loaded: &Loaded, spec: ContainerSpec) -> Result<(), EngineError> {
        let as_command = match loaded.runs_as {
            RunsAs::Http => false,
            RunsAs::Command => true,
            RunsAs::HttpOrCommand => spec.force_command,
        };
        let port = spec.http_port.unwrap_or(DEFAULT_HTTP_PORT);
        let (id, digest) = (spec.id.clone(), spec.digest.clone());
        let (wanted, views) = (spec.preopens.clone(), self.views(&spec.id));
        let (mounts, most) = (wanted.len(), self.config.guest.open_files);
        if mounts > most {
            let why = format!("{mounts} mounts are more than the {most} files that a container may have open");
            return Err(EngineError::InvalidSpec(why));
        }
        // A volume may be a server's, which lets its callers wait.
        let opened = tokio::task::spawn_blocking(move || preopens::open(&wanted, &views)).await;
        let opened = opened.map_err(|error| EngineError::Internal(error.to_string()))??;
        let writes = spec.memory_volumes.iter().any(|volume| volume.writers != Writers::Others);
        let watched = writes.then(|| id.clone());
        let container = Arc::new(self.container(spec, opened));
        match (as_command, &loaded.http, &loaded.command) {
            (true, _, Some(pre)) => {
                let capacity = |error: NoSlot| EngineError::Capacity(format!("{error}: {}", self.instances));
                let process = command::start(pre.clone(), loaded.need, container.clone()).map_err(capacity)?;
                self.begin(Running { container, digest, kind: Kind::Command }).await;
                let inner = self.clone();
                tokio::spawn(async move {
                    let outcome = process.await;
                    inner.end(&id, outcome).await;
                });
            }
            (false, Some(pre), _) => {
                let (inner, failed) = (Arc::downgrade(self), id.clone());
                let server = Server::new(pre.clone(), loaded.need, container.clone(), move |news| {
                    let (Some(inner), id) = (inner.upgrade(), failed.clone()) else { return };
                    match news {
                        // A full channel has enough to tell.
                        News::Trapped(message) => drop(inner.events.try_send(EngineEvent::Trapped { id, message })),
                        News::Failed(outcome) => drop(tokio::spawn(async move { inner.end(&id, outcome).await })),
                    }
                });
                self.serve(server, digest, port)?;
                self.report(EngineEvent::Started { id }).await;
            }
            _ => return Err(EngineError::Internal("the component was linked for another use".to_owned())),
        }
        if let Some(id) = watched {
            tokio::spawn(self.clone().watch_volumes(id));
        }
        Ok(())
    }

    /// Gives a server its port, which the attempt before it may have until then, and nobody else in its pod.
    fn serve(&self, server: Arc<Server>, digest: String, number: u16) -> Result<(), EngineError> {
        let container = server.container.clone();
        let mut running = lock(&self.running);
        let before = container.id.before().and_then(|before| match &mut running.get_mut(&before)?.kind {
            Kind::Http { port, .. } => port.take_if(|port| port.number == number),
            Kind::Command => None,
        });
        let port = match before {
            Some(port) => {
                port.door.hand_over(server.clone());
                port
            }
            None => {
                let door = Arc::new(Door::new(server.clone()));
                let bound = self.network.bind_http(&container.network.pod, number, door.clone());
                let registration = bound.map_err(|_| {
                    let container = listens_on(number, &container.id.pod_uid, &running);
                    EngineError::PortInUse { port: number, container }
                })?;
                Port { number, door, _registration: registration }
            }
        };
        let kind = Kind::Http { server, port: Some(port) };
        running.insert(container.id.clone(), Running { container, digest, kind });
        Ok(())
    }

    fn running(&self, id: &ContainerId) -> Result<(Arc<Container>, String), ExecError> {
        let running = lock(&self.running);
        let found = running.get(id).map(|running| (running.container.clone(), running.digest.clone()));
        found.ok_or_else(|| ExecError::NotRunning(id.container.clone()))
    }

    /// The processes that one sees who runs in a container: its own, or all of its pod by their containers' names.
    fn processes(&self, container: &Container) -> Vec<String> {
        if !container.shares_processes {
            return vec![container.args.join(" ")];
        }
        let running = lock(&self.running);
        let mut seen: Vec<_> = running.keys().filter(|id| id.pod_uid == container.id.pod_uid).collect();
        seen.sort_by_key(|id| (&id.container, id.attempt));
        seen.iter().map(|id| running[*id].container.args.join(" ")).collect()
    }

    fn container(&self, spec: ContainerSpec, preopens: Preopens) -> Container {
        let limits = self.config.guest;
        let pod = self.of_pod(&spec);
        let log = Arc::new(Log::new(spec.log_path, &limits, self.log_writer.clone()));
        // What the node allows where a manifest has no limit is about instances.
        let own = |volume: &&MemoryVolume| volume.writers == Writers::This && spec.limits.memory_bytes.is_some();
        let in_volumes = measure(spec.memory_volumes.iter().filter(own));
        let limit_bytes = spec.limits.memory_bytes.unwrap_or(limits.memory_bytes);
        let memory = Budget::with_volumes(limit_bytes, Some(pod.memory), in_volumes);
        Container {
            files: Arc::new(OpenFiles::new(limits.open_files, preopens.open_files())),
            preopens,
            id: spec.id,
            args: spec.argv,
            env: spec.env,
            working_dir: spec.working_dir,
            network: Arc::new(PodNetwork::new(self.network.clone(), spec.pod, spec.names, limits.sockets)),
            stdio: Stdio::of_container(log, spec.stdin, spec.stdin_once, spec.tty),
            shares_processes: spec.shares_processes,
            buckets: Arc::new(Buckets::new(memory.clone())),
            memory,
            cpu: Arc::new(CpuAccount::new(spec.limits.cpu_millis, spec.limits.cpu_request_millis).within(pod.cpu)),
            ticker: self.ticker.clone(),
            runners: self.runners.clone(),
            slots: pod.slots,
            limits,
            http: self.config.http.with(&spec.http),
            interrupt: CancellationToken::new(),
            draining: CancellationToken::new(),
            counters: Arc::new(Counters::default()),
        }
    }

    fn of_pod(&self, spec: &ContainerSpec) -> PodShares {
        let (pod_uid, limits) = (spec.pod.uid.as_str(), &spec.limits);
        let mut pods = lock(&self.pods);
        let before = pods.get(pod_uid);
        if let Some(shares) = before.and_then(PodEntry::shares) {
            // The others may have started when the pod had less. Where they use more by now, they keep what they have.
            let _ = shares.memory.set_limit(limits.pod_memory_bytes.unwrap_or(u64::MAX));
            return shares;
        }
        let cpu_used = before.map_or_else(Arc::default, |before| before.cpu_used.clone());
        let in_volumes = measure(spec.memory_volumes.iter());
        let memory = Budget::with_volumes(limits.pod_memory_bytes.unwrap_or(u64::MAX), None, in_volumes);
        let cpu = Arc::new(Quota::new(limits.pod_cpu_millis, cpu_used.clone()));
        let slots = self.slots.of_pod();
        let entry = PodEntry {
            memory: Arc::downgrade(&memory),
            cpu: Arc::downgrade(&cpu),
            slots: Arc::downgrade(&slots),
            cpu_used,
        };
        pods.insert(pod_uid.to_owned(), entry);
        PodShares { memory, cpu, slots }
    }

    /// Ends a container once what it and others have written to volumes in memory exceeds what it, or its pod, may have.
    async fn watch_volumes(self: Arc<Self>, id: ContainerId) {
        loop {
            tokio::time::sleep(VOLUMES_MEASURED_EVERY).await;
            let Ok((container, _)) = self.running(&id) else { return };
            if let Some(exceeded) = container.memory.exceeded() {
                return self.end(&id, Outcome::of(&exceeded.into())).await;
            }
        }
    }

    /// Where mounts of single files are shown from.
    fn views(&self, id: &ContainerId) -> PathBuf {
        let name = format!("{}_{}_{}", id.pod_uid, id.container, id.attempt);
        self.config.data_dir.join("views").join(name)
    }

    async fn begin(&self, running: Running) {
        let id = running.container.id.clone();
        lock(&self.running).insert(id.clone(), running);
        self.report(EngineEvent::Started { id }).await;
    }

    /// Reports the end of a container, whoever finds it out first.
    async fn end(&self, id: &ContainerId, outcome: Outcome) {
        let Some(ended) = lock(&self.running).remove(id) else { return };
        let Running { container, digest, kind } = ended;
        container.draining.cancel();
        container.interrupt.cancel();
        container.stdio.clients.clear();
        if let Kind::Http { server, port } = kind {
            drop(port);
            server.close();
        }
        // Who is told of the end reads what came before it.
        container.stdio.flush().await;
        drop(container);
        self.components.release(&digest);
        // Best effort: a view that stays is removed when the node starts again.
        let views = self.views(id);
        let _ = tokio::task::spawn_blocking(move || tree::remove(&views)).await;
        self.report(outcome.event(id.clone())).await;
    }

    fn stop(self: &Arc<Self>, id: &ContainerId, grace: Duration) {
        let mut running = lock(&self.running);
        let Some(Running { container, kind, .. }) = running.get_mut(id) else { return };
        let container = container.clone();
        container.draining.cancel();
        let (inner, id) = (self.clone(), id.clone());
        match kind {
            Kind::Http { server, port } => {
                *port = None;
                let server = server.clone();
                // Of several graces the one that is over first counts.
                tokio::spawn(async move {
                    let drained = tokio::time::timeout(grace, server.drained()).await;
                    let outcome = if drained.is_ok() { Outcome::exited(0) } else { Outcome::interrupted(true) };
                    inner.end(&id, outcome).await;
                });
            }
            // WASI has no signals: all that a process could do with its grace is to serve those that are connected to it.
            Kind::Command => {
                let drained = container.network.drain();
                tokio::spawn(async move {
                    match tokio::time::timeout(grace, drained).await {
                        Ok(()) => container.interrupt.cancel(),
                        Err(_) => inner.end(&id, Outcome::interrupted(true)).await,
                    }
                });
            }
        }
    }

    /// The agent always takes events; when it is gone the node is going down.
    async fn report(&self, event: EngineEvent) {
        if self.events.send(event).await.is_err() {
            tracing::debug!("nobody takes events of the wasm engine any more");
        }
    }
}
