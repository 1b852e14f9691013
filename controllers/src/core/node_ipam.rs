//! Gives every node a range of addresses of its own, cut from the cluster's (kube-controller-manager's node IPAM), and nodes
//! that run wasm pods likewise one for those. Addresses of pods that have not finished are not given to another node.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use k8s_openapi::api::core::v1::{Node, Pod};
use k8w_kinds::core::node::WASM_CIDR;
use serde_json::{Value, json};

use crate::config::PodRange;
use crate::engine::{Controller, Turn, Wake};
use crate::nodes::runs_wasm;
use crate::plan::{Note, NoteType, Plan, Regarding, Target};
use crate::pods::{annotation, is_deleting, is_terminal};
use crate::resource::{Key, NODES};
use crate::world::{Delta, Object, World};

pub struct NodeIpam {
    place: Place,
    ranges: Vec<Cursor>,
    /// By node: what it has, or what was chosen for it and may already be written.
    taken: HashMap<Arc<str>, Vec<IpNet>>,
    /// Whether a node found no part left.
    is_short: bool,
}

/// Where a node's ranges stand.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    /// `spec.podCIDRs`.
    Spec,
    /// [`WASM_CIDR`].
    Annotation,
}

/// A range, and how many of its parts have been passed: one that was given back is used again as late as may be.
struct Cursor {
    range: PodRange,
    next: usize,
}

impl NodeIpam {
    /// Cuts `spec.podCIDRs` from these.
    pub fn new(ranges: &[PodRange]) -> Self {
        Self::writing(Place::Spec, ranges)
    }

    /// Cuts the ranges of wasm pods from this one.
    pub fn of_wasm_pods(range: Option<PodRange>) -> Self {
        Self::writing(Place::Annotation, range.as_slice())
    }

    fn writing(place: Place, ranges: &[PodRange]) -> Self {
        let ranges = ranges.iter().map(|range| Cursor { range: *range, next: 0 }).collect();
        Self { place, ranges, taken: HashMap::new(), is_short: false }
    }

    /// Whether a node is to get ranges.
    fn lacks(&self, node: &Node) -> bool {
        self.place.is_for(node) && self.had(node).is_empty() && !is_deleting(&node.metadata)
    }

    /// The ranges that a node has. Of wasm pods, only a part of the cluster's range that no other node has is one: the node
    /// gets another in place of what is not.
    fn had(&self, node: &Node) -> Vec<IpNet> {
        let mut ranges = self.place.of(node);
        if self.place == Place::Annotation {
            let name = node.metadata.name.as_deref().unwrap_or_default();
            if self.taken.get(name) == Some(&ranges) {
                return ranges;
            }
            let others = || self.taken.iter().filter(|(other, _)| &***other != name).flat_map(|(_, taken)| taken);
            let is_ours = |range: &IpNet| self.ranges.iter().any(|cursor| cursor.range.cluster.contains(range));
            ranges.retain(|range| is_ours(range) && !others().any(|other| overlap(range, other)));
        }
        ranges
    }

    /// A part of every range, or nothing when one is full.
    fn choose(&mut self, world: &World) -> Option<Vec<IpNet>> {
        let mut taken: Vec<IpNet> = self.taken.values().flatten().copied().collect();
        taken.extend(world.pods.iter().filter(|pod| !is_terminal(pod)).flat_map(|pod| addresses(pod)).map(IpNet::from));
        self.ranges.iter_mut().map(|cursor| cursor.advance(&taken)).collect()
    }

    /// Wakes the nodes that may get what was given back.
    fn wake_waiting(&mut self, world: &World, wake: &mut Wake) {
        if std::mem::take(&mut self.is_short) {
            world.nodes.iter().filter(|node| self.lacks(node)).for_each(|node| wake.now(Key::of(&node.metadata)));
        }
    }
}

impl Cursor {
    fn advance(&mut self, taken: &[IpNet]) -> Option<IpNet> {
        let parts = self.range.cluster.subnets(self.range.node_prefix).ok()?;
        let overlaps = |part: &IpNet| taken.iter().any(|other| overlap(part, other));
        let ahead = parts.enumerate().skip(self.next);
        let (index, part) = ahead.chain(parts.enumerate().take(self.next)).find(|(_, part)| !overlaps(part))?;
        self.next = index + 1;
        Some(part)
    }
}

fn overlap(one: &IpNet, other: &IpNet) -> bool {
    one.contains(other) || other.contains(one)
}

fn addresses(pod: &Pod) -> impl Iterator<Item = IpAddr> {
    let all = pod.status.iter().flat_map(|status| status.pod_ips.iter().flatten());
    all.filter_map(|address| address.ip.parse().ok())
}

impl Controller for NodeIpam {
    fn name(&self) -> &'static str {
        match self.place {
            Place::Spec => "node-ipam-controller",
            Place::Annotation => "wasm-ipam-controller",
        }
    }

    fn observe(&mut self, delta: &Delta, world: &World, wake: &mut Wake) {
        if self.ranges.is_empty() {
            return;
        }
        let node = match &delta.object {
            Object::Node(node) => node,
            Object::Pod(pod) if delta.gone || is_terminal(pod) => return self.wake_waiting(world, wake),
            _ => return,
        };
        let name = node.metadata.name.as_deref().unwrap_or_default();
        if delta.gone {
            self.taken.remove(name);
            return self.wake_waiting(world, wake);
        }
        match self.had(node) {
            ranges if !ranges.is_empty() => _ = self.taken.insert(name.into(), ranges),
            _ if self.place.is_for(node) => wake.now(Key::of(&node.metadata)),
            _ => {}
        }
    }

    fn reconcile(&mut self, key: &Key, world: &World, _: &mut Turn<'_>) -> Plan {
        let mut plan = Plan::none();
        let node = world.nodes.by_key(key).filter(|node| !self.ranges.is_empty() && self.lacks(node));
        let Some(node) = node else { return plan };
        let Some(ranges) = self.taken.get(&key.name).cloned().or_else(|| self.choose(world)) else {
            self.is_short = true;
            let message = format!("Node {} status is now: CIDRNotAvailable", key.name);
            let regarding = Regarding::new(&NODES, &node.metadata);
            let (component, note_type, reason) = ("cidrAllocator", NoteType::Normal, "CIDRNotAvailable");
            plan.note(Note { component, regarding, note_type, reason, action: "", message });
            return plan;
        };
        self.taken.insert(key.name.clone(), ranges.clone());
        plan.merge_patch(Target::new(&NODES, &node.metadata), self.place.patch(&ranges));
        plan
    }
}

