//! StatefulSets, DaemonSets, Jobs and CronJobs: `rollout`, `wait`, `create job --from`, and data that stays.

use k8w_testkit::{Kubectl, eventually};

use crate::{HELLO, hello_workload, sandbox};

/// A Job of the command that counts the words of a file, on the claim `data-web-1`.
fn count_words(kubectl: &Kubectl, name: &str, input: &str, output: &str) -> String {
    kubectl.apply(&format!(
        "
apiVersion: batch/v1
kind: Job
metadata: {{name: {name}}}
spec:
  template:
    spec:
      runtimeClassName: wasmtime
      restartPolicy: Never
      containers:
      - name: count
        image: localhost/cli:latest
        env: [{{name: INPUT, value: {input}}}, {{name: OUTPUT, value: {output}}}]
        volumeMounts: [{{name: data, mountPath: /data}}, {{name: text, mountPath: /text, readOnly: true}}]
      volumes:
      - {{name: data, persistentVolumeClaim: {{claimName: data-web-1}}}}
      - {{name: text, configMap: {{name: text}}}}
"
    ));
    kubectl.ok(&["wait", "--for=condition=complete", &format!("job/{name}"), "--timeout=60s"]);
    kubectl.ok(&["logs", &format!("job/{name}")])
}

fn stateful_set(image: &str) -> String {
    format!(
        "
apiVersion: apps/v1
kind: StatefulSet
metadata: {{name: web}}
spec:
  serviceName: web
  replicas: 3
  selector: {{matchLabels: {{app: web}}}}
  template:
    metadata: {{labels: {{app: web}}}}
    spec:
      runtimeClassName: wasmtime
      terminationGracePeriodSeconds: 1
      containers:
      - name: hello
        image: {image}
        ports: [{{containerPort: 8080}}]
        volumeMounts: [{{name: data, mountPath: /data}}]
  volumeClaimTemplates:
  - metadata: {{name: data}}
    spec: {{accessModes: [ReadWriteOnce], resources: {{requests: {{storage: 1Mi}}}}}}
"
    )
}

#[test]
fn a_stateful_set_scaled_down_and_up_again_finds_its_data() {
    let t = sandbox();
    t.cli_image();
    t.kubectl.ok(&["create", "configmap", "text", "--from-literal=text=three small words"]);
    t.kubectl.apply(&stateful_set(t.hello_image()));
    t.kubectl.ok(&["rollout", "status", "statefulset/web", "--timeout=90s"]);
    let volumes =
        || t.kubectl.ok(&["get", "pvc", "-o", "jsonpath={.items[*].status.phase} {.items[*].spec.volumeName}"]);
    let before = volumes();
    assert!(before.starts_with("Bound Bound Bound pvc-"), "{before}");
    let written = count_words(&t.kubectl, "write", "/text/text", "/data/words");
    assert!(written.contains("/text/text has 3 words"), "{written}");

    t.kubectl.ok(&["scale", "statefulset", "web", "--replicas=0"]);
    eventually("all pods are gone", || {
        let pods = t.kubectl.ok(&["get", "pods", "-l", "app=web", "-o", "name"]);
        if pods.is_empty() { Ok(()) } else { Err(pods) }
    });
    t.kubectl.ok(&["scale", "statefulset", "web", "--replicas=3"]);
    t.kubectl.ok(&["rollout", "status", "statefulset/web", "--timeout=90s"]);
    assert_eq!(volumes(), before);
    let read = count_words(&t.kubectl, "read", "/data/words", "/data/again");
    assert!(read.contains("/data/words has 1 words"), "{read}");

    let larger = r#"{"spec": {"resources": {"requests": {"storage": "2Mi"}}}}"#;
    t.kubectl.ok(&["patch", "pvc", "data-web-0", "-p", larger]);
    let capacity = "--for=jsonpath={.status.capacity.storage}=2Mi";
    t.kubectl.ok(&["wait", capacity, "pvc/data-web-0", "--timeout=60s"]);

    let directories = t.cluster.data_dir().join("node/local-path");
    let ours = || -> Vec<String> {
        let found = std::fs::read_dir(&directories).unwrap().map(|entry| entry.unwrap().file_name());
        let names = found.map(|name| name.to_string_lossy().into_owned());
        names.filter(|name| before.contains(name.as_str())).collect()
    };
    assert_eq!(ours().len(), 3);
    t.kubectl.ok(&["delete", "statefulset,job", "--all"]);
    t.kubectl.ok(&["delete", "pvc", "--all", "--timeout=60s"]);
    eventually("the directories of deleted volumes are gone", || {
        let left = ours();
        if left.is_empty() { Ok(()) } else { Err(left.join(" ")) }
    });
}

