//! Takes streams that other nodes open to this node's pods.

use std::sync::Arc;

use http::request::Parts;
use http::{Request, Response, StatusCode};

use super::ORIGIN;
use super::origin::Claim;
use super::path::Carries;
use crate::endpoint::Body;
use crate::network::{Network, Refused};
use crate::serve;
use crate::stream::Stream;

/// A request that is answered in one sentence.
struct Refusal(StatusCode, String);

impl Network {
    /// Opens the stream that a request of the node `from` is for, if that may speak for who wants it, and the policies here
    /// let those have it.
    pub async fn accept_stream(self: &Arc<Self>, from: &str, request: Request<Body>) -> Response<Body> {
        let (parts, body) = request.into_parts();
        match self.open_for(from, &parts).await {
            Ok(stream) => {
                let (says, hears) = stream.split();
                tokio::spawn(hears.take(body));
                Response::new(says)
            }
            Err(Refusal(status, why)) => serve::response(status, why),
        }
    }

    async fn open_for(self: &Arc<Self>, from: &str, request: &Parts) -> Result<Stream, Refusal> {
        let bad = |why: &str| Refusal(StatusCode::BAD_REQUEST, why.to_owned());
        let asked = Carries::parse(request.uri.path());
        let (carries, to) = asked.ok_or_else(|| bad("the path names no address and port"))?;
        let claim = request.headers.get(ORIGIN).and_then(|value| Claim::parse(value.to_str().ok()?));
        let claim = claim.ok_or_else(|| bad("the request does not say for whom it is"))?;
        let origin = {
            let nodes = &self.load_tables().nodes;
            let node = nodes.named(from);
            node.and_then(|node| claim.believed(node, nodes, |ip| self.is_own(ip)))
        };
        let not_believed = || Refusal(StatusCode::FORBIDDEN, format!("node {from} does not speak for {claim}"));
        let origin = origin.ok_or_else(not_believed)?;
        let refused = |refused: Refused| {
            let status = match refused {
                Refused::NotAllowed(_) => StatusCode::FORBIDDEN,
                _ => StatusCode::NOT_FOUND,
            };
            Refusal(status, refused.to_string())
        };
        if let Carries::Datagrams { from } = carries {
            return self.take_datagrams(origin, from, to).map_err(refused);
        }
        let endpoint = self.select_own(origin, to).map_err(refused)?;
        let failed = |error: std::io::Error| Refusal(StatusCode::BAD_GATEWAY, error.to_string());
        self.open(origin, endpoint).await.map_err(failed)
    }
}
