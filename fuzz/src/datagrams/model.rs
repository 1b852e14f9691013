//! A naive model of the UDP sockets of two pods: lists of sockets, and of ports with what waits in front of them.

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};

use super::{BATCH_DATAGRAMS, MAX_DATAGRAM_BYTES, QUEUE_BYTES, QUEUE_DATAGRAMS};
use crate::pods::{MAX_SOCKETS, PODS};

/// What a call is answered with, in either version's words; a trap ends the guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    InvalidState,
    InvalidArgument,
    NotBindable,
    InUse,
    TooLarge,
    Refused,
    Conflict,
    NotInProgress,
    TooMany,
    Trap,
}

pub type Given<T = ()> = Result<T, Error>;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    P2,
    P3,
}

#[derive(Default)]
pub struct Model {
    pub sockets: Vec<Socket>,
    ports: Vec<Port>,
}

pub struct Socket {
    pub pod: usize,
    pub is_v6: bool,
    pub version: Version,
    pub state: State,
    pub remote: Option<SocketAddr>,
    /// Whether the guest has the streams of 0.2.
    pub has_incoming: bool,
    pub has_outgoing: bool,
    /// Taken out of the port, and not heard yet.
    next: Option<Letter>,
    permitted: usize,
}

/// Ports are named by their place in the model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    Unbound,
    BindStarted(usize),
    Bound(usize),
    Dropped,
}

struct Port {
    pod: usize,
    number: u16,
    is_private: bool,
    is_open: bool,
    waiting: VecDeque<Letter>,
}

/// A datagram: bytes that are all the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Letter {
    pub from: SocketAddr,
    pub length: usize,
    pub byte: u8,
}

impl Model {
    /// Sockets of a pod that exist.
    pub fn owned_by(&self, pod: usize) -> usize {
        self.sockets.iter().filter(|socket| socket.pod == pod && socket.state != State::Dropped).count()
    }

    pub fn create(&mut self, pod: usize, is_v6: bool, version: Version) -> Given {
        if self.owned_by(pod) == MAX_SOCKETS {
            return Err(Error::TooMany);
        }
        let (has_incoming, has_outgoing) = (false, false);
        let (state, remote, next, permitted) = (State::Unbound, None, None, 0);
        self.sockets.push(Socket { pod, is_v6, version, state, remote, has_incoming, has_outgoing, next, permitted });
        Ok(())
    }

    /// With port 0 its number is said afterwards: [`Model::name_port`].
    pub fn bind(&mut self, at: usize, local: SocketAddr) -> Given {
        let Socket { pod, is_v6, version, state, .. } = self.sockets[at];
        match state {
            State::Unbound => {}
            State::BindStarted(_) => return Err(Error::Conflict),
            State::Bound(_) | State::Dropped => return Err(Error::InvalidState),
        }
        if local.is_ipv6() != is_v6 {
            return Err(Error::InvalidArgument);
        }
        let (ip, number) = (local.ip().to_canonical(), local.port());
        if !ip.is_loopback() && !ip.is_unspecified() && ip != PODS[pod] {
            return Err(Error::NotBindable);
        }
        if number != 0 && self.port(pod, number).is_some() {
            return Err(Error::InUse);
        }
        self.ports.push(Port { pod, number, is_private: ip.is_loopback(), is_open: true, waiting: VecDeque::new() });
        let port = self.ports.len() - 1;
        self.sockets[at].state = if version == Version::P2 { State::BindStarted(port) } else { State::Bound(port) };
        Ok(())
    }

    /// Whether the number of a socket's port is not known.
    pub fn is_nameless(&self, at: usize) -> bool {
        matches!(self.sockets[at].state, State::Bound(port) if self.ports[port].number == 0)
    }

    pub fn name_port(&mut self, at: usize, number: u16) {
        let (State::Bound(port), pod) = (self.sockets[at].state, self.sockets[at].pod) else { return };
        assert!(number >= 1024 && self.port(pod, number).is_none(), "{number} is given twice");
        self.ports[port].number = number;
    }

    fn port(&self, pod: usize, number: u16) -> Option<usize> {
        self.ports.iter().position(|port| port.is_open && port.pod == pod && port.number == number)
    }

    pub fn finish_bind(&mut self, at: usize) -> Given {
        let State::BindStarted(port) = self.sockets[at].state else { return Err(Error::NotInProgress) };
        self.sockets[at].state = State::Bound(port);
        Ok(())
    }

    /// A socket of 0.3 gets a port when it first needs one.
    fn bind_silently(&mut self, at: usize) {
        let Socket { pod, state: State::Unbound, .. } = self.sockets[at] else { return };
        self.ports.push(Port { pod, number: 0, is_private: false, is_open: true, waiting: VecDeque::new() });
        self.sockets[at].state = State::Bound(self.ports.len() - 1);
    }

    fn is_remote(&self, at: usize, remote: SocketAddr) -> bool {
        let is_address = !remote.ip().to_canonical().is_unspecified() && remote.port() != 0;
        remote.is_ipv6() == self.sockets[at].is_v6 && is_address
    }

