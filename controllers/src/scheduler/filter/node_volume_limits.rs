//! A node takes only as many volumes of a CSI driver as its CSINode says it can attach.

use std::collections::{HashMap, HashSet};

use k8s_openapi::api::storage::v1::CSINode;

use super::{Begin, Filter, Refusal};
use crate::scheduler::cycle::Cycle;
use crate::scheduler::event::Event;
use crate::scheduler::pending::Pending;
use crate::scheduler::snapshot::Snapshot;

pub struct NodeVolumeLimits;

impl Filter for NodeVolumeLimits {
    fn name(&self) -> &'static str {
        "NodeVolumeLimits"
    }

    fn begin<'a>(&self, cycle: &Cycle<'a>) -> Begin<'a> {
        let volumes = &cycle.snapshot.volumes;
        let wanted = volumes.csi_volumes(&cycle.pod.info);
        if wanted.is_empty() || !volumes.has_csi_limits() {
            return Begin::Pass;
        }
        Begin::check(move |node| {
            let attached: HashSet<_> = node.pods.values().flat_map(|pod| volumes.csi_volumes(pod)).collect();
            let mut per_driver: HashMap<&str, usize> = HashMap::new();
            for (driver, _) in attached.union(&wanted) {
                *per_driver.entry(driver).or_default() += 1;
            }
            let adds = |driver: &str| wanted.iter().any(|volume| volume.0 == driver && !attached.contains(volume));
            let exceeds = |(driver, count): (&&str, &usize)| {
                adds(driver) && volumes.csi_limit(node.name(), driver).is_some_and(|limit| *count > limit)
            };
            if per_driver.iter().any(exceeds) {
                Err(Refusal::for_now("node(s) exceed max volume count"))
            } else {
                Ok(())
            }
        })
    }

    fn may_be_helped_by(&self, pod: &Pending, event: &Event<'_>, _: &Snapshot) -> bool {
        match event {
            Event::Claim(claim) => pod.info.uses(claim),
            Event::CsiNode { node, before } => before.is_none_or(|before| takes_more(before, node)),
            Event::Freed { pod, .. } => !pod.claims.is_empty(),
            // It is not known yet to have a limit.
            Event::Node { before, .. } => before.is_none(),
            _ => false,
        }
    }
}

/// Whether the node can attach more volumes of some driver than before.
fn takes_more(before: &CSINode, node: &CSINode) -> bool {
    let limit = |node: &CSINode, name: &str| {
        let driver = node.spec.drivers.iter().find(|driver| driver.name == name);
        driver.and_then(|driver| driver.allocatable.as_ref()?.count)
    };
    before.spec.drivers.iter().any(|driver| {
        let had = limit(before, &driver.name);
        had.is_some_and(|had| limit(node, &driver.name).is_none_or(|has| has > had))
    })
}
