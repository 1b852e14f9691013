//! A control plane under a fleet of nodes that only claim to run pods: pods bound per second, a large Deployment from its
//! creation to all Ready, memory with very many pods, and what an idle cluster costs.
//!
//! The fleet is this process: it creates the nodes, renews their leases, and says that a pod is Ready once it is bound.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use futures::{StreamExt, TryStreamExt, stream};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Node, Pod};
use k8w_testkit::TestCluster;
use kube::api::{ListParams, Patch, PatchParams, PostParams, WatchEvent, WatchParams};
use kube::{Api, Client, ResourceExt};
use serde_json::json;
use tokio::task::JoinSet;

use crate::cluster::{self, Resident};
use crate::stats::{median, quantile};

/// Nodes and pods of the measurement that is about time.
const NODES: usize = 1_000;
const PODS: usize = 10_000;
/// How often pods are created and bound.
const BINDING_ROUNDS: usize = 5;
/// Nodes and pods of the one that is about memory.
const MANY_NODES: usize = 5_000;
const MANY_PODS: usize = 150_000;
/// Replicas of one Deployment at most: a larger number of pods is spread over several.
const REPLICAS: usize = 10_000;
/// Room for a range of addresses for each node.
const FLAGS: &[&str] = &["--cluster-cidr=10.128.0.0/9"];
/// Requests of the fleet under way at a time.
const REQUESTS: usize = 64;
/// Between two signs of life of a node; a node is taken for lost after 40 s.
const RENEW_EVERY: Duration = Duration::from_secs(15);
/// How long all pods of a measurement may take.
const TIMEOUT: Duration = Duration::from_secs(900);
/// For how long an idle cluster is watched, after this much time to come to rest.
const IDLE: Duration = Duration::from_secs(30);

pub async fn measure() -> Result<()> {
    binding().await?;
    time().await?;
    memory().await
}

/// `PODS` created and bound on `NODES` nodes that do nothing with them, again and again.
async fn binding() -> Result<()> {
    let mut rates = Vec::with_capacity(BINDING_ROUNDS);
    for _ in 0..BINDING_ROUNDS {
        let cluster = cluster::start(FLAGS);
        let mut fleet = Fleet::start(&cluster, NODES).await?;
        let run = fleet.run(PODS, false).await?;
        rates.push(PODS as f64 / run.bound.as_secs_f64());
        fleet.stop().await?;
    }
    println!(
        "fleet: {PODS} pods on {NODES} nodes: {:.0} created and bound/s ({:.0} to {:.0} in {BINDING_ROUNDS} rounds)",
        median(&rates),
        quantile(&rates, 0.0),
        quantile(&rates, 1.0),
    );
    Ok(())
}

/// `NODES` nodes, a Deployment of `PODS` whose nodes say that they are Ready, and then nothing.
async fn time() -> Result<()> {
    let cluster = cluster::start(FLAGS);
    let mut fleet = Fleet::start(&cluster, NODES).await?;
    let run = fleet.run(PODS, true).await?;
    println!("fleet: a Deployment of {PODS} pods on {NODES} nodes: all Ready after {:.1} s", run.ready.as_secs_f64());
    tokio::time::sleep(IDLE).await;
    let busy = cluster::busy(&cluster, IDLE).await?;
    println!(
        "fleet: idle with {NODES} nodes, whose leases are renewed every {RENEW_EVERY:?}: {:.2}% of a core",
        busy * 100.0
    );
    fleet.stop().await
}

async fn memory() -> Result<()> {
    let cluster = cluster::start(FLAGS);
    let mut fleet = Fleet::start(&cluster, MANY_NODES).await?;
    let before = Resident::of(cluster.process_id())?;
    let run = fleet.run(MANY_PODS, false).await?;
    let after = Resident::of(cluster.process_id())?;
    println!(
        "fleet: {MANY_PODS} pods on {MANY_NODES} nodes: {:.0} MB resident ({:.1} KiB a pod), bound after {:.0} s",
        after.total_kib as f64 * 1.024e-3,
        after.total_kib.saturating_sub(before.total_kib) as f64 / MANY_PODS as f64,
        run.bound.as_secs_f64(),
    );
    fleet.stop().await
}

