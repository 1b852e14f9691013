//! Serves HTTP with a component: the handler that a pod's port stands for.
//!
//! A request costs a store and an instance from the pool. The guest runs inside the response's own future; only one that
//! has not returned when its response's head is there goes on in a task, until its body is read or its reader leaves.

use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Poll, ready};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use bytes::Bytes;
use futures::future::BoxFuture;
use http::StatusCode;
use http_body_util::{BodyExt, Full};
use k8w_networking::{Accepted, Body, BodyError, Handler};
use tokio::sync::{Notify, oneshot};
use wasmtime::{PoolConcurrencyLimitError, Store};
use wasmtime_wasi_http::Error;
use wasmtime_wasi_http::handler::{Proxy, ProxyPre};

use super::burst::Burst;
use super::container::Container;
use super::guest::Guest;
use super::handle::{Head, handle};
use super::memory::OutOfMemory;
use super::outcome::{Outcome, cause, describe};
use super::response::GuestBody;
use super::slots::{Need, NoSlot};
use super::store::{Interrupted, State, new_store};

/// The http component of one container.
pub struct Server {
    pre: Arc<ProxyPre<State>>,
    need: Need,
    pub container: Arc<Container>,
    running: AtomicUsize,
    /// Connections whose first request is on its way.
    expecting: AtomicUsize,
    /// Told when the last request ends, or is expected no more.
    idle: Notify,
    /// Told when a request ends, for one that waits for its turn.
    room: Notify,
    warm: Mutex<Vec<Warm>>,
    burst: Burst,
    /// When a trap was last told.
    told: Mutex<Option<Instant>>,
    tell: Box<dyn Fn(News) + Send + Sync>,
}

/// What a server tells whoever started it.
pub enum News {
    /// A request trapped. Of those that come soon after, nothing is told.
    Trapped(String),
    /// The container has failed.
    Failed(Outcome),
}

/// What is said of an answer that would change the protocol, or be followed by another.
const NO_UPGRADE: &str =
    "a component of wasi:http cannot upgrade a connection; a process that listens by wasi:sockets can\n";

/// What is said to a request for which there is no memory, no instance slot, or no time as its container ends.
const NO_ROOM: &str = "the component has no room for this request now\n";

/// How long a request waits for its turn when as many run as may: the last steps of a guest come after its answer, so that a
/// client that asks one at a time may be back before they are done.
const TURN_PATIENCE: Duration = Duration::from_millis(500);

/// How soon after a trap another is told: as often as a recorder of events lets something through of who has said too much.
const TRAPS_TOLD_EVERY: Duration = Duration::from_secs(300);

/// An instance that may serve another request.
struct Warm {
    store: Store<State>,
    proxy: Proxy,
    served: u32,
    since: Instant,
}

impl Server {
    pub fn new(
        pre: Arc<ProxyPre<State>>,
        need: Need,
        container: Arc<Container>,
        tell: impl Fn(News) + Send + Sync + 'static,
    ) -> Arc<Server> {
        let trap_burst = container.http.trap_burst;
        Arc::new(Server {
            pre,
            need,
            container,
            running: AtomicUsize::new(0),
            expecting: AtomicUsize::new(0),
            idle: Notify::new(),
            room: Notify::new(),
            warm: Mutex::default(),
            burst: Burst::new(trap_burst),
            told: Mutex::default(),
            tell: Box::new(tell),
        })
    }

    /// Waits until no request runs, and none is on its way.
    pub async fn drained(&self) {
        loop {
            let mut idle = std::pin::pin!(self.idle.notified());
            idle.as_mut().enable();
            if self.expecting.load(Ordering::SeqCst) == 0 && self.running.load(Ordering::SeqCst) == 0 {
                return;
            }
            idle.await;
        }
    }

    /// Takes note of the end of what may have been the last.
    fn ended(&self, count: &AtomicUsize) {
        let last = count.fetch_sub(1, Ordering::SeqCst) == 1;
        if last && self.container.draining.is_cancelled() {
            self.idle.notify_waiters();
        }
    }

