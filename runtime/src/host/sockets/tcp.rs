//! `wasi:sockets/tcp`: listening in the pod's own port space, connecting through Services.
//!
//! The states are those of `wit/deps/sockets` (`TcpSocketOperationalSemantics`). A port is claimed when it is bound.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;

use k8w_networking::{Incoming, Stream};
use wasmtime::component::Resource;
use wasmtime_wasi::p2::{DynInputStream, DynOutputStream, DynPollable, Pollable, subscribe};
use wasmtime_wasi::runtime::{AbortOnDropJoinHandle, poll_noop, spawn};

use super::address::{family, is_remote};
use super::options::TcpOptions;
use super::port::{TcpPort, bind_tcp};
use super::stream::{Connection, Sender};
use super::wit::network::{ErrorCode, IpAddressFamily, IpSocketAddress};
use super::wit::tcp::{Host, HostTcpSocket, ShutdownType};
use super::wit::tcp_create_socket;
use super::{NetworkHandle, SocketError, SocketResult, Sockets, code, positive};
use crate::host::pod_network::SocketPermit;

/// What `accept` and `finish-connect` give.
type Streams = (Resource<DynInputStream>, Resource<DynOutputStream>);

/// One TCP socket of a guest.
pub struct TcpSocket {
    family: IpAddressFamily,
    state: State,
    options: TcpOptions,
    permit: Arc<SocketPermit>,
}

enum State {
    Unbound,
    BindStarted(TcpPort),
    Bound(TcpPort),
    ListenStarted(TcpPort),
    Listening {
        bound: TcpPort,
        /// Taken from the listener to find out whether `accept` would wait.
        next: Option<io::Result<Incoming>>,
    },
    Connecting {
        remote: SocketAddr,
        dialling: AbortOnDropJoinHandle<io::Result<Stream>>,
    },
    Dialled {
        remote: SocketAddr,
        stream: io::Result<Stream>,
    },
    Connected {
        local: SocketAddr,
        remote: SocketAddr,
        connection: Connection,
    },
    /// A failed connect: the specification leaves only dropping the socket.
    Closed,
}

impl State {
    /// The answer to an operation that it does not allow.
    fn refusal(&self) -> ErrorCode {
        match self {
            State::BindStarted(_) | State::ListenStarted(_) | State::Connecting { .. } | State::Dialled { .. } => {
                ErrorCode::ConcurrencyConflict
            }
            State::Unbound | State::Bound(_) | State::Listening { .. } | State::Connected { .. } | State::Closed => {
                ErrorCode::InvalidState
            }
        }
    }
}

impl TcpSocket {
    /// Leaves the socket closed when the caller puts nothing back.
    fn take(&mut self) -> State {
        std::mem::replace(&mut self.state, State::Closed)
    }
}

#[async_trait::async_trait]
impl Pollable for TcpSocket {
    async fn ready(&mut self) {
        match &mut self.state {
            State::Connecting { remote, dialling } => {
                let stream = dialling.await;
                self.state = State::Dialled { remote: *remote, stream };
            }
            State::Listening { bound, next } if next.is_none() => *next = Some(bound.listener.accept().await),
            _ => {}
        }
    }
}

impl tcp_create_socket::Host for Sockets<'_> {
    fn create_tcp_socket(&mut self, family: IpAddressFamily) -> SocketResult<Resource<TcpSocket>> {
        let permit = Arc::new(SocketPermit::take(self.network).ok_or(ErrorCode::NewSocketLimit)?);
        let socket = TcpSocket { family, state: State::Unbound, options: TcpOptions::default(), permit };
        self.table.push(socket).map_err(SocketError::trap)
    }
}

impl Sockets<'_> {
    fn socket(&mut self, socket: &Resource<TcpSocket>) -> SocketResult<&mut TcpSocket> {
        self.table.get_mut(socket).map_err(SocketError::trap)
    }

    fn options(&mut self, socket: &Resource<TcpSocket>) -> SocketResult<&mut TcpOptions> {
        Ok(&mut self.socket(socket)?.options)
    }

    /// Hands both directions of a connection to the guest, as children of its socket.
    fn streams(&mut self, connection: &Connection, socket: &Resource<TcpSocket>) -> SocketResult<Streams> {
        let input: DynInputStream = Box::new(connection.clone());
        let output: DynOutputStream = Box::new(Sender { connection: connection.clone(), ends: false });
        let input = self.table.push_child(input, socket).map_err(SocketError::trap)?;
        let output = self.table.push_child(output, socket).map_err(SocketError::trap)?;
        Ok((input, output))
    }
}

impl Host for Sockets<'_> {}

