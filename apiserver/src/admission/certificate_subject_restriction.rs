//! CertificateSubjectRestriction: no client certificate makes its holder a member of `system:masters`.

use async_trait::async_trait;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use k8w_kinds::object::text;
use rustls_pki_types::CertificateSigningRequestDer;
use rustls_pki_types::pem::PemObject;
use x509_parser::prelude::{FromDer, X509CertificationRequest};

use super::certificate_requester::{GROUP, PLURAL};
use super::{forbidden, is};
use crate::pki::MASTERS_GROUP;
use crate::plugins::{Admission, AdmissionRequest, GroupResource, Operation};
use crate::status::Status;

/// The signer of certificates that the API server takes.
const SIGNER: &str = "kubernetes.io/kube-apiserver-client";

pub struct CertificateSubjectRestriction;

#[async_trait]
impl Admission for CertificateSubjectRestriction {
    fn name(&self) -> &'static str {
        "CertificateSubjectRestriction"
    }

    fn resources(&self) -> Option<&'static [GroupResource]> {
        Some(&[(GROUP, PLURAL)])
    }

    async fn validate(&self, request: &AdmissionRequest<'_>) -> Result<(), Status> {
        let asked = is(request, Operation::Create) && text(request.object, &["spec", "signerName"]) == SIGNER;
        if !asked {
            return Ok(());
        }
        let organizations = organizations(text(request.object, &["spec", "request"]))
            .ok_or_else(|| forbidden(request, "failed to parse CSR"))?;
        if organizations.iter().any(|organization| organization == MASTERS_GROUP) {
            let why = format!("use of {SIGNER} signer with {MASTERS_GROUP} group is not allowed");
            return Err(forbidden(request, why));
        }
        Ok(())
    }
}

/// The organizations in the subject of a request in PEM, in base64; `None` for what is no request.
fn organizations(request: &str) -> Option<Vec<String>> {
    let pem = STANDARD.decode(request).ok()?;
    let der = CertificateSigningRequestDer::from_pem_slice(&pem).ok()?;
    let (_, request) = X509CertificationRequest::from_der(&der).ok()?;
    let subject = &request.certification_request_info.subject;
    Some(subject.iter_organization().filter_map(|name| name.as_str().ok()).map(str::to_owned).collect())
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, DnType, KeyPair};
    use serde_json::{Value, json};

    use super::super::testing::World;
    use super::*;

    fn request(signer: &str, organization: &str) -> Value {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::OrganizationName, organization);
        let pem = params.serialize_request(&KeyPair::generate().unwrap()).unwrap().pem().unwrap();
        json!({"apiVersion": "certificates.k8s.io/v1", "kind": "CertificateSigningRequest", "metadata": {"name": "r"},
            "spec": {"signerName": signer, "request": STANDARD.encode(pem)}})
    }

    #[tokio::test]
    async fn nobody_becomes_a_master_by_certificate() {
        let world = World::new([]).await;
        let create = async |request| world.create(&CertificateSubjectRestriction, request).await;
        let refused = create(request(SIGNER, "system:masters")).await.unwrap_err();
        assert_eq!(
            refused.message,
            "certificatesigningrequests.certificates.k8s.io \"r\" is forbidden: use of kubernetes.io/kube-apiserver-client \
             signer with system:masters group is not allowed"
        );
        assert!(create(request(SIGNER, "dev")).await.is_ok());
        assert!(create(request("example.com/own", "system:masters")).await.is_ok());
    }
}
