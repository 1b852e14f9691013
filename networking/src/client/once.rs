//! Requests to pods of other nodes: each has a stream of its own, so that the other node knows for whom it is. A stream costs no
//! connection.

use http::{Request, Response, Uri, Version};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;

use super::{Client, SendError, Tls, Unanswered, h2c, name_host, received};
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
        let begun = async { self.tls.begin(tls, network.open(origin, Endpoint::Peer(peer)).await?).await };
        let io = match begun.await {
            Ok(io) => io,
            Err(error) => return Err(Unanswered::unseen(request, address, error)),
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
        let begun = async { h2c::begin(network.open(origin, Endpoint::Peer(peer)).await?).await };
        let mut sender = match begun.await {
            Ok(sender) => sender,
            Err(error) => return Err(Unanswered::unseen(request, address, error)),
        };
        h2c::prepare(&mut request)?;
        Ok(sender.send_request(request).await.map_err(failed)?)
    }
}
