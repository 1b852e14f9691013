//! `pods/resize`: other requests and limits for a pod that runs and for its containers (KEP-1287, KEP-5419).

use serde_json::{Map, Value};

use super::{mirror, qos, spec, totals};
use crate::field::{Field, FieldError, FieldPath};
use crate::object::{self, ensure, get, list, map, same, text};

const CONTAINERS: [&str; 2] = ["containers", "initContainers"];
const AMOUNTS: [&str; 2] = ["requests", "limits"];
/// What of a container may be written.
const FIELDS: [&str; 2] = ["resources", "resizePolicy"];

/// The old pod with what the new one says of its resources and its containers'.
pub fn prepare(new: &mut Value, old: &Value) {
    let wanted = new.take();
    new.clone_from(old);
    if let (Some(spec), Some(wanted)) = (new.get_mut("spec"), wanted.get("spec")) {
        object::keep(spec, wanted, "resources");
    }
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
    if mirror::mirrored(old).is_some() {
        return refused("static pods cannot be resized");
    }
    if text(old, &["spec", "os", "name"]) == "windows" {
        return refused("windows pods cannot be resized");
    }
    let mut errors = Vec::new();
    let (root, old_root) = (Field::root(new), Field::root(old));
    let (spec, before) = (root.get("spec"), old_root.get("spec"));
    spec::validate_pod(new, &mut errors);
    if qos::class(new) != qos::class(old) {
        let detail = "Pod QOS Class may not change as a result of resizing";
        errors.push(FieldError::invalid(&spec.path, text(new, &["status", "qosClass"]), detail));
    }
    let mut running = list(old, &["status", "containerStatuses"])
        .iter()
        .filter(|status| get(status, &["state", "running"]).is_some());
    if running.next().is_some_and(|status| get(status, &["resources"]).is_none()) {
        errors.push(spec.forbidden("Pod running on node without support for resize"));
    }
    if totals::has_pod_level_resources(old) || totals::has_pod_level_resources(new) {
        whole_pod(&spec, &before, &mut errors);
    }
    if !same_containers(&spec, &before, &mut errors) {
        return errors;
    }
    for name in ["initContainers", "containers"] {
        let (containers, before) = (spec.get(name), before.get(name));
        for (container, before) in containers.items().zip(before.items()) {
            let (resources, before) = (container.get("resources"), before.get("resources"));
            for amounts in AMOUNTS {
                if any_removed(&resources.get(amounts), &before.get(amounts)) {
                    let detail = format!("resource {amounts} cannot be removed");
                    errors.push(resources.get(amounts).forbidden(detail));
                }
            }
        }
    }
    // Kubernetes does not say which ones.
    let changed = changed_otherwise(&spec.get("containers"), &before.get("containers"));
    errors.extend(changed.iter().map(|_| spec.forbidden("only cpu and memory resources are mutable")));
    let init = spec.get("initContainers");
    for index in changed_otherwise(&init, &before.get("initContainers")) {
        let detail = "only cpu and memory resources for init or sidecar containers are mutable";
        errors.push(FieldError::forbidden(&init.path.index(index), detail));
    }
    for (container, before) in init.items().zip(before.get("initContainers").items()) {
        let restarts = |policy: &Field| policy.get("restartPolicy").text() == "RestartContainer";
        let changed = !same(container.value(), before.value()) && container.get("restartPolicy").text() != "Always";
        if changed && container.get("resizePolicy").items().any(|policy| restarts(&policy)) {
            errors.push(
                container.forbidden(
                    "non-sidecar init containers with a resize policy of RestartContainer cannot be resized",
                ),
            );
        }
    }
    errors
}

/// What the pod asks for as a whole may change, and not go away.
fn whole_pod(spec: &Field, before: &Field, errors: &mut Vec<FieldError>) {
    let (resources, before) = (spec.get("resources"), before.get("resources"));
    if before.is_set() && !resources.is_set() {
        return errors.push(resources.forbidden("pod-level resources cannot be removed"));
    }
    for amounts in AMOUNTS {
        if any_removed(&resources.get(amounts), &before.get(amounts)) {
            errors.push(resources.get(amounts).forbidden(format!("pod-level resource {amounts} cannot be removed")));
        }
    }
    let mut masked = masked(&resources, &before);
    if let Some(claims) = resources.value().and_then(|resources| resources.get("claims")) {
        masked["claims"] = claims.clone();
    }
    if !same(Some(&masked), before.value()) {
        errors.push(spec.forbidden("only cpu and memory resources are mutable at pod-level"));
    }
}

