//! NetworkPolicies of manifests: whom a pod reaches by labels, namespaces, blocks of addresses and ports.

use k8w_testkit::{Kubectl, TestCluster, eventually, get, send};

use crate::{Sandbox, guest, hello_pod, own_cluster, sandbox};

/// What a component that asks the API server at a host answers.
fn asks(cluster: &TestCluster, host: &str, expected: u16) {
    eventually(&format!("{host} is answered with {expected}"), || {
        let answer = get(cluster.ingress_http(), "asks.test", &format!("/{host}"))?;
        if answer.status == expected { Ok(()) } else { Err(format!("{answer:?}")) }
    });
}

fn allow(kubectl: &Kubectl, block: &str) {
    kubectl.apply(&format!(
        "
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {{name: egress}}
spec: {{podSelector: {{}}, policyTypes: [Egress], egress: [{{to: [{{ipBlock: {{cidr: {block}}}}}]}}]}}
"
    ));
}

/// Wherever the node of `k8w up` reaches it.
#[test]
fn the_api_server_is_known_by_the_endpoints_of_its_service() {
    let Some(client) = guest("api-client.wasm") else { return };
    let (cluster, kubectl, _) = own_cluster(&["--advertise-address", "192.0.2.1"]);
    cluster.load_image(&client, "localhost/hello:latest");
    kubectl.apply(&hello_pod("asks", "", ""));
    kubectl.ok(&["wait", "--for=condition=Ready", "pod/asks", "--timeout=60s"]);
    kubectl.ok(&["expose", "pod", "asks", "--port=80", "--target-port=8080"]);
    kubectl.ok(&["create", "ingress", "asks", "--rule=asks.test/*=asks:80"]);
    let path = "jsonpath={.subsets[0].addresses[0].ip}:{.subsets[0].ports[0].port}";
    let shown = kubectl.ok(&["get", "endpoints", "kubernetes", "-n", "default", "-o", path]);
    assert!(shown.starts_with("192.0.2.1:"), "{shown}");
    // Its account may list nothing, says the API server.
    let hosts = ["10.96.0.1", shown.as_str()];
    let (answered, refused) = (403, 502);
    hosts.iter().for_each(|host| asks(&cluster, host, answered));
    for (block, expected) in [("127.0.0.0/8", refused), ("192.0.2.1/32", answered), ("10.96.0.0/16", refused)] {
        allow(&kubectl, block);
        hosts.iter().for_each(|host| asks(&cluster, host, expected));
    }
}

/// TCP and UDP ports of a server that says its name at all of them.
const TCP: [u16; 4] = [7000, 7001, 7002, 7003];
const UDP: [u16; 2] = [5300, 5301];

/// A pod that listens at [`TCP`] and [`UDP`]; its address.
fn says_its_name(kubectl: &Kubectl, image: &str, name: &str, app: &str) -> String {
    let ports = |ports: &[u16]| ports.iter().map(|port| format!("'{port}={name}'")).collect::<Vec<_>>().join(", ");
    kubectl.apply(&format!(
        "
apiVersion: v1
kind: Pod
metadata: {{name: {name}, labels: {{app: {app}}}}}
spec:
  runtimeClassName: wasmtime
  terminationGracePeriodSeconds: 1
  containers:
  - {{name: tcp, image: '{image}', args: [words, tcp, {}]}}
  - {{name: udp, image: '{image}', args: [words, udp, {}]}}
",
        ports(&TCP),
        ports(&UDP),
    ));
    eventually(&format!("{name} listens"), || {
        let logs = ["tcp", "udp"].map(|container| kubectl.run(&["logs", name, "-c", container]).stdout);
        if logs.iter().all(|log| log == "listening\n") { Ok(()) } else { Err(format!("{logs:?}")) }
    });
    kubectl.ok(&["get", "pod", name, "-o", "jsonpath={.status.podIP}"])
}

