//! Ingress: HTTP from outside to Services, by host and path.

use std::net::IpAddr;

use serde_json::{Value, json};

use crate::field::{Field, FieldError};
use crate::kind::{self, Column, KindDef, Shape, Strategy, Subresource};
use crate::object::{list, text};
use crate::{names, rules};

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
        rules::maybe_form(&spec.get("ingressClassName"), names::dns_subdomain, &mut errors);
        errors
    }

    fn allow_create_on_update(&self) -> bool {
        true
    }
}

fn host_form(host: &str) -> fn(&str) -> Vec<String> {
    if host.contains('*') { names::wildcard_dns_subdomain } else { names::dns_subdomain }
}

fn rule(rule: &Field, errors: &mut Vec<FieldError>) {
    let host = rule.get("host");
    if !host.is_empty() {
        if host.text().parse::<IpAddr>().is_ok() {
            errors.push(host.invalid("must be a DNS name, not an IP address"));
        } else {
            rules::form(&host, host_form(host.text()), errors);
        }
    }
    let http = rule.get("http");
    if !http.is_set() {
        return;
    }
    let paths = http.get("paths");
    if paths.is_empty() {
        errors.push(paths.required(""));
    }
    for path in paths.items() {
        self::path(&path, errors);
        backend(&path.get("backend"), errors);
    }
}

fn path(entry: &Field, errors: &mut Vec<FieldError>) {
    let (path, kind) = (entry.get("path"), entry.get("pathType"));
    match kind.text() {
        "" => errors.push(kind.required("pathType must be specified")),
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
        (false, false) => errors.push(FieldError::required(&backend.path, "port name or number is required")),
        (false, true) => {
            rules::required(&resource.get("kind"), errors);
            rules::required(&resource.get("name"), errors);
        }
        (true, false) => {
            let (name, port) = (service.get("name"), service.get("port"));
            if rules::required(&name, errors) {
                rules::form(&name, names::dns1035_label, errors);
            }
            let (number, named) = (port.get("number"), port.get("name"));
            match (number.int().unwrap_or_default() != 0, !named.is_empty()) {
                (true, true) => {
                    errors.push(FieldError::invalid(&service.path, "", "cannot set both port name & port number"));
                }
                (false, false) => errors.push(service.required("port name or number is required")),
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
    let annotated = text(ingress, &["metadata", "annotations", "kubernetes.io/ingress.class"]);
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

    use crate::testing::{check, check_row};

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
                spec.rules[0].http.paths[1].backend.service: Required value: port name or number is required
                spec.rules[0].http.paths[2].pathType: Required value: pathType must be specified
                spec.rules[0].http.paths[2].backend: Required value: port name or number is required
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
