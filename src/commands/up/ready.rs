//! Waits until what was applied is ready, and says on the way what stands in between.

use std::time::Duration;

use anyhow::{Context, Result};
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use kube::ResourceExt;
use kube::api::DynamicObject;
use kube::runtime::wait::await_condition;
use serde_json::Value;

use super::apply::Applied;
use crate::compose::Cluster;
use crate::progress::Progress;

/// Waits for every object, at most `timeout` in total. What is not ready by then, or cannot become ready by waiting, is
/// said and left to go on. Returns how many became ready.
pub async fn all(cluster: &Cluster, objects: &[Applied], timeout: Duration, progress: &Progress) -> Result<usize> {
    let mut waiting: FuturesUnordered<_> = objects.iter().map(|applied| one(cluster, applied)).collect();
    let total = waiting.len();
    let mut ready = 0;
    let everything = async {
        progress.step(format!("Waiting for {total} objects to be ready"));
        while let Some(outcome) = waiting.next().await {
            match outcome? {
                State::Failing(why) => progress.note(format!("warning: {why}")),
                State::Ready | State::Waiting(_) => ready += 1,
            }
            progress.step(format!("Waiting: {ready} of {total} objects are ready"));
        }
        anyhow::Ok(())
    };
    if let Ok(outcome) = tokio::time::timeout(timeout, everything).await {
        return outcome.map(|()| ready);
    }
    for applied in objects {
        if let Some(current) = applied.api(cluster.client()).get_opt(&applied.object.name_any()).await?
            && let State::Waiting(why) = state(&applied.resource.kind, &current)
        {
            progress.note(format!("warning: {} is not ready after {} s: {why}", applied.describe(), timeout.as_secs()));
        }
    }
    Ok(ready)
}

async fn one(cluster: &Cluster, applied: &Applied) -> Result<State> {
    let (name, kind) = (applied.object.name_any(), applied.resource.kind.as_str());
    let settled = await_condition(applied.api(cluster.client()), &name, |object: Option<&DynamicObject>| {
        object.is_some_and(|object| !matches!(state(kind, object), State::Waiting(_)))
    });
    let last = settled.await.with_context(|| format!("cannot watch {}", applied.describe()))?;
    Ok(match last.as_ref().map(|object| state(kind, object)) {
        Some(State::Failing(why)) => State::Failing(format!("{}: {why}", applied.describe())),
        _ => State::Ready,
    })
}

/// How far an object has come.
enum State {
    Ready,
    Waiting(String),
    /// Waiting alone will not help: what a person should know.
    Failing(String),
}

/// Readiness by kind; kinds that have none are ready once they exist.
fn state(kind: &str, object: &DynamicObject) -> State {
    let (spec, status) = (&object.data["spec"], &object.data["status"]);
    match kind {
        "Deployment" | "ReplicaSet" | "StatefulSet" => {
            let wanted = spec["replicas"].as_i64().unwrap_or(1);
            let current = status["observedGeneration"].as_i64() >= object.metadata.generation;
            let updated = kind == "ReplicaSet" || status["updatedReplicas"].as_i64().unwrap_or(0) >= wanted;
            let available = status["availableReplicas"].as_i64().unwrap_or(0);
            match current && updated && available >= wanted {
                true => State::Ready,
                false => State::Waiting(format!("{available} of {wanted} replicas are available")),
            }
        }
        "DaemonSet" => {
            let wanted = status["desiredNumberScheduled"].as_i64().unwrap_or(0);
            let current = status["observedGeneration"].as_i64() >= object.metadata.generation;
            let available = status["numberAvailable"].as_i64().unwrap_or(0);
            match current && available >= wanted {
                true => State::Ready,
                false => State::Waiting(format!("{available} of {wanted} pods are available")),
            }
        }
        "Pod" => pod_state(status),
        "Job" => match condition(status, "Failed") {
            Some(failed) => State::Failing(failed["message"].as_str().unwrap_or("it failed").to_owned()),
            None if condition(status, "Complete").is_some() => State::Ready,
            None => State::Waiting("it has not completed".into()),
        },
        _ => State::Ready,
    }
}

fn pod_state(status: &Value) -> State {
    if status["phase"] == "Succeeded" || condition(status, "Ready").is_some() {
        return State::Ready;
    }
    let statuses = ["initContainerStatuses", "containerStatuses"];
    for container in statuses.iter().filter_map(|field| status[*field].as_array()).flatten() {
        let waiting = &container["state"]["waiting"];
        let reason = waiting["reason"].as_str().unwrap_or_default();
        if !matches!(reason, "" | "ContainerCreating" | "PodInitializing") {
            let message = waiting["message"].as_str().unwrap_or_default();
            return State::Failing(format!("{reason}: {message}").trim_end_matches([':', ' ']).to_owned());
        }
    }
    if status["phase"] == "Failed" {
        return State::Failing(status["message"].as_str().unwrap_or("it failed").to_owned());
    }
    State::Waiting(format!("it is {}", status["phase"].as_str().unwrap_or("Pending")))
}

/// The condition of that type when it is True.
fn condition<'a>(status: &'a Value, type_: &str) -> Option<&'a Value> {
    let conditions = status["conditions"].as_array()?;
    conditions.iter().find(|condition| condition["type"] == type_ && condition["status"] == "True")
}
