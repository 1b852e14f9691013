//! Finds what is behind a pod's claim: the claim says which volume it has, the volume says where it lies.

use std::path::PathBuf;

use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim, Pod, Volume};
use k8w_storage::volume::host_path::Kind;
use k8w_storage::volume::{ephemeral, nfs};
use kube::ResourceExt;
use kube::api::Api;

use super::setup::sentence;

/// Why a claim cannot be mounted, as the kubelet words it.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    #[error("error processing PVC {claim}: {problem}")]
    Claim { claim: String, problem: String },
    #[error("error processing PV {volume}: {problem}")]
    Volume { volume: String, problem: String },
}

/// Where a volume lies.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Source {
    /// A directory or file of this node; with what must be there.
    Local {
        path: PathBuf,
        kind: Kind,
    },
    Nfs(nfs::Source),
}

/// Finds the source of a claim; one that is being deleted is for pods that have it already (`has_it`).
///
/// # Errors
/// When the pod may not have it, or this node cannot.
pub(super) async fn find(
    client: &kube::Client,
    pod: &Pod,
    volume: &Volume,
    claim: &str,
    has_it: bool,
) -> Result<Source, Error> {
    let namespace = pod.namespace().unwrap_or_default();
    let fails = |problem: String| Error::Claim { claim: format!("{namespace}/{claim}"), problem };
    let claims: Api<PersistentVolumeClaim> = Api::namespaced(client.clone(), &namespace);
    let found = claims.get(claim).await;
    let found = found.map_err(|error| fails(format!("failed to fetch PVC from API server: {}", sentence(error))))?;
    let owners = found.owner_references().iter();
    let owners = owners.map(|owner| (owner.uid.as_str(), owner.controller.unwrap_or(false)));
    if volume.ephemeral.is_some() && !ephemeral::is_own(&pod.uid().unwrap_or_default(), owners) {
        return Err(fails(format!("PVC was not created for pod {namespace}/{} (pod is not owner)", pod.name_any())));
    }
    if found.metadata.deletion_timestamp.is_some() && !has_it {
        return Err(fails("can't start pod because PVC is being deleted".to_owned()));
    }
    let spec = found.spec.clone().unwrap_or_default();
    let is_bound = found.status.as_ref().and_then(|status| status.phase.as_deref()) == Some("Bound");
    let Some(name) = spec.volume_name.filter(|name| is_bound && !name.is_empty()) else {
        return Err(fails("PVC is not bound".to_owned()));
    };
    if spec.volume_mode.as_deref() == Some("Block") {
        return Err(fails("volumes of mode Block are not supported on this node".to_owned()));
    }
    let fails = |problem: String| Error::Volume { volume: name.clone(), problem };
    let volumes: Api<PersistentVolume> = Api::all(client.clone());
    let stored = volumes.get(&name).await;
    let stored = stored.map_err(|error| fails(format!("failed to fetch PV from API server: {}", sentence(error))))?;
    source(&stored, found.metadata.uid.as_deref()).map_err(fails)
}

fn source(volume: &PersistentVolume, claim_uid: Option<&str>) -> Result<Source, String> {
    let spec = volume.spec.clone().unwrap_or_default();
    if spec.claim_ref.as_ref().and_then(|kept| kept.uid.as_deref()) != claim_uid {
        return Err("PV is bound to another claim".to_owned());
    }
    if let Some(host) = spec.host_path {
        let kind = Kind::parse(host.type_.as_deref().unwrap_or_default()).map_err(|error| error.to_string())?;
        Ok(Source::Local { path: host.path.into(), kind })
    } else if let Some(local) = spec.local {
        Ok(Source::Local { path: local.path.into(), kind: Kind::Directory })
    } else if let Some(source) = spec.nfs {
        let read_only = source.read_only.unwrap_or(false);
        let options = spec.mount_options.unwrap_or_default();
        Ok(Source::Nfs(nfs::Source { server: source.server, path: source.path, read_only, options }))
    } else {
        Err("only hostPath, local and nfs volumes are supported on this node".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_volume_lies_on_this_node_or_a_server_and_any_other_is_refused() {
        let check = |spec: serde_json::Value| {
            let volume = serde_json::from_value(json!({ "metadata": { "name": "v" }, "spec": spec })).unwrap();
            source(&volume, Some("u"))
        };
        let kept = json!({ "uid": "u" });
        let made = json!({ "claimRef": kept, "hostPath": { "path": "/v", "type": "DirectoryOrCreate" } });
        assert_eq!(check(made), Ok(Source::Local { path: "/v".into(), kind: Kind::DirectoryOrCreate }));
        assert_eq!(
            check(json!({ "claimRef": kept, "local": { "path": "/l" } })),
            Ok(Source::Local { path: "/l".into(), kind: Kind::Directory })
        );
        let others = json!({ "claimRef": { "uid": "other" }, "hostPath": { "path": "/v" } });
        assert_eq!(check(others).unwrap_err(), "PV is bound to another claim");
        let served = json!({ "claimRef": kept, "mountOptions": ["timeo=10"],
            "nfs": { "path": "/e", "server": "s", "readOnly": true } });
        let options = vec!["timeo=10".to_owned()];
        let served_by = nfs::Source { server: "s".to_owned(), path: "/e".to_owned(), read_only: true, options };
        assert_eq!(check(served), Ok(Source::Nfs(served_by)));
        let driver = json!({ "claimRef": kept, "csi": { "driver": "d", "volumeHandle": "h" } });
        assert_eq!(check(driver).unwrap_err(), "only hostPath, local and nfs volumes are supported on this node");
    }
}
