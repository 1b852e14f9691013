//! A claim that only one pod may use (ReadWriteOncePod) keeps others waiting, and a disk that one pod of a node has mounted
//! keeps others from that node.

use super::{Begin, Filter, Refusal};
use crate::scheduler::cycle::Cycle;
use crate::scheduler::disks::Disk;
use crate::scheduler::event::Event;
use crate::scheduler::pending::Pending;
use crate::scheduler::pod_info::PodInfo;
use crate::scheduler::snapshot::Snapshot;

pub struct VolumeRestrictions;

impl Filter for VolumeRestrictions {
    fn name(&self) -> &'static str {
        "VolumeRestrictions"
    }

    fn begin<'a>(&self, cycle: &Cycle<'a>) -> Begin<'a> {
        let pod: &PodInfo = &cycle.pod.info;
        let is_in_use = cycle.snapshot.volumes.has_exclusive_conflict(pod);
        if !is_in_use && pod.disks.is_empty() {
            return Begin::Pass;
        }
        Begin::check(move |node| {
            if node.pods.values().any(|other| collide(pod, other)) {
                return Err(Refusal::for_now("node(s) had no available disk"));
            }
            if is_in_use {
                return Err(Refusal::for_now(
                    "node(s) unavailable due to PersistentVolumeClaim with ReadWriteOncePod access mode already in-use \
                     by another pod",
                ));
            }
            Ok(())
        })
    }

    fn may_be_helped_by(&self, pod: &Pending, event: &Event<'_>, _: &Snapshot) -> bool {
        match event {
            Event::Node { before, .. } => before.is_none() && !pod.info.disks.is_empty(),
            Event::Freed { pod: other, .. } => {
                let shares = || other.claims.iter().any(|claim| pod.info.claims.contains(claim));
                collide(&pod.info, other) || (other.namespace() == pod.info.namespace() && shares())
            }
            _ => false,
        }
    }
}

fn collide(pod: &PodInfo, other: &PodInfo) -> bool {
    pod.disks.iter().any(|ours: &Disk| other.disks.iter().any(|theirs| ours.collides(theirs)))
}
