//! How a machine becomes a node: with a bootstrap token, or with a kubeconfig, it asks for a certificate that says which node
//! it is ("TLS bootstrapping" in the Kubernetes documentation). What it got serves it at its next start.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Node;
use k8w_kinds::credentials::{NODE_PREFIX, certificate_pem};
use kube::api::Api;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use serde_json::{Value, json};

use super::certificate::Facts;
use super::cluster_info::{self, Token};
use super::kept::{self, Kept};
use super::request::{self, Purpose};
use super::{Certificate, Error, Identity, authorities};
use crate::node::is_ready;

/// What a machine joins with.
pub struct Join {
    /// `https://HOST:PORT`; what was joined before, or the kubeconfig, says it otherwise.
    pub server: Option<String>,
    pub credentials: Credentials,
    pub node_name: String,
    /// Where certificates are kept.
    pub dir: PathBuf,
}

/// What a machine that has no certificate proves itself with.
pub enum Credentials {
    /// It must have one.
    None,
    Token {
        token: BootstrapToken,
        ca: TrustedCa,
    },
    Kubeconfig(PathBuf),
}

/// Where a bootstrap token, `ID.SECRET`, is.
pub enum BootstrapToken {
    Here(String),
    File(PathBuf),
}

/// How the cluster's CA is known.
pub enum TrustedCa {
    /// The token's signature tells.
    Signed,
    /// So does it, and this is the hash of the CA's key, `sha256:HEX`.
    Hash(String),
    /// It is here.
    File(PathBuf),
}

/// A machine that has joined. Cheap to clone.
#[derive(Clone)]
pub struct Joined(Arc<Inner>);

struct Inner {
    node_name: String,
    server: http::Uri,
    ca_pem: String,
    kept: Kept,
    certificates: Mutex<Certificates>,
    /// Made anew with each certificate.
    client: Arc<ArcSwap<Client>>,
}

struct Certificates {
    client: Certificate,
    serving: Option<Certificate>,
}

/// Joins a cluster, unless this machine has.
///
/// # Errors
/// Everything that may be wrong with credentials, servers and names.
pub async fn join(join: &Join) -> Result<Joined, Error> {
    let kept = Kept::open(&join.dir)?;
    let given = join.server.as_deref().map(parse_server).transpose()?;
    let certificate = kept.certificate(kept::CLIENT)?.zip(kept.cluster()?);
    if let Some((certificate, (server, ca_pem))) = certificate {
        let wanted = format!("{NODE_PREFIX}{}", join.node_name);
        let facts = certificate.facts().filter(|facts| facts.ends > Timestamp::now().as_second());
        match facts {
            Some(facts) if facts.common_name == wanted => {
                let known = parse_url(&server)?;
                let server = given.unwrap_or_else(|| known.clone());
                let joined = Joined::new(join, server.clone(), ca_pem.clone(), kept.clone(), certificate).await?;
                // Where else the API server is said to be is kept once it has answered there.
                if server != known {
                    let own = Api::<Node>::all(joined.client()).get_opt(&join.node_name).await;
                    own.map_err(|error| joined.failed(error))?;
                    kept.keep_cluster(&server.to_string(), &ca_pem)?;
                }
                return Ok(joined);
            }
            Some(facts) => {
                let found = facts.common_name.trim_start_matches(NODE_PREFIX).to_owned();
                return Err(Error::OtherNode { found, wanted: join.node_name.clone() });
            }
            None if matches!(join.credentials, Credentials::None) => {
                return Err(Error::Expired { dir: join.dir.clone() });
            }
            None => {}
        }
    }
    let (config, ca_pem, whose) = credentials(&join.credentials, given).await?;
    let server = config.cluster_url.clone();
    let client = Client::try_from(config).map_err(|error| request::failed(&server, &whose, error))?;
    check_name(&client, &server, &whose, &join.node_name).await?;
    let certificate = request::certificate(&client, &server, &join.node_name, Purpose::Client, &[]).await?;
    kept.keep_cluster(&server.to_string(), &ca_pem)?;
    kept.keep_certificate(kept::CLIENT, &certificate)?;
    Joined::new(join, server, ca_pem, kept, certificate).await
}

/// Whether a folder holds the certificate of a machine that has joined a cluster.
pub fn has_joined(dir: &Path) -> bool {
    dir.join(kept::CLIENT).exists()
}

