//! Datagrams that the kernel leads here: one transparent socket for all that come in, one raw socket for all answers.

use std::io::{self, IoSlice, IoSliceMut};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;

use bytes::Bytes;
use nix::libc;
use nix::sys::socket::{
    AddressFamily, ControlMessage, ControlMessageOwned, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrIn, bind,
    recvmsg, sendmsg, setsockopt, socket, sockopt,
};
use tokio::io::Interest;
use tokio::net::UdpSocket;
use tokio_util::sync::CancellationToken;
use tracing::debug;

use super::origin;
use crate::network::{Network, Refused};
use crate::service::Protocol;
use crate::tables::Tables;
use crate::udp::{Clients, Door, FAILURE_PAUSE, Hop, MAX_DATAGRAM_BYTES};

/// Clients whose endpoint is remembered.
const MAX_CLIENTS: usize = 8_192;
/// Index of the loopback interface in every network namespace (`LOOPBACK_IFINDEX`).
const LOOPBACK: libc::c_int = 1;
/// Bytes of a UDP header (RFC 768).
const HEADER_BYTES: usize = 8;

/// Hands what comes in to pods and endpoints until `stop`.
pub(super) async fn serve(
    network: &Arc<Network>,
    socket: &UdpSocket,
    answers: &Arc<Answers>,
    stop: &CancellationToken,
) {
    let mut clients = Clients::new(MAX_CLIENTS);
    let mut buffer = vec![0; MAX_DATAGRAM_BYTES];
    loop {
        let received = tokio::select! {
            () = stop.cancelled() => return,
            received = socket.async_io(Interest::READABLE, || receive(socket, &mut buffer)) => received,
            () = clients.sweep() => continue,
        };
        let Ok(Received { length, client, to, is_host }) = received else {
            tokio::time::sleep(FAILURE_PAUSE).await;
            continue;
        };
        let bytes = Bytes::copy_from_slice(&buffer[..length]);
        let asked = SocketAddr::V4(to);
        let origin = origin(network, (*client.ip()).into(), asked.ip(), is_host);
        let door = Arc::new(Door::Kernel { answers: answers.clone(), from: to });
        let find = |tables: &Tables, known| match network.udp_ports().get(asked) {
            Some(queue) if queue.admits(None) => Ok((asked, Hop::Pod(queue))),
            Some(_) => Err(Refused::NothingListens(asked)),
            None => {
                let port = tables.virtual_port(asked, Protocol::Udp).ok_or(Refused::NothingListens(asked))?;
                network.hop_of(port, origin, known)
            }
        };
        let client = SocketAddr::V4(client);
        if let Err(error) = clients.forward(network, (client, asked), client, origin, &door, bytes, find).await {
            debug!(%client, %asked, %error, "a datagram is lost");
        }
    }
}

struct Received {
    length: usize,
    client: SocketAddrV4,
    /// Where the client sent it.
    to: SocketAddrV4,
    /// Whether this machine itself sent it.
    is_host: bool,
}

fn receive(socket: &UdpSocket, buffer: &mut [u8]) -> io::Result<Received> {
    let mut control = nix::cmsg_space!(libc::sockaddr_in, libc::in_pktinfo);
    let mut parts = [IoSliceMut::new(buffer)];
    let message = recvmsg::<SockaddrIn>(socket.as_raw_fd(), &mut parts, Some(&mut control), MsgFlags::empty())?;
    let (mut to, mut is_host) = (None, false);
    for control in message.cmsgs()? {
        match control {
            ControlMessageOwned::Ipv4OrigDstAddr(address) => to = Some(SocketAddrV4::from(SockaddrIn::from(address))),
            ControlMessageOwned::Ipv4PacketInfo(info) => is_host = info.ipi_ifindex == LOOPBACK,
            _ => {}
        }
    }
    let invalid = || io::Error::from(io::ErrorKind::InvalidData);
    let client = message.address.map(SocketAddrV4::from).ok_or_else(invalid)?;
    Ok(Received { length: message.bytes, client, to: to.ok_or_else(invalid)?, is_host })
}

