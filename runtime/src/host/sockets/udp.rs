//! `wasi:sockets/udp`: datagrams in the pod's own port space, through Services, and to hosts outside.
//!
//! The states are those of `wit/deps/sockets` (`UdpSocketOperationalSemantics`). A port is taken when it is bound.

use std::net::SocketAddr;
use std::sync::Arc;

use k8w_networking::udp::{Datagram, MAX_DATAGRAM_BYTES, PodSocket};
use wasmtime::component::Resource;
use wasmtime_wasi::p2::{DynPollable, Pollable, subscribe};

use super::address::{family, is_remote};
use super::datagram;
use super::options::UdpOptions;
use super::port::bind_udp;
use super::wit::network::{ErrorCode, IpAddressFamily, IpSocketAddress};
use super::wit::udp::{self, IncomingDatagram, OutgoingDatagram};
use super::wit::udp_create_socket;
use super::{NetworkHandle, SocketError, SocketResult, Sockets, code, positive};
use crate::host::pod_network::SocketPermit;

/// Datagrams that one `check-send` permits, and that one `receive` gives at most.
const BATCH_DATAGRAMS: usize = 16;

/// One UDP socket of a guest.
pub struct UdpSocket {
    family: IpAddressFamily,
    state: State,
    options: UdpOptions,
    _permit: SocketPermit,
}

enum State {
    Unbound,
    BindStarted(Bound),
    Bound(Bound),
}

struct Bound {
    /// As the guest asked for it (it may be `0.0.0.0`), with the port that it got.
    local: SocketAddr,
    /// The only peer, when `stream` was given one.
    remote: Option<SocketAddr>,
    socket: Arc<PodSocket>,
}

/// What arrives at a socket.
pub struct IncomingDatagrams {
    socket: Arc<PodSocket>,
    family: IpAddressFamily,
    remote: Option<SocketAddr>,
    /// Taken from the socket to find out whether `receive` would wait.
    next: Option<Datagram>,
}

/// What leaves a socket.
pub struct OutgoingDatagrams {
    socket: Arc<PodSocket>,
    family: IpAddressFamily,
    remote: Option<SocketAddr>,
    permitted: usize,
}

impl IncomingDatagrams {
    fn heard(&self, datagram: Datagram) -> Option<Datagram> {
        datagram::heard(&self.socket, datagram, self.remote, self.family == IpAddressFamily::Ipv6)
    }

    fn take(&mut self) -> Option<Datagram> {
        if let Some(next) = self.next.take() {
            return Some(next);
        }
        loop {
            let heard = self.heard(self.socket.try_receive()?);
            if heard.is_some() {
                return heard;
            }
        }
    }
}

#[async_trait::async_trait]
impl Pollable for IncomingDatagrams {
    async fn ready(&mut self) {
        while self.next.is_none() {
            let datagram = self.socket.receive().await;
            self.next = self.heard(datagram);
        }
    }
}

#[async_trait::async_trait]
impl Pollable for OutgoingDatagrams {
    /// A datagram that finds no room is lost, so that there is nothing to wait for.
    async fn ready(&mut self) {}
}

#[async_trait::async_trait]
impl Pollable for UdpSocket {
    /// Binding takes no time.
    async fn ready(&mut self) {}
}

impl udp_create_socket::Host for Sockets<'_> {
    fn create_udp_socket(&mut self, family: IpAddressFamily) -> SocketResult<Resource<UdpSocket>> {
        let socket = UdpSocket {
            family,
            state: State::Unbound,
            options: UdpOptions::default(),
            _permit: SocketPermit::take(self.network).ok_or(ErrorCode::NewSocketLimit)?,
        };
        self.table.push(socket).map_err(SocketError::trap)
    }
}

impl Sockets<'_> {
    fn udp_socket(&mut self, socket: &Resource<UdpSocket>) -> SocketResult<&mut UdpSocket> {
        self.table.get_mut(socket).map_err(SocketError::trap)
    }
}

impl UdpSocket {
    fn bound(&mut self) -> SocketResult<&mut Bound> {
        match &mut self.state {
            State::Bound(bound) => Ok(bound),
            State::Unbound | State::BindStarted(_) => Err(ErrorCode::InvalidState.into()),
        }
    }
}

