//! A naive model of the TCP sockets of two pods: lists of sockets, ports and connections.

use std::collections::VecDeque;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use k8w_runtime::host::sockets::wit::network::ErrorCode;

use crate::pods::{MAX_SOCKETS, PODS};

/// What `wasi:sockets` gives, in the words of 0.2.
pub type Given<T = ()> = Result<T, ErrorCode>;

/// Both pods.
#[derive(Default)]
pub struct Model {
    pub sockets: Vec<Socket>,
    ports: Vec<Port>,
    connections: Vec<[End; 2]>,
}

#[derive(Clone, Copy)]
pub struct Socket {
    pub pod: usize,
    pub is_v6: bool,
    pub version: Version,
    pub state: State,
    /// What a guest of 0.3 has of it, which outlives it.
    streams: Streams,
}

/// Of WASI.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Version {
    P2,
    P3,
}

#[derive(Clone, Copy, Default)]
struct Streams {
    /// That of a port's connections.
    accepting: Option<usize>,
    way: Option<Way>,
    sends: Direction,
    receives: Direction,
}

/// One direction of a connection of 0.3.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Direction {
    /// The socket has it.
    #[default]
    Untaken,
    Taken,
    Dropped,
}

/// Ports are named by their place in the model.
#[derive(Clone, Copy)]
pub enum State {
    Unbound,
    BindStarted(usize),
    Bound(usize),
    ListenStarted(usize),
    Listening(usize),
    /// `None`: it will be refused.
    Connecting(Option<Way>),
    Connected(Way),
    /// A failed connect.
    Closed,
    Dropped,
}

struct Port {
    pod: usize,
    /// 0 for one that nobody knows.
    number: u16,
    is_private: bool,
    waiting: VecDeque<Way>,
    is_open: bool,
}

/// One end of a connection.
#[derive(Clone, Copy)]
pub struct Way {
    connection: usize,
    end: usize,
}

/// What one end of a connection has done.
#[derive(Clone, Copy, Default)]
pub struct End {
    pub sent: usize,
    pub received: usize,
    pub says_no_more: bool,
    pub hears_no_more: bool,
    /// Whether it has heard that there is nothing more to come.
    pub has_heard_the_end: bool,
    pub is_gone: bool,
}

/// What is answered where a state does not allow a call: one of 0.2 that waits for another is told so.
fn refusal(state: State) -> ErrorCode {
    match state {
        State::BindStarted(_) | State::ListenStarted(_) | State::Connecting(_) => ErrorCode::ConcurrencyConflict,
        _ => ErrorCode::InvalidState,
    }
}

impl Socket {
    /// Whether a guest has the socket, or one of its streams that count as it does.
    pub fn is_left(&self) -> bool {
        let Streams { accepting, sends, receives, .. } = self.streams;
        let has_stream = accepting.is_some() || [sends, receives].contains(&Direction::Taken);
        !matches!(self.state, State::Dropped) || has_stream
    }
}

impl Model {
    /// Sockets of a pod that exist.
    pub fn owned_by(&self, pod: usize) -> usize {
        self.sockets.iter().filter(|socket| socket.pod == pod && socket.is_left()).count()
    }

    pub fn create(&mut self, pod: usize, is_v6: bool, version: Version) -> Given {
        self.add(pod, is_v6, version, State::Unbound)
    }

    fn add(&mut self, pod: usize, is_v6: bool, version: Version, state: State) -> Given {
        if self.owned_by(pod) == MAX_SOCKETS {
            return Err(ErrorCode::NewSocketLimit);
        }
        let way = if let State::Connected(way) = state { Some(way) } else { None };
        let streams = Streams { way, ..Streams::default() };
        self.sockets.push(Socket { pod, is_v6, version, state, streams });
        Ok(())
    }

