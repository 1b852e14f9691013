//! Rules of a Service.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::{is_externally_accessible, is_headless, needs_health_port};
use crate::field::{Field, FieldError};
use crate::object::{get, list, text};
use crate::{metadata, names, rules};

/// Longest time that a client may stick to an endpoint.
const AFFINITY_MAX_SECONDS: i64 = 86_400;

/// Which clients a balancer lets in, as the annotation of before `loadBalancerSourceRanges` says it.
const SOURCE_RANGES: &str = "service.beta.kubernetes.io/load-balancer-source-ranges";
/// The annotation that [`TOPOLOGY_MODE`] stands in for.
pub const TOPOLOGY_HINTS: &str = "service.kubernetes.io/topology-aware-hints";
pub const TOPOLOGY_MODE: &str = "service.kubernetes.io/topology-mode";

const FOR_BALANCERS: &str = "may only be used when `type` is 'LoadBalancer'";

/// Checks a Service whose addresses go together. What an `old` one has may stay in a form that is no longer taken.
pub fn validate(service: &Value, old: Option<&Value>) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let root = Field::root(service);
    let spec = root.get("spec");
    let type_ = spec.get("type").text();
    let headless = is_headless(service);
    topology(&root, &mut errors);
    if spec.get("ports").is_empty() && !headless && type_ != "ExternalName" {
        errors.push(spec.get("ports").required(""));
    }
    of_type(&spec, type_, headless, &mut errors);
    ports(&spec.get("ports"), &mut errors);
    metadata::labels(&spec.get("selector"), &mut errors);
    affinity(&spec, &mut errors);
    external_addresses(&spec.get("externalIPs"), old, &mut errors);
    rules::one_of(&spec.get("type"), &["ClusterIP", "ExternalName", "LoadBalancer", "NodePort"], &mut errors);
    pairs(&spec.get("ports"), type_, &mut errors);
    source_ranges(&root, type_, old, &mut errors);
    for name in ["allocateLoadBalancerNodePorts", "loadBalancerClass"] {
        let field = spec.get(name);
        if field.is_set() && type_ != "LoadBalancer" {
            errors.push(field.forbidden(FOR_BALANCERS));
        }
    }
    let class = spec.get("loadBalancerClass");
    if class.is_set() && type_ == "LoadBalancer" {
        rules::form(&class, names::qualified_name, &mut errors);
    }
    traffic(service, &spec, &mut errors);
    errors
}

fn topology(service: &Field, errors: &mut Vec<FieldError>) {
    let metadata = service.get("metadata");
    let annotations = metadata.get("annotations");
    let (hints, mode) = (annotations.key(TOPOLOGY_HINTS), annotations.key(TOPOLOGY_MODE));
    if hints.is_set() && mode.is_set() && hints.text() != mode.text() {
        errors.push(mode.invalid(format!("must match annotations[{TOPOLOGY_HINTS}] when both are specified")));
    }
}

fn of_type(spec: &Field, type_: &str, headless: bool, errors: &mut Vec<FieldError>) {
    match type_ {
        "LoadBalancer" | "NodePort" if headless => {
            let detail = format!("may not be set to 'None' for {type_} services");
            let shown = spec.get("clusterIPs");
            errors.push(FieldError::invalid(&shown.path.index(0), "None", detail));
        }
        "ExternalName" => {
            for name in ["clusterIPs", "ipFamilies", "ipFamilyPolicy"] {
                let field = spec.get(name);
                if !field.is_empty() {
                    errors.push(field.forbidden("may not be set for ExternalName services"));
                }
            }
            // A trailing dot only says that the name is absolute.
            let name = spec.get("externalName");
            let relative = name.text().strip_suffix('.').unwrap_or(name.text());
            if relative.is_empty() {
                errors.push(name.required(""));
            } else {
                let wrong = names::dns_subdomain(relative).into_iter();
                errors.extend(wrong.map(|wrong| FieldError::invalid(&name.path, relative, wrong)));
            }
        }
        _ => {}
    }
}

