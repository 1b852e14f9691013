//! Pod: containers (or components) that run together on a node.
//!
//! Workloads carry the same spec in a template; [`template`] is what they share.

mod annotations;
mod columns;
mod container;
pub mod defaults;
mod env;
mod ephemeral_containers;
pub mod host_port;
mod label_keys;
pub mod mirror;
mod mount;
mod probe;
mod projection;
pub mod qos;
pub mod references;
mod resize;
pub mod resources;
mod restart;
mod scheduling;
mod security;
mod spec;
mod status;
pub mod template;
#[cfg(test)]
mod tests;
pub mod totals;
mod update;
mod volume;
mod warnings;
mod windows;

use jiff::Timestamp;
pub use scheduling::{node_selector, tolerations};
use serde_json::{Value, json};

use crate::field::{Field, FieldError};
use crate::kind::{self, KindDef, SelectableField, Shape, Strategy, Subresource};
use crate::object::{self, get, text};

pub fn definition() -> KindDef {
    KindDef::builtin("", "v1", "Pod", "pods", "io.k8s.api.core.v1.Pod")
        .short_names(&["po"])
        .categories(&["all"])
        .subresources(subresources())
        .columns(columns::columns())
        .row_conditions(columns::conditions)
        .selectable(selectable())
        .answers_deleted()
        .strategy(Pod)
}

fn subresources() -> Vec<Subresource> {
    const PROXY: &[&str] = &["create", "delete", "get", "patch", "update"];
    vec![
        Subresource::other("attach", ("", "v1", "PodAttachOptions"), &["create", "get"]),
        Subresource::other("binding", ("", "v1", "Binding"), &["create"]),
        Subresource::of_parent("ephemeralcontainers", &["get", "patch", "update"]),
        Subresource::other("eviction", ("policy", "v1", "Eviction"), &["create"]),
        Subresource::other("exec", ("", "v1", "PodExecOptions"), &["create", "get"]),
        Subresource::of_parent("log", &["get"]),
        Subresource::other("portforward", ("", "v1", "PodPortForwardOptions"), &["create", "get"]),
        Subresource::other("proxy", ("", "v1", "PodProxyOptions"), PROXY),
        Subresource::of_parent("resize", &["get", "patch", "update"]),
        Subresource::status(),
    ]
}

fn selectable() -> Vec<SelectableField> {
    vec![
        SelectableField::at("spec.nodeName"),
        SelectableField::at("spec.restartPolicy"),
        SelectableField::at("spec.schedulerName"),
        SelectableField::at("spec.serviceAccountName"),
        SelectableField::computed("spec.hostNetwork", |pod| {
            get(pod, &["spec", "hostNetwork"]).and_then(Value::as_bool).unwrap_or_default().to_string()
        }),
        SelectableField::at("status.phase"),
        SelectableField::at("status.podIP"),
        SelectableField::computed("status.podIPs", |pod| {
            let addresses = object::list(pod, &["status", "podIPs"]).iter().map(|ip| text(ip, &["ip"]));
            addresses.collect::<Vec<_>>().join(",")
        }),
        SelectableField::at("status.nominatedNodeName"),
    ]
}

struct Pod;

impl Strategy for Pod {
    fn shape(&self) -> Shape {
        Shape::SPEC_AND_STATUS
    }

    fn default(&self, pod: &mut Value) {
        defaults::pod(pod);
    }

    fn prepare_for_create(&self, pod: &mut Value) {
        kind::prepare_for_create(self.shape(), pod);
        if let Some(spec) = object::ensure(pod, &["spec"]) {
            defaults::service_account(spec);
        }
        label_keys::merge(pod);
        annotations::to_fields(pod);
        let mut status = json!({"phase": "Pending", "qosClass": qos::class(pod)});
        if !object::list(pod, &["spec", "schedulingGates"]).is_empty() {
            status["conditions"] = json!([{
                "type": "PodScheduled",
                "status": "False",
                "reason": "SchedulingGated",
                "message": "Scheduling is blocked due to non-empty scheduling gates",
            }]);
        }
        if let Some(pod) = pod.as_object_mut() {
            pod.insert("status".to_owned(), status);
        }
    }

    /// As in Kubernetes, a pod's status writer does not write its owners.
    fn prepare_for_status_update(&self, new: &mut Value, old: &Value, _now: Timestamp) {
        kind::prepare_for_status_update(new, old);
        if let (Some(metadata), Some(kept)) = (new.get_mut("metadata"), old.get("metadata")) {
            object::keep(metadata, kept, "ownerReferences");
        }
        status::prepare(new, old);
    }

    fn prepare_for_subresource_update(&self, subresource: &str, new: &mut Value, old: &Value, _now: Timestamp) {
        match subresource {
            "ephemeralcontainers" => ephemeral_containers::prepare(new, old),
            _ => resize::prepare(new, old),
        }
        kind::prepare_for_update(self.shape(), new, old);
    }

    fn validate_subresource_update(&self, subresource: &str, new: &Value, old: &Value) -> Vec<FieldError> {
        match subresource {
            "ephemeralcontainers" => ephemeral_containers::validate(new, old),
            _ => resize::validate(new, old),
        }
    }

    fn validate(&self, pod: &Value) -> Vec<FieldError> {
        let mut errors = Vec::new();
        spec::validate_pod(pod, &mut errors);
        let root = Field::root(pod);
        let (meta, spec) = (root.get("metadata"), root.get("spec"));
        let (ephemeral, node) = (spec.get("ephemeralContainers"), spec.get("nodeName"));
        if !ephemeral.is_empty() {
            errors.push(ephemeral.forbidden("cannot be set on create"));
        }
        if !node.is_empty() && !spec.get("schedulingGates").is_empty() {
            errors.push(node.forbidden("cannot be set until all schedulingGates have been cleared"));
        }
        annotations::validate_match(&meta.get("annotations"), &spec, &mut errors);
        errors
    }

    fn validate_update(&self, new: &Value, old: &Value) -> Vec<FieldError> {
        update::validate(new, old)
    }

    fn validate_status_update(&self, new: &Value, old: &Value) -> Vec<FieldError> {
        status::validate(new, old)
    }

    /// The spec's grace unless one is asked for; pods that no node has, or that have ended, go at once.
    fn graceful_delete(&self, pod: &Value, requested: Option<i64>) -> Option<i64> {
        let ended = matches!(text(pod, &["status", "phase"]), "Failed" | "Succeeded");
        if ended || text(pod, &["spec", "nodeName"]).is_empty() {
            return None;
        }
        let from_spec = get(pod, &["spec", "terminationGracePeriodSeconds"]).and_then(Value::as_i64);
        match requested.or(from_spec).unwrap_or_default() {
            0 => None,
            ..0 => Some(1),
            seconds => Some(seconds),
        }
    }

    fn warnings(&self, pod: &Value) -> Vec<String> {
        warnings::pod(pod)
    }

    /// Pods are written often, and seldom by people.
    fn update_warnings(&self, _new: &Value, _old: &Value) -> Vec<String> {
        Vec::new()
    }
}
