//! Cluster DNS over UDP and TCP: the cluster's names from the tables, all others from the node's own servers.
//!
//! It listens in this process, as a pod does: pods of this node reach it without a socket, and others by the kernel. So it
//! takes no port of the host's, where another server may have it.

use std::collections::HashSet;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::debug;

use super::MAX_ALIASES;
use super::records::{Answer, TTL_SECONDS};
use super::upstream;
pub use super::upstream::parse as servers_of;
use super::wire::op::ResponseCode;
use super::wire::rr::rdata::{CNAME, SOA};
use super::wire::rr::{Name, RData, Record, RecordType};
use super::wire::{self, MAX_DATAGRAM_BYTES, MAX_MESSAGE_BYTES};
use crate::listener::PodListener;
use crate::network::Network;
use crate::policy::DNS;
use crate::stream::Stream;
use crate::udp::PartSocket;

/// Fewest bytes of a record: a name that is referred to, kind, class, time and the length of its data (RFC 1035 §4.1.3).
const MIN_RECORD_BYTES: usize = 12;
/// Datagrams that are answered at a time; further ones are lost.
const MAX_QUESTIONS: usize = 1_024;
/// Questions that wait at a time for servers outside, so that the cluster's names are answered whatever becomes of those.
const MAX_WAITING: usize = 512;
/// Connections at a time; further ones wait.
const MAX_CONNECTIONS: usize = 256;
/// How long a client may leave a connection open without asking.
const IDLE_TIMEOUT: Duration = Duration::from_secs(10);

/// How a question came, and how it is passed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Transport {
    Udp,
    Tcp,
}

/// Answers until `stop`; those that `upstreams` tells at the time are asked for other names than the cluster's.
///
/// # Errors
/// `AddrInUse` when somebody has the address of cluster DNS.
pub async fn serve<U>(network: Arc<Network>, upstreams: U, stop: CancellationToken) -> io::Result<()>
where
    U: Fn() -> Vec<SocketAddr> + Send + Sync + 'static,
{
    let address = network.dns_server();
    let (udp, tcp) = (Arc::new(network.answer_as(&DNS, address)?), network.listen_as(&DNS, address)?);
    let waiting = Semaphore::new(MAX_WAITING);
    let server = Arc::new(Server { network, upstreams: Box::new(upstreams), waiting });
    tokio::select! {
        () = stop.cancelled() => {}
        () = datagrams(&server, &udp) => {}
        () = connections(&server, &tcp) => {}
    }
    Ok(())
}

async fn datagrams(server: &Arc<Server>, socket: &Arc<PartSocket>) {
    let permits = Arc::new(Semaphore::new(MAX_QUESTIONS));
    let mut answering = JoinSet::new();
    loop {
        let question = tokio::select! {
            question = socket.receive() => question,
            Some(_) = answering.join_next() => continue,
        };
        let Ok(permit) = permits.clone().try_acquire_owned() else { continue };
        let (server, socket) = (server.clone(), socket.clone());
        answering.spawn(async move {
            if let Some(answer) = server.answer(&question.bytes, Transport::Udp).await {
                socket.answer(&question, answer.into());
            }
            drop(permit);
        });
    }
}

async fn connections(server: &Arc<Server>, listener: &PodListener) {
    let permits = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let mut answering = JoinSet::new();
    loop {
        let accepted = async { (permits.clone().acquire_owned().await, listener.accept().await) };
        let accepted = tokio::select! {
            accepted = accepted => accepted,
            Some(_) = answering.join_next() => continue,
        };
        let (Ok(permit), Ok(incoming)) = accepted else { return };
        let server = server.clone();
        answering.spawn(async move {
            if let Err(error) = server.converse(incoming.stream).await {
                debug!(peer = %incoming.peer, %error, "a DNS connection ended early");
            }
            drop(permit);
        });
    }
}

struct Server {
    network: Arc<Network>,
    upstreams: Box<dyn Fn() -> Vec<SocketAddr> + Send + Sync>,
    waiting: Semaphore,
}

impl Server {
    /// One question after the other (RFC 7766), each with its length in front.
    async fn converse(&self, mut stream: Stream) -> io::Result<()> {
        loop {
            let Ok(Ok(length)) = tokio::time::timeout(IDLE_TIMEOUT, stream.read_u16()).await else { return Ok(()) };
            let mut question = vec![0; usize::from(length)];
            tokio::time::timeout(IDLE_TIMEOUT, stream.read_exact(&mut question)).await??;
            let Some(answer) = self.answer(&question, Transport::Tcp).await else { return Ok(()) };
            let length = u16::try_from(answer.len()).map_err(io::Error::other)?;
            let message = [&length.to_be_bytes()[..], &answer].concat();
            tokio::time::timeout(IDLE_TIMEOUT, stream.write_all(&message)).await??;
        }
    }

