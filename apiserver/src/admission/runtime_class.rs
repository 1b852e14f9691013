//! RuntimeClass: a pod takes over what its runtime class says about overhead and nodes (KEP-688, KEP-894).

use async_trait::async_trait;
use k8w_kinds::object::{ensure, get, list, map, same, text};
use serde_json::Value;

use super::{forbidden, is};
use crate::plugins::{Admission, AdmissionRequest, GroupResource, Operation};
use crate::status::Status;

pub struct RuntimeClass;

#[async_trait]
impl Admission for RuntimeClass {
    fn name(&self) -> &'static str {
        "RuntimeClass"
    }

    fn resources(&self) -> Option<&'static [GroupResource]> {
        Some(&[("", "pods")])
    }

    async fn admit(&self, request: &mut AdmissionRequest<'_>) -> Result<(), Status> {
        if !is(request, Operation::Create) {
            return Ok(());
        }
        let Some(class) = find(request).await? else { return Ok(()) };
        if let Some(overhead) = get(&class, &["overhead", "podFixed"]).filter(|fixed| !same(Some(fixed), None)) {
            let own = get(request.object, &["spec", "overhead"]);
            if own.is_some_and(|own| !same(Some(own), None) && !same(Some(own), Some(overhead))) {
                let why = "pod rejected: Pod's Overhead doesn't match RuntimeClass's defined Overhead";
                return Err(forbidden(request, why));
            }
            request.object["spec"]["overhead"] = overhead.clone();
        }
        if let Err(conflict) = add_scheduling(request.object, &class) {
            return Err(forbidden(request, conflict));
        }
        Ok(())
    }

    async fn validate(&self, request: &AdmissionRequest<'_>) -> Result<(), Status> {
        if !is(request, Operation::Create) || same(get(request.object, &["spec", "overhead"]), None) {
            return Ok(());
        }
        let class = find(request).await?.unwrap_or_default();
        if same(get(&class, &["overhead", "podFixed"]), None) {
            let why = "pod rejected: Pod Overhead set without corresponding RuntimeClass defined Overhead";
            return Err(forbidden(request, why));
        }
        Ok(())
    }
}

async fn find(request: &AdmissionRequest<'_>) -> Result<Option<Value>, Status> {
    let name = text(request.object, &["spec", "runtimeClassName"]);
    if name.is_empty() {
        return Ok(None);
    }
    let look = || request.view.get("node.k8s.io", "runtimeclasses", "", name);
    let class = match look() {
        Some(class) => Some(class),
        None => request.view.catch_up().await.map(|_| look())?,
    };
    match class {
        Some(class) => Ok(Some(class.value())),
        None => Err(forbidden(request, format!("pod rejected: RuntimeClass {name:?} not found"))),
    }
}

/// Merges the class's node selector and tolerations into the pod's.
fn add_scheduling(pod: &mut Value, class: &Value) -> Result<(), String> {
    let selector = map(class, &["scheduling", "nodeSelector"]).filter(|selector| !selector.is_empty());
    if let Some(selector) = selector
        && let Some(own) = ensure(pod, &["spec", "nodeSelector"])
    {
        for (key, value) in selector {
            let (value, given) = (value.as_str().unwrap_or_default(), own.get(key).and_then(Value::as_str));
            if let Some(given) = given.filter(|given| *given != value) {
                return Err(format!(
                    "conflict: runtimeClass.scheduling.nodeSelector[{key}] = {value}; pod.spec.nodeSelector[{key}] = {given}"
                ));
            }
            own.insert(key.clone(), value.into());
        }
    }
    let wanted = list(class, &["scheduling", "tolerations"]);
    if !wanted.is_empty() {
        let mut tolerations = list(pod, &["spec", "tolerations"]).to_vec();
        let missing = wanted.iter().filter(|toleration| !tolerations.contains(toleration)).cloned();
        tolerations.extend(missing.collect::<Vec<_>>());
        pod["spec"]["tolerations"] = tolerations.into();
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::testing::World;
    use super::*;

    async fn world() -> World {
        let toleration = json!({"key": "wasm", "operator": "Exists"});
        World::new([json!({"apiVersion": "node.k8s.io/v1", "kind": "RuntimeClass", "metadata": {"name": "wasmtime"},
            "handler": "wasmtime", "overhead": {"podFixed": {"memory": "1Mi"}},
            "scheduling": {"nodeSelector": {"wasm": "yes"}, "tolerations": [toleration]}})])
        .await
    }

    fn pod(spec: Value) -> Value {
        json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "namespace": "a"}, "spec": spec})
    }

    #[tokio::test]
    async fn overhead_selector_and_tolerations_are_taken_over() {
        let spec = json!({"runtimeClassName": "wasmtime", "nodeSelector": {"zone": "a"}});
        let pod = world().await.create(&RuntimeClass, pod(spec)).await.unwrap();
        assert_eq!(pod["spec"]["overhead"], json!({"memory": "1Mi"}));
        assert_eq!(pod["spec"]["nodeSelector"], json!({"zone": "a", "wasm": "yes"}));
        assert_eq!(pod["spec"]["tolerations"], json!([{"key": "wasm", "operator": "Exists"}]));
    }

    #[tokio::test]
    async fn contradictions_are_refused() {
        for (spec, why) in [
            (json!({"runtimeClassName": "none"}), "pod rejected: RuntimeClass \"none\" not found"),
            (
                json!({"runtimeClassName": "wasmtime", "nodeSelector": {"wasm": "no"}}),
                "conflict: runtimeClass.scheduling.nodeSelector[wasm] = yes; pod.spec.nodeSelector[wasm] = no",
            ),
            (
                json!({"runtimeClassName": "wasmtime", "overhead": {"memory": "2Mi"}}),
                "pod rejected: Pod's Overhead doesn't match RuntimeClass's defined Overhead",
            ),
            (
                json!({"overhead": {"memory": "2Mi"}}),
                "pod rejected: Pod Overhead set without corresponding RuntimeClass defined Overhead",
            ),
        ] {
            let refused = world().await.create(&RuntimeClass, pod(spec)).await.unwrap_err();
            assert_eq!(refused.message, format!("pods \"p\" is forbidden: {why}"));
        }
    }
}
