//! What the node, its pods and their containers use, in the forms that Prometheus, metrics-server and `kubectl top` read.
//!
//! * `/stats/summary` here; `/metrics`, `/metrics/resource` and `/metrics/cadvisor` in [`metrics`].
//! * [`machine`]: what the node uses; [`disk`]: what lies on its disk; [`rates`]: how much CPU is used now.

mod disk;
mod machine;
pub(super) mod metrics;
mod rates;

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container, Pod};
use kube::ResourceExt;
use serde_json::{Value, json};

use crate::agent::Shared;
use crate::engine::{ContainerId, Stats};
use crate::pod::{containers, resources};
use disk::{Disk, Measured};
use machine::Machine;
use rates::{Rates, User};

/// The query of `/stats/summary` for whoever does not want to know what lies on disks.
const ONLY_CPU_AND_MEMORY: &str = "only_cpu_and_memory=true";

/// What is remembered between two looks.
#[derive(Debug)]
pub(super) struct Seen {
    since: Timestamp,
    rates: Mutex<Rates>,
    disk: Disk,
}

impl Seen {
    /// From now on.
    pub fn new() -> Seen {
        let (since, mut rates) = (Timestamp::now(), Rates::default());
        if let Some(machine) = Machine::read() {
            rates.begin(User::Machine, machine.cpu_nanos, since);
        }
        Seen { since, rates: Mutex::new(rates), disk: Disk::default() }
    }
}

/// A pod that has not ended, and what it uses.
struct PodUsage {
    pod: Arc<Pod>,
    /// Since its first container started; never less than before.
    cpu_nanos: u64,
    memory_bytes: u64,
    containers: Vec<Usage>,
}

/// One running container and what it uses.
struct Usage {
    id: ContainerId,
    started: Timestamp,
    stats: Stats,
}

impl PodUsage {
    fn uid(&self) -> String {
        self.pod.uid().unwrap_or_default()
    }

    fn container(&self, name: &str) -> Option<std::borrow::Cow<'_, Container>> {
        containers::find(&self.pod, name)
    }

    fn started(&self) -> Option<Timestamp> {
        Some(self.pod.status.as_ref()?.start_time.as_ref()?.0)
    }
}

async fn usages(shared: &Shared) -> Vec<PodUsage> {
    let mut pods = Vec::new();
    for pod in shared.pods.all().into_iter().filter(|pod| !["Succeeded", "Failed"].contains(&phase(pod))) {
        let uid = pod.uid().unwrap_or_default();
        let running: Vec<_> = running_containers(&pod).collect();
        let mut containers = Vec::new();
        for (container, attempt, started) in running {
            let id = ContainerId { pod_uid: uid.clone(), container, attempt };
            if let Some(stats) = shared.engine.stats(&id).await {
                containers.push(Usage { id, started, stats });
            }
        }
        let cpu_nanos = shared.engine.pod_cpu_nanos(&uid);
        let memory_bytes = containers.iter().map(|usage| usage.stats.memory_bytes).sum();
        pods.push(PodUsage { pod, cpu_nanos, memory_bytes, containers });
    }
    pods
}

