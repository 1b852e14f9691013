//! A claim that only one pod may use (ReadWriteOncePod) keeps others waiting.

use super::{Begin, Filter, Refusal};
use crate::scheduler::cycle::Cycle;
use crate::scheduler::event::Event;
use crate::scheduler::pending::Pending;
use crate::scheduler::snapshot::Snapshot;

pub struct VolumeRestrictions;

impl Filter for VolumeRestrictions {
    fn name(&self) -> &'static str {
        "VolumeRestrictions"
    }

    fn begin<'a>(&self, cycle: &Cycle<'a>) -> Begin<'a> {
        if !cycle.snapshot.volumes.has_exclusive_conflict(&cycle.pod.info) {
            return Begin::Pass;
        }
        Begin::check(|_| {
            Err(Refusal::for_now(
                "node(s) unavailable due to PersistentVolumeClaim with ReadWriteOncePod access mode already in-use by \
                 another pod",
            ))
        })
    }

    fn may_be_helped_by(&self, pod: &Pending, event: &Event<'_>, _: &Snapshot) -> bool {
        match event {
            Event::Freed { pod: other, .. } => {
                let shares = || other.claims.iter().any(|claim| pod.info.claims.contains(claim));
                other.namespace() == pod.info.namespace() && shares()
            }
            _ => false,
        }
    }
}
