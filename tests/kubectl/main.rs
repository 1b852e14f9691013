//! kubectl, unmodified, against the real binary: a module per family of commands.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod access;
mod annotations;
mod api;
mod apply;
mod budgets;
mod calls;
mod config;
mod custom_resources;
mod deployments;
mod disk;
mod drain;
mod events;
mod get;
mod grace;
mod hooks;
mod image_swap;
mod ingress;
mod jobs;
mod limits;
mod logs;
mod network_policies;
mod node_admission;
mod node_api;
mod pod_network;
mod pods;
mod probes;
mod proxy;
mod refusals;
mod replace;
mod resize;
mod scheduling;
mod security_contexts;
mod service_ranges;
mod services;
mod sockets;
mod static_pods;
mod streams;
mod terminal;
mod tls;
mod traps;
mod trust_bundles;
mod usage;
mod volumes;
mod watch;
mod websockets;
mod workloads;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use k8w_testkit::{ClusterOptions, Kubectl, TestCluster, eventually, get_ok, guest, shared};

/// A namespace of its own on the shared cluster.
struct Sandbox {
    cluster: Arc<TestCluster>,
    kubectl: Kubectl,
    namespace: String,
}

fn sandbox() -> Sandbox {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    let cluster = shared(env!("CARGO_BIN_EXE_k8w"));
    let namespace = format!("t{}", NEXT.fetch_add(1, Ordering::Relaxed));
    let kubectl = cluster.namespace(&namespace);
    Sandbox { cluster, kubectl, namespace }
}

/// A cluster of the test's own, with a namespace, and the example's image on its node, whose name comes last.
fn own_cluster(arguments: &[&str]) -> (TestCluster, Kubectl, String) {
    let arguments = arguments.iter().map(|argument| (*argument).to_owned()).collect();
    let cluster =
        TestCluster::start(env!("CARGO_BIN_EXE_k8w"), ClusterOptions { arguments, ..ClusterOptions::default() });
    cluster.load_image(&repo("examples/hello/hello.wasm"), HELLO);
    let kubectl = cluster.namespace("t");
    let node = kubectl.ok(&["get", "nodes", "-o", "jsonpath={.items[0].metadata.name}"]);
    (cluster, kubectl, node)
}

/// The image of `examples/hello`.
const HELLO: &str = "localhost/hello:latest";

/// The manifest of a pod of `examples/hello`, whose spec and container have these fields more, in YAML's flow style.
fn hello_pod(name: &str, spec: &str, container: &str) -> String {
    format!(
        "
apiVersion: v1
kind: Pod
metadata: {{name: {name}, labels: {{app: {name}}}}}
spec: {{
  runtimeClassName: wasmtime,
  containers: [{{name: hello, image: '{HELLO}', ports: [{{containerPort: 8080}}], {container}}}],
  {spec}
  }}
"
    )
}

/// Likewise of a Deployment or a DaemonSet.
fn hello_workload(kind: &str, name: &str, spec: &str, pod: &str) -> String {
    format!(
        "
---
apiVersion: apps/v1
kind: {kind}
metadata: {{name: {name}}}
spec: {{
  selector: {{matchLabels: {{app: {name}}}}},
  template: {{
    metadata: {{labels: {{app: {name}}}}},
    spec: {{
      runtimeClassName: wasmtime,
      terminationGracePeriodSeconds: 1,
      containers: [{{name: hello, image: '{HELLO}', ports: [{{containerPort: 8080}}]}}],
      {pod}
      }}
    }},
  {spec}
  }}
"
    )
}

