//! The contract between the agent and whatever runs a container.
//!
//! Commands and events are messages: they can be serialised and share no references, so that an engine may live in
//! this process or in another that survives an upgrade of the agent; the bytes of [`Io`] are messages too. An engine
//! never reads the API; everything it needs is in the [`ContainerSpec`].
//!
//! The life of a container: [`Engine::prepare`] once per image digest, [`Engine::start`] once per attempt, then on the
//! channel that the engine was given at construction exactly one [`EngineEvent::Started`] followed by exactly one
//! [`EngineEvent::Exited`], the latter also when [`Engine::stop`] asked for it. A `start` that fails sends no event.
//! [`EngineEvent::Trapped`] may come in between.

use std::collections::HashSet;
use std::fmt;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use k8w_networking::dns::Resolver;
use k8w_networking::endpoint::PodIdentity;
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

/// Runs containers. Implementations are cheap to call from many tasks at once.
#[async_trait]
pub trait Engine: Send + Sync + 'static {
    /// Makes an image runnable (compiles it) and says how it runs. Idempotent per digest; concurrent calls for one
    /// digest share the work. Work that has to wait is done in turn among `owner`s, here namespaces.
    ///
    /// # Errors
    /// When the artifact is no valid WebAssembly, imports what this engine does not give, or cannot be compiled
    /// within the node's limits. The same artifact fails the same way every time, but for [`EngineError::Internal`] and
    /// [`EngineError::ControlPlane`].
    async fn prepare(&self, artifact: &Artifact, owner: &str) -> Result<Prepared, EngineError>;

    /// Starts one attempt of a container whose digest was prepared. Returns when it runs (or, for a server, when it
    /// can be called). A server gets its port from the attempt before it, if that still has it, without a pause.
    ///
    /// # Errors
    /// When it cannot be instantiated: nothing is left running and no event follows.
    async fn start(&self, spec: ContainerSpec) -> Result<(), EngineError>;

    /// Stops accepting work, lets what runs drain for `grace`, then interrupts it. Returns at once; `Exited` follows.
    /// A second call with a shorter grace shortens the first. Unknown and ended containers are ignored.
    async fn stop(&self, id: &ContainerId, grace: Duration);

    /// Gives a running container other limits, at once. Unknown and ended containers are ignored.
    ///
    /// # Errors
    /// When it uses more memory than it may have from now on. It then keeps the limits that it has.
    async fn resize(&self, id: &ContainerId, limits: Limits) -> Result<(), EngineError>;

    /// Gives back what was kept of images whose digests are not among these and that no container runs.
    async fn keep_prepared(&self, digests: &HashSet<String>);

    /// What a running container uses; `None` when it does not run.
    async fn stats(&self, id: &ContainerId) -> Option<Stats>;

    /// CPU time that the containers of a pod have used since the first of them started, in nanoseconds; 0 where none has.
    fn pod_cpu_nanos(&self, pod_uid: &str) -> u64;

    /// Forgets that, when the pod is gone.
    fn forget_pod(&self, pod_uid: &str);

    /// What a running container has written to files of the node beside its volumes and its log, in bytes.
    async fn written_bytes(&self, id: &ContainerId) -> u64;

    /// Runs a command in the sandbox of a running container, to its exit code. Dropping the future ends the command, and
    /// so does the container's end.
    ///
    /// # Errors
    /// When there is no such container or command, or it cannot be started.
    async fn exec(&self, id: &ContainerId, command: Command, io: Io) -> Result<i32, ExecError>;

    /// Asks a running container whose component answers for itself. Dropping the future ends the question.
    ///
    /// # Errors
    /// [`AskError`]
    async fn ask(&self, id: &ContainerId, question: Question) -> Result<(), AskError>;

    /// Connects `io` to the standard streams of a running container, until that has ended or nobody takes its output.
    ///
    /// # Errors
    /// [`ExecError::NotRunning`].
    async fn attach(&self, id: &ContainerId, io: Io) -> Result<(), ExecError>;
}

