//! Where a pod's volumes lie on the node, and how a container's mounts become preopens.

use std::path::{Path, PathBuf};

use k8s_openapi::api::core::v1 as core;

use super::containers;
use super::env::{TooLong, expand};
use crate::engine::{MemoryVolume, Preopen, Writers};
use crate::guest_path;

/// Why a mount cannot be made: `CreateContainerConfigError`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error("volume \"{0}\" of the container's volumeMounts is not in the pod's volumes")]
    NoVolume(String),
    #[error("invalid subPath \"{0}\": must be relative and must not contain '..'")]
    SubPath(String),
    #[error("subPathExpr \"{0}\" refers to a variable that is not set")]
    SubPathExpr(String),
    #[error("subPathExpr: {0}")]
    TooLong(#[from] TooLong),
}

/// Where one volume lies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// A directory, or, of the node's or a PersistentVolume's, a file.
    pub path: PathBuf,
    /// No mount of it may write.
    pub read_only: bool,
}

/// The place of a volume. A `hostPath` lies where it says; everything else beneath the pod's directory.
pub fn place(volume: &core::Volume, pod_dir: &Path) -> Place {
    if let Some(host) = &volume.host_path {
        return Place { path: PathBuf::from(&host.path), read_only: false };
    }
    let read_only = match (&volume.persistent_volume_claim, &volume.nfs) {
        (Some(claim), _) => claim.read_only.unwrap_or(false),
        (None, Some(source)) => source.read_only.unwrap_or(false),
        (None, None) => volume.empty_dir.is_none() && volume.ephemeral.is_none(),
    };
    Place { path: pod_dir.join("volumes").join(&volume.name), read_only }
}

/// A container's mounts, in the order in which the manifest names them.
///
/// # Errors
/// When a mount names no volume of the pod, or a path that leads outside it.
pub fn preopens(
    spec: &core::PodSpec,
    container: &core::Container,
    pod_dir: &Path,
    environment: &[(String, String)],
) -> Result<Vec<Preopen>, Error> {
    let mounts = container.volume_mounts.iter().flatten();
    mounts.map(|mount| preopen(spec, mount, pod_dir, environment)).collect()
}

/// The pod's emptyDirs in memory that anybody may write to, as `container` sees them.
pub fn memory_volumes(spec: &core::PodSpec, container: &str, pod_dir: &Path) -> Vec<MemoryVolume> {
    let in_memory = |volume: &&core::Volume| {
        volume.empty_dir.as_ref().is_some_and(|source| source.medium.as_deref() == Some("Memory"))
    };
    let described = |volume: &core::Volume| {
        let writes = |container: &core::Container| {
            let mut mounts = container.volume_mounts.iter().flatten();
            mounts.any(|mount| mount.name == volume.name && mount.read_only != Some(true))
        };
        let (mut this, mut others) = (false, false);
        for found in containers::all(spec).filter(|found| writes(found)) {
            if found.name == container { this = true } else { others = true }
        }
        let writers = match (this, others) {
            (false, false) => return None,
            (true, false) => Writers::This,
            (true, true) => Writers::Several,
            (false, true) => Writers::Others,
        };
        Some(MemoryVolume { dir: place(volume, pod_dir).path, writers })
    };
    spec.volumes.iter().flatten().filter(in_memory).filter_map(described).collect()
}

fn preopen(
    spec: &core::PodSpec,
    mount: &core::VolumeMount,
    pod_dir: &Path,
    environment: &[(String, String)],
) -> Result<Preopen, Error> {
    let mut volumes = spec.volumes.iter().flatten();
    let volume = volumes.find(|volume| volume.name == mount.name).ok_or_else(|| Error::NoVolume(mount.name.clone()))?;
    let place = place(volume, pod_dir);
    Ok(Preopen {
        host_dir: place.path,
        guest_path: guest_path::plain(&mount.mount_path),
        read_only: place.read_only || mount.read_only.unwrap_or(false),
        sub_path: sub_path(mount, environment)?,
    })
}

fn sub_path(mount: &core::VolumeMount, environment: &[(String, String)]) -> Result<Option<String>, Error> {
    let path = match (&mount.sub_path, &mount.sub_path_expr) {
        (Some(path), _) if !path.is_empty() => path.clone(),
        (_, Some(expression)) if !expression.is_empty() => expanded(expression, environment)?,
        _ => return Ok(None),
    };
    // An expression may come to nothing: the volume itself, as the kubelet has it.
    if path.is_empty() {
        return Ok(None);
    }
    if path.starts_with('/') || path.split('/').any(|part| part == "..") {
        return Err(Error::SubPath(path));
    }
    Ok(Some(path))
}

