use expect_test::{Expect, expect};

use super::ReplicaSets;
use crate::testing::{Bench, text};

const SET: &str = "
apiVersion: apps/v1
kind: ReplicaSet
metadata: {namespace: ns, name: web, generation: 2}
spec:
  replicas: 2
  minReadySeconds: 10
  selector: {matchLabels: {app: web}}
  template: {metadata: {labels: {app: web}}, spec: {containers: [{name: c, image: one}]}}
";

/// A pod with these labels; `owner` is the uid of its controller, `more` goes to the top level.
fn pod(name: &str, labels: &str, owner: &str, more: &str) -> String {
    let owners = match owner {
        "" => String::new(),
        uid => format!(
            ", ownerReferences: [{{apiVersion: apps/v1, kind: ReplicaSet, name: web, uid: {uid}, controller: true}}]"
        ),
    };
    format!(
        "---\napiVersion: v1\nkind: Pod\nmetadata: {{namespace: ns, name: {name}, labels: {{{labels}}}{owners}}}\n\
         spec: {{containers: []}}\n{more}\n"
    )
}

fn check(world: &[String], expect: Expect) {
    let mut bench = Bench::new(ReplicaSets, &(SET.to_owned() + &world.concat()));
    expect.assert_eq(&text(&bench.reconcile("ns", "web", "2024-01-01T00:01:00Z")));
}

#[test]
fn missing_pods_are_created() {
    check(
        &[pod("a", "app: web", "web-uid", "")],
        expect![[r#"
        together:
          create pods in ns: {"apiVersion":"v1","kind":"Pod","metadata":{"generateName":"web-","labels":{"app":"web"},"namespace":"ns","ownerReferences":[{"apiVersion":"apps/v1","blockOwnerDeletion":true,"controller":true,"kind":"ReplicaSet","name":"web","uid":"web-uid"}]},"spec":{"containers":[{"image":"one","name":"c"}]}}
    "#]],
    );
}

/// Conformance: "Replica Set, adopt matching pods and release non matching pods"; "Replication Controller, adopt
/// matching pods"; "Replication Controller, release pods".
#[test]
fn orphans_are_adopted_and_strangers_released_before_anything_else() {
    check(
        &[pod("a", "app: web", "", ""), pod("b", "app: other", "web-uid", "")],
        expect![[r#"
        patch pods ns/b at 3 : {"metadata":{"ownerReferences":[]}}
        check alive replicasets ns/web
        patch pods ns/a at 2 : {"metadata":{"ownerReferences":[{"apiVersion":"apps/v1","blockOwnerDeletion":true,"controller":true,"kind":"ReplicaSet","name":"web","uid":"web-uid"}]}}
    "#]],
    );
}

#[test]
fn excess_pods_are_deleted_the_least_useful_first() {
    let ready = "status: {phase: Running, conditions: [{type: Ready, status: 'True', lastTransitionTime: 2024-01-01T00:00:00Z}]}";
    let mine = |name: &str, more: &str| pod(name, "app: web", "web-uid", more);
    check(
        &[mine("a", ready), mine("b", ""), mine("c", ready), mine("d", "status: {phase: Failed}")],
        expect![[r#"
        together:
          delete pods ns/b
    "#]],
    );
}

#[test]
fn the_status_counts_and_comes_back_for_those_not_yet_available() {
    let ready = |second: u32| {
        format!(
            "status: {{phase: Running, conditions: [{{type: Ready, status: 'True', lastTransitionTime: 2024-01-01T00:00:{second}Z}}]}}"
        )
    };
    check(
        &[pod("a", "app: web", "web-uid", &ready(30)), pod("b", "app: web", "web-uid", &ready(55))],
        expect![[r#"
        update replicasets ns/web status: {"availableReplicas":1,"fullyLabeledReplicas":2,"observedGeneration":2,"readyReplicas":2,"replicas":2,"terminatingReplicas":0}
        look again in 5s
    "#]],
    );
}
