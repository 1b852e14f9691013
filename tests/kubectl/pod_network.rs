//! Addresses and ports of pods as guests have them, without any privilege: each has all ports, a loopback of its own, and datagrams.

use k8w_testkit::{eventually, get_ok};

use crate::{Sandbox, guest, sandbox, sockets};

/// The guests that do what a test asks for, of WASI 0.2 and 0.3, on the cluster's node; nothing where nobody has built them.
fn probes(t: &Sandbox) -> Vec<(&'static str, String)> {
    let mut images = Vec::new();
    for (version, file) in [("p2", "probe.wasm"), ("p3", "probe-p3.wasm")] {
        let Some(file) = guest(file) else { return Vec::new() };
        let image = format!("localhost/probe-{version}:latest");
        t.cluster.load_image(&file, &image);
        images.push((version, image));
    }
    images
}

/// A container that is given these arguments, in YAML's flow style.
fn container(name: &str, image: &str, arguments: &[&str]) -> String {
    format!("{{name: {name}, image: '{image}', args: {arguments:?}}}")
}

fn pod(t: &Sandbox, name: &str, policy: &str, containers: &[String]) {
    t.kubectl.apply(&format!(
        "
apiVersion: v1
kind: Pod
metadata: {{name: {name}, labels: {{app: {name}}}}}
spec:
  runtimeClassName: wasmtime
  restartPolicy: {policy}
  terminationGracePeriodSeconds: 1
  containers: [{}]
",
        containers.join(", ")
    ));
}

fn service(t: &Sandbox, name: &str, protocol: &str, port: u16) {
    t.kubectl.apply(&format!(
        "
apiVersion: v1
kind: Service
metadata: {{name: {name}}}
spec: {{selector: {{app: {name}}}, ports: [{{protocol: {protocol}, port: 80, targetPort: {port}}}]}}
"
    ));
}

fn field(t: &Sandbox, what: &str, field: &str) -> String {
    eventually(&format!("{what} has {field}"), || {
        let found = t.kubectl.ok(&["get", what, "-o", &format!("jsonpath={{{field}}}")]);
        if found.is_empty() { Err("none yet".to_owned()) } else { Ok(found) }
    })
}

fn ip(t: &Sandbox, pod: &str) -> String {
    field(t, &format!("pod/{pod}"), ".status.podIP")
}

/// Waits until a container has said this.
fn says(t: &Sandbox, pod: &str, container: &str, words: &str) {
    eventually(&format!("{pod} says {words:?}"), || {
        let outcome = t.kubectl.run(&["logs", pod, "-c", container]);
        if outcome.success && outcome.stdout == words { Ok(()) } else { Err(outcome.stdout + &outcome.stderr) }
    });
}

/// A port at which pods listen, and nobody on the host.
const PORT: &str = "5399";

