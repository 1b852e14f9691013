//! k8w: a whole Kubernetes in one binary, whose pods are WebAssembly components.

mod commands;
mod compose;
mod data_dir;
mod kubeconfig;
mod progress;

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    match commands::Cli::parse().run() {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {}", one_sentence(&error));
            ExitCode::FAILURE
        }
    }
}

/// An error with its causes on one line.
fn one_sentence(error: &anyhow::Error) -> String {
    error.chain().map(|cause| cause.to_string()).collect::<Vec<_>>().join(": ")
}
