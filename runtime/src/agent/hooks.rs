//! Lifecycle hooks: exec, httpGet and sleep. A tcpSocket hook fails when it runs, as the API documents.

use std::net::IpAddr;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Container, LifecycleHandler, Pod};

use super::command;
use super::http_get::{Answer, HttpGet, NoAnswer};
use super::shared::Shared;
use crate::engine::ContainerId;
use crate::pod::containers;

/// How hooks name themselves to who is asked.
const USER_AGENT: &str = "kube-lifecycle/1.36";

/// Runs a container's postStart hook, if it has one.
///
/// # Errors
/// With the reason when it fails.
pub(super) async fn post_start(shared: &Shared, pod: &Pod, address: IpAddr, id: &ContainerId) -> Result<(), String> {
    let Some(container) = containers::find(pod, &id.container) else { return Ok(()) };
    let hook = container.lifecycle.as_ref().and_then(|lifecycle| lifecycle.post_start.as_ref());
    run(shared, pod, address, id, &container, hook).await
}

/// Runs a container's preStop hook, if it has one. The caller bounds its time.
///
/// # Errors
/// With the reason when it fails.
pub(super) async fn pre_stop(shared: &Shared, pod: &Pod, address: IpAddr, id: &ContainerId) -> Result<(), String> {
    let Some(container) = containers::find(pod, &id.container) else { return Ok(()) };
    let hook = container.lifecycle.as_ref().and_then(|lifecycle| lifecycle.pre_stop.as_ref());
    run(shared, pod, address, id, &container, hook).await
}

async fn run(
    shared: &Shared,
    pod: &Pod,
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
        let request = HttpGet::of(action, container, address, USER_AGENT)?;
        return get(shared, pod, request).await.map_err(|error| error.to_string());
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

/// Whatever is answered is good. Who was asked by HTTPS and speaks HTTP is asked by that, and an event says so.
async fn get(shared: &Shared, pod: &Pod, request: HttpGet) -> Result<(), NoAnswer> {
    let again = request.clone().in_clear();
    match request.send(&shared.network, None).await {
        Err(NoAnswer::InClear { .. }) => {}
        answered => return begun(answered),
    }
    let host = again.host().to_owned();
    begun(again.send(&shared.network, None).await)?;
    let text = format!("request to HTTPS lifecycle hook ({host}) got HTTP response, retry with HTTP succeeded");
    shared.recorder.pod(pod, None, true, "LifecycleHTTPFallback", text);
    Ok(())
}

/// Nobody looks at what follows an answer's head.
fn begun(answered: Result<Answer, NoAnswer>) -> Result<(), NoAnswer> {
    match answered {
        Ok(_) | Err(NoAnswer::BrokenOff(_)) => Ok(()),
        Err(error) => Err(error),
    }
}
