//! How close to its limit a container's CPU time is: one that runs without end, one of short requests, and both at once.

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
            "  {limit:>5}m: an endless loop {:+.1}%, short requests {:+.1}%, a mix {:+.1}%",
            error(alone),
            error(short),
            error((mix.0 + mix.1) / 2.0)
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

/// The part of its quota that a container uses.
async fn used(node: &Node, running: &Running, limit_millis: u32, time: Duration) -> Result<f64> {
    tokio::time::sleep(SETTLE).await;
    let (before, begun) = (node.stats(running).await?.cpu_usage_nanos, Instant::now());
    tokio::time::sleep(time).await;
    let used = node.stats(running).await?.cpu_usage_nanos - before;
    Ok(used as f64 / (begun.elapsed().as_nanos() as f64 * f64::from(limit_millis) / 1e3))
}

fn error(part: f64) -> f64 {
    (part - 1.0) * 100.0
}