fn expanded(expression: &str, environment: &[(String, String)]) -> Result<String, Error> {
    let unset = std::cell::Cell::new(false);
    let path = expand(expression, |name| {
        let value = environment.iter().find(|(found, _)| found == name).map(|(_, value)| value.as_str());
        unset.set(unset.get() || value.is_none());
        value
    })?;
    if unset.get() { Err(Error::SubPathExpr(expression.to_owned())) } else { Ok(path) }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;
    use serde_json::{Value, json};

    use super::*;

    fn show(mounts: Value) -> String {
        let spec: core::PodSpec = serde_json::from_value(json!({
            "containers": [{ "name": "c", "volumeMounts": mounts }],
            "volumes": [
                { "name": "data", "emptyDir": {} },
                { "name": "cfg", "configMap": { "name": "x" } },
                { "name": "host", "hostPath": { "path": "/srv/data", "type": "Directory" } },
                { "name": "kept", "persistentVolumeClaim": { "claimName": "x" } },
                { "name": "shown", "persistentVolumeClaim": { "claimName": "x", "readOnly": true } },
                { "name": "served", "nfs": { "server": "s", "path": "/e" } },
                { "name": "read", "nfs": { "server": "s", "path": "/e", "readOnly": true } },
                { "name": "file", "hostPath": { "path": "/srv/one.txt", "type": "FileOrCreate" } }
            ]
        }))
        .unwrap();
        let environment = [("POD", "p-0"), ("NONE", "")].map(|(name, value)| (name.to_owned(), value.to_owned()));
        match preopens(&spec, &spec.containers[0], Path::new("/pods/u"), &environment) {
            Ok(all) => all.iter().map(line).collect(),
            Err(error) => format!("{error}\n"),
        }
    }

    fn line(preopen: &Preopen) -> String {
        let mode = if preopen.read_only { "ro" } else { "rw" };
        let sub = preopen.sub_path.as_deref().unwrap_or("-");
        format!("{} -> {} {mode} {sub}\n", preopen.guest_path, preopen.host_dir.display())
    }

    #[test]
    fn volumes_in_memory_belong_to_who_writes_them() {
        let mount = |name: &str| json!({ "name": name, "mountPath": "/m" });
        let read = |name: &str| json!({ "name": name, "mountPath": "/m", "readOnly": true });
        let volume = |name: &str, medium: &str| json!({ "name": name, "emptyDir": { "medium": medium } });
        let spec: core::PodSpec = serde_json::from_value(json!({
            "initContainers": [{ "name": "init", "volumeMounts": [mount("made"), mount("disk")] }],
            "containers": [
                { "name": "a", "volumeMounts": [mount("own"), mount("both"), read("made"), read("unused")] },
                { "name": "b", "volumeMounts": [mount("both"), mount("theirs")] }],
            "volumes": [volume("own", "Memory"), volume("both", "Memory"), volume("theirs", "Memory"),
                volume("made", "Memory"), volume("unused", "Memory"), volume("disk", "")]
        }))
        .unwrap();
        let name = |volume: &MemoryVolume| volume.dir.file_name().unwrap().to_str().unwrap().to_owned();
        let of = |container: &str| -> Vec<(String, Writers)> {
            let volumes = memory_volumes(&spec, container, Path::new("/pods/u"));
            volumes.iter().map(|volume| (name(volume), volume.writers)).collect()
        };
        let expected = [
            ("own", Writers::This),
            ("both", Writers::Several),
            ("theirs", Writers::Others),
            ("made", Writers::Others),
        ];
        assert_eq!(of("a"), expected.map(|(name, writers)| (name.to_owned(), writers)));
        assert_eq!(of("init").last(), Some(&("made".to_owned(), Writers::This)));
    }

    #[test]
    fn mounts_become_preopens() {
        expect![[r#"
            /d -> /pods/u/volumes/data rw -
            /e -> /pods/u/volumes/data ro logs/p-0
            /w -> /pods/u/volumes/data rw -
            /c -> /pods/u/volumes/cfg ro -
            /c/k.txt -> /pods/u/volumes/cfg ro k.txt
            /h -> /srv/data rw -
            /f -> /srv/one.txt rw -
            /k -> /pods/u/volumes/kept rw -
            /s -> /pods/u/volumes/shown ro -
            /n -> /pods/u/volumes/served rw -
            /r -> /pods/u/volumes/read ro -
        "#]]
        .assert_eq(&show(json!([
            { "name": "data", "mountPath": "/d" },
            { "name": "data", "mountPath": "/e", "readOnly": true, "subPathExpr": "logs/$(POD)" },
            { "name": "data", "mountPath": "/w", "subPathExpr": "$(NONE)" },
            { "name": "cfg", "mountPath": "/c" },
            { "name": "cfg", "mountPath": "/c/k.txt", "subPath": "k.txt" },
            { "name": "host", "mountPath": "/h" },
            { "name": "file", "mountPath": "/f" },
            { "name": "kept", "mountPath": "/k" },
            { "name": "shown", "mountPath": "/s" },
            { "name": "served", "mountPath": "/n" },
            { "name": "read", "mountPath": "/r" }
        ])));
    }

    #[test]
    fn refusals_say_what_is_wrong() {
        expect![[r#"
            volume "none" of the container's volumeMounts is not in the pod's volumes
        "#]]
        .assert_eq(&show(json!([{ "name": "none", "mountPath": "/d" }])));
        expect![[r#"
            invalid subPath "../x": must be relative and must not contain '..'
        "#]]
        .assert_eq(&show(json!([{ "name": "data", "mountPath": "/d", "subPath": "../x" }])));
        expect![[r#"
            subPathExpr "$(NO)" refers to a variable that is not set
        "#]]
        .assert_eq(&show(json!([{ "name": "data", "mountPath": "/d", "subPathExpr": "$(NO)" }])));
    }
}
