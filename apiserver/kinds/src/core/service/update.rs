//! What stays, goes and may not change when a Service is updated.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

use super::{HEALTH_PORT, families, is_externally_accessible, needs_cluster_ip, needs_health_port, same};
use crate::field::{Field, FieldError};
use crate::object::{self, get, int, list, text};

/// An update that does not mention claimed addresses and ports keeps them.
pub fn keep_claims(new: &mut Value, old: &Value) {
    if needs_cluster_ip(old) && needs_cluster_ip(new) {
        keep_addresses(new, old);
    }
    follow_first(new, old);
    if has_node_ports(old) && has_node_ports(new) {
        keep_node_ports(new, old);
    }
    let health = get(old, HEALTH_PORT).cloned().filter(|_| needs_health_port(old) && needs_health_port(new));
    if let (0, Some(port), Some(spec)) = (int(new, HEALTH_PORT), health, object::ensure(new, &["spec"])) {
        spec.insert("healthCheckNodePort".to_owned(), port);
    }
}

fn keep_addresses(new: &mut Value, old: &Value) {
    let empty = text(new, &["spec", "clusterIP"]).is_empty();
    let none = list(new, &["spec", "clusterIPs"]).is_empty();
    let Some(spec) = object::ensure(new, &["spec"]) else { return };
    for (name, is_missing) in [("clusterIP", empty), ("clusterIPs", none)] {
        if let (true, Some(value)) = (is_missing, get(old, &["spec", name])) {
            spec.insert(name.to_owned(), value.clone());
        }
    }
}

/// A client that only knows `clusterIP` and changes it means the list of addresses, too.
fn follow_first(new: &mut Value, old: &Value) {
    let first = text(new, &["spec", "clusterIP"]).to_owned();
    if first == text(old, &["spec", "clusterIP"]) || !same(new, old, "clusterIPs") {
        return;
    }
    let Some(spec) = object::ensure(new, &["spec"]) else { return };
    match first.is_empty() {
        true => _ = spec.remove("clusterIPs"),
        false => _ = spec.insert("clusterIPs".to_owned(), json!([first])),
    }
}

/// Whether ports of a Service of this type can have node ports.
fn has_node_ports(service: &Value) -> bool {
    matches!(text(service, &["spec", "type"]), "NodePort" | "LoadBalancer")
}

fn node_ports(service: &Value) -> BTreeSet<i64> {
    let ports = list(service, &["spec", "ports"]).iter().map(|port| int(port, &["nodePort"]));
    ports.filter(|port| *port != 0).collect()
}

/// Ports are known by their names: whatever else has changed about them, they keep their node ports.
fn keep_node_ports(new: &mut Value, old: &Value) {
    let before: BTreeMap<&str, i64> =
        list(old, &["spec", "ports"]).iter().map(|port| (text(port, &["name"]), int(port, &["nodePort"]))).collect();
    let mut used: BTreeSet<i64> = node_ports(old).intersection(&node_ports(new)).copied().collect();
    for port in object::list_mut(new, &["spec", "ports"]) {
        let number = before.get(text(port, &["name"])).copied().unwrap_or_default();
        if number != 0 && int(port, &["nodePort"]) == 0 && used.insert(number) {
            port["nodePort"] = number.into();
        }
    }
}

/// A change of type takes the fields with it that only the old type had, unless the update sets them anew.
pub fn drop_what_the_type_lost(new: &mut Value, old: &Value) {
    let mut lost = Vec::new();
    if needs_cluster_ip(old) && !needs_cluster_ip(new) {
        if same(new, old, "clusterIP") && same(new, old, "clusterIPs") {
            lost.extend(["clusterIP", "clusterIPs"]);
        }
        lost.extend(["ipFamilies", "ipFamilyPolicy"].into_iter().filter(|field| same(new, old, field)));
    }
    if needs_health_port(old) && !needs_health_port(new) && same(new, old, "healthCheckNodePort") {
        lost.push("healthCheckNodePort");
    }
    let balanced = |service: &Value| text(service, &["spec", "type"]) == "LoadBalancer";
    if balanced(old) && !balanced(new) {
        let fields = ["allocateLoadBalancerNodePorts", "loadBalancerClass"];
        lost.extend(fields.into_iter().filter(|field| same(new, old, field)));
    }
    if is_externally_accessible(old) && !is_externally_accessible(new) && same(new, old, "externalTrafficPolicy") {
        lost.push("externalTrafficPolicy");
    }
    let gives_ports_back = has_node_ports(old) && !has_node_ports(new) && node_ports(new).is_subset(&node_ports(old));
    if let Some(spec) = object::get_mut(new, &["spec"]).and_then(Value::as_object_mut) {
        lost.into_iter().for_each(|field| _ = spec.remove(field));
    }
    if gives_ports_back {
        let ports = object::list_mut(new, &["spec", "ports"]).iter_mut().filter_map(Value::as_object_mut);
        ports.for_each(|port| _ = port.remove("nodePort"));
    }
    if !balanced(new)
        && let Some(balancer) = object::get_mut(new, &["status", "loadBalancer"])
    {
        *balancer = Value::Object(Map::new());
    }
}

/// Addresses, the class of a balancer and the port for its health are for life, as long as the type is.
pub fn validate(new: &Value, old: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    families::validate_update(new, old, &mut errors);
    let root = Field::root(new);
    let spec = root.get("spec");
    let class = spec.get("loadBalancerClass");
    let both = text(old, &["spec", "type"]) == "LoadBalancer" && spec.get("type").text() == "LoadBalancer";
    if both && class.value() != get(old, &["spec", "loadBalancerClass"]) {
        let shown = class.value().cloned().unwrap_or_default();
        errors.push(FieldError::invalid(&class.path, shown, "may not change once set"));
    }
    if needs_health_port(old) && needs_health_port(new) && int(old, HEALTH_PORT) != int(new, HEALTH_PORT) {
        errors.push(spec.get("healthCheckNodePort").forbidden("field is immutable"));
    }
    errors
}
