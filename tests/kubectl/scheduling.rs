//! Where pods go and why they don't: selectors, gates, cordons, taints, and who must leave for whom.

use k8w_testkit::{Kubectl, eventually};

use crate::{hello_pod, own_cluster, sandbox};

fn pod(name: &str, spec: &str) -> String {
    hello_pod(name, &format!("terminationGracePeriodSeconds: 1, {spec}"), "")
}

/// The message of the pod's condition PodScheduled once it is False for this reason.
fn unscheduled(kubectl: &Kubectl, name: &str, reason: &str) -> String {
    let path = "jsonpath={.status.conditions[?(@.type==\"PodScheduled\")].reason}";
    eventually("the pod is not scheduled", || {
        let said = kubectl.ok(&["get", "pod", name, "-o", path]);
        if said == reason { Ok(()) } else { Err(said) }
    });
    let path = "jsonpath={.status.conditions[?(@.type==\"PodScheduled\")].message}";
    kubectl.ok(&["get", "pod", name, "-o", path])
}

fn described(kubectl: &Kubectl, name: &str, text: &str) {
    eventually("describe shows the event", || {
        let shown = kubectl.ok(&["describe", "pod", name]);
        if shown.contains(text) { Ok(()) } else { Err(shown) }
    });
}

#[test]
fn a_pod_that_fits_nowhere_says_why_and_starts_when_it_fits() {
    let t = sandbox();
    t.hello_image();
    let label = format!("test.k8w.dev/{}", t.namespace);
    t.kubectl.apply(&pod("picky", &format!("nodeSelector: {{{label}: 'yes'}}")));
    let why = "0/1 nodes are available: 1 node(s) didn't match Pod's node affinity/selector. no new claims to deallocate, \
               preemption: 0/1 nodes are available: 1 Preemption is not helpful for scheduling.";
    assert_eq!(unscheduled(&t.kubectl, "picky", "Unschedulable"), why);
    described(&t.kubectl, "picky", why);
    t.kubectl.ok(&["label", "nodes", "--all", &format!("{label}=yes")]);
    t.kubectl.ok(&["wait", "--for=condition=Ready", "pod/picky", "--timeout=60s"]);
    t.kubectl.apply(&pod("greedy", "resources: {requests: {cpu: 100k}}"));
    let message = unscheduled(&t.kubectl, "greedy", "Unschedulable");
    assert!(message.starts_with("0/1 nodes are available: 1 Insufficient cpu. "), "{message}");
}

#[test]
fn a_gated_pod_waits_for_its_gate() {
    let t = sandbox();
    t.hello_image();
    t.kubectl.apply(&pod("gated", "schedulingGates: [{name: example.com/wait}]"));
    let message = unscheduled(&t.kubectl, "gated", "SchedulingGated");
    assert_eq!(message, "Scheduling is blocked due to non-empty scheduling gates");
    assert!(t.kubectl.ok(&["get", "pod", "gated", "--no-headers"]).contains("SchedulingGated"));
    let open = r#"[{"op": "remove", "path": "/spec/schedulingGates"}]"#;
    t.kubectl.ok(&["patch", "pod", "gated", "--type=json", "-p", open]);
    t.kubectl.ok(&["wait", "--for=condition=Ready", "pod/gated", "--timeout=60s"]);
}

