//! Lifecycle hooks: exec, httpGet and sleep. A tcpSocket hook fails when it runs, as the API documents.

use std::net::IpAddr;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Container, LifecycleHandler, Pod};

use super::shared::Shared;
use super::{command, probes};
use crate::engine::ContainerId;
use crate::pod::containers;

/// Runs a container's postStart hook, if it has one.
///
/// # Errors
/// With the reason when it fails.
pub(super) async fn post_start(shared: &Shared, pod: &Pod, address: IpAddr, id: &ContainerId) -> Result<(), String> {
    let Some(container) = containers::find(pod, &id.container) else { return Ok(()) };
    let hook = container.lifecycle.as_ref().and_then(|lifecycle| lifecycle.post_start.as_ref());
    let done = run(shared, address, id, &container, hook).await;
    done.map_err(|error| format!("PostStartHook failed: {error}"))
}

/// Runs a container's preStop hook, if it has one. The caller bounds its time.
///
/// # Errors
/// With the reason when it fails.
pub(super) async fn pre_stop(shared: &Shared, pod: &Pod, address: IpAddr, id: &ContainerId) -> Result<(), String> {
    let Some(container) = containers::find(pod, &id.container) else { return Ok(()) };
    let hook = container.lifecycle.as_ref().and_then(|lifecycle| lifecycle.pre_stop.as_ref());
    let done = run(shared, address, id, &container, hook).await;
    done.map_err(|error| format!("PreStopHook failed: {error}"))
}

async fn run(
    shared: &Shared,
    address: IpAddr,
    id: &ContainerId,
    container: &Container,
    hook: Option<&LifecycleHandler>,
) -> Result<(), String> {
    let Some(hook) = hook else { return Ok(()) };
    if let Some(action) = &hook.exec {
        let argv = action.command.clone().unwrap_or_default();
        let line = argv.join(" ");
        let ended = command::run(shared, id, argv).await.map_err(|error| error.to_string())?;
        return match ended.code {
            0 => Ok(()),
            code => Err(format!("command '{line}' exited with {code}: {}", ended.output)),
        };
    }
    if let Some(action) = &hook.http_get {
        return probes::http_get(&shared.network, address, container, action).await;
    }
    match (&hook.sleep, &hook.tcp_socket) {
        (Some(sleep), _) => {
            tokio::time::sleep(Duration::from_secs(sleep.seconds.max(0).unsigned_abs())).await;
            Ok(())
        }
        (None, Some(_)) => Err("invalid handler: tcpSocket is not supported as a lifecycle handler".to_owned()),
        (None, None) => Ok(()),
    }
}
