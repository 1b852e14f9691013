//! Watches that a pod keeps within the room on the node's disk that it was given: its emptyDirs within their `sizeLimit`, the
//! pod and each of its containers within `limits.ephemeral-storage`. A pod that exceeds one of these is evicted, in the order
//! and the words of the kubelet's eviction manager.
//!
//! A container uses what it logs and what it writes beside its volumes; a pod, what its containers and its emptyDirs on disk
//! do.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Once};
use std::time::Duration;

use k8s_openapi::api::core::v1::{Container, Pod};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8w_kinds::core::pod::totals;
use k8w_storage::volume::{self, empty_dir};
use kube::ResourceExt;

use super::shared::Shared;
use super::termination;
use crate::engine::ContainerId;
use crate::pod::state::Event;
use crate::pod::{containers, mounts, quantity};

/// How often directories are measured, as the kubelet's eviction manager does.
const EVERY: Duration = Duration::from_secs(10);

const RESOURCE: &str = "ephemeral-storage";

/// So many bytes, and how they were said.
#[derive(Clone, Debug)]
struct Limit {
    text: String,
    bytes: u64,
}

struct Volume {
    name: String,
    dir: PathBuf,
    on_disk: bool,
    limit: Option<Limit>,
}

struct Contained {
    name: String,
    logs: PathBuf,
    /// Where it leaves its last words.
    termination: PathBuf,
    limit: Option<Limit>,
}

/// A pod's places on the disk, and what they may hold.
struct Places {
    volumes: Vec<Volume>,
    containers: Vec<Contained>,
    pod: Option<Limit>,
}

/// What a pod has on the disk.
#[derive(Debug, PartialEq, Eq)]
pub struct Used {
    /// Its emptyDirs.
    pub volumes: Vec<UsedByVolume>,
    pub containers: Vec<UsedByContainer>,
}

#[derive(Debug, PartialEq, Eq)]
pub struct UsedByVolume {
    pub name: String,
    pub on_disk: bool,
    pub bytes: u64,
}

#[derive(Debug, PartialEq, Eq)]
pub struct UsedByContainer {
    pub name: String,
    pub log_bytes: u64,
    /// What it has written beside its log and its volumes.
    pub written_bytes: u64,
}

impl Used {
    /// All of it.
    pub fn pod_bytes(&self) -> u64 {
        let on_disk = self.volumes.iter().filter(|volume| volume.on_disk).map(|volume| volume.bytes);
        self.containers.iter().map(UsedByContainer::bytes).chain(on_disk).fold(0, u64::saturating_add)
    }

    fn volume(&self, name: &str) -> Option<u64> {
        self.volumes.iter().find(|volume| volume.name == name).map(|volume| volume.bytes)
    }

    fn container(&self, name: &str) -> Option<&UsedByContainer> {
        self.containers.iter().find(|container| container.name == name)
    }
}

impl UsedByContainer {
    fn bytes(&self) -> u64 {
        self.log_bytes.saturating_add(self.written_bytes)
    }
}

/// Measures what a pod has on the disk now. What cannot be measured is as it was `before`.
pub async fn measure(shared: &Shared, pod: &Pod, before: Option<Arc<Used>>) -> Option<Arc<Used>> {
    let places = Arc::new(Places::of_pod(shared, pod, &pod.uid()?));
    places.measure(shared, pod, before).await
}

/// Measures until a limit is exceeded; `None` when the pod has none to watch.
pub(super) fn watch(shared: &Arc<Shared>, pod: &Pod) -> Option<impl Future<Output = ()> + Send + use<>> {
    let uid = pod.uid()?;
    let places = Arc::new(Places::of_pod(shared, pod, &uid).that_limits_are_for());
    let (shared, pod) = (shared.clone(), pod.clone());
    places.has_limits().then_some(async move {
        let mut used = None;
        loop {
            tokio::time::sleep(EVERY).await;
            let newest = shared.pods.get(&pod.namespace().unwrap_or_default(), &pod.name_any());
            used = places.measure(&shared, newest.as_deref().unwrap_or(&pod), used).await;
            if let Some(message) = used.as_deref().and_then(|used| places.exceeded(used)) {
                shared.tell_pod(&uid, Event::Condemned { reason: "Evicted", message }).await;
                return;
            }
        }
    })
}

impl Places {
    fn of_pod(shared: &Shared, pod: &Pod, uid: &str) -> Places {
        Places::of(pod, &shared.pod_dir(uid), &shared.log_dir(pod), |name| termination::dir(shared, uid, name))
    }