    /// The answer to one message; none to what is no question.
    async fn answer(&self, bytes: &[u8], transport: Transport) -> Option<Vec<u8>> {
        let question = match wire::read(bytes)? {
            Ok(question) => question,
            Err(refusal) => return refusal.to_vec().ok(),
        };
        let room = match transport {
            Transport::Tcp => MAX_MESSAGE_BYTES,
            Transport::Udp => question.max_payload().min(MAX_DATAGRAM_BYTES),
        };
        let (query, mut reply) = (question.queries.first()?, wire::reply(&question));
        match self.lookup(&query.name, query.query_type) {
            Answer::NotCluster => match self.pass_on(bytes, transport).await {
                Some(answer) => return Some(answer),
                None => {
                    reply.metadata.authoritative = false;
                    reply.metadata.response_code = ResponseCode::ServFail;
                }
            },
            Answer::NoSuchName => {
                reply.metadata.response_code = ResponseCode::NXDomain;
                reply.authorities.extend(self.authority());
            }
            Answer::Records(records) if records.is_empty() => reply.authorities.extend(self.authority()),
            Answer::Records(answers) => {
                reply.answers = self.followed(answers, query.query_type, transport).await;
                reply.additionals = self.targets(&reply.answers, room);
            }
        }
        wire::write(&reply, room)
    }

    fn lookup(&self, name: &Name, kind: RecordType) -> Answer {
        self.network.load_tables().names.answer(name, kind, self.network.cluster_domain())
    }

    /// How long it may be remembered that there is nothing (RFC 2308).
    fn authority(&self) -> Option<Record> {
        let domain = self.network.cluster_domain();
        let (server, contact) =
            (wire::name(&format!("ns.dns.{domain}"))?, wire::name(&format!("hostmaster.{domain}"))?);
        // Nobody copies the domain from here, so that the numbers before the last mean nothing.
        let data = SOA::new(server, contact, 1, 7_200, 1_800, 86_400, TTL_SECONDS);
        Some(Record::from_rdata(wire::name(domain)?, TTL_SECONDS, RData::SOA(data)))
    }

    /// An answer with what its aliases lead to: of a stub resolver no second question can be expected.
    async fn followed(&self, mut answers: Vec<Record>, kind: RecordType, transport: Transport) -> Vec<Record> {
        if answers[0].data.ip_addr().is_some() {
            // Who takes the first of several addresses takes any of them.
            let first = rand::random::<u32>() as usize % answers.len();
            answers.rotate_left(first);
        }
        let mut aliases = 0;
        let follows = kind != RecordType::CNAME;
        while let Some(RData::CNAME(CNAME(target))) = answers.last().map(|last| &last.data).filter(|_| follows) {
            aliases += 1;
            let more = match self.lookup(target, kind) {
                _ if aliases > MAX_ALIASES => Vec::new(),
                Answer::Records(records) => records,
                Answer::NoSuchName => Vec::new(),
                Answer::NotCluster => {
                    // What it leads to is followed there.
                    if let Ok(_place) = self.waiting.try_acquire() {
                        answers.extend(upstream::resolve(&self.servers(), target, kind, transport).await);
                    }
                    break;
                }
            };
            if more.is_empty() {
                break;
            }
            answers.extend(more);
        }
        answers
    }

    /// The addresses of what an answer's ports belong to, as far as there is room for them, likewise.
    fn targets(&self, answers: &[Record], room: u16) -> Vec<Record> {
        let (mut additionals, mut known) = (Vec::new(), HashSet::new());
        for record in answers {
            let RData::SRV(service) = &record.data else { continue };
            if !known.insert(&service.target) {
                continue;
            }
            if (answers.len() + additionals.len()) * MIN_RECORD_BYTES > room.into() {
                break;
            }
            for kind in [RecordType::A, RecordType::AAAA] {
                if let Answer::Records(records) = self.lookup(&service.target, kind) {
                    additionals.extend(records);
                }
            }
        }
        additionals
    }

    /// Lets another server answer.
    async fn pass_on(&self, bytes: &[u8], transport: Transport) -> Option<Vec<u8>> {
        let _place = self.waiting.try_acquire().ok()?;
        let answer = upstream::ask(&self.servers(), bytes, transport).await;
        answer.inspect_err(|error| debug!(%error, "no server outside answers")).ok()
    }

    /// Those who know other names. Who asks this very server, as the whole machine might, is not one of them.
    fn servers(&self) -> Vec<SocketAddr> {
        let own = self.network.dns_server().ip();
        (self.upstreams)().into_iter().filter(|server| server.ip() != own).collect()
    }
}
