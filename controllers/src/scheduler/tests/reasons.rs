use super::*;

/// Conformance: "Scheduler, node selector matching".
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

/// Conformance: "Scheduler, resource limits"; "Scheduler, node selector not matching".
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
            note Warning FailedScheduling on p: 0/4 nodes are available: 1 Insufficient cpu, 1 Insufficient k8w.dev/instances, 1 Insufficient memory, 1 node(s) didn't match Pod's node affinity/selector, 1 node(s) had untolerated taint(s), 1 node(s) were unschedulable. no new claims to deallocate, preemption: 0/4 nodes are available: 4 Preemption is not helpful for scheduling.
            patch pods ns/p status: {"status":{"conditions":[{"lastTransitionTime":"2024-01-01T00:00:00Z","message":"0/4 nodes are available: 1 Insufficient cpu, 1 Insufficient k8w.dev/instances, 1 Insufficient memory, 1 node(s) didn't match Pod's node affinity/selector, 1 node(s) had untolerated taint(s), 1 node(s) were unschedulable. no new claims to deallocate, preemption: 0/4 nodes are available: 4 Preemption is not helpful for scheduling.","reason":"Unschedulable","status":"False","type":"PodScheduled"}]}}
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
            note Warning FailedScheduling on p: 0/1 nodes are available: 1 node(s) didn't know the Pod's runtime class. no new claims to deallocate, preemption: 0/1 nodes are available: 1 Preemption is not helpful for scheduling.
            patch pods ns/p status: {"status":{"conditions":[{"lastTransitionTime":"2024-01-01T00:00:00Z","message":"0/1 nodes are available: 1 node(s) didn't know the Pod's runtime class. no new claims to deallocate, preemption: 0/1 nodes are available: 1 Preemption is not helpful for scheduling.","reason":"Unschedulable","status":"False","type":"PodScheduled"}]}}
            look again in 300s
        "#]],
    );
}

#[test]
fn a_pod_counts_from_the_decision_until_its_binding_fails() {
    let second = pod("", "resources: {requests: {cpu: 600m}}").replace("name: p", "name: q");
    let world = [node("n", "", ""), pod("", "resources: {requests: {cpu: 600m}}"), second];
    let mut bench = bench(&world);
    assert!(text(&bench.reconcile("ns", "p", NOW)).starts_with("bind"));
    assert!(bench.reconcile("ns", "p", NOW).is_empty(), "it is decided already");
    let refused = text(&bench.reconcile("ns", "q", NOW));
    assert!(
        refused.contains("1 Insufficient cpu. no new claims to deallocate, preemption: 0/1 nodes are available: 1 No preemption victims"),
        "{refused}"
    );
    bench.finish("ns", "p", &Outcome::Stale);
    assert!(text(&bench.reconcile("ns", "q", NOW)).starts_with("bind"));
}

#[test]
fn only_named_nodes_are_looked_at() {
    let named = |terms: &str| {
        let affinity = format!(
            "affinity: {{nodeAffinity: {{requiredDuringSchedulingIgnoredDuringExecution: \
             {{nodeSelectorTerms: [{terms}]}}}}}}"
        );
        pod(&affinity, "resources: {requests: {cpu: 2}}")
    };
    let name = |name: &str| format!("{{key: metadata.name, operator: In, values: [{name}]}}");
    let nodes = || [node("a", "", ""), node("b", "", ""), node("c", "", "")];
    let with = |pod: String| place(&[nodes().concat(), pod]);
    expect!["0/3 nodes are available: 1 Insufficient cpu, 2 node(s) didn't satisfy plugin(s) [NodeAffinity]. no new claims to deallocate, preemption: 0/3 nodes are available: 3 Preemption is not helpful for scheduling."]
        .assert_eq(&with(named(&format!("{{matchFields: [{}]}}", name("a")))));
    expect!["0/3 nodes are available: pod affinity terms conflict. no new claims to deallocate, preemption: 0/3 nodes are available: 3 Preemption is not helpful for scheduling."]
        .assert_eq(&with(named(&format!("{{matchFields: [{}, {}]}}", name("a"), name("b")))));
}

#[test]
fn a_profile_can_restrict_its_pods_further() {
    let added = "{requiredDuringSchedulingIgnoredDuringExecution: {nodeSelectorTerms: \
                 [{matchExpressions: [{key: pool, operator: In, values: [batch]}]}]}}";
    let batch = Profile::new("batch").with_added_affinity(&serde_saphyr::from_str(added).unwrap());
    let world = [node("a", "", ""), pod("schedulerName: batch", ""), labelled("q", "", "", "")];
    let mut bench = Bench::new(Scheduler::new(&[Profile::default(), batch]), &world.concat());
    expect!["0/1 nodes are available: 1 node(s) didn't match scheduler-enforced node affinity. no new claims to deallocate, preemption: 0/1 nodes are available: 1 Preemption is not helpful for scheduling."]
        .assert_eq(&outcome(&mut bench, "p"));
    assert_eq!(outcome(&mut bench, "q"), "a");
}

