//! UDP of `wasi:sockets` 0.2 and 0.3: whatever two pods do with their sockets, in whatever order, each call gives what a naive
//! model gives; a datagram arrives once, whole, in order and from where it can be answered, or there was no room for it.

mod model;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, OnceLock};

use futures::FutureExt;
use k8w_networking::Network;
use k8w_networking::udp::MAX_DATAGRAM_BYTES;
use k8w_runtime::host::p3::sockets::udp::UdpSocket as Later;
use k8w_runtime::host::p3::sockets::wit::types as p3;
use k8w_runtime::host::pod_network::PodNetwork;
use k8w_runtime::host::sockets::wit::instance_network::Host as _;
use k8w_runtime::host::sockets::wit::network::{ErrorCode, IpAddressFamily};
use k8w_runtime::host::sockets::wit::udp::{
    HostIncomingDatagramStream as _, HostOutgoingDatagramStream as _, HostUdpSocket as _, IncomingDatagramStream,
    OutgoingDatagram, OutgoingDatagramStream, UdpSocket,
};
use k8w_runtime::host::sockets::wit::udp_create_socket::Host as _;
use k8w_runtime::host::sockets::{Pollable as _, Resource, ResourceTable, SocketResult, Sockets};
use model::{Error, Given, Letter, Model, State, Version};
use tokio::runtime::{Builder, Runtime};
use tokio::task::unconstrained;

use crate::pods::{address, identity, networks};

const MAX_CALLS: usize = 128;
/// What may wait in front of a port.
const QUEUE_BYTES: usize = 212_992;
const QUEUE_DATAGRAMS: usize = 1_024;
/// Datagrams that one call of 0.2 sends, and receives, at most.
const BATCH_DATAGRAMS: usize = 16;
/// Lengths of datagrams; one is too long.
const LENGTHS: [usize; 8] = [0, 1, 2, 1_000, 20_000, 60_000, MAX_DATAGRAM_BYTES, MAX_DATAGRAM_BYTES + 1];

thread_local! {
    static RUNTIME: Runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
}

/// An input is a list of calls, four bytes each: what, by which socket, with what, how much.
pub fn check(input: &[u8]) {
    let networks = networks(network());
    RUNTIME.with(|runtime| {
        runtime.block_on(async {
            let mut world = World::new(&networks);
            for call in input.as_chunks().0.iter().take(MAX_CALLS) {
                world.call(*call);
                let sockets = [0, 1].map(|pod| world.model.owned_by(pod));
                assert_eq!([&networks[0], &networks[1]].map(|network| network.sockets()), sockets);
            }
        });
    });
    assert_eq!(networks.map(|network| network.sockets()), [0, 0]);
    for (pod, port) in [(0, 80), (0, 81), (1, 80), (1, 81)] {
        assert!(network().bind_udp(&identity(pod), port).is_ok(), "port {port} of pod {pod} is still taken");
    }
}

fn network() -> &'static Arc<Network> {
    static NETWORK: OnceLock<Arc<Network>> = OnceLock::new();
    NETWORK.get_or_init(crate::network::node)
}

/// Both pods, and what should be of them.
struct World<'n> {
    networks: &'n [Arc<PodNetwork>; 2],
    tables: [ResourceTable; 2],
    model: Model,
    /// In the model's order.
    handles: Vec<Handle>,
    /// Who was heard last.
    heard: Option<SocketAddr>,
}

/// What a guest holds of a socket.
enum Handle {
    P2 {
        socket: u32,
        incoming: Option<Resource<IncomingDatagramStream>>,
        outgoing: Option<Resource<OutgoingDatagramStream>>,
    },
    P3(Option<Box<Later>>),
}

impl<'n> World<'n> {
    fn new(networks: &'n [Arc<PodNetwork>; 2]) -> Self {
        let (tables, model) = (Default::default(), Model::default());
        Self { networks, tables, model, handles: Vec::new(), heard: None }
    }