/// Which node this machine is, where it has joined a cluster.
///
/// # Errors
/// When what is kept cannot be read.
pub fn kept_name(dir: &Path) -> Result<Option<String>, Error> {
    let facts = Kept::open(dir)?.certificate(kept::CLIENT)?.and_then(|certificate| certificate.facts());
    Ok(facts.and_then(|facts| Some(facts.common_name.strip_prefix(NODE_PREFIX)?.to_owned())))
}

/// How to ask for a first certificate, the CA (PEM), and what that is called in errors.
async fn credentials(with: &Credentials, server: Option<http::Uri>) -> Result<(Config, String, String), Error> {
    match with {
        Credentials::None => Err(Error::NothingToJoinWith),
        Credentials::Token { token, ca } => {
            let server = server.ok_or(Error::NothingToJoinWith)?;
            let token = match token {
                BootstrapToken::Here(token) => token.clone(),
                BootstrapToken::File(path) => read(path)?.trim().to_owned(),
            };
            let parsed = Token::parse(&token)?;
            let ca_pem = match ca {
                TrustedCa::Signed => cluster_info::ca(&server, &parsed, None).await?,
                TrustedCa::Hash(hash) => cluster_info::ca(&server, &parsed, Some(hash)).await?,
                TrustedCa::File(path) => read_ca(path)?,
            };
            let whose = match ca {
                TrustedCa::File(path) => format!("the CA in {}", path.display()),
                _ => "the CA that it names".to_owned(),
            };
            let config = config(&server, &ca_pem, json!({ "token": token })).await?;
            Ok((config, ca_pem, whose))
        }
        Credentials::Kubeconfig(path) => {
            let wrong = |source| Error::Kubeconfig { path: path.clone(), source };
            let kubeconfig = Kubeconfig::read_from(path).map_err(wrong)?;
            let mut config =
                Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await.map_err(wrong)?;
            config.cluster_url = server.unwrap_or(config.cluster_url);
            let what = format!("the kubeconfig {}", path.display());
            let ca_pem: String = config.root_cert.iter().flatten().map(|der| certificate_pem(der)).collect();
            if ca_pem.is_empty() {
                return Err(Error::NoCa { what });
            }
            Ok((config, ca_pem, format!("the CA in {what}")))
        }
    }
}

/// As kubeadm does it: who joins under the name of a node that lives would take its place.
async fn check_name(client: &Client, server: &http::Uri, whose: &str, name: &str) -> Result<(), Error> {
    let node = Api::<Node>::all(client.clone()).get_opt(name).await;
    let node = node.map_err(|error| request::failed(server, whose, error))?;
    match is_ready(node.and_then(|node| node.status).as_ref()) {
        true => Err(Error::NameTaken { name: name.to_owned() }),
        false => Ok(()),
    }
}

impl Joined {
    async fn new(
        join: &Join,
        server: http::Uri,
        ca_pem: String,
        kept: Kept,
        certificate: Certificate,
    ) -> Result<Joined, Error> {
        let client = client(&server, &ca_pem, &certificate).await?;
        let serving = kept.certificate(kept::SERVING)?;
        Ok(Joined(Arc::new(Inner {
            node_name: join.node_name.clone(),
            server,
            ca_pem,
            kept,
            certificates: Mutex::new(Certificates { client: certificate, serving }),
            client: Arc::new(ArcSwap::from_pointee(client)),
        })))
    }

    /// A client of the API server that is this node, with whatever certificate it has at the moment.
    pub fn client(&self) -> Client {
        let current = self.0.client.clone();
        let service = tower::service_fn(move |request: http::Request<kube::client::Body>| {
            let client = Client::clone(&current.load());
            async move { client.send(request).await }
        });
        Client::new(service, "default")
    }

    /// A client that acts as this user, whom the node may impersonate.
    pub fn client_as(&self, user: &'static str) -> Client {
        let own = self.client();
        let service = tower::service_fn(move |mut request: http::Request<kube::client::Body>| {
            request.headers_mut().insert("impersonate-user", http::HeaderValue::from_static(user));
            let own = own.clone();
            async move { own.send(request).await }
        });
        Client::new(service, "default")
    }

    /// The API server's URL.
    pub fn server(&self) -> &http::Uri {
        &self.0.server
    }

