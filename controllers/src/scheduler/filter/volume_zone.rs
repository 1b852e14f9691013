//! A volume that is labelled with zones or regions can be mounted on nodes there only.

use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};

use super::{Begin, Filter, Refusal};
use crate::scheduler::cycle::Cycle;
use crate::scheduler::event::Event;
use crate::scheduler::pending::Pending;
use crate::scheduler::snapshot::{NodeInfo, Snapshot};
use crate::scheduler::volumes::is_ephemeral;

const KEYS: [&str; 4] = [
    "topology.kubernetes.io/zone",
    "topology.kubernetes.io/region",
    "failure-domain.beta.kubernetes.io/zone",
    "failure-domain.beta.kubernetes.io/region",
];
/// Between the zones of a volume that is in several.
const SEPARATOR: &str = "__";

pub struct VolumeZone;

impl Filter for VolumeZone {
    fn name(&self) -> &'static str {
        "VolumeZone"
    }

    fn begin<'a>(&self, cycle: &Cycle<'a>) -> Begin<'a> {
        let Ok(claims) = cycle.snapshot.volumes.of_pod(&cycle.pod.info) else { return Begin::Pass };
        // Claims of the pod's own making are not asked about.
        let is_named = |claim: &PersistentVolumeClaim| {
            !claim.metadata.name.as_ref().is_some_and(|name| is_ephemeral(&cycle.pod.info, name))
        };
        let mut zones: Vec<(&'a String, &'a String)> = Vec::new();
        for (claim, volume) in claims.bound.iter().filter(|(claim, _)| is_named(claim)) {
            let Some(volume) = volume else {
                let name = claim.spec.as_ref().and_then(|spec| spec.volume_name.as_deref()).unwrap_or_default();
                return Begin::Nowhere(format!("persistentvolume {name:?} not found"));
            };
            zones.extend(zones_of(volume));
        }
        if zones.is_empty() {
            return Begin::Pass;
        }
        Begin::check(move |node| {
            let is_in = |(key, zones): &(&String, &String)| {
                value(node, key).is_some_and(|zone| zones.split(SEPARATOR).any(|listed| listed == zone))
            };
            // A node that says nothing of zones is in a cluster that has none.
            let has_zones = KEYS.iter().any(|key| node.labels().contains_key(*key));
            if !has_zones || zones.iter().all(is_in) {
                Ok(())
            } else {
                Err(Refusal::for_good("node(s) had no available volume zone"))
            }
        })
    }

    fn may_be_helped_by(&self, pod: &Pending, event: &Event<'_>, _: &Snapshot) -> bool {
        match event {
            Event::Claim(claim) => pod.info.uses(claim),
            Event::Volume { volume, before } => before.is_none_or(|before| !zones_of(before).eq(zones_of(volume))),
            event => event.is_new_ground(),
        }
    }
}

/// What a volume says of where it is.
fn zones_of(volume: &PersistentVolume) -> impl Iterator<Item = (&String, &String)> {
    let labels = volume.metadata.labels.iter().flatten().filter(|(key, _)| KEYS.contains(&key.as_str()));
    labels.filter(|(_, zones)| !zones.split(SEPARATOR).any(str::is_empty))
}

/// The node's label, also under the name that replaced it.
fn value<'n>(node: &'n NodeInfo, key: &str) -> Option<&'n String> {
    let renamed = || key.strip_prefix("failure-domain.beta.").map(|rest| format!("topology.{rest}"));
    node.labels().get(key).or_else(|| node.labels().get(&renamed()?))
}
