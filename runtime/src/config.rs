//! What a node is told when it starts.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;

use ipnet::Ipv4Net;

use crate::image::garbage::Policy;
use crate::image::registries::Registries;

/// Settings of one node. The command line fills it; nothing here is read from the environment.
#[derive(Clone, Debug)]
pub struct NodeConfig {
    /// Name of the Node object; a DNS subdomain.
    pub name: String,
    /// Address shown as `InternalIP` and as every pod's `hostIP`.
    pub address: IpAddr,
    /// Where the API server reaches the node's HTTP API (`status.daemonEndpoints.kubeletEndpoint.Port`).
    pub port: u16,
    /// Pod directories, volumes and caches live beneath it.
    pub root_dir: PathBuf,
    /// `<log_dir>/<namespace>_<name>_<uid>/<container>/<attempt>.log`.
    pub log_dir: PathBuf,
    /// A folder of manifests, or one of them, whose pods run without the API (the kubelet's `staticPodPath`).
    pub static_pod_path: Option<PathBuf>,
    /// Addresses of this node's wasm pods.
    pub wasm_cidr: Ipv4Net,
    pub max_pods: u32,
    /// Live instances that the wasm engine has room for, published as `k8w.dev/instances`.
    pub max_instances: u32,
    /// Labels beside the ones that every node has.
    pub labels: BTreeMap<String, String>,
    /// Where images are asked for.
    pub registries: Registries,
    /// DNS suffix of the cluster, as in `svc.ns.svc.<cluster_domain>`.
    pub cluster_domain: String,
    /// Memory that pods may request; the machine's own when not given.
    pub allocatable_memory_bytes: Option<u64>,
    /// When pulled images that nothing uses are removed.
    pub image_gc: Policy,
}

impl NodeConfig {
    /// Pods a node takes when nothing else is said.
    pub const DEFAULT_MAX_PODS: u32 = 1_000;

    /// A node of this name with its files beneath `root_dir`, and defaults for the rest.
    pub fn new(name: impl Into<String>, address: IpAddr, port: u16, root_dir: impl Into<PathBuf>) -> NodeConfig {
        let root_dir = root_dir.into();
        NodeConfig {
            name: name.into(),
            address,
            port,
            log_dir: root_dir.join("logs"),
            root_dir,
            static_pod_path: None,
            wasm_cidr: DEFAULT_WASM_CIDR,
            max_pods: NodeConfig::DEFAULT_MAX_PODS,
            max_instances: NodeConfig::DEFAULT_MAX_PODS,
            labels: BTreeMap::new(),
            registries: Registries::default(),
            cluster_domain: "cluster.local".to_owned(),
            allocatable_memory_bytes: None,
            image_gc: Policy::default(),
        }
    }

    /// Where volumes lie that are made of this node's directories.
    pub fn local_path_dir(&self) -> PathBuf {
        self.root_dir.join("local-path")
    }
}

/// `10.64.0.0/18`: the wasm pods of the first node.
pub const DEFAULT_WASM_CIDR: Ipv4Net = Ipv4Net::new_assert(std::net::Ipv4Addr::new(10, 64, 0, 0), 18);
