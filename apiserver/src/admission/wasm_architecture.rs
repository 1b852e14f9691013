//! Krustlet's way of asking for WebAssembly, `nodeSelector: kubernetes.io/arch: wasm32-wasi`, becomes ours: the runtime
//! class `wasmtime`. Nodes keep their true architecture.

use async_trait::async_trait;
use k8w_kinds::object::{get_mut, list, text};
use serde_json::Value;

use super::is;
use crate::plugins::{Admission, AdmissionRequest, GroupResource, Operation};
use crate::status::Status;

/// The runtime class that every cluster has.
const RUNTIME_CLASS: &str = "wasmtime";
const LABELS: &[&str] = &["kubernetes.io/arch", "beta.kubernetes.io/arch"];

pub struct WasmArchitecture;

#[async_trait]
impl Admission for WasmArchitecture {
    fn name(&self) -> &'static str {
        "WasmArchitecture"
    }

    fn resources(&self) -> Option<&'static [GroupResource]> {
        Some(&[("", "pods")])
    }

    async fn admit(&self, request: &mut AdmissionRequest<'_>) -> Result<(), Status> {
        if is(request, Operation::Create) {
            rewrite(request.object);
        }
        Ok(())
    }
}

fn rewrite(pod: &mut Value) {
    let Some(Value::Object(selector)) = get_mut(pod, &["spec", "nodeSelector"]) else { return };
    let before = selector.len();
    selector.retain(|label, value| !(LABELS.contains(&label.as_str()) && value.as_str().is_some_and(is_wasm)));
    if selector.len() == before {
        return;
    }
    let empty = selector.is_empty();
    if let Some(spec) = pod["spec"].as_object_mut() {
        if empty {
            spec.remove("nodeSelector");
        }
        if text(pod, &["spec", "runtimeClassName"]).is_empty() {
            pod["spec"]["runtimeClassName"] = RUNTIME_CLASS.into();
        }
    }
    // Krustlet's nodes were tainted with the same label; a toleration of it means nothing here.
    let tolerations = list(pod, &["spec", "tolerations"]);
    let kept: Vec<Value> = tolerations.iter().filter(|toleration| !tolerates_wasm(toleration)).cloned().collect();
    if kept.len() < tolerations.len() {
        match pod["spec"].as_object_mut() {
            Some(spec) if kept.is_empty() => drop(spec.remove("tolerations")),
            _ => pod["spec"]["tolerations"] = kept.into(),
        }
    }
}

/// `wasm32-wasi`, `wasm32-wagi`, `wasm32-wasip1`, `wasm`…
fn is_wasm(architecture: &str) -> bool {
    architecture == "wasm" || architecture.starts_with("wasm32") || architecture.starts_with("wasm64")
}

fn tolerates_wasm(toleration: &Value) -> bool {
    LABELS.contains(&text(toleration, &["key"])) && is_wasm(text(toleration, &["value"]))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn rewritten(spec: Value) -> Value {
        let mut pod = json!({"spec": spec});
        rewrite(&mut pod);
        pod["spec"].take()
    }

    /// The shape of Krustlet's hello-world manifest.
    #[test]
    fn krustlets_manifest_runs_on_wasmtime() {
        let tolerations = json!([
            {"key": "kubernetes.io/arch", "operator": "Equal", "value": "wasm32-wasi", "effect": "NoExecute"},
            {"key": "kubernetes.io/arch", "operator": "Equal", "value": "wasm32-wasi", "effect": "NoSchedule"},
        ]);
        let spec = json!({"nodeSelector": {"kubernetes.io/arch": "wasm32-wasi"}, "tolerations": tolerations});
        assert_eq!(rewritten(spec), json!({"runtimeClassName": "wasmtime"}));
    }

    #[test]
    fn everything_else_stays() {
        let spec = json!({"nodeSelector": {"kubernetes.io/arch": "wasm32-wagi", "zone": "a"},
            "runtimeClassName": "spin", "tolerations": [{"key": "other", "operator": "Exists"}]});
        assert_eq!(
            rewritten(spec),
            json!({"nodeSelector": {"zone": "a"}, "runtimeClassName": "spin",
                "tolerations": [{"key": "other", "operator": "Exists"}]})
        );
        let other = json!({"nodeSelector": {"kubernetes.io/arch": "amd64"}, "tolerations": []});
        assert_eq!(rewritten(other.clone()), other);
        assert_eq!(rewritten(json!({})), json!({}));
    }
}
