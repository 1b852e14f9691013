//! Takes back what a pod was told of its end when that did not come: an eviction or a preemption was decided, and the pod is
//! still not being deleted (KEP-3329).

use std::time::Duration;

use k8s_openapi::api::core::v1::{Pod, PodCondition};
use serde_json::json;

use crate::engine::{Controller, Turn, Wake};
use crate::plan::{self, Plan, Target};
use crate::pods;
use crate::resource::{Key, PODS};
use crate::time::{self, stamp};
use crate::world::{Delta, Object, World};

/// How long a deletion may take to follow what announced it.
const MAX_ANNOUNCED: Duration = Duration::from_secs(120);
/// A node announces what it will do however long that takes.
const BY_NODE: &str = "TerminationByKubelet";

pub struct StaleDisruptions;

impl Controller for StaleDisruptions {
    fn name(&self) -> &'static str {
        "stale-pod-disruption"
    }

    fn observe(&mut self, delta: &Delta, _: &World, wake: &mut Wake) {
        if let Object::Pod(pod) = &delta.object
            && !delta.gone
            && announced(pod).is_some()
        {
            wake.now(Key::of(&pod.metadata));
        }
    }

    fn reconcile(&mut self, key: &Key, world: &World, turn: &mut Turn<'_>) -> Plan {
        let mut plan = Plan::none();
        let Some(pod) = world.pods.by_key(key) else { return plan };
        let Some(mut condition) = announced(pod).cloned() else { return plan };
        let since = condition.last_transition_time.as_ref().map(|time| time.0);
        let left = since.map(|since| time::until(time::after(since, MAX_ANNOUNCED), turn.now)).unwrap_or_default();
        if !left.is_zero() {
            plan.requeue(left);
            return plan;
        }
        condition.status = "False".into();
        condition.last_transition_time = Some(stamp(turn.now));
        let status = json!({ "conditions": [plan::to_value(&condition)] });
        plan.patch_status(Target::exact(&PODS, &pod.metadata), json!({ "status": status }));
        plan
    }
}

/// What tells a pod of its end.
fn announced(pod: &Pod) -> Option<&PodCondition> {
    let condition = pods::condition(pod, pods::DISRUPTION_TARGET)?;
    let is_told = condition.status == "True" && condition.reason.as_deref() != Some(BY_NODE);
    (is_told && pods::is_active(pod)).then_some(condition)
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;
    use crate::testing::{Bench, text};

    fn check(reason: &str, since: &str, phase: &str, expect: Expect) {
        let pod = format!(
            "
apiVersion: v1
kind: Pod
metadata: {{namespace: ns, name: p}}
spec: {{containers: []}}
status: {{phase: {phase}, conditions: [{{type: DisruptionTarget, status: 'True', reason: {reason}, lastTransitionTime: '{since}'}}]}}
"
        );
        let mut bench = Bench::new(StaleDisruptions, &pod);
        expect.assert_eq(&text(&bench.reconcile("ns", "p", "2024-01-01T00:02:00Z")));
    }

    #[test]
    fn an_end_that_does_not_come_is_taken_back() {
        check(
            "EvictionByEvictionAPI",
            "2024-01-01T00:01:30Z",
            "Running",
            expect![[r#"
            look again in 90s
        "#]],
        );
        check(
            "EvictionByEvictionAPI",
            "2024-01-01T00:00:00Z",
            "Running",
            expect![[r#"
            patch pods ns/p at 1 status: {"status":{"conditions":[{"lastTransitionTime":"2024-01-01T00:02:00Z","reason":"EvictionByEvictionAPI","status":"False","type":"DisruptionTarget"}]}}
        "#]],
        );
        check("EvictionByEvictionAPI", "2024-01-01T00:00:00Z", "Failed", expect![""]);
        check("TerminationByKubelet", "2024-01-01T00:00:00Z", "Running", expect![""]);
    }
}
