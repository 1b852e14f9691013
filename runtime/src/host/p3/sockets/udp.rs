//! `wasi:sockets/types.udp-socket` 0.3: datagrams in the pod's own port space, through Services, and to hosts outside.

use std::net::SocketAddr;
use std::sync::Arc;

use k8w_networking::udp::{MAX_DATAGRAM_BYTES, PodSocket};
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
    fn bind(&mut self, own: &PodNetwork, local: SocketAddr) -> SocketResult<()> {
        if self.bound.is_some() {
            return Err(ErrorCode::InvalidState.into());
        }
        if family(&local) != self.family {
            return Err(ErrorCode::InvalidArgument.into());
        }
        let (local, socket) = bind_udp(own, local).map_err(|error| code(&error))?;
        self.bound = Some(Bound { local, socket: Arc::new(socket) });
        Ok(())
    }

    /// The socket behind this one, which gets a port of its own if it has none yet.
    fn socket(&mut self, own: &PodNetwork) -> SocketResult<Arc<PodSocket>> {
        if self.bound.is_none() {
            self.bind(own, unspecified(self.family))?;
        }
        self.bound.as_ref().map(|bound| bound.socket.clone()).ok_or_else(|| ErrorCode::InvalidState.into())
    }

    fn send(&mut self, own: &PodNetwork, data: Vec<u8>, to: Option<SocketAddr>) -> SocketResult<()> {
        let to = datagram::recipient(to, self.remote).filter(|to| is_remote(self.family, to));
        let to = to.ok_or(ErrorCode::InvalidArgument)?;
        if data.len() > MAX_DATAGRAM_BYTES {
            return Err(ErrorCode::DatagramTooLarge.into());
        }
        let socket = self.socket(own)?;
        datagram::send(&socket, data, to, self.remote).map_err(|error| code(&error).into())
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
            instance.udp(&this)?.send(&own, data, remote_address.map(SocketAddr::from))
        })
    }

    async fn receive(
        accessor: &Accessor<Instance, Self>,
        this: Resource<UdpSocket>,
    ) -> SocketResult<(Vec<u8>, IpSocketAddress)> {
        let (socket, remote) = accessor.with(|mut store| -> SocketResult<_> {
            let udp = store.get().udp(&this)?;
            let bound = udp.bound.as_ref().ok_or(ErrorCode::InvalidState)?;
            Ok((bound.socket.clone(), udp.remote))
        })?;
        loop {
            if let Some(datagram) = datagram::heard(&socket, socket.receive().await, remote) {
                return Ok((datagram.bytes.into(), datagram.peer.into()));
            }
        }
    }
}

impl HostUdpSocket for Instance {
    fn create(&mut self, family: IpAddressFamily) -> SocketResult<Resource<UdpSocket>> {
        let permit = SocketPermit::take(&self.container.network).ok_or_else(too_many_sockets)?;
        let socket = UdpSocket { family, bound: None, remote: None, options: UdpOptions::default(), _permit: permit };
        self.table.push(socket).map_err(SocketError::trap)
    }

    fn bind(&mut self, this: Resource<UdpSocket>, local_address: IpSocketAddress) -> SocketResult<()> {
        let own = self.container.network.clone();
        self.udp(&this)?.bind(&own, local_address.into())
    }

    fn connect(&mut self, this: Resource<UdpSocket>, remote_address: IpSocketAddress) -> SocketResult<()> {
        let own = self.container.network.clone();
        let udp = self.udp(&this)?;
        let remote = SocketAddr::from(remote_address);
        if !is_remote(udp.family, &remote) {
            return Err(ErrorCode::InvalidArgument.into());
        }
        udp.socket(&own)?;
        udp.remote = Some(remote);
        Ok(())
    }

    fn disconnect(&mut self, this: Resource<UdpSocket>) -> SocketResult<()> {
        let remote = self.udp(&this)?.remote.take();
        remote.map(drop).ok_or_else(|| ErrorCode::InvalidState.into())
    }

    fn get_local_address(&mut self, this: Resource<UdpSocket>) -> SocketResult<IpSocketAddress> {
        let bound = self.udp(&this)?.bound.as_ref();
        bound.map(|bound| bound.local.into()).ok_or_else(|| ErrorCode::InvalidState.into())
    }

    fn get_remote_address(&mut self, this: Resource<UdpSocket>) -> SocketResult<IpSocketAddress> {
        let remote = self.udp(&this)?.remote;
        remote.map(Into::into).ok_or_else(|| ErrorCode::InvalidState.into())
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
