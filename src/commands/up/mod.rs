//! `k8w up [DIR]`: the control plane and one node in this process, and on it what DIR holds.

mod apply;
mod folder;
mod follow;
mod ready;
mod scratch;
mod urls;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::Args;
use tokio_util::sync::CancellationToken;

use super::control_plane::{ControlPlaneArgs, refuse_nodes_keys};
use super::node_args::NodeArgs;
use super::process;
use crate::compose::{Cluster, ClusterConfig};
use crate::data_dir::DataDir;
use crate::kubeconfig;
use crate::progress::Progress;
use folder::Folder;
use scratch::Scratch;

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

    #[command(flatten)]
    node: NodeArgs,

    #[command(flatten)]
    control_plane: ControlPlaneArgs,

    /// How long to wait for what DIR holds to be ready, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    wait_timeout: u64,
}

impl Up {
    pub fn run(self) -> Result<()> {
        // Outlives all that may still write to it.
        let scratch = self.ephemeral.then(Scratch::make).transpose()?;
        let folder = scratch.as_ref().map(|scratch| scratch.path().to_owned());
        let abandon = move || folder.iter().for_each(|folder| scratch::remove(folder));
        process::run_or(abandon, |stop| self.start_and_follow(scratch.as_ref(), stop))
    }

    async fn start_and_follow(self, scratch: Option<&Scratch>, stop: CancellationToken) -> Result<()> {
        let progress = Progress::new();

        let folder = self.dir.as_deref().map(Folder::read).transpose()?;
        progress.step("Opening the data directory");
        let data_dir = match scratch {
            Some(scratch) => scratch.path().join("data"),
            None => DataDir::path_of(self.data_dir.as_deref())?,
        };
        let data_dir = DataDir::open(&data_dir)?;
        refuse_nodes_keys(&data_dir.join("pki"), "--data-dir")?;

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
        super::ready::node(cluster.client(), cluster.node_name()).await?;
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
        eprintln!("{}", cluster.about());
        eprintln!("Ingress for HTTP: {}", cluster.ingress_http());
        eprintln!("Ingress for HTTPS: {}", cluster.ingress_https());
        eprintln!("Use it with: kubectl --kubeconfig {} get pods", kubeconfig.display());
        urls::print(cluster, &objects).await?;
        follow::until(cluster.client(), cluster.node_name(), since, stop).await
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
        let control_plane = self.control_plane.config()?;
        let address = control_plane.address;
        // Others need an address of one sort or the other.
        let ip = if address.is_unspecified() { control_plane.advertise } else { address };
        let node = self.node.options(self.node.name(None)?, address, ip, true)?;
        Ok(ClusterConfig { control_plane, node })
    }
}
