//! A certificate with its key.

use std::sync::Arc;

use k8w_kinds::credentials::{address, certificate_user};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::Error;

/// A certificate (PEM, its own first) and its key (PEM).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificate {
    pub certificate_pem: String,
    pub key_pem: String,
}

impl Certificate {
    /// Reads what [`Certificate::to_pem`] wrote; `what` names it in errors.
    pub(super) fn from_pem(text: &str, what: &str) -> Result<Certificate, Error> {
        let key_at = text.find("-----BEGIN PRIVATE KEY-----");
        let (certificate_pem, key_pem) = text.split_at(key_at.unwrap_or(text.len()));
        let read = Certificate { certificate_pem: certificate_pem.to_owned(), key_pem: key_pem.to_owned() };
        let not_a_certificate = || Error::NotACertificate { what: what.to_owned() };
        read.certified_key().map_err(|_| not_a_certificate())?;
        read.facts().map(|_| read.clone()).ok_or_else(not_a_certificate)
    }

    /// Both in one text, so that a file of it is replaced as a whole.
    pub(super) fn to_pem(&self) -> String {
        format!("{}{}", self.certificate_pem, self.key_pem)
    }

    pub(super) fn certified_key(&self) -> Result<Arc<CertifiedKey>, Error> {
        let not_a_certificate = |_| Error::NotACertificate { what: "a certificate of this node".to_owned() };
        let chain = CertificateDer::pem_slice_iter(self.certificate_pem.as_bytes()).collect::<Result<Vec<_>, _>>();
        let chain = chain.map_err(not_a_certificate)?;
        let key = PrivateKeyDer::from_pem_slice(self.key_pem.as_bytes()).map_err(not_a_certificate)?;
        let key = rustls::crypto::ring::sign::any_supported_type(&key).map_err(Error::Tls)?;
        let certified = CertifiedKey::new(chain, key);
        certified.keys_match().map_err(Error::Tls)?;
        Ok(Arc::new(certified))
    }

    /// What it says; `None` for what is no certificate.
    pub(super) fn facts(&self) -> Option<Facts> {
        let der = CertificateDer::from_pem_slice(self.certificate_pem.as_bytes()).ok()?;
        let (_, certificate) = X509Certificate::from_der(&der).ok()?;
        let (common_name, _) = certificate_user(&der)?;
        let mut names = Vec::new();
        if let Some(found) = certificate.subject_alternative_name().ok()? {
            names.extend(found.value.general_names.iter().filter_map(|name| match name {
                x509_parser::extensions::GeneralName::DNSName(name) => Some((*name).to_owned()),
                x509_parser::extensions::GeneralName::IPAddress(octets) => {
                    address(octets).map(|address| address.to_string())
                }
                _ => None,
            }));
        }
        names.sort();
        let validity = certificate.validity();
        Some(Facts {
            common_name,
            names,
            begins: validity.not_before.timestamp(),
            ends: validity.not_after.timestamp(),
        })
    }
}

/// What a certificate says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Facts {
    pub common_name: String,
    /// Names and addresses, sorted.
    pub names: Vec<String>,
    /// In seconds since 1970.
    pub begins: i64,
    pub ends: i64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_is_read_as_it_was_written() {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::new(vec!["b".into(), "192.0.2.1".into()]).unwrap();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(rcgen::DnType::CommonName, "system:node:b");
        let signed = params.self_signed(&key).unwrap();
        let written = Certificate { certificate_pem: signed.pem(), key_pem: key.serialize_pem() };
        let read = Certificate::from_pem(&written.to_pem(), "file").unwrap();
        assert_eq!(read, written);
        let facts = read.facts().unwrap();
        assert_eq!((facts.common_name.as_str(), facts.names), ("system:node:b", vec!["192.0.2.1".into(), "b".into()]));
        let other = Certificate { key_pem: rcgen::KeyPair::generate().unwrap().serialize_pem(), ..written };
        for wrong in ["", "nonsense", &other.to_pem()] {
            let error = Certificate::from_pem(wrong, "file").unwrap_err().to_string();
            assert_eq!(error, "file is no certificate with its key");
        }
    }
}
