//! What stays, goes and may not change when a Service is updated.

use serde_json::{Map, Value};

use super::{HEALTH_PORT, is_externally_accessible, needs_cluster_ip, needs_health_port, needs_node_ports};
use crate::field::{Field, FieldError};
use crate::object::{self, get, list, text};

/// An update that does not mention claimed addresses and ports keeps them.
pub fn keep_claims(new: &mut Value, old: &Value) {
    if needs_cluster_ip(old) && needs_cluster_ip(new) {
        let addresses = get(old, &["spec", "clusterIPs"]).cloned();
        let first = get(old, &["spec", "clusterIP"]).cloned();
        if let Some(spec) = object::ensure(new, &["spec"]) {
            if spec.get("clusterIP").and_then(Value::as_str).is_none_or(str::is_empty)
                && let Some(first) = first
            {
                spec.insert("clusterIP".to_owned(), first);
            }
            let missing = spec.get("clusterIPs").and_then(Value::as_array).is_none_or(Vec::is_empty);
            if let (true, Some(addresses)) = (missing, &addresses) {
                spec.insert("clusterIPs".to_owned(), addresses.clone());
            }
            follow_first(spec, addresses.as_ref());
        }
    }
    if needs_node_ports(old) && needs_node_ports(new) {
        keep_node_ports(new, old);
    }
    let health = get(old, HEALTH_PORT).cloned().filter(|_| needs_health_port(old) && needs_health_port(new));
    if let (0, Some(port), Some(spec)) = (object::int(new, HEALTH_PORT), health, object::ensure(new, &["spec"])) {
        spec.insert("healthCheckNodePort".to_owned(), port);
    }
}

/// A client that only knows `clusterIP` and changes it means the first of the addresses, too.
fn follow_first(spec: &mut Map<String, Value>, before: Option<&Value>) {
    let Some(first) = spec.get("clusterIP").cloned() else { return };
    if spec.get("clusterIPs") == before
        && let Some(Value::Array(addresses)) = spec.get_mut("clusterIPs")
        && let Some(address) = addresses.first_mut()
    {
        *address = first;
    }
}

/// Ports are known by their protocol and number; failing that, by their place.
fn keep_node_ports(new: &mut Value, old: &Value) {
    let old_ports = list(old, &["spec", "ports"]);
    let key = |port: &Value| (get(port, &["protocol"]).cloned(), get(port, &["port"]).cloned());
    let taken: Vec<Value> = list(new, &["spec", "ports"])
        .iter()
        .filter_map(|p| get(p, &["nodePort"]))
        .filter(|n| n.as_i64() != Some(0))
        .cloned()
        .collect();
    for port in object::list_mut(new, &["spec", "ports"]) {
        let unset = get(port, &["nodePort"]).and_then(Value::as_i64).unwrap_or_default() == 0;
        let before = old_ports.iter().find(|o| key(o) == key(port)).and_then(|o| get(o, &["nodePort"]));
        if let (true, Some(number), Some(port)) = (unset, before.filter(|n| !taken.contains(n)), port.as_object_mut()) {
            port.insert("nodePort".to_owned(), number.clone());
        }
    }
}

/// A change of type takes the fields with it that only the old type had, unless the update sets them anew.
pub fn drop_what_the_type_lost(new: &mut Value, old: &Value) {
    let unchanged = |new: &Value, field: &str| object::same(get(new, &["spec", field]), get(old, &["spec", field]));
    let mut lost = Vec::new();
    if needs_cluster_ip(old) && !needs_cluster_ip(new) && unchanged(new, "clusterIP") && unchanged(new, "clusterIPs") {
        lost.extend(["clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy", "internalTrafficPolicy"]);
    }
    if is_externally_accessible(old) && !is_externally_accessible(new) && unchanged(new, "externalTrafficPolicy") {
        lost.push("externalTrafficPolicy");
    }
    if needs_health_port(old) && !needs_health_port(new) && unchanged(new, "healthCheckNodePort") {
        lost.push("healthCheckNodePort");
    }
    let balanced = |service: &Value| text(service, &["spec", "type"]) == "LoadBalancer";
    if balanced(old) && !balanced(new) {
        let fields = ["allocateLoadBalancerNodePorts", "loadBalancerClass"];
        lost.extend(fields.into_iter().filter(|field| unchanged(new, field)));
    }
    let node_ports: Vec<Value> =
        list(old, &["spec", "ports"]).iter().filter_map(|p| get(p, &["nodePort"])).cloned().collect();
    let drop_node_ports = needs_node_ports(old) && !needs_node_ports(new);
    if let Some(spec) = object::get_mut(new, &["spec"]).and_then(Value::as_object_mut) {
        lost.into_iter().for_each(|field| _ = spec.remove(field));
    }
    if drop_node_ports {
        for port in object::list_mut(new, &["spec", "ports"]).iter_mut().filter_map(Value::as_object_mut) {
            drop_port(port, &node_ports);
        }
    }
}

fn drop_port(port: &mut Map<String, Value>, before: &[Value]) {
    if port.get("nodePort").is_some_and(|number| before.contains(number)) {
        port.remove("nodePort");
    }
}

/// The first address of a Service is for life, unless it becomes or was an ExternalName; so is what it is asked about its health.
pub fn validate(new: &Value, old: &Value, errors: &mut Vec<FieldError>) {
    if needs_health_port(old)
        && needs_health_port(new)
        && object::int(old, HEALTH_PORT) != object::int(new, HEALTH_PORT)
    {
        let why = "cannot change healthCheckNodePort on loadBalancer service with externalTraffic=Local during update";
        errors.push(Field::root(new).get("spec").get("healthCheckNodePort").invalid(why));
    }
    if !needs_cluster_ip(new) || !needs_cluster_ip(old) {
        return;
    }
    let root = Field::root(new);
    let spec = root.get("spec");
    let before = list(old, &["spec", "clusterIPs"]).first();
    let addresses = spec.get("clusterIPs");
    let changed = before.is_some_and(|ip| addresses.items().next().and_then(|f| f.value()) != Some(ip));
    if changed {
        let shown = addresses.value().cloned().unwrap_or_default();
        errors.push(FieldError::invalid(&addresses.path.index(0), shown, "may not change once set"));
    }
    let class = spec.get("loadBalancerClass");
    let both = text(old, &["spec", "type"]) == "LoadBalancer" && spec.get("type").text() == "LoadBalancer";
    if both && class.text() != text(old, &["spec", "loadBalancerClass"]) {
        errors.push(class.invalid("may not change once set"));
    }
}
