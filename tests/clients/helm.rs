//! Helm: a chart with a custom kind, an object of it, hooks and a test is installed, upgraded, rolled back and uninstalled.

use std::path::Path;
use std::process::Command;

use k8w_testkit::{Kubectl, Outcome, TestCluster};

const FILES: [(&str, &str); 7] = [
    ("Chart.yaml", "apiVersion: v2\nname: greeter\nversion: 1.0.0\nappVersion: '1'\n"),
    ("values.yaml", "replicas: 1\ngreeting: hello\nimage: localhost/hello:latest\n"),
    (
        "crds/greetings.yaml",
        "
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: greetings.helm.example.com}
spec:
  group: helm.example.com
  scope: Namespaced
  names: {plural: greetings, kind: Greeting}
  versions:
  - name: v1
    served: true
    storage: true
    schema:
      openAPIV3Schema:
        type: object
        properties: {spec: {type: object, properties: {text: {type: string}}}}
",
    ),
    (
        "templates/greeting.yaml",
        "
apiVersion: helm.example.com/v1
kind: Greeting
metadata: {name: {{ .Release.Name }}}
spec: {text: {{ .Values.greeting }}}
",
    ),
    (
        "templates/deployment.yaml",
        "
apiVersion: apps/v1
kind: Deployment
metadata: {name: {{ .Release.Name }}, labels: {app: greeter}}
spec:
  replicas: {{ .Values.replicas }}
  selector: {matchLabels: {app: greeter}}
  template:
    metadata: {labels: {app: greeter}, annotations: {greeting: {{ .Values.greeting }}}}
    spec:
      runtimeClassName: wasmtime
      containers: [{name: hello, image: {{ .Values.image }}, ports: [{containerPort: 8080}]}]
---
apiVersion: v1
kind: Service
metadata: {name: {{ .Release.Name }}}
spec: {selector: {app: greeter}, ports: [{port: 80, targetPort: 8080}]}
",
    ),
    (
        "templates/hook.yaml",
        "
apiVersion: batch/v1
kind: Job
metadata:
  name: {{ .Release.Name }}-{{ .Release.Revision }}
  annotations: {helm.sh/hook: 'post-install,post-upgrade'}
spec:
  template:
    spec:
      runtimeClassName: wasmtime
      restartPolicy: Never
      containers: [{name: cli, image: 'localhost/cli:latest', args: [{{ .Values.greeting }}]}]
",
    ),
    (
        "templates/tests/greets.yaml",
        "
apiVersion: v1
kind: Pod
metadata:
  name: {{ .Release.Name }}-greets
  annotations: {helm.sh/hook: test, helm.sh/hook-delete-policy: 'before-hook-creation,hook-succeeded'}
spec:
  runtimeClassName: wasmtime
  restartPolicy: Never
  containers: [{name: cli, image: 'localhost/cli:latest', args: [tester]}]
",
    ),
];

/// Helm with the cluster's kubeconfig.
fn run(cluster: &TestCluster, home: &Path, arguments: &[&str]) -> Outcome {
    let mut command = Command::new("helm");
    command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default()).env("HOME", home);
    command.arg("--kubeconfig").arg(cluster.kubeconfig()).args(["--namespace", "helm"]).args(arguments);
    Outcome::of(&mut command, b"")
}

fn greeting(kubectl: &Kubectl) -> String {
    let text = kubectl.ok(&["get", "greeting", "web", "-o", "jsonpath={.spec.text}"]);
    let replicas = kubectl.ok(&["get", "deployment", "web", "-o", "jsonpath={.status.readyReplicas}"]);
    format!("{text} {replicas}")
}

#[test]
fn a_chart_lives_from_install_to_uninstall() {
    let cluster = super::cluster();
    for name in ["hello", "cli"] {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("examples/{name}/{name}.wasm"));
        cluster.load_image(&file, &format!("localhost/{name}:latest"));
    }
    let kubectl = cluster.namespace("helm");
    let folder = tempfile::tempdir().unwrap();
    let chart = folder.path().join("greeter");
    for (name, text) in FILES {
        let file = chart.join(name);
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(file, text).unwrap();
    }
    let path = chart.display().to_string();
    let helm = |arguments: &[&str]| run(&cluster, folder.path(), arguments).ok(&format!("helm {arguments:?}"));

    let installed = helm(&["install", "web", &path, "--wait", "--timeout", "90s"]);
    assert!(installed.contains("STATUS: deployed"), "{installed}");
    assert_eq!(greeting(&kubectl), "hello 1");
    assert_eq!(kubectl.ok(&["logs", "job/web-1"]), "Hello, hello!\n");

    let tested = helm(&["test", "web", "--logs", "--timeout", "90s"]);
    assert!(tested.contains("Phase:          Succeeded") && tested.contains("Hello, tester!"), "{tested}");
    assert_eq!(kubectl.ok(&["get", "pods", "web-greets", "--ignore-not-found"]), "");

    let values = ["--set", "replicas=2,greeting=bonjour"];
    helm(&[&["upgrade", "web", &path, "--wait", "--timeout", "90s"][..], &values].concat());
    assert_eq!(greeting(&kubectl), "bonjour 2");
    assert_eq!(kubectl.ok(&["logs", "job/web-2"]), "Hello, bonjour!\n");

    helm(&["rollback", "web", "1", "--wait", "--timeout", "90s"]);
    assert_eq!(greeting(&kubectl), "hello 1");
    let history = helm(&["history", "web"]);
    assert_eq!(history.lines().filter(|line| line.contains("greeter-1.0.0")).count(), 3, "{history}");
    assert!(history.contains("Rollback to 1"), "{history}");

    // What does not become ready is taken back.
    let broken = ["--set", "greeting=hei,image=localhost/there-is-no-such-image:v1", "--rollback-on-failure"];
    let upgrade = run(&cluster, folder.path(), &[&["upgrade", "web", &path, "--timeout", "5s"][..], &broken].concat());
    assert!(!upgrade.success, "{upgrade:?}");
    assert_eq!(greeting(&kubectl), "hello 1");
    let history = helm(&["history", "web"]);
    assert!(history.contains("failed") && history.contains("Rollback to 3"), "{history}");

    helm(&["uninstall", "web", "--wait", "--timeout", "90s"]);
    assert_eq!(kubectl.ok(&["get", "deployments,services,greetings", "-o", "name"]), "");
    // Definitions outlive their chart.
    kubectl.ok(&["delete", "crd", "greetings.helm.example.com"]);
}
