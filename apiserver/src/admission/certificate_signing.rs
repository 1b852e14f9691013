//! CertificateSigning: who issues a certificate must be allowed to do so for its signer.

use std::sync::Arc;

use async_trait::async_trait;
use k8w_kinds::object::{get, text};
use serde_json::Value;

use super::certificate_requester::{GROUP, PLURAL};
use super::{forbidden, may_use_signer};
use crate::plugins::{Admission, AdmissionRequest, Authorizer, GroupResource, Operation};
use crate::status::Status;

pub struct CertificateSigning {
    authorizers: Vec<Arc<dyn Authorizer>>,
}

impl CertificateSigning {
    pub fn new(authorizers: Vec<Arc<dyn Authorizer>>) -> Self {
        CertificateSigning { authorizers }
    }
}

#[async_trait]
impl Admission for CertificateSigning {
    fn name(&self) -> &'static str {
        "CertificateSigning"
    }

    fn resources(&self) -> Option<&'static [GroupResource]> {
        Some(&[(GROUP, PLURAL)])
    }

    async fn validate(&self, request: &AdmissionRequest<'_>) -> Result<(), Status> {
        let issues = request.operation == Operation::Update && request.subresource == "status";
        let Some(old) = request.old.filter(|_| issues) else { return Ok(()) };
        let part = |object, field| get(object, &["status", field]).cloned().unwrap_or(Value::Null);
        let same = |field| part(request.object, field) == part(old, field);
        let signer = text(old, &["spec", "signerName"]);
        if (same("certificate") && same("conditions")) || may_use_signer(&self.authorizers, request, "sign", signer) {
            return Ok(());
        }
        Err(forbidden(request, format!("user not permitted to sign requests with signerName {signer:?}")))
    }
}
