//! Memory of many idle component pods, and the time until all of them are Ready.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use k8s_openapi::api::apps::v1::Deployment;
use kube::Api;
use kube::api::PostParams;
use kube::runtime::wait::await_condition;
use serde_json::json;

use crate::cluster::{self, HELLO_IMAGE, Resident};

const PODS: i32 = 1_000;
/// How long the pods may take to become Ready.
const TIMEOUT: Duration = Duration::from_secs(300);
/// What a start, or the last pod's start, leaves to do is done by then.
const SETTLE: Duration = Duration::from_secs(10);

pub async fn measure() -> Result<()> {
    let cluster = cluster::start(&["--max-pods", "1100"]);
    cluster.load_image(&cluster::hello().join("hello.wasm"), HELLO_IMAGE);
    let client = cluster::administrator(&cluster).await?;
    cluster::default_account(&client, "default").await?;
    tokio::time::sleep(SETTLE).await;
    let before = Resident::of(cluster.process_id())?;

    let deployments: Api<Deployment> = Api::namespaced(client, "default");
    let started = Instant::now();
    deployments.create(&PostParams::default(), &deployment()?).await?;
    let available = await_condition(deployments, "density", |deployment: Option<&Deployment>| {
        let status = deployment.and_then(|deployment| deployment.status.as_ref());
        status.and_then(|status| status.available_replicas) == Some(PODS)
    });
    tokio::time::timeout(TIMEOUT, available).await.context("the pods did not become available")??;
    let took = started.elapsed();

    tokio::time::sleep(SETTLE).await;
    let after = Resident::of(cluster.process_id())?;
    let per_pod = |after: u64, before: u64| after.saturating_sub(before) as f64 / f64::from(PODS);
    println!(
        "density: {PODS} idle pods take {:.1} MB ({:.1} KiB resident, {:.1} KiB anonymous each), all Ready after {:.1} s \
         ({:.0} pods/s)",
        after.total_kib.saturating_sub(before.total_kib) as f64 * 1.024e-3,
        per_pod(after.total_kib, before.total_kib),
        per_pod(after.anonymous_kib, before.anonymous_kib),
        took.as_secs_f64(),
        f64::from(PODS) / took.as_secs_f64(),
    );
    Ok(())
}

fn deployment() -> Result<Deployment> {
    Ok(serde_json::from_value(json!({
        "metadata": { "name": "density" },
        "spec": {
            "replicas": PODS,
            "selector": { "matchLabels": { "app": "density" } },
            "template": {
                "metadata": { "labels": { "app": "density" } },
                "spec": {
                    "runtimeClassName": "wasmtime",
                    "containers": [{ "name": "hello", "image": HELLO_IMAGE, "ports": [{ "containerPort": 8080 }] }],
                },
            },
        },
    }))?)
}
