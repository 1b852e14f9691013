//! `drain`: what it asks leave for, and that it keeps to disruption budgets.

use k8w_testkit::eventually;

use crate::{hello_pod, hello_workload, own_cluster};

#[test]
fn a_drained_node_keeps_only_its_daemons() {
    let (_cluster, kubectl, node) = own_cluster(&[]);
    let apps = [
        hello_workload("Deployment", "web", "replicas: 1", ""),
        hello_workload("Deployment", "scratch", "replicas: 1", "volumes: [{name: v, emptyDir: {}}]"),
        hello_workload("DaemonSet", "agent", "", ""),
    ];
    kubectl.apply(&apps.concat());
    kubectl.apply(
        "
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata: {name: web}
spec: {minAvailable: 1, selector: {matchLabels: {app: web}}}
",
    );
    kubectl.apply(&hello_pod("alone", "terminationGracePeriodSeconds: 1", ""));
    kubectl.ok(&["wait", "--for=condition=Ready", "pod/alone", "--timeout=60s"]);
    for app in ["deployment/web", "deployment/scratch", "daemonset/agent"] {
        kubectl.ok(&["rollout", "status", app, "--timeout=60s"]);
    }

    let refused = kubectl.fails(&["drain", &node]);
    assert!(refused.contains("cannot delete DaemonSet-managed Pods (use --ignore-daemonsets to ignore)"), "{refused}");
    assert!(
        refused.contains("cannot delete Pods with local storage (use --delete-emptydir-data to override)"),
        "{refused}"
    );
    assert!(
        refused.contains("cannot delete Pods that declare no controller (use --force to override): t/alone"),
        "{refused}"
    );
    let row = kubectl.ok(&["get", "node", &node, "--no-headers"]);
    assert!(row.contains("Ready,SchedulingDisabled"), "{row}");

    let forced = ["drain", &node, "--force", "--ignore-daemonsets", "--pod-selector=app=alone", "--timeout=60s"];
    let tried = kubectl.ok(&[&forced[..], &["--dry-run=server"]].concat());
    assert!(tried.contains(&format!("node/{node} drained (server dry run)")), "{tried}");
    kubectl.ok(&["get", "pod", "alone"]);
    let drained = kubectl.ok(&forced);
    assert!(drained.contains("pod/alone evicted"), "{drained}");

    let flags = ["--ignore-daemonsets", "--delete-emptydir-data"];
    let refused = kubectl.fails(&[&["drain", &node, "--timeout=2s"][..], &flags].concat());
    let why = "Cannot evict pod as it would violate the pod's disruption budget.";
    assert!(refused.contains(why), "{refused}");
    let left = kubectl.ok(&["get", "pods", "-l", "app=web", "--field-selector=status.phase=Running", "-o", "name"]);
    assert_eq!(left.lines().count(), 1, "{left}");

    kubectl.ok(&["delete", "poddisruptionbudget", "web"]);
    let drained = kubectl.ok(&[&["drain", &node, "--timeout=60s"][..], &flags].concat());
    assert!(drained.contains(&format!("node/{node} drained")), "{drained}");
    let running =
        ["get", "pods", "--field-selector=status.phase=Running", "-o", "jsonpath={.items[*].metadata.labels.app}"];
    assert_eq!(kubectl.ok(&running), "agent");
    kubectl.ok(&["uncordon", &node]);
    eventually("everybody is back", || {
        let mut apps: Vec<String> = kubectl.ok(&running).split(' ').map(str::to_owned).collect();
        apps.sort_unstable();
        if apps == ["agent", "scratch", "web"] { Ok(()) } else { Err(apps.join(" ")) }
    });
}