impl HostTcpSocket for Sockets<'_> {
    async fn start_bind(
        &mut self,
        this: Resource<TcpSocket>,
        network: Resource<NetworkHandle>,
        local_address: IpSocketAddress,
    ) -> SocketResult<()> {
        self.table.get(&network).map_err(SocketError::trap)?;
        let network = self.network.clone();
        let socket = self.socket(&this)?;
        let local = SocketAddr::from(local_address);
        if !matches!(socket.state, State::Unbound) {
            return Err(socket.state.refusal().into());
        }
        if family(&local) != socket.family {
            return Err(ErrorCode::InvalidArgument.into());
        }
        let bound = bind_tcp(&network, local).await;
        socket.state = State::BindStarted(bound.map_err(|error| code(&error))?);
        Ok(())
    }

    fn finish_bind(&mut self, this: Resource<TcpSocket>) -> SocketResult<()> {
        let socket = self.socket(&this)?;
        match socket.take() {
            State::BindStarted(bound) => socket.state = State::Bound(bound),
            other => {
                socket.state = other;
                return Err(ErrorCode::NotInProgress.into());
            }
        }
        Ok(())
    }

    fn start_connect(
        &mut self,
        this: Resource<TcpSocket>,
        network: Resource<NetworkHandle>,
        remote_address: IpSocketAddress,
    ) -> SocketResult<()> {
        self.table.get(&network).map_err(SocketError::trap)?;
        let network = self.network.clone();
        let socket = self.socket(&this)?;
        let remote = SocketAddr::from(remote_address);
        if !matches!(socket.state, State::Unbound | State::Bound(_)) {
            return Err(socket.state.refusal().into());
        }
        if !is_remote(socket.family, &remote) {
            return Err(ErrorCode::InvalidArgument.into());
        }
        let dialling = spawn(async move { network.connect(remote).await });
        socket.state = State::Connecting { remote, dialling };
        Ok(())
    }

    fn finish_connect(&mut self, this: Resource<TcpSocket>) -> SocketResult<Streams> {
        let pod_ip = self.network.pod.ip;
        let socket = self.socket(&this)?;
        let (remote, stream) = match socket.take() {
            State::Connecting { remote, mut dialling } => match poll_noop(Pin::new(&mut dialling)) {
                Some(stream) => (remote, stream),
                None => {
                    socket.state = State::Connecting { remote, dialling };
                    return Err(ErrorCode::WouldBlock.into());
                }
            },
            State::Dialled { remote, stream } => (remote, stream),
            other => {
                socket.state = other;
                return Err(ErrorCode::NotInProgress.into());
            }
        };
        let connection = Connection::new(stream.map_err(|error| code(&error))?, socket.permit.clone());
        // The port at this end belongs to the network, which tells it to the peer alone.
        let local = SocketAddr::new(pod_ip, 0);
        socket.state = State::Connected { local, remote, connection: connection.clone() };
        self.streams(&connection, &this)
    }

    fn start_listen(&mut self, this: Resource<TcpSocket>) -> SocketResult<()> {
        let socket = self.socket(&this)?;
        match socket.take() {
            State::Bound(bound) => socket.state = State::ListenStarted(bound),
            other => {
                socket.state = other;
                return Err(socket.state.refusal().into());
            }
        }
        Ok(())
    }

    fn finish_listen(&mut self, this: Resource<TcpSocket>) -> SocketResult<()> {
        let socket = self.socket(&this)?;
        match socket.take() {
            State::ListenStarted(bound) => socket.state = State::Listening { bound, next: None },
            other => {
                socket.state = other;
                return Err(ErrorCode::NotInProgress.into());
            }
        }
        Ok(())
    }

    fn accept(
        &mut self,
        this: Resource<TcpSocket>,
    ) -> SocketResult<(Resource<TcpSocket>, Resource<DynInputStream>, Resource<DynOutputStream>)> {
        let network = self.network.clone();
        let socket = self.socket(&this)?;
        let State::Listening { bound, next } = &mut socket.state else {
            return Err(ErrorCode::InvalidState.into());
        };
        let next = next.take().or_else(|| poll_noop(std::pin::pin!(bound.listener.accept())));
        let Some(incoming) = next else {
            return Err(ErrorCode::WouldBlock.into());
        };
        let incoming = incoming.map_err(|error| code(&error))?;
        // Over the limit the connection is dropped here, which its other end sees as closed.
        let permit = SocketPermit::take_for(&network, incoming.open).ok_or(ErrorCode::NewSocketLimit)?;
        let permit = Arc::new(permit);
        let connection = Connection::new(incoming.stream, permit.clone());
        let local = SocketAddr::new(network.pod.ip, bound.local.port());
        let accepted = TcpSocket {
            family: socket.family,
            state: State::Connected { local, remote: incoming.peer, connection: connection.clone() },
            options: socket.options,
            permit,
        };
        let accepted = self.table.push(accepted).map_err(SocketError::trap)?;
        let (input, output) = self.streams(&connection, &accepted)?;
        Ok((accepted, input, output))
    }

    fn local_address(&mut self, this: Resource<TcpSocket>) -> SocketResult<IpSocketAddress> {
        match &self.socket(&this)?.state {
            State::Bound(bound) | State::ListenStarted(bound) | State::Listening { bound, .. } => {
                Ok(bound.local.into())
            }
            State::Connected { local, .. } => Ok((*local).into()),
            _ => Err(ErrorCode::InvalidState.into()),
        }
    }

    fn remote_address(&mut self, this: Resource<TcpSocket>) -> SocketResult<IpSocketAddress> {
        match &self.socket(&this)?.state {
            State::Connected { remote, .. } => Ok((*remote).into()),
            _ => Err(ErrorCode::InvalidState.into()),
        }
    }

    fn is_listening(&mut self, this: Resource<TcpSocket>) -> wasmtime::Result<bool> {
        Ok(matches!(self.table.get(&this)?.state, State::Listening { .. }))
    }

    fn address_family(&mut self, this: Resource<TcpSocket>) -> wasmtime::Result<IpAddressFamily> {
        Ok(self.table.get(&this)?.family)
    }

    fn set_listen_backlog_size(&mut self, this: Resource<TcpSocket>, value: u64) -> SocketResult<()> {
        positive(value)?;
        match self.socket(&this)?.state {
            State::Connected { .. } | State::Connecting { .. } | State::Dialled { .. } => {
                Err(ErrorCode::InvalidState.into())
            }
            _ => Ok(()),
        }
    }

    fn keep_alive_enabled(&mut self, this: Resource<TcpSocket>) -> SocketResult<bool> {
        Ok(self.options(&this)?.keep_alive)
    }

    fn set_keep_alive_enabled(&mut self, this: Resource<TcpSocket>, value: bool) -> SocketResult<()> {
        self.options(&this)?.keep_alive = value;
        Ok(())
    }

    fn keep_alive_idle_time(&mut self, this: Resource<TcpSocket>) -> SocketResult<u64> {
        Ok(self.options(&this)?.keep_alive_idle_nanos)
    }

    fn set_keep_alive_idle_time(&mut self, this: Resource<TcpSocket>, value: u64) -> SocketResult<()> {
        self.options(&this)?.keep_alive_idle_nanos = positive(value)?;
        Ok(())
    }

    fn keep_alive_interval(&mut self, this: Resource<TcpSocket>) -> SocketResult<u64> {
        Ok(self.options(&this)?.keep_alive_interval_nanos)
    }

    fn set_keep_alive_interval(&mut self, this: Resource<TcpSocket>, value: u64) -> SocketResult<()> {
        self.options(&this)?.keep_alive_interval_nanos = positive(value)?;
        Ok(())
    }

    fn keep_alive_count(&mut self, this: Resource<TcpSocket>) -> SocketResult<u32> {
        Ok(self.options(&this)?.keep_alive_count)
    }

    fn set_keep_alive_count(&mut self, this: Resource<TcpSocket>, value: u32) -> SocketResult<()> {
        self.options(&this)?.keep_alive_count = positive(value)?;
        Ok(())
    }

    fn hop_limit(&mut self, this: Resource<TcpSocket>) -> SocketResult<u8> {
        Ok(self.options(&this)?.hop_limit)
    }

    fn set_hop_limit(&mut self, this: Resource<TcpSocket>, value: u8) -> SocketResult<()> {
        self.options(&this)?.hop_limit = positive(value)?;
        Ok(())
    }

    fn receive_buffer_size(&mut self, this: Resource<TcpSocket>) -> SocketResult<u64> {
        Ok(self.options(&this)?.receive_buffer_bytes)
    }

    fn set_receive_buffer_size(&mut self, this: Resource<TcpSocket>, value: u64) -> SocketResult<()> {
        self.options(&this)?.receive_buffer_bytes = positive(value)?;
        Ok(())
    }

    fn send_buffer_size(&mut self, this: Resource<TcpSocket>) -> SocketResult<u64> {
        Ok(self.options(&this)?.send_buffer_bytes)
    }

    fn set_send_buffer_size(&mut self, this: Resource<TcpSocket>, value: u64) -> SocketResult<()> {
        self.options(&this)?.send_buffer_bytes = positive(value)?;
        Ok(())
    }

    fn subscribe(&mut self, this: Resource<TcpSocket>) -> wasmtime::Result<Resource<DynPollable>> {
        subscribe(self.table, this)
    }

    fn shutdown(&mut self, this: Resource<TcpSocket>, how: ShutdownType) -> SocketResult<()> {
        let State::Connected { connection, .. } = &self.socket(&this)?.state else {
            return Err(ErrorCode::InvalidState.into());
        };
        if matches!(how, ShutdownType::Receive | ShutdownType::Both) {
            connection.shutdown_receive();
        }
        if matches!(how, ShutdownType::Send | ShutdownType::Both) {
            connection.shutdown_send();
        }
        Ok(())
    }

    fn drop(&mut self, this: Resource<TcpSocket>) -> wasmtime::Result<()> {
        self.table.delete(this)?;
        Ok(())
    }
}
