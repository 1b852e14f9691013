//! A directory of an NFS server: mounted by the kernel where it can and may, by FUSE otherwise.
//!
//! ```text
//! guest -> kernel -> fuse (a process a volume) -> files (numbers, written bytes) -> procedures -> rpc -> server
//!                                                                                   answers <-    xdr <-
//! ```
//!
//! By the kernel the protocol is version 3, too, unless a volume names another or its server does not speak it.
//!
//! Without the kernel's NFS the protocol is version 3, by the node's own user (AUTH_SYS), without locks. Its bounds:
//! `fuse::MAX_IN_FLIGHT` requests of a volume at a time, `files::MAX_KEPT_BYTES` of written bytes,
//! [`options::Options::wait`] for an answer, and attributes as old as `actimeo` says (one second).

mod answers;
mod files;
mod fuse;
#[cfg(test)]
mod hostile;
mod kernel;
mod options;
mod procedures;
mod process;
mod rpc;
mod server;
mod xdr;

use std::fs;
use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::path::Path;

use super::mounted;
use files::Files;
use options::Options;
use rpc::{Client, Credentials, Manner};

pub use process::{SUBCOMMAND, serve};

/// What a volume is made of, as the API has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    pub server: String,
    pub path: String,
    pub read_only: bool,
    /// `mountOptions` of a PersistentVolume.
    pub options: Vec<String>,
}

/// Why a volume cannot be mounted.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Option(#[from] options::Refused),
    #[error("the server's address is not known: {0}")]
    Address(io::Error),
    #[error("the kernel: {0}")]
    Kernel(io::Error),
    #[error(transparent)]
    Server(#[from] server::Error),
    #[error(transparent)]
    Procedure(#[from] procedures::Error),
    #[error("this kernel or user has no NFS, and the device /dev/fuse cannot be had for a client in its place: {0}")]
    NoFuse(io::Error),
    #[error(
        "this kernel or user has no NFS, and a client in its place may not be mounted, which takes CAP_SYS_ADMIN or the \
         program fusermount3: {0}"
    )]
    NotMounted(io::Error),
    /// In the words of its own process.
    #[error("{0}")]
    Process(String),
    #[error("{0}")]
    Io(#[from] io::Error),
}

/// Mounts a volume at `dir`, which is made; one that is there stays, unless the process is gone that served it.
/// Blocks, but not longer than the volume's options allow for each of a few calls.
///
/// # Errors
/// When this node cannot have it.
pub fn mount(dir: &Path, source: &Source) -> Result<(), super::Error> {
    try_mount(dir, source).map_err(|error| super::Error::Nfs { device: source.device(), source: error.into() })
}

fn try_mount(dir: &Path, source: &Source) -> Result<(), Error> {
    if mounted::is_at(dir)? {
        match fs::metadata(dir) {
            Err(error) if error.raw_os_error() == Some(libc::ENOTCONN) => mounted::remove_beneath(dir)?,
            _ => return Ok(()),
        }
    }
    fs::create_dir_all(dir)?;
    let options = Options::parse(&source.options)?;
    let read_only = source.read_only || options.read_only;
    let address = resolve(&source.server)?;
    if kernel::try_mount(dir, address, &source.device(), &options, read_only)? {
        return Ok(());
    }
    options.check_without_kernel()?;
    process::start(dir, source)
}

impl Source {
    /// As mount(8) names it.
    pub fn device(&self) -> String {
        match self.server.contains(':') && !self.server.starts_with('[') {
            true => format!("[{}]:{}", self.server, self.path),
            false => format!("{}:{}", self.server, self.path),
        }
    }
}

fn resolve(server: &str) -> Result<IpAddr, Error> {
    let name = server.strip_prefix('[').and_then(|server| server.strip_suffix(']')).unwrap_or(server);
    let mut found = (name, 0).to_socket_addrs().map_err(Error::Address)?;
    found.next().map(|address| address.ip()).ok_or_else(|| Error::Address(io::ErrorKind::NotFound.into()))
}

async fn connect(address: IpAddr, path: &str, options: &Options) -> Result<Files, Error> {
    let credentials = Credentials::of_process();
    let manner = Manner { credentials, reserved_port: options.reserved_port, wait: options.wait() };
    let (nfs_port, mount_port) = server::ports(address, options, &manner).await?;
    let root = server::root(SocketAddr::new(address, mount_port), path, manner.clone()).await?;
    let at = SocketAddr::new(address, nfs_port);
    Ok(Files::open(Client::new(at, procedures::PROGRAM, manner), root, options).await?)
}
