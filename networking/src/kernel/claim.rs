//! One cluster at a time: two would take each other's routes and rules for what a run before left behind.

use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener};

use super::Error;

/// A name in the abstract namespace of Unix sockets, which belongs to a network namespace as routes and rules do, and which
/// is free again however its process ends (unix(7)).
const NAME: &str = "k8w-kernel-network";

/// The kernel's network of this network namespace, for as long as this lives.
pub(super) struct Claim {
    _name: UnixListener,
}

impl Claim {
    /// # Errors
    /// [`Error::Claimed`] when another process has it.
    pub fn take() -> Result<Self, Error> {
        let bound = SocketAddr::from_abstract_name(NAME).and_then(|name| UnixListener::bind_addr(&name));
        bound.map(|name| Self { _name: name }).map_err(|error| match error.kind() {
            io::ErrorKind::AddrInUse => Error::Claimed(error),
            _ => Error::Listen(error),
        })
    }
}
