//! `wasi:sockets/types.tcp-socket` 0.3: listening in the pod's own port space, connecting through Services.
//!
//! A port is claimed when it is bound, and given back with the last of its socket and the stream of its connections.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures::future::BoxFuture;
use k8w_networking::{Incoming, PodListener};
use wasmtime::StoreContextMut;
use wasmtime::component::{
    Access, Accessor, Destination, FutureReader, HasSelf, Resource, StreamProducer, StreamReader, StreamResult,
};

use super::address::{family, is_remote, unspecified};
use super::wit::types::{ErrorCode, HostTcpSocket, HostTcpSocketWithStore, IpAddressFamily, IpSocketAddress};
use super::{SocketError, SocketResult, code, positive, too_many_sockets};
use crate::host::p3::streams;
use crate::host::pod_network::{PodNetwork, SocketPermit};
use crate::host::sockets::options::TcpOptions;
use crate::host::sockets::port::{TcpPort, bind_tcp};
use crate::host::sockets::stream::{Connection, Sender};
use crate::wasm::store::State as Instance;

/// How one direction of a connection ended.
type Outcome = FutureReader<Result<(), ErrorCode>>;

/// One TCP socket of a guest.
pub struct TcpSocket {
    family: IpAddressFamily,
    state: State,
    options: TcpOptions,
    permit: Arc<SocketPermit>,
}

enum State {
    Unbound,
    Bound(TcpPort),
    Listening {
        local: SocketAddr,
    },
    Connecting,
    Connected {
        local: SocketAddr,
        remote: SocketAddr,
        /// Each direction is the guest's once.
        sends: Option<Connection>,
        receives: Option<Connection>,
    },
    /// A failed connect: only dropping the socket is left.
    Closed,
}

impl State {
    fn connected(local: SocketAddr, remote: SocketAddr, connection: Connection) -> State {
        let (sends, receives) = (Some(connection.clone()), Some(connection));
        State::Connected { local, remote, sends, receives }
    }
}

impl Instance {
    fn tcp_socket(&mut self, socket: &Resource<TcpSocket>) -> SocketResult<&mut TcpSocket> {
        self.table.get_mut(socket).map_err(SocketError::trap)
    }

    fn tcp_options(&mut self, socket: &Resource<TcpSocket>) -> SocketResult<&mut TcpOptions> {
        Ok(&mut self.tcp_socket(socket)?.options)
    }

    /// Marks a socket as connecting, if it may connect to this peer.
    fn start_connecting(&mut self, this: &Resource<TcpSocket>, remote: SocketAddr) -> SocketResult<Arc<PodNetwork>> {
        let network = self.container.network.clone();
        let socket = self.tcp_socket(this)?;
        if !matches!(socket.state, State::Unbound | State::Bound(_)) {
            return Err(ErrorCode::InvalidState.into());
        }
        if !is_remote(socket.family, &remote) {
            return Err(ErrorCode::InvalidArgument.into());
        }
        socket.state = State::Connecting;
        Ok(network)
    }
}

/// What a failed read or write of a connection is to its guest.
fn broken(error: Option<&io::Error>) -> ErrorCode {
    error.map_or(ErrorCode::ConnectionBroken, code)
}

impl HostTcpSocketWithStore<Instance> for HasSelf<Instance> {
    async fn connect(
        accessor: &Accessor<Instance, Self>,
        this: Resource<TcpSocket>,
        remote_address: IpSocketAddress,
    ) -> SocketResult<()> {
        let remote = SocketAddr::from(remote_address);
        let network = accessor.with(|mut store| store.get().start_connecting(&this, remote))?;
        let dialled = network.connect(remote).await;
        accessor.with(|mut store| {
            let socket = store.get().tcp_socket(&this)?;
            match dialled {
                Ok(stream) => {
                    // The port at this end belongs to the network, which tells it to the peer alone.
                    let local = SocketAddr::new(network.pod.ip, 0);
                    let connection = Connection::new(stream, socket.permit.clone());
                    socket.state = State::connected(local, remote, connection);
                    Ok(())
                }
                Err(error) => {
                    socket.state = State::Closed;
                    Err(code(&error).into())
                }
            }
        })
    }

    async fn listen(
        mut store: Access<'_, Instance, Self>,
        this: Resource<TcpSocket>,
    ) -> SocketResult<StreamReader<Resource<TcpSocket>>> {
        let instance = store.get();
        let network = instance.container.network.clone();
        let socket = instance.tcp_socket(&this)?;
        let TcpPort { local, listener } = match std::mem::replace(&mut socket.state, State::Closed) {
            State::Bound(port) => port,
            State::Unbound => {
                let bound = bind_tcp(&network, unspecified(socket.family)).await;
                bound.map_err(|error| code(&error)).inspect_err(|_| socket.state = State::Unbound)?
            }
            other => {
                socket.state = other;
                return Err(ErrorCode::InvalidState.into());
            }
        };
        socket.state = State::Listening { local };
        let accepting = Accepting {
            family: socket.family,
            options: socket.options,
            local: SocketAddr::new(network.pod.ip, local.port()),
            network,
            listener: Arc::new(listener),
            next: None,
        };
        StreamReader::new(&mut store, accepting).map_err(SocketError::trap)
    }