/// What is run beside a container's own process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Command {
    /// The program's name and its arguments; never empty.
    pub argv: Vec<String>,
    /// Whether standard streams are a terminal's.
    pub tty: bool,
}

/// The far ends of standard streams.
#[derive(Debug)]
pub struct Io {
    /// Ends where the sender is dropped. Without it standard input is empty.
    pub stdin: Option<mpsc::Receiver<Bytes>>,
    /// Written no faster than it is read; nobody reads it any more once it is closed.
    pub output: mpsc::Sender<Output>,
}

/// Bytes that a process has written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    Stdout(Bytes),
    Stderr(Bytes),
}

/// Why a command was not run. Each displays as one sentence for the user.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ExecError {
    #[error("container not found (\"{0}\")")]
    NotRunning(String),
    #[error("exec: \"{0}\": there is no shell in a wasm pod")]
    NoShell(String),
    #[error("exec: \"{0}\": executable file not found: neither a built-in command nor a .wasm file of the pod")]
    NotFound(String),
    #[error("exec: \"{command}\": {source}")]
    Engine { command: String, source: EngineError },
}

/// What a component can be asked about itself: the functions of `k8w:pod/probes`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Question {
    Started,
    Ready,
    Live,
}

impl Question {
    /// The function's name.
    pub fn as_str(self) -> &'static str {
        match self {
            Question::Started => "started",
            Question::Ready => "ready",
            Question::Live => "live",
        }
    }
}

/// Why the answer to a question is not yes.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AskError {
    /// The component's own word, or its trap.
    #[error("{0}")]
    No(String),
    /// It could not be asked.
    #[error("{0}")]
    Unanswered(String),
}

/// One WebAssembly binary on this node's disk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Artifact {
    /// `sha256:<hex>` of the file.
    pub digest: String,
    pub path: PathBuf,
}

/// What [`Engine::prepare`] found out about an artifact.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Prepared {
    pub digest: String,
    pub runs_as: RunsAs,
    /// It exports `k8w:pod/probes`: [`Engine::ask`].
    pub answers: bool,
}

/// How a component runs, decided by what it exports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum RunsAs {
    /// Exports a `wasi:http` handler: a server on the container's port.
    Http,
    /// Exports `wasi:cli/run` (or was a preview 1 command): a process.
    Command,
    /// Exports both: a server, unless the container gives a command or arguments.
    HttpOrCommand,
}

/// One attempt at running one container of one pod.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ContainerId {
    pub pod_uid: String,
    pub container: String,
    /// Counts up with every restart; never reused within a pod.
    pub attempt: u32,
}

impl ContainerId {
    /// The attempt before this one.
    pub fn before(&self) -> Option<ContainerId> {
        Some(ContainerId { attempt: self.attempt.checked_sub(1)?, ..self.clone() })
    }
}

impl fmt::Display for ContainerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.pod_uid, self.container, self.attempt)
    }
}

/// Everything an engine must know to run one attempt of a container.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ContainerSpec {
    pub id: ContainerId,
    pub pod: PodIdentity,
    pub container_name: String,
    /// Digest of a prepared artifact.
    pub digest: String,
    /// `argv`, with the program's name first.
    pub argv: Vec<String>,
    pub env: Vec<(String, String)>,
    pub preopens: Vec<Preopen>,
    /// The pod's volumes that lie in memory, and count as such.
    pub memory_volumes: Vec<MemoryVolume>,
    pub names: Names,
    /// Absolute path in the guest.
    pub working_dir: Option<String>,
    /// Port of the pod that an http component serves on.
    pub http_port: Option<u16>,
    pub http: HttpSettings,
    pub limits: Limits,
    /// File for standard output and error, in the CRI log format. Its directory exists.
    pub log_path: PathBuf,
    /// Runs `wasi:cli/run` although the component also exports an http handler.
    pub force_command: bool,
    /// Standard input stays open for clients that attach, instead of being empty.
    pub stdin: bool,
    /// Standard input ends with the first client that was attached to it.
    pub stdin_once: bool,
    /// Standard streams are a terminal's.
    pub tty: bool,
    /// What runs in it sees the processes of all of its pod's containers.
    pub shares_processes: bool,
}

