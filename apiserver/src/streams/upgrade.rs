//! From an HTTP/1.1 request to the bare connection beneath it.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Response, StatusCode};
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep};

use crate::ApiServer;
use crate::body::Body;
use crate::call::Call;
use crate::routes::Answer;
use crate::status::Status;

/// A stream on which neither side says anything for so long is closed, as the kubelet closes it.
const IDLE: Duration = Duration::from_secs(4 * 60 * 60);

/// Names the version of SPDY's stream protocol, in requests (several) and answers (one).
const STREAM_PROTOCOL: HeaderName = HeaderName::from_static("x-stream-protocol-version");

/// What clients can switch to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    WebSocket,
    Spdy,
}

/// The transport that a request asks for.
///
/// # Errors
/// 400 when it asks for none, or for one that is not spoken here.
pub fn transport(headers: &HeaderMap) -> Result<Transport, Status> {
    if !contains(headers, header::CONNECTION, "upgrade") {
        return Err(Status::bad_request("Upgrade request required"));
    }
    if contains(headers, header::UPGRADE, "websocket") {
        return Ok(Transport::WebSocket);
    }
    if contains(headers, header::UPGRADE, "spdy/3.1") {
        return Ok(Transport::Spdy);
    }
    let wanted = headers.get(header::UPGRADE).map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
    Err(Status::bad_request(format!("unable to upgrade: missing upgrade headers in request: {wanted:?}")))
}

/// Whether one of a header's comma-separated values is `wanted`, in any case.
pub fn contains(headers: &HeaderMap, name: HeaderName, wanted: &str) -> bool {
    values(headers, name).any(|value| value.eq_ignore_ascii_case(wanted))
}

fn values(headers: &HeaderMap, name: HeaderName) -> impl Iterator<Item = &str> {
    let all = headers.get_all(name).into_iter().filter_map(|value| value.to_str().ok());
    all.flat_map(|value| value.split(',')).map(str::trim).filter(|value| !value.is_empty())
}

/// An agreement to switch: what the client is told, and the protocol that both speak then.
pub struct Agreement {
    headers: HeaderMap,
    /// Empty when the client named none.
    pub protocol: &'static str,
}

