//! Guests of the tests, built for a measurement, and pods that run them.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::{DeleteParams, PostParams};
use kube::runtime::conditions::is_deleted;
use kube::runtime::wait::await_condition;
use serde_json::{Value, json};

use crate::cluster::TIMEOUT;

/// Builds a guest of `tests/guests` into `folder`.
pub fn build(guest: &str, folder: &Path) -> Result<PathBuf> {
    let guests = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/guests");
    let wasm = folder.join(format!("{guest}.wasm"));
    let built = Command::new(guests.join("build")).arg(guests.join(guest)).arg(&wasm).env("CORE", "1").output()?;
    if !built.status.success() {
        bail!("{guest} was not built: {}", String::from_utf8_lossy(&built.stderr));
    }
    Ok(wasm)
}

/// A pod that runs a command, with its container's resources.
pub fn command(name: &str, image: &str, arguments: &[&str], resources: &Value) -> Result<Pod> {
    let container =
        json!({ "name": "main", "image": image, "command": ["guest"], "args": arguments, "resources": resources });
    Ok(serde_json::from_value(json!({
        "metadata": { "name": name, "labels": { "app": name } },
        "spec": { "runtimeClassName": "wasmtime", "terminationGracePeriodSeconds": 0, "containers": [container] },
    }))?)
}

/// Creates a pod and waits until it has run.
pub async fn start(pods: &Api<Pod>, pod: &Pod) -> Result<()> {
    pods.create(&PostParams::default(), pod).await?;
    let name = pod.metadata.name.as_deref().context("the pod has a name")?;
    let running = await_condition(pods.clone(), name, |pod: Option<&Pod>| {
        let statuses = pod.and_then(|pod| pod.status.as_ref()?.container_statuses.as_ref());
        statuses.into_iter().flatten().any(|status| status.state.as_ref().is_some_and(|state| state.waiting.is_none()))
    });
    tokio::time::timeout(TIMEOUT, running).await.with_context(|| format!("pod {name} does not run"))??;
    Ok(())
}

/// Deletes a pod and waits until it is gone.
pub async fn remove(pods: &Api<Pod>, name: &str) -> Result<()> {
    let uid = pods.get(name).await?.metadata.uid.unwrap_or_default();
    pods.delete(name, &DeleteParams::default()).await?;
    let gone = await_condition(pods.clone(), name, is_deleted(&uid));
    tokio::time::timeout(TIMEOUT, gone).await.with_context(|| format!("pod {name} is still there"))??;
    Ok(())
}
