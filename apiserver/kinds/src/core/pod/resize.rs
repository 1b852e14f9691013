//! `pods/resize`: other requests and limits for containers of a pod that runs (KEP-1287).

use serde_json::Value;

use super::{mirror, qos, spec, totals};
use crate::field::{Field, FieldError, FieldPath};
use crate::object::{self, ensure, get, list, map, text};

const CONTAINERS: [&str; 2] = ["containers", "initContainers"];
/// What of a container may be written.
const FIELDS: [&str; 2] = ["resources", "resizePolicy"];

/// The old pod with what the new one says of its containers' resources.
pub fn prepare(new: &mut Value, old: &Value) {
    let wanted = new.take();
    new.clone_from(old);
    for name in CONTAINERS {
        let (from, to) = (list(&wanted, &["spec", name]), list(old, &["spec", name]).len());
        if from.len() != to {
            // Validation names what is wrong.
            if let Some(spec) = ensure(new, &["spec"]) {
                spec.insert(name.to_owned(), from.to_vec().into());
            }
            continue;
        }
        for (container, wanted) in object::list_mut(new, &["spec", name]).iter_mut().zip(from) {
            FIELDS.iter().for_each(|field| object::keep(container, wanted, field));
            object::keep(container, wanted, "name");
        }
    }
}

pub fn validate(new: &Value, old: &Value) -> Vec<FieldError> {
    let refused = |detail: &str| vec![FieldError::forbidden(&FieldPath::ROOT, detail)];
    if totals::has_pod_level_resources(old) {
        return refused("pods with pod-level resources cannot be resized");
    }
    if mirror::mirrored(old).is_some() {
        return refused("static pods cannot be resized");
    }
    if text(old, &["spec", "os", "name"]) == "windows" {
        return refused("windows pods cannot be resized");
    }
    let mut errors = Vec::new();
    let root = Field::root(new);
    let spec = root.get("spec");
    spec::validate(&spec, spec::Owner::Pod, &mut errors);
    if qos::class(new) != qos::class(old) {
        let detail = "Pod QOS Class may not change as a result of resizing";
        errors.push(FieldError::invalid(&spec.path, qos::class(new), detail));
    }
    let mut running = list(old, &["status", "containerStatuses"])
        .iter()
        .filter(|status| get(status, &["state", "running"]).is_some());
    if running.next().is_some_and(|status| get(status, &["resources"]).is_none()) {
        errors.push(spec.forbidden("Pod running on node without support for resize"));
    }
    for name in CONTAINERS {
        let (containers, before) = (spec.get(name), list(old, &["spec", name]));
        if containers.len() != before.len() {
            errors.push(containers.forbidden("containers may not be added or removed"));
            continue;
        }
        for (container, before) in containers.items().zip(before) {
            self::container(&container, before, name == "initContainers", &mut errors);
        }
    }
    errors
}

fn container(new: &Field, old: &Value, init: bool, errors: &mut Vec<FieldError>) {
    if new.get("name").text() != text(old, &["name"]) {
        errors.push(new.get("name").forbidden("containers may not be renamed or reordered"));
        return;
    }
    let resources = new.get("resources");
    if object::same(resources.value(), old.get("resources")) {
        if !object::same(new.get("resizePolicy").value(), old.get("resizePolicy")) {
            errors.push(new.get("resizePolicy").forbidden("only cpu and memory resources are mutable"));
        }
        return;
    }
    if init && text(old, &["restartPolicy"]) != "Always" {
        errors.push(resources.forbidden("resources for non-sidecar init containers are immutable"));
        return;
    }
    for (field, removed) in
        [("limits", "resource limits cannot be removed"), ("requests", "resource requests cannot be removed")]
    {
        let amounts = resources.get(field);
        let before = map(old, &["resources", field]).into_iter().flatten();
        if before.clone().any(|(name, _)| !amounts.key(name).is_set()) {
            errors.push(amounts.forbidden(removed));
        }
        let mutable = |name: &str| matches!(name, "cpu" | "memory");
        let changed = amounts.entries().any(|(name, amount)| {
            !mutable(name) && !object::same(amount.value(), get(old, &["resources", field, name]))
        });
        if changed {
            errors.push(amounts.forbidden("only cpu and memory resources are mutable"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::yaml;

    fn pod(containers: &str) -> Value {
        let mut pod = yaml(&format!(
            "{{metadata: {{name: p}}, spec: {{restartPolicy: Always, dnsPolicy: Default, containers: [{containers}]}}}}"
        ));
        super::super::defaults::pod(&mut pod);
        pod
    }

    fn resized(old: &str, new: &str) -> (Value, String) {
        let (old, mut new) = (pod(old), pod(new));
        prepare(&mut new, &old);
        let errors = validate(&new, &old).iter().map(ToString::to_string).collect::<Vec<_>>().join("\n");
        (new, errors)
    }

    #[test]
    fn only_cpu_and_memory_change() {
        let c = |rest: &str| format!("{{name: c, image: {rest}}}");
        let (new, errors) =
            resized(&c("a, resources: {requests: {cpu: 1}}"), &c("b, resources: {requests: {cpu: 2, memory: 1Mi}}"));
        assert_eq!(errors, "");
        assert_eq!(new["spec"]["containers"][0]["image"], "a");
        assert_eq!(new["spec"]["containers"][0]["resources"]["requests"]["cpu"], "2");
        for (old, new, error) in [
            (
                "a, resources: {requests: {cpu: 1}}",
                "a",
                "spec: Invalid value: \"BestEffort\": Pod QOS Class may not change as a result of resizing\nspec.containers[0].resources.requests: Forbidden: resource requests cannot be removed",
            ),
            (
                "a, resources: {requests: {cpu: 1, ephemeral-storage: 1Gi}}",
                "a, resources: {requests: {cpu: 1, ephemeral-storage: 2Gi}}",
                "spec.containers[0].resources.requests: Forbidden: only cpu and memory resources are mutable",
            ),
        ] {
            assert_eq!(resized(&c(old), &c(new)).1, error);
        }
        let added = format!("{}, {{name: d, image: a}}", c("a"));
        assert_eq!(resized(&c("a"), &added).1, "spec.containers: Forbidden: containers may not be added or removed");
    }
}