    fn send(
        mut store: Access<'_, Instance, Self>,
        this: Resource<TcpSocket>,
        mut data: StreamReader<u8>,
    ) -> wasmtime::Result<Outcome> {
        let connection = match &mut store.get().table.get_mut(&this)?.state {
            State::Connected { sends, .. } => sends.take(),
            _ => None,
        };
        match connection {
            Some(connection) => streams::write(store, data, Sender { connection, ends: true }, broken),
            None => {
                data.close(&mut store)?;
                streams::refused(store, ErrorCode::InvalidState)
            }
        }
    }

    fn receive(
        mut store: Access<'_, Instance, Self>,
        this: Resource<TcpSocket>,
    ) -> wasmtime::Result<(StreamReader<u8>, Outcome)> {
        let connection = match &mut store.get().table.get_mut(&this)?.state {
            State::Connected { receives, .. } => receives.take(),
            _ => None,
        };
        match connection {
            Some(connection) => streams::read(store, connection, broken),
            None => {
                let nothing = StreamReader::new(&mut store, std::iter::empty())?;
                Ok((nothing, streams::refused(store, ErrorCode::InvalidState)?))
            }
        }
    }
}

/// The stream of connections of a listening socket.
struct Accepting {
    family: IpAddressFamily,
    options: TcpOptions,
    /// The address of the sockets to come.
    local: SocketAddr,
    network: Arc<PodNetwork>,
    listener: Arc<PodListener>,
    next: Option<BoxFuture<'static, io::Result<Incoming>>>,
}

impl Accepting {
    fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Incoming>> {
        let listener = &self.listener;
        let next = self.next.get_or_insert_with(|| {
            let listener = listener.clone();
            Box::pin(async move { listener.accept().await })
        });
        let accepted = std::task::ready!(next.as_mut().poll(cx));
        self.next = None;
        Poll::Ready(accepted)
    }
}

impl StreamProducer<Instance> for Accepting {
    type Item = Resource<TcpSocket>;
    type Buffer = Option<Resource<TcpSocket>>;

    fn poll_produce<'a>(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        mut store: StoreContextMut<'a, Instance>,
        mut into: Destination<'a, Self::Item, Self::Buffer>,
        finish: bool,
    ) -> Poll<wasmtime::Result<StreamResult>> {
        if into.remaining(&mut store) == Some(0) {
            return Poll::Ready(Ok(StreamResult::Completed));
        }
        loop {
            let Incoming { stream, peer } = match self.poll_accept(cx) {
                Poll::Ready(Ok(incoming)) => incoming,
                Poll::Ready(Err(_)) => return Poll::Ready(Ok(StreamResult::Dropped)),
                Poll::Pending if finish => return Poll::Ready(Ok(StreamResult::Cancelled)),
                Poll::Pending => return Poll::Pending,
            };
            // Over the limit the connection is dropped here, which its other end sees as closed.
            let Some(permit) = SocketPermit::take(&self.network).map(Arc::new) else { continue };
            let accepted = TcpSocket {
                family: self.family,
                state: State::connected(self.local, peer, Connection::new(stream, permit.clone())),
                options: self.options,
                permit,
            };
            into.set_buffer(Some(store.data_mut().table.push(accepted)?));
            return Poll::Ready(Ok(StreamResult::Completed));
        }
    }
}

impl HostTcpSocket for Instance {
    fn create(&mut self, family: IpAddressFamily) -> SocketResult<Resource<TcpSocket>> {
        let permit = Arc::new(SocketPermit::take(&self.container.network).ok_or_else(too_many_sockets)?);
        let socket = TcpSocket { family, state: State::Unbound, options: TcpOptions::default(), permit };
        self.table.push(socket).map_err(SocketError::trap)
    }

    async fn bind(&mut self, this: Resource<TcpSocket>, local_address: IpSocketAddress) -> SocketResult<()> {
        let network = self.container.network.clone();
        let socket = self.tcp_socket(&this)?;
        let local = SocketAddr::from(local_address);
        if !matches!(socket.state, State::Unbound) {
            return Err(ErrorCode::InvalidState.into());
        }
        if family(&local) != socket.family {
            return Err(ErrorCode::InvalidArgument.into());
        }
        socket.state = State::Bound(bind_tcp(&network, local).await.map_err(|error| code(&error))?);
        Ok(())
    }

