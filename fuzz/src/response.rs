//! What components answer, as a client reads it from a connection of HTTP/1.1 or HTTP/2: just that, to the end or broken off,
//! in whatever pieces it comes, and each answer is the one to its own request.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::{Arc, Mutex, OnceLock};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use http::header::{CONTENT_LENGTH, DATE, TE, TRAILER};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode};
use http_body::{Frame, SizeHint};
use http_body_util::{BodyExt, Empty};
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use k8w_networking::{Body, BodyError, Handler, Network, Origin};
use tokio::runtime::{Builder, Runtime};

use crate::network::{self, identity};

const PORT: u16 = 8080;
/// Requests on one connection.
const MAX_REQUESTS: usize = 4;
/// Frames of one body.
const MAX_PIECES: usize = 16;
/// Longest that a client waits for what is all in this process.
const PATIENCE: Duration = Duration::from_secs(5);
/// What WASI does not let a guest say of its connection (`wasmtime_wasi_http::is_forbidden_header`).
const FORBIDDEN: [&str; 8] = [
    "connection",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "transfer-encoding",
    "upgrade",
    "http2-settings",
];

thread_local! {
    static RUNTIME: Runtime = Builder::new_current_thread().enable_time().build().expect("a runtime");
}

/// An input is a line with the version of HTTP (`2`, or another), then a paragraph for each request: a line with its method's
/// letter (`h` for HEAD) and the status, then a line for each header (`name: value`) and each piece of the body in the order
/// in which they come: `+` and a number of bytes, `.` for a pause, `!` where it breaks off, `=` and a trailer.
pub fn check(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    let (version, requests) = text.split_once('\n').unwrap_or_default();
    let answers: Vec<Answer> = requests.split("\n\n").filter_map(Answer::of).take(MAX_REQUESTS).collect();
    RUNTIME.with(|runtime| {
        runtime.block_on(async {
            let client = tokio::time::timeout(PATIENCE, ask(version == "2", &answers));
            client.await.unwrap_or_else(|_| panic!("a client waits for ever"));
            // What is left has nobody to say it to.
            for _ in 0..8 {
                tokio::task::yield_now().await;
            }
            let tasks = tokio::runtime::Handle::current().metrics().num_alive_tasks();
            assert_eq!(tasks, 0, "tasks are left");
        });
    });
}

/// What is asked for, and what is answered.
#[derive(Clone, Debug)]
struct Answer {
    method: Method,
    status: StatusCode,
    headers: HeaderMap,
    body: VecDeque<Piece>,
}

#[derive(Clone, Debug)]
enum Piece {
    Bytes(Bytes),
    Pause,
    Break,
    Trailers(HeaderMap),
}

impl Answer {
    fn of(text: &str) -> Option<Answer> {
        let mut lines = text.lines();
        let first = lines.next()?;
        let method = if first.starts_with('h') { Method::HEAD } else { Method::GET };
        let status: StatusCode = first.trim_start_matches(|c: char| !c.is_ascii_digit()).parse().ok()?;
        // The node answers in the place of a component that answers so (`runtime/src/wasm/serve.rs`).
        if status.is_informational() {
            return None;
        }
        let mut answer = Answer { method, status, headers: HeaderMap::new(), body: VecDeque::new() };
        for line in lines {
            let piece = match line.split_at_checked(1) {
                Some(("+", bytes)) => {
                    let bytes = bytes.parse::<u16>().unwrap_or(1);
                    Piece::Bytes(vec![b'0' + bytes as u8 % 64; bytes.into()].into())
                }
                Some((".", _)) => Piece::Pause,
                Some(("!", _)) => Piece::Break,
                // A component that ends with `TE`, which is for requests, has its answer broken off in HTTP/2.
                Some(("=", trailer)) => {
                    Piece::Trailers(header(trailer).into_iter().filter(|(name, _)| name != TE).collect())
                }
                _ => {
                    answer.headers.extend(header(line).map(|(name, value)| (Some(name), value)));
                    continue;
                }
            };
            let has_ended = matches!(answer.body.back(), Some(Piece::Break | Piece::Trailers(_)));
            if !has_ended && answer.body.len() < MAX_PIECES {
                answer.body.push_back(piece);
            }
        }
        // A guest that lies about the length of its body has one that breaks off there, in `wasmtime-wasi-http`.
        if answer.headers.remove(CONTENT_LENGTH).is_some() {
            answer.headers.insert(CONTENT_LENGTH, answer.said().len().into());
        }
        Some(answer)
    }

