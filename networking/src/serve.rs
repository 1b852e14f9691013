//! Serving a handler over a byte stream, HTTP/1.1 or HTTP/2 as the client speaks.

use std::convert::Infallible;
use std::sync::Arc;

use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use tracing::debug;

use crate::endpoint::Handler;
use crate::stream::Stream;

/// Serves `handler` on one connection until it ends.
pub(crate) async fn http_connection(stream: Stream, handler: Arc<dyn Handler>) {
    let service = service_fn(move |request: http::Request<Incoming>| {
        let response = handler.call(request.map(|body| body.map_err(Into::into).boxed_unsync()));
        async move { Ok::<_, Infallible>(response.await) }
    });
    let served = auto::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), service).await;
    if let Err(error) = served {
        debug!(%error, "connection ended early");
    }
}