    fn of(pod: &Pod, pod_dir: &Path, log_dir: &Path, termination: impl Fn(&str) -> PathBuf) -> Places {
        let volumes = pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten());
        let volumes = volumes.filter_map(|volume| {
            let empty = volume.empty_dir.as_ref()?;
            Some(Volume {
                name: volume.name.clone(),
                dir: mounts::place(volume, pod_dir).path,
                on_disk: empty.medium.as_deref().unwrap_or_default().is_empty(),
                limit: empty.size_limit.as_ref().and_then(Limit::of).filter(|limit| limit.bytes > 0),
            })
        });
        let volumes: Vec<Volume> = volumes.collect();
        let all: Vec<_> = pod.spec.iter().flat_map(containers::all).collect();
        let contained: Vec<Contained> = all
            .iter()
            .map(|container| Contained {
                name: container.name.clone(),
                logs: log_dir.join(&container.name),
                termination: termination(&container.name),
                limit: limit(container),
            })
            .collect();
        // The sum is not looked for in pods that have none, which are nearly all.
        let of_pod = contained.iter().any(|container| container.limit.is_some()).then(|| total(pod)).flatten();
        Places { volumes, containers: contained, pod: of_pod }
    }

    /// Leaves out what no limit is for: a pod without a limit of its own has its limited volumes measured, and nothing else.
    fn that_limits_are_for(mut self) -> Places {
        if self.pod.is_none() {
            self.volumes.retain(|volume| volume.limit.is_some());
            self.containers.clear();
        }
        self
    }

    fn has_limits(&self) -> bool {
        self.pod.is_some() || self.volumes.iter().any(|volume| volume.limit.is_some())
    }

    /// `pod` tells which attempts of its containers run.
    async fn measure(self: &Arc<Places>, shared: &Shared, pod: &Pod, before: Option<Arc<Used>>) -> Option<Arc<Used>> {
        let mut written = Vec::new();
        for container in &self.containers {
            let status = containers::status(pod, &container.name);
            let attempt = status.and_then(|status| u32::try_from(status.restart_count).ok()).unwrap_or(0);
            let (pod_uid, container) = (pod.uid().unwrap_or_default(), container.name.clone());
            written.push(shared.engine.written_bytes(&ContainerId { pod_uid, container, attempt }).await);
        }
        let places = self.clone();
        let used = tokio::task::spawn_blocking(move || places.used(&written, before.as_deref(), usage));
        used.await.ok().map(Arc::new)
    }

    /// What is used, where containers have written so much to other places. What `usage` does not know is as it was `before`.
    /// Blocks as that does.
    fn used(&self, written: &[u64], before: Option<&Used>, usage: impl Fn(&Path) -> Option<u64>) -> Used {
        let of_volume = |Volume { name, dir, on_disk, .. }: &Volume| UsedByVolume {
            name: name.clone(),
            on_disk: *on_disk,
            bytes: usage(dir).or_else(|| before?.volume(name)).unwrap_or(0),
        };
        let of_container = |(container, written): (&Contained, &u64)| {
            let Contained { name, logs, termination, .. } = container;
            let before = before.and_then(|before| before.container(name));
            let left = usage(termination).map(|left| written.saturating_add(left));
            UsedByContainer {
                name: name.clone(),
                log_bytes: usage(logs).or_else(|| Some(before?.log_bytes)).unwrap_or(0),
                written_bytes: left.or_else(|| Some(before?.written_bytes)).unwrap_or(*written),
            }
        };
        Used {
            volumes: self.volumes.iter().map(of_volume).collect(),
            containers: self.containers.iter().zip(written).map(of_container).collect(),
        }
    }

    /// What to say about the first limit that is exceeded.
    fn exceeded(&self, used: &Used) -> Option<String> {
        for (Volume { name, limit, .. }, used) in self.volumes.iter().zip(&used.volumes) {
            if let Some(limit) = limit.as_ref().filter(|limit| used.bytes > limit.bytes) {
                let text = &limit.text;
                return Some(format!("Usage of EmptyDir volume {name:?} exceeds the limit {text:?}."));
            }
        }
        let limit = self.pod.as_ref()?;
        if used.pod_bytes() > limit.bytes {
            let text = &limit.text;
            return Some(format!("Pod ephemeral local storage usage exceeds the total limit of containers {text}."));
        }
        let over = |(container, used): (&Contained, &UsedByContainer)| {
            let limit = container.limit.as_ref().filter(|limit| used.bytes() > limit.bytes)?;
            let (name, text) = (&container.name, &limit.text);
            Some(format!("Container {name} exceeded its local ephemeral storage limit {text:?}."))
        };
        self.containers.iter().zip(&used.containers).find_map(over)
    }
}

impl Limit {
    fn of(quantity: &Quantity) -> Option<Limit> {
        Some(Limit { text: quantity::amount(quantity)?.to_string(), bytes: quantity::units(quantity)? })
    }
}

