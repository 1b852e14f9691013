//! A socket of the host's that answers from the address that was asked: one that is bound to every address would answer from
//! whichever the way back has, where a client expects nothing from.

use std::io::{self, IoSlice, IoSliceMut};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd};

use nix::libc;
use nix::sys::socket::{
    ControlMessage, ControlMessageOwned, MsgFlags, SockaddrStorage, recvmsg, sendmsg, setsockopt, sockopt,
};

/// A datagram that came in.
pub(super) struct Received {
    pub length: usize,
    pub client: SocketAddr,
    /// The host's address that the client sent it to.
    pub to: IpAddr,
}

/// Lets [`receive`] be told where datagrams came in, at a socket that is bound to `address`.
pub(super) fn tell_addresses(socket: &impl AsFd, address: IpAddr) -> io::Result<()> {
    match address {
        IpAddr::V4(_) => setsockopt(socket, sockopt::Ipv4PacketInfo, &true)?,
        IpAddr::V6(_) => setsockopt(socket, sockopt::Ipv6RecvPacketInfo, &true)?,
    }
    Ok(())
}

pub(super) fn receive(socket: &impl AsRawFd, buffer: &mut [u8]) -> io::Result<Received> {
    let mut control = nix::cmsg_space!(libc::in_pktinfo, libc::in6_pktinfo);
    let mut parts = [IoSliceMut::new(buffer)];
    let message = recvmsg::<SockaddrStorage>(socket.as_raw_fd(), &mut parts, Some(&mut control), MsgFlags::empty())?;
    let mut to = None;
    for control in message.cmsgs()? {
        match control {
            ControlMessageOwned::Ipv4PacketInfo(info) => {
                to = Some(IpAddr::V4(Ipv4Addr::from(info.ipi_spec_dst.s_addr.to_ne_bytes())));
            }
            ControlMessageOwned::Ipv6PacketInfo(info) => {
                to = Some(IpAddr::V6(Ipv6Addr::from(info.ipi6_addr.s6_addr)));
            }
            _ => {}
        }
    }
    let client = message.address.and_then(|address| {
        let ipv4 = address.as_sockaddr_in().map(|address| SocketAddr::V4((*address).into()));
        ipv4.or_else(|| address.as_sockaddr_in6().map(|address| SocketAddr::V6((*address).into())))
    });
    let invalid = || io::Error::from(io::ErrorKind::InvalidData);
    Ok(Received { length: message.bytes, client: client.ok_or_else(invalid)?, to: to.ok_or_else(invalid)? })
}

/// Sends from one of the host's addresses.
pub(super) fn send(socket: &impl AsRawFd, bytes: &[u8], from: IpAddr, to: SocketAddr) -> io::Result<()> {
    let (parts, to) = ([IoSlice::new(bytes)], SockaddrStorage::from(to));
    let send = |control| sendmsg(socket.as_raw_fd(), &parts, &[control], MsgFlags::empty(), Some(&to));
    match from {
        IpAddr::V4(from) => send(ControlMessage::Ipv4PacketInfo(&libc::in_pktinfo {
            ipi_ifindex: 0,
            ipi_spec_dst: libc::in_addr { s_addr: u32::from_ne_bytes(from.octets()) },
            ipi_addr: libc::in_addr { s_addr: 0 },
        }))?,
        IpAddr::V6(from) => send(ControlMessage::Ipv6PacketInfo(&libc::in6_pktinfo {
            ipi6_addr: libc::in6_addr { s6_addr: from.octets() },
            ipi6_ifindex: 0,
        }))?,
    };
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;

    use super::*;

    #[test]
    fn the_answer_comes_from_the_address_that_was_asked() {
        for (bound, asked) in [("0.0.0.0:0", "127.0.0.5"), ("[::]:0", "127.0.0.5"), ("[::]:0", "::1")] {
            let Ok(socket) = UdpSocket::bind(bound) else {
                // A machine without IPv6.
                continue;
            };
            let (address, asked) = (socket.local_addr().unwrap(), asked.parse::<IpAddr>().unwrap());
            tell_addresses(&socket, address.ip()).unwrap();
            let any = if asked.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
            let client = UdpSocket::bind(any).unwrap();
            // It hears nobody else.
            client.connect((asked, address.port())).unwrap();
            client.send(b"hello").unwrap();
            let mut buffer = [0; 16];
            let received = receive(&socket, &mut buffer).unwrap();
            assert_eq!(received.to.to_canonical(), asked);
            send(&socket, &buffer[..received.length], received.to, received.client).unwrap();
            client.set_read_timeout(Some(std::time::Duration::from_secs(20))).unwrap();
            assert_eq!(client.recv(&mut buffer).unwrap(), 5, "{bound}, asked at {asked}");
        }
    }
}
