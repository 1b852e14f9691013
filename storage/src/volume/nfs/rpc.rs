//! Calls to a server by ONC RPC (RFC 5531) over TCP, many at a time on one connection.
//!
//! A server that says nothing is given up after a time that the mount's options state; those that call soon after are
//! told so at once, so that a volume whose server is gone costs its pods errors and not their threads.

use std::collections::HashMap;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::OwnedReadHalf;
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::xdr::{Malformed, Reader, Writer};

/// Largest message of a server that is taken: a read of `MAX_TRANSFER_BYTES` and what goes with it.
const MAX_MESSAGE_BYTES: usize = super::answers::MAX_TRANSFER_BYTES as usize + (64 << 10);
/// Longest wait for a connection.
const CONNECT: Duration = Duration::from_secs(5);
/// How long a server that said nothing is not asked again.
const GIVEN_UP: Duration = Duration::from_secs(5);
/// Wait between attempts at a server that broke a connection off, or that asks to come back later.
const RETRY: Duration = Duration::from_millis(200);
/// Messages that wait to be written; who has more waits.
const MAX_QUEUED: usize = 16;
/// Ports from which servers take callers for privileged, without those that daemons are likely to have.
const RESERVED_PORTS: std::ops::RangeInclusive<u16> = 665..=1023;
/// Ports of those that are tried.
const MAX_PORT_ATTEMPTS: usize = 16;

