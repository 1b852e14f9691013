//! Several nodes, as a user meets them: machines join a control plane with a token, and their pods are one cluster.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod compiler;
mod machines;
mod static_pods;

use std::collections::BTreeSet;
use std::net::SocketAddr;

use k8w_testkit::{ClusterOptions, Load, Running, TestCluster, eventually, get, get_ok, guest, run};
use machines::{BINARY, Cluster, Machine};

/// A cluster with the nodes a and b, which both have the images of the examples.
fn cluster() -> (Cluster, Machine, Machine) {
    let cluster = Cluster::start();
    let token = cluster.token();
    let token: Vec<&str> = token.iter().map(String::as_str).collect();
    // One knows the CA by its hash, the other by the token's signature.
    let (a, b) = (cluster.node("a", 2, &token), cluster.node("b", 3, &token[..4]));
    for node in [&a, &b] {
        node.load("hello/hello.wasm", "localhost/hello:latest");
        node.load("chain/front.wasm", "localhost/front:latest");
        node.load("chain/back.wasm", "localhost/back:latest");
    }
    (cluster, a, b)
}

fn pod(name: &str, image: &str, node: &str) -> String {
    format!(
        "
---
apiVersion: v1
kind: Pod
metadata: {{name: {name}, labels: {{app: {name}}}}}
spec:
  runtimeClassName: wasmtime
  nodeSelector: {{kubernetes.io/hostname: {node}}}
  containers:
  - name: c
    image: localhost/{image}:latest
    ports: [{{name: http, containerPort: 8080}}]
    env: [{{name: POD_NAME, valueFrom: {{fieldRef: {{fieldPath: metadata.name}}}}}}]
    readinessProbe: {{httpGet: {{path: /ready, port: http}}}}
"
    )
}

fn service(name: &str, selector: &str) -> String {
    format!(
        "
---
apiVersion: v1
kind: Service
metadata: {{name: {name}}}
spec: {{type: NodePort, selector: {{{selector}}}, ports: [{{port: 80, targetPort: http}}]}}
---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {{name: {name}}}
spec:
  rules:
  - host: {name}.localhost
    http: {{paths: [{{path: /, pathType: Prefix, backend: {{service: {{name: {name}, port: {{number: 80}}}}}}}}]}}
"
    )
}

/// A Service that has what its selector finds on the client's own node alone.
fn local_service(name: &str, selector: &str) -> String {
    service(name, selector).replace("type: NodePort", "type: NodePort, internalTrafficPolicy: Local")
}

/// What a host's path answers at an address, once it does.
fn answer(at: SocketAddr, host: &str, path: &str) -> String {
    eventually("it is answered", || get_ok(at, host, path)).body
}

