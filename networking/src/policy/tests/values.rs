//! Values of every field of a NetworkPolicy. The tests of what pods call (`networking/tests`) include this file, too.

use std::collections::BTreeSet;

use k8s_openapi::api::networking::v1::{
    IPBlock, NetworkPolicyEgressRule, NetworkPolicyIngressRule, NetworkPolicyPeer, NetworkPolicyPort, NetworkPolicySpec,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, LabelSelectorRequirement};
use serde_json::{Value, json};

/// Values of each field of a peer, alone and together where the API lets them.
pub const PEERS: [(&str, &[&str]); 3] = [
    (
        "podSelector",
        &[
            "{podSelector: {}}",
            "{podSelector: {matchLabels: {app: friend}}}",
            "{podSelector: {matchExpressions: [{key: tier, operator: DoesNotExist}, {key: app, operator: In, values: [friend, web]}]}}",
        ],
    ),
    (
        "namespaceSelector",
        &[
            "{namespaceSelector: {}}",
            "{namespaceSelector: {matchLabels: {team: blue}}}",
            "{namespaceSelector: {matchExpressions: [{key: kubernetes.io/metadata.name, operator: NotIn, values: [a]}]}}",
            "{namespaceSelector: {matchLabels: {team: blue}}, podSelector: {matchExpressions: [{key: tier, operator: Exists}]}}",
            "{namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: kube-system}}, podSelector: {matchLabels: {app.kubernetes.io/name: k8w-ingress}}}",
        ],
    ),
    (
        "ipBlock",
        &[
            "{ipBlock: {cidr: 192.0.2.0/24}}",
            "{ipBlock: {cidr: 0.0.0.0/0, except: [10.64.0.0/18, 198.51.100.1/32]}}",
            "{ipBlock: {cidr: 10.64.0.3/32}}",
            "{ipBlock: {cidr: 127.0.0.0/8, except: [127.0.0.2/32]}}",
        ],
    ),
];

/// Likewise of a port.
pub const ALLOWED_PORTS: [(&str, &[&str]); 3] = [
    ("protocol", &["{protocol: TCP}", "{protocol: UDP}", "{protocol: SCTP}"]),
    (
        "port",
        &["{port: 8080}", "{port: 53, protocol: UDP}", "{port: http}", "{port: dns, protocol: UDP}", "{port: dns}"],
    ),
    (
        "endPort",
        &[
            "{port: 80, endPort: 8080}",
            "{port: 53, endPort: 80, protocol: UDP}",
            "{port: 9000, endPort: 65535}",
            "{port: 9000, endPort: 65535, protocol: UDP}",
        ],
    ),
];

/// The values of every field.
pub fn values(table: &[(&str, &[&str])]) -> Vec<Value> {
    table.iter().flat_map(|(_, texts)| *texts).map(|text| serde_saphyr::from_str(text).unwrap()).collect()
}

/// The fields of a type of the API.
fn fields<T: schemars::JsonSchema>() -> BTreeSet<String> {
    let schema = schemars::schema_for!(T);
    schema.as_value()["properties"].as_object().unwrap().keys().cloned().collect()
}

fn names(table: &[(&str, &[&str])]) -> BTreeSet<String> {
    table.iter().map(|(field, _)| (*field).to_owned()).collect()
}

/// A rule in each direction that has these peers and ports.
pub fn directions(peers: &Value, ports: &Value) -> [Value; 2] {
    [
        json!({"policyTypes": ["Ingress"], "ingress": [{"from": peers, "ports": ports}]}),
        json!({"policyTypes": ["Egress"], "egress": [{"to": peers, "ports": ports}]}),
    ]
}

/// A new field of the API is not silently left out: the tables above have every one.
#[test]
fn every_field_has_its_values() {
    let set = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<BTreeSet<_>>();
    assert_eq!(fields::<NetworkPolicyPeer>(), names(&PEERS));
    assert_eq!(fields::<NetworkPolicyPort>(), names(&ALLOWED_PORTS));
    assert_eq!(fields::<IPBlock>(), set(&["cidr", "except"]));
    assert_eq!(fields::<NetworkPolicyIngressRule>(), set(&["from", "ports"]));
    assert_eq!(fields::<NetworkPolicyEgressRule>(), set(&["to", "ports"]));
    assert_eq!(fields::<NetworkPolicySpec>(), set(&["egress", "ingress", "podSelector", "policyTypes"]));
    assert_eq!(fields::<LabelSelector>(), set(&["matchExpressions", "matchLabels"]));
    assert_eq!(fields::<LabelSelectorRequirement>(), set(&["key", "operator", "values"]));
}
