//! Services: whom they lead to, and who stays with whom; addresses of load balancers, Endpoints made by hand, ranges of nodes.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::time::Duration;

use k8w_testkit::{eventually, get_ok};

use crate::{Sandbox, hello_pod, sandbox};

#[test]
fn a_load_balancer_has_the_nodes_address_and_answers_there() {
    let t = sandbox();
    t.hello(2);
    // A port that nobody has now; that somebody takes it before the node does is possible, and most unlikely.
    let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port().to_string();
    let expose = ["expose", "deployment", "hello", "--type=LoadBalancer", "--target-port=8080"];
    t.kubectl.ok(&[&expose[..], &["--port", &free]].concat());
    let address = "jsonpath={.status.loadBalancer.ingress[0].ip}";
    t.kubectl.ok(&["wait", &format!("--for={address}=127.0.0.1"), "service/hello", "--timeout=60s"]);
    let door: SocketAddr = format!("127.0.0.1:{free}").parse().unwrap();
    eventually("the balancer answers", || get_ok(door, "localhost", "/"));
    let row = t.kubectl.ok(&["get", "service", "hello", "--no-headers"]);
    assert!(row.contains("LoadBalancer") && row.contains("127.0.0.1"), "{row}");

    t.kubectl.ok(&["patch", "service", "hello", "-p", r#"{"spec": {"externalTrafficPolicy": "Local"}}"#]);
    let port = t.kubectl.ok(&["get", "service", "hello", "-o", "jsonpath={.spec.healthCheckNodePort}"]);
    let health: SocketAddr = format!("127.0.0.1:{port}").parse().unwrap();
    eventually("the node says how many endpoints it has", || {
        let answer = get_ok(health, "localhost", "/")?;
        if answer.body.contains(r#""localEndpoints":2"#) { Ok(()) } else { Err(answer.body) }
    });

    t.kubectl.ok(&[&expose[..], &["--port", &free, "--name=late"]].concat());
    eventually("the port is taken", || {
        let shown = t.kubectl.ok(&["describe", "service", "late"]);
        let why = format!("port {free}/TCP of the nodes belongs to service {}/hello", t.namespace);
        if shown.contains(&why) { Ok(()) } else { Err(shown) }
    });
    t.kubectl.ok(&["delete", "service", "hello"]);
    t.kubectl.ok(&["wait", &format!("--for={address}=127.0.0.1"), "service/late", "--timeout=60s"]);
    t.kubectl.ok(&["patch", "service", "late", "-p", r#"{"spec": {"type": "ClusterIP"}}"#]);
    eventually("the address is given back", || {
        let shown = t.kubectl.ok(&["get", "service", "late", "-o", address]);
        if shown.is_empty() { Ok(()) } else { Err(shown) }
    });
}

#[test]
fn a_host_port_leads_to_one_pod_after_another() {
    let t = sandbox();
    // Likewise.
    let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port();
    let ports = |host: &str| format!("ports: [{{containerPort: 8080, hostPort: {free}, hostIP: {host}}}]");
    let pod = |name: &str, host: &str| {
        hello_pod(name, "terminationGracePeriodSeconds: 1", "").replace("ports: [{containerPort: 8080}]", &ports(host))
    };
    t.hello_image();
    let door: SocketAddr = format!("127.0.0.1:{free}").parse().unwrap();
    t.kubectl.apply(&pod("first", "''"));
    eventually("the first pod answers at the node's port", || get_ok(door, "localhost", "/"));
    t.kubectl.apply(&pod("second", "127.0.0.1"));
    eventually("the second finds no room", || {
        let why = "jsonpath={.status.conditions[?(@.type==\"PodScheduled\")].message}";
        let shown = t.kubectl.ok(&["get", "pod", "second", "-o", why]);
        let expected = "0/1 nodes are available: 1 node(s) didn't have free ports for the requested pod ports.";
        if shown.starts_with(expected) { Ok(()) } else { Err(shown) }
    });
    t.kubectl.ok(&["delete", "pod", "first"]);
    t.kubectl.ok(&["wait", "--for=condition=Ready", "pod/second", "--timeout=60s"]);
    eventually("the second pod answers there", || get_ok(door, "localhost", "/"));
    t.kubectl.ok(&["delete", "pod", "second"]);
    eventually("nobody listens any more", || match TcpListener::bind(door) {
        Ok(_) => Ok(()),
        Err(error) => Err(error.to_string()),
    });

    let taken = TcpListener::bind(door).unwrap();
    t.kubectl.apply(&pod("third", "127.0.0.1"));
    eventually("it is said that the port is somebody else's", || {
        let shown = t.kubectl.ok(&["events", "--for=pod/third"]);
        let expected = format!("Host port {free}/TCP cannot be opened on 127.0.0.1: Address already in use");
        if shown.contains(&expected) { Ok(()) } else { Err(shown) }
    });
    drop(taken);
    eventually("it is tried again", || get_ok(door, "localhost", "/"));
}

#[test]
fn endpoints_made_by_hand_are_mirrored() {
    let t = sandbox();
    t.kubectl.ok(&["create", "service", "clusterip", "db", "--tcp=5432"]);
    t.kubectl.ok(&["patch", "service", "db", "--type=json", "-p", r#"[{"op": "remove", "path": "/spec/selector"}]"#]);
    // Those of the selector that the Service was made with go first.
    eventually("nobody else makes its endpoints", || {
        let outcome = t.kubectl.run(&["delete", "endpoints", "db", "--ignore-not-found"]);
        if outcome.success { Ok(()) } else { Err(outcome.stderr) }
    });
    t.kubectl.apply(
        "
apiVersion: v1
kind: Endpoints
metadata: {name: db}
subsets: [{addresses: [{ip: 192.0.2.7}], ports: [{port: 5432}]}]
",
    );
    let mirrors = "-lkubernetes.io/service-name=db,endpointslice.kubernetes.io/managed-by=endpointslicemirroring-controller.k8s.io";
    let addresses = "jsonpath={.items[*].endpoints[*].addresses[*]}";
    eventually("a slice has the address", || {
        let shown = t.kubectl.ok(&["get", "endpointslices", mirrors, "-o", addresses]);
        if shown == "192.0.2.7" { Ok(()) } else { Err(shown) }
    });
    t.kubectl.ok(&["delete", "endpoints", "db"]);
    eventually("the slice goes with them", || {
        let shown = t.kubectl.ok(&["get", "endpointslices", mirrors, "-o", addresses]);
        if shown.is_empty() { Ok(()) } else { Err(shown) }
    });
}

#[test]
fn a_service_without_a_selector_leads_where_its_endpoints_say() {
    let t = sandbox();
    server(&t, "hand", "http", 8080);
    t.kubectl.ok(&["wait", "--for=condition=Ready", "pod/hand", "--timeout=60s"]);
    let ip = t.kubectl.ok(&["get", "pod", "hand", "-o", "jsonpath={.status.podIP}"]);
    let endpoints = [
        (
            "by-slice",
            format!(
                "
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {{name: by-slice-1, labels: {{kubernetes.io/service-name: by-slice}}}}
addressType: IPv4
ports: [{{port: 8080}}]
endpoints: [{{addresses: [{ip}]}}]
"
            ),
        ),
        (
            "by-endpoints",
            format!(
                "
apiVersion: v1
kind: Endpoints
metadata: {{name: by-endpoints}}
subsets: [{{addresses: [{{ip: {ip}}}], ports: [{{port: 8080}}]}}]
"
            ),
        ),
    ];
    for (name, endpoints) in endpoints {
        let service =
            format!("apiVersion: v1\nkind: Service\nmetadata: {{name: {name}}}\nspec: {{ports: [{{port: 80}}]}}\n");
        t.kubectl.apply(&format!("{service}---{endpoints}"));
        let host = format!("{name}.{}.test", t.namespace);
        t.kubectl.ok(&["create", "ingress", name, "--class=k8w", &format!("--rule={host}/*={name}:80")]);
        eventually("the pod answers", || get_ok(t.cluster.ingress_http(), &host, "/"));
    }
}

#[test]
fn the_node_has_a_range_of_addresses() {
    let t = sandbox();
    eventually("the node has its range", || {
        let range =
            t.kubectl.ok(&["get", "nodes", "-o", "jsonpath={.items[0].spec.podCIDR} {.items[0].spec.podCIDRs[0]}"]);
        if range == "10.244.0.0/24 10.244.0.0/24" { Ok(()) } else { Err(range) }
    });
}

/// A pod of `examples/hello` with a label and one named port.
fn server(t: &Sandbox, name: &str, port: &str, number: u16) {
    t.kubectl.apply(&format!(
        "
apiVersion: v1
kind: Pod
metadata: {{name: {name}, labels: {{app: served}}}}
spec:
  runtimeClassName: wasmtime
  terminationGracePeriodSeconds: 1
  containers: [{{name: hello, image: {image}, ports: [{{name: {port}, containerPort: {number}}}]}}]
",
        image = t.hello_image()
    ));
}

/// Waits until the Service `served` has these endpoints, as `pod:port` in order, in its Endpoints and its slices.
fn leads_to(t: &Sandbox, expected: &str) {
    let words = |shown: String| {
        let mut words: Vec<_> = shown.split_whitespace().map(str::to_owned).collect();
        words.sort_unstable();
        words.join(" ")
    };
    let pods_of_subset = "{range .subsets[*]}{range .addresses[*]}{.targetRef.name} {end}{.ports[*].port} {end}";
    let pods_of_slice = "{range .items[*]}{range .endpoints[*]}{.targetRef.name} {end}{.ports[*].port} {end}";
    eventually(&format!("endpoints {expected:?}"), || {
        let endpoints = t.kubectl.run(&["get", "endpoints", "served", "-o", &format!("jsonpath={pods_of_subset}")]);
        let slices = ["get", "endpointslices", "-l", "kubernetes.io/service-name=served", "-o"];
        let slices = t.kubectl.ok(&[&slices[..], &[&format!("jsonpath={pods_of_slice}")]].concat());
        let found = (words(endpoints.stdout), words(slices));
        if found.0 == expected && found.1 == expected { Ok(()) } else { Err(format!("{found:?}")) }
    });
}

/// Conformance: "Service, endpoints".
#[test]
fn a_service_leads_to_the_pods_that_there_are() {
    let t = sandbox();
    t.kubectl.apply(
        "
apiVersion: v1
kind: Service
metadata: {name: served}
spec: {selector: {app: served}, ports: [{port: 80, targetPort: 8080}]}
",
    );
    leads_to(&t, "");
    server(&t, "pod1", "http", 8080);
    leads_to(&t, "8080 pod1");
    server(&t, "pod2", "http", 8080);
    leads_to(&t, "8080 pod1 pod2");
    t.kubectl.ok(&["delete", "pod", "pod1", "--timeout=60s"]);
    leads_to(&t, "8080 pod2");
    t.kubectl.ok(&["delete", "pod", "pod2", "--timeout=60s"]);
    leads_to(&t, "");
}

/// Conformance: "Service, endpoints with multiple ports".
#[test]
fn a_named_port_leads_to_the_pods_that_have_it() {
    let t = sandbox();
    t.kubectl.apply(
        "
apiVersion: v1
kind: Service
metadata: {name: served}
spec:
  selector: {app: served}
  ports: [{name: portname1, port: 80, targetPort: svc1}, {name: portname2, port: 81, targetPort: svc2}]
",
    );
    leads_to(&t, "");
    server(&t, "pod1", "svc1", 100);
    leads_to(&t, "100 pod1");
    server(&t, "pod2", "svc2", 101);
    leads_to(&t, "100 101 pod1 pod2");
    t.kubectl.ok(&["delete", "pod", "pod1", "--timeout=60s"]);
    leads_to(&t, "101 pod2");
    t.kubectl.ok(&["delete", "pod", "pod2", "--timeout=60s"]);
    leads_to(&t, "");
}

/// Conformance: "Service endpoint latency, thresholds".
#[test]
fn a_hundred_services_have_their_endpoints() {
    let t = sandbox();
    server(&t, "pod1", "http", 8080);
    t.kubectl.ok(&["wait", "--for=condition=Ready", "pod/pod1", "--timeout=60s"]);
    let services: Vec<String> = (0..100)
        .map(|number| {
            format!(
                "{{apiVersion: v1, kind: Service, metadata: {{name: latency-{number}}}, \
                spec: {{selector: {{app: served}}, ports: [{{port: 80, targetPort: 8080}}]}}}}"
            )
        })
        .collect();
    t.kubectl.ok_with_input(&["create", "-f", "-"], &services.join("\n---\n"));
    eventually("every Service has its endpoint", || {
        let names = "jsonpath={.items[*].subsets[*].addresses[*].targetRef.name}";
        let found = t.kubectl.ok(&["get", "endpoints", "-o", names]).split_whitespace().count();
        if found == 100 { Ok(()) } else { Err(found.to_string()) }
    });
}

/// Three pods that say who they are, and a Service of them.
fn three(t: &Sandbox, app: &str, image: &str, service: &str) {
    t.kubectl.apply(&format!(
        "
apiVersion: apps/v1
kind: Deployment
metadata: {{name: {app}}}
spec:
  replicas: 3
  selector: {{matchLabels: {{app: {app}}}}}
  template:
    metadata: {{labels: {{app: {app}}}}}
    spec:
      runtimeClassName: wasmtime
      terminationGracePeriodSeconds: 1
      containers:
      - name: main
        image: {image}
        ports: [{{containerPort: 8080}}]
        env: [{{name: POD_NAME, valueFrom: {{fieldRef: {{fieldPath: metadata.name}}}}}}]
---
apiVersion: v1
kind: Service
metadata: {{name: {app}}}
spec: {{selector: {{app: {app}}}, ports: [{{port: 80, targetPort: 8080}}], {service}}}
"
    ));
    t.kubectl.ok(&["rollout", "status", &format!("deployment/{app}"), "--timeout=60s"]);
}

/// Asks until answers are all the same ten times in a row, or, when they need not be, until two differ.
fn answers(ask: &dyn Fn() -> Result<String, String>, same: bool) {
    eventually(if same { "one pod answers" } else { "several pods answer" }, || {
        let answers: Result<Vec<String>, String> = (0..10).map(|_| ask()).collect();
        let answers = answers?;
        let all_same = answers.iter().all(|answer| *answer == answers[0]);
        if all_same == same { Ok(()) } else { Err(format!("{answers:?}")) }
    });
}

/// Conformance: "Service, NodePort type, session affinity to ClientIP"; "Service, NodePort type, session affinity to None".
#[test]
fn a_client_of_a_node_port_stays_with_its_pod_while_it_is_to() {
    let t = sandbox();
    three(&t, "hello", t.hello_image(), "type: NodePort, sessionAffinity: ClientIP");
    let port = t.kubectl.ok(&["get", "service", "hello", "-o", "jsonpath={.spec.ports[0].nodePort}"]);
    let door: SocketAddr = format!("127.0.0.1:{port}").parse().unwrap();
    let ask = || get_ok(door, "localhost", "/").map(|answer| answer.body);
    switches_affinity(&t, "hello", &ask);
    let patch = r#"{"spec": {"sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 1}}}}"#;
    t.kubectl.ok(&["patch", "service", "hello", "-p", patch]);
    answers(&ask, true);
    answers(
        &|| {
            // The client is silent for longer than it is remembered.
            std::thread::sleep(Duration::from_millis(1_200));
            ask()
        },
        false,
    );
}

/// Conformance: "Service, ClusterIP type, session affinity to ClientIP"; "Service, ClusterIP type, session affinity to
/// None"; "Networking, intra pod http".
#[test]
fn a_pod_stays_with_another_while_it_is_to() {
    let t = sandbox();
    for name in ["front", "back"] {
        t.cluster.load_image(&crate::repo(&format!("examples/chain/{name}.wasm")), &format!("localhost/{name}:latest"));
    }
    // The client asks for `back` in the namespace `default`.
    let home =
        Sandbox { cluster: t.cluster.clone(), kubectl: t.kubectl.in_namespace("default"), namespace: "default".into() };
    three(&home, "back", "localhost/back:latest", "sessionAffinity: ClientIP");
    t.kubectl.apply(
        "
apiVersion: v1
kind: Pod
metadata: {name: client}
spec:
  runtimeClassName: wasmtime
  containers: [{name: front, image: 'localhost/front:latest', ports: [{containerPort: 8080}]}]
",
    );
    t.kubectl.ok(&["wait", "--for=condition=Ready", "pod/client", "--timeout=60s"]);
    let path = format!("/api/v1/namespaces/{}/pods/client/proxy/", t.namespace);
    switches_affinity(&home, "back", &|| {
        let outcome = t.kubectl.run(&["get", "--raw", &path]);
        if outcome.success { Ok(outcome.stdout) } else { Err(outcome.stderr) }
    });
    home.kubectl.ok(&["delete", "deployment,service", "back"]);
}

fn switches_affinity(t: &Sandbox, service: &str, ask: &dyn Fn() -> Result<String, String>) {
    answers(ask, true);
    let switch = |to: &str| {
        let patch = format!(r#"{{"spec": {{"sessionAffinity": "{to}"}}}}"#);
        t.kubectl.ok(&["patch", "service", service, "-p", &patch]);
    };
    switch("None");
    answers(ask, false);
    switch("ClientIP");
    answers(ask, true);
}
