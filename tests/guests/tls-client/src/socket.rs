//! A connection to a name, as a program that uses `wasi:sockets` directly.

use std::io::{self, Read, Write};

use wasip2::io::streams::{InputStream, OutputStream};
use wasip2::sockets::instance_network::instance_network;
use wasip2::sockets::ip_name_lookup::resolve_addresses;
use wasip2::sockets::network::{ErrorCode, IpAddress, IpAddressFamily, IpSocketAddress, Ipv4SocketAddress};
use wasip2::sockets::tcp::TcpSocket;
use wasip2::sockets::tcp_create_socket::create_tcp_socket;

const HTTPS: u16 = 443;

/// Its parts go before the whole.
pub struct Socket {
    input: InputStream,
    output: OutputStream,
    _socket: TcpSocket,
}

impl Socket {
    pub fn connect(host: &str) -> Result<Socket, ErrorCode> {
        let socket = create_tcp_socket(IpAddressFamily::Ipv4)?;
        let address = Ipv4SocketAddress { port: HTTPS, address: look_up(host)? };
        socket.start_connect(&instance_network(), IpSocketAddress::Ipv4(address))?;
        let (input, output) = loop {
            match socket.finish_connect() {
                Err(ErrorCode::WouldBlock) => socket.subscribe().block(),
                connected => break connected?,
            }
        };
        Ok(Socket { input, output, _socket: socket })
    }
}

/// The first address of a name.
fn look_up(host: &str) -> Result<(u8, u8, u8, u8), ErrorCode> {
    let addresses = resolve_addresses(&instance_network(), host)?;
    loop {
        match addresses.resolve_next_address() {
            Ok(Some(IpAddress::Ipv4(address))) => return Ok(address),
            Ok(Some(IpAddress::Ipv6(_))) => {}
            Ok(None) => return Err(ErrorCode::NameUnresolvable),
            Err(ErrorCode::WouldBlock) => addresses.subscribe().block(),
            Err(code) => return Err(code),
        }
    }
}

impl Read for Socket {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        Read::read(&mut self.input, buffer)
    }
}

impl Write for Socket {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Write::write(&mut self.output, bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Write::flush(&mut self.output)
    }
}
