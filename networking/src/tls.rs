//! Certificates of Ingresses: which one a connection gets, by the name that its client asks for.
//!
//! They come from Secrets of type `kubernetes.io/tls` and are read when they are first asked for, so that building tables
//! costs no cryptography. What names hosts comes first; a section that names none is for every host (API reference,
//! IngressTLS: "default to the wildcard host setting for the loadbalancer controller"). A name without a certificate that
//! can be used gets one that this process made for itself; requests go by rules, whatever the certificate.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, OnceLock, Weak};

use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::api::networking::v1::Ingress;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use crate::network::Network;

/// Certificates by host name.
#[derive(Debug, Default)]
pub struct Certificates {
    hosts: HashMap<Box<str>, Arc<Certificate>>,
    /// By what stands behind `*.`.
    wildcards: HashMap<Box<str>, Arc<Certificate>>,
    /// Of hosts that have none of their own, and of clients that name no host.
    any_host: Option<Arc<Certificate>>,
    sections: Vec<Section>,
}

/// A section of an Ingress that names a Secret.
#[derive(Debug)]
struct Section {
    /// What is to be said of it without a certificate.
    missing: Fault,
    certificate: Option<Arc<Certificate>>,
}

/// Why a certificate of an Ingress is not used.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Fault {
    pub namespace: String,
    /// The Ingress.
    pub name: String,
    pub uid: String,
    /// One sentence that names the Secret.
    pub why: String,
}

impl Certificates {
    /// The certificates of Ingresses, the first that names a host first.
    pub fn build(ingresses: &[&Ingress], secrets: &[Arc<Secret>]) -> Self {
        let id = |namespace: &Option<String>, name: &str| (namespace.clone().unwrap_or_default(), name.to_owned());
        let certificates: HashMap<(String, String), Arc<Certificate>> = secrets
            .iter()
            .filter_map(|secret| {
                let id = id(&secret.metadata.namespace, secret.metadata.name.as_deref()?);
                Some((id, Arc::new(Certificate { secret: secret.clone(), key: OnceLock::new() })))
            })
            .collect();
        let (mut built, mut implied) = (Self::default(), Vec::new());
        for ingress in ingresses {
            let Some(spec) = &ingress.spec else { continue };
            for tls in spec.tls.iter().flatten() {
                let Some(secret) = &tls.secret_name else { continue };
                let certificate = certificates.get(&id(&ingress.metadata.namespace, secret));
                let missing = Fault::missing(ingress, secret);
                built.sections.push(Section { missing, certificate: certificate.cloned() });
                let Some(certificate) = certificate else { continue };
                let hosts = tls.hosts.iter().flatten();
                hosts.clone().for_each(|host| built.insert(host, certificate));
                if hosts.count() == 0 {
                    implied.push((spec, certificate));
                }
            }
        }
        // Of several sections without hosts each is for the hosts of its own rules first.
        for (spec, certificate) in implied {
            let hosts = spec.rules.iter().flatten().filter_map(|rule| rule.host.as_deref());
            hosts.filter(|host| !host.is_empty()).for_each(|host| built.insert(host, certificate));
            built.any_host.get_or_insert_with(|| certificate.clone());
        }
        built
    }

    fn insert(&mut self, host: &str, certificate: &Arc<Certificate>) {
        let host = host.to_ascii_lowercase();
        let (map, host) = match host.strip_prefix("*.") {
            Some(suffix) => (&mut self.wildcards, suffix),
            None => (&mut self.hosts, host.as_str()),
        };
        map.entry(host.into()).or_insert_with(|| certificate.clone());
    }

    /// The first that can be used of those that a host may have; empty is a client's that names no host.
    fn find(&self, host: &str) -> Option<Arc<CertifiedKey>> {
        let wildcard = || self.wildcards.get(host.split_once('.')?.1);
        let candidates = [self.hosts.get(host), wildcard(), self.any_host.as_ref()];
        candidates.into_iter().flatten().find_map(|certificate| certificate.key().ok())
    }

