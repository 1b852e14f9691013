//! `wasi:sockets/types.udp-socket` 0.3: datagrams in the pod's own port space, through Services, and to hosts outside.

use std::net::SocketAddr;
use std::sync::Arc;

use k8w_networking::udp::{Datagram, MAX_DATAGRAM_BYTES, PodSocket};
use wasmtime::component::{Accessor, HasSelf, Resource};

use super::address::{family, is_remote, unspecified};
use super::wit::types::{ErrorCode, HostUdpSocket, HostUdpSocketWithStore, IpAddressFamily, IpSocketAddress};
use super::{SocketError, SocketResult, code, positive, too_many_sockets};
use crate::host::pod_network::{PodNetwork, SocketPermit};
use crate::host::sockets::datagram;
use crate::host::sockets::options::UdpOptions;
use crate::host::sockets::port::bind_udp;
use crate::wasm::store::State as Instance;

/// One UDP socket of a guest.
pub struct UdpSocket {
    family: IpAddressFamily,
    bound: Option<Bound>,
    /// The only peer, while it is connected.
    remote: Option<SocketAddr>,
    options: UdpOptions,
    _permit: SocketPermit,
}

struct Bound {
    /// As the guest asked for it (it may be `0.0.0.0`), with the port that it got.
    local: SocketAddr,
    socket: Arc<PodSocket>,
}

impl UdpSocket {
    /// `None` when the container has as many sockets as it may have.
    pub fn new(own: &Arc<PodNetwork>, family: IpAddressFamily) -> Option<UdpSocket> {
        let permit = SocketPermit::take(own)?;
        Some(UdpSocket { family, bound: None, remote: None, options: UdpOptions::default(), _permit: permit })
    }

    /// # Errors
    /// `InvalidState` with a port, `InvalidArgument` for an address of another family, and those of [`bind_udp`].
    pub fn bind(&mut self, own: &PodNetwork, local: SocketAddr) -> Result<(), ErrorCode> {
        if self.bound.is_some() {
            return Err(ErrorCode::InvalidState);
        }
        if family(&local) != self.family {
            return Err(ErrorCode::InvalidArgument);
        }
        let (local, socket) = bind_udp(own, local).map_err(|error| code(&error))?;
        self.bound = Some(Bound { local, socket: Arc::new(socket) });
        Ok(())
    }

    /// The socket behind this one, which gets a port of its own if it has none yet.
    fn socket(&mut self, own: &PodNetwork) -> Result<Arc<PodSocket>, ErrorCode> {
        if self.bound.is_none() {
            self.bind(own, unspecified(self.family))?;
        }
        self.bound.as_ref().map(|bound| bound.socket.clone()).ok_or(ErrorCode::InvalidState)
    }

    /// # Errors
    /// `InvalidArgument` for what cannot be a peer.
    pub fn connect(&mut self, own: &PodNetwork, remote: SocketAddr) -> Result<(), ErrorCode> {
        if !is_remote(self.family, &remote) {
            return Err(ErrorCode::InvalidArgument);
        }
        self.socket(own)?;
        self.remote = Some(remote);
        Ok(())
    }

    /// # Errors
    /// `InvalidState` without a peer.
    pub fn disconnect(&mut self) -> Result<(), ErrorCode> {
        self.remote.take().map(drop).ok_or(ErrorCode::InvalidState)
    }

    /// # Errors
    /// `InvalidArgument` where there is no peer, or another one; `DatagramTooLarge`; what is known of a peer that was chosen.
    pub fn send(&mut self, own: &PodNetwork, data: Vec<u8>, to: Option<SocketAddr>) -> Result<(), ErrorCode> {
        let to = datagram::recipient(to, self.remote).filter(|to| is_remote(self.family, to));
        let to = to.ok_or(ErrorCode::InvalidArgument)?;
        if data.len() > MAX_DATAGRAM_BYTES {
            return Err(ErrorCode::DatagramTooLarge);
        }
        let socket = self.socket(own)?;
        datagram::send(&socket, data, to, self.remote).map_err(|error| code(&error))
    }

    /// What arrives, from the peer alone if there is one now.
    ///
    /// # Errors
    /// `InvalidState` without a port.
    pub fn receiver(&self) -> Result<Receiver, ErrorCode> {
        let bound = self.bound.as_ref().ok_or(ErrorCode::InvalidState)?;
        Ok(Receiver {
            socket: bound.socket.clone(),
            remote: self.remote,
            is_ipv6: self.family == IpAddressFamily::Ipv6,
        })
    }

    /// # Errors
    /// `InvalidState` without a port.
    pub fn local_address(&self) -> Result<SocketAddr, ErrorCode> {
        self.bound.as_ref().map(|bound| bound.local).ok_or(ErrorCode::InvalidState)
    }

    /// # Errors
    /// `InvalidState` without a peer.
    pub fn remote_address(&self) -> Result<SocketAddr, ErrorCode> {
        self.remote.ok_or(ErrorCode::InvalidState)
    }
}

