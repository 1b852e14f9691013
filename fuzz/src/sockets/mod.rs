//! TCP of `wasi:sockets` 0.2 and 0.3: whatever two pods do with their sockets, in whatever order, each call gives what a
//! naive model gives; bytes arrive once and in order; nobody has more sockets, or bytes on their way, than may be; nothing is
//! left.

mod model;

use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, Waker};

use futures::FutureExt;
use k8w_networking::Network;
use k8w_runtime::host::p3::sockets::tcp::{Accepting, TcpSocket as Later};
use k8w_runtime::host::p3::sockets::wit::types as p3;
use k8w_runtime::host::pod_network::PodNetwork;
use k8w_runtime::host::sockets::wit::instance_network::Host as _;
use k8w_runtime::host::sockets::wit::network::{ErrorCode, IpAddressFamily};
use k8w_runtime::host::sockets::wit::tcp::{HostTcpSocket as _, ShutdownType, TcpSocket};
use k8w_runtime::host::sockets::wit::tcp_create_socket::Host as _;
use k8w_runtime::host::sockets::{
    DynInputStream, DynOutputStream, NetworkHandle, Pollable as _, Resource, ResourceTable, SocketResult, Sockets,
    StreamError,
};
use model::{Given, Model, State, Version};
use tokio::runtime::{Builder, Runtime};

use crate::pods::{PODS, address, networks};

/// No more than connections may wait in front of a port, so that none is refused for want of room.
const MAX_CALLS: usize = 128;
/// Bytes that a connection holds in one direction, those that its writer may write ahead, and those that its reader does.
const BUFFER_BYTES: usize = 64 << 10;

thread_local! {
    static RUNTIME: Runtime = Builder::new_current_thread().enable_time().build().expect("a runtime");
}

/// An input is a list of calls, four bytes each: what, by which socket, with what, how much.
pub fn check(input: &[u8]) {
    let networks = networks(network());
    RUNTIME.with(|runtime| {
        runtime.block_on(async {
            let mut world = World::new(&networks);
            for call in input.as_chunks().0.iter().take(MAX_CALLS) {
                world.call(*call).await;
                settle().await;
                let sockets = [0, 1].map(|pod| world.model.owned_by(pod));
                assert_eq!([&networks[0], &networks[1]].map(|network| network.sockets()), sockets);
            }
            drop(world);
            settle().await;
            let tasks = tokio::runtime::Handle::current().metrics().num_alive_tasks();
            assert_eq!(tasks, 0, "tasks are left");
        });
    });
    assert_eq!(networks.map(|network| network.sockets()), [0, 0]);
    for (ip, port) in [(PODS[0], 80), (PODS[0], 81), (PODS[1], 80), (PODS[1], 81)] {
        assert!(network().select(None, SocketAddr::new(ip, port)).is_err(), "{ip}:{port} is still taken");
    }
}

fn network() -> &'static Arc<Network> {
    static NETWORK: OnceLock<Arc<Network>> = OnceLock::new();
    NETWORK.get_or_init(crate::network::node)
}

/// Lets tasks of the network run until none of them can.
async fn settle() {
    for _ in 0..4 {
        tokio::task::yield_now().await;
    }
}

/// Both pods, and what should be of them.
struct World<'n> {
    networks: &'n [Arc<PodNetwork>; 2],
    tables: [ResourceTable; 2],
    model: Model,
    /// In the model's order.
    handles: Vec<Handles>,
}

/// What a guest holds of a socket.
enum Handles {
    P2 { socket: u32, input: Option<Resource<DynInputStream>>, output: Option<Resource<DynOutputStream>> },
    P3(Box<LaterHandles>),
}

#[derive(Default)]
struct LaterHandles {
    socket: Option<Later>,
    accepting: Option<Accepting>,
    input: Option<DynInputStream>,
    output: Option<DynOutputStream>,
}

impl Handles {
    fn of_p2(socket: &Resource<TcpSocket>) -> Handles {
        Handles::P2 { socket: socket.rep(), input: None, output: None }
    }

