//! What the node's pods use, in the forms that Prometheus, metrics-server and `kubectl top` read.

use std::sync::{Mutex, PoisonError};

use http::StatusCode;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::{ConstCounter, Counter};
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use serde_json::{Value, json};

use super::Failure;
use super::rates::Rates;
use crate::agent::Shared;
use crate::engine::{ContainerId, Stats};
use crate::pod::containers;

/// One running container and what it uses.
struct Usage {
    pod: std::sync::Arc<Pod>,
    id: ContainerId,
    started: Timestamp,
    stats: Stats,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ContainerLabels {
    container: String,
    namespace: String,
    pod: String,
}

impl ContainerLabels {
    fn of(pod: &Pod, id: ContainerId) -> ContainerLabels {
        let namespace = pod.namespace().unwrap_or_default();
        ContainerLabels { container: id.container, namespace, pod: pod.name_any() }
    }
}

/// The agent's own metrics, and what its servers did.
pub(super) async fn metrics(shared: &Shared) -> Result<String, Failure> {
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
    for Usage { pod, id, stats, .. } in usages(shared).await {
        let labels = ContainerLabels::of(&pod, id);
        requests.get_or_create(&labels).inc_by(stats.requests);
        traps.get_or_create(&labels).inc_by(stats.traps);
        instances.get_or_create(&labels).set(i64::try_from(stats.instances).unwrap_or(i64::MAX));
    }
    // Counters get `_total` at the end of their names.
    registry.register("k8w_container_requests", "Requests that the container's component was given", requests);
    registry.register("k8w_container_traps", "Requests that ended in a trap of the container's component", traps);
    registry.register("k8w_container_instances", "Live instances of the container's component", instances);
    encoded(&registry)
}

/// `/metrics/resource`, as metrics-server reads it.
pub(super) async fn resource_metrics(shared: &Shared) -> Result<String, Failure> {
    let cpu = Family::<ContainerLabels, Gauge<f64, std::sync::atomic::AtomicU64>>::default();
    let memory = Family::<ContainerLabels, Gauge>::default();
    let mut total = Stats::default();
    for usage in usages(shared).await {
        let labels = ContainerLabels::of(&usage.pod, usage.id);
        cpu.get_or_create(&labels).set(seconds(usage.stats.cpu_usage_nanos));
        memory.get_or_create(&labels).set(i64::try_from(usage.stats.memory_bytes).unwrap_or(i64::MAX));
        total.cpu_usage_nanos += usage.stats.cpu_usage_nanos;
        total.memory_bytes += usage.stats.memory_bytes;
    }
    let mut registry = Registry::default();
    registry.register("container_cpu_usage_seconds_total", "CPU time of the container in core-seconds", cpu);
    registry.register("container_memory_working_set_bytes", "Memory of the container in bytes", memory);
    let node_cpu = ConstCounter::new(seconds(total.cpu_usage_nanos));
    registry.register("node_cpu_usage_seconds", "CPU time of the node's pods in core-seconds", node_cpu);
    let bytes = usize::try_from(total.memory_bytes).unwrap_or(usize::MAX);
    register(&mut registry, "node_memory_working_set_bytes", "Memory of the node's pods in bytes", bytes);
    encoded(&registry)
}

/// `/stats/summary`, the parts that a wasm node knows.
pub(super) async fn summary(shared: &Shared, rates: &Mutex<Rates>) -> Value {
    let usages = usages(shared).await;
    let now = Timestamp::now();
    let cores = nano_cores(&usages, rates, now);
    let now = now.to_string();
    let measured = |stats: &Stats, nano_cores: u64| {
        json!({
            "cpu": { "time": now, "usageNanoCores": nano_cores, "usageCoreNanoSeconds": stats.cpu_usage_nanos },
            "memory": { "time": now, "usageBytes": stats.memory_bytes, "workingSetBytes": stats.memory_bytes },
        })
    };
    let (mut total, mut total_cores) = (Stats::default(), 0);
    let mut pods = Vec::new();
    for pod in shared.pods.all() {
        let (mut of_pod, mut pod_cores) = (Stats::default(), 0);
        let mut containers = Vec::new();
        let own = usages.iter().zip(&cores).filter(|(usage, _)| usage.pod.uid() == pod.uid());
        for (usage, nano_cores) in own {
            pod_cores += nano_cores;
            of_pod.cpu_usage_nanos += usage.stats.cpu_usage_nanos;
            of_pod.memory_bytes += usage.stats.memory_bytes;
            let mut container = measured(&usage.stats, *nano_cores);
            container["name"] = json!(usage.id.container);
            containers.push(container);
        }
        total_cores += pod_cores;
        total.cpu_usage_nanos += of_pod.cpu_usage_nanos;
        total.memory_bytes += of_pod.memory_bytes;
        let mut entry = measured(&of_pod, pod_cores);
        entry["podRef"] = json!({ "name": pod.name_any(), "namespace": pod.namespace(), "uid": pod.uid() });
        entry["startTime"] = json!(pod.status.as_ref().and_then(|status| status.start_time.clone()));
        entry["containers"] = Value::Array(containers);
        pods.push(entry);
    }
    let mut node = measured(&total, total_cores);
    node["nodeName"] = json!(shared.config.name);
    json!({ "node": node, "pods": pods })
}

/// The rate of each container's use of CPU.
fn nano_cores(usages: &[Usage], rates: &Mutex<Rates>, now: Timestamp) -> Vec<u64> {
    let mut rates = rates.lock().unwrap_or_else(PoisonError::into_inner);
    rates.retain(&usages.iter().map(|usage| usage.id.clone()).collect());
    let rate = |usage: &Usage| rates.of(&usage.id, usage.started, usage.stats.cpu_usage_nanos, now);
    usages.iter().map(rate).collect()
}

async fn usages(shared: &Shared) -> Vec<Usage> {
    let mut usages = Vec::new();
    for pod in shared.pods.all() {
        let running: Vec<_> = running_containers(&pod).collect();
        for (container, attempt, started) in running {
            let id = ContainerId { pod_uid: pod.uid().unwrap_or_default(), container, attempt };
            if let Some(stats) = shared.engine.stats(&id).await {
                usages.push(Usage { pod: pod.clone(), id, started, stats });
            }
        }
    }
    usages
}

/// Names and attempts of the containers that run, and when they started.
fn running_containers(pod: &Pod) -> impl Iterator<Item = (String, u32, Timestamp)> + '_ {
    pod.status.iter().flat_map(containers::statuses).filter_map(|status| {
        let running = status.state.as_ref()?.running.as_ref()?;
        let started = running.started_at.as_ref().map_or_else(Timestamp::now, |time| time.0);
        Some((status.name.clone(), u32::try_from(status.restart_count).unwrap_or(0), started))
    })
}

fn phase(pod: &Pod) -> &str {
    pod.status.as_ref().and_then(|status| status.phase.as_deref()).unwrap_or_default()
}

fn seconds(nanos: u64) -> f64 {
    std::time::Duration::from_nanos(nanos).as_secs_f64()
}

fn register(registry: &mut Registry, name: &str, help: &str, value: usize) {
    let gauge: Gauge = Gauge::default();
    gauge.set(i64::try_from(value).unwrap_or(i64::MAX));
    registry.register(name, help, gauge);
}

fn encoded(registry: &Registry) -> Result<String, Failure> {
    let mut out = String::new();
    encode(&mut out, registry)
        .map_err(|error| Failure { status: StatusCode::INTERNAL_SERVER_ERROR, message: error.to_string() })?;
    Ok(out)
}