    /// Lets instances go that wait for another request.
    pub fn close(&self) {
        self.lock_warm().clear();
    }

    fn lock_warm(&self) -> std::sync::MutexGuard<'_, Vec<Warm>> {
        self.warm.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    async fn instance(&self) -> wasmtime::Result<Warm> {
        if self.container.http.instance_reuse > 1
            && let Some(warm) = self.lock_warm().pop()
        {
            return Ok(warm);
        }
        let engine = match &*self.pre {
            ProxyPre::P2(pre) => pre.engine(),
            ProxyPre::P3(pre) => pre.engine(),
        };
        let mut store = new_store(engine, &self.container, self.need)?;
        let proxy = self.pre.instantiate_async(&mut store).await?;
        Ok(Warm { store, proxy, served: 0, since: Instant::now() })
    }

    /// Keeps an instance for the next request, if it may have one.
    fn keep(self: &Arc<Self>, mut warm: Warm) {
        warm.served += 1;
        warm.since = Instant::now();
        if warm.served >= self.container.http.instance_reuse || self.container.draining.is_cancelled() {
            return;
        }
        let mut waiting = self.lock_warm();
        let first = waiting.is_empty();
        waiting.push(warm);
        drop(waiting);
        if first {
            tokio::spawn(expire(Arc::downgrade(self)));
        }
    }

    /// Tells what became of a request whose guest failed, and what its client sees.
    pub fn failed(&self, error: &wasmtime::Error) -> StatusCode {
        match error.downcast_ref() {
            Some(OutOfMemory::Shared { .. }) => return StatusCode::SERVICE_UNAVAILABLE,
            Some(OutOfMemory::Alone { .. }) => {
                (self.tell)(News::Failed(Outcome::of(error)));
                return StatusCode::INTERNAL_SERVER_ERROR;
            }
            None => {}
        }
        if error.is::<Interrupted>() || error.is::<NoSlot>() || error.is::<PoolConcurrencyLimitError>() {
            return StatusCode::SERVICE_UNAVAILABLE;
        }
        let now = Instant::now();
        self.trapped(&describe(error), &cause(error), now);
        if self.burst.trapped(now) {
            (self.tell)(News::Failed(Outcome::burst(self.container.http.trap_burst, error)));
        }
        StatusCode::INTERNAL_SERVER_ERROR
    }

    /// Tells of an answer that is not what its head says: its client sees that it broke off, and not why.
    pub fn misanswered(&self, why: &str) {
        self.trapped(why, why, Instant::now());
    }

    /// Counts a request that failed, and tells of it: all that is `known` in the log, and `why` in an event now and then.
    fn trapped(&self, known: &str, why: &str, now: Instant) {
        self.container.counters.traps.fetch_add(1, Ordering::Relaxed);
        self.container.stdio.complain(known);
        if self.is_news(now) {
            (self.tell)(News::Trapped(format!("A request failed: {why}")));
        }
    }

    fn is_news(&self, now: Instant) -> bool {
        let mut told = self.told.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let is_news = told.is_none_or(|last| now.saturating_duration_since(last) >= TRAPS_TOLD_EVERY);
        if is_news {
            *told = Some(now);
        }
        is_news
    }
}

/// Drops instances that waited too long for a request. Ends when none waits.
async fn expire(server: std::sync::Weak<Server>) {
    loop {
        let Some(wait) = server.upgrade().map(|server| server.container.http.idle_instance) else { return };
        tokio::time::sleep(wait).await;
        let Some(server) = server.upgrade() else { return };
        let mut waiting = server.lock_warm();
        waiting.retain(|warm| warm.since.elapsed() < wait);
        if waiting.is_empty() {
            return;
        }
    }
}

/// What the network calls: the server that stands behind a container's port.
#[derive(Clone)]
pub struct Door(Arc<ArcSwap<Server>>);

impl Door {
    pub fn new(server: Arc<Server>) -> Door {
        Door(Arc::new(ArcSwap::new(server)))
    }

