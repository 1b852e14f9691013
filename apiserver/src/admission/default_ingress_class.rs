//! DefaultIngressClass: an Ingress that names no class gets the cluster's default one.

use async_trait::async_trait;
use k8w_kinds::object::{get, text};

use super::{is, newest_default};
use crate::plugins::{Admission, AdmissionRequest, GroupResource, Operation};
use crate::status::Status;

const GROUP: &str = "networking.k8s.io";
const DEFAULT_ANNOTATION: &str = "ingressclass.kubernetes.io/is-default-class";
/// How classes were named before there was a field.
const CLASS_ANNOTATION: &str = "kubernetes.io/ingress.class";

pub struct DefaultIngressClass;

#[async_trait]
impl Admission for DefaultIngressClass {
    fn name(&self) -> &'static str {
        "DefaultIngressClass"
    }

    fn resources(&self) -> Option<&'static [GroupResource]> {
        Some(&[(GROUP, "ingresses")])
    }

    async fn admit(&self, request: &mut AdmissionRequest<'_>) -> Result<(), Status> {
        let named = get(request.object, &["spec", "ingressClassName"]).is_some()
            || get(request.object, &["metadata", "annotations", CLASS_ANNOTATION]).is_some();
        if named || !is(request, Operation::Create) {
            return Ok(());
        }
        let (classes, _) = request.view.kind(GROUP, "ingressclasses").list(None);
        let classes = classes.iter().map(|record| record.value());
        if let Some(class) = newest_default(classes, &[DEFAULT_ANNOTATION]) {
            request.object["spec"]["ingressClassName"] = text(&class, &["metadata", "name"]).into();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::testing::World;
    use super::*;

    fn class(name: &str, created: &str, default: &str) -> Value {
        json!({"apiVersion": "networking.k8s.io/v1", "kind": "IngressClass", "metadata": {"name": name,
            "creationTimestamp": created, "annotations": {DEFAULT_ANNOTATION: default}}})
    }

    async fn class_of(classes: Vec<Value>, annotations: Value, spec: Value) -> Value {
        let ingress = json!({"apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "spec": spec,
            "metadata": {"name": "i", "namespace": "a", "annotations": annotations}});
        World::new(classes).await.create(&DefaultIngressClass, ingress).await.unwrap()["spec"]["ingressClassName"]
            .clone()
    }

    #[tokio::test]
    async fn the_newest_default_class_is_taken() {
        let classes = || {
            vec![
                class("a", "2024-01-01T00:00:00Z", "true"),
                class("b", "2024-01-02T00:00:00Z", "true"),
                class("c", "2024-01-03T00:00:00Z", "false"),
            ]
        };
        assert_eq!(class_of(classes(), json!({}), json!({})).await, "b");
        assert_eq!(class_of(classes(), json!({}), json!({"ingressClassName": "c"})).await, "c");
        assert_eq!(class_of(classes(), json!({CLASS_ANNOTATION: "nginx"}), json!({})).await, Value::Null);
        assert_eq!(class_of(vec![], json!({}), json!({})).await, Value::Null);
    }
}
