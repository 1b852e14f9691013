//! What pods have on the node's disk. That is walked through at most once a minute for each of them.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use nix::sys::statvfs::statvfs;
use serde_json::{Value, json};
use tokio::sync::Mutex;

use crate::agent::Shared;
use crate::agent::quota::{self, Used};

/// As often as the kubelet does.
const EVERY: Duration = Duration::from_secs(60);

/// What was measured last, by the pod's uid.
#[derive(Debug, Default)]
pub struct Disk(Mutex<HashMap<String, (Instant, Measured)>>);

/// What a pod has on the disk, and when it was looked at.
#[derive(Clone, Debug)]
pub struct Measured {
    pub at: Timestamp,
    pub used: Arc<Used>,
}

impl Disk {
    /// What these pods have. Who asks while others ask waits, and finds what they have found.
    pub async fn of(&self, shared: &Shared, pods: &[Arc<Pod>]) -> HashMap<String, Measured> {
        let mut known = self.0.lock().await;
        let now = Instant::now();
        let mut all = HashMap::new();
        for pod in pods {
            let uid = pod.uid().unwrap_or_default();
            let entry = match known.remove(&uid) {
                Some(entry) if now.duration_since(entry.0) < EVERY => entry,
                stale => {
                    let before = stale.map(|(_, measured)| measured.used);
                    let Some(used) = quota::measure(shared, pod, before).await else { continue };
                    (Instant::now(), Measured { at: Timestamp::now(), used })
                }
            };
            all.insert(uid, entry);
        }
        // Of pods that are gone nothing is kept.
        known.clone_from(&all);
        all.into_iter().map(|(uid, (_, measured))| (uid, measured)).collect()
    }
}

/// A file system as `FsStats`, with how much of it is used for something, at a time; nothing where it cannot be looked at.
pub fn file_system(dir: &Path) -> Option<Value> {
    let found = statvfs(dir).ok()?;
    let bytes = |blocks: u64| blocks.saturating_mul(found.fragment_size());
    Some(json!({
        "capacityBytes": bytes(found.blocks()),
        "availableBytes": bytes(found.blocks_available()),
        "usedBytes": bytes(found.blocks().saturating_sub(found.blocks_free())),
        "inodes": found.files(),
        "inodesFree": found.files_free(),
        "inodesUsed": found.files().saturating_sub(found.files_free()),
    }))
}

/// A part of a file system.
pub fn part(of: &Option<Value>, used_bytes: u64, at: Timestamp) -> Value {
    let mut part = json!({ "time": at.to_string(), "usedBytes": used_bytes });
    for field in ["capacityBytes", "availableBytes", "inodes", "inodesFree"] {
        if let Some(value) = of.as_ref().and_then(|of| of.get(field)) {
            part[field] = value.clone();
        }
    }
    part
}
