//! OwnerReferencesPermissionEnforcement: who makes the garbage collector delete an object must be allowed to delete it,
//! and who blocks an owner's deletion must be allowed to change the owner's finalizers.

use std::sync::Arc;

use async_trait::async_trait;
use k8w_kinds::object::{list, text};
use serde_json::Value;

use super::{forbidden, may};
use crate::plugins::{Admission, AdmissionRequest, Authorizer, Operation};
use crate::request_info::RequestInfo;
use crate::status::Status;

pub struct OwnerReferencesPermissionEnforcement {
    authorizers: Vec<Arc<dyn Authorizer>>,
}

impl OwnerReferencesPermissionEnforcement {
    pub fn new(authorizers: Vec<Arc<dyn Authorizer>>) -> Self {
        OwnerReferencesPermissionEnforcement { authorizers }
    }

    fn may_delete(&self, request: &AdmissionRequest<'_>) -> bool {
        let resource = request.resource;
        let info = RequestInfo {
            is_resource_request: true,
            group: resource.group.to_string(),
            version: resource.version.to_string(),
            resource: resource.plural.to_string(),
            subresource: request.subresource.to_owned(),
            namespace: request.namespace.to_owned(),
            name: request.name.to_owned(),
            ..RequestInfo::default()
        };
        may(&self.authorizers, request, "delete", &info)
    }

    /// Whether the finalizers of everything are the user's to change: then nothing need be known of the owners.
    fn may_block_anything(&self, request: &AdmissionRequest<'_>) -> bool {
        let any = || "*".to_owned();
        let info = RequestInfo { version: any(), resource: any(), name: any(), ..finalizers(&any()) };
        may(&self.authorizers, request, "update", &info)
    }

    fn check_block(&self, request: &AdmissionRequest<'_>, owner: &Value) -> Result<(), Status> {
        let (api_version, kind) = (text(owner, &["apiVersion"]), text(owner, &["kind"]));
        let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
        let kinds = request.kinds.served();
        let Some(resource) = kinds.by_kind(group, version, kind) else {
            let why = format!(
                "cannot set blockOwnerDeletion in this case because cannot find RESTMapping for APIVersion {api_version} Kind \
                 {kind}: no matches for kind {kind:?} in version {api_version:?}"
            );
            return Err(forbidden(request, why));
        };
        let info = RequestInfo {
            version: version.to_owned(),
            resource: resource.plural.to_string(),
            namespace: if resource.namespaced { request.namespace.to_owned() } else { String::new() },
            name: text(owner, &["name"]).to_owned(),
            ..finalizers(group)
        };
        if may(&self.authorizers, request, "update", &info) {
            return Ok(());
        }
        let why = "cannot set blockOwnerDeletion if an ownerReference refers to a resource you can't set finalizers on: , <nil>";
        Err(forbidden(request, why))
    }
}

/// The finalizers of something in an API group.
fn finalizers(group: &str) -> RequestInfo {
    RequestInfo {
        is_resource_request: true,
        group: group.to_owned(),
        subresource: "finalizers".to_owned(),
        ..RequestInfo::default()
    }
}

#[async_trait]
impl Admission for OwnerReferencesPermissionEnforcement {
    fn name(&self) -> &'static str {
        "OwnerReferencesPermissionEnforcement"
    }

    async fn validate(&self, request: &AdmissionRequest<'_>) -> Result<(), Status> {
        // A pod's status is written by those who may not delete the pod; no such write changes the owners.
        let is_pod_status = request.resource.is("", "pods") && request.subresource == "status";
        if !matches!(request.operation, Operation::Create | Operation::Update) || is_pod_status {
            return Ok(());
        }
        let owners = list(request.object, &["metadata", "ownerReferences"]);
        let before = request.old.map(|old| list(old, &["metadata", "ownerReferences"])).unwrap_or_default();
        if owners == before {
            return Ok(());
        }
        if request.operation == Operation::Update && !self.may_delete(request) {
            return Err(forbidden(request, "cannot set an ownerRef on a resource you can't delete: "));
        }
        let blocks = |owner: &&Value| owner["blockOwnerDeletion"] == true;
        let known: Vec<&str> = before.iter().filter(blocks).map(uid).collect();
        let mut new = owners.iter().filter(blocks).filter(|owner| !known.contains(&uid(owner))).peekable();
        if new.peek().is_none() || self.may_block_anything(request) {
            return Ok(());
        }
        new.try_for_each(|owner| self.check_block(request, owner))
    }
}

fn uid(owner: &Value) -> &str {
    text(owner, &["uid"])
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::testing::World;
    use super::*;
    use crate::identity::Attributes;
    use crate::plugins::Decision;

    /// Allows one verb on one resource.
    struct Only(&'static str, &'static str);

    impl Authorizer for Only {
        fn authorize(&self, attributes: &Attributes<'_>) -> Decision {
            let info = attributes.info;
            let what = if info.subresource.is_empty() {
                info.resource.clone()
            } else {
                format!("{}/{}", info.resource, info.subresource)
            };
            if attributes.verb == self.0 && what == self.1 {
                Decision::Allow
            } else {
                Decision::NoOpinion(String::new())
            }
        }
    }

    fn plugin(verb: &'static str, resource: &'static str) -> OwnerReferencesPermissionEnforcement {
        OwnerReferencesPermissionEnforcement::new(vec![Arc::new(Only(verb, resource))])
    }

    fn pod(block: bool) -> Value {
        json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "namespace": "a", "ownerReferences": [
            {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "r", "uid": "1", "blockOwnerDeletion": block}]}})
    }

    #[tokio::test]
    async fn blocking_needs_the_owners_finalizers() {
        let world = World::new([]).await;
        assert!(world.create(&plugin("update", "replicasets/finalizers"), pod(true)).await.is_ok());
        assert!(world.create(&plugin("update", "replicasets"), pod(true)).await.is_err());
        assert!(world.create(&plugin("none", ""), pod(false)).await.is_ok());
    }

    #[tokio::test]
    async fn changing_owners_needs_deletion() {
        let world = World::new([]).await;
        let orphan = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "namespace": "a"}});
        assert!(world.update(&plugin("delete", "pods"), orphan.clone(), pod(false)).await.is_ok());
        assert!(world.update(&plugin("none", ""), orphan, pod(false)).await.is_err());
        assert!(world.update(&plugin("none", ""), pod(true), pod(true)).await.is_ok());
    }

    #[tokio::test]
    async fn changing_owners_beside_a_status_needs_that_of_the_status() {
        let world = World::new([]).await;
        let job = |owners: Value| {
            json!({"apiVersion": "batch/v1", "kind": "Job",
                "metadata": {"name": "j", "namespace": "a", "ownerReferences": owners}})
        };
        let owned = job(json!([{"apiVersion": "batch/v1", "kind": "CronJob", "name": "c", "uid": "1"}]));
        let orphan = job(json!([]));
        for (allowed, may) in [("jobs/status", true), ("jobs", false)] {
            let updated = world.update_status(&plugin("delete", allowed), orphan.clone(), owned.clone()).await;
            assert_eq!(updated.is_ok(), may, "{allowed}");
        }
        assert!(world.update_status(&plugin("none", ""), pod(true), pod(false)).await.is_ok());
    }
}
