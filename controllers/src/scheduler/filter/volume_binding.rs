//! A pod's claims must have a volume that can be mounted on the node, or be able to get one there.

use std::borrow::Cow;

use super::{Begin, Filter, Reasons, Refusal};
use crate::scheduler::cycle::Cycle;
use crate::scheduler::event::Event;
use crate::scheduler::pending::Pending;
use crate::scheduler::snapshot::Snapshot;
use crate::scheduler::volumes::{Unserved, allows, largest_volume_bytes, publishes_capacity};

pub struct VolumeBinding;

impl Filter for VolumeBinding {
    fn name(&self) -> &'static str {
        "VolumeBinding"
    }

    fn begin<'a>(&self, cycle: &Cycle<'a>) -> Begin<'a> {
        let volumes = &cycle.snapshot.volumes;
        if cycle.pod.info.claims.is_empty() {
            return Begin::Pass;
        }
        let claims = match volumes.of_pod(&cycle.pod.info) {
            Ok(claims) if claims.has_unbound => {
                return Begin::Nowhere("pod has unbound immediate PersistentVolumeClaims".into());
            }
            Ok(claims) => claims,
            Err(message) => return Begin::Nowhere(message),
        };
        Begin::check(move |node| {
            let mut reasons = Vec::new();
            // The first of them says why.
            let unfit = claims.bound.iter().find(|(_, volume)| volume.is_none_or(|volume| !allows(volume, &node.node)));
            match unfit {
                None => {}
                Some((_, Some(_))) => {
                    reasons.push(Cow::Borrowed("node(s) didn't match PersistentVolume's node affinity"));
                }
                Some((_, None)) => {
                    let gone = "node(s) unavailable due to one or more pvc(s) bound to non-existent pv(s)";
                    reasons.push(Cow::Borrowed(gone));
                }
            }
            match volumes.bindings(&claims.waiting, &node.node) {
                Ok(_) => {}
                Err(Unserved::NoVolume) => {
                    reasons.push(Cow::Borrowed("node(s) didn't find available persistent volumes to bind"));
                }
                Err(Unserved::NoSpace) => reasons.push(Cow::Borrowed("node(s) did not have enough free storage")),
            }
            if reasons.is_empty() {
                return Ok(());
            }
            Err(Refusal { reasons: Reasons::Many(reasons), is_resolvable: false })
        })
    }

    fn may_be_helped_by(&self, pod: &Pending, event: &Event<'_>, _: &Snapshot) -> bool {
        match event {
            Event::Claim(claim) => pod.info.uses(claim),
            Event::Volume { .. } => true,
            Event::StorageClass { class, before } => {
                before.is_none_or(|before| before.allowed_topologies != class.allowed_topologies)
            }
            Event::CsiDriver { driver, before } => {
                before.is_some_and(publishes_capacity) && !publishes_capacity(driver)
            }
            Event::CsiCapacity { capacity, before } => {
                let largest = largest_volume_bytes(capacity);
                before.is_none_or(|before| largest > largest_volume_bytes(before))
            }
            event => event.is_new_ground(),
        }
    }
}
