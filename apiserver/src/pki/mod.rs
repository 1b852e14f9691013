//! The cluster's keys and certificates: made once, kept under one folder, renewed when they must be.
//!
//! ```text
//! ca.crt, ca.key                  signs everything below; clients trust it
//! apiserver.crt, .key             what the API server shows to clients
//! apiserver-kubelet-client.*      what the API server shows to nodes
//! admin.crt, .key                 the user in the admin kubeconfig (group system:masters)
//! node-<name>.crt, .key           a node's identity: client of the API server, server on its own port
//! sa.key                          signs service-account tokens (ES256)
//! ```
//!
//! Names of files, users and groups are kubeadm's ("PKI certificates and requirements" in the Kubernetes documentation).
//! A certificate is made again when it is damaged, expires within [`RENEW_BEFORE_DAYS`], was signed by another CA, or
//! when its names changed; keys never leave the folder and are readable by their owner only.

mod client_cas;
mod identity;
mod kubeconfig;
mod signing;
mod store;
mod token_key;

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::pki_types::CertificateDer;

pub use client_cas::{ClientCas, ClientCasError};
pub use identity::{Identity, Profile};
pub use kubeconfig::{Credentials, kubeconfig};
pub use token_key::{TokenError, TokenKey};

/// How long a leaf certificate lives.
pub const LEAF_LIFETIME_DAYS: u64 = 365;
/// How long the CA lives.
pub const CA_LIFETIME_DAYS: u64 = 3650;
/// A certificate with less than this left is replaced at start.
pub const RENEW_BEFORE_DAYS: u64 = 30;

/// The user in the admin kubeconfig and its group, which RBAC never refuses.
pub const ADMIN_USER: &str = "kubernetes-admin";
pub const MASTERS_GROUP: &str = "system:masters";

/// Why the keys and certificates could not be made or read.
#[derive(Debug, thiserror::Error)]
pub enum PkiError {
    #[error("cannot read or write {path}")]
    Io { path: PathBuf, source: std::io::Error },
    #[error("cannot make the certificate {name}")]
    Issue { name: String, source: rcgen::Error },
    #[error("names of several attributes in a subject are not supported")]
    SeveralAttributes,
    #[error("the key in {path} is damaged; remove it to have a new one made")]
    DamagedKey { path: PathBuf },
    #[error("cannot use the certificate {name} for TLS")]
    Tls { name: String, source: rustls::Error },
}

/// Under which names and addresses clients reach the API server.
#[derive(Clone, Debug)]
pub struct ServerNames {
    /// The `kubernetes` Service's cluster IP: the first address of the service range.
    pub service_ip: IpAddr,
    /// `cluster.local` unless configured otherwise.
    pub cluster_domain: String,
    /// Host names and addresses beyond the Service's own and loopback.
    pub extra: Vec<String>,
}

impl ServerNames {
    fn all(&self) -> Vec<String> {
        let service = ["kubernetes", "kubernetes.default", "kubernetes.default.svc"].map(String::from);
        let mut names = Vec::from(service);
        names.push(format!("kubernetes.default.svc.{}", self.cluster_domain));
        names.extend(["localhost", "127.0.0.1", "::1"].map(String::from));
        names.push(self.service_ip.to_string());
        names.extend(self.extra.iter().cloned());
        names.sort();
        names.dedup();
        names
    }
}

/// The cluster's keys and certificates. Cheap to clone.
#[derive(Clone)]
pub struct Pki(Arc<Inner>);

struct Inner {
    store: store::Store,
    serving: Identity,
    server_names: Vec<String>,
    kubelet_client: Identity,
    admin: Identity,
    token_key: Arc<TokenKey>,
}

impl Pki {
    /// Whether a folder holds the keys of a cluster.
    pub fn is_in(dir: &Path) -> bool {
        store::holds_ca(dir)
    }

    /// Opens the folder `dir`, making what is missing, damaged, about to expire, or lacks one of `names`. Blocks on the disk.
    pub fn open(dir: &Path, names: &ServerNames) -> Result<Pki, PkiError> {
        let store = store::Store::open(dir)?;
        let server_names = names.all();
        let serving = store.identity("apiserver", &Profile::server("kube-apiserver", server_names.clone()))?;
        let kubelet_client = store
            .identity("apiserver-kubelet-client", &Profile::client("kube-apiserver-kubelet-client", MASTERS_GROUP))?;
        let admin = store.identity("admin", &Profile::client(ADMIN_USER, MASTERS_GROUP))?;
        let token_key = Arc::new(store.token_key()?);
        Ok(Pki(Arc::new(Inner { store, serving, server_names, kubelet_client, admin, token_key })))
    }

    /// The CA's certificate as PEM: what `kube-root-ca.crt` and kubeconfigs carry.
    pub fn ca_pem(&self) -> &str {
        self.0.store.ca_pem()
    }