    fn get_local_address(&mut self, this: Resource<TcpSocket>) -> SocketResult<IpSocketAddress> {
        match &self.tcp_socket(&this)?.state {
            State::Bound(TcpPort { local, .. }) | State::Listening { local } | State::Connected { local, .. } => {
                Ok((*local).into())
            }
            State::Unbound | State::Connecting | State::Closed => Err(ErrorCode::InvalidState.into()),
        }
    }

    fn get_remote_address(&mut self, this: Resource<TcpSocket>) -> SocketResult<IpSocketAddress> {
        match &self.tcp_socket(&this)?.state {
            State::Connected { remote, .. } => Ok((*remote).into()),
            _ => Err(ErrorCode::InvalidState.into()),
        }
    }

    fn get_is_listening(&mut self, this: Resource<TcpSocket>) -> wasmtime::Result<bool> {
        Ok(matches!(self.table.get(&this)?.state, State::Listening { .. }))
    }

    fn get_address_family(&mut self, this: Resource<TcpSocket>) -> wasmtime::Result<IpAddressFamily> {
        Ok(self.table.get(&this)?.family)
    }

    fn set_listen_backlog_size(&mut self, this: Resource<TcpSocket>, value: u64) -> SocketResult<()> {
        positive(value)?;
        match self.tcp_socket(&this)?.state {
            State::Connected { .. } | State::Connecting => Err(ErrorCode::InvalidState.into()),
            _ => Ok(()),
        }
    }

    fn get_keep_alive_enabled(&mut self, this: Resource<TcpSocket>) -> SocketResult<bool> {
        Ok(self.tcp_options(&this)?.keep_alive)
    }

    fn set_keep_alive_enabled(&mut self, this: Resource<TcpSocket>, value: bool) -> SocketResult<()> {
        self.tcp_options(&this)?.keep_alive = value;
        Ok(())
    }

    fn get_keep_alive_idle_time(&mut self, this: Resource<TcpSocket>) -> SocketResult<u64> {
        Ok(self.tcp_options(&this)?.keep_alive_idle_nanos)
    }

    fn set_keep_alive_idle_time(&mut self, this: Resource<TcpSocket>, value: u64) -> SocketResult<()> {
        self.tcp_options(&this)?.keep_alive_idle_nanos = positive(value)?;
        Ok(())
    }

    fn get_keep_alive_interval(&mut self, this: Resource<TcpSocket>) -> SocketResult<u64> {
        Ok(self.tcp_options(&this)?.keep_alive_interval_nanos)
    }

    fn set_keep_alive_interval(&mut self, this: Resource<TcpSocket>, value: u64) -> SocketResult<()> {
        self.tcp_options(&this)?.keep_alive_interval_nanos = positive(value)?;
        Ok(())
    }

    fn get_keep_alive_count(&mut self, this: Resource<TcpSocket>) -> SocketResult<u32> {
        Ok(self.tcp_options(&this)?.keep_alive_count)
    }

    fn set_keep_alive_count(&mut self, this: Resource<TcpSocket>, value: u32) -> SocketResult<()> {
        self.tcp_options(&this)?.keep_alive_count = positive(value)?;
        Ok(())
    }

    fn get_hop_limit(&mut self, this: Resource<TcpSocket>) -> SocketResult<u8> {
        Ok(self.tcp_options(&this)?.hop_limit)
    }

    fn set_hop_limit(&mut self, this: Resource<TcpSocket>, value: u8) -> SocketResult<()> {
        self.tcp_options(&this)?.hop_limit = positive(value)?;
        Ok(())
    }

    fn get_receive_buffer_size(&mut self, this: Resource<TcpSocket>) -> SocketResult<u64> {
        Ok(self.tcp_options(&this)?.receive_buffer_bytes)
    }

    fn set_receive_buffer_size(&mut self, this: Resource<TcpSocket>, value: u64) -> SocketResult<()> {
        self.tcp_options(&this)?.receive_buffer_bytes = positive(value)?;
        Ok(())
    }

    fn get_send_buffer_size(&mut self, this: Resource<TcpSocket>) -> SocketResult<u64> {
        Ok(self.tcp_options(&this)?.send_buffer_bytes)
    }

    fn set_send_buffer_size(&mut self, this: Resource<TcpSocket>, value: u64) -> SocketResult<()> {
        self.tcp_options(&this)?.send_buffer_bytes = positive(value)?;
        Ok(())
    }

    fn drop(&mut self, this: Resource<TcpSocket>) -> wasmtime::Result<()> {
        self.table.delete(this)?;
        Ok(())
    }
}
