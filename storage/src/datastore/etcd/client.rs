//! Calls to etcd: one function per method, over one HTTP/2 connection to each member.

use std::time::Duration;

use futures::Stream;
use http::uri::PathAndQuery;
use prost::Message;
use tonic::client::Grpc;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};
use tonic::{Code, Status, Streaming};
use tonic_prost::ProstCodec;

use super::super::{Error, Result, Revision};
use super::proto::*;

/// How long a call may take. A call that takes longer may have happened.
const CALL_TIMEOUT: Duration = Duration::from_secs(10);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// A connection that is silent for so long is asked for a sign of life.
const KEEP_ALIVE: Duration = Duration::from_secs(10);
/// Largest answer. A page of the largest values is not larger.
const MAX_MESSAGE_BYTES: usize = 512 * 1024 * 1024;

/// How etcd knows us, and we it.
#[derive(Clone, Debug, Default)]
pub struct Tls {
    /// The authority that signed etcd's certificate, PEM.
    pub ca: Option<Vec<u8>>,
    /// Our certificate chain and its key, PEM.
    pub identity: Option<(Vec<u8>, Vec<u8>)>,
}

#[derive(Clone)]
pub(super) struct Client(Channel);

impl Client {
    pub async fn connect(urls: &str, tls: Option<&Tls>) -> Result<Self> {
        let urls = urls.split(',').map(str::trim).filter(|url| !url.is_empty());
        let endpoints = urls.map(|url| endpoint(url, tls)).collect::<Result<Vec<_>>>()?;
        match &endpoints[..] {
            [] => Err(Error::Invalid("no etcd address given".into())),
            [one] => one.connect().await.map(Self).map_err(|error| Error::Unavailable(error.into())),
            several => Ok(Self(Channel::balance_list(several.iter().cloned()))),
        }
    }

    pub async fn range(&self, request: RangeRequest) -> Result<RangeResponse> {
        let revision = request.revision;
        self.call(request, "/etcdserverpb.KV/Range").await.map_err(|status| failed(status, revision as Revision))
    }

    pub async fn txn(&self, request: TxnRequest) -> Result<TxnResponse> {
        self.call(request, "/etcdserverpb.KV/Txn").await.map_err(|status| failed(status, 0))
    }

    pub async fn compact(&self, revision: Revision) -> Result<()> {
        let request = CompactionRequest { revision: revision as i64 };
        let done: Result<CompactionResponse, _> = self.call(request, "/etcdserverpb.KV/Compact").await;
        done.map(drop).map_err(|status| failed(status, revision))
    }

    pub async fn lease(&self, ttl_seconds: u64) -> Result<i64> {
        let request = LeaseGrantRequest { ttl: ttl_seconds as i64 };
        let granted: Result<LeaseGrantResponse, _> = self.call(request, "/etcdserverpb.Lease/LeaseGrant").await;
        granted.map(|lease| lease.id).map_err(|status| failed(status, 0))
    }

    /// etcd's version, such as `3.5.16`.
    pub async fn version(&self) -> Result<String> {
        let status: Result<StatusResponse, _> = self.call(StatusRequest {}, "/etcdserverpb.Maintenance/Status").await;
        status.map(|status| status.version).map_err(|status| failed(status, 0))
    }

    pub async fn watch(
        &self,
        requests: impl Stream<Item = WatchRequest> + Send + 'static,
    ) -> Result<Streaming<WatchResponse>> {
        let mut grpc = self.ready().await.map_err(|status| failed(status, 0))?;
        let path = PathAndQuery::from_static("/etcdserverpb.Watch/Watch");
        let responses = grpc.streaming(tonic::Request::new(requests), path, ProstCodec::default()).await;
        responses.map(tonic::Response::into_inner).map_err(|status| failed(status, 0))
    }

    async fn ready(&self) -> Result<Grpc<Channel>, Status> {
        let mut grpc = Grpc::new(self.0.clone()).max_decoding_message_size(MAX_MESSAGE_BYTES);
        grpc.ready().await.map_err(|error| Status::unavailable(error.to_string()))?;
        Ok(grpc)
    }

    async fn call<Q, A>(&self, request: Q, path: &'static str) -> Result<A, Status>
    where
        Q: Message + Send + Sync + 'static,
        A: Message + Default + Send + Sync + 'static,
    {
        let mut request = tonic::Request::new(request);
        request.set_timeout(CALL_TIMEOUT);
        let mut grpc = self.ready().await?;
        let answer = grpc.unary(request, PathAndQuery::from_static(path), ProstCodec::default());
        match tokio::time::timeout(CALL_TIMEOUT, answer).await {
            Ok(answer) => answer.map(tonic::Response::into_inner),
            Err(_) => Err(Status::deadline_exceeded("etcd did not answer in time")),
        }
    }
}

fn endpoint(url: &str, tls: Option<&Tls>) -> Result<Endpoint> {
    let invalid = |error: &dyn std::fmt::Display| Error::Invalid(format!("etcd address {url:?}: {error}"));
    let address = match (url.strip_prefix("etcd://"), tls) {
        (Some(rest), Some(_)) => format!("https://{rest}"),
        (Some(rest), None) => format!("http://{rest}"),
        (None, _) => url.to_owned(),
    };
    let endpoint = Endpoint::from_shared(address)
        .map_err(|error| invalid(&error))?
        .connect_timeout(CONNECT_TIMEOUT)
        .http2_keep_alive_interval(KEEP_ALIVE)
        .keep_alive_while_idle(true)
        .tcp_nodelay(true);
    let Some(tls) = tls else { return Ok(endpoint) };
    let mut config = ClientTlsConfig::new();
    if let Some(ca) = &tls.ca {
        config = config.ca_certificate(Certificate::from_pem(ca));
    }
    if let Some((certificate, key)) = &tls.identity {
        config = config.identity(Identity::from_pem(certificate, key));
    }
    endpoint.tls_config(config).map_err(|error| invalid(&error))
}

/// What etcd's status means. `requested` is the revision that the call asked for.
fn failed(status: Status, requested: Revision) -> Error {
    // The texts are part of etcd's API: its own client compares them (`api/v3rpc/rpctypes/error.go`).
    let message = status.message();
    match status.code() {
        Code::OutOfRange if message.contains("has been compacted") => {
            // etcd does not say how far, here and below; this much is certain.
            Error::Compacted { requested, compacted: requested + 1 }
        }
        Code::OutOfRange if message.contains("future revision") => {
            Error::FutureRevision { requested, current: requested.saturating_sub(1) }
        }
        Code::InvalidArgument => Error::Invalid(message.to_owned()),
        _ => Error::Unavailable(status.into()),
    }
}
