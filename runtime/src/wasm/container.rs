//! What all instances of one container share, made once when it starts.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio_util::sync::CancellationToken;

use super::config::{GuestLimits, HttpLimits};
use super::cpu::CpuAccount;
use super::memory::Budget;
use super::preopens::Preopens;
use super::runners::Runners;
use super::slots::PodSlots;
use super::stdio::Stdio;
use super::ticker::Ticker;
use crate::engine::{ContainerId, Stats};
use crate::host::filesystem::open_files::OpenFiles;
use crate::host::keyvalue::Buckets;
use crate::host::pod_network::PodNetwork;

/// One attempt of a container. Instances hold it by reference; it holds none of them.
pub struct Container {
    pub id: ContainerId,
    pub args: Vec<String>,
    pub env: Vec<(String, String)>,
    pub working_dir: Option<String>,
    /// Opened when the container started; every instance gets the same handles.
    pub preopens: Preopens,
    pub files: Arc<OpenFiles>,
    pub network: Arc<PodNetwork>,
    pub stdio: Stdio,
    /// What runs in it sees the processes of all of its pod's containers.
    pub shares_processes: bool,
    pub memory: Arc<Budget>,
    pub buckets: Arc<Buckets>,
    pub cpu: Arc<CpuAccount>,
    pub ticker: Arc<Ticker>,
    /// Where guests go on that are not done within a slice.
    pub runners: Arc<Runners>,
    /// What its pod has of the node's room for instances.
    pub slots: Arc<PodSlots>,
    pub limits: GuestLimits,
    pub http: HttpLimits,
    /// Ends every instance, at its next epoch or host call.
    pub interrupt: CancellationToken,
    /// Ends listening: new connections are refused.
    pub draining: CancellationToken,
    pub counters: Arc<Counters>,
}

/// What a container has done.
#[derive(Debug, Default)]
pub struct Counters {
    pub requests: AtomicU64,
    pub traps: AtomicU64,
    pub instances: AtomicU64,
}

impl Container {
    /// A command in the same sandbox: other arguments and standard streams, the same files, network and limits.
    pub fn command(&self, args: Vec<String>, stdio: Stdio) -> Container {
        Container {
            id: self.id.clone(),
            args,
            env: self.env.clone(),
            working_dir: self.working_dir.clone(),
            preopens: self.preopens.clone(),
            files: self.files.clone(),
            network: self.network.clone(),
            stdio,
            shares_processes: self.shares_processes,
            memory: self.memory.clone(),
            buckets: self.buckets.clone(),
            cpu: self.cpu.clone(),
            ticker: self.ticker.clone(),
            runners: self.runners.clone(),
            slots: self.slots.clone(),
            limits: self.limits,
            http: self.http,
            interrupt: self.interrupt.child_token(),
            draining: self.draining.clone(),
            counters: self.counters.clone(),
        }
    }

    /// A snapshot of what the container uses.
    pub fn stats(&self) -> Stats {
        Stats {
            cpu_usage_nanos: self.cpu.used_nanos(),
            memory_bytes: self.memory.used_bytes(),
            instances: self.counters.instances.load(Ordering::Relaxed),
            requests: self.counters.requests.load(Ordering::Relaxed),
            traps: self.counters.traps.load(Ordering::Relaxed),
        }
    }
}
