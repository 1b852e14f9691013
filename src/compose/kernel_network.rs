//! The kernel's side of the network, if it is wanted and can be had.

use std::sync::Arc;

use anyhow::{Context, Result};
use clap::ValueEnum;
use k8w_networking::Network;
use k8w_networking::kernel::Kernel;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::ended;

/// Whether pods and Services are reached by their addresses from this machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum KernelNetwork {
    /// If it can be had
    Auto,
    /// Or do not start
    On,
    Off,
}

/// Where the network is.
pub enum NetworkMode {
    /// In this process and the kernel.
    Kernel,
    /// In this process alone, and why.
    InProcess(String),
}

impl std::fmt::Display for NetworkMode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Kernel => {
                f.write_str("in this process and the kernel; pods and Services are reached by their addresses")
            }
            Self::InProcess(why) => {
                write!(f, "in this process ({why}); pods are reached through the ingress, node ports and each other")
            }
        }
    }
}

impl KernelNetwork {
    /// Serves the kernel's side until `shutdown`, if it is wanted and can be had.
    ///
    /// # Errors
    /// It is wanted and cannot be had.
    pub(super) async fn serve(
        self,
        network: Arc<Network>,
        tasks: &mut JoinSet<()>,
        shutdown: &CancellationToken,
    ) -> Result<NetworkMode> {
        let kernel = match self {
            Self::Off => return Ok(NetworkMode::InProcess("--kernel-network is off".to_owned())),
            Self::On => Kernel::open(network).await.context("--kernel-network cannot be on")?,
            Self::Auto => match Kernel::open(network).await {
                Ok(kernel) => kernel,
                Err(error) => return Ok(NetworkMode::InProcess(format!("the kernel's cannot be had: {error}"))),
            },
        };
        tasks.spawn(ended("kernel's network", kernel.serve(shutdown.clone())));
        Ok(NetworkMode::Kernel)
    }
}