    fn has_body(&self) -> bool {
        self.method != Method::HEAD && !matches!(self.status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED)
    }

    fn breaks_off(&self) -> bool {
        matches!(self.body.back(), Some(Piece::Break))
    }

    fn said(&self) -> Vec<u8> {
        let bytes = self.body.iter().filter_map(|piece| match piece {
            Piece::Bytes(bytes) => Some(&bytes[..]),
            _ => None,
        });
        bytes.collect::<Vec<_>>().concat()
    }
}

fn header(line: &str) -> Option<(HeaderName, HeaderValue)> {
    let (name, value) = line.split_once(':')?;
    let (name, value) = (name.parse::<HeaderName>().ok()?, HeaderValue::from_str(value.trim()).ok()?);
    (!FORBIDDEN.contains(&name.as_str())).then_some((name, value))
}

/// A component that gives its answers one after the other.
struct Component(Mutex<VecDeque<Answer>>);

impl Handler for Component {
    fn call(&self, _: Request<Body>) -> BoxFuture<'static, Response<Body>> {
        let answer = self.0.lock().expect("nobody panics").pop_front().expect("no more is asked than is answered");
        // As of a guest: nobody reads what it writes where there is no body (`runtime/src/wasm/serve.rs`).
        let body = if answer.has_body() { answer.body } else { VecDeque::new() };
        let mut response = Response::new(Said(body).boxed_unsync());
        *response.status_mut() = answer.status;
        *response.headers_mut() = answer.headers;
        Box::pin(std::future::ready(response))
    }
}

struct Said(VecDeque<Piece>);

impl http_body::Body for Said {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        Poll::Ready(match self.0.pop_front() {
            None => None,
            Some(Piece::Bytes(bytes)) => Some(Ok(Frame::data(bytes))),
            Some(Piece::Trailers(trailers)) => Some(Ok(Frame::trailers(trailers))),
            Some(Piece::Break) => Some(Err("it broke off".into())),
            Some(Piece::Pause) => {
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
        })
    }

    /// Known where all of it is there, as a guest's is that had written it when its head came.
    fn size_hint(&self) -> SizeHint {
        let lengths = self.0.iter().map(|piece| match piece {
            Piece::Bytes(bytes) => Some(bytes.len() as u64),
            _ => None,
        });
        lengths.sum::<Option<u64>>().map_or_else(SizeHint::default, SizeHint::with_exact)
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_empty()
    }
}

fn network() -> &'static Arc<Network> {
    static NETWORK: OnceLock<Arc<Network>> = OnceLock::new();
    NETWORK.get_or_init(network::node)
}

/// What sends requests on a connection.
enum Client {
    Http1(http1::SendRequest<Empty<Bytes>>),
    Http2(http2::SendRequest<Empty<Bytes>>),
}

