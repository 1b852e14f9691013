//! Questions by every way that a guest has, many of one instance, and servers that say a word to whoever comes.

use std::io::Read;

use wasip2::http::outgoing_handler;
use wasip2::http::types::Method;
use wasip2::io::poll::poll;
use wasip2::sockets::network::{ErrorCode, IpSocketAddress};
use wasip2::sockets::tcp::TcpSocket;
use wasip2::sockets::udp::{IncomingDatagramStream, OutgoingDatagramStream, UdpSocket};

use crate::http::outgoing;
use crate::net;

/// Asks each line's question, `WAY WHERE`, and answers with a line for each: what was heard, or an error's name.
pub fn ask_all(questions: &str) -> String {
    questions.lines().map(|question| ask(question) + "\n").collect()
}

fn ask(question: &str) -> String {
    let (way, at) = question.split_once(' ').unwrap_or((question, ""));
    let (ip, port) = at.split_once(':').unwrap_or((at, ""));
    let port = port.parse().unwrap_or(0);
    let heard = match way {
        "tcp" => by_tcp(ip, port),
        "udp" => by_udp(ip, port),
        "http" => return by_http(at),
        "name" => return net::resolve(at).trim_end().replace('\n', " "),
        _ => return format!("unknown: {way}"),
    };
    heard.unwrap_or_else(|code| code.name().to_owned())
}

fn by_tcp(ip: &str, port: u16) -> Result<String, ErrorCode> {
    let (_socket, mut input, _output) = net::connected(ip, port)?;
    let mut word = String::new();
    input.read_to_string(&mut word).map_err(|_| ErrorCode::ConnectionReset)?;
    Ok(word)
}

fn by_udp(ip: &str, port: u16) -> Result<String, ErrorCode> {
    let socket = net::bound("0.0.0.0", 0)?;
    let (incoming, outgoing) = socket.stream(Some(net::address(ip, port)))?;
    net::send(&outgoing, b"question".to_vec(), None)?;
    Ok(String::from_utf8_lossy(&net::receive(&incoming)?.data).into_owned())
}

fn by_http(target: &str) -> String {
    let future = outgoing_handler::handle(outgoing(&Method::Get, target), None).expect("a request that can be sent");
    future.subscribe().block();
    match future.get().expect("ready").expect("taken once") {
        Ok(response) if response.status() == 200 => {
            let body = response.consume().expect("a response has one body");
            let mut word = String::new();
            let mut input = body.stream().expect("a body has one stream");
            input.read_to_string(&mut word).expect("the body comes in");
            word
        }
        Ok(response) => format!("status {}", response.status()),
        Err(code) => format!("{code:?}"),
    }
}

/// Says a word and whom it is said to, at each port of `PORT=WORD`, by TCP or UDP, for as long as the guest lives.
pub fn say(protocol: &str, ports: &[String]) -> Result<(), ErrorCode> {
    let ports = ports.iter().filter_map(|text| text.split_once('='));
    let ports = ports.map(|(port, word)| (port.parse().unwrap_or(0), word));
    match protocol {
        "tcp" => say_by_tcp(ports),
        _ => say_by_udp(ports),
    }
}

fn said(word: &str, client: IpSocketAddress) -> Vec<u8> {
    match client {
        IpSocketAddress::Ipv4(client) => {
            let (a, b, c, d) = client.address;
            format!("{word} to {a}.{b}.{c}.{d}").into_bytes()
        }
        IpSocketAddress::Ipv6(_) => word.into(),
    }
}

fn say_by_tcp<'a>(ports: impl Iterator<Item = (u16, &'a str)>) -> Result<(), ErrorCode> {
    let listeners: Vec<(TcpSocket, &str)> =
        ports.map(|(port, word)| Ok((net::listener("0.0.0.0", port)?, word))).collect::<Result<_, ErrorCode>>()?;
    net::println("listening");
    loop {
        for (listener, word) in &listeners {
            while let Ok((connection, input, output)) = listener.accept() {
                let said = said(word, connection.remote_address()?);
                // A client that is gone has heard enough.
                output.blocking_write_and_flush(&said).ok();
                drop((input, output, connection));
            }
        }
        let ready: Vec<_> = listeners.iter().map(|(listener, _)| listener.subscribe()).collect();
        poll(&ready.iter().collect::<Vec<_>>());
    }
}

/// A port that is listened at.
struct Heard<'a> {
    // Before the socket that they are of.
    incoming: IncomingDatagramStream,
    outgoing: OutgoingDatagramStream,
    _socket: UdpSocket,
    word: &'a str,
}

fn say_by_udp<'a>(ports: impl Iterator<Item = (u16, &'a str)>) -> Result<(), ErrorCode> {
    let hear = |(port, word)| {
        let socket = net::bound("0.0.0.0", port)?;
        let (incoming, outgoing) = socket.stream(None)?;
        Ok(Heard { incoming, outgoing, _socket: socket, word })
    };
    let ports: Vec<Heard<'_>> = ports.map(hear).collect::<Result<_, ErrorCode>>()?;
    net::println("listening");
    loop {
        for port in &ports {
            for datagram in port.incoming.receive(16)? {
                let peer = datagram.remote_address;
                net::send(&port.outgoing, said(port.word, peer), Some(peer))?;
            }
        }
        let ready: Vec<_> = ports.iter().map(|port| port.incoming.subscribe()).collect();
        poll(&ready.iter().collect::<Vec<_>>());
    }
}
