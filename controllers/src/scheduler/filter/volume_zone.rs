//! A volume that is labelled with zones or regions can be mounted on nodes there only.

use super::{Begin, Filter, Refusal};
use crate::scheduler::cycle::Cycle;
use crate::scheduler::event::Event;
use crate::scheduler::pending::Pending;
use crate::scheduler::snapshot::{NodeInfo, Snapshot};

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
        let labels = claims.bound.iter().filter_map(|(_, volume)| volume.and_then(|v| v.metadata.labels.as_ref()));
        let zones = labels.flatten().filter(|(key, _)| KEYS.contains(&key.as_str()));
        let zones: Vec<(&'a String, &'a String)> = zones.collect();
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

    fn may_be_helped_by(&self, _: &Pending, event: &Event<'_>, _: &Snapshot) -> bool {
        matches!(event, Event::Volumes) || event.is_new_ground()
    }
}

/// The node's label, also under the name that replaced it.
fn value<'n>(node: &'n NodeInfo, key: &str) -> Option<&'n String> {
    let renamed = || key.strip_prefix("failure-domain.beta.").map(|rest| format!("topology.{rest}"));
    node.labels().get(key).or_else(|| node.labels().get(&renamed()?))
}
