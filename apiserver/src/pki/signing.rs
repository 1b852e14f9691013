//! Certificates for those who ask for them: what the signers of `kubernetes.io` issue
//! (`k8s.io/kubernetes/pkg/controller/certificates/authority`).
//!
//! Subject, names and key are exactly those of the request, usages those that were approved, and it is never a CA's.

use std::time::Duration;

use k8w_kinds::credentials::certificate_pem;
use rcgen::{
    CertificateSigningRequestParams, ExtendedKeyUsagePurpose as Extended, IsCa, KeyPair, KeyUsagePurpose as Basic,
    SigningKey,
};
use rustls::pki_types::CertificateSigningRequestDer;
use rustls::pki_types::pem::PemObject;
use x509_parser::asn1_rs::{Any, BitString, Sequence, ToDer};
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::identity::{self, since_epoch};
use super::store::issue;
use super::{LEAF_LIFETIME_DAYS, Pki, PkiError};

/// What such certificates are called in errors.
const NAME: &str = "that was asked for";
/// Which field of a certificate its subject is, from zero (RFC 5280, section 4.1).
const SUBJECT: usize = 5;
/// For clients whose clock is behind.
const BACKDATED: Duration = Duration::from_secs(5 * 60);
/// A certificate that lives shorter than this lives as long as was asked for; others end a little earlier.
const SHORT: Duration = Duration::from_secs(8 * 60 * 60);
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// Arcs of the OIDs of usages that have no name in the library: those of IPsec (RFC 4945), and Microsoft's and Netscape's
/// gated cryptography.
const OTHER: &[(&str, &[u64])] = &[
    ("ipsec end system", &[1, 3, 6, 1, 5, 5, 7, 3, 5]),
    ("ipsec tunnel", &[1, 3, 6, 1, 5, 5, 7, 3, 6]),
    ("ipsec user", &[1, 3, 6, 1, 5, 5, 7, 3, 7]),
    ("microsoft sgc", &[1, 3, 6, 1, 4, 1, 311, 10, 3, 3]),
    ("netscape sgc", &[2, 16, 840, 1, 113730, 4, 1]),
];

impl Pki {
    /// The certificate (PEM) that a request (PEM) asks for. It lives for `lifetime`, at most for [`LEAF_LIFETIME_DAYS`], which
    /// also is what it gets when nothing is said, and never longer than the CA.
    ///
    /// # Errors
    /// [`PkiError::Issue`] for a request that is none, whose key is not its requester's or of an unknown sort, and
    /// [`PkiError::SeveralAttributes`].
    pub fn sign(&self, request_pem: &str, usages: &[String], lifetime: Option<Duration>) -> Result<String, PkiError> {
        let unreadable = |_| issue(NAME)(rcgen::Error::CouldNotParseCertificationRequest);
        let request = CertificateSigningRequestDer::from_pem_slice(request_pem.as_bytes()).map_err(unreadable)?;
        if has_several_attributes(&request) {
            return Err(PkiError::SeveralAttributes);
        }
        let CertificateSigningRequestParams { mut params, public_key } =
            CertificateSigningRequestParams::from_der(&request).map_err(issue(NAME))?;
        let longest = DAY * LEAF_LIFETIME_DAYS as u32;
        let lifetime = lifetime.unwrap_or(longest).min(longest);
        let (now, backdated) = (since_epoch(), since_epoch().saturating_sub(BACKDATED));
        let end = if lifetime < SHORT { now + lifetime } else { backdated + lifetime };
        identity::set_validity_between(&mut params, backdated, end.min(identity::end(self.0.store.identity_of_ca())));
        params.key_usages = basic(usages);
        params.extended_key_usages = extended(usages);
        params.is_ca = IsCa::ExplicitNoCa;
        params.custom_extensions.clear();
        params.use_authority_key_identifier_extension = true;
        let certificate = params.signed_by(&public_key, self.0.store.issuer()).map_err(issue(NAME))?;
        let exact = as_requested(certificate.der(), &request, self.0.store.issuer().key());
        let exact = exact.ok_or(rcgen::Error::UnsupportedSignatureAlgorithm).map_err(issue(NAME))?;
        Ok(certificate_pem(&exact))
    }
}

