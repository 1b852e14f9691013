//! 200 pods a second, offered for a minute: how long each takes to be Ready from when it was due.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use futures::StreamExt;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{ListParams, PostParams, WatchEvent, WatchParams};
use kube::{Api, ResourceExt};
use serde_json::json;
use tokio::task::JoinSet;

use crate::cluster::{self, HELLO_IMAGE};
use crate::stats::{milliseconds, quantile};

const PER_SECOND: u32 = 200;
/// For how long; `K8W_BENCH_SECONDS` sets another time.
const OFFERED: Duration = Duration::from_secs(60);
/// Pods that the node takes.
const MAX_PODS: &str = "14000";
/// A pod that is not Ready by then never is.
const TIMEOUT: Duration = Duration::from_secs(120);

pub async fn measure() -> Result<()> {
    let offered = crate::seconds()?.unwrap_or(OFFERED);
    let cluster = cluster::start(&["--max-pods", MAX_PODS]);
    cluster.load_image(&cluster::hello().join("hello.wasm"), HELLO_IMAGE);
    let client = cluster::administrator(&cluster).await?;
    cluster::default_account(&client, "default").await?;
    let pods: Api<Pod> = Api::namespaced(client, "default");
    let listed = pods.list(&ListParams::default()).await?;
    let version = listed.metadata.resource_version.context("the list has no resourceVersion")?;

    let count = (offered.as_secs_f64() * f64::from(PER_SECOND)) as u32;
    let begin = Instant::now() + Duration::from_secs(1);
    let due = |number: u32| begin + Duration::from_secs(1) * number / PER_SECOND;
    let watching = tokio::spawn(watch(pods.clone(), version, count as usize));
    let mut creating: JoinSet<kube::Result<()>> = JoinSet::new();
    for number in 0..count {
        tokio::time::sleep_until(due(number).into()).await;
        let (pods, pod) = (pods.clone(), pod(number)?);
        creating.spawn(async move { pods.create(&PostParams::default(), &pod).await.map(drop) });
    }
    creating.join_all().await.into_iter().collect::<kube::Result<()>>()?;
    let ready = tokio::time::timeout(TIMEOUT, watching).await.context("not all pods are ready")???;
    let took = |number: u32| {
        let at = ready.get(&name(number)).context("a pod is missing")?;
        anyhow::Ok(at.saturating_duration_since(due(number)))
    };
    let samples = (0..count).map(took).collect::<Result<Vec<_>>>()?;
    let [p50, p99, most] = [0.5, 0.99, 1.0].map(|share| milliseconds(quantile(&samples, share)));
    println!(
        "pod-rate: {PER_SECOND} pods/s offered for {offered:?}: Ready after {p50} (p50), {p99} (p99), {most} (most)"
    );
    Ok(())
}

/// When each pod was Ready.
async fn watch(pods: Api<Pod>, mut version: String, count: usize) -> Result<HashMap<String, Instant>> {
    let mut ready = HashMap::new();
    while ready.len() < count {
        let mut events = Box::pin(pods.watch(&WatchParams::default(), &version).await?);
        while let Some(event) = events.next().await {
            let pod = match event? {
                WatchEvent::Added(pod) | WatchEvent::Modified(pod) => pod,
                WatchEvent::Error(status) => bail!("the watch ended: {}", status.message),
                _ => continue,
            };
            version = pod.resource_version().unwrap_or(version);
            let conditions = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
            if conditions.into_iter().any(|condition| condition.type_ == "Ready" && condition.status == "True") {
                ready.entry(pod.name_any()).or_insert_with(Instant::now);
            }
            if ready.len() == count {
                break;
            }
        }
    }
    Ok(ready)
}

fn name(number: u32) -> String {
    format!("pod-{number}")
}

fn pod(number: u32) -> Result<Pod> {
    let container = json!({ "name": "hello", "image": HELLO_IMAGE, "ports": [{ "containerPort": 8080 }] });
    Ok(serde_json::from_value(json!({
        "metadata": { "name": name(number) },
        "spec": { "runtimeClassName": "wasmtime", "containers": [container] },
    }))?)
}
