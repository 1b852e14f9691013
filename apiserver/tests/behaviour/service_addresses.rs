//! <https://kubernetes.io/docs/concepts/services-networking/cluster-ip-allocation/>

use crate::api::{Api, version};
use serde_json::{Value, json};

const ADDRESSES: &str = "/apis/networking.k8s.io/v1/ipaddresses";
const SERVICES: &str = "/api/v1/namespaces/default/services";

fn service(name: &str, spec: Value) -> Value {
    let mut service = json!({"metadata": {"name": name}, "spec": {"ports": [{"port": 80}], "selector": {"a": "b"}}});
    for (field, value) in spec.as_object().unwrap() {
        service["spec"][field] = value.clone();
    }
    service
}

async fn keys(api: &Api, prefix: &str) -> usize {
    use k8w_storage::datastore::{KeyRange, ListRequest};
    let range = KeyRange::prefix(prefix.to_string());
    let request = ListRequest { range, start_key: None, limit: 0, revision: None };
    api.datastore.list(request).await.unwrap().items.len()
}

#[tokio::test]
async fn the_create_response_has_the_cluster_ip() {
    let api = Api::new().await;
    let created = api.post(SERVICES, &service("a", json!({}))).await.ok();
    let address = created["spec"]["clusterIP"].as_str().unwrap();
    assert!(address.starts_with("10.96."), "{address}");
    assert_eq!(created["spec"]["clusterIPs"], json!([address]));
    assert_eq!(created["spec"]["ipFamilies"], json!(["IPv4"]));
    let held = api.get(&format!("{ADDRESSES}/{address}")).await.ok();
    assert_eq!(held["spec"]["parentRef"], json!({"resource": "services", "namespace": "default", "name": "a"}));
    assert_eq!(held["metadata"]["labels"]["ipaddress.kubernetes.io/managed-by"], "ipallocator.k8s.io");
    api.delete(&format!("{SERVICES}/a")).await.ok();
    assert_eq!(api.get(&format!("{ADDRESSES}/{address}")).await.error().0, 404);
}

#[tokio::test]
async fn an_address_that_somebody_else_has_is_taken() {
    let api = Api::new().await;
    let parent = json!({"group": "example.com", "resource": "gateways", "name": "g"});
    let address = json!({"metadata": {"name": "10.96.0.10"}, "spec": {"parentRef": parent}});
    api.post(ADDRESSES, &address).await.ok();
    let wanted = service("a", json!({"clusterIP": "10.96.0.10"}));
    let (_, _, message) = api.post(SERVICES, &wanted).await.error();
    assert!(message.ends_with("failed to allocate IP 10.96.0.10: provided IP is already allocated"), "{message}");
    api.delete(&format!("{ADDRESSES}/10.96.0.10")).await.ok();
    api.post(SERVICES, &wanted).await.ok();
}

#[tokio::test]
async fn addresses_come_from_the_ranges_that_are_ready() {
    let api = Api::new().await;
    let ranges = "/apis/networking.k8s.io/v1/servicecidrs";
    for (name, cidr) in [("kubernetes", "10.96.0.0/30"), ("more", "10.112.0.0/24")] {
        api.post(ranges, &json!({"metadata": {"name": name}, "spec": {"cidrs": [cidr]}})).await.ok();
    }
    let ready = |status: &str| {
        let time = "2024-01-01T00:00:00Z";
        let ready =
            json!({"type": "Ready", "status": status, "reason": "r", "message": "", "lastTransitionTime": time});
        json!({"status": {"conditions": [ready]}})
    };
    let more = format!("{ranges}/more/status");
    api.patch("merge", &more, &ready("False")).await.ok();
    let wanted = service("wanted", json!({"clusterIP": "10.112.0.7"}));
    let (_, _, message) = api.post(SERVICES, &wanted).await.error();
    let mismatch = "failed to allocate IP 10.112.0.7: the provided network does not match the current range";
    assert!(message.ends_with(mismatch), "{message}");
    // The network's own and the broadcast address of the first range are nobody's.
    for name in ["a", "b"] {
        api.post(SERVICES, &service(name, json!({}))).await.ok();
    }
    let (_, _, message) = api.post(SERVICES, &service("c", json!({}))).await.error();
    assert!(message.ends_with("failed to allocate a serviceIP: range is full"), "{message}");
    api.patch("merge", &more, &ready("True")).await.ok();
    api.post(SERVICES, &wanted).await.ok();
    let next = api.post(SERVICES, &service("c", json!({}))).await.ok();
    assert!(next["spec"]["clusterIP"].as_str().unwrap().starts_with("10.112.0."), "{next}");
}

