//! Says how many pods a PodDisruptionBudget can spare; evictions are charged against it (API concepts: Disruptions).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::policy::v1::{PodDisruptionBudget, PodDisruptionBudgetSpec, PodDisruptionBudgetStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use crate::engine::{Controller, Turn, Wake};
use crate::plan::{Note, NoteType, Plan, Regarding};
use crate::pods;
use crate::resource::{DEPLOYMENTS, Key, POD_DISRUPTION_BUDGETS, REPLICA_SETS, REPLICATION_CONTROLLERS, STATEFUL_SETS};
use crate::selector;
use crate::share::{Round, share};
use crate::time::{self, stamp};
use crate::world::{Delta, Object, World, controller_of};

/// An eviction that has not led to a deletion by then is taken for one that never will.
const DELETION_TIMEOUT: Duration = Duration::from_secs(120);
const COMPONENT: &str = "controllermanager";

pub struct PodDisruptionBudgets;

impl Controller for PodDisruptionBudgets {
    fn name(&self) -> &'static str {
        "disruption"
    }

    fn observe(&mut self, delta: &Delta, world: &World, wake: &mut Wake) {
        let namespace = delta.object.meta().namespace.as_deref().unwrap_or_default();
        let budgets = || world.pod_disruption_budgets.in_namespace(namespace);
        match &delta.object {
            Object::PodDisruptionBudget(budget) => wake.now(Key::of(&budget.metadata)),
            Object::Pod(pod) => {
                let before = delta.before.as_ref().and_then(|before| before.meta().labels.as_ref());
                let labels = pod.metadata.labels.as_ref();
                for budget in budgets().filter(|b| selects(b, labels) || selects(b, before)) {
                    wake.now(Key::of(&budget.metadata));
                }
            }
            // Their size says how many pods to expect.
            Object::Deployment(_)
            | Object::ReplicaSet(_)
            | Object::StatefulSet(_)
            | Object::ReplicationController(_) => budgets().for_each(|budget| wake.now(Key::of(&budget.metadata))),
            _ => {}
        }
    }

    fn reconcile(&mut self, key: &Key, world: &World, turn: &mut Turn<'_>) -> Plan {
        match world.pod_disruption_budgets.by_key(key) {
            Some(budget) => reconcile(budget, world, turn.now),
            None => Plan::none(),
        }
    }
}

fn selects(budget: &PodDisruptionBudget, labels: Option<&selector::Labels>) -> bool {
    let wanted = budget.spec.as_ref().and_then(|spec| spec.selector.as_ref());
    wanted.is_some_and(|wanted| selector::matches(wanted, labels))
}

pub fn reconcile(budget: &PodDisruptionBudget, world: &World, now: Timestamp) -> Plan {
    let mut plan = Plan::none();
    let Some(spec) = budget.spec.as_ref().filter(|_| !pods::is_deleting(&budget.metadata)) else { return plan };
    let namespace = budget.metadata.namespace.as_deref().unwrap_or_default();
    let selected: Vec<&Arc<Pod>> =
        world.pods.in_namespace(namespace).filter(|pod| selects(budget, pod.metadata.labels.as_ref())).collect();
    if selected.is_empty() {
        plan.note(note(budget, NoteType::Normal, "NoPods", "No matching pods found".into()));
    }
    let mut status = budget.status.clone().unwrap_or_default();
    match expect(spec, &selected, world) {
        Ok((expected, desired)) => {
            count(&mut plan, &mut status, &selected, expected, desired, now);
            let (allowed, reason) = if status.disruptions_allowed > Some(0) {
                ("True", "SufficientPods")
            } else {
                ("False", "InsufficientPods")
            };
            set_condition(budget, &mut status, allowed, reason, String::new(), now);
        }
        Err(error) => {
            let message = format!("Failed to calculate the number of expected pods: {error}");
            plan.note(note(budget, NoteType::Warning, "CalculateExpectedPodCountFailed", message));
            // Rather no disruption than one too many.
            status.disruptions_allowed = Some(0);
            set_condition(budget, &mut status, "False", "SyncFailed", error, now);
        }
    }
    status.observed_generation = budget.metadata.generation;
    if budget.status.as_ref() != Some(&status) {
        plan.update_status(&POD_DISRUPTION_BUDGETS, &PodDisruptionBudget { status: Some(status), ..budget.clone() });
    }
    plan
}

/// How many pods there should be, and how many of them must be healthy.
fn expect(spec: &PodDisruptionBudgetSpec, selected: &[&Arc<Pod>], world: &World) -> Result<(i32, i32), String> {
    match (&spec.max_unavailable, &spec.min_available) {
        (Some(most), _) => {
            let expected = scale(selected, world)?;
            Ok((expected, (expected - share(most, expected, Round::Up)).max(0)))
        }
        (None, Some(IntOrString::Int(least))) => Ok((pods::count(selected.len()), *least)),
        (None, Some(percentage)) => {
            let expected = scale(selected, world)?;
            Ok((expected, share(percentage, expected, Round::Up)))
        }
        (None, None) => Ok((0, 0)),
    }
}

