//! EndpointSlice: a part of the addresses behind a Service.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::field::{Field, FieldError};
use crate::kind::{self, Column, KindDef, Shape, Strategy};
use crate::object::{self, get, list};
use crate::{addresses, names, rules};

/// Bounds of one slice; more endpoints make more slices.
const MAX_ENDPOINTS: usize = 1000;
const MAX_PORTS: usize = 20_000;
const MAX_ADDRESSES: usize = 100;
/// Zones, and nodes, that one endpoint is best used from.
const MAX_HINTS: usize = 8;
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

    fn prepare_for_create(&self, slice: &mut Value) {
        kind::prepare_for_create(self.shape(), slice);
        drop_topology(slice);
    }

    /// A change of labels counts, too: they say whose the endpoints are.
    fn prepare_for_update(&self, new: &mut Value, old: &Value) {
        drop_topology(new);
        kind::prepare_for_update(self.shape(), new, old);
        let labels = ["metadata", "labels"];
        let changed = !object::same(get(new, &labels), get(old, &labels));
        let generation = object::int(old, &["metadata", "generation"]);
        if let (true, Some(metadata)) = (changed, object::ensure(new, &["metadata"])) {
            metadata.insert("generation".to_owned(), (generation + 1).into());
        }
    }

    fn validate(&self, slice: &Value) -> Vec<FieldError> {
        validate(slice, None)
    }

    fn validate_update(&self, new: &Value, old: &Value) -> Vec<FieldError> {
        let mut errors = validate(new, Some(old));
        rules::immutable(&Field::root(new).get("addressType"), &Field::root(old).get("addressType"), &mut errors);
        errors
    }

    fn warnings(&self, slice: &Value) -> Vec<String> {
        let mut warnings = Vec::new();
        if object::text(slice, &["addressType"]) == "FQDN" {
            warnings.push("spec.addressType: FQDN endpoints are deprecated".to_owned());
        }
        warnings.extend(address_warnings(slice));
        warnings
    }

    fn update_warnings(&self, new: &Value, _old: &Value) -> Vec<String> {
        address_warnings(new)
    }
}

/// What only versions before this one could write.
fn drop_topology(slice: &mut Value) {
    object::list_mut(slice, &["endpoints"])
        .iter_mut()
        .for_each(|endpoint| object::remove(endpoint, "deprecatedTopology"));
}

/// Who makes slices of what others have written, and spells it well.
const CONTROLLERS: [&str; 2] = ["endpointslice-controller.k8s.io", "endpointslicemirroring-controller.k8s.io"];

fn address_warnings(slice: &Value) -> Vec<String> {
    let manager = object::text(slice, &["metadata", "labels", "endpointslice.kubernetes.io/managed-by"]);
    let root = Field::root(slice);
    let mut warnings = Vec::new();
    if !CONTROLLERS.contains(&manager) {
        for endpoint in root.get("endpoints").items() {
            endpoint.get("addresses").items().for_each(|address| warnings.extend(addresses::warning(&address)));
        }
    }
    warnings
}

/// Rules of new and of changed slices.
fn validate(slice: &Value, old: Option<&Value>) -> Vec<FieldError> {
    let root = Field::root(slice);
    let mut errors = Vec::new();
    let type_ = root.get("addressType");
    rules::one_of(&type_, &["FQDN", "IPv4", "IPv6"], &mut errors);
    let before = old.map(|old| list(old, &["endpoints"])).unwrap_or_default();
    let before: Vec<&str> =
        before.iter().flat_map(|endpoint| list(endpoint, &["addresses"])).filter_map(Value::as_str).collect();
    let endpoints = root.get("endpoints");
    if endpoints.len() > MAX_ENDPOINTS {
        errors.push(FieldError::too_many(&endpoints.path, endpoints.len(), MAX_ENDPOINTS));
    } else {
        for endpoint in endpoints.items() {
            self::endpoint(&endpoint, type_.text(), &before, &mut errors);
        }
    }
    port_rules(&root.get("ports"), &mut errors);
    errors
}

fn endpoint(endpoint: &Field, type_: &str, before: &[&str], errors: &mut Vec<FieldError>) {
    let addresses = endpoint.get("addresses");
    if addresses.is_empty() {
        errors.push(addresses.required("must contain at least 1 address"));
    }
    if addresses.len() > MAX_ADDRESSES {
        errors.push(FieldError::too_many(&addresses.path, addresses.len(), MAX_ADDRESSES));
    }
    for address in addresses.items() {
        match type_ {
            "FQDN" => domain_name(&address, errors),
            "IPv4" | "IPv6" => match addresses::read(address.text()).0 {
                // An address of IPv4 is one, however it is spelled.
                Some(ip) if ip.to_canonical().is_ipv4() == (type_ == "IPv4") => {
                    addresses::address(&address, before, errors);
                    rules::not_special(&address, ip.to_canonical(), errors);
                }
                _ => errors.push(address.invalid(format!("must be a valid {type_} address"))),
            },
            _ => {}
        }
    }
    for (name, form) in [("nodeName", names::dns_subdomain as fn(&str) -> Vec<String>), ("hostname", names::dns_label)]
    {
        let field = endpoint.get(name);
        if field.is_set() {
            rules::form(&field, form, errors);
        }
    }
    let hints = endpoint.get("hints");
    hint_names(&hints.get("forZones"), names::label_value, errors);
    hint_names(&hints.get("forNodes"), names::dns_subdomain, errors);
}

