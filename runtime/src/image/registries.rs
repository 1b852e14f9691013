//! Where the images of a registry are asked for: at its mirrors, then itself; and how a node proves each of them, and itself.
//!
//! The file has the form that k3s and RKE2 gave it (`registries.yaml`, <https://docs.k3s.io/installation/private-registry>).

use std::collections::BTreeMap;
use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use oci_client::Reference;
use oci_client::secrets::RegistryAuth;
use reqwest::{Client, ClientBuilder, Url};
use rustls::ClientConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde::Deserialize;

use super::tls;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Longest silence of a registry.
const READ_TIMEOUT: Duration = Duration::from_secs(30);
/// Longest time for one answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(15 * 60);
/// Largest file of certificates or keys.
const MAX_PEM_BYTES: u64 = 1 << 20;
/// The registry of a mirror that has images of all the others.
const ANY: &str = "*";

/// The file, as it is written. What is not known is refused; what has no value says nothing.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RegistriesFile {
    /// By the registry in an image's name, or `*`.
    #[serde(default)]
    pub mirrors: Option<BTreeMap<String, Option<Mirror>>>,
    /// By the host, or host and port, that is spoken to.
    #[serde(default)]
    pub configs: Option<BTreeMap<String, Option<HostConfig>>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mirror {
    /// URLs, in the order in which they are asked. The registry itself comes last.
    #[serde(default)]
    pub endpoint: Option<Vec<String>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HostConfig {
    pub auth: Option<Auth>,
    pub tls: Option<Tls>,
}

/// Who the node is where a pod has no pull secret, and at mirrors, which pull secrets are not shown.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Auth {
    pub username: String,
    pub password: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tls {
    /// Who vouches for it, beside those whom the machine believes.
    pub ca_file: Option<PathBuf>,
    /// The node's own certificate, with its key.
    pub cert_file: Option<PathBuf>,
    pub key_file: Option<PathBuf>,
    #[serde(default)]
    pub insecure_skip_verify: bool,
}

/// Why the file is of no use. Each displays as one sentence.
#[derive(Debug, thiserror::Error)]
pub enum RegistriesError {
    #[error("the mirror \"{endpoint}\" of \"{registry}\" is no URL of a host with http:// or https://")]
    Endpoint { registry: String, endpoint: String },
    #[error("cannot read {}, of the registry \"{host}\": {source}", .path.display())]
    Read { host: String, path: PathBuf, source: std::io::Error },
    #[error("{}, of the registry \"{host}\", holds no {what} in PEM", .path.display())]
    Pem { host: String, path: PathBuf, what: &'static str },
    #[error("the registry \"{host}\" needs cert_file and key_file, or neither")]
    Half { host: String },
    #[error("TLS with the registry \"{host}\" cannot be set up: {source}")]
    Setup { host: String, source: rustls::Error },
}

/// What a node knows of registries.
#[derive(Clone, Debug, Default)]
pub struct Registries {
    mirrors: BTreeMap<String, Vec<Url>>,
    hosts: BTreeMap<String, Host>,
    /// Hosts, or hosts and ports, that are spoken to over plain HTTP.
    insecure: Vec<String>,
}

#[derive(Clone, Debug, Default)]
struct Host {
    auth: Option<(String, String)>,
    tls: Option<ClientConfig>,
}

/// One of the places where an image can be asked for.
#[derive(Debug)]
pub struct Endpoint {
    pub http: Client,
    /// URL up to and without the repository.
    pub base: Url,
    /// The registry that it has images of, if it is another.
    pub mirrors: Option<String>,
    pub credentials: RegistryAuth,
}

impl Registries {
    /// `insecure` hosts are spoken to over plain HTTP, as loopback addresses are of which the file says nothing else.
    ///
    /// # Errors
    /// What is wrong with the file, or with one that it names.
    pub fn new(file: RegistriesFile, insecure: Vec<String>) -> Result<Registries, RegistriesError> {
        let mut registries = Registries { insecure, ..Registries::default() };
        for (registry, mirror) in file.mirrors.unwrap_or_default() {
            let endpoints = mirror
                .and_then(|mirror| mirror.endpoint)
                .unwrap_or_default()
                .into_iter()
                .map(|endpoint| parse(&endpoint, &registry));
            let endpoints = endpoints.collect::<Result<_, _>>()?;
            registries.mirrors.insert(registry, endpoints);
        }
        for (name, config) in file.configs.unwrap_or_default() {
            let config = config.unwrap_or_default();
            let auth = config.auth.map(|auth| (auth.username, auth.password));
            let tls = config.tls.map(|tls| tls.read(&name)).transpose()?.map(tls::config);
            let tls = tls.transpose().map_err(|source| RegistriesError::Setup { host: name.clone(), source })?;
            registries.hosts.insert(name, Host { auth, tls });
        }
        Ok(registries)
    }

    /// Where an image is asked for, in this order. `credentials` are those of the pod.
    ///
    /// # Errors
    /// When TLS cannot be set up.
    pub fn endpoints(
        &self,
        reference: &Reference,
        credentials: &RegistryAuth,
    ) -> Result<Vec<Endpoint>, reqwest::Error> {
        let registry = reference.registry();
        let mirrors = self.mirrors.get(registry).or_else(|| self.mirrors.get(ANY));
        let mut endpoints = Vec::new();
        for url in mirrors.into_iter().flatten() {
            let host = self.host(url);
            // Only plain URLs are plain: nothing that is asked of the others may leave TLS.
            let http = client(host, url.scheme() == "http")?;
            let credentials = host.and_then(Host::credentials).unwrap_or(RegistryAuth::Anonymous);
            endpoints.push(Endpoint { http, base: url.clone(), mirrors: Some(registry.to_owned()), credentials });
        }
        let host = self.hosts.get(registry);
        let plain = self.is_plain(registry);
        let url = format!("{}://{}/v2/", if plain { "http" } else { "https" }, reference.resolve_registry());
        // A reference whose registry is no host has no place of its own.
        if let Ok(base) = Url::parse(&url) {
            let credentials = match (credentials, host.and_then(Host::credentials)) {
                (RegistryAuth::Anonymous, Some(of_node)) => of_node,
                (of_pod, _) => of_pod.clone(),
            };
            endpoints.push(Endpoint { http: client(host, plain)?, base, mirrors: None, credentials });
        }
        Ok(endpoints)
    }

    /// What is known of a mirror: its port may be left out where it is its scheme's own, in the URL and in the file.
    fn host(&self, mirror: &Url) -> Option<&Host> {
        let name = mirror.host_str().unwrap_or_default();
        let with_port = mirror.port_or_known_default().and_then(|port| self.hosts.get(&format!("{name}:{port}")));
        with_port.or_else(|| self.hosts.get(name).filter(|_| mirror.port().is_none()))
    }

    /// Whether a registry is spoken to without TLS.
    fn is_plain(&self, registry: &str) -> bool {
        let host = registry.rsplit_once(':').map_or(registry, |(host, _)| host);
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let loopback = host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback());
        let has_tls = self.hosts.get(registry).is_some_and(|host| host.tls.is_some());
        (loopback && !has_tls) || self.insecure.iter().any(|name| name == registry)
    }
}

impl Host {
    fn credentials(&self) -> Option<RegistryAuth> {
        self.auth.clone().map(|(username, password)| RegistryAuth::Basic(username, password))
    }
}

impl Tls {
    fn read(&self, host: &str) -> Result<tls::Settings, RegistriesError> {
        let authorities = match &self.ca_file {
            None => Vec::new(),
            Some(path) => certificates(&read(path, host)?).ok_or_else(|| not_pem(host, path, "certificate"))?,
        };
        let identity = match (&self.cert_file, &self.key_file) {
            (None, None) => None,
            (Some(certificate), Some(key_file)) => {
                let chain = certificates(&read(certificate, host)?);
                let chain = chain.ok_or_else(|| not_pem(host, certificate, "certificate with its key"))?;
                let key = PrivateKeyDer::from_pem_slice(&read(key_file, host)?);
                let key = key.map_err(|_| not_pem(host, certificate, "certificate with its key"))?;
                Some((chain, key))
            }
            _ => return Err(RegistriesError::Half { host: host.to_owned() }),
        };
        Ok(tls::Settings { authorities, identity, skip_verify: self.insecure_skip_verify })
    }
}

/// All certificates of a file, of which there must be some.
fn certificates(pem: &[u8]) -> Option<Vec<CertificateDer<'static>>> {
    let found: Vec<_> = CertificateDer::pem_slice_iter(pem).collect::<Result<_, _>>().ok()?;
    (!found.is_empty()).then_some(found)
}