fn limit(container: &Container) -> Option<Limit> {
    Limit::of(container.resources.as_ref()?.limits.as_ref()?.get(RESOURCE)?)
}

/// What the pod's containers may use together.
fn total(pod: &Pod) -> Option<Limit> {
    let amount = totals::limits(&serde_json::to_value(pod).ok()?).remove(RESOURCE)?;
    Some(Limit { text: amount.to_string(), bytes: u64::try_from(amount.value()).ok()? })
}

/// Bytes beneath a directory; `None` when the node has no room to look at it (open files, memory), which it says once. What
/// cannot be measured to its end is more than any limit.
fn usage(dir: &Path) -> Option<u64> {
    static SAID: Once = Once::new();
    match empty_dir::usage_bytes(dir) {
        Ok(used) => Some(used),
        Err(volume::Error::TooLarge) => Some(u64::MAX),
        Err(volume::Error::Io { source, .. }) if source.kind() == ErrorKind::NotFound => Some(0),
        Err(error) => {
            SAID.call_once(|| {
                tracing::warn!(%error, "what pods use of the disk cannot be measured: it counts as it was last known");
            });
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    /// The places of a pod whose volume `scratch` holds 2 MB, and whose containers have logged 100 kB each; a little more on
    /// the disk.
    fn places(root: &Path, size_limit: Option<&str>, limits: &[&str]) -> Places {
        let limits: Vec<Value> = limits
            .iter()
            .enumerate()
            .map(|(number, limit)| {
                let limits = if limit.is_empty() { json!({}) } else { json!({ RESOURCE: limit }) };
                json!({ "name": format!("c{number}"), "resources": { "limits": limits } })
            })
            .collect();
        let volumes = json!([{ "name": "scratch", "emptyDir": { "sizeLimit": size_limit } }]);
        let pod = json!({ "spec": { "containers": limits, "volumes": volumes } });
        let pod: Pod = serde_json::from_value(pod).unwrap();
        let places = Places::of(&pod, root, root, |name| root.join(format!("{name}-ends")));
        std::fs::create_dir_all(root.join("volumes/scratch")).unwrap();
        std::fs::write(root.join("volumes/scratch/file"), vec![b'x'; 2_000_000]).unwrap();
        for container in &places.containers {
            std::fs::create_dir_all(root.join(&container.name)).unwrap();
            std::fs::write(root.join(&container.name).join("0.log"), vec![b'x'; 100_000]).unwrap();
        }
        places
    }

    fn exceeded(root: &Path, size_limit: Option<&str>, limits: &[&str], written: u64) -> Option<String> {
        let places = places(root, size_limit, limits);
        places.exceeded(&places.used(&vec![written; places.containers.len()], None, usage))
    }

    #[test]
    fn what_cannot_be_measured_is_as_it_was() {
        let root = tempfile::tempdir().unwrap();
        let places = places(root.path(), Some("1Mi"), &["5M"]);
        let before = places.used(&[7], None, usage);
        assert!(before.volumes[0].bytes >= 2_000_000 && before.containers[0].log_bytes >= 100_000);
        assert_eq!(places.used(&[7], Some(&before), |_| None), before);
        assert!(places.exceeded(&places.used(&[7], Some(&before), |_| None)).is_some());
        let nothing = places.used(&[7], None, |_| None);
        assert_eq!(
            (nothing.volumes[0].bytes, nothing.pod_bytes()),
            (0, 7),
            "of what was never measured nothing is known"
        );
        assert_eq!(usage(&root.path().join("none")), Some(0), "what is not there is empty");
    }

    #[test]
    fn what_is_exceeded_is_named() {
        let root = tempfile::tempdir().unwrap();
        let exceeded =
            |size, limits: &[&str], written| exceeded(root.path(), size, limits, written).unwrap_or_default();
        assert_eq!(exceeded(Some("2100k"), &["", ""], 0), "");
        assert_eq!(exceeded(Some("1Mi"), &["1"], 0), "Usage of EmptyDir volume \"scratch\" exceeds the limit \"1Mi\".");
        // A volume counts for its pod, and for no container.
        assert_eq!(exceeded(None, &["2200k"], 0), "");
        let of_pod =
            |limit| format!("Pod ephemeral local storage usage exceeds the total limit of containers {limit}.");
        assert_eq!(exceeded(None, &["2M"], 0), of_pod("2M"));
        assert_eq!(exceeded(None, &["1M", "1M"], 0), of_pod("2M"));
        let of_container = "Container c0 exceeded its local ephemeral storage limit \"500k\".";
        assert_eq!(exceeded(None, &["500k", "5M"], 300_000), "");
        assert_eq!(exceeded(None, &["500k", "5M"], 400_001), of_container);
    }
}