/// Sends from any address and port of the cluster, and takes none of the host's ports for it.
#[derive(Debug)]
pub(crate) struct Answers(OwnedFd);

impl Answers {
    /// `idle`: an address of this machine at which nothing is received, so that nothing is received here.
    pub fn open(idle: Ipv4Addr) -> io::Result<Self> {
        let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
        let socket = socket(AddressFamily::Inet, SockType::Raw, flags, SockProtocol::Udp)?;
        setsockopt(&socket, sockopt::RcvBuf, &0)?;
        bind(socket.as_raw_fd(), &SockaddrIn::from(SocketAddrV4::new(idle, 0)))?;
        Ok(Self(socket))
    }

    pub fn send(&self, bytes: &[u8], from: SocketAddrV4, to: SocketAddrV4) -> io::Result<()> {
        let header = header(bytes, from, to)?;
        let info = libc::in_pktinfo {
            ipi_ifindex: 0,
            ipi_spec_dst: libc::in_addr { s_addr: u32::from_ne_bytes(from.ip().octets()) },
            ipi_addr: libc::in_addr { s_addr: 0 },
        };
        let parts = [IoSlice::new(&header), IoSlice::new(bytes)];
        // To a raw socket an address has no port.
        let to = SockaddrIn::from(SocketAddrV4::new(*to.ip(), 0));
        let control = [ControlMessage::Ipv4PacketInfo(&info)];
        sendmsg(self.0.as_raw_fd(), &parts, &control, MsgFlags::empty(), Some(&to))?;
        Ok(())
    }
}

/// The header of a datagram (RFC 768). Errors: it is too long.
fn header(bytes: &[u8], from: SocketAddrV4, to: SocketAddrV4) -> io::Result<[u8; HEADER_BYTES]> {
    let length = u16::try_from(HEADER_BYTES + bytes.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
    let mut header = [0; HEADER_BYTES];
    header[0..2].copy_from_slice(&from.port().to_be_bytes());
    header[2..4].copy_from_slice(&to.port().to_be_bytes());
    header[4..6].copy_from_slice(&length.to_be_bytes());
    let addresses = sum(&from.ip().octets()) + sum(&to.ip().octets());
    let protocol = u64::from(libc::IPPROTO_UDP.unsigned_abs()) + u64::from(length);
    let mut total = addresses + protocol + sum(&header) + sum(bytes);
    while total > 0xffff {
        total = (total >> 16) + (total & 0xffff);
    }
    let checksum = match !u16::try_from(total).unwrap_or_default() {
        // Nought says that there is none.
        0 => u16::MAX,
        checksum => checksum,
    };
    header[6..8].copy_from_slice(&checksum.to_be_bytes());
    Ok(header)
}

/// The sum of 16-bit words; an odd last byte is followed by nought.
fn sum(bytes: &[u8]) -> u64 {
    let words = bytes.chunks(2).map(|word| u16::from_be_bytes([word[0], word.get(1).copied().unwrap_or(0)]));
    words.map(u64::from).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_datagram_and_its_header_add_up_to_nought() {
        let (from, to) = ("10.96.0.10:53".parse().unwrap(), "192.0.2.2:40000".parse().unwrap());
        for bytes in [&b""[..], b"odd", b"even", &[0xff; 1001]] {
            let header = header(bytes, from, to).unwrap();
            let pseudo = sum(&from.ip().octets()) + sum(&to.ip().octets()) + 17 + (8 + bytes.len() as u64);
            let mut total = pseudo + sum(&header) + sum(bytes);
            while total > 0xffff {
                total = (total >> 16) + (total & 0xffff);
            }
            assert_eq!(total, 0xffff);
        }
        assert!(header(&[0; 65_530], from, to).is_err());
    }
}