    /// Lets another server answer from now on. The one before goes on with the requests that it has.
    pub fn hand_over(&self, server: Arc<Server>) {
        self.0.store(server);
    }

    /// A request's turn at the server that answers now. Whoever takes a server's place looks afterwards which turns have
    /// begun, so that a turn is begun first, and counts if the server is still the one.
    fn turn(&self) -> (Arc<Server>, Option<Arc<Turn>>) {
        loop {
            let server = self.0.load_full();
            let turn = Turn::begin(server.clone());
            if Arc::ptr_eq(&self.0.load(), &server) {
                return (server, turn);
            }
        }
    }

    /// Waits for a request's turn. The server on whose room it waits is not drained before that.
    async fn next_turn(&self) -> Arc<Turn> {
        loop {
            let expected = Expected::begin(self.0.load_full());
            let mut room = std::pin::pin!(expected.0.room.notified());
            room.as_mut().enable();
            match self.turn() {
                (_, Some(turn)) => return turn,
                (server, None) if Arc::ptr_eq(&server, &expected.0) => room.await,
                // Another has taken its place.
                (_, None) => {}
            }
        }
    }
}

impl Handler for Door {
    fn call(&self, request: http::Request<Body>) -> BoxFuture<'static, http::Response<Body>> {
        let (server, turn) = self.turn();
        server.container.counters.requests.fetch_add(1, Ordering::Relaxed);
        match turn {
            Some(turn) => Box::pin(respond(turn, request)),
            None => Box::pin(respond_in_turn(self.clone(), request)),
        }
    }

    fn accept(&self) -> Option<Accepted> {
        loop {
            let server = self.0.load_full();
            // Whoever stops a server says so first and counts afterwards.
            let expected = Expected::begin(server.clone());
            if !Arc::ptr_eq(&self.0.load(), &server) {
                continue;
            }
            let draining = server.container.draining.clone();
            let is_open = !draining.is_cancelled();
            let closing = Box::pin(draining.cancelled_owned());
            return is_open.then(|| Accepted { expected: Box::new(expected), closing });
        }
    }
}

/// A connection on whose first request a server waits.
struct Expected(Arc<Server>);

impl Expected {
    fn begin(server: Arc<Server>) -> Expected {
        server.expecting.fetch_add(1, Ordering::SeqCst);
        Expected(server)
    }
}

impl Drop for Expected {
    fn drop(&mut self) {
        self.0.ended(&self.0.expecting);
    }
}

/// One request that runs; the last one to end tells those who wait.
pub struct Turn {
    pub server: Arc<Server>,
    failed: AtomicBool,
}

impl Turn {
    fn begin(server: Arc<Server>) -> Option<Arc<Turn>> {
        let most = server.container.http.concurrent;
        let one_more = |running| (running < most).then_some(running + 1);
        server.running.fetch_update(Ordering::SeqCst, Ordering::SeqCst, one_more).ok()?;
        Some(Arc::new(Turn { server, failed: AtomicBool::new(false) }))
    }

    /// Whether the guest trapped or was ended. Set before its streams close.
    pub fn has_failed(&self) -> bool {
        self.failed.load(Ordering::Acquire)
    }

    /// Tells what became of a guest whose response is under way.
    pub fn report(&self, error: &wasmtime::Error) {
        self.failed.store(true, Ordering::Release);
        self.server.failed(error);
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.server.ended(&self.server.running);
        self.server.room.notify_one();
    }
}

/// Answers a request that found as many at once as may be.
async fn respond_in_turn(door: Door, request: http::Request<Body>) -> http::Response<Body> {
    match tokio::time::timeout(TURN_PATIENCE, door.next_turn()).await {
        Ok(turn) => respond(turn, request).await,
        Err(_) => refuse(StatusCode::SERVICE_UNAVAILABLE, "too many requests at once\n"),
    }
}

