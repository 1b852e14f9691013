//! `get` in its formats, `describe`, `logs`, `events`, `explain`, `api-resources`.

use crate::{repo, sandbox};
use k8w_testkit::eventually;

/// Column titles of a table.
fn titles(table: &str) -> Vec<&str> {
    table.lines().next().unwrap_or_default().split("  ").map(str::trim).filter(|title| !title.is_empty()).collect()
}

#[test]
fn tables_have_the_columns_that_kubernetes_prints() {
    let t = sandbox();
    t.hello(1);
    t.kubectl.ok(&["expose", "deployment", "hello", "--port=80", "--target-port=8080"]);
    let wide = |kind: &str| t.kubectl.ok(&["get", kind, "-o", "wide"]);
    assert_eq!(
        titles(&wide("pods")),
        ["NAME", "READY", "STATUS", "RESTARTS", "AGE", "IP", "NODE", "NOMINATED NODE", "READINESS GATES"]
    );
    assert_eq!(
        titles(&wide("deployments")),
        ["NAME", "READY", "UP-TO-DATE", "AVAILABLE", "AGE", "CONTAINERS", "IMAGES", "SELECTOR"]
    );
    assert_eq!(
        titles(&wide("replicasets")),
        ["NAME", "DESIRED", "CURRENT", "READY", "AGE", "CONTAINERS", "IMAGES", "SELECTOR"]
    );
    assert_eq!(titles(&wide("services")), ["NAME", "TYPE", "CLUSTER-IP", "EXTERNAL-IP", "PORT(S)", "AGE", "SELECTOR"]);
    assert_eq!(titles(&wide("endpointslices")), ["NAME", "ADDRESSTYPE", "PORTS", "ENDPOINTS", "AGE"]);
    assert_eq!(
        titles(&wide("nodes")),
        [
            "NAME",
            "STATUS",
            "ROLES",
            "AGE",
            "VERSION",
            "INTERNAL-IP",
            "EXTERNAL-IP",
            "OS-IMAGE",
            "KERNEL-VERSION",
            "CONTAINER-RUNTIME"
        ]
    );
    assert_eq!(titles(&wide("namespaces")), ["NAME", "STATUS", "AGE"]);
    assert_eq!(titles(&wide("configmaps")), ["NAME", "DATA", "AGE"]);
    assert_eq!(titles(&wide("ingressclasses")), ["NAME", "CONTROLLER", "PARAMETERS", "AGE"]);
    assert_eq!(titles(&wide("runtimeclasses")), ["NAME", "HANDLER", "AGE"]);
    assert_eq!(titles(&wide("clusterroles")), ["NAME", "CREATED AT"]);
}

#[test]
fn a_running_pod_reads_as_one() {
    let t = sandbox();
    t.hello(1);
    let line = t.kubectl.ok(&["get", "pods", "--no-headers"]);
    let cells: Vec<&str> = line.split_whitespace().collect();
    assert_eq!(cells[1..4], ["1/1", "Running", "0"], "{line}");
    let yaml = t.kubectl.ok(&["get", "pods", "-o", "yaml"]);
    for expected in
        ["phase: Running", "qosClass: BestEffort", "restartPolicy: Always", "containerID: wasmtime://", "podIP: 10.64."]
    {
        assert!(yaml.contains(expected), "{expected} is missing from\n{yaml}");
    }
}

#[test]
fn lists_can_be_sorted_and_selected() {
    let t = sandbox();
    for (name, order) in [("b", "1"), ("a", "2"), ("c", "0")] {
        t.kubectl.ok(&["create", "configmap", name, &format!("--from-literal=order={order}")]);
        t.kubectl.ok(&["label", "configmap", name, "mine=yes"]);
    }
    let names = |sort: &str| t.kubectl.ok(&["get", "configmap", "-l", "mine", "--sort-by", sort, "-o", "name"]);
    assert_eq!(names("{.data.order}"), "configmap/c\nconfigmap/b\nconfigmap/a\n");
    assert_eq!(names("{.metadata.name}"), "configmap/a\nconfigmap/b\nconfigmap/c\n");
    let chunked = t.kubectl.ok(&["get", "configmap", "-l", "mine", "--chunk-size=1", "-o", "name"]);
    assert_eq!(chunked.lines().count(), 3);
    let one = t.kubectl.ok(&["get", "configmap", "--field-selector", "metadata.name=b", "-o", "name"]);
    assert_eq!(one, "configmap/b\n");
}

/// Conformance: "Kubectl, describe pod or rc".
#[test]
fn describe_tells_the_story_of_a_pod() {
    let t = sandbox();
    t.hello(1);
    let text = t.kubectl.ok(&["describe", "pods"]).split_whitespace().collect::<Vec<_>>().join(" ");
    for expected in [
        "Status: Running",
        "Runtime Class Name: wasmtime",
        "Successfully assigned",
        "Pulled",
        "Created",
        "Started",
        "Ready True",
    ] {
        assert!(text.contains(expected), "{expected} is missing from\n{text}");
    }
    let deployment = t.kubectl.ok(&["describe", "deployment", "hello"]);
    assert!(deployment.contains("Scaled up replica set hello-"), "{deployment}");
    assert!(deployment.contains("1 desired | 1 updated | 1 total | 1 available | 0 unavailable"), "{deployment}");
    let node = t.cluster.kubectl().ok(&["describe", "nodes"]);
    assert!(node.contains("wasmtime://"), "{node}");
    assert!(node.contains("Non-terminated Pods"), "{node}");
}

