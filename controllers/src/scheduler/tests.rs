use expect_test::{Expect, expect};
use proptest::prelude::*;

use super::*;
use crate::testing::{Bench, text};
use crate::world::Change;

const NOW: &str = "2024-01-01T00:00:00Z";

/// A node of 1 cpu, 1Gi, 3 pods; `more` goes into its spec.
fn node(name: &str, labels: &str, more: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Node\nmetadata: {{name: '{name}', labels: {{{labels}}}}}\nspec: {{{more}}}\n\
         status: {{allocatable: {{cpu: '1', memory: 1Gi, pods: '3'}}}}\n---\n"
    )
}

/// A pod `p` with this spec besides its one container, which has this.
fn pod(spec: &str, container: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{namespace: ns, name: p}}\n\
         spec: {{containers: [{{name: c, {container}}}], {spec}}}\n---\n"
    )
}

fn check(world: &[String], expect: Expect) {
    let mut bench = Bench::new(Scheduler::new("default-scheduler"), &world.concat());
    expect.assert_eq(&text(&bench.reconcile("ns", "p", NOW)));
}

#[test]
fn a_pod_is_bound_to_the_node_that_is_left() {
    let world = [
        node("cordoned", "", "unschedulable: true"),
        node("tainted", "", "taints: [{key: k, effect: NoSchedule}]"),
        node("elsewhere", "zone: a", ""),
        node("right", "zone: b", ""),
        pod("nodeSelector: {zone: b}", ""),
    ];
    check(
        &world,
        expect![[r#"
            bind pods ns/p to right
        "#]],
    );
}

#[test]
fn refusals_are_counted_and_worded_as_kubernetes_does() {
    let world = [
        node("cordoned", "", "unschedulable: true"),
        node("tainted", "", "taints: [{key: k, effect: NoSchedule}]"),
        node("elsewhere", "zone: a", ""),
        node("small", "zone: b", ""),
        pod("nodeSelector: {zone: b}", "resources: {requests: {cpu: 2, memory: 2Gi, k8w.dev/instances: 1}}"),
    ];
    check(
        &world,
        expect![[r#"
            note Warning FailedScheduling on p: 0/4 nodes are available: 1 Insufficient cpu, 1 Insufficient k8w.dev/instances, 1 Insufficient memory, 1 node(s) didn't match Pod's node affinity/selector, 1 node(s) had untolerated taint(s), 1 node(s) were unschedulable. preemption: 0/4 nodes are available: 4 Preemption is not helpful for scheduling.
            patch pods ns/p status: {"status":{"conditions":[{"lastTransitionTime":"2024-01-01T00:00:00Z","message":"0/4 nodes are available: 1 Insufficient cpu, 1 Insufficient k8w.dev/instances, 1 Insufficient memory, 1 node(s) didn't match Pod's node affinity/selector, 1 node(s) had untolerated taint(s), 1 node(s) were unschedulable. preemption: 0/4 nodes are available: 4 Preemption is not helpful for scheduling.","reason":"Unschedulable","status":"False","type":"PodScheduled"}]}}
            look again in 300s
        "#]],
    );
}

#[test]
fn no_nodes_gates_and_other_schedulers() {
    check(
        &[pod("", "")],
        expect![[r#"
            note Warning FailedScheduling on p: no nodes available to schedule pods
            patch pods ns/p status: {"status":{"conditions":[{"lastTransitionTime":"2024-01-01T00:00:00Z","message":"no nodes available to schedule pods","reason":"Unschedulable","status":"False","type":"PodScheduled"}]}}
            look again in 300s
        "#]],
    );
    check(
        &[node("n", "", ""), pod("schedulingGates: [{name: g}]", "")],
        expect![[r#"
            patch pods ns/p status: {"status":{"conditions":[{"lastTransitionTime":"2024-01-01T00:00:00Z","message":"Scheduling is blocked due to non-empty scheduling gates","reason":"SchedulingGated","status":"False","type":"PodScheduled"}]}}
        "#]],
    );
    check(&[node("n", "", ""), pod("schedulerName: other", "")], expect![""]);
}

#[test]
fn a_wasm_pod_goes_only_where_its_handler_is() {
    let class = "apiVersion: node.k8s.io/v1\nkind: RuntimeClass\nmetadata: {name: wasmtime}\nhandler: wasmtime\n---\n";
    let with = |handlers: &str| {
        format!(
            "apiVersion: v1\nkind: Node\nmetadata: {{name: n-{}}}\n\
             status: {{allocatable: {{cpu: '1', memory: 1Gi, pods: '3'}}, runtimeHandlers: {handlers}}}\n---\n",
            handlers.len()
        )
    };
    let wasm_pod = pod("runtimeClassName: wasmtime", "");
    check(
        &[class.into(), with("[]"), with("[{name: runc}]"), with("[{name: wasmtime}]"), wasm_pod.clone()],
        expect![[r#"
            bind pods ns/p to n-18
        "#]],
    );
    check(
        &[with("[{name: wasmtime}]"), wasm_pod],
        expect![[r#"
            note Warning FailedScheduling on p: 0/1 nodes are available: 1 node(s) didn't know the Pod's runtime class. preemption: 0/1 nodes are available: 1 Preemption is not helpful for scheduling.
            patch pods ns/p status: {"status":{"conditions":[{"lastTransitionTime":"2024-01-01T00:00:00Z","message":"0/1 nodes are available: 1 node(s) didn't know the Pod's runtime class. preemption: 0/1 nodes are available: 1 Preemption is not helpful for scheduling.","reason":"Unschedulable","status":"False","type":"PodScheduled"}]}}
            look again in 300s
        "#]],
    );
}

#[test]
fn a_pod_counts_from_the_decision_until_its_binding_fails() {
    let second = pod("", "resources: {requests: {cpu: 600m}}").replace("name: p", "name: q");
    let world = [node("n", "", ""), pod("", "resources: {requests: {cpu: 600m}}"), second];
    let mut bench = Bench::new(Scheduler::new("default-scheduler"), &world.concat());
    assert!(text(&bench.reconcile("ns", "p", NOW)).starts_with("bind"));
    assert!(bench.reconcile("ns", "p", NOW).is_empty(), "it is decided already");
    let refused = text(&bench.reconcile("ns", "q", NOW));
    assert!(
        refused.contains("1 Insufficient cpu. preemption: 0/1 nodes are available: 1 No preemption victims"),
        "{refused}"
    );
    bench.finish("ns", "p", &Outcome::Stale);
    assert!(text(&bench.reconcile("ns", "q", NOW)).starts_with("bind"));
}

#[test]
fn a_parked_pod_wakes_for_what_may_help_it_and_for_nothing_else() {
    let world = [node("n", "zone: a", ""), pod("nodeSelector: {zone: b}", "")];
    let mut bench = Bench::new(Scheduler::new("default-scheduler"), &world.concat());
    bench.reconcile("ns", "p", NOW);
    let mut wakes = |yaml: &str| {
        let object =
            crate::testing::objects(&yaml.replace("metadata: {", "metadata: {resourceVersion: '2000', ")).remove(0);
        bench.wakes(Change::Watched(object))
    };
    assert!(!wakes(&pod("nodeSelector: {zone: b}", "")), "its own status");
    assert!(!wakes(&pod("nodeName: 'n'", "").replace("name: p", "name: other")), "another pod's start");
    assert!(wakes(&node("n", "zone: b", "")), "the label it waits for");
}

proptest! {
    /// Whatever is decided fits, in every order, and what is refused fits nowhere.
    #[test]
    fn decisions_are_feasible(sizes in prop::collection::vec((1u32..8, 1u32..8), 1..20), nodes in 1usize..5) {
        let world: String = (0..nodes).map(|i| node(&format!("n{i}"), "", "")).collect();
        let pods: String = sizes.iter().enumerate().map(|(i, (cpu, memory))| {
            let requests = format!("resources: {{requests: {{cpu: {cpu}00m, memory: {memory}00Mi}}}}");
            pod("", &requests).replace("name: p", &format!("name: p{i}"))
        }).collect();
        let mut bench = Bench::new(Scheduler::new("default-scheduler"), &(world + &pods));
        for i in 0..sizes.len() {
            let plan = bench.reconcile("ns", &format!("p{i}"), NOW);
            let asks = PodInfo::new(bench.world.pods.get("ns", &format!("p{i}")).unwrap().clone()).requests;
            let bound = plan.steps.iter().any(|step| matches!(step, Step::Bind { .. }));
            let nodes = &bench.controller.snapshot.nodes;
            for node in nodes {
                prop_assert!(node.requested.cpu_millis <= 1000 && node.requested.memory_bytes <= 1 << 30);
                prop_assert!(node.pods.len() <= 3);
                let fits = node.requested.cpu_millis + asks.cpu_millis <= 1000
                    && node.requested.memory_bytes + asks.memory_bytes <= 1 << 30
                    && node.pods.len() < 3;
                prop_assert!(bound || !fits, "refused although a node has room");
            }
        }
    }
}
