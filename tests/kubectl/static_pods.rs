//! Static pods: a folder of manifests that the node runs, and their mirrors in the API.

use std::path::Path;

use k8w_testkit::{ClusterOptions, TestCluster, eventually, get};

use crate::repo;

fn manifest(greeting: &str) -> String {
    format!(
        "
apiVersion: v1
kind: Pod
metadata: {{name: web, labels: {{app: web}}}}
spec:
  containers:
  - {{name: web, image: localhost/hello:latest, ports: [{{containerPort: 8080}}], env: [{{name: GREETING, value: {greeting}}}]}}
"
    )
}

/// Policies know a static pod by the labels of its mirror.
#[test]
fn a_static_pod_is_reached_by_whom_a_policy_lets_in() {
    let folder = tempfile::tempdir().unwrap();
    let arguments = ["--node-name", "n1", "--pod-manifest-path", folder.path().to_str().unwrap()].map(str::to_owned);
    let options = ClusterOptions { arguments: arguments.to_vec(), ..ClusterOptions::default() };
    let mut cluster = TestCluster::start(env!("CARGO_BIN_EXE_k8w"), options);
    cluster.load_image(&repo("examples/hello/hello.wasm"), "localhost/hello:latest");
    let both = format!("{}---{}", manifest("one"), manifest("two").replace("name: web,", "name: other,"));
    write(folder.path(), "web.yaml", &both);
    mirror(&cluster, "web-n1", |_| true);
    let kubectl = cluster.kubectl();
    assert_eq!(kubectl.ok(&["get", "pods", "-o", "name"]), "pod/web-n1\n", "of several documents the first");
    assert!(cluster.stderr().contains("holds several documents"), "{}", cluster.stderr());
    let ingress = "namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: kube-system}}, podSelector: {matchLabels: \
                   {app.kubernetes.io/name: k8w-ingress}}";
    let policy = |peer: &str| {
        format!(
            "
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {{name: web}}
spec: {{podSelector: {{matchLabels: {{app: web}}}}, ingress: [{{from: [{{{peer}}}]}}]}}
"
        )
    };
    kubectl.apply(&policy("podSelector: {matchLabels: {app: nobody}}"));
    kubectl.ok(&["expose", "pod", "web-n1", "--name=web", "--port=80", "--target-port=8080"]);
    kubectl.ok(&["create", "ingress", "web", "--rule=static.test/*=web:80"]);
    let answers = |status: u16| {
        eventually(&format!("the ingress answers {status}"), || {
            match get(cluster.ingress_http(), "static.test", "/")? {
                answer if answer.status == status => Ok(()),
                answer => Err(format!("{answer:?}")),
            }
        });
    };
    answers(504);
    kubectl.apply(&policy(ingress));
    answers(200);
    cluster.stop();
}

/// Uid, uid of the static pod and id of the container, once the mirror is ready and `wanted`.
fn mirror(cluster: &TestCluster, pod: &str, wanted: impl Fn(&[&str]) -> bool) -> Vec<String> {
    let path = r"jsonpath={.metadata.uid} {.metadata.annotations.kubernetes\.io/config\.mirror} {.status.containerStatuses[0].containerID} {.status.containerStatuses[0].ready}";
    eventually("the mirror", || {
        let outcome = cluster.kubectl().run(&["get", "pod", pod, "-o", path]);
        let parts: Vec<&str> = outcome.stdout.split(' ').collect();
        if outcome.success && parts.last() == Some(&"true") && wanted(&parts) {
            return Ok(parts.into_iter().map(str::to_owned).collect());
        }
        Err(outcome.stdout + &outcome.stderr)
    })
}

fn write(folder: &Path, file: &str, text: &str) {
    // As editors do, so that nobody reads half a file.
    let new = folder.join(format!(".{file}.new"));
    std::fs::write(&new, text).unwrap();
    std::fs::rename(new, folder.join(file)).unwrap();
}

#[test]
fn a_folder_of_manifests_runs_and_is_mirrored() {
    let folder = tempfile::tempdir().unwrap();
    let arguments = ["--node-name", "n1", "--pod-manifest-path", folder.path().to_str().unwrap()].map(str::to_owned);
    let options = ClusterOptions { arguments: arguments.to_vec(), ..ClusterOptions::default() };
    let mut cluster = TestCluster::start(env!("CARGO_BIN_EXE_k8w"), options);
    cluster.load_image(&repo("examples/hello/hello.wasm"), "localhost/hello:latest");
    write(folder.path(), "web.yaml", &manifest("one"));
    let first = mirror(&cluster, "web-n1", |_| true);
    let kubectl = cluster.kubectl();
    let owner = kubectl.ok(&["get", "pod", "web-n1", "-o", "jsonpath={.metadata.ownerReferences[0].kind}"]);
    assert_eq!(owner, "Node");
    let scheduled = r#"jsonpath={.status.conditions[?(@.type=="PodScheduled")].status} {.status.conditions[?(@.type=="PodScheduled")].observedGeneration} {.status.observedGeneration}"#;
    assert_eq!(kubectl.ok(&["get", "pod", "web-n1", "-o", scheduled]), "True 1 1");
    kubectl.ok(&["logs", "web-n1"]);
    assert!(kubectl.ok(&["exec", "web-n1", "--", "env"]).contains("GREETING=one"));

    kubectl.ok(&["delete", "pod", "web-n1", "--wait=false"]);
    let again = mirror(&cluster, "web-n1", |parts| parts[0] != first[0]);
    assert_eq!(again[1..], first[1..], "the mirror is another, the pod is not");

    write(folder.path(), "web.yaml", &manifest("another"));
    mirror(&cluster, "web-n1", |parts| parts[1] != first[1] && parts[2] != first[2]);
    assert!(kubectl.ok(&["exec", "web-n1", "--", "env"]).contains("GREETING=another"));

    let needy = manifest("two")
        .replace("name: web,", "name: needy,")
        .replace("containers:", "serviceAccountName: a\n  containers:");
    write(folder.path(), "needy.yaml", &needy);
    eventually("the refusal", || {
        let printed = cluster.stderr();
        if printed.contains("static pods may not reference serviceaccounts") { Ok(()) } else { Err(printed) }
    });
    std::fs::remove_file(folder.path().join("web.yaml")).unwrap();
    eventually("the pod goes with its file", || {
        let left = kubectl.ok(&["get", "pods", "-o", "name"]);
        if left.is_empty() { Ok(()) } else { Err(left) }
    });
    cluster.stop();
}