/// Whether a part of the subject consists of several attributes, as in `O=a+CN=b`.
fn has_several_attributes(request: &[u8]) -> bool {
    let request = X509CertificationRequest::from_der(request);
    request.is_ok_and(|(_, request)| {
        request.certification_request_info.subject.iter().any(|part| part.iter().nth(1).is_some())
    })
}

/// The certificate with the request's own subject, signed anew where that is another: the library keeps one value of each
/// sort, and a user has many groups. `None` when it is for another key, such as one of another curve.
fn as_requested(certificate: &[u8], request: &[u8], ca: &KeyPair) -> Option<Vec<u8>> {
    let (_, request) = X509CertificationRequest::from_der(request).ok()?;
    let (_, made) = X509Certificate::from_der(certificate).ok()?;
    let asked = &request.certification_request_info;
    if made.public_key().raw != asked.subject_pki.raw {
        return None;
    }
    if made.subject().as_raw() == asked.subject.as_raw() {
        return Some(certificate.to_vec());
    }
    let mut fields = elements(made.tbs_certificate.as_ref())?;
    *fields.get_mut(SUBJECT)? = asked.subject.as_raw();
    let signed = Sequence::new(fields.concat().into()).to_der_vec().ok()?;
    let signature = BitString::new(0, &ca.sign(&signed).ok()?).to_der_vec().ok()?;
    let algorithm = *elements(certificate)?.get(1)?;
    Sequence::new([&signed, algorithm, &signature].concat().into()).to_der_vec().ok()
}

/// What a sequence (DER) consists of.
fn elements(sequence: &[u8]) -> Option<Vec<&[u8]>> {
    let (_, sequence) = Any::from_der(sequence).ok()?;
    let (mut rest, mut found) = (sequence.data, Vec::new());
    while !rest.is_empty() {
        let (after, _) = Any::from_der(rest).ok()?;
        let (element, after) = rest.split_at(rest.len() - after.len());
        found.push(element);
        rest = after;
    }
    Some(found)
}

fn basic(usages: &[String]) -> Vec<Basic> {
    let mut found = Vec::new();
    for usage in usages {
        let usage = match usage.as_str() {
            "signing" | "digital signature" => Basic::DigitalSignature,
            "content commitment" => Basic::ContentCommitment,
            "key encipherment" => Basic::KeyEncipherment,
            "key agreement" => Basic::KeyAgreement,
            "data encipherment" => Basic::DataEncipherment,
            "cert sign" => Basic::KeyCertSign,
            "crl sign" => Basic::CrlSign,
            "encipher only" => Basic::EncipherOnly,
            "decipher only" => Basic::DecipherOnly,
            _ => continue,
        };
        if !found.contains(&usage) {
            found.push(usage);
        }
    }
    found
}