    fn of_p3(socket: Later) -> Handles {
        Handles::P3(Box::new(LaterHandles { socket: Some(socket), ..LaterHandles::default() }))
    }

    /// The socket in the table of a guest of 0.2.
    fn socket(&self) -> Resource<TcpSocket> {
        match self {
            Handles::P2 { socket, .. } => Resource::new_borrow(*socket),
            Handles::P3(_) => panic!("a socket of 0.3 is in no table"),
        }
    }

    /// A stream that the guest has: those of both versions are of one kind.
    fn input<'h>(&'h mut self, table: &'h mut ResourceTable) -> Option<&'h mut DynInputStream> {
        match self {
            Handles::P2 { input, .. } => Some(table.get_mut(input.as_ref()?).expect("a stream")),
            Handles::P3(handles) => handles.input.as_mut(),
        }
    }

    fn output<'h>(&'h mut self, table: &'h mut ResourceTable) -> Option<&'h mut DynOutputStream> {
        match self {
            Handles::P2 { output, .. } => Some(table.get_mut(output.as_ref()?).expect("a stream")),
            Handles::P3(handles) => handles.output.as_mut(),
        }
    }

    fn hold(&mut self, streams: (Resource<DynInputStream>, Resource<DynOutputStream>)) {
        if let Handles::P2 { input, output, .. } = self {
            (*input, *output) = (Some(streams.0), Some(streams.1));
        }
    }
}

impl<'n> World<'n> {
    fn new(networks: &'n [Arc<PodNetwork>; 2]) -> Self {
        Self { networks, tables: Default::default(), model: Model::default(), handles: Vec::new() }
    }

