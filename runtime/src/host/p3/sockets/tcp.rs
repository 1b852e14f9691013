//! `wasi:sockets/types.tcp-socket` 0.3: listening in the pod's own port space, connecting through Services.
//!
//! A port is claimed when it is bound, and given back with its socket, or, once it listens, with the stream of its connections.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures::future::BoxFuture;
use k8w_networking::{Incoming, PodListener, Stream};
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

impl TcpSocket {
    /// `None` when the container has as many sockets as it may have.
    pub fn new(own: &Arc<PodNetwork>, family: IpAddressFamily) -> Option<TcpSocket> {
        let permit = Arc::new(SocketPermit::take(own)?);
        Some(TcpSocket { family, state: State::Unbound, options: TcpOptions::default(), permit })
    }

    /// # Errors
    /// `InvalidState` with a port, `InvalidArgument` for an address of another family, and those of [`bind_tcp`].
    pub async fn bind(&mut self, own: &PodNetwork, local: SocketAddr) -> Result<(), ErrorCode> {
        if !matches!(self.state, State::Unbound) {
            return Err(ErrorCode::InvalidState);
        }
        if family(&local) != self.family {
            return Err(ErrorCode::InvalidArgument);
        }
        self.state = State::Bound(bind_tcp(own, local).await.map_err(|error| code(&error))?);
        Ok(())
    }

    /// Marks it as connecting, if it may connect to this peer. Then comes [`connected`](Self::connected).
    ///
    /// # Errors
    /// `InvalidState`, and `InvalidArgument` for what cannot be a peer.
    pub fn start_connecting(&mut self, remote: SocketAddr) -> Result<(), ErrorCode> {
        if !matches!(self.state, State::Unbound | State::Bound(_)) {
            return Err(ErrorCode::InvalidState);
        }
        if !is_remote(self.family, &remote) {
            return Err(ErrorCode::InvalidArgument);
        }
        self.state = State::Connecting;
        Ok(())
    }

    /// # Errors
    /// What became of dialling.
    pub fn connected(
        &mut self,
        own: &PodNetwork,
        remote: SocketAddr,
        dialled: io::Result<Stream>,
    ) -> Result<(), ErrorCode> {
        match dialled {
            Ok(stream) => {
                // The port at this end belongs to the network, which tells it to the peer alone.
                let local = SocketAddr::new(own.pod.ip, 0);
                self.state = State::connected(local, remote, Connection::new(stream, self.permit.clone()));
                Ok(())
            }
            Err(error) => {
                self.state = State::Closed;
                Err(code(&error))
            }
        }
    }

    /// The connections to come. A socket without a port gets one.
    ///
    /// # Errors
    /// `InvalidState`, and those of [`bind_tcp`].
    pub async fn listen(&mut self, own: &Arc<PodNetwork>) -> Result<Accepting, ErrorCode> {
        if matches!(self.state, State::Unbound) {
            self.bind(own, unspecified(self.family)).await?;
        }
        let TcpPort { local, listener } = match std::mem::replace(&mut self.state, State::Closed) {
            State::Bound(port) => port,
            other => {
                self.state = other;
                return Err(ErrorCode::InvalidState);
            }
        };
        self.state = State::Listening { local };
        Ok(Accepting {
            family: self.family,
            options: self.options,
            local: SocketAddr::new(own.pod.ip, local.port()),
            network: own.clone(),
            listener,
            next: None,
            _permit: self.permit.clone(),
        })
    }

    /// The sending direction, which is given once.
    ///
    /// # Errors
    /// `InvalidState`.
    pub fn sender(&mut self) -> Result<Sender, ErrorCode> {
        match &mut self.state {
            State::Connected { sends, .. } => sends.take().map(|connection| Sender { connection, ends: true }),
            _ => None,
        }
        .ok_or(ErrorCode::InvalidState)
    }

    /// The receiving direction, which is given once.
    ///
    /// # Errors
    /// `InvalidState`.
    pub fn receiver(&mut self) -> Result<Connection, ErrorCode> {
        match &mut self.state {
            State::Connected { receives, .. } => receives.take(),
            _ => None,
        }
        .ok_or(ErrorCode::InvalidState)
    }

    /// # Errors
    /// `InvalidState` without a port.
    pub fn local_address(&self) -> Result<SocketAddr, ErrorCode> {
        match &self.state {
            State::Bound(TcpPort { local, .. }) | State::Listening { local } | State::Connected { local, .. } => {
                Ok(*local)
            }
            State::Unbound | State::Connecting | State::Closed => Err(ErrorCode::InvalidState),
        }
    }

    /// # Errors
    /// `InvalidState` without a peer.
    pub fn remote_address(&self) -> Result<SocketAddr, ErrorCode> {
        match &self.state {
            State::Connected { remote, .. } => Ok(*remote),
            _ => Err(ErrorCode::InvalidState),
        }
    }

    pub fn is_listening(&self) -> bool {
        matches!(self.state, State::Listening { .. })
    }
}