#[tokio::test]
async fn an_address_is_given_once() {
    let api = Api::new().await;
    let wanted = json!({"clusterIP": "10.96.0.10"});
    api.post(SERVICES, &service("a", wanted.clone())).await.ok();
    let (code, reason, message) = api.post(SERVICES, &service("b", wanted)).await.error();
    assert_eq!((code, reason.as_str()), (422, "Invalid"));
    assert_eq!(
        message,
        "Service \"b\" is invalid: spec.clusterIPs: Invalid value: [\"10.96.0.10\"]: failed to allocate IP \
         10.96.0.10: provided IP is already allocated"
    );
    let (_, _, message) = api.post(SERVICES, &service("c", json!({"clusterIP": "10.0.0.1"}))).await.error();
    let mismatch = "failed to allocate IP 10.0.0.1: the provided network does not match the current range";
    assert!(message.ends_with(mismatch), "{message}");
}

#[tokio::test]
async fn node_ports_come_and_go_with_the_type() {
    let api = Api::new().await;
    let created = api.post(SERVICES, &service("a", json!({"type": "NodePort"}))).await.ok();
    let port = created["spec"]["ports"][0]["nodePort"].as_i64().unwrap();
    assert!((30000..32768).contains(&port), "{port}");
    let wanted = json!({"type": "NodePort", "ports": [{"port": 80, "nodePort": port}]});
    let (_, _, message) = api.post(SERVICES, &service("b", wanted)).await.error();
    assert!(
        message
            .ends_with(&format!("spec.ports[0].nodePort: Invalid value: {port}: provided port is already allocated")),
        "{message}"
    );
    let path = format!("{SERVICES}/a");
    let plain = api.patch("merge", &path, &json!({"spec": {"type": "ClusterIP"}})).await.ok();
    assert!(plain["spec"]["ports"][0]["nodePort"].is_null());
    assert_eq!(plain["spec"]["clusterIP"], created["spec"]["clusterIP"]);
    assert_eq!(keys(&api, "/ranges/servicenodeports/").await, 0);
}

#[tokio::test]
async fn a_balancer_of_local_traffic_has_a_port_for_its_health() {
    let api = Api::new().await;
    let local = json!({"type": "LoadBalancer", "externalTrafficPolicy": "Local"});
    let created = api.post(SERVICES, &service("a", local.clone())).await.ok();
    let port = created["spec"]["healthCheckNodePort"].as_i64().unwrap();
    assert!((30000..32768).contains(&port) && created["spec"]["ports"][0]["nodePort"] != port, "{created}");
    assert_eq!(keys(&api, "/ranges/servicenodeports/").await, 2);

    let mut wanted = local.clone();
    wanted["healthCheckNodePort"] = port.into();
    let (code, _, message) = api.post(SERVICES, &service("b", wanted)).await.error();
    let taken = format!("failed to allocate requested HealthCheck NodePort {port}: provided port is already allocated");
    assert!(code == 422 && message.ends_with(&taken), "{message}");
    let (_, _, message) = api.post(SERVICES, &service("c", json!({"healthCheckNodePort": 30999}))).await.error();
    let unwanted = "may only be set when `type` is 'LoadBalancer' and `externalTrafficPolicy` is 'Local'";
    assert!(message.ends_with(unwanted), "{message}");

    let path = format!("{SERVICES}/a");
    let (_, _, message) = api.patch("merge", &path, &json!({"spec": {"healthCheckNodePort": 30999}})).await.error();
    assert!(message.ends_with("spec.healthCheckNodePort: Forbidden: field is immutable"), "{message}");
    let mut again = service("a", local);
    again["metadata"]["resourceVersion"] = version(&created).to_string().into();
    assert_eq!(api.put(&path, &again).await.ok()["spec"]["healthCheckNodePort"], port);

    let cluster = json!({"spec": {"externalTrafficPolicy": "Cluster"}});
    let without = api.patch("merge", &path, &cluster).await.ok();
    assert!(without["spec"]["healthCheckNodePort"].is_null(), "{without}");
    assert_eq!(keys(&api, "/ranges/servicenodeports/").await, 1);
    let back = json!({"spec": {"externalTrafficPolicy": "Local"}});
    assert!(api.patch("merge", &path, &back).await.ok()["spec"]["healthCheckNodePort"].is_i64());
}

