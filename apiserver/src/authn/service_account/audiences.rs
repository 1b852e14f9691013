//! For whom a pod's volumes need tokens.

use k8w_kinds::core::pod::references::claim_of;
use k8w_kinds::object::{get, list, text};
use serde_json::Value;

use crate::watch_cache::WatchCache;

/// The audiences that the pod's volumes name, themselves or through their CSI driver; `""` is the API server.
pub(super) fn named_by(pod: &Value, cache: &WatchCache) -> impl Iterator<Item = String> {
    let namespace = text(pod, &["metadata", "namespace"]);
    let mut audiences = Vec::new();
    for volume in list(pod, &["spec", "volumes"]) {
        let tokens =
            list(volume, &["projected", "sources"]).iter().filter_map(|source| get(source, &["serviceAccountToken"]));
        audiences.extend(tokens.map(|token| text(token, &["audience"]).to_owned()));
        for driver in drivers(pod, volume, namespace, cache) {
            let driver = cache.get("storage.k8s.io", "csidrivers", "", &driver).map(|record| record.value());
            let requests = driver.as_ref().map(|driver| list(driver, &["spec", "tokenRequests"])).unwrap_or_default();
            audiences.extend(requests.iter().map(|request| text(request, &["audience"]).to_owned()));
        }
    }
    audiences.into_iter()
}

/// The CSI drivers behind a volume: its own, or that of the claim it stands for.
fn drivers(pod: &Value, volume: &Value, namespace: &str, cache: &WatchCache) -> Vec<String> {
    let mut drivers = vec![text(volume, &["csi", "driver"]).to_owned()];
    let claim = cache.get("", "persistentvolumeclaims", namespace, &claim_of(pod, volume)).map(|record| record.value());
    let volume = claim.and_then(|claim| cache.get("", "persistentvolumes", "", text(&claim, &["spec", "volumeName"])));
    drivers.extend(volume.map(|record| text(&record.value(), &["spec", "csi", "driver"]).to_owned()));
    drivers.retain(|driver| !driver.is_empty());
    drivers
}
