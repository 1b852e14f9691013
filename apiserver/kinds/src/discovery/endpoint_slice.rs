//! EndpointSlice: a part of the addresses behind a Service.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::field::{Field, FieldError};
use crate::kind::{Column, KindDef, Shape, Strategy};
use crate::object::{self, get, list};
use crate::{names, rules};

/// Bounds of one slice; more endpoints make more slices.
const MAX_ENDPOINTS: usize = 1000;
const MAX_PORTS: usize = 20_000;
const MAX_ADDRESSES: usize = 100;
/// Items that a cell shows before it says how many are left.
const MAX_SHOWN: usize = 3;

pub fn definition() -> KindDef {
    let schema = "io.k8s.api.discovery.v1.EndpointSlice";
    KindDef::builtin("discovery.k8s.io", "v1", "EndpointSlice", "endpointslices", schema)
        .columns(vec![
            Column::name(),
            Column::at("AddressType", "string", "addressType")
                .describe("addressType specifies the type of address carried by this EndpointSlice."),
            Column::text("Ports", |slice, _| ports(slice).into())
                .describe("ports specifies the list of network ports exposed by each endpoint in this slice."),
            Column::text("Endpoints", |slice, _| endpoints(slice).into())
                .describe("endpoints is a list of unique endpoints in this slice."),
            Column::age(),
        ])
        .strategy(EndpointSlice)
}

fn ports(slice: &Value) -> String {
    let shown = list(slice, &["ports"]).iter().map(|port| match (get(port, &["port"]), get(port, &["name"])) {
        (Some(number), _) => number.to_string(),
        (None, Some(Value::String(name))) => name.clone(),
        _ => "*".to_owned(),
    });
    shorten(shown)
}

fn endpoints(slice: &Value) -> String {
    let addresses = list(slice, &["endpoints"]).iter().flat_map(|e| list(e, &["addresses"]));
    shorten(addresses.filter_map(Value::as_str).map(str::to_owned))
}

fn shorten(items: impl Iterator<Item = String>) -> String {
    let items: Vec<String> = items.collect();
    match items.len() {
        0 => "<unset>".to_owned(),
        n if n > MAX_SHOWN => format!("{} + {} more...", items[..MAX_SHOWN].join(","), n - MAX_SHOWN),
        _ => items.join(","),
    }
}

struct EndpointSlice;

impl Strategy for EndpointSlice {
    fn shape(&self) -> Shape {
        Shape::SPEC
    }

    fn default(&self, slice: &mut Value) {
        for port in object::list_mut(slice, &["ports"]).iter_mut().filter_map(Value::as_object_mut) {
            object::set_default(port, "name", "");
            object::set_default(port, "protocol", "TCP");
        }
    }

    fn validate(&self, slice: &Value) -> Vec<FieldError> {
        let root = Field::root(slice);
        let mut errors = Vec::new();
        let type_ = root.get("addressType");
        rules::one_of(&type_, &["FQDN", "IPv4", "IPv6"], &mut errors);
        let endpoints = root.get("endpoints");
        if endpoints.len() > MAX_ENDPOINTS {
            errors.push(FieldError::too_many(&endpoints.path, endpoints.len(), MAX_ENDPOINTS));
        }
        for endpoint in endpoints.items() {
            self::endpoint(&endpoint, type_.text(), &mut errors);
        }
        port_rules(&root.get("ports"), &mut errors);
        errors
    }

    fn validate_update(&self, new: &Value, old: &Value) -> Vec<FieldError> {
        let mut errors = self.validate(new);
        rules::immutable(&Field::root(new).get("addressType"), &Field::root(old).get("addressType"), &mut errors);
        errors
    }
}