#[test]
fn pods_of_all_nodes_are_one_cluster() {
    let (cluster, a, b) = cluster();
    let kubectl = &cluster.kubectl;

    // Each node has addresses of its own.
    let ranges = cluster.jsonpath(&["nodes"], "{.items[*].metadata.annotations.k8w\\.dev/wasm-cidr}");
    let ranges: BTreeSet<&str> = ranges.split(' ').collect();
    assert_eq!(ranges, BTreeSet::from(["10.64.0.0/18", "10.64.64.0/18"]));

    // A component on one node calls another on the other by its Service's name; "hello" is on both.
    kubectl.apply(
        &[
            pod("front", "front", "a"),
            pod("back", "back", "b"),
            service("front", "app: front"),
            service("back", "app: back"),
        ]
        .concat(),
    );
    kubectl.apply(
        &[pod("hello-a", "hello", "a"), pod("hello-b", "hello", "b")]
            .concat()
            .replace("labels: {app: hello-", "labels: {of: hello, app: hello-"),
    );
    kubectl.apply(&service("hello", "of: hello"));
    kubectl.ok(&["wait", "--for=condition=Ready", "pods", "--all", "--timeout=60s"]);
    let on = |name: &str| cluster.jsonpath(&["pod", name], "{.spec.nodeName}");
    assert_eq!(["front", "back", "hello-a", "hello-b"].map(on), ["a", "b", "a", "b"]);
    for at in [a.ingress, b.ingress] {
        assert_eq!(answer(at, "front.localhost", "/x"), "front asked, back heard /x\n");
        let mut seen = BTreeSet::new();
        eventually("both endpoints answer", || {
            seen.insert(answer(at, "hello.localhost", "/"));
            if seen.len() == 2 { Ok(()) } else { Err(format!("{seen:?}")) }
        });
    }
    // So do node ports, on the node that has no such pod.
    let port: u16 = cluster.jsonpath(&["service", "back"], "{.spec.ports[0].nodePort}").parse().unwrap();
    assert_eq!(answer(SocketAddr::new(a.ingress.ip(), port), "back", "/y"), "back heard /y\n");

    // The API server reaches both nodes.
    for (name, node) in [("hello-a", "a"), ("hello-b", "b")] {
        assert_eq!(kubectl.ok(&["exec", name, "--", "echo", "it", "runs"]), "it runs\n");
        kubectl.ok(&["logs", name]);
        let proxied = format!("/api/v1/namespaces/default/pods/{name}:8080/proxy/p");
        assert_eq!(kubectl.ok(&["get", "--raw", &proxied]), format!("Hello from {name}: you asked for /p\n"));
        let mut forward = Running::start(&mut kubectl.command(&["port-forward", name, ":8080"]));
        assert_eq!(answer(forward.forwards(), "hello", "/f"), format!("Hello from {name}: you asked for /f\n"));
        assert_eq!(kubectl.ok(&["get", "--raw", &format!("/api/v1/nodes/{node}/proxy/healthz")]), "ok");
    }
    eventually("both nodes say what they use", || {
        let metrics = kubectl.ok(&["get", "--raw", "/apis/metrics.k8s.io/v1beta1/nodes"]);
        if metrics.matches("\"usage\"").count() == 2 { Ok(()) } else { Err(metrics) }
    });
}

#[test]
fn traffic_of_the_cluster_stays_on_its_node_where_a_service_wants_that() {
    let (cluster, a, b) = cluster();
    let kubectl = &cluster.kubectl;
    let hellos = [pod("hello-a", "hello", "a"), pod("hello-b", "hello", "b")].concat();
    // One that is asked whether it is ready asks whom it cannot reach.
    let front = |name: &str, node: &str| {
        let pod = pod(name, "front", node);
        pod.lines().filter(|line| !line.contains("readinessProbe")).collect::<Vec<_>>().join("\n") + "\n"
    };
    let fronts = [front("front-a", "a"), front("front-b", "b")].concat();
    kubectl.apply(&hellos.replace("labels: {app: hello-", "labels: {of: hello, app: hello-"));
    kubectl.apply(&[fronts, pod("back", "back", "b")].concat());
    let services = [local_service("hello", "of: hello"), local_service("back", "app: back")];
    kubectl
        .apply(&[services.concat(), service("front-a", "app: front-a"), service("front-b", "app: front-b")].concat());
    kubectl.ok(&["wait", "--for=condition=Ready", "pods", "--all", "--timeout=60s"]);
    for (ingress, own) in [(a.ingress, "hello-a"), (b.ingress, "hello-b")] {
        for _ in 0..20 {
            let said = answer(ingress, "hello.localhost", "/");
            assert_eq!(said, format!("Hello from {own}: you asked for /\n"));
        }
    }
    // The only pod is on the other node.
    assert_eq!(answer(b.ingress, "front-b.localhost", "/x"), "front asked, back heard /x\n");
    for host in ["front-a.localhost", "back.localhost"] {
        eventually("nobody is asked", || match get(a.ingress, host, "/x") {
            Ok(answer) if answer.status >= 500 => Ok(()),
            other => Err(format!("{other:?}")),
        });
    }
}

