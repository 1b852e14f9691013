//! Requests per second through the ingress to a component, beside `wasmtime serve` with the same component, also behind
//! other proxies.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use k8w_testkit::{ClusterOptions, Process, TestCluster};
use tempfile::TempDir;

use crate::cluster::{self, BINARY, TIMEOUT};
use crate::compare::compare;
use crate::fronts::FRONTS;
use crate::http1::Http1;

/// Names the peer: a `wasmtime` of the version that k8w is built with.
const PEER: &str = "K8W_BENCH_WASMTIME";
const CONNECTIONS: usize = 32;

pub async fn measure() -> Result<()> {
    let Ok(wasmtime) = std::env::var(PEER) else {
        println!("ingress: skipped, because {PEER} does not name a wasmtime to compare with (see docs/bench.md)");
        return Ok(());
    };
    same_version(&wasmtime)?;
    let cluster =
        TestCluster::start(BINARY, ClusterOptions { dir: Some(cluster::hello()), ..ClusterOptions::default() });
    let peer = WasmtimeServe::start(&wasmtime)?;
    beside(&cluster, "wasmtime serve", peer.address).await?;
    for front in &FRONTS {
        match front.start(peer.address)? {
            Some(running) => beside(&cluster, &format!("{} and wasmtime serve", front.name), running.address).await?,
            None => println!("ingress: {} is not measured, because {} does not name it", front.name, front.variable),
        }
    }
    Ok(())
}

/// Another version would be another engine.
fn same_version(wasmtime: &str) -> Result<()> {
    let packages = include_str!("../../Cargo.lock").split("[[package]]");
    let ours = packages.filter_map(|package| package.strip_prefix("\nname = \"wasmtime\"\nversion = \"")).next();
    let ours = ours.and_then(|rest| rest.split('"').next()).context("Cargo.lock has no wasmtime")?;
    let said = std::process::Command::new(wasmtime).arg("--version").output().with_context(|| wasmtime.to_owned())?;
    let theirs = String::from_utf8(said.stdout)?;
    match theirs.split_whitespace().nth(1) {
        Some(version) if version == ours => Ok(()),
        _ => bail!("{wasmtime} is {:?}, and k8w is built with wasmtime {ours}", theirs.trim()),
    }
}

async fn beside(cluster: &TestCluster, name: &str, address: SocketAddr) -> Result<()> {
    let ours = Http1::open(CONNECTIONS, cluster.ingress_http(), "hello.localhost").await?;
    let theirs = Http1::open(CONNECTIONS, address, "hello.localhost").await?;
    let what = format!("ingress: hello over {CONNECTIONS} connections");
    compare(&what, ("k8w", ours), (name, theirs)).await
}

/// `wasmtime serve` with hello, as k8w runs it: an instance per request, epochs on, a time limit per request.
struct WasmtimeServe {
    _process: Process,
    _folder: TempDir,
    address: SocketAddr,
}

impl WasmtimeServe {
    fn start(wasmtime: &str) -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("k8w-bench-").tempdir()?;
        let (stdout, stderr) = (folder.path().join("stdout"), folder.path().join("stderr"));
        let hello = cluster::hello().join("hello.wasm").display().to_string();
        let limits = ["serve", "--addr", "127.0.0.1:0", "--max-instance-reuse-count", "1", "-W", "timeout=60s"];
        // As long a name as a pod's, so that the answers have the same length.
        let environment = ["-S", "cli", "--env", "POD_NAME=hello-0123456789-abcde", &hello];
        let arguments: Vec<String> = limits.into_iter().chain(environment).map(String::from).collect();
        let mut process = Process::start(wasmtime, &arguments, &stdout, &stderr)?;
        let started = Instant::now();
        loop {
            let printed = std::fs::read_to_string(&stderr)?;
            if let Some(url) = printed.lines().find_map(|line| line.strip_prefix("Serving HTTP on http://")) {
                let address = url.trim_end_matches('/').parse().with_context(|| format!("no address: {url}"))?;
                return Ok(Self { _process: process, _folder: folder, address });
            }
            if process.ended().is_some() || started.elapsed() > TIMEOUT {
                bail!("{wasmtime} does not serve:\n{printed}");
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}