fn endpoint(endpoint: &Field, type_: &str, errors: &mut Vec<FieldError>) {
    let addresses = endpoint.get("addresses");
    if addresses.is_empty() {
        errors.push(addresses.required("must contain at least 1 address"));
    }
    if addresses.len() > MAX_ADDRESSES {
        errors.push(FieldError::too_many(&addresses.path, addresses.len(), MAX_ADDRESSES));
    }
    for address in addresses.items() {
        match type_ {
            "FQDN" => rules::form(&address, names::dns_subdomain, errors),
            "IPv4" | "IPv6" => match address.text().parse::<std::net::IpAddr>() {
                Ok(ip) if ip.is_ipv4() == (type_ == "IPv4") => rules::not_special(&address, ip, errors),
                _ => {
                    let example = if type_ == "IPv4" { "10.9.8.7" } else { "2001:db8::1" };
                    errors.push(address.invalid(format!("must be a valid {type_} address, (e.g. {example})")));
                }
            },
            _ => {}
        }
    }
    rules::maybe_form(&endpoint.get("hostname"), names::dns_label, errors);
    rules::maybe_form(&endpoint.get("nodeName"), names::dns_subdomain, errors);
    let topology = endpoint.get("deprecatedTopology");
    crate::metadata::labels(&topology, errors);
    let hints = endpoint.get("hints");
    let mut zones = BTreeSet::new();
    for zone in hints.get("forZones").items() {
        let name = zone.get("name");
        if rules::required(&name, errors) && !zones.insert(name.text()) {
            errors.push(name.duplicate());
        }
    }
}

fn port_rules(ports: &Field, errors: &mut Vec<FieldError>) {
    if ports.len() > MAX_PORTS {
        errors.push(FieldError::too_many(&ports.path, ports.len(), MAX_PORTS));
        return;
    }
    let mut names = BTreeSet::new();
    for port in ports.items() {
        let name = port.get("name");
        rules::maybe_form(&name, names::dns_label, errors);
        if !names.insert(name.text()) {
            errors.push(name.duplicate());
        }
        if port.get("port").is_set() {
            rules::port(&port.get("port"), errors);
        }
        rules::one_of(&port.get("protocol"), &["SCTP", "TCP", "UDP"], errors);
        rules::maybe_form(&port.get("appProtocol"), names::qualified_name, errors);
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use crate::testing::{check, check_default, check_row};

    #[test]
    fn ports_have_names() {
        check_default(
            "endpointslices",
            "{addressType: IPv4, ports: [{port: 80}]}",
            expect![[r#"
            addressType: IPv4
            metadata: {}
            ports:
            - name: ""
              port: 80
              protocol: TCP
        "#]],
        );
    }

    #[test]
    fn rules() {
        check(
            "endpointslices",
            "{metadata: {name: a, namespace: b}, addressType: IPv4, endpoints: [{addresses: []}, {addresses: ['::1', 127.0.0.1, x]}], ports: [{port: 0}, {}]}",
            expect![[r#"
                endpoints[0].addresses: Required value: must contain at least 1 address
                endpoints[1].addresses[0]: Invalid value: "::1": must be a valid IPv4 address, (e.g. 10.9.8.7)
                endpoints[1].addresses[1]: Invalid value: "127.0.0.1": may not be in the loopback range (127.0.0.0/8, ::1/128)
                endpoints[1].addresses[2]: Invalid value: "x": must be a valid IPv4 address, (e.g. 10.9.8.7)
                ports[0].port: Invalid value: 0: must be between 1 and 65535, inclusive
                ports[1].name: Duplicate value: ""
            "#]],
        );
        check(
            "endpointslices",
            "{metadata: {name: a, namespace: b}}",
            expect![[r#"
            addressType: Required value
        "#]],
        );
    }

    #[test]
    fn row() {
        check_row(
            "endpointslices",
            "{metadata: {name: a}, addressType: IPv4, ports: [{port: 80}], endpoints: [{addresses: [a]}, {addresses: [b]}, {addresses: [c]}, {addresses: [d]}]}",
            expect!["Name=a | AddressType=IPv4 | Ports=80 | Endpoints=a,b,c + 1 more... | Age=<unknown>"],
        );
        check_row(
            "endpointslices",
            "{metadata: {name: a}, addressType: IPv4}",
            expect!["Name=a | AddressType=IPv4 | Ports=<unset> | Endpoints=<unset> | Age=<unknown>"],
        );
    }
}
