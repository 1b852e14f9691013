//! Components that fail: what a request's client, an event, a status and the node's metrics say of it.

use k8w_testkit::{eventually, get};

use crate::sandbox;

#[test]
fn a_trapped_request_is_counted_and_told() {
    let t = sandbox();
    let image = t.server_image("traps", "unreachable");
    t.kubectl.apply(&format!(
        "
apiVersion: v1
kind: Pod
metadata: {{name: traps}}
spec:
  runtimeClassName: wasmtime
  containers: [{{name: main, image: '{image}', ports: [{{containerPort: 8080}}]}}]
"
    ));
    t.kubectl.ok(&["wait", "--for=condition=Ready", "pod/traps", "--timeout=60s"]);
    let path = format!("/api/v1/namespaces/{}/pods/traps:8080/proxy/", t.namespace);
    for _ in 0..2 {
        let failed = t.kubectl.fails(&["get", "--raw", &path]);
        assert!(failed.contains("the component failed"), "{failed}");
    }
    eventually("an event tells of it", || match t.kubectl.ok(&["events", "--for", "pod/traps"]) {
        told if told.contains("A request failed: wasm trap: wasm `unreachable` instruction executed") => Ok(()),
        told => Err(told),
    });
    let node = t.kubectl.ok(&["get", "pod", "traps", "-o", "jsonpath={.spec.nodeName}"]);
    let metrics = t.kubectl.ok(&["get", "--raw", &format!("/api/v1/nodes/{node}/proxy/metrics")]);
    let labels = format!("{{container=\"main\",namespace=\"{}\",pod=\"traps\"}}", t.namespace);
    for metric in ["requests", "traps"] {
        let line = format!("k8w_container_{metric}_total{labels} 2");
        assert!(metrics.lines().any(|found| found == line), "{line}:\n{metrics}");
    }
    let status = t.kubectl.ok(&["get", "pod", "traps", "-o", "jsonpath={.status.containerStatuses[0].restartCount}"]);
    assert_eq!(status, "0");
}

/// How many requests that trap within ten seconds fail their container.
const BURST: usize = 20;

#[test]
fn a_burst_of_traps_fails_the_container_and_its_policy_says_what_follows() {
    let t = sandbox();
    let image = t.server_image("traps", "unreachable");
    for (name, policy) in [("never", "Never"), ("always", "Always")] {
        t.kubectl.apply(&format!(
            "
apiVersion: v1
kind: Pod
metadata: {{name: {name}, labels: {{app: {name}}}}}
spec:
  runtimeClassName: wasmtime
  restartPolicy: {policy}
  containers: [{{name: main, image: '{image}', ports: [{{containerPort: 8080}}]}}]
"
        ));
        t.kubectl.ok(&["wait", "--for=condition=Ready", &format!("pod/{name}"), "--timeout=60s"]);
        t.kubectl.ok(&["expose", "pod", name, "--port=80", "--target-port=8080"]);
        let host = format!("{name}.{}.test", t.namespace);
        t.kubectl.ok(&["create", "ingress", name, &format!("--rule={host}/*={name}:80")]);
        let field = |path: &str| {
            let path = format!("jsonpath={{.status.containerStatuses[0].{path}}}");
            t.kubectl.ok(&["get", "pod", name, "-o", &path])
        };
        let state = if policy == "Never" { "state" } else { "lastState" };
        let mut trapped = 0;
        let exit_code = eventually("the container has failed", || {
            let ended = field(&format!("{state}.terminated.exitCode"));
            if !ended.is_empty() {
                return Ok(ended);
            }
            // So many are too many, unless the machine is so slow that the first do not count any more.
            for _ in 0..BURST {
                match get(t.cluster.ingress_http(), &host, "/")?.status {
                    500 => trapped += 1,
                    status => return Err(format!("{status} after {trapped} traps")),
                }
            }
            Err(format!("{trapped} requests have trapped"))
        });
        assert!(trapped >= BURST, "{trapped}");
        assert_eq!((exit_code, field(&format!("{state}.terminated.reason"))), ("134".to_owned(), "Error".to_owned()));
        let why = field(&format!("{state}.terminated.message"));
        assert!(why.starts_with("20 requests trapped within 10s, the last with: "), "{why}");
        assert!(why.ends_with("wasm `unreachable` instruction executed"), "{why}");
        if policy == "Never" {
            t.kubectl.ok(&["wait", "--for=jsonpath={.status.phase}=Failed", "pod/never", "--timeout=60s"]);
            assert_eq!(field("restartCount"), "0");
        } else {
            eventually("it runs again", || match (field("restartCount"), field("state.running.startedAt")) {
                (count, since) if count != "0" && !since.is_empty() => Ok(()),
                other => Err(format!("{other:?}")),
            });
        }
    }
}

/// As of containers that share a network namespace: the first has the port, the other one fails until it is free.
#[test]
fn a_server_whose_port_another_container_has_fails_and_says_so() {
    let t = sandbox();
    let image = t.server_image("twice", "");
    t.kubectl.apply(&format!(
        "
apiVersion: v1
kind: Pod
metadata: {{name: twice}}
spec:
  runtimeClassName: wasmtime
  containers:
  - {{name: a, image: '{image}', ports: [{{containerPort: 8080}}]}}
  - {{name: b, image: '{image}'}}
"
    ));
    let of_one = |field: &str, state: &str| {
        let path = format!("jsonpath={{.status.containerStatuses[?(@.{state})].{field}}}");
        t.kubectl.ok(&["get", "pod", "twice", "-o", &path])
    };
    // Which of the two comes first is open.
    eventually("one of them backs off", || match of_one("state.waiting.reason", "state.waiting.reason") {
        reason if reason == "CrashLoopBackOff" => Ok(()),
        reason => Err(reason),
    });
    let (reason, message) = (
        of_one("lastState.terminated.reason", "lastState.terminated"),
        of_one("lastState.terminated.message", "lastState.terminated"),
    );
    assert_eq!(reason, "StartError");
    assert!(message.starts_with("listen on port 8080: address already in use"), "{message}");
    assert_eq!(of_one("restartCount", "state.running"), "0", "the other one runs on");
    let events = t.kubectl.ok(&["events", "--for", "pod/twice"]);
    assert!(events.contains("Error: listen on port 8080: address already in use"), "{events}");
}