/// One pod at a time is on one node alone, while clients ask from both: through their ingress, and through pods there.
#[test]
fn an_image_is_rolled_out_on_another_node_without_a_failed_request() {
    let (cluster, a, b) = cluster();
    let kubectl = &cluster.kubectl;
    // One that is asked whether it is ready asks whom it cannot reach.
    let front = |name: &str, node: &str| {
        let pod = pod(name, "front", node);
        pod.lines().filter(|line| !line.contains("readinessProbe")).collect::<Vec<_>>().join("\n") + "\n"
    };
    let back = "
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: back}
spec:
  selector: {matchLabels: {app: back}}
  strategy: {rollingUpdate: {maxUnavailable: 0, maxSurge: 1}}
  template:
    metadata: {labels: {app: back}}
    spec:
      runtimeClassName: wasmtime
      nodeSelector: {kubernetes.io/hostname: b}
      containers: [{name: c, image: 'localhost/back:latest', ports: [{name: http, containerPort: 8080}]}]
";
    let services = ["front-a", "front-b", "back"].map(|name| service(name, &format!("app: {name}")));
    kubectl.apply(&[back.to_owned(), front("front-a", "a"), front("front-b", "b"), services.concat()].concat());
    kubectl.ok(&["wait", "--for=condition=Ready", "pods", "--all", "--timeout=60s"]);
    let asked = [(a.ingress, "back.localhost"), (a.ingress, "front-a.localhost"), (a.ingress, "front-b.localhost")];
    let loads = asked.map(|(at, host)| {
        let old = answer(at, host, "/");
        assert!(old.ends_with("back heard /\n"), "{old}");
        Load::start(at, host)
    });
    for image in ["hello", "back", "hello"] {
        loads.iter().for_each(|load| load.answers(20));
        kubectl.ok(&["set", "image", "deployment/back", &format!("c=localhost/{image}:latest")]);
        kubectl.ok(&["rollout", "status", "deployment/back", "--timeout=60s"]);
        eventually("the pod before is gone", || {
            match cluster.jsonpath(&["pods", "-l", "app=back"], "{.items[*].metadata.name}") {
                one if !one.contains(' ') => Ok(()),
                several => Err(several),
            }
        });
    }
    loads.iter().for_each(|load| load.answers(20));
    for (load, (_, host)) in loads.into_iter().zip(asked) {
        let (asked, failures) = load.stop();
        assert_eq!(failures, Vec::<String>::new(), "of {asked} requests of {host}");
    }
    assert!(answer(b.ingress, "back.localhost", "/").starts_with("Hello"), "the new one answers");
}

#[test]
fn a_machine_joins_the_cluster_of_k8w_up() {
    let up = TestCluster::start(BINARY, ClusterOptions::default());
    let folder = tempfile::tempdir().unwrap();
    let token = machines::token(&up.kubeconfig());
    let b = machines::node(folder.path(), "b", machines::loopback(4), &token.each_ref().map(String::as_str));
    b.load("hello/hello.wasm", "localhost/hello:latest");
    let kubectl = up.kubectl();
    kubectl.apply(&(pod("hello", "hello", "b") + &service("hello", "app: hello")));
    kubectl.ok(&["wait", "--for=condition=Ready", "pod/hello", "--timeout=60s"]);
    assert_eq!(kubectl.ok(&["exec", "hello", "--", "echo", "there"]), "there\n");
    assert_eq!(answer(up.ingress_http(), "hello.localhost", "/"), "Hello from hello: you asked for /\n");
}

