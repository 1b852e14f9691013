//! Authorities beside the cluster's own whose certificates prove users (kube-apiserver's `--client-ca-file`).

use k8w_kinds::credentials::certificate_pem;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::{self, PemObject};

/// None by default.
#[derive(Clone, Debug, Default)]
pub struct ClientCas {
    certificates: Vec<CertificateDer<'static>>,
}

/// Why a bundle holds no authorities.
#[derive(Debug, thiserror::Error)]
pub enum ClientCasError {
    #[error("a certificate in it is damaged")]
    Damaged(#[source] pem::Error),
    #[error("there is no certificate in it")]
    Empty,
}

impl ClientCas {
    /// Reads a PEM bundle.
    ///
    /// # Errors
    /// A bundle without certificates, or with something that looks like one and is none.
    pub fn parse(pem: &str) -> Result<ClientCas, ClientCasError> {
        let certificates = CertificateDer::pem_slice_iter(pem.as_bytes()).collect::<Result<Vec<_>, _>>();
        let certificates = certificates.map_err(ClientCasError::Damaged)?;
        if certificates.is_empty() {
            return Err(ClientCasError::Empty);
        }
        Ok(ClientCas { certificates })
    }

    /// The certificates alone, whatever else was in the bundle.
    pub fn pem(&self) -> String {
        self.certificates.iter().map(|certificate| certificate_pem(certificate)).collect()
    }

    pub fn certificates(&self) -> &[CertificateDer<'static>] {
        &self.certificates
    }
}