    /// What a request to the API server failed of, in a sentence.
    pub fn failed(&self, error: kube::Error) -> Error {
        request::failed(&self.0.server, "the CA of the cluster that this node has joined", error)
    }

    /// What the node shows: it is asked under its own name, whatever its address.
    ///
    /// # Errors
    /// When the API server does not issue a certificate.
    pub async fn identity(&self) -> Result<Identity, Error> {
        let now = Timestamp::now().as_second();
        let is_good = |facts: Facts| facts.names == [self.0.node_name.as_str()] && facts.ends > now;
        let serving = match self.facts(Purpose::Serving).is_some_and(is_good) {
            true => self.certificates().serving.clone(),
            false => None,
        };
        let serving = match serving {
            Some(serving) => serving,
            None => self.renew(Purpose::Serving).await?,
        };
        let client = self.certificates().client.clone();
        Identity::new(&self.0.ca_pem, &client, &serving)
    }

    pub(super) fn facts(&self, purpose: Purpose) -> Option<Facts> {
        let certificates = self.certificates();
        match purpose {
            Purpose::Client => certificates.client.facts(),
            Purpose::Serving => certificates.serving.as_ref()?.facts(),
        }
    }

    /// Asks for a new certificate and keeps it.
    pub(super) async fn renew(&self, purpose: Purpose) -> Result<Certificate, Error> {
        let Inner { node_name, server, ca_pem, kept, .. } = &*self.0;
        let names = match purpose {
            Purpose::Client => Vec::new(),
            Purpose::Serving => vec![node_name.clone()],
        };
        let fresh = request::certificate(&self.client(), server, node_name, purpose, &names).await?;
        match purpose {
            Purpose::Client => {
                kept.keep_certificate(kept::CLIENT, &fresh)?;
                self.0.client.store(Arc::new(client(server, ca_pem, &fresh).await?));
                self.certificates().client = fresh.clone();
            }
            Purpose::Serving => {
                kept.keep_certificate(kept::SERVING, &fresh)?;
                self.certificates().serving = Some(fresh.clone());
            }
        }
        Ok(fresh)
    }

