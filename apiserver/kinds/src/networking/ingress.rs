//! Ingress: HTTP from outside to Services, by host and path.

use serde_json::{Value, json};

use super::ingress_class;
use crate::field::{Field, FieldError, FieldPath};
use crate::kind::{self, Column, KindDef, Shape, Strategy, Subresource};
use crate::object::{get, list, text};
use crate::{addresses, names, rules};

/// How classes were named before there was a field for it.
const CLASS_ANNOTATION: &str = "kubernetes.io/ingress.class";

pub fn definition() -> KindDef {
    KindDef::builtin("networking.k8s.io", "v1", "Ingress", "ingresses", "io.k8s.api.networking.v1.Ingress")
        .short_names(&["ing"])
        .subresources(vec![Subresource::status()])
        .columns(columns())
        .strategy(Ingress)
}

struct Ingress;

impl Strategy for Ingress {
    fn shape(&self) -> Shape {
        Shape::SPEC_AND_STATUS
    }

    fn prepare_for_create(&self, ingress: &mut Value) {
        kind::prepare_for_create(self.shape(), ingress);
        if let Some(object) = ingress.as_object_mut() {
            object.insert("status".to_owned(), json!({"loadBalancer": {}}));
        }
    }

    fn validate(&self, ingress: &Value) -> Vec<FieldError> {
        let mut errors = validate(ingress);
        let root = Field::root(ingress);
        let (class, spec) = (get(ingress, &["metadata", "annotations", CLASS_ANNOTATION]), root.get("spec"));
        let named = spec.get("ingressClassName");
        if let (Some(class), true) = (class, named.is_set())
            && Some(class) != named.value()
        {
            let path = FieldPath::new("annotations");
            let detail = "must match `ingressClassName` when both are specified";
            errors.push(FieldError::invalid(&path.child(CLASS_ANNOTATION), class.clone(), detail));
        }
        errors
    }

    fn validate_update(&self, new: &Value, _old: &Value) -> Vec<FieldError> {
        validate(new)
    }

    fn validate_status_update(&self, new: &Value, old: &Value) -> Vec<FieldError> {
        let root = Field::root(new);
        let balancer = root.get("status");
        let balancer = balancer.get("loadBalancer");
        let before = ["status", "loadBalancer", "ingress"];
        let before: Vec<&str> = list(old, &before).iter().map(|point| text(point, &["ip"])).collect();
        let mut errors = Vec::new();
        for point in balancer.get("ingress").items() {
            let (ip, name) = (point.get("ip"), point.get("hostname"));
            if !ip.is_empty() {
                addresses::address(&ip, &before, &mut errors);
            }
            rules::maybe_form(&name, names::dns_subdomain, &mut errors);
            no_address(&name, &mut errors);
        }
        errors
    }

    fn warnings(&self, ingress: &Value) -> Vec<String> {
        let annotated = get(ingress, &["metadata", "annotations", CLASS_ANNOTATION]).is_some();
        if annotated && get(ingress, &["spec", "ingressClassName"]).is_none() {
            return vec![format!(
                "annotation {CLASS_ANNOTATION:?} is deprecated, please use 'spec.ingressClassName' instead"
            )];
        }
        Vec::new()
    }

    fn update_warnings(&self, _new: &Value, _old: &Value) -> Vec<String> {
        Vec::new()
    }
}

/// Rules of new and of changed Ingresses.
fn validate(ingress: &Value) -> Vec<FieldError> {
    let root = Field::root(ingress);
    let spec = root.get("spec");
    let mut errors = Vec::new();
    let (rules, backend) = (spec.get("rules"), spec.get("defaultBackend"));
    if backend.is_set() {
        self::backend(&backend, &mut errors);
    } else if rules.is_empty() {
        let shown = rules.value().cloned().unwrap_or_else(|| json!([]));
        errors.push(FieldError::invalid(&spec.path, shown, "either `defaultBackend` or `rules` must be specified"));
    }
    for rule in rules.items() {
        self::rule(&rule, &mut errors);
    }
    for tls in spec.get("tls").items() {
        for host in tls.get("hosts").items() {
            rules::form(&host, host_form(host.text()), &mut errors);
        }
        rules::maybe_form(&tls.get("secretName"), names::dns_subdomain, &mut errors);
    }
    let class = spec.get("ingressClassName");
    if class.is_set() {
        rules::form(&class, names::dns_subdomain, &mut errors);
    }
    errors
}

/// A host is named, and is not an address.
fn no_address(host: &Field, errors: &mut Vec<FieldError>) {
    if addresses::read(host.text()).0.is_some() {
        errors.push(host.invalid("must be a DNS name, not an IP address"));
    }
}

fn host_form(host: &str) -> fn(&str) -> Vec<String> {
    if host.contains('*') { names::wildcard_dns_subdomain } else { names::dns_subdomain }
}

