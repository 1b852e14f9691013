//! The API server as a tower service, for clients in the same process.

use crate::ApiServer;
use crate::body::{Body, BodyError};
use crate::identity::{Peer, UserInfo};
use bytes::Bytes;
use futures::future::BoxFuture;
use http::{HeaderValue, Request, Response, header};
use std::convert::Infallible;
use std::sync::Arc;
use std::task::{Context, Poll};

/// A client's end. It takes requests with any body, and never fails: errors are responses.
#[derive(Clone)]
pub struct InProcess {
    server: Arc<ApiServer>,
    peer: Peer,
    agent: HeaderValue,
}

impl InProcess {
    pub(crate) fn new(server: Arc<ApiServer>, user: UserInfo, agent: &'static str) -> Self {
        InProcess { server, peer: Peer::in_process(user), agent: HeaderValue::from_static(agent) }
    }
}

impl<B> tower_service::Service<Request<B>> for InProcess
where
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BodyError>,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let (server, peer) = (self.server.clone(), self.peer.clone());
        let mut request = request.map(Body::stream);
        request.headers_mut().entry(header::USER_AGENT).or_insert_with(|| self.agent.clone());
        Box::pin(async move { Ok(server.handle(request, peer).await) })
    }
}
