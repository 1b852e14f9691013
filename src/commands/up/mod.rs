//! `k8w up [DIR]`: the control plane and one node in this process, and on it what DIR holds.

mod apply;
mod folder;
mod follow;
mod ready;
mod urls;

use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::Args;
use ipnet::Ipv4Net;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::compose::{Cluster, ClusterConfig};
use crate::data_dir::DataDir;
use crate::kubeconfig;
use crate::progress::Progress;
use folder::Folder;

/// How long a clean stop may take before the process ends anyway.
const STOP_TIMEOUT: Duration = Duration::from_secs(20);

/// Start a cluster with one node in this process, and run what DIR holds on it
///
/// Every component in DIR (FILE.wasm) becomes the image localhost/FILE:latest, and every manifest in DIR (.yaml, .yml,
/// .json) is applied. Ctrl-C stops the cluster and keeps its state; the next start brings everything back.
#[derive(Args)]
pub struct Up {
    /// Folder with components and manifests
    dir: Option<PathBuf>,

    /// Where the cluster's state is kept [default: ~/.local/share/k8w]
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,

    /// Keep the state in a temporary folder and throw it away at the end
    #[arg(long, conflicts_with = "data_dir")]
    ephemeral: bool,

    /// Where to write the kubeconfig [default: kubeconfig in the data folder]
    #[arg(long, value_name = "FILE")]
    kubeconfig: Option<PathBuf>,

    /// Also merge the kubeconfig into ~/.kube/config as context k8w
    #[arg(long)]
    merge_kubeconfig: bool,

    /// Address that the API server, node ports and ingress listen on
    #[arg(long, value_name = "IP", default_value_t = IpAddr::V4(Ipv4Addr::LOCALHOST))]
    address: IpAddr,

    /// Port of the API server; 0 picks a free one
    #[arg(long, value_name = "PORT", default_value_t = 6443)]
    port: u16,

    /// Port of the ingress for HTTP; 0 picks a free one [default: 80 as root, 8080 otherwise]
    #[arg(long, value_name = "PORT")]
    ingress_http_port: Option<u16>,

    /// Port of the ingress for HTTPS; 0 picks a free one [default: 443 as root, 8443 otherwise]
    #[arg(long, value_name = "PORT")]
    ingress_https_port: Option<u16>,

    /// Ports that Services of type NodePort are given, FIRST-LAST
    #[arg(long, value_name = "RANGE", default_value = "30000-32767", value_parser = port_range)]
    node_port_range: (u16, u16),

    /// Name of the node [default: this machine's host name]
    #[arg(long, value_name = "NAME")]
    node_name: Option<String>,

    /// Addresses of Services
    #[arg(long, value_name = "CIDR", default_value = "10.96.0.0/16")]
    service_cidr: Ipv4Net,

    /// Addresses of wasm pods
    #[arg(long, value_name = "CIDR", default_value = "10.64.0.0/18")]
    wasm_cidr: Ipv4Net,

    /// DNS suffix of the cluster
    #[arg(long, value_name = "DOMAIN", default_value = "cluster.local")]
    cluster_domain: String,

    /// Registry (HOST or HOST:PORT) to be spoken to over plain HTTP; may be given several times
    #[arg(long, value_name = "HOST")]
    insecure_registry: Vec<String>,

    /// Pods that the node takes at most
    #[arg(long, value_name = "COUNT", default_value_t = 1_000)]
    max_pods: u32,

    /// How long to wait for what DIR holds to be ready, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    wait_timeout: u64,
}

impl Up {
    pub fn run(self) -> Result<()> {
        init_tracing();
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
        let result = runtime.block_on(self.start_and_follow());
        // Blocking work that is still under way (a guest that will not end) must not keep the process alive.
        runtime.shutdown_timeout(Duration::from_secs(1));
        result
    }

    async fn start_and_follow(self) -> Result<()> {
        let stop = CancellationToken::new();
        cancel_on_signal(stop.clone())?;
        let progress = Progress::new();

        let folder = self.dir.as_deref().map(Folder::read).transpose()?;
        progress.step("Opening the data directory");
        let (_scratch, data_dir) = self.open_data_dir()?;

        progress.step("Starting the control plane and the node");
        let cluster = tokio::select! {
            cluster = Cluster::start(self.config()?, &data_dir) => cluster?,
            () = stop.cancelled() => return Ok(()),
        };
        let outcome = tokio::select! {
            outcome = self.bring_up(&cluster, &data_dir, folder, &progress, &stop) => outcome,
            () = stop.cancelled() => Ok(()),
        };
        eprintln!("Stopping");
        if tokio::time::timeout(STOP_TIMEOUT, cluster.stop()).await.is_err() {
            tracing::warn!("some tasks did not stop in time");
        }
        outcome
    }

