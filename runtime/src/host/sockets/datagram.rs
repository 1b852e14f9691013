//! What a UDP socket makes of datagrams, in both versions of `wasi:sockets`. It may have one peer that the guest chose.

use std::io;
use std::net::{IpAddr, SocketAddr};

use k8w_networking::udp::{Datagram, PodSocket};

/// Where a datagram goes: to the only peer, or, where there is none, to the address that it is given. `None` otherwise.
pub fn recipient(given: Option<SocketAddr>, only_peer: Option<SocketAddr>) -> Option<SocketAddr> {
    match (given, only_peer) {
        (Some(given), Some(peer)) => (given == peer).then_some(peer),
        (given, peer) => given.or(peer),
    }
}

/// Sends a datagram to its [`recipient`].
///
/// # Errors
/// Only a socket with one peer is told that nobody is there, as on Linux; otherwise the datagram is lost.
pub fn send(socket: &PodSocket, bytes: Vec<u8>, to: SocketAddr, only_peer: Option<SocketAddr>) -> io::Result<()> {
    match socket.send(bytes.into(), to) {
        Err(error) if only_peer.is_none() && error.kind() == io::ErrorKind::ConnectionRefused => Ok(()),
        sent => sent,
    }
}

/// A datagram as the guest sees it: `None` when it is not from the only peer, which is shown by the address that the guest
/// gave. Others are shown by addresses of the socket's family, so that they can be answered.
pub fn heard(
    socket: &PodSocket,
    mut datagram: Datagram,
    only_peer: Option<SocketAddr>,
    is_ipv6: bool,
) -> Option<Datagram> {
    match (only_peer, datagram.peer.ip()) {
        (Some(peer), _) if socket.peer_of(peer) != datagram.peer => return None,
        (Some(peer), _) => datagram.peer = peer,
        (None, IpAddr::V4(ip)) if is_ipv6 => datagram.peer.set_ip(ip.to_ipv6_mapped().into()),
        (None, _) => {}
    }
    Some(datagram)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_datagram_goes_to_the_only_peer_and_to_no_other() {
        let [one, other] = [1, 2].map(|port| SocketAddr::from(([10, 0, 0, 1], port)));
        for (given, only_peer, expected) in [
            (None, None, None),
            (Some(one), None, Some(one)),
            (None, Some(one), Some(one)),
            (Some(one), Some(one), Some(one)),
            (Some(other), Some(one), None),
        ] {
            assert_eq!(recipient(given, only_peer), expected, "{given:?} {only_peer:?}");
        }
    }
}