    pub fn start_bind(&mut self, at: usize, local: SocketAddr) -> Given {
        let Socket { pod, is_v6, state, .. } = self.sockets[at];
        if !matches!(state, State::Unbound) {
            return Err(refusal(state));
        }
        let (ip, number) = (local.ip().to_canonical(), local.port());
        if local.is_ipv6() != is_v6 {
            return Err(ErrorCode::InvalidArgument);
        }
        if !ip.is_loopback() && !ip.is_unspecified() && ip != PODS[pod] {
            return Err(ErrorCode::AddressNotBindable);
        }
        if number != 0 && self.port(pod, number).is_some() {
            return Err(ErrorCode::AddressInUse);
        }
        self.ports.push(Port { pod, number, is_private: ip.is_loopback(), waiting: VecDeque::new(), is_open: true });
        self.sockets[at].state = State::BindStarted(self.ports.len() - 1);
        Ok(())
    }

    fn port(&self, pod: usize, number: u16) -> Option<usize> {
        self.ports.iter().position(|port| port.is_open && port.pod == pod && port.number == number)
    }

    pub fn finish_bind(&mut self, at: usize) -> Given {
        let State::BindStarted(port) = self.sockets[at].state else { return Err(ErrorCode::NotInProgress) };
        self.sockets[at].state = State::Bound(port);
        Ok(())
    }

    pub fn start_listen(&mut self, at: usize) -> Given {
        let state = self.sockets[at].state;
        let State::Bound(port) = state else { return Err(refusal(state)) };
        self.sockets[at].state = State::ListenStarted(port);
        Ok(())
    }

    pub fn finish_listen(&mut self, at: usize) -> Given {
        let State::ListenStarted(port) = self.sockets[at].state else { return Err(ErrorCode::NotInProgress) };
        self.sockets[at].state = State::Listening(port);
        Ok(())
    }

    pub fn start_connect(&mut self, at: usize, remote: SocketAddr) -> Given {
        let Socket { pod, is_v6, state, .. } = self.sockets[at];
        if !matches!(state, State::Unbound | State::Bound(_)) {
            return Err(refusal(state));
        }
        if remote.is_ipv6() != is_v6 || remote.ip().to_canonical().is_unspecified() || remote.port() == 0 {
            return Err(ErrorCode::InvalidArgument);
        }
        self.give_up(state);
        let to = |ip: IpAddr| if ip.is_loopback() { Some(pod) } else { PODS.iter().position(|own| *own == ip) };
        let port = to(remote.ip().to_canonical()).and_then(|to| self.port(to, remote.port()));
        let port = port.filter(|port| !self.ports[*port].is_private || self.ports[*port].pod == pod);
        let way = port.map(|port| {
            self.connections.push(Default::default());
            let connection = self.connections.len() - 1;
            self.ports[port].waiting.push_back(Way { connection, end: 1 });
            Way { connection, end: 0 }
        });
        self.sockets[at].state = State::Connecting(way);
        Ok(())
    }

    pub fn finish_connect(&mut self, at: usize) -> Given {
        let State::Connecting(way) = self.sockets[at].state else { return Err(ErrorCode::NotInProgress) };
        self.sockets[at].state = way.map_or(State::Closed, State::Connected);
        way.map(drop).ok_or(ErrorCode::ConnectionRefused)
    }

    /// The new socket is the last one.
    pub fn accept(&mut self, at: usize) -> Given {
        let Socket { pod, is_v6, version, state, streams } = self.sockets[at];
        let ((State::Listening(port), None) | (_, Some(port))) = (state, streams.accepting) else {
            return Err(ErrorCode::InvalidState);
        };
        loop {
            let way = self.ports[port].waiting.pop_front().ok_or(ErrorCode::WouldBlock)?;
            let added = self.add(pod, is_v6, version, State::Connected(way));
            if added.is_err() {
                self.end(way).is_gone = true;
            }
            // Whoever accepts a stream of connections hears of none for which there is no room.
            if added.is_ok() || version == Version::P2 {
                return added;
            }
        }
    }

    pub fn drop(&mut self, at: usize) {
        let Socket { version, state, .. } = self.sockets[at];
        self.sockets[at].state = State::Dropped;
        match (version, state) {
            // Its streams have these.
            (Version::P3, State::Listening(_)) => {}
            (Version::P3, State::Connected(_)) => self.look_after(at),
            _ => self.give_up(state),
        }
    }

    /// 0.3: as both steps of 0.2.
    pub fn bind(&mut self, at: usize, local: SocketAddr) -> Given {
        self.start_bind(at, local)?;
        self.finish_bind(at)
    }

