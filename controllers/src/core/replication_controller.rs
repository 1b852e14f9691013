//! Keeps as many pods as a ReplicationController asks for, by the ReplicaSet's rules.

use k8s_openapi::api::apps::v1::{ReplicaSet, ReplicaSetCondition, ReplicaSetSpec, ReplicaSetStatus};
use k8s_openapi::api::core::v1::{ReplicationController, ReplicationControllerCondition, ReplicationControllerStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;

use crate::apps::replica_set::{Kept, reconcile};
use crate::engine::{Controller, Turn, Wake};
use crate::plan::{self, Plan, Step};
use crate::pods;
use crate::resource::{Key, REPLICATION_CONTROLLERS};
use crate::selector;
use crate::world::{Delta, Object, World, controller_of};

pub struct ReplicationControllers;

impl Controller for ReplicationControllers {
    fn name(&self) -> &'static str {
        "replicationcontroller"
    }

    fn observe(&mut self, delta: &Delta, world: &World, wake: &mut Wake) {
        match &delta.object {
            Object::ReplicationController(controller) => wake.now(Key::of(&controller.metadata)),
            Object::Pod(pod) => {
                pods::wake_owners(&REPLICATION_CONTROLLERS, delta, wake);
                if controller_of(&pod.metadata).is_none() && !delta.gone {
                    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
                    for controller in world.replication_controllers.in_namespace(namespace) {
                        let wanted = controller.spec.as_ref().and_then(|spec| spec.selector.as_ref());
                        if wanted.is_some_and(|pairs| selector::contains(pod.metadata.labels.as_ref(), pairs)) {
                            wake.now(Key::of(&controller.metadata));
                        }
                    }
                }
            }
            _ => {}
        }
    }

    fn reconcile(&mut self, key: &Key, world: &World, turn: &mut Turn<'_>) -> Plan {
        let Some(controller) = world.replication_controllers.by_key(key) else { return Plan::none() };
        let set = as_set(controller);
        let kept = Kept { resource: &REPLICATION_CONTROLLERS, component: "replication-controller", set: &set };
        reconcile(kept, world, turn.now, turn.last_failure.as_ref(), |status| write_status(controller, status))
    }
}

fn as_set(controller: &ReplicationController) -> ReplicaSet {
    let spec = controller.spec.clone().unwrap_or_default();
    let condition = |c: ReplicationControllerCondition| ReplicaSetCondition {
        last_transition_time: c.last_transition_time,
        message: c.message,
        reason: c.reason,
        status: c.status,
        type_: c.type_,
    };
    ReplicaSet {
        metadata: controller.metadata.clone(),
        spec: Some(ReplicaSetSpec {
            min_ready_seconds: spec.min_ready_seconds,
            replicas: spec.replicas,
            selector: LabelSelector { match_labels: spec.selector, match_expressions: None },
            template: spec.template,
        }),
        status: controller.status.clone().map(|status| ReplicaSetStatus {
            replicas: status.replicas,
            conditions: status.conditions.map(|all| all.into_iter().map(condition).collect()),
            ..ReplicaSetStatus::default()
        }),
    }
}

