//! PodTopologyLabels: a pod carries the zone and region of the node that it is bound to (KEP-4742).

use async_trait::async_trait;
use k8w_kinds::object::{ensure, get, text};

use crate::plugins::{Admission, AdmissionRequest, GroupResource, Operation};
use crate::status::Status;

const LABELS: &[&str] = &["topology.kubernetes.io/region", "topology.kubernetes.io/zone"];

pub struct PodTopologyLabels;

#[async_trait]
impl Admission for PodTopologyLabels {
    fn name(&self) -> &'static str {
        "PodTopologyLabels"
    }

    fn resources(&self) -> Option<&'static [GroupResource]> {
        Some(&[("", "pods")])
    }

    async fn admit(&self, request: &mut AdmissionRequest<'_>) -> Result<(), Status> {
        if request.operation != Operation::Create {
            return Ok(());
        }
        let node = match request.subresource {
            "" => text(request.object, &["spec", "nodeName"]),
            "binding" => text(request.object, &["target", "name"]),
            _ => "",
        };
        // A node that is not there is somebody else's to complain about.
        let Some(node) = request.view.get("", "nodes", "", node).map(|record| record.value()) else { return Ok(()) };
        let found = LABELS.iter().filter_map(|label| Some((label, get(&node, &["metadata", "labels", label])?)));
        for (label, value) in found {
            if let Some(labels) = ensure(request.object, &["metadata", "labels"]) {
                labels.insert((*label).to_owned(), value.clone());
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::testing::World;
    use super::*;

    #[tokio::test]
    async fn a_pod_takes_over_where_its_node_is() {
        let labels = json!({"topology.kubernetes.io/zone": "z", "other": "x"});
        let world =
            World::new([json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n", "labels": labels}})])
                .await;
        let on = async |node: &str| {
            let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "namespace": "a"},
                "spec": {"nodeName": node}});
            world.create(&PodTopologyLabels, pod).await.unwrap()["metadata"]["labels"].clone()
        };
        assert_eq!(on("n").await, json!({"topology.kubernetes.io/zone": "z"}));
        assert_eq!(on("").await, Value::Null);
        assert_eq!(on("none").await, Value::Null);
    }
}