    /// The CA's certificate as DER.
    pub fn ca(&self) -> &CertificateDer<'static> {
        self.0.store.ca()
    }

    /// What the API server shows to clients.
    pub fn serving(&self) -> &Identity {
        &self.0.serving
    }

    /// The names and addresses that clients know the API server by.
    pub fn server_names(&self) -> &[String] {
        &self.0.server_names
    }

    /// What the API server shows to nodes.
    pub fn kubelet_client(&self) -> &Identity {
        &self.0.kubelet_client
    }

    /// The cluster administrator.
    pub fn admin(&self) -> &Identity {
        &self.0.admin
    }

    /// The identity of the node `name`: user `system:node:<name>` to the API server, and the server certificate of the
    /// node's own port under `addresses`. Made at the first call, kept like the others. Blocks on the disk.
    pub fn node(&self, name: &str, addresses: &[String]) -> Result<Identity, PkiError> {
        let mut names = addresses.to_vec();
        names.push(name.to_owned());
        self.0.store.identity(&format!("node-{name}"), &Profile::node(name, names))
    }

    /// Signs and verifies service-account tokens.
    pub fn token_key(&self) -> &Arc<TokenKey> {
        &self.0.token_key
    }

    /// TLS for the API server's port: HTTP/2 and HTTP/1.1, client certificates optional but verified against the CA or one
    /// of `others`.
    pub fn server_config(&self, others: &ClientCas) -> Result<Arc<rustls::ServerConfig>, PkiError> {
        self.serving().server_config(std::iter::once(self.ca()).chain(others.certificates()))
    }

    /// The administrator's kubeconfig for the API server at `server` (`https://host:port`).
    pub fn admin_kubeconfig(&self, cluster: &str, server: &str) -> String {
        let admin = self.admin();
        let credentials =
            Credentials::Certificate { certificate_pem: admin.certificate_pem(), key_pem: admin.key_pem() };
        kubeconfig(cluster, server, self.ca_pem(), &credentials)
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn names(extra: &[&str]) -> ServerNames {
        ServerNames {
            service_ip: "10.96.0.1".parse().unwrap(),
            cluster_domain: "cluster.local".into(),
            extra: extra.iter().map(|s| s.to_string()).collect(),
        }
    }

    #[test]
    fn everything_is_reused_at_the_second_start() {
        let dir = tempfile::tempdir().unwrap();
        let first = Pki::open(dir.path(), &names(&["192.0.2.1"])).unwrap();
        let node = first.node("n1", &["192.0.2.1".into()]).unwrap();
        let second = Pki::open(dir.path(), &names(&["192.0.2.1"])).unwrap();
        assert_eq!(first.ca_pem(), second.ca_pem());
        assert_eq!(first.serving().certificate_pem(), second.serving().certificate_pem());
        assert_eq!(first.admin().certificate_pem(), second.admin().certificate_pem());
        assert_eq!(first.token_key().key_id(), second.token_key().key_id());
        assert_eq!(node.certificate_pem(), second.node("n1", &["192.0.2.1".into()]).unwrap().certificate_pem());
    }

    #[test]
    fn changed_names_renew_the_serving_certificate_alone() {
        let dir = tempfile::tempdir().unwrap();
        let first = Pki::open(dir.path(), &names(&[])).unwrap();
        let second = Pki::open(dir.path(), &names(&["k8w.example"])).unwrap();
        assert_eq!(first.ca_pem(), second.ca_pem());
        assert_eq!(first.admin().certificate_pem(), second.admin().certificate_pem());
        assert!(second.server_names().contains(&"k8w.example".to_owned()));
        assert_ne!(first.serving().certificate_pem(), second.serving().certificate_pem());
    }

    #[test]
    fn a_new_ca_renews_what_the_old_one_signed() {
        let dir = tempfile::tempdir().unwrap();
        let first = Pki::open(dir.path(), &names(&[])).unwrap();
        std::fs::remove_file(dir.path().join("ca.crt")).unwrap();
        std::fs::remove_file(dir.path().join("ca.key")).unwrap();
        let second = Pki::open(dir.path(), &names(&[])).unwrap();
        assert_ne!(first.ca_pem(), second.ca_pem());
        assert_ne!(first.admin().certificate_pem(), second.admin().certificate_pem());
    }

    #[test]
    fn a_damaged_certificate_is_made_again() {
        let dir = tempfile::tempdir().unwrap();
        let first = Pki::open(dir.path(), &names(&[])).unwrap();
        std::fs::write(dir.path().join("admin.crt"), "not PEM").unwrap();
        let second = Pki::open(dir.path(), &names(&[])).unwrap();
        assert_eq!(first.ca_pem(), second.ca_pem());
        assert!(second.admin().certificate_pem().starts_with("-----BEGIN CERTIFICATE-----"));
    }

    #[test]
    fn a_damaged_token_key_is_an_error_that_names_the_file() {
        let dir = tempfile::tempdir().unwrap();
        Pki::open(dir.path(), &names(&[])).unwrap();
        std::fs::write(dir.path().join("sa.key"), "not PEM").unwrap();
        let error = Pki::open(dir.path(), &names(&[])).err().unwrap().to_string();
        assert!(error.contains("sa.key"), "{error}");
    }

    #[test]
    fn only_the_owner_reads_the_files() {
        let dir = tempfile::tempdir().unwrap();
        let pki = dir.path().join("pki");
        Pki::open(&pki, &names(&[])).unwrap();
        assert_eq!(std::fs::metadata(&pki).unwrap().permissions().mode() & 0o777, 0o700);
        for entry in std::fs::read_dir(&pki).unwrap() {
            let entry = entry.unwrap();
            assert_eq!(entry.metadata().unwrap().permissions().mode() & 0o777, 0o600, "{:?}", entry.file_name());
        }
    }
}
