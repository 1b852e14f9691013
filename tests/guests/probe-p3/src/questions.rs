//! Questions by every way that a guest has, many of one instance, and servers that say a word to whoever comes.

use wasip3::http::client;
use wasip3::http::types::{Method, Response};
use wasip3::sockets::types::{ErrorCode, IpAddressFamily, IpSocketAddress, TcpSocket, UdpSocket};
use wasip3::{spawn_local, wit_future};

use crate::http::outgoing;
use crate::{name, net, println};

/// Asks each line's question, `WAY WHERE`, and answers with a line for each: what was heard, or an error's name.
pub async fn ask_all(questions: &str) -> String {
    let mut answers = String::new();
    for question in questions.lines() {
        answers += &ask(question).await;
        answers.push('\n');
    }
    answers
}

async fn ask(question: &str) -> String {
    let (way, at) = question.split_once(' ').unwrap_or((question, ""));
    let (ip, port) = at.split_once(':').unwrap_or((at, ""));
    let port = port.parse().unwrap_or(0);
    let heard = match way {
        "tcp" => by_tcp(ip, port).await,
        "udp" => by_udp(ip, port).await,
        "http" => return by_http(at).await,
        "name" => return net::resolve(at).await.trim_end().replace('\n', " "),
        _ => return format!("unknown: {way}"),
    };
    heard.unwrap_or_else(name)
}

async fn by_tcp(ip: &str, port: u16) -> Result<String, ErrorCode> {
    let socket = TcpSocket::create(IpAddressFamily::Ipv4)?;
    socket.connect(net::address(ip, port)).await?;
    net::receive(&socket).await
}

async fn by_udp(ip: &str, port: u16) -> Result<String, ErrorCode> {
    let socket = UdpSocket::create(IpAddressFamily::Ipv4)?;
    socket.connect(net::address(ip, port))?;
    socket.send(b"question".to_vec(), None).await?;
    Ok(String::from_utf8_lossy(&socket.receive().await?.0).into_owned())
}

async fn by_http(target: &str) -> String {
    let response = match client::send(outgoing(target, Method::Get, None)).await {
        Ok(response) if response.get_status_code() == 200 => response,
        Ok(response) => return format!("status {}", response.get_status_code()),
        Err(error) => return name(error),
    };
    let (_, done) = wit_future::new(|| Ok(()));
    let (body, trailers) = Response::consume_body(response, done);
    let word = body.collect().await;
    trailers.await.expect("the body comes in");
    String::from_utf8_lossy(&word).into_owned()
}

/// Says a word and whom it is said to, at each port of `PORT=WORD`, by TCP or UDP, for as long as the guest lives.
pub async fn say(protocol: &str, ports: &[String]) -> Result<(), ErrorCode> {
    for (port, word) in ports.iter().filter_map(|text| text.split_once('=')) {
        let (at, word) = (net::address("0.0.0.0", port.parse().unwrap_or(0)), word.to_owned());
        if protocol == "tcp" {
            let socket = TcpSocket::create(IpAddressFamily::Ipv4)?;
            socket.bind(at)?;
            let mut accepted = socket.listen()?;
            spawn_local(async move {
                while let Some(connection) = accepted.next().await {
                    // A client that is gone has heard enough.
                    if let Ok(client) = connection.get_remote_address() {
                        net::send(&connection, &said(&word, client)).await.ok();
                    }
                }
                drop(socket);
            });
        } else {
            let socket = UdpSocket::create(IpAddressFamily::Ipv4)?;
            socket.bind(at)?;
            spawn_local(async move {
                while let Ok((_, peer)) = socket.receive().await {
                    socket.send(said(&word, peer).into_bytes(), Some(peer)).await.ok();
                }
            });
        }
    }
    println("listening").await;
    Ok(())
}

fn said(word: &str, client: IpSocketAddress) -> String {
    match client {
        IpSocketAddress::Ipv4(client) => {
            let (a, b, c, d) = client.address;
            format!("{word} to {a}.{b}.{c}.{d}")
        }
        IpSocketAddress::Ipv6(_) => word.to_owned(),
    }
}
