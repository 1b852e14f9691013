//! The command line: a clap struct and a `run` per command.

mod compile_worker;
mod completion;
mod control_plane;
mod image;
mod node;
mod node_args;
mod process;
mod ready;
mod server;
mod token;
mod up;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

/// A whole Kubernetes in one binary, whose pods are WebAssembly components.
#[derive(Parser)]
#[command(name = "k8w", version, disable_help_subcommand = true)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Up(up::Up),
    Server(server::Server),
    Node(node::Node),
    Token(token::Token),
    Image(image::Image),
    Completion(completion::Completion),
    #[command(hide = true)]
    CompileWorker(compile_worker::CompileWorker),
}

impl Cli {
    pub fn run(self) -> Result<ExitCode> {
        match self.command {
            Command::Up(up) => up.run()?,
            Command::Server(server) => server.run()?,
            Command::Node(node) => node.run()?,
            Command::Token(token) => token.run()?,
            Command::Image(image) => image.run()?,
            Command::Completion(completion) => completion.run()?,
            Command::CompileWorker(worker) => return Ok(worker.run()),
        }
        Ok(ExitCode::SUCCESS)
    }
}