/// Conformance: "Networking, intra pod udp".
#[test]
fn datagrams_are_exchanged_by_address_and_through_a_service() {
    let t = sandbox();
    for (version, image) in probes(&t) {
        let [first, second] = ["first", "second"].map(|name| format!("{name}-{version}"));
        for name in [&first, &second] {
            pod(&t, name, "Always", &[container("hears", &image, &["hear", "0.0.0.0", PORT, name, "1000"])]);
            service(&t, name, "UDP", PORT.parse().unwrap());
        }
        for name in [&first, &second] {
            says(&t, name, "hears", &format!("listening on {PORT}\n"));
        }
        let cluster_ip = |name: &str| field(&t, &format!("service/{name}"), ".spec.clusterIP");
        for (number, (at, port, who)) in [
            (ip(&t, &first), PORT, &first),
            (ip(&t, &second), PORT, &second),
            (cluster_ip(&first), "80", &first),
            (cluster_ip(&second), "80", &second),
        ]
        .into_iter()
        .enumerate()
        {
            let name = format!("says-{version}-{number}");
            let answered = format!("{who} heard hello (true), {who} heard hello (true)\n");
            eventually(&format!("{who} answers at {at}:{port}"), || {
                pod(&t, &name, "Never", &[container("says", &image, &["say", &at, port, "hello"])]);
                let ended = "--for=jsonpath={.status.phase}=Succeeded";
                t.kubectl.ok(&["wait", ended, &format!("pod/{name}"), "--timeout=60s"]);
                let said = t.kubectl.ok(&["logs", &name]);
                // The tables may not know the endpoint yet.
                t.kubectl.ok(&["delete", "pod", &name, "--timeout=60s"]);
                if said == answered { Ok(()) } else { Err(said) }
            });
        }
        let listening = sockets::listening(t.cluster.process_id());
        assert!(!listening.contains(&format!("udp {PORT}")), "{listening:?}");
    }
    // Where nobody listens, and where nobody is.
    let Some(image) = t.probe_image() else { return };
    let reaches = |name: &str, at: &str, port: &str, told: &str| {
        pod(&t, name, "Never", &[container("reaches", image, &["reach", at, port])]);
        says(&t, name, "reaches", told);
    };
    reaches("somebody", &ip(&t, "first-p2"), PORT, "1 sent\n");
    reaches("another-port", &ip(&t, "first-p2"), "5398", "connection-refused\n");
    reaches("nobody", "10.96.255.254", "80", "connection-refused\n");
}

#[test]
fn two_pods_listen_on_one_port_and_the_loopback_of_each_is_its_own() {
    let t = sandbox();
    for (version, image) in probes(&t) {
        let refused = if version == "p3" { "ErrorCode::ConnectionRefused" } else { "connection-refused" };
        let names = ["first", "second", "third"].map(|name| format!("{name}-{version}"));
        let host = |name: &str| format!("{name}.{}.test", t.namespace);
        let serves = format!("{{name: serves, image: '{image}', ports: [{{containerPort: 8090}}]}}");
        for name in &names {
            let listens = container("listens", &image, &["listen", "0.0.0.0", "8080", name, "1000"]);
            let containers =
                if name.starts_with("third") { vec![serves.clone()] } else { vec![listens, serves.clone()] };
            pod(&t, name, "Always", &containers);
            service(&t, name, "TCP", 8080);
            t.kubectl.ok(&["expose", "pod", name, &format!("--name={name}-serves"), "--port=80", "--target-port=8090"]);
            let rule = format!("--rule={}/*={name}-serves:80", host(name));
            t.kubectl.ok(&["create", "ingress", name, "--class=k8w", &rule]);
        }
        let [first, second, third] = &names;
        for name in &names {
            t.kubectl.ok(&["wait", "--for=condition=Ready", &format!("pod/{name}"), "--timeout=60s"]);
        }
        for name in [first, second] {
            says(&t, name, "listens", "listening on 8080\n");
        }
        let asks = |pod: &str, at: &str, answer: &str| {
            eventually(&format!("{pod} asks {at} and is told {answer:?}"), || {
                let told = get_ok(t.cluster.ingress_http(), &host(pod), &format!("/ask?{at}"))?;
                if told.body == answer { Ok(()) } else { Err(told.body) }
            });
        };
        for pod in &names {
            for listener in [first, second] {
                let heard = format!("{listener} heard hello");
                asks(pod, &format!("{}:8080", ip(&t, listener)), &heard);
                asks(pod, &format!("{}:80", field(&t, &format!("service/{listener}"), ".spec.clusterIP")), &heard);
            }
            asks(pod, &format!("{}:8080", ip(&t, third)), refused);
        }
        asks(first, "127.0.0.1:8080", &format!("{first} heard hello"));
        asks(second, "127.0.0.1:8080", &format!("{second} heard hello"));
        asks(third, "127.0.0.1:8080", refused);
        let listening = sockets::listening(t.cluster.process_id());
        let ingress = format!("tcp {}", t.cluster.ingress_http().port());
        assert!(listening.contains(&ingress) && !listening.contains("tcp 8080"), "{listening:?}");
    }
}