fn rule(rule: &Field, errors: &mut Vec<FieldError>) {
    let host = rule.get("host");
    no_address(&host, errors);
    rules::maybe_form(&host, host_form(host.text()), errors);
    let http = rule.get("http");
    if !http.is_set() {
        return;
    }
    let paths = http.get("paths");
    if paths.is_empty() {
        errors.push(paths.required(""));
    }
    for path in paths.items() {
        let kind = path.get("pathType");
        if !kind.is_set() {
            errors.push(kind.required("pathType must be specified"));
            continue;
        }
        self::path(&path, errors);
        backend(&path.get("backend"), errors);
    }
}

fn path(entry: &Field, errors: &mut Vec<FieldError>) {
    let (path, kind) = (entry.get("path"), entry.get("pathType"));
    match kind.text() {
        "Exact" | "Prefix" => {
            if !path.text().starts_with('/') {
                errors.push(path.invalid("must be an absolute path"));
            }
            if !path.is_empty() {
                for sequence in ["//", "/./", "/../", "%2f", "%2F"] {
                    if path.text().contains(sequence) {
                        errors.push(path.invalid(format!("must not contain '{sequence}'")));
                    }
                }
                for suffix in ["/..", "/."] {
                    if path.text().ends_with(suffix) {
                        errors.push(path.invalid(format!("cannot end with '{suffix}'")));
                    }
                }
            }
        }
        "ImplementationSpecific" if !path.is_empty() && !path.text().starts_with('/') => {
            errors.push(path.invalid("must be an absolute path"));
        }
        "ImplementationSpecific" => {}
        _ => errors.push(kind.not_supported(&["Exact", "ImplementationSpecific", "Prefix"])),
    }
}

fn backend(backend: &Field, errors: &mut Vec<FieldError>) {
    let (service, resource) = (backend.get("service"), backend.get("resource"));
    match (service.is_set(), resource.is_set()) {
        (true, true) => {
            errors.push(FieldError::invalid(&backend.path, "", "cannot set both resource and service backends"));
        }
        (false, false) => {
            errors.push(FieldError::invalid(&backend.path, "", "resource or service backend is required"));
        }
        (false, true) => ingress_class::validate_reference(&resource, errors),
        (true, false) => {
            let (name, port) = (service.get("name"), service.get("port"));
            rules::name(&name, names::dns_label, errors);
            let (number, named) = (port.get("number"), port.get("name"));
            match (number.int().unwrap_or_default() != 0, !named.is_empty()) {
                (true, true) => {
                    errors.push(FieldError::invalid(&backend.path, "", "cannot set both port name & port number"));
                }
                (false, false) => errors.push(backend.required("port name or number is required")),
                (true, false) => rules::port(&number, errors),
                (false, true) => rules::form(&named, names::port_name, errors),
            }
        }
    }
}

fn columns() -> Vec<Column> {
    vec![
        Column::name(),
        Column::text("Class", |ingress, _| class(ingress).into())
            .describe("The name of the IngressClass resource that should be used for additional configuration"),
        Column::text("Hosts", |ingress, _| hosts(ingress).into())
            .describe("Hosts that incoming requests are matched against before the ingress rule"),
        Column::text("Address", |ingress, _| addresses(ingress).into())
            .describe("Address is a list containing ingress points for the load-balancer"),
        Column::text("Ports", |ingress, _| {
            if list(ingress, &["spec", "tls"]).is_empty() { "80" } else { "80, 443" }.into()
        })
        .describe("Ports of TLS configurations that open"),
        Column::age(),
    ]
}

fn class(ingress: &Value) -> &str {
    let annotated = text(ingress, &["metadata", "annotations", CLASS_ANNOTATION]);
    match (text(ingress, &["spec", "ingressClassName"]), annotated) {
        ("", "") => "<none>",
        ("", class) | (class, _) => class,
    }
}

fn hosts(ingress: &Value) -> String {
    const MAX_SHOWN: usize = 3;
    let hosts: Vec<&str> =
        list(ingress, &["spec", "rules"]).iter().map(|r| text(r, &["host"])).filter(|h| !h.is_empty()).collect();
    match hosts.len() {
        0 => "*".to_owned(),
        n if n > MAX_SHOWN => format!("{} + {} more...", hosts[..MAX_SHOWN].join(","), n - MAX_SHOWN),
        _ => hosts.join(","),
    }
}

