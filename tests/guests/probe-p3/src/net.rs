//! Names and connections, as a program that uses `wasi:sockets` directly.

use wasip3::sockets::ip_name_lookup::resolve_addresses;
use wasip3::sockets::types::{
    ErrorCode, IpAddress, IpAddressFamily, IpSocketAddress, Ipv4SocketAddress, TcpSocket, UdpSocket,
};

use crate::{name, println};

/// The addresses of a name, one a line; an error code otherwise.
pub async fn resolve(host: &str) -> String {
    match resolve_addresses(host.to_owned()).await {
        Ok(addresses) => addresses
            .into_iter()
            .filter_map(|address| match address {
                IpAddress::Ipv4((a, b, c, d)) => Some(format!("{a}.{b}.{c}.{d}\n")),
                IpAddress::Ipv6(_) => None,
            })
            .collect(),
        Err(code) => name(code),
    }
}

pub fn address(ip: &str, port: u16) -> IpSocketAddress {
    let mut parts = ip.split('.').map(|part| part.parse().expect("an IPv4 address"));
    let mut part = || parts.next().expect("four parts");
    IpSocketAddress::Ipv4(Ipv4SocketAddress { port, address: (part(), part(), part(), part()) })
}

/// Sends text, and then the end of the stream.
pub async fn send(socket: &TcpSocket, text: &str) -> Result<(), ErrorCode> {
    crate::write(text, |stream| socket.send(stream)).await
}

pub async fn receive(socket: &TcpSocket) -> Result<String, ErrorCode> {
    let (stream, ended) = socket.receive();
    let bytes = stream.collect().await;
    ended.await?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// Sends `text` to a listener and returns all that it answers; an error code otherwise.
pub async fn ask(ip: &str, port: u16, text: &str) -> String {
    let asked = async {
        let socket = TcpSocket::create(IpAddressFamily::Ipv4)?;
        socket.connect(address(ip, port)).await?;
        send(&socket, text).await?;
        receive(&socket).await
    };
    asked.await.unwrap_or_else(name)
}

/// Listens, and answers so many connections with the name and what they sent.
pub async fn listen(ip: &str, port: u16, own: &str, connections: usize) -> Result<(), ErrorCode> {
    let socket = TcpSocket::create(IpAddressFamily::Ipv4)?;
    socket.bind(address(ip, port))?;
    let mut accepted = socket.listen()?;
    println(&format!("listening on {port}")).await;
    for _ in 0..connections {
        let connection = accepted.next().await.expect("a listener goes on");
        let text = receive(&connection).await?;
        send(&connection, &format!("{own} heard {text}")).await?;
    }
    Ok(())
}

/// How many sockets can be had.
pub fn count_sockets() -> usize {
    let mut sockets = Vec::new();
    while let Ok(socket) = TcpSocket::create(IpAddressFamily::Ipv4) {
        sockets.push(socket);
    }
    sockets.len()
}

/// What a socket that was just made says of itself.
pub fn options() -> String {
    let socket = TcpSocket::create(IpAddressFamily::Ipv4).expect("a socket can be had");
    socket.set_hop_limit(7).expect("a hop limit can be set");
    format!(
        "{:?} {:?} {:?} {:?}",
        socket.get_hop_limit(),
        socket.set_keep_alive_count(0),
        socket.get_local_address(),
        socket.get_is_listening()
    )
}

/// Answers so many datagrams with the name and what they said.
pub async fn hear(ip: &str, port: u16, own: &str, datagrams: usize) -> Result<(), ErrorCode> {
    let socket = UdpSocket::create(IpAddressFamily::Ipv4)?;
    socket.bind(address(ip, port))?;
    println(&format!("listening on {port}")).await;
    for _ in 0..datagrams {
        let (data, from) = socket.receive().await?;
        let answer = [format!("{own} heard ").as_bytes(), &data].concat();
        socket.send(answer, Some(from)).await?;
    }
    Ok(())
}

/// Sends a datagram and returns the answer and whether it came from where the question went; an error code otherwise.
pub async fn say(ip: &str, port: u16, text: &str) -> String {
    let asked = async {
        let socket = UdpSocket::create(IpAddressFamily::Ipv4)?;
        // Once to anybody, and once as a socket with one peer.
        let mut answers = Vec::new();
        for connected in [false, true] {
            if connected {
                socket.connect(address(ip, port))?;
            }
            socket.send(text.into(), (!connected).then(|| address(ip, port))).await?;
            let (data, from) = socket.receive().await?;
            let same = name(from) == name(address(ip, port));
            answers.push(format!("{} ({same})", String::from_utf8_lossy(&data)));
        }
        Ok::<_, ErrorCode>(answers.join(", "))
    };
    asked.await.unwrap_or_else(name)
}
