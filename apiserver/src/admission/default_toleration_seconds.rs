//! DefaultTolerationSeconds: a pod stays five minutes on a node that stops answering, unless it says otherwise.

use async_trait::async_trait;
use k8w_kinds::object::{list, text};
use serde_json::{Value, json};

use crate::plugins::{Admission, AdmissionRequest, GroupResource, Operation};
use crate::status::Status;

const STAY_SECONDS: i64 = 300;
const TAINTS: &[&str] = &["node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"];

pub struct DefaultTolerationSeconds;

#[async_trait]
impl Admission for DefaultTolerationSeconds {
    fn name(&self) -> &'static str {
        "DefaultTolerationSeconds"
    }

    fn resources(&self) -> Option<&'static [GroupResource]> {
        Some(&[("", "pods")])
    }

    async fn admit(&self, request: &mut AdmissionRequest<'_>) -> Result<(), Status> {
        let written = matches!(request.operation, Operation::Create | Operation::Update);
        if !request.subresource.is_empty() || !written {
            return Ok(());
        }
        let mut tolerations = list(request.object, &["spec", "tolerations"]).to_vec();
        let before = tolerations.len();
        for taint in TAINTS {
            if !tolerations.iter().any(|toleration| tolerates(toleration, taint)) {
                tolerations.push(json!({"key": taint, "operator": "Exists", "effect": "NoExecute",
                    "tolerationSeconds": STAY_SECONDS}));
            }
        }
        if tolerations.len() > before {
            request.object["spec"]["tolerations"] = tolerations.into();
        }
        Ok(())
    }
}

/// An empty key or effect stands for all of them.
fn tolerates(toleration: &Value, taint: &str) -> bool {
    let (key, effect) = (text(toleration, &["key"]), text(toleration, &["effect"]));
    (key.is_empty() || key == taint) && (effect.is_empty() || effect == "NoExecute")
}

#[cfg(test)]
mod tests {
    use super::super::testing::World;
    use super::*;

    async fn keys(tolerations: Value) -> Vec<String> {
        let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "namespace": "a"},
            "spec": {"tolerations": tolerations}});
        let pod = World::new([]).await.create(&DefaultTolerationSeconds, pod).await.unwrap();
        list(&pod, &["spec", "tolerations"])
            .iter()
            .map(|t| format!("{}={}", text(t, &["key"]), t["tolerationSeconds"]))
            .collect()
    }

    #[tokio::test]
    async fn missing_tolerations_are_added() {
        let both = ["node.kubernetes.io/not-ready=300", "node.kubernetes.io/unreachable=300"];
        assert_eq!(keys(json!([])).await, both);
        let own = json!([{"key": TAINTS[1], "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 5}]);
        assert_eq!(keys(own).await, ["node.kubernetes.io/unreachable=5", "node.kubernetes.io/not-ready=300"]);
        assert_eq!(keys(json!([{"operator": "Exists"}])).await, ["=null"]);
        let other = json!([{"key": TAINTS[0], "operator": "Exists", "effect": "NoSchedule"}]);
        assert_eq!(keys(other).await.len(), 3);
    }
}
