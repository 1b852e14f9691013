//! Services: addresses of load balancers, Endpoints made by hand, ranges of nodes.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};

use k8w_testkit::{eventually, get};

use crate::sandbox;

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
    eventually("the balancer answers", || match get(door, "localhost", "/") {
        Ok(answer) if answer.status == 200 => Ok(()),
        other => Err(format!("{other:?}")),
    });
    let row = t.kubectl.ok(&["get", "service", "hello", "--no-headers"]);
    assert!(row.contains("LoadBalancer") && row.contains("127.0.0.1"), "{row}");

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
fn the_node_has_a_range_of_addresses() {
    let t = sandbox();
    eventually("the node has its range", || {
        let range =
            t.kubectl.ok(&["get", "nodes", "-o", "jsonpath={.items[0].spec.podCIDR} {.items[0].spec.podCIDRs[0]}"]);
        if range == "10.244.0.0/24 10.244.0.0/24" { Ok(()) } else { Err(range) }
    });
}
