//! The sockets that take what the kernel leads here: a fixed number, however many pods and Services there are.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::AsFd;

use nix::sys::socket::{setsockopt, sockopt};
use tokio::net::{TcpListener, TcpSocket, UdpSocket};

use super::Error;
use super::rules::Ports;

/// Connections that wait to be accepted (Linux's `net.core.somaxconn`).
const BACKLOG: u32 = 4096;

pub(super) struct Sockets {
    /// For connections that this machine itself makes: they arrive by its loopback interface, as no others can.
    pub from_host: TcpListener,
    pub from_elsewhere: TcpListener,
    pub datagrams: UdpSocket,
}

impl Sockets {
    /// # Errors
    /// [`Error::Privilege`] without CAP_NET_ADMIN, or what listening gives.
    pub fn open() -> Result<Self, Error> {
        let datagrams = std::net::UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
        be_transparent(&datagrams)?;
        // With each datagram comes where it was sent to, and the interface that it came by.
        setsockopt(&datagrams, sockopt::Ipv4OrigDstAddr, &true).map_err(io::Error::from)?;
        setsockopt(&datagrams, sockopt::Ipv4PacketInfo, &true).map_err(io::Error::from)?;
        datagrams.set_nonblocking(true)?;
        let datagrams = UdpSocket::from_std(datagrams)?;
        Ok(Self { from_host: listen()?, from_elsewhere: listen()?, datagrams })
    }

    pub fn ports(&self) -> io::Result<Ports> {
        let port = |address: io::Result<SocketAddr>| address.map(|address| address.port());
        Ok(Ports {
            from_host: port(self.from_host.local_addr())?,
            from_elsewhere: port(self.from_elsewhere.local_addr())?,
            datagrams: port(self.datagrams.local_addr())?,
        })
    }
}

fn listen() -> Result<TcpListener, Error> {
    let socket = TcpSocket::new_v4()?;
    be_transparent(&socket)?;
    socket.bind((Ipv4Addr::LOCALHOST, 0).into())?;
    // A connection to a pod's port must not keep a process of this machine from listening on the same port.
    socket.set_reuseaddr(true)?;
    Ok(socket.listen(BACKLOG)?)
}

/// Lets a socket have any address for its own.
fn be_transparent(socket: &impl AsFd) -> Result<(), Error> {
    setsockopt(socket, sockopt::IpTransparent, &true).map_err(|error| Error::Privilege(error.into()))
}
