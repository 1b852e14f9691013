//! `replace`, `diff`, `run`, `set`, `taint`: what changes objects beside `apply`.

use crate::sandbox;

fn pod(name: &str, image: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}, labels: {{run: {name}}}}}\n\
         spec: {{nodeSelector: {{nobody: here}}, containers: [{{name: web, image: {image}}}]}}\n"
    )
}

const IMAGE: &str = "jsonpath={.spec.containers[0].image}";

/// Conformance: "Kubectl, replace"; "Kubectl, run pod".
#[test]
fn a_pod_that_was_run_is_replaced() {
    let t = sandbox();
    let hidden = r#"--overrides={"spec":{"nodeSelector":{"nobody":"here"}}}"#;
    let run = ["run", "web", "--image=example.test/web:1", "--labels=run=web", hidden];
    assert_eq!(t.kubectl.ok(&run), "pod/web created\n");
    assert_eq!(t.kubectl.ok(&["get", "pod", "web", "-o", IMAGE]), "example.test/web:1");
    let read = || t.kubectl.ok(&["get", "pod", "web", "-o", "json"]);
    let with = read().replace("example.test/web:1", "example.test/web:2");
    assert_eq!(t.kubectl.ok_with_input(&["replace", "-f", "-"], &with), "pod/web replaced\n");
    assert_eq!(t.kubectl.ok(&["get", "pod", "web", "-o", IMAGE]), "example.test/web:2");
    // What an update may not change, a replacement by force does.
    let as_it_is = read();
    let renamed = as_it_is.replace(
        "\"name\": \"web\",\n                \"resources\"",
        "\"name\": \"other\",\n                \"resources\"",
    );
    assert_ne!(renamed, as_it_is);
    let refused = t.kubectl.fails_with_input(&["replace", "-f", "-"], &renamed);
    assert!(refused.contains("spec: Forbidden: pod updates may not change fields other than"), "{refused}");
    let forced = t.kubectl.ok_with_input(&["replace", "--force", "--grace-period=0", "-f", "-"], &renamed);
    assert!(forced.ends_with("pod/web replaced\n"), "{forced}");
    let managers =
        ["get", "pod", "web", "--show-managed-fields", "-o", "jsonpath={.metadata.managedFields[*].manager}"];
    assert!(t.kubectl.ok(&managers).contains("kubectl-replace"));
}

/// Conformance: "Kubectl, server-side dry-run Pod"; "Kubectl, diff Deployment".
#[test]
fn a_dry_run_and_a_diff_change_nothing() {
    let t = sandbox();
    t.kubectl.apply(&pod("web", "example.test/web:1"));
    let patch = r#"{"spec":{"containers":[{"name": "web","image": "example.test/web:2"}]}}"#;
    let dry = ["patch", "pod", "web", "-p", patch, "--dry-run=server", "-o", IMAGE];
    assert_eq!(t.kubectl.ok(&dry), "example.test/web:2");
    assert_eq!(t.kubectl.ok(&["get", "pod", "web", "-o", IMAGE]), "example.test/web:1");
    let diff = t.kubectl.run_with_input(&["diff", "-f", "-"], &pod("web", "example.test/web:2"));
    assert!(!diff.success);
    let changes: Vec<&str> = diff
        .stdout
        .lines()
        .filter(|line| line.starts_with("-  ") || line.starts_with("+  "))
        .map(str::trim_end)
        .collect();
    assert_eq!(
        changes,
        ["-  generation: 1", "+  generation: 2", "-  - image: example.test/web:1", "+  - image: example.test/web:2",],
        "{}",
        diff.stdout
    );
    assert!(t.kubectl.run_with_input(&["diff", "-f", "-"], &pod("web", "example.test/web:1")).success);
    assert_eq!(t.kubectl.ok(&["get", "pod", "web", "-o", IMAGE]), "example.test/web:1");
}