#[test]
fn policies_know_pods_of_other_nodes() {
    let (cluster, a, _b) = cluster();
    let kubectl = &cluster.kubectl;
    let twin = pod("twin", "front", "a");
    kubectl.apply(&[pod("front", "front", "a"), twin, pod("back", "back", "b")].concat());
    kubectl
        .apply(&[service("front", "app: front"), service("twin", "app: twin"), service("back", "app: back")].concat());
    kubectl.ok(&["wait", "--for=condition=Ready", "pods", "--all", "--timeout=60s"]);
    for host in ["front.localhost", "twin.localhost"] {
        assert_eq!(answer(a.ingress, host, "/"), "front asked, back heard /\n");
    }
    kubectl.apply(
        "
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: back}
spec:
  podSelector: {matchLabels: {app: back}}
  ingress: [{from: [{podSelector: {matchLabels: {app: front}}}]}]
",
    );
    eventually("others are refused", || match get(a.ingress, "twin.localhost", "/") {
        Ok(answer) if answer.status >= 500 => Ok(()),
        other => Err(format!("{other:?}")),
    });
    assert_eq!(answer(a.ingress, "front.localhost", "/"), "front asked, back heard /\n");
}

#[test]
fn a_node_that_was_killed_comes_back_as_itself() {
    let cluster = Cluster::start();
    let kubeconfig = cluster.kubeconfig().display().to_string();
    let mut node = cluster.node("a", 2, &["--kubeconfig", &kubeconfig]);
    node.load("hello/hello.wasm", "localhost/hello:latest");
    cluster.kubectl.apply(&pod("hello", "hello", "a"));
    cluster.kubectl.ok(&["wait", "--for=condition=Ready", "pod/hello", "--timeout=60s"]);
    let facts = || cluster.jsonpath(&["node", "a"], "{.metadata.uid} {.metadata.annotations.k8w\\.dev/wasm-cidr}");
    let (certificate, before) = (node.certificate(), facts());
    node.process.kill();
    // It knows where it belongs.
    let node = cluster.node("a", 2, &[]);
    assert_eq!((node.certificate(), facts()), (certificate, before));
    eventually("the pod runs again", || {
        let outcome = cluster.kubectl.run(&["exec", "hello", "--", "echo", "again"]);
        if outcome.stdout == "again\n" { Ok(()) } else { Err(outcome.stderr) }
    });
    let requests = cluster.jsonpath(&["csr"], "{.items[*].spec.signerName}");
    assert_eq!(requests.split(' ').count(), 2, "{requests}");
    // Nobody else can have its folder.
    drop(node);
    let other = cluster.refused("a", "b", &[]);
    assert!(other.starts_with("error: the data directory belongs to node \"a\""), "{other}");
}

#[test]
fn what_cannot_join_is_told_why() {
    let cluster = Cluster::start();
    let token = cluster.token();
    let [_, server, _, secret, ..] = &token;
    let join = |secret: &str, more: &[&str]| {
        cluster.refused("b", "b", &[&["--server", server, "--token", secret], more].concat())
    };
    let wrong = format!("{}.{}", &secret[..6], "0".repeat(16));
    assert_eq!(
        join(&wrong, &[]),
        "error: failed to verify JWS signature of received cluster info object, can't trust this API Server"
    );
    assert_eq!(
        join(&format!("zzzzzz.{}", "0".repeat(16)), &[]),
        "error: token id \"zzzzzz\" is invalid for this cluster or it has expired. Use \"k8w token create\" to create a new \
         valid token"
    );
    let pin = format!("sha256:{}", "0".repeat(64));
    assert!(join(secret, &["--ca-hash", &pin]).ends_with("are pinned"));
    let other = Cluster::start();
    let foreign = other.folder.path().join("server/pki/ca.crt").display().to_string();
    assert_eq!(
        join(secret, &["--ca-file", &foreign]),
        format!(
            "error: the certificate of {server} is not signed by the CA in {foreign}: this is another cluster, or somebody in between"
        )
    );
    let ca = cluster.folder.path().join("server/pki/ca.crt").display().to_string();
    let unauthorized = join(&wrong, &["--ca-file", &ca]);
    assert!(unauthorized.starts_with(&format!("error: {server} does not accept these credentials")), "{unauthorized}");
    let nothing = cluster.refused("b", "b", &[]);
    assert!(nothing.starts_with("error: this machine has not joined a cluster yet"), "{nothing}");

    let join: Vec<&str> = token.iter().map(String::as_str).collect();
    let _a = cluster.node("a", 2, &join);
    assert_eq!(
        cluster.refused("twin", "a", &join),
        "error: a Node with name \"a\" and status \"Ready\" already exists in the cluster. You must delete the existing Node or \
         change the name of this new joining Node"
    );
}