/// `/stats/summary`, the parts that a wasm node knows.
pub(super) async fn summary(shared: &Shared, seen: &Seen, query: &str) -> Value {
    let pods = usages(shared).await;
    let with_disk = !query.split('&').any(|parameter| parameter == ONLY_CPU_AND_MEMORY);
    let on_disk = match with_disk {
        true => seen.disk.of(shared, &pods.iter().map(|usage| usage.pod.clone()).collect::<Vec<_>>()).await,
        false => HashMap::new(),
    };
    let file_system = with_disk.then(|| disk::file_system(&shared.config.root_dir)).flatten();
    let now = Timestamp::now();
    let mut rates = seen.rates.lock().unwrap_or_else(PoisonError::into_inner);
    let there = pods.iter().flat_map(|pod| {
        let containers = pod.containers.iter().map(|usage| User::Container(usage.id.clone()));
        containers.chain([User::Pod(pod.uid())])
    });
    rates.retain(&there.chain([User::Machine]).collect::<HashSet<User>>());
    let entries: Vec<Value> = pods
        .iter()
        .map(|usage| {
            let mut entry = of_pod(usage, &mut rates, now);
            if let Some(measured) = on_disk.get(&usage.uid()) {
                add_disk(&mut entry, measured, &file_system);
            }
            entry
        })
        .collect();
    let mut node = json!({ "nodeName": shared.config.name, "startTime": seen.since.to_string() });
    if let Some(machine) = Machine::read() {
        let nano_cores = rates.of(User::Machine, seen.since, machine.cpu_nanos, now);
        node["cpu"] = cpu(machine.cpu_nanos, nano_cores, now);
        node["memory"] = json!({
            "time": now.to_string(),
            "availableBytes": machine.total_bytes.saturating_sub(machine.working_set_bytes),
            "usageBytes": machine.memory_bytes,
            "workingSetBytes": machine.working_set_bytes,
        });
    }
    if let Some(mut file_system) = file_system {
        file_system["time"] = json!(now.to_string());
        node["fs"] = file_system;
    }
    json!({ "node": node, "pods": entries })
}

fn of_pod(usage: &PodUsage, rates: &mut Rates, now: Timestamp) -> Value {
    let (pod, started) = (&usage.pod, usage.started().unwrap_or(now));
    let spec = pod.spec.as_ref();
    let entries = usage.containers.iter().map(|Usage { id, started, stats }| {
        let nano_cores = rates.of(User::Container(id.clone()), *started, stats.cpu_usage_nanos, now);
        let limits = spec.zip(usage.container(&id.container)).map(|(spec, own)| resources::limits(spec, &own));
        let limit = limits.and_then(|limits| limits.memory_bytes);
        json!({
            "name": id.container,
            "startTime": started.to_string(),
            "cpu": cpu(stats.cpu_usage_nanos, nano_cores, now),
            "memory": memory(stats.memory_bytes, limit, now),
        })
    });
    let containers: Vec<Value> = entries.collect();
    let nano_cores = rates.of(User::Pod(usage.uid()), started, usage.cpu_nanos, now);
    json!({
        "podRef": { "name": pod.name_any(), "namespace": pod.namespace(), "uid": pod.uid() },
        "startTime": started.to_string(),
        "containers": containers,
        "cpu": cpu(usage.cpu_nanos, nano_cores, now),
        "memory": memory(usage.memory_bytes, spec.and_then(resources::pod_memory_limit), now),
    })
}

fn cpu(used_nanos: u64, nano_cores: u64, now: Timestamp) -> Value {
    json!({ "time": now.to_string(), "usageNanoCores": nano_cores, "usageCoreNanoSeconds": used_nanos })
}

/// Of a component all that it has is in use.
fn memory(used_bytes: u64, limit: Option<u64>, now: Timestamp) -> Value {
    let mut memory = json!({ "time": now.to_string(), "usageBytes": used_bytes, "workingSetBytes": used_bytes });
    if let Some(limit) = limit {
        memory["availableBytes"] = json!(limit.saturating_sub(used_bytes));
    }
    memory
}

/// Adds what lies on the disk to what is said of a pod.
fn add_disk(entry: &mut Value, measured: &Measured, file_system: &Option<Value>) {
    let (at, used) = (measured.at, &measured.used);
    let part = |used_bytes| disk::part(file_system, used_bytes, at);
    for container in entry["containers"].as_array_mut().into_iter().flatten() {
        let own = used.containers.iter().find(|own| container["name"] == own.name.as_str());
        if let Some(own) = own {
            container["logs"] = part(own.log_bytes);
            container["rootfs"] = part(own.written_bytes);
        }
    }
    let volumes = used.volumes.iter().map(|volume| {
        let mut volume_entry = part(volume.bytes);
        volume_entry["name"] = json!(volume.name);
        volume_entry
    });
    entry["volume"] = volumes.collect();
    entry["ephemeral-storage"] = part(used.pod_bytes());
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
