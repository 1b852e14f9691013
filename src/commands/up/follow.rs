//! Streams what matters while the cluster runs: warnings, and what the pods print.

use std::collections::{HashMap, HashSet};
use std::io::Write as _;

use anyhow::Result;
use futures::{AsyncBufReadExt, StreamExt};
use k8s_openapi::api::core::v1::{ContainerState, ContainerStatus, Event, Pod};
use kube::api::{Api, LogParams};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Client, ResourceExt};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// Containers whose output is followed at a time; of further ones only warnings are shown.
const MAX_FOLLOWED: usize = 64;
/// A longer line is broken, so that one that never ends is not kept.
const MAX_LINE_BYTES: usize = 64 << 10;

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
        let warning = format!(
            "warning: {} {}: {}: {}\n",
            object.kind.as_deref().unwrap_or_default().to_lowercase(),
            object.name.as_deref().unwrap_or_default(),
            event.reason.as_deref().unwrap_or_default(),
            event.message.as_deref().unwrap_or_default(),
        );
        if !print(warning.into_bytes()).await {
            return;
        }
    }
}

/// What the containers of the node's pods print, each line behind its pod's name.
async fn logs(client: &Client, node: &str, since: jiff::Timestamp) {
    let api: Api<Pod> = Api::all(client.clone());
    let on_node = watcher::Config::default().fields(&format!("spec.nodeName={node}"));
    let mut events = std::pin::pin!(watcher(api, on_node).default_backoff());
    let mut followed = Followed::default();
    // Those that a new list has not named yet: they may have gone while nothing was watched.
    let mut unlisted: HashSet<String> = HashSet::new();
    let mut tasks = JoinSet::new();
    while let Some(event) = events.next().await {
        while tasks.try_join_next().is_some() {}
        let pod = match event {
            Ok(watcher::Event::Apply(pod)) => pod,
            Ok(watcher::Event::InitApply(pod)) => {
                unlisted.remove(&pod.uid().unwrap_or_default());
                pod
            }
            Ok(watcher::Event::Delete(pod)) => {
                followed.0.remove(&pod.uid().unwrap_or_default());
                continue;
            }
            Ok(watcher::Event::Init) => {
                unlisted = followed.0.keys().cloned().collect();
                continue;
            }
            Ok(watcher::Event::InitDone) => {
                followed.0.retain(|uid, _| !unlisted.contains(uid));
                continue;
            }
            Err(_) => continue,
        };
        for run in followed.take(&pod, MAX_FOLLOWED - tasks.len()) {
            let api = Api::namespaced(client.clone(), &pod.namespace().unwrap_or_default());
            tasks.spawn(follow(api, pod.name_any(), run, since));
        }
    }
}

/// By pods' uids, the runs of containers whose output is or was followed, as long as the pod speaks of them.
#[derive(Default)]
struct Followed(HashMap<String, HashSet<String>>);

impl Followed {
    /// The pod's runs that were not followed yet, at most so many, which now are.
    fn take(&mut self, pod: &Pod, room: usize) -> Vec<Run> {
        let (runs, known) = (runs(pod), self.0.entry(pod.uid().unwrap_or_default()).or_default());
        known.retain(|id| runs.iter().any(|run| run.container_id == *id));
        let new = runs.into_iter().filter(|run| !known.contains(&run.container_id)).take(room);
        let new: Vec<Run> = new.collect();
        known.extend(new.iter().map(|run| run.container_id.clone()));
        new
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
        let (mut stream, mut lines) = (std::pin::pin!(stream), Prefixed::new(format!("{pod}: ")));
        while let Ok(bytes) = stream.fill_buf().await {
            let (length, mut out) = (bytes.len(), Vec::new());
            match length {
                0 => lines.end(&mut out),
                _ => lines.push(bytes, &mut out),
            }
            stream.consume_unpin(length);
            if !print(out).await || length == 0 {
                return;
            }
        }
    }
}

