//! Says how many pods a PodDisruptionBudget can spare; evictions are charged against it (API concepts: Disruptions).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::policy::v1::{PodDisruptionBudget, PodDisruptionBudgetSpec, PodDisruptionBudgetStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, ObjectMeta, OwnerReference};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use crate::engine::{Controller, Turn, Wake};
use crate::plan::{Note, NoteType, Plan, Regarding, Step, Target};
use crate::pods;
use crate::resource::{
    DEPLOYMENTS, Key, POD_DISRUPTION_BUDGETS, PODS, REPLICA_SETS, REPLICATION_CONTROLLERS, STATEFUL_SETS,
};
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
                let before = match &delta.before {
                    Some(Object::Pod(before)) if !delta.gone && facts(before) == facts(pod) => return,
                    before => before.as_ref().and_then(|before| before.meta().labels.as_ref()),
                };
                let labels = pod.metadata.labels.as_ref();
                for budget in budgets().filter(|b| selects(b, labels) || selects(b, before)) {
                    wake.now(Key::of(&budget.metadata));
                }
            }
            _ if resizes(delta, world) => budgets().for_each(|budget| wake.now(Key::of(&budget.metadata))),
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

/// What of a pod matters here.
fn facts(pod: &Pod) -> impl PartialEq {
    let meta = &pod.metadata;
    (meta.labels.as_ref(), pods::is_ready(pod), pods::is_deleting(meta), controller_of(meta).map(|owner| &owner.uid))
}

/// Whether the change may be one of how many pods to expect.
fn resizes(delta: &Delta, world: &World) -> bool {
    let size = |object: &Object| match object {
        Object::Deployment(deployment) => Some(deployment.spec.as_ref().and_then(|spec| spec.replicas)),
        Object::ReplicaSet(set) => Some(set.spec.as_ref().and_then(|spec| spec.replicas)),
        Object::StatefulSet(set) => Some(set.spec.as_ref().and_then(|spec| spec.replicas)),
        Object::ReplicationController(controller) => Some(controller.spec.as_ref().and_then(|spec| spec.replicas)),
        _ => None,
    };
    let owner = |object: &Object| controller_of(object.meta()).map(|owner| owner.uid.clone());
    match (&delta.object, &delta.before) {
        (Object::Bare(object), _) => world.scalable.contains(&*object.resource),
        (object, Some(before)) if !delta.gone => {
            size(object) != size(before) || (size(object).is_some() && owner(object) != owner(before))
        }
        (object, _) => size(object).is_some(),
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
        Ok(Expected { pods: expected, healthy: desired, has_unmanaged }) => {
            if has_unmanaged {
                plan.note(note(budget, NoteType::Warning, "UnmanagedPods", unmanaged(spec)));
            }
            status.observed_generation = budget.metadata.generation;
            count(budget, &mut plan, &mut status, &selected, expected, desired, now);
            let (allowed, reason) = if status.disruptions_allowed > Some(0) {
                ("True", "SufficientPods")
            } else {
                ("False", "InsufficientPods")
            };
            set_condition(&mut status, allowed, reason, String::new(), now);
        }
        Err(Unknown::Yet(controller)) => {
            plan.step(Step::ReadScale(*controller));
            return plan;
        }
        Err(Unknown::Never(error)) => {
            let message = format!("Failed to calculate the number of expected pods: {error}");
            plan.note(note(budget, NoteType::Warning, "CalculateExpectedPodCountFailed", message));
            // Rather no disruption than one too many.
            status.disruptions_allowed = Some(0);
            set_condition(&mut status, "False", "SyncFailed", error, now);
        }
    }
    if budget.status.as_ref() != Some(&status) {
        plan.update_status(&POD_DISRUPTION_BUDGETS, &PodDisruptionBudget { status: Some(status), ..budget.clone() });
    }
    plan
}

/// What a budget asks of the pods it selects.
struct Expected {
    pods: i32,
    healthy: i32,
    /// Nobody says how many there should be of some of them.
    has_unmanaged: bool,
}

/// Why it is not known how many pods there should be.
enum Unknown {
    /// Nobody says it.
    Never(String),
    /// This object's `scale` has not been read.
    Yet(Box<Target>),
}

