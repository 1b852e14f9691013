//! Disruption budgets of pods whose controller is of a custom kind: its `scale` says how many there should be.

use k8w_testkit::{Kubectl, eventually};

use crate::{hello_pod, sandbox};

const GROUP: &str = "budgets.example.com";

const DEFINITION: &str = "
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: fleets.budgets.example.com}
spec:
  group: budgets.example.com
  scope: Namespaced
  names: {plural: fleets, singular: fleet, kind: Fleet}
  versions:
  - name: v1
    served: true
    storage: true
    subresources: {scale: {specReplicasPath: .spec.replicas, statusReplicasPath: .status.replicas}}
    schema:
      openAPIV3Schema:
        type: object
        properties:
          spec: {type: object, properties: {replicas: {type: integer}}}
          status: {type: object, properties: {replicas: {type: integer}}}
";

/// Waits until the budget says that so many must be healthy, of so many, and that so many can be spared.
fn spares(kubectl: &Kubectl, desired: u32, expected: u32, allowed: u32) {
    let path = "jsonpath={.status.desiredHealthy} {.status.expectedPods} {.status.disruptionsAllowed}";
    let wanted = format!("{desired} {expected} {allowed}");
    eventually("the budget is counted", || {
        let said = kubectl.ok(&["get", "pdb", "fleet", "-o", path]);
        if said == wanted { Ok(()) } else { Err(said) }
    });
}

#[test]
fn a_budget_follows_the_scale_of_a_custom_controller() {
    let t = sandbox();
    t.hello_image();
    t.kubectl.apply(DEFINITION);
    t.kubectl.ok(&["wait", "--for=condition=Established", &format!("crd/fleets.{GROUP}"), "--timeout=30s"]);
    t.kubectl
        .apply(&format!("apiVersion: {GROUP}/v1\nkind: Fleet\nmetadata: {{name: boats}}\nspec: {{replicas: 4}}\n"));
    let uid = t.kubectl.ok(&["get", "fleet", "boats", "-o", "jsonpath={.metadata.uid}"]);
    let owner = format!(
        "ownerReferences: [{{apiVersion: {GROUP}/v1, kind: Fleet, name: boats, uid: {uid}, controller: true}}]"
    );
    let pods: String = ["a", "b", "c"]
        .map(|name| {
            let pod = hello_pod(name, "terminationGracePeriodSeconds: 1", "");
            format!(
                "---{}",
                pod.replace(&format!("labels: {{app: {name}}}"), &format!("labels: {{app: boats}}, {owner}"))
            )
        })
        .concat();
    t.kubectl.apply(&pods);
    t.kubectl.ok(&["wait", "--for=condition=Ready", "pod", "-l", "app=boats", "--timeout=60s"]);
    t.kubectl.ok(&["create", "pdb", "fleet", "--selector=app=boats", "--max-unavailable=50%"]);
    spares(&t.kubectl, 2, 4, 1);

    t.kubectl.ok(&["scale", "fleet/boats", "--replicas=6"]);
    spares(&t.kubectl, 3, 6, 0);
    let evict = |name: &str| {
        let path = format!("/api/v1/namespaces/{}/pods/{name}/eviction", t.namespace);
        let body = format!(r#"{{"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {{"name": "{name}"}}}}"#);
        t.kubectl.run_with_input(&["create", "--raw", &path, "-f", "-"], &body)
    };
    let refused = evict("a");
    assert!(!refused.success, "{}", refused.stdout);
    assert!(
        refused.stderr.contains("Cannot evict pod as it would violate the pod's disruption budget."),
        "{}",
        refused.stderr
    );

    t.kubectl.ok(&["scale", "fleet/boats", "--replicas=2"]);
    spares(&t.kubectl, 1, 2, 2);
    let evicted = evict("a");
    assert!(evicted.success, "{}", evicted.stderr);
    t.kubectl.ok(&["wait", "--for=delete", "pod/a", "--timeout=60s"]);
    spares(&t.kubectl, 1, 2, 1);

    t.kubectl.ok(&["delete", "fleet", "boats"]);
    t.kubectl.ok(&["wait", "--for=delete", "pod", "-l", "app=boats", "--timeout=60s"]);
    t.kubectl.ok(&["delete", "crd", &format!("fleets.{GROUP}"), "--timeout=30s"]);
}
