//! PersistentVolumeClaimResize: a claim grows only where its storage class lets it.

use async_trait::async_trait;
use k8w_kinds::core::pod::resources::parse;
use k8w_kinds::object::{get, text};
use serde_json::Value;

use super::{forbidden, is};
use crate::plugins::{Admission, AdmissionRequest, GroupResource, Operation};
use crate::status::Status;

pub struct PersistentVolumeClaimResize;

#[async_trait]
impl Admission for PersistentVolumeClaimResize {
    fn name(&self) -> &'static str {
        "PersistentVolumeClaimResize"
    }

    fn resources(&self) -> Option<&'static [GroupResource]> {
        Some(&[("", "persistentvolumeclaims")])
    }

    async fn validate(&self, request: &AdmissionRequest<'_>) -> Result<(), Status> {
        let updated = is(request, Operation::Update);
        let Some(old) = request.old.filter(|_| updated) else { return Ok(()) };
        let size = |claim: &Value| get(claim, &["spec", "resources", "requests", "storage"]).and_then(parse);
        if size(request.object) <= size(old) {
            return Ok(());
        }
        if text(old, &["status", "phase"]) != "Bound" {
            return Err(forbidden(request, "Only bound persistent volume claims can be expanded"));
        }
        let class = text(request.object, &["spec", "storageClassName"]);
        let class = request.view.get("storage.k8s.io", "storageclasses", "", class).map(|record| record.value());
        if class.is_some_and(|class| class["allowVolumeExpansion"] == true) {
            return Ok(());
        }
        let why = "only dynamically provisioned pvc can be resized and the storageclass that provisions the pvc must support \
                   resize";
        Err(forbidden(request, why))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::testing::World;
    use super::*;

    fn claim(size: &str, class: &str, phase: &str) -> Value {
        json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "c", "namespace": "a"},
            "spec": {"storageClassName": class, "resources": {"requests": {"storage": size}}}, "status": {"phase": phase}})
    }

    #[tokio::test]
    async fn a_class_says_whether_its_claims_grow() {
        let class = |name: &str, grows: bool| {
            json!({"apiVersion": "storage.k8s.io/v1", "kind": "StorageClass", "metadata": {"name": name}, "provisioner": "x",
                "allowVolumeExpansion": grows})
        };
        let world = World::new([class("grows", true), class("stays", false)]).await;
        let grow = async |class: &str, phase: &str, size: &str| {
            world
                .update(&PersistentVolumeClaimResize, claim("1Gi", class, phase), claim(size, class, phase))
                .await
                .is_ok()
        };
        assert!(grow("grows", "Bound", "2Gi").await);
        assert!(!grow("grows", "Pending", "2Gi").await);
        assert!(!grow("stays", "Bound", "2Gi").await);
        assert!(!grow("none", "Bound", "2Gi").await);
        assert!(grow("stays", "Bound", "1Gi").await);
    }
}
