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
use super::wire;
use super::wire::op::{Message, ResponseCode};
use super::wire::rr::{Name, RData, Record, RecordType};
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
        let name = &wire::name(name.trim_end_matches('.')).ok_or(Unresolved::NoSuchName)?;
        let ipv4 = self.look_up(network, pod, name, RecordType::A);
        if self.only_ipv4 {
            return ipv4.await;
        }
        match tokio::join!(ipv4, self.look_up(network, pod, name, RecordType::AAAA)) {
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
        name: &Name,
        kind: RecordType,
    ) -> Result<Vec<IpAddr>, Unresolved> {
        let question = wire::question(rand::random(), name.clone(), kind);
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
                Ok(answer) => match answer.response_code {
                    ResponseCode::NXDomain => return Err(Unresolved::NoSuchName),
                    ResponseCode::NoError => {
                        let found = addresses(&answer.answers, name);
                        return if found.is_empty() { Err(Unresolved::NoSuchName) } else { Ok(found) };
                    }
                    // It knows nothing, and another one might.
                    code => debug!(%server, %code, "a DNS server has no answer"),
                },
                Err(error) => debug!(%server, %error, "a DNS server does not answer"),
            }
        }
        Err(Unresolved::NoAnswer)
    }

    /// A server's answer: by datagrams, and over a connection where that is not all of it.
    async fn ask(
        &self,
        network: &Arc<Network>,
        pod: &PodIdentity,
        server: SocketAddr,
        question: &Message,
    ) -> io::Result<Message> {
        let bytes = question.to_vec().map_err(io::Error::other)?;
        if !self.use_tcp {
            let socket = network.bind_udp(pod, 0)?;
            socket.send(bytes.clone().into(), server)?;
            let answer = loop {
                let datagram = socket.receive().await;
                let is_theirs = datagram.peer == socket.peer_of(server);
                if is_theirs && let Some(answer) = wire::answer(&datagram.bytes, question) {
                    break answer;
                }
            };
            if !answer.truncation {
                return Ok(answer);
            }
        }
        let answer = upstream::converse(network.connect(Some(pod), server).await?, &bytes).await?;
        Ok(wire::answer(&answer, question).ok_or(io::ErrorKind::InvalidData)?)
    }
}

/// The addresses that an answer has for a name, or for what that is an alias of.
fn addresses(records: &[Record], name: &Name) -> Vec<IpAddr> {
    let (mut names, mut found) = (HashSet::from([name]), Vec::new());
    for record in records {
        match &record.data {
            _ if !names.contains(&record.name) => {}
            RData::CNAME(target) => drop(names.insert(target)),
            data => found.extend(data.ip_addr()),
        }
    }
    found
}
