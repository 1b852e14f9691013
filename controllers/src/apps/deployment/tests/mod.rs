mod history;
mod progress;
mod recreate;
mod sizes;

use expect_test::{Expect, expect};

use super::{Deployments, reconcile};
use crate::execute::Failure;
use crate::testing::{Bench, text};

const NOW: &str = "2024-01-01T00:10:00Z";

/// A Deployment `web` of this image.
fn deployment(meta: &str, spec: &str, image: &str, status: &str) -> String {
    format!(
        "---
apiVersion: apps/v1
kind: Deployment
metadata: {{namespace: ns, name: web, generation: 2, creationTimestamp: 2024-01-01T00:00:00Z{meta}}}
spec:
  selector: {{matchLabels: {{app: web}}}}
  template: {{metadata: {{labels: {{app: web}}}}, spec: {{containers: [{{name: c, image: {image}}}]}}}}
  progressDeadlineSeconds: 60
  {spec}
status: {{{status}}}
"
    )
}

/// One of its ReplicaSets, made for a Deployment of `desired` replicas.
struct Set {
    name: &'static str,
    image: &'static str,
    revision: u8,
    created: &'static str,
    replicas: u8,
    available: u8,
    desired: u8,
    max: u8,
}

const OLD: Set = Set {
    name: "web-old",
    image: "one",
    revision: 1,
    created: "2024-01-01T00:00:01Z",
    replicas: 3,
    available: 3,
    desired: 3,
    max: 4,
};
const NEW: Set = Set {
    name: "web-new",
    image: "two",
    revision: 2,
    created: "2024-01-01T00:09:00Z",
    replicas: 1,
    available: 0,
    ..OLD
};

impl Set {
    fn yaml(&self) -> String {
        let Set { name, image, revision, created, replicas, available, desired, max } = self;
        format!(
            "---
apiVersion: apps/v1
kind: ReplicaSet
metadata:
  namespace: ns
  name: {name}
  creationTimestamp: {created}
  labels: {{app: web, pod-template-hash: {image}}}
  annotations:
    deployment.kubernetes.io/revision: '{revision}'
    deployment.kubernetes.io/desired-replicas: '{desired}'
    deployment.kubernetes.io/max-replicas: '{max}'
    kubernetes.io/change-cause: {image}
  ownerReferences: [{{apiVersion: apps/v1, kind: Deployment, name: web, uid: web-uid, controller: true}}]
spec:
  replicas: {replicas}
  selector: {{matchLabels: {{app: web, pod-template-hash: {image}}}}}
  template: {{metadata: {{labels: {{app: web, pod-template-hash: {image}}}}}, spec: {{containers: [{{name: c, image: {image}}}]}}}}
status: {{replicas: {replicas}, readyReplicas: {available}, availableReplicas: {available}, observedGeneration: 1}}
"
        )
    }
}

fn check(world: &[String], expect: Expect) {
    let mut bench = Bench::new(Deployments, &world.concat());
    expect.assert_eq(&text(&bench.reconcile("ns", "web", NOW)));
}

/// What a Deployment with these annotations says of its progress, from its stored status.
fn progressing(last: &str) -> String {
    format!("conditions: [{{type: Progressing, {last}}}]")
}

const BY_CAUSE: &str = ", annotations: {kubernetes.io/change-cause: two, deployment.kubernetes.io/revision: '2'}";

