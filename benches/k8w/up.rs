//! `k8w up` on a data directory in which hello was applied before: time to a Ready node and to the first answer.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use k8w_testkit::{ClusterOptions, Process, TestCluster, get};

use crate::cluster::{self, BINARY, TIMEOUT};
use crate::stats::{median, milliseconds, quantile};

/// Starts that count.
const STARTS: usize = 9;
/// Pause between two looks: what the figures are rounded up to.
const INTERVAL: Duration = Duration::from_millis(1);

pub async fn measure() -> Result<()> {
    let folder = tempfile::Builder::new().prefix("k8w-bench-").tempdir()?;
    let data_dir = folder.path().join("data");
    let dir = Some(cluster::hello());
    TestCluster::start(BINARY, ClusterOptions { dir, data_dir: Some(data_dir), ..ClusterOptions::default() }).stop();
    let (mut ready, mut answered) = (Vec::new(), Vec::new());
    for _ in 0..STARTS {
        let (node, answer) = start(folder.path())?;
        ready.push(node);
        answered.push(answer);
    }
    let times = |samples: &[Duration]| {
        let [least, most] = [0.0, 1.0].map(|share| milliseconds(quantile(samples, share)));
        format!("{} ({least} to {most})", milliseconds(median(samples)))
    };
    println!("up: node ready after {}, first 200 through ingress after {}", times(&ready), times(&answered));
    Ok(())
}

/// From starting the process to "Ready" on its standard error, and to the first 200 through its ingress.
fn start(folder: &Path) -> Result<(Duration, Duration)> {
    let ingress = free_port()?;
    let (stdout, stderr) = (folder.join("stdout"), folder.join("stderr"));
    let port = ingress.port().to_string();
    let [data_dir, kubeconfig] = ["data", "kubeconfig"].map(|name| folder.join(name).display().to_string());
    let arguments =
        ["up", "--port", "0", "--ingress-https-port", "0", "--kubelet-port", "0", "--ingress-http-port", &port];
    let folders = ["--data-dir", &data_dir, "--kubeconfig", &kubeconfig, "--kernel-network", "off"];
    let arguments = [&arguments[..], &folders].concat();
    let arguments: Vec<String> = arguments.into_iter().map(String::from).collect();
    let started = Instant::now();
    let mut process = Process::start(BINARY, &arguments, &stdout, &stderr)?;
    let (mut ready, mut answered) = (None, None);
    loop {
        if ready.is_none() && std::fs::read_to_string(&stderr)?.lines().any(|line| line.starts_with("Ready in ")) {
            ready = Some(started.elapsed());
        }
        if answered.is_none() && get(ingress, "hello.localhost", "/").is_ok_and(|answer| answer.status == 200) {
            answered = Some(started.elapsed());
        }
        if let (Some(ready), Some(answered)) = (ready, answered) {
            let status = process.terminate();
            return if status.success() { Ok((ready, answered)) } else { bail!("k8w ended with {status}") };
        }
        if process.ended().is_some() || started.elapsed() > TIMEOUT {
            bail!("k8w did not come up:\n{}", std::fs::read_to_string(&stderr)?);
        }
        std::thread::sleep(INTERVAL);
    }
}

/// A port that was free a moment ago.
fn free_port() -> Result<SocketAddr> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("no free port")?;
    Ok(listener.local_addr()?)
}
