//! How fast pods may be evicted from nodes that fall silent: slower, or not at all, where many do at once, for then it is
//! more likely the network than the nodes (kube-controller-manager's `--node-eviction-rate` and its kin).

use std::collections::HashMap;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Node;

use crate::nodes::is_ready;
use crate::time;
use crate::world::World;

/// Between two nodes of a healthy zone (`--node-eviction-rate` 0.1).
const PAUSE: Duration = Duration::from_secs(10);
/// Between two nodes of a large zone in trouble (`--secondary-node-eviction-rate` 0.01).
const LONG_PAUSE: Duration = Duration::from_secs(100);
/// Share of nodes not ready from which a zone is in trouble, in percent (`--unhealthy-zone-threshold`).
const TROUBLE_PERCENT: usize = 55;
/// Fewer nodes than these never are trouble.
const MIN_TROUBLED: usize = 3;
/// A zone in trouble of no more nodes than this is left alone (`--large-cluster-size-threshold`).
const SMALL_ZONE_NODES: usize = 50;

#[derive(Clone, Copy, Default)]
struct Zone {
    ready: usize,
    not_ready: usize,
}

impl Zone {
    fn is_down(self) -> bool {
        self.ready == 0 && self.not_ready > 0
    }

    /// How long to wait after one node before the next; `None` for ever.
    fn pause(self) -> Option<Duration> {
        let nodes = self.ready + self.not_ready;
        let is_troubled = self.not_ready >= MIN_TROUBLED && self.not_ready * 100 >= nodes * TROUBLE_PERCENT;
        match (self.is_down(), is_troubled) {
            (false, true) if nodes <= SMALL_ZONE_NODES => None,
            (false, true) => Some(LONG_PAUSE),
            _ => Some(PAUSE),
        }
    }
}

/// Whether a node's pods may be evicted.
pub enum Permit {
    Granted,
    After(Duration),
    /// Not before other nodes are ready.
    Denied,
}

/// When each zone had its last node.
#[derive(Default)]
pub struct Evictions(HashMap<String, Timestamp>);

impl Evictions {
    /// Gives the node's pods up, if it is the node's turn; `is_given_up` says that they are already.
    pub fn permit(&mut self, node: &Node, is_given_up: bool, world: &World, now: Timestamp) -> Permit {
        // Where every node is out of reach, evicting helps nobody: more likely we are the ones cut off.
        if !world.nodes.iter().any(|node| is_ready(node)) {
            return Permit::Denied;
        }
        if is_given_up {
            return Permit::Granted;
        }
        let zones = zones(world);
        let name = name(node);
        let Some(pause) = zones.get(&name).copied().unwrap_or_default().pause() else { return Permit::Denied };
        if let Some(last) = self.0.get(&name) {
            let wait = time::until(time::after(*last, pause), now);
            if !wait.is_zero() {
                return Permit::After(wait);
            }
        }
        self.0.retain(|zone, _| zones.contains_key(zone));
        self.0.insert(name, now);
        Permit::Granted
    }
}

fn zones(world: &World) -> HashMap<String, Zone> {
    let mut zones: HashMap<String, Zone> = HashMap::new();
    for node in world.nodes.iter() {
        let zone = zones.entry(name(node)).or_default();
        if is_ready(node) {
            zone.ready += 1;
        } else {
            zone.not_ready += 1;
        }
    }
    zones
}

/// Region and zone together; nodes without either are a zone of their own.
fn name(node: &Node) -> String {
    let label = |key: &str| node.metadata.labels.as_ref().and_then(|labels| labels.get(key)).cloned();
    let region = label("topology.kubernetes.io/region").unwrap_or_default();
    let zone = label("topology.kubernetes.io/zone").unwrap_or_default();
    format!("{region}:{zone}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_are_given_up_by_how_many_of_their_zone_are_well() {
        let pause = |ready, not_ready| Zone { ready, not_ready }.pause();
        assert_eq!(pause(5, 0), Some(PAUSE));
        assert_eq!(pause(3, 3), Some(PAUSE), "a half is no trouble");
        assert_eq!(pause(1, 2), Some(PAUSE), "nor are two");
        assert_eq!(pause(2, 3), None, "a small zone in trouble is left alone");
        assert_eq!(pause(22, 28), None, "and so is one of 50");
        assert_eq!(pause(23, 28), Some(PAUSE), "54.9 percent");
        assert_eq!(pause(22, 29), Some(LONG_PAUSE));
        assert_eq!(pause(0, 2), Some(PAUSE), "a zone that is down altogether is given up, as long as another is not");
        assert_eq!(pause(0, 0), Some(PAUSE));
    }
}