/// What the pods' controllers ask for, all together; pods that nobody controls don't count.
fn scale(selected: &[&Arc<Pod>], world: &World) -> Result<i32, String> {
    let mut scales: BTreeMap<&str, i32> = BTreeMap::new();
    for pod in selected {
        let Some(owner) = controller_of(&pod.metadata) else { continue };
        let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
        let is_it = |uid: &Option<String>| uid.as_deref() == Some(owner.uid.as_str());
        let (uid, replicas) = if owner.kind == REPLICA_SETS.kind {
            let Some(set) = world.replica_sets.get(namespace, &owner.name).filter(|s| is_it(&s.metadata.uid)) else {
                continue;
            };
            let above = controller_of(&set.metadata).filter(|above| above.kind == DEPLOYMENTS.kind);
            match above.and_then(|above| Some((above, world.deployments.get(namespace, &above.name)?))) {
                Some((above, deployment)) => (above.uid.as_str(), deployment.spec.as_ref().and_then(|s| s.replicas)),
                None => (owner.uid.as_str(), set.spec.as_ref().and_then(|s| s.replicas)),
            }
        } else if owner.kind == STATEFUL_SETS.kind {
            let set = world.stateful_sets.get(namespace, &owner.name).filter(|s| is_it(&s.metadata.uid));
            let Some(set) = set else { continue };
            (owner.uid.as_str(), set.spec.as_ref().and_then(|s| s.replicas))
        } else if owner.kind == REPLICATION_CONTROLLERS.kind {
            let controller = world.replication_controllers.get(namespace, &owner.name);
            let Some(controller) = controller.filter(|c| is_it(&c.metadata.uid)) else { continue };
            (owner.uid.as_str(), controller.spec.as_ref().and_then(|s| s.replicas))
        } else {
            let plural = world.resource_of(&owner.api_version, &owner.kind).map_or("", |r| &r.plural);
            let group = owner.api_version.split_once('/').map_or(String::new(), |(group, _)| format!(".{group}"));
            return Err(format!("{plural}{group} does not implement the scale subresource"));
        };
        scales.insert(uid, replicas.unwrap_or(1));
    }
    Ok(scales.values().fold(0, |sum, replicas| sum.saturating_add(*replicas)))
}

fn count(
    plan: &mut Plan,
    status: &mut PodDisruptionBudgetStatus,
    selected: &[&Arc<Pod>],
    expected: i32,
    desired: i32,
    now: Timestamp,
) {
    let mut disrupted = status.disrupted_pods.take().unwrap_or_default();
    disrupted.retain(|name, since| {
        let pod = selected.iter().find(|pod| pod.metadata.name.as_ref() == Some(name));
        let left = time::until(time::after(since.0, DELETION_TIMEOUT), now);
        let is_under_way = pod.is_some_and(|pod| !pods::is_deleting(&pod.metadata)) && !left.is_zero();
        if is_under_way {
            plan.requeue(left);
        }
        is_under_way
    });
    let is_healthy = |pod: &&&Arc<Pod>| {
        let name = pod.metadata.name.as_deref().unwrap_or_default();
        pods::is_ready(pod) && !pods::is_deleting(&pod.metadata) && !disrupted.contains_key(name)
    };
    let healthy = pods::count(selected.iter().filter(is_healthy).count());
    let spare = if expected > 0 { (healthy - desired).max(0) } else { 0 };
    status.current_healthy = Some(healthy);
    status.desired_healthy = Some(desired);
    status.expected_pods = Some(expected);
    status.disruptions_allowed = Some(spare);
    status.disrupted_pods = Some(disrupted).filter(|disrupted| !disrupted.is_empty());
}

fn set_condition(
    budget: &PodDisruptionBudget,
    status: &mut PodDisruptionBudgetStatus,
    value: &str,
    reason: &str,
    message: String,
    now: Timestamp,
) {
    let conditions = status.conditions.get_or_insert_default();
    let old = conditions.iter().position(|c| c.type_ == "DisruptionAllowed").map(|at| conditions.remove(at));
    let since = old.filter(|old| old.status == value).map(|old| old.last_transition_time);
    conditions.push(Condition {
        type_: "DisruptionAllowed".into(),
        status: value.into(),
        reason: reason.into(),
        message,
        observed_generation: budget.metadata.generation,
        last_transition_time: since.unwrap_or_else(|| stamp(now)),
    });
}

