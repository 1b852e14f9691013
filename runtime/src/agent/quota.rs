//! Watches that a pod's emptyDirs stay within their `sizeLimit`; a pod that exceeds one is evicted.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8w_storage::volume::empty_dir;
use kube::ResourceExt;

use super::shared::Shared;
use crate::pod::state::Event;
use crate::pod::{mounts, quantity};

/// How often directories are measured, as the kubelet's eviction manager does.
const EVERY: Duration = Duration::from_secs(10);

/// A volume that has a limit.
struct Limited {
    volume: String,
    dir: PathBuf,
    limit: Quantity,
    limit_bytes: u64,
}

/// Measures until a limit is exceeded; `None` when the pod has none to watch.
pub(super) fn watch(shared: &Arc<Shared>, pod: &Pod) -> Option<impl Future<Output = ()> + Send + use<>> {
    let uid = pod.uid()?;
    let pod_dir = shared.pod_dir(&uid);
    let volumes = pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten());
    let limited: Vec<Limited> = volumes
        .filter_map(|volume| {
            let limit = volume.empty_dir.as_ref()?.size_limit.clone()?;
            let limit_bytes = quantity::units(&limit).filter(|bytes| *bytes > 0)?;
            let dir = mounts::place(volume, &pod_dir).dir;
            Some(Limited { volume: volume.name.clone(), dir, limit, limit_bytes })
        })
        .collect();
    let shared = shared.clone();
    (!limited.is_empty()).then_some(async move {
        let limited = Arc::new(limited);
        loop {
            tokio::time::sleep(EVERY).await;
            let volumes = limited.clone();
            let measured = tokio::task::spawn_blocking(move || exceeded(&volumes)).await;
            if let Ok(Some(message)) = measured {
                shared.tell_pod(&uid, Event::Condemned { reason: "Evicted", message }).await;
                return;
            }
        }
    })
}

/// What to say about the first volume that holds too much. One that cannot be measured to its end does.
fn exceeded(volumes: &[Limited]) -> Option<String> {
    let over = |volume: &&Limited| match empty_dir::usage_bytes(&volume.dir) {
        Ok(used) => used > volume.limit_bytes,
        Err(k8w_storage::volume::Error::TooLarge) => true,
        Err(_) => false,
    };
    let found = volumes.iter().find(over)?;
    Some(format!("Usage of EmptyDir volume \"{}\" exceeds the limit \"{}\".", found.volume, found.limit.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_exceeded_is_named() {
        let root = tempfile::tempdir().unwrap();
        let volume = |limit: &str| Limited {
            volume: "scratch".to_owned(),
            dir: root.path().to_owned(),
            limit: Quantity(limit.to_owned()),
            limit_bytes: quantity::units(&Quantity(limit.to_owned())).unwrap(),
        };
        std::fs::write(root.path().join("f"), [0; 2_000]).unwrap();
        assert_eq!(exceeded(&[volume("2k")]), None);
        let message = "Usage of EmptyDir volume \"scratch\" exceeds the limit \"1Ki\".";
        assert_eq!(exceeded(&[volume("2k"), volume("1Ki")]).unwrap(), message);
    }
}