/// How many pods there should be, and how many of them must be healthy.
fn expect(spec: &PodDisruptionBudgetSpec, selected: &[&Arc<Pod>], world: &World) -> Result<Expected, Unknown> {
    let (pods, healthy) = match (&spec.max_unavailable, &spec.min_available) {
        (None, Some(IntOrString::Int(least))) => {
            return Ok(Expected { pods: pods::count(selected.len()), healthy: *least, has_unmanaged: false });
        }
        // A budget that says nothing allows nothing.
        (None, None) => return Ok(Expected { pods: 0, healthy: 0, has_unmanaged: false }),
        (Some(most), _) => {
            let pods = scale(selected, world)?;
            (pods, (pods - share(most, pods, Round::Up)).max(0))
        }
        (None, Some(least)) => {
            let pods = scale(selected, world)?;
            (pods, share(least, pods, Round::Up))
        }
    };
    let has_unmanaged = selected.iter().any(|pod| controller_of(&pod.metadata).is_none());
    Ok(Expected { pods, healthy, has_unmanaged })
}

/// What the pods' controllers ask for, all together; pods that nobody controls don't count.
fn scale(selected: &[&Arc<Pod>], world: &World) -> Result<i32, Unknown> {
    let mut scales: BTreeMap<&str, i32> = BTreeMap::new();
    for pod in selected {
        let Some(owner) = controller_of(&pod.metadata) else { continue };
        let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
        let Some((uid, replicas)) = size(owner, namespace, world)? else {
            let name = pod.metadata.name.as_deref().unwrap_or_default();
            return Err(Unknown::Never(format!("found no controllers for pod {name:?}")));
        };
        scales.insert(uid, replicas.unwrap_or(1));
    }
    Ok(scales.values().fold(0, |sum, replicas| sum.saturating_add(*replicas)))
}

/// The uid and size of a pod's controller, or of the Deployment above it; `None` when it is gone.
fn size<'a>(
    owner: &'a OwnerReference,
    namespace: &str,
    world: &'a World,
) -> Result<Option<(&'a str, Option<i32>)>, Unknown> {
    let is_it = |meta: &ObjectMeta| meta.uid.as_deref() == Some(owner.uid.as_str());
    let uid = owner.uid.as_str();
    if REPLICA_SETS.is_kind_of(owner) {
        let set = world.replica_sets.get(namespace, &owner.name).filter(|set| is_it(&set.metadata));
        return Ok(set.map(|set| {
            let above = controller_of(&set.metadata).filter(|above| DEPLOYMENTS.is_kind_of(above));
            match above.and_then(|above| Some((above, world.deployments.get(namespace, &above.name)?))) {
                Some((above, deployment)) => (above.uid.as_str(), deployment.spec.as_ref().and_then(|s| s.replicas)),
                None => (uid, set.spec.as_ref().and_then(|s| s.replicas)),
            }
        }));
    }
    if STATEFUL_SETS.is_kind_of(owner) {
        let set = world.stateful_sets.get(namespace, &owner.name).filter(|set| is_it(&set.metadata));
        return Ok(set.map(|set| (uid, set.spec.as_ref().and_then(|s| s.replicas))));
    }
    if REPLICATION_CONTROLLERS.is_kind_of(owner) {
        let controller = world.replication_controllers.get(namespace, &owner.name).filter(|c| is_it(&c.metadata));
        return Ok(controller.map(|controller| (uid, controller.spec.as_ref().and_then(|s| s.replicas))));
    }
    let Some(resource) = world.resource_of(&owner.api_version, &owner.kind) else {
        return Err(Unknown::Never(format!("no matches for kind {:?} in version {:?}", owner.kind, owner.api_version)));
    };
    let Some(objects) = world.others.get(resource).filter(|_| world.scalable.contains(resource)) else {
        let group = if resource.group.is_empty() { String::new() } else { format!(".{}", resource.group) };
        return Err(Unknown::Never(format!("{}{group} does not implement the scale subresource", resource.plural)));
    };
    let Some(object) = objects.get(namespace, &owner.name).filter(|object| is_it(&object.metadata)) else {
        return Ok(None);
    };
    match world.scale_of(object) {
        Some(scale) => Ok(Some((uid, Some(scale.replicas)))),
        None => Err(Unknown::Yet(Box::new(Target::new(resource, &object.metadata)))),
    }
}