fn check_remote(own: IpAddressFamily, remote: &SocketAddr) -> SocketResult<()> {
    if is_remote(own, remote) { Ok(()) } else { Err(ErrorCode::InvalidArgument.into()) }
}

impl udp::Host for Sockets<'_> {}

impl udp::HostUdpSocket for Sockets<'_> {
    fn start_bind(
        &mut self,
        this: Resource<UdpSocket>,
        network: Resource<NetworkHandle>,
        local_address: IpSocketAddress,
    ) -> SocketResult<()> {
        self.table.get(&network).map_err(SocketError::trap)?;
        let own = self.network.clone();
        let socket = self.udp_socket(&this)?;
        let local = SocketAddr::from(local_address);
        match socket.state {
            State::Unbound => {}
            State::BindStarted(_) => return Err(ErrorCode::ConcurrencyConflict.into()),
            State::Bound(_) => return Err(ErrorCode::InvalidState.into()),
        }
        if family(&local) != socket.family {
            return Err(ErrorCode::InvalidArgument.into());
        }
        let (local, bound) = bind_udp(&own, local).map_err(|error| code(&error))?;
        socket.state = State::BindStarted(Bound { local, remote: None, socket: Arc::new(bound) });
        Ok(())
    }

    fn finish_bind(&mut self, this: Resource<UdpSocket>) -> SocketResult<()> {
        let socket = self.udp_socket(&this)?;
        match std::mem::replace(&mut socket.state, State::Unbound) {
            State::BindStarted(bound) => {
                socket.state = State::Bound(bound);
                Ok(())
            }
            other => {
                socket.state = other;
                Err(ErrorCode::NotInProgress.into())
            }
        }
    }

    fn stream(
        &mut self,
        this: Resource<UdpSocket>,
        remote_address: Option<IpSocketAddress>,
    ) -> SocketResult<(Resource<IncomingDatagrams>, Resource<OutgoingDatagrams>)> {
        let socket = self.udp_socket(&this)?;
        let (family, remote) = (socket.family, remote_address.map(SocketAddr::from));
        if let Some(remote) = &remote {
            check_remote(family, remote)?;
        }
        let bound = socket.bound()?;
        // The streams before these must be gone: two readers would take each other's datagrams.
        if Arc::strong_count(&bound.socket) > 1 {
            return Err(SocketError::trap(wasmtime::format_err!("a UDP socket has its streams already")));
        }
        bound.remote = remote;
        let shared = bound.socket.clone();
        let incoming = IncomingDatagrams { socket: shared.clone(), family, remote, next: None };
        let outgoing = OutgoingDatagrams { socket: shared, family, remote, permitted: 0 };
        let incoming = self.table.push_child(incoming, &this).map_err(SocketError::trap)?;
        let outgoing = self.table.push_child(outgoing, &this).map_err(SocketError::trap)?;
        Ok((incoming, outgoing))
    }

    fn local_address(&mut self, this: Resource<UdpSocket>) -> SocketResult<IpSocketAddress> {
        match &self.udp_socket(&this)?.state {
            State::Bound(bound) => Ok(bound.local.into()),
            State::BindStarted(_) => Err(ErrorCode::ConcurrencyConflict.into()),
            State::Unbound => Err(ErrorCode::InvalidState.into()),
        }
    }

    fn remote_address(&mut self, this: Resource<UdpSocket>) -> SocketResult<IpSocketAddress> {
        let remote = self.udp_socket(&this)?.bound()?.remote;
        remote.map(Into::into).ok_or_else(|| ErrorCode::InvalidState.into())
    }

    fn address_family(&mut self, this: Resource<UdpSocket>) -> wasmtime::Result<IpAddressFamily> {
        Ok(self.table.get(&this)?.family)
    }

    fn unicast_hop_limit(&mut self, this: Resource<UdpSocket>) -> SocketResult<u8> {
        Ok(self.udp_socket(&this)?.options.hop_limit)
    }

    fn set_unicast_hop_limit(&mut self, this: Resource<UdpSocket>, value: u8) -> SocketResult<()> {
        self.udp_socket(&this)?.options.hop_limit = positive(value)?;
        Ok(())
    }

    fn receive_buffer_size(&mut self, this: Resource<UdpSocket>) -> SocketResult<u64> {
        Ok(self.udp_socket(&this)?.options.receive_buffer_bytes)
    }

    fn set_receive_buffer_size(&mut self, this: Resource<UdpSocket>, value: u64) -> SocketResult<()> {
        self.udp_socket(&this)?.options.receive_buffer_bytes = positive(value)?;
        Ok(())
    }

    fn send_buffer_size(&mut self, this: Resource<UdpSocket>) -> SocketResult<u64> {
        Ok(self.udp_socket(&this)?.options.send_buffer_bytes)
    }

    fn set_send_buffer_size(&mut self, this: Resource<UdpSocket>, value: u64) -> SocketResult<()> {
        self.udp_socket(&this)?.options.send_buffer_bytes = positive(value)?;
        Ok(())
    }

    fn subscribe(&mut self, this: Resource<UdpSocket>) -> wasmtime::Result<Resource<DynPollable>> {
        subscribe(self.table, this)
    }

    fn drop(&mut self, this: Resource<UdpSocket>) -> wasmtime::Result<()> {
        self.table.delete(this)?;
        Ok(())
    }
}

