//! TaintNodesByCondition: a new node takes no pods before it has said that it is ready.

use async_trait::async_trait;
use k8w_kinds::object::{list, text};
use serde_json::json;

use super::is;
use crate::plugins::{Admission, AdmissionRequest, GroupResource, Operation};
use crate::status::Status;

const NOT_READY: &str = "node.kubernetes.io/not-ready";

pub struct TaintNodesByCondition;

#[async_trait]
impl Admission for TaintNodesByCondition {
    fn name(&self) -> &'static str {
        "TaintNodesByCondition"
    }

    fn resources(&self) -> Option<&'static [GroupResource]> {
        Some(&[("", "nodes")])
    }

    async fn admit(&self, request: &mut AdmissionRequest<'_>) -> Result<(), Status> {
        if !is(request, Operation::Create) {
            return Ok(());
        }
        let mut taints = list(request.object, &["spec", "taints"]).to_vec();
        let there =
            |taint: &serde_json::Value| text(taint, &["key"]) == NOT_READY && text(taint, &["effect"]) == "NoSchedule";
        if !taints.iter().any(there) {
            taints.push(json!({"key": NOT_READY, "effect": "NoSchedule"}));
            if !request.object["spec"].is_object() {
                request.object["spec"] = json!({});
            }
            request.object["spec"]["taints"] = taints.into();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::World;
    use super::*;

    #[tokio::test]
    async fn a_new_node_is_tainted_once() {
        let world = World::new([]).await;
        let node = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n"}});
        let node = world.create(&TaintNodesByCondition, node).await.unwrap();
        assert_eq!(node["spec"]["taints"], json!([{"key": NOT_READY, "effect": "NoSchedule"}]));
        assert_eq!(world.create(&TaintNodesByCondition, node.clone()).await.unwrap(), node);
    }
}
