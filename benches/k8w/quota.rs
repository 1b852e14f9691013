//! How close to its limit a container's CPU time is: one that runs without end, one of short requests, and a pod of both.
//! It is what the node counts; of the endless loop, beside which this process does nothing else, also what the kernel counts.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Result;
use k8w_runtime::engine::{ContainerId, ContainerSpec, Limits};
use tokio_util::task::AbortOnDropHandle;

use crate::cluster;
use crate::guests;
use crate::node::{Node, Running, get};

const LIMITS_MILLIS: [u32; 3] = [100, 500, 1_000];
/// How long each is looked at; `K8W_BENCH_SECONDS` sets another time.
const MEASURED: Duration = Duration::from_secs(10);
/// The burst that a container has saved up when it starts is spent by then.
const SETTLE: Duration = Duration::from_millis(500);
/// Who sends short requests, each one after another.
const CALLERS: usize = 4;

pub async fn measure() -> Result<()> {
    let measured = crate::seconds()?.unwrap_or(MEASURED);
    let folder = tempfile::Builder::new().prefix("k8w-bench-").tempdir()?;
    let spinner = std::fs::read(guests::build("probe", folder.path())?)?;
    let hello = std::fs::read(cluster::hello().join("hello.wasm"))?;
    let node = Arc::new(Node::start()?);
    println!("quota: CPU time used of what the limit allows in {measured:?}");
    for limit in LIMITS_MILLIS {
        let spinning = start(&node, &spinner, |_| limit_of_container(limit)).await?;
        let alone = used(&node, &[&spinning], limit, measured).await?;
        node.stop(&spinning).await?;

        let serving = start(&node, &hello, |_| limit_of_container(limit)).await?;
        let callers = call(&node, &serving);
        let short = used(&node, &[&serving], limit, measured).await?;
        drop(callers);
        node.stop(&serving).await?;

        // The limit is the pod's, whoever of its containers takes it.
        let of_pod = || Limits { pod_cpu_millis: Some(limit), ..Limits::default() };
        let spinning = start(&node, &spinner, |_| of_pod()).await?;
        let beside = |spec: &mut ContainerSpec| {
            spec.id = ContainerId { container: "beside".to_owned(), ..spinning.id.clone() };
            spec.pod = spinning.pod.clone();
            of_pod()
        };
        let serving = start(&node, &hello, beside).await?;
        let callers = call(&node, &serving);
        let mix = used(&node, &[&spinning, &serving], limit, measured).await?;
        drop(callers);
        node.stop(&spinning).await?;
        node.stop(&serving).await?;
        println!(
            "  {limit:>5}m: an endless loop {:+.1}% (the whole process {:+.1}%), short requests {:+.1}%, a mix {:+.1}%",
            error(alone.counted),
            error(alone.process),
            error(short.counted),
            error(mix.counted)
        );
    }
    Ok(())
}

fn limit_of_container(limit_millis: u32) -> Limits {
    Limits { cpu_millis: Some(limit_millis), ..Limits::default() }
}

/// Starts a container with the limits that `change` gives it, whatever else that changes.
async fn start(node: &Node, wasm: &[u8], change: impl FnOnce(&mut ContainerSpec) -> Limits) -> Result<Running> {
    let change = |spec: &mut ContainerSpec| {
        spec.limits = change(spec);
        spec.argv.push("spin".to_owned());
        // Hello has no command.
        spec.force_command = true;
    };
    node.run(wasm, change).await
}

/// Requests without a pause, until the handles are dropped.
fn call(node: &Arc<Node>, server: &Running) -> Vec<AbortOnDropHandle<()>> {
    let caller = || {
        let (node, url) = (node.clone(), server.url());
        AbortOnDropHandle::new(tokio::spawn(async move { while get(&node.network, None, &url).await.is_ok() {} }))
    };
    (0..CALLERS).map(|_| caller()).collect()
}

/// Parts of what a limit allows.
struct Used {
    /// By the containers together, as the node counts it.
    counted: f64,
    /// By this whole process.
    process: f64,
}

async fn used(node: &Node, running: &[&Running], limit_millis: u32, time: Duration) -> Result<Used> {
    tokio::time::sleep(SETTLE).await;
    let (counted, process, begun) = (counted_nanos(node, running).await?, process_nanos()?, Instant::now());
    tokio::time::sleep(time).await;
    let (counted, process) = (counted_nanos(node, running).await? - counted, process_nanos()? - process);
    let allowed = begun.elapsed().as_nanos() as f64 * f64::from(limit_millis) / 1e3;
    Ok(Used { counted: counted as f64 / allowed, process: process as f64 / allowed })
}

/// CPU time of these containers, as the node counts it.
async fn counted_nanos(node: &Node, running: &[&Running]) -> Result<u64> {
    let mut nanos = 0;
    for running in running {
        nanos += node.stats(running).await?.cpu_usage_nanos;
    }
    Ok(nanos)
}

/// CPU time of this process.
fn process_nanos() -> Result<u64> {
    let now = Duration::from(nix::time::clock_gettime(nix::time::ClockId::CLOCK_PROCESS_CPUTIME_ID)?);
    Ok(u64::try_from(now.as_nanos())?)
}

fn error(part: f64) -> f64 {
    (part - 1.0) * 100.0
}
