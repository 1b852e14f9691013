//! What a pod's containers may use, and whether a node can give them more while they run (KEP-1287).

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1 as core;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8w_kinds::core::pod::totals;

use super::quantity;
use crate::engine::Limits;

/// What the engine holds a container to.
pub fn limits(spec: &core::PodSpec, container: &core::Container) -> Limits {
    Limits {
        memory_bytes: limit(container, "memory").and_then(quantity::units),
        pod_memory_bytes: pod_memory_limit(spec),
        cpu_millis: limit(container, "cpu").and_then(quantity::millis).and_then(|m| u32::try_from(m).ok()),
    }
}

/// Weight under contention, in thousandths of a CPU.
pub fn cpu_request_millis(container: &core::Container) -> Option<u32> {
    let requests = container.resources.as_ref()?.requests.as_ref()?;
    quantity::millis(requests.get("cpu")?).and_then(|millis| u32::try_from(millis).ok())
}

fn limit<'a>(container: &'a core::Container, resource: &str) -> Option<&'a Quantity> {
    container.resources.as_ref()?.limits.as_ref()?.get(resource)
}

/// The pod's own limit, or the sum of its containers' when every one has a limit.
pub fn pod_memory_limit(spec: &core::PodSpec) -> Option<u64> {
    let own = spec.resources.as_ref().and_then(|resources| resources.limits.as_ref()?.get("memory"));
    if let Some(own) = own {
        return quantity::units(own);
    }
    let limits = spec.containers.iter().map(|container| limit(container, "memory").and_then(quantity::units));
    limits.sum()
}

/// Why containers do not get what the manifest gives them now: the condition `PodResizePending`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pending {
    /// `Infeasible`: never on this node; `Deferred`: not now.
    pub reason: &'static str,
    pub message: String,
}

/// Whether the node has what a pod asks for beside what `others` ask for.
///
/// # Errors
/// With the reason, in the kubelet's words.
pub fn fits<'a>(
    pod: &core::Pod,
    others: impl Iterator<Item = &'a core::Pod>,
    allocatable: &BTreeMap<String, Quantity>,
) -> Result<(), Pending> {
    let own = requested(pod);
    let wanted = [Resource::Memory, Resource::Cpu].map(|resource| (resource, resource.of(&own)));
    for (resource, requested) in wanted {
        let capacity = resource.of(allocatable);
        if requested > capacity {
            let name = resource.name();
            let message =
                format!("Node didn't have enough capacity: {name}, requested: {requested}, capacity: {capacity}");
            return Err(Pending { reason: "Infeasible", message });
        }
    }
    let others: Vec<_> = others.map(requested).collect();
    for (resource, requested) in wanted {
        let capacity = resource.of(allocatable);
        let used: u64 = others.iter().map(|amounts| resource.of(amounts)).sum();
        if requested.saturating_add(used) > capacity {
            let name = resource.name();
            let message = format!(
                "Node didn't have enough resource: {name}, requested: {requested}, used: {used}, capacity: {capacity}"
            );
            return Err(Pending { reason: "Deferred", message });
        }
    }
    Ok(())
}

#[derive(Clone, Copy)]
enum Resource {
    /// In bytes.
    Memory,
    /// In thousandths.
    Cpu,
}

impl Resource {
    fn name(self) -> &'static str {
        match self {
            Resource::Memory => "memory",
            Resource::Cpu => "cpu",
        }
    }

    fn of(self, amounts: &BTreeMap<String, Quantity>) -> u64 {
        let count = match self {
            Resource::Memory => quantity::units,
            Resource::Cpu => quantity::millis,
        };
        amounts.get(self.name()).and_then(count).unwrap_or(0)
    }
}

/// What the manifest asks for; what the status shows is not looked at.
fn requested(pod: &core::Pod) -> BTreeMap<String, Quantity> {
    let spec = serde_json::json!({ "spec": pod.spec });
    let amounts = totals::requests_with_overhead(&spec);
    amounts.into_iter().map(|(name, amount)| (name, Quantity(amount.to_string()))).collect()
}

/// Whether two pods give their containers the same resources.
pub fn are_same(one: &core::Pod, other: &core::Pod) -> bool {
    all_of(one).eq(all_of(other))
}

/// What each container of a pod may use.
fn all_of(pod: &core::Pod) -> impl Iterator<Item = Option<&core::ResourceRequirements>> {
    let all = pod.spec.iter().flat_map(|spec| spec.init_containers.iter().flatten().chain(&spec.containers));
    all.map(|container| container.resources.as_ref())
}

/// Gives the containers of a pod what those of another have.
pub fn copy(from: &core::Pod, to: &mut core::Pod) {
    let (Some(from), Some(to)) = (&from.spec, &mut to.spec) else { return };
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

#[cfg(test)]
mod tests {
    use expect_test::expect;
    use serde_json::json;

    use super::*;

    fn pod(cpu: &str, memory: &str) -> core::Pod {
        let resources = json!({ "requests": { "cpu": cpu, "memory": memory }, "limits": { "memory": memory } });
        serde_json::from_value(json!({ "spec": { "containers": [{ "name": "c", "resources": resources }] } })).unwrap()
    }

    #[test]
    fn what_does_not_fit_is_said_as_the_kubelet_says_it() {
        let allocatable = BTreeMap::from(
            [("cpu", "2"), ("memory", "1Gi")].map(|(name, amount)| (name.to_owned(), Quantity(amount.to_owned()))),
        );
        let others = [pod("500m", "512Mi"), pod("1", "0")];
        let why = |cpu: &str, memory: &str| {
            let pending = fits(&pod(cpu, memory), others.iter(), &allocatable).unwrap_err();
            format!("{}: {}", pending.reason, pending.message)
        };
        assert_eq!(fits(&pod("500m", "512Mi"), others.iter(), &allocatable), Ok(()));
        expect!["Infeasible: Node didn't have enough capacity: cpu, requested: 3000, capacity: 2000"]
            .assert_eq(&why("3", "1Mi"));
        expect!["Deferred: Node didn't have enough resource: cpu, requested: 600, used: 1500, capacity: 2000"]
            .assert_eq(&why("600m", "1Mi"));
        expect!["Deferred: Node didn't have enough resource: memory, requested: 537919488, used: 536870912, capacity: 1073741824"]
            .assert_eq(&why("100m", "513Mi"));
    }

    #[test]
    fn limits_are_read_in_the_engines_units() {
        let pod = pod("1", "64Mi");
        let spec = pod.spec.as_ref().unwrap();
        let bytes = Some(64 << 20);
        let expected = Limits { memory_bytes: bytes, pod_memory_bytes: bytes, cpu_millis: None };
        assert_eq!(limits(spec, &spec.containers[0]), expected);
        assert_eq!(cpu_request_millis(&spec.containers[0]), Some(1_000));
    }
}
