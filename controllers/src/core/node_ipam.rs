//! Gives every node a range of addresses of its own, cut from the cluster's (kube-controller-manager's node IPAM).

use std::collections::HashMap;
use std::sync::Arc;

use ipnet::IpNet;
use k8s_openapi::api::core::v1::Node;
use serde_json::json;

use crate::config::PodRange;
use crate::engine::{Controller, Turn, Wake};
use crate::plan::{Note, NoteType, Plan, Regarding, Target};
use crate::pods::is_deleting;
use crate::resource::{Key, NODES};
use crate::world::{Delta, Object, World};

pub struct NodeIpam {
    ranges: Vec<Cursor>,
    /// By node: what it has, or what was chosen for it and may already be written.
    taken: HashMap<Arc<str>, Vec<IpNet>>,
}

/// A range, and how many of its parts have been passed: one that was given back is used again as late as may be.
struct Cursor {
    range: PodRange,
    next: usize,
}

impl NodeIpam {
    pub fn new(ranges: &[PodRange]) -> Self {
        let ranges = ranges.iter().map(|range| Cursor { range: *range, next: 0 }).collect();
        Self { ranges, taken: HashMap::new() }
    }

    /// A part of every range, or nothing when one is full.
    fn choose(&mut self) -> Option<Vec<IpNet>> {
        let taken: Vec<IpNet> = self.taken.values().flatten().copied().collect();
        self.ranges.iter_mut().map(|cursor| cursor.advance(&taken)).collect()
    }
}

impl Cursor {
    fn advance(&mut self, taken: &[IpNet]) -> Option<IpNet> {
        let parts = self.range.cluster.subnets(self.range.node_prefix).ok()?;
        let overlaps = |part: &IpNet| taken.iter().any(|other| part.contains(other) || other.contains(part));
        let ahead = parts.enumerate().skip(self.next);
        let (index, part) = ahead.chain(parts.enumerate().take(self.next)).find(|(_, part)| !overlaps(part))?;
        self.next = index + 1;
        Some(part)
    }
}

impl Controller for NodeIpam {
    fn name(&self) -> &'static str {
        "node-ipam-controller"
    }

    fn observe(&mut self, delta: &Delta, world: &World, wake: &mut Wake) {
        let Object::Node(node) = &delta.object else { return };
        if self.ranges.is_empty() {
            return;
        }
        let name = node.metadata.name.as_deref().unwrap_or_default();
        if delta.gone {
            self.taken.remove(name);
            // Its addresses may be what another waits for.
            world.nodes.iter().filter(|node| has(node).is_empty()).for_each(|node| wake.now(Key::of(&node.metadata)));
            return;
        }
        match has(node) {
            ranges if ranges.is_empty() => wake.now(Key::of(&node.metadata)),
            ranges => _ = self.taken.insert(name.into(), ranges),
        }
    }

    fn reconcile(&mut self, key: &Key, world: &World, _: &mut Turn<'_>) -> Plan {
        let mut plan = Plan::none();
        let wants = |node: &&Arc<Node>| has(node).is_empty() && !is_deleting(&node.metadata) && !self.ranges.is_empty();
        let Some(node) = world.nodes.by_key(key).filter(wants) else { return plan };
        let Some(ranges) = self.taken.get(&key.name).cloned().or_else(|| self.choose()) else {
            let message = format!("Node {} status is now: CIDRNotAvailable", key.name);
            let regarding = Regarding::new(&NODES, &node.metadata);
            let (component, note_type, reason) = ("cidrAllocator", NoteType::Normal, "CIDRNotAvailable");
            plan.note(Note { component, regarding, note_type, reason, action: "", message });
            return plan;
        };
        self.taken.insert(key.name.clone(), ranges.clone());
        let ranges: Vec<String> = ranges.iter().map(ToString::to_string).collect();
        let patch = json!({ "spec": { "podCIDR": ranges.first(), "podCIDRs": ranges } });
        plan.merge_patch(Target::new(&NODES, &node.metadata), patch);
        plan
    }
}

fn has(node: &Node) -> Vec<IpNet> {
    let spec = node.spec.as_ref();
    let all = spec.into_iter().flat_map(|spec| spec.pod_cidrs.iter().flatten().chain(&spec.pod_cidr));
    all.filter_map(|range| range.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;
    use crate::testing::{Bench, objects, text};
    use crate::world::Change;

    fn node(name: &str, spec: &str) -> String {
        format!("---\napiVersion: v1\nkind: Node\nmetadata: {{name: {name}}}\nspec: {{{spec}}}\n")
    }

    fn ranges(all: &[(&str, u8)]) -> NodeIpam {
        let parse = |(cluster, node_prefix): &(&str, u8)| PodRange {
            cluster: cluster.parse().unwrap(),
            node_prefix: *node_prefix,
        };
        NodeIpam::new(&all.iter().map(parse).collect::<Vec<_>>())
    }

    fn plan(bench: &mut Bench<NodeIpam>, name: &str) -> String {
        text(&bench.reconcile("", name, "2024-01-01T00:00:00Z"))
    }

    #[test]
    fn every_node_gets_a_part_that_no_other_has() {
        let nodes = [node("a", ""), node("b", ""), node("has", "podCIDRs: [10.42.0.128/25]"), node("c", "")].concat();
        let mut bench = Bench::new(ranges(&[("10.42.0.0/22", 24), ("fd00::/62", 64)]), &nodes);
        expect![[r#"
            patch nodes a : {"spec":{"podCIDR":"10.42.1.0/24","podCIDRs":["10.42.1.0/24","fd00::/64"]}}
        "#]]
        .assert_eq(&plan(&mut bench, "a"));
        let second = plan(&mut bench, "b");
        expect![[r#"
            patch nodes b : {"spec":{"podCIDR":"10.42.2.0/24","podCIDRs":["10.42.2.0/24","fd00:0:0:1::/64"]}}
        "#]]
        .assert_eq(&second);
        assert_eq!(plan(&mut bench, "b"), second, "a write that may have been made is made again");
        assert_eq!(plan(&mut bench, "has"), "");
    }

    #[test]
    fn a_node_waits_until_another_gives_its_part_back() {
        let held = node("held", "podCIDR: 10.42.0.0/24");
        let mut bench = Bench::new(ranges(&[("10.42.0.0/24", 24)]), &(held.clone() + &node("late", "")));
        expect![[r#"
            note Normal CIDRNotAvailable on late: Node late status is now: CIDRNotAvailable
        "#]]
        .assert_eq(&plan(&mut bench, "late"));
        let gone = objects(&held).remove(0);
        assert!(bench.wakes(Change::WatchedGone(gone)));
        expect![[r#"
            patch nodes late : {"spec":{"podCIDR":"10.42.0.0/24","podCIDRs":["10.42.0.0/24"]}}
        "#]]
        .assert_eq(&plan(&mut bench, "late"));
    }

    #[test]
    fn without_ranges_nodes_are_left_alone() {
        let mut bench = Bench::new(ranges(&[]), &node("a", ""));
        assert_eq!(plan(&mut bench, "a"), "");
    }
}
