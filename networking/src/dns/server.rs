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
use super::wire::{Code, Data, Kind, MAX_DATAGRAM_BYTES, MAX_MESSAGE_BYTES, MIN_RECORD_BYTES, Question, Record, Reply};
use crate::listener::PodListener;
use crate::network::Network;
use crate::policy::DNS;
use crate::stream::Stream;
use crate::udp::PartSocket;

/// What a client that says nothing else takes in a datagram (RFC 1035 §4.2.1).
const MIN_DATAGRAM_BYTES: u16 = 512;
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
        let question = match Question::read(bytes)? {
            Ok(question) => question,
            Err(refused) => return Some(refused.write()),
        };
        let room = match transport {
            Transport::Tcp => MAX_MESSAGE_BYTES,
            Transport::Udp => {
                let payload = question.payload_bytes.unwrap_or(MIN_DATAGRAM_BYTES);
                payload.clamp(MIN_DATAGRAM_BYTES, MAX_DATAGRAM_BYTES).into()
            }
        };
        let reply = match self.lookup(&question.name, question.kind) {
            Answer::NotCluster => match self.pass_on(bytes, transport).await {
                Some(answer) => return Some(answer),
                None => Reply { authoritative: false, ..Reply::of(Code::ServFail) },
            },
            Answer::NoSuchName => self.nothing(Code::NxDomain),
            Answer::Records(records) if records.is_empty() => self.nothing(Code::NoError),
            Answer::Records(answers) => self.complete(answers, question.kind, transport, room).await,
        };
        reply.write(&question, room).or_else(|| Reply::of(Code::ServFail).write(&question, room))
    }

    fn lookup(&self, name: &str, kind: Kind) -> Answer {
        self.network.load_tables().names.answer(name, kind, self.network.cluster_domain())
    }

    /// An answer that says for how long it may be remembered that there is nothing (RFC 2308).
    fn nothing(&self, code: Code) -> Reply {
        let domain = self.network.cluster_domain();
        let (server, contact) = (format!("ns.dns.{domain}"), format!("hostmaster.{domain}"));
        let data = Data::Authority { server, contact, negative_ttl: TTL_SECONDS };
        Reply { authorities: vec![Record { name: domain.to_owned(), ttl: TTL_SECONDS, data }], ..Reply::of(code) }
    }

    /// An answer with all that goes with its records, as far as there is room for it: of a stub resolver no second question
    /// can be expected.
    async fn complete(&self, mut answers: Vec<Record>, kind: Kind, transport: Transport, room: usize) -> Reply {
        if matches!(answers[0].data, Data::Address(_)) {
            // Who takes the first of several addresses takes any of them.
            let first = rand::random::<u32>() as usize % answers.len();
            answers.rotate_left(first);
        }
        let mut aliases = 0;
        while let Some(Record { data: Data::Alias(target), .. }) = answers.last().filter(|_| kind != Kind::CNAME) {
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
        let (mut additionals, mut known) = (Vec::new(), HashSet::new());
        for record in &answers {
            let Data::Service { target, .. } = &record.data else { continue };
            if !known.insert(target) {
                continue;
            }
            if (answers.len() + additionals.len()) * MIN_RECORD_BYTES > room {
                break;
            }
            for kind in [Kind::A, Kind::AAAA] {
                if let Answer::Records(records) = self.lookup(target, kind) {
                    additionals.extend(records);
                }
            }
        }
        Reply { answers, additionals, ..Reply::of(Code::NoError) }
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