/// <https://kubernetes.io/docs/tasks/administer-cluster/extended-resource-node/>
#[test]
fn what_others_advertise_on_a_node_is_given_to_pods() {
    let (_cluster, kubectl, node) = own_cluster(&[]);
    let advertise = |op: &str| {
        let patch = format!(r#"[{{"op": "{op}", "path": "/status/capacity/example.com~1dongle", "value": "2"}}]"#);
        kubectl.ok(&["patch", "node", &node, "--subresource=status", "--type=json", "-p", &patch]);
    };
    let asking = |count| {
        let resources = format!(
            "resources: {{requests: {{example.com/dongle: {count}}}, limits: {{example.com/dongle: {count}}}}}"
        );
        hello_pod(&format!("wants-{count}"), "terminationGracePeriodSeconds: 1", &resources)
    };
    kubectl.apply(&asking(2));
    let message = unscheduled(&kubectl, "wants-2", "Unschedulable");
    assert!(message.starts_with("0/1 nodes are available: 1 Insufficient example.com/dongle. "), "{message}");
    advertise("add");
    kubectl.ok(&["wait", "--for=condition=Ready", "pod/wants-2", "--timeout=60s"]);
    kubectl.apply(&asking(1));
    let message = unscheduled(&kubectl, "wants-1", "Unschedulable");
    assert!(message.starts_with("0/1 nodes are available: 1 Insufficient example.com/dongle. "), "{message}");
    advertise("remove");
    eventually("it is taken back", || {
        let left = kubectl.ok(&["get", "node", &node, "-o", r"jsonpath={.status.allocatable.example\.com/dongle}"]);
        if left.is_empty() { Ok(()) } else { Err(left) }
    });
}

#[test]
fn cordons_and_taints_keep_pods_away() {
    let (_cluster, kubectl, node) = own_cluster(&[]);
    let named = |words: &str| format!("node/{node} {words}\n");
    assert_eq!(kubectl.ok(&["cordon", &node, "--dry-run=server"]), named("cordoned (server dry run)"));
    assert_eq!(kubectl.ok(&["cordon", &node]), named("cordoned"));
    assert_eq!(kubectl.ok(&["cordon", "--selector", "kubernetes.io/hostname"]), named("already cordoned"));
    kubectl.apply(&pod("waits", ""));
    let message = unscheduled(&kubectl, "waits", "Unschedulable");
    let cordoned = ["1 node(s) were unschedulable", "1 node(s) had untolerated taint(s)"];
    assert!(cordoned.iter().any(|reason| message.contains(reason)), "{message}");
    assert_eq!(kubectl.ok(&["uncordon", &node]), named("uncordoned"));
    assert_eq!(kubectl.ok(&["uncordon", &node]), named("already uncordoned"));
    kubectl.ok(&["wait", "--for=condition=Ready", "pod/waits", "--timeout=60s"]);

    assert_eq!(kubectl.ok(&["taint", "node", &node, "test=yes:NoSchedule"]), named("tainted"));
    let refused = kubectl.fails(&["taint", "node", &node, "test=no:NoSchedule"]);
    let why = format!("node {node} already has test taint(s) with same effect(s) and --overwrite is false");
    assert!(refused.contains(&why), "{refused}");
    assert_eq!(kubectl.ok(&["taint", "node", &node, "test=no:NoSchedule", "--overwrite"]), named("modified"));
    let taint = "jsonpath={.spec.taints[?(@.key==\"test\")].value}";
    assert_eq!(kubectl.ok(&["get", "node", &node, "-o", taint]), "no");
    kubectl.ok(&["taint", "node", &node, "test:PreferNoSchedule"]);
    assert_eq!(kubectl.ok(&["taint", "node", &node, "test:PreferNoSchedule-"]), named("untainted"));
    let refused = kubectl.fails(&["taint", "node", &node, "absent-"]);
    assert!(refused.contains("taint \"absent\" not found"), "{refused}");
    kubectl.apply(&pod("repelled", ""));
    let message = unscheduled(&kubectl, "repelled", "Unschedulable");
    assert!(message.starts_with("0/1 nodes are available: 1 node(s) had untolerated taint(s). "), "{message}");
    kubectl.apply(&pod("tolerant", "tolerations: [{key: test, operator: Exists}]"));
    kubectl.ok(&["wait", "--for=condition=Ready", "pod/tolerant", "--timeout=60s"]);
    kubectl.ok(&["taint", "node", &node, "test-"]);
    kubectl.ok(&["wait", "--for=condition=Ready", "pod/repelled", "--timeout=60s"]);

    kubectl.ok(&["taint", "node", &node, "test=yes:NoExecute"]);
    kubectl.ok(&["wait", "--for=delete", "pod/waits", "pod/repelled", "--timeout=60s"]);
    kubectl.ok(&["wait", "--for=condition=Ready", "pod/tolerant", "--timeout=60s"]);
}

/// Conformance: "Scheduler, Preemption for critical pod".
#[test]
fn a_pod_of_higher_priority_takes_the_room_of_a_lower_one() {
    let (_cluster, kubectl, node) = own_cluster(&["--max-pods", "1"]);
    let class = |name: &str, more: &str| {
        format!("apiVersion: scheduling.k8s.io/v1\nkind: PriorityClass\nmetadata: {{name: {name}}}\n{more}\n---\n")
    };
    kubectl.apply(&[class("low", "value: 1"), class("high", "value: 1000")].concat());
    kubectl.apply(&class("polite", "value: 1000\npreemptionPolicy: Never"));
    // The finalizer shows the victim as it leaves.
    let low =
        pod("low", "priorityClassName: low").replace("metadata: {", "metadata: {finalizers: [test.k8w.dev/hold], ");
    kubectl.apply(&low);
    kubectl.ok(&["wait", "--for=condition=Ready", "pod/low", "--timeout=60s"]);
    kubectl.apply(&pod("polite", "priorityClassName: polite"));
    let why = "0/1 nodes are available: 1 Too many pods. no new claims to deallocate, preemption: not eligible due to \
               preemptionPolicy=Never.";
    assert_eq!(unscheduled(&kubectl, "polite", "Unschedulable"), why);
    kubectl.ok(&["delete", "pod", "polite"]);

    kubectl.apply(&pod("high", "priorityClassName: high"));
    let reason = "jsonpath={.status.conditions[?(@.type==\"DisruptionTarget\")].reason}";
    eventually("the pod is told why it goes", || {
        let said = kubectl.ok(&["get", "pod", "low", "-o", reason]);
        if said == "PreemptionByScheduler" { Ok(()) } else { Err(said) }
    });
    let uid = kubectl.ok(&["get", "pod", "high", "-o", "jsonpath={.metadata.uid}"]);
    described(&kubectl, "low", &format!("Preempted by pod {uid} on node {node}"));
    kubectl.ok(&["patch", "pod", "low", "-p", r#"{"metadata": {"finalizers": null}}"#]);
    kubectl.ok(&["wait", "--for=condition=Ready", "pod/high", "--timeout=60s"]);
    // What it was promised is void once it is there.
    let place = "jsonpath={.spec.nodeName} {.status.nominatedNodeName}";
    assert_eq!(kubectl.ok(&["get", "pod", "high", "-o", place]), format!("{node} "));

    let system = kubectl.in_namespace("kube-system");
    system.apply(&pod("critical", "priorityClassName: system-cluster-critical"));
    system.ok(&["wait", "--for=condition=Ready", "pod/critical", "--timeout=60s"]);
    assert_eq!(kubectl.ok(&["get", "pods", "-o", "name"]), "");
}

#[test]
fn a_node_that_was_not_heard_of_is_ready_again_when_it_speaks() {
    let (_cluster, kubectl, node) = own_cluster(&[]);
    let unknown = r#"{"status": {"conditions": [{"type": "Ready", "status": "Unknown"}]}}"#;
    kubectl.ok(&["patch", "node", &node, "--subresource=status", "-p", unknown]);
    kubectl.ok(&["wait", "--for=condition=Ready", &format!("node/{node}"), "--timeout=60s"]);
}
