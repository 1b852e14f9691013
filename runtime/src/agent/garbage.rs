//! Gives disk space back that images take which no pod needs, when the node starts and every few minutes.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::Pod;
use nix::sys::statvfs::statvfs;

use super::shared::Shared;
use crate::image::garbage::Disk;
use crate::pod::containers;

/// As often as the kubelet does.
const EVERY: Duration = Duration::from_secs(300);

/// Collects until it is dropped, from when all pods of the node are known.
pub(super) async fn run(shared: Arc<Shared>) {
    shared.pods.listed().await;
    loop {
        collect(&shared, Instant::now()).await;
        tokio::time::sleep(EVERY).await;
    }
}

async fn collect(shared: &Arc<Shared>, now: Instant) {
    let in_use: HashSet<String> = shared.pods.all().iter().flat_map(|pod| images(pod)).collect();
    let (images, policy) = (shared.images.clone(), shared.config.image_gc);
    let collected = tokio::task::spawn_blocking(move || {
        let disk = statvfs(images.folder())?;
        let block_bytes = disk.fragment_size();
        let disk = Disk {
            capacity_bytes: disk.blocks().saturating_mul(block_bytes),
            available_bytes: disk.blocks_available().saturating_mul(block_bytes),
        };
        images.collect(&in_use, policy, disk, now)
    });
    let collected = match collected.await {
        Ok(Ok(collected)) => collected,
        Ok(Err(error)) => return tracing::warn!(%error, "images could not be collected"),
        Err(error) => return tracing::warn!(%error, "images could not be collected"),
    };
    for image in &collected.removed {
        tracing::info!(image, "removed an image that nothing uses");
    }
    if collected.freed_bytes < collected.excess_bytes {
        let (excess, freed) = (collected.excess_bytes, collected.freed_bytes);
        let message = format!(
            "Failed to garbage collect required amount of images. Attempted to free {excess} bytes, but only found \
             {freed} bytes eligible to free."
        );
        shared.recorder.node(&shared.config.name, true, "FreeDiskSpaceFailed", message);
    }
    if !collected.removed.is_empty() {
        shared.images_changed.notify_one();
    }
    shared.engine.keep_prepared(&collected.kept).await;
}

/// The images that a pod's containers and volumes name.
fn images(pod: &Pod) -> impl Iterator<Item = String> {
    let volumes = pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten());
    let volumes = volumes.filter_map(|volume| volume.image.as_ref()?.reference.clone());
    pod.spec.iter().flat_map(containers::all).filter_map(|container| container.image.clone()).chain(volumes)
}
