//! Jobs: whose pods are theirs, and when some of them decide for all.

use k8w_testkit::{Kubectl, eventually};

use crate::{Sandbox, sandbox};

/// An indexed Job of the command that fails unless the ConfigMap `words` has a key that is its index.
fn indexed(t: &Sandbox, name: &str, restart_policy: &str, spec: &str) {
    let image = t.cli_image();
    t.kubectl.apply(&format!(
        "
apiVersion: batch/v1
kind: Job
metadata: {{name: {name}}}
spec:
  completionMode: Indexed
{spec}
  template:
    spec:
      runtimeClassName: wasmtime
      restartPolicy: {restart_policy}
      volumes: [{{name: words, configMap: {{name: words}}}}]
      containers:
      - name: cli
        image: {image}
        env:
        - name: INDEX
          valueFrom: {{fieldRef: {{fieldPath: \"metadata.annotations['batch.kubernetes.io/job-completion-index']\"}}}}
        - {{name: INPUT, value: /words/$(INDEX)}}
        - {{name: OUTPUT, value: /dev/termination-log}}
        volumeMounts: [{{name: words, mountPath: /words}}]
"
    ));
}

/// `type=reason` of each condition, in order.
fn conditions(kubectl: &Kubectl, job: &str) -> String {
    let path = "jsonpath={range .status.conditions[*]}{.type}={.reason} {end}";
    kubectl.ok(&["get", "job", job, "-o", path])
}

fn field(kubectl: &Kubectl, job: &str, path: &str) -> String {
    kubectl.ok(&["get", "job", job, "-o", &format!("jsonpath={{.status.{path}}}")])
}

/// Conformance: "Jobs, orphan pods, re-adoption".
#[test]
fn orphans_are_adopted_and_pods_without_its_labels_released() {
    let t = sandbox();
    let image = t.hello_image();
    t.kubectl.apply(&format!(
        "
apiVersion: batch/v1
kind: Job
metadata: {{name: adopts}}
spec:
  parallelism: 2
  completions: 4
  template:
    spec:
      runtimeClassName: wasmtime
      restartPolicy: Never
      terminationGracePeriodSeconds: 1
      containers: [{{name: hello, image: {image}, ports: [{{containerPort: 8080}}]}}]
"
    ));
    eventually("two pods run", || match field(&t.kubectl, "adopts", "ready").as_str() {
        "2" => Ok(()),
        other => Err(other.to_owned()),
    });
    let names = t.kubectl.ok(&["get", "pods", "-l", "batch.kubernetes.io/job-name=adopts", "-o", "name"]);
    let pod = names.lines().next().unwrap();
    let owner =
        || t.kubectl.ok(&["get", pod, "-o", "jsonpath={.metadata.ownerReferences[?(@.controller==true)].name}"]);
    assert_eq!(owner(), "adopts");
    let remove = |path: &str| {
        let patch = format!(r#"[{{"op": "remove", "path": "{path}"}}]"#);
        t.kubectl.ok(&["patch", pod, "--type=json", "-p", &patch]);
    };
    remove("/metadata/ownerReferences");
    eventually("the pod is adopted", || if owner() == "adopts" { Ok(()) } else { Err(owner()) });
    remove("/metadata/labels");
    eventually("the pod is released", || if owner().is_empty() { Ok(()) } else { Err(owner()) });
    t.kubectl.ok(&["delete", pod, "--wait=false"]);
}

/// Conformance: "Terminate job execution when the maxFailedIndexes is exceeded".
#[test]
fn too_many_failed_indexes_end_a_job() {
    let t = sandbox();
    t.kubectl.ok(&["create", "configmap", "words"]);
    let spec = "  completions: 10\n  parallelism: 10\n  backoffLimitPerIndex: 0\n  maxFailedIndexes: 4";
    indexed(&t, "fails", "Never", spec);
    t.kubectl.ok(&["wait", "--for=condition=Failed", "job/fails", "--timeout=60s"]);
    let conditions = conditions(&t.kubectl, "fails");
    assert_eq!(conditions, "FailureTarget=MaxFailedIndexesExceeded Failed=MaxFailedIndexesExceeded ");
    assert_eq!(field(&t.kubectl, "fails", "completedIndexes"), "");
    assert_eq!(field(&t.kubectl, "fails", "active"), "");
}

/// Conformance: "Ensure that job with successPolicy succeeded when all indexes succeeded".
#[test]
fn a_success_policy_is_met_when_all_indexes_succeed() {
    let t = sandbox();
    t.kubectl.ok(&["create", "configmap", "words", "--from-literal=0=zero", "--from-literal=1=one"]);
    let spec = "  completions: 2\n  parallelism: 2\n  backoffLimit: 0\n  successPolicy: {rules: [{succeededCount: 2}]}";
    indexed(&t, "all", "Never", spec);
    t.kubectl.ok(&["wait", "--for=condition=Complete", "job/all", "--timeout=60s"]);
    assert_eq!(conditions(&t.kubectl, "all"), "SuccessCriteriaMet=SuccessPolicy Complete=SuccessPolicy ");
    assert_eq!(field(&t.kubectl, "all", "completedIndexes"), "0,1");
}

/// Conformance: "Ensure that job with successPolicy succeededCount rule succeeded even when some indexes remain pending".
#[test]
fn a_success_policy_is_met_while_some_indexes_wait() {
    let t = sandbox();
    t.kubectl.ok(&["create", "configmap", "words", "--from-literal=0=zero"]);
    let spec = "  completions: 5\n  parallelism: 2\n  successPolicy: {rules: [{succeededCount: 1}]}";
    // The second never gets its file, and is tried again and again.
    indexed(&t, "some", "OnFailure", spec);
    t.kubectl.ok(&["wait", "--for=condition=Complete", "job/some", "--timeout=60s"]);
    assert_eq!(conditions(&t.kubectl, "some"), "SuccessCriteriaMet=SuccessPolicy Complete=SuccessPolicy ");
    assert_eq!(field(&t.kubectl, "some", "completedIndexes"), "0");
}
