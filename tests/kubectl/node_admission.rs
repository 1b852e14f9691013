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

/// `kubectl debug` gives a pod to the node without the scheduler and without a runtime class. What would see the node is
/// refused: a component could not.
#[test]
fn a_look_into_the_node_is_refused_by_what_it_asks_for() {
    let t = sandbox();
    let image = format!("--image={}", t.hello_image());
    let node = t.kubectl.ok(&["get", "nodes", "-o", "jsonpath={.items[0].metadata.name}"]);
    let debugs = |profile: &str| {
        let said = t.kubectl.ok(&["debug", &format!("node/{node}"), &image, &format!("--profile={profile}")]);
        // Creating debugging pod NAME with container debugger on node NODE.
        let pod = said.split(' ').find(|word| word.starts_with("node-debugger-"));
        pod.unwrap_or_else(|| panic!("{said}")).to_owned()
    };
    for (profile, more) in
        [("general", ""), ("netadmin", "securityContext.capabilities.add"), ("sysadmin", "securityContext.privileged")]
    {
        let pod = debugs(profile);
        let path = "jsonpath={.status.phase} {.status.containerStatuses[0].state.waiting.message}";
        let expected = "Pending wasm pods do not support spec.hostNetwork, spec.hostPID, spec.hostIPC";
        eventually(profile, || match t.kubectl.ok(&["get", "pod", &pod, "-o", path]) {
            status if status.starts_with(expected) && status.contains(more) => Ok(()),
            status => Err(status),
        });
        t.kubectl.ok(&["delete", "pod", &pod, "--wait=false"]);
    }
    let pod = debugs("restricted");
    t.kubectl.ok(&["wait", "--for=condition=Ready", &format!("pod/{pod}"), "--timeout=60s"]);
}
