//! Short tasks that do what the loop decided: writes to the API, stops, and clearing away.

use std::collections::HashSet;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Node, Pod};
use k8w_storage::tree;
use k8w_storage::volume::mounted;
use kube::ResourceExt;
use kube::api::{Api, DeleteParams, Patch, PatchParams, PostParams, Preconditions};
use serde_json::Value;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::shared::Shared;
use super::static_pods::PodName;
use super::{Event, hooks};
use crate::config::NodeConfig;
use crate::engine::ContainerId;
use crate::pod::{containers, resources, state};

/// Wait before a write that failed is tried again.
const RETRY: Duration = Duration::from_secs(1);
/// What a container has to stop in, however little its hook and those before it have left of the grace (the kubelet's).
const LEAST_GRACE: Duration = Duration::from_secs(2);
/// Wait before a mirror pod that could not be made is tried again.
const MIRROR_RETRY: Duration = Duration::from_secs(5);

/// Writes a pod's status.
pub(super) async fn write_status(shared: Arc<Shared>, pod: Arc<Pod>, patch: Value) {
    let api: Api<Pod> = Api::namespaced(shared.client.clone(), &pod.namespace().unwrap_or_default());
    let patch = Patch::Strategic(patch);
    let result = api.patch_status(&pod.name_any(), &PatchParams::default(), &patch).await;
    if let Err(error) = &result
        && !is_gone(error)
    {
        tokio::time::sleep(RETRY).await;
    }
    let uid = pod.uid().unwrap_or_default();
    shared.tell(Event::StatusWritten { uid, result: result.map(Box::new) }).await;
}

/// Makes a static pod's mirror; a pod of its name that is there keeps it from being made.
pub(super) async fn create_mirror(shared: Arc<Shared>, name: PodName, mirror: Pod) {
    let api: Api<Pod> = Api::namespaced(shared.client.clone(), &name.0);
    let mirror = match api.create(&PostParams::default(), &mirror).await {
        Ok(made) => Some(Box::new(made)),
        Err(error) => {
            tracing::warn!(pod = name.1, namespace = name.0, %error, "a mirror pod could not be made, trying again");
            tokio::time::sleep(MIRROR_RETRY).await;
            None
        }
    };
    shared.tell(Event::MirrorMade { name, mirror }).await;
}

/// Deletes a mirror for good: exactly this one.
pub(super) async fn delete_mirror(shared: Arc<Shared>, mirror: Pod) {
    while !delete_now(&shared, &mirror).await {}
}

/// Asks how the Node object is now, before a pod is turned away for what it says.
pub(super) async fn look_at_node(shared: Arc<Shared>, uid: String) {
    let api: Api<Node> = Api::all(shared.client.clone());
    let node = match api.get(&shared.config.name).await {
        Ok(node) => Some(Box::new(node)),
        Err(error) => {
            tracing::warn!(%error, "the node cannot be looked at; what was known of it before counts");
            None
        }
    };
    shared.tell(Event::NodeSeen { uid, node }).await;
}

/// Deletes a pod's object for good.
pub(super) async fn delete(shared: Arc<Shared>, pod: Arc<Pod>) {
    let done = delete_now(&shared, &pod).await;
    shared.tell(Event::Deleted { uid: pod.uid().unwrap_or_default(), done }).await;
}

/// Deletes exactly this pod, not one of its name that came after; false when it is to be tried again, after a while.
async fn delete_now(shared: &Shared, pod: &Pod) -> bool {
    let api: Api<Pod> = Api::namespaced(shared.client.clone(), &pod.namespace().unwrap_or_default());
    let preconditions = Preconditions { uid: pod.uid(), resource_version: None };
    let params =
        DeleteParams { grace_period_seconds: Some(0), preconditions: Some(preconditions), ..Default::default() };
    match api.delete(&pod.name_any(), &params).await {
        Ok(_) => true,
        Err(error) if is_gone(&error) => true,
        Err(error) => {
            tracing::warn!(pod = pod.name_any(), %error, "a pod could not be deleted, trying again");
            tokio::time::sleep(RETRY).await;
            false
        }
    }
}

/// The object is not there, or is another of the same name.
pub(super) fn is_gone(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == 404 || status.code == 409)
}

