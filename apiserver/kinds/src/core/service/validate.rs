//! Rules of a Service.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::{needs_cluster_ip, needs_health_port};
use crate::field::{Field, FieldError};
use crate::{metadata, names, rules};

/// Longest time that a client may stick to an endpoint.
const AFFINITY_MAX_SECONDS: i64 = 86_400;

pub fn validate(service: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let root = Field::root(service);
    let spec = root.get("spec");
    let type_ = spec.get("type").text();
    let headless = spec.get("clusterIP").text() == "None";
    if spec.get("ports").is_empty() && !headless && type_ != "ExternalName" {
        errors.push(spec.get("ports").required(""));
    }
    of_type(&spec, type_, headless, &mut errors);
    ports(&spec.get("ports"), headless, type_, &mut errors);
    metadata::labels(&spec.get("selector"), &mut errors);
    affinity(&spec, &mut errors);
    addresses(service, &spec, &mut errors);
    traffic(service, &spec, type_, &mut errors);
    errors
}

fn of_type(spec: &Field, type_: &str, headless: bool, errors: &mut Vec<FieldError>) {
    match type_ {
        "LoadBalancer" | "NodePort" if headless => {
            let detail = format!("may not be set to 'None' for {type_} services");
            let shown = spec.get("clusterIPs");
            errors.push(FieldError::invalid(&shown.path.index(0), "None", detail));
        }
        "LoadBalancer" | "NodePort" | "ClusterIP" => {}
        "ExternalName" => {
            for name in ["clusterIPs", "ipFamilies"] {
                let field = spec.get(name);
                if !field.is_empty() {
                    errors.push(field.forbidden("may not be set for ExternalName services"));
                }
            }
            if spec.get("ipFamilyPolicy").is_set() {
                errors.push(spec.get("ipFamilyPolicy").forbidden("may not be set for ExternalName services"));
            }
            // A trailing dot only says that the name is absolute.
            let name = spec.get("externalName");
            let relative = name.text().strip_suffix('.').unwrap_or(name.text());
            if relative.is_empty() {
                errors.push(name.required(""));
            } else {
                errors.extend(names::dns_subdomain(relative).into_iter().map(|wrong| name.invalid(wrong)));
            }
        }
        "" => errors.push(spec.get("type").required("")),
        _ => {
            let supported = ["ClusterIP", "ExternalName", "LoadBalancer", "NodePort"];
            errors.push(spec.get("type").not_supported(&supported));
        }
    }
}

