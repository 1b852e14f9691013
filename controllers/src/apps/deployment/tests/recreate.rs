//! `Recreate`: the new set waits until nothing of the old ones can run any more.

use super::{BY_CAUSE, NEW, NOW, OLD, Set, deployment};
use crate::apps::deployment::Deployments;
use crate::testing::{Bench, objects, text};
use crate::world::Change;

const RECREATE: &str = "replicas: 3\n  strategy: {type: Recreate}";

/// A pod of the old set in this phase.
fn pod(name: &str, phase: &str) -> String {
    format!(
        "---
apiVersion: v1
kind: Pod
metadata: {{namespace: ns, name: {name}, ownerReferences: [{{apiVersion: apps/v1, kind: ReplicaSet, name: web-old, uid: web-old-uid, controller: true}}]}}
spec: {{containers: []}}
status: {{phase: {phase}}}
"
    )
}

fn plan(world: &[String]) -> String {
    text(&Bench::new(Deployments, &world.concat()).reconcile("ns", "web", NOW))
}

#[test]
fn old_sets_are_ended_first() {
    let sized = plan(&[deployment(BY_CAUSE, RECREATE, "two", ""), OLD.yaml()]);
    assert!(sized.contains(r#"patch replicasets ns/web-old at 2 : "#) && sized.contains(r#""spec":{"replicas":0}"#));
    assert!(!sized.contains("create"), "{sized}");
}

#[test]
fn whatever_may_still_run_of_an_old_set_is_waited_for() {
    let ended = || Set { replicas: 0, available: 0, ..OLD }.yaml();
    let begins = |old: String, pods: &[String]| {
        plan(&[deployment(BY_CAUSE, RECREATE, "two", ""), old, pods.concat()]).contains("create replicasets")
    };
    assert!(begins(String::new(), &[]), "there is no old set");
    assert!(begins(ended(), &[]));
    assert!(!begins(ended().replace("{replicas: 0,", "{replicas: 1,"), &[]), "the set has not counted anew");
    assert!(begins(ended(), &[pod("a", "Failed"), pod("b", "Succeeded")]));
    for phase in ["Unknown", "Pending", "Running"] {
        assert!(!begins(ended(), &[pod("a", phase)]), "{phase}");
        assert!(!begins(ended(), &[pod("a", "Failed"), pod("b", "Succeeded"), pod("c", phase)]), "{phase}");
    }
    let foreign = pod("a", "Running").replace("web-old-uid", "another");
    assert!(begins(ended(), &[foreign]), "it is another set's");
}

#[test]
fn then_the_new_set_has_all_its_replicas_at_once() {
    let world = [
        deployment(BY_CAUSE, RECREATE, "two", ""),
        Set { replicas: 0, available: 0, ..OLD }.yaml(),
        Set { replicas: 0, ..NEW }.yaml(),
    ];
    let plan = plan(&world);
    assert!(plan.contains("patch replicasets ns/web-new") && plan.contains(r#""spec":{"replicas":3}"#), "{plan}");
}

#[test]
fn the_end_of_an_old_pod_wakes_the_deployment_that_waits_for_it() {
    let wakes = |strategy: &str, owner: &str, change: fn(crate::world::Object) -> Change, phase: &str| {
        let of_owner = |phase: &str| pod("a", phase).replace("web-old,", owner);
        let world = [deployment(BY_CAUSE, strategy, "two", ""), OLD.yaml(), of_owner("Running")].concat();
        let pod = of_owner(phase).replace("name: a,", "name: a, resourceVersion: '2001',");
        Bench::new(Deployments, &world).wakes(change(objects(&pod).remove(0)))
    };
    assert!(wakes(RECREATE, "web-old,", Change::WatchedGone, "Running"));
    assert!(wakes(RECREATE, "web-old,", Change::Watched, "Succeeded"));
    assert!(!wakes(RECREATE, "web-old,", Change::Watched, "Pending"), "it may still run");
    assert!(!wakes(RECREATE, "foreign,", Change::WatchedGone, "Running"), "it is nobody's that waits");
    assert!(
        !wakes("replicas: 3", "web-old,", Change::WatchedGone, "Running"),
        "an update does not wait for pods to end"
    );
}
