//! Everything that is chosen from outside.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;

use crate::certificates::signing::CertificateSigner;
use crate::core::service_account_token::TokenSigner;
use crate::scheduler::Profile;

/// Addresses of pods, and how large a part of them every node gets (`--cluster-cidr` and `--node-cidr-mask-size`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PodRange {
    pub cluster: IpNet,
    pub node_prefix: u8,
}

/// Where an Ingress of our class can be reached; copied to `status.loadBalancer.ingress`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum IngressAddress {
    Ip(IpAddr),
    Hostname(String),
}

/// Settings of the controllers; the defaults are Kubernetes' own.
#[derive(Clone, Debug)]
pub struct Config {
    /// Who reports events (`reportingInstance`), usually the host's name.
    pub identity: String,
    /// PEM bundle published as `ca.crt` in every namespace's `kube-root-ca.crt`; empty publishes nothing.
    pub root_ca_pem: String,
    /// Signs the tokens of service accounts that Secrets hold; without it such Secrets stay empty.
    pub token_signer: Option<Arc<dyn TokenSigner>>,
    /// Signs the certificates that were approved for signers of `kubernetes.io`; without it none is issued.
    pub certificate_signer: Option<Arc<dyn CertificateSigner>>,
    /// The names that clients know the API server by, which no node gets a certificate for by itself.
    pub api_server_names: Vec<String>,
    /// `spec.controller` of the IngressClasses whose Ingresses get `ingress_addresses` as their status.
    pub ingress_controller: String,
    pub ingress_addresses: Vec<IngressAddress>,
    /// How pods are placed, by the name they ask for in `spec.schedulerName`.
    pub scheduler_profiles: Vec<Profile>,
    /// What `spec.podCIDRs` of nodes are cut from, a range for each address family; empty cuts nothing.
    pub pod_ranges: Vec<PodRange>,
    /// What the addresses of nodes' wasm pods are cut from.
    pub wasm_range: Option<PodRange>,
    /// How long a node's lease may be stale before its conditions become Unknown
    /// (kube-controller-manager's `--node-monitor-grace-period`).
    pub node_monitor_grace: Duration,
    /// Terminated pods kept before pod garbage collection deletes the oldest
    /// (`--terminated-pod-gc-threshold`); 0 keeps all.
    pub terminated_pods_kept: usize,
    /// How long a node must be gone before its pods are deleted (pod garbage collection's quarantine).
    pub gone_node_quarantine: Duration,
    /// Seed of every random choice; `None` takes one from the system.
    pub seed: Option<u64>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            identity: "k8w".into(),
            root_ca_pem: String::new(),
            token_signer: None,
            certificate_signer: None,
            api_server_names: Vec::new(),
            ingress_controller: "k8w.dev/ingress".into(),
            ingress_addresses: Vec::new(),
            scheduler_profiles: vec![Profile::default()],
            pod_ranges: Vec::new(),
            wasm_range: None,
            node_monitor_grace: Duration::from_secs(50),
            terminated_pods_kept: 12_500,
            gone_node_quarantine: Duration::from_secs(40),
            seed: None,
        }
    }
}
