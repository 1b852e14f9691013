//! Serving HTTP over a byte stream, HTTP/1.1 or HTTP/2 as the client speaks, within bounds.

use std::convert::Infallible;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::sync::CancellationToken;
use tracing::debug;

use crate::endpoint::{Accepted, Body, BodyError, Handler};
use crate::stream::Stream;

/// How long a client may take to send a request's headers, and may wait between two requests.
const HEADER_TIMEOUT: Duration = Duration::from_secs(60);
/// All headers of a request together.
const MAX_HEADER_BYTES: usize = 64 * 1024;
/// How long a handler that is to stop waits for the first request of a connection.
const FIRST_REQUEST_TIMEOUT: Duration = Duration::from_secs(1);
/// Requests at a time on one HTTP/2 connection.
const MAX_CONCURRENT_STREAMS: u32 = 250;
/// An HTTP/2 client that is silent for so long is asked for a sign of life, and given as long again to send one.
const KEEP_ALIVE: Duration = Duration::from_secs(30);

/// What a client that says nothing more may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HalfClosed {
    /// Gone: its requests are cancelled.
    Gone,
    /// Listening, as at a pod's own port; one that is gone is noticed when it is answered.
    Listening,
}

/// Serves a connection until its client is done or, asked to stop, its last request is.
pub(crate) async fn http<I, F>(
    io: I,
    half_closed: HalfClosed,
    stop: CancellationToken,
    answer: impl Fn(Request<Incoming>) -> F + Clone,
) where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    F: Future<Output = Response<Body>> + Send + 'static,
{
    let begun = AtomicBool::new(false);
    let service = service_fn(|request| {
        begun.store(true, Ordering::Relaxed);
        let response = answer(request);
        async move { Ok::<_, Infallible>(response.await) }
    });
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .max_buf_size(MAX_HEADER_BYTES)
        .half_close(half_closed == HalfClosed::Listening)
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(KEEP_ALIVE)
        .keep_alive_timeout(KEEP_ALIVE)
        .max_concurrent_streams(MAX_CONCURRENT_STREAMS)
        .max_header_list_size(MAX_HEADER_BYTES as u32);
    let mut connection = pin!(builder.serve_connection_with_upgrades(TokioIo::new(io), service));
    // hyper's own time-out begins when it knows the protocol, and a silent client leaves that open.
    let mut first_request = pin!(tokio::time::sleep(HEADER_TIMEOUT));
    let (mut waiting, mut stopping) = (true, false);
    loop {
        tokio::select! {
            biased;
            ended = connection.as_mut() => {
                if let Err(error) = ended {
                    debug!(%error, "connection ended early");
                }
                return;
            }
            () = &mut first_request, if waiting => {
                waiting = false;
                if !begun.load(Ordering::Relaxed) {
                    return;
                }
            }
            () = stop.cancelled(), if !stopping => {
                stopping = true;
                connection.as_mut().graceful_shutdown();
            }
        }
    }
}

/// Serves a handler on a connection made in this process, until either is done.
pub(crate) async fn handler(stream: Stream, handler: Arc<dyn Handler>, accepted: Accepted) {
    let Accepted { expected, closing } = accepted;
    let (left, begun, stop) = (stream.left(), CancellationToken::new(), CancellationToken::new());
    let begins = begun.clone();
    let answer = move |request: Request<Incoming>| {
        let response = handler.call(request.map(body));
        begins.cancel();
        response
    };
    let close = async {
        // Whoever has connected to ask may ask, though the handler is about to stop.
        let _ = tokio::time::timeout(FIRST_REQUEST_TIMEOUT, begun.cancelled()).await;
        drop(expected);
        closing.await;
        stop.cancel();
        std::future::pending().await
    };
    tokio::select! {
        () = http(stream, HalfClosed::Listening, stop.clone(), answer) => {}
        () = left => {}
        () = close => {}
    }
}

/// An answer of one piece.
pub(crate) fn response(status: StatusCode, text: impl Into<Bytes>) -> Response<Body> {
    let mut response = Response::new(Full::new(text.into()).map_err(|never| match never {}).boxed_unsync());
    *response.status_mut() = status;
    response
}

/// A body as it came in.
pub(crate) fn body<B>(incoming: B) -> Body
where
    B: http_body::Body<Data = Bytes, Error: Into<BodyError>> + Send + 'static,
{
    incoming.map_err(Into::into).boxed_unsync()
}
