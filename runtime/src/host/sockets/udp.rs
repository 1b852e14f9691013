//! `wasi:sockets/udp`: not given yet. Creating a socket says `not-supported`, so that programs which merely could use
//! UDP link and run.

use wasmtime::component::Resource;
use wasmtime_wasi::p2::DynPollable;

use super::wit::network::{ErrorCode, IpAddressFamily, IpSocketAddress};
use super::wit::udp::{self, IncomingDatagram, OutgoingDatagram};
use super::wit::udp_create_socket;
use super::{NetworkHandle, SocketResult};
use crate::wasm::store::State;

/// No socket of this type exists, so none of its functions can be reached with a valid handle.
pub enum UdpSocket {}
pub enum IncomingDatagrams {}
pub enum OutgoingDatagrams {}

const UNSUPPORTED: ErrorCode = ErrorCode::NotSupported;

impl udp_create_socket::Host for State {
    fn create_udp_socket(&mut self, _family: IpAddressFamily) -> SocketResult<Resource<UdpSocket>> {
        Err(UNSUPPORTED.into())
    }
}

impl udp::Host for State {}

impl udp::HostUdpSocket for State {
    fn start_bind(
        &mut self,
        _: Resource<UdpSocket>,
        _: Resource<NetworkHandle>,
        _: IpSocketAddress,
    ) -> SocketResult<()> {
        Err(UNSUPPORTED.into())
    }

    fn finish_bind(&mut self, _: Resource<UdpSocket>) -> SocketResult<()> {
        Err(UNSUPPORTED.into())
    }

    fn stream(
        &mut self,
        _: Resource<UdpSocket>,
        _: Option<IpSocketAddress>,
    ) -> SocketResult<(Resource<IncomingDatagrams>, Resource<OutgoingDatagrams>)> {
        Err(UNSUPPORTED.into())
    }

    fn local_address(&mut self, _: Resource<UdpSocket>) -> SocketResult<IpSocketAddress> {
        Err(UNSUPPORTED.into())
    }

    fn remote_address(&mut self, _: Resource<UdpSocket>) -> SocketResult<IpSocketAddress> {
        Err(UNSUPPORTED.into())
    }

    fn address_family(&mut self, socket: Resource<UdpSocket>) -> wasmtime::Result<IpAddressFamily> {
        match *self.table.get(&socket)? {}
    }

    fn unicast_hop_limit(&mut self, _: Resource<UdpSocket>) -> SocketResult<u8> {
        Err(UNSUPPORTED.into())
    }

    fn set_unicast_hop_limit(&mut self, _: Resource<UdpSocket>, _: u8) -> SocketResult<()> {
        Err(UNSUPPORTED.into())
    }

    fn receive_buffer_size(&mut self, _: Resource<UdpSocket>) -> SocketResult<u64> {
        Err(UNSUPPORTED.into())
    }

    fn set_receive_buffer_size(&mut self, _: Resource<UdpSocket>, _: u64) -> SocketResult<()> {
        Err(UNSUPPORTED.into())
    }

    fn send_buffer_size(&mut self, _: Resource<UdpSocket>) -> SocketResult<u64> {
        Err(UNSUPPORTED.into())
    }

    fn set_send_buffer_size(&mut self, _: Resource<UdpSocket>, _: u64) -> SocketResult<()> {
        Err(UNSUPPORTED.into())
    }

    fn subscribe(&mut self, socket: Resource<UdpSocket>) -> wasmtime::Result<Resource<DynPollable>> {
        match *self.table.get(&socket)? {}
    }

    fn drop(&mut self, socket: Resource<UdpSocket>) -> wasmtime::Result<()> {
        match self.table.delete(socket)? {}
    }
}

impl udp::HostIncomingDatagramStream for State {
    fn receive(&mut self, _: Resource<IncomingDatagrams>, _: u64) -> SocketResult<Vec<IncomingDatagram>> {
        Err(UNSUPPORTED.into())
    }

    fn subscribe(&mut self, stream: Resource<IncomingDatagrams>) -> wasmtime::Result<Resource<DynPollable>> {
        match *self.table.get(&stream)? {}
    }

    fn drop(&mut self, stream: Resource<IncomingDatagrams>) -> wasmtime::Result<()> {
        match self.table.delete(stream)? {}
    }
}

impl udp::HostOutgoingDatagramStream for State {
    fn check_send(&mut self, _: Resource<OutgoingDatagrams>) -> SocketResult<u64> {
        Err(UNSUPPORTED.into())
    }

    fn send(&mut self, _: Resource<OutgoingDatagrams>, _: Vec<OutgoingDatagram>) -> SocketResult<u64> {
        Err(UNSUPPORTED.into())
    }

    fn subscribe(&mut self, stream: Resource<OutgoingDatagrams>) -> wasmtime::Result<Resource<DynPollable>> {
        match *self.table.get(&stream)? {}
    }

    fn drop(&mut self, stream: Resource<OutgoingDatagrams>) -> wasmtime::Result<()> {
        match self.table.delete(stream)? {}
    }
}
