//! The cluster under measurement: the real binary, and what is needed to talk to it and to look at it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use k8s_openapi::api::core::v1::ServiceAccount;
use k8w_testkit::{ClusterOptions, TestCluster};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::runtime::wait::await_condition;
use kube::{Api, Client, Config};

/// The k8w that is measured.
pub const BINARY: &str = env!("CARGO_BIN_EXE_k8w");

/// How long anything that must happen may take.
pub const TIMEOUT: Duration = Duration::from_secs(60);

/// The image that a component of `examples/hello` is loaded as.
pub const HELLO_IMAGE: &str = "localhost/hello:latest";

pub fn hello() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/hello")
}

/// A cluster in which nothing was applied.
pub fn start(arguments: &[&str]) -> TestCluster {
    let arguments = arguments.iter().map(|argument| argument.to_string()).collect();
    TestCluster::start(BINARY, ClusterOptions { arguments, ..ClusterOptions::default() })
}

/// The administrator of `cluster`, from outside: TLS and a client certificate.
pub async fn administrator(cluster: &TestCluster) -> Result<Client> {
    let kubeconfig = Kubeconfig::read_from(cluster.kubeconfig())?;
    let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
    Ok(Client::try_from(config)?)
}

/// Waits until pods can be created in the namespace.
pub async fn default_account(client: &Client, namespace: &str) -> Result<()> {
    let accounts: Api<ServiceAccount> = Api::namespaced(client.clone(), namespace);
    let exists = await_condition(accounts, "default", |account: Option<&ServiceAccount>| account.is_some());
    tokio::time::timeout(TIMEOUT, exists).await.context("there is no default service account")??;
    Ok(())
}

/// Memory of a process that is in RAM.
#[derive(Clone, Copy)]
pub struct Resident {
    /// All of it, pages of files (the binary itself, mapped machine code) included.
    pub total_kib: u64,
    /// What belongs to this process alone: heap, stacks, memories of guests.
    pub anonymous_kib: u64,
}

impl Resident {
    /// Reads `/proc/<process>/status`.
    pub fn of(process: u32) -> Result<Self> {
        let status = std::fs::read_to_string(format!("/proc/{process}/status"))?;
        let field = |name: &str| -> Result<u64> {
            let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
            let value = line.and_then(|line| line.split_whitespace().next());
            value.with_context(|| format!("the kernel does not say {name}"))?.parse().context("no number")
        };
        Ok(Self { total_kib: field("VmRSS")?, anonymous_kib: field("RssAnon")? })
    }
}

/// How much of one core a cluster uses in a time, in which nobody asks it anything.
pub async fn busy(cluster: &TestCluster, time: Duration) -> Result<f64> {
    let before = cpu_time(cluster.process_id())?;
    tokio::time::sleep(time).await;
    let used = cpu_time(cluster.process_id())?.saturating_sub(before);
    Ok(used.as_secs_f64() / time.as_secs_f64())
}

/// What a process has used of all cores so far.
fn cpu_time(process: u32) -> Result<Duration> {
    /// `_SC_CLK_TCK` on Linux.
    const TICKS_PER_SECOND: u64 = 100;
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat"))?;
    // The name in parentheses may hold spaces; user and system time are fields 14 and 15 of all.
    let fields = stat.rsplit_once(')').map(|(_, rest)| rest).unwrap_or_default();
    let mut ticks = fields.split_whitespace().skip(11).take(2).map(|field| field.parse::<u64>());
    let (Some(Ok(user)), Some(Ok(system))) = (ticks.next(), ticks.next()) else { bail!("no times in {stat}") };
    Ok(Duration::from_millis((user + system) * 1_000 / TICKS_PER_SECOND))
}
