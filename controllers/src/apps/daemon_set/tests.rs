use expect_test::{Expect, expect};

use super::DaemonSets;
use crate::testing::{Bench, text};

fn set(spec: &str) -> String {
    format!(
        "
apiVersion: apps/v1
kind: DaemonSet
metadata: {{namespace: ns, name: agent, generation: 1}}
spec: {{selector: {{matchLabels: {{app: agent}}}}, template: {{metadata: {{labels: {{app: agent}}}}, spec: {{nodeSelector: {{disk: ssd}}, containers: [{{name: c, image: two}}]}}}}, {spec}}}
---
apiVersion: apps/v1
kind: ControllerRevision
metadata: {{namespace: ns, name: agent-two, labels: {{app: agent, controller-revision-hash: two}}, ownerReferences: [{{apiVersion: apps/v1, kind: DaemonSet, name: agent, uid: agent-uid, controller: true}}]}}
revision: 2
data: {{spec: {{template: {{$patch: replace, metadata: {{labels: {{app: agent}}}}, spec: {{nodeSelector: {{disk: ssd}}, containers: [{{name: c, image: two}}]}}}}}}}}
"
    )
}

fn node(name: &str, taints: &str) -> String {
    format!(
        "---\napiVersion: v1\nkind: Node\nmetadata: {{name: {name}, labels: {{disk: ssd}}}}\nspec: {{taints: [{taints}]}}\n"
    )
}

/// A pod of this name on this node, of this revision.
fn pod(name: &str, node: &str, hash: &str, status: &str) -> String {
    format!(
        "---
apiVersion: v1
kind: Pod
metadata: {{namespace: ns, name: {name}, labels: {{app: agent, controller-revision-hash: {hash}}}, ownerReferences: [{{apiVersion: apps/v1, kind: DaemonSet, name: agent, uid: agent-uid, controller: true}}]}}
spec: {{nodeName: {node}, containers: []}}
status: {{{status}}}
"
    )
}

const READY: &str =
    "phase: Running, conditions: [{type: Ready, status: 'True', lastTransitionTime: 2024-01-01T00:00:00Z}]";

fn plan(world: &[String]) -> String {
    let mut bench = Bench::new(DaemonSets::default(), &world.concat());
    text(&bench.reconcile("ns", "agent", "2024-01-01T00:01:00Z"))
}

/// The plan without the status, which has a test of its own.
fn check(world: &[String], expect: Expect) {
    let plan = plan(world);
    let lines: Vec<&str> = plan.lines().filter(|line| !line.contains(" status: ")).collect();
    expect.assert_eq(&lines.join("\n"));
}