/// Checks each port by itself.
fn ports(ports: &Field, errors: &mut Vec<FieldError>) {
    let mut names = BTreeSet::new();
    let several = ports.len() > 1;
    for port in ports.items() {
        let name = port.get("name");
        if several && name.is_empty() {
            errors.push(name.required(""));
        } else if !name.is_empty() {
            rules::form(&name, names::dns_label, errors);
            if !names.insert(name.text()) {
                errors.push(name.duplicate());
            }
        }
        rules::port(&port.get("port"), errors);
        rules::one_of(&port.get("protocol"), &["SCTP", "TCP", "UDP"], errors);
        rules::port_or_name(&port.get("targetPort"), errors);
        let protocol = port.get("appProtocol");
        if protocol.is_set() {
            rules::form(&protocol, names::qualified_name, errors);
        }
    }
}

/// Checks the ports against each other: a number is taken once for each protocol.
fn pairs(ports: &Field, type_: &str, errors: &mut Vec<FieldError>) {
    let node_port = |port: &Field| port.get("nodePort").int().filter(|number| *number != 0);
    if type_ == "ClusterIP" {
        for port in ports.items().filter(|port| node_port(port).is_some()) {
            errors.push(port.get("nodePort").forbidden("may not be used when `type` is 'ClusterIP'"));
        }
    }
    let mut taken = BTreeSet::new();
    for port in ports.items() {
        if node_port(&port).is_some_and(|number| !taken.insert((port.get("protocol").text(), number))) {
            errors.push(port.get("nodePort").duplicate());
        }
    }
    let mut taken = BTreeSet::new();
    for port in ports.items() {
        let (protocol, number) = (port.get("protocol").text(), port.get("port").int().unwrap_or_default());
        if !taken.insert((protocol, number)) {
            // Kubernetes shows its own structure, in which only these two are set.
            let shown = json!({
                "Name": "", "Protocol": protocol, "AppProtocol": null, "Port": number, "TargetPort": 0, "NodePort": 0,
            });
            errors.push(FieldError::duplicate(&port.path, shown));
        }
    }
}

fn affinity(spec: &Field, errors: &mut Vec<FieldError>) {
    let (affinity, config) = (spec.get("sessionAffinity"), spec.get("sessionAffinityConfig"));
    rules::one_of(&affinity, &["ClientIP", "None"], errors);
    match affinity.text() {
        "ClientIP" => {
            let client = config.get("clientIP");
            let seconds = client.get("timeoutSeconds");
            if seconds.int().is_some_and(|s| !(1..=AFFINITY_MAX_SECONDS).contains(&s)) {
                errors.push(seconds.invalid(format!("must be greater than 0 and less than {AFFINITY_MAX_SECONDS}")));
            }
        }
        "None" if config.is_set() => {
            errors.push(config.forbidden("must not be set when session affinity is None"));
        }
        _ => {}
    }
}

fn external_addresses(addresses: &Field, old: Option<&Value>, errors: &mut Vec<FieldError>) {
    let known = old.map(|old| list(old, &["spec", "externalIPs"])).unwrap_or_default();
    for address in addresses.items() {
        let parsed = match address.value().is_some_and(|value| known.contains(value)) {
            true => address.text().parse().ok(),
            false => rules::ip(&address, errors),
        };
        if let Some(ip) = parsed {
            rules::not_special(&address, ip, errors);
        }
    }
}