/// From the creation of the Deployments.
struct Run {
    /// Until the last pod was bound.
    bound: Duration,
    /// Until the last pod was said to be Ready; the same where nobody says so.
    ready: Duration,
}

struct Fleet {
    client: Client,
    tasks: JoinSet<Result<()>>,
    stopped: Arc<AtomicBool>,
}

impl Fleet {
    /// Creates the nodes and begins to renew their leases.
    async fn start(cluster: &TestCluster, count: usize) -> Result<Self> {
        let client = cluster::administrator(cluster).await?;
        cluster::default_account(&client, "default").await?;
        // The node of the process itself is not to take part.
        let own: Api<Node> = Api::all(client.clone());
        for node in own.list(&ListParams::default()).await? {
            let cordon = json!({ "spec": { "unschedulable": true } });
            own.patch(&node.name_any(), &PatchParams::default(), &Patch::Merge(&cordon)).await?;
        }
        let stopped = Arc::new(AtomicBool::new(false));
        renew(&client, count, false).await?;
        create_nodes(&client, count).await?;
        let mut tasks = JoinSet::new();
        tasks.spawn(keep_alive(client.clone(), count, stopped.clone()));
        Ok(Self { client, tasks, stopped })
    }

    /// Creates Deployments of `count` pods together and waits until all are bound and, if the nodes are to say so, Ready.
    async fn run(&mut self, count: usize, ready: bool) -> Result<Run> {
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), "default");
        let version = pods.list(&ListParams::default()).await?.metadata.resource_version;
        let version = version.context("the list has no resourceVersion")?;
        let started = Instant::now();
        let deployments: Api<Deployment> = Api::namespaced(self.client.clone(), "default");
        for (index, first) in (0..count).step_by(REPLICAS).enumerate() {
            let object = deployment(&format!("app-{index}"), REPLICAS.min(count - first))?;
            deployments.create(&PostParams::default(), &object).await?;
        }
        let watched = watch(&pods, version, count, ready, started);
        tokio::time::timeout(TIMEOUT, watched).await.context("the pods were not all placed in time")?
    }

    async fn stop(mut self) -> Result<()> {
        self.stopped.store(true, Ordering::Relaxed);
        self.tasks.abort_all();
        while let Some(ended) = self.tasks.join_next().await {
            match ended {
                Ok(result) => result?,
                Err(error) if error.is_cancelled() => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }
}

/// Follows the pods until `count` of them are bound, and tells each one that is bound Ready if it is to be.
async fn watch(pods: &Api<Pod>, mut version: String, count: usize, ready: bool, started: Instant) -> Result<Run> {
    let (mut bound, mut told) = (HashSet::new(), JoinSet::new());
    let in_flight = Arc::new(tokio::sync::Semaphore::new(REQUESTS));
    let mut last_bound = Duration::ZERO;
    while bound.len() < count {
        let mut events = Box::pin(pods.watch(&WatchParams::default(), &version).await?);
        while let Some(event) = events.next().await {
            let pod = match event? {
                WatchEvent::Added(pod) | WatchEvent::Modified(pod) => pod,
                WatchEvent::Error(status) => bail!("the watch ended: {}", status.message),
                _ => continue,
            };
            version = pod.resource_version().unwrap_or(version);
            let is_bound = pod.spec.as_ref().is_some_and(|spec| spec.node_name.is_some());
            let name = pod.name_any();
            if !is_bound || !bound.insert(name.clone()) {
                continue;
            }
            last_bound = started.elapsed();
            if ready {
                let pods = pods.clone();
                let permit = in_flight.clone().acquire_owned().await?;
                told.spawn(async move {
                    let outcome = tell_ready(&pods, &name).await;
                    drop(permit);
                    outcome
                });
            }
            if bound.len() == count {
                break;
            }
        }
    }
    while let Some(outcome) = told.join_next().await {
        outcome??;
    }
    Ok(Run { bound: last_bound, ready: if ready { started.elapsed() } else { last_bound } })
}

async fn tell_ready(pods: &Api<Pod>, name: &str) -> Result<()> {
    let status = json!({ "status": {
        "phase": "Running", "podIP": "10.64.0.1", "podIPs": [{ "ip": "10.64.0.1" }],
        "conditions": [{ "type": "Ready", "status": "True" }],
    } });
    pods.patch_status(name, &PatchParams::default(), &Patch::Strategic(&status)).await?;
    Ok(())
}

fn name(index: usize) -> String {
    format!("fleet-{index:05}")
}

async fn create_nodes(client: &Client, count: usize) -> Result<()> {
    let nodes: Api<Node> = Api::all(client.clone());
    let create = |index: usize| {
        let nodes = nodes.clone();
        async move {
            let name = name(index);
            let amounts = json!({ "cpu": "32", "memory": "128Gi", "pods": "110" });
            let node = json!({
                "metadata": { "name": name, "labels": {
                    "kubernetes.io/hostname": name, "topology.kubernetes.io/zone": format!("zone-{}", index % 3),
                } },
                "status": {
                    "capacity": amounts, "allocatable": amounts,
                    "conditions": [{ "type": "Ready", "status": "True", "reason": "KubeletReady" }],
                },
            });
            let made: Node = serde_json::from_value(node)?;
            nodes.create(&PostParams::default(), &made).await?;
            // A create takes no taint away: the node controller does, once the status says Ready.
            let status = json!({ "status": made.status });
            nodes.patch_status(&name, &PatchParams::default(), &Patch::Strategic(&status)).await?;
            Ok(())
        }
    };
    stream::iter((0..count).map(create)).buffer_unordered(REQUESTS).try_collect().await
}

async fn keep_alive(client: Client, count: usize, stopped: Arc<AtomicBool>) -> Result<()> {
    while !stopped.load(Ordering::Relaxed) {
        let started = Instant::now();
        renew(&client, count, true).await?;
        tokio::time::sleep(RENEW_EVERY.saturating_sub(started.elapsed())).await;
    }
    Ok(())
}

/// Makes the leases of all nodes, or renews them.
async fn renew(client: &Client, count: usize, exists: bool) -> Result<()> {
    let leases: Api<Lease> = Api::namespaced(client.clone(), "kube-node-lease");
    let one = |index: usize| {
        let leases = leases.clone();
        async move {
            let name = name(index);
            let now = jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%S%.6fZ").to_string();
            let spec = json!({ "holderIdentity": name, "leaseDurationSeconds": 40, "renewTime": now });
            if exists {
                let patch = json!({ "spec": spec });
                leases.patch(&name, &PatchParams::default(), &Patch::Merge(&patch)).await?;
            } else {
                let lease = serde_json::from_value(json!({ "metadata": { "name": name }, "spec": spec }))?;
                leases.create(&PostParams::default(), &lease).await?;
            }
            Ok(())
        }
    };
    stream::iter((0..count).map(one)).buffer_unordered(REQUESTS).try_collect().await
}

fn deployment(name: &str, replicas: usize) -> Result<Deployment> {
    let resources = json!({ "requests": { "cpu": "100m", "memory": "64Mi" } });
    Ok(serde_json::from_value(json!({
        "metadata": { "name": name },
        "spec": {
            "replicas": replicas,
            "selector": { "matchLabels": { "app": name } },
            "template": {
                "metadata": { "labels": { "app": name } },
                "spec": { "containers": [{ "name": "c", "image": "example.com/app:1", "resources": resources }] },
            },
        },
    }))?)
}