fn write_status(controller: &ReplicationController, status: ReplicaSetStatus) -> Option<Step> {
    let condition = |c: ReplicaSetCondition| ReplicationControllerCondition {
        last_transition_time: c.last_transition_time,
        message: c.message,
        reason: c.reason,
        status: c.status,
        type_: c.type_,
    };
    let status = ReplicationControllerStatus {
        replicas: status.replicas,
        fully_labeled_replicas: status.fully_labeled_replicas,
        ready_replicas: status.ready_replicas,
        available_replicas: status.available_replicas,
        observed_generation: status.observed_generation,
        conditions: status.conditions.map(|all| all.into_iter().map(condition).collect()),
    };
    let updated = ReplicationController { status: Some(status), ..controller.clone() };
    (updated.status != controller.status).then(|| plan::update(&REPLICATION_CONTROLLERS, &updated, "status", None))
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;
    use crate::execute::Failure;
    use crate::testing::{Bench, objects, text};
    use crate::world::Change;

    fn check(pods: &str, expect: Expect) {
        let world = format!(
            "
apiVersion: v1
kind: ReplicationController
metadata: {{namespace: ns, name: web, generation: 1}}
spec: {{replicas: 1, selector: {{app: web}}, template: {{metadata: {{labels: {{app: web}}}}, spec: {{containers: []}}}}}}
{pods}"
        );
        let mut bench = Bench::new(ReplicationControllers, &world);
        expect.assert_eq(&text(&bench.reconcile("ns", "web", "2024-01-01T00:01:00Z")));
    }

    #[test]
    fn it_keeps_pods_as_a_replica_set_does() {
        check(
            "",
            expect![[r#"
            together:
              create pods in ns: {"apiVersion":"v1","kind":"Pod","metadata":{"generateName":"web-","labels":{"app":"web"},"namespace":"ns","ownerReferences":[{"apiVersion":"v1","blockOwnerDeletion":true,"controller":true,"kind":"ReplicationController","name":"web","uid":"web-uid"}]},"spec":{"containers":[]}}
        "#]],
        );
        let pod = "---
apiVersion: v1
kind: Pod
metadata: {namespace: ns, name: a, labels: {app: web}, ownerReferences: [{apiVersion: v1, kind: ReplicationController, name: web, uid: web-uid, controller: true}]}
spec: {containers: []}
";
        check(
            pod,
            expect![[r#"
            update replicationcontrollers ns/web status: {"fullyLabeledReplicas":1,"observedGeneration":1,"replicas":1}
        "#]],
        );
    }

    #[test]
    fn its_status_says_what_a_replica_sets_says() {
        let world = "
apiVersion: v1
kind: ReplicationController
metadata: {namespace: ns, name: web, generation: 3}
spec: {replicas: 3, minReadySeconds: 10, selector: {app: web}, template: {metadata: {labels: {app: web, x: z}}, spec: {containers: []}}}
status: {replicas: 1, conditions: [{type: example.com/mine, status: 'True'}]}
---
apiVersion: v1
kind: Pod
metadata: {namespace: ns, name: a, labels: {app: web}, ownerReferences: [{apiVersion: v1, kind: ReplicationController, name: web, uid: web-uid, controller: true}]}
spec: {containers: []}
status: {phase: Running, conditions: [{type: Ready, status: 'True', lastTransitionTime: 2024-01-01T00:00:55Z}]}
";
        let mut bench = Bench::new(ReplicationControllers, world);
        let refused = Failure { code: 403, reason: "Forbidden".into(), message: "exceeded quota: q".into() };
        let (now, last_failure) = ("2024-01-01T00:01:00Z".parse().unwrap(), Some(refused));
        let mut turn = Turn { now, rng: &mut bench.rng, last_failure };
        let plan = bench.controller.reconcile(&Key::new("ns", "web"), &bench.world, &mut turn);
        let Step::Update { object, .. } = &plan.steps[0] else { panic!("{plan:?}") };
        expect![[r#"{"conditions":[{"status":"True","type":"example.com/mine"},{"lastTransitionTime":"2024-01-01T00:01:00Z","message":"exceeded quota: q","reason":"FailedCreate","status":"True","type":"ReplicaFailure"}],"observedGeneration":3,"readyReplicas":1,"replicas":1}"#]]
            .assert_eq(&object["status"].to_string());
    }

    #[test]
    fn an_orphan_that_it_selects_wakes_it() {
        let world = "
apiVersion: v1
kind: ReplicationController
metadata: {namespace: ns, name: web}
spec: {replicas: 1, selector: {app: web}}
";
        let orphan = |labels: &str| {
            let pod = format!(
                "apiVersion: v1\nkind: Pod\nmetadata: {{namespace: ns, name: a, resourceVersion: '2001', labels: {{{labels}}}}}\n\
                 spec: {{containers: []}}\n"
            );
            Bench::new(ReplicationControllers, world).wakes(Change::Watched(objects(&pod).remove(0)))
        };
        assert_eq!((orphan("app: web, more: label"), orphan("app: db")), (true, false));
    }
}