    /// From a started control plane to URLs on standard output, then follows until told to stop.
    async fn bring_up(
        &self,
        cluster: &Cluster,
        data_dir: &DataDir,
        folder: Option<Folder>,
        progress: &Progress,
        stop: &CancellationToken,
    ) -> Result<()> {
        let kubeconfig = self.write_kubeconfig(cluster, data_dir)?;
        progress.step("Waiting for the node to be ready");
        ready::node(cluster.client(), cluster.node_name()).await?;
        let since = jiff::Timestamp::now();
        let mut objects = Vec::new();
        if let Some(folder) = &folder {
            for (name, file) in folder.components() {
                progress.step(format!("Loading {name}"));
                cluster.images().load(file, name).with_context(|| format!("cannot load {}", file.display()))?;
            }
            progress.step(format!("Applying {}", folder.path().display()));
            objects = apply::all(cluster.client(), folder.manifests()).await?;
            ready::all(cluster, &objects, Duration::from_secs(self.wait_timeout), progress).await?;
        }
        progress.finish("Ready");
        eprintln!("Network: in this process; pods are reached through the ingress, node ports and each other");
        eprintln!("Ingress for HTTP: {}", cluster.ingress_http());
        eprintln!("Ingress for HTTPS: {}", cluster.ingress_https());
        eprintln!("Use it with: kubectl --kubeconfig {} get pods", kubeconfig.display());
        urls::print(cluster, &objects).await?;
        follow::until(cluster.client(), since, stop).await
    }

    /// The data directory, and the temporary folder around it when it is not to be kept.
    fn open_data_dir(&self) -> Result<(Option<tempfile::TempDir>, DataDir)> {
        if self.ephemeral {
            let scratch =
                tempfile::Builder::new().prefix("k8w-").tempdir().context("cannot make a temporary folder")?;
            let data_dir = DataDir::open(&scratch.path().join("data"))?;
            return Ok((Some(scratch), data_dir));
        }
        let path = match &self.data_dir {
            Some(path) => std::path::absolute(path)?,
            None => DataDir::default_path()?,
        };
        Ok((None, DataDir::open(&path)?))
    }

    fn write_kubeconfig(&self, cluster: &Cluster, data_dir: &DataDir) -> Result<PathBuf> {
        let config = cluster.kubeconfig();
        let path = self.kubeconfig.clone().unwrap_or_else(|| data_dir.join("kubeconfig"));
        kubeconfig::write(&path, config)?;
        if self.merge_kubeconfig {
            kubeconfig::merge_into(&kubeconfig::user_file()?, config)?;
        }
        Ok(path)
    }

    fn config(&self) -> Result<ClusterConfig> {
        let root = nix::unistd::geteuid().is_root();
        let port = |given: Option<u16>, privileged, other| given.unwrap_or(if root { privileged } else { other });
        Ok(ClusterConfig {
            address: self.address,
            port: self.port,
            ingress_http_port: port(self.ingress_http_port, 80, 8080),
            ingress_https_port: port(self.ingress_https_port, 443, 8443),
            node_port_range: self.node_port_range.0..=self.node_port_range.1,
            node_name: match &self.node_name {
                Some(name) => name.clone(),
                None => host_name()?,
            },
            service_cidr: self.service_cidr,
            wasm_cidr: self.wasm_cidr,
            cluster_domain: self.cluster_domain.clone(),
            insecure_registries: self.insecure_registry.clone(),
            max_pods: self.max_pods,
        })
    }
}

/// Parses `FIRST-LAST`.
fn port_range(text: &str) -> Result<(u16, u16), String> {
    let parse = |part: &str| part.trim().parse::<u16>().ok().filter(|port| *port > 0);
    match text.split_once('-').map(|(first, last)| (parse(first), parse(last))) {
        Some((Some(first), Some(last))) if first <= last => Ok((first, last)),
        _ => Err("a range of ports looks like 30000-32767".into()),
    }
}

/// This machine's name in the form that a Node may have: lower case, RFC 1123.
fn host_name() -> Result<String> {
    let raw = std::fs::read_to_string("/proc/sys/kernel/hostname")
        .context("cannot read this machine's host name; name the node with --node-name")?;
    let clean: String = raw
        .trim()
        .to_ascii_lowercase()
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() || c == '.' { c } else { '-' })
        .take(63)
        .collect();
    let clean = clean.trim_matches(|c: char| !c.is_ascii_alphanumeric());
    Ok(if clean.is_empty() { "node".into() } else { clean.into() })
}

/// The first Ctrl-C or SIGTERM asks for a clean stop; a second one ends the process at once.
fn cancel_on_signal(stop: CancellationToken) -> Result<()> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::spawn(async move {
        for _ in 0..2 {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
            if stop.is_cancelled() {
                std::process::exit(130);
            }
            stop.cancel();
        }
    });
    Ok(())
}

/// Warnings on standard error, more with `K8W_LOG` (the syntax of tracing's `EnvFilter`).
fn init_tracing() {
    let filter = tracing_subscriber::EnvFilter::try_from_env("K8W_LOG")
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("warn"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
}

#[cfg(test)]
mod tests {
    use super::port_range;

    #[test]
    fn port_ranges() {
        assert_eq!(port_range("30000-32767"), Ok((30000, 32767)));
        for wrong in ["", "30000", "2-1", "0-5", "a-b", "1-70000"] {
            assert!(port_range(wrong).is_err(), "{wrong}");
        }
    }
}
