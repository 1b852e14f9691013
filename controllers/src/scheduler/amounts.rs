//! What pods ask for and nodes have, in integers.

use std::collections::BTreeMap;
use std::ops::{AddAssign, SubAssign};

use k8s_openapi::api::core::v1::{Container, ContainerStatus, Pod, PodSpec};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

use crate::quantity;

/// What a container that asks for nothing is taken to need when nodes are compared (kube-scheduler's
/// `DefaultMilliCPURequest`, `DefaultMemoryRequest`).
const ASSUMED_CPU_MILLIS: i64 = 100;
const ASSUMED_MEMORY_BYTES: i64 = 200 * 1024 * 1024;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Amounts {
    pub cpu_millis: i64,
    pub memory_bytes: i64,
    pub ephemeral_bytes: i64,
    /// Extended resources and huge pages, by name.
    pub others: BTreeMap<String, i64>,
}

impl Amounts {
    pub fn from_list(list: Option<&BTreeMap<String, Quantity>>) -> Self {
        let mut amounts = Self::default();
        for (name, quantity) in list.into_iter().flatten() {
            amounts.set(name, quantity);
        }
        amounts
    }

    fn set(&mut self, name: &str, quantity: &Quantity) {
        let units = || quantity::units(quantity).unwrap_or(i64::MAX);
        match name {
            "cpu" => self.cpu_millis = quantity::millis(quantity).unwrap_or(i64::MAX),
            "memory" => self.memory_bytes = units(),
            "ephemeral-storage" => self.ephemeral_bytes = units(),
            "pods" => {}
            other => _ = self.others.insert(other.to_owned(), units()),
        }
    }

    fn raise_to(&mut self, other: &Self) {
        self.cpu_millis = self.cpu_millis.max(other.cpu_millis);
        self.memory_bytes = self.memory_bytes.max(other.memory_bytes);
        self.ephemeral_bytes = self.ephemeral_bytes.max(other.ephemeral_bytes);
        for (name, amount) in &other.others {
            let own = self.others.entry(name.clone()).or_default();
            *own = (*own).max(*amount);
        }
    }

    fn combine(&mut self, other: &Self, with: impl Fn(i64, i64) -> i64) {
        self.cpu_millis = with(self.cpu_millis, other.cpu_millis);
        self.memory_bytes = with(self.memory_bytes, other.memory_bytes);
        self.ephemeral_bytes = with(self.ephemeral_bytes, other.ephemeral_bytes);
        for (name, amount) in &other.others {
            let own = self.others.entry(name.clone()).or_default();
            *own = with(*own, *amount);
        }
    }
}

impl AddAssign<&Amounts> for Amounts {
    fn add_assign(&mut self, other: &Amounts) {
        self.combine(other, i64::saturating_add);
    }
}

impl SubAssign<&Amounts> for Amounts {
    fn sub_assign(&mut self, other: &Amounts) {
        self.combine(other, i64::saturating_sub);
    }
}

/// What the pod asks for: all its containers and sidecars together, or the most that starting it takes, whichever is
/// more; a pod-level request instead where there is one; and the overhead of its runtime (KEP-753, KEP-2837). A container
/// that is being resized counts for the most of what it asks for, what it was granted and what it has (KEP-1287).
pub fn requests(pod: &Pod) -> Amounts {
    let status = pod.status.as_ref();
    let statuses = status.map(|s| [&s.container_statuses, &s.init_container_statuses]).into_iter().flatten();
    let statuses: Vec<&ContainerStatus> = statuses.flat_map(|list| list.iter().flatten()).collect();
    let is_infeasible = status.and_then(|s| s.conditions.as_ref()).is_some_and(|conditions| {
        conditions.iter().any(|c| c.type_ == "PodResizePending" && c.reason.as_deref() == Some("Infeasible"))
    });
    let of = |container: &Container| {
        let asked = container_requests(container);
        let Some(status) = statuses.iter().find(|status| status.name == container.name) else { return asked };
        let has = status.resources.as_ref().and_then(|resources| resources.requests.as_ref());
        if has.is_none() && status.allocated_resources.is_none() {
            return asked;
        }
        // What can't be granted here will not be used here.
        let mut amounts = if is_infeasible { Amounts::default() } else { asked };
        amounts.raise_to(&Amounts::from_list(has));
        amounts.raise_to(&Amounts::from_list(status.allocated_resources.as_ref()));
        amounts
    };
    pod.spec.as_ref().map(|spec| total(spec, of)).unwrap_or_default()
}

/// Like [`requests`], but with something for containers that ask for nothing, so that they spread too.
pub fn assumed_requests(pod: &Pod) -> Amounts {
    let assumed = |container: &Container| {
        let mut amounts = container_requests(container);
        let asks = |name| container.resources.as_ref().and_then(|r| r.requests.as_ref()?.get(name)).is_some();
        if !asks("cpu") {
            amounts.cpu_millis = ASSUMED_CPU_MILLIS;
        }
        if !asks("memory") {
            amounts.memory_bytes = ASSUMED_MEMORY_BYTES;
        }
        amounts
    };
    pod.spec.as_ref().map(|spec| total(spec, assumed)).unwrap_or_default()
}

fn container_requests(container: &Container) -> Amounts {
    Amounts::from_list(container.resources.as_ref().and_then(|r| r.requests.as_ref()))
}

fn total(spec: &PodSpec, of: impl Fn(&Container) -> Amounts) -> Amounts {
    let mut running = Amounts::default();
    for container in &spec.containers {
        running += &of(container);
    }
    let mut sidecars = Amounts::default();
    let mut starting = Amounts::default();
    for container in spec.init_containers.iter().flatten() {
        let mut step = of(container);
        if container.restart_policy.as_deref() == Some("Always") {
            running += &step;
            sidecars += &step;
            starting.raise_to(&sidecars);
        } else {
            step += &sidecars;
            starting.raise_to(&step);
        }
    }
    running.raise_to(&starting);
    for (name, quantity) in spec.resources.iter().filter_map(|r| r.requests.as_ref()).flatten() {
        running.set(name, quantity);
    }
    running += &Amounts::from_list(spec.overhead.as_ref());
    running
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cpu(yaml: &str) -> i64 {
        requests(&serde_saphyr::from_str(yaml).unwrap()).cpu_millis
    }

    #[test]
    fn starting_and_running_are_weighed_against_each_other() {
        let c = |name: &str, cpu: &str, more: &str| {
            format!("{{name: {name}, resources: {{requests: {{cpu: {cpu}}}}}{more}}}")
        };
        let (one, two) = (c("a", "100m", ""), c("b", "200m", ""));
        assert_eq!(cpu(&format!("spec: {{containers: [{one}, {two}]}}")), 300);
        let big = c("i", "1", "");
        assert_eq!(cpu(&format!("spec: {{containers: [{one}], initContainers: [{big}]}}")), 1_000);
        let sidecar = c("s", "500m", ", restartPolicy: Always");
        assert_eq!(cpu(&format!("spec: {{containers: [{one}], initContainers: [{sidecar}, {big}]}}")), 1_500);
        assert_eq!(cpu(&format!("spec: {{containers: [{one}], initContainers: [{two}, {sidecar}]}}")), 600);
        assert_eq!(
            cpu(&format!("spec: {{containers: [{one}], resources: {{requests: {{cpu: 2}}}}, overhead: {{cpu: 50m}}}}")),
            2_050
        );
    }
}