#[tokio::test]
async fn protocols_at_one_port_share_a_node_port() {
    let api = Api::new().await;
    let port = |name: &str, number: i64, protocol: &str| json!({"name": name, "port": number, "protocol": protocol});
    let ports = json!([port("a", 53, "UDP"), port("b", 53, "TCP"), port("c", 80, "TCP")]);
    let created = api.post(SERVICES, &service("a", json!({"type": "NodePort", "ports": ports}))).await.ok();
    let ports = &created["spec"]["ports"];
    assert_eq!(ports[0]["nodePort"], ports[1]["nodePort"]);
    assert_ne!(ports[0]["nodePort"], ports[2]["nodePort"]);
    assert_eq!(keys(&api, "/ranges/servicenodeports/").await, 2);
}

#[tokio::test]
async fn families_that_the_cluster_does_not_have_are_refused() {
    let api = Api::new().await;
    let created = api.post(SERVICES, &service("a", json!({}))).await.ok();
    assert_eq!(created["spec"]["ipFamilyPolicy"], "SingleStack");
    let path = format!("{SERVICES}/a");
    let v6 = "spec.ipFamilies[0]: Invalid value: \"IPv6\": not configured on this cluster";
    let v6_address = "spec.clusterIPs[0]: Invalid value: [\"fd00::1\"]: IPv6 is not configured on this cluster";
    let both = "spec.ipFamilyPolicy: Invalid value: \"RequireDualStack\": this cluster is not configured for dual-stack services";
    for (spec, expected) in [
        (json!({"ipFamilies": ["IPv6"]}), v6),
        (json!({"clusterIP": "fd00::1"}), v6_address),
        (json!({"clusterIP": "None", "ipFamilies": ["IPv6"]}), v6),
        (json!({"ipFamilyPolicy": "RequireDualStack"}), both),
    ] {
        let (code, _, message) = api.post(SERVICES, &service("b", spec)).await.error();
        assert_eq!((code, message), (422, format!("Service \"b\" is invalid: {expected}")));
    }
    api.post(SERVICES, &service("headless", json!({"clusterIP": "None"}))).await.ok();
    let address = &created["spec"]["clusterIP"];
    let other =
        format!("spec.clusterIPs[0]: Invalid value: {address}: expected an IPv6 value as indicated by `ipFamilies[0]`");
    for (name, spec, expected) in [
        ("a", json!({"ipFamilies": ["IPv6"]}), &*other),
        ("a", json!({"ipFamilyPolicy": "RequireDualStack"}), both),
        ("headless", json!({"ipFamilies": ["IPv6"]}), v6),
    ] {
        let (code, _, message) =
            api.patch("merge", &format!("{SERVICES}/{name}"), &json!({"spec": spec})).await.error();
        assert_eq!((code, message), (422, format!("Service {name:?} is invalid: {expected}")));
    }
    let preferred = json!({"spec": {"ipFamilyPolicy": "PreferDualStack"}});
    let preferred = api.patch("merge", &path, &preferred).await.ok();
    assert_eq!(preferred["spec"]["ipFamilies"], json!(["IPv4"]));
    // A client that knows nothing of policies keeps what there is.
    let again = api.put(&path, &service("a", json!({}))).await.ok();
    assert_eq!(again["spec"]["ipFamilyPolicy"], "PreferDualStack");
    assert_eq!(again["spec"]["clusterIP"], created["spec"]["clusterIP"]);
}