/// What arrives at a socket.
pub struct Receiver {
    socket: Arc<PodSocket>,
    remote: Option<SocketAddr>,
    is_ipv6: bool,
}

impl Receiver {
    /// The next datagram. Cancel safe.
    pub async fn receive(&self) -> Datagram {
        loop {
            let datagram = self.socket.receive().await;
            if let Some(datagram) = datagram::heard(&self.socket, datagram, self.remote, self.is_ipv6) {
                return datagram;
            }
        }
    }
}

impl Instance {
    fn udp(&mut self, socket: &Resource<UdpSocket>) -> SocketResult<&mut UdpSocket> {
        self.table.get_mut(socket).map_err(SocketError::trap)
    }

    fn udp_options(&mut self, socket: &Resource<UdpSocket>) -> SocketResult<&mut UdpOptions> {
        Ok(&mut self.udp(socket)?.options)
    }
}

impl HostUdpSocketWithStore<Instance> for HasSelf<Instance> {
    async fn send(
        accessor: &Accessor<Instance, Self>,
        this: Resource<UdpSocket>,
        data: Vec<u8>,
        remote_address: Option<IpSocketAddress>,
    ) -> SocketResult<()> {
        accessor.with(|mut store| {
            let instance = store.get();
            let own = instance.container.network.clone();
            Ok(instance.udp(&this)?.send(&own, data, remote_address.map(SocketAddr::from))?)
        })
    }

    async fn receive(
        accessor: &Accessor<Instance, Self>,
        this: Resource<UdpSocket>,
    ) -> SocketResult<(Vec<u8>, IpSocketAddress)> {
        let receiver =
            accessor.with(|mut store| -> SocketResult<Receiver> { Ok(store.get().udp(&this)?.receiver()?) })?;
        let datagram = receiver.receive().await;
        Ok((datagram.bytes.into(), datagram.peer.into()))
    }
}

impl HostUdpSocket for Instance {
    fn create(&mut self, family: IpAddressFamily) -> SocketResult<Resource<UdpSocket>> {
        let socket = UdpSocket::new(&self.container.network, family).ok_or_else(too_many_sockets)?;
        self.table.push(socket).map_err(SocketError::trap)
    }

    fn bind(&mut self, this: Resource<UdpSocket>, local_address: IpSocketAddress) -> SocketResult<()> {
        let own = self.container.network.clone();
        Ok(self.udp(&this)?.bind(&own, local_address.into())?)
    }

    fn connect(&mut self, this: Resource<UdpSocket>, remote_address: IpSocketAddress) -> SocketResult<()> {
        let own = self.container.network.clone();
        Ok(self.udp(&this)?.connect(&own, remote_address.into())?)
    }

    fn disconnect(&mut self, this: Resource<UdpSocket>) -> SocketResult<()> {
        Ok(self.udp(&this)?.disconnect()?)
    }

    fn get_local_address(&mut self, this: Resource<UdpSocket>) -> SocketResult<IpSocketAddress> {
        Ok(self.udp(&this)?.local_address()?.into())
    }

    fn get_remote_address(&mut self, this: Resource<UdpSocket>) -> SocketResult<IpSocketAddress> {
        Ok(self.udp(&this)?.remote_address()?.into())
    }

    fn get_address_family(&mut self, this: Resource<UdpSocket>) -> wasmtime::Result<IpAddressFamily> {
        Ok(self.table.get(&this)?.family)
    }

    fn get_unicast_hop_limit(&mut self, this: Resource<UdpSocket>) -> SocketResult<u8> {
        Ok(self.udp_options(&this)?.hop_limit)
    }

    fn set_unicast_hop_limit(&mut self, this: Resource<UdpSocket>, value: u8) -> SocketResult<()> {
        self.udp_options(&this)?.hop_limit = positive(value)?;
        Ok(())
    }

    fn get_receive_buffer_size(&mut self, this: Resource<UdpSocket>) -> SocketResult<u64> {
        Ok(self.udp_options(&this)?.receive_buffer_bytes)
    }

    fn set_receive_buffer_size(&mut self, this: Resource<UdpSocket>, value: u64) -> SocketResult<()> {
        self.udp_options(&this)?.receive_buffer_bytes = positive(value)?;
        Ok(())
    }

    fn get_send_buffer_size(&mut self, this: Resource<UdpSocket>) -> SocketResult<u64> {
        Ok(self.udp_options(&this)?.send_buffer_bytes)
    }

    fn set_send_buffer_size(&mut self, this: Resource<UdpSocket>, value: u64) -> SocketResult<()> {
        self.udp_options(&this)?.send_buffer_bytes = positive(value)?;
        Ok(())
    }

    fn drop(&mut self, this: Resource<UdpSocket>) -> wasmtime::Result<()> {
        self.table.delete(this)?;
        Ok(())
    }
}
