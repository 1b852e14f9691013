//! The columns of `kubectl get services`.

use serde_json::Value;

use crate::core::pod::template;
use crate::kind::Column;
use crate::object::{int, list, map, text};

const NONE: &str = "<none>";

pub fn columns() -> Vec<Column> {
    vec![
        Column::name(),
        Column::at("Type", "string", "spec.type").describe("type determines how the Service is exposed."),
        Column::text("Cluster-IP", |service, _| cluster_ip(service).into())
            .describe("clusterIP is the IP address of the service."),
        Column::text("External-IP", |service, _| external_ip(service).into())
            .describe("Addresses for which nodes in the cluster will also accept traffic for this service."),
        Column::text("Port(s)", |service, _| ports(service).into())
            .describe("The list of ports that are exposed by this service."),
        Column::age(),
        Column::text("Selector", |service, _| template::labels(map(service, &["spec", "selector"])).into())
            .describe("Route service traffic to pods with label keys and values matching this selector.")
            .wide(),
    ]
}

fn cluster_ip(service: &Value) -> &str {
    match text(service, &["spec", "clusterIP"]) {
        "" => NONE,
        ip => ip,
    }
}

fn external_ip(service: &Value) -> String {
    let external = list(service, &["spec", "externalIPs"]).iter().filter_map(Value::as_str);
    let (addresses, none): (Vec<&str>, &str) = match text(service, &["spec", "type"]) {
        "ExternalName" => return text(service, &["spec", "externalName"]).to_owned(),
        "LoadBalancer" => {
            let points = list(service, &["status", "loadBalancer", "ingress"]).iter();
            let points = points.map(|p| match text(p, &["ip"]) {
                "" => text(p, &["hostname"]),
                ip => ip,
            });
            (points.chain(external).collect(), "<pending>")
        }
        _ => (external.collect(), NONE),
    };
    if addresses.is_empty() { none.to_owned() } else { addresses.join(",") }
}

fn ports(service: &Value) -> String {
    let ports = list(service, &["spec", "ports"]);
    if ports.is_empty() {
        return NONE.to_owned();
    }
    let shown = ports.iter().map(|port| {
        let (number, protocol) = (int(port, &["port"]), text(port, &["protocol"]));
        match int(port, &["nodePort"]) {
            0 => format!("{number}/{protocol}"),
            node => format!("{number}:{node}/{protocol}"),
        }
    });
    shown.collect::<Vec<_>>().join(",")
}
