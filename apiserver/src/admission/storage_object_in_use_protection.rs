//! StorageObjectInUseProtection: claims and volumes stay until nobody uses them, which their controllers find out.

use async_trait::async_trait;
use k8w_kinds::object::ensure;
use serde_json::json;

use super::{is, is_kind};
use crate::plugins::{Admission, AdmissionRequest, GroupResource, Operation};
use crate::status::Status;

/// The kinds, and the finalizer that each gets.
const PROTECTED: &[(&str, &str)] =
    &[("persistentvolumeclaims", "kubernetes.io/pvc-protection"), ("persistentvolumes", "kubernetes.io/pv-protection")];

pub struct StorageObjectInUseProtection;

#[async_trait]
impl Admission for StorageObjectInUseProtection {
    fn name(&self) -> &'static str {
        "StorageObjectInUseProtection"
    }

    fn resources(&self) -> Option<&'static [GroupResource]> {
        Some(&[("", "persistentvolumeclaims"), ("", "persistentvolumes")])
    }

    async fn admit(&self, request: &mut AdmissionRequest<'_>) -> Result<(), Status> {
        let Some((_, finalizer)) =
            PROTECTED.iter().find(|(plural, _)| is(request, Operation::Create) && is_kind(request, "", plural))
        else {
            return Ok(());
        };
        let Some(metadata) = ensure(request.object, &["metadata"]) else { return Ok(()) };
        let finalizers = metadata.entry("finalizers").or_insert_with(|| json!([]));
        if finalizers.is_null() {
            *finalizers = json!([]);
        }
        if let Some(finalizers) = finalizers.as_array_mut()
            && !finalizers.iter().any(|there| there == finalizer)
        {
            finalizers.push((*finalizer).into());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::World;
    use super::*;

    #[tokio::test]
    async fn claims_and_volumes_get_a_finalizer_once() {
        let world = World::new([]).await;
        let claim =
            json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "c", "namespace": "a"}});
        let claim = world.create(&StorageObjectInUseProtection, claim).await.unwrap();
        assert_eq!(claim["metadata"]["finalizers"], json!(["kubernetes.io/pvc-protection"]));
        assert_eq!(world.create(&StorageObjectInUseProtection, claim.clone()).await.unwrap(), claim);
        let volume = json!({"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": "v"}});
        let volume = world.create(&StorageObjectInUseProtection, volume).await.unwrap();
        assert_eq!(volume["metadata"]["finalizers"], json!(["kubernetes.io/pv-protection"]));
    }
}
