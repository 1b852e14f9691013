//! Pods that their node takes, and those that it turns away.

use k8w_testkit::eventually;

use crate::{Sandbox, sandbox};

impl Sandbox {
    /// A pod of that name which is given to the node without the scheduler.
    fn bind(&self, name: &str, spec: &str) {
        let node = self.kubectl.ok(&["get", "nodes", "-o", "jsonpath={.items[0].metadata.name}"]);
        let image = self.hello_image();
        self.kubectl.apply(
            &format!(
                "
apiVersion: v1
kind: Pod
metadata: {{name: {name}}}
spec:
  nodeName: {node}
  {spec}
"
            )
            .replace("IMAGE", image),
        );
    }

    fn status(&self, name: &str, wanted: impl Fn(&str) -> bool) -> String {
        let path = "jsonpath={.status.phase} {.status.reason} {.status.message}";
        eventually(&format!("the status of {name}"), || {
            let status = self.kubectl.ok(&["get", "pod", name, "-o", path]);
            if wanted(&status) { Ok(status) } else { Err(status) }
        })
    }
}

const CONTAINERS: &str = "containers: [{name: c, image: IMAGE}]";

#[test]
fn what_does_not_fit_fails_with_the_kubelets_words() {
    let t = sandbox();
    t.bind("large", "containers: [{name: c, image: IMAGE, resources: {requests: {cpu: 1000k}}}]");
    t.bind("elsewhere", &format!("nodeSelector: {{nowhere: here}}\n  {CONTAINERS}"));
    t.bind("foreign", &format!("os: {{name: windows}}\n  {CONTAINERS}"));
    let failed = |status: &str| status.starts_with("Failed");
    let large = t.status("large", failed);
    let expected =
        "Failed OutOfcpu Pod was rejected: Node didn't have enough resource: cpu, requested: 1000000000, used: ";
    assert!(large.starts_with(expected), "{large}");
    assert_eq!(
        t.status("elsewhere", failed),
        "Failed NodeAffinity Pod was rejected: Predicate NodeAffinity failed: node(s) didn't match Pod's node \
         affinity/selector"
    );
    assert_eq!(
        t.status("foreign", failed),
        "Failed PodOSNotSupported Pod was rejected: Failed to admit pod as the OS field doesn't match node OS"
    );
    let row = t.kubectl.ok(&["get", "pod", "large", "--no-headers"]);
    assert_eq!(row.split_whitespace().nth(2), Some("OutOfcpu"), "{row}");
    eventually("the event", || {
        let events = t.kubectl.ok(&["get", "events", "--field-selector", "reason=OutOfcpu", "--no-headers"]);
        if events.contains("pod/large") { Ok(()) } else { Err(events) }
    });
    t.kubectl.ok(&["delete", "pod", "large", "elsewhere", "foreign", "--timeout=60s"]);
}

#[test]
fn a_node_knows_its_newest_labels() {
    let t = sandbox();
    let label = format!("label-{}", t.namespace);
    t.kubectl.ok(&["label", "nodes", "--all", &format!("{label}=here")]);
    t.bind("here", &format!("nodeSelector: {{{label}: here}}\n  {CONTAINERS}"));
    t.status("here", |status| status.starts_with("Running"));
    t.kubectl.ok(&["label", "nodes", "--all", &format!("{label}-")]);
}
