//! Resident memory of a control plane, and of a cluster of one node, in which nothing was applied.

use std::time::Duration;

use anyhow::Result;
use k8w_testkit::Process;

use crate::cluster::{self, BINARY, Resident};

/// What a start leaves to do is done by then, and what it freed went back to the kernel.
const SETTLE: Duration = Duration::from_secs(10);

pub async fn measure() -> Result<()> {
    let folder = tempfile::Builder::new().prefix("k8w-bench-").tempdir()?;
    let arguments = ["server", "--port", "0", "--data-dir"].map(String::from).into_iter();
    let arguments: Vec<_> = arguments.chain([folder.path().join("data").display().to_string()]).collect();
    let (stdout, stderr) = (folder.path().join("stdout"), folder.path().join("stderr"));
    let mut server = Process::start(BINARY, &arguments, &stdout, &stderr)?;
    server.line("Use it with:");
    report("a control plane", server.id()).await?;
    server.terminate();

    let cluster = cluster::start(&[]);
    report("with a node", cluster.process_id()).await
}

async fn report(what: &str, process: u32) -> Result<()> {
    tokio::time::sleep(SETTLE).await;
    let Resident { total_kib, anonymous_kib } = Resident::of(process)?;
    let mb = |kib: u64| kib as f64 * 1.024e-3;
    println!("memory: {what}, idle: {:.1} MB resident, of it {:.1} MB anonymous", mb(total_kib), mb(anonymous_kib));
    Ok(())
}
