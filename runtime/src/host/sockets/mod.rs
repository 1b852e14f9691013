//! `wasi:sockets` as a pod sees it: its own address, its own ports, the cluster's names and Services.
//!
//! wasmtime-wasi's sockets are the host's own and can only be allowed or denied. These have resource types of their own
//! and go through [`k8w_networking::Network`]: a connection to a Service finds an endpoint, two pods can both listen on
//! `0.0.0.0:8080`, and traffic between components of this node never becomes a socket.

pub(super) mod address;
pub(super) mod datagram;
mod lookup;
pub(super) mod options;
pub(super) mod port;
pub(super) mod stream;
mod tcp;
mod udp;

use std::io;
use std::sync::Arc;

pub use bindings::wasi::sockets0_2_12 as wit;
use k8w_networking::open_files::are_too_many;
use wasmtime::component::{HasData, Linker};
pub use wasmtime::component::{Resource, ResourceTable};
use wasmtime_wasi::TrappableError;
pub use wasmtime_wasi::p2::{DynInputStream, DynOutputStream, Pollable, StreamError};
use wit::network::ErrorCode;

use super::pod_network::PodNetwork;
use crate::wasm::store::State;

mod bindings {
    wasmtime::component::bindgen!({
        path: "../wit",
        world: "k8w:host/sockets",
        imports: {
            "wasi:sockets/tcp.[method]tcp-socket.start-bind": async | tracing | trappable,
            default: tracing | trappable,
        },
        with: {
            "wasi:io": wasmtime_wasi::p2::bindings::io,
            "wasi:clocks": wasmtime_wasi::p2::bindings::clocks,
            "wasi:sockets/network.network": super::NetworkHandle,
            "wasi:sockets/ip-name-lookup.resolve-address-stream": super::lookup::Addresses,
            "wasi:sockets/tcp.tcp-socket": super::tcp::TcpSocket,
            "wasi:sockets/udp.udp-socket": super::udp::UdpSocket,
            "wasi:sockets/udp.incoming-datagram-stream": super::udp::IncomingDatagrams,
            "wasi:sockets/udp.outgoing-datagram-stream": super::udp::OutgoingDatagrams,
        },
        trappable_error_type: {
            "wasi:sockets/network.error-code" => super::SocketError,
        },
    });
}

pub fn network(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    let options = wit::network::LinkOptions::default();
    wit::network::add_to_linker::<State, HasSockets>(linker, &options, State::sockets)
}

pub fn instance_network(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    wit::instance_network::add_to_linker::<State, HasSockets>(linker, State::sockets)
}

pub fn ip_name_lookup(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    wit::ip_name_lookup::add_to_linker::<State, HasSockets>(linker, State::sockets)
}

pub fn tcp(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    wit::tcp::add_to_linker::<State, HasSockets>(linker, State::sockets)
}

pub fn tcp_create_socket(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    wit::tcp_create_socket::add_to_linker::<State, HasSockets>(linker, State::sockets)
}

pub fn udp(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    wit::udp::add_to_linker::<State, HasSockets>(linker, State::sockets)
}

pub fn udp_create_socket(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    wit::udp_create_socket::add_to_linker::<State, HasSockets>(linker, State::sockets)
}

/// What these functions work on: an instance's handles, over the network that all instances of its container share.
pub struct Sockets<'s> {
    pub table: &'s mut ResourceTable,
    pub network: &'s Arc<PodNetwork>,
}

struct HasSockets;

impl HasData for HasSockets {
    type Data<'s> = Sockets<'s>;
}

/// The error of every socket function: a code for the guest, or a trap, as for a misused handle.
pub type SocketError = TrappableError<ErrorCode>;

pub type SocketResult<T> = Result<T, SocketError>;

/// A value that must not be zero (`invalid-argument` otherwise).
fn positive<T: PartialEq + From<u8>>(value: T) -> SocketResult<T> {
    if value == T::from(0) { Err(ErrorCode::InvalidArgument.into()) } else { Ok(value) }
}

/// The capability to use the pod's network. Every pod has it; policy is decided per connection.
pub struct NetworkHandle;

impl wit::network::Host for Sockets<'_> {
    fn convert_error_code(&mut self, error: SocketError) -> wasmtime::Result<ErrorCode> {
        error.downcast()
    }

    fn network_error_code(&mut self, error: Resource<wasmtime::Error>) -> wasmtime::Result<Option<ErrorCode>> {
        Ok(self.table.get(&error)?.downcast_ref::<io::Error>().map(code))
    }
}

impl wit::network::HostNetwork for Sockets<'_> {
    fn drop(&mut self, network: Resource<NetworkHandle>) -> wasmtime::Result<()> {
        self.table.delete(network)?;
        Ok(())
    }
}

impl wit::instance_network::Host for Sockets<'_> {
    fn instance_network(&mut self) -> wasmtime::Result<Resource<NetworkHandle>> {
        Ok(self.table.push(NetworkHandle)?)
    }
}

/// An I/O error in the words of `wasi:sockets/network.error-code`.
fn code(error: &io::Error) -> ErrorCode {
    if are_too_many(error) {
        return ErrorCode::NewSocketLimit;
    }
    match error.kind() {
        io::ErrorKind::AddrInUse => ErrorCode::AddressInUse,
        io::ErrorKind::AddrNotAvailable => ErrorCode::AddressNotBindable,
        io::ErrorKind::ConnectionAborted => ErrorCode::ConnectionAborted,
        io::ErrorKind::ConnectionRefused => ErrorCode::ConnectionRefused,
        io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => ErrorCode::ConnectionReset,
        io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable => ErrorCode::RemoteUnreachable,
        io::ErrorKind::InvalidInput => ErrorCode::InvalidArgument,
        io::ErrorKind::NotConnected => ErrorCode::InvalidState,
        io::ErrorKind::OutOfMemory => ErrorCode::OutOfMemory,
        io::ErrorKind::PermissionDenied => ErrorCode::AccessDenied,
        io::ErrorKind::TimedOut => ErrorCode::Timeout,
        io::ErrorKind::Unsupported => ErrorCode::NotSupported,
        io::ErrorKind::WouldBlock => ErrorCode::WouldBlock,
        _ => ErrorCode::Unknown,
    }
}
