//! CertificateApproval: who decides about a certificate must be allowed to do so for its signer.

use std::sync::Arc;

use async_trait::async_trait;
use k8w_kinds::object::text;

use super::certificate_requester::{GROUP, PLURAL};
use super::{forbidden, may_use_signer};
use crate::plugins::{Admission, AdmissionRequest, Authorizer, GroupResource, Operation};
use crate::status::Status;

pub struct CertificateApproval {
    authorizers: Vec<Arc<dyn Authorizer>>,
}

impl CertificateApproval {
    pub fn new(authorizers: Vec<Arc<dyn Authorizer>>) -> Self {
        CertificateApproval { authorizers }
    }
}

#[async_trait]
impl Admission for CertificateApproval {
    fn name(&self) -> &'static str {
        "CertificateApproval"
    }

    fn resources(&self) -> Option<&'static [GroupResource]> {
        Some(&[(GROUP, PLURAL)])
    }

    async fn validate(&self, request: &AdmissionRequest<'_>) -> Result<(), Status> {
        let decides = request.operation == Operation::Update && request.subresource == "approval";
        let Some(old) = request.old.filter(|_| decides) else { return Ok(()) };
        let signer = text(old, &["spec", "signerName"]);
        if may_use_signer(&self.authorizers, request, "approve", signer) {
            return Ok(());
        }
        Err(forbidden(request, format!("user not permitted to approve requests with signerName {signer:?}")))
    }
}