#[test]
fn a_stateful_set_can_be_rolled_out_restarted_and_undone() {
    let t = sandbox();
    t.kubectl.apply(&stateful_set(t.hello_image()));
    t.kubectl.ok(&["rollout", "status", "statefulset/web", "--timeout=90s"]);
    t.kubectl.ok(&["set", "env", "statefulset/web", "A=1"]);
    t.kubectl.ok(&["rollout", "status", "statefulset/web", "--timeout=90s"]);
    t.kubectl.ok(&["rollout", "restart", "statefulset/web"]);
    t.kubectl.ok(&["rollout", "status", "statefulset/web", "--timeout=90s"]);
    let history = t.kubectl.ok(&["rollout", "history", "statefulset/web"]);
    assert_eq!(history.lines().filter(|line| line.starts_with(['1', '2', '3'])).count(), 3, "{history}");
    let shown = t.kubectl.ok(&["rollout", "history", "statefulset/web", "--revision=2"]);
    assert!(shown.starts_with("statefulset.apps/web with revision #2\n") && shown.contains("A:\t1"), "{shown}");
    for (verb, doing) in [("pause", "pausing"), ("resume", "resuming")] {
        let refused = t.kubectl.fails(&["rollout", verb, "statefulset/web"]);
        assert!(refused.contains(&format!("{doing} is not supported")), "{refused}");
    }
    let env = |revision: &str| {
        t.kubectl.ok(&["rollout", "undo", "statefulset/web", "--to-revision", revision]);
        t.kubectl.ok(&["rollout", "status", "statefulset/web", "--timeout=90s"]);
        t.kubectl.ok(&["get", "pods", "-l", "app=web", "-o", "jsonpath={.items[*].spec.containers[0].env[*].name}"])
    };
    assert_eq!(env("1"), "");
    assert_eq!(env("2"), "A A A");
}

#[test]
fn a_daemon_set_runs_on_the_node_and_can_be_rolled_out_and_undone() {
    let t = sandbox();
    t.hello_image();
    t.kubectl.apply(&hello_workload("DaemonSet", "agent", "", ""));
    t.kubectl.ok(&["rollout", "status", "daemonset/agent", "--timeout=60s"]);
    t.kubectl.ok(&["set", "env", "daemonset/agent", "A=<1&2>"]);
    t.kubectl.ok(&["rollout", "status", "daemonset/agent", "--timeout=60s"]);
    let history = t.kubectl.ok(&["rollout", "history", "daemonset/agent"]);
    assert_eq!(history.lines().filter(|line| line.starts_with(['1', '2'])).count(), 2, "{history}");
    assert_eq!(t.kubectl.ok(&["rollout", "undo", "daemonset/agent"]), "daemonset.apps/agent rolled back\n");
    t.kubectl.ok(&["rollout", "status", "daemonset/agent", "--timeout=60s"]);
    t.kubectl.ok(&["rollout", "restart", "daemonset/agent"]);
    t.kubectl.ok(&["rollout", "status", "daemonset/agent", "--timeout=60s"]);
    let refused = t.kubectl.fails(&["rollout", "pause", "daemonset/agent"]);
    assert!(refused.contains("pausing is not supported"), "{refused}");
    let shown = t.kubectl.ok(&["rollout", "history", "daemonset/agent", "--revision=2"]);
    assert!(shown.contains("A:\t<1&2>"), "{shown}");
    t.kubectl.ok(&["rollout", "undo", "daemonset/agent", "--to-revision=3"]);
    t.kubectl.ok(&["rollout", "status", "daemonset/agent", "--timeout=60s"]);
    let again = t.kubectl.ok(&["rollout", "undo", "daemonset/agent", "--to-revision=5"]);
    assert!(again.contains("skipped rollback (current template already matches revision 5)"), "{again}");
    let row = t.kubectl.ok(&["get", "daemonset", "agent", "--no-headers"]);
    assert_eq!(row.split_whitespace().take(6).collect::<Vec<_>>(), ["agent", "1", "1", "1", "1", "1"]);
}