/// Asks for each answer on one connection, as long as there is one.
async fn ask(is_http2: bool, answers: &[Answer]) {
    let pod = identity(0);
    let component = Component(Mutex::new(answers.iter().cloned().collect()));
    let _registered = network().bind_http(&pod, PORT, Arc::new(component)).expect("nobody is there");
    let endpoint = network().select(None, (pod.ip, PORT).into()).expect("it is registered");
    let io = TokioIo::new(network().open(Origin::Node, endpoint).await.expect("a pipe in memory"));
    let (mut client, connection) = if is_http2 {
        let (client, connection) = http2::handshake(TokioExecutor::new(), io).await.expect("a connection");
        (Client::Http2(client), tokio::spawn(async { drop(connection.await) }))
    } else {
        let (client, connection) = http1::handshake(io).await.expect("a connection");
        (Client::Http1(client), tokio::spawn(async { drop(connection.await) }))
    };
    // Of what broke off after its end, by its length, a server makes what it likes.
    let mut may_be_over = false;
    for answer in answers {
        may_be_over |= answer.breaks_off();
        let request = Request::builder().method(&answer.method).uri("http://component/").header("host", "component");
        let request = request.header("te", "trailers").body(Empty::new()).expect("a request");
        let response = match &mut client {
            Client::Http1(client) => client.send_request(request).await,
            Client::Http2(client) => client.send_request(request).await,
        };
        let whole = match response {
            Ok(response) => is_as_it_was_said(response, answer, is_http2).await,
            // A server that finds that the body is broken may not have sent the head yet.
            Err(error) => {
                assert!(may_be_over, "{error:?} to {answer:?}");
                false
            }
        };
        if !whole && !is_http2 {
            // What came after it could be taken for its rest.
            let Client::Http1(client) = &mut client else { unreachable!("it is HTTP/1.1") };
            assert!(client.ready().await.is_err(), "a connection goes on after {answer:?}");
            break;
        }
    }
    drop(client);
    connection.await.expect("a client does not panic");
}

/// Whether it came whole. One that broke off does not look as if it had not.
async fn is_as_it_was_said(response: Response<hyper::body::Incoming>, answer: &Answer, is_http2: bool) -> bool {
    let (head, mut body) = response.into_parts();
    assert_eq!(head.status, answer.status);
    for name in answer.headers.keys() {
        let [heard, said] = [&head.headers, &answer.headers].map(|all| all.get_all(name).iter().collect::<Vec<_>>());
        // Where nothing is said it may be left out which trailers there are, and how long it is. `TE` is for requests.
        let is_moot = match *name {
            TRAILER => !is_http2,
            TE => is_http2,
            CONTENT_LENGTH => !answer.has_body(),
            _ => false,
        };
        assert!(heard == said || is_moot && heard.is_empty(), "{name}: {heard:?} of {answer:?}");
    }
    let added = |name: &&HeaderName| !answer.headers.contains_key(*name);
    for name in head.headers.keys().filter(added) {
        assert!([DATE, CONTENT_LENGTH].contains(name) || name == "transfer-encoding", "{name} in answer to {answer:?}");
    }
    let (mut heard, mut trailers) = (Vec::new(), None);
    let ended = loop {
        match body.frame().await {
            None => break Ok(()),
            Some(Err(error)) => break Err(error),
            Some(Ok(frame)) => match frame.into_data() {
                Ok(bytes) => heard.extend(bytes),
                Err(frame) => trailers = frame.into_trailers().ok(),
            },
        }
    };
    let said = answer.said();
    if !answer.has_body() {
        assert!(heard.is_empty() && trailers.is_none(), "a body where none may be: {answer:?}");
        return ended.is_ok();
    }
    assert!(said.starts_with(&heard), "{heard:?} of {answer:?}");
    // Of a body whose length was said nothing is missing where all of that came.
    let is_counted = !is_http2 && answer.headers.contains_key(CONTENT_LENGTH) && heard == said;
    match &ended {
        Ok(()) => assert!(heard == said && (is_counted || !answer.breaks_off()), "it does not end there: {answer:?}"),
        Err(error) => assert!(answer.breaks_off(), "{error:?} in {answer:?}"),
    }
    if let Some(trailers) = trailers {
        let last = answer.body.back();
        assert!(matches!(last, Some(Piece::Trailers(said)) if *said == trailers), "{trailers:?} of {answer:?}");
    } else if is_http2 && ended.is_ok() {
        let was_said = |piece: &Piece| matches!(piece, Piece::Trailers(said) if !said.is_empty());
        assert!(!answer.body.iter().any(was_said), "the trailers are missing: {answer:?}");
    }
    ended.is_ok()
}