fn ports(ports: &Field, headless: bool, type_: &str, errors: &mut Vec<FieldError>) {
    let mut names = BTreeSet::new();
    let mut numbers = BTreeSet::new();
    let mut node_ports = BTreeSet::new();
    let several = ports.len() > 1;
    for port in ports.items() {
        let (name, number, protocol) = (port.get("name"), port.get("port"), port.get("protocol"));
        if several && name.is_empty() {
            errors.push(name.required(""));
        } else if !name.is_empty() {
            rules::form(&name, names::dns_label, errors);
            if !names.insert(name.text()) {
                errors.push(name.duplicate());
            }
        }
        rules::port(&number, errors);
        rules::one_of(&protocol, &["SCTP", "TCP", "UDP"], errors);
        rules::port_or_name(&port.get("targetPort"), errors);
        rules::maybe_form(&port.get("appProtocol"), names::qualified_name, errors);
        if headless && type_ == "LoadBalancer" && port.get("targetPort").value() != number.value() {
            errors.push(port.get("targetPort").invalid("must be equal to the value of 'port' when clusterIP = None"));
        }
        if !numbers.insert((protocol.text(), number.int())) {
            let shown = json!({"protocol": protocol.text(), "port": number.int()});
            errors.push(FieldError::duplicate(&port.path, shown));
        }
        let node_port = port.get("nodePort");
        let Some(claimed) = node_port.int().filter(|n| *n != 0) else { continue };
        if matches!(type_, "ClusterIP" | "ExternalName") {
            errors.push(node_port.forbidden(format!("may not be used when `type` is '{type_}'")));
        } else if !node_ports.insert((protocol.text(), claimed)) {
            errors.push(node_port.duplicate());
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

fn addresses(service: &Value, spec: &Field, errors: &mut Vec<FieldError>) {
    let list = spec.get("clusterIPs");
    let first = spec.get("clusterIP");
    if needs_cluster_ip(service) && !list.is_empty() {
        let primary = list.items().next().map(|f| f.text()).unwrap_or_default();
        if primary != first.text() {
            let shown = list.value().cloned().unwrap_or_default();
            errors.push(FieldError::invalid(&list.path, shown, "first value must match `clusterIP`"));
        }
    }
    if list.len() > 2 {
        errors.push(list.invalid("may only hold up to 2 values"));
    }
    for (i, address) in list.items().enumerate() {
        match address.text() {
            "None" if i == 0 && list.len() == 1 => {}
            "None" => errors.push(address.invalid("'None' must be the first and only value")),
            "" => errors.push(address.required("")),
            _ => _ = rules::ip(&address, errors),
        }
    }
    let families = spec.get("ipFamilies");
    let mut seen = BTreeSet::new();
    for family in families.items() {
        if !matches!(family.text(), "IPv4" | "IPv6") {
            errors.push(family.not_supported(&["IPv4", "IPv6"]));
        } else if !seen.insert(family.text()) {
            errors.push(family.duplicate());
        }
    }
    let policies = ["PreferDualStack", "RequireDualStack", "SingleStack"];
    let policy = spec.get("ipFamilyPolicy");
    rules::maybe_one_of(&policy, &policies, errors);
    // Clusters give addresses of one family: only a Service that is given none may be of both.
    let is_free = first.text() == "None" && spec.get("selector").is_empty();
    if policy.text() == "RequireDualStack" && !is_free {
        errors.push(policy.invalid("this cluster is not configured for dual-stack services"));
    }
    for address in spec.get("externalIPs").items() {
        if let Some(ip) = rules::ip(&address, errors) {
            rules::not_special(&address, ip, errors);
        }
    }
    if !spec.get("loadBalancerIP").is_empty() {
        rules::ip(&spec.get("loadBalancerIP"), errors);
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

fn traffic(service: &Value, spec: &Field, type_: &str, errors: &mut Vec<FieldError>) {
    let (external, internal) = (spec.get("externalTrafficPolicy"), spec.get("internalTrafficPolicy"));
    rules::maybe_one_of(&external, &["Cluster", "Local"], errors);
    rules::maybe_one_of(&internal, &["Cluster", "Local"], errors);
    let outside =
        matches!(type_, "NodePort" | "LoadBalancer") || (type_ == "ClusterIP" && !spec.get("externalIPs").is_empty());
    if !external.is_empty() && !outside {
        errors.push(external.invalid("may only be set for externally-accessible services"));
    }
    if outside && external.is_empty() {
        errors.push(external.required(""));
    }
    health_port(service, spec, errors);
    let ranges = spec.get("loadBalancerSourceRanges");
    if !ranges.is_empty() && type_ != "LoadBalancer" {
        errors.push(ranges.forbidden("may only be used when `type` is 'LoadBalancer'"));
    }
    for range in ranges.items() {
        if range.text().trim().parse::<ipnet::IpNet>().is_err() {
            errors.push(range.invalid("must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)"));
        }
    }
    for name in ["allocateLoadBalancerNodePorts", "loadBalancerClass"] {
        let field = spec.get(name);
        if field.is_set() && type_ != "LoadBalancer" {
            errors.push(field.forbidden("may only be used when `type` is 'LoadBalancer'"));
        }
    }
    rules::maybe_form(&spec.get("loadBalancerClass"), names::qualified_name, errors);
    let distribution = ["PreferClose", "PreferSameNode", "PreferSameZone"];
    rules::maybe_one_of(&spec.get("trafficDistribution"), &distribution, errors);
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use crate::testing::{check, check_default, check_row, check_update};

    #[test]
    fn defaults() {
        check_default(
            "services",
            "{spec: {selector: {a: b}, ports: [{port: 80}]}}",
            expect![[r#"
            metadata: {}
            spec:
              internalTrafficPolicy: Cluster
              ipFamilies:
              - IPv4
              ipFamilyPolicy: SingleStack
              ports:
              - port: 80
                protocol: TCP
                targetPort: 80
              selector:
                a: b
              sessionAffinity: None
              type: ClusterIP
            status:
              loadBalancer: {}
        "#]],
        );
        check_default(
            "services",
            "{spec: {type: LoadBalancer, clusterIP: None, sessionAffinity: ClientIP}}",
            expect![[r#"
                metadata: {}
                spec:
                  allocateLoadBalancerNodePorts: true
                  clusterIP: None
                  clusterIPs:
                  - None
                  externalTrafficPolicy: Cluster
                  internalTrafficPolicy: Cluster
                  ipFamilies:
                  - IPv4
                  - IPv6
                  ipFamilyPolicy: RequireDualStack
                  sessionAffinity: ClientIP
                  sessionAffinityConfig:
                    clientIP:
                      timeoutSeconds: 10800
                  type: LoadBalancer
                status:
                  loadBalancer: {}
            "#]],
        );
        check_default(
            "services",
            "{spec: {type: ExternalName, externalName: a.b}}",
            expect![[r#"
            metadata: {}
            spec:
              externalName: a.b
              sessionAffinity: None
              type: ExternalName
            status:
              loadBalancer: {}
        "#]],
        );
    }

    #[test]
    fn both_families_are_for_services_without_addresses() {
        let service = |more: &str| {
            format!(
                "{{metadata: {{name: a, namespace: b}}, spec: {{ipFamilyPolicy: RequireDualStack, ports: [{{port: 80}}]{more}}}}}"
            )
        };
        check("services", &service(", clusterIP: None"), expect![""]);
        for more in ["", ", clusterIP: None, selector: {a: b}"] {
            check(
                "services",
                &service(more),
                expect![[r#"
                    spec.ipFamilyPolicy: Invalid value: "RequireDualStack": this cluster is not configured for dual-stack services
                "#]],
            );
        }
    }

    #[test]
    fn rules() {
        check(
            "services",
            r#"
            metadata: {name: 1a, namespace: b}
            spec:
              ports:
              - {port: 0, nodePort: 30000}
              - {name: A, port: 80, protocol: X, targetPort: A_}
              - {name: b, port: 81}
              - {name: b, port: 81}
              clusterIP: nonsense
              externalIPs: [127.0.0.1]
            "#,
            expect![[r#"
                metadata.name: Invalid value: "1a": a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used for validation is '[a-z]([-a-z0-9]*[a-z0-9])?')
                spec.ports[0].name: Required value
                spec.ports[0].port: Invalid value: 0: must be between 1 and 65535, inclusive
                spec.ports[0].targetPort: Invalid value: 0: must be between 1 and 65535, inclusive
                spec.ports[0].nodePort: Forbidden: may not be used when `type` is 'ClusterIP'
                spec.ports[1].name: Invalid value: "A": a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')
                spec.ports[1].protocol: Unsupported value: "X": supported values: "SCTP", "TCP", "UDP"
                spec.ports[1].targetPort: Invalid value: "A_": must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)
                spec.ports[1].targetPort: Invalid value: "A_": must contain at least one letter (a-z)
                spec.ports[3].name: Duplicate value: "b"
                spec.ports[3]: Duplicate value: {"port":81,"protocol":"TCP"}
                spec.clusterIPs[0]: Invalid value: "nonsense": must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)
                spec.externalIPs[0]: Invalid value: "127.0.0.1": may not be in the loopback range (127.0.0.0/8, ::1/128)
            "#]],
        );
        check(
            "services",
            "{metadata: {name: a, namespace: b}, spec: {type: ExternalName}}",
            expect![[r#"
            spec.externalName: Required value
        "#]],
        );
        check(
            "services",
            "{metadata: {name: a, namespace: b}, spec: {type: Odd}}",
            expect![[r#"
            spec.ports: Required value
            spec.type: Unsupported value: "Odd": supported values: "ClusterIP", "ExternalName", "LoadBalancer", "NodePort"
        "#]],
        );
    }

    #[test]
    fn updates_keep_what_was_claimed() {
        let old = "{metadata: {name: a, namespace: b}, spec: {type: NodePort, clusterIP: 10.96.0.9, ports: [{port: 80, nodePort: 30080}]}}";
        check_update(
            "services",
            old,
            "{metadata: {name: a, namespace: b}, spec: {type: NodePort, ports: [{port: 80}]}}",
            expect![[r#""#]],
        );
        check_update(
            "services",
            old,
            "{metadata: {name: a, namespace: b}, spec: {type: ClusterIP, ports: [{port: 80, nodePort: 30080}]}}",
            expect![[r#""#]],
        );
        check_update(
            "services",
            old,
            "{metadata: {name: a, namespace: b}, spec: {type: ClusterIP, clusterIP: 10.96.0.8, ports: [{port: 80}]}}",
            expect![[r#"
                spec.clusterIPs[0]: Invalid value: ["10.96.0.8"]: may not change once set
            "#]],
        );
    }

    #[test]
    fn the_first_address_stays() {
        let with = |first: &str| {
            format!(
                "{{metadata: {{name: a, namespace: b}}, spec: {{clusterIP: {first}, clusterIPs: [10.96.0.9], ports: [{{port: 80}}]}}}}"
            )
        };
        check_update(
            "services",
            &with("10.96.0.9"),
            &with("10.96.0.8"),
            expect![[r#"
            spec.clusterIPs[0]: Invalid value: ["10.96.0.8"]: may not change once set
        "#]],
        );
        check_update("services", &with("10.96.0.9"), &with("10.96.0.9"), expect![[r#""#]]);
    }

    #[test]
    fn rows() {
        check_row(
            "services",
            "{metadata: {name: a}, spec: {type: NodePort, clusterIP: 10.96.0.9, selector: {a: b}, ports: [{port: 80, nodePort: 30080, protocol: TCP}, {port: 53, protocol: UDP}]}}",
            expect![
                "Name=a | Type=NodePort | Cluster-IP=10.96.0.9 | External-IP=<none> | Port(s)=80:30080/TCP,53/UDP | Age=<unknown> | Selector=a=b"
            ],
        );
        check_row(
            "services",
            "{metadata: {name: a}, spec: {type: LoadBalancer, clusterIP: None}}",
            expect![
                "Name=a | Type=LoadBalancer | Cluster-IP=None | External-IP=<pending> | Port(s)=<none> | Age=<unknown> | Selector=<none>"
            ],
        );
    }
}
