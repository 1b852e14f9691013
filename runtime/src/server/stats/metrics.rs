//! `/metrics`, `/metrics/resource`, `/metrics/cadvisor` and `/metrics/probes`.

use std::sync::atomic::AtomicU64;

use http::StatusCode;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::{ConstCounter, Counter};
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::{ConstGauge, Gauge};
use prometheus_client::registry::Registry;

use super::machine::Machine;
use super::{PodUsage, Usage, phase, running_containers, usages};
use crate::agent::Shared;
use crate::pod::containers;
use crate::server::Failure;

/// Numbers with a fraction, such as seconds.
type Counters<L> = Family<L, Counter<f64, AtomicU64>>;
type Gauges<L> = Family<L, Gauge<f64, AtomicU64>>;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ContainerLabels {
    container: String,
    namespace: String,
    pod: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PodLabels {
    namespace: String,
    pod: String,
}

/// What a family of metrics may have as labels.
trait Labels: Clone + std::fmt::Debug + Eq + std::hash::Hash + EncodeLabelSet + Send + Sync + 'static {}

impl Labels for ContainerLabels {}
impl Labels for CadvisorLabels {}

/// The labels of cAdvisor.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CadvisorLabels {
    container: String,
    id: String,
    image: String,
    name: String,
    namespace: String,
    pod: String,
}

impl ContainerLabels {
    fn of(pod: &Pod, container: &str) -> ContainerLabels {
        let PodLabels { namespace, pod } = PodLabels::of(pod);
        ContainerLabels { container: container.to_owned(), namespace, pod }
    }
}

impl PodLabels {
    fn of(pod: &Pod) -> PodLabels {
        PodLabels { namespace: pod.namespace().unwrap_or_default(), pod: pod.name_any() }
    }
}

impl CadvisorLabels {
    fn of(pod: &Pod, container: &str) -> CadvisorLabels {
        let ContainerLabels { container, namespace, pod: name } = ContainerLabels::of(pod, container);
        let status = containers::status(pod, &container);
        let image = status.map(|status| status.image.clone()).unwrap_or_default();
        // `<runtime>://<id>`
        let full = status.and_then(|status| status.container_id.as_deref()).unwrap_or_default();
        let own = full.split_once("://").map_or(full, |(_, id)| id).to_owned();
        let id = format!("/kubepods/pod{}/{own}", pod.uid().unwrap_or_default());
        CadvisorLabels { container, id, image, name: own, namespace, pod: name }
    }
}

/// What is said of each container, whatever its labels are.
struct OfContainers<L> {
    cpu: Counters<L>,
    memory: Gauges<L>,
    started: Gauges<L>,
}

impl<L: Labels> Default for OfContainers<L> {
    fn default() -> Self {
        Self { cpu: Family::default(), memory: Family::default(), started: Family::default() }
    }
}

impl<L: Labels> OfContainers<L> {
    fn add(&self, labels: &L, usage: &Usage) {
        self.cpu.get_or_create(labels).inc_by(seconds(usage.stats.cpu_usage_nanos));
        self.memory.get_or_create(labels).set(usage.stats.memory_bytes as f64);
        self.started.get_or_create(labels).set(usage.started.as_duration().as_secs_f64());
    }

    fn register(self, registry: &mut Registry) {
        registry.register("container_cpu_usage_seconds", "CPU time of the container in core-seconds", self.cpu);
        registry.register("container_memory_working_set_bytes", "Memory of the container in bytes", self.memory);
        registry.register("container_start_time_seconds", "When the container started, since 1970", self.started);
    }
}