impl Place {
    fn is_for(self, node: &Node) -> bool {
        self == Place::Spec || runs_wasm(node)
    }

    /// The ranges that a node has.
    fn of(self, node: &Node) -> Vec<IpNet> {
        let spec = node.spec.as_ref();
        match self {
            Place::Spec => {
                let all = spec.into_iter().flat_map(|spec| spec.pod_cidrs.iter().flatten().chain(&spec.pod_cidr));
                all.filter_map(|range| range.parse().ok()).collect()
            }
            Place::Annotation => {
                annotation(&node.metadata, WASM_CIDR).and_then(|range| range.parse().ok()).into_iter().collect()
            }
        }
    }

    fn patch(self, ranges: &[IpNet]) -> Value {
        let ranges: Vec<String> = ranges.iter().map(ToString::to_string).collect();
        match self {
            Place::Spec => json!({ "spec": { "podCIDR": ranges.first(), "podCIDRs": ranges } }),
            Place::Annotation => json!({ "metadata": { "annotations": { WASM_CIDR: ranges.first() } } }),
        }
    }
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

    fn wasm_node(name: &str, label: &str, annotation: &str) -> String {
        format!(
            "---\napiVersion: v1\nkind: Node\nmetadata: {{name: {name}, labels: {{k8w.dev/runtime-wasmtime: '{label}'}}, \
             annotations: {{{annotation}}}}}\n"
        )
    }

    fn wasm_bench(cluster: &str, objects: &str) -> Bench<NodeIpam> {
        let range = PodRange { cluster: cluster.parse().unwrap(), node_prefix: 18 };
        Bench::new(NodeIpam::of_wasm_pods(Some(range)), objects)
    }

    #[test]
    fn ranges_that_nobody_gave_are_replaced() {
        let given = "k8w.dev/wasm-cidr: 10.64.0.0/18";
        for theirs in ["203.0.113.0/24", "10.0.0.0/8", "10.64.0.0/18", "10.64.0.5/32", "x"] {
            let thief = wasm_node("thief", "true", &format!("k8w.dev/wasm-cidr: {theirs}"));
            let mut bench = wasm_bench("10.64.0.0/11", &(wasm_node("a", "true", given) + &thief));
            expect![[r#"
                patch nodes thief : {"metadata":{"annotations":{"k8w.dev/wasm-cidr":"10.64.64.0/18"}}}
            "#]]
            .assert_eq(&plan(&mut bench, "thief"));
            assert_eq!(plan(&mut bench, "a"), "", "{theirs}");
        }
    }

    #[test]
    fn addresses_of_pods_that_run_are_not_given_away() {
        let pod = |phase: &str| {
            format!(
                "---\napiVersion: v1\nkind: Pod\nmetadata: {{name: p, namespace: d}}\nspec: {{nodeName: gone}}\n\
                 status: {{phase: {phase}, podIPs: [{{ip: 10.64.0.9}}]}}\n"
            )
        };
        let node = wasm_node("b", "true", "");
        let mut bench = wasm_bench("10.64.0.0/17", &(node.clone() + &pod("Running")));
        expect![[r#"
            patch nodes b : {"metadata":{"annotations":{"k8w.dev/wasm-cidr":"10.64.64.0/18"}}}
        "#]]
        .assert_eq(&plan(&mut bench, "b"));
        // A finished pod has none; for one that runs the node waits.
        let mut bench = wasm_bench("10.64.0.0/18", &(node.clone() + &pod("Succeeded")));
        assert!(plan(&mut bench, "b").contains("10.64.0.0/18"));
        let mut bench = wasm_bench("10.64.0.0/18", &(node + &pod("Running")));
        assert!(plan(&mut bench, "b").contains("CIDRNotAvailable"));
        assert!(bench.wakes(Change::WatchedGone(objects(&pod("Running")).remove(0))));
        expect![[r#"
            patch nodes b : {"metadata":{"annotations":{"k8w.dev/wasm-cidr":"10.64.0.0/18"}}}
        "#]]
        .assert_eq(&plan(&mut bench, "b"));
    }

    #[test]
    fn nodes_that_run_wasm_pods_get_a_part_for_these() {
        let nodes = wasm_node("has", "true", "k8w.dev/wasm-cidr: 10.64.0.0/18")
            + &wasm_node("b", "true", "")
            + &wasm_node("other", "", "");
        let mut bench = wasm_bench("10.64.0.0/11", &nodes);
        expect![[r#"
            patch nodes b : {"metadata":{"annotations":{"k8w.dev/wasm-cidr":"10.64.64.0/18"}}}
        "#]]
        .assert_eq(&plan(&mut bench, "b"));
        assert_eq!(plan(&mut bench, "has") + &plan(&mut bench, "other"), "");
    }

    #[test]
    fn without_ranges_nodes_are_left_alone() {
        let mut bench = Bench::new(ranges(&[]), &node("a", ""));
        assert_eq!(plan(&mut bench, "a"), "");
    }
}
