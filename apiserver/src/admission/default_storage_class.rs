//! DefaultStorageClass: a claim that names no class gets the cluster's default one.

use async_trait::async_trait;
use k8w_kinds::object::{get, text};

use super::{is, newest_default};
use crate::plugins::{Admission, AdmissionRequest, GroupResource, Operation};
use crate::status::Status;

const DEFAULT_ANNOTATIONS: &[&str] =
    &["storageclass.kubernetes.io/is-default-class", "storageclass.beta.kubernetes.io/is-default-class"];
/// How classes were named before there was a field.
const CLASS_ANNOTATION: &str = "volume.beta.kubernetes.io/storage-class";

pub struct DefaultStorageClass;

#[async_trait]
impl Admission for DefaultStorageClass {
    fn name(&self) -> &'static str {
        "DefaultStorageClass"
    }

    fn resources(&self) -> Option<&'static [GroupResource]> {
        Some(&[("", "persistentvolumeclaims")])
    }

    async fn admit(&self, request: &mut AdmissionRequest<'_>) -> Result<(), Status> {
        // The empty name is a name: it stands for volumes without a class.
        let named = get(request.object, &["spec", "storageClassName"]).is_some()
            || get(request.object, &["metadata", "annotations", CLASS_ANNOTATION]).is_some();
        if named || !is(request, Operation::Create) {
            return Ok(());
        }
        let (classes, _) = request.view.kind("storage.k8s.io", "storageclasses").list(None);
        let classes = classes.iter().map(|record| record.value());
        if let Some(class) = newest_default(classes, DEFAULT_ANNOTATIONS) {
            request.object["spec"]["storageClassName"] = text(&class, &["metadata", "name"]).into();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::testing::World;
    use super::*;

    async fn class_of(spec: Value) -> Value {
        let class = |name: &str, created: &str, default: &str| {
            json!({"apiVersion": "storage.k8s.io/v1", "kind": "StorageClass", "provisioner": "x", "metadata": {"name": name,
                "creationTimestamp": created, "annotations": {DEFAULT_ANNOTATIONS[0]: default}}})
        };
        let claim = json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "spec": spec,
            "metadata": {"name": "c", "namespace": "a"}});
        let world =
            World::new([class("old", "2024-01-01T00:00:00Z", "true"), class("new", "2024-01-02T00:00:00Z", "true")]);
        world.await.create(&DefaultStorageClass, claim).await.unwrap()["spec"]["storageClassName"].clone()
    }

    #[tokio::test]
    async fn the_newest_default_class_is_taken_where_none_is_named() {
        assert_eq!(class_of(json!({})).await, "new");
        assert_eq!(class_of(json!({"storageClassName": ""})).await, "");
        assert_eq!(class_of(json!({"storageClassName": "old"})).await, "old");
    }
}