    /// 0.3: a socket without a port gets one.
    pub fn listen(&mut self, at: usize) -> Given {
        let Socket { is_v6, state, .. } = self.sockets[at];
        if matches!(state, State::Unbound) {
            let any = if is_v6 { Ipv6Addr::UNSPECIFIED.into() } else { Ipv4Addr::UNSPECIFIED.into() };
            self.bind(at, SocketAddr::new(any, 0))?;
        }
        self.start_listen(at)?;
        self.finish_listen(at)?;
        if let State::Listening(port) = self.sockets[at].state {
            self.sockets[at].streams.accepting = Some(port);
        }
        Ok(())
    }

    /// 0.3: as both steps of 0.2.
    pub fn connect(&mut self, at: usize, remote: SocketAddr) -> Given {
        self.start_connect(at, remote)?;
        let connected = self.finish_connect(at);
        if let State::Connected(way) = self.sockets[at].state {
            self.sockets[at].streams.way = Some(way);
        }
        connected
    }

    /// 0.3: each direction is given once.
    pub fn take(&mut self, at: usize, sends: bool) -> Given {
        let Socket { state, streams, .. } = &mut self.sockets[at];
        let direction = if sends { &mut streams.sends } else { &mut streams.receives };
        if !matches!(state, State::Connected(_)) || *direction != Direction::Untaken {
            return Err(ErrorCode::InvalidState);
        }
        *direction = Direction::Taken;
        Ok(())
    }

    /// 0.3: a guest drops a direction that it had.
    pub fn drop_direction(&mut self, at: usize, sends: bool) {
        let Streams { way, sends: sending, receives, .. } = &mut self.sockets[at].streams;
        *if sends { sending } else { receives } = Direction::Dropped;
        if let Some(way) = way.filter(|_| sends) {
            self.end(way).says_no_more = true;
        }
        self.look_after(at);
    }

    /// 0.3: a guest drops the stream of connections.
    pub fn drop_accepting(&mut self, at: usize) {
        if let Some(port) = self.sockets[at].streams.accepting.take() {
            self.give_up(State::Listening(port));
        }
    }

    /// Ends a connection of 0.3 of which nobody has anything.
    fn look_after(&mut self, at: usize) {
        let Socket { state, streams: Streams { way, sends, receives, .. }, .. } = self.sockets[at];
        let is_had = |direction| match direction {
            Direction::Untaken => matches!(state, State::Connected(_)),
            Direction::Taken => true,
            Direction::Dropped => false,
        };
        if let Some(way) = way.filter(|_| !is_had(sends) && !is_had(receives)) {
            self.end(way).is_gone = true;
        }
    }

    /// The connection of a socket, or of what is left of it.
    pub fn way(&self, at: usize) -> Option<Way> {
        match self.sockets[at] {
            Socket { version: Version::P3, streams, .. } => streams.way,
            Socket { state: State::Connected(way), .. } => Some(way),
            _ => None,
        }
    }

    /// Ends what a socket had.
    fn give_up(&mut self, state: State) {
        match state {
            State::BindStarted(port) | State::Bound(port) | State::ListenStarted(port) | State::Listening(port) => {
                self.ports[port].is_open = false;
                for way in std::mem::take(&mut self.ports[port].waiting) {
                    self.end(way).is_gone = true;
                }
            }
            State::Connecting(Some(way)) | State::Connected(way) => self.end(way).is_gone = true,
            State::Unbound | State::Connecting(None) | State::Closed | State::Dropped => {}
        }
    }

    /// The port that a socket has, 0 for any.
    pub fn port_of(&self, at: usize) -> Option<u16> {
        match self.sockets[at].state {
            State::Bound(port) | State::ListenStarted(port) | State::Listening(port) => Some(self.ports[port].number),
            _ => None,
        }
    }

    pub fn end(&mut self, way: Way) -> &mut End {
        &mut self.connections[way.connection][way.end]
    }

    /// The other end.
    pub fn peer(&mut self, way: Way) -> &mut End {
        &mut self.connections[way.connection][1 - way.end]
    }
}