#[tokio::test]
async fn an_update_that_leaves_them_out_keeps_them() {
    let api = Api::new().await;
    let created = api.post(SERVICES, &service("a", json!({"type": "NodePort"}))).await.ok();
    let path = format!("{SERVICES}/a");
    let mut again = service("a", json!({"type": "NodePort", "sessionAffinity": "ClientIP"}));
    again["metadata"]["resourceVersion"] = version(&created).to_string().into();
    let updated = api.put(&path, &again).await.ok();
    for field in ["clusterIP", "clusterIPs", "ports"] {
        assert_eq!(updated["spec"][field], created["spec"][field], "{field}");
    }
}

#[tokio::test]
async fn headless_and_external_services_have_no_address() {
    let api = Api::new().await;
    let headless = api.post(SERVICES, &service("a", json!({"clusterIP": "None"}))).await.ok();
    assert_eq!(headless["spec"]["clusterIPs"], json!(["None"]));
    let external = json!({"metadata": {"name": "b"}, "spec": {"type": "ExternalName", "externalName": "example.com"}});
    let external = api.post(SERVICES, &external).await.ok();
    assert!(external["spec"]["clusterIP"].is_null());
    assert_eq!(keys(&api, "/ranges/").await, 0);
}

#[tokio::test]
async fn concurrent_services_get_addresses_of_their_own() {
    let api = Api::new().await;
    let creates = (0..50).map(|n| {
        let api = &api;
        async move { api.post(SERVICES, &service(&format!("s{n}"), json!({"type": "NodePort"}))).await.ok() }
    });
    let created = futures::future::join_all(creates).await;
    let addresses: std::collections::HashSet<_> =
        created.iter().map(|one| one["spec"]["clusterIP"].as_str().unwrap().to_string()).collect();
    assert_eq!(addresses.len(), 50);
    assert_eq!(keys(&api, "/ranges/servicenodeports/").await, 50);
}

/// Conformance: "Service, change type, ExternalName to ClusterIP"; "Service, change type, ExternalName to NodePort";
/// "Service, change type, ClusterIP to ExternalName"; "Service, change type, NodePort to ExternalName".
#[tokio::test]
async fn a_service_can_change_its_type_to_any_other() {
    let api = Api::new().await;
    let external = json!({"metadata": {"name": "a"}, "spec": {"type": "ExternalName", "externalName": "example.com"}});
    api.post(SERVICES, &external).await.ok();
    let path = format!("{SERVICES}/a");
    let ports = json!([{"port": 80, "name": "http", "protocol": "TCP"}]);
    for to in ["ClusterIP", "ExternalName", "NodePort", "ExternalName"] {
        let change = match to {
            "ExternalName" => json!({"type": to, "externalName": "example.com", "clusterIP": null, "clusterIPs": null}),
            _ => json!({"type": to, "externalName": null, "ports": ports}),
        };
        let spec = api.patch("merge", &path, &json!({"spec": change})).await.ok()["spec"].clone();
        assert_eq!(spec["clusterIP"].is_string(), to != "ExternalName", "{to}: {spec}");
        assert_eq!(spec["ports"][0]["nodePort"].is_i64(), to == "NodePort", "{to}: {spec}");
    }
    assert_eq!(keys(&api, "/ranges/").await, 0);
}
