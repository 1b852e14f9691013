//! How close to its limit a container's CPU time is: one that runs without end, one of short requests, and both at once.
//! It is what the node counts; of the endless loop, beside which this process does nothing else, also what the kernel counts.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Result;
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
        let spinning = start(&node, &spinner, limit).await?;
        let alone = used(&node, &spinning, limit, measured).await?;
        node.stop(&spinning).await?;

        let serving = start(&node, &hello, limit).await?;
        let callers = call(&node, &serving);
        let short = used(&node, &serving, limit, measured).await?;
        drop(callers);
        node.stop(&serving).await?;

        // Both kinds at a time, each within its own limit of half as much.
        let half = limit / 2;
        let (spinning, serving) = (start(&node, &spinner, half).await?, start(&node, &hello, half).await?);
        let callers = call(&node, &serving);
        let mix = tokio::try_join!(used(&node, &spinning, half, measured), used(&node, &serving, half, measured))?;
        drop(callers);
        node.stop(&spinning).await?;
        node.stop(&serving).await?;
        println!(
            "  {limit:>5}m: an endless loop {:+.1}% (the whole process {:+.1}%), short requests {:+.1}%, a mix {:+.1}% and {:+.1}%",
            error(alone.counted),
            error(alone.process),
            error(short.counted),
            error(mix.0.counted),
            error(mix.1.counted)
        );
    }
    Ok(())
}

async fn start(node: &Node, wasm: &[u8], limit_millis: u32) -> Result<Running> {
    let change = |spec: &mut k8w_runtime::engine::ContainerSpec| {
        spec.limits.cpu_millis = Some(limit_millis);
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
    /// By the container, as the node counts it.
    counted: f64,
    /// By this whole process.
    process: f64,
}

async fn used(node: &Node, running: &Running, limit_millis: u32, time: Duration) -> Result<Used> {
    tokio::time::sleep(SETTLE).await;
    let (counted, process, begun) = (node.stats(running).await?.cpu_usage_nanos, process_nanos()?, Instant::now());
    tokio::time::sleep(time).await;
    let (counted, process) = (node.stats(running).await?.cpu_usage_nanos - counted, process_nanos()? - process);
    let allowed = begun.elapsed().as_nanos() as f64 * f64::from(limit_millis) / 1e3;
    Ok(Used { counted: counted as f64 / allowed, process: process as f64 / allowed })
}

/// CPU time of this process.
fn process_nanos() -> Result<u64> {
    let now = Duration::from(nix::time::clock_gettime(nix::time::ClockId::CLOCK_PROCESS_CPUTIME_ID)?);
    Ok(u64::try_from(now.as_nanos())?)
}

fn error(part: f64) -> f64 {
    (part - 1.0) * 100.0
}
