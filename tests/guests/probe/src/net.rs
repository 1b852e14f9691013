//! Names and connections, as a program that uses `wasi:sockets` directly.

use std::io::{Read, Write};

use wasip2::io::streams::{InputStream, OutputStream};
use wasip2::sockets::instance_network::instance_network;
use wasip2::sockets::ip_name_lookup::resolve_addresses;
use wasip2::sockets::network::{ErrorCode, IpAddress, IpAddressFamily, IpSocketAddress, Ipv4SocketAddress};
use wasip2::sockets::tcp::{ShutdownType, TcpSocket};
use wasip2::sockets::tcp_create_socket::create_tcp_socket;
use wasip2::sockets::udp::{
    IncomingDatagram, IncomingDatagramStream, OutgoingDatagram, OutgoingDatagramStream, UdpSocket,
};
use wasip2::sockets::udp_create_socket::create_udp_socket;

/// The addresses of a name, one a line; an error code otherwise.
pub fn resolve(name: &str) -> String {
    let found = || -> Result<String, ErrorCode> {
        let stream = resolve_addresses(&instance_network(), name)?;
        let mut text = String::new();
        loop {
            match stream.resolve_next_address() {
                Ok(Some(IpAddress::Ipv4((a, b, c, d)))) => text += &format!("{a}.{b}.{c}.{d}\n"),
                Ok(Some(IpAddress::Ipv6(_))) => {}
                Ok(None) => return Ok(text),
                Err(ErrorCode::WouldBlock) => stream.subscribe().block(),
                Err(code) => return Err(code),
            }
        }
    };
    found().unwrap_or_else(|code| code.name().to_owned())
}

pub fn address(ip: &str, port: u16) -> IpSocketAddress {
    let mut parts = ip.split('.').map(|part| part.parse().expect("an IPv4 address"));
    let mut part = || parts.next().expect("four parts");
    IpSocketAddress::Ipv4(Ipv4SocketAddress { port, address: (part(), part(), part(), part()) })
}

pub fn wait<T>(socket: &TcpSocket, mut attempt: impl FnMut() -> Result<T, ErrorCode>) -> Result<T, ErrorCode> {
    loop {
        match attempt() {
            Err(ErrorCode::WouldBlock) => socket.subscribe().block(),
            done => return done,
        }
    }
}

pub fn connected(ip: &str, port: u16) -> Result<(TcpSocket, InputStream, OutputStream), ErrorCode> {
    let socket = create_tcp_socket(IpAddressFamily::Ipv4)?;
    socket.start_connect(&instance_network(), address(ip, port))?;
    let (input, output) = wait(&socket, || socket.finish_connect())?;
    Ok((socket, input, output))
}

/// Sends `text` to a listener and returns all that it answers; an error code otherwise.
pub fn ask(ip: &str, port: u16, text: &str) -> String {
    match connected(ip, port) {
        Ok((socket, mut input, mut output)) => {
            output.write_all(text.as_bytes()).expect("the peer reads");
            output.flush().expect("the peer reads");
            socket.shutdown(ShutdownType::Send).expect("a connection can be shut down");
            let mut answer = String::new();
            input.read_to_string(&mut answer).expect("the peer answers");
            answer
        }
        Err(code) => code.name().to_owned(),
    }
}

pub fn listener(ip: &str, port: u16) -> Result<TcpSocket, ErrorCode> {
    let socket = create_tcp_socket(IpAddressFamily::Ipv4)?;
    socket.start_bind(&instance_network(), address(ip, port))?;
    wait(&socket, || socket.finish_bind())?;
    socket.start_listen()?;
    wait(&socket, || socket.finish_listen())?;
    Ok(socket)
}

/// Listens, and answers so many connections with the name and what they sent.
pub fn listen(ip: &str, port: u16, name: &str, connections: usize) -> Result<(), ErrorCode> {
    let socket = listener(ip, port)?;
    println(&format!("listening on {port}"));
    for _ in 0..connections {
        let (accepted, mut input, mut output) = wait(&socket, || socket.accept())?;
        let mut text = String::new();
        input.read_to_string(&mut text).expect("the peer sends");
        output.write_all(format!("{name} heard {text}").as_bytes()).expect("the peer reads");
        output.flush().expect("the peer reads");
        drop((input, output));
        drop(accepted);
    }
    Ok(())
}

/// How many sockets can be had.
pub fn count_sockets() -> usize {
    let mut sockets = Vec::new();
    while let Ok(socket) = create_tcp_socket(IpAddressFamily::Ipv4) {
        sockets.push(socket);
    }
    sockets.len()
}

pub fn bound(ip: &str, port: u16) -> Result<UdpSocket, ErrorCode> {
    let socket = create_udp_socket(IpAddressFamily::Ipv4)?;
    socket.start_bind(&instance_network(), address(ip, port))?;
    socket.finish_bind()?;
    Ok(socket)
}

pub fn receive(incoming: &IncomingDatagramStream) -> Result<IncomingDatagram, ErrorCode> {
    loop {
        if let Some(datagram) = incoming.receive(1)?.pop() {
            return Ok(datagram);
        }
        incoming.subscribe().block();
    }
}

pub fn send(outgoing: &OutgoingDatagramStream, data: Vec<u8>, to: Option<IpSocketAddress>) -> Result<u64, ErrorCode> {
    while outgoing.check_send()? == 0 {
        outgoing.subscribe().block();
    }
    outgoing.send(&[OutgoingDatagram { data, remote_address: to }])
}

/// Answers so many datagrams with the name and what they said.
pub fn hear(ip: &str, port: u16, name: &str, datagrams: usize) -> Result<(), ErrorCode> {
    let socket = bound(ip, port)?;
    let (incoming, outgoing) = socket.stream(None)?;
    println(&format!("listening on {port}"));
    for _ in 0..datagrams {
        let datagram = receive(&incoming)?;
        let answer = [format!("{name} heard ").as_bytes(), &datagram.data].concat();
        send(&outgoing, answer, Some(datagram.remote_address))?;
    }
    Ok(())
}

/// Sends a datagram and returns the answer and whether it came from where the question went; an error code otherwise.
pub fn say(ip: &str, port: u16, text: &str) -> String {
    let asked = || -> Result<String, ErrorCode> {
        let socket = bound("0.0.0.0", 0)?;
        // Once to anybody, and once as a socket with one peer.
        let mut answers = Vec::new();
        for peer in [None, Some(address(ip, port))] {
            let (incoming, outgoing) = socket.stream(peer)?;
            send(&outgoing, text.into(), peer.is_none().then(|| address(ip, port)))?;
            let answer = receive(&incoming)?;
            let same = format!("{:?}", answer.remote_address) == format!("{:?}", address(ip, port));
            answers.push(format!("{} ({same})", String::from_utf8_lossy(&answer.data)));
        }
        Ok(answers.join(", "))
    };
    asked().unwrap_or_else(|code| code.name().to_owned())
}

/// What a socket with one peer is told of its datagrams.
pub fn reach(ip: &str, port: u16) -> String {
    let sent = || bound("0.0.0.0", 0)?.stream(Some(address(ip, port))).and_then(|(_, out)| send(&out, vec![0], None));
    sent().map_or_else(|code| code.name().to_owned(), |sent| format!("{sent} sent"))
}

pub fn println(line: &str) {
    let mut stdout = wasip2::cli::stdout::get_stdout();
    stdout.write_all(line.as_bytes()).expect("standard output takes lines");
    stdout.write_all(b"\n").expect("standard output takes lines");
}