impl udp::HostIncomingDatagramStream for Sockets<'_> {
    fn receive(&mut self, this: Resource<IncomingDatagrams>, max_results: u64) -> SocketResult<Vec<IncomingDatagram>> {
        let incoming = self.table.get_mut(&this).map_err(SocketError::trap)?;
        let most = usize::try_from(max_results).map_or(BATCH_DATAGRAMS, |most| most.min(BATCH_DATAGRAMS));
        let datagrams = std::iter::from_fn(|| incoming.take()).take(most);
        let shown =
            |datagram: Datagram| IncomingDatagram { data: datagram.bytes.into(), remote_address: datagram.peer.into() };
        Ok(datagrams.map(shown).collect())
    }

    fn subscribe(&mut self, this: Resource<IncomingDatagrams>) -> wasmtime::Result<Resource<DynPollable>> {
        subscribe(self.table, this)
    }

    fn drop(&mut self, this: Resource<IncomingDatagrams>) -> wasmtime::Result<()> {
        self.table.delete(this)?;
        Ok(())
    }
}

impl udp::HostOutgoingDatagramStream for Sockets<'_> {
    fn check_send(&mut self, this: Resource<OutgoingDatagrams>) -> SocketResult<u64> {
        let outgoing = self.table.get_mut(&this).map_err(SocketError::trap)?;
        outgoing.permitted = BATCH_DATAGRAMS;
        Ok(BATCH_DATAGRAMS as u64)
    }

    fn send(&mut self, this: Resource<OutgoingDatagrams>, datagrams: Vec<OutgoingDatagram>) -> SocketResult<u64> {
        let outgoing = self.table.get_mut(&this).map_err(SocketError::trap)?;
        if datagrams.len() > outgoing.permitted {
            let why = wasmtime::format_err!("more datagrams are sent than `check-send` permitted");
            return Err(SocketError::trap(why));
        }
        outgoing.permitted = 0;
        let mut sent = 0;
        for datagram in datagrams {
            match outgoing.send(datagram) {
                Ok(()) => sent += 1,
                // Those before it are sent; the error comes again with the next call.
                Err(_) if sent > 0 => break,
                Err(error) => return Err(error),
            }
        }
        Ok(sent)
    }

    fn subscribe(&mut self, this: Resource<OutgoingDatagrams>) -> wasmtime::Result<Resource<DynPollable>> {
        subscribe(self.table, this)
    }

    fn drop(&mut self, this: Resource<OutgoingDatagrams>) -> wasmtime::Result<()> {
        self.table.delete(this)?;
        Ok(())
    }
}

impl OutgoingDatagrams {
    fn send(&self, datagram: OutgoingDatagram) -> SocketResult<()> {
        let to = datagram::recipient(datagram.remote_address.map(SocketAddr::from), self.remote);
        let to = to.ok_or(ErrorCode::InvalidArgument)?;
        check_remote(self.family, &to)?;
        if datagram.data.len() > MAX_DATAGRAM_BYTES {
            return Err(ErrorCode::DatagramTooLarge.into());
        }
        datagram::send(&self.socket, datagram.data, to, self.remote).map_err(|error| code(&error).into())
    }
}