/// Conformance: "DaemonSet-NodeSelection".
#[test]
fn every_node_that_fits_gets_a_pod_of_its_own() {
    let elsewhere = node("slow", "").replace("ssd", "hdd");
    check(
        &[set(""), node("n1", ""), elsewhere],
        expect![[r#"
        together:
          create pods in ns: {"apiVersion":"v1","kind":"Pod","metadata":{"generateName":"agent-","labels":{"app":"agent","controller-revision-hash":"two"},"namespace":"ns","ownerReferences":[{"apiVersion":"apps/v1","blockOwnerDeletion":true,"controller":true,"kind":"DaemonSet","name":"agent","uid":"agent-uid"}]},"spec":{"affinity":{"nodeAffinity":{"requiredDuringSchedulingIgnoredDuringExecution":{"nodeSelectorTerms":[{"matchFields":[{"key":"metadata.name","operator":"In","values":["n1"]}]}]}}},"containers":[{"image":"two","name":"c"}],"nodeSelector":{"disk":"ssd"},"tolerations":[{"effect":"NoExecute","key":"node.kubernetes.io/not-ready","operator":"Exists"},{"effect":"NoExecute","key":"node.kubernetes.io/unreachable","operator":"Exists"},{"effect":"NoSchedule","key":"node.kubernetes.io/disk-pressure","operator":"Exists"},{"effect":"NoSchedule","key":"node.kubernetes.io/memory-pressure","operator":"Exists"},{"effect":"NoSchedule","key":"node.kubernetes.io/pid-pressure","operator":"Exists"},{"effect":"NoSchedule","key":"node.kubernetes.io/unschedulable","operator":"Exists"}]}}"#]],
    );
}

#[test]
fn taints_keep_daemons_away_or_drive_them_out_unless_they_are_a_nodes_own_trouble() {
    let world = [
        set(""),
        node("busy", "{key: k, effect: NoSchedule}"),
        node("empty", "{key: k, effect: NoSchedule}"),
        node("closed", "{key: k, effect: NoExecute}"),
        node(
            "sick",
            "{key: node.kubernetes.io/unreachable, effect: NoExecute}, {key: node.kubernetes.io/disk-pressure, effect: NoSchedule}",
        ),
        pod("a", "busy", "two", READY),
        pod("b", "closed", "two", READY),
        pod("c", "sick", "two", READY),
    ];
    check(
        &world,
        expect![[r#"
        together:
          delete pods ns/b"#]],
    );
}

#[test]
fn a_pod_too_many_goes_and_one_that_ended_is_replaced() {
    let world = [
        set(""),
        node("n1", ""),
        node("n2", ""),
        pod("a", "n1", "two", READY),
        pod("b", "n1", "two", READY),
        pod("c", "n2", "two", "phase: Failed"),
    ];
    check(
        &world,
        expect![[r#"
        note Warning FailedDaemonPod on agent: Found failed daemon pod ns/c on node n2, will try to kill it
        together:
          delete pods ns/b
          delete pods ns/c"#]],
    );
}

#[test]
fn an_update_replaces_as_many_as_may_be_unavailable_and_those_that_are_anyway() {
    let world = |strategy: &str| {
        [
            set(strategy),
            node("n1", ""),
            node("n2", ""),
            node("n3", ""),
            pod("a", "n1", "one", READY),
            pod("b", "n2", "one", "phase: Pending"),
            pod("c", "n3", "one", READY),
        ]
    };
    let rolling = |limits: &str| format!("updateStrategy: {{type: RollingUpdate, rollingUpdate: {{{limits}}}}}");
    check(
        &world(&rolling("maxUnavailable: 1, maxSurge: 0")),
        expect![[r#"
        together:
          delete pods ns/b"#]],
    );
    check(
        &world(&rolling("maxUnavailable: '50%', maxSurge: 0")),
        expect![[r#"
        together:
          delete pods ns/b
          delete pods ns/a"#]],
    );
    check(&world("updateStrategy: {type: OnDelete}"), expect![[r#""#]]);
}

#[test]
fn a_surge_makes_the_new_pod_before_the_old_one_goes() {
    let world = |pods: &[String]| {
        let mut world = vec![
            set("updateStrategy: {type: RollingUpdate, rollingUpdate: {maxUnavailable: 0, maxSurge: 1}}"),
            node("n1", ""),
            node("n2", ""),
            pod("a", "n1", "one", READY),
            pod("b", "n2", "one", READY),
        ];
        world.extend(pods.iter().cloned());
        world
    };
    let created = plan(&world(&[]));
    assert_eq!(created.matches("create pods").count(), 1, "{created}");
    check(&world(&[pod("c", "n1", "two", "phase: Pending")]), expect![[r#""#]]);
    check(
        &world(&[pod("c", "n1", "two", READY)]),
        expect![[r#"
        together:
          delete pods ns/a"#]],
    );
}

#[test]
fn the_status_counts_nodes_not_pods() {
    let world = [
        set(""),
        node("n1", ""),
        node("n2", ""),
        node("n3", "").replace("ssd", "hdd"),
        pod("a", "n1", "two", READY),
        pod("b", "n2", "one", "phase: Pending"),
        pod("c", "n3", "two", READY),
    ];
    let plan = plan(&world);
    expect![[r#"update daemonsets ns/agent status: {"currentNumberScheduled":2,"desiredNumberScheduled":2,"numberAvailable":1,"numberMisscheduled":1,"numberReady":1,"numberUnavailable":1,"observedGeneration":1,"updatedNumberScheduled":1}"#]].assert_eq(plan.lines().find(|line| line.contains(" status: ")).unwrap_or_default());
}

#[test]
fn a_copy_of_the_current_revision_restarts_nobody() {
    let original = set("");
    let (_, revision) = original.split_once("---\n").unwrap();
    let copy = revision.replace("agent-two", "agent-copy").replace("hash: two", "hash: copy");
    let copy = format!("---\n{}", copy.replace("revision: 2", "revision: 3"));
    check(&[original, copy, node("n1", ""), pod("a", "n1", "two", READY)], expect![""]);
}

#[test]
fn of_two_pods_the_one_that_has_its_node_stays() {
    let pinned = "affinity: {nodeAffinity: {requiredDuringSchedulingIgnoredDuringExecution: {nodeSelectorTerms: \
                  [{matchFields: [{key: metadata.name, operator: In, values: [n1]}]}]}}}";
    let at = |name: &str, second: u32| {
        pod(name, "n1", "two", READY)
            .replace("metadata: {", &format!("metadata: {{creationTimestamp: '2024-01-01T00:00:0{second}Z', "))
    };
    let waiting = at("a", 1).replace("nodeName: n1", pinned);
    check(
        &[set(""), node("n1", ""), waiting, at("b", 2)],
        expect![[r#"
        together:
          delete pods ns/a"#]],
    );
}

#[test]
fn a_pod_that_has_ended_and_is_held_by_a_finalizer_is_replaced() {
    let held = pod("a", "n1", "two", "phase: Succeeded")
        .replace("metadata: {", "metadata: {deletionTimestamp: '2024-01-01T00:00:30Z', finalizers: [example.com/f], ");
    let plan = plan(&[set(""), node("n1", ""), held]);
    assert_eq!(plan.matches("create pods").count(), 1, "{plan}");
}

#[test]
fn in_a_surge_a_pod_stays_where_none_belongs_any_more_until_enough_are_available() {
    let world = |status: &str| {
        [
            set("updateStrategy: {type: RollingUpdate, rollingUpdate: {maxUnavailable: 0, maxSurge: 1}}"),
            node("n1", ""),
            node("n2", "{key: k, effect: NoSchedule}"),
            pod("a", "n1", "two", status),
            pod("b", "n2", "one", READY),
        ]
    };
    check(&world("phase: Pending"), expect![[r#""#]]);
    check(
        &world(READY),
        expect![[r#"
        together:
          delete pods ns/b"#]],
    );
}