    fn sockets(&mut self, pod: usize) -> Sockets<'_> {
        Sockets { table: &mut self.tables[pod], network: &self.networks[pod] }
    }

    fn call(&mut self, [what, who, with, amount]: [u8; 4]) {
        if what % 16 == 0 {
            let version = if amount % 2 == 0 { Version::P2 } else { Version::P3 };
            return self.create(usize::from(who % 2), with % 4 == 0, version);
        }
        let all: Vec<usize> =
            (0..self.handles.len()).filter(|at| self.model.sockets[*at].state != State::Dropped).collect();
        let Some(&at) = all.get(usize::from(who) % all.len().max(1)) else { return };
        let (pod, is_v6) = (self.model.sockets[at].pod, self.model.sockets[at].is_v6);
        let address = match self.heard {
            Some(heard) if with >= 224 => heard,
            _ => address(pod, is_v6, with),
        };
        match self.model.sockets[at].version {
            Version::P2 => self.call_p2(at, what % 16, address, with, amount),
            Version::P3 => self.call_p3(at, what % 16, address, with, amount),
        }
    }

    fn create(&mut self, pod: usize, is_v6: bool, version: Version) {
        let expected = self.model.create(pod, is_v6, version);
        match version {
            Version::P2 => {
                let family = if is_v6 { IpAddressFamily::Ipv6 } else { IpAddressFamily::Ipv4 };
                let created = self.sockets(pod).create_udp_socket(family);
                if let Some(socket) = same(given(created), expected) {
                    self.handles.push(Handle::P2 { socket: socket.rep(), incoming: None, outgoing: None });
                }
            }
            Version::P3 => {
                let family = if is_v6 { p3::IpAddressFamily::Ipv6 } else { p3::IpAddressFamily::Ipv4 };
                let created = Later::new(&self.networks[pod], family).ok_or(Error::TooMany);
                if let Some(socket) = same(created, expected) {
                    self.handles.push(Handle::P3(Some(Box::new(socket))));
                }
            }
        }
    }

    fn call_p2(&mut self, at: usize, what: u8, address: SocketAddr, with: u8, amount: u8) {
        let pod = self.model.sockets[at].pod;
        let Handle::P2 { socket, incoming, outgoing } = &mut self.handles[at] else { return };
        let mut sockets = Sockets { table: &mut self.tables[pod], network: &self.networks[pod] };
        let own = || Resource::<UdpSocket>::new_borrow(*socket);
        match what {
            1 => {
                let network = sockets.instance_network().expect("room in the table");
                let done = sockets.start_bind(own(), network, address.into());
                same(given(done), self.model.bind(at, address));
            }
            2 => {
                let finished = sockets.finish_bind(own());
                if same(given(finished), self.model.finish_bind(at)).is_some() && self.model.is_nameless(at) {
                    let local = given(sockets.local_address(own())).expect("a port");
                    self.model.name_port(at, SocketAddr::from(local).port());
                }
            }
            3 | 4 => {
                let remote = (what == 3).then_some(address);
                let streams = sockets.stream(own(), remote.map(Into::into));
                if let Some((input, output)) = same(given(streams), self.model.stream(at, remote)) {
                    (*incoming, *outgoing) = (Some(input), Some(output));
                }
            }
            5 => {
                if let Some(input) = incoming.take_if(|_| with.is_multiple_of(2)) {
                    self.model.drop_incoming(at);
                    sockets.table.delete(input).expect("a stream");
                }
                if let Some(output) = outgoing.take_if(|_| with.is_multiple_of(3)) {
                    self.model.sockets[at].has_outgoing = false;
                    sockets.table.delete(output).expect("a stream");
                }
            }
            6 => {
                incoming.take().into_iter().for_each(|input| drop(sockets.table.delete(input).expect("a stream")));
                outgoing.take().into_iter().for_each(|output| drop(sockets.table.delete(output).expect("a stream")));
                sockets.table.delete(Resource::<UdpSocket>::new_own(*socket)).expect("a socket");
                self.model.drop(at);
            }
            7 => {
                let Some(input) = incoming else { return };
                let input = sockets.table.get_mut(input).expect("a stream");
                unconstrained(input.ready()).now_or_never();
                self.model.ready(at);
            }
            8 => {
                let local = given(sockets.local_address(own())).map(SocketAddr::from);
                match self.model.sockets[at].state {
                    State::Bound(_) => assert!(local.is_ok_and(|local| local.port() != 0)),
                    State::BindStarted(_) => assert_eq!(local, Err(Error::Conflict)),
                    State::Unbound | State::Dropped => assert_eq!(local, Err(Error::InvalidState)),
                }
                let remote = given(sockets.remote_address(own())).map(SocketAddr::from);
                assert_eq!(remote, self.model.sockets[at].remote.ok_or(Error::InvalidState));
                let valid = if amount == 0 { Err(Error::InvalidArgument) } else { Ok(()) };
                if same(given(sockets.set_unicast_hop_limit(own(), amount)), valid).is_some() {
                    assert_eq!(sockets.unicast_hop_limit(own()).ok(), Some(amount));
                }
            }
            9 | 10 => {
                let Some(output) = outgoing else { return };
                let permitted = sockets.check_send(Resource::new_borrow(output.rep()));
                assert_eq!(given(permitted), Ok(BATCH_DATAGRAMS as u64));
                self.model.permit(at);
            }
            11..=13 => {
                let Some(output) = outgoing else { return };
                let count = if what == 13 { usize::from(amount) % (BATCH_DATAGRAMS + 2) } else { 1 };
                let to = (with % 3 != 2).then_some(address);
                let letters: Vec<_> =
                    (0..count).map(|i| (to, LENGTHS[(usize::from(amount) + i) % LENGTHS.len()], amount)).collect();
                let datagrams = letters.iter().map(|(to, length, byte)| OutgoingDatagram {
                    data: vec![*byte; *length],
                    remote_address: to.map(Into::into),
                });
                let sent = sockets.send(Resource::new_borrow(output.rep()), datagrams.collect());
                let expected = self.model.send_all(at, &letters).map(|sent| sent as u64);
                assert_eq!(given(sent), expected);
            }
            _ => {
                let Some(input) = incoming else { return };
                let most = usize::from(amount) % (BATCH_DATAGRAMS + 4);
                let received = sockets.receive(Resource::new_borrow(input.rep()), most as u64);
                let received = given(received).expect("a list");
                let expected = std::iter::from_fn(|| self.model.receive(at)).take(most.min(BATCH_DATAGRAMS));
                let expected: Vec<Letter> = expected.collect();
                assert_eq!(received.len(), expected.len());
                for (datagram, letter) in received.into_iter().zip(expected) {
                    let from = SocketAddr::from(datagram.remote_address);
                    self.heard = Some(from);
                    is_the_same(&datagram.data, from, letter, self.model.shown(at, letter.from));
                }
            }
        }
    }

    fn call_p3(&mut self, at: usize, what: u8, address: SocketAddr, with: u8, amount: u8) {
        let own = &self.networks[self.model.sockets[at].pod];
        let Handle::P3(place) = &mut self.handles[at] else { return };
        let Some(socket) = place else { return };
        let to = (with % 3 != 2).then_some(address);
        match what {
            1 | 2 => drop(same(given_p3(socket.bind(own, address)), self.model.bind(at, address))),
            3 | 4 => drop(same(given_p3(socket.connect(own, address)), self.model.connect(at, address))),
            5 => drop(same(given_p3(socket.disconnect()), self.model.disconnect(at))),
            6 => {
                *place = None;
                return self.model.drop(at);
            }
            7 | 8 => {
                let is_bound = matches!(self.model.sockets[at].state, State::Bound(_));
                let local = given_p3(socket.local_address());
                assert_eq!(
                    local.map(|local| local.port() != 0),
                    if is_bound { Ok(true) } else { Err(Error::InvalidState) }
                );
                let remote = self.model.sockets[at].remote.ok_or(Error::InvalidState);
                assert_eq!(given_p3(socket.remote_address()), remote);
            }
            9..=12 => {
                let length = LENGTHS[usize::from(amount) % LENGTHS.len()];
                // So that the model knows from where it comes.
                if matches!(self.model.sockets[at].state, State::Unbound) {
                    let is_v6 = self.model.sockets[at].is_v6;
                    let any: IpAddr = if is_v6 { Ipv6Addr::UNSPECIFIED.into() } else { Ipv4Addr::UNSPECIFIED.into() };
                    let own_address = SocketAddr::new(any, 0);
                    if what.is_multiple_of(2) {
                        same(given_p3(socket.bind(own, own_address)), self.model.bind(at, own_address));
                        let local = given_p3(socket.local_address()).expect("a port");
                        self.model.name_port(at, local.port());
                    } else {
                        // A port that it takes by itself, with a datagram to nobody.
                        let nobody = self::address(0, is_v6, 6);
                        let sent = given_p3(socket.send(own, vec![amount; length], Some(nobody)));
                        assert_eq!(sent, self.model.send(at, Some(nobody), length, amount));
                    }
                } else {
                    let sent = given_p3(socket.send(own, vec![amount; length], to));
                    assert_eq!(sent, self.model.send(at, to, length, amount));
                }
            }
            _ => {
                let is_bound = matches!(self.model.sockets[at].state, State::Bound(_));
                let receiver = match given_p3(socket.receiver()) {
                    Ok(receiver) if is_bound => receiver,
                    other => return assert_eq!(other.err(), (!is_bound).then_some(Error::InvalidState)),
                };
                let received = unconstrained(receiver.receive()).now_or_never();
                let expected = self.model.receive(at);
                assert_eq!(received.is_some(), expected.is_some());
                if let Some((datagram, letter)) = received.zip(expected) {
                    self.heard = Some(datagram.peer);
                    is_the_same(&datagram.bytes, datagram.peer, letter, self.model.shown(at, letter.from));
                }
            }
        }
        if self.model.is_nameless(at)
            && let Handle::P3(Some(socket)) = &self.handles[at]
        {
            let local = given_p3(socket.local_address()).expect("a port");
            self.model.name_port(at, local.port());
        }
    }
}