async fn respond(turn: Arc<Turn>, request: http::Request<Body>) -> http::Response<Body> {
    let server = turn.server.clone();
    let container = &server.container;
    let limit = container.http.response;
    if request.uri().authority().is_none() && !request.headers().contains_key(http::header::HOST) {
        return refuse(StatusCode::BAD_REQUEST, "the request names no host\n");
    }
    let head_only = request.method() == http::Method::HEAD;
    let (sender, mut head) = oneshot::channel();
    let mut guest = Some(Guest::new(container.clone(), serve(turn.clone(), request, sender)));
    let (mut error, mut is_unanswered) = (None, false);
    let mut response = std::future::poll_fn(|cx| {
        if let Some(running) = &mut guest
            && let Poll::Ready(ended) = Pin::new(running).poll(cx)
        {
            guest = None;
            error = ended.err();
        }
        if !is_unanswered {
            match ready!(Pin::new(&mut head).poll(cx)) {
                Ok(head) => return Poll::Ready(Some(head)),
                Err(_) => is_unanswered = true,
            }
        }
        // One that is gone without an answer has yet to say how it ended.
        if guest.is_some() { Poll::Pending } else { Poll::Ready(None) }
    });
    // Most guests answer at the first poll: only the others get a timer.
    let answered = match futures::poll!(&mut response) {
        Poll::Ready(answered) => Ok(answered),
        Poll::Pending => tokio::time::timeout(limit, &mut response).await,
    };
    match answered {
        Ok(Some(Ok(response))) if response.status().is_informational() => {
            let status = response.status().as_u16();
            container
                .stdio
                .complain(&format!("the component answered with status {status}: {}", NO_UPGRADE.trim_end()));
            refuse(StatusCode::BAD_GATEWAY, NO_UPGRADE)
        }
        Ok(Some(Ok(response))) => {
            if let Some(error) = error {
                turn.report(&error);
            }
            let has_no_body = matches!(response.status(), StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
            let said_bytes = response.headers().get(http::header::CONTENT_LENGTH);
            let said_bytes = said_bytes.and_then(|length| length.to_str().ok()?.parse().ok());
            response.map(|body| GuestBody::new(body, guest, turn, head_only || has_no_body, said_bytes).boxed_unsync())
        }
        Ok(Some(Err(error))) => {
            // Whose it is nobody can tell: a component may pass on what became of its own request.
            let whose = "its own, or that of a request that it made";
            container.stdio.complain(&format!("the component answered with an error ({whose}): {error}"));
            refuse(StatusCode::INTERNAL_SERVER_ERROR, "the component answered with an error\n")
        }
        Ok(None) => match error {
            Some(error) => match server.failed(&error) {
                StatusCode::SERVICE_UNAVAILABLE => refuse(StatusCode::SERVICE_UNAVAILABLE, NO_ROOM),
                status => refuse(status, "the component failed; its log says why\n"),
            },
            None => refuse(StatusCode::INTERNAL_SERVER_ERROR, "the component gave no response\n"),
        },
        Err(_) => refuse(StatusCode::GATEWAY_TIMEOUT, "the component did not answer in time\n"),
    }
}

/// The guest's side of a request, from instance to return.
async fn serve(turn: Arc<Turn>, request: http::Request<Body>, head: oneshot::Sender<Head>) -> wasmtime::Result<()> {
    let mut warm = turn.server.instance().await?;
    let internal = |error: BodyError| Error::InternalError(Some(error.to_string()));
    let request = request.map(|body| body.map_err(internal));
    let returned = handle(&mut warm.store, &warm.proxy, request, head).await;
    match &returned {
        Ok(()) if turn.server.container.http.instance_reuse > 1 => turn.server.keep(warm),
        Ok(()) => {}
        Err(_) => turn.failed.store(true, Ordering::Release),
    }
    returned
}

fn refuse(status: StatusCode, why: &'static str) -> http::Response<Body> {
    let body = Full::new(Bytes::from_static(why.as_bytes())).map_err(|never| match never {}).boxed_unsync();
    let mut response = http::Response::new(body);
    *response.status_mut() = status;
    response
}