/// How a server is called, as far as its manifest says so; the rest is the engine's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HttpSettings {
    /// Requests that one instance serves, one after another.
    pub instance_reuse: Option<u32>,
    pub trap_burst: Option<TrapBurst>,
    /// Requests at the same time, where these are fewer than the engine lets in.
    pub concurrent: Option<usize>,
}

/// So many requests that trap within so long a time fail their container.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrapBurst {
    pub traps: usize,
    pub within: Duration,
}

/// What a container may use. It can be changed while the container runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// Of this container.
    pub memory_bytes: Option<u64>,
    /// Over all containers of the pod, when every one of them has a limit.
    pub pod_memory_bytes: Option<u64>,
    /// Quota, in thousandths of a CPU.
    pub cpu_millis: Option<u32>,
    /// Weight under contention, in thousandths of a CPU.
    pub cpu_request_millis: Option<u32>,
    /// Quota of all containers of the pod together, in thousandths of a CPU, where the pod itself has one. That does not change.
    pub pod_cpu_millis: Option<u32>,
}

/// What a manifest says of how its pod is called.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hostname {
    /// Instead of the pod's name.
    pub name: Option<String>,
    /// The Service in whose domain it is called so.
    pub subdomain: Option<String>,
}

impl Hostname {
    /// Longest host name, in bytes (RFC 1123); a longer pod name is cut.
    const MAX_BYTES: usize = 63;

    /// The host name of a pod of this name, and the domain that its subdomain gives it.
    pub fn of_pod(&self, name: &str, namespace: &str, cluster_domain: &str) -> (String, Option<String>) {
        let own = || name.get(..Self::MAX_BYTES).unwrap_or(name).trim_end_matches(['-', '.']).to_owned();
        let domain = |subdomain: &String| format!("{subdomain}.{namespace}.svc.{cluster_domain}");
        (self.name.clone().unwrap_or_else(own), self.subdomain.as_ref().map(domain))
    }
}

/// How names are looked up for a pod, beside what its cluster knows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Names {
    /// The pod's own.
    pub hostname: Hostname,
    /// Names and their addresses, which come before all others.
    pub hosts: Vec<(String, IpAddr)>,
    /// Domains that names are looked for in.
    pub searches: Vec<String>,
    /// A name with fewer dots is looked for in `searches` before it is taken as it is.
    pub ndots: usize,
    /// Names of the cluster mean nothing to the pod.
    pub outside_only: bool,
    /// Who is asked for what is not the cluster's; without one, this node's own resolver.
    pub resolver: Option<Resolver>,
}

impl Default for Names {
    fn default() -> Names {
        Names {
            hostname: Hostname::default(),
            hosts: Vec::new(),
            searches: Vec::new(),
            ndots: Names::DEFAULT_NDOTS,
            outside_only: false,
            resolver: None,
        }
    }
}

impl Names {
    /// What Kubernetes gives pods that have the cluster's DNS.
    pub const DEFAULT_NDOTS: usize = 5;
    /// More dots are not asked for (resolv.conf(5): "silently capped").
    pub const MAX_NDOTS: usize = 15;

    /// Whether a name that is not in `hosts` means what it means to every pod of its namespace.
    pub fn are_the_clusters(&self) -> bool {
        self.searches.is_empty() && !self.outside_only && self.resolver.is_none()
    }

    /// The full names that a name may stand for, the likeliest first.
    pub fn candidates(&self, name: &str) -> Vec<String> {
        if name.ends_with('.') || name.parse::<IpAddr>().is_ok() {
            return vec![name.to_owned()];
        }
        let mut candidates: Vec<String> = self.searches.iter().map(|domain| format!("{name}.{domain}")).collect();
        let has_few_dots = name.matches('.').count() < self.ndots;
        candidates.insert(if has_few_dots { candidates.len() } else { 0 }, name.to_owned());
        candidates
    }
}