/// Who may use a balancer, as the spec says it, or else the annotation.
fn source_ranges(service: &Field, type_: &str, old: Option<&Value>, errors: &mut Vec<FieldError>) {
    let (spec, metadata) = (service.get("spec"), service.get("metadata"));
    let ranges = spec.get("loadBalancerSourceRanges");
    // Kubernetes writes it like this.
    let path = spec.path.child("LoadBalancerSourceRanges");
    if !ranges.is_empty() {
        if type_ != "LoadBalancer" {
            errors.push(FieldError::forbidden(&path, FOR_BALANCERS));
        }
        let known: Vec<&str> = old
            .map(|old| list(old, &["spec", "loadBalancerSourceRanges"]))
            .unwrap_or_default()
            .iter()
            .filter_map(|range| range.as_str().map(str::trim))
            .collect();
        for (index, range) in ranges.items().enumerate().filter(|(_, range)| !known.contains(&range.text().trim())) {
            let trimmed = Value::from(range.text().trim());
            rules::cidr(&Field::new(Some(&trimmed), path.index(index)), errors);
        }
        return;
    }
    let annotations = metadata.get("annotations");
    let annotation = annotations.key(SOURCE_RANGES);
    if !annotation.is_set() {
        return;
    }
    if type_ != "LoadBalancer" {
        errors.push(annotation.forbidden(FOR_BALANCERS));
    }
    let is_new = old.is_none_or(|old| get(old, &["metadata", "annotations", SOURCE_RANGES]) != annotation.value());
    if is_new && !annotation.text().trim().is_empty() {
        for range in annotation.text().trim().split(',') {
            let trimmed = Value::from(range.trim());
            rules::cidr(&Field::new(Some(&trimmed), annotation.path), errors);
        }
    }
}

/// A port for its health is given to no Service that needs none, nor is it one of the ports that it serves at.
fn health_port(service: &Value, spec: &Field, errors: &mut Vec<FieldError>) {
    let health = spec.get("healthCheckNodePort");
    let Some(port) = health.int().filter(|port| *port != 0) else { return };
    if !needs_health_port(service) {
        errors.push(
            health.invalid("may only be set when `type` is 'LoadBalancer' and `externalTrafficPolicy` is 'Local'"),
        );
    }
    if spec.get("ports").items().any(|entry| entry.get("nodePort").int() == Some(port)) {
        let why = "provided port is already allocated";
        errors.push(health.invalid(format!("failed to allocate requested HealthCheck NodePort {port}: {why}")));
    }
}

fn traffic(service: &Value, spec: &Field, errors: &mut Vec<FieldError>) {
    let (external, internal) = (spec.get("externalTrafficPolicy"), spec.get("internalTrafficPolicy"));
    if is_externally_accessible(service) {
        rules::one_of(&external, &["Cluster", "Local"], errors);
    } else if !external.is_empty() {
        errors.push(external.invalid("may only be set for externally-accessible services"));
    }
    health_port(service, spec, errors);
    let policies = ["Cluster", "Local"];
    if internal.is_set() && !policies.contains(&internal.text()) {
        errors.push(internal.not_supported(&policies));
    }
    let (preferred, preferences) =
        (spec.get("trafficDistribution"), ["PreferClose", "PreferSameNode", "PreferSameZone"]);
    if preferred.is_set() && !preferences.contains(&preferred.text()) {
        errors.push(preferred.not_supported(&preferences));
    }
}

/// Checks where a balancer says that it can be reached.
pub fn validate_status(service: &Value, old: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let root = Field::root(service);
    let (spec, status) = (root.get("spec"), root.get("status"));
    let balancer = status.get("loadBalancer");
    let points = balancer.get("ingress");
    if !points.is_empty() && spec.get("type").text() != "LoadBalancer" {
        errors.push(points.forbidden("may only be used when `spec.type` is 'LoadBalancer'"));
        return errors;
    }
    let known: Vec<&str> =
        list(old, &["status", "loadBalancer", "ingress"]).iter().map(|point| text(point, &["ip"])).collect();
    for point in points.items() {
        let (ip, mode, host) = (point.get("ip"), point.get("ipMode"), point.get("hostname"));
        if !ip.is_empty() && !known.contains(&ip.text()) {
            rules::ip(&ip, &mut errors);
        }
        match (ip.is_empty(), mode.is_set()) {
            (false, false) => errors.push(mode.required("must be specified when `ip` is set")),
            (true, true) => errors.push(mode.forbidden("may not be specified when `ip` is not set")),
            (false, true) if !matches!(mode.text(), "VIP" | "Proxy") => {
                errors.push(mode.not_supported(&["Proxy", "VIP"]));
            }
            _ => {}
        }
        rules::maybe_form(&host, names::dns_subdomain, &mut errors);
        if host.text().parse::<std::net::IpAddr>().is_ok() {
            errors.push(host.invalid("must be a DNS name, not an IP address"));
        }
    }
    errors
}
