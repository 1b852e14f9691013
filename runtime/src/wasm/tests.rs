//! What tests of the engine share.

use std::path::Path;
use std::sync::Arc;

use k8w_networking::{Network, PodIdentity};
use tokio_util::sync::CancellationToken;

use super::config::{GuestLimits, HttpLimits};
use super::container::{Container, Counters};
use super::cpu::CpuAccount;
use super::log_writer::LogWriter;
use super::logs::Log;
use super::memory::Budget;
use super::preopens::Preopens;
use super::runners::Runners;
use super::slots::Slots;
use super::stdio::Stdio;
use super::ticker::Ticker;
use crate::engine::{ContainerId, Names};
use crate::host::filesystem::open_files::OpenFiles;
use crate::host::keyvalue::Buckets;
use crate::host::pod_network::PodNetwork;

/// The network of a pod that is alone.
pub fn pod_network(names: Names) -> PodNetwork {
    let network = Network::new(k8w_networking::Config {
        service_cidr: "10.96.0.0/16".parse().unwrap(),
        pod_cidrs: vec!["10.64.0.0/18".parse().unwrap()],
        wasm_cidr: None,
        cluster_domain: "cluster.local".to_owned(),
        node_name: "node".to_owned(),
        client_tls: None,
    });
    let pod = PodIdentity {
        namespace: "default".to_owned(),
        name: "pod".to_owned(),
        uid: "uid".to_owned(),
        ip: "10.64.0.2".parse().unwrap(),
        service_account: "default".to_owned(),
    };
    PodNetwork::new(network, pod, names, GuestLimits::default().sockets)
}

/// A container with no component, logging into `dir`.
pub fn container(dir: &Path) -> Arc<Container> {
    let engine = wasmtime::Engine::default();
    let limits = GuestLimits::default();
    let runners = Arc::new(Runners::start(1).unwrap());
    let pod_memory = Budget::new(limits.memory_bytes, None);
    let memory = Budget::new(limits.memory_bytes, Some(pod_memory));
    let log = Arc::new(Log::new(dir.join("0.log"), &limits, LogWriter::start().unwrap()));
    Arc::new(Container {
        id: ContainerId { pod_uid: "uid".to_owned(), container: "main".to_owned(), attempt: 0 },
        args: Vec::new(),
        env: Vec::new(),
        working_dir: None,
        preopens: Preopens::default(),
        files: Arc::new(OpenFiles::new(limits.open_files, 0)),
        network: Arc::new(pod_network(Names::default())),
        stdio: Stdio::of_container(log, false, false, false),
        shares_processes: false,
        buckets: Arc::new(Buckets::new(memory.clone())),
        memory,
        cpu: Arc::new(CpuAccount::new(None, None)),
        ticker: Arc::new(Ticker::start(engine.weak(), limits.tick, runners.clone()).unwrap()),
        runners,
        slots: Slots::new(1).of_pod(),
        limits,
        http: HttpLimits::default(),
        interrupt: CancellationToken::new(),
        draining: CancellationToken::new(),
        counters: Arc::new(Counters::default()),
    })
}
