//! `k8w compile-worker`: the process that compiles one component for a node, and may be killed for it.

use std::process::ExitCode;

use clap::Args;

/// Compile one component for a node of this machine (started by the node itself)
#[derive(Args)]
pub struct CompileWorker {}

impl CompileWorker {
    pub fn run(self) -> ExitCode {
        k8w_runtime::wasm::compile::worker_main()
    }
}