/// A repository file.
fn repo(path: &str) -> std::path::PathBuf {
    std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

impl Sandbox {
    /// A Service of something whose port is 8080, and an Ingress of that, both of its name; gives the host, once it
    /// answers.
    fn expose(&self, kind: &str, name: &str) -> String {
        self.kubectl.ok(&["expose", kind, name, "--port=80", "--target-port=8080"]);
        let host = format!("{}.test", self.namespace);
        let rule = format!("--rule={host}/*={name}:80");
        self.kubectl.ok(&["create", "ingress", name, "--class=k8w", &rule]);
        eventually("the ingress answers", || get_ok(self.cluster.ingress_http(), &host, "/"));
        host
    }

    /// The image of `examples/hello`, on the cluster's node.
    fn hello_image(&self) -> &'static str {
        self.cluster.load_image(&repo("examples/hello/hello.wasm"), HELLO);
        HELLO
    }

    /// The image of `examples/cli`, on the cluster's node.
    fn cli_image(&self) -> &'static str {
        self.cluster.load_image(&repo("examples/cli/cli.wasm"), "localhost/cli:latest");
        "localhost/cli:latest"
    }

    /// The image of a server whose handler is this WebAssembly text, on the cluster's node.
    fn server_image(&self, name: &str, handler: &str) -> String {
        let text = format!(
            r#"(component
  (import "wasi:http/types@0.2.0" (instance $types
    (export "incoming-request" (type (sub resource)))
    (export "response-outparam" (type (sub resource)))))
  (alias export $types "incoming-request" (type $request))
  (alias export $types "response-outparam" (type $out))
  (core module $module (func (export "handle") (param i32 i32) {handler}))
  (core instance $core (instantiate $module))
  (func $handle (param "request" (own $request)) (param "response-out" (own $out))
    (canon lift (core func $core "handle")))
  (instance $handler (export "handle" (func $handle)))
  (export "wasi:http/incoming-handler@0.2.0" (instance $handler)))"#
        );
        self.text_image(name, &text)
    }

    /// The image `localhost/NAME:latest` of WebAssembly text, on the cluster's node.
    fn text_image(&self, name: &str, text: &str) -> String {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(&file, wat::parse_str(text).unwrap()).unwrap();
        let image = format!("localhost/{name}:latest");
        self.cluster.load_image(file.path(), &image);
        image
    }

    /// The guest that does what a test asks for, on the cluster's node; `None` where nobody has built it.
    fn probe_image(&self) -> Option<&'static str> {
        const PROBE: &str = "localhost/probe:latest";
        self.cluster.load_image(&guest("probe.wasm")?, PROBE);
        Some(PROBE)
    }

    /// A pod of [`probe_image`](Self::probe_image) whose spec and container have these fields more, once it is ready; `false`
    /// where nobody has built that.
    fn probe_pod(&self, name: &str, spec: &str, container: &str) -> bool {
        let Some(image) = self.probe_image() else { return false };
        self.kubectl.apply(&hello_pod(name, spec, container).replace(HELLO, image));
        self.kubectl.ok(&["wait", "--for=condition=Ready", &format!("pod/{name}"), "--timeout=60s"]);
        true
    }

    /// Applies a pod of one container that is not started again, both it and its volumes in YAML's flow style.
    fn ends_by_itself(&self, name: &str, volumes: &str, container: &str) {
        self.kubectl.apply(&format!(
            "
apiVersion: v1
kind: Pod
metadata: {{name: {name}}}
spec:
  runtimeClassName: wasmtime
  restartPolicy: Never
  terminationGracePeriodSeconds: 1
  volumes: [{volumes}]
  containers: [{container}]
"
        ));
    }

    /// Applies [`hello_pod`].
    fn hello_pod(&self, name: &str, spec: &str, container: &str) {
        self.hello_image();
        self.kubectl.apply(&hello_pod(name, spec, container));
    }

    /// A Deployment `hello` of that many replicas, rolled out.
    fn hello(&self, replicas: usize) {
        let image = self.hello_image();
        self.kubectl.apply(&format!(
            "
apiVersion: apps/v1
kind: Deployment
metadata: {{name: hello, labels: {{app: hello}}}}
spec:
  replicas: {replicas}
  selector: {{matchLabels: {{app: hello}}}}
  template:
    metadata: {{labels: {{app: hello}}}}
    spec:
      runtimeClassName: wasmtime
      containers:
      - name: hello
        image: {image}
        ports: [{{containerPort: 8080}}]
"
        ));
        self.kubectl.ok(&["rollout", "status", "deployment/hello", "--timeout=60s"]);
    }
}
