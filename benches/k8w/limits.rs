//! What a pod feels of a neighbour that takes all it can get: hello at half its capacity, alone and beside each of them, in
//! turn.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};
use k8s_openapi::api::core::v1::Pod;
use k8w_testkit::{ClusterOptions, TestCluster};
use kube::Api;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};
use tokio_util::task::AbortOnDropHandle;

use crate::cluster::{self, BINARY};
use crate::compare::rate;
use crate::guests;
use crate::http1::Http1;
use crate::open_loop::OpenLoop;
use crate::stats::{around_median, median, quantile};

/// How long hello is measured alone and beside each neighbour, all rounds together; `K8W_BENCH_SECONDS` sets another time.
const MEASURED: Duration = Duration::from_secs(30);
/// How long a round alone or beside a neighbour is. The machine may be busy otherwise: ratios of neighbouring rounds suffer least
/// from it, and the more of them there are, the less it matters that one is disturbed.
const ROUND: Duration = Duration::from_secs(3);
/// However short the time is.
const LEAST_ROUNDS: u32 = 3;
/// Words of which a neighbour's name has one, if not all neighbours are measured.
const ROWS: &str = "K8W_BENCH_ROWS";
/// A neighbour has this long before anything is measured, and what it leaves behind as long after its end: a container's start is
/// promised more than what comes after it (`runtime/src/wasm/cpu.rs`), the node and the API are busy with it, and both would be
/// a larger part of a round than of [`MEASURED`].
const SETTLED: Duration = Duration::from_secs(2);
const CONNECTIONS: u32 = 32;
const HOST: &str = "hello.localhost";
const IMAGE: &str = "localhost/neighbour:latest";
const HEADER_BYTES: usize = 100 << 20;
/// A client sends that many so often.
const HEADERS_EVERY: Duration = Duration::from_millis(500);