/// Whether the containers are the same ones in the same order.
fn same_containers(spec: &Field, before: &Field, errors: &mut Vec<FieldError>) -> bool {
    let known = errors.len();
    for name in CONTAINERS {
        let (containers, before) = (spec.get(name), before.get(name));
        if containers.len() != before.len() {
            errors.push(containers.forbidden(format!("{name} may not be added or removed on resize")));
            continue;
        }
        for (container, before) in containers.items().zip(before.items()) {
            let name_of = container.get("name");
            if name_of.text() != before.get("name").text() {
                errors.push(name_of.forbidden(format!("{name} may not be renamed or reordered on resize")));
            }
        }
    }
    errors.len() == known
}

fn any_removed(amounts: &Field, before: &Field) -> bool {
    before.entries().any(|(name, _)| !amounts.key(name).is_set())
}

/// Which containers differ in more than their CPU and memory.
fn changed_otherwise(containers: &Field, before: &Field) -> Vec<usize> {
    let differs = |(container, before): (Field, Field)| {
        let mut kept = container.value().cloned().unwrap_or_default();
        kept["resources"] = masked(&container.get("resources"), &before.get("resources"));
        !same(Some(&kept), before.value())
    };
    let pairs = containers.items().zip(before.items()).enumerate();
    pairs.filter_map(|(index, pair)| differs(pair).then_some(index)).collect()
}

/// Requests and limits with the CPU and the memory that they had before.
fn masked(resources: &Field, before: &Field) -> Value {
    let mut masked = Map::new();
    for name in AMOUNTS {
        let of = |field: &Field| field.value().and_then(|field| map(field, &[name])).cloned().unwrap_or_default();
        let (mut amounts, before) = (of(resources), of(before));
        for resource in ["cpu", "memory"] {
            match before.get(resource) {
                Some(amount) => _ = amounts.insert(resource.to_owned(), amount.clone()),
                None => _ = amounts.remove(resource),
            }
        }
        if !amounts.is_empty() {
            masked.insert(name.to_owned(), amounts.into());
        }
    }
    masked.into()
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
                "spec: Invalid value: \"\": Pod QOS Class may not change as a result of resizing\nspec.containers[0].resources.requests: Forbidden: resource requests cannot be removed",
            ),
            (
                "a, resources: {requests: {cpu: 1, ephemeral-storage: 1Gi}}",
                "a, resources: {requests: {cpu: 1, ephemeral-storage: 2Gi}}",
                "spec: Forbidden: only cpu and memory resources are mutable",
            ),
            (
                "a, resources: {requests: {cpu: 1}}",
                "a, resources: {requests: {cpu: 2}}, resizePolicy: [{resourceName: cpu, restartPolicy: NotRequired}]",
                "spec: Forbidden: only cpu and memory resources are mutable",
            ),
        ] {
            assert_eq!(resized(&c(old), &c(new)).1, error);
        }
        let added = format!("{}, {{name: d, image: a}}", c("a"));
        assert_eq!(
            resized(&c("a"), &added).1,
            "spec.containers: Forbidden: containers may not be added or removed on resize"
        );
    }

    #[test]
    fn a_pod_as_a_whole_and_what_starts_it() {
        let spec = |rest: &str| {
            let mut pod =
                yaml(&format!("{{metadata: {{name: p}}, spec: {{containers: [{{name: c, image: a}}], {rest}}}}}"));
            super::super::defaults::pod(&mut pod);
            pod
        };
        let init = |rest: &str| spec(&format!("initContainers: [{{name: i, image: a, resources: {rest}}}]"));
        for (old, mut new, expected) in [
            (spec("resources: {requests: {cpu: 1}}"), spec("resources: {requests: {cpu: 2, memory: 1Mi}}"), ""),
            (
                spec("resources: {requests: {cpu: 1}}"),
                spec("resources: {requests: {memory: 1Mi}}"),
                "spec.resources.requests: Forbidden: pod-level resource requests cannot be removed",
            ),
            (
                spec("resources: {requests: {cpu: 1}}"),
                spec(""),
                "spec: Invalid value: \"\": Pod QOS Class may not change as a result of resizing\nspec.resources: Forbidden: pod-level resources cannot be removed",
            ),
            (
                spec("resources: {limits: {cpu: 1, hugepages-2Mi: 2Mi}, requests: {cpu: 500m}}"),
                spec("resources: {limits: {cpu: 1, hugepages-2Mi: 4Mi}, requests: {cpu: 500m}}"),
                "spec: Forbidden: only cpu and memory resources are mutable at pod-level",
            ),
            (init("{requests: {cpu: 1}}"), init("{requests: {cpu: 2}}"), ""),
            (
                init("{requests: {cpu: 1, ephemeral-storage: 1Gi}}"),
                init("{requests: {cpu: 1, ephemeral-storage: 2Gi}}"),
                "spec.initContainers[0]: Forbidden: only cpu and memory resources for init or sidecar containers are mutable",
            ),
        ] {
            prepare(&mut new, &old);
            let errors = validate(&new, &old).iter().map(ToString::to_string).collect::<Vec<_>>().join("\n");
            assert_eq!(errors, expected, "{}", new["spec"]);
        }
    }
}
