//! `wasi:sockets` 0.3 as a pod sees it: the same ports, names, Services and policies as those of
//! [0.2](crate::host::sockets), and none of the host's own sockets.

mod address;
mod lookup;
pub mod tcp;
pub mod udp;

use std::io;

pub use bindings::wasi::sockets0_3_0 as wit;
use k8w_networking::open_files::are_too_many;
use wasmtime::component::{HasSelf, Linker};
use wasmtime_wasi::TrappableError;
use wit::types::ErrorCode;

use crate::wasm::store::State;

mod bindings {
    wasmtime::component::bindgen!({
        path: "../wit",
        world: "k8w:host/sockets-p3",
        imports: {
            "wasi:sockets/types.[method]tcp-socket.bind": async | tracing | trappable,
            "wasi:sockets/types.[method]tcp-socket.listen": async | store | tracing | trappable,
            "wasi:sockets/types.[method]tcp-socket.receive": store | tracing | trappable,
            "wasi:sockets/types.[method]tcp-socket.send": store | tracing | trappable,
            default: tracing | trappable,
        },
        with: {
            "wasi:clocks": wasmtime_wasi::p3::bindings::clocks,
            "wasi:sockets/types.tcp-socket": super::tcp::TcpSocket,
            "wasi:sockets/types.udp-socket": super::udp::UdpSocket,
        },
        trappable_error_type: {
            "wasi:sockets/types.error-code" => super::SocketError,
        },
    });
}

pub fn types(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    wit::types::add_to_linker::<State, HasSelf<State>>(linker, |state| state)
}

pub fn ip_name_lookup(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    wit::ip_name_lookup::add_to_linker::<State, HasSelf<State>>(linker, |state| state)
}

/// The error of every socket function: a code for the guest, or a trap, as for a misused handle.
pub type SocketError = TrappableError<ErrorCode>;

type SocketResult<T> = Result<T, SocketError>;

/// A value that must not be zero (`invalid-argument` otherwise).
fn positive<T: PartialEq + From<u8>>(value: T) -> SocketResult<T> {
    if value == T::from(0) { Err(ErrorCode::InvalidArgument.into()) } else { Ok(value) }
}

/// What a container is told that has as many sockets as it may have.
fn too_many_sockets() -> ErrorCode {
    ErrorCode::Other(Some("the container has as many sockets as it may have".to_owned()))
}

impl wit::types::Host for State {
    fn convert_error_code(&mut self, error: SocketError) -> wasmtime::Result<ErrorCode> {
        error.downcast()
    }
}

/// An I/O error in the words of `wasi:sockets/types.error-code`.
fn code(error: &io::Error) -> ErrorCode {
    if are_too_many(error) {
        return ErrorCode::Other(Some("this node has no room for more sockets".to_owned()));
    }
    match error.kind() {
        io::ErrorKind::AddrInUse => ErrorCode::AddressInUse,
        io::ErrorKind::AddrNotAvailable => ErrorCode::AddressNotBindable,
        io::ErrorKind::BrokenPipe => ErrorCode::ConnectionBroken,
        io::ErrorKind::ConnectionAborted => ErrorCode::ConnectionAborted,
        io::ErrorKind::ConnectionRefused => ErrorCode::ConnectionRefused,
        io::ErrorKind::ConnectionReset => ErrorCode::ConnectionReset,
        io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable => ErrorCode::RemoteUnreachable,
        io::ErrorKind::InvalidInput => ErrorCode::InvalidArgument,
        io::ErrorKind::NotConnected => ErrorCode::InvalidState,
        io::ErrorKind::OutOfMemory => ErrorCode::OutOfMemory,
        io::ErrorKind::PermissionDenied => ErrorCode::AccessDenied,
        io::ErrorKind::TimedOut => ErrorCode::Timeout,
        io::ErrorKind::Unsupported => ErrorCode::NotSupported,
        _ => ErrorCode::Other(None),
    }
}
