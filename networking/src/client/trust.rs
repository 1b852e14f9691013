//! TLS to whom a request goes, and which certificates are believed there.

use std::io;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use k8w_kinds::any_certificate;
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use tokio_rustls::TlsConnector;

use super::Io;
use crate::stream::Stream;

/// How long a handshake may take.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// How a connection is encrypted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tls<'a> {
    /// The host that is asked for, whose name or address the certificate must have.
    pub name: &'a str,
    pub trust: Trust,
}

/// Which certificates are believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trust {
    /// What this machine's authorities have signed: foreign hosts'.
    Machine,
    /// What the cluster's own authority has signed: its API server's.
    Cluster,
    /// All, whatever their names.
    Anybody,
}

impl Trust {
    pub const ALL: [Trust; 3] = [Trust::Machine, Trust::Cluster, Trust::Anybody];

    /// The word that the pool's keys have.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Trust::Machine => "machine",
            Trust::Cluster => "cluster",
            Trust::Anybody => "anybody",
        }
    }
}

/// Whoever answered does not speak TLS; in the words of Go's clients, which users of Kubernetes know.
#[derive(Debug, thiserror::Error)]
#[error("http: server gave HTTP response to HTTPS client")]
pub(super) struct InClear;

/// How TLS is begun with whom.
#[derive(Default)]
pub(super) struct Connectors {
    machine: Option<TlsConnector>,
    cluster: OnceLock<TlsConnector>,
    anybody: Option<TlsConnector>,
}

impl Connectors {
    pub fn new(machine: Option<Arc<ClientConfig>>) -> Connectors {
        let anybody = any_certificate::client_config().ok().map(|config| TlsConnector::from(Arc::new(config)));
        Connectors { machine: machine.map(TlsConnector::from), anybody, ..Connectors::default() }
    }

    /// Says how the API server is known. What is said first counts.
    pub fn trust_cluster(&self, tls: Arc<ClientConfig>) {
        let _ = self.cluster.set(TlsConnector::from(tls));
    }

    /// Begins TLS on a connection, if it is said how.
    ///
    /// # Errors
    /// When the other side does not speak it (within it, [`InClear`]), or not in time, or is not believed.
    pub async fn begin(&self, tls: Option<Tls<'_>>, stream: Stream) -> io::Result<Box<dyn Io>> {
        let Some(tls) = tls else { return Ok(Box::new(stream)) };
        let connector = match tls.trust {
            Trust::Machine => self.machine.as_ref(),
            Trust::Cluster => self.cluster.get(),
            Trust::Anybody => self.anybody.as_ref(),
        };
        let connector = connector.ok_or_else(|| io::Error::other("TLS to other hosts is not configured"))?;
        let name = ServerName::try_from(tls.name.to_owned()).map_err(io::Error::other)?;
        let begun = tokio::time::timeout(HANDSHAKE_TIMEOUT, connector.connect(name, stream)).await?;
        Ok(Box::new(begun.map_err(explained)?))
    }
}

/// A handshake that met no TLS at the other side says so.
fn explained(error: io::Error) -> io::Error {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref());
    match inner {
        Some(rustls::Error::InvalidMessage(_)) => io::Error::new(io::ErrorKind::InvalidData, InClear),
        _ => error,
    }
}
