//! Streams what matters while the cluster runs: warnings, and what the pods print.

use std::collections::HashSet;
use std::sync::{Arc, Mutex};

use anyhow::Result;
use futures::{AsyncBufReadExt, StreamExt, TryStreamExt};
use k8s_openapi::api::core::v1::{Event, Pod};
use kube::api::{Api, LogParams};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Client, ResourceExt};
use tokio_util::sync::CancellationToken;

/// Containers whose output is followed at a time; of further ones only warnings are shown.
const MAX_FOLLOWED: usize = 64;

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
    let followed = Arc::new(Mutex::new(HashSet::new()));
    let mut tasks = tokio::task::JoinSet::new();
    while let Some(pod) = pods.next().await {
        let Ok(pod) = pod else { continue };
        while tasks.try_join_next().is_some() {}
        for id in started_containers(&pod) {
            let Ok(mut set) = followed.lock() else { return };
            if set.len() < MAX_FOLLOWED && set.insert(id.clone()) {
                let api = Api::namespaced(client.clone(), &pod.namespace().unwrap_or_default());
                tasks.spawn(follow(api, pod.name_any(), id, since, followed.clone()));
            }
        }
    }
}

/// One run of one container.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Run {
    pod_uid: String,
    container: String,
    container_id: String,
}

fn started_containers(pod: &Pod) -> Vec<Run> {
    let statuses = pod.status.iter().flat_map(|status| status.container_statuses.iter().flatten());
    let started = statuses.filter(|status| status.state.as_ref().is_some_and(|state| state.running.is_some()));
    let run = |status: &k8s_openapi::api::core::v1::ContainerStatus| {
        Some(Run {
            pod_uid: pod.metadata.uid.clone()?,
            container: status.name.clone(),
            container_id: status.container_id.clone()?,
        })
    };
    started.filter_map(run).collect()
}

/// Prints one run's output until it ends, then forgets it.
async fn follow(api: Api<Pod>, pod: String, run: Run, since: jiff::Timestamp, followed: Arc<Mutex<HashSet<Run>>>) {
    let parameters = LogParams {
        container: Some(run.container.clone()),
        follow: true,
        since_time: Some(since),
        ..LogParams::default()
    };
    if let Ok(stream) = api.log_stream(&pod, &parameters).await {
        let mut lines = stream.lines();
        while let Ok(Some(line)) = lines.try_next().await {
            eprintln!("{pod}: {line}");
        }
    }
    if let Ok(mut set) = followed.lock() {
        set.remove(&run);
    }
}
