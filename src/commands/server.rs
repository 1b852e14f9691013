//! `k8w server`: a control plane without a node, alone or as one of several on an etcd.

use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::Args;

use super::control_plane::{ControlPlaneArgs, refuse_nodes_keys};
use super::process;
use crate::compose::{ControlPlane, Store, Tls};
use crate::data_dir::DataDir;
use crate::kubeconfig;

/// Start a control plane without a node
///
/// Several can share one etcd: give each the same --datastore and the same keys (--pki-dir). One of them runs the
/// controllers; when it ends, another one does.
#[derive(Args)]
pub struct Server {
    /// Where keys, and without --datastore the cluster's state, are kept [default: ~/.local/share/k8w]
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,

    /// An etcd to keep the cluster's state in: etcd://HOST:PORT or https://HOST:PORT, several separated by commas
    #[arg(long, value_name = "URLS")]
    datastore: Option<String>,

    /// The authority that signed etcd's certificate, PEM
    #[arg(long, value_name = "FILE", requires = "datastore")]
    etcd_ca_file: Option<PathBuf>,

    /// The certificate to show to etcd, PEM
    #[arg(long, value_name = "FILE", requires_all = ["datastore", "etcd_key_file"])]
    etcd_cert_file: Option<PathBuf>,

    /// Its key, PEM
    #[arg(long, value_name = "FILE", requires = "etcd_cert_file")]
    etcd_key_file: Option<PathBuf>,

    /// The cluster's keys and certificates [default: pki in the data folder]
    #[arg(long, value_name = "DIR")]
    pki_dir: Option<PathBuf>,

    /// Where to write the kubeconfig [default: kubeconfig in the data folder]
    #[arg(long, value_name = "FILE")]
    kubeconfig: Option<PathBuf>,

    #[command(flatten)]
    control_plane: ControlPlaneArgs,
}

impl Server {
    fn etcd_tls(&self) -> Result<Option<Tls>> {
        let read = |file: &PathBuf| std::fs::read(file).with_context(|| format!("cannot read {}", file.display()));
        let ca = self.etcd_ca_file.as_ref().map(read).transpose()?;
        let identity = match (&self.etcd_cert_file, &self.etcd_key_file) {
            (Some(certificate), Some(key)) => Some((read(certificate)?, read(key)?)),
            _ => None,
        };
        Ok((ca.is_some() || identity.is_some()).then_some(Tls { ca, identity }))
    }

    pub fn run(self) -> Result<()> {
        process::run(|stop| async move {
            let data_dir = DataDir::open(&DataDir::path_of(self.data_dir.as_deref())?)?;
            let (pki, option) = match &self.pki_dir {
                Some(pki) => (pki.clone(), "--pki-dir"),
                None => (data_dir.join("pki"), "--data-dir"),
            };
            refuse_nodes_keys(&pki, option)?;
            let datastore = data_dir.join("datastore");
            let store = match &self.datastore {
                Some(urls) => Store::Etcd(urls, self.etcd_tls()?),
                None => Store::Embedded(&datastore),
            };
            let identity = format!("{}_{}", process::host_name()?, std::process::id());
            let config = self.control_plane.config()?;
            let compiled = data_dir.join("compiled");
            let control_plane = tokio::select! {
                started = ControlPlane::start(&config, store, &pki, &compiled, &identity) => started?,
                () = stop.cancelled() => return Ok(()),
            };
            let kubeconfig = self.kubeconfig.clone().unwrap_or_else(|| data_dir.join("kubeconfig"));
            kubeconfig::write(&kubeconfig, control_plane.kubeconfig())?;
            eprintln!("API server: https://{}", control_plane.address());
            eprintln!("Use it with: kubectl --kubeconfig {} get namespaces", kubeconfig.display());
            stop.cancelled().await;
            process::stop(control_plane.stop()).await;
            Ok(())
        })
    }
}
