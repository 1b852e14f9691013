//! What `k8w up` and `k8w node` let one choose about the node.

use std::fs;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};
use clap::{ArgAction, Args};
use jiff::SignedDuration;
use k8w_networking::ingress;
use k8w_runtime::image::garbage;
use k8w_runtime::image::registries::{Registries, RegistriesFile};

use super::process;
use crate::compose::{KernelNetwork, NodeOptions};

/// Longest that a backend can be waited for: a day.
const MAX_INGRESS_TIMEOUT_SECONDS: u64 = 24 * 60 * 60;

#[derive(Args)]
pub struct NodeArgs {
    /// Port of the ingress for HTTP; 0 picks a free one [default: 80 as root, 8080 otherwise]
    #[arg(long, value_name = "PORT")]
    ingress_http_port: Option<u16>,

    /// Port of the ingress for HTTPS; 0 picks a free one [default: 443 as root, 8443 otherwise]
    #[arg(long, value_name = "PORT")]
    ingress_https_port: Option<u16>,

    /// Largest body that the ingress takes of a request
    #[arg(long, value_name = "BYTES", default_value_t = ingress::MAX_REQUEST_BODY_BYTES)]
    ingress_max_body_bytes: u64,

    /// How long a backend may take to begin its answer to the ingress, once the request's body moves no more
    #[arg(long, value_name = "SECONDS", default_value_t = ingress::RESPONSE_TIMEOUT.as_secs(),
        value_parser = clap::value_parser!(u64).range(1..=MAX_INGRESS_TIMEOUT_SECONDS))]
    ingress_timeout_seconds: u64,

    /// Port of the node's own API; 0 picks a free one
    #[arg(long, value_name = "PORT", default_value_t = 10250)]
    kubelet_port: u16,

    /// Name of the node [default: this machine's host name]
    #[arg(long, value_name = "NAME", value_parser = node_name)]
    node_name: Option<String>,

    /// Whether pods, Services and cluster DNS are reached by their addresses from this machine and its network namespaces;
    /// takes root, ip and nft, and adds routes and an nftables table for as long as the node runs
    #[arg(long, value_name = "WHETHER", default_value = "auto")]
    kernel_network: KernelNetwork,

    /// File of registries' mirrors, certificates and credentials, in the form of k3s' registries.yaml
    #[arg(long, value_name = "FILE")]
    registries: Option<PathBuf>,

    /// Registry (HOST or HOST:PORT) to be spoken to over plain HTTP; may be given several times
    #[arg(long, value_name = "HOST")]
    insecure_registry: Vec<String>,

    /// Pods that the node takes at most; of those that are processes as many can live as vm.max_map_count allows:
    /// (vm.max_map_count - 16384) / 8
    #[arg(long, value_name = "COUNT", default_value_t = 1_000)]
    max_pods: u32,

    /// Whether components of WASI 0.3 run, which wasmtime calls experimental and gives no security patches
    /// [default: true in `k8w up`, false in `k8w node`, as that may run strangers' code]
    #[arg(long, value_name = "BOOL", action = ArgAction::Set)]
    wasi_p3: Option<bool>,

    /// Percent of the disk in use beyond which images that were pulled and that nothing uses are removed; 100 for never
    #[arg(long, value_name = "PERCENT", default_value_t = 85, value_parser = percent())]
    image_gc_high_threshold: u64,

    /// Percent of the disk in use down to which they are removed
    #[arg(long, value_name = "PERCENT", default_value_t = 80, value_parser = percent())]
    image_gc_low_threshold: u64,

    /// How long an image that nothing uses stays at least, such as 2m
    #[arg(long, value_name = "DURATION", default_value = "2m", value_parser = duration)]
    minimum_image_ttl_duration: Duration,

    /// Manifests of pods that the node runs on its own (static pods): a folder, or one file
    #[arg(long, value_name = "PATH")]
    pod_manifest_path: Option<PathBuf>,
}

impl NodeArgs {
    /// The name that was given, or the one that is `kept`, or the machine's.
    ///
    /// # Errors
    /// When the machine does not tell its name.
    pub fn name(&self, kept: Option<String>) -> Result<String> {
        self.node_name.clone().or(kept).map_or_else(process::host_name, Ok)
    }

    /// For a node of this name that listens on `address` and that others know by `ip`. What `--wasi-p3` is when it is not
    /// given depends on whose code runs there.
    ///
    /// # Errors
    /// When the path of manifests cannot be made absolute, the file of registries is of no use, or thresholds contradict
    /// each other.
    pub fn options(&self, name: String, address: IpAddr, ip: IpAddr, wasi_p3: bool) -> Result<NodeOptions> {
        let root = nix::unistd::geteuid().is_root();
        let port = |given: Option<u16>, privileged, other| given.unwrap_or(if root { privileged } else { other });
        Ok(NodeOptions {
            name,
            address,
            ip,
            kubelet_port: self.kubelet_port,
            ingress_http_port: port(self.ingress_http_port, 80, 8080),
            ingress_https_port: port(self.ingress_https_port, 443, 8443),
            ingress: ingress::Config {
                max_request_body_bytes: self.ingress_max_body_bytes,
                response_timeout: Duration::from_secs(self.ingress_timeout_seconds),
            },
            registries: self.registries()?,
            max_pods: self.max_pods,
            wasi_p3: self.wasi_p3.unwrap_or(wasi_p3),
            image_gc: self.image_gc()?,
            static_pod_path: self.pod_manifest_path.as_ref().map(std::path::absolute).transpose()?,
            kernel_network: self.kernel_network,
        })
    }

    fn image_gc(&self) -> Result<garbage::Policy> {
        let (high, low) = (self.image_gc_high_threshold, self.image_gc_low_threshold);
        ensure!(
            low < high,
            "invalid configuration: imageGCLowThresholdPercent (--image-gc-low-threshold) {low} must be less than \
             imageGCHighThresholdPercent (--image-gc-high-threshold) {high}"
        );
        Ok(garbage::Policy { high_percent: high, low_percent: low, min_age: self.minimum_image_ttl_duration })
    }

    fn registries(&self) -> Result<Registries> {
        let insecure = self.insecure_registry.clone();
        let Some(path) = &self.registries else { return Ok(Registries::new(RegistriesFile::default(), insecure)?) };
        let text = fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
        let file = serde_saphyr::from_str(&text).map_err(|error| anyhow!("{}: {error}", path.display()))?;
        Registries::new(file, insecure).with_context(|| path.display().to_string())
    }
}

fn percent() -> clap::builder::RangedU64ValueParser {
    clap::value_parser!(u64).range(0..=100)
}

/// As Go writes a duration, and never below zero.
fn duration(text: &str) -> Result<Duration, String> {
    let duration: SignedDuration = text.parse().map_err(|error: jiff::Error| error.to_string())?;
    Duration::try_from(duration).map_err(|_| "must not be negative".to_owned())
}

/// A node's name is a DNS subdomain.
fn node_name(name: &str) -> Result<String, String> {
    match k8w_kinds::names::dns_subdomain(name).into_iter().next() {
        None => Ok(name.to_owned()),
        Some(why) => Err(why),
    }
}