/// Runs a container's preStop hook within its grace.
pub(super) async fn pre_stop(shared: Arc<Shared>, pod: Arc<Pod>, address: IpAddr, id: ContainerId, grace: Duration) {
    let hook = hooks::pre_stop(&shared, &pod, address, &id);
    if let Ok(Err(error)) = tokio::time::timeout(grace, hook).await {
        tracing::warn!(pod = pod.name_any(), container = id.container, error, "a preStop hook failed");
        shared.recorder.pod(&pod, Some(&id.container), true, "FailedPreStopHook", "PreStopHook failed");
    }
}

/// Waits for the end of a container's preStop hook, and stops it with what is left of the grace.
pub(super) async fn stop(shared: Arc<Shared>, id: ContainerId, grace: Duration, hook_ended: Option<CancellationToken>) {
    let begun = Instant::now();
    if let Some(ended) = hook_ended {
        // One that was begun earlier ends with the grace at the latest, too.
        let _ = tokio::time::timeout(grace, ended.cancelled()).await;
    }
    let left = grace.saturating_sub(begun.elapsed());
    shared.engine.stop(&id, left.max(LEAST_GRACE)).await;
}

/// Gives a running container the limits that its pod says.
pub(super) async fn resize(shared: Arc<Shared>, pod: Arc<Pod>, container: String, attempt: u32) {
    let uid = pod.uid().unwrap_or_default();
    let id = ContainerId { pod_uid: uid.clone(), container: container.clone(), attempt };
    let (Some(spec), Some(found)) = (&pod.spec, containers::find(&pod, &container)) else { return };
    let result = shared.engine.resize(&id, resources::limits(spec, &found)).await.map_err(|error| error.to_string());
    shared.tell_pod(&uid, state::Event::Resized { container, attempt, result }).await;
}

/// The directories that pods left when this node ran before, with the pods' uids.
pub(super) fn leftovers(config: &NodeConfig) -> Vec<(String, PathBuf)> {
    let entries = |dir: &Path| std::fs::read_dir(dir).into_iter().flatten().flatten();
    let mut left = Vec::new();
    for entry in entries(&config.root_dir.join("pods")) {
        left.extend(entry.file_name().to_str().map(|uid| (uid.to_owned(), entry.path())));
    }
    for entry in entries(&config.log_dir) {
        let name = entry.file_name();
        let uid = name.to_str().and_then(|name| name.rsplit('_').next());
        left.extend(uid.map(|uid| (uid.to_owned(), entry.path())));
    }
    left
}

/// Removes what pods left that are not this node's any more.
pub(super) async fn sweep(leftovers: Vec<(String, PathBuf)>, known: HashSet<String>) {
    for (uid, path) in leftovers {
        if !known.contains(&uid) {
            unmount_and_remove(path).await;
        }
    }
}

/// Removes a pod's volumes once nothing of it runs, and nothing makes them any more; nor does anybody ask what they show then.
pub(super) async fn remove_volumes(shared: Arc<Shared>, uid: String, makers: TaskTracker) {
    makers.close();
    makers.wait().await;
    shared.refs.release(&uid);
    unmount_and_remove(shared.pod_dir(&uid)).await;
}

/// What stays mounted is not removed: what a server has is not the pod's to remove.
async fn unmount_and_remove(dir: PathBuf) {
    let mounted = dir.clone();
    if tokio::task::spawn_blocking(move || unmount(&mounted)).await.unwrap_or(false) {
        remove_dir(dir).await;
    }
}

/// Ends what is mounted beneath a directory, without waiting for any server; false when that failed.
pub(super) fn unmount(dir: &Path) -> bool {
    let unmounted = mounted::remove_beneath(dir);
    if let Err(error) = &unmounted {
        tracing::warn!(path = %dir.display(), %error, "a volume could not be unmounted");
    }
    unmounted.is_ok()
}

/// Removes a pod's logs once its object is gone, and tells the loop of a static pod when nothing is left of it: the folder may
/// hold one of its uid again.
pub(super) async fn clear(
    shared: Arc<Shared>,
    volumes: Option<JoinHandle<()>>,
    log_dir: PathBuf,
    static_pod: Option<Arc<Pod>>,
) {
    if let Some(volumes) = volumes {
        let _ = volumes.await;
    }
    remove_dir(log_dir).await;
    if let Some(pod) = static_pod {
        shared.tell(Event::Cleared(pod)).await;
    }
}

async fn remove_dir(path: PathBuf) {
    let removing = tokio::task::spawn_blocking(move || tree::remove(&path).map_err(|error| (path, error)));
    if let Ok(Err((path, error))) = removing.await {
        tracing::warn!(path = %path.display(), %error, "a directory could not be removed");
    }
}