/// What runs beside hello.
enum Neighbour {
    /// A pod within [`limits`], and what its command is told.
    Limited(&'static [&'static str]),
    /// A pod without any.
    Free(&'static [&'static str]),
    /// A pod within limits, to which a client sends headers as well.
    Headers(&'static [&'static str]),
    /// The peer: a script of the shell, outside of k8w, to which the kernel gives what nobody else wants.
    Process(&'static str),
    /// Another: a script within the kernel's own quota ([`ControlGroup`]), as containers of processes are limited.
    Quota(&'static str),
}

const NEIGHBOURS: [(&str, Neighbour); 11] = [
    // What this figure is when there is no harm: the machine's own noise.
    ("a process that sleeps", Neighbour::Limited(&["sleep"])),
    ("an endless loop", Neighbour::Limited(&["spin"])),
    ("  without limits", Neighbour::Free(&["spin"])),
    ("  outside of k8w", Neighbour::Process("while :; do :; done")),
    ("  in a control group", Neighbour::Quota("while :; do :; done")),
    ("a memory bomb", Neighbour::Limited(&["bomb"])),
    ("  without limits", Neighbour::Free(&["bomb"])),
    ("  outside of k8w", Neighbour::Process("ulimit -v 65536; while :; do tail /dev/zero 2>/dev/null; done")),
    ("10,000 socket opens", Neighbour::Limited(&["open", "10000"])),
    ("a log of 1 GB", Neighbour::Limited(&["write", "1000"])),
    ("headers of 100 MB", Neighbour::Headers(&["headers", "100"])),
];

/// What a small pod is given.
fn limits() -> Value {
    json!({ "limits": { "cpu": "100m", "memory": "64Mi" } })
}

pub async fn measure() -> Result<()> {
    let folder = tempfile::Builder::new().prefix("k8w-bench-").tempdir()?;
    let neighbour = guests::build("probe", folder.path())?;
    let dir = Some(cluster::hello());
    let cluster = TestCluster::start(BINARY, ClusterOptions { dir, ..ClusterOptions::default() });
    cluster.load_image(&neighbour, IMAGE);
    let pods: Api<Pod> = Api::namespaced(cluster::administrator(&cluster).await?, "default");

    let ingress = cluster.ingress_http();
    let mut clients = Http1::open(CONNECTIONS as usize, ingress, HOST).await?;
    // The first seconds are slower.
    rate(&mut clients).await?;
    let per_second = rate(&mut clients).await? / 2.0;
    let load = OpenLoop { address: ingress, host: HOST.to_owned(), connections: CONNECTIONS, per_second };
    let measured = crate::seconds()?.unwrap_or(MEASURED);
    let rounds = u32::try_from(measured.as_secs() / ROUND.as_secs()).unwrap_or(u32::MAX).max(LEAST_ROUNDS);
    let round = measured / rounds;
    let wanted = std::env::var(ROWS).unwrap_or_default();
    let is_wanted = |what: &str| wanted.is_empty() || wanted.split_whitespace().any(|word| what.contains(word));
    println!(
        "limits: hello at {per_second:.0} requests/s, half of what it can; p50 and p99 alone, then beside a pod with"
    );
    for (what, neighbour) in NEIGHBOURS.iter().filter(|(what, _)| is_wanted(what)) {
        let group = match neighbour {
            Neighbour::Quota(_) => match ControlGroup::make() {
                Ok(group) => Some(group),
                Err(error) => {
                    println!("  {what:<21} skipped: no control group can be made here: {error}");
                    continue;
                }
            },
            _ => None,
        };
        let (mut alone, mut beside) = (Vec::new(), Vec::new());
        for _ in 0..rounds {
            alone.push(Latency::of(&load, round).await?);
            let (pod, headers, process) = match neighbour {
                Neighbour::Limited(arguments) => (Some((arguments, limits())), None, None),
                Neighbour::Free(arguments) => (Some((arguments, json!({}))), None, None),
                Neighbour::Headers(arguments) => {
                    (Some((arguments, limits())), Some(tokio::spawn(send_headers(ingress))), None)
                }
                Neighbour::Process(script) => (None, None, Some(shell(&["chrt", "--idle", "0"], script)?)),
                Neighbour::Quota(script) => {
                    let enter = group.as_ref().map(ControlGroup::enter).unwrap_or_default();
                    (None, None, Some(shell(&[], &format!("{enter} && {script}"))?))
                }
            };
            let is_pod = pod.is_some();
            let headers = headers.map(AbortOnDropHandle::new);
            if let Some((arguments, resources)) = pod {
                guests::start(&pods, &guests::command("neighbour", IMAGE, arguments, &resources)?).await?;
            }
            tokio::time::sleep(SETTLED).await;
            beside.push(Latency::of(&load, round).await?);
            drop(headers);
            if let Some(mut process) = process {
                process.kill().await?;
            }
            if is_pod {
                guests::remove(&pods, "neighbour").await?;
            }
            tokio::time::sleep(SETTLED).await;
        }
        let ratios: Vec<f64> = alone.iter().zip(&beside).map(|(alone, beside)| beside.p99 / alone.p99).collect();
        let (low, high) = around_median(&ratios);
        let (alone, beside) = (Latency::of_all(alone), Latency::of_all(beside));
        println!(
            "  {what:<21} {alone} | {beside} | p99 {:.2} of it; of neighbouring rounds {:.2} ({low:.2} to {high:.2}, 19 times of 20)",
            beside.p99 / alone.p99,
            median(&ratios),
        );
    }
    Ok(())
}

/// A script of the shell, which something else starts.
fn shell(by: &[&str], script: &str) -> Result<Child> {
    let words = [by, &["sh", "-c", script]].concat();
    Ok(Command::new(words[0]).args(&words[1..]).kill_on_drop(true).spawn()?)
}

/// A control group of the kernel with the quota that [`limits`] say, of either version of its interface. It is removed in the
/// end.
struct ControlGroup(PathBuf);

impl ControlGroup {
    fn make() -> std::io::Result<ControlGroup> {
        let (root, name) = (Path::new("/sys/fs/cgroup"), format!("k8w-bench-{}", std::process::id()));
        let is_unified = root.join("cgroup.controllers").exists();
        let group = ControlGroup(if is_unified { root.join(name) } else { root.join("cpu").join(name) });
        std::fs::create_dir(&group.0)?;
        // A tenth of each 100 ms.
        let (file, quota) = if is_unified { ("cpu.max", "10000 100000") } else { ("cpu.cfs_quota_us", "10000") };
        if is_unified {
            std::fs::write(root.join("cgroup.subtree_control"), "+cpu")?;
        }
        std::fs::write(group.0.join(file), quota)?;
        Ok(group)
    }

    /// What a shell says to be in it.
    fn enter(&self) -> String {
        format!("echo $$ > {}", self.0.join("cgroup.procs").display())
    }
}

impl Drop for ControlGroup {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir(&self.0);
    }
}

/// Of one round, in milliseconds.
struct Latency {
    samples: Vec<f64>,
    p99: f64,
}

impl Latency {
    async fn of(load: &OpenLoop, time: Duration) -> Result<Latency> {
        let samples: Vec<f64> = load.run(time).await?.into_iter().map(|sample| sample.as_secs_f64() * 1e3).collect();
        if samples.is_empty() {
            return Err(anyhow!("nothing was measured in {time:?}"));
        }
        Ok(Latency { p99: quantile(&samples, 0.99), samples })
    }

    /// That of all rounds together.
    fn of_all(rounds: Vec<Latency>) -> Latency {
        let samples: Vec<f64> = rounds.into_iter().flat_map(|round| round.samples).collect();
        Latency { p99: quantile(&samples, 0.99), samples }
    }
}

impl std::fmt::Display for Latency {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:.2} ms, {:.2} ms", quantile(&self.samples, 0.5), self.p99)
    }
}

/// Sends more headers than anybody takes, again and again.
async fn send_headers(ingress: SocketAddr) {
    let line = format!("x: {}\r\n", "x".repeat(8_000));
    loop {
        let begun = Instant::now();
        // Whoever refuses them closes the connection.
        let _ = async {
            let mut stream = TcpStream::connect(ingress).await?;
            stream.write_all(format!("GET / HTTP/1.1\r\nhost: {HOST}\r\n").as_bytes()).await?;
            for _ in 0..HEADER_BYTES / line.len() {
                stream.write_all(line.as_bytes()).await?;
            }
            stream.write_all(b"\r\n").await?;
            stream.read_to_end(&mut Vec::new()).await
        }
        .await;
        tokio::time::sleep(HEADERS_EVERY.saturating_sub(begun.elapsed())).await;
    }
}
