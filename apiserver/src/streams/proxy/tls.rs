//! TLS to what a proxied request goes to, as Kubernetes speaks it there: encrypted, and whoever answers is believed.

use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use k8w_kinds::any_certificate;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// How long a handshake may take.
const HANDSHAKE_MS: u64 = 10_000;

/// Begins TLS on a connection.
///
/// # Errors
/// When the other side does not speak it, or not in time.
pub async fn connect<T: AsyncRead + AsyncWrite + Unpin>(io: T) -> io::Result<TlsStream<T>> {
    static CONFIG: LazyLock<Result<Arc<ClientConfig>, rustls::Error>> = LazyLock::new(|| config().map(Arc::new));
    let config = CONFIG.clone().map_err(io::Error::other)?;
    // Kubernetes dials addresses here, to which no name is said (SNI).
    let nobody = ServerName::from(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
    let handshake = TlsConnector::from(config).connect(nobody, io);
    let late = || io::Error::new(io::ErrorKind::TimedOut, "net/http: TLS handshake timeout");
    timeout(Duration::from_millis(HANDSHAKE_MS), handshake).await.map_err(|_| late())?
}

fn config() -> Result<ClientConfig, rustls::Error> {
    let mut config = any_certificate::client_config()?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}
