//! What the engine is told when it is made: limits of the node, of compilation, and of each guest.

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::compile::Place;
use crate::engine::HttpSettings;
pub use crate::engine::TrapBurst;

/// This very executable. Not its path: the file may be replaced by an upgrade while this process runs.
pub const OWN_EXECUTABLE: &str = "/proc/self/exe";

/// Settings of one node's engine.
#[derive(Clone, Debug)]
pub struct WasmConfig {
    /// Directory of the engine's own files: `compiled/` (machine code, mapped and executed: only the node's user may
    /// write there) and `views/` (directories made for mounts of single files).
    pub data_dir: PathBuf,
    /// The executable whose hidden subcommand [`compile::SUBCOMMAND`](super::compile::SUBCOMMAND) calls
    /// [`compile::worker_main`](super::compile::worker_main).
    pub worker: PathBuf,
    /// Whether that happens here at all.
    pub compiles: Place,
    pub compile: CompileLimits,
    pub pool: PoolLimits,
    pub guest: GuestLimits,
    pub http: HttpLimits,
    /// Whether components of WASI 0.3 run. wasmtime calls its implementation experimental and gives it no security patches,
    /// so a node that may run strangers' code goes without it.
    pub wasi_p3: bool,
}

impl WasmConfig {
    /// Defaults, without WASI 0.3, with files beneath `data_dir` and this very executable as the compile worker.
    pub fn new(data_dir: impl Into<PathBuf>) -> WasmConfig {
        WasmConfig {
            data_dir: data_dir.into(),
            worker: OWN_EXECUTABLE.into(),
            compiles: Place::Here,
            compile: CompileLimits::default(),
            pool: PoolLimits::default(),
            guest: GuestLimits::default(),
            http: HttpLimits::default(),
            wasi_p3: false,
        }
    }
}

/// Bounds on one compilation. Compiling hostile input may exhaust a compiler; these end it.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct CompileLimits {
    pub input_bytes: u64,
    pub output_bytes: u64,
    /// Address space of the worker process.
    pub memory_bytes: u64,
    pub time: Duration,
    /// What takes longer, while others wait for a worker, is ended and compiled again among others like it.
    pub quick: Duration,
    /// Workers at the same time; the others wait.
    pub concurrent: usize,
    /// Workers beside those, for what is not quick.
    pub concurrent_slow: usize,
}

impl Default for CompileLimits {
    fn default() -> Self {
        CompileLimits {
            input_bytes: 256 << 20,
            output_bytes: 1 << 30,
            memory_bytes: 4 << 30,
            time: Duration::from_secs(180),
            quick: Duration::from_secs(10),
            concurrent: 2,
            concurrent_slow: 1,
        }
    }
}

/// Sizes of the pools that instances are taken from. Each reserves address space, not memory.
#[derive(Clone, Copy, Debug)]
pub struct PoolLimits {
    /// Components that can be alive at once on this node, of one memory and a few tables each; larger ones count for
    /// several ([`slots`](super::slots)). Each needs memory mappings, which `vm.max_map_count` bounds; the engine lowers
    /// this value to fit.
    pub instances: u32,
    /// Core instances within one component. Python components have about 14.
    pub core_instances_per_component: u32,
    /// Memories within one component. Each takes the room of an instance that has one.
    pub memories_per_component: u32,
    /// Tables within one component. Four take as much room as a memory.
    pub tables_per_component: u32,
    /// Largest linear memory. A slot of the pool reserves as much address space.
    pub memory_bytes: u64,
    pub table_elements: usize,
    /// Memory of a freed slot that is zeroed and kept instead of being given back to the kernel.
    pub keep_resident_bytes: usize,
    /// Native stack of one running guest.
    pub stack_bytes: usize,
}

impl Default for PoolLimits {
    fn default() -> Self {
        PoolLimits {
            instances: 20_000,
            core_instances_per_component: 128,
            memories_per_component: 32,
            tables_per_component: 128,
            memory_bytes: 4 << 30,
            table_elements: 100_000,
            keep_resident_bytes: 64 << 10,
            stack_bytes: 1 << 20,
        }
    }
}

/// Bounds on what one guest can make the host do.
#[derive(Clone, Copy, Debug)]
pub struct GuestLimits {
    /// Memory of a container that has no limit of its own.
    pub memory_bytes: u64,
    /// Resources (streams, sockets, descriptors, …) that one instance may hold, and handles to them; with WASI 0.3 also
    /// streams, futures and tasks of the component model.
    pub resources: usize,
    /// Sockets that one container may hold.
    pub sockets: usize,
    /// Files and directories that one container may have open, its mounts among them.
    pub open_files: usize,
    /// Data copied out of a guest in one call, in wasmtime's unit of about a byte.
    pub hostcall_fuel: usize,
    /// Headers of one request or response.
    pub http_fields_bytes: usize,
    /// How long a guest may run at a stretch, in CPU time, before it must let others run; looked at as often.
    pub tick: Duration,
    /// What a container may write to its log, once it has written as much ahead; beyond it, it waits.
    pub log_bytes_per_second: u64,
    /// A log file is rotated beyond this size.
    pub log_file_bytes: u64,
    /// Rotated log files kept beside the current one.
    pub log_files: usize,
}

impl Default for GuestLimits {
    fn default() -> Self {
        GuestLimits {
            memory_bytes: 4 << 30,
            resources: 10_000,
            sockets: 1_024,
            open_files: 1_024,
            hostcall_fuel: 16 << 20,
            http_fields_bytes: 128 << 10,
            tick: Duration::from_millis(1),
            log_bytes_per_second: 8 << 20,
            log_file_bytes: 10 << 20,
            log_files: 4,
        }
    }
}

/// How http components are called; the first two as `wasmtime serve` has them.
#[derive(Clone, Copy, Debug)]
pub struct HttpLimits {
    /// Requests that one instance serves, one after another, before it is thrown away.
    pub instance_reuse: u32,
    /// How long an instance that may be reused waits for its next request.
    pub idle_instance: Duration,
    /// Time until the head of the response, then 504: for whoever has no patience of its own, such as the ingress has.
    pub response: Duration,
    /// Time that a guest may go on after its response is complete.
    pub after_response: Duration,
    /// How long a request waits for memory that other requests of its container hold, before it is refused with 503.
    pub memory_wait: Duration,
    /// Requests of one container at the same time; beyond it 503.
    pub concurrent: usize,
    pub trap_burst: TrapBurst,
}

impl HttpLimits {
    /// With what a pod says itself.
    pub fn with(self, own: &HttpSettings) -> HttpLimits {
        HttpLimits {
            instance_reuse: own.instance_reuse.unwrap_or(self.instance_reuse),
            trap_burst: own.trap_burst.unwrap_or(self.trap_burst),
            concurrent: own.concurrent.unwrap_or(self.concurrent).min(self.concurrent),
            ..self
        }
    }
}

impl Default for TrapBurst {
    fn default() -> Self {
        TrapBurst { traps: 20, within: Duration::from_secs(10) }
    }
}

impl Default for HttpLimits {
    fn default() -> Self {
        HttpLimits {
            instance_reuse: 1,
            idle_instance: Duration::from_secs(1),
            response: Duration::from_secs(3_600),
            after_response: Duration::from_secs(60),
            memory_wait: Duration::from_secs(5),
            concurrent: 1_000,
            trap_burst: TrapBurst::default(),
        }
    }
}
