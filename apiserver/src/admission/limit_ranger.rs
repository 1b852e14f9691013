//! LimitRanger: pods get their namespace's default requests and limits, and keep within its bounds, as claims do.

use async_trait::async_trait;
use k8w_kinds::core::limit_range::enforce;
use k8w_kinds::object::get;
use serde_json::Value;

use super::{forbidden, is, is_kind};
use crate::plugins::{Admission, AdmissionRequest, GroupResource, Operation};
use crate::status::Status;

pub struct LimitRanger;

#[async_trait]
impl Admission for LimitRanger {
    fn name(&self) -> &'static str {
        "LimitRanger"
    }

    fn resources(&self) -> Option<&'static [GroupResource]> {
        Some(&[("", "pods"), ("", "persistentvolumeclaims")])
    }

    async fn admit(&self, request: &mut AdmissionRequest<'_>) -> Result<(), Status> {
        if is_pod(request) {
            for range in ranges(request) {
                enforce::default_pod(&range, request.object);
            }
        }
        Ok(())
    }

    async fn validate(&self, request: &AdmissionRequest<'_>) -> Result<(), Status> {
        let deleting = |old: &Value| get(old, &["metadata", "deletionTimestamp"]).is_some();
        if request.old.is_some_and(deleting) {
            return Ok(());
        }
        let written = matches!(request.operation, Operation::Create | Operation::Update);
        let check = if is_pod(request) {
            enforce::check_pod
        } else if written && request.subresource.is_empty() && is_kind(request, "", "persistentvolumeclaims") {
            enforce::check_claim
        } else {
            return Ok(());
        };
        for range in ranges(request) {
            match check(&range, request.object).as_slice() {
                [] => {}
                [one] => return Err(forbidden(request, one)),
                many => return Err(forbidden(request, format!("[{}]", many.join(", ")))),
            }
        }
        Ok(())
    }
}

/// A pod's requests and limits are decided when it is made, or resized.
fn is_pod(request: &AdmissionRequest<'_>) -> bool {
    let resized = request.operation == Operation::Update && request.subresource == "resize";
    is_kind(request, "", "pods") && (is(request, Operation::Create) || resized)
}

fn ranges(request: &AdmissionRequest<'_>) -> Vec<Value> {
    let (ranges, _) = request.view.kind("", "limitranges").list(Some(request.namespace));
    ranges.iter().map(|record| record.value()).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::testing::World;
    use super::*;

    fn range(name: &str, limits: Value) -> Value {
        json!({"apiVersion": "v1", "kind": "LimitRange", "metadata": {"name": name, "namespace": "a"},
            "spec": {"limits": [limits]}})
    }

    fn pod(resources: Value) -> Value {
        json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "namespace": "a"},
            "spec": {"containers": [{"name": "c", "resources": resources}]}})
    }

    #[tokio::test]
    async fn defaults_count_before_bounds() {
        let bounds =
            json!({"type": "Container", "default": {"cpu": "1"}, "defaultRequest": {"cpu": "1"}, "max": {"cpu": "1"}});
        let world = World::new([range("r", bounds)]).await;
        let pod_in = world.create(&LimitRanger, pod(json!({}))).await.unwrap();
        assert_eq!(
            pod_in["spec"]["containers"][0]["resources"],
            json!({"requests": {"cpu": "1"}, "limits": {"cpu": "1"}})
        );
        let refused = world.create(&LimitRanger, pod(json!({"limits": {"cpu": "2"}}))).await.unwrap_err();
        assert_eq!(refused.message, "pods \"p\" is forbidden: maximum cpu usage per Container is 1, but limit is 2");
        assert_eq!(refused.code, 403);
    }

    #[tokio::test]
    async fn several_faults_are_listed() {
        let world = World::new([range("r", json!({"type": "Container", "min": {"cpu": "1", "memory": "1Mi"}}))]).await;
        let refused = world.create(&LimitRanger, pod(json!({}))).await.unwrap_err();
        assert_eq!(
            refused.message,
            "pods \"p\" is forbidden: [minimum cpu usage per Container is 1.  No request is specified, minimum memory usage \
             per Container is 1Mi.  No request is specified]"
        );
    }

    #[tokio::test]
    async fn updates_of_pods_are_not_looked_at_and_claims_are() {
        let world = World::new([
            range("r", json!({"type": "Container", "min": {"cpu": "1"}})),
            range("s", json!({"type": "PersistentVolumeClaim", "max": {"storage": "1Gi"}})),
        ])
        .await;
        assert!(world.update(&LimitRanger, pod(json!({})), pod(json!({}))).await.is_ok());
        let claim = json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "c", "namespace": "a"},
            "spec": {"resources": {"requests": {"storage": "2Gi"}}}});
        assert_eq!(
            world.create(&LimitRanger, claim).await.unwrap_err().message,
            "persistentvolumeclaims \"c\" is forbidden: maximum storage usage per PersistentVolumeClaim is 1Gi, but request is \
             2Gi"
        );
    }
}