fn addresses(ingress: &Value) -> String {
    let points = list(ingress, &["status", "loadBalancer", "ingress"]).iter();
    let addresses = points.map(|p| match text(p, &["ip"]) {
        "" => text(p, &["hostname"]),
        ip => ip,
    });
    addresses.filter(|a| !a.is_empty()).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;
    use crate::testing::{check, check_row, check_update, yaml};

    #[test]
    fn rules() {
        check(
            "ingresses",
            r#"
            metadata: {name: a, namespace: b}
            spec:
              rules:
              - host: 1.2.3.4
                http:
                  paths:
                  - {path: x, pathType: Prefix, backend: {service: {name: s, port: {number: 80}}}}
                  - {path: /a//b, pathType: Exact, backend: {service: {name: s}}}
                  - {path: /, backend: {}}
            "#,
            expect![[r#"
                spec.rules[0].host: Invalid value: "1.2.3.4": must be a DNS name, not an IP address
                spec.rules[0].http.paths[0].path: Invalid value: "x": must be an absolute path
                spec.rules[0].http.paths[1].path: Invalid value: "/a//b": must not contain '//'
                spec.rules[0].http.paths[1].backend: Required value: port name or number is required
                spec.rules[0].http.paths[2].pathType: Required value: pathType must be specified
            "#]],
        );
        check(
            "ingresses",
            "{metadata: {name: a, namespace: b}, spec: {}}",
            expect![[r#"
                spec: Invalid value: []: either `defaultBackend` or `rules` must be specified
            "#]],
        );
    }

    #[test]
    fn backends() {
        let with =
            |backend: &str| format!("{{metadata: {{name: a, namespace: b}}, spec: {{defaultBackend: {backend}}}}}");
        for (backend, expected) in [
            ("{}", "spec.defaultBackend: Invalid value: \"\": resource or service backend is required"),
            (
                "{service: {name: 1s, port: {number: 80, name: http}}}",
                "spec.defaultBackend: Invalid value: \"\": cannot set both port name & port number",
            ),
            ("{service: {name: 1s, port: {number: 80}}}", ""),
            (
                "{service: {name: s, port: {number: 80}}, resource: {kind: K, name: n}}",
                "spec.defaultBackend: Invalid value: \"\": cannot set both resource and service backends",
            ),
            (
                "{resource: {kind: 'a/b'}}",
                "spec.defaultBackend.resource.kind: Invalid value: \"a/b\": may not contain '/'\n\
                 spec.defaultBackend.resource.name: Required value: name is required",
            ),
        ] {
            let told: Vec<String> = validate(&yaml(&with(backend))).iter().map(ToString::to_string).collect();
            assert_eq!(told.join("\n"), expected, "{backend}");
        }
    }

    #[test]
    fn a_class_is_named_once_or_twice_the_same() {
        let both = "{metadata: {name: a, namespace: b, resourceVersion: '1', annotations: {kubernetes.io/ingress.class: x}}, \
                    spec: {ingressClassName: z, defaultBackend: {service: {name: s, port: {number: 80}}}}}";
        check(
            "ingresses",
            both,
            expect![[r#"
                annotations.kubernetes.io/ingress.class: Invalid value: "x": must match `ingressClassName` when both are specified
            "#]],
        );
        check("ingresses", &both.replace("Name: z", "Name: x"), expect![""]);
        check_update("ingresses", both, both, expect![""]);
        let old = yaml(&both.replace("ingressClassName: z, ", ""));
        let warning =
            r#"annotation "kubernetes.io/ingress.class" is deprecated, please use 'spec.ingressClassName' instead"#;
        assert_eq!(Ingress.warnings(&old), [warning]);
        assert_eq!(Ingress.warnings(&yaml(both)), [""; 0]);
        assert_eq!(Ingress.update_warnings(&old, &old), [""; 0]);
    }

    #[test]
    fn addresses_in_a_status_are_spelled_well() {
        let status = |points: &str| yaml(&format!("{{status: {{loadBalancer: {{ingress: [{points}]}}}}}}"));
        let new = status("{ip: 010.0.0.1}, {ip: 010.0.0.2}, {ip: x}, {hostname: 10.0.0.1}, {hostname: A}");
        let errors = Ingress.validate_status_update(&new, &status("{ip: 010.0.0.1}"));
        let told: Vec<String> = errors.iter().map(ToString::to_string).collect();
        expect![[r#"
            status.loadBalancer.ingress[1].ip: Invalid value: "010.0.0.2": must not have leading 0s
            status.loadBalancer.ingress[2].ip: Invalid value: "x": must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)
            status.loadBalancer.ingress[3].hostname: Invalid value: "10.0.0.1": must be a DNS name, not an IP address
            status.loadBalancer.ingress[4].hostname: Invalid value: "A": a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')"#]]
        .assert_eq(&told.join("\n"));
    }

    #[test]
    fn row() {
        check_row(
            "ingresses",
            "{metadata: {name: a}, spec: {ingressClassName: k8w, tls: [{}], rules: [{host: a.b}, {host: b}, {host: c}, {host: d}]}, status: {loadBalancer: {ingress: [{ip: 1.2.3.4}, {hostname: h}]}}}",
            expect![
                "Name=a | Class=k8w | Hosts=a.b,b,c + 1 more... | Address=1.2.3.4,h | Ports=80, 443 | Age=<unknown>"
            ],
        );
    }
}