/// As others than who runs the machine may say what runs there.
#[test]
fn a_machine_that_joins_runs_wasi_0_3_only_when_it_is_told_to() {
    let Some(service) = guest("service-p3.wasm") else { return };
    let service = service.display().to_string();
    let cluster = Cluster::start();
    let token = cluster.token();
    let token: Vec<&str> = token.iter().map(String::as_str).collect();
    let (a, b) = (cluster.node("a", 2, &token), cluster.node("b", 3, &[&token[..], &["--wasi-p3=true"]].concat()));
    for node in [&a, &b] {
        node.load(&service, "localhost/modern:latest");
    }
    cluster.kubectl.apply(&[pod("on-a", "modern", "a"), pod("on-b", "modern", "b")].concat());
    cluster.kubectl.ok(&["wait", "--for=condition=Ready", "pod/on-b", "--timeout=60s"]);
    let waiting =
        "{.status.containerStatuses[0].state.waiting.reason}: {.status.containerStatuses[0].state.waiting.message}";
    let refused = "CreateContainerError: component needs WASI 0.3, which is switched off on this node (`--wasi-p3=true` \
                   switches it on)";
    eventually("its status says so", || match cluster.jsonpath(&["pod", "on-a"], waiting) {
        shown if shown == refused => Ok(()),
        shown => Err(shown),
    });
}

/// Both keep a CA in a folder of the same name, each its own.
#[test]
fn a_control_plane_and_a_node_do_not_share_their_folder() {
    let folder = tempfile::tempdir().unwrap();
    let refused = |arguments: &[&str], kept: &str| {
        let data = folder.path().join(kept);
        std::fs::create_dir_all(data.join("pki")).unwrap();
        std::fs::write(data.join("pki").join(kept), "").unwrap();
        let data = data.display().to_string();
        let arguments: Vec<String> = arguments.iter().map(|argument| argument.replace("DATA", &data)).collect();
        let outcome = run(BINARY, &arguments.iter().map(String::as_str).collect::<Vec<_>>());
        assert!(!outcome.success, "{arguments:?} started");
        assert!(std::fs::read_dir(format!("{data}/pki")).unwrap().count() == 1, "{arguments:?} wrote keys");
        let error = outcome.stderr.lines().find(|line| line.starts_with("error: "));
        error.unwrap_or(&outcome.stderr).replace(&data, "DATA")
    };
    assert_eq!(
        refused(&["node", "--data-dir", "DATA"], "ca.key"),
        "error: DATA/pki holds the keys of a control plane; choose another folder with --data-dir"
    );
    let of_a_node =
        |option: &str| format!("error: DATA/pki holds the keys of a node; choose another folder with {option}");
    let certificate = "kubelet-client-current.pem";
    assert_eq!(refused(&["up", "--port", "0", "--data-dir", "DATA"], certificate), of_a_node("--data-dir"));
    assert_eq!(refused(&["server", "--port", "0", "--data-dir", "DATA"], certificate), of_a_node("--data-dir"));
    let elsewhere = ["server", "--port", "0", "--data-dir", "DATA/other", "--pki-dir", "DATA/pki"];
    assert_eq!(refused(&elsewhere, certificate), of_a_node("--pki-dir"));
}
