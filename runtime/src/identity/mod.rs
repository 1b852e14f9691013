//! Who a node is: the certificates that it shows to the API server, to those who ask it, and to other nodes.
//!
//! * [`join`]: how a machine that has a bootstrap token, or a kubeconfig, becomes a node.
//! * `cluster_info`: how it knows the cluster's CA.
//! * `request`: how it asks for a certificate.
//! * `kept`: what stays on disk.
//! * [`renew`]: how certificates are replaced before they end.

mod certificate;
mod cluster_info;
pub mod join;
mod kept;
pub mod renew;
mod request;

use std::path::PathBuf;
use std::sync::Arc;

use arc_swap::ArcSwap;
use rustls::client::ResolvesClientCert;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::server::{ClientHello, ResolvesServerCert, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, RootCertStore, ServerConfig, SignatureScheme};

pub use certificate::Certificate;
pub use cluster_info::ca_hash;
pub use join::{BootstrapToken, Credentials, Join, Joined, TrustedCa};

/// Why a machine is no node of the cluster, in sentences for its user.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot read or write {}", path.display())]
    Io { path: PathBuf, source: std::io::Error },
    #[error("{what} is no certificate with its key")]
    NotACertificate { what: String },
    #[error("{what} holds no certificate")]
    NoCa { what: String },
    #[error("cannot use the certificates of this node for TLS")]
    Tls(#[source] rustls::Error),
    #[error("cannot make a key")]
    Key(#[source] rcgen::Error),
    #[error("a token looks like abcdef.0123456789abcdef; `k8w token create` makes one")]
    BadToken,
    #[error("a hash of a CA looks like sha256:HEX, where HEX are 64 hexadecimal digits")]
    BadHash,
    #[error("{server:?} is no URL of an API server, such as https://192.0.2.1:6443")]
    BadServer { server: String },
    #[error(
        "this machine has not joined a cluster yet: say where with --server and --token, or with --kubeconfig \
         (`k8w token create` prints the command)"
    )]
    NothingToJoinWith,
    #[error("cannot use the kubeconfig {}", path.display())]
    Kubeconfig { path: PathBuf, source: kube::config::KubeconfigError },
    #[error(
        "token id {id:?} is invalid for this cluster or it has expired. Use \"k8w token create\" to create a new valid token"
    )]
    UnknownToken { id: String },
    #[error("failed to verify JWS signature of received cluster info object, can't trust this API Server")]
    WrongSignature,
    #[error("none of the public keys {found:?} are pinned")]
    NotPinned { found: String },
    #[error(
        "{server} does not say which cluster it is: there is no ConfigMap cluster-info in kube-public that can be used"
    )]
    NoClusterInfo { server: String },
    #[error("the certificate of {server} is not signed by {ca}: this is another cluster, or somebody in between")]
    Untrusted { server: String, ca: String },
    #[error(
        "{server} does not accept these credentials: {message}. Use \"k8w token create\" to create a new valid token"
    )]
    Unauthorized { server: String, message: String },
    #[error(
        "a Node with name {name:?} and status \"Ready\" already exists in the cluster. You must delete the existing Node or \
         change the name of this new joining Node"
    )]
    NameTaken { name: String },
    #[error("the certificate of this node has expired; join again with a token, or remove {} and do", dir.display())]
    Expired { dir: PathBuf },
    #[error("the data directory belongs to node {found:?}; choose another one with --data-dir for node {wanted:?}")]
    OtherNode { found: String, wanted: String },
    #[error("the certificate request {name} was {what}: {message}")]
    Refused { name: String, what: &'static str, message: String },
    #[error("the certificate request {name} was not answered within {} minutes", request::PATIENCE.as_secs() / 60)]
    Unanswered { name: String },
    #[error("{server} cannot be reached: {message}")]
    Unreachable { server: String, message: String },
    #[error("{server} refuses: {message}")]
    Api { server: String, message: String },
}

/// A certificate that may be replaced while connections are made.
#[derive(Debug)]
struct Current(ArcSwap<CertifiedKey>);

impl ResolvesServerCert for Current {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.load_full())
    }
}

impl ResolvesClientCert for Current {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(self.0.load_full())
    }

    fn has_certs(&self) -> bool {
        true
    }
}

/// A node's certificates, and the CA that signs everybody's. Cheap to clone.
#[derive(Clone)]
pub struct Identity {
    roots: Arc<RootCertStore>,
    client: Arc<Current>,
    serving: Arc<Current>,
}

impl Identity {
    /// `client` is shown to those who are asked, `serving` to those who ask.
    ///
    /// # Errors
    /// What is no certificate.
    pub fn new(ca_pem: &str, client: &Certificate, serving: &Certificate) -> Result<Identity, Error> {
        let current = |certificate: &Certificate| Ok(Arc::new(Current(ArcSwap::new(certificate.certified_key()?))));
        Ok(Identity { roots: Arc::new(roots(ca_pem)?), client: current(client)?, serving: current(serving)? })
    }

    /// TLS for the node's own port: HTTP/2 and HTTP/1.1, client certificates optional but verified against the CA.
    ///
    /// # Errors
    /// When this build cannot do TLS.
    pub fn server_config(&self) -> Result<Arc<ServerConfig>, Error> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let clients = WebPkiClientVerifier::builder_with_provider(self.roots.clone(), provider.clone());
        let clients = clients.allow_unauthenticated().build();
        let clients = clients.map_err(|error| Error::Tls(rustls::Error::General(error.to_string())))?;
        let config = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let mut config =
            config.map_err(Error::Tls)?.with_client_cert_verifier(clients).with_cert_resolver(self.serving.clone());
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(Arc::new(config))
    }

    /// TLS of this node's guests to the API server: they know it by the CA, and show nothing of the node's.
    ///
    /// # Errors
    /// When this build cannot do TLS.
    pub fn guest_config(&self) -> Result<Arc<ClientConfig>, Error> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let config = config.map_err(Error::Tls)?.with_root_certificates(self.roots.clone());
        Ok(Arc::new(config.with_no_client_auth()))
    }

    /// TLS to other nodes and to the control plane, over HTTP/2.
    ///
    /// # Errors
    /// When this build cannot do TLS.
    pub fn client_config(&self) -> Result<Arc<ClientConfig>, Error> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let mut config = config
            .map_err(Error::Tls)?
            .with_root_certificates(self.roots.clone())
            .with_client_cert_resolver(self.client.clone());
        config.alpn_protocols = vec![b"h2".to_vec()];
        Ok(Arc::new(config))
    }
}

fn authorities(pem: &str) -> impl Iterator<Item = CertificateDer<'static>> {
    CertificateDer::pem_slice_iter(pem.as_bytes()).filter_map(Result::ok)
}

fn roots(ca_pem: &str) -> Result<RootCertStore, Error> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(authorities(ca_pem));
    if roots.is_empty() { Err(Error::NoCa { what: "the CA's file".to_owned() }) } else { Ok(roots) }
}