fn not_pem(host: &str, path: &Path, what: &'static str) -> RegistriesError {
    RegistriesError::Pem { host: host.to_owned(), path: path.to_owned(), what }
}

fn read(path: &Path, host: &str) -> Result<Vec<u8>, RegistriesError> {
    let read = match fs::metadata(path) {
        Ok(found) if found.len() > MAX_PEM_BYTES => Err(std::io::ErrorKind::FileTooLarge.into()),
        Ok(_) => fs::read(path),
        Err(error) => Err(error),
    };
    read.map_err(|source| RegistriesError::Read { host: host.to_owned(), path: path.to_owned(), source })
}

/// A mirror's URL, up to where repositories begin.
fn parse(endpoint: &str, registry: &str) -> Result<Url, RegistriesError> {
    let refused = || RegistriesError::Endpoint { registry: registry.to_owned(), endpoint: endpoint.to_owned() };
    let mut url = Url::parse(endpoint).map_err(|_| refused())?;
    let is_bare = url.query().is_none() && url.fragment().is_none() && url.username().is_empty();
    if !matches!(url.scheme(), "http" | "https") || !url.has_host() || !is_bare {
        return Err(refused());
    }
    let path = url.path().trim_end_matches('/').trim_end_matches("/v2").to_owned();
    url.set_path(&format!("{path}/v2/"));
    Ok(url)
}

