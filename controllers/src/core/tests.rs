use expect_test::{Expect, expect};

use crate::engine::Controller;
use crate::testing::{Bench, objects, text};
use crate::world::Change;

use super::*;

fn check(controller: impl Controller, world: &str, (namespace, name): (&str, &str), now: &str, expect: Expect) {
    let mut bench = Bench::new(controller, world);
    expect.assert_eq(&text(&bench.reconcile(namespace, name, now)));
}

const START: &str = "2024-01-01T00:00:00Z";
const NODE: &str = "
apiVersion: v1
kind: Node
metadata: {name: one, creationTimestamp: 2024-01-01T00:00:00Z}
spec: {}
status:
  conditions:
  - {type: Ready, status: 'True', lastHeartbeatTime: 2024-01-01T00:00:00Z}
  - {type: DiskPressure, status: 'True'}
---
apiVersion: v1
kind: Node
metadata: {name: other}
spec: {}
status: {conditions: [{type: Ready, status: 'True'}]}
---
apiVersion: v1
kind: Pod
metadata: {namespace: ns, name: p}
spec: {nodeName: one, containers: []}
status: {phase: Running, conditions: [{type: Ready, status: 'True'}]}
";

#[test]
fn a_node_keeps_its_taints_in_step_with_its_conditions() {
    let lifecycle = || node_lifecycle::NodeLifecycle::new(std::time::Duration::from_secs(40));
    check(
        lifecycle(),
        NODE,
        ("", "one"),
        START,
        expect![[r#"
        note Normal RegisteredNode on one: Node one event: Registered Node one in Controller
        patch nodes one at 1 : {"spec":{"taints":[{"effect":"NoSchedule","key":"node.kubernetes.io/disk-pressure","timeAdded":"2024-01-01T00:00:00Z"}]}}
        look again in 40s
    "#]],
    );
    let not_ready = NODE.replacen("type: Ready, status: 'True'", "type: Ready, status: 'False'", 1);
    check(
        lifecycle(),
        &not_ready,
        ("", "one"),
        START,
        expect![[r#"
        note Normal RegisteredNode on one: Node one event: Registered Node one in Controller
        patch nodes one at 1 : {"spec":{"taints":[{"effect":"NoSchedule","key":"node.kubernetes.io/not-ready","timeAdded":"2024-01-01T00:00:00Z"},{"effect":"NoExecute","key":"node.kubernetes.io/not-ready","timeAdded":"2024-01-01T00:00:00Z"},{"effect":"NoSchedule","key":"node.kubernetes.io/disk-pressure","timeAdded":"2024-01-01T00:00:00Z"}]}}
        look again in 40s
    "#]],
    );
    let all_lost = NODE.replace("type: Ready, status: 'True'", "type: Ready, status: Unknown");
    check(
        lifecycle(),
        &all_lost,
        ("", "one"),
        START,
        expect![[r#"
        note Normal RegisteredNode on one: Node one event: Registered Node one in Controller
        patch nodes one at 1 : {"spec":{"taints":[{"effect":"NoSchedule","key":"node.kubernetes.io/unreachable","timeAdded":"2024-01-01T00:00:00Z"},{"effect":"NoSchedule","key":"node.kubernetes.io/disk-pressure","timeAdded":"2024-01-01T00:00:00Z"}]}}
        look again in 40s
    "#]],
    );
    let well_again = NODE.replacen(
        "spec: {}",
        "spec: {unschedulable: true, taints: [{key: mine, effect: NoExecute}, {key: node.kubernetes.io/not-ready, effect: NoExecute}]}",
        1,
    );
    check(
        lifecycle(),
        &well_again,
        ("", "one"),
        START,
        expect![[r#"
        note Normal RegisteredNode on one: Node one event: Registered Node one in Controller
        patch nodes one at 1 : {"spec":{"taints":[{"effect":"NoExecute","key":"mine"},{"effect":"NoSchedule","key":"node.kubernetes.io/disk-pressure","timeAdded":"2024-01-01T00:00:00Z"},{"effect":"NoSchedule","key":"node.kubernetes.io/unschedulable","timeAdded":"2024-01-01T00:00:00Z"}]}}
        look again in 40s
    "#]],
    );
}

#[test]
fn a_silent_node_is_unknown_after_the_grace_period() {
    let mut bench = Bench::new(node_lifecycle::NodeLifecycle::new(std::time::Duration::from_secs(40)), NODE);
    bench.reconcile("", "one", START);
    expect![[r#"
        patch nodes one at 1 : {"spec":{"taints":[{"effect":"NoSchedule","key":"node.kubernetes.io/disk-pressure","timeAdded":"2024-01-01T00:00:39Z"}]}}
        look again in 1s
    "#]].assert_eq(&text(&bench.reconcile("", "one", "2024-01-01T00:00:39Z")));
    expect![[r#"
        note Normal NodeNotReady on one: Node one status is now: NodeNotReady
        note Warning NodeNotReady on p: Node is not ready
        patch pods ns/p status: {"status":{"conditions":[{"lastTransitionTime":"2024-01-01T00:00:40Z","status":"False","type":"Ready"}]}}
        patch nodes one status: {"status":{"conditions":[{"lastHeartbeatTime":"2024-01-01T00:00:00Z","lastTransitionTime":"2024-01-01T00:00:40Z","message":"Kubelet stopped posting node status.","reason":"NodeStatusUnknown","status":"Unknown","type":"Ready"},{"lastHeartbeatTime":"2024-01-01T00:00:00Z","lastTransitionTime":"2024-01-01T00:00:40Z","message":"Kubelet never posted node status.","reason":"NodeStatusNeverUpdated","status":"Unknown","type":"MemoryPressure"},{"lastHeartbeatTime":"2024-01-01T00:00:00Z","lastTransitionTime":"2024-01-01T00:00:40Z","message":"Kubelet stopped posting node status.","reason":"NodeStatusUnknown","status":"Unknown","type":"DiskPressure"},{"lastHeartbeatTime":"2024-01-01T00:00:00Z","lastTransitionTime":"2024-01-01T00:00:40Z","message":"Kubelet never posted node status.","reason":"NodeStatusNeverUpdated","status":"Unknown","type":"PIDPressure"}]}}
    "#]].assert_eq(&text(&bench.reconcile("", "one", "2024-01-01T00:00:40Z")));
}

#[test]
fn a_node_has_a_minute_to_report_for_the_first_time() {
    let node = "
apiVersion: v1
kind: Node
metadata: {name: one, creationTimestamp: 2024-01-01T00:00:00Z}
spec: {}
";
    let mut bench = Bench::new(node_lifecycle::NodeLifecycle::new(std::time::Duration::from_secs(40)), node);
    expect![[r#"
        note Normal RegisteredNode on one: Node one event: Registered Node one in Controller
        look again in 60s
    "#]]
    .assert_eq(&text(&bench.reconcile("", "one", START)));
    assert_eq!(text(&bench.reconcile("", "one", "2024-01-01T00:00:59Z")), "look again in 1s\n");
    let silent = text(&bench.reconcile("", "one", "2024-01-01T00:01:00Z"));
    assert_eq!(silent.matches("NodeStatusNeverUpdated").count(), 4, "{silent}");
    let gone = node.replace("{name: one,", "{name: one, resourceVersion: '9000',");
    let gone = crate::testing::objects(&gone).remove(0);
    assert!(bench.wakes(crate::world::Change::WatchedGone(gone)));
    expect![[r#"
        note Normal RemovingNode on one: Node one event: Removing Node one from Controller
    "#]]
    .assert_eq(&text(&bench.reconcile("", "one", "2024-01-01T00:01:00Z")));
}

#[test]
fn nodes_are_given_up_one_by_one_and_not_at_all_when_too_many_are_lost() {
    let node = |name: &str, zone: &str, ready: &str| {
        format!(
            "
apiVersion: v1
kind: Node
metadata: {{name: {name}, labels: {{topology.kubernetes.io/zone: {zone}}}}}
spec: {{}}
status: {{conditions: [{{type: Ready, status: '{ready}'}}]}}
---"
        )
    };
    let bench = |nodes: &[String]| {
        let world = nodes.concat();
        let lifecycle = node_lifecycle::NodeLifecycle::new(std::time::Duration::from_secs(600));
        Bench::new(lifecycle, world.trim_end_matches("---"))
    };
    let given_up = |bench: &mut Bench<node_lifecycle::NodeLifecycle>, name: &str, now: &str| {
        let plan = text(&bench.reconcile("", name, now));
        (plan.contains("NoExecute"), plan.lines().last().unwrap_or_default().to_owned())
    };
    let healthy: Vec<String> = (0..4).map(|i| node(&format!("ok{i}"), "a", "True")).collect();
    let lost: Vec<String> = (0..3).map(|i| node(&format!("lost{i}"), "a", "Unknown")).collect();
    let mut some = bench(&[healthy.concat(), lost.concat(), node("b0", "b", "False")]);
    assert_eq!(given_up(&mut some, "lost0", START), (true, "look again in 600s".into()));
    assert_eq!(given_up(&mut some, "lost1", START), (false, "look again in 10s".into()));
    assert!(given_up(&mut some, "b0", START).0, "a zone of its own");
    assert!(given_up(&mut some, "lost1", "2024-01-01T00:00:10Z").0);
    let mut most = bench(&[healthy[0].clone(), lost.concat()]);
    assert!(!given_up(&mut most, "lost0", START).0, "a small zone in trouble is left alone");
    let mut all = bench(&lost);
    assert!(!given_up(&mut all, "lost0", START).0, "who lost every node is lost");
}

/// Conformance: "Pod Eviction, Toleration limits"; "Taint, Pod Eviction on taint removal".
#[test]
fn pods_leave_a_tainted_node_when_their_tolerations_end() {
    let world = |tolerations: &str| {
        format!(
            "
apiVersion: v1
kind: Node
metadata: {{name: one}}
spec: {{taints: [{{key: k, effect: NoExecute, timeAdded: 2024-01-01T00:00:00Z}}]}}
---
apiVersion: v1
kind: Pod
metadata: {{namespace: ns, name: p}}
spec: {{nodeName: one, containers: [], tolerations: [{tolerations}]}}
"
        )
    };
    let eviction = taint_eviction::TaintEviction::default;
    check(
        eviction(),
        &world(""),
        ("ns", "p"),
        START,
        expect![[r#"
        note Normal TaintManagerEviction on p: Marking for deletion Pod ns/p
        patch pods ns/p status: {"status":{"conditions":[{"lastTransitionTime":"2024-01-01T00:00:00Z","message":"Taint manager: deleting due to NoExecute taint","reason":"DeletionByTaintManager","status":"True","type":"DisruptionTarget"}]}}
        delete pods ns/p
    "#]],
    );
    check(eviction(), &world("{key: k, operator: Exists}"), ("ns", "p"), START, expect![]);
    let for_a_while = world("{key: k, operator: Exists, tolerationSeconds: 300}");
    let arrived_later = for_a_while.trim_end().to_owned()
        + "
status: {conditions: [{type: PodScheduled, status: 'True', lastTransitionTime: 2024-01-01T00:04:00Z}]}
";
    check(
        eviction(),
        &arrived_later,
        ("ns", "p"),
        "2024-01-01T00:05:00Z",
        expect![[r#"
        look again in 240s
    "#]],
    );
    let mut bench = Bench::new(eviction(), &for_a_while);
    bench.reconcile("ns", "p", START);
    let untainted = world("").replace("metadata: {name: one}", "metadata: {name: one, resourceVersion: '2000'}");
    let untainted =
        untainted.replace("spec: {taints: [{key: k, effect: NoExecute, timeAdded: 2024-01-01T00:00:00Z}]}", "spec: {}");
    assert!(bench.wakes(crate::world::Change::Watched(crate::testing::objects(&untainted).remove(0))));
    expect![[r#"
        note Normal TaintManagerEviction on p: Cancelling deletion of Pod ns/p
    "#]]
    .assert_eq(&text(&bench.reconcile("ns", "p", START)));
    // Once it is known when a pod leaves, another time that it may have does not change that.
    let mut bench = Bench::new(eviction(), &for_a_while);
    bench.reconcile("ns", "p", START);
    for seconds in ["5", "3600"] {
        let version = format!("metadata: {{namespace: ns, name: p, resourceVersion: '{seconds}000'}}");
        let changed = for_a_while.replace("metadata: {namespace: ns, name: p}", &version);
        let changed = changed.replace("tolerationSeconds: 300", &format!("tolerationSeconds: {seconds}"));
        assert!(bench.wakes(crate::world::Change::Watched(crate::testing::objects(&changed).remove(1))), "{seconds}");
        let waits = text(&bench.reconcile("ns", "p", "2024-01-01T00:01:00Z"));
        assert_eq!(waits, "look again in 240s\n", "with {seconds}");
    }
    check(
        eviction(),
        &for_a_while,
        ("ns", "p"),
        "2024-01-01T00:01:00Z",
        expect![[r#"
        look again in 240s
    "#]],
    );
    check(
        eviction(),
        &for_a_while,
        ("ns", "p"),
        "2024-01-01T00:05:00Z",
        expect![[r#"
        note Normal TaintManagerEviction on p: Marking for deletion Pod ns/p
        patch pods ns/p status: {"status":{"conditions":[{"lastTransitionTime":"2024-01-01T00:05:00Z","message":"Taint manager: deleting due to NoExecute taint","reason":"DeletionByTaintManager","status":"True","type":"DisruptionTarget"}]}}
        delete pods ns/p
    "#]],
    );
}

#[test]
fn pods_that_no_node_will_remove_are_removed() {
    let gc = || pod_gc::PodGc::new(1, std::time::Duration::from_secs(40));
    let unplaced = "
apiVersion: v1
kind: Pod
metadata: {namespace: ns, name: p, deletionTimestamp: 2024-01-01T00:00:00Z}
spec: {containers: []}
";
    check(
        gc(),
        unplaced,
        ("ns", "p"),
        START,
        expect![[r#"
        patch pods ns/p status: {"status":{"phase":"Failed"}}
        delete pods ns/p within 0 s
    "#]],
    );
    let placed = unplaced.replace("spec: {", "spec: {nodeName: n1, ");
    let node = |ready: &str, taint: &str| {
        format!(
            "---
apiVersion: v1
kind: Node
metadata: {{name: n1}}
spec: {{taints: [{{key: {taint}, effect: NoExecute}}]}}
status: {{conditions: [{{type: Ready, status: {ready}}}]}}
"
        )
    };
    let out_of_service = "node.kubernetes.io/out-of-service";
    check(
        gc(),
        &(placed.clone() + &node("Unknown", out_of_service)),
        ("ns", "p"),
        START,
        expect![[r#"
        patch pods ns/p status: {"status":{"phase":"Failed"}}
        delete pods ns/p within 0 s
    "#]],
    );
    check(gc(), &(placed.clone() + &node("'True'", out_of_service)), ("ns", "p"), START, expect![""]);
    check(gc(), &(placed + &node("Unknown", "other")), ("ns", "p"), START, expect![""]);
    let orphaned = "
apiVersion: v1
kind: Pod
metadata: {namespace: ns, name: p}
spec: {nodeName: gone, containers: []}
status: {phase: Running}
";
    let mut bench = Bench::new(gc(), orphaned);
    expect![[r#"
        look again in 40s
    "#]]
    .assert_eq(&text(&bench.reconcile("ns", "p", START)));
    expect![[r#"
        check absent nodes gone
        patch pods ns/p status: {"status":{"conditions":[{"lastTransitionTime":"2024-01-01T00:00:40Z","message":"PodGC: node no longer exists","reason":"DeletionByPodGC","status":"True","type":"DisruptionTarget"}],"phase":"Failed"}}
        delete pods ns/p within 0 s
    "#]].assert_eq(&text(&bench.reconcile("ns", "p", "2024-01-01T00:00:40Z")));
    let mut bench = Bench::new(gc(), orphaned);
    bench.reconcile("ns", "p", START);
    let node = objects("{apiVersion: v1, kind: Node, metadata: {name: gone}}").remove(0);
    bench.wakes(Change::Watched(node));
    assert_eq!(text(&bench.reconcile("ns", "p", "2024-01-01T00:00:40Z")), "", "its node is there again");
    let ended: String = (1..4)
        .map(|i| {
            let status = if i == 3 { "phase: Failed, reason: Evicted" } else { "phase: Succeeded" };
            format!(
                "
apiVersion: v1
kind: Pod
metadata: {{namespace: ns, name: p{i}, creationTimestamp: 2024-01-01T00:00:0{i}Z}}
spec: {{containers: []}}
status: {{{status}}}
---"
            )
        })
        .collect();
    check(
        gc(),
        ended.trim_end_matches("---"),
        ("", "ended pods"),
        START,
        expect![[r#"
        together:
          delete pods ns/p3 within 0 s
          delete pods ns/p1 within 0 s
        look again in 20s
    "#]],
    );
}

#[test]
fn of_ended_pods_the_oldest_beyond_a_number_go() {
    let phases = |phases: &[&str]| {
        let pods = phases.iter().zip(1..).map(|(phase, n)| {
            format!("{{apiVersion: v1, kind: Pod, metadata: {{namespace: ns, name: p{n}, creationTimestamp: 2024-01-01T00:00:0{n}Z}}, status: {{phase: {phase}}}}}")
        });
        pods.collect::<Vec<_>>().join("\n---\n")
    };
    let gone = |kept: usize, pods: &[&str]| {
        let gc = pod_gc::PodGc::new(kept, std::time::Duration::from_secs(40));
        let plan = text(&Bench::new(gc, &phases(pods)).reconcile("", "ended pods", START));
        let names = plan.lines().filter_map(|line| line.trim().strip_prefix("delete pods ns/")?.split(' ').next());
        names.map(str::to_owned).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(gone(0, &["Failed", "Succeeded"]), "", "none is too many");
    assert_eq!(gone(1, &["Failed", "Succeeded", "Failed"]), "p1 p2");
    assert_eq!(gone(1, &["Running", "Succeeded", "Failed"]), "p2");
    assert_eq!(gone(1, &["Failed", "Pending", "Unknown"]), "");
    assert_eq!(gone(5, &["Failed", "Succeeded"]), "");
}

/// Conformance: "RootCA ConfigMap test".
#[test]
fn every_namespace_gets_its_account_and_the_root_certificate() {
    let namespace = "
apiVersion: v1
kind: Namespace
metadata: {name: ns}
";
    check(
        service_account::ServiceAccounts,
        namespace,
        ("", "ns"),
        START,
        expect![[r#"
        create serviceaccounts in ns: {"apiVersion":"v1","kind":"ServiceAccount","metadata":{"name":"default","namespace":"ns"}}
    "#]],
    );
    check(
        root_ca::RootCas::new("PEM"),
        namespace,
        ("", "ns"),
        START,
        expect![[r#"
        create configmaps in ns: {"apiVersion":"v1","data":{"ca.crt":"PEM"},"kind":"ConfigMap","metadata":{"annotations":{"kubernetes.io/description":"Contains a CA bundle that can be used to verify the kube-apiserver when using internal endpoints such as the internal service IP or kubernetes.default.svc. No other usage is guaranteed across distributions of Kubernetes clusters."},"name":"kube-root-ca.crt","namespace":"ns"}}
    "#]],
    );
    check(root_ca::RootCas::new(""), namespace, ("", "ns"), START, expect![]);
    let map = |pem: &str, annotations: &str| {
        format!(
            "{namespace}---
apiVersion: v1
kind: ConfigMap
metadata: {{namespace: ns, name: kube-root-ca.crt, annotations: {annotations}}}
data: {{ca.crt: {pem}}}
"
        )
    };
    let outdated = map("OLD", "{a: b}");
    check(
        root_ca::RootCas::new("PEM"),
        &outdated,
        ("", "ns"),
        START,
        expect![[r#"
        update configmaps ns/kube-root-ca.crt : {"apiVersion":"v1","data":{"ca.crt":"PEM"},"kind":"ConfigMap","metadata":{"annotations":{"a":"b","kubernetes.io/description":"Contains a CA bundle that can be used to verify the kube-apiserver when using internal endpoints such as the internal service IP or kubernetes.default.svc. No other usage is guaranteed across distributions of Kubernetes clusters."},"name":"kube-root-ca.crt","namespace":"ns","resourceVersion":"2","uid":"kube-root-ca.crt-uid"}}
    "#]],
    );
    let described = map("PEM", "{kubernetes.io/description: in other words}");
    check(root_ca::RootCas::new("PEM"), &described, ("", "ns"), START, expect![]);
    let undescribed = Bench::new(root_ca::RootCas::new("PEM"), &map("PEM", "{}")).reconcile("", "ns", START);
    assert_eq!(undescribed.steps.len(), 1);
    let going = namespace.replace("name: ns", "name: ns, deletionTimestamp: 2024-01-01T00:00:00Z");
    check(service_account::ServiceAccounts, &going, ("", "ns"), START, expect![]);
    check(root_ca::RootCas::new("PEM"), &going, ("", "ns"), START, expect![]);
}

/// Conformance: "Ordered Namespace Deletion".
#[test]
fn a_namespace_loses_its_pods_first_and_says_what_it_waits_for() {
    let world = "
apiVersion: v1
kind: Namespace
metadata: {name: ns, deletionTimestamp: 2024-01-01T00:00:00Z}
spec: {finalizers: [kubernetes]}
status: {phase: Terminating}
---
apiVersion: v1
kind: Pod
metadata: {namespace: ns, name: p, finalizers: [example.com/wait]}
spec: {containers: []}
---
apiVersion: v1
kind: Service
metadata: {namespace: ns, name: s}
";
    check(
        namespace::Namespaces,
        world,
        ("", "ns"),
        START,
        expect![[r#"
        together:
          delete all pods in ns
        update namespaces ns status: {"conditions":[{"lastTransitionTime":"2024-01-01T00:00:00Z","message":"All resources successfully discovered","reason":"ResourcesDiscovered","status":"False","type":"NamespaceDeletionDiscoveryFailure"},{"lastTransitionTime":"2024-01-01T00:00:00Z","message":"All legacy kube types successfully parsed","reason":"ParsedGroupVersions","status":"False","type":"NamespaceDeletionGroupVersionParsingFailure"},{"lastTransitionTime":"2024-01-01T00:00:00Z","message":"All content successfully deleted, may be waiting on finalization","reason":"ContentDeleted","status":"False","type":"NamespaceDeletionContentFailure"},{"lastTransitionTime":"2024-01-01T00:00:00Z","message":"Some resources are remaining: pods. has 1 resource instances, services. has 1 resource instances","reason":"SomeResourcesRemain","status":"True","type":"NamespaceContentRemaining"},{"lastTransitionTime":"2024-01-01T00:00:00Z","message":"Some content in the namespace has finalizers remaining: example.com/wait in 1 resource instances","reason":"SomeFinalizersRemain","status":"True","type":"NamespaceFinalizersRemaining"}],"phase":"Terminating"}
        look again in 15s
    "#]],
    );
}