const CALL: u32 = 0;
const REPLY: u32 = 1;
const RPC_VERSION: u32 = 2;
const AUTH_NONE: u32 = 0;
pub const AUTH_SYS: u32 = 1;
/// What AUTH_SYS says of the machine; servers go by its address.
const MACHINE: &[u8] = b"k8w";
const MAX_VERIFIER_BYTES: usize = 400;
const LAST_FRAGMENT: u32 = 1 << 31;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("the server does not answer")]
    Silent,
    #[error("no connection to the server: {0}")]
    Unreachable(io::Error),
    #[error("the connection to the server was lost")]
    Lost,
    #[error("the server refuses the call: {0}")]
    Refused(&'static str),
    #[error(transparent)]
    Malformed(#[from] Malformed),
}

/// A program of a server, in one of its versions.
#[derive(Clone, Copy)]
pub struct Program {
    pub number: u32,
    pub version: u32,
}

/// Who calls: AUTH_SYS, the node's own user.
#[derive(Clone)]
pub struct Credentials(Vec<u8>);

impl Credentials {
    /// The user and groups of this process; a server takes no more than 16 of them.
    pub fn of_process() -> Credentials {
        let (user, group) = (nix::unistd::geteuid().as_raw(), nix::unistd::getegid().as_raw());
        let mut groups = nix::unistd::getgroups().unwrap_or_default();
        groups.truncate(16);
        let count = u32::try_from(groups.len()).unwrap_or_default();
        let written = Writer::default().u32(0).opaque(MACHINE).u32(user).u32(group).u32(count);
        Credentials(groups.iter().fold(written, |written, group| written.u32(group.as_raw())).finish())
    }
}

/// How a server is called.
#[derive(Clone)]
pub struct Manner {
    pub credentials: Credentials,
    /// From a port below 1024, where this process may have one.
    pub reserved_port: bool,
    /// Longest time until a call has its answer, attempts and all.
    pub wait: Duration,
}

/// A server's program, to which there is a connection whenever it can be had.
pub struct Client {
    address: SocketAddr,
    program: Program,
    manner: Manner,
    link: tokio::sync::Mutex<Link>,
}

#[derive(Default)]
struct Link {
    connection: Option<Arc<Connection>>,
    given_up: Option<Instant>,
}

impl Client {
    pub fn new(address: SocketAddr, program: Program, manner: Manner) -> Client {
        Client { address, program, manner, link: tokio::sync::Mutex::default() }
    }

    /// Calls until there is an answer, and gives up in time. What cannot be asked twice (`repeatable`) is not, once the
    /// server may have heard it.
    ///
    /// # Errors
    /// When there is none, or it refuses the call.
    pub async fn call(&self, procedure: u32, repeatable: bool, arguments: &[u8]) -> Result<Reader, Error> {
        let deadline = Instant::now() + self.manner.wait;
        loop {
            let (connection, failed) = match timeout_at(deadline, self.connection()).await {
                Err(_) => (None, Error::Silent),
                Ok(Err(Error::Silent)) => return Err(Error::Silent),
                Ok(Err(error)) => (None, error),
                Ok(Ok(connection)) => {
                    let call = connection.call(self.program, procedure, &self.manner.credentials, arguments);
                    match timeout_at(deadline, call).await {
                        Err(_) => (Some(connection), Error::Silent),
                        Ok(Err(Error::Lost)) if repeatable => (Some(connection), Error::Lost),
                        Ok(answer) => return answer,
                    }
                }
            };
            if matches!(failed, Error::Silent) || Instant::now() + RETRY >= deadline {
                self.give_up(connection.as_ref()).await;
                return Err(failed);
            }
            drop(connection);
            sleep(RETRY).await;
        }
    }

    /// How long to wait before the same is asked again, if a server wants that; `None` when there is no time for it.
    pub fn pause(&self, since: Instant) -> Option<Duration> {
        (since.elapsed() + RETRY < self.manner.wait).then_some(RETRY)
    }

    /// Asks the server nothing more for a while, unless somebody has a newer connection than the one that failed.
    async fn give_up(&self, failed: Option<&Arc<Connection>>) {
        let mut link = self.link.lock().await;
        let is_newer = |now: &Arc<Connection>| failed.is_none_or(|failed| !Arc::ptr_eq(now, failed));
        if !link.connection.as_ref().is_some_and(is_newer) {
            *link = Link { connection: None, given_up: Some(Instant::now() + GIVEN_UP) };
        }
    }

    async fn connection(&self) -> Result<Arc<Connection>, Error> {
        let mut link = self.link.lock().await;
        if link.given_up.is_some_and(|until| Instant::now() < until) {
            return Err(Error::Silent);
        }
        match &link.connection {
            Some(connection) if !connection.is_lost() => Ok(connection.clone()),
            _ => {
                let connection = Arc::new(Connection::open(self.address, self.manner.reserved_port).await?);
                *link = Link { connection: Some(connection.clone()), given_up: None };
                Ok(connection)
            }
        }
    }
}

/// Calls one time, by a connection for it alone.
///
/// # Errors
/// When there is no answer, or the server refuses the call.
pub async fn call_once(
    address: SocketAddr,
    program: Program,
    manner: &Manner,
    procedure: u32,
    arguments: &[u8],
) -> Result<Reader, Error> {
    let call = async {
        let connection = Connection::open(address, manner.reserved_port).await?;
        connection.call(program, procedure, &manner.credentials, arguments).await
    };
    timeout(manner.wait, call).await.unwrap_or(Err(Error::Silent))
}

/// The calls that wait for their answers; none any more once the connection is lost.
type Waiting = Mutex<Option<HashMap<u32, oneshot::Sender<Bytes>>>>;

struct Connection {
    /// Messages are written whole by a task of their own, whoever gives up on one meanwhile: what comes after half a
    /// message would be taken for the rest of it.
    messages: mpsc::Sender<Vec<u8>>,
    waiting: Arc<Waiting>,
    next_id: AtomicU32,
    /// End with the connection.
    _tasks: JoinSet<()>,
}

impl Connection {
    async fn open(address: SocketAddr, reserved_port: bool) -> Result<Connection, Error> {
        let connected = timeout(CONNECT, connect(address, reserved_port)).await;
        let stream = connected.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())).map_err(Error::Unreachable)?;
        stream.set_nodelay(true).map_err(Error::Unreachable)?;
        let (mut reader, mut writer) = stream.into_split();
        let (messages, mut queue) = mpsc::channel::<Vec<u8>>(MAX_QUEUED);
        let waiting = Arc::new(Mutex::new(Some(HashMap::new())));
        let mut tasks = JoinSet::new();
        let all = waiting.clone();
        tasks.spawn(async move {
            let ended = read_answers(&mut reader, &all).await;
            tracing::debug!(%address, ?ended, "an NFS server's connection has ended");
            *lock(&all) = None;
        });
        let all = waiting.clone();
        tasks.spawn(async move {
            while let Some(message) = queue.recv().await {
                if writer.write_all(&message).await.is_err() {
                    break;
                }
            }
            *lock(&all) = None;
        });
        // A server may remember what it answered by these numbers: no connection repeats another's.
        Ok(Connection { messages, waiting, next_id: AtomicU32::new(random()), _tasks: tasks })
    }

    fn is_lost(&self) -> bool {
        lock(&self.waiting).is_none()
    }

    async fn call(
        &self,
        program: Program,
        procedure: u32,
        credentials: &Credentials,
        arguments: &[u8],
    ) -> Result<Reader, Error> {
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let head = Writer::default().u32(id).u32(CALL).u32(RPC_VERSION);
        let head = head.u32(program.number).u32(program.version).u32(procedure);
        let head = head.u32(AUTH_SYS).opaque(&credentials.0).u32(AUTH_NONE).opaque(&[]).finish();
        let length = u32::try_from(head.len() + arguments.len()).unwrap_or_default() | LAST_FRAGMENT;
        let message = [&length.to_be_bytes(), &head[..], arguments].concat();
        let (answer, answered) = oneshot::channel();
        lock(&self.waiting).as_mut().ok_or(Error::Lost)?.insert(id, answer);
        self.messages.send(message).await.map_err(|_| Error::Lost)?;
        result(answered.await.map_err(|_| Error::Lost)?)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn random() -> u32 {
    RandomState::new().build_hasher().finish() as u32
}

async fn connect(address: SocketAddr, reserved_port: bool) -> io::Result<TcpStream> {
    let first = usize::try_from(random()).unwrap_or_default();
    let ports: Vec<u16> = RESERVED_PORTS.collect();
    let attempts = if reserved_port { MAX_PORT_ATTEMPTS } else { 0 };
    for attempt in 0..attempts {
        let port = ports[first.wrapping_add(attempt) % ports.len()];
        let socket = socket(address)?;
        socket.set_reuseaddr(true)?;
        let bound = socket.bind(match address {
            SocketAddr::V4(_) => (std::net::Ipv4Addr::UNSPECIFIED, port).into(),
            SocketAddr::V6(_) => (std::net::Ipv6Addr::UNSPECIFIED, port).into(),
        });
        let connected = match bound {
            Ok(()) => socket.connect(address).await,
            Err(error) => Err(error),
        };
        match connected {
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => break,
            Err(error) if matches!(error.kind(), io::ErrorKind::AddrInUse | io::ErrorKind::AddrNotAvailable) => {}
            connected => return connected,
        }
    }
    socket(address)?.connect(address).await
}

fn socket(address: SocketAddr) -> io::Result<TcpSocket> {
    if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }
}