/// Conformance: "DaemonSet-Rollback".
#[test]
fn a_daemon_set_that_cannot_be_rolled_out_is_rolled_back() {
    let t = sandbox();
    t.hello_image();
    t.kubectl.apply(&hello_workload("DaemonSet", "agent", "", ""));
    t.kubectl.ok(&["rollout", "status", "daemonset/agent", "--timeout=60s"]);
    t.kubectl.ok(&["set", "image", "daemonset/agent", "hello=localhost/foo:non-existent"]);
    let images =
        || t.kubectl.ok(&["get", "pods", "-l", "app=agent", "-o", "jsonpath={.items[*].spec.containers[*].image}"]);
    eventually("a pod has the new image", || match images() {
        found if found == "localhost/foo:non-existent" => Ok(()),
        found => Err(found),
    });
    t.kubectl.ok(&["rollout", "undo", "daemonset/agent"]);
    t.kubectl.ok(&["rollout", "status", "daemonset/agent", "--timeout=60s"]);
    assert_eq!(images(), HELLO);
    let restarts = "jsonpath={.items[*].status.containerStatuses[*].restartCount}";
    assert_eq!(t.kubectl.ok(&["get", "pods", "-l", "app=agent", "-o", restarts]), "0");
}

#[test]
fn a_job_is_made_from_a_cron_job_and_waited_for() {
    let t = sandbox();
    t.cli_image();
    t.kubectl.ok(&["create", "cronjob", "yearly", "--image=localhost/cli:latest", "--schedule=@yearly"]);
    t.kubectl.ok(&["create", "job", "now", "--from=cronjob/yearly"]);
    t.kubectl.ok(&["wait", "--for=condition=complete", "job/now", "--timeout=60s"]);
    assert_eq!(t.kubectl.ok(&["logs", "job/now"]), "Hello, world!\n");
    let row = t.kubectl.ok(&["get", "job", "now", "--no-headers"]);
    assert!(row.contains("Complete") && row.contains("1/1"), "{row}");
    t.kubectl.ok(&["delete", "job", "now"]);
    eventually("the job's pod is gone", || {
        let pods = t.kubectl.ok(&["get", "pods", "-o", "name"]);
        if pods.is_empty() { Ok(()) } else { Err(pods) }
    });
}

#[test]
fn an_indexed_job_tells_each_pod_its_index() {
    let t = sandbox();
    t.cli_image();
    t.kubectl.apply(
        "
apiVersion: batch/v1
kind: Job
metadata: {name: parts}
spec:
  completions: 3
  parallelism: 2
  completionMode: Indexed
  template:
    spec:
      runtimeClassName: wasmtime
      restartPolicy: Never
      containers: [{name: part, image: 'localhost/cli:latest', args: ['part $(JOB_COMPLETION_INDEX)']}]
",
    );
    t.kubectl.ok(&["wait", "--for=condition=complete", "job/parts", "--timeout=60s"]);
    let done = t.kubectl.ok(&["get", "job", "parts", "-o", "jsonpath={.status.completedIndexes}"]);
    assert_eq!(done, "0-2");
    let logs = t.kubectl.ok(&["logs", "-l", "batch.kubernetes.io/job-name=parts", "--tail=-1"]);
    let mut lines: Vec<&str> = logs.lines().collect();
    lines.sort_unstable();
    assert_eq!(lines, ["Hello, part 0!", "Hello, part 1!", "Hello, part 2!"]);
}
