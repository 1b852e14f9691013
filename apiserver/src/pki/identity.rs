//! One certificate with its key, and what it should say.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use k8w_kinds::credentials::{NODE_PREFIX, NODES, address};
use rcgen::{CertificateParams, DnType, ExtendedKeyUsagePurpose, KeyPair, KeyUsagePurpose};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use x509_parser::prelude::{FromDer, GeneralName, ParsedExtension, X509Certificate};

use super::{PkiError, RENEW_BEFORE_DAYS};

/// Certificates are valid from a little before they were made, for clients whose clock is behind.
const BACKDATED_SECONDS: u64 = 3600;
const DAY_SECONDS: u64 = 24 * 3600;

/// A certificate and its private key.
#[derive(Clone)]
pub struct Identity(Arc<Inner>);

struct Inner {
    certificate: CertificateDer<'static>,
    certificate_pem: String,
    key_pem: String,
}

impl Identity {
    pub(super) fn new(certificate_pem: String, key_pem: String) -> Identity {
        let certificate = CertificateDer::from_pem_slice(certificate_pem.as_bytes())
            .unwrap_or_else(|_| CertificateDer::from(Vec::new()));
        Identity(Arc::new(Inner { certificate, certificate_pem, key_pem }))
    }

    pub fn certificate(&self) -> &CertificateDer<'static> {
        &self.0.certificate
    }

    pub fn certificate_pem(&self) -> &str {
        &self.0.certificate_pem
    }

    pub fn key_pem(&self) -> &str {
        &self.0.key_pem
    }

    /// TLS that shows this certificate, speaks HTTP/2 and HTTP/1.1, and takes client certificates signed by one of
    /// `client_cas`.
    pub fn server_config<'a>(
        &self,
        client_cas: impl IntoIterator<Item = &'a CertificateDer<'static>>,
    ) -> Result<Arc<rustls::ServerConfig>, PkiError> {
        let build = || {
            let provider = Arc::new(rustls::crypto::ring::default_provider());
            let mut roots = rustls::RootCertStore::empty();
            for ca in client_cas {
                roots.add(ca.clone())?;
            }
            let clients = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone())
                .allow_unauthenticated()
                .build()
                .map_err(|error| rustls::Error::General(error.to_string()))?;
            let mut config = rustls::ServerConfig::builder_with_provider(provider)
                .with_safe_default_protocol_versions()?
                .with_client_cert_verifier(clients)
                .with_single_cert(vec![self.certificate().clone()], self.key()?)?;
            config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
            Ok(Arc::new(config))
        };
        build().map_err(self.tls_error())
    }

    /// TLS that shows this certificate to servers whose certificate `server_ca` signed.
    pub fn client_config(&self, server_ca: &CertificateDer<'static>) -> Result<rustls::ClientConfig, PkiError> {
        let build = || {
            let mut roots = rustls::RootCertStore::empty();
            roots.add(server_ca.clone())?;
            rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
                .with_safe_default_protocol_versions()?
                .with_root_certificates(roots)
                .with_client_auth_cert(vec![self.certificate().clone()], self.key()?)
        };
        build().map_err(self.tls_error())
    }

    fn key(&self) -> Result<PrivateKeyDer<'static>, rustls::Error> {
        PrivateKeyDer::from_pem_slice(self.key_pem().as_bytes())
            .map_err(|error| rustls::Error::General(error.to_string()))
    }

    fn tls_error(&self) -> impl FnOnce(rustls::Error) -> PkiError {
        let name = self.parse().map(|certificate| certificate.subject().to_string()).unwrap_or_default();
        move |source| PkiError::Tls { name, source }
    }

    fn parse(&self) -> Option<X509Certificate<'_>> {
        X509Certificate::from_der(self.certificate()).ok().map(|(_, certificate)| certificate)
    }

    /// Whether certificate and key can be read and belong together.
    pub(super) fn is_consistent(&self) -> bool {
        let key = KeyPair::from_pem(self.key_pem());
        match (self.parse(), key) {
            (Some(certificate), Ok(key)) => certificate.public_key().subject_public_key.data == key.public_key_raw(),
            _ => false,
        }
    }
}

/// What a certificate is for.
#[derive(Clone, Debug)]
pub struct Profile {
    common_name: String,
    organization: Option<String>,
    /// Host names and addresses.
    names: Vec<String>,
    server: bool,
    client: bool,
}

impl Profile {
    /// A server reached under `names`.
    pub fn server(common_name: &str, names: Vec<String>) -> Profile {
        Profile { common_name: common_name.into(), organization: None, names, server: true, client: false }
    }

    /// The user `user`, a member of `group`.
    pub fn client(user: &str, group: &str) -> Profile {
        Profile {
            common_name: user.into(),
            organization: Some(group.into()),
            names: vec![],
            server: false,
            client: true,
        }
    }

