//! What the node's pods use, in the forms that Prometheus, metrics-server and `kubectl top` read.

use http::StatusCode;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use serde_json::{Value, json};

use super::Failure;
use crate::agent::Shared;
use crate::engine::{ContainerId, Stats};

/// One running container and what it uses.
struct Usage {
    pod: std::sync::Arc<Pod>,
    container: String,
    stats: Stats,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ContainerLabels {
    container: String,
    namespace: String,
    pod: String,
}

/// The agent's own metrics.
pub(super) fn metrics(shared: &Shared) -> Result<String, Failure> {
    let pods = shared.pods.all();
    let running = pods.iter().filter(|pod| phase(pod) == "Running").count();
    let containers: usize = pods.iter().map(|pod| running_containers(pod).count()).sum();
    let mut registry = Registry::default();
    register(&mut registry, "kubelet_running_pods", "Pods of this node that are running", running);
    register(&mut registry, "kubelet_running_containers", "Containers of this node that are running", containers);
    register(&mut registry, "kubelet_desired_pods", "Pods that are bound to this node", pods.len());
    encoded(&registry)
}

/// `/metrics/resource`, as metrics-server reads it.
pub(super) async fn resource_metrics(shared: &Shared) -> Result<String, Failure> {
    let cpu = Family::<ContainerLabels, Gauge<f64, std::sync::atomic::AtomicU64>>::default();
    let memory = Family::<ContainerLabels, Gauge>::default();
    let mut total = Stats::default();
    for usage in usages(shared).await {
        let labels = ContainerLabels {
            container: usage.container,
            namespace: usage.pod.namespace().unwrap_or_default(),
            pod: usage.pod.name_any(),
        };
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
pub(super) async fn summary(shared: &Shared) -> Value {
    let now = Timestamp::now().to_string();
    let usages = usages(shared).await;
    let measured = |stats: &Stats| {
        json!({
            "cpu": { "time": now, "usageCoreNanoSeconds": stats.cpu_usage_nanos },
            "memory": { "time": now, "usageBytes": stats.memory_bytes, "workingSetBytes": stats.memory_bytes },
        })
    };
    let mut total = Stats::default();
    let mut pods = Vec::new();
    for pod in shared.pods.all() {
        let mut of_pod = Stats::default();
        let mut containers = Vec::new();
        for usage in usages.iter().filter(|usage| usage.pod.uid() == pod.uid()) {
            of_pod.cpu_usage_nanos += usage.stats.cpu_usage_nanos;
            of_pod.memory_bytes += usage.stats.memory_bytes;
            let mut container = measured(&usage.stats);
            container["name"] = json!(usage.container);
            containers.push(container);
        }
        total.cpu_usage_nanos += of_pod.cpu_usage_nanos;
        total.memory_bytes += of_pod.memory_bytes;
        let mut entry = measured(&of_pod);
        entry["podRef"] = json!({ "name": pod.name_any(), "namespace": pod.namespace(), "uid": pod.uid() });
        entry["startTime"] = json!(pod.status.as_ref().and_then(|status| status.start_time.clone()));
        entry["containers"] = Value::Array(containers);
        pods.push(entry);
    }
    let mut node = measured(&total);
    node["nodeName"] = json!(shared.config.name);
    json!({ "node": node, "pods": pods })
}

async fn usages(shared: &Shared) -> Vec<Usage> {
    let mut usages = Vec::new();
    for pod in shared.pods.all() {
        let running: Vec<(String, u32)> = running_containers(&pod).collect();
        for (container, attempt) in running {
            let id = ContainerId { pod_uid: pod.uid().unwrap_or_default(), container: container.clone(), attempt };
            if let Some(stats) = shared.engine.stats(&id).await {
                usages.push(Usage { pod: pod.clone(), container, stats });
            }
        }
    }
    usages
}

/// Names and attempts of the containers that run.
fn running_containers(pod: &Pod) -> impl Iterator<Item = (String, u32)> + '_ {
    let status = pod.status.iter();
    let all = status.flat_map(|status| {
        status.container_statuses.iter().flatten().chain(status.init_container_statuses.iter().flatten())
    });
    let running = all.filter(|status| status.state.as_ref().is_some_and(|state| state.running.is_some()));
    running.map(|status| (status.name.clone(), u32::try_from(status.restart_count).unwrap_or(0)))
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