fn extended(usages: &[String]) -> Vec<Extended> {
    let mut found = Vec::new();
    for usage in usages {
        let usage = match usage.as_str() {
            "any" => Extended::Any,
            "server auth" => Extended::ServerAuth,
            "client auth" => Extended::ClientAuth,
            "code signing" => Extended::CodeSigning,
            "email protection" | "s/mime" => Extended::EmailProtection,
            "timestamping" => Extended::TimeStamping,
            "ocsp signing" => Extended::OcspSigning,
            other => match OTHER.iter().find(|(name, _)| *name == other) {
                Some((_, arcs)) => Extended::Other(arcs.to_vec()),
                None => continue,
            },
        };
        if !found.contains(&usage) {
            found.push(usage);
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use rcgen::{BasicConstraints, CertificateParams, DnType, KeyPair};
    use rustls::pki_types::CertificateDer;

    use super::*;
    use crate::pki::ServerNames;

    /// A new one, whose folder nobody needs any more.
    fn pki() -> Pki {
        let dir = tempfile::tempdir().unwrap();
        let names = ServerNames {
            service_ip: "10.96.0.1".parse().unwrap(),
            cluster_domain: "cluster.local".into(),
            extra: Vec::new(),
        };
        Pki::open(dir.path(), &names).unwrap()
    }

    fn request(params: CertificateParams) -> String {
        params.serialize_request(&KeyPair::generate().unwrap()).unwrap().pem().unwrap()
    }

    fn sign(params: CertificateParams, usages: &[&str], lifetime: Option<Duration>) -> CertificateDer<'static> {
        let pki = pki();
        let usages: Vec<String> = usages.iter().map(|usage| (*usage).to_owned()).collect();
        let pem = pki.sign(&request(params), &usages, lifetime).unwrap();
        let certificate = CertificateDer::from_pem_slice(pem.as_bytes()).unwrap();
        let (_, ca) = X509Certificate::from_der(pki.ca()).unwrap();
        let (_, parsed) = X509Certificate::from_der(&certificate).unwrap();
        assert_eq!(parsed.issuer(), ca.subject());
        assert!(parsed.validity().not_after.timestamp() <= ca.validity().not_after.timestamp());
        certificate
    }

    #[test]
    fn subject_and_names_are_the_requests_and_the_rest_is_not() {
        let mut params = CertificateParams::new(vec!["node.example".into(), "192.0.2.1".into()]).unwrap();
        params.distinguished_name.push(DnType::CommonName, "system:node:a");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let certificate = sign(params, &["digital signature", "server auth", "ipsec tunnel", "s/mime"], None);
        let (_, parsed) = X509Certificate::from_der(&certificate).unwrap();
        assert!(!parsed.is_ca());
        assert_eq!(parsed.subject().iter_common_name().next().unwrap().as_str().unwrap(), "system:node:a");
        assert_eq!(parsed.subject_alternative_name().unwrap().unwrap().value.general_names.len(), 2);
        let usage = parsed.extended_key_usage().unwrap().unwrap().value;
        assert!(usage.server_auth && usage.email_protection && !usage.client_auth && usage.other.len() == 1);
        assert!(parsed.key_usage().unwrap().unwrap().value.digital_signature());
    }

    #[test]
    fn a_certificate_lives_as_long_as_was_asked_for_within_bounds() {
        let lives = |lifetime: Option<u64>| {
            let certificate = sign(CertificateParams::default(), &["client auth"], lifetime.map(Duration::from_secs));
            let (_, parsed) = X509Certificate::from_der(&certificate).unwrap();
            parsed.validity().not_after.timestamp() - parsed.validity().not_before.timestamp()
        };
        let year = 365 * 24 * 60 * 60;
        assert_eq!(lives(None), year);
        assert_eq!(lives(Some(2 * year as u64)), year);
        assert_eq!(lives(Some(600)), 600 + 300);
        assert_eq!(lives(Some(9 * 60 * 60)), 9 * 60 * 60);
    }

    /// Requests made with `openssl req -new`.
    #[test]
    fn what_was_asked_for_is_issued_or_nothing() {
        let pki = pki();
        let sign = |pem: &str| pki.sign(pem, &["client auth".to_owned()], None);
        let (_, ca) = X509Certificate::from_der(pki.ca()).unwrap();
        for (pem, subject, user) in [
            (include_str!("samples/several-values.csr"), "O=a, O=b, CN=x, CN=multi", ("multi", ["a", "b"].as_slice())),
            (include_str!("samples/rsa.csr"), "O=dev, CN=jane", ("jane", ["dev"].as_slice())),
        ] {
            let certificate = CertificateDer::from_pem_slice(sign(pem).unwrap().as_bytes()).unwrap();
            let (_, parsed) = X509Certificate::from_der(&certificate).unwrap();
            assert_eq!(parsed.subject().to_string(), subject);
            parsed.verify_signature(Some(ca.public_key())).unwrap();
            let (name, groups) = k8w_kinds::credentials::certificate_user(&certificate).unwrap();
            assert_eq!(name, user.0);
            assert_eq!(groups.strip_suffix(&["system:authenticated".to_owned()]).unwrap(), user.1);
        }
        let forged = include_str!("samples/several-values.csr").replace("MAWIx", "MAWMx");
        for wrong in
            [include_str!("samples/p521.csr"), include_str!("samples/p384-sha256.csr"), forged.as_str(), "nonsense"]
        {
            assert!(matches!(sign(wrong), Err(PkiError::Issue { .. })), "{wrong}");
        }
        let several = sign(include_str!("samples/several-attributes.csr"));
        assert!(matches!(several, Err(PkiError::SeveralAttributes)));
    }
}
