//! `k8w nfs-volume`: the process that is the NFS client of one volume of a node.

use std::ffi::OsString;
use std::process::ExitCode;

use clap::Args;
use k8w_storage::volume::nfs;

use super::process;

/// Serve a volume of an NFS server to a node of this machine (started by the node itself)
#[derive(Args)]
pub struct NfsVolume {
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<OsString>,
}

impl NfsVolume {
    pub fn run(self) -> ExitCode {
        process::init_tracing();
        nfs::serve(self.arguments)
    }
}