    fn sockets(&mut self, pod: usize) -> Sockets<'_> {
        Sockets { table: &mut self.tables[pod], network: &self.networks[pod] }
    }

    /// The host functions of a socket's instance, and the socket.
    fn of(&mut self, at: usize) -> (Sockets<'_>, Resource<TcpSocket>) {
        let socket = self.handles[at].socket();
        (self.sockets(self.model.sockets[at].pod), socket)
    }

    async fn call(&mut self, [what, who, with, amount]: [u8; 4]) {
        if what % 16 == 0 {
            let version = if amount % 2 == 0 { Version::P2 } else { Version::P3 };
            return self.create(usize::from(who % 2), with % 4 == 0, version);
        }
        let all: Vec<usize> = (0..self.handles.len()).filter(|at| self.model.sockets[*at].is_left()).collect();
        let Some(&at) = all.get(usize::from(who) % all.len().max(1)) else { return };
        let address = address(self.model.sockets[at].pod, self.model.sockets[at].is_v6, with);
        match (what % 16, self.model.sockets[at].version) {
            (12 | 13, _) => self.read(at, 1 + usize::from(amount) * 311, with),
            (14 | 15, _) => self.write(at, usize::from(amount) * 257),
            (what, Version::P2) => self.call_p2(at, what, address, with, amount).await,
            (what, Version::P3) => self.call_p3(at, what, address, with).await,
        }
    }

    async fn call_p2(&mut self, at: usize, what: u8, address: SocketAddr, with: u8, amount: u8) {
        match what {
            1 => {
                let handle = self.network_handle(at);
                let (mut sockets, socket) = self.of(at);
                let done = sockets.start_bind(socket, handle, address.into()).await;
                same(done, self.model.start_bind(at, address));
            }
            2 => {
                let (mut sockets, socket) = self.of(at);
                same(sockets.finish_bind(socket), self.model.finish_bind(at));
            }
            3 => {
                let (mut sockets, socket) = self.of(at);
                same(sockets.start_listen(socket), self.model.start_listen(at));
            }
            4 => {
                let (mut sockets, socket) = self.of(at);
                same(sockets.finish_listen(socket), self.model.finish_listen(at));
            }
            5 => {
                let handle = self.network_handle(at);
                let (mut sockets, socket) = self.of(at);
                let done = sockets.start_connect(socket, handle, address.into());
                same(done, self.model.start_connect(at, address));
            }
            6 => {
                let (mut sockets, socket) = self.of(at);
                let done = sockets.finish_connect(socket);
                if let Some((input, output)) = same(done, self.model.finish_connect(at)) {
                    self.handles[at].hold((input, output));
                }
            }
            7 => {
                let (mut sockets, socket) = self.of(at);
                let done = sockets.accept(socket);
                if let Some((socket, input, output)) = same(done, self.model.accept(at)) {
                    let mut handles = Handles::of_p2(&socket);
                    handles.hold((input, output));
                    self.handles.push(handles);
                }
            }
            8 => self.shut_down(at, with),
            9 => self.drop(at, with),
            10 => self.is_as_it_was_left(at, amount),
            _ => {
                // What a guest does that polls for it; it may stop to.
                let pod = self.model.sockets[at].pod;
                let socket = self.tables[pod].get_mut(&self.handles[at].socket()).expect("a socket");
                socket.ready().now_or_never();
            }
        }
    }

    async fn call_p3(&mut self, at: usize, what: u8, address: SocketAddr, with: u8) {
        let network = &self.networks[self.model.sockets[at].pod];
        let Handles::P3(handles) = &mut self.handles[at] else { return };
        let LaterHandles { socket, accepting, input, output } = &mut **handles;
        match (what, socket) {
            (1, Some(socket)) => {
                same_p3(socket.bind(network, address).await, self.model.bind(at, address)).unwrap_or(())
            }
            (2..=4, Some(socket)) => {
                *accepting = same_p3(socket.listen(network).await, self.model.listen(at)).or(accepting.take())
            }
            (5 | 6, Some(socket)) => {
                let mut done = socket.start_connecting(address);
                if done.is_ok() {
                    done = socket.connected(network, address, network.connect(address).await);
                }
                same_p3(done, self.model.connect(at, address));
            }
            (7, _) => {
                let Some(accepting) = accepting else { return };
                let accepted = match accepting.poll_accept(&mut Context::from_waker(Waker::noop())) {
                    Poll::Ready(accepted) => Ok(accepted.expect("a listener has no end")),
                    Poll::Pending => Err(ErrorCode::WouldBlock),
                };
                assert_eq!(accepted.as_ref().err(), self.model.accept(at).as_ref().err());
                self.handles.extend(accepted.ok().map(Handles::of_p3));
            }
            (8, Some(socket)) if with.is_multiple_of(2) => {
                if let Some(sender) = same_p3(socket.sender(), self.model.take(at, true)) {
                    *output = Some(Box::new(sender));
                }
            }
            (8, Some(socket)) => {
                if let Some(receiver) = same_p3(socket.receiver(), self.model.take(at, false)) {
                    *input = Some(Box::new(receiver));
                }
            }
            (9, socket) => match with % 4 {
                0 if output.take().is_some() => self.model.drop_direction(at, true),
                1 if input.take().is_some() => self.model.drop_direction(at, false),
                2 if accepting.take().is_some() => self.model.drop_accepting(at),
                3 if socket.take().is_some() => self.model.drop(at),
                _ => {}
            },
            (10, Some(socket)) => {
                let (state, port) = (self.model.sockets[at].state, self.model.port_of(at));
                match (socket.local_address(), state, port) {
                    (Ok(local), _, Some(number)) => {
                        assert!(local.port() != 0 && (number == 0 || local.port() == number))
                    }
                    (Ok(local), State::Connected(_), None) => assert_eq!(local.ip(), network.pod.ip),
                    (local, ..) => drop(same_p3(local, Given::<()>::Err(ErrorCode::InvalidState))),
                }
                assert_eq!(socket.remote_address().is_ok(), matches!(state, State::Connected(_)));
                assert_eq!(socket.is_listening(), matches!(state, State::Listening(_)));
            }
            (11, _) => {
                // As a guest that waits for a stream, and stops to.
                if let Some(input) = input {
                    input.ready().now_or_never();
                }
                if let Some(output) = output {
                    output.ready().now_or_never();
                }
            }
            _ => {}
        }
    }

    fn network_handle(&mut self, at: usize) -> Resource<NetworkHandle> {
        let pod = self.model.sockets[at].pod;
        self.sockets(pod).instance_network().expect("room in the table")
    }

    fn create(&mut self, pod: usize, is_v6: bool, version: Version) {
        let expected = self.model.create(pod, is_v6, version);
        match version {
            Version::P2 => {
                let family = if is_v6 { IpAddressFamily::Ipv6 } else { IpAddressFamily::Ipv4 };
                let created = self.sockets(pod).create_tcp_socket(family);
                self.handles.extend(same(created, expected).map(|socket| Handles::of_p2(&socket)));
            }
            Version::P3 => {
                let family = if is_v6 { p3::IpAddressFamily::Ipv6 } else { p3::IpAddressFamily::Ipv4 };
                let created = Later::new(&self.networks[pod], family).ok_or(ErrorCode::NewSocketLimit);
                assert_eq!(created.as_ref().err(), expected.as_ref().err());
                self.handles.extend(created.ok().map(Handles::of_p3));
            }
        }
    }

    fn shut_down(&mut self, at: usize, with: u8) {
        let (how, receive, send) = match with % 3 {
            0 => (ShutdownType::Receive, true, false),
            1 => (ShutdownType::Send, false, true),
            _ => (ShutdownType::Both, true, true),
        };
        let (mut sockets, socket) = self.of(at);
        let done = sockets.shutdown(socket, how);
        let State::Connected(way) = self.model.sockets[at].state else {
            same(done, Given::<()>::Err(ErrorCode::InvalidState));
            return;
        };
        same(done, Ok(()));
        let end = self.model.end(way);
        (end.hears_no_more, end.says_no_more) = (end.hears_no_more || receive, end.says_no_more || send);
    }

    /// Drops a stream, or the socket, whose streams go first.
    fn drop(&mut self, at: usize, with: u8) {
        let table = &mut self.tables[self.model.sockets[at].pod];
        let Handles::P2 { socket, input, output } = &mut self.handles[at] else { return };
        if let Some(input) = input.take_if(|_| !with.is_multiple_of(3)) {
            table.delete(input).expect("a stream");
        }
        if let Some(output) = output.take_if(|_| with % 3 != 1) {
            table.delete(output).expect("a stream");
        }
        if with % 3 == 2 {
            table.delete(Resource::<TcpSocket>::new_own(*socket)).expect("a socket");
            self.model.drop(at);
        }
    }

    /// What a socket says of itself.
    fn is_as_it_was_left(&mut self, at: usize, amount: u8) {
        let (state, port) = (self.model.sockets[at].state, self.model.port_of(at));
        let pod = self.model.sockets[at].pod;
        let (mut sockets, socket) = self.of(at);
        let again = || Resource::new_borrow(socket.rep());
        match (sockets.local_address(again()), state, port) {
            (Ok(local), _, Some(number)) => {
                let local = SocketAddr::from(local);
                assert!(local.port() != 0 && (number == 0 || local.port() == number), "{local}");
            }
            (Ok(local), State::Connected(_), None) => assert_eq!(SocketAddr::from(local).ip(), PODS[pod]),
            (local, ..) => drop(same(local, Given::<()>::Err(ErrorCode::InvalidState))),
        }
        let is_connected = matches!(state, State::Connected(_));
        assert_eq!(sockets.remote_address(again()).is_ok(), is_connected);
        assert_eq!(sockets.is_listening(again()).ok(), Some(matches!(state, State::Listening(_))));
        let valid = if amount == 0 { Err(ErrorCode::InvalidArgument) } else { Ok(()) };
        let set = sockets.set_hop_limit(again(), amount);
        if same(set, valid).is_some() {
            assert_eq!(sockets.hop_limit(again()).ok(), Some(amount));
        }
        let valid = valid.and(match state {
            State::Connected(_) | State::Connecting(_) => Err(ErrorCode::InvalidState),
            _ => Ok(()),
        });
        same(sockets.set_listen_backlog_size(again(), amount.into()), valid);
    }

    fn read(&mut self, at: usize, most: usize, with: u8) {
        let pod = self.model.sockets[at].pod;
        let (way, stream) = (self.model.way(at), self.handles[at].input(&mut self.tables[pod]));
        let (Some(way), Some(stream)) = (way, stream) else { return };
        if with.is_multiple_of(2) {
            stream.ready().now_or_never();
        }
        let read = stream.read(most);
        let peer = *self.model.peer(way);
        let end = self.model.end(way);
        let left = peer.sent - end.received;
        match read {
            Ok(bytes) => {
                assert!(!end.hears_no_more && bytes.len() <= most.min(left), "{} of {left} bytes", bytes.len());
                assert_eq!(bytes.is_empty(), left == 0, "{left} bytes are on their way");
                assert!(!bytes.is_empty() || !(peer.says_no_more || peer.is_gone), "the end is not heard");
                assert_eq!(bytes, said(end.received, bytes.len()));
                end.received += bytes.len();
            }
            Err(StreamError::Closed) => {
                assert!(end.hears_no_more || left == 0 && (peer.says_no_more || peer.is_gone), "{left} bytes are lost");
                end.has_heard_the_end = true;
            }
            Err(error) => panic!("{error}"),
        }
    }

    fn write(&mut self, at: usize, most: usize) {
        let pod = self.model.sockets[at].pod;
        let (way, stream) = (self.model.way(at), self.handles[at].output(&mut self.tables[pod]));
        let (Some(way), Some(stream)) = (way, stream) else { return };
        let peer = *self.model.peer(way);
        let end = self.model.end(way);
        let unread = end.sent - peer.received;
        let bytes = said(end.sent, most.min(BUFFER_BYTES));
        let written = stream.check_write().and_then(|permitted| {
            assert!(permitted > 0 || unread >= BUFFER_BYTES, "it waits with {unread} bytes");
            match permitted.min(bytes.len()) {
                0 => Ok(0),
                length => stream.write(bytes[..length].into()).map(|()| length),
            }
        });
        match written {
            Ok(length) => {
                assert!(!end.says_no_more, "it has said that it says no more");
                let nobody_hears = peer.is_gone && peer.sent - end.received <= BUFFER_BYTES;
                assert!(length == 0 || !nobody_hears, "nobody is there");
                end.sent += length;
                assert!(end.sent - peer.received <= 3 * BUFFER_BYTES, "too much is on its way");
            }
            Err(StreamError::Closed) => {
                let has_ended = peer.says_no_more && (peer.hears_no_more || peer.has_heard_the_end);
                assert!(end.says_no_more || peer.is_gone || has_ended, "somebody is there");
            }
            Err(error) => panic!("{error}"),
        }
    }
}