#[test]
fn a_pod_that_names_its_node_goes_nowhere_else() {
    let nodes = [node("a", "", ""), node("b", "", "")].concat();
    assert_eq!(verdicts(&[nodes.clone(), pod("", "")]), "a: yes, b: yes");
    assert_eq!(verdicts(&[nodes.clone(), pod("nodeName: b", "")]), "a: never, b: yes");
    assert_eq!(verdicts(&[nodes, pod("nodeName: c", "")]), "a: never, b: never");
}

#[test]
fn a_gated_pod_is_looked_at_when_its_last_gate_goes() {
    let gated = |gates: &str| pod(&format!("schedulingGates: [{gates}]"), "");
    let mut bench = bench(&[node("n", "", ""), gated("{name: g}, {name: h}")]);
    assert!(outcome(&mut bench, "p").starts_with("patch pods"), "it says that it is gated");
    wakes(&mut bench, &gated("{name: h}"));
    assert!(outcome(&mut bench, "p").starts_with("patch pods"));
    assert!(wakes(&mut bench, &pod("", "")));
    assert_eq!(outcome(&mut bench, "p"), "n");
}

#[test]
fn a_pod_that_is_being_deleted_gets_no_node() {
    let going = |pod: String| pod.replace("name: p,", "name: p, deletionTimestamp: '2024-01-01T00:00:00Z',");
    check(
        &[node("n", "", ""), going(pod("", ""))],
        expect![[r#"
            note Warning FailedScheduling on p: skip schedule deleting pod: ns/p
        "#]],
    );
    check(&[node("n", "", ""), going(pod("schedulingGates: [{name: g}]", ""))], expect![""]);
}

/// Conformance: "Scheduling, HostPort and Protocol match, HostIPs different but one is default HostIP (0.0.0.0)";
/// "Scheduling, HostPort matching and HostIP and Protocol not-matching".
#[test]
fn host_ports_collide_by_address_and_protocol() {
    // Each as protocol/address/port.
    let ports = |list: &str| {
        let port = |port: &str| {
            let [protocol, address, number] = port.split('/').collect::<Vec<_>>()[..] else { panic!("{port}") };
            format!("{{containerPort: 80, hostPort: {number}, hostIP: '{address}', protocol: {protocol}}}")
        };
        format!("ports: [{}]", list.split_whitespace().map(port).collect::<Vec<_>>().join(", "))
    };
    let taken = |ours: &str, theirs: &str| {
        place(&[node("a", "", ""), labelled("q", "", "nodeName: a", &ports(theirs)), pod("", &ports(ours))])
    };
    let cases = [
        ("", "", true),
        ("UDP/127.0.0.1/8080", "UDP/127.0.0.1/9090", true),
        ("UDP/127.0.0.1/8080", "UDP/127.0.0.1/8080", false),
        ("TCP/127.0.0.1/8080", "TCP/127.0.0.1/8080", false),
        ("TCP/127.0.0.1/8080", "TCP/127.0.0.2/8080", true),
        ("UDP/127.0.0.1/8080", "TCP/127.0.0.1/8080", true),
        ("TCP//8080", "UDP//8080", true),
        ("UDP/127.0.0.1/8000 UDP/127.0.0.1/8080", "UDP/127.0.0.1/8080", false),
        ("TCP/127.0.0.1/8001 UDP/127.0.0.1/8080", "TCP/127.0.0.1/8001 UDP/127.0.0.1/8081", false),
        ("TCP/0.0.0.0/8001", "TCP/127.0.0.1/8001", false),
        ("TCP/10.0.10.10/8001 TCP/0.0.0.0/8001", "TCP/127.0.0.1/8001", false),
        ("TCP/127.0.0.1/8001", "TCP/0.0.0.0/8001", false),
        ("TCP/127.0.0.1/8001", "TCP//8001", false),
        ("UDP/127.0.0.1/8001", "TCP/0.0.0.0/8001", true),
        ("UDP/127.0.0.1/8001", "TCP/0.0.0.0/8001 UDP/0.0.0.0/8001", false),
    ];
    for (ours, theirs, fits) in cases {
        assert_eq!(taken(ours, theirs) == "a", fits, "{ours} beside {theirs}");
    }
    expect!["0/1 nodes are available: 1 node(s) didn't have free ports for the requested pod ports. no new claims to deallocate, preemption: 0/1 nodes are available: 1 No preemption victims found for incoming pod."]
        .assert_eq(&taken("TCP/127.0.0.1/80", "TCP/0.0.0.0/80"));
    // A sidecar runs along, an init container has ended.
    let first = |more: &str| format!("initContainers: [{{name: i, {}{more}}}]", ports("TCP//80"));
    let beside = |spec: &str| {
        place(&[node("a", "", ""), labelled("q", "", "nodeName: a", &ports("TCP//80")), pod(spec, "")]) == "a"
    };
    assert_eq!((beside(&first("")), beside(&first(", restartPolicy: Always"))), (true, false));
}
