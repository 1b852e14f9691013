//! Reconcilers that give out addresses: to nodes, and to Services.

use std::collections::BTreeSet;
use std::time::Duration;

use k8w_controllers::config::PodRange;
use k8w_controllers::plan::Propagation;
use k8w_controllers::resource::{IP_ADDRESSES, NODES, SERVICE_CIDRS, SERVICES};
use k8w_kinds::core::node::{RUNS_WASM, WASM_CIDR};
use k8w_kinds::networking::ip_address::labels;
use serde_json::{Value, json};

use super::{ROW, Row};
use crate::cluster::node;
use crate::server::Server;

pub const ROWS: &[Row] = &[
    Row {
        name: "ranges of nodes",
        of: &["node-ipam-controller", "wasm-ipam-controller"],
        changes: &[
            |server| _ = server.create(&NODES, "", node("n3", "8")),
            |server| _ = server.create(&NODES, "", node("n4", "8")),
            |server| server.edit(&NODES, "", "n1", |node| node["metadata"]["labels"][RUNS_WASM] = json!("true")),
            |server| server.edit(&NODES, "", "n3", |node| node["metadata"]["labels"][RUNS_WASM] = json!("true")),
            |server| server.delete_if_there(&NODES, "", "n2", Propagation::Background),
        ],
        promise: |server| {
            let apart = |ranges: Vec<&Value>| {
                let given: BTreeSet<&str> = ranges.iter().filter_map(|range| range.as_str()).collect();
                assert_eq!(given.len(), ranges.iter().filter(|range| range.is_string()).count(), "{ranges:?}");
            };
            apart(server.list(&NODES).map(|node| &node["spec"]["podCIDR"]).collect());
            apart(server.list(&NODES).map(|node| &node["metadata"]["annotations"][WASM_CIDR]).collect());
        },
        arrived: |server| {
            for node in server.list(&NODES) {
                let runs_wasm = node["metadata"]["labels"][RUNS_WASM] == "true";
                assert!(node["spec"]["podCIDR"].is_string(), "{node}");
                assert_eq!(node["metadata"]["annotations"][WASM_CIDR].is_string(), runs_wasm, "{node}");
            }
        },
        config: |config| {
            config.pod_ranges = vec![PodRange { cluster: "10.42.0.0/21".parse().unwrap(), node_prefix: 24 }];
            config.wasm_range = Some(PodRange { cluster: "10.64.0.0/13".parse().unwrap(), node_prefix: 18 });
        },
        ..ROW
    },
    Row {
        name: "addresses of Services",
        of: &["ipallocator-repair-controller", "service-cidr-controller"],
        prepare: |server| {
            let range = json!({ "metadata": { "name": "kubernetes" }, "spec": { "cidrs": ["10.96.0.0/16"] } });
            server.create(&SERVICE_CIDRS, "", range).unwrap();
            service(server, "a", "10.96.0.10");
        },
        changes: &[
            |server| service(server, "b", "10.96.0.11"),
            |server| server.delete_if_there(&IP_ADDRESSES, "", "10.96.0.10", Propagation::Background),
            |server| {
                server
                    .edit(&IP_ADDRESSES, "", "10.96.0.10", |address| address["spec"]["parentRef"]["name"] = json!("no"))
            },
            |server| {
                let owned: serde_json::Map<_, _> =
                    labels("10.96.0.12").into_iter().map(|(key, value)| (key.to_owned(), value.into())).collect();
                let parent = json!({ "resource": "services", "namespace": "default", "name": "no" });
                let stray =
                    json!({ "metadata": { "name": "10.96.0.12", "labels": owned }, "spec": { "parentRef": parent } });
                // It may be there from before.
                let _ = server.create(&IP_ADDRESSES, "", stray);
            },
            |server| server.delete_if_there(&SERVICES, "default", "b", Propagation::Background),
        ],
        arrived: |server| {
            let wanted: BTreeSet<String> = server
                .list(&SERVICES)
                .map(|service| pair(&service["spec"]["clusterIPs"][0], &service["metadata"]["name"]))
                .collect();
            let found: BTreeSet<String> = server
                .list(&IP_ADDRESSES)
                .map(|address| pair(&address["metadata"]["name"], &address["spec"]["parentRef"]["name"]))
                .collect();
            assert_eq!(found, wanted);
            let range = server.get(&SERVICE_CIDRS, "", "kubernetes").unwrap();
            assert_eq!(range["status"]["conditions"][0]["status"], "True");
        },
        world: |cluster| cluster.patience = Duration::from_secs(300),
        ..ROW
    },
];

/// It may be there from before.
fn service(server: &mut Server, name: &str, address: &str) {
    let spec = json!({ "ports": [{ "port": 80, "protocol": "TCP" }], "clusterIP": address, "clusterIPs": [address] });
    let _ = server.create(&SERVICES, "default", json!({ "metadata": { "name": name }, "spec": spec }));
}

fn pair(address: &Value, service: &Value) -> String {
    format!("{address} of {service}")
}
