//! Many pods on one node: servers of a hundred components that are probed and now and then called, and as many processes as
//! the machine has room for.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use futures::{StreamExt, TryStreamExt, stream};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Pod, Service};
use k8s_openapi::api::networking::v1::Ingress;
use k8w_testkit::TestCluster;
use kube::api::{ListParams, PostParams};
use kube::{Api, Client};
use serde_json::json;

use crate::cluster::{self, Resident};
use crate::guests;
use crate::open_loop::OpenLoop;
use crate::stats::{milliseconds, quantile};

/// Deployments, each with a component of its own, and the replicas of each.
const COMPONENTS: usize = 100;
const REPLICAS: usize = 100;
const PODS: usize = COMPONENTS * REPLICAS;
/// Requests a second to one Deployment's pods, which are 1 % of all.
const TRAFFIC_PER_SECOND: f64 = 500.0;
/// More processes than any node has room for.
const PROCESSES: usize = 10_000;
/// How long pods may take.
const TIMEOUT: Duration = Duration::from_secs(900);
/// What starts leave to do is done by then.
const SETTLE: Duration = Duration::from_secs(20);
/// For how long CPU time is counted.
const IDLE: Duration = Duration::from_secs(30);

/// Servers.
pub async fn measure() -> Result<()> {
    let cluster = cluster::start(&["--max-pods", "10100"]);
    load_components(&cluster)?;
    let client = cluster::administrator(&cluster).await?;
    cluster::default_account(&client, "default").await?;
    let before = Resident::of(cluster.process_id())?;
    let started = Instant::now();
    let deployments: Api<Deployment> = Api::namespaced(client.clone(), "default");
    for number in 0..COMPONENTS {
        deployments.create(&PostParams::default(), &deployment(number)?).await?;
    }
    ready(&deployments).await?;
    let took = started.elapsed();
    tokio::time::sleep(SETTLE).await;
    let after = Resident::of(cluster.process_id())?;
    let per_pod = |after: u64, before: u64| after.saturating_sub(before) as f64 / PODS as f64;
    println!(
        "crowd: {PODS} pods of {COMPONENTS} components, probed every 10 s: all Ready after {:.0} s; {:.0} MB resident, \
         {:.0} MB of it anonymous ({:.1} KiB and {:.1} KiB a pod)",
        took.as_secs_f64(),
        after.total_kib as f64 * 1.024e-3,
        after.anonymous_kib as f64 * 1.024e-3,
        per_pod(after.total_kib, before.total_kib),
        per_pod(after.anonymous_kib, before.anonymous_kib),
    );
    println!("crowd: idle but for the probes: {:.0}% of a core", cluster::busy(&cluster, IDLE).await? * 100.0);

    expose(&client).await?;
    let load = OpenLoop {
        address: cluster.ingress_http(),
        host: "crowd.localhost".to_owned(),
        connections: 8,
        per_second: TRAFFIC_PER_SECOND,
    };
    let samples = load.run(IDLE).await?;
    let [p50, p99] = [0.5, 0.99].map(|share| milliseconds(quantile(&samples, share)));
    println!("crowd: {TRAFFIC_PER_SECOND:.0} requests/s to 1% of them: p50 {p50}, p99 {p99}");
    Ok(())
}

/// Programs like hello, of which each answers with a number of its own.
fn load_components(cluster: &TestCluster) -> Result<()> {
    const WORDS: &[u8] = b"you asked for";
    let folder = tempfile::Builder::new().prefix("k8w-bench-").tempdir()?;
    let hello = std::fs::read(cluster::hello().join("hello.wasm"))?;
    let places: Vec<usize> = (0..hello.len()).filter(|place| hello[*place..].starts_with(WORDS)).collect();
    ensure!(!places.is_empty(), "hello says something else");
    for number in 0..COMPONENTS {
        let (mut program, own) = (hello.clone(), format!("{number:03}"));
        for place in &places {
            program[*place..][..own.len()].copy_from_slice(own.as_bytes());
        }
        let wasm = folder.path().join(format!("{own}.wasm"));
        std::fs::write(&wasm, program)?;
        cluster.load_image(&wasm, &image(number));
    }
    Ok(())
}

fn image(number: usize) -> String {
    format!("localhost/crowd-{number}:latest")
}

