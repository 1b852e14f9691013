//! The node's own API on its own port, and through the API server: whom it lets in, and what it says.

use k8w_testkit::{Outcome, eventually};
use serde_json::{Value, json};

use crate::{Sandbox, sandbox};

const NODE_PATHS: [(&str, &str); 7] = [
    ("/healthz", "ok"),
    ("/pods", "\"kind\":\"PodList\""),
    ("/stats/summary", "\"nodeName\""),
    ("/metrics", "kubelet_running_pods"),
    ("/metrics/resource", "node_cpu_usage_seconds"),
    ("/metrics/probes", "# EOF"),
    ("/configz", "\"kubeletconfig\""),
];

impl Sandbox {
    fn of_node(&self, path: &str) -> String {
        self.kubectl.ok(&["get", "nodes", "-o", &format!("jsonpath={{.items[0].{path}}}")])
    }

    /// Where the node says that its API is.
    fn node_url(&self) -> String {
        let port = self.of_node("status.daemonEndpoints.kubeletEndpoint.Port");
        format!("https://127.0.0.1:{port}")
    }

    /// Asks the node directly, with these credentials and no others.
    fn ask_node(&self, url: &str, credentials: &[&str], path: &str) -> Outcome {
        let access = ["--kubeconfig=/dev/null", "--insecure-skip-tls-verify", "--server", url];
        self.kubectl.run(&[&access[..], credentials, &["get", "--raw", path]].concat())
    }
}

#[test]
fn the_node_renews_its_lease() {
    let t = sandbox();
    let name = t.of_node("metadata.name");
    let renewed = || {
        let time = "jsonpath={.spec.holderIdentity} {.spec.renewTime}";
        t.kubectl.ok(&["get", "lease", &name, "-n", "kube-node-lease", "-o", time])
    };
    let before = renewed();
    assert!(before.starts_with(&format!("{name} ")), "{before}");
    eventually("it is renewed", || match renewed() {
        now if now > before => Ok(()),
        now => Err(now),
    });
}

#[test]
fn an_administrator_reads_what_the_node_knows() {
    let t = sandbox();
    t.hello(1);
    let pod = t.kubectl.ok(&["get", "pods", "-l", "app=hello", "-o", "jsonpath={.items[0].metadata.name}"]);
    let log = format!("/containerLogs/{}/{pod}/hello", t.namespace);
    let (url, proxy) = (t.node_url(), format!("/api/v1/nodes/{}/proxy", t.of_node("metadata.name")));
    for (path, expected) in [&NODE_PATHS[..], &[(&log, "")]].concat() {
        // The cluster's authority signed the node's certificate, which kubectl verifies.
        for answer in [
            t.kubectl.ok(&["--server", &url, "get", "--raw", path]),
            t.kubectl.ok(&["get", "--raw", &format!("{proxy}{path}")]),
        ] {
            assert!(answer.contains(expected), "{path}: {answer}");
        }
    }
    let ask = |path: &str| t.kubectl.ok(&["--server", &url, "get", "--raw", path]);
    let tree = |path: &str| -> Value { serde_json::from_str(&ask(path)).unwrap() };
    let own = |list: &Value, names: [&str; 2]| {
        let [name, namespace] = names;
        let is_own = |entry: &&Value| {
            let text = |path: &str| entry.pointer(path).and_then(Value::as_str).unwrap_or_default();
            text(name) == pod && text(namespace) == t.namespace
        };
        list.as_array().unwrap().iter().find(is_own).cloned().unwrap_or_else(|| panic!("{pod} is not in {list}"))
    };
    let listed = own(&tree("/pods")["items"], ["/metadata/name", "/metadata/namespace"]);
    let status = &listed["status"]["containerStatuses"][0];
    assert_eq!((&status["name"], &status["ready"]), (&json!("hello"), &json!(true)), "{listed}");
    assert_eq!(listed["status"]["podIP"], t.kubectl.ok(&["get", "pod", &pod, "-o", "jsonpath={.status.podIP}"]));
    let configuration = &tree("/configz")["kubeletconfig"];
    assert_eq!((&configuration["maxPods"], t.of_node("status.capacity.pods").as_str()), (&json!(1_000), "1k"));
    assert_eq!(configuration["port"].to_string(), t.of_node("status.daemonEndpoints.kubeletEndpoint.Port"));
    t.kubectl.ok(&["get", "--raw", &format!("/api/v1/namespaces/{}/pods/{pod}:8080/proxy/", t.namespace)]);
    let labels = format!("{{container=\"hello\",namespace=\"{}\",pod=\"{pod}\"}}", t.namespace);
    let metrics = ask("/metrics");
    assert!(metrics.lines().any(|line| line == format!("k8w_container_requests_total{labels} 1")), "{metrics}");
    let summary = own(&tree("/stats/summary")["pods"], ["/podRef/name", "/podRef/namespace"]);
    let container = &summary["containers"][0];
    assert_eq!(container["name"], "hello", "{summary}");
    assert!(container["cpu"]["usageCoreNanoSeconds"].as_u64() > Some(0), "{summary}");
    assert!(container["memory"]["workingSetBytes"].is_u64(), "{summary}");
    let unknown = t.kubectl.fails(&["--server", &url, "get", "--raw", "/nowhere"]);
    assert!(unknown.contains("NotFound"), "{unknown}");
}

#[test]
fn others_read_what_a_role_names() {
    let t = sandbox();
    let (url, token) = (t.node_url(), t.kubectl.ok(&["create", "token", "default"]));
    let role = format!("{}-stats", t.namespace);
    t.kubectl.ok(&["create", "clusterrole", &role, "--verb=get", "--resource=nodes/stats,nodes/healthz"]);
    let account = format!("--serviceaccount={}:default", t.namespace);
    t.kubectl.ok(&["create", "clusterrolebinding", &role, "--clusterrole", &role, &account]);
    let token = ["--token", token.trim()];
    for (path, _) in NODE_PATHS {
        let answer = t.ask_node(&url, &token, path);
        let allowed = ["/stats/summary", "/healthz"].contains(&path);
        assert_eq!(answer.success, allowed, "{path}: {}", answer.stderr);
        assert!(allowed || answer.stderr.contains("orbidden"), "{path}: {}", answer.stderr);
    }
    t.kubectl.ok(&["delete", "clusterrolebinding,clusterrole", &role]);
}

#[test]
fn nobody_reads_nothing() {
    let t = sandbox();
    let url = t.node_url();
    for credentials in [["--username=a", "--password=b"], ["--token", "not.a.token"]] {
        for (path, _) in NODE_PATHS {
            let answer = t.ask_node(&url, &credentials, path);
            assert!(!answer.success && answer.stderr.contains("You must be logged in"), "{path}: {}", answer.stderr);
        }
    }
}
