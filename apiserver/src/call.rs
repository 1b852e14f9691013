//! One request on its way through the chain.

use crate::body::Body;
use crate::identity::{Peer, UserInfo};
use crate::query::Query;
use crate::request_info::RequestInfo;
use crate::status::Status;
use bytes::Bytes;
use http_body_util::{BodyExt, Limited};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::timeout;

/// The largest request body, as in Kubernetes.
pub const BODY_LIMIT_BYTES: usize = 3 << 20;

/// How much of a body that is too large is read on and thrown away, and for how long: a client that is still sending may
/// lose the answer.
const DRAINED_BYTES: usize = 64 << 20;
const DRAIN_MS: u64 = 10_000;

/// An authorized request.
pub struct Call {
    pub parts: http::request::Parts,
    pub body: Body,
    pub info: RequestInfo,
    pub query: Query,
    pub user: Arc<UserInfo>,
    pub peer: Peer,
}

impl Call {
    /// A header as text; `None` when it is missing or not text.
    pub fn header(&self, name: http::header::HeaderName) -> Option<&str> {
        self.parts.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// Reads the whole body.
    ///
    /// # Errors
    /// 413 when it is larger than [`BODY_LIMIT_BYTES`], 400 when it breaks off.
    pub async fn read_body(&mut self) -> Result<Bytes, Status> {
        match std::mem::take(&mut self.body) {
            Body::Empty => Ok(Bytes::new()),
            Body::Full(bytes) if bytes.len() > BODY_LIMIT_BYTES => Err(Status::too_large(BODY_LIMIT_BYTES)),
            Body::Full(bytes) => Ok(bytes),
            mut body => match Limited::new(&mut body, BODY_LIMIT_BYTES).collect().await {
                Ok(collected) => Ok(collected.to_bytes()),
                Err(error) if error.is::<http_body_util::LengthLimitError>() => {
                    let _ = timeout(Duration::from_millis(DRAIN_MS), drain(body)).await;
                    Err(Status::too_large(BODY_LIMIT_BYTES))
                }
                Err(error) => Err(Status::bad_request(format!("cannot read the request's body: {error}"))),
            },
        }
    }
}

async fn drain(mut body: Body) {
    let mut left = DRAINED_BYTES;
    while let Some(Ok(frame)) = body.frame().await {
        let Some(rest) = left.checked_sub(frame.data_ref().map_or(0, Bytes::len)) else { return };
        left = rest;
    }
}
