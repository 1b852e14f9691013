//! The command line: a clap struct and a `run` per command.

mod compile_worker;
mod completion;
mod control_plane;
mod image;
mod nfs_volume;
mod node;
mod node_args;
mod process;
mod ready;
mod server;
mod token;
mod up;

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
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
    #[command(hide = true)]
    NfsVolume(nfs_volume::NfsVolume),
}

impl Cli {
    pub fn run(self) -> Result<ExitCode> {
        // One TLS provider for every user of rustls in this process; a second installation changes nothing.
        let _ = rustls::crypto::ring::default_provider().install_default();
        match self.command {
            Command::Up(up) => up.run()?,
            Command::Server(server) => server.run()?,
            Command::Node(node) => node.run()?,
            Command::Token(token) => token.run()?,
            Command::Image(image) => image.run()?,
            Command::Completion(completion) => completion.run()?,
            Command::CompileWorker(worker) => return Ok(worker.run()),
            Command::NfsVolume(volume) => return Ok(volume.run()),
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// The address that this machine speaks to another from; nothing is sent.
fn address_towards(other: SocketAddr) -> io::Result<IpAddr> {
    let any: IpAddr = if other.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((any, 0))?;
    socket.connect(other)?;
    Ok(socket.local_addr()?.ip())
}
