//! How long one pod takes from its creation to Ready, with its image and machine code cached, as a watch shows it.

use std::pin::Pin;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use futures::{Stream, StreamExt};
use k8s_openapi::api::core::v1::Pod;
use k8w_testkit::TestCluster;
use kube::api::{ListParams, PostParams, WatchEvent, WatchParams};
use kube::{Api, ResourceExt};
use serde_json::json;

use crate::cluster::{self, HELLO_IMAGE, TIMEOUT};
use crate::stats::{milliseconds, quantile};

/// Pods that count, one after another; each stays.
const PODS: usize = 200;
/// Pods before those: the first compiles the component.
const WARM_UP_PODS: usize = 10;

type Events = Pin<Box<dyn Stream<Item = kube::Result<WatchEvent<Pod>>> + Send>>;

/// When a pod got how far, from the moment at which its creation was asked for.
struct Steps {
    /// The create was answered.
    created: Duration,
    /// The watch showed it bound to a node.
    scheduled: Duration,
    /// The watch showed it Ready.
    ready: Duration,
}

pub async fn measure() -> Result<()> {
    let cluster = cluster::start(&[]);
    let steps = run(&cluster).await?;
    let line = |name: &str, step: fn(&Steps) -> Duration| {
        let samples: Vec<Duration> = steps.iter().map(step).collect();
        let [p50, p99] = [0.5, 0.99].map(|share| milliseconds(quantile(&samples, share)));
        println!("  {name:<16} p50 {p50:>9}   p99 {p99:>9}");
    };
    println!("pod: from creation, {PODS} pods one after another");
    line("create answered", |steps| steps.created);
    line("scheduled", |steps| steps.scheduled);
    line("ready", |steps| steps.ready);
    Ok(())
}

async fn run(cluster: &TestCluster) -> Result<Vec<Steps>> {
    cluster.load_image(&cluster::hello().join("hello.wasm"), HELLO_IMAGE);
    let client = cluster::administrator(cluster).await?;
    cluster::default_account(&client, "default").await?;
    let pods: Api<Pod> = Api::namespaced(client, "default");
    let listed = pods.list(&ListParams::default()).await?;
    let version = listed.metadata.resource_version.context("the list has no resourceVersion")?;
    let mut events: Events = Box::pin(pods.watch(&WatchParams::default(), &version).await?);
    let mut steps = Vec::with_capacity(PODS);
    for number in 0..WARM_UP_PODS + PODS {
        let name = format!("pod-{number}");
        let one = tokio::time::timeout(TIMEOUT, one(&pods, &mut events, &name)).await;
        let one = one.with_context(|| format!("{name} is not ready"))??;
        if number >= WARM_UP_PODS {
            steps.push(one);
        }
    }
    Ok(steps)
}

async fn one(pods: &Api<Pod>, events: &mut Events, name: &str) -> Result<Steps> {
    let pod: Pod = serde_json::from_value(json!({
        "metadata": { "name": name },
        "spec": {
            "runtimeClassName": "wasmtime",
            "containers": [{ "name": "hello", "image": HELLO_IMAGE, "ports": [{ "containerPort": 8080 }] }],
        },
    }))?;
    let started = Instant::now();
    pods.create(&PostParams::default(), &pod).await?;
    let created = started.elapsed();
    let mut scheduled = None;
    loop {
        let pod = match events.next().await.context("the watch ended")?? {
            WatchEvent::Added(pod) | WatchEvent::Modified(pod) if pod.name_any() == name => pod,
            WatchEvent::Error(status) => bail!("the watch failed: {}", status.message),
            _ => continue,
        };
        if scheduled.is_none() && pod.spec.as_ref().is_some_and(|spec| spec.node_name.is_some()) {
            scheduled = Some(started.elapsed());
        }
        let conditions = pod.status.and_then(|status| status.conditions).unwrap_or_default();
        if conditions.iter().any(|condition| condition.type_ == "Ready" && condition.status == "True") {
            let ready = started.elapsed();
            return Ok(Steps { created, scheduled: scheduled.unwrap_or(ready), ready });
        }
    }
}