/// With `plain` over HTTP; otherwise nothing is sent but over TLS, wherever it is redirected to.
fn client(host: Option<&Host>, plain: bool) -> Result<Client, reqwest::Error> {
    let mut builder: ClientBuilder = Client::builder()
        .connect_timeout(CONNECT_TIMEOUT)
        .read_timeout(READ_TIMEOUT)
        .timeout(ANSWER_TIMEOUT)
        .user_agent(concat!("k8w/", env!("CARGO_PKG_VERSION")))
        .https_only(!plain);
    if let Some(tls) = host.and_then(|host| host.tls.clone()) {
        builder = builder.tls_backend_preconfigured(tls);
    }
    builder.build()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mirrors(of: &[(&str, &[&str])]) -> RegistriesFile {
        let mirror =
            |endpoints: &[&str]| Some(Mirror { endpoint: Some(endpoints.iter().map(|&url| url.to_owned()).collect()) });
        RegistriesFile {
            mirrors: Some(of.iter().map(|(registry, endpoints)| ((*registry).to_owned(), mirror(endpoints))).collect()),
            ..RegistriesFile::default()
        }
    }

    #[test]
    fn only_loopback_and_listed_registries_are_plain() {
        let mut registries = Registries { insecure: vec!["registry.test:5000".to_owned()], ..Registries::default() };
        for registry in ["localhost:5000", "127.0.0.1:80", "127.9.9.9", "[::1]:5000", "registry.test:5000"] {
            assert!(registries.is_plain(registry), "{registry}");
        }
        for registry in ["docker.io", "registry.test", "localhost.example.com", "10.0.0.1:5000"] {
            assert!(!registries.is_plain(registry), "{registry}");
        }
        let host = Host { tls: Some(tls::config(tls::Settings::default()).unwrap()), auth: None };
        registries.hosts.insert("localhost:5000".to_owned(), host);
        assert!(!registries.is_plain("localhost:5000"), "the file knows how it speaks TLS");
    }

    #[test]
    fn mirrors_are_asked_before_the_registry_itself() {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mut file = mirrors(&[
            ("docker.io", &["https://one.test", "http://two.test:5000/cache/"]),
            ("*", &["https://all.test/v2"]),
            ("direct.test", &[]),
            ("silent.test", &["https://own.test", "https://direct.test:443", "https://direct.test:444"]),
        ]);
        let auth = |name: &str| Some(Auth { username: name.to_owned(), password: "p".to_owned() });
        let hosts = ["two.test:5000", "direct.test", "own.test:443"].into_iter();
        file.configs =
            Some(hosts.map(|host| (host.to_owned(), Some(HostConfig { auth: auth(host), tls: None }))).collect());
        let registries = Registries::new(file, Vec::new()).unwrap();
        let asked = |image: &str, credentials: RegistryAuth| {
            let endpoints = registries.endpoints(&image.parse().unwrap(), &credentials).unwrap();
            let who = |endpoint: Endpoint| match endpoint.credentials {
                RegistryAuth::Basic(name, _) => format!("{} as {name}", endpoint.base),
                _ => endpoint.base.to_string(),
            };
            endpoints.into_iter().map(who).collect::<Vec<_>>()
        };
        let pod = || RegistryAuth::Basic("pod".to_owned(), "p".to_owned());
        assert_eq!(
            asked("hello", pod()),
            [
                "https://one.test/v2/",
                "http://two.test:5000/cache/v2/ as two.test:5000",
                "https://index.docker.io/v2/ as pod"
            ]
        );
        assert_eq!(
            asked("other.test/a/b:1", RegistryAuth::Anonymous),
            ["https://all.test/v2/", "https://other.test/v2/"]
        );
        assert_eq!(
            asked("silent.test/a", RegistryAuth::Anonymous),
            [
                "https://own.test/v2/ as own.test:443",
                "https://direct.test/v2/ as direct.test",
                "https://direct.test:444/v2/",
                "https://silent.test/v2/"
            ]
        );
        assert_eq!(asked("direct.test/a", RegistryAuth::Anonymous), ["https://direct.test/v2/ as direct.test"]);
        assert_eq!(asked("direct.test/a", pod()), ["https://direct.test/v2/ as pod"]);
    }

    #[test]
    fn what_is_wrong_is_named() {
        let refused = |file| Registries::new(file, Vec::new()).unwrap_err().to_string();
        for endpoint in ["mirror.test", "ftp://mirror.test", "https://user@mirror.test", "https://mirror.test/?a"] {
            assert_eq!(
                refused(mirrors(&[("docker.io", &[endpoint])])),
                format!("the mirror \"{endpoint}\" of \"docker.io\" is no URL of a host with http:// or https://")
            );
        }
        let folder = tempfile::tempdir().unwrap();
        let pem = folder.path().join("pem");
        fs::write(&pem, "no PEM").unwrap();
        let with = |tls| {
            let host = HostConfig { auth: None, tls: Some(tls) };
            let configs = Some(BTreeMap::from([("host.test".to_owned(), Some(host))]));
            RegistriesFile { configs, ..RegistriesFile::default() }
        };
        assert_eq!(
            refused(with(Tls { ca_file: Some(pem.clone()), ..Tls::default() })),
            format!("{}, of the registry \"host.test\", holds no certificate in PEM", pem.display())
        );
        assert_eq!(
            refused(with(Tls { cert_file: Some(pem), ..Tls::default() })),
            "the registry \"host.test\" needs cert_file and key_file, or neither"
        );
        let missing = folder.path().join("none");
        let error = refused(with(Tls { ca_file: Some(missing.clone()), ..Tls::default() }));
        assert!(error.starts_with(&format!("cannot read {}", missing.display())), "{error}");
    }
}
