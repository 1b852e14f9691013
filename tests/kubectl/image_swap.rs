//! `kubectl set image`: on a running pod in place, and on a Deployment, under load by the ingress and straight at a node port.

use std::net::{Ipv4Addr, SocketAddr};

use k8w_testkit::{Load, eventually, get_ok};

use crate::{Sandbox, repo, sandbox};

impl Sandbox {
    /// Images of two components that answer differently.
    fn two_images(&self) -> [&'static str; 2] {
        let images = ["localhost/swap-hello:latest", "localhost/swap-back:latest"];
        self.cluster.load_image(&repo("examples/hello/hello.wasm"), images[0]);
        self.cluster.load_image(&repo("examples/chain/back.wasm"), images[1]);
        images
    }

    /// A port of the node that leads to the Service `swap`, once it answers.
    fn node_port(&self) -> SocketAddr {
        self.kubectl.ok(&["patch", "service", "swap", "-p", r#"{"spec": {"type": "NodePort"}}"#]);
        let port = self.kubectl.ok(&["get", "service", "swap", "-o", "jsonpath={.spec.ports[0].nodePort}"]);
        let door = SocketAddr::from((Ipv4Addr::LOCALHOST, port.parse().unwrap()));
        eventually("the node port answers", || get_ok(door, "any", "/"));
        door
    }

    /// Makes the change while clients ask without a pause, until they have the new answer. None of them sees an error.
    fn under_load(&self, host: &str, change: impl FnOnce()) {
        let doors = [self.cluster.ingress_http(), self.node_port()];
        let old = get_ok(doors[0], host, "/").unwrap().body;
        let loads = doors.map(|door| Load::start(door, host));
        loads.iter().for_each(|load| load.answers(50));
        change();
        for door in doors {
            eventually("the new image answers", || match get_ok(door, host, "/")? {
                answer if answer.body != old => Ok(()),
                answer => Err(format!("{answer:?}")),
            });
        }
        loads.iter().for_each(|load| load.answers(50));
        for (load, way) in loads.into_iter().zip(["the ingress", "the node port"]) {
            let (asked, failures) = load.stop();
            assert_eq!(failures, Vec::<String>::new(), "of {asked} requests by {way}");
        }
    }
}

#[test]
fn a_pods_image_is_swapped_in_place_without_a_failed_request() {
    let sandbox = sandbox();
    let [old, new] = sandbox.two_images();
    sandbox.kubectl.apply(&format!(
        "
apiVersion: v1
kind: Pod
metadata: {{name: swap, labels: {{app: swap}}}}
spec:
  runtimeClassName: wasmtime
  containers:
  - name: main
    image: {old}
    ports: [{{containerPort: 8080}}]
    readinessProbe: {{httpGet: {{port: 8080, path: /}}, periodSeconds: 1}}
"
    ));
    let host = sandbox.expose("pod", "swap");
    sandbox.under_load(&host, || {
        sandbox.kubectl.ok(&["set", "image", "pod/swap", &format!("main={new}")]);
    });
    let status = "jsonpath={.status.containerStatuses[0].restartCount} {.status.containerStatuses[0].image} {.status.containerStatuses[0].ready} {.status.containerStatuses[0].lastState.terminated.exitCode}";
    eventually("the status shows the new image", || match sandbox.kubectl.ok(&["get", "pod", "swap", "-o", status]) {
        shown if shown == format!("1 {new} true 0") => Ok(()),
        shown => Err(shown),
    });
    let events = sandbox.kubectl.ok(&["events", "--for", "pod/swap"]);
    assert!(events.contains("Container main definition changed, will be restarted"), "{events}");
}

#[test]
fn a_deployments_image_is_rolled_out_without_a_failed_request() {
    let sandbox = sandbox();
    let [old, new] = sandbox.two_images();
    sandbox.kubectl.apply(&format!(
        "
apiVersion: apps/v1
kind: Deployment
metadata: {{name: swap}}
spec:
  replicas: 2
  selector: {{matchLabels: {{app: swap}}}}
  strategy: {{rollingUpdate: {{maxUnavailable: 0, maxSurge: 1}}}}
  template:
    metadata: {{labels: {{app: swap}}}}
    spec:
      runtimeClassName: wasmtime
      containers: [{{name: main, image: {old}, ports: [{{containerPort: 8080}}]}}]
"
    ));
    let host = sandbox.expose("deployment", "swap");
    sandbox.under_load(&host, || {
        sandbox.kubectl.ok(&["set", "image", "deployment/swap", &format!("main={new}")]);
        sandbox.kubectl.ok(&["rollout", "status", "deployment/swap", "--timeout=60s"]);
    });
}