fn note(budget: &PodDisruptionBudget, note_type: NoteType, reason: &'static str, message: String) -> Note {
    let regarding = Regarding::new(&POD_DISRUPTION_BUDGETS, &budget.metadata);
    Note { component: COMPONENT, regarding, note_type, reason, action: "", message }
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;
    use crate::testing::{Bench, text};

    const READY: &str = "conditions: [{type: Ready, status: 'True'}]";

    fn pod(name: &str, owner: &str, status: &str) -> String {
        format!(
            "---
apiVersion: v1
kind: Pod
metadata: {{namespace: ns, name: {name}, labels: {{app: web}}, ownerReferences: [{owner}]}}
spec: {{containers: []}}
status: {{{status}}}
"
        )
    }

    fn check(spec: &str, status: &str, pods: &[String], expect: Expect) {
        let world = format!(
            "
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata: {{namespace: ns, name: b, generation: 3}}
spec: {{selector: {{matchLabels: {{app: web}}}}, {spec}}}
status: {{{status}}}
---
apiVersion: apps/v1
kind: StatefulSet
metadata: {{namespace: ns, name: web}}
spec: {{replicas: 4, selector: {{}}, template: {{}}}}
"
        );
        let mut bench = Bench::new(PodDisruptionBudgets, &(world + &pods.concat()));
        expect.assert_eq(&text(&bench.reconcile("ns", "b", "2024-01-01T00:01:00Z")));
    }

    const SET: &str = "{apiVersion: apps/v1, kind: StatefulSet, name: web, uid: web-uid, controller: true}";

    /// Conformance: "PodDisruptionBudget: Status updates".
    #[test]
    fn it_spares_what_is_healthy_beyond_what_must_be() {
        let pods = ["a", "b", "c"].map(|name| pod(name, SET, READY));
        check(
            "maxUnavailable: '50%'",
            "",
            &pods,
            expect![[r#"
            update poddisruptionbudgets ns/b status: {"conditions":[{"lastTransitionTime":"2024-01-01T00:01:00Z","message":"","observedGeneration":3,"reason":"SufficientPods","status":"True","type":"DisruptionAllowed"}],"currentHealthy":3,"desiredHealthy":2,"disruptionsAllowed":1,"expectedPods":4,"observedGeneration":3}
        "#]],
        );
        check(
            "minAvailable: 2",
            "",
            &pods[..2],
            expect![[r#"
            update poddisruptionbudgets ns/b status: {"conditions":[{"lastTransitionTime":"2024-01-01T00:01:00Z","message":"","observedGeneration":3,"reason":"InsufficientPods","status":"False","type":"DisruptionAllowed"}],"currentHealthy":2,"desiredHealthy":2,"disruptionsAllowed":0,"expectedPods":2,"observedGeneration":3}
        "#]],
        );
        check(
            "minAvailable: '75%'",
            "",
            &pods,
            expect![[r#"
            update poddisruptionbudgets ns/b status: {"conditions":[{"lastTransitionTime":"2024-01-01T00:01:00Z","message":"","observedGeneration":3,"reason":"InsufficientPods","status":"False","type":"DisruptionAllowed"}],"currentHealthy":3,"desiredHealthy":3,"disruptionsAllowed":0,"expectedPods":4,"observedGeneration":3}
        "#]],
        );
    }

    #[test]
    fn pods_whose_eviction_was_granted_do_not_count_until_it_has_lasted_too_long() {
        let granted = "disruptedPods: {a: 2024-01-01T00:00:30Z, b: 2023-12-31T23:00:00Z, gone: 2024-01-01T00:00:30Z}";
        let pods = ["a", "b", "c"].map(|name| pod(name, SET, READY));
        check(
            "minAvailable: 1",
            granted,
            &pods,
            expect![[r#"
            update poddisruptionbudgets ns/b status: {"conditions":[{"lastTransitionTime":"2024-01-01T00:01:00Z","message":"","observedGeneration":3,"reason":"SufficientPods","status":"True","type":"DisruptionAllowed"}],"currentHealthy":2,"desiredHealthy":1,"disruptedPods":{"a":"2024-01-01T00:00:30Z"},"disruptionsAllowed":1,"expectedPods":3,"observedGeneration":3}
            look again in 90s
        "#]],
        );
    }

    #[test]
    fn where_nobody_says_how_many_there_should_be_nothing_is_spared() {
        let job = "{apiVersion: batch/v1, kind: Job, name: j, uid: j-uid, controller: true}";
        check(
            "maxUnavailable: 1",
            "",
            &[pod("a", job, READY)],
            expect![[r#"
            note Warning CalculateExpectedPodCountFailed on b: Failed to calculate the number of expected pods: jobs.batch does not implement the scale subresource
            update poddisruptionbudgets ns/b status: {"conditions":[{"lastTransitionTime":"2024-01-01T00:01:00Z","message":"jobs.batch does not implement the scale subresource","observedGeneration":3,"reason":"SyncFailed","status":"False","type":"DisruptionAllowed"}],"disruptionsAllowed":0,"observedGeneration":3}
        "#]],
        );
        check(
            "minAvailable: 1",
            "",
            &[],
            expect![[r#"
            note Normal NoPods on b: No matching pods found
            update poddisruptionbudgets ns/b status: {"conditions":[{"lastTransitionTime":"2024-01-01T00:01:00Z","message":"","observedGeneration":3,"reason":"InsufficientPods","status":"False","type":"DisruptionAllowed"}],"currentHealthy":0,"desiredHealthy":1,"disruptionsAllowed":0,"expectedPods":0,"observedGeneration":3}
        "#]],
        );
    }
}
