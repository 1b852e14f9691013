//! NetworkPolicies about what is not a pod.

use k8w_testkit::{Kubectl, TestCluster, eventually, get};

use crate::{guest, hello_pod, own_cluster};

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
