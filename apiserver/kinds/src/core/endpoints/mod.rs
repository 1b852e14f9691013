//! Endpoints: the addresses behind a Service, as clients of before EndpointSlices read them.

mod repack;

use std::net::IpAddr;

pub use repack::repack;
use serde_json::Value;

use crate::field::{Field, FieldError};
use crate::kind::{Column, KindDef, Strategy};
use crate::object::{self, int, list, text};
use crate::{names, rules};

pub fn definition() -> KindDef {
    KindDef::builtin("", "v1", "Endpoints", "endpoints", "io.k8s.api.core.v1.Endpoints")
        .short_names(&["ep"])
        .deprecated("v1 Endpoints is deprecated in v1.33+; use discovery.k8s.io/v1 EndpointSlice")
        .columns(vec![Column::name(), Column::text("Endpoints", |endpoints, _| shown(endpoints).into()), Column::age()])
        .strategy(Endpoints)
}

fn shown(endpoints: &Value) -> String {
    const MAX_SHOWN: usize = 3;
    let subsets = list(endpoints, &["subsets"]);
    if subsets.is_empty() {
        return "<none>".to_owned();
    }
    let mut all = Vec::new();
    for subset in subsets {
        let addresses = list(subset, &["addresses"]).iter().map(|a| text(a, &["ip"]));
        let ports = list(subset, &["ports"]);
        if ports.is_empty() {
            all.extend(addresses.map(str::to_owned));
            continue;
        }
        for port in ports {
            let addresses = list(subset, &["addresses"]).iter().map(|a| text(a, &["ip"]));
            all.extend(addresses.map(|ip| joined(ip, int(port, &["port"]))));
        }
    }
    match all.len() {
        n if n > MAX_SHOWN => format!("{} + {} more...", all[..MAX_SHOWN].join(","), n - MAX_SHOWN),
        _ => all.join(","),
    }
}

fn joined(ip: &str, port: i64) -> String {
    if ip.contains(':') { format!("[{ip}]:{port}") } else { format!("{ip}:{port}") }
}

struct Endpoints;

impl Strategy for Endpoints {
    fn default(&self, endpoints: &mut Value) {
        for subset in object::list_mut(endpoints, &["subsets"]) {
            for port in object::list_mut(subset, &["ports"]).iter_mut().filter_map(Value::as_object_mut) {
                object::set_default_text(port, "protocol", "TCP");
            }
        }
    }

    fn validate(&self, endpoints: &Value) -> Vec<FieldError> {
        let mut errors = Vec::new();
        for subset in Field::root(endpoints).get("subsets").items() {
            self::subset(&subset, &mut errors);
        }
        errors
    }

    /// What is stored may stay in a form that is no longer taken.
    fn validate_update(&self, new: &Value, old: &Value) -> Vec<FieldError> {
        let is_same = object::same(new.get("subsets"), old.get("subsets"));
        if is_same { Vec::new() } else { self.validate(new) }
    }

    fn canonicalize(&self, endpoints: &mut Value) {
        let subsets = repack(list(endpoints, &["subsets"]));
        let Some(endpoints) = endpoints.as_object_mut() else { return };
        match subsets.is_empty() {
            true => endpoints.remove("subsets"),
            false => endpoints.insert("subsets".to_owned(), subsets.into()),
        };
    }

    /// Endpoints are read by those who take addresses for what they look like.
    fn warnings(&self, endpoints: &Value) -> Vec<String> {
        let mut warnings = Vec::new();
        for subset in Field::root(endpoints).get("subsets").items() {
            for list in ["addresses", "notReadyAddresses"] {
                let list = subset.get(list);
                warnings.extend(list.items().filter_map(|address| rules::ip_warning(&address.get("ip"))));
            }
        }
        warnings
    }

    fn allow_create_on_update(&self) -> bool {
        true
    }
}

fn subset(subset: &Field, errors: &mut Vec<FieldError>) {
    let (ready, waiting, ports) = (subset.get("addresses"), subset.get("notReadyAddresses"), subset.get("ports"));
    if ready.is_empty() && waiting.is_empty() {
        errors.push(subset.required("must specify `addresses` or `notReadyAddresses`"));
    }
    for address in ready.items().chain(waiting.items()) {
        let (ip, node) = (address.get("ip"), address.get("nodeName"));
        rules::ip(&ip, errors);
        rules::maybe_form(&address.get("hostname"), names::dns_label, errors);
        if node.is_set() {
            rules::form(&node, names::dns_subdomain, errors);
        }
        // Kubernetes says it twice.
        match ip.text().parse::<IpAddr>() {
            Ok(parsed) => rules::not_special(&ip, parsed, errors),
            Err(_) if rules::ip_warning(&ip).is_none() => errors.push(ip.invalid("must be a valid IP address")),
            Err(_) => {}
        }
    }
    let several = ports.len() > 1;
    for port in ports.items() {
        let name = port.get("name");
        if several {
            rules::name(&name, names::dns_label, errors);
        } else {
            rules::maybe_form(&name, names::dns_label, errors);
        }
        rules::port(&port.get("port"), errors);
        rules::one_of(&port.get("protocol"), &["SCTP", "TCP", "UDP"], errors);
        let protocol = port.get("appProtocol");
        if protocol.is_set() {
            rules::form(&protocol, names::qualified_name, errors);
        }
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use crate::testing::{check, check_row, updated};

    #[test]
    fn rules() {
        check(
            "endpoints",
            "{metadata: {name: a, namespace: b}, subsets: [{}, {addresses: [{ip: x, nodeName: ''}, {ip: 127.0.0.1}], ports: [{port: 0}, {port: 1, name: b}]}]}",
            expect![[r#"
                subsets[0]: Required value: must specify `addresses` or `notReadyAddresses`
                subsets[1].addresses[0].ip: Invalid value: "x": must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)
                subsets[1].addresses[0].nodeName: Invalid value: "": a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')
                subsets[1].addresses[0].ip: Invalid value: "x": must be a valid IP address
                subsets[1].addresses[1].ip: Invalid value: "127.0.0.1": may not be in the loopback range (127.0.0.0/8, ::1/128)
                subsets[1].ports[0].name: Required value
                subsets[1].ports[0].port: Invalid value: 0: must be between 1 and 65535, inclusive
            "#]],
        );
        let odd = "{metadata: {name: a, namespace: b}, subsets: [{addresses: [{ip: 010.0.0.1}]}]}";
        assert_eq!(updated("endpoints", odd, odd), "");
        expect![[r#"
            subsets[0].addresses[0].ip: Invalid value: "010.0.0.1": must not have leading 0s
        "#]]
        .assert_eq(&updated("endpoints", "{metadata: {name: a, namespace: b}}", odd));
        check_row(
            "endpoints",
            "{metadata: {name: a}, subsets: [{addresses: [{ip: 1.2.3.4}, {ip: '::1'}], ports: [{port: 80}, {port: 81}]}]}",
            expect!["Name=a | Endpoints=1.2.3.4:80,[::1]:80,1.2.3.4:81 + 1 more... | Age=<unknown>"],
        );
    }
}