    /// What is wrong with certificates that Ingresses name. Reads all that were not asked for yet.
    pub fn faults(&self) -> impl Iterator<Item = Fault> {
        self.sections.iter().filter_map(|Section { missing, certificate }| match certificate {
            Some(certificate) => Some(Fault { why: certificate.key().err()?, ..missing.clone() }),
            None => Some(missing.clone()),
        })
    }
}

impl Fault {
    /// Says of a Secret that it is not among those that a node may read.
    fn missing(ingress: &Ingress, secret: &str) -> Self {
        let metadata = &ingress.metadata;
        let namespace = metadata.namespace.clone().unwrap_or_default();
        Self {
            why: format!("there is no secret {namespace}/{secret} of type kubernetes.io/tls"),
            name: metadata.name.clone().unwrap_or_default(),
            uid: metadata.uid.clone().unwrap_or_default(),
            namespace,
        }
    }
}

/// The certificate of one Secret.
struct Certificate {
    secret: Arc<Secret>,
    key: OnceLock<Result<Arc<CertifiedKey>, String>>,
}

impl Certificate {
    fn key(&self) -> Result<Arc<CertifiedKey>, String> {
        self.key.get_or_init(|| self.read()).clone()
    }

    fn read(&self) -> Result<Arc<CertifiedKey>, String> {
        let metadata = &self.secret.metadata;
        let name = format!(
            "{}/{}",
            metadata.namespace.as_deref().unwrap_or_default(),
            metadata.name.as_deref().unwrap_or_default()
        );
        let field = |field: &str| {
            let value = self.secret.data.as_ref().and_then(|data| data.get(field));
            value.map(|value| value.0.as_slice()).ok_or_else(|| format!("secret {name} has no {field}"))
        };
        let chain = CertificateDer::pem_slice_iter(field("tls.crt")?).collect::<Result<Vec<_>, _>>();
        let chain = chain.map_err(|error| format!("tls.crt of secret {name} is no PEM certificate: {error}"))?;
        if chain.is_empty() {
            return Err(format!("tls.crt of secret {name} has no PEM certificate"));
        }
        let key = PrivateKeyDer::from_pem_slice(field("tls.key")?);
        let key = key.map_err(|error| format!("tls.key of secret {name} is no PEM private key: {error}"))?;
        let certified = CertifiedKey::from_der(chain, key, &rustls::crypto::ring::default_provider());
        certified.map(Arc::new).map_err(|error| format!("secret {name} cannot be used for TLS: {error}"))
    }
}

impl fmt::Debug for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Never what is in it.
        f.debug_tuple("Certificate").field(&self.secret.metadata.name).finish()
    }
}

/// Gives each connection the certificate that the tables of the moment have for its name.
struct BySni {
    network: Weak<Network>,
    self_made: Arc<CertifiedKey>,
}

impl fmt::Debug for BySni {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("BySni")
    }
}

impl ResolvesServerCert for BySni {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let host = hello.server_name().unwrap_or_default().to_ascii_lowercase();
        let found = self.network.upgrade().and_then(|network| network.load_tables().certificates.find(&host));
        Some(found.unwrap_or_else(|| self.self_made.clone()))
    }
}

/// How the ingress speaks TLS: certificates by SNI, HTTP/2 and HTTP/1.1.
pub(crate) fn server_config(network: &Arc<Network>) -> Result<Arc<rustls::ServerConfig>, TlsError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let resolver = BySni { network: Arc::downgrade(network), self_made: self_made()? };
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(resolver));
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

/// The certificate for names that have none that can be used.
fn self_made() -> Result<Arc<CertifiedKey>, TlsError> {
    let made = rcgen::generate_simple_self_signed(["k8w-ingress.invalid".to_owned()])?;
    let key = PrivateKeyDer::Pkcs8(made.signing_key.serialize_der().into());
    let provider = rustls::crypto::ring::default_provider();
    Ok(Arc::new(CertifiedKey::from_der(vec![made.cert.der().clone()], key, &provider)?))
}

/// The ingress cannot speak TLS.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    #[error("cannot make a certificate")]
    SelfMade(#[from] rcgen::Error),
    #[error("cannot set up TLS")]
    Setup(#[from] rustls::Error),
}