/// Hands answers to those that wait for them, until the connection ends.
async fn read_answers(reader: &mut OwnedReadHalf, waiting: &Waiting) -> io::Result<()> {
    loop {
        let message = read_message(reader).await?;
        let Some(id) = message.first_chunk().map(|id| u32::from_be_bytes(*id)) else {
            return Err(io::ErrorKind::InvalidData.into());
        };
        let found = lock(waiting).as_mut().and_then(|waiting| waiting.remove(&id));
        if let Some(answer) = found {
            let _ = answer.send(message);
        }
    }
}

/// One message, which may come in fragments (RFC 5531, 11).
async fn read_message(reader: &mut OwnedReadHalf) -> io::Result<Bytes> {
    let mut message = Vec::new();
    loop {
        let head = reader.read_u32().await?;
        let length = usize::try_from(head & !LAST_FRAGMENT).map_err(|_| io::ErrorKind::InvalidData)?;
        let start = message.len();
        if start + length > MAX_MESSAGE_BYTES {
            return Err(io::ErrorKind::InvalidData.into());
        }
        message.resize(start + length, 0);
        reader.read_exact(&mut message[start..]).await?;
        if head & LAST_FRAGMENT != 0 {
            return Ok(message.into());
        }
    }
}

/// What a message has for the caller.
fn result(message: Bytes) -> Result<Reader, Error> {
    let mut reader = Reader::new(message);
    let (_id, kind, denied) = (reader.u32()?, reader.u32()?, reader.u32()?);
    if kind != REPLY {
        return Err(Malformed.into());
    }
    if denied != 0 {
        let why = if reader.u32()? == 0 { "another version of RPC is wanted" } else { "who calls is not accepted" };
        return Err(Error::Refused(why));
    }
    let _flavor = reader.u32()?;
    reader.opaque(MAX_VERIFIER_BYTES)?;
    match reader.u32()? {
        0 => Ok(reader),
        1 => Err(Error::Refused("it does not have the program")),
        2 => Err(Error::Refused("it does not speak this version of the program")),
        3 => Err(Error::Refused("it does not have the procedure")),
        4 => Err(Error::Refused("it cannot read the arguments")),
        _ => Err(Error::Refused("it has a failure of its own")),
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use tokio::net::TcpListener;

    use super::*;

    const PROGRAM: Program = Program { number: 1, version: 1 };

    fn client(address: SocketAddr, wait_ms: u64) -> Client {
        let credentials = Credentials::of_process();
        let manner = Manner { credentials, reserved_port: false, wait: Duration::from_millis(wait_ms) };
        Client::new(address, PROGRAM, manner)
    }

    async fn listener() -> (TcpListener, SocketAddr) {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        (listener, address)
    }

    async fn call_of(stream: &mut OwnedReadHalf) -> u32 {
        Reader::new(read_message(stream).await.unwrap()).u32().unwrap()
    }

    fn answer(id: u32, value: u32) -> Vec<u8> {
        Writer::default().u32(id).u32(REPLY).u32(0).u32(AUTH_NONE).opaque(&[]).u32(0).u32(value).finish()
    }

    #[tokio::test]
    async fn answers_find_their_callers_in_any_order_and_in_fragments() {
        let (listener, address) = listener().await;
        tokio::spawn(async move {
            let (mut reader, mut writer) = listener.accept().await.unwrap().0.into_split();
            let ids = [call_of(&mut reader).await, call_of(&mut reader).await];
            for (value, id) in ids.iter().enumerate().rev() {
                let message = answer(*id, u32::try_from(value).unwrap());
                let (first, second) = message.split_at(8);
                let lengths =
                    [8_u32.to_be_bytes(), (u32::try_from(second.len()).unwrap() | LAST_FRAGMENT).to_be_bytes()];
                writer.write_all(&[&lengths[0], first, &lengths[1], second].concat()).await.unwrap();
            }
            std::future::pending::<()>().await;
        });
        let client = client(address, 10_000);
        let (mut first, mut second) =
            tokio::try_join!(biased; client.call(1, true, &[]), client.call(1, true, &[])).unwrap();
        assert_eq!((first.u32(), second.u32()), (Ok(0), Ok(1)));
    }

    #[tokio::test]
    async fn what_a_lost_connection_may_have_carried_is_asked_again_only_if_that_does_no_harm() {
        let (listener, address) = listener().await;
        tokio::spawn(async move {
            for attempt in 0.. {
                let (mut reader, mut writer) = listener.accept().await.unwrap().0.into_split();
                let id = call_of(&mut reader).await;
                if attempt % 2 == 1 {
                    let message = answer(id, 5);
                    let length = u32::try_from(message.len()).unwrap() | LAST_FRAGMENT;
                    writer.write_all(&[&length.to_be_bytes(), &message[..]].concat()).await.unwrap();
                }
            }
        });
        let client = client(address, 10_000);
        assert_eq!(client.call(1, true, &[]).await.unwrap().u32(), Ok(5));
        eventually_lost(&client).await;
        assert!(matches!(client.call(1, false, &[]).await, Err(Error::Lost)));
    }

    async fn eventually_lost(client: &Client) {
        let connection = client.link.lock().await.connection.clone().unwrap();
        while !connection.is_lost() {
            sleep(Duration::from_millis(1)).await;
        }
    }

    #[tokio::test]
    async fn a_silent_server_is_given_up_and_then_not_waited_for() {
        let (_listener, address) = listener().await;
        let client = client(address, 50);
        assert!(matches!(client.call(1, true, &[]).await, Err(Error::Silent)));
        let begun = Instant::now();
        assert!(matches!(client.call(1, true, &[]).await, Err(Error::Silent)));
        assert!(begun.elapsed() < GIVEN_UP);
    }

    #[test]
    fn refusals_are_told_apart() {
        let refused = |message: Writer| result(message.finish().into()).err().unwrap().to_string();
        let head = || Writer::default().u32(1).u32(REPLY);
        assert_eq!(refused(head().u32(1).u32(1).u32(5)), "the server refuses the call: who calls is not accepted");
        let accepted = head().u32(0).u32(0).opaque(&[]).u32(2);
        assert_eq!(refused(accepted), "the server refuses the call: it does not speak this version of the program");
        assert_eq!(refused(Writer::default().u32(1)), "the server's answer makes no sense");
    }
}