/// What came is what was sent, from where it was sent.
fn is_the_same(bytes: &[u8], from: SocketAddr, letter: Letter, shown: SocketAddr) {
    assert_eq!((bytes.len(), from), (letter.length, shown));
    assert!(bytes.iter().all(|byte| *byte == letter.byte));
}

/// Asserts that a call and the model give the same error, or none; what the call gives.
fn same<T>(real: Given<T>, expected: Given) -> Option<T> {
    assert_eq!(real.as_ref().err(), expected.as_ref().err());
    real.ok()
}

/// What a call of 0.2 gives, in the model's words.
fn given<T>(real: SocketResult<T>) -> Given<T> {
    real.map_err(|error| match error.downcast() {
        Ok(ErrorCode::InvalidState) => Error::InvalidState,
        Ok(ErrorCode::InvalidArgument) => Error::InvalidArgument,
        Ok(ErrorCode::AddressNotBindable) => Error::NotBindable,
        Ok(ErrorCode::AddressInUse) => Error::InUse,
        Ok(ErrorCode::DatagramTooLarge) => Error::TooLarge,
        Ok(ErrorCode::ConnectionRefused) => Error::Refused,
        Ok(ErrorCode::ConcurrencyConflict) => Error::Conflict,
        Ok(ErrorCode::NotInProgress) => Error::NotInProgress,
        Ok(ErrorCode::NewSocketLimit) => Error::TooMany,
        Ok(other) => panic!("{other:?}"),
        Err(_) => Error::Trap,
    })
}

/// Likewise of 0.3.
fn given_p3<T>(real: Result<T, p3::ErrorCode>) -> Given<T> {
    real.map_err(|error| match error {
        p3::ErrorCode::InvalidState => Error::InvalidState,
        p3::ErrorCode::InvalidArgument => Error::InvalidArgument,
        p3::ErrorCode::AddressNotBindable => Error::NotBindable,
        p3::ErrorCode::AddressInUse => Error::InUse,
        p3::ErrorCode::DatagramTooLarge => Error::TooLarge,
        p3::ErrorCode::ConnectionRefused => Error::Refused,
        other => panic!("{other:?}"),
    })
}
