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
    let mut sentence = String::new();
    for cause in error.chain() {
        let text = cause.to_string();
        let first_line = text.lines().next().unwrap_or_default();
        // Some say themselves what their cause is.
        if sentence.is_empty() {
            sentence = first_line.to_owned();
        } else if !sentence.ends_with(first_line) {
            sentence = format!("{sentence}: {first_line}");
        }
    }
    sentence
}
