//! TCP of `wasi:sockets`: whatever two pods do with their sockets, in whatever order, each call gives what a naive model
//! gives; bytes arrive once and in order; nobody has more sockets, or bytes on their way, than may be; nothing is left.

mod model;

use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};

use futures::FutureExt;
use k8w_networking::Network;
use k8w_runtime::host::pod_network::PodNetwork;
use k8w_runtime::host::sockets::wit::instance_network::Host as _;
use k8w_runtime::host::sockets::wit::network::{ErrorCode, IpAddressFamily};
use k8w_runtime::host::sockets::wit::tcp::{HostTcpSocket as _, ShutdownType, TcpSocket};
use k8w_runtime::host::sockets::wit::tcp_create_socket::Host as _;
use k8w_runtime::host::sockets::{
    DynInputStream, DynOutputStream, NetworkHandle, Pollable as _, Resource, ResourceTable, SocketResult, Sockets,
    StreamError,
};
use model::{Given, Model, State, Way};
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
struct Handles {
    socket: u32,
    input: Option<Resource<DynInputStream>>,
    output: Option<Resource<DynOutputStream>>,
}

impl Handles {
    fn socket(&self) -> Resource<TcpSocket> {
        Resource::new_borrow(self.socket)
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
            return self.create(usize::from(who % 2), with % 4 == 0);
        }
        let owned = |at: &usize| !matches!(self.model.sockets[*at].state, State::Dropped);
        let all: Vec<usize> = (0..self.handles.len()).filter(owned).collect();
        let Some(&at) = all.get(usize::from(who) % all.len().max(1)) else { return };
        let address = address(self.model.sockets[at].pod, self.model.sockets[at].is_v6, with);
        match what % 16 {
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
                    (self.handles[at].input, self.handles[at].output) = (Some(input), Some(output));
                }
            }
            7 => {
                let (mut sockets, socket) = self.of(at);
                let done = sockets.accept(socket);
                if let Some((socket, input, output)) = same(done, self.model.accept(at)) {
                    let (input, output) = (Some(input), Some(output));
                    self.handles.push(Handles { socket: socket.rep(), input, output });
                }
            }
            8 => self.shut_down(at, with),
            9 => self.drop(at, with),
            10 => self.is_as_it_was_left(at, amount),
            11 => {
                // What a guest does that polls for it; it may stop to.
                let pod = self.model.sockets[at].pod;
                let socket = self.tables[pod].get_mut(&self.handles[at].socket()).expect("a socket");
                socket.ready().now_or_never();
            }
            12 | 13 => self.read(at, 1 + usize::from(amount) * 311, with),
            _ => self.write(at, usize::from(amount) * 257),
        }
    }

    fn network_handle(&mut self, at: usize) -> Resource<NetworkHandle> {
        let pod = self.model.sockets[at].pod;
        self.sockets(pod).instance_network().expect("room in the table")
    }

    fn create(&mut self, pod: usize, is_v6: bool) {
        let family = if is_v6 { IpAddressFamily::Ipv6 } else { IpAddressFamily::Ipv4 };
        let created = self.sockets(pod).create_tcp_socket(family);
        if let Some(socket) = same(created, self.model.create(pod, is_v6)) {
            self.handles.push(Handles { socket: socket.rep(), input: None, output: None });
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
        let (pod, handles) = (self.model.sockets[at].pod, &mut self.handles[at]);
        let table = &mut self.tables[pod];
        if let Some(input) = handles.input.take_if(|_| !with.is_multiple_of(3)) {
            table.delete(input).expect("a stream");
        }
        if let Some(output) = handles.output.take_if(|_| with % 3 != 1) {
            table.delete(output).expect("a stream");
        }
        if with % 3 == 2 {
            table.delete(Resource::<TcpSocket>::new_own(handles.socket)).expect("a socket");
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

    fn way(&self, at: usize) -> Option<Way> {
        match self.model.sockets[at].state {
            State::Connected(way) => Some(way),
            _ => None,
        }
    }

    fn read(&mut self, at: usize, most: usize, with: u8) {
        let (Some(way), Some(input)) = (self.way(at), &self.handles[at].input) else { return };
        let pod = self.model.sockets[at].pod;
        let stream = self.tables[pod].get_mut(input).expect("a stream");
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
        let (Some(way), Some(output)) = (self.way(at), &self.handles[at].output) else { return };
        let pod = self.model.sockets[at].pod;
        let stream = self.tables[pod].get_mut(output).expect("a stream");
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