/// What one end says, from a place on.
fn said(from: usize, length: usize) -> &'static [u8] {
    static SAID: OnceLock<Vec<u8>> = OnceLock::new();
    let said = SAID.get_or_init(|| (0..=250).cycle().take(BUFFER_BYTES + 251).collect());
    &said[from % 251..][..length]
}

/// Asserts that a call and the model give the same error, or none; what the call gives.
fn same<T>(real: SocketResult<T>, expected: Given) -> Option<T> {
    let real = real.map_err(|error| error.downcast().expect("an error of the guest's"));
    assert_eq!(real.as_ref().err(), expected.as_ref().err());
    real.ok()
}

/// The same of a call of 0.3, which has errors of its own.
fn same_p3<T>(real: Result<T, p3::ErrorCode>, expected: Given) -> Option<T> {
    let real = real.map_err(|error| match error {
        p3::ErrorCode::AddressInUse => ErrorCode::AddressInUse,
        p3::ErrorCode::AddressNotBindable => ErrorCode::AddressNotBindable,
        p3::ErrorCode::ConnectionRefused => ErrorCode::ConnectionRefused,
        p3::ErrorCode::InvalidArgument => ErrorCode::InvalidArgument,
        p3::ErrorCode::InvalidState => ErrorCode::InvalidState,
        other => panic!("{other:?}"),
    });
    assert_eq!(real.as_ref().err(), expected.as_ref().err());
    real.ok()
}