    /// The node `name`: both a client and a server reached under `names`.
    pub fn node(name: &str, names: Vec<String>) -> Profile {
        Profile { server: true, names, ..Profile::client(&format!("{NODE_PREFIX}{name}"), NODES) }
    }

    pub(super) fn params(&self, lifetime_days: u64) -> Result<CertificateParams, rcgen::Error> {
        let mut params = CertificateParams::new(self.names.clone())?;
        set_validity(&mut params, lifetime_days);
        params.distinguished_name = rcgen::DistinguishedName::new();
        if let Some(organization) = &self.organization {
            params.distinguished_name.push(DnType::OrganizationName, organization.as_str());
        }
        params.distinguished_name.push(DnType::CommonName, self.common_name.as_str());
        params.use_authority_key_identifier_extension = true;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        if self.server {
            params.extended_key_usages.push(ExtendedKeyUsagePurpose::ServerAuth);
        }
        if self.client {
            params.extended_key_usages.push(ExtendedKeyUsagePurpose::ClientAuth);
        }
        Ok(params)
    }

    /// Whether `identity` is still what this profile would be issued: same subject and names, signed by `ca`, not about to expire.
    pub(super) fn describes(&self, identity: &Identity, ca: &Identity) -> bool {
        let (Some(certificate), Some(ca)) = (identity.parse(), ca.parse()) else { return false };
        let subject = certificate.subject();
        let organizations: Vec<&str> = subject.iter_organization().filter_map(|o| o.as_str().ok()).collect();
        let common_names: Vec<&str> = subject.iter_common_name().filter_map(|cn| cn.as_str().ok()).collect();
        let usage = certificate
            .extended_key_usage()
            .ok()
            .flatten()
            .map(|usage| (usage.value.server_auth, usage.value.client_auth));
        common_names == [self.common_name.as_str()]
            && organizations == self.organization.iter().map(String::as_str).collect::<Vec<_>>()
            && subject_names(&certificate) == self.names.iter().cloned().collect()
            && usage == Some((self.server, self.client))
            && authority_key(&certificate).is_some_and(|key| Some(key) == subject_key(&ca))
            && lasts(&certificate)
    }
}

/// Whether `ca` is a CA of the name we give ours, and will last.
pub(super) fn is_usable_ca(ca: &Identity, name: &str) -> bool {
    ca.parse().is_some_and(|certificate| {
        let named = certificate.subject().iter_common_name().any(|cn| cn.as_str() == Ok(name));
        named && certificate.is_ca() && lasts(&certificate)
    })
}

/// Valid from now for `lifetime_days`.
pub(super) fn set_validity(params: &mut CertificateParams, lifetime_days: u64) {
    let now = since_epoch();
    let from = now.saturating_sub(Duration::from_secs(BACKDATED_SECONDS));
    set_validity_between(params, from, now + Duration::from_secs(lifetime_days * DAY_SECONDS));
}

/// Valid between two times since 1970.
pub(super) fn set_validity_between(params: &mut CertificateParams, from: Duration, until: Duration) {
    let epoch = rcgen::date_time_ymd(1970, 1, 1);
    params.not_before = epoch + from;
    params.not_after = epoch + until;
}

/// When a certificate ends, since 1970.
pub(super) fn end(identity: &Identity) -> Duration {
    let end = identity.parse().map_or(0, |certificate| certificate.validity().not_after.timestamp());
    Duration::from_secs(u64::try_from(end).unwrap_or(0))
}

pub(super) fn since_epoch() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// Whether the certificate is good now and for [`RENEW_BEFORE_DAYS`] more.
fn lasts(certificate: &X509Certificate<'_>) -> bool {
    let now = since_epoch().as_secs() as i64;
    let validity = certificate.validity();
    validity.not_before.timestamp() <= now
        && now + (RENEW_BEFORE_DAYS * DAY_SECONDS) as i64 <= validity.not_after.timestamp()
}

fn subject_names(certificate: &X509Certificate<'_>) -> BTreeSet<String> {
    let names = certificate.subject_alternative_name().ok().flatten();
    let name = |name: &GeneralName<'_>| match name {
        GeneralName::DNSName(name) => Some((*name).to_owned()),
        GeneralName::IPAddress(octets) => address(octets).map(|address| address.to_string()),
        _ => None,
    };
    names.map(|names| names.value.general_names.iter().filter_map(name).collect()).unwrap_or_default()
}

fn subject_key<'a>(certificate: &'a X509Certificate<'_>) -> Option<&'a [u8]> {
    certificate.iter_extensions().find_map(|extension| match extension.parsed_extension() {
        ParsedExtension::SubjectKeyIdentifier(id) => Some(id.0),
        _ => None,
    })
}

fn authority_key<'a>(certificate: &'a X509Certificate<'_>) -> Option<&'a [u8]> {
    certificate.iter_extensions().find_map(|extension| match extension.parsed_extension() {
        ParsedExtension::AuthorityKeyIdentifier(authority) => authority.key_identifier.as_ref().map(|id| id.0),
        _ => None,
    })
}
