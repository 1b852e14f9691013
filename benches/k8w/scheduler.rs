//! How many pods a second the scheduler decides on, without the API: from a Pod as it was read to its place on a node.

use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use k8s_openapi::api::core::v1::{Node, Pod};
use k8w_controllers::scheduler::{Decision, Pending, Profile, Snapshot, decide};
use k8w_kinds::core::selection::Selector;
use rand::SeedableRng;
use rand::rngs::StdRng;
use serde_json::{Value, json};

/// Sizes of clusters, in nodes.
const NODES: [usize; 3] = [100, 1_000, 5_000];
/// Pods on each node before the measurement.
const PLACED_PER_NODE: usize = 10;
const PODS: usize = 10_000;
/// Pods of one application: replicas of one Deployment.
const REPLICAS: usize = 50;
const ZONES: usize = 5;

pub async fn measure() -> Result<()> {
    println!(
        "scheduler: decisions on {PODS} pods, of which a fifth each has only requests, spreads over zones (must),"
    );
    println!("  keeps off its like's nodes, wants company in its zone (should), and selects nodes by label");
    for nodes in NODES {
        // A cluster of 100 nodes has not got room for all of them.
        let pods = PODS.min(nodes * 20);
        let rate = tokio::task::spawn_blocking(move || decisions_per_second(nodes, pods)).await??;
        println!("  {nodes:>5} nodes: {rate:>7.0} pods/s");
    }
    Ok(())
}

fn decisions_per_second(nodes: usize, pods: usize) -> Result<f64> {
    let mut snapshot = Snapshot::default();
    for index in 0..nodes {
        snapshot.set_node(Arc::new(node(index)?));
    }
    let mut scheduler = Scheduler { snapshot, start: 0, rng: StdRng::seed_from_u64(1), profile: Arc::default() };
    for index in 0..nodes * PLACED_PER_NODE {
        scheduler.place(pod(index, "before")?)?;
    }
    let pods = (0..pods).map(|index| pod(index, "now")).collect::<Result<Vec<_>>>()?;
    let (count, begin) = (pods.len(), Instant::now());
    for pod in pods {
        scheduler.place(pod)?;
    }
    Ok(count as f64 / begin.elapsed().as_secs_f64())
}

struct Scheduler {
    snapshot: Snapshot,
    start: usize,
    rng: StdRng,
    profile: Arc<Profile>,
}

impl Scheduler {
    fn place(&mut self, pod: Arc<Pod>) -> Result<()> {
        let kin = Selector::pairs(pod.metadata.labels.as_ref().context("the pod has labels")?);
        let pending = Pending::new(pod, self.profile.clone(), &kin);
        match decide(&pending, &mut self.snapshot, &mut self.start, &mut self.rng) {
            Decision::Node(slot) => {
                let node = self.snapshot.nodes[slot].name().to_owned();
                self.snapshot.place(pending.info.clone(), &node);
                Ok(())
            }
            Decision::Unschedulable(why) => bail!("a pod that fits was refused: {why}"),
        }
    }
}

fn node(index: usize) -> Result<Node> {
    let name = format!("node-{index}");
    let node = json!({
        "metadata": { "name": name, "labels": {
            "kubernetes.io/hostname": name,
            "topology.kubernetes.io/zone": format!("zone-{}", index % ZONES),
            "disk": if index.is_multiple_of(3) { "ssd" } else { "hdd" },
        }},
        "status": { "allocatable": { "cpu": "32", "memory": "128Gi", "pods": "110" } },
    });
    Ok(serde_json::from_value(node)?)
}

fn pod(index: usize, group: &str) -> Result<Arc<Pod>> {
    let app = index / (5 * REPLICAS);
    let (kind, wishes) = wishes(index % 5, group, app);
    let labels = labels(group, kind, app);
    let mut spec = json!({
        "containers": [{ "name": "c", "resources": { "requests": { "cpu": "100m", "memory": "200Mi" } } }],
    });
    if let (Value::Object(spec), Value::Object(wishes)) = (&mut spec, wishes) {
        spec.extend(wishes);
    }
    let name = format!("{group}-{index}");
    let metadata = json!({ "namespace": "default", "name": name, "uid": name, "labels": labels });
    Ok(Arc::new(serde_json::from_value(json!({ "metadata": metadata, "spec": spec }))?))
}

fn labels(group: &str, kind: &str, app: usize) -> Value {
    json!({ "app": format!("{group}-{kind}-{app}"), "tier": kind })
}

/// What the pod asks for besides its resources.
fn wishes(kind: usize, group: &str, app: usize) -> (&'static str, Value) {
    let like = |kind: &str| json!({ "matchLabels": labels(group, kind, app) });
    let term = |kind: &str, key: &str| json!({ "topologyKey": key, "labelSelector": like(kind) });
    match kind {
        0 => ("plain", json!({})),
        1 => {
            let spread = json!([{
                "maxSkew": 1, "topologyKey": "topology.kubernetes.io/zone", "whenUnsatisfiable": "DoNotSchedule",
                "labelSelector": like("spread"),
            }]);
            ("spread", json!({ "topologySpreadConstraints": spread }))
        }
        2 => {
            let required = json!([term("apart", "kubernetes.io/hostname")]);
            let far = json!({ "requiredDuringSchedulingIgnoredDuringExecution": required });
            ("apart", json!({ "affinity": { "podAntiAffinity": far } }))
        }
        3 => {
            let preferred =
                json!([{ "weight": 10, "podAffinityTerm": term("together", "topology.kubernetes.io/zone") }]);
            let near = json!({ "preferredDuringSchedulingIgnoredDuringExecution": preferred });
            ("together", json!({ "affinity": { "podAffinity": near } }))
        }
        _ => ("ssd", json!({ "nodeSelector": { "disk": "ssd" } })),
    }
}