impl Instance {
    fn tcp_socket(&mut self, socket: &Resource<TcpSocket>) -> SocketResult<&mut TcpSocket> {
        self.table.get_mut(socket).map_err(SocketError::trap)
    }

    fn tcp_options(&mut self, socket: &Resource<TcpSocket>) -> SocketResult<&mut TcpOptions> {
        Ok(&mut self.tcp_socket(socket)?.options)
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
        let network = accessor.with(|mut store| {
            let instance = store.get();
            instance.tcp_socket(&this)?.start_connecting(remote)?;
            Ok::<_, SocketError>(instance.container.network.clone())
        })?;
        let dialled = network.connect(remote).await;
        accessor.with(|mut store| Ok(store.get().tcp_socket(&this)?.connected(&network, remote, dialled)?))
    }

    async fn listen(
        mut store: Access<'_, Instance, Self>,
        this: Resource<TcpSocket>,
    ) -> SocketResult<StreamReader<Resource<TcpSocket>>> {
        let instance = store.get();
        let network = instance.container.network.clone();
        let accepting = instance.tcp_socket(&this)?.listen(&network).await?;
        StreamReader::new(&mut store, accepting).map_err(SocketError::trap)
    }

    fn send(
        mut store: Access<'_, Instance, Self>,
        this: Resource<TcpSocket>,
        mut data: StreamReader<u8>,
    ) -> wasmtime::Result<Outcome> {
        match store.get().table.get_mut(&this)?.sender() {
            Ok(sender) => streams::write(store, data, sender, broken),
            Err(refusal) => {
                data.close(&mut store)?;
                streams::refused(store, refusal)
            }
        }
    }

    fn receive(
        mut store: Access<'_, Instance, Self>,
        this: Resource<TcpSocket>,
    ) -> wasmtime::Result<(StreamReader<u8>, Outcome)> {
        match store.get().table.get_mut(&this)?.receiver() {
            Ok(connection) => streams::read(store, connection, broken),
            Err(refusal) => {
                let nothing = StreamReader::new(&mut store, std::iter::empty())?;
                Ok((nothing, streams::refused(store, refusal)?))
            }
        }
    }
}

/// The stream of connections of a listening socket. It has the port, and counts as the socket does.
pub struct Accepting {
    family: IpAddressFamily,
    options: TcpOptions,
    /// The address of the sockets to come.
    local: SocketAddr,
    network: Arc<PodNetwork>,
    listener: Arc<PodListener>,
    next: Option<BoxFuture<'static, io::Result<Incoming>>>,
    _permit: Arc<SocketPermit>,
}

impl Accepting {
    /// The next connection's socket, for which the container has room.
    ///
    /// # Errors
    /// When there will be no more.
    pub fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<TcpSocket>> {
        loop {
            let listener = &self.listener;
            let next = self.next.get_or_insert_with(|| {
                let listener = listener.clone();
                Box::pin(async move { listener.accept().await })
            });
            let accepted = std::task::ready!(next.as_mut().poll(cx));
            self.next = None;
            let Incoming { stream, peer, open } = accepted?;
            // Over the limit the connection is dropped here, which its other end sees as closed.
            let Some(permit) = SocketPermit::take_for(&self.network, open).map(Arc::new) else { continue };
            return Poll::Ready(Ok(TcpSocket {
                family: self.family,
                state: State::connected(self.local, peer, Connection::new(stream, permit.clone())),
                options: self.options,
                permit,
            }));
        }
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
        match self.poll_accept(cx) {
            Poll::Ready(Ok(accepted)) => {
                into.set_buffer(Some(store.data_mut().table.push(accepted)?));
                Poll::Ready(Ok(StreamResult::Completed))
            }
            Poll::Ready(Err(_)) => Poll::Ready(Ok(StreamResult::Dropped)),
            Poll::Pending if finish => Poll::Ready(Ok(StreamResult::Cancelled)),
            Poll::Pending => Poll::Pending,
        }
    }
}

impl HostTcpSocket for Instance {
    fn create(&mut self, family: IpAddressFamily) -> SocketResult<Resource<TcpSocket>> {
        let socket = TcpSocket::new(&self.container.network, family).ok_or_else(too_many_sockets)?;
        self.table.push(socket).map_err(SocketError::trap)
    }

    async fn bind(&mut self, this: Resource<TcpSocket>, local_address: IpSocketAddress) -> SocketResult<()> {
        let network = self.container.network.clone();
        Ok(self.tcp_socket(&this)?.bind(&network, local_address.into()).await?)
    }

    fn get_local_address(&mut self, this: Resource<TcpSocket>) -> SocketResult<IpSocketAddress> {
        Ok(self.tcp_socket(&this)?.local_address()?.into())
    }

    fn get_remote_address(&mut self, this: Resource<TcpSocket>) -> SocketResult<IpSocketAddress> {
        Ok(self.tcp_socket(&this)?.remote_address()?.into())
    }

    fn get_is_listening(&mut self, this: Resource<TcpSocket>) -> wasmtime::Result<bool> {
        Ok(self.table.get(&this)?.is_listening())
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