/// A directory of the host that a guest sees.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Preopen {
    /// Root of the volume, or the file that is the volume.
    pub host_dir: PathBuf,
    /// Absolute path in the guest.
    pub guest_path: String,
    pub read_only: bool,
    /// Path beneath `host_dir`, resolved there and never outside. When it names a file, the guest sees that in place of
    /// another one of the mount around it, or where there is none, in a directory (the parent of `guest_path`) of its own.
    pub sub_path: Option<String>,
}

impl Preopen {
    /// How far down it is: of several mounts around a path, the deepest is the one that counts.
    pub fn depth(&self) -> usize {
        Path::new(&self.guest_path).components().count()
    }

    /// Where in it a path of the guest lies; nothing is left of the mount's own path.
    pub fn beneath<'p>(&self, path: &'p str) -> Option<&'p Path> {
        Path::new(path).strip_prefix(&self.guest_path).ok()
    }
}

/// A volume in memory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemoryVolume {
    pub dir: PathBuf,
    pub writers: Writers,
}

/// Which containers of a pod may write to a volume.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Writers {
    /// The container that this is said of, and no other.
    This,
    /// It and others.
    Several,
    Others,
}

/// What an engine reports on its channel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum EngineEvent {
    Started {
        id: ContainerId,
    },
    /// A request trapped, which ends nothing but itself. Told now and then, however many do.
    Trapped {
        id: ContainerId,
        message: String,
    },
    Exited {
        id: ContainerId,
        exit_code: i32,
        reason: ExitReason,
        /// A trap with its backtrace, a refusal, or empty.
        message: String,
    },
}

/// Why a container ended, in the words of `containerStatuses[].state.terminated.reason`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ExitReason {
    /// Exit code 0.
    Completed,
    /// Another exit code, or a trap (134), or interrupted (137, 143).
    Error,
    /// Went over its memory limit (137).
    OOMKilled,
}

impl ExitReason {
    /// The word as Kubernetes writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            ExitReason::Completed => "Completed",
            ExitReason::Error => "Error",
            ExitReason::OOMKilled => "OOMKilled",
        }
    }
}

/// What a running container uses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stats {
    /// CPU time of guest code since the container started.
    pub cpu_usage_nanos: u64,
    /// Linear memories and tables of all live instances.
    pub memory_bytes: u64,
    /// Live instances.
    pub instances: u64,
    /// Requests served since the container started.
    pub requests: u64,
    /// Those among them whose guest trapped.
    pub traps: u64,
}

/// Why a container cannot run. Each displays as one sentence for the pod's status.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
pub enum EngineError {
    #[error("image is not a valid WebAssembly component or module: {0}")]
    InvalidModule(String),
    #[error("component imports {0}, which this node does not provide")]
    UnknownImport(String),
    #[error("component needs WASI 0.3, which is switched off on this node (`--wasi-p3=true` switches it on)")]
    SwitchedOff,
    #[error("compiling the component exceeded this node's limits: {0}")]
    CompileLimit(String),
    /// An instance of it would be larger than one may be.
    #[error("component exceeds this node's limits of an instance: {0}")]
    InstanceLimit(String),
    /// This node does not compile, and its control plane has not compiled for it.
    #[error("no machine code from the control plane: {0}")]
    ControlPlane(String),
    /// The component exports nothing that can be run.
    #[error("component exports nothing that can run: {0}")]
    NothingToRun(String),
    /// A limit of this node (instances, memory mappings) would be exceeded.
    #[error("node is out of capacity: {0}")]
    Capacity(String),
    /// Another container of the pod listens there.
    #[error(
        "listen on port {port}: address already in use{} (a server listens on the first containerPort, or on 8080)",
        .container.as_ref().map(|name| format!(" by container \"{name}\"")).unwrap_or_default()
    )]
    PortInUse { port: u16, container: Option<String> },
    /// The container's own settings cannot be honoured.
    #[error("{0}")]
    InvalidSpec(String),
    #[error("engine failed: {0}")]
    Internal(String),
}
