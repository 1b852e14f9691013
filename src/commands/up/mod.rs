//! `k8w up [DIR]`: the control plane and one node in this process, and on it what DIR holds.

mod apply;
mod folder;
mod follow;
mod ready;
mod urls;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::Args;
use ipnet::Ipv4Net;
use tokio_util::sync::CancellationToken;

use super::control_plane::{ControlPlaneArgs, apart};
use super::process;
use crate::compose::{Cluster, ClusterConfig};
use crate::data_dir::DataDir;
use crate::kubeconfig;
use crate::progress::Progress;
use folder::Folder;

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

    /// Port of the ingress for HTTP; 0 picks a free one [default: 80 as root, 8080 otherwise]
    #[arg(long, value_name = "PORT")]
    ingress_http_port: Option<u16>,

    /// Port of the ingress for HTTPS; 0 picks a free one [default: 443 as root, 8443 otherwise]
    #[arg(long, value_name = "PORT")]
    ingress_https_port: Option<u16>,

    /// Port of the node's own API; 0 picks a free one
    #[arg(long, value_name = "PORT", default_value_t = 10250)]
    kubelet_port: u16,

    /// Name of the node [default: this machine's host name]
    #[arg(long, value_name = "NAME", value_parser = node_name)]
    node_name: Option<String>,

    /// Addresses of wasm pods
    #[arg(long, value_name = "CIDR", default_value = "10.64.0.0/18")]
    wasm_cidr: Ipv4Net,

    /// Registry (HOST or HOST:PORT) to be spoken to over plain HTTP; may be given several times
    #[arg(long, value_name = "HOST")]
    insecure_registry: Vec<String>,

    /// Pods that the node takes at most
    #[arg(long, value_name = "COUNT", default_value_t = 1_000)]
    max_pods: u32,

    /// Manifests of pods that the node runs on its own (static pods): a folder, or one file
    #[arg(long, value_name = "PATH")]
    pod_manifest_path: Option<PathBuf>,

    #[command(flatten)]
    control_plane: ControlPlaneArgs,

    /// How long to wait for what DIR holds to be ready, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    wait_timeout: u64,
}

impl Up {
    pub fn run(self) -> Result<()> {
        process::run(|stop| self.start_and_follow(stop))
    }

    async fn start_and_follow(self, stop: CancellationToken) -> Result<()> {
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
        process::stop(cluster.stop()).await;
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
        let (mut objects, mut ready) = (Vec::new(), 0);
        if let Some(folder) = &folder {
            for (name, file) in folder.components() {
                progress.step(format!("Loading {name}"));
                cluster.images().load(file, name).with_context(|| format!("cannot load {}", file.display()))?;
            }
            progress.step(format!("Applying {}", folder.path().display()));
            objects = apply::all(cluster.client(), folder.manifests()).await?;
            ready = ready::all(cluster, &objects, Duration::from_secs(self.wait_timeout), progress).await?;
        }
        match objects.len() - ready {
            0 => progress.finish("Ready"),
            lacking => progress.finish(&format!("Started, with {lacking} of {} objects not ready,", objects.len())),
        }
        eprintln!("Network: in this process; pods are reached through the ingress, node ports and each other");
        eprintln!("Ingress for HTTP: {}", cluster.ingress_http());
        eprintln!("Ingress for HTTPS: {}", cluster.ingress_https());
        eprintln!("Use it with: kubectl --kubeconfig {} get pods", kubeconfig.display());
        urls::print(cluster, &objects).await?;
        follow::until(cluster.client(), cluster.node_name(), since, stop).await
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
        let control_plane = self.control_plane.config()?;
        let pods = ("--wasm-cidr", self.wasm_cidr);
        let services = ("--service-cidr", control_plane.service_cidr);
        apart(&[pods, services, ("--cluster-cidr", control_plane.cluster_cidr)])?;
        Ok(ClusterConfig {
            control_plane,
            ingress_http_port: port(self.ingress_http_port, 80, 8080),
            ingress_https_port: port(self.ingress_https_port, 443, 8443),
            kubelet_port: self.kubelet_port,
            node_name: match &self.node_name {
                Some(name) => name.clone(),
                None => process::host_name()?,
            },
            wasm_cidr: self.wasm_cidr,
            insecure_registries: self.insecure_registry.clone(),
            max_pods: self.max_pods,
            static_pod_path: self.pod_manifest_path.as_ref().map(std::path::absolute).transpose()?,
        })
    }
}

/// A node's name is a DNS subdomain.
fn node_name(name: &str) -> Result<String, String> {
    match k8w_kinds::names::dns_subdomain(name).into_iter().next() {
        None => Ok(name.to_owned()),
        Some(why) => Err(why),
    }
}
