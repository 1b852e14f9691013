//! Requests to pods of other nodes: each has a stream of its own, so that the other node knows for whom it is. A stream costs no
//! connection.

use std::io;

use http::{Request, Response, Uri, Version};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;

use super::{Client, Io, SendError, Tls, Unanswered, h2c, name_host, received};
use crate::endpoint::{Body, Endpoint};
use crate::network::Network;
use crate::origin::Origin;
use crate::peers::Peer;

impl Client {
    /// Sends a request over a stream of its own, with TLS if it is said how.
    pub(super) async fn once(
        &self,
        network: &Network,
        origin: Origin<'_>,
        peer: Peer,
        tls: Option<Tls<'_>>,
        mut request: Request<Body>,
    ) -> Result<Response<Incoming>, Unanswered> {
        let address = peer.address;
        let failed = |error: hyper::Error| SendError::failed(address, error);
        let stream = match network.open(origin, Endpoint::Peer(peer)).await {
            Ok(stream) => stream,
            Err(error) => return Err(Unanswered::unseen(request, address, error)),
        };
        let io: Box<dyn Io> = match tls {
            None => Box::new(stream),
            Some(tls) => match self.tls.begin(tls, stream).await {
                Ok(io) => io,
                Err(error) => return Err(Unanswered::unseen(request, address, error)),
            },
        };
        name_host(&mut request)?;
        let path = request.uri().path_and_query().map_or("/", |path| path.as_str());
        *request.uri_mut() = Uri::try_from(path).map_err(|_| SendError::NoHost)?;
        *request.version_mut() = Version::HTTP_11;
        let (mut sender, connection) = http1::handshake(TokioIo::new(io)).await.map_err(failed)?;
        // Ends with the answer, or what the connection is changed to.
        tokio::spawn(connection.with_upgrades());
        Ok(received(sender.send_request(request).await.map_err(failed)?))
    }

    /// Likewise, to a pod that speaks HTTP/2.
    pub(super) async fn once_h2c(
        &self,
        network: &Network,
        origin: Origin<'_>,
        peer: Peer,
        mut request: Request<Body>,
    ) -> Result<Response<Incoming>, Unanswered> {
        let address = peer.address;
        let failed = |error: hyper::Error| SendError::failed(address, error);
        let stream = match network.open(origin, Endpoint::Peer(peer)).await {
            Ok(stream) => stream,
            Err(error) => return Err(Unanswered::unseen(request, address, error)),
        };
        let mut sender = match h2c::begin(stream).await {
            Ok(sender) => sender,
            Err(error) => {
                let error = io::Error::new(io::ErrorKind::ConnectionAborted, error);
                return Err(Unanswered::unseen(request, address, error));
            }
        };
        h2c::prepare(&mut request)?;
        Ok(sender.send_request(request).await.map_err(failed)?)
    }
}