/// Prints, and says whether that can be done at all. A terminal may be slow: whoever serves requests does not wait for it.
async fn print(lines: Vec<u8>) -> bool {
    lines.is_empty()
        || matches!(tokio::task::spawn_blocking(move || std::io::stderr().write_all(&lines)).await, Ok(Ok(())))
}

/// Puts something before each line.
struct Prefixed {
    prefix: String,
    /// The beginning of a line, shorter than [`MAX_LINE_BYTES`].
    partial: Vec<u8>,
}

impl Prefixed {
    fn new(prefix: String) -> Prefixed {
        Prefixed { prefix, partial: Vec::new() }
    }

    /// Appends the lines that are complete with these bytes.
    fn push(&mut self, bytes: &[u8], into: &mut Vec<u8>) {
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            self.partial.extend_from_slice(piece);
            if piece.ends_with(b"\n") || self.partial.len() >= MAX_LINE_BYTES {
                self.end(into);
            }
        }
    }

    /// Appends the rest, as a line.
    fn end(&mut self, into: &mut Vec<u8>) {
        if self.partial.is_empty() {
            return;
        }
        into.extend_from_slice(self.prefix.as_bytes());
        into.append(&mut self.partial);
        if !into.ends_with(b"\n") {
            into.push(b'\n');
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn lines_are_printed_whole_behind_their_pods_name_and_long_ones_in_parts() {
        let mut lines = Prefixed::new("a: ".to_owned());
        let mut pushed = |text: &str| {
            let mut out = Vec::new();
            lines.push(text.as_bytes(), &mut out);
            String::from_utf8(out).unwrap()
        };
        assert_eq!(pushed("one\ntw"), "a: one\n");
        assert_eq!(pushed("o\n\nthr"), "a: two\na: \n");
        let long = "x".repeat(MAX_LINE_BYTES);
        assert_eq!(pushed(&long), format!("a: thr{long}\n"));
        assert_eq!(pushed("end"), "");
        let mut ended = || {
            let mut out = Vec::new();
            lines.end(&mut out);
            out
        };
        assert_eq!([ended(), ended()], [b"a: end\n".to_vec(), Vec::new()]);
    }

    fn pod(uid: &str, state: &Value, last: &Value) -> Pod {
        let status = json!({
            "name": "main", "image": "", "imageID": "", "ready": true, "restartCount": 0, "containerID": "k8w://2",
            "state": state, "lastState": last,
        });
        let pod = json!({ "metadata": { "uid": uid }, "status": { "containerStatuses": [status] } });
        serde_json::from_value(pod).unwrap()
    }

    #[test]
    fn each_run_is_followed_once_and_forgotten_with_its_pod() {
        let (running, ended) =
            (json!({ "running": {} }), json!({ "terminated": { "exitCode": 1, "containerID": "k8w://1" } }));
        let mut followed = Followed::default();
        let mut taken = |pod: Pod, room| {
            let ids = followed.take(&pod, room).into_iter().map(|run| (run.container_id, run.is_previous));
            (ids.collect::<Vec<_>>(), followed.0.values().map(HashSet::len).sum::<usize>())
        };
        let (current, previous) = (("k8w://2".to_owned(), false), ("k8w://1".to_owned(), true));
        let restarted = || pod("a", &running, &ended);
        assert_eq!(taken(restarted(), 0), (vec![], 0), "there is no room");
        assert_eq!(taken(restarted(), 1), (vec![current.clone()], 1));
        assert_eq!(taken(restarted(), 9), (vec![previous], 2));
        assert_eq!(taken(restarted(), 9), (vec![], 2));
        assert_eq!(taken(pod("a", &running, &json!({})), 9), (vec![], 1), "nobody speaks of the first any more");
        assert_eq!(taken(pod("b", &running, &json!({})), 9), (vec![current], 2), "of another pod");
    }
}
