//! What a pod's containers may use, also while they run (KEP-1287).

use k8s_openapi::api::core::v1 as core;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

use super::{containers, quantity};
use crate::engine::Limits;

/// What the engine holds a container to.
pub fn limits(spec: &core::PodSpec, container: &core::Container) -> Limits {
    Limits {
        memory_bytes: limit(container, "memory").and_then(quantity::units),
        pod_memory_bytes: pod_memory_limit(spec),
        cpu_millis: limit(container, "cpu").and_then(cpu_millis),
        cpu_request_millis: cpu_request_millis(container),
        pod_cpu_millis: pod_limit(spec, "cpu").and_then(cpu_millis),
    }
}

/// What the pod itself says that its containers may use together.
fn pod_limit<'a>(spec: &'a core::PodSpec, resource: &str) -> Option<&'a Quantity> {
    spec.resources.as_ref()?.limits.as_ref()?.get(resource)
}

fn cpu_request_millis(container: &core::Container) -> Option<u32> {
    cpu_millis(container.resources.as_ref()?.requests.as_ref()?.get("cpu")?)
}

fn cpu_millis(quantity: &Quantity) -> Option<u32> {
    quantity::millis(quantity).and_then(|millis| u32::try_from(millis).ok())
}

fn limit<'a>(container: &'a core::Container, resource: &str) -> Option<&'a Quantity> {
    container.resources.as_ref()?.limits.as_ref()?.get(resource)
}

/// The pod's own limit, or the sum of its containers' when every one has a limit.
pub fn pod_memory_limit(spec: &core::PodSpec) -> Option<u64> {
    if let Some(own) = pod_limit(spec, "memory") {
        return quantity::units(own);
    }
    let limits = spec.containers.iter().map(|container| limit(container, "memory").and_then(quantity::units));
    limits.sum()
}

/// Whether two pods ask for the same resources, as a whole and for their containers.
pub fn are_same(one: &core::Pod, other: &core::Pod) -> bool {
    all_of(one).eq(all_of(other))
}

/// What a pod may use as a whole, and each of its containers.
fn all_of(pod: &core::Pod) -> impl Iterator<Item = Option<&core::ResourceRequirements>> {
    let whole = pod.spec.iter().map(|spec| spec.resources.as_ref());
    let all = pod.spec.iter().flat_map(|spec| spec.init_containers.iter().flatten().chain(&spec.containers));
    whole.chain(all.map(|container| container.resources.as_ref()))
}

/// Gives a pod and its containers what another and its have.
pub fn copy(from: &core::Pod, to: &mut core::Pod) {
    let (Some(from), Some(to)) = (&from.spec, &mut to.spec) else { return };
    to.resources.clone_from(&from.resources);
    let of = |name: &str| {
        let mut all = from.init_containers.iter().flatten().chain(&from.containers);
        all.find(|container| container.name == name).map(|container| container.resources.clone())
    };
    for container in to.init_containers.iter_mut().flatten().chain(&mut to.containers) {
        if let Some(resources) = of(&container.name) {
            container.resources = resources;
        }
    }
}

/// A pod with the resources that its status shows it and its containers to have, where these are not those that it asks for.
pub fn as_shown(pod: &core::Pod) -> Option<core::Pod> {
    let mut shown = pod.clone();
    let spec = shown.spec.as_mut()?;
    let whole = pod.status.as_ref().and_then(|status| status.resources.clone());
    spec.resources = whole.or(spec.resources.take());
    for container in spec.init_containers.iter_mut().flatten().chain(&mut spec.containers) {
        let had = containers::status(pod, &container.name).and_then(|status| status.resources.clone());
        container.resources = had.or(container.resources.take());
    }
    (!are_same(&shown, pod)).then_some(shown)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod(cpu: &str, memory: &str) -> core::Pod {
        let resources = json!({ "requests": { "cpu": cpu, "memory": memory }, "limits": { "memory": memory } });
        serde_json::from_value(json!({ "spec": { "containers": [{ "name": "c", "resources": resources }] } })).unwrap()
    }

    #[test]
    fn limits_are_read_in_the_engines_units() {
        let pod = pod("1", "64Mi");
        let spec = pod.spec.as_ref().unwrap();
        let bytes = Some(64 << 20);
        let expected = Limits {
            memory_bytes: bytes,
            pod_memory_bytes: bytes,
            cpu_request_millis: Some(1_000),
            ..Limits::default()
        };
        assert_eq!(limits(spec, &spec.containers[0]), expected);
        let mut whole = spec.clone();
        let own = json!({ "limits": { "cpu": "1500m", "memory": "1Mi" } });
        whole.resources = Some(serde_json::from_value(own).unwrap());
        let expected = Limits { pod_cpu_millis: Some(1_500), pod_memory_bytes: Some(1 << 20), ..expected };
        assert_eq!(limits(&whole, &whole.containers[0]), expected);
    }
}