/// Agrees on the first of the client's protocols that is `spoken`.
///
/// # Errors
/// 400 for a broken handshake, 403 when there is no such protocol.
pub fn agree(headers: &HeaderMap, transport: Transport, spoken: &[&'static str]) -> Result<Agreement, Status> {
    match transport {
        Transport::WebSocket => websocket(headers, spoken),
        Transport::Spdy => spdy(headers, spoken),
    }
}

fn websocket(headers: &HeaderMap, spoken: &[&'static str]) -> Result<Agreement, Status> {
    if headers.get(header::SEC_WEBSOCKET_VERSION).is_none_or(|version| version != "13") {
        return Err(Status::bad_request(
            "websocket: unsupported version: 13 not found in 'Sec-Websocket-Version' header",
        ));
    }
    let key = headers.get(header::SEC_WEBSOCKET_KEY);
    let key = key.ok_or_else(|| Status::bad_request("websocket: 'Sec-WebSocket-Key' header is missing or blank"))?;
    let mut answer = switching("websocket");
    answer.insert(header::SEC_WEBSOCKET_ACCEPT, accept_key(key.as_bytes()));
    let protocol = choose(values(headers, header::SEC_WEBSOCKET_PROTOCOL), spoken)?;
    if !protocol.is_empty() {
        answer.insert(header::SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(protocol));
    }
    Ok(Agreement { headers: answer, protocol })
}

fn spdy(headers: &HeaderMap, spoken: &[&'static str]) -> Result<Agreement, Status> {
    let mut answer = switching("SPDY/3.1");
    let protocol = choose(values(headers, STREAM_PROTOCOL), spoken)?;
    if !protocol.is_empty() {
        answer.insert(STREAM_PROTOCOL, HeaderValue::from_static(protocol));
    }
    Ok(Agreement { headers: answer, protocol })
}

fn switching(to: &'static str) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(header::UPGRADE, HeaderValue::from_static(to));
    headers
}

/// Clients that name no protocol speak the oldest one, which has no name.
fn choose<'h>(wanted: impl Iterator<Item = &'h str>, spoken: &[&'static str]) -> Result<&'static str, Status> {
    let wanted: Vec<&str> = wanted.collect();
    if wanted.is_empty() {
        return Ok("");
    }
    let found = wanted.iter().find_map(|wanted| spoken.iter().find(|spoken| *spoken == wanted));
    found.copied().ok_or_else(|| {
        let (wanted, spoken) = (wanted.join(" "), spoken.join(" "));
        let why = format!("unable to negotiate protocol: client supports [{wanted}], server accepts [{spoken}]");
        Status::forbidden("", "", "", why)
    })
}

/// RFC 6455, section 4.2.2.
fn accept_key(key: &[u8]) -> HeaderValue {
    const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
    let digest = ring::digest::digest(&ring::digest::SHA1_FOR_LEGACY_USE_ONLY, &[key, GUID].concat());
    HeaderValue::try_from(STANDARD.encode(digest)).unwrap_or_else(|_| HeaderValue::from_static(""))
}

/// Answers 101, and runs `session` on the connection as soon as the answer is written.
///
/// # Errors
/// 400 when the connection cannot be switched (HTTP/2, or a client in this process), 429 when there are too many.
pub fn switch<S>(
    server: &ApiServer,
    call: &mut Call,
    agreement: Agreement,
    session: impl FnOnce(Idle<TokioIo<Upgraded>>) -> S + Send + 'static,
) -> Answer
where
    S: Future<Output = ()> + Send,
{
    let upgrade = take_upgrade(call)?;
    let place = server.limits.stream()?;
    tokio::spawn(async move {
        match upgrade.await {
            Ok(connection) => session(Idle::new(TokioIo::new(connection), IDLE)).await,
            Err(error) => tracing::debug!(%error, "a client went away before its connection was switched"),
        }
        drop(place);
    });
    let mut response = Response::new(Body::Empty);
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    *response.headers_mut() = agreement.headers;
    Ok(response)
}

/// The right to a request's connection.
///
/// # Errors
/// 400 when there is none.
pub fn take_upgrade(call: &mut Call) -> Result<OnUpgrade, Status> {
    let upgrade = call.parts.extensions.remove::<OnUpgrade>();
    upgrade.ok_or_else(|| Status::bad_request("unable to upgrade: this connection is not HTTP/1.1"))
}

/// A connection that is given up when nothing is read or written for a while.
pub struct Idle<T> {
    io: T,
    limit: Duration,
    /// Looked at only while reading waits: that is when a connection is idle.
    deadline: Pin<Box<Sleep>>,
}

impl<T> Idle<T> {
    fn new(io: T, limit: Duration) -> Idle<T> {
        Idle { io, limit, deadline: Box::pin(sleep(limit)) }
    }

    fn active(&mut self) {
        let deadline = Instant::now() + self.limit;
        self.deadline.as_mut().reset(deadline);
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Idle<T> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let read = Pin::new(&mut self.io).poll_read(cx, buffer);
        if read.is_ready() {
            self.active();
        } else if self.deadline.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        read
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Idle<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.io).poll_write(cx, bytes);
        if written.is_ready() {
            self.active();
        }
        written
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt;

    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let pairs = pairs.iter().map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)));
        pairs.collect()
    }

    #[test]
    fn a_transport_is_asked_for_in_two_headers() {
        let asked = |connection, upgrade| transport(&headers(&[("connection", connection), ("upgrade", upgrade)]));
        assert_eq!(asked("keep-alive, Upgrade", "websocket"), Ok(Transport::WebSocket));
        assert_eq!(asked("Upgrade", "SPDY/3.1"), Ok(Transport::Spdy));
        assert_eq!(asked("close", "websocket").unwrap_err().message, "Upgrade request required");
        assert_eq!(asked("upgrade", "h2c").unwrap_err().code, 400);
    }

    #[test]
    fn the_first_protocol_that_both_speak_is_taken() {
        let mut request =
            headers(&[("sec-websocket-version", "13"), ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==")]);
        let agreed = agree(&request, Transport::WebSocket, &["v4"]).unwrap();
        assert_eq!((agreed.protocol, agreed.headers.get("sec-websocket-protocol")), ("", None));
        // The example of RFC 6455.
        assert_eq!(agreed.headers["sec-websocket-accept"], "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
        request.insert("sec-websocket-protocol", HeaderValue::from_static("v6, v5,v4"));
        assert_eq!(agree(&request, Transport::WebSocket, &["v4", "v5"]).unwrap().protocol, "v5");
        let none = agree(&request, Transport::WebSocket, &["v1"]).err().unwrap();
        assert_eq!(none.code, 403);
        assert!(none.message.contains("client supports [v6 v5 v4], server accepts [v1]"), "{none}");
        request.insert(STREAM_PROTOCOL, HeaderValue::from_static("v4"));
        assert_eq!(agree(&request, Transport::Spdy, &["v4"]).unwrap().headers[STREAM_PROTOCOL], "v4");
    }

    #[tokio::test]
    async fn a_silent_connection_ends() {
        let (_near, far) = tokio::io::duplex(64);
        let mut idle = Idle::new(far, Duration::from_millis(5));
        assert_eq!(idle.read(&mut [0; 8]).await.unwrap_err().kind(), io::ErrorKind::TimedOut);
    }
}
