//! Bad input: each mistake gets Kubernetes' own answer.

use k8w_testkit::eventually;

use crate::{HELLO, guest, hello_pod, own_cluster, repo, sandbox};

#[test]
fn unknown_fields() {
    let t = sandbox();
    let manifest = "
apiVersion: v1
kind: Pod
metadata: {name: p}
spec:
  containers: [{name: c, image: i, imagee: typo}]
";
    let create =
        |validate: &str| t.kubectl.run_with_input(&["create", "-f", "-", validate, "--dry-run=server"], manifest);
    let strict = create("--validate=strict");
    assert!(!strict.success);
    assert!(
        strict.stderr.contains(r#"strict decoding error: unknown field "spec.containers[0].imagee""#),
        "{}",
        strict.stderr
    );
    let warn = create("--validate=warn");
    assert!(warn.success, "{}", warn.stderr);
    assert!(warn.stderr.contains(r#"Warning: unknown field "spec.containers[0].imagee""#), "{}", warn.stderr);
    let ignore = create("--validate=ignore");
    assert!(ignore.success && ignore.stderr.is_empty(), "{}", ignore.stderr);
}

#[test]
fn invalid_names_and_values() {
    let t = sandbox();
    let error = t.kubectl.fails(&["create", "configmap", "Not_Valid"]);
    assert!(
        error.contains(r#"metadata.name: Invalid value: "Not_Valid": a lowercase RFC 1123 subdomain must consist of"#),
        "{error}"
    );
    let error = t.kubectl.fails_with_input(
        &["apply", "-f", "-"],
        "
apiVersion: apps/v1
kind: Deployment
metadata: {name: d}
spec:
  replicas: -1
  selector: {matchLabels: {app: a}}
  template:
    metadata: {labels: {app: b}}
    spec: {containers: [{name: c}]}
",
    );
    for expected in [
        r#"The Deployment "d" is invalid:"#,
        "spec.replicas: Invalid value: -1: must be greater than or equal to 0",
        "`selector` does not match template `labels`",
        "spec.template.spec.containers[0].image: Required value",
    ] {
        assert!(error.contains(expected), "{expected} is missing from {error}");
    }
}

#[test]
fn wrong_types_and_malformed_documents() {
    let t = sandbox();
    let wrong_type = t.kubectl.fails_with_input(
        &["apply", "-f", "-", "--validate=ignore"],
        "{\"apiVersion\":\"v1\",\"kind\":\"ConfigMap\",\"metadata\":{\"name\":\"c\"},\"data\":{\"a\":1}}",
    );
    assert!(wrong_type.contains("cannot unmarshal number into Go struct field"), "{wrong_type}");
    assert!(t.kubectl.fails_with_input(&["apply", "-f", "-"], "a: [").contains("error"));
    let kind = t.kubectl.fails_with_input(
        &["create", "--validate=ignore", "-f", "-"],
        "apiVersion: v1\nkind: Nonsense\nmetadata: {name: x}\n",
    );
    assert!(kind.contains(r#"no matches for kind "Nonsense" in version "v1""#), "{kind}");
}

#[test]
fn immutable_fields_stay() {
    let t = sandbox();
    t.hello(1);
    let patch = r#"{"spec":{"selector":{"matchLabels":{"app":"other"}}}}"#;
    let error = t.kubectl.fails(&["patch", "deployment", "hello", "--type=merge", "-p", patch]);
    assert!(error.contains("field is immutable"), "{error}");
    let pod = t.kubectl.ok(&["get", "pods", "-o", "jsonpath={.items[0].metadata.name}"]);
    let error = t.kubectl.fails(&["patch", "pod", &pod, "-p", r#"{"spec":{"nodeName":"elsewhere"}}"#]);
    assert!(error.contains("pod updates may not change fields other than"), "{error}");
}

#[test]
fn a_stale_resource_version_conflicts() {
    let t = sandbox();
    t.kubectl.ok(&["create", "configmap", "c", "--from-literal=a=1"]);
    let old = t.kubectl.ok(&["get", "configmap", "c", "-o", "json"]);
    t.kubectl.ok(&["label", "configmap", "c", "x=y"]);
    let error = t.kubectl.fails_with_input(&["replace", "-f", "-"], &old);
    assert!(
        error.contains("Operation cannot be fulfilled on configmaps \"c\": the object has been modified; please apply your changes to the latest version and try again"),
        "{error}"
    );
}

#[test]
fn selectors_that_make_no_sense() {
    let t = sandbox();
    let error = t.kubectl.fails(&["get", "pods", "--field-selector", "spec.nonsense=1"]);
    assert!(error.contains("field label not supported: spec.nonsense"), "{error}");
}

#[test]
fn a_node_refuses_a_runtime_that_it_does_not_have() {
    let t = sandbox();
    let class = format!("{}-sandboxed", t.namespace);
    t.kubectl.apply(&format!(
        "apiVersion: node.k8s.io/v1\nkind: RuntimeClass\nmetadata: {{name: {class}}}\nhandler: runsc\n"
    ));
    let node = t.kubectl.ok(&["get", "nodes", "-o", "jsonpath={.items[0].metadata.name}"]);
    t.hello_image();
    let pod = hello_pod("placed", &format!("nodeName: {node}"), "").replace("wasmtime", &class);
    t.kubectl.apply(&pod);
    eventually("the node says what it lacks", || {
        let events = t.kubectl.ok(&["events", "--for", "pod/placed"]);
        let said = ["FailedCreatePodSandBox", "no runtime for \"runsc\" is configured"];
        if said.iter().all(|text| events.contains(text)) { Ok(()) } else { Err(events) }
    });
    let state = "jsonpath={.status.phase} {.status.containerStatuses[0].state.waiting.reason}";
    assert_eq!(t.kubectl.ok(&["get", "pod", "placed", "-o", state]), "Pending ContainerCreating");
    t.kubectl.ok(&["delete", "runtimeclass", &class]);
}

#[test]
fn a_node_without_wasi_0_3_names_what_it_lacks() {
    let Some(job) = guest("job-p3.wasm") else { return };
    let (cluster, kubectl, _) = own_cluster(&["--wasi-p3=false"]);
    cluster.load_image(&job, HELLO);
    kubectl.apply(&hello_pod("modern", "", ""));
    let state = "jsonpath={.status.containerStatuses[0].state.waiting.reason}: {.status.containerStatuses[0].state.waiting.message}";
    eventually("its status says so", || match kubectl.ok(&["get", "pod", "modern", "-o", state]) {
        shown if shown.starts_with("CreateContainerError: ") && shown.contains("WASI 0.3") => Ok(()),
        shown => Err(shown),
    });
    cluster.load_image(&repo("examples/hello/hello.wasm"), "localhost/older:latest");
    kubectl.apply(&hello_pod("older", "", "").replace(HELLO, "localhost/older:latest"));
    kubectl.ok(&["wait", "--for=condition=Ready", "pod/older", "--timeout=60s"]);
}
