//! What pods request must fit what the node has, one pod slot included.

use std::borrow::Cow;

use k8s_openapi::api::core::v1::Node;

use super::{Begin, Filter, Reasons, Refusal};
use crate::scheduler::amounts::Amounts;
use crate::scheduler::cycle::Cycle;
use crate::scheduler::event::Event;
use crate::scheduler::pending::Pending;
use crate::scheduler::pod_info::PodInfo;
use crate::scheduler::snapshot::{NodeInfo, Snapshot, max_pods};

pub struct NodeResourcesFit;

impl Filter for NodeResourcesFit {
    fn name(&self) -> &'static str {
        "NodeResourcesFit"
    }

    fn begin<'a>(&self, cycle: &Cycle<'a>) -> Begin<'a> {
        let pod: &PodInfo = &cycle.pod.info;
        Begin::check(move |node| {
            let reasons = lacks(pod, node);
            if reasons.is_empty() {
                return Ok(());
            }
            Err(Refusal { reasons: Reasons::Many(reasons), is_resolvable: fits_empty(pod, node) })
        })
    }

    fn may_be_helped_by(&self, pod: &Pending, event: &Event<'_>, _: &Snapshot) -> bool {
        match event {
            Event::Node { node, before } => {
                fits_empty(&pod.info, node) && before.is_none_or(|before| has_grown(&pod.info, before, node))
            }
            Event::Freed { node: Some(node), .. } => lacks(&pod.info, node).is_empty(),
            _ => false,
        }
    }
}

fn lacks(pod: &PodInfo, node: &NodeInfo) -> Vec<Cow<'static, str>> {
    let mut reasons = Vec::new();
    if node.pods.len() + 1 > node.max_pods {
        reasons.push(Cow::Borrowed("Too many pods"));
    }
    let (asks, has, used) = (&pod.requests, &node.allocatable, &node.requested);
    // What is not asked for may be overdrawn: only requests that add to the load are weighed.
    let short = |asks: i64, has: i64, used: i64| asks > 0 && asks > has.saturating_sub(used);
    if short(asks.cpu_millis, has.cpu_millis, used.cpu_millis) {
        reasons.push(Cow::Borrowed("Insufficient cpu"));
    }
    if short(asks.memory_bytes, has.memory_bytes, used.memory_bytes) {
        reasons.push(Cow::Borrowed("Insufficient memory"));
    }
    if short(asks.ephemeral_bytes, has.ephemeral_bytes, used.ephemeral_bytes) {
        reasons.push(Cow::Borrowed("Insufficient ephemeral-storage"));
    }
    for (name, asks) in &asks.others {
        let of = |amounts: &std::collections::BTreeMap<String, i64>| amounts.get(name).copied().unwrap_or(0);
        if short(*asks, of(&has.others), of(&used.others)) {
            reasons.push(Cow::Owned(format!("Insufficient {name}")));
        }
    }
    reasons
}

/// Whether the pod would fit the node if no other pod were on it.
fn fits_empty(pod: &PodInfo, node: &NodeInfo) -> bool {
    let (asks, has) = (&pod.requests, &node.allocatable);
    node.max_pods > 0
        && asks.cpu_millis <= has.cpu_millis
        && asks.memory_bytes <= has.memory_bytes
        && asks.ephemeral_bytes <= has.ephemeral_bytes
        && asks.others.iter().all(|(name, asks)| *asks <= has.others.get(name).copied().unwrap_or(0))
}

/// Whether the node has more than before of something that the pod asks for.
fn has_grown(pod: &PodInfo, before: &Node, node: &NodeInfo) -> bool {
    let allocatable = before.status.as_ref().and_then(|status| status.allocatable.as_ref());
    let (asks, had, has) = (&pod.requests, Amounts::from_list(allocatable), &node.allocatable);
    let amount = |of: &Amounts, name: &String| of.others.get(name).copied().unwrap_or(0);
    node.max_pods > max_pods(before)
        || (asks.cpu_millis > 0 && has.cpu_millis > had.cpu_millis)
        || (asks.memory_bytes > 0 && has.memory_bytes > had.memory_bytes)
        || (asks.ephemeral_bytes > 0 && has.ephemeral_bytes > had.ephemeral_bytes)
        || asks.others.keys().any(|name| amount(has, name) > amount(&had, name))
}