    /// `stream` of 0.2.
    pub fn stream(&mut self, at: usize, remote: Option<SocketAddr>) -> Given {
        if remote.is_some_and(|remote| !self.is_remote(at, remote)) {
            return Err(Error::InvalidArgument);
        }
        let socket = &mut self.sockets[at];
        if !matches!(socket.state, State::Bound(_)) {
            return Err(Error::InvalidState);
        }
        if socket.has_incoming || socket.has_outgoing {
            return Err(Error::Trap);
        }
        (socket.remote, socket.has_incoming, socket.has_outgoing, socket.permitted) = (remote, true, true, 0);
        Ok(())
    }

    /// `connect` of 0.3.
    pub fn connect(&mut self, at: usize, remote: SocketAddr) -> Given {
        if !self.is_remote(at, remote) {
            return Err(Error::InvalidArgument);
        }
        self.bind_silently(at);
        self.sockets[at].remote = Some(remote);
        Ok(())
    }

    pub fn disconnect(&mut self, at: usize) -> Given {
        self.sockets[at].remote.take().map(drop).ok_or(Error::InvalidState)
    }

    pub fn permit(&mut self, at: usize) {
        self.sockets[at].permitted = BATCH_DATAGRAMS;
    }

    /// Several at once, as 0.2 does: how many were sent before the first that could not be.
    pub fn send_all(&mut self, at: usize, letters: &[(Option<SocketAddr>, usize, u8)]) -> Given<usize> {
        if letters.len() > self.sockets[at].permitted {
            return Err(Error::Trap);
        }
        self.sockets[at].permitted = 0;
        for (sent, (to, length, byte)) in letters.iter().enumerate() {
            match self.send(at, *to, *length, *byte) {
                Ok(()) => {}
                Err(_) if sent > 0 => return Ok(sent),
                Err(error) => return Err(error),
            }
        }
        Ok(letters.len())
    }

    pub fn send(&mut self, at: usize, to: Option<SocketAddr>, length: usize, byte: u8) -> Given {
        let remote = self.sockets[at].remote;
        let to = match (to, remote) {
            (Some(to), Some(remote)) if to != remote => return Err(Error::InvalidArgument),
            (to, remote) => to.or(remote).filter(|to| self.is_remote(at, *to)).ok_or(Error::InvalidArgument)?,
        };
        if length > MAX_DATAGRAM_BYTES {
            return Err(Error::TooLarge);
        }
        self.bind_silently(at);
        let pod = self.sockets[at].pod;
        let ip = to.ip().to_canonical();
        let there = if ip.is_loopback() { Some(pod) } else { PODS.iter().position(|own| *own == ip) };
        let port = there.and_then(|there| self.port(there, to.port()));
        let Some(port) = port.filter(|port| !self.ports[*port].is_private || self.ports[*port].pod == pod) else {
            // Whoever chose no peer does not hear of it.
            return if remote.is_some() { Err(Error::Refused) } else { Ok(()) };
        };
        let letter = Letter { from: self.address_of(at), length, byte };
        let waiting = &mut self.ports[port].waiting;
        let bytes: usize = waiting.iter().map(|letter| letter.length).sum();
        if bytes + length <= QUEUE_BYTES && waiting.len() < QUEUE_DATAGRAMS {
            waiting.push_back(letter);
        }
        Ok(())
    }

    /// Where its datagrams come from. A port that was taken for this very one has no number yet.
    fn address_of(&self, at: usize) -> SocketAddr {
        let number = match self.sockets[at].state {
            State::Bound(port) => self.ports[port].number,
            _ => 0,
        };
        SocketAddr::new(PODS[self.sockets[at].pod], number)
    }

    /// The next datagram from whom the socket listens to; others are lost.
    pub fn receive(&mut self, at: usize) -> Option<Letter> {
        if let Some(next) = self.sockets[at].next.take() {
            return Some(next);
        }
        let Socket { pod, remote, state: State::Bound(port), .. } = self.sockets[at] else { return None };
        let seen = remote.map(|remote| match remote.ip().to_canonical() {
            ip if ip.is_loopback() => SocketAddr::new(PODS[pod], remote.port()),
            ip => SocketAddr::new(ip, remote.port()),
        });
        loop {
            let letter = self.ports[port].waiting.pop_front()?;
            if seen.is_none_or(|seen| seen == letter.from) {
                return Some(letter);
            }
        }
    }

    /// What a guest does that polls for the next one.
    pub fn ready(&mut self, at: usize) {
        self.sockets[at].next = self.receive(at);
    }

    /// Where a socket's datagrams seem to come from: an address of its family, or its only peer as it was given.
    pub fn shown(&self, at: usize, from: SocketAddr) -> SocketAddr {
        let Socket { is_v6, remote, .. } = self.sockets[at];
        match (remote, from.ip()) {
            (Some(remote), _) => remote,
            (None, IpAddr::V4(ip)) if is_v6 => SocketAddr::new(ip.to_ipv6_mapped().into(), from.port()),
            (None, _) => from,
        }
    }

    pub fn drop_incoming(&mut self, at: usize) {
        (self.sockets[at].has_incoming, self.sockets[at].next) = (false, None);
    }

    pub fn drop(&mut self, at: usize) {
        self.drop_incoming(at);
        self.sockets[at].has_outgoing = false;
        let state = std::mem::replace(&mut self.sockets[at].state, State::Dropped);
        if let State::BindStarted(port) | State::Bound(port) = state {
            self.ports[port].is_open = false;
        }
    }
}
