//! Streams what matters while the cluster runs: warnings, and what the pods print.

use std::collections::HashSet;

use anyhow::Result;
use futures::{AsyncBufReadExt, StreamExt, TryStreamExt};
use k8s_openapi::api::core::v1::{ContainerState, ContainerStatus, Event, Pod};
use kube::api::{Api, LogParams};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Client, ResourceExt};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// Containers whose output is followed at a time; of further ones only warnings are shown.
const MAX_FOLLOWED: usize = 64;
/// Runs of containers that are remembered, so that none is shown twice.
const MAX_SEEN: usize = 10_000;

/// Prints until told to stop. `node` is the node whose pods' output is followed.
pub async fn until(client: &Client, node: &str, since: jiff::Timestamp, stop: &CancellationToken) -> Result<()> {
    tokio::select! {
        () = warnings(client, since) => {}
        () = logs(client, node, since) => {}
        () = stop.cancelled() => {}
    }
    Ok(())
}

/// Events of type Warning that happen after `since`, as they happen.
async fn warnings(client: &Client, since: jiff::Timestamp) {
    let api: Api<Event> = Api::all(client.clone());
    let events = watcher(api, watcher::Config::default().fields("type=Warning")).default_backoff().applied_objects();
    let mut events = std::pin::pin!(events);
    while let Some(event) = events.next().await {
        let Ok(event) = event else { continue };
        let last = event.last_timestamp.as_ref().map(|time| time.0);
        let last = last.or_else(|| event.event_time.as_ref().map(|time| time.0));
        if last.is_some_and(|last| last.as_second() < since.as_second()) {
            continue;
        }
        let object = &event.involved_object;
        eprintln!(
            "warning: {} {}: {}: {}",
            object.kind.as_deref().unwrap_or_default().to_lowercase(),
            object.name.as_deref().unwrap_or_default(),
            event.reason.as_deref().unwrap_or_default(),
            event.message.as_deref().unwrap_or_default(),
        );
    }
}

/// What the containers of the node's pods print, each line behind its pod's name.
async fn logs(client: &Client, node: &str, since: jiff::Timestamp) {
    let api: Api<Pod> = Api::all(client.clone());
    let on_node = watcher::Config::default().fields(&format!("spec.nodeName={node}"));
    let pods = watcher(api, on_node).default_backoff().applied_objects();
    let mut pods = std::pin::pin!(pods);
    let mut seen = HashSet::new();
    let mut tasks = JoinSet::new();
    while let Some(pod) = pods.next().await {
        let Ok(pod) = pod else { continue };
        while tasks.try_join_next().is_some() {}
        for run in runs(&pod) {
            if tasks.len() >= MAX_FOLLOWED || seen.contains(&run.container_id) {
                continue;
            }
            if seen.len() >= MAX_SEEN {
                seen.clear();
            }
            seen.insert(run.container_id.clone());
            let api = Api::namespaced(client.clone(), &pod.namespace().unwrap_or_default());
            tasks.spawn(follow(api, pod.name_any(), run, since));
        }
    }
}

/// One run of one container.
struct Run {
    container: String,
    container_id: String,
    /// Another attempt has been made since, or will be.
    is_previous: bool,
}

/// Those that have an output: one that ended at once has been seen by nobody while it ran.
fn runs(pod: &Pod) -> Vec<Run> {
    let statuses = pod.status.iter().flat_map(|status| status.container_statuses.iter().flatten());
    let of = |status: &ContainerStatus| {
        let (state, last) = (status.state.as_ref(), status.last_state.as_ref());
        let run = |container_id: Option<&String>, is_previous| {
            Some(Run { container: status.name.clone(), container_id: container_id?.clone(), is_previous })
        };
        let ended = |state: Option<&ContainerState>| state?.terminated.as_ref()?.container_id.clone();
        let runs = state.is_some_and(|state| state.running.is_some());
        let current = status.container_id.clone().filter(|_| runs).or_else(|| ended(state));
        [run(current.as_ref(), false), run(ended(last).as_ref(), true)]
    };
    statuses.flat_map(of).flatten().collect()
}

/// Prints one run's output until it ends.
async fn follow(api: Api<Pod>, pod: String, run: Run, since: jiff::Timestamp) {
    let parameters = LogParams {
        container: Some(run.container),
        follow: !run.is_previous,
        previous: run.is_previous,
        since_time: Some(since),
        ..LogParams::default()
    };
    if let Ok(stream) = api.log_stream(&pod, &parameters).await {
        let mut lines = stream.lines();
        while let Ok(Some(line)) = lines.try_next().await {
            eprintln!("{pod}: {line}");
        }
    }
}
