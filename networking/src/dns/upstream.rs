//! The servers that are asked for names outside of the cluster: those of the node.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;

use super::server::Transport;
use super::wire::rr::{Name, Record, RecordType};
use super::wire::{self, MAX_MESSAGE_BYTES};
use crate::udp;

/// How long one server may take to answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);
/// Servers that are asked for one name (resolv.conf(5): MAXNS).
const MAX_SERVERS: usize = 3;

/// The `nameserver` lines of a resolv.conf (resolv.conf(5)).
pub fn parse(resolv_conf: &str) -> Vec<SocketAddr> {
    let words = resolv_conf.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    let addresses = words.filter_map(|words| match words[..] {
        ["nameserver", address, ..] => address.parse::<IpAddr>().ok(),
        _ => None,
    });
    addresses.map(|address| SocketAddr::new(address, 53)).collect()
}

/// The addresses and aliases of a name; none when nobody knows any.
pub(super) async fn resolve(
    servers: &[SocketAddr],
    name: &Name,
    kind: RecordType,
    transport: Transport,
) -> Vec<Record> {
    let question = wire::question(0, name.clone(), kind);
    let Ok(bytes) = question.to_vec() else { return Vec::new() };
    let answer = ask(servers, &bytes, transport).await;
    answer.ok().and_then(|answer| wire::answer(&answer, &question)).map(|answer| answer.answers).unwrap_or_default()
}

/// Asks one server after the other, by the same transport as the client, until one answers.
///
/// # Errors
/// Of the last one; `NotFound` when there is none.
pub(super) async fn ask(servers: &[SocketAddr], question: &[u8], transport: Transport) -> io::Result<Vec<u8>> {
    let (id, rest) = question.split_at_checked(2).ok_or(io::ErrorKind::InvalidInput)?;
    let mut failed = io::ErrorKind::NotFound.into();
    for server in servers.iter().take(MAX_SERVERS) {
        // A number that the client does not know, so that it cannot answer in the server's name.
        let question = [&rand::random::<[u8; 2]>(), rest].concat();
        let asked = async {
            match transport {
                Transport::Udp => over_udp(*server, &question).await,
                Transport::Tcp => over_tcp(*server, &question).await,
            }
        };
        match tokio::time::timeout(ANSWER_TIMEOUT, asked).await {
            Ok(Ok(mut answer)) => {
                answer[..2].copy_from_slice(id);
                return Ok(answer);
            }
            Ok(Err(error)) => failed = error,
            Err(late) => failed = late.into(),
        }
    }
    Err(failed)
}

async fn over_udp(server: SocketAddr, question: &[u8]) -> io::Result<Vec<u8>> {
    let socket = udp::connected(server).await?;
    socket.send(question).await?;
    let mut answer = vec![0; MAX_MESSAGE_BYTES.into()];
    loop {
        let length = socket.recv(&mut answer).await?;
        // An answer to another question is nobody's.
        if length >= 2 && answer[..2] == question[..2] {
            answer.truncate(length);
            return Ok(answer);
        }
    }
}

async fn over_tcp(server: SocketAddr, question: &[u8]) -> io::Result<Vec<u8>> {
    converse(TcpStream::connect(server).await?, question).await
}

/// Asks over a connection of its own (RFC 1035 §4.2.2).
pub(super) async fn converse(mut stream: impl AsyncRead + AsyncWrite + Unpin, question: &[u8]) -> io::Result<Vec<u8>> {
    let length = u16::try_from(question.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
    stream.write_all(&[&length.to_be_bytes(), question].concat()).await?;
    let mut answer = vec![0; usize::from(stream.read_u16().await?)];
    stream.read_exact(&mut answer).await?;
    if answer.len() < 2 || answer[..2] != question[..2] {
        return Err(io::ErrorKind::InvalidData.into());
    }
    Ok(answer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn name_servers_are_lines_of_their_own() {
        let servers = parse(
            "# nameserver 192.0.2.9\nsearch a b\nnameserver 192.0.2.1\n nameserver\t2001:db8::1 # why\nnameserver x\n",
        );
        assert_eq!(servers, ["192.0.2.1:53".parse().unwrap(), "[2001:db8::1]:53".parse().unwrap()]);
    }
}
