//! A pod's own resolver: the servers that its manifest names, asked as resolv.conf(5) has a machine ask them, and reached as the
//! pod reaches anybody: over its own network, where its policies let it.

use std::collections::HashSet;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tracing::debug;

use super::upstream;
use super::wire::{self, Code, Data, Kind, Outcome};
use crate::endpoint::PodIdentity;
use crate::network::{DNS_PORT, Network};

/// Whom a pod asks for names, and how.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resolver {
    /// Each is asked when those before it said nothing.
    pub servers: Vec<Server>,
    /// How long one may take to answer, in seconds.
    pub timeout_seconds: u8,
    /// How often all of them are asked.
    pub attempts: u8,
    /// Begins with any of them.
    pub rotate: bool,
    /// Asks by TCP at once, not only for what does not fit into a datagram.
    pub use_tcp: bool,
    /// Asks for addresses of IPv4 alone.
    pub only_ipv4: bool,
}

/// A server that knows names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Server {
    ClusterDns,
    At(IpAddr),
}

/// Why a name has no addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unresolved {
    #[error("there is no such name, or it has no addresses")]
    NoSuchName,
    #[error("no server answers, or may be asked")]
    NoAnswer,
}

impl Default for Resolver {
    /// What resolv.conf(5) has where nothing else is said.
    fn default() -> Self {
        Self { servers: Vec::new(), timeout_seconds: 5, attempts: 2, rotate: false, use_tcp: false, only_ipv4: false }
    }
}

impl Resolver {
    /// Longest that a server is waited for (resolv.conf(5): "silently capped").
    pub const MAX_TIMEOUT_SECONDS: u8 = 30;
    /// How often all are asked at most (likewise).
    pub const MAX_ATTEMPTS: u8 = 5;

    /// The addresses of a complete name, as a pod finds them.
    ///
    /// # Errors
    /// [`Unresolved`], also when the servers know one family of addresses alone to be missing.
    pub async fn resolve(
        &self,
        network: &Arc<Network>,
        pod: &PodIdentity,
        name: &str,
    ) -> Result<Vec<IpAddr>, Unresolved> {
        let name = name.trim_end_matches('.');
        let ipv4 = self.look_up(network, pod, name, Kind::A);
        if self.only_ipv4 {
            return ipv4.await;
        }
        match tokio::join!(ipv4, self.look_up(network, pod, name, Kind::AAAA)) {
            (Ok(ipv4), Ok(ipv6)) => Ok([ipv4, ipv6].concat()),
            (Ok(found), Err(_)) | (Err(_), Ok(found)) => Ok(found),
            (Err(Unresolved::NoSuchName), Err(Unresolved::NoSuchName)) => Err(Unresolved::NoSuchName),
            (Err(_), Err(_)) => Err(Unresolved::NoAnswer),
        }
    }

    /// Asks one server after the other, until one says something about the name.
    async fn look_up(
        &self,
        network: &Arc<Network>,
        pod: &PodIdentity,
        name: &str,
        kind: Kind,
    ) -> Result<Vec<IpAddr>, Unresolved> {
        let question = wire::question(rand::random(), name, kind).ok_or(Unresolved::NoSuchName)?;
        let first = if self.rotate { rand::random::<u32>() as usize } else { 0 };
        let count = self.servers.len();
        for turn in 0..count * usize::from(self.attempts) {
            let server = match self.servers[first.wrapping_add(turn) % count] {
                Server::ClusterDns => network.dns_server(),
                Server::At(ip) => SocketAddr::new(ip, DNS_PORT),
            };
            let asked = self.ask(network, pod, server, &question);
            let answered = tokio::time::timeout(Duration::from_secs(self.timeout_seconds.into()), asked).await;
            match answered.map_err(io::Error::from).flatten() {
                Ok((code, _)) if code == Code::NxDomain as u16 => return Err(Unresolved::NoSuchName),
                Ok((code, answer)) if code == Code::NoError as u16 => {
                    let found = addresses(&answer, name);
                    return if found.is_empty() { Err(Unresolved::NoSuchName) } else { Ok(found) };
                }
                // It knows nothing, and another one might.
                Ok((code, _)) => debug!(%server, code, "a DNS server has no answer"),
                Err(error) => debug!(%server, %error, "a DNS server does not answer"),
            }
        }
        Err(Unresolved::NoAnswer)
    }

    /// A server's answer and its code: by datagrams, and over a connection where that is not all of it.
    async fn ask(
        &self,
        network: &Arc<Network>,
        pod: &PodIdentity,
        server: SocketAddr,
        question: &[u8],
    ) -> io::Result<(u16, Vec<u8>)> {
        if !self.use_tcp {
            let socket = network.bind_udp(pod, 0)?;
            socket.send(question.to_vec().into(), server)?;
            let (outcome, answer) = loop {
                let datagram = socket.receive().await;
                let is_theirs = datagram.peer == socket.peer_of(server);
                if let Some(outcome) = Outcome::read(&datagram.bytes, question).filter(|_| is_theirs) {
                    break (outcome, datagram.bytes);
                }
            };
            if !outcome.truncated {
                return Ok((outcome.code, answer.into()));
            }
        }
        let answer = upstream::converse(network.connect(Some(pod), server).await?, question).await?;
        let outcome = Outcome::read(&answer, question).ok_or(io::ErrorKind::InvalidData)?;
        Ok((outcome.code, answer))
    }
}

/// The addresses that an answer has for a name, or for what that is an alias of.
fn addresses(answer: &[u8], name: &str) -> Vec<IpAddr> {
    let (mut names, mut found) = (HashSet::from([name.to_ascii_lowercase()]), Vec::new());
    for record in wire::records(answer).unwrap_or_default() {
        let is_meant = names.contains(&record.name.to_ascii_lowercase());
        match record.data {
            Data::Address(address) if is_meant => found.push(address),
            Data::Alias(target) if is_meant => drop(names.insert(target.to_ascii_lowercase())),
            _ => {}
        }
    }
    found
}
