//! Disks that pods mount by themselves, without a claim: a node can mount each only once, or only for reading.

use k8s_openapi::api::core::v1::{Pod, Volume};

/// Which disk it is.
#[derive(Debug, PartialEq, Eq)]
enum Identity {
    Gce(String),
    /// Can be mounted once, however it is used.
    Aws(String),
    Iscsi(String),
    Rbd {
        monitors: Vec<String>,
        pool: String,
        image: String,
    },
}

/// A disk as a pod mounts it.
#[derive(Debug, PartialEq, Eq)]
pub struct Disk {
    identity: Identity,
    read_only: bool,
}

impl Disk {
    /// Whether a node can't mount both.
    pub fn collides(&self, other: &Disk) -> bool {
        let is_same = match (&self.identity, &other.identity) {
            (
                Identity::Rbd { monitors, pool, image },
                Identity::Rbd { monitors: other_monitors, pool: other_pool, image: other_image },
            ) => pool == other_pool && image == other_image && monitors.iter().any(|m| other_monitors.contains(m)),
            (one, other) => one == other,
        };
        let is_shareable = self.read_only && other.read_only && !matches!(self.identity, Identity::Aws(_));
        is_same && !is_shareable
    }

    fn of(volume: &Volume) -> Option<Disk> {
        let disk = |identity, read_only: Option<bool>| Some(Disk { identity, read_only: read_only == Some(true) });
        if let Some(gce) = &volume.gce_persistent_disk {
            return disk(Identity::Gce(gce.pd_name.clone()), gce.read_only);
        }
        if let Some(aws) = &volume.aws_elastic_block_store {
            return disk(Identity::Aws(aws.volume_id.clone()), aws.read_only);
        }
        if let Some(iscsi) = &volume.iscsi {
            return disk(Identity::Iscsi(iscsi.iqn.clone()), iscsi.read_only);
        }
        let rbd = volume.rbd.as_ref()?;
        let pool = rbd.pool.clone().filter(|pool| !pool.is_empty()).unwrap_or_else(|| "rbd".into());
        disk(Identity::Rbd { monitors: rbd.monitors.clone(), pool, image: rbd.image.clone() }, rbd.read_only)
    }
}

/// The disks of a pod.
pub fn disks(pod: &Pod) -> impl Iterator<Item = Disk> {
    pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten()).filter_map(Disk::of)
}
