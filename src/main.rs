//! k8w: a whole Kubernetes in one binary, whose pods are WebAssembly components.

mod commands;
mod compose;
mod data_dir;
mod foreign_tls;
mod kubeconfig;
mod memory;
mod progress;

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    memory::tune_allocator();
    match commands::Cli::parse().run() {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {}", one_sentence(&error));
            ExitCode::FAILURE
        }
    }
}

/// An error with its causes on one line. What a cause says beyond its first line (a parser's excerpt) is left out.
fn one_sentence(error: &anyhow::Error) -> String {
    let texts: Vec<String> = error.chain().map(|cause| cause.to_string()).collect();
    let first_lines: Vec<&str> = texts.iter().map(|text| text.lines().next().unwrap_or_default()).collect();
    first_lines.join(": ")
}