async fn ready(deployments: &Api<Deployment>) -> Result<()> {
    let all = async {
        loop {
            let list = deployments.list(&ListParams::default()).await?;
            let ready = list.items.iter().filter_map(|deployment| deployment.status.as_ref()?.ready_replicas);
            if ready.sum::<i32>() as usize == PODS {
                return anyhow::Ok(());
            }
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    };
    tokio::time::timeout(TIMEOUT, all).await.context("the pods did not become ready")?
}

fn deployment(number: usize) -> Result<Deployment> {
    let name = format!("crowd-{number}");
    let probe = json!({ "httpGet": { "path": "/", "port": 8080 }, "periodSeconds": 10 });
    let container = json!({
        "name": "hello", "image": image(number), "ports": [{ "containerPort": 8080 }],
        "readinessProbe": probe, "livenessProbe": probe,
    });
    Ok(serde_json::from_value(json!({
        "metadata": { "name": name },
        "spec": {
            "replicas": REPLICAS,
            "selector": { "matchLabels": { "app": name } },
            "template": {
                "metadata": { "labels": { "app": name } },
                "spec": { "runtimeClassName": "wasmtime", "containers": [container] },
            },
        },
    }))?)
}

/// Leads the ingress to one Deployment's pods.
async fn expose(client: &Client) -> Result<()> {
    let services: Api<Service> = Api::namespaced(client.clone(), "default");
    let service = json!({
        "metadata": { "name": "crowd" },
        "spec": { "selector": { "app": "crowd-0" }, "ports": [{ "port": 80, "targetPort": 8080 }] },
    });
    services.create(&PostParams::default(), &serde_json::from_value(service)?).await?;
    let ingresses: Api<Ingress> = Api::namespaced(client.clone(), "default");
    let backend = json!({ "service": { "name": "crowd", "port": { "number": 80 } } });
    let paths = json!([{ "path": "/", "pathType": "Prefix", "backend": backend }]);
    let ingress = json!({
        "metadata": { "name": "crowd" },
        "spec": { "rules": [{ "host": "crowd.localhost", "http": { "paths": paths } }] },
    });
    ingresses.create(&PostParams::default(), &serde_json::from_value(ingress)?).await?;
    // Until the node's tables have both.
    tokio::time::sleep(Duration::from_secs(2)).await;
    Ok(())
}

/// Processes, until the node refuses one.
pub async fn measure_live() -> Result<()> {
    let folder = tempfile::Builder::new().prefix("k8w-bench-").tempdir()?;
    let probe = guests::build("probe", folder.path())?;
    let cluster = cluster::start(&["--max-pods", "10100"]);
    const IMAGE: &str = "localhost/sleeper:latest";
    cluster.load_image(&probe, IMAGE);
    let client = cluster::administrator(&cluster).await?;
    cluster::default_account(&client, "default").await?;
    let pods: Api<Pod> = Api::namespaced(client, "default");
    let before = Resident::of(cluster.process_id())?;
    let started = Instant::now();
    let create = |number: usize| {
        let pods = pods.clone();
        async move {
            let pod = guests::command(&format!("sleeper-{number}"), IMAGE, &["sleep"], &json!({}))?;
            pods.create(&PostParams::default(), &pod).await?;
            anyhow::Ok(())
        }
    };
    stream::iter((0..PROCESSES).map(create)).buffer_unordered(64).try_collect::<()>().await?;
    let (running, refused) = settled(&pods).await?;
    let took = started.elapsed();
    tokio::time::sleep(SETTLE).await;
    let after = Resident::of(cluster.process_id())?;
    println!(
        "live: {running} processes run after {:.0} s, {} are refused; {:.0} MB resident, {:.1} KiB a live pod; {} memory \
         mappings of at most {}",
        took.as_secs_f64(),
        PROCESSES - running,
        after.total_kib as f64 * 1.024e-3,
        after.total_kib.saturating_sub(before.total_kib) as f64 / running as f64,
        mappings(cluster.process_id())?,
        std::fs::read_to_string("/proc/sys/vm/max_map_count")?.trim(),
    );
    println!("live: the others wait with \"{}\"", refused.context("no pod was refused")?);
    Ok(())
}

/// How many run and what another waits for, once every pod does either.
async fn settled(pods: &Api<Pod>) -> Result<(usize, Option<String>)> {
    let all = async {
        loop {
            let list = pods.list(&ListParams::default()).await?;
            let states = list
                .items
                .iter()
                .filter_map(|pod| pod.status.as_ref()?.container_statuses.as_ref()?.first()?.state.as_ref());
            let (mut running, mut refused) = (0, Vec::new());
            for state in states {
                match &state.waiting {
                    None => running += 1,
                    Some(waiting) => refused.extend(waiting.message.clone()),
                }
            }
            if running + refused.len() == PROCESSES {
                return anyhow::Ok((running, refused.pop()));
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    };
    tokio::time::timeout(TIMEOUT, all).await.context("the pods neither run nor are refused")?
}

fn mappings(process: u32) -> Result<usize> {
    let maps = std::fs::read_to_string(Path::new("/proc").join(process.to_string()).join("maps"))?;
    Ok(maps.lines().count())
}
