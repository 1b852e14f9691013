//! Which pods a scale-down takes first (API concepts: ReplicaSet, "Scaling a ReplicaSet").

use std::cmp::Reverse;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;

use crate::pods;

const DELETION_COST: &str = "controller.kubernetes.io/pod-deletion-cost";

/// Orders pods; the smallest goes first. Ages count in powers of two, so that the choice among pods of like age falls to
/// the uid, which is as good as chance (KEP-2185).
#[derive(PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Rank {
    is_assigned: bool,
    phase: u8,
    is_ready: bool,
    deletion_cost: i32,
    neighbours: Reverse<usize>,
    ready_age: i64,
    /// Compared only between ready pods; 0 otherwise.
    ready_uid: String,
    restarts: Reverse<i32>,
    age: i64,
    uid: String,
}

impl Rank {
    /// `neighbours`: active pods of the same origin on the pod's node.
    pub fn of(pod: &Pod, neighbours: usize, now: Timestamp) -> Self {
        let uid = pod.metadata.uid.clone().unwrap_or_default();
        let ready_since = pods::ready_since(pod);
        let annotations = pod.metadata.annotations.as_ref();
        Self {
            is_assigned: pods::node_name(pod).is_some(),
            phase: match pods::phase(pod) {
                "Pending" => 0,
                "Unknown" => 1,
                _ => 2,
            },
            is_ready: pods::is_ready(pod),
            deletion_cost: annotations.and_then(|a| a.get(DELETION_COST)?.parse().ok()).unwrap_or(0),
            neighbours: Reverse(neighbours),
            ready_age: ready_since.map_or(-1, |at| log_age(at, now)),
            ready_uid: ready_since.map(|_| uid.clone()).unwrap_or_default(),
            restarts: Reverse(restarts(pod)),
            age: pod.metadata.creation_timestamp.as_ref().map_or(-1, |t| log_age(t.0, now)),
            uid,
        }
    }
}

fn log_age(at: Timestamp, now: Timestamp) -> i64 {
    let nanos = now.duration_since(at).as_nanos();
    if nanos > 0 { i64::from(nanos.ilog2()) } else { -1 }
}

fn restarts(pod: &Pod) -> i32 {
    let statuses = pod.status.iter().filter_map(|s| s.container_statuses.as_ref()).flatten();
    statuses.map(|s| s.restart_count).max().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(yaml: &str) -> Pod {
        serde_saphyr::from_str(yaml).unwrap()
    }

    #[test]
    fn each_criterion_outweighs_all_that_follow() {
        let now: Timestamp = "2024-01-01T01:00:00Z".parse().unwrap();
        let ready = |since: &str| {
            format!(
                "status: {{phase: Running, conditions: [{{type: Ready, status: 'True', lastTransitionTime: {since}}}]}}"
            )
        };
        let old = ready("2024-01-01T00:00:00Z");
        let new = ready("2024-01-01T00:59:50Z");
        let in_order = [
            (pod("{metadata: {uid: z}, spec: {containers: []}}"), 0),
            (pod("{metadata: {uid: a}, spec: {containers: [], nodeName: n}, status: {phase: Pending}}"), 0),
            (pod("{metadata: {uid: b}, spec: {containers: [], nodeName: n}, status: {phase: Unknown}}"), 0),
            (pod("{metadata: {uid: c}, spec: {containers: [], nodeName: n}, status: {phase: Running}}"), 0),
            (
                pod(&format!(
                    "metadata: {{uid: d, annotations: {{{DELETION_COST}: '-5'}}}}\nspec: {{containers: [], nodeName: n}}\n{old}"
                )),
                0,
            ),
            (pod(&format!("metadata: {{uid: e}}\nspec: {{containers: [], nodeName: n}}\n{old}")), 3),
            (pod(&format!("metadata: {{uid: f}}\nspec: {{containers: [], nodeName: n}}\n{new}")), 1),
            (pod(&format!("metadata: {{uid: g}}\nspec: {{containers: [], nodeName: n}}\n{old}")), 1),
        ];
        let ranks: Vec<_> = in_order.iter().map(|(pod, neighbours)| Rank::of(pod, *neighbours, now)).collect();
        assert!(ranks.is_sorted(), "{ranks:#?}");
    }
}
