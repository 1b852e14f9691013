//! How a registry proves itself to the node, and the node to it.
//!
//! A certificate of the file's vouches for those that it has signed, and for itself, whatever else it may do: so does Go's
//! `crypto/x509`, by which the nodes of others read such files.

use std::sync::Arc;

use k8w_kinds::any_certificate::AnyCertificate;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{WebPkiServerVerifier, verify_server_name};
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};
use x509_parser::parse_x509_certificate;

/// What the file says of TLS with one host.
#[derive(Default)]
pub struct Settings {
    /// Who vouches for it, beside those whom the machine believes.
    pub authorities: Vec<CertificateDer<'static>>,
    /// The node's own certificate with what leads to its issuer, and its key.
    pub identity: Option<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)>,
    /// Whoever answers is believed.
    pub skip_verify: bool,
}

/// How to speak TLS with a host.
///
/// # Errors
/// When the node's key does not go with its certificate.
pub fn config(settings: Settings) -> Result<ClientConfig, Error> {
    let provider = Arc::new(ring::default_provider());
    let verifier: Arc<dyn ServerCertVerifier> = match settings.skip_verify {
        true => Arc::new(AnyCertificate::new(&provider)),
        false => Arc::new(Verifier::new(settings.authorities, &provider)),
    };
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    let config = config.dangerous().with_custom_certificate_verifier(verifier);
    match settings.identity {
        Some((chain, key)) => config.with_client_auth_cert(chain, key),
        None => Ok(config.with_no_client_auth()),
    }
}

/// Those who vouch for others; `None` when there are none.
fn believed(named: &[CertificateDer<'static>], provider: &Arc<CryptoProvider>) -> Option<Arc<WebPkiServerVerifier>> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    roots.add_parsable_certificates(named.iter().cloned());
    WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider.clone()).build().ok()
}

#[derive(Debug)]
struct Verifier {
    believed: Option<Arc<WebPkiServerVerifier>>,
    /// Those that the file names.
    named: Vec<CertificateDer<'static>>,
    /// What verifies signatures, whoever's certificate it is.
    any: AnyCertificate,
}

impl Verifier {
    fn new(named: Vec<CertificateDer<'static>>, provider: &Arc<CryptoProvider>) -> Verifier {
        Verifier { believed: believed(&named, provider), named, any: AnyCertificate::new(provider) }
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        if self.named.iter().any(|named| named.as_ref() == certificate.as_ref()) {
            verify_server_name(&ParsedCertificate::try_from(certificate)?, name)?;
            check_use(certificate, now)?;
            return Ok(ServerCertVerified::assertion());
        }
        match &self.believed {
            Some(believed) => believed.verify_server_cert(certificate, intermediates, name, ocsp_response, now),
            None => Err(CertificateError::UnknownIssuer.into()),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.any.verify_tls12_signature(message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.any.verify_tls13_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.any.supported_verify_schemes()
    }
}

/// Whether a certificate may be a server's, and now.
fn check_use(certificate: &CertificateDer<'_>, now: UnixTime) -> Result<(), Error> {
    let bad = || Error::from(CertificateError::BadEncoding);
    let (_, parsed) = parse_x509_certificate(certificate).map_err(|_| bad())?;
    let seconds = |time: x509_parser::time::ASN1Time| u64::try_from(time.timestamp()).unwrap_or(0);
    if now.as_secs() < seconds(parsed.validity().not_before) {
        return Err(CertificateError::NotValidYet.into());
    }
    if now.as_secs() > seconds(parsed.validity().not_after) {
        return Err(CertificateError::Expired.into());
    }
    let usage = parsed.extended_key_usage().map_err(|_| bad())?;
    match usage.is_none_or(|usage| usage.value.any || usage.value.server_auth) {
        true => Ok(()),
        false => Err(CertificateError::InvalidPurpose.into()),
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair};

    use super::*;

    fn params() -> CertificateParams {
        CertificateParams::new(["registry.test".to_owned()]).unwrap()
    }

    fn own(change: impl FnOnce(&mut CertificateParams)) -> CertificateDer<'static> {
        let mut params = params();
        change(&mut params);
        params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().clone()
    }

    /// What is said of a certificate that the file itself names.
    fn verified(certificate: &CertificateDer<'static>, name: &'static str) -> Result<(), Error> {
        let provider = Arc::new(ring::default_provider());
        let verifier = Verifier::new(vec![certificate.clone()], &provider);
        let name = ServerName::try_from(name).unwrap();
        verifier.verify_server_cert(certificate, &[], &name, &[], UnixTime::now()).map(drop)
    }

    #[test]
    fn a_certificate_that_is_named_is_believed_whoever_made_it() {
        let key = KeyPair::generate().unwrap();
        let (issuer_key, mut issuer) = (KeyPair::generate().unwrap(), CertificateParams::new(Vec::new()).unwrap());
        issuer.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let signed = params().signed_by(&key, &Issuer::new(issuer, issuer_key)).unwrap().der().clone();
        for (what, certificate) in [
            ("says nothing of authorities", own(|_| {})),
            ("is of none", own(|params| params.is_ca = IsCa::ExplicitNoCa)),
            ("is of one", own(|params| params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained))),
            ("is signed by another", signed),
        ] {
            assert_eq!(verified(&certificate, "registry.test"), Ok(()), "{what}");
            assert!(verified(&certificate, "other.test").is_err(), "{what}, and is another's");
        }
    }

    #[test]
    fn it_has_its_time_and_its_use() {
        let refused = |change: fn(&mut CertificateParams)| verified(&own(change), "registry.test").unwrap_err();
        let over = refused(|params| params.not_after = rcgen::date_time_ymd(2000, 1, 1));
        assert_eq!(over, Error::from(CertificateError::Expired));
        let early = refused(|params| params.not_before = rcgen::date_time_ymd(4000, 1, 1));
        assert_eq!(early, Error::from(CertificateError::NotValidYet));
        let client = refused(|params| params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth]);
        assert_eq!(client, Error::from(CertificateError::InvalidPurpose));
    }
}