/// Zones or nodes that an endpoint is best used from, each once.
fn hint_names(hints: &Field, form: fn(&str) -> Vec<String>, errors: &mut Vec<FieldError>) {
    if hints.len() > MAX_HINTS {
        errors.push(FieldError::too_many(&hints.path, hints.len(), MAX_HINTS));
        return;
    }
    let mut seen = BTreeSet::new();
    for hint in hints.items() {
        let name = hint.get("name");
        if !seen.insert(name.text()) {
            errors.push(name.duplicate());
        }
        rules::form(&name, form, errors);
    }
}

/// A domain name of two labels or more, which may end in a dot.
fn domain_name(name: &Field, errors: &mut Vec<FieldError>) {
    if !rules::required(name, errors) {
        return;
    }
    let text = name.text().strip_suffix('.').unwrap_or(name.text());
    let mut wrong = |part: &str, all: Vec<String>| {
        if !all.is_empty() {
            errors.push(FieldError::invalid(&name.path, part, all.join(",")));
        }
    };
    wrong(text, names::dns_subdomain(text));
    if !text.contains('.') {
        wrong(text, vec!["should be a domain with at least two segments separated by dots".to_owned()]);
    }
    text.split('.').for_each(|label| wrong(label, names::dns_label(label)));
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
        rules::one_of(&port.get("protocol"), &["SCTP", "TCP", "UDP"], errors);
        rules::maybe_form(&port.get("appProtocol"), names::qualified_name, errors);
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;
    use crate::testing::{check, check_default, check_row, check_update, yaml};

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
                endpoints[1].addresses[0]: Invalid value: "::1": must be a valid IPv4 address
                endpoints[1].addresses[1]: Invalid value: "127.0.0.1": may not be in the loopback range (127.0.0.0/8, ::1/128)
                endpoints[1].addresses[2]: Invalid value: "x": must be a valid IPv4 address
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
    fn rules_of_names() {
        let zones: Vec<String> = (0..9).map(|zone| format!("{{name: z{zone}}}")).collect();
        let slice = format!(
            "{{metadata: {{name: a, namespace: b}}, addressType: FQDN, endpoints: [{{addresses: [a.b., a, 'a_b.c', ''], hostname: '', \
             nodeName: Node, hints: {{forZones: [{{name: z}}, {{name: z}}, {{name: '-'}}], forNodes: [{{name: Node}}]}}}}, \
             {{addresses: [a.b], hints: {{forZones: [{}]}}}}]}}",
            zones.join(", ")
        );
        check(
            "endpointslices",
            &slice,
            expect![[r#"
                endpoints[0].addresses[1]: Invalid value: "a": should be a domain with at least two segments separated by dots
                endpoints[0].addresses[2]: Invalid value: "a_b.c": a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')
                endpoints[0].addresses[2]: Invalid value: "a_b": a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')
                endpoints[0].addresses[3]: Required value
                endpoints[0].nodeName: Invalid value: "Node": a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')
                endpoints[0].hostname: Invalid value: "": a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')
                endpoints[0].hints.forZones[1].name: Duplicate value: "z"
                endpoints[0].hints.forZones[2].name: Invalid value: "-": a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')
                endpoints[0].hints.forNodes[0].name: Invalid value: "Node": a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')
                endpoints[1].hints.forZones: Too many: 9: must have at most 8 items
            "#]],
        );
        let name = yaml("{addressType: FQDN}");
        assert_eq!(EndpointSlice.warnings(&name), ["spec.addressType: FQDN endpoints are deprecated"]);
        assert_eq!(EndpointSlice.update_warnings(&name, &name), [""; 0]);
    }

    #[test]
    fn addresses_are_spelled_well() {
        let with = |address: &str, labels: &str| {
            format!(
                "{{metadata: {{name: a, namespace: b, resourceVersion: '1', labels: {{{labels}}}}}, addressType: IPv4, \
                 endpoints: [{{addresses: ['{address}']}}]}}"
            )
        };
        let mapped = with("::ffff:10.0.0.1", "");
        check(
            "endpointslices",
            &mapped,
            expect![[r#"
                endpoints[0].addresses[0]: Invalid value: "::ffff:10.0.0.1": must not be an IPv4-mapped IPv6 address
            "#]],
        );
        check_update("endpointslices", &mapped, &mapped, expect![""]);
        let shouted = yaml(&with("2001:DB8::1", ""));
        let warning = r#"endpoints[0].addresses[0]: IPv6 address "2001:DB8::1" should be in RFC 5952 canonical format ("2001:db8::1")"#;
        assert_eq!(EndpointSlice.update_warnings(&shouted, &shouted), [warning]);
        let managed = "endpointslice.kubernetes.io/managed-by: endpointslice-controller.k8s.io";
        assert_eq!(EndpointSlice.warnings(&yaml(&with("2001:DB8::1", managed))), [""; 0]);
    }

    #[test]
    fn generations_count_labels() {
        let old = yaml("{metadata: {generation: 2, labels: {a: b}}, endpoints: [{addresses: [a]}]}");
        let mut new = yaml("{metadata: {labels: {a: b}}, endpoints: [{addresses: [a], deprecatedTopology: {x: y}}]}");
        EndpointSlice.prepare_for_update(&mut new, &old);
        assert_eq!(new, old);
        new["metadata"]["labels"]["a"] = "c".into();
        EndpointSlice.prepare_for_update(&mut new, &old);
        assert_eq!(new["metadata"]["generation"], 3);
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
