//! The ingress's listeners.

use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use crate::accept;
use crate::network::Network;
use crate::stack::{self, Door};
use crate::tls::{self, TlsError};

/// Largest body of a request, unless the ingress is configured otherwise.
pub const MAX_REQUEST_BODY_BYTES: u64 = 1 << 30;
/// Likewise, how long a backend may take to begin its answer, from when the request's body last moved.
pub const RESPONSE_TIMEOUT: Duration = Duration::from_secs(60);

/// Bounds of the ingress.
#[derive(Clone, Debug)]
pub struct Config {
    /// Largest body of a request.
    pub max_request_body_bytes: u64,
    /// How long a backend may take to begin its answer, from when the request's body last moved.
    pub response_timeout: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self { max_request_body_bytes: MAX_REQUEST_BODY_BYTES, response_timeout: RESPONSE_TIMEOUT }
    }
}

/// Serves Ingresses on one listener for plain HTTP and one for HTTPS, until `stop`; then lets open requests end.
/// Errors: TLS cannot be set up.
pub async fn serve(
    network: Arc<Network>,
    config: Config,
    http: Option<TcpListener>,
    https: Option<TcpListener>,
    stop: CancellationToken,
) -> Result<(), TlsError> {
    let config = Arc::new(config);
    let tls = https.is_some().then(|| tls::server_config(&network)).transpose()?.map(TlsAcceptor::from);
    let listen = |listener: Option<TcpListener>, tls: Option<TlsAcceptor>| {
        let (network, config, stop) = (network.clone(), config.clone(), stop.clone());
        async move {
            let Some(listener) = listener else { return };
            let port = listener.local_addr().map_or(0, |address| address.port());
            let door = Door::Ingress { tls, port, config };
            accept::connections(listener, stop.clone(), |socket, peer| {
                stack::connection(network.clone(), door.clone(), socket, peer, stop.clone())
            })
            .await;
        }
    };
    tokio::join!(listen(http, None), listen(https, tls));
    Ok(())
}