#[test]
fn the_first_set_is_made_and_named_after_its_template() {
    check(
        &[deployment("", "replicas: 3", "one", "")],
        expect![[r#"
        create replicasets in ns: {"apiVersion":"apps/v1","kind":"ReplicaSet","metadata":{"annotations":{"deployment.kubernetes.io/desired-replicas":"3","deployment.kubernetes.io/max-replicas":"4","deployment.kubernetes.io/revision":"1"},"labels":{"app":"web","pod-template-hash":"5758b7489d"},"name":"web-5758b7489d","namespace":"ns","ownerReferences":[{"apiVersion":"apps/v1","blockOwnerDeletion":true,"controller":true,"kind":"Deployment","name":"web","uid":"web-uid"}]},"spec":{"replicas":3,"selector":{"matchLabels":{"app":"web","pod-template-hash":"5758b7489d"}},"template":{"metadata":{"labels":{"app":"web","pod-template-hash":"5758b7489d"}},"spec":{"containers":[{"image":"one","name":"c"}]}}}}
    "#]],
    );
    check(
        &[deployment("", "replicas: 3\n  paused: true", "one", "")],
        expect![[r#"
        update deployments ns/web status: {"conditions":[{"lastTransitionTime":"2024-01-01T00:10:00Z","lastUpdateTime":"2024-01-01T00:10:00Z","message":"Deployment does not have minimum availability.","reason":"MinimumReplicasUnavailable","status":"False","type":"Available"},{"lastTransitionTime":"2024-01-01T00:10:00Z","lastUpdateTime":"2024-01-01T00:10:00Z","message":"Deployment is paused","reason":"DeploymentPaused","status":"Unknown","type":"Progressing"}],"observedGeneration":2,"terminatingReplicas":0}
    "#]],
    );
}

#[test]
fn the_seconds_a_pod_must_be_ready_are_those_of_its_set() {
    let asks = "replicas: 3\n  minReadySeconds: 5";
    let plan = |world: &[String]| text(&Bench::new(Deployments, &world.concat()).reconcile("ns", "web", NOW));
    let made = plan(&[deployment("", asks, "one", "")]);
    assert!(made.starts_with("create replicasets") && made.contains(r#""spec":{"minReadySeconds":5,"#), "{made}");
    let changed = plan(&[deployment(BY_CAUSE, asks, "two", ""), OLD.yaml(), NEW.yaml()]);
    assert!(changed.contains("ns/web-new") && changed.contains(r#""spec":{"minReadySeconds":5}"#), "{changed}");
    assert!(!changed.contains("ns/web-old"), "sets of other templates are left as they are: {changed}");
}

#[test]
fn a_name_that_is_taken_counts_as_a_collision() {
    let named = text(&Bench::new(Deployments, &deployment("", "replicas: 3", "one", "")).reconcile("ns", "web", NOW));
    let name = named.split("\"name\":\"web-").nth(1).and_then(|rest| rest.split('"').next()).unwrap();
    let foreign = Set { name: "taken", ..OLD }.yaml().replace("name: taken", &format!("name: web-{name}"));
    let foreign = foreign.replace("uid: web-uid", "uid: another");
    check(
        &[deployment("", "replicas: 3", "one", ""), foreign],
        expect![[r#"
        update deployments ns/web status: {"collisionCount":1}
    "#]],
    );
}

#[test]
fn a_rolling_update_grows_the_new_set_and_shrinks_the_old_ones() {
    let rolling = |new: Set, old: Set| [deployment(BY_CAUSE, "replicas: 3", "two", ""), old.yaml(), new.yaml()];
    check(
        &rolling(NEW, OLD),
        expect![[r#"
        update deployments ns/web status: {"availableReplicas":3,"conditions":[{"lastTransitionTime":"2024-01-01T00:10:00Z","lastUpdateTime":"2024-01-01T00:10:00Z","message":"Deployment has minimum availability.","reason":"MinimumReplicasAvailable","status":"True","type":"Available"},{"lastTransitionTime":"2024-01-01T00:10:00Z","lastUpdateTime":"2024-01-01T00:10:00Z","message":"ReplicaSet \"web-new\" is progressing.","reason":"ReplicaSetUpdated","status":"True","type":"Progressing"}],"observedGeneration":2,"readyReplicas":3,"replicas":4,"unavailableReplicas":1,"updatedReplicas":1}
        look again in 61s
    "#]],
    );
    check(
        &rolling(Set { available: 1, ..NEW }, OLD),
        expect![[r#"
        patch replicasets ns/web-old at 2 : {"metadata":{"annotations":{"deployment.kubernetes.io/desired-replicas":"3","deployment.kubernetes.io/max-replicas":"4"}},"spec":{"replicas":2}}
        update deployments ns/web status: {"availableReplicas":4,"conditions":[{"lastTransitionTime":"2024-01-01T00:10:00Z","lastUpdateTime":"2024-01-01T00:10:00Z","message":"Deployment has minimum availability.","reason":"MinimumReplicasAvailable","status":"True","type":"Available"},{"lastTransitionTime":"2024-01-01T00:10:00Z","lastUpdateTime":"2024-01-01T00:10:00Z","message":"ReplicaSet \"web-new\" is progressing.","reason":"ReplicaSetUpdated","status":"True","type":"Progressing"}],"observedGeneration":2,"readyReplicas":4,"replicas":4,"updatedReplicas":1}
        look again in 61s
    "#]],
    );
    check(
        &rolling(Set { available: 1, ..NEW }, Set { replicas: 2, available: 2, ..OLD }),
        expect![[r#"
        patch replicasets ns/web-new at 3 : {"metadata":{"annotations":{"deployment.kubernetes.io/desired-replicas":"3","deployment.kubernetes.io/max-replicas":"4"}},"spec":{"replicas":2}}
        update deployments ns/web status: {"availableReplicas":3,"conditions":[{"lastTransitionTime":"2024-01-01T00:10:00Z","lastUpdateTime":"2024-01-01T00:10:00Z","message":"Deployment has minimum availability.","reason":"MinimumReplicasAvailable","status":"True","type":"Available"},{"lastTransitionTime":"2024-01-01T00:10:00Z","lastUpdateTime":"2024-01-01T00:10:00Z","message":"ReplicaSet \"web-new\" is progressing.","reason":"ReplicaSetUpdated","status":"True","type":"Progressing"}],"observedGeneration":2,"readyReplicas":3,"replicas":3,"updatedReplicas":1}
        look again in 61s
    "#]],
    );
    check(
        &rolling(Set { replicas: 3, available: 3, ..NEW }, Set { replicas: 0, available: 0, ..OLD }),
        expect![[r#"
        update deployments ns/web status: {"availableReplicas":3,"conditions":[{"lastTransitionTime":"2024-01-01T00:10:00Z","lastUpdateTime":"2024-01-01T00:10:00Z","message":"Deployment has minimum availability.","reason":"MinimumReplicasAvailable","status":"True","type":"Available"},{"lastTransitionTime":"2024-01-01T00:10:00Z","lastUpdateTime":"2024-01-01T00:10:00Z","message":"ReplicaSet \"web-new\" has successfully progressed.","reason":"NewReplicaSetAvailable","status":"True","type":"Progressing"}],"observedGeneration":2,"readyReplicas":3,"replicas":3,"updatedReplicas":3}
    "#]],
    );
}

#[test]
fn resizing_in_the_middle_of_an_update_keeps_each_sets_share() {
    // The example of the API concepts: 10 replicas, of which 8 old and 5 new exist, become 30.
    let spec = "replicas: 30\n  strategy: {rollingUpdate: {maxSurge: 3, maxUnavailable: 2}}";
    let sizes = |old: Set, new: Set| [deployment(BY_CAUSE, spec, "two", "replicas: 13"), old.yaml(), new.yaml()];
    let of_ten = |set: Set, replicas: u8| Set { replicas, desired: 10, max: 13, ..set };
    check(
        &sizes(of_ten(Set { available: 8, ..OLD }, 8), of_ten(NEW, 5)),
        expect![[r#"
        patch replicasets ns/web-old at 2 : {"metadata":{"annotations":{"deployment.kubernetes.io/desired-replicas":"30","deployment.kubernetes.io/max-replicas":"33"}},"spec":{"replicas":20}}
        patch replicasets ns/web-new at 3 : {"metadata":{"annotations":{"deployment.kubernetes.io/desired-replicas":"30","deployment.kubernetes.io/max-replicas":"33"}},"spec":{"replicas":13}}
        update deployments ns/web status: {"availableReplicas":8,"conditions":[{"lastTransitionTime":"2024-01-01T00:10:00Z","lastUpdateTime":"2024-01-01T00:10:00Z","message":"Deployment does not have minimum availability.","reason":"MinimumReplicasUnavailable","status":"False","type":"Available"}],"observedGeneration":2,"readyReplicas":8,"replicas":13,"unavailableReplicas":5,"updatedReplicas":5}
    "#]],
    );
}

#[test]
fn a_paused_deployment_is_resized_and_cleaned_but_not_rolled_out() {
    let paused = "replicas: 5\n  paused: true\n  revisionHistoryLimit: 0";
    let unused = Set { name: "web-unused", image: "zero", replicas: 0, available: 0, ..OLD };
    check(
        &[deployment(BY_CAUSE, paused, "three", ""), OLD.yaml(), unused.yaml()],
        expect![[r#"
        patch replicasets ns/web-old at 2 : {"metadata":{"annotations":{"deployment.kubernetes.io/desired-replicas":"5","deployment.kubernetes.io/max-replicas":"7"}},"spec":{"replicas":5}}
        delete replicasets ns/web-unused at 3
        update deployments ns/web status: {"availableReplicas":3,"conditions":[{"lastTransitionTime":"2024-01-01T00:10:00Z","lastUpdateTime":"2024-01-01T00:10:00Z","message":"Deployment does not have minimum availability.","reason":"MinimumReplicasUnavailable","status":"False","type":"Available"},{"lastTransitionTime":"2024-01-01T00:10:00Z","lastUpdateTime":"2024-01-01T00:10:00Z","message":"Deployment is paused","reason":"DeploymentPaused","status":"Unknown","type":"Progressing"}],"observedGeneration":2,"readyReplicas":3,"replicas":3}
    "#]],
    );
}

#[test]
fn progress_is_judged_by_its_deadline() {
    let rolling = |last: &str, created: &'static str| {
        let status =
            format!("replicas: 4, updatedReplicas: 1, readyReplicas: 3, availableReplicas: 3, {}", progressing(last));
        [deployment(BY_CAUSE, "replicas: 3", "two", &status), OLD.yaml(), Set { created, ..NEW }.yaml()]
    };
    let last = |at: &str, reason: &str, message: &str| {
        format!(
            "status: 'True', reason: {reason}, message: '{message}', lastUpdateTime: 2024-01-01T00:0{at}Z, \
             lastTransitionTime: 2024-01-01T00:00:00Z"
        )
    };
    let before = last("5:00", "NewReplicaSetAvailable", "ReplicaSet \"web-old\" has successfully progressed.");
    // The set of a new rollout starts the clock; one that was there before does not.
    check(
        &rolling(&before, "2024-01-01T00:09:00Z"),
        expect![[r#"
        update deployments ns/web status: {"availableReplicas":3,"conditions":[{"lastTransitionTime":"2024-01-01T00:10:00Z","lastUpdateTime":"2024-01-01T00:10:00Z","message":"Deployment has minimum availability.","reason":"MinimumReplicasAvailable","status":"True","type":"Available"},{"lastTransitionTime":"2024-01-01T00:00:00Z","lastUpdateTime":"2024-01-01T00:10:00Z","message":"Created new replica set \"web-new\"","reason":"NewReplicaSetCreated","status":"True","type":"Progressing"}],"observedGeneration":2,"readyReplicas":3,"replicas":4,"unavailableReplicas":1,"updatedReplicas":1}
        look again in 61s
    "#]],
    );
    check(
        &rolling(&before, "2024-01-01T00:00:00Z"),
        expect![[r#"
        update deployments ns/web status: {"availableReplicas":3,"conditions":[{"lastTransitionTime":"2024-01-01T00:00:00Z","lastUpdateTime":"2024-01-01T00:05:00Z","message":"ReplicaSet \"web-old\" has successfully progressed.","reason":"NewReplicaSetAvailable","status":"True","type":"Progressing"},{"lastTransitionTime":"2024-01-01T00:10:00Z","lastUpdateTime":"2024-01-01T00:10:00Z","message":"Deployment has minimum availability.","reason":"MinimumReplicasAvailable","status":"True","type":"Available"}],"observedGeneration":2,"readyReplicas":3,"replicas":4,"unavailableReplicas":1,"updatedReplicas":1}
    "#]],
    );
    let slow = |at: &str| last(at, "ReplicaSetUpdated", "ReplicaSet \"web-new\" is progressing.");
    check(
        &rolling(&slow("9:30"), NEW.created),
        expect![[r#"
        update deployments ns/web status: {"availableReplicas":3,"conditions":[{"lastTransitionTime":"2024-01-01T00:00:00Z","lastUpdateTime":"2024-01-01T00:09:30Z","message":"ReplicaSet \"web-new\" is progressing.","reason":"ReplicaSetUpdated","status":"True","type":"Progressing"},{"lastTransitionTime":"2024-01-01T00:10:00Z","lastUpdateTime":"2024-01-01T00:10:00Z","message":"Deployment has minimum availability.","reason":"MinimumReplicasAvailable","status":"True","type":"Available"}],"observedGeneration":2,"readyReplicas":3,"replicas":4,"unavailableReplicas":1,"updatedReplicas":1}
        look again in 31s
    "#]],
    );
    check(
        &rolling(&slow("8:59"), NEW.created),
        expect![[r#"
        update deployments ns/web status: {"availableReplicas":3,"conditions":[{"lastTransitionTime":"2024-01-01T00:10:00Z","lastUpdateTime":"2024-01-01T00:10:00Z","message":"Deployment has minimum availability.","reason":"MinimumReplicasAvailable","status":"True","type":"Available"},{"lastTransitionTime":"2024-01-01T00:10:00Z","lastUpdateTime":"2024-01-01T00:10:00Z","message":"ReplicaSet \"web-new\" has timed out progressing.","reason":"ProgressDeadlineExceeded","status":"False","type":"Progressing"}],"observedGeneration":2,"readyReplicas":3,"replicas":4,"unavailableReplicas":1,"updatedReplicas":1}
    "#]],
    );
    let done = [
        deployment(BY_CAUSE, "replicas: 3", "two", &progressing(&slow("8:00"))),
        Set { replicas: 3, available: 3, ..NEW }.yaml(),
    ];
    check(
        &done,
        expect![[r#"
        update deployments ns/web status: {"availableReplicas":3,"conditions":[{"lastTransitionTime":"2024-01-01T00:10:00Z","lastUpdateTime":"2024-01-01T00:10:00Z","message":"Deployment has minimum availability.","reason":"MinimumReplicasAvailable","status":"True","type":"Available"},{"lastTransitionTime":"2024-01-01T00:00:00Z","lastUpdateTime":"2024-01-01T00:10:00Z","message":"ReplicaSet \"web-new\" has successfully progressed.","reason":"NewReplicaSetAvailable","status":"True","type":"Progressing"}],"observedGeneration":2,"readyReplicas":3,"replicas":3,"updatedReplicas":3}
    "#]],
    );
}

#[test]
fn an_older_set_that_is_adopted_is_found_not_created() {
    let adopted = Set { created: "2023-12-31T00:00:00Z", ..OLD };
    let known = "replicas: 3, updatedReplicas: 3, readyReplicas: 1, availableReplicas: 1";
    let deployment = deployment(&BY_CAUSE.replace("two", "one").replace('2', "1"), "replicas: 3", "one", known);
    check(
        &[deployment, Set { available: 1, ..adopted }.yaml()],
        expect![[r#"
        update deployments ns/web status: {"availableReplicas":1,"conditions":[{"lastTransitionTime":"2024-01-01T00:10:00Z","lastUpdateTime":"2024-01-01T00:10:00Z","message":"Deployment does not have minimum availability.","reason":"MinimumReplicasUnavailable","status":"False","type":"Available"},{"lastTransitionTime":"2024-01-01T00:10:00Z","lastUpdateTime":"2024-01-01T00:10:00Z","message":"Found new replica set \"web-old\"","reason":"FoundNewReplicaSet","status":"True","type":"Progressing"}],"observedGeneration":2,"readyReplicas":1,"replicas":3,"unavailableReplicas":2,"updatedReplicas":3}
        look again in 61s
    "#]],
    );
}

#[test]
fn a_set_that_cannot_be_created_is_told() {
    let (world, _) = crate::testing::world(&deployment("", "replicas: 3", "one", ""));
    let failure = Failure { code: 403, reason: "Forbidden".into(), message: "exceeded quota: q".into() };
    let stored = world.deployments.get("ns", "web").unwrap();
    expect![[r#"
        update deployments ns/web status: {"conditions":[{"lastTransitionTime":"2024-01-01T00:10:00Z","lastUpdateTime":"2024-01-01T00:10:00Z","message":"Deployment does not have minimum availability.","reason":"MinimumReplicasUnavailable","status":"False","type":"Available"},{"lastTransitionTime":"2024-01-01T00:10:00Z","lastUpdateTime":"2024-01-01T00:10:00Z","message":"Failed to create new replica set \"web-5758b7489d\": exceeded quota: q","reason":"ReplicaSetCreateError","status":"False","type":"Progressing"}],"observedGeneration":2,"terminatingReplicas":0}
        create replicasets in ns: {"apiVersion":"apps/v1","kind":"ReplicaSet","metadata":{"annotations":{"deployment.kubernetes.io/desired-replicas":"3","deployment.kubernetes.io/max-replicas":"4","deployment.kubernetes.io/revision":"1"},"labels":{"app":"web","pod-template-hash":"5758b7489d"},"name":"web-5758b7489d","namespace":"ns","ownerReferences":[{"apiVersion":"apps/v1","blockOwnerDeletion":true,"controller":true,"kind":"Deployment","name":"web","uid":"web-uid"}]},"spec":{"replicas":3,"selector":{"matchLabels":{"app":"web","pod-template-hash":"5758b7489d"}},"template":{"metadata":{"labels":{"app":"web","pod-template-hash":"5758b7489d"}},"spec":{"containers":[{"image":"one","name":"c"}]}}}}
        look again in 61s
    "#]].assert_eq(&text(&reconcile(stored, &world, NOW.parse().unwrap(), Some(&failure))));
}

#[test]
fn a_rollback_takes_template_and_annotations_of_its_revision() {
    let wanting = |revision: &str, image: &str| {
        let annotations = format!("deprecated.deployment.rollback.to: '{revision}', note: mine, ");
        [
            deployment(
                &BY_CAUSE.replace("kubernetes.io/change", &format!("{annotations}kubernetes.io/change")),
                "replicas: 3",
                image,
                "",
            ),
            OLD.yaml(),
            Set { replicas: 3, available: 3, ..NEW }
                .yaml()
                .replace("    kubernetes.io", "    note: mine\n    kubernetes.io"),
        ]
    };
    let told = |revision: &str, image: &str| {
        let plan = Bench::new(Deployments, &wanting(revision, image).concat()).reconcile("ns", "web", NOW);
        let Some(crate::plan::Step::Update { object, then: Some(note), .. }) = plan.steps.first() else {
            panic!("{plan:?}")
        };
        let image = &object["spec"]["template"]["spec"]["containers"][0]["image"];
        format!("{}: {}\n{image} {}\n", note.reason, note.message, object["metadata"]["annotations"])
    };
    expect![[r#"
        DeploymentRollback: Rolled back deployment "web" to revision 1
        "one" {"deployment.kubernetes.io/revision":"2","kubernetes.io/change-cause":"one"}
    "#]]
    .assert_eq(&told("0", "two"));
    expect![[r#"
        DeploymentRollback: Rolled back deployment "web" to revision 1
        "one" {"deployment.kubernetes.io/revision":"2","kubernetes.io/change-cause":"one"}
    "#]]
    .assert_eq(&told("1", "two"));
    expect![[r#"
        RollbackTemplateUnchanged: The rollback revision contains the same template as current deployment "web"
        "two" {"deployment.kubernetes.io/revision":"2","kubernetes.io/change-cause":"two","note":"mine"}
    "#]]
    .assert_eq(&told("2", "two"));
    expect![[r#"
        RollbackRevisionNotFound: Unable to find the revision to rollback to.
        "two" {"deployment.kubernetes.io/revision":"2","kubernetes.io/change-cause":"two","note":"mine"}
    "#]]
    .assert_eq(&told("7", "two"));
}