    fn certificates(&self) -> std::sync::MutexGuard<'_, Certificates> {
        self.0.certificates.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn client(server: &http::Uri, ca_pem: &str, certificate: &Certificate) -> Result<Client, Error> {
    let user = json!({
        "client-certificate-data": STANDARD.encode(&certificate.certificate_pem),
        "client-key-data": STANDARD.encode(&certificate.key_pem),
    });
    Client::try_from(config(server, ca_pem, user).await?).map_err(|error| request::failed(server, "", error))
}

/// Trusts `ca_pem` and is `user`, in the words of a kubeconfig.
async fn config(server: &http::Uri, ca_pem: &str, user: Value) -> Result<Config, Error> {
    let cluster = json!({ "server": server.to_string(), "certificate-authority-data": STANDARD.encode(ca_pem) });
    let kubeconfig = json!({
        "clusters": [{ "name": "k8w", "cluster": cluster }],
        "users": [{ "name": "k8w", "user": user }],
        "contexts": [{ "name": "k8w", "context": { "cluster": "k8w", "user": "k8w" } }],
        "current-context": "k8w",
    });
    let unusable = |message: String| Error::Api { server: server.to_string(), message };
    let kubeconfig: Kubeconfig = serde_json::from_value(kubeconfig).map_err(|error| unusable(error.to_string()))?;
    let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await;
    let mut config = config.map_err(|error| unusable(error.to_string()))?;
    config.headers.push((http::header::USER_AGENT, http::HeaderValue::from_static("kubelet")));
    Ok(config)
}

/// What was given by hand: a server, and nothing on it.
fn parse_server(text: &str) -> Result<http::Uri, Error> {
    let uri = parse_url(text)?;
    let has_user = uri.authority().is_some_and(|authority| authority.as_str().contains('@'));
    match uri.path() == "/" && uri.query().is_none() && !has_user && !text.contains('#') {
        true => Ok(uri),
        false => Err(Error::BadServer { server: text.to_owned() }),
    }
}

/// What was kept, which a kubeconfig may have said, perhaps with the path of a proxy.
fn parse_url(text: &str) -> Result<http::Uri, Error> {
    let bad = || Error::BadServer { server: text.to_owned() };
    let uri: http::Uri = text.parse().map_err(|_| bad())?;
    let is_server = uri.scheme_str() == Some("https") && uri.host().is_some_and(|host| !host.is_empty());
    if is_server { Ok(uri) } else { Err(bad()) }
}

fn read(path: &Path) -> Result<String, Error> {
    fs::read_to_string(path).map_err(|source| Error::Io { path: path.to_owned(), source })
}

fn read_ca(path: &Path) -> Result<String, Error> {
    let text = read(path)?;
    let has_none = authorities(&text).next().is_none();
    if has_none { Err(Error::NoCa { what: path.display().to_string() }) } else { Ok(text) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_are_urls() {
        assert_eq!(parse_server("https://192.0.2.1:6443").unwrap().host(), Some("192.0.2.1"));
        assert_eq!(parse_url("https://proxy/clusters/a").unwrap().path(), "/clusters/a");
        let with_more = ["https://a/b", "https://a/?b", "https://a/#b", "https://a@b"];
        for wrong in ["192.0.2.1:6443", "http://192.0.2.1", "https://", ""].into_iter().chain(with_more) {
            let error = parse_server(wrong).unwrap_err().to_string();
            assert_eq!(error, format!("{wrong:?} is no URL of an API server, such as https://192.0.2.1:6443"));
        }
    }

    #[test]
    fn a_ca_is_written_as_it_was_read() {
        let pem = rcgen::generate_simple_self_signed(vec!["a".into()]).unwrap().cert.pem();
        let der = authorities(&pem).next().unwrap();
        assert_eq!(authorities(&certificate_pem(&der)).next().unwrap(), der);
    }

    #[tokio::test]
    async fn a_server_that_does_not_answer_is_not_kept() {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let dir = tempfile::tempdir().unwrap();
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::new(vec![]).unwrap();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(rcgen::DnType::CommonName, "system:node:a");
        let pem = params.self_signed(&key).unwrap().pem();
        let kept = Kept::open(dir.path()).unwrap();
        let certificate = Certificate { certificate_pem: pem.clone(), key_pem: key.serialize_pem() };
        kept.keep_certificate(kept::CLIENT, &certificate).unwrap();
        kept.keep_cluster("https://192.0.2.1:6443/", &pem).unwrap();
        assert_eq!(kept_name(dir.path()).unwrap().as_deref(), Some("a"));

        // Nothing listens on a port that was given back.
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let join_at = async |server: Option<String>| {
            let (node_name, dir) = ("a".into(), dir.path().to_owned());
            join(&Join { server, credentials: Credentials::None, node_name, dir }).await
        };
        let refused = join_at(Some(format!("https://{free}"))).await.err();
        assert!(matches!(refused, Some(Error::Unreachable { .. })), "{refused:?}");
        assert_eq!(kept.cluster().unwrap().unwrap().0, "https://192.0.2.1:6443/");
        // Without a word of it, where it was is where it will be, whether or not it answers now.
        assert_eq!(join_at(None).await.unwrap().server().to_string(), "https://192.0.2.1:6443/");
        // What it joined with may be gone.
        let (node_name, dir) = ("a".into(), dir.path().to_owned());
        assert!(join(&Join { server: None, credentials: gone(), node_name, dir }).await.is_ok());
    }

    /// A token in a file that is not there.
    fn gone() -> Credentials {
        Credentials::Token { token: BootstrapToken::File("/nonexistent/token".into()), ca: TrustedCa::Signed }
    }

    #[tokio::test]
    async fn who_has_not_joined_needs_the_file_of_the_token() {
        let dir = tempfile::tempdir().unwrap();
        let (server, dir) = (Some("https://192.0.2.1:6443".into()), dir.path().to_owned());
        let without = join(&Join { server, credentials: gone(), node_name: "a".into(), dir }).await;
        assert!(matches!(without, Err(Error::Io { .. })));
    }

    #[tokio::test]
    async fn nothing_to_join_with_is_said() {
        let dir = tempfile::tempdir().unwrap();
        let nothing =
            Join { server: None, credentials: Credentials::None, node_name: "a".into(), dir: dir.path().to_owned() };
        assert!(matches!(join(&nothing).await, Err(Error::NothingToJoinWith)));
    }
}