/// Conformance: "Kubectl, logs".
#[test]
fn logs_and_events_of_a_finished_pod() {
    let t = sandbox();
    t.cli_image();
    t.kubectl.apply(&std::fs::read_to_string(repo("examples/cli/cli.yaml")).unwrap());
    t.kubectl.ok(&["wait", "--for=jsonpath={.status.phase}=Succeeded", "pod/cli", "--timeout=60s"]);
    assert_eq!(t.kubectl.ok(&["logs", "cli"]), "Hello, sandbox!\n/input/text has 7 words; wrote /output/words\n");
    assert_eq!(t.kubectl.ok(&["logs", "cli", "--tail=1"]), "/input/text has 7 words; wrote /output/words\n");
    assert!(t.kubectl.ok(&["logs", "cli", "--timestamps"]).starts_with("20"));
    let line = t.kubectl.ok(&["get", "pod", "cli", "--no-headers"]);
    assert_eq!(line.split_whitespace().collect::<Vec<_>>()[1..3], ["0/1", "Completed"]);
    eventually("the events of the pod", || {
        let events = t.kubectl.ok(&["events", "--for", "pod/cli"]);
        let missing = ["Scheduled", "Pulled", "Created", "Started"].iter().find(|reason| !events.contains(**reason));
        missing.map_or(Ok(()), |reason| Err(format!("{reason} is missing from {events}")))
    });
}

#[test]
fn logs_can_be_followed_to_the_end() {
    let t = sandbox();
    t.cli_image();
    t.kubectl.apply(&std::fs::read_to_string(repo("examples/cli/cli.yaml")).unwrap());
    t.kubectl.ok(&["wait", "--for=condition=PodScheduled", "pod/cli", "--timeout=60s"]);
    let followed = eventually("the container can be followed", || {
        let outcome = t.kubectl.run(&["logs", "-f", "cli"]);
        if outcome.success { Ok(outcome.stdout) } else { Err(outcome.stderr) }
    });
    assert!(followed.ends_with("wrote /output/words\n"), "{followed}");
}

#[test]
fn explain_knows_every_kind() {
    let t = sandbox();
    let table = t.kubectl.ok(&["api-resources", "--no-headers"]);
    assert!(table.lines().count() > 60, "{table}");
    // The custom kinds of other tests come and go.
    for row in table.lines().filter(|row| !row.contains(".example.com/")) {
        let columns: Vec<&str> = row.split_whitespace().collect();
        // Short names are not always there: the others are counted from the end.
        let (name, version, kind) = (columns[0], columns[columns.len() - 3], columns[columns.len() - 1]);
        let text = t.kubectl.ok(&["explain", name, &format!("--api-version={version}")]);
        assert!(text.contains(&format!("KIND:       {kind}\n")) && text.contains("FIELDS:"), "{row}: {text}");
    }
}

#[test]
fn explain_knows_fields_and_their_types() {
    let t = sandbox();
    let text = t.kubectl.ok(&["explain", "deployment.spec.strategy.rollingUpdate.maxSurge"]);
    assert!(text.contains("GROUP:      apps"), "{text}");
    assert!(text.contains("FIELD: maxSurge <IntOrString>"), "{text}");
    assert!(text.contains("maximum number of pods"), "{text}");
    let pod = t.kubectl.ok(&["explain", "pod.spec", "--recursive"]);
    assert!(pod.contains("runtimeClassName"), "{pod}");
}

/// Conformance: "Kubectl, check version v1".
#[test]
fn api_resources_are_listed() {
    let t = sandbox();
    let table = t.kubectl.ok(&["api-resources"]);
    for line in [
        ["pods", "po", "v1", "true", "Pod"],
        ["deployments", "deploy", "apps/v1", "true", "Deployment"],
        ["ingresses", "ing", "networking.k8s.io/v1", "true", "Ingress"],
        ["namespaces", "ns", "v1", "false", "Namespace"],
    ] {
        assert!(table.lines().any(|row| row.split_whitespace().eq(line)), "{line:?} is missing from\n{table}");
    }
    assert!(t.kubectl.ok(&["api-versions"]).lines().any(|version| version == "rbac.authorization.k8s.io/v1"));
    assert!(t.kubectl.ok(&["get", "all"]).is_empty());
}

/// Conformance: "Kubectl, version".
#[test]
fn versions_agree() {
    let t = sandbox();
    let version = t.kubectl.ok(&["version", "-o", "yaml"]);
    assert!(version.contains("gitVersion: v1.36."), "{version}");
}