/// The agent's own metrics, and what its servers did.
pub async fn own(shared: &Shared) -> Result<String, Failure> {
    let pods = shared.pods.all();
    let running = pods.iter().filter(|pod| phase(pod) == "Running").count();
    let containers: usize = pods.iter().map(|pod| running_containers(pod).count()).sum();
    let mut registry = Registry::default();
    register(&mut registry, "kubelet_running_pods", "Pods of this node that are running", running);
    register(&mut registry, "kubelet_running_containers", "Containers of this node that are running", containers);
    register(&mut registry, "kubelet_desired_pods", "Pods that are bound to this node", pods.len());
    let (requests, traps) =
        (Family::<ContainerLabels, Counter>::default(), Family::<ContainerLabels, Counter>::default());
    let instances = Family::<ContainerLabels, Gauge>::default();
    for PodUsage { pod, containers, .. } in usages(shared).await {
        for usage in containers {
            let (labels, stats) = (ContainerLabels::of(&pod, &usage.id.container), usage.stats);
            requests.get_or_create(&labels).inc_by(stats.requests);
            traps.get_or_create(&labels).inc_by(stats.traps);
            instances.get_or_create(&labels).set(i64::try_from(stats.instances).unwrap_or(i64::MAX));
        }
    }
    // Counters get `_total` at the end of their names.
    registry.register("k8w_container_requests", "Requests that the container's component was given", requests);
    let help =
        "Requests that ended in a trap of the container's component, or in an answer of another length than it says";
    registry.register("k8w_container_traps", help, traps);
    registry.register("k8w_container_instances", "Live instances of the container's component", instances);
    encoded(&registry)
}

/// `/metrics/resource`, as metrics-server reads it.
pub async fn resource(shared: &Shared) -> Result<String, Failure> {
    let of_containers = OfContainers::<ContainerLabels>::default();
    let (pod_cpu, pod_memory) = (Counters::<PodLabels>::default(), Gauges::<PodLabels>::default());
    for PodUsage { pod, cpu_nanos, memory_bytes, containers } in usages(shared).await {
        // Nothing is said of a pod before its first container.
        if containers.is_empty() && cpu_nanos == 0 {
            continue;
        }
        for usage in containers {
            of_containers.add(&ContainerLabels::of(&pod, &usage.id.container), &usage);
        }
        let labels = PodLabels::of(&pod);
        pod_cpu.get_or_create(&labels).inc_by(seconds(cpu_nanos));
        pod_memory.get_or_create(&labels).set(memory_bytes as f64);
    }
    let mut registry = Registry::default();
    of_containers.register(&mut registry);
    registry.register("pod_cpu_usage_seconds", "CPU time of the pod in core-seconds", pod_cpu);
    registry.register("pod_memory_working_set_bytes", "Memory of the pod in bytes", pod_memory);
    let machine = Machine::read();
    if let Some(machine) = &machine {
        let used = ConstCounter::new(seconds(machine.cpu_nanos));
        registry.register("node_cpu_usage_seconds", "CPU time of the node in core-seconds", used);
        let used = ConstGauge::new(machine.working_set_bytes as f64);
        registry.register("node_memory_working_set_bytes", "Memory of the node in bytes", used);
    }
    let missing = usize::from(machine.is_none());
    register(&mut registry, "resource_scrape_error", "1 where something could not be measured, else 0", missing);
    encoded(&registry)
}

/// `/metrics/cadvisor`, what of it a container without processes and devices has.
pub async fn cadvisor(shared: &Shared) -> Result<String, Failure> {
    let of_containers = OfContainers::<CadvisorLabels>::default();
    for PodUsage { pod, containers, .. } in usages(shared).await {
        for usage in containers {
            of_containers.add(&CadvisorLabels::of(&pod, &usage.id.container), &usage);
        }
    }
    let mut registry = Registry::default();
    of_containers.register(&mut registry);
    encoded(&registry)
}

/// `/metrics/probes`.
pub fn probes(shared: &Shared) -> Result<String, Failure> {
    let mut registry = Registry::default();
    shared.probe_counts.register(&mut registry);
    encoded(&registry)
}

fn seconds(nanos: u64) -> f64 {
    std::time::Duration::from_nanos(nanos).as_secs_f64()
}

fn register(registry: &mut Registry, name: &str, help: &str, value: usize) {
    registry.register(name, help, ConstGauge::new(i64::try_from(value).unwrap_or(i64::MAX)));
}

fn encoded(registry: &Registry) -> Result<String, Failure> {
    let mut out = String::new();
    encode(&mut out, registry)
        .map_err(|error| Failure { status: StatusCode::INTERNAL_SERVER_ERROR, message: error.to_string() })?;
    Ok(out)
}