/// Waits until a policy with these rules lets the client reach these, and nothing else, of all `questions`.
fn lets(t: &Sandbox, host: &str, egress: &str, questions: &[(String, &str)], reached: &[&str]) {
    let policy = format!(
        "
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {{name: egress}}
spec: {{podSelector: {{matchLabels: {{app: client}}}}, policyTypes: [Egress], egress: {egress}}}
"
    );
    t.kubectl.apply(&policy);
    let asked: Vec<&str> = questions.iter().map(|(question, _)| question.as_str()).collect();
    let what = format!("{egress} lets the client reach {reached:?}");
    eventually(&what, || {
        let answer =
            send(t.cluster.ingress_http(), "POST", "/questions", &[("host", host)], asked.join("\n").as_bytes())?;
        let answers: Vec<&str> = answer.body.lines().collect();
        let known = answers.len() == questions.len()
            && questions.iter().zip(&answers).all(|((question, name), answer)| {
                let port = question.rsplit(':').next().unwrap();
                if reached.contains(&format!("{name}:{port}").as_str()) {
                    answer.starts_with(&format!("{name} to "))
                } else {
                    *answer == "connection-refused"
                }
            });
        if known { Ok(()) } else { Err(format!("{questions:?}: {answer:?}")) }
    });
}

#[test]
fn a_pod_reaches_the_pods_namespaces_blocks_and_ports_that_its_policy_names_and_no_others() {
    let t = sandbox();
    if !t.probe_pod("client", "", "") {
        return;
    }
    let image = t.probe_image().unwrap();
    let host = t.expose("pod", "client");
    let neighbour = format!("{}-neighbour", t.namespace);
    let elsewhere = t.cluster.namespace(&neighbour);
    let near = says_its_name(&t.kubectl, image, "near", "near");
    let far = says_its_name(&t.kubectl, image, "far", "far");
    let other = says_its_name(&elsewhere, image, "other", "near");
    let mut questions = Vec::new();
    for (ip, name) in [(&near, "near"), (&far, "far"), (&other, "other")] {
        questions.extend(TCP.map(|port| (format!("tcp {ip}:{port}"), name)));
        questions.extend(UDP.map(|port| (format!("udp {ip}:{port}"), name)));
    }
    let all = |names: &[&str]| -> Vec<String> {
        let ports = || TCP.iter().chain(&UDP);
        names.iter().flat_map(|name| ports().map(move |port| format!("{name}:{port}"))).collect()
    };
    let lets = |egress: &str, reached: &[String]| {
        lets(&t, &host, egress, &questions, &reached.iter().map(String::as_str).collect::<Vec<_>>());
    };
    let in_neighbour = format!("namespaceSelector: {{matchLabels: {{kubernetes.io/metadata.name: {neighbour}}}}}");
    let labelled = "podSelector: {matchLabels: {app: near}}";
    lets("[{}]", &all(&["near", "far", "other"]));
    lets("[]", &[]);
    lets(&format!("[{{to: [{{{labelled}}}]}}]"), &all(&["near"]));
    lets(&format!("[{{to: [{{{in_neighbour}}}]}}]"), &all(&["other"]));
    lets(&format!("[{{to: [{{{in_neighbour}, podSelector: {{matchLabels: {{app: far}}}}}}]}}]"), &[]);
    lets(&format!("[{{to: [{{namespaceSelector: {{}}, {labelled}}}]}}]"), &all(&["near", "other"]));
    lets(&format!("[{{to: [{{ipBlock: {{cidr: 0.0.0.0/0, except: [{far}/32]}}}}]}}]"), &all(&["near", "other"]));
    lets(&format!("[{{to: [{{ipBlock: {{cidr: {far}/32}}}}]}}]"), &all(&["far"]));
    lets(
        "[{ports: [{port: 7001, endPort: 7002}]}]",
        &["near", "far", "other"].map(|name| [7001, 7002].map(|port| format!("{name}:{port}"))).concat(),
    );
    lets("[{ports: [{port: 5301, protocol: UDP}]}]", &["near:5301", "far:5301", "other:5301"].map(str::to_owned));
    lets(
        &format!("[{{to: [{{{labelled}}}], ports: [{{port: 5300, endPort: 7000, protocol: UDP}}, {{port: 7003}}]}}]"),
        &["near:5300", "near:5301", "near:7003"].map(str::to_owned),
    );
    t.kubectl.ok(&["delete", "namespace", &neighbour, "--wait=false"]);
}