/// What is said of a budget with pods that nobody controls.
fn unmanaged(spec: &PodDisruptionBudgetSpec) -> String {
    format!(
        "Pods selected by this PodDisruptionBudget (selector: {}) were found to be unmanaged. As a result, the \
         status of the PDB cannot be calculated correctly, which may result in undefined behavior. To account for these \
         pods please set \".spec.minAvailable\" field of the PDB to an integer value.",
        spec.selector.as_ref().map(selector::written).unwrap_or_default()
    )
}

fn count(
    budget: &PodDisruptionBudget,
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
        let Some(pod) = pod.filter(|pod| !pods::is_deleting(&pod.metadata)) else { return false };
        if left.is_zero() {
            plan.note(not_deleted(budget, pod));
            return false;
        }
        plan.requeue(left);
        true
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

fn set_condition(status: &mut PodDisruptionBudgetStatus, value: &str, reason: &str, message: String, now: Timestamp) {
    let observed_generation = status.observed_generation;
    let conditions = status.conditions.get_or_insert_default();
    let old = conditions.iter().position(|c| c.type_ == "DisruptionAllowed").map(|at| conditions.remove(at));
    let since = old.filter(|old| old.status == value).map(|old| old.last_transition_time);
    conditions.push(Condition {
        type_: "DisruptionAllowed".into(),
        status: value.into(),
        reason: reason.into(),
        message,
        observed_generation,
        last_transition_time: since.unwrap_or_else(|| stamp(now)),
    });
}

fn not_deleted(budget: &PodDisruptionBudget, pod: &Pod) -> Note {
    let message = format!("Pod was expected by PDB {} to be deleted but it wasn't", Key::of(&budget.metadata));
    let regarding = Regarding::new(&PODS, &pod.metadata);
    Note { component: COMPONENT, regarding, note_type: NoteType::Warning, reason: "NotDeleted", action: "", message }
}

fn note(budget: &PodDisruptionBudget, note_type: NoteType, reason: &'static str, message: String) -> Note {
    let regarding = Regarding::new(&POD_DISRUPTION_BUDGETS, &budget.metadata);
    Note { component: COMPONENT, regarding, note_type, reason, action: "", message }
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use std::collections::BTreeSet;

    use serde_json::json;

    use super::*;
    use crate::resource::Resource;
    use crate::testing::{Bench, objects, text};
    use crate::world::{Change, Scale};

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
    fn what_is_spared_is_counted_over_all_controllers() {
        const DEPLOYMENT: &str =
            "{apiVersion: apps/v1, kind: ReplicaSet, name: web-1, uid: web-1-uid, controller: true}";
        const CONTROLLER: &str =
            "{apiVersion: v1, kind: ReplicationController, name: rc, uid: rc-uid, controller: true}";
        const NOBODY: &str = "";
        // The budget; how many the StatefulSet, the Deployment above the ReplicaSet and the ReplicationController ask for; pods
        // that are ready and that are not, of each; what is healthy, wanted, expected and spared.
        type Pods = &'static [(&'static str, usize, usize)];
        let cases: [(&str, i32, Pods, [i32; 4]); 20] = [
            ("minAvailable: 3", 0, &[], [0, 3, 0, 0]),
            ("minAvailable: 3", 0, &[(NOBODY, 2, 0)], [2, 3, 2, 0]),
            ("minAvailable: 3", 0, &[(NOBODY, 3, 0)], [3, 3, 3, 0]),
            ("minAvailable: 3", 0, &[(NOBODY, 4, 0)], [4, 3, 4, 1]),
            ("minAvailable: 3", 0, &[(NOBODY, 3, 1)], [3, 3, 4, 0]),
            ("maxUnavailable: 1", 0, &[], [0, 0, 0, 0]),
            ("maxUnavailable: 1", 0, &[(NOBODY, 1, 0)], [1, 0, 0, 0]),
            ("minAvailable: '28%'", 0, &[(NOBODY, 1, 0)], [1, 0, 0, 0]),
            ("maxUnavailable: 2", 7, &[(SET, 1, 0)], [1, 5, 7, 0]),
            ("maxUnavailable: 2", 5, &[(SET, 1, 0)], [1, 3, 5, 0]),
            ("maxUnavailable: '30%'", 7, &[(SET, 1, 0)], [1, 4, 7, 0]),
            ("maxUnavailable: '30%'", 3, &[(SET, 1, 0)], [1, 2, 3, 0]),
            ("maxUnavailable: 5", 10, &[(SET, 4, 0)], [4, 5, 10, 0]),
            ("maxUnavailable: 8", 10, &[(SET, 4, 0)], [4, 2, 10, 2]),
            ("minAvailable: '20%'", 10, &[(SET, 1, 0)], [1, 2, 10, 0]),
            ("minAvailable: '34%'", 3, &[(SET, 2, 0)], [2, 2, 3, 0]),
            ("minAvailable: '34%'", 3, &[(SET, 3, 0)], [3, 2, 3, 1]),
            ("minAvailable: '28%'", 11, &[(CONTROLLER, 5, 6)], [5, 4, 11, 1]),
            ("minAvailable: '28%'", 11, &[(CONTROLLER, 5, 6), (DEPLOYMENT, 4, 7)], [9, 7, 22, 2]),
            ("minAvailable: '28%'", 11, &[(CONTROLLER, 4, 7), (DEPLOYMENT, 3, 8)], [7, 7, 22, 0]),
        ];
        for (spec, size, owned, expected) in cases {
            let world = format!(
                "
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata: {{namespace: ns, name: b}}
spec: {{selector: {{matchLabels: {{app: web}}}}, {spec}}}
---
apiVersion: apps/v1
kind: StatefulSet
metadata: {{namespace: ns, name: web}}
spec: {{replicas: {size}, selector: {{}}, template: {{}}}}
---
apiVersion: apps/v1
kind: Deployment
metadata: {{namespace: ns, name: d}}
spec: {{replicas: {size}, selector: {{}}, template: {{}}}}
---
apiVersion: apps/v1
kind: ReplicaSet
metadata: {{namespace: ns, name: web-1, ownerReferences: [{{apiVersion: apps/v1, kind: Deployment, name: d, uid: d-uid, controller: true}}]}}
spec: {{replicas: 1, selector: {{}}, template: {{}}}}
---
apiVersion: v1
kind: ReplicationController
metadata: {{namespace: ns, name: rc}}
spec: {{replicas: {size}}}
"
            );
            let made = owned.iter().enumerate().flat_map(|(at, (owner, ready, unready))| {
                let status = |nth: usize| if nth < *ready { READY } else { "" };
                (0..ready + unready).map(move |nth| pod(&format!("p{at}-{nth}"), owner, status(nth)))
            });
            let mut bench = Bench::new(PodDisruptionBudgets, &(world + &made.collect::<String>()));
            let plan = bench.reconcile("ns", "b", "2024-01-01T00:01:00Z");
            let Some(Step::Update { object, .. }) = plan.steps.first() else { panic!("{spec}: {plan:?}") };
            let found = ["currentHealthy", "desiredHealthy", "expectedPods", "disruptionsAllowed"];
            let found = found.map(|field| object["status"][field].as_i64().unwrap());
            assert_eq!(found, expected.map(i64::from), "{spec} of {size}: {owned:?}");
        }
    }

    #[test]
    fn a_budget_that_says_nothing_allows_nothing() {
        let job = "{apiVersion: batch/v1, kind: Job, name: j, uid: j-uid, controller: true}";
        check(
            "",
            "",
            &[pod("a", SET, READY), pod("b", job, READY)],
            expect![[r#"
            update poddisruptionbudgets ns/b status: {"conditions":[{"lastTransitionTime":"2024-01-01T00:01:00Z","message":"","observedGeneration":3,"reason":"InsufficientPods","status":"False","type":"DisruptionAllowed"}],"currentHealthy":2,"desiredHealthy":0,"disruptionsAllowed":0,"expectedPods":0,"observedGeneration":3}
        "#]],
        );
    }

    #[test]
    fn pods_that_nobody_controls_are_told_of_where_their_number_matters() {
        let pods = [pod("a", SET, READY), pod("b", "", READY)];
        check(
            "maxUnavailable: 25%",
            "",
            &pods,
            expect![[r#"
            note Warning UnmanagedPods on b: Pods selected by this PodDisruptionBudget (selector: &LabelSelector{MatchLabels:map[string]string{app: web,},MatchExpressions:[]LabelSelectorRequirement{},}) were found to be unmanaged. As a result, the status of the PDB cannot be calculated correctly, which may result in undefined behavior. To account for these pods please set ".spec.minAvailable" field of the PDB to an integer value.
            update poddisruptionbudgets ns/b status: {"conditions":[{"lastTransitionTime":"2024-01-01T00:01:00Z","message":"","observedGeneration":3,"reason":"InsufficientPods","status":"False","type":"DisruptionAllowed"}],"currentHealthy":2,"desiredHealthy":3,"disruptionsAllowed":0,"expectedPods":4,"observedGeneration":3}
        "#]],
        );
        check(
            "minAvailable: 1",
            "",
            &pods,
            expect![[r#"
            update poddisruptionbudgets ns/b status: {"conditions":[{"lastTransitionTime":"2024-01-01T00:01:00Z","message":"","observedGeneration":3,"reason":"SufficientPods","status":"True","type":"DisruptionAllowed"}],"currentHealthy":2,"desiredHealthy":1,"disruptionsAllowed":1,"expectedPods":2,"observedGeneration":3}
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
                note Warning NotDeleted on b: Pod was expected by PDB ns/b to be deleted but it wasn't
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
                update poddisruptionbudgets ns/b status: {"conditions":[{"lastTransitionTime":"2024-01-01T00:01:00Z","message":"jobs.batch does not implement the scale subresource","reason":"SyncFailed","status":"False","type":"DisruptionAllowed"}],"disruptionsAllowed":0}
            "#]],
        );
        let gone = SET.replace("web-uid", "other-uid");
        check(
            "maxUnavailable: 1",
            "observedGeneration: 2",
            &[pod("a", &gone, READY)],
            expect![[r#"
            note Warning CalculateExpectedPodCountFailed on b: Failed to calculate the number of expected pods: found no controllers for pod "a"
            update poddisruptionbudgets ns/b status: {"conditions":[{"lastTransitionTime":"2024-01-01T00:01:00Z","message":"found no controllers for pod \"a\"","observedGeneration":2,"reason":"SyncFailed","status":"False","type":"DisruptionAllowed"}],"disruptionsAllowed":0,"observedGeneration":2}
        "#]],
        );
        let custom = SET.replace("apps/v1", "example.com/v1");
        check(
            "maxUnavailable: 1",
            "observedGeneration: 2",
            &[pod("a", &custom, READY)],
            expect![[r#"
            note Warning CalculateExpectedPodCountFailed on b: Failed to calculate the number of expected pods: no matches for kind "StatefulSet" in version "example.com/v1"
            update poddisruptionbudgets ns/b status: {"conditions":[{"lastTransitionTime":"2024-01-01T00:01:00Z","message":"no matches for kind \"StatefulSet\" in version \"example.com/v1\"","observedGeneration":2,"reason":"SyncFailed","status":"False","type":"DisruptionAllowed"}],"disruptionsAllowed":0,"observedGeneration":2}
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

    #[test]
    fn custom_controllers_are_asked_for_their_scale() {
        let crd = |group: &str| Resource {
            group: group.to_owned().into(),
            version: "v1".into(),
            plural: "rolls".into(),
            kind: "Roll".into(),
            namespaced: true,
        };
        let (scaled, plain) = (crd("example.com"), crd("plain.com"));
        let owner =
            |group: &str| format!("{{apiVersion: {group}/v1, kind: Roll, name: r, uid: r-uid, controller: true}}");
        let budget = |group: &str| {
            let owned = pod("a", &owner(group), READY);
            let budget = "
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata: {namespace: ns, name: b, generation: 3}
spec: {selector: {matchLabels: {app: web}}, maxUnavailable: 50%}
";
            let mut bench = Bench::new(PodDisruptionBudgets, &(budget.to_owned() + &owned));
            let (resources, scalable) = (vec![scaled.clone(), plain.clone()], BTreeSet::from([scaled.clone()]));
            bench.wakes(Change::Discovered { resources, scalable });
            bench
        };
        let roll = |version: &str| {
            let metadata = json!({"namespace": "ns", "name": "r", "uid": "r-uid", "resourceVersion": version});
            Object::bare(&Arc::new(scaled.clone()), json!({ "metadata": metadata })).unwrap()
        };
        let check = |bench: &mut Bench<PodDisruptionBudgets>, expect: Expect| {
            expect.assert_eq(&text(&bench.reconcile("ns", "b", "2024-01-01T00:01:00Z")));
        };
        check(
            &mut budget("plain.com"),
            expect![[r#"
            note Warning CalculateExpectedPodCountFailed on b: Failed to calculate the number of expected pods: rolls.plain.com does not implement the scale subresource
            update poddisruptionbudgets ns/b status: {"conditions":[{"lastTransitionTime":"2024-01-01T00:01:00Z","message":"rolls.plain.com does not implement the scale subresource","reason":"SyncFailed","status":"False","type":"DisruptionAllowed"}],"disruptionsAllowed":0}
        "#]],
        );
        let mut bench = budget("example.com");
        assert!(bench.wakes(Change::Watched(roll("1001"))));
        check(
            &mut bench,
            expect![[r#"
            read scale of rolls ns/r
        "#]],
        );
        let key = Key::new("ns", "r");
        let scale = Scale { uid: "r-uid".into(), revision: 1001, replicas: 1 };
        assert!(bench.wakes(Change::Scaled { resource: scaled.clone(), key, scale }));
        check(
            &mut bench,
            expect![[r#"
            update poddisruptionbudgets ns/b status: {"conditions":[{"lastTransitionTime":"2024-01-01T00:01:00Z","message":"","observedGeneration":3,"reason":"SufficientPods","status":"True","type":"DisruptionAllowed"}],"currentHealthy":1,"desiredHealthy":0,"disruptionsAllowed":1,"expectedPods":1,"observedGeneration":3}
        "#]],
        );
        assert!(bench.wakes(Change::Watched(roll("1002"))));
        check(
            &mut bench,
            expect![[r#"
            read scale of rolls ns/r
        "#]],
        );
        bench.wakes(Change::WatchedGone(roll("1003")));
        check(
            &mut bench,
            expect![[r#"
            note Warning CalculateExpectedPodCountFailed on b: Failed to calculate the number of expected pods: found no controllers for pod "a"
            update poddisruptionbudgets ns/b status: {"conditions":[{"lastTransitionTime":"2024-01-01T00:01:00Z","message":"found no controllers for pod \"a\"","reason":"SyncFailed","status":"False","type":"DisruptionAllowed"}],"disruptionsAllowed":0}
        "#]],
        );
    }

    #[test]
    fn only_what_matters_of_pods_and_controllers_wakes() {
        let base = "
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata: {namespace: ns, name: b}
spec: {selector: {matchLabels: {app: web}}, maxUnavailable: 1}
---
";
        let set = |version: u32, replicas: u32, ready: u32| {
            format!(
                "{{apiVersion: apps/v1, kind: StatefulSet, metadata: {{namespace: ns, name: web, resourceVersion: '{version}'}}, \
                 spec: {{replicas: {replicas}, selector: {{}}, template: {{}}}}, status: {{replicas: {ready}}}}}"
            )
        };
        let mut bench = Bench::new(PodDisruptionBudgets, &(base.to_owned() + &set(1, 2, 0)));
        let mut wakes = |yaml: &str| bench.wakes(Change::Watched(objects(yaml).remove(0)));
        assert!(!wakes(&set(2001, 2, 1)));
        assert!(wakes(&set(2002, 3, 1)));
        let pod = |version: u32, status: &str| {
            let version = format!("name: a, resourceVersion: '{version}'");
            pod("a", SET, status).replace("name: a", &version)
        };
        assert!(wakes(&pod(2003, READY)));
        assert!(!wakes(&pod(2004, &format!("phase: Running, {READY}"))));
        assert!(wakes(&pod(2005, "phase: Running")));
    }
}