#[test]
fn a_patch_that_does_not_fit_is_refused_in_kubernetes_words() {
    let t = sandbox();
    t.kubectl.apply(&pod("web", "example.test/web:1"));
    let refused = t.kubectl.fails(&["patch", "pod", "web", "-p", r#"{"metadata":{"labels":"invalid"}}"#]);
    assert_eq!(
        refused,
        "The request is invalid: patch: Invalid value: \"map[metadata:map[labels:invalid]]\": cannot restore map from \
         string\n"
    );
    let none = t.kubectl.ok(&["patch", "pod", "web", "-p", r#"{"metadata":{"labels":{"run":"web"}}}"#]);
    assert_eq!(none, "pod/web patched (no change)\n");
}

#[test]
fn set_changes_one_thing_of_a_template() {
    let t = sandbox();
    t.kubectl.ok(&["create", "deployment", "web", "--image=example.test/web:1", "--replicas=0"]);
    t.kubectl.ok(&["create", "configmap", "settings", "--from-literal=key-1=a", "--from-literal=key-2=b"]);
    for arguments in [
        &["image", "deployment/web", "web=example.test/web:2"][..],
        &["env", "deployment/web", "--from=configmap/settings", "--keys=key-2"],
        &["resources", "deployment/web", "--limits=cpu=200m"],
        &["serviceaccount", "deployment/web", "default"],
    ] {
        t.kubectl.ok(&[&["set"], arguments].concat());
    }
    let template = t.kubectl.ok(&["get", "deployment", "web", "-o", "jsonpath={.spec.template.spec}"]);
    for expected in [
        r#""image":"example.test/web:2""#,
        r#"{"name":"KEY_2","valueFrom":{"configMapKeyRef":{"key":"key-2","name":"settings"}}}"#,
        r#""limits":{"cpu":"200m"}"#,
        r#""serviceAccountName":"default""#,
    ] {
        assert!(template.contains(expected), "{expected} is missing from {template}");
    }
    assert_eq!(t.kubectl.ok(&["get", "deployment", "web", "-o", "jsonpath={.metadata.generation}"]), "5");
    t.kubectl.ok(&["create", "service", "clusterip", "web", "--tcp=80"]);
    t.kubectl.ok(&["set", "selector", "service", "web", "role=other"]);
    assert_eq!(t.kubectl.ok(&["get", "service", "web", "-o", "jsonpath={.spec.selector}"]), r#"{"role":"other"}"#);
    let stale = t.kubectl.fails(&["set", "selector", "service", "web", "a=b", "--resource-version=1"]);
    assert!(stale.contains("Conflict"), "{stale}");
}

/// Conformance: "Kubectl, create service, replication controller"; "Kubectl, scale replication controller".
#[test]
fn a_replication_controller_is_scaled_and_exposed() {
    let t = sandbox();
    t.kubectl.apply(
        "
apiVersion: v1
kind: ReplicationController
metadata: {name: web}
spec:
  replicas: 1
  selector: {app: web}
  template:
    metadata: {labels: {app: web}}
    spec:
      nodeSelector: {nobody: here}
      containers: [{name: web, image: example.test/web, ports: [{containerPort: 8080}]}]
",
    );
    t.kubectl.ok(&["scale", "rc", "web", "--current-replicas=1", "--replicas=2"]);
    let wrong = t.kubectl.fails(&["scale", "rc", "web", "--current-replicas=1", "--replicas=3"]);
    assert!(wrong.contains("Expected replicas to be 1, was 2"), "{wrong}");
    t.kubectl.ok(&["wait", "rc/web", "--for=jsonpath={.status.replicas}=2", "--timeout=60s"]);
    t.kubectl.ok(&["expose", "rc", "web", "--name=one", "--port=1234", "--target-port=8080"]);
    t.kubectl.ok(&["expose", "service", "one", "--name=two", "--port=2345", "--target-port=8080"]);
    let ports = t.kubectl.ok(&[
        "get",
        "services",
        "-o",
        "jsonpath={range .items[*]}{.metadata.name}:{.spec.ports[*].port}:{.spec.selector.app} {end}",
    ]);
    assert_eq!(ports, "one:1234:web two:2345:web ");
    let scale = t.kubectl.ok(&["get", "rc", "web", "--subresource=scale"]);
    let rows: Vec<Vec<&str>> = scale.lines().map(|line| line.split_whitespace().take(3).collect()).collect();
    assert_eq!(rows, [["NAME", "DESIRED", "AVAILABLE"], ["web", "2", "2"]]);
    let story = t.kubectl.ok(&["describe", "rc", "web"]);
    for expected in ["Replicas:     2 current / 2 desired", "Pods Status:  0 Running / 2 Waiting", "Created pod: web-"]
    {
        assert!(story.contains(expected), "{expected} is missing from\n{story}");
    }
}

#[test]
fn taints_come_and_go() {
    let t = sandbox();
    let node = format!("tainted-{}", t.namespace);
    t.kubectl.apply(&format!("apiVersion: v1\nkind: Node\nmetadata: {{name: {node}}}\n"));
    t.kubectl.ok(&["taint", "node", &node, "dedicated=foo:PreferNoSchedule"]);
    let again = t.kubectl.fails(&["taint", "node", &node, "dedicated=bar:PreferNoSchedule"]);
    assert!(again.contains("already has dedicated taint(s) with same effect(s) and --overwrite is false"), "{again}");
    t.kubectl.ok(&["taint", "node", &node, "dedicated=bar:PreferNoSchedule", "--overwrite"]);
    let value = r#"jsonpath={.spec.taints[?(@.key=="dedicated")].value}"#;
    assert_eq!(t.kubectl.ok(&["get", "node", &node, "-o", value]), "bar");
    t.kubectl.ok(&["taint", "node", &node, "dedicated-"]);
    assert_eq!(t.kubectl.ok(&["get", "node", &node, "-o", value]), "");
    t.kubectl.ok(&["delete", "node", &node]);
}

/// Conformance: "Kubectl, cluster info".
#[test]
fn the_cluster_says_where_it_runs() {
    let t = sandbox();
    assert!(t.kubectl.ok(&["cluster-info"]).contains("Kubernetes control plane"));
    let root = t.kubectl.ok(&["get", "--raw", "/"]);
    assert!(root.contains("\"/apis/apps/v1\"") && root.contains("\"/healthz\""), "{root}");
}
