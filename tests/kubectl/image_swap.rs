//! `kubectl set image`: on a running pod in place, and on a Deployment, under load.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use k8w_testkit::{eventually, get};

use super::{Sandbox, repo, sandbox};

impl Sandbox {
    /// Images of two components that answer differently.
    fn two_images(&self) -> [&'static str; 2] {
        let images = ["localhost/swap-hello:latest", "localhost/swap-back:latest"];
        self.cluster.load_image(&repo("examples/hello/hello.wasm"), images[0]);
        self.cluster.load_image(&repo("examples/chain/back.wasm"), images[1]);
        images
    }

    /// A Service and an Ingress for what is labelled `app: swap`; gives the host.
    fn expose(&self) -> String {
        let host = format!("swap.{}.test", self.namespace);
        self.kubectl.apply(&format!(
            "
apiVersion: v1
kind: Service
metadata: {{name: swap}}
spec: {{selector: {{app: swap}}, ports: [{{port: 80, targetPort: 8080}}]}}
---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {{name: swap}}
spec: {{rules: [{{host: {host}, http: {{paths: [{{path: /, pathType: Prefix, backend: {{service: {{name: swap, port: {{number: 80}}}}}}}}]}}}}]}}
"
        ));
        host
    }

    /// Makes the change while clients ask without a pause, until they have the new answer. None of them sees an error.
    fn under_load(&self, host: &str, change: impl FnOnce()) {
        let address = self.cluster.ingress_http();
        let ask = || get(address, host, "/");
        let old = eventually("it answers", || match ask() {
            Ok(answer) if answer.status == 200 => Ok(answer.body),
            other => Err(format!("{other:?}")),
        });
        let (stop, answered) = (AtomicBool::new(false), AtomicUsize::new(0));
        let more = |count: usize| {
            let wanted = answered.load(Ordering::Relaxed) + count;
            eventually("requests are answered", || match answered.load(Ordering::Relaxed) {
                enough if enough >= wanted => Ok(()),
                few => Err(few.to_string()),
            });
        };
        std::thread::scope(|scope| {
            let client = || {
                while !stop.load(Ordering::Relaxed) {
                    let answer = ask().unwrap();
                    assert_eq!(answer.status, 200, "{answer:?}");
                    answered.fetch_add(1, Ordering::Relaxed);
                }
            };
            let clients: Vec<_> = (0..4).map(|_| scope.spawn(client)).collect();
            more(50);
            change();
            eventually("the new image answers", || match ask() {
                Ok(answer) if answer.status == 200 && answer.body != old => Ok(()),
                other => Err(format!("{other:?}")),
            });
            more(50);
            stop.store(true, Ordering::Relaxed);
            for client in clients {
                client.join().unwrap();
            }
        });
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
    let host = sandbox.expose();
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
    let host = sandbox.expose();
    sandbox.under_load(&host, || {
        sandbox.kubectl.ok(&["set", "image", "deployment/swap", &format!("main={new}")]);
        sandbox.kubectl.ok(&["rollout", "status", "deployment/swap", "--timeout=60s"]);
    });
}
